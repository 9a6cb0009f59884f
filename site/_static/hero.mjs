// The first page's garments walk out of noise: the site's own sampler, with a network's answers that were recorded when the book was built.
import {schedules} from './oracle.mjs';
import {ddimCoefs, toPixels, torchNoise, trailing, walk} from './sampler.mjs';

const SIDE = 28, STEPS = 20, here = new URL('./', import.meta.url);
const still = matchMedia('(prefers-reduced-motion: reduce)');

const alphaBar = schedules.cosine();

// The recorded guesses of x_0 as a function of the step: a Float32Array, pictures one after another; made when asked for, not all at once.
async function recorded(image, columns) {
  await image.decode();
  const scratch = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext('2d', {willReadFrequently: true});
  scratch.drawImage(image, 0, 0);
  const {data, width, height} = scratch.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
  const rows = height/STEPS/SIDE, size = SIDE*SIDE;
  return step => Float32Array.from({length: rows*columns*size}, (_, k) => {
    const garment = Math.floor(k/size), y = step*rows*SIDE + Math.floor(garment/columns)*SIDE + Math.floor(k % size/SIDE), x = garment % columns*SIDE + k % SIDE;
    return data[4*(y*width + x)]/127.5 - 1;
  });
}

function paint(canvas, x_t, columns) {
  const context = canvas.getContext('2d'), image = context.createImageData(canvas.width, canvas.height), size = SIDE*SIDE;
  const whole = new Uint32Array(image.data.buffer);
  toPixels(x_t).forEach((v, k) => {
    const garment = Math.floor(k/size), y = Math.floor(garment/columns)*SIDE + Math.floor(k % size/SIDE), x = garment % columns*SIDE + k % SIDE;
    whole[y*canvas.width + x] = 0xff000000 | 0x10101*v;
  });
  context.putImageData(image, 0, 0);
}

// All garments start from the noise of their own seed, as ddim_sample starts them; a few at a time, so that a slow phone stays awake.
async function noise(count) {
  const all = new Float32Array(count*SIDE*SIDE);
  for (let seed = 0; seed < count; seed++) {
    all.set(torchNoise(seed)(SIDE*SIDE), seed*SIDE*SIDE);
    if (seed % 6 === 5) await pause(0);
  }
  return all;
}

const pause = ms => new Promise(done => setTimeout(done, ms));

async function start(figure) {
  const canvas = figure.querySelector('canvas'), button = figure.querySelector('button'), columns = canvas.width/SIDE;
  const image = new Image();
  let answers, run = 0;

  async function play() {
    const mine = ++run;
    if (!answers) { image.src = new URL('hero.webp', here); answers = await recorded(image, columns); }
    const ts = trailing(1000, STEPS);
    const told = (x, t) => {
      const guess = answers(ts.indexOf(t)), signal = Math.sqrt(alphaBar[t]), rate = Math.sqrt(1 - alphaBar[t]);
      return x.map((v, k) => (v - signal*guess[k])/rate);
    };
    const frames = walk(told, alphaBar, await noise(canvas.width*canvas.height/SIDE**2), ts, ddimCoefs(alphaBar, ts, 0), null, null);
    for await (const {t, x_t} of frames) {
      if (mine !== run) return;
      paint(canvas, x_t, columns);
      figure.dataset.t = t;
      figure.classList.add('moving');
      await pause(t === 1000 ? 700 : 110);
    }
  }

  button.hidden = false;
  button.addEventListener('click', play);
  if (!still.matches) await play();
}

for (const figure of document.querySelectorAll('figure.hero')) start(figure);
