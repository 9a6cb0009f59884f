"""How many wrong programs the tests reject: python tools/mutation.py [module ...] [--folder F]

mutmut (a dev requirement) changes one thing at a time in each module named in `TESTS`: an operator, a number, an argument, a default, a branch.
Each wrong program is run in a fork of one warm process until the first test fails. Two files are written:
`records/mutation.csv` counts them, `records/mutation_survivors.txt` shows each change that no test noticed, with the reason it was left;
a reason written there by hand is kept as long as its change survives. The exit status is 1 below 95 %, or where a reason is missing.

Not changed: docstrings, annotations, what is said in a `raise` (tests check the words that matter), `len` and `isinstance` calls, and code
outside functions. mutmut passes over functions with a decorator, so here each is first written as the call it stands for.
"""
import argparse
import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = dict(
    checks=['test_checks', 'test_dialects', 'test_schedule', 'test_sampler', 'test_properties'],
    schedule=['test_schedule', 'test_properties'], forward=['test_forward', 'test_checks', 'test_properties'],
    asking=['test_asking', 'test_sampler', 'test_dialects', 'test_properties'],
    posterior=['test_posterior', 'test_checks', 'test_properties'], sampler=['test_sampler', 'test_properties', 'test_dialects'], loss=['test_loss', 'test_properties', 'test_device'],
    guidance=['test_guidance', 'test_device'], metrics=['test_metrics', 'test_metrics_parts'], unet=['test_unet', 'test_train', 'test_muon'], train=['test_train', 'test_run', 'test_museum'],
) | {'engine.muon': ['test_muon'], 'engine.run': ['test_run', 'test_muon', 'test_graphs', 'test_distributed', 'test_crash', 'test_reproducible']}   # the files whose tests are to reject what is wrong in a module
MODULES = list(TESTS)
TABLE, SURVIVORS = ROOT/'records'/'mutation.csv', ROOT/'records'/'mutation_survivors.txt'
WANTED, MISSING = 0.95, 'not yet explained'
KILLED = {1, 3} | {2, 255} | {24, 36, 152, -24}   # a test failed; or conftest.py, which builds schedules, could not be loaded; or the program never ended

SETTINGS = '''[tool.mutmut]
source_paths = ["ddpm_lesson"]
only_mutate = ["ddpm_lesson/{path}.py"]
do_not_mutate_patterns = ['^ *raise ']
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "fast_first", "--assert=plain", "-p", "no:unraisableexception", "-p", "no:threadexception", "--deselect", "tests/contracts/test_properties.py::test_float32_stays_near_float64", "--deselect", "tests/test_run.py::test_a_resumed_curve_has_each_step_once"]
process_isolation = "forkserver"
use_git_change_detection = false
timeout_constant = 5.0
'''

FAST_FIRST = '''import gc
import json
import os
from pathlib import Path

def pytest_collection_modifyitems(items):
    "Quick tests first: most wrong programs meet one that rejects them."
    stats = Path('mutmut-stats.json')
    took = json.loads(stats.read_text(encoding='utf-8'))['duration_by_test'] if stats.exists() else {}
    items.sort(key=lambda item: took.get(item.nodeid, 0))

def pytest_collection_finish(): gc.freeze()   # what the warm process holds need not be looked through again in each fork

def pytest_sessionfinish(exitstatus):
    "A test that is not found by the name it had before is a fault of the tests, not a mutant rejected."
    if exitstatus == 4: os._exit(35)
'''


class Plain(ast.NodeTransformer):
    "Without docstrings; a decorator becomes the call it stands for: `@f def g` is `def g` and then `g = f(g)`."
    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        calls = [ast.Assign([ast.Name(node.name, ast.Store())], ast.Call(d, [ast.Name(node.name, ast.Load())], []), lineno=0) for d in reversed(node.decorator_list)]
        node.decorator_list = []
        if ast.get_docstring(node) is not None: node.body = node.body[1:] or [ast.Pass()]
        return [node, *calls]


def plain(source):
    "The same program as `source`, one statement a line."
    return ast.unparse(ast.fix_missing_locations(Plain().visit(ast.parse(source)))) + '\n'


def prepare(folder, module):
    "Lay out in `folder` what mutmut needs: the package, the tests, its settings."
    folder.mkdir(parents=True)
    for name in 'ddpm_lesson', 'tests': shutil.copytree(ROOT/name, folder/name, ignore=shutil.ignore_patterns('__pycache__'))
    source = folder/'ddpm_lesson'/f"{module.replace('.', '/')}.py"
    source.write_text(plain(source.read_text(encoding='utf-8')), encoding='utf-8')
    (folder/'pyproject.toml').write_text(SETTINGS.format(path=module.replace('.', '/'), tests=json.dumps([p.relative_to(ROOT).as_posix() for t in TESTS[module] for p in (ROOT/'tests').rglob(f'{t}.py')])), encoding='utf-8')
    (folder/'plugin').mkdir()   # not in the folder itself: mutmut takes that off the path
    (folder/'plugin'/'fast_first.py').write_text(FAST_FIRST, encoding='utf-8')


def mutmut(folder, *args, **options):
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTEST_DISABLE_PLUGIN_AUTOLOAD='1', EXAMPLES='5', MPLBACKEND='agg', PYTHONPATH=str(folder/'plugin'))
    return subprocess.run([Path(sys.executable).with_name('mutmut'), *args], cwd=folder, env=env, check=True, **options)


def survivors(folder, names):
    "For each survivor, what changed: (where, the lines taken out and put in)."
    for name in names:
        shown = mutmut(folder, 'show', name, capture_output=True, encoding='utf-8').stdout.splitlines()
        change = [line for line in shown if re.match(r'[-+](?![-+])', line)]
        where = re.sub(r'^ddpm_lesson\.([\w.]+)\.x[_ǁ](.+)__mutmut_\d+$', r'\1.\2', name).replace('ǁ', '.')
        yield where, '\n'.join(re.sub(r'(?<=^.) +', '    ', c) for c in change)


def known_reasons():
    "What was written by hand: {(where, change): reason}."
    if not SURVIVORS.exists(): return {}
    blocks = re.findall(r'^## (.+)\n((?:[-+].*\n)+)reason: (.+)$', SURVIVORS.read_text(encoding='utf-8'), re.M)
    return {(where, change.rstrip('\n')): reason for where, change, reason in blocks}


def test(module, folder):
    "Run every mutant of one module; a row of the table, and its survivors."
    prepare(folder, module)
    mutmut(folder, 'run', '--max-children', '1')
    codes = json.loads((folder/'mutants'/'ddpm_lesson'/f"{module.replace('.', '/')}.py.meta").read_text(encoding='utf-8'))['exit_code_by_key']
    alive = [name for name, code in codes.items() if code not in KILLED]
    return dict(module=module, mutants=len(codes), killed=len(codes) - len(alive), survived=len(alive)), list(survivors(folder, alive))


def write(rows, left):
    "The table, and the survivors with their reasons; what stands there for other modules stays."
    old = {r['module']: r for r in csv.DictReader(TABLE.open(newline='', encoding='utf-8'))} if TABLE.exists() else {}
    rows = old | {r['module']: r for r in rows}
    with open(TABLE, 'w', newline='', encoding='utf-8') as f:
        out = csv.DictWriter(f, ['module', 'mutants', 'killed', 'survived'], lineterminator='\n')
        out.writeheader()
        out.writerows(rows[m] for m in MODULES if m in rows)
    text = ['Changes to the program that no test noticed, and why each was left. Made by `python tools/mutation.py`; reasons are written by hand.\n']
    text += [f'## {where}\n{change}\nreason: {reason}\n' for (where, change), reason in left.items()]
    SURVIVORS.write_text('\n'.join(text), encoding='utf-8')
    return list(rows.values())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('modules', nargs='*', default=MODULES, choices=MODULES)
    p.add_argument('--folder', type=Path, help='a new folder to work in, kept afterwards')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        for module in args.modules:   # the files are read and written after each, so that what was found stays, whatever happens to the next
            row, alive = test(module, folder/module)
            known = known_reasons()
            left = {key: why for key, why in known.items() if not key[0].startswith(module + '.')} | {key: known.get(key, MISSING) for key in alive}
            rows = write([row], left)
    for r in rows: print(f"{r['module']:10} {r['killed']:>5} of {r['mutants']:>5} rejected")
    score = sum(int(r['killed']) for r in rows)/sum(int(r['mutants']) for r in rows)
    print(f'{score:.1%} in all; {MISSING}: {sum(why == MISSING for why in left.values())}')
    sys.exit(score < WANTED or MISSING in left.values())


if __name__ == '__main__': main()
