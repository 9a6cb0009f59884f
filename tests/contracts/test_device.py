"Compiled networks, on the CPU and on a GPU; what only a GPU can show: no step waits, replayed graphs draw alike, a run goes on there."
import copy
from contextlib import contextmanager

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.cards import build
from ddpm_lesson.engine.muon import orthogonalise
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.sampler import ddim_sample, ddim_steps, ddpm_steps
from ddpm_lesson.schedule import cosine_schedule
from ddpm_lesson.train import Batch, Recipe, gradient_step
from ddpm_lesson.unet import UNet

SCHED, SHAPE = cosine_schedule(), (2, 3, 16, 16)


def model(device='cpu', **compiled):
    torch.manual_seed(0)
    net = UNet(3, 8, (1, 2), 1, (1,), 1)
    torch.nn.init.normal_(net.out.weight, std=0.05)          # else it says nothing at first, whatever it is given
    net = net.to(device)
    if compiled: net.compile(**compiled)
    return PredictsV(net, SCHED)


@contextmanager
def no_waiting():
    torch.cuda.set_sync_debug_mode('error')
    try: yield
    finally: torch.cuda.set_sync_debug_mode('default')


def test_a_compiled_network_draws_alike():
    want, got = (ddim_sample(m, SCHED, SHAPE, steps=3, eta=1.0, clip=(-1, 1), seeds=[3, 4]) for m in (model(), model(backend='aot_eager')))
    assert_close(got, want, rtol=0, atol=1e-4)
    assert (want[0] - want[1]).abs().max() > 0.1


@pytest.mark.cuda
@pytest.mark.parametrize('take, options', [(ddim_steps, dict(eta=0.0)), (ddim_steps, dict(eta=1.0, clip=(-1, 1))), (ddim_steps, dict(eta=1.0, seeds=[3, 4])), (ddpm_steps, dict(clip=(-1, 1)))])
def test_no_step_waits_for_the_gpu(take, options):
    walk = take(model('cuda'), SCHED, SHAPE, steps=10, **options)
    for _ in range(2): next(walk)                            # first calls load kernels
    with no_waiting():
        for _ in range(8): next(walk)


@pytest.mark.cuda
def test_no_training_step_waits_for_the_gpu():
    card, data = preset_card('laptop', bundled_fashion(), steps=30, width=8, mults='1,2', attend='1', precision='float32')
    walk = Run(card, data, 'cuda').steps()
    for _ in range(6): next(walk)                            # the first calls load kernels, the fourth is recorded
    with no_waiting():
        for _ in range(10): next(walk)


def cut(x):
    "What a TF32 convolution reads of a float32: 10 bits of the mantissa, the other 13 dropped. A relative error below 2^-10."
    return (x.contiguous().view(torch.int32) & -2**13).view(torch.float32)


@torch.no_grad()
def in_tf32(net):
    "The network with the weights and inputs of all its convolutions cut, as a GPU's tensor cores cut them."
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.weight.copy_(cut(part.weight))
            part.register_forward_pre_hook(lambda _, given: (cut(given[0]),))
    return net


def drawn_exactly():
    """The images in full float32 on the CPU, and how far from them TF32 convolutions may lie.

    Measured here by cutting, 0.0017: a run that rounds instead makes about two thirds of that error, so twice it is allowed.
    Two correct runs differ by at most twice what is allowed; 0.00126 was seen between an eager and a graphed run on an H200.
    """
    exact, rough = (ddim_sample(m, SCHED, SHAPE, steps=6, seeds=[3, 4]) for m in (model(), in_tf32(model())))
    return exact, 2*(rough - exact).abs().max().item()


def test_what_tf32_may_cost():
    "Far more than float32 loses, far less than one image differs from another: a graph that replays the wrong image is caught."
    exact, allowed = drawn_exactly()
    again = ddim_sample(model(backend='aot_eager'), SCHED, SHAPE, steps=6, seeds=[3, 4])
    assert (again - exact).abs().max() < 0.02*allowed < allowed < 0.01*(exact[0] - exact[1]).abs().max()


@pytest.mark.cuda
@pytest.mark.parametrize('compiled', [{}, dict(mode='reduce-overhead')], ids=['eager', 'graphs'])
def test_replayed_graphs_draw_alike(compiled):
    "Each is compared with the exact images, not with the other: cuDNN may choose other TF32 kernels for each."
    exact, allowed = drawn_exactly()
    got = ddim_sample(model('cuda', **compiled), SCHED, SHAPE, steps=6, seeds=[3, 4])
    assert_close(got.cpu(), exact, rtol=0, atol=allowed)


@pytest.mark.cuda
def test_a_run_goes_on_on_the_gpu(tmp_path):
    card, data = preset_card('laptop', bundled_fashion(), steps=8, width=8, mults='1,2', attend='1', precision='float32')
    run = Run(card, data, 'cuda')
    for step, _ in run.steps():
        if step == 4: run.save(tmp_path/'half.safetensors')
    again = Run(card, data, 'cuda').load(tmp_path/'half.safetensors')
    for _ in again.steps(): pass
    for k, v in again.state().items(): assert_close(v, run.state()[k], rtol=1e-3, atol=1e-5)


# ---- another device, without one: PyTorch's fake tensors have a device and no memory, and refuse to mix two

NETWORKS = [dict(channels=1, width=8, mults=[1, 2], classes=3, blocks=1, scale_shift=True), dict(kind='posit_unet', channels=1, width=8, mults=[1, 2], depth=1), dict(kind='simple', channels=1, width=8, levels=2),
            dict(kind='dit', channels=1, width=8, layers=1, heads=2, patch=4, classes=3)]


class NoFloat64(TorchDispatchMode):
    "What an Apple GPU would do: no number of float64 ever leaves the CPU."
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for v in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(v, torch.Tensor) and v.dtype == torch.float64 and v.device.type == 'cuda': raise TypeError(f'float64 on the device: {func}')
        return out


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('target', ['eps', 'x_0', 'v'])
@pytest.mark.parametrize('network', NETWORKS, ids=['ours', 'S1', 'S2', 'DiT'])
def test_labels_and_every_wrapper_follow_the_model(network, target, dtype):
    "Rejects labels, rates or tables that stay behind, a clock in float32 before weights in bfloat16, and float64 on the device."
    fresh, y = lambda: build(dict(network=network, schedule=dict(name='linear', T=50), target=target))[0].to(dtype), torch.tensor([0, 2])
    wrapped = [wrap(fresh(), y) for wrap in (Labelled, Guided)] if network.get('classes') else [fresh()]
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), NoFloat64():
        x, t = torch.randn(2, 1, 8, 8, device='cuda'), torch.tensor([1, 50], device='cuda')
        for m in wrapped:
            m.to('cuda')
            for step in t, 50:
                said = m(x, step)
                assert said.device.type == 'cuda' and said.dtype == torch.float32 and said.shape == x.shape
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.randn(2, 3, device='cuda')
        with pytest.raises(Exception, match='device'): torch.tensor([0.]) + x[0] @ x.T      # the test can fail: nothing is moved silently
        with NoFloat64(), pytest.raises(TypeError, match='float64'): x.double()


def test_labels_given_before_the_model_moves_move_with_it():
    late = Labelled(model_with_labels := build(dict(network=NETWORKS[0], schedule=dict(name='linear', T=50), target='v'))[0], [0, 2])
    assert late.y.dtype == torch.int64 and late.to('meta').y.is_meta and model_with_labels.net.out.weight.is_meta
    assert Labelled(model_with_labels, torch.tensor([0, 2])).y.is_meta   # and labels made on the CPU go to a model that has moved


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('network', NETWORKS, ids=['ours', 'S1', 'S2', 'DiT'])
def test_weights_of_another_dtype_say_nearly_the_same(network, dtype):
    "Rejects rates or a table of noise levels rounded to the weights' dtype: S1's clock turns a thousand times while the noise goes from 0 to 1."
    torch.manual_seed(0)
    card = dict(network=network, schedule=dict(name='linear', T=1000), target='x_0')
    usual = build(card)[0]
    for p in usual.parameters(): torch.nn.init.normal_(p, std=0.1)
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([1, 20, 501, 1000])
    with torch.no_grad(): want, got = usual(x, t), copy.deepcopy(usual).to(dtype)(x, t)
    limit = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float64: 2**-24}[dtype]     # half a unit in the last place of the coarser
    assert got.dtype == torch.float32 and ((got - want).norm()/want.norm()).item() < 10*limit


def test_a_device_without_autocast_learns_and_turns_all_the_same():
    "Rejects `torch.autocast` switched off on a device for which torch has none, as torch 2.4 on Apple's GPU."
    with pytest.raises(RuntimeError): torch.autocast('meta', torch.bfloat16, enabled=False)
    assert orthogonalise(torch.zeros(1, 3, 5, device='meta')).shape == (1, 3, 5)
    net, x_0 = UNet(1, 8, (1,), 1, (), 1).to('meta'), torch.zeros(2, 1, 8, 8, device='meta')
    batch = Batch(x_0, torch.tensor([1, 2]), torch.zeros_like(x_0))
    assert gradient_step(net, SCHED, torch.optim.SGD(net.parameters(), 0.1), Recipe(batch=2), batch).is_meta
