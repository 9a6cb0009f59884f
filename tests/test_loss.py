"The losses and the wrappers: exact values, what reaches the network, what is stored, what is refused."
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.forward import q_sample
from ddpm_lesson.loss import (
    PredictsEps,
    PredictsV,
    PredictsX0,
    ask,
    distances,
    eps_loss,
    mean_abs,
    mean_square,
    targets,
    v_loss,
    x_0_loss,
)
from ddpm_lesson.posterior import v_from_eps, x_0_from_v
from ddpm_lesson.schedule import cosine_schedule, linear_schedule

SCHED = linear_schedule()
X_0, EPS, T = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1), torch.tensor([1, 300, 1000])
LOSSES = [eps_loss, x_0_loss, v_loss]
WRAPPERS = [PredictsEps, PredictsX0, PredictsV]


class Listener:
    "A network that keeps what it was given and answers with a fixed batch."
    def __init__(self, answer): self.answer = answer
    def __call__(self, *given):
        self.given = given
        return self.answer


def test_distances_by_hand():
    got, wanted = torch.tensor([[1., 2.], [0., 0.]]), torch.tensor([[2., 4.], [0., -3.]])
    assert mean_square(got, wanted).tolist() == [2.5, 4.5] and mean_abs(got, wanted).tolist() == [1.5, 1.5]
    assert mean_square(got[:, 0], wanted[:, 0]).tolist() == [1., 0.] and mean_abs(got[:, 0], wanted[:, 0]).tolist() == [1., 0.]   # images of one number
    assert distances == dict(mse=mean_square, mae=mean_abs)


@pytest.mark.parametrize('distance', [mean_square, mean_abs])
def test_distances_are_wide(distance):
    "A mean over bfloat16 stops growing at 256; a loss in half precision has three digits."
    a = torch.zeros(1, 4096, dtype=torch.bfloat16)
    assert distance(a, a + 1).dtype == torch.float32 and distance(a, a + 1).item() == 1
    assert distance(a.float(), a.double()).dtype == distance(a.double(), a.float()).dtype == torch.float64
    with pytest.raises(ValueError, match=r'\(2, 3\), got \(2, 1\)'): distance(torch.zeros(2, 1), torch.zeros(2, 3))   # would broadcast


@pytest.mark.parametrize('loss, wanted', [(eps_loss, EPS), (x_0_loss, X_0), (v_loss, v_from_eps(SCHED, X_0, EPS, T))])
def test_each_loss_compares_with_its_own_target(loss, wanted):
    said = normal(3, 2, 4, 5, seed=2)
    for distance in mean_square, mean_abs: assert_close(loss(Listener(said), SCHED, X_0, T, EPS, distance=distance), distance(said, wanted), rtol=1e-12, atol=0)
    assert_close(loss(Listener(said), SCHED, X_0, T, EPS), mean_square(said, wanted), rtol=1e-12, atol=0)


@pytest.mark.parametrize('loss', LOSSES)
def test_what_reaches_the_network(loss):
    "The noised image, one int64 step an image, and the labels; a loss that drops labels trains an unconditional network."
    net, labels = Listener(EPS), torch.tensor([4, 5, 6])
    loss(net, SCHED, X_0, T, EPS, labels, 'more')
    x_t, t, *rest = net.given
    assert torch.equal(x_t, q_sample(SCHED, X_0, T, EPS)) and torch.equal(t, T) and torch.equal(rest[0], labels) and rest[1:] == ['more']
    loss(net, SCHED, X_0, 300, EPS)
    assert net.given[1].tolist() == [300]*3 and net.given[1].dtype == torch.int64 and len(net.given) == 2
    assert_close(net.given[0][1], x_t[1], rtol=0, atol=0)


@pytest.mark.parametrize('loss', LOSSES)
def test_the_step_goes_where_the_image_is(loss):
    "Steps are drawn and checked on the CPU; a network on a GPU cannot read them there. 'meta' stands for any other device."
    net = Listener(EPS.to('meta'))
    assert loss(net, SCHED, X_0.to('meta'), T, EPS.to('meta')).device.type == 'meta'
    assert [x.device.type for x in net.given] == ['meta', 'meta']


def test_ask_refuses_what_the_closed_form_would_take():
    with pytest.raises(ValueError, match='t >= 1'): ask(Listener(EPS), SCHED, X_0, 0, EPS)   # no noise there to find
    with pytest.raises(ValueError, match='one step for each image'): ask(Listener(EPS), SCHED, X_0, T[:2], EPS)
    with pytest.raises(ValueError, match='1000'): ask(Listener(EPS), SCHED, X_0, 1001, EPS)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_pass_image_step_and_labels_on(wrapper):
    net, labels = Listener(EPS), torch.tensor([4, 5, 6])
    wrapper(net, SCHED)(X_0, T, labels)
    assert torch.equal(net.given[0], X_0) and torch.equal(net.given[1], T) and torch.equal(net.given[2], labels)
    wrapper(net, SCHED)(X_0, 7)
    assert net.given[1].tolist() == [7]*3 and len(net.given) == 2


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_refuse_bad_steps_and_images(wrapper):
    model = wrapper(Listener(EPS), SCHED)
    for t, said in (0, 't >= 1'), (1001, '1000'), (torch.tensor([1, 2]), 'one step for each image'), (torch.tensor([0, 1, 2]), 't >= 1'):
        with pytest.raises(ValueError, match=said): model(X_0, t)
    for x in X_0.long(), X_0.tolist(), None:
        with pytest.raises(TypeError, match='floating-point'): model(x, T)


@pytest.mark.parametrize('sched', [SCHED, cosine_schedule()])
def test_wrappers_keep_the_rates_to_48_bits_and_out_of_the_weights(sched):
    "float32 tables alone lose 1 - alpha_bar at small t; stored in the weights they would overwrite another schedule's."
    net = torch.nn.Linear(2, 2)
    model = PredictsX0(net, sched)
    t = torch.arange(1, sched.T + 1)
    signal, noise = model.rates(torch.zeros(sched.T, 2, dtype=torch.float64), t)
    assert signal.shape == noise.shape == (sched.T, 1) and signal.dtype == torch.float64
    assert_close(signal[:, 0], sched.signal_rate[1:], rtol=1e-13, atol=0)
    assert_close(noise[:, 0], sched.noise_rate[1:], rtol=1e-13, atol=0)
    assert model.rates(torch.zeros(1, 2), t[:1])[0].dtype == torch.float32
    assert set(model.state_dict()) == {'net.weight', 'net.bias'}
    for cast in torch.float16, torch.bfloat16, torch.float64:   # casting the weights leaves the rates alone
        assert_close(PredictsX0(net, sched).to(cast).rates(torch.zeros(sched.T, 2, dtype=torch.float64), t)[1][:, 0], sched.noise_rate[1:], rtol=1e-13, atol=0)


def test_wrappers_live_where_their_network_does():
    "Built around a network on another device, the tables go there; a plain function has none, and stays on the CPU."
    for net, home in (torch.nn.Linear(2, 2).to('meta'), 'meta'), (torch.nn.Linear(2, 2), 'cpu'), (torch.nn.Identity(), 'cpu'), (lambda x, t: x, 'cpu'):
        model = PredictsV(net, SCHED)
        assert model.signal_rate.device.type == model.noise_rate.device.type == home
    steps = PredictsV(torch.nn.Linear(2, 2).to('meta'), SCHED).steps(X_0.to('meta'), T)
    assert steps.device.type == 'meta' and steps.shape == (3,)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_made_without_memory_have_their_tables_when_they_get_some(wrapper):
    "Rejects rates that are whatever lay in memory: `to_empty` after torch.device('meta')."
    with torch.device('meta'): model = wrapper(torch.nn.Conv2d(1, 1, 1), SCHED)
    assert model.signal_rate.is_meta and model.to(torch.float64).signal_rate.is_meta
    model = model.to_empty(device='cpu')
    for name in 'signal_rate', 'noise_rate': assert torch.equal(getattr(model, name), getattr(wrapper(torch.nn.Conv2d(1, 1, 1), SCHED), name))


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_tables_stay_what_they_are_where_weights_lose_their_numbers(wrapper):
    "Rejects rates that are whatever lay in memory: `to_empty`, then `load_state_dict`, which knows no tables."
    model, other = (wrapper(torch.nn.Conv2d(1, 1, 1), SCHED) for _ in range(2))
    model._apply(lambda t: torch.full_like(t, 7)).load_state_dict(other.state_dict())   # as `to_empty` may find it
    for name in 'signal_rate', 'noise_rate': assert torch.equal(getattr(model, name), getattr(other, name))
    assert torch.equal(model.net.weight, other.net.weight)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_tables_are_where_the_images_are(wrapper):
    "Rejects tables without numbers where weights were assigned to a model that was made without memory."
    with torch.device('meta'): model = wrapper(torch.nn.Conv2d(2, 2, 1), SCHED)
    other = wrapper(torch.nn.Conv2d(2, 2, 1).double(), SCHED)
    model.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(wrapper(lambda x, t: x, SCHED).to('meta')(X_0, T), wrapper(lambda x, t: x, SCHED)(X_0, T))
    for m in model, other: m.net.forward = lambda x, t: x
    assert torch.equal(model(X_0, T), other(X_0, T))


def test_names_of_targets():
    assert targets == dict(eps=(eps_loss, PredictsEps), x_0=(x_0_loss, PredictsX0), v=(v_loss, PredictsV))


# ---- the clean image, labels, precision, names

class Paints(torch.nn.Module):
    "A network with weights, which keeps what it was given, writes into it, and answers in the weights' dtype."
    classes, went_without = 5, False
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.conv = torch.nn.Conv2d(2, 2, 1)
    def forward(self, x, t, *labels):
        self.given = x.clone(), t.clone(), *labels
        x.zero_(), t.zero_()
        return (self.weight*self.given[0]).tanh()


LABELS = torch.tensor([4, 0, 5])


@pytest.mark.parametrize('t', [300, T], ids=['one step', 'a step each'])
def test_the_clean_image_is_the_networks_own_or_follows_from_its_velocity(t):
    "Rejects a sign, a rate exchanged, a label dropped, and a step that is not spread over the batch."
    net = Listener(EPS)
    assert torch.equal(PredictsX0(net, SCHED).x_0_hat(X_0, t, LABELS), EPS)
    assert torch.equal(net.given[0], X_0) and net.given[1].tolist() == torch.as_tensor(t).expand(3).tolist() and torch.equal(net.given[2], LABELS)
    assert_close(PredictsV(net, SCHED).x_0_hat(X_0, t, LABELS), x_0_from_v(SCHED, X_0, EPS, t), rtol=1e-12, atol=1e-12)
    assert torch.equal(net.given[0], X_0) and net.given[1].shape == (3,) and torch.equal(net.given[2], LABELS)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_labels_are_looked_at_before_the_network_is_asked(wrapper):
    model = wrapper(Paints().double(), SCHED)
    for wrong, said in (LABELS + 1, 'labels wanted 0..4, or 5 for none'), (LABELS[:1], 'labels wanted a tensor of 3 whole numbers'), (LABELS.float(), 'whole numbers'):
        with pytest.raises((ValueError, TypeError), match=said): model(X_0, T, wrong)
    with pytest.raises(ValueError, match='labels wanted, got none: this network never learned without'): model(X_0, T)
    model(X_0, T, LABELS)
    assert torch.equal(model.net.given[2], LABELS)
    model.net.went_without = True
    model(X_0, T)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_a_network_is_shown_a_copy_in_the_dtype_of_its_weights(wrapper):
    "Rejects an image or a step that the network may write into, and float64 shown to weights of float32."
    x, t, model = X_0.clone(), T.clone(), wrapper(Paints(), SCHED)
    said = model(x, t, LABELS)
    assert torch.equal(x, X_0) and torch.equal(t, T) and model.net.given[0].dtype == torch.float32 and said.dtype == torch.float64
    same = X_0.float()
    model(same, T, LABELS)
    assert torch.equal(same, X_0.float())
    eps_loss(model.net, SCHED, x, t, EPS, LABELS)
    assert torch.equal(x, X_0) and torch.equal(t, T) and model.net.given[0].dtype == torch.float32


def test_what_moves_a_model_moves_its_network():
    "Rejects tables that move alone, and those that stay behind."
    model = PredictsV(Paints(), SCHED).to(torch.float64)
    assert model.net.weight.dtype == model.net.conv.weight.dtype == torch.float64 and not dict(model.named_buffers(recurse=False)).keys() & model.state_dict().keys()
    model = PredictsV(Paints(), SCHED).to('meta')
    assert model.net.conv.weight.is_meta and model.signal_rate.is_meta
    with torch.device('meta'): model = PredictsV(lambda x, t: x, SCHED)
    assert model.signal_rate.device.type == 'cpu'


def test_errors_of_losses_name_what_was_wrong():
    for loss in LOSSES:
        for wrong in 'mae', torch.nn.MSELoss:
            with pytest.raises(TypeError, match='^distance wanted a function'): loss(Listener(EPS), SCHED, X_0, T, EPS, distance=wrong)
        with pytest.raises(TypeError, match="^the network's answer wanted a floating-point tensor, got NoneType$"): loss(Listener(None), SCHED, X_0, T, EPS)
    for distance in mean_square, mean_abs:
        with pytest.raises(TypeError, match='^got wanted a floating-point tensor'): distance(EPS.long(), EPS)
        with pytest.raises(TypeError, match='^wanted wanted a floating-point tensor'): distance(EPS, EPS.long())
    class Theirs(Listener):
        def add_noise(self): pass
    with pytest.raises(TypeError, match='from_diffusers translates'): eps_loss(Theirs(None), SCHED, X_0, T, EPS)
    with pytest.raises(TypeError, match='^x_t wanted a floating-point tensor'): PredictsEps(Listener(EPS), SCHED).steps([1], 5)
    for wrapper in WRAPPERS:
        with pytest.raises(TypeError, match='^net wanted a function'): wrapper(None, SCHED)
    with pytest.raises(ValueError, match='sched wanted the schedule'): eps_loss(PredictsEps(Listener(EPS), SCHED), cosine_schedule(), X_0, T, EPS)


class Keeps:
    "A plain wrapper, which is no module."
    def __init__(self, net): self.net = net
    def __call__(self, *given): return self.net(*given)


class Conditioned(torch.nn.Module):
    "A network of its own, which keeps a model to look at."
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, x, t): return 2*x


AROUND = {'alone': lambda m: m, 'on many cards': torch.nn.DataParallel, 'twice': lambda m: torch.nn.DataParallel(torch.nn.DataParallel(m)), 'partial': partial, 'method': lambda m: m.forward,
          'kept': Keeps, 'kept by a partial': lambda m: partial(Keeps(m)), 'compiled': lambda m: torch.compile(m, backend='eager')}


def test_a_network_that_keeps_a_model_is_no_wrapper_of_it():
    "Rejects a look at every part: such a network could not be trained."
    assert v_loss(Conditioned(PredictsEps(Listener(EPS), SCHED)), SCHED, X_0, T, EPS).shape == (3,)


@pytest.mark.parametrize('around', AROUND.values(), ids=AROUND)
def test_answers_of_a_wrapped_network_are_noise_and_only_compared_with_noise(around):
    inside = around(PredictsEps(Listener(EPS), SCHED))
    assert (eps_loss(inside, SCHED, X_0, T, EPS) == 0).all() and torch.equal(PredictsEps(inside, SCHED)(X_0, T), EPS)
    for refused in (lambda: x_0_loss(inside, SCHED, X_0, T, EPS), lambda: v_loss(inside, SCHED, X_0, T, EPS), lambda: PredictsX0(inside, SCHED), lambda: PredictsV(inside, SCHED)):
        with pytest.raises(TypeError, match='net wanted the network alone'): refused()
