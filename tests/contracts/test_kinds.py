"Numbers and tensors of other kinds give the same answer or a sentence; what is handed out, or was made before, is nobody else's."
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import t as distribution
from torch import nn
from torch.testing import assert_close

from conftest import Stub, normal
from ddpm_lesson import (
    audit,
    data,
    dialects,
    dit,
    edit,
    experiments,
    few_steps,
    guidance,
    latent,
    likelihood,
    loss,
    metrics,
    sampler,
    schedule,
    score,
    solvers,
    train,
    unet,
)
from ddpm_lesson.data import Images
from ddpm_lesson.engine import files, sources
from ddpm_lesson.forward import q_sample
from ddpm_lesson.oracle import FiniteData
from ddpm_lesson.schedule import linear_schedule

SCHED = linear_schedule(200, 0.001, 0.05)
X, EPS = normal(2, 1, 4, 4).float().clamp(-1, 1), normal(2, 1, 4, 4, seed=1).float()
SHAPE, SEEDS, HALF = (2, 1, 4, 4), dict(seeds=(3, 4)), torch.tensor([1., 1., 0., 0.])
DATA = Images(torch.arange(0, 240, dtype=torch.uint8).reshape(15, 1, 4, 4))
RECIPE = train.Recipe(steps=3, batch=4, warmup=1, lr=0.01)
NET = unet.UNet(width=8, mults=(1,), blocks=1)
def FEATURES(pixels): return pixels.flatten(1).double()

# --- whole numbers --------------------------------------------------------------------------------

WHOLE = {   # name -> (whole number -> what it gives, the number)
    'trailing': (lambda n: sampler.trailing(1000, n), 50), 'trailing, T': (lambda n: sampler.trailing(n, 5), 100), 'leading': (lambda n: sampler.leading(1000, n), 50), 'quadratic': (lambda n: sampler.quadratic(1000, n), 50),
    'karras': (lambda n: solvers.karras(SCHED, n), 50), 'uniform_lambda': (lambda n: solvers.uniform_lambda(SCHED, n), 50), 'options_of': (lambda n: dialects.options_of(dict(num_train_timesteps=1000), n)['steps'], 50),
    'generator': (lambda n: train.generator(3, n).initial_seed(), 100), 'draw': (lambda n: train.draw(DATA, RECIPE, 20, n).eps.tolist(), 100), 'batch_indices': (lambda n: train.batch_indices(1000, n, 0, 0).tolist(), 100),
    'batch_indices, step': (lambda n: train.batch_indices(1000, 4, n, n).tolist(), 100), 'UNet': (lambda n: unet.UNet(width=n, mults=(1,), blocks=1).settings, 100), 'UNet, parts': (lambda n: unet.count_parameters(unet.UNet(width=n, mults=(1,), blocks=1)), 100),
    'UNet, classes': (lambda n: unet.UNet(width=8, classes=n).settings, 100), 'DiT': (lambda n: dit.DiT(width=n, layers=1).settings, 100), 'patchify': (lambda n: dit.unpatchify(dit.patchify(torch.zeros(1, 1, 100, 100), n), n, 100, 100).shape, 100),
    'shrunk': (lambda n: edit.shrunk(n)(torch.ones(1, 1, 100, 100)).tolist(), 100), 'student': (lambda n: likelihood.student(n), 100), 'bins': (lambda n: likelihood.decoder_log_prob(X, X*0.9, 0.1, n).tolist(), 100),
    'probes': (lambda n: likelihood.ode_log_likelihood(Stub(), SCHED, X, steps=2, probes=n, **SEEDS)[1].tolist(), 4), 'start': (lambda n: likelihood.ode_bound(Stub(), SCHED, (X*255).round()/255, steps=2, probes=1, start=n, bins=511, **SEEDS)[0].tolist(), 150),
    'rounds': (lambda n: edit.invert(Stub(), SCHED, X, steps=2, rounds=n).tolist(), 3), 'in_batches': (lambda n: [s for _, s in guidance.in_batches(Stub(), n, batch=n)], 100), 'held_out': (lambda n: metrics.noise_loss(Stub(), SCHED, DATA, batch=n), 100),
    'word_ids': (lambda n: latent.word_ids(['a'], ['', 'a'], n).tolist(), 100), 'TextDenoiser': (lambda n: unet.count_parameters(latent.TextDenoiser(n, 9, 16)), 100), 'TextDenoiser, width': (lambda n: unet.count_parameters(latent.TextDenoiser(4, 9, n)), 64),
    'WordBlock': (lambda n: unet.count_parameters(latent.WordBlock(200, n)), 50), 'LinearAutoencoder': (lambda n: latent.LinearAutoencoder(normal(9, 5), n).std.tolist(), 3),
    'seed of a reference': (lambda n: metrics.reference(DATA, FEATURES, seed=n).real.tolist(), 100), 'seed of a held-out loss': (lambda n: metrics.noise_loss(Stub(), SCHED, DATA, seed=n), 100), 'seed of a split': (lambda n: experiments.split(DATA, 5, n)[1].pixels.tolist(), 100),
    'held': (lambda n: len(experiments.split(DATA, n)[0]), 5), 'batch_indices, n': (lambda n: train.batch_indices(n, 4, 0, 0).tolist(), 100), 's1_cells': (lambda n: experiments.s1_cells(n), 2), 's2_cells': (lambda n: experiments.s2_cells(n), 2),
    'sample': (lambda n: FiniteData(X, SCHED).sample(n, torch.Generator().manual_seed(0)).shape, 100), 'nearest': (lambda n: metrics.nearest(DATA, DATA, n)[1].tolist(), 100),
}


@pytest.mark.parametrize('name', WHOLE)
@pytest.mark.parametrize('kind', [np.uint8, np.int32, np.int64, torch.tensor, lambda n: torch.tensor(n, dtype=torch.uint8)], ids=['uint8', 'int32', 'int64', 'torch', 'torch uint8'])
def test_a_whole_number_of_any_kind_is_the_number(name, kind):
    "Rejects a number that passes its check and is then used as it came: 1000*np.int32(...) wraps, np.uint8 can't hold 1000, a tensor has no round."
    call, n = WHOLE[name]
    torch.manual_seed(0)
    assert repr(call(kind(n))) == repr(call(n))


@pytest.mark.parametrize('name', WHOLE)
@pytest.mark.parametrize('wrong', [2.5, '3', None, True, np.True_, torch.tensor(True)], ids=['fraction', 'text', 'nothing', 'bool', 'numpy bool', 'torch bool'])
def test_what_is_no_whole_number_is_named(name, wrong):
    if name == 'probes' and wrong is None: return   # the exact trace
    with pytest.raises((TypeError, ValueError), match='wanted'): WHOLE[name][0](wrong)

# --- real numbers ---------------------------------------------------------------------------------

REAL = {   # name -> (number -> what it gives, the number)
    'eta': (lambda x: sampler.ddim_coefs(SCHED, [20, 10], x)[1], 0.5), 'eta of the SDE': (lambda x: score.sde_coefs(SCHED, [20, 10], x)[2], 0.5), 'power': (lambda x: solvers.karras(SCHED, 5, x), 2.5), 'churn': (lambda x: solvers.raised(SCHED, [200, 90], x), 0.5),
    'scale': (lambda x: guidance.Guided(lambda x_t, t, *y: x_t + len(y), [0, 1], x)(X, torch.tensor([1, 2])), 2.5), 'sigma_data': (lambda x: dialects.edm_loss(Stub(), SCHED, X, 5, EPS, sigma_data=x), 0.25), 'edm_scales': (lambda x: dialects.edm_scales(torch.ones(2), x), 0.25),
    'share': (lambda x: dialects.rescaled(X, EPS, x), 0.5), 'interpolate': (lambda x: edit.interpolate(X, EPS, x), 0.25), 'blurred': (lambda x: edit.blurred(x)(X), 0.5), 'std': (lambda x: likelihood.decoder_log_prob(X, X, x), 0.5),
    'cover': (lambda x: likelihood.student(5, x), 0.5), 'memory': (lambda x: train.smoothed(torch.ones(3), x), 0.5), 'rare': (lambda x: metrics.memorised(DATA, DATA, DATA, x), 0.25), 'walk_back_std': (lambda x: schedule.walk_back_std(SCHED, x, x, x), 0.5),
    'langevin_step': (lambda x: score.langevin_step(X, X, x, EPS), 0.25), 'flow time': (lambda x: few_steps.consistency_function(X, x), 0.5), 'mean': (lambda x: few_steps.consistency_function(X, 0.5, x), 0.25), 'dropout': (lambda x: unet.UNet(width=8, dropout=x).settings, 0.5),
}


@pytest.mark.parametrize('name', REAL)
@pytest.mark.parametrize('kind', [np.float32, np.float64, torch.tensor, Fraction], ids=['float32', 'float64', 'torch', 'fraction'])
def test_a_number_of_any_kind_is_the_number(name, kind):
    call, x = REAL[name]
    if kind is Fraction and name in ('langevin_step', 'flow time', 'mean'): return   # tensors, too, may come here
    assert repr(call(kind(x))) == repr(call(x))


@pytest.mark.parametrize('name', REAL)
@pytest.mark.parametrize('wrong', ['a', None, np.array('a'), np.complex64(0.5 + 1j), torch.tensor(0.5 + 1j)], ids=['text', 'nothing', 'array', 'complex', 'complex tensor'])
def test_what_is_no_number_is_named(name, wrong):
    with pytest.raises((TypeError, ValueError), match='wanted'): REAL[name][0](wrong)


@pytest.mark.parametrize('name', sorted(set(REAL) - {'langevin_step', 'flow time', 'mean'}))
@pytest.mark.parametrize('wrong', [True, np.True_, torch.tensor(True)], ids=['python', 'numpy', 'torch'])
def test_a_truth_value_is_no_number(name, wrong):
    with pytest.raises((TypeError, ValueError), match='wanted'): REAL[name][0](wrong)


OUTSIDE = {
    'walk_back_std': lambda: schedule.walk_back_std(SCHED, 0.5, 5.0), 'walk_back_std, spread': lambda: schedule.walk_back_std(SCHED, -1.0), 'walk_back_std, nan': lambda: schedule.walk_back_std(SCHED, float('nan')), 'kl_at_T': lambda: schedule.kl_at_T('linear'),
    'prescribe': lambda: schedule.prescribe('linear'), 'langevin_step': lambda: score.langevin_step(X, X, float('inf'), EPS), 'held_out': lambda: metrics.noise_loss(Stub(), SCHED, DATA, batch=0), 'Judge': lambda: metrics.Judge(nn.Flatten(), 4, 0, 1, 'a', batch=0),
    'flow times': lambda: few_steps.mean_flow_loss(lambda z, r, tau: z, X, torch.zeros(3), torch.ones(2), EPS), 'ddim_jump': lambda: few_steps.ddim_jump(SCHED, X, X, torch.tensor([5, 6]), torch.tensor([1, 2, 3])), 'jump_target': lambda: few_steps.jump_target(SCHED, X, X, 5, 'a'),
    'min_snr': lambda: train.min_snr(torch.ones(2), SCHED, torch.tensor([1, 2]), 'noise'), 'smoothed': lambda: train.smoothed(torch.ones(2, 2)), 'fit': lambda: train.fit(Stub(), SCHED, DATA, dict(steps=1)), 'labels': lambda: metrics.draw_pixels(Stub(), SCHED, SHAPE, labels=3),
    'guidance': lambda: metrics.draw_pixels(Stub(), SCHED, SHAPE, guidance='a'), 'mask': lambda: edit.masked(np.ones(4))(X), 'given': lambda: edit.GaussianWorld(torch.zeros(2), torch.eye(2), SCHED).given([[1., 0.]], [1.], 0.1), 'bits_per_dim': lambda: likelihood.bits_per_dim([1.], 3),
    'WordBlock': lambda: latent.WordBlock(10), 'TextDenoiser': lambda: latent.TextDenoiser(4, 5, 0), 'Captioned': lambda: latent.Captioned(Stub(), [[0, 1]]), 'Captioned, floats': lambda: latent.Captioned(Stub(), torch.zeros(2, 3)), 'word_ids': lambda: latent.word_ids([1], ['', 'a'], 2),
    'Ema of another network': lambda: train.Ema(nn.Linear(4, 4)).copy_to(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))), 'Ema that broadcasts': lambda: train.Ema(nn.Linear(1, 1)).copy_to(nn.Linear(4, 1)), 'Ema, moved': lambda: train.Ema(nn.Linear(4, 4)).update(nn.Linear(4, 5), 0),
    'FiniteData': lambda: FiniteData(SCHED, X), 'FiniteData of a number': lambda: FiniteData(torch.tensor(1.), SCHED), 'Autoguided': lambda: guidance.Autoguided(guidance.Labelled(Stub(), [0, 1]), guidance.Labelled(Stub(), [1, 0])),
}


ROWS = [dict(seed=0, target=x, KID=1.) for x in 'ab']
GRADED, IDS = X.clone().requires_grad_(), torch.tensor([[0, 1], [2, 0]])
READS = latent.TextDenoiser(4, 3, 16)
class Knows(nn.Embedding):
    "A network of one's own that knows three classes, and leaves checking to others."
    classes = 3
    def __init__(self): super().__init__(4, 16)
    def forward(self, x_t, t, y): return x_t + super().forward(y).view(-1, 1, 4, 4)
def LABELLED(y): return loss.PredictsEps(Knows(), SCHED)(X, torch.tensor([5, 6]), y)
with torch.inference_mode(): FROZEN_IN_TIME = unet.UNet(width=8, mults=(1,), blocks=1)

OUTSIDE |= {
    'one label for two images': lambda: LABELLED(torch.tensor([1])), 'a number for labels': lambda: LABELLED(1), 'a list for labels': lambda: LABELLED([0, 1]), 'floats for labels': lambda: LABELLED(torch.tensor([0., 1.])), 'labels in two dimensions': lambda: LABELLED(torch.tensor([[0, 1]])),
    'an optimizer of another network': lambda: train.fit(NET, SCHED, DATA, RECIPE, torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)), "an optimizer's name": lambda: train.fit(NET, SCHED, DATA, RECIPE, 'adam'), "an optimizer's class": lambda: train.fit(NET, SCHED, DATA, RECIPE, torch.optim.Adam),
    'a network made in inference mode': lambda: train.fit(FROZEN_IN_TIME, SCHED, DATA, RECIPE),
    'a wrapped network and v': lambda: loss.v_loss(loss.PredictsV(NET, SCHED), SCHED, X, 5, EPS), 'a wrapped network on many cards': lambda: loss.v_loss(torch.nn.DataParallel(loss.PredictsV(NET, SCHED)), SCHED, X, 5, EPS), 'a path for a picture': lambda: data.fit_square('flower.jpg', 8), 'a wrapped network and x_0': lambda: loss.x_0_loss(loss.PredictsX0(NET, SCHED), SCHED, X, 5, EPS), 'a wrapped network and flow': lambda: dialects.flow_loss(dialects.PredictsFlow(NET, SCHED), SCHED, X, 5, EPS),
    'a wrapped network and EDM': lambda: dialects.edm_loss(dialects.PredictsEdm(NET, SCHED), SCHED, X, 5, EPS), 'a wrapped network in fit': lambda: train.fit(loss.PredictsV(NET, SCHED), SCHED, DATA, RECIPE),
    'draw of pixels': lambda: train.draw(DATA.pixels, RECIPE, 9, 0), 'draw, exchanged': lambda: train.draw(RECIPE, DATA, 9, 0), 'subset of pixels': lambda: metrics.subset(DATA.pixels, torch.tensor([0])), 'split of pixels': lambda: experiments.split(DATA.pixels, 3), 'a share for a number': lambda: experiments.split(DATA, 0.1),
    'one count for several': lambda: metrics.steps_curve(Stub(), SCHED, DATA, FEATURES, steps=4), 'a loss in place of losses': lambda: metrics.held_out(Stub(), SCHED, DATA, lambda *all: torch.tensor(1.)), 'a seed of text': lambda: metrics.reference(DATA, FEATURES, seed='0'), 'a seed too large': lambda: metrics.reference(DATA, FEATURES, seed=2**70),
    'two rows in one place': lambda: experiments.paired([*ROWS, ROWS[0]], 'target', 'a', 'b', ()), 'rows without the value': lambda: experiments.paired(ROWS, 'target', 'a', 'b', (), 'FID'), 'rows without the key': lambda: experiments.paired(ROWS, 'schedule', 'a', 'b', ()),
    'an interval of rows': lambda: experiments.mean_interval([[1., 2.], [3., 4.]]), 'an interval of texts': lambda: experiments.mean_interval(['1', '2']), 'an interval of a number': lambda: experiments.mean_interval(1.), 'a cell by name': lambda: experiments.cell_name('s1'), 'a cell without a preset': lambda: experiments.run_cell(dict(seed=0), 'nowhere'),
    'one cell for several': lambda: experiments.run_cells(dict(preset='debug'), 'nowhere'), 'no workers': lambda: experiments.worker_pool(0).__enter__(),
    'a set of captions': lambda: latent.word_ids({'a'}, ['', 'a'], 2), 'a set of words': lambda: latent.word_ids(['a'], {'', 'a'}, 2), 'a text for words': lambda: latent.word_ids(['a'], '_a', 2), 'no captions': lambda: latent.word_ids(None, ['', 'a'], 2),
    'one caption for two latents': lambda: READS(torch.zeros(2, 4), torch.tensor([5, 6]), IDS[:1]), 'the words of one caption': lambda: READS(torch.zeros(2, 4), torch.tensor([5, 6]), IDS[0]), 'a list of captions': lambda: READS(torch.zeros(2, 4), torch.tensor([5, 6]), IDS.tolist()),
    'an unknown word': lambda: READS(torch.zeros(2, 4), torch.tensor([5, 6]), IDS + 1), 'a word before the first': lambda: READS(torch.zeros(2, 4), torch.tensor([5, 6]), IDS - 1), 'Captioned, without captions': lambda: latent.Captioned(READS, IDS[:0]),
    'a target of another shape': lambda: few_steps.mean_flow_target(lambda z, r, tau: z, X, 0., 0.5, EPS[:1]), 'a stretch that runs backwards': lambda: few_steps.mean_flow_target(lambda z, r, tau: z, X, torch.ones(2), torch.zeros(2), EPS),
    'a trace without a gradient': lambda: likelihood.trace_terms(GRADED*2, X, [X]), 'a probe in place of probes': lambda: likelihood.trace_terms(GRADED*2, GRADED, X), 'no probes': lambda: likelihood.trace_terms(GRADED*2, GRADED, []), 'the density of a number': lambda: likelihood.log_normal(torch.tensor(1.)),
    'the density of another world': lambda: likelihood.log_density(edit.GaussianWorld(torch.zeros(2), torch.eye(2), SCHED), torch.zeros(1, 2), 1), 'a world without numbers': lambda: edit.GaussianWorld(torch.zeros(0), torch.zeros(0, 0), SCHED),
    'a wrapper of a model': lambda: loss.PredictsV(loss.PredictsV(NET, SCHED), SCHED), 'a wrapper of a model with labels': lambda: loss.PredictsX0(guidance.Labelled(loss.PredictsV(Knows(), SCHED), [0, 1]), SCHED),
    'the test split by name': lambda: data.bundled_fashion('test'), 'the test split of any set by name': lambda: sources.load_images('fashion', train='test'), 'one name for all classes': lambda: Images(DATA.pixels, torch.zeros(15, dtype=torch.int64), 'cat'), 'a sheet of an array': lambda: files.sheet(X.numpy()),
    'plans, exchanged': lambda: solvers.multistep_plan([20, 10], SCHED), 'plans of Heun, exchanged': lambda: solvers.heun_plan([20, 10], SCHED), 'an empty batch': lambda: NET(X[:0], torch.zeros(0, dtype=torch.int64)),
    'of_scheduler': lambda: audit.of_scheduler(None), 'load_sampler, a notebook': lambda: audit.load_sampler('page.ipynb:f'), 'load_sampler, a path': lambda: audit.load_sampler(Path('page.py')),
}


@pytest.mark.parametrize('name', OUTSIDE)
def test_what_would_be_silently_wrong_or_torchs_own_words_is_named(name):
    with pytest.raises((TypeError, ValueError), match='wanted'): OUTSIDE[name]()


FUNCTIONS = {   # name -> what is done with a function
    'distance': lambda f: loss.eps_loss(Stub(), SCHED, X, 5, EPS, distance=f), 'distance of v': lambda f: loss.v_loss(Stub(), SCHED, X, 5, EPS, distance=f), 'distance of x_0': lambda f: loss.x_0_loss(Stub(), SCHED, X, 5, EPS, distance=f),
    'distance of flow': lambda f: dialects.flow_loss(Stub(), SCHED, X, 5, EPS, distance=f), 'distance of EDM': lambda f: dialects.edm_loss(Stub(), SCHED, X, 5, EPS, distance=f), 'distance of a mean flow': lambda f: few_steps.mean_flow_loss(lambda z, r, tau: z, X, 0., 0.5, EPS, distance=f),
    'distance to a teacher': lambda f: few_steps.distill_loss(loss.PredictsX0(NET, SCHED), Stub(), SCHED, X, 9, 6, 3, EPS, distance=f), 'distance of consistency': lambda f: few_steps.consistency_loss(loss.PredictsX0(NET, SCHED), SCHED, X, 9, 6, EPS, distance=f),
    'error': lambda f: metrics.noise_loss(Stub(), SCHED, DATA, error=f), 'error of images': lambda f: metrics.image_loss(Stub(), SCHED, DATA, error=f), 'compare': lambda f: metrics.held_out(Stub(), SCHED, DATA, f), 'sampler': lambda f: metrics.draw_pixels(Stub(), SCHED, SHAPE, sampler=f),
    'operator': lambda f: edit.restore_guided(Stub(), SCHED, X, f, SHAPE, steps=2), 'operator of DPS': lambda f: edit.restore_dps(Stub(), SCHED, X, f, SHAPE, steps=2), 'spread': lambda f: edit.inpaint_guided(Stub(), SCHED, X, HALF, steps=2, spread=f),
    'net of a wrapper': lambda f: loss.PredictsEps(f, SCHED), 'net of v': lambda f: loss.PredictsV(f, SCHED), 'model with labels': lambda f: guidance.Labelled(f, [0, 1]), 'model to guide by': lambda f: guidance.Autoguided(Stub(), f), 'model to be guided': lambda f: guidance.Autoguided(f, Stub()),
    'log_p_T': lambda f: likelihood.ode_log_likelihood(Stub(), SCHED, X, steps=2, log_p_T=f), 'loss_at': lambda f: train.lr_sweep(f), 'from_zero': lambda f: audit.from_zero(f),
}


@pytest.mark.parametrize('name', FUNCTIONS)
@pytest.mark.parametrize('wrong', ['mse', None, nn.MSELoss, torch.ones(2)], ids=['name', 'nothing', 'class', 'tensor'])
def test_a_name_is_no_function(name, wrong):
    "Rejects Python's own words, 'str' object is not callable, and a class, which takes what it is given for settings."
    with pytest.raises(TypeError, match=r'^\w+ wanted a function, got'): FUNCTIONS[name](wrong)


def test_classes_are_a_tuple_of_names():
    "Rejects a list, which compares unequal to what a card says, and numbers, which no label of a command is."
    for classes in ['a', 'b'], ('a', 'b'), np.array(['a', 'b']): assert Images(DATA.pixels, torch.zeros(15, dtype=torch.int64), classes).classes == ('a', 'b')
    assert Images(DATA.pixels, torch.zeros(15, dtype=torch.int64), [0, 1]).classes == ('0', '1')


def test_the_interval_of_many_draws_is_that_of_a_normal_law():
    "Rejects a grid that holds no angle of those that matter: 1.74 of 10^9 draws, and a cosine that rounds to 1."
    for n in 10**4, 10**6, 10**9, 10**15: assert abs(likelihood.student(n)/1.959964 - 1) < 1e-3
    for n, cover in (2, 0.99999), (2, 1e-6), (3, 0.999999), (100, 1e-3), (10**6, 1 - 1e-9): assert abs(likelihood.student(n, cover)/distribution.ppf((1 + cover)/2, n - 1) - 1) < 1e-5


def test_single_numbers_are_paired_too():
    a, b = torch.tensor([3., 1., 2.]), torch.tensor([1., 2., 3.])
    assert torch.equal(dialects.pair_noise(a, b), a)


def test_a_law_in_float64_leaves_the_images_in_float32():
    for f in lambda **law: few_steps.consistency_function(X, 0.5, **law), lambda **law: few_steps.average_velocity(X, 0.1, 0.5, **law):
        plain = f(mean=0.25, std=0.5)
        for kind in torch.tensor, np.array:
            got = f(mean=kind(np.full(SHAPE[1:], 0.25)), std=kind(np.full(SHAPE[1:], 0.5)))
            assert got.dtype == torch.float32
            assert_close(got, plain)

# --- what is handed out ---------------------------------------------------------------------------

V, NOTHING = loss.PredictsV(Stub(), SCHED), dialects.flow_schedule(20)
WAYS = {
    **{f.__name__: lambda f=f, **o: f(V, SCHED, SHAPE, steps=4, **SEEDS, **o) for f in (sampler.ddpm_steps, sampler.ddim_steps, solvers.dpm_solver_steps, solvers.dpm_single_steps, solvers.heun_steps, score.sde_steps, score.pf_ode_steps, few_steps.consistency_steps)},
    'corrections': lambda **o: score.sde_steps(V, SCHED, SHAPE, steps=3, corrections=2, **SEEDS, **o), 'from nothing': lambda **o: sampler.ddim_steps(loss.PredictsV(Stub(), NOTHING), NOTHING, SHAPE, steps=3, **SEEDS, **o),
    'from nothing, at once': lambda **o: sampler.ddim_steps(loss.PredictsV(Stub(), NOTHING), NOTHING, SHAPE, steps=1, **SEEDS, **o), 'sdedit': lambda **o: edit.sdedit_steps(V, SCHED, X, steps=8, **SEEDS, **o),
    'inpaint_resample': lambda **o: edit.inpaint_resample_steps(V, SCHED, X, HALF, steps=3, times=2, **SEEDS, **o), 'inpaint_replace': lambda **o: edit.inpaint_replace_steps(V, SCHED, X, HALF, steps=3, **SEEDS, **o),
    'inpaint_guided': lambda **o: edit.inpaint_guided_steps(V, SCHED, X, HALF, steps=3, **SEEDS, **o), 'restore_dps': lambda **o: edit.restore_dps_steps(V, SCHED, X*HALF, edit.masked(HALF), SHAPE, steps=3, **SEEDS, **o),
}


def walked(way, touch):
    seen = []
    for t, x_t, x_0_hat in way:
        seen.append((t, x_t.clone(), x_0_hat.clone()))
        assert not x_t.is_inference() and not x_0_hat.is_inference()
        if touch: x_t.fill_(9), x_0_hat.fill_(9)
    return seen


@pytest.mark.parametrize('options', [{}, dict(clip=(-1, 1))], ids=['plain', 'clip'])
@pytest.mark.parametrize('name', [*WAYS, 'invert'])
def test_whoever_draws_on_what_was_handed_out_changes_no_later_step(name, options):
    "Rejects x_0_hat in the memory of the image that it becomes, a step that goes on from what was lent, tensors that only inference mode may write."
    way = WAYS.get(name, lambda **o: edit.invert_steps(V, SCHED, X, steps=4))
    for (t, *a), (s, *b) in zip(walked(way(**options), False), walked(way(**options), True), strict=True): assert t == s and torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize('name', WAYS)
def test_a_walk_that_began_in_inference_mode_goes_on_outside(name):
    "Rejects memory that only inference mode may write."
    wanted, way = [x_t for _, x_t, _ in WAYS[name]()], WAYS[name]()
    with torch.inference_mode(): next(way)
    assert torch.equal(sampler.last(way), wanted[-1])


KEPT = {   # what keeps a tensor: (tensor -> what it gives when it is asked, the tensor)
    'Labelled': (lambda y, meanwhile: asked(guidance.Labelled(lambda x, t, y: x*y.view(-1, 1, 1, 1), y), meanwhile), torch.tensor([1, 2])), 'masked': (lambda mask, meanwhile: asked(lambda x, t, f=edit.masked(mask): f(x), meanwhile), HALF.clone()),
    'Captioned': (lambda ids, meanwhile: asked(latent.Captioned(lambda z, t, ids: z*ids.sum(1).view(-1, 1, 1, 1), ids), meanwhile), torch.tensor([[1, 2], [3, 4]])), 'FiniteData': (lambda x, meanwhile: asked(FiniteData(x, SCHED), meanwhile), X.clone()),
    'Measured': (lambda y, meanwhile: asked(edit.Measured(Stub(), SCHED, lambda x: x, y, 0.1), meanwhile), X.clone()), 'Schedule': (lambda beta, meanwhile: asked(lambda x, t, s=schedule.Schedule(beta): q_sample(s, x, t, x), meanwhile), SCHED.beta.float()),
    'inpaint_replace': (lambda mask, meanwhile: asked(lambda x, t, way=edit.inpaint_replace_steps(Stub(), SCHED, X, mask, steps=2, **SEEDS): sampler.last(way), meanwhile), HALF.bool()),
    'x_T': (lambda x, meanwhile: asked(lambda _, t, way=sampler.ddim_steps(Stub(), SCHED, SHAPE, steps=2, x_T=x): sampler.last(way), meanwhile), EPS.clone()),
}


def asked(model, meanwhile):
    meanwhile()
    return model(X, torch.tensor([5, 9]), *([torch.tensor([0, 1])] if isinstance(model, latent.Captioned) else []))


@pytest.mark.parametrize('name', KEPT)
def test_what_was_given_may_change_afterwards(name):
    "Rejects labels, masks and tables that are kept in the caller's memory: the next batch's labels would be those of all."
    call, given = KEPT[name]
    wanted = call(given, lambda: None)
    assert torch.equal(call(given, given.zero_), wanted)


def plain(f): return lambda x, t: f(x)   # an operator as a model


@pytest.mark.parametrize('make', [lambda: FiniteData(X, SCHED), lambda: guidance.Labelled(unet.UNet(width=8, classes=2), [0, 1]), lambda: loss.PredictsV(Stub(), SCHED), lambda: dialects.PredictsEdm(Stub(), SCHED), lambda: plain(edit.blurred(1.0)), lambda: plain(edit.masked(HALF)),
                                  lambda: plain(latent.LinearAutoencoder(normal(9, 1, 4, 4), 3).encode), lambda: lambda x, t, world=edit.GaussianWorld(torch.zeros(16), torch.eye(16), SCHED): world(x.flatten(1), t)],
                         ids=['FiniteData', 'Labelled', 'PredictsV', 'PredictsEdm', 'blurred', 'masked', 'encode', 'GaussianWorld'])
def test_what_was_made_in_inference_mode_is_differentiable_afterwards(make):
    "Rejects a table that autograd may not save."
    torch.manual_seed(0)
    made = make()
    with torch.inference_mode(): again = make()
    for model in made, again:
        for part in (model.modules() if isinstance(model, nn.Module) else []):
            for name, p in part._parameters.items(): part._parameters[name] = None if p is None else nn.Parameter(torch.full(p.shape, 0.1))
    x = [X.clone().requires_grad_() for _ in 'ab']
    for one, model in zip(x, (made, again)): model(one, torch.tensor([5, 9])).square().sum().backward()
    assert torch.equal(x[0].grad, x[1].grad)


def test_a_judge_may_keep_one_memory_for_all_that_it_says():
    "Rejects features of the real images that are those of the others."
    memory = torch.empty(7, 3, dtype=torch.float64)
    def judge(pixels): return memory[:len(pixels)].copy_(pixels.flatten(1)[:, :3])
    real, other = DATA.pixels[:7], DATA.pixels[8:]
    ref = metrics.reference(real, judge, other)
    assert not torch.equal(ref.real, ref.other)


def test_a_floor_that_is_changed_is_not_the_next_one():
    ref = metrics.reference(DATA, lambda x: x.flatten(1).double()[:, :3])
    ref.floor(6, 2).clear()
    assert ref.floor(6, 2)['floor N'] == 6


def test_a_judge_leaves_the_network_as_it_was():
    "Rejects a network of the caller's that is frozen from then on, or left in eval mode."
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.Dropout(0.9)).train()
    judge = metrics.Judge(net, 4, 127.5, 127.5, 'mine')
    assert torch.equal(judge(DATA.pixels), judge(DATA.pixels))
    assert net.training and net[2].training and net[1].weight.requires_grad

def learned(ask, cast):
    "Which weights get a gradient where a network is asked, under the caller's autocast or not."
    torch.manual_seed(0)
    net = unet.UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): nn.init.normal_(p, std=0.1)
    with torch.autocast('cpu', torch.bfloat16, enabled=cast): found = ask(loss.PredictsV(net, SCHED))
    found.sum().backward()
    return [name for name, p in net.named_parameters() if p.grad is not None]


TWO = torch.tensor([150, 60])
CAST = {   # a network that is asked without gradients, then with: model -> losses
    'drawn, then taught': lambda m: (sampler.ddim_sample(m, SCHED, SHAPE, steps=2), loss.eps_loss(m, SCHED, X, TWO, EPS))[1],
    'judged, then taught': lambda m: (metrics.noise_loss(m, SCHED, DATA), loss.eps_loss(m, SCHED, X, TWO, EPS))[1],
    'consistency_loss': lambda m: few_steps.consistency_loss(m, SCHED, X, TWO, 20, EPS), 'consistency_loss, taught': lambda m: few_steps.consistency_loss(m, SCHED, X, TWO, 20, EPS, teacher=m),
    'distill_loss': lambda m: few_steps.distill_loss(m, m, SCHED, X, TWO, 40, 20, EPS),
}


@pytest.mark.parametrize('name', CAST)
def test_no_weight_stops_learning_under_autocast(name):
    "Rejects weights that autocast cast while no gradient was asked for, and used again: they learn nothing, without a word."
    assert learned(CAST[name], True) == learned(CAST[name], False)


GUIDED = {   # a network that is asked in inference mode, then for a gradient: model -> numbers
    'restore_dps': lambda m: edit.restore_dps(m, SCHED, X*HALF, edit.masked(HALF), SHAPE, steps=3, **SEEDS), 'inpaint_guided': lambda m: edit.inpaint_guided(m, SCHED, X, HALF, steps=3, **SEEDS),
    'ode_bound': lambda m: likelihood.ode_bound(m, SCHED, (X*255).round()/255, steps=3, probes=2, bins=511, **SEEDS)[0], 'drawn, then measured': lambda m: (sampler.ddim_sample(m, SCHED, SHAPE, steps=2), score.tweedie_cov(m, SCHED, X, TWO))[1],
}


@pytest.mark.parametrize('name', GUIDED)
def test_what_wants_gradients_works_under_autocast(name):
    "Rejects 'Inference tensors cannot be saved for backward'."
    torch.manual_seed(0)
    net = unet.UNet(width=8, mults=(1,), blocks=1, attend=())
    for p in net.parameters(): nn.init.normal_(p, std=0.1)
    wanted = GUIDED[name](loss.PredictsV(net, SCHED))
    with torch.autocast('cpu', torch.bfloat16): got = GUIDED[name](loss.PredictsV(net, SCHED))
    assert_close(got, wanted, rtol=0.1, atol=0.1)


def test_a_judge_sees_alike_under_autocast():
    "Rejects features of eight bits beside a reference of twenty-four."
    judge = metrics.Judge(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), 4, 127.5, 127.5, 'mine')
    with torch.autocast('cpu', torch.bfloat16): got = judge(DATA.pixels)
    assert torch.equal(got, judge(DATA.pixels))

# --- gradients of others, empty batches, other worlds ---------------------------------------------


@pytest.mark.parametrize('some', [False, True], ids=['all', 'some'])
def test_a_step_follows_its_own_gradient_alone(some):
    "Rejects gradients that the caller left, and those of weights that the optimizer does not know, which clipping would count more of at each step."
    losses = []
    for left in False, True:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Unflatten(1, SHAPE[1:]))
        net.forward = lambda x, t, net=net: net[2](net[1](net[0](x)))
        if left: net[1].weight.grad, net[1].bias.grad = torch.full((16, 16), 50.), torch.full((16,), 50.)
        opt = torch.optim.SGD([net[1].bias] if some else net.parameters(), 0.01)
        losses.append(train.fit(net, SCHED, DATA, train.Recipe(steps=4, batch=4, warmup=1, lr=0.1), opt)[1])
    assert torch.equal(*losses)


def test_weights_that_no_optimizer_moves_do_not_hold_the_others_back():
    "Rejects gradients of frozen weights that add up from step to step and count in the clipping."
    moved = []
    for known in False, True:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Unflatten(1, SHAPE[1:]))
        net.forward = lambda x, t, net=net: net[2](net[1](net[0](x)))
        groups = [dict(params=[net[1].bias])] + [dict(params=[net[1].weight])]*known
        opt = torch.optim.SGD(groups, 0.01)
        for step in range(4):
            if known: before = net[1].weight.detach().clone()
            train.gradient_step(net, SCHED, opt, RECIPE, train.draw(DATA, RECIPE, SCHED.T, step))
            if known: net[1].weight.data = before   # as if it had not been moved
        moved.append(net[1].bias.detach())
    assert_close(*moved)


def test_an_oracle_is_asked_about_no_image():
    assert FiniteData(X, SCHED)(X[:0], 3).shape == (0, *SHAPE[1:]) and FiniteData(X, SCHED).x_0_hat(X[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, *SHAPE[1:])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64], ids=['bfloat16', 'float64'])
def test_a_network_that_reads_works_in_any_precision(dtype):
    torch.manual_seed(0)
    net, ids = latent.TextDenoiser(4, 5, 16), torch.tensor([[1, 2], [3, 0]])
    nn.init.normal_(net.end.weight)
    ask = lambda: guidance.Guided(latent.Captioned(net, ids), [1, 0])(normal(2, 4).float(), torch.tensor([3, 9]))
    wanted = ask()
    net.to(dtype)
    assert_close(ask(), wanted, rtol=0.1, atol=0.1)


VMAPPED = {   # about one image: (x, t, eps) -> numbers
    'q_sample': lambda x, t, eps: q_sample(SCHED, x, t, eps), 'eps_loss': lambda x, t, eps: loss.eps_loss(lambda x, t: x*t.view(-1, 1, 1, 1), SCHED, x, t, eps), 'PredictsV': lambda x, t, eps: loss.PredictsV(lambda x, t: x, SCHED)(x, t),
    'FiniteData': lambda x, t, eps: FiniteData(X, SCHED)(x, t), 'a loss and its gradient': lambda x, t, eps: torch.func.grad(lambda x: loss.v_loss(lambda x, t: x**2, SCHED, x, t, eps).sum())(x),
}


@pytest.mark.parametrize('name', VMAPPED)
def test_one_image_at_a_time_by_vmap_is_all_at_once(name):
    "Rejects a look at a step inside `vmap`, with which one asks for the gradient of each image."
    t = torch.tensor([5, 150])
    got = torch.func.vmap(lambda *one: VMAPPED[name](*(v[None] for v in one))[0])(X, t, EPS)
    assert_close(got, VMAPPED[name](X, t, EPS))


def test_a_schedule_on_meta_can_be_printed(): assert repr(SCHED.to('meta')) == 'Schedule(T=200)'
