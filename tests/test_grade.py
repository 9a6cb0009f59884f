"Every exercise can judge: its truth passes, each mistake is told by its own name, junk gets a sentence, and no verdict is luck."
import csv
import inspect
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_lesson.exam.cases import Case, Exercise
from ddpm_lesson.exam.grade import (
    _collect,
    _held,
    _lesson_modules,
    agree,
    check,
    exercises,
    grade,
    lessons,
    mistake,
    outcomes,
    progress,
    progress_file,
    read_progress,
    remember,
    report,
    sharp,
)
from ddpm_lesson.schedule import linear_schedule

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT/'tools'))
import pages  # noqa: E402

LESSONS, SOLUTIONS = pages.with_exercises(), pages.solutions()
NAMES = sorted(exercises)


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch): monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path/'progress.json'))


def code(page): return [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
def checked(page): return re.findall(r"\b(?:check|grade)\('([^']+)'", '\n'.join(code(page)))


@pytest.mark.parametrize('name', NAMES)
def test_truth_passes_and_every_mistake_is_told_by_its_name(name):
    ex = exercises[name]
    assert mistake(ex, ex.truth) == ''
    truth, wrong = outcomes(ex, ex.truth), {said: outcomes(ex, f) for said, f in ex.mutants.items()}
    assert len(wrong) >= 4
    for said, out in wrong.items():
        assert not all(agree(ex, out, truth)), f'equals the truth: {said}'
        assert next(s for s, other in wrong.items() if all(agree(ex, out, other))) == said, f'equals an earlier mistake: {said}'
        assert re.fullmatch(r'[A-Za-z0-9\'"(\[].*[.?)]', said) and said.isascii() and len(said) < 160
    last = list(ex.mutants)[-1]
    verdict = grade(name, ex.mutants[last])
    assert not verdict and verdict.tried and verdict.said == f'not yet. {last}' and repr(verdict) == repr(grade(name, ex.mutants[last]))
    assert max(map(len, repr(verdict).splitlines())) <= 92 and ' '.join(repr(verdict).split()) == f'{name}: not yet. {last}'
    assert grade(name, ex.truth) and repr(grade(name, ex.truth)).startswith(f'{name}: right.')


@pytest.mark.parametrize('name', NAMES)
def test_what_is_not_done_yet_is_not_wrong(name):
    def empty(*args): ...
    def later(*args): raise NotImplementedError
    for yours in (..., None, NotImplemented, empty, later, lambda *args: ..., lambda *args: (..., 1)):
        verdict = grade(name, yours)
        assert not verdict and not verdict.tried and exercises[name].question in verdict.said


def junk(ex):
    "Answers that no exercise wants, and words that the sentence about each must hold."
    def nothing(*args): args[0]
    def raises(*args): raise KeyError('lost')
    def changes(*args):
        said = ex.truth(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args))
        for a in args:
            if isinstance(a, torch.Tensor) and a.is_floating_point(): a += 1
        return said
    itself = []
    itself.append(itself)
    uneven = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    common = [('five', 'type str'), ({'a': 1}, 'type dict'), (1j, 'complex'), (uneven, 'type Tensor'), (itself, 'recursion')]
    if ex.inputs is None: return [*common, (torch.full((2, 7), 0.5), 'yours has (2, 7)'), (float('nan'), 'mistakes we know')]
    calls = [(nothing, 'is there a `return`?'), (raises, 'KeyError'), (lambda *args: 'five', 'type str'), (lambda *args: {'a': 1}, 'type dict'), (lambda *args: uneven, 'type Tensor'), (lambda *args: itself, 'Recursion'), (lambda: 1, 'called with'),
             (lambda *args: torch.full((2, 7, 3, 2, 2), 0.5), 'wanted'), (lambda *args: torch.sin, 'not called'), (lambda *args: torch.ones(2)@torch.ones(3), 'RuntimeError')]
    inputs = [a for a in ex.inputs(torch.Generator().manual_seed(0))[0].args if isinstance(a, torch.Tensor) and a.is_floating_point()]
    return [('five', 'A function was wanted'), (torch.ones(3), 'A function was wanted'), *calls, *([(changes, 'in place')] if inputs else [])]


@pytest.mark.parametrize('name', NAMES)
def test_junk_gets_a_sentence(name):
    for yours, words in junk(exercises[name]):
        verdict = grade(name, yours)
        assert not verdict and verdict.tried and words in verdict.said and '\n' not in verdict.said and 'Traceback' not in verdict.said, (yours, verdict)
        assert repr(verdict) == repr(grade(name, yours))


@pytest.mark.parametrize('name', [n for n in NAMES if exercises[n].inputs and n != '11-judge'])  # a judge three times as large judges alike
def test_a_wrong_answer_nobody_expected_is_placed(name):
    ex = exercises[name]
    def scaled(*args):
        out = ex.truth(*args)
        return [3*p + 1 for p in out] if isinstance(out, list) else tuple(3*p + 1 for p in out) if isinstance(out, tuple) else 3*getattr(out, 'alpha_bar', out) + 1
    said = grade(name, scaled).said
    assert 'cases agree; the first that does not is' in said, said


def test_simple_relations_are_seen():
    truth = exercises['03-std'].truth
    for f, words in (lambda x: -x, 'sign'), (lambda x: 1/x, 'Upside down'), (lambda x: x**0.5, 'one root too many'), (lambda x: 1.7*x, '1.7 times'), (lambda x: x**4, '1 of 16'):
        assert words in grade('03-std', lambda sched, t, f=f: f(truth(sched, t))).said
    assert 'float32' in grade('03-std', lambda sched, t: (1 - (1 - sched.beta.float()).cumprod(0)[t]).sqrt()).said
    assert 'NaN' in grade('03-std', lambda sched, t: (sched.alpha_bar[t] - 1).sqrt()).said
    only_linear = grade('03-std', lambda sched, t: truth(sched, t) if sched.T == 1000 else truth(sched, t)*t).said
    assert "the first that does not is S1's cosine, T=400, t=2" in only_linear


def test_answers_come_in_many_kinds():
    for yours in -0.17, np.float32(-0.17), np.array(-0.17), torch.tensor(-0.17), lambda: -0.17: assert grade('00-ghost', yours)
    for wrap in tuple, list, np.array, torch.tensor: assert grade('01-clamp', lambda m, s: wrap(((-1 - m)/s, (1 - m)/s)))
    assert grade('04-var', lambda sched, t: (sched.beta[t]*(1 - sched.alpha_bar[t - 1])/(1 - sched.alpha_bar[t])).item())
    assert grade('02-double', lambda sched: (sched.log_snr - np.log(4)).sigmoid())              # alpha_bar where a schedule was meant
    assert grade('03-std', lambda sched, t: torch.nn.Parameter(sched.noise_rate[t]))            # gradients do not matter


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.floats(0.1, 10), power=st.sampled_from((0.5, 1., 2., 3.)))
def test_no_verdict_is_luck(seed, k, power):
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    yours = lambda sched, t: k*sched.noise_rate[t]**power + 0.1*torch.randn((), dtype=torch.float64)*np.random.rand()
    first, second = grade('03-std', yours), grade('03-std', yours)
    assert first == second and not first and torch.equal(torch.get_rng_state(), before)
    assert bool(grade('03-std', lambda sched, t: k*sched.noise_rate[t]**power)) == (abs(k - 1) < 1e-6 and power == 1)


def test_unknown_names_raise_and_name_the_nearest():
    with pytest.raises(ValueError, match='03-std'): check('3-std', 1)
    for name in None, [0.1], {}, np.ones(2), torch.ones(2):   # as where name and answer change places
        with pytest.raises(ValueError, match='wanted a name'): check(name, '03-std')


def test_only_right_answers_are_remembered_and_whole(tmp_path):
    assert progress_file() == tmp_path/'progress.json' and not progress_file().exists()
    assert not check('03-std', ...) and not check('03-std', exercises['04-var'].truth) and not progress_file().exists()
    assert check('03-std', exercises['03-std'].truth) and list(read_progress()) == ['03-std']
    kept = progress_file().read_bytes()
    assert check('03-std', exercises['03-std'].truth) and progress_file().read_bytes() == kept   # the day stays the first
    assert '[x] std' in repr(progress()) and repr(progress()).count('[x]') == 2                  # one, and the legend
    assert len(repr(progress()).splitlines()) == len(lessons) + 2
    assert {p.name for p in tmp_path.iterdir()} <= {'progress.json', 'progress.json.lock'}


def test_a_damaged_or_forbidden_file_is_said_and_left_alone(tmp_path, monkeypatch):
    for text in '{"done": {"03-s', '[]', '{}', '{"done": 3}', '\x00':
        progress_file().write_text(text)
        verdict = check('03-std', exercises['03-std'].truth)
        assert verdict and 'could not be remembered' in verdict.said and progress_file().read_text() == text
        with pytest.raises(ValueError, match='damaged'): progress()
    (tmp_path/'a file').write_text('')
    monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path/'a file'/'progress.json'))
    assert 'could not be remembered' in check('03-std', exercises['03-std'].truth).said


def test_without_the_variable_it_lies_in_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv('DDPM_LESSON_PROGRESS')
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.setenv('USERPROFILE', str(tmp_path)); monkeypatch.delenv('XDG_DATA_HOME', raising=False); monkeypatch.delenv('LOCALAPPDATA', raising=False)
    for platform in 'linux', 'darwin', 'win32':
        monkeypatch.setattr(sys, 'platform', platform)
        assert tmp_path in progress_file().parents and ROOT not in progress_file().parents and progress_file().parts[-2:] == ('ddpm_lesson', 'progress.json')


TWELVE = NAMES[:12]


def test_twelve_right_answers_at_once_are_all_remembered():
    "Rejects a program that reads, adds and writes without a lock: the last writer then forgets what the others wrote."
    code = 'import sys; from ddpm_lesson.exam.grade import remember; print(remember(sys.argv[1]))'
    tasks = [subprocess.Popen([sys.executable, '-c', code, name], stdout=subprocess.PIPE, text=True) for name in TWELVE]
    assert [t.communicate()[0].strip() for t in tasks] == ['']*12 and set(read_progress()) == set(TWELVE)


def test_threads_remember_all_too():
    with ThreadPoolExecutor(12) as pool: assert list(pool.map(remember, TWELVE)) == ['']*12
    assert set(read_progress()) == set(TWELVE)


def test_each_user_has_a_file_in_a_shared_folder(tmp_path, monkeypatch):
    "Rejects one file for all: then Ben is told that Ada's answers are his."
    monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path))
    for user in 'ada', 'ben':
        monkeypatch.setattr('getpass.getuser', lambda: user)
        assert not read_progress() and check('03-std', exercises['03-std'].truth) and progress_file() == tmp_path/f'{user}.json'


@pytest.mark.parametrize('name', ['Jos\xe9', 'Jose\u0301', '\u0905\u0928\u093f\u0924\u093e', '\u0e01\u0e34\u0e48\u0e07', '\u0646\u064e\u0648\u0631', 'Nguy\u1ec5n Th\u1ecb', 'Nguye\u0302\u0303n', '\u674e'])
def test_a_name_may_be_written_in_any_script(name, monkeypatch, tmp_path):
    r"Rejects \w, which knows no vowel signs, and two files for one name that was typed in two ways."
    files = []
    for form in 'NFC', 'NFD':
        monkeypatch.setenv('DDPM_LESSON_STUDENT', unicodedata.normalize(form, name))
        files.append(progress_file())
    assert files[0] == files[1] and files[0].parent == tmp_path
    for bad in f'{name}/x', f'\u0301{name}/..', '\u0301', f'{name}\n', f'{name}\u202e':
        monkeypatch.setenv('DDPM_LESSON_STUDENT', bad)
        with pytest.raises(ValueError, match='a name of letters'): progress_file()


def test_without_a_home_folder_a_right_answer_is_right(monkeypatch):
    monkeypatch.delenv('DDPM_LESSON_PROGRESS')
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)   # as where neither HOME nor the list of users knows one
    verdict = check('03-std', exercises['03-std'].truth)
    assert verdict and 'could not be remembered' in verdict.said and 'DDPM_LESSON_PROGRESS' in verdict.said


def test_what_an_answer_may_raise():
    "Only the learner's own `raise NotImplementedError` is a placeholder; torch's is a mistake; leaving Python is one too."
    def later(sched, t): raise NotImplementedError('to do')
    def helped(sched, t): return later(sched, t)
    def missing(sched, t): return torch.ops.aten.linear_backward(sched.beta, sched.beta, sched.beta, [True, True, True])
    def leaves(sched, t): sys.exit(3)
    assert not grade('03-std', later).tried and not grade('03-std', helped).tried
    with pytest.raises(NotImplementedError): missing(exercises['03-std'].inputs(torch.Generator())[0].args[0], 1)
    for wrong, words in (missing, 'NotImplementedError'), (leaves, 'SystemExit'):
        verdict = grade('03-std', wrong)
        assert verdict.tried and not verdict and words in verdict.said


@pytest.mark.parametrize('name', [n for n in NAMES if exercises[n].inputs is None])
def test_a_wrong_number_hears_on_which_side_it_is(name):
    right = float(exercises[name].truth)
    for off, words in (0.3141, 'too large'), (-0.3141, 'too small'):
        said = grade(name, right + off).said
        assert words in said or said in {f'not yet. {m}' for m in exercises[name].mutants}, said


def test_verdicts_do_not_depend_on_the_default_device():
    before = {name: repr(grade(name, list(ex.mutants.values())[0])) for name, ex in exercises.items()}
    torch.set_default_device('meta')
    try:
        for name, ex in exercises.items():
            assert grade(name, ex.truth), name
            assert repr(grade(name, list(ex.mutants.values())[0])) == before[name]
    finally: torch.set_default_device(None)


def numbers_of(ex):
    "For each argument of an exercise that is one number (or a number and tensors alike): its values, case by case."
    cases = ex.inputs(torch.Generator().manual_seed(0))
    return cases, {p: [c.args[i] for c in cases] for i, p in enumerate(inspect.signature(ex.truth).parameters)}


@pytest.mark.parametrize('name', [n for n in NAMES if exercises[n].inputs])
def test_every_argument_takes_several_values(name):
    """Rejects a judge that tries one value: with s = 0.5 alone, `s/2` passes for `s**2`, and so does an answer that ignores s.
    A schedule takes at least two, a plain number three, a mask of zeros and ones three, and other tensors that never change hold at least three numbers."""
    cases, values = numbers_of(exercises[name])
    for argument, seen in values.items():
        if isinstance(seen[0], (int, float)): assert len(set(seen)) >= 3, (argument, set(seen))
        tensors = [t for v in seen for t in _held(v)]
        numbers = {n for t in tensors for n in t.double().flatten().tolist()}
        if numbers == {0, 1}: assert len({str(t.tolist()) for t in tensors}) >= 3, argument   # a mask
        elif tensors and not hasattr(seen[0], 'alpha_bar'): assert len(numbers) >= 3, argument
        if hasattr(seen[0], 'alpha_bar'): assert len({(v.T, float(v.beta[1])) for v in seen}) >= 2, argument


SHAPED = {'the square': lambda v: v*v, 'half': lambda v: v/2, 'twice': lambda v: 2*v, 'the root': lambda v: abs(v)**0.5, 'one over it': lambda v: 1/v if v else v, 'always the first': None}


@pytest.mark.parametrize('name', [n for n in NAMES if exercises[n].inputs and not exercises[n].ask])
def test_a_number_read_wrongly_is_never_judged_right(name):
    "Rejects a judge whose values hide a mistake: an answer that takes another function of one argument, or always its first value, is wrong."
    ex = exercises[name]
    cases, values = numbers_of(ex)
    want = outcomes(ex, ex.truth)
    for i, (argument, seen) in enumerate(values.items()):
        if not all(isinstance(v, float) for v in seen): continue
        for said, f in SHAPED.items():
            wrong = lambda *args: ex.truth(*args[:i], seen[0] if f is None else f(args[i]), *args[i + 1:])
            try: got = outcomes(ex, wrong)
            except Exception: continue   # outside the domain: seen anyway
            assert not all(agree(ex, got, want)), f'{argument}: {said}'


def test_the_judge_that_only_tried_one_half_let_a_mistake_pass():
    ex = exercises['06-sigma']
    old = replace(ex, inputs=lambda g: [Case((s, [s.T, 1], 0.5), '') for s in (linear_schedule(),)])
    wrong = lambda sched, ts, d: ex.truth(sched, ts, (d/2)**0.5)   # d/2 where d**2 belongs
    assert mistake(old, wrong) == '' and mistake(ex, wrong)


@pytest.mark.parametrize('name', [n for n in NAMES if exercises[n].inputs is None])
def test_an_answer_to_two_digits_is_right(name):
    "Rejects a tolerance finer than what a page prints: 0.0023 for 0.00226."
    assert grade(name, float(f'{exercises[name].truth:.2g}'))


def test_a_class_is_one_table():
    check('03-std', exercises['03-std'].truth)
    rows = list(csv.DictReader(io.StringIO(report('Ada, L.') + report('Ben "B"', header=False))))
    assert [r['student'] for r in rows] == ['Ada, L.', 'Ben "B"'] and {r['03-std'] for r in rows} == {'1'} and all(set(exercises) < set(r) for r in rows)
    assert json.loads(report('Ada', 'json')) == {'student': 'Ada', 'right': ['03-std'], 'of': len(exercises)}
    with pytest.raises(ValueError, match="'csv' or 'json'"): report('Ada', 'xml')


def mark(stem): return stem[:2] if stem[0].isdigit() else stem[0].upper()


def test_every_exercise_is_asked_in_its_lesson_and_solved_beside_it():
    "Rejects an exercise that no page asks, and one that progress lists in another order than its lesson."
    asked = {name: p.stem for p in LESSONS for name in checked(p)}
    solved = {name: p.stem for p in SOLUTIONS for name in checked(p)}
    assert len(exercises) >= 58 and sum(len(ex.mutants) for ex in exercises.values()) >= 365
    assert set(asked) == set(exercises) == set(solved) and asked == solved
    assert set(lessons) == {mark(stem) for stem in asked.values()}
    for number, title in lessons.items():
        stem, = {s for s in asked.values() if mark(s) == number}
        mine = [ex.name for ex in exercises.values() if ex.lesson == number]
        assert title == stem.replace('_', ' ') and mine == [name for name in asked if asked[name] == stem]
        assert 2 <= len(mine) <= 5 and any(exercises[name].paper for name in mine)


def test_arguments_are_called_what_the_page_calls_them():
    "Rejects a truth with names of its own: what the judge says of an argument would name what no learner has seen."
    asked = []
    for cell in (c for page in LESSONS for c in code(page)):
        for name, f in re.findall(r"\bcheck\('([^']+)', (\w+)\)", cell):
            if stub := re.search(rf'^def {f}\(([^)]*)\)', cell, re.M):
                asked.append(name)
                assert list(inspect.signature(exercises[name].truth).parameters) == stub[1].split(', '), name
    assert len(asked) > 70


def test_a_module_of_questions_is_made_by_the_solutions_of_its_page():
    "Rejects questions under another lesson's number, a module left behind by a page that moved, and one whose page has no solutions."
    made = {m.__name__.rsplit('.', 1)[1]: m for m in _lesson_modules()}
    assert set(made) == {f'lesson_{p.stem[:2] if p.stem[0].isdigit() else p.stem}' for p in SOLUTIONS} and len(made) >= 17
    for name, module in made.items():
        page, = [p for p in SOLUTIONS if p.stem == module.page]
        assert f'#| default_exp exam.{name}\n' in '\n'.join([*code(page), '']) and f'nbs/solutions/{page.name}' in Path(module.__file__).read_text(encoding='utf-8')
        for ex in (e for e in vars(module).values() if isinstance(e, Exercise)): assert ex.lesson == mark(page.stem), ex.name


def test_two_exercises_of_one_name_are_refused():
    with pytest.raises(ValueError, match='00-ghost again'): _collect(_lesson_modules()[:1]*2)


SHARED = {'clip': ['10-clip', '12-clip'], 'step': ['03-step', '06-step'], 'sigma': ['06-sigma', '07-sigma'], 'clamp': ['01-clamp', '06-clamp']}


def words():
    named = {}
    for name in exercises: named.setdefault(name.split('-', 1)[1], []).append(name)
    return named


def test_a_word_belongs_to_one_exercise():
    "Rejects a new exercise with a word that is taken: what was remembered under either could not be told apart after a lesson is renumbered."
    assert {word: names for word, names in words().items() if len(names) > 1} == SHARED


def test_what_was_remembered_under_an_old_number_counts():
    "Rejects a list of old names, which the next renumbering makes wrong; and a guess between two exercises of one word."
    old = {'18-roof': '21-roof', '18-flops': '21-flops', '20-eta': 'M-eta', '20-suspect': 'M-suspect', '21-parts': 'T-parts', '21-veil': 'T-veil'}
    old |= {f'77-{word}': names[0] for word, names in words().items() if len(names) == 1}
    left = {'77-clip': '77-clip', '14-nosuch': '14-nosuch', 'half-life-and-more': 'half-life-and-more'}
    for stored, now in {**old, **left}.items():
        progress_file().write_text(json.dumps({'done': {stored: '2026-01-31'}}))
        assert read_progress() == {now: '2026-01-31'}, stored
        assert progress().done == {now: '2026-01-31'} and ('1 of' in repr(progress())) == (now in exercises)


def test_old_and_new_names_are_one_exercise_with_the_earlier_day():
    "Rejects a translation that lets a later day win, that writes a name twice, or that drops what it does not know."
    progress_file().write_text(json.dumps({'done': {'21-roof': '2026-03-01', '18-roof': '2026-02-01', '77-clip': '2026-01-01'}}))
    assert read_progress() == {'21-roof': '2026-02-01', '77-clip': '2026-01-01'}
    assert check('03-std', exercises['03-std'].truth)
    kept = json.loads(progress_file().read_text())['done']
    assert set(kept) == {'21-roof', '77-clip', '03-std'} and kept['21-roof'] == '2026-02-01'
    assert json.loads(report('Ada', 'json'))['right'] == ['03-std', '21-roof']


def test_lessons_begin_unsolved():
    for page in LESSONS:
        for cell in json.loads(page.read_text(encoding='utf-8'))['cells']:
            if cell['cell_type'] == 'code' and re.search(r"^check\('", ''.join(cell['source']), re.M):
                said = ' '.join(''.join(''.join(o.get('data', {}).get('text/plain', [])) for o in cell['outputs']).split())
                assert re.match(r'(\d\d|[A-Z])-[\w-]+: (not yet|not tried yet)\. ', said), (page.stem, said)
                assert 'none of the mistakes we know' not in said and 'cases agree' not in said, f'{page.stem}: starting code whose mistake has no name: {said}'


def test_pages_count_the_exercises_that_there_are():
    "Rejects a page that was run before the last lesson came."
    shown = {page: ' '.join(''.join(o.get('text', []) or o.get('data', {}).get('text/plain', [])) for c in json.loads((ROOT/'nbs'/'interface'/f'{page}.ipynb').read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', []))
             for page in ('progress', 'exercises')}
    n = len(exercises)
    assert f'0 of {n} done' in shown['progress'] and f'"of": {n}' in shown['progress'], shown['progress'][:200]
    assert f'{n} exercises with' in shown['exercises'] and f'"of": {n}' in shown['exercises']


@pytest.mark.parametrize('page', SOLUTIONS, ids=lambda p: p.stem)
def test_solutions_are_graded_right_and_remembered_by_nobody(page):
    "`nbdev_test` runs these pages, and their `assert` decides; looking up a solution is no progress, so none may call `check`."
    source = '\n'.join(code(page))
    shown = ' '.join(''.join(o.get('text', [])) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', []))
    assert checked(page) and not re.search(r'\b(check|remember)\(', source)
    for name in checked(page):
        assert re.search(rf"grade\('{name}', [\w]+\)\)\nassert verdict(\n|$)", source) and f'{name}: right.' in shown, name
        assert re.search(rf"^sharp\(ex_{name.split('-', 1)[1].replace('-', '_')}\)", source, re.M) and f'{name}: ' in shown, name


def test_solutions_have_one_kind_of_title():
    titles = {p.stem: json.loads(p.read_text(encoding='utf-8'))['cells'][0]['source'][0] for p in SOLUTIONS}
    for stem, title in titles.items(): assert re.match(rf'# Solutions {mark(stem)}: [A-Z]', title), (stem, title)


def test_grading_remembers_nothing():
    for ex in exercises.values(): assert grade(ex.name, ex.truth)
    assert not progress_file().exists()


def test_an_exercise_that_cannot_judge_is_refused(capsys):
    "Rejects a `sharp` that lets a mistake pass, or lets one be told by the name of another."
    ex = exercises['03-std']
    sharp(ex)
    assert '16 cases, 6 mistakes' in capsys.readouterr().out
    wrong = list(ex.mutants.values())[0]
    with pytest.raises(ValueError, match='passes for right'): sharp(replace(ex, mutants={'The truth.': ex.truth}))
    with pytest.raises(ValueError, match="'Second.' told by its name, got: First."): sharp(replace(ex, mutants={'First.': wrong, 'Second.': wrong}))
    calls = iter(range(10**6))
    with pytest.raises(ValueError, match='truth to pass'): sharp(replace(ex, truth=lambda sched, t: next(calls)))   # never twice the same


def test_importing_exercises_is_light():
    code = ('import sys, torch; before = set(sys.modules); import ddpm_lesson.exam.grade; assert len(ddpm_lesson.exam.grade.exercises) >= 58; '
            'heavy = {"torchvision", "matplotlib", "diffusers", "PIL", "tqdm", "einops", "safetensors"} & (set(sys.modules) - before); assert not heavy, heavy')
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ})


def test_who_has_no_name_on_this_computer_has_a_number(monkeypatch, tmp_path):
    "Rejects a KeyError in a container whose user no file knows; and a lock that takes the place of what it locks, or of others' files."
    def nobody(): raise KeyError('getpwuid(): uid not found: 12345')
    monkeypatch.setattr('getpass.getuser', nobody)
    monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path))
    assert progress_file() == tmp_path/f'{os.getuid()}.json'
    for name in 'p.lock', 'poetry.json':
        monkeypatch.setenv('DDPM_LESSON_PROGRESS', str(tmp_path/name))
        assert remember('00-ghost') == '' and list(read_progress()) == ['00-ghost']
    assert {p.name for p in tmp_path.iterdir()} <= {'p.lock', 'p.lock.lock', 'poetry.json', 'poetry.json.lock'}


def test_no_number_is_no_factor():
    "Rejects 'yours is nan times what was asked for'."
    said = grade('03-std', lambda sched, t: float('nan')).said
    assert 'nan times' not in said and 'it holds NaN' in said
