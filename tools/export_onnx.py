"""Write a model as ONNX, for browsers and other runtimes: python tools/export_onnx.py [fashion] [fashion.onnx]

Inputs: x_t (B, C, H, W) float32; t (B,) int64, 1..T; where the network knows labels y (B,) int64, the number of classes meaning none.
Output: eps_hat, whatever the network inside predicts, so that the file is a *model* in the sense of the lessons.
Needs `pip install onnx onnxscript onnxruntime`.
"""
import os
import sys
from pathlib import Path

import torch

from ddpm_lesson.engine.cards import image_shape
from ddpm_lesson.engine.files import atomic_write
from ddpm_lesson.pretrained import load_card, load_pretrained

NAMES = 'x_t', 't', 'y'


def trusting(model, sched):
    "The same model without the look at t, which a graph can't hold: the caller must keep t in 1..T."
    return type('Trusting', (type(model),), {'steps': lambda self, x_t, t: t})(model.net, sched).eval()


def example(card, B=2, seed=0):
    "Images, steps and, if there are any, labels to trace with or to compare on; the last label, no label, is among them."
    g, T, classes = torch.Generator().manual_seed(seed), card['schedule'].get('T', 1000), card['network'].get('classes', 0)
    t, y = (torch.randint(1, n + 1, (B,), generator=g) for n in (T, max(1, classes)))
    x_t = torch.randn(image_shape(card, B), generator=g)
    return (x_t, t, y.index_fill(0, torch.tensor([B - 1]), classes)) if classes else (x_t, t)


def export(name_or_path, path):
    "Write the file, whole; float32, because a browser's CPU computes in nothing smaller."
    model, sched = load_pretrained(name_or_path)
    inputs, B = example(load_card(name_or_path)), torch.export.Dim('B', min=1, max=1024)
    with atomic_write(path) as p:
        torch.onnx.export(trusting(model, sched), inputs, p, input_names=NAMES[:len(inputs)], output_names=['eps_hat'], dynamo=True,
            dynamic_shapes=({0: B}, {0: B}, ({0: B},))[:len(inputs)], external_data=False, verbose=False)


@torch.inference_mode()
def difference(name_or_path, path, B=5):
    "The largest difference between the file, run by onnxruntime, and the model, over B images at random steps and labels."
    from onnxruntime import InferenceSession
    inputs = example(load_card(name_or_path), B, seed=1)
    got = InferenceSession(path, providers=['CPUExecutionProvider']).run(None, {name: v.numpy() for name, v in zip(NAMES, inputs)})[0]
    return (torch.from_numpy(got) - load_pretrained(name_or_path)[0](*inputs)).abs().max().item()


if __name__ == '__main__':
    name, path = (sys.argv[1:] + ['fashion', 'fashion.onnx'][len(sys.argv) - 1:])[:2]
    if os.path.lexists(path): sys.exit(f'wanted a new name, got {path}, which is there')
    export(name, path)
    print(f'{path}: {Path(path).stat().st_size/1e6:.1f} MB, differs from the model by at most {difference(name, path):.1e}')
