"How Sphinx turns the folder that tools/make_site.py lays out into the book."
import re
from pathlib import Path

from docutils import nodes

project = html_title = 'ddpm_lesson'
author = 'The ddpm_lesson authors'
extensions = ['myst_nb', 'sphinx_copybutton']
exclude_patterns = ['_build']
nb_execution_mode = 'off'  # show the outputs that are committed
nb_merge_streams = True
nb_render_markdown_format = 'myst'  # tables and formulas that a cell prints are tables and formulas
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence']
myst_heading_anchors = 4
language = 'en'

html_theme = 'sphinx_book_theme'
html_theme_options = {'navbar_persistent': [], 'show_toc_level': 2, 'use_download_button': False, 'use_fullscreen_button': False, 'show_navbar_depth': 1, 'back_to_top_button': False}
html_static_path, html_extra_path = ['_static'], ['_extra']
html_css_files, html_js_files = ['site.css'], [('frames.js', {'defer': 'defer'})]
html_context = {'default_mode': 'auto'}  # light or dark, as the reader's system is
html_favicon = '_static/favicon.svg'
html_copy_source = html_use_index = html_show_sphinx = False
html_last_updated_fmt = None
html_math_renderer = 'as_it_is'  # tools/site_finish.py draws the formulas
html_search_scorer = str(Path(__file__).with_name('scorer.js'))


def plain(tex):
    "A formula as a voice can say it: no backslashes, braces or spacing."
    tex = re.sub(r'\\(bar|hat|tilde)\s*\{?\s*\\?([A-Za-z]+)\}?', r'\2-\1', tex)
    return re.sub(r'\\(?:[,;!: ]|\w+arrow|mathcal|mathbb|mathrm|text|tfrac|frac|left|right|quad)|[{}$\\]', ' ', tex)


def spoken(node):
    "The words of a paragraph, formulas made plain."
    return ' '.join(''.join(plain(leaf.astext()) if isinstance(leaf.parent, nodes.math) else leaf.astext() for leaf in node.findall(nodes.Text)).split())


def last_sentences(text, most=300):
    "As many whole sentences from the end as fit, one at least: they say what to look at."
    sentences, kept = re.split(r'(?<=[.!?])\s+(?=[A-Z(])', text), ''
    for sentence in reversed(sentences):
        if kept and len(kept) + len(sentence) > most: break
        kept = f'{sentence} {kept}'.strip()
    return kept


def describe_pictures(app, doctree):
    "Give each picture that has no words of its own the sentences above it."
    above = ''
    for node in doctree.findall(lambda n: isinstance(n, (nodes.paragraph, nodes.title, nodes.image))):
        if isinstance(node, nodes.image): node['alt'] = node.get('alt') or last_sentences(above) or 'Figure'
        elif node.astext().strip(): above = spoken(node)


def number_formulas(app, doctree):
    "Give the number of each displayed formula a place to link to: #eq-3-2."
    for node in doctree.findall(nodes.math_block):
        for number in re.findall(r'\\tag\{([^}]+)\}', node.astext()): node['ids'].append('eq-' + number.replace('.', '-'))


def inline(visitor, node):
    visitor.body.append(f'<span class="formula">{visitor.encode(node.astext())}</span>')
    raise nodes.SkipNode


def display(visitor, node):
    visitor.body.append(visitor.starttag(node, 'div', '', CLASS='formula display') + visitor.encode(node.astext()) + '</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer('as_it_is', (inline, None), (display, None))
    app.connect('doctree-read', describe_pictures)
    app.connect('doctree-read', number_formulas)
