"Posterior and conversions: two roads to every number, in float64."
import pytest
import torch
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.dialects import flow_schedule
from ddpm_lesson.forward import q_sample, q_step
from ddpm_lesson.posterior import (
    eps_from_v,
    eps_from_x_0,
    posterior_mean,
    posterior_var,
    v_from_eps,
    x_0_from_eps,
    x_0_from_v,
)
from ddpm_lesson.schedule import linear_schedule

EXACT = dict(rtol=1e-11, atol=1e-12)


def test_posterior_is_bayes_by_precision(sched):
    # checks (4.4), (4.5)
    for t in {1, 2, 3, sched.T//3, sched.T} - {0}:
        if t > sched.T or t < 2: continue
        beta, ab_s = sched.beta[t].item(), sched.alpha_bar[t - 1].item()
        precision = (1 - beta)/beta + 1/(1 - ab_s)
        x_t, x_0 = normal(2, 3), normal(2, 3, seed=1)
        mean = ((1 - beta)**0.5/beta*x_t + ab_s**0.5/(1 - ab_s)*x_0)/precision
        assert_close(posterior_var(sched, t).item(), 1/precision, rtol=1e-9, atol=0)
        assert_close(posterior_mean(sched, x_t, x_0, t), mean, rtol=1e-9, atol=1e-12)


def test_candidates_lie_apart_by_a_difference_of_snr(sched):
    "A wrong program: either coefficient with an index one low, or a difference of signal rates."
    # checks (4.15)
    one = torch.ones(1, dtype=torch.float64)
    for t in {2, 3, sched.T//2, sched.T} & set(range(2, sched.T + 1)):
        apart = posterior_mean(sched, 0*one, one, t)**2/posterior_var(sched, t)
        assert_close(apart, (sched.snr[t - 1] - sched.snr[t])[None], rtol=1e-8, atol=0)


def test_posterior_at_1_is_x_0(sched):
    x_t, x_0 = normal(2, 3), normal(2, 3, seed=1)
    assert posterior_var(sched, 1) == 0
    assert_close(posterior_mean(sched, x_t, x_0, 1), x_0, rtol=1e-9, atol=0)


def test_posterior_var_is_a_vector_of_float64():
    var = posterior_var(linear_schedule(), torch.tensor([1, 2, 1000]))
    assert var.shape == (3,) and var.dtype == torch.float64 and var[0] == 0 and (var[1:] > 0).all()


def test_conversions_undo_each_other(sched):
    # checks (4.8), (4.9), (4.12)
    x_0, eps = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    for t in {1, (sched.T + 1)//2, sched.T}:
        x_t, v = q_sample(sched, x_0, t, eps), v_from_eps(sched, x_0, eps, t)
        loose = dict(rtol=1e-7, atol=1e-7)  # dividing by a signal rate of 5e-5 costs digits
        assert_close(x_0_from_eps(sched, x_t, eps, t), x_0, **loose)
        assert_close(eps_from_x_0(sched, x_t, x_0, t), eps, **loose)
        assert_close(eps_from_v(sched, x_t, v, t), eps, **EXACT)
        assert_close(x_0_from_v(sched, x_t, v, t), x_0, **EXACT)


def test_float32_is_float64_rounded(sched):
    x, eps = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    for t in {1, sched.T}: assert_close(q_sample(sched, x.float(), t, eps.float()).double(), q_sample(sched, x, t, eps), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('call', [lambda s, x: q_step(s, x, 0, x), lambda s, x: posterior_mean(s, x, x, 0), lambda s, x: posterior_var(s, 0), lambda s, x: eps_from_x_0(s, x, x, 0)])
def test_step_0_has_no_step_before_it(call):
    with pytest.raises(ValueError, match='t >= 1'): call(linear_schedule(), torch.zeros(2, 3))


@pytest.mark.parametrize('t', [2, torch.tensor([1, 2])], ids=['one step', 'a step each'])
def test_the_noise_says_nothing_where_nothing_of_the_image_is_left(t):
    "Rejects 0/0 at the last step, and a refusal of the step before."
    sched, x = flow_schedule(2), normal(2, 3)
    with pytest.raises(ValueError, match=r't wanted 0\.\.1'): x_0_from_eps(sched, x, x, t)
    assert x_0_from_eps(sched, x, x, 1).isfinite().all() and torch.equal(x_0_from_eps(sched, x, x, 0), x)
