"""How many images until a network makes new ones? A small network, trained on 10 to 10,000 garments.

    python -m benchmarks.memorise --out benchmarks/memorise.csv --images benchmarks/memorise.png

Garments at 14x14 (means of 2x2 pixels), no labels, Adam at a fixed rate, weights averaged. Every training sees
as many batches of 16, whatever the number of images. Looked at several times while it goes on: the error of the
noise on images learned from and on images of the test split (the same times and noise), and 100 samples: how far
each lies from the nearest image learned from, and whether it is a copy (its distance to the nearest is less than
a third of that to the second nearest). `real` is the distance of test images to the same training images.
Interrupted, the same call goes on with the trainings that are missing.
"""
import argparse
import copy
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.engine.files import read_table, save_png, sheet, write_table
from ddpm_lesson.loss import PredictsEps, eps_loss
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.unet import UNet, count_parameters

from .measure import beside, own_table

SIZES = 10, 100, 1000, 10_000
LOOKS = 300, 1500, 6000
BATCH = 16


def garments(train):
    "Bundled garments at 14x14, in [-1, 1]."
    return avg_pool2d(to_unit(bundled_fashion(train=train).pixels), 2)


def network(seed):
    torch.manual_seed(seed)
    return UNet(channels=1, width=16, mults=(1, 2), blocks=1, attend=(), patch=1)


def distances(a, b, k=2):
    "Of each image in `a` to the `k` nearest in `b`: (N, k), data units."
    return torch.cdist(a.flatten(1), b.flatten(1)).topk(k, largest=False).values


@torch.no_grad()
def error(model, sched, images):
    "Mean square error of the noise, over 500 images and steps even over 1..T; the same noise for every model."
    g = torch.Generator().manual_seed(1)
    x_0 = images[torch.arange(500) % len(images)]
    t = torch.linspace(1, sched.T, 500).round().long()
    t = t[torch.randperm(500, generator=g)]
    eps = torch.randn(x_0.shape, generator=g)
    x_t = sched.signal_rate[t].float().view(-1, 1, 1, 1)*x_0 + sched.noise_rate[t].float().view(-1, 1, 1, 1)*eps
    return (model(x_t, t) - eps).square().mean().item()


def look(model, sched, learned, test, seed, n=100):
    "A row of measures, and the samples they are about."
    samples = ddim_sample(model, sched, (n, 1, 14, 14), steps=50, clip=(-1, 1), seeds=range(1000*seed, 1000*seed + n))
    near = distances(samples, learned)
    row = dict(seen=error(model, sched, learned), unseen=error(model, sched, test),
               nearest=near[:, 0].median().item(), copied=(near[:, 0] < near[:, 1]/3).double().mean().item(),
               real=distances(test[:1000], learned)[:, 0].median().item())
    return row, samples


def train(n, seed, looks=LOOKS):
    "Yields (row, samples) after each number of steps in `looks`."
    learned, test, sched = garments(True)[:n], garments(False), cosine_schedule()
    net, g = network(seed), torch.Generator().manual_seed(seed)
    slow, opt = copy.deepcopy(net).eval().requires_grad_(False), torch.optim.Adam(net.parameters(), 1e-3)
    about = dict(images=n, seed=seed, parameters=count_parameters(net), batch=BATCH, lr=1e-3, ema=0.999)
    for step in range(1, max(looks) + 1):
        x_0 = learned[torch.randint(n, (BATCH,), generator=g)]
        t, eps = torch.randint(1, sched.T + 1, (BATCH,), generator=g), torch.randn(x_0.shape, generator=g)
        opt.zero_grad()
        eps_loss(net, sched, x_0, t, eps).mean().backward()
        opt.step()
        keep = min(0.999, step/(step + 10))
        torch._foreach_lerp_(list(slow.parameters()), [p.detach() for p in net.parameters()], 1 - keep)
        if step in looks:
            row, samples = look(PredictsEps(slow, sched), sched, learned, test, seed)
            yield about | dict(steps=step) | row, samples


def strips(learned, samples):
    "Two rows of eight: samples, and the nearest image learned from below each."
    near = learned[torch.cdist(samples[:8].flatten(1), learned.flatten(1)).argmin(1)]
    return torch.cat([samples[:8], near])


def main(out, images, seeds, looks):
    rows = read_table(out) if out.exists() else []
    for seed in range(seeds):
        for n in SIZES:
            if any((r['images'], r['seed']) == (n, seed) for r in rows): continue
            for row, samples in train(n, seed, looks):
                rows.append(row)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
            if images and seed == 0:
                save_png(beside(images.with_stem(f'{images.stem}_{n}')), sheet(strips(garments(True)[:n], samples), cols=8))
            write_table(rows, out)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=own_table('images,seed,parameters'), default='memorise.csv')
    parser.add_argument('--images', type=Path)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--looks', type=int, nargs='+', default=LOOKS)
    main(**vars(parser.parse_args()))
