"""Bits per dimension that the shipped garments network gives to pictures, by the chain's bound and by the ODE.

    nice -n 15 python -m benchmarks.bits --out benchmarks/bits.csv

One row a picture and method, so that a reader can average as she likes. Pictures: garments of the test split; their negatives; one that is
all black, one all grey; noise. Methods: `elbo`, all 1,000 steps of the chain with the large variance, one draw of each x_t, in four parts (L_0,
the ten terms after it, the others, L_T); `elbo, small variance`, from the same draws; `ode`, the ODE's bound with the chain's own first step;
`ode uniform`, density at the data of uniformly dequantised bytes; `ode uniform at 1`, the same noise, the density at step 1 read instead, as
programs do that stop the ODE early. The trace is estimated by one fresh probe a step: on average right, and part of the spread over pictures.
"""
import argparse

import torch

from ddpm_lesson.data import bundled_fashion, to_unit
from ddpm_lesson.engine.files import write_table
from ddpm_lesson.likelihood import _elbo_coefs, bits_per_dim, dequantise, elbo_terms, ode_bound, ode_log_likelihood
from ddpm_lesson.pretrained import load_pretrained
from ddpm_lesson.sampler import quadratic, timesteps

from .measure import own_table


def pictures(count):
    "Kind -> (N, 1, 28, 28) uint8."
    test = bundled_fashion(train=False).pixels
    garments = test[::len(test)//count][:count]
    plain = torch.zeros_like(garments[:1])
    noise = torch.randint(0, 256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {'garment': garments, 'negative': 255 - garments[:4], 'black': plain, 'grey': plain + 128, 'noise': noise}


def measure(count, steps, hops, more_hops):
    "Rows of the table."
    model, sched = load_pretrained('fashion')
    shown = pictures(count)
    pixels = torch.cat([*shown.values()])
    kinds = [kind for kind, p in shown.items() for _ in p]
    x_0, seeds, d = to_unit(pixels), range(len(pixels)), pixels[0].numel()
    L = elbo_terms(model, sched, x_0, steps=steps, var='large', seeds=seeds)
    parts = {'elbo': L, 'elbo, L_0': L[:, :1], 'elbo, L_1 to L_10': L[:, 1:11], 'elbo, L_11 on': L[:, 11:-1], 'elbo, L_T': L[:, -1:],
             'elbo, small variance': with_small_variance(sched, steps, L, d)}
    found = {name: bits_per_dim(-part.sum(1), d) for name, part in parts.items()}
    for S in hops, more_hops:
        log_p, _ = ode_bound(model, sched, x_0, steps=quadratic(sched.T, S), probes=1, seeds=seeds)
        found[f'ode, {S} steps'] = bits_per_dim(log_p, d)
    x = dequantise(pixels, seeds).float()
    for start, name in (0, 'ode uniform'), (1, 'ode uniform at 1'):
        log_p, _ = ode_log_likelihood(model, sched, x, steps=quadratic(sched.T, hops), probes=1, seeds=seeds, start=start)
        found[name] = bits_per_dim(log_p, d, 2/255)
    return [dict(kind=kinds[i], picture=i, method=name, bits=bits[i].item()) for name, bits in found.items() for i in range(len(pixels))]


def with_small_variance(sched, steps, L, d):
    "The terms that the small variance would have had, from those of the large one: the estimates are the same."
    ts = timesteps(sched.T, steps)
    def coefs(var): return (torch.tensor(c, dtype=torch.float64).flip(0) for c in _elbo_coefs(sched, ts, var))
    (large, r), (small, _) = coefs('large'), coefs('small')
    weight = torch.ones(L.shape[1], dtype=torch.float64)
    weight[1:-1] = (small/large)[1:]
    extra = torch.zeros_like(weight)
    extra[1:-1] = (d/2*(r - 1 - r.log()))[1:]
    return weight*(L - extra)


if __name__ == '__main__':
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--out', type=own_table('kind,picture,method'), default='benchmarks/bits.csv')
    ask.add_argument('--count', type=int, default=8, help='garments')
    ask.add_argument('--steps', type=int, default=None, help='of the chain; all by default')
    ask.add_argument('--hops', type=int, nargs=2, default=(25, 50), help='steps of the ODE, twice')
    args = ask.parse_args()
    write_table(measure(args.count, args.steps, *args.hops), args.out)
