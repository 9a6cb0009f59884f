"Whatever takes a model and a schedule: another schedule, another dtype, another default device, a model that spoils what it is shown."
import importlib
import inspect
import pkgutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import ddpm_lesson
from conftest import Stub, normal
from ddpm_lesson import dialects, edit, few_steps, guidance, likelihood, loss, metrics, sampler, score, solvers
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.oracle import FiniteData
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
    'blurred': lambda m, s: edit.restore_dps(m, s, X, edit.blurred(1.0), SHAPE, steps=3, **SEEDS),
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
    "A model that writes into what it is shown and told, afterwards: `t -= 1`, say, where steps count from 0."
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x_t, t, *labels):
        said = self.model(x_t.clone(), t.clone(), *(y.clone() for y in labels))
        for v in (x_t, *labels): v.mul_(0)
        t -= 1
        return said

    def x_0_hat(self, *given): return Spoils.forward(SimpleNamespace(model=self.model.x_0_hat), *given)


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


class Keeps(nn.Module):
    "A network that keeps the schedule that it is for."
    def __init__(self, net, sched):
        super().__init__()
        self.net, self.sched = net, sched
    def forward(self, *given): return self.net(*given)

def model_for(name, net):
    "A model; or a network, for a loss that compares what the network itself says."
    return (Keeps if name in ('x_0_loss', 'v_loss', 'flow_loss', 'edm_loss') else PredictsV)(net, SCHED)


@pytest.mark.parametrize('name', [*ASKED, *TAUGHT])
def test_another_schedule_is_refused(name):
    "Rejects numbers of a model at levels that it never saw."
    with pytest.raises(ValueError, match=r'sched wanted the schedule that \w+ was made with'):
        (ASKED | TAUGHT)[name](model_for(name, Stub()), OTHER)


@pytest.mark.parametrize('name', [*ASKED, *TAUGHT])
def test_a_default_device_changes_no_number(name):
    "Rejects a tensor without a device, or one that follows the default."
    call, model = (ASKED | TAUGHT)[name], model_for(name, Stub())
    wanted = call(model, SCHED)
    torch.set_default_device('meta')
    try: got = call(model, SCHED)
    finally: torch.set_default_device(None)
    assert torch.equal(got, wanted)

MODELS = sorted(set(ASKED) - {'dsm_loss'})   # the names in one order in every process


@pytest.mark.parametrize('name', MODELS)
def test_a_bare_network_is_asked_in_its_own_precision(name):
    "Rejects an image of another dtype than the weights: 'mat1 and mat2'."
    torch.manual_seed(0)
    net = UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.2)
    wanted = ASKED[name](net, SCHED).double()
    assert_close(ASKED[name](net.double(), SCHED).double(), wanted, rtol=1e-3, atol=1e-3 if name != 'draw_pixels' else 1)


WIDE = {   # images in float64, of a network in float32: network -> numbers
    **{name: lambda net, f=f: f(net, SCHED, SHAPE, steps=3, x_T=EPS.double(), **SEEDS) for name, f in dict(ddim_sample=sampler.ddim_sample, heun_sample=solvers.heun_sample, sde_sample=score.sde_sample).items()},
    'sdedit': lambda net: edit.sdedit(net, SCHED, X.double(), steps=4, **SEEDS), 'elbo_terms': lambda net: likelihood.elbo_terms(net, SCHED, X.double(), steps=3, bins=None, **SEEDS),
    'ode_log_likelihood': lambda net: likelihood.ode_log_likelihood(net, SCHED, X.double(), steps=3, probes=2, **SEEDS)[0],
    'tweedie_cov': lambda net: score.tweedie_cov(net, SCHED, X.double(), T), 'clean_image': lambda net: few_steps.clean_image(net, SCHED, X.double(), T),
    'eps_loss': lambda net: loss.eps_loss(net, SCHED, X.double(), T, EPS.double()), 'Measured': lambda net: edit.Measured(net, SCHED, edit.masked(HALF), X*HALF, 0.1)(X.double(), T),
}


@pytest.mark.parametrize('name', WIDE)
def test_a_network_in_float32_is_shown_images_in_float64(name):
    "Rejects 'Input type (double) and bias type (float) should be the same'."
    torch.manual_seed(0)
    net = UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.2)
    got = WIDE[name](net)
    assert got.dtype == torch.float64
    assert_close(got, WIDE[name](net.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', sorted(ASKED))
def test_a_model_may_spoil_what_it_is_shown(name):
    "Rejects images of ours, or the caller's, lent to a model that writes into them."
    before, model = [v.clone() for v in (X, T, S)], PredictsV(Stub(), SCHED)
    wanted = ASKED[name](model, SCHED)
    for spoils in Spoils(model), PredictsV(Spoils(Stub()), SCHED): assert_close(ASKED[name](spoils, SCHED), wanted, rtol=1e-5, atol=1e-5)
    assert all(map(torch.equal, (X, T, S), before))


def test_a_model_may_spoil_the_step_it_is_told_again_and_again():
    "Rejects one tensor of steps for all corrections of a step, or one image that is used after it was lent."
    for f in lambda m: score.sde_sample(m, SCHED, SHAPE, steps=3, corrections=2, **SEEDS), lambda m: edit.invert(m, SCHED, X, steps=3, rounds=3):
        assert_close(f(Spoils(Stub())), f(Stub()), rtol=1e-6, atol=1e-6)
    nothing = dialects.flow_schedule(20)   # there the walk begins with an image of the model's own
    for f in sampler.ddim_sample, sampler.ddpm_sample:
        draw = lambda model: f(model, nothing, SHAPE, steps=3, **SEEDS)
        assert_close(draw(Spoils(PredictsV(Stub(), nothing))), draw(PredictsV(Stub(), nothing)), rtol=1e-6, atol=1e-6)
    def taught(net, y, tau): return few_steps.mean_flow_loss(net, X, torch.zeros(2), tau, EPS, y)
    said, y, tau = lambda z, r, tau, y: z*(tau + y).view(-1, 1, 1, 1), LABELS.clone(), torch.full((2,), 0.5)
    assert_close(taught(lambda z, r, tau, y: (said(z, r, tau, y), tau.mul_(1000), y.mul_(0))[0], y, tau), taught(said, LABELS, torch.full((2,), 0.5)))
    assert torch.equal(y, LABELS) and tau.tolist() == [0.5, 0.5]


@pytest.mark.parametrize('name', TAUGHT)
def test_a_network_may_spoil_the_step_and_the_labels_that_it_is_told(name):
    "Rejects a loss against the velocity of the step before: `t -= 1` in a network whose steps count from 0."
    before, wanted = [v.clone() for v in (X, T, S)], TAUGHT[name](model_for(name, Stub()), SCHED)
    for spoils in Spoils(model_for(name, Stub())), model_for(name, Spoils(Stub())): assert_close(TAUGHT[name](spoils, SCHED), wanted, rtol=1e-5, atol=1e-5)
    assert all(map(torch.equal, (X, T, S), before))


class Reader(Stub):
    "A network that knows two labels, keeps one memory for all its answers, and writes into what it is shown."
    classes, spoils = 2, False

    def forward(self, x_t, t, y=None, *more):
        said = super().forward(x_t.clone(), t) + (0 if y is None else y.to(x_t).reshape(-1, 1, 1, 1))
        if not self.spoils: return said
        with torch.no_grad():
            for v in (x_t, t, *more, *([] if y is None else [y])): v.mul_(0)
            self.memory = getattr(self, 'memory', torch.empty_like(said)).copy_(said)
        return self.memory


LABELS = torch.tensor([0, 1])
WRAPPED = {   # name -> network -> numbers
    **{P.__name__: lambda net, P=P: P(net, SCHED)(X, T) for P in (loss.PredictsEps, loss.PredictsX0, PredictsV, dialects.PredictsFlow, dialects.PredictsEdm)},
    **{f'{P.__name__}.x_0_hat': lambda net, P=P: P(net, SCHED).x_0_hat(X, T) for P in (loss.PredictsX0, PredictsV, dialects.PredictsFlow, dialects.PredictsEdm)},
    'PredictsMeanFlow': lambda net: few_steps.PredictsMeanFlow(lambda z, r, tau: net(z, tau), SCHED)(X, T),
    'Labelled': lambda net: guidance.Labelled(net, LABELS)(X, T), 'Guided': lambda net: guidance.Guided(net, LABELS, 3.0)(X, T),
    'Guided, in between': lambda net: guidance.Guided(net, LABELS, 3.0, between=(15, 20))(X, T), 'Guided, twice': lambda net: [m(X, T) for m in [guidance.Guided(PredictsV(net, SCHED), LABELS, 3.0)]*2][-1],
    'held out': lambda net: torch.tensor(metrics.image_loss(net, SCHED, BYTES, labels=LABELS)), 'v_loss': lambda net: loss.v_loss(net, SCHED, X, T, EPS, LABELS),
    'Autoguided': lambda net: guidance.Autoguided(guidance.Labelled(net, LABELS), net, 3.0)(X, T),
    'RescaledGuided': lambda net: dialects.RescaledGuided(net, SCHED, LABELS, 3.0)(X, T),
    'clean_image': lambda net: few_steps.clean_image(net, SCHED, X, T), 'two_step_target': lambda net: few_steps.two_step_target(net, SCHED, X, T, T - 1, S),
    'two_step_target of images': lambda net: few_steps.two_step_target(loss.PredictsX0(net, SCHED), SCHED, X, T, T - 1, S),
    'distill_loss': lambda net: few_steps.distill_loss(PredictsV(Stub(), SCHED), net, SCHED, X, T, T - 1, S, EPS),
    'consistency_loss': lambda net: few_steps.consistency_loss(PredictsV(Stub(), SCHED), SCHED, X, T, S, EPS, teacher=net),
    'consistency_loss at 0': lambda net: few_steps.consistency_loss(PredictsV(net, SCHED), SCHED, X, T, 0, EPS),
    'consistency_loss of an x_0_hat of ones own': lambda net: few_steps.consistency_loss(SimpleNamespace(x_0_hat=net), SCHED, X, T, 0, EPS),
}


@pytest.mark.parametrize('name', WRAPPED)
def test_a_network_in_any_wrapper_may_spoil_what_it_is_shown_and_what_it_said(name):
    "Rejects an image that is used after it was lent, and an answer that the next one is written over."
    given = X, T, S, LABELS
    before, wanted, net = [v.clone() for v in given], WRAPPED[name](Reader()), Reader()
    net.spoils = True
    assert_close(WRAPPED[name](net), wanted, rtol=1e-6, atol=1e-6)
    assert all(map(torch.equal, given, before))


class Asks(torch.nn.Module):
    "Keeps a model under a name of its own."
    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher

    def forward(self, x_t, t): return self.teacher(x_t, t)


@pytest.mark.parametrize('around', [metrics.Counted, lambda m: guidance.Autoguided(m, m), lambda m: partial(m), lambda m: m.__call__, lambda m: loss.PredictsEps(m, OTHER), Asks],
                         ids=['Counted', 'Autoguided', 'partial', 'method', 'PredictsEps', 'another name'])
def test_another_schedule_is_seen_through_what_is_around_a_model(around):
    "Rejects a look at the parts of modules only: an oracle is none."
    oracle = FiniteData(X, SCHED)
    with pytest.raises(ValueError, match='the schedule that FiniteData was made with'): sampler.ddim_sample(around(oracle), OTHER, SHAPE, steps=3)
    with pytest.raises(ValueError, match='the schedule that FiniteData was made with'): metrics.draw_pixels(oracle, OTHER, SHAPE, steps=3)


HISTORY = {   # what takes images and keeps no history of them: images -> numbers
    'sdedit': lambda x: edit.sdedit(Stub(), SCHED, x, steps=2), 'invert': lambda x: edit.invert(Stub(), SCHED, x, steps=2),
    'inpaint_replace': lambda x: edit.inpaint_replace(Stub(), SCHED, x, HALF, steps=2), 'restore_dps': lambda x: edit.restore_dps(Stub(), SCHED, x, edit.masked(HALF), SHAPE, steps=2),
    'Measured': lambda x: edit.Measured(Stub(), SCHED, edit.masked(HALF), x, 0.1), 'elbo_terms': lambda x: likelihood.elbo_terms(Stub(), SCHED, x, steps=2, bins=None),
    'ode_log_likelihood': lambda x: likelihood.ode_log_likelihood(Stub(), SCHED, x, steps=2, probes=1),
    'Measured, asked': lambda x: edit.Measured(Stub(), SCHED, edit.masked(HALF), X, 0.1)(x, T), 'tweedie_cov': lambda x: score.tweedie_cov(Stub(), SCHED, x, T),
}


@pytest.mark.parametrize('name', HISTORY)
def test_a_gradient_that_would_be_lost_is_refused(name):
    "Rejects images cut off from their history without a word."
    x = X.clone().requires_grad_()
    with pytest.raises(ValueError, match='wanted no gradient'): HISTORY[name](x)
    with torch.no_grad(): HISTORY[name](x)


SAID = {**{name: call for name, call in TAUGHT.items() if 'loss' in name and 'distill' not in name and 'consistency' not in name}, 'dsm_loss': ASKED['dsm_loss'], 'image_loss': ASKED['image_loss']}
STUDENT = lambda said: SimpleNamespace(x_0_hat=said)
ANSWERED = {   # name -> (what it says, sched) -> numbers
    **SAID, **{f'ddim_sample of {P.__name__}': lambda f, s, P=P: ASKED['ddim_sample'](P(f, s), s) for P in (loss.PredictsEps, loss.PredictsX0, PredictsV, dialects.PredictsFlow, dialects.PredictsEdm)},
    'PredictsMeanFlow': lambda f, s: few_steps.PredictsMeanFlow(lambda z, r, tau: f(z, tau), s)(X, T), 'mean_flow_loss': lambda f, s: few_steps.mean_flow_loss(lambda z, r, tau: f(z, tau), X, torch.zeros(2), torch.ones(2), EPS),
    'Guided, without': lambda f, s: guidance.Guided(lambda x, t, *y: x if y else f(x, t), LABELS)(X, T), 'Autoguided, weak': lambda f, s: guidance.Autoguided(Stub(), f)(X, T),
    'clean_image': ASKED['clean_image'], 'clean_image of its own': lambda f, s: few_steps.clean_image(type('Own', (Stub,), dict(x_0_hat=staticmethod(f)))(), s, X, T),
    'distill_loss': lambda f, s: few_steps.distill_loss(STUDENT(f), Stub(), s, X, T, T - 1, S, EPS), 'consistency_loss': lambda f, s: few_steps.consistency_loss(STUDENT(f), s, X, T, S, EPS),
}


@pytest.mark.parametrize('name', ANSWERED)
@pytest.mark.parametrize('said', [lambda x, t: x[:, :, :1], lambda x, t: x[:1], lambda x, t: x.mean((1, 2, 3)), lambda x, t: (x,), lambda x, t: x.long(), lambda x, t: None], ids=['narrow', 'one', 'numbers', 'tuple', 'whole', 'nothing'])
def test_an_answer_of_another_shape_or_kind_is_refused(name, said):
    "Rejects a difference that broadcasts, also inside a wrapper, where the noise has the right shape again, and torch's own words for a tuple."
    with pytest.raises((ValueError, TypeError), match='wanted'): ANSWERED[name](said, SCHED)


def told_as_agreed(x_t, t, *labels):
    assert isinstance(t, torch.Tensor) and t.dtype == torch.int64 and t.shape == (len(x_t),)
    return x_t*t.view(-1, 1, 1, 1)/20


class Told:
    "A model with an x_0_hat of its own."
    def __call__(self, x_t, t, *labels): return told_as_agreed(x_t, t)
    x_0_hat = __call__


TOLD = {   # what takes an int: (model, step) -> numbers
    **{name: lambda m, t, f=f: f(m, SCHED, X, t, EPS) for name, f in dict(eps_loss=loss.eps_loss, flow_loss=dialects.flow_loss, edm_loss=dialects.edm_loss, dsm_loss=score.dsm_loss).items()},
    **{P.__name__: lambda m, t, P=P: P(m, SCHED)(X, t) for P in (loss.PredictsEps, PredictsV, dialects.PredictsFlow)}, 'tweedie_cov': lambda m, t: score.tweedie_cov(m, SCHED, X, t),
    'clean_image': lambda m, t: few_steps.clean_image(m, SCHED, X, t), 'two_step_target': lambda m, t: few_steps.two_step_target(m, SCHED, X, t, 3, 1),
    'distill_loss': lambda m, t: few_steps.distill_loss(Told(), m, SCHED, X, t, 3, 1, EPS), 'consistency_loss': lambda m, t: few_steps.consistency_loss(Told(), SCHED, X, t, 3, EPS, teacher=m),
}


@pytest.mark.parametrize('t', [5, np.int64(5), np.uint8(5), torch.tensor(5), torch.tensor([5, 5], dtype=torch.uint8), torch.tensor([5, 5], dtype=torch.int32)], ids=['int', 'numpy', 'numpy uint8', 'single', 'uint8', 'int32'])
@pytest.mark.parametrize('name', TOLD)
def test_a_model_is_told_one_int64_step_an_image(name, t):
    "Rejects a step handed on as it came: a network knows only (B,) int64."
    assert torch.equal(TOLD[name](told_as_agreed, t), TOLD[name](told_as_agreed, torch.tensor([5, 5])))
    TOLD[name](Told(), t)


def test_a_student_without_an_image_of_its_own_says_so():
    for call in lambda: few_steps.distill_loss(UNet(width=8), Stub(), SCHED, X, T, T - 1, S, EPS), lambda: few_steps.consistency_loss(UNet(width=8), SCHED, X, T, S, EPS):
        with pytest.raises(TypeError, match=r'model wanted an x_0_hat\(x_t, t\), as PredictsV has around a network, got UNet'): call()


@pytest.mark.parametrize('name', SAID)
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16], ids=['float64', 'bfloat16'])
def test_a_network_learns_in_its_own_precision(name, dtype):
    "Rejects images of another dtype than the weights: 'mat1 and mat2'."
    torch.manual_seed(0)
    net = UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.1)
    wanted = SAID[name](net, SCHED)
    assert_close(SAID[name](net.to(dtype), SCHED).double(), wanted.double(), rtol=0.1, atol=0.05)


SMALL = lambda dtype=torch.float32, classes=2: UNet(width=8, mults=(1,), blocks=1, attend=(), classes=classes).to(dtype)
MIXED = {   # network -> numbers
    'mean_flow_loss': lambda net: few_steps.mean_flow_loss(Times(net, SMALL(classes=0)), X, torch.zeros(2), torch.ones(2), EPS),
    'Autoguided': lambda net: sampler.ddim_sample(guidance.Autoguided(SMALL(), net), SCHED, SHAPE, steps=2, **SEEDS),
    'Autoguided, the other way': lambda net: sampler.ddim_sample(guidance.Autoguided(net, SMALL()), SCHED, SHAPE, steps=2, **SEEDS),
    'Guided': lambda net: guidance.Guided(net, LABELS)(X, T), 'Guided of images': lambda net: guidance.Guided(PredictsV(net, SCHED), LABELS).x_0_hat(X, T),
}


class Times(torch.nn.Module):
    "A network of average velocities, in the precision of another."
    def __init__(self, net, own):
        super().__init__()
        torch.manual_seed(2)
        for p in own.parameters(): torch.nn.init.normal_(p, std=0.1)
        self.net = own.to(next(net.parameters()).dtype)

    def forward(self, z, r, tau): return self.net(z, tau)


@pytest.mark.parametrize('name', MIXED)
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16], ids=['float64', 'bfloat16'])
def test_networks_of_two_precisions_stand_in_one_model(name, dtype):
    "Rejects an image of the better model's dtype for the weak one; and attention that has no forward derivative."
    torch.manual_seed(0)
    net = SMALL()
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.1)
    wanted = MIXED[name](net)
    got = MIXED[name](net.to(dtype))
    assert got.dtype == wanted.dtype == torch.float32
    assert_close(got, wanted, rtol=0.1, atol=0.1)


EXCHANGED = {
    **{P.__name__: lambda P=P: P(SCHED, Stub()) for P in (loss.PredictsEps, PredictsV, dialects.PredictsEdm, few_steps.PredictsMeanFlow)},
    **{f.__name__: lambda f=f: f(SCHED, Stub(), X, T, EPS) for f in (loss.eps_loss, loss.v_loss, dialects.flow_loss, dialects.edm_loss)},
    'consistency_loss': lambda: few_steps.consistency_loss(SCHED, Stub(), X, T, S, EPS),
}


@pytest.mark.parametrize('name', EXCHANGED)
def test_exchanged_arguments_are_named(name):
    with pytest.raises(TypeError, match='sched wanted a Schedule, .*got Stub'): EXCHANGED[name]()
