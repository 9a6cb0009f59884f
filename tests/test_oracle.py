"The exact denoisers, against the gradient of the log density."
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.oracle import FiniteData, GaussianMixture
from ddpm_lesson.schedule import cosine_schedule, linear_schedule

SCHED = linear_schedule()


def by_gradient(weights, means, std, sched, x_t, t):
    "eps = -noise_rate grad log q_t(x), with q_t written as a sum of normal densities and differentiated by autograd."
    x = x_t.clone().requires_grad_()
    ab = sched.alpha_bar[t].reshape(-1, 1)
    var = ab*std**2 + 1 - ab
    square = (x.flatten(1)[:, None] - ab[..., None].sqrt()*means.flatten(1)[None]).square().sum(2)
    log_q = torch.logsumexp(weights.log() - square/(2*var), 1)
    grad, = torch.autograd.grad(log_q.sum(), x)
    return -(1 - sched.alpha_bar[t]).sqrt().reshape(-1, *[1]*(x_t.ndim - 1))*grad


@pytest.mark.parametrize('std', [0.0, 0.2, 1.3])
@pytest.mark.parametrize('sched', [SCHED, cosine_schedule()], ids=['linear', 'cosine'])
def test_is_the_score_of_the_noised_density(std, sched):
    # checks (5.3), (5.6), (5.7)
    means, weights = normal(5, 2, 3, 4), torch.tensor([.1, .3, .2, .15, .25], dtype=torch.float64)
    t = torch.tensor([1, 40, 500, 1000])
    x_t = normal(4, 2, 3, 4, seed=1) + sched.signal_rate[t].reshape(-1, 1, 1, 1)*means[:4]
    got = GaussianMixture(7*weights, means, std, sched)(x_t, t)
    assert_close(got, by_gradient(weights, means, std, sched, x_t, t), rtol=1e-8, atol=1e-9)


def test_finite_data_is_a_mixture_of_points():
    images, x_t, t = normal(6, 1, 4, 5), normal(3, 1, 4, 5, seed=1), torch.tensor([3, 200, 900])
    assert_close(FiniteData(images, SCHED)(x_t, t), by_gradient(torch.ones(6, dtype=torch.float64), images, 0.0, SCHED, x_t, t), rtol=1e-8, atol=1e-9)


def test_one_step_for_all_and_the_dtype_of_the_image():
    oracle, x = GaussianMixture([1., 2.], normal(2, 3), 0.5, SCHED), normal(4, 3, seed=1)
    assert_close(oracle(x, 7), oracle(x, torch.full((4,), 7)), rtol=0, atol=0)
    assert oracle(x.float(), 7).dtype == torch.float32
    assert_close(oracle(x.float(), 7), oracle(x, 7).float(), rtol=1e-5, atol=1e-5)


def test_small_t_in_float32_keeps_its_digits():
    images = normal(50, 1, 28, 28).clamp(-1, 1)
    x = (SCHED.signal_rate[1]*images[3:4] + SCHED.noise_rate[1]*normal(1, 1, 28, 28, seed=5))
    assert_close(FiniteData(images, SCHED)(x.float(), 1).double(), normal(1, 1, 28, 28, seed=5), rtol=1e-3, atol=1e-3)


def test_sample_has_the_law():
    means = torch.tensor([[-1.], [2.]])
    x = GaussianMixture([1, 3], means, 0.1, SCHED).sample(20_000, torch.Generator().manual_seed(0))
    assert x.shape == (20_000, 1) and abs((x > 0.5).float().mean() - 0.75) < 4*(0.75*0.25/20_000)**0.5
    assert abs(x[x > 0.5].std() - 0.1) < 0.005


@pytest.mark.parametrize('call', [
    lambda: GaussianMixture([1, 0], torch.zeros(2, 3), 1, SCHED), lambda: GaussianMixture([1], torch.zeros(2, 3), 1, SCHED), lambda: GaussianMixture([1, 1], torch.zeros(2, 3), -1, SCHED),
    lambda: GaussianMixture([1, float('nan')], torch.zeros(2, 3), 1, SCHED), lambda: FiniteData(torch.zeros(0, 1, 2, 2), SCHED), lambda: FiniteData(torch.zeros(0, 1), SCHED), lambda: FiniteData(torch.full((1, 2), float('nan')), SCHED),
    lambda: GaussianMixture([1], torch.zeros(1, 3), 1, SCHED)(torch.zeros(2, 4), 5), lambda: GaussianMixture([1], torch.zeros(1, 3), 1, SCHED)(torch.zeros(2, 3), 0),
    lambda: GaussianMixture([1], torch.zeros(1, 3), 1, SCHED)(torch.zeros(2, 3), 1001),
])
def test_bad_input_is_named(call):
    with pytest.raises(ValueError, match='wanted'): call()


def test_bytes_are_no_images():
    with pytest.raises(TypeError, match='uint8'): FiniteData(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), SCHED)


@pytest.mark.parametrize('weights, means, std', [([1], torch.zeros(1, 3), True), ([1], torch.zeros(1, 3), '1'), ([1], torch.zeros(1, 3), None), ([1], object(), 1), ([1], 'abc', 1), (None, torch.zeros(1, 3), 1), (['a'], torch.zeros(1, 3), 1)])
def test_input_of_the_wrong_kind_is_named(weights, means, std):
    with pytest.raises(TypeError, match='wanted'): GaussianMixture(weights, means, std, SCHED)


def test_what_an_oracle_is_asked():
    oracle = GaussianMixture([1.], torch.zeros(1, 3), 1., SCHED)
    with pytest.raises(TypeError, match='sched wanted a Schedule'): GaussianMixture([1.], torch.zeros(1, 3), 1., 1000)
    for x_t in [[0.]*3], None, np.zeros((2, 3)), torch.zeros(2, 3, dtype=torch.complex64):
        with pytest.raises(TypeError, match='x_t wanted a floating-point tensor'): oracle(x_t, 5)
    for n in True, 1.5, '3':
        with pytest.raises(TypeError, match='^n wanted'): oracle.sample(n)
    for n in 0, -1:
        with pytest.raises(ValueError, match='^n wanted'): oracle.sample(n)
    with pytest.raises(ValueError, match='std'): GaussianMixture([1.], torch.zeros(1, 3), 1e200, SCHED)   # its square is infinite
    huge = GaussianMixture([1e308, 1e308, 1e308], torch.eye(3), 1., SCHED)                                # their sum is infinite
    assert_close(huge.weights, torch.full((3,), 1/3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_an_oracle_keeps_its_own_world():
    "Wrong program: `means.double()`, which for float64 is the caller's own memory."
    means, x = normal(2, 3), normal(4, 3, seed=1)
    oracle = GaussianMixture([1., 2.], means, 0.5, SCHED)
    before = oracle(x, 7)
    means.zero_()
    assert torch.equal(oracle(x, 7), before)


def test_the_callers_defaults_do_not_matter():
    means, x, t = normal(2, 3), normal(4, 3, seed=1), torch.tensor([1, 5, 500, 1000])
    def ask():
        g = torch.Generator('cpu').manual_seed(3)
        worlds = GaussianMixture([1., 2.], means, 0.5, SCHED), FiniteData(means, SCHED), GaussianMixture([1.], [[0.5]], 0.1, SCHED)
        return [worlds[0](x, t), worlds[1](x, 7), worlds[2](x[:, :1], 7), worlds[0].sample(5, g), worlds[2].sample(np.int64(2), g)]
    wanted, found = ask(), []
    for device in 'meta', 'cpu':
        with torch.device(device): found.append(ask())
    torch.set_default_dtype(torch.float64)
    try: found.append(ask())
    finally: torch.set_default_dtype(torch.float32)
    for other in found:
        for a, b in zip(wanted, other): assert torch.equal(a, b) and a.dtype == b.dtype
    assert wanted[3].dtype == torch.float32


@pytest.mark.parametrize('home', ['cpu', 'cuda'])
def test_an_oracle_goes_where_the_images_are_and_waits_for_nobody(home):
    "A make-believe GPU, whose tensors hold no numbers: to look at one is an error."
    oracle = GaussianMixture([1., 2.], normal(2, 3), 0.5, SCHED)
    with FakeTensorMode(allow_non_fake_inputs=True):
        oracle.means = oracle.means.to(home)
        x_t, t = torch.empty(4, 3, device='cuda'), torch.ones(4, dtype=torch.int64, device='cuda')
        for dtype in torch.float32, torch.bfloat16, torch.float64:
            eps_hat = oracle(x_t.to(dtype), t)
            assert eps_hat.device.type == 'cuda' and eps_hat.dtype == dtype
