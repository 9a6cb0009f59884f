"A run: bit-identical resumption, faults that leave the last whole checkpoint, what is refused before anything is lost."
import itertools
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.data import Images, bundled_fashion, to_unit
from ddpm_lesson.engine.files import load_tensors, save_tensors
from ddpm_lesson.engine.run import (
    Run,
    _own_stream,
    as_images,
    check_losses,
    find_lr,
    fit,
    looked_back,
    make_card,
    resume,
)
from ddpm_lesson.engine.safety import diverged
from ddpm_lesson.pretrained import load_card, load_pretrained, shipped
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.train import (
    Recipe,
    learning_rate,
    lr_sweep,
    suggest_lr,
)

DATA = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')


def card(steps=10, **recipe): return make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=steps, **(dict(batch=8, warmup=3, precision='float32') | recipe)))
def with_label(k): return Run(make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[], classes=2), Recipe(batch=8)), Images(DATA.pixels, torch.tensor([k] + 63*[0]), ('a', 'b'), 'small'))
def equal(a, b): return a.state().keys() == b.state().keys() and all(torch.equal(v, b.state()[k]) for k, v in a.state().items())


@pytest.mark.parametrize('at', [0, 1, 4, 9])
def test_resumed_is_bit_identical(at, tmp_path):
    whole, part = fit(Run(card(), DATA), progress=False), Run(card(), DATA)
    for step, _ in part.steps() if at else ():
        if step == at: break
    part.save(tmp_path/'c.safetensors')
    assert equal(whole, fit(Run(card(), DATA).load(tmp_path/'c.safetensors'), progress=False))


def test_training_does_not_touch_the_callers_randomness():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fit(Run(card(steps=2), DATA), progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_moves_no_stream_of_another_device(monkeypatch):
    "Rejects `torch.manual_seed` for the stream of a step: it moves those of all GPUs, which nobody puts back."
    gpus, drawn = [torch.Generator().manual_seed(k) for k in range(2)], []
    monkeypatch.setattr(torch.cuda, 'default_generators', gpus)
    monkeypatch.setattr(torch.cuda, '_is_in_bad_fork', lambda: False)
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', lambda seed: [g.manual_seed(seed) for g in gpus])
    states = lambda: [g.get_state().tolist() for g in (torch.default_generator, *gpus)]
    before = states()
    next(Run(make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[], dropout=0.5), Recipe(batch=8)), DATA).steps())
    assert states() == before
    for seed in 5, 6:
        gpus[1].manual_seed(seed)
        before = states()
        with _own_stream(torch.device('cuda:1'), 0, 3, 7):
            drawn.append([torch.rand(1).item(), torch.rand(1, generator=gpus[1]).item()])
            assert states()[1] == before[1]
        assert states() == before
    assert drawn[0] == drawn[1]


def test_the_former_name_of_a_weight_is_known(tmp_path):
    "A card or checkpoint that says `even` is the run that says `uniform`."
    now = card()
    old = now | dict(recipe=now['recipe'] | dict(weight='even'))
    assert Recipe(weight='even') == Recipe(weight='uniform') == Recipe()
    run = Run(old, DATA)
    next(run.steps())
    run.save(tmp_path/'checkpoint.safetensors')
    assert len(resume(Run(now, DATA), tmp_path).losses) == 1
    run.load(tmp_path/'checkpoint.safetensors')


def test_a_sweep_grows_by_equal_factors_and_keeps_what_it_was_told():
    tried = []
    rates, losses = lr_sweep(lambda k, lr: tried.append((k, lr)) or 0.1, 1e-3, 1e1, 5)
    assert_close(rates, torch.tensor([1e-3, 1e-2, 1e-1, 1.0, 1e1], dtype=torch.float64), rtol=1e-12, atol=0)
    assert tried == list(enumerate(rates.tolist())) and losses.tolist() == 5*[0.1]    # float64
    rates, losses = lr_sweep(lambda k, lr: 0.0)                                       # a loss of 0 is no reason to stop
    assert len(rates) == len(losses) == 100
    assert_close(rates[[0, -1]], torch.tensor([1e-6, 1.0], dtype=torch.float64), rtol=1e-12, atol=0)
    for lo, hi in (0, 1), (1, 1), (2, 1):
        with pytest.raises(ValueError, match='0 < lo < hi'): lr_sweep(None, lo, hi)
    for high, seen in (20.0, 30), (24.0, 11):                                         # one loss, after which the average is 3.8 and 4.4
        assert len(lr_sweep(lambda k, lr, high=high: high if k == 10 else 1.0, steps=30)[0]) == seen
    assert len(lr_sweep(lambda k, lr: 1.0 if k < 10 else 50.0, steps=30)[0]) == 11
    ten = torch.logspace(-6, 0, 10, dtype=torch.float64)
    assert suggest_lr(ten, torch.ones(10, dtype=torch.float64)) == ten[9].item()/10


def stopped(run, folder, **how):
    "What `fit` says when it stops."
    with pytest.raises(FloatingPointError) as e: fit(run, folder, progress=False, **how)
    return str(e.value)


def steps_in(path): return len(load_tensors(path)[0]['losses'])


def broken_at(run, k, value):
    "The run, with the loss of one step replaced; its weights follow."
    right = Run.step
    def step(self, step, recipe):
        loss = right(self, step, recipe)
        if step == k: next(self.net.parameters()).data.fill_(value)
        return loss*value if step == k else loss
    run.step = step.__get__(run)
    return run


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number_stops_and_keeps_the_good_checkpoint(value, tmp_path):
    run = broken_at(Run(card(steps=120), DATA), 44, value)
    said = stopped(run, tmp_path, every=20)
    assert f'the loss became {value} at step 45, learning rate {learning_rate(44, run.recipe):.2g}' in said and f'{tmp_path/"checkpoint.safetensors"}, step 40' in said
    assert steps_in(tmp_path/'checkpoint.safetensors') == 40 and steps_in(tmp_path/'checkpoint.previous.safetensors') == 20


@pytest.mark.parametrize('every', [45, 46])
def test_no_checkpoint_is_written_between_the_damage_and_the_check(every, tmp_path):
    "Losses are looked at every 50 steps; a checkpoint is due before. At step 45 the losses are still numbers and the weights are not."
    run = broken_at(Run(card(steps=120), DATA), 44, float('nan'))
    if every == 45: run.step = (lambda broken: lambda k, recipe: broken(k, recipe).nan_to_num(0.5))(run.step)
    said = stopped(run, tmp_path, every=every)
    assert ('became NaN or infinite at step 45' if every == 45 else 'became nan at step 45') in said and 'there is no good checkpoint yet' in said
    assert not list(tmp_path.glob('checkpoint.*safetensors'))


def test_a_bad_step_at_the_very_end_is_found_too(tmp_path):
    assert 'became nan at step 30' in stopped(broken_at(Run(card(steps=30), DATA), 29, float('nan')), tmp_path, every=10) and steps_in(tmp_path/'checkpoint.safetensors') == 20


def curve(*pieces):
    "A run whose losses scatter by a factor of 1.6, around levels that go in equal factors from one number to the next."
    run, g = Run(card(steps=sum(n for _, _, n in pieces)), DATA), torch.Generator().manual_seed(0)
    level = torch.cat([torch.logspace(math.log10(a), math.log10(b), n) for a, b, n in pieces])
    losses = level*(0.5*torch.randn(len(level), generator=g)).exp()
    run.step = lambda k, recipe: losses[k]
    return run


def test_a_loss_that_rises_for_good_stops_and_keeps_the_checkpoint_from_before(tmp_path):
    said = stopped(curve((1, 0.1, 300), (0.1, 0.1, 200), (0.1, 30, 60), (30, 30, 440)), tmp_path, every=10)
    step = int(re.search(r'rose for good, from 0\.\d+ near step \d+ to \S+ at step (\d+), learning rate', said)[1])
    kept = int(re.search(r'the last good checkpoint is .*step (\d+)', said)[1])
    assert 500 < kept <= 540 and 550 <= step <= 700 and steps_in(tmp_path/'checkpoint.safetensors') == kept


@pytest.mark.parametrize('pieces', [
    [(1, 0.1, 400), (0.1, 0.1, 800)], [(1, 0.1, 400), (0.1, 0.25, 800)], [(0.3, 0.3, 1000)], [(1, 0.1, 500), (5, 5, 30), (0.1, 0.1, 500)]],
    ids=['falls and stays', 'creeps up by half', 'never learns', 'a spike that passes'])
def test_healthy_losses_are_let_be(pieces, tmp_path):
    run = fit(curve(*pieces), tmp_path, progress=False)
    assert steps_in(tmp_path/'checkpoint.safetensors') == len(run.losses)


def test_a_long_run_is_searched_near_its_end_and_the_steps_are_counted_from_its_beginning():
    low, high = list(torch.full((7000,), 0.2)), list(torch.full((150,), 2.0))
    low[6000] = low[6000]*0.5                                     # the best fifty steps
    check_losses(low, Recipe())
    with pytest.raises(FloatingPointError, match='near step 6025 to 2 at step 7150'): check_losses(low + high, Recipe())
    check_losses(list(torch.full((200,), 0.2)) + list(torch.full((looked_back,), 2.0)), Recipe())  # what is older is not compared with


def test_losses_that_only_scatter_never_look_risen(record):
    looks = 0
    for seed, scatter in itertools.product(range(20), (0.2, 1.0, 2.0)):  # standard deviations of the logarithm
        losses = (scatter*torch.randn(2000, generator=torch.Generator().manual_seed(seed))).exp()
        for n in range(50, 2001, 50):
            assert not diverged(losses[:n])
            looks += 1
    record('A loss that only scatters is not taken for one that rises', looks)


@pytest.mark.slow
def test_real_runs_are_let_be_and_a_real_one_that_is_lost_is_stopped(tmp_path, record):
    runs = [dict(target=target, batch=batch) for target in ('eps', 'x_0', 'v') for batch in (1, 8, 64)] + [dict(lr=lr, decay=False) for lr in (1e-2, 5e-2)] + [dict(target='eps', distance='mae')]
    for recipe in runs: fit(Run(card(steps=600, **recipe), DATA), progress=False)
    record('A healthy training is not stopped', len(runs))
    run = Run(card(steps=1200, target='eps', batch=32, decay=False), DATA)
    right = Run.step
    run.step = lambda k, recipe: right(run, k, recipe if k < 400 else replace(recipe, lr=2., clip_grad=0))
    said = stopped(run, tmp_path, every=100)
    assert 'rose for good' in said or 'became' in said
    assert re.search('checkpoint is .*step [1-4]00', said), said


def test_a_foreign_checkpoint_says_so(tmp_path):
    run, path = Run(card(), DATA), tmp_path/'c.safetensors'
    next(run.steps())
    run.save(path)
    save_tensors(path, {'a': torch.zeros(1)}, {'card': card()})
    with pytest.raises(ValueError, match='does not fit'): Run(card(), DATA).load(path)
    path.write_bytes(b'\x80\x04\x95')
    with pytest.raises(ValueError, match='damaged'): load_tensors(path)
    with pytest.raises(ValueError, match='not there'): load_tensors(tmp_path/'absent.safetensors')
    assert issubclass(SafetensorError, Exception)


@pytest.mark.parametrize('make, said', [
    (lambda: Run(card(batch=65), DATA), 'at most 64'), (lambda: as_images(torch.full((9, 1, 8, 8), float('nan'))), 'NaN'), (lambda: as_images(torch.rand(9, 1, 8, 8)), r'\[-1, 1\]'),
    (lambda: as_images(3*normal(9, 1, 8, 8)), r'\[-1, 1\]'), (lambda: Images(torch.zeros(0, 1, 8, 8, dtype=torch.uint8)), 'at least one'),
    (lambda: as_images(torch.full((9, 1, 8, 8), -1.5)), r'\[-1, 1\], got -1.5'), (lambda: as_images(torch.zeros(0, 1, 8, 8)), 'at least one'), (lambda: Run(card(batch=1), Images(torch.full((1, 1, 8, 8), 9, dtype=torch.uint8))), 'one value everywhere'),
    (lambda: Run(card(batch=4), torch.full((9, 1, 8, 8), -0.2)), 'one value everywhere'), (lambda: Run(card(), Images(DATA.pixels[:1])), 'batch wanted at most 1'), (lambda: with_label(-1), r'labels wanted 0\.\.1, got -1'), (lambda: with_label(2), r'labels wanted 0\.\.1, got 0\.\.2'),
    (lambda: with_label(0.5), 'labels wanted'), (lambda: Recipe(steps=2.5), 'steps wanted a whole number'), (lambda: Recipe(batch=2.0), 'batch wanted a whole number'),
    (lambda: Run(make_card(dict(channels=3)), DATA), 'channels'), (lambda: Run(make_card(dict(channels=1, classes=4)), DATA), 'classes'), (lambda: Recipe(lr=-1), 'lr'), (lambda: Recipe(lr=float('nan')), 'lr')])
def test_what_can_not_be_trained_is_refused_at_once(make, said):
    with pytest.raises(ValueError, match=said): make()


@pytest.mark.parametrize('given', [dict(steps=True), dict(steps=2.0), dict(steps='9'), dict(steps=None), dict(lr=True), dict(lr='0.1'), dict(lr=float('inf')), dict(lr=10**400), dict(lr=0), dict(flip=1), dict(flip='no'),
                                   dict(decay=0), dict(seed=10**400), dict(seed=-1), dict(target=3), dict(target=[]), dict(precision=None), dict(ema_decay=1.1), dict(clip_grad=float('nan')), dict(batch=np.float64(8)), dict(batch=torch.tensor(8))])
def test_a_setting_of_another_kind_is_named(given):
    with pytest.raises(ValueError, match=f'{next(iter(given))} wanted .* got'): Recipe(**given)


def test_numbers_of_numpy_become_numbers_of_python():
    r = Recipe(steps=np.int64(9), batch=np.uint8(8), lr=np.float32(0.5), seed=np.int32(3), clip_grad=1, ema_decay=np.float64(0.9))
    assert r == Recipe(steps=9, batch=8, lr=0.5, seed=3, clip_grad=1.0, ema_decay=0.9)
    assert [type(getattr(r, k)) for k in ('steps', 'batch', 'lr', 'seed', 'clip_grad')] == [int, int, float, int, float]
    Run(make_card(dict(channels=np.int64(1), width=np.int64(8), mults=(1,), patch=1, blocks=1, attend=()), replace(r, batch=8)), DATA)


@pytest.mark.parametrize('make, said', [
    (lambda: Run({}, DATA), 'lacks network'), (lambda: Run(None, DATA), 'card wanted a dictionary, .* got NoneType'), (lambda: Run(DATA, card()), 'card wanted a dictionary, .* got Images'), (lambda: Run(card() | dict(recipe=None), DATA), 'entry recipe'),
    (lambda: Run({k: v for k, v in card().items() if k != 'recipe'}, DATA), 'entry recipe'), (lambda: Run(card() | dict(recipe=dict(rate=1)), DATA), 'no recipe of this version'), (lambda: Run(card() | dict(made=object()), DATA), 'plain numbers'),
    (lambda: Run(card() | dict(target='eps'), DATA), "one target, got 'eps' for the model and 'v'"), (lambda: Run(card(), torch.utils.data.TensorDataset(torch.zeros(9, 1, 8, 8))), 'Images or a float tensor .* got TensorDataset: load_images'),
    (lambda: Run(card(), None), 'Images or a float tensor'), (lambda: Run(card(), 'fashion'), 'got str'), (lambda: fit(DATA), r'fit wanted a Run, got Images: fit\(Run\(card, data\)\)'), (lambda: fit(card()), 'got dict'),
    (lambda: fit(Run(card(), DATA), every=0), 'every wanted'), (lambda: fit(Run(card(), DATA), every=2.5), 'every wanted'), (lambda: fit(Run(card(), DATA), ''), 'a path wanted a name'), (lambda: resume(DATA, '.'), 'resume wanted a Run'), (lambda: find_lr({}, DATA), 'lacks network')])
def test_arguments_that_are_something_else_are_told_what_was_wanted(make, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match=said): make()


def test_a_run_shows_itself_in_one_line():
    run = Run(card(), DATA)
    next(run.steps())
    assert re.fullmatch(r'Run\(step 1 of 10, images 64x1x7x7, [\d,]+ parameters, cpu, float32\)', repr(run))


def test_a_card_says_of_the_images_what_they_say_themselves():
    "Wrong program: a card that keeps the size, the classes and the name it was made with, whatever is learned from."
    run = Run(card(), DATA)
    assert not card().keys() & {'size', 'classes', 'data'} and {k: run.card[k] for k in ('size', 'classes', 'data')} == dict(size=7, classes=[], data='small')
    for wrong in dict(size=28), dict(data='fashion'), dict(classes=['a']):
        with pytest.raises(ValueError, match=f'{[*wrong][0]}'): Run(card() | wrong, DATA)
    named = with_label(1)
    assert named.card['classes'] == ['a', 'b']


LABELS = torch.arange(64) % 2
def labelled(pixels=DATA.pixels, labels=LABELS, classes=('a', 'b')): return Images(pixels, labels, classes, 'small')
def pixel_changed():
    pixels = DATA.pixels.clone()
    pixels[-1, 0, -1, -1] ^= 1
    return labelled(pixels)


@pytest.mark.parametrize('other, named', [
    (lambda: labelled(torch.cat([DATA.pixels, DATA.pixels[:1]]), torch.arange(65) % 2), 'images.shape'), (lambda: labelled(DATA.pixels[:63], LABELS[:63]), 'images.shape'), (pixel_changed, 'images.pixels'), (lambda: labelled(DATA.pixels.flip(0)), 'images.pixels'),
    (lambda: labelled(labels=1 - LABELS), 'images.labels'), (lambda: labelled(classes=('b', 'a')), 'images.classes')],
    ids=['one more', 'one less', 'one bit', 'another order', 'other labels', 'other names'])
def test_a_run_does_not_go_on_with_other_images(other, named, tmp_path):
    "Wrong program: one that compares the cards alone."
    made = make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[], classes=2), Recipe(steps=9, batch=8, warmup=3, precision='float32'))
    run = Run(made, labelled())
    next(run.steps())
    run.save(tmp_path/'checkpoint.safetensors')
    with pytest.raises(ValueError, match=f'another run: .*{named} .* there, .* here'): resume(Run(made, other()), tmp_path)
    assert len(resume(Run(made, Images(DATA.pixels.clone(), LABELS.clone(), ('a', 'b'), 'moved')), tmp_path).losses) == 1   # the folder may have another name


def test_a_checkpoint_says_all_that_the_next_step_reads(tmp_path, recwarn):
    run, path = Run(card(), DATA), tmp_path/'c.safetensors'
    next(run.steps())
    run.save(path)
    tensors, about = load_tensors(path)
    assert {'card', 'bf16', 'step', 'images', 'arithmetic', 'where'} <= about.keys() and not recwarn.list
    Run(card(), DATA).load(path)
    assert not recwarn.list
    save_tensors(path, tensors, about | dict(arithmetic=about['arithmetic'] + 1))
    with pytest.raises(ValueError, match='another run: arithmetic 2 there, 1 here'): Run(card(), DATA).load(path)
    save_tensors(path, tensors, about | dict(where=about['where'] | dict(processes=2, compiled=True)))
    with pytest.warns(UserWarning, match='compiled True there, False here, processes 2 there, 1 here.* last bits may differ'): Run(card(), DATA).load(path)
    save_tensors(path, tensors, {k: v for k, v in about.items() if k not in ('images', 'arithmetic', 'where')})
    with pytest.warns(UserWarning, match='earlier version .* which images'): assert len(Run(card(), DATA).load(path).losses) == 1


def test_what_is_shown_ends_no_training(tmp_path):
    "A report that can not be written is told and passed over; one that is wrong is raised, after the checkpoint."
    def full(run): raise OSError(28, 'No space left on device')
    with pytest.warns(UserWarning, match=r'step \d+ could not be .*No space left.* goes on') as said: run = fit(Run(card(), DATA), tmp_path/'a', every=4, progress=False, report=full)
    assert len(run.losses) == 10 and len(said) == 3 and steps_in(tmp_path/'a'/'checkpoint.safetensors') == 10
    def wrong(run): raise KeyError('loss')
    with pytest.raises(KeyError): fit(Run(card(), DATA), tmp_path/'b', every=4, progress=False, report=wrong)
    with pytest.raises(ValueError, match='report, or begin, which gives one, got both'): fit(Run(card(), DATA), progress=False, report=wrong, begin=lambda run: wrong)
    with pytest.raises(KeyError): fit(Run(card(), DATA), every=4, progress=False, begin=lambda run: wrong)
    assert steps_in(tmp_path/'b'/'checkpoint.safetensors') == 4


@pytest.mark.parametrize('logged', [3, 5, 8])
def test_a_resumed_curve_has_each_step_once(logged, tmp_path):
    "Wrong program: one that logs all losses again after each start, so that the curve jumps back. Stopped at step 5, after a log that ends before, there or beyond."
    event_accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    from ddpm_lesson.cli import reporter
    run = Run(card(), DATA)
    report = reporter(tmp_path, True, run.card)
    for step, _ in run.steps():
        if step == 5: run.save(tmp_path/'checkpoint.safetensors')
        if step == logged: report(run)
        if step == max(5, logged): break
    run = resume(Run(card(), DATA), tmp_path)
    alive = {*threading.enumerate()}
    fit(run, progress=False, report=reporter(tmp_path, True, run.card, len(run.losses)))
    assert {*threading.enumerate()} <= alive   # the log is closed: Windows would let nobody move it
    log = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    curve = log.Scalars('loss')
    assert [e.step for e in curve] == list(range(1, 11)) and log.Scalars('final loss')[0].step == 10
    assert_close(torch.tensor([e.value for e in curve]), torch.stack(run.losses), rtol=1e-6, atol=0)


def test_one_image_may_be_learned():
    "Rejects a run that stands still: the zeroed last layer has moved."
    run = fit(Run(card(steps=3, batch=1), Images(DATA.pixels[:1])), progress=False)
    assert len(run.losses) == 3 and run.net.out.weight.any()


def test_shipped_model_draws_clothes():
    "A nearest-centroid judge on the bundled images: right for 67 % of real test images, for 10 % of noise."
    assert list(shipped()) == ['fashion', 'fashion-fast', 'flowers'] and sum(p.stat().st_size for p in shipped().values()) < 35_000_000
    model, sched = load_pretrained('Fashion-MNIST')
    y = torch.arange(40) % 10
    x = ddim_sample(lambda x, t: model(x, t, y), sched, (40, 1, 28, 28), steps=10, clip=(-1, 1), seeds=range(40))
    train = bundled_fashion()
    centre = torch.stack([to_unit(train.pixels[train.labels == k]).mean(0) for k in range(10)])
    right = (torch.cdist(x.flatten(1), centre.flatten(1)).argmin(1) == y).float().mean()
    assert right > 0.45 and load_card('fashion')['made']['command'].startswith('ddpm_lesson train')


def test_too_few_labels_for_the_network_are_refused():
    data = bundled_fashion()
    with pytest.raises(ValueError, match='10 labels and the network 4 classes'): Run(make_card(dict(channels=1, width=8, classes=4), Recipe(batch=8)), data)


def test_a_lucky_first_loss_gives_no_advice():
    rates = torch.logspace(-6, 0, 36, dtype=torch.float64)
    losses = torch.tensor([0.01] + 10*[1.0] + 20*[0.5] + 5*[3.0], dtype=torch.float64)
    assert suggest_lr(rates, losses) == rates[30].item()/10      # the last before it rises, not the first
    losses[-1] = float('nan')
    assert suggest_lr(rates, losses) == rates[30].item()/10
    with pytest.raises(ValueError, match='at least 10 steps to judge by, got 9'): suggest_lr(rates[:10], torch.cat([losses[:9], losses[-1:]]))


@pytest.mark.parametrize('losses, looked_at', [([0.01] + 20*[1.0] + 9*[100.0], 22), (12*[1.0] + [math.nan] + 17*[1.0], 13), (30*[1.0], 30), ([1.0, 50.0] + 28*[1.0], 30)])
def test_the_search_for_a_rate_stops_for_an_average_and_not_for_one_loss(losses, looked_at, monkeypatch):
    monkeypatch.setattr(Run, 'step', lambda self, k, recipe: torch.tensor(losses[k]))
    rates, seen = find_lr(card(), DATA, lo=1e-6, hi=1.0, steps=30)
    assert len(rates) == len(seen) == looked_at


@pytest.mark.parametrize('name', ['checkpoint.safetensors', 'checkpoint.previous.safetensors'])
def test_a_checkpoint_of_others_is_not_replaced(name, tmp_path):
    "Rejects asking only how far it has come: of a file of others that is unknown, and counts as 0."
    images = Images(torch.arange(512).reshape(8, 1, 8, 8).byte())
    card = make_card(dict(width=8, mults=[1], blocks=1, patch=1), Recipe(steps=3, batch=2, warmup=1, precision='float32'))
    save_tensors(tmp_path/name, dict(mine=torch.ones(3)), {})
    before = (tmp_path/name).read_bytes()
    with pytest.raises(ValueError, match='not of this run'): fit(Run(card, images), tmp_path, every=1, progress=False)
    assert (tmp_path/name).read_bytes() == before


def test_a_run_that_has_come_further_does_not_replace_another(tmp_path):
    "Rejects comparing steps alone."
    images = Images(torch.arange(512).reshape(8, 1, 8, 8).byte())
    make = lambda seed, steps: Run(make_card(dict(width=8, mults=[1], blocks=1, patch=1), Recipe(steps=steps, batch=2, warmup=1, seed=seed, precision='float32')), images)
    fit(make(0, 1), tmp_path, progress=False)
    other = fit(make(1, 2), progress=False)
    with pytest.raises(ValueError, match='not of this run'): fit(other, tmp_path, progress=False)
