"The package as others meet it: a wheel with nothing missing and nothing extra, in an environment without us or our tools; and the command line."
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from PIL import Image

import ddpm_lesson
from ddpm_lesson.classroom import course_files
from ddpm_lesson.cli import main

ROOT = Path(__file__).resolve().parents[2]


def call(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.output


def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']


@pytest.fixture(autouse=True)
def installed_only(monkeypatch):
    "A reader's PYTHONPATH may hold another copy of the package."
    monkeypatch.delenv('PYTHONPATH', raising=False)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a copy, so that nothing an earlier build left behind gets in."
    folder = tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT/'ddpm_lesson', folder/'source'/'ddpm_lesson', ignore=shutil.ignore_patterns('__pycache__'))
    for path in course_files(ROOT):
        (folder/'source'/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/path, folder/'source'/path)
    (folder/'source'/'tests').mkdir()
    for name in 'nbs', 'tests', 'tools', 'benchmarks': (folder/'source'/name/'extra.py').touch()
    for name in 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE': shutil.copy(ROOT/name, folder/'source'/name)
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, folder/'source'], check=True)
    return next(folder.glob('*.whl'))


def test_wheel_holds_the_package_and_nothing_else(wheel):
    about = f'ddpm_lesson-{ddpm_lesson.__version__}.dist-info/'
    names = {n for n in ZipFile(wheel).namelist() if not n.endswith('/')}
    theirs = {n.removeprefix(about) for n in names if n.startswith(about)}
    ours = {p.relative_to(ROOT).as_posix() for p in (ROOT/'ddpm_lesson').rglob('*') if p.is_file() and '__pycache__' not in p.parts}
    lessons = {f'ddpm_lesson/course/{p.as_posix()}' for p in course_files(ROOT)}
    assert names - {about + n for n in theirs} == ours | lessons and {'ddpm_lesson/cli.py', 'ddpm_lesson/assets/fashion.safetensors', 'ddpm_lesson/assets/CREDITS'} < ours
    assert {n.removeprefix('licenses/') for n in theirs} == {'METADATA', 'RECORD', 'WHEEL', 'entry_points.txt', 'top_level.txt', 'LICENSE'}


def test_wheel_holds_each_lesson_once_and_nothing_large(wheel):
    "Rejects a wheel without the lessons, with two copies of an answer, or with what a clone alone needs."
    info = [i for i in ZipFile(wheel).infolist() if i.filename.startswith('ddpm_lesson/course/')]
    pages = [i.filename for i in info if i.filename.endswith('.ipynb')]
    assert len(pages) > 55 and sum(name.endswith('solutions/04_posterior.ipynb') for name in pages) == 1
    assert len({name.rpartition('course/')[2] for name in pages}) == len(pages) and not [name for name in pages if 'checkpoint' in name]
    assert max(i.file_size for i in info) < 1_100_000 and sum(i.file_size for i in info) < 20_000_000 and wheel.stat().st_size < 50_000_000


def test_wheel_says_what_settings_say(wheel):
    "Version, Python, requirements, extras, command: one source, and every place in step with it."
    cfg, about = settings(), f'ddpm_lesson-{ddpm_lesson.__version__}.dist-info/'
    meta = Parser().parsestr(ZipFile(wheel).read(about + 'METADATA').decode())
    assert meta['Version'] == cfg['version'] == ddpm_lesson.__version__ and wheel.name == f"ddpm_lesson-{cfg['version']}-py3-none-any.whl"
    assert f"## {cfg['version']}" in (ROOT/'CHANGELOG.md').read_text(encoding='utf-8')
    assert meta['Requires-Python'] == '>=' + cfg['min_python'] and meta['Summary'] == cfg['description']
    asked = [Requirement(r) for r in meta.get_all('Requires-Dist')]
    plain = lambda requirements: sorted(f'{r.name}{r.specifier}' for r in requirements)
    assert plain(r for r in asked if r.marker is None) == plain(map(Requirement, cfg['requirements'].split()))
    assert set(meta.get_all('Provides-Extra')) == {'dev', 'docs', 'judge', 'lessons'} and not [r for r in asked if r.url]
    assert '[console_scripts]\nddpm_lesson = ddpm_lesson.cli:main' in ZipFile(wheel).read(about + 'entry_points.txt').decode()


def test_ci_and_the_matrix_name_the_same_pythons():
    said = [re.findall(r'"(3\.\d+)"|\'(3\.\d+)\'', line) for p in ('.github/workflows/ci.yml', 'tools/matrix.py') for line in (ROOT/p).read_text().splitlines() if re.match(r'.*(matrix: \{python|PYTHONS =)', line)]
    assert len(said) == 2 and [''.join(v) for v in said[0]] == [''.join(v) for v in said[1]] and ''.join(said[0][0]) == settings()['min_python']


def test_wheel_draws_in_an_environment_without_us_or_our_tools(wheel, tmp_path):
    venv.create(tmp_path/'env', with_pip=False)
    python = tmp_path/'env'/'bin'/'python'
    site = Path(subprocess.run([python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], capture_output=True, text=True, check=True).stdout.strip())
    # what settings.ini requires, by links, so that nothing is downloaded twice; and nothing else: neither our tools nor our own editable install
    for name in closure(settings()['requirements'].split()):
        for top in {f.parts[0] for f in importlib.metadata.files(name) or [] if f.parts[0] not in ('..', '__pycache__')}:
            if not (site/top).exists(): (site/top).symlink_to(Path(importlib.metadata.distribution(name).locate_file(top)))
    absent = 'import importlib.util as u; print([m for m in ("nbdev", "fastcore", "pytest", "hypothesis", "diffusers", "scipy", "IPython", "ddpm_lesson") if u.find_spec(m)])'
    assert subprocess.run([python, '-c', absent], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip() == '[]'
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', site, wheel], check=True)
    code = """if True:
        import importlib, pkgutil
        import ddpm_lesson
        for m in pkgutil.iter_modules(ddpm_lesson.__path__): importlib.import_module('ddpm_lesson.' + m.name)
        from ddpm_lesson.cli import main
        for args in (['sample', '--count', '4', '--steps', '2', '--device', 'cpu', '--gif', 'way.gif'],
                     ['train', '--preset', 'debug', '--width', '8', '--steps', '2', '--folder', 'run', '--device', 'cpu']): main(args, standalone_mode=False)
        from ddpm_lesson import classroom
        classroom.working_copy('mine'), classroom.copy_course('class', answers=False)
        print(ddpm_lesson.__file__)"""
    done = subprocess.run([python, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(site)) and Image.open(tmp_path/'samples.png').size[0] > 100 and (tmp_path/'run'/'model.safetensors').is_file()
    made = [{p.name for p in (tmp_path/out/'nbs').rglob('*.ipynb')} for out in ('mine', 'class')]
    assert made[0] == {p.name for p in (ROOT/'nbs').rglob('*.ipynb')} and {'04_posterior.ipynb', 'museum.ipynb'} < made[1] < made[0]


def test_every_upper_bound_has_its_reason_written():
    cfg, said = settings(), (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')
    asked = [Requirement(r) for k in cfg if k.endswith('requirements') for r in cfg[k].split()]
    bounds = {f'`{r.name}{s}`' for r in asked for s in r.specifier if s.operator in ('<', '<=', '==', '~=')}
    assert bounds == set(re.findall(r'^\| (`[^`]+[<=~][^`]+`) \|', said, re.M)), bounds


def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()


def closure(requirements):
    "The distributions these need, and theirs."
    seen, todo = set(), [Requirement(r).name for r in requirements]
    while todo:
        if (name := canonical(todo.pop())) in seen: continue
        seen.add(name)
        try: asks = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError: continue
        todo += [r.name for r in map(Requirement, asks) if r.marker is None or r.marker.evaluate({'extra': ''})]
    return seen


def test_ddpm_sampler_and_unlabelled_images(tmp_path):
    status, said = call('sample', '--sampler', 'ddpm', '--var', 'large', '--steps', 3, '--count', 2, '--label', 'none', '--out', tmp_path/'s.png', '--device', 'cpu')
    assert status == 0, said


def test_train_resume_and_draw(tmp_path):
    base = ('train', '--preset', 'debug', '--width', 8, '--steps', 6, '--folder', tmp_path/'run', '--device', 'cpu', '--every', 3)
    status, said = call(*base, '--tensorboard')
    assert status == 0, said
    assert list((tmp_path/'run').glob('events.out.tfevents*')) and not list((tmp_path/'run').glob('.*'))
    card = json.loads((tmp_path/'run'/'model.json').read_text())
    assert card['made']['seconds'] >= 0 and card['recipe']['steps'] == 6
    assert call(*base)[0] == 1 and call(*base, '--resume')[0] == 0
    status, said = call(*base, '--resume', '--lr', 0.5)
    assert status == 1 and 'another run' in said and 'lr' in said
    status, said = call('sample', '--weights', tmp_path/'run'/'model.safetensors', '--count', 2, '--steps', 2, '--out', tmp_path/'s.png', '--device', 'cpu')
    assert status == 0, said


def test_train_on_a_folder_of_mixed_photographs(tmp_path):
    for k, (kind, size) in enumerate({'cat': (40, 30), 'dog': (31, 77)}.items()):
        (tmp_path/'photos'/kind).mkdir(parents=True)
        for i in range(3): Image.effect_noise(size, 60 + 40*k).convert('RGB').save(tmp_path/'photos'/kind/f'{i}.png')
    status, said = call('train', '--data', tmp_path/'photos', '--size', 16, '--width', 8, '--steps', 2, '--batch', 4, '--folder', tmp_path/'run', '--device', 'cpu')
    assert status == 0, said
    assert json.loads((tmp_path/'run'/'model.json').read_text())['classes'] == ['cat', 'dog']


def test_wrong_flags_are_sentences(tmp_path):
    for args in [('train', '--data', tmp_path/'absent'), ('train', '--preset', 'debug', '--batch', 3, '--folder', tmp_path/'r'), ('train', '--resume', '--folder', tmp_path/'r2'), ('train', '--target', 'noise', '--folder', tmp_path/'r3'),
                 ('train', '--mults', 'a,b', '--folder', tmp_path/'r4'), ('sample', '--weights', tmp_path/'absent.safetensors', '--out', tmp_path/'s.png'), ('diagnose', '--schedule', 'cosine', '--beta-1', .1)]:
        status, said = call(*args)
        assert status in (1, 2) and 'Error: ' in said, (args, said)
        assert any(word in said for word in ('wanted', 'belong', 'is not one of')), (args, said)
    assert not list(tmp_path.glob('r*/*.safetensors'))


def test_diagnose_tells_good_from_bad():
    bad, good = call('diagnose', '--schedule', 'linear', '--T', 300)[1], call('diagnose', '--schedule', 'rescaled_linear', '--T', 300)[1]
    assert '0.219' in bad and bad != good
