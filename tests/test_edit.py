"Editing: each method against the exact conditional of a Gaussian world; the same picture for a seed; bad input."
import inspect
import math
from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson import edit
from ddpm_lesson.dialects import flow_schedule
from ddpm_lesson.edit import (
    GaussianWorld,
    Measured,
    blurred,
    inpaint_guided,
    inpaint_replace,
    inpaint_resample,
    interpolate,
    invert,
    invert_steps,
    masked,
    no_spread,
    restore_dps,
    restore_guided,
    round_spread,
    sdedit,
    shrunk,
    tweedie_spread,
)
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.sampler import ddim_sample, ddim_steps, quadratic
from ddpm_lesson.schedule import linear_schedule

SCHED, D, SIGMA = linear_schedule(), 4, 0.2
PLACE = torch.arange(D, dtype=torch.float64)
WORLD = GaussianWorld(torch.tensor([.3, -.2, .1, .4], dtype=torch.float64), 0.25*0.8**(PLACE[:, None] - PLACE).abs(), SCHED)
MASK, Y = torch.tensor([[1, 1, 0, 0]]), torch.tensor([[.9, -.6, 7., 7.]], dtype=torch.float64)
SEEN = torch.eye(D, dtype=torch.float64)[:2]
RIGHT, EXACT = WORLD.given(SEEN, Y[0, :2], SIGMA), WORLD.given(SEEN, Y[0, :2], 1e-6)
X, T = normal(5, D), [1, 30, 300, 700, 999]


def law(sample, draws):
    "Exact mean and covariance of a sampler that is linear in its noise: one run without, and one for each single draw."
    B, asked = 1 + D*draws, []

    def unit_noise(shape, seeds, device, x_T=None):
        def draw():
            z = torch.zeros(B, D, dtype=torch.float64)
            z[1 + D*len(asked):1 + D*(len(asked) + 1)] = torch.eye(D)
            asked.append(1)
            return z
        return draw

    with patch('ddpm_lesson.edit.image_noise', unit_noise), patch('ddpm_lesson.sampler.image_noise', unit_noise): out = sample(B)
    assert len(asked) <= draws
    columns = out[1:] - out[0]
    return out[0], columns.T @ columns


def known(B): return Y.expand(B, D)


def test_the_conditional_is_bayes_by_precision():
    "Rejects a gain without sigma_y, and a mean that forgets the prior's."
    precision = WORLD.cov.inverse() + SEEN.T @ SEEN/SIGMA**2
    assert_close(RIGHT.cov, precision.inverse(), rtol=1e-9, atol=1e-12)  # checks (18.1)
    assert_close(precision @ RIGHT.mean, WORLD.cov.inverse() @ WORLD.mean + SEEN.T @ Y[0, :2]/SIGMA**2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('t', T)
def test_the_worlds_denoiser_is_the_slope_of_its_log_density(t):
    a = SCHED.alpha_bar[t]
    noised = torch.distributions.MultivariateNormal(a.sqrt()*WORLD.mean, a*WORLD.cov + (1 - a)*torch.eye(D, dtype=torch.float64))
    x = X.clone().requires_grad_()
    score, = torch.autograd.grad(noised.log_prob(x).sum(), x)
    assert_close(WORLD(X, t), -(1 - a).sqrt()*score, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('t', T)
@pytest.mark.parametrize('A', [SEEN, torch.tensor([[.5, .5, 0, 0], [0, 0, .5, .5]]).double(), normal(3, D, seed=4)], ids=['mask', 'pairs', 'any'])
def test_guidance_with_tweedies_covariance_is_the_conditionals_denoiser(A, t):
    "Rejects C without its root of alpha_bar, a slope of the other sign, one round of conjugate gradients, a gradient through S."
    y = normal(len(A), seed=2)
    given = Measured(WORLD, SCHED, lambda x: x @ A.T, y[None], SIGMA)
    assert_close(given(X, torch.full((5,), t)), WORLD.given(A, y, SIGMA)(X, t), rtol=0, atol=1e-7)  # checks (18.6), (18.7)


@pytest.mark.parametrize('eta', [0.0, 1.0])
def test_guided_inpainting_has_the_law_of_the_conditional_world_sampled_alike(eta):
    "No bias: rejects every other covariance. Both have the error of the same twenty steps."
    how = dict(steps=quadratic(1000, 20), eta=eta)
    got = law(lambda B: inpaint_guided(WORLD, SCHED, known(B), MASK, sigma_y=SIGMA, **how), 21)
    want = law(lambda B: ddim_sample(RIGHT, SCHED, (B, D), **how), 21)
    for a, b in zip(got, want): assert_close(a, b, rtol=0, atol=1e-7)


def test_the_law_of_guided_inpainting_is_the_exact_conditional():
    mean, cov = law(lambda B: inpaint_guided(WORLD, SCHED, known(B), MASK, sigma_y=SIGMA, steps=quadratic(1000, 200), eta=0.0), 1)
    assert_close(mean, RIGHT.mean, rtol=0, atol=0.01)
    assert_close(cov, RIGHT.cov, rtol=0, atol=0.01)


def test_without_the_covariance_guidance_is_too_sure():
    "DPS as derived: means pulled past, spreads a fifth too small. Rejects a spread that is C after all."
    mean, cov = law(lambda B: inpaint_guided(WORLD, SCHED, known(B), MASK, sigma_y=SIGMA, spread=no_spread, steps=quadratic(1000, 200)), 201)
    assert ((cov.diag()/RIGHT.cov.diag()).sqrt()[:2] < 0.85).all() and ((mean - RIGHT.mean)[:2].abs() > 0.03).all()
    one = Measured(WORLD, SCHED, masked(MASK), Y*MASK, SIGMA, spread=round_spread)(X, torch.full((5,), 300))
    assert (one - RIGHT(X, 300)).abs().max() > 0.01


def test_pasting_is_biased_and_repeating_brings_the_mean_over():
    "Rejects an inverted mask, and repeats that go nowhere."
    hows = {n: law(lambda B: inpaint_resample(WORLD, SCHED, known(B), MASK, times=n, steps=quadratic(1000, 40)), 40*3*n + 1) for n in (1, 10)}
    off = {n: (mean - EXACT.mean)[2:].abs().max() for n, (mean, _) in hows.items()}
    assert off[1] > 0.2 and off[10] < off[1]/2
    for mean, cov in hows.values():
        assert_close(mean[:2], Y[0, :2], rtol=1e-6, atol=1e-6)
        assert cov[:2].abs().max() < 1e-9
    once = law(lambda B: inpaint_replace(WORLD, SCHED, known(B), MASK, steps=quadratic(1000, 40)), 121)
    for a, b in zip(once, hows[1]): assert_close(a, b, rtol=0, atol=1e-12)


def test_the_patch_has_the_noise_of_the_step_where_it_is_pasted():
    "What the model sees at its second call. Rejects a clean patch, and one at the level of the step before."
    seen, a = [], SCHED.alpha_bar[200]
    def spy(x, t):
        seen.append(x.clone())
        return torch.zeros_like(x)
    mean, cov = law(lambda B: (inpaint_replace(spy, SCHED, known(B), MASK, steps=[800, 200], eta=0.0), seen[1])[1], 2)
    assert_close(mean[:2], a.sqrt()*Y[0, :2], rtol=1e-9, atol=1e-12)
    assert_close(cov[:2, :2], (1 - a)*torch.eye(2, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('eta, power', [(0.0, 1), (1.0, 2)])
@pytest.mark.parametrize('t', [100, 400])
def test_sdedit_keeps_the_share_that_was_derived(eta, power, t):
    "Rejects a walk from another step, and fresh noise that depends on the picture."
    s = 0.5
    world = GaussianWorld(torch.tensor([.3]).double(), torch.tensor([[s**2]]).double(), SCHED)
    r = (SCHED.alpha_bar[t]*s**2/(SCHED.alpha_bar[t]*s**2 + 1 - SCHED.alpha_bar[t])).sqrt()
    out = sdedit(world, SCHED, torch.tensor([[.3], [1.3]]).double(), strength=t/1000, steps=1000, eta=eta, seeds=[5, 5])
    assert_close((out[1] - out[0]).item(), r.item()**power, rtol=0, atol=3e-3)  # checks (18.2)


def test_the_round_trip_closes_as_rounds_grow():
    "Rejects the shortcut that asks at x_s, whatever the rounds."
    error = [(ddim_sample(WORLD, SCHED, X.shape, steps=30, x_T=invert(WORLD, SCHED, X, steps=30, rounds=r)) - X).abs().max().item() for r in (1, 2, 4, 12)]
    assert error[0] > 0.05 and error[1] < error[0]/3 and error[3] < 1e-6  # checks (18.3)


def test_codes_between_two_keep_their_length():
    a, b = normal(3, 1, 20, 20), normal(3, 1, 20, 20, seed=1)
    assert_close(interpolate(a, b, 0.0), a, rtol=1e-9, atol=1e-12)
    assert_close(interpolate(a, b, 1.0), b, rtol=1e-9, atol=1e-12)
    assert_close(interpolate(a, a, 0.3), a, rtol=1e-6, atol=1e-9)
    middle = interpolate(a, b, 0.5).flatten(1).norm(dim=1)
    assert (middle/((a.flatten(1).norm(dim=1) + b.flatten(1).norm(dim=1))/2) - 1).abs().max() < 0.05


def test_a_blur_adds_up_to_one_and_shrinking_is_a_mean():
    spot = torch.zeros(1, 2, 21, 21)
    spot[:, 0, 10, 10] = 1
    out = blurred(1.5)(spot)
    assert abs(out[0, 0].sum() - 1) < 1e-5 and not out[0, 1].any() and torch.allclose(out[0, 0], out[0, 0].T)
    assert_close((out[0, 0].sum(0)*(torch.arange(21.) - 10)**2).sum(), torch.tensor(1.5**2), rtol=0.05, atol=0)
    assert torch.equal(shrunk(3)(torch.arange(9.).view(1, 1, 3, 3)), torch.tensor([[[[4.]]]]))


PHOTOS, HALF = normal(3, 1, 6, 6, dtype=torch.float32).clamp(-1, 1), torch.ones(1, 1, 6, 6)
HALF[..., 3:, :] = 0
CALLS = {   # what each takes of a picture, and how
    'sdedit': (lambda x: (x,), dict(strength=0.6, steps=6)),
    'inpaint_replace': (lambda x: (x, HALF), dict(steps=4)),
    'inpaint_resample': (lambda x: (x, HALF), dict(steps=4, times=2)),
    'inpaint_guided': (lambda x: (x, HALF), dict(steps=4, rounds=2)),
    'restore_dps': (lambda x: (x*HALF, masked(HALF), x.shape), dict(zeta=0.1, steps=4)),
    'restore_guided': (lambda x: (shrunk(2)(x), shrunk(2), x.shape), dict(steps=4, rounds=2)),
}


def call(name, net, x, **how):
    takes, options = CALLS[name.removesuffix('_steps')]
    return getattr(edit, name)(net, SCHED, *takes(x), **options, **how)


METHODS = {name: partial(call, name) for name in CALLS}


@pytest.mark.parametrize('name', METHODS)
def test_a_seed_makes_one_picture_in_any_batch_and_place(name):
    "Rejects one generator for all, and the published norm over the whole batch."
    run, net = METHODS[name], Stub().eval()
    together = run(net, PHOTOS, seeds=[3, 5, 7], clip=(-1, 1))
    assert together.shape == PHOTOS.shape and together.isfinite().all()
    for i, seed in (2, 7), (0, 3): assert_close(run(net, PHOTOS[i:i + 1], seeds=[seed], clip=(-1, 1)), together[i:i + 1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(run(net, PHOTOS, seeds=[3, 5, 8], clip=(-1, 1))[2], together[2], atol=1e-3)


@pytest.mark.parametrize('clip', [None, (-1, 1)])
def test_with_nothing_known_pasting_and_dps_are_ddim(clip):
    "Rejects a clamp that leaves the noise as it was said, and fresh noise of another size than DDIM's."
    net, how = Stub().eval(), dict(steps=4, clip=clip, seeds=[1, 2, 3])
    assert_close(inpaint_replace(net, SCHED, PHOTOS, 0*HALF, eta=0.0, **how), ddim_sample(net, SCHED, PHOTOS.shape, eta=0.0, **how))
    pulled_by_nothing = restore_dps(net, SCHED, PHOTOS, lambda x: x, PHOTOS.shape, zeta=1e-9, **how)
    assert_close(pulled_by_nothing, ddim_sample(net, SCHED, PHOTOS.shape, eta=1.0, **how))


@pytest.mark.parametrize('name', METHODS)
def test_a_network_is_asked_at_rest_and_left_as_it_was(name):
    net, before = Stub().train(), PHOTOS.clone()
    with torch.inference_mode(): METHODS[name](net, PHOTOS, seeds=[1, 2, 3])
    assert net.training and not any(net.modes) and net.weight.grad is None and torch.equal(PHOTOS, before)


@pytest.mark.parametrize('name, visited', [
    ('sdedit', [500, 333, 167]), ('inpaint_replace', [1000, 750, 500, 250]), ('inpaint_resample', [1000, 1000, 750, 750, 500, 500, 250]),
    ('inpaint_guided', [1000, 750, 500, 250]), ('restore_dps', [1000, 750, 500, 250]), ('restore_guided', [1000, 750, 500, 250]),
])
def test_a_twin_hands_out_the_way_to_the_same_picture(name, visited):
    "Rejects noise of its own, a pass of RePaint that is not shown, and a state that changes once it was handed out."
    net = Stub().eval()
    kept = [(t, x_t, x_t.clone(), x_0_hat, x_0_hat.clone()) for t, x_t, x_0_hat in call(name + '_steps', net, PHOTOS, seeds=[1, 2, 3], clip=(-1, 1))]
    assert [t for t, *_ in kept] == [*visited, 0]
    assert all(torch.equal(x, then) and torch.equal(x_0, before) and x_0.abs().max() <= 1 for _, x, then, x_0, before in kept[:-1])
    assert torch.equal(kept[-1][1], call(name, net, PHOTOS, seeds=[1, 2, 3], clip=(-1, 1))) and torch.equal(kept[-1][1], kept[-1][3])


def test_inversion_hands_out_the_way_up_and_ddim_comes_down_it():
    "Rejects an order from T to 0, and an estimate from another step."
    up, way = list(invert_steps(WORLD, SCHED, X, steps=30, rounds=12)), list(ddim_steps(WORLD, SCHED, X.shape, steps=30, x_T=invert(WORLD, SCHED, X, steps=30, rounds=12)))
    assert torch.equal(up[0][1], X) and torch.equal(up[-1][1], invert(WORLD, SCHED, X, steps=30, rounds=12))
    for (t, x_t, x_0_hat), (s, x_s, x_0) in zip(up, way[::-1], strict=True):
        assert t == s
        assert_close(x_t, x_s, rtol=1e-5, atol=1e-5)
        assert_close(x_0_hat, x_0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', [*CALLS, 'invert'])
def test_a_twin_takes_the_same_arguments_and_checks_them_at_once(name):
    "Rejects a generator that finds a bad argument only when it is asked for its first step."
    sample, steps = getattr(edit, name), getattr(edit, name + '_steps')
    assert inspect.signature(sample).parameters == inspect.signature(steps).parameters and steps.__name__ == name + '_steps'
    takes = CALLS.get(name, (lambda x: (x,), {}))[0]
    with pytest.raises(TypeError, match='exchanged'): steps(SCHED, Stub(), *takes(PHOTOS))


def test_what_is_known_stays_and_what_is_hidden_does_not_matter():
    "Rejects a sampler that looks under the mask."
    for name in 'inpaint_replace', 'inpaint_resample', 'inpaint_guided':
        other = torch.where(HALF.bool(), PHOTOS, torch.full_like(PHOTOS, math.nan))
        a, b = (METHODS[name](Stub().eval(), x, seeds=[1, 2, 3]) for x in (PHOTOS, other))
        assert torch.equal(a, b)
        if name != 'inpaint_guided': assert torch.equal(a*HALF, PHOTOS*HALF)


def test_what_is_made_has_the_precision_that_help_promises():
    "Rejects float32 where a picture in float64 was pasted, and a promise that guidance does not keep."
    y = PHOTOS.double()
    made = {name: METHODS[name](Stub(), y).dtype for name in ('inpaint_replace', 'inpaint_resample', 'inpaint_guided')}
    assert made == dict(inpaint_replace=torch.float64, inpaint_resample=torch.float64, inpaint_guided=torch.float32)
    assert METHODS['inpaint_guided'](Stub(), PHOTOS, x_T=normal(*PHOTOS.shape)).dtype == torch.float64


@pytest.mark.parametrize('call, error', [
    (lambda: sdedit(Stub(), SCHED, PHOTOS, strength=0), 'strength wanted a number above 0'),
    (lambda: sdedit(Stub(), SCHED, PHOTOS, strength=1.1), 'at most 1'),
    (lambda: sdedit(Stub(), SCHED, PHOTOS, strength=0.01, steps=2), 'steps wanted one at or below'),
    (lambda: sdedit(Stub(), SCHED, PHOTOS.byte()), 'floating-point'),
    (lambda: inpaint_replace(Stub(), SCHED, PHOTOS.tolist(), HALF), 'y wanted a floating-point tensor'),
    (lambda: sdedit(Stub(), SCHED, PHOTOS, strength=torch.tensor([0.01]), steps=2), 'steps wanted one at or below'),
    (lambda: sdedit(Stub(), SCHED, PHOTOS*math.nan), 'NaN'),
    (lambda: invert(Stub(), SCHED, PHOTOS, rounds=0), 'rounds wanted at least 1'),
    (lambda: invert(Stub(), SCHED, PHOTOS[0, 0, 0]), r'wanted a batch'),
    (lambda: inpaint_replace(Stub(), SCHED, PHOTOS, HALF/2), 'mask wanted a tensor of ones'),
    (lambda: inpaint_replace(Stub(), SCHED, PHOTOS, torch.ones(5, 5)), 'mask wanted a shape'),
    (lambda: inpaint_replace(Stub(), SCHED, PHOTOS, HALF, seeds=[1]), 'seeds wanted'),
    (lambda: inpaint_resample(Stub(), SCHED, PHOTOS, HALF, times=0), 'times wanted'),
    (lambda: inpaint_guided(Stub(), SCHED, PHOTOS, HALF, sigma_y=0), 'sigma_y wanted'),
    (lambda: restore_guided(Stub(), SCHED, PHOTOS, shrunk(2), PHOTOS.shape), 'y wanted the shape that the operator makes'),
    (lambda: restore_dps(Stub(), SCHED, PHOTOS, masked(HALF), PHOTOS.shape, zeta=-1, steps=3), 'zeta wanted'),
    (lambda: interpolate(PHOTOS, PHOTOS[:1], 0.5), 'wanted one shape'),
    (lambda: GaussianWorld(torch.zeros(2), torch.tensor([[1., 2.], [2., 1.]]), SCHED), 'negative eigenvalue'),
    (lambda: GaussianWorld(torch.zeros(2), torch.eye(3), SCHED), r'\(d,\) and \(d, d\)'),
    (lambda: Measured(SCHED, Stub(), masked(HALF), PHOTOS, 0.1), 'exchanged'),
    (lambda: Measured(WORLD, linear_schedule(7), masked(MASK), Y, 0.1), 'sched wanted the schedule'),
    (lambda: GaussianWorld(torch.tensor([math.nan, 0.]), torch.eye(2), SCHED), 'mean wanted finite'),
    (lambda: WORLD(X[:, :1], 3), r"x_t wanted shape \(B, 4\)"),
    (lambda: WORLD(X.long(), 3), 'x_t wanted a floating-point'),
    (lambda: WORLD.given(SEEN, Y[0, :2], -0.1), 'sigma_y wanted'),
    (lambda: WORLD.given(SEEN[:, :3], Y[0, :2], 0.1), r'A and y wanted \(k, 4\) and \(k,\)'),
    (lambda: WORLD.given(SEEN, Y[:, :2], 0.1), r'A and y wanted \(k, 4\) and \(k,\)'),
    (lambda: WORLD.given(SEEN, Y[0, :1], 0.1), r'A and y wanted \(k, 4\) and \(k,\)'),
    (lambda: masked(torch.ones(5, 5))(PHOTOS), 'mask wanted a shape'),
    (lambda: masked(torch.ones(2, *PHOTOS.shape))(PHOTOS), 'mask wanted a shape'),
    (lambda: shrunk(PHOTOS.shape[-1] + 1)(PHOTOS), 'images wanted shape'),
    (lambda: shrunk(2)(PHOTOS[0, 0]), 'images wanted shape'),
    (lambda: shrunk(3)(torch.zeros(1, 1, 9, 8)), 'sides a multiple of 3'),
    (lambda: blurred(1.5)(PHOTOS[0, 0]), 'images wanted shape'),
    (lambda: blurred(1.5)(PHOTOS.long()), 'floating-point'),
    (lambda: interpolate(PHOTOS, PHOTOS, math.nan), 'share wanted'),
    (lambda: interpolate(PHOTOS.long(), PHOTOS.long(), 0.5), 'floating-point'),
    (lambda: interpolate(PHOTOS, -PHOTOS, 0.5), 'not opposite'),
    (lambda: restore_dps(Stub(), SCHED, PHOTOS[:, :, :1, :1], masked(HALF), PHOTOS.shape, steps=3), 'y wanted the shape'),
    (lambda: restore_guided(Stub(), SCHED, PHOTOS, torch.Tensor.detach, PHOTOS.shape, steps=3), 'operator wanted to keep gradients'),
    (lambda: restore_guided(lambda x, t: x.detach(), SCHED, PHOTOS, masked(HALF), PHOTOS.shape, steps=3), 'answer wanted a gradient'),
    (lambda: restore_dps(lambda x, t: x.detach(), SCHED, PHOTOS, masked(HALF), PHOTOS.shape, steps=3), 'answer wanted a gradient'),
])
def test_bad_input_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error): call()


@pytest.mark.parametrize('edited', [
    lambda model, sched: inpaint_resample(model, sched, PHOTOS, HALF, steps=3, clip=(-1, 1)),
    lambda model, sched: inpaint_replace(model, sched, PHOTOS, HALF, steps=3, clip=(-1, 1)),
    lambda model, sched: restore_dps(model, sched, PHOTOS, masked(HALF), PHOTOS.shape, steps=3, clip=(-1, 1)),
    lambda model, sched: inpaint_guided(model, sched, PHOTOS, HALF, steps=3, clip=(-1, 1)),
    lambda model, sched: sdedit(model, sched, PHOTOS, steps=3, clip=(-1, 1)),
    lambda model, sched: invert(model, sched, PHOTOS, steps=3)])
@pytest.mark.parametrize('factor', [math.inf, 1e20])
def test_no_clamp_hides_a_wrong_answer(edited, factor):
    "Rejects a last look at the picture alone, which a clamp has made presentable."
    with pytest.raises(ValueError, match='numbers far too large'): edited(lambda x, t: x*factor, SCHED)


def test_walks_where_nothing_is_left_say_what_they_want():
    "Rejects 0/0, and words that blame the model; SDEdit of everything draws as DDIM does."
    sched = flow_schedule(20)
    model = PredictsV(Stub(), sched)
    for call in (lambda: invert(model, sched, PHOTOS, steps=4), lambda: inpaint_replace(model, sched, PHOTOS, HALF, steps=4),
                 lambda: restore_dps(model, sched, PHOTOS, masked(HALF), PHOTOS.shape, steps=4)):
        with pytest.raises(ValueError, match='wanted steps below 20'): call()
    drawn = sdedit(model, sched, PHOTOS, strength=1, steps=4, eta=0, seeds=range(len(PHOTOS)))
    noise = torch.stack([torch.randn(PHOTOS.shape[1:], generator=torch.Generator().manual_seed(k)) for k in range(len(PHOTOS))])
    assert_close(drawn, ddim_sample(model, sched, PHOTOS.shape, steps=4, x_T=noise), rtol=0, atol=1e-5)


def test_a_world_keeps_numbers_of_its_own():
    "Rejects a mean that is the caller's memory."
    mean = torch.zeros(2, dtype=torch.float64)
    world = GaussianWorld(mean, torch.eye(2), SCHED)
    mean.add_(9)
    assert not world.mean.any()


def test_a_measurement_stays_as_exact_as_it_was():
    "Rejects a measurement that is cut to eight bits together with the weights."
    model = edit.Measured(Stub(), SCHED, edit.masked(MASK[0]), X.float(), 0.1)
    before = model.y.clone()
    assert torch.equal(model.bfloat16().y, before)


def test_covariances_are_functions_anyone_can_write():
    "Rejects a wrapper that knows its three by name."
    double = lambda *args: 2*tweedie_spread(*args)
    a, b = (Measured(WORLD, SCHED, masked(MASK), Y*MASK, SIGMA, spread)(X, torch.full((5,), 300)) for spread in (double, tweedie_spread))
    assert (a - b).abs().max() > 0.01
