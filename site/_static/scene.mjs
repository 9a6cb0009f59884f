// Draws one picture of the playground: density, score, paths, guesses, dots, data.
import {logDensity, oracle} from './oracle.mjs';

export const REACH = 2.4;  // the picture shows [-REACH, REACH]^2
const GRID = 15, CELLS = 60, MANY = 40;

// From data units to pixels of a canvas and back.
export const toPixel = (canvas, v, axis) => canvas.width*(0.5 + (axis ? -v : v)/(2*REACH));
export const toUnits = (size, pixel, axis) => (axis ? -1 : 1)*(pixel/size - 0.5)*2*REACH;

const colours = element => {
  const style = getComputedStyle(element), of = name => style.getPropertyValue(name).trim();
  return {ground: of('--ground'), data: of('--data'), dots: of('--dots'), path: of('--path'), guess: of('--guess'), field: of('--field'), chosen: of('--chosen')};
};

const grid = n => Float64Array.from({length: 2*n*n}, (_, k) => {
  const cell = k >> 1, place = k & 1 ? -Math.floor(cell/n) : cell % n;
  return k & 1 ? REACH + 2*REACH*(place - 0.5)/n : -REACH + 2*REACH*(place + 0.5)/n;
});
const GRID_POINTS = grid(GRID), CELL_POINTS = grid(CELLS);

// An arrow field may be wanted at many moments while data stay: the same question is not computed twice.
let kept = {};
function once(key, compute) {
  if (kept.key !== key.whole) kept = {key: key.whole};
  return kept[key.part] ??= compute();
}

function density(context, canvas, {means, spread, alphaBar, key}, t, colour) {
  const logs = once({whole: `${key} ${t}`, part: 'density'}, () => logDensity(means, spread, alphaBar, CELL_POINTS, t));
  const most = logs.reduce((a, b) => Math.max(a, b), -Infinity), side = canvas.width/CELLS;
  context.fillStyle = colour;
  logs.forEach((l, i) => {
    context.globalAlpha = 0.55*Math.exp((l - most)/2);  // the root, so that low ground shows too
    if (context.globalAlpha > 0.02) context.fillRect(Math.floor(i % CELLS*side), Math.floor(Math.floor(i/CELLS)*side), Math.ceil(side), Math.ceil(side));
  });
  context.globalAlpha = 1;
}

function score(context, canvas, {means, spread, alphaBar, key}, t, colour) {
  const eps = once({whole: `${key} ${t}`, part: 'score'}, () => oracle(means, spread, alphaBar)(GRID_POINTS, t));
  const rate = Math.sqrt(1 - alphaBar[t]), long = 0.42*canvas.width/GRID;
  context.strokeStyle = colour;
  context.lineWidth = canvas.width/400;
  context.beginPath();
  for (let k = 0; k < GRID_POINTS.length; k += 2) {
    const [u, v] = [-eps[k]/rate, eps[k + 1]/rate], size = Math.hypot(u, v) || 1, length = long*Math.tanh(size/3);
    const x = toPixel(canvas, GRID_POINTS[k], 0), y = toPixel(canvas, GRID_POINTS[k + 1], 1), [dx, dy] = [u/size*length, v/size*length];
    context.moveTo(x - dx, y - dy); context.lineTo(x + dx, y + dy);
    context.lineTo(x + 0.5*dx - 0.3*dy, y + 0.5*dy + 0.3*dx);
  }
  context.stroke();
}

// Positions between two frames, so that few steps move smoothly.
export function between(frames, at) {
  const i = Math.min(Math.floor(at), frames.length - 1), [a, b] = [frames[i], frames[Math.min(i + 1, frames.length - 1)]], part = at - i;
  return part ? a.x_t.map((v, k) => v + part*(b.x_t[k] - v)) : a.x_t;
}

function paths(context, canvas, frames, at, x, colour) {
  context.strokeStyle = colour;
  context.lineWidth = canvas.width/450;
  context.beginPath();
  for (let k = 0; k < Math.min(x.length, 2*MANY); k += 2) {
    for (let i = 0; i <= at; i++) context[i ? 'lineTo' : 'moveTo'](toPixel(canvas, frames[i].x_t[k], 0), toPixel(canvas, frames[i].x_t[k + 1], 1));
    context.lineTo(toPixel(canvas, x[k], 0), toPixel(canvas, x[k + 1], 1));
  }
  context.stroke();
}

function guesses(context, canvas, frame, x, colour) {
  const tip = canvas.width/110;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = canvas.width/450;
  context.beginPath();
  for (let k = 0; k < Math.min(x.length, 2*MANY); k += 2) {
    context.moveTo(toPixel(canvas, x[k], 0), toPixel(canvas, x[k + 1], 1));
    context.lineTo(toPixel(canvas, frame.x_0_hat[k], 0), toPixel(canvas, frame.x_0_hat[k + 1], 1));
  }
  context.stroke();
  for (let k = 0; k < Math.min(x.length, 2*MANY); k += 2) context.fillRect(toPixel(canvas, frame.x_0_hat[k], 0) - tip/2, toPixel(canvas, frame.x_0_hat[k + 1], 1) - tip/2, tip, tip);
}

function dots(context, canvas, x, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  for (let k = 0; k < x.length; k += 2) {
    const [px, py] = [toPixel(canvas, x[k], 0), toPixel(canvas, x[k + 1], 1)];
    context.moveTo(px + radius, py);
    context.arc(px, py, radius, 0, 2*Math.PI);
  }
  context.fill();
}

// One picture: `frames` of the walk, the moment `at` in steps, what to `show`, which data point is `chosen` (-1: none).
export function draw(canvas, world, frames, at, show, chosen) {
  const context = canvas.getContext('2d'), colour = colours(canvas), frame = frames[Math.min(Math.floor(at), frames.length - 1)], x = between(frames, at);
  const unit = canvas.width/100, t = Math.max(frame.t, 1);
  context.globalAlpha = 1;
  context.fillStyle = colour.ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (show.has('density')) density(context, canvas, world, t, colour.dots);
  if (show.has('score')) score(context, canvas, world, t, colour.field);
  if (show.has('paths')) paths(context, canvas, frames, at, x, colour.path);
  if (show.has('guesses')) guesses(context, canvas, frame, x, colour.guess);
  dots(context, canvas, world.means, 1.5*unit, colour.data);
  dots(context, canvas, x, x.length > 600 ? 0.65*unit : 0.95*unit, colour.dots);
  if (chosen < 0) return;
  context.strokeStyle = colour.chosen;
  context.lineWidth = 0.5*unit;
  context.strokeRect(toPixel(canvas, world.means[2*chosen], 0) - 2.6*unit, toPixel(canvas, world.means[2*chosen + 1], 1) - 2.6*unit, 5.2*unit, 5.2*unit);
}
