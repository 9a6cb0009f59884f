"Solvers: exact laws, orders, calls, seeds, other people's schedulers, and what is refused."
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.sampler import ddim_sample, timesteps, trailing
from ddpm_lesson.schedule import cosine_schedule, linear_schedule
from ddpm_lesson.solvers import (
    dpm_single_sample,
    dpm_single_steps,
    dpm_solver_sample,
    dpm_solver_steps,
    heun_plan,
    heun_sample,
    heun_steps,
    karras,
    multistep_plan,
    raised,
    single_step_plan,
    uniform_lambda,
)

LINEAR, COSINE = linear_schedule(), cosine_schedule()
SAMPLERS = {'2M': dpm_solver_sample, '2S': dpm_single_sample, 'Heun': heun_sample}
TWINS = {'2M': dpm_solver_steps, '2S': dpm_single_steps, 'Heun': heun_steps}
LISTS = [1, 2, 3, 4, 7, 50, [1000, 3], [900, 500, 499, 1], [1], range(31, 1, -3)]


def listed(sched, steps):
    "The case cut to what this schedule has."
    if isinstance(steps, int): return timesteps(sched.T, min(steps, sched.T))
    return [t for t in steps if t <= sched.T] or [sched.T]


def rates(sched, t): return (x[t].item() for x in (sched.signal_rate, sched.noise_rate))


def lam(sched, t): return sched.log_snr[t].item()/2


# --- the definitions, each written once more, as the papers write them ---------------------------

def first(sched, x, D, t, s):
    "The exponential integrator of Lu et al. 2022 with a constant estimate."
    (_, b_t), (a_s, b_s) = rates(sched, t), rates(sched, s)
    h = lam(sched, s) - lam(sched, t)
    return b_s/b_t*x - a_s*math.expm1(-h)*D


def estimated(model, sched, clip):
    def estimate(x, t):
        a, b = rates(sched, t)
        x_0_hat = (x - b*model(x, torch.full((len(x),), t)))/a
        return x_0_hat if clip is None else x_0_hat.clamp(*clip)
    return estimate


def naive_2m(model, sched, x, ts, clip=None):
    estimate, before = estimated(model, sched, clip), None
    for t, s in zip(ts, [*ts[1:], 0]):
        x_0_hat = D = estimate(x, t)
        if before and s:
            r = (lam(sched, t) - lam(sched, before[0]))/(lam(sched, s) - lam(sched, t))
            D = (1 + 1/(2*r))*x_0_hat - 1/(2*r)*before[1]
        x, before = first(sched, x, D, t, s), (t, x_0_hat)
    return x


def naive_2s(model, sched, x, ts, clip=None):
    estimate, ts = estimated(model, sched, clip), [*ts]
    while ts:
        x_0_hat = estimate(x, ts[0])
        if len(ts) < 3:
            x, ts = first(sched, x, x_0_hat, ts[0], (ts + [0])[1]), ts[1:]
            continue
        t, u, s = ts[:3]
        r = (lam(sched, u) - lam(sched, t))/(lam(sched, s) - lam(sched, t))
        ahead = estimate(first(sched, x, x_0_hat, t, u), u)
        x, ts = first(sched, x, (1 - 1/(2*r))*x_0_hat + 1/(2*r)*ahead, t, s), ts[2:]
    return x


def naive_heun(model, sched, x, ts, clip=None):
    "EDM's Algorithm 1 in its own letters: x/signal_rate, sigma = noise_rate/signal_rate, d = (x - D)/sigma."
    estimate = estimated(model, sched, clip)
    sigma = lambda t: math.exp(-lam(sched, t))
    x = x/sched.signal_rate[ts[0]].item()
    slope = lambda x, t: (x - estimate(x*sched.signal_rate[t].item(), t))/sigma(t)
    for t, s in zip(ts, [*ts[1:], 0]):
        d = slope(x, t)
        ahead = x + (sigma(s) - sigma(t))*d
        x = x + (sigma(s) - sigma(t))*(d + slope(ahead, s))/2 if s else ahead
    return x


NAIVE = {'2M': naive_2m, '2S': naive_2s, 'Heun': naive_heun}


@pytest.mark.parametrize('clip', [None, (-0.8, 1.1)], ids=['free', 'clamped'])
@pytest.mark.parametrize('name', SAMPLERS)
def test_a_sampler_is_the_papers_algorithm(sched, name, clip):
    "Rejects a wrong factor in any row of a plan, a slope at the last step, the clamp put on x_t or left out at one call."
    x_T = normal(3, 2, 3, 4)
    for steps in LISTS:
        ts = listed(sched, steps)
        got = SAMPLERS[name](Stub(), sched, x_T.shape, steps=ts, x_T=x_T, clip=clip)
        want = NAIVE[name](Stub(), sched, x_T, ts, clip)
        # where the signal is 5e-5 of x_T, EDM's letters are large and lose digits
        assert_close(got, want, rtol=1e-7, atol=1e-8*max(1, want.abs().max().item()))


def test_gaussian_data_follow_an_independent_recursion():
    "Rejects any program that is not 2M: for N(m, S^2) the state is two numbers, in any float32 image too."
    m, S = 0.3, 0.5
    world = GaussianMixture([1.], torch.full((1, 1, 2, 2), m), S, LINEAR)
    x_T = normal(5, 1, 2, 2, dtype=torch.float32)
    for steps in range(5, 51):
        x, before, rho, ts = x_T.double().numpy(), None, 0., trailing(1000, steps)
        for t, s in zip(ts, ts[1:] + [0]):
            (a, b), (a_s, b_s) = rates(LINEAR, t), rates(LINEAR, s)
            now = D = m + a*S*S/(a*a*S*S + b*b)*(x - a*m)
            if before is not None and s: D = now + (now - before)*math.log(a_s*b/(a*b_s))/math.log(a/b*rho)/2
            x, before, rho = b_s/b*x + (a_s - a*b_s/b)*D, now, b/a
        got = dpm_solver_sample(world, LINEAR, x_T.shape, steps=steps, x_T=x_T)
        assert_close(got.double(), torch.from_numpy(np.asarray(x)), rtol=0, atol=1e-5)


def test_first_order_is_ddim():
    "Rejects another first-order step: with one or two levels there is nothing to remember, and 2M is DDIM."
    x_T = normal(2, 3, 4)
    for steps in ([1000], [400, 2], [7, 1], [1]):
        want = ddim_sample(Stub(), COSINE, x_T.shape, steps=steps, x_T=x_T)
        for sample in (dpm_solver_sample, dpm_single_sample):
            assert_close(sample(Stub(), COSINE, x_T.shape, steps=steps, x_T=x_T), want, rtol=1e-9, atol=1e-9)
    assert_close(heun_sample(Stub(), COSINE, x_T.shape, steps=[700], x_T=x_T),
                 ddim_sample(Stub(), COSINE, x_T.shape, steps=[700], x_T=x_T), rtol=1e-9, atol=1e-9)


# --- order of convergence ------------------------------------------------------------------------

FINE = linear_schedule(20_000, 5e-6, 1e-3)     # the linear schedule, 20 times as many levels
STD_0, STOP = 0.5, 400                         # down to a fixed t > 0


def reached(plan, sched, std_0, stop):
    "The point of the plan that lies at level `stop`, for data N(0, std_0^2) from x = 1; found by the walk itself."
    u = began = 1/sched.noise_rate[plan.ts[0]].item()
    before = 0.0
    for i, t in enumerate(plan.ts):
        a, b = rates(sched, t)
        if t == stop and u == began: return u*b
        x = u*b
        eps = b*x/(a*a*std_0**2 + b*b)
        p = u - eps
        u, before = began + p*plan.new[i] + before*plan.old[i], p
        if plan.arrives[i]: began = u


def levels_down_to(sched, S, stop):
    "S steps from T to `stop`, even in lambda, then one level more for the solver's last step."
    table = sched.log_snr/2
    wanted = torch.linspace(table[-1].item(), table[stop].item(), S + 1, dtype=torch.float64)
    return [(table[1:] - w).abs().argmin().item() + 1 for w in wanted]


@pytest.mark.parametrize('plan', [multistep_plan, single_step_plan, heun_plan])
@pytest.mark.parametrize('kind', [iter, tuple, torch.tensor, lambda ts: torch.tensor(ts).numpy()], ids=['iterator', 'tuple', 'torch', 'numpy'])
def test_a_plan_reads_its_steps_once(plan, kind):
    "Rejects a plan without steps: an iterator that was looked at is empty."
    assert repr(plan(FINE, kind([700, 90, 8, 1]))) == repr(plan(FINE, [700, 90, 8, 1]))


@pytest.mark.parametrize('name, order', [('2M', 2), ('2S', 2), ('Heun', 2)])
def test_order_of_convergence(name, order):
    "Rejects a solver of first order: twice the steps must leave a quarter of the error."
    plan = {'2M': multistep_plan, '2S': single_step_plan, 'Heun': heun_plan}[name]
    std = lambda t: math.sqrt(FINE.alpha_bar[t].item()*(STD_0**2 - 1) + 1)
    errors = []
    for S in (32, 64, 128):
        ts = levels_down_to(FINE, S, STOP)
        assert ts[-1] == STOP and len(set(ts)) == S + 1
        ts += [STOP//4, 1]
        errors.append(abs(reached(plan(FINE, ts), FINE, STD_0, STOP) - std(STOP)/std(FINE.T)))
    measured = math.log2(errors[-2]/errors[-1])
    assert abs(measured - order) < 0.25, (name, errors)


# --- contract ------------------------------------------------------------------------------------

@pytest.mark.parametrize('name, calls', [('2M', lambda S: S), ('2S', lambda S: S), ('Heun', lambda S: 2*S - 1)])
def test_calls_are_counted(name, calls):
    "Rejects a solver that asks once too often, at the end or at its first step."
    for steps in LISTS:
        ts, stub = listed(LINEAR, steps), Stub()
        SAMPLERS[name](stub, LINEAR, (2, 3), steps=ts, x_T=normal(2, 3))
        asked = [t[0] for t in stub.calls]
        assert len(asked) == calls(len(ts)) and not any(stub.modes)
        want = ts if name != 'Heun' else [t for pair in zip(ts, ts[1:]) for t in pair] + ts[-1:]
        assert asked == want


@pytest.mark.parametrize('name', SAMPLERS)
def test_an_image_depends_on_its_own_seed(name):
    "Rejects noise drawn for the batch as a whole, and churn from the global generator."
    more = {'churn': 3.0} if name == 'Heun' else {}
    world = GaussianMixture([1., 2.], normal(2, 2, 3, dtype=torch.float32), 0.3, LINEAR)
    before = torch.get_rng_state()
    both = SAMPLERS[name](world, LINEAR, (3, 2, 3), steps=6, seeds=[5, 6, 7], **more)
    alone = SAMPLERS[name](world, LINEAR, (1, 2, 3), steps=6, seeds=[6], **more)
    assert torch.equal(torch.get_rng_state(), before) and both.dtype == torch.float32
    assert_close(both[1:2], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('name', SAMPLERS)
@pytest.mark.parametrize('clip', [None, (-1, 1)], ids=['free', 'clamped'])
def test_twin_ends_where_the_sampler_does(name, clip):
    "Rejects a twin with its own arithmetic, one that hands out its own memory, and estimates that do not belong to x_t."
    x_T, model = normal(2, 3), Stub()
    want = SAMPLERS[name](model, LINEAR, (2, 3), steps=5, x_T=x_T, clip=clip)
    seen = []
    for t, x_t, x_0_hat in TWINS[name](model, LINEAR, (2, 3), steps=5, x_T=x_T, clip=clip):
        seen.append(t)
        if t:
            own = (x_t - LINEAR.noise_rate[t]*model(x_t, torch.full((2,), t)))/LINEAR.signal_rate[t]
            assert_close(x_0_hat, own.detach() if clip is None else own.detach().clamp(*clip), rtol=1e-9, atol=1e-12)
            x_t.zero_()
        got = x_t
    assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert seen == (trailing(1000, 5)[::2] if name == '2S' else trailing(1000, 5)) + [0]


@pytest.mark.parametrize('name', SAMPLERS)
def test_a_model_may_change_what_it_is_given(name):
    "Rejects a loop that uses x_t after the model has seen it."
    def rude(x_t, t): return x_t.mul_(0.5)
    def polite(x_t, t): return x_t*0.5
    x_T = normal(2, 3)
    assert_close(*(SAMPLERS[name](m, LINEAR, (2, 3), steps=5, x_T=x_T) for m in (rude, polite)), rtol=0, atol=0)


@pytest.mark.parametrize('name', SAMPLERS)
def test_what_is_refused(name):
    "Rejects a sampler with its own, weaker checks, and a clamp that hides a network which answers infinity."
    sample = SAMPLERS[name]
    for error, words, more in [
        (ValueError, '1..1000', dict(steps=0)), (ValueError, 'falling', dict(steps=[5, 5])), (ValueError, '1..1000', dict(steps=[1001, 5])),
        (ValueError, 'lo < hi', dict(clip=(1, -1))), (ValueError, 'x_T wanted shape', dict(x_T=normal(3, 3))),
        (ValueError, 'seeds wanted', dict(seeds=[1])), (TypeError, 'floating', dict(x_T=torch.zeros(2, 3, dtype=torch.int64))),
    ]:
        with pytest.raises(error, match=words): sample(Stub(), LINEAR, (2, 3), **more)
    for clip, answer in product((None, (-1, 1)), (math.nan, math.inf)):   # a clamp makes numbers of infinities
        with pytest.raises(ValueError, match='NaN'): sample(lambda x_t, t: x_t*answer, LINEAR, (2, 3), steps=4, clip=clip)
    with pytest.raises(TypeError, match='exchanged'): sample(LINEAR, Stub(), (2, 3))


@pytest.mark.parametrize('churn, error', [(-1, ValueError), (float('nan'), ValueError), (math.inf, ValueError), ('much', TypeError)])
def test_churn_is_a_number(churn, error):
    "Rejects churn that would go down, or without end."
    with pytest.raises(error, match='churn wanted'): heun_sample(Stub(), LINEAR, (2, 3), steps=4, churn=churn)


# --- churn ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('churn', [0.5, 4., 100.])
def test_churn_keeps_the_law_of_the_chain(sched, churn):
    "Rejects fresh noise of another size: lifting x_t must give the law of x at the higher level."
    x_0, S = 0.7, min(sched.T, 9)
    ts = trailing(sched.T, S)
    plan, up = heun_plan(sched, ts, churn), raised(sched, ts, churn)
    for i, (t, high) in enumerate(zip(ts, up)):
        lift, fresh = plan.lift[2*i], plan.fresh[2*i]   # of u = x/noise_rate
        assert high >= t and plan.ts[2*i] == high and (high == t) == (fresh == 0)
        assert math.isclose(lift*math.exp(lam(sched, t))*x_0, math.exp(lam(sched, high))*x_0, rel_tol=1e-9)
        assert math.isclose(lift**2 + fresh**2, 1, rel_tol=1e-9)
    assert raised(sched, ts, 0) == ts


def test_churn_goes_as_far_as_edm_says():
    "Rejects another gamma: S_churn over the number of steps, at most sqrt(2) - 1, to the nearest level."
    ts = trailing(1000, 10)[1:]
    for churn, gamma in ((2.7, 0.3), (1e9, 2**0.5 - 1)):
        for t, up in zip(ts, raised(LINEAR, ts, churn)):
            if up == 1000: continue
            off = abs(lam(LINEAR, t) - math.log1p(gamma) - lam(LINEAR, up))
            assert off <= min(abs(lam(LINEAR, t) - math.log1p(gamma) - lam(LINEAR, k)) for k in (up - 1, up + 1))


# --- spacings ------------------------------------------------------------------------------------

@pytest.mark.parametrize('spread', [uniform_lambda, karras])
def test_spacings_give_distinct_falling_steps(sched, spread):
    "Rejects rounding that repeats a step, leaves the table, or does not begin at T."
    for S in {1, min(2, sched.T), min(3, sched.T), sched.T//3 or 1, sched.T}:
        ts = spread(sched, S)
        assert timesteps(sched.T, ts) == ts and len(ts) == S and ts[0] == sched.T
    for S in (0, sched.T + 1):
        with pytest.raises(ValueError, match='steps wanted'): spread(sched, S)
    with pytest.raises(TypeError, match='Schedule'): spread(1000, 5)


def test_spacings_are_even_where_they_say_so():
    "Rejects even steps in another quantity: the levels' own measure must be even up to half a gap of the table."
    rho = (-LINEAR.log_snr/2).exp()
    for ts, measure in ((uniform_lambda(LINEAR, 9), LINEAR.log_snr/2), (karras(LINEAR, 9), rho**(1/7)), (karras(LINEAR, 9, 2), rho**0.5)):
        at = measure[ts]
        even = torch.linspace(at[0].item(), at[-1].item(), 9, dtype=torch.float64)
        room = torch.stack([(measure[max(t - 1, 1)] - measure[min(t + 1, 1000)]).abs() for t in ts])
        assert ((at - even).abs() <= room/2 + 1e-12).all()
    with pytest.raises(ValueError, match='power wanted'): karras(LINEAR, 9, 0.5)


# --- other people's code -------------------------------------------------------------------------

def theirs(scheduler, model, x, S):
    "The loop of a diffusers pipeline; its timesteps count from 0."
    scheduler.set_timesteps(S)
    x = x*scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t)
        eps = model(given, torch.full((len(x),), round(t.item()) + 1))
        x = scheduler.step(eps, t, x).prev_sample
    return x


def with_betas(kind, sched, **more):
    return kind(num_train_timesteps=sched.T, trained_betas=sched.beta[1:].numpy(), timestep_spacing='trailing', **more)


@pytest.mark.parametrize('S', [2, 5, 10, 20, 50])
def test_2m_is_that_of_diffusers(S):
    "Rejects another 2M. Their tables are float32, so 1e-4."
    diffusers = pytest.importorskip('diffusers')
    g = torch.Generator().manual_seed(0)
    world = GaussianMixture([1., 2., 1.], torch.randn(3, 1, 2, 3, generator=g), 0.3, LINEAR)
    x_T = normal(4, 1, 2, 3, dtype=torch.float32)
    scheduler = with_betas(diffusers.DPMSolverMultistepScheduler, LINEAR, algorithm_type='dpmsolver++', solver_order=2,
                           solver_type='midpoint', final_sigmas_type='zero')
    want = theirs(scheduler, world, x_T, S)
    assert_close(dpm_solver_sample(world, LINEAR, x_T.shape, steps=S, x_T=x_T), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize('S', [2, 5, 10, 25])
def test_heun_is_that_of_diffusers(S):
    "Rejects another Heun. Theirs steps in x/signal_rate and starts from N(0, rho^2 + 1)."
    diffusers = pytest.importorskip('diffusers')
    g = torch.Generator().manual_seed(0)
    world = GaussianMixture([1., 2., 1.], torch.randn(3, 1, 2, 3, generator=g), 0.3, LINEAR)
    x_T = normal(4, 1, 2, 3, dtype=torch.float32)
    scheduler = with_betas(diffusers.HeunDiscreteScheduler, LINEAR)
    scheduler.set_timesteps(S)
    start = x_T*(scheduler.sigmas[0]**2 + 1).sqrt()/scheduler.init_noise_sigma
    want = theirs(scheduler, world, start, S)
    assert_close(heun_sample(world, LINEAR, x_T.shape, steps=S, x_T=x_T), want, rtol=0, atol=1e-3)


@pytest.mark.parametrize('S', [3, 5, 11])
def test_2s_is_that_of_diffusers(S):
    "Rejects another pairing of levels: theirs too looks ahead to the list's next level. With an odd count both end by one first-order step."
    diffusers = pytest.importorskip('diffusers')
    world = GaussianMixture([1., 2.], normal(2, 1, 2, 3, dtype=torch.float32), 0.3, LINEAR)
    x_T = normal(4, 1, 2, 3, dtype=torch.float32)
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        num_train_timesteps=1000, trained_betas=LINEAR.beta[1:].numpy(), algorithm_type='dpmsolver++', solver_order=2, solver_type='midpoint',
        lower_order_final=True, final_sigmas_type='zero')
    scheduler.set_timesteps(S)
    ts = [round(t.item()) + 1 for t in scheduler.timesteps]
    want = theirs(scheduler, world, x_T, S)
    assert_close(dpm_single_sample(world, LINEAR, x_T.shape, steps=ts, x_T=x_T), want, rtol=0, atol=1e-3)


# --- in the engine -------------------------------------------------------------------------------

@pytest.mark.parametrize('sampler, sample', [('dpm', dpm_solver_sample), ('heun', heun_sample)])
def test_a_way_of_drawing_carries_the_solver(sampler, sample):
    "Rejects a name that draws by another sampler, and calls that are counted as steps."
    from ddpm_lesson.engine.cards import Sampling, sampling_of
    from ddpm_lesson.engine.draw import draw_images
    how, stub = Sampling(sampler, 6), Stub()
    images, way = draw_images(stub, LINEAR, (3, 1, 2, 2), how, seeds=[4, 5, 6], batch=2, frames=3)
    # the stub counts the calls of two batches
    assert len(stub.calls) == 2*how.calls(LINEAR.T) and len(way) == 3
    assert_close(images, sample(Stub(), LINEAR, (3, 1, 2, 2), steps=6, clip=(-1, 1), seeds=[4, 5, 6]), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match='eta wanted sampler ddim'): Sampling(sampler, eta=0.5)
    card = dict(network=dict(channels=1), schedule=dict(T=30), sample=dict(sampler=sampler))
    assert sampling_of(card).sampler == sampler and sampling_of(card).steps == 30
    assert sampling_of(card | dict(sample=dict(steps=5))).sampler == 'ddim'   # a card from before
