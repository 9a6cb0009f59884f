"""Every numbered equation, and what checks it: python tools/equations.py [--check]

An equation is a displayed formula with a \\tag{n.m} in a page, or \\tag{M.m} where a page numbers by a letter. A cell that asserts, or a test, says what it checks in a comment,
`# checks (4.4), (4.5)`: at the end of the line that asserts, or on a line of its own above it. This script writes the list, with that line,
into nbs/reference/equations.ipynb; with --check it only says what is wrong.
"""
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pages

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT/'nbs'/'reference'/'equations.ipynb'
DISPLAYED = re.compile(r'\$\$(.+?)\$\$', re.S)
NUMBER = r'(?:\d+|[A-Z])\.\d+[a-z]?'
TAG = re.compile(rf'\\tag\{{({NUMBER})\}}')
CHECKS = re.compile(rf'# checks (\({NUMBER}\)(?:(?:, | and )\({NUMBER}\))*)')
ASSERTS = re.compile(r'\bassert\b|assert_close\(|raises\(')

# where the text of a lesson says which equation of a paper this is
PAPERS = {
    '2.1': 'above DDPM Eq. 4', '2.2': 'above DDPM Eq. 4', 'C.2': 'DDIM Eqs. 12 and 16', '3.1': 'DDPM Eq. 2', '3.2': 'DDPM Eq. 4',
    '4.4': 'DDPM Eq. 7', '4.5': 'DDPM Eqs. 6 and 7', '4.8': 'DDPM Eq. 15', '4.10': 'DDPM Eq. 11', '6.3': 'DDPM Eq. 11', '7.3': 'DDIM Eq. 12', '7.4': 'DDIM Eq. 16',
    '7.7': 'DDIM Eq. 14', '9.2': 'DDPM Eq. 3', '9.3': 'DDPM Eq. 5', '9.5': 'DDPM Eq. 8', '9.7': 'DDPM Eq. 12', '9.8': 'DDPM Eq. 14', '13.2': 'Ho and Salimans 2022, Eq. 6',
}


@dataclass
class Equation:
    "One numbered equation."
    number:str      # n.m
    statement:str   # LaTeX, without the tag
    page:str        # its notebook below nbs/, without suffix
    title:str       # of the notebook
    checks:list = field(default_factory=list)  # Check

    @property
    def order(self): return tuple(int(n) for n in re.findall(r'\d+', self.number))[-1], self.number


@dataclass
class Check:
    "A cell or a test that names equations in a comment."
    numbers:list    # n.m
    where:str       # the notebook below nbs/, or file::test
    source:str      # of the cell or the test

    @property
    def asserts(self): return all(asserting_line(self.source, n) for n in self.numbers)


def read(page): return [(c['cell_type'], pages.source(c)) for c in pages.cells(page)]
def named(text): return [n for found in CHECKS.findall(text) for n in re.findall(NUMBER, found)]


def equations_of(page):
    "The numbered equations of one notebook, in order."
    cells, found = read(page), []
    title = re.search(r'^# (.+)', next((s for _, s in cells if s.startswith('# ')), '# ?'))[1]
    for text in [s for kind, s in cells if kind == 'markdown']:
        blocks = [m for m in DISPLAYED.finditer(text) if TAG.search(m[1])]
        for m in blocks:
            number, *more = TAG.findall(m[1])
            if more: raise ValueError(f'{page.name}: one number a formula wanted, got {number}, {", ".join(more)}')
            found.append(Equation(number, TAG.sub('', m[1]).strip(), pages.path_of(page, ROOT), title))
    return found


def asserting_line(source, number):
    "The line that checks equation `number`, shortened: the one that its comment ends, else the first that asserts below it; '' where nothing asserts."
    lines = source.splitlines()
    at = next(i for i, line in enumerate(lines) if number in named(line))
    below = [line for line in lines[at:] if ASSERTS.search(line) and not line.lstrip().startswith(('#', 'from '))]
    if not ASSERTS.search(source) or not (marked := lines[at].split('#')[0].strip()) and not below: return ''
    found = marked or next((line for line in below if 'with raises' not in line), below[0])
    found = re.sub(r'\s+#.*', '', found.strip())
    return found if len(found) <= 110 else found[:107] + '...'


def checks_in_pages():
    return [Check(named(s), f'{pages.path_of(p, ROOT)}.ipynb', s) for p in pages.pages(ROOT) for kind, s in read(p) if kind == 'code' and named(s)]


def checks_in_tests():
    found = []
    for file in sorted((ROOT/'tests').rglob('test_*.py')):
        if file.name == 'test_equations.py': continue  # its courses are made up
        for body in re.split(r'^(?=(?:@pytest|def test_))', file.read_text(encoding='utf-8'), flags=re.M):
            name = re.search(r'^def (test_\w+)', body, re.M)
            if name and named(body): found.append(Check(named(body), f'{file.relative_to(ROOT/"tests").as_posix()}::{name[1]}', body))
    return found


def collect():
    "All equations with their checks, and all checks."
    equations, checks = [e for p in pages.pages(ROOT) for e in equations_of(p)], checks_in_pages() + checks_in_tests()
    for e in equations: e.checks = [c for c in checks if e.number in c.numbers]
    return equations, checks


def problems():
    "What is wrong, in sentences: a number twice, an equation without a check, a check of nothing, a check that can't fail."
    equations, checks = collect()
    numbers = [e.number for e in equations]
    say = [f'({n}) occurs {numbers.count(n)} times' for n in dict.fromkeys(numbers) if numbers.count(n) > 1]
    say += [f'({e.number}) of {e.page} has no check' for e in equations if not e.checks]
    say += [f'{c.where} checks ({n}), which no lesson has' for c in checks for n in c.numbers if n not in numbers]
    say += [f'{c.where} names {c.numbers} and asserts nothing' for c in checks if not c.asserts]
    return say + [f'({n}) is said to be {paper}, which its lesson does not say' for n, paper in PAPERS.items() if not said_by_its_lesson(n, paper, equations)]


def said_by_its_lesson(number, paper, equations):
    "Does the lesson of equation `number` name the paper's number?"
    page = next((e.page for e in equations if e.number == number), None)
    text = '\n'.join(s for kind, s in read(ROOT/'nbs'/f'{page}.ipynb') if kind == 'markdown') if page else ''
    return bool(re.search(rf'Eqs?\. ?(?:\d+(?:, | and ))*{re.findall("[0-9]+", paper)[-1]}\b', text))


def entry(e):
    "One equation on the page."
    line = lambda c: f'- `tests/{c.where}`' if '::' in c.where else f'- [{c.where[:-6]}](../{c.where}): `{asserting_line(c.source, e.number).replace("`", "")}`'
    return '\n'.join([f'**({e.number})**{" " + PAPERS[e.number] if e.number in PAPERS else ""}', '', f'$${e.statement}$$', '', *map(line, e.checks)])


def page_cells():
    "The texts below the page's own cells: how many, then one part a lesson."
    equations, checks = collect()
    tests, parts = sum('::' in c.where for c in checks), {}
    count = f'**{len(equations)} equations in {len({e.page for e in equations})} lessons; {len(checks) - tests} cells and {tests} tests say that they check them.**'
    for e in equations: parts.setdefault((e.page, e.title), []).append(e)
    return [count] + [f'## [{title}](../{page}.ipynb)\n\n' + '\n\n'.join(entry(e) for e in sorted(each, key=lambda e: e.order)) for (page, title), each in parts.items()]


def generated(cell): return cell.get('id', '').startswith('lesson-')


def written(nb):
    "The page's JSON, its generated cells made anew below its own."
    new = [dict(cell_type='markdown', id=f'lesson-{i or "all"}', metadata={}, source=text.splitlines(keepends=True)) for i, text in enumerate(page_cells())]
    return {**nb, 'cells': [c for c in nb['cells'] if not generated(c)] + new}


def main(check):
    old = PAGE.read_text(encoding='utf-8')
    new = json.dumps(written(json.loads(old)), indent=1, ensure_ascii=False) + '\n'
    wrong = problems() + (['nbs/reference/equations.ipynb is out of step: python tools/equations.py'] if check and new != old else [])
    if not check: PAGE.write_text(new, encoding='utf-8')
    sys.exit('\n'.join(wrong) or 0)


if __name__ == '__main__': main(pages.checking())
