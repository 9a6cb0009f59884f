"Files of strangers: no code runs, nothing is read outside what was named, memory stays bounded, and whatever is wrong ends in a `ValueError` or is left out, counted and named."
import ast
import copy
import io
import json
import multiprocessing
import os
import pickle
import random
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, features
from safetensors.torch import save
from torchvision import datasets

from ddpm_lesson import data, pretrained
from ddpm_lesson.cli import main
from ddpm_lesson.data import bundled_fashion, load_images
from ddpm_lesson.engine import sources
from ddpm_lesson.engine.cards import check_card, make_network, make_schedule
from ddpm_lesson.engine.files import load_tensors, save_tensors
from ddpm_lesson.engine.run import Run, make_card
from ddpm_lesson.engine.sources import Unreadable, folder_images, read_image
from ddpm_lesson.pretrained import draw_as_card, load_card, load_pretrained, save_model
from ddpm_lesson.train import Recipe

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
CARD = make_card(dict(channels=1, width=8, mults=[1], blocks=1, attend=[], patch=1, classes=3), Recipe(steps=2, batch=2, precision='float32'), 'linear', 50, classes=('a', 'b', 'c'), size=8)


def fresh(card=CARD): return make_network(make_schedule(**card['schedule']), card['target'], **card['network'])


@pytest.fixture
def own(tmp_path):
    "Weights and card of a small network."
    save_model(tmp_path/'own.safetensors', fresh(), CARD)
    return tmp_path/'own.safetensors'


# ---- no code

def loaders(code):
    "What in a Python source could run code from a file, or from a text."
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {a.name.split('.')[0] for a in node.names} | {(getattr(node, 'module', None) or '').split('.')[0]}
            found += names & {'pickle', 'cPickle', '_pickle', 'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve', 'yaml'}
        if not isinstance(node, ast.Call): continue
        called, said = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called in ('eval', 'exec', 'torch.load', 'torch.jit.load', 'torch.hub.load', 'torch.package.PackageImporter') or 'pickle' in called: found.append(called)
        if called in ('np.load', 'numpy.load') and said.get('allow_pickle') != 'False': found.append(called)
        if said.get('allow_pickle') == 'True': found.append('allow_pickle')
    return found


def test_nothing_here_could_run_code_from_a_file():
    for wrong in 'import pickle', 'from joblib import load', 'torch.load(p)', 'torch.load(p, weights_only=True)', 'np.load(p)', 'numpy.load(p, allow_pickle=True)', 'import a, dill', 'eval(s)', 'pandas.read_pickle(p)': assert loaders(wrong), wrong
    assert not loaders('np.load(p, allow_pickle=False); net.eval(); load_tensors(p)')
    sources = {p: p.read_text(encoding='utf-8') for folder in ('ddpm_lesson', 'tools', 'benchmarks') for p in (ROOT/folder).rglob('*.py')}
    for page in (ROOT/'nbs').rglob('*.ipynb'):
        cells = [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
        sources[page] = '\n'.join(line for c in cells for line in c.splitlines() if line.lstrip()[:1] not in ('%', '!'))
    assert len(sources) > 40
    assert not {p.name: found for p, code in sources.items() if (found := loaders(code))}


class Evil:
    "Makes a file when it is unpickled."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return open, (self.path, 'w')


def npz(**arrays):
    np.savez(buffer := io.BytesIO(), **arrays)
    return buffer.getvalue()


def payloads(marker):
    "The same evil in every wrapping that some loader of weights unpacks, and that loader."
    torch.save({'net': Evil(marker)}, zipped := io.BytesIO())
    torch.save({'net': Evil(marker)}, old := io.BytesIO(), _use_new_zipfile_serialization=False)
    array = np.array([Evil(marker)], dtype=object)
    np.save(npy := io.BytesIO(), array, allow_pickle=True)
    load, unzip = lambda b: torch.load(io.BytesIO(b), weights_only=False), lambda b: [*np.load(io.BytesIO(b), allow_pickle=True).values()]
    return {'pickle': (pickle.dumps(Evil(marker)), pickle.loads), 'old torch': (old.getvalue(), load), 'torch': (zipped.getvalue(), load),
            'npy': (npy.getvalue(), lambda b: np.load(io.BytesIO(b), allow_pickle=True)), 'npz': (npz(train_images=array, train_labels=array), unzip)}


@pytest.mark.parametrize('kind', ['pickle', 'old torch', 'torch', 'npy', 'npz'])
def test_a_malicious_pickle_under_any_name_runs_nothing(kind, own, tmp_path, monkeypatch, record):
    marker, run = tmp_path/'code ran', Run(CARD, data.Images(torch.arange(256).reshape(4, 1, 8, 8).byte(), torch.zeros(4).long(), ('a', 'b', 'c')))
    payload, naive = payloads(marker)[kind]
    naive(payload)
    assert marker.exists()  # it is alive
    marker.unlink()
    (tmp_path/'evil.safetensors').write_bytes(payload)
    (tmp_path/'fashion_mnist.npz').write_bytes(payload)
    own.with_suffix('.json').write_bytes(payload)
    monkeypatch.setattr(data, 'assets', tmp_path)
    doors = [lambda: load_pretrained(tmp_path/'evil.safetensors'), lambda: load_card(tmp_path/'evil.safetensors'), lambda: load_tensors(tmp_path/'evil.safetensors'),
             lambda: run.load(tmp_path/'evil.safetensors'), lambda: load_card(own), lambda: load_pretrained(own), lambda: bundled_fashion()]
    for door in doors:
        with pytest.raises(ValueError, match='damaged|no card|not a safetensors'): door()
    assert not marker.exists()
    record('A pickle that runs code, named as weights, checkpoint, card or images, runs nothing', len(doors))


def test_pickles_of_cifar10_are_opened_only_if_their_checksum_fits(tmp_path, monkeypatch):
    marker, folder = tmp_path/'code ran', tmp_path/'cifar-10-batches-py'
    folder.mkdir()
    for name in [f'data_batch_{k}' for k in range(1, 6)] + ['test_batch', 'batches.meta']: (folder/name).write_bytes(pickle.dumps(Evil(marker)))
    def no_network(*a, **k): raise OSError('no network')
    monkeypatch.setattr('torchvision.datasets.cifar.download_and_extract_archive', no_network)
    with pytest.raises(ValueError, match='CIFAR10 could not be'): load_images('cifar10', root=tmp_path)
    assert not marker.exists()


# ---- weights

def raw(header, numbers=b'', length=None):
    "A safetensors file whose header says what you like."
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(head) if length is None else length) + head + numbers


def one(dtype='F32', shape=(2, 2), offsets=(0, 16)): return dict(dtype=dtype, shape=list(shape), data_offsets=list(offsets))


FILES = {
    'empty': b'', 'seven bytes': b'1234567', 'only a length': struct.pack('<Q', 16), 'a length of 2**63': struct.pack('<Q', 2**63) + b'{}', 'a length of 10**12': struct.pack('<Q', 10**12) + b'{}',
    'length of more than there is': raw({}, length=100), 'length of less than there is': raw({'a': one()}, bytes(16), length=5), 'header is no JSON': raw(b'\xff\xfe{]'), 'header is a list': raw([1, 2]), 'header is null': raw(b'null'),
    'nested header': raw(b'{"a":'*100_000), 'overlap': raw({'a': one(), 'b': one(offsets=(8, 24))}, bytes(24)), 'hole': raw({'a': one(), 'b': one(offsets=(32, 48))}, bytes(48)), 'numbers nobody claims': raw({'a': one()}, bytes(400)),
    'beyond the end': raw({'a': one(shape=(100,), offsets=(0, 400))}, bytes(16)), 'backwards': raw({'a': one(offsets=(16, 0))}, bytes(16)), 'negative': raw({'a': one(offsets=(-16, 0))}, bytes(16)), 'huge offsets': raw({'a': one(offsets=(0, 2**64))}, bytes(16)),
    'shape larger than its bytes': raw({'a': one(shape=(10**6, 10**6))}, bytes(16)), 'shape that overflows': raw({'a': one(shape=(2**33, 2**33))}, bytes(16)), 'negative shape': raw({'a': one(shape=(-2, -2))}, bytes(16)), 'shape of words': raw({'a': one() | dict(shape='2')}, bytes(16)),
    'unknown dtype': raw({'a': one(dtype='F999')}, bytes(16)), 'no dtype': raw({'a': dict(shape=[2, 2], data_offsets=[0, 16])}, bytes(16)), 'key twice': raw(b'{"a":%s,"a":%s}' % ((json.dumps(one()).encode(),)*2), bytes(16)),
    'another zip': b'PK\x03\x04' + bytes(60), 'a picture': b'\x89PNG\r\n\x1a\n' + bytes(60), 'another tensor': raw({'a': one()}, bytes(16)),
}


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_is_no_file_of_weights(name, own, tmp_path):
    good = load_card(own)
    own.write_bytes(FILES[name])
    with pytest.raises(ValueError, match='own.safetensors') as said: load_pretrained(own)
    assert len(str(said.value)) < 600
    if name not in ('another tensor', 'key twice'):  # the last of two equal keys counts, for the same numbers: harmless
        with pytest.raises(ValueError, match='own.safetensors'): load_tensors(own)
    own.with_suffix('.json').unlink()
    with pytest.raises(ValueError): load_card(own)   # nor is it one of a card
    assert good == CARD | dict(classes=['a', 'b', 'c'])


def changed(f):
    "The weights of `own` after `f`, with no card beside them, sealed and in a file as another program would write it."
    tensors = fresh().state_dict()
    f(tensors)
    return {k: v.contiguous() for k, v in tensors.items()}


TENSORS = {
    'missing': (lambda d: d.pop('out.bias'), '1 tensors missing, out.bias'), 'extra': (lambda d: d.update(more=torch.zeros(1)), "too many, 'more'"),
    'an extra one with a terminal command': (lambda d: d.update({'\x1b[2Jx': torch.zeros(1)}), r'\\x1b\[2Jx'),
    'another shape': (lambda d: d.update({'out.bias': torch.zeros(2)}), r'out.bias wanted shape \(1,\), got \(2,\)'), 'a scalar': (lambda d: d.update({'out.bias': torch.zeros(())}), r'wanted shape \(1,\), got \(\)'),
    'no numbers': (lambda d: d.update({'out.bias': torch.zeros(0)}), r'got \(0,\)'),
    'ints': (lambda d: d.update({'out.bias': d['out.bias'].long()}), 'wanted F32 or F16 or BF16, got I64'), 'complex': (lambda d: d.update({'out.bias': d['out.bias'].to(torch.complex64)}), 'got C64'),
    'float8': (lambda d: d.update({'out.bias': d['out.bias'].to(torch.float8_e4m3fn)}), 'got F8_E4M3'), 'double': (lambda d: d.update({'out.bias': d['out.bias'].double()}), 'got F64'), 'bools': (lambda d: d.update({'out.bias': d['out.bias'].bool()}), 'got BOOL'),
    'NaN': (lambda d: d['out.bias'].fill_(float('nan')), 'NaN or infinity in out.bias'), 'infinity': (lambda d: d['out.bias'].fill_(float('-inf')), 'NaN or infinity'),
    'half NaN': (lambda d: d.update({k: (v*0 + float('nan')).half() for k, v in d.items()}), 'NaN or infinity'),
}


@pytest.mark.parametrize('sealed', [True, False], ids=['ours', 'foreign'])
@pytest.mark.parametrize('name', TENSORS)
def test_weights_that_do_not_fit_their_card(name, sealed, own):
    tensors, said = changed(TENSORS[name][0]), TENSORS[name][1]
    if sealed: save_tensors(own, tensors, CARD)
    else: own.write_bytes(save(tensors))
    with pytest.raises(ValueError, match=said) as error: load_pretrained(own)
    assert '\x1b' not in str(error.value) and 'own.safetensors' in str(error.value)


def test_what_must_be_let_in_is(own):
    for tensors in fresh().state_dict(), {k: v.half() for k, v in fresh().state_dict().items()}, {k: v.bfloat16() for k, v in fresh().state_dict().items()}:
        own.write_bytes(save({k: v.contiguous() for k, v in tensors.items()}))   # no seal, no note
        with pytest.warns(UserWarning, match='own.safetensors holds no card'): model, sched = load_pretrained(own)
        assert sched.T == 50 and all(p.dtype == torch.float32 and torch.equal(p, tensors[k].float()) for k, p in model.net.state_dict().items())


def test_what_is_no_regular_file(tmp_path, own):
    (tmp_path/'folder.safetensors').mkdir(); os.mkfifo(tmp_path/'pipe.safetensors'); (tmp_path/'dangling.safetensors').symlink_to(tmp_path/'nowhere')
    (tmp_path/'loop.safetensors').symlink_to(tmp_path/'loop.safetensors')
    for name in 'folder', 'pipe', 'dangling', 'loop', 'a\0b':
        for load in load_pretrained, load_card, load_tensors:
            with pytest.raises(ValueError, match='wanted a .safetensors file'): load(tmp_path/f'{name}.safetensors')
    for make in (lambda p: p.mkdir()), os.mkfifo:
        own.with_suffix('.json').unlink()
        make(own.with_suffix('.json'))
        with pytest.raises(ValueError, match='own.json wanted to be a card'): load_pretrained(own)
        (own.with_suffix('.json').rmdir if own.with_suffix('.json').is_dir() else own.with_suffix('.json').unlink)()
        own.with_suffix('.json').touch()


# ---- cards

def deep(n): return '{"a":'*n + '1' + '}'*n


@pytest.mark.parametrize('text, said', [
    (b'', 'damaged'), (b'\x00\xff\xfe', 'damaged'), ('[]', 'got list'), ('"card"', 'got str'), ('7', 'got int'), ('null', 'got NoneType'), ('{"network": NaN}', 'finite'), ('{"a": Infinity}', 'finite'), ('{"a": 1, "a": 2}', 'stands twice'),
    ('{"network": {"width": 8, "width": 9}}', 'stands twice'), (deep(100_000), 'damaged|levels'), (deep(400), 'levels'), ('['*100_000, 'damaged'), ('{"a": ' + '9'*100_000 + '}', 'damaged|network'), (json.dumps(CARD)[:-5], 'damaged'),
    (json.dumps(CARD) + ' '*1_000_000, 'at most 1,000,000 bytes'), (json.dumps(CARD) + '{}', 'damaged'), (json.dumps(CARD).encode('utf-8') + b'\xff', 'damaged'),
])
def test_a_card_that_is_no_card(text, said, own):
    own.with_suffix('.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    for load in load_card, load_pretrained:
        with pytest.raises(ValueError, match=said) as error: load(own)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize('note, said', [('[]', 'got list'), (deep(100_000), 'damaged|levels'), ('{"a": NaN}', 'finite'), ('{', 'damaged'), ('{"network": {}, "network": {}}', 'stands twice')])
def test_a_note_in_the_weights_that_is_no_card(note, said, own):
    own.write_bytes(save({k: v.contiguous() for k, v in fresh().state_dict().items()}, {'about': note}))
    with pytest.raises(ValueError, match=said): load_pretrained(own)   # a good card beside it does not help
    own.with_suffix('.json').unlink()
    with pytest.raises(ValueError, match=said): load_pretrained(own)


def put(card, path, value):
    "A copy of the card with one entry exchanged."
    card = copy.deepcopy(card)
    *way, last = path.split('.')
    inside = card
    for k in way: inside = inside.setdefault(k, {})
    if value is None and last[0] == '-': del inside[last[1:]]
    else: inside[last] = value
    return card


def without_a_card(path, card=CARD):
    "The weights alone, as another program would write them."
    path.write_bytes(save({k: v.contiguous() for k, v in fresh(card).state_dict().items()}))


CARDS = [
    ('network.width', 10**9, 'width'), ('network.width', 8192, 'does not fit its card: .*wanted shape'), ('network.width', -8, 'width'), ('network.width', 0, 'width'), ('network.width', '8', 'width'), ('network.width', 8.0, 'width'), ('network.width', True, 'width'), ('network.width', 7, 'even'),
    ('network.width', None, 'width'), ('network.width', [8], 'width'), ('network.mults', [1]*10**5, 'at most 8'), ('network.mults', [1]*10**6, '1,000,000 bytes'), ('network.mults', [1]*8, 'missing|wanted shape'), ('network.mults', [10**9], 'mults'), ('network.mults', [], 'mults'),
    ('network.mults', [-1], 'mults'), ('network.mults', '11', 'mults'), ('network.mults', [[1]], 'mults'), ('network.mults', 1, 'mults'),
    ('network.attend', list(range(10**5)), 'attend'), ('network.blocks', 10**9, 'blocks'), ('network.patch', 10**9, 'patch'), ('network.patch', 0, 'patch'), ('network.channels', 10**9, 'channels'), ('network.channels', -1, 'channels'), ('network.classes', 10**9, 'classes'),
    ('network.classes', 4, 'a name for each class, got 3 classes named and 4'), ('network.classes', -1, 'classes'),
    ('network.dropout', 2, 'dropout'), ('network.dropout', 'x', 'dropout'),
    ('network.kind', 'posit', 'earlier version'), ('target', 'eps_on_image', 'earlier version'), ('network.kind', 'posit_unet', 'no network'), ('network.kind', '__import__', 'kind'), ('network.kind', ['unet'], 'kind'), ('network.unknown', 1, 'unknown'), ('network', [], 'network'), ('network', 'unet', 'network'),
    ('network', None, 'network'), ('-network', None, 'lacks network'),
    ('network', dict(kind='posit_unet', channels=1, width=512, mults=[64]*4), 'named and 0 in the network'), ('network', dict(kind='posit_unet', mults=[1], depth=10**9), 'depth'), ('network', dict(kind='simple', levels=10**6), 'levels'),
    ('network', dict(kind='simple', width=8192, levels=8, channels=1), 'named and 0 in the network'),
    ('schedule.T', 10**12, 'T a whole number'), ('schedule.T', -1, 'T'), ('schedule.T', 0, 'T'), ('schedule.T', '50', 'T'), ('schedule.T', 50.0, 'T'), ('schedule.T', 10**6, 'alpha_bar'), ('schedule.name', 'eval', 'schedule wanted one of'),
    ('schedule.name', ['linear'], 'schedule wanted one of'), ('schedule.name', 7, 'schedule wanted'), ('schedule.beta_1', 2, 'name, T and beta.*beta_1'), ('schedule.s', 0.1, 'name, T and beta'),
    ('schedule', 'linear', 'schedule'), ('schedule', None, 'schedule'), ('-schedule', None, 'lacks schedule'), ('target', 'noise', 'target'), ('target', ['v'], 'target'), ('target', {}, 'target'), ('size', 10**6, 'size'), ('size', -8, 'size'), ('size', '8', 'size'),
    ('size', 8.5, 'size'), ('classes', 'abc', 'classes a list'), ('classes', {'a': 1}, 'classes a list'),
    ('classes', [1, 2, 3], 'classes'), ('classes', ['a']*10**5 + ['a'], 'classes'), ('classes', ['a', 'b', 'c\x1b[2J'], 'classes'), ('classes', ['a\nb'], 'classes'), ('classes', ['a\0b'], 'classes'), ('classes', ['\u202egpj.exe'], 'classes'), ('classes', ['x'*10**5], 'classes'),
    ('sample.steps', 10**12, 'steps'), ('sample.steps', 51, r'1..50'), ('sample.steps', 0, 'steps'), ('sample.steps', '5', 'steps'), ('sample.sampler', 'euler', 'sampler'), ('sample.sampler', ['ddim'], 'sampler'), ('sample.clip', [1, -1], 'clip'), ('sample.clip', 'ab', 'clip'),
    ('sample.clip', [0], 'clip'), ('sample.device', 'cuda:7', 'sample'), ('sample', 'ddim', 'sample'), ('sample', [], 'sample'),
    ('units', dict(mean=[0.], std=[0.]), 'std'), ('units', dict(mean=[0.], std=[-1.]), 'std'), ('units', dict(mean=[0.], std=[1e-30]), 'std'), ('units', dict(mean=[1e30], std=[1.]), 'mean'), ('units', dict(mean=['0'], std=[1.]), 'mean'),
    ('units', dict(mean=[0.]*2, std=[1.]*2), 'channels'), ('units', dict(mean=[], std=[]), 'mean'), ('units', dict(mean=[0.]), 'units'), ('units', 'std', 'units'), ('units', [], 'units'), ('units', dict(mean=0, std=1), 'mean'),
]


@pytest.mark.parametrize('path, value, said', CARDS, ids=[f'{p}-{str(v)[:12]!r}' for p, v, _ in CARDS])
def test_a_card_that_asks_for_what_it_may_not(path, value, said, own):
    card = put(CARD, path, value)
    own.with_suffix('.json').write_text(json.dumps(card))
    with pytest.raises(ValueError): load_pretrained(own)       # the weights hold another
    without_a_card(own)
    with pytest.raises(ValueError, match=said) as error: load_pretrained(own)
    assert len(str(error.value)) < 600


def test_numbers_that_json_can_not_hold_are_refused_too():
    for value in float('nan'), float('inf'):
        for path in 'units.std', 'units.mean':
            with pytest.raises(ValueError, match='wanted'): check_card(put(CARD, path.split('.')[0], dict(mean=[0.], std=[1.]) | {path.split('.')[1]: [value]}))
        with pytest.raises(ValueError, match='clip'): check_card(put(CARD, 'sample.clip', [0, value]))


def test_what_a_card_may_hold_beside(own):
    card = CARD | dict(made=dict(by='me', numbers=[1, 2, {}]), sample=dict(sampler='ddpm', steps=5, clip=None), units=dict(mean=[0.1], std=[0.5]))
    save_model(own, fresh(), card)
    own.with_suffix('.json').write_text(json.dumps(card | dict(quality=None)))   # what decides nothing may be added later
    model, sched = load_pretrained(own)
    assert draw_as_card(model, sched, load_card(own), 2, labels=torch.tensor([0, 1])).shape == (2, 1, 8, 8)


def test_a_card_too_poor_to_draw_from_says_so(own):
    model, sched = load_pretrained(own)
    with pytest.raises(ValueError, match='size'): draw_as_card(model, sched, put(CARD, '-size', None), 2)


FORK = multiprocessing.get_context('fork' if hasattr(os, 'fork') else 'spawn')  # a child that has torch already


def status(key): return int(next(line for line in open('/proc/self/status') if line.startswith(key)).split()[1])


def measured(f, answer):
    import resource
    torch.set_num_threads(1)  # threads of the parent do not live here
    resource.setrlimit(resource.RLIMIT_AS, ((status('VmSize') + 4*2**20)*1024,)*2)
    before = status('VmRSS')
    try: f()
    except BaseException as error: answer.put(repr(error))
    else: answer.put((status('VmHWM') - before)/1000)


def grown(f):
    "Megabytes by which a process grows at its highest while it runs `f`. It may not ask for more than 4 GB."
    answer = FORK.Queue()
    child = FORK.Process(target=measured, args=(f, answer))
    child.start()
    megabytes = answer.get(timeout=600)
    child.join()
    assert isinstance(megabytes, float), megabytes
    return megabytes


@linux
def test_the_measure_of_memory_sees_what_is_used():
    assert 95 < grown(lambda: torch.ones(25_000_000)) < 130
    with pytest.raises(AssertionError, match='memory'): grown(lambda: torch.ones(2_500_000_000))


@linux
def test_a_large_claim_costs_little_memory(own):
    cards = [put(CARD, 'network', dict(channels=1, width=512, mults=[4, 4], classes=3)), put(CARD, 'network.width', 4096), put(CARD, 'network', dict(kind='posit_unet', channels=1, width=512, mults=[1, 2, 4])), put(CARD, 'network', dict(kind='simple', channels=1, width=256))]
    folder = own.parent
    for k, card in enumerate(cards):
        without_a_card(folder/f'{k}.safetensors')
        (folder/f'{k}.json').write_text(json.dumps(put(card, 'classes', []) if card['network'].get('kind') else card))
    for k, name in enumerate(['a length of 10**12', 'shape larger than its bytes', 'huge offsets']): (folder/f'{len(cards) + k}.safetensors').write_bytes(FILES[name]); (folder/f'{len(cards) + k}.json').write_text(json.dumps(CARD))

    def load():
        for k in range(len(cards) + 3):
            with pytest.raises(ValueError, match='fit its card|damaged'): load_pretrained(folder/f'{k}.safetensors')
    assert grown(load) < 200  # the smallest of those networks has 200 million weights, 800 megabytes


# ---- names and paths

def test_a_name_is_looked_up_and_never_joined_to_a_folder(own, tmp_path, monkeypatch):
    assets = tmp_path/'assets'
    (assets/'sub').mkdir(parents=True)
    for where in assets/'inside', tmp_path/'outside', assets/'sub'/'below':
        for end in '.safetensors', '.json': where.with_suffix(end).write_bytes(own.with_suffix(end).read_bytes())
    monkeypatch.setattr(pretrained, 'assets', assets)
    monkeypatch.chdir(assets/'sub')
    assert load_pretrained('inside')[1].T == 50 and list(pretrained.shipped()) == ['inside']
    for name in '../outside', '../../outside', 'sub/below', 'below', '../assets/inside', './inside', 'inside/../../outside', str(tmp_path/'outside'), '..', '/', '.', '', '~', 'inside\0', '\0', '*', 'in*', 'inside.json', None, 3:
        for load in load_pretrained, load_card:
            with pytest.raises(ValueError, match='shipped model' if name != '' else 'a path wanted a name'): load(name)
    assert load_pretrained('../../outside.safetensors')[1].T == 50  # a path is a path


def test_writing_goes_where_it_was_told_or_nowhere(tmp_path):
    (tmp_path/'a').mkdir()
    save_model(tmp_path/'a'/'..'/'b.safetensors', fresh(), CARD)  # a path is a path
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'b.json', 'b.safetensors']
    for name in 'c', 'c.json', 'c.safetensors.json', 'c\0.safetensors', '\0/c.safetensors':
        with pytest.raises(ValueError): save_model(tmp_path/name, fresh(), CARD)
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['a', 'b.json', 'b.safetensors']


def test_names_of_data_sets_never_lead_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in '../mnist', 'mnist/../../x', '/mnist', 'mnist\0', '\0', '~nobody/x', '~no such user/x', 'x'*10_000, '../../no such folder':
        with pytest.raises(ValueError, match='wanted'): load_images(name, root=tmp_path/'data')
    assert not list(tmp_path.iterdir())


def test_names_of_classes_are_shown_and_never_used_as_paths(tmp_path, monkeypatch):
    classes = ['../../evil', '/tmp/evil', 'C:\\evil', '$(touch evil)']
    here = tmp_path/'deep'/'er'
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    card = put(put(CARD, 'classes', classes), 'network.classes', len(classes))
    save_model('own.safetensors', fresh(card), card)
    for label in classes: assert CliRunner().invoke(main, ['sample', '--weights', 'own.safetensors', '--label', label, '--count', '2', '--steps', '2', '--out', 's.png', '--gif', 's.gif', '--strip', 't.png', '--device', 'cpu']).exit_code == 0
    said = CliRunner().invoke(main, ['sample', '--weights', 'own.safetensors', '--label', 'no such class', '--device', 'cpu']).output
    assert '../../evil' in said  # shown
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*')) == ['deep', 'deep/er', *(f'deep/er/{n}' for n in ('own.json', 'own.safetensors', 's.gif', 's.png', 't.png'))]


# ---- pictures

VIEW = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def png(w, h, lines, depth=8, colour=0, before=b'', after=b''):
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0)) + before + chunk(b'IDAT', zlib.compress(lines)) + after + chunk(b'IEND', b'')


def saved(image, kind, **how):
    image.save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


def stored(view, orientation):
    "How a camera held otherwise stores what is seen: row 0 and column 0 lie at the sides that the EXIF standard names for each orientation."
    at = {1: view, 2: view[:, ::-1], 3: view[::-1, ::-1], 4: view[::-1], 5: view.swapaxes(0, 1), 6: view[:, ::-1].swapaxes(0, 1), 7: view[::-1, ::-1].swapaxes(0, 1), 8: view[::-1].swapaxes(0, 1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(np.ascontiguousarray(at)), exif.tobytes()


def tiff(**tags):
    "A little-endian TIFF with one directory of whole numbers, and 64 bytes of picture."
    codes = dict(w=256, h=257, bits=258, compression=259, photometric=262, offset=273, samples=277, rows=278, count=279, tile_w=322, tile_h=323, tile_offset=324, tile_count=325)
    entries = b''.join(struct.pack('<HHII', codes[k], 4, 1, v) for k, v in sorted(tags.items(), key=lambda kv: codes[kv[0]]))
    return b'II*\0' + struct.pack('<I', 8) + struct.pack('<H', len(tags)) + entries + bytes(4 + 64)


def jpeg_claims(w, h):
    "A JPEG that says it is larger than it is."
    raw = bytearray(saved(Image.fromarray(VIEW), 'JPEG'))
    at = raw.index(b'\xff\xc0') + 5
    raw[at:at + 4] = struct.pack('>HH', h, w)
    return bytes(raw)


def webp_claims(w, h):
    body = b'VP8X' + struct.pack('<I', 10) + b'\x02\0\0\0' + (w - 1).to_bytes(3, 'little') + (h - 1).to_bytes(3, 'little') + b'ANIM' + struct.pack('<I', 6) + bytes(6)
    return b'RIFF' + struct.pack('<I', 4 + len(body)) + b'WEBP' + body


def readable():
    "name -> (bytes, what must be seen (16, 16, 3), grey levels it may be off)"
    view, grey = Image.fromarray(VIEW), VIEW[..., 0]
    rgb = lambda a: np.repeat(np.asarray(a, dtype=np.uint8)[..., None], 3, -1)
    hole = VIEW.copy(); hole[:, :5] = 255
    alpha = np.full((16, 16), 255, np.uint8); alpha[:, :5] = 0
    palette = Image.fromarray(np.where(np.arange(16) < 5, 0, grey % 255 + 1).astype(np.uint8)); palette.putpalette([v for k in range(256) for v in (k, 255 - k, 7)])
    index = np.asarray(palette)
    seen = np.stack([index, 255 - index, np.full_like(index, 7)], -1); seen[:, :5] = 255
    deep = grey.astype(np.uint16)*257 + 100
    lines = b''.join(b'\0' + row.astype('>u2').tobytes() for row in VIEW.astype(np.uint16)*257)
    smooth = np.linspace(0, 255, 16).astype(np.uint8)[:, None, None] + np.zeros((16, 16, 3), np.uint8)
    film = dict(save_all=True, append_images=[Image.fromarray(255 - VIEW)]*3)
    flat = lambda *colour: np.broadcast_to(np.array(colour, np.uint8), (16, 16, 3))
    out = {f'exif-{o}.{kind.lower()}': (saved(image, kind, exif=exif, **how), VIEW, 0) for o in range(1, 9) for image, exif in [stored(VIEW, o)] for kind, how in (('PNG', {}), ('TIFF', {}), ('WEBP', dict(lossless=True)))}
    for o in range(1, 9): image, exif = stored(smooth, o); out[f'exif-{o}.jpg'] = saved(image, 'JPEG', exif=exif, quality=100), smooth, 3
    return out | {
        'plain.png': (saved(view, 'PNG'), VIEW, 0), 'plain.bmp': (saved(view, 'BMP'), VIEW, 0), 'plain.ppm': (saved(view, 'PPM'), VIEW, 0), 'SHOUTED.PNG': (saved(view, 'PNG'), VIEW, 0), 'png named as.jpg': (saved(view, 'PNG'), VIEW, 0),
        'cmyk.tif': (saved(view.convert('CMYK'), 'TIFF'), VIEW, 1), 'cmyk.jpg': (saved(Image.new('CMYK', (16, 16), (255, 0, 0, 0)), 'JPEG', quality=100), flat(0, 255, 255), 3),
        'deep.png': (saved(Image.fromarray(deep), 'PNG'), rgb((deep/257).round()), 0), 'deep.tif': (saved(Image.fromarray(deep), 'TIFF'), rgb((deep/257).round()), 0), 'deep colours.png': (png(16, 16, lines, 16, 2), VIEW, 0),
        'bits.png': (saved(Image.fromarray(grey > 127), 'PNG'), rgb((grey > 127)*255), 0), 'bits.tif': (saved(Image.fromarray(grey > 127), 'TIFF', compression='group4'), rgb((grey > 127)*255), 0),
        'hole.png': (saved(palette, 'PNG', transparency=0), seen, 0), 'hole.gif': (saved(palette, 'GIF', transparency=0), seen, 0), 'alpha.png': (saved(Image.merge('RGBA', [*view.split(), Image.fromarray(alpha)]), 'PNG'), hole, 0),
        'grey alpha.png': (saved(Image.merge('LA', [Image.fromarray(grey), Image.fromarray(alpha)]), 'PNG'), np.where(alpha[..., None] > 0, rgb(grey), 255), 0),
        'film.png': (saved(view, 'PNG', **film), VIEW, 0), 'film.webp': (saved(view, 'WEBP', lossless=True, **film), VIEW, 0), 'film.gif': (saved(Image.new('L', (16, 16), 200), 'GIF', save_all=True, append_images=[Image.new('L', (16, 16), 10)]), flat(200, 200, 200), 0),
        'point.png': (png(1, 1, b'\0\x21'), flat(33, 33, 33), 0), 'tall.png': (png(1, 10_000, b'\0\x21'*10_000), flat(33, 33, 33), 0), 'wide.png': (png(10_000, 1, b'\0' + b'\x21'*10_000), flat(33, 33, 33), 0),
        'a comment.png': (saved(view, 'PNG', pnginfo=None), VIEW, 0),
    }


@lru_cache
def unreadable():
    "name -> bytes that must be left out"
    view = Image.fromarray(VIEW)
    a_png, a_jpeg, eps = saved(view, 'PNG'), saved(view, 'JPEG'), saved(view, 'EPS')
    bomb, svg = zlib.compress(bytes(100_000_000), 9), b'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"/>'
    strip = dict(bits=8, compression=1, photometric=1, offset=120, samples=1, count=64)
    return {
        'empty.jpg': b'', 'a byte.png': b'\x89', 'text.jpg': b'these are no pictures', 'drawing.png': svg, 'script.gif': b'#!/bin/sh\ntouch evil\n', 'postscript.png': eps, 'postscript.jpg': eps, 'paper.png': saved(view, 'PDF'), 'icons.png': saved(view, 'ICO'), 'targa.png': saved(view, 'TGA'),
        'cut.png': a_png[:len(a_png)//2], 'cut.jpg': a_jpeg[:len(a_jpeg)//2], 'cut head.jpg': a_jpeg[:30], 'cut.gif': saved(view, 'GIF')[:40], 'cut.tif': saved(view, 'TIFF')[:-300], 'cut.webp': saved(view, 'WEBP')[:60], 'cut.bmp': saved(view, 'BMP')[:200],
        'bomb.png': png(50_000, 50_000, bytes(100)), 'largest.png': png(2**31 - 1, 2**31 - 1, bytes(100)), 'below Pillow.png': png(10_000, 6_000, bytes(10_000_000)), 'between.png': png(12_000, 12_000, bytes(100)), 'nothing.png': png(0, 0, b''),
        'whole but large.png': png(9_000, 8_900, bytes(1_126*8_900), depth=1),
        'bomb.gif': b'GIF89a' + struct.pack('<HH', 65535, 65535) + b'\x80\0\0' + bytes(6) + b',' + bytes(4) + struct.pack('<HH', 65535, 65535) + b'\0\x02\x02\x44\x01\0;', 'bomb.webp': webp_claims(16383, 16383), 'bomb.jpg': jpeg_claims(65500, 65500),
        'bomb.bmp': b'BM' + struct.pack('<IIIIiiHHIIiiII', 54, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0), 'bomb.ppm': b'P6 1000000 1000000 255\n' + bytes(100), 'bomb.tif': tiff(w=10**6, h=10**6, rows=10**6, **strip),
        'strips.tif': tiff(w=16, h=16, rows=2**31 - 1, **strip | dict(count=2**31 - 1)), 'tiles.tif': tiff(w=16, h=16, bits=8, compression=5, photometric=1, samples=1, tile_w=30_000, tile_h=30_000, tile_offset=120, tile_count=64),
        'samples.tif': tiff(w=4000, h=4000, rows=4000, **strip | dict(samples=65535)),
        'text bomb.png': png(16, 16, bytes(17*16), before=chunk(b'zTXt', b'Comment\0\0' + bomb)), 'late text bomb.png': png(16, 16, bytes(17*16), after=chunk(b'zTXt', b'Comment\0\0' + bomb)),
        'many texts.png': png(16, 16, bytes(17*16), before=chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(1_000_000), 9))*300),
        'floats.tif': saved(Image.fromarray(VIEW[..., 0].astype(np.float32)/255), 'TIFF'), 'NaN.tif': saved(Image.fromarray(np.full((16, 16), np.nan, np.float32)), 'TIFF'), 'floats.ppm': b'Pf 16 16 -1.0\n' + bytes(4*256),
        'long.tif': saved(Image.fromarray(np.full((16, 16), 10**6, np.int32)), 'TIFF'), 'negative.tif': saved(Image.fromarray(np.full((16, 16), -1, np.int32)), 'TIFF'),
    }


def write(folder, files):
    for name, content in files.items(): (folder/name).write_bytes(content)
    return folder


def why_not(path):
    "Why a picture can't be read; None if it can."
    try: read_image(path, 16)
    except Unreadable as error: return str(error)


def test_pictures_of_every_kind_are_read_as_they_are_seen(tmp_path, record):
    files = readable()
    write(tmp_path, {k: v[0] for k, v in files.items()})
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # nothing is left out, and nothing said
        images = folder_images(tmp_path, 16)
    wrong = {}
    for name, got in zip(sorted(files), images.pixels.permute(0, 2, 3, 1).numpy()):
        off = np.abs(got.astype(int) - files[name][1]).max()
        if off > files[name][2]: wrong[name] = off
    record('A picture of an unusual kind (turned, deep, transparent, CMYK, a film ...) is read as it is seen', len(files), len(wrong))
    assert not wrong and len(images) == len(files)


def test_what_can_not_be_read_is_left_out_counted_and_named(tmp_path, record, capfd):
    files = unreadable()
    write(tmp_path, files | {'good.png': saved(Image.fromarray(VIEW), 'PNG')})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        images = folder_images(tmp_path, 16)
        read = [name for name in files if why_not(tmp_path/name) is None]
    said, = [str(w.message) for w in caught if 'left out' in str(w.message)]
    record('A damaged, lying or foreign file named as a picture is left out, counted and named', len(files), len(read))
    assert not read and len(images) == 1 and (images.pixels[0].permute(1, 2, 0).numpy() == VIEW).all()
    assert said.startswith(f'{len(files)} of {len(files) + 1} files could not be read') and all(name in said for name in sorted(files)[:5]) and said.endswith(' ...')
    assert sorted(files)[5] not in said
    assert capfd.readouterr().err.replace('\n', '').isprintable()  # libtiff complains, in numbers


def test_no_program_is_asked_to_read_a_picture(tmp_path, monkeypatch):
    asked = []
    def ghostscript(*args, **options):
        asked.append(args)
        raise RuntimeError('no program here')
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', ghostscript)
    (tmp_path/'x.jpg').write_bytes(saved(Image.fromarray(VIEW), 'EPS'))
    assert why_not(tmp_path/'x.jpg') == f'{tmp_path/"x.jpg"}: not an image' and not asked
    with Image.open(tmp_path/'x.jpg') as image, pytest.raises(RuntimeError, match='no program'): image.load()  # what Pillow left to itself does
    assert len(asked) == 1


def test_avif_and_heic_are_read_where_pillow_can(tmp_path):
    if not features.check('avif'): pytest.skip('this Pillow reads no AVIF')
    (tmp_path/'x.avif').write_bytes(saved(Image.new('RGB', (16, 16), (200, 100, 50)), 'AVIF', quality=100))
    assert (read_image(tmp_path/'x.avif', 16).float().mean((1, 2)) - torch.tensor([200., 100., 50.])).abs().max() < 4


@linux
def test_pictures_cost_bounded_memory(tmp_path):
    write(tmp_path, unreadable())
    Image.linear_gradient('L').resize((9_000, 9_000)).save(tmp_path/'large.jpg', quality=30)        # 81 million pixels: a JPEG is decoded small
    (tmp_path/'fine.png').write_bytes(png(7_000, 7_000, (b'\0' + b'\xaa'*875)*7_000, depth=1))       # 49 million: within the limit
    Image.linear_gradient('L').resize((10_000, 9_000)).save(tmp_path/'larger.jpg', quality=30)      # 90 million: Pillow warns, and we refuse
    with open(tmp_path/'long.webp', 'wb') as f: f.write(webp_claims(16, 16)); f.truncate(sources._most_bytes + 1)  # a file that is one hole

    def read():
        warnings.simplefilter('ignore')
        images = folder_images(tmp_path, 32)
        assert len(images) == 2 and all(100 < x.float().mean() < 156 for x in images.pixels), images.pixels.float().mean((1, 2, 3))
    assert grown(read) < 800  # 49 million pixels in three colours, held twice; the largest bomb would take 10 GB


# ---- folders

def good(folder, name='good.png'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder/name).write_bytes(saved(Image.fromarray(VIEW), 'PNG'))
    return folder


def left_out(folder):
    "How many images a folder gives, and what the warning says."
    with pytest.warns(UserWarning, match='left out') as caught: n = len(folder_images(folder, 16))
    return n, next(str(w.message) for w in caught if 'left out' in str(w.message))


def test_what_is_named_like_a_picture_and_is_no_file(tmp_path):
    folder = good(tmp_path/'set')
    os.mkfifo(folder/'pipe.jpg'); (folder/'dangling.png').symlink_to(tmp_path/'nowhere'); (folder/'round.png').symlink_to(folder/'round.png'); (folder/'zero.png').symlink_to('/dev/zero')
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(folder)
        try: s.bind('socket.png')
        finally: os.chdir(ROOT)
    n, said = left_out(folder)
    assert n == 1 and said.startswith('5 of 6 files') and 'dangling.png (No such file or directory)' in said and 'round.png (Too many levels' in said
    assert all(f'{name} (a pipe, a device or a folder' in said for name in ('pipe.jpg', 'socket.png', 'zero.png'))


@linux
def test_a_file_that_fails_while_it_is_read(tmp_path):
    folder = good(tmp_path/'set')
    (folder/'memory.png').symlink_to('/proc/self/mem')
    with pytest.raises(OSError), open(folder/'memory.png', 'rb') as f: f.read(16)
    assert left_out(folder) == (1, '1 of 2 files could not be read and are left out: memory.png (Input/output error)')


def test_a_file_nobody_may_read(tmp_path, monkeypatch):
    folder, opened = good(good(tmp_path/'set'), 'secret.png'), sources.open_regular
    def refuse(path, *how):
        if 'secret' in str(path): raise PermissionError(13, 'Permission denied', str(path))
        return opened(path, *how)
    monkeypatch.setattr(sources, 'open_regular', refuse)
    assert left_out(folder)[1].endswith(': secret.png (Permission denied)')


def test_links(tmp_path):
    folder = good(tmp_path/'set'/'a').parent
    good(tmp_path/'elsewhere'), good(folder/'b')
    (folder/'round').symlink_to(folder); (folder/'a'/'up').symlink_to(folder.parent); (folder/'out').symlink_to(tmp_path/'elsewhere'); (folder/'out.png').symlink_to(tmp_path/'elsewhere')
    images = folder_images(folder, 16)
    assert len(images) == 2 and images.classes == ('a', 'b')  # links to folders are passed over
    (folder/'a'/'other.png').symlink_to(tmp_path/'elsewhere'/'good.png')
    assert len(folder_images(folder, 16)) == 3                # a link to a file is that file
    (tmp_path/'link').symlink_to(folder)
    assert len(folder_images(tmp_path/'link', 16)) == 3       # and the folder one names may be a link


def test_names_can_not_command_the_terminal(tmp_path):
    folder = good(tmp_path/'set')
    names = ['\x1b[2J\x1b]0;owned\x07.png', 'two\nlines.png', 'carriage\rreturn.png', '\u202egnp.exe.png', 'τριαντάφυλλο, 薔薇.png']
    for name in names: (folder/name).touch()
    n, said = left_out(folder)
    assert n == 1 and said.isprintable() and 'τριαντάφυλλο, 薔薇.png' in said and r'\x1b[2J' in said and r'two\nlines' in said and r'\u202e' in said
    if os.fsencode('\udcff') == b'\xff' and sys.platform == 'linux':
        for name in names: (folder/name).unlink()
        open(os.fsencode(folder) + b'/not utf-8 \xff.png', 'w').close()
        said = left_out(folder)[1]
        assert said.isprintable() and said.encode('utf-8') and r'\udcff' in said


def test_names_of_folders_become_classes_that_can_be_shown(tmp_path):
    for name in 'café', 'two\nlines', '\x1b[2J': good(tmp_path/'s\x1bet'/name)
    images = folder_images(tmp_path/'s\x1bet', 16)
    assert images.classes == (r"'\x1b[2J'", 'café', r"'two\nlines'") and images.name == r"'s\x1bet'"
    check_card(put(CARD, 'classes', list(images.classes)))
    for bad in tmp_path/'s\x1bet'/'nothing', good(tmp_path/'s\x1bet'/'two\nlines', 'x.txt')/'x.txt':
        with pytest.raises(ValueError) as said: folder_images(bad)
        assert str(said.value).isprintable()


def test_only_the_first_five_of_many_are_named(tmp_path):
    folder = good(tmp_path/'set')
    for k in range(1000): (folder/f'{k:04}.jpg').touch()
    n, said = left_out(folder)
    assert n == 1 and said.startswith('1000 of 1001') and said.endswith('0000.jpg (empty), 0001.jpg (empty), 0002.jpg (empty), 0003.jpg (empty), 0004.jpg (empty) ...')


def test_hidden_names_are_passed_over_and_a_folder_of_bad_files_is_refused(tmp_path):
    folder = good(good(tmp_path/'set'/'.hidden').parent, '.hidden.png')
    (folder/'a folder.png').mkdir()
    with pytest.raises(ValueError, match='found none'): folder_images(folder)
    for k in range(7): (folder/f'{k}.png').touch()
    with pytest.raises(ValueError, match=r'at least one image that can be read: 7 of 7 files .* 4.png \(empty\) \.\.\.$'): folder_images(folder)


# ---- downloads

class Fake:
    "Stands where torchvision's MNIST stands: takes a folder that is there for the whole set, and unpacks file by file."
    data, targets, classes = torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2).long(), ['0']
    files, broken, notes, together, pause = [f'part-{k}' for k in range(6)], None, None, 0, 0

    def __init__(self, root, train=True, download=False):
        self.folder = Path(root)/'MNIST'
        if download and not self.folder.exists(): self.download()
        if not self.folder.exists(): raise RuntimeError('Dataset not found')
        self.held = sorted(p.name for p in self.folder.iterdir())

    def download(self):
        self.folder.mkdir()
        os.close(os.open(self.notes/'busy', os.O_CREAT | os.O_EXCL))  # fails if another downloads now
        with open(self.notes/'log', 'a') as f: f.write('downloaded\n')
        while len(list(self.notes.glob('began-*'))) < self.together: time.sleep(0.01)
        for k, name in enumerate(self.files):
            if k == self.broken: os.remove(self.notes/'busy'); raise KeyboardInterrupt
            (self.folder/name).write_text('x')
            time.sleep(self.pause)
        os.remove(self.notes/'busy')


@pytest.fixture
def fake(tmp_path, monkeypatch):
    notes = tmp_path/'notes'
    notes.mkdir()
    monkeypatch.setattr(datasets, 'MNIST', type('Fake', (Fake,), dict(notes=notes)))
    return datasets.MNIST


def opened(root, answer):
    try:
        (datasets.MNIST.notes/f'began-{os.getpid()}').touch()
        answer.put((len(sources.open_torchvision('mnist', True, root).held), len(load_images('mnist', root=root))))
    except BaseException as error: answer.put(repr(error))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_two_processes_that_download_the_same_set_at_once(tmp_path, fake):
    fake.together, fake.pause = 2, 0.2  # the first waits, in the midst of its download, until the second has begun
    answer = FORK.Queue()
    both = [FORK.Process(target=opened, args=(tmp_path/'sets', answer)) for _ in range(2)]
    for p in both: p.start()
    said = [answer.get(timeout=300) for _ in both]
    for p in both: p.join()
    assert said == [(6, 2)]*2
    assert (fake.notes/'log').read_text().split() == ['downloaded']
    assert sorted(p.name for p in (tmp_path/'sets').iterdir() if p.suffix != '.lock') == ['MNIST']


def test_a_download_that_breaks_off_is_not_taken_for_the_set(tmp_path, fake):
    fake.broken = 3
    with pytest.raises(KeyboardInterrupt): load_images('mnist', root=tmp_path/'sets')
    assert not (tmp_path/'sets'/'MNIST').exists()
    fake.broken = None
    load_images('mnist', root=tmp_path/'sets')
    assert len(list((tmp_path/'sets'/'MNIST').iterdir())) == 6 and (fake.notes/'log').read_text().split() == ['downloaded']*2
    load_images('mnist', root=tmp_path/'sets')
    assert (fake.notes/'log').read_text().split() == ['downloaded']*2  # and once there, it stays


@pytest.mark.parametrize('closed', ['sets', '.mnist.lock'])
def test_a_set_of_which_folder_or_lock_can_not_be_written_to_is_opened_without_a_lock(closed, tmp_path, fake, monkeypatch):
    "Rejects a set that one user of a shared folder has downloaded and no other can open."
    load_images('mnist', root=tmp_path/'sets')
    assert (tmp_path/'sets'/'.mnist.lock').exists()
    monkeypatch.setattr(os, 'access', lambda path, *a, **k: Path(path).name != closed)
    monkeypatch.setattr('filelock.FileLock', lambda *a, **k: pytest.fail('a lock was made'))
    assert len(load_images('mnist', root=tmp_path/'sets')) == 2


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


def test_torchvision_refuses_an_archive_with_another_checksum(tmp_path, monkeypatch):
    mirror = tmp_path/'mirror'
    mirror.mkdir()
    for name, _ in datasets.FashionMNIST.resources: (mirror/name).write_bytes(b'half of an archive')
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=mirror)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.FashionMNIST, 'mirrors', [f'http://127.0.0.1:{server.server_address[1]}/'])
        for _ in range(2):
            with pytest.raises(ValueError, match='FashionMNIST could not be opened.*(corrupted|Error downloading)'): load_images('fashion_mnist', root=tmp_path/'sets')
        server.shutdown()
    assert (tmp_path/'sets'/'.fashionmnist.part'/'FashionMNIST'/'raw').is_dir() and not (tmp_path/'sets'/'FashionMNIST').exists()  # it came, and was refused


def test_a_set_that_lost_files_says_what_to_delete(tmp_path, monkeypatch):
    class Lost:
        classes = ['a']
        def __init__(self, root, **options): pass
        def __iter__(self): raise FileNotFoundError(2, 'No such file', 'image_00001.jpg')
    monkeypatch.setattr(datasets, 'OxfordIIITPet', Lost)
    with pytest.raises(ValueError, match='oxford-iiit-pet in .* is not whole .*delete it'): load_images('oxfordiiitpet', root=tmp_path)
    (tmp_path/'FashionMNIST'/'raw').mkdir(parents=True)
    for name, _ in datasets.FashionMNIST.resources: (tmp_path/'FashionMNIST'/'raw'/Path(name).stem).touch()
    with pytest.raises(ValueError, match='FashionMNIST could not be opened'): load_images('fashion_mnist', root=tmp_path)


# ---- whatever else

def mutated(raw:bytes, rng):
    "One file with one to four random damages."
    was, raw = raw, bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 4])):
        i = rng.randrange(len(raw)) if rng.random() < 0.5 else rng.randrange(min(len(raw), 120))  # half of them near the head
        n = rng.choice([1, 2, 4, 8, 64])
        damage = rng.randrange(8)
        if damage == 0: raw[i] ^= 1 << rng.randrange(8)
        if damage == 1: raw[i:i + n] = rng.randbytes(len(raw[i:i + n]))
        if damage == 2: raw[i:i + n] = b'\xff'*len(raw[i:i + n])
        if damage == 3: raw[i:i + n] = bytes(len(raw[i:i + n]))
        if damage == 4: del raw[i:i + n]
        if damage == 5: raw[i:i] = rng.randbytes(n)
        if damage == 6: raw[i:i] = raw[(j := rng.randrange(len(raw))):j + n]
        if damage == 7 and i: del raw[i:]
        if not raw: return b''
    return bytes(raw) if bytes(raw) != was else mutated(was, rng)


def words(text:str, rng):
    "A card with one to three values exchanged for awkward ones: still JSON, so that it gets past the parser."
    card = json.loads(text)
    awkward = [0, -1, 1, 7, 10**9, 10**18, 0.5, 1e308, '', '8', 'unet', 'linear', None, True, [], [1]*9, [10**9], ['a'], {}, {'a': 1}, [[]], [None]]
    for _ in range(rng.choice([1, 2, 3])):
        inside, way = card, []
        while isinstance(inside, dict) and inside: way.append((inside, k := rng.choice(sorted(inside)))); inside = inside[k]
        parent, key = rng.choice(way)
        if rng.random() < 0.15: del parent[key]
        else: parent[key] = rng.choice(awkward)
        if not card: break
    return json.dumps(card).encode()


def fuzz(own, monkeypatch, record, n):
    "n damaged files of each kind; whatever comes out is a result or a `ValueError`."
    rng, folder, good_card, sealed = random.Random(0), own.parent, own.with_suffix('.json').read_text(), own.read_bytes()
    card = json.dumps(json.loads(good_card) | dict(units=dict(mean=[0.], std=[1.]), sample=dict(sampler='ddim', steps=5, clip=[-1, 1])))
    foreign = save({k: v.contiguous() for k, v in fresh().state_dict().items()})
    small = npz(test_images=np.zeros((3, 4, 4), np.uint8), test_labels=np.zeros(3, np.uint8))
    monkeypatch.setattr(data, 'assets', folder)
    refused, tried = {}, 0

    def attempt(kind, f):
        nonlocal tried
        tried += 1
        try: result = f()
        except ValueError as error: assert len(str(error)) < 2000; refused[kind] = refused.get(kind, 0) + 1; return None
        return result

    for make, kind in (lambda: (mutated(sealed, rng), good_card.encode()), 'sealed weights'), (lambda: (mutated(foreign, rng), good_card.encode()), 'foreign weights'), (lambda: (sealed, mutated(card.encode(), rng)), 'card'), (lambda: (sealed, words(card, rng)), 'words of a card'):
        for _ in range(n):
            weights, text = make()
            own.write_bytes(weights), own.with_suffix('.json').write_bytes(text)
            if loaded := attempt(kind, lambda: load_pretrained(own)): assert all(p.isfinite().all() for p in loaded[0].parameters())
            attempt(f'{kind}, as a checkpoint', lambda: load_tensors(own))
    for _ in range(n):
        (folder/'fashion_mnist.npz').write_bytes(mutated(small, rng))
        attempt('npz', lambda: bundled_fashion(train=False))
    pictures = good(folder/'pictures')
    kinds = [kind for kind in ('PNG', 'JPEG', 'GIF', 'TIFF', 'BMP', 'PPM', 'WEBP', 'AVIF') if kind != 'AVIF' or features.check('avif')]
    for kind in kinds:
        raw = saved(Image.fromarray(VIEW), kind)
        for k in range(n): (pictures/f'{kind}-{k:05}.{kind.lower().replace("tiff", "tif")}').write_bytes(mutated(raw, rng))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        images = folder_images(pictures, 16)
    tried += n*len(kinds)
    assert images.pixels.shape[1:] == (3, 16, 16) and 1 < len(images) < 1 + n*len(kinds)
    assert refused['sealed weights'] == n and all(0 < v <= n for v in refused.values()) and len(refused) >= 7, refused
    record('A file damaged at random (weights, cards, arrays, pictures) is read, refused or left out; nothing else happens', tried)
    return tried


def test_damaged_files_do_no_harm(own, monkeypatch, record): assert fuzz(own, monkeypatch, record, 60) > 500


@pytest.mark.slow
def test_thousands_of_damaged_files_do_no_harm(own, monkeypatch, record): assert fuzz(own, monkeypatch, record, 1000) > 10_000
