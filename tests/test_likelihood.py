"Likelihood: density along the ODE, its estimate and interval, the chain's bound, bytes."
import math
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from conftest import SCHEDULES, NoFloat64, Stub, normal
from ddpm_lesson import likelihood
from ddpm_lesson.dialects import flow_schedule, pair_noise
from ddpm_lesson.likelihood import (
    bits_per_dim,
    decoder_log_prob,
    dequantise,
    elbo_terms,
    log_density,
    log_normal,
    ode_bound,
    ode_log_likelihood,
    student,
)
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.oracle import FiniteData, GaussianMixture
from ddpm_lesson.posterior import eps_from_x_0, posterior_mean, posterior_var, x_0_from_eps
from ddpm_lesson.sampler import quadratic
from ddpm_lesson.schedule import cosine_schedule, linear_schedule

LINEAR, ZERO = linear_schedule(), flow_schedule(20)
MEANS = torch.tensor([[-1., .5], [.7, .2], [.1, -.9]], dtype=torch.float64)
WORLD = GaussianMixture([.5, .3, .2], MEANS, 0.3, LINEAR)
BYTES = torch.tensor([[10., 200.], [12., 100.], [190., 150.]]).double()/127.5 - 1


@pytest.mark.parametrize('sched', [LINEAR, cosine_schedule()], ids=['linear', 'cosine'])
def test_the_odes_density_is_the_mixtures_to_a_thousandth_of_a_nat(sched):
    "Rejects Euler's rule, a forgotten d sin, the sign of a clock that runs down, a law at T of another shape."
    world = GaussianMixture([.5, .3, .2], MEANS, 0.3, sched)
    x_0 = world.sample(6, torch.Generator().manual_seed(0)).double()
    log_p, half = ode_log_likelihood(world, sched, x_0, steps=quadratic(1000, 100), log_p_T=lambda x: log_density(world, x, 1000))
    assert_close(log_p, log_density(world, x_0, 0), rtol=0, atol=1e-3)  # checks (17.4)
    assert log_p.dtype == torch.float64 and torch.equal(half, torch.zeros(6).double())


def test_the_density_may_be_asked_for_at_any_step():
    "Rejects a path that begins at 0 whatever `start` says, and one that leaves out its first step."
    x = torch.tensor([[.4, -.3], [-1.2, .1]], dtype=torch.float64)
    for start in 1, 37, 400:
        log_p, _ = ode_log_likelihood(WORLD, LINEAR, x, steps=quadratic(1000, 60), start=start, log_p_T=lambda x: log_density(WORLD, x, 1000))
        assert_close(log_p, log_density(WORLD, x, start), rtol=0, atol=4e-3)


def test_four_times_the_accuracy_for_twice_the_steps():
    "Rejects a rule of first order."
    x_0 = torch.tensor([[.4, -.3], [-1.2, .1]], dtype=torch.float64)
    truth = log_density(WORLD, x_0, 0)
    error = [(ode_log_likelihood(WORLD, LINEAR, x_0, steps=quadratic(1000, S), log_p_T=lambda x: log_density(WORLD, x, 1000))[0] - truth).abs().max() for S in (12, 24, 48)]
    assert 3 < error[0]/error[1] < 6 and 3 < error[1]/error[2] < 6


@pytest.mark.parametrize('probes', [2, 4])
def test_intervals_hold_the_exact_value_as_often_as_they_say(probes):
    "600 runs: by chance 95 +- 2 %. Rejects 1.96 for Student, a standard deviation for a standard error, probes of another variance."
    world = GaussianMixture([.5, .3, .2], normal(3, 6, seed=1), 0.4, LINEAR)
    point, ts = world.sample(1, torch.Generator().manual_seed(0)).double(), quadratic(1000, 8)
    exact, _ = ode_log_likelihood(world, LINEAR, point, steps=ts)
    guess, half = ode_log_likelihood(world, LINEAR, point.expand(600, 6), steps=ts, probes=probes, seeds=range(600))
    assert abs(((guess - exact).abs() < half).double().mean() - 0.95) < 0.02
    assert abs((guess - exact).mean()) < 4*guess.std()/600**0.5


def test_a_seed_has_its_estimate_in_any_batch_and_place():
    "Rejects one generator for the whole batch."
    x_0 = normal(5, 2)
    ask = lambda rows: ode_log_likelihood(WORLD, LINEAR, x_0[rows], steps=4, probes=3, seeds=rows)
    all_of_them = ask([0, 1, 2, 3, 4])
    for rows in [3], [4, 1]: assert_close(ask(rows), tuple(a[rows] for a in all_of_them), rtol=1e-12, atol=1e-12)


def test_one_probe_has_no_interval(): assert torch.isinf(ode_log_likelihood(WORLD, LINEAR, normal(2, 2), steps=3, probes=1)[1]).all()


def test_probes_are_not_the_noise_that_dequantised():
    "Both come of the same seed: rejects a probe that is the sign of the noise in the pixels."
    seen = []

    class Linear(torch.nn.Module):
        def forward(self, x_t, t): return Spy.apply(x_t)

    class Spy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x.clone()
        @staticmethod
        def backward(ctx, v):
            seen.append(v.clone())
            return v

    pixels = torch.full((1, 400), 100, dtype=torch.uint8)
    x = dequantise(pixels, [7])
    ode_log_likelihood(Linear(), LINEAR, x, steps=1, probes=1, seeds=[7])
    agree = ((x - x.mean()).sign() == seen[0]).double().mean()
    assert abs(agree - 0.5) < 4*0.5/400**0.5


def test_a_network_is_asked_at_rest_and_left_as_it_was(stub):
    stub.train()
    ode_log_likelihood(stub, LINEAR, normal(2, 3), steps=4)
    with torch.inference_mode(): ode_log_likelihood(stub, LINEAR, normal(2, 3), steps=4)
    elbo_terms(stub, LINEAR, normal(2, 3), steps=4, bins=None)
    assert stub.training and not any(stub.modes) and stub.weight.grad is None


def test_a_model_without_gradient_is_refused_not_taken_for_flat():
    "Rejects a trace of 0 for a model that computes under no_grad."
    with pytest.raises(ValueError, match='wanted a gradient'): ode_log_likelihood(torch.no_grad()(Stub()), LINEAR, normal(2, 3), steps=4)


# ---- the chain's bound

@pytest.mark.parametrize('var', ['small', 'large'])
def test_each_term_is_the_divergence_of_two_gaussians(sched, var):
    "Rejects weights of another list of steps, a forgotten variance part, terms in the order of sampling."
    x_0, said = normal(3, 2, 5, seed=1)/2, normal(3, 2, 5, seed=2)/2
    L = elbo_terms(lambda x_t, t: eps_from_x_0(sched, x_t, said, t), sched, x_0, var=var, bins=None)
    assert L.shape == (3, sched.T + 1)
    for t in {2, sched.T//2, sched.T} - {0, 1} if sched.T > 1 else ():
        q_var = posterior_var(sched, t)
        p_var, x_t = q_var if var == 'small' else sched.beta[t], normal(3, 2, 5)
        apart = (posterior_mean(sched, x_t, x_0, t) - posterior_mean(sched, x_t, said, t)).square()
        kl = (p_var/q_var).log()/2 + (q_var + apart)/(2*p_var) - 0.5    # (9.4)
        assert_close(L[:, t - 1], kl.sum((1, 2)), rtol=1e-6, atol=1e-9)  # checks (17.7)
    a = sched.alpha_bar[-1]
    assert_close(L[:, -1], ((a*x_0**2 - a - (1 - a).log())/2).sum((1, 2)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('var, std_0', [('small', None), ('large', None), ('large', 0.02)])
def test_the_decoder_has_the_spread_of_ddpms_program(var, std_0):
    "Rejects the last step's own variance, which is 0, and beta_1 for the large one."
    x_0, said = normal(3, 4, seed=1)/2, normal(3, 4, seed=2)/2
    L = elbo_terms(lambda x_t, t: eps_from_x_0(LINEAR, x_t, said, t), LINEAR, x_0, var=var, bins=None, std_0=std_0)
    std = std_0 or posterior_var(LINEAR, 2).sqrt().item()
    assert_close(L[:, 0], -torch.distributions.Normal(said, std).log_prob(x_0).sum(1), rtol=1e-6, atol=1e-9)


def test_a_clamp_reaches_the_bound():
    x_0 = BYTES
    wild = lambda x_t, t: eps_from_x_0(LINEAR, x_t, 5*x_0, t)
    inside = lambda x_t, t: eps_from_x_0(LINEAR, x_t, (5*x_0).clamp(-1, 1), t)
    assert_close(elbo_terms(wild, LINEAR, x_0, steps=5, clip=(-1, 1), seeds=range(3)), elbo_terms(inside, LINEAR, x_0, steps=5, seeds=range(3)), rtol=1e-6, atol=1e-6)


def test_masses_of_all_bytes_add_up_to_one_and_none_is_lost_in_the_tail():
    "Rejects a density times a width, a difference of rounded masses, and an outermost cell that ends."
    every, at = (torch.arange(256).double()/127.5 - 1)[:, None], torch.tensor([[-30., -1., 0.004, 0.99, 2.]]).double()
    for std in 1e-3, 0.01, 1.0:
        log_p = decoder_log_prob(*torch.broadcast_tensors(every, at), std)
        assert log_p.isfinite().all() and (log_p <= 0).all()
        assert_close(log_p.exp().sum(0), torch.ones(5).double(), rtol=1e-9, atol=0)  # checks (17.8)


def test_the_odes_bound_on_bytes_meets_a_finite_set():
    "Three pictures, each of probability 1/3. Rejects a forgotten log q, and a density where a probability belongs."
    finite = FiniteData(BYTES, LINEAR)
    log_P, half = ode_bound(finite, LINEAR, BYTES, steps=quadratic(1000, 150), std_0=1e-3, seeds=range(3))
    assert_close(log_P, torch.full((3,), -math.log(3)).double(), rtol=0, atol=0.05)  # checks (17.12)
    blunt, _ = ode_bound(finite, LINEAR, BYTES, steps=quadratic(1000, 20), seeds=range(3))
    sharp, _ = ode_bound(finite, LINEAR, BYTES, steps=quadratic(1000, 20), std_0=1e-3, seeds=range(3))
    std = posterior_var(LINEAR, 2).sqrt().item()
    assert_close(blunt - sharp, torch.full((3,), 2*math.log(math.erf(1/255/std/2**0.5))).double(), rtol=0, atol=1e-3)


# ---- units and bad input

def test_bits_of_a_fair_byte_are_eight():
    "Rejects bits a picture, nats, and a density read as a probability."
    assert_close(bits_per_dim(torch.tensor([-12*math.log(256)], dtype=torch.float64), 12), torch.tensor([8.]).double(), rtol=1e-12, atol=0)
    flat = torch.tensor([-12*math.log(256*2/255)], dtype=torch.float64)   # the density of even noise over all cells
    assert_close(bits_per_dim(flat, 12, 2/255), torch.tensor([8.]).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize('n, t', [(2, 12.706), (3, 4.303), (8, 2.365), (100, 1.984)])
def test_student_is_the_table_of_every_textbook(n, t): assert abs(student(n)/t - 1) < 1e-3


def test_dequantised_bytes_stay_in_their_cells():
    pixels = torch.arange(256, dtype=torch.uint8).view(4, 64)
    x = (dequantise(pixels, range(4)) + 1)*127.5 - pixels
    assert x.abs().max() <= 0.5 + 1e-9 and abs(x.mean()) < 4*(1/12/256)**0.5 and x.std() > 0.25
    assert torch.equal(dequantise(pixels[2:3], [2]), dequantise(pixels, range(4))[2:3])


def test_a_density_is_worked_out_where_the_images_are():
    "Rejects weights that stay on the CPU: known without a GPU by images that have no numbers."
    for t in 5, torch.tensor([5, 9]): assert log_density(WORLD, normal(2, 2).to('meta'), t).is_meta


def test_log_normal_counts_every_number(): assert_close(log_normal(normal(2, 3, 4)), torch.distributions.Normal(0, 1).log_prob(normal(2, 3, 4)).sum((1, 2)).double(), rtol=1e-9, atol=1e-9)


X = normal(2, 3)


@pytest.mark.parametrize('call, error', [
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, steps=[500, 3]), 'begin at T = 1000'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, start=1000), r'start wanted a step in 0\.\.999'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, start=True), 'start wanted'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, probes=0), 'probes wanted at least 1'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, probes=2, seeds=[1]), 'seeds wanted one per image'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X*math.nan), 'NaN'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X[0], steps=3), r'wanted a batch'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X.byte()), 'floating-point'),
    (lambda: ode_log_likelihood(lambda x, t: x[:1], LINEAR, X, steps=3), 'shape it was given'),
    (lambda: ode_log_likelihood(lambda x, t: x*math.nan, LINEAR, X, steps=3), 'NaN, infinity'),
    (lambda: ode_log_likelihood(LINEAR, Stub(), X), 'exchanged'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, steps=3, log_p_T=lambda x: x[:, :1]), r'log_p_T wanted to return shape \(2,\), got \(2, 1\)'),
    (lambda: ode_log_likelihood(Stub(), LINEAR, X, steps=3, log_p_T=lambda x: 0.0), 'what log_p_T returns wanted a floating-point tensor'),
    (lambda: ode_log_likelihood(WORLD, cosine_schedule(), X[:, :2]), 'sched wanted the schedule'),
    (lambda: elbo_terms(Stub(), LINEAR, X, steps=3), 'bins=None takes any numbers'),
    (lambda: elbo_terms(Stub(), LINEAR, 2*BYTES, steps=3), 'bins=None'),
    (lambda: elbo_terms(Stub(), LINEAR, X, steps=3, bins=None, var='medium'), 'var wanted'),
    (lambda: elbo_terms(Stub(), LINEAR, X, steps=3, bins=None, std_0=0), 'std_0 wanted'),
    (lambda: elbo_terms(Stub(), LINEAR, X, steps=1001, bins=None), 'steps wanted'),
    (lambda: ode_bound(Stub(), LINEAR, X, steps=3), 'values that `to_unit` makes'),
    (lambda: dequantise(X), 'pixels wanted uint8'),
    (lambda: bits_per_dim(X, 0), 'numbers wanted'),
    (lambda: bits_per_dim(X, 3, 0), 'cell wanted'),
    (lambda: log_density(FiniteData(BYTES, LINEAR), BYTES, 0), 'no density at t = 0'),
    (lambda: log_density(WORLD, MEANS, -1), r't wanted 0\.\.1000'),
    (lambda: log_density(WORLD, MEANS[:, :1], 5), 'x_t wanted shape'),
    (lambda: log_normal(X.long()), 'floating-point'),
    (lambda: student(1), 'n wanted at least 2'),
    (lambda: student(5, 2.), 'cover wanted'),
    (lambda: decoder_log_prob(BYTES, BYTES, 0.), 'std wanted'),
    (lambda: decoder_log_prob(BYTES, BYTES[:1], 1.), 'x_0 and mean wanted one shape'),
    (lambda: decoder_log_prob(BYTES, BYTES, 1., 1), 'bins wanted at least 2'),
    (lambda: elbo_terms(Stub(), LINEAR, X, steps=3, bins=0), 'bins wanted at least 2'),
    (lambda: elbo_terms(lambda x, t: x*math.nan, LINEAR, BYTES, steps=3), 'NaN, infinity'),
    (lambda: elbo_terms(lambda x, t: x*math.inf, LINEAR, BYTES, steps=3, clip=(-1, 1)), 'NaN, infinity'),
    (lambda: ode_log_likelihood(PredictsV(Stub(), ZERO), ZERO, X, steps=3), 'alpha_bar above 0'),
    (lambda: dequantise(torch.zeros(0, 3).byte()), 'every entry at least 1'),
])
def test_bad_input_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_a_law_at_T_that_is_not_the_normal_one_is_said():
    "Rejects numbers that are silently off: bits of a schedule that keeps the image."
    short, x = linear_schedule(100), MEANS[:, :2]
    with pytest.warns(UserWarning, match=r'x_T is up to 0\.33 bits per number from N\(0, I\)'): ode_log_likelihood(Stub(), short, x, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ode_log_likelihood(Stub(), short, x, steps=3, log_p_T=lambda x: log_normal(x))
        ode_log_likelihood(Stub(), LINEAR, x, steps=3)


def test_each_image_may_have_its_own_step():
    "Rejects one alpha_bar for all."
    alone = [log_density(WORLD, x[None], t) for x, t in zip(MEANS, (1, 500, 900))]
    assert_close(log_density(WORLD, MEANS, torch.tensor([1, 500, 900])), torch.cat(alone), rtol=1e-12, atol=0)


def test_half_precision_comes_in_and_is_not_computed_in():
    "Rejects an ODE that is stepped in three digits."
    few = MEANS.half()
    assert_close(ode_log_likelihood(WORLD, LINEAR, few, steps=50)[0], ode_log_likelihood(WORLD, LINEAR, few.double(), steps=50)[0], rtol=1e-4, atol=1e-4)


NUMBERS = {   # name -> (images -> numbers that have many digits)
    'elbo_terms': lambda x: elbo_terms(Stub(), LINEAR, x, steps=4, seeds=[1, 2, 3]), 'without bins': lambda x: elbo_terms(Stub(), LINEAR, x, steps=4, bins=None, seeds=[1, 2, 3]),
    'ode_log_likelihood': lambda x: torch.stack(ode_log_likelihood(Stub(), LINEAR, x, steps=4, probes=2, seeds=[1, 2, 3])), 'exact': lambda x: ode_log_likelihood(Stub(), LINEAR, x, steps=4)[0],
    'ode_bound': lambda x: ode_bound(Stub(), LINEAR, x, steps=4, probes=1, seeds=[1, 2, 3])[0], 'log_density': lambda x: log_density(WORLD, x, 5),
    'dequantise': lambda x: dequantise(((x + 1)*127.5).round().byte(), [1, 2, 3]), 'pair_noise': lambda x: pair_noise(x, x.flip(0)),
}


@pytest.mark.parametrize('name', NUMBERS)
def test_all_is_computed_where_there_is_no_float64(name, monkeypatch):
    "Rejects a program that says `.double()` where the images lie: `evaluate --bits` would end so on an Apple GPU."
    wanted = NUMBERS[name](BYTES.float())
    monkeypatch.setattr(likelihood, 'wide', lambda device: torch.float32)
    assert_close(NUMBERS[name](BYTES.float().as_subclass(NoFloat64)).as_subclass(torch.Tensor), wanted)


def test_what_needs_many_digits_goes_to_the_cpu_from_an_apple_gpu_alone():
    with FakeTensorMode():
        for device, there in ('mps', 'cpu'), ('cuda', 'cuda'), ('cpu', 'cpu'):
            x = likelihood._exact(torch.zeros(2, device=device))
            assert x.dtype == torch.float64 and x.device.type == there


@pytest.mark.parametrize('name', ['steep 7', 'one step'])
def test_short_schedules_have_both_numbers(name):
    sched = SCHEDULES[name]
    log_p, _ = ode_log_likelihood(Stub(), sched, X, log_p_T=lambda x: log_normal(x))
    assert log_p.isfinite().all() and elbo_terms(Stub(), sched, BYTES).isfinite().all() and ode_bound(Stub(), sched, BYTES, probes=2)[0].isfinite().all() if sched.T > 1 else log_p.isfinite().all()
    assert x_0_from_eps(sched, X, X, 1).isfinite().all()
