"""Run notebooks in place from a fresh kernel, keeping their outputs: python tools/run_nbs.py [nbs/03_forward.ipynb ...]

Cells that nbdev_test skips (`#| eval: false`, or a flag of settings.ini such as `#| slow`) are skipped here too.
"""
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.config import get_config
from PIL import Image

import pages

os.environ.pop('MPLBACKEND', None)   # with one named, a notebook's pictures would be drawn and not kept
cfg = get_config()
flags = set(cfg.tst_flags.split())


def directives(source):
    lines = (line.strip() for line in source.splitlines())
    return {line[2:].strip().replace(' ', '') for line in lines if line.startswith('#|')}


def skipped(source):
    found = directives(source)
    return 'eval:false' in found or bool(flags & {d.split(':')[0] for d in found}) or 'nbdev_export(' in source


class Client(NotebookClient):
    async def async_execute_cell(self, cell, index, **kw):
        if cell.cell_type == 'code' and skipped(cell.source): return cell
        return await super().async_execute_cell(cell, index, **kw)


def smaller(png):
    "A picture, as base64, with at most 256 colours: greys stay as they are, and a page of many figures stays small."
    made = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert('RGB').quantize(256).save(made, 'PNG', optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def shrink(nb):
    "Every PNG among the outputs, where that makes it smaller."
    for data in (o.data for c in nb.cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})):
        data['image/png'] = min(data['image/png'].replace('\n', ''), smaller(data['image/png']), key=len)


def run(path):
    began, nb = time.time(), nbformat.read(path, 4)
    Client(nb, timeout=3600, coalesce_streams=True, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    shrink(nb)
    nbformat.write(nb, path)
    print(f'{path.name}: {time.time() - began:.0f} s')


if __name__ == '__main__':
    for p in [Path(a) for a in sys.argv[1:]] or pages.pages(): run(p)
