"The network against a second one, written with nothing but torch's functions and the names of the weights."
import inspect
import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import normal
from ddpm_lesson.dit import DiT
from ddpm_lesson.engine.published import PositUNet, SimpleUNet
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.unet import (
    Attention,
    Down,
    ResBlock,
    ScaledBlock,
    Stage,
    UNet,
    Up,
    count_parameters,
    norm,
    time_embedding,
    zeroed,
)

SHAPES = [
    dict(channels=2, width=8, mults=(1, 2, 3), blocks=1, attend=(1,), patch=1),
    dict(channels=1, width=16, mults=(2, 1), blocks=2, attend=(0, 1), patch=2, classes=3, scale_shift=True),
    dict(channels=3, width=4, mults=(1,), blocks=1, attend=(), patch=3),
]

NETWORKS = {
    'UNet': lambda: UNet(3, width=8),
    'DiT': lambda: DiT(3, width=8, layers=1, heads=1),
    'PositUNet': lambda: PositUNet(linear_schedule(10), width=8, mults=(1, 2), depth=1),
    'SimpleUNet': lambda: SimpleUNet(width=8, levels=2),
}


def stirred(net, seed=0):
    "The same network with every weight random, those that start at zero too."
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters(): p.data = torch.randn(p.shape, generator=g)*(0.3 if p.ndim > 1 else 0.5)
    return net.eval()


def groups_of(c):
    "As many groups as the lesson says: up to 32, a power of two, at least 4 channels in each."
    return max([g for g in (32, 16, 8, 4, 2) if c % g == 0 and c//g >= 4], default=1)


class Second:
    "The network again, from its weights: (x_t, t, y) -> (B, C, H, W)."
    def __init__(self, weights, channels, width, mults, blocks, attend, patch, classes=0, scale_shift=False):
        self.w, self.width, self.mults, self.blocks, self.attend = weights, width, mults, blocks, attend
        self.patch, self.classes, self.scaled = patch, classes, scale_shift

    def normed(self, name, x): return F.group_norm(x, groups_of(x.shape[1]), self.w[f'{name}.weight'], self.w[f'{name}.bias'], eps=1e-6)
    def conv(self, name, x, **how): return F.conv2d(x, self.w[f'{name}.weight'], self.w[f'{name}.bias'], **how)
    def linear(self, name, x): return F.linear(x, self.w[f'{name}.weight'], self.w[f'{name}.bias'])

    def block(self, name, x, emb):
        h, told = self.conv(f'{name}.conv1', F.silu(self.normed(f'{name}.norm1', x)), padding=1), self.linear(f'{name}.emb', F.silu(emb))
        told = told.reshape(*told.shape, 1, 1)
        if self.scaled:
            factor, shift = told[:, :h.shape[1]], told[:, h.shape[1]:]
            h = self.normed(f'{name}.norm2', h)*(1 + factor) + shift
        else: h = self.normed(f'{name}.norm2', h + told)
        kept = self.conv(f'{name}.skip', x) if f'{name}.skip.weight' in self.w else x
        return kept + self.conv(f'{name}.conv2', F.silu(h), padding=1)

    def look(self, name, x):
        B, C, H, W = x.shape
        q, k, v = self.conv(f'{name}.qkv', self.normed(f'{name}.norm', x)).reshape(B, 3, C, H*W).unbind(1)
        share = torch.softmax(q.transpose(1, 2) @ k/math.sqrt(C), dim=2)
        return x + self.conv(f'{name}.out', (v @ share.transpose(1, 2)).reshape(B, C, H, W))

    def stage(self, name, x, emb, looks):
        x = self.block(f'{name}.block', x, emb)
        return self.look(f'{name}.attend', x) if looks else x

    def __call__(self, x_t, t, y=None):
        half = self.width//2
        angle = t.float()[:, None]*1e4**(-torch.arange(half)/(half - 1))
        emb = self.linear('time.2', F.silu(self.linear('time.0', torch.cat([angle.sin(), angle.cos()], 1))))
        if self.classes: emb = emb + self.w['label.weight'][torch.full_like(t, self.classes) if y is None else y]
        x = self.conv('stem', F.pixel_unshuffle(x_t, self.patch), padding=1)
        kept, i = [x], 0
        for level in range(len(self.mults)):
            if level:
                x = self.conv(f'down.{i}.conv', x, stride=2, padding=1)
                kept, i = kept + [x], i + 1
            for _ in range(self.blocks):
                x = self.stage(f'down.{i}', x, emb, level in self.attend)
                kept, i = kept + [x], i + 1
        x, i = self.block('mid.1', self.stage('mid.0', x, emb, True), emb), 0
        for level in reversed(range(len(self.mults))):
            for _ in range(self.blocks + 1):
                x, i = self.stage(f'up.{i}', torch.cat([x, kept.pop()], 1), emb, level in self.attend), i + 1
            if level: x, i = self.conv(f'up.{i}.conv', F.interpolate(x, kept[-1].shape[2:]), padding=1), i + 1
        return F.pixel_shuffle(self.conv('out', F.silu(self.normed('norm', x)), padding=1), self.patch)


@pytest.mark.parametrize('how', SHAPES, ids=str)
@pytest.mark.parametrize('labelled', [False, True])
def test_the_network_is_the_second_network(how, labelled):
    "Rejects a skip joined to the wrong level, a norm or swish left out, a block too few, attention where it does not belong."
    net, side = stirred(UNet(**how)), 6*how['patch']
    x_t, t = normal(3, how['channels'], side, 7*how['patch'], dtype=torch.float32), torch.tensor([1, 40, 1000])
    y = torch.tensor([2, 0, 1]) if labelled and how.get('classes') else None
    with torch.no_grad(): ours, theirs = net(x_t, t, y), Second(net.state_dict(), **how)(x_t, t, y)
    assert ours.shape == x_t.shape and ours.std() > 0.1
    assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_no_label_is_the_last_label():
    net, x_t, t = stirred(UNet(**SHAPES[1])), normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([3, 500])
    with torch.no_grad(): assert torch.equal(net(x_t, t), net(x_t, t, torch.tensor([3, 3])))


@pytest.mark.parametrize('channels', [1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 96, 128, 192, 256])
def test_groups_of_a_norm(channels):
    made = norm(channels)
    assert (made.num_groups, made.num_channels, made.eps) == (groups_of(channels), channels, 1e-6)


def test_the_clock_by_hand():
    t = torch.tensor([0.0, 1.0, 250.0])
    for dim, period in (4, 100.0), (6, 1e4):
        wanted = [[f(s*period**(-i/(dim//2 - 1))) for f in (math.sin, math.cos) for i in range(dim//2)] for s in t.tolist()]
        assert_close(time_embedding(t, dim, period), torch.tensor(wanted), rtol=1e-4, atol=1e-4)
    assert torch.equal(time_embedding(t, 8), time_embedding(t, 8, 1e4))
    assert time_embedding(torch.tensor([5]), 4).dtype == torch.float32
    for dim in 0, 2, 3, 5, -4:
        with pytest.raises(ValueError, match='dim wanted an even number'): time_embedding(t, dim)


@pytest.mark.parametrize('block', [ResBlock, ScaledBlock])
def test_a_block_starts_as_what_carries_over(block):
    "Rejects a last convolution that does not start at zero, and a 1x1 convolution where none is needed."
    x, emb = normal(2, 8, 5, 5, dtype=torch.float32), normal(2, 12, dtype=torch.float32)
    assert torch.equal(block(8, 8, 12)(x, emb), x)
    wider = block(8, 16, 12)
    assert_close(wider(x, emb), F.conv2d(x, wider.skip.weight, wider.skip.bias))
    assert wider.skip.kernel_size == (1, 1) and isinstance(block(8, 8, 12).skip, torch.nn.Identity)


@pytest.mark.parametrize('block', [ResBlock, ScaledBlock])
def test_dropout_drops_before_the_last_convolution_and_only_in_training(block):
    made = stirred(block(8, 8, 12, 0.5))
    x, emb = normal(2, 8, 5, 5, dtype=torch.float32), normal(2, 12, dtype=torch.float32)
    assert made.drop.p == 0.5 and block(8, 8, 12).drop.p == 0 and torch.equal(made(x, emb), made(x, emb))
    made.train()
    assert not torch.equal(made(x, emb), made(x, emb))
    made.drop.p = 1.0                     # everything dropped: only the bias of the last convolution is left
    assert_close(made(x, emb), x + made.conv2.bias[:, None, None])


def test_dropout_reaches_every_block():
    net = UNet(**SHAPES[1], dropout=0.3)
    assert {m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert {m.p for m in UNet().modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


def test_zeroed_gives_the_layer_back_with_nothing_in_it():
    layer = torch.nn.Conv2d(2, 3, 3)
    assert zeroed(layer) is layer and not layer.weight.any() and not layer.bias.any()


def test_a_network_starts_by_saying_nothing():
    net = UNet(**SHAPES[1])
    assert not net(normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 9]), torch.tensor([0, 2])).any()
    assert not net.out.weight.any() and not any(m.out.weight.any() for m in net.modules() if isinstance(m, Attention))


def test_odd_sides_round_up_and_come_back():
    x = normal(1, 3, 5, 9, dtype=torch.float32)
    assert Down(3)(x).shape == (1, 3, 3, 5) and Up(3)(Down(3)(x), (5, 9)).shape == x.shape


def test_a_stage_attends_when_asked():
    assert isinstance(Stage(8, 8, 12, True, 0.0).attend, Attention) and Stage(8, 8, 12, False, 0.0).attend is None
    assert type(Stage(8, 8, 12, False, 0.0).block) is ResBlock and type(Stage(8, 8, 12, False, 0.0, ScaledBlock).block) is ScaledBlock


def test_settings_rebuild_the_network():
    "Rejects a setting that is not written down, or written down as another."
    net = UNet(channels=3, width=8, mults=(1, 3), blocks=3, attend=(0,), patch=1, classes=4, dropout=0.2, scale_shift=True)
    assert net.settings == dict(channels=3, width=8, mults=[1, 3], blocks=3, attend=[0], patch=1, classes=4, dropout=0.2, scale_shift=True)
    again = UNet(**net.settings)
    assert [(n, p.shape) for n, p in again.named_parameters()] == [(n, p.shape) for n, p in net.named_parameters()]
    default = dict(channels=1, width=64, mults=(1, 2), blocks=2, attend=None, patch=2, classes=0, dropout=0.0, scale_shift=False)
    assert {k: p.default for k, p in inspect.signature(UNet).parameters.items()} == default
    assert UNet().settings == default | dict(mults=[1, 2], attend=[1])


@pytest.mark.parametrize('how', [dict(width=0), dict(blocks=0), dict(patch=0), dict(channels=0), dict(mults=(1, 0))], ids=str)
def test_numbers_below_one_are_refused(how):
    with pytest.raises(ValueError, match='numbers >= 1'): UNet(**how)


@pytest.mark.parametrize('width', [2, 3, 5, 7])
def test_widths_the_clock_cannot_take_are_refused(width):
    with pytest.raises(ValueError, match='even number, at least 4'): UNet(width=width)


def test_a_network_of_one_is_built(): assert UNet(channels=1, width=4, mults=(1,), blocks=1, patch=1).settings['width'] == 4


@pytest.mark.parametrize('shape', [(2, 8, 8), (2, 2, 8, 8), (2, 1, 8, 8, 1), (2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r'x_t wanted shape \(B, 1, H, W\)'): UNet(**SHAPES[1])(torch.zeros(shape), torch.tensor([1, 2]))


@pytest.mark.parametrize('sides', [(7, 8), (8, 7), (9, 9)])
def test_sides_that_the_patch_does_not_divide_are_refused(sides):
    with pytest.raises(ValueError, match='sides wanted a multiple of 2'): UNet(**SHAPES[1])(torch.zeros(2, 1, *sides), torch.tensor([1, 2]))


def test_labels_for_a_network_without_are_refused():
    with pytest.raises(ValueError, match='knows no labels'): UNet(**SHAPES[0])(torch.zeros(1, 2, 8, 8), torch.tensor([1]), torch.tensor([0]))


def test_only_what_learns_is_counted():
    net = torch.nn.Linear(3, 4)
    assert count_parameters(net) == 16
    net.bias.requires_grad_(False)
    assert count_parameters(net) == 12


def test_the_clock_stays_on_its_device(): assert time_embedding(torch.zeros(2, device='meta'), 8).device.type == 'meta'


# ---- attention: which kernel, how much memory

class Largest(TorchDispatchMode):
    "Inside, `numbers` is the size of the largest tensor that any operation returns."
    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(v.numel() for v in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(v, torch.Tensor))])
        return out


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('channels', [8, 24, 128, 288])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_attention_takes_the_fused_kernel(channels, dtype, layout):
    "Rejects queries whose numbers do not lie side by side, or have three dimensions: torch then writes down every pair, and says nothing."
    layer = Attention(channels).to(dtype)
    x = torch.randn(2, channels, 6, 5).to(dtype).to(memory_format=layout).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION): layer(x).sum().backward()   # this kernel, or an error
    assert x.grad.isfinite().all()


def test_the_memory_of_attention_grows_with_the_number_of_positions():
    "Twice the side: four times the memory, forward and backward; a table of pairs would need sixteen times."
    layer, seen = Attention(8), {}
    for side in 16, 32:
        x = torch.randn(1, 8, side, side, requires_grad=True)
        with Largest() as mode: layer(x).sum().backward()
        seen[side] = mode.numbers
    assert seen[32] == 4*seen[16] and seen[32] < 32**4/4


@pytest.mark.cuda
@pytest.mark.parametrize('dtype, kernel', [(torch.bfloat16, SDPBackend.FLASH_ATTENTION), (torch.float32, SDPBackend.EFFICIENT_ATTENTION)])
def test_attention_takes_a_fused_kernel_on_a_gpu(dtype, kernel):
    layer, peak = Attention(64).to('cuda', dtype), {}
    for side in 32, 64:
        x = torch.randn(1, 64, side, side, device='cuda', dtype=dtype, requires_grad=True)
        with sdpa_kernel(kernel): layer(x).sum().backward()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with sdpa_kernel(kernel): layer(x).sum().backward()
        peak[side] = torch.cuda.max_memory_allocated() - before
    assert peak[64] < 6*peak[32]


@pytest.mark.parametrize('kind', NETWORKS)
@pytest.mark.parametrize('t', [torch.tensor([3]), torch.tensor(3), torch.tensor([[3], [4]]), 3, [3, 4], None])
def test_a_network_wants_one_step_for_each_image(kind, t):
    "Rejects a step that is repeated, or images that are, without a word: one image and two steps were two answers of `DiT`."
    net, x = NETWORKS[kind](), torch.zeros(2, 3, 32, 32)
    assert net(x, torch.tensor([3, 4])).shape == x.shape
    with pytest.raises(ValueError, match=r't wanted one step for each image, shape \(2,\), got'): net(x, t)
    with pytest.raises(ValueError, match=r'shape \(1,\), got \(2,\)'): net(x[:1], torch.tensor([3, 4]))


@pytest.mark.parametrize('kind', NETWORKS)
def test_a_network_wants_images_like_its_weights(kind):
    "Rejects torch's own words: mat1 and mat2, bias type, no such operator."
    net, x, t = NETWORKS[kind](), torch.zeros(2, 3, 32, 32), torch.tensor([3, 4])
    for odd in x.double(), x.half(), x.to('meta'):
        with pytest.raises(TypeError, match='^x_t wanted torch.float32 on cpu, as the weights are, got '): net(odd, t)
    for odd, came in (x.to_sparse(), 'torch.sparse_coo'), (x.to(torch.uint8), 'torch.uint8; `to_unit` makes'), (x.tolist(), 'list'), (None, 'NoneType'):
        with pytest.raises(TypeError, match=f'^x_t wanted a floating-point tensor, got {came}'): net(odd, t)
    with torch.autocast('cpu', torch.bfloat16): assert net(x, t).isfinite().all()
    assert net.to('meta')(x.to('meta'), t.to('meta')).is_meta


@pytest.mark.parametrize('kind', [UNet, DiT])
def test_none_is_a_number_of_classes(kind):
    "Rejects an error that asks for 1 or more where 0 means no labels."
    with pytest.raises(ValueError, match='^classes wanted at least 0, got -1$'): kind(classes=-1)
    assert kind(width=8, classes=0).settings['classes'] == 0


@pytest.mark.parametrize('net', [UNet(width=8, classes=300), DiT(width=8, layers=1, heads=2, classes=300)], ids=['UNet', 'DiT'])
def test_a_network_without_a_label_asks_for_none_whatever_the_kind_of_step(net):
    "Rejects labels made like the steps: a sentence about labels that nobody gave, or 300 as a byte, which is 44."
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.1)
    x, t = normal(2, 1, 8, 8).float(), torch.tensor([3, 4])
    for kind in torch.uint8, torch.int32, torch.float32: assert_close(net(x, t.to(kind)), net(x, t))
    for y in [0, 1], 3, 'a', t.int():
        with pytest.raises(ValueError, match='y wanted 2 labels as int64, got'): net(x, t, y)


@pytest.mark.parametrize('wrong, error', [
    (dict(width=0), r'^UNet wanted numbers >= 1'), (dict(mults=[1, 2.5]), r'^UNet wanted whole numbers for mults'), (dict(attend=[1.5]), r'^attend wanted levels, got .1.5.$'), (dict(dropout='a'), "^dropout wanted a number, got 'a'$"),
    (dict(dropout=-0.1), r'^dropout wanted a value in .0, 1\), got -0.1$'), (dict(dropout=1), r'^dropout wanted'), (dict(dropout=1.5), r'^dropout wanted'),
])
def test_a_network_that_can_not_be_built_is_named(wrong, error):
    with pytest.raises((ValueError, TypeError), match=error): UNet(**dict(width=8) | wrong)


def test_labels_a_network_can_not_embed_are_named():
    net, x, t = UNet(1, 8, (1,), 1, patch=1, classes=3), torch.zeros(2, 1, 4, 4), torch.tensor([1, 2])
    assert net.label.weight.shape == (4, 32)
    for y, error in (torch.tensor([1., 2.]), r'^y wanted 2 labels as int64, got \(2,\) torch.float32$'), ([1, 2], r'got \[1, 2\]$'), (torch.tensor([4, 0]), '^labels wanted 0..2, or 3 for none, got 0..4$'):
        with pytest.raises(ValueError, match=error): net(x, t, y)


def test_one_level_attends_unless_said_otherwise():
    "Rejects attention on all levels but the first: its cost grows with the square of the side's square."
    assert UNet(1, 8, (1, 2, 4)).settings['attend'] == [1] and UNet(1, 8, (1,)).settings['attend'] == []


def test_the_way_up_has_the_sizes_of_the_way_down():
    "Rejects a size taken from another skip: 7 is halved to 4, then 2."
    net = UNet(1, 8, (1, 1, 1), 1, attend=(), patch=1).requires_grad_(False)
    for h, w in (7, 5), (1, 3): assert net(torch.zeros(1, 1, h, w), torch.tensor([1])).shape == (1, 1, h, w)
    with pytest.raises(ValueError, match='^x_t wanted at least one image, got none$'): net(torch.zeros(0, 1, 8, 8), torch.zeros(0).long())
