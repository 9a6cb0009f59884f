"The shipped weights are what a preset makes: network, schedule, recipe and way to draw are compared with their cards."
import pytest
import torch

from ddpm_lesson.data import Images, bundled_fashion, to_unit
from ddpm_lesson.engine.cards import sampling_of
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.pretrained import draw_as_card, load_card, load_pretrained, shipped


def photos(card):
    "Noise in the place of the photographs, with their classes."
    pixels = torch.randint(0, 256, (600, 3, card['size'], card['size']), dtype=torch.uint8)
    return Images(pixels, torch.arange(600) % len(card['classes']), tuple(card['classes']), card['data'])


@pytest.mark.parametrize('name, preset', [('fashion', 'shipped'), ('flowers', 'flowers')])
def test_a_preset_makes_the_shipped_weights(name, preset):
    "Rejects a preset that was changed after its weights were made; `tools/flowers.py` names its steps, as the card does."
    card = load_card(name)
    card['recipe'] = dict(accumulate=1) | card['recipe']   # the cards are older than this setting
    data = bundled_fashion() if name == 'fashion' else photos(card)
    steps = {} if name == 'fashion' else dict(steps=card['recipe']['steps'])
    made, _ = preset_card(preset, data, **steps)
    for entry in 'network', 'schedule', 'target', 'recipe', 'sample', 'size', 'classes': assert made[entry] == card[entry], entry
    if steps: assert f'--steps {steps["steps"]}' in card['made']['command']


@pytest.mark.parametrize('name', ['fashion', 'fashion-fast', 'flowers'])
def test_quality_was_measured_as_the_card_draws(name):
    "Rejects a card whose way to draw was changed after its samples were judged."
    card = load_card(name)
    assert card['quality']['network calls'] == sampling_of(card).calls(card['schedule']['T'])
    if name == 'fashion': assert card['quality']['without labels']['network calls'] == sampling_of(card, labelled=False).calls(1000)


def right(name, labels):
    "Share of images of a shipped model, drawn as its card says, that lie nearest to the centre of their class: 0.1 by chance."
    (model, sched), train = load_pretrained(name), bundled_fashion()
    images = draw_as_card(model, sched, load_card(name), len(labels), labels)
    centre = torch.stack([to_unit(train.pixels[train.labels == k]).mean(0) for k in range(10)])
    return (torch.cdist(images.flatten(1), centre.flatten(1)).argmin(1) == labels).double().mean().item()


def test_the_student_draws_in_four_calls_and_keeps_its_teachers_network_and_labels():
    "Rejects a student that forgot the labels, a card without the number of calls, and weights that are too large."
    teacher, card = load_card('fashion'), load_card('fashion-fast')
    for entry in 'network', 'schedule', 'target', 'size', 'classes', 'data': assert card[entry] == teacher[entry], entry
    assert sampling_of(card).calls(1000) == sampling_of(card, labelled=False).calls(1000) == 4
    assert card['made']['taught_by'] == 'fashion' and '--ship fashion-fast' in card['made']['command']
    assert shipped()['fashion-fast'].stat().st_size < 10_000_000
    assert right('fashion-fast', torch.arange(60) % 10) > 0.5


def test_the_student_lands_near_its_teacher():
    "Rejects weights of another kind of student: from the same noise, four calls end where twenty of the teacher by 2M end."
    y, seeds = torch.arange(20) % 10, range(20)
    def drawn(name, **how):
        model, sched = load_pretrained(name)
        return draw_as_card(model, sched, load_card(name), 20, y, seeds, **how)
    wanted = drawn('fashion', sampler='dpm', steps=20)
    near, other = drawn('fashion-fast'), drawn('fashion', steps=4)
    far = lambda x: (x - wanted).square().mean().item()
    assert far(near) < 0.6*far(other) and far(near) < 0.3*far(wanted.roll(10, 0))
