"""The same seed gives the same images and the same weights, whatever surrounds it; and a sheet can be drawn again from what it says about itself.

What is promised, and defended here. The same bits: a second call, another process, any state of the caller's random numbers, default dtype or
gradient mode, if threads and batch size are the same. The sampler by itself: the same bits for any batch size and place in the batch. With the
shipped network, other batch sizes and thread counts choose other convolution kernels, which add in another order: `CLOSE` in float, and at most one
of 255 levels in the PNG. On a GPU, whose convolutions round to ten bits: `CLOSE_CUDA` levels.
"""
import hashlib
import json
import os
import subprocess
import sys
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, PngImagePlugin

from conftest import Stub
from ddpm_lesson.cli import main
from ddpm_lesson.data import Images, bundled_fashion, to_pixels
from ddpm_lesson.engine.cards import Sampling, build
from ddpm_lesson.engine.draw import draw_images
from ddpm_lesson.engine.files import load_tensors
from ddpm_lesson.engine.run import Run, fit, make_card
from ddpm_lesson.pretrained import load_card, load_pretrained, save_model
from ddpm_lesson.sampler import ddim_sample, ddpm_sample
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.sheets import read_sheet
from ddpm_lesson.train import Recipe

CLOSE, CLOSE_CUDA = 2e-4, 8  # images in [-1, 1]; measured on CPUs: 2.2e-5
DATA = Images(bundled_fashion().pixels[:32, :, ::2, ::2].contiguous(), name='small')
SMALL = dict(channels=1, width=8, mults=[1, 2], patch=1, blocks=1, attend=[1])


@contextmanager
def changed(get, put, value):
    "A setting of torch at another value for a while."
    before = get()
    put(value)
    try: yield
    finally: put(before)


threads = partial(changed, torch.get_num_threads, torch.set_num_threads)
default_dtype = partial(changed, torch.get_default_dtype, torch.set_default_dtype)


@contextmanager
def other_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(987)
        np.random.seed(5)
        yield


SURROUNDINGS = dict(again=lambda: threads(1), other_randomness=other_randomness, float64=lambda: default_dtype(torch.float64), bfloat16=lambda: default_dtype(torch.bfloat16),
                    no_grad=torch.no_grad, inference_mode=torch.inference_mode)


def digest(tensors): return hashlib.sha256(b''.join(v.detach().contiguous().numpy().tobytes() for v in tensors)).hexdigest()


def drawn(seeds=range(4), batch=4, steps=4, device='cpu', **how):
    model, sched = load_pretrained('fashion', device)
    seeds = list(seeds)
    how = Sampling(steps=steps, **how)
    return draw_images(model, sched, (len(seeds), 1, 28, 28), how, torch.tensor(seeds) % 10, seeds, batch, device=device)[0]


def trained(**network):
    run = fit(Run(make_card(SMALL | network, Recipe(steps=3, batch=8, warmup=2, precision='float32'), size=14), DATA), progress=False)
    return digest(run.state().values())


def elsewhere(expression):
    code = f'import sys; sys.path[:0] = {[str(p) for p in Path(__file__).parents[:2]]}; from test_reproducible import *; torch.set_num_threads(1); print({expression})'
    env = os.environ | dict(PYTHONHASHSEED='3', OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


# --- images ---------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sample, how', [(ddim_sample, dict(eta=0.)), (ddim_sample, dict(eta=1., clip=(-1, 1))), (ddpm_sample, dict(var='large')), (ddpm_sample, {})])
def test_the_sampler_gives_an_image_the_same_bits_in_any_batch(sample, how, record):
    sched, model = cosine_schedule(T=60), Stub()
    draw = lambda seeds: sample(model, sched, (len(seeds), 2, 5, 7), steps=12, seeds=seeds, **how)
    every = {s: x for s, x in zip(range(9), draw(list(range(9))))}
    batches = [[s] for s in range(9)] + [[8, 1], [5, 0, 7], [3, 4, 2, 6], [7, 6, 5, 4, 3, 2, 1, 0]]
    wrong = sum(not torch.equal(x, every[s]) for seeds in batches for s, x in zip(seeds, draw(seeds)))
    record('the sampler adds nothing: with a network that treats an image alike in any batch, it has the same bits in any batch and at any place in it', sum(map(len, batches)), wrong)
    assert not wrong and not torch.equal(every[0], every[1])


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_images_do_not_depend_on_what_surrounds_the_call(name):
    with threads(1):
        want = drawn(eta=1.0)
        with SURROUNDINGS[name](): assert torch.equal(drawn(eta=1.0), want)


def test_batch_size_place_and_threads_change_the_last_bits_only(record):
    with threads(1): want = drawn(range(6), batch=6)
    worst, levels, tried = 0., 0, 0
    for n, batch, seeds in [(1, 1, range(6)), (1, 4, range(6)), (2, 6, range(6)), (2, 5, range(6)), (1, 6, range(5, -1, -1)), (1, 2, (4, 1, 3))]:
        with threads(n): got = drawn(seeds, batch=batch)
        diff = got - want[list(seeds)]
        worst, levels, tried = max(worst, diff.abs().max().item()), max(levels, (to_pixels(got).int() - to_pixels(want[list(seeds)]).int()).abs().max().item()), tried + len(got)
    assert worst < CLOSE and levels <= 1, (worst, levels)
    record('an image of the shipped network differs by at most one level of 255 for other batch sizes, places and threads', tried)
    assert (drawn(range(1, 7), batch=6) - want).abs().max() > 0.5  # another seed, or seeds counted from the batch's beginning, would show


@pytest.mark.cuda
def test_a_gpu_draws_the_same_images():
    want, got = drawn(range(8), steps=20, batch=8), drawn(range(8), steps=20, batch=8, device='cuda')
    levels = (to_pixels(got).int() - to_pixels(want).int()).abs()
    assert levels.max() <= CLOSE_CUDA and levels.float().mean() < 0.2, (levels.max(), levels.float().mean())
    assert torch.equal(got, drawn(range(8), steps=20, batch=8, device='cuda'))


# --- training -------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('dropout', [0.0, 0.3])
def test_training_does_not_depend_on_what_surrounds_it(dropout, record):
    with threads(1):
        want = trained(dropout=dropout)
        wrong = []
        for name, surrounding in SURROUNDINGS.items():
            with surrounding():
                try: same = trained(dropout=dropout) == want
                except RuntimeError: same = False
            if not same: wrong.append(name)
    record('a training gives the same weights whatever random numbers, default dtype and gradient mode surround it', len(SURROUNDINGS), len(wrong))
    assert not wrong


def test_another_process_gives_the_same_weights_and_images():
    expression = "(digest([drawn(eta=1.0)]), trained())"
    with threads(1): want = digest([drawn(eta=1.0)]), trained()
    assert elsewhere(expression) == str(want)


def test_measuring_whether_bfloat16_helps_leaves_the_callers_randomness_alone():
    before = torch.get_rng_state()
    with torch.no_grad(): Run(make_card(SMALL, Recipe(batch=8), size=14), DATA)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_weights():
    runs = [fit(Run(make_card(SMALL, Recipe(steps=1, batch=8, seed=s), size=14), DATA), progress=False) for s in (0, 1)]
    assert not torch.equal(runs[0].ema.shadow[0], runs[1].ema.shadow[0])


@pytest.mark.cuda
def test_a_gpu_trains_the_same_weights_twice():
    states = [fit(Run(make_card(SMALL, Recipe(steps=5, batch=8), size=14), DATA, 'cuda'), progress=False).state() for _ in range(2)]
    for k, v in states[0].items(): torch.testing.assert_close(v, states[1][k], rtol=1e-3, atol=1e-5)


# --- what files say about themselves --------------------------------------------------------------------------------------------------

def call(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    assert r.exception is None or isinstance(r.exception, SystemExit), r.exc_info
    return r.exit_code, r.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder to stand in, with a small model and a sheet drawn from it."
    monkeypatch.chdir(tmp_path)
    card = make_card(SMALL | dict(classes=3), Recipe(), T=50, classes=('a', 'b', 'c'), size=14)
    net = build(card)[0].net
    g = torch.Generator().manual_seed(1)
    for p in net.parameters(): p.data = torch.randn(p.shape, generator=g)*0.1
    save_model('m.safetensors', net, card)
    status, said = call('sample', '--weights', 'm.safetensors', '--count', 5, '--steps', 3, '--seed', 7, '--eta', .5, '--label', 'b', '--guidance', 1.5, '--cols', 3, '--zoom', 1, '--batch', 2, '--out', 'a.png', '--device', 'cpu')
    assert status == 0, said
    return tmp_path


def pixels(path): return Image.open(path).tobytes()


def forge(path, drawn, like='a.png', size=None, compressed=False):
    "A copy of a sheet with other words in it."
    info, picture = PngImagePlugin.PngInfo(), Image.open(like)
    info.add_text('drawn', drawn if isinstance(drawn, str) else json.dumps(drawn), zip=compressed)
    (picture if size is None else picture.resize(size)).save(path, pnginfo=info)


def test_every_file_records_versions_and_how_it_was_made(here):
    said, _ = read_sheet('a.png')
    assert said['torch'] == torch.__version__ and said['python'] == sys.version.split()[0] and said['ddpm_lesson']
    assert said['sha256'] == hashlib.sha256(Path('m.safetensors').read_bytes()).hexdigest() and said['seed'] == 7 and said['steps'] == 3
    assert Image.open('a.png').info['seed'] == '7'  # also readable one by one
    status, out = call('train', '--preset', 'debug', '--width', 8, '--steps', 4, '--every', 2, '--folder', 'run', '--device', 'cpu', '--no-tensorboard', '--half')
    assert status == 0, out
    for about in load_tensors('run/checkpoint.safetensors')[1], json.loads(Path('run/model.json').read_text())['made']:
        assert {k: about[k] for k in ('torch', 'python', 'ddpm_lesson')} == {k: said[k] for k in ('torch', 'python', 'ddpm_lesson')}
    status, out = call('sample', '--like', 'run/samples.png')
    assert status == 0 and 'the same, pixel for pixel' in out and pixels('samples-again.png') == pixels('run/samples.png'), out


def test_a_sheet_repeats_itself_and_what_is_said_beside_it_wins(here):
    before = Path('a.png').read_bytes()
    status, out = call('sample', '--like', 'a.png')
    assert status == 0 and 'the same, pixel for pixel' in out and pixels('a-again.png') == pixels('a.png') and Path('a.png').read_bytes() == before, out
    assert read_sheet('a-again.png')[0] == read_sheet('a.png')[0]
    status, out = call('sample', '--like', 'a.png', '--steps', 6, '--count', 4, '--out', 'b.png')
    asked = read_sheet('a.png')[0] | dict(steps=6, count=4)
    assert status == 0 and read_sheet('b.png')[0] == asked and pixels('b.png') != pixels('a.png'), out
    assert call('sample', '--like', 'a.png', '--eta', 0, '--seed', 0, '--guidance', 0, '--out', 'c.png')[0] == call('sample', '--like', 'c.png', '--out', 'd.png')[0] == 0  # 0 is a value, not a lack of one
    assert read_sheet('d.png')[0] == read_sheet('c.png')[0] == read_sheet('a.png')[0] | dict(eta=0., seed=0, guidance=0.)


def test_a_sheet_of_one_image_and_the_ddpm_sampler(here):
    for k, flags in enumerate([('--count', 1), ('--sampler', 'ddpm', '--var', 'large', '--count', 2, '--steps', 4), ('--label', 'none', '--count', 7, '--steps', 1)]):
        assert call('sample', '--weights', 'm.safetensors', *flags, '--out', f'{k}.png')[0] == 0
        status, out = call('sample', '--like', f'{k}.png')
        assert status == 0 and 'the same, pixel for pixel' in out, out


def test_weights_that_moved_with_the_sheet_are_found_and_changed_ones_are_not_used(here, monkeypatch):
    (here/'far').mkdir()
    for name in 'm.safetensors', 'm.json', 'a.png': Path(name).rename(Path('far')/name)
    status, out = call('sample', '--like', 'far/a.png', '--out', 'b.png')
    assert status == 0 and 'pixel for pixel' in out, out
    card = json.loads(Path('far/m.json').read_text())
    Path('far/m.json').write_text(json.dumps(card | dict(note='better described')))
    assert call('sample', '--like', 'far/a.png', '--out', 'b.png')[0] == 0  # words that decide nothing
    Path('far/m.json').write_text(json.dumps(card | dict(sample=dict(clip=None))))
    status, out = call('sample', '--like', 'far/a.png', '--out', 'c.png')
    assert status == 1 and 'wanted to be a copy of the card' in out and not Path('c.png').exists(), out
    Path('far/m.json').write_text(json.dumps(card))
    net = build(card)[0].net
    save_model('far/m.safetensors', net, card)
    status, out = call('sample', '--like', 'far/a.png', '--out', 'c.png')
    assert status == 1 and 'changed since' in out and not Path('c.png').exists(), out
    assert call('sample', '--like', 'far/a.png', '--weights', 'far/m.safetensors', '--out', 'c.png')[0] == 0
    Path('far/m.safetensors').unlink()
    status, out = call('sample', '--like', 'far/a.png', '--out', 'd.png')
    assert status == 1 and 'not there' in out and '--weights' in out, out


def test_a_sheet_drawn_elsewhere_is_drawn_with_a_warning(here):
    said = read_sheet('a.png')[0]
    forge('b.png', said | dict(torch='2.0.0', device='mps' if not torch.backends.mps.is_available() else 'cuda', threads=said['threads'] + 1))
    status, out = call('sample', '--like', 'b.png', '--out', 'c.png')
    assert status == 0 and 'torch' in out and '2.0.0' in out and 'threads' in out and 'device' in out, out


def test_files_that_are_no_sheets_of_ours_are_refused(here, record):
    "Nothing they say is run, followed or written to, and each is one sentence."
    said, whole = read_sheet('a.png')[0], Path('a.png').read_bytes()
    files = {'empty.png': b'', 'words.png': b'hello', 'half.png': whole[:len(whole)//2], 'signature.png': whole[:8], 'no end.png': whole[:len(whole) - 40]}
    flipped = bytearray(whole)
    flipped[whole.index(b'IDAT') + 30] ^= 255
    files['flipped.png'] = bytes(flipped)
    for name, data in files.items(): Path(name).write_bytes(data)
    Image.open('a.png').save('plain.png')
    Image.open('a.png').save('photo.jpg')
    Path('photo.png').write_bytes(Path('photo.jpg').read_bytes())
    lies = dict(count=10**30, cols=0, zoom=10**9, batch=-1, steps=0, seed=2**70, eta=2, guidance=-1.0, threads='many', sampler='eval', var='huge', label='x'*2000, device='/dev/sda', sha256=None,
                weights='/etc/passwd', out='m.safetensors', gif='m.json')
    for k, v in lies.items(): forge(f'lie {k}.png', said | {k: v})
    for k in said: forge(f'kind {k}.png', said | {k: [said[k]]})
    forge('true.png', said | dict(seed=True))
    forge('weights2.png', said | dict(weights='gone\x00.safetensors'))
    Path('pickle.safetensors').write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    forge('pickle.png', said | dict(weights='pickle.safetensors'))
    forge('size.png', said, size=(200, 100))
    for name, text in dict(broken='{"count": 5', nothing='', nan=json.dumps(said | dict(eta=float('nan'))), deep='['*100_000, list='[]', word='"a"', digits='9'*6000, code='__import__("os").system("touch owned")').items(): forge(f'{name}.png', text)
    forge('bomb.png', ' '*70_000_000, compressed=True)
    ihdr = b'IHDR' + (90_000).to_bytes(4, 'big')*2 + whole[24:29]
    Path('huge.png').write_bytes(whole[:12] + ihdr + zlib.crc32(ihdr).to_bytes(4, 'big') + whole[33:])
    before, tried = {p.name: p.read_bytes() for p in here.iterdir()}, 0
    for name in sorted(n for n in before if n.endswith(('.png', '.jpg')) and n != 'a.png'):
        status, out = call('sample', '--like', name, '--out', 'never.png')
        assert status and 'Error: ' in out and 'Traceback' not in out and len(out) < 1500, (name, status, out[:1500])
        tried += 1
    record('a PNG with forged or damaged notes is refused, and nothing it names is run or written', tried)
    assert tried > 50 and {p.name: p.read_bytes() for p in here.iterdir()} == before
    assert call('sample', '--like', 'absent.png')[0] and call('sample', '--like', '.')[0]


def test_a_look_at_a_training_says_why_it_cannot_be_repeated(here):
    info = PngImagePlugin.PngInfo()
    info.add_text('step', '500')
    Image.open('a.png').save('look.png', pnginfo=info)
    status, out = call('sample', '--like', 'look.png')
    assert status == 1 and 'training after step 500' in out, out


def test_help_shows_an_example():
    assert '--like samples.png --steps 20 --out b.png' in ' '.join(call('sample', '--help')[1].split())


@pytest.mark.parametrize('command', ['sample', 'evaluate'])
def test_a_card_that_does_not_say_how_large_its_images_are_is_refused(command, tmp_path):
    model, _ = load_pretrained('fashion')
    save_model(tmp_path/'m.safetensors', model.net, {k: v for k, v in load_card('fashion').items() if k != 'size'})
    status, said = call(command, '--weights', tmp_path/'m.safetensors', '--out', tmp_path/('s.png' if command == 'sample' else 's.json'), '--device', 'cpu')
    assert status == 1 and 'lacks size' in said and not list(tmp_path.glob('s.*'))
