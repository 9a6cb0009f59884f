"""How often each rule against a kind of fault is tried: python tools/rules.py

`records/rules.csv` has a line for each rule: what holds, how it is tested, and the tests, as `file::name` with * for any letters. They are
written by hand; this script counts the test functions and their cases, as pytest collects them, and writes both numbers beside them.
"""
import csv
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT/'records'/'rules.csv'


def read(): return list(csv.DictReader(TABLE.open(encoding='utf-8', newline='')))


def functions():
    "Every test there is, as file::name."
    found = {path.stem: re.findall(r'^ *def (test_\w+)', path.read_text(encoding='utf-8'), re.M) for path in sorted((ROOT/'tests').rglob('test_*.py'))}
    return [f'{file}::{name}' for file, names in found.items() for name in names]


def named(rule, tests):
    "Those of `tests` that a rule names."
    return [t for t in tests if any(fnmatchcase(t, pattern) for pattern in rule['tests'].split())]


def cases(files):
    "Every case that pytest collects from some test files, as file::name, as often as there are cases."
    run = subprocess.run([sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', *files], cwd=ROOT, capture_output=True, encoding='utf-8')
    return [f'{m[1]}::{m[2]}' for m in re.finditer(r'^tests/(?:\w+/)*(\w+)\.py::(\w+)', run.stdout, re.M)]


def main():
    rules, tests = read(), functions()
    files = {t.split('::')[0] for r in rules for t in named(r, tests)}
    collected = cases(sorted(str(p) for p in (ROOT/'tests').rglob('test_*.py') if p.stem in files))
    for r in rules:
        of_rule = set(named(r, tests))
        r |= dict(functions=len(of_rule), cases=sum(t in of_rule for t in collected))
    with TABLE.open('w', encoding='utf-8', newline='') as f:
        out = csv.DictWriter(f, ['rule', 'how', 'tests', 'functions', 'cases'], lineterminator='\n')
        out.writeheader()
        out.writerows(rules)
    for r in rules: print(f"{r['functions']:4} tests {r['cases']:5} cases   {r['rule']}")


if __name__ == '__main__': main()
