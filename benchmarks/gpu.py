"""What a training step costs on a GPU, recorded and not: python -m benchmarks.gpu [small] [flowers] [cifar] [--old FOLDER]

    small     the laptop preset, 16 images: the step recorded, the bare step recorded, the step as Python calls it
    flowers   the network of the shipped flowers, 512 images of 64x64
    cifar     the network of DDPM's CIFAR-10 experiments (width 128, 35.7 million parameters), and the loop of diffusers' script with it
    --old     a checkout of an earlier version: its laptop preset in a process of its own

Layouts are those of PyTorch (NCHW) and with channels last (NHWC). Images a second count images learned from.
`benchmarks/gpu_h200.txt` is what this printed on an H200.
"""
import argparse
import os
import subprocess
import sys
import time

import torch
from torch import nn

from ddpm_lesson.data import Images, bundled_fashion, to_unit
from ddpm_lesson.engine.graphs import Replayed
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run, make_optimizer
from ddpm_lesson.unet import UNet, count_parameters

FLOWERS = dict(size=64, width=64, mults='1,2,3', blocks=2, attend='2', patch=2, scale_shift=True, target='x_0', weight='min_snr', optimizer='muon')
CIFAR = dict(size=32, width=128, mults='1,2,2,2', blocks=2, attend='1', patch=1, labels=False, target='eps', weight='uniform', optimizer='adamw')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
OLD = '''
import sys, time, torch
from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run
for precision in 'bf16', 'float32':
    card, data = preset_card('laptop', bundled_fashion(), precision=precision, steps=10**6)
    walk = Run(card, data, sys.argv[1]).steps()
    for _ in range(12): next(walk)
    if sys.argv[1] == 'cuda': torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(int(sys.argv[2])): next(walk)
    if sys.argv[1] == 'cuda': torch.cuda.synchronize()
    ms = (time.perf_counter() - began)/int(sys.argv[2])*1e3
    print(f'old laptop {precision}: {ms:.3f} ms a step', flush=True)
'''


def wait():
    if DEVICE == 'cuda': torch.cuda.synchronize()


def milliseconds(step, warm, n):
    "Of one step, the mean of n after some to warm up."
    for _ in range(warm): step()
    wait()
    began = time.perf_counter()
    for _ in range(n): step()
    wait()
    return (time.perf_counter() - began)/n*1e3


def say(name, ms, batch): print(f'{name:52} {ms:9.3f} ms a step {batch/ms*1e3:9.0f} img/s', flush=True)


def laptop(precision, graphs, n):
    card, data = preset_card('laptop', bundled_fashion(), precision=precision, steps=10**6)
    walk = Run(card, data, DEVICE, graphs=graphs).steps()
    say(f'laptop {precision} {"recorded" if graphs else "as called"}', milliseconds(lambda: next(walk), 8, n), 16)


def bare(precision, n):
    "Forward, backward and optimizer on one batch that never changes, recorded."
    card, data = preset_card('laptop', bundled_fashion(), precision=precision, steps=10**6)
    run = Run(card, data, DEVICE, graphs=False)
    net, opt = run.net.train(), make_optimizer(run.net, run.recipe)
    x, y, t = to_unit(run.data.pixels[:16]), run.data.labels[:16], torch.full((16,), 500, device=DEVICE)
    def step(lr, x, t, y):
        for group in opt.param_groups: group['lr'] = lr
        with torch.autocast(DEVICE, torch.bfloat16, enabled=run.bf16): loss = nn.functional.mse_loss(net(x, t, y).float(), x)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss.detach()
    replayed = Replayed(step, torch.device(DEVICE))
    for _ in range(5): replayed(1e-3, x, t, y)
    say(f'laptop {precision} bare, recorded', milliseconds(replayed.graph.replay, 8, n), 16)


def network(name, settings, batch, layout, n):
    pixels = torch.randint(0, 256, (4*batch, 3, settings['size'], settings['size']), dtype=torch.uint8)
    labels = None if settings.get('labels') is False else torch.arange(len(pixels)) % 5
    data = Images(pixels, labels, () if labels is None else tuple('abcde'), 'noise')
    card, data = preset_card('photos', data, **settings, batch=batch, steps=10**6, precision='bf16', warmup=100)
    run = Run(card, data, DEVICE)
    if layout == 'NHWC': run.net.to(memory_format=torch.channels_last)
    walk = run.steps()
    millions = count_parameters(run.net)/1e6
    say(f'{name} {millions:.1f}M {card["recipe"]["optimizer"]} batch {batch} {layout}', milliseconds(lambda: next(walk), 7, n), batch)


def script_of_diffusers(batch, n):
    "Its unconditional training loop with our network: DataLoader, add_noise, clipping, EMAModel, the loss logged at each step."
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel
    net = UNet(3, 128, (1, 2, 2, 2), 2, (1,), 1).to(DEVICE)
    noise, ema, opt = DDPMScheduler(), EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True), torch.optim.AdamW(net.parameters(), 1e-4)
    ema.to(DEVICE)
    data = torch.utils.data.TensorDataset(torch.randn(4*batch, 3, 32, 32))
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True, drop_last=True)
    def batches():
        while True: yield from loader
    stream = batches()
    def step():
        x = next(stream)[0].to(DEVICE)
        eps, t = torch.randn_like(x), torch.randint(0, 1000, (batch,), device=DEVICE)
        with torch.autocast(DEVICE, torch.bfloat16): loss = nn.functional.mse_loss(net(noise.add_noise(x, eps, t), t).float(), eps)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        ema.step(net.parameters())
        loss.item()
    say(f"cifar {count_parameters(net)/1e6:.1f}M diffusers' script batch {batch}", milliseconds(step, 5, n), batch)


def peak():
    "A matrix product of 8192, in bfloat16."
    x = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16)
    ms = milliseconds(lambda: x @ x, 3, 10)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}: {2*8192**3/ms/1e9:.0f} TFLOP/s in a matrix product', flush=True)


def main():
    ask = argparse.ArgumentParser(prog='python -m benchmarks.gpu', description=__doc__.splitlines()[0])
    ask.add_argument('parts', nargs='*', default=['small', 'flowers', 'cifar'], choices=['small', 'flowers', 'cifar'])
    ask.add_argument('--old', help='a checkout of an earlier version')
    a = ask.parse_args()
    gpu = DEVICE == 'cuda'
    n, few, batch = (400, 15, 512) if gpu else (2, 1, 4)
    if gpu: peak()
    if a.old: subprocess.run([sys.executable, '-c', OLD, DEVICE, str(60 if gpu else 1)], cwd=a.old, env=os.environ | dict(PYTHONPATH=a.old), check=True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=gpu):
        if 'small' in a.parts:
            for precision in 'bf16', 'float32':
                laptop(precision, True, n)
                if gpu: bare(precision, n)
                laptop(precision, False, n//8 + 1)
        for layout in ('NCHW', 'NHWC') if gpu else ('NCHW',):
            if 'flowers' in a.parts: network('flowers', FLOWERS, batch, layout, few)
            if 'cifar' in a.parts: network('cifar', CIFAR, batch//2, layout, few)
        if 'cifar' in a.parts: script_of_diffusers(batch//4, few)


if __name__ == '__main__': main()
