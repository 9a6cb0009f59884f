"""Copy the course without its answers, to hand to a class: python tools/hide_solutions.py OUTDIR

Lessons lose the folded answers to their exercises; the folder of solutions and the pages that hold the truths are left out.
`check` works in the copy as it does here. Answers stay readable in the installed package: this hides them from the eye only.
"""
import json
import re
import shutil
import sys
from pathlib import Path

import pages

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {'interface/exercises', 'interface/questions'}


def without_answers(cells):
    "Cells of a page without the folded answers that follow its heading of exercises."
    kept, exercises = [], False
    for cell in cells:
        source = ''.join(cell['source'])
        exercises |= cell['cell_type'] == 'markdown' and '## Exercise' in source
        if not (exercises and source.lstrip().startswith('<details>')): kept.append(cell)
    return kept


def unlinked(text, page, kept):
    "Text of a page in which links to pages that are not `kept` become plain words."
    there = lambda target: (page.parent/target).resolve() in kept
    return re.sub(r'\[([^\]]+)\]\(([\w./]+\.ipynb)[^)]*\)', lambda m: m[0] if there(m[2]) else m[1], text)


def copy(out):
    "Write the course to the new folder `out`."
    kept = [p for p in pages.pages(ROOT) if pages.path_of(p) not in LEFT_OUT]
    for page in kept:
        book = json.loads(page.read_text(encoding='utf-8'))
        book['cells'] = without_answers(book['cells'])
        for cell in book['cells']:
            if cell['cell_type'] == 'markdown': cell['source'] = unlinked(''.join(cell['source']), page, kept).splitlines(True)
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
