"The exact step test on samplers right and wrong, and tests that pieces of the museum needed and no other file had."
import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.data import Images
from ddpm_lesson.exam.museum import exact_step_error, step_weights
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.sampler import ddim_coefs, ddpm_coefs
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.train import Recipe, draw, train_step
from ddpm_lesson.unet import time_embedding

SCHED = linear_schedule()


def step_of(sched, coefs, end=lambda x: x, twist=0.0):
    "A step with the coefficients of one of our samplers."
    def step(x_t, eps_hat, t, s, z):
        direction, sigma = coefs(sched, [t, s] if s else [t])
        x_0_hat = (x_t - sched.noise_rate[t]*eps_hat)/sched.signal_rate[t]
        return end(sched.signal_rate[s]*x_0_hat + direction[0]*eps_hat + sigma[0]*z + twist)
    return step


@pytest.mark.parametrize('coefs', [lambda s, ts: ddim_coefs(s, ts, 0.), lambda s, ts: ddim_coefs(s, ts, 0.7), ddpm_coefs], ids=['eta 0', 'eta 0.7', 'ddpm'])
@pytest.mark.parametrize('steps', [1, 7, 50, [900, 3]], ids=str)
def test_right_samplers_are_exact(coefs, steps, sched):
    # checks (M.1)
    if sched.T < 1000: steps = min(7, sched.T)
    off = exact_step_error(step_of(sched, coefs), sched, steps)
    assert off.dtype == torch.float64 and off.max() < 1e-9


def test_wrong_steps_are_not():
    by_eta = lambda s, ts: ddim_coefs(s, ts, 1.)
    off = exact_step_error(step_of(SCHED, lambda s, ts: (by_eta(s, ts)[0], 0.5*by_eta(s, ts)[1])), SCHED, 20)
    assert (off[:-1] > 1e-4).all() and off[-1] < 1e-12            # the last step has no sigma to halve
    for eta in (0., 0.5, 1.):
        assert exact_step_error(step_of(SCHED, lambda s, ts: ddim_coefs(s, ts, eta), end=lambda x: x.clamp(-1, 1)), SCHED, 20)[:-1].isinf().all()
    for wrong in step_of(SCHED, by_eta, end=lambda x: x*float('nan')), step_of(SCHED, by_eta, twist=0.1):
        assert exact_step_error(wrong, SCHED, 20).isinf().all()   # no number, an offset
    large = exact_step_error(step_of(SCHED, lambda s, ts: ddpm_coefs(s, ts, 'large')), SCHED, 20)
    assert large.max() > 1e-3 and large[-1] < 1e-12                 # exact for N(0, I) only: a choice, not a mistake


def test_clamping_the_estimate_is_seen_as_right():
    def step(x_t, eps_hat, t, s, z):
        x_0 = ((x_t - SCHED.noise_rate[t]*eps_hat)/SCHED.signal_rate[t]).clamp(-1, 1)
        return SCHED.signal_rate[s]*x_0 + SCHED.noise_rate[s]*(x_t - SCHED.signal_rate[t]*x_0)/SCHED.noise_rate[t]
    assert exact_step_error(step, SCHED, 20).max() < 1e-9


def test_weights_and_float32_and_bad_input():
    step = step_of(SCHED, lambda s, ts: ddim_coefs(s, ts, 0.3))
    direction, sigma = ddim_coefs(SCHED, [700, 200], 0.3)
    assert_close(step_weights(step, SCHED, 700, 200), torch.stack([SCHED.signal_rate[200], direction[0], sigma[0]]), rtol=1e-9, atol=1e-12)
    rough = exact_step_error(lambda x, e, t, s, z: step(x.float(), e.float(), t, s, z.float()), SCHED, 50)
    assert rough[-5:].max() < 1e-5 and rough.isfinite().all()
    for steps in (0, 1001, [3, 3]):
        with pytest.raises(ValueError, match='steps wanted'): exact_step_error(step, SCHED, steps)


def test_guidance_keeps_what_both_answers_share_and_has_the_right_ends():
    # checks (13.2)
    x, c, u = normal(2, 3, 4), normal(2, 3, 4, seed=1), normal(2, 3, 4, seed=2)
    ask = lambda c, u, scale: Guided(lambda x, t, y=None: u if y is None else c, torch.tensor([1, 0]), scale)(x, torch.tensor([5, 5]))
    assert_close(ask(c, c, 3.0), c)
    assert_close(ask(c, u, 1.0), c)
    assert_close(ask(c, u, 0.0), u)
    assert_close(ask(c, u, 2.5), u + 2.5*(c - u))
    assert_close(Labelled(lambda x, t, y=None: x*y.reshape(-1, 1, 1), torch.tensor([1, 0]))(x, 5)[1], torch.zeros(3, 4, dtype=torch.float64))


def test_embedding_is_ddpms():
    # checks (8.1)
    t = torch.tensor([1., 37., 500., 1000.])
    assert_close(time_embedding(t, 64), get_timestep_embedding(t, 64, downscale_freq_shift=1), rtol=1e-4, atol=1e-4)


def test_each_label_is_dropped_by_its_own_throw():
    data = Images(torch.arange(400*4, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(400, 1, 2, 2), torch.zeros(400, dtype=torch.int64), ('a',))
    shares = [(draw(data, Recipe(batch=400, label_drop=0.3), 10, k).y == 1).double().mean().item() for k in range(10)]
    assert all(abs(share - 0.3) < 5*(0.3*0.7/400)**0.5 for share in shares), shares
    mirrored = draw(data, Recipe(batch=400, flip=True), 10, 0).x_0
    straight = draw(data, Recipe(batch=400), 10, 0).x_0
    assert 0.3 < (mirrored == straight).flatten(1).all(1).double().mean() < 0.7


def test_a_step_is_taken_along_the_gradient_of_the_loss():
    net = torch.nn.Conv2d(1, 1, 3, padding=1)
    model = lambda x, t: net(x)
    model.parameters, model.zero_grad = net.parameters, net.zero_grad
    x_0, t, eps = normal(4, 1, 5, 5, dtype=torch.float32).clamp(-1, 1), torch.tensor([1, 200, 600, 1000]), normal(4, 1, 5, 5, seed=1, dtype=torch.float32)
    a, b = (r[t].float().reshape(4, 1, 1, 1) for r in (SCHED.signal_rate, SCHED.noise_rate))
    slope, = torch.autograd.grad((net(a*x_0 + b*eps) - eps).square().mean(), net.weight)
    before, recipe = net.weight.detach().clone(), Recipe(target='eps', lr=0.1, warmup=0, clip_grad=1e6)
    train_step(model, SCHED, torch.optim.SGD(net.parameters(), 0.1), recipe, (x_0, t, eps), 0, False)
    assert_close(before - net.weight.detach(), 0.1*slope, rtol=1e-4, atol=1e-6)
