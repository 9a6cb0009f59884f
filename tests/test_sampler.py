"The samplers: exact laws, exact counts, exact seeds, and what they refuse."
import gc
import inspect
import io
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
import tqdm
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import SCHEDULES, Stub, normal
from ddpm_lesson import asking
from ddpm_lesson import sampler as package
from ddpm_lesson.asking import _checked, device_of, eval_mode
from ddpm_lesson.checks import check_shape, whole_numbers
from ddpm_lesson.few_steps import consistency_coefs
from ddpm_lesson.forward import q_sample
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0
from ddpm_lesson.metrics import Counted
from ddpm_lesson.oracle import FiniteData, GaussianMixture
from ddpm_lesson.posterior import posterior_var
from ddpm_lesson.sampler import (
    _check_end,
    _same_arguments,
    _start,
    _walk_from,
    ddim_coefs,
    ddim_sample,
    ddim_steps,
    ddpm_coefs,
    ddpm_sample,
    ddpm_steps,
    factors,
    image_noise,
    leading,
    levels,
    quadratic,
    timesteps,
    trailing,
    walk,
)
from ddpm_lesson.schedule import Schedule, cosine_schedule, linear_schedule, schedule_from_alpha_bar
from ddpm_lesson.score import sde_coefs
from ddpm_lesson.solvers import heun_plan, multistep_plan, raised, single_step_plan

LINEAR, COSINE = linear_schedule(), cosine_schedule()
SUBSEQUENCES = [1, 2, 7, 50, [1000, 3], [900, 500, 499, 1], [1]]


def named(value): return getattr(value, '__name__', str(value))  # an id without an address, the same in every process


def known_x_0(sched, x_0):
    "The model that is right because it was told the image."
    def model(x_t, t):
        rate = lambda a: a[t].to(x_t.dtype).reshape(-1, *[1]*(x_t.ndim - 1))
        return (x_t - rate(sched.signal_rate)*x_0)/rate(sched.noise_rate)
    return model


def scalar_law(sched, ts, coefs, gain, offset):
    "Mean and variance of x after each step, for a model eps = gain_t x + offset_t and x_T ~ N(0, 1): a recursion in two numbers."
    mean, var, law = 0.0, 1.0, []
    for i, (t, s) in enumerate(zip(ts, ts[1:] + [0])):
        g, o = gain(t), offset(t)
        signal, noise, signal_s = sched.signal_rate[t].item(), sched.noise_rate[t].item(), sched.signal_rate[s].item()
        d, sigma = coefs[0][i].item(), coefs[1][i].item()
        a = signal_s*(1 - noise*g)/signal + d*g
        b = -signal_s*noise*o/signal + d*o
        mean, var = a*mean + b, a*a*var + sigma**2
        law.append((s, mean, var))
    return law


# --- exact laws ---------------------------------------------------------------------------------

@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('eta', [0.0, 0.3, 1.0])
def test_every_step_keeps_the_marginal_of_a_known_image(name, eta):
    "DDIM Lemma 1: with the true eps, q(x_t|x_0) goes to q(x_s|x_0), for any eta and any subsequence."
    # checks (7.2)
    sched = SCHEDULES[name]
    for ts in trailing(sched.T, min(7, sched.T)), trailing(sched.T, sched.T):
        direction, sigma = ddim_coefs(sched, ts, eta)
        # x_t = signal x_0 + noise eps, so x_s = signal_s x_0 + direction eps + sigma z
        assert_close(direction**2 + sigma**2, 1 - sched.alpha_bar[ts[1:] + [0]], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('steps', SUBSEQUENCES, ids=str)
def test_ddpm_small_keeps_it_too(steps):
    # checks (6.6)
    ts = timesteps(1000, steps)
    direction, sigma = ddpm_coefs(LINEAR, ts, 'small')
    assert_close(direction**2 + sigma**2, 1 - LINEAR.alpha_bar[ts[1:] + [0]], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('sampler, options', [(ddim_steps, dict(eta=e)) for e in (0.0, 0.5, 1.0)] + [(ddpm_steps, {})], ids=named)
def test_the_loop_does_what_the_coefficients_say(sampler, options):
    "With eta 0 the whole path of a known image is known: x_s = q_sample(x_0, s, eps) with one and the same eps."
    x_0, eps = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    x_T = q_sample(LINEAR, x_0, 1000, eps)
    for t, x_t, x_0_hat in sampler(known_x_0(LINEAR, x_0), LINEAR, x_0.shape, steps=13, x_T=x_T, seeds=range(3), **options):
        assert_close(x_0_hat, x_0, rtol=1e-9, atol=1e-9)
        if not options.get('eta', 1): assert_close(x_t, q_sample(LINEAR, x_0, t, eps), rtol=1e-9, atol=1e-9)
    assert_close(x_t, x_0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('S', [5, 50, 1000])
def test_ddpm_large_on_unit_gaussian_data_gives_alpha_bar_of_the_last_visited_step(S):
    ts = trailing(1000, S)
    law = scalar_law(LINEAR, ts, ddpm_coefs(LINEAR, ts, 'large'), lambda t: LINEAR.noise_rate[t].item(), lambda t: 0.0)
    assert_close(law[-1][2], LINEAR.alpha_bar[ts[-1]].item(), rtol=1e-10, atol=0)


@pytest.mark.parametrize('S', [3, 64, 1000])
def test_ddim_mean_of_gaussian_data_is_exact_at_any_number_of_steps(S):
    m, s, ts = 0.3, 0.5, trailing(1000, S)
    var = lambda t: (LINEAR.alpha_bar[t]*s**2 + 1 - LINEAR.alpha_bar[t]).item()
    gain = lambda t: LINEAR.noise_rate[t].item()/var(t)
    law = scalar_law(LINEAR, ts, ddim_coefs(LINEAR, ts, 0.0), gain, lambda t: -gain(t)*LINEAR.signal_rate[t].item()*m)
    start_bias = LINEAR.signal_rate[-1].item()*m  # N(0, 1) is not q(x_T): the rest of the error
    assert abs(law[-1][1] - m) < 1.01*start_bias*s/var(1000)**0.5 + 1e-12


@pytest.mark.parametrize('S, std', [(5, .2625), (10, .3700), (50, .4714), (1000, .4985)])
def test_ddim_spread_of_gaussian_data_at_published_step_counts(S, std):
    "A sampler that takes the previous step from T//S instead of from the list gives .2707 where .2701/.2625 belong."
    m, s = 0.3, 0.5
    oracle = GaussianMixture([1.], torch.tensor([[m]]), s, LINEAR)
    a, b = (ddim_sample(oracle, LINEAR, (1, 1), steps=S, x_T=torch.full((1, 1), x, dtype=torch.float64)).item() for x in (0., 1.))
    assert abs(b - a - std) < 6e-5


@pytest.mark.parametrize('steps', SUBSEQUENCES, ids=str)
def test_ddim_at_eta_1_is_ddpm(steps, stub):
    # checks (7.5)
    ours = [f(stub, LINEAR, (3, 2, 4, 5), steps=steps, x_T=normal(3, 2, 4, 5), seeds=range(3), **o) for f, o in ((ddim_sample, dict(eta=1.0)), (ddpm_sample, {}))]
    assert_close(*ours, rtol=1e-10, atol=1e-10)


def test_ddpm_over_all_steps_uses_the_posterior_of_lesson_4():
    # checks (6.4)
    _, sigma = ddpm_coefs(LINEAR, trailing(1000, 1000), 'small')
    assert_close(sigma**2, posterior_var(LINEAR, torch.arange(1000, 0, -1)), rtol=1e-9, atol=0)
    _, sigma = ddpm_coefs(LINEAR, trailing(1000, 1000), 'large')
    assert_close((sigma**2)[:-1], LINEAR.beta.flip(0)[:-2], rtol=1e-9, atol=0)
    assert sigma[-1] == 0


def test_sigma_is_eta_times_and_not_root_eta_times():
    # checks (7.4)
    half, one = (ddim_coefs(LINEAR, trailing(1000, 9), e)[1] for e in (0.5, 1.0))
    assert_close(half, 0.5*one, rtol=1e-12, atol=0)


@pytest.mark.parametrize('sampler, options', [(ddim_sample, dict(steps=60)), (ddim_sample, dict(steps=60, eta=1.0)), (ddpm_sample, dict(steps=150))], ids=named)
def test_a_mixture_comes_back(sampler, options):
    "Weights and centres of four modes, n = 4,000: a share is off by sqrt(p(1-p)/n), at most 0.008."
    centres = torch.tensor([[-.8, -.8], [.8, -.8], [-.8, .8], [.8, .8]])
    weights = torch.tensor([.1, .2, .3, .4], dtype=torch.float64)
    oracle = GaussianMixture(weights, centres, 0.1, LINEAR)
    torch.manual_seed(0)
    x = sampler(oracle, LINEAR, (4000, 2), **options)
    nearest = torch.cdist(x, centres).argmin(1)
    share = torch.bincount(nearest, minlength=4)/4000
    assert (share - weights).abs().max() < 4*0.008
    for k in range(4): assert (x[nearest == k].mean(0) - centres[k]).abs().max() < 0.05


def test_finite_data_gives_back_its_images():
    images = normal(9, 1, 4, 5).float().clamp(-1, 1)
    x = ddim_sample(FiniteData(images, LINEAR), LINEAR, (20, 1, 4, 5), steps=100, seeds=range(20))
    assert (x[:, None] - images[None]).abs().amax((2, 3, 4)).min(1).values.max() < 0.02


def of_gaussian(ts, coefs, spread):
    "Mean and variance after each step, for data N(0, spread^2) and their exact denoiser."
    gain = lambda t: (LINEAR.noise_rate[t]/(LINEAR.alpha_bar[t]*spread**2 + 1 - LINEAR.alpha_bar[t])).item()
    return {s: var for s, _, var in scalar_law(LINEAR, ts, coefs, gain, lambda t: 0.0)}


def test_with_estimates_the_members_have_not_the_same_marginals():
    "Only given the true x_0 do they. Wrong statement: one family, the same marginals (lesson 7 said so)."
    ts, true = trailing(1000, 10), (LINEAR.alpha_bar[200]*0.25 + 1 - LINEAR.alpha_bar[200]).item()
    found = [of_gaussian(ts, ddim_coefs(LINEAR, ts, eta), 0.5)[200] for eta in (0.0, 0.5, 1.0)]
    assert_close(torch.tensor([*found, true]), torch.tensor([0.464, 0.4577, 0.430, 0.5057]), rtol=0, atol=1e-4)
    ts = trailing(1000, 1000)
    for eta in 0.0, 0.5, 1.0: assert abs(of_gaussian(ts, ddim_coefs(LINEAR, ts, eta), 0.5)[200] - true) < 1e-3


def test_one_image_accepts_any_sigma_and_data_with_a_spread_do_not():
    "What the exact test with one image cannot see: a random sigma, or none of the old noise."
    ts = trailing(1000, 50)
    room = (1 - LINEAR.alpha_bar[ts[1:] + [0]]).sqrt()
    chosen = torch.rand(50, generator=torch.Generator('cpu').manual_seed(0))*room
    members = [ddpm_coefs(LINEAR, ts), ((room**2 - chosen**2).sqrt(), chosen), (0*room, room)]
    x_0 = torch.tensor(0.7, dtype=torch.float64)
    for coefs in members:
        shift = lambda t: (-LINEAR.signal_rate[t]*x_0/LINEAR.noise_rate[t]).item()
        law = scalar_law(LINEAR, ts, coefs, lambda t: 1/LINEAR.noise_rate[t].item(), shift)
        for s, _, var in law: assert abs(var - (1 - LINEAR.alpha_bar[s]).item()) < 1e-3   # started from variance 1, not 1 - alpha_bar_T
    ends = [of_gaussian(ts, coefs, 0.5)[0] for coefs in members]
    assert max(ends) - min(ends) > 0.05


# --- counts, seeds, modes -----------------------------------------------------------------------

@pytest.mark.parametrize('sampler', [ddim_sample, ddpm_sample])
@pytest.mark.parametrize('S', [1, 2, 7, 999, 1000])
def test_as_many_calls_as_steps(sampler, S):
    stub = Stub()
    sampler(stub, LINEAR, (2, 3), steps=S)
    assert len(stub.calls) == S and [c[0] for c in stub.calls] == trailing(1000, S)


def test_ddpm_takes_every_step_unless_told(stub):
    ddpm_sample(stub, linear_schedule(T=30), (2, 3))
    assert [c[0] for c in stub.calls] == list(range(30, 0, -1))


@pytest.mark.parametrize('T, S', [(T, S) for T in (1, 2, 10, 17, 1000) for S in (1, 2, 3, 7, 13, 17, 50, 64, 999, 1000) if S <= T])
def test_spacings(T, S):
    for spaced in trailing, leading, quadratic:
        ts = spaced(T, S)
        assert len(ts) == S and all(a > b for a, b in zip(ts, ts[1:])) and ts[0] <= T and ts[-1] >= 1, (spaced, ts)
        assert timesteps(T, ts) == ts
    assert trailing(T, S)[0] == T and leading(T, S)[-1] == 1 and quadratic(T, S)[0] == T


def test_spacing_values():
    assert trailing(1000, 4) == [1000, 750, 500, 250] and leading(1000, 4) == [751, 501, 251, 1] and trailing(10, 3) == [10, 7, 3]
    assert quadratic(100, 4) == [100, 49, 16, 1]


@pytest.mark.parametrize('sampler, options', [(ddim_sample, dict(eta=0.0)), (ddim_sample, dict(eta=0.7)), (ddpm_sample, dict(var='large'))], ids=named)
def test_a_seed_is_an_image_whatever_stands_beside_it(sampler, options, stub):
    draw = lambda seeds: sampler(stub, LINEAR, (len(seeds), 2, 4, 5), steps=6, seeds=seeds, **options)
    many = draw([3, 11, 5, 8, 2, 7, 1])
    for position, seed in (0, 3), (2, 5), (6, 1): assert_close(draw([seed])[0], many[position], rtol=0, atol=0)
    assert_close(draw([7, 3]), many[[5, 0]], rtol=0, atol=0)
    assert not torch.allclose(many[0], many[1])


def test_eta_0_draws_nothing(stub):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    ddim_sample(stub, LINEAR, (2, 3), steps=9, x_T=normal(2, 3))
    ddim_sample(stub, LINEAR, (2, 3), steps=9, seeds=[1, 2])
    ddim_sample(stub, LINEAR, (2, 3), steps=9, eta=1.0, seeds=[1, 2])
    assert torch.equal(before, torch.get_rng_state())
    ddim_sample(stub, LINEAR, (2, 3), steps=9, eta=1.0, x_T=normal(2, 3))
    assert not torch.equal(before, torch.get_rng_state())


def test_last_step_adds_no_noise(stub):
    for sampler, options in (ddpm_steps, dict(var='large')), (ddpm_steps, {}), (ddim_steps, dict(eta=1.0)):
        *_, (t, _, x_0_hat), (end, x, same) = sampler(stub, LINEAR, (2, 3), steps=5, **options)
        assert end == 0 and torch.equal(x, x_0_hat) and torch.equal(x, same)


def test_twins_agree_and_show_the_way(stub):
    for steps, sample, options in (ddim_steps, ddim_sample, dict(steps=7, eta=0.4)), (ddpm_steps, ddpm_sample, dict(steps=7)):
        way = list(steps(stub, LINEAR, (2, 3), seeds=[1, 2], **options))
        assert [t for t, _, _ in way] == trailing(1000, 7) + [0]
        assert torch.equal(way[-1][1], sample(stub, LINEAR, (2, 3), seeds=[1, 2], **options))


def test_the_way_is_not_changed_behind_the_callers_back(stub):
    kept = [(x_t, x_t.clone(), x_0, x_0.clone()) for _, x_t, x_0 in ddim_steps(stub, LINEAR, (2, 3), steps=9, eta=1.0, clip=(-1, 1))]
    assert all(torch.equal(a, b) and torch.equal(c, d) for a, b, c, d in kept)


def test_network_is_in_eval_mode_and_put_back(stub):
    stub.train()
    ddim_sample(stub, LINEAR, (2, 3), steps=2)
    assert stub.modes == [False, False] and stub.training
    way = ddim_steps(stub, LINEAR, (2, 3), steps=5)
    next(way)
    way.close()
    assert stub.training
    def fail(x, t): raise RuntimeError('mid-way')
    stub.forward = fail
    with pytest.raises(RuntimeError, match='mid-way'): ddim_sample(stub, LINEAR, (2, 3), steps=2)
    assert stub.training


class Keeps:
    "A wrapper that is no module."
    def __init__(self, net): self.net = net
    def __call__(self, x, t, *y): return self.net(x, t, *y)


@pytest.mark.parametrize('around', [partial, lambda net: net.forward, lambda net: partial(net.__call__), Keeps, lambda net: Counted(partial(net)), lambda net: PredictsEps(partial(net), LINEAR), lambda net: Labelled(Keeps(net), [0, 0])],
                         ids=['partial', 'method', 'partial of a method', 'object', 'counted', 'wrapped', 'labelled'])
def test_a_network_is_at_rest_whatever_is_around_it(around):
    "Rejects images drawn with dropout, and statistics of the batch that move: partial(net, y=y) is how people fix a label."
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.layer, self.drop, self.norm = torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3)
        def forward(self, x, t, y=None): return self.norm(self.drop(self.layer(x)))
    torch.manual_seed(0)
    net = Net().train()
    wanted = ddim_sample(net, LINEAR, (2, 3), steps=3, seeds=[1, 2])
    assert torch.equal(ddim_sample(around(net), LINEAR, (2, 3), steps=3, seeds=[1, 2]), wanted)
    assert net.training and net.drop.training and net.norm.num_batches_tracked == 0


@pytest.mark.parametrize('name', ['model', 'net'])
@pytest.mark.parametrize('base', [object, torch.nn.Module], ids=['object', 'module'])
def test_a_model_that_keeps_itself_is_looked_through_once(base, name):
    "Rejects a look into what is kept that never ends: a network that names its own method `net`."
    class Net(base):
        def __init__(self): super().__init__(); self.__dict__[name] = self.__call__
        def __call__(self, x, t): return 0.5*x
    assert torch.equal(ddim_sample(Net(), LINEAR, (2, 3), steps=3, seeds=[1, 2]), ddim_sample(lambda x, t: 0.5*x, LINEAR, (2, 3), steps=3, seeds=[1, 2]))


def test_a_partial_is_asked_where_and_in_what_its_network_is(stub):
    assert device_of(partial(torch.nn.Linear(1, 1).to('meta'))).type == 'meta'
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.table, self.layer = torch.nn.Parameter(torch.arange(3), requires_grad=False), torch.nn.Linear(3, 3).bfloat16()
        def forward(self, x, t): return self.layer(x)
    net = Net()   # its first numbers are whole: no image is made of such
    for model in net, partial(net), net.forward, PredictsEps(net, LINEAR): assert ddim_sample(model, LINEAR, (2, 3), steps=2, seeds=[1, 2]).isfinite().all()


def test_result_is_an_ordinary_float32_tensor(stub):
    x = ddim_sample(stub, LINEAR, (2, 3), steps=2)
    assert x.dtype == torch.float32 and not x.requires_grad and not x.is_inference()
    (x*torch.ones(1, requires_grad=True)).sum().backward()
    assert ddim_sample(lambda x, t: x.bfloat16(), LINEAR, (2, 3), steps=2).dtype == torch.float32
    assert ddim_sample(stub, LINEAR, (2, 3), steps=2, x_T=normal(2, 3, dtype=torch.float16)).dtype == torch.float32


def test_x_T_is_left_alone(stub):
    x_T = normal(2, 3)
    before = x_T.clone()
    ddim_sample(stub, LINEAR, (2, 3), steps=5, x_T=x_T, eta=1.0, clip=(-1, 1))
    assert torch.equal(x_T, before)


def test_clip_clamps_the_estimate_and_re_derives_eps():
    sched, x_T = linear_schedule(T=10), normal(2, 3)
    model = lambda x, t: torch.full_like(x, -2.0)
    (t, x_t, x_0), (s, x_s, _), *_ = ddim_steps(model, sched, (2, 3), steps=2, x_T=x_T, clip=(-.5, .6))
    raw = (x_T - sched.noise_rate[10]*-2)/sched.signal_rate[10]
    assert_close(x_0, raw.clamp(-.5, .6), rtol=1e-12, atol=1e-12)
    eps = (x_T - sched.signal_rate[10]*x_0)/sched.noise_rate[10]
    assert_close(x_s, sched.signal_rate[5]*x_0 + sched.noise_rate[5]*eps, rtol=1e-12, atol=1e-12)
    assert s == 5


def test_clip_never_touches_x_t():
    sched = cosine_schedule()
    oracle = GaussianMixture([1.], torch.zeros(1, 4), 0.3, sched)
    spread = [x.std() for _, x, _ in ddpm_steps(oracle, sched, (5000, 4), steps=20, clip=(-1, 1), x_T=normal(5000, 4, dtype=torch.float32))]
    assert abs(spread[0] - 1) < 4*(1/(2*20_000))**0.5  # clamping x_T to [-1, 1] would leave 0.718


# --- what is refused ----------------------------------------------------------------------------

BAD = [
    (dict(steps=0), ValueError, 'steps wanted'), (dict(steps=1001), ValueError, '1001'), (dict(steps=2.5), TypeError, 'float'), (dict(steps=True), TypeError, 'True'), (dict(steps='50'), TypeError, 'str'),
    (dict(steps=[5, 5]), ValueError, 'falling'), (dict(steps=[1, 2]), ValueError, 'falling'), (dict(steps=[]), ValueError, 'empty'), (dict(steps=[1001, 4]), ValueError, '1001'), (dict(steps=[4, 0]), ValueError, r'1\.\.1000'),
    (dict(clip=(1, -1)), ValueError, 'clip'), (dict(clip=(0,)), ValueError, 'clip'), (dict(x_T=torch.zeros(2, 4)), ValueError, 'x_T'), (dict(x_T=torch.zeros(2, 3, dtype=torch.int64)), TypeError, 'x_T'),
    (dict(x_T=torch.full((2, 3), float('nan'))), ValueError, 'finite'), (dict(seeds=[1]), ValueError, 'seeds'), (dict(seeds=[1, 2, 3]), ValueError, 'seeds'),
]


@pytest.mark.parametrize('wrong, error, said', BAD, ids=[f'{next(iter(b[0]))} {i}' for i, b in enumerate(BAD)])
@pytest.mark.parametrize('sampler', [ddim_sample, ddpm_sample, ddim_steps, ddpm_steps])
def test_bad_input_is_named_before_any_call(sampler, wrong, error, said, stub):
    with pytest.raises(error, match=said): sampler(stub, LINEAR, (2, 3), **wrong)
    assert not stub.calls


@pytest.mark.parametrize('eta', [-0.1, 1.1, float('nan')])
def test_eta_outside_0_1(eta, stub):
    with pytest.raises(ValueError, match='eta'): ddim_sample(stub, LINEAR, (2, 3), eta=eta)


def test_other_bad_input(stub):
    with pytest.raises(ValueError, match='var'): ddpm_sample(stub, LINEAR, (2, 3), steps=2, var='medium')
    for shape in (), (0, 3), (2, -1):
        with pytest.raises(ValueError, match='shape'): ddim_sample(stub, LINEAR, shape)
    with pytest.raises(ValueError, match='shape it was given'): ddim_sample(lambda x, t: x[:1], LINEAR, (2, 3), steps=2)
    with pytest.raises(TypeError, match='floating'): ddim_sample(lambda x, t: (x,), LINEAR, (2, 3), steps=2)
    with pytest.raises(ValueError, match='NaN'): ddim_sample(lambda x, t: x*float('nan'), LINEAR, (2, 3), steps=2)
    with pytest.raises(ValueError, match='seeds'): ddim_sample(stub, LINEAR, (2, 3), seeds=[1, 1.5][:1] + [2, 3])


def test_numbers_of_other_libraries_are_welcome(stub):
    a = ddim_sample(stub, LINEAR, (np.int64(2), 3), steps=np.int32(4), seeds=np.array([1, 2]))
    b = ddim_sample(stub, LINEAR, torch.Size([2, 3]), steps=torch.tensor([1000, 750, 500, 250]), seeds=torch.tensor([1, 2]))
    assert torch.equal(a, b)


# --- each part by itself ------------------------------------------------------------------------

def test_quadratic_by_hand():
    "Square roots evenly from 1 to the root of T; where rounding repeats a small step the next one is taken."
    assert quadratic(10, 5) == [10, 7, 4, 2, 1] and quadratic(6, 6) == [6, 5, 4, 3, 2, 1] and quadratic(50, 1) == [50] and quadratic(20, 10) == [20, 17, 14, 11, 9, 6, 5, 3, 2, 1]


def test_where_a_list_of_steps_ends():
    assert timesteps(10, [10, 1]) == timesteps(10, np.array([10, 1])) == timesteps(10, (10, 1)) == [10, 1] and timesteps(10, range(3, 0, -1)) == [3, 2, 1] and timesteps(10, torch.tensor(2)) == [10, 5]
    for spaced in trailing, leading, quadratic:
        with pytest.raises(ValueError, match='^T wanted at least 1'): spaced(0, 1)
        with pytest.raises(TypeError, match='^T wanted a whole number'): spaced(10.0, 1)
        for S in True, torch.tensor(True):
            with pytest.raises(TypeError, match='^steps wanted a whole number'): spaced(10, S)


def test_errors_say_what_was_wanted(stub):
    for wrong, said in (dict(steps=[3, 1.5]), '^steps wanted a count or whole timesteps, got'), (dict(seeds=[1, 1.5]), '^seeds wanted 2 whole numbers, one per image, got'), (dict(shape=(2, 1.5)), r'^shape wanted whole numbers \(B, \.\.\.\), got'):
        for sampler in ddim_sample, ddpm_sample:
            with pytest.raises(TypeError, match=said): sampler(stub, LINEAR, **(dict(shape=(2, 3)) | wrong))
    for sampler in ddim_steps, ddpm_steps:
        for clip, said in (1, '^clip wanted None'), ('ab', '^clip wanted a number'), ((0, None), '^clip wanted a number'), ((None, 0), '^clip wanted a number'):
            with pytest.raises(TypeError, match=said): sampler(stub, LINEAR, (2, 3), clip=clip)
        for clip in (0, 0), (float('nan'), 1), (0, 1, 2):
            with pytest.raises(ValueError, match='^clip wanted'): sampler(stub, LINEAR, (2, 3), clip=clip)
        for x_T, said in ([[0.0]*3]*2, 'got list$'), (torch.zeros(2, 3).bool(), 'got torch.bool$'):
            with pytest.raises(TypeError, match=f'^x_T wanted a floating-point tensor, {said}'): sampler(stub, LINEAR, (2, 3), x_T=x_T)
    for eta in 'half', 1j, None, [0.5], True:
        with pytest.raises(TypeError, match='^eta wanted a number'): ddim_sample(stub, LINEAR, (2, 3), eta=eta)
    for answer, said in (torch.zeros(2, 3).long(), 'got torch.int64$'), (None, 'got NoneType$'):
        with pytest.raises(TypeError, match=said): _checked(answer, torch.zeros(2, 3))
    assert check_shape([np.int64(1)]) == (1,) and whole_numbers(range(2), '') == [0, 1] and _checked(torch.zeros(2).bfloat16(), torch.zeros(2)).dtype == torch.float32


def test_noise_of_a_seed_is_its_generators(stub):
    "The first draw is for the start, whether it is used or not: with x_T given a seed's later noise stays the same."
    def draws(seed, n): g = torch.Generator().manual_seed(seed); return [torch.randn(3, generator=g) for _ in range(n)]
    fresh, given = image_noise((2, 3), [5, 6], 'cpu'), image_noise((2, 3), [5, 6], 'cpu', torch.zeros(2, 3))
    first, second = (torch.stack(pair) for pair in zip(draws(5, 2), draws(6, 2)))
    assert torch.equal(fresh(), first) and torch.equal(fresh(), second) and torch.equal(given(), second) and first.dtype == torch.float32
    way = [list(ddim_steps(stub, LINEAR, (2, 3), steps=4, eta=1.0, seeds=[5, 6], **o)) for o in ({}, dict(x_T=first))]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(*way)) and torch.equal(way[0][0][1], first)
    torch.manual_seed(3)
    plain = image_noise((2, 3), None, 'cpu')()
    torch.manual_seed(3)
    assert torch.equal(plain, torch.randn(2, 3)) and plain.dtype == torch.float32
    assert image_noise((2, 3), None, 'meta')().device.type == 'meta' and image_noise((2, 3), [1, 2], 'meta')().device.type == 'meta'


def test_where_to_sample():
    class Bare(torch.nn.Module):
        def forward(self, x, t): return x
    meta, x_T = torch.nn.Linear(1, 1).to('meta'), torch.zeros(1, device='meta')
    assert [device_of(*a).type for a in ((meta,), (meta, torch.zeros(1)), (Bare(),), (Bare(), x_T), (len,), (len, x_T), (torch.nn.Linear(1, 1), x_T))] == ['meta', 'meta', 'cpu', 'meta', 'cpu', 'meta', 'cpu']
    with pytest.raises(RuntimeError): ddim_sample(lambda x, t: x, LINEAR, (1, 2), steps=2, device='no such device')
    for dtype, kept in (torch.float64, torch.float64), (torch.float32, torch.float32), (torch.float16, torch.float32):
        there = _start((1, 2), torch.zeros(1, 2, dtype=dtype), None, 'meta')
        assert (there.device.type, there.dtype) == ('meta', kept)
    for sampler in ddim_steps, ddpm_steps:
        seen = []
        way = sampler(lambda x, t: seen.append((x.device.type, t.device.type, t.dtype, t.shape)) or x, LINEAR, (2, 3), steps=2, device='meta', seeds=[1, 2])
        next(way)
        assert seen == [('meta', 'meta', torch.int64, (2,))]


def test_what_counts_as_far_too_large():
    "The limits are root mean squares: a larger batch has the same ones. On the limit is too large."
    four, told = torch.full((2, 8), 1., dtype=torch.float64), torch.tensor([4.])
    for lift in 1, 1e3:
        _check_end(0.999e15*lift*four, 0*told, lift)
        _check_end(0*four, 0.999e6*told, lift)
        for x_0, answers in (1.001e15*lift*four, 0*told), (0*four, 1.001e6*told), (four*float('nan'), 0*told), (four, told*float('inf')):
            with pytest.raises(ValueError, match='far too large'): _check_end(x_0, answers, lift)
    one = torch.ones(1, dtype=torch.float64)
    for x_0, answers in (1e15*one, 0*one), (0*one, 1e6*one):
        with pytest.raises(ValueError, match='far too large'): _check_end(x_0, answers, 1)
    _check_end(four.to('meta'), told.to('meta'), 1)


def test_the_average_answer_is_watched_not_their_sum():
    "Six hundred thousand at each of three steps is within the limit of a million, whatever the number of steps."
    ddim_sample(lambda x, t: torch.full_like(x, 6e5), LINEAR, (2, 3), steps=3, clip=(-1, 1))
    with pytest.raises(ValueError, match='far too large'):
        ddim_sample(lambda x, t: torch.full_like(x, 1.1e6), LINEAR, (2, 3), steps=3, clip=(-1, 1))


@pytest.mark.parametrize('ts', [[5, 10], [10, 10, 5], [5, 0], [1001, 3], [-1], [], 5, [2.5, 1]],
                         ids=['rising', 'twice', 'to 0', 'above T', 'negative', 'none', 'a count', 'halves'])
@pytest.mark.parametrize('of', [levels, ddpm_coefs, ddim_coefs, consistency_coefs, sde_coefs, multistep_plan, single_step_plan, heun_plan, partial(raised, churn=1.0)], ids=lambda f: getattr(f, '__name__', 'raised'))
def test_coefficients_of_steps_that_do_not_fall_are_refused(of, ts):
    "Rejects NaN, infinity, or a look at entry -1, without a word."
    with pytest.raises((ValueError, TypeError), match='steps wanted'): of(LINEAR, ts)


def test_coefficients_are_worked_out_on_the_cpu_in_float64():
    "A schedule on an Apple GPU holds float32: the last digits of 1 - alpha_bar_t/alpha_bar_s would be gone, and each look-up would wait for the GPU."
    class Table:   # stands for alpha_bar on another device
        def to(self, *there):
            assert there == ('cpu', torch.float64)
            return LINEAR.alpha_bar
    elsewhere, ts = object.__new__(Schedule)._set(LINEAR.beta, LINEAR.alpha, Table()), trailing(1000, 3)
    for f in ddpm_coefs, ddim_coefs, lambda sched, ts: factors(sched, ts, torch.ones(3, dtype=torch.float64)):
        for a, b in zip(f(elsewhere, ts), f(LINEAR, ts)): assert torch.equal(torch.stack([*a]), torch.stack([*b]))


@pytest.mark.parametrize('sampler, twin, options', [(ddim_sample, ddim_steps, dict(eta=0.6)), (ddpm_sample, ddpm_steps, dict(var='large')), (ddpm_sample, ddpm_steps, dict(var='small'))], ids=named)
def test_every_option_reaches_the_loop(sampler, twin, options, stub, monkeypatch):
    bars, real = [], asking.shown
    monkeypatch.setattr(asking, 'shown', lambda total, done, wanted, unit, **k: bars.append((total, done, unit, k)*wanted) or real(total, done, False))
    plain = dict(steps=5, seeds=[1, 2], device='cpu')
    base = sampler(stub, LINEAR, (2, 3), **plain, **options)
    list(walk(stub, LINEAR, normal(2, 3), [5, 1], ddim_coefs(LINEAR, [5, 1]), None))
    list(twin(stub, LINEAR, (2, 3), **plain, **options))
    assert not any(bars)
    bars.clear()
    assert torch.equal(sampler(stub, LINEAR, (2, 3), **plain, **options, progress=True), base) and bars == [(5, 0, 'step', dict(desc='sampling', leave=False))]
    list(twin(stub, LINEAR, (2, 3), **plain, **options, progress=True))
    assert len(bars) == 2 and all(bars)
    for change in dict(steps=6), dict(seeds=[1, 3]), dict(clip=(-0.2, 0.2)), dict(x_T=normal(2, 3)), {k: 0.1 if k == 'eta' else dict(small='large', large='small')[v] for k, v in options.items()}:
        changed = plain | options | change
        other = sampler(stub, LINEAR, (2, 3), **changed)
        assert not torch.equal(other.float(), base) and torch.equal(other, list(twin(stub, LINEAR, (2, 3), **changed))[-1][1])
    with pytest.raises(RuntimeError): sampler(stub, LINEAR, (2, 3), **(plain | dict(device='no such device')))
    with pytest.raises(RuntimeError): twin(stub, LINEAR, (2, 3), **(plain | dict(device='no such device')))


def test_what_a_sampler_does_when_nothing_is_said():
    for sampler in ddim_sample, ddim_steps:
        stub = Stub()
        list(sampler(stub, LINEAR, (1, 2), seeds=[0]))
        assert [c[0] for c in stub.calls] == trailing(1000, 50)
    sched, sample = linear_schedule(T=9), lambda f, **o: list(f(Stub(), sched, (1, 2), steps=9, seeds=[0], **o))[-1][1] if f in (ddim_steps, ddpm_steps) else f(Stub(), sched, (1, 2), steps=9, seeds=[0], **o)
    for f in ddim_sample, ddim_steps: assert torch.equal(sample(f), sample(f, eta=0.0)) and not torch.equal(sample(f), sample(f, eta=0.5))
    for f in ddpm_sample, ddpm_steps: assert torch.equal(sample(f), sample(f, var='small')) and not torch.equal(sample(f), sample(f, var='large'))
    for f in ddpm_sample, ddpm_steps:
        stub = Stub()
        list(f(stub, sched, (1, 2)))
        assert [c[0] for c in stub.calls] == list(range(9, 0, -1))
    ts = trailing(9, 3)
    assert torch.equal(ddpm_coefs(sched, ts)[1], ddpm_coefs(sched, ts, 'small')[1]) and not ddim_coefs(sched, ts)[1].any()


class Broken:
    "A terminal that is gone, or one that never ends a write."
    encoding = 'utf-8'
    def __init__(self, slow=False): self.tries, self.slow = 0, slow
    def write(self, text):
        self.tries += 1
        if self.slow: time.sleep(0.5)
        else: raise BrokenPipeError(32, 'Broken pipe')
    def flush(self): self.write('')


@pytest.mark.parametrize('slow', [False, True], ids=['gone', 'slow'])
def test_a_bar_can_neither_end_nor_hold_up_a_sampler(slow, stub, monkeypatch):
    "Wrong programs: a bar drawn by the loop itself; one that leaves tqdm locked for all others."
    plain, failures = ddim_sample(stub, LINEAR, (2, 3), steps=5, seeds=[1, 2]), []
    with monkeypatch.context() as m:
        m.setattr('sys.stderr', broken := Broken(slow))
        m.setattr('threading.excepthook', lambda failed: failures.append(failed))
        start = time.perf_counter()
        for sampler, options in (ddim_sample, {}), (ddim_steps, {}), (ddpm_sample, {}):
            got = final(sampler(stub, LINEAR, (2, 3), steps=5, seeds=[1, 2], progress=True, **options))
            assert sampler is ddpm_sample or torch.equal(got, plain)
        assert broken.tries and time.perf_counter() - start < 20 and not failures
    other = threading.Thread(target=lambda: list(tqdm.tqdm([1], file=io.StringIO())), daemon=True)  # somebody else's bar
    other.start(), other.join(20)
    assert not other.is_alive()


def test_a_bar_shows_how_far_a_sampler_is(stub, capsys, monkeypatch):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    way = ddim_steps(stub, LINEAR, (2, 3), steps=2, progress=True)
    next(way), next(way)
    time.sleep(0.5)
    list(way)
    said = capsys.readouterr().err
    assert 'sampling' in said and '1.00/2.00' in said and '2.00/2.00' in said


@pytest.mark.parametrize('screen', [None, io.StringIO()], ids=['none', 'closed'])
def test_without_a_screen_nothing_is_shown_and_nothing_ends(screen, stub, monkeypatch):
    "Rejects a question to a screen that is not there: a program without a window has sys.stderr None."
    if screen: screen.close()
    monkeypatch.setattr('sys.stderr', screen)
    assert ddim_sample(stub, LINEAR, (2, 3), steps=5, seeds=[1, 2], progress=True).isfinite().all()


def test_the_twins_show_the_same_arguments():
    "What `help` says of a sampler it says of its twin, and the public order of DESIGN.md is kept."
    for sample, steps, own in (ddim_sample, ddim_steps, ['steps', 'eta']), (ddpm_sample, ddpm_steps, ['steps', 'var']):
        a, b = (list(inspect.signature(f).parameters.values()) for f in (sample, steps))
        assert a == b and [p.name for p in a] == ['model', 'sched', 'shape', *own, 'clip', 'x_T', 'seeds', 'device', 'progress']
        assert [p.kind for p in a[:3]] == [inspect.Parameter.POSITIONAL_OR_KEYWORD]*3 and {p.kind for p in a[3:]} == {inspect.Parameter.KEYWORD_ONLY}
        fresh = _same_arguments(sample)(lambda **options: None)
        assert inspect.signature(fresh).parameters == inspect.signature(sample).parameters
        assert inspect.signature(fresh).return_annotation is inspect.Signature.empty
        with pytest.raises(TypeError, match='stepps'): steps(Stub(), LINEAR, (2, 3), stepps=3)
        with pytest.raises(TypeError): steps(Stub(), LINEAR, (2, 3), 5)


class Passes(TorchDispatchMode):
    "Counts what goes over a whole batch: products, sums and copies."
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if isinstance(out, torch.Tensor) and out.shape == (2, 3) and name in ('mul', 'add_', 'clone', '_to_copy', 'clamp_'): self.seen.append(name)
        return out


@pytest.mark.parametrize('sampler, twin', [(ddim_sample, ddim_steps), (ddpm_sample, ddpm_steps)], ids=named)
@pytest.mark.parametrize('looked_at, clip, each', [(False, None, ['mul', 'add_']), (True, None, ['mul', 'mul', '_to_copy', 'add_', 'add_']), (False, (-1, 1), ['mul', 'mul', 'add_', 'clamp_', 'add_'])], ids=str)
def test_a_picture_nobody_looks_at_is_not_made(sampler, twin, looked_at, clip, each):
    "The estimate of x_0 costs two passes over memory at every step: half the sampler's own time. Nor is an image copied that nobody sees."
    answer, counter = torch.ones(2, 3), Passes()
    counter.seen = []
    with counter: list((twin if looked_at else sampler)(lambda x, t: answer, LINEAR, (2, 3), steps=[1], x_T=torch.ones(2, 3), clip=clip))
    assert counter.seen[counter.seen.index('_to_copy') + 1:] == each   # the first copy is that of x_T


def test_where_the_model_lives_is_asked_with_model_and_start(stub, monkeypatch):
    asked, given, real = [], [], package._start
    monkeypatch.setattr(package, 'device_of', lambda *a: asked.append(a) or torch.device('cpu'))
    monkeypatch.setattr(package, '_start', lambda shape, x_T, noise, device: given.append(device) or real(shape, x_T, noise, device))
    x_T = normal(2, 3)
    ddim_sample(stub, LINEAR, (2, 3), steps=2, x_T=x_T)
    assert asked == [(stub, x_T)] and given == [torch.device('cpu')]
    ddim_sample(stub, LINEAR, (2, 3), steps=2, x_T=x_T, device='cpu')
    assert len(asked) == 1 and given[1] == 'cpu'


def test_a_seed_is_one_image_whatever_the_callers_default_dtype(stub):
    base = [image_noise((2, 3), seeds, 'cpu')() for seeds in ([1, 2], None)]
    torch.set_default_dtype(torch.float64)
    try: other = [image_noise((2, 3), seeds, 'cpu')() for seeds in ([1, 2], None)]
    finally: torch.set_default_dtype(torch.float32)
    assert torch.equal(base[0], other[0]) and other[0].dtype == other[1].dtype == torch.float32


def test_a_default_device_elsewhere_changes_nothing():
    def drawn(): return ddim_sample(lambda x, t: 0.5*x, LINEAR, (2, 3), steps=4, x_T=normal(2, 3).float(), device='cpu')
    wanted = drawn()
    x_T = normal(2, 3).float()
    try:
        torch.set_default_device('meta')
        got = ddim_sample(lambda x, t: 0.5*x, LINEAR, (2, 3), steps=4, x_T=x_T, device='cpu')
    finally: torch.set_default_device(None)
    assert torch.equal(got, wanted)


def test_a_walk_that_is_not_looked_at_keeps_no_graph():
    w = torch.ones(1, requires_grad=True)
    [(_, x_0, _)] = _walk_from(lambda x, t: w*x, LINEAR, (2, 3), [9, 4, 1], ddim_coefs, x_T=normal(2, 3).float(), look=False)
    assert not x_0.requires_grad
    for _ in ddim_steps(lambda x, t: w*x, LINEAR, (2, 3), steps=3): assert (w*2).requires_grad and not torch.is_inference_mode_enabled()


# --- nothing of the caller's is changed -----------------------------------------------------------

SAMPLERS = [(ddim_sample, {}), (ddim_sample, dict(eta=1.0, clip=(-1, 1))), (ddim_steps, {}), (ddpm_steps, dict(clip=(-1, 1))), (ddpm_sample, {})]


def final(out): return out if isinstance(out, torch.Tensor) else list(out)[-1][1]


def spoils(x_t, t):
    "A model that uses its image and its steps as scratch paper, past autograd's notice too, and bends the tensor itself."
    eps = 0.5*x_t + t[:, None]*1e-3
    x_t.zero_()
    x_t.data.fill_(7)
    x_t.unsqueeze_(0)
    t.mul_(0)
    return eps


@pytest.mark.parametrize('sampler, options', SAMPLERS, ids=named)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_model_may_spoil_what_it_is_given(sampler, options, dtype):
    clean = lambda x_t, t: 0.5*x_t + t[:, None]*1e-3
    x_T = normal(2, 3, dtype=dtype)
    before = x_T.clone()
    ways = [sampler(model, LINEAR, (2, 3), steps=5, x_T=x_T, seeds=[1, 2], **options) for model in (clean, spoils)]
    if not isinstance(ways[0], torch.Tensor):
        ways = [list(way) for way in ways]
        for a, b in zip(*ways): assert torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
    assert torch.equal(*map(final, ways)) and torch.equal(x_T, before)


def test_what_is_handed_out_belongs_to_the_caller():
    "Whoever draws on a picture of the way does not draw on the next one; nor does a model that keeps one buffer for its answers."
    buffer = torch.empty(2, 3)
    def model(x_t, t): return torch.mul(x_t, 0.5, out=buffer)
    for options in {}, dict(clip=(-1, 1), eta=1.0):
        plain, drawn = [], []
        for way, touch in (plain, False), (drawn, True):
            for _, x_t, x_0_hat in ddim_steps(model, LINEAR, (2, 3), steps=5, seeds=[1, 2], **options):
                way.append((x_t.clone(), x_0_hat.clone()))
                if touch: x_t.fill_(9), x_0_hat.fill_(9)
        for a, b in zip(plain, drawn): assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize('how', ['left', 'closed', 'collected', 'failed', 'eval meanwhile', 'train meanwhile'])
def test_a_generator_leaves_no_mode_behind(how):
    "The network is the caller's between two steps, whatever becomes of the generator."
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout()).train()
    net[1].eval()
    class Model(torch.nn.Module):
        def __init__(self): super().__init__(); self.net, self.modes, self.fails = net, [], False
        def forward(self, x, t):
            self.modes.append([m.training for m in self.modules()])
            if self.fails: raise RuntimeError('mid-way')
            return self.net(x)
    model = Model()
    ways = [ddim_steps(model, LINEAR, (2, 3), steps=5) for _ in range(2)]
    next(ways[0]), next(ways[1])
    assert net.training and net[0].training and not net[1].training and model.training
    if how == 'closed': ways[0].close()
    if how == 'failed':
        model.fails = True
        with pytest.raises(RuntimeError, match='mid-way'): next(ways[0])
        model.fails = False
    if how == 'eval meanwhile': model.eval()
    if how == 'train meanwhile': model.train()
    wanted = [m.training for m in model.modules()]
    next(ways[1])
    if how == 'collected':
        ways.clear()
        gc.collect()
    else: ways.pop(0)
    assert [m.training for m in model.modules()] == wanted and not any(map(any, model.modes)) and not eval_mode.users


def test_what_is_handed_out_takes_part_in_autograd():
    w = torch.ones(1, requires_grad=True)
    for _, x_t, x_0_hat in ddim_steps(lambda x, t: w*x, LINEAR, (2, 3), steps=3):
        assert not x_t.is_inference() and not x_0_hat.is_inference() and not x_t.requires_grad
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        (w*(x_t + x_0_hat)).sum().backward()
    with torch.inference_mode(): inside = ddim_sample(lambda x, t: 0.5*x, LINEAR, (2, 3), steps=3, seeds=[1, 2])
    assert torch.equal(inside, ddim_sample(lambda x, t: 0.5*x, LINEAR, (2, 3), steps=3, seeds=[1, 2]))


def test_a_model_that_answers_with_a_history_makes_none(stub):
    "A constant that wants a gradient, made before the call: inference mode does not see it."
    answer = torch.ones(2, 3, requires_grad=True)*2
    for sampler, options in SAMPLERS: assert not final(sampler(lambda x, t: answer, LINEAR, (2, 3), steps=3, **options)).requires_grad


@pytest.mark.parametrize('sampler, options', SAMPLERS, ids=named)
def test_a_gradient_through_a_sampler_is_refused_and_not_silently_zero(sampler, options, stub):
    x_T = normal(2, 3, dtype=torch.float32).requires_grad_()
    with pytest.raises(ValueError, match='^x_T wanted no gradient'): sampler(stub, LINEAR, (2, 3), steps=2, x_T=x_T, **options)
    with torch.no_grad(): final(sampler(stub, LINEAR, (2, 3), steps=2, x_T=x_T, **options))
    final(sampler(stub, LINEAR, (2, 3), steps=2, x_T=x_T.detach(), **options))


@pytest.mark.parametrize('bad', [float('inf'), float('-inf'), float('nan'), 1e30, 1e12], ids=str)
@pytest.mark.parametrize('at', [1000, 500, 1])
@pytest.mark.parametrize('clip', [None, (-1, 1)], ids=str)
@pytest.mark.parametrize('sampler, options', [(ddim_sample, {}), (ddim_steps, dict(eta=1.0)), (ddpm_sample, dict(var='large'))], ids=named)
def test_no_answer_that_is_not_finite_becomes_a_picture(sampler, options, clip, at, bad):
    "A clamp turns infinity into a black or a white image. One bad number, at one step, is enough."
    def model(x, t):
        eps = 0.5*x
        if t[0] == at: eps[1, 2] = bad
        return eps
    run = lambda: final(sampler(model, LINEAR, (2, 3), steps=[1000, 500, 1], clip=clip, seeds=[1, 2], **options))
    if bad == 1e12 and clip is None: run()   # a caller who asks for no clamp sees the number itself
    else:
        with pytest.raises(ValueError, match='NaN, infinity or numbers far too large'): run()


# --- together or not at all -----------------------------------------------------------------------

def test_a_model_and_another_schedule_are_refused(stub):
    "The same number of steps is not enough: at step 500 another schedule has another amount of noise."
    other, cosine = linear_schedule(T=300), cosine_schedule()
    class Net(torch.nn.Module):
        def forward(self, x, t, *y): return 0.5*x
    own = [FiniteData(torch.zeros(1, 3), LINEAR), GaussianMixture([1.], torch.zeros(1, 3), 1., LINEAR), *(P(Net(), LINEAR) for P in (PredictsEps, PredictsX0, PredictsV)),
           Labelled(PredictsV(Net(), LINEAR), torch.tensor([0, 0])), Guided(PredictsV(Net(), LINEAR), torch.tensor([0, 0]), 2.0)]
    for sampler, options in SAMPLERS:
        for model in own:
            final(sampler(model, linear_schedule(), (2, 3), steps=2, **options))
            for sched in other, cosine:
                with pytest.raises(ValueError, match='^sched wanted the schedule that .* was made with, Schedule.T=1000'): sampler(model, sched, (2, 3), steps=2, **options)
        final(sampler(lambda x, t: own[0](x, t), cosine, (2, 3), steps=2, **options))   # on purpose


def test_a_schedule_in_single_precision_is_the_same_and_one_of_other_betas_is_not():
    "Rejects a comparison to the last bit, which a schedule from a float32 table fails, and one that lets two trainings pass for one."
    def off_by(share): return schedule_from_alpha_bar(torch.cat([torch.ones(1), LINEAR.alpha_bar[1:]*(1 - share)]))
    model = FiniteData(torch.zeros(1, 3), LINEAR)
    rounded = schedule_from_alpha_bar(LINEAR.alpha_bar.float())
    for sched in rounded, off_by(5e-5): assert ddim_sample(model, sched, (2, 3), steps=2).isfinite().all()
    cut = schedule_from_alpha_bar(torch.cat([COSINE.alpha_bar[:-1], COSINE.alpha_bar[-1:]/100]))   # another cap of the last beta
    with pytest.raises(ValueError, match='sched wanted'): ddim_sample(FiniteData(torch.zeros(1, 3), COSINE), cut, (2, 3), steps=2)
    for share in 2e-4, 0.1:
        with pytest.raises(ValueError, match='sched wanted the schedule that FiniteData was made with'): ddim_sample(model, off_by(share), (2, 3), steps=2)


def test_only_exchanged_arguments_are_called_exchanged(stub):
    with pytest.raises(TypeError, match=r'got Schedule: are model and sched exchanged\?$'): ddim_sample(LINEAR, stub, (2, 3))
    with pytest.raises(TypeError, match='^model wanted a function .* got list$'): ddim_sample([], LINEAR, (2, 3))


def test_exchanged_arguments_are_named(stub):
    class Scheduler: alphas_cumprod, betas = torch.ones(3), torch.ones(3)
    class UNet2DOutput(dict): sample = torch.zeros(2, 3)
    for sampler, options in SAMPLERS:
        for args, said in ((LINEAR, stub, (2, 3)), 'exchanged'), ((None, LINEAR, (2, 3)), 'model wanted a function'), ((stub, Scheduler(), (2, 3)), 'sched wanted a Schedule.* got Scheduler.*from_diffusers'), \
                          ((stub, 1000, (2, 3)), 'sched wanted a Schedule.* got int'), ((stub, (2, 3), LINEAR), 'sched wanted a Schedule.* got tuple'), ((stub, LINEAR, 4), 'shape wanted'), ((stub, LINEAR, (True, 3)), 'shape wanted'):
            with pytest.raises(TypeError, match=said): sampler(*args, **options)
        with pytest.raises(TypeError, match='UNet2DOutput.*from_diffusers translates'): final(sampler(lambda x, t: UNet2DOutput(), LINEAR, (2, 3), **options))


WRONG_NUMBERS = [
    (dict(seeds=[1, 10**400]), ValueError, '2..64'), (dict(seeds=[2**64, 0]), ValueError, '2..64'), (dict(seeds=[-1, 0]), ValueError, '2..64'), (dict(seeds=[True, False]), TypeError, 'seeds'), (dict(seeds=torch.ones(2).bool()), TypeError, 'seeds'),
    (dict(seeds=np.array([True, False])), TypeError, 'seeds'), (dict(seeds=[np.bool_(True), 1]), TypeError, 'seeds'), (dict(seeds=np.array([1., 2.])), TypeError, 'seeds'), (dict(seeds=3), TypeError, 'seeds'), (dict(seeds='12'), TypeError, 'seeds'),
    (dict(steps=[True]), TypeError, 'steps'), (dict(steps=np.bool_(True)), TypeError, 'steps'), (dict(steps=np.array([3., 1.])), TypeError, 'steps'), (dict(steps=torch.tensor(2.5)), TypeError, 'steps'), (dict(steps={3, 1}), TypeError, 'steps'),
    (dict(steps=-1), ValueError, 'steps'), (dict(steps=[3, 3, 1]), ValueError, 'falling'), (dict(steps=torch.tensor([[3, 1]])), TypeError, 'steps'), (dict(steps=float('nan')), TypeError, 'steps'),
    (dict(clip={-1: 0, 1: 0, 2: 0}), ValueError, 'clip'), (dict(clip=(float('nan'), float('nan'))), ValueError, 'clip'), (dict(clip=(1., -1.)), ValueError, 'clip'), (dict(clip='-1'), TypeError, 'clip'), (dict(clip=()), ValueError, 'clip'), (dict(clip=True), TypeError, 'clip'),
    (dict(x_T=np.zeros((2, 3))), TypeError, 'x_T'), (dict(x_T=torch.zeros(2, 3, dtype=torch.complex64)), TypeError, 'x_T'),
]


@pytest.mark.parametrize('wrong, error, said', WRONG_NUMBERS, ids=[f'{next(iter(b[0]))} {i}' for i, b in enumerate(WRONG_NUMBERS)])
def test_numbers_of_the_wrong_kind_are_named_before_any_call(wrong, error, said, stub):
    for sampler, options in SAMPLERS:
        with pytest.raises(error, match=said): sampler(stub, LINEAR, (2, 3), **(options | wrong))
    assert not stub.calls


def test_numbers_of_the_right_kind_pass(stub):
    "Ranges, arrays, numpy's and torch's numbers; the largest seed; a clamp of tensors."
    base = ddim_sample(stub, LINEAR, (2, 3), steps=[3, 2, 1], seeds=[0, 2**64 - 1], clip=(-1, 1), x_T=None)
    for steps, seeds, clip in (range(3, 0, -1), np.array([0, 2**64 - 1], dtype=np.uint64), torch.tensor([-1, 1])), (np.array([3, 2, 1]), (0, 2**64 - 1), np.array([-1., 1.])), (torch.tensor([3, 2, 1]), iter([0, 2**64 - 1]), [np.float32(-1), torch.tensor(1.)]):
        assert torch.equal(ddim_sample(stub, LINEAR, (np.int32(2), torch.tensor(3)), steps=steps, seeds=seeds, clip=clip), base)


# --- where and in what precision ------------------------------------------------------------------

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('sampler, options', SAMPLERS, ids=named)
def test_a_network_of_any_precision_samples(sampler, options, dtype):
    "Weights of eight bits move the images by less than a hundredth; they come back in float32 all the same."
    torch.manual_seed(0)
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.layer = torch.nn.Linear(3, 3)
        def forward(self, x_t, t): return self.layer(x_t)
    net = Net()
    want, got = (final(sampler(net.to(d), LINEAR, (2, 3), steps=[300, 100, 1], seeds=[1, 2], **options)) for d in (torch.float32, dtype))
    assert got.dtype == torch.float32 and (got - want).abs().max() < 0.02*want.abs().max()
    half = final(sampler(net.to(dtype), LINEAR, (2, 3), steps=[300, 1], x_T=normal(2, 3, dtype=torch.float16), **options))
    assert half.dtype == torch.float32


@pytest.mark.parametrize('sampler, options', SAMPLERS, ids=named)
def test_the_callers_defaults_change_nothing(sampler, options, stub):
    "Default device and dtype, autocast, no gradients: the same numbers, and torch's own source of chance is not touched."
    oracle = GaussianMixture([1., 2.], normal(2, 3), 0.5, LINEAR)
    draw = lambda model=stub: final(sampler(model, LINEAR, (2, 3), steps=4, seeds=[1, 2], **options))
    want, state = [draw(stub), draw(oracle)], torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try: got = [[draw(stub), draw(oracle)]]
    finally: torch.set_default_dtype(torch.float32)
    for device in 'meta', 'cpu':
        with torch.device(device): got.append([draw(stub), draw(oracle)])
    with torch.autocast('cpu', torch.bfloat16): got.append([draw(stub), draw(oracle)])
    with torch.no_grad(): got.append([draw(stub), draw(oracle)])
    for pair in got:
        assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(want, pair))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_a_bare_network_is_given_its_own_precision_and_a_wrapper_that_of_the_images(dtype):
    "Wrong programs: float32 images for weights of eight bits, which ends in torch's own words; a wrapper whose rates are rounded to eight bits."
    seen = []
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.layer = torch.nn.Linear(3, 3)
        def forward(self, x_t, t): return seen.append(x_t.dtype) or self.layer(x_t)
    class Wrapper(PredictsV):
        def forward(self, x_t, t): return seen.append(x_t.dtype) or super().forward(x_t, t)
    net = Net().to(dtype)
    for images in torch.float32, torch.float64:
        draw = lambda model: ddim_sample(model, LINEAR, (2, 3), steps=1, x_T=normal(2, 3, dtype=images)).dtype
        assert draw(net) == images and seen == [dtype]
        seen.clear()
        assert draw(Wrapper(net, LINEAR)) == images and seen == [images, dtype]
        seen.clear()
        plain = lambda x_t, t: seen.append(x_t.dtype) or x_t
        assert draw(plain) == images and seen == [images]
        seen.clear()


LABELS = torch.tensor([0, 1])


def really(f):
    "The same function, with the tables of the schedule as real numbers also where tensors are make-believe."
    def real(*a, **k):
        with unset_fake_temporarily(): return f(*a, **k)
    return real


@pytest.mark.parametrize('sampler, options', [*SAMPLERS, (ddim_steps, dict(seeds=[1, 2], eta=1.0))], ids=named)
@pytest.mark.parametrize('wrap', [PredictsEps, PredictsX0, PredictsV, lambda net, sched: Labelled(PredictsV(net, sched), LABELS), lambda net, sched: Guided(PredictsV(net, sched), LABELS, 2.0)], ids=['eps', 'x_0', 'v', 'labelled', 'guided'])
def test_nothing_waits_for_a_gpu_and_nothing_strays_from_it(sampler, options, wrap, monkeypatch):
    "A make-believe GPU: tensors without numbers. To ask one for its value is to wait for the device, and an error; so is mixing devices."
    class Net(torch.nn.Module):
        def __init__(self): super().__init__(); self.scale = torch.nn.Parameter(torch.ones(3, device='cuda'))
        def forward(self, x_t, t, *y): return x_t*self.scale + t[:, None]
    monkeypatch.setattr('ddpm_lesson.guidance.check_labels', lambda model, y: y.to('cuda'))  # it looks at the labels, once
    for name in 'factors', 'ddim_coefs', 'ddpm_coefs', '_check_match': monkeypatch.setattr(package, name, really(getattr(package, name)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = wrap(Net(), LINEAR)
        if sampler in (ddim_steps, ddpm_steps):
            way = sampler(model, LINEAR, (2, 3), steps=4, **options)
            for _ in range(4):
                _, x_t, x_0_hat = next(way)
                assert x_t.device.type == x_0_hat.device.type == 'cuda' and x_t.dtype == torch.float32
            end = lambda: next(way)
        else: end = lambda: sampler(model, LINEAR, (2, 3), steps=4, **options)
        with pytest.raises(Exception, match='item|_local_scalar_dense'): end()   # the one look, at the end


def test_huge_answers_that_cancel_are_no_picture():
    "Rejects a sum as the watch: as much above 0 as below is none."
    halves = torch.tensor([1e20, -1e20]).reshape(2, 1).expand(2, 3)
    with pytest.raises(ValueError, match='far too large'): ddim_sample(lambda x, t: halves, LINEAR, (2, 3), steps=3, clip=(-1, 1))
