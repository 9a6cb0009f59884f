"What comes to the door of forward process, posterior and conversions, and what is said of it."
import threading
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from conftest import normal
from ddpm_lesson.checks import (
    as_tensor,
    autocast,
    being_recorded,
    check_float,
    check_function,
    check_known,
    check_number,
    check_pair,
    check_shown,
    check_sizes,
    check_t,
    from_elsewhere,
    moved_to,
    own_copy,
    real_numbers,
    seeded,
    torch_defaults,
    whole_numbers,
)
from ddpm_lesson.data import to_pixels
from ddpm_lesson.edit import masked
from ddpm_lesson.forward import q_sample, q_step
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.loss import mean_square
from ddpm_lesson.oracle import FiniteData, GaussianMixture
from ddpm_lesson.posterior import (
    eps_from_v,
    eps_from_x_0,
    posterior_mean,
    posterior_var,
    v_from_eps,
    x_0_from_eps,
    x_0_from_v,
)
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import Schedule, linear_schedule

BAD = [
    (dict(t=1001), ValueError, '1000'), (dict(t=-1), ValueError, 'got -1'), (dict(t=torch.tensor([1, 5000])), ValueError, '5000'), (dict(t=torch.tensor([1, 2, 3])), ValueError, 'one step for each image'),
    (dict(t=1.0), TypeError, 'int'), (dict(t=torch.tensor([1., 2.])), TypeError, 'float32'), (dict(t=True), TypeError, 'bool'), (dict(t='1'), TypeError, 'str'),
    (dict(a=torch.zeros(2, 3, dtype=torch.uint8)), TypeError, 'uint8'), (dict(a=torch.zeros(2, 3, dtype=torch.int64)), TypeError, 'int64'), (dict(b=torch.zeros(2, 4)), ValueError, 'one shape'),
    (dict(b=torch.zeros(1, 3)), ValueError, 'one shape'), (dict(a=torch.tensor(1.), b=torch.tensor(1.)), ValueError, 'batch'), (dict(b=[1, 2]), TypeError, 'list'),
]


@pytest.mark.parametrize('wrong, error, said', BAD, ids=[str(i) for i in range(len(BAD))])
@pytest.mark.parametrize('f', [q_sample, q_step, posterior_mean, x_0_from_eps, eps_from_x_0, v_from_eps, eps_from_v, x_0_from_v])
def test_bad_input_is_named(f, wrong, error, said):
    given = dict(a=torch.zeros(2, 3), b=torch.ones(2, 3), t=5) | wrong
    with pytest.raises(error, match=said):
        f(linear_schedule(), given['a'], given['t'], given['b']) if f in (q_sample, q_step) else f(linear_schedule(), given['a'], given['b'], given['t'])


NAMES = {q_sample: 'x_0', q_step: 'x_s', posterior_mean: 'x_t', x_0_from_eps: 'x_t', eps_from_x_0: 'x_t', v_from_eps: 'x_0', eps_from_v: 'x_t', x_0_from_v: 'x_t'}
OTHERS = {posterior_mean: 'x_0', eps_from_x_0: 'x_0', eps_from_v: 'v', x_0_from_v: 'v'}


@pytest.mark.parametrize('f', NAMES)
def test_errors_call_each_batch_by_its_name(f):
    "An error about x_0 that says x_t sends the reader to the wrong line."
    good, wrong, (a, b) = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), (NAMES[f], OTHERS.get(f, 'eps'))
    call = (lambda a, b: f(linear_schedule(), a, 5, b)) if f in (q_sample, q_step) else (lambda a, b: f(linear_schedule(), a, b, 5))
    with pytest.raises(TypeError, match=rf'^{a} wanted a floating.*got torch.int64$'): call(wrong, good)
    with pytest.raises(TypeError, match=f'^{b} wanted a floating'): call(good, wrong)
    with pytest.raises(TypeError, match=f'^{b} wanted a floating.*got list$'): call(good, [[1.0]])
    with pytest.raises(ValueError, match=rf'^{a} and {b} wanted one shape, got \(2, 3\) and \(1, 3\)$'): call(good, good[:1])
    with pytest.raises(ValueError, match=f'^{a} wanted a batch'): call(good[0, 0], good[0, 0])


def test_check_pair_names_what_it_is_not_told():
    with pytest.raises(ValueError, match='^x_t and eps wanted'): check_pair(torch.zeros(2), torch.zeros(3))


def test_check_t():
    assert check_t(torch.tensor([1, 2], dtype=torch.int32), 5).dtype == check_t(3, 5).dtype == torch.int64
    assert check_t(torch.tensor(3), 5, B=2).shape == check_t(5, 5, B=1).shape == () and check_t(0, 5) == 0
    assert check_t(torch.tensor([1, 5]), 5, low=1).tolist() == [1, 5] and check_t(torch.tensor([], dtype=torch.int64), 5, B=0).shape == (0,)
    assert check_t(torch.tensor([1, 2, 3]), 5).shape == (3,)
    for t in torch.tensor(True), torch.tensor([1j]), torch.tensor(2.0), False, 2.0, None, [1]:
        with pytest.raises(TypeError, match='^t wanted'): check_t(t, 5)
    for t in -1, 6, torch.tensor([0, 6]), torch.tensor([-1, 5]), torch.tensor(6):
        with pytest.raises(ValueError, match=r'^t wanted 0\.\.5'): check_t(t, 5)
    with pytest.raises(ValueError, match='t >= 2'): check_t(1, 5, low=2)
    for t in torch.tensor([1, 2]), torch.tensor([[1]]):
        with pytest.raises(ValueError, match=r'shape \(1,\)'): check_t(t, 5, B=1)


def test_steps_of_numpy_are_steps():
    "A wrong program: one that takes Python's and torch's whole numbers only."
    for t in np.int64(3), np.uint8(3), np.array(3): assert check_t(t, 5) == 3
    for kind in np.int16, np.uint16, np.int64, np.uint64: assert check_t(np.array([1, 5], dtype=kind), 5, B=2).tolist() == [1, 5]
    x, eps, sched = normal(2, 3), normal(2, 3, seed=1), linear_schedule()
    assert torch.equal(q_sample(sched, x, np.array([1, 900]), eps), q_sample(sched, x, torch.tensor([1, 900]), eps))
    for t in np.bool_(True), np.float64(3), np.array([1.5]), np.array(['1']), np.array([None]):
        with pytest.raises(TypeError, match='^t wanted'): check_t(t, 5)
    for t in 2**63, 10**400, -10**400, np.uint64(2**64 - 1):
        with pytest.raises(ValueError, match=r'^t wanted 0\.\.5: .*, got '): check_t(t, 5)
    with pytest.raises(ValueError, match=r'got -1000\.\.-1000$'): check_t(-1000, 5)   # named as it came, unless no int64 holds it


def every_call(sched, x, t): return [
    q_sample(sched, x, t, x), q_step(sched, x, t, x), posterior_mean(sched, x, x, t), posterior_var(sched, t), x_0_from_eps(sched, x, x, t),
    eps_from_x_0(sched, x, x, t), v_from_eps(sched, x, x, t), eps_from_v(sched, x, x, t), x_0_from_v(sched, x, x, t)]


def test_a_default_device_changes_nothing():
    "A wrong program: a step that becomes a tensor on the default device, and a table looked up there."
    sched, x = linear_schedule(), normal(2, 3)
    here = every_call(sched, x, 5)
    try:
        torch.set_default_device('meta')
        there = every_call(sched, x, 5)
    finally: torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_images_on_meta_give_shapes_without_numbers():
    "Shape inference, and networks too large to load, use this device."
    x = torch.zeros(2, 3, device='meta')
    assert {y.device.type for y in every_call(linear_schedule(), x, 5) if y.ndim} == {'meta'}


@pytest.mark.parametrize('sched', [DDPMScheduler(), torch.linspace(1e-4, 0.02, 1000), None], ids=['diffusers', 'betas', 'nothing'])
def test_what_is_no_schedule_is_named(sched):
    "A wrong program: AttributeError from inside, no attribute 'alpha_bar'."
    x = normal(2, 3)
    for f in q_sample, q_step, posterior_mean, x_0_from_eps, eps_from_x_0, v_from_eps, eps_from_v, x_0_from_v:
        args = (sched, x, 5, x) if f in (q_sample, q_step) else (sched, x, x, 5)
        with pytest.raises(TypeError, match=f'^sched wanted a Schedule.*got {type(sched).__name__}'): f(*args)
    with pytest.raises(TypeError, match='^sched wanted a Schedule'): posterior_var(sched, 5)
    with pytest.raises(TypeError, match='^x_0 wanted a floating-point tensor.*got Schedule$'): q_sample(x, linear_schedule(), 5, x)


@pytest.mark.parametrize('kind', [list, tuple, iter, np.array, torch.tensor], ids=['list', 'tuple', 'iterator', 'numpy', 'torch'])
def test_whole_numbers_are_python_ints_afterwards(kind):
    got = whole_numbers(kind([3, 1]), 'wanted')
    assert got == [3, 1] and {type(n) for n in got} == {int}


@pytest.mark.parametrize('wrong', [7, [1.0], [True], np.array([True]), torch.tensor([True]), np.zeros((2, 2), int), torch.zeros(2, 2, dtype=torch.int64), torch.tensor(3), ['1'], None, {3, 1}, {3: 1}], ids=lambda _: '')
def test_what_is_no_list_of_whole_numbers_is_named(wrong):
    with pytest.raises(TypeError, match=r'^steps wanted a list, got '): whole_numbers(wrong, 'steps wanted a list')


def test_sizes_are_whole_and_at_least_1():
    check_sizes(1, np.int64(3), name='UNet')
    with pytest.raises(TypeError, match=r'^UNet wanted whole numbers, got'): check_sizes(1, 2.0, name='UNet')
    with pytest.raises(ValueError, match=r'^UNet wanted numbers >= 1, got \(1, 0\)$'): check_sizes(1, 0, name='UNet')


def test_labels_that_a_network_knows():
    "The number of classes stands for no label; where none are known, or the labels are elsewhere, nothing is asked."
    for y in [0, 1, 2, 3], [3, 3], [0], []: check_known(torch.tensor(y, dtype=torch.int64), 3)
    for y in [0, 4], [4], [-1], [-1, 2]:
        with pytest.raises(ValueError, match=rf'^labels wanted 0..2, or 3 for none, got {min(y)}..{max(y)}$'): check_known(torch.tensor(y), 3)
    for known in None, 0: check_known(torch.tensor([7]), known)
    check_known(None, 3)
    check_known(torch.zeros(2, dtype=torch.int64, device='meta'), 3)


def test_bytes_are_told_the_way():
    with pytest.raises(TypeError, match=r'^x wanted a floating-point tensor, got torch.uint8, so there; `to_unit` makes images of bytes$'): check_float(torch.zeros(2, dtype=torch.uint8), 'x', ', so there')
    with pytest.raises(TypeError, match=r'^x wanted a floating-point tensor, got list$'): check_float([1.0], 'x')


def test_the_callers_defaults_are_lent_and_given_back():
    "Rejects a table in the caller's float64, on the caller's device, or without gradients; and a caller left in ours."
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device('meta')
        with torch.inference_mode():
            with torch_defaults():
                with torch_defaults(): x = torch.ones(2, requires_grad=True)*2
                assert torch.ones(2).dtype == x.dtype == torch.float32 and x.device.type == 'cpu'
                assert x.requires_grad and not x.is_inference()
            after = torch.ones(2)
            assert after.dtype == torch.float64 and after.is_meta and after.is_inference()
        with pytest.raises(KeyError), torch_defaults(): raise KeyError
        assert torch.ones(2).dtype == torch.float64
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def test_the_last_thread_to_leave_gives_the_dtype_back():
    "Rejects the first that leaves taking float32 from the others, and the second that enters taking float32 for the caller's."
    inside, leave = threading.Event(), threading.Event()
    def stay():
        with torch_defaults():
            inside.set()
            leave.wait(60)
    torch.set_default_dtype(torch.float64)
    try:
        with torch_defaults():
            other = threading.Thread(target=stay)
            other.start()
            assert inside.wait(60)
        assert torch.get_default_dtype() == torch.float32    # the other is still inside
        leave.set()
        other.join(60)
        assert torch.get_default_dtype() == torch.float64
    finally: torch.set_default_dtype(torch.float32)


def read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize('kind', [lambda a: a[::-1].copy()[::-1], lambda a: a.astype(a.dtype.newbyteorder()), read_only], ids=['backwards', 'of another machine', 'read-only'])
def test_an_array_of_any_memory_is_its_numbers(kind):
    "Rejects 'wanted numbers, got array' of numbers that lie backwards, and a warning of torch's."
    sched, x = linear_schedule(20), normal(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert torch.equal(q_sample(sched, x, kind(np.array([9, 1])), x), q_sample(sched, x, torch.tensor([9, 1]), x))
        assert Schedule(kind(np.array([0, .3, .5]))).beta.tolist() == [0, .3, .5]
        assert Labelled(lambda x_t, t, y: x_t, kind(np.array([2, 0]))).y.tolist() == [2, 0]
        assert real_numbers(kind(np.array([.5, .25])), 'a flow time').tolist() == [.5, .25]
        assert GaussianMixture(kind(np.array([1., 3.])), x, 0.1, sched).weights.tolist() == [.25, .75]


@pytest.mark.parametrize('make, came', [(torch.Tensor.to_sparse, 'torch.sparse_coo'), (lambda x: torch.nested.nested_tensor([*x]), 'a nested one'), (lambda x: torch.nested.nested_tensor([*x], layout=torch.jagged), 'a nested one')], ids=['sparse', 'nested', 'jagged'])
def test_what_has_no_plain_memory_is_named(make, came):
    "Rejects torch's own words from inside: it has no such operator for them."
    sched, x = linear_schedule(20), normal(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # such tensors are a prototype
        odd = make(x)
    for call in lambda: q_sample(sched, odd, 5, odd), lambda: ddim_sample(lambda x, t: x, sched, (2, 3), steps=2, x_T=odd), lambda: ddim_sample(lambda x, t: odd, sched, (2, 3), steps=2), lambda: FiniteData(x, sched)(odd, 5), lambda: mean_square(odd, x), lambda: masked(torch.ones(3))(odd), lambda: to_pixels(odd):
        with pytest.raises(TypeError, match=f'wanted a floating-point tensor, got {came}'): call()


def test_what_has_moved_is_found_where_it_is():
    find = moved_to('ddpm_lesson.old', 'forward', 'posterior', silent=('q_step',))
    with pytest.warns(DeprecationWarning, match=r'^posterior_var is in ddpm_lesson.posterior now$') as seen: assert find('posterior_var') is posterior_var
    assert seen[0].filename == __file__ and len(seen) == 1
    with pytest.warns(DeprecationWarning, match=r'^q_sample is in ddpm_lesson.forward now$'): assert find('q_sample') is q_sample
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert find('q_step') is q_step
    for name in 'nothing', '__path__', '_private':
        with pytest.raises(AttributeError, match=rf"^module 'ddpm_lesson.old' has no attribute '{name}'$"): find(name)


def test_a_name_of_ours_that_is_private_does_not_move():
    with pytest.raises(AttributeError): moved_to('old', 'checks')('_index')


class Scheduler:
    def add_noise(self): pass


class Tables: alphas_cumprod = torch.ones(2)


class Answer: sample = torch.ones(2)


class Lucid: pass


Lucid.__module__ = 'denoising_diffusion_pytorch.somewhere'


@pytest.mark.parametrize('x, name', [
    (DDPMScheduler(), 'from_diffusers'), (Scheduler(), 'from_diffusers'), (Tables(), 'from_diffusers'), (Answer(), 'from_diffusers'), (dict(num_train_timesteps=5), 'from_diffusers'),
    (dict(_diffusers_version='1'), 'from_diffusers'), (Lucid(), 'from_lucidrains'), (Scheduler, ''), ({}, ''), ({'x': 1}, ''), (linear_schedule(), ''), (torch.nn.Identity(), ''), (len, ''), (None, '')])
def test_objects_of_other_libraries_are_known(x, name):
    assert from_elsewhere(x) == (f'; ddpm_lesson.dialects.{name} translates' if name else '')


# ---- what a network is shown

WEIGHT, IMAGES = torch.zeros(2, 3), torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize('wrong, error, said', [
    (dict(x_t=IMAGES.long()), TypeError, '^x_t wanted a floating-point tensor, got torch.int64'), (dict(x_t=IMAGES.double()), TypeError, '^x_t wanted torch.float32 on cpu, as the weights are, got torch.float64 on cpu$'),
    (dict(x_t=IMAGES.to('meta')), TypeError, 'got torch.float32 on meta$'), (dict(x_t=IMAGES[:, :2]), ValueError, r'^x_t wanted shape \(B, 3, H, W\), got \(2, 2, 4, 5\)$'), (dict(x_t=IMAGES[0]), ValueError, r'got \(3, 4, 5\)$'),
    (dict(x_t=IMAGES[None]), ValueError, r'got \(1, 2, 3, 4, 5\)$'), (dict(x_t=IMAGES, ndim=2), ValueError, r'^x_t wanted shape \(B, 3\), got \(2, 3, 4, 5\)$'),
    (dict(t=5), ValueError, r'^t wanted one step for each image, shape \(2,\), got 5$'), (dict(t=torch.tensor([5])), ValueError, r'shape \(2,\), got \(1,\)$'), (dict(t=[1, 2]), ValueError, r'got .1, 2.$'),
    (dict(t=torch.zeros(2, 1)), ValueError, r'got \(2, 1\)$'),
])
def test_what_a_network_can_not_be_shown_is_named(wrong, error, said):
    with pytest.raises(error, match=said): check_shown(**dict(x_t=IMAGES, t=torch.tensor([1, 2]), channels=3, weight=WEIGHT) | wrong)


def test_what_a_network_can_be_shown():
    "Rejects a check that sees no autocast, and one that takes weights without memory for another device."
    t = torch.tensor([1, 2])
    check_shown(IMAGES, t, 3, WEIGHT)
    check_shown(IMAGES[:, :, 0, 0], t, 3, WEIGHT, ndim=2)
    check_shown(IMAGES.to('meta'), t, 3, WEIGHT.to('meta'))
    with autocast('cpu', True): check_shown(IMAGES.double(), t, 3, WEIGHT)
    with autocast('cpu', False), pytest.raises(TypeError, match='float64'): check_shown(IMAGES.double(), t, 3, WEIGHT)


@pytest.mark.parametrize('y, came', [(torch.tensor([1]), r'\(1,\) torch.int64'), (torch.tensor([1., 2.]), r'\(2,\) torch.float32'), ([1, 2], r'.1, 2.'), (5, '5')])
def test_labels_are_one_an_image(y, came):
    with pytest.raises(TypeError, match=f'^labels wanted a tensor of 2 whole numbers, one an image, got {came}$'): check_known(y, 3, 2)


def test_labels_that_are_not_looked_at():
    "No label, a network that knows none, no label for no image, and one compiled."
    for y, known in (None, 3), (torch.tensor([9]), None), (torch.tensor([9]), 0), (torch.zeros(0).long(), 3): check_known(y, known)
    check_known(torch.tensor([0, 3]), 3, 2)
    check_known(None, 3, 2)
    with pytest.raises(TypeError, match=r"^classes of a network wanted a whole number, got 'two'"): check_known(torch.tensor([0]), 'two')


def test_a_seed_is_any_whole_number_that_torch_takes():
    "Rejects a stream of another seed, and a generator where the default device is."
    draw = lambda generator: torch.rand(3, generator=generator, device='cpu')
    with torch.device('meta'): ours = seeded(np.int64(7))
    assert torch.equal(draw(ours), draw(torch.Generator().manual_seed(7))) and ours.device.type == 'cpu'
    for edge in 2**63 - 1, -2**63: assert seeded(edge).initial_seed() == edge % 2**64
    for wrong, said in (2**63, 'at most'), (-2**63 - 1, 'at least'), (1.5, 'a whole number, got 1.5'), ('7', "got '7'"):
        with pytest.raises((ValueError, TypeError), match=f'^seed wanted .*{said}'): seeded(wrong)


def test_autocast_is_to_bfloat16_or_off():
    "Rejects one that leaves the caller's on, and one that meets a device without any."
    with autocast('cpu', True): assert torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu') == torch.bfloat16
    with torch.autocast('cpu', torch.float16), autocast(torch.device('cpu'), True): assert torch.get_autocast_dtype('cpu') == torch.bfloat16
    with torch.autocast('cpu', torch.bfloat16), autocast('cpu', False): assert not torch.is_autocast_enabled('cpu')
    assert isinstance(autocast('meta', False), nullcontext)
    with pytest.raises(RuntimeError, match='autocast'): autocast('meta', True)


def test_what_can_not_be_looked_at():
    assert not being_recorded(IMAGES)
    seen = []
    torch.vmap(lambda x: (seen.append(being_recorded(x)), x)[1])(IMAGES)
    assert seen == [True]
    assert torch.compile(lambda x: x + being_recorded(x), backend='eager')(torch.zeros(1)).item() == 1


@pytest.mark.parametrize('x, said', [(np.True_, 'number'), (np.complex64(1), 'number'), (1j, 'number'), (torch.tensor(1j), 'number'), ('1', 'number'), (b'1', 'number'), (True, 'number'), (torch.tensor(True), 'number'), (np.array(True), 'number')])
def test_what_is_no_number_is_named(x, said):
    with pytest.raises(TypeError, match=f'^x wanted a {said}'): check_number(x, 'x')


def test_numbers_stay_where_they_are():
    "Rejects a copy to the CPU, one to the default device, and an error that forgets what was wanted."
    assert real_numbers(torch.zeros(2, device='meta'), 'x').device.type == 'meta'
    with torch.device('meta'): assert real_numbers([1, 2], 'x').device.type == 'cpu'
    assert real_numbers([1, 2], 'x', device='meta').device.type == 'meta'
    with pytest.raises(TypeError, match='^labels wanted many, got 5$'): whole_numbers(5, 'labels wanted many')


def test_a_copy_may_be_learned_from():
    with torch.inference_mode(): kept = own_copy(torch.zeros(2))
    assert not kept.is_inference()


def test_a_function_is_not_the_class_of_one():
    for wrong in torch.nn.MSELoss, 'mse', None:
        with pytest.raises(TypeError, match='^distance wanted a function, got '): check_function(wrong, 'distance')
    assert check_function(abs, 'f') is abs


def test_an_array_is_its_numbers_whatever_its_order():
    x = np.arange(6., dtype='>f8').reshape(2, 3)
    for way in x, x[::-1], np.asfortranarray(x):
        assert as_tensor(way).tolist() == way.tolist() and as_tensor(way).is_contiguous()
    assert as_tensor(np.float64(3)).item() == 3
