"""Begin a lesson: python tools/new_lesson.py 23_video "How does noise become a film?"

Makes the page, its solutions (which export the questions), a test file, and the lesson's rows in the tables of the index and of lesson 0.
All of them run as they are, about a small example: the spread of a sum. Put your subject in its place, bit by bit, and keep them running.
Where anything is left to do stands TO DO; the tests do not let it land.
"""
import hashlib
import json
import keyword
import re
import sys
from pathlib import Path

import colab

ROOT = Path(__file__).resolve().parents[1]
TO_DO = 'TO DO'   # stands where something is left to do

PAGE = [
    ('md', '''# {number} {title}: {question}
> {todo}: the answer in one line, which becomes the module's docstring.

{todo}: why would anybody ask? **Guess before you read on**: two independent errors, of standard deviations 3 and 4, are added. How large is the error of the sum: 7, 5 or 3.5?

*About 20 minutes. Exports `ddpm_lesson.{name}`.*

[Notation, prerequisites, glossary, sources](reference/notation.ipynb)'''),
    ('code', '#| hide\n#| default_exp {name}'),
    ('code', '#| export\nfrom torch import Tensor'),
    ('code', '#| hide_input\nimport torch\nfrom pytest import raises\nfrom torch.testing import assert_close\n\nfrom ddpm_lesson.plot import show_lines'),
    ('md', '''## {todo}: what is derived

One step a line, our number, and the paper's beside it. Variances of independent numbers add:

$$\\sigma^2 = a^2 + b^2 \\tag{{{n}.1}}$$'''),
    ('md', 'First the code that follows the definition: draw many, add, and measure.'),
    ('code', '''def naive_spread(a, b, count=200_000):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, count, generator=g, dtype=torch.float64)
    return (a*x + b*y).std()

naive_spread(3., 4.)'''),
    ('md', 'Then the code that is exported, and at once the test that licenses the exchange, with the popular mistake shown to fail.'),
    ('code', '''#| export
def spread_of_sum(
    a:Tensor, # standard deviations, at least 0
    b:Tensor, # the same of the other numbers
)->Tensor:    # standard deviations of their sums
    "Spread of the sum of two independent numbers. {todo}: name the source."
    if (a < 0).any() or (b < 0).any():
        raise ValueError(f'spread_of_sum wanted standard deviations, at least 0, got {{a}} and {{b}}')
    return (a**2 + b**2).sqrt()'''),
    ('code', '''a, b = torch.tensor(3.).double(), torch.tensor(4.).double()
four_errors = 4*(1/(2*200_000))**0.5   # relative, of a standard deviation from 200,000 draws
assert_close(spread_of_sum(a, b), naive_spread(a, b), rtol=four_errors, atol=0)   # checks ({n}.1)
with raises(AssertionError): assert_close(a + b, naive_spread(a, b), rtol=four_errors, atol=0)
with raises(ValueError, match='at least 0'): spread_of_sum(-a, b)'''),
    ('md', 'A picture for each claim; the sentence above it says where to look. The spread of the sum stays below the sum of the spreads:'),
    ('code', '''other = torch.linspace(0, 8, 50).double()
both = spread_of_sum(torch.full_like(other, 3.), other)'''),
    ('code', '''curves = {{'of the sum': both, 'popular mistake: a + b': 3 + other}}
show_lines(other, curves, 'spread b, with a = 3', 'spread');'''),
    ('md', '''## Exercises

Edit, run, read what `check` says. [Your progress](interface/progress.ipynb) remembers. A star means: on paper first.'''),
    ('code', 'from ddpm_lesson.exam.grade import check'),
    ('md', '**1. The spread of a sum.** {todo}: a question whose answer is a function. Which spread has the sum of two independent numbers?'),
    ('code', "def spread(a, b):\n    return a + b   # <- not yet\n\ncheck('{number}-{name}-sum', spread)"),
    ('md', '**2.\\* Of many.** {todo}: a question for paper. Sixteen independent numbers of standard deviation 1 are averaged. What is the standard deviation of the mean?'),
    ('code', "check('{number}-{name}-mean', ...)   # <- your number"),
    ('md', '''<details><summary>Answers</summary>

1. The root of $a^2 + b^2$. 2. $1/\\sqrt{{16}} = 0.25$.

Run and explained in [the solutions](solutions/{page}.ipynb).

</details>'''),
    ('md', '**What we know now:** {todo}. **What we cannot do yet:** {todo}.'),
]

SOLUTIONS = [
    ('md', '''# Solutions {number}: {title}
> The exercises of [lesson {n}](../{page}.ipynb): the answers, why, and the popular mistakes by name.

Try first. Each answer below is graded as yours would be, but nothing is remembered as your progress. Below it stands the record that grades it: what is right, and each popular mistake with the sentence that `check` says about it.'''),
    ('code', '#| hide\n#| default_exp exam.lesson_{number}'),
    ('code', "#| export\nfrom ddpm_lesson.exam.cases import Exercise, few\n\npage = '{page}'   # asks these questions"),
    ('code', 'from ddpm_lesson.exam.grade import grade, sharp'),
    ('md', '## 1. The spread of a sum\n\n{todo}: two sentences that say why. Variances of independent numbers add; spreads do not.'),
    ('code', "def spread(a, b): return (a**2 + b**2)**0.5\n\nprint(verdict := grade('{number}-{name}-sum', spread))\nassert verdict"),
    ('code', '''#| export
ex_{name}_sum = Exercise('{number}-{name}-sum',
    'Which standard deviation has the sum of two independent numbers?',
    inputs=few((3.0, 4.0), (0.5, 2.0), (1.5, 0.2)),
    truth=lambda a, b: (a**2 + b**2)**0.5,
    mutants={{
        'Spreads were added; independent numbers add their variances.':
            lambda a, b: a + b,
        'This is a variance; a standard deviation was asked for.':
            lambda a, b: a**2 + b**2,
        'This is the spread of a mean of two; a sum was asked for.':
            lambda a, b: (a**2 + b**2)**0.5/2,
        'The smaller one counts too: take the root of the sum of the squares.':
            lambda a, b: max(a, b),
    }})'''),
    ('code', 'sharp(ex_{name}_sum)'),
    ('md', '## 2. Of many\n\n{todo}: two sentences. The variance of a sum of sixteen is 16, and dividing by 16 divides a variance by 256.'),
    ('code', "of_the_mean = 16**0.5/16\n\nprint(verdict := grade('{number}-{name}-mean', of_the_mean))\nassert verdict"),
    ('code', '''#| export
ex_{name}_mean = Exercise('{number}-{name}-mean',
    'Sixteen independent numbers of standard deviation 1: what is that of their mean?',
    paper=True, truth=0.25, rtol=1e-2, atol=0,
    mutants={{
        'This is a variance; a standard deviation was asked for.': 1/16,
        'A mean of many spreads less than one of them.': 1.0,
        'This is the standard deviation of the sum; divide by 16.': 4.0,
        'This is the variance of the sum; divide by 16 squared, then take the root.': 16.0,
    }})'''),
    ('code', 'sharp(ex_{name}_mean)'),
]

TEST = '''"{title}: {question}"
import pytest
import torch

from ddpm_lesson.{name} import spread_of_sum


@pytest.mark.parametrize('a, b', [(3., 4.), (0., 2.), (1e-3, 1.)])
def test_variances_add(a, b):
    "Rejects a program that adds spreads, and one that forgets the root. {todo}: tests of your own."
    got = spread_of_sum(torch.tensor(a).double(), torch.tensor(b).double())
    torch.testing.assert_close(got.square().item(), a**2 + b**2, rtol=1e-12, atol=0)  # checks ({n}.1)
'''


def notebook(cells, page, words):
    "A notebook with a cell for each (kind, text), their ids made from the page and the place."
    made = []
    for i, (kind, text) in enumerate(cells):
        cell = {'id': hashlib.sha1(f'{page} {i}'.encode()).hexdigest()[:8], 'metadata': {}, 'source': text.format(**words).splitlines(True)}
        made.append(cell | ({'cell_type': 'markdown'} if kind == 'md' else {'cell_type': 'code', 'outputs': [], 'execution_count': None}))
    kernel = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}
    return json.dumps({'cells': made, 'metadata': kernel, 'nbformat': 4, 'nbformat_minor': 5}, indent=1, ensure_ascii=False, sort_keys=True) + '\n'


def with_row(text, page, after):
    "A notebook's text with a row more in its table of lessons, in the order of their numbers."
    number = int(page[:2])
    rows = [m for m in re.finditer(r'^( *)"\| \[(\d+) [^\]]*\]\(\d\d_\w+\.ipynb\).*\\n",\n', text, re.M)]
    before = [m for m in rows if int(m[2]) < number]
    if not before: raise SystemExit('wanted a table of lessons, got none')
    row = json.dumps(f'| [{page.replace("_", " ")}]({page}.ipynb) | {after} |\n', ensure_ascii=False)
    return text[:before[-1].end()] + f'{before[-1][1]}{row},\n' + text[before[-1].end():]


def begin(page, question, root=ROOT):
    "Write all that a lesson has; gives the files."
    found = re.fullmatch(r'(\d\d)_([a-z]\w*)', page, re.ASCII)
    if not found or keyword.iskeyword(found[2]): raise SystemExit(f'wanted a name as 23_video, got {page}')
    number, name = found.groups()
    if not re.fullmatch(r'[^|"\\\n]+\?', question): raise SystemExit(f'wanted a question in one line that ends with ?, got {question!r}')
    words = dict(number=number, n=int(number), name=name, page=page, title=name.replace('_', ' ').capitalize(), question=question, todo=TO_DO)
    new = {
        root/'nbs'/f'{page}.ipynb': notebook(PAGE, page, words), root/'nbs'/'solutions'/f'{page}.ipynb': notebook(SOLUTIONS, f'solutions/{page}', words),
        root/'tests'/f'test_{name}.py': TEST.format(**words),
    }
    taken = [p for p in [*new, root/'ddpm_lesson'/f'{name}.py', root/'ddpm_lesson'/name, *(root/'nbs').glob(f'{number}_*.ipynb')] if p.exists()]
    if taken: raise SystemExit(f'wanted a free number and name, got {page}; there is {taken[0].relative_to(root).as_posix()}')
    index, start = root/'nbs'/'index.ipynb', next((root/'nbs').glob('00_*.ipynb'))
    new[index] = with_row(index.read_text(encoding='utf-8'), page, f'{question} | 20 | {TO_DO} | `{name}`')
    new[start] = with_row(start.read_text(encoding='utf-8'), page, f'{question} | {TO_DO}')
    page_file = root/'nbs'/f'{page}.ipynb'
    new[page_file] = colab.written(new[page_file], page, colab.address(root))
    for path, text in new.items(): path.write_bytes(text.encode('utf-8'))
    return [path.relative_to(root).as_posix() for path in new]


if __name__ == '__main__':
    if len(sys.argv) != 3: sys.exit(__doc__)
    print(*begin(*sys.argv[1:]), sep='\n')
    print('next: CONTRIBUTING.md, "How to add a lesson"')
