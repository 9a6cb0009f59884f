"""Exercises that the book itself can check: those whose answer is a number, or one line of arithmetic. Truths and known mistakes go
there as hashes of rounded results, so that a look at the file is not a look at the answers.
"""
import hashlib
import html
import json
import math
import re

import torch

from ddpm_lesson.exam.cases import Unfit, schedules
from ddpm_lesson.exam.grade import _cases, _params, exercises, outcomes

ONE_LINE = {  # exercises -> what stands for the answer in the box
    '00-ghost': 'a number', '00-spread': 'std**2 + ...', '01-rounding': 'a number', '03-std': 'sqrt(...)', '03-shared': 'sqrt(...)*...',
    '04-var': 'sched.beta[t]*...', '05-coin': '(x_t - ...)/...', '05-doubt': 'd**2*...', '07-factor': '(...)/(...)', '08-huber': 'a number',
    '09-weight': 'sched.beta[t]/...', '09-ends': 'error*...', '10-half-life': 'log(...)/...', '10-first': 'mean(sched.alpha_bar[1:]) + ...', '11-limit': '(...)/(...)',
    '12-mean': 'm*(...)', '13-classifier': '2*a*...', '13-cancel': 'c/...', '14-coin-var': '1 - ...', '14-langevin': 'v*...', '15-calls': 'a number',
    '15-gap': 'sqrt(sum(...) + ...)', '15-heun': '1 + ...', '16-level': '(1 - tau)**2/...', '16-median': 'a number', '17-cell': '-(...)/log(2)', '17-mostly': 'a number',
    '18-kept': 'alpha_bar*std**2/...', '18-strong': '1 + ...', '19-apart': 'a number', '19-demand': 'v - ...', '19-rounds': 'a number', '20-pairs-cost': 'a number', '20-larger': 'a number', '20-block': '...*d**2 + ...', '22-floor': 'sqrt(...)', '22-forgotten': '1/...', '21-flops': 'c_in*c_out*...', '21-roof': 'max(...)', 'M-eta': 'a number',
}


# Results as words: rounded on a logarithmic grid whose cells are as wide as the tolerance

def tolerance(ex, truth):
    "The relative error that passes."
    least = min((abs(v) for v in truth if v), default=1.0)
    return max(ex.rtol, 1e-6) + (ex.atol/least if ex.inputs is None else 0)


def word(value, width):
    "A number's cell on the grid, as formula.mjs names it; one cell to either side is near enough."
    if abs(value) <= 1e-9: return '0'
    return f'{"-" if value < 0 else ""}{math.floor(math.log(abs(value))/width + 0.5)}'


def hashed(name, case, place, said): return hashlib.sha256(f'{name}/{case}/{place}/{said}'.encode()).hexdigest()[:8]


def results(ex, answer):
    "What an answer gives on each case: lists of floats; None if it gives none that can be compared."
    try: return [[float(v) for part in out for v in part.double().flatten()] for out in outcomes(ex, answer)]
    except (Unfit, ValueError, TypeError, RuntimeError, ArithmeticError): return None


def hashes(ex, answer, width):
    found = results(ex, answer)
    if found is None or not all(map(math.isfinite, (v for case in found for v in case))): return None
    return [[hashed(ex.name, i, k, word(v, width)) for k, v in enumerate(case)] for i, case in enumerate(found)]


# Arguments

def plain(arg):
    "An argument as JSON holds it: a number, a list of numbers, or the name of a schedule."
    if isinstance(arg, (int, float)) or isinstance(arg, list) and all(isinstance(v, (int, float)) for v in arg): return arg
    if isinstance(arg, torch.Tensor) and arg.numel() == arg.shape[0]: return arg.flatten().tolist()
    for name, sched in schedules().items():
        if hasattr(arg, 'alpha_bar') and torch.equal(arg.alpha_bar, sched.alpha_bar): return {'sched': name}
    raise TypeError(f'the book has no way to write down {arg!r:.60}')


def record(ex):
    "What the page needs to know of an exercise."
    width = tolerance(ex, [v for case in results(ex, ex.truth) for v in case])
    cases = _cases(ex)
    right = hashes(ex, ex.truth, width)
    mistakes = {said: found for said, wrong in ex.mutants.items() if (found := hashes(ex, wrong, width)) and found != right}
    return dict(name=ex.name, names=_params(ex) if ex.inputs else [], width=width, cases=[dict(args=[plain(a) for a in c.args], where=c.where) for c in cases] or [dict(args=[], where='')], right=right, mistakes=mistakes)


def stage_answers(folder):
    "A file an exercise, fetched when somebody answers."
    folder.mkdir()
    for name in ONE_LINE: (folder/f'{name}.json').write_text(json.dumps(record(exercises[name])), encoding='utf-8')


# The boxes

def box(name):
    ex = exercises[name]
    call = f'f({", ".join(_params(ex))}) =' if ex.inputs else 'The number:'
    return (f'<form class="answer" data-exercise="{name}" hidden><label><span>{html.escape(call)}</span> <input name="line" type="text" maxlength="300" autocomplete="off" autocapitalize="off" spellcheck="false" placeholder="{html.escape(ONE_LINE[name])}"></label> '
            f'<button>Check</button><p role="status" class="said">Answer here, in one line of Python, or in the notebook.</p></form>')


def with_boxes(cells):
    "The cells of a page, and below each exercise that the book can check a box for the answer."
    for cell in cells:
        yield cell
        found = re.search(r"\bcheck\('([\w-]+)'", ''.join(cell['source'])) if cell['cell_type'] == 'code' else None
        if found and found[1] in ONE_LINE: yield {'cell_type': 'markdown', 'id': f'box-{found[1]}', 'metadata': {}, 'source': box(found[1])}


def tally():
    "For the page on progress: what this browser remembers."
    return f'<form class="tally" data-exercises="{html.escape(json.dumps(list(ONE_LINE)))}" hidden><p class="said" role="status"></p><button type="button">Forget them</button></form>\n'
