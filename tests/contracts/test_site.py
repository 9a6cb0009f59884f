"""The book and its live page: built once, then read by a parser, by Node and by Chromium.

What is missing is installed where that can be done (Chromium by apt, as root); where it can't, the tests skip and say what they lack.
"""
import ast
import base64
import contextlib
import functools
import gzip
import hashlib
import html
import http.server
import importlib
import io
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from urllib.parse import parse_qs, unquote, urldefrag, urlencode, urlparse

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from conftest import Stub
from ddpm_lesson.data import to_pixels
from ddpm_lesson.engine.cards import build
from ddpm_lesson.engine.run import make_card
from ddpm_lesson.exam.grade import exercises
from ddpm_lesson.exam.museum import exact_step_error
from ddpm_lesson.guidance import Guided
from ddpm_lesson.oracle import FiniteData, GaussianMixture
from ddpm_lesson.pretrained import load_card, load_pretrained, save_model
from ddpm_lesson.sampler import ddim_steps, ddpm_steps, image_noise, trailing
from ddpm_lesson.schedule import cosine_schedule, diagnose, linear_schedule, rate_schedule, schedule_from_alpha_bar
from ddpm_lesson.train import Recipe

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tools'))
make_site, export_onnx, run_nbs, site_answers, site_finish, site_live, site_play, site_sharp, site_styles, site_trim = map(importlib.import_module, (
    'make_site', 'export_onnx', 'run_nbs', 'site_answers', 'site_finish', 'site_live', 'site_play', 'site_sharp', 'site_styles', 'site_trim'))

REPOSITORY = 'https://github.com/someone/ddpm_lesson'
ADDRESS = 'https://someone.github.io/ddpm_lesson/'
SHOWN = ('index.html', 'nbs/03_forward.html', 'live.html', 'play.html', 'schedule.html')  # looked at most closely


# What the tests need

def needs(*programs):
    "The first of these programs, or skip."
    found = next(filter(None, map(shutil.which, programs)), None)
    if not found: pytest.skip(f'wanted {" or ".join(programs)}, and found none')
    return found


@pytest.fixture(scope='session')
def chromium():
    "How Chromium is started; Debian's, installed if we may."
    names = 'chromium', 'chromium-browser', 'google-chrome'
    if not any(map(shutil.which, names)) and hasattr(os, 'geteuid') and os.geteuid() == 0 and shutil.which('apt-get'):
        for command in ('update',), ('install', '-y', '--no-install-recommends', 'chromium'):
            subprocess.run(['apt-get', '-qq', *command], stdout=subprocess.DEVNULL, env=os.environ | {'DEBIAN_FRONTEND': 'noninteractive'})
    path = needs(*names)
    return dict(executable_path=path, args=['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else [])


FIREFOX = os.environ.get('DDPM_LESSON_BROWSER') == 'firefox'  # else Chromium


chromium_only = pytest.mark.skipif(FIREFOX, reason="tries printing, the clipboard, or what the reader's system asks for, which not every Playwright does in Firefox")
UNFINISHED = re.compile('Incorrect number of children for <m')  # Firefox says so of a formula of which it has read half; see test_formulas_for_voices_are_whole


def firefox(p):
    "How Firefox is started: Playwright's own, else Debian's, which a Playwright up to 1.63 can drive."
    if Path(p.firefox.executable_path).exists(): return {}
    return dict(channel='moz-firefox', executable_path=needs('firefox-esr', 'firefox'))


@pytest.fixture(scope='session')
def browser(request):
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as p:
        browser = p.firefox.launch(**firefox(p)) if FIREFOX else p.chromium.launch(**request.getfixturevalue('chromium'))
        yield browser
        browser.close()


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The book, built once; or one that is built already, while a test is being written."
    if ready := os.environ.get('DDPM_LESSON_BOOK'): return Path(ready)
    needs('npm')
    out = tmp_path_factory.mktemp('site')/'book'
    subprocess.run([sys.executable, ROOT/'tools'/'make_site.py', '--out', out, '--repository', REPOSITORY], check=True)
    return out


@contextlib.contextmanager
def serving(site):
    "The book's address on this machine, while it is served."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, '.mjs': 'text/javascript', '.wasm': 'application/wasm'}
        def log_message(self, *_): pass
    class Server(http.server.ThreadingHTTPServer): request_queue_size = 128
    with Server(('127.0.0.1', 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


@pytest.fixture(scope='session')
def served(site):
    "The book's address, for the session."
    with serving(site) as address: yield address


@pytest.fixture
def visit(browser, served):
    "A function that opens a page; afterwards nothing may have gone wrong on any page it opened, nor may any have asked another host."
    contexts, wrong = [], []

    def visit(path, page=None, **options):
        if page is None:
            context = browser.new_context(**{'viewport': dict(width=1300, height=900), 'service_workers': 'block', **options})
            contexts.append(context)
            page = context.new_page()
            page.set_default_timeout(120_000)  # a busy machine is no error
            fault = lambda said: UNFINISHED.search(said) or wrong.append(f'{page.url}: {said}')
            page.on('console', lambda m: m.type == 'error' and fault(m.text))
            page.on('pageerror', lambda e: fault(str(e)))
            page.on('request', lambda r: r.url.startswith((served, 'data:', 'blob:')) or wrong.append(f'{page.url} asks for {r.url}'))
        page.goto(served + path)
        return page

    yield visit
    for context in contexts: context.close()
    assert not wrong, '\n'.join(wrong)


MODULES = 'sampler', 'oracle', 'mistakes', 'worlds', 'packed', 'clinic', 'garments', 'pad', 'formula', 'answers'


def node(script, data):
    "What a script of ES modules prints as JSON, given `data`; our files are `sampler`, `oracle` and so on."
    files = ''.join(f"import * as {name} from {json.dumps((ROOT/'site'/'_static'/f'{name}.mjs').as_uri())};\n" for name in MODULES)
    code = f"{files}const data = JSON.parse(await new Response(process.stdin).text());\n{script}"
    code = code.replace('await new Response(process.stdin).text()', "(await import('node:fs')).readFileSync(0, 'utf8')")
    run = subprocess.run([needs('node'), '--input-type=module', '-e', code], input=json.dumps(data), capture_output=True, text=True)
    assert not run.returncode, run.stderr
    return json.loads(run.stdout)


# The exported network

def test_exported_network_is_the_model(tmp_path):
    pytest.importorskip('onnxruntime')
    path = site_live.onnx_file(make_site.BUILD)
    assert max(export_onnx.difference('fashion', path, B) for B in (1, 2, 7)) < 1e-4
    model, _ = load_pretrained('fashion')
    x_t, t, y = export_onnx.example(load_card('fashion'), 7, seed=1)
    assert y[-1] == 10 and t.min() >= 1
    with torch.inference_mode():
        assert_close(model(x_t[-1:], t[-1:], y[-1:]), model(x_t[-1:], t[-1:]))          # label 10 is no label
        assert (model.net(x_t, t, y) - model(x_t, t, y)).abs().max() > 0.1              # the popular mistake: the bare network, which says v
    assert path.stat().st_size < 6.5e6  # float16, which these weights are


def test_a_model_of_other_images_is_exported_too(tmp_path):
    "Rejects an exporter that knows squares and labels only."
    pytest.importorskip('onnxruntime')
    card = make_card(dict(channels=3, width=8, mults=[1], blocks=1, attend=[]), Recipe(), T=20, size=[8, 12])
    save_model(tmp_path/'m.safetensors', build(card)[0].net, card)
    export_onnx.export(tmp_path/'m.safetensors', tmp_path/'m.onnx')
    assert export_onnx.difference(tmp_path/'m.safetensors', tmp_path/'m.onnx') < 1e-4


# The sampler in JavaScript

STUB = 'x => t => x.map(v => { const shift = Math.sin(t*0.37); return Math.tanh(v*0.7 + shift) + 0.3*shift; })'


class Exact(Stub):
    "The stub with its weight in float64, as JavaScript has it."
    def __init__(self):
        super().__init__()
        self.double()
        torch.nn.init.constant_(self.weight, 0.7)


WALKS = [('ddim', 50, 0.0, None), ('ddim', 7, 0.5, (-1, 1)), ('ddim', 16, 1.0, (-1, 1)), ('ddpm', 16, None, (-1, 1)), ('ddpm', 1, None, None), ('ddpm', 300, None, None)]


def walk_in_js(sampler, steps, eta, clip, x_T, noises, alpha_bar):
    script = f'''
    const stub = {STUB}, noises = data.noises.map(z => Float64Array.from(z));
    const ts = sampler.trailing(1000, data.steps);
    const coefs = data.sampler === 'ddim' ? sampler.ddimCoefs(data.alpha_bar, ts, data.eta) : sampler.ddpmCoefs(data.alpha_bar, ts);
    const frames = [];
    for await (const f of sampler.walk(async (x, t) => stub(x)(t), data.alpha_bar, Float64Array.from(data.x_T), ts, coefs, () => noises.shift(), data.clip)) frames.push([f.t, [...f.x_t], [...f.x_0_hat]]);
    console.log(JSON.stringify(frames));'''
    return node(script, dict(sampler=sampler, steps=steps, eta=eta, clip=clip, x_T=x_T.flatten().tolist(), noises=[z.flatten().tolist() for z in noises], alpha_bar=alpha_bar.tolist()))


def walk_in_python(sampler, steps, eta, clip, x_T, seed, sched):
    options = dict(steps=steps, clip=clip, x_T=x_T, seeds=[seed])
    walk = ddim_steps(Exact(), sched, x_T.shape, eta=eta, **options) if sampler == 'ddim' else ddpm_steps(Exact(), sched, x_T.shape, **options)
    return [(t, x_t.flatten(), x_0_hat.flatten()) for t, x_t, x_0_hat in walk]


@pytest.mark.parametrize('sampler, steps, eta, clip', WALKS)
def test_javascript_walks_as_python_does(sampler, steps, eta, clip):
    sched, x_T = cosine_schedule(), torch.randn(1, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    draw = image_noise((1, 16), [3], 'cpu')
    noises = [draw() for _ in range(steps + 1)][1:]  # x_T is given, so the first draw is passed over
    ours, theirs = walk_in_python(sampler, steps, eta, clip, x_T, 3, sched), walk_in_js(sampler, steps, eta, clip, x_T, noises, sched.alpha_bar)
    assert [t for t, *_ in ours] == [t for t, *_ in theirs] and len(ours) == steps + 1
    for (_, *a), (_, *b) in zip(ours, theirs): assert_close(torch.stack(a), torch.tensor(b, dtype=torch.float64), rtol=1e-9, atol=1e-11)
    if steps > 1 and eta != 0:  # the popular mistake: no fresh noise
        with pytest.raises(AssertionError): assert_close(ours[-1][1], torch.tensor(walk_in_js('ddim', steps, 0, clip, x_T, noises, sched.alpha_bar)[-1][1], dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_javascript_rounds_and_spaces_steps_as_python_does():
    got = node('console.log(JSON.stringify(data.map(S => sampler.trailing(1000, S))))', list(range(1, 1001)))
    assert got == [trailing(1000, S) for S in range(1, 1001)]
    halves = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4, 62.5]
    assert node('console.log(JSON.stringify(data.map(x => sampler.round(x))))', halves) == [round(x) for x in halves]


@pytest.mark.parametrize('seed', [0, 7, 2**32 - 1])
def test_javascript_draws_the_noise_of_a_seed_as_pytorch_does(seed):
    draws = node('const draw = sampler.torchNoise(data); console.log(JSON.stringify([0, 1, 2].map(() => [...draw(784)])))', seed)
    noise = image_noise((1, 784), [seed], 'cpu')
    for drawn in draws: assert_close(torch.tensor([drawn]), noise(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('y, scale', [(3, 1.0), (3, 2.5), (10, 2.5)])
def test_javascript_guides_as_python_does(y, scale):
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = lambda x_t, t, y=None: torch.sin(x_t*(10 if y is None else y.double().reshape(-1, 1)) + t.double().reshape(-1, 1))
    script = '''const net = async (x, t, labels) => x.map((v, k) => Math.sin(v*labels[Math.floor(k*labels.length/x.length)] + t));
    console.log(JSON.stringify([...await sampler.guided(net, data.y, 10, data.scale)(Float64Array.from(data.x), 5)]));'''
    got = torch.tensor([node(script, dict(x=x[0].tolist(), y=y, scale=scale))], dtype=torch.float64)
    assert_close(got, Guided(net, torch.tensor([y]), scale)(x, torch.tensor([5])), rtol=1e-12, atol=1e-12)
    many = script.replace('data.scale)', 'data.scale, 2)')  # a wrong program: labels for the first image only
    assert node(many, dict(x=x[0].tolist()*2, y=y, scale=scale)) == got[0].tolist()*2


# The playground's denoisers and mistakes in JavaScript

POINTS = torch.tensor([[-0.7, -0.2], [0.4, 0.9], [0.1, -0.5]], dtype=torch.float64)
SCHEDULES = dict(cosine=cosine_schedule(), linear=linear_schedule(), rate=rate_schedule())


def test_javascript_has_pythons_schedules():
    tables = node('console.log(JSON.stringify({cosine: oracle.schedules.cosine(), linear: oracle.schedules.linear(), rate: oracle.schedules.rate()}))', 0)
    for name, sched in SCHEDULES.items(): assert_close(torch.tensor(tables[name], dtype=torch.float64), sched.alpha_bar.double(), rtol=1e-12, atol=0)
    with pytest.raises(AssertionError): assert_close(torch.tensor(tables['cosine'], dtype=torch.float64), SCHEDULES['linear'].alpha_bar.double(), rtol=1e-2, atol=0)


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('std', [0, 0.2])
def test_javascript_oracle_is_pythons(name, std):
    "A wrong program: a softmax without its largest subtracted first, NaN far out and at t = 1; a variance without the spread."
    sched = SCHEDULES[name]
    x = torch.cat([POINTS, torch.tensor([[3., -3.], [40., 7.]], dtype=torch.float64), torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)])
    world = FiniteData(POINTS, sched) if std == 0 else GaussianMixture(torch.ones(3), POINTS, std, sched)
    script = '''const model = oracle.oracle(data.means, data.std, data.alpha_bar);
    console.log(JSON.stringify(data.ts.map(t => [...model(Float64Array.from(data.x), t)])));'''
    ts = [1, 2, 30, 250, 700, 1000]
    got = node(script, dict(means=POINTS.flatten().tolist(), std=std, alpha_bar=sched.alpha_bar.tolist(), x=x.flatten().tolist(), ts=ts))
    for t, eps in zip(ts, got): assert_close(torch.tensor(eps, dtype=torch.float64).reshape(-1, 2), world(x, t), rtol=1e-6, atol=1e-6)


def test_javascript_density_is_the_mixtures():
    sched, std, x = SCHEDULES['cosine'], 0.2, torch.randn(20, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    script = 'console.log(JSON.stringify(data.ts.map(t => [...oracle.logDensity(data.means, data.std, data.alpha_bar, data.x, t)])))'
    ts = [1, 400, 1000]
    got = node(script, dict(means=POINTS.flatten().tolist(), std=std, alpha_bar=sched.alpha_bar.tolist(), x=x.flatten().tolist(), ts=ts))
    for t, logs in zip(ts, got):
        a = sched.alpha_bar[t].double()
        parts = torch.distributions.Normal(a.sqrt()*POINTS, (a*std**2 + 1 - a).sqrt()).log_prob(x[:, None]).sum(2)
        assert_close(torch.tensor(logs, dtype=torch.float64), parts.logsumexp(1) - math.log(3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('pixels', [784, 12288])
@pytest.mark.parametrize('name', ['cosine', 'linear', 'rate', 'short', 'coarse', 'own'])
def test_javascript_diagnoses_as_python_does(name, pixels):
    u, rates = [0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1], [1, 0.9, 0.8, 0.6, 0.599, 0.3, 0.2, 0.01]
    bent = np.interp(np.arange(101)/100, u, rates)
    others = dict(short=linear_schedule(300), coarse=cosine_schedule(20), own=schedule_from_alpha_bar(torch.from_numpy(bent**2)))
    sched = (SCHEDULES | others)[name]
    got = node('''const table = data.rates ? clinic.fromRates(data.u, data.rates, 100) : data.alpha_bar;
    console.log(JSON.stringify(clinic.diagnose(table, data.pixels)))''', dict(alpha_bar=sched.alpha_bar.tolist(), pixels=pixels, u=u, rates=rates if name == 'own' else None))
    wanted = diagnose(sched, pixels)
    assert got.pop('advice') == list(wanted.advice)
    for field, value in got.items(): assert math.isclose(value, getattr(wanted, field), rel_tol=1e-6), field


def step_of(name, sched, eta):
    "The museum's programs, for the switches of the playground."
    ab = sched.alpha_bar.double()
    x_0_of = lambda x, e, t: (x - (1 - ab[t]).sqrt()*e)/ab[t].sqrt()
    sigma = lambda t, s: eta*((1 - ab[t]/ab[s])*(1 - ab[s])/(1 - ab[t])).sqrt()
    def right(x, e, t, s, z, again=1.0): return ab[s].sqrt()*x_0_of(x, e, t) + (1 - ab[s] - sigma(t, s)**2).clamp(min=0).sqrt()*e + again*sigma(t, s)*z
    return {
        'none': right, 'last': lambda x, e, t, s, z: right(x, e, t, s, z) + (s == 0)*(1 - ab[t]).sqrt()*z,
        'entry': lambda x, e, t, s, z: right(x, (x - ab[t].sqrt()*x_0_of(x, e, t - 1))/(1 - ab[t]).sqrt(), t, s, z),
        'twice': lambda x, e, t, s, z: right(x, e, t, s, z, again=eta), 'clamp': lambda x, e, t, s, z: right(x, e, t, s, z).clamp(-1, 1),
        'direction': lambda x, e, t, s, z: ab[s].sqrt()*x_0_of(x, e, t) + sigma(t, s)*e + sigma(t, s)*z,
    }[name]


@pytest.mark.parametrize('eta', [0, 0.5, 1])
@pytest.mark.parametrize('name', ['none', 'last', 'entry', 'twice', 'clamp', 'direction'])
def test_the_playgrounds_mistakes_are_the_museums(name, eta):
    sched = linear_schedule()
    script = '''const ts = sampler.trailing(1000, 10), parts = {alphaBar: data.alpha_bar, ts, eta: data.eta, coefs: sampler.ddimCoefs(data.alpha_bar, ts, data.eta)};
    console.log(JSON.stringify((await mistakes.exactErrors(parts, data.name)).map(e => e === Infinity ? 'inf' : e)));'''
    got = torch.tensor([float(e) for e in node(script, dict(alpha_bar=sched.alpha_bar.tolist(), eta=eta, name=name))], dtype=torch.float64)
    wanted = exact_step_error(step_of(name, sched, eta), sched, 10)
    assert_close(got, wanted, rtol=1e-6, atol=1e-9)
    harmless = name == 'none' or name == 'twice' and eta != 0.5
    assert bool((wanted < 1e-9).all()) == harmless


def test_a_drawing_survives_the_address():
    "Wrong programs: one that swaps the two greys of a byte; one that takes a word of another length."
    levels = [(7*k + k//28) % 16 for k in range(784)]
    got = node("const word = pad.written(data), back = pad.parsed(word); console.log(JSON.stringify([word, [...back], [...pad.toLevels(pad.toData(back))], ...['', 'x', word + 'A', '<' + word.slice(1)].map(pad.parsed)]))", levels)
    assert got[1] == got[2] == levels and got[3:] == [None]*4
    pairs = list(base64.urlsafe_b64decode(got[0]))
    assert [v for p in pairs for v in (p >> 4, p & 15)] == levels  # what the Python on the page does


def test_points_survive_the_address():
    back = node("console.log(JSON.stringify([worlds.parsed(worlds.written(data)), ...['', '<b>1.2</b>', '1.2', '999.5_10.-20', '1e9.1', 'NaN.NaN', '_', '5.5.5'].map(worlds.parsed), worlds.parsed('1.1_'.repeat(999) + '1.1').length]))", POINTS.tolist())
    assert torch.allclose(torch.tensor(back[0], dtype=torch.float64), POINTS)
    assert all(abs(v) <= 2 for points in back[1:-1] for p in points for v in p) and back[1] == [] and back[-1] <= 200


def test_what_is_packed_comes_back(tmp_path):
    unpacker = tmp_path/'xz.mjs'
    unpacker.write_text(site_live.as_module((make_site.npm('xz-decompress')/'dist'/'package'/'xz-decompress.min.js').read_text(encoding='utf-8')), encoding='utf-8')
    data = bytes(range(256))*3 + b'odd'
    packed = base64.b64encode(site_live.packed(data, shuffle=True)).decode()
    script = '''const url = 'data:application/octet-stream;base64,' + data.packed, counts = [], xz = import(data.unpacker).then(m => m.XzReadableStream);
    globalThis.location = 'file:///';
    const bytes = packed.woven(await packed.unpacked(url, xz, n => counts.push(n)));
    console.log(JSON.stringify({bytes: [...bytes], count: counts.reduce((a, b) => a + b)}))'''
    got = node(script, dict(packed=packed, unpacker=unpacker.as_uri()))
    assert bytes(got['bytes']) == data and got['count'] == len(base64.b64decode(packed))


# The runtime without what is never used

def little_program():
    "WebAssembly whose exported functions are `one`, which calls the first of two others by name, and `two`, which returns 2."
    func = lambda *code: bytes([len(code) + 2, 0, *code, 0x0b])
    export = lambda name, kind, k: bytes([len(name)]) + name + bytes([kind, k])
    bodies = [func(0x10, 2), func(0x41, 2), func(0x41, 1), func(0x41, 3)]   # call 2; 2; 1; 3
    content = {1: b'\1\x60\0\1\x7f', 3: b'\4\0\0\0\0', 6: b'\0', 7: b'\2' + export(b'one', 0, 0) + export(b'two', 0, 1), 10: b'\4' + b''.join(bodies)}
    return site_trim.program(content)


TRIED = """const tried = async bytes => { const {exports} = (await WebAssembly.instantiate(Uint8Array.from(bytes))).instance; return [exports, ['one', 'two'].map(name => { try { return exports[name](); } catch (e) { return e.message; } })]; };"""


def test_what_the_runtime_never_uses_is_left_out():
    "Wrong programs: one that leaves out what a function that ran can call by name; one that lets a missing function go on with nothing."
    whole = little_program()
    script = f"{TRIED} const [exports, said] = await tried(data); console.log(JSON.stringify([said, [0, 1, 2, 3].map(k => exports[`f${{k}}`]?.value ?? null)]));"
    assert node(script, list(whole)) == [[1, 2], [None]*4] and node(script, list(site_trim.noting(whole))) == [[1, 2], [1, 1, 1, 0]]
    parts = site_trim.sections(whole) | {2: b'\0'}
    kept = site_trim.reached(site_trim.program(parts), [0])
    assert kept == {0, 2}
    assert node(script, list(site_trim.trimmed(whole, kept)))[0] == [1, 'unreachable']
    assert node(script, list(site_trim.trimmed(whole, {0})))[0] == ['unreachable']*2
    with pytest.raises(SystemExit, match='WebAssembly'): site_trim.sections(b'no program')
    assert [site_trim.number(site_trim.leb(n), 0)[0] for n in (0, 127, 128, 300, 2**32 - 1)] == [0, 127, 128, 300, 2**32 - 1]


# Answers in the page

RIGHT = {  # exercise: a line that answers it
    '00-ghost': '-0.17', '00-spread': 'std**2 + weights @ means**2 - (weights @ means)**2', '01-rounding': '2/255/sqrt(12)', '03-std': 'sqrt(1 - sched.alpha_bar[t])',
    '03-shared': 'sqrt(sched.alpha_bar[t]/sched.alpha_bar[s])*(1 - sched.alpha_bar[s])', '04-var': 'sched.beta[t]*(1 - sched.alpha_bar[t - 1])/(1 - sched.alpha_bar[t])',
    '05-coin': '(x_t - sqrt(sched.alpha_bar[t])*tanh(sqrt(sched.alpha_bar[t])*x_t/(1 - sched.alpha_bar[t])))/sched.noise_rate[t]',
    '05-doubt': 'd**2*(1 - sched.alpha_bar[t])/(sched.alpha_bar[t]*d**2 + 1 - sched.alpha_bar[t])', '07-factor': '(sqrt(a_s*a_t)*spread**2 + sqrt((1 - a_s)*(1 - a_t)))/(a_t*spread**2 + 1 - a_t)',
    '08-huber': '0.42466', '09-weight': 'sched.beta[t]/(2*sched.alpha[t]*(1 - sched.alpha_bar[t]))', '09-ends': '(sched.snr[1] - sched.snr[-1])/2*error', '10-half-life': '-log(2)/log(d)',
    '10-first': 'sched.alpha_bar[1:].mean() + mean(1 - sched.alpha_bar[1:])*mean_square', '11-limit': '(large*f_large - small*f_small)/(large - small)', '12-mean': 'm*(1 - a*d/math.sqrt(a**2*d**2 + 1 - a**2))',
    '13-classifier': '2*a*m/v*sigmoid(-2*a*m*x/v)', '13-cancel': 'c/(c - 1)', '14-coin-var': 'return 1 - (a*x_t/c).tanh()**2', '14-langevin': '2*v', '15-calls': '16',
    '15-gap': 'sqrt(sum((mean_a - mean_b)**2) + sum((std_a - std_b)**2))', '15-heun': '1 + (rho_s - rho_t)*(rho_t/(rho_t**2 + spread**2) + rho_s/(rho_s**2 + spread**2)*(1 + (rho_s - rho_t)*rho_t/(rho_t**2 + spread**2)))/2', '16-level': '(1 - tau)**2/((1 - tau)**2 + tau**2)',
    '16-median': '1/(1 + exp(1.2))', '17-cell': '-(log_p/d + log(2/255))/log(2)', '17-mostly': 'log2(100)/784', '18-kept': 'alpha_bar*std**2/(alpha_bar*std**2 + 1 - alpha_bar)', '18-strong': '1 + std**2*(1 - alpha_bar)/(alpha_bar*std**2 + 1 - alpha_bar)/sigma_y**2',
    '19-apart': '2/sqrt(5)', '19-demand': 'v - (tau - r)*slope', '19-rounds': 'log2(1024/4)', '20-pairs-cost': '6', '20-larger': '2**4', '20-block': '18*d**2 + 15*d', '22-floor': 'sqrt(sum(variances[d:]))', '22-forgotten': '1/sqrt(s**2*alpha_bar_T + 1 - alpha_bar_T)',
    '21-flops': '6*c_in*c_out*k**2*(height//stride)*(width//stride)', '21-roof': 'max(flops/peak, moved/bandwidth)', 'M-eta': 'sqrt(0.3)',
}
WRONG = {  # exercise: a line, and the words of the mistake that it makes
    '03-std': ('1 - sched.alpha_bar[t]', 'variance'), '13-cancel': ('1/(c - 1)', 'Not yet'), '17-cell': ('-(log_p/d)/log(2)', 'width of a cell is missing'), '18-kept': ('sqrt(alpha_bar*std**2/(alpha_bar*std**2 + 1 - alpha_bar))', 'ODE'),
    '04-var': ('sched.beta[t]', ''), '21-flops': ('2*c_in*c_out*k**2*(height//stride)*(width//stride)', 'Forward only'), '00-ghost': ('0.17', 'Not yet'), '05-coin': ('1.0', 'numbers were wanted'),
}
JUDGED = "console.log(JSON.stringify(await Promise.all(data.map(([record, line]) => answers.judge(record, line).catch(e => ({right: false, said: e.message}))))))"


def judged(pairs): return node(JUDGED, [(site_answers.record(exercises[name]), line) for name, line in pairs])


def test_answers_in_the_page_are_judged_as_in_the_notebook():
    "Wrong programs: hashes of other names or cases; a grid on which half of the right answers fall into the next cell."
    assert set(RIGHT) == set(site_answers.ONE_LINE)
    assert not [(name, v['said']) for name, v in zip(RIGHT, judged(RIGHT.items())) if not v['right']]
    for (name, (_, words)), verdict in zip(WRONG.items(), judged([(name, line) for name, (line, _) in WRONG.items()])):
        assert not verdict['right'] and words in verdict['said'], (name, verdict)
    near = [('13-cancel', f'c/(c - 1)*(1 + {off})') for off in (3e-7, -3e-7, 3e-6, -3e-6)]
    assert [v['right'] for v in judged(near)] == [True, True, False, False]
    assert not judged([('03-std', RIGHT['03-shared'].replace('s]', 't]'))])[0]['right']


def test_known_mistakes_are_told_by_name_in_the_page():
    "Each wrong number brings its own sentence; and so does a wrong line."
    asked = [(name, repr(results[0][0]), said) for name in RIGHT if exercises[name].inputs is None for said, wrong in exercises[name].mutants.items() if (results := site_answers.results(exercises[name], wrong))]
    asked += [('09-ends', 'error*(sched.snr[1] - sched.snr[-1])', None)]
    verdicts = judged([pair[:2] for pair in asked])
    assert len(asked) > 30 and not [(name, v) for (name, _, said), v in zip(asked, verdicts) if v['right'] or said and v['said'] != f'Not yet. {said}']
    assert verdicts[-1]['said'].removeprefix('Not yet. ') in exercises['09-ends'].mutants


@pytest.mark.parametrize('line', ['', 'sqrt(', '1 +', 'x', 'x^2', 'constructor', '__proto__', 'a.constructor', 'sqrt.constructor("x")', 'sched.alpha_bar[2000]', 'sched.alpha_bar', '(' * 150, '1 2', 'a[0]', 'max()', 'a = 2', '"a"', 'math', 'math.constructor', 'sched.__proto__'])
def test_a_line_that_is_none_says_so(line):
    "Wrong programs: one that hands the line to the browser to run; one that says NaN."
    got = node("try { const v = formula.value(data, {a: 2, sched: {alpha_bar: [1, 0.5]}}); console.log(JSON.stringify(typeof v === 'number' ? 'a number' : 'no number')); } catch (e) { console.log(JSON.stringify(e.constructor.name + ': ' + e.message)); }", line)
    assert got == 'no number' or got.startswith('Error: ')


@pytest.mark.parametrize('name', site_answers.ONE_LINE)
def test_the_file_of_an_exercise_does_not_show_its_answer(name):
    record = site_answers.record(exercises[name])
    for found in record['right'], *record['mistakes'].values(): assert re.fullmatch(r'[\[\]", 0-9a-f]+', json.dumps(found)) and len(found) == len(record['cases'])
    assert set(record) == {'name', 'names', 'width', 'cases', 'right', 'mistakes'}


# The pages, as files

class Tags(HTMLParser):
    "All tags of a page with their attributes."
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
    def handle_starttag(self, tag, attrs): self.found.append((tag, dict(attrs)))


def pages(site): return sorted(p for p in site.rglob('*.html') if '_static' not in p.parts and p.name != '404.html')


@pytest.fixture(scope='session')
def tags(site): return {p: Tags(p.read_text(encoding='utf-8')).found for p in pages(site)}


def test_every_notebook_and_module_has_a_page(site):
    for page in make_site.notebooks(): assert (site/page.relative_to(ROOT)).with_suffix('.html').exists() and (site/page.relative_to(ROOT)).exists()
    assert len(make_site.modules()) > 25
    for module in make_site.modules(): assert (site/'api'/f'{make_site.module_name(module)}.html').exists()
    for name in 'index', 'live', 'play', 'README', 'search', 'api/index': assert (site/f'{name}.html').exists()


def test_contents_follow_the_numbers(site):
    listed = re.findall(r'href="nbs/(\d\d)_\w+\.html">\1 ', (site/'index.html').read_text(encoding='utf-8'))
    wanted = [p.stem[:2] for p in make_site.notebooks() if re.match(r'\d\d_', p.stem) and p.parent.name == 'nbs']
    assert listed[:len(wanted)] == wanted == sorted(set(wanted)) and wanted[0] == '00' and len(wanted) >= 15


def test_tables_that_cells_print_are_tables(site):
    "A wrong program: Markdown of an output read without its tables, which leaves rows of bars."
    seen = 0
    for page in make_site.notebooks():
        outputs = [o for c in json.loads(page.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', [])]
        printed = sum(''.join(o.get('data', {}).get('text/markdown', [])).startswith('| ') for o in outputs)
        shown = (site/page.relative_to(ROOT)).with_suffix('.html').read_text(encoding='utf-8').count('<table')
        seen += printed
        assert shown >= printed, page.stem
    assert seen >= 5


def test_every_picture_has_words(tags):
    pictures = {(p, a['src']): a.get('alt') for p, found in tags.items() for tag, a in found if tag == 'img'}
    assert len(pictures) > 60
    assert not [k for k, alt in pictures.items() if not alt or not alt.strip() or re.fullmatch(r'Figure|\S+\.(png|jpe?g|gif)', alt)]
    assert not [alt for alt in pictures.values() if re.search(r'[\\${}]', alt)]  # formulas are made plain


def loaded(tag, attrs):
    "What a tag makes the browser fetch."
    if tag in ('script', 'img', 'iframe', 'source', 'video', 'audio', 'embed', 'input', 'track'): yield attrs.get('src')
    if tag == 'object': yield attrs.get('data')
    if tag == 'link' and not {'search', 'next', 'prev', 'canonical', 'author', 'license', 'index'} & set(attrs.get('rel', '').split()): yield attrs.get('href')
    for part in (attrs.get('srcset') or '').split(','): yield part.strip().split(' ')[0]


def test_pages_load_nothing_from_other_hosts(site, tags):
    foreign = re.compile(r'(?:\w+:)?//')
    assert not [(p, url) for p, found in tags.items() for tag, a in found for url in loaded(tag, a) if url and foreign.match(url)]
    styles = [p.read_text(encoding='utf-8') for p in site.rglob('*.css')] + [p.read_text(encoding='utf-8') for p in pages(site)]
    assert not [url for text in styles for url in re.findall(r'(?:url\(|@import)\s*[\'"]?((?:https?:)?//[^\'")\s]+)', text)]
    for path in (*(site/'_static').glob('*.mjs'), site/'_static'/'frames.js'): assert not re.search(r'https?:', path.read_text(encoding='utf-8')), path.name


def pages_of_people(site): return {p.relative_to(site).as_posix(): p.read_text(encoding='utf-8') for p in pages(site)}


def test_the_head_says_what_a_page_is(site, tags):
    "Wrong programs: three viewports, as the theme writes; a canonical address that is another page's."
    for path, found in tags.items():
        name = path.relative_to(site).as_posix()
        of = lambda key, value: [a for tag, a in found if a.get(key) == value]
        [_], [description], [canonical] = of('name', 'viewport'), of('name', 'description'), of('rel', 'canonical')
        assert 30 <= len(description['content']) <= 160, name
        assert canonical['href'] == ADDRESS + name
        for part in 'title', 'description', 'image', 'url', 'type': assert len(of('property', f'og:{part}')) == 1, (name, part)
        assert of('name', 'generator')[-1]['content'].endswith(make_site_version())
    words = [a['content'] for found in tags.values() for _, a in found if a.get('name') == 'description']
    assert len(set(words)) > 0.9*len(words)


def make_site_version(): return re.search(r'^version = (.+)$', (ROOT/'settings.ini').read_text(encoding='utf-8'), re.M)[1]


def test_what_stands_beside_the_pages(site):
    listed = re.findall(r'<loc>(.*?)</loc>', (site/'sitemap.xml').read_text(encoding='utf-8'))
    wanted = {ADDRESS + p for p in pages_of_people(site) if p != 'search.html'}
    assert set(listed) == wanted and len(listed) == len(wanted)
    assert f'Sitemap: {ADDRESS}sitemap.xml' in (site/'robots.txt').read_text(encoding='utf-8')
    text = (site/'llms.txt').read_text(encoding='utf-8')
    for lesson in site.glob('nbs/[0-9]*.html'): assert f'({ADDRESS}nbs/{lesson.name})' in text
    lost = Tags((site/'404.html').read_text(encoding='utf-8')).found
    inner = [a['href'] for tag, a in lost if tag == 'a']
    assert inner and all(href.startswith('/ddpm_lesson/') and (site/href.removeprefix('/ddpm_lesson/')).exists() for href in inner)
    assert not [a for tag, a in lost if tag in ('script', 'img') or tag == 'link']  # it may be shown at any depth
    licences = (site/'_static'/'LICENSES.txt').read_text(encoding='utf-8')
    for name in 'KaTeX', 'onnxruntime-web', 'xz-decompress', 'Font Awesome': assert name in licences


def test_a_book_without_an_address_claims_none():
    page = '<html><head><meta charset="utf-8" /><title>A</title></head><body><article><p>Enough words to be a description of a page.</p></article></body></html>'
    assert 'canonical' not in site_finish.head(page, 'a.html', '', '1') and 'Sitemap' not in site_finish.robots('')
    assert make_site.address_of('https://forge.example/a/b') == '' and make_site.address_of(REPOSITORY) == ADDRESS


def test_descriptions_are_plain_and_end_at_a_word():
    say = lambda words: site_finish.description(f'<article><p>short</p><p>{words}</p></article>')
    assert say('Two <b>bold</b> words &amp; more, to make it long enough.') == 'Two bold words & more, to make it long enough.'
    long = say('word '*80)
    assert len(long) <= 160 and long.endswith('word...')


def test_formulas_are_drawn_when_the_book_is_built(site):
    "Wrong programs: a script that draws them in the reader's browser; one that leaves what it can't read."
    drawn = 0
    for path, text in pages_of_people(site).items():
        assert not re.search(r'<script[^>]*(mathjax|tex-)', text.lower()) and 'katex-error' not in text, path
        assert text.count('class="formula') == text.count('<span class="katex">'), path
        drawn += text.count('class="formula')
    assert drawn > 1500
    with pytest.raises(SystemExit, match='KaTeX'): site_finish.drawn([(r'\frac{1', True)], make_site.npm('katex'))


class Formulas(HTMLParser):
    "Marks of MathML that have too few or too many children."
    NEED = dict(munder=2, mover=2, mfrac=2, msub=2, msup=2, mroot=2, munderover=3, msubsup=3)
    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.seen = [['', 0]], [], 0
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        self.open[-1][1] += 1
        if tag not in site_finish.VOID: self.open.append([tag, 0])
    def handle_startendtag(self, tag, attrs): self.open[-1][1] += 1
    def handle_endtag(self, tag):
        while len(self.open) > 1 and self.open[-1][0] != tag: self.open.pop()
        if len(self.open) < 2: return
        name, children = self.open.pop()
        self.seen += name in self.NEED
        if children != self.NEED.get(name, children): self.wrong.append((name, children))


def test_formulas_for_voices_are_whole(site):
    "A wrong program: a step of the build that cuts or links within MathML."
    found = {path: Formulas(text) for path, text in pages_of_people(site).items() if '<math' in text}
    assert not {path: f.wrong for path, f in found.items() if f.wrong} and sum(f.seen for f in found.values()) > 3000
    assert Formulas('<math><mfrac><mn>1</mn></mfrac><mfrac><mn>1</mn><mn>2</mn></mfrac></math>').wrong == [('mfrac', 1)]


def test_every_numbered_formula_can_be_linked_to(site):
    for page in make_site.notebooks():
        numbers = re.findall(r'\\\\tag\{([^}]+)\}', page.read_text(encoding='utf-8'))
        text = (site/page.relative_to(ROOT)).with_suffix('.html').read_text(encoding='utf-8')
        for number in numbers: assert f'id="eq-{number.replace(".", "-")}"' in text, (page.stem, number)
    index = (site/'nbs'/'reference'/'equations.html').read_text(encoding='utf-8')
    links = re.findall(r'href="([\w./]+)#eq-([\w-]+)"', index)
    assert len(links) == len(set(links)) == len(importlib.import_module('equations').collect()[0])


def test_a_stylesheet_keeps_what_a_page_can_use():
    "Wrong programs: one that takes what stands in :not() for a demand; one that cuts at a brace or comma within a string; one that forgets a class that a script makes."
    css = '''@import "other.css"; /* .gone { */ .seen, .gone { color: red } .gone:hover { x: y } a:not(.gone, .lost)::after { content: "}, .gone {"; }
    @media (width > 1px) { .gone { a: b } } @media print { #made, .gone .seen { a: b } } @font-face { font-family: "Font Awesome"; } @keyframes spin { to { a: b } } .col-1\\/2 { a: b }'''
    known = site_styles.known_words(['<p class="seen col-1/2">'], ['e.id = "made"'])
    kept = site_styles.used(css, known)
    assert [before for before, _ in site_styles.rules(kept)] == ['@import "other.css"', '.seen', 'a:not(.gone, .lost)::after', '@media print', '@keyframes spin', r'.col-1\/2']
    assert '"}, .gone {"' in kept and '.gone .seen' not in kept and '#made' in kept
    assert site_styles.placed('url(fonts/a.woff2) url("../b.png") url(data:x) url(#c)', 'katex') == 'url(katex/fonts/a.woff2) url("b.png") url(data:x) url(#c)'


def test_each_page_has_one_light_stylesheet(site, tags):
    "Wrong programs: the theme's nine, 88 kB gzipped, for which a phone waits before it shows a word; one whose fonts lie elsewhere."
    for path, found in tags.items():
        [link] = [a['href'] for tag, a in found if tag == 'link' and a.get('rel') == 'stylesheet']
        assert (path.parent/link.partition('?')[0]).resolve() == site/'_static'/'book.css', path
    css = (site/'_static'/'book.css').read_text(encoding='utf-8')
    assert len(gzip.compress(css.encode())) < 35_000
    named = re.findall(r'url\((?!["\']?data:)["\']?([^)"\']+)', css)
    assert len(named) > 10 and not [url for url in named if not (site/'_static'/url).is_file()]


def test_icons_are_cut_out_of_the_theme(site):
    styles = (site/'_static'/'icons.css').read_text(encoding='utf-8')
    for path, text in pages_of_people(site).items():
        assert 'fontawesome' not in text and 'fa-solid' not in text, path
        for name in re.findall(r'icon icon-([\w-]+)', text): assert f'.icon-{name} ' in styles
    with pytest.raises(SystemExit, match='no icon'): site_finish.icon_rule('no-such-thing', styles)


def test_no_script_holds_up_a_page(site, tags):
    "Wrong programs: the theme's scripts, which a phone waits for; a picture far below that comes with the first screen."
    for path, found in tags.items():
        if path.name == 'search.html': continue
        assert not [a['src'] for tag, a in found if tag == 'script' and a.get('src') and 'defer' not in a and a.get('type') != 'module'], path
    first = [a for tag, a in tags[site/'index.html'] if tag == 'img']
    assert [a['src'] for a in first if a.get('loading') != 'lazy'] == ['_static/hero.png']


@chromium_only
@pytest.mark.parametrize('scheme, ground', [('light', 255), ('dark', 18)])
def test_a_page_is_dark_from_the_first_picture_on(browser, served, scheme, ground):
    "A wrong program: the theme's, which draws a light page until its scripts have come, and then all of it once more."
    page = browser.new_page(color_scheme=scheme, service_workers='block')
    page.route('**/*.js*', lambda route: route.abort())
    page.goto(served + 'nbs/03_forward.html')
    seen = page.evaluate('() => [document.documentElement.dataset.theme, +getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]]')
    assert seen[0] == scheme and abs(seen[1] - ground) < 10, seen
    page.evaluate('localStorage.setItem("mode", "dark")')
    page.reload()
    assert page.evaluate('document.documentElement.dataset.theme') == 'dark'
    page.close()


def test_formulas_far_below_are_there_for_voices(visit):
    "A wrong program: content-visibility: hidden, which voices don't hear."
    page = visit('nbs/03_forward.html', viewport=dict(width=390, height=600))
    formula = page.locator('.formula.display math').last
    assert formula.evaluate('e => e.getBoundingClientRect().top > 3*innerHeight')
    assert 'math' in page.locator('.formula.display').last.aria_snapshot() and formula.text_content().strip()


def test_figures_keep_their_place_free(site, tags):
    "Wrong programs: figures without a size, which push the words away when they come; figures that come before the words."
    seen = [(path, a) for path, found in tags.items() for tag, a in found if tag == 'img' and '_images/' in a['src']]
    assert len(seen) > 200
    for path, a in seen:
        with Image.open(path.parent/a['src']) as picture: assert abs(int(a['width'])*picture.height - int(a['height'])*picture.width) <= picture.width, (path, a['src'])
        assert a['fetchpriority'] == 'low', path
    assert not [path for path, found in tags.items() for tag, a in found if tag == 'link' and a.get('rel') == 'preload' and a.get('as') == 'script']


DRAWS = 'import os\nimport matplotlib.pyplot as plt\n\nplt.figure(figsize=(4, 2), dpi=80)\nplt.plot([0, 1, int(os.environ.get("ANOTHER", 2))]);'


@pytest.fixture(scope='session')
def drawn_page(tmp_path_factory):
    "A page with one figure, as it is committed; another line where ANOTHER says so."
    path = tmp_path_factory.mktemp('sharp')/'page.ipynb'
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell('# A page'), nbformat.v4.new_code_cell(DRAWS)]), path)
    run_nbs.run(path)
    return path


def sharpened(path): return site_sharp.sharpen(cells := json.loads(path.read_text(encoding='utf-8'))['cells'], path) or cells


def test_a_figure_gets_twice_the_dots_if_it_is_the_committed_one(drawn_page, monkeypatch, tmp_path, capsys):
    "Wrong programs: one that shows a curve which the words beside it don't know; one that runs a page again which has not changed."
    monkeypatch.setattr(site_sharp, 'KEPT', tmp_path/'one')
    before, cells = json.loads(drawn_page.read_text(encoding='utf-8'))['cells'], sharpened(drawn_page)
    once, twice = (site_sharp.grey(cell['outputs'][0]['data']['image/png']).shape for cell in (before[1], cells[1]))
    size = cells[1]['outputs'][0]['metadata']['image/png']
    assert set(size) == {'width', 'height'} and abs(size['width'] - once[1]) < 0.05*once[1] and twice[0] - 2*size['height'] in (0, 1) and twice[1] - 2*size['width'] in (0, 1)
    with monkeypatch.context() as unable:
        unable.setattr(site_sharp, 'run_again', None)
        assert sharpened(drawn_page) == cells and not capsys.readouterr().out
        unable.setattr(site_sharp, 'KEPT', tmp_path/'two')
        assert sharpened(drawn_page) == before and 'page.ipynb could not be run again' in capsys.readouterr().out
    monkeypatch.setattr(site_sharp, 'KEPT', tmp_path/'three')
    monkeypatch.setenv('ANOTHER', '3')
    assert sharpened(drawn_page) == before and '1 of 1 pictures stay as they are' in capsys.readouterr().out


def test_a_sharp_figure_has_a_dot_for_each_of_a_sharp_screen(drawn_page, browser, monkeypatch, tmp_path):
    "From the page's output to the screen. A wrong program: one that shows the larger picture in twice the room."
    monkeypatch.setattr(site_sharp, 'KEPT', tmp_path/'kept')
    source, made = tmp_path/'source', tmp_path/'made'
    source.mkdir()
    (source/'index.ipynb').write_text(json.dumps(json.loads(drawn_page.read_text(encoding='utf-8')) | {'cells': sharpened(drawn_page)}), encoding='utf-8')
    subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-C', '-D', 'extensions=myst_nb', '-D', 'nb_execution_mode=off', source, made], check=True)
    text = site_finish.sized((made/'index.html').read_text(encoding='utf-8'), 'index.html', made)
    (made/'index.html').write_text(text, encoding='utf-8')
    with serving(made) as address:
        page = browser.new_page(device_scale_factor=2, viewport=dict(width=1300, height=900))
        page.goto(address)
        page.wait_for_function('document.querySelector("img")?.naturalWidth > 0')
        dots, room = page.evaluate('() => { const i = document.querySelector("img"), box = i.getBoundingClientRect(); return [[i.naturalWidth, i.naturalHeight], [box.width, box.height]]; }')
        page.close()
    assert room[0] > 200 and all(0 <= d - 2*r <= 1 for d, r in zip(dots, room)), (dots, room)


def test_only_the_search_page_loads_the_search(site):
    for path, text in pages_of_people(site).items(): assert ('searchindex.js' in text) == (path == 'search.html'), path


def test_the_catalogue_has_four_columns(site):
    text = (site/'nbs'/'reference'/'museum.html').read_text(encoding='utf-8')
    [table] = re.findall(r'<table class="table catalogue">.*?</table>', text, re.S)
    assert table.count('<th ') == 4 and table.count('<tr>') >= 21 and '>eta twice<' in table


def test_other_tables_stay_as_they_are():
    "A wrong program: one that takes a first row for granted; a page's script fills its table later."
    for table in '<table class="verdict"><tbody></tbody></table>', '<table><tr><th>room</th><th>mistake</th></tr></table>': assert site_finish.regrouped(table) == table


def test_minutes_have_one_source():
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| \[(\d\d \w+)\]\((nbs/\w+\.ipynb)\) \|[^|]*\| (\d+) \|', readme, re.M)
    said = {path: re.search(r'\*About (\d+) minutes', ''.join(json.loads((ROOT/path).read_text(encoding='utf-8'))['cells'][0]['source'])) for _, path, _ in rows}
    assert len(rows) >= 15 and not [(path, minutes, said[path] and said[path][1]) for _, path, minutes in rows if not said[path] or said[path][1] != minutes]


def switches(): return re.findall(r'^  (\w+): \{$', (ROOT/'site'/'_static'/'mistakes.mjs').read_text(encoding='utf-8'), re.M)


def test_lessons_lead_to_the_playground(site):
    "Each link with a setting that the form of the playground has."
    forms = {page: Tags((site/f'{page}.html').read_text(encoding='utf-8')).found for page in ('play', 'schedule')}
    names = {page: {a['name'] for tag, a in form if tag in ('input', 'select') and a.get('name')} | {'at'} for page, form in forms.items()}
    values = {a['value'] for form in forms.values() for tag, a in form if a.get('name') == 'show' or tag == 'option' and 'value' in a} | {'', *switches()}
    for lesson, links in site_play.LINKS.items():
        found = re.findall(r'href="../(play|schedule).html\?([^"]+)"', (site/'nbs'/f'{lesson}.html').read_text(encoding='utf-8'))
        assert len(found) == len(links)
        for page, setting in found:
            setting = dict(pair.split('=') for pair in html.unescape(setting).split('&'))
            assert set(setting) <= names[page] and {part for k, v in setting.items() if not re.fullmatch(r'[\d.]+', v) for part in v.split(',')} <= values
    with pytest.raises(SystemExit, match='has no cells'): site_play.with_links('07_ddim', [])


@pytest.mark.slow
def test_a_book_for_a_class_tells_no_answer(tmp_path):
    "Rejects a flag that forgets the notebooks to download, the reference of the answers, a fold, or a link; Sphinx takes every lost link for an error."
    needs('npm')
    out = tmp_path/'book'
    subprocess.run([sys.executable, ROOT/'tools'/'make_site.py', '--out', out, '--repository', REPOSITORY, '--without-solutions'], check=True)
    assert len(list(out.glob('nbs/[0-9]*.html'))) == len(make_site.pages.lessons()) and not (out/'nbs'/'solutions').exists()
    for page in [*out.rglob('*.html'), *out.rglob('*.ipynb')]:
        text = page.read_text(encoding='utf-8')
        assert not re.search(r'<summary>\s*Answer|href="[^"]*solutions/|exam\.lesson_\d\d\.html', text), page


def test_what_a_book_for_a_class_leaves_out():
    "The same, before Sphinx: rejects a page for teachers, an answer, and a link to either."
    whole, bare = make_site.Told(), make_site.Told(answers=False)
    kept = make_site.notebooks(bare)
    assert set(make_site.notebooks(whole)) - set(kept) == set(make_site.pages.solutions()) | {ROOT/'nbs'/f'{p}.ipynb' for p in ('interface/exercises', 'interface/cases', 'interface/classroom')}
    for path in [*kept, ROOT/'README.md', ROOT/'CONTRIBUTING.md']:
        assert '<summary>Answer' not in bare.text(path) and not re.search(r'\]\([^)]*solutions/\w+\.ipynb', bare.text(path)), path
    assert '<summary>Answer' in whole.text(ROOT/'nbs'/'04_posterior.ipynb')
    left_out = {make_site.module_name(p) for p in set(make_site.modules(whole)) - set(make_site.modules(bare))}
    assert {'exam.lesson_04', 'exam.grade', 'classroom'} <= left_out and 'posterior' not in left_out and all('exam' in m or m == 'classroom' for m in left_out)


def test_the_first_garment_costs_at_most_six_megabytes(site):
    live = site/'_static'/'live'
    facts = json.loads((live/'facts.json').read_text(encoding='utf-8'))
    assert facts['bytes'] == {name: (live/f'{name}.bin').stat().st_size for name in ('network', 'fast', 'zeros', 'runtime', 'whole')}
    for net in 'network', 'fast': assert sum((live/name).stat().st_size for name in (f'{net}.bin', 'zeros.bin', 'runtime.bin', 'ort.mjs', 'xz.mjs', 'facts.json')) < 6e6
    assert (site/'_static'/'hero.webp').stat().st_size < 300_000


def test_links_within_the_site_lead_somewhere(site, tags):
    places = {p: {a[k] for _, a in found for k in ('id', 'name') if a.get(k)} for p, found in tags.items()}
    for page, found in tags.items():
        for href in [a['href'] for tag, a in found if tag == 'a' and a.get('href') and not re.match(r'\w+:', a['href'])]:
            path, place = urldefrag(unquote(href.partition('?')[0] if '?' in href else href))
            target = (page.parent/path).resolve() if path else page
            assert target.exists(), f'{page.name} -> {href}'
            if place and target in places: assert place in places[target], f'{page.name} -> {href}'


def test_badges_open_the_notebook_in_the_repository(site):
    text = html.unescape((site/'nbs'/'03_forward.html').read_text(encoding='utf-8'))
    for url in ('https://colab.research.google.com/github/someone/ddpm_lesson/blob/main/nbs/03_forward.ipynb',
                'https://mybinder.org/v2/gh/someone/ddpm_lesson/main?labpath=nbs/03_forward.ipynb', REPOSITORY + '/blob/main/nbs/03_forward.ipynb'): assert f'href="{url}"' in text
    assert 'http' not in make_site.badges(ROOT/'nbs'/'03_forward.ipynb', '', 'main')
    assert 'colab' not in make_site.badges(ROOT/'nbs'/'03_forward.ipynb', 'https://forge.example/someone/ddpm_lesson', 'main')


def signatures(tree):
    "The functions of a module that the reference shows: public ones, and what their classes document."
    for node in tree.body:
        if getattr(node, 'name', '_')[0] == '_': continue
        if isinstance(node, ast.FunctionDef): yield node
        if isinstance(node, ast.ClassDef): yield from (part for part in node.body if isinstance(part, ast.FunctionDef) and (part.name == '__init__' or ast.get_docstring(part)))


def test_reference_keeps_every_argument_comment(site):
    words = lambda text: ' '.join(text.split())
    count = 0
    for module in make_site.modules():
        shown = words(html.unescape(re.sub(r'<[^>]+>', '', (site/'api'/f'{make_site.module_name(module)}.html').read_text(encoding='utf-8'))))
        source = module.read_text(encoding='utf-8')
        for node in signatures(ast.parse(source)):
            assert f'def {node.name}(' in shown, (module.stem, node.name)
            for line in source.splitlines()[node.lineno - 1:node.body[0].lineno - 1]:
                comment = re.search(r'  ?(# .+)$', line)
                if comment: count += 1; assert words(comment[1]) in shown, (module.stem, node.name, comment[1])
    assert count > 300


def test_cells_that_only_import_are_folded(site):
    "A lesson opens with what it is about. Wrong programs: one that folds a cell whose output is meant to be seen, or one that does a thing."
    assert make_site.imports('import torch\nfrom math import (\n    pi,\n)\n\ntorch.manual_seed(0);') and not make_site.imports('import torch\nx = 1') and not make_site.imports('print(1)') and not make_site.imports('%pip install x')
    for page in (site/'nbs').rglob('*.html'):
        for folded, box in re.findall(r'(<details[^>]*>.{0,300})?<div class="highlight-ipython3[^>]*>(<div.*?</pre>)', page.read_text(encoding='utf-8'), re.S):
            code = html.unescape(re.sub(r'<[^>]+>', '', box))
            if len(code.splitlines()) > 1 and all(re.match(r'(import|from) ', line) for line in code.strip().splitlines()): assert folded, (page.name, code)


def test_no_directive_or_hidden_cell_is_shown(site):
    "In code; the first lesson's words may name such a mark."
    boxes = {page.name: ''.join(re.findall(r'<pre.*?</pre>', page.read_text(encoding='utf-8'), re.S)) for page in (site/'nbs').rglob('*.html')}
    for name, text in boxes.items(): assert not re.search(r'#\|\s*(export|hide|default_exp)', html.unescape(re.sub(r'<[^>]+>', '', text))), name


# The pages, in a browser

# Ink left of the page, a number over its formula, a box that hides what does not fit: each as [what, where].
MISFITS = """() => {
  const wrong = [], seen = e => e.getClientRects().length, box = e => e.getBoundingClientRect(), room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > room) wrong.push(['page', document.documentElement.scrollWidth]);
  for (const e of document.querySelectorAll('.formula')) {
    if (!seen(e)) continue;
    const parts = [...e.querySelectorAll('.katex-base')].filter(seen), tag = e.querySelector('.katex-tag'), left = Math.min(...parts.map(p => box(p).left));
    if (!parts.length) wrong.push(['nothing drawn', e.textContent.slice(0, 40)]);
    if (left < box(e).left - 1 || left < 0) wrong.push(['left', e.textContent.slice(0, 40)]);
    if (tag && box(tag).left < Math.max(...parts.map(p => box(p).right)) - 1) wrong.push(['over its number', e.textContent.slice(0, 40)]);
  }
  for (const e of document.querySelectorAll('.formula.display, .formula.wide, article pre')) {
    if (!seen(e) || e.scrollWidth <= e.clientWidth + 1) continue;
    if (!['auto', 'scroll'].includes(getComputedStyle(e).overflowX)) wrong.push(['hidden', e.textContent.slice(0, 40)]);
    if (e.tabIndex !== 0) wrong.push(['no keyboard', e.textContent.slice(0, 40)]);
    if (box(e).right > room + 1) wrong.push(['too wide', e.textContent.slice(0, 40)]);
  }
  return wrong;
}"""


def address(page):
    "Where a page is, as it says itself: Playwright's `url` does not hear of what a script writes there in Debian's Firefox."
    return page.evaluate('location.href')


def near(place):
    "The same place, in sight, and the sections around it laid out."
    place.scroll_into_view_if_needed()
    place.page.wait_for_timeout(200)
    place.scroll_into_view_if_needed()
    return place


def misfits(page):
    page.wait_for_selector('html[data-shown]')
    page.evaluate('dispatchEvent(new Event("scroll"))')  # a reader who moves
    page.wait_for_function('document.documentElement.dataset.reachable == innerWidth')
    return page.evaluate(MISFITS)


def test_every_page_opens_in_peace_and_fits_a_phone(visit, site):
    "A wrong program: the theme's `div.math`, whose reversed row pushes a wide formula out on the left."
    wrong, page = [], None
    for path in pages_of_people(site):
        page = visit(path, page, viewport=dict(width=390, height=844))
        if found := misfits(page): wrong.append((path, found))
    assert not wrong, wrong
    page = visit('nbs/04_posterior.html', page)
    page.add_style_tag(content='.formula.display .katex-base { transform: translateX(-400px); } .formula.display .katex-tag { transform: translateX(-900px); } article pre { overflow: hidden !important; }')
    assert {'left', 'over its number', 'hidden'} <= {what for what, _ in page.evaluate(MISFITS)}  # faults it must see


@pytest.mark.parametrize('width', [320, 820, 1440])
def test_pages_fit_other_screens(visit, width):
    page, wrong = None, []
    for path in ('index.html', 'live.html', 'play.html', 'schedule.html', 'nbs/04_posterior.html', 'nbs/07_ddim.html', 'nbs/09_objective.html', 'nbs/reference/museum.html', 'nbs/reference/equations.html', 'api/sampler.html'):
        page = visit(path, page, viewport=dict(width=width, height=900))
        if found := misfits(page): wrong.append((path, found))
    assert not wrong, wrong


CUT = """() => [...document.querySelectorAll('article select')].filter(e => e.getClientRects().length && e.selectedIndex >= 0).map(e => {
  const words = document.createElement('span'), style = getComputedStyle(e);
  Object.assign(words.style, {font: style.font, position: 'absolute', whiteSpace: 'nowrap'});
  words.textContent = e.selectedOptions[0].text;
  document.body.append(words);
  const wanted = words.getBoundingClientRect().width + parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + 16, room = e.clientWidth;  // 16: the arrow
  words.remove();
  return wanted > room ? [words.textContent, wanted, room] : null;
}).filter(Boolean)"""


@pytest.mark.parametrize('width', [320, 390, 768, 1440])
def test_what_is_chosen_can_be_read(visit, width):
    "A wrong program: three columns where there is room for two, so that a field shows half of its words."
    page, cut = None, []
    for path in 'live.html', 'play.html', 'schedule.html':
        page = visit(path, page, viewport=dict(width=width, height=900))
        page.wait_for_selector('form[data-ready]')
        cut += page.evaluate(CUT)
    assert not cut, cut


def test_lessons_code_fits_a_desktop(visit, site):
    "100 columns of code at 1440 pixels, but for a few lines; before, half of all blocks were cut."
    page, boxes, wide = None, 0, 0
    for path in (p for p in pages_of_people(site) if re.match(r'nbs/\d\d_', p)):
        page = visit(path, page, viewport=dict(width=1440, height=900))
        n, over = page.evaluate('() => { const all = [...document.querySelectorAll("article .cell_input pre")].filter(e => e.getClientRects().length); return [all.length, all.filter(e => e.scrollWidth > e.clientWidth + 1).length]; }')
        boxes, wide = boxes + n, wide + over
    assert boxes > 300 and wide < 0.04*boxes, (wide, boxes)


def test_the_lessons_questions_have_room_on_a_phone(visit):
    "A wrong program: five columns on 390 pixels, a word a line in the one that matters."
    page = visit('index.html', viewport=dict(width=390, height=844))
    question, table = page.evaluate('() => ["td:nth-child(2)", "table"].map(part => document.querySelector(`#the-lessons ${part}`).getBoundingClientRect().width)')
    assert question > table/2 and page.locator('#the-lessons').inner_text().count('{') == 0


@pytest.mark.parametrize('width', [320, 390, 600, 768, 820, 1440])
def test_a_heading_is_larger_than_those_below_it(visit, width):
    "A wrong program: the theme's sizes below a first heading that shrinks with the screen, so that a phone shows the title small and its parts large."
    page = visit('api/index.html', viewport=dict(width=width, height=844))
    sizes = page.evaluate("""() => [1, 2, 3, 4, 5, 6].map(n => {
      const e = document.querySelector('article').appendChild(document.createElement(`h${n}`));
      return parseFloat(getComputedStyle(e).fontSize);
    })""")
    assert all(a > b for a, b in zip(sizes, sizes[1:])) and sizes[-1] >= 16, sizes


def test_the_catalogue_is_not_cut(visit):
    page = visit('nbs/reference/museum.html', viewport=dict(width=1440, height=900))
    assert page.evaluate('() => { const table = document.querySelector("table.catalogue"), box = table.getBoundingClientRect(), room = table.closest("article").getBoundingClientRect(); return box.right <= room.right + 1 && box.width > 300; }')


def test_a_link_to_a_formula_leads_there(visit):
    page = visit('nbs/reference/equations.html')
    page.locator('a', has_text='(7.3)').first.click()
    page.wait_for_url('**/07_ddim.html#eq-7-3')
    page.wait_for_function('() => { const y = document.getElementById("eq-7-3").getBoundingClientRect().top; return y > -50 && y < innerHeight; }')
    assert '7.3' in page.locator('#eq-7-3').inner_text()


LEVELS = """() => [...document.querySelectorAll('.formula.display')].map(formula => {
  const of = part => { const mark = part.appendChild(document.createElement('span')); mark.style.cssText = 'display: inline-block'; const y = mark.getBoundingClientRect().bottom; mark.remove(); return y; };
  const levels = [...formula.querySelectorAll('.katex-html > :is(.katex-base, .katex-tag)')].filter(part => part.getClientRects().length).map(of);
  return [formula.textContent.slice(0, 40), Math.max(...levels) - Math.min(...levels), levels.length];
})"""


@pytest.mark.parametrize('path', ['nbs/04_posterior.html', 'nbs/reference/equations.html'])
def test_the_parts_of_a_formula_stand_on_one_line(visit, path):
    "A wrong program: parts that are centred, so that one with a fraction or a brace below pushes the others off the line by some pixels."
    found = visit(path).evaluate(LEVELS)
    assert sum(parts > 1 for _, _, parts in found) > 8 and not [one for one in found if one[1] > 1]


@pytest.mark.parametrize('path', ['index.html', 'nbs/07_ddim.html'])
def test_a_page_is_light(visit, site, path):
    "At most 600 kB before pictures, as gzip sends it; before, formulas and icons alone took 1.2 MB."
    page = visit('api/index.html')
    sizes = {}
    came = lambda url: gzip.compress((site/urlparse(url).path.lstrip('/')).read_bytes())   # not every driver tells a body
    page.on('response', lambda r: r.request.resource_type not in ('image', 'media') and r.ok and sizes.__setitem__(r.url, len(came(r.url))))
    visit(path, page)
    page.wait_for_load_state('networkidle')
    assert 100_000 < sum(sizes.values()) < 600_000, sorted(sizes.items(), key=lambda kv: -kv[1])[:5]


LOOKED_FOR = {'slerp': '07_ddim', 'ddim': '07_ddim', 'ddpm': '06_ddpm', 'posterior': '04_posterior', 'guidance': '13_guidance', 'schedule': '02_schedule', 'u-net': '08_unet', 'denoisers': '05_oracle', 'fid': '11_evaluate'}


@pytest.mark.parametrize('word', LOOKED_FOR)
def test_search_finds_the_lesson_first(visit, word):
    page = visit(f'search.html?q={word}')
    page.wait_for_selector('#search-results li a')
    page.wait_for_function('() => /found/i.test(document.querySelector("#search-results").innerText)')
    assert LOOKED_FOR[word] in page.locator('#search-results li a').first.get_attribute('href')


def test_what_search_shows_fits_a_phone_and_can_be_read(visit):
    "Wrong programs: the theme's letter of an icon font, an empty box where there is no such font; Sphinx's excerpts, which have a formula three times and the buttons too."
    page = visit('search.html?q=ddim', viewport=dict(width=390, height=844))
    page.wait_for_selector('#search-results p.context')
    page.wait_for_function('() => document.querySelectorAll("#search-results p.context").length > 10')
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    icon, field = (page.locator(f'.bd-search-container form.bd-search {part}').bounding_box() for part in ('.icon', 'input'))
    assert icon['width'] > 8 and icon['x'] + icon['width'] <= field['x'] + 1  # the theme's lies over what is asked for
    read, tex = page.evaluate("""async () => {
      const lesson = await (await fetch('nbs/07_ddim.html')).text(), whole = new DOMParser().parseFromString(lesson, 'text/html');
      return [Search.htmlToText(lesson, null), [...whole.querySelectorAll('.formula.display annotation')].map(e => e.textContent)];
    }""")
    assert len(tex) > 5 and 'Implicit' in read and not [words for words in [*tex, 'System Settings', 'Download the notebook'] if words in read]
    page.wait_for_load_state('networkidle')  # Firefox calls an excerpt that is left behind an error
    page.locator('#search-results li a').first.click()
    page.wait_for_selector('p.highlight-link a')
    assert page.evaluate('getComputedStyle(document.querySelector("p.highlight-link a"), "::before").content') == 'none'


CONTRAST = """e => {
  const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => v/255).map(v => v <= 0.03928 ? v/12.92 : ((v + 0.055)/1.055)**2.4);
  const light = text => { const [r, g, b] = channels(text); return 0.2126*r + 0.7152*g + 0.0722*b; };
  const style = getComputedStyle(e), [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
  return (high + 0.05)/(low + 0.05);
}"""


@pytest.mark.parametrize('mode', ['light', 'dark'])
def test_what_was_looked_for_can_be_read_where_it_is_marked(visit, mode):
    "In a title that is a link, too: blue on yellow is 3 to 1."
    page = visit('index.html')
    page.evaluate('mode => localStorage.setItem("mode", mode)', mode)
    visit('search.html?q=ddim', page)
    page.wait_for_selector('#search-results li > a span.highlighted')
    assert page.evaluate('document.documentElement.dataset.theme') == mode
    assert page.locator('#search-results li > a span.highlighted').first.evaluate(CONTRAST) > 4.5


def test_no_rule_asks_for_a_font_of_icons(site):
    styles = (site/'_static'/'book.css').read_text(encoding='utf-8')
    assert not re.findall(r'content:\s*(?:var\(--pst-icon|["\'](?:\\[ef][0-9a-f]{3}|[\ue000-\uf8ff]))', styles)


def test_garments_walk_out_of_noise(visit):
    page = visit('index.html')
    page.wait_for_selector('figure.hero.moving[data-t="0"]')
    seen = page.evaluate("""async () => {
      const canvas = document.querySelector('figure.hero canvas'), image = document.querySelector('figure.hero img'), other = new OffscreenCanvas(224, 84).getContext('2d');
      await image.decode();
      other.drawImage(image, 0, 0, 224, 84);
      const [a, b] = [canvas.getContext('2d'), other].map(c => c.getImageData(0, 0, 224, 84).data);
      return a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0)/a.length;
    }""")
    assert seen < 6  # grey levels, on average: the walk ends at the picture that Python drew


@chromium_only
def test_garments_stand_still_where_motion_is_unwelcome(visit):
    page = visit('api/index.html', reduced_motion='reduce')
    asked = []
    page.on('request', lambda r: asked.append(r.url))
    visit('index.html', page)
    page.wait_for_load_state('networkidle')
    assert page.locator('figure.hero canvas').is_hidden() and page.locator('figure.hero img').is_visible() and not [u for u in asked if 'hero.webp' in u]
    page.get_by_role('button', name='Walk again').click()
    page.wait_for_selector('figure.hero.moving')


@pytest.mark.parametrize('name, first, last', [('forward', '0', '40'), ('steps', '1', '50')])
def test_sliders_move_by_keyboard(visit, name, first, last):
    page = visit('index.html')
    figure = page.locator(f'figure#{name}')
    slider, window, words = figure.locator('input'), figure.locator('.window'), figure.locator('output')
    figure.scroll_into_view_if_needed()
    page.wait_for_function('name => document.querySelector(`figure#${name} img`).naturalWidth > 0', arg=name)
    greys = lambda: np.asarray(Image.open(io.BytesIO(window.screenshot())).convert('L'), dtype=int)
    seen = lambda: (slider.input_value(), words.inner_text(), slider.get_attribute('aria-valuetext'), greys())
    apart = lambda a, b: (a[3] != b[3]).mean()   # an edge may lie between two dots, and turn out otherwise
    assert first < slider.input_value() < last  # it rests where there is something to see
    slider.focus()
    page.keyboard.press('Home')
    states = [seen()]
    for key in 'ArrowRight', 'ArrowRight', 'End': page.keyboard.press(key); states.append(seen())
    assert [s[0] for s in states] == [first, str(int(first) + 1), str(int(first) + 2), last]
    assert all(len({s[i] for s in states}) == 4 for i in (1, 2))     # words, spoken words, picture: all new each time
    assert all(apart(*pair) > 0.3 for pair in combinations(states, 2))
    assert all(s[1] == s[2] for s in states)
    page.keyboard.press('Home')
    assert (back := seen())[:3] == states[0][:3] and apart(back, states[0]) < 0.05
    assert page.get_by_label('Drag t from picture to noise' if name == 'forward' else 'Steps, 1 to 50').count() == 1


def canvas(page, name):
    "The grey bytes on a canvas of the live page."
    rgba = page.evaluate('name => [...document.querySelector(name).getContext("2d").getImageData(0, 0, 28, 28).data]', f'form.live canvas.{name}')
    assert rgba[0::4] == rgba[1::4] == rgba[2::4]
    return torch.tensor(rgba[0::4])


def both(page):
    "The grey bytes on both canvases of the live page, a row a picture."
    read = '''() => ['x_t', 'x_0_hat'].map(name => { const c = document.querySelector(`form.live canvas.${name}`), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return [c.width, [...d].filter((_, i) => i % 4 === 0)]; })'''
    tiled = lambda width, grey: torch.tensor(grey).reshape(-1, 28, width//28, 28).transpose(1, 2).reshape(-1, 784)
    return [tiled(*one) for one in page.evaluate(read)]


def press(page, button, word='Done'):
    page.get_by_role('button', name=button, exact=True).click()
    page.wait_for_function('word => /It did not work/.test(document.querySelector(".status").textContent) || document.querySelector(".status").textContent.includes(word)', arg=word, timeout=90_000)
    status = page.locator('.status').inner_text()
    assert 'did not work' not in status, status
    return status


def by_python(page, name='x_0'):
    "The grey bytes that the Python shown on the page gives."
    scope = {}
    exec(page.locator('pre.python').inner_text(), scope)
    return to_pixels(scope[name]).flatten().int()


def choose(page, **settings):
    for name, value in settings.items():
        page.evaluate('([name, value]) => { const field = document.querySelector("form.live")[name]; field.value = value; field.dispatchEvent(new Event("input", {bubbles: true})); }', [name, value])


def near_the_end(page):
    "The first page, once its reader has come near the form that draws, which asks for nothing before."
    page.locator('form.live').scroll_into_view_if_needed()
    page.wait_for_selector('form.live[data-ready]')
    return page


def test_the_first_page_asks_for_nothing_that_is_far_below(visit):
    "Wrong programs: one that reads the facts of the live page while a phone draws the first screen; one that never does."
    page = visit('api/index.html')
    asked = []
    page.on('request', lambda r: asked.append(r.url))
    visit('index.html', page)
    page.wait_for_load_state('networkidle')
    assert not [url for url in asked if 'facts.json' in url or 'live/' in url]
    near_the_end(page)
    assert [url for url in asked if 'facts.json' in url]


def test_live_page_draws_what_python_draws_also_offline(visit):
    page = visit('live.html')
    page.on('request', lambda r: asked.append(r.url))
    asked = []
    page.wait_for_selector('form.live[data-ready]')
    print(press(page, 'Draw'))
    off = (canvas(page, 'x_t') - by_python(page)).abs()
    assert off.max() <= 1 and canvas(page, 'x_t').float().std() > 30  # a picture, and the same one
    page.context.set_offline(True)  # all that follows needs no server
    for settings in dict(y=7, seed=3, sampler='ddpm', steps=12, scale=2.5), dict(y=1, seed=4294967295, sampler='ddim', eta=0.5, steps=9, scale=1), dict(y=10, seed=2, sampler='ddim', eta=1, steps=5), dict(y=3, scale=0, seed=11):
        choose(page, **settings)
        press(page, 'Draw')
        off = (canvas(page, 'x_t') - by_python(page)).abs()
        assert off.max() <= 2 and (off > 0).float().mean() < 0.02, (settings, off.max())
    drawn = canvas(page, 'x_t')
    page.get_by_label('Look back').focus()
    page.keyboard.press('Home')
    assert (canvas(page, 'x_t') - drawn).abs().float().mean() > 20  # noise again
    page.keyboard.press('End')
    assert torch.equal(canvas(page, 'x_t'), drawn)
    press(page, 'Another seed')
    assert page.get_by_label('Seed', exact=True).input_value() == '12' and not torch.equal(canvas(page, 'x_t'), drawn)
    assert [url for url in asked if 'runtime.bin' in url] and not [url for url in asked if 'whole.bin' in url]


def test_the_whole_runtime_comes_when_a_part_of_it_is_missed(visit, tmp_path):
    "A runtime that can load a network, and not run it. Wrong programs: one that only says what went wrong; one that asks without end."
    dist = make_site.npm('onnxruntime-web')/'dist'
    whole, network = (dist/'ort-wasm-simd-threaded.wasm').read_bytes(), site_live.onnx_file(make_site.BUILD)
    loads = site_trim.ran(whole, dist/'ort.wasm.bundle.min.mjs', [site_live.start(tmp_path/'start.onnx'), network], [], tmp_path)
    poor = lzma.compress(site_trim.trimmed(whole, loads), check=lzma.CHECK_CRC32, preset=0)
    page = visit('live.html?steps=2')
    asked = []
    page.on('request', lambda r: asked.append(urlparse(r.url).path.rpartition('/')[2]))
    page.route('**/runtime.bin*', lambda route: route.fulfill(body=poor))
    page.wait_for_selector('form.live[data-ready]')
    press(page, 'Draw')
    assert nearly_the_same(canvas(page, 'x_t'), by_python(page)) and asked.count('whole.bin') == asked.count('runtime.bin') == 1
    choose(page, seed=8)
    press(page, 'Draw')
    assert nearly_the_same(canvas(page, 'x_t'), by_python(page)) and asked.count('whole.bin') == 1


COUNTED = """async () => {
  const {versions} = await (await fetch('_static/live/facts.json')).json(), ort = await import(`./_static/live/ort.mjs?v=${versions.ort}`), create = ort.InferenceSession.create;
  window.ran = [];
  ort.InferenceSession.create = async (bytes, ...options) => {
    const session = await create.call(ort.InferenceSession, bytes, ...options), run = session.run.bind(session);
    session.run = (...asked) => { ran.push(bytes.length); return run(...asked); };
    return session;
  };
}"""


def test_the_network_rehearses_while_its_weights_are_coming(visit):
    "On zeros, three steps. Wrong programs: one that compiles only when the weights are here, a second later; one that rehearses as long as they take, or when they are here."
    page, held = visit('live.html?steps=2'), []
    page.wait_for_selector('form.live[data-ready]')
    page.evaluate(COUNTED)
    page.route('**/network.bin*', lambda route: held.append(route))
    page.get_by_role('button', name='Draw', exact=True).click()
    page.wait_for_function('ran.length === 3')
    page.wait_for_timeout(500)
    assert len(held) == 1 and len(set(page.evaluate('ran'))) == 1 and page.evaluate('ran')[0] < 200_000
    held[0].continue_()
    page.wait_for_function('/Done/.test(document.querySelector(".status").textContent)')
    assert len(page.evaluate('ran')) == 5 and len(set(page.evaluate('ran'))) == 2 and nearly_the_same(canvas(page, 'x_t'), by_python(page))


def test_the_noise_is_seen_before_anything_is_fetched(visit):
    "A black square tells nobody what will happen; a wrong program: noise of another seed than the walk's."
    page = visit('live.html?seed=5&count=8')
    page.wait_for_selector('form.live[data-ready]')
    noise = image_noise((8, 1, 28, 28), range(5, 13), 'cpu')()
    assert nearly_the_same(both(page)[0], to_pixels(noise).flatten(1).int())
    press(page, 'Draw')
    drawn = both(page)[0]
    choose(page, steps=7)
    assert torch.equal(both(page)[0], drawn)  # and what was drawn stays


def test_live_page_compares_itself_with_pytorch(visit):
    page = near_the_end(visit('index.html'))  # it is there too
    choose(page, seed=5, steps=3)
    assert re.search(r'\b0 of 784 pixels differ|at most by 1 of 255', press(page, 'Compare with PyTorch', 'PyTorch:'))


def nearly_the_same(ours, theirs):
    "Rounding of a runtime, and nothing else."
    off = (ours.flatten() - theirs.flatten()).abs()
    return off.max() <= 2 and (off > 0).float().mean() < 0.02


def test_eight_seeds_by_ddpm_beside_ddim_are_pythons(visit):
    "Wrong programs: one generator of noise for all eight; one walk that draws from the other's."
    page = visit('live.html?count=8&sampler=both&steps=3&eta=0.5&y=7&seed=4')
    page.wait_for_selector('form.live[data-ready]')
    assert 'differ by' in press(page, 'Draw')
    ddpm, ddim = both(page)
    assert ddpm.shape == ddim.shape == (8, 784)
    assert nearly_the_same(ddpm, by_python(page, 'by_ddpm')) and nearly_the_same(ddim, by_python(page, 'by_ddim'))
    assert not nearly_the_same(ddpm, ddim) and len({tuple(p) for p in ddim.tolist()}) == 8
    press(page, 'Another seed')
    assert page.locator('form.live [name=seed]').input_value() == '12'


def test_the_student_draws_while_a_control_moves(visit):
    "Wrong programs: the teacher's weights under the student's name; the runtime fetched once more for a second network."
    page = visit('live.html?net=fast&steps=4&count=8&y=7')
    page.wait_for_selector('form.live[data-ready]')
    asked = []
    page.on('request', lambda r: asked.append(urlparse(r.url).path.rpartition('/')[2]))
    press(page, 'Draw')
    assert nearly_the_same(both(page)[0], by_python(page)) and "load_pretrained('fashion-fast')" in page.locator('pre.python').inner_text()
    before = both(page)[0]
    page.evaluate('() => { document.querySelector("form.live .status").textContent = ""; }')
    choose(page, seed=5)
    page.wait_for_function('/Done/.test(document.querySelector("form.live .status").textContent)')
    assert not torch.equal(both(page)[0], before)
    choose(page, net='network', steps=2, count=1)
    press(page, 'Draw', 'Done: 2')
    assert nearly_the_same(both(page)[0], by_python(page)) and asked.count('runtime.bin') == 1 and {'fast.bin', 'network.bin'} <= set(asked)


def test_a_drawing_walks_back_from_its_noise(visit):
    "As `sdedit` does, from the same noise; a wrong program: all of the walk's steps, though the drawing enters in the middle."
    page = visit('live.html?start=drawing&t=500&steps=6&y=9')
    page.wait_for_selector('form.live[data-ready]')
    asked = []
    page.on('request', lambda r: asked.append(r.url))
    noisy, pad = both(page)[0], page.locator('canvas.pad')
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box['x'] + box['width']*0.2, box['y'] + box['height']*0.2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width']*0.8, box['y'] + box['height']*0.3, steps=3)
    page.mouse.up()
    drawn = both(page)[0]
    assert not torch.equal(drawn, noisy) and not [url for url in asked if 'favicon' not in url]  # the noise is seen before anything is fetched
    pad.focus()
    for key in 'ArrowLeft', ' ', 'ArrowDown', ' ': page.keyboard.press(key)
    assert not torch.equal(both(page)[0], drawn) and 'row' in pad.get_attribute('aria-label')
    settled(page)
    again = visit(address(page).rpartition('/')[2])
    again.wait_for_selector('form.live[data-ready]')
    assert torch.equal(both(again)[0], both(page)[0])
    assert 'Done: 3 steps' in press(page, 'Draw')
    assert nearly_the_same(both(page)[0], by_python(page))
    page.get_by_role('button', name='Take the garment above').click()
    assert both(page)[0].shape == (1, 784) and 'noise up to t = 500' in page.locator('.status').inner_text()
    choose(page, steps=1)
    page.get_by_role('button', name='Draw', exact=True).click()
    assert page.locator('form.live [name=steps]').evaluate('e => e.validationMessage').startswith('Take more steps')


def broken_garment(name, steps, eta, y, seed):
    "A mistake of the museum on one garment, with the clamp of x_0_hat that the live page has."
    model, sched = load_pretrained('fashion')
    step, noise, ts = step_of(name, sched, eta), image_noise((1, 1, 28, 28), [seed], 'cpu'), trailing(1000, steps)
    x, ab = noise().double(), sched.alpha_bar.double()
    for t, s in zip(ts, ts[1:] + [0]):
        with torch.inference_mode(): e = model(x.float(), torch.tensor([t]), torch.tensor([y])).double()
        if name == 'entry':
            before = (x - (1 - ab[t - 1]).sqrt()*e)/ab[t - 1].sqrt()
            e = (x - ab[t].sqrt()*before)/(1 - ab[t]).sqrt()
        x_0 = ((x - (1 - ab[t]).sqrt()*e)/ab[t].sqrt()).clamp(-1, 1)
        fresh = s > 0 and eta > 0 or name == 'last'
        x = (step_of('none', sched, eta) if name == 'entry' else step)(x, (x - ab[t].sqrt()*x_0)/(1 - ab[t]).sqrt(), t, s, noise().double() if fresh else torch.zeros(()))
    return to_pixels(x).flatten().int()


@pytest.mark.parametrize('name', ['last', 'entry', 'twice', 'clamp', 'direction'])
def test_a_mistake_on_the_garments_is_guessed_before_it_is_seen(visit, name):
    "The right walk on the left, the museum's on the right, and the exact error in words."
    page = visit('live.html?seed=3&y=8')
    page.wait_for_selector('form.live[data-ready]')
    page.get_by_label('Mistake').select_option(name)
    page.wait_for_selector('form.live .veil:visible')
    assert page.locator('canvas.x_0_hat').is_hidden() and page.locator('form.live .options input').count() == 3
    choose(page, steps=5)
    page.locator('form.live .options label').first.click()
    status = press(page, 'Show me')
    assert page.locator('canvas.x_0_hat').is_visible() and re.match('Yes|No', page.locator('form.live .options').inner_text())
    error = re.search('worst step: (.+?);', status)[1]
    assert error == 'not a linear step at all' if name == 'clamp' else float(error) > 0
    right, wrong = both(page)
    eta = float(page.locator('form.live [name=eta]').input_value())
    assert nearly_the_same(right, by_python(page)) and nearly_the_same(wrong, broken_garment(name, 5, eta, 8, 3))
    assert not torch.equal(right, wrong)
    page.get_by_label('Mistake').select_option('none')
    assert page.locator('form.live .guess').is_hidden() and page.locator('canvas.x_0_hat').is_visible()


@chromium_only
def test_a_link_to_the_settings_can_be_copied(visit):
    "Also from the first page, whose own address holds no settings."
    page = visit('index.html')
    page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
    near_the_end(page)
    choose(page, seed=77, steps=9)
    page.get_by_role('button', name='Copy a link', exact=True).click()
    page.wait_for_function('/link is copied/.test(document.querySelector("form.live .status").textContent)')
    link = urlparse(page.evaluate('navigator.clipboard.readText()'))
    assert link.path.endswith('/live.html') and {'seed=77', 'steps=9', 'mistake=none'} <= set(link.query.split('&'))


def test_look_back_shows_each_step(visit):
    "A wrong program: the value set before the largest one, which cuts it, so that the slider lags a step behind."
    page = visit('live.html?steps=4&seed=5')
    page.wait_for_selector('form.live[data-ready]')
    press(page, 'Draw')
    back, words = page.get_by_label('Look back'), page.locator('form.live label:has([name=back]) output')
    assert (back.input_value(), back.get_attribute('max'), words.inner_text()) == ('4', '4', 't = 0')
    back.focus()
    for wanted in 't = 250', 't = 500', 't = 750', 't = 1000':
        page.keyboard.press('ArrowLeft')
        assert words.inner_text() == wanted
    assert 'steps=4' in address(page) and 'seed=5' in address(page)
    choose(page, steps=1)
    assert '1 step in' in press(page, 'Draw', 'Done: 1 ')


@pytest.mark.parametrize('seed', ['-2', '2.5', '', '4294967296'])
def test_no_button_draws_a_seed_that_is_none(visit, seed):
    page = visit('live.html')
    page.wait_for_selector('form.live[data-ready]')
    choose(page, seed=seed)
    for button in 'Another seed', 'Draw': page.get_by_role('button', name=button, exact=True).click()
    assert page.locator('form.live [name=seed]').input_value() == seed and page.locator('.status').inner_text() == 'Nothing loaded yet.'
    assert 'seeds=' not in page.locator('pre.python').inner_text()


def test_an_address_with_nonsense_is_passed_over(visit):
    page = visit('live.html?seed=-4&steps=1e9&sampler=magic&eta=0.5&y=77&scale=x')
    page.wait_for_selector('form.live[data-ready]')
    values = page.evaluate('() => Object.fromEntries(["seed", "sampler", "eta", "y"].map(n => [n, document.querySelector("form.live")[n].value]))')
    assert values == dict(seed='0', sampler='ddim', eta='0.5', y='9')


def on_a_page_of_its_own(browser, served, path, broken):
    "A page, opened while what matches `broken` does not come; an object that mends it."
    page = browser.new_page(viewport=dict(width=390, height=844), service_workers='block')
    page.set_default_timeout(120_000)
    page.route(broken, lambda route: route.abort())
    page.goto(served + path)
    return page


def test_facts_that_do_not_come_can_be_asked_for_again(browser, served):
    page = on_a_page_of_its_own(browser, served, 'live.html', '**/facts.json')
    page.wait_for_function('/facts.json could not be fetched/.test(document.querySelector(".status").textContent)')
    assert page.get_by_role('button', name='Draw', exact=True).is_disabled()
    page.unroute('**/facts.json')
    page.get_by_role('button', name='Try again').click()
    page.wait_for_selector('form.live[data-ready]')
    assert page.get_by_role('button', name='Draw', exact=True).is_enabled() and page.get_by_role('button', name='Try again').is_hidden()
    assert page.locator('form.live [name=y] option').count() == 11
    page.close()


def test_no_button_can_be_pressed_before_it_does_something(browser, served):
    "A wrong program: one whose form, pressed while its script is on the way, reloads the page."
    page = on_a_page_of_its_own(browser, served, 'live.html', '**/live.mjs*')
    page.wait_for_function('/could not be fetched/.test(document.querySelector(".status").textContent)')
    assert page.locator('form.live .buttons button:visible').count() == page.locator('form.live .buttons button:visible:disabled').count() == 4
    page.locator('form.live [name=seed]').press('Enter')
    assert page.url == f'{served}live.html'
    page.close()


@pytest.mark.parametrize('broken', ['network.bin', 'zeros.bin', 'runtime.bin', 'ort.mjs', 'xz.mjs'])
def test_live_page_says_what_went_wrong_and_tries_again(browser, served, broken):
    page = on_a_page_of_its_own(browser, served, 'live.html?steps=1', f'**/{broken}*')
    page.wait_for_selector('form.live[data-ready]')
    page.get_by_role('button', name='Draw', exact=True).click()
    page.wait_for_function('/did not work/.test(document.querySelector(".status").textContent)')
    assert broken in page.locator('.status').inner_text()
    page.unroute(f'**/{broken}*')
    page.evaluate('() => { window.said = []; new MutationObserver(() => said.push(document.querySelector(".status").textContent)).observe(document.querySelector(".status"), {childList: true, characterData: true, subtree: true}); }')
    press(page, 'Draw')
    assert any(re.search(r'\d\.\d of \d\.\d MB', words) for words in page.evaluate('said'))  # bytes, while they come
    page.close()


def test_what_was_visited_opens_without_a_network(browser, site):
    "A wrong program: a worker that keeps only what is asked for once it is there, so that the first visit is lost."
    page = browser.new_context(viewport=dict(width=1300, height=900)).new_page()
    page.set_default_timeout(120_000)
    with serving(site) as address:
        page.goto(f'{address}live.html?steps=2')
        page.wait_for_selector('html[data-kept] form.live[data-ready]')
        press(page, 'Draw')
        drawn = canvas(page, 'x_t')
        page.goto(f'{address}nbs/07_ddim.html')
        page.wait_for_selector('html[data-kept]')
    page.goto(f'{address}live.html?steps=2&count=1')  # nobody serves it now
    page.wait_for_selector('form.live[data-ready]')
    press(page, 'Draw')
    assert torch.equal(canvas(page, 'x_t'), drawn)
    page.goto(f'{address}nbs/07_ddim.html')
    page.wait_for_function('document.fonts.size > 5 && [...document.querySelectorAll("article img")].every(i => i.loading === "lazy" || i.naturalWidth > 0)')
    with pytest.raises(Exception, match='REFUSED|ERR_FAILED'): page.goto(f'{address}nbs/05_oracle.html')
    page.context.close()


@pytest.mark.parametrize('file', ['network.bin', 'fast.bin', 'zeros.bin', 'runtime.bin', 'ort.mjs', 'xz.mjs'])
def test_large_files_are_named_by_their_bytes(site, file):
    "sw.js never asks twice for an address with ?v=; a wrong program gives new bytes the old name."
    live = site/'_static'/'live'
    facts = json.loads((live/'facts.json').read_text(encoding='utf-8'))
    assert hashlib.sha256((live/file).read_bytes()).hexdigest().startswith(facts['versions'][file.partition('.')[0]]) and len(facts['versions']['ort']) == 12


LIT = "name => [...(CSS.highlights.get(name) ?? [])].map(range => range.toString())"


def test_a_formula_lights_the_lines_that_check_it(visit):
    "Wrong programs: one that lights the whole cell; one that lights the check of another formula."
    page = visit('nbs/04_posterior.html')
    page.wait_for_selector('html[data-speaks]')
    page.locator('#eq-4-10').focus()
    lit = page.evaluate(LIT, 'checks')
    assert lit[0].endswith('checks (4.10)') and 1 < len(lit) <= 3 and all('(4.10)' in line or 'assert' in line for line in lit)
    near(page.locator('#eq-4-7')).hover()
    assert all('4.10' not in line for line in page.evaluate(LIT, 'checks')) and page.evaluate(LIT, 'checks')
    near(page.locator('#eq-4-10 .mathnormal', has_text='β').first).hover()
    letters = page.evaluate(LIT, 'letter')
    assert letters and set(letters) <= {'beta'}
    page.mouse.move(1, 1)
    page.evaluate('document.activeElement.blur()')
    assert not page.evaluate(LIT, 'checks') and not page.evaluate(LIT, 'letter')
    page.locator('#eq-4-10 .katex-tag').click()
    page.wait_for_url('**/04_posterior.html#eq-4-10')


def test_each_formula_with_a_check_on_its_page_lights_it(visit, site):
    "For every lesson: the numbers that its own cells say they check are those that light up."
    page = None
    for path in sorted(p.relative_to(site).as_posix() for p in site.glob('nbs/[0-9]*.html')):
        page = visit(path, page)
        page.wait_for_selector('html[data-speaks]')
        dark = page.evaluate("""() => {
          const said = [...document.querySelectorAll('article .cell_input pre')].map(p => p.textContent).join('\\n');
          return [...document.querySelectorAll('.formula[id^="eq-"]')].filter(f => {
            const number = f.id.slice(3).replace('-', '.'), has = said.split('\\n').some(line => /#.*checks/.test(line) && line.includes(`(${number})`));
            f.dispatchEvent(new Event('mouseenter'));
            const lit = !!CSS.highlights.get('checks')?.size;
            f.dispatchEvent(new Event('mouseleave'));
            return lit !== has;
          }).map(f => f.id);
        }""")
        assert not dark, (path, dark)


def test_a_reference_shows_its_formula(visit, site):
    "From a page of another lesson; a wrong program links numbers that are no formulas, or those in code."
    text = (site/'nbs'/'07_ddim.html').read_text(encoding='utf-8')
    others = re.findall(r'<a class="equation" href="(04_posterior.html#eq-[\w-]+|[\w./]+#eq-[\w-]+)">\(([\d.]+)\)</a>', text)
    assert others and all(href.endswith('#eq-' + number.replace('.', '-')) for href, number in others)
    page = visit('nbs/07_ddim.html')
    page.wait_for_selector('html[data-speaks]')
    href, number = others[0]
    page.locator(f'a.equation[href="{href}"]').first.focus()
    page.wait_for_selector('.speaks:visible .katex')
    assert number in page.locator('.speaks').inner_text()
    assert page.evaluate('''() => { const of = s => document.querySelector(`.speaks ${s}`).getBoundingClientRect(), last = [...document.querySelectorAll('.speaks .katex-base')].at(-1).getBoundingClientRect(); return last.right <= of('.katex-tag').left + 1; }''')  # the number stands beside the formula
    page.keyboard.press('Escape')
    assert page.locator('.speaks').is_hidden()
    known = {'4.7': 'nbs/04_posterior.html'}
    say = lambda words: site_finish.with_references(f'<article>{words}</article>', 'nbs/07_ddim.html', known).removeprefix('<article>').removesuffix('</article>')
    assert say('by (4.7), not (4.8)') == 'by <a class="equation" href="../nbs/04_posterior.html#eq-4-7">(4.7)</a>, not (4.8)'
    for same in '<code>f(4.7)</code>', '<pre><span>x</span> (4.7)</pre>', '<a href="x">see <em>(4.7)</em></a>', '<h2>On (4.7)</h2>', '<span class="formula">\text{by <span>(4.7)</span> (4.7)}</span>': assert say(same) == same


COVERED = """() => [...document.querySelectorAll('article :is(p, li, td) a')].filter(a => a.checkVisibility() && a.getClientRects().length).filter(a => {
  a.scrollIntoView({block: 'center', behavior: 'instant'});
  const box = a.getClientRects()[0], top = document.elementFromPoint(box.left + box.width/2, box.top + box.height/2);
  return !a.contains(top);
}).map(a => a.textContent)"""


@pytest.mark.parametrize('path', ['nbs/04_posterior.html', 'nbs/07_ddim.html', 'index.html'])
def test_no_link_lies_below_a_formula(visit, path):
    "The struts of a tall formula in the line below cover a link, unseen, and take its clicks."
    assert not visit(path).evaluate(COVERED)


@pytest.mark.parametrize('width', [1300, 390])
def test_a_link_into_a_page_leads_to_its_formula(visit, site, width):
    "Sections far away have no layout yet; a wrong program goes where the formula would be if they had the size that is guessed."
    found = re.findall(r'id="(eq-[\d-]+)"', (site/'nbs'/'07_ddim.html').read_text(encoding='utf-8'))
    for name in found[0], found[len(found)//2], found[-1]:
        page = visit(f'nbs/07_ddim.html#{name}', viewport=dict(width=width, height=844))
        page.wait_for_selector('html[data-shown]')
        page.wait_for_timeout(300)
        top = page.evaluate('name => document.getElementById(name).getBoundingClientRect().top', name)
        assert 0 <= top < 422, (name, top)


def test_an_exercise_is_answered_in_the_page(visit):
    "And remembered in this browser: on the page itself, and on the page about progress."
    page = visit('nbs/03_forward.html')
    box = near(page.locator('form.answer[data-exercise="03-std"]'))
    assert box.count() == 1 and 'f(sched, t)' in box.inner_text()
    for line, words in ('1 - sched.alpha_bar[t]', 'Not yet'), ('sched[t]', 'entries'), ('sqrt(1 - sched.alpha_bar[t])', 'Right.'):
        box.locator('input').fill(line)
        box.locator('input').press('Enter')
        page.wait_for_function('words => document.querySelector("form.answer .said").textContent.includes(words)', arg=words)
    page.reload()
    assert 'Answered right' in near(box).inner_text()
    visit('nbs/interface/progress.html', page)
    tally = page.locator('form.tally')
    assert f'1 of the {len(site_answers.ONE_LINE)}' in tally.inner_text() and '03-std' in tally.inner_text()
    tally.get_by_role('button').click()
    assert f'0 of the {len(site_answers.ONE_LINE)}' in tally.inner_text()


def test_each_checkable_exercise_has_its_box(site):
    found = [name for path in site.rglob('*.html') for name in re.findall(r'<form class="answer" data-exercise="([\w-]+)"', path.read_text(encoding='utf-8'))]
    assert sorted(found) == sorted(site_answers.ONE_LINE)


def test_what_happens_is_above_the_fold_on_a_phone(visit):
    page = visit('live.html', viewport=dict(width=390, height=844))
    page.wait_for_selector('form.live[data-ready]')
    page.locator('form.live').evaluate('e => e.scrollIntoView()')
    for part in 'form.live canvas.x_t', 'form.live .draw', 'form.live .status', 'form.live progress':
        box = page.locator(part).bounding_box()
        assert box['y'] >= -1 and box['y'] + box['height'] < 844, part


# The playground

READ = """() => [...document.querySelectorAll('form.play canvas')].map(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let h = 0; for (let i = 0; i < d.length; i++) h = (31*h + d[i]) | 0; return h; })"""


@pytest.fixture
def play(visit):
    "A function that opens the playground with a setting."
    def play(query='', **options):
        page = visit(f'play.html{query}', **options)
        page.wait_for_selector('form.play[data-ready]')
        settled(page)
        return page
    return play


def settled(page):
    page.evaluate('() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))')
    page.wait_for_function('!document.documentElement.dataset.writing')


def query(page): return {k: v[0] for k, v in parse_qs(urlparse(address(page)).query).items()}


def at_point(page, side, x, y):
    "Where on the screen data point (x, y) stands."
    box = page.locator(f'form.play canvas.{side}').bounding_box()
    return box['x'] + box['width']*(0.5 + x/4.8), box['y'] + box['height']*(0.5 - y/4.8)


@pytest.mark.parametrize('size', [dict(width=1440, height=900), dict(width=390, height=844)])
def test_a_visitor_who_knows_nothing(visit, size):
    "Sees on the first screen what this is; is one click from a point to drag and from what eta does; and one more from a shoe."
    page = visit('index.html', viewport=size)
    for part in 'article h1', 'p.opening', 'a.button[href="live.html"]', 'a.button[href="play.html"]', 'figure.hero .stage':
        box = page.locator(part).first.bounding_box()
        assert box['y'] >= 0 and box['y'] + min(box['height'], 80) < size['height'], part
    page.get_by_role('link', name='Drag a point', exact=True).first.click()
    page.wait_for_selector('form.play[data-ready]')
    settled(page)
    page.locator('canvas.left').scroll_into_view_if_needed()
    before, corner = page.evaluate(READ), 0.8*math.cos(math.pi/8)
    page.mouse.move(*at_point(page, 'left', corner, 0.8*math.sin(math.pi/8)))
    page.mouse.down()
    page.mouse.move(*at_point(page, 'left', 0.2, 0.1), steps=3)
    page.mouse.up()
    settled(page)
    assert re.match(r'(19|20|21)\.(9|10|11)_', query(page)['data']) and page.evaluate(READ) != before
    apart = lambda: float(re.search(r'two walks end ([\d.]+) apart', page.locator('form.play .status').inner_text())[1])
    page.locator('form.play [name=walk]').press('End')
    other = apart()
    page.locator('form.play [name=eta]').press('End')
    settled(page)
    assert other > 0 and apart() == 0  # eta 1 is DDPM, step for step
    visit('index.html', page)
    page.get_by_role('link', name='Draw one yourself').first.click()
    page.wait_for_selector('form.live[data-ready]')
    press(page, 'Draw')
    assert canvas(page, 'x_t').float().std() > 30


def test_playground_data_can_be_dragged_drawn_and_removed(play):
    page = play('?data=two&at=1')
    before = page.evaluate(READ)
    page.mouse.move(*at_point(page, 'left', -0.7, -0.2))
    page.mouse.down()
    page.mouse.move(*at_point(page, 'left', -0.2, 1), steps=4)
    page.mouse.up()
    settled(page)
    assert all(a != b for a, b in zip(before, page.evaluate(READ)))
    x, y = (int(v)/100 for v in query(page)['data'].split('_')[0].split('.'))
    assert abs(x + 0.2) < 0.05 and abs(y - 1) < 0.05
    page.mouse.move(*at_point(page, 'right', -1.5, -1.5))   # draw a line of new ones
    page.mouse.down()
    page.mouse.move(*at_point(page, 'right', 0, -1.5), steps=12)
    page.mouse.up()
    settled(page)
    assert 6 <= len(query(page)['data'].split('_')) <= 14
    many = len(query(page)['data'].split('_'))
    page.mouse.move(*at_point(page, 'left', 0.7, 0.2))      # out of the picture, and gone
    page.mouse.down()
    page.mouse.move(*at_point(page, 'left', 0.7, 2.9), steps=4)
    page.mouse.up()
    settled(page)
    assert len(query(page)['data'].split('_')) == many - 1


def test_playground_by_keyboard(play):
    page = play('?data=two')
    page.locator('canvas.left').focus()
    for key in 'ArrowRight', 'ArrowUp', 'Enter', 'ArrowLeft', ' ', 'Delete': page.keyboard.press(key); settled(page)
    words = page.locator('form.play .status').inner_text()
    assert query(page)['data'] == '70.20_-5.0' and 'of 2' in words
    page.get_by_role('button', name='Play').press('Enter')
    page.wait_for_function('document.querySelector("form.play output.t").value === "t = 0"')
    page.wait_for_function('/Arrived/.test(document.querySelector("form.play .status").textContent)')
    page.get_by_label('One step back').press('Enter')
    assert page.locator('output.t').inner_text() != 't = 0'


def test_playground_remembers_its_setting_in_the_address(play):
    wanted = dict(data='-50.0_50.10', eta='0.35', steps='17', particles='20', schedule='linear', spread='0.1', seed='9', mistake='none', show='guesses,score', at='0.47')
    page = play('?' + urlencode(wanted))
    first = page.evaluate(READ)
    page.get_by_role('button', name='Copy a link').click()
    settled(page)
    assert query(page) == wanted
    assert play('?' + urlencode(wanted)).evaluate(READ) == first
    page = play('?data=<script>&eta=9&steps=-3&seed=x&particles=1e9&schedule=constructor&mistake=toString&show=%00&at=NaN')
    assert page.locator('form.play [name=eta]').input_value() in ('0', '1') and query(page)['mistake'] == 'none'


STRICT = '''let n = 0; const write = history.replaceState.bind(history);
history.replaceState = (...args) => { if (++n > 100) throw new DOMException('more than 100 times per 30 seconds', 'SecurityError'); write(...args); };'''


@pytest.mark.parametrize('path, canvas', [('play.html?data=two', 'canvas.left'), ('schedule.html', '.curve canvas'), ('live.html?start=drawing', 'canvas.pad')])
def test_a_long_drag_is_no_burden_to_the_address(visit, path, canvas):
    "A wrong program: one that writes the address at each move, which Safari ends with an error at the hundredth."
    page = visit('api/index.html')
    page.add_init_script(STRICT)
    visit(path, page)
    page.wait_for_selector('form[data-ready]')
    page.locator(canvas).scroll_into_view_if_needed()
    before, box = address(page), page.locator(canvas).bounding_box()
    at = lambda x, y: (box['x'] + box['width']*x, box['y'] + box['height']*y)
    page.mouse.move(*at(0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*at(0.6, 0.7), steps=150)
    page.mouse.up()
    settled(page)
    assert address(page) != before


def test_playground_with_eta_1_shows_the_same_walk_twice(play):
    "DDPM is a member of the family; with eta 0 it is another walk."
    same, other = (play(f'?data=moons&eta={eta}&at=0.5').evaluate(READ) for eta in (1, 0))
    assert same[0] == same[1] and other[0] != other[1]


@pytest.mark.parametrize('show', ['paths', 'guesses', 'score', 'density'])
def test_playground_shows_what_is_asked(play, show):
    with_it, without = play(f'?at=0.5&show={show}').evaluate(READ), play('?at=0.5&show=').evaluate(READ)
    assert with_it[0] != without[0] and with_it[1] != without[1]


@pytest.mark.parametrize('name', ['last', 'entry', 'twice', 'clamp', 'direction'])
def test_a_mistake_is_guessed_before_it_is_seen(play, name):
    page = play()
    page.get_by_label('Mistake').select_option(name)
    page.wait_for_selector('form.play .veil:visible')
    assert page.locator('canvas.right').is_hidden() and page.locator('form.play .options input').count() == 3
    page.locator('form.play .options label').first.click()
    page.get_by_role('button', name='Show me').click()
    page.wait_for_function('/Exact error of the worst step/.test(document.querySelector("form.play .status").textContent)')
    assert page.locator('canvas.right').is_visible() and re.match('Yes|No', page.locator('form.play .options').inner_text())
    error = re.search('worst step: (.+?)\\. The', page.locator('form.play .status').inner_text())[1]
    assert error == 'not a linear step at all' if name == 'clamp' else float(error) > 0
    page.get_by_label('Mistake').select_option('none')
    assert page.locator('form.play .guess').is_hidden() and page.locator('canvas.right').is_visible()


@chromium_only
def test_playground_by_finger_and_without_motion(play):
    page = play('?data=two', viewport=dict(width=390, height=844), has_touch=True, reduced_motion='reduce')
    page.locator('canvas.left').scroll_into_view_if_needed()
    page.touchscreen.tap(*at_point(page, 'left', 0, 1.5))
    settled(page)
    assert len(query(page)['data'].split('_')) == 3
    page.get_by_role('button', name='Play').tap()
    page.wait_for_function('document.querySelector("form.play output.t").value === "t = 0"')


def verdict(page): return page.locator('form.designer .verdict').inner_text() + page.locator('form.designer .status').inner_text()


def test_a_schedule_is_designed_and_copied_as_python(visit):
    "S2's line loses the brightness; its end, dragged down, keeps it; and the Python on the page says the same."
    page = visit('schedule.html?start=s2&pixels=12288')
    page.wait_for_selector('form.designer[data-ready]')
    assert '11 %' in verdict(page) and 'not noise yet' in verdict(page)
    box = page.locator('form.designer .curve canvas').bounding_box()
    page.mouse.move(box['x'] + box['width'] - 3, box['y'] + box['height']*0.5)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] - 3, box['y'] + box['height'] - 2, steps=4)
    page.mouse.up()
    for _ in range(3): page.keyboard.press('ArrowLeft')
    page.locator('form.designer .curve canvas').focus()
    page.keyboard.press('ArrowDown')
    scope = {}
    exec(page.locator('form.designer pre.python').inner_text(), scope)
    found = diagnose(scope['sched'], 12288)
    assert f'{found.signal_T:.4f}' in verdict(page) and f'{found.kept_ddpm:.0%}'.replace('%', ' %') in verdict(page) and found.signal_T < 0.01
    settled(page)
    again = visit(address(page).rpartition('/')[2])
    again.wait_for_selector('form.designer[data-ready]')
    assert verdict(again) == verdict(page)


@pytest.mark.parametrize('query', ['', '?start=magic&pixels=-1', '?rates=1_2_3&T=7', '?start=own&rates=NaN_0_0_0_0_0_0', '?start=linear', '?start=s1&pixels=784'])
def test_the_designer_opens_with_any_address(visit, query):
    page = visit(f'schedule.html{query}')
    page.wait_for_selector('form.designer[data-ready]')
    settled(page)
    scope = {}
    with contextlib.redirect_stdout(io.StringIO()) as said: exec(page.locator('form.designer pre.python').inner_text(), scope)
    assert 'schedule of 1000 steps' in said.getvalue() and page.evaluate('() => { const c = document.querySelector(".drowning"); return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some(v => v > 0 && v < 255); }')


TIMED = """window.spent = []; const next = requestAnimationFrame.bind(window);
window.requestAnimationFrame = act => next(now => { const began = performance.now(); act(now); spent.push(performance.now() - began); });"""


def test_five_hundred_dots_move_smoothly(play):
    "What our code does for a picture, against a sum of known size done meanwhile: a machine's speed cancels, and who else uses it."
    page = play()
    page.add_init_script(TIMED)
    page.goto(page.url.partition('?')[0] + '?data=spiral&particles=500&steps=50&show=')
    page.wait_for_selector('form.play[data-ready]')
    frames, picture, unit = page.evaluate("""() => new Promise(done => {
      const sum = () => { const began = performance.now(); let x = 0; for (let i = 0; i < 2e5; i++) x += Math.exp(-i/1e5)*Math.sqrt(i); return x && performance.now() - began; };
      const units = [], quartile = all => all.toSorted((a, b) => a - b)[Math.floor(all.length/4)], timer = setInterval(() => units.push(sum()), 50);
      spent.length = 0;
      document.querySelector('button.play').click();
      setTimeout(() => { clearInterval(timer); done([spent.length, quartile(spent), quartile(units)]); }, 2500);
    })""")
    assert frames > 10 and picture < 4*unit, (frames, picture, unit)  # the sum takes about a tenth of the time between two pictures


ON_A_PHONE = ['color-contrast', 'label', 'scrollable-region-focusable', 'target-size', 'meta-viewport', 'button-name', 'link-name']


@chromium_only
@pytest.mark.parametrize('path', SHOWN)
def test_axe_finds_nothing_serious(visit, path):
    page = visit(path, color_scheme='light', reduced_motion='reduce')
    page.add_style_tag(content='* { transition: none !important; }')
    page.evaluate((make_site.npm('axe-core')/'axe.min.js').read_text(encoding='utf-8'))

    def serious(rules=None):
        only = {'runOnly': {'type': 'rule', 'values': rules}} if rules else {}
        result = page.evaluate('options => axe.run(options)', {'resultTypes': ['violations'], **only})
        assert len(result['passes']) >= (3 if rules else 20) or rules == ['color-contrast']
        return [(v['id'], v['impact'], [n['html'][:200] for n in v['nodes']][:3]) for v in result['violations'] if v['impact'] in ('serious', 'critical')]

    found = {'light': serious()}
    page.emulate_media(color_scheme='dark')
    page.wait_for_function('document.documentElement.dataset.theme === "dark"')
    found['dark'] = serious(['color-contrast'])
    page.set_viewport_size(dict(width=390, height=844))
    page.wait_for_function('document.documentElement.dataset.reachable == innerWidth')
    found['dark, phone'] = serious(ON_A_PHONE)
    assert not any(found.values()), found
    page.add_style_tag(content='article p { color: #444 !important; }')  # a fault it must see
    assert serious(['color-contrast'])


@chromium_only
def test_pages_print(visit):
    page = visit('nbs/03_forward.html')
    page.emulate_media(media='print')
    assert page.locator('p.launch').is_hidden() and not page.locator('.bd-sidebar-primary').is_visible() and page.locator('h1:visible').count() == 1
    assert len(page.pdf(prefer_css_page_size=True)) > 50_000
