"""What each part of a recipe buys in the same processor time: change one thing, train, judge.

    pip install -e ".[judge]"
    python -m benchmarks.ingredients --seconds 300 --out benchmarks/ingredients.csv
    python -m benchmarks.ingredients --now --seconds 300 --out benchmarks/ingredients_now.csv
    python -m benchmarks.ingredients --five --seconds 600 --count 1000 --out benchmarks/five_minutes.csv

Every training learns the 10,000 bundled garments in one process with one thread, until the processor (not the clock) has
spent the given seconds on its steps. 'as it is' is the laptop preset as it was when this began: every time weighed alike,
AdamW, no scaling by the time; trained from three seeds: as far apart as these lie, two rows may lie by chance. All are drawn alike (same seeds, same
labels, DDIM) and judged by KID-Lite0. Other averages of the weights and other ways to draw need no training of their own.
--now begins with the preset as it is today and adds what the literature promises: each once, then those that lie outside
the band of its three seeds from two more seeds (--only NAME --seeds 1 2). Averages are kept beside the run for chosen shares of
it, which is what averages chosen afterwards are rebuilt to be (Karras et al. 2023, section 3). Where noise is assigned to
images the network learns no score, and where labels are set apart no mean: these rows are for this table alone.
Several processes may write to one table, each with trainings of its own: --only times, --only 'batch|target'. On a busy
machine a processor second does less: compare the images seen too.
"""
import argparse
import os
import platform
import re

import torch
from filelock import FileLock

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.dialects import pair_noise
from ddpm_lesson.engine.files import read_table, write_table
from ddpm_lesson.engine.presets import presets
from ddpm_lesson.loss import PredictsV, PredictsX0, ask, targets, v_loss, x_0_loss
from ddpm_lesson.metrics import evaluate, lite0_judge, reference
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.train import Ema, weights

from .measure import own_table
from .same_minutes import preset_run, steps_in, train_for


def spread_out(t, T):
    "One time from each of as many equal parts of 1..T as there are images: each uniform still, all together less by chance. Kingma et al. 2021, appendix I.1."
    return ((torch.arange(len(t)) + (t - 0.5).double()/T)*T/len(t)).floor().long() + 1


def bell(t, T):
    "Times whose logit is standard normal: those in the middle more often. Esser et al. 2024, section 3.1."
    return (torch.special.ndtri((t - 0.5).double()/T).sigmoid()*T).floor().long() + 1


def v_at(times):
    return lambda net, sched, x_0, t, eps, *labels, distance: v_loss(net, sched, x_0, times(t, sched.T), eps, *labels, distance=distance)


def immiscible(net, sched, x_0, t, eps, *labels, distance):
    "The batch's noise dealt out anew. Li et al. 2024 (Immiscible Diffusion), here by the sum of squares."
    return x_0_loss(net, sched, x_0, t, pair_noise(x_0, eps), *labels, distance=distance)


def set_apart(net, sched, x_0, t, eps, labels, *, distance, share=0.05):
    "Near its own image, far from the next image of another label in the batch. Stoica et al. 2025 (Contrastive Flow Matching), here for the image."
    said, order = ask(net, sched, x_0, t, eps, (labels,)), torch.arange(len(x_0))
    other = (labels[:, None] != labels) & (order != order[:, None])
    turn = (order - order[:, None])%len(x_0)
    pick = torch.where(other, turn, len(x_0)).argmin(1)
    return distance(said, x_0) - share*distance(said, x_0[pick])*other.any(1)


# targets of this table alone
SPREAD = {'v, spread': (v_at(spread_out), PredictsV), 'v, bell': (v_at(bell), PredictsV),
          'x_0, immiscible': (immiscible, PredictsX0), 'x_0, set apart': (set_apart, PredictsX0)}
AS_X_0 = {'min_snr, as x_0': lambda losses, sched, t, target: weights['min_snr'](losses, sched, t, 'x_0')}

class LastShare(Ema):
    "An average whose mean age is one share of the run, however long: weights k^g. Karras et al. 2023, section 3 (who name its width)."
    def __init__(self, net, share):
        super().__init__(net)
        self.power = 1/share - 2

    def share(self, step):
        return 1 - (step/(step + 1))**(self.power + 1)


BASE = dict(target='v', weight='uniform', optimizer='adamw', scale_shift=False)  # what the laptop preset was when this began
NOW = {name: presets['laptop'][name] for name in BASE}
TRAININGS = [  # (part of the recipe, what it is here, how it differs from the preset)
    ('as it is', 'seed 0', {}), ('as it is', 'seed 1', dict(seed=1)), ('as it is', 'seed 2', dict(seed=2)),
    ('network', 'folded 2x2, width 32', dict(patch=2, width=32, mults='1,2,4', attend='2')),
    ('batch', '64', dict(batch=64)),
    ('weight', 'min-SNR', dict(weight='min_snr')),
    ('gradient', 'not clipped', dict(clip_grad=0)),
    ('times', 'bell', dict(target='v, bell')),
    ('target', 'eps', dict(target='eps')),
    ('times', 'spread out', dict(target='v, spread')),
    ('weight', 'min-SNR, seed 1', dict(weight='min_snr', seed=1)),
    ('network', 'time scales, too', dict(scale_shift=True)),
    ('optimizer', 'Muon', dict(optimizer='muon')),
    ('together', 'min-SNR, time scales, Muon', NOW | dict(target='v')),
    ('target', 'x_0, with min-SNR', dict(target='x_0', weight='min_snr')),
    ('together', 'all three, and x_0', NOW),
]
SINCE = [  # the same, beside the preset as it is today
    ('as it is', 'seed 0', {}), ('as it is', 'seed 1', dict(seed=1)), ('as it is', 'seed 2', dict(seed=2)),
    ('dropout', '0.1', dict(dropout=0.1)),
    ('images', 'mirrored, too', dict(flip=True)),
    ('noise', 'assigned in the batch', dict(target='x_0, immiscible', weight='min_snr, as x_0')),
    ('labels', 'set apart', dict(target='x_0, set apart', weight='min_snr, as x_0')),
    ('network', 'width 24, fewer levels of channels', dict(width=24, mults='1,2,3,4')),
    ('network', 'two blocks, wide at the finest level', dict(blocks=2, mults='2,2,4,6')),
    ('network', 'no attention', dict(attend='')),
    ('network', 'attention at two levels', dict(attend='2,3')),
    ('batch', '32', dict(batch=32)),
]
AVERAGES = {'none': lambda net: Ema(net, 0.0), 'memory of 100 steps': lambda net: Ema(net, 0.99), 'memory of 10,000 steps': lambda net: Ema(net, 0.9999)}
SHARES = {f'the last {share:.0%}': lambda net, share=share: LastShare(net, share) for share in (0.03, 0.05, 0.2, 0.33)}
DRAWN = {'guidance 2, half the steps': dict(guidance=2.0, steps=12), 'guidance 3, half the steps': dict(guidance=3.0, steps=12), 'guidance 2': dict(guidance=2.0),
         'eta 1': dict(eta=1.0), 'not clipped': dict(clip=None), 'twice the steps': dict(steps=50)}


def training(changes, data, seconds):
    make = lambda steps: preset_run('laptop', data, **changes, steps=steps, warmup=max(1, steps//10))  # a tenth of the steps, as in the preset
    return make(steps_in(make, seconds))


def with_weights(run, ema):
    "The run's model with the weights of another average."
    kept, run.ema = run.ema, ema
    try: return run.averaged()
    finally: run.ema = kept


def judged(run, model, ref, count, steps=25, eta=0.0, **how):
    labels = torch.arange(count) % 10 if run.card['network']['classes'] else None
    return evaluate(model, run.sched, ref, n=count, steps=steps, labels=labels, batch=50, sampler=lambda *a, **kw: ddim_sample(*a, eta=eta, **kw), **how)


def row(part, here, run, spent, r):
    return dict(part=part, here=here, KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'], loss=torch.stack(run.losses[-200:]).mean().item(), parameters=sum(p.numel() for p in run.net.parameters()),
                steps=len(run.losses), images=len(run.losses)*run.recipe.batch, train_cpu_seconds=round(spent), N=r['N'], NFE=r['NFE'], judge=r['judge'],
                threads=torch.get_num_threads(), machine=f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores', torch=torch.__version__)


def add(rows, path):
    "Rows put below those that are there, though another process may do the same."
    with FileLock(f'{path}.lock'): write_table((read_table(path) if path.exists() else []) + rows, path)
    for r in rows: print(f"{r['part']:14} {r['here']:30} KID {r['KID']:.3f} +- {r['interval']:.3f}  loss {r['loss']:.4f}  {r['images']:,} images", flush=True)


def trained(changes, data, seconds, averages):
    "A run, the averages kept beside its own, and the seconds it took."
    run = training(changes, data, seconds)
    beside, own = {name: make(run.net) for name, make in averages.items()}, run.ema.update
    def update(net, step):
        own(net, step)
        for ema in beside.values(): ema.update(net, step)
    run.ema.update = update
    return run, beside, train_for(run, seconds)


def wanted(a):
    "(part, what it is here, changes) of the trainings asked for."
    base, table = ({}, SINCE) if a.now else (BASE, TRAININGS)
    chosen = [(part, here, base | changes) for part, here, changes in table if re.search(a.only, f'{part}: {here}')]
    if not a.seeds: return chosen
    return [(part, f'{here}, seed {seed}', changes | dict(seed=seed)) for seed in a.seeds for part, here, changes in chosen]


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument('--seconds', type=float, default=300, help='processor seconds of training')
    say.add_argument('--count', type=int, default=300, help='samples')
    say.add_argument('--only', default='', help='trainings whose part or name contains this; several with | between')
    say.add_argument('--now', action='store_true', help='instead: what may be added to the preset as it is now')
    say.add_argument('--seeds', type=int, nargs='*', default=[], help='train the chosen ones from these seeds')
    say.add_argument('--five', action='store_true', help='instead: the preset as it is now, drawn as its card says')
    say.add_argument('--out', type=own_table('part,here,KID'), default='benchmarks/ingredients.csv')
    a = say.parse_args()
    torch.set_num_threads(1)
    targets.update(SPREAD)
    weights.update(AS_X_0)
    data = bundled_fashion()
    ref = reference(bundled_fashion(train=False), lite0_judge(), other=data)
    if a.five:
        run, _, spent = trained(BASE | NOW, data, a.seconds, {})
        return add([row('preset', 'as it is now', run, spent, judged(run, run.averaged(), ref, a.count, **run.card['sample']))], a.out)
    for part, here, changes in wanted(a):
        if a.out.exists() and any((r['part'], str(r['here'])) == (part, here) for r in read_table(a.out)): continue
        more = part == 'as it is' and 'seed' not in changes
        run, beside, spent = trained(changes, data, a.seconds, (SHARES if a.now else AVERAGES) if more else {})
        look = lambda model, **how: judged(run, model, ref, a.count, **how)
        add([row(part, here, run, spent, look(run.averaged()))], a.out)
        for name, ema in beside.items(): add([row('average', name, run, spent, look(with_weights(run, ema)))], a.out)
        for name, how in DRAWN.items() if more and not a.now else (): add([row('drawing', name, run, spent, look(run.averaged(), **how))], a.out)


if __name__ == '__main__': main()
