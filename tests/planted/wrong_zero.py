"Samplers with one fault each that count from 0: alphas_cumprod of length T, alphas_cumprod[0] after the first step."

import torch


def timesteps(T, S):
    return [round(T * (S - i) / S) - 1 for i in range(S)]


def step(a_t, a_s, x, e, eta):
    x_0 = (x - (1 - a_t).sqrt() * e) / a_t.sqrt()
    sigma = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).clamp(min=0).sqrt()
    return a_s.sqrt() * x_0 + (1 - a_s - sigma**2).clamp(min=0).sqrt() * e + sigma * torch.randn_like(x)


def zero_prev_wraps(model, alphas_cumprod, x_T, steps, eta):
    "alphas_cumprod[-1] is the LAST entry"
    ts = timesteps(len(alphas_cumprod), steps)
    x = x_T
    for t, s in zip(ts, ts[1:] + [-1]):
        x = step(alphas_cumprod[t], alphas_cumprod[s], x, model(x, torch.full((len(x),), t)), eta)
    return x


def zero_final_is_first_entry(model, alphas_cumprod, x_T, steps, eta):
    "ends at alphas_cumprod[0], not at 1"
    ts = timesteps(len(alphas_cumprod), steps)
    x = x_T
    for t, s in zip(ts, ts[1:] + [0]):
        x = step(alphas_cumprod[t], alphas_cumprod[s], x, model(x, torch.full((len(x),), t)), eta)
    return x


def zero_told_from_one(model, alphas_cumprod, x_T, steps, eta):
    "tells t+1 to a model that counts from 0"
    ts = timesteps(len(alphas_cumprod), steps)
    x = x_T
    for i, t in enumerate(ts):
        a_s = alphas_cumprod[ts[i + 1]] if i + 1 < len(ts) else torch.ones_like(alphas_cumprod[0])
        x = step(alphas_cumprod[t], a_s, x, model(x, torch.full((len(x),), min(t + 1, len(alphas_cumprod) - 1))), eta)
    return x


def zero_index_plus_one(model, alphas_cumprod, x_T, steps, eta):
    "reads the table at t+1"
    n = len(alphas_cumprod)
    ts = timesteps(n, steps)
    x = x_T
    for i, t in enumerate(ts):
        a_s = alphas_cumprod[ts[i + 1] + 1] if i + 1 < len(ts) else torch.ones_like(alphas_cumprod[0])
        x = step(alphas_cumprod[min(t + 1, n - 1)], a_s, x, model(x, torch.full((len(x),), t)), eta)
    return x


def zero_leading(model, alphas_cumprod, x_T, steps, eta):
    "leading, no offset: starts at (S-1)*(T//S)"
    ts = list(range(0, len(alphas_cumprod), len(alphas_cumprod) // steps))[:steps][::-1]
    x = x_T
    for i, t in enumerate(ts):
        a_s = alphas_cumprod[ts[i + 1]] if i + 1 < len(ts) else torch.ones_like(alphas_cumprod[0])
        x = step(alphas_cumprod[t], a_s, x, model(x, torch.full((len(x),), t)), eta)
    return x


def zero_last_not_visited(model, alphas_cumprod, x_T, steps, eta):
    "while t > 0: the step from t = 0 never happens"
    ts = torch.linspace(len(alphas_cumprod) - 1, 0, steps).round().long().tolist()
    x = x_T
    for t, s in zip(ts, ts[1:]):
        x = step(alphas_cumprod[t], alphas_cumprod[s], x, model(x, torch.full((len(x),), t)), eta)
    return x


def zero_noise_at_last(model, alphas_cumprod, x_T, steps):
    "if t > -1"
    ts = timesteps(len(alphas_cumprod), steps)
    x = x_T
    for i, t in enumerate(ts):
        a_t = alphas_cumprod[t]
        a_s = alphas_cumprod[ts[i + 1]] if i + 1 < len(ts) else torch.ones_like(a_t)
        beta = 1 - a_t / a_s
        e = model(x, torch.full((len(x),), t))
        x = (x - beta / (1 - a_t).sqrt() * e) / (1 - beta).sqrt()
        if t > -1:
            x = x + beta.sqrt() * torch.randn_like(x)
    return x
