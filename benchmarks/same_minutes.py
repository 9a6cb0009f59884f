"""Same images, same processor time: ours, the two published systems, and two well-known small networks; who is nearest to real images?

    pip install -e ".[judge]" diffusers
    pip install --no-deps denoising-diffusion-pytorch ema-pytorch accelerate pytorch-fid
    python -m benchmarks.same_minutes --seconds 600 --out benchmarks/same_minutes.csv

Every row trains, from one seed, on the 10,000 bundled garments, in one process with one thread, until the processor (not the clock) has
spent the given seconds on training steps. Each network has its author's loss, schedule, optimizer and batch. All are
sampled alike: the same count, seeds and number of DDIM calls by our sampler, no labels, and judged by KID-Lite0.
The peers' batch, optimizer and schedule are those of the named source: setting `published`.

With --trial 45 each system, ours too, is first tuned alike: every setting of `SETTINGS` is trained for so many seconds
from a seed of its own, and the one with the smallest loss on test images (the system's own loss: KID cannot tell beginners
apart) is then trained from all seeds for the full time, if it is not the published one.
"""
import argparse
import os
import platform
import time
from dataclasses import replace

import torch

from ddpm_lesson.data import Images, bundled_fashion, to_pixels, to_unit
from ddpm_lesson.engine.files import read_table, save_png, sheet, write_table
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.published import grown
from ddpm_lesson.engine.run import Run, make_card
from ddpm_lesson.loss import targets
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, reference
from ddpm_lesson.pretrained import draw_as_card
from ddpm_lesson.schedule import linear_schedule, schedule_from_alpha_bar
from ddpm_lesson.train import Recipe, weights

from .measure import beside, own_table


class Foreign(torch.nn.Module):
    "Somebody else's network under our contract: steps count from 1, sides are grown to what it can halve."
    def __init__(self, net, multiple, call):
        super().__init__()
        self.net, self.multiple, self.call = net, multiple, call

    def forward(self, x, t):
        big, cut = grown(x, self.multiple)
        return cut(self.call(self.net, big, t - 1))


def course_network():
    "Hugging Face diffusion course, unit 1, notebook 02: the UNet2DModel of 1.7 million parameters, DDPMScheduler, Adam 1e-3, batch 128."
    from diffusers import UNet2DModel
    net = UNet2DModel(sample_size=28, in_channels=1, out_channels=1, layers_per_block=2, block_out_channels=(32, 64, 64),
                      down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D'), up_block_types=('AttnUpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'))
    recipe = Recipe(target='eps', steps=10**6, batch=128, lr=1e-3, warmup=0, decay=False, weight_decay=0, beta_2=0.999, clip_grad=0, ema_decay=0)
    return Foreign(net, 4, lambda net, x, t: net(x, t).sample), recipe, linear_schedule()


def lucid_network(dim):
    "lucidrains' denoising-diffusion-pytorch: Unet(dim), pred_v weighed by snr/(1 + snr), sigmoid schedule, Adam 8e-5, two batches of 32 a step, EMA 0.995, as its README and Trainer have them."
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    weights.setdefault('alpha_bar', lambda losses, sched, t, target: losses*sched.alpha_bar[t].to(losses))  # snr/(1 + snr)
    net = Unet(dim, dim_mults=(1, 2, 4, 8), channels=1)
    theirs = GaussianDiffusion(net, image_size=32, timesteps=1000)
    sched = schedule_from_alpha_bar(torch.cat([torch.ones(1, dtype=torch.float64), theirs.alphas_cumprod.double()]))
    recipe = Recipe(target='v', weight='alpha_bar', steps=10**6, batch=2*32, lr=8e-5, warmup=0, decay=False, weight_decay=0, beta_2=0.99, clip_grad=1, ema_decay=0.995)
    return Foreign(net, 8, lambda net, x, t: net(x, t)), recipe, sched


def foreign_run(net, recipe, sched, data, seed=0, **changes):
    "A `Run` of somebody else's network on their schedule, without labels."
    recipe, data = replace(recipe, seed=seed, precision='float32', **changes), Images(data.pixels, name=data.name)
    network = dict(kind='own', name=type(net).__name__, channels=data.pixels.shape[1], classes=0)
    return Run(make_card(network, recipe, sched, data=data.name), data, net=net)


def preset_run(name, data, **changes):
    card, data = preset_card(name, data, **dict(precision='float32') | changes)
    return Run(card, data)


def steps_in(make, seconds):
    "How many steps fit: measured on a throw-away run, so that a learning rate that decays ends with the time."
    walk = make(11).steps()
    next(walk)
    began = time.process_time()
    for _ in range(10): next(walk)
    return max(2, round(seconds/((time.process_time() - began)/10)))


def ours(data, seconds, seed, **changes):
    make = lambda steps: preset_run('laptop', data, labels=False, seed=seed, steps=steps, warmup=max(1, steps//10), **changes)  # a tenth of the steps, as in the preset
    return make(steps_in(make, seconds))


def published(preset):
    return lambda data, seconds, seed, **changes: preset_run(preset, data, seed=seed, steps=10**6, **changes)


def foreign(make, *args):
    return lambda data, seconds, seed, **changes: foreign_run(*make(*args), data, seed, **changes)


SYSTEMS = {
    'ours (laptop preset)': ours,
    'S1 (posit-ddim)': published('posit-ddim'),
    'S2 (hackernoon-ddpm)': published('hackernoon-ddpm'),
    'Hugging Face course (1.7 M)': foreign(course_network),
    'lucidrains (dim 32)': foreign(lucid_network, 32),
}
# the same for everybody: batch and highest learning rate
SETTINGS = {'published': {}} | {f'batch 16, rate {lr:g}': dict(batch=16, lr=lr) for lr in (2e-4, 6e-4, 2e-3)}
TRIAL_SEED = 99


def train_for(run, seconds):
    "Steps until the processor has spent this long on them; returns what it spent."
    began = time.process_time()
    for _ in run.steps():
        if time.process_time() - began >= seconds: break
    return time.process_time() - began


def trained(name, setting, seed, data, seconds):
    "A run of a system, its seconds spent, and what the table says of it."
    torch.manual_seed(seed)  # the foreign networks draw their first weights from it
    run = SYSTEMS[name](data, seconds, seed, **SETTINGS[setting])
    before = run.averaged().state_dict()
    spent = train_for(run, seconds)
    if all(torch.equal(v, before[k]) for k, v in run.averaged().state_dict().items()): raise RuntimeError(f'{name}: nothing was learned')
    return run, dict(system=name, setting=setting, seed=seed, parameters=sum(p.numel() for p in run.net.parameters()), steps=len(run.losses),
                     images=len(run.losses)*run.recipe.batch, train_cpu_seconds=round(spent), threads=torch.get_num_threads(),
                     machine=f'{platform.machine()}, {os.cpu_count()} cores', torch=torch.__version__)


@torch.no_grad()
def held_out_loss(run, data, count=500):
    "The system's own loss of averaged weights on images it does not learn from: the same times and noise for every setting."
    one, x_0 = torch.Generator().manual_seed(0), to_unit(data.pixels[:count])
    t, eps = torch.randint(1, run.sched.T + 1, (count,), generator=one), torch.randn(x_0.shape, generator=one)
    loss, net = targets[run.recipe.target][0], run.averaged().net
    parts = [weights[run.recipe.weight](loss(net, run.sched, x_0[i], t[i], eps[i]), run.sched, t[i], run.recipe.target) for i in torch.arange(count).split(50)]
    return torch.cat(parts).mean().item()


def trial(name, setting, seed, data, test, seconds):
    "A short training: what the table says of it, and no images."
    run, said = trained(name, setting, seed, data, seconds)
    return said | dict(loss=round(held_out_loss(run, test), 6)), None


def row(name, setting, seed, data, ref, seconds, count, calls):
    "One training, sampled and judged: its row, and the images."
    run, said = trained(name, setting, seed, data, seconds)
    began = time.process_time()
    pixels = to_pixels(draw_as_card(run.averaged(), run.sched, run.card, count, sampler='ddim', steps=calls, clip=None if 'units' in run.card else (-1, 1), batch=50))
    r = evaluate_samples(pixels, ref)
    judged = dict(KID=r['KID'], interval=r['KID interval'], floor=r['floor KID'], floor_interval=r['floor interval'], judge=r['judge'])
    return said | judged | dict(sample_cpu_seconds=round(time.process_time() - began), N=count, NFE=calls), pixels


def missing(cases, out, judged):
    "Trains what the table does not hold yet, writing it after each; returns all its rows, and the images of the new ones."
    rows, images = read_table(out) if out.exists() else [], {}
    for case in cases:
        if any((r['system'], r['setting'], int(r['seed'])) == case for r in rows): continue
        new, images[case] = judged(*case)
        rows.append(new)
        write_table(rows, out)
        print({k: v for k, v in new.items() if k in ('system', 'setting', 'seed', 'loss', 'KID', 'interval', 'steps', 'images')}, flush=True)
    return rows, images


def best_settings(trials):
    "system -> the setting whose trial had the smallest loss."
    return {r['system']: r['setting'] for r in sorted(trials, key=lambda r: -r['loss'])}


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument('--seconds', type=float, default=600, help='processor seconds of training')
    say.add_argument('--trial', type=float, default=0, help='processor seconds of each trial; 0: published settings only')
    say.add_argument('--count', type=int, default=300, help='samples')
    say.add_argument('--calls', type=int, default=25, help='network calls a sample')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each system')
    say.add_argument('--out', type=own_table('system,setting,seed'), default='benchmarks/same_minutes.csv')
    say.add_argument('--only', nargs='*', default=[''], help='systems whose name contains one of these')
    a = say.parse_args()
    torch.set_num_threads(1)
    data, names = bundled_fashion(), [name for name in SYSTEMS if any(part in name for part in a.only)]
    test, chosen = bundled_fashion(train=False), {}
    if a.trial:
        table = own_table('system,setting,seed')(a.out.with_name(a.out.stem + '_trials.csv'))
        tried = [(name, s, TRIAL_SEED) for name in names for s in SETTINGS]
        chosen = best_settings(missing(tried, table, lambda *case: trial(*case, data, test, a.trial))[0])
    ref = reference(test, lite0_judge(), other=data)
    settings = lambda name: sorted({'published', chosen.get(name, 'published')})
    cases = [(name, s, seed) for seed in range(a.seeds) for name in names for s in settings(name)]
    rows, images = missing(cases, a.out, lambda *case: row(*case, data, ref, a.seconds, a.count, a.calls))
    for (name, setting, seed), pixels in images.items():
        tuned = '' if setting == 'published' else '_tuned'
        if not seed: save_png(beside(a.out.with_name(f'{name.split(" (")[0].replace(" ", "_")}{tuned}.png')), sheet(to_unit(pixels[:16]), cols=16))
    for r in sorted(rows, key=lambda r: r['KID']): print(f"{r['system']:30} {r['setting']:20} KID {r['KID']:7.3f} +- {r['interval']:.3f}   {r['parameters']:>12,} parameters, {r['images']:>7,} images seen")


if __name__ == '__main__': main()
