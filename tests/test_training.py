"Training: exact pieces, bit-identical resumption, faults that leave the last whole checkpoint."
import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import SafetensorError
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.data import Images, bundled_fashion, check_unit, to_pixels, to_unit
from ddpm_lesson.files import load_tensors, save_tensors
from ddpm_lesson.loss import PredictsEps, PredictsV, PredictsX0, eps_loss, v_loss, x_0_loss
from ddpm_lesson.posterior import eps_from_v, eps_from_x_0
from ddpm_lesson.pretrained import load_card, load_pretrained, shipped
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.train import Ema, Recipe, Run, as_images, batch_indices, draw, fit, learning_rate, make_card
from ddpm_lesson.unet import UNet, count_parameters

DATA = Images(bundled_fashion().pixels[:64, :, ::4, ::4].contiguous(), name='small')
SCHED = linear_schedule()


def card(steps=10, **recipe): return make_card(dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[]), Recipe(steps=steps, **(dict(batch=8, warmup=3, precision='float32') | recipe)))
def equal(a, b): return a.state().keys() == b.state().keys() and all(torch.equal(v, b.state()[k]) for k, v in a.state().items())


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


def test_learning_rate_at_its_corners():
    r = Recipe(steps=100, warmup=10, lr=1.0)
    assert [round(learning_rate(k, r), 6) for k in (0, 4, 9, 10, 55, 100)] == [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]


def test_every_step_from_1_to_T_is_drawn_and_draws_depend_on_the_step_alone():
    r = Recipe(batch=64)
    seen = torch.cat([draw(DATA, r, 7, k)[1] for k in range(20)])
    assert set(seen.tolist()) == set(range(1, 8))
    for a, b in zip(draw(DATA, r, 7, 5), draw(DATA, r, 7, 5)): assert torch.equal(a, b)
    assert not torch.equal(draw(DATA, r, 7, 5)[2], draw(DATA, r, 7, 6)[2])
    assert not torch.equal(draw(DATA, r, 7, 5)[2], draw(DATA, Recipe(batch=64, seed=1), 7, 5)[2])


def test_an_epoch_shows_each_image_once():
    order = torch.cat([batch_indices(64, 8, k, 3) for k in range(16)])
    assert order[:64].sort().values.tolist() == order[64:].sort().values.tolist() == list(range(64)) and not torch.equal(order[:64], order[64:])


@pytest.mark.parametrize('at', [1, 4, 9])
def test_resumed_is_bit_identical(at, tmp_path):
    whole, part = fit(Run(card(), DATA), progress=False), Run(card(), DATA)
    for step, _ in part.steps():
        if step == at: break
    part.save(tmp_path/'c.safetensors')
    assert equal(whole, fit(Run(card(), DATA).load(tmp_path/'c.safetensors'), progress=False))


def test_training_does_not_touch_the_callers_randomness():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fit(Run(card(steps=2), DATA), progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_ctrl_c_keeps_the_work(tmp_path):
    run = Run(card(steps=50), DATA)
    def stop(after):
        for item in itertools.islice(Run.steps(run), after): yield item
        raise KeyboardInterrupt
    run.steps = lambda: stop(7)
    with pytest.raises(KeyboardInterrupt): fit(run, tmp_path, progress=False)
    assert len(Run(card(steps=50), DATA).load(tmp_path/'checkpoint.safetensors').losses) == 7


def test_sigkill_leaves_a_whole_checkpoint_that_resumes_identically(tmp_path):
    script = ('import sys; from test_training import *; run = Run(card(steps=4000), DATA)\n'
              'import os; os.path.exists(sys.argv[1]) and run.load(sys.argv[1])\n'
              'fit(run, os.path.dirname(sys.argv[1]), every=3, progress=False)')
    checkpoint = tmp_path/'checkpoint.safetensors'
    for pause in (0.05, 0.11, 0.23):
        p = subprocess.Popen([sys.executable, '-c', script, str(checkpoint)], cwd=os.path.dirname(__file__))
        deadline, seen = time.time() + 90, checkpoint.stat().st_mtime if checkpoint.exists() else 0
        while p.poll() is None and time.time() < deadline and (not checkpoint.exists() or checkpoint.stat().st_mtime == seen): time.sleep(0.02)
        time.sleep(pause)
        p.send_signal(signal.SIGKILL)
        p.wait()
        killed = Run(card(steps=4000), DATA).load(checkpoint)
    done, fresh = len(killed.losses), Run(card(steps=4000), DATA)
    for step, _ in fresh.steps():
        if step == done: break
    assert done >= 3 and equal(killed, fresh)


def test_full_disk_keeps_the_last_whole_checkpoint(tmp_path, monkeypatch):
    run, path = Run(card(), DATA), tmp_path/'c.safetensors'
    next(run.steps())
    run.save(path)
    before = path.read_bytes()
    def full(tensors, file, metadata):
        open(file, 'wb').write(b'half')
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('safetensors.torch.save_file', full)
    with pytest.raises(OSError, match='No space'): run.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_no_number_stops_and_keeps_the_good_checkpoint(tmp_path):
    run = Run(card(steps=120), DATA)
    for step, _ in run.steps():
        if step == 40: break
    run.save(tmp_path/'checkpoint.safetensors')
    with torch.no_grad(): next(run.net.parameters()).fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='learning rate'): fit(run, tmp_path, progress=False)
    assert len(Run(card(steps=120), DATA).load(tmp_path/'checkpoint.safetensors').losses) == 40


def test_a_checkpoint_cut_or_foreign_says_so(tmp_path):
    run, path = Run(card(), DATA), tmp_path/'c.safetensors'
    next(run.steps())
    run.save(path)
    raw = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(raw[:len(raw)*tenth//10])
        with pytest.raises(ValueError, match='damaged'): Run(card(), DATA).load(path)
    save_tensors(path, {'a': torch.zeros(1)}, {'card': card()})
    with pytest.raises(ValueError, match='does not fit'): Run(card(), DATA).load(path)
    path.write_bytes(b'\x80\x04\x95')
    with pytest.raises(ValueError, match='damaged'): load_tensors(path)
    with pytest.raises(ValueError, match='not there'): load_tensors(tmp_path/'absent.safetensors')
    assert issubclass(SafetensorError, Exception)


@pytest.mark.parametrize('make, said', [
    (lambda: Run(card(batch=65), DATA), 'at most 64'), (lambda: as_images(torch.full((9, 1, 8, 8), float('nan'))), 'NaN'), (lambda: as_images(torch.rand(9, 1, 8, 8)), r'\[-1, 1\]'),
    (lambda: as_images(3*normal(9, 1, 8, 8)), r'\[-1, 1\]'), (lambda: Images(torch.zeros(0, 1, 8, 8, dtype=torch.uint8)), 'at least one'),
    (lambda: Run(make_card(dict(channels=3)), DATA), 'channels'), (lambda: Run(make_card(dict(channels=1, classes=4)), DATA), 'classes'), (lambda: Recipe(lr=-1), 'lr'), (lambda: Recipe(lr=float('nan')), 'lr')])
def test_what_can_not_be_trained_is_refused_at_once(make, said):
    with pytest.raises(ValueError, match=said): make()


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match='uint8'): check_unit(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match='uint8'): eps_loss(lambda x, t: x, SCHED, torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([1, 2]), torch.zeros(2, 1, 4, 4))


def test_bytes_come_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(to_unit(every)), every) and to_pixels(torch.tensor([-1.3, 1.3])).tolist() == [0, 255]


def test_shipped_model_draws_clothes():
    "A nearest-centroid judge on the bundled images: right for 67 % of real test images, for 10 % of noise."
    assert list(shipped()) == ['fashion'] and shipped()['fashion'].stat().st_size < 10_000_000
    model, sched = load_pretrained('Fashion-MNIST')
    y = torch.arange(40) % 10
    x = ddim_sample(lambda x, t: model(x, t, y), sched, (40, 1, 28, 28), steps=10, clip=(-1, 1), seeds=range(40))
    train = bundled_fashion()
    centre = torch.stack([to_unit(train.pixels[train.labels == k]).mean(0) for k in range(10)])
    right = (torch.cdist(x.flatten(1), centre.flatten(1)).argmin(1) == y).float().mean()
    assert right > 0.45 and load_card('fashion')['made']['command'].startswith('ddpm_lesson train')


def test_too_few_labels_for_the_network_are_refused():
    data = bundled_fashion()
    with pytest.raises(ValueError, match='labels wanted'): Run(make_card(dict(channels=1, width=8, classes=4), Recipe(batch=8)), data)
