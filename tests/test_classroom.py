"Copies of the course: what is in them, what is not, that saving changes nothing; and the progress of a class."
import asyncio
import csv
import glob
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ddpm_lesson import classroom, cli
from ddpm_lesson.data import bundled_fashion
from ddpm_lesson.engine.files import save_png
from ddpm_lesson.engine.sources import course_images, load_images
from ddpm_lesson.exam import grade

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT/'tools'))
import pages  # noqa: E402


def call(*args):
    r = CliRunner().invoke(cli.main, [str(a) for a in args])
    if r.exception and not isinstance(r.exception, SystemExit): raise r.exception
    return r.exit_code, r.output


def cells(page): return json.loads(page.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])
def checked(page): return re.findall(r"^check\('([^']+)'", '\n'.join(map(source, cells(page))), re.M)


def markdown(page):
    "Prose of a page, and what its cells show as such."
    shown = [''.join(o['data']['text/markdown']) for c in cells(page) for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    return [source(c) for c in cells(page) if c['cell_type'] == 'markdown'] + shown


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A class, whose wheel is not built."
    folder = tmp_path_factory.mktemp('class')/'out'
    keep, classroom._wheel = classroom._wheel, lambda root, out: 'pip install "ddpm_lesson[lessons]"'
    try: return classroom.make_class(folder)
    finally: classroom._wheel = keep


def test_students_get_every_page_without_answers(made):
    "Rejects a copy that forgets a lesson, keeps a fold of answers or a solution, or leaves a link that leads nowhere."
    course = made/'students'
    copied = {pages.path_of(p, course): p for p in pages.pages(course)}
    wanted = {pages.path_of(p): p for p in pages.pages()}
    assert set(wanted) - set(copied) == set(classroom._telling) and not (course/'nbs'/'solutions').exists()
    for name, page in copied.items():
        text = page.read_text(encoding='utf-8')
        assert not re.search(r'solutions/\w+\.ipynb|<summary>Answer|Exercise\(|exam\.lesson_', text), name
        for target in re.findall(r'\]\((?!https?:|#|attachment:|mailto:)([^)\s#]+)', '\n'.join(markdown(page))): assert (page.parent/target).exists(), (name, target)
        assert checked(page) == checked(wanted[name])


def test_a_copy_that_was_cut_short_is_not_taken_for_one(tmp_path, monkeypatch):
    "Rejects a copy that has its first page before the others, and then opens without them for good."
    whole, mine = classroom.page_as_copied, tmp_path/'mine'
    def interrupted(raw, page, *rest):
        if page.name == 'museum.ipynb':
            assert (mine/'nbs/00_start.ipynb').is_file() and not (mine/'nbs/index.ipynb').exists()
            raise KeyboardInterrupt
        return whole(raw, page, *rest)
    monkeypatch.setattr(classroom, 'page_as_copied', interrupted)
    with pytest.raises(KeyboardInterrupt): classroom.working_copy(mine)
    monkeypatch.undo()
    assert (classroom.working_copy(mine)/'nbs/reference/museum.ipynb').is_file()


def test_what_pages_read_is_in_every_copy(made):
    "Rejects a copy without its tables: six pages of an earlier one stopped at ../benchmarks or ../records."
    for course in made/'students', made/'teacher':
        for page in pages.pages(course):
            text = '\n'.join(source(c) for c in cells(page) if c['cell_type'] == 'code')
            for target in re.findall(r"'((?:\.\./)+[^']+)'", text): assert glob.glob(str(page.parent/re.sub(r'{.*?}', '*', target))), (page, target)
        for program in course.glob('benchmarks/*.py'):
            for name in re.findall(r'^from \.(\w+) import', program.read_text(encoding='utf-8'), re.M): assert program.with_name(f'{name}.py').is_file(), (program, name)


def test_a_page_names_nothing_that_its_reader_can_not_find(made):
    "Rejects a copy whose pages speak of folders that are not there, and a note on a page that needs none."
    for course in made/'students', made/'teacher':
        there = {p.relative_to(course) for p in course.rglob('*') if p.is_file()}
        assert not {n.split('/')[0] for p in pages.pages(course) for n in classroom.missing_from('\n'.join(markdown(p)), there)} - {'tests', 'ddpm_lesson', 'site'}
        for page in pages.pages(course):
            first, *rest = [source(c) for c in cells(page) if c['cell_type'] == 'markdown']
            body, _, note = first.partition('*Named on this page and not in this copy: ')
            missing = classroom.missing_from('\n'.join([body, *rest]), there)
            assert bool(note) == bool(missing) and all(f'`{name}`' in note for name in missing[:4]), (page, missing)
    raw = json.dumps(dict(cells=[dict(cell_type='markdown', source='See `tests/a.py`.')]))
    assert '[the repository of the course](https://a.example/b)' in classroom.with_note(raw, set(), 'https://a.example/b')


def test_a_class_says_how_to_begin(made):
    readme = (made/'students'/'README.md').read_text(encoding='utf-8')
    for words in 'Windows', 'Mac, Linux', 'py -m venv', 'python3 -m venv', 'ddpm_lesson lessons --copy .', '--student': assert words in readme
    notes = (made/'teacher'/'TEACHING.md').read_text(encoding='utf-8')
    assert 'Six weeks' in notes and 'One day' in notes and len(re.findall(r'^- \*\*', notes, re.M)) == sum(ex.lesson.isdigit() for ex in grade.exercises.values())
    assert (made/'teacher'/'nbs'/'solutions'/'04_posterior.ipynb').exists() and (made/'teacher'/'slides.html').read_text(encoding='utf-8').count('<section>') > 80


def test_notes_count_what_the_index_says():
    "Rejects a table that is read from another place than the index, or a lesson that no track of the notes can name."
    table = classroom._table()
    assert set(table) == {str(int(p.stem[:2])) for p in pages.lessons()} and all(read > 0 for _, _, read, _ in table.values())
    assert set(' '.join(which for which, _ in classroom._weeks).split()) | set(classroom._day) <= set(table)


@pytest.mark.parametrize('there', [False, True], ids=['new', 'empty'])
@pytest.mark.parametrize('make', [classroom.copy_course, classroom.make_class, classroom.nbgrader_course, classroom.otter_course], ids=lambda f: f.__name__)
@pytest.mark.parametrize('end', [OSError(28, 'No space left on device'), KeyboardInterrupt()], ids=['full', 'interrupted'])
def test_a_folder_is_made_whole_or_not_at_all(make, there, end, tmp_path, monkeypatch):
    out, put, written = tmp_path/'out', classroom._put, []
    if there: out.mkdir()
    def fail(path, text):
        if len(written) == 5: raise end
        written.append(path)
        put(path, text)
    monkeypatch.setattr(classroom, '_put', fail)
    with pytest.raises(type(end)): make(out)
    assert len(written) == 5 and [*tmp_path.rglob('*')] == [out]*there


@pytest.mark.parametrize('out', ['full', 'other', 'file', '.', '/', '--help'])
def test_a_class_goes_to_a_new_place(out, tmp_path, monkeypatch):
    "Rejects a tool that writes into a folder of others, whatever is in it, or makes one called --help."
    monkeypatch.chdir(tmp_path)
    for name in 'full/students', 'other/letter', 'file':
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text('precious')
    status, said = call('class', out)
    assert (status == 0) == (out == '--help') and not Path('--help').exists()
    assert sorted(p.as_posix() for p in Path().rglob('*')) == ['file', 'full', 'full/students', 'other', 'other/letter'] and not Path('/students').exists()


def test_answers_are_found_wherever_they_are_folded():
    "Rejects a copy that keeps an answer because other words stand in its cell, the tag has an attribute, or the link a title, an anchor or brackets."
    text = lambda *sources: ''.join(source(c) for c in classroom.without_answers([{'cell_type': 'markdown', 'source': s} for s in sources]))
    fold = lambda summary, tag='details': f'<{tag}><summary>{summary}</summary>\n\nsecret\n\n</details>'
    assert text(fold('A proof')) and 'secret' in text(fold('A proof'))                        # a fold of the lesson itself
    for summary in 'Answer', 'Answers', 'The answer', 'Solution':
        for tag in 'details', 'details open': assert 'secret' not in text('Before.' + fold(summary, tag) + 'After.') and text('a', fold(summary, tag) + 'b') == 'ab'
    assert text('## Exercises', 'Think. ' + fold('Hint or more'), 'End.') == '## ExercisesThink.End.'
    two = fold('A proof') + fold('Answers')
    assert 'A proof' in text(two) and text(two).count('secret') == 1
    plain = lambda text: classroom.unlinked(text, Path('nbs/02_schedule.ipynb'), {Path('nbs/01_data.ipynb')})
    for link in '[see $x_[t]$](solutions/02.ipynb)', '[see $x_[t]$](solutions/02.ipynb#a)', '[see $x_[t]$](solutions/02.ipynb "t")', '<a href="solutions/02.ipynb#a">see $x_[t]$</a>':
        assert plain(f'Go {link}.') == 'Go see $x_[t]$.', link
    for link in '[one](01_data.ipynb#a)', '[two](https://a.example/solutions/1.ipynb)', '[three](#here)': assert plain(link) == link


# ---- another data set, in one place

def shapes(folder, count=420):
    "A small set of one's own: discs and bars, wider than high, in two folders."
    for k in range(count):
        g = torch.Generator().manual_seed(k)
        x = torch.full((1, 36, 40), 20, dtype=torch.uint8)
        (top, left), r = torch.randint(4, 20, (2,), generator=g).tolist(), 3 + k % 7
        x[:, top:top + r*(1 + k % 2), left:left + r] = 120 + k % 100
        (folder/('disc' if k % 2 else 'bar')).mkdir(parents=True, exist_ok=True)
        save_png(folder/('disc' if k % 2 else 'bar')/f'{k}.png', x)
    return folder


def test_one_setting_gives_the_course_other_images(tmp_path, monkeypatch):
    "Rejects a folder taken at another size or in colour, a name read with the blank behind it, a test image that was learned from, labels in another order, and a folder of ten pictures."
    monkeypatch.setenv('DDPM_LESSON_DATA', '')
    assert torch.equal(course_images().pixels, bundled_fashion().pixels) and torch.equal(course_images(False).labels, bundled_fashion(False).labels)
    monkeypatch.setenv('DDPM_LESSON_DATA', str(shapes(tmp_path/'own')))
    train, test = course_images(), course_images(train=False)
    assert train.pixels.shape == (378, 1, 28, 28) and test.pixels.shape == (42, 1, 28, 28) and train.classes == ('bar', 'disc')
    whole = load_images(tmp_path/'own', 28, channels=1)
    assert torch.equal(test.pixels, whole.pixels[9::10]) and torch.equal(test.labels, whole.labels[9::10]) and torch.equal(train.labels[:9], whole.labels[:9])
    for part in 'train', 'test': shapes(tmp_path/'split'/part, 360 if part == 'train' else 20)
    monkeypatch.setenv('DDPM_LESSON_DATA', str(tmp_path/'split'))
    assert len(course_images()) == 360 and len(course_images(False)) == 20
    monkeypatch.setenv('DDPM_LESSON_DATA', f'{tmp_path/"split"} ')     # `set NAME=value && ...` of Windows keeps the blank
    assert len(course_images()) == 360
    for wrong, said in (str(shapes(tmp_path/'few', 390)), 'at least 360 images'), ('fashoin', 'or a folder that is there'):
        monkeypatch.setenv('DDPM_LESSON_DATA', wrong)
        with pytest.raises(ValueError, match=said): course_images()


def test_each_lesson_says_whether_it_follows(made):
    "Rejects a list in lesson 1 or in the notes that is not what the pages do, and a page that stays with the garments in silence, or without a reason."
    following = [int(p.stem[:2]) for p in pages.lessons() if p.stem != '01_data' and classroom.follows_data(p)]
    text = '\n'.join(source(c) for c in cells(ROOT/'nbs'/'01_data.ipynb'))
    assert f'Lessons {", ".join(map(str, following[:-1]))} and {following[-1]} follow' in text
    assert 'Lessons 1, ' + ', '.join(map(str, following)) + ' follow' in (made/'teacher'/'TEACHING.md').read_text(encoding='utf-8')
    for page in pages.lessons():
        code = '\n'.join(source(c) for c in cells(page) if c['cell_type'] == 'code')
        stays = ('bundled_fashion(' in code or "load_pretrained('fashion')" in code) and not classroom.follows_data(page)
        why = re.search('Stays with the garments, whatever `DDPM_LESSON_DATA` says: .{20,}', source(cells(page)[0]))
        assert bool(why) == stays, page.name


@pytest.mark.slow
@pytest.mark.parametrize('page', [p.stem for p in pages.lessons() if classroom.follows_data(p) and p.stem != '01_data'])
def test_a_lesson_that_follows_holds_for_other_images(page, tmp_path, monkeypatch):
    "Every claim that the page checks, on discs and bars: rejects one that holds for the garments alone."
    import nbformat
    from nbclient import NotebookClient
    monkeypatch.setenv('DDPM_LESSON_DATA', str(shapes(tmp_path/'own')))
    NotebookClient(nbformat.read(ROOT/'nbs'/f'{page}.ipynb', 4), timeout=900, resources={'metadata': {'path': str(ROOT/'nbs')}}).execute()


# ---- for nbgrader

def test_an_assignment_asks_each_exercise_once_and_tells_no_answer(tmp_path):
    "Rejects an assignment that forgets an exercise, a test cell that anyone may change, an answer left in, a cell that needs the rest of the lesson, and two cells of one name."
    out = classroom.nbgrader_course(tmp_path/'ng')
    asked = []
    for path in sorted(out.glob('source/*/*.ipynb')):
        names, space = [], {}
        for cell in cells(path):
            mark = cell['metadata'].get('nbgrader')
            if mark: names.append(mark['grade_id'])
            if cell['cell_type'] == 'code' and not (mark and mark['grade']): exec(re.sub(r'^check\(.*', '', source(cell), flags=re.M | re.S), space)
            if mark and mark['grade']:
                assert mark['locked'] and mark['points'] == 1
                with pytest.raises(AssertionError): exec(compile(source(cell), 'test', 'exec', optimize=1), space)   # a stub is no answer, though PYTHONOPTIMIZE is set
                asked.append(mark['grade_id'].removesuffix('-test'))
        assert len(names) == len(set(names)) and path.parent.name == path.stem
        assert not re.search('<summary>Answer|solutions/', path.read_text(encoding='utf-8'))
    assert asked == [name for name, ex in grade.exercises.items() if ex.lesson.isdigit()]


RIGHT = {'04-x0': 'def clean(sched, x_t, eps, t):\n    a = sched.alpha_bar[t].reshape(-1, 1, 1, 1)\n    return (x_t - (1 - a)**0.5*eps)/a**0.5',
         '04-var': 'def posterior_variance(sched, t): return sched.beta[t]*(1 - sched.alpha_bar[t-1])/(1 - sched.alpha_bar[t])',
         '04-between': 'def posterior_between(sched, s, t):\n    a_s, a_t = sched.alpha_bar[s], sched.alpha_bar[t]\n    beta = 1 - a_t/a_s\n'
                       '    return a_s.sqrt()*beta/(1 - a_t), (1 - beta).sqrt()*(1 - a_s)/(1 - a_t), beta*(1 - a_s)/(1 - a_t)',
         '04-turn': 'def turn(sched, x_t, v, s, t):\n    angle = torch.atan2(sched.noise_rate, sched.signal_rate)\n    d = angle[t] - angle[s]\n    return d.cos()*x_t - d.sin()*v'}
STUDENTS = {  # what each wrote, and the points it is worth
    'ana': (RIGHT, 4), 'bo': ({k: v.replace('**0.5', '**(1/2)') for k, v in RIGHT.items()}, 4),
    'cy': (RIGHT | {'04-var': 'def posterior_variance(sched, t): return sched.beta[t]', '04-turn': 'def turn(: oops'}, 2), 'di': ({}, 0)}


@pytest.mark.slow
def test_nbgrader_marks_two_right_and_two_wrong_students(tmp_path):
    "From the class to the table of grades; one of the wrong ones has also changed the cells that try the answers."
    pytest.importorskip('nbgrader')
    out = classroom.nbgrader_course(tmp_path/'ng')
    def nbgrader(*args):
        done = cli.subprocess.run([sys.executable, '-m', 'nbgrader', *args], cwd=out, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
    nbgrader('generate_assignment', '04_posterior')
    released = out/'release'/'04_posterior'/'04_posterior.ipynb'
    assert '<- right only if s = t-1' in released.read_text(encoding='utf-8')      # our stubs are kept
    for student, (answers, _) in STUDENTS.items():
        book = json.loads(released.read_text(encoding='utf-8'))
        for cell in book['cells']:
            mark = cell['metadata'].get('nbgrader', {})
            if mark.get('grade_id') in answers: cell['source'] = answers[mark['grade_id']]
            if mark.get('grade') and student == 'di': cell['source'] = 'assert True'
        to = out/'submitted'/student/'04_posterior'/'04_posterior.ipynb'
        to.parent.mkdir(parents=True)
        to.write_text(json.dumps(book), encoding='utf-8')
    nbgrader('autograde', '04_posterior')
    nbgrader('export')
    rows = {r['student_id']: r for r in csv.DictReader((out/'grades.csv').open(encoding='utf-8'))}
    assert {name: float(rows[name]['raw_score']) for name in STUDENTS} == {name: points for name, (_, points) in STUDENTS.items()}
    assert all(float(r['max_score']) == 4 for r in rows.values())
    nbgrader('generate_feedback', '04_posterior')
    said = (out/'feedback'/'cy'/'04_posterior'/'04_posterior.html').read_text(encoding='utf-8')
    assert 'This is beta_t; knowing x_0 too leaves less variance' in said


def test_otter_is_asked_the_same(tmp_path):
    "Rejects a question without its test, marks that do not close, an answer left in, and a name that makes no file."
    for path in sorted(classroom.otter_course(tmp_path/'otter').glob('source/*/*.ipynb')):
        raw = [source(c) for c in cells(path) if c['cell_type'] == 'raw']
        asked = [name for name, ex in grade.exercises.items() if ex.lesson == path.name[:2] and ex.lesson.isdigit()]
        assert [re.search('name: (.*)', r)[1] for r in raw if r.startswith('# BEGIN QUESTION')] == [name.replace('-', '_') for name in asked]
        for mark in 'QUESTION', 'SOLUTION', 'TESTS': assert sum(r.startswith(f'# BEGIN {mark}') for r in raw) == raw.count(f'# END {mark}') == len(asked)
        assert sum("verdict = grade('" in source(c) for c in cells(path)) == len(asked) and raw[0].startswith('# ASSIGNMENT CONFIG')
        assert len({c['id'] for c in cells(path)}) == len(cells(path)) and 'nbgrader' not in path.read_text(encoding='utf-8')


@pytest.mark.slow
def test_otter_marks_a_right_and_a_wrong_student(tmp_path):
    "From the class to the points; without Docker."
    pytest.importorskip('otter')
    out = classroom.otter_course(tmp_path/'otter')
    def otter(*args):
        done = cli.subprocess.run([sys.executable, '-m', 'otter', *args], cwd=out, capture_output=True, encoding='utf-8', timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
    otter('assign', 'source/04_posterior/04_posterior.ipynb', 'dist')
    [marks] = (out/'dist'/'autograder').glob('*.zip')
    for student, (answers, points) in STUDENTS.items():
        book = json.loads((out/'dist'/'student'/'04_posterior.ipynb').read_text(encoding='utf-8'))
        for cell in book['cells']:
            for name, answer in answers.items():
                if cell['cell_type'] == 'code' and f"check('{name}'" in source(cell): cell['source'] = answer
        (out/f'{student}.ipynb').write_text(json.dumps(book), encoding='utf-8')
        (out/student).mkdir()
        otter('run', '-a', str(marks), '-o', student, f'{student}.ipynb')
        said = json.loads((out/student/'results.json').read_text(encoding='utf-8'))
        assert sum(t.get('score', 0) for t in said['tests']) == points, student


# ---- a working copy, opened in JupyterLab

@pytest.fixture
def started(monkeypatch, tmp_path):
    pytest.importorskip('jupyterlab')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'environ', os.environ | {})
    calls = []
    monkeypatch.setattr(cli, '_until_it_ends', lambda args: calls.append([str(a) for a in args]) or 0)
    return calls


def test_lessons_open_a_copy_and_leave_it_as_it_was_left(started):
    "Rejects a command that opens the tracked pages, or that writes over what a reader has written."
    assert call('lessons')[0] == 0 and started[-1][3] == str(Path('my-lessons/nbs/00_start.ipynb').absolute())
    mine = Path('my-lessons/nbs/04_posterior.ipynb')
    mine.write_text('what I tried')
    assert call('lessons', '--student', 'ana')[0] == 0 and mine.read_text() == 'what I tried' and os.environ['DDPM_LESSON_STUDENT'] == 'ana'
    assert '--LabApp.default_url=/lab/tree/00_start.ipynb' in started[-1]    # what --no-browser prints leads to lesson 0
    assert call('lessons', '--in-place')[0] == 0 and started[-1][3] == str(classroom.course()/'nbs'/'00_start.ipynb')
    assert call('lessons', '--student', '../x')[0] == 1
    Path('full').mkdir(), Path('full/letter').write_text('precious')
    assert call('lessons', '--copy', 'full')[0] == 1 and [p.name for p in Path('full').iterdir()] == ['letter']


@pytest.mark.parametrize('page', ['nbs/04_posterior.ipynb', 'nbs/reference/museum.ipynb', 'nbs/interface/cli.ipynb'])
def test_opening_and_saving_changes_no_byte(page, tmp_path):
    "Rejects a manager that lets JupyterLab leave its version, its kernel, trust or counts in a tracked page."
    pytest.importorskip('jupyter_server')
    to = tmp_path/page
    to.parent.mkdir(parents=True)
    to.write_bytes((ROOT/page).read_bytes())
    async def open_and_save():
        manager = classroom.LessonsManager(root_dir=str(tmp_path))
        model = await manager.get(page)
        seen = json.loads(json.dumps(model['content']['metadata']))
        assert seen['language_info']['name'] == 'python'
        model['content']['metadata'] |= dict(language_info=dict(name='python', version='9.9'), widgets={})
        for cell in model['content']['cells']:
            cell['metadata'] |= dict(trusted=True, execution=dict(a=1))
            if cell['cell_type'] == 'code': cell['execution_count'] = 7
        await manager.save(dict(type='notebook', format='json', content=model['content']), page)
    with ThreadPoolExecutor(1) as apart: apart.submit(asyncio.run, open_and_save()).result()   # a loop of its own
    assert to.read_bytes() == (ROOT/page).read_bytes()


@pytest.mark.parametrize('page', ['mine.ipynb', 'nbs/mine.ipynb', 'nbs/00_start-Copy1.ipynb'])
def test_a_notebook_of_ones_own_is_saved_as_it_is(page, tmp_path):
    "Rejects a manager that takes kernel, marks of slides and widgets out of what is no page of the course."
    pytest.importorskip('jupyter_server')
    mine = json.loads((ROOT/'nbs/04_posterior.ipynb').read_text(encoding='utf-8'))
    mine['metadata'] = dict(kernelspec=dict(display_name='R', language='R', name='ir'), widgets=dict(a=1))
    for cell in mine['cells']: cell['metadata'] = dict(slideshow=dict(slide_type='slide'))
    (tmp_path/page).parent.mkdir(exist_ok=True)
    async def save_and_open():
        manager = classroom.LessonsManager(root_dir=str(tmp_path))
        await manager.save(dict(type='notebook', format='json', content=mine), page)
        return (await manager.get(page))['content']
    with ThreadPoolExecutor(1) as apart: seen = apart.submit(asyncio.run, save_and_open()).result()
    for book in seen, json.loads((tmp_path/page).read_text(encoding='utf-8')):
        assert book['metadata']['kernelspec']['name'] == 'ir' and book['metadata']['widgets'] == dict(a=1)
        assert all(cell['metadata']['slideshow'] for cell in book['cells'])


def test_no_cell_of_a_page_is_hidden_from_nbdev_alone():
    "Jupyter knows nothing of `#| eval: false`: rejects a cell that a reader runs and no test does."
    flags = 'eval:', 'slow', 'cuda', 'skip', 'exec_doc'
    for page in [*pages.pages(), *pages.solutions()]:
        for cell in cells(page):
            said = [line.removeprefix('#|').strip() for line in source(cell).splitlines() if line.startswith('#|')]
            assert not [s for s in said if s.replace(' ', '').startswith(tuple(flags))], (page.name, source(cell)[:80])
            assert 'skip_exec' not in source(cell)


@pytest.mark.slow
@pytest.mark.parametrize('page', [pages.path_of(p) for p in pages.pages() if pages.path_of(p) not in classroom._telling])
def test_every_page_of_the_students_copy_runs_top_to_bottom_without_internet(page, made, monkeypatch):
    "As JupyterLab's Run All does it: every cell, whatever marks it has, in the folder of the page."
    import nbformat
    from nbclient import NotebookClient
    for name in 'http_proxy', 'https_proxy': monkeypatch.setenv(name, 'http://127.0.0.1:9')
    path = made/'students'/'nbs'/f'{page}.ipynb'
    NotebookClient(nbformat.read(path, 4), timeout=900, resources={'metadata': {'path': str(path.parent)}}).execute()


# ---- who is stuck where

def test_forty_students_are_one_table_and_one_picture(tmp_path):
    "Rejects a merge that loses a form of file, an encoding, or somebody who sent twice; and a place that is not the first open lesson."
    sent = tmp_path/'sent'
    sent.mkdir()
    names = list(grade.exercises)
    first = [n for n in names if n.startswith('00-')]
    for k in range(36): (sent/f's{k:02}.json').write_text(json.dumps(dict(student=f'Student {k}', right=names[:k], of=len(names))), encoding='utf-16' if k % 2 else 'utf-8')
    (sent/'ana.json').write_text(json.dumps(dict(done={n: '2026-01-01' for n in first})))
    (sent/'again.json').write_text(json.dumps(dict(student='Student  1 ', right=names[5:7], of=9)))
    with open(sent/'others.csv', 'w', newline='', encoding='utf-8-sig') as f: csv.writer(f).writerows([['student', 'right', *names], ['Bo', 1, 1, *[0]*(len(names) - 1)], ['Cy', len(names), *[1]*len(names)]])
    for wrong in '{', '[]', '{"student": 3}', '\x00': (sent/f'bad{len(wrong)}{ord(wrong[0])}.json').write_text(wrong)
    status, said = call('progress', sent, '--out', tmp_path/'t.csv', '--picture', tmp_path/'p.png', '--json')
    assert status == 0 and '4 files can not be read' in said, said
    assert "Warning: 'Student 1' is in again.json, s01.json: taken for one student" in said and said.count('taken for') == 1
    rows = {r['student']: r for r in csv.DictReader((tmp_path/'t.csv').open(encoding='utf-8'))}
    assert len(rows) == 39 and rows['Student 1']['right'] == '3' and rows['Cy']['at'] == 'done'
    assert rows['ana']['at'] == list(grade.lessons.values())[1] and rows['Student 0']['at'] == list(grade.lessons.values())[0]
    assert Image.open(tmp_path/'p.png').size[1] > 800
    assert call('progress', sent, '--out', tmp_path/'t.csv', '--picture', tmp_path/'p.png')[0] == 0     # its own may be replaced
    assert call('progress', tmp_path)[0] == 1 and call('progress', tmp_path/'no')[0] in (1, 2)


def test_students_who_share_an_account_have_a_file_each(monkeypatch, tmp_path):
    "Rejects a file named after the account alone."
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    monkeypatch.delenv('DDPM_LESSON_PROGRESS', raising=False)
    files = {grade.progress_file()}
    for student in 'ana', 'Bo Li':
        monkeypatch.setenv('DDPM_LESSON_STUDENT', student)
        files.add(grade.progress_file())
        assert grade.check('00-ghost', -0.17) and len(grade.read_progress()) == 1
    monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path))
    files.add(grade.progress_file())
    assert len(files) == 4 and {p.name for p in files} == {'progress.json', 'progress-ana.json', 'progress-Bo Li.json', 'Bo Li.json'}
    for wrong in '../ana', 'con', 'NUL', 'com1', 'ana.', 'ana ', 'aux.b':     # the last six make no file of their own on Windows
        monkeypatch.setenv('DDPM_LESSON_STUDENT', wrong)
        with pytest.raises(ValueError, match='wanted a name'): grade.progress_file()
    for good in 'a', 'Conny', 'José María', 'x@y.org': monkeypatch.setenv('DDPM_LESSON_STUDENT', good), grade.progress_file()


def handed_in(student):
    "The command of the students' README: what goes into the file, and what is said beside it."
    made = CliRunner().invoke(cli.main, ['progress', '--student', student, '--json'], env=dict(DDPM_LESSON_STUDENT=None))
    return json.loads(made.stdout)['right'], made.stderr


def test_who_gives_a_name_only_to_hand_in_loses_nothing(monkeypatch, tmp_path):
    "Rejects a hand-in that is empty, without a word, for who began without a name; and one that hands in what others did."
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    monkeypatch.delenv('DDPM_LESSON_PROGRESS', raising=False)
    monkeypatch.delenv('DDPM_LESSON_STUDENT', raising=False)
    assert handed_in('ana') == ([], "Warning: no right answer is remembered for 'ana'\n")
    assert grade.check('00-ghost', -0.17)
    right, said = handed_in('ana')
    assert right == ['00-ghost'] and 'given without a name' in said
    monkeypatch.setenv('DDPM_LESSON_STUDENT', 'ana')
    grade.remember('01-clamp')
    assert handed_in('ana') == (['01-clamp'], '')                              # her own file, nothing else
    right, said = handed_in('Bo')                                              # the account is shared: not hers
    assert right == [] and "no right answer is remembered for 'Bo'" in said and 'given' not in said


SENT = list(grade.exercises)[:2]


@pytest.mark.parametrize('name, raw', [
    ('x.json.txt', json.dumps(dict(student='bea', right=SENT)).encode()), ('x.ipynb', b'{}'),
    ('x.json', b'['*100_000), ('x.json', b'{"student": "", "right": []}'), ('x.csv', f'student,{SENT[0]}\n"{"a"*200_000}",1\n'.encode()),
    ('x.csv', f'student,{SENT[0]}\n'.encode() + b'bea,1\n'*200_000)])
def test_what_one_student_sent_spoils_no_others(name, raw, tmp_path):
    "Rejects a table that nobody gets because one file is nested without end, without a name, or without bound; and a file that is passed over without a word."
    (tmp_path/'.DS_Store').touch()
    (tmp_path/'ana.json').write_text(json.dumps(dict(student='ana', right=SENT)), encoding='utf-8')
    (tmp_path/name).write_bytes(raw)
    done, bad, _ = classroom.gather(tmp_path)
    assert done == {'ana': set(SENT)} and bad == [name]


def test_one_name_typed_in_two_ways_is_one_student(tmp_path):
    "Rejects a row for the accents of a Mac and another for those of the rest."
    for k, name in enumerate(['Jos\xe9', 'Jose\u0301']): (tmp_path/f'{k}.json').write_text(json.dumps(dict(student=name, right=SENT[k:k + 1])))
    done, bad, twice = classroom.gather(tmp_path)
    assert done == {'Jos\xe9': {*SENT[:2]}} and not bad and twice == {'Jos\xe9': ['0.json', '1.json']}


def test_names_are_words_for_every_program(tmp_path):
    "Rejects a name that a spreadsheet computes, one that the picture sets as a formula, an ending in capitals that is passed over, and a table of Windows."
    for k, name in enumerate(['=1+1', '$\\frac$ and $\\bad$']): (tmp_path/f'{k}.JSON').write_text(json.dumps(dict(student=name, right=SENT)), encoding='utf-8')
    (tmp_path/'t.csv').write_bytes(f'student,{SENT[0]}\nbea,1\n'.encode('utf-16'))
    done, bad, _ = classroom.gather(tmp_path)
    assert not bad and sorted(done) == ['$\\frac$ and $\\bad$', "'=1+1", 'bea']
    classroom.class_picture(classroom.class_table(done), tmp_path/'class.png')


@pytest.mark.parametrize('name, raw, right', [
    ('x.json', json.dumps(dict(student='bea', right=[f'97-{SENT[0][3:]}'])), True), ('x.csv', f'student,97-{SENT[0][3:]}\nbea,1\n', True), ('x.csv', f'student,{SENT[0]}\nbea,1.0\n', False),
    ('x.csv', f'student,{SENT[0]}\nbea,TRUE\n', False), ('x.json', json.dumps(dict(student='bea', right=SENT[0])), False), ('x.json', json.dumps(dict(student=None, right=SENT)), False)])
def test_what_was_answered_right_counts_or_the_file_is_named(name, raw, right, tmp_path):
    "Rejects a 0 for who sent the names of an earlier edition, or a table that a spreadsheet wrote anew."
    (tmp_path/'ana.json').write_text(json.dumps(dict(student='ana', right=SENT)), encoding='utf-8')
    (tmp_path/name).write_text(raw, encoding='utf-8-sig')
    done, bad, _ = classroom.gather(tmp_path)
    assert (done.get('bea') == {SENT[0]} and not bad) if right else (bad == [name] and 'bea' not in done)


def test_nobody_is_done_who_left_something_open():
    "Rejects 'done' for who answered the last lesson and left out all others, and a jump back for who left out one on the way."
    names = list(grade.exercises)
    of = {k: [n for n, ex in grade.exercises.items() if ex.lesson == k] for k in grade.lessons}
    (first, second, *_), last = [k for k in of if of[k]], [k for k in of if of[k]][-1]
    done = dict(skips={*of[first][1:], *of[second][:-1]}, last={*of[last]}, most={*names} - {of[first][0]}, all={*names})
    at = {row['student']: row['at'] for row in classroom.class_table(done)}
    assert at == dict(skips=grade.lessons[second], last=grade.lessons[first], most=grade.lessons[first], all='done')


def test_a_picture_of_thousands_is_bounded(tmp_path):
    "Rejects minutes of drawing, and rows left out without a word."
    rows = classroom.class_table({f's{k}': set() for k in range(3000)})
    classroom.class_picture(rows, tmp_path/'class.png')
    assert Image.open(tmp_path/'class.png').height < 6000
