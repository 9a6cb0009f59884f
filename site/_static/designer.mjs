// The schedule designer: a few handles on the signal rate, the verdict of the clinic, a garment at nine steps.
import {remember as keep} from './address.mjs';
import {diagnose, fromRates} from './clinic.mjs';
import {schedules} from './oracle.mjs';
import {toPixels, torchNoise} from './sampler.mjs';

const U = [0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1], SIDE = 28, SHOWN = 9, LEAST = 0.001, here = new URL('./', import.meta.url);
const PRESETS = {
  cosine: [() => schedules.cosine(1000), 'cosine_schedule()'], linear: [() => schedules.linear(1000), 'linear_schedule()'],
  s1: [() => schedules.rate(1000), 'rate_schedule()'], s2: [() => schedules.linear(300), 'linear_schedule(T=300)'],
};

// A garment of the first page, in [-1, 1].
async function garment() {
  const image = new Image();
  image.src = new URL('hero.png', here);
  await image.decode();
  const scratch = new OffscreenCanvas(SIDE, SIDE).getContext('2d');
  scratch.drawImage(image, SIDE, SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
  const {data} = scratch.getImageData(0, 0, SIDE, SIDE);
  return Float32Array.from({length: SIDE*SIDE}, (_, k) => data[4*k]/127.5 - 1);
}

// Rates in thousandths that fall from 1 at every handle, as a schedule must: each step adds noise.
function falling(rates) {
  const last = rates.length - 1;
  return rates.reduce((all, r, k) => [...all, k ? +Math.min(Math.max(r, LEAST*(last - k + 1)), all.at(-1) - LEAST).toFixed(3) : 1], []);
}

function start(form) {
  const find = name => form.querySelector(name), canvas = find('.curve canvas'), noise = torchNoise(0)(SIDE*SIDE);
  let alphaBar = schedules.cosine(1000), rates = null, chosen = 1, picture = null;

  const percent = x => `${(100*x).toFixed(0)} %`;
  const handles = () => rates ?? U.map(u => Math.sqrt(alphaBar[Math.round(u*(alphaBar.length - 1))]));

  function python() {
    if (!rates) {
      const call = PRESETS[form.start.value][1];
      return `from ddpm_lesson.schedule import diagnose, ${call.split('(')[0]}\n\nprint(diagnose(${call}, pixels=${form.pixels.value}))`;
    }
    return ['import numpy as np', 'import torch', 'from ddpm_lesson.schedule import diagnose, schedule_from_alpha_bar', '',
      `rates = np.interp(np.arange(${form.T.value} + 1)/${form.T.value}, [${U.join(', ')}], [${rates.join(', ')}])`,
      'sched = schedule_from_alpha_bar(torch.from_numpy(rates**2))', `print(diagnose(sched, pixels=${form.pixels.value}))`].join('\n');
  }

  function verdict() {
    const d = diagnose(alphaBar, +form.pixels.value), bad = {signal: d.start_bias > 0.45, kept: x => x < 0.9, first: d.first_noise > 0.1};
    const rows = [
      ['Signal rate at T', d.signal_T.toFixed(4), bad.signal], ['A bright picture at T stands', `${d.start_bias.toFixed(1)} σ from where samplers start`, bad.signal],
      ['Brightness kept by DDPM', percent(d.kept_ddpm), bad.kept(d.kept_ddpm)], ['Brightness kept by DDIM', percent(d.kept_ddim), bad.kept(d.kept_ddim)],
      ['Noise rate at t = 1', d.first_noise.toFixed(4), bad.first],
    ];
    find('.verdict tbody').replaceChildren(...rows.map(([name, value, wrong]) => {
      const row = document.createElement('tr'), head = document.createElement('th'), cell = document.createElement('td');
      head.scope = 'row';
      [head.textContent, cell.textContent] = [name, `${value}${wrong ? ' ✗' : ' ✓'}`];
      row.append(head, cell);
      return row;
    }));
    find('.status').textContent = d.advice.join(' ') || 'Nothing to change.';
  }

  function curve() {
    const size = canvas.clientWidth*Math.min(devicePixelRatio, 2), style = getComputedStyle(canvas), of = name => style.getPropertyValue(name).trim();
    [canvas.width, canvas.height] = [Math.round(size), Math.round(size*0.4)];
    const context = canvas.getContext('2d'), w = canvas.width, h = canvas.height, pad = 0.04*h, y = v => h - pad - v*(h - 2*pad), T = alphaBar.length - 1;
    context.fillStyle = of('--ground');
    context.fillRect(0, 0, w, h);
    for (const [colour, value] of [[of('--field'), a => Math.sqrt(1 - a)], [of('--dots'), Math.sqrt]]) {
      context.strokeStyle = colour;
      context.lineWidth = h/110;
      context.beginPath();
      alphaBar.forEach((a, t) => context.lineTo(w*t/T, y(value(a))));
      context.stroke();
    }
    handles().forEach((rate, i) => {
      if (!i) return;
      context.fillStyle = i === chosen && document.activeElement === canvas ? of('--chosen') : of('--dots');
      context.beginPath();
      context.arc(Math.min(w*U[i], w - h/40), y(rate), h/40, 0, 2*Math.PI);
      context.fill();
    });
    canvas.setAttribute('aria-label', `Signal rate: ${handles().map((r, i) => `${r.toFixed(3)} at ${Math.round(100*U[i])} %`).join(', ')}`);
  }

  function drown() {
    if (!picture) return;
    const context = find('.drowning').getContext('2d'), T = alphaBar.length - 1, ts = Array.from({length: SHOWN}, (_, i) => Math.round(T*i/(SHOWN - 1)));
    ts.forEach((t, i) => {
      const a = alphaBar[t], image = new ImageData(SIDE, SIDE);
      toPixels(picture.map((x, k) => Math.sqrt(a)*x + Math.sqrt(1 - a)*noise[k])).forEach((v, k) => image.data.set([v, v, v, 255], 4*k));
      context.putImageData(image, SIDE*i, 0);
    });
    find('.steps').textContent = `t = ${ts.join(', ')}`;
  }

  function show() { curve(); drown(); verdict(); find('.python').textContent = python(); remember(); }

  // The address

  function remember() {
    const {start, T, pixels} = form, own = rates ? {rates: rates.slice(1).join('_'), T: T.value} : {};
    keep(new URLSearchParams({start: start.value, pixels: pixels.value, ...own}));
  }

  function recall() {
    const query = new URLSearchParams(location.search), own = (query.get('rates') ?? '').split('_').map(Number);
    for (const name of ['start', 'T', 'pixels']) if ([...form[name].options].some(o => o.value === query.get(name))) form[name].value = query.get(name);
    if (own.length === U.length - 1 && own.every(r => r >= LEAST && r <= 1)) use(falling([1, ...own]));
    else preset(form.start.value === 'own' ? 'cosine' : form.start.value);
  }

  // Schedules

  function use(now) {
    rates = now;
    form.start.value = 'own';
    alphaBar = fromRates(U, rates, +form.T.value);
  }

  function preset(name) {
    rates = null;
    form.start.value = name;
    alphaBar = PRESETS[name][0]();
    form.T.value = alphaBar.length - 1;
  }

  // A handle moves, and takes along those that would stand in its way.
  function move(i, to) {
    use(falling(handles().map((r, k) => k < i ? Math.max(r, to) : k > i ? Math.min(r, to) : to)));
    show();
  }

  const place = event => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left)/box.width, 1 - ((event.clientY - box.top)/box.height - 0.04)/0.92]; };
  let holds = 0;
  canvas.addEventListener('pointerdown', event => {
    const [x] = place(event);
    holds = chosen = U.slice(1).map((u, i) => [Math.abs(u - x), i + 1]).sort((a, b) => a[0] - b[0])[0][1];
    canvas.setPointerCapture(event.pointerId);
    move(holds, place(event)[1]);
  });
  canvas.addEventListener('pointermove', event => holds && move(holds, place(event)[1]));
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { holds = 0; });
  for (const name of ['focus', 'blur']) canvas.addEventListener(name, curve);
  canvas.addEventListener('keydown', event => {
    const by = event.shiftKey ? 0.1 : 0.02;
    const keys = {
      ArrowLeft: () => { chosen = Math.max(chosen - 1, 1); curve(); }, ArrowRight: () => { chosen = Math.min(chosen + 1, U.length - 1); curve(); },
      ArrowUp: () => move(chosen, handles()[chosen] + by), ArrowDown: () => move(chosen, handles()[chosen] - by),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('input', ({target}) => {
    if (target.name === 'start') target.value === 'own' ? use(falling(handles())) : preset(target.value);
    if (target.name === 'T') use(falling(handles()));
    show();
  });
  find('.copy').addEventListener('click', async () => {
    try { await navigator.clipboard.writeText(python()); find('.copy').textContent = 'Copied'; }
    catch { getSelection().selectAllChildren(find('.python')); }
  });
  new ResizeObserver(curve).observe(canvas.parentElement);
  new MutationObserver(curve).observe(document.documentElement, {attributes: true, attributeFilter: ['data-theme']});

  recall();
  show();
  form.dataset.ready = 'yes';
  garment().then(found => { picture = found; drown(); });
}

for (const form of document.querySelectorAll('form.designer')) start(form);
