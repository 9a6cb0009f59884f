"The losses and the wrappers: exact values, what reaches the network, what is stored, what is refused."
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
from ddpm_lesson.posterior import v_from_eps
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
