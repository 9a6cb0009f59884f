"Several processes that train, stop, go on and draw as one would alone; what a network costs, counted."
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torchvision.transforms.functional import pil_to_tensor

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.cards import build
from ddpm_lesson.engine.distributed import gathered, process_group, rank_and_world, run_here, training_flops
from ddpm_lesson.engine.files import load_tensors
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Processes, Run, make_card

TWO = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2']
COMMAND = str(Path(sys.executable).with_name('ddpm_lesson'))
ALONE = os.environ | dict(OMP_NUM_THREADS='1')

PROGRAM = '''
import sys, torch
import torch.distributed as dist
from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.files import load_tensors
from ddpm_lesson.engine.cards import Sampling
from ddpm_lesson.engine.draw import draw_images
from ddpm_lesson.engine.distributed import fit_here, gathered, process_group, rank_and_world, resume_here, run_here
folder, card = sys.argv[1], load_tensors(sys.argv[1] + '/half.safetensors')[1]['card']
with process_group() as device:
    rank = rank_and_world()[0]
    run, seen = run_here(card, bundled_fashion(), device), []
    assert (run.processes.rank, run.processes.world) == rank_and_world() == (rank, 2)
    run.net.register_forward_pre_hook(lambda net, args: seen.append(len(args[0])))
    for step, loss in run.steps():
        if step == 4 and rank == 0: run.save(folder + '/two_half/checkpoint.safetensors')
    assert set(seen) == {card['recipe']['batch']//2}, seen       # each learns from its half only
    if rank == 0: run.save(folder + '/two.safetensors')
    def alike(run):
        "Nothing about a run may differ between the processes."
        for name, v in run.state().items():
            both = [torch.empty_like(v) for _ in range(2)]
            dist.all_gather(both, v.contiguous())
            assert torch.equal(*both), name
    alike(run)

    went_on = run_here(card, bundled_fashion(), device)
    if rank: went_on.bf16 = True                                 # as if this one had measured otherwise
    resume_here(went_on, folder + '/one_half' if rank == 0 else '/nowhere')
    assert len(went_on.losses) == 4 and went_on.bf16 is False
    alike(went_on)
    fit_here(went_on, folder + '/mixed' if rank == 0 else None)
    alike(went_on)

    rough = run_here({**card, 'network': {**card['network'], 'dropout': 0.5}, 'recipe': {**card['recipe'], 'precision': 'bf16'}}, bundled_fashion(), device)
    masks = []
    for part in rough.net.modules():
        if isinstance(part, torch.nn.Dropout): part.register_forward_hook(lambda m, i, o: masks.append((o == 0).float().flatten()))
    for step, _ in rough.steps():
        if step == 3: break
    alike(rough)
    both = [torch.empty_like(masks[-1]) for _ in range(2)]
    dist.all_gather(both, masks[-1])
    assert not torch.equal(*both)                                # and yet each drops what it drops

    try: resume_here(run_here({**card, 'recipe': {**card['recipe'], 'lr': 0.5}}, bundled_fashion(), device), folder + '/one_half')
    except ValueError as e: assert ('another run' in str(e)) == (rank == 0), e
    else: raise AssertionError('went on from the checkpoint of another run')

    assert run.processes.agree(None) is None
    assert run.processes.agree('SIGTERM' if rank == 1 else None) == ('SIGTERM' if rank == 1 else 'a signal to another process')
    assert gathered(lambda i: torch.stack([i, i**2], 1), 5).tolist() == [[i, i*i] for i in range(5)]
    assert gathered(lambda i: i, 1).tolist() == [0]
    images, way = draw_images(run.averaged(), run.sched, (5, 1, 28, 28), Sampling(steps=2, clip=None), torch.tensor([2, 0, 1, 9, 4]), [7, 3, 11, 0, 5], 2, 3, True, device='cpu')
    assert bool(way) == (rank == 0)
    assert not draw_images(run.averaged(), run.sched, (1, 1, 28, 28), Sampling(steps=1), torch.tensor([2]), [7], shared=True, device='cpu')[1]
    try: run_here({**card, 'recipe': {**card['recipe'], 'batch': 3}}, bundled_fashion(), device)
    except ValueError as e: assert 'multiple of 2' in str(e)
    else: raise AssertionError('a batch of 3 was divided by 2')
    other = bundled_fashion()
    other.pixels[-1, 0, -1, -1] += rank                            # one byte of the last image, in the second process only
    try: run_here(card, other, device)
    except ValueError as e: assert 'the same images, and 1 of them' in str(e), e
    else: raise AssertionError('two processes trained on different images')
    if rank == 0: torch.save((images, way), folder + '/images.pt')
assert rank_and_world() == (0, 1)
with process_group() as device: assert rank_and_world() == (0, 1)             # they have parted
print('done')
'''


@pytest.fixture(scope='module')
def card():
    return preset_card('laptop', bundled_fashion(), steps=8, warmup=2, batch=4, width=8, mults='1,2', attend='1', flip=True, precision='float32')[0]


@pytest.fixture(scope='module')
def finished(card, tmp_path_factory):
    "A folder in which one process, two processes, and first one and then two, have trained the same run."
    folder = tmp_path_factory.mktemp('together')
    for name in 'one_half', 'two_half', 'mixed': (folder/name).mkdir()
    run = Run(card, bundled_fashion())
    for step, _ in run.steps():
        if step == 4: [run.save(folder/p) for p in ('one_half/checkpoint.safetensors', 'half.safetensors')]
    run.save(folder/'one.safetensors')
    (folder/'program.py').write_text(PROGRAM)
    said = subprocess.run([*TWO, str(folder/'program.py'), str(folder)], capture_output=True, text=True, env=ALONE)
    assert said.returncode == 0 and said.stdout.count('done') == 2, said.stderr[-3000:]
    return folder


def states(*paths): return [load_tensors(p)[0] for p in paths]


def test_two_processes_train_as_one(finished):
    one, two, half = states(finished/'one.safetensors', finished/'two.safetensors', finished/'half.safetensors')
    assert one.keys() == two.keys()
    for k in one: assert_close(two[k], one[k], rtol=1e-3, atol=2e-5)
    assert max((one[k] - half[k]).abs().max() for k in one if k.startswith('net.')) > 1e-3   # four steps more are seen


def test_a_run_goes_on_with_another_number_of_processes(finished, card):
    one, mixed, two_half = states(finished/'one.safetensors', finished/'mixed'/'checkpoint.safetensors', finished/'two_half'/'checkpoint.safetensors')
    for k in one: assert_close(mixed[k], one[k], rtol=1e-3, atol=2e-5)
    assert len(two_half['losses']) == 4
    alone = Run(card, bundled_fashion()).load(finished/'two_half'/'checkpoint.safetensors')
    for _ in alone.steps(): pass
    for k, v in alone.state().items(): assert_close(v, one[k], rtol=1e-3, atol=2e-5)


def test_two_processes_draw_what_one_would(finished, card):
    from ddpm_lesson.engine.cards import Sampling
    from ddpm_lesson.engine.draw import draw_images
    run = Run(card, bundled_fashion()).load(finished/'two.safetensors')
    want, want_way = draw_images(run.averaged(), run.sched, (5, 1, 28, 28), Sampling(steps=2, clip=None), torch.tensor([2, 0, 1, 9, 4]), [7, 3, 11, 0, 5], 2, 3, device='cpu')
    got, way = torch.load(finished/'images.pt', weights_only=True)
    assert_close(got, want, rtol=0, atol=1e-5)
    assert_close(way, want_way, rtol=0, atol=1e-5)
    assert (got[0] - got[1]).abs().max() > 0.1


def test_the_command_line_draws_together(tmp_path):
    from click.testing import CliRunner

    from ddpm_lesson.cli import main
    sample = ['sample', '--count', '3', '--steps', '2', '--seed', '5', '--device', 'cpu', '--out']
    assert CliRunner().invoke(main, [*sample, str(tmp_path/'one.png')]).exit_code == 0
    said = subprocess.run([*TWO, '--no-python', COMMAND, *sample, str(tmp_path/'two.png')], capture_output=True, text=True, env=ALONE)
    assert said.returncode == 0 and said.stdout.count('3 images') == 1, said.stderr[-3000:]
    one, two = (pil_to_tensor(Image.open(tmp_path/f'{k}.png')).int() for k in ('one', 'two'))
    assert (one - two).abs().max() <= 1


@pytest.fixture
def going(tmp_path):
    "A training by two processes that would take days; what it says goes to a file. Gone afterwards, whatever happens."
    command = [*TWO, '--no-python', COMMAND, 'train', '--preset', 'debug', '--steps', '100000', '--every', '100', '--folder', str(tmp_path/'run'), '--precision', 'float32', '--no-tensorboard']
    with open(tmp_path/'said', 'w') as said: p = subprocess.Popen(command, stdout=said, stderr=said, env=ALONE, start_new_session=True)
    yield p, tmp_path
    with suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)


def workers(p): return [int(n) for n in Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split()]


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='finds the processes by /proc')
@pytest.mark.parametrize('who', ['the launcher', 'each of them, and the launcher'])
def test_sigterm_ends_the_step_and_leaves_whole_checkpoints(going, who):
    p, folder = going
    said = lambda: (folder/'said').read_text()
    for _ in range(1200):
        if (folder/'run'/'checkpoint.safetensors').exists() or p.poll() is not None: break
        time.sleep(0.1)
    began = time.time()
    for pid in [*(workers(p) if who != 'the launcher' else []), p.pid]: os.kill(pid, signal.SIGTERM)
    assert p.wait(60) != 0 and time.time() - began < 25, said()[-3000:]           # the launcher kills after 30 seconds
    stopped = re.search(r'stopped by .+ after (\d+) steps', said())
    assert stopped and 'forcefully' not in said(), said()[-3000:]
    assert len(load_tensors(folder/'run'/'checkpoint.safetensors')[0]['losses']) == int(stopped[1]) > 0
    assert {f.name for f in (folder/'run').iterdir() if 'checkpoint' in f.name} == {f'checkpoint{k}.safetensors' for k in ('', '.previous')}


def test_alone_nothing_is_shared(card):
    with process_group('cpu') as device: assert device == 'cpu' and rank_and_world() == (0, 1)
    assert run_here(card, bundled_fashion()).processes == Processes()
    assert gathered(lambda i: i*2, 3).tolist() == [0, 2, 4]


@pytest.mark.parametrize('left, said', [
    (dict(WORLD_SIZE='2'), 'WORLD_SIZE is 2, and RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set: .* unset WORLD_SIZE'),
    (dict(WORLD_SIZE='two'), 'WORLD_SIZE is two'),
    (dict(WORLD_SIZE='2', RANK='0', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1'), 'MASTER_PORT not set'),
    (dict(WORLD_SIZE='2', RANK='0', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='0'), 'wanted 2 processes, and not all came .* in 2 seconds'),
    (dict(WORLD_SIZE='2', RANK='1', LOCAL_RANK='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='9'), 'wanted 2 processes, and not all came .* in 2 seconds'),
    (dict(WORLD_SIZE='2', RANK='x', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='0'), 'wanted 2 processes')])
def test_processes_that_do_not_come_are_missed_within_seconds(left, said, monkeypatch):
    "Wrong program: one that waits for a left-over WORLD_SIZE as long as it may work, a day."
    for name in 'WORLD_SIZE', 'RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT': monkeypatch.delenv(name, raising=False)
    for name, v in left.items(): monkeypatch.setenv(name, v)
    began = time.time()
    with pytest.raises(ValueError, match=said), process_group(seconds=2): pass
    assert time.time() - began < 30 and rank_and_world() == (0, 1)


def test_an_apple_gpu_is_not_shared(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match='cpu or cuda, got mps'), process_group('mps'): pass


def test_a_compiled_network_learns_averages_and_saves_alike(card, tmp_path, monkeypatch):
    made, translate = [], nn.Module.compile
    monkeypatch.setattr(nn.Module, 'compile', lambda net, **kw: (made.append(net), translate(net, backend='aot_eager')))
    runs = [Run(card, bundled_fashion(), compiled=c) for c in (False, True)]
    for run in runs:
        for step, _ in run.steps():
            if step == 3: break
    assert made == [runs[1].net]
    a, b = (run.state() for run in runs)
    assert a.keys() == b.keys()
    for k in a: assert_close(a[k], b[k], rtol=1e-3, atol=1e-5)
    runs[1].save(tmp_path/'c.safetensors')
    Run(card, bundled_fashion()).load(tmp_path/'c.safetensors')
    x, t = torch.ones(1, 1, 28, 28), torch.tensor([5])
    assert_close(runs[1].averaged()(x, t), runs[0].averaged()(x, t), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_real_compiler_learns_alike(card):
    losses = []
    for compiled in False, True:
        walk = (run := Run(card, bundled_fashion(), compiled=compiled)).steps()
        for _ in range(3): next(walk)
        losses.append(torch.stack(run.losses))
    assert_close(*losses, rtol=1e-4, atol=1e-6)


def test_what_a_network_costs():
    "Of a network without attention or labels: each convolution and linear layer by (21.1), less the gradient of the image, which nobody asks for."
    card = make_card(dict(channels=3, width=8, mults=[1, 2], blocks=1, attend=[], patch=1), size=12)
    net, want = build(card)[0].net, 0
    def add(m, i, o):
        nonlocal want
        work = 2*o.numel()*(m.weight[0].numel() if isinstance(m, nn.Conv2d) else m.in_features)
        want += work*(2 if m in (net.stem, net.time[0]) else 3)
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)): m.register_forward_hook(add)
    middle = net.mid[0].attend
    net(torch.zeros(1, 3, 12, 12), torch.ones(1, dtype=torch.int64))
    attention = 3*2*2*(6*6)**2*middle.out.in_channels        # queries with keys, weights with values
    assert training_flops(card) == want + attention
    assert json.dumps(card)                                   # and the card is as it was


def test_the_cost_of_the_ddpm_network_is_the_published_one():
    card = make_card(dict(channels=3, width=128, mults=[1, 2, 2, 2], blocks=2, attend=[1], patch=1), size=32)
    assert round(training_flops(card)/1e9, 1) == 37.3
