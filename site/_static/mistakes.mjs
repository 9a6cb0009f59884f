// Published mistakes as changes to a sampler's parts, each as the museum has it; and the museum's exact error of a step.
import {walk} from './sampler.mjs';

// A model whose x_0_hat is computed with the table's entry for t - 1.
const oneOff = (model, alphaBar) => async (x, t) => {
  const eps_hat = await model(x, t), [a, before] = [alphaBar[t], alphaBar[t - 1]];
  return x.map((v, k) => (v - Math.sqrt(a)*(v - Math.sqrt(1 - before)*eps_hat[k])/Math.sqrt(before))/Math.sqrt(1 - a));
};
const eachCoef = change => parts => ({...parts, coefs: parts.coefs.map(change)});
const clamp = v => Math.min(Math.max(v, -1), 1);

// `spoil` takes and gives {alphaBar, ts, coefs, eta, model, after}; `scene` is where it shows; `garments`: where and what it shows on the live page.
export const mistakes = {
  last: {
    name: 'noise at the last step',
    what: 'Fresh noise is added once more, after the last step.',
    spoil: parts => ({...parts, coefs: parts.coefs.map((c, i) => i < parts.ts.length - 1 ? c : {...c, sigma: Math.sqrt(1 - parts.alphaBar[parts.ts[i]])})}),
    scene: {data: 'two', steps: 10, eta: 1, spread: 0},
    options: ['Each data point gets a cloud around it', 'All dots end on one data point', 'Nothing that you can see'],
    truth: 0, why: 'The last step should land on the guess of x₀ itself. Here it misses by the noise that was left at the last step visited. With ten steps that is a cloud; with a thousand it is too small to see, and samples alone would not tell you.',
    garments: {
      scene: {sampler: 'ddim', steps: 10, eta: 1},
      options: ['Their outlines get blurred', 'Grain all over each garment', 'Nothing that you can see'],
      truth: 1, why: 'The last step should land on the guess of x₀ itself. Here it misses by the noise that was left at the last step visited. With ten steps that is grain; with a thousand it is too little to see.',
    },
  },
  entry: {
    name: 'one table entry off',
    what: 'x̂₀ is computed with the table entry for t − 1 in place of t.',
    spoil: parts => ({...parts, model: oneOff(parts.model, parts.alphaBar)}),
    scene: {data: 'ring', steps: 50, eta: 1, spread: 0},
    options: ['The dots end too far out', 'The dots never arrive', 'Nothing that you can see'],
    truth: 2, why: 'One entry of a thousand is a small step. The picture cannot tell, but the exact error can: it is not zero.',
    garments: {
      scene: {sampler: 'ddim', steps: 20, eta: 1},
      options: ['They end too bright', 'The walk never leaves the noise', 'Nothing that you can see'],
      truth: 2, why: 'One entry of a thousand is a small step, and the garments are nearly the same. No eye would find it; the exact error is not zero.',
    },
  },
  twice: {
    name: 'η counted twice',
    what: 'The fresh noise is multiplied by η once more, though σ holds it already.',
    spoil: parts => eachCoef(c => ({...c, sigma: parts.eta*c.sigma}))(parts),
    scene: {data: 'smile', steps: 50, eta: 0.5, spread: 0},
    options: ['The dots spread too wide', 'Outer data points get fewer dots, some of them none', 'Nothing that you can see'],
    truth: 1, why: 'Old noise was taken away to make room for σz, and less than σz was put back. So the cloud shrinks on its way, and arrives more often in the middle. With η = 0 or 1 nothing is wrong, and a test at these two values sees nothing.',
    garments: {
      scene: {sampler: 'ddim', steps: 20, eta: 0.5},
      options: ['They get noisy', 'They get smooth: folds, prints and cloth are gone', 'Nothing that you can see'],
      truth: 1, why: 'Old noise was taken away to make room for σz, and less than σz was put back. The network meets too little noise for its t, takes what there is of texture for noise too, and wipes it off. With η = 0 or 1 nothing is wrong, and a test at these two values sees nothing.',
    },
  },
  clamp: {
    name: 'clamp on x_t',
    what: 'x_t is clamped to [−1, 1] after each step, where only x̂₀ may be.',
    spoil: parts => ({...parts, after: x => x.map(clamp)}),
    scene: {data: 'two', steps: 50, eta: 1, spread: 0.3, particles: 500},
    options: ['Nothing that you can see', 'Dots pile up on the sides of a square', 'The walk gets noisier'],
    truth: 1, why: 'x_t is the picture and its noise, and must reach beyond ±1. What is cut off lies on the sides of the square, step after step, and at the end too. All samples are in range, so a test of the range is content.',
    garments: {
      scene: {sampler: 'ddim', steps: 20, eta: 1},
      options: ['Nothing that you can see', 'White and black pixels get sprinkled in', 'Other garments come out, some too wide, some none at all'],
      truth: 2, why: 'x_t is the picture and its noise, and must reach beyond ±1. The network was never shown noise whose peaks are cut off, and takes it for something else. All samples are in range, so a test of the range is content.',
    },
  },
  direction: {
    name: 'direction = σ',
    what: 'The old noise keeps σ of itself, in place of √(1 − ᾱₛ − σ²).',
    spoil: eachCoef(c => ({...c, direction: c.sigma})),
    scene: {data: 'smile', steps: 50, eta: 0, spread: 0},
    options: ['All dots end on one data point', 'The dots walk in straight lines to their nearest data point', 'The walk gets noisy'],
    truth: 0, why: 'With η = 0 no noise is kept at all. So x_t becomes the guess of x₀, which at first is the average of all data, the same for every dot; from there on they walk together.',
    garments: {
      scene: {sampler: 'ddim', steps: 20, eta: 0},
      options: ['One smooth, flat shape comes out', 'The noise stays', 'Nothing that you can see'],
      truth: 0, why: 'With η = 0 no noise is kept at all. So x_t becomes the guess of x₀, at first the average of all garments of its class, and the network finds nothing in it to take away.',
    },
  },
};

// {alphaBar, ts, coefs, eta, model} as the named mistake leaves them; any other name changes nothing.
export const spoiled = (parts, name) => Object.hasOwn(mistakes, name) ? mistakes[name].spoil(parts) : parts;

const PROBES = {x_0: [0, 1, 0, 0, 1], eps: [0, 0, 1, 0, 9], z: [0, 0, 0, 1, 7]};

// What step i makes of the image, of the noise in x_t and of fresh noise, when eps_hat is true: [a, b, c], or null if it is not linear.
async function stepWeights(parts, name, i) {
  const {alphaBar, ts} = parts, t = ts[i], pair = ts.slice(i, i + 2), told = {...parts, model: () => Float64Array.from(PROBES.eps)};
  const {model, coefs, after} = spoiled(told, name);
  const x_t = Float64Array.from(PROBES.x_0, (x, k) => Math.sqrt(alphaBar[t])*x + Math.sqrt(1 - alphaBar[t])*PROBES.eps[k]);
  const steps = walk(model, alphaBar, x_t, pair, coefs.slice(i, i + 2), () => Float64Array.from(PROBES.z), null, after);
  await steps.next();
  const [none, a, b, c, mixed] = (await steps.next()).value.x_t;
  return Math.abs(none) + Math.abs(a + 9*b + 7*c - mixed) < 1e-6 ? [a, b, c] : null;
}

// How far each step, told the true noise, misses q(x_s | x_0) in mean or variance (museum, M.1); Infinity where it is not linear.
export const exactErrors = (parts, name) => Promise.all(parts.ts.map(async (_, i) => {
  const weights = await stepWeights(parts, name, i), alphaBar = parts.alphaBar[parts.ts[i + 1] ?? 0];
  if (!weights) return Infinity;
  const [a, b, c] = weights;
  return Math.max(Math.abs(a - Math.sqrt(alphaBar)), Math.abs(b**2 + c**2 - (1 - alphaBar)));
}));

// An exact error, short enough for a sentence.
export const short = x => x === Infinity ? 'not a linear step at all' : x < 1e-12 ? '0' : x.toPrecision(2);
