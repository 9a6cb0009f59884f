"""The audit over the samplers of public libraries, each called as it comes: python -m benchmarks.public_samplers

    pip install --no-deps k-diffusion torchdiffeq torchsde trampoline azula smalldiffusion denoising-diffusion-pytorch ema-pytorch pytorch-fid
    pip install diffusers accelerate

`ROWS` says of each, before it is examined, whether it counts as right, or what is known to be otherwise. Libraries that are not installed are
left out. What asks for noise between the levels of a table (DPM-Solver-2 and 2S of k-diffusion) gets a table on which the middle of each step
is an entry; what asks at a level that the noise just drawn decides (their ancestral kinds, `sample_dpmpp_sde`) has none and is not examined.
"""
import argparse
import importlib
import sys
import types
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from torch import nn

from ddpm_lesson.audit import audit, of_scheduler
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.schedule import Schedule, schedule_from_alpha_bar

from .measure import own_table


@dataclass(frozen=True)
class Row:
    "A sampler of somebody else, and what is thought of it before it is examined."
    library:str            # as the registry calls it
    sampler:str
    run:object             # for `audit`
    wanted:str = ''        # '': it counts as right; otherwise what is known of it
    counts:tuple = (42, 7) # numbers of steps for which that holds
    sched:Schedule = None  # None: the audit's own


def module(name):
    "One module of a package, without what the package imports beside it."
    home, _, _ = name.partition('.')
    if home not in sys.modules:
        folders = list(find_spec(home).submodule_search_locations)
        sys.modules[home] = types.ModuleType(home)
        sys.modules[home].__path__ = folders
    return importlib.import_module(name)


def trailing(T, S): return [round(T*(S - i)/S) for i in range(S)]
def sigmas_of(alpha_bar): return (1/alpha_bar - 1).sqrt()


def at_sigma(model, alpha_bar):
    "(x_0_hat of x = x_0 + sigma eps) at a level of the table."
    table = sigmas_of(alpha_bar)
    def denoise(x, sigma):
        sigma = torch.as_tensor(sigma, dtype=torch.float64).flatten()[0]
        t = (table - sigma).abs().argmin().item()
        if (table[t] - sigma).abs() > 1e-4*sigma: raise ValueError(f'asked at sigma {sigma:.4f}, between two levels of the table')
        return x - sigma*model(x*alpha_bar[t].sqrt(), torch.full((len(x),), t))
    return denoise


def without_eta(sampler):
    "The same, for an audit that asks whether it takes eta."
    def run(model, alpha_bar, x_T, steps): return sampler(model, alpha_bar, x_T, steps)
    return run


def middles(T=80):
    "A table on which the middle of two levels, in log sigma, is a level."
    sigma = torch.logspace(-1.7, 1, T, dtype=torch.float64)
    return schedule_from_alpha_bar(torch.cat([torch.ones(1, dtype=torch.float64), 1/(1 + sigma**2)]))


# --- k-diffusion -----------------------------------------------------------------------------------------------------

def k_diffusion(name, takes_eta=False, **options):
    def run(model, alpha_bar, x_T, steps, **eta):
        ts = trailing(len(alpha_bar) - 1, steps)
        sigmas = sigmas_of(alpha_bar)[ts + [0]]
        sample = getattr(module('k_diffusion.sampling'), name)
        return sample(at_sigma(model, alpha_bar), x_T/alpha_bar[ts[0]].sqrt(), sigmas, disable=True, **options, **eta)
    return run if takes_eta else without_eta(run)


def rows_of_k_diffusion():
    make = partial(Row, 'k-diffusion')
    yield make('sample_euler', k_diffusion('sample_euler'))
    yield make('sample_euler_ancestral', k_diffusion('sample_euler_ancestral', True))
    yield make('sample_heun', k_diffusion('sample_heun'))
    yield make('sample_lms', k_diffusion('sample_lms'))
    yield make('sample_dpmpp_2m', k_diffusion('sample_dpmpp_2m'))
    for kind in 'midpoint', 'heun':
        yield make(f'sample_dpmpp_2m_sde, {kind}', k_diffusion('sample_dpmpp_2m_sde', solver_type=kind))
    yield make('sample_dpmpp_3m_sde', k_diffusion('sample_dpmpp_3m_sde'))
    yield make('sample_dpm_2', k_diffusion('sample_dpm_2'), '', (40, 20), middles())
    yield make('sample_dpmpp_2s_ancestral, eta=0', k_diffusion('sample_dpmpp_2s_ancestral', eta=0.0), '', (40, 20), middles())


# --- smalldiffusion --------------------------------------------------------------------------------------------------

class Small(nn.Module):
    "Their model: noise from x = x_0 + sigma eps."
    def __init__(self, denoise, shape):
        super().__init__()
        self.denoise, self.shape = denoise, shape

    def rand_input(self, n): return torch.randn(n, *self.shape[1:], dtype=torch.float64)
    def predict_eps_cfg(self, x, sigma, cond, scale): return (x - self.denoise(x, sigma))/sigma


def small(own_list=False, **options):
    def run(model, alpha_bar, x_T, steps):
        theirs = importlib.import_module('smalldiffusion.diffusion')
        T, sigmas = len(alpha_bar) - 1, sigmas_of(alpha_bar)
        walk = theirs.Schedule(sigmas[1:]).sample_sigmas(steps) if own_list else sigmas[trailing(T, steps) + [0]]
        net = Small(at_sigma(model, alpha_bar), x_T.shape)
        *_, x = theirs.samples(net, walk, batchsize=len(x_T), xt=x_T/alpha_bar[T].sqrt(), **options)
        return x
    return run


def rows_of_smalldiffusion():
    make = partial(Row, 'smalldiffusion')
    yield make('samples, gam=1, mu=0, down to 0', small())
    yield make('samples, gam=1, mu=0.5, down to 0', small(mu=0.5))
    yield make('samples, gam=2, mu=0, down to 0', small(gam=2.0))
    yield make('samples, its own sample_sigmas', small(True), 'it ends at alpha_bar_1, not at 1', (7,))


# --- azula -----------------------------------------------------------------------------------------------------------

def azula(name, takes_eta=False, least=0.0, stop=0, **options):
    def run(model, alpha_bar, x_T, steps, **eta):
        sample, denoise = importlib.import_module('azula.sample'), importlib.import_module('azula.denoise')
        T = len(alpha_bar) - 1
        class Table(nn.Module):
            schedule = staticmethod(lambda t: (alpha_bar[(t*T).round().long()].sqrt(),
                                               (1 - alpha_bar[(t*T).round().long()]).sqrt().clamp(min=least)))
            def forward(self, x, t):
                i = (t*T).round().long()
                eps = model(x, i.expand(len(x)))
                return denoise.DiracPosterior((x - (1 - alpha_bar[i]).sqrt()*eps)/alpha_bar[i].sqrt())
        walk = getattr(sample, name)(Table(), steps=steps, stop=stop/T, silent=True, dtype=torch.float64, **options, **eta)
        return walk(x_T)
    return run if takes_eta else without_eta(run)


def rows_of_azula():
    make = partial(Row, 'azula')
    yield make('DDPMSampler', azula('DDPMSampler'))
    yield make('DDIMSampler, eta=0', azula('DDIMSampler', eta=0.0))
    yield make('DDIMSampler, eta', azula('DDIMSampler', True), 'eta is not squared in sigma^2')   # as its own page writes it
    yield make('EulerSampler', azula('EulerSampler'))
    yield make('ItoSampler', azula('ItoSampler'), 'noise is added at the last step')   # the integral of its page, to sigma = 0
    for name in 'zABSampler', 'vABSampler': yield make(f'{name}, order 2', azula(name))
    for name in 'zEABSampler', 'xEABSampler', 'REABSampler': yield make(f'{name}, order 2', azula(name, least=1e-3))   # its schedules end at 1e-3


# --- lucidrains' other files -----------------------------------------------------------------------------------------

class Bare(nn.Module):
    "What their classes ask of a network, and the audit's model in its place."
    channels, self_condition, random_or_learned_sinusoidal_cond = 1, False, True
    def __init__(self, said):
        super().__init__()
        self.said, self.at = said, nn.Parameter(torch.zeros(1))

    def forward(self, x, t, *more): return self.said(x, t)


def starts_with(x_T, f):
    "What f returns where the first noise that torch draws is x_T, and all of it float64."
    real, starts = torch.randn, [x_T]
    def randn(*size, **more): return starts.pop() if starts else real(x_T.shape, dtype=torch.float64)   # theirs are square
    torch.randn = randn
    try: return f()
    finally: torch.randn = real


def elucidated(name, **options):
    def run(model, alpha_bar, x_T, steps):
        theirs = importlib.import_module('denoising_diffusion_pytorch.elucidated_diffusion')
        denoise, sigmas = at_sigma(model, alpha_bar), sigmas_of(alpha_bar)
        def said(x, c_noise):
            sigma = (4*c_noise[0]).double().exp()
            x = x/own.c_in(sigma)
            return (denoise(x, sigma) - own.c_skip(sigma)*x)/own.c_out(sigma)
        own = theirs.ElucidatedDiffusion(Bare(said), image_size=8, channels=1, S_churn=0).double()
        own.sample_schedule = lambda n: sigmas[trailing(len(alpha_bar) - 1, n) + [0]]
        first = x_T*(sigmas[-1]**2 + 1).sqrt()/sigmas[-1]   # it multiplies by the first sigma
        return 2*starts_with(first, lambda: getattr(own, name)(len(x_T), steps, **options)) - 1
    return run


def continuous(file, kind, **options):
    def run(model, alpha_bar, x_T, steps):
        theirs = importlib.import_module(f'denoising_diffusion_pytorch.{file}')
        T, logits = len(alpha_bar) - 1, torch.log(alpha_bar) - torch.log1p(-alpha_bar)
        def said(x, level):
            t = (logits[1:] - level[0]).abs().argmin().item() + 1
            eps = model(x, torch.full((len(x),), t))
            if 'v_param' not in file: return eps
            x_0 = (x - (1 - alpha_bar[t]).sqrt()*eps)/alpha_bar[t].sqrt()
            return alpha_bar[t].sqrt()*eps - (1 - alpha_bar[t]).sqrt()*x_0
        own = getattr(theirs, kind)(Bare(said), image_size=8, channels=1, num_sample_steps=steps, **options)
        own.log_snr = lambda time: logits[(time*T).round().long()]
        return 2*starts_with(x_T, lambda: own.p_sample_loop(tuple(x_T.shape))) - 1
    return run


def rows_of_lucidrains():
    make = partial(Row, 'denoising-diffusion-pytorch')
    yield make('ElucidatedDiffusion.sample, S_churn=0', elucidated('sample', clamp=False))
    yield make('ElucidatedDiffusion.sample, S_churn=0, clamp', elucidated('sample'))
    yield make('ElucidatedDiffusion.sample_using_dpmpp', elucidated('sample_using_dpmpp'))
    yield make('ContinuousTimeGaussianDiffusion', continuous('continuous_time_gaussian_diffusion', 'ContinuousTimeGaussianDiffusion'))
    yield make('ContinuousTimeGaussianDiffusion, clip_sample_denoised=False',
               continuous('continuous_time_gaussian_diffusion', 'ContinuousTimeGaussianDiffusion', clip_sample_denoised=False))
    yield make('VParamContinuousTimeGaussianDiffusion', continuous('v_param_continuous_time_gaussian_diffusion', 'VParamContinuousTimeGaussianDiffusion'))


# --- diffusers -------------------------------------------------------------------------------------------------------

def rows_of_diffusers():
    theirs = importlib.import_module('diffusers.schedulers')
    def make(name, said='', wanted='', counts=(42, 7), **options):
        scheduler = getattr(theirs, name)(**dict(timestep_spacing='trailing') | options)
        return Row('diffusers', ', '.join(filter(None, [name, said])), of_scheduler(scheduler), wanted, counts)
    yield make('EulerDiscreteScheduler', 'trailing')
    yield make('EulerAncestralDiscreteScheduler', 'trailing')
    yield make('HeunDiscreteScheduler', 'trailing')
    yield make('LMSDiscreteScheduler', 'trailing')
    yield make('PNDMScheduler', 'trailing, skip_prk_steps, set_alpha_to_one', skip_prk_steps=True, set_alpha_to_one=True)
    yield make('DPMSolverMultistepScheduler', 'trailing, sde-dpmsolver++, final sigma 0',
               algorithm_type='sde-dpmsolver++', final_sigmas_type='zero')
    yield make('DPMSolverMultistepScheduler', 'trailing, order 3, final sigma 0', solver_order=3, final_sigmas_type='zero')


LIBRARIES = {'k-diffusion': rows_of_k_diffusion, 'smalldiffusion': rows_of_smalldiffusion, 'azula': rows_of_azula,
             'denoising-diffusion-pytorch': rows_of_lucidrains, 'diffusers': rows_of_diffusers}


def installed():
    "The rows of the libraries that are here."
    for name, rows in LIBRARIES.items():
        try: version(name)
        except PackageNotFoundError: continue
        yield from rows()


def examined(row):
    report = audit(row.run, row.sched, row.counts, f'{row.library}: {row.sampler}')
    found = '; '.join(f.fault for f in report.findings)
    return dict(library=row.library, version=version(row.library), sampler=row.sampler, steps=' '.join(map(str, row.counts)),
                counts_as=row.wanted or 'right', found=found, evidence=report.findings[0].evidence if found else '', torch=torch.__version__)


def main():
    say = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    say.add_argument('--only', default='', help='libraries whose name has this in it')
    say.add_argument('--out', type=own_table('library,version,sampler'), default='records/audit_public.csv')
    a = say.parse_args()
    rows = []
    for row in installed():
        if a.only not in row.library: continue
        rows.append(examined(row))
        print(f"{row.library}: {row.sampler}: counts as {rows[-1]['counts_as']}; found: {rows[-1]['found'] or 'nothing'} {rows[-1]['evidence']}", flush=True)
    write_table(rows, a.out)


if __name__ == '__main__': main()
