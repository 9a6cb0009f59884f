"""How long each page of the README's table runs: python tools/page_seconds.py

Runs them from a fresh kernel, whose start counts, without keeping what they print, and writes benchmarks/pages.csv and the
column of nbs/index.ipynb. Nothing else may run on the machine. Then: python tools/readme.py.
"""
import os
import platform
import re
import time

import nbformat
import torch
from run_nbs import client

import pages
from ddpm_lesson.engine.files import write_table

INDEX = pages.ROOT/'nbs'/'index.ipynb'
ROW = re.compile(r'(\| \[[^\]]*\]\(([\w/]+)\.ipynb\) \| [^|]* \| \d+ \| )(\d+)( \|)')


def told(text):
    "What a text says of pages: name below nbs/, and seconds."
    return {name: int(seconds) for _, name, seconds, _ in ROW.findall(text)}


def measured(name):
    path = pages.ROOT/'nbs'/f'{name}.ipynb'
    nb, began = nbformat.read(path, 4), time.perf_counter()
    client(nb, path).execute()
    return round(time.perf_counter() - began)


if __name__ == '__main__':
    machine = f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores'
    text, rows = INDEX.read_text(encoding='utf-8'), []
    for name in told(text):
        rows.append(dict(page=name, seconds=measured(name), machine=machine, torch=torch.__version__))
        print(*rows[-1].values(), sep='\t', flush=True)
    write_table(rows, pages.ROOT/'benchmarks'/'pages.csv')
    now = {r['page']: r['seconds'] for r in rows}
    INDEX.write_text(ROW.sub(lambda m: f'{m[1]}{now[m[2]]}{m[4]}', text), encoding='utf-8')
