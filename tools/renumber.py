"""Move a page and everything that names it: python tools/renumber.py 14_scale 21_scale

The page, its solution, links from and to them, equation numbers, the exercises' names, rows of `records/` and every other mention
follow. A page in a folder numbers by a letter: python tools/renumber.py museum reference/museum --as M
Export, run the moved pages and run the tests afterwards. What is called after the page but is none of it, a module, stays.
"""
import argparse
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {'.ipynb', '.md', '.py', '.csv', '.js', '.mjs', '.html', '.ini', '.yml', '.txt'}
LINK = re.compile(r'(\]\(|href=\\?["\']|src=\\?["\'])((?!https?:|#|mailto:|attachment:|data:)[^)\s#"\'\\<>]+)')


def texts(root):
    "Every text file that git knows or would add, generated modules left out."
    names = subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=root, capture_output=True, text=True, check=True).stdout
    files = [root/name for name in filter(None, names.split('\0'))]
    return [p for p in files if p.suffix in TEXTS and p.is_file() and not p.is_relative_to(root/'ddpm_lesson')]


def number(page):
    "The number a page gives its equations and exercises: '18' of 14_scale, '' of a page in a folder."
    found = re.match(r'\d\d', Path(page).name)
    return str(int(found[0])) if found else ''


def moved(page, old, new):
    "Where a file goes: the page itself, or its solution."
    stem = 'solutions/' + Path(old).name
    return {old: new, stem: 'solutions/' + Path(new).name}.get(page, page)


def relinked(text, was, now, root, old, new):
    "A file's text with its relative links right again: the file moves from `was` to `now`, the page from `old` to `new`."
    def follow(m):
        target = Path(os.path.normpath(was.parent/m[2]))
        inside = target.with_suffix('').as_posix() if target.suffix != '.ipynb' else ''
        if target.suffix == '.ipynb' and target.is_relative_to(root/'nbs'):
            inside = target.relative_to(root/'nbs').with_suffix('').as_posix()
            goes = root/'nbs'/f'{moved(inside, old, new)}.ipynb'
        else: goes = target
        if goes == target and was == now or not target.exists(): return m[0]
        return m[1] + Path(os.path.relpath(goes, now.parent)).as_posix()
    return LINK.sub(follow, text)


def renamed(text, old, new, mark, exercises):
    "A text in which equations, exercises and the page itself bear their new names."
    was, stem, fresh = number(old), Path(old).name, Path(new).name
    text = text.replace(f'nbs/{old}.ipynb', f'nbs/{new}.ipynb')
    text = re.sub(rf'(?<![\w/]){stem}(?!\w|\.ipynb)', fresh, text)
    if not was or was == mark: return text
    shown = f'{number(new):0>2} ' if number(new) else ''
    text = re.sub(rf'\[{was:0>2} ([^\]]+\]\([^)]*{fresh}\.ipynb)', rf'[{shown}\1', text)
    text = re.sub(rf'(\\tag\{{|(?<!\])\(){was}\.(?=\d+[a-z]?[)}}])', lambda m: f'{m[1]}{mark}.', text)
    prefix = f'{mark:0>2}' if mark.isdigit() else mark
    for name in exercises: text = re.sub(rf'(?<![\w-]){name}(?![\w-])', prefix + name[2:], text)
    if mark.isdigit(): text = re.sub(rf'\b([Ll]esson|[Ss]olutions) 0?{was}\b', lambda m: f'{m[1]} {mark}', text)
    return text


def titled(text, old, new):
    "The page or its solution with the number of its title exchanged, or left out where the page has none now."
    fresh = f'{number(new):0>2}' if number(new) else ''
    return re.sub(rf'"# (Solutions )?{number(old):0>2}(:?) ', lambda m: f'"# {m[1] or ""}{fresh}{m[2]} '.replace(' : ', ': ').replace('#  ', '# '), text, count=1)


def move(old, new, mark, root=ROOT):
    "Move page `old` to `new`, both below nbs/ and without suffix, and follow it everywhere."
    page = root/'nbs'/f'{old}.ipynb'
    if not page.is_file(): raise SystemExit(f'wanted a page below nbs/, got {old}')
    if (root/'nbs'/f'{new}.ipynb').exists(): raise SystemExit(f'wanted a free name, got {new}, which is there')
    prefix = re.escape(f'{number(old):0>2}-') if number(old) else r'(?!)'
    exercises = sorted(set(re.findall(rf"check\('({prefix}[\w-]+)'", page.read_text(encoding='utf-8'))))
    files, was = texts(root), {}
    for file in files:
        name = file.relative_to(root/'nbs').with_suffix('').as_posix() if file.is_relative_to(root/'nbs') else ''
        now = root/'nbs'/f'{moved(name, old, new)}.ipynb' if name and file.suffix == '.ipynb' else file
        text = file.read_bytes().decode('utf-8')
        followed = relinked(text, file, now, root, old, new)
        if file.name != 'CHANGELOG.md': followed = renamed(followed, old, new, mark, exercises)
        if now != file and number(old): followed = titled(followed, old, new)
        was[file] = now, followed if followed != text else None
    for file, (now, text) in was.items():
        if text is not None: file.write_bytes(text.encode('utf-8'))
        if now != file:
            now.parent.mkdir(parents=True, exist_ok=True)
            file.rename(now)
    return [now.relative_to(root).as_posix() for file, (now, text) in was.items() if text is not None or now != file]


def main():
    say = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    say.add_argument('old', help='where the page is, below nbs/, without suffix')
    say.add_argument('new', help='where it goes')
    say.add_argument('--as', dest='mark', default='', help='the letter of its equations and exercises; a lesson has its number')
    a = say.parse_args()
    changed = move(a.old, a.new, a.mark or number(a.new))
    print('\n'.join(changed), f'\n{len(changed)} files; next: nbdev_export, tools/run_nbs.py, tools/equations.py, tools/readme.py, pytest')


if __name__ == '__main__': main()
