"The package as others meet it: a wheel in an environment without us, and the command line."
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import torch
from click.testing import CliRunner
from PIL import Image

from ddpm_lesson.cli import main

ROOT = Path(__file__).resolve().parents[1]


def call(*args):
    r = CliRunner().invoke(main, [str(a) for a in args])
    return r.exit_code, r.output


def test_wheel_draws_in_an_environment_without_us(tmp_path):
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', tmp_path, ROOT], check=True)
    venv.create(tmp_path/'env', with_pip=True)
    python = tmp_path/'env'/'bin'/'python'
    # torch and the rest by path, so that they need no second download; our own editable install is not reachable that way
    site = Path(subprocess.run([python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], capture_output=True, text=True, check=True).stdout.strip())
    assert subprocess.run([python, '-c', 'import ddpm_lesson'], capture_output=True, cwd=tmp_path).returncode
    (site/'theirs.pth').write_text(sysconfig.get_path('purelib'))
    wheel, = tmp_path.glob('ddpm_lesson-*.whl')
    subprocess.run([python, '-m', 'pip', 'install', '-q', '--no-deps', wheel], check=True)
    subprocess.run([tmp_path/'env'/'bin'/'ddpm_lesson', 'sample', '--count', '4', '--steps', '3', '--device', 'cpu'], cwd=tmp_path, check=True)
    where = subprocess.run([python, '-c', 'import ddpm_lesson; print(ddpm_lesson.__file__)'], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path/'env') in where and Image.open(tmp_path/'samples.png').size[0] > 100


def test_sample_says_what_it_was_asked_and_repeats_itself(tmp_path):
    asked = ('sample', '--count', 5, '--steps', 3, '--seed', 9, '--label', 'bag', '--guidance', 1.5, '--eta', 0.5, '--device', 'cpu')
    assert call(*asked, '--out', tmp_path/'a.png')[0] == call(*asked, '--batch', 2, '--out', tmp_path/'b.png')[0] == 0
    a, b = Image.open(tmp_path/'a.png'), Image.open(tmp_path/'b.png')
    assert sum(abs(p - q) > 2 for p, q in zip(a.tobytes(), b.tobytes())) < 30  # batch size changes the last bits of a convolution, no more
    assert a.text['seed'] == '9' and a.text['label'] == 'bag' and a.text['torch'] == torch.__version__


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
                 ('train', '--mults', 'a,b', '--folder', tmp_path/'r4'), ('sample', '--weights', tmp_path/'absent.safetensors'), ('diagnose', '--schedule', 'cosine', '--beta-1', .1)]:
        status, said = call(*args)
        assert status == 1 and said.startswith('Error: ') and 'wanted' in said or 'belong' in said, (args, said)
    assert not list(tmp_path.glob('r*/*.safetensors'))


def test_diagnose_tells_good_from_bad():
    bad, good = call('diagnose', '--schedule', 'linear', '--T', 300)[1], call('diagnose', '--schedule', 'rescaled_linear', '--T', 300)[1]
    assert '0.219' in bad and bad != good
