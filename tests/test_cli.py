"The commands: what they print, where they write, what they judge by, and that every call ends in a sentence."
import errno
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file
from torch.nn import functional as F

import ddpm_lesson
from ddpm_lesson import classroom, cli, experiments, judging, sheets, terminal
from ddpm_lesson.data import Images, bundled_fashion, load_images, to_unit
from ddpm_lesson.engine import distributed as scale
from ddpm_lesson.engine import draw
from ddpm_lesson.engine import sources as sets
from ddpm_lesson.engine.cards import build
from ddpm_lesson.engine.files import printable, save_png, save_tensors, sheet
from ddpm_lesson.engine.run import make_card
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.journal import typed
from ddpm_lesson.judging import shuffled
from ddpm_lesson.likelihood import elbo_terms, ode_bound
from ddpm_lesson.metrics import image_hashes, subset
from ddpm_lesson.pretrained import load_pretrained, save_model
from ddpm_lesson.sampler import ddim_sample, quadratic
from ddpm_lesson.train import Recipe

NETWORK = dict(channels=3, width=8, mults=[1, 2], blocks=1, attend=[1], patch=1)
EVIL = 'a\x1b]0;owned\x07\x9b2Jb\u202e\x08'


def call(*args):
    "Exit status and what was printed; any exception but an exit is raised."
    r = CliRunner().invoke(cli.main, [str(a) for a in args])
    if r.exception and not isinstance(r.exception, SystemExit): raise r.exception
    return r.exit_code, r.output


def small_model(path, classes=(), channels=3, size=16, T=50, data='photos', lively=False, **more):
    "A model with fresh weights, which says 0 to everything; a lively one does not."
    network = NETWORK | dict(channels=channels, classes=len(classes))
    card = make_card(network, Recipe(), T=T, classes=classes, size=size, data=data, **more)
    net, g = build(card)[0].net, torch.Generator().manual_seed(0)
    if lively:
        for w in net.parameters(): w.data += 0.1*torch.randn(w.shape, generator=g)
    save_model(path, net, card)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model('m.safetensors')
    return tmp_path


# ---- one exit for words

def harmless(text): return all(c.isprintable() or c in '\n\t\r' for c in text) and '\x1b' not in text and '\x9b' not in text


@pytest.fixture
def doors():
    "Commands that let a stranger's words out, each by another door."
    from tqdm import tqdm
    def echoed(): click.echo(EVIL)
    def printed(): print(EVIL)
    def to_stderr(): sys.stderr.write(EVIL)
    def warned(): warnings.warn(EVIL, stacklevel=1)
    def bar(): list(tqdm(range(2), EVIL))
    def refused(): raise ValueError(EVIL)
    def lost(): raise KeyError(EVIL)
    def usage(): raise click.BadParameter(EVIL)
    def spoken(): raise click.ClickException(EVIL)
    all_doors = [echoed, printed, to_stderr, warned, bar, refused, lost, usage, spoken]
    for f in all_doors: cli.main.add_command(click.command(name=f'door-{f.__name__}')(f))
    yield [f'door-{f.__name__}' for f in all_doors]
    for f in all_doors: del cli.main.commands[f'door-{f.__name__}']


def test_no_door_lets_out_what_a_terminal_would_obey(doors):
    "Rejects a program that cleans each message where it is made: echoes, warnings, bars and foreign errors were forgotten."
    for door in doors:
        status, said = call(door)
        assert harmless(said) and 'owned' in said and r'\x1b' in repr(said), (door, said)
    assert [call(d)[0] for d in doors] == [0, 0, 0, 0, 0, 1, 1, 2, 1]


def test_words_of_cards_sheets_and_names_are_shown_and_not_obeyed(here):
    card = json.loads(Path('m.json').read_text())
    cards = [card | dict(schedule=card['schedule'] | {EVIL: 1}), card | dict(network=card['network'] | {EVIL: 1}), card | dict(sample={EVIL: 1}),
             card | dict(units={EVIL: 1}), card | dict(target=EVIL), card | dict(schedule=dict(name=EVIL)), card | dict(data=EVIL), {EVIL: 1}]
    calls = []
    for k, wrong in enumerate(cards):
        shutil.copy('m.safetensors', f'{k}.safetensors')
        Path(f'{k}.json').write_text(json.dumps(wrong))
        calls += [['sample', '--weights', f'{k}.safetensors'], ['evaluate', '--weights', f'{k}.safetensors']]
    save_tensors('names.safetensors', {EVIL: torch.zeros(1)}, card)
    info = PngImagePlugin.PngInfo()
    info.add_text('drawn', json.dumps({EVIL: 1}))
    Image.new('RGB', (20, 20)).save('sheet.png', pnginfo=info)
    Path(f'{EVIL}.png').write_text('no picture')
    Path('pics').mkdir()
    Path('pics', f'{EVIL}.png').write_text('no picture')
    Image.new('RGB', (20, 20)).save(f'pics/{EVIL}2.png')
    calls += [['sample', '--weights', 'names.safetensors'], ['sample', '--like', 'sheet.png'], ['sample', '--like', f'{EVIL}.png'], ['sample', '--out', f'{EVIL}.jpg'],
              ['sample', '--label', EVIL], ['train', '--data', EVIL], ['train', '--data', 'pics', '--size', '8', '--folder', 'r'], ['sample', f'--{EVIL}'], [EVIL], ['sample', '--sampler', EVIL]]
    for args in calls:
        status, said = call(*args, *(['--device', 'cpu'] if 'pics' in args else []))
        assert status and harmless(said) and 'Traceback' not in said, (args, said)


def test_a_progress_bar_still_returns_to_the_start_of_its_line():
    class Terminal(list):
        encoding = 'ascii'
        def write(self, text): self.append(text)
    window = Terminal()
    terminal.Screen(window).write('\rimages 3%\r')
    terminal.Screen(window).write('one\rtwo é\n')
    assert window == ['\rimages 3%\r', 'one\\rtwo \\xe9\n']


def run(shell):
    return subprocess.run(['bash', '-c', shell], capture_output=True, text=True, timeout=120, env=os.environ | dict(OMP_NUM_THREADS='1', PY=sys.executable))


def test_a_stream_that_is_gone_ends_no_work_and_no_file_takes_its_place(here):
    "Rejects a program that lets an error of the screen end it, and one whose checkpoint is opened in the place of a closed stderr."
    draw = '$PY -m ddpm_lesson sample --weights m.safetensors --count 2 --steps 1 --device cpu'
    done = run(f'{draw} --out a.png 2>&-; {draw} --out b.png >&-; {draw} --out c.png >/dev/full; echo $?; set -o pipefail; {draw} --out d.png | true')
    assert 'Traceback' not in done.stderr and 'Exception ignored' not in done.stderr, done.stderr
    assert done.stdout.split()[-1] == '1'          # what could not be said is not passed over in silence
    sizes = {Image.open(f'{k}.png').size for k in 'abcd'}
    assert len(sizes) == 1


def test_it_says_its_version_where_nobody_installed_it(monkeypatch):
    "As in a clone that PYTHONPATH names; rejects a question to pip's records, which ends in a traceback."
    def gone(name): raise PackageNotFoundError(name)
    monkeypatch.setattr('importlib.metadata.version', gone)
    status, said = call('--version')
    assert status == 0 and said.split()[-1] == ddpm_lesson.__version__


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'utf-8'])
def test_a_result_for_a_script_can_be_read_whatever_the_terminal_shows(encoding, here, monkeypatch):
    r"Rejects letters that a terminal lacks, spelt as Python does, \xe9, inside of JSON."
    (here/'class').mkdir()
    names = ['Jos\xe9', '\U0001d49c Ann', '\u674e', 'x\x7fy', '\u1ea4']
    for k, name in enumerate(names): (here/'class'/f'{k}.json').write_text(json.dumps(dict(student=name, right=[])))
    rows = json.loads(CliRunner(charset=encoding).invoke(cli.main, ['progress', 'class', '--json']).stdout)
    assert {row['student'] for row in rows} == {printable(name) for name in names}
    monkeypatch.setenv('DDPM_LESSON_STUDENT', 'Jos\xe9')
    assert json.loads(CliRunner(charset=encoding).invoke(cli.main, ['progress', '--student', 'Jos\xe9', '--json']).stdout)['student'] == 'Jos\xe9'


@pytest.mark.parametrize('words', [['x.png'], ['good.png', '--mask', 'x.png']], ids=['photo', 'mask'])
def test_a_picture_that_can_not_be_read_is_named(words, here):
    "Rejects 'Error: not an image', of one picture among two."
    (here/'x.png').write_text('hello, this is no picture')
    Image.new('RGB', (16, 16), 'red').save('good.png')
    status, said = call('edit', *words, '--weights', 'm.safetensors')
    assert status == 1 and 'x.png: not an image' in said, said


@pytest.mark.parametrize('error', [OSError('Load averages are unobtainable'), AttributeError('getloadavg')], ids=['no /proc', 'Windows'])
def test_a_machine_that_does_not_say_how_busy_it_is_still_draws(error, here, monkeypatch):
    def gone(): raise error
    monkeypatch.setattr('os.getloadavg', gone)
    status, said = call('sample', '--weights', 'm.safetensors', '--count', 1, '--steps', 1)
    assert status == 0, said


def test_the_package_runs_as_a_module(here):
    done = run('cd /; $PY -m ddpm_lesson diagnose --T 20 && $PY -m ddpm_lesson.cli diagnose --T 20')
    assert done.stdout.count('schedule of 20 steps') == 2, done.stderr


def test_an_error_of_the_program_says_so_and_how_to_see_more(doors, monkeypatch):
    status, said = call('door-lost')
    assert status == 1 and 'KeyError' in said and 'DDPM_LESSON_TRACEBACK=1' in said and said.count('\n') == 1
    monkeypatch.setenv('DDPM_LESSON_TRACEBACK', '1')
    with pytest.raises(KeyError): call('door-lost')


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
                                   RuntimeError('CUDA out of memory. Tried to allocate'), RuntimeError('Storage size calculation overflowed with sizes=[9]')])
def test_lack_of_memory_says_what_to_lower(error): assert re.match('out of memory: lower --batch', terminal.sentence(error))


def test_a_missing_home_is_a_sentence(here, monkeypatch):
    monkeypatch.delenv('HOME')
    monkeypatch.setattr('pwd.getpwuid', lambda uid: {}[uid])
    for args in ['sample', '--out', '~/a.png'], ['sample', '--weights', '~/m.safetensors'], ['train', '--data', '~nobody-of-that-name'], ['train', '--folder', '~/x']:
        status, said = call(*args)
        assert status == 1 and 'home folder' in said, said
    assert not [p for p in here.iterdir() if p.name.startswith('~')]


@pytest.mark.parametrize('args', [['sample', '--count', 1, '--steps', 1], ['train', '--preset', 'debug'], ['class', 'out'], ['progress', '.'], ['diagnose', '--T', 10, '--size', 8]], ids=lambda args: args[0])
def test_a_folder_that_is_gone_is_named(args, here, monkeypatch):
    "Rejects '[Errno 2] No such file or directory' without a name."
    (here/'gone').mkdir()
    monkeypatch.chdir(here/'gone')
    (here/'gone').rmdir()
    status, said = call(*args)
    assert status == 0 if args[0] == 'diagnose' else status and 'the current folder is gone' in said, said


def test_ctrl_c_is_left_to_the_program_that_asks():
    "Rejects `subprocess.run`, which kills JupyterLab a quarter of a second after Ctrl-C, and with it all that its kernels hold."
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    assert cli._until_it_ends([sys.executable, '-c', 'import time; time.sleep(2); raise SystemExit(7)']) == 7


# ---- where results go

def test_the_home_folder_is_meant_in_every_path(here, monkeypatch):
    "Rejects a program that expands ~ in one flag and makes a folder called ~ for another."
    monkeypatch.setenv('HOME', str(here/'home'))
    (here/'home').mkdir()
    small_model('home/own.safetensors')
    draw = ['sample', '--weights', '~/own.safetensors', '--count', 2, '--steps', 1, '--device', 'cpu']
    for args in ([*draw, '--out=~/a.png', '--gif=~/a.gif', '--strip=~/b.png'], ['sample', '--like=~/a.png', '--out=~/c.png'],
                 ['find-lr', '--preset', 'debug', '--batch', 2, '--steps', 10, '--out=~/lr.csv', '--device', 'cpu'],
                 ['train', '--preset', 'debug', '--width', 8, '--steps', 1, '--folder=~/run', '--device', 'cpu', '--no-tensorboard']):
        status, said = call(*args)
        assert status == 0, said
    assert {'a.png', 'a.gif', 'b.png', 'c.png', 'lr.csv', 'run'} <= {p.name for p in (here/'home').iterdir()}
    assert sorted(p.name for p in here.iterdir()) == ['home', 'm.json', 'm.safetensors']
    every = [o for command in cli.main.commands.values() for o in command.params if isinstance(o.type, click.Path)]
    assert len(every) > 10 and all(isinstance(o.type, terminal.Place) for o in every)


DRAW = ['sample', '--weights', 'm.safetensors', '--count', '2', '--steps', '1', '--device', 'cpu']
WRITERS = {  # flag -> (command, a name of the right kind)
    'out': (DRAW, 'x.png'), 'gif': (DRAW, 'x.gif'), 'strip': (DRAW, 'x.png'),
    'result': (['evaluate', '--weights', 'm.safetensors', '--data', 'pics', '--device', 'cpu'], 'x.json'),
    'rates': (['find-lr', '--preset', 'debug', '--device', 'cpu', '--steps', '10'], 'x.csv'),
    'folder': (['train', '--preset', 'debug', '--width', '8', '--steps', '1', '--device', 'cpu', '--no-tensorboard'], 'run'),
    'table': (['experiment', '--steps', '1'], 'grid')}


def forbid_work(monkeypatch):
    "Whoever computes before the place for the result was looked at fails."
    no = lambda *a, **kw: pytest.fail('work was begun')
    for where, name in (draw, 'draw_images'), (scale, 'fit'), (experiments, 'run_cell'), (sets, 'load_images'), (judging, 'to_judge_by'): monkeypatch.setattr(where, name, no)
    monkeypatch.setattr('ddpm_lesson.engine.run.find_lr', no)


def command_of(flag, name): return WRITERS[flag][0] + [f'--{dict(result="out", rates="out", table="folder").get(flag, flag)}', str(name)]


@pytest.mark.parametrize('flag', WRITERS)
def test_nothing_of_others_is_replaced_and_no_work_begins(flag, here, monkeypatch):
    "Rejects a program that writes over whatever has the name: a letter, a link, a pipe, a file that is write-protected."
    forbid_work(monkeypatch)
    name = WRITERS[flag][1]
    if flag in ('folder', 'table'):
        inside = 'model.safetensors' if flag == 'folder' else 'table.csv'
        Path(name).mkdir()
        Path(name, inside).write_text('precious')
        status, said = call(*command_of(flag, name))
        assert status == 1 and Path(name, inside).read_text() == 'precious' and 'wanted' in said, said
        Path('file').write_text('precious')
        status, said = call(*command_of(flag, 'file'))
        assert status in (1, 2) and Path('file').read_text() == 'precious', said
        return
    makers = dict(letter=lambda p: p.write_text('precious'), link=lambda p: p.symlink_to('gone'), pipe=os.mkfifo, folder=os.mkdir,
                  protected=lambda p: (p.write_bytes(b''), p.chmod(0o444)))
    for kind, make in makers.items():
        path = Path(f'{kind}-{name}')
        make(path)
        before = path.lstat()
        status, said = call(*command_of(flag, path))
        assert status in (1, 2) and said.count('Error: ') == 1 and path.lstat().st_ino == before.st_ino, (kind, said)
    assert Path(f'letter-{name}').read_text() == 'precious'


@pytest.mark.parametrize('flag', WRITERS)
def test_a_place_that_takes_no_file_is_noticed_before_any_work(flag, here, monkeypatch):
    "Rejects a program that finds out after the drawing. /proc takes no file of anybody, root included."
    forbid_work(monkeypatch)
    Path('file').touch()
    for place in '/proc/nothing/here', 'file', 'y'*300:
        status, said = call(*command_of(flag, Path(place, WRITERS[flag][1])))
        assert status == 1 and 'Traceback' not in said, said


@pytest.mark.parametrize('name', ['loop.png', 'loop.png/x.png', 'link/loop.png'])
def test_links_that_go_round_are_no_place(name, here, monkeypatch):
    "Rejects `Path.resolve`, which raises RuntimeError, and a command that draws first."
    (here/'loop.png').symlink_to('loop.png')
    (here/'link').symlink_to('.')
    forbid_work(monkeypatch)
    status, said = call('sample', '--weights', 'm.safetensors', '--out', name)
    assert status == 1 and '--out wanted a' in said and 'fault' not in said, said


@pytest.mark.parametrize('a, b', [('x.png', 'x.png'), ('x.png', './x.png'), ('x.png', 'X.PNG'), ('x.png', 'link.png')])
def test_two_flags_may_not_name_one_file(a, b, here, monkeypatch):
    forbid_work(monkeypatch)
    Path('link.png').symlink_to('x.png')
    Path('x.png').touch()
    status, said = call(*DRAW, '--out', a, '--strip', b)
    assert status == 1 and '--strip wanted another file than --out' in said, said


def test_what_a_command_wrote_it_may_write_again(here):
    for _ in range(2):
        status, said = call(*DRAW, '--gif', 'x.gif', '--strip', 'w.png')
        assert status == 0, said
        status, said = call('find-lr', '--preset', 'debug', '--steps', 10, '--batch', 2, '--out', 'lr.csv', '--device', 'cpu')
        assert status == 0, said
    status, said = call('evaluate', '--weights', 'm.safetensors', '--data', 'fashion', '--out', 'm.json')   # the model's own card is a .json, too
    assert status == 1 and 'wanted a new name' in said


TOOLS = {'make_site': lambda p: ['--out', p], 'gather_experiments': lambda p: ['none', Path(p)/'x'], 'export_onnx': lambda p: ['fashion', Path(p)/'x.csv']}


def test_a_picture_with_much_to_say_is_still_known_for_ours(here):
    "Rejects a mark behind the card of thousands of classes: `train` ends by drawing over its own last sheet."
    save_png('a.png', torch.zeros(3, 8, 8, dtype=torch.uint8), dict(run=dict(classes=['x'*90]*2000), ddpm_lesson='1'))
    terminal.check_outputs(out=(Path('a.png'), '.png'))
    assert Image.open('a.png').text.keys() == {'run', 'ddpm_lesson'}


@pytest.mark.parametrize('tool', TOOLS)
def test_tools_replace_nothing_of_others(tool, tmp_path):
    "Rejects a tool that empties the folder it is given, or writes over a file in it."
    precious = tmp_path/'precious'
    precious.mkdir()
    for name in 'x.csv', 'x.txt', 'x.png', 'index.html': (precious/name).write_text('precious')
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, root/'tools'/f'{tool}.py', *map(str, TOOLS[tool](precious))], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode and 'precious' in done.stderr and 'Traceback' not in done.stderr, done.stderr[-500:]
    assert {p.name: p.read_text() for p in precious.iterdir()} == {name: 'precious' for name in ('x.csv', 'x.txt', 'x.png', 'index.html')}


def test_a_run_that_was_stopped_before_its_first_checkpoint_promises_no_resume(here, monkeypatch):
    def stopped(*a, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(scale, 'fit', stopped)
    status, said = call(*WRITERS['folder'][0], '--folder', 'run')
    assert status == 1 and 'begins anew' in said and '--resume' not in said, said


def test_the_command_that_train_prints_works(here):
    status, said = call('train', '--preset', 'debug', '--width', 8, '--steps', 1, '--T', 20, '--folder', 'my run', '--device', 'cpu', '--no-tensorboard')
    assert status == 0, said
    printed = re.search(r'draw more with: ddpm_lesson (.*)', said)[1]
    import shlex
    status, said = call(*shlex.split(printed), '--device', 'cpu')
    assert status == 0 and '20 network calls' in said, said


# ---- what a sheet may claim

def sheet_of(path, said, size, **png):
    info = PngImagePlugin.PngInfo()
    info.add_text('drawn', json.dumps(said))
    Image.new('1', size).save(path, pnginfo=info, **png)


@pytest.fixture
def said(here):
    status, out = call(*DRAW, '--out', 'a.png', '--zoom', 1)
    assert status == 0, out
    return sheets.read_sheet('a.png')[0]


@pytest.mark.parametrize('mode', ['L', 'I;16', 'LA', 'RGBA', 'RGB'])
def test_a_sheet_saved_again_in_another_mode_shows_the_same(mode):
    "Rejects Pillow's own conversion, which makes all greys above 255 of 65535 white: '87 % different, by at most 254'."
    grey = Image.linear_gradient('L')
    saved = Image.fromarray(257*np.asarray(grey).astype(np.uint16)) if mode == 'I;16' else grey.convert(mode)
    assert saved.mode == mode and sheets.compared(saved, grey) == 'the same, pixel for pixel'


@pytest.mark.parametrize('claim, size', [(dict(count=10**6, cols=1000), (3002, 3002)), (dict(count=1, zoom=13_000), (13_000, 13_000)), (dict(count=10**6, cols=10**6), (3*10**6 + 2, 5)),
                                         (dict(count=2, zoom=8), (36, 20)), (dict(count=4, cols=2), (16, 16))])
def test_a_claim_is_bound_to_the_model_and_to_the_picture(claim, size, said, here, monkeypatch):
    "Rejects a program that believes a small file: a million images, or one pixel enlarged 13,000 times, are more than its model draws on a picture of that size."
    monkeypatch.setattr(draw, 'draw_images', lambda *a, **kw: pytest.fail('drawn'))
    sheet_of('lie.png', said | claim, size)
    assert Path('lie.png').stat().st_size < 100_000
    status, out = call('sample', '--like', 'lie.png', '--out', 'never.png')
    assert status in (1, 2) and not Path('never.png').exists() and 'Traceback' not in out, out


def test_a_pipe_or_a_device_is_never_waited_for(here):
    os.mkfifo('pipe.png')
    os.mkfifo('pipe.safetensors')
    for args in ('--like', 'pipe.png'), ('--like', '/dev/zero'), ('--weights', 'pipe.safetensors'), ('--like', '/dev/stdin'):
        done = run(f'timeout 60 $PY -m ddpm_lesson sample {" ".join(args)} --out never.png < pipe.png' if args[1] == '/dev/none' else f'timeout 60 $PY -m ddpm_lesson sample {" ".join(args)} --out never.png')
        assert done.returncode == 1 and done.stderr.startswith('Error: '), (args, done)


def test_a_sheet_can_not_send_us_to_another_machine(said):
    for weights in r'\\evil\share\m.safetensors', '//evil/share/m.safetensors', r'\/evil/share/m.safetensors', r'/\evil/share/m.safetensors': assert sheets.places('a.png', weights)[0] != weights
    assert sheets.places('far/a.png', 'runs/m.safetensors') == ['runs/m.safetensors', 'far/m.safetensors']


# ---- what a model is judged by

SHARES = dict(a=120, b=40, c=20)


def photographs(folder, shares, seed, side=16, split=''):
    "A world of three classes that differ in brightness and grain; colours, so that grey differs."
    for k, (name, n) in enumerate(shares.items()):
        g = torch.Generator().manual_seed(100*seed + k)
        (folder/name/split).mkdir(parents=True, exist_ok=True)
        colour = torch.tensor([30 + 80*k, 60 + 50*k, 90])[:, None, None]
        for i in range(n):
            x = (colour + 25*torch.randn(3, 1, 1, generator=g) + (5 + 15*k)*torch.randn(3, side, side, generator=g)).clamp(0, 255).byte()
            save_png(folder/name/split/f'{seed}-{i}.png', x)
    return folder


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Two draws from one world, as folders; in the second there are enough for every label."
    folder = tmp_path_factory.mktemp('world')
    return photographs(folder/'seen', SHARES, 1), photographs(folder/'fresh', {k: 400 for k in SHARES}, 2)


@lru_cache(maxsize=None)
def loaded(folder, size, channels=3): return load_images(folder, size, channels=channels)


def coarse(device): return lambda pixels: F.avg_pool2d(pixels.double()/255, 4).flatten(1)


@pytest.fixture
def perfect(monkeypatch, world):
    "The network is replaced by fresh real images, of the label asked for, or with the shares of the world; and the judge by a cheap one."
    monkeypatch.setattr(judging, 'judges', lambda: dict(lite0=coarse))
    asked = []
    def use(fresh, shares):
        def draw_images(model, sched, shape, how, labels, seeds, *a, **more):
            g = torch.Generator().manual_seed(5)
            wanted = labels if labels is not None else torch.multinomial(torch.tensor(shares, dtype=torch.float64), shape[0], True, generator=g)
            places = {k: iter((fresh.labels == k).nonzero().flatten().tolist()) for k in range(len(fresh.classes))}
            asked.append(labels)
            return to_unit(fresh.pixels[[next(places[k]) for k in wanted.tolist()]]), []
        monkeypatch.setattr(draw, 'draw_images', draw_images)
    use.asked = asked
    return use


def judged(tmp_path, *args, count=90):
    out = tmp_path/'r.json'
    out.unlink(missing_ok=True)
    status, said = call('evaluate', '--weights', tmp_path/'m.safetensors', '--count', count, '--out', out, '--device', 'cpu', *args)
    assert status == 0, said
    return json.loads(out.read_text()), said


def at_the_floor(r): return abs(r['KID'] - r['floor KID']) < r['KID interval'] + r['floor interval']


def learned(images): return dict(images=len(images), classes=images.labels.bincount().tolist(), hashes=''.join(image_hashes(images)))


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [16, 12])
@pytest.mark.parametrize('kind', ['labels', 'no labels', 'flat folder'])
@pytest.mark.parametrize('trained', ['elsewhere', 'on all of it', 'on half of it'])
def test_a_perfect_model_scores_the_floor(channels, size, kind, trained, world, perfect, tmp_path):
    "Rejects a program that draws all labels in turn where the classes are unequal, or compares with another half, size or colour."
    seen, fresh = (loaded(f, size, channels) for f in world)
    perfect(fresh, list(SHARES.values()))
    half = subset(seen, torch.arange(0, len(seen), 2))
    more = {} if trained == 'elsewhere' else dict(learned=learned(seen if trained == 'on all of it' else half))
    if kind == 'flat folder':
        folder = tmp_path/'flat'
        folder.mkdir()
        for p in world[0].rglob('*.png'): shutil.copy(p, folder/f'{p.parent.name}-{p.name}')
        more.setdefault('learned', dict(classes=list(SHARES.values())))   # without labels in the folder, the shares that it learned
    small_model(tmp_path/'m.safetensors', () if kind == 'no labels' else tuple(SHARES), channels, size, **more)
    r, said = judged(tmp_path, '--data', tmp_path/'flat' if kind == 'flat folder' else world[0])
    assert at_the_floor(r) and (perfect.asked[0] is None) == (kind == 'no labels')
    wanted = {'elsewhere': None, 'on all of it': 180, 'on half of it': 0}[trained]
    assert r['learned'] == wanted and r['real N'] + r['floor N'] == (90 if wanted == 0 else 180)
    assert {None: 'does not say', 0: 'none of them learned from', 180: '180 of them learned from'}[wanted] in said


def test_labels_in_turn_would_not_score_the_floor(world, perfect, tmp_path, monkeypatch):
    "The popular mistake, which the test above must reject."
    seen, fresh = (loaded(f, 16) for f in world)
    perfect(fresh, list(SHARES.values()))
    small_model(tmp_path/'m.safetensors', tuple(SHARES))
    monkeypatch.setattr(judging, 'labels_like', lambda other, card, count: torch.arange(count) % 3)
    r, _ = judged(tmp_path, '--data', world[0])
    assert r['KID'] - r['KID interval'] > r['floor KID'] + r['floor interval']


def test_splits_of_unequal_shares_do_not_meet(world, perfect, tmp_path, monkeypatch):
    "Rejects a program that takes its floor from a training split with other shares than the test split, as Flowers102 has them."
    seen, fresh = (loaded(f, 16) for f in world)
    perfect(fresh, list(SHARES.values()))
    even = subset(fresh, torch.cat([(fresh.labels == k).nonzero().flatten()[-60:] for k in range(3)]))
    monkeypatch.setattr(sets, '_torchvision_images', lambda key, size=None, train=True, *a, **kw: even if train else seen)
    small_model(tmp_path/'m.safetensors', tuple(SHARES), learned=learned(even))
    r, said = judged(tmp_path, '--data', 'flowers102')
    assert at_the_floor(r) and r['learned'] == 0 and r['real N'] + r['floor N'] == 180


def test_the_bundled_set_is_judged_by_its_test_split(perfect, tmp_path):
    train = bundled_fashion()
    perfect(train, [1]*10)
    small_model(tmp_path/'m.safetensors', train.classes, 1, 28, data='fashion')
    r, said = judged(tmp_path, count=300)
    assert at_the_floor(r) and r['learned'] == 0 and r['real N'] == 1700 and 'images of fashion, none of them learned from' in said


def test_classes_that_the_model_does_not_know_are_left_out(world, perfect, tmp_path):
    fresh = loaded(world[1], 16)
    perfect(Images(fresh.pixels, 2 - fresh.labels, ('c', 'b', 'a')), [1, 1, 1])   # the same names in another order
    small_model(tmp_path/'m.safetensors', ('c', 'b', 'a'))
    r, _ = judged(tmp_path, '--data', world[0])
    assert at_the_floor(r)
    perfect(subset(fresh, fresh.labels < 2), [1, 1])
    small_model(tmp_path/'m.safetensors', ('a', 'b'))
    r, _ = judged(tmp_path, '--data', world[0], count=80)
    assert at_the_floor(r) and r['real N'] + r['floor N'] == 160


@pytest.mark.parametrize('label', ['pics', '~/pics', '/etc', 'cifar10', 'CIFAR-10', '../pics', './fashion', 'http://evil/x'])
def test_a_card_never_chooses_what_is_read_or_downloaded(label, here, monkeypatch):
    "Rejects a program that looks up a stranger's word."
    photographs(here/'pics', dict(a=30, b=30), 3)
    photographs(here/'fashion', dict(a=30, b=30), 3)
    small_model('m.safetensors', data=label)
    monkeypatch.setattr(sets, 'open_torchvision', lambda *a: pytest.fail('opened'))
    monkeypatch.setattr(judging, 'to_judge_by', lambda *a: pytest.fail('read'))
    status, said = call('evaluate', '--weights', 'm.safetensors', '--device', 'cpu')
    assert status == 1 and '--data wanted real images to judge by' in said, said


@pytest.mark.parametrize('learned', [None, 'x', [], {}, dict(hashes=5), dict(hashes='é'*600), dict(classes=[1.5, 2, 3]), dict(classes=[0, 0, 0]), dict(classes=[10**30, 1, 1]), dict(classes=['a'])])
def test_what_a_strangers_card_says_it_learned_is_looked_at_first(learned, world, perfect, tmp_path):
    perfect(loaded(world[1], 16), list(SHARES.values()))
    small_model(tmp_path/'m.safetensors', tuple(SHARES), learned=learned)
    assert judged(tmp_path, '--data', world[0])[0]['learned'] is None


# ---- every call ends in a sentence

NUMBERS = ['0', '1', '2', '3', '-1', '20', '50', '1000000000', '100000', '9'*400, '-' + '9'*400, '1.5', '1e5', 'abc', '', '٣', '²', '0x10', ' 1', '1_0', 'nan', 'inf', '-inf', '1e999', '1e-320', '0.5', 'True', 'None']
WORDS = ['', 'all', 'none', 'a', 'b', 'a,b', 'c', '0', '1', '²', 'fashion', 'debug', 'cpu', 'auto', 'meta', 'cuda', 'cuda:99', 'cuda:-1', 'cpu:-1', 'cuda:' + '9'*30, 'mps', 'xla', 'tpu', 'lazy', EVIL, '\udc80', 'a\nb', 'x'*5000,
         '%s', '{}', '../..', '~', '~nobody-of-that-name/x', '/dev/null', '/dev/zero', '1,2', '1,,2', ',', '64,64', '1,' + '9'*400, 'a,b,' , '-', '--', 'linear', 'x_0', 'mae', 'bf16', 'muon', 'ddim']
PATHS = ['o.png', 'o.gif', 'o.json', 'o.csv', 'o.jpg', 'out/o.png', 'folder', 'letter.png', 'letter.json', 'letter.csv', 'pipe.png', 'gone.png', 'plain.png', 'sheet.png', 'm.safetensors', 'm.json', 'labels.safetensors', 'bad.safetensors',
         'pics', 'sent', 'empty', 'file', '/proc/x.png', 'file/x.png', 'y'*300 + '.png', '.', '/', 'run', '~/x.png', '', 'o.png/', 'dir.png']


GOOD = dict(out=['o.png', 'o.csv', 'o.json'], gif=['o.gif'], strip=['s.png'], weights=['m.safetensors', 'labels.safetensors', 'fashion'], data=['pics', 'debug', 'fashion'], device=['cpu'], size=['8', '12'], batch=['2', '3'],
            count=['20', '33'], label=['all', 'none', '0', '1', 'a,b'], mults=['1', '1,2'], attend=['', '1'], folder=['new'], like=['sheet.png'], width=['8'], precision=['float32'], optimizer=['adamw'], held=['20'],
            photo=['plain.png', 'pics/a/3-0.png'], mask=['plain.png'], where=['mine.py:sampler', 'mine.py:broken', 'mine.py', 'gone.py:sampler', 'mine.py:nothing'], picture=['o.png'], student=['ana', 'Bo Li'],
            start=['m.safetensors', 'labels.safetensors'], resume=['run'], between=['1', '20', '40', '50'], strength=['0.5', '1'], steps=['2', '3', '10'], ip=['0.0.0.0'], grader=['nbgrader'])


def guess(option, r):
    "A value for a flag: mostly good, sometimes of its kind, often absurd."
    if option.name in GOOD and r.random() < 0.6: return r.choice(GOOD[option.name])
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)) and r.random() < 0.6: return r.choice(['1', '2', '3'])
    if isinstance(option.type, click.Choice) and r.random() < 0.8: return r.choice(list(option.type.choices))
    if isinstance(option.type, click.Path) and r.random() < 0.9: return r.choice(PATHS + WORDS[:12])
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)) and r.random() < 0.9: return r.choice(NUMBERS)
    return r.choice(NUMBERS + WORDS + PATHS)


COMMANDS = ['sample']*3 + ['train']*3 + ['evaluate']*4 + ['edit']*3 + ['progress']*2 + ['find-lr', 'experiment', 'diagnose', 'audit', 'lessons', 'class']


def command_line(seed):
    "A call that somebody might make, or nobody."
    r = random.Random(seed)
    name = r.choice(COMMANDS)
    args, params = [name], cli.main.commands[name].params
    options = [o for o in params if isinstance(o, click.Option)]
    for option in r.sample(options, min(len(options), r.choice([0, 1, 1, 2, 2, 3, 4, 6]))):
        args += [r.choice(option.opts + option.secondary_opts)] + [guess(option, r) for _ in range(0 if option.is_flag else option.nargs)]
    if name == 'evaluate' and r.random() < 0.3: args.append('--bits')
    for argument in params:
        if isinstance(argument, click.Argument) and r.random() < 0.9: args.append('sent' if name == 'progress' and r.random() < 0.5 else guess(argument, r))
    if r.random() < 0.05: args.insert(r.randrange(len(args) + 1), r.choice(WORDS))
    return args


def test_every_command_is_fuzzed(): assert set(COMMANDS) == set(cli.main.commands)


SAMPLERS = """
import torch
def sampler(model, alpha_bar, x_T, steps, eta): return x_T
def broken(): raise KeyError('\\x1b[31m')
nothing = None
"""


@pytest.fixture
def tiny(here, monkeypatch):
    "A folder of things to trip over, and commands whose slow parts are a moment's work."
    photographs(here/'pics', dict(a=24, b=24), 3, side=8)
    Path('empty').mkdir(), Path('folder').mkdir(), os.mkfifo('pipe.png'), Path('gone.png').symlink_to('nothing'), Path('dir.png').mkdir()
    for name in 'letter.png', 'letter.json', 'letter.csv', 'file', 'bad.safetensors': Path(name).write_text('precious')
    small_model('labels.safetensors', ('a', 'b'), 3, 8)
    Image.new('RGB', (20, 20)).save('plain.png')
    call(*DRAW, '--out', 'sheet.png')
    call('train', '--preset', 'debug', '--width', '8', '--steps', '1', '--folder', 'run', '--device', 'cpu', '--no-tensorboard')
    monkeypatch.setenv('HOME', str(here/'home'))
    monkeypatch.setattr(sets, 'open_torchvision', lambda *a: (_ for _ in ()).throw(ValueError('no download in a test')))
    monkeypatch.setattr(judging, 'judges', lambda: dict(lite0=coarse, inception=coarse))
    drawn = draw.draw_images
    def draw_images(model, sched, shape, how, labels, seeds, batch, *a, **more):
        few = replace(how, steps=2 if 2 <= how.steps <= sched.T else how.steps)
        drawn(model, sched, (1, *shape[1:]), few, None if labels is None else labels[:1], list(seeds)[:1], batch, *a, **more)
        return torch.zeros(shape), [torch.zeros(min(shape[0], batch), *shape[1:])]*2
    monkeypatch.setattr(draw, 'draw_images', draw_images)
    monkeypatch.setattr(scale, 'fit', lambda run, *a, **kw: run.losses.append(torch.ones(())))
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: None)
    monkeypatch.setattr('ddpm_lesson.engine.run.find_lr', lambda card, data, steps, device: (torch.logspace(-6, 0, 20), torch.ones(20)))
    monkeypatch.setattr(experiments, 'run_cells', lambda cells, folder, *a, data='fashion', size=28, **kw: sets.load_images(data, size) and [])
    monkeypatch.setattr('ddpm_lesson.sheets.most_pixels', 10**6)
    a_moments_work(monkeypatch, here)
    return here


def a_moments_work(monkeypatch, here):
    "The same for the commands about pictures that are there, samplers, pages and students."
    changed, bits_of = cli._changed, judging.bits_of
    def one_change(model, sched, x, known, inverted, strength, how, seeds):
        if isinstance(model, Labelled): model = Labelled(model.model, model.y[:1])
        changed(model, sched, x[:1], known, inverted, strength, replace(how, steps=min(2, how.steps)), list(seeds)[:1])
        return x
    def few_bits(model, sched, x_0, steps, seeds):
        if isinstance(model, Labelled): model = Labelled(model.model, model.y[:1])
        bits_of(model, sched, x_0[:1], min(3, steps), list(seeds)[:1])
        return torch.ones(len(x_0), 2, dtype=torch.float64)
    monkeypatch.setattr(cli, '_changed', one_change)
    monkeypatch.setattr(judging, 'bits_of', few_bits)
    Path('mine.py').write_text(SAMPLERS)
    report = SimpleNamespace(right=True, to_json=lambda: json.dumps(dict(right=True)))
    monkeypatch.setattr('ddpm_lesson.audit.audit', lambda sampler, name: report)
    monkeypatch.setattr(cli, '_until_it_ends', lambda command: 0)
    few = [Path('settings.ini'), Path('nbs/index.ipynb'), Path('nbs/03_forward.ipynb')]
    monkeypatch.setattr(classroom, 'course_files', lambda root: few)
    monkeypatch.setattr(classroom, '_wheel', lambda root, out: 'pip install "ddpm_lesson[lessons]"')
    monkeypatch.setattr(classroom, 'make_slides', lambda out: Path(out).touch())
    monkeypatch.setattr(classroom, 'nbgrader_course', os.mkdir)
    monkeypatch.setenv('XDG_DATA_HOME', str(here/'empty'))
    Path('sent').mkdir()
    Path('sent/ana.json').write_text(json.dumps(dict(student=EVIL, right=['00-ghost'], of=9)))
    Path('sent/bo.json').write_text(json.dumps(dict(done={'04-var': '2026-01-01'})))
    Path('sent/bad.json').write_text('{')


PRECIOUS = 'letter.png', 'letter.json', 'letter.csv', 'file', 'bad.safetensors'


def try_out(args):
    "Call, and say what is wrong with how it ended, or ''."
    there = set(os.listdir())
    r = CliRunner().invoke(cli.main, args)
    os.environ.pop('DDPM_LESSON_STUDENT', None)
    for made in map(Path, set(os.listdir()) - there):
        if made.is_dir() and not made.is_symlink(): shutil.rmtree(made)
        else: made.unlink()
    if r.exception and not isinstance(r.exception, SystemExit): return f'raised {r.exception!r:.200}'
    if r.exit_code not in (0, 1, 2): return f'exit status {r.exit_code}'
    if not harmless(r.output): return 'let a control character out'
    if 'fault of the program' in r.output or 'Traceback' in r.output: return r.output.splitlines()[-1][:300]
    if r.exit_code and 'Error: ' not in r.output: return 'no sentence'
    return ''


def fuzz_commands(seeds):
    "What went wrong, by command line, each with as few flags as still show it."
    failures = {}
    for seed in seeds:
        args = command_line(seed)
        if not (wrong := try_out(args)): continue
        k = 1
        while k < len(args):
            fewer = args[:k] + args[k + (2 if k + 1 < len(args) and not args[k + 1].startswith('--') else 1):]
            if args[k].startswith('--') and try_out(fewer) == wrong: args = fewer
            else: k += 1
        failures[tuple(args)] = wrong
    assert [Path(name).read_text() for name in PRECIOUS] == ['precious']*len(PRECIOUS)
    return failures


def test_three_hundred_calls_end_in_a_sentence(tiny, record):
    failures = fuzz_commands(range(300))
    record('a generated command line ends in a sentence: no traceback, no control character, nothing of others replaced', 300, len(failures))
    assert not failures


@pytest.mark.slow
def test_five_thousand_calls_end_in_a_sentence(tiny, record):
    failures = fuzz_commands(range(1000, 6000))
    record('a generated command line ends in a sentence: no traceback, no control character, nothing of others replaced', 5000, len(failures))
    assert not failures


@pytest.mark.parametrize('flags', [['--eta', '1', '--sampler', 'ddpm'], ['--var', 'large', '--sampler', 'ddim'], ['--guidance', '3', '--label', 'none']])
def test_a_flag_that_would_change_nothing_is_refused(flags, tmp_path):
    "Rejects dropping what was asked for without a word."
    weights = small_model(tmp_path/'m.safetensors', ('a', 'b'))
    status, said = call('sample', '--weights', weights, '--count', 2, '--steps', 2, '--out', tmp_path/'a.png', *flags)
    assert status == 1 and f'{flags[0]} wanted' in said and not (tmp_path/'a.png').exists()


@pytest.mark.parametrize('rank', ['1', 'x'])
def test_a_rank_that_was_left_over_replaces_nothing(here, monkeypatch, rank):
    "Rejects a process that takes itself for the second of several, and so does not look into the folder."
    monkeypatch.setenv('RANK', rank)
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    Path('mine').mkdir()
    Path('mine/model.json').write_text('mine')
    code, said = call('train', '--preset', 'debug', '--steps', 2, '--warmup', 0, '--folder', 'mine')
    assert code and 'not of this run' in said and Path('mine/model.json').read_text() == 'mine'


@pytest.mark.parametrize('ip', ['\x1b[31mred', 'a b', '$(touch owned)', '0.0.0.0\n', 'é'])
def test_lessons_listen_at_an_address_and_nothing_else(ip, monkeypatch, tmp_path):
    "Rejects a program that hands a stranger's text to another one, which shows it as it is."
    pytest.importorskip('jupyterlab')
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, '_until_it_ends', lambda command: started.append(command) or 0)
    status, said = call('lessons', '--ip', ip)
    assert status == 1 and '--ip wanted an address' in said and harmless(said) and not started
    for good in '0.0.0.0', '::1', 'localhost', '*':
        assert call('lessons', '--ip', good)[0] == 0 and f'--ip={good}' in started[-1]


# ---- which models a command can work with

def own_model(path, **more):
    "A network that only its author can build."
    net = torch.nn.Conv2d(3, 3, 1)
    card = make_card(dict(kind='own', name='Mine', channels=3, classes=0), Recipe(), T=50, size=16, data='photos', **more)
    save_model(path, net, card)


def wide_model(path, size, channels=3):
    card = make_card(NETWORK | dict(channels=channels, classes=0), Recipe(), T=50, size=size, data='photos')
    save_model(path, build(card)[0].net, card)


USERS = {  # whoever is given a model: the flag, and what a call needs besides
    'sample': ['sample', '--steps', 2, '--count', 2, '--weights'], 'edit': ['edit', 'plain.png', '--steps', 2, '--count', 2, '--weights'],
    'evaluate': ['evaluate', '--data', 'pics', '--count', 20, '--steps', 2, '--weights'], 'bits': ['evaluate', '--bits', '--data', 'pics', '--count', 4, '--steps', 3, '--weights'],
    'train': ['train', '--data', 'pics', '--preset', 'debug', '--steps', 1, '--warmup', 0, '--folder', 'new', '--start']}


def test_every_command_that_is_given_a_model_is_tried():
    "Rejects a new command, or a new flag for a model, that the tests below forget."
    takers = {name for name, c in cli.main.commands.items() for o in c.params if o.name in ('weights', 'start')}
    assert takers == {args[0] for args in USERS.values()}


@pytest.fixture
def plain(here, monkeypatch):
    photographs(here/'pics', dict(a=24, b=24), 3)
    save_png('plain.png', torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8))
    monkeypatch.setattr(judging, 'judges', lambda: dict(lite0=coarse))
    return here


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('model, said', [('own', 'not a network of ours'), ('five', 'grey or colour'), ('wide', 'model of squares')])
def test_a_model_that_a_command_can_not_use_is_refused_before_any_work(user, model, said, plain, monkeypatch):
    "Rejects a program that reads a folder, or draws, and only then finds that it can't go on; and one that takes a wide model for a square one."
    if model == 'own': own_model('x.safetensors')
    else: wide_model('x.safetensors', [16, 24] if model == 'wide' else 16, 5 if model == 'five' else 3)
    if (user, model) == ('sample', 'wide'):
        status, out = call(*USERS[user], 'x.safetensors', '--device', 'cpu', '--zoom', 1)
        assert status == 0 and Image.open('samples.png').size == (2*26 + 2, 20), out
        return
    forbid_work(monkeypatch)
    monkeypatch.setattr(sets, 'read_image', lambda *a: pytest.fail('read'))
    status, out = call(*USERS[user], 'x.safetensors', '--device', 'cpu')
    assert status == 1 and said in out and not {'samples.png', 'edited.png', 'new'} & {p.name for p in plain.iterdir()}, out


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('classes', [(), ('a', 'b')], ids=['no labels', 'labels'])
def test_grey_and_colour_models_work_everywhere(user, channels, classes, plain):
    small_model('x.safetensors', classes, channels)
    status, out = call(*USERS[user], 'x.safetensors', '--device', 'cpu')
    assert status == 0, out


def test_a_network_that_never_went_without_labels_is_told_one_or_refused(plain, monkeypatch):
    "Rejects a program that draws, or asks, without a label what has never gone without, and finds out in the middle."
    card = make_card(NETWORK | dict(classes=2), Recipe(label_drop=0), T=50, classes=('a', 'b'), size=16, data='photos')
    save_model('x.safetensors', build(card)[0].net, card)
    for user in 'edit', 'evaluate', 'bits': assert call(*USERS[user], 'x.safetensors', '--device', 'cpu', *['--label', 'all']*(user == 'edit'))[0] == 0
    photographs(plain/'others', dict(c=24, d=24), 3)
    forbid_work(monkeypatch)
    for args in [*USERS['sample'], 'x.safetensors', '--label', 'none'], [*USERS['edit'], 'x.safetensors']:
        status, said = call(*args, '--device', 'cpu')
        assert status == 1 and '--label wanted a class' in said, said
    monkeypatch.undo()
    os.chdir(plain)
    status, said = call('evaluate', '--bits', '--data', 'others', '--steps', 3, '--weights', 'x.safetensors', '--device', 'cpu')
    assert status == 1 and 'of the classes that the model knows' in said, said


# ---- bits per dimension

def bits(*args):
    status, said = call('evaluate', '--bits', '--data', 'pics', '--weights', 'm.safetensors', '--device', 'cpu', '--json', *args)
    assert status == 0, said
    return json.loads(said)


def test_bits_are_those_of_lesson_17_with_students_interval(plain):
    "Rejects two standard errors in place of Student's quantile, another decoder for the ODE, a seed that is dropped, and images whose bits depend on the batch."
    small_model('m.safetensors', lively=True)
    r = bits('--count', 5, '--steps', 10, '--seed', 3)
    model, sched = load_pretrained('m.safetensors')
    x_0 = to_unit(load_images('pics', 16).pixels[shuffled(48)[:5]])
    nats = elbo_terms(model, sched, x_0, steps=10, var='large', seeds=range(3, 8)).sum(1)
    log_p, _ = ode_bound(model, sched, x_0, steps=quadratic(50, 25), probes=1, seeds=range(3, 8), start=5)
    for name, b in dict(ELBO=nats/768/math.log(2), ODE=-log_p/768/math.log(2)).items():
        assert r[name] == pytest.approx(b.mean().item(), rel=1e-6)
        assert r[f'{name} interval'] == pytest.approx(2.7764*b.std().item()/5**0.5, rel=1e-3)   # Student's t, four degrees of freedom, from a table
    assert r['N'] == 5 and r['learned'] is None and list(r)[0] == 'ELBO'
    assert bits('--count', 5, '--steps', 10, '--seed', 3, '--batch', 2)['ODE'] == pytest.approx(r['ODE'], rel=1e-3)
    assert bits('--count', 5, '--steps', 10, '--seed', 4)['ELBO'] != r['ELBO']


@pytest.mark.parametrize('flags, error', [(['--judge', 'lite0'], '--bits wanted no --judge'), (['--sampler', 'ddim'], 'no --sampler'), (['--guidance', 2], 'no --guidance'),
                                          (['--guidance-interval', 2, 3], 'no --guidance-interval'), (['--steps', 1], '--steps wanted 2'), (['--steps', 51], 'steps wanted'), (['--count', 1], 'count')])
def test_bits_refuse_what_would_change_nothing_or_can_not_be(flags, error, plain):
    status, said = call('evaluate', '--bits', '--data', 'pics', '--weights', 'm.safetensors', '--device', 'cpu', *flags)
    assert status in (1, 2) and error in said, said


def test_bits_of_a_model_with_units_of_its_own_are_refused(plain):
    "Rejects a density in other units that is read as if a byte were 2/255 wide."
    small_model('u.safetensors', units=dict(mean=[0.1]*3, std=[0.5]*3))
    status, said = call('evaluate', '--bits', '--data', 'pics', '--weights', 'u.safetensors', '--device', 'cpu')
    assert status == 1 and 'images in [-1, 1]' in said, said


def test_a_result_in_bits_may_be_written_again(plain):
    for _ in range(2): assert bits('--count', 2, '--steps', 3, '--out', 'b.json')['N'] == 2 and json.loads(Path('b.json').read_text())['ELBO'] > 0


def test_on_windows_a_result_may_be_written_again(plain, monkeypatch):
    "Rejects a program that does not know its own file again, since Windows ends lines otherwise."
    def on_windows(path, text, encoding=None, errors=None, newline=None): return path.write_bytes(text.replace('\n', newline or '\r\n').encode(encoding))
    monkeypatch.setattr(Path, 'write_text', on_windows)
    for _ in range(2): assert bits('--count', 2, '--steps', 3, '--out', 'b.json')['N'] == 2


def test_a_printed_command_can_be_typed_on_windows(monkeypatch):
    "Rejects quotes for another system's shell: its default folder has a backslash."
    assert typed('ddpm_lesson', 'train', '--resume', 'my run') == "ddpm_lesson train --resume 'my run'"
    with monkeypatch.context() as windows:
        windows.setattr(os, 'name', 'nt')
        said = typed('ddpm_lesson', 'train', '--resume', r'runs\laptop'), typed('sample', '--weights', r'C:\my run')
    assert said == (r'ddpm_lesson train --resume runs\laptop', r'sample --weights "C:\my run"')


def test_a_result_is_said_although_it_can_not_be_written(plain, monkeypatch):
    "Rejects a command that measures for an hour, and then says nothing since the disk is full."
    def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(cli, 'write_text', full)
    status, said = call('evaluate', '--bits', '--data', 'pics', '--weights', 'm.safetensors', '--device', 'cpu', '--count', 2, '--steps', 3, '--out', 'b.json')
    assert status == 1 and 'No space left' in said and 'bits per dimension' in said, said


def test_what_apples_gpu_can_not_is_measured_on_the_cpu(plain, monkeypatch):
    "Rejects float64 on a device that has none, and a judge there that shrinks pictures in a way that older torch lacks."
    def judge(device): raise ValueError(f'the judge sits on {device}')
    monkeypatch.setattr(cli, 'best_device', lambda wanted: 'mps')
    assert bits('--count', 2, '--steps', 3)['device'] == 'cpu'
    monkeypatch.setattr(judging, 'judges', lambda: dict(lite0=judge))
    monkeypatch.setattr(judging, 'joined', lambda weights, device: nullcontext((*load_pretrained(weights), device, 0)))
    status, said = call('evaluate', '--data', 'pics', '--weights', 'm.safetensors', '--count', 20)
    assert status == 1 and 'the judge sits on cpu' in said, said


# ---- guidance in an interval

def test_guidance_in_an_interval_is_the_python_call(here):
    "Rejects an interval that is dropped, turned round, or counted in steps of the walk; and a sheet that does not know its own."
    small_model('x.safetensors', ('a', 'b'), lively=True)
    draw_them = ['sample', '--weights', 'x.safetensors', '--count', 4, '--steps', 10, '--guidance', 3, '--zoom', 1, '--device', 'cpu']
    status, said = call(*draw_them, '--guidance-interval', 10, 27, '--out', 'a.png')
    assert status == 0 and '14 network calls' in said, said    # steps 50, 45 ... 5: at 25, 20, 15 and 10 one call more
    model, sched = load_pretrained('x.safetensors')
    guided = Guided(model, torch.tensor([0, 1, 0, 1]), 3.0, between=(10, 27))
    pixels = sheet(ddim_sample(guided, sched, (4, 3, 16, 16), steps=10, clip=(-1, 1), seeds=range(4)), 10, 1)
    save_png('b.png', pixels)
    assert Image.open('a.png').tobytes() == Image.open('b.png').tobytes()
    assert call(*draw_them, '--out', 'c.png')[0] == 0 and Image.open('a.png').tobytes() != Image.open('c.png').tobytes()
    status, said = call('sample', '--like', 'a.png', '--out', 'd.png')
    assert status == 0 and 'the same, pixel for pixel' in said, said


def test_a_sheet_of_before_is_read(said, here):
    "A sheet that was drawn before there were intervals says nothing of them."
    old = {k: v for k, v in said.items() if k != 'between'}
    assert not sheets.wrong_entry(old) and not sheets.wrong_entry(old | dict(between=[1, 2]))
    for lie in [2, 1], [1], [1, 2, 3], ['1', 2], [True, 2], 'ab', {}, [1, 1e9]: assert sheets.wrong_entry(old | dict(between=lie)), lie


@pytest.mark.parametrize('flags, error', [(['--guidance-interval', 10, 20], '--guidance-interval wanted guidance other than 1'), (['--guidance', 2, '--guidance-interval', 20, 10], 'low <= high'),
                                          (['--guidance', 2, '--guidance-interval', 26, 29], '--guidance-interval wanted some of the steps 50..5'),
                                          (['--guidance', 2, '--label', 'none', '--guidance-interval', 1, 50], 'wanted labels'), (['--guidance-interval', 1], 'requires 2'), (['--guidance', 2, '--guidance-interval', 1, 'x'], 'whole number')])
def test_an_interval_that_would_change_nothing_is_refused(flags, error, here, monkeypatch):
    small_model('x.safetensors', ('a', 'b'))
    forbid_work(monkeypatch)
    status, said = call('sample', '--weights', 'x.safetensors', '--steps', 10, '--device', 'cpu', *flags)
    assert status in (1, 2) and error in said, said


# ---- edit: a photo changed by a finished model

@pytest.mark.parametrize('flags, made', [([], 4), (['--strength', 1, '--count', 2], 2), (['--invert'], 1), (['--mask', 'mask.png', '--count', 2], 2)])
def test_a_photo_is_edited_and_the_sheet_begins_with_it(here, flags, made):
    "Rejects a sheet of another size, a mask the wrong way round, and two runs that differ."
    save_png('photo.png', torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8))
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, 8:] = 255
    save_png('mask.png', mask)
    pictures = []
    for out in 'a.png', 'b.png':
        status, said = call('edit', 'photo.png', '--weights', 'm.safetensors', '--steps', 4, '--zoom', 1, '--out', out, *flags)
        assert status == 0 and f'and {made} made of it' in said, said
        pictures.append(Image.open(out))
    assert pictures[0].size == (18*(made + 1) + 2, 20) and pictures[0].tobytes() == pictures[1].tobytes()


@pytest.mark.parametrize('flags, error', [(['--strength', 0], 'strength'), (['--mask', 'photo.png', '--invert'], 'wanted no --mask'), (['--mask', 'photo.png', '--strength', 1], '--mask wanted no --strength'), (['--mask', 'tall.png'], 'the shape of PHOTO, 30 x 20'), (['--mask', 'white.png'], 'one kind alone'), (['--invert', '--seed', 3], '--invert wanted no --seed'), (['--out', 'photo.png'], 'wanted another file'), (['--steps', 51], 'steps')])
def test_an_edit_that_cannot_be_says_why(here, flags, error):
    save_png('photo.png', torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8))
    save_png('tall.png', torch.randint(0, 256, (3, 30, 20), dtype=torch.uint8))
    save_png('white.png', torch.full((1, 16, 16), 255, dtype=torch.uint8))
    status, said = call('edit', 'photo.png', '--weights', 'm.safetensors', *flags)
    assert status and error in said and 'Traceback' not in said


@pytest.mark.parametrize('load, asked, used', [(9.0, None, 1), (0.5, None, 2), (9.0, '2', 2)])
def test_a_busy_machine_draws_with_one_thread(load, asked, used, here, monkeypatch):
    "Two threads on a machine whose cores others have: 91 seconds for what one thread drew in 32. Rejects two there, one always, and a setting overruled."
    monkeypatch.setattr(os, 'getloadavg', lambda: (load, load, load))
    monkeypatch.setattr(os, 'cpu_count', lambda: 2)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if asked: monkeypatch.setenv('OMP_NUM_THREADS', asked)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        status, out = call(*DRAW, '--out', 'x.png')
        assert status == 0 and torch.get_num_threads() == 2
    finally: torch.set_num_threads(before)
    assert Image.open('x.png').info['threads'] == str(used) and ('one thread' in out) == (used == 1)


def test_the_help_of_a_training_shows_values_that_it_takes():
    "Rejects bounds that are None, and a value written as a sentence begins: Adamw."
    from ddpm_lesson.train import _choices
    said = ' '.join(CliRunner().invoke(cli.main, ['train', '--help'], terminal_width=200).output.split())
    assert 'None]' not in said and 'Adamw' not in said
    for name, values in _choices.items(): assert f'--{name} [{"|".join(values)}]' in said


def test_every_flag_says_what_it_does_and_shows_a_default_that_can_be_typed():
    "Rejects a flag without a sentence, `[default: (True)]` for a flag that takes no value, and a count without bounds."
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Argument): continue
            assert option.help and option.help.endswith('.'), (name, option.opts)
            assert option.show_default not in ('True', 'False'), (name, option.opts)
            assert type(option.type) not in (click.types.IntParamType, click.types.FloatParamType), (name, option.opts)


@pytest.mark.parametrize('flag, line', [('--label', 'sample --label hat'), ('--device', 'sample --device tpu'), ('--beta-T', 'diagnose --beta-T 2'), ('--steps', 'sample --steps 1001'),
                                        ('--guidance-interval', 'sample --guidance-interval 1 5'), ('--schedule', 'diagnose --schedule cosine --beta-1 0.1'), ('--batch', 'train --batch 20000'),
                                        ('--weights', 'sample --weights fashoin'), ('--data', 'train --data fashoin')])
def test_an_error_names_the_flag_as_it_is_typed(flag, line):
    "Rejects `device wanted`, `beta_T wanted` and `between wanted`, names that nobody typed, and torch's list of every kind of device."
    status, said = call(*line.split())
    assert status == 1 and said.splitlines()[-1].startswith(f'Error: {flag} wanted ') and len(said.splitlines()[-1]) < 200, said


@pytest.mark.parametrize('told', [0, 1], ids=['at first', 'later'])
def test_a_resumed_run_stores_its_weights_as_it_was_last_told(told, here):
    "Rejects --half forgotten by --resume, twice the bytes; and one that makes another run of a run that is told it later."
    small = '--preset', 'debug', '--width', 8, '--steps', 2, '--device', 'cpu', '--no-tensorboard', '--folder', 'run'
    again = [['--resume', 'run', '--steps', steps, '--no-tensorboard'] for steps in (4, 6)]
    for i, args in enumerate([small, *again]):
        status, said = call('train', *args, *['--half'][:i == told])
        stored = {w.dtype for w in load_file('run/model.safetensors').values()}
        assert status == 0 and stored == {torch.float16 if i >= told else torch.float32}, said


def test_a_newcomer_is_told_how_to_begin():
    "Rejects a first help that lists commands and names none to begin with."
    said = ' '.join(call('--help')[1].split())
    assert all(f'ddpm_lesson {first}' in said for first in ('sample', 'lessons')) and cli.main.epilog in said


def test_a_count_of_parts_is_refused_as_every_other_count():
    "Rejects --accumulate 0 taken as far as the recipe: its error named no flag."
    status, said = call('train', '--accumulate', 0)
    assert status == 2 and "Invalid value for '--accumulate'" in said


# ---- the tabulator key

def offered(line, shell='zsh'):
    "What click's completion prints for a line that ends where the cursor is: the values, in order."
    words = line.split(' ') if isinstance(line, str) else line
    env = {'_DDPM_LESSON_COMPLETE': f'{shell}_complete', 'COMP_WORDS': ' '.join(['ddpm_lesson', *words]), 'COMP_CWORD': str(len(words))}
    with pytest.MonkeyPatch.context() as m:
        for k, v in env.items(): m.setenv(k, v)
        said = CliRunner().invoke(cli.main, [], prog_name='ddpm_lesson').output
    return said.splitlines()


def test_the_tabulator_key_knows_models_sets_and_the_labels_of_the_chosen_model(tmp_path):
    "Rejects a program that offers nothing, that forgets files, and one that offers the labels of another model than was chosen."
    for flag in '--weights', '--start':
        command = 'sample' if flag == '--weights' else 'train'
        said = offered(f'{command} {flag} fl')
        assert 'flowers' in said and 'fashion' not in said and said[0] == 'file', said
    assert offered('sample --label sn')[1] == 'sneaker' and offered('sample --weights flowers --label ro')[1] == 'rose'
    assert offered('sample --label bag,dr')[1] == 'bag,dress' and offered('sample --weights nowhere --label ro') == ['']
    assert {'fashion', 'fashionmnist'} <= set(offered('evaluate --data fash'))


@pytest.mark.skipif(not shutil.which('bash'), reason='bash alone')
def test_bash_itself_completes(tmp_path):
    "Rejects an order of the answers that bash empties again, and a blank that ends the word."
    program = tmp_path/'ddpm_lesson'
    program.write_text(f'#!{sys.executable}\nfrom ddpm_lesson.cli import main\nmain(prog_name="ddpm_lesson")\n')
    program.chmod(0o755)
    script = subprocess.run([program], env=os.environ | dict(_DDPM_LESSON_COMPLETE='bash_source'), capture_output=True, text=True).stdout
    ask = 'COMPREPLY=(); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ddpm_lesson_completion ddpm_lesson 2>/dev/null; printf "[%s]" "${COMPREPLY[@]}"; echo\n'
    lines = ['ddpm_lesson sample --weights fl', r'ddpm_lesson sample --label sneaker,ankle\\\ b']
    script += ''.join(f'COMP_WORDS=({line}); {ask}' for line in lines)
    done = subprocess.run(['bash', '-c', script], env=os.environ | dict(PATH=f'{tmp_path}:{os.environ["PATH"]}'), capture_output=True, text=True)
    assert done.stdout.splitlines() == ['[flowers]', r'[sneaker,ankle\ boot]'], done


@pytest.mark.parametrize('args', [('edit', 'edited.png'), ('edit', 'a.png', '--mask', 'edited.png'), ('sample', '--like', 'edited.png', '--out', 'edited.png'), ('edit', 'link.png'),
                                  ('sample', '--like', 'edited.png', '--strip', 'edited.png'), ('sample', '--like', 'edited.png', '--strip', 'link.png')])
def test_no_command_replaces_what_it_reads(args, here, monkeypatch):
    "Rejects an edit of an edit that writes over its own source, since both are pictures of ours."
    assert call('sample', '--count', '1', '--steps', '1', '--out', 'edited.png')[0] == 0
    Path('a.png').write_bytes(before := Path('edited.png').read_bytes())
    Path('link.png').symlink_to('edited.png')
    status, said = call(*args)
    assert status == 1 and 'wanted another file' in said and Path('edited.png').read_bytes() == before, said


def test_a_sheet_that_could_not_be_read_again_is_not_drawn(here, monkeypatch):
    "Rejects a label of more letters than --like takes, which is noticed only by who wants to repeat the sheet."
    forbid_work(monkeypatch)
    small_model('ab.safetensors', classes=('a', 'b'))
    status, said = call('sample', '--weights', 'ab.safetensors', '--label', ','.join('ab'*300), '--device', 'cpu')
    assert status == 1 and '--label wanted a word, got 1,199 letters' in said, said


def test_a_name_longer_than_any_file_has_is_noticed_before_any_work(here, monkeypatch):
    "Rejects a picture that is drawn, and then can not be kept."
    forbid_work(monkeypatch)
    status, said = call('sample', '--weights', 'm.safetensors', '--out', 'x'*300 + '.png', '--device', 'cpu')
    assert status == 1 and 'File name too long' in said, said


def test_a_sampler_that_changes_the_folder_does_not_move_the_report(here):
    "Rejects a report that goes wherever the sampler went."
    (here/'elsewhere').mkdir()
    Path('s.py').write_text('import os\nos.chdir("elsewhere")\ndef f(model, alpha_bar, x_T, steps, eta): return x_T\n')
    try: assert call('audit', 's.py:f', '--out', 'r.json')[0] == 1
    finally: os.chdir(here)
    assert (here/'r.json').exists() and not list((here/'elsewhere').iterdir())
