"Dialects: what is translated comes back, agrees with other libraries, and ends where it should."
import copy
import inspect
import math
import warnings

import diffusers
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from diffusers.training_utils import EMAModel
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson.checks import from_elsewhere
from ddpm_lesson.dialects import (
    Foreign,
    PredictsEdm,
    PredictsFlow,
    RescaledGuided,
    edm_loss,
    edm_scales,
    flow_loss,
    flow_schedule,
    from_diffusers,
    from_lucidrains,
    languages,
    nearest_step,
    options_of,
    pair_noise,
    rescaled,
    to_diffusers,
    translate_answer,
    translate_image,
    translate_level,
    words,
    zero_terminal_snr,
)
from ddpm_lesson.few_steps import clean_image, distill_loss
from ddpm_lesson.forward import q_sample
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0, eps_loss
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.posterior import v_from_eps, x_0_from_eps
from ddpm_lesson.sampler import ddim_sample, ddim_steps, ddpm_sample, ddpm_steps
from ddpm_lesson.schedule import Schedule, cosine_schedule, linear_schedule, schedule_from_alpha_bar
from ddpm_lesson.solvers import dpm_solver_sample, heun_sample, karras, uniform_lambda
from ddpm_lesson.unet import UNet

SCHED = linear_schedule()
SIGMA = languages['ddpm'].sigma(SCHED.alpha_bar[1:])
EXACT = dict(rtol=1e-12, atol=1e-12)


def quiet(thing):
    "What `from_diffusers` makes of it, its warning left out."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return from_diffusers(thing)


def small_network(**options):
    torch.manual_seed(0)
    return UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, block_out_channels=(8, 8),
                       down_block_types=('DownBlock2D',)*2, up_block_types=('UpBlock2D',)*2, **options).eval()


@pytest.mark.parametrize('one', languages)
@pytest.mark.parametrize('other', languages)
def test_levels_and_images_come_back(one, other):
    "Rejects tau for the noise rate, log SNR for lambda, and a scale that is divided by."
    level = languages[one].level(SIGMA)
    there = translate_level(level, one, other)
    assert_close(translate_level(there, other, one), level, **EXACT)
    x = normal(1000, 2, 3)
    assert_close(translate_image(translate_image(x, level, one, other), there, other, one), x, rtol=1e-10, atol=1e-10)
    assert translate_image(x.float(), level, one, other).dtype == torch.float32


def test_a_wrapped_flow_network_is_shown_flows_image():
    "Rejects a scale that is divided by, which comes back all the same."
    x_0, eps, tau = normal(5, 2), normal(5, 2, seed=1), torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
    x_tau, t = (1 - tau)[:, None]*x_0 + tau[:, None]*eps, translate_level(tau, 'flow', 'ddpm')
    assert_close(translate_image(x_tau, tau, 'flow', 'edm'), x_0 + (tau/(1 - tau))[:, None]*eps, rtol=1e-9, atol=0)
    assert_close(translate_image(x_tau, tau, 'flow', 'ddpm'), t.sqrt()[:, None]*x_0 + (1 - t).sqrt()[:, None]*eps, rtol=1e-9, atol=1e-12)


def test_the_ends_are_numbers():
    "Rejects sigma/(1 + sigma), which is NaN at the pure noise of flow time 1."
    ends = torch.tensor([0., 1.], dtype=torch.float64)
    assert translate_level(ends, 'flow', 'ddpm').tolist() == [1, 0] and translate_level(ends, 'ddpm', 'flow').tolist() == [1, 0]
    for dtype in torch.float64, torch.float32:   # noise is noise in any scale but EDM's
        x, there = normal(2, 3).to(dtype), ends.to(dtype)
        for one, other, level in ('flow', 'ddpm', there), ('ddpm', 'flow', there), ('flow', 'log_snr', there), ('log_snr', 'flow', (1 - 2*there)*float('inf')): assert_close(translate_image(x, level, one, other), x)


@pytest.mark.parametrize('one', words)
@pytest.mark.parametrize('other', words)
def test_answers_come_back(one, other):
    "Rejects a velocity taken for another, and a sign."
    said, z = normal(1000, 3, seed=1), normal(1000, 3, seed=2)*(1 + SIGMA[:, None]**2).sqrt()
    back = translate_answer(translate_answer(said, one, other, z, SIGMA), other, one, z, SIGMA)
    assert_close(back, said, rtol=1e-9, atol=1e-9)   # x_0 from noise and back loses 157 times the last digit


def test_words_that_nobody_knows_are_refused():
    for call in (lambda: translate_level(SIGMA, 'edm', 'vp'), lambda: translate_answer(SIGMA, 'eps', 'noise', SIGMA, SIGMA), lambda: translate_level(SIGMA, ['edm'], 'flow')):
        with pytest.raises(ValueError, match='wanted one of'): call()
    with pytest.raises(TypeError, match='level wanted a floating-point tensor'): translate_level(torch.tensor([1, 2]), 'edm', 'flow')


@pytest.mark.parametrize('T', [2, 7, 1000])
def test_zero_terminal_snr_is_the_library_of_its_authors_readers(T):
    "Rejects the stored entry 0 taken for the first step, alpha_bar in the place of its root, and a shift without the stretch."
    sched = linear_schedule(T)
    got, theirs = zero_terminal_snr(sched), DDIMScheduler(num_train_timesteps=T, rescale_betas_zero_snr=True)
    assert_close(got.alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=1e-3, atol=1e-7)
    assert got.alpha_bar[0] == 1 and got.alpha_bar[-1] == 0 and got.beta[-1] == 1 and got.beta[0] == 0 and got.ends_at_zero
    assert_close(got.alpha_bar[1], sched.alpha_bar[1], rtol=1e-14, atol=0)
    assert got.to('cpu').ends_at_zero and not sched.ends_at_zero and copy.deepcopy(got).ends_at_zero
    with pytest.raises(ValueError, match='T >= 2'): zero_terminal_snr(linear_schedule(1))
    with pytest.raises(ValueError, match='nothing of the image is left'): schedule_from_alpha_bar(got.alpha_bar)   # by hand it stays a slip


@pytest.mark.parametrize('sched', [zero_terminal_snr(SCHED), flow_schedule(50), flow_schedule(50, 3.0)], ids=['mended', 'flow', 'shifted'])
@pytest.mark.parametrize('sample', [ddim_sample, ddpm_sample])
@pytest.mark.parametrize('steps', [1, 5, 50])
def test_a_walk_from_nothing(sched, sample, steps):
    "Rejects 0/0 at T; steps that skip T; a first step that forgets the clamp, or its fresh noise."
    world = GaussianMixture([0.3, 0.7], torch.tensor([[-0.6], [0.5]]), 0.2, sched)
    says_v = PredictsV(lambda x, t: v_from_eps(sched, world.x_0_hat(x, t), world(x, t), t), sched)
    x_T = normal(5, 1)
    a, b = (sample(m, sched, (5, 1), steps=steps, x_T=x_T, seeds=range(5)) for m in (world, says_v))
    assert_close(a, b, rtol=1e-8, atol=1e-8)
    if steps == 1: assert_close(a, torch.full_like(a, 0.17))      # the mean of the data
    clipped = sample(world, sched, (5, 1), steps=steps, x_T=x_T, clip=(-0.1, 0.1), seeds=range(5))
    assert clipped.abs().max() < 0.1 + 1e-9
    with pytest.raises(ValueError, match='at t=.* wanted a model that has x_0_hat'): sample(lambda x, t: world(x, t), sched, (5, 1), steps=steps)
    below = sample(lambda x, t: world(x, t), sched, (5, 1), steps=list(range(sched.T - 1, 0, -7)))   # the noise is enough below T
    assert below.isfinite().all()


def test_solvers_in_log_snr_say_that_they_can_not_begin_there():
    "Rejects an infinite lambda, and NaN."
    world = GaussianMixture([1.], torch.tensor([[0.3]]), 0.5, zero_terminal_snr(SCHED))
    for sample in heun_sample, dpm_solver_sample:
        with pytest.raises(ValueError, match='log SNR.* wanted steps below 1000'): sample(world, world.sched, (2, 1), steps=5)
        assert sample(world, world.sched, (2, 1), steps=[900, 500, 100]).isfinite().all()


def test_a_walk_from_nothing_shows_its_steps_and_draws_its_law():
    "Rejects a twin that skips T. The law: with 1000 steps of DDPM, mean and spread of the data, 4 standard errors of 4,000 draws."
    sched = zero_terminal_snr(SCHED)
    world = GaussianMixture([1.], torch.tensor([[0.3]]), 0.5, sched)
    seen = [t for t, *_ in ddim_steps(world, sched, (2, 1), steps=5)]
    assert seen == [1000, 800, 600, 400, 200, 0]
    assert [t for t, *_ in ddim_steps(world, sched, (2, 1), steps=1)] == [1000, 0]
    torch.manual_seed(0)
    (_, x_T, x_0_hat), (_, x_500, _), _ = ddpm_steps(world, sched, (4000, 1), steps=[1000, 500])
    a_s = sched.alpha_bar[500].item()
    fresh = x_500 - a_s**0.5*x_0_hat                                    # all noise of the first step is fresh
    assert abs(fresh.std()/(1 - a_s)**0.5 - 1) < 4/8000**0.5 and abs((fresh*x_T).mean()) < 4/4000**0.5
    x = ddpm_sample(world, sched, (4000, 1), steps=1000)
    assert abs(x.mean() - 0.3) < 4*0.5/4000**0.5 and abs(x.std() - 0.5) < 4*0.5/8000**0.5 + 2e-3


def test_an_x_0_hat_that_is_no_function_says_nothing():
    "Rejects an attribute of that name, kept for a figure, taken for the model's word: its noise became the image."
    model = Stub()
    model.x_0_hat = None
    for call in lambda: ddim_sample(model, flow_schedule(20), (2, 3), steps=2), lambda: distill_loss(model, Stub(), SCHED, normal(2, 3), 9, 5, 1, normal(2, 3)):
        with pytest.raises((ValueError, TypeError), match='x_0_hat'): call()
    x = normal(2, 3)
    assert torch.equal(clean_image(model, SCHED, x, 9), clean_image(Stub(), SCHED, x, 9))


def test_noise_says_nothing_of_the_image_at_the_end():
    "Rejects a NaN handed out."
    sched, x = flow_schedule(10), normal(3, 2)
    with pytest.raises(ValueError, match='t wanted 0..9'): x_0_from_eps(sched, x, x, 10)
    assert x_0_from_eps(sched, x, x, torch.tensor([1, 5, 9])).isfinite().all()


@pytest.mark.parametrize('wrapper', [PredictsX0, PredictsV, PredictsFlow, PredictsEdm])
@pytest.mark.parametrize('sched', [SCHED, flow_schedule(1000)], ids=['linear', 'flow'])
def test_wrappers_say_one_noise_and_one_image(wrapper, sched):
    "Whatever the network says, signal x_0_hat + noise eps_hat is the image it was shown. Rejects wrappers whose two answers disagree."
    model = wrapper(lambda x, t: (3*x).sin() + t.to(x.dtype).reshape(-1, 1)/1000, sched)
    x, t = normal(4, 3), torch.tensor([1, 200, 700, 1000])
    back = sched.signal_rate[t, None]*model.x_0_hat(x, t) + sched.noise_rate[t, None]*model(x, t)
    assert_close(back, x, rtol=1e-9, atol=1e-9)
    assert model(x.float(), t).dtype == torch.float32 and model.to('meta')(x.to('meta'), t.to('meta')).shape == x.shape
    with pytest.raises(ValueError, match='1..1000'): model(x, 0)
    with pytest.raises(TypeError, match='floating-point'): model(x.long(), t)


@pytest.mark.parametrize('sigma_data', [0.25, 0.5, 1.0])
def test_edm_is_its_papers(sigma_data):
    "Rejects c_skip with sigma on top, c_in without its root, a loss in another unit."
    x_0, eps, t = normal(1000, 3), normal(1000, 3, seed=1), torch.arange(1, 1001)
    s = SIGMA[:, None]
    z, c, answer = x_0 + s*eps, edm_scales(s, sigma_data), normal(1000, 3, seed=2)
    shown = {}
    def net(x, t):
        shown['x'] = x
        return answer
    loss = edm_loss(net, SCHED, x_0, t, eps, sigma_data=sigma_data)
    assert_close(shown['x'], c.c_in*z, rtol=1e-10, atol=1e-12)
    D = c.c_skip*z + c.c_out*answer
    paper = (s**2 + sigma_data**2)/(s*sigma_data)**2*(D - x_0)**2
    assert_close(loss, paper.mean(1), rtol=1e-7, atol=0)
    assert_close(PredictsEdm(lambda x, t: answer, SCHED, sigma_data).x_0_hat(q_sample(SCHED, x_0, t, eps), t), D, rtol=1e-9, atol=1e-9)
    for bad in 0, -1, 'half':
        with pytest.raises((ValueError, TypeError), match='sigma_data wanted'): PredictsEdm(net, SCHED, bad)


def test_flow_loss_shows_the_straight_line():
    "Rejects DDPM's image in flow's place, and the sign x_0 - eps."
    sched = flow_schedule(8)
    x_0, eps, t, shown = normal(8, 3), normal(8, 3, seed=1), torch.arange(1, 9), {}
    def net(x, t, y):
        shown.update(x=x, t=t, y=y)
        return eps - x_0
    assert flow_loss(net, sched, x_0, t, eps, t).abs().max() < 1e-12
    tau = t[:, None]/8
    assert_close(shown['x'], (1 - tau)*x_0 + tau*eps, rtol=1e-9, atol=1e-12)
    assert shown['y'].tolist() == shown['t'].tolist() == t.tolist()
    assert_close(flow_loss(lambda x, t: x_0 - eps, sched, x_0, t, eps), 4*(x_0 - eps).square().mean(1), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match='wanted one shape'): flow_loss(net, sched, x_0, t, eps[:, :1])


@pytest.mark.parametrize('loss, wrapper', [(flow_loss, PredictsFlow), (edm_loss, PredictsEdm)])
def test_a_trained_network_and_its_wrapper_belong_together(loss, wrapper):
    "A network that minimises the loss on one image makes the wrapper draw it. Rejects wrappers that show another image than the loss does."
    sched = linear_schedule(20, 0.02, 0.6)
    x_0 = torch.tensor([[0.7, -0.3]])
    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.zeros(21, 2, 2))
        def forward(self, x, t): return self.table[t, 0]*x + self.table[t, 1]
    net, g = Line(), torch.Generator().manual_seed(0)
    opt = torch.optim.Adam(net.parameters(), 0.1)
    for step in range(500):
        if step == 250: opt.param_groups[0]['lr'] = 0.01
        opt.zero_grad()
        loss(net, sched, x_0.expand(200, 2), torch.arange(1, 21).repeat(10), torch.randn(200, 2, generator=g)).mean().backward()
        opt.step()
    drawn = ddim_sample(wrapper(net, sched), sched, (4, 2), steps=20, seeds=range(4))
    assert_close(drawn, x_0.expand(4, 2), rtol=0, atol=0.05)


def test_nearest_step_is_nearest():
    "Rejects a search that takes the next step above."
    sigma = torch.logspace(-4, 4, 300, dtype=torch.float64)
    t = nearest_step(SCHED, sigma)
    brute = (SIGMA.log()[None] - sigma.log()[:, None]).abs().argmin(1) + 1
    assert t.tolist() == brute.tolist() and nearest_step(SCHED, SIGMA).tolist() == list(range(1, 1001))
    assert nearest_step(flow_schedule(10), torch.tensor([1e9])).item() in (9, 10)


def test_pairs_are_the_best_of_all():
    "Rejects the assignment applied to the wrong side: the inverse permutation, or none."
    from itertools import permutations
    x_0, eps = normal(5, 1, 2), normal(5, 1, 2, seed=2)
    cost = lambda e: (x_0 - e).square().sum().item()
    best = min(cost(eps[list(p)]) for p in permutations(range(5)))
    got = pair_noise(x_0, eps)
    order = [eps.flatten(1)[:, 0].tolist().index(v) for v in got.flatten(1)[:, 0].tolist()]
    assert [order[i] for i in order] != list(range(5))   # else the inverse would be the same
    assert abs(cost(got) - best) < 1e-9 and sorted(got.flatten().tolist()) == sorted(eps.flatten().tolist())
    with pytest.raises(ValueError, match='wanted one shape'): pair_noise(x_0, eps[:4])


def test_rescaled_is_the_papers():
    "Rejects spreads upside down or over the batch."
    wide, asked = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    for w, a, got in zip(wide, asked, rescaled(wide, asked, 0.7)): assert_close(got, 0.7*w*a.std()/w.std() + 0.3*w, rtol=1e-10, atol=1e-12)
    for bad in -0.1, 1.1:
        with pytest.raises(ValueError, match='share wanted'): RescaledGuided(lambda *a: a[0], SCHED, torch.zeros(1).long(), share=bad)


def test_rescaled_guidance_asks_as_often_as_guidance():
    "Rejects a program that asks with the label twice: three calls of the network at every step, where two say all."
    asked = []
    def model(x, t, y=None):
        asked.append(y)
        return 0.1*x if y is None else 0.3*x
    model.x_0_hat = model
    y, x, t = torch.tensor([0, 1]), normal(2, 1, 4, 4), torch.tensor([3, 900])
    guided = RescaledGuided(model, SCHED, y, 3.0)
    for call in guided, guided.x_0_hat:
        asked.clear()
        call(x, t)
        assert len(asked) == 2 and asked[1] is None and torch.equal(asked[0], y)


def test_a_walk_from_nothing_asks_the_network_at_rest():
    "Rejects a first step in training mode, and a network that is left in another mode than it came in."
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x, t):
            self.seen.append(self.training)
            return x
    net = Net().train()
    model = PredictsV(net, zero_terminal_snr(SCHED))
    ddim_sample(model, model.sched, (1, 1, 2, 2), steps=3)
    assert net.seen == 3*[False] and net.training


def test_a_clamp_hides_no_infinity_where_nothing_is_left():
    "Rejects a walk that forgets what its first answer was."
    class Far:
        def __call__(self, x, t): return x
        def x_0_hat(self, x, t): return torch.full_like(x, 1e30)
    for steps in 1, 3:
        with pytest.raises(ValueError, match='far too large'): ddim_sample(Far(), zero_terminal_snr(SCHED), (1, 2), steps=steps, clip=(-1, 1))


def test_guidance_works_where_nothing_is_left():
    "Rejects wrappers that lose x_0_hat, or offer one that the model has not."
    sched = zero_terminal_snr(SCHED)
    model = PredictsV(lambda x, t, y=None: (x*0.1 if y is None else x*0.1 + y.to(x.dtype).reshape(-1, 1, 1, 1)).expand_as(x), sched)
    y = torch.tensor([0, 1])
    for wrapped in Labelled(model, y), Guided(model, y, 3.0), RescaledGuided(model, sched, y, 3.0):
        assert ddim_sample(wrapped, sched, (2, 1, 4, 4), steps=4, seeds=[0, 1]).isfinite().all()
    x, t = normal(2, 1, 4, 4), torch.tensor([1000, 1000])
    free, asked = model.x_0_hat(x, t), model.x_0_hat(x, t, y)
    assert_close(Guided(model, y, 3.0).x_0_hat(x, t), free + 3*(asked - free), rtol=1e-12, atol=1e-12)
    assert not hasattr(Labelled(lambda x, t, y: x, y), 'x_0_hat') and not hasattr(Guided(PredictsEps(model.net, sched), y), 'x_0_hat')
    with pytest.raises(ValueError, match='one label an image'): Labelled(model, y[:1]).x_0_hat(x, t)


CONFIGS = {
    'default': {}, 'v, stable diffusion': dict(beta_schedule='scaled_linear', beta_start=0.00085, beta_end=0.012, prediction_type='v_prediction', steps_offset=1),
    'x_0, cosine': dict(beta_schedule='squaredcos_cap_v2', prediction_type='sample', timestep_spacing='trailing'),
    'zero': dict(beta_schedule='scaled_linear', prediction_type='v_prediction', rescale_betas_zero_snr=True, timestep_spacing='trailing'),
    'own betas': dict(num_train_timesteps=100, trained_betas=[0.001*(k + 1) for k in range(100)]), 'clip': dict(clip_sample=True, clip_sample_range=0.8),
}


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize('kind', [DDIMScheduler, DDPMScheduler])
def test_a_scheduler_becomes_a_schedule(config, kind):
    "Rejects scaled_linear read as linear, a cosine without its cap, float32 tables, a config that is no object."
    scheduler = kind(**(dict(clip_sample=False) | config))
    sched = quiet(scheduler)
    assert_close(sched.alpha_bar[1:].float(), scheduler.alphas_cumprod, rtol=5e-4, atol=1e-7)
    assert sched.alpha_bar.dtype == torch.float64
    assert torch.equal(quiet(dict(scheduler.config)).alpha_bar, sched.alpha_bar)      # what a scheduler_config.json holds


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_their_network_and_scheduler_in_our_sampler(config):
    "Rejects steps counted from 1, a velocity for noise, leading for trailing."
    net, scheduler = small_network(), DDIMScheduler(**(dict(clip_sample=False) | config))
    scheduler.set_timesteps(20)
    x = x_T = normal(2, 1, 8, 8, dtype=torch.float32)
    with torch.no_grad():
        for t in scheduler.timesteps: x = scheduler.step(net(x, t).sample, t, x, use_clipped_model_output=True).prev_sample
    ours = ddim_sample(from_diffusers(net, scheduler), quiet(scheduler), (2, 1, 8, 8), x_T=x_T, **options_of(scheduler, 20))
    assert_close(ours, x, rtol=1e-3, atol=1e-3*x.abs().max().item())


@pytest.mark.parametrize('spacing', ['leading', 'trailing', 'linspace'])
@pytest.mark.parametrize('kind', [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize('S', [1, 10, 64, 1000])
def test_options_visit_their_steps(spacing, kind, S):
    scheduler = kind(timestep_spacing=spacing)
    scheduler.set_timesteps(S)
    wanted = (scheduler.timesteps + 1).tolist()
    got = options_of(scheduler, S)
    if spacing == 'linspace' and S == 1: assert got['steps'] in ([1], [1000])
    else: assert max(abs(a - b) for a, b in zip(got['steps'], wanted, strict=True)) <= (spacing != 'leading')   # halves are rounded their way
    assert got['clip'] == (-1, 1)


SCHEDULERS = """DDIM DDPM PNDM EulerDiscrete EulerAncestralDiscrete HeunDiscrete LMSDiscrete DPMSolverMultistep DPMSolverSinglestep UniPCMultistep
    DEISMultistep KDPM2Discrete SASolver LCM TCD FlowMatchEulerDiscrete""".split()
SPACINGS = [{}, *(dict(timestep_spacing=s) for s in ('leading', 'linspace', 'trailing')), *({f'use_{s}_sigmas': True} for s in ('karras', 'exponential', 'beta')), dict(shift=3.0)]


@pytest.mark.parametrize('options', SPACINGS, ids=lambda o: '-'.join(f'{k}={v}' for k, v in o.items()) or 'default')
@pytest.mark.parametrize('name', SCHEDULERS)
def test_options_visit_the_steps_of_any_scheduler(name, options):
    "Rejects the formulas of DDIM for a scheduler that has others, Karras' levels left out, flow's time read as a count from 0."
    kind = getattr(diffusers, f'{name}Scheduler')
    if not options.keys() <= inspect.signature(kind).parameters.keys(): pytest.skip('it knows no such setting')
    scheduler = kind(**options)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        before = str(vars(scheduler))
        got = options_of(scheduler, 7)['steps']
        assert str(vars(scheduler)) == before   # it is left as it was
        scheduler.set_timesteps(7)
    wanted = list(dict.fromkeys(scheduler.timesteps.double().tolist()))
    told = (lambda t: 1000/(1 + (1000 - t)/t/scheduler.config.shift)) if 'Flow' in name else (lambda t: t - 1)
    assert len(got) == len(wanted) and all(abs(told(t) - v) < (1.6 if 'Flow' in name else 0.51) for t, v in zip(got, wanted))


def test_steps_that_can_not_be_visited_or_known_are_refused():
    for scheduler, said in (diffusers.DDIMInverseScheduler(), 'falling timesteps'), (dict(diffusers.EulerDiscreteScheduler().config, _class_name='EulerDiscreteScheduler'), 'EulerDiscreteScheduler itself'):
        with pytest.raises(ValueError, match=said): options_of(scheduler, 7)
    with pytest.raises(ValueError, match='steps wanted 1..1000'): options_of(DDIMScheduler(), 1001)


def test_betas_of_ones_own_are_rescaled_too():
    "Rejects a table without the rescaling that its settings ask for."
    scheduler = DDIMScheduler(trained_betas=[0.001*(k + 1) for k in range(100)], num_train_timesteps=100, rescale_betas_zero_snr=True, timestep_spacing='trailing', clip_sample=False)
    assert_close(quiet(scheduler).alpha_bar[1:].float(), scheduler.alphas_cumprod, rtol=1e-3, atol=1e-6)


def test_a_scheduler_with_another_table_or_none_is_refused():
    "Rejects settings that are read without a look at the table they should make, and DDPM's table where there is none."
    scheduler = DDIMScheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod**2
    for call in (lambda: from_diffusers(scheduler), lambda: from_diffusers(small_network(), scheduler)):
        with pytest.raises(ValueError, match='alphas_cumprod'): call()
    for kind in diffusers.IPNDMScheduler, diffusers.ScoreSdeVeScheduler, diffusers.DDPMWuerstchenScheduler:
        with pytest.raises(ValueError, match='which has none'): from_diffusers(kind())
    with pytest.raises(ValueError, match='which has none'): from_diffusers(diffusers.FlowMatchEulerDiscreteScheduler().config)


def test_words_are_said_where_theirs_means_something_else():
    "Rejects silence, and a word where nothing differs."
    for options, word in (dict(), 'leading'), (dict(set_alpha_to_one=False), 'ends at alpha_bar_1'), (dict(clip_sample=True), 'keeps the old eps'), (dict(thresholding=True), 'moves with the image'), (dict(timestep_spacing='linspace'), 'linspace'):
        with pytest.warns(UserWarning, match=word): from_diffusers(DDIMScheduler(**(dict(clip_sample=False) | options)))
    with pytest.warns(UserWarning, match="var='large'"): from_diffusers(DDPMScheduler(variance_type='fixed_large'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        from_diffusers(DDIMScheduler(clip_sample=False, timestep_spacing='trailing'))


def test_a_pipeline_becomes_both_and_averages_are_taken():
    "Rejects the weights of the last step where the average was asked for, and a network changed by it."
    net, scheduler = small_network(), DDIMScheduler(clip_sample=False, timestep_spacing='trailing')
    model, sched = from_diffusers(DDIMPipeline(net, scheduler))
    x, t = normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 1000])
    with torch.no_grad(): assert_close(model(x, t), net(x, torch.tensor([0, 999])).sample)
    assert isinstance(sched, Schedule) and sched.T == 1000
    ema = EMAModel(net.parameters())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        for p in net.parameters(): p.add_(0.1)
    averaged = from_diffusers(net, scheduler, ema=ema)
    assert all(torch.equal(a, b) for a, b in zip(averaged.net.net.parameters(), before.values()))
    assert not torch.equal(next(net.parameters()), next(iter(before.values())))
    class Keeper: ema_model = net
    assert from_diffusers(small_network(), scheduler, ema=Keeper()).net.net is net


def test_labels_variances_and_other_arguments():
    "Rejects a mean and variance taken for one image, labels under another name, a condition that is lost."
    net = small_network(num_class_embeds=5)
    model = from_diffusers(net, DDIMScheduler())
    x, t, y = normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([5, 900]), torch.tensor([0, 4])
    with torch.no_grad(): assert_close(Labelled(model, y)(x, t), net(x, t - 1, class_labels=y).sample)
    with pytest.raises(ValueError, match='never learned without'): model(x, t)
    with pytest.raises(ValueError, match='0..4'): Labelled(model, torch.tensor([0, 5]))
    both = Foreign(lambda x, t: torch.cat([x, x*0], 1))
    assert torch.equal(both(x, t), x)
    told = {}
    Foreign(lambda x, t, **more: told.update(more) or (x,), encoder_hidden_states=3)(x, t)
    assert told == dict(encoder_hidden_states=3)
    with pytest.raises(ValueError, match='labels wanted'): Foreign(lambda x, t: x)(x, t, y)


def test_a_flow_network_is_told_its_own_time():
    "Rejects steps where a thousand times tau was learnt, and the shift left out."
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    sched = from_diffusers(scheduler)
    theirs = torch.cat([torch.zeros(1), scheduler.sigmas.flip(0)])                 # of steps 0..T
    ours = languages['flow'].level(languages['ddpm'].sigma(sched.alpha_bar[1:]))
    assert_close(ours.float(), theirs[1:], rtol=1e-4, atol=1e-6)
    told = []
    class Net(torch.nn.Module):
        def forward(self, x, t):
            told.append(t)
            return x*0.3 - 0.1
    model = from_diffusers(Net(), scheduler)
    x = x_T = normal(2, 1, 4, 4, dtype=torch.float32)
    scheduler.set_timesteps(1000)
    ours = ddim_sample(model, sched, (2, 1, 4, 4), steps=1000, x_T=x_T)
    assert_close(told[0], torch.full((2,), 1000.)) and len(told) == 1000
    for t in scheduler.timesteps: x = scheduler.step(x*0.3 - 0.1, t, x).prev_sample
    assert_close(ours, x, rtol=2e-2, atol=2e-2)                                    # its own grid is shifted twice: see its `timesteps`


def test_ours_in_their_pipelines():
    "Rejects steps off by one, another spacing or end, an image that the pipeline clamps to another range."
    torch.manual_seed(0)
    net = UNet(width=16, mults=(1, 2))
    torch.nn.init.normal_(net.out.weight, std=0.05)
    for sched, wrapper, said in (cosine_schedule(), PredictsV, 'epsilon'), (zero_terminal_snr(SCHED), PredictsV, 'sample'), (flow_schedule(), PredictsFlow, 'sample'):
        model = wrapper(net, sched).eval()
        pipe = DDIMPipeline(to_diffusers(model, (1, 28, 28), said), to_diffusers(sched))
        pipe.set_progress_bar_config(disable=True)
        pictures = pipe(batch_size=2, generator=[torch.Generator().manual_seed(k) for k in range(2)], num_inference_steps=10, output_type='pt').images
        x_T = torch.cat([torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(k)) for k in range(2)])
        assert_close(2*pictures - 1, ddim_sample(model, sched, (2, 1, 28, 28), steps=10, x_T=x_T).clamp(-1, 1), rtol=0, atol=3e-3)
        back = from_diffusers(to_diffusers(model, (1, 28, 28), said), to_diffusers(sched))
        with torch.no_grad(): assert_close(back(x_T, torch.tensor([3, 800])), model(x_T, torch.tensor([3, 800])), rtol=1e-3, atol=1e-3)
    pipe = DDPMPipeline(to_diffusers(PredictsV(net, cosine_schedule()).eval(), (1, 28, 28)), DDPMScheduler.from_config(to_diffusers(cosine_schedule()).config))
    pipe.set_progress_bar_config(disable=True)
    assert pipe(batch_size=1, num_inference_steps=3, output_type='pt').images.shape == (1, 1, 28, 28)
    world = GaussianMixture([1.], torch.zeros(1, 1, 4, 4), 0.5, SCHED)             # no weights, no device: a plain function
    x = normal(2, 1, 4, 4, dtype=torch.float32)
    assert torch.equal(to_diffusers(world, (1, 4, 4))(x, 499).sample, world(x, 500))


def test_what_can_not_be_translated_is_refused():
    for bad in None, 3, torch.zeros(3), object():
        with pytest.raises(TypeError, match='wanted a network, scheduler, config or pipeline'): from_diffusers(bad)
    with pytest.raises(ValueError, match='PredictsEdm'): from_diffusers(EDMEulerScheduler())
    with pytest.raises(ValueError, match="got 'sigmoid'"): quiet(DDPMScheduler(beta_schedule='sigmoid'))
    with pytest.raises(ValueError, match='prediction_type wanted one of'): from_diffusers(small_network(), dict(prediction_type='score'))
    with pytest.raises(ValueError, match=r'shape wanted \(C, H, W\)'): to_diffusers(lambda x, t: x)
    with pytest.raises(ValueError, match="predicts wanted 'epsilon'"): to_diffusers(lambda x, t: x, (1, 4, 4), 'v')
    with pytest.raises(TypeError, match='wanted a GaussianDiffusion'): from_lucidrains(small_network())


@pytest.mark.parametrize('sample', [ddim_sample, ddpm_sample])
def test_objects_of_other_libraries_are_told_the_way(sample):
    "Rejects an AttributeError from deep inside; a network that is called with steps one too high."
    net, scheduler = small_network(), DDIMScheduler()
    for args in (net, SCHED), (scheduler, net), (lambda x, t: x, scheduler), (DDIMPipeline(net, scheduler), SCHED), (lambda x, t: x, dict(scheduler.config)), (lambda x, t: net(x, t), SCHED):
        with pytest.raises(TypeError, match='ddpm_lesson.dialects.from_diffusers translates'): sample(*args, (1, 1, 8, 8), steps=2)
    with pytest.raises(TypeError, match='from_diffusers translates'): eps_loss(net, SCHED, normal(1, 1, 8, 8, dtype=torch.float32), 5, normal(1, 1, 8, 8, dtype=torch.float32))
    with pytest.raises(TypeError, match='from_diffusers translates'): q_sample(FlowMatchEulerDiscreteScheduler(), normal(1, 2), 5, normal(1, 2))
    assert not from_elsewhere(small_network) and not from_elsewhere(SCHED) and not from_elsewhere(UNet(width=16, mults=(1,)))


def test_lucidrains_objects():
    "Rejects their objective ignored, and a table that begins with their first step."
    theirs = pytest.importorskip('denoising_diffusion_pytorch')
    torch.manual_seed(0)
    for objective, wrapper in dict(pred_noise=PredictsEps, pred_x0=PredictsX0, pred_v=PredictsV).items():
        diffusion = theirs.GaussianDiffusion(theirs.Unet(8, dim_mults=(1, 2), channels=1), image_size=8, timesteps=100, objective=objective).eval()
        model, sched = from_lucidrains(diffusion)
        assert type(model) is wrapper and sched.T == 100
        x, t = normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([4, 99])
        with torch.no_grad():
            want = diffusion.model_predictions(x, t - 1)
            assert_close(model(x, t), want.pred_noise, rtol=1e-3, atol=1e-3)
        with pytest.raises(TypeError, match='from_lucidrains translates'): ddim_sample(diffusion, sched, (1, 1, 8, 8))


def test_settings_are_read_from_the_file_they_were_saved_in(tmp_path):
    DDIMScheduler(beta_schedule='scaled_linear', clip_sample=False, timestep_spacing='trailing').save_pretrained(tmp_path)
    for place in tmp_path, str(tmp_path/'scheduler_config.json'):
        assert torch.equal(from_diffusers(place).beta, from_diffusers(DDIMScheduler.from_pretrained(tmp_path)).beta)
    with pytest.raises(ValueError, match='from_pretrained'): from_diffusers('google/ddpm-cifar10-32')


def test_our_network_is_held_once_and_not_saved_where_nothing_could_read_it(tmp_path):
    "Rejects weights twice in the state dict, a file that no one can load, and a schedule taken for a shape."
    from ddpm_lesson.loss import PredictsX0
    from ddpm_lesson.schedule import linear_schedule
    from ddpm_lesson.unet import UNet
    sched = linear_schedule(10)
    model = PredictsX0(UNet(1, 8, (1,), 1, ()), sched)
    for predicts in 'epsilon', 'sample':
        net = to_diffusers(model, (1, 8, 8), predicts)
        assert len(net.state_dict()) == len(model.state_dict())
        with pytest.raises(NotImplementedError, match='save_model'): DDIMPipeline(net, to_diffusers(sched)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='shape wanted'): to_diffusers(model, sched)


X = normal(2, 3).float()


@pytest.mark.parametrize('call, error', [
    (lambda: translate_level(torch.tensor([-1.]), 'edm', 'log_snr'), 'level wanted levels of edm'),
    (lambda: translate_level(torch.tensor([2.]), 'ddpm', 'edm'), 'level wanted levels of ddpm'),
    (lambda: translate_level(torch.tensor([1.5]), 'flow', 'ddpm'), 'level wanted levels of flow'),
    (lambda: translate_level(torch.tensor([math.nan]), 'flow', 'ddpm'), 'level wanted levels of flow'),
    (lambda: translate_image(X, torch.tensor([.5]*3), 'ddpm', 'edm'), 'one for each of 2 images'),
    (lambda: translate_answer(X, 'x_0', 'eps', X, 0.), 'sigma wanted noise levels above 0'),
    (lambda: translate_answer(X, ['x_0'], 'eps', X, 1.), 'word wanted one of'),
    (lambda: edm_scales(torch.tensor([-1.])), 'sigma wanted noise levels above 0'),
    (lambda: edm_scales(torch.tensor([1.]), 0.), 'sigma_data wanted'),
    (lambda: nearest_step(SCHED, torch.tensor([math.nan])), 'sigma wanted noise levels above 0'),
    (lambda: rescaled(X[:, :1], X[:, :1]), 'two numbers or more'),
    (lambda: rescaled(X, X, math.nan), 'share wanted'),
    (lambda: flow_schedule(10, shift=1e300), 'fall at every step'),
    (lambda: flow_schedule(10, shift=1e-300), 'fall at every step'),
    (lambda: options_of(dict(timestep_spacing='linspace'), 0), r'steps wanted 1\.\.1000'),
    (lambda: options_of(dict(timestep_spacing='linspace'), 2000), r'steps wanted 1\.\.1000'),
    (lambda: options_of(dict(timestep_spacing='odd'), 2), 'timestep_spacing wanted'),
    (lambda: quiet(dict(num_train_timesteps=10**13, beta_schedule='scaled_linear')), 'T wanted at most'),
    (lambda: quiet(dict(beta_schedule='scaled_linear', beta_start=-1.)), 'beta_1 wanted'),
    (lambda: quiet(dict(trained_betas='abc')), 'trained_betas wanted real numbers'),
    (lambda: quiet(dict(trained_betas=[])), 'trained_betas wanted'),
    (lambda: from_diffusers(torch.nn.Linear(1, 1), 5), 'scheduler wanted one of diffusers'),
    (lambda: karras(zero_terminal_snr(SCHED), 5), 'alpha_bar above 0 at T'),
    (lambda: uniform_lambda(zero_terminal_snr(SCHED), 5), 'alpha_bar above 0 at T')])
def test_what_no_language_has_is_refused(call, error):
    "Rejects NaN for a level that there is not, and steps that bunch at an infinite log SNR."
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_a_spread_is_taken_in_digits_enough():
    "Rejects a smallest spread that half precision rounds to 0: 0/0."
    assert not rescaled((X*0).half(), X.half()).any()


@pytest.mark.parametrize('raw', [b'[1]', b'['*100_000, b'\xff\xfe{', b'{"beta_end": 0.1, "beta_end": 0.2}', b'{"beta_end": 1e999}', b'{"num_train_timesteps": ' + b'9'*5000 + b'}', b' '*10**6 + b'{}'])
def test_a_strangers_settings_are_read_as_a_card_is(raw, tmp_path):
    "Rejects a reader of its own: nested without end, without bound, no UTF-8, a key that stands twice."
    (tmp_path/'scheduler_config.json').write_bytes(raw)
    with pytest.raises(ValueError, match='damaged or no card'): from_diffusers(tmp_path)


def test_settings_are_found_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path/'scheduler_config.json').write_text('{"timestep_spacing": "trailing", "num_train_timesteps": 7}', encoding='utf-8')
    assert from_diffusers('~').T == from_diffusers('~/scheduler_config.json').T == 7


def test_a_walk_from_nothing_keeps_its_noise_and_the_home_of_its_images():
    "Rejects a model that may write into x_T, and steps where the default device is."
    class Scribbles:
        T, seen = 20, []
        def __call__(self, x_t, t): return 0*x_t
        def x_0_hat(self, x_t, t):
            self.seen.append((t.device.type, x_t.dtype))
            return x_t.zero_()
    x_T, sched = normal(2, 3), flow_schedule(20)
    ways = list(ddim_steps(Scribbles(), sched, (2, 3), steps=2, x_T=x_T.clone()))
    assert torch.equal(ways[0][1], x_T) and (ways[0][2] == 0).all()
    with torch.device('meta'): x_0 = ddim_sample(Scribbles(), sched, (2, 3), steps=2, x_T=x_T.clone())
    assert torch.equal(x_0, ways[-1][1]) and set(Scribbles.seen) == {('cpu', torch.float64)}
