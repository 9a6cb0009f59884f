"""Does it need to be a U-Net? One recipe, as many parameters, the same processor time: a U-Net and a DiT.

    python -m benchmarks.transformer --seconds 130 --out benchmarks/transformer.csv

Every row trains one network from one seed on the 10,000 bundled garments without labels, in one process with one thread, until the processor
(not the clock) has spent the given seconds on training steps. Loss, weight, optimizer, batch and average of weights are those of the preset
`laptop`; the rate comes up over 30 steps and down to 0 with the time. Only the highest rate may differ: each network is tried at the same rates,
for `--tune` seconds each, from a seed of its own, and keeps the one with the lowest error of x_0 on 1,000 test images, whose steps and noise
are the same for all. The nets have the same number of parameters to 2 %, and nearly as many multiplications an image. Every row is sampled by
the same seeds of DDIM and judged by KID-Lite0. Interrupted, the same call goes on with the rows that are missing.
"""
import argparse
import copy
import math
import os
import platform
import time
from itertools import product
from pathlib import Path

import torch

from ddpm_lesson.data import Images, bundled_fashion, to_pixels, to_unit
from ddpm_lesson.dit import DiT
from ddpm_lesson.engine.files import read_table, save_png, sheet, write_table
from ddpm_lesson.engine.run import make_optimizer
from ddpm_lesson.loss import PredictsX0
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.train import Ema, Recipe, draw, gradient_step
from ddpm_lesson.unet import UNet, count_parameters

from .measure import beside, own_table

SCHED = cosine_schedule()
NETWORKS = dict(unet=lambda: UNet(channels=1, width=16, mults=(1, 2, 4), blocks=1, attend=(2,), patch=2, scale_shift=True),
                dit=lambda: DiT(channels=1, width=96, layers=4, heads=4, patch=4))
RATES = 2e-3, 5e-3, 12e-3, 30e-3
RECIPE = Recipe(target='x_0', weight='min_snr', optimizer='muon', steps=10**6, batch=32, warmup=30, ema_decay=0.98)
TUNING = 100   # the seed of the tries, which no row has


def trained(name, seed, lr, data, seconds):
    "The model with averaged weights, how many steps it had, and what they cost."
    torch.manual_seed(seed)
    net, recipe = NETWORKS[name](), Recipe(**vars(RECIPE) | dict(lr=lr, seed=seed))
    opt, ema = make_optimizer(net, recipe), Ema(net, recipe.ema_decay)
    began, step, spent = time.process_time(), 0, 0.0
    while spent < seconds:
        rate = min(1, (step + 1)/recipe.warmup)*(1 + math.cos(math.pi*spent/seconds))/2
        for group in opt.param_groups: group['lr'] = lr*rate
        gradient_step(net, SCHED, opt, recipe, draw(data, recipe, SCHED.T, step))
        ema.update(net, step)
        step, spent = step + 1, time.process_time() - began
    return PredictsX0(ema.copy_to(copy.deepcopy(net)).eval(), SCHED), step, spent


@torch.no_grad()
def error(model, images):
    "Mean square of x_0_hat - x_0 over the images, at steps even over 1..T; the same noise for every model."
    g = torch.Generator().manual_seed(1)
    t = torch.linspace(1, SCHED.T, len(images)).round().long()[torch.randperm(len(images), generator=g)]
    eps = torch.randn(images.shape, generator=g)
    rate, noise = (v[t].float().view(-1, 1, 1, 1) for v in (SCHED.signal_rate, SCHED.noise_rate))
    parts = zip(images.split(100), (rate*images + noise*eps).split(100), t.split(100))
    return sum((model.net(x_t, t) - x_0).square().mean().item() for x_0, x_t, t in parts)*100/len(images)


def drawn(model, count, calls, batch=50):
    return torch.cat([ddim_sample(model, SCHED, (len(seeds), 1, 28, 28), steps=calls, clip=(-1, 1), seeds=seeds)
                      for seeds in (range(i, min(i + batch, count)) for i in range(0, count, batch))])


def row(part, name, seed, lr, data, test, seconds):
    "A row, and the model it is about."
    model, steps, spent = trained(name, seed, lr, data, seconds)
    return dict(part=part, network=name, seed=seed, lr=lr, error=error(model, test), steps=steps, batch=RECIPE.batch, seconds=seconds,
                cpu_seconds=round(spent, 1), parameters=count_parameters(model.net), threads=torch.get_num_threads(),
                machine=f'{platform.machine()}, {os.cpu_count()} cores', torch=torch.__version__), model


def best_rate(rows, name):
    tried = [r for r in rows if (r['part'], r['network']) == ('try', name)]
    return min(tried, key=lambda r: r['error'])['lr']


def main():
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument('--seconds', type=float, default=130, help='processor seconds of training')
    say.add_argument('--tune', type=float, default=25, help='processor seconds of each try')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each network')
    say.add_argument('--count', type=int, default=300, help='samples')
    say.add_argument('--calls', type=int, default=25, help='network calls a sample')
    say.add_argument('--out', type=own_table('part,network,seed'), default='benchmarks/transformer.csv')
    say.add_argument('--images', type=Path, help='where sheets of samples of seed 0 go, as NAME_unet.png')
    a = say.parse_args()
    torch.set_num_threads(1)
    rows, ref = read_table(a.out) if a.out.exists() else [], None
    data = Images(bundled_fashion().pixels, name='fashion')  # without labels
    test = to_unit(bundled_fashion(train=False).pixels[:1000])

    def there(*key): return any((r['part'], r['network'], int(r['seed']), float(r['lr'])) == key for r in rows)

    def keep(made):
        rows.append(made)
        write_table(rows, a.out)
        print({k: made.get(k) for k in ('part', 'network', 'seed', 'lr', 'steps', 'error', 'KID', 'interval')}, flush=True)

    for lr, name in product(RATES, NETWORKS):
        if not there('try', name, TUNING, lr): keep(row('try', name, TUNING, lr, data, test, a.tune)[0])
    for seed, name in product(range(a.seeds), NETWORKS):
        if there('run', name, seed, lr := best_rate(rows, name)): continue
        ref = ref or reference(bundled_fashion(train=False), lite0_judge(), other=bundled_fashion())
        made, model = row('run', name, seed, lr, data, test, a.seconds)
        images = drawn(model, a.count, a.calls)
        if a.images and not seed: save_png(beside(a.images.with_stem(f'{a.images.stem}_{name}')), sheet(images[:16], cols=16))
        r = evaluate_samples(to_pixels(images), ref)
        keep(made | dict(KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'], N=a.count, NFE=a.calls, judge=r['judge']))


if __name__ == '__main__': main()
