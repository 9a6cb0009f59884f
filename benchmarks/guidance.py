"""Quality against variety: guidance over its scale, in an interval of steps, and away from a weaker network, on the shipped garments.

    pip install -e ".[judge]"
    python -m benchmarks.guidance --out benchmarks/guidance.csv

Every row draws the same number of garments of each class with the same seeds. Quality is KID-Lite0 against the 2,000 test garments (lower is
better), with the interval of `kid_interval`: for which samples were drawn, not for another training. Variety is the mean distance of two
samples of one class in the judge's features, over that of two real ones. `obeyed` is the share of samples whose nearest test garment has the
label that was asked for (of real ones: whose nearest other one has their label). The weak network is a smaller one (width 8), trained here for a few hundred steps from one seed; it is not shipped.

A weak network of your own, here the shipped one with a thirtieth of its training, adds its rows (what is in the table is not drawn again):

    ddpm_lesson train --preset laptop --batch 32 --steps 600 --warmup 60 --ema-decay 0.99 --half --folder runs/weak
    python -m benchmarks.guidance --weak runs/weak --out benchmarks/guidance.csv
"""
import argparse
from dataclasses import fields

import torch

from ddpm_lesson.data import bundled_fashion, to_pixels
from ddpm_lesson.engine.cards import build
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.guidance import Autoguided, Guided, Labelled
from ddpm_lesson.metrics import Counted, features, kid_interval, lite0_judge
from ddpm_lesson.pretrained import load_card, load_pretrained
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.train import Recipe, fit

from .measure import own_table


def weak_network(card, steps):
    "A smaller network of the same kind, trained for a short time from seed 0; with its schedule inside."
    torch.manual_seed(0)
    model, sched = build(card | {'network': card['network'] | {'width': 8}})
    known = {f.name for f in fields(Recipe)}
    recipe = Recipe(**{k: v for k, v in card['recipe'].items() if k in known} | {'steps': steps, 'warmup': steps//10, 'optimizer': 'adamw', 'ema_decay': 0.99})
    model.net, losses = fit(model.net, sched, bundled_fashion(), recipe)
    print(f'weak network: {steps} steps, loss {losses[-50:].mean():.4f}', flush=True)
    return model.eval()


def variety(rows, labels):
    "Mean distance of two rows of one label."
    return torch.stack([torch.nn.functional.pdist(rows[labels == k]).mean() for k in labels.unique()]).mean().item()


def away_from(weak, name):
    "The weak network alone, then autoguidance."
    yield f'{name}, alone', 1.0, None, lambda m, y: Labelled(weak, y)
    for w in 1.5, 2.0, 3.0: yield name, w, None, lambda m, y, w=w: Autoguided(Labelled(m, y), Labelled(weak, y), w)


def settings():
    "name, scale, interval, how the labelled model is pushed."
    for w in 1.0, 1.5, 2.0, 3.0, 4.0: yield 'without labels', w, None, lambda m, y, w=w: Labelled(m, y) if w == 1 else Guided(m, y, w)
    for low, high in (701, 1000), (201, 700), (1, 200):
        yield 'without labels', 3.0, (low, high), lambda m, y, b=(low, high): Guided(m, y, 3.0, between=b)


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument('--out', type=own_table('away_from,'), required=True)
    ask.add_argument('--count', type=int, default=300, help='garments a row')
    ask.add_argument('--steps', type=int, default=10)
    ask.add_argument('--weak-steps', type=int, default=500)
    ask.add_argument('--weak', help='folder of a run: measure this weak network alone')
    told = ask.parse_args()
    torch.set_num_threads(1)
    judge, card, (model, sched) = lite0_judge(), load_card('fashion'), load_pretrained('fashion')
    test = bundled_fashion(train=False)
    real = features(judge, test.pixels)
    apart = torch.cdist(real, real).fill_diagonal_(torch.inf)
    of_real = variety(real, test.labels)
    y = torch.arange(told.count) % 10
    rows = read_table(told.out) if told.out.exists() else []
    if not rows: rows.append({'away_from': 'real images', 'variety': 1.0, 'obeyed': (test.labels[apart.argmin(1)] == test.labels).double().mean().item()})
    if told.weak: wanted = away_from(load_pretrained(told.weak)[0], 'same network, trained less')
    else: wanted = [*settings(), *away_from(weak_network(card, told.weak_steps), 'weak network')]
    for name, w, between, push in wanted:
        if any((r['away_from'], r.get('w'), r.get('low')) == (name, w, between[0] if between else None) for r in rows): continue
        counted, images = Counted(model), []
        for part in range(0, told.count, 100):
            some = slice(part, part + 100)
            x = ddim_sample(push(counted, y[some]), sched, (len(y[some]), 1, 28, 28), steps=told.steps, clip=(-1, 1), seeds=range(told.count)[some])
            images.append(to_pixels(x))
        seen = features(judge, torch.cat(images))
        kid, half = kid_interval(seen, real)
        where = dict(zip(('low', 'high'), between or ()))
        rows.append({'away_from': name, 'w': w, **where, 'kid': kid, 'half': half, 'variety': variety(seen, y)/of_real,
                     'obeyed': (test.labels[torch.cdist(seen, real).argmin(1)] == y).double().mean().item(),
                     'calls': counted.seen/told.count, 'count': told.count, 'steps': told.steps, 'judge': 'Lite0 at 96 px'})
        print(rows[-1], flush=True)
        write_table(rows, told.out)


if __name__ == '__main__': main()
