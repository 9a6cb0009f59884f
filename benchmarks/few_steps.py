"""One, two and four calls at the same processor time: three ways to teach a student what the shipped garments network does in many.

    pip install -e ".[judge]"
    python -m benchmarks.few_steps --seconds 130 --out benchmarks/few_steps.csv
    python -m benchmarks.few_steps --ship fashion-fast.safetensors --seconds 1300

One thread. Every student begins as a copy of the teacher, `load_pretrained('fashion')`, and learns on the 10,000 bundled garments until the
processor (not the clock) has spent the given seconds on it, the teacher's calls included.

- progressive: 8 steps learn from 16 of the teacher, two in one; then 4 from those 8, 2 from 4, 1 from 2, a quarter of the time each.
- consistency: one network for any number of calls; its answer at a step learns from its answer at the next lower one of 20, to which the
  teacher leads. Drawn by `consistency_sample`.
- stored: a quarter of the time, the teacher draws by 2M in 20 calls and keeps its ways; then 4 steps learn where each quarter of a way
  leads, 2 steps each half, 1 step the end.

Image i of training k is drawn from seed 1000 k + i with label i mod 10 and clip (-1, 1). Interrupted, the same call goes on with what is missing.
With --ship, `stored` for 4 steps alone, kept as weights with their card.
"""
import argparse
import copy
import math
import os
import platform
import time

import torch
from torch import nn

from ddpm_lesson.data import bundled_fashion, to_pixels, to_unit
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.engine.safety import versions
from ddpm_lesson.few_steps import consistency_loss, consistency_sample, ddim_jump, distill_loss
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.loss import mean_square
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference
from ddpm_lesson.pretrained import load_card, load_pretrained, save_model
from ddpm_lesson.sampler import ddim_sample, trailing
from ddpm_lesson.solvers import dpm_solver_sample, dpm_solver_steps
from ddpm_lesson.train import Ema, Recipe, adamw, generator

from .measure import beside, own_table

CLIP, CLASSES, WAYS = (-1, 1), 10, 20  # of a way: the teacher's calls
RECIPE = Recipe(target='x_0', steps=10**9, batch=64, lr=1e-3, warmup=20, ema_decay=0.99)
SAMPLERS = dict(progressive=ddim_sample, stored=ddim_sample, consistency=consistency_sample)


def ladder(T, S): return torch.tensor([*trailing(T, S), 0])


def shown(data, seed, step, n):
    "Images, labels of which a tenth is dropped, noise, and a generator for the rest."
    g = generator(seed, 19, step)
    i = torch.randint(len(data), (n,), generator=g)
    y = data.labels[i].masked_fill(torch.rand(n, generator=g) < RECIPE.label_drop, CLASSES)
    x_0 = to_unit(data.pixels[i])
    return x_0, y, torch.randn(x_0.shape, generator=g), g


def rungs(S, n, g):
    "For each image a rung of a ladder with S of them."
    return torch.randint(S, (n,), generator=g)


class Clock:
    "Processor seconds since it was made."
    def __init__(self): self.began = time.process_time()
    def __call__(self): return time.process_time() - self.began


def taught(student, losses, seconds, recipe=RECIPE):
    "A copy of the student after so many processor seconds, with averaged weights; `losses` is (student, step) -> (B,)."
    student = copy.deepcopy(student)
    opt, ema, clock, step = adamw(list(student.net.parameters()), recipe), Ema(student.net, recipe.ema_decay), Clock(), 0
    while (spent := clock()) < seconds:
        for group in opt.param_groups:
            group['lr'] = recipe.lr*min(1, (step + 1)/recipe.warmup)*(1 + math.cos(math.pi*spent/seconds))/2
        with torch.autocast('cpu', torch.bfloat16): loss = losses(student, step).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(student.net.parameters(), recipe.clip_grad)
        opt.step()
        opt.zero_grad()
        ema.update(student.net, step)
        step += 1
    ema.copy_to(student.net)
    return student, step


def halved(teacher, sched, data, S, seed):
    "Losses of S steps that learn from 2 S of the teacher."
    fine = ladder(sched.T, 2*S)
    def losses(student, step):
        x_0, y, eps, g = shown(data, seed, step, RECIPE.batch)
        i = 2*rungs(S, len(x_0), g)
        losses = distill_loss(student, teacher, sched, x_0, fine[i], fine[i + 1], fine[i + 2], eps, y, clip=CLIP)
        return losses*sched.snr[fine[i]].clamp(min=1).float()   # the paper's weight, for an error of x_0
    return losses


def progressive(teacher, sched, data, seed, seconds):
    for S in (8, 4, 2, 1):
        teacher, steps = taught(teacher, halved(teacher, sched, data, S, seed), seconds/4)
        yield S, teacher, steps


def consistency(teacher, sched, data, seed, seconds):
    rung = ladder(sched.T, WAYS)
    def losses(student, step):
        x_0, y, eps, g = shown(data, seed, step, RECIPE.batch)
        i = rungs(WAYS, len(x_0), g)
        return consistency_loss(student, sched, x_0, rung[i], rung[i + 1], eps, y, teacher=teacher, clip=CLIP)
    student, steps = taught(teacher, losses, seconds)
    for S in (4, 2, 1): yield S, student, steps


def ways(teacher, sched, data, seed, seconds, keep=4, n=64):
    "What the teacher draws from noise in `seconds`: labels (N,), and (N, keep + 1, C, H, W) of each way, noise first."
    clock, kept, labels = Clock(), [], []
    every = WAYS//keep
    while clock() < seconds:
        _, y, _, _ = shown(data, seed, -1 - len(kept), n)
        first = 10**6*(seed + 1) + n*len(kept)   # not those that are judged
        ask = lambda x_t, t: teacher(x_t, t, y)
        with torch.autocast('cpu', torch.bfloat16):
            way = [x_t.half() for _, x_t, _ in dpm_solver_steps(ask, sched, (n, 1, 28, 28), steps=WAYS, clip=CLIP, seeds=range(first, first + n))]
        kept.append(torch.stack(way[::every], 1))
        labels.append(y)
    return torch.cat(labels), torch.cat(kept)


def led(sched, labels, kept, S, seed):
    "Losses of S steps that learn where stored ways lead."
    rung, every = ladder(sched.T, S), (kept.shape[1] - 1)//S
    def losses(student, step):
        g = generator(seed, 20, step)
        k, i = torch.randint(len(kept), (RECIPE.batch,), generator=g), rungs(S, RECIPE.batch, g)
        x_t, x_s = kept[k, every*i].float(), kept[k, every*(i + 1)].float()
        landed = ddim_jump(sched, x_t, student.x_0_hat(x_t, rung[i], labels[k]), rung[i], rung[i + 1])
        return mean_square(landed, x_s)
    return losses


def stored(teacher, sched, data, seed, seconds):
    student, (labels, kept) = teacher, ways(teacher, sched, data, seed, seconds/4)
    for S in (4, 2, 1):
        student, steps = taught(student, led(sched, labels, kept, S, seed), seconds/4)
        yield S, student, steps


METHODS = dict(progressive=progressive, stored=stored, consistency=consistency)


@torch.no_grad()
def drawn(sampler, model, sched, calls, seed, count, n=50):
    "Samples of the same seeds and labels for all, as bytes."
    def some(i): return sampler(Labelled(model, torch.tensor(i) % CLASSES), sched, (len(i), 1, 28, 28), steps=calls, clip=CLIP, seeds=[1000*seed + k for k in i])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))   # no block of the interval holds labels in order
    return to_pixels(torch.cat([some(list(range(i, min(i + n, count)))) for i in range(0, count, n)]))[order]


def judged(method, calls, seed, images, ref, spent, steps):
    r = evaluate_samples(images, ref)
    return dict(method=method, calls=calls, seed=seed, KID=round(r['KID'], 5), interval=round(r['KID interval'], 5), floor=round(r['floor KID'], 5),
                train_cpu_seconds=round(spent), steps=steps, batch=RECIPE.batch, N=len(images), judge=r['judge'], threads=torch.get_num_threads(),
                machine=f'{platform.machine()}, {os.cpu_count()} cores', torch=torch.__version__)


def compare(a):
    (teacher, sched), data = load_pretrained('fashion'), bundled_fashion()
    rows = read_table(a.out) if a.out.exists() else []
    ref = reference(bundled_fashion(train=False), lite0_judge(), other=data)
    missing = lambda method, seed: not any((r['method'], int(r['seed'])) == (method, seed) for r in rows)
    def keep(*new):
        rows.extend(new)
        write_table(rows, a.out)
        for r in new: print({k: r[k] for k in ('method', 'calls', 'seed', 'KID', 'interval', 'train_cpu_seconds', 'steps')}, flush=True)
    teachers = {'teacher, DDIM': (ddim_sample, (10, 4, 2, 1)), 'teacher, 2M': (dpm_solver_sample, (10, 4))}
    for seed in range(a.seeds):
        for method, make in METHODS.items():
            if not missing(method, seed): continue
            new, clock = [], Clock()
            for S, student, steps in make(teacher, sched, data, seed, a.seconds):
                spent = clock()
                if S <= 4: new.append(judged(method, S, seed, drawn(SAMPLERS[method], student, sched, S, seed, a.count), ref, spent, steps))
                clock.began += clock() - spent   # drawing and judging do not count
            keep(*new)
        for method, (sampler, counts) in teachers.items():
            if missing(method, seed): keep(*(judged(method, S, seed, drawn(sampler, teacher, sched, S, seed, a.count), ref, 0, 0) for S in counts))


def ship(a, S=4):
    "Train `stored` for S steps alone, a fifth of the time drawing; judge it, and keep it."
    (teacher, sched), data, card = load_pretrained('fashion'), bundled_fashion(), load_card('fashion')
    began, clock = time.monotonic(), Clock()
    labels, kept = ways(teacher, sched, data, a.seed, a.seconds*a.drawing)
    print(f'{len(labels):,} ways', flush=True)
    recipe = Recipe(**vars(RECIPE) | dict(lr=a.lr, ema_decay=0.998, warmup=100))
    student, steps = taught(teacher, led(sched, labels, kept, S, a.seed), a.seconds - clock(), recipe)
    recipe = Recipe(**vars(recipe) | dict(steps=steps, precision='bf16', seed=a.seed))
    made = dict(command=f'python -m benchmarks.few_steps --ship {a.ship.name} --seconds {a.seconds:g}', taught_by='fashion', ways=len(labels),
                seconds=round(time.monotonic() - began), hardware=f'{platform.machine()} cpu, {torch.get_num_threads()} thread', precision='bf16') | versions()
    card = {k: v for k, v in card.items() if k not in ('quality', 'made')} | dict(recipe=vars(recipe), sample=dict(steps=S, guidance=1.0), made=made)
    save_model(a.ship, student.net, card, half=True)
    model, _ = load_pretrained(a.ship)
    ref = reference(bundled_fashion(train=False), lite0_judge(), other=data)
    for n in (S, 2, 1):
        r = judged('fashion-fast', n, 0, drawn(ddim_sample, model, sched, n, 0, a.count), ref, clock(), steps)
        print(r, flush=True)
        if n == S: quality = {'KID-Lite0': round(r['KID'], 4), 'interval': round(r['interval'], 4), 'floor (real images)': round(r['floor'], 4), 'samples': a.count, 'network calls': S, 'against': '2,000 test images'}
    save_model(a.ship, student.net, card | dict(quality=quality), half=True)


def main():
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument('--seconds', type=float, default=130, help='processor seconds of each training')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each method')
    say.add_argument('--count', type=int, default=500, help='images judged')
    say.add_argument('--out', type=own_table('method,calls,seed'), default='benchmarks/few_steps.csv')
    say.add_argument('--ship', type=beside, help='instead: train one for 4 calls, and keep it here')
    say.add_argument('--seed', type=int, default=0, help='of that one')
    say.add_argument('--lr', type=float, default=RECIPE.lr, help='of that one')
    say.add_argument('--drawing', type=float, default=0.25, help="of that one: the teacher's share of the time")
    a = say.parse_args()
    torch.set_num_threads(1)
    (ship if a.ship else compare)(a)


if __name__ == '__main__': main()
