"What the course cites: records/bibliography.csv, and the pages on which each entry is named."
import csv
import re
from pathlib import Path

import pages

ROOT = Path(__file__).resolve().parents[1]
MONTHS = 'January February March April May June July August September October November December'.split()
# a name, or several, and a year: Vincent 2011, Ho et al. (2020), Song, Meng and Ermon (2020), Kingma and Ba 2015
NAME = r'(?:van den )?[A-Z][a-zà-ÿ]+(?:[A-Z][a-zà-ÿ]+)?(?:-[A-Z][a-z]+)?'
CITED = re.compile(rf"\b({NAME})((?:, {NAME})*(?: and {NAME})?|(?: et al\.)),? \(?((?:19|20)\d\d)\b")


def table(name): return list(csv.DictReader((ROOT/'records'/name).open(encoding='utf-8', newline='')))


def text_of(page):
    "Prose and docstrings of a page: what a reader may take for a citation."
    cells = [(c['cell_type'], pages.source(c)) for c in pages.cells(page)]
    said = re.compile(r'^ *"""(.+?)"""|^ *"([^"].*)"$', re.M | re.S)
    code = [' '.join((a or b).split()) for kind, s in cells if kind == 'code' for a, b in said.findall(s)]
    return '\n'.join([s for kind, s in cells if kind == 'markdown'] + code)


def cited(text):
    "The (names, year) of a text that look like a citation; months are no names."
    return [(name + more, year) for name, more, year in CITED.findall(text) if not set(re.findall(r'\w+', name + more)) & set(MONTHS)]


def names(entry, who, year):
    "Is `entry` what a text means by `who` and `year`?"
    first = re.split(r',| and | et al', who)[0]
    return year == entry['year'] and (who.startswith(entry['name']) if ' and ' in entry['name'] else first == entry['name'])


def unknown(text, entries):
    "Citations of a text that no entry answers."
    return [(who, year) for who, year in cited(text) if not any(names(e, who, year) for e in entries)]


def pages_citing(entry, texts):
    "The pages, of {path: text}, that name an entry."
    also = re.compile(entry['also']) if entry['also'] else None
    return [path for path, text in texts.items() if any(names(entry, *c) for c in cited(text)) or also and also.search(text)]
