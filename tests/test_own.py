"One call that trains on whatever images and networks people have, and one that draws."
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import ddpm_lesson
from ddpm_lesson import cli, draw_from, load_card, load_pretrained, train_on
from ddpm_lesson.data import Images
from ddpm_lesson.engine.safety import latest_checkpoint
from ddpm_lesson.journal import remembered
from ddpm_lesson.own import card_from, to_images
from ddpm_lesson.train import Recipe, adamw, draw, gradient_step
from ddpm_lesson.unet import UNet

PIXELS = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TINY = dict(width=8, mults='1', attend='', patch=2, batch=4, optimizer='adamw', warmup=0, progress=False, device='cpu', precision='float32')


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
    'a set of arrays': lambda: Pictures(lambda x: x[0].numpy()), 'Images': lambda: Images(PIXELS)}


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
        if step == 4: raise StopIteration('enough')
    with pytest.raises((StopIteration, RuntimeError)): train_on(PIXELS, steps=9, folder=tmp_path, each=stop, **TINY)
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
    run = train_on(Pictures(lambda x: x/127.5 - 1), net=net, steps=4, folder=tmp_path/'run', target='eps', **TINY)
    assert not torch.equal(before, net.layer.weight) and net.layer.weight.dtype == before.dtype and run.card['classes'] == (['a', 'b'] if isinstance(net, Asked) else [])
    model, _ = load_pretrained(tmp_path/'run', net=make())
    torch.testing.assert_close(model.net.layer.weight.float(), run.averaged().net.layer.weight.float(), rtol=1e-2, atol=1e-3)
    assert draw_from(run, 2, steps=2).isfinite().all()
    with pytest.raises(ValueError, match='not a network of ours'): load_pretrained(tmp_path/'run')
    status, said = call('sample', '--weights', tmp_path/'run', '--out', tmp_path/'a.png')
    assert status == 1 and 'not a network of ours' in said


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
    monkeypatch.setattr(cli, 'judges', lambda: dict(lite0=lambda device: lambda pixels: pixels[:, 0, ::4, ::4].flatten(1).double()/255))
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
    with pytest.raises(TypeError, match=said): train_on(PIXELS, net=net, steps=1, **TINY)


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
