"The shipped weights are what a preset makes: network, schedule, recipe and way to draw are compared with their cards."
import pytest
import torch

from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.pretrained import load_card


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
