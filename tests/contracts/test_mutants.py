"Each wrong program of `mutants.py` is rejected by the test named beside it; the museum and the list agree."
import json
import subprocess
import sys

import pytest
from mutants import HERE, MUTANTS, NOT_OURS


@pytest.fixture(scope='module')
def verdict():
    "A function from a mutant's name to pytest's exit status and words, answered by one warm process."
    with subprocess.Popen([sys.executable, str(HERE/'mutants.py')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        def ask(name):
            print(json.dumps(name), file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())
        yield ask
        server.stdin.close()


@pytest.mark.parametrize('which', ['one a file', pytest.param('each', marks=pytest.mark.slow)])
def test_the_right_package_passes_the_tests_that_kill(which, verdict):
    "Rejects a process in which tests fail whatever is wrong; that each passes elsewhere, this suite itself shows."
    status, said = verdict(which)
    assert status == 0, said


@pytest.mark.parametrize('name', MUTANTS, ids=lambda n: n.replace(' ', '-'))
def test_mutant_is_killed(name, verdict):
    status, said = verdict(name)
    assert status == 1 and ' failed' in said, f'survived, or not tested (exit status {status}): {said}'


def test_each_piece_of_the_museum_is_a_mutant_or_says_why_not():
    page = json.loads((HERE.parent/'nbs'/'reference'/'museum.ipynb').read_text(encoding='utf-8'))
    tables = [''.join(o['data']['text/markdown']) for c in page['cells'] for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    rows = [line.split(' | ') for line in tables[0].splitlines()[2:]]
    pieces = [row[1] for row in rows]
    assert len(tables) == 1 and len(set(pieces)) == len(pieces) >= 20 and not MUTANTS.keys() & NOT_OURS.keys()
    assert set(pieces) <= MUTANTS.keys() | NOT_OURS.keys(), set(pieces) - MUTANTS.keys() - NOT_OURS.keys()
    assert NOT_OURS.keys() <= set(pieces)
