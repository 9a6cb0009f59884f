"""What torch and all that it needs take on disk, and what of it only NVIDIA's GPUs use: python tools/sizes.py

Reads the environment that it runs in, and writes records/sizes.csv: a row a package of a megabyte or more.
"""
import csv
import re
import sys
from importlib.metadata import distribution

from matrix import ROOT, needed


def row(name):
    there = distribution(name)
    size = sum(path.stat().st_size for f in there.files or [] if (path := there.locate_file(f)).exists())
    gpu = bool(re.match('nvidia|cuda|triton', name))
    return dict(package=name, version=there.version, MB=round(size/1e6), needed='by a GPU' if gpu else 'by torch')


if __name__ == '__main__':
    rows = sorted((row(name) for name in needed(sys.executable, ['torch', 'torchvision'])), key=lambda r: -r['MB'])
    with open(ROOT/'records'/'sizes.csv', 'w', newline='', encoding='utf-8') as f:
        out = csv.DictWriter(f, list(rows[0]), lineterminator='\n')
        out.writeheader()
        out.writerows(r for r in rows if r['MB'])
