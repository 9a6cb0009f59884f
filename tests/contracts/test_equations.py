"Every numbered equation is checked by something that can fail, and the list of them is in step."
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT/'tools'))
import equations  # noqa: E402

import pages  # noqa: E402


def cell(kind, source): return dict(cell_type=kind, source=source.splitlines(keepends=True), **({'outputs': []} if kind == 'code' else {}))


@pytest.fixture
def course(tmp_path, monkeypatch):
    "A function: lessons as {name: [(kind, source)]} -> what is wrong with them."
    monkeypatch.setattr(equations, 'ROOT', tmp_path)
    monkeypatch.setattr(equations, 'PAPERS', {})
    for folder in 'nbs', 'tests': (tmp_path/folder).mkdir()
    def problems(lessons, tests=''):
        for name, cells in lessons.items(): (tmp_path/'nbs'/f'{name}.ipynb').write_text(json.dumps({'cells': [cell(*c) for c in cells]}))
        (tmp_path/'tests'/'test_x.py').write_text(tests)
        return equations.problems()
    return problems


FORMULA = ('markdown', '# What?\n$$a = b \\tag{4.1}$$\nText.\n$$c = d \\tag{4.2}$$')


def test_every_equation_of_the_course_is_checked(): assert equations.problems() == []


def prose_of(page): return '\n'.join(pages.source(c) for c in pages.cells(page) if c['cell_type'] == 'markdown')


def missing(texts, known):
    "Equations that a text speaks of and no page has: {name: numbers}."
    spoken = {name: set(re.findall(r'\(((?:\d+|[A-Z])\.\d+[a-z]?)\)', text)) - known for name, text in texts.items()}
    return {name: numbers for name, numbers in spoken.items() if numbers}


def test_every_equation_spoken_of_is_there():
    "Wrong program: a reference to an equation that was renumbered, or never was."
    texts = {f'{p.parent.name}/{p.stem}': prose_of(p) for p in [*pages.pages(), *pages.solutions()]}
    known = {tag for text in texts.values() for tag in re.findall(r'\\tag\{([^}]*)\}', text)}
    assert len(known) > 150 and not missing(texts, known)
    assert missing({'x': 'by (3.2) and (3.4)'}, {'3.2'}) == {'x': {'3.4'}}


def tags_inside(text): return [body for _, body in re.findall(r'\\begin\{(aligned|cases|split)\}(.*?)\\end\{\1\}', text, re.S) if '\\tag' in body]


def test_a_tag_stands_after_its_environment():
    "Wrong program: a number inside `aligned`, where MathJax, which draws for Jupyter, shows an error in place of the formula."
    assert not [p.stem for p in pages.pages() if tags_inside(prose_of(p))]
    assert tags_inside(r'$$\begin{aligned} a &= b \tag{1.1} \end{aligned}$$') and not tags_inside(r'$$\begin{aligned} a &= b \end{aligned} \tag{1.1}$$')


# equations that one line checks at once: together they are one statement, or it holds only if each does
TOGETHER = {
    '2.2 2.3', '3.2 3.3', '4.1 4.2 4.4 4.5', '4.3 4.4 4.5', '5.4 5.5', '5.6 5.7', '5.3 5.6 5.7', '6.1 6.2 6.3', '7.1 7.2 7.3', '9.5 9.7', '11.1 11.2',
    '14.3 14.4', '14.5 14.6', '14.8 14.9', '14.12 14.13 14.14', '14.17 14.18', '16.1 16.2 16.3', '17.2 17.4', '17.7 17.9',
    '18.4 18.5 18.6 18.7', '19.5 19.6', '19.8 19.9', 'C.2 C.3',
}


def shown_together(source):
    "Groups of numbers for which a cell shows one and the same line."
    numbers = dict.fromkeys(equations.named(source))
    lines = {n: equations.asserting_line(source, n) for n in numbers}
    groups = {' '.join(n for n in numbers if lines[n] == line) for line in lines.values()}
    return {group for group in groups if ' ' in group}


def test_of_each_equation_its_own_line_is_shown():
    "Wrong program: two numbers above a cell, so that the page shows its first assertion for both, and the second equation's line for none; and an exception that outlived its cell."
    assert set().union(*(shown_together(c.source) for c in equations.checks_in_pages())) == TOGETHER
    assert shown_together('# checks (4.8), (4.9)\nassert a == b\nassert c == d') == {'4.8 4.9'}
    assert not shown_together('assert a == b  # checks (4.8)\nassert c == d  # checks (4.9)')


def test_the_page_is_in_step(): subprocess.run([sys.executable, ROOT/'tools'/'equations.py', '--check'], check=True)


def test_a_checked_course_has_no_problems(course):
    assert course({'04_x': [FORMULA, ('code', '# checks (4.1), (4.2)\nassert 1')]}) == []
    assert course({'04_x': [FORMULA, ('code', 'assert 1  # checks (4.1)')]}, 'def test_it():\n    assert 1  # checks (4.2)\n') == []


@pytest.mark.parametrize('cells, said', [
    ([FORMULA, ('code', 'assert 1  # checks (4.1)')], '(4.2) of 04_x has no check'),
    ([FORMULA, ('code', 'assert 1  # (4.1), (4.2)')], '(4.1) of 04_x has no check'),
    ([FORMULA, ('code', 'assert 1  # checks (4.1), (4.2), (4.3)')], 'checks (4.3), which no lesson has'),
    ([FORMULA, ('code', 'print(1)  # checks (4.1), (4.2)')], 'asserts nothing'),
    ([FORMULA, FORMULA, ('code', 'assert 1  # checks (4.1), (4.2)')], '(4.1) occurs 2 times'),
])
def test_each_kind_of_problem_is_found(course, cells, said): assert any(said in problem for problem in course({'04_x': cells}))


def test_one_number_a_formula(course):
    with pytest.raises(ValueError, match='one number a formula'): course({'04_x': [('markdown', '# ?\n$$a \\tag{4.1} b \\tag{4.2}$$')]})


def test_a_papers_number_must_stand_in_the_lesson(course, monkeypatch):
    monkeypatch.setattr(equations, 'PAPERS', {'4.1': 'DDPM Eq. 7'})
    lesson = [FORMULA, ('code', '# checks (4.1), (4.2)\nassert 1')]
    assert 'is said to be DDPM Eq. 7' in course({'04_x': lesson})[0]
    assert course({'04_x': [*lesson, ('markdown', "These are DDPM's Eqs. 6 and 7.")]}) == []


@pytest.mark.parametrize('source, shown', [
    ('x = 1\nassert x\nassert x == 1  # checks (4.1)', 'assert x == 1'),               # at the end of its line
    ('assert 0 == 0\n# checks (4.1)\ny = 2\nassert y == 2\nassert y', 'assert y == 2'),  # above it
    ('# checks (4.1)\nwith raises(ValueError): f()\nassert f', 'assert f'),
    ('def law(x): assert x\nlaw(3)  # checks (4.1)', 'law(3)'),
    ('print(1)  # checks (4.1)', ''), ('assert 1\n# checks (4.1)\nprint(2)', ''),
])
def test_the_line_that_checks_is_shown(source, shown): assert equations.asserting_line(source, '4.1') == shown
