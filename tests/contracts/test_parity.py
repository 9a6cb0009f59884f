"Step by step beside diffusers: equal where it is right, and a test that shows where it is not."
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.testing import assert_close

from conftest import normal
from ddpm_lesson.oracle import GaussianMixture
from ddpm_lesson.sampler import ddim_coefs, ddim_sample, ddpm_coefs, ddpm_steps, leading, trailing
from ddpm_lesson.schedule import linear_schedule

SCHED = linear_schedule()


def ddim(**options): return DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **options)


def our_step(ts, i, coefs, x_t, eps, z):
    "One step from our coefficients, written out."
    t, s = ts[i], (ts + [0])[i + 1]
    x_0 = (x_t - SCHED.noise_rate[t].float()*eps)/SCHED.signal_rate[t].float()
    return SCHED.signal_rate[s].float()*x_0 + coefs[0][i].float()*eps + coefs[1][i].float()*z


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('spacing, ours', [('trailing', trailing), ('leading', leading)])
@pytest.mark.parametrize('S', [10, 50])
def test_ddim_step_equals_diffusers(eta, spacing, ours, S):
    theirs, ts = ddim(timestep_spacing=spacing), ours(1000, S)
    theirs.set_timesteps(S)
    assert (theirs.timesteps + 1).tolist() == ts
    x, eps, z = (normal(2, 3, 4, 5, seed=k, dtype=torch.float32) for k in range(3))
    for i, t in enumerate(theirs.timesteps):
        want = theirs.step(eps, t, x, eta=eta, variance_noise=z if eta else None).prev_sample
        assert_close(our_step(ts, i, ddim_coefs(SCHED, ts, eta), x, eps, z), want, rtol=2e-4, atol=2e-4)  # their tables are float32


@pytest.mark.parametrize('kind, var', [('fixed_small', 'small'), ('fixed_large', 'large')])
def test_ddpm_equals_diffusers(kind, var, monkeypatch):
    theirs, ts = DDPMScheduler(variance_type=kind, clip_sample=False, timestep_spacing='trailing'), trailing(1000, 50)
    theirs.set_timesteps(50)
    x, eps, z = (normal(2, 3, 4, 5, seed=k, dtype=torch.float32) for k in range(3))
    monkeypatch.setattr('diffusers.schedulers.scheduling_ddpm.randn_tensor', lambda *a, **k: z)
    for i, t in enumerate(theirs.timesteps):
        want, got = theirs.step(eps, t, x).prev_sample, our_step(ts, i, ddpm_coefs(SCHED, ts, var), x, eps, z)
        if var == 'large' and i == 49:  # diffusers asks `t > 0`, not "is this the last step", and leaves noise in the image
            assert_close(want - got, z*theirs._get_variance(t, variance_type='fixed_large').sqrt(), rtol=1e-3, atol=1e-3)
        else: assert_close(got, want, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('clip', [None, (-1, 1)])
def test_whole_ddim_run_equals_diffusers(clip, stub):
    theirs = DDIMScheduler(clip_sample=clip is not None, timestep_spacing='trailing')
    theirs.set_timesteps(20)
    x = x_T = normal(2, 3, 4, 5, dtype=torch.float32)
    with torch.no_grad():
        for t in theirs.timesteps: x = theirs.step(stub(x, t.expand(2) + 1), t, x, use_clipped_model_output=True).prev_sample
    assert_close(ddim_sample(stub, SCHED, (2, 3, 4, 5), steps=20, x_T=x_T, clip=clip), x, rtol=1e-3, atol=1e-3)


def test_ddpm_clip_equals_diffusers(stub, monkeypatch):
    theirs = DDPMScheduler(clip_sample=True, timestep_spacing='trailing')
    theirs.set_timesteps(25)
    x = x_T = normal(2, 3, 4, 5, dtype=torch.float32)
    monkeypatch.setattr('diffusers.schedulers.scheduling_ddpm.randn_tensor', lambda *a, **k: torch.zeros(2, 3, 4, 5))
    with torch.no_grad():
        for t in theirs.timesteps: x = theirs.step(stub(x, t.expand(2) + 1), t, x).prev_sample
    monkeypatch.setattr('ddpm_lesson.sampler.image_noise', lambda *a: lambda: torch.zeros(2, 3, 4, 5))
    *_, (_, ours, _) = ddpm_steps(stub, SCHED, (2, 3, 4, 5), steps=25, x_T=x_T, clip=(-1, 1))
    assert_close(ours, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('spacing, S', [('linspace', 5), ('linspace', 10), ('trailing', 7), ('trailing', 64)])
def test_where_diffusers_goes_wrong(spacing, S):
    "Its DDIM takes t - T//S for the previous step instead of the next one in its list. On Gaussian data the right answer is known."
    m, s = 0.3, 0.5
    theirs = ddim(timestep_spacing=spacing)
    theirs.set_timesteps(S)
    ts = (theirs.timesteps + 1).tolist()
    previous = [int(t) - 1000//S + 1 for t in theirs.timesteps]
    assert previous != ts[1:] + [0]
    oracle = GaussianMixture([1.], torch.tensor([[m]], dtype=torch.float64), s, SCHED)
    ab = SCHED.alpha_bar[ts[0]].item()
    x = x_T = torch.tensor([[ab**0.5*m]], dtype=torch.float64)  # the middle of q(x_T), which every exact step takes to the middle of q(x_s)
    for t in theirs.timesteps: x = theirs.step(oracle(x, t.expand(1) + 1), t, x).prev_sample
    ours = ddim_sample(oracle, SCHED, (1, 1), steps=ts, x_T=x_T)
    assert abs(ours.item() - m) < 1e-12 and abs(x.item() - m) > 1e-5
