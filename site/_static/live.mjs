// The live page: reads the form, walks with sampler.mjs, draws each step. The network runs in onnxruntime-web, on one thread.
import {unpacked, woven} from './packed.mjs';
import {ddimCoefs, ddpmCoefs, guided, toPixels, torchNoise, trailing, walk} from './sampler.mjs';

const CLIP = [-1, 1], here = new URL('./live/', import.meta.url);
const SETTINGS = ['y', 'seed', 'sampler', 'steps', 'eta', 'scale'];
const many = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;

// A module that did not come is remembered as missing, so each new try asks under a new name.
let tries = 0;
const runtime = () => import(`./live/ort.mjs${tries++ ? `?${tries}` : ''}`);

// The network as a function (x, t, labels) -> eps_hat of as many images as labels; fetched once, when first asked for.
let network;
const load = (facts, progress) => network ??= (async () => {
  let have = 0;
  const ended = new AbortController();  // one part that fails ends the others, and what they would say
  const count = n => ended.signal.aborted || progress(have += n, facts.bytes.network + facts.bytes.runtime);
  const fetched = name => unpacked(new URL(`${name}.bin`, here), count, ended.signal);
  const parts = Promise.all([runtime(), fetched('runtime'), fetched('network')]).catch(error => { ended.abort(); throw error; });
  const [ort, wasm, weights] = await parts;
  Object.assign(ort.env.wasm, {numThreads: 1, wasmBinary: wasm.buffer});
  const session = await ort.InferenceSession.create(woven(weights), {executionProviders: ['wasm']});
  return async (x, t, labels) => {
    const B = labels.length, tensor = (type, data, dims) => new ort.Tensor(type, data, dims);
    const feeds = {x_t: tensor('float32', x, [B, ...facts.shape]), t: tensor('int64', BigInt64Array.from(labels, () => BigInt(t)), [B]), y: tensor('int64', BigInt64Array.from(labels, BigInt), [B])};
    return (await session.run(feeds)).eps_hat.data;
  };
})().catch(error => { network = undefined; throw error; });

// The settings in the form, as numbers.
const read = form => Object.fromEntries(SETTINGS.map(name => [name, name === 'sampler' ? form.sampler.value : +form[name].value]));

// The settings of an address: what is no setting, or not allowed, is passed over.
function asked(form) {
  const query = new URLSearchParams(location.search);
  for (const name of SETTINGS.filter(name => query.has(name))) {
    const before = form[name].value;
    form[name].value = query.get(name);
    if (!form[name].value || !form[name].checkValidity()) form[name].value = before;
  }
}

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

async function facts() {
  const response = await fetch(new URL('facts.json', here)).catch(error => { throw new Error(`facts.json could not be fetched (${error.message})`); });
  if (!response.ok) throw new Error(`facts.json could not be fetched (the server says ${response.status})`);
  return response.json();
}

function begin(form, facts) {
  const find = name => form.querySelector(name), say = words => { find('.status').textContent = words; }, bar = find('progress');
  let frames = [], run = 0;

  facts.classes.concat('any (no label)').forEach((name, k) => form.y.add(new Option(name, k, k === facts.first.y, k === facts.first.y)));

  const refresh = () => {
    for (const name of ['steps', 'eta', 'scale']) form[name].closest('label').querySelector('output').value = form[name].value;
    form.eta.disabled = form.sampler.value === 'ddpm';
    form.scale.disabled = +form.y.value === facts.classes.length;
    find('.python').textContent = form.checkValidity() ? python(facts, read(form)) : `# the seed wants a whole number from 0 to ${form.seed.max}`;
    if (form.hasAttribute('data-address') && form.checkValidity()) history.replaceState(null, '', `?${new URLSearchParams(read(form))}${location.hash}`);
  };

  const show = k => {
    const {t, x_t, x_0_hat} = frames[k];
    form.back.closest('label').querySelector('output').value = `t = ${t}`;
    form.back.setAttribute('aria-valuetext', `t = ${t}`);
    paint(find('.x_t'), toPixels(x_t), `x_t at t = ${t}${t ? '' : ': the finished garment'}`);
    paint(find('.x_0_hat'), toPixels(x_0_hat), `The guess of x_0 at t = ${t}`);
  };

  const loading = (have, all) => {
    [bar.value, bar.max] = [have, all];
    say(have < all ? `Loading the network: ${(have/1e6).toFixed(1)} of ${(all/1e6).toFixed(1)} MB` : 'Starting the network...');
  };

  // Draw what the form asks for; a newer call ends an older one. Returns the finished picture, or null if it was overtaken.
  const draw = async settings => {
    const mine = ++run;
    if (!network) loading(0, facts.bytes.network + facts.bytes.runtime);
    const net = await load(facts, loading);
    if (mine !== run) return null;
    say(`Drawing: seed ${settings.seed}, ${many(settings.steps, 'step')}...`);
    frames = [];
    form.back.disabled = true;
    bar.max = form.back.max = settings.steps;  // before the values, which they would cut
    const began = performance.now();
    for await (const frame of sample(net, facts, settings)) {
      if (mine !== run) return null;
      frames.push(frame);
      form.back.value = bar.value = frames.length - 1;
      show(frames.length - 1);
      await nextFrame();
    }
    form.back.disabled = false;
    say(`Done: ${many(settings.steps, 'step')} in ${((performance.now() - began)/1000).toFixed(1)} s.`);
    return frames.at(-1).x_t;
  };

  const guarded = async work => { try { await work(); } catch (error) { say(`It did not work: ${error.message}. Press Draw to try again.`); } };
  const drawAsked = () => form.reportValidity() && guarded(() => draw(read(form)));

  form.addEventListener('input', event => event.target === form.back ? show(+form.back.value) : refresh());
  form.addEventListener('submit', event => { event.preventDefault(); drawAsked(); });
  find('.again').addEventListener('click', () => {
    if (!form.reportValidity()) return;
    form.seed.value = (+form.seed.value + 1) % 2**32;
    refresh();
    drawAsked();
  });
  find('.compare').addEventListener('click', () => guarded(async () => {
    for (const [name, value] of Object.entries(facts.first)) form[name].value = value;
    refresh();
    const x_0 = await draw(read(form));
    if (!x_0) return;
    const off = toPixels(x_0).map((v, i) => Math.abs(v - facts.pixels[i]));
    say(`Drawn here and by PyTorch: ${off.filter(d => d).length} of ${off.length} pixels differ, at most by ${Math.max(...off)} of 255.`);
  }));
  asked(form);
  refresh();
  form.dataset.ready = 'yes';
}

// Nothing can be drawn before the facts are here; without them the form says so, and offers to ask again.
async function start(form) {
  const retry = form.querySelector('.retry'), others = form.querySelectorAll('button:not(.retry)');
  const able = yes => { for (const button of others) button.disabled = !yes; retry.hidden = yes; };
  able(false);
  retry.hidden = true;
  try {
    begin(form, await facts());
    able(true);
    form.querySelector('.status').textContent = 'Nothing loaded yet.';
  } catch (error) {
    able(false);
    form.querySelector('.status').textContent = `It did not work: ${error.message}.`;
    retry.onclick = () => start(form);
  }
}

for (const form of document.querySelectorAll('form.live')) start(form);
