"""How good are few calls of the shipped garments network, by sampler? KID-Lite0 against calls, at the same seeds.

    pip install -e ".[judge]"
    nice -n 10 python -m benchmarks.solvers_kid --keep runs/solvers_kid --out benchmarks/solvers_kid.csv

One thread. Image i of noise seed k is drawn from seed 1000 k + i with label i mod 10 and clip (-1, 1), by every sampler, so samplers can be
compared image by image. What the judge saw in a row's images is kept in the folder, and a row that is there is not drawn again.
A KID's interval, and that of the difference to 50 calls of DDIM, are two standard errors, from blocks of images left out in turn
(lesson 11); `all` pools the noise seeds. A program that makes 2S - 1 calls gets the largest S that fits.

What it cannot decide: there is one network, and the intervals are those of the images drawn from it. All samplers have the same levels, even in
t, and the same clamp; the rows with other levels say what a choice of levels for one sampler would change. Who takes the best of them has chosen
by this very judge, and must draw anew to judge it.
"""
import argparse
import json
import os
import platform
from pathlib import Path
from statistics import pvariance

import torch
from safetensors.torch import load_file, save_file

from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.forward import q_sample
from ddpm_lesson.metrics import draw_pixels, features, kid, kid_interval, lite0_judge
from ddpm_lesson.pretrained import load_pretrained
from ddpm_lesson.sampler import ddim_sample, ddpm_sample, image_noise, trailing
from ddpm_lesson.solvers import dpm_solver_sample, heun_sample, karras, uniform_lambda

from .measure import own_table

CALLS, SEEDS, BLOCKS = (5, 10, 20, 50), (0, 1, 2), 10
SAMPLERS = {'DDPM': ddpm_sample, 'DDIM': ddim_sample, 'Heun': heun_sample, '2M': dpm_solver_sample}
SPACED = {'uniform t': lambda sched, S: trailing(sched.T, S), 'uniform lambda': uniform_lambda, 'rho 7': karras,
          'from rho 80': lambda sched, S: trailing(highest(sched, 80), S)}


def highest(sched, rho):
    "The last step whose noise-to-signal ratio is at most rho: a cosine schedule goes far beyond what EDM begins with."
    return int((sched.noise_rate <= rho*sched.signal_rate).nonzero().max())


def from_real_noise(model, sched, shape, *, steps, clip, seeds, device):
    "2M from x_T as the chain makes it of training images, not from N(0, I)."
    real = to_unit(bundled_fashion().pixels[[s % 10_000 for s in seeds]])
    x_T = q_sample(sched, real, sched.T, image_noise(shape, seeds, device)())
    return dpm_solver_sample(model, sched, shape, steps=steps, clip=clip, x_T=x_T, seeds=seeds)


def cases():
    "name -> (sampler, spacing, calls allowed, clip), those first that the goal asks for."
    grid = {(name, c): (sampler, 'uniform t', c, (-1, 1)) for c in CALLS for name, sampler in SAMPLERS.items()}
    first = [('DDIM', 50), ('2M', 10), ('DDIM', 10), ('Heun', 10), ('DDPM', 10)]
    for name in ('2M', 'Heun', 'DDIM'):
        for spacing in ('uniform lambda', 'rho 7'): grid[f'{name}, {spacing}', 10] = (SAMPLERS[name], spacing, 10, (-1, 1))
    for name in ('2M', 'Heun', 'DDIM'): grid[f'{name}, from rho 80', 10] = (SAMPLERS[name], 'from rho 80', 10, (-1, 1))
    for calls in (20, 50): grid['Heun, from rho 80', calls] = (heun_sample, 'from rho 80', calls, (-1, 1))
    for name in ('2M', 'DDIM'): grid[f'{name}, no clamp', 10] = (SAMPLERS[name], 'uniform t', 10, None)
    grid['2M, start from real noise', 10] = (from_real_noise, 'uniform t', 10, (-1, 1))
    return {key: grid[key] for key in [*first, *(k for k in grid if k not in first)]}


def seen(key, seed, n, judge, keep):
    "What the judge sees in n images of one case and seed, and the calls that an image took; from the folder if it is there."
    sampler, spacing, calls, clip = cases()[key]
    name = f'{key[0]} {key[1]} seed {seed} n {n}'.replace(', ', ' ').replace(' ', '_')
    if not (path := keep/f'{name}.safetensors').exists():
        model, sched = load_pretrained('fashion')
        S = (calls + 1)//2 if sampler is heun_sample else calls
        pixels, counted = draw_pixels(model, sched, (n, 1, 28, 28), steps=SPACED[spacing](sched, S), sampler=sampler, clip=clip,
                                      labels=torch.arange(n) % 10, seeds=range(1000*seed, 1000*seed + n), batch=50)
        # shuffled as one, so that no block holds the labels in order; the same for all samplers
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        save_file({'x': features(judge, pixels)[order].float(), 'calls': torch.tensor([counted])}, path)
    kept = load_file(path)
    return kept['x'].double(), kept['calls'].item()


def difference(x, y, real):
    "KID(x) - KID(y) of images drawn from the same seeds, and two standard errors: both lose the same block."
    value, n = kid(x, real) - kid(y, real), len(x)
    without = []
    for block in torch.arange(n).tensor_split(BLOCKS):
        rest = torch.ones(n, dtype=torch.bool).index_fill(0, block, False)
        without.append(kid(x[rest], real) - kid(y[rest], real))
    return value, 2*((BLOCKS - 1)*pvariance(without))**0.5


def main(argv=None):
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument('--count', type=int, default=100, help='images a noise seed')
    read.add_argument('--keep', type=Path, required=True, help='folder for what the judge saw')
    read.add_argument('--out', type=own_table('sampler,calls allowed,calls'), required=True)
    asked = read.parse_args(argv)
    torch.set_num_threads(1)
    asked.keep.mkdir(parents=True, exist_ok=True)
    judge = lite0_judge()
    if not (path := asked.keep/'real.safetensors').exists():
        save_file({'x': features(judge, bundled_fashion(train=False)).float()}, path)
    real = load_file(path)['x'].double()
    about = {'judge': judge.name, 'real': len(real), 'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'torch': torch.__version__}
    of = lambda key: [seen(key, seed, asked.count, judge, asked.keep) for seed in SEEDS]
    best, rows = [x for x, _ in of(('DDIM', 50))], []
    for name, allowed in cases():
        sets, calls = zip(*of((name, allowed)))
        for seed, x, y in [*zip(SEEDS, sets, best), ('all', torch.cat(sets), torch.cat(best))]:
            (value, half), (gap, gap_half) = kid_interval(x, real, BLOCKS), difference(x, y, real)
            numbers = {'KID': value, 'interval': half, 'minus DDIM 50': gap, 'its interval': gap_half}
            rows.append({'sampler': name, 'calls allowed': allowed, 'calls': calls[0], 'noise seed': seed, 'N': len(x)}
                        | {k: round(v, 5) for k, v in numbers.items()} | about)
        write_table(rows, asked.out)   # so far: the run may be ended at any time, and goes on where it was
        print(json.dumps(rows[-1]), flush=True)


if __name__ == '__main__': main()
