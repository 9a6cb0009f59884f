"Few steps: closed forms against integrals, targets against two real steps, who learns by the losses' own gradients, calls, seeds, and what is refused."
import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson import few_steps
from ddpm_lesson.dialects import translate_level
from ddpm_lesson.few_steps import (
    PredictsMeanFlow,
    average_velocity,
    clean_image,
    consistency_function,
    consistency_loss,
    consistency_sample,
    consistency_steps,
    ddim_jump,
    distill_loss,
    jump_target,
    mean_flow_loss,
    mean_flow_target,
    two_step_target,
)
from ddpm_lesson.loss import PredictsX0
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.sampler import ddim_sample, ddim_steps, image_noise, trailing
from ddpm_lesson.schedule import cosine_schedule, linear_schedule

LINEAR, COSINE = linear_schedule(), cosine_schedule()
MEAN, STD = torch.tensor([0.4, -0.2, 0.1]).double(), torch.tensor([0.5, 0.05, 1.5]).double()   # of images of three numbers
TIMES = torch.tensor([0.02, 0.4, 0.75, 1.0]).double()
TWO = GaussianMixture([1., 2.], torch.tensor([[-0.6, 0.1], [0.5, 0.3]]).double(), 0.1, COSINE)


def points(seed=0, shape=(4, 3)): return normal(*shape, seed=seed, dtype=torch.float64)


def velocity(z, tau):
    "E[eps - x_0 | z], from the covariance of both, for the Gaussian above."
    tau = tau[:, None]
    cov, var = tau - (1 - tau)*STD**2, tau**2 + (1 - tau)**2*STD**2
    return -MEAN + cov/var*(z - (1 - tau)*MEAN)


def follow(z, tau, to, N=800):
    "The path of the ODE through z, by classical Runge-Kutta."
    h = (to - tau)/N
    for i in range(N):
        at, step = tau + i*h, h[:, None]
        a = velocity(z, at)
        b = velocity(z + step/2*a, at + h/2)
        c = velocity(z + step/2*b, at + h/2)
        z = z + step/6*(a + 2*b + 2*c + velocity(z + step*c, at + h))
    return z


# --- closed forms -------------------------------------------------------------------------------

def test_closed_forms_are_ends_and_averages_of_paths():
    "Rejects the posterior mean for the end, and one mean or spread for all numbers of an image."
    z, r = points(), 0.3*TIMES
    assert_close(consistency_function(z, TIMES, MEAN, STD), follow(z, TIMES, 0*TIMES), rtol=1e-6, atol=1e-6)   # checks (19.1)
    way = (z - follow(z, TIMES, r))/(TIMES - r)[:, None]
    assert_close(average_velocity(z, r, TIMES, MEAN, STD), way, rtol=1e-6, atol=1e-6)   # checks (19.8), (19.9)
    assert_close(average_velocity(z, TIMES, TIMES, MEAN, STD), velocity(z, TIMES), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('gap', [1e-3, 1e-8, 1e-14])
def test_nothing_cancels_where_two_times_meet(gap):
    "Rejects (z - z_r)/(tau - r), computed so: it loses all digits."
    z, U = points(), partial(average_velocity, mean=MEAN, std=STD)
    assert_close(U(z, TIMES - gap, TIMES), U(z, TIMES, TIMES), rtol=0, atol=max(300*gap, 1e-11))


def test_identities_hold_by_derivative():
    "Rejects a wrong sign of time in either closed form. To 1e-10."
    z, v, r, one = points(), velocity(points(), TIMES), 0.3*TIMES, torch.ones(4).double()
    f = partial(consistency_function, mean=MEAN, std=STD)
    assert_close(torch.func.jvp(f, (z, TIMES), (v, one))[1], 0*z, rtol=0, atol=1e-10)   # checks (19.3)
    said, wanted = mean_flow_target(partial(average_velocity, mean=MEAN, std=STD), z, r, TIMES, v)
    assert_close(wanted, said, rtol=1e-10, atol=1e-10)   # checks (19.11)


@pytest.mark.parametrize('sched', [LINEAR, COSINE], ids=['linear', 'cosine'])
def test_a_wrapped_average_velocity_jumps_to_the_end(sched):
    "Rejects a wrapper that takes a noise rate for flow time, or the velocity at tau for the average."
    net, x = partial(average_velocity, mean=MEAN, std=STD), points(1)
    model, t = PredictsMeanFlow(net, sched), torch.tensor([3, 200, 700, 1000])
    tau = translate_level(sched.alpha_bar[t], 'ddpm', 'flow')
    signal, noise = sched.signal_rate[t][:, None], sched.noise_rate[t][:, None]
    end = consistency_function(x/(signal + noise), tau, MEAN, STD)
    assert_close(model.x_0_hat(x, t), end, rtol=1e-9, atol=1e-9)
    assert_close(model(x, t), (x - signal*end)/noise, rtol=1e-6, atol=1e-6)
    assert_close(model(x[:1], 200), model(x[:1], torch.tensor([200])), rtol=0, atol=0)


def test_one_jump_is_where_many_small_steps_lead():
    "Rejects any slip between flow times and steps: the sampler of lesson 7 knows nothing of this page."
    many = GaussianMixture([1.], MEAN[None, :1], 0.5, COSINE)
    jump = PredictsMeanFlow(partial(average_velocity, mean=MEAN[:1], std=0.5), COSINE)
    x_T = points(2, (6, 1))
    slow = ddim_sample(many, COSINE, (6, 1), steps=1000, x_T=x_T)
    assert_close(consistency_sample(jump, COSINE, (6, 1), x_T=x_T), slow, rtol=0, atol=3e-3)


# --- the sampler --------------------------------------------------------------------------------

@pytest.mark.parametrize('steps', [1, 2, 4, [900, 37], [1]])
def test_sampler_makes_one_call_a_step_and_no_noise_at_the_end(steps):
    "Rejects noise of the level that is left, noise after the last call, and old noise kept. # checks (19.4)"
    model, noise = Stub(), image_noise((5, 2, 3), range(5), 'cpu')
    x_t, ts = noise(), trailing(1000, steps) if isinstance(steps, int) else steps
    for t, s in zip(ts, [*ts[1:], 0]):
        eps_hat = model(x_t, torch.full((5,), t)).detach()
        x_0_hat = (x_t - COSINE.noise_rate[t].float()*eps_hat)/COSINE.signal_rate[t].float()
        x_t = COSINE.signal_rate[s].float()*x_0_hat.clamp(-1, 1) + (COSINE.noise_rate[s].float()*noise() if s else 0)
    model.calls.clear()
    got = consistency_sample(model, COSINE, (5, 2, 3), steps=steps, clip=(-1, 1), seeds=range(5))
    assert model.calls == [[t]*5 for t in ts]
    assert_close(got, x_t, rtol=1e-4, atol=1e-4)
    *way, (t, x_0, _) = consistency_steps(model, COSINE, (5, 2, 3), steps=steps, clip=(-1, 1), seeds=range(5))
    assert t == 0 and [t for t, _, _ in way] == list(ts) and torch.equal(x_0, got)


def test_an_image_depends_on_its_seed_alone():
    "Rejects noise drawn for a batch as a whole."
    draw = partial(consistency_sample, TWO, COSINE, steps=3)
    together = draw((4, 2), seeds=[7, 8, 9, 10])
    assert_close(together[2:3], draw((1, 2), seeds=[9]), rtol=1e-6, atol=1e-6)
    assert not torch.equal(together[0], together[1]) and not torch.equal(together, draw((4, 2), seeds=[7, 8, 9, 11]))


@pytest.mark.parametrize('change, words', [
    (dict(steps=0), 'steps wanted 1..1000'), (dict(steps=[3, 5]), 'falling'), (dict(clip=(1, -1)), 'lo < hi'), (dict(seeds=[1]), 'one per image'),
    (dict(x_T=torch.zeros(2, 3)), 'x_T wanted shape'), (dict(sched=TWO), 'Schedule|schedule'), (dict(model=3), 'wanted a function'), (dict(shape=(2, 2, 0)), 'shape')])
def test_what_is_refused_is_refused_as_by_ddim(change, words):
    "Rejects a sampler with checks of its own."
    given = dict(model=TWO, sched=COSINE, shape=(2, 2), steps=2) | change
    for sample in consistency_sample, ddim_sample:
        with pytest.raises((TypeError, ValueError), match=words): sample(**given)


# --- progressive distillation -------------------------------------------------------------------

LADDERS = [(1000, 750, 500), (500, 250, 0), (2, 1, 0), (999, 998, 997), (1000, 3, 1)]


@pytest.mark.parametrize('ladder', LADDERS, ids=str)
def test_target_leads_where_two_steps_of_ddim_lead(ladder):
    "Rejects the second answer for the target, or a plain mean of both. # checks (19.5), (19.6)"
    t, m, s = ladder
    x_t = points(3, (5, 2))
    target = two_step_target(TWO, COSINE, x_t, t, m, s)
    by_ddim = [x for _, x, _ in ddim_steps(TWO, COSINE, (5, 2), steps=[k for k in (t, m, s) if k], x_T=x_t)]
    assert_close(ddim_jump(COSINE, x_t, target, t, s), by_ddim[2], rtol=1e-9, atol=1e-9)
    assert_close(jump_target(COSINE, x_t, by_ddim[2], t, s), target, rtol=1e-6, atol=1e-6)


def test_each_image_may_have_its_own_ladder():
    "Rejects one step for a batch."
    t, m, s = torch.tensor(LADDERS).T
    x_t = points(3, (5, 2))
    together = two_step_target(TWO, COSINE, x_t, t, m, s)
    for i, ladder in enumerate(LADDERS): assert_close(together[i:i + 1], two_step_target(TWO, COSINE, x_t[i:i + 1], *ladder), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match='falling steps'): two_step_target(TWO, COSINE, x_t, t, s, m)


@pytest.mark.parametrize('ladder', LADDERS, ids=str)
def test_target_keeps_its_digits_in_float32(ladder):
    "Rejects rates that are rounded before they are subtracted, and x_s solved for x_0 between near steps."
    x_t = points(4, (50, 2))
    exact = two_step_target(TWO, COSINE, x_t, *ladder)
    assert_close(two_step_target(TWO, COSINE, x_t.float(), *ladder), exact.float(), rtol=0, atol=2e-3 if ladder[0] == 1000 else 2e-5)


def test_clip_bounds_the_target():
    "Rejects a clamp of one answer only, or of none."
    wild = PredictsX0(lambda x, t: 3*x, COSINE)
    x_t = points(5, (9, 2))
    bounded = two_step_target(wild, COSINE, x_t, 900, 600, 300, clip=(-1, 1))
    assert bounded.abs().max() <= 1 + 1e-12 and two_step_target(wild, COSINE, x_t, 900, 600, 300).abs().max() > 1
    assert clean_image(TWO, COSINE, x_t, 500, clip=(-0.1, 0.1)).abs().max() == 0.1


def test_the_teacher_learns_nothing():
    "Rejects a target with a gradient."
    teacher, student = (torch.nn.Linear(2, 2).double() for _ in range(2))
    wrapped = [PredictsX0(lambda x, t, net=net: net(x), COSINE) for net in (teacher, student)]
    distill_loss(wrapped[1], wrapped[0], COSINE, points(6, (4, 2)), 500, 250, 100, points(7, (4, 2))).mean().backward()
    assert student.weight.grad.abs().min() > 0 and teacher.weight.grad is None


class Forgets(torch.nn.Dropout):
    def forward(self, x, t): return super().forward(x)


@pytest.mark.parametrize('loss', [
    lambda model, teacher: distill_loss(model, teacher, COSINE, points(6, (4, 9)), 500, 250, 100, points(7, (4, 9))),
    lambda model, teacher: consistency_loss(model, COSINE, points(6, (4, 9)), 500, 250, points(7, (4, 9)), teacher=teacher)], ids=['distill', 'consistency'])
def test_a_teacher_is_at_rest_and_then_as_it_was(loss):
    "Rejects a target with the teacher's dropout in it, and a teacher that stays in eval mode."
    student, teacher = PredictsX0(lambda x, t: 0.5*x, COSINE), PredictsX0(Forgets(0.5), COSINE).eval()
    wanted = loss(student, teacher)
    assert torch.equal(loss(student, teacher.train()), wanted) and teacher.net.training


# --- consistency --------------------------------------------------------------------------------

class Weights:
    "f(x, t) = w_t x; asked at step 0 it fails, as a network without that entry would."
    def __init__(self): self.w = torch.linspace(1, 2, 1001).double().requires_grad_()
    def x_0_hat(self, x_t, t):
        t = torch.as_tensor(t).expand(len(x_t))
        assert t.min() >= 1
        return self.w[t].reshape(-1, 1)*x_t


@pytest.mark.parametrize('teacher', [None, TWO], ids=['training', 'distillation'])
def test_only_the_answer_at_t_learns(teacher):
    "Rejects a loss without its stop-gradient, and one that asks at step 0. # checks (19.7)"
    model, x_0, eps = Weights(), points(8, (3, 2)), points(9, (3, 2))
    t, s = torch.tensor([500, 300, 20]), torch.tensor([400, 299, 0])
    loss = consistency_loss(model, COSINE, x_0, t, s, eps, teacher=teacher)
    slope, = torch.autograd.grad(loss.sum(), model.w)
    assert slope.nonzero().flatten().tolist() == [20, 300, 500]


def test_consistency_at_the_end_is_the_clean_image():
    "Rejects a target at step 0 other than the image itself, and a noise drawn anew for the second level."
    model, x_0, eps = Weights(), points(8, (3, 2)), points(9, (3, 2))
    t = torch.tensor([500, 300, 20])
    x_t = COSINE.signal_rate[t][:, None]*x_0 + COSINE.noise_rate[t][:, None]*eps
    assert_close(consistency_loss(model, COSINE, x_0, t, 0, eps), (model.x_0_hat(x_t, t) - x_0).square().mean(1), rtol=1e-12, atol=0)
    x_s = COSINE.signal_rate[10]*x_0 + COSINE.noise_rate[10]*eps
    wanted = (model.x_0_hat(x_t, t) - model.x_0_hat(x_s, 10)).square().mean(1)
    assert_close(consistency_loss(model, COSINE, x_0, t, 10, eps), wanted, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match='falling steps'): consistency_loss(model, COSINE, x_0, 10, t, eps)


# --- MeanFlow -----------------------------------------------------------------------------------

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
    def forward(self, z, r, tau, y=None): return self.net(torch.cat([z, r[:, None], tau[:, None]], 1)) + (0 if y is None else y[:, None])


def test_mean_flow_loss_is_the_square_to_a_fixed_target():
    "Rejects a gradient through the target, times in the wrong places of the tangent, and a wrong sign. # checks (19.12)"
    net, x_0, eps = Small(), points(10, (5, 2)), points(11, (5, 2))
    r, tau = torch.tensor([0., 0.2, 0.5, 0.1, 1.]).double(), torch.tensor([0.3, 0.2, 0.9, 1., 1.]).double()
    z, v, h = (1 - tau)[:, None]*x_0 + tau[:, None]*eps, eps - x_0, 1e-6
    ahead, behind = (net(z + k*h*v, r, tau + k*h) for k in (1, -1))
    target = (v - (tau - r)[:, None]*(ahead - behind)/(2*h)).detach()
    got, wanted = mean_flow_loss(net, x_0, r, tau, eps), (net(z, r, tau) - target).square().mean(1)
    assert_close(got, wanted, rtol=1e-7, atol=1e-8)
    slopes = [torch.autograd.grad(loss.mean(), list(net.parameters())) for loss in (got, wanted)]
    for a, b in zip(*slopes): assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_mean_flow_takes_labels_and_times_of_one_number():
    "Rejects labels that are lost, and a time spread by `expand`, in which torch.func.jvp may not write."
    net, x_0, eps = Small(), points(10, (5, 2)), points(11, (5, 2))
    r, tau = torch.tensor(0.2).double().expand(5), torch.tensor(0.9).double().expand(5)
    plain, same = mean_flow_loss(net, x_0, r, tau, eps), mean_flow_loss(net, x_0, r.clone(), tau.clone(), eps)
    assert torch.equal(plain, same)
    assert not torch.equal(plain, mean_flow_loss(net, x_0, r, tau, eps, torch.arange(5)))
    for wrong in ((tau, r), (r - 1, tau), (r, tau + 1)):
        with pytest.raises(ValueError, match='r <= tau'): mean_flow_loss(net, x_0, *wrong, eps)
    with pytest.raises(ValueError, match='one shape'): mean_flow_loss(net, x_0, r, tau, eps[:, :1])


Z = normal(2, 3).float()


@pytest.mark.parametrize('call, error', [
    (lambda: few_steps.consistency_function(Z, 1.5), 'flow times 0 <='),
    (lambda: few_steps.consistency_function(Z, math.nan), 'flow times 0 <='),
    (lambda: few_steps.consistency_function(Z, 0.5, std=0.), 'std wanted numbers above 0'),
    (lambda: few_steps.consistency_function(Z.long(), 0.5), 'floating-point'),
    (lambda: few_steps.consistency_function(Z[:1], 0.5, mean=torch.zeros(5, 3)), 'mean wanted one number or the shape'),
    (lambda: few_steps.average_velocity(Z, 0.1, 0.5, std=torch.ones(1)), 'std wanted one number or the shape'),
    (lambda: few_steps.average_velocity(Z, 0.9, 0.1), 'flow times 0 <='),
    (lambda: few_steps.average_velocity(Z, torch.tensor([0.1]*3), 0.9), 'one for each of 2 images'),
    (lambda: few_steps.mean_flow_loss(lambda z, r, tau: z, Z, 0.9, 0.1, Z), 'flow times 0 <='),
    (lambda: few_steps.ddim_jump(LINEAR, Z, Z, 5, 10), 'falling steps'),
    (lambda: few_steps.clean_image(Stub(), LINEAR, Z, 5, clip=(1, -1)), 'lo < hi'),
    (lambda: few_steps.two_step_target(Stub(), LINEAR, Z, 20, 10, 5, clip=1), 'clip wanted')])
def test_times_that_no_path_has_are_refused(call, error):
    "Rejects numbers of a time after the end, NaN, and an image for each of another count."
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_times_may_be_numbers():
    "Rejects 'float has no attribute to', and whole numbers that the derivative does not take."
    one = few_steps.average_velocity(Z, 0.1, 0.9)
    assert_close(one, few_steps.average_velocity(Z, torch.tensor([0.1, 0.1]), torch.tensor(0.9)), rtol=0, atol=0)
    net = lambda z, r, tau: z*tau[:, None]
    assert_close(few_steps.mean_flow_loss(net, Z, 0, 1, Z), few_steps.mean_flow_loss(net, Z, torch.zeros(2), torch.ones(2), Z), rtol=0, atol=0)
