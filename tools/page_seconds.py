"""How long pages of the README's table run: python tools/page_seconds.py [nbs/03_forward.ipynb ...], all of them if none is named

Runs each from a fresh kernel, whose start counts, without keeping what it prints, and writes benchmarks/pages.csv and the column
of nbs/index.ipynb. Nothing else may run on the machine. Then: python tools/readme.py.
"""
import os
import platform
import re
import sys
import time
from pathlib import Path

import nbformat
import torch
from run_nbs import client

import pages
from ddpm_lesson.engine.files import read_table, write_table

INDEX, TABLE = pages.ROOT/'nbs'/'index.ipynb', pages.ROOT/'benchmarks'/'pages.csv'
ROW = re.compile(r'(\| \[[^\]]*\]\(([\w/]+)\.ipynb\) \| [^|]* \| [^|]* \| )([^|]*)( \|)')


def measured(path):
    "A row of the table."
    nb, began = nbformat.read(path, 4), time.perf_counter()
    client(nb, path).execute()
    machine = f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores'
    return dict(page=pages.path_of(path), seconds=round(time.perf_counter() - began), machine=machine, torch=torch.__version__)


if __name__ == '__main__':
    text, rows = INDEX.read_text(encoding='utf-8'), {r['page']: r for r in read_table(TABLE)}
    every = [pages.ROOT/'nbs'/f'{name}.ipynb' for _, name, _, _ in ROW.findall(text)]
    for path in [Path(a).resolve() for a in sys.argv[1:]] or every:
        if path not in every: sys.exit(f'wanted a page of the table in {INDEX.name}, got {path.name}')
        rows[pages.path_of(path)] = measured(path)
        print(*rows[pages.path_of(path)].values(), sep='\t', flush=True)
    write_table(list(rows.values()), TABLE)
    INDEX.write_text(ROW.sub(lambda m: f'{m[1]}{rows[m[2]]["seconds"] if m[2] in rows else m[3]}{m[4]}', text), encoding='utf-8')
