"What is committed must be what the notebooks say, and fit to be read."
import csv
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_lesson.engine.presets import presets
from ddpm_lesson.pretrained import load_card

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT/'tools'))
from mutants import MUTANTS  # noqa: E402

import pages  # noqa: E402

PAGES, SOLUTIONS = pages.pages(), pages.solutions()
IGNORED = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '.last_checked', '_proc', '*.egg-info')


def read(page): return json.loads(page.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def outputs(page): return [o for c in read(page) for o in c.get('outputs', [])]
def text_of(output): return ''.join(output.get('text', [])) + ''.join(output.get('data', {}).get('text/plain', []))


def test_exporting_and_cleaning_change_nothing(tmp_path):
    for name in 'nbs', 'ddpm_lesson': shutil.copytree(ROOT/name, tmp_path/name, ignore=IGNORED)
    for name in 'settings.ini', 'setup.py', 'README.md': shutil.copy(ROOT/name, tmp_path/name)
    for command in 'nbdev_clean', 'nbdev_export': subprocess.run([Path(sys.executable).parent/command], cwd=tmp_path, check=True)
    made = [p.relative_to(tmp_path) for name in ('nbs', 'ddpm_lesson') for p in (tmp_path/name).rglob('*') if p.suffix in ('.ipynb', '.py')]
    assert len(made) > 25
    assert not [p for p in made if not (ROOT/p).exists() or not filecmp.cmp(tmp_path/p, ROOT/p, shallow=False)]


def test_minutes_and_seconds_of_the_index_are_those_of_the_pages():
    "A wrong program: two lists of minutes, one of them forgotten; seconds that nobody measured."
    index = '\n'.join(map(source, read(ROOT/'nbs'/'index.ipynb')))
    found = re.findall(r'\| \[[^\]]*\]\((\d\d_\w+|reference/\w+)\.ipynb\) \| [^|]* \| ([^|]*) \| ([^|]*) \|', index)
    rows, seconds = {row[0]: row[1] for row in found}, {row[0]: row[2] for row in found if row[2].isdigit()}
    assert seconds == {row['page']: row['seconds'] for row in csv.DictReader((ROOT/'benchmarks'/'pages.csv').open(encoding='utf-8'))}
    said = {pages.path_of(p): re.search(r'\*About (\d+) minutes', '\n'.join(map(source, read(p)))) for p in PAGES if pages.path_of(p) in rows}
    assert len(rows) > 15 and rows == {name: found and found[1] for name, found in said.items()}


def test_readme_is_made_from_the_index(): subprocess.run([sys.executable, ROOT/'tools'/'readme.py', '--check'], check=True)


def test_numbers_of_the_first_page_come_from_files():
    "Rejects a number in the prose of the README that outlived what it was measured on."
    text = '\n'.join(source(c) for c in read(ROOT/'nbs'/'index.ipynb') if c['cell_type'] == 'markdown')
    table = lambda name: list(csv.DictReader((ROOT/name).open(encoding='utf-8')))
    fashion, few, flowers = (load_card(name) for name in ('fashion', 'fashion-fast', 'flowers'))
    five, same, sizes = (table(f) for f in ('benchmarks/five_minutes.csv', 'benchmarks/same_minutes.csv', 'records/sizes.csv'))
    words, laptop = 'no one two three four five'.split(), presets['laptop']
    minutes = lambda card: round(card['made']['seconds']/60)
    assert fashion['made']['hardware'].endswith('1 thread') and flowers['made']['hardware'].startswith('NVIDIA') and five[0]['threads'] == '1'
    assert all(225 < int(r['train_cpu_seconds']) < 315 for r in same) and {r['seed'] for r in same} == {'0', '1', '2'}
    for said in (f"learned for {fashion['made']['seconds']/3600:.1f} hours on one CPU core", f"the flowers' for {words[minutes(flowers)]} minutes on one GPU",
                 f"in {words[few['quality']['network calls']]} network calls instead of fifty", f"{laptop['steps']*laptop['batch']:,} images",
                 f"{sum(int(r['MB']) for r in sizes if r['needed'] == 'by a GPU')/1000:.1f} GB on disk (version {sizes[0]['version'].rpartition('.')[0]})",
                 'ten processor minutes on one thread', 'about five minutes of one core, three times'): assert text.count(said) == 1, said
    assert fashion['quality']['network calls'] == 50 and round(int(five[0]['train_cpu_seconds'])/60) == 10 and sizes[0]['package'] == 'torch'


@pytest.mark.skipif(not (ROOT/'.git').exists() or not shutil.which('git'), reason='no clone of the repository')
def test_a_clone_has_the_same_bytes_whatever_git_is_told_about_line_endings(tmp_path):
    "Rejects a repository that leaves line endings to each computer: bash then stops at `set -euo pipefail` and a carriage return."
    told = {'core.autocrlf': 'true', 'core.eol': 'crlf', 'safe.directory': '*'}
    env = os.environ | {'GIT_CONFIG_COUNT': str(len(told))} | {f'GIT_CONFIG_{a}_{i}': v for i, kv in enumerate(told.items()) for a, v in zip(('KEY', 'VALUE'), kv)}
    git = lambda *args: subprocess.run(['git', *map(str, args)], check=True, capture_output=True, env=env).stdout.decode()
    git('clone', '-q', '--no-hardlinks', ROOT, tmp_path/'clone')
    lines = git('-C', tmp_path/'clone', 'ls-files', '--eol').splitlines()
    assert len(lines) > 100 and not [line for line in lines if line.split()[0][2:] != line.split()[1][2:]]
    assert b'\r' not in (tmp_path/'clone'/'.ci'/'run').read_bytes()
    git('-C', tmp_path/'clone', 'rm', '-q', '.gitattributes')
    shutil.rmtree(tmp_path/'clone'/'.ci')
    git('-C', tmp_path/'clone', 'checkout', '--', '.ci')
    assert b'\r' in (tmp_path/'clone'/'.ci'/'run').read_bytes()   # what it would be without the file


def test_ci_runs_the_readmes_test_line():
    line = re.search(r'^python3 -m venv .*pytest.*$', (ROOT/'README.md').read_text(encoding='utf-8'), re.M)[0]
    assert line in (ROOT/'.ci'/'run').read_text().splitlines()


@pytest.mark.parametrize('page', [*PAGES, *SOLUTIONS], ids=lambda p: f'{p.parent.name}-{p.stem}')
def test_page_is_fit_to_be_read(page):
    assert page.stat().st_size < 400_000
    shown = outputs(page)
    assert shown, 'run it: no cell has an output'
    assert not [o for o in shown if o['output_type'] == 'error' or o.get('name') == 'stderr']
    assert not [t for t in map(text_of, shown) if re.search(r'(/home|/root|/tmp|/work|/Users|site-packages)/', t)]
    assert not [source(c)[:80] for c in read(page) if c['cell_type'] == 'code' and len(source(c).splitlines()) > 70]


@pytest.mark.parametrize('page', [*PAGES, *SOLUTIONS], ids=lambda p: f'{p.parent.name}-{p.stem}')
def test_a_cell_that_draws_shows_a_picture(page):
    "Rejects a page run with matplotlib set to draw nowhere."
    draws = [c for c in read(page) if c['cell_type'] == 'code' and re.search(r'^(fig, .*= plt\.subplots|show_rows)\(', source(c), re.M) and 'eval: false' not in source(c)]
    assert not [source(c)[:80] for c in draws if not any('image/png' in o.get('data', {}) for o in c['outputs'])]


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, *SOLUTIONS, ROOT/'README.md', ROOT/'CONTRIBUTING.md']:
        text = page.read_text(encoding='utf-8') if page.suffix == '.md' else '\n'.join(source(c) for c in read(page) if c['cell_type'] == 'markdown')
        base = page.parent
        for target in re.findall(r'\]\((?!https?:|#|attachment:)([^)\s]+)\)', text): assert (base/target.split('#')[0]).exists(), f'{page.name} -> {target}'


def test_lessons_have_a_question_an_exercise_and_an_end():
    assert len(pages.with_exercises()) >= 17
    for page in pages.with_exercises():
        text = '\n'.join(source(c) for c in read(page) if c['cell_type'] == 'markdown')
        for part in '# ', '\n> ', 'Guess', '## Exercise', '<details><summary>', '**What we know now', '**What we cannot do yet': assert part.lower() in text.lower(), f'{page.stem} lacks {part!r}'


def test_numbered_equations_are_numbered_by_lesson_and_once():
    "A lesson numbers by its own number, another page by a letter that no other page has."
    letters = {}
    for page in PAGES:
        tags = re.findall(r'\\tag\{([^}]+)\}', '\n'.join(source(c) for c in read(page)))
        if not tags: continue
        mark = str(int(page.stem[:2])) if page in pages.lessons() else tags[0][0]
        assert letters.setdefault(mark, page) == page and (mark.isdigit() or mark.isupper()), (page.stem, mark)
        assert len(tags) == len(set(tags)) and all(re.fullmatch(rf'{mark}\.\d+[a-z]?', t) for t in tags), (page.stem, tags)
    assert len(letters) > 15


def test_the_expectation_has_one_sign_in_formulas():
    r"Rejects E[x_0 \mid x_t] on one page and \mathbb E[x_0 \mid x_t] on the next; E(x) is the encoder of lesson 22."
    for page in [*PAGES, *SOLUTIONS]:
        text = '\n'.join(source(c) for c in read(page) if c['cell_type'] == 'markdown')
        formulas = re.findall(r'\$\$.+?\$\$|\$[^$\n]+\$', text, re.S)
        plain = r'(?<![A-Za-z\\{_])(?<!mathbb )E(?=(\\bigl|\\Bigl|\\left)?\[|_\{|(\\bigl)?\\lVert)'
        assert not [f for f in formulas if re.search(plain, f)], page.stem


def test_package_never_imports_what_only_pages_need():
    modules = list((ROOT/'ddpm_lesson').rglob('[a-z]*.py'))
    assert len(modules) > 25
    for module in modules:
        text = module.read_text(encoding='utf-8')
        later = ('classroom', 'journal')   # which draw when asked: their import of it stands in a function
        if module.stem in later: text = re.sub(r'^    +from matplotlib.*$', '', text, flags=re.M)
        assert module.stem == 'plot' or 'matplotlib' not in text and not re.search(r'import plot|\.plot import|from .*\bplot\b', text), module.name


def test_importing_the_sampler_costs_little_more_than_torch():
    code = ('import sys, time; import torch; before = set(sys.modules); t = time.perf_counter(); import ddpm_lesson.sampler; '
            'heavy = {"torchvision", "matplotlib", "diffusers", "einops", "PIL", "tqdm"} & (set(sys.modules) - before); assert not heavy, heavy')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_each_wrong_program_has_its_place():
    "Rejects a mutant whose line was rewritten: it would be found only where all of them are run, hours later."
    of = {module: (ROOT/'ddpm_lesson'/f'{module.replace(".", "/")}.py').read_text(encoding='utf-8') for module in {m[0] for m in MUTANTS.values()}}
    assert [name for name, (module, right, _, _) in MUTANTS.items() if of[module].count(right) != 1] == []
