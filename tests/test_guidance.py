"Labels and guidance: what reaches the network, and what comes back."
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.guidance import Guided, Labelled

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
