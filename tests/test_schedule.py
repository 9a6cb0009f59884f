"The schedule: exact values, float64, and what it refuses."
import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ddpm_lesson.schedule import Schedule, cosine_schedule, linear_schedule, rate_schedule, rescaled_linear_schedule, schedule_from_alpha_bar


def test_entries_count_like_the_paper(sched):
    assert len(sched.beta) == len(sched.alpha) == len(sched.alpha_bar) == sched.T + 1
    assert sched.beta[0] == 0 and sched.alpha_bar[0] == 1
    assert {sched.beta.dtype, sched.alpha.dtype, sched.alpha_bar.dtype} == {torch.float64}


def test_alpha_bar_is_the_product_up_to_and_with_t(sched):
    # checks (2.2)
    product = 1.0
    for t in range(1, sched.T + 1):
        product *= 1 - sched.beta[t].item()
        assert math.isclose(sched.alpha_bar[t].item(), product, rel_tol=1e-12)


def test_linear_ends_and_middle():
    # checks (2.4)
    beta = linear_schedule(T=5, beta_1=0.1, beta_T=0.3).beta
    assert_close(beta, torch.tensor([0, .1, .15, .2, .25, .3], dtype=torch.float64), rtol=1e-14, atol=0)
    assert abs(linear_schedule().signal_rate[-1].item() - 0.0064) < 1e-4   # the root of 4.04e-5
    assert abs(linear_schedule(T=300).signal_rate[-1].item() - 0.219) < 5e-4


@pytest.mark.parametrize('name, ours', [('linear', linear_schedule()), ('squaredcos_cap_v2', cosine_schedule())])
def test_same_as_diffusers_to_its_float32(name, ours):
    theirs = DDPMScheduler(beta_schedule=name).alphas_cumprod.double()
    assert_close(ours.alpha_bar[1:], theirs, rtol=2e-4, atol=1e-7)


def test_cosine_follows_its_definition_where_it_is_not_capped():
    # checks (2.8), (2.9)
    T, s = 1000, 0.008
    f = lambda t: math.cos((t/T + s)/(1 + s)*math.pi/2)**2
    for t in (1, 10, 500, 990): assert math.isclose(cosine_schedule().alpha_bar[t].item(), f(t)/f(0), rel_tol=1e-12)
    assert cosine_schedule().beta.max() == 0.999


def test_rate_schedule_turns_through_equal_angles():
    # checks (2.10)
    sched = rate_schedule(T=11)
    angle = torch.acos(sched.signal_rate[1:])
    assert_close(angle.diff(), angle.diff().mean().expand(10), rtol=1e-9, atol=0)
    assert_close(sched.signal_rate[[1, -1]], torch.tensor([.95, .02], dtype=torch.float64), rtol=1e-12, atol=0)


def test_rescaling_reaches_the_same_darkness():
    ends = [rescaled_linear_schedule(T).signal_rate[-1].item() for T in (100, 300, 1000, 4000)]
    assert max(ends) < 0.0068 and min(ends) > 0.004


@settings(max_examples=60, deadline=None)
@given(T=st.integers(1, 10_000), lo=st.floats(1e-6, 5e-3), hi=st.floats(5e-3, 2e-2))
def test_any_linear_schedule_falls_and_stays_positive(T, lo, hi):
    sched = linear_schedule(T, lo, hi)
    assert (sched.alpha_bar.diff() < 0).all() and sched.alpha_bar[-1] > 0 and (sched.snr[1:].diff() < 0).all()


@settings(max_examples=40, deadline=None)
@given(T=st.integers(1, 10_000))
def test_any_cosine_schedule_falls_and_stays_positive(T):
    sched = cosine_schedule(T)
    assert (sched.alpha_bar.diff() < 0).all() and sched.alpha_bar[-1] > 0


def test_from_alpha_bar_is_the_inverse(sched): assert_close(schedule_from_alpha_bar(sched.alpha_bar).beta, sched.beta, rtol=1e-9, atol=1e-14)


def test_frozen_and_safe_from_its_input():
    beta = torch.tensor([0., .1, .2])
    sched = Schedule(beta)
    beta[1] = 9
    assert sched.beta[1] == pytest.approx(0.1)
    with pytest.raises(dataclasses.FrozenInstanceError): sched.beta = beta


@pytest.mark.parametrize('beta, said', [
    ([.1, .2], r'beta\[0\]'), ([0., .2, 1.], r'\(0, 1\)'), ([0., .2, 0.], r'\(0, 1\)'), ([0., -.1], r'\(0, 1\)'), ([0., float('nan')], r'\(0, 1\)'),
    ([0.], r'T\+1'), ([[0., .1]], r'T\+1'), ([0.] + [.9]*400, 'alpha_bar'), ([0.] + [1e-17]*3, 'alpha_bar'),
])
def test_refuses_what_is_no_schedule(beta, said):
    with pytest.raises(ValueError, match=said): Schedule(torch.tensor(beta, dtype=torch.float64))


@pytest.mark.parametrize('make', [linear_schedule, cosine_schedule, rate_schedule, rescaled_linear_schedule])
def test_refuses_what_is_no_number_of_steps(make):
    for T in (0, -3):
        with pytest.raises(ValueError, match='T wanted'): make(T=T)
    for T in ('10', 2.5, True, None):
        with pytest.raises(TypeError, match='T wanted'): make(T=T)
    assert make(T=np.int64(30)).T == 30


@pytest.mark.parametrize('call', [
    lambda: linear_schedule(beta_1=0), lambda: linear_schedule(beta_T=1), lambda: linear_schedule(beta_1=-1e-4), lambda: linear_schedule(beta_T=float('nan')),
    lambda: cosine_schedule(s=-0.1), lambda: rate_schedule(max_signal=0.02, min_signal=0.95), lambda: rate_schedule(max_signal=1.0),
    lambda: rescaled_linear_schedule(20), lambda: schedule_from_alpha_bar([1, .5, .6]), lambda: schedule_from_alpha_bar([.9, .5]), lambda: schedule_from_alpha_bar([1, 0.5, 0.0], beta_max=1.0),
])
def test_refuses_wrong_ends(call):
    with pytest.raises(ValueError): call()
