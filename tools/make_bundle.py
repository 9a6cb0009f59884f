"""Make the bundled Fashion-MNIST: the first 1,000 images of each class from the training split, 200 from the test split.

    python tools/make_bundle.py FOLDER      # FOLDER holds the four original idx .gz files
"""
import gzip
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parents[1]/'ddpm_lesson'/'assets'/'fashion_mnist.npz'


def idx(path):
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    shape = [int.from_bytes(raw[4 + 4*i:8 + 4*i], 'big') for i in range(dims)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4*dims).reshape(shape)


def balanced(images, labels, each):
    keep = np.sort(np.concatenate([np.flatnonzero(labels == k)[:each] for k in range(10)]))
    return images[keep], labels[keep]


def main(folder):
    parts = {}
    for ours, theirs, each in ('train', 'train', 1000), ('test', 't10k', 200):
        images, labels = (idx(folder/f'{theirs}-{kind}-ubyte.gz') for kind in ('images-idx3', 'labels-idx1'))
        parts[f'{ours}_images'], parts[f'{ours}_labels'] = balanced(images, labels, each)
    np.savez_compressed(OUT, **parts)
    print(OUT.name, f'{OUT.stat().st_size/1e6:.2f} MB', {k: v.shape for k, v in parts.items()})


if __name__ == '__main__': main(Path(sys.argv[1]))
