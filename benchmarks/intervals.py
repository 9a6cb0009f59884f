"""Where to insist on the label when calls are counted: guidance in intervals of steps, at most 50 calls of the shipped garments network.

    pip install -e ".[judge]"
    nice -n 10 python -m benchmarks.intervals --out benchmarks/intervals.csv

One thread. Image i of noise seed k is drawn by DDIM from seed 10,000 + 1,000 k + i with label i mod 10 and clip (-1, 1), in every row. A step inside
the interval costs two calls, so a row gets the most steps whose calls are at most 50. KID-Lite0 against the 2,000 test images, its interval and that
of the difference to the row without guidance from blocks of images left out in turn (lesson 11). Variety: see `guidance.py`.
Noise seed 0 chooses; the row that is best there is drawn again from noise seed 1, beside the row without guidance, for who chooses by
a judge must draw anew to be judged.
"""
import argparse
import os
import platform

import torch

from ddpm_lesson.data import bundled_fashion, to_pixels
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.guidance import in_batches
from ddpm_lesson.metrics import Counted, features, kid_interval, lite0_judge
from ddpm_lesson.pretrained import load_pretrained
from ddpm_lesson.sampler import ddim_sample, trailing

from .guidance import variety
from .measure import own_table
from .solvers_kid import BLOCKS, difference

CALLS, T = 50, 1000
NONE, EVERYWHERE = (1.0, None), (1, T)
TRIED = [NONE, (3.0, (1, 100)), (3.0, (1, 200)), (3.0, (1, 300)), (3.0, (1, 400)), (3.0, (1, 500)), (3.0, (201, 700)),
         (2.0, (1, 300)), (4.0, (1, 300)), (1.5, EVERYWHERE)]


def calls_of(steps, w, between):
    return steps + (0 if w == 1 else sum(between[0] <= t <= between[1] for t in trailing(T, steps)))


def most_steps(w, between):
    "The most steps whose calls are at most 50."
    return max(steps for steps in range(1, CALLS + 1) if calls_of(steps, w, between) <= CALLS)


def drawn(model, sched, judge, w, between, seed, n):
    "What the judge sees, shuffled so that no block holds the labels in order; the labels; steps and calls."
    steps, y, first = most_steps(w, between), torch.arange(n) % 10, 10_000 + 1_000*seed
    counted, images = Counted(model), []
    for asked, seeds in in_batches(counted, n, y, w, range(first, first + n), 50, between=between):
        images.append(to_pixels(ddim_sample(asked, sched, (len(seeds), 1, 28, 28), steps=steps, clip=(-1, 1), seeds=seeds)))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return features(judge, torch.cat(images))[order].double(), y[order], steps, counted.seen/n


def main():
    read = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    read.add_argument('--count', type=int, default=1000, help='images a row')
    read.add_argument('--out', type=own_table('minus none,its interval,variety'), default='benchmarks/intervals.csv')
    asked = read.parse_args()
    torch.set_num_threads(1)
    judge, (model, sched), test = lite0_judge(), load_pretrained('fashion'), bundled_fashion(train=False)
    real = features(judge, test.pixels).double()
    of_real, plain, rows = variety(real, test.labels), {}, []

    def row(w, between, seed):
        x, y, steps, calls = drawn(model, sched, judge, w, between, seed, asked.count)
        plain.setdefault(seed, x)
        (value, half), (gap, gap_half) = kid_interval(x, real, BLOCKS), difference(x, plain[seed], real)
        rows.append({'w': w, **dict(zip(('low', 'high'), between or ())), 'noise seed': seed, 'steps': steps, 'calls': calls, 'N': len(x), 'KID': value, 'interval': half,
                     'minus none': gap, 'its interval': gap_half, 'variety': variety(x, y)/of_real, 'judge': judge.name,
                     'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'torch': torch.__version__})
        write_table(rows, asked.out)
        print(rows[-1], flush=True)

    for w, between in TRIED: row(w, between, 0)
    best = min(rows, key=lambda r: r['KID'])
    for w, between in dict.fromkeys([NONE, (best['w'], (best['low'], best['high']) if 'low' in best else None)]): row(w, between, 1)


if __name__ == '__main__': main()
