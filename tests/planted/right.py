"Correct samplers in other notations, spacings, orders and types: none may be accused."

import math

import numpy as np
import torch


def trail(T, S):
    return [round(T * (S - i) / S) for i in range(S)]


def r_rho(model, alpha_bar, x_T, steps):
    "Euler in u = x/sqrt(abar), rho"
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    u = x_T / alpha_bar[-1].sqrt()
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        u = u + (rho[s] - rho[t]) * model(u * alpha_bar[t].sqrt(), t)
    return u


def r_paper(model, alpha_bar, x_T, steps):
    "DDPM, Algorithm 2, large variance"
    ts = [0] + trail(len(alpha_bar) - 1, steps)[::-1]
    abar = alpha_bar[ts]
    x = x_T
    for i in range(steps, 0, -1):
        alpha = abar[i] / abar[i - 1]
        z = torch.randn_like(x) if i > 1 else 0
        x = (
            1 / alpha.sqrt() * (x - (1 - alpha) / (1 - abar[i]).sqrt() * model(x, torch.full((len(x),), ts[i])))
            + (1 - alpha).sqrt() * z
        )
    return x


def r_posterior_clipped_log_var(model, alpha_bar, x_T, steps):
    "as guided-diffusion writes it"
    ts = [0] + trail(len(alpha_bar) - 1, steps)[::-1]
    abar = alpha_bar[ts].numpy()
    betas = 1 - abar[1:] / abar[:-1]
    var = betas * (1 - abar[:-1]) / (1 - abar[1:])
    log_var = np.log(np.append(var[1], var[1:]))
    x = x_T
    for i in reversed(range(steps)):
        eps = model(x, torch.full((len(x),), ts[i + 1]))
        x_0 = math.sqrt(1 / abar[i + 1]) * x - math.sqrt(1 / abar[i + 1] - 1) * eps
        mean = (
            betas[i] * math.sqrt(abar[i]) / (1 - abar[i + 1]) * x_0
            + (1 - abar[i]) * math.sqrt(1 - betas[i]) / (1 - abar[i + 1]) * x
        )
        x = mean + (1.0 if i else 0.0) * math.exp(0.5 * log_var[i]) * torch.randn_like(x)
    return x


def r_learned_range(model, alpha_bar, x_T, steps):
    "between the two variances, as a network that learns them would choose"
    ts = [0] + trail(len(alpha_bar) - 1, steps)[::-1]
    abar = alpha_bar[ts]
    x = x_T
    for i in range(steps, 0, -1):
        beta = 1 - abar[i] / abar[i - 1]
        x_0 = (x - (1 - abar[i]).sqrt() * model(x, ts[i])) / abar[i].sqrt()
        x = (abar[i - 1].sqrt() * beta * x_0 + (1 - beta).sqrt() * (1 - abar[i - 1]) * x) / (1 - abar[i])
        if i > 1:
            small = beta * (1 - abar[i - 1]) / (1 - abar[i])
            x = x + (0.3 * beta.log() + 0.7 * small.log()).mul(0.5).exp() * torch.randn_like(x)
    return x


def r_float32(model, alpha_bar, x_T, steps, eta):
    x, a = x_T.float(), alpha_bar.float()
    ts = trail(len(a) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        e = model(x, torch.full((len(x),), t))
        sigma = eta * torch.sqrt((1 - a[s]) / (1 - a[t]) * (1 - a[t] / a[s]))
        x = (
            a[s].sqrt() * (x - (1 - a[t]).sqrt() * e) / a[t].sqrt()
            + (1 - a[s] - sigma**2).clamp(min=0).sqrt() * e
            + sigma * torch.randn_like(x)
        )
    return x


def ddim_over(ts_of):
    def sampler(model, alpha_bar, x_T, steps, eta):
        ts = ts_of(len(alpha_bar) - 1, steps)
        x = x_T
        for t, s in zip(ts, ts[1:] + [0]):
            a, b = alpha_bar[t], alpha_bar[s]
            e = model(x, torch.full((len(x),), t))
            sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
            x = (
                b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt()
                + (1 - b - sigma**2).clamp(min=0).sqrt() * e
                + sigma * torch.randn_like(x)
            )
        return x

    return sampler


r_linspace = ddim_over(lambda T, S: np.linspace(T, 1, S).round().astype(int).tolist())
r_linspace_floor = ddim_over(lambda T, S: [int(t) for t in torch.linspace(1, T, S)][::-1])
r_ceil = ddim_over(lambda T, S: [math.ceil(T * (S - i) / S) for i in range(S)])
r_quadratic = ddim_over(lambda T, S: [T, *[max(S - i, int(T * ((S - i) / S) ** 2)) for i in range(1, S)]])


def r_karras(model, alpha_bar, x_T, steps):
    "Karras's levels, each at the nearest step of the table that is still free, from T to 1"
    T = len(alpha_bar) - 1
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    wanted = torch.linspace(float(rho[T]) ** (1 / 7), float(rho[1]) ** (1 / 7), steps, dtype=torch.float64) ** 7
    ts = [int((rho[1:] - w).abs().argmin()) + 1 for w in wanted]
    for i in range(steps):
        ts[i] = min(ts[i], (ts[i - 1] - 1) if i else T)
        ts[i] = max(ts[i], steps - i)
    u = x_T / alpha_bar[T].sqrt()
    for t, s in zip(ts, ts[1:] + [0]):
        u = u + (rho[s] - rho[t]) * model(u * alpha_bar[t].sqrt(), t)
    return u


def r_ancestral(model, alpha_bar, x_T, steps, eta):
    "k-diffusion: get_ancestral_step"
    sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()
    x = x_T / alpha_bar[-1].sqrt()
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        here, to = float(sigmas[t]), float(sigmas[s])
        up = min(to, eta * (to**2 * (here**2 - to**2) / here**2) ** 0.5)
        down = (to**2 - up**2) ** 0.5
        denoised = x - here * model(x / math.sqrt(1 + here**2), torch.full((len(x),), t))
        x = x + (x - denoised) / here * (down - here)
        if to > 0:
            x = x + torch.randn_like(x) * up
    return x


def r_two_m(model, alpha_bar, x_T, steps):
    "DPM-Solver++(2M), the last step of first order"
    a, sig = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam = lambda t: float(a[t].log() - sig[t].log())
    ts = trail(len(alpha_bar) - 1, steps)
    x, old = x_T, None
    for i, t in enumerate(ts):
        x_0 = (x - sig[t] * model(x, t)) / a[t]
        if i + 1 == steps:
            return x_0
        s = ts[i + 1]
        h = lam(s) - lam(t)
        d = x_0
        if i:
            r = (lam(t) - lam(ts[i - 1])) / h
            d = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * old
        x = sig[s] / sig[t] * x - a[s] * (math.exp(-h) - 1) * d
        old = x_0


def r_heun(model, alpha_bar, x_T, steps):
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    x = x_T / alpha_bar[-1].sqrt()
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        d = model(x * alpha_bar[t].sqrt(), torch.full((len(x),), t))
        to = x + (rho[s] - rho[t]) * d
        if s:
            to = x + (rho[s] - rho[t]) * (d + model(to * alpha_bar[s].sqrt(), torch.full((len(x),), s))) / 2
        x = to
    return x


def r_churn(model, alpha_bar, x_T, steps):
    "EDM's churn, to a level of the table"
    T = len(alpha_bar) - 1
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    x = x_T / alpha_bar[-1].sqrt()
    ts = trail(T, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        hat = min(T, t + 2)
        x = x + (rho[hat] ** 2 - rho[t] ** 2).sqrt() * torch.randn_like(x)
        x = x + (rho[s] - rho[hat]) * model(x * alpha_bar[hat].sqrt(), hat)
    return x


def r_plms(model, alpha_bar, x_T, steps):
    "Adams-Bashforth of order 2 on the estimate of the noise, in rho, with uneven steps"
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    u, old, before = x_T / alpha_bar[-1].sqrt(), None, None
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        e, h = model(u * alpha_bar[t].sqrt(), t), rho[s] - rho[t]
        u = u + h * (e if old is None else e + h / before / 2 * (e - old))
        old, before = e, h
    return u


def r_forgetful(model, alpha_bar, x_T, steps):
    "the estimate of the image, noised anew each time (consistency models)"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        x_0 = (x - (1 - alpha_bar[t]).sqrt() * model(x, t)) / alpha_bar[t].sqrt()
        x = alpha_bar[s].sqrt() * x_0 + (1 - alpha_bar[s]).sqrt() * torch.randn_like(x)
    return x


def r_clip_x_0(model, alpha_bar, x_T, steps, eta):
    "the clean estimate clamped to the range of the data, the noise made anew"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        a, b = alpha_bar[t], alpha_bar[s]
        x_0 = ((x - (1 - a).sqrt() * model(x, t)) / a.sqrt()).clamp(-1, 1)
        e = (x - a.sqrt() * x_0) / (1 - a).sqrt()
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = b.sqrt() * x_0 + (1 - b - sigma**2).clamp(min=0).sqrt() * e + sigma * torch.randn_like(x)
    return x


def r_v(model, alpha_bar, x_T, steps):
    "by way of v"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    angle = torch.atan2((1 - alpha_bar).sqrt(), alpha_bar.sqrt())
    for t, s in zip(ts, ts[1:] + [0]):
        e = model(x, t)
        v = (e - angle[t].sin() * x) / angle[t].cos()
        d = angle[t] - angle[s]
        x = d.cos() * x - d.sin() * v
    return x


def r_score(model, alpha_bar, x_T, steps):
    "by way of the score, Tweedie"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        a, b = alpha_bar[t], alpha_bar[s]
        score = -model(x, t) / (1 - a).sqrt()
        x_0 = (x + (1 - a) * score) / a.sqrt()
        beta = 1 - a / b
        x = (b.sqrt() * beta * x_0 + (1 - beta).sqrt() * (1 - b) * x) / (1 - a) + (
            beta * (1 - b) / (1 - a)
        ).sqrt() * torch.randn_like(x)
    return x


def r_cfg(model, alpha_bar, x_T, steps, eta, w=3.0):
    "guidance, cond and uncond in one batch of two"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        a, b = alpha_bar[t], alpha_bar[s]
        uncond, cond = model(torch.cat([x, x]), torch.full((2 * len(x),), t)).chunk(2)
        e = uncond + w * (cond - uncond)
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = (
            b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt()
            + (1 - b - sigma**2).clamp(min=0).sqrt() * e
            + sigma * torch.randn_like(x)
        )
    return x


def r_chunks(model, alpha_bar, x_T, steps, eta):
    "sixteen images at a time"
    one = ddim_over(trail)
    return torch.cat([one(model, alpha_bar, x, steps, eta) for x in x_T.split(16)])


def r_singlestep(model, alpha_bar, x_T, steps):
    "DPM-Solver-2: a call in the middle of each step, at a level of the table"
    a, sig = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam = (a / sig.clamp(min=1e-30)).log()
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        e = model(x, t)
        if s == 0:
            return (x - sig[t] * e) / a[t]
        mid = int((lam - (lam[t] + lam[s]) / 2).abs().argmin())
        if mid in (t, s):
            x = a[s] / a[t] * x - sig[s] * torch.expm1(lam[s] - lam[t]) * e
            continue
        h, part = lam[s] - lam[t], lam[mid] - lam[t]
        u = a[mid] / a[t] * x - sig[mid] * torch.expm1(part) * e
        e_mid = model(u, mid)
        x = a[s] / a[t] * x - sig[s] * torch.expm1(h) * (e + h / part / 2 * (e_mid - e))
    return x


def r_corrector(model, alpha_bar, x_T, steps):
    "a step of DDIM, then one small step of Langevin at the level reached"
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        a, b = alpha_bar[t], alpha_bar[s]
        e = model(x, t)
        x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - b).sqrt() * e
        if s:
            size = 0.01 * (1 - b)
            x = x - size * model(x, s) / (1 - b).sqrt() + (2 * size).sqrt() * torch.randn_like(x)
    return x


def r_reverse_diffusion(model, alpha_bar, x_T, steps):
    "score_sde's predictor: x + (1 - sqrt(1-beta)) x + beta score + sqrt(beta) z; the mean at the end"
    ts = [0] + trail(len(alpha_bar) - 1, steps)[::-1]
    x = x_T
    for i in range(steps, 0, -1):
        a, b = alpha_bar[ts[i]], alpha_bar[ts[i - 1]]
        beta = 1 - a / b
        score = -model(x, ts[i]) / (1 - a).sqrt()
        x = (2 - (1 - beta).sqrt()) * x + beta * score
        if i > 1:
            x = x + beta.sqrt() * torch.randn_like(x)
    return x


def r_sde_two_m(model, alpha_bar, x_T, steps):
    "SDE-DPM-Solver++(2M)"
    a, sig = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam = (a / sig.clamp(min=1e-30)).log()
    x, old, before = x_T, None, None
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        x_0 = (x - sig[t] * model(x, t)) / a[t]
        if s == 0:
            return x_0
        h = lam[s] - lam[t]
        d = x_0 if old is None else x_0 + h / before / 2 * (x_0 - old)
        x = (
            sig[s] / sig[t] * (-h).exp() * x
            - a[s] * torch.expm1(-2 * h) * d
            + sig[s] * (-torch.expm1(-2 * h)).sqrt() * torch.randn_like(x)
        )
        old, before = x_0, h
    return x


def r_numpy(model, alpha_bar, x_T, steps, eta):
    "the arithmetic in numpy, with its own generator of random numbers"
    rng = np.random.default_rng()
    abar, x = alpha_bar.numpy(), x_T.numpy()
    ts = trail(len(abar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        e = model(torch.from_numpy(x), t).numpy()
        sigma = eta * np.sqrt((1 - abar[s]) / (1 - abar[t]) * (1 - abar[t] / abar[s]))
        x = (
            np.sqrt(abar[s]) * (x - np.sqrt(1 - abar[t]) * e) / np.sqrt(abar[t])
            + np.sqrt(max(1 - abar[s] - sigma**2, 0)) * e
            + sigma * rng.standard_normal(x.shape)
        )
    return torch.from_numpy(x)


def r_own_generator(model, alpha_bar, x_T, steps, eta):
    "noise from a generator of its own, seeded by the caller's"
    g = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    x = x_T
    ts = trail(len(alpha_bar) - 1, steps)
    for t, s in zip(ts, ts[1:] + [0]):
        a, b = alpha_bar[t], alpha_bar[s]
        e = model(x, torch.tensor([t]).expand(len(x)))
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        z = torch.randn(x.shape, generator=g, dtype=x.dtype)
        x = (b / a).sqrt() * x + ((1 - b - sigma**2).clamp(min=0).sqrt() - (b / a * (1 - a)).sqrt()) * e + sigma * z
    return x


def r_noise_before(model, alpha_bar, x_T, steps, eta):
    "all noises drawn before the walk"
    ts = trail(len(alpha_bar) - 1, steps)
    noises = torch.randn(steps, *x_T.shape, dtype=x_T.dtype)
    x = x_T
    for t, s, z in zip(ts, ts[1:] + [0], noises):
        a, b = alpha_bar[t], alpha_bar[s]
        e = model(x, t)
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - b - sigma**2).clamp(min=0).sqrt() * e + sigma * z
    return x
