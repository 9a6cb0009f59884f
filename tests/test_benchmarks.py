"Programs of `benchmarks/` that lean on the package: a table may not come from a network that nobody trained."
import importlib
import re
import runpy
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import dialects, ingredients, record, same_minutes
from benchmarks.measure import beside, own_table
from ddpm_lesson.data import Images
from ddpm_lesson.loss import mean_square, targets
from ddpm_lesson.schedule import linear_schedule, schedule_from_alpha_bar
from ddpm_lesson.train import Recipe, weights

DATA = Images(torch.randint(0, 256, (16, 1, 6, 6), dtype=torch.uint8), torch.zeros(16, dtype=torch.int64), ('one',), 'noise')


class Theirs(nn.Module):
    "Notes what it is asked."
    def __init__(self):
        super().__init__()
        self.conv, self.asked = nn.Conv2d(1, 1, 3, padding=1), []

    def forward(self, x, t):
        self.asked.append((tuple(x.shape[2:]), t.min().item(), t.max().item()))
        return self.conv(x)


def test_a_foreign_network_learns_by_its_own_recipe():
    "Rejects a run that trains the network of the preset in its place (a race was run so), steps that count from 1, sides it can't halve, our table."
    net = Theirs()
    before = net.conv.weight.detach().clone()
    sched = schedule_from_alpha_bar(linear_schedule(50).alpha_bar)
    run = same_minutes.foreign_run(same_minutes.Foreign(net, 4, lambda net, x, t: net(x, t)), Recipe(target='eps', steps=9, batch=8, warmup=0), sched, DATA, seed=3, lr=0.1)
    same_minutes.train_for(run, 60)
    assert not torch.equal(net.conv.weight, before) and len(net.asked) == len(run.losses) == 9
    assert {side for side, *_ in net.asked} == {(8, 8)} and min(low for _, low, _ in net.asked) >= 0 and max(high for *_, high in net.asked) <= 49
    assert torch.equal(run.sched.alpha_bar, sched.alpha_bar) and (run.recipe.lr, run.recipe.seed, run.bf16) == (0.1, 3, False)


def test_what_learned_nothing_makes_no_row(monkeypatch):
    "Rejects a row of first weights."
    system = lambda data, seconds, seed: same_minutes.foreign_run(Theirs(), Recipe(target='eps', steps=2, batch=8, warmup=0, lr=1e-30, weight_decay=0), linear_schedule(50), data, seed)
    monkeypatch.setitem(same_minutes.SYSTEMS, 'idle', system)
    try: same_minutes.trained('idle', 'published', 0, DATA, 60)
    except RuntimeError as e: assert 'idle: nothing was learned' in str(e)
    else: raise AssertionError('a row of a network that learned nothing')


def test_the_best_setting_has_the_smallest_loss():
    "Rejects the largest, and the last."
    trials = [dict(system='a', setting=s, loss=v) for s, v in (('x', 2.0), ('y', 1.0), ('z', 3.0))]
    assert same_minutes.best_settings(trials) == {'a': 'y'}


@pytest.mark.parametrize('name', sorted(p.stem for p in Path(same_minutes.__file__).parent.glob('[a-z]*.py')))
def test_to_import_a_benchmark_changes_nothing(name):
    "Rejects a weight or a target of one table that `--help` then offers to all: two programs added theirs when imported."
    importlib.import_module(f'benchmarks.{name}')
    assert list(targets) == ['eps', 'x_0', 'v'] and list(weights) == ['uniform', 'min_snr']


def test_dialects_are_judged_by_one_error_and_tuned_by_it():
    "Rejects an error that leaves the signal rate out, or shows each dialect another noise; a rate chosen for the largest error, or from another dialect's."
    x_0 = torch.rand(300, 1, 6, 6)*2 - 1
    nothing = dialects.errors(lambda x, t: torch.zeros_like(x), x_0)   # x_0_hat is x_0 + sigma eps
    assert nothing == dialects.errors(lambda x, t: torch.zeros_like(x), x_0)
    for sigma, error in zip(dialects.LEVELS, nothing): assert abs(error/sigma**2 - 1) < 0.08   # 4 standard errors of 10,800 squares, and the nearest step
    tried = [dict(dialect=name, lr=lr, error=abs(lr - best)) for name, best in zip(dialects.DIALECTS, (1, 2, 4, 2, 1)) for lr in (1, 2, 4)]
    assert list(dialects.best_rates(tried).values()) == [1, 2, 4, 2, 1]


def test_labels_are_set_apart_from_images_of_another_label():
    "Rejects the image itself or one of its own label as the one to be far from; and a push where there is no other."
    x_0, t, eps = torch.randn(4, 1, 2, 2), torch.full((4,), 5), torch.randn(4, 1, 2, 2)
    look = lambda labels: ingredients.set_apart(lambda x_t, t, y: torch.zeros_like(x_t), linear_schedule(50), x_0, t, eps, torch.tensor(labels), distance=mean_square, share=0.5)
    size = x_0.square().mean((1, 2, 3))
    assert torch.allclose(look([0, 0, 1, 1]), size - 0.5*size[[2, 2, 0, 0]]) and torch.allclose(look([3, 3, 3, 3]), size)


@pytest.mark.parametrize('share', [0.03, 0.2, 0.33])
def test_an_average_of_the_last_share_is_that_old(share):
    "Rejects a power that is off by one: the mean age is the share of the run, however long."
    net = nn.Linear(1, 1)
    average, n = ingredients.LastShare(net, share), 3000
    for k in range(n):
        net.weight.data.fill_(k)
        average.update(net, k)
    assert 1 - average.shadow[0].item()/n == pytest.approx(share, rel=0.02)


def test_the_record_board_stops_its_clock_and_says_what_a_rerun_should_bring(monkeypatch):
    "Rejects a training that goes on after the time, a peer at another setting or in the wrong precision, an interval of the mean for that of the next seed."
    recipe = Recipe(target='eps', steps=10**6, batch=8, warmup=0)
    system = lambda data, seconds, seed, **setting: same_minutes.foreign_run(Theirs(), recipe, linear_schedule(50), data, seed, **setting)
    monkeypatch.setitem(record.SYSTEMS, 'peer', system)
    monkeypatch.setattr(record, 'best_settings', lambda trials: {'peer': 'batch 16, rate 0.002'})
    plain, run = (record.of_peer('peer', DATA, 1, precision) for precision in ('float32', 'bf16'))
    assert (plain.bf16, run.bf16, run.recipe.batch, run.recipe.lr, run.recipe.seed) == (False, True, 16, 0.002, 1)
    began = time.time()
    record.train_until(run, began + 0.5)
    assert 0 < len(run.losses) < 10**6 and 0.5 <= time.time() - began
    rows = [dict(system=s, precision='bf16', KID=v) for s, v in (('a', 0.4), ('a', 0.5), ('a', 0.6), ('b', 0.1))]
    first, second = record.board(rows)
    assert (first['system'], first['half'], second['seeds']) == ('b', None, 3)
    assert second['mean'] == pytest.approx(0.5) and second['half'] == pytest.approx(4.303*0.1*(4/3)**0.5)


@pytest.mark.parametrize('asked', [['--rounds', '1'], ['--threads', '0']])
def test_a_number_that_gives_no_table_is_refused_before_any_work(asked, monkeypatch, capsys):
    "Rejects an hour of measuring that ends in 'must have at least two data points'."
    from benchmarks import __main__ as program
    monkeypatch.setattr('sys.argv', ['benchmarks', *asked])
    monkeypatch.setattr(program, 'PARTS', dict(sampler=lambda *a: pytest.fail('work was begun')))
    with pytest.raises(SystemExit): program.main()
    assert 'wanted --rounds 2 or more' in capsys.readouterr().err


BENCHMARKS = Path(same_minutes.__file__).parent
PLACES = {p.stem: re.findall(r"own_table\('([^']+)'\).*?(?:default='([^']+)'|required|\))", p.read_text(encoding='utf-8')) for p in sorted(BENCHMARKS.glob('*.py')) if p.stem != 'measure' and 'write_table(' in p.read_text(encoding='utf-8')}


@pytest.mark.parametrize('name', PLACES)
def test_a_program_writes_over_no_table_of_others(name, monkeypatch, tmp_path, capsys):
    "Rejects hours of measuring that end by replacing what somebody keeps there, or by mixing their rows into it."
    precious, places = tmp_path/'precious.csv', PLACES[name]
    precious.write_text('a,b\n1,2\n')
    monkeypatch.setattr('sys.argv', [name, '--out', str(precious)])
    with pytest.raises(SystemExit): runpy.run_module(f'benchmarks.{name}', run_name='__main__')
    assert 'the table wanted a new name' in capsys.readouterr().err and precious.read_text() == 'a,b\n1,2\n'
    for heading, usual in places:
        if usual and (BENCHMARKS.parent/usual).exists(): assert own_table(heading)(BENCHMARKS.parent/usual) == BENCHMARKS.parent/usual


def test_pictures_are_written_beside_those_that_are_there(tmp_path):
    for _ in range(3): beside(tmp_path/'a.png').touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a-again-again.png', 'a-again.png', 'a.png']


TRIED = [ingredients.BASE | changes for _, _, changes in ingredients.TRAININGS] + [changes for _, _, changes in ingredients.SINCE]


@pytest.mark.parametrize('changes', TRIED, ids=lambda c: '-'.join(f'{k}={v}' for k, v in c.items()) or 'preset')
def test_every_training_of_the_ingredients_takes_a_step(changes, monkeypatch):
    "One whose weight did not know its target ended the measurement half-way."
    for table, own in (targets, ingredients.SPREAD), (weights, ingredients.AS_X_0):
        for name, value in own.items(): monkeypatch.setitem(table, name, value)
    data = Images(torch.arange(4*16*16, dtype=torch.uint8).view(4, 1, 16, 16), torch.arange(4), tuple('abcd'), 'slopes')
    run = same_minutes.preset_run('laptop', data, **changes | dict(batch=4), steps=2, warmup=1)
    next(run.steps())
    assert run.losses[0].isfinite()
