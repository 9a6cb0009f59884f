"Schedulers of diffusers, each with one method written wrongly."

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput as Out


class Base(DDIMScheduler):
    "right for T that S divides: trailing"

    def pair(self, timestep):
        t = int(timestep)
        s = t - self.config.num_train_timesteps // self.num_inference_steps
        one = torch.tensor(1.0, dtype=self.alphas_cumprod.dtype)
        return self.alphas_cumprod[t], self.alphas_cumprod[s] if s >= 0 else one

    def x_0_eps(self, a_t, output, sample):
        return (sample - (1 - a_t) ** 0.5 * output) / a_t**0.5, output

    def sigma(self, a_t, a_s, eta):
        return eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)) ** 0.5

    def direction(self, a_s, sigma):
        return (1 - a_s - sigma**2).clamp(min=0) ** 0.5

    def step(self, model_output, timestep, sample, eta=0.0, generator=None, return_dict=True, **_):
        a_t, a_s = self.pair(timestep)
        x_0, eps = self.x_0_eps(a_t, model_output, sample)
        sigma = self.sigma(a_t, a_s, eta)
        z = torch.randn(sample.shape, generator=generator, dtype=sample.dtype)
        x = a_s**0.5 * x_0 + self.direction(a_s, sigma) * eps + sigma * z
        return Out(prev_sample=x, pred_original_sample=x_0) if return_dict else (x,)


class EtaTwice(Base):
    def sigma(self, a_t, a_s, eta):
        return eta * super().sigma(a_t, a_s, eta)


class VarianceAsStd(Base):
    def sigma(self, a_t, a_s, eta):
        return eta * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)


class DirectionWithoutSigma(Base):
    def direction(self, a_s, sigma):
        return (1 - a_s) ** 0.5


class NoRoot(Base):
    def x_0_eps(self, a_t, output, sample):
        return (sample - (1 - a_t) * output) / a_t**0.5, output


class VSign(Base):
    def x_0_eps(self, a_t, output, sample):
        v = a_t**0.5 * output - (1 - a_t) ** 0.5 * (sample - (1 - a_t) ** 0.5 * output) / a_t**0.5
        return a_t**0.5 * sample + (1 - a_t) ** 0.5 * v, a_t**0.5 * v + (1 - a_t) ** 0.5 * sample


class PrevOneHigh(Base):
    def pair(self, timestep):
        a_t, _ = super().pair(timestep)
        s = int(timestep) - self.config.num_train_timesteps // self.num_inference_steps + 1
        return a_t, self.alphas_cumprod[max(s, 0)]


class EndsAtFirstEntry(Base):
    def pair(self, timestep):
        a_t, _ = super().pair(timestep)
        s = int(timestep) - self.config.num_train_timesteps // self.num_inference_steps
        return a_t, self.alphas_cumprod[max(s, 0)]


class ClampSample(Base):
    def step(self, *args, **kw):
        out = super().step(*args, **kw)
        if isinstance(out, tuple):
            return (out[0].clamp(-1, 1),)
        out.prev_sample = out.prev_sample.clamp(-1, 1)
        return out


class Rising(Base):
    def set_timesteps(self, *args, **kw):
        super().set_timesteps(*args, **kw)
        self.timesteps = self.timesteps.flip(0)


class Unscaled(EulerDiscreteScheduler):
    "shows the model the sample in units of sigma"

    def scale_model_input(self, sample, timestep):
        self.is_scale_input_called = True
        if self.step_index is None:
            self._init_step_index(timestep)
        return sample


class AncestralUp(EulerAncestralDiscreteScheduler):
    "goes down to sigma_s itself and adds the noise on top"

    def step(self, model_output, timestep, sample, generator=None, return_dict=True):
        if self.step_index is None:
            self._init_step_index(timestep)
        here, to = self.sigmas[self.step_index], self.sigmas[self.step_index + 1]
        up = (to**2 * (here**2 - to**2) / here**2) ** 0.5
        x = (
            sample
            + (to - here) * model_output
            + up * torch.randn(sample.shape, generator=generator, dtype=sample.dtype)
        )
        self._step_index += 1
        return Out(prev_sample=x, pred_original_sample=None) if return_dict else (x,)


class DDPMStd(DDPMScheduler):
    "variance where its root belongs: the root is taken of the variance, so the variance squared goes in"

    def _get_variance(self, *args, **kw):
        return super()._get_variance(*args, **kw) ** 2


base = dict(timestep_spacing="trailing", clip_sample=False)
eta_twice, variance_as_std = EtaTwice(**base), VarianceAsStd(**base)
direction_without_sigma, no_root, v_sign = DirectionWithoutSigma(**base), NoRoot(**base), VSign(**base)
prev_one_high, ends_at_first_entry = PrevOneHigh(**base), EndsAtFirstEntry(**base)
clamp_sample, rising = ClampSample(**base), Rising(**base)
unscaled = Unscaled(timestep_spacing="trailing")
ancestral_up = AncestralUp(timestep_spacing="trailing")
ddpm_std = DDPMStd(timestep_spacing="trailing", clip_sample=False)
v_of_eps = DDIMScheduler(
    prediction_type="v_prediction", **base
)  # told v, gets eps: the audit may refit it; then correct
