"The forward process: two roads to every number, in float64."
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.forward import at, q_sample, q_step, rates, shaped
from ddpm_lesson.posterior import (
    eps_from_v,
    eps_from_x_0,
    posterior_mean,
    v_from_eps,
    x_0_from_eps,
    x_0_from_v,
)
from ddpm_lesson.schedule import cosine_schedule, linear_schedule

EXACT = dict(rtol=1e-11, atol=1e-12)


def test_chain_and_closed_form_have_one_law(sched):
    # checks (3.1), (3.2), (3.3)
    mean, var = 1.0, 0.0
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for t in range(1, sched.T + 1):
        a, b = q_step(sched, one, t, zero).item(), q_step(sched, zero, t, one).item()
        mean, var = a*mean, a*a*var + b*b
        if t < 20 or t > sched.T - 20 or not t % 97:
            assert_close(q_sample(sched, one, t, zero), torch.tensor([mean], dtype=torch.float64), rtol=1e-11, atol=1e-12)
            assert_close(q_sample(sched, zero, t, one)**2, torch.tensor([var], dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_step_0_is_the_image(sched):
    x_0, eps = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    assert torch.equal(q_sample(sched, x_0, 0, eps), x_0)
    assert torch.equal(x_0_from_eps(sched, x_0, eps, 0), x_0)


def test_each_image_gets_its_own_step():
    sched, t = linear_schedule(), torch.tensor([0, 1, 999, 1000])
    x, eps = normal(4, 2, 3, 5), normal(4, 2, 3, 5, seed=1)
    for f, low in (q_sample, 0), (q_step, 1), (posterior_mean, 1), (x_0_from_eps, 0), (eps_from_x_0, 1), (v_from_eps, 0), (eps_from_v, 0), (x_0_from_v, 0):
        s = t.clamp(min=low)
        arrange = (lambda x, e, t: f(sched, x, t, e)) if f in (q_sample, q_step) else (lambda x, e, t: f(sched, x, e, t))
        both = arrange(x, eps, s)
        for i in range(4): assert_close(both[i:i + 1], arrange(x[i:i + 1], eps[i:i + 1], int(s[i])), **EXACT)


@settings(max_examples=80, deadline=None)
@given(t=st.integers(1, 1000), shape=st.lists(st.integers(1, 4), min_size=1, max_size=5), dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]), cosine=st.booleans())
def test_finite_in_finite_out_same_dtype(t, shape, dtype, cosine):
    sched = cosine_schedule() if cosine else linear_schedule()
    a, b = normal(*shape).to(dtype), normal(*shape, seed=1).to(dtype)
    for y in q_sample(sched, a, t, b), q_step(sched, a, t, b), posterior_mean(sched, a, b, t), x_0_from_eps(sched, a, b, t), eps_from_x_0(sched, a, b, t), eps_from_v(sched, a, b, t):
        assert y.dtype == dtype and y.shape == a.shape and y.isfinite().all()


def test_bf16_still_adds_noise_at_every_step():
    sched, zero, one = cosine_schedule(), torch.zeros(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bfloat16)
    assert all(q_sample(sched, zero, t, one) > 0 for t in range(1, 1001))  # alpha_bar rounded to bf16 first gives 0 for 21 steps


def test_shaped_multiplies_along_the_batch():
    x = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    one, two = shaped(torch.tensor(0.5, dtype=torch.float64), x), shaped(torch.tensor([0.5, 0.25], dtype=torch.float64), x)
    assert one.shape == (1, 1, 1) and two.shape == (2, 1, 1) and one.dtype == two.dtype == torch.bfloat16
    assert shaped(torch.zeros(2), torch.zeros(2, 3, device='meta')).device.type == 'meta'


def test_noise_is_added_not_taken_away(sched):
    "With the other sign every law stays the same, but x_t is not made of the eps that the network must find."
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for t in {1, sched.T}:
        assert q_step(sched, zero, t, one) > 0 and q_sample(sched, zero, t, one) > 0 and q_step(sched, one, t, zero) > 0
        assert_close(q_step(sched, zero, 1, one), q_sample(sched, zero, 1, one), **EXACT)


def test_an_entry_is_not_the_schedules_memory():
    "Rejects a view of the table where one step was asked for, and a copy where many were."
    sched = linear_schedule()
    before = sched.beta.clone()
    for t in torch.tensor(5), torch.tensor([5, 6]): at(sched.beta, t).zero_()
    assert torch.equal(sched.beta, before)


def test_the_chain_has_no_step_before_its_first():
    "Rejects a step 0 taken for a step: beta_0 is 0, and the image would come back as it was."
    x = normal(2, 3)
    with pytest.raises(ValueError, match='t >= 1'): q_step(linear_schedule(10), x, 0, x)
    with pytest.raises(ValueError, match='t >= 3'): rates(linear_schedule(10), 2, x, low=3)
    assert torch.equal(q_sample(linear_schedule(10), x, 0, normal(2, 3, seed=1)), x)


def test_one_number_an_image_whatever_it_comes_as():
    "Rejects a number of Python in float32, one where the default device is, and a table of rows."
    x = normal(3, 2, 2)
    with torch.device('meta'): there = shaped(0.1, x)
    assert there.device.type == 'cpu' and there.dtype == torch.float64 and there.item() == 0.1 and there.shape == (1, 1, 1)
    assert shaped([0.1, 0.2, 0.3], x)[:, 0, 0].tolist() == [0.1, 0.2, 0.3]
    for wrong in torch.zeros(3, 1), torch.zeros(3, 2, 2), torch.zeros(2):
        with pytest.raises(ValueError, match='one for each of 3 images'): shaped(wrong, x)
    steps = torch.tensor([1, 2], device='meta')
    assert at(torch.zeros(5, device='meta'), torch.tensor([1, 2])).is_meta and at(torch.zeros(5, device='meta'), steps).is_meta
