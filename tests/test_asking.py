"Asking a model: its mode, its precision, its memory, its history; and the bar."
import sys
import threading
import time

import pytest
import torch
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.asking import _bar, _checked, _with_history, eval_mode, shown


def test_parts_of_a_network_that_were_at_rest_stay_so():
    "Putting everything back into training would start the batch statistics of a frozen part."
    net = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2))
    net[1].eval()
    with eval_mode(net): assert not any(m.training for m in net.modules())
    assert net.training and net[0].training and not net[1].training
    with eval_mode(len): pass
    with eval_mode(net):   # several samplers at once: only the last to leave puts the network back
        for _ in range(2):
            with eval_mode(net):
                with eval_mode(net): pass
                assert not any(m.training for m in net.modules())
            assert not any(m.training for m in net.modules())
    assert net.training and net[0].training and not net[1].training


def test_a_part_that_keeps_its_mode_elsewhere_is_put_to_rest_too():
    "A compiled or scripted part has no plain attribute `training`: only setting it tells the part."
    class Elsewhere(torch.nn.Module):
        @property
        def training(self): return self.__dict__.get('mode', True)
        @training.setter
        def training(self, to): self.__dict__['mode'] = to
    net = torch.nn.Sequential(Elsewhere(), torch.nn.Dropout())
    with eval_mode(net): assert net[0].training is False and net[1].training is False and 'training' not in vars(net[0])
    assert net[0].training is True and net[1].training is True and net.training is True


def test_a_part_that_somebody_still_uses_keeps_no_other_part_at_rest():
    "Wrong program: the first part that is still in use ends the putting back."
    net = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    whole, part = eval_mode(net), eval_mode(net[0])
    whole.__enter__()
    part.__enter__()
    whole.__exit__()
    assert net.training and not net[0].training and net[1].training
    part.__exit__()
    assert net[0].training and not eval_mode.users


def test_an_answer_of_the_wrong_kind_is_called_the_models():
    class Output(dict): sample = torch.zeros(2, 3)
    for answer, cure in (None, ''), (Output(), '; ddpm_lesson.dialects.from_diffusers translates'):
        with pytest.raises(TypeError, match=f"^the model's answer wanted a floating-point tensor, got {type(answer).__name__}{cure}$"):
            _checked(answer, torch.zeros(2, 3))


def test_a_bar_says_what_it_counts(capsys, monkeypatch):
    "And starts no thread but its own, so that none is left."
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    others = set(threading.enumerate())
    with shown(3, 1) as note:
        assert (note.done, note.said) == (1, '')
        time.sleep(0.3)
        assert len(set(threading.enumerate()) - others) == 1
        note.done, note.said = 3, 'nearly'
    said = capsys.readouterr().err
    assert '1.00/3.00' in said and '3.00/3.00' in said and 'img/s' in said and 'nearly' in said
    with shown(3, 0, False, 'step') as note: note.done = 2
    assert note.done == 2 and not capsys.readouterr().err and not set(threading.enumerate()) - others


def test_a_bar_counts_up(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)   # another test may have imported it
    assert list(_bar(range(3), True)) == [0, 1, 2]
    assert '3 of 3 step' in capsys.readouterr().err


def test_a_log_file_gets_a_line_and_no_bar(capsys, monkeypatch):
    "Rejects a bar that fills a file, a line for each of its turns."
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
    with shown(3, 1) as note:
        time.sleep(0.5)
        note.done, note.said = 3, 'nearly'
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and '3 of 3 img nearly' in said and '|' not in said


class Writes(torch.nn.Module):
    "A network that writes into what it is given."
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.tensor(2.0)), []

    def forward(self, x, t):
        self.seen.append((x.dtype, t))
        return x.mul_(3)*self.weight


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_an_answer_with_history_leads_back_to_the_images(dtype):
    "Rejects images that a network may change, a network in its own precision that gets another's, and an answer in that precision."
    net, x, t = Writes().to(dtype), normal(2, 3, dtype=torch.float32).requires_grad_(), torch.tensor([4, 9])
    before = x.detach().clone()
    eps_hat = _with_history(net, x, t)
    assert net.seen[0][0] == dtype and torch.equal(net.seen[0][1], t) and eps_hat.dtype == torch.float32 and torch.equal(x, before)
    assert_close(eps_hat, 6*before, rtol=1e-6 if dtype != torch.bfloat16 else 2e-2, atol=0)
    eps_hat.sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 6.0))
    with pytest.raises(ValueError, match='shape it was given'): _with_history(lambda x, t: x[:1], x, t)
    with pytest.raises(ValueError, match='wanted a gradient: was it computed under no_grad'): _with_history(lambda x, t: x.detach(), x, t)
