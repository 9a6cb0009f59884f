"The published systems and the grid around them: sizes, units, losses, resuming, tables, commands."
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.testing import assert_close

import ddpm_lesson.experiments as experiments
from benchmarks import s1_grid
from conftest import normal
from ddpm_lesson.cli import main
from ddpm_lesson.data import Images, bundled_fashion, to_pixels, to_unit
from ddpm_lesson.engine.cards import Sampling, build, check_card, sampling_of, schedules, to_image_range, units
from ddpm_lesson.engine.files import read_table, save_png, save_tensors, sheet, write_table
from ddpm_lesson.engine.presets import channel_units, plan, preset_card, presets
from ddpm_lesson.engine.published import (
    PositBlock,
    PositUNet,
    SimpleUNet,
    clipped,
    grown,
    posit_linear_fixed_schedule,
    posit_linear_schedule,
    variance_embedding,
)
from ddpm_lesson.engine.run import Run, fit, make_card
from ddpm_lesson.engine.sources import all_flowers
from ddpm_lesson.experiments import cell_name, materials, paired, parts, run_cell, s1_cells, s2_cells, split
from ddpm_lesson.forward import q_sample
from ddpm_lesson.loss import eps_loss, mean_abs, x_0_loss
from ddpm_lesson.metrics import image_hashes, reference
from ddpm_lesson.oracle import FiniteData
from ddpm_lesson.posterior import x_0_from_eps
from ddpm_lesson.pretrained import draw_as_card, load_card, load_pretrained, save_model
from ddpm_lesson.schedule import brightness_kept, linear_schedule, rate_schedule
from ddpm_lesson.train import Ema, Recipe, float_state, learning_rate
from ddpm_lesson.unet import count_parameters

COLOUR = Images(torch.randint(0, 120, (60, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8), name='dark')


S1_BLOCKS = [  # channels in, channels out, side at 64x64: unet.R 11-141, worked out by hand for widths 32, 64, 96, 128
    (64, 32, 64), (32, 32, 64), (32, 64, 32), (64, 64, 32), (64, 96, 16), (96, 96, 16), (96, 128, 8), (128, 128, 8),
    (128, 256, 4), (256, 128, 4),
    (256, 96, 8), (224, 96, 8), (192, 64, 16), (160, 64, 16), (128, 32, 32), (96, 32, 32), (64, 32, 64), (64, 32, 64)]


def watched(net, x, t):
    "Every block of S1's network in the order it is called: (block, what it was given, what it gave)."
    seen = []
    hooks = [m.register_forward_hook(lambda m, given, gave: seen.append((m, given[0], gave))) for m in net.modules() if isinstance(m, PositBlock)]
    net(x, t)
    for hook in hooks: hook.remove()
    return seen


def test_s1_network_is_wired_as_published_block_by_block():
    "Rejects the wiring that has the same 3,562,211 numbers: inputs as skips, three blocks in the middle, two more at the end."
    torch.manual_seed(0)
    net, x, t = PositUNet(rate_schedule()).eval(), torch.randn(1, 3, 64, 64), torch.tensor([300])
    seen = watched(net, x, t)
    assert [(b.branch[1].in_channels, b.branch[1].out_channels, given.shape[-1]) for b, given, _ in seen] == S1_BLOCKS
    assert count_parameters(net) == 3_562_211 and (count_parameters(net.lift), count_parameters(net.out)) == (128, 99)
    inputs, outputs = [given for _, given, _ in seen], [gave for *_, gave in seen]
    embedded = variance_embedding(net.told[t], 32)[:, :, None, None].expand(1, 32, 64, 64)
    assert torch.equal(inputs[0], torch.cat([net.lift(x), embedded], 1))
    pool, grow = torch.nn.functional.avg_pool2d, torch.nn.functional.interpolate
    for k in 2, 4, 6, 8: assert torch.equal(inputs[k], pool(outputs[k - 1], 2))
    for k in 1, 3, 5, 7, 9: assert torch.equal(inputs[k], outputs[k - 1])
    for up in range(8):                               # last in, first out: outputs 7, 6, ... 0 of the way down
        below = outputs[9 + up]
        if up % 2 == 0: below = grow(below, scale_factor=2, mode='bilinear')
        assert torch.equal(inputs[10 + up], torch.cat([below, outputs[7 - up]], 1))
    assert not net.out.weight.any() and not net.out.bias.any()


def test_s1_block_is_one_norm_before_two_convolutions_beside_a_carry():
    "Rejects a second norm, a norm without scale, a carry without bias, and swish in another place: each line by hand."
    torch.manual_seed(0)
    block, x, F = PositBlock(3, 5), torch.randn(4, 3, 6, 7), torch.nn.functional
    norm, first, _, second = block.branch
    for p in block.parameters(): torch.nn.init.normal_(p)
    of = x.transpose(0, 1).flatten(1)
    normed = (x - of.mean(1)[:, None, None])/(of.var(1, unbiased=False)[:, None, None] + 1e-5).sqrt()*norm.weight[:, None, None] + norm.bias[:, None, None]
    h = F.conv2d(normed, first.weight, first.bias, padding=1)
    by_hand = F.conv2d(h*h.sigmoid(), second.weight, second.bias, padding=1) + F.conv2d(x, block.carry.weight, block.carry.bias)
    assert_close(block(x), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('channels, width, mults, depth', [(1, 8, (1, 2), 1), (3, 4, (1, 3, 2), 3), (2, 6, (2,), 2)])
def test_s1_network_of_other_sizes(channels, width, mults, depth):
    net = PositUNet(rate_schedule(), 'x_0', channels, width, mults, depth)
    x = torch.randn(2, channels, 12, 20)
    seen = watched(net, x, torch.tensor([1, 1000]))
    assert net(x, torch.tensor([1, 1000])).shape == x.shape and len(seen) == 2*depth*len(mults) + 2


def test_s2_network_has_its_size():
    with torch.device('meta'): assert count_parameters(SimpleUNet()) == 62_438_883


@pytest.mark.parametrize('make', [lambda: PositUNet(rate_schedule(), 'eps', 2, 8), lambda: SimpleUNet(None, 2, 8)], ids=['posit', 'simple'])
def test_published_networks_use_every_weight_the_image_and_the_time(make):
    torch.manual_seed(0)
    net = make()
    torch.nn.init.normal_(net.out.weight)
    x, t = torch.randn(3, 2, 28, 20, requires_grad=True), torch.tensor([1, 40, 900])
    net(x, t).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert sum(p.grad.abs().sum() > 0 for p in net.parameters()) > 0.8*len(list(net.parameters()))  # a bias before a batch norm has none
    net.eval()
    assert (net(x, t) - net(x, t.flip(0))).abs().max() > 1e-4
    assert_close(net(x[:1], t[:1]), net(x, t)[:1], rtol=1e-4, atol=1e-5)


def test_s1_network_is_told_the_noise_variance_or_the_signal_variance():
    "Rejects a network that embeds the step, and an image network that is told how much noise there is."
    nets = {(name, target): PositUNet(s, target, 1, 8) for name, s in (('rate', rate_schedule()), ('linear', posit_linear_schedule())) for target in ('eps', 'x_0', 'v')}
    for (name, target), net in nets.items():
        a = (rate_schedule() if name == 'rate' else posit_linear_schedule()).alpha_bar
        assert_close(net.told.double(), a if target == 'x_0' else 1 - a, rtol=0, atol=1e-7)
    model, sched = build(make_card(dict(kind='posit_unet', channels=1, width=8), Recipe(target='x_0'), 'posit_linear'))
    assert torch.equal(model.net.told, sched.alpha_bar.float())   # a card's target decides


@pytest.mark.parametrize('change', [dict(network=dict(kind='posit', channels=1, width=8)), dict(target='eps_on_image')])
def test_cards_of_the_former_wiring_and_arm_are_refused_in_words(change, tmp_path):
    card, data = preset_card('posit-ddim', bundled_fashion(), steps=1, batch=2, width=8, blocks=1)
    run, path = Run(card, data), tmp_path/'a.safetensors'
    save_tensors(path, run.net.state_dict(), card | change)   # as that version wrote them
    for refused in (lambda: load_pretrained(path), lambda: build(card | change), lambda: check_card(card | change)):
        with pytest.raises(ValueError, match='earlier version.*rain again'): refused()


def test_variance_embedding_has_the_published_frequencies():
    var = torch.tensor([0., 0.25, 0.7])
    got = variance_embedding(var, 32)
    for i, f in ((0, 1.), (15, 1000.)):
        assert_close(got[:, i], (2*torch.pi*f*var.double()).sin().float(), rtol=0, atol=2e-3)
        assert_close(got[:, 16 + i], (2*torch.pi*f*var.double()).cos().float(), rtol=0, atol=2e-3)


def test_arms_are_clipped_where_the_authors_and_where_we_say():
    published, fixed, cosine = posit_linear_schedule(), posit_linear_fixed_schedule(), rate_schedule()
    assert_close([published.alpha_bar[1].item(), published.alpha_bar[-1].item()], [0.95, 0.02], rtol=1e-5, atol=0)
    assert_close([fixed.signal_rate[1].item(), fixed.signal_rate[-1].item()], [0.95, 0.02], rtol=1e-5, atol=0)
    assert_close([cosine.signal_rate[1].item(), cosine.signal_rate[-1].item()], [0.95, 0.02], rtol=1e-9, atol=0)
    middle = slice(120, 500)
    assert_close(published.alpha_bar[middle], linear_schedule().alpha_bar[middle], rtol=1e-5, atol=0)
    for bad in ((0, .9), (.9, .1), (.1, 1)):
        with pytest.raises(ValueError, match='lo < hi'): clipped(linear_schedule(), *bad)


def test_a_perfect_network_loses_the_mean_under_the_published_linear_arm_only():
    for make, lo, hi in (posit_linear_schedule, 0.84, 0.89), (posit_linear_fixed_schedule, 0.97, 1), (rate_schedule, 0.97, 1):
        sched = make()
        from ddpm_lesson.oracle import GaussianMixture
        from ddpm_lesson.sampler import ddim_sample
        model = GaussianMixture(torch.ones(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64), 1., sched)
        assert lo < ddim_sample(model, sched, (1, 1), steps=100, x_T=torch.zeros(1, 1, dtype=torch.float64)).item() < hi


def test_repaired_schedule_restores_brightness():
    assert [round(100*k) for k in brightness_kept(linear_schedule(300))] == [11, 8]
    assert min(brightness_kept(schedules['rescaled_linear'](T=300))) > 0.9


def test_grown_is_undone():
    for h, w, m in ((28, 28, 16), (5, 9, 8), (16, 32, 16)):
        x = normal(2, 3, h, w)
        big, cut = grown(x, m)
        assert big.shape[2] % m == 0 and big.shape[3] % m == 0 and torch.equal(cut(big), x) and big.shape[2] - h < m


def test_loss_on_the_image_is_the_distance_of_images():
    "S1's image arm: the network IS the image. Rejects a noise network judged by its image."
    sched, x_0, eps, t = linear_schedule(), normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1), torch.tensor([1, 300, 1000])
    net = lambda x, t: (x + t.reshape(-1, 1, 1, 1)/900).sin()
    x_t = q_sample(sched, x_0, t, eps)
    says = net(x_t, t)
    assert_close(x_0_loss(net, sched, x_0, t, eps, distance=mean_abs), (says - x_0).abs().flatten(1).mean(1))
    implied = (x_0_from_eps(sched, x_t, says, t) - x_0).abs().flatten(1).mean(1)
    with pytest.raises(AssertionError): assert_close(x_0_loss(net, sched, x_0, t, eps, distance=mean_abs), implied, rtol=1e-2, atol=0)
    assert_close(eps_loss(lambda x, t: 0*x, sched, x_0, t, eps, distance=mean_abs), eps.abs().flatten(1).mean(1))


# ---- units: a model that lives in standardised data

def test_run_trains_on_standardised_images_and_samples_come_back():
    card, data = preset_card('posit-ddim-fixed', COLOUR, steps=3, batch=60, width=8, blocks=1, target='x_0')
    run = Run(card, data)
    next(run.steps())
    x = to_unit(COLOUR.pixels).double()
    assert x.mean() < -0.4 and abs(run.losses[0] - 1) < 0.02  # zero network, mean square of standardised data
    mean, std = units(card)
    want = x.transpose(0, 1).flatten(1)
    assert_close(mean.flatten().double(), want.mean(1), rtol=1e-4, atol=1e-4)
    assert_close(std.flatten().double(), want.std(1), rtol=1e-3, atol=1e-4)


def test_oracle_in_standardised_units_draws_the_image_itself():
    card, data = preset_card('posit-ddim', COLOUR, steps=1, batch=2)
    mean, std = units(card)
    sched = rate_schedule()
    truth = to_unit(COLOUR.pixels[:1])
    oracle = FiniteData((truth - mean)/std, sched)
    drawn = draw_as_card(oracle, sched, card, 2)
    assert (to_pixels(drawn).int() - COLOUR.pixels[:1].int()).abs().max() <= 1
    assert torch.equal(to_image_range(dict(), truth), truth)
    assert sampling_of(card) == Sampling('ddim', 19, clip=None, guidance=1.0) and sampling_of(load_card('fashion')).clip == (-1, 1)


def test_laptop_insists_on_labels_only_where_there_are_some():
    garments = bundled_fashion()
    with_labels, _ = preset_card('laptop', garments, steps=1)
    without, _ = preset_card('laptop', garments, steps=1, labels=False)
    short, _ = preset_card('laptop', garments, steps=1, T=10)
    assert sampling_of(with_labels).guidance == presets['laptop']['sample']['guidance'] > 1 == sampling_of(without).guidance
    always, _ = preset_card('laptop', garments, steps=1, label_drop=0.0)   # knows nothing without a label
    assert with_labels['sample']['steps'] == presets['laptop']['sample']['steps'] and short['sample']['steps'] == 10
    assert without['sample'] == always['sample'] == dict(steps=50) and sampling_of(always).guidance == 1
    assert preset_card('laptop', garments, steps=1, labels=False, sample=dict(guidance=3.0), T=20)[0]['sample'] == dict(steps=20)
    assert preset_card('hackernoon-ddpm', garments, steps=1)[0]['sample'] == presets['hackernoon-ddpm']['sample']   # None: every step


@pytest.mark.parametrize('wrong', ['2', True, -1, float('nan'), float('inf'), 10**400, None, [2]])
def test_a_card_with_another_guidance_is_refused(wrong):
    card, _ = preset_card('laptop', bundled_fashion(), steps=1)
    with pytest.raises(ValueError, match='guidance wanted a number >= 0'): sampling_of(card | dict(sample=dict(guidance=wrong)))


def test_the_guidance_of_a_card_is_what_draws(tmp_path):
    "By the card, by the flag, by hand: the same picture; and the calls are counted twice a step."
    card, data = preset_card('laptop', bundled_fashion(), steps=2, warmup=1, batch=4, width=8, mults='1,2', attend='1', precision='float32')
    run = fit(Run(card | dict(sample=dict(steps=3, guidance=3.0)), data), progress=False)
    torch.nn.init.normal_(run.net.label.weight, std=3.0)   # two steps teach it no labels: let them differ
    torch.nn.init.normal_(run.net.out.weight, std=0.3)
    save_model(tmp_path/'m.safetensors', run.net, run.card)
    y = torch.arange(4)
    by_hand = draw_as_card(run.model.eval(), run.sched, run.card, 4, y, guidance=3.0)
    by_card = draw_as_card(run.model.eval(), run.sched, run.card, 4, y)
    plain = draw_as_card(run.model.eval(), run.sched, run.card, 4, y, guidance=1.0)
    assert torch.equal(by_hand, by_card) and (plain - by_card).abs().max() > 0.05
    for flags, calls, what in ((), 6, by_card), (('--guidance', 1), 3, plain), (('--label', 'none'), 3, None):
        status, said = call('sample', '--weights', tmp_path/'m.safetensors', '--count', 4, '--out', tmp_path/'a.png', '--zoom', 1, '--device', 'cpu', *flags)
        assert status == 0 and f'{calls} network calls' in said, said
        with Image.open(tmp_path/'a.png') as drawn: assert json.loads(drawn.info['drawn'])['guidance'] == (3 if calls == 6 else 1)
        if what is None: continue
        save_png(tmp_path/'b.png', sheet(what, 10, 1))
        with Image.open(tmp_path/'a.png') as drawn, Image.open(tmp_path/'b.png') as wanted: assert drawn.tobytes() == wanted.tobytes()


def test_channel_units_survive_a_constant_channel():
    pixels = COLOUR.pixels.clone()
    pixels[:, 1] = 7
    assert min(channel_units(Images(pixels), Recipe(batch=20))['std']) >= 1e-3


# ---- recipe

def test_level_rate_no_clip_no_average():
    r = Recipe(steps=100, warmup=10, decay=False, clip_grad=0, ema_decay=0)
    assert [learning_rate(k, r) for k in (0, 9, 50, 99)] == [r.lr/10, r.lr, r.lr, r.lr]
    net = torch.nn.Linear(2, 2)
    ema = Ema(net, 0)
    net.weight.data.fill_(3.)
    ema.update(net, 5)
    assert torch.equal(ema.shadow[0], net.weight)
    for wrong in (dict(distance='l1'), dict(beta_2=1.5), dict(clip_grad=-1), dict(target='noise')):
        with pytest.raises(ValueError, match=next(iter(wrong))): Recipe(**wrong)


def test_average_covers_batch_norm_statistics_but_no_table():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    net.register_buffer('table', torch.ones(5), persistent=False)
    assert {k.split('.')[-1] for k in float_state(net)} == {'weight', 'bias', 'running_mean', 'running_var'}
    ema = Ema(net, 0.5)
    net(torch.randn(4, 1, 3, 3) + 9)
    ema.update(net, 0)  # decay 0.1: (1 + 0)/(10 + 0)
    assert_close(dict(zip(float_state(net), ema.shadow))['1.running_mean'], 0.9*net[1].running_mean)


# ---- the grid

def small_judge(pixels): return to_unit(pixels).flatten(1)[:, ::37].double()


@pytest.fixture
def tiny(monkeypatch):
    train, test = split(bundled_fashion(), 40)
    train = Images(train.pixels[:64], name='tiny')
    monkeypatch.setattr(experiments, 'materials', lambda *a: (train, test, reference(test, small_judge, other=train, n=20)))
    monkeypatch.setattr(experiments, '_wanted', {'posit-ddim': [('raw', 'ddim', 2), ('ema', 'ddim', 3)]})
    return dict(size=28, n=20)


def test_s1_grid_has_all_arms_and_differs_in_nothing_else():
    cells = s1_cells(3, width=8)
    assert len(cells) == 36 and len({cell_name(c) for c in cells}) == 36
    arms = {(c['distance'], c['target'], c['schedule'], c['seed']) for c in cells}
    assert arms == set(itertools.product(('mae', 'mse'), ('eps', 'x_0'), ('rate', 'posit_linear', 'posit_linear_fixed'), range(3)))
    assert {tuple(sorted((k, v) for k, v in c.items() if k not in ('distance', 'target', 'schedule', 'seed'))) for c in cells} == {(('ema_decay', 0.999), ('preset', 'posit-ddim'), ('width', 8))}
    assert [c['preset'] for c in s2_cells(1)] == ['hackernoon-ddpm', 'hackernoon-ddpm-fixed']


@pytest.mark.parametrize('channels, count', [(1, 7), (3, 20), (3, 41)])
def test_a_sheet_of_samples_comes_back_byte_for_byte(channels, count, tmp_path):
    "Rejects a sheet that drops the last row, or that mixes rows and columns."
    pixels = torch.randint(0, 256, (count, channels, 6, 6), dtype=torch.uint8)
    s1_grid.save_sheet(tmp_path/'a.png', pixels)
    assert torch.equal(s1_grid.read_sheet(tmp_path/'a.png', 6, count), pixels)


def test_the_grid_for_a_gpu_leaves_rows_and_samples_once(tmp_path, monkeypatch):
    "Rejects one that trains a finished cell again, and one that begins after its time."
    monkeypatch.setattr(s1_grid, 'parts', lambda *a: split(Images(bundled_fashion().pixels[:100], name='fashion'), 40))
    about = dict(out=tmp_path/'g.csv', data='fashion', size=28, held=40, count=21, device='cpu')
    (tmp_path/'g.parts').mkdir()
    cell = s1_cells(1, width=8, blocks=1, batch=4, steps=2, precision='float32')[1]
    assert s1_grid.one_cell(cell, about, deadline=0) == 0 and not list((tmp_path/'g.parts').iterdir())
    assert s1_grid.one_cell(cell, about, deadline=float('inf')) > 0 == s1_grid.one_cell(cell, about, deadline=float('inf'))
    rows = s1_grid.gathered(tmp_path/'g.csv')
    assert [(r['target'], r['weights'], r['calls']) for r in rows] == [('x_0', 'raw', 4), ('x_0', 'raw', 19), ('x_0', 'ema', 19)]
    assert s1_grid.read_sheet(next((tmp_path/'g.parts').glob('*.raw.4.png')), 28, 21).shape == (21, 1, 28, 28)
    assert all(0 < r['noise_loss'] < 2 and r['image_loss'] > 0 for r in rows)


def test_cell_is_measured_once_and_its_file_guards_against_another_experiment(tiny, tmp_path, monkeypatch):
    cell = s1_cells(1, width=8, blocks=1, batch=4, steps=2, precision='float32')[0]
    rows = run_cell(cell, tmp_path, **tiny)
    assert [(r['weights'], r['calls']) for r in rows] == [('raw', 2), ('ema', 3)]
    for key in 'KID', 'KID interval', 'floor KID', 'noise_loss', 'image_loss', 'brightness', 'seed', 'schedule': assert key in rows[0]
    monkeypatch.setattr(experiments, 'fit', lambda *a, **k: pytest.fail('trained again'))
    assert json.dumps(run_cell(cell, tmp_path, **tiny)) == json.dumps(rows)
    with pytest.raises(ValueError, match='another experiment'): run_cell(cell, tmp_path, **tiny | dict(n=21))


def test_interrupted_grid_goes_on_and_gives_the_same_table(tiny, tmp_path, monkeypatch):
    cells = s1_cells(1, width=8, blocks=1, batch=4, steps=2, precision='float32')[:3]
    whole = [r for c in cells for r in run_cell(c, tmp_path/'whole', **tiny)]
    original, done = experiments.run_cell, []

    def dies_in_the_second(cell, folder, **how):
        if len(done) == 1: raise KeyboardInterrupt
        done.append(cell)
        return original(cell, folder, **how)
    with pytest.raises(KeyboardInterrupt): [dies_in_the_second(c, tmp_path/'cut', **tiny) for c in cells]
    again = [r for c in cells for r in run_cell(c, tmp_path/'cut', **tiny)]
    timeless = lambda rows: [{k: v for k, v in r.items() if 'seconds' not in k} for r in rows]
    assert timeless(again) == timeless(whole)


def test_held_out_losses_are_two_units_of_one_error():
    "A model that says nothing misses all of the noise. Rejects squares, pixels in bytes, and an image error without the ratio of the rates."
    card, data = preset_card('posit-ddim', COLOUR, steps=1, batch=20, width=8, blocks=1)
    sched, seen = rate_schedule(), []
    silent = lambda x, t: seen.append(t) or 0*x
    got = experiments.held_out_losses(silent, sched, card, data)
    t = torch.cat(seen)
    assert_close(got['noise_loss'], (2/torch.pi)**0.5, rtol=0, atol=4*0.6/(60*768)**0.5)
    assert t.min() == 1 and t.max() == 1000 and len(t.unique()) == 60    # spread evenly, each image one step
    ratio = (sched.noise_rate/sched.signal_rate)[t].mean().item()
    assert_close(got['image_loss'], (2/torch.pi)**0.5*ratio, rtol=0.05, atol=0)


def test_an_effect_is_one_number_a_seed():
    "Rejects one that counts all pairs of a seed as independent, and one that subtracts the wrong way round."
    rows = [dict(x=x, i=i, seed=k, KID=float(10*k + i + x*(k + 1))) for x in (0, 1) for i in range(4) for k in range(3)]
    assert_close(paired(rows, 'x', 0, 1, settings=('i',)), [1.0, 2.0, 3.0])
    assert_close(paired(rows, 'i', 0, 3, settings=('x',)), [3.0, 3.0, 3.0])
    with pytest.raises(ValueError, match='pairs'): paired(rows[1:], 'x', 0, 1, settings=('i',))


def test_table_comes_back_as_it_went(tmp_path):
    rows = [dict(name='x,"y"', kid=-0.00012345678, n=3, seed=1), dict(name='a', kid=2.5, n=4, note='ü')]
    write_table(rows, tmp_path/'t.csv')
    assert read_table(tmp_path/'t.csv') == [dict(name='a', kid=2.5, n=4, note='ü'), dict(name='x,"y"', kid=-0.00012346, n=3, seed=1)]


def test_split_keeps_every_image_once():
    data = Images(torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 4, 4).contiguous(), torch.arange(10), tuple('abcdefghij'))
    a, b = split(data, 3)
    assert len(b) == 3 and sorted(a.labels.tolist() + b.labels.tolist()) == list(range(10)) and torch.equal(a.pixels[:, 0, 0, 0].long(), a.labels)
    for held in 0, 10, 11:
        with pytest.raises(ValueError, match='held wanted'): split(data, held)


def photographs(folder, seeds):
    "A folder of small pictures, one for each seed."
    folder.mkdir(parents=True)
    for k in seeds: save_png(folder/f'{k:03}.png', torch.randint(0, 255, (3, 16, 16), generator=torch.Generator().manual_seed(k), dtype=torch.uint8))
    return folder


def test_no_held_out_image_was_learned_from_however_the_folder_is_named(tmp_path, monkeypatch):
    "Rejects a program that asks whether the *name* is a folder: '~/pics' was not, and all its images were in both parts."
    home = photographs(tmp_path/'home'/'pics', range(30)).parent
    save_png(home/'pics'/'copy.png', torch.randint(0, 255, (3, 16, 16), generator=torch.Generator().manual_seed(2), dtype=torch.uint8))
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.chdir(home)
    for name in '~/pics', 'pics', './pics', home/'pics', 'debug', 'fashion':
        held = 1 if name == 'debug' else 8
        train, test = parts(name, 16, held)
        assert len(test) == held and not set(image_hashes(train)) & set(image_hashes(test)), name
    assert len(parts('fashion', 28, 5000)[1]) == 2000


def test_the_judged_images_are_kept_by_what_they_show_not_by_their_name(tmp_path, monkeypatch):
    "Rejects a cache keyed by the name that was given: after a change of folder it handed out the images of the other."
    monkeypatch.setattr(experiments, 'lite0_judge', lambda: small_judge)
    photographs(tmp_path/'a'/'pics', range(30)), photographs(tmp_path/'b'/'pics', range(100, 130))
    found = []
    for folder in 'a', 'b', 'b':
        monkeypatch.chdir(tmp_path/folder)
        found.append(materials('pics', 16, 8, 20))
    (_, a, _), (_, b, ref), (_, _, again) = found
    assert not set(image_hashes(a)) & set(image_hashes(b)) and ref is again and torch.equal(ref.real, small_judge(b.pixels))


def test_a_result_is_not_taken_for_another_of_the_same_name(tmp_path, monkeypatch):
    "Rejects a key of base name and given settings: other images, or another preset under one name, read the first one's rows."
    monkeypatch.setattr(experiments, 'lite0_judge', lambda: small_judge)
    monkeypatch.setattr(experiments, '_wanted', {'posit-ddim': [('raw', 'ddim', 2)]})
    cell = s1_cells(1, width=8, blocks=1, batch=4, steps=2, precision='float32')[0]
    how = dict(size=16, held=20, n=20)
    a, b = photographs(tmp_path/'a'/'pics', range(60)), photographs(tmp_path/'b'/'pics', range(100, 160))
    rows = run_cell(cell, tmp_path/'out', data=a, **how)
    assert run_cell(cell, tmp_path/'out', data=str(a), **how) == rows      # the same images by another name
    with pytest.raises(ValueError, match='differs in card, learned, judged: name another folder'): run_cell(cell, tmp_path/'out', data=b, **how)
    monkeypatch.setitem(presets, 'posit-ddim', presets['posit-ddim'] | dict(lr=5e-4))
    with pytest.raises(ValueError, match='differs in card'): run_cell(cell, tmp_path/'out', data=a, **how)


@pytest.mark.parametrize('raw', [b'', b'{', b'\xff', b'[]', b'5', b'{}', b'{"about": 5}', b'{"about": {"cell": 1}}', b'{"about": {"cell": 1}, "rows": []', b'['*100_000])
def test_a_result_that_was_spoilt_is_named(raw, tmp_path):
    "Rejects 'Expecting value: line 1', and KeyError('rows'), of one file among many."
    (tmp_path/'cell.json').write_bytes(raw)
    with pytest.raises(ValueError, match=r'cell.json (is damaged|holds another experiment)'): experiments._kept_rows(tmp_path/'cell.json', dict(cell=1))


def test_flowers_are_all_three_splits_divided_at_random(monkeypatch):
    "As S1 has them. Rejects the official training split, 1,020 of 8,189, and a division that is drawn anew each time."
    import torchvision.datasets
    sizes, opened = dict(train=10, val=10, test=60), []

    def official(root, split, download=False):
        opened.append(split)
        start = dict(train=0, val=10, test=20)[split]
        return [(start + k, split) for k in range(sizes[split])]
    monkeypatch.setattr(torchvision.datasets, 'Flowers102', official)
    train, test = ([x for x, _ in all_flowers('nowhere', train=t)] for t in (True, False))
    assert sorted(train + test) == list(range(80)) and len(train) == 64 and opened == ['train', 'val', 'test']*2
    assert max(train[:20]) > 20 and train == [x for x, _ in all_flowers('nowhere', train=True)]


# ---- commands

def call(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.output


@pytest.mark.parametrize('name, target', [('posit-ddim', 'eps'), ('posit-ddim', 'x_0'), ('posit-ddim-fixed', 'eps'), ('posit-ddim-fixed', 'x_0'), ('hackernoon-ddpm', 'eps'), ('hackernoon-ddpm-fixed', 'eps')])
def test_published_preset_trains_and_samples_with_one_command_each(name, target, tmp_path):
    status, said = call('train', '--preset', name, '--target', target, '--data', 'debug', '--size', 32, '--width', 8, '--steps', 2, '--batch', 2, '--folder', tmp_path/'run', '--device', 'cpu')
    assert status == 0, said
    own = tmp_path/'run'/'model.safetensors'
    assert list((tmp_path/'run').glob('events*')), 'no TensorBoard log'
    how = [] if name.startswith('posit') else ['--steps', 3]
    status, said = call('sample', '--weights', own, '--count', 2, '--out', tmp_path/'s.png', '--device', 'cpu', *how)
    assert status == 0 and {'posit-ddim': '19 network calls', 'posit-ddim-fixed': '20 network calls'}.get(name, '3 network calls') in said, said
    assert load_card(own)['recipe']['ema_decay'] == (0.999 if name == 'posit-ddim-fixed' else 0)


def test_fixed_differs_from_published_in_the_repairs_alone():
    for name, repairs in ('posit-ddim', {'distance', 'ema_decay', 'sample'}), ('hackernoon-ddpm', {'schedule'}):
        a, b = presets[name], presets[name + '-fixed']
        assert {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)} == repairs
    assert plan(dict(steps=9), 'posit-ddim')['epochs'] is None and plan(dict(epochs=3), 'posit-ddim')['epochs'] == 3


def test_evaluate_and_find_lr_from_the_command_line(tmp_path):
    pytest.importorskip('efficientnet_lite_pytorch', reason='the judge is an extra')
    call('train', '--preset', 'debug', '--steps', 2, '--width', 8, '--folder', tmp_path/'run', '--device', 'cpu')
    photos = tmp_path/'photos'
    photos.mkdir()
    from ddpm_lesson.engine.files import save_png
    for k in range(44): save_png(photos/f'{k}.png', torch.randint(0, 255, (3, 20, 20), generator=torch.Generator().manual_seed(k), dtype=torch.uint8))
    status, said = call('evaluate', '--weights', tmp_path/'run'/'model.safetensors', '--data', photos, '--count', 20, '--steps', 2, '--out', tmp_path/'r.json', '--device', 'cpu')
    assert status == 0, said
    result = json.loads((tmp_path/'r.json').read_text())
    assert {'KID', 'KID interval', 'FID', 'floor KID', 'floor interval', 'N', 'NFE', 'seconds', 'judge'} <= result.keys() and result['N'] == 20 and result['NFE'] == 2
    assert f"{result['KID']:.4f}" in said and 'real images' in said
    status, said = call('evaluate', '--weights', tmp_path/'run'/'model.safetensors', '--data', 'debug', '--count', 20)
    assert status == 1 and 'at least 40 images' in said
    status, said = call('find-lr', '--preset', 'laptop', '--batch', 4, '--steps', 12, '--out', tmp_path/'lr.csv', '--device', 'cpu')
    assert status == 0 and 'suggested' in said and len(read_table(tmp_path/'lr.csv')) >= 10, said


def test_results_in_the_home_folder_are_found_again(tmp_path, monkeypatch):
    "Rejects writing to where ~ leads and reading from a folder called ~: each call would train anew."
    monkeypatch.setenv('HOME', str(tmp_path)), monkeypatch.chdir(tmp_path)
    cell = dict(preset='debug', width=8, mults='1', attend='', patch=4, steps=2, batch=2, warmup=1, seed=0)
    how = dict(size=8, held=40, n=20)
    rows = experiments.run_cell(cell, '~/ex', **how)
    monkeypatch.setattr(experiments, 'fit', None)   # a second training would fail
    assert experiments.run_cell(cell, '~/ex', **how) == rows and not (tmp_path/'~').exists()


@pytest.mark.parametrize('preset, changes', [
    ('laptop', dict(steps=5, epochs=2)), ('laptop', dict(learning_rate=1e-3)), ('laptop', dict(size=8)), ('laptop', dict(channels=3)),
    ('posit-ddim', dict(dropout=0.5)), ('posit-ddim', dict(attend='1')), ('hackernoon-ddpm', dict(mults='1,2')), ('hackernoon-ddpm', dict(blocks=5))])
def test_a_setting_that_would_change_nothing_is_refused(preset, changes):
    "Rejects a plan that takes what it knows and drops the rest without a word."
    with pytest.raises(ValueError, match='wanted|no use'): preset_card(preset, bundled_fashion(), batch=4, **changes)


def test_numbers_of_numpy_and_torch_are_written(tmp_path):
    "Rejects a table that only knows Python's numbers."
    write_table([dict(a=np.int64(3), b=np.float32(0.5), c=np.bool_(True), d=torch.tensor(2))], tmp_path/'t.csv')
    assert read_table(tmp_path/'t.csv') == [dict(a=3, b=0.5, c=True, d=2)]


WORKING = """
import os, time
from ddpm_lesson.experiments import worker_pool
if __name__ == '__main__':
    with worker_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def lives(pid):
    "Whether a process is there that has not ended."
    try: return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError: return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='wants /proc')
def test_no_worker_outlives_the_first_process(tmp_path):
    "Rejects a grid that on Ctrl-C goes on with all its cells, and workers that wait for ever for a process that was killed."
    (tmp_path/'work.py').write_text(WORKING)
    begun = {s: subprocess.Popen([sys.executable, tmp_path/'work.py'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)}
    workers = {s: int(first.stdout.readline()) for s, first in begun.items()}
    time.sleep(0.5)   # they sleep, too
    try:
        for number, first in begun.items():
            first.send_signal(number)
            said, ends = first.communicate(timeout=30)[1], time.time() + 10
            while lives(workers[number]) and time.time() < ends: time.sleep(0.05)
            assert not lives(workers[number]) and (number == signal.SIGINT) == ('KeyboardInterrupt' in said), (number, said)
    finally:
        for pid in filter(lives, [*workers.values(), *(first.pid for first in begun.values())]): os.kill(pid, signal.SIGKILL)


def test_cells_may_come_one_by_one(monkeypatch, tmp_path):
    "Rejects a look at the cells that uses them up: nothing was trained, without a word."
    class Now:
        def submit(self, f, cell, *more, **how):
            done = Future()
            done.set_result([cell])
            return done
    monkeypatch.setattr(experiments, 'worker_pool', lambda workers: nullcontext(Now()))
    cells = experiments.s2_cells(1)
    rows = experiments.run_cells((cell for cell in cells), tmp_path)
    assert sorted(map(str, rows)) == sorted(map(str, cells))
