"Muon and the blocks that the time scales: exact in float64, saved and resumed like everything else."
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.cli import quick_look
from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine.cards import check_card
from ddpm_lesson.engine.muon import (
    JoinedOptimizer,
    Muon,
    _groups,
    _orthogonal,
    between_channels,
    newton_schulz,
    orthogonalise,
)
from ddpm_lesson.engine.run import Run, allocate_moments, as_trained, fit, make_card, make_optimizer
from ddpm_lesson.pretrained import load_pretrained, save_model
from ddpm_lesson.train import Recipe
from ddpm_lesson.unet import ResBlock, ScaledBlock, UNet

DATA = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')
NETWORK = dict(channels=1, width=16, mults=[1], patch=1, blocks=1, attend=[], scale_shift=True)


def card(steps=8, **recipe): return make_card(NETWORK, Recipe(steps=steps, **dict(batch=8, warmup=3, precision='float32', optimizer='muon') | recipe))


def svd_polar(G, rounds):
    "The five-term polynomial on singular values, matrix by matrix."
    U, s, V = torch.linalg.svd(G/G.norm(), full_matrices=False)
    for _ in range(rounds): s = 3.4445*s - 4.7750*s**3 + 2.0315*s**5
    return U @ torch.diag(s) @ V


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_lengths_follow_the_polynomial_and_directions_stay(k, r, c, rounds, size, seed):
    # checks (O.2), (O.3)
    G = size*normal(k, r, c, seed=seed)
    assert_close(orthogonalise(G), torch.stack([svd_polar(M, 5) for M in G]), rtol=1e-6, atol=1e-6)
    if r <= c: assert_close(newton_schulz(G/G.norm(dim=(1, 2), keepdim=True), rounds), torch.stack([svd_polar(M, rounds) for M in G]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('steep', [-2, -4])
def test_lopsided_gradients_survive_single_precision_and_a_callers_autocast(steep):
    U, _, V = torch.linalg.svd(normal(64, 576), full_matrices=False)
    G = U @ torch.diag(torch.logspace(0, steep, 64, dtype=torch.float64)) @ V
    far = lambda X: (X.double() - svd_polar(G, 5)).norm()/svd_polar(G, 5).norm()
    with torch.autocast('cpu', torch.bfloat16): single = orthogonalise(G.float()[None])[0]
    assert single.dtype == torch.float32 and far(single) < 3e-5   # five rounds in one square are off by 5e-5 and 2e-4
    assert torch.linalg.matrix_norm(orthogonalise(G.bfloat16()[None])[0], 2) < 1.3   # nothing thrown out of bounds


def test_a_step_is_the_turned_average_with_one_look_ahead():
    "Two steps by hand, on a wide and a tall kernel at once and with others of the same shape."
    start = [normal(5, 2, 3, 3), normal(5, 2, 3, 3, seed=1), normal(20, 3)]
    grads = [[normal(*p.shape, seed=10*k + i) for i, p in enumerate(start)] for k in range(2)]
    params = [nn.Parameter(p.clone()) for p in start]
    opt = Muon(params, lr=0.1, momentum=0.8, weight_decay=0.5)
    for step in grads:
        for p, g in zip(params, step): p.grad = g.clone()
        opt.step()
    for p, w, g0, g1 in zip(params, start, *grads):
        memory = torch.zeros_like(w)
        for g in g0, g1:
            memory = 0.8*memory + 0.2*g
            turned = svd_polar((0.2*g + 0.8*memory).flatten(1), 5).view_as(w)
            w = w*(1 - 0.1*0.5) - 0.1*0.2*max(turned.flatten(1).shape)**0.5*turned
        assert_close(p.detach(), w, rtol=1e-6, atol=1e-7)


def test_muon_takes_named_parameters_and_schedulers_but_no_lists_and_no_closure():
    p = nn.Parameter(normal(4, 4))
    before, p.grad = p.detach().clone(), normal(4, 4, seed=1)
    opt = Muon([('kernel', p)], lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 0.5)
    opt.step()
    half = p.detach().clone()
    assert_close((half - before)/(after(before, p.grad, 0.05) - before), torch.ones_like(p))
    with pytest.raises(ValueError, match='no closure'): opt.step(lambda: 0.0)
    with pytest.raises(ValueError, match=r'\(3,\).*AdamW'): Muon([nn.Parameter(torch.zeros(3))])


def after(w, grad, lr):
    p = nn.Parameter(w.clone())
    p.grad = grad.clone()
    Muon([p], lr=lr).step()
    return p.detach()


def test_no_gradient_no_step():
    p, q = nn.Parameter(normal(4, 4)), nn.Parameter(normal(4, 4))
    before, p.grad = q.detach().clone(), normal(4, 4, seed=1)
    Muon([p, q], lr=0.1).step()
    assert torch.equal(q, before)


def test_muon_takes_the_kernels_between_channels_and_adamw_the_rest():
    net = UNet(1, 16, (1, 2), 1, (1,), 1, classes=3)
    opt = make_optimizer(net, Recipe(optimizer='muon'))
    muon, adamw = ([p for g in part.param_groups for p in g['params']] for part in opt.parts)
    assert {id(p) for p in muon} | {id(p) for p in adamw} == {id(p) for p in net.parameters()} and len(muon) + len(adamw) == len(list(net.parameters()))
    ids = {id(p) for p in muon}
    folded = UNet(1, 16, (1, 2), 1, (1,), 4)   # sixteen pixels are sixteen channels, and image still
    assert not {id(folded.stem.weight), id(folded.out.weight)} & {id(p) for p in between_channels(folded)}
    many = len(between_channels(folded))
    folded.stem.requires_grad_(False)          # a frozen layer is left alone, and no other is left out for it
    assert len(between_channels(folded)) == many
    folded.mid[0].block.conv1.requires_grad_(False)
    assert len(between_channels(folded)) == many - 1
    assert all(p.ndim == 4 for p in muon) and ids == {id(p) for p in between_channels(net)}
    assert not ids & {id(net.stem.weight), id(net.out.weight), id(net.label.weight)} and {id(net.down[0].block.conv1.weight), id(net.mid[0].attend.qkv.weight)} <= ids
    assert {g['weight_decay'] for g in opt.param_groups} == {Recipe.weight_decay}


@pytest.mark.parametrize('at', [1, 5])
def test_resumed_with_muon_is_bit_identical(at, tmp_path):
    whole, half = fit(Run(card(), DATA), progress=False), Run(card(), DATA)
    for step, _ in half.steps():
        if step == at: break
    half.save(tmp_path/'half.safetensors')
    again = fit(Run(card(), DATA).load(tmp_path/'half.safetensors'), progress=False)
    assert whole.state().keys() == again.state().keys() and all(torch.equal(v, again.state()[k]) for k, v in whole.state().items())
    assert any(k.startswith('opt.momentum_buffer') for k in whole.state()) and any(k.startswith('opt.exp_avg_sq') for k in whole.state())


def test_moving_nothing_moves_nothing(tmp_path):
    "A run that takes over a checkpoint is its checkpoint, weights included, before its next step."
    run, other = fit(Run(card(4), DATA), progress=False), Run(card(4), DATA)
    run.save(tmp_path/'end.safetensors')
    other.load(tmp_path/'end.safetensors')
    assert all(torch.equal(v, other.state()[k]) for k, v in run.state().items()) and all(p.grad is None for p in other.net.parameters())


@pytest.mark.parametrize('optimizer', ['adamw', 'muon'])
def test_a_state_is_made_without_a_step(optimizer):
    run = Run(card(optimizer=optimizer), DATA)
    for p in run.net.parameters(): nn.init.normal_(p)
    before, rates = {k: v.clone() for k, v in run.net.state_dict().items()}, [g['lr'] for g in run.opt.param_groups]
    allocate_moments(run.opt, run.net)
    assert all(torch.equal(v, before[k]) for k, v in run.net.state_dict().items())
    assert len(run.opt.state) == len(before) and all(not v.any() for s in run.opt.state.values() for v in s.values()) and [g['lr'] for g in run.opt.param_groups] == rates


def test_muon_says_where_it_has_nothing_to_do():
    with pytest.raises(ValueError, match='optimizer wanted one of adamw, muon, got .sgd.'): Recipe(optimizer='sgd')
    small = make_card(NETWORK | dict(width=8), Recipe(optimizer='muon', batch=8))
    with pytest.raises(ValueError, match='at least 16 channels, and this network has none'): Run(small, DATA)


def test_old_checkpoints_go_on_and_others_do_not(tmp_path):
    "A card from before an entry existed is completed with what was done then; how to draw may change; nothing else may."
    now = make_card(NETWORK | dict(scale_shift=False), Recipe(steps=6, batch=8, precision='float32'), sample=dict(steps=25))
    old = {k: v for k, v in now.items() if k != 'sample'} | dict(network={k: v for k, v in now['network'].items() if k != 'scale_shift'}, recipe={k: v for k, v in now['recipe'].items() if k not in ('optimizer', 'weight')})
    assert old != now and as_trained(old) == as_trained(now)
    run = Run(old, DATA)
    next(run.steps())
    run.save(tmp_path/'old.safetensors')
    Run(now, DATA).load(tmp_path/'old.safetensors')
    for other, word in (now | dict(network=NETWORK), 'network.scale_shift False there, True here'), (now | dict(recipe=now['recipe'] | dict(optimizer='muon')), "recipe.optimizer 'adamw' there, 'muon' here"):
        with pytest.raises(ValueError, match=word): Run(other, DATA).load(tmp_path/'old.safetensors')
    assert as_trained(None) == as_trained(dict(recipe=3)) == {}


def test_two_act_as_one():
    p, q = nn.Parameter(normal(3, 3)), nn.Parameter(normal(3))
    both = JoinedOptimizer(Muon([p], lr=1.0), torch.optim.AdamW([q], lr=1.0))
    for group in both.param_groups: group['lr'] = 0.0
    before = p.detach().clone(), q.detach().clone()
    p.grad, q.grad = normal(3, 3, seed=1), normal(3, seed=1)
    both.step()
    assert torch.equal(p, before[0]) and torch.equal(q, before[1]) and both.state.keys() == {p, q}   # the rates that were set are the rates used
    both.zero_grad()
    assert p.grad is q.grad is None


def test_a_scaled_block_by_hand():
    # checks (8.5a)
    block = ScaledBlock(8, 12, 6).double()
    for p in block.parameters(): nn.init.normal_(p, std=0.3)
    x, emb, phi = normal(2, 8, 5, 3), normal(2, 6), nn.functional.silu
    a, b = block.emb(phi(emb))[:, :12, None, None], block.emb(phi(emb))[:, 12:, None, None]
    want = block.skip(x) + block.conv2(phi((1 + a)*block.norm2(block.conv1(phi(block.norm1(x)))) + b))
    assert_close(block(x, emb), want, rtol=1e-12, atol=1e-12)


def test_a_network_scales_everywhere_or_nowhere_and_its_card_says_so(tmp_path):
    kinds = {s: {type(m) for m in UNet(1, 16, (1, 2), 1, (1,), 1, scale_shift=s).modules() if isinstance(m, ResBlock)} for s in (False, True)}
    assert kinds == {False: {ResBlock}, True: {ScaledBlock}}
    run = Run(card(2), DATA)
    save_model(tmp_path/'m.safetensors', run.averaged().net, run.card)
    model, _ = load_pretrained(tmp_path/'m.safetensors')
    assert model.net.settings['scale_shift'] is True
    with pytest.raises(ValueError, match='scale_shift true or false, got .yes.'): check_card(run.card | dict(network=NETWORK | dict(scale_shift='yes')))


@pytest.mark.parametrize('way, T, wanted', [(None, 1000, 20), (dict(steps=12, guidance=2.0), 1000, 12), (dict(sampler='ddpm', steps=None), 300, 20), (dict(steps=25), 1000, 20), (None, 7, 7)])
def test_a_quick_look_takes_the_cards_steps_but_few(way, T, wanted):
    full = card() | dict(network=NETWORK | dict(classes=2), schedule=dict(name='linear', T=T)) | ({} if way is None else dict(sample=way))
    assert quick_look(full) == dict(sampler='ddim', steps=wanted)


def test_kernels_of_many_shapes_are_turned_as_each_by_itself():
    "Rejects a stack in which a tall kernel lies across, one that is cut, and padding that leaks into its neighbours."
    kernels = [normal(*shape, seed=i) for i, shape in enumerate([(3, 7), (7, 3), (5, 2, 3, 3), (20, 3), (4, 4), (1, 9), (9, 1), (6, 6, 1, 1)])]
    turned = _orthogonal(kernels)
    assert [t.shape for t in turned] == [k.shape for k in kernels] and {t.dtype for t in turned} == {torch.float64}
    for t, k in zip(turned, kernels): assert_close(t, svd_polar(k.flatten(1), 5).view_as(k), rtol=1e-6, atol=1e-6)
    assert {t.dtype for t in _orthogonal([k.bfloat16() for k in kernels])} == {torch.bfloat16}


def test_orthogonalise_works_on_the_small_square(monkeypatch):
    "Rejects a tall kernel whose large square is computed: the same numbers, at many times the cost."
    seen = []
    monkeypatch.setattr('ddpm_lesson.engine.muon.newton_schulz', lambda X, rounds: seen.append(X.shape[1:]) or X)
    for shape in (1, 8, 3), (1, 3, 8), (1, 5, 5): orthogonalise(normal(*shape))
    assert all(r <= c for r, c in seen) and len(seen) == 6


def test_on_a_cpu_kernels_of_one_shape_go_together():
    kernels = [nn.Parameter(normal(*shape)) for shape in [(3, 7), (7, 3), (3, 7), (3, 7, 1)]]
    assert [[id(p) for p in group] for group in _groups(kernels)] == [[id(kernels[0]), id(kernels[2])], [id(kernels[1])], [id(kernels[3])]]


def test_kernels_of_two_dtypes_do_not_go_together():
    "Rejects a kernel in float32 that is turned in eight bits since its neighbour has no more."
    kernels = [nn.Parameter(normal(3, 7).to(d)) for d in (torch.bfloat16, torch.float32)]
    assert [len(group) for group in _groups(kernels)] == [1, 1]


def test_the_defaults_are_those_of_the_lesson():
    (group,) = Muon([nn.Parameter(normal(4, 4))]).param_groups
    assert {k: group[k] for k in ('lr', 'momentum', 'weight_decay')} == dict(lr=2e-3, momentum=0.95, weight_decay=0.01)


def test_only_the_first_and_last_convolution_touch_the_image():
    layers = [nn.Conv2d(1, 16, 3), *[nn.Conv2d(16, 16, 3) for _ in range(3)], nn.Conv2d(16, 1, 3)]
    assert [id(p) for p in between_channels(nn.Sequential(*layers))] == [id(c.weight) for c in layers[1:-1]]
    narrow = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 15, 3), nn.Conv2d(15, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 1, 3))
    assert [tuple(p.shape[:2]) for p in between_channels(narrow)] == [(16, 16)]


def test_the_square_is_made_where_the_kernel_is(): assert newton_schulz(torch.zeros(2, 3, 5, device='meta', dtype=torch.float64), 2).device.type == 'meta'


def test_the_stack_is_as_small_as_its_kernels_allow(monkeypatch):
    seen = []
    monkeypatch.setattr('ddpm_lesson.engine.muon.orthogonalise', lambda G: seen.append(tuple(G.shape)) or G)
    _orthogonal([normal(3, 7), normal(9, 2), normal(4, 4)])
    assert seen == [(3, 4, 9)]


def test_float64_is_kept_to_its_last_digits():
    G = normal(2, 3, 5)
    X = G/G.norm(dim=(1, 2), keepdim=True)
    assert_close(newton_schulz(X, 2), torch.stack([svd_polar(M, 2) for M in X]), rtol=1e-11, atol=1e-12)


def test_a_network_names_the_matrices_that_muon_is_for_itself():
    "Rejects a rule for convolutions where a network has none, and a small matrix taken because it was named."
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 8))
    net.for_muon = lambda: [net[0].weight, net[1].weight]
    assert [p is net[0].weight for p in between_channels(net)] == [True]
