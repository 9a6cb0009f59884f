"What several tests share: awkward inputs, a stub that depends on time, schedules of every kind, flags for long tests, and a record of what was tried."
import csv
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault('MPLBACKEND', 'agg')
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1')   # several workers share the cores
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))   # `benchmarks`, which is not installed

import pytest
import torch

from ddpm_lesson.schedule import cosine_schedule, linear_schedule, rate_schedule, rescaled_linear_schedule

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C, and so would every process it starts

SCHEDULES = {
    'linear': linear_schedule(), 'cosine': cosine_schedule(), 'rate': rate_schedule(), 'linear 300': linear_schedule(T=300),
    'rescaled 50': rescaled_linear_schedule(50), 'steep 7': linear_schedule(T=7, beta_1=0.05, beta_T=0.9), 'one step': linear_schedule(T=1, beta_1=0.3),
}


@pytest.fixture(params=list(SCHEDULES), ids=lambda k: k.replace(' ', '-'))
def sched(request): return SCHEDULES[request.param]


def normal(*shape, seed=0, dtype=torch.float64): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Stub(torch.nn.Module):
    "A network whose answer depends on image and step in a way that no skipped, repeated or shifted step reproduces; it counts its calls."
    def __init__(self):
        super().__init__()
        self.weight, self.calls, self.modes = torch.nn.Parameter(torch.tensor(0.7)), [], []

    def forward(self, x_t, t):
        self.calls.append(t.tolist())
        self.modes.append(self.training)
        shift = torch.sin(t.to(x_t.dtype)*0.37).reshape(-1, *[1]*(x_t.ndim - 1))
        return torch.tanh(x_t*self.weight.to(x_t.dtype) + shift) + 0.3*shift


class NoFloat64(torch.Tensor):
    "A tensor on a device that, like Apple's, has no float64."
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        if func in (torch.Tensor.cpu, torch.Tensor.numpy): return out.as_subclass(torch.Tensor)
        if getattr(out, 'dtype', None) == torch.float64 and isinstance(out, cls): raise TypeError('this device has no float64')
        return out


@pytest.fixture
def stub(): return Stub()


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='also run the tests marked slow, which take minutes each')
    parser.addoption('--record', type=Path, default=None, metavar='CSV', help='add a line to this table for each promise that was tested')


def pytest_configure(config):
    for line in 'slow: takes minutes; run with --slow', 'cuda: needs an NVIDIA GPU': config.addinivalue_line('markers', line)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if 'slow' in item.keywords and not config.getoption('--slow'): item.add_marker(pytest.mark.skip(reason='slow: run with --slow'))
        if 'cuda' in item.keywords and not torch.cuda.is_available(): item.add_marker(pytest.mark.skip(reason='needs an NVIDIA GPU'))


@pytest.fixture
def record(request):
    "record(promise, tried, lost): how often a promise was put to the test, and how often it was broken; kept where --record says."
    path = request.config.getoption('--record')
    def keep(promise, tried, lost=0):
        if path is None: return
        new = not path.exists()
        with open(path, 'a', newline='', encoding='utf-8') as f:
            if new: csv.writer(f).writerow(['promise', 'test', 'tried', 'lost'])
            csv.writer(f).writerow([promise, request.node.nodeid.split('/')[-1], tried, lost])
    return keep
