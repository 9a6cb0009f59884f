"One fact, one source: a card, the weights it describes and the images it learned from agree, or are refused in words; what is written is read back."
import copy
import json

import pytest
import torch
from torch import nn

from ddpm_lesson import pretrained
from ddpm_lesson.data import Images
from ddpm_lesson.engine.cards import Sampling, build, check_card, outline, sampling_of, settled
from ddpm_lesson.engine.run import Run, make_card
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0
from ddpm_lesson.pretrained import draw_as_card, load_card, load_pretrained, save_model
from ddpm_lesson.sampler import ddim_sample, ddpm_sample
from ddpm_lesson.schedule import cosine_schedule, linear_schedule
from ddpm_lesson.train import Ema, Recipe

NETWORK = dict(channels=1, width=8, mults=[1], blocks=1, attend=[], patch=1, classes=3)
CARD = make_card(NETWORK, Recipe(steps=20, batch=2, warmup=2, precision='float32'), 'linear', 50, 'pets', ('a', 'b', 'c'), 8)
IMAGES = Images(torch.arange(6*64).reshape(6, 1, 8, 8).byte(), torch.tensor([0, 1, 2]*2), ('a', 'b', 'c'), 'pets')


def fresh(card=CARD):
    torch.manual_seed(0)
    model, _ = build(card)
    for p in model.parameters(): nn.init.normal_(p, std=0.05)
    return model


def said_by(model): return model(torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8), torch.tensor([1, 50]), torch.tensor([0, 3]))


def put(path, value, card=CARD):
    "A copy of the card with one entry exchanged."
    card = copy.deepcopy(card)
    *way, last = path.split('.')
    inside = card
    for k in way: inside = inside.setdefault(k, {})
    inside[last] = value
    return card


# ---- two copies of one fact

@pytest.mark.parametrize('path, value, said', [
    ('classes', ['a'], '1 classes named and 3'), ('classes', list('abcdefgh'), '8 classes named and 3'), ('classes', [], '0 classes named'),
    ('network.classes', 5, '3 classes named and 5'), ('recipe.target', 'eps', "one target, got 'v' for the model and 'eps' for its recipe"),
    ('sample', dict(steps=51), r'in 1\.\.50'), ('units', dict(mean=[0.]*3, std=[1.]*3), 'each of 1 channels'),
])
def test_a_card_that_contradicts_itself(path, value, said):
    with pytest.raises(ValueError, match=said): check_card(put(path, value))


@pytest.mark.parametrize('change, said', [
    (dict(pixels=IMAGES.pixels.expand(6, 3, 8, 8)), '1 channels'), (dict(labels=None), 'no labels'), (dict(classes=('a', 'b', 'c', 'd')), '4 labels and the network 3'),
    (dict(classes=('a', 'c', 'b')), 'the card says classes'), (dict(pixels=IMAGES.pixels[:, :, :6, :6]), 'the card says size 8, the images 6'), (dict(name='toys'), "data 'pets'"),
])
def test_a_card_and_images_that_contradict_each_other(change, said):
    images = Images(**(dict(pixels=IMAGES.pixels, labels=IMAGES.labels, classes=IMAGES.classes, name=IMAGES.name) | change))
    with pytest.raises(ValueError, match=said): settled(CARD, images)
    poor = {k: v for k, v in CARD.items() if k not in ('size', 'data', 'classes')} | dict(network={k: v for k, v in NETWORK.items() if k != 'channels'})
    assert {k: settled(poor, IMAGES)[k] for k in CARD} == CARD and 'size' not in poor   # what the images say is taken from them; the caller's card is left alone


@pytest.mark.parametrize('path, value', [
    ('target', 'eps'), ('size', 16), ('classes', ['a', 'c', 'b']), ('schedule.name', 'cosine'), ('schedule.T', 60), ('network.dropout', 0.5),
    ('sample', dict(steps=7)), ('units', dict(mean=[0.1], std=[1.])), ('data', 'toys'), ('recipe.lr', 1.0),
])
def test_a_copy_of_the_card_that_says_something_else_is_refused(path, value, tmp_path):
    "A card copied beside other weights; two writes of which the second never came."
    save_model(tmp_path/'m.safetensors', fresh(), CARD)
    card = put(path, value)
    if path == 'target': card['recipe']['target'] = value
    (tmp_path/'m.json').write_text(json.dumps(card))
    for load in load_card, load_pretrained:
        with pytest.raises(ValueError, match=f'{path}.*there.*here'): load(tmp_path/'m.safetensors')
    (tmp_path/'m.json').unlink()
    assert torch.equal(said_by(load_pretrained(tmp_path/'m.safetensors')[0]), said_by(fresh())) and load_card(tmp_path/'m.safetensors') == CARD


def test_killed_between_its_two_files_a_writer_leaves_no_pair_that_loads_wrongly(tmp_path, monkeypatch):
    path, other = tmp_path/'m.safetensors', put('schedule.T', 60)
    save_model(path, fresh(), CARD)
    def killed(*a): raise KeyboardInterrupt
    monkeypatch.setattr(pretrained, 'write_text', killed)
    with pytest.raises(KeyboardInterrupt): save_model(path, fresh(other), other)
    assert load_card(path) == other and load_pretrained(path)[1].T == 60   # the weights hold their card, and no older copy lies beside them
    def full(*a, **k): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(pretrained, 'save_tensors', full)
    with pytest.raises(OSError): save_model(path, fresh(), CARD)
    assert load_card(path) == other and load_pretrained(path)[1].T == 60


def test_a_disk_that_is_full_leaves_the_card_beside_the_weights(tmp_path, monkeypatch):
    "Rejects one that removes it first: weights of others may have no card inside."
    save_model(path := tmp_path/'m.safetensors', fresh(), CARD)
    before = path.read_bytes(), path.with_suffix('.json').read_bytes()
    def full(*a): raise OSError(28, 'No space left on device')
    monkeypatch.setattr('ddpm_lesson.engine.files.os.fsync', full)
    with pytest.raises(OSError, match='could not be written'): save_model(path, fresh(), CARD | dict(data='others'))
    assert before == (path.read_bytes(), path.with_suffix('.json').read_bytes()) and len([*tmp_path.iterdir()]) == 2


def test_a_card_that_names_no_classes_gives_them_numbers(tmp_path):
    "Rejects a reader to whom such a network knows no labels."
    save_model(tmp_path/'m.safetensors', fresh(), {k: v for k, v in CARD.items() if k != 'classes'})
    assert load_card(tmp_path/'m.safetensors')['classes'] == ['0', '1', '2']


# ---- what fits only together

@pytest.mark.parametrize('asked, guidance, between', [
    (dict(), 3.0, (1, 400)), (dict(steps=4), 3.0, (1, 400)), (dict(guidance=2.0), 2.0, (1, 400)), (dict(between=(1, 1000)), 3.0, (1, 1000)),
    (dict(guidance=1.0), 1.0, None), (dict(steps=1), 1.0, None), (dict(labelled=False), 1.0, None), (dict(steps=[1000, 500]), 1.0, None),
])
def test_a_card_may_say_where_to_insist(asked, guidance, between):
    "Rejects an interval that is dropped, one that stays where nothing is insisted on, and guidance everywhere where the card's steps are not walked."
    card = CARD | dict(schedule=dict(name='linear', T=1000), sample=dict(steps=36, guidance=3.0, between=[1, 400]))
    how = sampling_of(card, **asked)
    assert (how.guidance, how.between) == (guidance, between)
    with pytest.raises(ValueError, match=r'between wanted some of the steps 1000\.\.500 of the walk, got \(1, 400\)'): sampling_of(card, steps=2, guidance=2)
    for wrong in [5], [400, 1], 'all':
        with pytest.raises((ValueError, TypeError), match='between wanted'): sampling_of(card | dict(sample=dict(guidance=3.0, between=wrong)))


def test_guidance_needs_a_network_that_went_without_labels():
    never = put('recipe.label_drop', 0.0)
    assert sampling_of(CARD, guidance=2).guidance == 2
    for card, said in (never, 'never went without'), (put('network.classes', 0, CARD | dict(classes=[])), 'knows no labels'):
        with pytest.raises(ValueError, match=said): sampling_of(card, guidance=2)
        with pytest.raises(ValueError, match=said): check_card(card | dict(sample=dict(guidance=2.)))
        assert sampling_of(card).guidance == 1
    model, sched = build(never)
    with pytest.raises(ValueError, match='never went without'): draw_as_card(model, sched, never, 2, torch.tensor([0, 1]), guidance=3.0)


@pytest.mark.parametrize('odd, said', [
    (dict(sampler='ddpm', eta=0.5), 'eta wanted sampler ddim'), (dict(var='large'), 'var wanted sampler ddpm'), (dict(sampler='euler'), 'sampler wanted'),
    (dict(guidance=-1), 'guidance wanted'), (dict(clip=(1, -1)), 'clip wanted'), (dict(clip=(0, float('nan'))), 'clip wanted'),
])
def test_a_way_of_drawing_holds_nothing_that_would_change_nothing(odd, said):
    "Rejects a value that carries a setting its sampler never reads."
    with pytest.raises(ValueError, match=said): Sampling(**odd)
    with pytest.raises(ValueError, match=said): sampling_of(CARD, **odd)


def test_steps_never_exceed_the_schedule():
    short = put('schedule.T', 20)
    model, sched = build(short)
    assert sampling_of(short).steps == 20 and draw_as_card(model, sched, short, 2).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match=r'in 1\.\.20'): draw_as_card(model, sched, short, 2, steps=21)


def test_a_warm_up_that_fills_the_training_is_told(recwarn):
    "Rejects a decay that is asked for and never begins, in silence."
    with pytest.warns(UserWarning, match='warm-up of 20 steps fills the training: its learning rate never comes down'): card = settled(put('recipe.warmup', 20), IMAGES)
    assert card['recipe']['warmup'] == 20                           # an old run goes on as it began
    level = put('recipe.warmup', 20)
    level['recipe']['decay'] = False
    recwarn.clear()
    settled(level, IMAGES)
    settled(put('recipe.warmup', 19), IMAGES)
    assert not recwarn.list


def test_a_warm_up_longer_than_the_training_is_shortened_aloud():
    with pytest.warns(UserWarning, match='warm-up of 100 steps is longer than the training of 20: 2 instead'): card = settled(put('recipe.warmup', 100), IMAGES)
    assert card['recipe']['warmup'] == 2 and settled(CARD, IMAGES) == CARD
    with pytest.raises(ValueError, match='label_drop'): settled(put('recipe.label_drop', 1.0), IMAGES)


@pytest.mark.parametrize('decay', [0.9, 0.999, 0.99999, 1.0])
@pytest.mark.parametrize('steps', [10, 60, 1500])
def test_averaged_weights_never_remember_more_than_a_ninth_of_the_steps(decay, steps):
    "A memory longer than the run fits by itself. Rejects an average that still holds the weights a network began with."
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = Ema(net, decay)
    for step in range(steps):
        with torch.no_grad(): net.weight.fill_(1.)
        ema.update(net, step)
    kept = 1 - min(decay, steps/(9 + steps))         # how much the last step moved it
    assert ema.shadow[0].item() > 1 - 1e-3 and 1/kept <= (steps + 9)/9 + 1e-9


# ---- what is written is read back

def nested(levels): return [nested(levels - 1)] if levels else 0


class Wrapped(nn.Module):
    "As DistributedDataParallel wraps."
    def __init__(self, net):
        super().__init__()
        self.module = net


@pytest.mark.parametrize('wrap', [
    lambda m: m.net, lambda m: m, lambda m: torch.compile(m.net), lambda m: torch.compile(m), lambda m: Wrapped(m.net), lambda m: Wrapped(torch.compile(m.net)), lambda m: nn.DataParallel(m.net),
    lambda m: Labelled(m, torch.tensor([0])), lambda m: copy.deepcopy(m).double(), lambda m: copy.deepcopy(m.net).requires_grad_(False), lambda m: m.net.train(),
    lambda m: copy.deepcopy(m.net).to(memory_format=torch.channels_last),
], ids=['net', 'model', 'compiled', 'compiled model', 'shared', 'shared and compiled', 'parallel', 'labelled', 'float64', 'frozen', 'training', 'channels last'])
@pytest.mark.parametrize('half', [False, True])
def test_a_network_in_any_wrapping_is_read_back(wrap, half, tmp_path):
    model = fresh()
    want = copy.deepcopy(model).half().float() if half else model
    save_model(tmp_path/'m.safetensors', wrap(model), CARD, half)
    again, _ = load_pretrained(tmp_path/'m.safetensors')
    assert torch.equal(said_by(again), said_by(want)) and not again.training


def test_other_dtypes_and_tied_weights_are_read_back(tmp_path):
    model = fresh().to(torch.bfloat16)
    model.net.up[0].block.conv2.weight = model.net.mid[0].block.conv2.weight   # two names, one tensor
    save_model(tmp_path/'m.safetensors', model, CARD)
    again, _ = load_pretrained(tmp_path/'m.safetensors')
    for k, v in model.net.state_dict().items(): assert torch.equal(again.net.state_dict()[k], v.float())


@pytest.mark.parametrize('given, card, said', [
    (lambda: fresh(put('network.width', 16)), CARD, 'does not fit its card: .*wanted shape'),
    (lambda: PredictsX0(fresh().net, linear_schedule(50)), CARD, 'this model has others'), (lambda: PredictsEps(fresh().net, linear_schedule(50)), CARD, 'this model has others'),
    (lambda: PredictsV(fresh().net, linear_schedule(60)), CARD, 'this model has others'), (lambda: PredictsV(fresh().net, cosine_schedule(50)), CARD, 'this model has others'),
    (lambda: fresh().net, put('network.dropout', 0.5), 'dropout'), (lambda: fresh(put('network.patch', 2)).net, put('network', NETWORK | dict(channels=4)), 'patch'),
    (lambda: nn.Linear(2, 2), CARD, 'missing'), (lambda: torch.relu, CARD, 'wanted a network'), (lambda: fresh().net.to('meta'), CARD, 'finite'),
    (lambda: fresh().net, put('made', float('nan')), 'finite'), (lambda: fresh().net, put('made', {1}), 'JSON'), (lambda: fresh().net, put('made', 10**400), 'finite|large'),
    (lambda: fresh().net, put('made', nested(600)), 'levels|JSON'), (lambda: fresh().net, put('made', ['x'*1000]*2000), '1,000,000'), (lambda: fresh().net, put('size', 16_384), 'size'),
    (lambda: fresh().net, put('network.mults', [64, 64]), 'missing|shape'), (lambda: fresh().net, put('made', {1: 'a', '1': 'b'}), 'twice'),
])
def test_what_could_not_be_read_back_is_refused_before_anything_is_written(given, card, said, tmp_path):
    with pytest.raises((ValueError, TypeError), match=said): save_model(tmp_path/'m.safetensors', given(), card)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('value, half', [(float('nan'), False), (float('inf'), False), (1e6, True)], ids=['NaN', 'infinity', 'too large for float16'])
def test_weights_that_are_no_numbers_are_not_written(value, half, tmp_path):
    model = fresh()
    nn.init.constant_(model.net.out.bias, value)
    with pytest.raises(ValueError, match='out.bias'): save_model(tmp_path/'m.safetensors', model, CARD, half)
    assert not list(tmp_path.iterdir())


def test_numbers_of_json_that_are_none_of_float64(tmp_path):
    save_model(tmp_path/'m.safetensors', fresh(), CARD)
    for number in '1e999', '-1e999', '9'*400, 'NaN':
        (tmp_path/'m.json').write_text(json.dumps(CARD)[:-1] + f', "made": {number}}}')
        with pytest.raises(ValueError, match='finite|large'): load_card(tmp_path/'m.safetensors')


def test_another_schedule_is_refused_at_the_samplers_door():
    "Also one of the same length."
    model = fresh()
    for m in model, Labelled(model, [0, 1]), torch.compile(model):
        for take in ddim_sample, ddpm_sample:
            for other in linear_schedule(60), cosine_schedule(50):
                with pytest.raises(ValueError, match='sched wanted the schedule that .* was made with'): take(m, other, (2, 1, 8, 8), steps=2)


def test_a_default_device_does_not_decide_where_weights_live(tmp_path):
    "Rejects tables made on the caller's default device, and an outline with memory."
    model = fresh()
    torch.set_default_device('meta')
    try:
        save_model(tmp_path/'m.safetensors', model, CARD)
        again, sched = load_pretrained(tmp_path/'m.safetensors')
        placed = Labelled(again, [0, 1]).y.device.type
    finally: torch.set_default_device(None)
    assert placed == sched.beta.device.type == 'cpu' and torch.equal(said_by(again), said_by(model))
    for around in 'cpu', 'meta':
        with torch.device(around): assert {v.device.type for v in outline(CARD).state_dict().values()} == {'meta'}   # and draws no random number


# ---- names

def test_a_home_folder_and_a_finished_run_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('USERPROFILE', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save_model('~/run/model.safetensors', fresh(), CARD)
    assert (tmp_path/'run'/'model.safetensors').is_file() and not (tmp_path/'~').exists()
    for name in '~/run', '~/run/model.safetensors', 'run', tmp_path/'run', './run/': assert load_pretrained(name)[1].T == 50
    (tmp_path/'run').rename(tmp_path/'fashion')
    assert load_card('fashion')['size'] == 28 and load_card('./fashion') == load_card(tmp_path/'fashion') == CARD   # a name, and paths
    with pytest.raises(ValueError, match='a folder that holds model.safetensors'): load_pretrained(tmp_path)


def test_a_network_that_never_went_without_labels_is_not_asked_without(tmp_path):
    "Rejects drawing from an embedding that no image has trained: guided, or with no label."
    save_model(tmp_path/'m.safetensors', fresh(), put('recipe.label_drop', 0.0))
    (model, sched), y = load_pretrained(tmp_path/'m.safetensors'), torch.tensor([0, 1])
    assert ddim_sample(Labelled(model, y), sched, (2, 1, 8, 8), steps=2).shape == (2, 1, 8, 8)
    for asked in model, Guided(model, y, 3.0):
        with pytest.raises(ValueError, match='never learned without'): ddim_sample(asked, sched, (2, 1, 8, 8), steps=2)


def test_labels_seeds_and_guidance_fit_the_images_wanted():
    "Rejects taking the first few of too many, and a guidance that has no label to insist on."
    model, sched = build(CARD)
    for wrong in dict(labels=torch.zeros(4, dtype=torch.int64)), dict(seeds=range(4)), dict(guidance=3.0):
        with pytest.raises(ValueError, match='wanted'): draw_as_card(model, sched, CARD, 2, steps=2, **wrong)
    insists = put('sample', dict(guidance=2.0))
    assert draw_as_card(model, sched, insists, 2, steps=2).shape == (2, 1, 8, 8)   # what a card insists on are labels


@pytest.mark.parametrize('path, value', [('schedule.name', 'cosine'), ('schedule.T', 40), ('size', 16)])
def test_a_bare_network_is_saved_only_with_the_card_it_was_made_from(path, value, tmp_path):
    "Rejects a writer that believes any card whose shapes fit."
    with pytest.raises(ValueError, match='made from'): save_model(tmp_path/'m.safetensors', fresh().net, put(path, value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('changed', [dict(sample=dict(clip=None)), dict(learned=dict(hashes=''))])
def test_a_copy_that_says_null_where_the_card_says_nothing_is_no_copy(changed, tmp_path):
    "Rejects `get(k) != get(k)`: null turns the clamp off, a missing entry leaves it on."
    save_model(tmp_path/'m.safetensors', fresh(), CARD)
    (tmp_path/'m.json').write_text(json.dumps(CARD | changed))
    with pytest.raises(ValueError, match='wanted to be a copy'): load_card(tmp_path/'m.safetensors')


def test_a_card_is_not_written_over_a_file_of_others(tmp_path):
    "Rejects a writer that asks about the weights' name alone."
    (tmp_path/'m.json').write_text('{"notes": 1}')
    with pytest.raises(ValueError, match='is no card'): save_model(tmp_path/'m.safetensors', fresh(), CARD)
    assert [p.name for p in tmp_path.iterdir()] == ['m.json'] and (tmp_path/'m.json').read_text() == '{"notes": 1}'


def test_a_folder_called_like_a_shipped_model_is_mentioned(tmp_path, monkeypatch):
    "Rejects choosing between two without a word."
    save_model(tmp_path/'fashion'/'model.safetensors', fresh(), CARD)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match='./fashion'): load_card('fashion')


# ---- what the caller has set stays out, and stays

@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_a_default_device_that_was_named_changes_no_first_weights(device):
    "Even the CPU, by name: rejects an outline that is built in memory, and draws the numbers of the network to come."
    first = lambda: [p.detach().clone() for p in Run(CARD, IMAGES).net.parameters()]
    want = first()
    with torch.device(device):
        assert all(v.is_meta for v in outline(CARD).state_dict().values())
        got = first()
    assert all(map(torch.equal, want, got))


def test_loading_leaves_the_random_numbers_of_the_caller(tmp_path):
    "Rejects a network that begins with weights from the caller's stream."
    save_model(tmp_path/'m.safetensors', fresh(), CARD)
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    load_pretrained(tmp_path/'m.safetensors')
    assert torch.equal(torch.rand(3), want)


def test_a_copy_of_the_card_that_may_not_change_keeps_its_weights_too(tmp_path):
    "Rejects new weights beside an old card."
    path = tmp_path/'m.safetensors'
    save_model(path, fresh(), CARD)
    before = path.read_bytes()
    path.with_suffix('.json').chmod(0o444)
    with pytest.raises(PermissionError): save_model(path, fresh(), CARD | dict(data='others'))
    assert path.read_bytes() == before
