"""How time and memory grow with batch, side of the images, width of the network, and number of sampling steps.

    python -m benchmarks.growth --out benchmarks/growth.csv
"""
import argparse
import ctypes
import gc
from pathlib import Path

import torch

from ddpm_lesson.engine.files import write_table
from ddpm_lesson.loss import PredictsV, v_loss
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.unet import UNet

from .measure import own_table, seconds, where

SCHED = cosine_schedule()
BASE = dict(batch=16, size=32, width=32, steps=4)
VARIED = dict(batch=[1, 2, 4, 8, 16, 32, 64], size=[16, 32, 48, 64, 96], width=[16, 32, 64, 96, 128], steps=[1, 2, 4, 8, 16, 32])


def resident():
    "Bytes of this process in memory now, and at most since the last call of `peak`. Linux only."
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text(encoding='utf-8').splitlines())
    return (int(status[k].split()[0])*1024 for k in ('VmRSS', 'VmHWM'))


def peak(f, device):
    "Bytes that `f` needed beyond what was in use before it."
    gc.collect()
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        f()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)                # give freed memory back, or it would be used again unseen
    Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')   # start the high-water mark anew
    before, _ = resident()
    f()
    return list(resident())[1] - before


def network(width, device):
    torch.manual_seed(0)
    return UNet(3, width, (1, 2), 1, (1,), 2).to(device)


def sample(batch, size, width, steps, device):
    model = PredictsV(network(width, device), SCHED)
    return lambda: ddim_sample(model, SCHED, (batch, 3, size, size), steps=steps)


def train(batch, size, width, steps, device):
    net, x, eps = network(width, device), *(torch.randn(batch, 3, size, size, device=device) for _ in range(2))
    opt, t = torch.optim.AdamW(net.parameters(), fused=True), torch.full((batch,), 500, device=device)
    def run():
        for _ in range(steps):
            v_loss(net, SCHED, x, t, eps).mean().backward()
            opt.step()
            opt.zero_grad()
    return run


def point(make, varied, value, device, rounds):
    settings = BASE | {varied: value}
    f = make(**settings, device=device)
    f()
    memory = peak(f, device)
    return dict(what=make.__name__, varied=varied, value=value) | settings | dict(seconds=min(seconds(f, device) for _ in range(rounds)), peak_MB=memory/1e6)


def main():
    say = argparse.ArgumentParser(prog='python -m benchmarks.growth', description=__doc__.splitlines()[0])
    say.add_argument('--rounds', type=int, default=3, help='times each point is run; the shortest counts')
    say.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    say.add_argument('--out', type=own_table('what,varied,value'), default='benchmarks/growth.csv')
    a = say.parse_args()
    rows = []
    for make in sample, train:
        for varied, values in VARIED.items():
            for value in values:
                rows.append(point(make, varied, value, a.device, a.rounds) | where(a.device))
                print({k: rows[-1][k] for k in ('what', 'varied', 'value', 'seconds', 'peak_MB')}, flush=True)
    write_table(rows, a.out)


if __name__ == '__main__': main()
