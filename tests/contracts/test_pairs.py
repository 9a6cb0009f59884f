"Whatever takes a model and a schedule: another schedule, another dtype, another default device, a model that spoils what it is shown."
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch.testing import assert_close

import ddpm_lesson
from conftest import Stub, normal
from ddpm_lesson import dialects, edit, few_steps, likelihood, loss, metrics, sampler, score, solvers
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.unet import UNet

SCHED, OTHER = linear_schedule(20, 0.01, 0.3), linear_schedule(20, 0.001, 0.05)
X, EPS = normal(2, 1, 4, 4).float().clamp(-1, 1), normal(2, 1, 4, 4, seed=1).float()
BYTES = torch.arange(0, 256, 8, dtype=torch.uint8).reshape(2, 1, 4, 4)
SHAPE, SEEDS, HALF = (2, 1, 4, 4), dict(seeds=(3, 4)), torch.tensor([1., 1., 0., 0.])
T, S = torch.tensor([20, 12]), torch.tensor([10, 4])

ASKED = {   # asked for its noise: name -> (model, sched) -> numbers
    **{name: lambda m, s, f=getattr(module, name): f(m, s, SHAPE, steps=3, **SEEDS) for module, names in {
        sampler: 'ddpm_sample ddim_sample', few_steps: 'consistency_sample', score: 'sde_sample pf_ode',
        solvers: 'dpm_solver_sample dpm_single_sample heun_sample'}.items() for name in names.split()},
    'sdedit': lambda m, s: edit.sdedit(m, s, X, steps=4, **SEEDS),
    'invert': lambda m, s: edit.invert(m, s, X, steps=4),
    'inpaint_resample': lambda m, s: edit.inpaint_resample(m, s, X, HALF, steps=3, times=2, **SEEDS),
    'inpaint_replace': lambda m, s: edit.inpaint_replace(m, s, X, HALF, steps=3, **SEEDS),
    'inpaint_guided': lambda m, s: edit.inpaint_guided(m, s, X, HALF, steps=3, **SEEDS),
    'restore_guided': lambda m, s: edit.restore_guided(m, s, X*HALF, edit.masked(HALF), SHAPE, steps=3, **SEEDS),
    'restore_dps': lambda m, s: edit.restore_dps(m, s, X*HALF, edit.masked(HALF), SHAPE, steps=3, **SEEDS),
    'Measured': lambda m, s: edit.Measured(m, s, edit.masked(HALF), X*HALF, 0.1)(X, T),
    'clean_image': lambda m, s: few_steps.clean_image(m, s, X, T),
    'two_step_target': lambda m, s: few_steps.two_step_target(m, s, X, T, T - 1, S),
    'ode_log_likelihood': lambda m, s: likelihood.ode_log_likelihood(m, s, X, steps=3, probes=2, **SEEDS)[0],
    'elbo_terms': lambda m, s: likelihood.elbo_terms(m, s, X, steps=3, bins=None, **SEEDS),
    'ode_bound': lambda m, s: likelihood.ode_bound(m, s, BYTES/127.5 - 1, steps=3, probes=2, **SEEDS)[0],
    'tweedie_cov': lambda m, s: score.tweedie_cov(m, s, X, T),
    'dsm_loss': lambda m, s: score.dsm_loss(m, s, X, T, EPS),
    'noise_loss': lambda m, s: torch.tensor(metrics.noise_loss(m, s, BYTES), device='cpu'),
    'image_loss': lambda m, s: torch.tensor(metrics.image_loss(m, s, BYTES), device='cpu'),
    'draw_pixels': lambda m, s: metrics.draw_pixels(m, s, SHAPE, steps=3)[0],
}
TAUGHT = {   # trained: name -> (net, sched) -> numbers
    **{name: lambda m, s, f=getattr(module, name): f(m, s, X, T, EPS) for module, names in {
        loss: 'ask eps_loss x_0_loss v_loss', dialects: 'flow_loss edm_loss'}.items() for name in names.split()},
    'distill_loss': lambda m, s: few_steps.distill_loss(m, m, s, X, T, T - 1, S, EPS),
    'consistency_loss': lambda m, s: few_steps.consistency_loss(m, s, X, T, S, EPS),
}
# made of those above; classes that keep the schedule; loops whose callers have looked
OTHERS = set("""held_out evaluate steps_curve draw_images draw_as_card bits_of held_out_losses walk follow fit gradient_step train_step
    PredictsEps PredictsX0 PredictsV PredictsFlow PredictsEdm PredictsMeanFlow RescaledGuided""".split())


class Spoils(torch.nn.Module):
    "A model that writes into what it is shown, afterwards."
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x_t, t):
        said = self.model(x_t.clone(), t)
        x_t.mul_(0)
        return said


def test_the_table_holds_all_that_take_a_model_and_a_schedule():
    "Rejects a new function that nobody entered here."
    found = set()
    for info in pkgutil.walk_packages(ddpm_lesson.__path__, 'ddpm_lesson.'):
        if '.exam' in info.name or info.name.endswith('__main__'): continue
        module = importlib.import_module(info.name)
        for name in getattr(module, '__all__', []):
            thing = getattr(module, name)
            if not callable(thing) or thing.__module__ != info.name or isinstance(thing, type) and issubclass(thing, BaseException): continue
            taken = inspect.signature(thing).parameters.keys()
            if 'sched' in taken and taken & {'model', 'net', 'teacher'}: found.add(name.removesuffix('_steps'))
    short = {name.removesuffix('_sample') for name in {**ASKED, **TAUGHT}}
    left = {name for name in found if name.removesuffix('_sample') not in short} - OTHERS
    assert not left, left


@pytest.mark.parametrize('name', [*ASKED, *TAUGHT])
def test_another_schedule_is_refused(name):
    "Rejects numbers of a model at levels that it never saw."
    with pytest.raises(ValueError, match='sched wanted the schedule that PredictsV was made with'):
        (ASKED | TAUGHT)[name](PredictsV(Stub(), SCHED), OTHER)


@pytest.mark.parametrize('name', [*ASKED, *TAUGHT])
def test_a_default_device_changes_no_number(name):
    "Rejects a tensor without a device, or one that follows the default."
    call, model = (ASKED | TAUGHT)[name], PredictsV(Stub(), SCHED)
    wanted = call(model, SCHED)
    torch.set_default_device('meta')
    try: got = call(model, SCHED)
    finally: torch.set_default_device(None)
    assert torch.equal(got, wanted)

MODELS = sorted(set(ASKED) - {'dsm_loss', 'noise_loss', 'image_loss', 'clean_image', 'two_step_target'})   # the names in one order in every process


@pytest.mark.parametrize('name', MODELS)
def test_a_bare_network_is_asked_in_its_own_precision(name):
    "Rejects an image of another dtype than the weights: 'mat1 and mat2'."
    torch.manual_seed(0)
    net = UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.2)
    wanted = ASKED[name](net, SCHED).double()
    assert_close(ASKED[name](net.double(), SCHED).double(), wanted, rtol=1e-3, atol=1e-3 if name != 'draw_pixels' else 1)


@pytest.mark.parametrize('name', MODELS)
def test_a_model_may_spoil_what_it_is_shown(name):
    "Rejects images of ours, or the caller's, lent to a model that writes into them."
    before, model = X.clone(), PredictsV(Stub(), SCHED)
    wanted = ASKED[name](model, SCHED)
    assert_close(ASKED[name](Spoils(model), SCHED), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(X, before)
