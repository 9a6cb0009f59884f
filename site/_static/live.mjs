// The live page: reads the form, lets garments.mjs walk, draws each step. The network runs in onnxruntime-web, on one thread.
import {remember} from './address.mjs';
import {drowned, garments, noises, programs, python, visited} from './garments.mjs';
import {exactErrors, mistakes, short} from './mistakes.mjs';
import {unpacked, woven} from './packed.mjs';
import {pad, parsed, toData, toLevels, written} from './pad.mjs';
import {quiz} from './quiz.mjs';
import {toPixels} from './sampler.mjs';

const here = new URL('./live/', import.meta.url), SIDE = 28, COLUMNS = 4;
const WORDS = ['sampler', 'mistake', 'start', 'net'], SETTINGS = ['y', 'seed', 'sampler', 'steps', 'eta', 'scale', 'count', 'mistake', 'start', 't', 'net'];
const many = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;

// A module that did not come is remembered as missing, so each new try asks under a new name. ?v= names the bytes: see sw.js.
const modules = {};
let tries = 0;
const program = (name, versions) => modules[name] ??= import(`./live/${name}.mjs?v=${versions[name]}${tries ? `&${tries}` : ''}`).catch(error => { again(name); throw error; });
const again = name => { delete modules[name]; tries++; };

// The runtime, started once, with a network that does nothing. Its `part` leaves out what our networks never use; should one ask for
// that all the same, the whole program is fetched.
const CPU = {executionProviders: ['wasm'], graphOptimizationLevel: 'disabled'};
let engine, part = 'runtime';
const started = (facts, fetched, left) => engine ??= (async () => {
  const [ort, wasm, zeros] = await Promise.all([program('ort', facts.versions), fetched(part), fetched('zeros')]);
  Object.assign(ort.env.wasm, {numThreads: 1, wasmBinary: wasm.buffer});
  const began = performance.now();
  await ort.InferenceSession.create(Uint8Array.from(atob(facts.start), c => c.charCodeAt(0)), CPU);
  await rehearsed(ort, facts, zeros, performance.now() - began, left);
  return ort;
})().catch(error => { engine = undefined; throw error; });

// A browser compiles what runs, and again what runs often. So while weights are still coming, the network runs three steps on zeros,
// as far as there is time: to load it takes twice as long as the start `took`, to run it about as long. `left` tells the time there is.
async function rehearsed(ort, facts, zeros, took, left) {
  if (left() < 2*took) return;
  const net = asNetwork(ort, facts, await ort.InferenceSession.create(zeros, CPU));
  for (let k = 0; k < 3 && left() > took; k++) {
    await net(new Float32Array(SIDE**2), facts.T, [0]);
    await nextFrame();
  }
}

// What a session computes, as a function (x, t, labels) -> eps_hat of as many images as labels.
const asNetwork = (ort, facts, session) => async (x, t, labels) => {
  const B = labels.length, tensor = (type, data, dims) => new ort.Tensor(type, data, dims);
  const feeds = {x_t: tensor('float32', x, [B, ...facts.shape]), t: tensor('int64', BigInt64Array.from(labels, () => BigInt(t)), [B]), y: tensor('int64', BigInt64Array.from(labels, BigInt), [B])};
  return (await session.run(feeds)).eps_hat.data;
};

// A network, fetched once, when first asked for.
let networks = {};
const there = new Set();
const load = (facts, net, progress) => networks[net] ??= (async () => {
  const wanted = engine ? [net] : [net, 'zeros', part], all = wanted.reduce((sum, name) => sum + facts.bytes[name], 0);
  const began = performance.now();
  let have = 0;
  const ended = new AbortController();  // one part that fails ends the others, and what they would say
  const count = n => ended.signal.aborted || progress(have += n, all);
  const xz = program('xz', facts.versions).then(({XzReadableStream}) => XzReadableStream);
  const fetched = name => unpacked(new URL(`${name}.bin?v=${facts.versions[name]}`, here), xz, count, ended.signal);
  count(0);
  const left = () => (performance.now() - began)*(all - have)/have;
  const parts = Promise.all([started(facts, fetched, left), fetched(net), xz]).catch(error => { ended.abort(); throw error; });
  const [ort, weights] = await parts, session = await ort.InferenceSession.create(woven(weights), CPU);
  there.add(net);
  return asNetwork(ort, facts, session);
})().catch(error => { delete networks[net]; throw error; });

// Did the runtime come to something that its part leaves out? Then from now on the whole of it is wanted.
function stopped(error) {
  if (part === 'whole' || !(error instanceof WebAssembly.RuntimeError)) return false;
  [part, engine, networks] = ['whole', undefined, {}];
  there.clear();
  again('ort');  // its module belongs to the program that stopped
  return true;
}

// The settings in the form, as numbers where they are numbers.
const read = form => Object.fromEntries(SETTINGS.map(name => [name, WORDS.includes(name) ? form[name].value : +form[name].value]));

// The settings of an address: what is no setting, or not allowed, is passed over.
function asked(form) {
  const query = new URLSearchParams(location.search);
  for (const name of SETTINGS.filter(name => query.has(name))) {
    const before = form[name].value;
    form[name].value = query.get(name);
    if (!form[name].value || !form[name].checkValidity()) form[name].value = before;
  }
  return parsed(query.get('drawing') ?? '');
}

// Pictures of one size, one after another, as grey bytes onto a canvas, a pixel each; one picture, or rows of four.
function paint(canvas, x, words) {
  const count = x.length/SIDE**2, columns = Math.min(count, COLUMNS), [width, height] = [columns*SIDE, count/columns*SIDE];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const image = new ImageData(width, height);
  toPixels(x).forEach((v, k) => {
    const picture = Math.floor(k/SIDE**2), y = Math.floor(picture/columns)*SIDE + Math.floor(k % SIDE**2/SIDE);
    image.data.set([v, v, v, 255], 4*(y*width + picture % columns*SIDE + k % SIDE));
  });
  canvas.getContext('2d').putImageData(image, 0, 0);
  canvas.setAttribute('aria-label', words);
}

const nextFrame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));

// Two pictures' mean distance in grey levels.
function apart(a, b) {
  const other = toPixels(b);
  return (toPixels(a).reduce((sum, v, k) => sum + Math.abs(v - other[k]), 0)/other.length).toFixed(1);
}

async function facts() {
  const response = await fetch(new URL('facts.json', here)).catch(error => { throw new Error(`facts.json could not be fetched (${error.message})`); });
  if (!response.ok) throw new Error(`facts.json could not be fetched (the server says ${response.status})`);
  return response.json();
}

function begin(form, facts) {
  const find = name => form.querySelector(name), say = words => { find('.status').textContent = words; }, bar = find('progress');
  const left = find('canvas.x_t'), right = find('canvas.x_0_hat');
  let frames = [], run = 0;

  facts.classes.concat('any (no label)').forEach((name, k) => form.y.add(new Option(name, k, k === facts.first.y, k === facts.first.y)));
  for (const [value, {name}] of Object.entries(mistakes)) form.mistake.add(new Option(name, value));

  const valid = () => form.checkValidity();
  const sketch = pad(find('canvas.pad'), () => +form.pen.value, () => { refresh(); seen(); });
  const guess = quiz(form, () => drawAsked());

  const query = () => new URLSearchParams({...read(form), ...(form.start.value === 'drawing' ? {drawing: written(sketch.levels)} : {})});

  const refresh = () => {
    const settings = read(form), drawn = settings.start === 'drawing', pair = programs(facts, settings);
    for (const name of ['steps', 'eta', 'scale', 't']) form[name].closest('label').querySelector('output').value = form[name].value;
    form.eta.disabled = settings.sampler === 'ddpm';
    form.scale.disabled = settings.y === facts.classes.length;
    find('.sketch').hidden = !drawn;
    form.steps.setCustomValidity(visited(facts, settings).length ? '' : `Take more steps, or noise the drawing further: none of these steps is at or below t = ${settings.t}.`);
    find('figcaption.left').innerHTML = pair.length > 1 ? '' : 'x<sub>t</sub>, where the walk stands';
    find('figcaption.right').innerHTML = pair.length > 1 ? '' : 'x̂<sub>0</sub>, where it guesses to end';
    if (pair.length > 1) ['left', 'right'].forEach((side, i) => { find(`figcaption.${side}`).textContent = pair[i].name; });
    form.dataset.count = settings.count;
    find('.python').textContent = valid() ? python(facts, settings, written(sketch.levels)) : form.seed.checkValidity() ? `# ${form.steps.validationMessage}` : `# the seed wants a whole number from 0 to ${form.seed.max}`;
    if (form.hasAttribute('data-address') && valid()) remember(query());
  };

  // Where a walk begins is seen before any network is there: noise, unless a garment stands there already; or a drawing in its noise.
  const preview = () => {
    const settings = read(form), drawn = settings.start === 'drawing';
    if (!valid() || !drawn && frames.length) return;
    const noise = noises(settings.seed, settings.count, SIDE**2)(), t = visited(facts, settings)[0];
    const x_t = drawn ? drowned(facts, settings, toData(sketch.levels), noise) : noise;
    paint(left, x_t, drawn ? `Your drawing with noise up to t = ${t}` : `The noise of seed ${settings.seed}, from which the walk begins`);
    paint(right, programs(facts, settings).length > 1 ? x_t : new Float32Array(x_t.length).fill(-1), 'Empty until you press Draw');
    if (!drawn) return;
    run++;
    frames = [];
    form.back.disabled = true;
    say(`Your drawing, with noise up to t = ${t}. Press Draw to let the network walk back.`);
  };

  const show = k => {
    const {t, x_t, x_0_hat} = frames[k], names = ['left', 'right'].map(side => find(`figcaption.${side}`).textContent);
    form.back.closest('label').querySelector('output').value = `t = ${t}`;
    form.back.setAttribute('aria-valuetext', `t = ${t}`);
    paint(left, x_t[0], `${x_t.length > 1 ? names[0] : 'x_t'} at t = ${t}${t ? '' : `: the finished garment${x_t[0].length > SIDE**2 ? 's' : ''}`}`);
    paint(right, x_t[1] ?? x_0_hat, `${x_t.length > 1 ? names[1] : 'The guess of x_0'} at t = ${t}`);
  };

  const loading = (have, all) => {
    [bar.value, bar.max] = [have, all];
    say(have < all ? `Loading the network: ${(have/1e6).toFixed(1)} of ${(all/1e6).toFixed(1)} MB` : 'Starting the network...');
  };

  // What there is to say of two programs, once they have arrived.
  const compared = async settings => {
    const {x_t: [a, b]} = frames.at(-1), [{parts}] = programs(facts, settings);
    if (!b) return '';
    const error = settings.mistake === 'none' ? '' : ` Exact error of the worst step: ${short(Math.max(...await exactErrors(parts, settings.mistake)))}; of the right program 0.`;
    return `${error} The two differ by ${apart(a, b)} of 255 grey levels, on average.`;
  };

  // Draw what the form asks for; a newer call ends an older one. Returns the finished picture, or null if it was overtaken.
  const draw = async settings => {
    const mine = ++run, steps = visited(facts, settings).length, {seed, count} = settings;
    const net = await load(facts, settings.net, loading);
    if (mine !== run) return null;
    say(`Drawing: seed${count > 1 ? 's' : ''} ${seed}${count > 1 ? ` to ${seed + count - 1}` : ''}, ${many(steps, 'step')}...`);
    frames = [];
    form.back.disabled = true;
    bar.max = form.back.max = steps;  // before the values, which they would cut
    const began = performance.now();
    for await (const frame of garments(net, facts, settings, toData(sketch.levels))) {
      if (mine !== run) return null;
      frames.push(frame);
      form.back.value = bar.value = frames.length - 1;
      show(frames.length - 1);
      await nextFrame();
    }
    form.back.disabled = false;
    const seconds = (performance.now() - began)/1000;
    say(`Done: ${many(steps, 'step')} in ${seconds.toFixed(1)} s.${guess.covers() ? ' A mistake is on: guess first, then look.' : await compared(settings)}`);
    return frames.at(-1).x_t[0];
  };

  const guarded = async work => {
    try { await work(); }
    catch (error) { stopped(error) ? await guarded(work) : say(`It did not work: ${error.message}. Press Draw to try again.`); }
  };
  const drawAsked = () => form.reportValidity() && guarded(() => draw(read(form)));

  // The student draws while a hand still moves; the other network waits for the button, and shows a drawing in its noise.
  let soon;
  const seen = () => {
    preview();
    clearTimeout(soon);
    if (form.net.value === 'fast' && there.has('fast') && valid()) soon = setTimeout(drawAsked, 80);
  };

  // A mistake comes with the setting in which it shows.
  const question = name => name === 'none' ? null : {...mistakes[name], ...mistakes[name].garments, of: 'the garments'};
  const spoil = name => {
    run++;
    guess.ask(question(name));
    if (name === 'none') return;
    for (const [field, value] of Object.entries(mistakes[name].garments.scene)) form[field].value = value;
    say('A mistake is on. Guess first, then press Show me.');
  };

  form.addEventListener('input', event => {
    const {name} = event.target;
    if (name === 'back') return show(+form.back.value);
    if (name === 'answer' || name === 'pen') return;
    if (name === 'mistake') spoil(form.mistake.value);
    if (name === 'net') form.steps.value = form.net.value === 'fast' ? 4 : 20;
    refresh();
    if (name !== 'mistake') seen();
  });
  form.addEventListener('submit', event => { event.preventDefault(); drawAsked(); });
  const click = (name, act) => find(name).addEventListener('click', act);
  click('.again', () => {
    if (!form.reportValidity()) return;
    form.seed.value = (+form.seed.value + +form.count.value) % 2**32;
    refresh();
    drawAsked();
  });
  click('.compare', () => guarded(async () => {
    for (const [name, value] of Object.entries({...facts.first, count: 1, mistake: 'none', start: 'noise', net: 'network'})) form[name].value = value;
    guess.ask(null);
    refresh();
    const x_0 = await draw(read(form));
    if (!x_0) return;
    const off = toPixels(x_0).map((v, i) => Math.abs(v - facts.pixels[i]));
    say(`Drawn here and by PyTorch: ${off.filter(d => d).length} of ${off.length} pixels differ, at most by ${Math.max(...off)} of 255.`);
  }));
  click('.copy', async () => {
    const link = new URL(`../../live.html?${query()}`, here).href;
    try { await navigator.clipboard.writeText(link); say('The link is copied: whoever opens it finds these settings.'); }
    catch { say(`Copy this: ${link}`); }
  });
  click('.clear', () => { sketch.levels = new Uint8Array(SIDE**2); });
  click('.take', () => frames.length ? (sketch.levels = toLevels(frames.at(-1).x_t[0].subarray(0, SIDE**2))) : say('Draw a garment first.'));

  const drawing = asked(form);
  if (drawing) sketch.levels = drawing;
  guess.ask(question(form.mistake.value));
  refresh();
  find('.status').textContent = 'Nothing loaded yet.';
  preview();
  form.dataset.ready = 'yes';
}

// Nothing can be drawn before the facts are here; without them the form says so, and offers to ask again.
async function start(form) {
  const retry = form.querySelector('.retry'), others = form.querySelectorAll('button:not(.retry)');
  const able = yes => { for (const button of others) button.disabled = !yes; retry.hidden = yes; };
  able(false);
  retry.hidden = true;
  try {
    const known = await facts();
    able(true);
    begin(form, known);
  } catch (error) {
    able(false);
    form.querySelector('.status').textContent = `It did not work: ${error.message}.`;
    retry.onclick = () => start(form);
  }
}

// On its own page at once; on the first page, where it stands far below, when the reader comes near.
const near = new IntersectionObserver(seen => {
  for (const {target} of seen.filter(one => one.isIntersecting)) {
    near.unobserve(target);
    start(target);
  }
}, {rootMargin: '400px'});
for (const form of document.querySelectorAll('form.live')) form.hasAttribute('data-address') ? start(form) : near.observe(form);
