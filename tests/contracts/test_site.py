"""The book and its live page: built once, then read by a parser, by Node and by Chromium.

What is missing is installed where that can be done (Chromium by apt, as root); where it can't, the tests skip and say what they lack.
"""
import ast
import functools
import html
import http.server
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import torch
from torch.testing import assert_close

from conftest import Stub
from ddpm_lesson.data import to_pixels
from ddpm_lesson.guidance import Guided
from ddpm_lesson.pretrained import load_card, load_pretrained
from ddpm_lesson.sampler import ddim_steps, ddpm_steps, image_noise, trailing
from ddpm_lesson.schedule import cosine_schedule

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT/'tools'))
make_site, export_onnx = map(importlib.import_module, ('make_site', 'export_onnx'))

REPOSITORY = 'https://github.com/someone/ddpm_lesson'
SHOWN = ('index.html', 'nbs/03_forward.html', 'live.html')  # looked at most closely


# What the tests need

def needs(*programs):
    "The first of these programs, or skip."
    found = next(filter(None, map(shutil.which, programs)), None)
    if not found: pytest.skip(f'wanted {" or ".join(programs)}, and found none')
    return found


@pytest.fixture(scope='session')
def chromium():
    "A browser; Debian's, installed if we may."
    names = 'chromium', 'chromium-browser', 'google-chrome'
    if not any(map(shutil.which, names)) and hasattr(os, 'geteuid') and os.geteuid() == 0 and shutil.which('apt-get'):
        for command in ('update',), ('install', '-y', '--no-install-recommends', 'chromium'):
            subprocess.run(['apt-get', '-qq', *command], stdout=subprocess.DEVNULL, env=os.environ | {'DEBIAN_FRONTEND': 'noninteractive'})
    path = needs(*names)
    sync_api = pytest.importorskip('playwright.sync_api')
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The book, built once."
    needs('npm')
    out = tmp_path_factory.mktemp('site')/'book'
    subprocess.run([sys.executable, ROOT/'tools'/'make_site.py', '--out', out, '--repository', REPOSITORY], check=True)
    return out


@pytest.fixture(scope='session')
def served(site):
    "The book's address on this machine."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, '.mjs': 'text/javascript', '.wasm': 'application/wasm'}
        def log_message(self, *_): pass
    class Server(http.server.ThreadingHTTPServer): request_queue_size = 128
    with Server(('127.0.0.1', 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


@pytest.fixture
def visit(chromium, served):
    "A function that opens a page; afterwards nothing may have gone wrong on any page it opened, nor may any have asked another host."
    contexts, wrong = [], []

    def visit(path, page=None, **options):
        if page is None:
            context = chromium.new_context(**{'viewport': dict(width=1300, height=900), **options})
            contexts.append(context)
            page = context.new_page()
            page.set_default_timeout(120_000)  # a busy machine is no error
            page.on('console', lambda m: m.type == 'error' and wrong.append(f'{page.url}: {m.text}'))
            page.on('pageerror', lambda e: wrong.append(f'{page.url}: {e}'))
            page.on('request', lambda r: r.url.startswith((served, 'data:', 'blob:')) or wrong.append(f'{page.url} asks for {r.url}'))
        page.goto(served + path)
        page.evaluate('() => window.MathJax?.startup?.promise?.catch(() => 0)')
        return page

    yield visit
    for context in contexts: context.close()
    assert not wrong, '\n'.join(wrong)


def node(script, data):
    "What a script of ES modules prints as JSON, given `data`; `sampler` is our file."
    code = f"import * as sampler from {json.dumps((ROOT/'site'/'_static'/'sampler.mjs').as_uri())};\nconst data = JSON.parse(await new Response(process.stdin).text());\n{script}"
    code = code.replace('await new Response(process.stdin).text()', "(await import('node:fs')).readFileSync(0, 'utf8')")
    run = subprocess.run([needs('node'), '--input-type=module', '-e', code], input=json.dumps(data), capture_output=True, text=True)
    assert not run.returncode, run.stderr
    return json.loads(run.stdout)


# The exported network

def test_exported_network_is_the_model(tmp_path):
    pytest.importorskip('onnxruntime')
    path = make_site.onnx_file()
    assert max(export_onnx.difference('fashion', path, B) for B in (1, 2, 7)) < 1e-4
    model, _ = load_pretrained('fashion')
    x_t, t, y = export_onnx.example(load_card('fashion'), 7, seed=1)
    assert y[-1] == 10 and t.min() >= 1
    with torch.inference_mode():
        assert_close(model(x_t[-1:], t[-1:], y[-1:]), model(x_t[-1:], t[-1:]))          # label 10 is no label
        assert (model.net(x_t, t, y) - model(x_t, t, y)).abs().max() > 0.1              # the popular mistake: the bare network, which says v
    assert path.stat().st_size < 12e6


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


# The pages, as files

class Tags(HTMLParser):
    "All tags of a page with their attributes."
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
    def handle_starttag(self, tag, attrs): self.found.append((tag, dict(attrs)))


def pages(site): return sorted(p for p in site.rglob('*.html') if '_static' not in p.parts)


@pytest.fixture(scope='session')
def tags(site): return {p: Tags(p.read_text(encoding='utf-8')).found for p in pages(site)}


def test_every_notebook_and_module_has_a_page(site):
    for page in make_site.notebooks(): assert (site/page.relative_to(ROOT)).with_suffix('.html').exists() and (site/page.relative_to(ROOT)).exists()
    assert len(make_site.modules()) > 25
    for module in make_site.modules(): assert (site/'api'/f'{make_site.module_name(module)}.html').exists()
    for name in 'index', 'live', 'README', 'search', 'api/index': assert (site/f'{name}.html').exists()


def test_contents_follow_the_numbers(site):
    listed = re.findall(r'href="nbs/(\d\d)_\w+\.html">\1 ', (site/'index.html').read_text(encoding='utf-8'))
    wanted = [p.stem[:2] for p in make_site.notebooks() if re.match(r'\d\d_', p.stem) and p.parent.name == 'nbs']
    assert listed[:len(wanted)] == wanted == [f'{i:02}' for i in range(len(wanted))] and len(wanted) >= 15


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
    for name in 'sampler.mjs', 'live.mjs', 'frames.js': assert not re.search(r'https?:', (site/'_static'/name).read_text(encoding='utf-8'))


def test_links_within_the_site_lead_somewhere(site, tags):
    places = {p: {a[k] for _, a in found for k in ('id', 'name') if a.get(k)} for p, found in tags.items()}
    for page, found in tags.items():
        for href in [a['href'] for tag, a in found if tag == 'a' and a.get('href') and not re.match(r'\w+:', a['href'])]:
            path, place = urldefrag(unquote(href))
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


def test_no_directive_or_hidden_cell_is_shown(site):
    for page in (site/'nbs').rglob('*.html'): assert not re.search(r'#\|\s*(export|hide|default_exp)', html.unescape(re.sub(r'<[^>]+>', '', page.read_text(encoding='utf-8')))), page.name


# The pages, in a browser

def test_every_page_opens_in_peace_with_its_formulas_and_fits_a_phone(visit, site):
    wrong, page = [], None
    for path in [p.relative_to(site).as_posix() for p in pages(site)]:
        page = visit(path, page, viewport=dict(width=390, height=844))
        wanted, drawn, failed = page.evaluate('() => [".math", "mjx-container", "[data-mml-node=merror]"].map(s => document.querySelectorAll(s).length)')
        if drawn < wanted or failed: wrong.append(f'{path}: {drawn} of {wanted} formulas drawn, {failed} failed')
        tags = re.findall(r'\\\\tag\{([^}]+)\}', (ROOT/path).with_suffix('.ipynb').read_text(encoding='utf-8')) if path.startswith('nbs/') else []
        lost = [t for t in tags if not page.locator(f'#eq-{t.replace(".", "-")}').count()]
        if lost: wrong.append(f'{path}: no formula carries {lost}')
        page.wait_for_function('!window.MathJax || [...document.querySelectorAll("mjx-container.wide")].every(e => e.tabIndex === 0)')
        if (wide := page.evaluate('() => document.documentElement.scrollWidth')) > 390: wrong.append(f'{path}: {wide} pixels wide on a phone of 390')
    assert not wrong, '\n'.join(wrong)


def test_search_finds_a_lesson(visit):
    page = visit('search.html?q=slerp')
    page.wait_for_selector('#search-results li a')
    assert '07_ddim' in page.locator('#search-results').inner_html()


@pytest.mark.parametrize('name, first, last', [('forward', '0', '50'), ('steps', '1', '50')])
def test_sliders_move_by_keyboard(visit, name, first, last):
    page = visit('index.html')
    figure = page.locator(f'figure#{name}')
    slider, window, words = figure.locator('input'), figure.locator('.window'), figure.locator('output')
    seen = lambda: (slider.input_value(), words.inner_text(), slider.get_attribute('aria-valuetext'), window.screenshot())
    slider.focus()
    states = [seen()]
    for key in 'ArrowRight', 'ArrowRight', 'End': page.keyboard.press(key); states.append(seen())
    assert [s[0] for s in states] == [first, str(int(first) + 1), str(int(first) + 2), last]
    assert all(len({s[i] for s in states}) == 4 for i in (1, 2, 3))  # words, spoken words, picture: all new each time
    assert all(s[1] == s[2] for s in states)
    page.keyboard.press('Home')
    assert seen() == states[0]
    assert page.get_by_label('Drag t from picture to noise' if name == 'forward' else 'Steps, 1 to 50').count() == 1


def canvas(page, name):
    "The grey bytes on a canvas of the live page."
    rgba = page.evaluate('name => [...document.querySelector(name).getContext("2d").getImageData(0, 0, 28, 28).data]', f'form.live canvas.{name}')
    assert rgba[0::4] == rgba[1::4] == rgba[2::4]
    return torch.tensor(rgba[0::4])


def press(page, button, word='Done'):
    page.get_by_role('button', name=button, exact=True).click()
    page.wait_for_function('word => /It did not work/.test(document.querySelector(".status").textContent) || document.querySelector(".status").textContent.includes(word)', arg=word, timeout=90_000)
    status = page.locator('.status').inner_text()
    assert 'did not work' not in status, status
    return status


def by_python(page):
    "The grey bytes that the Python shown on the page gives."
    scope = {}
    exec(page.locator('pre.python').inner_text(), scope)
    return to_pixels(scope['x_0']).flatten().int()


def choose(page, **settings):
    for name, value in settings.items():
        page.evaluate('([name, value]) => { const field = document.querySelector("form.live")[name]; field.value = value; field.dispatchEvent(new Event("input", {bubbles: true})); }', [name, value])


def test_live_page_draws_what_python_draws_also_offline(visit):
    page = visit('live.html')
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


def test_live_page_compares_itself_with_pytorch(visit):
    page = visit('index.html')  # it is there too
    page.wait_for_selector('form.live[data-ready]')
    choose(page, seed=5, steps=3)
    assert re.search(r'\b0 of 784 pixels differ|at most by 1 of 255', press(page, 'Compare with PyTorch', 'PyTorch:'))


def test_live_page_says_what_went_wrong(chromium, served):
    page = chromium.new_page()
    page.route('**/fashion.onnx', lambda route: route.abort())
    page.goto(served + 'live.html')
    page.wait_for_selector('form.live[data-ready]')
    page.get_by_role('button', name='Draw', exact=True).click()
    page.wait_for_function('/It did not work/.test(document.querySelector(".status").textContent)')
    page.close()


ON_A_PHONE = ['color-contrast', 'label', 'scrollable-region-focusable', 'target-size', 'meta-viewport', 'button-name', 'link-name']


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
    page.wait_for_function('[...document.querySelectorAll("pre, mjx-container[display]")].every(e => e.scrollWidth <= e.clientWidth + 1 || e.tabIndex === 0)')
    found['dark, phone'] = serious(ON_A_PHONE)
    assert not any(found.values()), found
    page.add_style_tag(content='article p { color: #444 !important; }')  # a fault it must see
    assert serious(['color-contrast'])


def test_pages_print(visit):
    page = visit('nbs/03_forward.html')
    page.emulate_media(media='print')
    assert page.locator('p.launch').is_hidden() and not page.locator('.bd-sidebar-primary').is_visible() and page.locator('h1:visible').count() == 1
    assert len(page.pdf(prefer_css_page_size=True)) > 50_000
