"Where the lessons lead to the playground and to the schedule designer: after which cell, in which words, with which setting."
import html
from urllib.parse import urlencode

LINKS = {  # lesson: cell: (words, setting)
    '00_start': {
        'd3a652de': ('The same in the plane, and you move the centres', dict(data='two', spread=0.1, steps=100, eta=0, particles=100, show='paths,density')),
        '6004a40b': ('Try it with a few points: where does every walk end?', dict(data='ring', steps=50, eta=1, particles=100, show='paths')),
        '941c9502': ('Watch the average become one point', dict(data='two', steps=30, eta=0, particles=20, at=0.2, show='guesses,density')),
    },
    '02_schedule': {
        'fc69ce96': ('Drag a schedule of your own, and see which pictures it drowns', dict(start='cosine', pixels=12288)),
        'e059b08c': ("S2's schedule, live: move its end until nothing is left to change", dict(start='s2', pixels=12288)),
    },
    '05_oracle': {
        '9f3c2017': ('Score and density of your own mixture, at any t', dict(data='two', spread=0.2, steps=30, eta=0, particles=1, at=0.5, show='score,density')),
        '820eb26d': ('Draw a finite set and see what its denoiser guesses', dict(data='spiral', steps=40, eta=0, particles=100, at=0.5, show='guesses')),
    },
    '06_ddpm': {
        '30a03783': ('The loop at work, and you drag the data', dict(data='two', spread=0.14, steps=50, eta=1, particles=500, show='density')),
        '17b11dbf': ('Noise at the last step, in the plane. Guess first', dict(mistake='last', data='two', steps=10, eta=1, particles=100, show='')),
        '58a9c7f2': ('Clamp x_t in the plane. Guess first', dict(mistake='clamp', data='two', spread=0.3, steps=50, eta=1, particles=500, show='')),
    },
    '07_ddim': {
        'd857212b': ('The family side by side: move η', dict(data='ring', steps=50, eta=0.5, particles=20, show='paths')),
        '8452e7c1': ('Direction equal to sigma, in the plane. Guess first', dict(mistake='direction', data='smile', steps=50, eta=0, particles=100, show='')),
        '8998cd91': ('One start, DDPM beside DDIM: change the number of steps', dict(data='moons', steps=10, eta=0, particles=20, show='paths')),
    },
}


def link(words, setting):
    page, name = ('schedule', 'schedule designer') if 'start' in setting else ('play', 'playground')
    return f'\n\n<p class="play-link"><a href="../{page}.html?{html.escape(urlencode(setting, safe=","))}">{words}</a> in the {name}.</p>\n'


def with_links(lesson, cells):
    "The cells of a lesson with the links below their paragraphs; a cell that is gone ends the build."
    wanted = dict(LINKS.get(lesson, {}))
    for cell in cells:
        if cell.get('id') in wanted: cell['source'] = ''.join(cell['source']) + link(*wanted.pop(cell['id']))
    if wanted: raise SystemExit(f'{lesson} has no cells {sorted(wanted)}: see tools/site_play.py')
    return cells
