"Every statement about somebody else's code has a row in records/attributions.csv: where it stands, a few words of it, and when it was read."
import csv
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = list(csv.DictReader((ROOT/'records'/'attributions.csv').open(encoding='utf-8', newline='')))
sys.path.append(str(ROOT/'tools'))
import sources  # noqa: E402

import pages  # noqa: E402

PAGES = pages.pages()
READ = [*PAGES, *pages.solutions()]   # a solution answers for the names it drops by its lesson's rows
HOSTS = r'github\.com|gitlab\.com|huggingface\.co|arxiv\.org|lilianweng\.github\.io|kellerjordan\.github\.io|dao-ailab\.github\.io'
# a name in a page's prose, and what its row's source begins with, in lower case
NAMES = {
    r'\bS1\b': ('dfalbel/', 'posit ai blog'), r'\bS2\b': ('hackernoon',), r'\blabml\b': ('labmlai/',), r'\blucidrains\b': ('lucidrains/', 'denoising-diffusion-pytorch'),
    r'\bdiffusers\b': ('huggingface/diffusers', 'diffusers'), r'Understanding Deep Learning': ('udlbook/',), r'Annotated Diffusion': ('huggingface/blog', 'huggingface/notebooks'),
    r'FilippoMB': ('filippomb/',), r'\bacids\b': ('acids-ircam/',), r'DiffusionFastForward': ('mikonvergence/',), r'Hugging Face (class|course)': ('huggingface/diffusion-models-class',),
    r'minDiffusion|superminddpm': ('cloneofsimo/',), r'fast\.?ai\b': ('fastai/',), r'tsmatz': ('tsmatz/',), r'tiny-diffusion': ('tanelp/',), r'dome272': ('dome272/',),
    r'KAIST': ('kaist',), r'CompVis': ('compvis/',), r'explainingai': ('explainingai',), r"Lil'Log": ("lil'log",), r'CoursIA': ('jsboige/',), r'varun-ml': ('varun-ml/',),
    r'OpenAI|openai/': ('openai/',), r'\bEDM\b': ('nvlabs/', 'karras'), r'\bKeras\b': ('beresandras/',), r'pytorch_diffusion': ('pesser/',), r'DeepFindr': ('deepfindr',),
}
ENTRIES = sources.table('bibliography.csv')
NOT_CLAIMS = {'promises', 'ingredients', 'files', 'plot', 'cli', 'exercises', 'safety', 'cases', 'progress', 'equations', 'graphs', 'notation'}   # name others only in passing


def prose(page): return '\n'.join(''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown')
def links(text): return [link.rstrip('.,') for link in re.findall(rf'\]\((https?://(?:{HOSTS})/[^)\s]+)\)', text)]
def rows_of(page): return [r for r in ROWS if r['page'] == page.stem]


def unlisted(page, text):
    "Links of a page to code, papers or posts that no row of the page has."
    return set(links(text)) - {r['link'] for r in rows_of(page)}


def unnamed(page, text):
    "Names in a page's prose for which the page has no row."
    sources = [r['source'].lower() for r in rows_of(page)]
    return [name for name, starts in NAMES.items() if re.search(name, text) and not any(s.startswith(starts) for s in sources)]


def unread(page, text):
    "Papers that a text cites and for which the page has no row."
    rows = ' '.join(r['source'] + ' ' + r['claim'] for r in rows_of(page))
    return [e['name'] for e in ENTRIES if any(sources.names(e, *c) for c in sources.cited(text)) and not re.search(rf'\b{e["name"]}\b', rows)]


def named(p): return f'{p.parent.name}-{p.stem}'


@pytest.mark.parametrize('page', READ, ids=named)
def test_every_link_to_others_is_in_the_table(page): assert not unlisted(page, prose(page))


@pytest.mark.parametrize('page', [p for p in READ if p.stem not in NOT_CLAIMS], ids=named)
def test_every_name_in_a_lesson_has_a_row(page): assert not unnamed(page, prose(page)) and not unread(page, sources.text_of(page))


def test_every_piece_of_the_museum_has_a_row():
    page = json.loads((ROOT/'nbs'/'reference'/'museum.ipynb').read_text(encoding='utf-8'))
    table = next(''.join(o['data']['text/markdown']) for c in page['cells'] for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {}))
    pieces = [line.split(' | ')[1] for line in table.splitlines()[2:]]
    assert len(pieces) >= 20
    assert not set(pieces) - {r['id'].split('/', 1)[1].rsplit('/', 1)[0] for r in ROWS if r['page'] == 'museum'}


def home(r):
    "The repository in which the row's line was read: its own, or the one that has the paper's program."
    return r['read_in'] if '/' in r['read_in'] else r['source']


def faults(r):
    "What is wrong with one row, in words."
    hex40, lines = '[0-9a-f]{40}', r['line'].replace('-', '-L')
    in_source = bool(re.fullmatch(hex40, r['version']))
    commit = r['version'] if in_source else hex40
    wanted = rf"https://github\.com/{re.escape(home(r))}/blob/{commit}/{re.escape(r['file'])}#L{lines}"
    checks = {
        'whole': r['id'].startswith(r['page'] + '/') and all(r[k] for k in ('claim', 'source', 'version')),
        'a page of ours': r['page'] in {p.stem for p in PAGES},
        'a few words': len(r['quote'].split()) <= 14,
        'where it was read': re.fullmatch(r'|transcription|notes|[\w.-]+/[\w.-]+', r['read_in']),
        'a day and its reader': bool(r['checked']) == bool(r['reader_a']) and re.fullmatch(r'|\d{4}-\d\d-\d\d', r['checked']),
        'another reader': re.fullmatch(r'|\w+, \d{4}-\d\d-\d\d', r['reader_b']) and (not r['reader_b'] or r['reader_a'] not in ('', r['reader_b'].split(',')[0])),
        'a paper read elsewhere quotes': not r['read_in'] or r['quote'] and r['link'],
        'a line that was read is named by its commit': not (r['file'] and in_source) or r['version'] in r['link'] and r['quote'],
        'the link leads to the line': not (re.fullmatch(r'\d+(-\d+)?', r['line']) and 'github.com' in r['link']) or re.fullmatch(wanted, r['link']),
    }
    return [what for what, holds in checks.items() if not holds]


def test_rows_are_whole():
    assert len({r['id'] for r in ROWS}) == len(ROWS) > 350
    assert not [(r['id'], faults(r)) for r in ROWS if faults(r)]


def read_once(rows):
    "Rows whose source only one reader has opened."
    return {r['id'] for r in rows if r['checked'] and not r['reader_b']}


def test_every_row_was_read_by_two():
    "Wrong program: a statement about somebody else's code on its author's word alone."
    assert not read_once(ROWS)
    twice = next(r for r in ROWS if r['page'] == '15_solvers')
    assert read_once([twice | {'reader_b': ''}]) == {twice['id']} and not read_once([twice])


def test_a_faulty_row_is_noticed():
    "Wrong programs: a commit, a line or a reader that nobody looks at."
    paper = next(r for r in ROWS if r['read_in'] == 'openai/improved-diffusion')
    code = next(r for r in ROWS if r['line'] and not r['read_in'])
    assert faults(paper | {'link': paper['link'].replace('/blob/', '/tree/')}) == ['the link leads to the line']
    assert faults(paper | {'quote': ''}) == ['a paper read elsewhere quotes']
    assert 'the link leads to the line' in faults(code | {'line': '1'})
    assert faults(code | {'reader_a': 'B', 'reader_b': 'B, 2026-11-27'}) == ['another reader']


def stale(r, text):
    "Does the text of a row's page no longer name the row's source?"
    source = r['source'].lower()
    papers = [e for e in ENTRIES if re.match(rf'{e["name"].lower()}\b', source) or r['claim'].startswith(e['name'])]
    said = [rf'\b{e["name"]}\b' for e in papers] + [e['also'] for e in papers if e['also']] + [k for k, starts in NAMES.items() if source.startswith(starts)]
    repository = source.split('/')[-1] in text.lower()
    return not (r['link'] and r['link'] in text or repository or any(re.search(pattern, text) for pattern in said))


def test_no_row_outlives_its_passage():
    "Wrong program: a passage moves to another page, or goes, and its rows stay behind."
    texts = {}
    for page in READ: texts[page.stem] = texts.get(page.stem, '') + '\n'.join(map(pages.source, pages.cells(page)))
    assert not [r['id'] for r in ROWS if stale(r, texts[r['page']])]
    lil_log = next(r for r in ROWS if r['source'].startswith("Lil'Log"))
    assert stale(lil_log, texts['05_oracle']) and not stale(lil_log, texts['07_ddim'])


def test_every_source_was_opened_but_one():
    "Of S2 only the first paragraphs could be had: two pages say so, and no row cites a line of it."
    unread = [r for r in ROWS if not r['checked']]
    assert {r['id'].split('/', 1)[1] for r in unread} == {'S2/1'} and not [r['id'] for r in unread if r['line'] or r['file']]
    assert all(r['source'].startswith('HackerNoon') for r in unread) and len(unread) <= 14
    for page, words in (('00_start', 'of S2 only the first paragraphs'), ('published', 'text of S2 could not be opened')):
        assert words in prose(next(p for p in PAGES if p.stem == page)), page


def test_a_missing_row_is_noticed():
    page = ROOT/'nbs'/'05_oracle.ipynb'
    assert unlisted(page, 'see [here](https://github.com/a/b/blob/c/d.py#L3).') == {'https://github.com/a/b/blob/c/d.py#L3'}
    assert unread(page, 'as Heusel et al. 2017 say') == ['Heusel'] and not unread(page, 'Vincent 2011 has it')
    assert unnamed(page, 'labml adds noise') == [r'\blabml\b'] and unnamed(page, 'acids has no minus') == []
