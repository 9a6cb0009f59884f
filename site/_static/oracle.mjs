// Exact denoisers (lesson 05) and schedules (lesson 02) in JavaScript, on points of D numbers stored one after another.
// tests/contracts/test_site.py compares them with GaussianMixture, FiniteData and the Python schedules.

const product = betas => betas.reduce((all, beta) => [...all, all.at(-1)*(1 - beta)], [1]);

// alpha_bar, entries 0..T
export const schedules = {
  linear: (T = 1000, first = 1e-4, last = 0.02) => product(Array.from({length: T}, (_, i) => first + (last - first)*i/(T - 1))),
  cosine(T = 1000, s = 0.008) {
    const f = Array.from({length: T + 1}, (_, t) => Math.cos((t/T + s)/(1 + s)*Math.PI/2)**2);
    return product(f.slice(1).map((v, i) => Math.min(1 - v/f[i], 0.999)));
  },
  rate(T = 1000, most = 0.95, least = 0.02) {
    const [from, to] = [Math.acos(most), Math.acos(least)];
    return [1, ...Array.from({length: T}, (_, i) => Math.cos(from + (to - from)*i/(T - 1))**2)];
  },
};

// How far each round Gaussian of spread `std` around a mean, drowned to alpha_bar `a`, speaks for one point: weights that sum to 1,
// written into `weights`; returns the logarithm of their sum before, the log density but for a constant.
function responsibilities(weights, x, at, means, D, a, variance) {
  const signal = Math.sqrt(a), K = weights.length;
  let most = -Infinity;
  for (let k = 0; k < K; k++) {
    let square = 0;
    for (let d = 0; d < D; d++) square += (x[at + d] - signal*means[k*D + d])**2;
    weights[k] = -square/(2*variance);
    if (weights[k] > most) most = weights[k];
  }
  let sum = 0;
  for (let k = 0; k < K; k++) sum += weights[k] = Math.exp(weights[k] - most);
  for (let k = 0; k < K; k++) weights[k] /= sum;
  return most + Math.log(sum);
}

// A model eps_hat = model(x_t, t): the expected noise when the data are equal parts of round Gaussians at `means`; std 0: points.
export function oracle(means, std, alphaBar, D = 2) {
  const weights = new Float64Array(means.length/D);
  return (x, t) => {
    const a = alphaBar[t], variance = a*std**2 + 1 - a, factor = Math.sqrt(1 - a)/variance, signal = Math.sqrt(a);
    const eps_hat = new Float64Array(x.length);
    for (let at = 0; at < x.length; at += D) {
      responsibilities(weights, x, at, means, D, a, variance);
      for (let d = 0; d < D; d++) {
        let mean = 0;
        for (let k = 0; k < weights.length; k++) mean += weights[k]*means[k*D + d];
        eps_hat[at + d] = factor*(x[at + d] - signal*mean);
      }
    }
    return eps_hat;
  };
}

// The logarithm of p_t at each point of x.
export function logDensity(means, std, alphaBar, x, t, D = 2) {
  const a = alphaBar[t], variance = a*std**2 + 1 - a, weights = new Float64Array(means.length/D);
  const constant = -Math.log(weights.length) - D/2*Math.log(2*Math.PI*variance);
  return Float64Array.from({length: x.length/D}, (_, i) => constant + responsibilities(weights, x, i*D, means, D, a, variance));
}
