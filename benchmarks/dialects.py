"""Five dialects, the same number of steps: noise, image, velocity, flow matching and EDM, each with its own loss and levels, on one network.

    python -m benchmarks.dialects --out benchmarks/dialects.csv --tuning benchmarks/dialects_tuning.csv

Every training is that of one small U-Net on the 10,000 bundled garments. All have one table of noise levels, the cosine schedule, one
optimizer, batch and average of weights; a step costs the same in each. A dialect decides what the network sees and is asked for, and how often
each level is shown: eps, x_0 and v the steps evenly; flow its time evenly; edm the normal law of log sigma of its paper. All are sampled by our
DDIM with the same seeds.

First every dialect has the same number of equally long trials, one for each learning rate of a grid, from a seed of their own. What decides is
not its own loss but one number for all: the squared error of its x_0_hat on held-out garments, as a geometric mean over fixed noise levels, so
that each level counts as much in relative terms. Then it trains longer with the rate that won, from three other seeds. The sampler, the cosine
table and the clamp are those of DDPM's dialect. What is in the two tables is not run again.
"""
import argparse
import copy
import math
from itertools import product

import torch

from ddpm_lesson.data import Images, bundled_fashion, to_pixels, to_unit
from ddpm_lesson.dialects import PredictsEdm, PredictsFlow, edm_loss, flow_loss, nearest_step
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.loss import targets
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.train import Ema, Recipe, adamw, draw, generator, learning_rate
from ddpm_lesson.unet import UNet

from .measure import own_table

SCHED = cosine_schedule()


def evenly(n, g): return torch.randint(1, SCHED.T + 1, (n,), generator=g)


def by_flow_time(n, g):
    tau = torch.rand(n, generator=g, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return nearest_step(SCHED, tau/(1 - tau))


def by_log_normal(n, g): return nearest_step(SCHED, (-1.2 + 1.2*torch.randn(n, generator=g, dtype=torch.float64)).exp())


# name -> (loss, wrapper, law of the steps shown)
DIALECTS = {name: (*targets[name], evenly) for name in ('eps', 'x_0', 'v')} | dict(flow=(flow_loss, PredictsFlow, by_flow_time), edm=(edm_loss, PredictsEdm, by_log_normal))


RATES = 1e-3, 2e-3, 4e-3, 8e-3
LEVELS = 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8   # sigma of the held-out error


def trained(name, seed, data, steps, lr):
    "The wrapped network with averaged weights."
    loss, wrapper, law = DIALECTS[name]
    torch.manual_seed(seed)
    net = UNet(channels=1, width=16, mults=(1, 2, 4), attend=(), classes=0, blocks=1, patch=2)
    recipe = Recipe(steps=steps, batch=32, lr=lr, warmup=30, ema_decay=0.98, seed=seed)
    opt, ema = adamw(list(net.parameters()), recipe), Ema(net, recipe.ema_decay)
    for step in range(steps):
        for group in opt.param_groups: group['lr'] = learning_rate(step, recipe)
        batch = draw(data, recipe, SCHED.T, step)
        t = law(recipe.batch, generator(seed, 9, step))
        loss(net, SCHED, batch.x_0, t, batch.eps).mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_grad)
        opt.step()
        opt.zero_grad()
        ema.update(net, step)
    return wrapper(ema.copy_to(copy.deepcopy(net)).eval(), SCHED)


@torch.no_grad()
def errors(model, x_0):
    "Mean squared error of x_0_hat at each level, with the same noise for all."
    steps, found = nearest_step(SCHED, torch.tensor(LEVELS, dtype=torch.float64)), []
    for i, t in enumerate(steps):
        eps, ab = torch.randn(x_0.shape, generator=generator(0, 11, i)), SCHED.alpha_bar[t]
        x_t = ab.sqrt()*x_0 + (1 - ab).sqrt()*eps
        x_0_hat = (x_t - (1 - ab).sqrt()*model(x_t.float(), t.expand(len(x_0))))/ab.sqrt()
        found.append((x_0_hat - x_0).square().mean().item())
    return found


def told(name, seed, lr, steps, found):
    middle = math.exp(sum(map(math.log, found))/len(found))
    return dict(dialect=name, seed=seed, lr=lr, steps=steps, batch=32, error=middle) | {f'sigma {s:g}': e for s, e in zip(LEVELS, found)}


def row(name, seed, lr, data, ref, held_out, steps, count, calls):
    model = trained(name, seed, data, steps, lr)
    r = evaluate_samples(to_pixels(drawn(model, count, calls)), ref)
    return told(name, seed, lr, steps, errors(model, held_out)) | dict(
        KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'], N=count, NFE=calls, judge=r['judge'],
        parameters=sum(p.numel() for p in model.parameters()), torch=torch.__version__)


def best_rates(tried):
    "dialect -> the rate whose error is smallest."
    return {name: min((r for r in tried if r['dialect'] == name), key=lambda r: r['error'])['lr'] for name in DIALECTS}


def drawn(model, count, calls, batch=50):
    "Samples of the same seeds for every dialect."
    return torch.cat([ddim_sample(model, SCHED, (len(seeds), 1, 28, 28), steps=calls, clip=(-1, 1), seeds=seeds)
                      for seeds in (range(i, min(i + batch, count)) for i in range(0, count, batch))])


def add(rows, path, keys, wanted, make):
    "Rows for the wanted keys that the table lacks; it is written after each."
    for key in wanted:
        if any(tuple(r[k] for k in keys) == key for r in rows): continue
        rows.append(make(*key))
        write_table(rows, path)
        print({k: rows[-1].get(k) for k in ('dialect', 'seed', 'lr', 'error', 'KID')}, flush=True)
    return rows


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument('--trial-steps', type=int, default=250)
    say.add_argument('--steps', type=int, default=1000)
    say.add_argument('--count', type=int, default=200, help='samples')
    say.add_argument('--calls', type=int, default=25, help='network calls a sample')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each dialect')
    say.add_argument('--out', type=own_table('dialect,seed,lr'), default='benchmarks/dialects.csv')
    say.add_argument('--tuning', type=own_table('dialect,seed,lr'), default='benchmarks/dialects_tuning.csv')
    a = say.parse_args()
    torch.set_num_threads(1)
    data, test = Images(bundled_fashion().pixels, name='fashion'), bundled_fashion(train=False)  # without labels
    held_out = to_unit(test.pixels[:200])
    kept = [read_table(path) if path.exists() else [] for path in (a.tuning, a.out)]
    tried = add(kept[0], a.tuning, ('dialect', 'lr'), product(DIALECTS, RATES),
                lambda name, lr: told(name, 100, lr, a.trial_steps, errors(trained(name, 100, data, a.trial_steps, lr), held_out)))
    best, ref = best_rates(tried), reference(test, lite0_judge(), other=bundled_fashion())
    print(best, flush=True)
    add(kept[1], a.out, ('seed', 'dialect'), product(range(a.seeds), DIALECTS),
        lambda seed, name: row(name, seed, best[name], data, ref, held_out, a.steps, a.count, a.calls))


if __name__ == '__main__': main()
