"""One stylesheet for the book, of the rules that some page can use: the theme alone brings 380 kB, nearly all of it for other books.

A rule stays if every class and id that it names occurs in a page, or anywhere in a script; what stands in :not(), :is() and the like
is not looked at. tools/site_finish.py calls `one_stylesheet`.
"""
import hashlib
import posixpath
import re

LINK = re.compile(r'[ \t]*<link [^>]*href="(?:\.\./)*(_static/[^"?]+\.css)[^"]*"[^>]*>\n?')
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|url\([^)"\']*\)|[{};]|[^{};"\'u]+|.', re.S)
NESTED = re.compile(r'@(?:media|supports|layer|container)\b')


def rules(css):
    "The parts of a stylesheet, as (what stands before the brace, what stands within); within is None for a statement."
    depth, before, within = 0, '', ''
    for token in TOKEN.findall(re.sub(r'/\*.*?\*/', '', css, flags=re.S)):
        depth += (token == '{') - (token == '}')
        if depth == 0 and token == '}':
            yield before.strip(), within[1:]
            before = within = ''
        elif depth == 0 and token == ';':
            yield before.strip(), None
            before = ''
        elif depth: within += token
        else: before += token


def named(selector):
    "The classes and ids that an element, or what it stands in, must have."
    while (bare := re.sub(r'\([^()]*\)|\[[^\]]*\]', '', selector)) != selector: selector = bare
    return {name.replace('\\', '') for name in re.findall(r'[.#]((?:[\w-]|\\.)+)', selector)}


ICON = re.compile(r'content:\s*(?:var\(--pst-icon-[\w-]+\)|["\'](?:\\[ef][0-9a-f]{3}|[\ue000-\uf8ff])["\'])')  # a letter of a font that the book doesn't have


def used(css, known):
    "The stylesheet without what no page can use: selectors that name something unknown, and fonts of icons with their letters; the build draws icons."
    kept = []
    for before, within in rules(css):
        if within is None: kept.append(before + ';')
        elif NESTED.match(before): kept += [f'{before}{{{inner}}}'] if (inner := used(within, known)) else []
        elif before.startswith('@'): kept += [] if 'Font Awesome' in within else [f'{before}{{{within}}}']
        elif selectors := [s for s in re.split(r',(?![^(]*\))', before) if named(s) <= known]: kept.append(f'{",".join(selectors)}{{{ICON.sub("content:none", within.strip())}}}')
    return '\n'.join(kept)


def placed(css, folder):
    "A stylesheet of a folder below _static, as if it stood in _static."
    place = lambda m: m[0] if re.match(r'[\w+]+:|#|/', m[2]) else f'url({m[1]}{posixpath.normpath(posixpath.join(folder, m[2]))}{m[1]})'
    return re.sub(r'url\((["\']?)([^)"\']+)\1\)', place, css)


def read(static, name):
    "A stylesheet of _static, with what it imports put in."
    folder = posixpath.dirname(name)
    css = placed((static/name).read_text(encoding='utf-8'), folder)
    return re.sub(r'@import "([^"]+)";', lambda m: read(static, posixpath.normpath(posixpath.join(folder, m[1]))), css)


def known_words(texts, scripts):
    "Classes and ids of the pages, and all words of the scripts, which make more."
    attributes = {word for text in texts for value in re.findall(r'\b(?:class|id)=["\']([^"\']*)', text) for word in value.split()}
    return attributes.union(*(re.findall(r'[\w-]+', script) for script in scripts))


def one_stylesheet(static, pages):
    "Write _static/book.css for these pages, and return them with one link to it: {path: text}."
    names = list(dict.fromkeys(name.removeprefix('_static/') for text in pages.values() for name in LINK.findall(text)))
    scripts = [p.read_text(encoding='utf-8') for p in static.rglob('*') if p.suffix in ('.js', '.mjs') and p.name != 'ort.mjs']
    known = known_words(pages.values(), scripts)
    book = '\n'.join(used(read(static, name), known) for name in names)
    (static/'book.css').write_text(book, encoding='utf-8')
    version = hashlib.sha256(book.encode()).hexdigest()[:8]
    return {path: with_one_link(text, path, version) for path, text in pages.items()}


def with_one_link(text, path, version):
    links = [f'<link rel="stylesheet" href="{"../"*path.count("/")}_static/book.css?v={version}">\n']
    return LINK.sub(lambda m: links.pop() if links else '', text)   # in place of the first
