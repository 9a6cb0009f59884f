"Wrong programs, most of them published by someone, and the proof that the exact tests reject each."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXACT = ['test_forward_posterior.py', 'test_oracle.py', 'test_schedule.py', 'test_sampler.py', 'test_training.py']

# module, the right line, the wrong one, the test file that must reject it
MUTANTS = {
    'noise scaled by beta, not by its root': ('forward', 'shaped(beta.sqrt(), x_s)*eps', 'shaped(beta, x_s)*eps', 0),
    'image shrunk by 1 - beta': ('forward', 'shaped((1 - beta).sqrt(), x_s)*x_s', 'shaped(1 - beta, x_s)*x_s', 0),
    'standard deviation without its root': ('forward', 'shaped((1 - alpha_bar).sqrt(), x_0)*eps', 'shaped(1 - alpha_bar, x_0)*eps', 0),
    'posterior variance is beta': ('posterior', 'return at(sched.beta, t)*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', 'return at(sched.beta, t)', 0),
    'posterior variance without its divisor': ('posterior', '*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', '*(1 - at(sched.alpha_bar, t - 1))', 0),
    'posterior variance with the index one low': ('posterior', '*(1 - at(sched.alpha_bar, t - 1))/(1 - at(sched.alpha_bar, t))', '*(1 - at(sched.alpha_bar, t))/(1 - at(sched.alpha_bar, t))', 0),
    'posterior mean forgets a root': ('posterior', 'c_0 = alpha_bar_s.sqrt()*beta', 'c_0 = alpha_bar_s*beta', 0),
    'posterior mean with both coefficients of x_0': ('posterior', '(1 - beta).sqrt()*(1 - alpha_bar_s)', '(1 - beta).sqrt()*(1 - alpha_bar_t)', 0),
    'velocity with the other sign': ('posterior', 'shaped(alpha_bar.sqrt(), x_0)*eps - shaped((1 - alpha_bar).sqrt(), x_0)*x_0', 'shaped((1 - alpha_bar).sqrt(), x_0)*x_0 - shaped(alpha_bar.sqrt(), x_0)*eps', 0),
    'x_0 from eps, divided by alpha_bar': ('posterior', '*eps)/shaped(alpha_bar.sqrt(), x_t)', '*eps)/shaped(alpha_bar, x_t)', 0),
    'oracle forgets that data have spread': ('oracle', 'alpha_bar*self.std**2 + 1 - alpha_bar', '1 - alpha_bar + 0*self.std', 1),
    'oracle gives the score, sign lost': ('oracle', '(x - mean)/var', '(mean - x)/var', 1),
    'oracle ignores weights': ('oracle', ' + self.weights.to(x).log()', '', 1),
    'cosine without its cap': ('schedule', 'beta_max=0.999)', 'beta_max=1 - 1e-9)', 2),
    'cosine without its square': ('schedule', '.cos()**2\n    return schedule_from_alpha_bar(f/f[0]', '.cos()\n    return schedule_from_alpha_bar(f/f[0]', 2),
    'rates clipped in power, not in amplitude': ('schedule', "angle.cos()**2", "angle.cos()", 2),
    'float32 tables': ('schedule', 'beta = torch.as_tensor(self.beta, dtype=torch.float64)', 'beta = torch.as_tensor(self.beta, dtype=torch.float32)', 2),
    'eta not squared in sigma^2': ('sampler', 'sigma = float(eta)*(', 'sigma = float(eta)**0.5*(', 3),
    'eta squared twice': ('sampler', 'sigma = float(eta)*(', 'sigma = float(eta)**2*(', 3),
    'variance used as standard deviation': ('sampler', '(1 - a_t/a_s)).sqrt()', '(1 - a_t/a_s))', 3),
    'direction forgets sigma': ('sampler', '(1 - a_s - sigma**2)', '(1 - a_s)', 3),
    'direction is sigma': ('sampler', 'return (1 - a_s - sigma**2).clamp(min=0).sqrt(), sigma', 'return sigma, sigma', 3),
    'one-step beta on a subsequence': ('sampler', 'beta = 1 - a_t/a_s ', 'beta = sched.beta[ts] ', 3),
    'noise at the last step': ('sampler', 'beta.sqrt()*(a_s < 1)', 'beta.sqrt()', 3),
    'ends at alpha_bar_1 instead of 1': ('sampler', 'signal_s = alpha_bar.sqrt()[ts[1:] + [0]].tolist()', 'signal_s = alpha_bar.sqrt()[ts[1:] + [1]].tolist()', 3),
    'model told the step before': ('sampler', 'steps = torch.tensor(ts, device=x_t.device)', 'steps = torch.tensor([t - 1 for t in ts], device=x_t.device)', 3),
    'clamps x_t': ('sampler', 'x_0_hat.clamp_(*clip)', 'x_t = x_t.clamp(*clip)', 3),
    'clamps x_0_hat and keeps the old eps': ('sampler', 'eps_hat = torch.sub(x_t, x_0_hat, alpha=signal[i]).mul_(1/noise_rate[i])', 'pass', 3),
    'one generator for the whole batch': ('sampler', 'torch.Generator().manual_seed(s) for s in seeds', 'torch.Generator().manual_seed(sum(seeds)) for s in seeds', 3),
    'leading where trailing belongs': ('sampler', 'return [round(T*(S - i)/S)', 'return [1 + (S - 1 - i)*(T//S) + 0*round(T*(S - i)/S)', 3),
    'network left in eval mode': ('sampler', 'for m in parts: m.training = True', 'pass', 3),
    'v wrapper with the other sign': ('loss', 'return noise*x_t + signal*self.net', 'return noise*x_t - signal*self.net', 4),
    'average without warm-up': ('train', '1 - min(self.decay, (1 + step)/(10 + step))', '1 - self.decay', 4),
    't = T never trained': ('train', 'torch.randint(1, T + 1,', 'torch.randint(1, T,', 4),
    'moments not resumed': ('train', "out |= {f'opt.{k}.{n}': v for k, v in m.items()}", 'pass', 4),
    'no new order in the next epoch': ('train', 'generator(seed, 0, epoch)', 'generator(seed, 0)', 4),
}


@pytest.mark.parametrize('name', MUTANTS, ids=lambda n: n.replace(' ', '-'))
def test_mutant_is_killed(name, tmp_path):
    module, right, wrong, file = MUTANTS[name]
    shutil.copytree(ROOT/'ddpm_lesson', tmp_path/'ddpm_lesson', ignore=shutil.ignore_patterns('__pycache__'))
    source = (tmp_path/'ddpm_lesson'/f'{module}.py').read_text()
    assert source.count(right) == 1, f'{right!r} stands {source.count(right)} times in {module}.py'
    (tmp_path/'ddpm_lesson'/f'{module}.py').write_text(source.replace(right, wrong))
    shutil.copytree(ROOT/'tests', tmp_path/'tests', ignore=shutil.ignore_patterns('__pycache__'))
    command = [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', '-k', 'not sigkill and not shipped', str(tmp_path/'tests'/EXACT[file])]
    r = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert r.returncode == 1 and ' failed' in r.stdout, f'survived: {r.stdout[-1500:]}{r.stderr[-500:]}'
