"What training is made of: draws, rates, averages, weights and steps, each by hand."

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson import train
from ddpm_lesson.data import Images, bundled_fashion, check_unit, to_pixels, to_unit
from ddpm_lesson.dialects import zero_terminal_snr
from ddpm_lesson.engine.run import Run, fit, make_card
from ddpm_lesson.forward import q_sample
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0, eps_loss, v_loss, x_0_loss
from ddpm_lesson.posterior import eps_from_v, eps_from_x_0
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.train import (
    Ema,
    Recipe,
    batch_indices,
    draw,
    gradient_step,
    learning_rate,
    lr_sweep,
    min_snr,
    smoothed,
    suggest_lr,
    train_step,
    uniform,
    weights,
)
from ddpm_lesson.unet import UNet, count_parameters

DATA = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')
SCHED = linear_schedule()


def card(steps=10, **recipe): return make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=steps, **(dict(batch=8, warmup=3, precision='float32') | recipe)))


@pytest.mark.parametrize('target, loss, wrapper, true', [
    ('eps', eps_loss, PredictsEps, lambda x_0, eps, a, b: eps), ('x_0', x_0_loss, PredictsX0, lambda x_0, eps, a, b: x_0), ('v', v_loss, PredictsV, lambda x_0, eps, a, b: a*eps - b*x_0)])
def test_loss_is_zero_for_the_truth_and_the_wrapper_turns_it_into_eps(target, loss, wrapper, true):
    # checks (9.8)
    x_0, eps, t = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1), torch.tensor([1, 300, 1000])
    a, b = (r[t].reshape(3, 1, 1, 1) for r in (SCHED.signal_rate, SCHED.noise_rate))

    class Truth(torch.nn.Module):
        def forward(self, x_t, t): return true(x_0, eps, a, b)
    assert_close(loss(Truth(), SCHED, x_0, t, eps), torch.zeros(3, dtype=torch.float64), check_dtype=False)
    off = loss(lambda x, t: true(x_0, eps, a, b) + torch.tensor([1., 2., 3.]).reshape(3, 1, 1, 1), SCHED, x_0, t, eps)
    assert_close(off.double(), torch.tensor([1., 4., 9.], dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert_close(wrapper(Truth(), SCHED)(a*x_0 + b*eps, t), eps, rtol=1e-4, atol=1e-4)


def test_wrappers_are_the_conversions_of_lesson_4():
    x_t, said, t = normal(2, 1, 3, 4), normal(2, 1, 3, 4, seed=1), torch.tensor([2, 800])
    net = torch.nn.Identity()
    net.forward = lambda x, t: said
    assert_close(PredictsV(net, SCHED)(x_t, t), eps_from_v(SCHED, x_t, said, t), rtol=1e-6, atol=1e-6)
    assert_close(PredictsX0(net, SCHED)(x_t, t), eps_from_x_0(SCHED, x_t, said, t), rtol=1e-5, atol=1e-5)


def test_ddpms_cifar_network_has_its_published_size():
    with torch.device('meta'): assert count_parameters(UNet(3, 128, (1, 2, 2, 2), 2, (1,), 1, dropout=0.1)) == 35_746_307


def test_network_uses_image_time_and_label():
    net = UNet(1, 16, (1, 2), 1, (1,), 2, classes=3).eval()
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.1)
    x, t, y = normal(2, 1, 12, 8, dtype=torch.float32), torch.tensor([1, 500]), torch.tensor([0, 2])
    base = net(x, t, y)
    for other in net(x + .1, t, y), net(x, t + 1, y), net(x, t, y*0 + 1), net(x, t): assert (base - other).abs().max() > 1e-4
    assert_close(net(x, t), net(x, t, torch.tensor([3, 3])))
    assert_close(net(x[:1], t[:1], y[:1]), base[:1], rtol=1e-4, atol=1e-5)  # no batch statistics
    base.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_ema_is_the_geometric_sum():
    # checks (10.2)
    net = torch.nn.Linear(1, 1, bias=False).double()
    net.weight.data.fill_(0.)
    ema, mean = Ema(net, 0.5), 0.0
    for k in range(12):
        net.weight.data.fill_(k*k + 1.)
        ema.update(net, k)
        d = min(0.5, (1 + k)/(10 + k))
        mean = d*mean + (1 - d)*(k*k + 1.)
    assert_close(ema.shadow[0].item(), mean, rtol=1e-12, atol=0)
    assert Ema(net).decay == 0.999


def test_an_average_moves_alike_by_a_number_and_by_a_tensor():
    "Rejects a recorded step that leaves the average where it is, or moves it by a share of something else."
    now, old = normal(3, 2), normal(3, 2, seed=1)
    net = torch.nn.Linear(2, 3, bias=False).double()
    for share in 0.3, torch.tensor(0.3, dtype=torch.float64):
        net.weight.data.copy_(old)
        ema = Ema(net, 0.9)
        net.weight.data.copy_(now)
        ema.move(net, share)
        assert_close(ema.shadow[0], 0.7*old + 0.3*now, rtol=1e-12, atol=0)
        assert torch.equal(net.weight, now)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_an_average_moves_in_half_precision_too(dtype):
    "Rejects an average that stands still: a thousandth of the way is less than half precision tells apart."
    net = torch.nn.Linear(2, 2, bias=False).to(dtype)
    net.weight.data.fill_(1.)
    with torch.inference_mode(): ema = Ema(net)
    net.weight.data.fill_(1.25)
    for step in range(10_000, 11_000): ema.update(net, step)
    ema.move(net, torch.tensor(0.0))
    assert abs(ema.copy_to(net).weight[0, 0].item() - (1.25 - 0.25*0.999**1000)) < 0.01


def test_learning_rate_at_its_corners():
    r = Recipe(steps=100, warmup=10, lr=1.0)
    assert [round(learning_rate(k, r), 6) for k in (0, 4, 9, 10, 55, 100, 150)] == [0.1, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    level = Recipe(steps=100, warmup=10, lr=0.5, decay=False)
    assert [round(learning_rate(k, level), 6) for k in (0, 4, 9, 50)] == [0.05, 0.25, 0.5, 0.5]
    assert learning_rate(11, Recipe(steps=11, warmup=10)) == 0                      # one step to come down in


def test_adamw_has_the_numbers_of_its_recipe_in_one_kernel_where_there_is_one():
    recipe = Recipe(lr=0.25, beta_2=0.75, weight_decay=0.125)
    wanted = dict(lr=0.25, betas=(0.9, 0.75), weight_decay=0.125, fused=True)
    for device, rest in ('cpu', dict(capturable=False)), ('cuda', dict(capturable=True)), ('meta', dict(fused=False, capturable=False)):
        with FakeTensorMode(): defaults = train.adamw([torch.nn.Parameter(torch.ones(2, device=device))], recipe).defaults
        assert {k: defaults[k] for k in (wanted | rest)} == wanted | rest, device


def test_a_batch_learned_in_parts_has_the_gradient_of_the_whole():
    "Rejects parts that count alike although the last has fewer images, and a sum in place of a mean."
    batch = draw(DATA, Recipe(batch=8), SCHED.T, 0)
    batch = batch._replace(x_0=batch.x_0.double(), eps=batch.eps.double())
    net = Watched().double()
    whole = v_loss(net, SCHED, *batch).mean()
    [slope] = torch.autograd.grad(whole, net.weight)
    for parts in 1, 3, 8:
        net = Watched().double()
        said = gradient_step(net, SCHED, torch.optim.SGD(net.parameters(), 1.0), Recipe(batch=8, accumulate=parts, clip_grad=0), batch)
        assert_close(said, whole.detach(), rtol=1e-12, atol=0)
        assert_close(1 - net.weight.detach(), slope, rtol=1e-12, atol=0)


@pytest.mark.parametrize('target, per_x_0', [('eps', lambda snr: snr), ('x_0', lambda snr: 1 + 0*snr), ('v', lambda snr: 1 + snr)])
def test_min_snr_weighs_the_error_in_x_0_whatever_is_predicted(target, per_x_0):
    # checks (10.1a)
    t, losses = torch.arange(1, SCHED.T + 1), normal(SCHED.T).square()
    snr = SCHED.alpha_bar[1:]/(1 - SCHED.alpha_bar[1:])
    assert_close(min_snr(losses, SCHED, t, target), losses*snr.clamp(max=5)/per_x_0(snr), rtol=1e-9, atol=0)
    assert_close(min_snr(losses, SCHED, t, target, most=1.0), losses*snr.clamp(max=1)/per_x_0(snr), rtol=1e-9, atol=0)
    assert min_snr(losses.float(), SCHED, t, target).dtype == torch.float32 and torch.equal(uniform(losses, SCHED, t, target), losses)


def test_a_step_follows_the_weight_of_its_recipe():
    "At rate 1 plain descent moves the weights by the gradient of the weighed loss, and the loss that is kept is the weighed one."
    runs = {w: Run(card(weight=w, clip_grad=0, warmup=0, decay=False, lr=1.0), DATA) for w in weights}
    for name, run in runs.items():
        torch.nn.init.normal_(run.net.out.weight, std=0.3, generator=torch.Generator().manual_seed(1))
        before, run.opt = run.net.out.weight.detach().clone(), torch.optim.SGD(run.net.parameters(), 1.0)
        batch = draw(DATA, run.recipe, run.sched.T, 0)
        wanted = weights[name](v_loss(run.net, run.sched, *batch), run.sched, batch.t, 'v').mean()
        [grad] = torch.autograd.grad(wanted, run.net.out.weight)
        assert_close(run.step(0, run.recipe), wanted.detach())
        assert_close(before - run.net.out.weight.detach(), grad, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(runs['uniform'].net.out.weight, runs['min_snr'].net.out.weight, atol=1e-3)


def test_a_step_moves_every_tensor_along_its_own_gradient():
    "In float64, each tensor judged by its own size: one tolerance for all would let a wrong sign in the small ones pass."
    recipe = Recipe(batch=16, clip_grad=0.05, warmup=0)
    batch = draw(DATA, recipe, SCHED.T, 0)
    batch = batch._replace(x_0=batch.x_0.double(), eps=batch.eps.double())
    nets = [UNet(1, 8, (1, 2), 1, (1,), 1).double() for _ in range(2)]
    for net in nets:
        g = torch.Generator().manual_seed(3)
        for p in net.parameters(): torch.nn.init.normal_(p, std=0.1, generator=g)
    grads = torch.autograd.grad(v_loss(nets[0], SCHED, *batch).mean(), list(nets[0].parameters()))
    length = sum(g.square().sum() for g in grads).sqrt()
    before = [p.detach().clone() for p in nets[1].parameters()]
    train_step(nets[1], SCHED, torch.optim.SGD(nets[1].parameters(), 1.0), recipe, batch, 0, False)
    assert length > 2*recipe.clip_grad and len(grads) > 50
    for g, p_0, p in zip(grads, before, nets[1].parameters()):
        moved = (p_0 - p.detach())/recipe.lr
        assert (moved - g*recipe.clip_grad/length).norm() < 1e-4*moved.norm() > 0


def test_settings_reach_the_ends_of_their_ranges():
    for name, ends in train._ranges.items():
        kind = Recipe.__dataclass_fields__[name].type
        for end in ends:
            rest = dict(batch=10**9) if name == 'accumulate' else {}
            assert getattr(Recipe(**rest | {name: kind(end)}), name) == end, name
        with pytest.raises(ValueError, match=name): Recipe(**{name: ends[0] - 1})


def test_min_snr_knows_squares_only():
    with pytest.raises(ValueError, match='weight min_snr wanted distance mse'): Recipe(weight='min_snr', distance='mae')
    with pytest.raises(ValueError, match='weight wanted one of uniform, min_snr'): Recipe(weight='min-snr')


def test_every_step_from_1_to_T_is_drawn_and_draws_depend_on_the_step_alone():
    r = Recipe(batch=64)
    seen = torch.cat([draw(DATA, r, 7, k).t for k in range(20)])
    assert set(seen.tolist()) == set(range(1, 8))
    for a, b in zip(draw(DATA, r, 7, 5)[:3], draw(DATA, r, 7, 5)[:3]): assert torch.equal(a, b)
    assert not torch.equal(draw(DATA, r, 7, 5).eps, draw(DATA, r, 7, 6).eps)
    assert not torch.equal(draw(DATA, r, 7, 5).eps, draw(DATA, Recipe(batch=64, seed=1), 7, 5).eps)


def test_an_epoch_shows_each_image_once():
    order = torch.cat([batch_indices(64, 8, k, 3) for k in range(16)])
    assert order[:64].sort().values.tolist() == order[64:].sort().values.tolist() == list(range(64)) and not torch.equal(order[:64], order[64:])


def test_the_plain_loop_learns_what_a_run_learns(recwarn):
    "Rejects an average that is not returned, one that lags a step, another order of batches, and an optimizer that is not used."
    made = card(ema_decay=0.3)
    whole, bare, other = fit(Run(made, DATA), progress=False), Run(made, DATA), Run(made, DATA)
    averaged, losses = train.fit(bare.net.eval(), bare.sched, DATA, bare.recipe)
    assert torch.equal(losses, torch.stack(whole.losses)) and bare.net.training and not averaged.training and not recwarn.list
    for net, wanted in (bare.net, whole.net), (averaged, whole.averaged().net):
        assert all(torch.equal(v, wanted.state_dict()[k]) for k, v in net.state_dict().items())
    train.fit(other.net, other.sched, DATA, other.recipe, torch.optim.SGD(other.net.parameters(), 1.0))
    assert not torch.allclose(other.net.out.weight, whole.net.out.weight, atol=1e-5)


def test_the_plain_loop_takes_precision_and_optimizer_from_its_recipe():
    for precision, wanted in ('bf16', torch.bfloat16), ('float32', False):
        net = Watched()
        train.fit(net, SCHED, DATA, Recipe(steps=1, batch=4, precision=precision))
        assert [how for _, how in net.seen] == [wanted]
    muon = Recipe(steps=1, batch=4, optimizer='muon')
    with pytest.raises(ValueError, match='opt wanted an optimizer: muon is made by engine.run'): train.fit(Watched(), SCHED, DATA, muon)
    net = Watched()
    train.fit(net, SCHED, DATA, muon, torch.optim.SGD(net.parameters(), 0.1))
    assert len(net.seen) == 1


def test_what_has_moved_is_found_with_a_warning(tmp_path):
    with pytest.warns(DeprecationWarning, match='Run is in ddpm_lesson.engine.run now'): assert train.Run is Run
    with pytest.warns(DeprecationWarning, match='fit is in ddpm_lesson.engine.run now'): assert len(train.fit(Run(card(steps=4), DATA), progress=False).losses) == 4
    seen = []
    either, net = train._or_of_a_run(lambda *args, **settings: (args, settings)), torch.nn.Identity()
    assert either(net, 1, two=2) == ((net, 1), dict(two=2)) and either.__name__ == '<lambda>'
    with pytest.warns(DeprecationWarning, match='fit is in'): assert len(either(Run(card(steps=4), DATA), tmp_path, progress=False, report=seen.append).losses) == 4
    assert seen
    assert (tmp_path/'checkpoint.safetensors').exists()
    with pytest.raises(AttributeError, match="'ddpm_lesson.train' has no attribute 'runn'"): train.runn
    with pytest.raises(AttributeError, match="no attribute '__path__'"): train.__path__


def test_the_random_numbers_of_a_step_are_those_of_its_key():
    "Rejects a seed, a purpose, an epoch or a step left out: each draws from a generator of its own."
    def g(*key):
        mixed = 0
        for k in key: mixed = (mixed*0x9E3779B97F4A7C15 + k + 1) % 2**63
        return torch.Generator().manual_seed(mixed)
    batch = draw(DATA, Recipe(batch=8, seed=3), 50, 11)                     # the fourth batch of the second epoch
    order = torch.randperm(64, generator=g(3, 0, 1))[24:32]
    assert torch.equal(batch.x_0, to_unit(DATA.pixels[order]))
    assert torch.equal(batch.t, torch.randint(1, 51, (8,), generator=g(3, 1, 11)))
    assert torch.equal(batch.eps, torch.randn(8, 1, 7, 7, generator=g(3, 2, 11)))
    seeds = [train.generator(3, k, 11).initial_seed() for k in range(8)]
    assert len(set(seeds)) == 8 and seeds == [g(3, k, 11).initial_seed() for k in range(8)]


def test_a_label_is_kept_where_none_may_be_dropped(monkeypatch):
    "The smallest number that can be drawn is 0: a share of 0 drops nothing even then, a share of 1 everything."
    for luck, share, wanted in (torch.zeros, 0.0, {0, 1}), (lambda n, generator: torch.full((n,), 1 - 2.0**-24), 1.0, {2}):
        monkeypatch.setattr(torch, 'rand', lambda n, generator, luck=luck: luck(n) if luck is torch.zeros else luck(n, generator))
        assert set(draw(labelled(), Recipe(batch=8, label_drop=share), 10, 0).y.tolist()) == wanted


def test_a_running_average_by_hand():
    # checks (10.3)
    losses = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    wanted = [3.0, (0.8*0.2*3 + 0.2*1)/(1 - 0.8**2), (0.8**2*0.2*3 + 0.8*0.2*1 + 0.2*2)/(1 - 0.8**3)]
    assert_close(smoothed(losses, 0.8), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)


class Watched(torch.nn.Module):
    "A network that notes what it is given, and in which precision."
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(())), []

    def forward(self, x, t, y=None):
        self.seen.append((y, torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu')))
        return self.weight*x


def test_a_step_hands_on_labels_distance_and_precision():
    batch, recipe = draw(labelled(), Recipe(batch=4), SCHED.T, 0), Recipe(target='eps', distance='mae', clip_grad=0)
    for how, wanted in (dict(bf16=True), torch.bfloat16), (dict(bf16=False), False), ({}, False):
        net = Watched()
        loss = train_step(net, SCHED, torch.optim.SGD(net.parameters(), 0.1), recipe, batch, 0, **how)
        [(y, precision)] = net.seen
        assert torch.equal(y, batch.y) and precision == wanted
        x_t = q_sample(SCHED, batch.x_0, batch.t, batch.eps)
        assert_close(loss, (x_t - batch.eps).abs().mean(), rtol=1e-4, atol=1e-5)
    net = Watched()
    gradient_step(net, SCHED, torch.optim.SGD(net.parameters(), 0.1), recipe, batch)
    assert net.seen[0][1] is False
    try:
        torch.set_autocast_dtype('cpu', torch.float16)      # whatever the caller's own choice is
        gradient_step(net, SCHED, torch.optim.SGD(net.parameters(), 0.1), recipe, batch, bf16=True)
    finally: torch.set_autocast_dtype('cpu', torch.bfloat16)
    assert net.seen[1][1] is torch.bfloat16


def test_a_batch_says_what_its_parts_are():
    plain, named = draw(DATA, Recipe(batch=4), 10, 0), draw(labelled(), Recipe(batch=4, label_drop=0), 10, 0)
    assert plain._fields == ('x_0', 't', 'eps', 'y') and plain.y is None and set(named.y.tolist()) <= {0, 1}
    assert plain.x_0.shape == plain.eps.shape == (4, 1, 7, 7) and plain.t.dtype == torch.int64
    with pytest.raises(AttributeError): plain.t = 3


LABELS = torch.arange(64) % 2
def labelled(pixels=DATA.pixels, labels=LABELS, classes=('a', 'b')): return Images(pixels, labels, classes, 'small')


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match='uint8'): check_unit(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match='uint8'): eps_loss(lambda x, t: x, SCHED, torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([1, 2]), torch.zeros(2, 1, 4, 4))


def test_bytes_come_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(to_unit(every)), every) and to_pixels(torch.tensor([-1.3, 1.3])).tolist() == [0, 255]


def test_a_batch_is_drawn_where_the_images_are(monkeypatch):
    "Rejects noise drawn on a CPU for images on a GPU, and copies that wait: known without a GPU by what torch is asked for."
    data, home, asked = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)), torch.device('cpu'), []
    kept = {name: getattr(torch, name) for name in ('Generator', 'randn')}
    copy = torch.Tensor.to

    def heard(name, call):
        def ask(*args, **more):
            asked.append((name, args[-1:] if name != 'randn' else (), {k: v for k, v in more.items() if k in ('device', 'non_blocking')}))
            return call(*args, **more)
        return ask
    for name, call in kept.items(): monkeypatch.setattr(torch, name, heard(name, call))
    monkeypatch.setattr(torch.Tensor, 'to', heard('to', copy))
    draw(data, Recipe(batch=2), 10, 0)
    monkeypatch.undo()
    assert ('randn', (), dict(device=home)) in asked
    assert isinstance([where for name, (*where,), _ in asked if name == 'Generator'][-1][0], torch.device)   # of the noise
    copies = [(where, more) for name, where, more in asked if name == 'to' and more]
    assert len(copies) == 3 and all(where == (home,) and more == dict(non_blocking=False) for where, more in copies)
    assert all(a[1] != (None,) for a in asked)


def small(**options):
    torch.manual_seed(0)
    net = UNet(width=8, mults=(1,), patch=1, blocks=1, attend=(), **options)
    for p in net.parameters(): torch.nn.init.normal_(p, std=0.1)
    return net


LABELLED = Images(DATA.pixels, torch.arange(64) % 2, ('a', 'b'))
FLIPPED = Recipe(steps=2, batch=16, warmup=1, flip=True, label_drop=0.5, precision='float32')


@pytest.mark.parametrize('around', [torch.no_grad, torch.inference_mode, lambda: torch.device('meta'), lambda: torch.autocast('cpu', torch.bfloat16)],
                         ids=['no_grad', 'inference', 'meta', 'autocast'])
def test_whatever_the_caller_has_set_the_plain_loop_learns_alike(around):
    wanted, net = train.fit(small(classes=2), SCHED, LABELLED, FLIPPED)[1], small(classes=2)
    with around(): got = train.fit(net, SCHED, LABELLED, FLIPPED)[1]
    assert_close(got, wanted, rtol=1e-5, atol=0)


def test_a_batch_is_the_same_whatever_the_callers_defaults():
    "Rejects random numbers in the caller's dtype, which are others, or on the caller's device."
    wanted = draw(LABELLED, FLIPPED, 1000, 1)
    torch.set_default_dtype(torch.float64)
    try: got = draw(LABELLED, FLIPPED, 1000, 1)
    finally: torch.set_default_dtype(torch.float32)
    for a, b in zip(got, wanted): assert torch.equal(a, b) and a.dtype == b.dtype


@pytest.mark.parametrize('classes', [1, 5])
def test_labels_mean_to_the_network_what_they_mean_in_the_set(classes):
    "Rejects 'no label', 2 in a set of two classes, read as the third class of five."
    with pytest.raises(ValueError, match=f'net wanted 2 classes, .* got {classes}'): train.fit(small(classes=classes), SCHED, LABELLED, FLIPPED)
    train.fit(small(classes=classes), SCHED, DATA, FLIPPED)
    with pytest.raises(TypeError, match='data wanted Images'): train.fit(small(), SCHED, DATA.pixels, FLIPPED)
    with pytest.raises(TypeError, match='sched wanted a Schedule'): train.fit(small(), None, DATA, FLIPPED)


def test_min_snr_is_a_number_where_nothing_is_left():
    "Rejects 0/0 at the last step of a schedule that ends in noise."
    zero, t = zero_terminal_snr(SCHED), torch.tensor([1000, 1])
    at_T = {target: min_snr(torch.ones(2), zero, t, target)[0].item() for target in ('eps', 'x_0', 'v')}
    assert at_T['eps'] == 1 and 0 <= at_T['x_0'] < 1e-20 and 0 <= at_T['v'] < 1e-20
    for wrong in 0, -1, 1001:
        with pytest.raises(ValueError, match='t wanted 1..1000'): min_snr(torch.ones(1), SCHED, wrong, 'eps')


def test_the_order_of_an_epoch_is_not_the_callers_to_change():
    first = batch_indices(64, 8, 0, 5).clone()
    batch_indices(64, 8, 0, 5).zero_()
    assert torch.equal(batch_indices(64, 8, 0, 5), first)


@pytest.mark.parametrize('call, error', [
    (lambda: smoothed(torch.tensor([3, 2, 1])), 'floating-point'), (lambda: smoothed([3., 2.]), 'losses wanted a floating-point'),
    *((lambda m=m: smoothed(torch.ones(3), m), 'memory wanted') for m in (1., -1., float('nan'), 2., 'a')),
    *((lambda d=d: Ema(torch.nn.Linear(1, 1), d), 'decay wanted') for d in (-1., 2., float('nan'), '0.9')),
    (lambda: batch_indices(64, 0, 0, 0), 'batch wanted at least 1'), (lambda: batch_indices(64, 8, -1, 0), 'step wanted at least 0'),
    (lambda: draw(DATA, FLIPPED, 0, 0), 'T wanted at least 1'), (lambda: lr_sweep(lambda step, lr: 1., steps=0), 'steps wanted at least 1'),
    (lambda: lr_sweep(lambda step, lr: 1., hi=float('inf')), '0 < lo < hi'), (lambda: lr_sweep(lambda step, lr: None), 'the loss wanted a number'),
    (lambda: suggest_lr(torch.ones(20), torch.ones(15)), 'rates and losses wanted one shape'),
    (lambda: train.adamw([], Recipe()), 'wanted weights that learn, got none'), (lambda: train.fit(torch.nn.Linear(1, 1).requires_grad_(False), SCHED, DATA, Recipe(steps=1, batch=2)), 'wanted weights that learn'),
    (lambda: to_unit(torch.zeros(2, dtype=torch.uint8).numpy()), 'pixels wanted a tensor of uint8, got ndarray'), (lambda: to_pixels([0.5]), 'x wanted a floating-point tensor, got list'), (lambda: UNet(mults=2), 'UNet wanted whole numbers for mults, got 2'),
    (lambda: to_pixels(torch.full((2, 2), float('nan'))), 'NaN, which would become black'), (lambda: Images(torch.zeros(2, 1, 0, 4, dtype=torch.uint8)), 'of one pixel'),
])
def test_what_no_training_can_use_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error): call()


@pytest.mark.parametrize('call, error', [
    (lambda: min_snr(torch.ones(3), linear_schedule(10), torch.tensor([1, 2]), 'eps'), r'^t wanted one step for each image, shape \(3,\), got \(2,\)$'), (lambda: train.generator(1, 2.5), r'^key wanted whole numbers, got \(1, 2.5\)$'),
    (lambda: batch_indices(10, 2, 0.5, 0), r'^n, step and seed wanted whole numbers, got'), (lambda: Ema(torch.nn.Linear(1, 1), 1.1), r'^decay wanted a value in .0, 1.'), (lambda: smoothed(torch.ones(2), 1.0), r'^memory wanted a value in .0, 1\), got 1.0$'),
    (lambda: lr_sweep(lambda step, lr: 1.0, lo='a'), "^lo wanted a number, got 'a'$"), (lambda: lr_sweep(lambda step, lr: 1.0, hi=None), '^hi wanted a number, got None$'), (lambda: lr_sweep(0.5), '^loss_at wanted a function, got 0.5$'),
    (lambda: train._check_opt(torch.optim.AdamW, torch.nn.Linear(1, 1)), r"^opt wanted an optimizer of the weights of net, got <class 'torch.optim.adamw.AdamW'>$"), (lambda: train._check_opt(None, torch.nn.Linear(1, 1)), 'got None$'),
    (lambda: train._check_opt(torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1), torch.nn.Linear(1, 1)), 'got that of others, SGD$'),
])
def test_what_training_can_not_take_is_named(call, error):
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_what_lies_at_an_end_is_taken():
    "Rejects an average that may not keep all or nothing, and a mean without memory refused."
    net = torch.nn.Linear(1, 1)
    assert Ema(net, 0.0).decay == 0 and Ema(net, 1).decay == 1
    assert torch.equal(smoothed(torch.tensor([3., 1., 2.]), 0.0), torch.tensor([3., 1., 2.]))
    train._check_opt(torch.optim.SGD(net.parameters(), lr=1), net)
    with torch.device('meta'): rates, losses = lr_sweep(lambda step, lr: 1/(1 + step), steps=12)
    assert rates.device.type == losses.device.type == 'cpu' and rates.dtype == losses.dtype == torch.float64
