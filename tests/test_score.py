"Score, Tweedie, the SDE and the ODE: each formula by a second road, each sampler by its exact law."
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.dialects import zero_terminal_snr
from ddpm_lesson.forward import q_sample
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.posterior import posterior_mean, posterior_var, x_0_from_eps
from ddpm_lesson.sampler import ddim_sample, image_noise, trailing
from ddpm_lesson.schedule import linear_schedule, rescaled_linear_schedule
from ddpm_lesson.score import (
    _sde_walk,
    dsm_loss,
    langevin_step,
    pf_ode,
    pf_ode_steps,
    pf_velocity,
    reverse_step,
    score_from_eps,
    sde_coefs,
    sde_sample,
    sde_steps,
    sde_time,
    tweedie,
    tweedie_cov,
)

WEIGHTS, MEANS, STD = [0.5, 0.3, 0.2], torch.tensor([[-0.7, -0.5], [0.8, -0.2], [0.1, 0.9]], dtype=torch.float64), 0.25


def hills(sched): return GaussianMixture(WEIGHTS, MEANS, STD, sched)


def steps_of(sched): return sorted({1, max(1, sched.T//2), sched.T})


def by_bayes(sched, x, t):
    "Mean and covariance of x_0 given each x_t of the mixture: component by component, then the law of total covariance."
    ab = sched.alpha_bar[t]
    v = ab*STD**2 + 1 - ab
    logs = torch.tensor(WEIGHTS, dtype=torch.float64).log() - (x[:, None] - ab.sqrt()*MEANS).square().sum(-1)/(2*v)
    r = logs.softmax(1)
    means = MEANS + ab.sqrt()*STD**2/v*(x[:, None] - ab.sqrt()*MEANS)
    mean = (r[..., None]*means).sum(1)
    off = means - mean[:, None]
    within = STD**2*(1 - ab)/v*torch.eye(2, dtype=torch.float64)
    return mean, within + torch.einsum('bk,bki,bkj->bij', r, off, off)


def test_the_score_is_the_slope_of_the_log_density(sched):
    "Rejects a score without its minus, and one divided by the variance of the noise instead of its root."
    world, x = hills(sched), normal(5, 2)
    for t in steps_of(sched):
        ab, x_t = sched.alpha_bar[t], x.clone().requires_grad_()
        v = ab*STD**2 + 1 - ab
        log_q = (torch.tensor(WEIGHTS, dtype=torch.float64).log() - (x_t[:, None] - ab.sqrt()*MEANS).square().sum(-1)/(2*v)).logsumexp(1)
        slope, = torch.autograd.grad(log_q.sum(), x_t)
        assert_close(score_from_eps(sched, world(x, t), t), slope, rtol=1e-9, atol=1e-9)


def test_tweedie_is_the_average_by_bayes(sched):
    "Rejects noise_rate for its square, a missing division, and the covariance of the noise for that of the image."
    world, x = hills(sched), normal(5, 2)
    for t in steps_of(sched):
        mean, cov = by_bayes(sched, x, t)
        score = score_from_eps(sched, world(x, t), t)
        near = dict(rtol=1e-6, atol=1e-8/sched.alpha_bar[t].item())
        assert_close(tweedie(sched, x, score, t), mean, **near)
        assert_close(tweedie(sched, x, score, t), x_0_from_eps(sched, x, world(x, t), t), **near)
        assert_close(tweedie_cov(world, sched, x, t), cov, **near)
    assert torch.equal(tweedie(sched, x, torch.full_like(x, 1e9), 0), x)


def test_the_covariance_takes_one_step_an_image_and_any_shape():
    "Rejects one step for a whole batch, slopes that mix images, and rows and columns exchanged."
    sched = linear_schedule()
    world = GaussianMixture([1., 2.], normal(2, 2, 1, 3), 0.4, sched)
    x, t = normal(3, 2, 1, 3, seed=1), torch.tensor([40, 400, 900])
    whole = tweedie_cov(world, sched, x, t)
    assert whole.shape == (3, 6, 6)
    for i in range(3): assert_close(whole[i:i + 1], tweedie_cov(world, sched, x[i:i + 1], t[i].item()), rtol=1e-12, atol=1e-12)
    bent = lambda x, t: torch.stack([x[:, 0]*x[:, 1], x[:, 1]], 1)     # its slopes are not symmetric
    row = (torch.eye(2, dtype=torch.float64) - sched.noise_rate[400]*torch.tensor([[3., 2.], [0., 1.]], dtype=torch.float64))/sched.snr[400]
    assert_close(tweedie_cov(bent, sched, torch.tensor([[2., 3.]], dtype=torch.float64), 400)[0], row, rtol=1e-12, atol=0)
    with torch.inference_mode(): assert_close(tweedie_cov(world, sched, x, t), whole)


def test_the_covariance_is_that_of_the_network_at_rest():
    "Rejects slopes taken while dropout is on, and a network that is left in eval mode."
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3).double())
    model = type('Model', (nn.Module,), {'forward': lambda self, x, t: net(x)})()
    model.net, sched, x = net, linear_schedule(), normal(2, 3)
    assert torch.equal(tweedie_cov(model, sched, x, 9), tweedie_cov(model, sched, x, 9)) and net.training


def test_the_covariance_completes_the_variance_of_a_step_back(sched):
    "(4.7) with Tweedie's variance is the variance of x_(t-1) given x_t by its own density. Rejects c_0 without its square."
    if sched.T < 2: return
    world = GaussianMixture([0.3, 0.7], torch.tensor([[-0.8], [0.7]], dtype=torch.float64), 0.2, sched)
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
    t, x_t = max(2, sched.T//2), torch.tensor([[0.1]], dtype=torch.float64)
    ab = sched.alpha_bar[t - 1]
    before = (torch.tensor([0.3, 0.7], dtype=torch.float64).log() - (grid[:, None] - ab.sqrt()*world.means.T)**2/(2*(ab*0.04 + 1 - ab))).logsumexp(1)
    p = (before - (x_t - (1 - sched.beta[t]).sqrt()*grid)**2/(2*sched.beta[t])).softmax(1)
    mean = (p*grid).sum()
    c_0 = posterior_mean(sched, 0*x_t, 0*x_t + 1, t)
    ours = posterior_var(sched, t) + c_0**2*tweedie_cov(world, sched, x_t, t)[:, 0]
    assert_close(ours.item(), (p*(grid - mean)**2).sum().item(), rtol=1e-6, atol=0)


def test_denoising_score_matching_is_the_loss_of_the_noise_over_the_noise_variance(sched):
    "Rejects a target with the wrong sign, a mean over pixels, and the weight left out."
    world, x_0, eps = hills(sched), normal(3, 2), normal(3, 2, seed=1)
    t = torch.tensor([1, max(1, sched.T//2), sched.T])
    eps_hat = world(q_sample(sched, x_0, t, eps), t)
    assert_close(dsm_loss(world, sched, x_0, t, eps), (eps_hat - eps).square().sum(1)/(1 - sched.alpha_bar[t]), rtol=1e-9, atol=0)


def test_score_matching_is_summed_in_digits_enough():
    "Rejects a sum in half precision: at the first step, where all is divided by little noise, it is infinite."
    x_0, eps, sched = normal(2, 1, 16, 16).clamp(-1, 1), normal(2, 1, 16, 16, seed=1), linear_schedule()
    wanted, got = (dsm_loss(lambda x, t: 0.5*x, sched, x_0.to(d), torch.tensor([1, 500]), eps.to(d)) for d in (torch.float64, torch.float16))
    assert got.dtype == torch.float32
    assert_close(got.double(), wanted, rtol=1e-2, atol=0)


def test_the_two_losses_differ_by_a_constant():
    "By quadrature, for three wrong scores. Rejects a target with a sign or a rate exchanged: the gap then depends on the model."
    sched, t = linear_schedule(), 300
    world = GaussianMixture([0.3, 0.7], torch.tensor([[-0.8], [0.7]], dtype=torch.float64), 0.3, sched)
    nodes = torch.linspace(-8, 8, 401, dtype=torch.float64)
    w = (-nodes**2/2).softmax(0)
    k = torch.tensor([0, 1]).repeat_interleave(401*401)
    x_0 = world.means[k, 0] + 0.3*nodes.repeat_interleave(401).repeat(2)
    eps, weight = nodes.repeat(802), torch.cat([p*torch.outer(w, w).flatten() for p in (0.3, 0.7)])
    x_t = q_sample(sched, x_0[:, None], t, eps[:, None])
    gaps = []
    for model in (lambda x, t: 0*x, lambda x, t: 0.7*world(x, t) + 0.2, lambda x, t: (2*x).sin()):
        explicit = (score_from_eps(sched, model(x_t, t) - world(x_t, t), t)**2)[:, 0]
        gaps.append(((dsm_loss(model, sched, x_0[:, None], t, eps[:, None]) - explicit)*weight).sum())
    ab = sched.alpha_bar[t]
    average = (tweedie_cov(world, sched, x_t[::97], t)[:, 0, 0]*weight[::97]).sum()/weight[::97].sum()
    assert_close(gaps[0], gaps[1], rtol=1e-9, atol=0)
    assert_close(gaps[0], gaps[2], rtol=1e-9, atol=0)
    assert_close(average*ab/(1 - ab)**2, gaps[0], rtol=1e-2, atol=0)      # of a part of the places


def test_time_counts_what_the_signal_lost(sched):
    "Rejects the sum of the betas in place of -log(1 - beta): the SDE then has other marginals than the chain."
    assert sde_time(sched, 0) == 0
    t = torch.arange(1, sched.T + 1)
    assert_close(sde_time(sched, t), -torch.log1p(-sched.beta[1:]).cumsum(0), rtol=1e-9, atol=0)
    assert_close((-sde_time(sched, t)).exp(), sched.alpha_bar[1:], rtol=1e-12, atol=0)


@pytest.mark.parametrize('eta', [0.0, 0.4, 1.0])
@pytest.mark.parametrize('corrections', [0, 2])
def test_the_sampler_is_its_steps_one_by_one(eta, corrections):
    "Rejects eta without its square in the drift, noise at the last step, and a correction at the level it came from."
    sched, shape, ts = rescaled_linear_schedule(60), (3, 2), [60, 31, 30, 4]
    world, x, seeds = hills(sched), normal(3, 2), [5, 6, 7]
    z, want = image_noise(shape, seeds, 'cpu', x), x
    for t, s in zip(ts, ts[1:]):
        fresh = z().double() if eta else torch.zeros_like(x)
        want = reverse_step(sched, want, score_from_eps(sched, world(want, t), t), t, s, fresh, eta)
        for _ in range(corrections):
            want = langevin_step(want, score_from_eps(sched, world(want, s), s), 0.05*(1 - sched.alpha_bar[s]), z().double())
    want = tweedie(sched, want, score_from_eps(sched, world(want, 4), 4), 4)
    got = sde_sample(world, sched, shape, steps=ts, eta=eta, corrections=corrections, x_T=x, seeds=seeds)
    assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert got.dtype == torch.float64


def variance(sched, spread, ts, eta):
    "Exact variance of x_t at each visited level for data N(0, spread^2), from q(x_T)."
    v = sched.alpha_bar*spread**2 + 1 - sched.alpha_bar
    keep, mix, sigma = sde_coefs(sched, ts, eta)
    out = [v[ts[0]]]
    for t, k, m, s in zip(ts, keep, mix, sigma): out.append((k + m*sched.noise_rate[t]/v[t])**2*out[-1] + s**2)
    return torch.stack(out), v[[*ts, 0]]


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
def test_every_eta_has_the_marginals_of_the_chain(eta):
    "First order at every level: twice the steps, half the error. Rejects half the score with full noise, and the whole score without noise."
    off = []
    for S in 250, 500, 1000:
        got, want = variance(linear_schedule(), 0.5, trailing(1000, S), eta)
        off.append((got - want).abs().max())
    assert off[-1] < 0.01 and 1.6 < off[1]/off[2] < 2.4 and 1.6 < off[0]/off[1] < 2.6


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
def test_the_loop_has_the_variance_that_its_numbers_say(eta):
    "Unit impulses through the sampler itself. Rejects a loop that uses a coefficient at another step."
    sched, ts = linear_schedule(), trailing(1000, 12)
    one = GaussianMixture([1.], torch.zeros(1, 1), 0.5, sched)
    draws = iter(torch.eye(12, dtype=torch.float64).T[..., None])
    coefs = sde_coefs(sched, ts, eta)
    walk = _sde_walk(one, sched, next(draws), ts, coefs, lambda: next(draws), None, False)
    seen = [x.square().sum() for _, x, _ in walk]
    v, now = sched.alpha_bar*0.25 + 1 - sched.alpha_bar, torch.ones((), dtype=torch.float64)
    for got, t, keep, mix, sigma in zip(seen, ts, *coefs):
        assert_close(got, now, rtol=1e-9, atol=1e-12)
        now = (keep + mix*sched.noise_rate[t]/v[t])**2*now + sigma**2
    assert_close(seen[-1], now, rtol=1e-9, atol=1e-12)


def test_the_flow_goes_where_ddim_goes():
    "Both solve one ODE: at 1,000 steps they agree to a few thousandths, at 50 they do not. Rejects the whole score, and none."
    sched, x = linear_schedule(), normal(64, 2)
    flow, ddim = (sample(hills(sched), sched, (64, 2), steps=1000, x_T=x) for sample in (pf_ode, ddim_sample))
    assert (flow - ddim).abs().max() < 0.02
    assert (pf_ode(hills(sched), sched, (64, 2), steps=50, x_T=x) - ddim).abs().max() > 0.02


def test_the_velocity_is_the_one_of_lesson_7():
    "d(x/signal)/d rho = eps, times d rho/d time. Rejects the sign of time, and a missing half."
    sched, x, t = linear_schedule(), normal(4, 2), 400
    eps = hills(sched)(x, t)
    ab = sched.alpha_bar[t]
    rho = ((1 - ab)/ab).sqrt()
    d_rho = 1/(2*ab*rho)                      # of rho = sqrt(exp(time) - 1)
    assert_close(pf_velocity(x, score_from_eps(sched, eps, t)), -x/2 + ab.sqrt()*d_rho*eps, rtol=1e-12, atol=1e-12)


def test_langevin_stays_where_its_exact_law_says():
    "On N(0, v) the variance settles at v/(1 - h/2v). Rejects noise of sqrt(h), noise of h, and a score without h."
    v, h, var = 0.3, 0.05, torch.tensor(1., dtype=torch.float64)
    unit = torch.eye(2, dtype=torch.float64)
    for _ in range(400):
        a, b = langevin_step(unit[:1, :1], -unit[:1, :1]/v, h, 0*unit[:1, :1]), langevin_step(0*unit[:1, :1], 0*unit[:1, :1], h, unit[:1, :1])
        var = a[0, 0]**2*var + b[0, 0]**2
    assert_close(var.item(), v/(1 - h/(2*v)), rtol=1e-12, atol=0)


@pytest.mark.parametrize('eta', [0.0, 1.0])
def test_corrections_bring_the_law_back(eta):
    "Exact variances by unit impulses: ten steps alone are off, with corrections less so. Rejects corrections that do nothing or pull the wrong way."
    sched, ts = linear_schedule(), trailing(1000, 10)
    one, off = GaussianMixture([1.], torch.zeros(1, 1), 0.5, sched), []
    for n in 0, 4:
        draws = iter(torch.eye(60, dtype=torch.float64).T[..., None])
        walk = _sde_walk(one, sched, next(draws), ts, sde_coefs(sched, ts, eta), lambda: next(draws), None, False, corrections=n, size=0.2)
        seen = torch.stack([x.square().sum() for _, x, _ in walk])[1:-1]
        off.append((seen/(sched.alpha_bar*0.25 + 1 - sched.alpha_bar)[ts[1:]] - 1).abs())
    assert off[1][-1] < 0.5*off[0][-1]


class Stub(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = []
    def forward(self, x, t):
        self.calls.append(t.tolist())
        return torch.tanh(x + t.to(x)[:, None]/1000)


@pytest.mark.parametrize('corrections', [0, 3])
def test_calls_are_counted_and_steps_are_those_asked_for(corrections):
    "Rejects a correction after the last step, and a call at t = 0."
    net = Stub()
    sde_sample(net, linear_schedule(), (2, 3), steps=[900, 33, 2], corrections=corrections, seeds=[1, 2])
    assert net.calls == [[900]*2] + [[33]*2]*(1 + corrections) + [[2]*2]*(1 + corrections)


def test_the_same_image_for_a_seed_wherever_it_stands():
    "Rejects one generator for the whole batch, and a Langevin size taken from the batch (as in Song et al.'s code)."
    sched, options = linear_schedule(), dict(steps=7, corrections=2)
    one = sde_sample(hills(sched), sched, (1, 2), seeds=[8], **options)
    three = sde_sample(hills(sched), sched, (3, 2), seeds=[4, 9, 8], **options)
    assert_close(three[2:], one, rtol=1e-5, atol=1e-6)
    assert one.dtype == torch.float32


def test_the_flow_draws_no_random_number():
    state, x = torch.get_rng_state(), normal(2, 2)
    pf_ode(hills(linear_schedule()), linear_schedule(), (2, 2), steps=5, x_T=x)
    assert torch.equal(torch.get_rng_state(), state)


def test_twins_yield_each_step_and_end_alike():
    sched, x = linear_schedule(), normal(2, 2)
    for sample, steps, options in (sde_sample, sde_steps, dict(eta=0.5, corrections=1)), (pf_ode, pf_ode_steps, {}):
        options = dict(steps=[500, 40], x_T=x, seeds=[1, 2], **options)
        seen = list(steps(hills(sched), sched, (2, 2), **options))
        assert [t for t, _, _ in seen] == [500, 40, 0]
        assert torch.equal(seen[-1][1], sample(hills(sched), sched, (2, 2), **options))
        assert_close(seen[1][2], x_0_from_eps(sched, seen[1][1], hills(sched)(seen[1][1], 40), 40))


def test_a_clamp_holds_the_estimate_and_not_the_image():
    sched = linear_schedule()
    seen = list(pf_ode_steps(hills(sched), sched, (2, 2), steps=5, clip=(-0.1, 0.1), x_T=normal(2, 2)))
    assert all(x_0.abs().max() <= 0.1 + 1e-12 for _, _, x_0 in seen) and seen[0][1].abs().max() > 0.1


@pytest.mark.parametrize('options, error', [
    (dict(eta=1.5), r'eta wanted a value in \[0, 1\]'), (dict(eta=True), 'eta wanted'), (dict(corrections=-1), 'corrections wanted at least 0, got -1'), (dict(corrections=1.5), 'whole number'),
    (dict(size=0), r'size wanted a value in \(0, 1'), (dict(size=1.0), 'size'), (dict(steps=[1, 5]), 'falling'), (dict(steps=0), '1..1000'), (dict(clip=(1, -1)), 'clip'),
    (dict(x_T=torch.full((2, 2), float('nan'))), 'finite'), (dict(seeds=[1]), 'seeds'),
])
def test_bad_input_is_refused_before_the_first_step(options, error):
    net = Stub()
    with pytest.raises((ValueError, TypeError), match=error): sde_steps(net, linear_schedule(), (2, 2), **options)
    assert not net.calls


def test_bad_tensors_are_refused():
    sched, x = linear_schedule(), normal(2, 2)
    for t in 0, 1001:
        with pytest.raises(ValueError, match=r't wanted 1..1000'): score_from_eps(sched, x, t)
        with pytest.raises(ValueError, match=r't wanted 1..1000'): tweedie_cov(hills(sched), sched, x, t)
    with pytest.raises(ValueError, match='one shape'): tweedie(sched, x, x[:, :1], 5)
    with pytest.raises(ValueError, match='below t'): reverse_step(sched, x, x, 5, 6, x)
    with pytest.raises(ValueError, match='at least 0'): langevin_step(x, x, -1.0, x)
    with pytest.raises(TypeError, match='floating'): score_from_eps(sched, x.long(), 5)
    with pytest.raises(ValueError, match='NaN'): sde_sample(lambda x, t: x*float('nan'), sched, (2, 2), steps=3)
    with pytest.raises(ValueError, match='far too large'): pf_ode(lambda x, t: x*float('inf'), sched, (2, 2), steps=3, clip=(-1, 1))


def test_where_nothing_is_left_the_score_says_nothing_of_the_image():
    "Rejects NaN and infinity where alpha_bar is 0: a covariance, a time, Tweedie's average."
    dark, x = zero_terminal_snr(linear_schedule(10)), normal(2, 2)
    for call in lambda: tweedie(dark, x, x, 10), lambda: tweedie_cov(hills(dark), dark, x, 10), lambda: sde_time(dark, 10), lambda: reverse_step(dark, x, x, 10, 1, x):
        with pytest.raises(ValueError, match='t <= 9'): call()
    for sample in sde_sample, pf_ode:
        with pytest.raises(ValueError, match='alpha_bar is 0'): sample(hills(dark), dark, (2, 2), steps=[10, 1])
        assert sample(hills(dark), dark, (2, 2), steps=[9], seeds=[1, 2]).isfinite().all()
    assert score_from_eps(dark, x, 10).equal(-x)
