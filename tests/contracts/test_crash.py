"""A training that is killed, or whose disk fills, breaks or lies, loses nothing that was safe before, and goes on to the same bits.

As a script, a server: it loads torch once and forks a training for each life, so that a kill costs a tenth of a second and not four.
"""
import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ddpm_lesson import train
from ddpm_lesson.cli import main
from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine import files
from ddpm_lesson.engine.files import load_tensors, save_tensors
from ddpm_lesson.engine.presets import plan, prepared
from ddpm_lesson.engine.run import Run, fit, make_card, resume
from ddpm_lesson.engine.safety import Stopped, checkpoints, latest_checkpoint, newest_name, previous_name
from ddpm_lesson.train import Recipe

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='wants fork, SIGKILL and flock')
DATA = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')


def card(steps, **recipe): return make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=steps, **(dict(batch=8, warmup=3, precision='float32') | recipe)))
def different(a, b): return sorted(k for k in a.keys() | b.keys() if k not in a or k not in b or not torch.equal(a[k], b[k]))
def halves(folder): return sorted(p.name for p in Path(folder).glob('.*'))
def flipped(raw, at, by=1): return raw[:at] + bytes([raw[at] ^ by]) + raw[at + 1:]


# What the server does

def forked(work):
    "Run `work` in a child, which leaves when it is done; its process id."
    child = os.fork()
    if child: return child
    try:
        signal.alarm(3600)  # should its parent die
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(9)


def ended(child):
    "Its signal, or its exit status."
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def life(folder, steps):
    "Train from wherever the last life came to, a checkpoint at every step; what each batch holds is written down."
    order, right = os.open(folder/'order', os.O_WRONLY | os.O_CREAT | os.O_APPEND), train.batch_indices
    def noted(n, batch, step, seed):
        i = right(n, batch, step, seed)
        os.write(order, f'{step} {i.tolist()}\n'.encode())
        return i
    run = Run(card(steps), DATA)
    train.batch_indices = noted
    if checkpoints(folder): resume(run, folder)
    fit(run, folder, every=1, progress=False)


def die_at_some_time(child, folder, luck, step):
    "Kill a training: half of the times at any moment of its life, half of them while a checkpoint is half written."
    if luck.random() < 0.5: time.sleep(luck.uniform(0, 8*step))
    else:
        seen = halves(folder)  # of the life before
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and halves(folder) in ([], seen): time.sleep(5e-4)
        time.sleep(luck.choice([0, luck.uniform(0, step)]))
    os.kill(child, signal.SIGKILL)


def many_lives(folder, kills, seed):
    "Trainings killed again and again; when enough were, the last is let live, and compared with one that never died."
    folder, luck, steps = Path(folder), random.Random(seed), 3*kills + 10
    killed, writing, lowest = 0, 0, 0
    began, whole = time.time(), Run(card(steps), DATA)
    fit(whole, progress=False)
    step = 2*(time.time() - began)/steps
    while killed < kills or writing < kills//5 and seed < 10:
        child = forked(lambda: life(folder, steps))
        die_at_some_time(child, folder, luck, step)
        if (status := ended(child)) == 0: break  # done before its time
        assert status == -signal.SIGKILL, status
        killed, writing = killed + 1, writing + bool(halves(folder))
        if checkpoints(folder):
            done = latest_checkpoint(folder)[2]['step']
            assert done >= lowest, (done, lowest)
            lowest = done
    assert ended(forked(lambda: life(folder, steps))) == 0
    order = dict(line.split(' ', 1) for line in (folder/'order').read_text().splitlines())
    right = {str(k): str(train.batch_indices(len(DATA), 8, k, 0).tolist()) for k in range(steps)}
    seen = {tuple(line.split(' ', 1)) for line in (folder/'order').read_text().splitlines()}
    return dict(killed=killed, writing=writing, steps=steps, different=different(whole.state(), load_tensors(folder/newest_name)[0]),
                order=order == right and len(seen) == steps, left=halves(folder), names=sorted(load_tensors(folder/newest_name)[0]))


def die_at_line(wanted):
    "A tracer that kills this process at a line of files.py: the first it comes to is 0."
    lines = [-1]
    def tracer(frame, event, arg):
        if frame.f_code.co_filename != files.__file__: return None
        if event == 'line':
            lines[0] += 1
            if lines[0] == wanted: os.kill(os.getpid(), signal.SIGKILL)
        return tracer
    return tracer


def every_line(folder):
    "For each line of the code that writes a checkpoint, a process that dies there: what is left, as (step of the newest whole one, half files)."
    folder, found = Path(folder), []
    def write(step, line=None):
        if line is not None: sys.settrace(die_at_line(line))
        save_tensors(folder/newest_name, {'w': torch.full((50,), float(step))}, {'step': step}, keep=folder/previous_name)
    while True:
        for step in 1, 2: write(step)
        assert not halves(folder)  # the first of them swept
        status = ended(forked(lambda: write(3, len(found))))
        if status == 0: return found
        _, tensors, about = latest_checkpoint(folder)
        assert status == -signal.SIGKILL and tensors['w'].tolist() == [about['step']]*50
        found.append((about['step'], len(halves(folder))))


def writers_together(folder, writers, times):
    "Several processes that write one file again and again; exit statuses, and what is left."
    path = Path(folder)/'w.safetensors'
    def write(me):
        for k in range(times): save_tensors(path, {'w': torch.full((2000,), float(me))}, {'k': k})
    statuses = [ended(child) for child in [forked(lambda me=me: write(me)) for me in range(writers)]]
    tensors, about = load_tensors(path)
    return dict(statuses=statuses, whole=len(set(tensors['w'].tolist())) == 1 and about == {'k': times - 1}, left=halves(folder))


def too_little_memory(folder):
    "What a training says that gets 200 MB: one whose network is too wide, one whose batch is too large."
    said = Path(folder)/'said'
    def build():
        used = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200*2**20,)*2)
        Run(make_card(dict(channels=1, width=4096, mults=[1], blocks=1, attend=[]), Recipe(batch=8)), DATA)
    def large():
        many = Images(bundled_fashion().pixels[:2000])
        run = Run(make_card(dict(channels=1, width=16, mults=[1], blocks=1, attend=[]), Recipe(steps=3, batch=2000, precision='float32')), many)
        used = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200*2**20,)*2)
        fit(run, folder, progress=False)
    def told(work):
        try: work()
        except MemoryError as e: said.write_text(str(e))
    out = []
    for work in build, large:
        assert ended(forked(lambda: told(work))) == 0
        out.append(said.read_text())
    return out


def serve():
    "For each [name of a function, arguments] on standard input, a line of JSON: what it returned, or what went wrong."
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')  # a checkpoint gone back to is what this is about
    fit(Run(card(2), DATA), progress=False)  # whatever is imported late is imported now
    for line in sys.stdin:
        name, args = json.loads(line)
        try: answer = dict(said=globals()[name](*args))
        except BaseException: answer = dict(failed=traceback.format_exc())
        print(json.dumps(answer), flush=True)


@pytest.fixture(scope='module')
def server():
    "ask(name, *arguments): the answer of a function above, run in a process that may be forked."
    p = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    def ask(name, *args):
        print(json.dumps([name, [str(a) if isinstance(a, Path) else a for a in args]]), file=p.stdin, flush=True)
        answer = json.loads(p.stdout.readline())
        assert 'failed' not in answer, answer['failed']
        return answer['said']
    yield ask
    p.stdin.close()
    p.wait(600)


# Killed

def survives(server, record, folder, kills):
    killed, writing, seed = 0, 0, 0
    while killed < kills or writing < kills//5 and seed < 10:  # a training that was done before its time leaves some kills to the next
        (folder/str(seed)).mkdir()
        found = server('many_lives', folder/str(seed), max(kills - killed, 5), seed)
        assert not found['different'] and found['order'] and not found['left'], found
        assert {n.split('.')[0] for n in found['names']} == {'net', 'ema', 'opt', 'losses'}
        killed, writing, seed = killed + found['killed'], writing + found['writing'], seed + 1
    assert writing >= kills//5, (writing, killed)
    record('A training killed by SIGKILL at a random moment goes on to the same bits', killed)
    record('A training killed while a checkpoint was half written goes on to the same bits (counted above as well)', writing)


def test_killed_trainings_end_bit_identical(server, record, tmp_path): survives(server, record, tmp_path, 10)


@pytest.mark.slow
def test_a_hundred_killed_trainings_end_bit_identical(server, record, tmp_path): survives(server, record, tmp_path, 100)


def test_killed_at_any_line_of_the_writing_code_leaves_a_whole_checkpoint(server, record, tmp_path):
    found = server('every_line', tmp_path)
    steps, left = zip(*found)
    assert len(found) > 25 and set(steps) == {2, 3} and list(steps) == sorted(steps) and set(left) == {0, 1}
    record('A checkpoint is whole after SIGKILL at this line of the code that writes it', len(found))


def test_writers_of_one_file_do_not_sweep_each_other(server, record, tmp_path):
    found = server('writers_together', tmp_path, 3, 30)
    assert found == dict(statuses=[0, 0, 0], whole=True, left=[])
    record('A file that three processes write at once is whole, and nothing is left beside it', 90)


# Full and read-only disks

def mounted(folder, *options):
    "A file system of its own in `folder`, or a skipped test."
    folder.mkdir(exist_ok=True)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'none', str(folder)], capture_output=True).returncode: pytest.skip('may not mount a file system here')


@pytest.fixture
def disk(tmp_path):
    "A disk that holds two checkpoints, not three; room() makes it larger."
    folder = tmp_path/'disk'
    if not shutil.which('mount'): pytest.skip('there is no mount here')
    mounted(folder, 'size=450k')
    yield folder, lambda: subprocess.run(['mount', '-o', 'remount,size=9m', str(folder)], check=True)
    subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.fixture
def quota(tmp_path):
    "A folder, and a limit of 100 kB a file that begins when the first checkpoints are there."
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard)), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def loses_nothing(folder, run, number, room, record):
    "The error says what is safe, it is, nothing lies about; and with room, the same run goes on to the same bits."
    with pytest.raises(OSError, match=f'could not be written; the last good checkpoint is .*{newest_name}, step 4') as e: fit(run, folder, every=2, progress=False)
    assert e.value.errno == number and len(resume(Run(run.card, DATA), folder).losses) == 4 and not halves(folder)
    room()
    fit(run, folder, every=2, progress=False)
    assert not different(run.state(), fit(Run(run.card, DATA), progress=False).state())
    record('A full disk leaves the last good checkpoint, and a run that can go on', 1)


def test_a_full_disk(disk, record): loses_nothing(disk[0], Run(card(8), DATA), errno.ENOSPC, disk[1], record)


def test_a_file_that_may_not_grow(quota, record):
    folder, begin, end = quota
    run = Run(card(8), DATA)
    for step, _ in run.steps():
        if step == 4: break
    run.save(folder/newest_name)
    begin()
    loses_nothing(folder, run, errno.EFBIG, end, record)


def test_a_read_only_folder(tmp_path):
    folder, run = tmp_path/'folder', Run(card(4), DATA)
    root = os.geteuid() == 0
    if root: mounted(folder, 'size=9m')
    else: folder.mkdir()
    try:
        fit(run, folder, progress=False)
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        if root: subprocess.run(['mount', '-o', 'remount,ro', str(folder)], check=True)
        else: folder.chmod(0o555)
        with pytest.raises(OSError, match='Read-only|Permission denied'): run.save(folder/newest_name)
        with pytest.raises(OSError, match='Read-only|Permission denied'): fit(Run(card(4), DATA), folder/'new', progress=False)
        assert before == {p.name: p.read_bytes() for p in folder.iterdir()} and len(Run(card(4), DATA).load(folder/newest_name).losses) == 4
    finally:
        if root: subprocess.run(['umount', '-l', str(folder)], check=True)
        else: folder.chmod(0o755)


# Damaged checkpoints

@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "A folder with two checkpoints, of steps 4 and 6, and its run."
    folder = tmp_path_factory.mktemp('two')
    return folder, fit(Run(card(6), DATA), folder, every=2, progress=False)


def cuts_and_flips(path, places):
    "Each place of a file: cut there, then one bit flipped there. Nothing damaged may load."
    raw = path.read_bytes()
    with open(path, 'rb+', buffering=0) as f:
        for at in places:
            f.seek(at)
            f.write(bytes([raw[at] ^ 1 << at % 8]))
            with pytest.raises(ValueError, match='damaged'): load_tensors(path)
            f.seek(at)
            f.write(raw[at:at + 1])
        load_tensors(path)  # all mended
        for at in sorted(places, reverse=True):
            f.truncate(at)
            with pytest.raises(ValueError, match='damaged'): load_tensors(path)


def test_no_damage_goes_unseen(two, record, tmp_path):
    path = Path(shutil.copy(two[0]/newest_name, tmp_path))
    size, luck = path.stat().st_size, random.Random(0)
    places = sorted({*range(0, size, size//10), *range(0, 9), size - 1, *(luck.randrange(size) for _ in range(80))})
    cuts_and_flips(path, places)
    record('A checkpoint cut short is refused', len(places))
    record('A checkpoint with one bit flipped is refused', len(places))


@pytest.mark.slow
def test_no_damage_at_any_tenth_byte_goes_unseen(two, record, tmp_path):
    path = Path(shutil.copy(two[0]/newest_name, tmp_path))
    places = range(0, path.stat().st_size, 10)
    cuts_and_flips(path, places)
    record('A checkpoint cut short is refused', len(places))
    record('A checkpoint with one bit flipped is refused', len(places))


def test_no_byte_of_a_small_file_may_change(record, tmp_path):
    path = tmp_path/'w.safetensors'
    save_tensors(path, {'w': torch.eye(3), 'n': torch.tensor(3), 'h': torch.ones(2).bfloat16()}, {'seed': 7})
    raw = path.read_bytes()
    for at in range(len(raw)):
        for bit in 0, 5:  # the other digit, the other case
            path.write_bytes(flipped(raw, at, 1 << bit))
            with pytest.raises(ValueError, match='damaged'): load_tensors(path)
    record('A small file with one bit flipped, in any byte of it, is refused', 2*len(raw))


@pytest.mark.parametrize('damage', [lambda raw: raw[:0], lambda raw: raw[:3000], lambda raw: raw[:-1], lambda raw: flipped(raw, 300), lambda raw: flipped(raw, len(raw) - 9, 64), lambda raw: os.urandom(len(raw))],
                         ids=['emptied', 'cut early', 'one byte short', 'bit of the header', 'bit of a weight', 'noise'])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on_to_the_same_bits(two, damage, tmp_path):
    folder = Path(shutil.copytree(two[0], tmp_path/'run'))
    (folder/newest_name).write_bytes(damage((folder/newest_name).read_bytes()))
    with pytest.warns(UserWarning) as said: run = resume(Run(card(6), DATA), folder)
    assert [newest_name in str(w.message) for w in said] == [True, True] and 'damaged' in str(said[0].message) and 'step 4' in str(said[1].message)
    assert len(run.losses) == 4 and (folder/previous_name).exists()
    fit(run, folder, every=1, progress=False)
    assert not different(run.state(), two[1].state()) and len(load_tensors(folder/previous_name)[0]['losses']) == 5


def test_training_over_a_damaged_checkpoint_keeps_the_good_one(two, tmp_path):
    folder = Path(shutil.copytree(two[0], tmp_path/'run'))
    run = Run(card(6), DATA).load(folder/previous_name)
    (folder/newest_name).write_bytes(b'')
    with pytest.warns(UserWarning, match='damaged'): fit(run, folder, every=1, report=lambda run: load_tensors(folder/previous_name), progress=False)  # at each moment both are whole


def test_two_damaged_checkpoints_are_an_error(two, tmp_path):
    folder = Path(shutil.copytree(two[0], tmp_path/'run'))
    for name in newest_name, previous_name: (folder/name).write_bytes((folder/name).read_bytes()[:-1])
    with pytest.warns(UserWarning, match='damaged'), pytest.raises(ValueError, match='none'): resume(Run(card(6), DATA), folder)
    assert len(list(folder.glob('*.damaged-*.safetensors'))) == 2  # nothing is thrown away


@pytest.mark.parametrize('number', [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOENT])
def test_what_the_system_can_not_read_is_passed_on_and_nothing_is_renamed(two, number, tmp_path, monkeypatch):
    "Wrong program: every error of reading counts as damage, and one bad moment of a disk costs both checkpoints."
    folder, right = Path(shutil.copytree(two[0], tmp_path/'run')), Path.read_bytes
    def failing(path):
        if path.suffix == '.safetensors': raise OSError(number, os.strerror(number), str(path))
        return right(path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with monkeypatch.context() as m:
        m.setattr(Path, 'read_bytes', failing)
        for work in lambda: resume(Run(card(6), DATA), folder), lambda: fit(Run(card(6), DATA), folder, progress=False):
            with pytest.raises(OSError, match=re.escape(os.strerror(number))) as e: work()
            assert e.value.errno == number
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()} and len(resume(Run(card(6), DATA), folder).losses) == 6


def test_a_second_damaged_checkpoint_does_not_replace_the_first(two, tmp_path):
    "Wrong program: one name for all that is set aside."
    folder = Path(shutil.copytree(two[0], tmp_path/'run'))
    for k in range(3):
        (folder/newest_name).write_bytes(b'damage %d' % k)
        with pytest.warns(UserWarning, match='damaged'): assert latest_checkpoint(folder)[0].name == previous_name
    assert sorted(p.read_bytes() for p in folder.glob('*.damaged-*')) == [b'damage 0', b'damage 1', b'damage 2']


def test_a_folder_whose_name_is_no_utf_8_is_no_damage(two, tmp_path):
    folder = Path(shutil.copytree(two[0], tmp_path/os.fsdecode(b'n\xff')))
    assert len(resume(Run(card(6), DATA), folder).losses) == 6


def test_a_fresh_run_does_not_overwrite_one_that_is_further(two, tmp_path):
    folder = Path(shutil.copytree(two[0], tmp_path/'run'))
    with pytest.raises(ValueError, match='6 steps along, and this one has done 0: go on with resume'): fit(Run(card(6), DATA), folder, progress=False)


def test_files_without_a_seal_still_load(tmp_path):
    from safetensors.torch import save_file
    save_file({'w': torch.eye(2)}, tmp_path/'old.safetensors', {'about': '{"seed": 7}'})  # as versions before the seal wrote them
    save_file({'w': torch.eye(2)}, tmp_path/'other.safetensors', {'format': 'pt'})
    assert load_tensors(tmp_path/'old.safetensors')[1] == {'seed': 7} and load_tensors(tmp_path/'other.safetensors')[1] == {}


def test_another_torch_wrote_it(two, tmp_path):
    tensors, about = load_tensors(two[0]/newest_name)
    assert about['torch'] == torch.__version__ and about['python'] == '.'.join(map(str, sys.version_info[:3])) and about['ddpm_lesson']
    save_tensors(tmp_path/newest_name, tensors, about | dict(where=about['where'] | dict(torch='1.0')))
    with pytest.warns(UserWarning, match=r"torch '1\.0' there, .* last bits may differ"): resume(Run(card(6), DATA), tmp_path)


# Signals, and two at once

COMMAND = ['train', '--preset', 'debug', '--width', '8', '--steps', '5000', '--every', '3', '--device', 'cpu', '--precision', 'float32', '--no-tensorboard']


def started(folder, sign, *more):
    "The real command in a real process, once it has written the file `sign`."
    def written():
        try: return sign.stat().st_mtime_ns
        except FileNotFoundError: return None  # between two names
    p, before = subprocess.Popen([Path(sysconfig.get_path('scripts'))/'ddpm_lesson', *COMMAND, '--folder', str(folder), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | dict(OMP_NUM_THREADS='1')), written()
    while p.poll() is None and written() in (None, before): time.sleep(0.02)
    return p


def test_signals_save_and_leave_and_the_same_command_goes_on(tmp_path, record):
    folder = tmp_path/'run'
    # a sheet has been drawn: steps are being done; a checkpoint has been written: a sheet is being drawn
    for name, sign, more in ('SIGINT', folder/'samples.png', ()), ('SIGTERM', folder/newest_name, ('--resume',)):
        p = started(folder, sign, *more)
        if more: said = CliRunner().invoke(main, [*COMMAND, '--folder', str(folder), '--resume'])  # a second training in the same folder
        p.send_signal(getattr(signal, name))
        _, errors = p.communicate(timeout=600)
        assert p.returncode == 1 and f'ddpm_lesson train --resume {folder} goes on' in errors and 'Traceback' not in errors, errors
        assert f'after {latest_checkpoint(folder)[2]["step"]} steps' in errors and not halves(folder), (errors, halves(folder))
    assert said.exit_code == 1 and 'another training writes there' in said.output
    path, tensors, about = latest_checkpoint(folder)
    threads, fresh = torch.get_num_threads(), Run(about['card'], prepared(train_images(), plan({}, 'debug')))
    torch.set_num_threads(1)
    try: next(step for step, _ in fresh.steps() if step == about['step'])
    finally: torch.set_num_threads(threads)
    assert not different(fresh.state(), tensors)
    record('A training stopped by SIGINT or SIGTERM saves, leaves and goes on', 2)


def train_images():
    from ddpm_lesson.data import load_images
    return load_images('debug', 32)


SHOWN = """
import sys
import torch
from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine.run import Run, fit, make_card
from ddpm_lesson.train import Recipe
data = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')
card = make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=int(sys.argv[2]), batch=8, precision='float32'))
fit(Run(card, data), sys.argv[1], every=int(sys.argv[3]))
"""


SCREENS = {'tee that dies first': '2>&1 | tee log', 'head': '2>&1 | head -c 300 > log', 'a reader that leaves': '2>&1 | sleep 1', 'closed': '2>&-', 'full': '2> /dev/full', 'a reader that never reads': '2>&1 | sleep 600'}


@pytest.mark.parametrize('name, screen', [('SIGINT', k) for k in SCREENS] + [('nothing', k) for k in ('head', 'a reader that never reads')])
def test_a_screen_that_fails_ends_no_training_and_ctrl_c_saves(name, screen, tmp_path, record):
    "Wrong program: the loop writes its bar itself, so that a pipe without a reader ends it before it can save."
    if screen == 'full' and not Path('/dev/full').exists(): pytest.skip('there is no /dev/full here')
    steps, every = (100_000, 100_000) if name == 'SIGINT' else (200, 50)
    (tmp_path/'program.py').write_text(SHOWN)
    line = f'{sys.executable} program.py run {steps} {every} {SCREENS[screen]}'
    p = subprocess.Popen(['bash', '-c', line], cwd=tmp_path, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | dict(OMP_NUM_THREADS='1'))
    folder, deadline = tmp_path/'run', time.time() + 120
    def done():
        with suppress(FileNotFoundError, ValueError):   # the training renames a checkpoint between our list and our look
            return checkpoints(folder) and latest_checkpoint(folder)[2]['step'] == steps
    try:
        if name == 'SIGINT':
            while not (folder/'training.lock').exists() and time.time() < deadline: time.sleep(0.05)
            time.sleep(1.5)  # steps are being done, and the bar has been written to
            os.killpg(p.pid, signal.SIGINT)
            while not checkpoints(folder) and time.time() < deadline: time.sleep(0.05)
            assert latest_checkpoint(folder)[2]['step'] > 0
        else:
            while not done() and time.time() < deadline: time.sleep(0.05)
            assert done()
    finally:
        with suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)
        p.communicate(timeout=60)
    record('A training whose screen is gone, full or stopped saves', 1)


def test_a_second_ctrl_c_before_the_first_checkpoint_promises_none(tmp_path):
    run = Run(card(9), DATA)
    right = Run.step
    def step(self, k, recipe):
        if k == 4: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
        return right(self, k, recipe)
    run.step = step.__get__(run)
    with pytest.raises(Stopped, match='SIGINT after 4 steps; there is no good checkpoint yet'): fit(run, tmp_path, every=100, progress=False)
    assert not checkpoints(tmp_path)


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_handlers_are_put_back_and_the_run_in_memory_is_whole(name, tmp_path):
    heard, number = [], getattr(signal, name)
    theirs = signal.signal(number, lambda *a: heard.append(a))
    run = Run(card(9), DATA)
    right = Run.step
    def step(self, k, recipe):
        if k == 4: os.kill(os.getpid(), number)  # in the midst of a step
        return right(self, k, recipe)
    run.step = step.__get__(run)
    try:
        with pytest.raises(KeyboardInterrupt, match=f'{name} after 5 steps; the last good checkpoint is .*{newest_name}, step 5'): fit(run, tmp_path, every=4, progress=False)
        assert not heard
        os.kill(os.getpid(), number)
        assert len(heard) == 1
        del run.step
        fit(run, tmp_path, progress=False)  # goes on without being read from disk
        os.kill(os.getpid(), number)
        assert len(heard) == 2
    finally: signal.signal(number, theirs)
    assert not different(run.state(), fit(Run(card(9), DATA), progress=False).state())


def test_two_trainings_in_one_folder(tmp_path):
    other = Run(card(4), DATA)
    def intrude(run):
        with pytest.raises(BlockingIOError, match='another training writes there'): fit(other, tmp_path, progress=False)
        with pytest.raises(BlockingIOError, match='another training writes there'): resume(other, tmp_path)
    fit(Run(card(4), DATA), tmp_path, progress=False, report=intrude)
    assert not other.losses and len(resume(other, tmp_path).losses) == 4  # free again


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='wants /proc')
def test_out_of_memory_names_what_to_lower(server, tmp_path):
    for said, now in zip(server('too_little_memory', tmp_path), ('batch 8, width 4096, size 7', 'batch 2000, width 16, size 28')):
        assert now in said and 'lower the batch first' in said, said


if __name__ == '__main__': serve()
