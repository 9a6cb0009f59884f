"Correct, counting from 0."

import torch


def rz_ddim(model, alphas_cumprod, x_T, steps, eta):
    T = len(alphas_cumprod)
    prev = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod])
    ts = [round(T * (steps - i) / steps) - 1 for i in range(steps)] + [-1]
    x = x_T
    for t, s in zip(ts, ts[1:]):
        a, b = alphas_cumprod[t], prev[s + 1]
        e = model(x, torch.full((len(x),), t))
        sigma = eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = (
            b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt()
            + (1 - b - sigma**2).clamp(min=0).sqrt() * e
            + sigma * torch.randn_like(x)
        )
    return x


def rz_ddpm(model, alphas_cumprod, x_T, steps):
    "np-style linspace from T-1 to 0"
    T = len(alphas_cumprod)
    ts = torch.linspace(T - 1, 0, steps).round().long().tolist()
    x = x_T
    for i, t in enumerate(ts):
        a = alphas_cumprod[t]
        b = alphas_cumprod[ts[i + 1]] if i + 1 < steps else torch.ones_like(a)
        beta = 1 - a / b
        x = (x - beta / (1 - a).sqrt() * model(x, torch.full((len(x),), t))) / (1 - beta).sqrt()
        if t > 0:
            x = x + (beta * (1 - b) / (1 - a)).sqrt() * torch.randn_like(x)
    return x
