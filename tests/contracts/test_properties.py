"""Numbers: what hypothesis draws, the package must survive and get right.

Defends: finite in, finite out; exact marginals; exact network calls; a falling SNR; conversions that undo each other; losses that agree; the drift of
float32; and errors, not surprises, for bad input. Each property is counted for `record`. CI draws the same examples every time; `--slow` draws
twenty times as many, new ones each time. EXAMPLES=n draws n, and shows the first failure as it is.
"""
import functools
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson.engine import published
from ddpm_lesson.forward import q_sample, q_step
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0, eps_loss, mean_abs, mean_square, v_loss, x_0_loss
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.posterior import (
    eps_from_v,
    eps_from_x_0,
    posterior_mean,
    posterior_var,
    v_from_eps,
    x_0_from_eps,
    x_0_from_v,
)
from ddpm_lesson.sampler import (
    ddim_coefs,
    ddim_sample,
    ddim_steps,
    ddpm_coefs,
    ddpm_sample,
    ddpm_steps,
    leading,
    quadratic,
    timesteps,
    trailing,
    walk,
)
from ddpm_lesson.schedule import (
    Schedule,
    brightness_std,
    cosine_schedule,
    diagnose,
    linear_schedule,
    rate_schedule,
    rescaled_linear_schedule,
    schedule_from_alpha_bar,
    walk_back_std,
)

DEVICES = ['cpu'] + ['cuda']*torch.cuda.is_available()
DARKEST = 1e-60   # the least alpha_bar drawn: a signal rate of 1e-30, so that float32 can still divide by it


def holds(promise, examples=40, **what):
    "A test from a property: hypothesis draws `what`, and `record` is told the promise and how many examples were run."
    def decorate(claim):
        def test(request, record):
            ran, few = 0, os.environ.get('EXAMPLES')
            @functools.wraps(claim)
            def counted(**drawn):
                nonlocal ran
                ran += 1
                claim(**drawn)
            slow = request.config.getoption('--slow')
            how = dict(max_examples=int(few or examples*(20 if slow else 1)), derandomize=not slow, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            if few: how['phases'] = [Phase.generate]
            settings(**how)(given(**what)(counted))()
            record(promise, ran)
        test.__name__, test.__doc__ = claim.__name__, claim.__doc__
        return test
    return decorate


# --- what is drawn --------------------------------------------------------------------------------

def powers(lo, hi): return st.floats(lo, hi).map(lambda p: 10.0**p)


def linear(T, beta_1, beta_T):
    "A straight line of betas, none so large that alpha_bar falls below DARKEST."
    cap = -math.expm1(math.log(DARKEST)/T)
    return linear_schedule(T, min(beta_1, cap), min(beta_T, cap))


def falling(factors):
    "The schedule whose alpha_bar falls by these factors, as far as DARKEST."
    alpha_bar = np.cumprod([1.0, *factors])
    return schedule_from_alpha_bar(alpha_bar[alpha_bar >= DARKEST])


def schedules(T=10_000):
    "Every kind of schedule, of 1 to T steps: made by the package, published, or any list that falls."
    T = st.integers(1, T)
    ends = st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)).map(sorted).filter(lambda e: e[1] - e[0] > 1e-3)
    return st.one_of(
        st.builds(linear, T, powers(-6, -0.05), powers(-6, -0.05)), st.builds(linear, T, st.just(1e-4), st.just(0.02)),
        st.builds(cosine_schedule, T, st.floats(0, 0.5)), st.builds(lambda T, e: rate_schedule(T, e[1], e[0]), T, ends),
        T.filter(lambda T: T > 20).map(rescaled_linear_schedule), T.map(published.posit_linear_schedule), T.map(published.posit_linear_fixed_schedule),
        st.lists(st.floats(1e-3, 1 - 1e-6), min_size=1, max_size=40).map(falling))


@st.composite
def walks(draw, T=10_000, S=24):
    "A schedule and the steps to visit: a count, or any falling list."
    sched = draw(schedules(T))
    counts = st.integers(1, min(S, sched.T))
    lists = st.lists(st.integers(1, sched.T), min_size=1, max_size=S, unique=True).map(lambda ts: sorted(ts, reverse=True))
    return sched, draw(st.one_of(counts, lists, counts.map(lambda n: leading(sched.T, n)), counts.map(lambda n: quadratic(sched.T, n))))


@st.composite
def at_a_step(draw, T=10_000, low=1):
    "A schedule and one of its steps, often the first or the last."
    sched = draw(schedules(T))
    return sched, draw(st.one_of(st.just(low), st.just(sched.T), st.integers(low, sched.T)))


@st.composite
def pictures(draw, n, dtypes=(torch.float64, torch.float32)):
    "n batches of one shape: single numbers, rows, odd sides, batch 1; from zeros to thousands of times too large."
    shape = draw(st.sampled_from([(1,), (3,), (1, 1), (2, 5), (1, 3, 7, 5), (2, 1, 1, 1), (3, 2, 3)]))
    scale, seed, dtype = draw(st.sampled_from([1.0, 1.0, 0.0, 1e-4, 1e4])), draw(st.integers(0, 99)), draw(st.sampled_from(dtypes))
    return [(scale*normal(*shape, seed=seed + 100*i)).to(dtype) for i in range(n)]


def samplers(): return st.one_of(st.floats(0, 1).map(lambda e: (ddim_steps, dict(eta=e))), st.sampled_from([0.0, 1.0]).map(lambda e: (ddim_steps, dict(eta=e))),
                                 st.sampled_from(['small', 'large']).map(lambda v: (ddpm_steps, dict(var=v))))


def bounded(x): return x.abs().max().item() if x.numel() else 0.0


# --- schedule, chain, posterior -------------------------------------------------------------------

@holds('the signal-to-noise ratio falls at every step, for any schedule', sched=schedules())
def test_snr_falls_and_every_table_is_finite(sched):
    assert sched.alpha_bar[0] == 1 and (sched.alpha_bar > 0).all() and (sched.alpha_bar.diff() < 0).all()
    assert (sched.snr.diff()[1:] < 0).all() and (sched.log_snr.diff()[1:] < 0).all() and sched.snr[0] == sched.log_snr[0] == math.inf
    for table in sched.beta, sched.alpha, sched.alpha_bar, sched.signal_rate, sched.noise_rate, sched.snr[1:], sched.log_snr[1:]: assert table.dtype == torch.float64 and table.isfinite().all()
    assert_close(sched.signal_rate**2 + sched.noise_rate**2, torch.ones_like(sched.beta), rtol=1e-14, atol=0)
    assert_close((sched.signal_rate[1:]/sched.noise_rate[1:])**2, sched.snr[1:], rtol=1e-12, atol=0)
    assert_close(sched.log_snr[1:].exp(), sched.snr[1:], rtol=1e-12, atol=0)


@holds('the chain, step by step, and the jump at once have one mean and one variance', sched=schedules(80))
def test_chain_is_the_closed_form(sched):
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)   # the weight of x_0, and the variance of the noise
    for t in range(1, sched.T + 1):
        mean, one = q_step(sched, torch.tensor([1.0, 0.0], dtype=torch.float64), t, torch.tensor([0.0, 1.0], dtype=torch.float64))
        x = torch.stack([mean*x[0], mean**2*x[1] + one**2])
        closed = q_sample(sched, torch.tensor([1.0, 0.0], dtype=torch.float64), t, torch.tensor([0.0, 1.0], dtype=torch.float64))
        assert_close(torch.stack([closed[0], closed[1]**2]), x, rtol=1e-9, atol=1e-300)


@holds('the posterior is what multiplying two Gaussians gives', case=at_a_step())
def test_posterior_is_precision_algebra(case):
    sched, t = case
    a_t, a_s = sched.alpha_bar[t].item(), sched.alpha_bar[t - 1].item()
    var = posterior_var(sched, t)
    # from x_t and x_0 back to the marginal: q(x_s | x_0) = integral of q(x_s | x_t, x_0) q(x_t | x_0)
    x_t, x_0 = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    c_t, c_0 = posterior_mean(sched, x_t, x_0, t).tolist()
    assert math.isclose(c_t*a_t**0.5 + c_0, a_s**0.5, rel_tol=1e-9)
    assert math.isclose(c_t**2*(1 - a_t) + var.item(), 1 - a_s, rel_tol=1e-8, abs_tol=1e-15)
    if t == 1: assert var == 0 and c_t == 0 and math.isclose(c_0, 1, rel_tol=1e-9)
    else:
        beta, left = sched.beta[t].item(), 1 - a_s
        assert math.isclose(1/var.item(), (1 - beta)/beta + 1/left, rel_tol=1e-8)
        assert math.isclose(c_t, var.item()*(1 - beta)**0.5/beta, rel_tol=1e-8) and math.isclose(c_0, var.item()*a_s**0.5/left, rel_tol=1e-8)


# --- conversions, losses, wrappers ----------------------------------------------------------------

@holds('noise, clean image and velocity turn into each other and back', case=at_a_step(), pair=pictures(2))
def test_conversions_undo_each_other(case, pair):
    (sched, t), (x_0, eps) = case, pair
    signal, noise = sched.signal_rate[t].item(), sched.noise_rate[t].item()
    x_t, v = q_sample(sched, x_0, t, eps), v_from_eps(sched, x_0, eps, t)
    round_off = 16*torch.finfo(x_0.dtype).eps*(bounded(x_0) + bounded(eps))
    for back, there, condition in ((eps_from_v(sched, x_t, v, t), eps, 1), (x_0_from_v(sched, x_t, v, t), x_0, 1),
                                   (eps_from_x_0(sched, x_t, x_0, t), eps, noise), (x_0_from_eps(sched, x_t, eps, t), x_0, signal)):
        assert_close(back, there, rtol=0, atol=round_off/condition)   # what dividing by a small rate costs, and no more


@holds('finite numbers in, finite numbers out, in the dtype and shape that came', case=at_a_step(), pair=pictures(2, (torch.float64, torch.float32, torch.bfloat16)), each=st.booleans(), device=st.sampled_from(DEVICES))
def test_formulas_keep_dtype_shape_and_are_finite(case, pair, each, device):
    (sched, t), (a, b) = case, [x.to(device) for x in pair]
    if each: t = torch.full((len(a),), t, device=device)
    for y in (q_sample(sched, a, t, b), q_step(sched, a, t, b), posterior_mean(sched, a, b, t), x_0_from_eps(sched, a, b, t), eps_from_x_0(sched, a, b, t), v_from_eps(sched, a, b, t),
              eps_from_v(sched, a, b, t), x_0_from_v(sched, a, b, t), *(wrap(Stub().to(device), sched)(a, t).detach() for wrap in (PredictsEps, PredictsX0, PredictsV))):
        assert y.dtype == a.dtype and y.shape == a.shape and y.device == a.device and y.isfinite().all()


@holds('four losses are one, under the weights that the lessons derive', case=at_a_step(), triple=pictures(3, (torch.float64,)))
def test_losses_are_one_loss_under_known_weights(case, triple):
    (sched, t), (x_0, eps, eps_hat) = case, triple
    assume(sched.alpha_bar[t] > 1e-12)   # beyond that, float64 itself has no digits left of x_0 in x_t
    says = dict(eps=lambda x, t: eps_hat, x_0=lambda x, t: x_0_from_eps(sched, x, eps_hat, t), v=lambda x, t: v_from_eps(sched, x_0_from_eps(sched, x, eps_hat, t), eps_hat, t))
    of_eps = eps_loss(says['eps'], sched, x_0, t, eps)
    snr, a = sched.snr[t], sched.alpha_bar[t]
    close = dict(rtol=1e-6, atol=1e-18*(bounded(x_0) + bounded(eps))**2/a.item())
    assert of_eps.shape == (len(x_0),) and of_eps.dtype == torch.float64
    assert_close(of_eps, ((eps_hat - eps)**2).reshape(len(eps), -1).mean(1), rtol=1e-12, atol=0)
    assert_close(x_0_loss(says['x_0'], sched, x_0, t, eps), of_eps/snr, **close)
    assert_close(v_loss(says['v'], sched, x_0, t, eps), of_eps/a, **close)
    of_image = x_0_loss(says['x_0'], sched, x_0, t, eps, distance=mean_abs)
    assert_close(of_image, eps_loss(says['eps'], sched, x_0, t, eps, distance=mean_abs)/snr.sqrt(), **(close | dict(atol=close['atol']**0.5)))


@holds('a network that predicts the clean image or the velocity becomes a right model, from the first step to the last', case=at_a_step(), pair=pictures(2))
def test_wrappers_are_right_from_step_1_to_T(case, pair):
    (sched, t), (x_0, eps) = case, pair
    noise = sched.noise_rate[t].item()
    x_t, v = q_sample(sched, x_0, t, eps), v_from_eps(sched, x_0, eps, t)
    round_off = 16*torch.finfo(x_0.dtype).eps*(bounded(x_0) + bounded(eps))
    if x_0.dtype == torch.float64: round_off *= 64   # their tables are two float32 numbers: 48 bits
    each = torch.full((len(x_0),), t)
    for wrapped, condition in (PredictsEps(lambda x, t: eps, sched), 1), (PredictsX0(lambda x, t: x_0, sched), noise), (PredictsV(lambda x, t: v, sched), 1):
        assert_close(wrapped(x_t, each), eps, rtol=0, atol=round_off/condition)
        assert torch.equal(wrapped(x_t, t), wrapped(x_t, each))


@holds('losses and models stay finite, and losses float32, when the network runs in bfloat16', 30, case=at_a_step(1000), seed=st.integers(0, 99), side=st.sampled_from([1, 3, 5]), device=st.sampled_from(DEVICES))
def test_a_network_under_autocast(case, seed, side, device):
    (sched, t), (x_0, eps) = case, [normal(2, 1, side, side, seed=seed + k, dtype=torch.float32).to(device) for k in (0, 100)]
    assume(sched.alpha_bar[t] > 1e-30)   # the loss on the image divides by alpha_bar: float32 ends at 1e38
    conv = torch.nn.Conv2d(1, 1, 3, padding=1).to(device)
    def net(x, t):
        with torch.autocast(device, dtype=torch.bfloat16): return conv(x)
    assert net(x_0, t).dtype == torch.bfloat16
    for loss in eps_loss, x_0_loss, v_loss:
        for distance in mean_square, mean_abs:
            y = loss(net, sched, x_0, t, eps, distance=distance)
            assert y.dtype == torch.float32 and y.isfinite().all() and y.requires_grad
    for wrap in PredictsEps, PredictsX0, PredictsV:
        for _, x_t, x_0_hat in ddim_steps(wrap(net, sched), sched, x_0.shape, steps=min(sched.T, 5), clip=(-1, 1), seeds=[1, 2], device=device):
            assert x_t.dtype == x_0_hat.dtype == torch.float32 and x_t.isfinite().all() and x_0_hat.isfinite().all()


# --- samplers -------------------------------------------------------------------------------------

@holds('with the true noise every sampling step keeps the marginal of a known image exactly', way=walks(), sampler=samplers(), x_0=st.floats(-3, 3))
def test_every_step_keeps_the_marginal_in_the_real_loop(way, sampler, x_0):
    "Row 0 holds the mean. Row k holds the weight of the k-th independent draw: their squares must add up to the variance, 1 - alpha_bar_s."
    sched, ts = way[0], timesteps(way[0].T, way[1])
    coefs = ddim_coefs(sched, ts, sampler[1]['eta']) if 'eta' in sampler[1] else ddpm_coefs(sched, ts, 'small')
    units = iter(torch.eye(len(ts) + 2, dtype=torch.float64)[1:])
    image = torch.eye(len(ts) + 2, dtype=torch.float64)[0]*x_0
    model = lambda x_t, t: (x_t - sched.signal_rate[t]*image)/sched.noise_rate[t]
    x_T = sched.signal_rate[ts[0]]*image + sched.noise_rate[ts[0]]*next(units)
    seen = [(t, x_t, x_0_hat) for t, x_t, x_0_hat in walk(model, sched, x_T, ts, coefs, lambda: next(units))]
    assert [t for t, _, _ in seen] == [*ts, 0]
    for t, x_t, x_0_hat in seen:
        digits = 1e-12*(1 + abs(x_0))/sched.signal_rate[ts[0]].item()
        assert abs(x_t[0].item() - sched.signal_rate[t].item()*x_0) < 1e-9 + digits
        assert math.isclose(x_t[1:].square().sum().item(), 1 - sched.alpha_bar[t].item(), rel_tol=1e-7, abs_tol=1e-9 + digits**2)
        assert (x_0_hat - image).abs().max() < 1e-9 + digits


@holds('a sampler calls the network exactly once for each step it was asked for', way=walks(), sampler=samplers(), clip=st.sampled_from([None, (-1, 1)]), batch=st.integers(1, 3))
def test_network_calls_are_exact(way, sampler, clip, batch):
    (sched, steps), (run, options), stub = way, sampler, Stub()
    ts = timesteps(sched.T, steps)
    assert len(ts) == (steps if isinstance(steps, int) else len(steps)) and sorted(set(ts), reverse=True) == ts and 1 <= ts[-1] <= ts[0] <= sched.T
    seen = [t for t, _, _ in run(stub, sched, (batch, 2), steps=steps, clip=clip, seeds=range(batch), **options)]
    assert seen == ts + [0] and stub.calls == [[t]*batch for t in ts]


@holds('a sampler gives finite numbers for any schedule, steps, eta, variance, clip and shape', way=walks(), sampler=samplers(), x_T=pictures(1), clip=st.sampled_from([None, None, (-1, 1), (0.0, 1e-3), (-1e6, 1e6)]), device=st.sampled_from(DEVICES))
def test_samples_are_finite(way, sampler, x_T, clip, device):
    (sched, steps), (run, options), x_T = way, sampler, x_T[0]
    for t, x_t, x_0_hat in run(Stub().to(device), sched, x_T.shape, steps=steps, clip=clip, x_T=x_T.to(device), seeds=range(len(x_T)), device=device, **options):
        for y in x_t, x_0_hat: assert y.shape == x_T.shape and y.dtype == x_T.dtype and y.device.type == device and y.isfinite().all()
        if clip and t: assert clip[0] - 1e-6 <= x_0_hat.min() and x_0_hat.max() <= clip[1] + 1e-6
    alone = {ddim_steps: ddim_sample, ddpm_steps: ddpm_sample}[run](Stub().to(device), sched, x_T.shape, steps=steps, clip=clip, x_T=x_T.to(device), seeds=range(len(x_T)), device=device, **options)
    assert torch.equal(alone, x_t)


@holds('a network that predicts the clean image ends at that image', 30, way=walks(S=8), sampler=samplers(), image=st.floats(-1, 1))
def test_a_known_image_comes_back_through_the_wrapper(way, sampler, image):
    (sched, steps), (run, options) = way, sampler
    *_, (_, x, _) = run(PredictsX0(lambda x, t: torch.full_like(x, image), sched), sched, (2, 3), steps=steps, x_T=normal(2, 3), **options)
    lost = 1e-9/sched.signal_rate[timesteps(sched.T, steps)[0]].item()
    assert lost > 1 or (x - image).abs().max() < 1e-6 + lost


@holds('what DDIM and DDPM make of Gaussian data over all steps is what the schedule clinic says', 30, sched=schedules(60), std=st.floats(0.05, 30), eta=st.sampled_from([0.0, 0.5, 1.0]))
def test_walk_back_std_is_the_sampler(sched, std, eta):
    ts, (direction, sigma) = list(range(sched.T, 0, -1)), ddim_coefs(sched, list(range(sched.T, 0, -1)), eta)
    var = 1.0
    for i, t in enumerate(ts):
        a, s = sched.alpha_bar[t].item(), sched.alpha_bar[t - 1].item()
        v = a*std**2 + 1 - a
        var = var*(s**0.5*a**0.5*std**2/v + direction[i].item()*(1 - a)**0.5/v)**2 + sigma[i].item()**2
    assert math.isclose(walk_back_std(sched, std, eta), var**0.5, rel_tol=1e-9)


# --- the drift of float32 -------------------------------------------------------------------------

ROUND_OFF, DIVISION = 1e-5, 2e-7   # float32 may move an image by ROUND_OFF + DIVISION/(signal rate where it starts), as a share of its largest number


def drift(model, sched, steps, eta):
    "How far the same run in float32 ends from float64, as a share of the largest number."
    x_T = normal(4, 12)
    exact, rounded = (ddim_sample(model, sched, (4, 12), steps=steps, eta=eta, x_T=x, seeds=range(4)) for x in (x_T, x_T.float()))
    assert (exact.dtype, rounded.dtype) == (torch.float64, torch.float32)
    return ((exact - rounded).abs().max()/exact.abs().max()).item()


def test_float32_stays_near_float64(record, request, capsys):
    "Whole runs, measured; what was found is printed. Starting where the signal rate is 5e-5 and leaping to the end at once costs 2e-3; 50 steps cost 6e-6."
    slow, found, bound = request.config.getoption('--slow'), {}, {}
    for T in [1, 10, 100, 1000, 10_000] if slow else [10, 1000]:
        for name, sched in dict(linear=rescaled_linear_schedule(T) if T > 1000 else linear_schedule(T), cosine=cosine_schedule(T), rate=rate_schedule(T)).items():
            models = dict(exact=GaussianMixture([0.3, 0.7], normal(2, 12), 0.2, sched), network=Stub())
            runs = [(k, S, eta) for k in models for S in (1, 2, 10, 50) if S <= T for eta in (0.0, 0.5, 1.0)] + [('network', T, 0.0)]*(slow or name == 'linear')
            for k, S, eta in runs: found[k, name, T, S, eta] = drift(models[k], sched, S, eta)
            bound |= {key: ROUND_OFF + DIVISION/sched.signal_rate[-1].item() for key in found if key[1:3] == (name, T)}
    many = max((key for key in found if key[3] >= 50), key=found.get)
    worst = max(found, key=lambda key: found[key]/bound[key])
    with capsys.disabled():
        print(f'\nfloat32 against float64, {len(found)} sampling runs. Nearest to its bound: {found[worst]:.1e} of {bound[worst]:.1e} at {worst}. '
              f'Largest at 50 steps or more: {found[many]:.1e} at {many}')
    record(f'float32 moves a sampled image by at most {ROUND_OFF:g} of its largest number, plus {DIVISION:g} divided by the signal rate it starts from', len(found), sum(d > bound[key] for key, d in found.items()))
    assert found[worst] <= bound[worst]
    if not slow: assert found[many] <= ROUND_OFF   # with 50 steps, even where the signal rate is 5e-5


# --- bad input ------------------------------------------------------------------------------------

@pytest.mark.parametrize('make', [lambda: Schedule([0, 0.5, 1.0]), lambda: schedule_from_alpha_bar([1, 0.5, 0.0]), lambda: schedule_from_alpha_bar([1, 0.5, 0.0], beta_max=1.0),
                                  lambda: schedule_from_alpha_bar([1, 0.5, -0.1]), lambda: rate_schedule(min_signal=0.0)])
def test_a_schedule_that_ends_without_signal_is_refused(make):
    "Zero terminal SNR: eps = x_T there, so a network that predicts eps says nothing about the image, and x_0 would be divided by 0."
    with pytest.raises(ValueError, match='nothing of the image is left|0 < min_signal'): make()


TEN, ZEROS = linear_schedule(10), torch.zeros(2, 3)
def half(x, t): return x*0.5

CALLS = {   # a call that works, and its arguments: each is exchanged for something else
    linear_schedule: dict(T=10, beta_1=1e-4, beta_T=0.02), cosine_schedule: dict(T=10, s=0.008), rate_schedule: dict(T=10, max_signal=0.95, min_signal=0.02),
    rescaled_linear_schedule: dict(T=100, beta_1=1e-4, beta_T=0.02), Schedule: dict(beta=[0, 0.1]), schedule_from_alpha_bar: dict(alpha_bar=[1, 0.5], beta_max=0.999),
    brightness_std: dict(pixels=3, spread=0.5), diagnose: dict(sched=TEN, pixels=12), trailing: dict(T=10, S=3), leading: dict(T=10, S=3), quadratic: dict(T=10, S=3), timesteps: dict(T=10, steps=3),
    q_step: dict(sched=TEN, x_s=ZEROS, t=1, eps=ZEROS), q_sample: dict(sched=TEN, x_0=ZEROS, t=1, eps=ZEROS), posterior_var: dict(sched=TEN, t=1), posterior_mean: dict(sched=TEN, x_t=ZEROS, x_0=ZEROS, t=1),
    x_0_from_eps: dict(sched=TEN, x_t=ZEROS, eps=ZEROS, t=1), eps_from_x_0: dict(sched=TEN, x_t=ZEROS, x_0=ZEROS, t=1), v_from_eps: dict(sched=TEN, x_0=ZEROS, eps=ZEROS, t=1),
    eps_from_v: dict(sched=TEN, x_t=ZEROS, v=ZEROS, t=1), x_0_from_v: dict(sched=TEN, x_t=ZEROS, v=ZEROS, t=1),
    ddim_sample: dict(model=half, sched=TEN, shape=(2, 3), steps=3, eta=0.5, clip=(-1, 1), x_T=None, seeds=None), ddpm_sample: dict(model=half, sched=TEN, shape=(2, 3), steps=3, var='small', clip=(-1, 1), x_T=None, seeds=None),
    **{loss: dict(net=half, sched=TEN, x_0=ZEROS, t=1, eps=ZEROS) for loss in (eps_loss, x_0_loss, v_loss)},
    **{wrap(half, TEN): dict(x_t=ZEROS, t=1) for wrap in (PredictsEps, PredictsX0, PredictsV)},
}
PLACES = [(f, name) for f, arguments in CALLS.items() for name in arguments if name not in ('sched', 'model', 'net')]
NUMBERS = st.one_of(st.integers(-9, 3000), st.sampled_from([2**63, 10**30, -10**30]), st.floats(), st.booleans(), st.complex_numbers())
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64])
TENSORS = st.builds(lambda shape, dtype, fill: torch.full(shape, fill).to(dtype), st.lists(st.integers(0, 3), max_size=3).map(tuple) | st.just((2, 3)), DTYPES, st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.5]))
ANYTHING = st.one_of(NUMBERS, st.none(), st.text(max_size=3), st.binary(max_size=2), st.lists(NUMBERS | st.none() | st.text(max_size=1), max_size=4), st.lists(st.integers(-2, 12), max_size=4),
                     TENSORS, TENSORS.filter(lambda x: x.dtype != torch.bfloat16).map(lambda x: x.numpy()), st.sampled_from([{}, {'a': 1}, set(), object(), half, range(3, 0, -1), np.float32(2.5), np.array(['a'])]))


def numbers_of(y):
    "All the numbers in what a call returned."
    if isinstance(y, Schedule): return torch.cat([y.beta, y.alpha_bar, y.signal_rate])
    if isinstance(y, torch.Tensor): return y
    return torch.tensor([float(n) for n in (y if isinstance(y, (list, tuple)) else [y]) if not isinstance(n, str)])


@pytest.mark.filterwarnings('ignore')
@holds('an argument of any kind is used, or refused by a ValueError or TypeError; nothing else, and never NaN', 400, place=st.sampled_from(PLACES), anything=ANYTHING)
def test_bad_input_is_refused_and_never_nan(place, anything):
    f, name = place
    try: y = f(**(CALLS[f] | {name: anything}))
    except (ValueError, TypeError) as refused: assert str(refused)
    else: assert f is diagnose or numbers_of(y).isfinite().all()
