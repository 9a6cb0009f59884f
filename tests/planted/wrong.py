"""Samplers with one fault each (two where said), counting 1..T, alpha_bar[0] = 1.

Written without having read the auditor.
"""

import math

import torch


def spaced(T, S):
    return [round(T * (S - i) / S) for i in range(S)]


def pairs(alpha_bar, steps):
    ts = spaced(len(alpha_bar) - 1, steps)
    return list(zip(ts, ts[1:] + [0]))


def told(x, t):
    return torch.full((x.shape[0],), t)


def ddim_sigma(a_t, a_s, eta):
    return eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).clamp(min=0).sqrt()


def estimate(x, e, a_t, a_s):
    return (x - (1 - a_t).sqrt() * e) / a_t.sqrt()


def rest(a_s, sigma):
    return (1 - a_s - sigma**2).clamp(min=0).sqrt()


def ddim(a_t, a_s, x, e, eta, x_0_of=estimate, sigma_of=ddim_sigma, direction=rest):
    "right, unless it is given something of its own"
    sigma = sigma_of(a_t, a_s, eta)
    return a_s.sqrt() * x_0_of(x, e, a_t, a_s) + direction(a_s, sigma) * e + sigma * torch.randn_like(x)


def ddim_variant(**own):
    "a sampler with its own estimate of the image, sigma or direction"

    def sampler(model, alpha_bar, x_T, steps, eta):
        x = x_T
        for t, s in pairs(alpha_bar, steps):
            x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta, **own)
        return x

    return sampler


# --- indices -------------------------------------------------------------------------------------


def abar_one_low(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(
            alpha_bar[t - 1].clamp(max=1 - 1e-9), alpha_bar[max(s - 1, 0)].clamp(max=1), x, model(x, told(x, t)), eta
        )
    return x


def abar_one_high(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[min(t + 1, T)], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def prev_one_high(model, alpha_bar, x_T, steps, eta):
    "the step before is read at s+1"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s + 1] if s > 0 else alpha_bar[0], x, model(x, told(x, t)), eta)
    return x


def told_one_low(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        e = model(x, told(x, max(t - 1, 1)))
        x = ddim(alpha_bar[t], alpha_bar[s], x, e, eta)
    return x


def told_next(model, alpha_bar, x_T, steps, eta):
    "the model is told s, where the image is going, not t"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, max(s, 1))), eta)
    return x


def told_fraction(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, torch.full((len(x),), t / T)), eta)
    return x


def told_counter(model, alpha_bar, x_T, steps, eta):
    "told the number of the iteration (S, S-1, ... 1), not the timestep"
    x = x_T
    for i, (t, s) in enumerate(pairs(alpha_bar, steps)):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, steps - i)), eta)
    return x


def starts_at_T_minus_1(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    ts = [max(t, 1) for t in spaced(T - 1, min(steps, T - 1))]
    x = x_T
    for t, s in zip(ts, ts[1:] + [0]):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def leading_without_offset(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    ts = [i * (T // steps) for i in range(steps)][::-1]
    x = x_T
    for i, t in enumerate(ts):
        s = ts[i + 1] if i + 1 < len(ts) else 0
        e = model(x, told(x, max(t, 1)))
        x = ddim(alpha_bar[t].clamp(max=1 - 1e-6), alpha_bar[s], x, e, eta)
    return x


def prev_by_stride(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    x = x_T
    for t in spaced(T, steps):
        s = max(t - T // steps, 0)
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def prev_always_t_minus_1(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t in spaced(len(alpha_bar) - 1, steps):
        x = ddim(alpha_bar[t], alpha_bar[t - 1], x, model(x, told(x, t)), eta)
    return x


def one_step_too_many(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    ts = list(range(T, 0, -(T // steps)))  # 6 where 5 were asked
    x = x_T
    for t, s in zip(ts, ts[1:] + [0]):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def stops_early(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps)[:-1]:
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def last_goes_to_1(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[max(s, 1)], x, model(x, told(x, t)), eta)
    return x


def upward(model, alpha_bar, x_T, steps, eta):
    ts = spaced(len(alpha_bar) - 1, steps)[::-1]
    x = x_T
    for t, s in zip(ts, [0] + ts[:-1]):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def ignores_steps(model, alpha_bar, x_T, steps, eta):
    T = len(alpha_bar) - 1
    x = x_T
    for t in range(T, 0, -1):
        x = ddim(alpha_bar[t], alpha_bar[t - 1], x, model(x, told(x, t)), eta)
    return x


# --- arithmetic of the estimate --------------------------------------------------------------------


noise_rate_no_root = ddim_variant(x_0_of=lambda x, e, a, b: (x - (1 - a) * e) / a.sqrt())
signal_rate_no_root = ddim_variant(x_0_of=lambda x, e, a, b: (x - (1 - a).sqrt() * e) / a)
x_0_from_next_alpha = ddim_variant(x_0_of=lambda x, e, a, b: (x - (1 - b).sqrt() * e) / b.sqrt())


def image_of_score(x, e, a, b):
    score = -e / (1 - a).sqrt()
    return (x - (1 - a) * score) / a.sqrt()  # should be x + (1 - a) * score


score_sign = ddim_variant(x_0_of=image_of_score)


def v_sign(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()
        e = model(x, told(x, t))
        v = a * e - b * (x - b * e) / a
        x_0, e = a * x + b * v, b * x + a * v  # should be a*x - b*v
        a_s = alpha_bar[s]
        sigma = ddim_sigma(alpha_bar[t], a_s, eta)
        x = a_s.sqrt() * x_0 + rest(a_s, sigma) * e + sigma * torch.randn_like(x)
    return x


def eps_as_x_0(model, alpha_bar, x_T, steps, eta):
    "takes the output for the clean image"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, x_0 = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
        e = (x - a.sqrt() * x_0) / (1 - a).sqrt()
        sigma = ddim_sigma(a, b, eta)
        x = b.sqrt() * x_0 + rest(b, sigma) * e + sigma * torch.randn_like(x)
    return x


def guidance_plus(model, alpha_bar, x_T, steps, eta, w=2.0):
    "(1+w) cond + w uncond, for (1+w) cond - w uncond"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        cond, uncond = model(x, told(x, t)), model(x, told(x, t))
        x = ddim(alpha_bar[t], alpha_bar[s], x, (1 + w) * cond + w * uncond, eta)
    return x


def guidance_scaled(model, alpha_bar, x_T, steps, eta, w=3.0):
    "w (cond - uncond) without uncond added"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        cond, uncond = model(x, told(x, t)), model(x, told(x, t))
        x = ddim(alpha_bar[t], alpha_bar[s], x, w * (cond - uncond), eta)
    return x


# --- the ancestral step ----------------------------------------------------------------------------


def respaced(alpha_bar, steps):
    "lists that count 0..S"
    ts = [0] + spaced(len(alpha_bar) - 1, steps)[::-1]
    abar = alpha_bar[ts]
    alpha = torch.cat([abar[:1], abar[1:] / abar[:-1]])
    return ts, abar, alpha, 1 - alpha


def right_mean(x, e, alpha, beta, abar, before):
    return (x - beta / (1 - abar).sqrt() * e) / alpha.sqrt()


def small(alpha, beta, abar, before):
    return (beta * (1 - before) / (1 - abar)).sqrt()


def large(alpha, beta, abar, before):
    return beta.sqrt()


def ddpm(mean, std, quiet=1):
    "a sampler with its own mean and standard deviation, of alpha, beta, abar and abar one step before; no noise in the last `quiet` steps"

    def sampler(model, alpha_bar, x_T, steps):
        ts, abar, alpha, beta = respaced(alpha_bar, steps)
        x = x_T
        for i in range(steps, 0, -1):
            at = alpha[i], beta[i], abar[i], abar[i - 1]
            x = mean(x, model(x, told(x, ts[i])), *at)
            if i > quiet:
                x = x + std(*at) * torch.randn_like(x)
        return x

    return sampler


ddpm_no_root_in_mean = ddpm(lambda x, e, alpha, beta, abar, before: (x - beta / (1 - abar) * e) / alpha.sqrt(), small)
ddpm_abar_for_alpha = ddpm(
    lambda x, e, alpha, beta, abar, before: (x - beta / (1 - abar).sqrt() * e) / abar.sqrt(), small
)
ddpm_alpha_no_root = ddpm(lambda x, e, alpha, beta, abar, before: (x - beta / (1 - abar).sqrt() * e) / alpha, small)
ddpm_sqrt_beta_in_mean = ddpm(
    lambda x, e, alpha, beta, abar, before: (x - beta.sqrt() / (1 - abar).sqrt() * e) / alpha.sqrt(), small
)


def exp_of_log_variance(alpha, beta, abar, before):
    log_var = (beta * (1 - before) / (1 - abar)).clamp(min=1e-20).log()
    return log_var.exp()  # forgot the half


ddpm_variance_as_std = ddpm(right_mean, exp_of_log_variance)
ddpm_beta_as_std = ddpm(right_mean, lambda alpha, beta, abar, before: beta)
ddpm_std_rooted_twice = ddpm(right_mean, lambda *at: small(*at).sqrt(), quiet=0)
ddpm_noise_at_last = ddpm(right_mean, large, quiet=0)
ddpm_mask_one_early = ddpm(right_mean, large, quiet=2)
ddpm_inverted_variance = ddpm(
    right_mean, lambda alpha, beta, abar, before: (beta * (1 - abar) / (1 - before)).sqrt()  # upside down
)

def ddpm_clipped_var_at_last(model, alpha_bar, x_T, steps):
    "the clipped posterior variance (that of step 2), and the mask forgotten"
    ts, abar, alpha, beta = respaced(alpha_bar, steps)
    var = beta[1:] * (1 - abar[:-1]) / (1 - abar[1:])
    var[0] = var[1]
    x = x_T
    for i in range(steps, 0, -1):
        e = model(x, told(x, ts[i]))
        x = (x - beta[i] / (1 - abar[i]).sqrt() * e) / alpha[i].sqrt() + var[i - 1].sqrt() * torch.randn_like(x)
    return x


def ddpm_mask_inverted(model, alpha_bar, x_T, steps):
    ts, abar, alpha, beta = respaced(alpha_bar, steps)
    x = x_T
    for i in range(steps, 0, -1):
        e = model(x, told(x, ts[i]))
        z = torch.zeros_like(x) if i > 1 else torch.randn_like(x)
        x = (x - beta[i] / (1 - abar[i]).sqrt() * e) / alpha[i].sqrt() + beta[i].sqrt() * z
    return x


def ddpm_variance_of_next(model, alpha_bar, x_T, steps):
    "the noise of the step below"
    ts, abar, alpha, beta = respaced(alpha_bar, steps)
    x = x_T
    for i in range(steps, 0, -1):
        e = model(x, told(x, ts[i]))
        x = (x - beta[i] / (1 - abar[i]).sqrt() * e) / alpha[i].sqrt()
        if i > 1:
            x = x + beta[i - 1].sqrt() * torch.randn_like(x)
    return x


def ddpm_betas_picked(model, alpha_bar, x_T, steps):
    "the betas of single steps, in a chain that skips; abar at the visited steps"
    alpha_1 = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    ts, abar, _, _ = respaced(alpha_bar, steps)
    x = x_T
    for i in range(steps, 0, -1):
        alpha, beta = alpha_1[ts[i]], 1 - alpha_1[ts[i]]
        e = model(x, told(x, ts[i]))
        x = (x - beta / (1 - abar[i]).sqrt() * e) / alpha.sqrt()
        if i > 1:
            x = x + (beta * (1 - abar[i - 1]) / (1 - abar[i])).sqrt() * torch.randn_like(x)
    return x


def ddpm_cumprod_twice(model, alpha_bar, x_T, steps):
    "takes the table for alphas and multiplies up once more"
    alpha_bar = torch.cumprod(alpha_bar, 0)
    ts, abar, alpha, beta = respaced(alpha_bar, steps)
    x = x_T
    for i in range(steps, 0, -1):
        e = model(x, told(x, ts[i]))
        x = (x - beta[i] / (1 - abar[i]).sqrt() * e) / alpha[i].sqrt()
        if i > 1:
            x = x + beta[i].sqrt() * torch.randn_like(x)
    return x


def posterior(c_0, c_t):
    "a sampler with its own factors of x_0 and x_t in the posterior mean, both before they are divided by 1 - abar"

    def mean(x, e, *at):
        _, _, abar, _ = at
        x_0 = (x - (1 - abar).sqrt() * e) / abar.sqrt()
        return c_0(*at) / (1 - abar) * x_0 + c_t(*at) / (1 - abar) * x

    return ddpm(mean, large)


def of_x_0(alpha, beta, abar, before):
    return before.sqrt() * beta


def of_x_t(alpha, beta, abar, before):
    return alpha.sqrt() * (1 - before)


posterior_swapped = posterior(of_x_t, of_x_0)
posterior_abar_t = posterior(lambda alpha, beta, abar, before: abar.sqrt() * beta, of_x_t)
posterior_no_root = posterior(of_x_0, lambda alpha, beta, abar, before: alpha * (1 - before))


# --- DDIM ------------------------------------------------------------------------------------------


eta_twice = ddim_variant(sigma_of=lambda a, b, eta: eta * ddim_sigma(a, b, eta))
eta_not_squared = ddim_variant(sigma_of=lambda a, b, eta: (eta * (1 - b) / (1 - a) * (1 - a / b)).sqrt())
eta_ignored_1 = ddim_variant(sigma_of=lambda a, b, eta: ddim_sigma(a, b, 1.0))
eta_ignored_0 = ddim_variant(sigma_of=lambda a, b, eta: ddim_sigma(a, b, 0.0))
sigma_no_root = ddim_variant(sigma_of=lambda a, b, eta: eta * (1 - b) / (1 - a) * (1 - a / b))
sigma_one_factor_rooted = ddim_variant(sigma_of=lambda a, b, eta: eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b))
sigma_ratio_inverted = ddim_variant(sigma_of=lambda a, b, eta: eta * ((1 - b) / (1 - a) * (b / a - 1)).sqrt())
direction_no_sigma = ddim_variant(direction=lambda b, sigma: (1 - b).sqrt())
direction_sigma_not_squared = ddim_variant(direction=lambda b, sigma: (1 - b - sigma).clamp(min=0).sqrt())
direction_is_sigma = ddim_variant(direction=lambda b, sigma: sigma)
direction_no_root = ddim_variant(direction=lambda b, sigma: 1 - b - sigma**2)
direction_negative = ddim_variant(direction=lambda b, sigma: -rest(b, sigma))


def added_outside(model, alpha_bar, x_T, steps, eta):
    "direction reduced for noise that is then forgotten"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, e = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
        x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + rest(b, ddim_sigma(a, b, eta)) * e
    return x


# --- noise -----------------------------------------------------------------------------------------


def noisy(z_of):
    def sampler(model, alpha_bar, x_T, steps, eta):
        x = x_T
        kept = torch.randn_like(x)
        for t, s in pairs(alpha_bar, steps):
            a, b, e = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
            sigma = ddim_sigma(a, b, eta)
            x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + rest(b, sigma) * e + sigma * z_of(x, kept)
        return x

    return sampler


noise_uniform = noisy(lambda x, kept: torch.rand_like(x))
noise_uniform_centred = noisy(lambda x, kept: (2 * torch.rand_like(x) - 1) * 3**0.5)
noise_drawn_once = noisy(lambda x, kept: kept)
noise_shared_by_batch = noisy(lambda x, kept: torch.randn_like(x[:1]))
noise_one_number_an_image = noisy(lambda x, kept: torch.randn(len(x), 1, 1, 1, dtype=x.dtype))
noise_half = noisy(lambda x, kept: 0.5 * torch.randn_like(x))
noise_is_start = noisy(lambda x, kept: x / x.std())


def noise_reseeded_each_step(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        torch.manual_seed(42)
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def seed_fixed_inside(model, alpha_bar, x_T, steps, eta):
    torch.manual_seed(0)
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def own_start(model, alpha_bar, x_T, steps, eta):
    x = torch.randn_like(x_T)
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def start_scaled(model, alpha_bar, x_T, steps, eta):
    "multiplied by sigma_max, as a sampler that counts in sigma does, and never divided"
    x = x_T * ((1 - alpha_bar[-1]) / alpha_bar[-1]).sqrt()
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


# --- clamps and types ------------------------------------------------------------------------------


def clamp_x_t(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta).clamp(-1, 1)
    return x


def clamp_x_t_before(model, alpha_bar, x_T, steps, eta):
    "clamps what the model sees"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x.clamp(-1, 1), told(x, t)), eta)
    return x


def clamp_eps(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)).clamp(-1, 1), eta)
    return x


def clamp_x_0_to_unit(model, alpha_bar, x_T, steps, eta):
    "[0, 1], where the data lie in [-1, 1]"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, e = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
        x_0 = ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(0, 1)
        e = (x - a.sqrt() * x_0) / (1 - a).sqrt()
        sigma = ddim_sigma(a, b, eta)
        x = b.sqrt() * x_0 + rest(b, sigma) * e + sigma * torch.randn_like(x)
    return x


def clamp_x_0_too_narrow(model, alpha_bar, x_T, steps, eta):
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, e = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
        x_0 = ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-0.5, 0.5)
        sigma = ddim_sigma(a, b, eta)
        x = b.sqrt() * x_0 + rest(b, sigma) * (x - a.sqrt() * x_0) / (1 - a).sqrt() + sigma * torch.randn_like(x)
    return x


def clamp_then_wrong_eps(model, alpha_bar, x_T, steps, eta):
    "eps anew from the clamped x_0, without the signal rate"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, e = alpha_bar[t], alpha_bar[s], model(x, told(x, t))
        x_0 = ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1)
        e = (x - x_0) / (1 - a).sqrt()
        sigma = ddim_sigma(a, b, eta)
        x = b.sqrt() * x_0 + rest(b, sigma) * e + sigma * torch.randn_like(x)
    return x


def half_precision(model, alpha_bar, x_T, steps, eta):
    x, alpha_bar = x_T.half(), alpha_bar.half()
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x.to(x_T.dtype)


def bfloat_tables(model, alpha_bar, x_T, steps, eta):
    "only the table loses its digits"
    alpha_bar = alpha_bar.bfloat16().to(x_T.dtype)
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def rounded_to_bytes(model, alpha_bar, x_T, steps, eta):
    "x_t stored as 8 bits between steps"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
        x = ((x * 127.5 + 127.5).round().clamp(0, 255) - 127.5) / 127.5
    return x


def standardised(model, alpha_bar, x_T, steps, eta):
    "x_t brought to mean 0 and std 1 at each step"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
        x = (x - x.mean()) / x.std() if s else x
    return x


def inplace(model, alpha_bar, x_T, steps, eta):
    "writes into the caller's x_T"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x.copy_(ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta))
    return x


def writes_table(model, alpha_bar, x_T, steps, eta):
    "clips the caller's alpha_bar in place"
    alpha_bar.clamp_(max=0.9999)
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return x


def first_image_for_all(model, alpha_bar, x_T, steps, eta):
    "the estimate of image 0 is used for the whole batch"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        e = model(x[:1], told(x[:1], t)).expand_as(x)
        x = ddim(alpha_bar[t], alpha_bar[s], x, e, eta)
    return x


def returns_unit_range(model, alpha_bar, x_T, steps, eta):
    "hands back images in [0, 1]"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta)
    return (x.clamp(-1, 1) + 1) / 2


# --- solvers ---------------------------------------------------------------------------------------


def rates(alpha_bar):
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return a, s, (a / s.clamp(min=1e-30)).log()


def two_m(weight, last=False):
    "DPM-Solver++(2M); weight(h_before, h)"

    def sampler(model, alpha_bar, x_T, steps):
        a, sig, lam = rates(alpha_bar)
        x, old, h_before = x_T, None, None
        for t, s in pairs(alpha_bar, steps):
            x_0 = (x - sig[t] * model(x, told(x, t))) / a[t]
            if s == 0:
                return x_0 if not last or old is None else x_0 + weight(h_before, 0.0) * (x_0 - old)
            h = float(lam[s] - lam[t])
            d = x_0 if old is None else x_0 + weight(h_before, h) * (x_0 - old)
            x = sig[s] / sig[t] * x - a[s] * math.expm1(-h) * d
            old, h_before = x_0, h
        return x

    return sampler


two_m_ratio_inverted = two_m(lambda before, h: before / h / 2)
two_m_ratio_one = two_m(lambda before, h: 0.5)
two_m_half_missing = two_m(lambda before, h: h / before)
two_m_sign = two_m(lambda before, h: -h / before / 2)


def two_m_old_never_kept(model, alpha_bar, x_T, steps):
    "the estimate before is overwritten before it is used, h of the wrong step"
    a, sig, lam = rates(alpha_bar)
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        x_0 = (x - sig[t] * model(x, told(x, t))) / a[t]
        if s == 0:
            return x_0
        h = float(lam[s] - lam[t])
        x = sig[s] / sig[t] * x - a[s] * math.expm1(h) * x_0  # expm1(h) for expm1(-h)
    return x


def heun_like(combine, second_at=lambda t, s: s):
    def sampler(model, alpha_bar, x_T, steps):
        rho = ((1 - alpha_bar) / alpha_bar).sqrt()
        eps = lambda u, t: model(u * alpha_bar[t].sqrt(), told(u, t))
        u = x_T / alpha_bar[-1].sqrt()
        for t, s in pairs(alpha_bar, steps):
            h = rho[s] - rho[t]
            d = eps(u, t)
            if s == 0:
                return u + h * d
            u = u + h * combine(d, eps(u + h * d, second_at(t, s)))
        return u

    return sampler


heun_sum = heun_like(lambda d, d2: d + d2)
heun_second_only = heun_like(lambda d, d2: d2)
heun_second_at_t = heun_like(lambda d, d2: (d + d2) / 2, lambda t, s: t)
heun_thirds = heun_like(lambda d, d2: d / 3 + 2 * d2 / 3)


def churned(std, up_told=True):
    "Euler after a lift by gamma to another level of the table; std(rho_hat, rho)"

    def sampler(model, alpha_bar, x_T, steps):
        T = len(alpha_bar) - 1
        rho = ((1 - alpha_bar) / alpha_bar).sqrt()
        u = x_T / alpha_bar[-1].sqrt()
        for t, s in pairs(alpha_bar, steps):
            hat = min(T, t + 2) if t < T else t
            u = u + std(rho[hat], rho[t]) * torch.randn_like(u)
            at = hat if up_told else t
            e = model(u * alpha_bar[at].sqrt(), told(u, at))
            u = u + (rho[s] - rho[at]) * e
        return u

    return sampler


churn_std = churned(lambda hat, rho: hat - rho)
churn_no_noise = churned(lambda hat, rho: 0.0 * rho)
churn_slope_at_sigma = churned(lambda hat, rho: (hat**2 - rho**2).clamp(min=0).sqrt(), up_told=False)


def ancestral_down_not_reduced(model, alpha_bar, x_T, steps, eta):
    "k-diffusion's ancestral step, down to sigma_s itself, noise on top"
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    u = x_T / alpha_bar[-1].sqrt()
    for t, s in pairs(alpha_bar, steps):
        e = model(u * alpha_bar[t].sqrt(), told(u, t))
        up = eta * (rho[s] ** 2 * (rho[t] ** 2 - rho[s] ** 2) / rho[t] ** 2).sqrt()
        u = u + (rho[s] - rho[t]) * e + up * torch.randn_like(u)
    return u


def sigma_not_scaled(model, alpha_bar, x_T, steps):
    "counts in sigma, and shows the model x without scaling it to variance 1"
    rho = ((1 - alpha_bar) / alpha_bar).sqrt()
    u = x_T * (1 + rho[-1] ** 2).sqrt()
    for t, s in pairs(alpha_bar, steps):
        u = u + (rho[s] - rho[t]) * model(u, told(u, t))
    return u


# --- two faults at once ------------------------------------------------------------------------------


def two_eta_and_last(model, alpha_bar, x_T, steps, eta):
    "eta is not squared, and the last step goes to step 1"
    x = x_T
    for t, s in pairs(alpha_bar, steps):
        a, b, e = alpha_bar[t], alpha_bar[max(s, 1)], model(x, told(x, t))
        sigma = (eta * (1 - b) / (1 - a) * (1 - a / b)).sqrt()
        x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + rest(b, sigma) * e + sigma * torch.randn_like(x)
    return x


def two_clamp_and_leading(model, alpha_bar, x_T, steps, eta):
    "x_t clamped, and leading spacing"
    T = len(alpha_bar) - 1
    ts = [1 + i * (T // steps) for i in range(steps)][::-1]
    x = x_T
    for t, s in zip(ts, ts[1:] + [0]):
        x = ddim(alpha_bar[t], alpha_bar[s], x, model(x, told(x, t)), eta).clamp(-1, 1)
    return x
