"""Exact errors of samplers on Gaussian data: ours, diffusers' and k-diffusion's own code, with the same perfect denoiser.

    pip install diffusers && pip install --no-deps k-diffusion torchdiffeq torchsde trampoline
    python -m benchmarks.solvers_league --out benchmarks/solvers_league.csv

For Gaussian data the perfect denoiser is linear, and so is every sampler: two runs, one from x_T = 1 without a mean and one from x_T = 0,
show along each axis the standard deviation and the mean of what it would draw from N(0, I). No sample is drawn. W2 is the Wasserstein
distance of that Gaussian from the data's. A fresh noise is another run. 'garments': mean and 784 eigenvalues of the bundled pictures;
'1/f2': 32 x 32, variances that fall as 1/frequency^2, 0.25 a pixel on average, no mean.
"""
import argparse
import importlib.util
import sys
import types
from functools import partial

import torch

from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.sampler import ddim_sample, ddpm_coefs, last, trailing, walk
from ddpm_lesson.schedule import cosine_schedule, linear_schedule
from ddpm_lesson.solvers import (
    dpm_single_sample,
    dpm_solver_sample,
    follow,
    heun_plan,
    heun_sample,
    karras,
    uniform_lambda,
)

from .measure import own_table

CALLS = (5, 10, 20, 50)


def garments():
    "Mean and variance of the bundled garments along their principal axes."
    x = to_unit(bundled_fashion().pixels).double().flatten(1)
    var, axes = torch.linalg.eigh(x.T.cov())
    return x.mean(0) @ axes, var.clamp(min=1e-6)


def natural(side=32, var=0.25):
    "Variances of an image whose power falls as 1/frequency^2, the lowest frequency as at 1."
    k = torch.fft.fftfreq(side, 1/side, dtype=torch.float64)
    power = 1/(k[:, None]**2 + k**2).clamp(min=1).flatten()
    return torch.zeros(side**2, dtype=torch.float64), power/power.mean()*var


class Linear:
    "The perfect denoiser along each axis; row i of a batch has the mean `means[i]`."
    def __init__(self, mean, var, alpha_bar): self.mean, self.var, self.alpha_bar = mean, var, alpha_bar

    def at(self, x, alpha_bar):
        "Its x_0_hat."
        return self.mean + alpha_bar.sqrt()*self.var/(alpha_bar*self.var + 1 - alpha_bar)*(x - alpha_bar.sqrt()*self.mean)

    def __call__(self, x_t, t):
        "As a model of ours."
        alpha_bar = self.alpha_bar[t.long().flatten()[0]]
        return (x_t - alpha_bar.sqrt()*self.at(x_t, alpha_bar))/(1 - alpha_bar).sqrt()

    def of_sigma(self, x, sigma, **_):
        "As k-diffusion wants it: x is x_t/signal_rate, the answer x_0_hat."
        alpha_bar = 1/(1 + sigma[0]**2)
        return self.at(x*alpha_bar.sqrt(), alpha_bar)


def apart(mean, var, got_mean, got_std):
    "W2 of two Gaussians with common axes."
    return ((mean - got_mean).square().sum() + (var.sqrt() - got_std).square().sum()).sqrt().item()


def law(run, mean, var, alpha_bar, draws=0):
    "Mean and standard deviation of what a sampler draws: run(model, x_T, noise). The last row of the batch follows the mean."
    N, D = draws + 2, len(var)
    means = torch.zeros(N, D, dtype=torch.float64)
    means[-1] = mean
    impulses = iter(torch.eye(N, draws + 1, dtype=torch.float64).T[..., None])
    noise = lambda: next(impulses).expand(N, D).clone()
    x = run(Linear(means, var, alpha_bar), noise(), noise).double()
    return x[-1], x[:-1].square().sum(0).sqrt()


# --- ours ----------------------------------------------------------------------------------------

SPACED = {'uniform t': lambda sched, S: trailing(sched.T, S), 'uniform lambda': uniform_lambda, 'rho 7': karras}


def ours(sched):
    "name -> (levels for so many calls -> a run, draws of noise)."
    plain = lambda sample, ts: (lambda model, x, noise: sample(model, sched, x.shape, steps=ts, x_T=x), 0)
    def ddpm(ts): return lambda model, x, noise: last(walk(model, sched, x, ts, ddpm_coefs(sched, ts), noise)), len(ts)
    def churned(ts):
        plan = heun_plan(sched, ts, 10.)
        return lambda model, x, noise: last(follow(model, sched, x, ts, plan, noise)), sum(s > 0 for s in plan.fresh)
    return {'DDPM': (ddpm, 1), 'DDIM': (partial(plain, ddim_sample), 1), '2M': (partial(plain, dpm_solver_sample), 1),
            '2S': (partial(plain, dpm_single_sample), 1), 'Heun': (partial(plain, heun_sample), 2), 'Heun, churn 10': (churned, 2)}


# --- theirs --------------------------------------------------------------------------------------

def from_diffusers(sched, kind, S, spacing='trailing', **more):
    "A loop as in its pipelines, in float64 where the scheduler allows; timesteps count from 0."
    import diffusers
    scheduler = getattr(diffusers, kind)(num_train_timesteps=sched.T, trained_betas=sched.beta[1:].tolist(), timestep_spacing=spacing, **more)
    scheduler.set_timesteps(S)
    def run(model, x, noise):
        # sigmas of Heun and Euler begin with init_noise_sigma; ours start from x_T itself
        if kind.endswith('DiscreteScheduler'): x = x*(scheduler.sigmas[0].double()**2 + 1).sqrt()
        calls = []
        for t in scheduler.timesteps:
            calls.append(t)
            x = scheduler.step(model(scheduler.scale_model_input(x, t), torch.full((len(x),), round(t.item()) + 1)), t, x).prev_sample
        run.calls = len(calls)
        return x
    return run


def k_diffusion():
    "Its module `sampling`, without the package's __init__, which wants a dozen more packages."
    if 'k_diffusion.sampling' in sys.modules: return sys.modules['k_diffusion.sampling']
    where = importlib.util.find_spec('k_diffusion').submodule_search_locations
    package = types.ModuleType('k_diffusion')
    package.__path__ = list(where)
    sys.modules['k_diffusion'] = package
    return importlib.import_module('k_diffusion.sampling')


def from_k_diffusion(sched, kind, ts, **more):
    sampling = k_diffusion()
    sigmas = torch.cat([(-sched.log_snr[ts]/2).exp(), torch.zeros(1, dtype=torch.float64)])
    def run(model, x, noise):
        return getattr(sampling, kind)(model.of_sigma, x/sched.signal_rate[ts[0]], sigmas, disable=True, **more)
    return run


def theirs(sched, calls):
    "(library, sampler, how, the same thing of ours, calls, run); their defaults where they are not ours."
    t, half = trailing(sched.T, calls), (calls + 1)//2
    d = partial(from_diffusers, sched)
    dpm = dict(algorithm_type='dpmsolver++', solver_order=2, solver_type='midpoint', final_sigmas_type='zero')
    ddim = dict(clip_sample=False, set_alpha_to_one=True)
    yield 'diffusers', 'DDIM', 'trailing', 'DDIM', calls, d('DDIMScheduler', calls, **ddim)
    yield 'diffusers', 'DDIM', 'leading (its default)', 'DDIM', calls, d('DDIMScheduler', calls, 'leading', **ddim)
    yield 'diffusers', '2M', 'trailing', '2M', calls, d('DPMSolverMultistepScheduler', calls, **dpm)
    yield 'diffusers', '2M', 'linspace (its default)', '2M', calls, d('DPMSolverMultistepScheduler', calls, 'linspace', **dpm)
    yield 'diffusers', '2M', 'trailing, exact integral of a line', '2M', calls, d('DPMSolverMultistepScheduler', calls, **dpm | {'solver_type': 'heun'})
    yield 'diffusers', '3M', 'trailing', '2M', calls, d('DPMSolverMultistepScheduler', calls, **dpm | {'solver_order': 3})
    yield 'diffusers', 'UniPC', 'trailing', '2M', calls, d('UniPCMultistepScheduler', calls, solver_order=2, final_sigmas_type='zero')
    yield 'diffusers', 'Heun', 'trailing', 'Heun', 2*half - 1, d('HeunDiscreteScheduler', half)
    k = partial(from_k_diffusion, sched)
    yield 'k-diffusion', 'Euler', 'our levels', 'DDIM', calls, k('sample_euler', t)
    yield 'k-diffusion', '2M', 'our levels', '2M', calls, k('sample_dpmpp_2m', t)
    yield 'k-diffusion', 'Heun', 'our levels', 'Heun', 2*half - 1, k('sample_heun', trailing(sched.T, half))
    yield 'k-diffusion', '2S, a middle of its own', 'our levels', '2S', 2*half - 1, k('sample_dpmpp_2s_ancestral', trailing(sched.T, half), eta=0.)


def rows():
    for data, (mean, var) in {'garments': garments(), '1/f2': natural()}.items():
        for name, sched in {'linear': linear_schedule(), 'cosine': cosine_schedule()}.items():
            about = {'data': data, 'schedule': name}
            a_T = sched.alpha_bar[-1]
            std_T = (a_T*var + 1 - a_T).sqrt()
            # the ODE itself, from N(0, I): what no number of calls can mend
            floor = apart(mean, var, mean*(1 - a_T.sqrt()*var.sqrt()/std_T), var.sqrt()/std_T)
            yield about | {'library': 'none', 'sampler': 'the ODE itself', 'how': '', 'calls': 0, 'W2': floor}
            for calls in CALLS:
                own = {}
                for sampler, (make, each) in ours(sched).items():
                    for how, spaced in SPACED.items():
                        S = (calls + 1)//2 if each == 2 else calls
                        run, draws = make(spaced(sched, S))
                        own[sampler, how] = apart(mean, var, *law(run, mean, var, sched.alpha_bar, draws))
                        yield about | {'library': 'ours', 'sampler': sampler, 'how': how, 'calls': 2*S - 1 if each == 2 else S, 'W2': own[sampler, how]}
                for library, sampler, how, like, n, run in theirs(sched, calls):
                    w2 = apart(mean, var, *law(run, mean, var, sched.alpha_bar))
                    yield about | {'library': library, 'sampler': sampler, 'how': how, 'calls': n, 'W2': w2, 'ours': own[like, 'uniform t']}


def main(argv=None):
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument('--out', type=own_table('ours,data,schedule'), required=True)
    asked = read.parse_args(argv)
    rounded = lambda row: {k: float(f'{v:.5g}') if k in ('W2', 'ours') else v for k, v in row.items()}
    write_table([{'ours': '', **rounded(row)} for row in rows()], asked.out)


if __name__ == '__main__': main()
