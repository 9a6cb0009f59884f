"The pages of the course, in one place: which there are, in what order, and what their equations and exercises are numbered by."
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = 'reference', 'engine', 'interface', 'solutions'   # below nbs/, in the order of the contents


def checking():
    "Whether a tool that was asked with --check, or nothing, may only look; another word ends it, lest it write."
    for word in sys.argv[1:]:
        if word != '--check': sys.exit(f'wanted --check or nothing, got {word}')
    return '--check' in sys.argv


def found(folder):
    "The notebooks right inside a folder, by name."
    return [p for p in sorted(folder.glob('*.ipynb')) if p.name[0] not in '._']


def lessons(root=ROOT): return [p for p in found(root/'nbs') if re.match(r'\d\d_', p.name)]


def pages(root=ROOT, solutions=False):
    "Every notebook: lessons, the index, then folder by folder."
    rest = [p for p in found(root/'nbs') if p not in lessons(root)]
    return [*lessons(root), *rest, *(p for f in FOLDERS if f != 'solutions' or solutions for p in found(root/'nbs'/f))]


def solutions(root=ROOT): return found(root/'nbs'/'solutions')


def cells(page): return json.loads(page.read_text(encoding='utf-8'))['cells']


def source(cell): return ''.join(cell['source'])


def path_of(page, root=ROOT):
    "A page below nbs/, without suffix: '03_forward', 'reference/museum'."
    return page.relative_to(root/'nbs').with_suffix('').as_posix()


def with_exercises(root=ROOT): return [p for p in pages(root) if (root/'nbs'/'solutions'/p.name).exists()]
