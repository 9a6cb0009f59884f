"""Fine-tuning on 200 pictures of one's own: the shipped garments learn to draw houses, beside a network that begins from nothing.

    python -m benchmarks.fine_tune --pictures houses        # 200 small pictures, drawn by this script
    python -m benchmarks.fine_tune --out benchmarks/fine_tune.csv --sheet images/fine_tune.png

Every row is one training on the same 200 houses, of the laptop preset, one thread, from seed 0. `lr` is the
highest learning rate. `loss` is the image loss (lesson 11) on 200 other houses with its standard error. The sheet shows, row by row: houses that were
learned from, the shipped network without labels, then after each training the first eight seeds, in 25 steps.
"""
import argparse
import random
import warnings
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from ddpm_lesson import draw_from, train_on
from ddpm_lesson.data import Images, to_unit
from ddpm_lesson.engine.files import save_png, sheet, write_table
from ddpm_lesson.metrics import image_loss
from ddpm_lesson.pretrained import load_pretrained

from .measure import beside, own_table

WAYS = (None, 2e-3), ('fashion', 5e-4), ('fashion', 2e-3)   # what to begin with, and the highest learning rate


def house(luck):
    "One house, 28x28 and grey, drawn four times as large and made smaller."
    side = 112
    picture = Image.new('L', (side, side), 0)
    draw = ImageDraw.Draw(picture)
    wide, high, roof = luck.randint(52, 92), luck.randint(34, 56), luck.randint(20, 42)
    left, top = (side - wide)//2 + luck.randint(-6, 6), side - 8 - high
    wall, tiles = luck.randint(110, 190), luck.randint(200, 255)
    if luck.random() < 0.5:
        chimney = left + luck.randint(wide//8, wide//3)
        draw.rectangle([chimney, top - roof - 4, chimney + 10, top], fill=wall)
    draw.rectangle([left, top, left + wide, side - 8], fill=wall)
    draw.polygon([(left - 7, top), (left + wide//2, top - roof), (left + wide + 7, top)], fill=tiles)
    door = left + luck.randint(6, wide - 22)
    draw.rectangle([door, side - 8 - luck.randint(20, 30), door + 14, side - 8], fill=30)
    for x in range(left + 6, left + wide - 14, 20):
        if abs(x - door) > 16: draw.rectangle([x, top + 8, x + 11, top + 20], fill=245)
    return picture.resize((28, 28), Image.Resampling.BOX)


def houses(count, seed=0):
    "(count, 1, 28, 28) uint8."
    luck = random.Random(seed)
    return torch.stack([torch.frombuffer(bytearray(house(luck).tobytes()), dtype=torch.uint8).reshape(1, 28, 28) for _ in range(count)])


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('--pictures', help='only write the 200 houses into this new folder')
    ask.add_argument('--out', type=own_table('start,lr,steps'))
    ask.add_argument('--sheet', type=beside)
    ask.add_argument('--steps', type=int, nargs='*', default=[100, 300])
    told = ask.parse_args()
    learned, others = houses(200), houses(200, seed=1)
    if told.pictures:
        folder = Path(told.pictures)
        folder.mkdir(parents=True)
        for k, x in enumerate(learned): Image.fromarray(x[0].numpy()).save(folder/f'{k:03}.png')
        return print(f'{folder}: {len(learned)} pictures')
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    data, (model, sched) = Images(learned, name='houses'), load_pretrained('fashion')
    loss, error = image_loss(model, sched, others)
    rows, shown = [dict(start='fashion', lr=0, steps=0, loss=loss, error=error)], [to_unit(learned[:8]), draw_from('fashion', 8, label='none', steps=25, guidance=1)]
    for steps in told.steps:
        for start, lr in WAYS:
            run = train_on(data, start=start, steps=steps, lr=lr, warmup=steps//10, progress=False, device='cpu')
            loss, error = image_loss(run.averaged(), run.sched, others)
            rows.append(dict(start=start or 'nothing', lr=lr, steps=steps, loss=loss, error=error))
            shown.append(draw_from(run, 8, steps=25))
            print(rows[-1], flush=True)
    if told.out: write_table(rows, told.out)
    if told.sheet: save_png(told.sheet, sheet(torch.cat(shown), 8, 2), dict(made='benchmarks/fine_tune.py'))


if __name__ == '__main__': main()
