"""What Sphinx leaves to do on the pages of the book: draw formulas, cut icons, say in the head what a page is, load less.

Each step is a function from the text of a page to its new text; tools/make_site.py calls `finish` on the folder that Sphinx made.
"""
import html
import json
import posixpath
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import site_styles

TOOLS = Path(__file__).resolve().parent
FORMULA = re.compile(r'<(span|div)( class="formula[^>]*)>(.*?)</\1>', re.S)
ICON = re.compile(r'<(i|span) class="([^"]*\bfa-solid\b[^"]*)"([^>]*)></\1>')


def plain(markup): return ' '.join(html.unescape(re.sub(r'<[^>]+>', '', markup)).split())


# Formulas

def displayed(attributes): return 'formula display' in attributes


def drawn(formulas, katex):
    "KaTeX's HTML of each (tex, displayed) pair; one that it can't read ends the build."
    found = sorted(set(formulas))
    run = subprocess.run(['node', TOOLS/'formulas.mjs', (katex/'dist'/'katex.mjs').as_uri()], input=json.dumps(found), capture_output=True, encoding='utf-8')
    if run.returncode: raise SystemExit(run.stderr)
    return dict(zip(found, json.loads(run.stdout)))


def formulas_of(text): return [(html.unescape(m[3]).strip(), displayed(m[2])) for m in FORMULA.finditer(text)]


def with_formulas(text, drawings):
    put = lambda m: f'<{m[1]}{m[2]}>{drawings[html.unescape(m[3]).strip(), displayed(m[2])]}</{m[1]}>'
    return FORMULA.sub(put, text)


# Icons

def icon_of(classes): return re.search(r'fa-solid fa-([\w-]+)', classes)[1]


def icon_styles(texts, fontawesome):
    "A stylesheet of the icons that the pages name, each cut out of the theme's script, which holds thousands."
    names = sorted({icon_of(m[2]) for text in texts for m in ICON.finditer(text)})
    return '\n'.join(icon_rule(name, fontawesome) for name in names) + '\n'


def icon_rule(name, fontawesome):
    found = re.findall(rf'["{{,]{name}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', fontawesome)
    if not found: raise SystemExit(f'the theme has no icon {name}')
    width, height, path = found[-1]  # solid comes last
    svg = f"%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'%3E%3Cpath d='{path}'/%3E%3C/svg%3E"
    return f'.icon-{name} {{ --icon: url("data:image/svg+xml,{svg}"); aspect-ratio: {width}/{height}; }}'


def as_icon(m):
    "The same mark with our class in place of the theme's."
    others = [c for c in m[2].split() if not c.startswith('fa-')]
    return f'<i class="{" ".join([*others, "icon", "icon-" + icon_of(m[2])])}"{m[3]} aria-hidden="true"></i>'


def with_icons(text): return ICON.sub(as_icon, text)


# The head

PREFIXES = {'api/': 'Signatures. ', 'nbs/solutions/': 'Solutions. '}  # these pages begin as the lesson does


def description(text, path=''):
    "The first sentences of a page, as a search engine or a chat shows them."
    article = text.partition('<article')[2]
    found = (plain(p) for p in re.findall(r'<p>(.*?)</p>', article, re.S))
    words = next((p for p in found if len(p) > 30), 'Learn denoising diffusion by building it')
    words = next((prefix for folder, prefix in PREFIXES.items() if path.startswith(folder)), '') + words
    return words if len(words) <= 160 else words[:157].rsplit(' ', 1)[0] + '...'


def name_of(text): return plain(re.search(r'<title>(.*?)</title>', text, re.S)[1])


def head(text, path, address, version):
    "The tags that tell others what a page is."
    name, words = name_of(text), description(text, path)
    url = lambda p: address + p
    pairs = {'og:type': 'website', 'og:title': name, 'og:description': words, 'og:image': url('_static/card.png')}
    if address: pairs['og:url'] = url(path)
    tag = lambda kind, key, value: f'<meta {kind}="{key}" content="{html.escape(value)}">'
    lines = [tag('name', 'description', words), *(tag('property', *pair) for pair in pairs.items())]
    lines += [tag('name', 'twitter:card', 'summary_large_image'), tag('name', 'generator', f'ddpm_lesson {version}')]
    if address: lines.append(f'<link rel="canonical" href="{html.escape(url(path))}">')
    return '\n'.join(lines)


EAGER = r'<script[^>]*(?:searchtools|language_data|searchindex)[^>]*></script>'  # only the page that searches needs them
ICON_SCRIPT = r'<script[^>]*fontawesome\.js[^>]*></script>'
VIEWPORT = r'<meta name="viewport"[^>]*>'


def one_viewport(text):
    first, *others = re.findall(VIEWPORT, text)
    return re.sub(VIEWPORT, '', text).replace('<meta charset="utf-8" />', f'<meta charset="utf-8" />\n{first}', 1)


def lighter(text, path):
    "A page without the scripts that it doesn't use."
    text = re.sub(ICON_SCRIPT, '', text)
    return text if path == 'search.html' else re.sub(EAGER, '', text)


PRELOAD = r'<link rel="preload" as="script"[^>]*>\n?'  # scripts that wait anyway would come before what is seen
ASKED = 'document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto";'
KNOWN = 'document.documentElement.dataset.theme = {light: "light", dark: "dark"}[document.documentElement.dataset.mode] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");'


def themed(text):
    "A page that is light or dark from the first picture on; else the theme's script, which comes late, draws all of it once more."
    if ASKED not in text: raise SystemExit('the theme no longer says in the head what is light or dark: see tools/site_finish.py')
    return re.sub(PRELOAD, '', text.replace(ASKED, KNOWN))


def unblocked(text, path, options):
    "A page that is shown before its scripts have come: the few options stand in it, all other scripts wait until it is read."
    if path == 'search.html': return text
    text = re.sub(r'<script src="[^"]*documentation_options\.js[^"]*"></script>', lambda m: f'<script>{options}</script>', text)
    return re.sub(r'<script (?:defer="defer" )?src=', '<script defer fetchpriority="low" src=', text)


def sized(text, path, made):
    "Figures that keep their place free, so that nothing moves when they come, and that don't hold up the words."
    from PIL import Image
    def image(m):
        with Image.open(made/posixpath.normpath(posixpath.join(posixpath.dirname(path), m[2]))) as picture: width, height = picture.size
        asked = re.search(r' width="(\d+)"', m[0])
        shown = int(asked[1]) if asked else width
        others = re.sub(r' (?:width|height)="[^"]*"', '', f'{m[1]}{m[3]}')
        return f'<img {others}src="{m[2]}" width="{shown}" height="{round(height*shown/width)}" fetchpriority="low" decoding="async">'
    return re.sub(r'<img ([^>]*)src="((?:\.\./)*_images/[^"]+)"([^>/]*)/?>', image, text)


REMOVED = '[".headerlink", "script", "style"]'
UNREAD = '[".headerlink", "script", "style", "annotation", ".katex-html", ".d-print-none", ".onlyprint", ".launch", "form"]'


def readable(searchtools):
    "The script of the search, whose excerpts show each formula once, and no buttons."
    if REMOVED not in searchtools: raise SystemExit("Sphinx's search no longer says what its excerpts leave out: see tools/site_finish.py")
    return searchtools.replace(REMOVED, UNREAD)


def named_by_their_words(text):
    "Folds are called what they show; the theme gives each a second name, which speech input does not know."
    return text.replace('<summary aria-label="Toggle hidden content">', '<summary>')


def footer(path, version, repository):
    up = '../'*path.count('/')
    source = f' · <a href="{html.escape(repository)}">Source</a>' if repository else ''
    return f'<p class="version">Version {version}{source} · <a href="{up}_static/LICENSES.txt">Licences</a></p>'


# The index of equations

def deep_links(text, path):
    "In the index of equations each number becomes a link to the formula itself."
    if not path.endswith('reference/equations.html'): return text
    page = ''
    def link(m):
        nonlocal page
        if m[1]: page = m[1]
        return m[0] if m[1] or not page else f'<p><strong><a href="{page}#eq-{m[2].replace(".", "-")}">({m[2]})</a></strong>'
    return re.sub(r'<h2><a class="reference internal" href="([^"#]+)|<p><strong>\(([\w.]+)\)</strong>', link, text)


# References to formulas

SILENT = {'a', 'code', 'pre', 'script', 'style', 'button', 'summary', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'form', 'nav', 'math', 'svg'}
VOID = {'area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr'}
REFERENCE = re.compile(r'\((\d{1,2}|[A-Z])\.(\d{1,2}[a-z]?)\)')


def places(pages):
    "Where each numbered formula stands: {'4.7': 'nbs/04_posterior.html'}."
    return {number.replace('-', '.'): path for path, text in pages.items() for number in re.findall(r'id="eq-([\w-]+)"', text)}


def with_references(text, path, known):
    "Each (4.7) in the prose of a page becomes a link to that formula, if there is one; speak.mjs shows it."
    before, mark, article = text.partition('<article')
    if not mark or path.endswith('reference/equations.html'): return text
    up, silent, parts = '../'*path.count('/'), [], []
    def link(m):
        number = f'{m[1]}.{m[2]}'
        if number not in known: return m[0]
        page = '' if known[number] == path else up + known[number]
        return f'<a class="equation" href="{page}#eq-{number.replace(".", "-")}">({number})</a>'
    for part in re.split(r'(<[^>]*>)', article):
        tag = re.match(r'<(/?)([a-z0-9]+)', part)
        parts.append(part if tag or silent else REFERENCE.sub(link, part))
        if not tag or tag[2] in VOID: continue
        if tag[1]: silent = silent[:-1] if silent and tag[2] == silent[-1] else silent
        elif tag[2] in SILENT or 'class="formula' in part or silent and tag[2] == silent[-1]: silent.append(tag[2])
    return before + mark + ''.join(parts)


# The catalogue of the museum

CATALOGUE = 'room', 'mistake', 'public place', 'right', 'wrong', 'measured as', 'killed by', 'not seen by'


def cells_of(row): return re.findall(r'<t[hd][^>]*>\s*(?:<p>)?(.*?)(?:</p>)?\s*</t[hd]>', row, re.S)


def regrouped(text):
    "The catalogue in four columns, so that none is cut: what and where, how much, who finds it, who does not."
    for table in re.findall(r'<table.*?</table>', text, re.S):
        rows = [cells_of(row) for row in re.findall(r'<tr.*?</tr>', table, re.S)]
        if rows and tuple(map(plain, rows[0])) == CATALOGUE: text = text.replace(table, catalogue(rows[1:]))
    return text


def catalogue(rows):
    line = lambda room, name, place, right, wrong, unit, killer, blind: (
        f'<tr><td><strong>{name}</strong><small>{room}: {place}</small></td><td>{wrong}, right is {right}<small>{unit}</small></td><td>{killer}</td><td>{blind}</td></tr>')
    head = ''.join(f'<th scope="col">{words}</th>' for words in ('mistake, and where it stood', 'measured', 'killed by', 'not seen by'))
    return f'<table class="table catalogue"><thead><tr>{head}</tr></thead><tbody>{"".join(line(*r) for r in rows)}</tbody></table>'


# Beside the pages

def sitemap(paths, address):
    lines = ''.join(f'<url><loc>{html.escape(address + p)}</loc></url>\n' for p in paths)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{lines}</urlset>\n'


def robots(address): return 'User-agent: *\nAllow: /\n' + (f'Sitemap: {address}sitemap.xml\n' if address else '')


def llms(pages, address):
    "What the book holds, for programs that read: a line a page, the notebook itself where there is one."
    line = lambda path, text: f'- [{name_of(text).partition(" — ")[0]}]({address}{path}): {description(text)}'
    lines = [line(p, t) for p, t in pages.items() if p.startswith('nbs/') and '/solutions/' not in p]
    about = '> Learn denoising diffusion by building it: lessons that prove every step by running it, and the package they leave behind.'
    return '\n'.join(['# ddpm_lesson', '', about, '', 'Each page below is also a notebook: the same address ending in `.ipynb`.', '', '## Pages', '', *lines]) + '\n'


def not_found(address):
    "A page for addresses that lead nowhere; it stands alone, since it may be shown at any depth."
    home = urlsplit(address).path or '/'
    links = {'The start': 'index.html', 'Lesson 0': 'nbs/00_start.html', 'Playground': 'play.html', 'Search': 'search.html'}
    listed = ''.join(f'<li><a href="{html.escape(home + url)}">{name}</a></li>' for name, url in links.items())
    style = ':root{color-scheme:light dark}body{font:1.1rem/1.6 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}a{color:light-dark(#0b5cad,#7cb9f4)}'
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="robots" content="noindex"><title>Not here — ddpm_lesson</title><style>{style}</style></head>'
            f'<body><main><h1>Only noise at this address</h1><p>The page has moved, or never was. From here you can walk back to:</p><ul>{listed}</ul></main></body></html>\n')


def finish(made, katex, version, repository, address):
    "Do all of it in the folder that Sphinx made."
    read = lambda p: p.read_text(encoding='utf-8')
    pages = {p.relative_to(made).as_posix(): read(p) for p in sorted(made.rglob('*.html')) if '_static' not in p.parts}
    drawings = drawn([f for text in pages.values() for f in formulas_of(text)], katex)
    scripts, known, options = made/'_static'/'scripts', places(pages), read(made/'_static'/'documentation_options.js')
    (made/'_static'/'icons.css').write_text(icon_styles(pages.values(), read(scripts/'fontawesome.js')), encoding='utf-8')
    (made/'_static'/'searchtools.js').write_text(readable(read(made/'_static'/'searchtools.js')), encoding='utf-8')
    for path in {*scripts.glob('fontawesome.js*'), *scripts.glob('*.map')}: path.unlink()
    for path, text in pages.items():
        up, text = '../'*path.count('/'), with_references(text, path, known)
        more = head(text, path, address, version) + f'\n<link rel="stylesheet" href="{up}_static/icons.css">'
        if '<form class="answer"' in text or '<form class="tally"' in text: more += f'\n<script type="module" fetchpriority="low" src="{up}_static/answers.mjs"></script>'
        if 'class="formula' in text or 'class="equation"' in text: more += f'\n<script type="module" fetchpriority="low" src="{up}_static/speak.mjs"></script>'
        more = f'<link rel="stylesheet" href="{up}_static/katex/katex.min.css">\n' + more
        text = unblocked(lighter(one_viewport(themed(with_icons(regrouped(deep_links(named_by_their_words(text), path))))), path), path, options)
        text = sized(with_formulas(text, drawings).replace('</head>', more + '\n</head>', 1), path, made)
        text = text.replace('<p class="component-author">', footer(path, version, repository) + '\n<p class="component-author">', 1)
        pages[path] = text
    for path, text in site_styles.one_stylesheet(made/'_static', pages).items(): (made/path).write_text(text, encoding='utf-8')
    shown = [p for p in pages if p not in ('search.html',)]
    for name, text in {'robots.txt': robots(address), 'llms.txt': llms(pages, address), '404.html': not_found(address)}.items():
        (made/name).write_text(text, encoding='utf-8')
    if address: (made/'sitemap.xml').write_text(sitemap(shown, address), encoding='utf-8')
