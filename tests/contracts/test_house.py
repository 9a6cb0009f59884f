"The rooms of the package: who may import whom, what a user finds at the front door, what `help` says."
import ast
import functools
import importlib
import inspect
import os
import pkgutil
import re
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import ddpm_lesson
from ddpm_lesson.schedule import linear_schedule

sys.path.append(str(Path(__file__).resolve().parents[2]/'tools'))
import colab  # noqa: E402

import pages  # noqa: E402

PACKAGE = Path(ddpm_lesson.__file__).parent
INTERFACE = {'audit', 'audit_formulas', 'audit_rules', 'audit_solvers', 'audit_trace', 'pretrained', 'experiments', 'plot', 'cli', 'journal', 'judging', 'sheets', 'classroom', 'own', 'terminal', '__main__'}
MODULES = [m.name.removeprefix('ddpm_lesson.') for m in pkgutil.walk_packages([str(PACKAGE)], 'ddpm_lesson.') if not m.ispkg and not m.name.endswith('_modidx')]


def floor(module):
    "0 for a lesson, 1 for the engine, 2 for what a user touches; the exam stands beside the lessons."
    return 2 if module in INTERFACE else 1 if module.startswith('engine.') else 0


def imported(module):
    "The modules of this package that a module imports when it is loaded, and those it imports later: (name, when)."
    path = PACKAGE.joinpath(*module.split('.')).with_suffix('.py')
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom): continue
        base = ['ddpm_lesson', *module.split('.')][:-node.level] if node.level else []
        name = '.'.join([*base, *filter(None, [node.module])])
        if name.partition('.')[0] != 'ddpm_lesson': continue
        name = name.removeprefix('ddpm_lesson').lstrip('.')
        names = [name] if name in MODULES else [f'{name}.{a.name}'.lstrip('.') for a in node.names]
        yield from ((n, node in tree.body) for n in names if n in MODULES)


ARROWS = {module: set(imported(module)) for module in MODULES}


def circles(arrows):
    "Modules on a circle of imports: what is left when modules that import nothing left are taken away, again and again."
    left = dict(arrows)
    while free := [m for m, to in left.items() if not to & left.keys()]:
        for m in free: del left[m]
    return sorted(left)


def test_no_circle_of_imports():
    assert len(MODULES) > 25 and sum(map(len, ARROWS.values())) > 60
    assert circles({m: {n for n, at_once in to if at_once} for m, to in ARROWS.items()}) == []
    assert circles({'a': {'b'}, 'b': {'a'}, 'c': {'a'}}) == ['a', 'b', 'c']


def test_no_arrow_leads_upward():
    "Rejects a lesson that needs the engine, and an engine that needs the command line."
    up = [(m, n) for m, to in ARROWS.items() for n, at_once in to if at_once and floor(n) > floor(m) and not m.startswith('exam.')]
    assert up == []


def test_the_front_door_is_light_and_complete():
    code = 'import sys, ddpm_lesson; assert "torch" not in sys.modules; from ddpm_lesson import ddim_sample; assert "torch" in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)
    for name in ddpm_lesson.__all__:
        assert getattr(ddpm_lesson, name).__name__ == name and name in dir(ddpm_lesson) and name in ddpm_lesson.__doc__
    with pytest.raises(AttributeError, match='no attribute'): getattr(ddpm_lesson, 'ddim_smaple')  # noqa: B009


def test_an_editor_sees_the_front_door_as_it_is():
    "Rejects a door that only opens at run time: every name would be `Any`, and a misspelt argument right."
    tree = ast.parse((PACKAGE/'__init__.py').read_text(encoding='utf-8'))
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == 'TYPE_CHECKING')
    seen = {a.asname: n.module for n in block.body for a in n.names if a.name == a.asname}
    assert seen == ddpm_lesson._HOME, 'a name of _HOME belongs in the block under TYPE_CHECKING, too'
    assert (PACKAGE/'py.typed').is_file()
    assert [n.name for n in block.orelse] == ['__getattr__'], 'a checker that reads it takes any name for one of ours'


def test_help_says_what_each_argument_means():
    "Rejects a package whose arguments are explained in comments that no `help` shows."
    for name in ddpm_lesson.__all__:
        thing = getattr(ddpm_lesson, name)
        made = inspect.signature(thing).parameters
        said = thing.__doc__.split('\n\n', 1)[1] if made else ''
        missing = [p for p in made if not any(p in line.split(':')[0] for line in said.splitlines())]
        assert not missing, (name, missing)
    from ddpm_lesson.sampler import ddim_sample
    assert ddim_sample.__doc__.startswith('Images from noise') and '\n    eta: 0: deterministic' in ddim_sample.__doc__
    assert '\n    returns: ' in ddim_sample.__doc__


@functools.cache
def public():
    "The functions and classes that modules offer: (module, name) -> (what it is, its definition as a tree)."
    found = {}
    for module in MODULES:
        there = importlib.import_module(f'ddpm_lesson.{module}')
        nodes = {n.name: n for n in ast.parse(inspect.getsource(there)).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        for name in nodes.keys() & set(getattr(there, '__all__', [])):
            if isinstance(thing := getattr(there, name), type) or inspect.isfunction(thing): found[module, name] = thing, nodes[name]
    return found


def raised(node):
    "The kinds of error that a definition raises in lines of its own."
    made = [getattr(n.exc, 'values', [n.exc])[-1] for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc]
    return {kind for e in made if (kind := ast.unparse(getattr(e, 'func', e))).split('.')[-1][0].isupper()}


# calls that others rely on, beside those of the front door
PROMISED = ['q_step', 'q_sample', 'posterior_mean', 'posterior_var', 'x_0_from_eps', 'eps_from_x_0', 'GaussianMixture', 'FiniteData']


def test_help_says_what_is_raised():
    "Rejects an error that only those meet who have caused it; and a front door that leaves to its rooms to say what they refuse."
    found = {(module, name): (thing.__doc__ or '', raised(node)) for (module, name), (thing, node) in public().items()}
    assert sum(len(kinds) for _, kinds in found.values()) > 150
    assert [(where, kind) for where, (doc, kinds) in found.items() for kind in kinds if f'aises {kind}' not in doc] == []
    silent = [where for where, (doc, _) in found.items()
              if where[1] in [*ddpm_lesson.__all__, *PROMISED] and not re.search(r'aises (Value|Type)Error', doc)]
    assert len(PROMISED) == 8 and silent == []
    from ddpm_lesson.schedule import cosine_schedule
    assert cosine_schedule.__doc__.endswith('\n    raises ValueError: s wanted a value in [0, 1)')
    code = "def f(x):\n    if x: raise ValueError(f'x wanted {low},\"\n                               f' got {x!r:.60}') from e\n    raise a.Bad\n    raise e"
    assert ddpm_lesson._errors(code.replace('"', "'")) == {'raises ValueError': 'x wanted {low}', 'raises a.Bad': ''}


TEN = linear_schedule(10)
FIX = torch.linspace(-0.5, 0.5, 8).reshape(2, 1, 2, 2)
REFUSED = {   # name -> (what its docstring says is refused, the error)
    'Schedule': (lambda f: f([0., 0.5, 1.]), ValueError),
    'linear_schedule': (lambda f: f(10, 0.1, 1.0), ValueError),
    'q_step': (lambda f: f(TEN, FIX, 0, FIX), ValueError),
    'q_sample': (lambda f: f(TEN, FIX, 1, FIX[:1]), ValueError),
    'posterior_var': (lambda f: f(TEN, 0), ValueError),
    'posterior_mean': (lambda f: f(TEN, FIX, FIX[:1], 1), ValueError),
    'x_0_from_eps': (lambda f: f(TEN, FIX, FIX, 11), ValueError),
    'eps_from_x_0': (lambda f: f(TEN, FIX, FIX, 0), ValueError),
    'GaussianMixture': (lambda f: f([1., 0.], FIX, 1., TEN), ValueError),
    'FiniteData': (lambda f: f(FIX[:0], TEN), ValueError),
    'ddpm_sample': (lambda f: f(lambda x, t: x/0, TEN, FIX.shape), ValueError),
    'ddim_sample': (lambda f: f(lambda x, t: x, TEN, FIX.shape, eta=2), ValueError),
    'Labelled': (lambda f: f(lambda x, t, y: x, torch.tensor([0.5])), TypeError),
    'Guided': (lambda f: f(lambda x, t, y: x, torch.tensor([0]), -1.0), ValueError),
    'Images': (lambda f: f(FIX), ValueError),
    'Recipe': (lambda f: f(steps=0), ValueError),
    'load_images': (lambda f: f('no such set'), ValueError),
    'load_pretrained': (lambda f: f('no such model'), ValueError),
    'load_card': (lambda f: f('no such model'), ValueError),
    'draw_from': (lambda f: f('fashion', 1, 'no such class'), ValueError),
    'train_on': (lambda f: f(FIX, sized=3), ValueError),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_help_says_is_raised_is_raised(name):
    call, kind = REFUSED[name]
    thing = next(thing for (_, n), (thing, _) in public().items() if n == name)
    assert f'aises {kind.__name__}' in thing.__doc__ or f'{kind.__name__} ' in thing.__doc__
    with pytest.raises(kind): call(thing)


@pytest.mark.parametrize('old', ddpm_lesson._MOVED)
def test_old_names_warn_and_are_the_modules_they_were(old):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        sys.modules.pop(f'ddpm_lesson.{old}', None)
        module = importlib.import_module(f'ddpm_lesson.{old}')
    new = f'ddpm_lesson.{ddpm_lesson._MOVED[old]}'
    assert [w for w in seen if new in str(w.message)] and module is sys.modules[new] and module.__spec__.name == new
    assert new in (PACKAGE.parent/'CHANGELOG.md').read_text(encoding='utf-8')


@pytest.mark.skipif(sys.platform == 'win32', reason='a bash script')
@pytest.mark.parametrize('part', ['train', 'grid'])
def test_the_gpu_kit_runs_dry(part, tmp_path):
    "Rejects a kit that has not followed the package: it would be noticed on the rented machine."
    from PIL import Image
    g = torch.Generator().manual_seed(0)
    for i in range(440):
        folder = tmp_path/'photos'/('rose' if i % 2 else 'tulip')
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (12, 12, 3), generator=g, dtype=torch.uint8).numpy()).save(folder/f'{i}.png')
    env = os.environ | dict(DRY='1', PYTHON=sys.executable, OMP_NUM_THREADS='1')
    said = subprocess.run([PACKAGE.parent/'tools'/'gpu'/'job.sh', tmp_path/'out', part, tmp_path/'photos', '300'], env=env, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    assert (tmp_path/'out'/'packed.tar.00').stat().st_size > 1000
    assert (tmp_path/'out'/{'train': 'flowers.safetensors', 'grid': 's1_grid.csv'}[part]).stat().st_size > 100


def lines_of(pages_): return [line for page in pages_ for c in pages.cells(page) if c['cell_type'] == 'code' for line in pages.source(c).splitlines()]


def share_over(lines, width): return sum(len(line) > width for line in lines)/len(lines)


def test_ruff_has_nothing_to_say():
    said = subprocess.run([Path(sys.executable).with_name('ruff'), 'check', '--no-cache', '--output-format', 'concise'], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_lines_fit():
    "A laptop shows 100 characters of a cell; the package may have 120. Tables and messages may break that, visibly."
    modules = [line for m in MODULES for line in PACKAGE.joinpath(*m.split('.')).with_suffix('.py').read_text(encoding='utf-8').splitlines()]
    lessons = lines_of(pages.lessons())
    assert len(modules) > 5000 and len(lessons) > 4000
    assert share_over(modules, 120) < 0.02 and share_over(lessons, 100) < 0.015 and share_over(lines_of(SETTLED), 100) < 0.01
    assert all(share_over(lines_of([page]), 120) < 0.05 for page in pages.pages(solutions=True))


# the pages held to the limits below
SETTLED = pages.lessons()


def code_cells(page):
    "Cells of code that a lesson's reader meets: all but the one that installs the course in Colab."
    return [c for c in pages.cells(page) if c['cell_type'] == 'code' and colab.MARK not in pages.source(c)]


def code_of(page): return [pages.source(c) for c in code_cells(page)]


def size(source): return len(source.splitlines())


def test_cells_are_short():
    """Rejects lessons whose cells do three things at once. A cell that only looks has four lines, rarely more than fifteen;
    one that defines fits on a screen."""
    code = [source for page in SETTLED for source in code_of(page)]
    looks, defines = ([size(s) for s in code if bool(defined(s)) == does] for does in (False, True))
    assert len(looks) > 900 and len(defines) > 400
    assert sum(n <= 4 for n in looks) >= 0.58*len(looks) and sum(n > 15 for n in looks) <= 0.025*len(looks)
    assert statistics.median(defines) <= 11 and sum(n > 15 for n in defines) <= 0.25*len(defines)
    assert sum(size(s) > 25 for s in code) <= 0.02*len(code)


def test_functions_are_small():
    "Rejects a lesson's function that does three things: about seven lines below the docstring are wanted."
    bodies = [f.body[ast.get_docstring(f) is not None:] for page in SETTLED for source in code_of(page)
              for f in defined(source) if isinstance(f, ast.FunctionDef)]
    lines = [sum(n.end_lineno - n.lineno + 1 for n in body) for body in bodies]
    assert len(lines) > 500 and statistics.median(lines) <= 4 and statistics.quantiles(lines, n=10)[-1] <= 10


@pytest.mark.parametrize('page', SETTLED, ids=pages.path_of)
def test_a_lesson_shows_what_it_claims(page):
    "Rejects a lesson with fewer than one picture for every six cells of code, and one whose first picture comes late."
    code = code_cells(page)
    draws = [any('image/png' in o.get('data', {}) for o in c.get('outputs', [])) for c in code]
    assert 6*sum(draws) >= len(code), f'{sum(draws)} pictures for {len(code)} cells of code'
    assert True in draws[:10]


ROOMS = [page for page in pages.pages() if page.parent.name in ('engine', 'interface')]


def test_cells_of_the_rooms_are_short():
    "Rejects an engine's or an interface's cell that has to be scrolled, and a page of many long ones."
    sizes = {pages.path_of(page): [size(source) for source in code_of(page)] for page in ROOMS}
    assert len(sizes) > 20
    assert [name for name, of in sizes.items() if max(of) > 40] == []
    every = [n for of in sizes.values() for n in of]
    assert sum(n > 25 for n in every) <= 0.04*len(every)


def late_directives(source):
    "Lines that look like a directive of nbdev and stand below code, where they are comments."
    lines = source.splitlines()
    top = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith('#|')), len(lines))
    return [line for line in lines[top:] if line.startswith('#|')]


def test_directives_stand_on_top():
    "Rejects a cell that was meant to be hidden and is shown, since sorting its imports has moved one above `#| hide_input`."
    cells_ = [(page.name, pages.source(c)) for page in pages.pages(solutions=True) for c in pages.cells(page) if c['cell_type'] == 'code']
    assert [(name, source) for name, source in cells_ if late_directives(source)] == []
    assert late_directives('import a\n#| hide_input\nimport b') == ['#| hide_input'] and not late_directives('#| export\n#| hide_input\nimport a')


def is_exported(source): return re.match(r'#\|\s*export[is]?\b', source)


def test_nothing_is_defined_twice_on_a_page():
    "Rejects the second copy of a cell, which a merge can leave: the later definition would win in silence."
    for page in pages.pages(solutions=True):
        exported = [pages.source(c) for c in pages.cells(page) if c['cell_type'] == 'code' and is_exported(pages.source(c))]
        names = [n.name for source in exported for n in defined(source)]
        assert len(names) == len(set(names)), (page, sorted({n for n in names if names.count(n) > 1}))


def defined(source): return [n for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]


def names_in(node): return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def shown(sources):
    """Of each definition that the cells export: is it named in one of the next three cells that do not export? A `_private` helper may be
    shown by a definition that uses it."""
    near, uses = {}, {}
    for i, source in enumerate(sources):
        if not is_exported(source): continue
        after = '\n'.join([s for s in sources[i + 1:] if not is_exported(s)][:3])
        for d in defined(source): near[d.name], uses[d.name] = after, names_in(d)
    def itself(name): return bool(re.search(rf'\b{re.escape(name)}\b', near[name]))
    return {n: itself(n) or n[0] == '_' and any(n in used and itself(m) for m, used in uses.items()) for n in near}


def test_what_is_exported_is_shown():
    "Rejects a lesson that defines for a page on end; `shown` finds a definition that is used nowhere, or too late."
    found = [(pages.path_of(page), *of) for page in SETTLED for of in shown(code_of(page)).items()]
    assert len(found) > 150
    hidden = [(page, name) for page, name, is_shown in found if not is_shown]
    assert len(hidden) <= 0.02*len(found), hidden
    of_rooms = [is_shown for page in ROOMS for is_shown in shown(code_of(page)).values()]
    assert len(of_rooms) > 350 and of_rooms.count(False) <= 0.02*len(of_rooms)
    late = ['#| export\ndef f(): pass', '1', '2', '3', 'f()']
    assert shown(late) == {'f': False} and shown(late[:1] + late[2:]) == {'f': True}
    assert shown(['#| export\ndef _g(): pass\ndef h(): _g()', 'h()']) == {'_g': True, 'h': True}
    assert shown(['#| export\ndef _g(): pass', 'h()']) == {'_g': False}


def test_the_index_names_the_modules():
    "Rejects a column that names a module by what it was called before it moved."
    text = '\n'.join(pages.source(c) for c in pages.cells(PACKAGE.parent/'nbs'/'index.ipynb'))
    rows = re.findall(r'^\| \[.+?\]\((.+?)\.ipynb\) \|.*\| `?([\w.]*)`? \|$', text, re.M)
    assert len(rows) > 16 and {'exam.museum', 'exam.symptoms'} <= {module for _, module in rows}
    for page, module in rows:
        exports = re.findall(r'^#\| (?:default_exp|export) ([\w.]+)$', '\n'.join(code_of(PACKAGE.parent/'nbs'/f'{page}.ipynb')), re.M)
        assert module in MODULES + [''] and module in (exports or ['']), (page, module, exports)


def test_where_is_it_names_what_is_there():
    "Rejects a table that sends a newcomer to a file that has moved, and one that misses what they ask first."
    text = (PACKAGE.parent/'CONTRIBUTING.md').read_text(encoding='utf-8').split('## Where is it?')[1].split('\n## ')[0]
    named = {path for path in re.findall(r'`([\w/]+(?:/|\.ipynb|\.py))`', text) if '/' in path and 'MODULE' not in path}
    assert len(named) > 20 and [path for path in named if not (PACKAGE.parent/path).exists()] == []
    wanted = {'def ddim_coefs': 'ddpm_lesson/sampler.py', 'def resume': 'ddpm_lesson/engine/run.py', "'--steps'": 'ddpm_lesson/cli.py',
              'class Number': 'nbs/interface/terminal.ipynb',
              'def _judge_steps': 'nbs/interface/audit_rules.ipynb', '## 2. A straight mix': 'nbs/solutions/07_ddim.ipynb'}
    for what, path in wanted.items(): assert path in named and what in (PACKAGE.parent/path).read_text(encoding='utf-8'), what


@pytest.mark.parametrize('page', pages.with_exercises(), ids=pages.path_of)
def test_an_answer_has_the_number_of_its_question(page):
    "Rejects solutions that must be matched with their questions by guessing: which is the answer to 7.2?"
    asked, answered, number = [], [], None
    for c in pages.cells(page):
        if found := re.match(r'\*\*(\d+)\.', pages.source(c)): number = found[1]
        asked += [(number, name) for name in re.findall(r"^check\('([\w-]+)'", pages.source(c), re.M)]
    for c in pages.cells(PACKAGE.parent/'nbs'/'solutions'/page.name):
        if found := re.search(r'^## (\d*)', pages.source(c), re.M): number = found[1]
        answered += [(number, name) for name in re.findall(r"= Exercise\('([\w-]+)'", pages.source(c))]
    assert asked and asked == answered


# tested where they are used
ELSEWHERE = dict(audit_formulas='test_audit', audit_rules='test_audit', audit_solvers='test_audit', audit_trace='test_audit',
                 cases='test_grade', cards='test_pretrained', draw='test_pretrained', journal='test_cli', judging='test_cli', sheets='test_cli', terminal='test_cli',
                 safety='test_run', files='test_crash', sources='test_hostile', plot='test_museum',
                 published='test_experiments', presets='test_experiments')


def test_each_module_has_its_test_file():
    "Rejects a module whose tests nobody finds by its name."
    files = {p.stem for p in Path(__file__).parents[1].rglob('test_*.py')}
    for name in [m.split('.')[-1] for m in MODULES]:
        if not name.startswith(('_', 'lesson_')): assert ELSEWHERE.get(name, f'test_{name}') in files, name


def test_what_the_first_page_imports_is_there():
    "Rejects a README that names a function of before."
    text = (PACKAGE.parent/'README.md').read_text(encoding='utf-8')
    named = re.findall(r'^from (ddpm_lesson[\w.]*) import ([\w, ]+)', text, re.M)
    assert len(named) > 8
    for module, names in named:
        for name in names.split(','): assert hasattr(importlib.import_module(module), name.strip()), (module, name)


CHECKS = {'check_number', 'check_whole', 'check_sizes', 'check_shape', 'whole_numbers', '_check_count', '_check_clip'}


def thrown_away(tree):
    "Calls of a check that makes a plain number of what came, whose answer is not kept: alone on a line, or only compared."
    kept = {id(node.value) for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.NamedExpr, ast.Return))}
    for node in ast.walk(tree):
        parts = [node.value, *getattr(node.value, 'elts', [])] if isinstance(node, ast.Expr) else [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        yield from (n.lineno for n in parts if isinstance(n, ast.Call) and getattr(n.func, 'id', '') in CHECKS and id(n) not in kept)


def used_as_it_came(tree):
    "Arguments that are read again, other than in an error, below the check whose answer went elsewhere."
    for f in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        names = [n for n in ast.walk(f) if isinstance(n, ast.Name)]
        inside = {id(n) for fault in ast.walk(f) if isinstance(fault, ast.Raise) for n in ast.walk(fault)}
        given = {a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)}
        for call in (n for n in ast.walk(f) if isinstance(n, ast.Call) and getattr(n.func, 'id', '') in CHECKS):
            parts = [part for a in call.args for part in getattr(a, 'elts', [a])]
            for name in {part.id for part in parts if isinstance(part, ast.Name)} & given:
                if any(n.id == name and isinstance(n.ctx, ast.Store) and n.lineno >= call.lineno - 1 for n in names): continue
                yield from (n.lineno for n in names if n.id == name and n.lineno > call.end_lineno and id(n) not in inside)


@pytest.mark.parametrize('module', MODULES)
def test_what_was_checked_is_what_is_used(module):
    "Rejects a number of another library that passes its check and is then used as it came: np.uint8(80)*4 is 64."
    tree = ast.parse(PACKAGE.joinpath(*module.split('.')).with_suffix('.py').read_text(encoding='utf-8'))
    assert not list(thrown_away(tree)) and not list(used_as_it_came(tree))


def unawaited(tree):
    "Calls of `.to` that never wait: into a GPU's memory that is right, from there to the CPU the numbers are read before they have come."
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, 'attr', '') == 'to'):
        yield from (call.lineno for k in call.keywords if k.arg == 'non_blocking' and isinstance(k.value, ast.Constant))


@pytest.mark.parametrize('module', MODULES)
def test_only_a_copy_to_a_gpu_is_not_waited_for(module):
    "Rejects labels, steps and rates of a GPU that meet images on the CPU half copied."
    assert not list(unawaited(ast.parse(PACKAGE.joinpath(*module.split('.')).with_suffix('.py').read_text(encoding='utf-8'))))
    assert list(unawaited(ast.parse('t.to(x.device, non_blocking=True)'))) and not list(unawaited(ast.parse('t.to(x.device, non_blocking=x.is_cuda)')))


def test_a_check_whose_answer_is_lost_is_found():
    for lost in "check_whole(n, 'n')", "check_float(y, 'y'), check_whole(n, 'n')", "if check_number(x, 'x') > 1: y = x": assert list(thrown_away(ast.parse(lost)))
    for kept in "n = check_whole(n, 'n')", "if (x := check_number(x, 'x')) > 1: y = x", "f(check_whole(n, 'n'))": assert not list(thrown_away(ast.parse(kept)))
    again = "def f(n):\n    g(check_whole(n, 'n'))\n    return n"
    assert list(used_as_it_came(ast.parse(again))) and not list(used_as_it_came(ast.parse(again.replace('g(', 'n = (')))) and not list(used_as_it_came(ast.parse(again.replace('return', 'raise'))))
