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
import pages  # noqa: E402

PAGES = pages.pages()
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
NOT_CLAIMS = {'promises', 'ingredients', 'files', 'plot', 'cli', 'exercises', 'safety', 'questions', 'progress', 'equations', 'graphs'}   # name others only in passing


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


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.stem)
def test_every_link_to_others_is_in_the_table(page): assert not unlisted(page, prose(page))


@pytest.mark.parametrize('page', [p for p in PAGES if p.stem not in NOT_CLAIMS], ids=lambda p: p.stem)
def test_every_name_in_a_lesson_has_a_row(page): assert not unnamed(page, prose(page))


def test_every_piece_of_the_museum_has_a_row():
    page = json.loads((ROOT/'nbs'/'reference'/'museum.ipynb').read_text(encoding='utf-8'))
    table = next(''.join(o['data']['text/markdown']) for c in page['cells'] for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {}))
    pieces = [line.split(' | ')[1] for line in table.splitlines()[2:]]
    assert len(pieces) >= 20
    assert not set(pieces) - {r['id'].split('/', 1)[1].rsplit('/', 1)[0] for r in ROWS if r['page'] == 'museum'}


def test_rows_are_whole():
    assert len({r['id'] for r in ROWS}) == len(ROWS) > 200
    for r in ROWS:
        assert r['id'].startswith(r['page'] + '/') and r['page'] in {p.stem for p in PAGES} and r['claim'] and r['source'] and r['version'], r
        assert len(r['quote'].split()) <= 14, r
        assert bool(r['checked']) == bool(r['reader_a']) and re.fullmatch(r'|\d{4}-\d\d-\d\d', r['checked']), r
        assert re.fullmatch(r'|\w+, \d{4}-\d\d-\d\d', r['reader_b']) and (not r['reader_b'] or r['reader_a'] not in ('', r['reader_b'].split(',')[0])), r   # nobody is his own second reader
        if r['file'] and re.fullmatch('[0-9a-f]{40}', r['version']): assert r['version'] in r['link'] and r['quote'], r   # a line that was read is named by its commit
        if re.fullmatch(r'\d+(-\d+)?', r['line']) and 'github.com' in r['link']:
            lines = r['line'].replace('-', '-L')
            assert r['link'] == f"https://github.com/{r['source']}/blob/{r['version']}/{r['file']}#L{lines}", r


def test_what_was_not_opened_is_known():
    "Papers, and the write-up whose whole text could not be had, are named by their authors' own numbers; no program is cited unread."
    assert not [r['id'] for r in ROWS if not r['checked'] and ('/' in r['source'] or r['line'])]


def test_a_missing_row_is_noticed():
    page = ROOT/'nbs'/'05_oracle.ipynb'
    assert unlisted(page, 'see [here](https://github.com/a/b/blob/c/d.py#L3).') == {'https://github.com/a/b/blob/c/d.py#L3'}
    assert unnamed(page, 'labml adds noise') == [r'\blabml\b'] and unnamed(page, 'acids has no minus') == []
