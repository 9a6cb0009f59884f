"""Five dialects, the same processor time: noise, image, velocity, flow matching and EDM, each with its own loss and levels, on one network.

    python benchmarks/dialects.py --seconds 40 --out benchmarks/dialects.csv

Every row trains one small U-Net from one seed on the 10,000 bundled garments, one thread, until the processor (not the clock) has spent the
given seconds on training steps; the learning rate comes down with that time. All have one table of noise levels, the cosine schedule, one
optimizer, batch and average of weights. A dialect decides what the network sees and is asked for, and how often each level is shown: eps, x_0
and v the steps evenly; flow its time evenly; edm the normal law of log sigma of its paper. All are sampled by our DDIM with the same seeds.

The time is equal, the tuning is not: all have one learning rate, which was tuned for none of them, and a loss of another size or a law that
shows other levels may want another. So a dialect that loses here by less than its rate could change has not been shown to be worse; and the
sampler, the cosine table and the clamp are those of DDPM's dialect.
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

from ddpm_lesson.data import Images, bundled_fashion, to_pixels
from ddpm_lesson.dialects import PredictsEdm, PredictsFlow, edm_loss, flow_loss, nearest_step
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.loss import targets
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.train import Ema, Recipe, adamw, draw, generator
from ddpm_lesson.unet import UNet

SCHED = cosine_schedule()


def evenly(n, g): return torch.randint(1, SCHED.T + 1, (n,), generator=g)


def by_flow_time(n, g):
    tau = torch.rand(n, generator=g, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return nearest_step(SCHED, tau/(1 - tau))


def by_log_normal(n, g): return nearest_step(SCHED, (-1.2 + 1.2*torch.randn(n, generator=g, dtype=torch.float64)).exp())


# name -> (loss, wrapper, law of the steps shown)
DIALECTS = {name: (*targets[name], evenly) for name in ('eps', 'x_0', 'v')} | dict(flow=(flow_loss, PredictsFlow, by_flow_time), edm=(edm_loss, PredictsEdm, by_log_normal))


def trained(name, seed, data, seconds):
    "The wrapped network with averaged weights; how many steps it had, and what they cost."
    loss, wrapper, law = DIALECTS[name]
    torch.manual_seed(seed)
    net = UNet(channels=1, width=16, mults=(1, 2, 4), attend=(), classes=0, blocks=1, patch=2)
    recipe = Recipe(steps=10**6, batch=32, lr=4e-3, warmup=30, ema_decay=0.98, seed=seed)
    opt, ema = adamw(list(net.parameters()), recipe), Ema(net, recipe.ema_decay)
    began, step, spent = time.process_time(), 0, 0.0
    while spent < seconds:
        rate = min(1, (step + 1)/recipe.warmup)*(1 + math.cos(math.pi*spent/seconds))/2
        for group in opt.param_groups: group['lr'] = recipe.lr*rate
        batch = draw(data, recipe, SCHED.T, step)
        t = law(recipe.batch, generator(seed, 9, step))
        loss(net, SCHED, batch.x_0, t, batch.eps).mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_grad)
        opt.step()
        opt.zero_grad()
        ema.update(net, step)
        step, spent = step + 1, time.process_time() - began
    return wrapper(ema.copy_to(copy.deepcopy(net)).eval(), SCHED), step, spent


def row(name, seed, data, ref, seconds, count, calls):
    model, steps, spent = trained(name, seed, data, seconds)
    pixels = to_pixels(drawn(model, count, calls))
    r = evaluate_samples(pixels, ref)
    return dict(dialect=name, seed=seed, KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'], steps=steps, batch=32, train_cpu_seconds=round(spent), N=count, NFE=calls,
                parameters=sum(p.numel() for p in model.parameters()), judge=r['judge'], threads=torch.get_num_threads(), machine=f'{platform.machine()}, {os.cpu_count()} cores', torch=torch.__version__)


def drawn(model, count, calls, batch=50):
    "Samples of the same seeds for every dialect."
    return torch.cat([ddim_sample(model, SCHED, (len(seeds), 1, 28, 28), steps=calls, clip=(-1, 1), seeds=seeds)
                      for seeds in (range(i, min(i + batch, count)) for i in range(0, count, batch))])


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument('--seconds', type=float, default=40, help='processor seconds of training')
    say.add_argument('--count', type=int, default=200, help='samples')
    say.add_argument('--calls', type=int, default=25, help='network calls a sample')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each dialect')
    say.add_argument('--out', type=Path, default=Path('benchmarks/dialects.csv'))
    a = say.parse_args()
    torch.set_num_threads(1)
    rows, ref = read_table(a.out) if a.out.exists() else [], None
    data = Images(bundled_fashion().pixels, name='fashion')  # without labels
    for seed, name in product(range(a.seeds), DIALECTS):
        if any((r['dialect'], int(r['seed'])) == (name, seed) for r in rows): continue
        ref = ref or reference(bundled_fashion(train=False), lite0_judge(), other=bundled_fashion())
        rows.append(row(name, seed, data, ref, a.seconds, a.count, a.calls))
        write_table(rows, a.out)
        print({k: rows[-1][k] for k in ('dialect', 'seed', 'KID', 'interval', 'floor', 'steps', 'train_cpu_seconds')}, flush=True)


if __name__ == '__main__': main()
