"""What the pages of the book weigh: python tools/measure_site.py BOOK [benchmarks/site.csv] [--lighthouse node_modules/.bin/lighthouse]

Opens one page of each kind of a built book in Chromium and adds up what came, gzipped as a server would, by kind of file; the live page
also until its first garment is drawn. Needs Chromium and playwright. With Lighthouse (`npm install lighthouse`) also its scores on a
phone. With --times also what belongs to a machine, which should be quiet: Lighthouse's score for speed, the middle one of three, and
the seconds from the press of Draw to the first garment, here and on 4G.
"""
import argparse
import functools
import gzip
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from ddpm_lesson.engine.files import write_table
from ddpm_lesson.terminal import check_output

ROOT = Path(__file__).resolve().parents[1]
KINDS = {'document': 'html', 'stylesheet': 'styles', 'script': 'scripts', 'font': 'fonts', 'image': 'pictures'}
TEXTS = {'.html', '.css', '.js', '.mjs', '.json', '.svg', '.txt'}
FOUR_G = dict(offline=False, latency=165, downloadThroughput=9e6*0.9/8, uploadThroughput=1.5e6*0.9/8)  # as Chromium's developer tools have it
PAGES = {
    'first page': 'index.html', 'lesson': 'nbs/07_ddim.html', 'museum': 'nbs/reference/museum.html', 'index of equations': 'nbs/reference/equations.html',
    'signatures': 'api/sampler.html', 'playground': 'play.html', 'live': 'live.html', 'live, first garment drawn': 'live.html',
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, '.mjs': 'text/javascript'}
    def log_message(self, *_): pass

    def do_GET(self):
        "Text goes out gzipped, as from any host."
        path = Path(self.translate_path(self.path))
        if path.suffix not in TEXTS or not path.is_file(): return super().do_GET()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        for pair in ('Content-Type', self.guess_type(path)), ('Content-Encoding', 'gzip'), ('Content-Length', str(len(body))): self.send_header(*pair)
        self.end_headers()
        self.wfile.write(body)


def served(book):
    "A server on this machine, and its address."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=book))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_port}/'


def weight(response):
    "Bytes on the way: a picture and what is packed already don't shrink further."
    body = response.body()
    return min(len(body), len(gzip.compress(body)))


def weighed(browser, url, draw):
    "kB by kind of file, and how many files, until the page is at rest."
    context, found = browser.new_context(viewport=dict(width=1440, height=900), service_workers='block'), {}
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on('response', lambda r: found.__setitem__(r.url, r))
    page.goto(url, wait_until='networkidle')
    if draw: drawn(page)
    sizes = dict.fromkeys([*KINDS.values(), 'data'], 0)
    for response in list(found.values()): sizes[KINDS.get(response.request.resource_type, 'data')] += weight(response)
    context.close()
    return {kind: round(size/1000, 1) for kind, size in sizes.items()} | dict(all=round(sum(sizes.values())/1000, 1), files=len(found))


def drawn(page):
    "Press Draw, and wait for the garment; seconds."
    began = time.perf_counter()
    page.get_by_role('button', name='Draw', exact=True).click()
    page.wait_for_function('/Done/.test(document.querySelector(".status").textContent)')
    return time.perf_counter() - began


def first_draw(browser, url, network=None):
    "Seconds from the first press to the garment, nothing of the network being there."
    context = browser.new_context(viewport=dict(width=1440, height=900), service_workers='block')
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url, wait_until='networkidle')
    if network: context.new_cdp_session(page).send('Network.emulateNetworkConditions', network)
    seconds = drawn(page)
    context.close()
    return seconds


SCORES = {'accessibility': 'accessibility', 'best-practices': 'good practice', 'seo': 'search engines'}
SCORED = 'first page', 'lesson', 'live'


def scores(lighthouse, program, url, times):
    "Lighthouse's scores of a page on a phone, of 100; the one for speed differs from run to run, so the middle one of three."
    found = [scored(lighthouse, program, url) for _ in range(3 if times else 1)]
    speed = statistics.median(one.pop('speed') for one in found)
    return found[0] | (dict(speed=speed) if times else {})


def scored(lighthouse, program, url):
    flags = '--headless=new --no-sandbox'
    run = subprocess.run([lighthouse, url, '--quiet', '--output=json', f'--chrome-flags={flags}'], capture_output=True, encoding='utf-8', env=os.environ | {'CHROME_PATH': program})
    if run.returncode: sys.exit(run.stderr[-500:])
    found = json.loads(run.stdout)
    return {words: round(100*found['categories'][name]['score']) for name, words in {'performance': 'speed', **SCORES}.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description='What the pages of the book weigh.')
    parser.add_argument('book', type=Path)
    parser.add_argument('out', type=Path, nargs='?', default=ROOT/'benchmarks'/'site.csv')
    parser.add_argument('--lighthouse', help='its program, to ask for scores too')
    parser.add_argument('--times', action='store_true', help='also what depends on the machine: keep it quiet')
    args = parser.parse_args(argv)
    check_output(args.out, [b'page,unit'], 'out')
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not program: sys.exit('Chromium is needed, and was not found')
    server, address = served(args.book)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=['--no-sandbox'])
        rows = [dict(page=name, unit='kB gzipped') | weighed(browser, address + path, name.endswith('drawn')) for name, path in PAGES.items()]
        for name, network in args.times*(('here', None), ('on 4G', FOUR_G)):
            rows[-1][f'seconds {name}'] = round(statistics.median(first_draw(browser, address + PAGES['live'], network) for _ in range(3)), 1)
        browser.close()
    if args.lighthouse:
        rows = [row | (scores(args.lighthouse, program, address + PAGES[row['page']], args.times) if row['page'] in SCORED else {}) for row in rows]
    server.shutdown()
    write_table(rows, args.out)
    for row in rows: print(*row.values(), sep='\t')


if __name__ == '__main__': main()
