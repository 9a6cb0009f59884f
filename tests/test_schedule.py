"The schedule: exact values, float64, and what it refuses."
import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from conftest import SCHEDULES
from ddpm_lesson.checks import check_whole
from ddpm_lesson.dialects import flow_schedule
from ddpm_lesson.engine.published import posit_linear_schedule
from ddpm_lesson.schedule import (
    Schedule,
    brightness_kept,
    brightness_std,
    check_schedule,
    cosine_schedule,
    diagnose,
    kl_at_T,
    linear_schedule,
    prescribe,
    rate_schedule,
    rescaled_linear_schedule,
    schedule_from_alpha_bar,
    walk_back_std,
)


def test_entries_count_like_the_paper(sched):
    assert len(sched.beta) == len(sched.alpha) == len(sched.alpha_bar) == sched.T + 1
    assert sched.beta[0] == 0 and sched.alpha_bar[0] == 1 and torch.equal(sched.alpha, 1 - sched.beta)
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


def test_from_alpha_bar_is_the_inverse(sched): assert_close(schedule_from_alpha_bar(sched.alpha_bar).beta, sched.beta, rtol=1e-9, atol=1e-14)


def test_frozen_and_safe_from_its_input():
    beta = torch.tensor([0., .1, .2])
    sched = Schedule(beta)
    beta[1] = 9
    assert sched.beta[1] == pytest.approx(0.1)
    with pytest.raises(dataclasses.FrozenInstanceError): sched.beta = beta


@pytest.mark.parametrize('beta, said', [
    ([.1, .2], r'beta\[0\]'), ([0., .2, 1.], r'\(0, 1\)'), ([0., .2, 0.], r'\(0, 1\)'), ([0., -.1], r'\(0, 1\)'), ([0., float('nan')], r'\(0, 1\)'),
    ([0.], r'T\+1'), ([[0., .1]], r'T\+1'), ([0.] + [.9]*400, 'alpha_bar'), ([0.] + [.9]*324, 'got 0 at T=324'), ([0.] + [1e-17]*3, 'alpha_bar'),
])
def test_refuses_what_is_no_schedule(beta, said):
    with pytest.raises(ValueError, match=said): Schedule(torch.tensor(beta, dtype=torch.float64))


@pytest.mark.parametrize('make', [linear_schedule, cosine_schedule, rate_schedule, rescaled_linear_schedule])
def test_refuses_what_is_no_number_of_steps(make):
    for T in (0, -3):
        with pytest.raises(ValueError, match='T wanted'): make(T=T)
    for T in ('10', 2.5, True, torch.tensor(True), None):
        with pytest.raises(TypeError, match='T wanted'): make(T=T)
    assert make(T=np.int64(30)).T == make(T=torch.tensor(30)).T == 30


@pytest.mark.parametrize('call', [
    lambda: linear_schedule(beta_1=0), lambda: linear_schedule(beta_T=1), lambda: linear_schedule(beta_1=-1e-4), lambda: linear_schedule(beta_T=float('nan')),
    lambda: cosine_schedule(s=-0.1), lambda: rate_schedule(max_signal=0.02, min_signal=0.95), lambda: rate_schedule(max_signal=1.0),
    lambda: rescaled_linear_schedule(20), lambda: schedule_from_alpha_bar([1, .5, .6]), lambda: schedule_from_alpha_bar([.9, .5]), lambda: schedule_from_alpha_bar([1, 0.5, 0.0], beta_max=1.0),
])
def test_refuses_wrong_ends(call):
    with pytest.raises(ValueError): call()


def test_what_a_schedule_is_when_nothing_is_said():
    "A default that slips changes every run that names no number."
    linear, cosine, rate = linear_schedule(), cosine_schedule(), rate_schedule()
    assert linear.T == cosine.T == rate.T == 1000
    assert math.isclose(linear.beta[1].item(), 1e-4, rel_tol=1e-12) and math.isclose(linear.beta[-1].item(), 0.02, rel_tol=1e-12)
    assert math.isclose(rate.alpha_bar[1].item(), 0.95**2, rel_tol=1e-12) and math.isclose(rate.alpha_bar[-1].item(), 0.02**2, rel_tol=1e-9)
    assert math.isclose(rescaled_linear_schedule(500).beta[1].item(), 2e-4, rel_tol=1e-12) and math.isclose(rescaled_linear_schedule(500).beta[-1].item(), 0.04, rel_tol=1e-12)
    assert math.isclose(schedule_from_alpha_bar([1, 1e-12]).alpha_bar[1].item(), 1e-9, rel_tol=1e-6)   # no step may add more than 1 - 1e-9
    assert brightness_std() == (3*64*64)**0.5*0.5 and brightness_std(9, 0.25) == 0.75
    assert rescaled_linear_schedule(50, 2e-4, 0.01).beta[[1, -1]].tolist() == linear_schedule(50, 4e-3, 0.2).beta[[1, -1]].tolist()


def test_edges_that_are_in_and_edges_that_are_out():
    assert cosine_schedule(s=0).T == 1000 and rescaled_linear_schedule(21).T == 21 and linear_schedule(1).T == 1 and rate_schedule(1).T == 1
    assert rescaled_linear_schedule(15, beta_1=0.01, beta_T=0.014).T == 15 and check_whole(1, 'n') == 1
    for call, said in ((lambda: cosine_schedule(s=1), '^s wanted'), (lambda: rate_schedule(min_signal=0.5, max_signal=0.5), 'min_signal < max_signal'), (lambda: rate_schedule(min_signal=0), '0 < min_signal'), (lambda: rate_schedule(max_signal=1.0), 'max_signal < 1'),
                       (lambda: rescaled_linear_schedule(20), 'T wanted more than 20,'), (lambda: rescaled_linear_schedule(20, beta_1=0.02, beta_T=0.01), 'T wanted more than 20,'),
                       (lambda: linear_schedule(beta_1=1), '^beta_1 wanted'), (lambda: linear_schedule(beta_T=0), '^beta_T wanted'), (lambda: rescaled_linear_schedule(50, beta_1=0), '^beta_1 wanted'),
                       (lambda: brightness_std(spread=0), '^spread wanted'), (lambda: brightness_std(spread=math.inf), '^spread wanted'), (lambda: check_whole(0, 'n'), '^n wanted at least 1')):
        with pytest.raises(ValueError, match=said): call()


@pytest.mark.parametrize('name, call', [
    ('T', lambda x: linear_schedule(T=x)), ('T', lambda x: cosine_schedule(T=x)), ('beta_1', lambda x: linear_schedule(beta_1=x)), ('beta_T', lambda x: linear_schedule(beta_T=x)), ('s', lambda x: cosine_schedule(s=x)),
    ('max_signal', lambda x: rate_schedule(max_signal=x)), ('min_signal', lambda x: rate_schedule(min_signal=x)), ('beta_1', lambda x: rescaled_linear_schedule(50, beta_1=x)),
    ('beta_max', lambda x: schedule_from_alpha_bar([1, .5], beta_max=x)), ('spread', lambda x: brightness_std(spread=x)), ('pixels', lambda x: brightness_std(pixels=x)), ('pixels', lambda x: diagnose(linear_schedule(9), pixels=x))])
def test_an_error_names_the_argument(name, call):
    for x in 'a', None, True, 1j, [1], torch.tensor([0.1, 0.2]), torch.tensor(1j):
        with pytest.raises(TypeError, match=f'^{name} wanted a (whole )?number, got '): call(x)


@pytest.mark.parametrize('make, name', [(Schedule, 'beta'), (schedule_from_alpha_bar, 'alpha_bar')])
def test_complex_tables_are_refused_not_cut(make, name):
    with pytest.raises(TypeError, match=f'^{name} wanted real numbers, got torch.complex64'): make(torch.tensor([1.0, 0.5j]))
    with pytest.raises(TypeError, match=f'^{name} wanted real numbers, got complex128'): make(np.array([1.0, 0.5j]))
    with pytest.raises(TypeError, match=f'^{name} wanted real numbers, got list'): make([1.0, 0.5j])
    for values in [1.0], [[1.0, 0.5]], []:
        with pytest.raises(ValueError, match=rf'^{name} wanted T\+1 entries'): make(values)


def test_numpy_and_lists_make_float64_tables():
    "A list read as float32 first has seven digits."
    for values in [0, 0.1, 0.2], np.array([0, 0.1, 0.2]), torch.tensor([0, 0.1, 0.2], dtype=torch.float64): assert Schedule(values).beta.tolist() == [0, 0.1, 0.2]
    assert schedule_from_alpha_bar([1, 0.9]).alpha_bar[1].item() == pytest.approx(0.9, rel=1e-15)


def test_a_table_has_a_limit_in_words():
    "A wrong program: one that asks for the memory of 10^12 steps, or turns a number of 400 digits into a float."
    for T in 1_000_001, 10**12, 10**400, 10**5000:
        for make in linear_schedule, cosine_schedule, rate_schedule, rescaled_linear_schedule:
            with pytest.raises(ValueError, match=r'^T wanted at most 1,000,000, got [0-9.]+(e\+[0-9]+)?$'): make(T=T)
    for pixels in 2**63, 10**400, 10**5000:
        for call in brightness_std, lambda n: diagnose(linear_schedule(9), n):
            with pytest.raises(ValueError, match='^pixels wanted at most'): call(pixels)
    for n in -10**400, -10**5000:
        with pytest.raises(ValueError, match=r'^n wanted at least 1, got -1'): check_whole(n, 'n')
    assert diagnose(linear_schedule(9), np.int64(48)) == diagnose(linear_schedule(9), 48)


def test_tables_lie_on_the_cpu_whatever_the_default_device_is():
    "A wrong program: `torch.linspace` without a device. A table on `meta` holds no numbers."
    def tables(): return [make(T=30).beta for make in (linear_schedule, cosine_schedule, rate_schedule, rescaled_linear_schedule, posit_linear_schedule)] + [
        Schedule([0, .1]).beta, Schedule(np.array([0, .1])).beta, schedule_from_alpha_bar([1, .5]).beta]
    here = tables()
    try:
        torch.set_default_device('meta')
        there, report = tables(), str(diagnose(linear_schedule(30)))
    finally: torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True)) and report == str(diagnose(linear_schedule(30)))


def test_a_scheduler_of_diffusers_is_refused_with_the_cure():
    "A wrong program: AttributeError, no attribute 'T'."
    scheduler = DDPMScheduler()
    cure = 'got DDPMScheduler; ddpm_lesson.dialects.from_diffusers translates$'
    for call in Schedule, schedule_from_alpha_bar, diagnose, brightness_kept, check_schedule:
        with pytest.raises(TypeError, match=cure): call(scheduler)
    assert_close(schedule_from_alpha_bar([1, *scheduler.alphas_cumprod]).alpha_bar, linear_schedule().alpha_bar, rtol=2e-4, atol=0)
    for other in None, 1000, [0, .1], torch.zeros(3):
        with pytest.raises(TypeError, match=f'^sched wanted a Schedule.*got {type(other).__name__}$'): check_schedule(other)
    for values in object(), 'beta', [0, 'x'], [[0, .1], [0]], {}, None, torch.zeros(3, device='meta'):
        with pytest.raises(TypeError, match='^beta wanted real numbers, got '): Schedule(values)


def test_a_schedule_prints_one_line(sched): assert len(repr(sched).splitlines()) == 1 and len(repr(sched)) < 80


def test_the_same_schedule_elsewhere():
    sched = linear_schedule(T=5)
    moved = sched.to('cpu')
    for name in 'beta', 'alpha', 'alpha_bar': assert torch.equal(getattr(moved, name), getattr(sched, name)) and getattr(sched.to('meta'), name).device.type == 'meta'
    assert moved.T == 5 and sched.to(torch.device('meta')).beta.dtype == torch.float64
    class Table:   # stands for a tensor, and notes where it is sent
        def to(self, *there): return there
    elsewhere = lambda sched, device: {getattr(sched.to(device), name) for name in ('beta', 'alpha', 'alpha_bar')}
    fake = object.__new__(Schedule)._set(Table(), Table(), Table())
    assert elsewhere(fake, 'mps') == {('mps', torch.float32)} and elsewhere(fake, 'cuda') == {('cuda', torch.float64)}   # Apple GPUs have no float64
    assert repr(linear_schedule()) == 'Schedule(T=1000, signal_rate at T=0.00635)'
    assert not sched.beta.requires_grad and not Schedule(torch.tensor([0, .1], requires_grad=True)).beta.requires_grad


# --- the clinic -----------------------------------------------------------------------------------

def spread_by_hand(sched, std_0, eta, std_T=1.0):
    "DDIM Eq. 12 on N(0, std_0^2) data, step by step: x_0_hat and eps_hat are linear in x_t."
    var = std_T**2
    for t in range(sched.T, 0, -1):
        a, s = sched.alpha_bar[t].item(), sched.alpha_bar[t - 1].item()
        fresh = eta**2*(1 - s)/(1 - a)*(1 - a/s)
        x_0_hat, eps_hat = a**0.5*std_0**2/(a*std_0**2 + 1 - a), (1 - a)**0.5/(a*std_0**2 + 1 - a)
        var = (s**0.5*x_0_hat + max(1 - s - fresh, 0)**0.5*eps_hat)**2*var + fresh
    return var**0.5


@pytest.mark.parametrize('name', ['linear 300', 'rescaled 50', 'steep 7', 'one step'])
def test_walk_back_std_by_hand(name):
    # checks (C.2)
    sched = SCHEDULES[name]
    for std_0 in 0.3, 1.0, 27.0:
        for eta in 0.0, 0.4, 1.0:
            for std_T in 1.0, 2.5: assert math.isclose(walk_back_std(sched, std_0, eta, std_T), spread_by_hand(sched, std_0, eta, std_T), rel_tol=1e-9)
        assert walk_back_std(sched, std_0) == walk_back_std(sched, std_0, 1.0, 1.0)
    S = 0.25*48**0.5
    for got, eta in zip(brightness_kept(sched, 48, 0.25), (1, 0)): assert math.isclose(got, spread_by_hand(sched, S, eta)/S, rel_tol=1e-9)
    assert brightness_kept(sched) == brightness_kept(sched, 3*64*64, 0.5)


def test_kl_at_T_is_the_divergence():
    a = 0.7   # alpha_bar_T; KL(N(sqrt(a) x_0, 1 - a), N(0, 1)) with |x_0| = 1
    got = torch.distributions.kl_divergence(torch.distributions.Normal(a**0.5, (1 - a)**0.5), torch.distributions.Normal(0.0, 1.0)).item()
    assert math.isclose(kl_at_T(schedule_from_alpha_bar([1, 0.9, a])), got/math.log(2), rel_tol=1e-6)


def test_the_clinic_finds_each_fault_and_no_other():
    short, coarse, late = linear_schedule(300), cosine_schedule(5), rate_schedule()
    assert prescribe(linear_schedule()) == prescribe(cosine_schedule()) == prescribe(linear_schedule(), 3*64*64) == ()
    k = math.log(0.1/3072)/math.log(short.alpha_bar[-1].item())   # log of alpha_bar is nearly minus the sum of the betas
    assert prescribe(short) == (f'x_T is not noise yet (signal rate 0.219): multiply every beta by about {k:.3g}.',) and 3 < k < 4
    assert prescribe(short, 12) == (f'x_T is not noise yet (signal rate 0.219): multiply every beta by about {math.log(0.1/20)/math.log(short.alpha_bar[-1].item()):.3g}.',)   # 12 numbers are treated as 80
    assert prescribe(linear_schedule(20)) == ('x_T is not noise yet (signal rate 0.904): take more steps or cosine_schedule.',)
    assert prescribe(late)[-1] == 'Fine detail is lost at t=1 (noise of 40 grey levels): make the first beta smaller; 1e-4 is usual.'
    S, a = brightness_std(), coarse.alpha_bar[-1].item()
    kept = spread_by_hand(coarse, S, 1.0, (a*S**2 + 1 - a)**0.5)/S
    assert f'The steps are too coarse (even from the right start they keep {kept:.0%} of the brightness): take more than 5.' in prescribe(coarse)
    # a start that is half image: 12 numbers keep sqrt(0.5*3/(0.5*3 + 0.5)) = 87 % of it in one leap
    assert 'The steps are too coarse (even from the right start they keep 87% of the brightness): take more than 1.' in prescribe(schedule_from_alpha_bar([1, 0.5]), 12)
    assert 'Fine detail is lost at t=1 (noise of 115 grey levels): make the first beta smaller; 1e-4 is usual.' in prescribe(schedule_from_alpha_bar([1, 1 - 0.9**2]))
    # on either side of each limit
    at = lambda a, *rest: schedule_from_alpha_bar([1, *rest, a])
    loud = 3*64*64/4
    assert not any('not noise' in line for line in prescribe(at(0.199/loud, 0.999))) and any('not noise' in line for line in prescribe(at(0.201/loud, 0.999)))
    assert not any('detail' in line for line in prescribe(at(1 - 0.0999**2))) and any('detail' in line for line in prescribe(at(1 - 0.1001**2)))


def test_the_report_says_what_was_found():
    d = diagnose(linear_schedule(300))
    assert (d.T, d.pixels) == (300, 3*64*64) and d == diagnose(linear_schedule(300), 3*64*64)
    assert math.isclose(d.signal_T, linear_schedule(300).signal_rate[-1].item()) and math.isclose(d.start_bias, d.signal_T*0.5*(3*64*64)**0.5)
    assert d.kl_T == kl_at_T(linear_schedule(300)) and (d.kept_ddpm, d.kept_ddim) == brightness_kept(linear_schedule(300)) and d.advice == prescribe(linear_schedule(300))
    assert math.isclose(d.first_noise, 0.01, rel_tol=1e-9)
    assert str(d) == f'''schedule of 300 steps, images of 12288 numbers
  signal rate at T       0.2192
  bright image at T      {d.start_bias:.1f} sigma from N(0, I)
  KL at T, worst case    {d.kl_T:.1e} bits per number
  brightness kept, DDPM  {d.kept_ddpm:.0%}
  brightness kept, DDIM  {d.kept_ddim:.0%}
  noise rate at t=1      0.0100
  change                 {d.advice[0]}'''
    small = diagnose(linear_schedule(300), 48)
    assert (small.kept_ddpm, small.kept_ddim) == brightness_kept(linear_schedule(300), 48) != (d.kept_ddpm, d.kept_ddim) and small.advice == prescribe(linear_schedule(300), 48) != d.advice
    two = str(diagnose(rate_schedule(2))).splitlines()
    assert [line[:25] for line in two[7:]] == ['  change                 '] + [' '*25]*(len(two) - 8) and len(two) > 8
    assert str(diagnose(linear_schedule(), 48)).splitlines()[0::7] == ['schedule of 1000 steps, images of 48 numbers', '  change                 nothing']


@pytest.mark.parametrize('make', [linear_schedule, rescaled_linear_schedule])
@pytest.mark.parametrize('end', ['beta_1', 'beta_T'])
@pytest.mark.parametrize('value', [-0.1, 0, 1, 1.5])
def test_an_end_outside_0_to_1_is_refused_by_its_name(make, end, value):
    with pytest.raises(ValueError, match=rf'{end} wanted a value in \(0, 1\), got {float(value)}'): make(T=1000, **{end: value})


def test_the_largest_whole_number_allowed_is_allowed():
    assert check_whole(5, 'n', 5) == 5
    with pytest.raises(ValueError, match='n wanted at most 5, got 6'): check_whole(6, 'n', 5)


@pytest.mark.parametrize('wrong, said', [(dict(eta=-0.1), r'^eta wanted a value in .0, 1.'), (dict(eta=1.5), r'^eta wanted a value in .0, 1.'), (dict(eta='1'), '^eta wanted a number'), (dict(std_0=-1), '^std_0 wanted'), (dict(std_0=math.inf), '^std_0 wanted'),
                                         (dict(std_0=None), '^std_0 wanted'), (dict(std_T=-1e-9), '^std_T wanted'), (dict(std_T=math.inf), '^std_T wanted'), (dict(std_T='a'), '^std_T wanted')])
def test_a_spread_that_can_not_be_is_named(wrong, said):
    with pytest.raises((ValueError, TypeError), match=said): walk_back_std(**dict(sched=linear_schedule(10), std_0=1.0) | wrong)


def test_a_spread_may_begin_at_nothing_and_below_one():
    "Rejects a spread at T of at least 1, and one of the data above 0."
    sched = linear_schedule(10)
    assert walk_back_std(sched, 0.0, 0.0, 0.0) == 0 and 0 < walk_back_std(sched, 1.0, 0.0, 0.5) < walk_back_std(sched, 1.0, 0.0)


@pytest.mark.parametrize('move', [lambda s: s, lambda s: s.to('cpu'), lambda s: s.to('meta'), copy.deepcopy], ids=['made', 'moved', 'on meta', 'copied'])
def test_a_schedule_remembers_whether_anything_is_left_at_its_end(move):
    "Rejects one that forgets it when it is moved: samplers begin otherwise there."
    assert move(flow_schedule(2)).ends_at_zero is True
    assert move(linear_schedule(10)).ends_at_zero is False
