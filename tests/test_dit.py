"The transformer against a second one, written with loops and torch's functions alone; and its place in the house."
import json
import math
import warnings

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.cli import main
from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.dit import (
    DiT,
    DiTBlock,
    SelfAttention,
    dit_multiply_adds,
    dit_parameters,
    patchify,
    position_code,
    unpatchify,
)
from ddpm_lesson.engine.cards import build, check_card
from ddpm_lesson.engine.muon import Muon, between_channels
from ddpm_lesson.engine.presets import plan, preset_card
from ddpm_lesson.engine.run import Run, fit, make_card, make_optimizer, resume
from ddpm_lesson.own import draw_from, train_on
from ddpm_lesson.pretrained import load_card, load_pretrained, save_model
from ddpm_lesson.train import Recipe
from ddpm_lesson.unet import UNet, count_parameters

SHAPES = [
    dict(channels=2, width=16, layers=2, heads=2, patch=3),
    dict(channels=1, width=24, layers=3, heads=3, patch=2, classes=4),
    dict(channels=3, width=8, layers=1, heads=8, patch=1, classes=1),
]
STEPS = torch.tensor([1, 40, 1000])
SMALL = dict(width=16, layers=1, heads=2, patch=4)
DATA = Images(torch.randint(0, 256, (40, 1, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2, ('a', 'b'))


def stirred(net, seed=0):
    "The same network with every weight random, those that start at zero too."
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters(): p.data = torch.randn(p.shape, generator=g)*(0.2 if p.ndim > 1 else 0.3)
    return net.eval()


class Second:
    "The network again, from its weights, token by token: (x_t, t, y) -> (B, C, H, W)."
    def __init__(self, weights, channels, width, layers, heads, patch, classes=0):
        self.w, self.width, self.layers, self.heads, self.patch, self.classes = weights, width, layers, heads, patch, classes

    def linear(self, name, x): return x @ self.w[f'{name}.weight'].T + self.w[f'{name}.bias']

    def clock(self, k, dim):
        half = dim//2
        angles = [k*1e4**(-i/(half - 1)) for i in range(half)]
        return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])

    def told(self, t, y):
        emb = torch.stack([self.clock(k, 256) for k in t.tolist()])
        emb = self.linear('time.2', F.silu(self.linear('time.0', emb)))
        if not self.classes: return emb
        return emb + torch.stack([self.w['label.weight'][self.classes if y is None else k] for k in (t if y is None else y).tolist()])

    def level(self, z, shift, factor): return F.layer_norm(z, (self.width,), eps=1e-6)*(1 + factor) + shift

    def look(self, name, z):
        q, k, v = self.linear(f'{name}.qkv', z).split(self.width, 1)
        n = self.width//self.heads
        out = [torch.softmax(q[:, h:h + n] @ k[:, h:h + n].T/math.sqrt(n), 1) @ v[:, h:h + n] for h in range(0, self.width, n)]
        return self.linear(f'{name}.out', torch.cat(out, 1))

    def one(self, image, emb):
        (C, H, W), p, d = image.shape, self.patch, self.width
        places = [(r, s) for r in range(H//p) for s in range(W//p)]
        z = torch.stack([self.linear('stem', image[:, p*r:p*r + p, p*s:p*s + p].reshape(-1)) for r, s in places])
        z = z + torch.stack([torch.cat([self.clock(r, d//2), self.clock(s, d//2)]) for r, s in places])
        for i in range(self.layers):
            m = self.linear(f'blocks.{i}.told', F.silu(emb)).reshape(6, d)
            z = z + m[2]*self.look(f'blocks.{i}.attend', self.level(z, m[0], m[1]))
            inner = F.gelu(self.linear(f'blocks.{i}.mlp.0', self.level(z, m[3], m[4])), approximate='tanh')
            z = z + m[5]*self.linear(f'blocks.{i}.mlp.2', inner)
        shift, factor = self.linear('told', F.silu(emb)).reshape(2, d)
        said, out = self.linear('out', self.level(z, shift, factor)), torch.empty(image.shape)
        for token, (r, s) in zip(said, places): out[:, p*r:p*r + p, p*s:p*s + p] = token.reshape(C, p, p)
        return out

    def __call__(self, x_t, t, y=None): return torch.stack([self.one(image, emb) for image, emb in zip(x_t, self.told(t, y))])


@pytest.mark.parametrize('how', SHAPES, ids=str)
@pytest.mark.parametrize('labelled', [False, True])
def test_the_network_is_the_second_network(how, labelled):
    "Rejects a gate, shift or scale in another's place, a norm left out, rows and columns exchanged, one head for all, the exact GELU's weights read otherwise."
    net = stirred(DiT(**how))
    x_t = normal(3, how['channels'], 2*how['patch'], 5*how['patch'], dtype=torch.float32)
    y = torch.arange(3) % how['classes'] if labelled and how.get('classes') else None
    with torch.no_grad(): ours, theirs = net(x_t, STEPS, y), Second(net.state_dict(), **how)(x_t, STEPS, y)
    assert ours.shape == x_t.shape and ours.std() > 0.1
    assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('p, h, w', [(1, 3, 5), (2, 6, 4), (3, 6, 9), (4, 4, 4)])
def test_patches_are_squares_in_reading_order(p, h, w):
    "Rejects `reshape` alone, patches counted down the columns, rows and columns of a patch exchanged; the round trip would let each pass."
    x = torch.arange(2*3*h*w).view(2, 3, h, w)
    z = patchify(x, p)  # checks (20.1)
    for n in range(h*w//p**2):
        r, s = divmod(n, w//p)
        assert torch.equal(z[:, n], x[:, :, p*r:p*r + p, p*s:p*s + p].flatten(1))
    assert torch.equal(unpatchify(z, p, h, w), x)


@pytest.mark.parametrize('shape, p', [((1, 1, 7, 8), 2), ((1, 1, 8, 7), 2), ((1, 8, 8), 2), ((1, 1, 8, 8), 0), ((1, 1, 8, 8), -2)])
def test_what_cannot_be_cut_is_refused(shape, p):
    with pytest.raises(ValueError, match='sides wanted a multiple of the patch|patchify wanted'): patchify(torch.zeros(shape), p)


@pytest.mark.parametrize('shape, p, h, w', [((1, 6, 4), 2, 6, 6), ((1, 6, 5), 2, 4, 6), ((6, 4), 2, 4, 6), ((1, 6, 4), 2, 8, 3)])
def test_what_cannot_be_joined_is_refused(shape, p, h, w):
    with pytest.raises(ValueError, match='tokens wanted shape'): unpatchify(torch.zeros(shape), p, h, w)


def test_places_are_told_row_first():
    "Rejects (columns, rows), and halves exchanged."
    code = position_code(2, 3, 8)   # checks (20.2)
    assert code.shape == (6, 8) and torch.equal(code[0, 4:], code[3, 4:]) and torch.equal(code[0, :4], code[2, :4])
    assert not torch.equal(code[0, :4], code[3, :4]) and not torch.equal(code[0, 4:], code[1, 4:])
    for dim in 4, 6, 10, 0:
        with pytest.raises(ValueError, match='dim wanted a multiple of 4, at least 8'): position_code(2, 3, dim)


def test_an_image_larger_than_any_seen_is_welcome():
    net = stirred(DiT(**SHAPES[1]))
    with torch.no_grad(): assert net(normal(1, 1, 6, 34, dtype=torch.float32), STEPS[:1]).shape == (1, 1, 6, 34)


def test_a_network_starts_by_saying_nothing_and_its_blocks_change_nothing():
    "Rejects gates or a last layer that do not start at zero."
    net, z = DiT(**SHAPES[1]), normal(2, 5, 24, dtype=torch.float32)
    x, y = normal(2, 1, 6, 4, dtype=torch.float32), torch.tensor([0, 3])
    assert not net(x, STEPS[:2], y).any()
    for block in net.blocks: assert torch.equal(block(z, normal(2, 24, dtype=torch.float32)), z)  # checks (20.5)
    assert all(m.weight.any() for m in (net.stem, net.time[0], net.time[2], net.label)) and net.label.num_embeddings == 5


def test_every_number_is_reached_by_the_third_step():
    "Rejects gate and branch zeroed together, which no gradient ever leaves."
    torch.manual_seed(0)
    net, x = DiT(**SHAPES[1]), normal(3, 1, 6, 4, dtype=torch.float32)
    for _ in range(3):
        net.zero_grad()
        (net(x, STEPS, torch.tensor([0, 2, 4])) - normal(3, 1, 6, 4, seed=1, dtype=torch.float32)).square().mean().backward()
        with torch.no_grad():
            for p in net.parameters(): p -= 0.1*p.grad
    assert all(p.grad.any() for p in net.parameters())


def test_no_label_is_the_last_label_and_others_are_refused():
    net, x = stirred(DiT(**SHAPES[1])), normal(3, 1, 6, 4, dtype=torch.float32)
    with torch.no_grad(): assert torch.equal(net(x, STEPS), net(x, STEPS, torch.full((3,), 4)))
    for y in torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.zeros(3, 1, dtype=torch.int64):
        with pytest.raises(ValueError, match='y wanted 3 labels as int64'): net(x, STEPS, y)
    with pytest.raises(ValueError, match='knows no labels'): DiT(**SHAPES[0])(normal(3, 2, 6, 6, dtype=torch.float32), STEPS, torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize('how, said', [(dict(width=30), 'multiple of 4'), (dict(width=4), 'at least 8'), (dict(width=20, heads=3), 'multiple of heads'), (dict(layers=0), '>= 1'),
                                       (dict(heads=0), '>= 1'), (dict(patch=0), '>= 1'), (dict(channels=0), '>= 1')], ids=str)
def test_networks_that_cannot_be_are_refused(how, said):
    with pytest.raises(ValueError, match=said): DiT(**how)


@pytest.mark.parametrize('shape, said', [((3, 6, 4), r'\(B, 1, H, W\)'), ((3, 2, 6, 4), r'\(B, 1, H, W\)'), ((3,), r'\(B, 1, H, W\)'), ((3, 1, 7, 4), 'multiple of the patch, 2, got 7x4'), ((3, 1, 6, 3), '6x3')])
def test_images_that_do_not_fit_are_refused(shape, said):
    with pytest.raises(ValueError, match=said): DiT(**SHAPES[1])(torch.zeros(shape), STEPS)


def test_settings_rebuild_the_network():
    net = DiT(**SHAPES[1])
    assert net.settings == SHAPES[1] and DiT().settings == dict(channels=1, width=128, layers=9, heads=4, patch=4, classes=0)
    assert [(n, p.shape) for n, p in DiT(**net.settings).named_parameters()] == [(n, p.shape) for n, p in net.named_parameters()]


def multiplications(net, *shape):
    "Counted by torch itself: its flops are two a multiplication."
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        net(torch.zeros(1, *shape), torch.tensor([1]))
    return counter.get_total_flops()//2


@pytest.mark.parametrize('how', SHAPES, ids=str)
def test_size_and_work_by_formula(how):
    "Rejects biases, the time's layers, labels or pairs left out; (20.7) against torch's own counter."
    net, size = DiT(**how), {k: how[k] for k in ('width', 'layers', 'patch', 'channels')}
    assert count_parameters(net) == dit_parameters(**size, classes=how.get('classes', 0))  # checks (20.6)
    h, w = 4*how['patch'], 6*how['patch']
    assert multiplications(net, how['channels'], h, w) == dit_multiply_adds(**size, h=h, w=w)  # checks (20.7)


@pytest.mark.parametrize('name, d, L, published', [('S', 384, 12, ((33, 6.06), (33, 1.41), (33, 0.36))), ('B', 768, 12, ((130, 23.01), (130, 5.56), (131, 1.42))),
                                                    ('L', 1024, 24, ((458, 80.71), (458, 19.70), (459, 5.01))), ('XL', 1152, 28, ((675, 118.64), (675, 29.05), (676, 7.39)))])
def test_the_table_of_the_paper(name, d, L, published):
    "Rejects W counted for a token, work counted twice, a last layer of 4 channels in place of 8."
    for p, (millions, gflops) in zip((2, 4, 8), published):
        assert round(dit_parameters(d, L, p, 4, 1000, out=8)/1e6) == millions
        assert abs(dit_multiply_adds(d, L, p, 4, 32, 32, out=8)/1e9 - gflops) < max(0.006, 1e-3*gflops)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_attention_takes_the_fused_kernel(dtype):
    "Rejects queries laid out so that torch writes down every pair, and says nothing."
    layer, z = SelfAttention(24, 3).to(dtype), torch.randn(2, 20, 24).to(dtype).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION): layer(z).sum().backward()
    assert z.grad.isfinite().all()


def test_another_layout_says_the_same():
    net, x = stirred(DiT(**SHAPES[0])), normal(3, 2, 6, 9, dtype=torch.float32)
    with torch.no_grad():
        said = net(x, STEPS)
        assert_close(net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), STEPS), said, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_network_is_one_graph_and_says_the_same():
    "torch.compile's tracing, without its code generation."
    net, x = stirred(DiT(**SHAPES[0])), normal(3, 2, 6, 9, dtype=torch.float32)
    with torch.no_grad(): assert_close(torch.compile(net, backend='eager', fullgraph=True)(x, STEPS), net(x, STEPS), rtol=1e-5, atol=1e-5)


# ---- in the house

def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    "Rejects embeddings, gates or layers that touch pixels given to Muon."
    net = DiT(**SHAPES[1] | dict(classes=20))
    opt = make_optimizer(net, Recipe(optimizer='muon'))
    by = {type(part): {id(p) for g in part.param_groups for p in g['params']} for part in opt.parts}
    inside = {id(m.weight) for b in net.blocks for m in (b.attend.qkv, b.attend.out, b.mlp[0], b.mlp[2])}
    assert by[Muon] == inside == {id(p) for p in between_channels(net)} and set.union(*by.values()) == {id(p) for p in net.parameters()}


def test_a_preset_with_the_other_network():
    "Rejects a kind that is dropped, defaults of the wrong network, a card that does not say which."
    card, _ = preset_card('laptop', bundled_fashion(), kind='dit')
    unet, _ = preset_card('laptop', bundled_fashion())
    assert card['network'] == dict(kind='dit', channels=1, width=128, layers=9, heads=4, patch=4, classes=10) and 'kind' not in unet['network']
    assert card['recipe'] == unet['recipe'] and isinstance(build(check_card(card))[0].net, DiT)
    sizes = [count_parameters(build(c)[0].net) for c in (card, unet)]
    assert abs(sizes[0]/sizes[1] - 1) < 0.02
    back, _ = preset_card('posit-ddim', bundled_fashion(), kind='unet')
    assert isinstance(build(back)[0].net, UNet)
    assert preset_card('laptop', bundled_fashion(), kind='posit_unet')[0]['network'] == dict(kind='posit_unet', channels=1, width=32, mults=[1, 2, 3, 4], depth=2)


@pytest.mark.parametrize('given, said', [(dict(kind='vit'), 'kind wanted one of unet, dit'), (dict(kind=3), 'kind wanted one of'), (dict(kind=['dit']), 'kind wanted one of'), (dict(kind='dit', mults='1,2'), 'no use for mults'),
                                         (dict(kind='dit', dropout=0.1), 'no use for dropout'), (dict(layers=2), 'no use for layers'), (dict(kind='simple', heads=2), 'no use for heads')], ids=str)
def test_words_and_flags_that_do_not_fit_are_refused(given, said):
    with pytest.raises(ValueError, match=said): plan(given, 'laptop')


@pytest.mark.parametrize('network, said', [(dict(layers=65), 'layers a whole number in 1..64'), (dict(heads=0), 'heads a whole number'), (dict(width='8'), 'width'), (dict(mults=[1]), 'no network'),
                                           (dict(width=8192, layers=64), 'GB of weights'), (dict(width=20), 'multiple of heads'), (dict(blocks=2), 'no network')], ids=str)
def test_cards_of_strangers_are_refused(network, said):
    card = dict(network=dict(kind='dit', channels=1) | SMALL | dict(heads=3 if network == dict(width=20) else 2) | network, schedule=dict(name='linear', T=50), target='v')
    with pytest.raises(ValueError, match=said): build(card)


def test_sides_that_the_patch_does_not_divide_are_refused_before_the_first_step():
    for net in dict(kind='dit', channels=1, **SMALL | dict(patch=8), classes=2), dict(channels=1, width=8, mults=[1], patch=8, classes=2):
        with pytest.raises(ValueError, match='sides that are a multiple of patch 8, got .8x12'): Run(make_card(net, Recipe(batch=4)), DATA)


@pytest.mark.filterwarnings('ignore:a warm-up')
def test_a_run_stops_goes_on_is_saved_loaded_and_draws(tmp_path):
    "Images that are not square, labels, Muon: the resumed run is the uninterrupted one, bit for bit; the file gives the same pictures."
    card = make_card(dict(kind='dit', channels=1, classes=2, **SMALL), Recipe(steps=6, batch=8, optimizer='muon', precision='float32'), size=[8, 12], classes=('a', 'b'))
    whole = fit(Run(card, DATA), progress=False)
    half = Run(card, DATA)
    for step, _ in half.steps():
        if step == 3: break
    half.save(tmp_path/'checkpoint.safetensors')
    again = fit(resume(Run(card, DATA), tmp_path), progress=False)
    for k, v in whole.state().items(): assert torch.equal(again.state()[k], v), k
    with pytest.raises(ValueError, match='another run'): Run(card | dict(network=card['network'] | dict(heads=4)), DATA).load(tmp_path/'checkpoint.safetensors')
    with pytest.raises(ValueError, match='another run'): Run(make_card(dict(channels=1, width=8, mults=[1], classes=2, patch=4), Recipe(steps=6, batch=8)), DATA).load(tmp_path/'checkpoint.safetensors')
    save_model(tmp_path/'m.safetensors', whole.averaged().net, whole.card)
    model, sched = load_pretrained(tmp_path/'m.safetensors')
    x = normal(2, 1, 8, 12, dtype=torch.float32)
    with torch.no_grad(): assert torch.equal(model(x, STEPS[:2], torch.tensor([0, 1])), whole.averaged()(x, STEPS[:2], torch.tensor([0, 1])))
    assert draw_from(whole, 3, steps=2).shape == (3, 1, 8, 12)
    wrong = json.loads(json.dumps(whole.card))
    wrong['network']['heads'] = 4                     # the same shapes, another network
    with pytest.raises(ValueError, match='heads'): save_model(tmp_path/'other.safetensors', whole.averaged().net, wrong)


@pytest.mark.filterwarnings('ignore:a warm-up')
def test_fine_tuning_keeps_the_network_and_refuses_another(tmp_path):
    card = make_card(dict(kind='dit', channels=1, **SMALL), Recipe(steps=1, batch=8))
    first = fit(Run(card, Images(DATA.pixels)), progress=False)
    save_model(tmp_path/'m.safetensors', first.net, first.card)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        on = train_on(DATA, start=tmp_path/'m.safetensors', steps=1, batch=8, progress=False)
    assert on.card['network'] == dict(kind='dit', channels=1, classes=2, **SMALL)
    with pytest.raises(ValueError, match="kind wanted dit, as the model to start with has, got 'unet'"): train_on(DATA, start=tmp_path/'m.safetensors', kind='unet', steps=1)
    with pytest.raises(ValueError, match='kind wanted unet'): train_on(bundled_fashion(), start='fashion', kind='dit', steps=1)


def call(*args):
    got = CliRunner().invoke(main, [str(a) for a in args])
    return got.exit_code, got.output


def test_the_command_line_trains_goes_on_and_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin = ('train', '--preset', 'debug', '--kind', 'dit', '--width', 16, '--layers', 1, '--heads', 2, '--folder', 'run', '--device', 'cpu', '--no-tensorboard')
    status, said = call(*begin, '--steps', 2)
    assert status == 0, said
    assert load_card('run')['network'] == dict(kind='dit', channels=3, width=16, layers=1, heads=2, patch=4, classes=0)
    status, said = call('sample', '--weights', 'run', '--steps', 1, '--count', 2, '--out', 'a.png', '--device', 'cpu')
    assert status == 0, said
    status, said = call('train', '--resume', 'run', '--kind', 'unet', '--device', 'cpu', '--no-tensorboard')
    assert status == 1 and '--kind wanted dit, the network of this run, got unet' in said, said
    status, said = call('train', '--resume', 'run', '--kind', 'dit', '--steps', 3, '--device', 'cpu', '--no-tensorboard')
    assert status == 0, said
    assert load_card('run')['recipe']['steps'] == 3
    status, said = call(*begin, '--kind', 'vit')
    assert status == 2 and 'vit' in said and 'dit' in said


def test_a_block_is_a_module_of_its_own(): assert DiTBlock(8, 2)(torch.ones(1, 3, 8), torch.ones(1, 8)).shape == (1, 3, 8)


@pytest.mark.parametrize('wrong', [dict(width=16.), dict(heads=2.), dict(patch=4.), dict(layers=1.), dict(channels=True), dict(classes=-1), dict(classes=2.5), dict(width='16'), dict(patch=None)])
@pytest.mark.parametrize('kind', [DiT, UNet])
def test_sizes_are_whole_numbers(wrong, kind):
    "Rejects a fraction that einops remembers: every later network with that patch fails."
    name, = wrong
    if name in ('heads', 'layers') and kind is UNet: wrong = {'blocks': wrong[name]}
    usual = SMALL if kind is DiT else dict(width=8, mults=(1,), blocks=1)
    with pytest.raises((ValueError, TypeError), match='wanted'): kind(**(usual | wrong))
    assert DiT(**SMALL)(torch.zeros(1, 1, 8, 8), torch.tensor([1])).shape == (1, 1, 8, 8)


@pytest.mark.parametrize('net', [DiT(**SMALL, classes=3), UNet(width=8, classes=3)], ids=['dit', 'unet'])
@pytest.mark.parametrize('label', [-1, 4])
def test_a_bare_network_says_which_labels_it_knows(net, label):
    "Rejects 'index out of range in self'."
    with pytest.raises(ValueError, match=r'labels wanted 0\.\.2, or 3 for none'): net(torch.zeros(1, 1, 8, 8), torch.tensor([1]), torch.tensor([label]))
    net(torch.zeros(1, 1, 8, 8), torch.tensor([1]), torch.tensor([3]))


def test_a_network_has_levels_and_a_share_to_drop():
    for wrong in dict(mults=()), dict(dropout=2.), dict(dropout=math.nan), dict(scale_shift='no'):
        with pytest.raises((ValueError, TypeError), match='wanted'): UNet(**(dict(width=8) | wrong))
