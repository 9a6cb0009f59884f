"""How much a sampler adds to the network calls it makes.

The network is free: it returns a tensor that is there already. So all that is left is the sampler: its arithmetic, its noise, its Python.
The least it could cost is the bare calls; with fresh noise, the bare calls and the drawing. What the picture's arithmetic takes by itself is the row 'passes'.
"""
import time

import torch

from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.solvers import dpm_single_sample, dpm_solver_sample, heun_sample

from .measure import in_turns, middle

SHAPE, STEPS = (16, 3, 32, 32), 100
CASES = {'eta 0': dict(eta=0.0, clip=False), 'eta 1, clip': dict(eta=1.0, clip=True)}


class Free(torch.nn.Module):
    "A network that costs nothing, with the attributes that the other libraries look for."
    channels, out_dim, self_condition, random_or_learned_sinusoidal_cond = 3, 3, False, False

    def __init__(self, device):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1, device=device))
        self.answer = torch.randn(SHAPE, device=device)

    def forward(self, x, t, *more): return self.answer


@torch.inference_mode()
def bare(net, x, eta, clip):
    "The network calls alone; where a sampler needs fresh noise, the drawing of it too."
    t = torch.full((SHAPE[0],), 1, device=x.device)
    for _ in range(STEPS):
        net(x, t)
        if eta: torch.randn(SHAPE, device=x.device)


@torch.inference_mode()
def passes(net, x, eta, clip):
    "The bare calls, and the least arithmetic on the picture: x_s from x_t and eps_hat; with a clamp, x_0_hat first; with fresh noise, its sum."
    t = torch.full((SHAPE[0],), 1, device=x.device)
    for _ in range(STEPS):
        y = net(x, t)
        if clip: y = torch.mul(x, 0.5).add_(y, alpha=0.5).clamp_(-1, 1)
        x = torch.mul(x, 0.5).add_(y, alpha=0.5)
        if eta: x.add_(torch.randn(SHAPE, device=x.device), alpha=0.1)


def ours(net, x, eta, clip):
    sched = linear_schedule()
    return lambda: ddim_sample(net, sched, SHAPE, steps=STEPS, eta=eta, clip=(-1, 1) if clip else None, x_T=x)


def from_diffusers(net, x, eta, clip):
    "The loop of its DDIMPipeline, without the pictures at the end."
    from diffusers import DDIMScheduler
    scheduler = DDIMScheduler(clip_sample=clip, timestep_spacing='trailing')
    scheduler.set_timesteps(STEPS, device=x.device)
    @torch.inference_mode()
    def run():
        image = x
        for t in scheduler.timesteps: image = scheduler.step(net(image, t), t, image, eta=eta, use_clipped_model_output=clip).prev_sample
    return run


def from_lucidrains(net, x, eta, clip):
    "Its ddim_sample, which always clips, and draws noise even when it multiplies it by 0."
    import denoising_diffusion_pytorch.denoising_diffusion_pytorch as their
    their.tqdm = lambda steps, **_: steps  # a bar is not arithmetic
    process = their.GaussianDiffusion(net, image_size=32, timesteps=1000, sampling_timesteps=STEPS, objective='pred_noise', beta_schedule='linear', ddim_sampling_eta=eta).to(x.device)
    return lambda: process.ddim_sample(SHAPE)


def programs(net, x, case):
    "name -> a function of nothing; peers that are not installed are left out."
    found = {'bare calls': lambda: bare(net, x, **case), 'passes': lambda: passes(net, x, **case), 'ours': ours(net, x, **case)}
    for name, make in {'diffusers': from_diffusers, 'lucidrains': from_lucidrains}.items():
        try: found[name] = make(net, x, **case)
        except ImportError: print(f'{name} is not installed: left out')
    return found


def rows(device, rounds):
    "One row a case and program: microseconds a step beyond the bare calls, and how many times ours."
    net, out = Free(device), []
    x = torch.randn(SHAPE, device=device)
    for name, case in CASES.items():
        times = in_turns(programs(net, x, case), rounds, device)
        beyond = {who: [(t - b)/STEPS*1e6 for t, b in zip(times[who], times['bare calls'])] for who in times if who != 'bare calls'}
        for who in beyond:
            ratio = [a/b for a, b in zip(beyond[who], beyond['ours'])]
            out.append(dict(what='sampler', case=name, who=who, unit='us a step beyond bare calls') | middle(beyond[who]) | {'times ours': middle(ratio)['median'], 'rounds': rounds})
    return out


# name -> (sampler, its `steps`, network calls)
SOLVERS = {'ddim_sample': (ddim_sample, STEPS, STEPS), 'dpm_solver_sample': (dpm_solver_sample, STEPS, STEPS),
           'dpm_single_sample': (dpm_single_sample, STEPS, STEPS), 'heun_sample': (heun_sample, STEPS//2, STEPS - 1)}


def solver_rows(device, rounds):
    "The solvers of lesson 15 beside DDIM: microseconds of the processor a network call beyond the bare calls, and how many times DDIM's."
    net, x, sched, out = Free(device), torch.randn(SHAPE, device=device), linear_schedule(), []
    for case, clip in ('no clip', None), ('clip', (-1, 1)):
        run = {name: lambda f=f, steps=steps: f(net, sched, SHAPE, steps=steps, clip=clip, x_T=x) for name, (f, steps, _) in SOLVERS.items()}
        times = in_turns({'bare calls': lambda: bare(net, x, 0.0, False)} | run, rounds, device, time.process_time)
        beyond = {name: [(t/calls - b/STEPS)*1e6 for t, b in zip(times[name], times['bare calls'])] for name, (_, _, calls) in SOLVERS.items()}
        for name in SOLVERS:
            ratio = [a/b for a, b in zip(beyond[name], beyond['ddim_sample'])]
            out.append(dict(what='solver', case=case, who=name, unit='us a call beyond bare calls') | middle(beyond[name]) | {'times ddim': middle(ratio)['median'], 'rounds': rounds})
    return out
