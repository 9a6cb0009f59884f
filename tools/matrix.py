"""Run the tests on every Python here, with the newest torch, and once with the oldest of everything: python tools/matrix.py [--quick]

Each Python that settings.ini allows and this machine has (on PATH, from pyenv, from uv) gets an environment of its own, with the newest
releases; the lowest Python gets a second one in which each lower bound of `requirements` is the version installed. The environment is
removed after its run: with CUDA's libraries it takes about 5 GB. uv is used where it is installed, else venv and pip. The table, one row
for each pair, is printed and kept in `records/matrix.csv`. The exit status is 1 where a test failed or `pip check` complained.

    python tools/matrix.py                      # everything: pages and tests; an hour and more for each Python
    python tools/matrix.py --quick              # what could break with a version: minutes for each
    python tools/matrix.py --quick --only 3.13   # or --only oldest; may be given again
    python tools/matrix.py --audit              # licences of all that is installed, and known advisories, instead
"""
import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from configparser import ConfigParser
from pathlib import Path

import pages as course

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ['3.10', '3.11', '3.12', '3.13']
QUICK = ['schedule', 'forward_posterior', 'oracle', 'sampler', 'loss', 'parity', 'metrics', 'training', 'muon', 'scale', 'device', 'files', 'reproducible', 'package']
TABLE, LICENCES = ROOT/'records'/'matrix.csv', ROOT/'records'/'licences.csv'
COLUMNS = ['with', 'python', 'torch', 'torchvision', 'part', 'passed', 'failed', 'skipped', 'pip check', 'seconds']


def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def lower_bounds():
    "'torch>=2.4 einops' as ['torch==2.4']: the oldest that settings.ini allows."
    return [f'{name}=={low}' for name, low in re.findall(r'([\w-]+)>=([\d.]+)', settings()['requirements'])]


def answer(*command, **options):
    "What a command prints, or '' if it can't be run."
    try: return subprocess.run([str(c) for c in command], capture_output=True, encoding='utf-8', check=True, timeout=60, **options).stdout.strip()
    except (OSError, subprocess.SubprocessError): return ''


def candidates(version):
    "Where a Python of this version may be: PATH, pyenv, uv."
    yield from (Path(folder)/f'python{version}' for folder in os.environ.get('PATH', '').split(os.pathsep))
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home()/'.pyenv')/'versions'
    yield from sorted(pyenv.glob(f'{version}.*/bin/python'), key=lambda p: [int(n) for n in re.findall(r'\d+', p.parts[-3])], reverse=True)
    if found := answer('uv', 'python', 'find', '--no-project', version): yield Path(found)


def pythons():
    "Version -> the first Python found that runs and can make environments."
    ask = 'import sys, venv, ensurepip, ctypes, sqlite3, bz2, lzma, ssl; print("%d.%d" % sys.version_info[:2])'
    return {v: p for v in PYTHONS if (p := next((p for p in candidates(v) if answer(p, '-c', ask) == v), None))}


def copy_of_the_project(folder):
    "What git knows or would add, so that the runs neither see nor leave anything else."
    names = subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=ROOT, capture_output=True, encoding='utf-8', check=True).stdout
    for name in filter(None, names.split('\0')):
        if not (ROOT/name).is_file(): continue  # removed, and not yet committed
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, folder/name)
    return folder


def environment(python, folder, *wanted):
    "A fresh environment with these packages; its Python."
    inside = folder/'bin'/'python'
    if shutil.which('uv'):
        subprocess.run(['uv', 'venv', '-q', '--no-project', '--seed', '--python', python, folder], check=True)
        subprocess.run(['uv', 'pip', 'install', '-q', '--python', inside, *wanted], check=True)
    else:
        subprocess.run([python, '-m', 'venv', folder], check=True)
        subprocess.run([inside, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', *wanted], check=True)
    return inside


def version_of(python, package):
    return answer(python, '-c', f'import importlib.metadata as m; print(m.version({package!r}))')


def count(report):
    "(passed, failed, skipped) in a JUnit file; a run that never wrote one failed."
    if not report.exists(): return 0, 1, 0
    suites = [s.attrib for s in xml.parse(report).getroot().iter('testsuite')]
    total, skipped, failed = (sum(int(s[k]) for s in suites for k in keys) for keys in (['tests'], ['skipped'], ['failures', 'errors']))
    return total - skipped - failed, failed, skipped


def pages(python, project):
    "(passed, failed): each notebook by nbdev_test, as CI runs them."
    passed = failed = 0
    for page in course.pages(project):
        r = subprocess.run([python.with_name('nbdev_test'), '--n_workers', '1', '--path', page], cwd=project, capture_output=True, encoding='utf-8')
        passed, failed = passed + (r.returncode == 0), failed + (r.returncode != 0)
        if r.returncode: print((r.stdout + r.stderr)[-3000:], flush=True)
    return passed, failed


def tests(python, project, quick, scratch):
    "(passed, failed, skipped) of the suite, or of its quick part."
    files = [p.relative_to(project).as_posix() for n in QUICK for p in (project/'tests').rglob(f'test_{n}.py')] if quick else ['tests']
    report = scratch/'report.xml'
    report.unlink(missing_ok=True)
    r = subprocess.run([python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--tb=short', f'--junitxml={report}', *files], cwd=project, capture_output=True, encoding='utf-8')
    print('\n'.join((r.stdout + r.stderr).splitlines()[-60 if r.returncode else -1:]), flush=True)
    passed, failed, skipped = count(report)
    if quick: return passed, failed, skipped
    ok, wrong = pages(python, project)
    return passed + ok, failed + wrong, skipped


def run(name, python, pins, quick, project, scratch):
    "One row of the table."
    began, folder = time.time(), scratch/'env'
    print(f'== {name}: {answer(python, "--version")} {" ".join(pins)}', flush=True)
    row = {'with': 'oldest' if pins else 'newest', 'python': answer(python, '--version').split()[-1], 'part': 'quick' if quick else 'all'}
    try:
        inside = environment(python, folder, '-e', f'{project}[dev]', *pins)
        row |= {p: version_of(inside, p) for p in ('torch', 'torchvision')}
        check = subprocess.run([inside, '-m', 'pip', 'check'], capture_output=True, encoding='utf-8')
        row['pip check'] = 'clean' if not check.returncode else check.stdout.strip().replace('\n', '; ')
        row |= dict(zip(('passed', 'failed', 'skipped'), tests(inside, project, quick, scratch)))
    except subprocess.CalledProcessError as e:
        row |= dict(passed=0, failed=1, skipped=0) | {'pip check': f'not installed: {shlex.join(map(str, e.cmd[:3]))} ...'}
    finally: shutil.rmtree(folder, ignore_errors=True)
    return row | dict(seconds=round(time.time() - began))


def keep(row):
    "Put a row into the table, in the place of the one of the same kind and Python."
    key = lambda r: (r['with'], [int(n) for n in r['python'].split('.')[:2]], r['part'])
    old = list(csv.DictReader(TABLE.open(newline='', encoding='utf-8'))) if TABLE.exists() else []
    rows = sorted([r for r in old if key(r) != key(row)] + [row], key=key)
    with open(TABLE, 'w', newline='', encoding='utf-8') as f:
        out = csv.DictWriter(f, COLUMNS, lineterminator='\n')
        out.writeheader()
        out.writerows(rows)


def show(rows):
    table = [COLUMNS, *([str(r.get(c, '')) for c in COLUMNS] for r in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    for line in table: print('  '.join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())


# --- licences and advisories ----------------------------------------------------------------------------------------------------------

def needed(python, requirements):
    "The packages that these need, and theirs: what a reader of the package installs."
    code = """if True:
        import importlib.metadata as m, json, re, sys
        from packaging.requirements import Requirement
        seen, todo = set(), [Requirement(r) for r in sys.argv[1:]]
        while todo:
            r = todo.pop()
            name = re.sub(r"[-_.]+", "-", r.name).lower()
            wanted = [(name, e) for e in {"", *r.extras} if (name, e) not in seen]
            seen.update(wanted)
            try: asks = [Requirement(a) for a in m.requires(name) or []] if wanted else []
            except m.PackageNotFoundError: continue
            todo += [a for a in asks for _, e in wanted if a.marker is None or a.marker.evaluate({"extra": e})]
        print(json.dumps(sorted({name for name, _ in seen})))"""
    return set(json.loads(answer(python, '-c', code, *requirements)))


def family(licence):
    "The kind of a licence; the strictest, if it names several."
    kinds = dict(unknown='UNKNOWN', proprietary='Proprietary|NVIDIA', GPL=r'\bL?GPL|GNU', MPL='MPL|Mozilla', Apache='Apache', BSD='BSD', MIT=r'\bMIT', PSF='PSF|Python', ISC='ISC')
    return next((kind for kind, words in kinds.items() if re.search(words, licence)), 'other')


def licences(python):
    "A row for each package that an environment holds: name, version, licence, and whether it is needed to run or to develop."
    said = json.loads(answer(sys.executable, '-m', 'piplicenses', f'--python={python}', '--format=json', '--from=mixed'))
    run = needed(python, shlex.split(settings()['requirements']))
    name = lambda r: re.sub(r'[-_.]+', '-', r['Name']).lower()
    rows = [dict(package=name(r), version=r['Version'], licence=' '.join(r['License'].split())[:120], needed='to run' if name(r) in run else 'to develop') for r in said]
    return sorted((r for r in rows if r['package'] != settings()['lib_name'].replace('_', '-')), key=lambda r: r['package'])


def advisories(rows):
    "What pip-audit knows against the versions that settings.ini asks for by name. Where it reaches no advisory service, that is said."
    names = [re.match(r'[\w-]+', r)[0] for r in shlex.split(settings()['requirements'])]
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/'asked.txt').write_text(''.join(f"{r['package']}=={r['version'].split('+')[0]}\n" for r in rows if r['package'] in names), encoding='utf-8')
        r = subprocess.run([sys.executable, '-m', 'pip_audit', '--no-deps', '--disable-pip', '--progress-spinner', 'off', '-f', 'json', '-r', Path(d)/'asked.txt'], capture_output=True, encoding='utf-8')
    try: found = json.loads(r.stdout)['dependencies']
    except (ValueError, KeyError): return 1, r.stderr.strip()[-500:]
    skipped, bad = [f['name'] for f in found if 'skip_reason' in f], [(f['name'], f['version'], v['id']) for f in found for v in f.get('vulns', [])]
    lines = [f'{len(found) - len(skipped)} of {len(found)} asked about: {len(bad)} advisories', *map(' '.join, bad)]
    return int(bool(bad)), '\n'.join(lines + [f'no answer for {", ".join(skipped)}: no advisory service is reachable from here, run this where one is']*bool(skipped))


def audit(python):
    "Write the table of licences of a fresh environment, print its summary, and ask about advisories. Needs pip-licenses and pip-audit here."
    with tempfile.TemporaryDirectory() as d:
        (project := Path(d)/'project').mkdir()
        rows = licences(environment(python, Path(d)/'env', '-e', f'{copy_of_the_project(project)}[dev]'))
    with open(LICENCES, 'w', newline='', encoding='utf-8') as f:
        out = csv.DictWriter(f, list(rows[0]), lineterminator='\n')
        out.writeheader()
        out.writerows(rows)
    for part in 'to run', 'to develop':
        kinds = [family(r['licence']) for r in rows if r['needed'] == part]
        print(f'{part}, {len(kinds)} packages: ' + ', '.join(f'{kinds.count(k)} {k}' for k in sorted(set(kinds), key=kinds.count, reverse=True)))
    for r in rows:
        if family(r['licence']) in ('unknown', 'GPL', 'MPL', 'other'): print(f"  {r['package']} ({r['needed']}): {r['licence']}")
    status, said = advisories(rows)
    print('advisories:', said)
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='only the tests that a version could break')
    parser.add_argument('--only', action='append', help='3.10 ... or oldest; may be given again')
    parser.add_argument('--audit', action='store_true', help='licences and advisories instead; needs pip-licenses and pip-audit')
    args = parser.parse_args()
    if args.audit: return audit(Path(sys.executable))
    found = pythons()
    missing = [v for v in PYTHONS if v not in found]
    print('Pythons here: ' + ', '.join(found) + (f'; not here: {", ".join(missing)}' if missing else ''), flush=True)
    jobs = [(v, p, []) for v, p in found.items()] + [('oldest', next(iter(found.values())), lower_bounds())]
    jobs = [j for j in jobs if not args.only or j[0] in args.only]
    rows = []
    with tempfile.TemporaryDirectory() as d:
        (project := Path(d)/'project').mkdir()
        copy_of_the_project(project)
        for job in jobs:
            rows.append(run(*job, args.quick, project, Path(d)))
            keep(rows[-1])
    show(rows)
    return int(any(int(r['failed']) or r['pip check'] != 'clean' for r in rows))


if __name__ == '__main__': raise SystemExit(main())
