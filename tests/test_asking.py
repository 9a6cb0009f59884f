"Asking a model: its mode, its precision, its memory, its history; and the bar."
import inspect
import io
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.asking import (
    _apart,
    _asking,
    _bar,
    _check_images,
    _check_kept,
    _check_match,
    _checked,
    _copies,
    _dtype_for,
    _each_step,
    _in_a_log,
    _parts_of,
    _to_end,
    _with_history,
    _with_schedule,
    eval_mode,
    shown,
)
from ddpm_lesson.schedule import cosine_schedule, linear_schedule


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


class Keeps:
    "A plain wrapper, no module."
    def __init__(self, **kept): vars(self).update(kept)
    def __call__(self, x_t, t): return x_t


class Bare:
    "A model with slots: it has no `__dict__`."
    __slots__ = ()
    def __call__(self, x_t, t): return x_t


def test_parts_are_found_behind_each_wrapper_once():
    "Rejects a search that ends at the first part seen before, or forgets the others that wait."
    inner, other = torch.nn.Linear(1, 1), torch.nn.ReLU()
    wrapper = Keeps(model=Keeps(net=inner), net=torch.nn.Sequential(inner, other), else_=torch.nn.Tanh())
    parts = _parts_of(wrapper)
    assert {id(p) for p in parts} >= {id(wrapper), id(wrapper.model), id(wrapper.net), id(inner), id(other)} and len(parts) == 5
    assert _parts_of(bare := Bare()) == [bare] and _parts_of(normal) == [normal]
    twice = torch.nn.Sequential(inner, inner, other)
    twice.net = Keeps(model=inner)
    assert len(_parts_of(twice)) == 4


def test_schedules_are_looked_for_in_parts_and_in_what_they_keep():
    sched = cosine_schedule(10)
    layer = torch.nn.Linear(1, 1)
    layer.sched = sched                # torch's own layers keep none: a net of a thousand need not be looked through
    assert _with_schedule(layer) == [] and _with_schedule(Bare()) == []
    own = Keeps(sched=sched)
    assert _with_schedule(own) == [own] and _with_schedule(Keeps(inner=own)) == [own]
    _check_kept(Keeps(first=own, second=own), sched)
    other = linear_schedule(10)
    with pytest.raises(ValueError, match='that Keeps was made with'): _check_kept(Keeps(first=own, second=Keeps(sched=other)), sched)
    with pytest.raises(TypeError, match='got Linear$'): _check_match(torch.nn.Linear, sched)


class Weighs(torch.nn.Module):
    "A network without any of torch's layers."
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=dtype))

    def forward(self, x, t): return x*self.weight


def test_images_come_in_the_dtype_a_network_can_take():
    "Rejects layers that meet another dtype, and float64 cut down for a number that would take it."
    double = torch.float64
    assert _dtype_for(torch.nn.Linear(1, 1), double) == torch.float32
    assert _dtype_for(Weighs(), double) == double and _dtype_for(Weighs(torch.bfloat16), double) == torch.bfloat16
    assert _dtype_for(len, double) == double and _dtype_for(Keeps(), torch.float32) == torch.float32
    assert _dtype_for(Weighs(torch.float8_e4m3fn), double) == double   # only stored in it
    keeps = torch.nn.Sequential(torch.nn.Linear(1, 1))
    keeps.own = Keeps(sched=cosine_schedule(10))
    keeps.net = keeps.own
    assert _dtype_for(keeps, double) == double


def test_what_a_model_writes_into_is_its_own():
    t, label = torch.tensor([1]), 'bag'
    copied = _copies([t, label])
    assert torch.equal(copied[0], t) and copied[0].data_ptr() != t.data_ptr() and copied[1] is label


@pytest.mark.parametrize('model', [torch.nn.Linear(3, 3), Weighs()], ids=['layers', 'a-number'])
def test_an_answer_to_copies_has_the_dtype_of_the_images(model):
    "Rejects a network asked in another dtype than its weights', an image that a model writes into, and a name that is not the argument's."
    seen = []
    def ask(x, t):
        seen.append((x.dtype, t.data_ptr()))
        return model(x) if isinstance(model, torch.nn.Linear) else model(x, t)
    class Asks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model
        def forward(self, x, t): return ask(x.mul_(2), t)
    x, t = normal(2, 3), torch.tensor([1, 2])
    before = x.clone()
    said = _apart(Asks(), x, t)
    wanted = torch.float32 if isinstance(model, torch.nn.Linear) else torch.float64
    assert said.dtype == x.dtype == torch.float64 and torch.equal(x, before) and seen[0][0] == wanted and seen[0][1] != t.data_ptr()
    with pytest.raises(TypeError, match='^x_t wanted'): _apart(Asks(), x.long(), t)
    assert _asking(Asks(), torch.float64, True)(x, t).dtype == torch.float64


def test_images_are_copied_and_judged_before_a_walk():
    for x in normal(2, 3), normal(2, 1, 4, 4).float():
        copied = _check_images(x, 'x_0')
        assert copied.dtype == x.dtype and torch.equal(copied, x) and copied.data_ptr() != x.data_ptr()
    assert _check_images(torch.zeros(2, 3, dtype=torch.bfloat16), 'x_0').dtype == torch.float32
    with torch.no_grad(): assert not _check_images(torch.zeros(2, 3, requires_grad=True), 'x_0').requires_grad
    for x, said in (torch.zeros(3), 'x_0 wanted a batch'), (torch.zeros(0, 3), 'x_0 wanted a batch'), \
                   (torch.tensor([[1.0, float('nan')]]), 'x_0 wanted finite'), (torch.zeros(2, 3, requires_grad=True), 'x_0 wanted no gradient'):
        with pytest.raises(ValueError, match=f'^{said}'): _check_images(x, 'x_0')
    with pytest.raises(TypeError, match='^x_0 wanted'): _check_images(torch.zeros(2, 3, dtype=torch.int64), 'x_0')


def test_a_sampler_and_its_twin_are_one_walk():
    "Rejects a twin that forgets an argument, its name, its words or its signature."
    def walks(model, steps:int=3, *, eta=0.0):
        "Walk down."
        for t in range(steps, 0, -1): yield t, model + t*eta, None
    walks.__name__ = walks.__qualname__ = 'walk_sample'
    sample = _to_end(walks)
    twin = _each_step(sample, '0 to T')
    assert sample(10, 2, eta=5) == 15 and [x for _, x, _ in twin(10, 2, eta=5)] == [20, 15]
    assert sample.__name__ == 'walk_sample' and sample.__doc__ == 'Walk down.'
    assert twin.__name__ == twin.__qualname__ == 'walk_steps'
    assert twin.__doc__ == '`walk_sample`, one step at a time: yields (t, x_t, x_0_hat), 0 to T.'
    assert list(inspect.signature(twin).parameters) == ['model', 'steps', 'eta'] and _each_step(sample).__doc__.endswith('T to 0.')


def test_a_notebook_gets_a_bar_and_a_closed_screen_no_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ipykernel', sys)
    with shown(3, 2): time.sleep(0.3)
    said = capsys.readouterr().err
    assert '2.00/3.00' in said and '3 img\n' not in said
    monkeypatch.delitem(sys.modules, 'ipykernel')
    for screen in None, Keeps():
        monkeypatch.setattr('sys.stderr', screen)
        assert _in_a_log() is False


def test_a_line_in_a_log_file_is_there_at_once(monkeypatch):
    "A line that waits in a buffer tells nobody how far a night's run is."
    class File(io.StringIO):
        flushed = ''
        def flush(self): self.flushed = self.getvalue()
    monkeypatch.delitem(sys.modules, 'ipykernel', raising=False)
    monkeypatch.setattr('sys.stderr', File())
    with shown(3, 1): pass
    assert sys.stderr.flushed == '1 of 3 img \n'


def test_a_bar_that_goes_on_does_not_count_what_was_done_before_as_fast_work(monkeypatch):
    "Rejects a night's run that, taken up again, promises to end in a second."
    monkeypatch.setitem(sys.modules, 'ipykernel', sys)
    screen = io.StringIO()
    with shown(10**6, 900_000, file=screen) as note:
        time.sleep(0.3)
        note.done += 5
    assert '900k/1.00M' in screen.getvalue() and not any(fast in screen.getvalue() for fast in ('kimg/s', 'Mimg/s'))


def test_a_screen_that_takes_nothing_keeps_no_work_from_ending(monkeypatch):
    "Rejects a program that waits for its bar for ever."
    class Stuck(io.StringIO):
        free = threading.Event()
        def write(self, text): self.free.wait(20)
    monkeypatch.setitem(sys.modules, 'ipykernel', sys)
    begun = time.monotonic()
    with shown(3, 1, file=(screen := Stuck())): time.sleep(0.1)
    took = time.monotonic() - begun
    screen.free.set()
    assert took < 10


def test_a_bar_left_standing_ends_with_the_program():
    "Rejects a thread that keeps Python from ending where a loop was left."
    loop = 'from ddpm_lesson.asking import _bar; left = _bar(range(3), True); next(left)'
    assert subprocess.run([sys.executable, '-c', loop], timeout=60, capture_output=True).returncode == 0


def test_parts_seen_before_end_no_search():
    shared, other = torch.nn.ReLU(), torch.nn.Tanh()
    both = torch.nn.Sequential(shared, other)
    assert set(map(id, _parts_of(SimpleNamespace(model=both, net=shared)))) >= {id(shared), id(other)}
