"""Copy the course without its answers, to hand to a class: python tools/hide_solutions.py OUTDIR

Lessons lose the folded answers to their exercises; the folder of solutions and the pages that show how exercises judge are left out;
links to what is not in the copy become plain words. `check` works in the copy as it does here.
Answers stay readable in the installed package: this hides them from the eye only.
"""
import json
import re
import shutil
import sys
from pathlib import Path

import pages

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {'interface/exercises', 'interface/cases'}
FOLDED = re.compile(r'<details[^>]*>.*?</details>', re.S)
ANSWERS = re.compile(r'<details[^>]*>\s*<summary>[^<]*(?:answer|solution)(?:(?!</details>).)*</details>', re.S | re.I)
LINK = re.compile(r'!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|#|attachment:|mailto:)([^)\s#]+)[^)]*\)')
ANCHOR = re.compile(r'<a href="(?!https?:|#)([^"#]+)[^"]*">(.*?)</a>', re.S)


def without_answers(cells):
    "Cells of a page without the answers: below its heading of exercises nothing folded, elsewhere no fold that is called so."
    kept, exercises = [], False
    for cell in cells:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            exercises |= '## Exercise' in source
            left = (FOLDED if exercises else ANSWERS).sub('', source).strip()
            if source.strip() and not left: continue
            if left != source.strip(): cell = cell | {'source': left.splitlines(True)}
        kept.append(cell)
    return kept


def unlinked(text, page, there):
    "Text of a page in which links to files that are not `there` are plain words."
    kept = lambda target: (page.parent/target).resolve() in there
    text = LINK.sub(lambda m: m[0] if kept(m[2]) else m[1], text)
    return ANCHOR.sub(lambda m: m[0] if kept(m[1]) else m[2], text)


def texts(cell):
    "The places of a cell that hold links: its source, or what it shows. Each is a dict and a key."
    if cell['cell_type'] == 'markdown': return [(cell, 'source')]
    return [(o['data'], kind) for o in cell.get('outputs', []) for kind in ('text/markdown', 'text/html') if kind in o.get('data', {})]


def copy(out):
    "Write the course to the new folder `out`."
    kept = [p for p in pages.pages(ROOT) if pages.path_of(p) not in LEFT_OUT]
    there = {*kept, *(p for p in (ROOT/'images').rglob('*') if p.is_file())}
    for page in kept:
        book = json.loads(page.read_text(encoding='utf-8'))
        book['cells'] = without_answers(book['cells'])
        for place, key in (t for cell in book['cells'] for t in texts(cell)):
            place[key] = unlinked(''.join(place[key]), page, there).splitlines(True)
        new = out/page.relative_to(ROOT)
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
    if (ROOT/'images').is_dir(): shutil.copytree(ROOT/'images', out/'images')
    return len(kept)


if __name__ == '__main__':
    if len(sys.argv) != 2: sys.exit(__doc__)
    out = Path(sys.argv[1])
    if out.exists() and (not out.is_dir() or any(out.iterdir())): sys.exit(f'{out} wanted a new or empty folder')
    print(f'{copy(out)} pages without answers in {out}')
