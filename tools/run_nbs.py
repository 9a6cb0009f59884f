"""Run notebooks in place from a fresh kernel, keeping their outputs: python tools/run_nbs.py [nbs/03_forward.ipynb ...]

Cells that nbdev_test skips (`#| eval: false`, or a flag of settings.ini such as `#| slow`) are skipped here too.
A page that draws random numbers before it has said `torch.manual_seed` is refused, and left as it was: run again, it would
show other numbers. So is a page that somebody changes while it runs.
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
from ddpm_lesson.engine.files import atomic_write

os.environ.pop('MPLBACKEND', None)   # with one named, a notebook's pictures would be drawn and not kept
cfg = get_config()
flags = set(cfg.tst_flags.split())


def directives(source):
    lines = (line.strip() for line in source.splitlines())
    return {line[2:].strip().replace(' ', '') for line in lines if line.startswith('#|')}


def skipped(source):
    found = directives(source)
    return 'eval:false' in found or bool(flags & {d.split(':')[0] for d in found}) or 'nbdev_export(' in source


WATCH = """
import torch

class Watch:
    "Which cells move torch's stream of random numbers before the page has seeded it."
    def __init__(self): self.state, self.seeded, self.found = torch.get_rng_state(), False, []
    def __call__(self, result):
        if 'watch_draws' in result.info.raw_cell: return   # the cell that this stands in
        self.seeded |= 'torch.manual_seed(' in result.info.raw_cell
        before, self.state = self.state, torch.get_rng_state()
        if not self.seeded and not torch.equal(before, self.state): self.found.append(result.info.raw_cell)

watch_draws = Watch()
get_ipython().events.register('post_run_cell', watch_draws)
"""
UNSEEDED = """
cells = '; '.join(repr(cell[:80]) for cell in watch_draws.found)
if cells: raise RuntimeError(f'random numbers wanted torch.manual_seed before they are drawn, or seeds, in {cells}')
"""


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


def client(nb, path):
    "What runs the cells of a notebook, where its file stands."
    return Client(nb, timeout=3600, coalesce_streams=True, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}})


def run(path):
    began, raw = time.time(), path.read_bytes()
    nb = nbformat.reads(raw.decode('utf-8'), 4)
    page, around = nb.cells, [nbformat.v4.new_code_cell(source) for source in (WATCH, UNSEEDED)]
    nb.cells = [around[0], *page, around[1]]
    client(nb, path).execute()
    nb.cells = page
    shrink(nb)
    if path.read_bytes() != raw: sys.exit(f'{path} has changed while it ran, and was left as it is now: run it again')
    with atomic_write(path) as p: nbformat.write(nb, p)
    print(f'{path.name}: {time.time() - began:.0f} s')


if __name__ == '__main__':
    for p in [Path(a) for a in sys.argv[1:]] or pages.pages(): run(p)
