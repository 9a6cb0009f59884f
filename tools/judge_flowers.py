"""Judge samples of the shipped flowers: python tools/judge_flowers.py PHOTOS SAMPLES.npz [GUIDED.npz ...]

SAMPLES.npz holds `pixels`, (N, 3, 64, 64) bytes. Each file is compared, by lesson 11's KID-Lite0, with the 430 photos that were held out of
training (tools/flowers.py); the floor is what as many training photos get. A second table says how near samples come to a training photo,
beside how near unseen photos come: a memorised photo would be at a distance far below theirs. Both go to benchmarks/flowers.csv.
"""
import sys
from pathlib import Path

import numpy as np
import torch

from ddpm_lesson.data import Images, load_images, to_unit
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference

sys.path.insert(0, str(Path(__file__).parent))
from flowers import divided, small

TABLE = Path(__file__).resolve().parents[1]/'benchmarks'/'flowers.csv'


def distances(pixels, photos):
    "Of each image to the nearest photo or its mirror image, per pixel and channel, in units of [-1, 1]."
    learned = to_unit(torch.cat([photos, photos.flip(3)])).flatten(1)
    return torch.cdist(to_unit(pixels).flatten(1), learned).min(1).values/learned.shape[1]**0.5


def main(folder, *files):
    photos = load_images(folder, 128)
    held, kept = divided(photos)
    pixels, rows = small(photos.pixels), []
    unseen, learned = (Images(pixels[i], photos.labels[i], photos.classes, name) for i, name in ((held, 'held out'), (kept, 'learned from')))
    ref = reference(unseen, lite0_judge(), learned)
    for name, x in [('unseen photos', unseen.pixels)] + [(Path(f).stem, torch.from_numpy(np.load(f, allow_pickle=False)['pixels'])) for f in files]:
        near = distances(x, learned.pixels)
        row = dict(who=name, N=len(x), nearest_median=near.median().item(), nearest_smallest=near.min().item(), nearest_5_percent=near.quantile(0.05).item())
        if name != 'unseen photos':
            r = evaluate_samples(x, ref)
            row |= {k: r[k] for k in ('KID', 'KID interval', 'floor KID', 'floor interval')} | dict(real_N=r['real N'], judge=r['judge'])
        rows.append(row)
        print(row, flush=True)
    write_table(rows, TABLE)


if __name__ == '__main__': main(*sys.argv[1:])
