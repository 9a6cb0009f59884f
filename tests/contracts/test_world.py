"Ready for other people's computers: Windows names and encodings by simulation, and the files that Binder, Codespaces and a release read."
import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from pathlib import Path, PureWindowsPath

import pytest
import yaml

from ddpm_lesson import cli
from ddpm_lesson.classroom import course_files

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT/'ddpm_lesson').rglob('*.py'))
RESERVED = {'con', 'prn', 'aux', 'nul', *(f'{k}{n}' for k in ('com', 'lpt') for n in range(1, 10))}


def calls(tree):
    "The calls of a program: what is called, its arguments, its keywords."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call): yield getattr(node.func, 'attr', getattr(node.func, 'id', '')), node, {k.arg: k.value for k in node.keywords}


def without_encoding(text):
    "The lines of a program where text is read, written or heard from another program in whatever encoding the computer has: cp1252 on many."
    for name, node, named in calls(ast.parse(text)):
        if {'encoding', None} & named.keys() or getattr(getattr(node.func, 'value', None), 'id', '') in ('os', 'Image', 'io', 'tarfile'): continue
        modes = [a.value for a in [*(node.args[1:2] if isinstance(node.func, ast.Name) else node.args[:1]), named.get('mode')] if isinstance(a, ast.Constant) and isinstance(a.value, str) and len(a.value) < 4]
        asked = any(getattr(named.get(k), 'value', False) for k in ('text', 'universal_newlines'))
        if name in ('read_text', 'write_text') and isinstance(node.func, ast.Attribute) or name in ('open', 'fdopen') and not any('b' in m for m in modes) or name in ('run', 'Popen', 'check_output') and asked:
            yield node.lineno


PROGRAMS = [*MODULES, *sorted((ROOT/'tools').glob('*.py')), *sorted((ROOT/'benchmarks').glob('*.py')), ROOT/'setup.py', *sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))]


def program(path):
    "The text of a program, or of the cells of a page."
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py': return text
    code = [''.join(c['source']) for c in json.loads(text)['cells'] if c['cell_type'] == 'code']
    return re.sub('^[%!].*', '', '\n'.join(code), flags=re.M).replace('await ', '')


def test_text_is_read_and_written_in_one_encoding():
    "Rejects a page with an e acute that Windows reads as two letters, or can not read at all; also one that another program said."
    wrong = [(path.name, line) for path in PROGRAMS for line in without_encoding(program(path))]
    assert len(PROGRAMS) > 80 and wrong == []
    bad = "Path('a').read_text()\nopen('b')\nopen('c', 'rb')\nopen('d', encoding='utf-8')\nPath('e').open(newline='')\nrun(a, text=True)\nrun(a, text=True, encoding='utf-8')\nos.fdopen(3, 'w')\nwrite_text(a, b)"
    assert list(without_encoding(bad)) == [1, 2, 5, 6]


def test_every_name_is_one_that_windows_takes():
    "Rejects names with a colon or a star, reserved ones, and two that differ in case alone."
    paths = [p.as_posix() for p in course_files(ROOT)] + [p.relative_to(ROOT).as_posix() for p in MODULES]
    assert len(paths) > 100
    for path in paths:
        for part in PureWindowsPath(path).parts: assert not re.search(r'[<>:"|?*\\\x00-\x1f]|[ .]$', part) and part.split('.')[0].lower() not in RESERVED, path
        assert len(path) < 120
    assert max(Counter(p.lower() for p in paths).values()) == 1


@pytest.mark.parametrize('env', [dict(PYTHONUTF8='0', PYTHONIOENCODING='cp1252'), dict(PYTHONUTF8='0', LC_ALL='C', PYTHONIOENCODING='ascii'), dict(PYTHONIOENCODING='utf-16')], ids=['cp1252', 'ascii', 'utf-16'])
def test_commands_speak_on_a_screen_of_another_encoding(env, tmp_path):
    "Rejects a program that ends at the first letter which the screen does not have."
    done = subprocess.run([sys.executable, '-m', 'ddpm_lesson', 'progress'], cwd=tmp_path, capture_output=True, env=os.environ | env | dict(XDG_DATA_HOME=str(tmp_path)), timeout=120)
    assert done.returncode == 0 and b'Traceback' not in done.stderr, done.stderr[-500:]


def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['version'] == settings()['version'] and citation['license'] == 'Apache-2.0' and citation['authors']


def test_what_others_start_asks_for_extras_and_commands_that_exist():
    "Rejects a workflow, a container or a notebook server that calls a command or an extra of another day."
    files = [*(ROOT/'.github'/'workflows').glob('*.yml'), ROOT/'.devcontainer'/'devcontainer.json', ROOT/'binder'/'requirements.txt']
    for path in files:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.yml': assert yaml.safe_load(text)['jobs']
        if path.suffix == '.json': assert json.loads(text)['image']
        for extra in re.findall(r'\.\[(\w+)\]|whl\)\[(\w+)\]', text): assert f'{"".join(extra)}_requirements' in settings(), (path.name, extra)
        for command in re.findall(r'ddpm_lesson ([a-z-]+)\b', re.sub(r'python -c.*', '', text)): assert command in cli.main.commands, (path.name, command)
        for test in re.findall(r'tests/\w+\.py', text): assert (ROOT/test).exists(), test
    assert len(files) >= 6
    release = (ROOT/'RELEASE.md').read_text(encoding='utf-8')
    for path in re.findall(r'`(\.github/[\w./]+|tools/\w+\.py|tests/[\w/]+\.py|CITATION\.cff|settings\.ini)', release): assert (ROOT/path).exists(), path


# ---- Colab, and the badges of the README

sys.path.insert(0, str(ROOT/'tools'))
import colab  # noqa: E402
import readme  # noqa: E402

import pages  # noqa: E402


def test_every_lesson_begins_with_the_cell_for_colab():
    "Rejects a lesson without it, with an old one, or with two."
    assert colab.main(check=True) == []
    for page in pages.lessons():
        first = next(c for c in pages.cells(page) if c['cell_type'] == 'code')
        assert pages.source(first) == colab.code(colab.address()) and '#| hide' in pages.source(first)
        assert sum(colab.MARK in pages.source(c) for c in pages.cells(page)) == 1


@pytest.mark.parametrize('url', ['', 'https://github.com/someone/ddpm_lesson'])
def test_the_cell_installs_in_colab_and_does_nothing_elsewhere(url, monkeypatch, tmp_path):
    "Rejects a cell that installs on everybody's computer, one that stays where the page's tables are not, and one that forgets the address."
    from types import ModuleType, SimpleNamespace
    said = []
    space = dict(get_ipython=lambda: SimpleNamespace(run_line_magic=lambda *args: said.append(args)))
    exec(colab.code(url), space)
    assert said == []
    monkeypatch.setitem(sys.modules, 'google.colab', ModuleType('google.colab'))
    exec(colab.code(url), space)
    assert said == [('pip', f'install -q {f"git+{url}" if url else "ddpm_lesson"}'), ('cd', f'-q {ROOT}/nbs')]


def test_putting_the_cell_in_twice_changes_nothing():
    page = pages.lessons()[3]
    book = json.loads(page.read_text(encoding='utf-8'))
    once = colab.with_cell(book, page.stem, 'https://github.com/a/b')
    assert colab.with_cell(once, page.stem, 'https://github.com/a/b') == once != book
    assert colab.with_cell(once, page.stem, colab.address()) == book
    assert max(Counter(c['id'] for c in once['cells']).values()) == 1


def test_badges_are_made_from_the_one_address():
    "Rejects an address that stands in a second place, and badges that lead nowhere while there is none."
    assert colab.badges('') == '' == colab.badges('https://forge.example/a/b')
    made = colab.badges('https://github.com/someone/ddpm_lesson')
    assert 'colab.research.google.com/github/someone/ddpm_lesson/blob/main/nbs/00_start.ipynb' in made and 'mybinder.org/v2/gh/someone/ddpm_lesson/main?labpath=' in made
    text = readme.with_badges('# Title\n\nText.\n', made)
    assert text == f'# Title\n\n{made}\n\nText.\n' and readme.with_badges(text, '') == text
    assert ('colab-badge' in (ROOT/'README.md').read_text(encoding='utf-8')) == bool(colab.badges(colab.address()))
