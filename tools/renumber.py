"""Move a page and everything that names it: python tools/renumber.py OLD NEW, both as 03_forward or reference/museum

The page, its solution and their questions, links from and to them, equation numbers, the exercises' names, rows of tables and every other
mention follow. A page in a folder numbers by a letter, --as M.
Export, run the moved pages and run the tests afterwards. What is called after the page but is none of it, a module, stays; and so does
the name of a page without number where it is a plain word of a sentence: look at those by hand.
"""
import argparse
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {'.ipynb', '.md', '.py', '.csv', '.js', '.mjs', '.html', '.ini', '.yml', '.txt'}
HISTORY = {'CHANGELOG.md'}   # says what was; only its links follow
LINK = re.compile(r'(\]\(|href=\\?["\']|src=\\?["\'])((?!https?:|#|mailto:|attachment:|data:)[^)\s#"\'\\<>]+)')
LESSONS = re.compile(r'\b[Ll]essons \d+(?:(?:, and |, | and | or | to |-|–)\d+\b)*|\b[Ll]esson \d+\b')
ADDRESS = re.compile(r'(https?://[^\s)\]"\'<>\\]+)')   # of somebody else: left alone
ROWS = re.compile(r'(?:^[ "]*\| \[\d\d .*\n){2,}', re.M)   # of the table of lessons


def texts(root):
    "Every text file that git knows or would add, generated modules left out."
    names = subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=root, capture_output=True, encoding='utf-8', check=True).stdout
    files = [root/name for name in filter(None, names.split('\0'))]
    return [p for p in files if p.suffix in TEXTS and p.is_file() and not p.is_relative_to(root/'ddpm_lesson')]


def read(path): return path.read_bytes().decode('utf-8')
def file_of(page, root): return root/'nbs'/f'{page}.ipynb'
def stem(page): return Path(page).name
def solution(page): return f'solutions/{stem(page)}'


def number(page):
    "The number of a lesson's name: '18' of 18_scale, '3' of 03_forward, '' of a page in a folder."
    found = re.match(r'\d\d', stem(page))
    return str(int(found[0])) if found else ''


def words_of(page): return stem(page).replace('_', ' ')
def two(mark): return f'{mark:0>2}' if mark.isdigit() else mark
def questions(page): return f'lesson_{two(number(page)) if number(page) else stem(page)}'


def mark_of(page, root):
    "What a page numbers its equations and exercises by: its number, or a letter; '' where it has neither."
    text = read(file_of(page, root))
    letters = re.findall(r'\\tag\{([A-Z])\.', text)
    if file_of(solution(page), root).exists(): letters += re.findall(r"check\('([A-Z])-", text)
    return number(page) or (letters or [''])[0]


def names_of(text, mark):
    "The ends of a page's equation numbers, and the words of its exercises."
    tags = re.findall(rf'\\tag\{{{mark}\.(\d+[a-z]?)\}}', text)
    return sorted(set(tags)), sorted(set(re.findall(rf"check\('{two(mark)}-([\w-]+)'", text)))


def moved(page, old, new):
    "Where a page goes: the one that moves, and its solution."
    return {old: new, solution(old): solution(new)}.get(page, page)


def relinked(text, was, now, root, old, new):
    "A file's text with its relative links right again: the file moves from `was` to `now`, the page from `old` to `new`."
    def follow(m):
        target = goes = Path(os.path.normpath(was.parent/m[2]))
        if target.suffix == '.ipynb' and target.is_relative_to(root/'nbs'):
            goes = file_of(moved(target.relative_to(root/'nbs').with_suffix('').as_posix(), old, new), root)
        if goes == target and was == now or not target.exists(): return m[0]
        return m[1] + Path(os.path.relpath(goes, now.parent)).as_posix()
    return LINK.sub(follow, text)


def renamed(text, old, new, was, mark, equations, words):
    "A part of a text in which the page, its questions, equations and exercises bear their new names."
    text = re.sub(rf'(?<!\w)nbs/{old}(?!\w)', f'nbs/{new}', text)
    text = re.sub(rf'(?<!\w){questions(old)}(?!\w)', questions(new), text)
    text = re.sub(rf'(?<![\w/]){old}(?!\w)' if '/' in old else rf'(?<![\w/]){old}(?=\.ipynb)', new, text)
    if number(old): text = re.sub(rf'(?<!\w){stem(old)}(?!\w)', stem(new), text)
    if not was or was == mark: return text
    for n in equations: text = re.sub(rf'(\\tag\{{|(?<!\])\(|\'){was}\.{n}(?=[)}}\'])', lambda m: f'{m[1]}{mark}.{n}', text)
    for word in words: text = re.sub(rf'(?<![\w-]){two(was)}-{word}(?![\w-])', f'{two(mark)}-{word}', text)
    link = rf'\]\([^)]*(?<!\w){stem(new)}\.ipynb'
    if was.isdigit() and mark.isdigit(): text = re.sub(rf'\[0?{was} (?=[^\]]+{link})', f'[{two(mark)} ', text)
    else: text = re.sub(rf'\| \[{words_of(old)}(?={link})', f'| [{words_of(new)}', text)   # rows of tables
    if was.isdigit() and mark.isdigit():
        text = LESSONS.sub(lambda m: re.sub(rf'\b0?{was}\b', lambda n: two(mark) if n[0][0] == '0' else mark, m[0]), text)
    return text


def in_order(text):
    "A text whose table of lessons is in the order of their numbers."
    return ROWS.sub(lambda m: ''.join(sorted(m[0].splitlines(True), key=lambda row: re.search(r'\d\d', row)[0])), text)


def titled(text, new, mark):
    "The page or its solution with the number of its title exchanged, put there or left out."
    shown = f'{two(number(new))} ' if number(new) else ''
    text, found = re.subn(r'"# Solutions (?:\d\d|[A-Z]): ', f'"# Solutions {two(mark)}: ', text, count=1)
    return text if found else re.sub(r'"# (?:\d\d )?', f'"# {shown}', text, count=1)


def refuse(old, new, mark, root):
    "Stop where the page is not there, or what it shall be called is taken."
    if not file_of(old, root).is_file(): raise SystemExit(f'wanted a page below nbs/, got {old}')
    if file_of(new, root).exists(): raise SystemExit(f'wanted a free name, got {new}, which is there')
    if not re.fullmatch(r'[1-9]?\d|[A-Z]', mark): raise SystemExit(f'wanted a lesson NN_name, or --as and a capital letter, got {new} as {mark!r}')
    if number(new) not in ('', mark): raise SystemExit(f'wanted a lesson to be numbered by its own number, got {new} as {mark}')
    for page in sorted((root/'nbs').rglob('*.ipynb')):
        name = page.relative_to(root/'nbs').with_suffix('').as_posix()
        if name in (old, solution(old)) or name.startswith('solutions/'): continue
        if mark == mark_of(name, root): raise SystemExit(f'wanted a free number or letter, got {mark}, that of {name}')


def move(old, new, mark, root=ROOT):
    "Move page `old` to `new`, both below nbs/ and without suffix, and follow it everywhere; gives the files that changed."
    refuse(old, new, mark, root)
    was, after = mark_of(old, root), {}
    equations, words = names_of(read(file_of(old, root)), was)
    for file in texts(root):
        page = file.relative_to(root/'nbs').with_suffix('').as_posix() if file.is_relative_to(root/'nbs') and file.suffix == '.ipynb' else ''
        now = file_of(moved(page, old, new), root) if page else file
        text = relinked(read(file), file, now, root, old, new)
        if file.name not in HISTORY:
            parts = ADDRESS.split(text)
            parts[::2] = [renamed(part, old, new, was, mark, equations, words) for part in parts[::2]]
            text = in_order(''.join(parts))
        if page == solution(old): text = text.replace(f"page = '{stem(old)}'", f"page = '{stem(new)}'")
        if file.suffix == '.csv': text = re.sub(rf'(^|,){stem(old)}(?=[,/]|$)', lambda m: m[1] + stem(new), text, flags=re.M)
        if now != file: text = titled(text, new, mark)
        if now != file or text != read(file): after[file] = now, text
    made = root/'ddpm_lesson'/'exam'
    if (made/f'{questions(old)}.py').exists(): (made/f'{questions(old)}.py').rename(made/f'{questions(new)}.py')   # the export fills it
    for file, (now, text) in after.items():
        file.write_bytes(text.encode('utf-8'))
        now.parent.mkdir(parents=True, exist_ok=True)
        file.rename(now)
    return [now.relative_to(root).as_posix() for now, _ in after.values()]


def main():
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument('old', help='where the page is, below nbs/, without suffix')
    say.add_argument('new', help='where it goes')
    say.add_argument('--as', dest='mark', default='', help='the letter of its equations and exercises; a lesson has its number')
    a = say.parse_args()
    changed = move(a.old, a.new, a.mark or number(a.new))
    print('\n'.join(changed), f'\n{len(changed)} files; next: nbdev_export, tools/run_nbs.py, tools/equations.py, tools/readme.py, pytest')


if __name__ == '__main__': main()
