"""Figures at twice the dots, for screens that have them: what make_site.py does with --sharp.

Committed pages keep small pictures. Here a page is run again, and each figure is drawn as the page has it, and once more with twice the
dots. Where the first is the committed one, but for rounding, the second goes into the book; else the committed one stays, and the page
is named. What was drawn is kept below build/, under a name that changes with the page.
"""
import base64
import hashlib
import io
import json
from pathlib import Path

import nbformat
import numpy as np
import run_nbs
from PIL import Image

from ddpm_lesson.engine.files import atomic_write

KEPT = Path(__file__).resolve().parents[1]/'build'/'sharp'
SAME = 0.5   # grey levels between a picture and the committed one, on average: where that was drawn, none
TWICE = """
import base64
from matplotlib.figure import Figure
from IPython.core.pylabtools import print_figure, retina_figure

def twice(figure):
    once = print_figure(figure, 'png')
    if once is None: return None
    png, size = retina_figure(figure)
    return png, size | {'once': base64.b64encode(once).decode()}

get_ipython().run_line_magic('matplotlib', 'inline')   # else the first figure would bring its own way to be drawn
get_ipython().display_formatter.formatters['image/png'].for_type(Figure, twice);
"""


def pictures(cells):
    "The outputs that are pictures: {'cell place': output}."
    return {f'{c["id"]} {k}': o for c in cells for k, o in enumerate(c.get('outputs', [])) if 'image/png' in o.get('data', {})}


def grey(png): return np.asarray(Image.open(io.BytesIO(base64.b64decode(''.join(png)))).convert('L'), float)


def same(one, two):
    "Are two pictures, as base64, one but for rounding?"
    a, b = grey(one), grey(two)
    return a.shape == b.shape and np.abs(a - b).mean() < SAME


def run_again(path):
    "What a page's figures show when it is run here: {'cell place': (as the page has it, with twice the dots, size)}."
    nb = nbformat.read(path, 4)
    nb.cells.insert(0, nbformat.v4.new_code_cell(TWICE))
    run_nbs.client(nb, path).execute()
    found = {at: (o['data']['image/png'], dict(o['metadata'].get('image/png', {}))) for at, o in pictures(nb.cells).items()}
    return {at: (run_nbs.smaller(size.pop('once')), run_nbs.smaller(png), size) for at, (png, size) in found.items() if 'once' in size}


def sharp(path, own):
    "For those of a page's pictures that are drawn again: {'cell place': [with twice the dots, size]}; kept until the page changes."
    kept = KEPT/f'{path.stem}-{hashlib.sha256(path.read_bytes() + TWICE.encode()).hexdigest()[:16]}.json'
    if not kept.exists():
        again = run_again(path)
        found = {at: again[at][1:] for at, png in own.items() if at in again and same(png, again[at][0])}
        with atomic_write(kept) as p: p.write_text(json.dumps(found), encoding='utf-8')
    return json.loads(kept.read_text(encoding='utf-8'))


def sharpen(cells, path):
    "Put a page's sharp pictures into its cells; say of what stays as it is."
    whole = pictures(json.loads(path.read_text(encoding='utf-8'))['cells'])
    if not whole: return
    try: found = sharp(path, {at: o['data']['image/png'] for at, o in whole.items()})
    except Exception as error: return print(f'{path.name} could not be run again: {str(error).strip().splitlines()[-1]}')
    for at, output in pictures(cells).items():
        if at in found: output['data'], output['metadata'] = {'image/png': found[at][0]}, {'image/png': found[at][1]}
    if len(found) < len(whole): print(f'{path.name}: {len(whole) - len(found)} of {len(whole)} pictures stay as they are')
