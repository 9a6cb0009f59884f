// What the live page walks: one program or two on a few garments at once, from noise or from a drawing; and the same as Python.
import {mistakes, spoiled} from './mistakes.mjs';
import {ddimCoefs, ddpmCoefs, guided, torchNoise, trailing, walk} from './sampler.mjs';

const CLIP = [-1, 1];
const sizeOf = facts => facts.shape.reduce((a, b) => a*b);

// Fresh noise for `count` images of `size` numbers: image i has a generator of its own, of seed + i.
export function noises(seed, count, size) {
  const own = Array.from({length: count}, (_, i) => torchNoise(seed + i));
  return () => {
    const all = new Float32Array(count*size);
    own.forEach((draw, i) => all.set(draw(size), i*size));
    return all;
  };
}

// The steps of the whole walk; of a drawing's walk those from t on (lesson 18).
export const visited = (facts, {steps, start, t}) => trailing(facts.T, steps).filter(s => start === 'noise' || s <= t);

// A picture, as often as there are images, with noise up to the first step visited (lesson 3).
export function drowned(facts, settings, x_0, z) {
  const a = facts.alpha_bar[visited(facts, settings)[0]], signal = Math.sqrt(a), rate = Math.sqrt(1 - a);
  return z.map((v, k) => signal*x_0[k % x_0.length] + rate*v);
}

// One program, or two to compare: DDPM beside DDIM, or a right one beside a spoiled one.
export function programs(facts, settings, model) {
  const {sampler, eta, mistake} = settings, alphaBar = facts.alpha_bar, ts = visited(facts, settings);
  const ddpm = {name: 'DDPM', parts: {alphaBar, ts, model, eta: 1, coefs: ddpmCoefs(alphaBar, ts)}};
  const ddim = {name: `DDIM, η = ${eta}`, parts: {alphaBar, ts, model, eta, coefs: ddimCoefs(alphaBar, ts, eta)}};
  const right = sampler === 'ddpm' ? ddpm : ddim;
  if (mistake !== 'none') return [{...right, name: `Right: ${right.name}`}, {name: `Wrong: ${mistakes[mistake].name}`, parts: spoiled(right.parts, mistake)}];
  return sampler === 'both' ? [ddpm, ddim] : [right];
}

// The walks that the settings ask for, in step: {t, x_t: one a program, x_0_hat of the first}; from `x_0` if it is a drawing's.
export async function* garments(net, facts, settings, x_0) {
  const {y, seed, scale, count, start} = settings, none = facts.classes.length;
  const model = guided(net, scale === 0 ? none : y, none, scale, count);
  const walks = programs(facts, settings, model).map(({parts}) => {
    const noise = noises(seed, count, sizeOf(facts)), first = noise();
    const x_t = start === 'noise' ? first : drowned(facts, settings, x_0, first);
    return walk(parts.model, parts.alphaBar, x_t, parts.ts, parts.coefs, noise, CLIP, parts.after);
  });
  for (;;) {
    const frames = [];
    for (const each of walks) frames.push(await each.next());
    if (frames[0].done) return;
    yield {t: frames[0].value.t, x_t: frames.map(frame => frame.value.x_t), x_0_hat: frames[0].value.x_0_hat};
  }
}

// The settings as the Python that draws the same garments; of a mistake, the right one.
export function python(facts, settings, drawing) {
  const {y, seed, sampler, steps, eta, scale, count, start, t, mistake, net} = settings;
  const wrapper = y === facts.classes.length || scale === 0 ? '' : scale === 1 ? 'Labelled' : 'Guided';
  const label = `torch.tensor([${y}]${count > 1 ? `*${count}` : ''})`, shape = `(${[count, ...facts.shape].join(', ')})`;
  const model = {'': 'model', Labelled: `Labelled(model, ${label})`, Guided: `Guided(model, ${label}, scale=${scale})`}[wrapper];
  const seeds = count > 1 ? `range(${seed}, ${seed + count})` : `[${seed}]`, drawn = start === 'drawing';
  const both = sampler === 'both' && mistake === 'none', used = both ? ['ddpm', 'ddim'] : [sampler === 'both' ? 'ddim' : sampler];
  const call = {
    ddim: `ddim_sample(${model}, sched, ${shape}, steps=${steps}, eta=${eta}, clip=(-1, 1), seeds=${seeds})`,
    ddpm: `ddpm_sample(${model}, sched, ${shape}, steps=${steps}, clip=(-1, 1), seeds=${seeds})`,
  };
  const edit = eta => `sdedit(${model}, sched, x_0, strength=${t/facts.T}, steps=${steps}, eta=${eta}, clip=(-1, 1), seeds=${seeds})`;
  const line = name => drawn ? edit(name === 'ddpm' ? 1 : eta) : call[name];
  return [
    ...(drawn ? ['import base64'] : []), ...(wrapper || drawn ? ['import torch'] : []),
    ...(drawn ? ['from ddpm_lesson.edit import sdedit'] : []), ...(wrapper ? [`from ddpm_lesson.guidance import ${wrapper}`] : []),
    'from ddpm_lesson.pretrained import load_pretrained', ...(drawn ? [] : [`from ddpm_lesson.sampler import ${[...used].sort().map(name => `${name}_sample`).join(', ')}`]), '',
    `model, sched = load_pretrained('${facts.networks[net]}')`,
    ...(drawn ? [`drawing = '${drawing}'`, 'pairs = torch.frombuffer(bytearray(base64.urlsafe_b64decode(drawing)), dtype=torch.uint8)',
      `x_0 = (torch.stack([pairs >> 4, pairs & 15], 1).reshape(1, ${facts.shape.join(', ')})/7.5 - 1).expand${shape}`] : []),
    ...(both ? used.map(name => `by_${name} = ${line(name)}`) : [`x_0 = ${line(used[0])}`]),
    ...(mistake === 'none' ? [] : [`# That is the right one. The wrong one: ${mistakes[mistake].what}`]),
  ].join('\n');
}
