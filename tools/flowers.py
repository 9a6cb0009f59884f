"""Train the flowers that ship with the package: python tools/flowers.py PHOTOS [--steps 2493] [--out runs/flowers]

PHOTOS holds five folders of photos (daisy, dandelion, rose, sunflower, tulip). 430 of them are held out: the network never sees them, and
`tools/judge_flowers.py` compares with them. Of each of the others it sees the middle square and five random crops of 0.86 to 1 of its side,
so that 3,000 photos are 18,000 images. Written: weights, card, the error on held-out photos over time, 1,000 samples, and a sheet.

On an H200 a step of 512 images took 97 ms with channels last (73 without: see benchmarks/gpu_h200.txt), all of it four minutes.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from ddpm_lesson.data import Images, load_images, to_pixels, to_unit
from ddpm_lesson.engine.files import save_png, sheet
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run
from ddpm_lesson.loss import x_0_loss
from ddpm_lesson.pretrained import draw_as_card, save_model

HELD, CROPS, SIZE = 430, 5, 64


def divided(photos):
    "Positions of the photos held out, and of the others."
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(7))
    return order[:HELD], order[HELD:]


def small(pixels): return torch.cat([F.resize(part, [SIZE, SIZE], antialias=True) for part in pixels.split(500)])


def cropped(pixels, seed):
    "One random square of each image, 0.86 to 1 of its side."
    g, side = torch.Generator().manual_seed(100 + seed), pixels.shape[-1]
    def one(image):
        s = round(side*(0.86 + 0.14*torch.rand((), generator=g).item()))
        top, left = (int(torch.randint(0, side + 1 - s, (), generator=g)) for _ in range(2))
        return F.resize(image[:, top:top + s, left:left + s], [SIZE, SIZE], antialias=True)
    return torch.stack([one(image) for image in pixels])


def sets(folder):
    "Training images and held-out photos, 64x64."
    photos = load_images(folder, 2*SIZE)
    held, kept = divided(photos)
    pixels = [small(photos.pixels[kept])] + [cropped(photos.pixels[kept], k) for k in range(CROPS)]
    train = Images(torch.cat(pixels), photos.labels[kept].repeat(len(pixels)), photos.classes, 'flowers5')
    return train, Images(small(photos.pixels[held]), photos.labels[held], photos.classes, 'flowers5 held out')


@torch.no_grad()
def error(model, sched, images, n):
    "Mean square of the estimate of x_0, over all times."
    g, device = torch.Generator().manual_seed(1), next(model.parameters()).device
    x, y = to_unit(images.pixels[:n]).to(device), images.labels[:n].to(device)
    t, eps = torch.randint(1, sched.T + 1, (len(x),), generator=g), torch.randn(x.shape, generator=g).to(device)
    return x_0_loss(model.net, sched, x, t, eps, y).mean().item()


def labels_in_shares(images, n):
    "n labels, in the shares of the classes."
    return images.labels[torch.linspace(0, len(images) - 1, n).long()].sort().values


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('photos', type=Path)
    ask.add_argument('--steps', type=int, default=2493)
    ask.add_argument('--batch', type=int, default=512)
    ask.add_argument('--samples', type=int, default=1000)
    ask.add_argument('--judged', type=int, default=HELD, help='held-out photos that the error is taken from')
    ask.add_argument('--out', type=Path, default=Path('runs/flowers'))
    a = ask.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    train, held = sets(a.photos)
    card, train = preset_card('flowers', train, steps=a.steps, batch=a.batch, warmup=min(300, max(1, a.steps//8)))
    run, began, curve = Run(card, train, device), time.monotonic(), []
    every = max(1, a.steps//14)
    for step, _ in run.steps():
        if step % every == 0 or step == a.steps:
            model = run.averaged()
            curve.append(dict(step=step, train=error(model, run.sched, train, min(256, a.judged)), held=error(model, run.sched, held, a.judged)))
            print(curve[-1], f'{time.monotonic() - began:.0f} s', flush=True)
    made = dict(seconds=round(time.monotonic() - began), images_seen=a.steps*a.batch, torch=torch.__version__,
                hardware=torch.cuda.get_device_name() if device == 'cuda' else 'cpu')
    save_model(a.out/'flowers.safetensors', run.averaged(), run.card | dict(made=made), half=True)
    (a.out/'curve.json').write_text(json.dumps(curve), encoding='utf-8')
    y = labels_in_shares(train, a.samples)
    images = draw_as_card(run.averaged(), run.sched, run.card, len(y), y, device=device, batch=250)
    np.savez_compressed(a.out/'samples.npz', pixels=to_pixels(images).numpy(), labels=y.numpy())
    save_png(a.out/'samples.png', sheet(images[torch.linspace(0, len(y) - 1, min(len(y), 48)).long()], 8, 2))


if __name__ == '__main__': main()
