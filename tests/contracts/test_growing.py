"How the course grows: a lesson is begun by one command and passes every contract as it is; a page is renumbered by another, and nothing is left behind."
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT/'tools'))
import new_lesson  # noqa: E402
import renumber  # noqa: E402

import pages  # noqa: E402

BIN = Path(sys.executable).parent
OF_ALL = 'lessons_have or numbered_equations or exercise_is_asked or module_of_questions or begin_unsolved or one_kind_of_title or word_belongs' \
    ' or links_between or minutes_of_the_index or change_nothing or equation or circle or still_to_do'
OF_ONE = 'told_by_its_name or every_argument or graded_right or fit_to_be_read or shows_a_picture or variances_add'


def course(folder):
    "A copy of what a lesson touches."
    ignored = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', '_proc', '*.egg-info')
    for name in 'nbs', 'ddpm_lesson', 'tests', 'tools', 'images', 'records', 'benchmarks', 'site': shutil.copytree(ROOT/name, folder/name, ignore=ignored)
    for name in 'settings.ini', 'setup.py', 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'LICENSE', 'ruff.toml': shutil.copy(ROOT/name, folder/name)
    return folder


def run(folder, *command):
    env = os.environ | dict(PYTHONPATH=str(folder), MPLBACKEND='agg')
    done = subprocess.run([str(c) for c in command], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def read(path): return path.read_text(encoding='utf-8')


def test_a_new_lesson_passes_every_contract_as_it_is(tmp_path):
    "Rejects a skeleton that has not followed the house: whoever begins a lesson would have to find out what is missing."
    here = course(tmp_path/'course')
    made = new_lesson.begin('88_sums', 'How far do sums spread?', here)
    assert {'nbs/88_sums.ipynb', 'nbs/solutions/88_sums.ipynb', 'tests/test_sums.py', 'nbs/index.ipynb'} <= set(made)
    for command in ([BIN/'nbdev_export'], [sys.executable, 'tools/run_nbs.py', 'nbs/88_sums.ipynb', 'nbs/solutions/88_sums.ipynb'], [BIN/'nbdev_clean'],
                    [sys.executable, 'tools/equations.py'], [BIN/'nbdev_clean'], [sys.executable, 'tools/readme.py'], [BIN/'ruff', 'check', '--no-cache', '-q', 'nbs/88_sums.ipynb', 'nbs/solutions/88_sums.ipynb', 'tests/test_sums.py']):
        status, said = run(here, *command)
        assert status == 0, said[-3000:]
    files = ['tests/test_sums.py', 'tests/test_grade.py', 'tests/contracts/test_repository.py', 'tests/contracts/test_equations.py', 'tests/contracts/test_house.py', 'tests/contracts/test_growing.py']
    status, said = run(here, sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', f'(({OF_ONE}) and sums or {OF_ALL}) and not new_lesson', *files)
    failed = re.findall(r'^FAILED (\S+)', said, re.M)
    assert [f for f in failed if 'still_to_do' not in f] == [] and re.search(r'\b\d{2,} passed', said), said[-3000:]
    assert any('still_to_do' in f for f in failed)


@pytest.mark.parametrize('cell, refused', [('torch.randn(3)', True), ('torch.manual_seed(0)\ntorch.randn(3)', False),
                                           ('torch.randn(3, generator=torch.Generator().manual_seed(0))', False)])
def test_a_page_that_draws_before_it_is_seeded_is_refused(cell, refused, tmp_path):
    "Rejects a tool that keeps numbers which the next run would not show; and one that writes such a page after all."
    page = tmp_path/'page.ipynb'
    code = dict(cell_type='code', id='1', metadata={}, execution_count=None, outputs=[], source=f'import torch\n{cell}')
    page.write_text(json.dumps(dict(cells=[code], metadata={}, nbformat=4, nbformat_minor=5)), encoding='utf-8')
    before = read(page)
    status, said = run(ROOT, sys.executable, 'tools/run_nbs.py', page)
    assert bool(status) == refused and ('wanted torch.manual_seed' in said) == refused, said[-500:]
    assert (read(page) == before) == refused and 'watch_draws' not in read(page)


def test_a_page_that_is_changed_while_it_runs_keeps_the_change(tmp_path):
    "Rejects a tool that writes back, after minutes, what the page was when it began."
    page = tmp_path/'page.ipynb'
    code = dict(cell_type='code', id='1', metadata={}, execution_count=None, outputs=[], source="with open('page.ipynb', 'a') as f: f.write(' ')")
    page.write_text(json.dumps(dict(cells=[code], metadata={}, nbformat=4, nbformat_minor=5)), encoding='utf-8')
    before = read(page)
    status, said = run(ROOT, sys.executable, 'tools/run_nbs.py', page)
    assert status and 'has changed while it ran' in said and read(page) == before + ' ', said[-500:]


def test_nothing_is_still_to_do():
    "Rejects a lesson that lands with a part of its skeleton."
    files = [*(ROOT/'nbs').rglob('*.ipynb'), *(ROOT/'tests').rglob('test_*.py'), *(ROOT/'ddpm_lesson').rglob('*.py')]
    assert len(files) > 100 and [f.name for f in files if new_lesson.TO_DO in read(f)] == []


@pytest.mark.parametrize('name, question, words', [
    ('sums', 'How?', 'wanted a name as 23_video'), ('88_sums', 'How far', 'ends with ?'), ('88_sums', 'A | b?', 'ends with ?'), ('88_sums', 'A "b"?', 'ends with ?'),
    ('03_sums', 'How?', 'there is nbs/03_'), ('88_forward', 'How?', 'there is ddpm_lesson/forward.py'), ('88_metrics', 'How?', 'there is'),
    ('88_class', 'How?', 'wanted a name as 23_video'), ('\u0668\u0668_sums', 'How?', 'wanted a name as 23_video'), ('88_s\u00fcm', 'How?', 'wanted a name as 23_video'), ('88_engine', 'How?', 'there is ddpm_lesson/engine')])
def test_a_lesson_that_cannot_be_begun_changes_nothing(name, question, words, tmp_path):
    for folder in 'nbs', 'ddpm_lesson/engine', 'tests': (tmp_path/folder).mkdir(parents=True)
    for path in 'nbs/03_forward.ipynb', 'ddpm_lesson/forward.py', 'tests/test_metrics.py': (tmp_path/path).write_text('{}')
    with pytest.raises(SystemExit, match=re.escape(words)): new_lesson.begin(name, question, tmp_path)
    assert sum(p.is_file() for p in tmp_path.rglob('*')) == 3


# a small repository in which a page moves

def notebook(*cells): return json.dumps({'cells': [{'cell_type': kind, 'id': f'{i:08x}', 'metadata': {}, 'source': text.splitlines(True)} for i, (kind, text) in enumerate(cells)]}, indent=1, ensure_ascii=False, sort_keys=True) + '\n'


def files(n='14', title='14 Scale', page='14_scale', up='', mark='14', words='scale', lesson='lesson 14', row='| [14 scale]'):
    "What the small repository holds, with the page as lesson 14 or elsewhere. `up` leads from the page's folder to nbs/."
    folder = '' if up == '' else 'reference/'
    name, q = f'{folder}{page}', n if n.isdigit() else page
    museum, back = ('museum.ipynb', f'{page}.ipynb') if up else ('reference/museum.ipynb', f'../{page}.ipynb')
    rows = ['| [03 forward](03_forward.ipynb) | How? |\n', f'{row}({name}.ipynb) | What does it cost? |\n', '| [museum](reference/museum.ipynb) | What? |\n']
    return {
        f'nbs/{name}.ipynb': notebook(
            ('markdown', f'# {title}: cost\n\nAfter [lesson 3]({up}03_forward.ipynb#jump), ![x]({up}../images/x.png), [one]({museum}), [web](https://a.example/14_scale.ipynb).'),
            ('markdown', f'$$a \\tag{{{mark}.1}}$$\n\n$$b \\tag{{{mark}.2a}}$$\n\nBy ({mark}.1) and ({mark}.2a), not (14.9) s; (3.1) stays.'),
            ('code', f"assert a  # checks ({mark}.1), ({mark}.2a)\ncheck('{n}-roof', 1)\ncheck('{n}-half-life', 2)"),
            ('markdown', f'<details><summary>Answers</summary> [there]({up}solutions/{page}.ipynb)</details>')),
        f'nbs/solutions/{page}.ipynb': notebook(
            ('markdown', f'# Solutions {n}: Scale\n> Of [{lesson}](../{name}.ipynb).'), ('code', f'#| hide\n#| default_exp exam.lesson_{q}'),
            ('code', f"page = '{page}'\nex_roof = Exercise('{n}-roof')\ngrade('{n}-half-life', x)")),
        'nbs/03_forward.ipynb': notebook(('markdown', f'# 03 Forward: there\n\n[{lesson}]({name}.ipynb#a), <a href="{name}.ipynb">x</a>, {lesson}. Lessons 3 and 13; ({mark}.1). 14 images, (14.5) s, `14-roofs`, lesson 140.\n\n$$c \\tag{{3.1}}$$')),
        'nbs/index.ipynb': notebook(('markdown', ''.join(rows))),
        'nbs/reference/museum.ipynb': notebook(('markdown', f'# Museum\n\n[{lesson}]({back}), $$d \\tag{{M.1}}$$ The scale of it.'), ('code', "check('M-eta', 1)")),
        'nbs/solutions/museum.ipynb': notebook(('code', "grade('M-eta', 1)")),
        'records/table.csv': f'id,page,said\n{page}/one/1,{page},a\nforward,03_forward,scale of\n',
        'tests/test_scale.py': f"# checks ({mark}.1)\nPAPERS = {{'{mark}.1': 'Eq. 2', '3.1': 'Eq. 1'}}\nfrom ddpm_lesson.exam import lesson_{q}\nopen('nbs/{name}.ipynb')\nscale = ROOT/'nbs'/'{folder and folder}{page}.ipynb'\n",
        'README.md': f'[{lesson}](nbs/{name}.ipynb), [scale](scale.md)\n',
        'CHANGELOG.md': f'- Lesson 14 was 14_scale once. [Now](nbs/{name}.ipynb)\n',
        f'ddpm_lesson/exam/lesson_{q}.py': 'made by the export\n', 'scale.md': 'none of it\n', 'images/x.png': 'picture',
    }


def small(folder, held):
    for name, text in held.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(text.encode('utf-8'))
    subprocess.run(['git', 'init', '-q', folder], check=True)
    return folder


def held(folder): return {p.relative_to(folder).as_posix(): p.read_bytes().decode('utf-8') for p in folder.rglob('*') if p.is_file() and '.git' not in p.parts}


GIT = pytest.mark.skipif(not shutil.which('git'), reason='needs git')
MOVES = {
    'another number': ('21_scale', '21', dict(n='21', title='21 Scale', page='21_scale', mark='21', lesson='lesson 21', row='| [21 scale]')),
    'another name too': ('15_cost', '15', dict(n='15', title='15 Scale', page='15_cost', mark='15', lesson='lesson 15', row='| [15 scale]')),
    'one digit': ('04_scale', '4', dict(n='04', title='04 Scale', page='04_scale', mark='4', lesson='lesson 4', row='| [04 scale]')),
    'a letter': ('reference/scale', 'S', dict(n='S', title='Scale', page='scale', up='../', mark='S', row='| [scale]')),
}


@GIT
@pytest.mark.parametrize('kind', MOVES)
def test_everything_that_names_a_page_follows_it_and_comes_back(kind, tmp_path):
    """Rejects a renumbering that forgets a link (both ways, with an anchor, as HTML), a tag, a reference, an exercise, the questions' module, a title,
    a row of a table, and one that takes for them what only looks alike: 14 images, (14.5) s, lesson 140, `14-roofs`, another's address."""
    to, mark, how = MOVES[kind]
    here = small(tmp_path, files())
    renumber.move('14_scale', to, mark, here)
    got, want = held(here), files(**how)
    if kind == 'a letter': want['nbs/index.ipynb'] = got['nbs/index.ipynb']   # looked at below
    assert set(got) == set(want)
    for name in want: assert got[name] == want[name], name
    rows = json.loads(got['nbs/index.ipynb'])['cells'][0]['source']
    assert f'{how["row"]}({to}.ipynb) | What does it cost? |\n' in rows and len(rows) == 3
    renumber.move(to, '14_scale', '14', here)
    assert held(here) == files()


@GIT
def test_rows_of_the_table_stay_in_order(tmp_path):
    "Rejects a table in which lesson 2 stands below lesson 3 because it was lesson 14 before."
    here = small(tmp_path, files())
    renumber.move('14_scale', '02_scale', '2', here)
    rows = json.loads(held(here)['nbs/index.ipynb'])['cells'][0]['source']
    assert [re.findall(r'\[(\w+)', row)[0] for row in rows] == ['02', '03', 'museum']


@GIT
@pytest.mark.parametrize('to, mark, words', [
    ('03_forward', '3', 'which is there'), ('03_scale', '3', 'that of 03_forward'), ('reference/scale', 'M', 'that of reference/museum'),
    ('reference/scale', '', 'a capital letter'), ('reference/scale', 'ab', 'a capital letter'), ('21_scale', '20', 'its own number')])
def test_a_number_that_is_taken_is_refused_and_nothing_changed(to, mark, words, tmp_path):
    "Rejects a move after which two pages have equations of one number: nothing could tell them apart again."
    here = small(tmp_path, files())
    with pytest.raises(SystemExit, match=words): renumber.move('14_scale', to, mark, here)
    assert held(here) == files()
    with pytest.raises(SystemExit, match='wanted a page'): renumber.move('15_none', '16_none', '16', here)


@GIT
@pytest.mark.skipif(not (ROOT/'.git').exists(), reason='no clone of the repository')
@pytest.mark.parametrize('page, to, mark, back', [(p.stem, f'{new}_{p.stem[3:]}', new, str(int(p.stem[:2]))) for p, new in [(pages.lessons()[3], '97'), (pages.lessons()[-1], '98')]] + [('reference/museum', '/'.join(['engine', 'museum']), 'X', 'M')])
def test_this_course_survives_a_move_and_its_return(page, to, mark, back, tmp_path):
    "The same of every page there is, with whatever its authors wrote: after there and back, the same bytes."
    files = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split('\0')
    texts = {name: (ROOT/name).read_bytes().decode('utf-8') for name in files if Path(name).suffix in renumber.TEXTS and (ROOT/name).is_file()}
    here = small(tmp_path, texts)
    assert len(renumber.move(page, to, mark, here)) > 5
    there = held(here)
    names = re.compile(rf'(?<!\w){Path(page).name}\.ipynb') if page[0].isdigit() else re.compile(re.escape(f'{page}.ipynb'))
    assert [name for name, text in there.items() if names.search(renumber.ADDRESS.sub('', text)) and not name.startswith('ddpm_lesson/') and name != 'CHANGELOG.md'] == []
    renumber.move(to, page, back, here)
    again = held(here)
    made = {'nbs/reference/equations.ipynb'} if '/' in page else set()   # its links go round by ../reference; tools/equations.py makes it again
    assert [name for name in {**texts, **again} if texts.get(name) != again.get(name) and name not in made] == []


@pytest.mark.parametrize('tool', ['equations', 'readme', 'colab'])
def test_a_slip_in_check_writes_nothing(tool):
    "Rejects a tool that takes any other word for no flag, and writes where it was to look."
    run = subprocess.run([sys.executable, ROOT/'tools'/f'{tool}.py', '--chek'], capture_output=True, encoding='utf-8')
    assert run.returncode == 1 and 'wanted --check or nothing, got --chek' in run.stderr
