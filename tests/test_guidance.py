"Labels and guidance: what reaches the network, and what comes back."
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.guidance import Autoguided, Guided, Labelled, in_batches
from ddpm_lesson.loss import PredictsEps
from ddpm_lesson.metrics import Counted, draw_pixels, noise_loss
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.unet import UNet

X_T, T, Y = normal(3, 2, 4, 5), torch.tensor([1, 7, 1000]), torch.tensor([2, 0, 5])


class Net(nn.Module):
    "An answer that depends on image, step and label, and on whether there is a label; keeps what it was asked."
    def __init__(self):
        super().__init__()
        self.weight, self.asked = nn.Parameter(torch.tensor(0.5)), []

    def forward(self, x_t, t, y=None):
        self.asked.append((x_t, t, y))
        label = -3.0 if y is None else y.to(x_t.dtype).reshape(-1, 1, 1, 1)
        return torch.tanh(self.weight.to(x_t.dtype)*x_t + t.to(x_t.dtype).reshape(-1, 1, 1, 1)/1000 + label)


def test_a_label_reaches_the_network_as_it_is():
    "Rejects a wrapper that drops the label, shuffles it, or asks twice."
    net = Net()
    assert torch.equal(Labelled(net, Y)(X_T, T), Net()(X_T, T, Y))
    (x, t, y), = net.asked
    assert torch.equal(x, X_T) and torch.equal(t, T) and torch.equal(y, Y)


@pytest.mark.parametrize('scale', [0.0, 0.5, 1.0, 3.0])
def test_guidance_is_the_line_through_both_answers(scale):
    "Rejects the plus of s e_c + (s - 1) e_u, a scale of 1 + w, and labels that stay at scale 0."
    net = Net()
    free, labelled = net(X_T, T), net(X_T, T, Y)
    assert_close(Guided(net, Y, scale)(X_T, T), (1 - scale)*free + scale*labelled, rtol=1e-12, atol=1e-12)


def test_guidance_asks_once_with_labels_and_once_without():
    net = Net()
    Guided(net, Y, 2.0)(X_T, T)
    assert sorted(y is None for _, _, y in net.asked) == [False, True]
    assert all(torch.equal(x, X_T) and torch.equal(t, T) for x, t, _ in net.asked)


def test_two_is_the_scale_without_saying_so():
    "Rejects another default."
    assert_close(Guided(Net(), Y)(X_T, T), Guided(Net(), Y, 2.0)(X_T, T), rtol=0, atol=0)


@pytest.mark.parametrize('scale', [-1e-9, -1.0, float('inf'), float('nan')])
def test_a_scale_below_zero_or_endless_is_refused(scale):
    with pytest.raises(ValueError, match='scale wanted'): Guided(Net(), Y, scale)


@pytest.mark.parametrize('wrap', [Labelled, Guided])
@pytest.mark.parametrize('images', [1, 2, 4])
def test_one_label_an_image(wrap, images):
    "Rejects a wrapper that lets one label stand for all images, or three for four."
    with pytest.raises(ValueError, match='one label an image'): wrap(Net(), Y)(X_T[:1].expand(images, 2, 4, 5), T[:1].expand(images))


@pytest.mark.parametrize('wrap', [Labelled, Guided])
def test_the_network_inside_is_a_part_of_the_wrapper(wrap):
    "Rejects a wrapper whose network is not moved, trained or put into eval mode with it."
    net = Net()
    assert [p is net.weight for p in wrap(net, Y).parameters()] == [True]
    assert not wrap(net, Y).eval().model.training


class Named(Net):
    "A network that knows how many classes it has."
    def __init__(self, classes):
        super().__init__()
        self.classes = classes


@pytest.mark.parametrize('wrap', [Labelled, Guided])
@pytest.mark.parametrize('around', [lambda net: net, lambda net: PredictsEps(net, linear_schedule(1000)), lambda net: torch.compile(PredictsEps(net, linear_schedule(1000)))], ids=['network', 'model', 'compiled'])
@pytest.mark.parametrize('y, error', [
    ([10], 'labels wanted 0..9 .10 would mean: no label., got 10..10'), ([-1], 'got -1..-1'), ([11], 'got 11..11'), ([3, 10], 'got 3..10'), ([3.], r'whole number for each image.*float'), ([True], 'bool'),
    (3, r'got \(\) torch.int64'), ([[3]], r'got \(1, 1\)'), (torch.tensor(3), r'got \(\)'), (np.array([10]), 'got 10..10'), (torch.tensor([3]).float(), 'float32'), (torch.tensor([3]).cfloat(), 'complex'),
])
def test_labels_the_model_does_not_know_are_refused_when_they_are_given(wrap, around, y, error):
    "Rejects a wrapper that waits for the network to fail, and one that lets the label for 'none' pass as a class."
    with pytest.raises((ValueError, TypeError), match=error): wrap(around(Named(10)), y)


def test_a_model_without_labels_says_so():
    with pytest.raises(ValueError, match='knows no labels'): Labelled(Named(0), [0])
    with pytest.raises(TypeError, match=r"classes of a network wanted a whole number, got \['hat'\]"): Labelled(Named(['hat']), [0])
    with pytest.raises(ValueError, match='labels wanted 0 or more'): Labelled(Net(), [-1])   # of another's model nobody knows how many


@pytest.mark.parametrize('y', [[2, 0, 5], (2, 0, 5), np.array([2, 0, 5]), np.array([2, 0, 5], dtype=np.uint8), Y, Y.int(), Y.to(torch.int16)], ids=str)
def test_whole_numbers_of_any_kind_are_labels(y):
    assert Labelled(Named(6), y).y.dtype == torch.int64 and torch.equal(Labelled(Named(6), y).y, Y) and torch.equal(Labelled(Named(6), y)(X_T, T), Net()(X_T, T, Y))
    assert not Labelled(Named(6), y).state_dict().keys() - {'model.weight'}     # labels are no weights


# ---- what guidance samples: one number, two hills, everything exact

def law(weight, x): return (mean := (weight*x).sum()/weight.sum()).item(), ((weight*(x - mean)**2).sum()/weight.sum()).sqrt().item()


@pytest.mark.parametrize('w, guided, tilted', [(1.0, (0.60, 0.40), (0.60, 0.40)), (2.0, (0.86, 0.29), (0.67, 0.36)), (4.0, (1.14, 0.23), (0.71, 0.33))])
def test_guidance_does_not_sample_the_tilted_law(w, guided, tilted):
    "Quantiles of the noise become quantiles of the samples. Rejects a scale of 1 + w, a score taken at another step, and the popular claim."
    sched, means, std, n = linear_schedule(), torch.tensor([[-0.6], [0.6]], dtype=torch.float64), 0.4, 401
    both, one = GaussianMixture([1., 1.], means, std, sched), GaussianMixture([1.], means[1:], std, sched)
    world = lambda x_t, t, y=None: both(x_t, t) if y is None else one(x_t, t)
    starts = 2**0.5*torch.erfinv(2*(torch.arange(n, dtype=torch.float64) + 0.5)/n - 1)
    z = ddim_sample(Guided(world, torch.ones(n, dtype=torch.int64), w), sched, (n, 1), steps=1000, x_T=starts[:, None]).double()[:, 0]
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    hills = -(x[:, None] - means.T)**2/(2*std**2)
    want = (hills.logsumexp(1) + w*hills.log_softmax(1)[:, 1]).exp()
    assert (z.diff() > 0).all()
    assert_close(law(torch.ones(n), z), guided, rtol=0, atol=0.01)
    assert_close(law(want, x), tilted, rtol=0, atol=0.01)


class Keeps:
    "A model that is no module, and keeps one."
    def __init__(self, net): self.net = net
    def __call__(self, x_t, t, *y): return self.net(x_t, t, *y)


@pytest.mark.parametrize('around', [nn.Sequential, nn.DataParallel, Counted, lambda m: Labelled(m, [0, 1]), lambda m: Counted(nn.Sequential(m)), Keeps, partial, lambda m: m.forward, lambda m: Counted(Keeps(m))])
def test_the_label_past_the_last_is_refused_through_any_wrapper(around):
    "Rejects a look at the outermost part alone: one label past the last is then taken, and means none."
    model = around(PredictsEps(UNet(1, 8, (1,), 1, patch=1, classes=3), linear_schedule(50)))
    for y in [0, 3], [-1, 0]:
        with pytest.raises(ValueError, match='labels wanted 0..2'): Labelled(model, y)


def test_a_model_called_with_labels_says_which_it_knows():
    "Rejects torch's own 'index out of range in self'."
    model, x = PredictsEps(UNet(1, 8, (1,), 1, patch=1, classes=3), linear_schedule(50)), torch.zeros(2, 1, 8, 8)
    for y in [-1, 0], [11, 0]:
        with pytest.raises(ValueError, match='labels wanted 0..2, or 3 for none'): model(x, 5, torch.tensor(y))
    assert model(x, 5, torch.tensor([0, 3])).shape == x.shape
    for y in torch.full((2,), 3), torch.zeros(3, dtype=torch.int64):
        with pytest.raises(ValueError, match='labels wanted'): noise_loss(model, linear_schedule(50), x.byte(), labels=y)


def test_guidance_without_labels_is_refused():
    "Rejects a scale that is dropped where there is nothing to insist on."
    model, sched = PredictsEps(UNet(1, 8, (1,), 1, patch=1, classes=3), linear_schedule(50)), linear_schedule(50)
    with pytest.raises(ValueError, match='guidance 3 wanted labels'): draw_pixels(model, sched, (2, 1, 8, 8), steps=2, guidance=3)


# ---- in an interval, and away from a worse model

@pytest.mark.parametrize('around', [lambda b: Guided(Net(), Y, 3.0, between=b), lambda b: Autoguided(Labelled(Net(), Y), Net(), 3.0, between=b)], ids=['Guided', 'Autoguided'])
def test_an_interval_guides_each_image_by_its_own_step(around):
    "Rejects the label dropped outside, an interval without its ends, and one image that decides for all."
    t = torch.tensor([99, 100, 700])
    free, asked = Net()(X_T, t), Net()(X_T, t, Y)
    w = torch.tensor([1., 3., 3.], dtype=torch.float64).reshape(3, 1, 1, 1)
    assert_close(around((100, 700))(X_T, t), free + w*(asked - free), rtol=1e-12, atol=1e-12)
    assert_close(around((701, 1000))(X_T, t), asked, rtol=0, atol=0)
    assert_close(around((1, 1000))(X_T, t), free + 3*(asked - free), rtol=1e-12, atol=1e-12)
    assert_close(around(None)(X_T, t), around((0, 1000))(X_T, t), rtol=0, atol=0)


def test_outside_the_interval_one_call_is_saved():
    net = Net()
    x = torch.zeros(3, 2, 4, 5)
    ddim_sample(Guided(net, Y, 3.0, between=(300, 600)), linear_schedule(), x.shape, steps=[1000, 600, 450, 300, 20], x_T=x)
    assert sum(y is None for _, _, y in net.asked) == 3 and len(net.asked) == 8


@pytest.mark.parametrize('scale', [0.0, 1.0, 2.5])
def test_autoguidance_is_the_line_from_the_weak_model_through_the_better(scale):
    "Rejects the two exchanged, and a scale of 1 + w."
    weak = lambda x_t, t: torch.sin(x_t)
    strong = Labelled(Net(), Y)
    assert_close(Autoguided(strong, weak, scale)(X_T, T), (1 - scale)*weak(X_T, T) + scale*strong(X_T, T), rtol=1e-12, atol=1e-12)
    parts = Autoguided(Net(), Net())
    assert len(list(parts.parameters())) == 2 and not parts.eval().weak.training and parts.scale == 2.0


@pytest.mark.parametrize('between, error', [((700, 100), 'low <= high'), (100, 'low, high'), ((1, 2, 3), 'low, high'), (('a', 5), 'wanted a number'), ((float('nan'), 5), 'low <= high')])
def test_an_interval_that_is_none_is_refused(between, error):
    for make in (lambda: Guided(Net(), Y, between=between), lambda: Autoguided(Net(), Net(), between=between)):
        with pytest.raises((ValueError, TypeError), match=error): make()


def test_a_late_interval_keeps_the_hill_that_guidance_loses():
    "Quantiles to quantiles, two hills asked for. Rejects an interval that is not heeded, or counted from the other end."
    sched, n = linear_schedule(), 201
    places = lambda *m: torch.tensor(m, dtype=torch.float64)[:, None]
    asked, free = GaussianMixture([1., 1.], places(0., 1.), 0.15, sched), GaussianMixture([1., 1., 2.], places(0., 1., -0.8), 0.15, sched)
    world = lambda x_t, t, y=None: free(x_t, t) if y is None else asked(x_t, t)
    starts = 2**0.5*torch.erfinv(2*(torch.arange(n, dtype=torch.float64) + 0.5)/n - 1)
    share = {b: (ddim_sample(Guided(world, torch.ones(n, dtype=torch.int64), 3.0, between=b), sched, (n, 1), steps=100, x_T=starts[:, None]) < 0.5).double().mean().item()
             for b in (None, (1, 100), (701, 1000))}
    assert share[None] < 0.06 and share[1, 100] > 0.45 and share[701, 1000] > 0.42


def test_autoguidance_cancels_an_error_that_both_models_share():
    "Richardson: at scale c/(c - 1) half the delta leaves a quarter. Rejects a push by another amount."
    sched, x, t, c = linear_schedule(), normal(5, 1, seed=3), torch.full((5,), 200), 3.0
    knows = lambda var: GaussianMixture([1.], torch.zeros(1, 1), var**0.5, sched)
    off = lambda d, w: (Autoguided(knows(0.02 + d), knows(0.02 + c*d), w)(x, t) - knows(0.02)(x, t)).abs().max().item()
    assert 3.8 < off(2e-4, c/(c - 1))/off(1e-4, c/(c - 1)) < 4.2 and 1.9 < off(2e-4, 1.0)/off(1e-4, 1.0) < 2.1


@pytest.mark.parametrize('wrap', [Labelled, Guided])
def test_names_and_labels_over_labels_are_refused_in_words(wrap):
    "Rejects a wrapper that lets torch stumble over names, or over a model that can not be told labels any more."
    with pytest.raises(TypeError, match='classes.*index'): wrap(Net(), ['sneaker', 'bag', 'dress'])
    with pytest.raises(TypeError, match='has its own'): wrap(Labelled(Net(), Y), Y)


# ---- who draws which images

def test_each_batch_has_its_labels_and_its_seeds():
    "Rejects seeds that begin anew with each batch, labels of another batch, and a last batch that is lost or filled up."
    net = Named(6)
    parts = list(in_batches(net, 5, [4, 3, 2, 1, 0], seeds=[9, 8, 7, 6, 5], batch=2))
    assert [s for _, s in parts] == [[9, 8], [7, 6], [5]] and [m.y.tolist() for m, _ in parts] == [[4, 3], [2, 1], [0]]
    assert all(type(m) is Labelled and m.model is net for m, _ in parts)
    assert [(m, s) for m, s in in_batches(net, 3, batch=2)] == [(net, [0, 1]), (net, [2])]
    assert [len(s) for _, s in in_batches(net, 130)] == [64, 64, 2] and list(in_batches(net, 0)) == []
    assert [s for _, s in in_batches(net, 2, torch.tensor([0, 1]), 1, [3, 4])] == [[3, 4]]


def test_each_batch_is_guided_as_asked():
    (model, seeds), = in_batches(net := Named(6), 2, [4, 3], 2.5, between=(1, 400))
    assert type(model) is Guided and (model.model, model.scale, model.between, model.y.tolist(), seeds) == (net, 2.5, (1, 400), [4, 3], [0, 1])
    (model, _), = in_batches(net, 2, [4, 3], guidance=2)
    assert (model.scale, model.between) == (2, None)


@pytest.mark.parametrize('asked, error', [
    (dict(n=2.5), 'n wanted a whole number, got 2.5'), (dict(n=-1), 'n wanted at least 0'), (dict(n=2, guidance='a'), 'guidance wanted a number'), (dict(n=2, labels=[0, 6]), 'labels wanted 0..5'), (dict(n=2, seeds=[1, 2.5]), 'seeds wanted 2 whole numbers, one per image'),
    (dict(n=2, seeds=[1]), 'seeds wanted one an image, 2, got 1'), (dict(n=2, labels=[1, 2, 3]), 'labels wanted one an image, 2, got 3'), (dict(n=2, guidance=2), 'guidance 2 wanted labels'),
    (dict(n=2, labels=[1, 2], between=(1, 5)), 'between wanted guidance other than 1'), (dict(n=2, batch=0), 'batch wanted at least 1'), (dict(n=2, batch=1.5), 'batch wanted'),
])
def test_batches_that_can_not_be_are_refused(asked, error):
    with pytest.raises((ValueError, TypeError), match=error): next(in_batches(Named(6), **asked))


def test_labels_are_looked_at_before_any_image_is_drawn():
    "Rejects a wrong label of the last batch that is found after a night of drawing, and labels made where the default device is."
    with pytest.raises(ValueError, match='labels wanted 0..5'): next(in_batches(Named(6), 4, [0, 1, 2, 6], batch=2))
    net = Net()
    with torch.device('meta'): assert Labelled(net, [2, 0, 5]).y.tolist() == [2, 0, 5]


def test_a_bar_counts_the_images_that_are_drawn(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
    for _ in in_batches(Net(), 5, batch=2, progress=True): pass
    assert '5 of 5 img' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'ipykernel', sys)
    for _ in in_batches(Net(), 5, batch=2, progress=True): time.sleep(0.3)
    said = capsys.readouterr().err
    assert all(words in said for words in ('\rdrawing: ', '0.00/5.00', '2.00/5.00', '4.00/5.00', '5.00/5.00'))
    for _ in in_batches(Net(), 5): pass
    assert not capsys.readouterr().err


class Clean(Net):
    "A network that offers the clean image, too, and answers with noise."
    says_noise = True
    def x_0_hat(self, x_t, t, y=None): return 2*self(x_t, t, y)


def test_the_clean_image_is_labelled_guided_and_pushed_alike():
    "Rejects a wrapper that asks for noise where the clean image was wanted."
    labelled, guided, weak = Labelled(Clean(), Y), Guided(Clean(), Y, 3.0), Labelled(Clean(), Y)
    assert_close(labelled.x_0_hat(X_T, T), 2*labelled(X_T, T), rtol=0, atol=0)
    assert_close(guided.x_0_hat(X_T, T), 2*guided(X_T, T), rtol=1e-12, atol=1e-12)
    weak.model.weight.data *= 0.5
    pushed = Autoguided(labelled, weak, 3.0)
    assert_close(pushed.x_0_hat(X_T, T), 2*pushed(X_T, T), rtol=1e-12, atol=1e-12)
    assert Labelled(Clean(), Y).says_noise is True and Labelled(Net(), Y).says_noise is False


def test_the_weak_model_has_the_labels_of_the_better():
    "Rejects a push towards another class."
    Autoguided(Labelled(Net(), Y), Labelled(Net(), Y.clone()))
    with pytest.raises(ValueError, match='weak wanted the labels that model has, got others'): Autoguided(Labelled(Net(), Y), Labelled(Net(), Y.flip(0)))
    for wrong, name in ((None, Net()), 'model'), ((Net(), None), 'weak'):
        with pytest.raises(TypeError, match=f'{name} wanted a function'): Autoguided(*wrong)
    with pytest.raises(TypeError, match='model wanted a function'): Labelled(None, Y)


def test_an_interval_may_be_one_step_and_its_ends_are_named():
    assert Guided(Net(), Y, between=(5, 5)).between == (5, 5)
    with pytest.raises(TypeError, match=r"^between wanted a number, got 'a'"): Guided(Net(), Y, between=('a', 5))
    with pytest.raises((ValueError, TypeError), match='^t wanted'): Autoguided(lambda x, t: x, lambda x, t: x, between=(1, 5))(X_T, [1, 'b', 3])
