"""Gather finished grids into tables and sheets of samples, as lesson 12 reads those of S2.

    ddpm_lesson experiment --grid s2 --steps 600 --precision float32 --count 64 --folder runs/s2
    python tools/gather_experiments.py runs/s2 benchmarks/s2_garments

Writes OUT.csv, every row of every cell, and OUT.png, a row of samples for each cell of the first seed, in the order of OUT.txt.
"""
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_lesson.engine.files import atomic_write, write_table


def cells(folder, preset): return [json.loads(p.read_text(encoding='utf-8')) | dict(path=p) for p in sorted((Path(folder)/'cells').glob(f'{preset}*.json'))]


def strip(path, count=6, side=32):
    "The first images of a cell's sheet, side by side without lines."
    sheet = np.asarray(Image.open(path.with_suffix('.png')).convert('RGB'))
    return np.concatenate([sheet[2:2 + side, 2 + k*(side + 2):2 + k*(side + 2) + side] for k in range(count)], 1)


def check_replaces(out):
    "Leave, unless the three files are new, or stand beside a table that this tool made."
    there, table = [p for p in (Path(f'{out}.{kind}') for kind in ('csv', 'png', 'txt')) if p.exists()], Path(f'{out}.csv')
    if there and not (table.is_file() and 'floor KID' in table.read_text(encoding='utf-8')[:10_000]): sys.exit(f'wanted a new name, got {there[0]}, which this tool did not make')


def main(folder, out, preset=''):
    check_replaces(out)
    done = cells(folder, preset)
    if not done: sys.exit(f'wanted a folder of finished cells, got {folder}, which holds none')
    write_table([row for c in done for row in c['rows']], Path(f'{out}.csv'))
    first = [c for c in done if c['about']['cell']['seed'] == 0]
    side = first[0]['about']['size']
    picture = Image.fromarray(np.concatenate([strip(c['path'], side=side) for c in first])).quantize(128)
    with atomic_write(f'{out}.png') as p: picture.save(p, 'PNG', optimize=True)
    with atomic_write(f'{out}.txt') as p: p.write_text('\n'.join(json.dumps(c['about']['cell']) for c in first) + '\n', encoding='utf-8')
    print(f'{len(done)} cells, {len(first)} strips')


if __name__ == '__main__': main(*sys.argv[1:])
