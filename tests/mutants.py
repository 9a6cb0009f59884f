"""Wrong programs, most of them published by someone, and the test that must reject each.

Pieces of the museum (nbs/reference/museum.ipynb) whose mistake can be made in this package bear the same name there and here;
the others are in NOT_OURS, with the reason. As a script, a server: it loads torch and pytest once and forks for each mutant.
"""
import gc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# name: (module, the right text, the wrong one, the test that must reject it)
MUTANTS = {
    # published, experiments
    "inputs of blocks as S1's skips": ('engine.published', 'skips.append(x := block(x))', 'skips.append(x); x = block(x)', 'test_experiments.py::test_s1_network_is_wired_as_published_block_by_block'),
    "S1's skips first in, first out": ('engine.published', 'for block in level: x = block(torch.cat([x, skips.pop()], 1))', 'for block in level: x = block(torch.cat([x, skips.pop(0)], 1))', 'test_experiments.py::test_s1_network_is_wired_as_published_block_by_block'),
    "S1's image network told the noise variance": ('engine.published', "sched.alpha_bar if target == 'x_0' else 1 - sched.alpha_bar", '1 - sched.alpha_bar', 'test_experiments.py::test_s1_network_is_told_the_noise_variance_or_the_signal_variance'),
    'all pairs of a seed taken for independent': ('experiments', 'return [sum(d)/len(d) for d in of_seed.values()]', 'return [x for d in of_seed.values() for x in d]', 'test_experiments.py::test_an_effect_is_one_number_a_seed'),
    # forward
    'noise scaled by beta, not by its root': ('forward', 'shaped(beta.sqrt(), x_s)*eps', 'shaped(beta, x_s)*eps', 'test_forward.py::test_chain_and_closed_form_have_one_law'),
    'std in the covariance slot': ('forward', 'signal*x_0 + noise*eps', 'signal*x_0 + noise.sqrt()*eps', 'test_forward.py::test_chain_and_closed_form_have_one_law'),
    'image shrunk by 1 - beta': ('forward', 'shaped((1 - beta).sqrt(), x_s)*x_s', 'shaped(1 - beta, x_s)*x_s', 'test_forward.py::test_chain_and_closed_form_have_one_law'),
    'standard deviation without its root': ('forward', 'signal*x_0 + noise*eps', 'signal*x_0 + noise**2*eps', 'test_forward.py::test_chain_and_closed_form_have_one_law'),
    # posterior
    'posterior variance is beta': ('posterior', 'return at(sched.beta, t)*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', 'return at(sched.beta, t)', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'posterior variance without its divisor': ('posterior', '*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', '*(1 - at(sched.alpha_bar, t - 1))', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'posterior variance with another divisor': ('posterior', '*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', '*(1 - at(sched.alpha_bar, t - 1))/at(sched.beta, t)', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'posterior variance with the index one low': ('posterior', '*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', '*(1 - at(sched.alpha_bar, t))/(1 - at(sched.alpha_bar, t))', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'posterior mean forgets a root': ('posterior', 'c_0 = alpha_bar_s.sqrt()*beta', 'c_0 = alpha_bar_s*beta', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'posterior mean with both coefficients of x_0': ('posterior', '(1 - beta).sqrt()*(1 - alpha_bar_s)', '(1 - beta).sqrt()*(1 - alpha_bar_t)', 'test_posterior.py::test_posterior_is_bayes_by_precision'),
    'velocity with the other sign': ('posterior', 'signal*eps - noise*x_0', 'noise*x_0 - signal*eps', 'test_posterior.py::test_conversions_undo_each_other'),
    'x_0 from eps, divided by alpha_bar': ('posterior', '(x_t - noise*eps)/signal', '(x_t - noise*eps)/signal**2', 'test_posterior.py::test_conversions_undo_each_other'),
    # oracle
    'oracle forgets that data have spread': ('oracle', 'alpha_bar*self.std**2 + 1 - alpha_bar', '1 - alpha_bar + 0*self.std', 'test_oracle.py::test_is_the_score_of_the_noised_density'),
    'score without its minus': ('oracle', '(x - mean)/var', '(mean - x)/var', 'test_oracle.py::test_is_the_score_of_the_noised_density'),
    'oracle ignores weights': ('oracle', ' + self.weights.to(x).log()', '', 'test_oracle.py::test_is_the_score_of_the_noised_density'),
    # schedule
    'few steps, the betas of many': ('schedule', 'linear_schedule(T, beta_1*k, beta_T*k)', 'linear_schedule(T, beta_1, beta_T)', 'test_schedule.py::test_rescaling_reaches_the_same_darkness'),
    'cosine without its cap': ('schedule', 'beta_max=0.999)', 'beta_max=1 - 1e-9)', 'test_schedule.py::test_cosine_follows_its_definition_where_it_is_not_capped'),
    'cosine without its square': ('schedule', '.cos()**2\n    return schedule_from_alpha_bar(f/f[0]', '.cos()\n    return schedule_from_alpha_bar(f/f[0]', 'test_schedule.py::test_same_as_diffusers_to_its_float32'),
    'rates clipped in power, not in amplitude': ('schedule', 'angle.cos()**2', 'angle.cos()', 'test_schedule.py::test_rate_schedule_turns_through_equal_angles'),
    'float32 tables': ('schedule', 'real_numbers(values, name, dtype=torch.float64,', 'real_numbers(values, name, dtype=torch.float32,', 'test_schedule.py::test_entries_count_like_the_paper'),
    'a table on the default device': ('schedule', "n, dtype=torch.float64, device='cpu')", 'n, dtype=torch.float64)', 'test_schedule.py::test_tables_lie_on_the_cpu_whatever_the_default_device_is'),
    'a table of any length': ('schedule', "check_whole(T, 'T', 1_000_000)", "check_whole(T, 'T')", 'test_schedule.py::test_a_table_has_a_limit_in_words'),
    'a step on the default device': ('checks', "t = as_tensor(t, device='cpu')", 't = as_tensor(t)', 'test_checks.py::test_a_default_device_changes_nothing'),
    # sampler
    'eta not squared in sigma^2': ('sampler', 'sigma = eta*(', 'sigma = eta**0.5*(', 'test_sampler.py::test_sigma_is_eta_times_and_not_root_eta_times'),
    'eta squared twice': ('sampler', 'sigma = eta*(', 'sigma = eta**2*(', 'test_sampler.py::test_sigma_is_eta_times_and_not_root_eta_times'),
    'eta twice': ('sampler', 'return (1 - a_s - sigma**2).clamp(min=0).sqrt(), sigma', 'return (1 - a_s - sigma**2).clamp(min=0).sqrt(), float(eta)*sigma', 'test_sampler.py::test_every_step_keeps_the_marginal_of_a_known_image'),
    'variance used as standard deviation': ('sampler', '(1 - a_t/a_s)).sqrt()', '(1 - a_t/a_s))', 'test_sampler.py::test_ddim_at_eta_1_is_ddpm'),
    'direction forgets sigma': ('sampler', '(1 - a_s - sigma**2)', '(1 - a_s)', 'test_sampler.py::test_every_step_keeps_the_marginal_of_a_known_image'),
    'direction is sigma': ('sampler', 'return (1 - a_s - sigma**2).clamp(min=0).sqrt(), sigma', 'return sigma, sigma', 'test_sampler.py::test_every_step_keeps_the_marginal_of_a_known_image'),
    'one-step beta on a subsequence': ('sampler', 'beta = 1 - a_t/a_s ', 'beta = sched.beta[ts] ', 'test_sampler.py::test_ddpm_small_keeps_it_too'),
    'noise at the last step': ('sampler', 'beta.sqrt()*(a_s < 1)', 'beta.sqrt()', 'test_sampler.py::test_last_step_adds_no_noise'),
    'ends at alpha_bar_1 instead of 1': ('sampler', 'sched).T, ts), 0]', 'sched).T, ts), 1]', 'test_sampler.py::test_the_loop_does_what_the_coefficients_say'),
    'stops one step short': ('sampler', 'for i in _bar(range(len(ts)), progress):', 'for i in _bar(range(len(ts) - 1), progress):', 'test_sampler.py::test_the_loop_does_what_the_coefficients_say'),
    'alpha_bar read one entry off': ('sampler', '*_falling(check_schedule(sched).T, ts), 0]', '*(t - 1 for t in _falling(check_schedule(sched).T, ts)), 0]', 'test_sampler.py::test_the_loop_does_what_the_coefficients_say'),
    'model told the step before': ('sampler', 'torch.tensor(ts, device=x_t.device)', 'torch.tensor([t - 1 for t in ts], device=x_t.device)', 'test_sampler.py::test_as_many_calls_as_steps'),
    'clamps x_t': ('sampler', 'x_0_hat.clamp_(*clip)', 'x_t = x_t.clamp(*clip)', 'test_sampler.py::test_clip_clamps_the_estimate_and_re_derives_eps'),
    'clamps x_0_hat and keeps the old eps': ('sampler', 'x_s.add_(x_0_hat if clip else eps_hat, alpha=mix[i])', 'x_s = x_0_hat*sched.signal_rate[(ts[1:] + [0])[i]].item() + eps_hat*coefs[0][i].item()', 'test_sampler.py::test_clip_clamps_the_estimate_and_re_derives_eps'),
    'a clamp that is never used': ('sampler', 'x_0_hat.clamp_(*clip)', 'x_0_hat.clamp(*clip)', 'test_sampler.py::test_clip_clamps_the_estimate_and_re_derives_eps'),
    'torch.rand for Gaussian noise': ('sampler', 'partial(torch.randn, dtype', 'partial(torch.rand, dtype', 'test_sampler.py::test_a_mixture_comes_back'),
    'one generator for the whole batch': ('sampler', "torch.Generator('cpu').manual_seed(s) for s in seeds", "torch.Generator('cpu').manual_seed(sum(seeds)) for s in seeds", 'test_sampler.py::test_a_seed_is_an_image_whatever_stands_beside_it'),
    'leading where trailing belongs': ('sampler', 'return [round(T*(S - i)/S)', 'return [1 + (S - 1 - i)*(T//S) + 0*round(T*(S - i)/S)', 'test_sampler.py::test_spacing_values'),
    'more steps than asked for': ('sampler', 'return [round(T*(S - i)/S) for i in range(S)]', 'return list(range(T, 0, -(T//S)))', 'test_sampler.py::test_spacings'),
    'one call too few': ('sampler', 'return [round(T*(S - i)/S) for i in range(S)]', 'return [round(T*(S - i)/S) for i in range(S)][1:]', 'test_sampler.py::test_spacings'),
    'network left in eval mode': ('asking', '_set_training(m, True)', 'pass', 'test_sampler.py::test_network_is_in_eval_mode_and_put_back'),
    'first sampler to end wakes the dropout of the others': ('asking', 'if self.users[m]: continue', '_set_training(m, True)\n                if self.users[m]: continue', 'test_threads.py::test_the_last_to_leave_puts_the_mode_back'),
    'the model sees the image before it is used': ('sampler', 'x_s.add_(x_0_hat if clip', 'x_s = (x_t*keep[i]).add_(x_0_hat if clip', 'test_sampler.py::test_a_model_may_spoil_what_it_is_given'),
    'works on the memory of x_T': ('sampler', 'dtype, copy=True)', 'dtype)', 'test_sampler.py::test_a_model_may_spoil_what_it_is_given'),
    'lends its own image to the model while others look': ('sampler', 'x_t.dtype, copy=look, norms', 'x_t.dtype, copy=False, norms', 'test_sampler.py::test_a_model_may_spoil_what_it_is_given'),
    'a clamp hides what is not finite': ('asking', 'norms.add_(torch.linalg.vector_norm(said))', 'pass', 'test_sampler.py::test_no_answer_that_is_not_finite_becomes_a_picture'),
    'another schedule than the model has': ('asking', 'own.shape != table.shape or not torch.allclose', 'own.shape != table.shape and not torch.allclose', 'test_sampler.py::test_a_model_and_another_schedule_are_refused'),
    'a schedule in single precision is another one': ('asking', 'torch.allclose(own, table, 1e-4, 1e-30)', 'torch.allclose(own, table, 1e-8, 1e-30)', 'test_sampler.py::test_a_schedule_in_single_precision_is_the_same_and_one_of_other_betas_is_not'),
    'any schedule of as many steps will do': ('asking', 'torch.allclose(own, table, 1e-4, 1e-30)', 'torch.allclose(own, table, 1.0001)', 'test_sampler.py::test_a_schedule_in_single_precision_is_the_same_and_one_of_other_betas_is_not'),
    'every stranger taken for a schedule': ('asking', "if isinstance(model, Schedule): came +=", "came +=", 'test_sampler.py::test_only_exchanged_arguments_are_called_exchanged'),
    'a gradient that is silently lost': ('asking', 'if x.requires_grad and torch.is_grad_enabled():', 'if False:', 'test_sampler.py::test_a_gradient_through_a_sampler_is_refused_and_not_silently_zero'),
    'waits for the GPU at every step': ('asking', 'norms.add_(torch.linalg.vector_norm(said))', 'norms.add_(torch.linalg.vector_norm(said).item())', 'test_sampler.py::test_nothing_waits_for_a_gpu_and_nothing_strays_from_it'),
    # dit
    'patches counted down the columns': ('dit', "'b c (h p) (w q) -> b (h w) (c p q)'", "'b c (h p) (w q) -> b (w h) (c p q)'", 'test_dit.py::test_patches_are_squares_in_reading_order'),
    'rows of patches and rows of pixels exchanged': ('dit', "'b (h w) (c p q) -> b c (h p) (w q)'", "'b (h w) (c p q) -> b c (p h) (q w)'", 'test_dit.py::test_patches_are_squares_in_reading_order'),
    'places told column first': ('dit', 'return torch.cat([row.repeat_interleave(cols, 0), col.repeat(rows, 1)], dim=1)', 'return torch.cat([row.repeat(cols, 1), col.repeat_interleave(rows, 0)], dim=1)', 'test_dit.py::test_places_are_told_row_first'),
    'patches that do not know where they lie': ('dit', 'z = z + position_code(', 'z = z + 0*position_code(', 'test_dit.py::test_the_network_is_the_second_network'),
    'heads that take turns number by number': ('dit', "'b n (three h c) -> three b h n c'", "'b n (three c h) -> three b h n c'", 'test_dit.py::test_the_network_is_the_second_network'),
    'tokens scaled from nothing': ('dit', 'return z*(1 + scale) + shift', 'return z*scale + shift', 'test_dit.py::test_the_network_is_the_second_network'),
    'gates that do not start at zero': ('dit', 'self.told = zeroed(linear(width, 6*width))', 'self.told = linear(width, 6*width)', 'test_dit.py::test_a_network_starts_by_saying_nothing_and_its_blocks_change_nothing'),
    'gate and branch at zero together': ('dit', 'nn.GELU(\'tanh\'), linear(4*width, width))', 'nn.GELU(\'tanh\'), zeroed(linear(4*width, width)))', 'test_dit.py::test_every_number_is_reached_by_the_third_step'),
    'one gate for both branches': ('dit', 'return z + gate_2*self.mlp', 'return z + gate_1*self.mlp', 'test_dit.py::test_the_network_is_the_second_network'),
    'a transformer that ignores t': ('dit', 'emb, y = time_embedding(t, _hands)', 'emb, y = time_embedding(0*t, _hands)', 'test_dit.py::test_the_network_is_the_second_network'),
    'the label 0 means none': ('unet', 'y = torch.full_like(t, classes, dtype', 'y = torch.full_like(t, 0, dtype', 'test_dit.py::test_no_label_is_the_last_label_and_others_are_refused'),
    'pairs counted once': ('dit', '2*n**2*d', 'n**2*d', 'test_dit.py::test_size_and_work_by_formula'),
    'the gates counted for every token': ('dit', '12*n*d**2 + 2*n**2*d + 6*d**2', '18*n*d**2 + 2*n**2*d', 'test_dit.py::test_the_table_of_the_paper'),
    'a kind that is not looked at': ('engine.presets', 'if kind not in [*_networks]: raise', 'if False: raise', 'test_dit.py::test_words_and_flags_that_do_not_fit_are_refused'),
    'a card that does not say transformer': ('engine.presets', "(dict(kind=kind) if kind != 'unet' else {})", '{}', 'test_dit.py::test_a_preset_with_the_other_network'),
    'Muon that does not ask the network': ('engine.muon', "if hasattr(net, 'for_muon') else", 'if False else', 'test_dit.py::test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest'),
    # latent
    'latents without their scale': ('latent', '- self.mean) @ self.axes.T/self.std)', '- self.mean) @ self.axes.T)', 'test_latent.py::test_latents_have_the_scale_of_the_schedule'),
    'a scale that is not undone': ('latent', '(z.double()*self.std) @ self.axes', 'z.double() @ self.axes', 'test_latent.py::test_what_is_lost_is_the_variance_of_the_other_axes'),
    'one scale for all axes': ('latent', 'own_copy(self.var[:size].sqrt())', 'own_copy(self.var[:size].mean().sqrt().expand(size))', 'test_latent.py::test_latents_have_the_scale_of_the_schedule'),
    'the smallest axes kept': ('latent', 'axes.T.flip(0)[:size]', 'axes.T[:size]', 'test_latent.py::test_what_is_lost_is_the_variance_of_the_other_axes'),
    'axes with the sign of the day': ('latent', 'own_copy(axes*largest.sign())', 'own_copy(axes)', 'test_latent.py::test_an_axis_has_the_same_sign_on_any_machine'),
    'words fitted without the root of d': ('latent', '/k.shape[-1]**0.5', '', 'test_latent.py::test_attention_is_torchs'),
    'weights over the places': ('latent', 'return fit.softmax(-1) @ v', 'return fit.softmax(-2) @ v', 'test_latent.py::test_attention_is_torchs'),
    'the first caption for all': ('latent', '[checked_labels(t, y, self.classes)])', '[checked_labels(t, y, self.classes)[:1]].expand(len(x_t), -1))', 'test_latent.py::test_a_caption_is_a_label'),
    'no label is the first caption': ('latent', 'empty = self.ids.new_zeros(1, self.ids.shape[1])', 'empty = self.ids[:1]', 'test_latent.py::test_a_caption_is_a_label'),
    'captions filled up in front': ('latent', '[number[w] for w in row] + [0]*(length - len(row))', '[0]*(length - len(row)) + [number[w] for w in row]', 'test_latent.py::test_captions_become_the_numbers_of_their_words'),
    # likelihood
    'divergence without d sin': ('likelihood', '(trace - sin*x[0].numel())/cos', 'trace/cos', 'test_likelihood.py::test_the_odes_density_is_the_mixtures_to_a_thousandth_of_a_nat'),
    'many digits where there are few': ('likelihood', '(x if wide(x.device) == torch.float64 else x.cpu()).double()', 'x.double()', 'test_likelihood.py::test_all_is_computed_where_there_is_no_float64'),
    'density by a clock that runs down': ('likelihood', 'log_p = _exact(at_T) + total', 'log_p = _exact(at_T) - total', 'test_likelihood.py::test_the_odes_density_is_the_mixtures_to_a_thousandth_of_a_nat'),
    "density by Euler's rule": ('likelihood', 'total + h/2*(spread_here + spread_there)', 'total + h*spread_there', 'test_likelihood.py::test_four_times_the_accuracy_for_twice_the_steps'),
    'density at 0 whatever start says': ('likelihood', 'return [start, *(t for t in reversed(ts) if t > start)]', 'return [0, *(t for t in reversed(ts) if t > start)]', 'test_likelihood.py::test_the_density_may_be_asked_for_at_any_step'),
    "1.96 for Student's quantile": ('likelihood', 'student(probes)*log_p.std(0)', '1.96*log_p.std(0)', 'test_likelihood.py::test_intervals_hold_the_exact_value_as_often_as_they_say'),
    'spread of one probe for the error of a mean': ('likelihood', 'log_p.std(0)/probes**0.5', 'log_p.std(0)', 'test_likelihood.py::test_intervals_hold_the_exact_value_as_often_as_they_say'),
    'probes of another variance': ('likelihood', '[noise().sign() for _', '[0.9*noise().sign() for _', 'test_likelihood.py::test_intervals_hold_the_exact_value_as_often_as_they_say'),
    'probes that are the noise in the pixels': ('likelihood', 'image_noise(tuple(x.shape), seeds, x.device, x)', 'image_noise(tuple(x.shape), seeds, x.device)', 'test_likelihood.py::test_probes_are_not_the_noise_that_dequantised'),
    'bound without the part of the variances': ('likelihood', ' + d/2*(ratio - 1 - math.log(ratio))', '', 'test_likelihood.py::test_each_term_is_the_divergence_of_two_gaussians'),
    'outermost cell of the decoder ends': ('likelihood', 'torch.where(x_0 < half - 1, -math.inf, (x_0 - half - mean)/std)', '(x_0 - half - mean)/std', 'test_likelihood.py::test_masses_of_all_bytes_add_up_to_one_and_none_is_lost_in_the_tail'),
    'bound of the ODE without log q': ('likelihood', 'return log_p - log_q - _decoder_loss', 'return log_p - _decoder_loss', 'test_likelihood.py::test_the_odes_bound_on_bytes_meets_a_finite_set'),
    'density read as a probability': ('likelihood', '-(log_p/numbers + math.log(cell))', '-(log_p/numbers)', 'test_likelihood.py::test_bits_of_a_fair_byte_are_eight'),
    # edit
    'gain without the error of the measurement': ('edit', 'A @ self.cov @ A.T + error', 'A @ self.cov @ A.T', 'test_edit.py::test_the_conditional_is_bayes_by_precision'),
    'guidance without the covariance of x_0': ('edit', 'return noise**2/signal*A(back(v))', 'return torch.zeros_like(v)', 'test_edit.py::test_guidance_with_tweedies_covariance_is_the_conditionals_denoiser'),
    "Tweedie's covariance without its root": ('edit', 'return noise**2/signal*A(back(v))', 'return noise**2*A(back(v))', 'test_edit.py::test_guidance_with_tweedies_covariance_is_the_conditionals_denoiser'),
    'guidance away from the measurement': ('edit', 'return eps_hat.detach() - noise*slope', 'return eps_hat.detach() + noise*slope', 'test_edit.py::test_guidance_with_tweedies_covariance_is_the_conditionals_denoiser'),
    'one round of conjugate gradients': ('edit', 'for _ in range(rounds):\n        Sp', 'for _ in range(1):\n        Sp', 'test_edit.py::test_guidance_with_tweedies_covariance_is_the_conditionals_denoiser'),
    'a clean patch in a noisy picture': ('edit', 'known = q_sample(sched, y, ends[i], noise().to(y)) if ends[i] else y', 'known = y', 'test_edit.py::test_the_patch_has_the_noise_of_the_step_where_it_is_pasted'),
    'repeats that do not go up again': ('edit', 'x_t = up**0.5*x_s + (1 - up)**0.5*noise().to(y) if again else x_s', 'x_t = x_s', 'test_edit.py::test_pasting_is_biased_and_repeating_brings_the_mean_over'),
    'inverted mask': ('edit', 'x_s = torch.where(mask, known, x_s)', 'x_s = torch.where(mask, x_s, known)', 'test_edit.py::test_pasting_is_biased_and_repeating_brings_the_mean_over'),
    'one round inverts': ('edit', 'for _ in range(rounds):\n            eps_hat', 'for _ in range(1):\n            eps_hat', 'test_edit.py::test_the_round_trip_closes_as_rounds_grow'),
    'a twin that forgets its arguments': ('asking', 'return sample.__wrapped__(*args, **how)', 'return sample.__wrapped__(*args, **{k: v for k, v in how.items() if k != "seeds"})', 'test_edit.py::test_a_twin_hands_out_the_way_to_the_same_picture'),
    'only the last pass is shown': ('edit', 'x_s = torch.where(mask, known, x_s)\n                yield', 'x_s = torch.where(mask, known, x_s)\n            yield', 'test_edit.py::test_a_twin_hands_out_the_way_to_the_same_picture'),
    'a clamp that leaves the noise as it was said': ('edit', 'mix[i]*(x_0_hat if clip else eps_hat)\n        return', 'mix[i]*eps_hat\n        return', 'test_edit.py::test_with_nothing_known_pasting_and_dps_are_ddim'),
    'SDEdit from the top': ('edit', 'if t <= max(1, round(strength*sched.T))]', 'if t <= sched.T]', 'test_edit.py::test_sdedit_keeps_the_share_that_was_derived'),
    'the norm of the whole batch': ('edit', '(y - seen).flatten(1).norm(dim=1).sum()', '(y - seen).norm()', 'test_edit.py::test_a_seed_makes_one_picture_in_any_batch_and_place'),
    'codes along a straight line': ('edit', 'of = lambda k: torch.where(near, torch.full_like(theta, k), (k*safe).sin()/safe.sin())', 'of = lambda k: k', 'test_edit.py::test_codes_between_two_keep_their_length'),
    # guidance
    'guidance with a plus': ('guidance', 'return free + scale*(asked - free)', 'return scale*asked + (scale - 1)*free', 'test_museum.py::test_guidance_keeps_what_both_answers_share_and_has_the_right_ends'),
    'scale 0 gives the labelled model': ('guidance', 'return free + scale*(', 'return free + (scale or 1)*(', 'test_museum.py::test_guidance_keeps_what_both_answers_share_and_has_the_right_ends'),
    'outside the interval the label is dropped': ('guidance', 'free + scale*(asked - free), asked)', 'free + scale*(asked - free), free)', 'test_guidance.py::test_an_interval_guides_each_image_by_its_own_step'),
    'an interval without its ends': ('guidance', '(t >= between[0]) & (t <= between[1])', '(t > between[0]) & (t < between[1])', 'test_guidance.py::test_an_interval_guides_each_image_by_its_own_step'),
    'the first image decides for all': ('guidance', 'torch.where(inside, free + scale*(asked - free), asked)', 'free + scale*(asked - free) if inside.flatten()[0] else asked', 'test_guidance.py::test_an_interval_guides_each_image_by_its_own_step'),
    'both calls outside the interval too': ('guidance', 'if not being_recorded(t) and not inside.any(): return asked', 'pass', 'test_guidance.py::test_outside_the_interval_one_call_is_saved'),
    'autoguidance towards the weak model': ('guidance', 'asked = _apart(model, x_t, t)\n        return _pushed(asked, lambda: _apart(weak', 'asked = _apart(weak, x_t, t)\n        return _pushed(asked, lambda: _apart(model', 'test_guidance.py::test_autoguidance_is_the_line_from_the_weak_model_through_the_better'),
    # score
    'score of a noise estimate without its minus': ('score', 'return -eps/rates(', 'return eps/rates(', 'test_score.py::test_the_score_is_the_slope_of_the_log_density'),
    "a rate for its square in Tweedie's formula": ('score', 'x_t + noise**2*score', 'x_t + noise*score', 'test_score.py::test_tweedie_is_the_average_by_bayes'),
    'covariance of the noise alone': ('score', '(eye - noise*slopes)', '(eye - 0*slopes)', 'test_score.py::test_tweedie_is_the_average_by_bayes'),
    'covariance with its rows and columns exchanged': ('score', '.flatten(1) for row in rows], 1)', '.flatten(1) for row in rows], 2)', 'test_score.py::test_the_covariance_takes_one_step_an_image_and_any_shape'),
    'score matching with the sign of the target wrong': ('score', '_difference(*scores).square()', 'sum(scores)[..., None].flatten(1).square()', 'test_score.py::test_denoising_score_matching_is_the_loss_of_the_noise_over_the_noise_variance'),
    'time of the SDE as the sum of the betas': ('score', 'return -at(sched.alpha_bar, check_t(t, last_step)).log()', 'return at(sched.beta.cumsum(0), check_t(t, last_step))', 'test_score.py::test_time_counts_what_the_signal_lost'),
    'the whole score without noise': ('score', 'return -(x_t + score)/2', 'return -x_t/2 - score', 'test_score.py::test_the_velocity_is_the_one_of_lesson_7'),
    'half the score with noise': ('score', '-(1 + eta**2)/2*dt/noise', '-dt/2/noise', 'test_score.py::test_every_eta_has_the_marginals_of_the_chain'),
    'eta without its square in the drift': ('score', '-(1 + eta**2)/2*dt/noise', '-(1 + eta)/2*dt/noise', 'test_score.py::test_the_sampler_is_its_steps_one_by_one'),
    'noise at the last step of the SDE': ('score', 'torch.where(to_data, 0, eta*dt.sqrt())', 'eta*dt.sqrt()', 'test_score.py::test_the_sampler_is_its_steps_one_by_one'),
    'Langevin noise scaled by the step size': ('score', 'shaped((2*h).sqrt(), x)*z', 'shaped(2*h, x)*z', 'test_score.py::test_langevin_stays_where_its_exact_law_says'),
    'a correction at the level it came from': ('score', 'answers(x_s, i + 1)[1]', 'answers(x_s, i)[1]', 'test_score.py::test_the_sampler_is_its_steps_one_by_one'),
    # network and loss
    'one step for images of any number': ('checks', 'if isinstance(t, Tensor) and t.shape == x_t.shape[:1]: return', 'if isinstance(t, Tensor): return', 'test_unet.py::test_a_network_wants_one_step_for_each_image'),
    't ignored': ('unet', 'emb = self.time(time_embedding(t, self.width)', 'emb = self.time(time_embedding(0*t, self.width)', 'test_train.py::test_network_uses_image_time_and_label'),
    't in [0, 1) fed to an embedding of steps': ('unet', 'angle = t.float()[:, None]*freq', 'angle = t.float()[:, None]/1000*freq', 'test_museum.py::test_embedding_is_ddpms'),
    'absolute value learns the median': ('loss', '.square().mean(1)', '.abs().mean(1)', 'test_train.py::test_loss_is_zero_for_the_truth_and_the_wrapper_turns_it_into_eps'),
    'v wrapper with the other sign': ('loss', 'return noise*x_t + signal*v', 'return noise*x_t - signal*v', 'test_train.py::test_wrappers_are_the_conversions_of_lesson_4'),
    # metrics
    'an image compared with itself': ('metrics', ' - (x.square().sum(1)/x.shape[1] + 1).pow(3)\n', '\n', 'test_metrics.py::test_kid_is_its_definition_pair_by_pair'),
    'a kernel of degree two': ('metrics', '1).pow(3)\n', '1).pow(2)\n', 'test_metrics.py::test_kid_is_its_definition_pair_by_pair'),
    'one standard error for two': ('metrics', '2*((blocks - 1)*pvariance(without))', '((blocks - 1)*pvariance(without))', 'test_metrics.py::test_interval_is_the_jackknife_by_brute_force'),
    'jackknife as if blocks were independent means': ('metrics', '2*((blocks - 1)*pvariance(without))**0.5', '2*(pvariance(without)/(blocks - 1))**0.5', 'test_metrics.py::test_interval_is_the_jackknife_by_brute_force'),
    'covariance over N': ('metrics', '/(len(x) - 1)**0.5', '/len(x)**0.5', 'test_metrics.py::test_fid_is_the_frechet_distance_of_the_fitted_gaussians'),
    'the floor judged by the images it stands for': ('metrics', 'if other is None: real = real[order[k:]]', 'if other is None: pass', 'test_metrics.py::test_without_other_images_real_ones_are_set_aside_and_never_used_twice'),
    # data
    'trained on [0, 1], shown as [-1, 1]': ('data', 'return pixels.float()/127.5 - 1', 'return pixels.float()/255', 'test_train.py::test_bytes_come_back'),
    'bytes wrap round': ('data', '.round().clamp(0, 255).to(torch.uint8)', '.round().to(torch.int64).to(torch.uint8)', 'test_train.py::test_bytes_come_back'),
    'parts of a set taken for classes': ('engine.sources', 'if names <= _split_words.keys(): return depth', 'pass', 'test_data.py::test_train_and_test_folders_are_no_classes'),
    'a folder called ~': ('engine.files', 'os.path.expanduser(os.fsdecode(path))', 'os.fsdecode(path)', 'test_data.py::test_home_is_filled_in_at_every_door'),
    'a folder that may not be read is passed over': ('engine.sources', 'os.walk(folder, onerror=refuse)', 'os.walk(folder)', 'test_data.py::test_a_folder_that_can_not_be_read_raises'),
    'a class vanishes with its files': ('engine.sources', 'if lost := {top for _, top in parts[train]} - set(tops):', 'if lost := set():', 'test_data.py::test_a_class_of_which_nothing_can_be_read_raises'),
    'a label that names another set': ('engine.sources', "f'./{last}' if self.kind == 'folder' and known_set(last) else last", 'last', 'test_data.py::test_a_folder_called_like_a_set_is_never_taken_for_it'),
    # files
    'a private file opened to all': ('engine.files', 'os.chmod(beside, old.st_mode & 0o777)', 'pass', 'test_data.py::test_a_file_that_is_replaced_keeps_its_mode'),
    'a link replaced by a file': ('engine.files', 'os.path.realpath(full_path(path))', 'full_path(path)', 'test_data.py::test_a_link_leads_on_and_what_is_no_file_is_not_replaced'),
    'decimals where digits count': ('engine.files', "float(f'{v:.5g}')", 'round(v, 5)', 'test_data.py::test_what_is_written_can_be_read_back'),
    # exercises
    'what torch lacks taken for a placeholder': ('exam.grade', 'isinstance(error, NotImplementedError) and raised and not theirs', 'isinstance(error, NotImplementedError)', 'test_grade.py::test_what_an_answer_may_raise'),
    'a judge that tries one value': ('exam.lesson_06', 'each_list(spread=(0.4, 1.7, 3.0))', 'each_list(spread=(0.5,))', 'test_grade.py::test_the_judge_that_only_tried_one_half_let_a_mistake_pass'),
    'half of the way may be the whole': ('exam.lesson_19', 'float(u.longest > 0.51*tau)', '0.0', 'test_grade.py::test_truth_passes_and_every_mistake_is_told_by_its_name'),
    'old numbers of exercises forgotten': ('exam.grade', 'return named[0] if len(named) == 1 else name', 'return name', 'test_grade.py::test_what_was_remembered_under_an_old_number_counts'),
    'a guess between two of one word': ('exam.grade', 'return named[0] if len(named) == 1 else name', 'return named[0] if named else name', 'test_grade.py::test_what_was_remembered_under_an_old_number_counts'),
    'the later of two days': ('exam.grade', 'key=lambda item: item[1]', 'key=lambda item: item[1], reverse=True', 'test_grade.py::test_old_and_new_names_are_one_exercise_with_the_earlier_day'),
    # training
    'loss.backward(loss)': ('train', 'loss.backward()', 'loss.backward(loss.detach())', 'test_museum.py::test_a_step_is_taken_along_the_gradient_of_the_loss'),
    'min-SNR of x_0 on a velocity': ('train', 'v=lambda snr: 1 + snr', 'v=lambda snr: 1', 'test_train.py::test_min_snr_weighs_the_error_in_x_0_whatever_is_predicted'),
    'min-SNR of x_0 on noise': ('train', 'eps=lambda snr: snr', 'eps=lambda snr: 1', 'test_train.py::test_min_snr_weighs_the_error_in_x_0_whatever_is_predicted'),
    'a weight that is never used': ('train', 'loss = weights[recipe.weight](losses, sched, t, recipe.target).mean()', 'loss = losses.mean()', 'test_train.py::test_a_step_follows_the_weight_of_its_recipe'),
    'average without warm-up': ('train', '1 - min(self.decay, (1 + step)/(10 + step))', '1 - self.decay', 'test_train.py::test_ema_is_the_geometric_sum'),
    't = T never trained': ('train', "check_whole(T, 'T') + 1,", "check_whole(T, 'T'),", 'test_train.py::test_every_step_from_1_to_T_is_drawn_and_draws_depend_on_the_step_alone'),
    'one coin for a whole batch': ('train', 'torch.rand(len(i), generator=g) for _ in', 'torch.rand(1, generator=g).expand(len(i)) for _ in', 'test_museum.py::test_each_label_is_dropped_by_its_own_throw'),
    'moments not resumed': ('engine.run', "out |= {f'opt.{k}.{n}': v for k, v in run.opt.state.get(p, {}).items()}", 'pass', 'test_run.py::test_resumed_is_bit_identical'),
    'a step of Muon without a look ahead': ('engine.muon', 'torch._foreach_lerp(grads, remembered, momentum)', 'remembered', 'test_muon.py::test_a_step_is_the_turned_average_with_one_look_ahead'),
    'a step of Muon as long as its kernel is narrow': ('engine.muon', '0.2*max(p.flatten(1).shape)**0.5', '0.2*min(p.flatten(1).shape)**0.5', 'test_muon.py::test_a_step_is_the_turned_average_with_one_look_ahead'),
    'Newton and Schulz from the left only': ('engine.muon', 'A = p @ A @ p', 'A = p @ A', 'test_muon.py::test_lengths_follow_the_polynomial_and_directions_stay'),
    'five rounds in one small square': ('engine.muon', 'newton_schulz(newton_schulz(X, 2), 3)', 'newton_schulz(X, 5)', 'test_muon.py::test_lopsided_gradients_survive_single_precision_and_a_callers_autocast'),
    'Muon in the precision around it': ('engine.muon', 'autocast(G.device, False)', 'autocast(G.device, True)', 'test_muon.py::test_lopsided_gradients_survive_single_precision_and_a_callers_autocast'),
    'the image layers turned, too': ('engine.muon', 'if p.ndim == 4][1:-1]', 'if p.ndim == 4]', 'test_muon.py::test_muon_takes_the_kernels_between_channels_and_adamw_the_rest'),
    'the time scales from nothing': ('unet', 'h*(1 + scale) + shift', 'h*scale + shift', 'test_muon.py::test_a_scaled_block_by_hand'),
    'weights from the stream that all threads share': ('engine.safety', "if draws and kwargs.get('generator') is None: kwargs['generator'] = self.generator", 'pass', 'test_threads.py::test_fresh_weights_come_from_no_shared_stream'),
    'goes on with other images': ('engine.run', "for k in ('images', 'arithmetic') if k in about", "for k in ('arithmetic',) if k in about", 'test_run.py::test_a_run_does_not_go_on_with_other_images'),
    'every error of reading is damage': ('engine.safety', 'except Damaged as e', 'except (ValueError, OSError) as e', 'test_crash.py::test_what_the_system_can_not_read_is_passed_on_and_nothing_is_renamed'),
    'a report that can not be written ends the run': ('engine.run', 'except OSError as e: warnings.warn(', 'except ZeroDivisionError as e: warnings.warn(', 'test_run.py::test_what_is_shown_ends_no_training'),
    'parts of a batch that count alike': ('train', 'loss = loss*(len(x_0)/len(batch[0]))', 'loss = loss/recipe.accumulate', 'test_own.py::test_a_batch_learned_in_parts_is_one_step'),
    'a run that its caller stops is lost': ('engine.run', 'except BaseException:\n        keep()', 'except BaseException:', 'test_own.py::test_what_is_called_each_step_may_end_the_run_and_nothing_is_lost'),
    'eight rows taken for eight colours': ('own', 'return x.movedim(3, 1) if x.ndim == 4 and', 'return x.movedim(3, 1) if False and', 'test_own.py::test_channels_that_come_last_are_found_in_a_tensor_and_in_a_set'),
    'half a label is none': ('own', 'if int(y) == y and ', 'if ', 'test_own.py::test_an_item_that_is_no_image_or_label_is_refused_in_words'),
    'the size asked for is forgotten': ('own', '    _check_asked(data, settings)\n', '', 'test_own.py::test_what_was_asked_of_images_that_stay_as_they_are_is_not_forgotten'),
    'a short run is not looked at': ('engine.run', 'if (step + 1) % 50 == 0 or step + 1 == run.recipe.steps:', 'if (step + 1) % 50 == 0:', 'test_own.py::test_the_steps_alone_say_so_too'),
    'a run without a folder hands back NaN': ('engine.run', 'else: _sound(run)', 'else: pass', 'test_own.py::test_a_short_run_that_went_wrong_is_noticed_before_it_is_kept'),
    'an own schedule in single precision': ('engine.cards', 'beta=schedule.beta.tolist())', 'beta=schedule.beta.float().tolist())', 'test_own.py::test_a_schedule_may_be_an_object'),
    'epochs that only our networks hear of': ('own', 'recipe_of(in_steps(data, p) |', 'recipe_of(p |', 'test_own.py::test_epochs_are_counted_whatever_the_network'),
    'width asked of a model that has its own': ('own', '    _check_start(old := load_card(start), given)', '    old = load_card(start)', 'test_own.py::test_what_the_model_to_start_with_decides_is_not_asked_in_vain'),
    'the rows of one picture are many pictures': ('own', '    _check_many(x)\n', '', 'test_own.py::test_one_picture_and_transparency_are_not_taken_for_many'),
    'no epochs are as many as the preset has': ('engine.presets', "dict(epochs=check_whole(said['epochs'], 'epochs'))", "dict(epochs=said['epochs'])", 'test_own.py::test_what_people_write_in_the_first_hour_is_answered_in_words'),
    'a number and a name of digits for one class': ('own', 'if not any(map(str.isdecimal, classes)): number', 'if True: number', 'test_own.py::test_a_label_that_is_a_word_for_labels_and_a_class_says_so'),
    'a part called net is the network': ('pretrained', 'if own and not _wraps(net): return', 'pass', 'test_own.py::test_a_part_of_ones_own_network_is_not_taken_for_all_of_it'),
    'a mark behind all that a picture says': ('engine.files', '(mark | about).items()', 'about.items()', 'test_cli.py::test_a_picture_with_much_to_say_is_still_known_for_ours'),
    '--half forgotten by --resume': ('cli', 'if half: card = card | dict(half=True)', 'if half: pass', 'test_cli.py::test_a_resumed_run_stores_its_weights_as_it_was_last_told'),
    '--half makes another run': ('engine.run', "'classes', 'half')", "'classes')", 'test_cli.py::test_a_resumed_run_stores_its_weights_as_it_was_last_told'),
    "a card's interval where nothing is insisted on": ('engine.cards', "T, how.steps))): how = replace(how, guidance=1.0, between=None)", "T, how.steps))): pass", 'test_pretrained.py::test_a_card_may_say_where_to_insist'),
    "a card's interval for whatever is asked": ('engine.cards', "dict(steps=min(50, T)) | own | asked", "dict(steps=min(50, T)) | asked | own", 'test_pretrained.py::test_a_card_may_say_where_to_insist'),
    'guidance that was asked for dropped with the interval': ('engine.cards', "by_card = 'between' not in asked and (how.guidance == 1 or 'guidance' not in asked)", "by_card = 'between' not in asked", 'test_pretrained.py::test_a_card_may_say_where_to_insist'),
    'letters for a script that its terminal lacks': ('cli', 'json.dumps(rows, indent=1)', 'json.dumps(rows, indent=1, ensure_ascii=False)', 'test_cli.py::test_a_result_for_a_script_can_be_read_whatever_the_terminal_shows'),
    'greys above 255 are white': ('sheets', 'upright(p)', "p.convert('RGB')", 'test_cli.py::test_a_sheet_saved_again_in_another_mode_shows_the_same'),
    'vowel signs are no letters': ('exam.grade', "if unicodedata.category(c)[0] != 'M'", '', 'test_grade.py::test_a_name_may_be_written_in_any_script'),
    'two ways to type a name are two students': ('classroom', "unicodedata.normalize('NFC', ' '.join(student.split()))", "' '.join(student.split())", 'test_classroom.py::test_one_name_typed_in_two_ways_is_one_student'),
    'a card too long to be read again': ('engine.cards', 'if (n := len(json.dumps(card, indent=1))) > most_letters:', 'if False:', 'test_own.py::test_a_card_that_could_not_be_read_again_ends_no_training'),
    'hashes that no card can hold': ('journal', 'if room > 6*len(data):', 'if True:', 'test_own.py::test_a_card_says_of_its_images_what_it_can_hold'),
    'a folder of others is resumed': ('engine.run', 'if not as_trained(found[2]', 'if False and as_trained(found[2]', 'test_own.py::test_a_checkpoint_without_a_run_in_it_is_refused_in_words'),
    'moments of what learned alone': ('engine.run', 'lack = [p for p in net.parameters() if p.requires_grad and p not in opt.state]', 'lack = [] if opt.state else [p for p in net.parameters() if p.requires_grad]', 'test_own.py::test_a_run_goes_on_to_the_same_bits_whatever_a_network_used'),
    "a reader's own notebook is a page": ('classroom', 'return any((root/path.strip', 'return True or any((root/path.strip', 'test_classroom.py::test_a_notebook_of_ones_own_is_saved_as_it_is'),
    'chance in a network of ones own is that of the caller': ('engine.run', " or network.get('kind') == 'own'", '', 'test_own.py::test_ones_own_network_draws_from_the_stream_of_its_run'),
    'classes that nobody counts': ('engine.run', 'if data.labels is not None and known not in (None, named):', 'if False:', 'test_own.py::test_a_network_knows_as_many_classes_as_its_images_have'),
    'a copy of all that a network remembers': ('engine.run', 'model := copied(run.model)', 'model := copy.deepcopy(run.model)', 'test_own.py::test_a_network_that_remembers_a_pass_is_averaged_and_kept'),
    'a wrapper that takes labels': ('own', '    *_, net = _inwards(net, own=True)\n    taken', '    taken', 'test_own.py::test_what_is_around_a_network_changes_nothing_of_what_it_takes'),
    'three folders are two classes': ('engine.sources', 'if classes: _name_idle(', 'if False: _name_idle(', 'test_data.py::test_a_class_that_is_missing_is_missed'),
    "a run among the images it learns from": ('engine.sources', 'if not os.path.isabs(where) or not real.is_relative_to(where): return', 'return', 'test_own.py::test_a_run_lies_outside_the_images_that_it_learns_from'),
    'a journal written before the folder is locked': ('engine.run', '    with locked(folder), Listener(', '    if begin: report = begin(run)\n    with locked(folder), Listener(', 'test_own.py::test_a_training_that_begins_a_moment_later_leaves_the_first_alone'),
    'a card removed before its weights are whole': ('pretrained', 'save_tensors(path, weights, card, stale=beside)', 'beside.unlink(missing_ok=True); save_tensors(path, weights, card)', 'test_pretrained.py::test_a_disk_that_is_full_leaves_the_card_beside_the_weights'),
    'a file that was sent is passed over': ('classroom', "raise ValueError('another ending')", 'continue', 'test_classroom.py::test_what_one_student_sent_spoils_no_others'),
    'a ~ behind ./ is the home folder': ('pretrained', 'path = full_path(path)', 'path = Path(os.path.expanduser(path))', 'test_own.py::test_a_tilde_behind_a_dot_is_a_name'),
    'a mark of a spreadsheet is none': ('classroom', "<= {'0', '1', ''}", '<= {*marks.values()}', 'test_classroom.py::test_what_was_answered_right_counts_or_the_file_is_named'),
    'half a name that is longer than the whole': ('engine.files', "f'.{path.name[:40]}.half-', path.suffix[:20]", "f'.{path.name}.half-', path.suffix", 'test_data.py::test_a_file_may_have_the_longest_name_that_there_is'),
    'a run is made shorter than it is': ('engine.run', 'if step > run.recipe.steps:', 'if False:', 'test_own.py::test_a_run_is_not_made_shorter_than_it_is'),
    'any function is a sampler': ('audit', '    _check_sampler(sampler)\n', '', 'test_audit.py::test_what_can_not_be_called_as_a_sampler_is_refused_before_it_runs'),
    'notes for a class that keep the answers': ('classroom', "if not answers: book['cells'] = without_answers(book['cells'])", 'pass', 'test_classroom.py::test_students_get_every_page_without_answers'),
    'a page saved with the version of its Python': ('classroom', "book['metadata'] = {'kernelspec': _kernel}", 'pass', 'test_classroom.py::test_opening_and_saving_changes_no_byte'),
    'a tensor left out of the clip': ('train', 'nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_grad)', 'nn.utils.clip_grad_norm_(list(net.parameters())[1:], recipe.clip_grad)', 'test_train.py::test_a_step_moves_every_tensor_along_its_own_gradient'),
    'no new order in the next epoch': ('train', 'generator(seed, 0, epoch)', 'generator(seed, 0)', 'test_train.py::test_an_epoch_shows_each_image_once'),
    'no training in inference mode': ('train', '@torch.inference_mode(False)\n', '', 'test_train.py::test_whatever_the_caller_has_set_the_plain_loop_learns_alike'),
    # the command line, and how it draws
    'an interval of guidance dropped on the way': ('engine.draw', 'between=how.between', 'between=None', 'test_cli.py::test_guidance_in_an_interval_is_the_python_call'),
    'an interval that evaluation forgets': ('metrics', 'seeds, batch, progress, between)', 'seeds, batch, progress)', 'test_metrics.py::test_network_calls_are_counted_not_claimed'),
    'calls counted as if there were no interval': ('engine.cards', 'return self.between is None or self.between[0] <= t <= self.between[1]', 'return True', 'test_cli.py::test_guidance_in_an_interval_is_the_python_call'),
    'bits with another decoder for the ODE': ('judging', 'start=ts[-1])', 'start=1)', 'test_cli.py::test_bits_are_those_of_lesson_17_with_students_interval'),
    'two standard errors for five pictures': ('judging', 'student(len(x))', '2', 'test_cli.py::test_bits_are_those_of_lesson_17_with_students_interval'),
    'a wide model taken for a square one': ('terminal', 'if photos and h != w:', 'if False:', 'test_cli.py::test_a_model_that_a_command_can_not_use_is_refused_before_any_work'),
    'every tenth image from the wrong place': ('engine.sources', '% 10 == 9) != train', '% 10 == 8) != train', 'test_classroom.py::test_one_setting_gives_the_course_other_images'),
    # few steps
    'the posterior mean for the end of the path': ('few_steps', 'mean + std*away/spread', 'mean + (1 - shaped(tau, z))*std**2*away/spread**2', 'test_few_steps.py::test_closed_forms_are_ends_and_averages_of_paths'),
    'fresh noise of the level that is left': ('few_steps', '(1 - levels(sched, ts)[1]).sqrt()', '(1 - levels(sched, ts)[0]).sqrt()', 'test_few_steps.py::test_sampler_makes_one_call_a_step_and_no_noise_at_the_end'),
    'old noise kept beside the fresh': ('few_steps', 'return torch.zeros_like(fresh), fresh', 'return fresh, fresh', 'test_few_steps.py::test_sampler_makes_one_call_a_step_and_no_noise_at_the_end'),
    'the second answer for the target of two steps': ('few_steps', 'return first + shaped(share, x_t)*(second - first)', 'return second', 'test_few_steps.py::test_target_leads_where_two_steps_of_ddim_lead'),
    "a target between the teacher's answers by equal shares": ('few_steps', 'return first + shaped(share, x_t)*(second - first)', 'return (first + second)/2', 'test_few_steps.py::test_target_leads_where_two_steps_of_ddim_lead'),
    'a chord through images with all their noise': ('few_steps', '*(x_s - shaped(shrink, x_t)*x_t)', '*(x_s - x_t)', 'test_few_steps.py::test_target_leads_where_two_steps_of_ddim_lead'),
    'the teacher learns from its student': ('few_steps', '@torch.no_grad()\ndef two_step_target', 'def two_step_target', 'test_few_steps.py::test_the_teacher_learns_nothing'),
    'a teacher with its dropout': ('few_steps', '    with eval_mode(teacher):\n        first', '    if True:\n        first', 'test_few_steps.py::test_a_teacher_is_at_rest_and_then_as_it_was'),
    'consistency without its stop-gradient': ('few_steps', '    with torch.no_grad():\n        if teacher is None: x_s', '    if True:\n        if teacher is None: x_s', 'test_few_steps.py::test_only_the_answer_at_t_learns'),
    'consistency without its end': ('few_steps', 'shaped(s, x_s) > 0, said', 'shaped(s, x_s) > -1, said', 'test_few_steps.py::test_consistency_at_the_end_is_the_clean_image'),
    'mean flow without its stop-gradient': ('few_steps', '*slope).detach()', '*slope)', 'test_few_steps.py::test_mean_flow_loss_is_the_square_to_a_fixed_target'),
    'mean flow with the other sign': ('few_steps', '(v - shaped(tau - r, z)*slope)', '(v + shaped(tau - r, z)*slope)', 'test_few_steps.py::test_identities_hold_by_derivative'),
    'mean flow with a tangent for r': ('few_steps', 'tangent = v, torch.zeros_like(r), torch.ones_like(tau)', 'tangent = v, torch.ones_like(r), torch.ones_like(tau)', 'test_few_steps.py::test_identities_hold_by_derivative'),
    'mean flow with times exchanged in the tangent': ('few_steps', 'tangent = v, torch.zeros_like(r), torch.ones_like(tau)', 'tangent = v, torch.ones_like(r), torch.zeros_like(tau)', 'test_few_steps.py::test_identities_hold_by_derivative'),
    'the velocity for the average velocity': ('few_steps', '(spread*(spread + _path(z, r, mean, std)[1]))', '(2*spread**2)', 'test_few_steps.py::test_closed_forms_are_ends_and_averages_of_paths'),
    'a noise rate taken for flow time': ('few_steps', 'z, tau = x_t/both, noise/both', 'z, tau = x_t/both, noise', 'test_few_steps.py::test_a_wrapped_average_velocity_jumps_to_the_end'),
    # dialects
    'flow time is the noise rate': ('dialects', 'lambda tau: tau/(1 - tau)', 'lambda tau: tau/(1 - tau**2).sqrt()', 'test_dialects.py::test_levels_and_images_come_back'),
    'flow time NaN at pure noise': ('dialects', 'lambda sigma: 1/(1 + 1/sigma)', 'lambda sigma: sigma/(1 + sigma)', 'test_dialects.py::test_the_ends_are_numbers'),
    'an image scaled the other way': ('dialects', "_known(to, languages, 'language').scale(sigma)/languages[source].scale(sigma)", "languages[source].scale(sigma)/_known(to, languages, 'language').scale(sigma)", 'test_dialects.py::test_a_wrapped_flow_network_is_shown_flows_image'),
    'sigma for lambda': ('dialects', 'lambda lam: (-lam).exp()', 'lambda lam: (-lam/2).exp()', 'test_dialects.py::test_levels_and_images_come_back'),
    'flow velocity with the sign of data minus noise': ('dialects', 'labels), eps - x_0)', 'labels), x_0 - eps)', 'test_dialects.py::test_flow_loss_shows_the_straight_line'),
    'flow network shown the image of DDPM': ('dialects', 'x = x_t/both', 'x = x_t', 'test_dialects.py::test_a_trained_network_and_its_wrapper_belong_together'),
    'noise of a flow network is its image': ('dialects', 'return x + clean*velocity', 'return x + clean*velocity*0', 'test_dialects.py::test_wrappers_say_one_noise_and_one_image'),
    'edm skips by sigma, not by the data': ('dialects', 'sigma_data**2*signal/spread**2', 'sigma_data*signal/spread**2', 'test_dialects.py::test_edm_is_its_papers'),
    'edm input without its root': ('dialects', '1/spread', '1/spread**2', 'test_dialects.py::test_edm_is_its_papers'),
    'edm noise disagrees with its image': ('dialects', 'noise*shrink**2*x_t - signal*self.sigma_data*shrink*said', 'noise*shrink*x_t - signal*self.sigma_data*shrink*said', 'test_dialects.py::test_wrappers_say_one_noise_and_one_image'),
    'the stored entry 0 taken for the first step': ('dialects', ".signal_rate[1:]\n", ".signal_rate\n", 'test_score.py::test_where_nothing_is_left_the_score_says_nothing_of_the_image'),
    'a walk from nothing forgets its clamp': ('sampler', 'if clip: x_0_hat = x_0_hat.clamp(*clip)', 'pass', 'test_dialects.py::test_a_walk_from_nothing'),
    'a walk from nothing without its fresh noise': ('sampler', 'if sigma: x_s.add_(noise(), alpha=sigma)', 'pass', 'test_dialects.py::test_a_walk_from_nothing_shows_its_steps_and_draws_its_law'),
    'noise divided by nothing': ('posterior', 'if sched.ends_at_zero: check_t', 'if False: check_t', 'test_dialects.py::test_noise_says_nothing_of_the_image_at_the_end'),
    'pairs on the wrong side': ('dialects', 'return eps[torch.as_tensor(of_image, device=eps.device)]', 'return eps[torch.as_tensor(of_image, device=eps.device).argsort()]', 'test_dialects.py::test_pairs_are_the_best_of_all'),
    'guidance asked for its label twice': ('dialects', 'wide = _pushed(asked, lambda: _apart(model, x_t, t), t, self.scale, self.between)', 'wide = super()._said(model, x_t, t)', 'test_dialects.py::test_rescaled_guidance_asks_as_often_as_guidance'),
    'guidance rescaled upside down': ('dialects', '*spread[0]/spread[1]', '*spread[1]/spread[0]', 'test_dialects.py::test_rescaled_is_the_papers'),
    'steps of another library counted from 1': ('dialects', 'step = t - 1 if', 'step = t if', 'test_dialects.py::test_their_network_and_scheduler_in_our_sampler'),
    'scaled_linear read as linear': ('dialects', '_with_betas((_line(low**0.5, high**0.5, _check_T(T))**2).tolist())', 'linear_schedule(T, low, high)', 'test_dialects.py::test_a_scheduler_becomes_a_schedule'),
    'averaged weights forgotten': ('dialects', 'ema.copy_to(net.parameters())', 'pass', 'test_dialects.py::test_a_pipeline_becomes_both_and_averages_are_taken'),
    'our steps in their pipeline one too low': ('dialects', 'expand(len(sample)) + 1', 'expand(len(sample)) + 0', 'test_dialects.py::test_ours_in_their_pipelines'),
    # solvers
    'a slope whatever the lengths of the steps': ('solvers', 'slope[1:-1] = h[1:-1]/h[:-2]/2', 'slope[1:-1] = 0.5', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'a line followed to the end of the step': ('solvers', 'slope[1:-1] = h[1:-1]/h[:-2]/2', 'slope[1:-1] = h[1:-1]/h[:-2]', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'the lengths of two steps exchanged': ('solvers', 'slope[1:-1] = h[1:-1]/h[:-2]/2', 'slope[1:-1] = h[:-2]/h[1:-1]/2', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'a look ahead from the point it leads to': ('solvers', 'arrives[0:pairs:2] = False', 'pass', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'Heun with the second noise alone': ('solvers', 'twice(gain, gain/2)', 'twice(gain, gain)', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'two steps of DDIM for one of Heun': ('solvers', 'arrives = twice(zero, zero + 1).bool()', 'arrives = twice(zero + 1, zero + 1).bool()', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'an estimate clamped to the range of x_0': ('solvers', 'out.clamp_(clip[0]/up[i], clip[1]/up[i])', 'out.clamp_(*clip)', 'test_solvers.py::test_a_sampler_is_the_papers_algorithm'),
    'a bound that a clamp makes presentable': ('likelihood', '    _check_end(x_t, norms/len(ts), 1)', '    pass', 'test_likelihood.py::test_bad_input_is_named'),
    'an edit that a clamp makes presentable': ('edit', '        _check_end(x_0, norms/len(ts), up[0])\n', '', 'test_edit.py::test_no_clamp_hides_a_wrong_answer'),
    'an image lent to the network it wraps': ('loss', 'x_t.to(self.like(x_t).dtype, copy=True)', 'x_t.to(self.like(x_t).dtype)', 'contracts/test_pairs.py::test_a_network_in_any_wrapper_may_spoil_what_it_is_shown_and_what_it_said'),
    'an image lent to a guided model': ('asking', 'model(given, *_copies(more))', 'model(x_t, *_copies(more))', 'contracts/test_pairs.py::test_a_network_in_any_wrapper_may_spoil_what_it_is_shown_and_what_it_said'),
    'an answer that the next one is written over': ('asking', '*_copies(more)), x_t).clone()', '*_copies(more)), x_t)', 'contracts/test_pairs.py::test_a_network_in_any_wrapper_may_spoil_what_it_is_shown_and_what_it_said'),
    'a network in a partial left as it trains': ('asking', '_unwrapped(ahead.pop())', 'ahead.pop()', 'test_sampler.py::test_a_network_is_at_rest_whatever_is_around_it'),
    'an average in half precision': ('train', 'own_copy(wide(v))', 'own_copy(v)', 'test_train.py::test_an_average_moves_in_half_precision_too'),
    'a step lent to a guided model': ('asking', 'model(given, *_copies(more))', 'model(given, *more)', 'contracts/test_pairs.py::test_a_network_in_any_wrapper_may_spoil_what_it_is_shown_and_what_it_said'),
    'a step lent to the network that learns': ('loss', 'net(x.to(_dtype_for(net, x.dtype)), *_copies((t, *labels)))', 'net(x.to(_dtype_for(net, x.dtype)), t, *labels)', 'contracts/test_pairs.py::test_a_network_may_spoil_the_step_and_the_labels_that_it_is_told'),
    'a step lent to a sampler\'s model': ('asking', 'what(given, *_copies([t]))', 'what(given, t)', 'contracts/test_pairs.py::test_a_model_may_spoil_what_it_is_shown'),
    'an answer that broadcasts inside a wrapper': ('loss', 'return _checked(self.net(given, *_copies((t, *labels))), x_t)', 'return self.net(given, t, *labels).to(x_t.dtype)', 'contracts/test_pairs.py::test_an_answer_of_another_shape_or_kind_is_refused'),
    'one label spread over a batch': ('checks', 'or y.is_floating_point() or y.shape != (n,)):', 'or y.is_floating_point()):', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'one caption spread over a batch': ('latent', 'if n not in (None, ids.shape[0]):', 'if False:', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'a vocabulary without an order': ('checks', '(str, bytes, set, frozenset, dict)', '(str, bytes)', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'an optimizer that moves another network': ('train', '    _check_opt(opt, net)\n', '', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'noise compared with v': ('loss', "if getattr(inner, 'says_noise', False):", 'if False:', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'the training split for test': ('data', 'if train in (True, False): return bool(train)', 'return bool(train)', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'a wrapper around a wrapper': ('loss', 'net if type(self) is PredictsEps else _bare(net)', 'net', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'autocast around float16': ('engine.run', 'not halves and bf16_helps(device)', 'bf16_helps(device)', 'test_own.py::test_a_network_in_half_precision_learns_as_it_is'),
    'the last of two rows': ('experiments', 'if [len(at_a), len(at_b)] != [*map(len, found)]:', 'if False:', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'an interval of rows taken for one of numbers': ('experiments', 'if x.ndim != 1 or len(x) < 2:', 'if len(x) < 2:', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    "a seed that is NumPy's": ('checks', "check_whole(seed, 'seed', 2**63 - 1, -2**63)", 'seed', 'contracts/test_kinds.py::test_a_whole_number_of_any_kind_is_the_number'),
    'a class taken for a function': ('checks', 'if callable(f) and not isinstance(f, type): return f', 'if callable(f): return f', 'contracts/test_kinds.py::test_a_name_is_no_function'),
    'a number of steps used as it came': ('sampler', 'T, S = _check_count(T, S)\n    return [round', '_check_count(T, S)\n    return [round', 'contracts/test_kinds.py::test_a_whole_number_of_any_kind_is_the_number'),
    'a width used as it came': ('unet', 'channels, width, blocks, patch, n, *mults = check_sizes(\n            channels, width, blocks, patch, len(mults), *mults, name=', 'n, *mults = check_sizes(\n            len(mults), *mults, name=', 'contracts/test_kinds.py::test_a_whole_number_of_any_kind_is_the_number'),
    "a truth value for a number": ('checks', "other = 'bool' in kind or", 'other =', 'contracts/test_kinds.py::test_a_truth_value_is_no_number'),
    'inversion goes on from what it lent': ('edit', 'yield ts[i], x_t.clone()', 'yield ts[i], x_t', 'contracts/test_kinds.py::test_whoever_draws_on_what_was_handed_out_changes_no_later_step'),
    'an image that was handed out as its estimate': ('score', 'x_s = x_0_hat.clone() if', 'x_s = x_0_hat if', 'contracts/test_kinds.py::test_whoever_draws_on_what_was_handed_out_changes_no_later_step'),
    'gradients that the caller left': ('train', '    net.zero_grad()   #', '    pass   #', 'contracts/test_kinds.py::test_a_step_follows_its_own_gradient_alone'),
    'gradients of weights that nobody moves': ('train', '    net.zero_grad()   #', '    pass   #', 'contracts/test_kinds.py::test_weights_that_no_optimizer_moves_do_not_hold_the_others_back'),
    'an average given to part of a network': ('train', 'for v, s in zip(self._live(net), self.shadow): v', 'for v, s in zip(float_state(net).values(), self.shadow): v', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'two models of other labels': ('guidance', 'if len(labels) == 2 and not torch.equal(*labels)', 'if False', 'contracts/test_kinds.py::test_what_would_be_silently_wrong_or_torchs_own_words_is_named'),
    'an interval too coarse for many draws': ('likelihood', 'math.pi/2*min(1, 40/n**0.5)/100_000', 'math.pi/2/100_000', 'contracts/test_kinds.py::test_the_interval_of_many_draws_is_that_of_a_normal_law'),
    "labels in the caller's memory": ('guidance', 'own_copy(check_labels(model, y))', 'check_labels(model, y)', 'contracts/test_kinds.py::test_what_was_given_may_change_afterwards'),
    'features that the next ones are written over': ('metrics', 'name, least=1).clone()', 'name, least=1)', 'contracts/test_kinds.py::test_a_judge_may_keep_one_memory_for_all_that_it_says'),
    'a step handed on as it came': ('few_steps', 'return check_t(t, T, n, low).to(x.device).expand(n)', 'return torch.as_tensor(t)', 'contracts/test_pairs.py::test_a_model_is_told_one_int64_step_an_image'),
    'a network in float32 shown images in float64': ('asking', 'return own if layers or own != torch.float32 else dtype', 'return own if own != torch.float32 else dtype', 'contracts/test_pairs.py::test_a_network_in_float32_is_shown_images_in_float64'),
    'the schedule of a module, not of an oracle in it': ('asking', 'for part in (*parts, *inside)', 'for part in parts', 'contracts/test_pairs.py::test_another_schedule_is_seen_through_what_is_around_a_model'),
    'a gradient lost without a word': ('asking', "    if x.requires_grad and torch.is_grad_enabled():\n        raise ValueError(f'{name} wanted no gradient", "    if False:\n        raise ValueError(f'{name} wanted no gradient", 'contracts/test_pairs.py::test_a_gradient_that_would_be_lost_is_refused'),
    'steps that rise become NaN': ('sampler', '*_falling(check_schedule(sched).T, ts), 0', '*ts, 0', 'test_sampler.py::test_coefficients_of_steps_that_do_not_fall_are_refused'),
    'the steps of DDIM for any scheduler': ('dialects', 'if asked else _spaced(c, S)', 'if False else _spaced(dict(c, _class_name=None), S)', 'test_dialects.py::test_options_visit_the_steps_of_any_scheduler'),
    'betas of their own, never rescaled': ('dialects', "sched = _with_betas(c['trained_betas'])", "return _with_betas(c['trained_betas'])", 'test_dialects.py::test_betas_of_ones_own_are_rescaled_too'),
    'random numbers in the dtype of the caller': ('train', '@torch_defaults()\ndef draw(', 'def draw(', 'test_train.py::test_a_batch_is_the_same_whatever_the_callers_defaults'),
    'the order of an epoch, lent': ('train', '[i*batch:(i + 1)*batch].clone()', '[i*batch:(i + 1)*batch]', 'test_train.py::test_the_order_of_an_epoch_is_not_the_callers_to_change'),
    '0/0 where nothing is left': ('train', 'at(sched.snr, t).clamp(min=1e-30)', 'at(sched.snr, t)', 'test_train.py::test_min_snr_is_a_number_where_nothing_is_left'),
    'no label read as a class': ('train', 'known is not None and known != named', 'False', 'test_train.py::test_labels_mean_to_the_network_what_they_mean_in_the_set'),
    'fewer samples than were asked for': ('metrics', "        _check_shapes(x.shape, shape_here, 'what the sampler returned and shape')\n", '', 'test_metrics.py::test_what_a_sampler_of_ones_own_returns_is_looked_at'),
    'pixels lent to a judge': ('metrics', 'judge(pixels.clone())', 'judge(pixels)', 'test_metrics.py::test_a_judge_may_write_into_what_it_sees'),
    'NaN drawn as black': ('data', "    if check_float(x, 'x').isnan().any():", "    if False:", 'test_metrics.py::test_what_a_sampler_of_ones_own_returns_is_looked_at'),
    'seeds in the order of a set': ('checks', '(str, bytes, set, frozenset, dict)', '(str, bytes)', 'test_checks.py::test_what_is_no_list_of_whole_numbers_is_named'),
    'tables of whatever lay in memory': ('loss', 'if empty: self._write_tables(self.signal_rate.device)', 'pass', 'test_loss.py::test_wrappers_made_without_memory_have_their_tables_when_they_get_some'),
    'a loss of a model of another schedule': ('loss', '    _check_kept(net, sched)\n', '', 'contracts/test_pairs.py::test_another_schedule_is_refused'),
    'an audit that seeds the caller': ('audit_trace', '        with torch.random.fork_rng(gpus): yield\n', '        yield\n', 'test_audit.py::test_an_audit_leaves_the_callers_state'),
    'a law that gives a column': ('likelihood', 'if at_T.shape != x.shape[:1]:', 'if False:', 'test_likelihood.py::test_bad_input_is_named'),
    'a mask that makes more pictures': ('edit', '_mask_for(x, mask).to(x)', 'mask.to(x)', 'test_edit.py::test_bad_input_is_named'),
    'a measurement of another length': ('edit', 'if y.ndim != 1 or A.shape != (len(y), len(self.mean)):', 'if False:', 'test_edit.py::test_bad_input_is_named'),
    'no name is the current folder': ('engine.files', "    if not text: raise", "    if False: raise", 'test_own.py::test_what_people_write_in_the_first_hour_is_answered_in_words'),
    'any model may begin where nothing is left': ('sampler', 'if not sched.ends_at_zero or ts[0] < sched.T: return', 'return', 'test_edit.py::test_walks_where_nothing_is_left_say_what_they_want'),
    'a run over the model of another': ('own', '    check_free(folder)\n', '', 'test_own.py::test_nothing_of_others_is_replaced_by_a_run'),
    'a clamp hides infinity': ('solvers', 'norms=hidden if clip else None', 'norms=None', 'test_solvers.py::test_what_is_refused'),
    'churn without shrinking': ('solvers', 'twice(kept.sqrt()*noise[ts]/noise[begins], zero + 1)', 'twice(zero + 1, zero + 1)', 'test_solvers.py::test_churn_keeps_the_law_of_the_chain'),
    'churn with the variance for a standard deviation': ('solvers', 'twice((1 - kept).sqrt()/noise[begins], zero)', 'twice((1 - kept)/noise[begins], zero)', 'test_solvers.py::test_churn_keeps_the_law_of_the_chain'),
    'churn that is not shared among the steps': ('solvers', 'gamma = min(churn/len(ts), 2**0.5 - 1)', 'gamma = min(churn, 2**0.5 - 1)', 'test_solvers.py::test_churn_goes_as_far_as_edm_says'),
    'a level visited twice': ('solvers', 'steps[i] = max(steps[i], steps[i - 1] + 1)', 'pass', 'test_solvers.py::test_spacings_give_distinct_falling_steps'),
    'even in rho for even in a root of it': ('solvers', 'ends = (-lam/power).exp()', 'ends = (-lam/power).exp()**power', 'test_solvers.py::test_spacings_are_even_where_they_say_so'),
    'the model is handed the state itself': ('solvers', 'ask(u*rate[i], at[i])', 'ask(u.mul_(rate[i]), at[i])/rate[i]', 'test_solvers.py::test_a_model_may_change_what_it_is_given'),
    'hands out its own memory': ('solvers', 'yield plan.ts[i], u*rate[i]', 'yield plan.ts[i], u.mul_(rate[i])', 'test_solvers.py::test_twin_ends_where_the_sampler_does'),
    'calls counted as steps': ('engine.cards', "ts + ts[1:] if self.sampler == 'heun' else ts", 'ts', 'test_solvers.py::test_a_way_of_drawing_carries_the_solver'),
    # other systems and devices
    "a step that moves every GPU's chance": ('engine.run', 'for g, _ in before: g.manual_seed(', 'torch.manual_seed(', 'test_run.py::test_dropout_moves_no_stream_of_another_device'),
    'the second GPU waits for the first': ('engine.graphs', 'self.stream.wait_stream(torch.cuda.current_stream(self.device))', 'self.stream.wait_stream(torch.cuda.current_stream())', 'test_graphs.py::test_a_step_waits_for_the_streams_of_its_own_gpu'),
    'autocast where torch has none': ('checks', 'if not bf16 and not torch.amp.is_autocast_available(kind): return nullcontext()', 'pass', 'contracts/test_device.py::test_a_device_without_autocast_learns_and_turns_all_the_same'),
    'float64 on a GPU that has none': ('judging', 'joined(weights, _exact(device))', 'joined(weights, device)', 'test_cli.py::test_what_apples_gpu_can_not_is_measured_on_the_cpu'),
    'lines that end as the system likes': ('engine.files', "encoding='utf-8', newline='\\n')", "encoding='utf-8')", 'test_cli.py::test_on_windows_a_result_may_be_written_again'),
    'quotes of another shell': ('journal', "if os.name == 'nt' else", 'if False else', 'test_cli.py::test_a_printed_command_can_be_typed_on_windows'),
    'a result lost with the disk': ('cli', '    click.echo(text if as_json else said)   #', "    if out: write_text(out, text + '\\n')\n    click.echo(text if as_json else said)   #", 'test_cli.py::test_a_result_is_said_although_it_can_not_be_written'),
    # audit
    'every sampler is right': ('audit_rules', "if not near or abs(C - C_seen) > 0.035*C + 2e-3 and s is not None: return False", 'pass', 'test_audit.py::test_planted_faults_are_named'),
    'fresh noise is not looked at': ('audit_rules', 'abs(C - C_seen) > 0.035*C + 2e-3', 'False', 'test_audit.py::test_planted_faults_are_named'),
    'an audit too strict for chance': ('audit_rules', '0.035*C + 2e-3', '0.0001*C', 'test_audit.py::test_right_samplers_are_not_accused'),
    'the last step may be noisy': ('audit_rules', 'if noisy_end and last_is_faulty:', 'if False:', 'test_audit.py::test_what_is_known_of_diffusers_ddpm_is_found'),
    'a start below T is taken for T': ('audit_rules', 'below = [r for r in traces if max(r.told) < T]', 'below = []', 'test_audit.py::test_what_is_known_of_diffusers_ddim_is_found'),
    'an error as large as that of DDIM is a fault': ('audit_solvers', 'rough = max(0.05, _share_off_by_ddim(ab, T, S))*true', 'rough = 0.05*true', 'test_audit.py::test_what_errs_as_ddim_does_but_to_the_other_side_is_right'),
    'two runs with other noise': ('audit_trace', '    torch.manual_seed(chance)\n', '    torch.manual_seed(chance + seed)\n', 'test_audit.py::test_right_samplers_are_not_accused'),
    'the same question, another answer': ('audit_trace', 'if last and torch.equal(last.told, told) and torch.equal(last.x, seen):', 'if False:', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'two copies in a batch are other images': ('audit_trace', 'if copies > 1 and', 'if False and', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'a member of the family that is not DDIM is wrong': ('audit_rules', 'abs(p.direction**2 + p.noise**2 - p.level**2) < 0.07*p.noise**2 + 6e-3', 'False', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'a bend at one number is a clamp': ('audit_trace', 'if (x.abs() > x.abs().max()*(1 - 1e-9)).sum() > 3:', 'if True:', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'what it writes into is not looked at': ('audit_trace', 'if not torch.equal(was, now))', 'if False)', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'one seed only': ('audit_rules', 'for chance in (0, 1))', 'for chance in (0, 0))', 'test_audit.py::test_right_samplers_are_not_accused'),
    'the slopes of a solver may weigh anything': ('audit_solvers', 'if _names_of_solver(sampler, ab, T, eta, add): return', 'pass', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
    'one knob alone': ('audit_rules', 'if any(_fits(traces, ab, _step, base | knobs | others)', 'if False and any(_fits(traces, ab, _step, base | knobs | others)', 'test_audit.py::test_two_faults_that_no_single_one_explains_are_both_named'),
    'a formula that another hides': ('audit_formulas', "rooted_twice=eta*_root(_root(variance)),", "rooted_twice=eta*variance,", 'test_audit.py::test_no_formula_of_the_lists_hides_another'),
    "Euler's method is accused": ('audit_rules', 'for way in (True, False) for noise in (1.0, 0.0)', 'for way in (True,) for noise in (1.0,)', 'test_audit.py::test_euler_in_beta_is_right_to_first_order'),
    'any level may be told': ('audit_rules', 'if (said := _told_otherwise(traces, ab, T)) is not None: return said, True', 'pass', 'test_audit.py::test_plants_of_one_who_had_not_read_the_audit'),
}

# pieces of the museum that no change of one line makes here
NOT_OURS = {
    'interpolates towards a clean picture': 'the package mixes no pictures; lesson 7 does',
    'cosine read at t = -1': 'alpha_bar[0] is stored and checked to be 1, so no entry before it is read',
    'quadratic squares its ends': 'there is no quadratic beta schedule',
    'average over tables too': 'the average holds parameters; schedule tables are no part of a network',
    'noise paired inside, asked for as drawn': 'the package pairs noise before a loss, never inside one',
    'a distance from too few samples': 'a choice of the caller, not a line',
}


class Mutated(importlib.machinery.SourceFileLoader):
    "Loads a module of the package with one text in it exchanged."
    def __init__(self, name, path, right, wrong):
        super().__init__(name, path)
        self.right, self.wrong = right, wrong

    def get_code(self, name):
        source = Path(self.path).read_text(encoding='utf-8')
        assert source.count(self.right) == 1, f'{self.right!r} stands {source.count(self.right)} times in {self.path}'
        return compile(source.replace(self.right, self.wrong), self.path, 'exec')


class Finder:
    "Finds the one module that is to be wrong, before Python finds the right one."
    def __init__(self, module, right, wrong): self.name, self.texts = f'ddpm_lesson.{module}', (right, wrong)

    def find_spec(self, name, path=None, target=None):
        if name != self.name: return None
        file = str(Path(path[0])/f'{name.rpartition(".")[2]}.py')
        return importlib.util.spec_from_file_location(name, file, loader=Mutated(name, file, *self.texts))


def path_of(test):
    "A test's file, wherever below this folder it is, and its name."
    file, name = test.split('::')
    return f'{next(HERE.rglob(file))}::{name}'


def tests_of(name):
    "The test that must reject mutant `name`; all of them for 'each', and for 'one a file' the first of each file."
    if name in MUTANTS: return [MUTANTS[name][3]]
    every = sorted({m[3] for m in MUTANTS.values()}, reverse=True)
    return sorted(every if name == 'each' else {test.split('::')[0]: test for test in every}.values())


def run_tests(name, log):
    "Exit status of pytest on `tests_of(name)`, with that mutant's text exchanged, if it is one."
    import pytest
    with open(log, 'w') as f: os.dup2(f.fileno(), 1), os.dup2(f.fileno(), 2)
    import ddpm_lesson  # noqa: F401  it puts a finder of its own first, and imports no module yet
    if name in MUTANTS: sys.meta_path.insert(0, Finder(*MUTANTS[name][:3]))
    status = int(pytest.main(['-x', '-q', '--assert=plain', '-p', 'no:cacheprovider', '-p', 'no:unraisableexception', *map(path_of, tests_of(name))]))
    sys.stdout.flush()
    return status


def warm_up():
    "Everything the tests import from elsewhere. No package module, no parallel work: a fork would not survive it."
    import diffusers, hypothesis, pytest, torch  # noqa: E401, F401, I001
    from diffusers import DDIMScheduler, DDPMScheduler  # noqa: F401
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports the compiler, which takes a second
    os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'
    gc.freeze()  # children need not look through what was there before them


def forked(name, log):
    "`run_tests` in a child of this process; where there is no fork, in a fresh process."
    if not hasattr(os, 'fork'): return subprocess.run([sys.executable, __file__, name, log]).returncode
    child = os.fork()
    if not child:
        try: os._exit(run_tests(name, log))
        except BaseException as error:
            Path(log).write_text(repr(error))
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serve():
    "For each name on standard input, a line of JSON: exit status and the end of what pytest said."
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            log = f'{folder}/log'
            status = forked(json.loads(line), log)
            print(json.dumps([status, Path(log).read_text(encoding='utf-8', errors='replace')[-3000:]]), flush=True)


if __name__ == '__main__': serve() if len(sys.argv) == 1 else sys.exit(run_tests(*sys.argv[1:]))
