"Forward process, posterior and conversions: two roads to every number, in float64."
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.checks import check_pair, check_t
from ddpm_lesson.forward import q_sample, q_step, shaped
from ddpm_lesson.posterior import (
    eps_from_v,
    eps_from_x_0,
    posterior_mean,
    posterior_var,
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


def test_float32_is_float64_rounded(sched):
    x, eps = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    for t in {1, sched.T}: assert_close(q_sample(sched, x.float(), t, eps.float()).double(), q_sample(sched, x, t, eps), rtol=1e-6, atol=1e-6)


BAD = [
    (dict(t=1001), ValueError, '1000'), (dict(t=-1), ValueError, 'got -1'), (dict(t=torch.tensor([1, 5000])), ValueError, '5000'), (dict(t=torch.tensor([1, 2, 3])), ValueError, 'one step for each image'),
    (dict(t=1.0), TypeError, 'int'), (dict(t=torch.tensor([1., 2.])), TypeError, 'float32'), (dict(t=True), TypeError, 'bool'), (dict(t='1'), TypeError, 'str'),
    (dict(a=torch.zeros(2, 3, dtype=torch.uint8)), TypeError, 'uint8'), (dict(a=torch.zeros(2, 3, dtype=torch.int64)), TypeError, 'int64'), (dict(b=torch.zeros(2, 4)), ValueError, 'one shape'),
    (dict(b=torch.zeros(1, 3)), ValueError, 'one shape'), (dict(a=torch.tensor(1.), b=torch.tensor(1.)), ValueError, 'batch'), (dict(b=[1, 2]), TypeError, 'list'),
]


@pytest.mark.parametrize('wrong, error, said', BAD, ids=[str(i) for i in range(len(BAD))])
@pytest.mark.parametrize('f', [q_sample, q_step, posterior_mean, x_0_from_eps, eps_from_x_0, v_from_eps, eps_from_v, x_0_from_v])
def test_bad_input_is_named(f, wrong, error, said):
    given = dict(a=torch.zeros(2, 3), b=torch.ones(2, 3), t=5) | wrong
    with pytest.raises(error, match=said):
        f(linear_schedule(), given['a'], given['t'], given['b']) if f in (q_sample, q_step) else f(linear_schedule(), given['a'], given['b'], given['t'])


@pytest.mark.parametrize('call', [lambda s, x: q_step(s, x, 0, x), lambda s, x: posterior_mean(s, x, x, 0), lambda s, x: posterior_var(s, 0), lambda s, x: eps_from_x_0(s, x, x, 0)])
def test_step_0_has_no_step_before_it(call):
    with pytest.raises(ValueError, match='t >= 1'): call(linear_schedule(), torch.zeros(2, 3))


NAMES = {q_sample: 'x_0', q_step: 'x_s', posterior_mean: 'x_t', x_0_from_eps: 'x_t', eps_from_x_0: 'x_t', v_from_eps: 'x_0', eps_from_v: 'x_t', x_0_from_v: 'x_t'}
OTHERS = {posterior_mean: 'x_0', eps_from_x_0: 'x_0', eps_from_v: 'v', x_0_from_v: 'v'}


@pytest.mark.parametrize('f', NAMES)
def test_errors_call_each_batch_by_its_name(f):
    "An error about x_0 that says x_t sends the reader to the wrong line."
    good, wrong, (a, b) = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), (NAMES[f], OTHERS.get(f, 'eps'))
    call = (lambda a, b: f(linear_schedule(), a, 5, b)) if f in (q_sample, q_step) else (lambda a, b: f(linear_schedule(), a, b, 5))
    with pytest.raises(TypeError, match=rf'^{a} wanted a floating.*got torch.int64$'): call(wrong, good)
    with pytest.raises(TypeError, match=f'^{b} wanted a floating'): call(good, wrong)
    with pytest.raises(TypeError, match=f'^{b} wanted a floating.*got list$'): call(good, [[1.0]])
    with pytest.raises(ValueError, match=rf'^{a} and {b} wanted one shape, got \(2, 3\) and \(1, 3\)$'): call(good, good[:1])
    with pytest.raises(ValueError, match=f'^{a} wanted a batch'): call(good[0, 0], good[0, 0])


def test_check_pair_names_what_it_is_not_told():
    with pytest.raises(ValueError, match='^x_t and eps wanted'): check_pair(torch.zeros(2), torch.zeros(3))


def test_check_t():
    assert check_t(torch.tensor([1, 2], dtype=torch.int32), 5).dtype == check_t(3, 5).dtype == torch.int64
    assert check_t(torch.tensor(3), 5, B=2).shape == check_t(5, 5, B=1).shape == () and check_t(0, 5) == 0
    assert check_t(torch.tensor([1, 5]), 5, low=1).tolist() == [1, 5] and check_t(torch.tensor([], dtype=torch.int64), 5, B=0).shape == (0,)
    assert check_t(torch.tensor([1, 2, 3]), 5).shape == (3,)
    for t in torch.tensor(True), torch.tensor([1j]), torch.tensor(2.0), False, 2.0, None, [1]:
        with pytest.raises(TypeError, match='^t wanted'): check_t(t, 5)
    for t in -1, 6, torch.tensor([0, 6]), torch.tensor([-1, 5]), torch.tensor(6):
        with pytest.raises(ValueError, match=r'^t wanted 0\.\.5'): check_t(t, 5)
    with pytest.raises(ValueError, match='t >= 2'): check_t(1, 5, low=2)
    for t in torch.tensor([1, 2]), torch.tensor([[1]]):
        with pytest.raises(ValueError, match=r'shape \(1,\)'): check_t(t, 5, B=1)


def test_steps_of_numpy_are_steps():
    "A wrong program: one that takes Python's and torch's whole numbers only."
    for t in np.int64(3), np.uint8(3), np.array(3): assert check_t(t, 5) == 3
    for kind in np.int16, np.uint16, np.int64, np.uint64: assert check_t(np.array([1, 5], dtype=kind), 5, B=2).tolist() == [1, 5]
    x, eps, sched = normal(2, 3), normal(2, 3, seed=1), linear_schedule()
    assert torch.equal(q_sample(sched, x, np.array([1, 900]), eps), q_sample(sched, x, torch.tensor([1, 900]), eps))
    for t in np.bool_(True), np.float64(3), np.array([1.5]), np.array(['1']), np.array([None]):
        with pytest.raises(TypeError, match='^t wanted'): check_t(t, 5)
    for t in 2**63, 10**400, -10**400, np.uint64(2**64 - 1):
        with pytest.raises(ValueError, match=r'^t wanted 0\.\.5: .*, got '): check_t(t, 5)
    with pytest.raises(ValueError, match=r'got -1000\.\.-1000$'): check_t(-1000, 5)   # named as it came, unless no int64 holds it


def every_call(sched, x, t): return [
    q_sample(sched, x, t, x), q_step(sched, x, t, x), posterior_mean(sched, x, x, t), posterior_var(sched, t), x_0_from_eps(sched, x, x, t),
    eps_from_x_0(sched, x, x, t), v_from_eps(sched, x, x, t), eps_from_v(sched, x, x, t), x_0_from_v(sched, x, x, t)]


def test_a_default_device_changes_nothing():
    "A wrong program: a step that becomes a tensor on the default device, and a table looked up there."
    sched, x = linear_schedule(), normal(2, 3)
    here = every_call(sched, x, 5)
    try:
        torch.set_default_device('meta')
        there = every_call(sched, x, 5)
    finally: torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_images_on_meta_give_shapes_without_numbers():
    "Shape inference, and networks too large to load, use this device."
    x = torch.zeros(2, 3, device='meta')
    assert {y.device.type for y in every_call(linear_schedule(), x, 5) if y.ndim} == {'meta'}


@pytest.mark.parametrize('sched', [DDPMScheduler(), torch.linspace(1e-4, 0.02, 1000), None], ids=['diffusers', 'betas', 'nothing'])
def test_what_is_no_schedule_is_named(sched):
    "A wrong program: AttributeError from inside, no attribute 'alpha_bar'."
    x = normal(2, 3)
    for f in q_sample, q_step, posterior_mean, x_0_from_eps, eps_from_x_0, v_from_eps, eps_from_v, x_0_from_v:
        args = (sched, x, 5, x) if f in (q_sample, q_step) else (sched, x, x, 5)
        with pytest.raises(TypeError, match=f'^sched wanted a Schedule.*got {type(sched).__name__}'): f(*args)
    with pytest.raises(TypeError, match='^sched wanted a Schedule'): posterior_var(sched, 5)
    with pytest.raises(TypeError, match='^x_0 wanted a floating-point tensor.*got Schedule$'): q_sample(x, linear_schedule(), 5, x)


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
