"What can be seen in a set of images, in a network and in a loss, and what is refused."
import pytest
import torch
from torch import nn

from conftest import normal
from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.exam.symptoms import examine, kept_for_backward, measures, sees, symptoms
from ddpm_lesson.unet import UNet

REAL = to_unit(bundled_fashion().pixels[::50])
UNSEEN = to_unit(bundled_fashion(train=False).pixels[::50])
GREY = UNSEEN - UNSEEN.mean((1, 2, 3), keepdim=True)

SICK = {
    'no numbers': torch.where(torch.arange(28) == 3, torch.nan, UNSEEN), 'glare': 3*UNSEEN, 'veil': (UNSEEN + 1)/2, 'grey': GREY/GREY.abs().max(),
    'grain': UNSEEN + 0.1*normal(*UNSEEN.shape, dtype=torch.float32), 'all the same': UNSEEN[:1].expand(8, -1, -1, -1) + 0.001,
}


def test_every_symptom_has_a_case(): assert SICK.keys() == symptoms.keys()


@pytest.mark.parametrize('name', SICK, ids=lambda n: n.replace(' ', '-'))
def test_symptom_is_seen(name): assert name in examine(SICK[name], REAL)


@pytest.mark.parametrize('part', range(3))
def test_unseen_real_images_are_healthy(part):
    assert examine(to_unit(bundled_fashion(train=False).pixels[part::90]), REAL) == []


def test_measures_of_two_plain_images():
    m = measures(torch.stack([torch.full((1, 4, 4), -0.5), torch.full((1, 4, 4), 0.5)]))
    assert m['difference'] == pytest.approx(1) and m['brightness'] == pytest.approx(0.5**0.5) and m['grain'] == pytest.approx(0, abs=1e-6)
    assert (m['dark'], m['light'], m['outside'], m['no_number']) == (-0.5, 0.5, 0, 0)


@pytest.mark.parametrize('shape', [(1, 1, 4, 4), (4, 4), (3, 4, 4)])
def test_what_is_no_set_of_images_is_refused(shape):
    with pytest.raises(ValueError, match='N >= 2'): measures(torch.zeros(shape))


def test_sees_counts_the_reach_of_convolutions():
    class Net(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(layers)])
        def forward(self, x, t): return self.layers(x)
    for layers in 1, 2, 4: assert sees(Net(layers), (1, 21, 21)) == pytest.approx(((2*layers + 1)/21)**2)
    net = UNet(1, 8, (1,), 1, (), 1)
    before = [p.clone() for p in net.parameters()]
    assert sees(net, (1, 20, 20)) == 1   # attention in the middle
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters())) and isinstance(net.norm, nn.GroupNorm)


def test_kept_counts_each_tensor_once():
    x = torch.randn(1000, requires_grad=True)
    assert kept_for_backward(lambda: (x*x).sum()) == 4000
    assert kept_for_backward(lambda: (x.exp()*2).sum()) == 4000     # the result of exp
    assert kept_for_backward(lambda: (2*x).sum()) == 0
