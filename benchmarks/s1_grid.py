"""S1's grid with its true arms: loss x what is predicted x schedule, paired by seed, trained on a GPU and judged afterwards.

    python -m benchmarks.s1_grid --device cuda --data FLOWERS --size 32 --steps 3000 --seconds 500 --workers 8 --out runs/s1_grid.csv
    python -m benchmarks.s1_grid --judge --data FLOWERS --size 32 --out runs/s1_grid.csv        # where the judge is: adds KID

Interrupted, or out of its seconds, the same call goes on with the cells that are missing. Cells of one seed come first, so that an
unfinished table is still one of pairs. Every cell leaves `OUT.parts/CELL.json` and, for each view, a sheet of its samples,
`CELL.WEIGHTS.CALLS.png`: PNG keeps every byte. `OUT` has a row for each cell, seed, weights and number of calls.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpm_lesson.engine.files import atomic_write, write_table
from ddpm_lesson.engine.presets import preset_card
from ddpm_lesson.engine.run import Run, fit
from ddpm_lesson.experiments import cell_name, measured, parts, s1_cells, worker_pool

from .measure import own_table

VIEWS = [('raw', 'ddim', 4), ('raw', 'ddim', 19), ('ema', 'ddim', 19)]  # S1's KID, S1's pictures, with averaged weights
COLUMNS = 20


def save_sheet(path, pixels):
    "Images without lines between them, the last row filled up with black: they come back as they went."
    pixels = torch.cat([pixels, pixels.new_zeros(-len(pixels) % COLUMNS, *pixels.shape[1:])])
    rows = [torch.cat(list(row), 2) for row in pixels.split(COLUMNS)]
    with atomic_write(path) as p: Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy().squeeze()).save(p, 'PNG', optimize=True)


def read_sheet(path, size, count):
    "What `save_sheet` wrote: (count, C, size, size) uint8."
    x = torch.from_numpy(np.array(Image.open(path)))
    x = (x[None] if x.ndim == 2 else x.permute(2, 0, 1)).unflatten(1, (-1, size)).unflatten(3, (-1, size))
    return x.permute(1, 3, 0, 2, 4).flatten(0, 1)[:count].contiguous()


def folder_of(out): return out.with_suffix('.parts')


def sheet_of(path, row): return path.with_suffix(f".{row['weights']}.{row['calls']}.png")


def one_cell(cell, about, deadline):
    "Train and draw one cell, unless it was done before or would end too late; returns the seconds it took, 0 if it was skipped."
    path, began = folder_of(about['out'])/f'{cell_name(cell)}.json', time.time()
    if path.exists() or began + one_cell.took > deadline: return 0
    torch.set_num_threads(1)
    train, test = parts(about['data'], about['size'], about['held'])
    card, images = preset_card(cell['preset'], train, **{k: v for k, v in cell.items() if k != 'preset'})
    run = fit(Run(card, images, about['device']), progress=False)
    rows = []
    for row, pixels in measured(run, test, VIEWS, about['count']):
        save_sheet(sheet_of(path, row), pixels)
        rows.append(dict(cell=path.stem) | cell | row | dict(N=about['count'], size=about['size'], loss=torch.stack(run.losses[-50:]).mean().item()))
    how = dict(data=Path(about['data']).name, learned_from=len(train), judged_by=len(test), device=device_name(about['device']),
               torch=torch.__version__)
    with atomic_write(path) as p: p.write_text(json.dumps([row | how for row in rows], indent=1) + '\n', encoding='utf-8')
    one_cell.took = time.time() - began
    return one_cell.took


one_cell.took = 0  # seconds the last cell of this process took


def device_name(device): return torch.cuda.get_device_name(device) if str(device).startswith('cuda') else str(device)


def gathered(out):
    "The rows of all finished cells."
    return [row for path in sorted(folder_of(out).glob('*.json')) for row in json.loads(path.read_text(encoding='utf-8'))]


def noise_like(test, count):
    "Images of nothing: independent pixels with the mean and the spread of each channel."
    x = test.pixels.float().transpose(0, 1).flatten(1)
    mean, std = (v[:, None, None] for v in (x.mean(1), x.std(1)))
    noise = torch.randn((count, *test.pixels.shape[1:]), generator=torch.Generator().manual_seed(0))
    return (mean + std*noise).round().clamp(0, 255).to(torch.uint8)


def judge(out, data, size, held):
    "Add to every row what the judge says of its sheet, and of noise."
    from ddpm_lesson.experiments import materials
    from ddpm_lesson.metrics import evaluate_samples
    ref = None
    for path in sorted(folder_of(out).glob('*.json')):
        rows = json.loads(path.read_text(encoding='utf-8'))
        if all('noise KID' in row for row in rows): continue
        if ref is None:
            _, test, ref = materials(str(data), size, held, rows[0]['N'])
            noise = evaluate_samples(noise_like(test, rows[0]['N']), ref)['KID']
        for row in rows: row |= evaluate_samples(read_sheet(sheet_of(path, row), size, row['N']), ref) | {'noise KID': noise}
        with atomic_write(path) as p: p.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
        print(path.stem, *(f"{row['weights']} {row['calls']}: KID {row['KID']:.3f} +- {row['KID interval']:.3f}" for row in rows), flush=True)


def strips(out, count=8):
    "The first images of each cell of the first seed (last weights, 19 calls), a row each, in the order of `s1_cells`: OUT.png."
    first = {(r['schedule'], r['distance'], r['target']): r for r in gathered(out) if (r['seed'], r['weights'], r['calls']) == (0, 'raw', 19)}
    order = [(c['schedule'], c['distance'], c['target']) for c in s1_cells(1)]
    sheets = [read_sheet(sheet_of(folder_of(out)/f"{first[k]['cell']}.json", first[k]), first[k]['size'], count) for k in order if k in first]
    pixels = torch.cat([torch.cat(list(sheet), 2) for sheet in sheets], 1).permute(1, 2, 0).numpy().squeeze()
    with atomic_write(out.with_suffix('.png')) as p: Image.fromarray(pixels).convert('RGB').quantize(128).save(p, 'PNG', optimize=True)


def main():
    say = argparse.ArgumentParser(prog='python -m benchmarks.s1_grid', description=__doc__.splitlines()[0])
    say.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    say.add_argument('--data', default='fashion', help='a folder of images, or a set by name')
    say.add_argument('--size', type=int, default=32)
    say.add_argument('--held', type=int, default=1000, help='images to judge by')
    say.add_argument('--seeds', type=int, default=3, help='trainings of each cell')
    say.add_argument('--steps', type=int, default=3000, help='of each training; the same for all cells')
    say.add_argument('--batch', type=int, default=64)
    say.add_argument('--width', type=int, default=32, help='published: 32')
    say.add_argument('--blocks', type=int, default=2, help='published: 2')
    say.add_argument('--count', type=int, default=200, help='samples of each view')
    say.add_argument('--precision', default='float32', help='published: float32')
    say.add_argument('--workers', type=int, default=1, help='cells at once, a process each: a small network leaves a GPU waiting')
    say.add_argument('--seconds', type=float, default=float('inf'), help='no cell begins that would end later, by the time the last one took')
    say.add_argument('--out', type=own_table('cell,preset'), default='runs/s1_grid.csv')
    say.add_argument('--judge', action='store_true', help='judge what was drawn, train nothing')
    a = say.parse_args()
    began = time.time()
    if a.judge:
        judge(a.out, a.data, a.size, a.held)
        strips(a.out)
        return write_table(gathered(a.out), a.out)
    scale = dict(width=a.width, blocks=a.blocks, batch=a.batch, steps=a.steps, precision=a.precision)
    cells = s1_cells(a.seeds, **scale)
    about = dict(out=a.out, data=str(a.data), size=a.size, held=a.held, count=a.count, device=a.device)
    folder_of(a.out).mkdir(parents=True, exist_ok=True)
    here = dict(data=Path(about['data']).name, size=a.size, N=a.count)
    if other := [row for row in gathered(a.out) if any(row[k] != v for k, v in here.items())]:
        raise ValueError(f'{folder_of(a.out)} holds another experiment ({other[0]}): name another --out')
    with worker_pool(a.workers) as pool:
        jobs = [pool.submit(one_cell, cell, about, began + a.seconds) for cell in cells]
        for cell, job in zip(cells, jobs):
            if took := job.result(): print(f'{time.time() - began:5.0f} s  {cell_name(cell)}: {took:.1f} s', flush=True)
            write_table(gathered(a.out), a.out)
    print(f'{len(list(folder_of(a.out).glob("*.json")))} of {len(cells)} cells are done')


if __name__ == '__main__': main()
