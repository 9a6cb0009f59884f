"A training step that is recorded and replayed: on a GPU as a CUDA graph; here as a list of operations, which forgets Python just as a graph does."
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine import graphs
from ddpm_lesson.engine.graphs import scalars
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run, recordable_step


class Tape(TorchDispatchMode):
    "Every operation with the very tensors and numbers it was called with."
    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        "All again, each result written where the first one lies."
        for func, args, kwargs, out in self.done:
            for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr(): old.copy_(new)


class Replayed:
    "What `ddpm_lesson.engine.graphs.Replayed` does, with a tape."
    def __init__(self, f, first=2): self.f, self.first, self.calls, self.tape = f, first, 0, None

    def __call__(self, *inputs):
        self.calls += 1
        if self.calls <= self.first: return self.f(*scalars(inputs, 'cpu'))
        if self.tape is None: self.record(inputs)
        else:
            for kept, given in zip(self.inputs, inputs): kept.copy_(torch.as_tensor(given))
            self.tape.replay()
        return self.out.clone()

    def record(self, inputs):
        self.inputs, self.tape = [v.clone() for v in scalars(inputs, 'cpu')], Tape()
        with self.tape: self.out = self.f(*self.inputs)


def plainly(f): return lambda *inputs: f(*scalars(inputs, 'cpu'))


def run(steps=9, preset='laptop', **settings):
    small = dict(steps=steps, warmup=3, batch=4, width=16, precision='float32')
    if preset == 'laptop': small |= dict(mults='1,2', attend='1', patch=2)
    return Run(*preset_card(preset, bundled_fashion(), **small | settings))


def to_end(r, replayed=None):
    if replayed: r.replayed = replayed(recordable_step(r))
    for _ in r.steps(): pass
    return r


@pytest.mark.parametrize('settings', [{}, dict(optimizer='adamw'), dict(target='v', weight='uniform', flip=True), dict(preset='posit-ddim')], ids=['laptop', 'adamw', 'v', 'batch-norm'])
def test_a_replayed_step_learns_what_the_step_learns_to_the_last_bit(settings):
    want, got = (to_end(run(**settings), make) for make in (plainly, Replayed))
    assert got.replayed.tape is not None and len(got.replayed.tape.done) > 100
    assert torch.equal(torch.stack(want.losses), torch.stack(got.losses))
    assert all(torch.equal(v, got.state()[k]) for k, v in want.state().items())


def test_the_step_made_for_recording_is_the_step_of_the_lesson():
    want, got = to_end(run()), to_end(run(), plainly)
    for k, v in want.state().items(): assert_close(got.state()[k], v, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('frozen', ['rate', 'share'])
def test_a_number_that_is_baked_in_is_noticed(frozen):
    "The popular mistake: a learning rate, or a share of the average, that stays what it was while recording."
    def baked(f):
        return Replayed(lambda lr, share, *batch: f(lr.item() if frozen == 'rate' else lr, share.item() if frozen == 'share' else share, *batch))
    want, got = to_end(run(), Replayed), to_end(run(), baked)
    part = 'ema.' if frozen == 'share' else 'net.'
    assert any(not torch.equal(v, got.state()[k]) for k, v in want.state().items() if k.startswith(part))


def test_numbers_become_tensors_and_tensors_stay():
    x = torch.ones(2)
    made = scalars((0.5, x), 'cpu')
    assert made[1] is x and made[0].shape == () and made[0].item() == 0.5


def test_a_step_waits_for_the_streams_of_its_own_gpu(monkeypatch):
    "Rejects a step on the second GPU that waits for what the first one does: what it reads may not be there yet."
    asked, stream = [], SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: stream)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device=None: asked.append(device) or stream)
    monkeypatch.setattr(torch.cuda, 'stream', lambda s: nullcontext())
    assert graphs.Replayed(lambda x: 2*x, 'cpu')(3.0) == 6 and asked == ['cpu', 'cpu']


@pytest.mark.cuda
@pytest.mark.parametrize('settings', [{}, dict(optimizer='adamw'), dict(dropout=0.2)], ids=['laptop', 'adamw', 'dropout'])
def test_with_and_without_a_graph_the_losses_are_the_same_bits(settings):
    card, data = preset_card('laptop', bundled_fashion(), **dict(steps=20, warmup=3, precision='float32') | settings)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        plain, recorded = (to_end(Run(card, data, 'cuda', graphs=graphs)) for graphs in (False, True))
    assert recorded.replayed.graph is not None
    assert torch.equal(torch.stack(plain.losses), torch.stack(recorded.losses))
    assert all(torch.equal(v, recorded.state()[k]) for k, v in plain.state().items())


@pytest.mark.cuda
def test_a_recorded_run_goes_on_from_its_checkpoint(tmp_path):
    card, data = preset_card('laptop', bundled_fashion(), steps=16, warmup=3, precision='float32')
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        whole, half = to_end(Run(card, data, 'cuda')), Run(card, data, 'cuda')
        for step, _ in half.steps():
            if step == 8: break
        half.save(tmp_path/'half.safetensors')
        again = to_end(Run(card, data, 'cuda').load(tmp_path/'half.safetensors'))
    assert torch.equal(torch.stack(whole.losses), torch.stack(again.losses))


@pytest.mark.cuda
def test_no_replay_waits_for_the_gpu():
    card, data = preset_card('laptop', bundled_fashion(), steps=60, precision='bf16')
    walk = Run(card, data, 'cuda').steps()
    for _ in range(6): next(walk)
    torch.cuda.set_sync_debug_mode('error')
    try:
        for _ in range(30): next(walk)
    finally: torch.cuda.set_sync_debug_mode('default')
