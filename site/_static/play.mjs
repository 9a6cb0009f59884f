// The playground: one form, two pictures. All state is in the form and in `points`; the address holds it too.
import {remember as keep} from './address.mjs';
import {exactErrors, mistakes, short, spoiled} from './mistakes.mjs';
import {oracle, schedules} from './oracle.mjs';
import {quiz} from './quiz.mjs';
import {ddimCoefs, ddpmCoefs, torchNoise, trailing, walk} from './sampler.mjs';
import {draw, REACH, toUnits} from './scene.mjs';
import {parsed, room, worlds, written} from './worlds.mjs';

const T = 1000, APART = 0.14;
const SETTINGS = ['data', 'eta', 'steps', 'particles', 'schedule', 'spread', 'seed', 'mistake'];
const tables = Object.fromEntries(Object.entries(schedules).map(([name, make]) => [name, make(T)]));

// Noise of a seed for n points: the same stream for both walks.
function noise(seed, n) {
  const source = torchNoise(seed), whole = 16*Math.ceil(2*n/16);
  return () => source(whole).subarray(0, 2*n);
}

// The two programs to compare: DDPM beside DDIM, or a right one beside a spoiled one.
function programs({steps, eta, mistake}, alphaBar, model) {
  const ts = trailing(T, steps), ddim = {alphaBar, ts, eta, model, coefs: ddimCoefs(alphaBar, ts, eta)};
  if (mistake === 'none') return [{name: 'DDPM', parts: {...ddim, coefs: ddpmCoefs(alphaBar, ts)}}, {name: `DDIM, η = ${eta}`, parts: ddim}];
  return [{name: `Right, η = ${eta}`, parts: ddim}, {name: `Wrong: ${mistakes[mistake].name}`, parts: spoiled(ddim, mistake)}];
}

export async function walked({alphaBar, ts, model, coefs, after}, seed, n) {
  const next = noise(seed, n), frames = [];
  for await (const frame of walk(model, alphaBar, Float64Array.from(next()), ts, coefs, next, null, after)) frames.push(frame);
  return frames;
}

// How far apart two walks end, on average over the dots.
function apart(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k += 2) sum += Math.hypot(a[k] - b[k], a[k + 1] - b[k + 1]);
  return sum/(a.length/2);
}

function start(form) {
  const find = name => form.querySelector(name), say = words => { find('.status').textContent = words; };
  const canvases = [find('canvas.left'), find('canvas.right')], still = matchMedia('(prefers-reduced-motion: reduce)');
  let points = worlds.ring, walks = [], at = 0, chosen = -1, playing = false, run = 0, error = '';

  for (const [value, {name}] of Object.entries(mistakes)) form.mistake.add(new Option(name, value));

  const read = () => ({...Object.fromEntries(SETTINGS.map(name => [name, ['data', 'schedule', 'mistake'].includes(name) ? form[name].value : +form[name].value])), show: [...form.show].filter(box => box.checked).map(box => box.value)});
  const steps = () => walks[0].length - 1;

  // The address

  function query() {
    const {show, ...settings} = read();
    if (settings.data === 'own') settings.data = written(points);
    return new URLSearchParams({...settings, show: show.join(','), at: (at/steps()).toFixed(2)});
  }
  const remember = () => keep(query());

  function recall() {
    const query = new URLSearchParams(location.search), own = parsed(query.get('data') ?? '');
    for (const name of SETTINGS.filter(name => query.has(name))) {
      const before = form[name].value;
      form[name].value = query.get(name);
      if (!form[name].value || !form[name].checkValidity()) form[name].value = before;
    }
    if (own.length) { form.data.value = 'own'; points = own; }
    else if (Object.hasOwn(worlds, form.data.value)) points = worlds[form.data.value];
    if (query.has('show')) for (const box of form.show) box.checked = query.get('show').split(',').includes(box.value);
    return Math.min(Math.max(+query.get('at') || 0, 0), 1);
  }

  // Walks and pictures

  async function compute() {
    const mine = ++run, settings = read(), alphaBar = tables[settings.schedule], means = Float64Array.from(points.flat());
    const model = oracle(means, settings.spread, alphaBar), pair = programs(settings, alphaBar, model);
    const frames = await Promise.all(pair.map(({parts}) => walked(parts, settings.seed, settings.particles)));
    error = settings.mistake === 'none' ? '' : short(Math.max(...await exactErrors(pair[0].parts, settings.mistake)));
    if (mine !== run) return;
    const share = walks.length ? at/steps() : 0;
    walks = frames;
    walks.world = {means, spread: settings.spread, alphaBar, key: `${settings.schedule} ${settings.spread} ${written(points)}`};
    ['left', 'right'].forEach((side, i) => { find(`figcaption.${side}`).textContent = pair[i].name; });
    form.walk.max = steps();
    go(share*steps());
    remember();
  }

  let asked = false;
  const paint = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; render(); }); } };

  function render() {
    if (!walks.length) return;
    const show = new Set(read().show);
    canvases.forEach((canvas, i) => {
      const size = Math.round(canvas.clientWidth*Math.min(devicePixelRatio, 2));
      if (canvas.width !== size) canvas.width = canvas.height = size;
      draw(canvas, walks.world, walks[i], at, show, document.activeElement === canvas ? chosen : -1);
    });
  }

  function go(to) {
    at = Math.min(Math.max(to, 0), steps());
    form.walk.value = Math.round(at);
    const {t} = walks[0][Math.min(Math.floor(at), steps())];
    find('output.t').value = `t = ${t}`;
    form.walk.setAttribute('aria-valuetext', `t = ${t}`);
    tell(t);
    paint();
  }

  function tell(t) {
    const far = apart(walks[0].at(-1).x_t, walks[1].at(-1).x_t).toFixed(2), {mistake} = read();
    canvases.forEach((canvas, i) => canvas.setAttribute('aria-label', `${find(`figcaption.${i ? 'right' : 'left'}`).textContent}: ${walks[0][0].x_t.length/2} dots at t = ${t}, ${points.length} data points`));
    if (playing) return;
    if (guess.covers()) say('A mistake is on. Guess first, then look.');
    else if (mistake !== 'none') say(`Exact error of the worst step: ${error}. The same dots end ${far} apart, on average.`);
    else say(at === steps() ? `Arrived. From the same noise, the two walks end ${far} apart, on average.` : 'Drag a black dot, draw new ones, or press play.');
  }

  // Play

  function stop() { playing = false; mark(); remember(); }
  function mark() { find('button.play').textContent = playing ? '❚❚' : '▶'; find('button.play').setAttribute('aria-label', playing ? 'Pause' : 'Play'); }

  function play() {
    if (playing) { stop(); return go(at); }
    if (at >= steps()) go(0);
    playing = true;
    mark();
    say('Walking...');
    if (still.matches) return hop();
    let before = performance.now();
    requestAnimationFrame(function tick(now) {
      if (!playing) return;
      const next = at + Math.max(now - before, 0)/1000*steps()/4;  // a walk takes four seconds
      before = now;
      if (next >= steps()) { stop(); return go(steps()); }
      go(next);
      requestAnimationFrame(tick);
    });
  }

  // Where motion is unwelcome, five pictures stand in for the film.
  function hop() {
    if (!playing) return;
    const next = Math.min(Math.floor(at) + Math.ceil(steps()/5), steps());
    if (next === steps()) stop();
    go(next);
    if (playing) setTimeout(hop, 900);
  }

  // Data

  function changed(now) {
    points = now;
    form.data.value = 'own';
    return compute();
  }
  const add = p => { if (room(points)) { chosen = points.length; return changed([...points, p]); } };
  const move = (i, p) => changed(points.map((old, k) => k === i ? p : old));
  function remove(i) {
    if (points.length < 2) return say('One data point has to stay.');
    chosen = Math.min(chosen, points.length - 2);
    return changed(points.filter((_, k) => k !== i));
  }
  const inside = p => p.every(v => Math.abs(v) < REACH);
  const nearest = p => points.map((q, i) => [Math.hypot(q[0] - p[0], q[1] - p[1]), i]).sort((a, b) => a[0] - b[0])[0];

  for (const canvas of canvases) {
    let holds = -1, drawing = null;
    const place = event => { const box = canvas.getBoundingClientRect(); return [toUnits(box.width, event.clientX - box.left, 0), toUnits(box.height, event.clientY - box.top, 1)]; };
    const near = event => (event.pointerType === 'mouse' ? 12 : 24)/canvas.clientWidth*2*REACH;

    canvas.addEventListener('pointerdown', event => {
      const p = place(event), [far, i] = nearest(p);
      canvas.setPointerCapture(event.pointerId);
      if (far < near(event)) { holds = chosen = i; paint(); }
      else { drawing = p; add(p); }
    });
    canvas.addEventListener('pointermove', event => {
      const p = place(event);
      canvas.style.cursor = nearest(p)[0] < near(event) ? 'grab' : 'crosshair';
      if (holds >= 0) move(holds, p.map(v => Math.min(Math.max(v, -REACH), REACH)));
      else if (drawing && Math.hypot(p[0] - drawing[0], p[1] - drawing[1]) > APART && inside(p)) { drawing = p; add(p); }
    });
    const leave = event => { if (holds >= 0 && !inside(place(event))) remove(holds); holds = -1; drawing = null; };
    canvas.addEventListener('pointerup', leave);
    canvas.addEventListener('pointercancel', () => { holds = -1; drawing = null; });
    canvas.addEventListener('focus', () => { chosen = Math.min(Math.max(chosen, 0), points.length - 1); paint(); });
    canvas.addEventListener('blur', paint);
    canvas.addEventListener('keydown', async event => {
      const [x, y] = points[chosen], step = event.shiftKey ? 0.2 : 0.05, limit = v => Math.min(Math.max(v, -2), 2);
      const keys = {
        ArrowLeft: () => move(chosen, [limit(x - step), y]), ArrowRight: () => move(chosen, [limit(x + step), y]),
        ArrowUp: () => move(chosen, [x, limit(y + step)]), ArrowDown: () => move(chosen, [x, limit(y - step)]),
        ' ': () => { chosen = (chosen + 1) % points.length; paint(); }, Enter: () => add([0, 0]), Delete: () => remove(chosen), Backspace: () => remove(chosen),
      };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      await keys[event.key]();
      if (points[chosen]) say(`Data point ${chosen + 1} of ${points.length}, at ${points[chosen].map(v => v.toFixed(2)).join(', ')}.`);
    });
  }

  // Mistakes

  const guess = quiz(form, () => { go(0); play(); });
  const ask = name => guess.ask(name === 'none' ? null : {...mistakes[name], of: 'the dots'});

  function sceneOf(name) {
    if (name === 'none') return;
    const {data, ...rest} = mistakes[name].scene;
    form.data.value = data;
    points = worlds[data];
    for (const [field, value] of Object.entries(rest)) form[field].value = value;
  }

  // The form

  function refresh() { for (const name of ['eta', 'steps', 'spread']) form[name].nextElementSibling.value = form[name].value; }

  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('input', event => {
    const {name, value} = event.target;
    if (name === 'answer') return;
    if (name === 'walk') { if (playing) stop(); go(+value); return remember(); }
    if (name === 'show') { paint(); return remember(); }
    if (name === 'seed' && !form.reportValidity()) return;
    if (name === 'data') { points = worlds[value] ?? points; chosen = Math.min(chosen, points.length - 1); }
    if (name === 'mistake') { playing && stop(); sceneOf(value); ask(value); at = value === 'none' ? at : steps(); }
    refresh();
    compute();
  });
  const click = (name, act) => find(name).addEventListener('click', act);
  click('button.play', play);
  click('button.step', () => { if (playing) stop(); go(Math.floor(at) + 1); remember(); });
  click('button.back', () => { if (playing) stop(); go(Math.ceil(at) - 1); remember(); });
  click('.clear', () => { chosen = 0; changed([[0, 0]]); });
  click('.again', () => { if (!form.reportValidity()) return; form.seed.value = (+form.seed.value + 1) % 2**32; compute(); });
  click('.copy', async () => {
    remember();
    try { await navigator.clipboard.writeText(new URL(`?${query()}`, location).href); say('The link is copied.'); }
    catch { say('The link is in the address line above.'); }
  });
  new ResizeObserver(paint).observe(canvases[0]);
  new MutationObserver(paint).observe(document.documentElement, {attributes: true, attributeFilter: ['data-theme']});

  const share = recall();
  refresh();
  ask(form.mistake.value);
  compute().then(() => { go(share*steps()); form.dataset.ready = 'yes'; });
}

if (typeof document !== 'undefined') for (const form of document.querySelectorAll('form.play')) start(form);
