// The live page: reads the form, walks with sampler.mjs, draws each step. The network runs in onnxruntime-web, on one thread.
import {ddimCoefs, ddpmCoefs, guided, toPixels, torchNoise, trailing, walk} from './sampler.mjs';

const CLIP = [-1, 1], here = new URL('./live/', import.meta.url);

// The network as a function (x, t, labels) -> eps_hat of as many images as labels; fetched once, when first asked for.
let network;
const load = facts => network ??= (async () => {
  const ort = await import('./live/ort.mjs');
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {wasm: new URL('ort-wasm-simd-threaded.wasm', here).href};
  const session = await ort.InferenceSession.create(new URL('fashion.onnx', here).href, {executionProviders: ['wasm']});
  return async (x, t, labels) => {
    const B = labels.length, tensor = (type, data, dims) => new ort.Tensor(type, data, dims);
    const feeds = {x_t: tensor('float32', x, [B, ...facts.shape]), t: tensor('int64', BigInt64Array.from(labels, () => BigInt(t)), [B]), y: tensor('int64', BigInt64Array.from(labels, BigInt), [B])};
    return (await session.run(feeds)).eps_hat.data;
  };
})().catch(error => { network = undefined; throw error; });

// The settings in the form, as numbers.
const read = form => ({
  y: +form.y.value, seed: +form.seed.value, sampler: form.sampler.value, steps: +form.steps.value, eta: +form.eta.value, scale: +form.scale.value,
});

// The walk that the settings ask for.
export function sample(net, facts, {y, seed, sampler, steps, eta, scale}) {
  const none = facts.classes.length, size = facts.shape.reduce((a, b) => a*b), draw = torchNoise(seed), noise = () => draw(size);
  const ts = trailing(facts.T, steps), coefs = sampler === 'ddim' ? ddimCoefs(facts.alpha_bar, ts, eta) : ddpmCoefs(facts.alpha_bar, ts);
  return walk(guided(net, scale === 0 ? none : y, none, scale), facts.alpha_bar, noise(), ts, coefs, noise, CLIP);
}

// The settings as the Python that draws the same garment.
function python(facts, {y, seed, sampler, steps, eta, scale}) {
  const wrapper = y === facts.classes.length || scale === 0 ? '' : scale === 1 ? 'Labelled' : 'Guided', label = `torch.tensor([${y}])`;
  const model = {'': 'model', Labelled: `Labelled(model, ${label})`, Guided: `Guided(model, ${label}, scale=${scale})`}[wrapper];
  return [
    ...(wrapper ? ['import torch', `from ddpm_lesson.guidance import ${wrapper}`] : []),
    'from ddpm_lesson.pretrained import load_pretrained', `from ddpm_lesson.sampler import ${sampler}_sample`, '',
    "model, sched = load_pretrained('fashion')",
    `x_0 = ${sampler}_sample(${model}, sched, (1, ${facts.shape.join(', ')}), steps=${steps}, ${sampler === 'ddim' ? `eta=${eta}, ` : ''}clip=(-1, 1), seeds=[${seed}])`,
  ].join('\n');
}

// Grey bytes onto a canvas, a pixel each.
function paint(canvas, grey, words) {
  const image = new ImageData(canvas.width, canvas.height);
  grey.forEach((v, i) => image.data.set([v, v, v, 255], 4*i));
  canvas.getContext('2d').putImageData(image, 0, 0);
  canvas.setAttribute('aria-label', words);
}

const nextFrame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));

async function start(form) {
  const facts = await (await fetch(new URL('facts.json', here))).json();
  const find = name => form.querySelector(name), say = words => { find('.status').textContent = words; };
  let frames = [], run = 0;

  facts.classes.concat('any (no label)').forEach((name, k) => form.y.add(new Option(name, k, k === facts.first.y, k === facts.first.y)));

  const refresh = () => {
    for (const name of ['steps', 'eta', 'scale']) form[name].closest('label').querySelector('output').value = form[name].value;
    form.eta.disabled = form.sampler.value === 'ddpm';
    form.scale.disabled = +form.y.value === facts.classes.length;
    find('.python').textContent = python(facts, read(form));
  };

  const show = k => {
    const {t, x_t, x_0_hat} = frames[k];
    form.back.closest('label').querySelector('output').value = `t = ${t}`;
    form.back.setAttribute('aria-valuetext', `t = ${t}`);
    paint(find('.x_t'), toPixels(x_t), `x_t at t = ${t}${t ? '' : ': the finished garment'}`);
    paint(find('.x_0_hat'), toPixels(x_0_hat), `The guess of x_0 at t = ${t}`);
  };

  // Draw what the form asks for; a newer call ends an older one. Returns the finished picture, or null if it was overtaken.
  const draw = async settings => {
    const mine = ++run;
    if (!network) say('Loading the network...');
    const net = await load(facts);
    if (mine !== run) return null;
    say(`Drawing: seed ${settings.seed}, ${settings.steps} steps...`);
    frames = [];
    form.back.disabled = true;
    const began = performance.now();
    for await (const frame of sample(net, facts, settings)) {
      if (mine !== run) return null;
      frames.push(frame);
      form.back.max = form.back.value = find('progress').value = frames.length - 1;
      find('progress').max = settings.steps;
      show(frames.length - 1);
      await nextFrame();
    }
    form.back.disabled = false;
    say(`Done: ${settings.steps} steps in ${((performance.now() - began)/1000).toFixed(1)} s.`);
    return frames.at(-1).x_t;
  };

  const guarded = async work => { try { await work(); } catch (error) { say(`It did not work: ${error.message}. Reload the page to try again.`); } };

  form.addEventListener('input', event => event.target === form.back ? show(+form.back.value) : refresh());
  form.addEventListener('submit', event => { event.preventDefault(); guarded(() => draw(read(form))); });
  find('.again').addEventListener('click', () => {
    form.seed.value = (+form.seed.value + 1) % 2**32;
    refresh();
    guarded(() => draw(read(form)));
  });
  find('.compare').addEventListener('click', () => guarded(async () => {
    for (const [name, value] of Object.entries(facts.first)) form[name].value = value;
    refresh();
    const x_0 = await draw(read(form));
    if (!x_0) return;
    const off = toPixels(x_0).map((v, i) => Math.abs(v - facts.pixels[i]));
    say(`Drawn here and by PyTorch: ${off.filter(d => d).length} of ${off.length} pixels differ, at most by ${Math.max(...off)} of 255.`);
  }));
  refresh();
  form.dataset.ready = 'yes';
}

for (const form of document.querySelectorAll('form.live')) start(form);
