"""How much a training step costs beside the least it could: forward, backward and optimizer on one batch that never changes.

Ours draws images, times and noise, computes the loss, clips, averages the weights, keeps the losses. The diffusers loop does the same with that
library's parts, as its unconditional training script does: a DataLoader, DDPMScheduler.add_noise, clipping, EMAModel. All train the same network.
"""
import time

import torch
from torch import nn

from ddpm_lesson.data import Images, bundled_fashion, to_unit
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run, make_optimizer

from .measure import in_turns, middle

STEPS = 4
NAMES = dict(adamw='AdamW', muon='Muon')


def make_run(device, precision, optimizer='adamw'):
    card, data = preset_card('laptop', bundled_fashion(), labels=False, target='eps', optimizer=optimizer, precision=precision, steps=10**9)
    run = Run(card, data, device)
    run.net.train()
    return run


def bare(run):
    "Forward, backward, step."
    net, device = run.net, run.data.pixels.device
    opt, x, t = make_optimizer(net, run.recipe), to_unit(run.data.pixels[:run.recipe.batch]), torch.full((run.recipe.batch,), 500, device=device)
    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16): loss = nn.functional.mse_loss(net(x, t).float(), x)
        loss.backward()
        opt.step()
        opt.zero_grad()
    return lambda: [step() for _ in range(STEPS)]


def ours(run):
    walk = run.steps()
    return lambda: [next(walk) for _ in range(STEPS)]


def from_diffusers(run):
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel
    net, device, batch = run.net, run.data.pixels.device, run.recipe.batch
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(to_unit(run.data.pixels.cpu())), batch_size=batch, shuffle=True, drop_last=True)
    scheduler, ema, opt = DDPMScheduler(), EMAModel(net.parameters(), decay=0.999, use_ema_warmup=True), torch.optim.AdamW(net.parameters(), 1e-4)
    ema.to(device)
    def batches():
        while True: yield from loader
    stream = batches()
    def step():
        x = next(stream)[0].to(device)
        eps, t = torch.randn_like(x), torch.randint(0, 1000, (batch,), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16): loss = nn.functional.mse_loss(net(scheduler.add_noise(x, eps, t), t).float(), eps)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        ema.step(net.parameters())
        return loss.detach().item()  # logged at every step, as the script does
    return lambda: [step() for _ in range(STEPS)]


def programs(device, precision, optimizer):
    "name -> a function of no arguments; diffusers, where it is installed, with its own optimizer only."
    make = lambda: make_run(device, precision, optimizer)
    found = {'bare step': bare(make()), 'ours': ours(make())}
    if optimizer == 'adamw':
        try: found['diffusers'] = from_diffusers(make())
        except ImportError: print('diffusers is not installed: left out')
    return found


def rows(device, rounds):
    "One row a program: milliseconds a step, and how many times the bare step, which has the same optimizer."
    out = []
    for precision, optimizer in [(p, o) for p in (('float32', 'bf16') if device == 'cuda' else ('float32',)) for o in NAMES]:
        times = in_turns(programs(device, precision, optimizer), rounds, device)
        case = f'{precision}, {NAMES[optimizer]}'
        for who, spent in times.items():
            ratio = [a/b for a, b in zip(spent, times['bare step'])]
            out.append(dict(what='training', case=case, who=who, unit='ms a step') | middle([s/STEPS*1e3 for s in spent]) | {'times bare': middle(ratio)['median'], 'rounds': rounds})
    return out


def size_rows(device, rounds):
    "What the laptop preset learns from in a second of the processor, in float32, by size and channels: images."
    runs = {}
    for size, channels in (28, 1), (32, 3), (64, 3):
        pixels = torch.randint(0, 256, (64, channels, size, size), dtype=torch.uint8)
        card, data = preset_card('laptop', Images(pixels), size=size, precision='float32', steps=10**9)
        run = Run(card, data, device)
        run.net.train()
        runs[f'{channels}x{size}x{size}'] = ours(run)
    times, n = in_turns(runs, rounds, device, time.process_time), STEPS*run.recipe.batch
    return [dict(what='size', case=name, who='ours', unit='images a second of the processor') | middle([n/s for s in spent])
            | dict(rounds=rounds) for name, spent in times.items()]
