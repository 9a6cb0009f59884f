"Every paper that a page names stands in the bibliography, and every lesson leads to the page that explains its signs and words."
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT/'tools'))
import sources  # noqa: E402

import pages  # noqa: E402

ENTRIES = sources.table('bibliography.csv')
ROWS = sources.table('attributions.csv')
NOTATION = ROOT/'nbs'/'reference'/'notation.ipynb'
ARXIV = r'\d{4}\.\d{4,5}'


def test_every_paper_named_has_an_entry():
    texts = {pages.path_of(p): sources.text_of(p) for p in pages.pages(solutions=True)}
    assert sum(len(sources.cited(t)) for t in texts.values()) > 60   # the pattern still finds them
    assert not {path: u for path, t in texts.items() if p_is_ours(path) and (u := sources.unknown(t, ENTRIES))}


def p_is_ours(path): return path != 'reference/notation'   # it names a paper that does not exist, as a test


def test_every_number_of_arxiv_has_an_entry():
    "Wrong program: a paper cited by its number alone."
    ours = set(re.findall(ARXIV, ' '.join(e['link'] for e in ENTRIES)))
    said = {n for p in pages.pages() for n in re.findall(rf'arXiv:? ?({ARXIV})|arxiv\.org/abs/({ARXIV})', sources.text_of(p)) for n in n if n}
    looked_up = {n for r in ROWS for n in re.findall(rf'arXiv ({ARXIV})', r['version'])}
    assert len(ours) > 25 and not (said | looked_up) - ours


def test_every_entry_is_named_somewhere_and_once():
    texts = {pages.path_of(p): sources.text_of(p) for p in pages.pages(solutions=True)}
    assert len({(e['authors'], e['title']) for e in ENTRIES}) == len(ENTRIES)
    assert len({(e['name'], e['year']) for e in ENTRIES}) == len(ENTRIES)   # no citation means two papers
    assert not [e['name'] for e in ENTRIES if not sources.pages_citing(e, texts)]


def test_citations_are_told_from_dates():
    "Wrong programs: one that takes May 2024 for a paper, one that takes Ho and Salimans for Ho et al."
    said = 'fixed in May 2024. Song, Meng and Ermon (2020); van den Oord et al. 2016; McCandlish et al. 2018; (Vincent 2011)'
    assert [who.split(',')[0].split(' et')[0] for who, _ in sources.cited(said)] == ['Song', 'van den Oord', 'McCandlish', 'Vincent']
    ho = {'name': 'Ho', 'year': '2022', 'also': ''}
    both = {'name': 'Ho and Salimans', 'year': '2022', 'also': ''}
    assert sources.names(both, 'Ho and Salimans', '2022') and not sources.names(both, 'Ho et al.', '2022')
    assert sources.pages_citing(ho | {'year': '2020'}, {'a': 'Ho and Salimans (2022, Eq. 6)'}) == []


def test_every_lesson_leads_to_the_notation():
    for page in pages.lessons():
        first = '\n'.join(pages.source(c) for c in pages.cells(page)[:3] if c['cell_type'] == 'markdown')
        assert re.search(r'^\*About \d+ minutes.*\n\n\[[^\]]+\]\(reference/notation\.ipynb\)$', first, re.M), page.stem
    index = '\n'.join(pages.source(c) for c in pages.cells(ROOT/'nbs'/'index.ipynb'))
    assert '(reference/notation.ipynb)' in index


def test_the_page_shows_what_it_computes():
    "Wrong program: a page that was not run again after the bibliography had grown."
    outputs = [o for c in json.loads(NOTATION.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', [])]
    tables = '\n'.join(''.join(o['data']['text/markdown']) for o in outputs if 'text/markdown' in o.get('data', {}))
    assert not [e['title'] for e in ENTRIES if e['title'] not in tables]
