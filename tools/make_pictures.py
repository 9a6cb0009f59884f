"""Make the pictures of both walks that the book shows: python tools/make_pictures.py

images/forward.gif: bundled garments drowning. images/steps.png: fifty frames below one another; frame S holds one garment of each
class, drawn with S network calls from the same noise. images/noise_and_back.png: a drawn daisy on its way to noise,
and below it the way back from that noise, asked for a sunflower.
"""
from pathlib import Path

import torch

from ddpm_lesson.data import bundled_fashion, to_pixels, to_unit
from ddpm_lesson.engine.files import save_gif, save_png, sheet
from ddpm_lesson.forward import q_sample
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.pretrained import load_pretrained
from ddpm_lesson.sampler import ddim_sample, ddim_steps
from ddpm_lesson.schedule import cosine_schedule

IMAGES = Path(__file__).resolve().parents[1]/'images'


def one_of_each(k=2):
    "The k-th bundled garment of each class: (10, 1, 28, 28) in [-1, 1]."
    data = bundled_fashion()
    return to_unit(torch.stack([data.pixels[data.labels == c][k] for c in range(10)]))


def drowned(x_0, ts, seed=0):
    "The same images and the same noise at each step in `ts`, under the schedule of the shipped model."
    sched, eps = cosine_schedule(), torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed))
    return [q_sample(sched, x_0, t, eps) for t in ts]


def drawn(S):
    "One garment of each class in S network calls; the seed of class k is k."
    model, sched = load_pretrained('fashion')
    return ddim_sample(Labelled(model, torch.arange(10)), sched, (10, 1, 28, 28), steps=S, clip=(-1, 1), seeds=range(10))


def tiled(images, cols=5):
    "(N, 1, H, W) images as one (1, rows, columns) picture of bytes, nothing between them."
    return to_pixels(images).unflatten(0, (-1, cols)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)


def below(frames):
    "Pictures of one size below one another, for a page that shows one at a time."
    return torch.cat([tiled(f) for f in frames], 1)


def there_and_back(columns=9, steps=96):
    "A drawn daisy becomes noise; from that noise comes a sunflower: (2*columns, 3, 64, 64), the way back from right to left."
    net, sched = load_pretrained('flowers')
    daisy, sunflower = (Guided(net, torch.tensor([label]), 1.5) for label in (0, 3))
    shape, seed = (1, 3, 64, 64), 1
    ts = [round(i*sched.T/(columns - 1)) for i in range(columns)]
    flower = ddim_sample(daisy, sched, shape, steps=50, clip=(-1, 1), seeds=[seed])
    eps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    there = [q_sample(sched, flower, t, eps) for t in ts]
    back = {sched.T: there[-1]} | {t: x_t for t, x_t, _ in ddim_steps(sunflower, sched, shape, steps=steps, x_T=there[-1], clip=(-1, 1))}
    near = [min(back, key=lambda s: abs(s - t)) for t in ts]
    return torch.cat([*there, *(back[t] for t in near)])


def coarse(pixels, levels=24):
    "Fewer greys, so that the film stays small."
    return (pixels.float()*(levels - 1)/255).round().mul(255/(levels - 1)).round().to(torch.uint8)


def main():
    ts = [round(1000*i/24) for i in range(25)]
    save_gif(IMAGES/'forward.gif', [coarse(sheet(x, cols=5, zoom=2)) for x in drowned(one_of_each(), ts)], ms=120)
    save_png(IMAGES/'noise_and_back.png', sheet(there_and_back(), cols=9, zoom=1), {'made by': 'tools/make_pictures.py'})
    save_png(IMAGES/'steps.png', below([drawn(S) for S in range(1, 51)]), {'made by': 'tools/make_pictures.py'})


if __name__ == '__main__': main()
