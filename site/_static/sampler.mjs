// The samplers of lessons 06 and 07 in JavaScript: the same steps, the same coefficients, the same noise for a seed.
// tests/contracts/test_site.py compares every function here with the Python it mirrors.
// A model is anything called as: eps_hat = await model(x_t, t), x_t and eps_hat typed arrays of one length, t a whole number in 1..T.

// Python's round: halves go to the even neighbour.
export function round(x) {
  const down = Math.floor(x), half = x - down === 0.5;
  return half ? down + Math.abs(down % 2) : Math.round(x);
}

// S timesteps spaced evenly back from T (lesson 06).
export const trailing = (T, S) => Array.from({length: S}, (_, i) => round(T*(S - i)/S));

// alpha_bar at each timestep visited, and at the one after it; after the last comes 0.
const pairs = (alphaBar, ts) => ts.map((t, i) => [alphaBar[t], alphaBar[ts[i + 1] ?? 0]]);

// How much of eps_hat stays (direction) and how much fresh noise comes (sigma): DDIM Eqs. 12 and 16 (lesson 07).
export const ddimCoefs = (alphaBar, ts, eta) => pairs(alphaBar, ts).map(([at, as]) => {
  const sigma = eta*Math.sqrt((1 - as)/(1 - at)*(1 - at/as));
  return {direction: Math.sqrt(Math.max(1 - as - sigma**2, 0)), sigma};
});

// The same for DDPM with the posterior variance: DDPM Eqs. 7 and 11, on any subsequence (lesson 06).
export const ddpmCoefs = (alphaBar, ts) => pairs(alphaBar, ts).map(([at, as]) => {
  const beta = 1 - at/as;
  return {direction: Math.sqrt(1 - beta)*(1 - as)/Math.sqrt(1 - at), sigma: Math.sqrt(beta*(1 - as)/(1 - at))};
});

// The loop that all samplers share: x_s = signal_rate_s x_0_hat + direction eps_hat + sigma z.
// `noise()` gives one fresh draw; `clip` is null or [lo, hi] for x_0_hat; a broken sampler does something `after` each step.
// Yields {t, x_t, x_0_hat}, at last with t = 0.
export async function* walk(model, alphaBar, x_t, ts, coefs, noise, clip, after = x => x) {
  for (let i = 0; i < ts.length; i++) {
    const t = ts[i], signal = Math.sqrt(alphaBar[t]), noiseRate = Math.sqrt(1 - alphaBar[t]);
    const signalNext = Math.sqrt(alphaBar[ts[i + 1] ?? 0]), {direction, sigma} = coefs[i];
    let eps_hat = await model(x_t, t);
    const x_0_hat = x_t.map((x, k) => {
      const guess = (x - noiseRate*eps_hat[k])/signal;
      return clip ? Math.min(Math.max(guess, clip[0]), clip[1]) : guess;
    });
    if (clip) eps_hat = x_t.map((x, k) => (x - signal*x_0_hat[k])/noiseRate);
    yield {t, x_t, x_0_hat};
    const z = sigma ? noise() : null;
    x_t = after(x_0_hat.map((x_0, k) => signalNext*x_0 + direction*eps_hat[k] + (z ? sigma*z[k] : 0)));
  }
  yield {t: 0, x_t, x_0_hat: x_t};
}

// A model that knows labels, asked for one and pushed beyond it: eps_u + scale (eps_c - eps_u) (lesson 13).
// `net(x, t, labels)` takes as many images as labels, one after another; label `none` means no label. `count`: the images of x_t.
export const guided = (net, y, none, scale, count = 1) => async (x_t, t) => {
  const all = label => Array(count).fill(label);
  if (scale === 1 || y === none) return net(x_t, t, all(y));
  const two = new x_t.constructor(2*x_t.length);
  two.set(x_t); two.set(x_t, x_t.length);
  const eps_hat = await net(two, t, [...all(none), ...all(y)]);
  return x_t.map((_, k) => eps_hat[k] + scale*(eps_hat[k + x_t.length] - eps_hat[k]));
};

// Mersenne Twister (Matsumoto and Nishimura 1998): a stream of whole numbers below 2^32.
export function twister(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = 624;
  const refill = () => {
    for (let i = 0; i < 624; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  };
  return () => {
    if (next === 624) refill();
    let y = state[next++];
    y ^= y >>> 11; y ^= (y << 7) & 0x9d2c5680; y ^= (y << 15) & 0xefc60000; y ^= y >>> 18;
    return y >>> 0;
  };
}

// Standard normal noise as PyTorch's CPU draws it for a seed, up to rounding: 24 bits a uniform, Box and Muller on blocks of 16.
// Returns a function that draws n numbers, n a multiple of 16.
export function torchNoise(seed) {
  const whole = twister(seed);
  return n => {
    if (n % 16) throw new RangeError(`n wanted a multiple of 16, got ${n}`);
    const x = Float32Array.from({length: n}, () => (whole() & 0xffffff)/2**24);
    for (let i = 0; i < n; i += 16) for (let j = i; j < i + 8; j++) {
      const radius = Math.sqrt(-2*Math.log(1 - x[j])), angle = 2*Math.PI*x[j + 8];
      x[j] = radius*Math.cos(angle); x[j + 8] = radius*Math.sin(angle);
    }
    return x;
  };
}

// [-1, 1] to grey bytes, rounded and clamped (lesson 01).
export const toPixels = x => Uint8ClampedArray.from(x, v => round((v + 1)*127.5));
