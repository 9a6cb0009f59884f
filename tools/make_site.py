"""Build the book: python tools/make_site.py [--out FOLDER] [--repository URL] [--without-solutions] [--sharp]

Lays out below build/site what Sphinx needs (the notebooks as nbdev means them, a page for each module, the frames of the sliders,
the network of the live page) and turns it into a static site in _docs, warnings being errors. Needs `pip install -e ".[docs]"` and npm.
"""
import argparse
import ast
import base64
import hashlib
import html
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from configparser import ConfigParser
from pathlib import Path

import site_answers
import site_finish
import site_live
import site_play

import pages
from ddpm_lesson import classroom

ROOT = Path(__file__).resolve().parents[1]
SITE, BUILD = ROOT/'site', ROOT/'build'/'site'
MINE = BUILD/str(os.getpid())  # two builds at once don't meet
STAGE, STATIC, EXTRA = MINE/'source', MINE/'source'/'_static', MINE/'source'/'_extra'
NPM = {  # version, and what the packed file must hash to
    'katex': ('0.19.1', 'sha512-jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA=='),
    'onnxruntime-web': ('1.30.0', 'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=='),
    'xz-decompress': ('0.2.3', 'sha512-O8v6HG8T0PrKBcpyWA13GkSYWFvncwzuzcLx5A7++l3HsE3atmoetXjIxrZ/JV/nbvSZ7WS4+3XvREZuVn+rEA=='),
    'axe-core': ('4.14.1', 'sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=='),
}
PARTS = {  # parts of the contents, and which pages of nbs/ belong there
    'Lessons': r'\d\d_', 'Look up': r'reference/', 'The engine': r'engine/', 'What you touch': r'interface/', 'Solutions': r'solutions/',
}


def npm(name):
    "The folder of an npm package, fetched once and checked against its hash."
    version, wanted = NPM[name]
    folder = BUILD/'npm'/f'{name}-{version}'
    if (folder/'package').is_dir(): return folder/'package'
    if not shutil.which('npm'): raise SystemExit(f'npm is needed to fetch {name}: install Node.js')
    fresh = MINE/'npm'/name
    fresh.mkdir(parents=True)
    subprocess.run(['npm', 'pack', '--silent', f'{name}@{version}'], cwd=fresh, check=True, stdout=subprocess.DEVNULL)
    [packed] = fresh.glob('*.tgz')
    got = 'sha512-' + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if got != wanted: raise SystemExit(f'{name} {version} wanted {wanted}, got {got}')
    with tarfile.open(packed) as tar: tar.extractall(fresh, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists(): fresh.rename(folder)
    return folder/'package'


# Films

def film(picture, alt):
    "A film that the reader can put away; frames.js starts with it put away where the system asks for less motion."
    from PIL import Image
    with Image.open(ROOT/'images'/Path(picture).name) as frames: width, height = frames.size
    return f'<details class="film" open><summary>{alt}</summary><img src="{picture}" alt="{alt}" width="{width}" height="{height}" loading="lazy"></details>'


def films(text, up=''):
    "Markdown with its moving pictures made such films."
    return re.sub(r'!\[([^\]]+)\]\((?:\.\./)*images/(\w+\.gif)\)', lambda m: film(f'{up}images/{m[2]}', m[1]), text)


# Notebooks

def source(cell): return ''.join(cell['source'])
def title(page): return re.search(r'^# (?:\d\d )?(.+)$', source(json.loads(page.read_text(encoding='utf-8'))['cells'][0]), re.M)[1]


def shown(cell):
    "A cell as nbdev means it: None if hidden, else without directives; `hide_input` and `export` live on as tags."
    lines = source(cell).splitlines(keepends=True)
    found = {re.split(r'[:\s]', line[2:].strip())[0] for line in lines if line.startswith('#|')}
    if found & {'hide', 'default_exp'}: return None
    tags = [tag for name, tag in (('hide_input', 'hide-input'), ('export', 'export'), ('exports', 'export')) if name in found]
    if cell['cell_type'] != 'code': return cell
    said = ''.join(line for line in lines if not line.startswith('#|'))
    folded = {'mystnb': {'code_prompt_show': 'Imports', 'code_prompt_hide': 'Imports'}} if imports(said) and not cell.get('outputs') else {}
    return cell | {'source': said, 'metadata': folded | {'tags': sorted({*tags, *(['hide-input'] if folded else [])})}}


def imports(code):
    "Does a cell only bring names, or set things up beside them? A reader who looks for the lesson passes it over."
    try: parts = ast.parse(code).body
    except SyntaxError: return False   # a line for the notebook itself, such as %pip
    brought = [isinstance(part, (ast.Import, ast.ImportFrom)) for part in parts]
    return any(brought[:1]) and all(b or isinstance(part, ast.Expr) and isinstance(part.value, ast.Call) for b, part in zip(brought, parts))


def one_title(cells):
    "The cells with one first-level heading: from a second one on, every heading goes down a level."
    seen = 0
    for cell in cells:
        if cell['cell_type'] != 'markdown': continue
        lines, fenced = source(cell).split('\n'), False
        for i, line in enumerate(lines):
            fenced ^= line.lstrip().startswith('```')
            if fenced or not re.match('#+ ', line): continue
            seen += line.startswith('# ')
            if seen > 1: lines[i] = '#' + line
        cell['source'] = '\n'.join(lines)
    return cells


def targets(text):
    "Markdown with its bare HTML anchors made places that Sphinx can link to and check."
    return re.sub(r'^<a (?:id|name)="([\w-]+)"></a>$', r'\n(\1)=\n', text, flags=re.M)


def badges(path, repository, branch):
    "Links that open a notebook elsewhere, drawn by our own stylesheet; without a repository only the download."
    host, _, name = repository.rstrip('/').removeprefix('https://').partition('/')
    file = path.relative_to(ROOT).as_posix()
    links = {}
    if host == 'github.com':
        links['Open in Colab'] = f'https://colab.research.google.com/github/{name}/blob/{branch}/{file}'
        links['Open in Binder'] = f'https://mybinder.org/v2/gh/{name}/{branch}?labpath={file}'
    if repository: links['Source'] = f'{repository.rstrip("/")}/blob/{branch}/{file}'
    links['Download the notebook'] = '../'*(len(Path(file).parts) - 1) + file
    note = f' <span>(in Colab, first run <code>%pip install git+{html.escape(repository)}</code>)</span>' if 'Open in Colab' in links and path not in pages.lessons(ROOT) else ''   # a lesson does so itself
    return '<p class="launch">' + ' '.join(f'<a href="{html.escape(url)}"{" download" if name.startswith("Down") else ""}>{name}</a>' for name, url in links.items()) + note + '</p>'


def anchored(cell):
    "An exported cell, below a place to link to."
    if 'export' not in cell['metadata'].get('tags', []): return [cell]
    return [{'cell_type': 'markdown', 'id': f'to-{cell["id"]}', 'metadata': {}, 'source': f'(cell-{cell["id"]})='}, cell]


class Told:
    "What a book tells, as a set of paths: all files there are; for a class not the pages that show answers."
    def __init__(self, answers=True): self.answers = answers

    def __contains__(self, path):   # below the repository
        hidden = not self.answers and path.suffix == '.ipynb' and classroom.shows_answers(path)
        return not hidden and (ROOT/path).exists()

    def text(self, path):
        "A page or a document as this book has it: without answers, links to what is not there are plain words."
        text, here = path.read_text(encoding='utf-8'), path.relative_to(ROOT)
        if self.answers: return text
        return classroom.page_as_copied(text, here, self, False) if path.suffix == '.ipynb' else classroom.unlinked(text, here, self)


def stage_notebook(path, repository, branch, told, sharpen):
    raw = told.text(path)
    nb = json.loads(raw)
    sharpen(nb['cells'], path)
    nb['cells'] = one_title([part for cell in map(shown, nb['cells']) if cell for part in anchored(cell)])
    if path.parent.name not in ('solutions', 'interface'): nb['cells'] = list(site_answers.with_boxes(nb['cells']))
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown': cell['source'] = films(targets(source(cell)), '../'*(len(path.relative_to(ROOT).parts) - 1))
    site_play.with_links(path.relative_to(ROOT/'nbs').with_suffix('').as_posix(), nb['cells'])
    first = nb['cells'][0]
    if path.stem == 'progress': nb['cells'].insert(1, {'cell_type': 'markdown', 'id': 'tally', 'metadata': {}, 'source': site_answers.tally()})
    first['source'] = re.sub(r'^(# .+\n)', lambda m: f'{spelled(m[1])}\n{badges(path, repository, branch)}\n\n', source(first) + '\n', count=1, flags=re.M)
    first['source'] = re.sub(r'^> .*', lambda m: spelled(m[0]), first['source'], flags=re.M)
    for folder in STAGE, EXTRA:
        (folder/path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
    (STAGE/path.relative_to(ROOT)).write_text(json.dumps(nb), encoding='utf-8')
    (EXTRA/path.relative_to(ROOT)).write_text(raw, encoding='utf-8')   # to download


def notebooks(told=Told()): return [p for p in pages.pages(ROOT, solutions=True) if p.name != 'index.ipynb' and p.relative_to(ROOT) in told]


def part_of(page):
    "The part of the contents that a page belongs to."
    return next(part for part, pattern in PARTS.items() if re.match(pattern, page.relative_to(ROOT/'nbs').as_posix()))


def entry(page):
    "A page's line in the contents: its title, with its number if it is a lesson."
    number = re.match(r'\d\d', page.stem) if page.parent == ROOT/'nbs' else None
    return f'{number[0] + " " if number else ""}{spelled(title(page))} <{page.relative_to(ROOT).with_suffix("").as_posix()}>'


def spelled(words):
    "A title whose indices stand low, as far as Unicode has such signs: the contents show no formulas."
    low = str.maketrans('0123456789+-tis{}', '₀₁₂₃₄₅₆₇₈₉₊₋ₜᵢₛ  ')
    return re.sub(r'_([\dtis]\b|\{[\dtis+-]+\})', lambda m: m[1].translate(low).replace(' ', ''), words)


def toctree(caption, entries): return '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *entries, '```', ''])


def contents(books):
    parts = {part: [entry(p) for p in books if part_of(p) == part] for part in PARTS}
    parts['Look up'] += ['api/index']
    parts['Solutions'] = ['nbs/solutions/index'] if parts['Solutions'] else []
    project = ['README <README>', *(name for name in ('CONTRIBUTING', 'CHANGELOG') if (ROOT/f'{name}.md').exists())]
    return '\n'.join(toctree(part, entries) for part, entries in ({'Try it': ['play', 'schedule', 'live']} | parts | {'Project': project}).items() if entries)


# Modules

def header(lines, node):
    "The lines of a function or class up to its body."
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    body = node.body[0]
    return lines[first - 1:body.lineno - 1] if body.lineno > node.lineno else lines[first - 1:body.end_lineno]


def skeleton(lines, node):
    "A signature with its comments; for a class also its fields and the signatures of its methods."
    if isinstance(node, ast.FunctionDef): return header(lines, node)
    kept = header(lines, node)
    for part in node.body[1 if ast.get_docstring(node) else 0:]:
        if not isinstance(part, ast.FunctionDef): kept += lines[part.lineno - 1:part.end_lineno]
        elif ast.get_docstring(part) or part.name == '__init__':
            about = part.body[0] if ast.get_docstring(part) and part.body[0].lineno > part.lineno else None
            kept += ['', *header(lines, part), *(lines[about.lineno - 1:about.end_lineno] if about else [])]
    return kept


def prose(docstring):
    "A docstring as Markdown: what Markdown would read into it is escaped, except in backticks."
    return ''.join(part if i % 2 else re.sub(r'([\\*_<>\[\]$~^#])', r'\\\1', part) for i, part in enumerate(re.split(r'(`[^`]*`)', ' '.join((docstring or '').split()))))


def module_page(path):
    "Every public function and class of a module: signature with the comments that give shape, range and unit; meaning; where it is derived."
    text = path.read_text(encoding='utf-8')
    lines, tree = text.splitlines(), ast.parse(text)
    page = [f'# ddpm_lesson.{module_name(path)}', prose(ast.get_docstring(tree))]
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
        cells = [m for line in lines[:node.lineno] if (m := re.match(r'# %% (?:\.\./)+(\S+\.ipynb) #(\w+)', line))]
        where = f'[Read it where it is derived](../{cells[-1][1]}#cell-{cells[-1][2]}).' if cells else ''
        page += [f'## {node.name}', f'{prose(ast.get_docstring(node))} {where}', '```python\n' + '\n'.join(skeleton(lines, node)) + '\n```']
    return '\n\n'.join(page) + '\n'


def stage_solutions(books):
    "One page that lists the solutions, so that the contents have one line for them."
    if not any(part_of(p) == 'Solutions' for p in books): return
    entries = [entry(p).rpartition(' <')[0] + f' <{p.stem}>' for p in books if part_of(p) == 'Solutions']
    text = '# Solutions\n\nEvery exercise solved, run and explained. Try first: the exercises say what is wrong with an answer.\n\n'
    (STAGE/'nbs'/'solutions'/'index.md').write_text(text + '\n'.join(['```{toctree}', ':maxdepth: 1', '', *entries, '```', '']), encoding='utf-8')


def module_name(path): return '.'.join(path.relative_to(ROOT/'ddpm_lesson').with_suffix('').parts)


def modules(told=Told()):
    "The exported modules whose page the book has, in the order of their first notebook."
    made = {p: re.search(r'File to edit: (?:\.\./)+(\S+\.ipynb)', p.read_text(encoding='utf-8')) for p in (ROOT/'ddpm_lesson').rglob('[a-z]*.py')}
    return sorted((p for p, m in made.items() if m and Path(m[1]) in told), key=lambda p: made[p][1])


def stage_modules(told):
    (STAGE/'api').mkdir()
    for path in modules(told): (STAGE/'api'/f'{module_name(path)}.md').write_text(module_page(path), encoding='utf-8')
    about = [f'- [{module_name(p)}]({module_name(p)}.md): {prose(ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))))}' for p in modules(told)]
    intro = 'Signatures with the comments that give shape, range and unit of each argument, in the order of the lessons.'
    toc = '\n'.join(['```{toctree}', ':hidden:', '', *map(module_name, modules(told)), '```'])
    (STAGE/'api'/'index.md').write_text('\n\n'.join(['# The package', intro, '\n'.join(about), toc]) + '\n', encoding='utf-8')


# Sliders, live page

def slider(name, label, picture, size, captions, first, rests, alt):
    "A slider over frames that stand below one another in one picture; frames.js moves it."
    width, height = size
    return f'''<figure class="frames" id="{name}" data-captions="{html.escape(json.dumps(captions))}" style="--shape: {width}/{height}">
<div class="window"><img src="_static/{picture}" width="{width}" height="{height*len(captions)}" alt="{html.escape(alt)}" loading="lazy"></div>
<label for="{name}-input">{html.escape(label)} <output for="{name}-input">{html.escape(captions[0])}</output></label>
<input id="{name}-input" type="range" min="{first}" max="{first + len(captions) - 1}" value="{rests}">
</figure>'''


def forward_slider():
    "Bundled garments at every 25th step, computed by q_sample; lossy, since exact noise is heavy."
    from make_pictures import below, drowned, one_of_each
    from PIL import Image

    from ddpm_lesson.schedule import cosine_schedule
    sched, ts = cosine_schedule(), range(0, 1001, 25)
    Image.fromarray(below(drowned(one_of_each(), ts))[0].numpy()).save(STATIC/'forward.webp', quality=50, method=6)
    captions = [f't = {t}: {100*sched.signal_rate[t]:.0f} % picture, {100*sched.noise_rate[t]:.0f} % noise' for t in ts]
    return slider('forward', 'Drag t from picture to noise', 'forward.webp', (140, 56), captions, 0, 14, 'Ten garments from the training images, one of each class, with noise mixed in up to step t of the cosine schedule')


def steps_slider():
    "Garments drawn with 1 to 50 network calls, computed by ddim_sample."
    from PIL import Image
    with Image.open(ROOT/'images'/'steps.png') as picture:
        width, height = picture.size
        picture.save(STATIC/'steps.webp', quality=75, method=6)
    count = height//56
    captions = ['1 network call', *(f'{S} network calls' for S in range(2, count + 1))]
    return slider('steps', f'Steps, 1 to {count}', 'steps.webp', (width, 56), captions, 1, 20, 'Ten garments drawn by the network, one of each class: blurred with few network calls, sharp with many')


# The whole

def filled(text, slots):
    "A page with its {{ slots }} filled; an unknown slot is an error."
    return re.sub(r'\{\{ ([\w ]+) \}\}', lambda m: slots[m[1]], text)


def section(readme, heading):
    "A section of the README, heading included; nothing if it has none."
    found = re.search(rf'^## {heading}\n.*?(?=^## |\Z)', readme, re.M | re.S)
    return found[0] if found else ''


def stage_linked(text):
    "Copy what a document links to and is no page itself, so that the links lead somewhere."
    for target in re.findall(r'\]\((?!https?:|#)([^)\s#]+)', text):
        file = ROOT/target
        if file.is_file() and file.suffix not in ('.md', '.ipynb'):
            (STAGE/target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, STAGE/target)


def stage_katex():
    "The stylesheet of the formulas with the fonts it names, in the one format that every browser of today reads."
    katex, here = npm('katex'), STATIC/'katex'
    (here/'fonts').mkdir(parents=True)
    for font in (katex/'dist'/'fonts').glob('*.woff2'): shutil.copy(font, here/'fonts')
    styles = (katex/'dist'/'katex.min.css').read_text(encoding='utf-8')
    (here/'katex.min.css').write_text(re.sub(r',url\([^)]+\.(?:woff|ttf)\) format\("\w+"\)', '', styles), encoding='utf-8')


def licences():
    "The licences of what comes from others, for the footer's link."
    from importlib.metadata import files
    theme = next(f for f in files('pydata_sphinx_theme') if f.name == 'fontawesome.js.LICENSE.txt')
    read = lambda p: Path(p).read_text(encoding='utf-8').strip()
    runtime, katex = npm('onnxruntime-web'), read(npm('katex')/'LICENSE')
    banner_of = lambda path: re.sub(r'^ \* ?', '', re.match(r'/\*!(.*?)\*/', read(path), re.S)[1], flags=re.M).strip()
    terms = katex[katex.index('Permission is hereby granted'):]  # MIT, as the banner says; the package has no file of its own
    texts = {
        'ddpm_lesson': read(ROOT/'LICENSE'), 'KaTeX (formulas)': katex,
        'onnxruntime-web (runs the network in the browser)': banner_of(runtime/'dist'/'ort.wasm.bundle.min.mjs') + '\n\n' + terms,
        'xz-decompress (unpacks it)': banner_of(npm('xz-decompress')/'dist'/'package'/'xz-decompress.min.js') + '\n\n' + terms, 'Font Awesome (icons)': read(theme.locate()),
    }
    return '\n\n\n'.join(f'{name}\n{"="*len(name)}\n\n{text}' for name, text in texts.items()) + '\n'


def claims(readme):
    "The numbers of the first page, each from where it is kept or computed."
    import equations
    found, checks = equations.collect()
    rows = re.findall(r'^\| \[\d\d [^|]+\|[^|]+\| (\d+) \| (\d+) \|', readme, re.M)
    off = site_live.difference('fashion', site_live.onnx_file(BUILD))
    return {
        'equations': str(len(found)), 'checks': str(len(checks)), 'difference': f'{off:.0e}'.replace('e-0', ' · 10<sup>−') + '</sup>',
        'lesson count': str(len(rows)), 'hours': f'{sum(int(m) for m, _ in rows)/60:.0f}', 'run minutes': f'{sum(int(s) for _, s in rows)/60:.0f}',
    }


def part(name): return (SITE/f'{name}.html').read_text(encoding='utf-8')


def stage(repository, branch, told, sharpen):
    "Lay out everything for Sphinx."
    shutil.rmtree(MINE, ignore_errors=True)
    shutil.copytree(SITE, STAGE, ignore=shutil.ignore_patterns('__pycache__', 'sw.js', 'live.html', 'playground.html', 'designer.html'))
    shutil.copytree(ROOT/'images', STAGE/'images')
    shutil.copytree(ROOT/'images', EXTRA/'images', ignore=shutil.ignore_patterns('*.md', 'steps.png'))
    (STAGE/'images'/'README.md').unlink()
    shutil.copy(SITE/'sw.js', EXTRA)  # at the root: it serves what lies below it
    stage_katex()
    books = notebooks(told)
    for page in books: stage_notebook(page, repository, branch, told, sharpen)
    for name in 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md':
        if (ROOT/name).exists():
            (STAGE/name).write_text(films(text := told.text(ROOT/name)), encoding='utf-8')
            stage_linked(text)
    stage_modules(told)
    stage_solutions(books)
    (STATIC/'LICENSES.txt').write_text(licences(), encoding='utf-8')
    readme = told.text(ROOT/'README.md')
    coming = site_live.stage_live(STATIC/'live', BUILD, npm('onnxruntime-web'), npm('xz-decompress'))
    site_live.stage_first(STATIC)
    site_answers.stage_answers(STATIC/'answers')
    slots = claims(readme) | {
        'source button': f'<a class="button" href="{html.escape(repository)}">Read the source</a>' if repository else '<a class="button" href="README.html">Read the source</a>',
        'forward slider': forward_slider(), 'steps slider': steps_slider(), 'live': part('live'), 'live page': part('live').replace('<form class="live">', '<form class="live" data-address>'), 'playground': part('playground'), 'designer': part('designer'), 'lessons': spelled(section(readme, 'The lessons')),
        'toc': contents(books), 'megabytes': f'{coming/1e6:.0f}', 'student megabytes': f'{(STATIC/"live"/"fast.bin").stat().st_size/1e6:.0f}', 'sampler link': '<a href="_static/sampler.mjs">one small file</a>',
        'films': film('images/forward.gif', 'There: ten garments drown in noise') + '\n\n' + film('images/way.gif', 'And back: twenty garments appear from noise'),
    }
    for name in 'index.md', 'live.md', 'play.md', 'schedule.md': (STAGE/name).write_text(filled((STAGE/name).read_text(encoding='utf-8'), slots), encoding='utf-8')


def check_replaces(out):
    "Leave, unless `out` is new, empty or a book that this tool made."
    if out.is_dir() and (not any(out.iterdir()) or all((out/name).is_file() for name in ('.buildinfo', 'live.html'))): return
    if os.path.lexists(out): sys.exit(f'--out wanted a new or empty folder, or an earlier book, got {out}')


def address_of(repository):
    "Where a forge shows the pages of a repository; nothing if we don't know."
    owner = re.fullmatch(r'https://github\.com/([\w-]+)/([\w.-]+?)/?', repository)
    return f'https://{owner[1].lower()}.github.io/{owner[2]}/' if owner else ''


def main(argv=None):
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    settings = config['DEFAULT']
    parser = argparse.ArgumentParser(description='Build the book.')
    parser.add_argument('--out', type=Path, default=ROOT/settings['doc_path'], help='where the site goes: a new or empty folder, or an earlier book, which is replaced')
    parser.add_argument('--repository', default=settings.get('git_url', ''), help='URL of the public repository, for the badges')
    parser.add_argument('--address', default='', help='URL where the book will stand, for what search engines read; by default the pages of the repository')
    parser.add_argument('--without-solutions', action='store_true', help='for a class: no solutions, no folded answers, no pages for teachers')
    parser.add_argument('--sharp', action='store_true', help='run each page that has figures again, to draw them at twice the dots')
    args = parser.parse_args(argv)
    check_replaces(args.out)
    sharpen = importlib.import_module('site_sharp').sharpen if args.sharp else lambda cells, path: None
    stage(args.repository, settings.get('branch', 'main'), Told(not args.without_solutions), sharpen)
    made = MINE/'html'
    if subprocess.run([sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', '-d', MINE/'doctrees', STAGE, made]).returncode: sys.exit(f'the book was not built from {STAGE}')
    site_finish.finish(made, npm('katex'), settings['version'], args.repository, args.address or address_of(args.repository))
    check_replaces(args.out)   # it may have changed in these minutes
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.copytree(made, args.out)
    shutil.rmtree(MINE)
    files = [p for p in args.out.rglob('*') if p.is_file()]
    print(f'{args.out}: {sum(p.suffix == ".html" for p in files)} pages, {sum(p.stat().st_size for p in files)/1e6:.0f} MB')


if __name__ == '__main__': main()
