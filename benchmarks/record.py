"""Minutes to a picture, the record board: whose garments are nearest to real ones five minutes after the start?

    pip install -e ".[judge]" diffusers
    pip install --no-deps denoising-diffusion-pytorch ema-pytorch accelerate pytorch-fid
    python -m benchmarks.record --out benchmarks/record.csv

The rules. The 10,000 bundled garments and nothing else. Each training is a process of its own, on two threads; its clock runs from
before Python starts to the last training step and stands at 300 seconds, what is imported, measured and compiled included. Then 1,000
samples with at most 50 calls of the network each, judged by KID-Lite0 against the 2,000 test images, the floor (real images) beside it.
Three seeds. On another machine of this kind a rerun should fall into mean +- t s sqrt(1 + 1/3), t = 4.30, the prediction interval of three seeds.
Ours is drawn as its preset says. The peers are those of `same_minutes`, each at the setting that was best in equal trials there,
without labels, 50 steps of DDIM. 'bf16' rows may compute in it; 'float32' rows may not. Nothing else may run on the machine.
"""
import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import torch

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.metrics import lite0_judge, reference

from . import same_minutes
from .ingredients import judged
from .measure import own_table
from .same_minutes import SETTINGS, SYSTEMS, best_settings, preset_run

OURS = 'laptop preset'
PEERS = [name for name in SYSTEMS if name.startswith(('Hugging', 'lucid'))]
ENTRIES = [(OURS, 'bf16'), (OURS, 'float32'), *((name, precision) for precision in ('bf16', 'float32') for name in PEERS)]
T_2 = 4.303   # of Student's t with two degrees of freedom, 95 %


def steps_until(make, end, tried=20):
    "How many steps end at this moment: measured on a throw-away run, so that a learning rate that decays ends with the time."
    walk = make(tried + 3).steps()
    for _ in range(3): next(walk)
    began = time.time()
    for _ in range(tried): next(walk)
    return max(2, int((end - time.time())/((time.time() - began)/tried)))


def of_preset(data, seed, precision, end):
    make = lambda steps: preset_run('laptop', data, seed=seed, precision=precision, steps=steps, warmup=max(1, steps//10))
    return make(steps_until(make, end))


def of_peer(name, data, seed, precision):
    trials = read_table(Path(same_minutes.__file__).with_name('same_minutes_trials.csv'))
    torch.manual_seed(seed)
    run = SYSTEMS[name](data, None, seed, **SETTINGS[best_settings(trials)[name]])
    run.bf16 = precision == 'bf16'
    return run


def train_until(run, end):
    for _ in run.steps():
        if time.time() >= end: return


def entry(name, precision, seed, began, seconds, count):
    "One training by the rules: its row."
    torch.set_num_threads(2)
    data, end = bundled_fashion(), began + seconds
    run = of_preset(data, seed, precision, end) if name == OURS else of_peer(name, data, seed, precision)
    train_until(run, end)
    spent = time.time() - began
    ref = reference(bundled_fashion(train=False), lite0_judge(), other=data)
    how = run.card['sample'] if name == OURS else dict(steps=50, clip=(-1, 1))
    r = judged(run, run.averaged(), ref, count, **how)
    return dict(system=name, precision=precision, seed=seed, KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'],
                parameters=sum(p.numel() for p in run.net.parameters()), steps=len(run.losses), images=len(run.losses)*run.recipe.batch,
                seconds=round(spent, 1), N=r['N'], NFE=r['NFE'], judge=r['judge'], threads=torch.get_num_threads(),
                machine=f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores', torch=torch.__version__)


def board(rows):
    "Mean, prediction interval and count of each system's seeds, the best first."
    found = {}
    for r in rows: found.setdefault((r['system'], r['precision']), []).append(r['KID'])
    lines = [dict(system=s, precision=p, mean=mean(k), half=T_2*stdev(k)*(4/3)**0.5 if len(k) == 3 else None, seeds=len(k))
             for (s, p), k in found.items()]
    return sorted(lines, key=lambda line: line['mean'])


def main():
    say = argparse.ArgumentParser(prog='python -m benchmarks.record', description=__doc__.splitlines()[0])
    say.add_argument('--seconds', type=float, default=300, help='on the clock')
    say.add_argument('--count', type=int, default=1000, help='samples')
    say.add_argument('--seeds', type=int, default=3)
    say.add_argument('--only', default='', help='entries whose name contains this')
    say.add_argument('--out', type=own_table('system,precision,seed'), default='benchmarks/record.csv')
    say.add_argument('--one', nargs=4, metavar=('NAME', 'PRECISION', 'SEED', 'BEGAN'), help=argparse.SUPPRESS)
    a = say.parse_args()
    if a.one:
        name, precision, seed, began = a.one
        row = entry(name, precision, int(seed), float(began), a.seconds, a.count)
        print(row, flush=True)
        return write_table((read_table(a.out) if a.out.exists() else []) + [row], a.out)
    for seed in range(a.seeds):
        for name, precision in ENTRIES:
            there = read_table(a.out) if a.out.exists() else []
            if a.only not in f'{name} {precision}' or any((r['system'], r['precision'], r['seed']) == (name, precision, seed) for r in there): continue
            mine = [sys.executable, '-m', 'benchmarks.record', '--seconds', str(a.seconds), '--count', str(a.count), '--out', str(a.out)]
            subprocess.run([*mine, '--one', name, precision, str(seed), str(time.time())], check=True)
    for line in board(read_table(a.out)): print(line)


if __name__ == '__main__': main()
