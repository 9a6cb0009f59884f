"Latents and words: the floor of a decoder, a forgotten scale, attention that knows no order; bad input."
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.guidance import Guided, Labelled
from ddpm_lesson.latent import Captioned, LinearAutoencoder, TextDenoiser, WordBlock, cross_attention, word_ids
from ddpm_lesson.oracle import FiniteData
from ddpm_lesson.sampler import ddim_sample
from ddpm_lesson.schedule import linear_schedule

PLAIN = normal(40, 12, seed=1) @ normal(12, 12, seed=2)   # 40 pictures whose axes are not the pixels'
IMAGES = PLAIN.reshape(40, 1, 3, 4)
WORDS = ['', 'a', 'dark', 'light', 'bag', 'boot']


def distance(a, b): return (a - b).flatten(1).square().sum(1).mean()


@pytest.mark.parametrize('size', [1, 4, 12])
def test_what_is_lost_is_the_variance_of_the_other_axes(size):
    "Rejects a mean that is forgotten, axes in rising order, a standard deviation that is not undone, N - 1 for N."
    coder = LinearAutoencoder(IMAGES, size)
    back = coder.decode(coder.encode(IMAGES))
    assert back.shape == IMAGES.shape and back.dtype == torch.float64
    assert_close(distance(IMAGES, back), coder.var[size:].sum(), rtol=1e-9, atol=1e-9)  # checks (22.1)
    u, s, v = torch.linalg.svd(PLAIN - PLAIN.mean(0), full_matrices=False)
    assert_close(coder.var, s**2/40, rtol=1e-9, atol=1e-9)


def test_no_latent_comes_nearer_than_the_encoders():
    "Rejects an encoder that does not drop the perpendicular: one whose axes are not orthonormal, or shifted."
    coder = LinearAutoencoder(IMAGES, 4)
    z = coder.encode(IMAGES)
    for seed in range(5): assert distance(IMAGES, coder.decode(z + 0.01*normal(40, 4, seed=seed))) > distance(IMAGES, coder.decode(z))
    assert_close(coder.encode(coder.decode(z)), z, rtol=1e-9, atol=1e-9)


def test_latents_have_the_scale_of_the_schedule():
    "Rejects latents without their scale, one scale for all axes, variances in the place of standard deviations."
    z = LinearAutoencoder(IMAGES, 5).encode(IMAGES)
    assert_close(z.mean(0), torch.zeros(5).double(), rtol=0, atol=1e-9)
    assert_close(z.T @ z/40, torch.eye(5).double(), rtol=0, atol=1e-9)


def test_an_axis_has_the_same_sign_on_any_machine():
    "Rejects axes as the linear algebra of the day gives them."
    coder = LinearAutoencoder(IMAGES, 6)
    assert (coder.axes.gather(1, coder.axes.abs().argmax(1, keepdim=True)) > 0).all()
    assert_close(LinearAutoencoder(-IMAGES, 6).encode(-IMAGES), -coder.encode(IMAGES), rtol=0, atol=1e-9)


def test_garments_keep_their_type_and_size():
    x = to_unit(bundled_fashion(train=False).pixels[:200])
    coder = LinearAutoencoder(x, 20)
    assert coder.encode(x).dtype == torch.float32 and coder.decode(coder.encode(x[:3])).shape == (3, 1, 28, 28)


def test_a_sampler_of_latents_draws_reconstructions():
    z = LinearAutoencoder(IMAGES, 4).encode(IMAGES).float()
    sched = linear_schedule()
    got = ddim_sample(FiniteData(z, sched), sched, (8, 4), steps=100, seeds=range(8))
    assert torch.cdist(got, z).min(1).values.max() < 0.02


@pytest.mark.parametrize('images, size, match', [
    (IMAGES, 0, 'size'), (IMAGES, 13, 'size'), (IMAGES[:5], 5, 'size'), (IMAGES[0, 0, 0], 1, 'images'), (IMAGES[:1], 1, 'images')])
def test_an_autoencoder_says_what_it_wanted(images, size, match):
    with pytest.raises(ValueError, match=match): LinearAutoencoder(images, size)


Q, K, V = normal(2, 5, 8, seed=3), normal(2, 3, 8, seed=4), normal(2, 3, 6, seed=5)


def test_attention_is_torchs():
    "Rejects weights over the places, and a fit that is not divided by the root of d."
    assert_close(cross_attention(Q, K, V), F.scaled_dot_product_attention(Q, K, V))  # checks (22.3)
    assert_close(cross_attention(3*Q, K, V), F.scaled_dot_product_attention(3*Q, K, V))


def test_one_word_says_the_same_to_every_place():
    assert_close(cross_attention(9*Q, K[:, :1], V[:, :1]), V[:, :1].expand(-1, 5, -1), rtol=1e-12, atol=1e-12)  # checks (22.4)


def test_the_order_of_words_is_not_heard():
    "Rejects weights that depend on the place of a word."
    turn = [2, 0, 1]
    assert_close(cross_attention(Q, K[:, turn], V[:, turn]), cross_attention(Q, K, V), rtol=1e-12, atol=1e-12)  # checks (22.5)
    net = tried()
    z, t = normal(2, 6, seed=6).float(), torch.tensor([5, 500])
    ids = word_ids(['a dark bag', 'light boot a'], WORDS, 3)
    assert_close(net(z, t, ids[:, turn]), net(z, t, ids), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(z, t, ids.flip(0)), net(z, t, ids), atol=1e-3)


def tried():
    "A network whose last layer is not at zero."
    torch.manual_seed(0)
    net = TextDenoiser(6, len(WORDS), width=32)
    torch.nn.init.normal_(net.end.weight)
    return net


def test_captions_become_the_numbers_of_their_words():
    assert word_ids(['a dark bag', 'boot', ''], WORDS, 3).tolist() == [[1, 2, 4], [5, 0, 0], [0, 0, 0]]
    assert word_ids([], WORDS, 3).shape == (0, 3)
    with pytest.raises(ValueError, match="got \\['purple'\\]"): word_ids(['a purple bag'], WORDS, 3)
    with pytest.raises(ValueError, match='at most 2 words'): word_ids(['a dark bag'], WORDS, 2)


def test_a_caption_is_a_label():
    "Rejects captions that are mixed up in a batch, and an empty caption that still says something of another."
    net, ids = tried(), word_ids(['a dark bag', 'a light boot'], WORDS, 3)
    z, t = normal(4, 6, seed=7).float(), torch.tensor([5, 50, 500, 1000])
    y = torch.tensor([1, 0, 0, 1])
    model, empty = Captioned(net, ids), torch.zeros(4, 3, dtype=torch.int64)
    assert_close(Labelled(model, y)(z, t), net(z, t, ids[y]))
    assert_close(model(z, t), net(z, t, empty))
    assert_close(Guided(model, y, 3.0)(z, t), net(z, t, empty) + 3*(net(z, t, ids[y]) - net(z, t, empty)), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r'0\.\.1'): Labelled(model, [2])


def test_a_seed_makes_one_picture_whatever_else_is_drawn():
    model, sched = Captioned(tried().eval(), word_ids(['a bag', 'a boot'], WORDS, 3)), linear_schedule()
    def draw(y, seeds): return ddim_sample(Labelled(model, y), sched, (len(y), 6), steps=5, seeds=seeds)
    assert_close(draw([0, 1, 1], [7, 8, 9])[2:], draw([1], [9]), rtol=1e-3, atol=1e-3)


def test_rows_of_a_block_ask_questions_of_their_own():
    "Rejects one question for all rows."
    torch.manual_seed(0)
    block = WordBlock(32)
    asked = {}
    block.q.register_forward_hook(lambda m, i, out: asked.update(q=out.unflatten(1, (8, -1))))
    block(torch.randn(2, 32), torch.zeros(2, 32), torch.randn(2, 3, 4))
    assert asked['q'].std(1).min() > 1e-3


@pytest.mark.parametrize('call, error', [
    (lambda: LinearAutoencoder(torch.ones(5, 4), 3), 'size wanted at most 0'),
    (lambda: LinearAutoencoder(torch.arange(5.)[:, None].expand(5, 4), 3), 'size wanted at most 1'),
    (lambda: LinearAutoencoder(torch.full((5, 4), torch.nan), 3), 'finite'),
    (lambda: LinearAutoencoder(PLAIN, 3).encode(PLAIN[:, :1]), 'pictures wanted shape'),
    (lambda: LinearAutoencoder(PLAIN, 3).encode(PLAIN.long()), 'floating-point'),
    (lambda: LinearAutoencoder(PLAIN, 3).decode(torch.ones(2, 3).long()), 'floating-point'),
    (lambda: word_ids('a bag', WORDS, 3), 'captions wanted a list'),
    (lambda: word_ids(['pad a'], ['pad', 'a'], 3), 'captions wanted words of'),
    (lambda: word_ids(['a'], ['', 'a', 'a'], 3), 'words wanted each once'),
    (lambda: TextDenoiser(4, 3, width=20), 'width wanted a multiple of 8')])
def test_what_makes_no_latent_and_no_caption_is_refused(call, error):
    "Rejects latents divided by a spread of 0, and a caption whose word means nothing."
    with pytest.raises((ValueError, TypeError), match=error): call()


def test_the_number_after_the_last_caption_means_none():
    "Rejects a label that is dropped in training and is no caption: the convention of every network here; and -1, which counts from the end."
    net = TextDenoiser(4, 6, width=16, depth=1)
    torch.nn.init.normal_(net.end.weight)
    reads, x, t = Captioned(net, word_ids(['a bag', 'a boot'], WORDS, 3)), normal(1, 4).float(), torch.tensor([1])
    assert torch.equal(reads(x, t, torch.tensor([2])), reads(x, t)) and not torch.equal(reads(x, t, torch.tensor([1])), reads(x, t))
    for label in -1, 3:
        with pytest.raises(ValueError, match='labels wanted'): reads(x, t, torch.tensor([label]))


@pytest.mark.parametrize('shape', [(3,), (2, 4), (2, 3, 1)], ids=str)
def test_latents_of_another_shape_are_refused(shape):
    "Rejects a single latent read as a batch."
    with pytest.raises(ValueError, match='latents wanted'): LinearAutoencoder(normal(9, 2, 4), 3).decode(normal(*shape))


@pytest.mark.parametrize('z, t, error', [(torch.zeros(1, 4), torch.tensor([3, 4]), 't wanted one step for each'), (torch.zeros(2, 5), torch.tensor([3, 4]), r'x_t wanted shape \(B, 4\), got'), (torch.zeros(2, 4, 1), torch.tensor([3, 4]), 'x_t wanted shape'), (torch.zeros(2, 4), 3, 't wanted'), (torch.zeros(2, 4).double(), torch.tensor([3, 4]), 'as the weights are')], ids=['one for two', 'long', 'column', 'int', 'float64'])
def test_a_network_that_reads_wants_one_step_for_each_latent(z, t, error):
    "Rejects one latent at two steps, which was two answers."
    with pytest.raises((ValueError, TypeError), match=error): TextDenoiser(4, 5, 16)(z, t, torch.tensor([[1, 2], [3, 0]]))
