// The playground's data: named sets of points in [-1, 1]^2, and points as a word for the address.

const circle = (n, radius, x = 0, y = 0, from = 0, to = 2*Math.PI, closed = false) => Array.from({length: n}, (_, i) => {
  const angle = from + (to - from)*i/(closed ? n - 1 : n);
  return [x + radius*Math.cos(angle), y + radius*Math.sin(angle)];
});

export const worlds = {
  two: [[-0.7, -0.2], [0.7, 0.2]],
  ring: circle(8, 0.8, 0, 0, Math.PI/8, 17*Math.PI/8),
  moons: [...circle(12, 0.6, -0.25, -0.1, 0, Math.PI, true), ...circle(12, 0.6, 0.25, 0.1, Math.PI, 2*Math.PI, true)],
  spiral: Array.from({length: 32}, (_, i) => { const a = 0.6 + i*0.33, r = 0.08 + 0.028*i; return [r*Math.cos(a), r*Math.sin(a)]; }),
  smile: [...circle(20, 0.9), [-0.32, 0.3], [0.32, 0.3], ...circle(7, 0.5, 0, 0, -2.6, -0.54, true)],
};

const MOST = 200;

// Hundredths, two numbers a point: "-70.-20_70.20".
export const written = points => points.map(p => p.map(v => Math.round(100*v)).join('.')).join('_');

// The points of such a word; what is no point is passed over.
export const parsed = word => [...word.matchAll(/(-?\d{1,3})\.(-?\d{1,3})(?=_|$)/g)].slice(0, MOST).map(m => [m[1]/100, m[2]/100]).filter(p => p.every(v => Math.abs(v) <= 2));

export const room = points => points.length < MOST;
