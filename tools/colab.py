"""The first code cell of each lesson, which in Colab installs the course and goes on there: python tools/colab.py [--check]

Anywhere else the cell does nothing. What it installs is the repository whose address `git_url` in settings.ini is; as long
as that is empty, the released package. Either brings the pages and what they read (`classroom.course`).
"""
import hashlib
import json
import sys
from configparser import ConfigParser

import pages

MARK = "'google.colab' in sys.modules"


def address(root=pages.ROOT):
    "The public address of the repository; '' if it has none yet."
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini', encoding='utf-8')
    return config['DEFAULT'].get('git_url', '').strip().rstrip('/')


def code(url):
    "The cell."
    what = f'git+{url}' if url else 'ddpm_lesson'
    return f'''#| hide
import sys
if {MARK}:  # there: install the course, and go on in its folder
    get_ipython().run_line_magic('pip', 'install -q {what}')
    from ddpm_lesson.classroom import course
    get_ipython().run_line_magic('cd', f'-q {{course()}}/nbs')'''


def with_cell(book, name, url):
    "A notebook with that cell as its first of code."
    cells = [c for c in book['cells'] if MARK not in pages.source(c)]
    first = next(i for i, c in enumerate(cells) if c['cell_type'] == 'code')
    cell = dict(cell_type='code', execution_count=None, id=hashlib.sha256(f'colab {name}'.encode()).hexdigest()[:8], metadata={},
                outputs=[], source=code(url).splitlines(True))
    return book | dict(cells=[*cells[:first], cell, *cells[first:]])


def written(text, name, url):
    "The same, as the text of a file."
    return json.dumps(with_cell(json.loads(text), name, url), sort_keys=True, indent=1, ensure_ascii=False) + '\n'


def badges(url, branch='main', page='nbs/00_start.ipynb'):
    "Links that open the first lesson elsewhere, as Markdown; '' for a repository that is on no such forge."
    name = url.removeprefix('https://github.com/')
    if name == url: return ''
    colab, binder = 'https://colab.research.google.com', 'https://mybinder.org'
    return (f'[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{name}/blob/{branch}/{page}) '
            f'[![Open in Binder]({binder}/badge_logo.svg)]({binder}/v2/gh/{name}/{branch}?labpath={page})')


def main(check=False):
    changed = []
    for page in pages.lessons():
        old = page.read_text(encoding='utf-8')
        new = written(old, page.stem, address())
        if new == old: continue
        changed.append(page.name)
        if not check: page.write_text(new, encoding='utf-8', newline='\n')
    return changed


if __name__ == '__main__':
    changed = main(check := pages.checking())
    if check and changed: sys.exit(f'without the cell for Colab, or with an old one: {", ".join(changed)}: python tools/colab.py')
    print(f'{len(changed)} pages changed')
