"""Muon beside AdamW, fairly: equal processor time, each at its best of several learning rates, three seeds.

    python -m benchmarks.muon_adamw --steps 150 --out benchmarks/muon_adamw.csv

Both train the laptop preset on the bundled garments with one thread. First a few steps of each in turns say how long a step takes;
Muon gets --steps, AdamW as many as fit into the same processor seconds, and each its own schedule of that length (a learning rate that
comes down to 0 at its own last step). Every rate is tried from seed 0; the best of each optimizer is then trained from the other seeds.
Interrupted, the same call goes on. A row a training; what is compared is the held-out loss, the same images, times and noise for all.
"""
import argparse
import time

import torch

from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run
from ddpm_lesson.loss import distances, targets
from ddpm_lesson.train import draw, weights

from .measure import own_table

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SEEDS = (0, 1, 2)


def steps_of_each(muon):
    "Muon's steps, and as many of AdamW's as take the same processor seconds."
    a_step = step_seconds()
    return dict(muon=muon, adamw=round(muon*a_step['muon']/a_step['adamw']))


def make(optimizer, steps, lr, seed):
    card, data = preset_card('laptop', bundled_fashion(), optimizer=optimizer, precision='float32', steps=steps, warmup=steps//10, lr=lr, seed=seed)
    return Run(card, data)


def step_seconds(steps=8):
    "Processor seconds of a step of each optimizer, in turns: the least of several, after two that are not counted."
    walks = {name: make(name, 1000, 1e-3, 0).steps() for name in ('adamw', 'muon')}
    spent = {name: [] for name in walks}
    for _ in range(steps + 2):
        for name, walk in walks.items():
            began = time.process_time()
            next(walk)
            spent[name].append(time.process_time() - began)
    return {name: min(times[2:]) for name, times in spent.items()}


@torch.no_grad()
def held_out(run, batches=20):
    "The weighed loss of the averaged weights on test images; the same batches for every run."
    model, r, test = run.averaged(), run.recipe, bundled_fashion(train=False)
    test, total = Images(test.pixels, test.labels, test.classes, test.name), 0.0
    for k in range(batches):
        x_0, *rest = draw(test, r.__class__(batch=64, label_drop=0, seed=12345), run.sched.T, k)
        losses = targets[r.target][0](model.net, run.sched, (x_0 - run.mean)/run.std, *rest, distance=distances[r.distance])
        total += weights[r.weight](losses, run.sched, rest[0], r.target).mean().item()/batches
    return total


def trained(optimizer, steps, lr, seed):
    run, began = make(optimizer, steps, lr, seed), time.process_time()
    for _ in run.steps(): pass
    spent = time.process_time() - began
    return dict(optimizer=optimizer, lr=lr, seed=seed, steps=steps, train_cpu_seconds=round(spent, 1), loss=torch.stack(run.losses)[-20:].mean().item(), held_out=held_out(run))


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument('--steps', type=int, default=150, help='of Muon')
    parse.add_argument('--out', type=own_table('optimizer,lr,seed'), default='benchmarks/muon_adamw.csv')
    a = parse.parse_args()
    torch.set_num_threads(1)
    rows = read_table(a.out) if a.out.exists() else []
    known = {r['optimizer']: int(r['steps']) for r in rows}
    steps = known if len(known) == 2 else steps_of_each(a.steps)
    def add(*how):
        if any((r['optimizer'], int(r['steps']), float(r['lr']), int(r['seed'])) == how for r in rows): return
        rows.append(trained(*how) | dict(torch=torch.__version__))
        write_table(rows, a.out)
        print(rows[-1], flush=True)
    for name in 'muon', 'adamw':
        for lr in RATES: add(name, steps[name], lr, SEEDS[0])
        tried = [r for r in rows if r['optimizer'] == name and int(r['seed']) == SEEDS[0]]
        best = float(min(tried, key=lambda r: float(r['held_out']))['lr'])
        for seed in SEEDS[1:]: add(name, steps[name], best, seed)
    for r in read_table(a.out): print(r)


if __name__ == '__main__': main()
