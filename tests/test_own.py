"One call that trains on whatever images and networks people have, and one that draws."
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import ddpm_lesson
from ddpm_lesson import (
    Schedule,
    cli,
    cosine_schedule,
    draw_from,
    experiments,
    fit,
    journal,
    judging,
    linear_schedule,
    load_card,
    load_pretrained,
    save_model,
    train_on,
)
from ddpm_lesson.data import Images
from ddpm_lesson.engine.cards import Sampling, check_card, make_schedule
from ddpm_lesson.engine.draw import draw_images
from ddpm_lesson.engine.files import save_tensors
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run, make_card, resume
from ddpm_lesson.engine.safety import latest_checkpoint
from ddpm_lesson.engine.sources import find_source
from ddpm_lesson.journal import remembered
from ddpm_lesson.own import card_from, to_images, wanted_labels
from ddpm_lesson.train import Recipe, adamw, draw, gradient_step
from ddpm_lesson.unet import UNet

PIXELS = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TINY = dict(width=8, mults='1', attend='', patch=2, batch=4, optimizer='adamw', warmup=0, progress=False, device='cpu', precision='float32')


OWN = {k: v for k, v in TINY.items() if k not in ('width', 'mults', 'attend', 'patch')}   # beside a network of one's own


def call(*args):
    r = CliRunner().invoke(cli.main, [str(a) for a in args])
    if r.exception and not isinstance(r.exception, SystemExit): raise r.exception
    return r.exit_code, r.output


class Pictures(torch.utils.data.Dataset):
    classes = 'a', 'b'
    def __init__(self, kind): self.kind = kind
    def __len__(self): return len(PIXELS)
    def __getitem__(self, k): return self.kind(PIXELS[k]), k % 2


KINDS = {
    'bytes': lambda: PIXELS, 'no channel': lambda: PIXELS[:, 0], 'floats': lambda: PIXELS/127.5 - 1, 'double': lambda: PIXELS.double()/127.5 - 1, 'array': lambda: PIXELS.numpy(),
    'channels last': lambda: PIXELS.permute(0, 2, 3, 1).numpy(), 'a set of tensors': lambda: Pictures(lambda x: x/127.5 - 1), 'a set of Pillow': lambda: Pictures(lambda x: Image.fromarray(x[0].numpy())),
    'a set of arrays': lambda: Pictures(lambda x: x[0].numpy()), 'an array of another machine': lambda: (PIXELS/127.5 - 1).numpy().astype('>f4'), 'Images': lambda: Images(PIXELS)}


@pytest.mark.parametrize('kind', KINDS)
def test_images_of_every_kind_are_the_same_images(kind):
    "Rejects a door that scales bytes, swaps axes, loses labels, or takes one kind less."
    data = to_images(KINDS[kind](), size=8, channels=1)
    assert data.pixels.shape[-2:] == (8, 8) and torch.equal(data.pixels[:, :1], PIXELS), kind
    if 'set' in kind: assert data.labels.tolist() == [0, 1]*6 and data.classes == ('a', 'b')


def test_floats_that_begin_at_zero_are_said_to():
    with pytest.warns(UserWarning, match=r'taken for \[0, 1\]'): assert torch.equal(to_images(PIXELS/255).pixels, PIXELS)
    with pytest.raises(ValueError, match=r'\[-1, 1\]'): to_images(PIXELS.float())


@pytest.mark.parametrize('wrong', [7, None, torch.zeros(3), torch.zeros(3, 1, 8, 8, dtype=torch.int64), np.array(['a']), [], object()], ids=lambda w: type(w).__name__)
def test_what_is_no_image_is_refused_in_words(wrong):
    with pytest.raises((TypeError, ValueError), match='wanted|expected|convert'): to_images(wrong)


def test_an_array_may_be_read_only_and_is_copied():
    "Rejects images that change when the caller's array does, and a warning for an array that nobody will write to."
    array = PIXELS.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data = to_images(array)
    array.flags.writeable = True
    array[:] = 0
    assert torch.equal(data.pixels, PIXELS)


@pytest.mark.parametrize('wrong', [dict(T='100'), dict(sample=5), dict(sample=dict(steps='ten')), dict(sample=dict(steps=[9, 5]))], ids=['T', 'sample', 'a word', 'several'])
def test_a_way_to_draw_of_another_kind_is_told_what_was_wanted(wrong):
    with pytest.raises((TypeError, ValueError), match='wanted'): train_on(PIXELS, steps=1, **TINY, **wrong)


def test_a_preset_is_asked_for_the_size_of_its_images():
    "Rejects a door that looks at the height alone."
    tall = Images(PIXELS.repeat(1, 1, 1, 2))
    assert preset_card('debug', tall, size=(8, 16))[0]['size'] == preset_card('debug', tall)[0]['size'] == [8, 16]
    for size in 8, 16, 0:
        with pytest.raises(ValueError, match='size wanted'): preset_card('debug', tall, size=size)


def test_a_card_names_the_gpu_that_made_it(monkeypatch):
    "Rejects the name of the first GPU for a run on the second."
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device=None: f'GPU {device}')
    run = train_on(PIXELS, steps=1, **TINY)
    assert journal.how_made(0.0, run, 'cuda:1')['made']['hardware'] == 'GPU cuda:1'


def test_a_source_is_remembered_by_its_place(): assert journal.where_from(find_source('Fashion-MNIST')) == 'fashionmnist' and Path(journal.where_from(find_source('debug'))).is_absolute()


def test_images_that_have_no_place_are_not_looked_for(tmp_path, monkeypatch):
    "Rejects a journal that takes the label of a tensor for a folder: a model judged by whatever lies in one of that name."
    monkeypatch.chdir(tmp_path)
    Path('tensor').mkdir()
    Image.fromarray(PIXELS[0, 0].numpy()).save('tensor/a.png')
    train_on(PIXELS, steps=1, folder='run', **TINY)
    assert remembered('run') is None and json.loads(Path('run/run.json').read_text())['sessions'][0]['data'] == 'tensor'
    for args in ['evaluate', '--weights', 'run'], ['train', '--resume', 'run']:
        status, said = call(*args, '--device', 'cpu')
        assert status == 1 and '--data wanted' in said and 'tensor' in said, said


def test_a_second_call_goes_on_and_a_longer_one_extends(tmp_path):
    "Rejects a call that begins anew, one that refuses a longer run, and one whose extension forgets the moments."
    seen = []
    first = train_on(PIXELS, steps=6, folder=tmp_path/'run', each=lambda loss, step, run: seen.append((step, len(run.losses))), **TINY)
    assert seen == [(k, k) for k in range(1, 7)] and {'model.safetensors', 'run.json', 'curve.png', 'samples.png', 'samples'} <= {p.name for p in (tmp_path/'run').iterdir()}
    again = train_on(PIXELS, steps=6, folder=tmp_path/'run', **TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.state().values(), again.state().values()))
    with pytest.warns(UserWarning, match='a run of 6 steps goes on as one of 9'): longer = train_on(PIXELS, steps=9, folder=tmp_path/'run', **TINY)
    assert len(longer.losses) == 9 and torch.equal(torch.stack(longer.losses[:6]), torch.stack(first.losses)) and load_card(tmp_path/'run')['recipe']['steps'] == 9
    with pytest.raises(ValueError, match='another run: recipe.lr'): train_on(PIXELS, steps=9, folder=tmp_path/'run', lr=1, **TINY)
    assert [s['step'] for s in json.loads((tmp_path/'run'/'run.json').read_text())['sessions']] == [0, 6, 6]


def test_what_is_called_each_step_may_end_the_run_and_nothing_is_lost(tmp_path):
    "Rejects a loop that loses what it learned when the caller's function raises."
    def stop(loss, step, run):
        if step == 4: raise KeyError('enough')
    with pytest.raises(KeyError, match='enough'): train_on(PIXELS, steps=9, folder=tmp_path, each=stop, **TINY)
    assert latest_checkpoint(tmp_path)[2]['step'] == 4
    assert len(train_on(PIXELS, steps=9, folder=tmp_path, **TINY).losses) == 9


class Mine(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1, dtype=dtype)
    def forward(self, x_t, t): return self.layer(x_t)


class Asked(Mine):
    def __init__(self):
        super().__init__()
        self.shift = nn.Embedding(3, 1)
    def forward(self, x_t, t, y): return self.layer(x_t) + self.shift(y)[:, :, None, None]


@pytest.mark.parametrize('make', [Mine, Asked, lambda: Mine(torch.float64), lambda: Mine(torch.bfloat16)], ids=['plain', 'labels', 'float64', 'bfloat16'])
def test_any_network_is_trained_kept_and_found_again(make, tmp_path):
    "Rejects a door that knows only our U-Net, gives labels to a network without any, or mixes dtypes."
    torch.manual_seed(0)
    net = make()
    before = net.layer.weight.detach().clone()
    run = train_on(Pictures(lambda x: x/127.5 - 1), net=net, steps=4, folder=tmp_path/'run', target='eps', **OWN)
    assert not torch.equal(before, net.layer.weight) and net.layer.weight.dtype == before.dtype and run.card['classes'] == (['a', 'b'] if isinstance(net, Asked) else [])
    model, _ = load_pretrained(tmp_path/'run', net=make())
    torch.testing.assert_close(model.net.layer.weight.float(), run.averaged().net.layer.weight.float(), rtol=1e-2, atol=1e-3)
    assert draw_from(run, 2, steps=2).isfinite().all()
    with pytest.raises(ValueError, match='not a network of ours'): load_pretrained(tmp_path/'run')
    status, said = call('sample', '--weights', tmp_path/'run', '--out', tmp_path/'a.png')
    assert status == 1 and 'not a network of ours' in said


class Parts(Mine):
    "A network whose part has a name that wrappers use, and another part beside it."
    def __init__(self, name):
        super().__init__()
        self.add_module(name, nn.Sequential(nn.Conv2d(1, 1, 1)))
        self.inner = name
    def forward(self, x_t, t): return self.layer(getattr(self, self.inner)(x_t))


@pytest.mark.parametrize('around', [lambda m: m, lambda m: m.net, lambda m: torch.compile(m), lambda m: nn.DataParallel(m.net)], ids=['model', 'network', 'compiled', 'parallel'])
@pytest.mark.parametrize('name', ['net', 'model', 'module', 'body'])
def test_a_part_of_ones_own_network_is_not_taken_for_all_of_it(name, around, tmp_path):
    "Rejects a look for wrappers that goes on into the network: half of the weights would be lost, and nobody told."
    run = train_on(PIXELS, net=Parts(name), steps=1, target='eps', **OWN)
    save_model(tmp_path/'m.safetensors', around(run.model), run.card)
    model, _ = load_pretrained(tmp_path/'m.safetensors', net=Parts(name))
    for k, v in run.net.state_dict().items(): assert torch.equal(model.net.state_dict()[k], v), k


class Idle(Mine):
    "With a part that nothing uses yet."
    def __init__(self):
        super().__init__()
        self.later = nn.Linear(3, 3)


@pytest.mark.parametrize('optimizer', ['adamw', 'muon'])
@pytest.mark.parametrize('make', [Idle, lambda: Parts('net'), lambda: Parts('net').double(), lambda: Parts('net').bfloat16()], ids=['idle', 'all at work', 'float64', 'bfloat16'])
def test_a_run_goes_on_to_the_same_bits_whatever_a_network_used(make, optimizer, tmp_path):
    "Rejects a checkpoint without the moments of a part that never learned: it could not be read again."
    if optimizer == 'muon':
        class Wide(Idle):
            def __init__(self):
                super().__init__()
                self.layer = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 1))
        make = Wide
    def trained(steps, folder):
        torch.manual_seed(0)
        return train_on(PIXELS, net=make(), steps=steps, every=1, folder=folder, target='eps', decay=False, **OWN | dict(optimizer=optimizer))
    trained(2, tmp_path/'a')
    with pytest.warns(UserWarning, match='goes on as one of 4'): again = trained(4, tmp_path/'a')
    whole = fit(Run(again.card, again.data, net=(torch.manual_seed(0), make())[1]), progress=False)
    for k, v in whole.state().items(): assert torch.equal(v, again.state()[k]), k


class Chancy(Mine):
    "A network that draws as it likes while it learns."
    def __init__(self, draw):
        super().__init__()
        self.draw = draw
    def forward(self, x_t, t): return self.draw(self.layer(x_t)) if self.training else self.layer(x_t)


@pytest.mark.parametrize('draw', [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), lambda x: nn.functional.dropout(x, 0.5), lambda x: x + torch.randn_like(x)], ids=['dropout', 'dropout2d', 'alpha', 'function', 'noise'])
def test_ones_own_network_draws_from_the_stream_of_its_run(draw, tmp_path):
    "Rejects a run that another seed outside changes, that a resume changes, or that moves the caller's stream: only nn.Dropout was known to draw."
    def weights(seed, *steps):
        net = Chancy(draw)
        for w in net.parameters(): w.data.fill_(0.1)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')   # that it goes on as a longer one
            for n in steps: run = train_on(PIXELS, net=net, steps=n, folder=tmp_path/f'{seed}' if len(steps) > 1 else None, target='eps', decay=False, **OWN)
        assert torch.equal(torch.get_rng_state(), before)
        return run.net.layer.weight
    a, b, c = weights(0, 4), weights(1, 4), weights(2, 2, 4)
    assert torch.equal(a, b) and torch.equal(a, c)


class Odd(Mine):
    "A network that no checkpoint could hold, or that learns nothing."
    def __init__(self, kind):
        super().__init__()
        if kind == 'lazy': self.layer = nn.LazyConv2d(1, 3, padding=1)
        if kind == 'complex': self.turn = nn.Parameter(torch.ones(1, dtype=torch.complex64))
        if kind == 'frozen': self.requires_grad_(False)
        if kind == 'empty': del self.layer
        if kind == 'lock': self.lock = threading.Lock()
        if kind == 'generator': self.parts = (p for p in self.parameters())
    def forward(self, x_t, t): return self.layer(x_t)


@pytest.mark.parametrize('kind, said', [('lazy', 'others in layer'), ('complex', 'others in turn'), ('frozen', 'weights that learn'), ('empty', 'weights that learn'),
                                        ('lock', 'parts that can be copied'), ('generator', 'parts that can be copied')])
def test_a_network_that_can_not_learn_or_be_kept_is_refused_in_words(kind, said):
    "Rejects torch's own words, an index out of range, and a copy that fails only when the averaged weights are wanted."
    with pytest.raises(ValueError, match=f'net wanted .*{said}'): train_on(PIXELS, net=Odd(kind), steps=1, target='eps', **OWN)


@pytest.mark.parametrize('around', [nn.DataParallel, lambda net: torch.compile(net, backend='eager')], ids=['parallel', 'compiled'])
@pytest.mark.parametrize('make', [Mine, Asked], ids=['plain', 'labels'])
def test_what_is_around_a_network_changes_nothing_of_what_it_takes(make, around, tmp_path):
    "Rejects a look at the wrapper, which takes any arguments: labels then go to a network that knows none."
    run = train_on(Pictures(lambda x: x/127.5 - 1), net=around(make()), steps=1, folder=tmp_path, target='eps', **OWN)
    assert run.card['network']['name'] == make.__name__ and run.card['network']['classes'] == 2*(make is Asked)
    assert load_pretrained(tmp_path, net=make())


class Remembers(Mine):
    "Keeps what it computed, as people do who want to look at attention; or norms its weights in the way of old."
    def __init__(self, kind):
        super().__init__()
        self.kind, self.seen = kind, {} if kind == 'dict' else []
        if kind == 'norm': torch.nn.utils.weight_norm(self.layer)
    def forward(self, x_t, t):
        y = self.layer(x_t)
        if self.kind == 'one': self.last = y
        if self.kind == 'list': self.seen.append(y)
        if self.kind == 'dict': self.seen['y'] = y
        return y


@pytest.mark.filterwarnings('ignore:.*weight_norm')
@pytest.mark.parametrize('kind', ['one', 'list', 'dict', 'norm'])
def test_a_network_that_remembers_a_pass_is_averaged_and_kept(kind, tmp_path):
    "Rejects a plain deepcopy, which fails at the first checkpoint: only leaves of the graph can be copied."
    run = train_on(PIXELS, net=Remembers(kind), steps=2, every=1, folder=tmp_path, target='eps', **OWN)
    model, _ = load_pretrained(tmp_path, net=Remembers(kind))
    for (k, v), w in zip(run.averaged().net.named_parameters(), model.net.parameters()): assert torch.equal(v, w), k


@pytest.mark.parametrize('classes', [3, 10, 0, 'ab', ['a', 'b']], ids=['3', '10', '0', 'word', 'names'])
def test_a_network_knows_as_many_classes_as_its_images_have(classes):
    "Rejects two numbers that nobody compares: guidance would ask for the label of a class that this training never had."
    net = Asked()
    net.classes = classes
    with pytest.raises(ValueError, match='net.classes wanted 2, as many as'): train_on(Pictures(lambda x: x/127.5 - 1), net=net, steps=1, target='eps', **OWN)


@pytest.mark.parametrize('how, said', [
    (dict(net='x'), 'net wanted an nn.Module, got str'), (dict(net=Mine), r'Mine\(\) makes one'), (dict(dtype='float16'), 'dtype wanted one of floating point.*float16'), (dict(dtype=torch.int64), 'torch.int64'),
    (dict(dtype=torch.complex64), 'complex64'), (dict(dtype=16), 'got 16')])
def test_what_a_model_is_to_be_is_told_what_was_wanted(how, said):
    "Rejects torch's list of what `.to` takes, and a model of complex numbers."
    with pytest.raises(TypeError, match=said): load_pretrained('fashion', **how)


@pytest.mark.parametrize('shape', [(0, 1, 8, 8), 'a', None, (1., 1, 8, 8), (True, 1, 8, 8), 5, (2, 1, -8, 8)])
def test_a_shape_to_draw_is_looked_at_first(shape):
    with pytest.raises((ValueError, TypeError), match='shape wanted'): draw_images(lambda x, t: x, linear_schedule(10), shape, Sampling(steps=1))


def test_images_need_not_be_square(tmp_path):
    "Rejects a card with one side for two."
    run = train_on(torch.randint(0, 256, (8, 3, 8, 12), dtype=torch.uint8), steps=2, folder=tmp_path/'run', **TINY)
    assert draw_from(run, 2, steps=2).shape == (2, 3, 8, 12) and load_card(tmp_path/'run')['size'] == [8, 12]
    status, said = call('sample', '--weights', tmp_path/'run', '--count', 2, '--steps', 2, '--zoom', 1, '--cols', 2, '--out', tmp_path/'a.png', '--device', 'cpu')
    assert status == 0 and Image.open(tmp_path/'a.png').size == (2*14 + 2, 12), said
    status, said = call('sample', '--like', tmp_path/'a.png', '--out', tmp_path/'b.png')
    assert status == 0 and 'the same, pixel for pixel' in said, said


def test_a_run_begins_with_the_weights_of_a_model(tmp_path):
    "Rejects fresh weights, a card of another network, and labels that the pictures do not have."
    data = to_images(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8))
    run = train_on(data, start='fashion', steps=1, lr=1e-30, weight_decay=0, ema_decay=0, batch=4, warmup=0, progress=False, device='cpu')
    old, new = load_pretrained('fashion')[0].net.state_dict(), run.net.state_dict()
    same = [k for k in new if k in old and old[k].shape == new[k].shape]
    assert len(same) > 0.9*len(new) and all(torch.allclose(old[k], new[k], atol=1e-6) for k in same)
    assert run.card['target'] == load_card('fashion')['target'] and not run.card['classes']
    assert card_from('fashion', data, dict(steps=3, batch=4))['schedule'] == load_card('fashion')['schedule']


@pytest.mark.parametrize('n', [2, 3, 8])
def test_a_batch_learned_in_parts_is_one_step(n):
    "Exact, in float64: rejects parts that are summed, or parts of unequal size that count alike."
    data, sched = Images(PIXELS), ddpm_lesson.cosine_schedule()
    ends = []
    for parts in 1, n:
        torch.manual_seed(0)
        recipe = Recipe(batch=8, accumulate=parts, clip_grad=0, precision='float32', optimizer='adamw')
        net = UNet(1, 8, (1,), 1, (), 2).double()
        batch = draw(data, recipe, sched.T, 0)
        batch = batch._replace(x_0=batch.x_0.double(), eps=batch.eps.double())
        loss = gradient_step(net, sched, adamw(list(net.parameters()), recipe), recipe, batch)
        ends.append([loss, *net.parameters()])
    for a, b in zip(*ends): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# ---- the same from the command line

def photographs(folder, n=60):
    for kind, level in dict(a=40, b=160).items():
        (folder/kind).mkdir(parents=True)
        for k in range(n//2): Image.effect_noise((16, 16), level).convert('RGB').save(folder/kind/f'{k}.png')


def test_resume_needs_the_folder_and_nothing_else(tmp_path, monkeypatch):
    "Rejects a program that wants every flag again, one that reads where a stranger's folder says, and one that does not extend."
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path/'pics')
    base = ['train', '--data', 'pics', '--size', 8, '--width', 8, '--mults', '1', '--attend', '', '--batch', 4, '--optimizer', 'adamw', '--device', 'cpu', '--no-tensorboard']
    assert call(*base, '--steps', 3, '--folder', 'run')[0] == 0
    (tmp_path/'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path/'elsewhere')                       # the folder of images was named from another place
    assert remembered(tmp_path/'run') == str(tmp_path/'pics')
    status, said = call('train', '--resume', tmp_path/'run', '--steps', 5, '--device', 'cpu', '--no-tensorboard')
    assert status == 0 and 'goes on as one of 5' in said, said
    assert len(load_card(tmp_path/'run')['classes']) == 2 and load_card(tmp_path/'run')['recipe']['steps'] == 5
    status, said = call('train', '--resume', tmp_path/'run', '--width', 16, '--device', 'cpu', '--no-tensorboard')
    assert status == 1 and 'width' in said, said
    for more in ['--folder', tmp_path/'x'], ['--start', 'fashion']: assert call('train', '--resume', tmp_path/'run', *more, '--device', 'cpu')[0] == 1
    shutil.copytree(tmp_path/'run', tmp_path/'sent')
    about = json.loads((tmp_path/'sent'/'run.json').read_text())
    (tmp_path/'sent'/'run.json').write_text(json.dumps(about | dict(id='f'*32)))       # as a stranger's folder would say
    status, said = call('train', '--resume', tmp_path/'sent', '--device', 'cpu')
    assert status == 1 and '--data wanted the images of this run' in said, said


def test_evaluate_remembers_what_it_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path/'pics', 100)
    monkeypatch.setattr(judging, 'judges', lambda: dict(lite0=lambda device: lambda pixels: pixels[:, 0, ::4, ::4].flatten(1).double()/255))
    assert call('train', '--data', 'pics', '--size', 8, '--width', 8, '--mults', '1', '--attend', '', '--batch', 4, '--steps', 2, '--optimizer', 'adamw', '--folder', 'run', '--device', 'cpu', '--no-tensorboard')[0] == 0
    status, said = call('evaluate', '--weights', 'run', '--count', 20, '--steps', 1, '--device', 'cpu', '--json')
    assert status == 0 and json.loads(said)['against'] == 'pics', said


def test_a_start_begins_with_a_model(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        photographs(tmp_path/'pics', 16)
        status, said = call('train', '--start', 'fashion', '--data', tmp_path/'pics', '--steps', 1, '--batch', 4, '--folder', tmp_path/'run', '--device', 'cpu', '--no-tensorboard')
    assert status == 0 and load_card(tmp_path/'run')['size'] == 28, said


def test_the_front_door_shows_what_it_has():
    "Rejects a directory of what the module happens to import."
    assert {'train_on', 'draw_from', 'Schedule', 'own', 'cli'} <= set(dir(ddpm_lesson)) and not {'re', 'sys', 'ModuleSpec', 'linecache'} & set(dir(ddpm_lesson))
    assert Path(ddpm_lesson.__file__).name == '__init__.py' and callable(train_on)


def hwc(x): return x.permute(1, 2, 0)


@pytest.mark.parametrize('source', [hwc, lambda x: hwc(x).numpy()], ids=['tensors', 'arrays'])
def test_channels_that_come_last_are_found_in_a_tensor_and_in_a_set(source):
    "Rejects a door that takes eight rows for eight colours: it would train on pictures one pixel wide."
    rows = torch.stack([hwc(x) for x in PIXELS])
    for given in rows, rows.numpy(), [source(x) for x in PIXELS]: assert torch.equal(to_images(given).pixels, PIXELS)


def test_images_with_their_labels_are_a_pair():
    "Rejects a pair read as a set of two images."
    y = torch.arange(12) % 3
    for pair in (PIXELS, y), (PIXELS[:, 0].numpy(), y.numpy()):
        data = to_images(pair)
        assert torch.equal(data.pixels, PIXELS) and torch.equal(data.labels, y)
    with pytest.raises(ValueError, match='one for each of 12 images, got 11'): to_images((PIXELS, y[:11]))


@pytest.mark.parametrize('items, said', [
    ([dict(image=PIXELS[0])], 'got dict'), (['a.png', 'b.png'], 'got str'), ([(PIXELS[0], 'cat')], "whole number, got 'cat'"),
    ([(PIXELS[0], float('inf'))], 'whole number, got inf'), ([(PIXELS[0], float('nan'))], 'whole number, got nan'), ([(PIXELS[0], 2**63)], 'whole number, got 9'),
    ([(PIXELS[0], 0.5)], 'whole number, got 0.5'), ([(PIXELS[0], torch.tensor([1., 0.]))], 'whole number'),
    ([PIXELS[0], PIXELS[1, :, :5]], 'one shape, got 2'), ([(PIXELS[0], 1), PIXELS[1]], 'for each image or for none'), ([()], 'got tuple')])
def test_an_item_that_is_no_image_or_label_is_refused_in_words(items, said):
    "Rejects a door that lets torch or Pillow stumble, and one that makes 0 of the label 0.5."
    with pytest.raises((TypeError, ValueError), match=said): to_images(items)


def test_what_was_asked_of_images_that_stay_as_they_are_is_not_forgotten():
    "Rejects a training on 8x8 when 16x16 was asked for, or on grey when colour was."
    for asked, said in (dict(size=16), 'size wanted 8'), (dict(channels=3), 'channels wanted 1'):
        with pytest.raises(ValueError, match=said): train_on(PIXELS, steps=1, **asked, **TINY)
    assert train_on(PIXELS, steps=1, size=8, channels=1, **TINY).card['size'] == 8


@pytest.mark.parametrize('net, said', [(Mine, r'the class Mine: Mine\(\)'), (lambda x, t: x, 'got function')], ids=['class', 'function'])
def test_what_is_no_network_is_refused_in_words(net, said):
    with pytest.raises(TypeError, match=said): train_on(PIXELS, net=net, steps=1, **OWN)


def test_a_run_draws_where_it_is_told(tmp_path):
    "Rejects a place to train on that is none to draw on, told in Python's words: got multiple values for keyword argument."
    run = train_on(PIXELS, steps=1, folder=tmp_path/'run', **TINY)
    for source in run, tmp_path/'run':
        for device in None, 'cpu', torch.device('cpu'): assert torch.equal(draw_from(source, 2, steps=2, device=device), draw_from(run, 2, steps=2))
        with pytest.raises(ValueError, match='device wanted auto or one that is here'): draw_from(source, 2, device='gpu')


def test_a_network_in_half_precision_learns_as_it_is(monkeypatch):
    "Rejects autocast around float16: a norm takes no two kinds of half."
    monkeypatch.setattr('ddpm_lesson.engine.run.bf16_helps', lambda device: True)
    for half in False, True:
        net = UNet(1, 8, (1,), 1)
        run = train_on(PIXELS, net=net.half() if half else net, steps=1, **OWN | dict(precision='auto'))
        assert run.bf16 is not half and run.losses[0].isfinite()


def test_what_is_kept_draws_like_the_run_and_an_unfinished_run_says_so(tmp_path):
    "Rejects a door to draw by that only opens for whoever trained."
    run = train_on(Pictures(lambda x: x), steps=2, folder=tmp_path/'run', **TINY)
    for name in tmp_path/'run', str(tmp_path/'run'):
        assert torch.equal(draw_from(name, 3, label='b', steps=2), draw_from(run, 3, label='b', steps=2))
    with pytest.raises(TypeError, match='wanted a run of train_on'): draw_from(run.averaged(), 3)
    with pytest.raises(TypeError, match='among sampler, steps.* got stepz'): draw_from(run, 3, stepz=2)
    (tmp_path/'run'/'model.safetensors').unlink()
    with pytest.raises(ValueError, match='training has not ended'): draw_from(tmp_path/'run', 3)


def test_a_run_is_not_made_shorter_than_it_is(tmp_path):
    "Rejects a card that says four steps of weights that learned for six."
    train_on(PIXELS, steps=6, folder=tmp_path, **TINY)
    with pytest.raises(ValueError, match='steps wanted 6 or more'): train_on(PIXELS, steps=4, folder=tmp_path, **TINY)
    assert load_card(tmp_path)['recipe']['steps'] == 6


def test_levels_may_be_a_list():
    run = train_on(PIXELS, steps=1, **TINY | dict(mults=(1, 2), attend=[1]))
    assert run.card['network']['mults'] == [1, 2] and run.card['network']['attend'] == [1]
    with pytest.raises(ValueError, match='whole numbers'): train_on(PIXELS, steps=1, **TINY | dict(mults=(1, 1.5)))


# ---- settings of which one makes the other meaningless

@pytest.mark.parametrize('given, said', [
    (dict(net=Mine(), width=8), 'net wanted no width'), (dict(net=Mine(), kind='dit', layers=2), 'net wanted no kind, layers'),
    (dict(data='mnist'), 'data wanted no second word'), (dict(labels=False, label_drop=0.2), 'label_drop wanted labels'),
    (dict(label_drop=0.2), 'tensor has none'), (dict(every=5), 'every wanted a folder'), (dict(steps=2, epochs=2), 'steps or epochs'),
    (dict(accumulate=9), 'accumulate wanted at most 4'), (dict(schedule=cosine_schedule(50), T=40), 'T wanted 50'),
    (dict(schedule=7), 'schedule wanted a Schedule or one of cosine'), (dict(kind='dit', mults='1,2'), 'no use for')])
def test_a_setting_that_would_change_nothing_is_refused(given, said):
    "Rejects a door that trains on in silence: the width of a network that is built already, a share of labels where there are none."
    base = dict(batch=4, optimizer='adamw', warmup=0, progress=False, device='cpu')
    with pytest.raises((ValueError, TypeError), match=said): train_on(PIXELS, **base | given)


@pytest.mark.parametrize('given, said', [
    (dict(width=17), 'width wanted 16'), (dict(mults='1,2'), 'mults wanted'), (dict(schedule='linear'), 'schedule wanted'), (dict(T=50), 'T wanted 1000'),
    (dict(target='eps'), 'target wanted'), (dict(standardise=True), 'standardise wanted False'), (dict(kind='dit'), 'kind wanted unet'),
    (dict(schedule=cosine_schedule(50)), 'schedule wanted that of the model')])
def test_what_the_model_to_start_with_decides_is_not_asked_in_vain(given, said):
    "Rejects a fine-tuning that takes another width, target or schedule in silence and does not use it."
    data = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    with pytest.raises(ValueError, match=said): train_on(data, start='fashion', steps=1, batch=4, progress=False, device='cpu', **given)
    flags = [f'--{k}={v}' for k, v in given.items() if k in ('width', 'mults', 'T', 'target') or k == 'schedule' and v == 'linear']
    if flags:
        status, words = call('train', '--start', 'fashion', '--batch', 4, '--steps', 1, '--device', 'cpu', '--folder', 'nowhere', *flags)
        assert status == 1 and said in words and not Path('nowhere').exists(), words


def test_what_the_model_to_start_with_has_may_be_said_again():
    "Rejects a refusal of every setting beside start, of those too that agree with it, and a dropout that is not taken."
    old = load_card('fashion')
    data = to_images(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8))
    p = dict(steps=3, batch=4)
    same = {k: old['network'][k] for k in ('width', 'mults') if k in old['network']} | dict(target=old['target'], T=1000, size=28, dropout=0.2)
    assert card_from('fashion', data, p, same)['network']['dropout'] == 0.2


def test_epochs_are_counted_whatever_the_network():
    "Rejects epochs that only a network of ours hears of: 12 images in batches of 4, twice, are 6 steps and not the preset's 1,500."
    assert len(train_on(PIXELS, net=Mine(), epochs=2, target='eps', **OWN).losses) == 6
    data = to_images(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8))
    assert card_from('fashion', data, dict(epochs=3, batch=4, warmup=0))['recipe']['steps'] == 6


@pytest.mark.parametrize('args, said', [
    (['lessons', '--in-place', '--copy', 'mine'], '--in-place wanted no --copy'), (['experiment', '--grid', 's2', '--blocks', 2], '--grid s2 wanted no --blocks'),
    (['progress', '--out', 't.csv'], 'without a FOLDER wanted no --out'), (['progress', '--picture', 'p.png'], 'without a FOLDER wanted no --picture'),
    (['progress', '.', '--student', 'ana'], 'a FOLDER wanted no --student'), (['train', '--resume', 'run', '--preset', 'flowers'], '--resume FOLDER wanted no --preset')])
def test_a_flag_that_would_change_nothing_is_refused(args, said, tmp_path, monkeypatch):
    "Rejects a command that takes a flag it has no use for, and goes on in silence."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path/'home'))
    status, words = call(*args)
    assert status == 1 and said in words, words


# ---- schedules, and ways to draw, as Python has them

def test_a_schedule_may_be_an_object(tmp_path):
    "Rejects a card that forgets a schedule without a name, one that keeps it in single precision, and a table where a name would do."
    mine = Schedule(torch.linspace(0, 0.3, 51, dtype=torch.float64))
    run = train_on(PIXELS, steps=2, schedule=mine, folder=tmp_path/'run', **TINY)
    assert torch.equal(run.sched.beta, mine.beta) and run.card['schedule']['T'] == 50
    assert torch.equal(load_pretrained(tmp_path/'run')[1].beta, mine.beta)
    assert torch.equal(draw_from(tmp_path/'run', 2, steps=2), draw_from(run, 2, steps=2))
    assert len(train_on(PIXELS, steps=2, schedule=mine, folder=tmp_path/'run', **TINY).losses) == 2
    for name, sched in dict(cosine=cosine_schedule(60), linear=linear_schedule()).items():
        assert train_on(PIXELS, steps=1, schedule=sched, **TINY).card['schedule'] == dict(name=name, T=sched.T)
    net = train_on(PIXELS, net=Mine(), steps=1, schedule=mine, target='eps', **OWN)
    assert torch.equal(net.sched.beta, mine.beta)
    card = net.card['schedule']
    for wrong in dict(beta=card['beta'][:-1]), dict(T=49), dict(name='linear'), dict(beta=[0, *[2.]*50]), dict(beta=None):
        with pytest.raises(ValueError): make_schedule(**check_card(net.card | dict(schedule=card | wrong))['schedule'])


@pytest.mark.parametrize('steps', [[1000, 500, 1], (1000, 500, 1), torch.tensor([1000, 500, 1]), np.array([1000, 500, 1]), range(1000, 0, -499)], ids=lambda s: type(s).__name__)
def test_steps_may_be_a_list_of_timesteps(steps):
    "Rejects a door that knows counts alone, where the samplers take both."
    drawn = draw_from('fashion', 2, label='none', steps=steps, guidance=1)
    model, sched = load_pretrained('fashion')
    torch.testing.assert_close(drawn, ddpm_lesson.ddim_sample(model, sched, (2, 1, 28, 28), steps=steps if not isinstance(steps, range) else [*steps], clip=(-1, 1), seeds=range(2)))


@pytest.mark.parametrize('asked, said', [
    (dict(steps=[1, 500]), 'falling timesteps'), (dict(steps=[2000, 1]), 'in 1..1000'), (dict(steps=[]), 'falling'), (dict(steps='50'), 'whole number'), (dict(steps=2.5), 'whole number'),
    (dict(clip=[1, -1]), 'two rising numbers'), (dict(clip=[-1, 0, 1]), 'two rising numbers'), (dict(clip='1'), 'two rising numbers'), (dict(count=0), 'count wanted at least 1'),
    (dict(count=2.5), 'count wanted a whole number'), (dict(label='dress,sneakers'), 'label wanted all, none'), (dict(label=[]), 'label wanted'), (dict(label=1.5), 'label wanted'), (dict(label=11), 'below 10')])
def test_a_list_that_means_nothing_is_refused_in_words(asked, said):
    "Rejects rising timesteps, half a label, and a clamp whose ends are exchanged, drawn without a word."
    with pytest.raises((ValueError, TypeError), match=said): draw_from('fashion', **dict(count=2) | asked)


@pytest.mark.parametrize('label, wanted', [
    (7, [7, 7, 7]), ('7', [7, 7, 7]), (['sneaker', 'bag'], [7, 8, 7]), ('sneaker,bag', [7, 8, 7]), ([7, 8], [7, 8, 7]), (torch.tensor([7, 8]), [7, 8, 7]), (np.int64(7), [7, 7, 7]), (torch.tensor(7), [7, 7, 7])], ids=str)
def test_labels_are_names_or_numbers_one_or_several(label, wanted):
    "Rejects a door that knows names alone, or gives every image the first of several labels."
    assert wanted_labels(label, list(ddpm_lesson.data.garments), 3).tolist() == wanted


def test_clip_may_be_a_list_or_an_array():
    "Rejects a check that takes tuples of Python numbers alone."
    a = draw_from('fashion', 2, steps=2, clip=(-1, 1))
    for clip in [-1, 1], np.array([-1, 1]), torch.tensor([-1., 1.]), (np.float32(-1), 1): assert torch.equal(draw_from('fashion', 2, steps=np.int64(2), clip=clip), a)


# ---- what ends before its time

@pytest.mark.parametrize('where', ['loss', 'weights'])
@pytest.mark.parametrize('folder', [False, True])
def test_a_short_run_that_went_wrong_is_noticed_before_it_is_kept(where, folder, tmp_path):
    "Three steps, where a look is taken each fifty: rejects a run that hands back NaN, and one that writes it."
    def spoil(loss, step, run):
        if where == 'weights' and step == 3: next(run.net.parameters()).data.fill_(float('nan'))
        if where == 'loss' and step == 2: next(run.net.parameters()).data.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='became nan at step 3|became NaN or infinite at step 3'):
        train_on(PIXELS, steps=3, folder=tmp_path/'run' if folder else None, each=spoil, **TINY)
    assert not list(tmp_path.glob('run/*.safetensors'))


def test_the_steps_alone_say_so_too():
    "Rejects a run whose caller walks its steps alone, three of them, and hears nothing."
    run = Run(train_on(PIXELS, steps=3, **TINY).card | dict(data='images'), Images(PIXELS))
    with torch.no_grad(): next(run.net.parameters()).fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='became nan at step 1'): [*run.steps()]


def test_the_plain_loop_says_so_too():
    "Rejects a loop for any network that hands back NaN as a trained one."
    data = Images(PIXELS)
    net = UNet(1, 8, (1,), 1, (), 2)
    with torch.no_grad(): next(net.parameters()).fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='NaN'): fit(net, cosine_schedule(), data, Recipe(steps=2, batch=4, warmup=0))
    with pytest.raises(ValueError, match='opt wanted an optimizer'): fit(UNet(1, 16, (1,), 1, (), 2), cosine_schedule(), data, Recipe(steps=2, batch=4, optimizer='muon'))


def test_an_iterator_that_ends_is_an_error_that_is_seen(tmp_path):
    "Inside a generator StopIteration looks like its end: rejects a run that such a caller takes for a finished one."
    rates = iter([1, 2])
    with pytest.raises(RuntimeError, match=r'StopIteration after 3 steps: an iterator of yours ended; the last good checkpoint .* step 3'):
        next(train_on(PIXELS, steps=9, folder=tmp_path, each=lambda loss, step, run: next(rates), **TINY) for _ in [0])
    class Ends(Pictures):
        def __init__(self, kind): self.end = kind
        def __getitem__(self, k):
            if k == 5: raise self.end
            return PIXELS[k]
    for kind in StopIteration, IndexError:
        with pytest.raises(ValueError, match=f'wanted 12 items, as its len says, got {kind.__name__} at item 5'): to_images(Ends(kind))
    with pytest.raises(TypeError, match=r'got generator: list\(...\)'): to_images(x for x in PIXELS)
    assert torch.equal(to_images(torch.utils.data.DataLoader(Pictures(lambda x: x), shuffle=True)).pixels, PIXELS)


def test_a_network_beside_the_card_of_another_is_refused():
    "Rejects a run whose card says width 8 and whose weights are of width 16."
    card = {k: v for k, v in train_on(PIXELS, steps=1, **TINY).card.items() if k != 'data'}
    with pytest.raises(ValueError, match="wanted to be the one of its card .*says kind 'own'"): Run(card, Images(PIXELS), net=UNet(1, 16, (1,), 1, (), 2))
    assert Run(card, Images(PIXELS), net=UNet(**card['network']))


# ---- what people give in the first hour

@pytest.mark.parametrize('given, said', [
    (torch.zeros(3, 16, 16), 'looks like one'), (np.zeros((16, 16, 3), np.uint8), 'looks like one'), (np.zeros((16, 16, 4), np.uint8), 'looks like one'),
    (np.zeros((4, 16, 16, 4), np.uint8), 'the last transparency'), ((PIXELS, ['a']*11), 'one for each of 12 images, got 11'), ((PIXELS, [0.5]*12), 'whole number')])
def test_one_picture_and_transparency_are_not_taken_for_many(given, said):
    "Rejects a door that makes sixteen pictures of the rows of one, or learns images 4 pixels wide."
    with pytest.raises(ValueError, match=said): to_images(given)


@pytest.mark.parametrize('given, labels, classes', [
    ((PIXELS, [0, 1]*6), [0, 1]*6, ('0', '1')), ([PIXELS, torch.tensor([0, 1]*6)], [0, 1]*6, ('0', '1')),
    ((PIXELS.numpy(), ['dog', 'cat']*6), [1, 0]*6, ('cat', 'dog')), ((PIXELS, np.array(['dog', 'cat']*6)), [1, 0]*6, ('cat', 'dog'))])
def test_labels_beside_images_are_numbers_or_names(given, labels, classes):
    "Rejects names that are numbered in the order in which they come, and a list that is no pair."
    data = to_images(given)
    assert torch.equal(data.pixels, PIXELS) and data.labels.tolist() == labels and data.classes == classes


@pytest.mark.parametrize('call_, said', [
    (lambda: train_on(PIXELS, epochs=0, **TINY), 'epochs wanted at least 1'), (lambda: train_on(PIXELS, epochs=1.5, **TINY), 'epochs wanted a whole number'),
    (lambda: train_on(PIXELS, steps=1, each=3, **TINY), 'each wanted a function, got int'), (lambda: train_on(PIXELS, steps=1, folder='', **TINY), 'a path wanted a name'), (lambda: draw_from('fashion', 2, seeds=3, steps=1), 'seeds wanted 2 whole numbers'),
    (lambda: draw_from('fashion', 2, seeds='ab', steps=1), 'seeds wanted 2 whole numbers'), (lambda: UNet(width='16'), 'UNet wanted whole numbers'), (lambda: UNet(mults=(1, 1.5)), 'UNet wanted whole numbers')])
def test_what_people_write_in_the_first_hour_is_answered_in_words(call_, said, tmp_path, monkeypatch):
    "Rejects 1,500 steps for no epochs, a model in whatever folder is the current one, and words of Python's about its own machinery."
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match=said): call_()


def test_a_flag_says_what_kind_of_number_it_wants():
    "Rejects click's own word for a type, 'integer', in what a reader sees."
    for args in ['sample', '--count', '2.5'], ['sample', '--steps', '50,20'], ['train', '--channels', 'grey']: assert "is not a valid whole number" in call(*args)[1]
    assert 'is not a valid number' in call('train', '--lr', 'fast')[1]


def test_a_folder_is_looked_up_once(tmp_path, monkeypatch):
    "Rejects '~' that means one folder for checkpoints and another for pictures, and a second call that does not find the first."
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    monkeypatch.chdir(tmp_path)
    train_on(PIXELS, folder='~/run', steps=2, **TINY)
    assert not (tmp_path/'~').exists() and {'checkpoint.safetensors', 'model.safetensors', 'samples.png'} <= {p.name for p in (tmp_path/'home'/'run').iterdir()}
    assert len(train_on(PIXELS, folder='~/run', steps=3, **TINY).losses) == 3


@pytest.mark.parametrize('name', ['model.safetensors', 'model.json', 'samples.png', 'curve.png', 'samples'])
def test_nothing_of_others_is_replaced_by_a_run(name, tmp_path):
    "Rejects a run that writes over a model or a picture that it did not make."
    (tmp_path/name).write_bytes(b'precious')
    with pytest.raises(ValueError, match='folder wanted another'): train_on(PIXELS, folder=tmp_path, steps=1, **TINY)
    assert (tmp_path/name).read_bytes() == b'precious' and [p.name for p in tmp_path.iterdir()] == [name]


def test_a_device_may_be_torchs(tmp_path):
    "Rejects a training that ends before its model is kept."
    train_on(PIXELS, folder=tmp_path, steps=1, **(TINY | dict(device=torch.device('cpu'))))
    assert (tmp_path/'model.safetensors').is_file()


@pytest.mark.parametrize('classes, label, wanted', [
    (['3', '8'], 8, [1]), (['3', '8'], '3', [0]), (['a', 'b'], np.array([1, 0]), [1, 0]), (['none', 'crack'], 'none,none', [0]), (['none', 'crack'], ['none'], [0])])
def test_a_label_is_looked_up_by_one_rule(classes, label, wanted):
    "Rejects a 0 that draws the class called 3, where a 3 draws it too; and an array of labels that is compared with a word."
    assert wanted_labels(label, classes, len(wanted)).tolist() == wanted


def test_a_label_that_is_a_word_for_labels_and_a_class_says_so():
    "Rejects images without a label for whom asks for the class called none."
    for label, got in ('none', None), ('all', [0, 1]):
        with pytest.warns(UserWarning, match=f'drawn by {label},{label}'): y = wanted_labels(label, [label, 'crack'], 2)
        assert y is got or y.tolist() == got
    with pytest.raises(ValueError, match='all, none, 3, 8, got 0'): wanted_labels(0, ['3', '8'], 1)


def test_classes_have_names_of_their_own_and_are_not_without_end():
    "Rejects a class that no name draws, and a label of 1,000,000,000 that makes as many names."
    y = torch.tensor([0, 1]*6)
    for wrong, said in ((y, ('a', 'a')), 'different names'), ((y*10**9, ()), 'up to 99,999'):
        with pytest.raises(ValueError, match=said): Images(PIXELS, *wrong)
    card = make_card(dict(channels=1, classes=2), classes=('a', 'a'))
    with pytest.raises(ValueError, match='different names'): check_card(card)


def test_several_things_by_name_are_not_taken_for_a_set(tmp_path):
    "Rejects a KeyError of 0."
    np.savez(tmp_path/'x.npz', images=PIXELS.numpy())
    for given in dict(images=PIXELS), np.load(tmp_path/'x.npz'):
        with pytest.raises(TypeError, match='one thing, got .* of images: name one'): to_images(given)


@pytest.mark.parametrize('setting', ['labels', 'standardise'])
def test_yes_and_no_are_true_and_false(setting):
    "Rejects 'no', which Python takes for yes."
    with pytest.raises(ValueError, match=f'{setting} wanted true or false'): train_on(PIXELS, steps=1, **(TINY | {setting: 'no'}))


def test_no_model_to_start_with_is_not_an_empty_name(tmp_path, monkeypatch):
    "Rejects a variable that is not set, and a training from nothing in place of a fine-tuning, or from whatever model is here."
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='a path wanted a name'): train_on(PIXELS, start='', steps=1, **TINY)
    for flag in '--start', '--folder', '--data':
        status, said = call('train', flag, '', '--device', 'cpu')
        assert status == 2 and 'a path wanted a name' in said, said
    assert call('sample', '--weights', '')[0] == call('evaluate', '--data', '')[0] == 2


def test_a_run_that_goes_on_is_as_long_as_one_setting_says(tmp_path, monkeypatch):
    "Rejects --steps that --epochs overrules without a word, and seconds by a clock that is set back."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('time.time', lambda now=iter(range(10**6, 0, -1000)): next(now))
    train_on(PIXELS, folder='run', steps=1, **TINY)
    assert load_card('run')['made']['seconds'] >= 0
    Path('run/run.json').unlink()
    status, said = call('train', '--resume', 'run', '--data', 'fashion', '--steps', 9, '--epochs', 3, '--device', 'cpu')
    assert status == 1 and 'wanted steps or epochs, got both' in said, said


@pytest.mark.parametrize('folder', ['./~/run', '~/run'])
def test_a_tilde_behind_a_dot_is_a_name(folder, tmp_path, monkeypatch):
    "Rejects a folder called ~ that is looked up as text and then as a Path, which has lost its ./ and means the home folder."
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    monkeypatch.setenv('XDG_DATA_HOME', '~/data')
    monkeypatch.chdir(tmp_path)
    status, said = call('train', '--preset', 'debug', '--size', 8, '--width', 8, '--mults', '1', '--attend', '', '--steps', 1, '--folder', folder, '--device', 'cpu', '--no-tensorboard')
    assert status == 0, said
    place = tmp_path/'home' if folder[0] == '~' else tmp_path/'~'
    assert sorted(p.parent for p in tmp_path.rglob('*.safetensors')) == [place/'run']*2
    assert load_pretrained(folder)[1].T == load_pretrained(place/'run')[1].T and remembered(folder if folder[0] == '.' else place/'run')
    save_model('./~/m.safetensors', load_pretrained(folder)[0].net, load_card(folder))
    assert (tmp_path/'~'/'m.safetensors').exists() and not (tmp_path/'~'/'data').exists()


def test_a_folder_that_begins_with_a_dash_is_in_the_command_that_is_printed(tmp_path, monkeypatch):
    "Rejects --resume -x, in which -x is a flag."
    monkeypatch.chdir(tmp_path)
    train_on(PIXELS, folder='-x', steps=1, **TINY)
    said = cli._goes_on(Path('-x'))
    status, words = call(*said.split()[1:-2], '--data', 'fashion', '--device', 'cpu')
    assert status == 1 and 'another run' in words, words   # it was found


def test_letters_that_are_not_known_here_are_no_hindrance(tmp_path, monkeypatch):
    "Rejects a log for TensorBoard, wanted or not, that ends the training there; and a training whose weights could not be read."
    monkeypatch.chdir(tmp_path)
    words = ['train', '--preset', 'debug', '--width', '8', '--steps', '1', '--device', 'cpu', '--folder']
    status, said = call(*words, os.fsdecode(b'n\xff'))
    assert status == 1 and 'wanted a path in UTF-8' in said and not [*tmp_path.iterdir()], said
    plain = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    done = subprocess.run([sys.executable, '-m', 'ddpm_lesson', *words, 'l\xe4ufe'], env=os.environ | plain, capture_output=True)
    assert done.returncode == 0 and (tmp_path/'l\xe4ufe'/'samples.png').is_file(), done.stderr


def test_a_model_beside_another_run_is_not_judged_by_its_images(tmp_path, monkeypatch):
    "Rejects the images of the run in that folder for a model that learned from others."
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path/'home'))
    for name, seed in ('A', 0), ('B', 1):
        (tmp_path/name).mkdir()
        for k in range(4): Image.fromarray(np.random.default_rng(4*seed + k).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path/name/f'{k}.png')
        train_on(tmp_path/name, size=8, folder=tmp_path/f'run {name}', steps=1, **TINY)
    there = (tmp_path/'run B'/'model.safetensors').rename(tmp_path/'run A'/'other.safetensors')
    own = tmp_path/'run A'/'model.safetensors'
    assert judging.data_of(own, load_card(own), None, 8)[0] == str(tmp_path/'A')
    with pytest.raises(ValueError, match="learned from 'B'"): judging.data_of(there, load_card(there), None, 8)


def test_a_folder_that_is_not_there_is_not_made_by_looking(tmp_path):
    "Rejects an empty folder left behind by a name with a slip."
    with pytest.raises(ValueError, match='whole checkpoint'): resume(Run(make_card(dict(channels=1, width=8, mults=[1], attend=[]), Recipe(steps=1, batch=4)), Images(PIXELS)), tmp_path/'rnu')
    assert not (tmp_path/'rnu').exists()


def test_labels_are_drawn_whatever_the_default_device(tmp_path):
    "Rejects labels made where the caller happens to make tensors: on 'meta' they have no numbers."
    with torch.device('meta'):
        run = train_on((PIXELS, [0, 1]*6), folder=tmp_path, steps=1, **TINY)
        images = draw_from(run, 2, steps=1)
    assert images.device.type == 'cpu' and torch.equal(images, draw_from(run, 2, steps=1))


# ---- what can not be kept is said before any work

CARD = make_card(dict(channels=1, width=8, mults=[1], attend=[], blocks=1), Recipe(steps=1, batch=4, warmup=0), T=20)


@pytest.mark.parametrize('about', [None, {}, dict(card=5), dict(card=dict(network=3)), dict(card=dict(network={}, recipe={})), dict(card=dict(network={}, recipe={}, schedule=4, target='eps'))],
                         ids=['damaged', 'of others', 'a number', 'a network of 3', 'no schedule', 'a schedule of 4'])
def test_a_checkpoint_without_a_run_in_it_is_refused_in_words(about, tmp_path):
    "Rejects a command that takes any file of that name for a checkpoint of ours: NoneType is not subscriptable, KeyError('card')."
    path = tmp_path/'checkpoint.safetensors'
    if about is None: path.write_bytes(b'nothing')
    else: save_tensors(path, dict(a=torch.ones(2)), about)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # that the damaged one is set aside
        status, said = call('train', '--resume', tmp_path, '--data', 'debug')
        with pytest.raises(ValueError): resume(Run(CARD, Images(PIXELS)), tmp_path)
    assert status == 1 and re.search('wanted a (whole )?checkpoint|the card wanted', said) and 'fault' not in said, said


def test_a_card_that_could_not_be_read_again_ends_no_training(tmp_path):
    "Rejects a limit that is met only when the model is to be kept, after the training."
    names = tuple(f'{k:05d} {"x"*90}' for k in range(9000))
    many = Images(torch.randint(0, 255, (9000, 1, 4, 4), dtype=torch.uint8), torch.arange(9000), names)
    with pytest.raises(ValueError, match='fewer classes, shorter names'): train_on(many, folder=tmp_path/'run', steps=1, **TINY)
    assert not (tmp_path/'run').exists()


@pytest.mark.parametrize('room, wanted', [(10**6, {'images', 'classes', 'hashes'}), (60, {'images', 'classes'}), (0, {'images'})])
def test_a_card_says_of_its_images_what_it_can_hold(room, wanted, monkeypatch, tmp_path):
    "Rejects a card of many images or classes that no program would read again."
    data, card = Images(PIXELS, torch.arange(12) % 2), dict(classes=['0', '1'])
    full = len(json.dumps(card | dict(learned=dict(classes=[6, 6])), indent=1))
    monkeypatch.setattr(journal, '_most_bytes', full + room)
    assert journal._learned(data, card).keys() == wanted


@pytest.mark.parametrize('argv, said', [
    (['/usr/bin/ddpm_lesson', 'train', '--data', 'my pics'], "ddpm_lesson train --data 'my pics'"), (['/x/ddpm_lesson/__main__.py', 'train'], 'ddpm_lesson train'), (['mine.py', '--lr', '1'], 'mine.py --lr 1'),
    (['/x/ipykernel_launcher.py', '-f', '/home/me/kernel-1.json'], 'ipykernel_launcher.py'), (['/x/colab_kernel_launcher.py', '-f', 'k.json'], 'colab_kernel_launcher.py'), ([''], "''"), ([], "''"), (['-c'], '-c')])
def test_a_model_says_which_command_made_it(argv, said, monkeypatch):
    "Rejects 'ddpm_lesson -f /home/me/kernel-1.json' in the card of a model that a notebook made."
    monkeypatch.setattr('sys.argv', argv)
    assert journal._command() == said


def test_a_long_command_leaves_the_model_readable(monkeypatch, tmp_path):
    "As of a script that is given every photograph by name."
    monkeypatch.setattr('sys.argv', ['mine.py', *(f'photos/{k}.jpg' for k in range(100_000))])
    for _ in range(2): train_on(PIXELS, folder=tmp_path, steps=1, **TINY)
    assert load_card(tmp_path)['made']['command'].startswith('mine.py photos/0.jpg')


@pytest.mark.parametrize('sessions', [5, 'abc', {}, None])
def test_a_journal_that_is_none_is_left_alone(sessions, tmp_path):
    (tmp_path/'run.json').write_text(text := json.dumps(dict(sessions=sessions)))
    with pytest.raises(ValueError, match='is no journal'): train_on(PIXELS, folder=tmp_path, steps=1, **TINY)
    assert (tmp_path/'run.json').read_text() == text


def test_a_run_that_was_resumed_a_thousand_times_goes_on(tmp_path):
    "Rejects a journal that is taken for none once it holds a megabyte: its run could not be resumed any more."
    train_on(PIXELS, folder=tmp_path, steps=1, **TINY)
    kept = json.loads((tmp_path/'run.json').read_text())
    (tmp_path/'run.json').write_text(json.dumps(kept | dict(sessions=[*kept['sessions'], *[dict(command='x'*2000)]*1000])))
    assert len(train_on(PIXELS, folder=tmp_path, steps=2, **TINY).losses) == 2
    assert len(json.loads((tmp_path/'run.json').read_text())['sessions']) == 1002


@pytest.mark.parametrize('batch', [0, -3, '8', 2.5, True])
def test_epochs_of_an_odd_batch_are_refused_in_words(batch):
    "Rejects a division by zero."
    with pytest.raises((ValueError, TypeError), match='batch wanted'): train_on(PIXELS, **TINY | dict(batch=batch, epochs=2))


def test_a_schedule_in_a_card_has_three_entries():
    for odd in dict(s=0.1), dict(beta_1=0.1), dict(shift=3):
        with pytest.raises(ValueError, match='schedule a dictionary of name, T and beta'): Run(CARD | dict(schedule=dict(name='cosine', T=10) | odd), Images(PIXELS))


INSIDE = {
    'train_on': lambda pics: train_on(pics, folder=pics/'run', steps=2, **TINY),
    'train': lambda pics: call('train', '--preset', 'debug', '--data', pics, '--steps', 2, '--width', 8, '--device', 'cpu'),   # in runs/debug, below the current folder
    'run_cell': lambda pics: experiments.run_cell(experiments.s2_cells(1, steps=1)[0], pics/'a'/'grid', pics)}


@pytest.mark.parametrize('door', INSIDE)
def test_a_run_lies_outside_the_images_that_it_learns_from(door, tmp_path, monkeypatch):
    "Rejects a training in a folder of photographs: its sheets are learned from the next time, it can not be resumed, and classes become none."
    monkeypatch.chdir(tmp_path)
    for k in range(4): Image.fromarray(PIXELS[k, 0].numpy()).save(tmp_path/f'{k}.png')
    monkeypatch.setattr('ddpm_lesson.engine.sources.read_image', lambda *a: pytest.fail('work was begun'))
    try: said = INSIDE[door](tmp_path)[1]
    except ValueError as e: said = str(e)
    assert 'folder wanted a place outside the images' in said and sorted(p.name for p in tmp_path.iterdir()) == [f'{k}.png' for k in range(4)]


def test_a_training_that_begins_a_moment_later_leaves_the_first_alone(tmp_path, monkeypatch):
    "Rejects a journal, and a log for TensorBoard that hides the curve before it, from a training that then finds the folder in use."
    right, late = journal.reporter, []
    def reporter(*args):
        monkeypatch.setattr('ddpm_lesson.own.reporter', right)
        with pytest.raises(BlockingIOError, match='another training writes there'): train_on(PIXELS[6:], folder=tmp_path, steps=2, seed=1, **TINY)
        late.append(True)
        return right(*args)
    monkeypatch.setattr('ddpm_lesson.own.reporter', reporter)
    run = train_on(PIXELS, folder=tmp_path, steps=2, **TINY)
    kept = json.loads((tmp_path/'run.json').read_text())
    assert late and len(kept['sessions']) == 1 and kept['card'] == run.card == latest_checkpoint(tmp_path)[2]['card']
