"""Everything in one table: python -m benchmarks

    pip install diffusers && pip install --no-deps denoising-diffusion-pytorch ema-pytorch accelerate pytorch-fid
    python -m benchmarks --rounds 21

Every figure comes from programs that ran in turns in one process; the ratios are those of the rounds. Run it on a machine that does nothing else.
"""
import argparse
from importlib.metadata import PackageNotFoundError, version

import torch

from ddpm_lesson.engine.files import write_table

from . import sampler, training
from .measure import own_table, where

PARTS = dict(sampler=sampler.rows, solvers=sampler.solver_rows, training=training.rows, sizes=training.size_rows)


def versions():
    "Of the others, where they are installed."
    found = {}
    for name in 'diffusers', 'denoising-diffusion-pytorch':
        try: found[name] = version(name)
        except PackageNotFoundError: pass
    return found


def show(row):
    ratio = next((f'{row[k]:7.2f} {k}' for k in ('times bare', 'times ours', 'times ddim') if k in row), '')
    print(f"{row['what']:9} {row['case']:38} {row['who']:11} {row['median']:9.1f} ({row['low']:.1f} to {row['high']:.1f}) {row['unit']:28} {ratio}")


def main():
    say = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__.splitlines()[0])
    say.add_argument('--rounds', type=int, default=21, help='times each program runs')
    say.add_argument('--threads', type=int, default=torch.get_num_threads())
    say.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    say.add_argument('--only', choices=list(PARTS), help='one part: speed_training.csv was made so, and with --threads 1 speed_solvers.csv and speed_sizes.csv')
    say.add_argument('--out', type=own_table('what,case,who,unit'), default='benchmarks/speed.csv')
    a = say.parse_args()
    if a.rounds < 2 or a.threads < 1: say.error(f'wanted --rounds 2 or more and --threads 1 or more, got {a.rounds} and {a.threads}')
    torch.set_num_threads(a.threads)
    rows = [row | where(a.device) | versions() for part, make in PARTS.items() if a.only in (None, part) for row in make(a.device, a.rounds)]
    for row in rows: show(row)
    write_table(rows, a.out)


if __name__ == '__main__': main()
