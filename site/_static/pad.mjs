// A picture of 28 by 28 pixels in 16 greys, drawn with mouse, finger or keys; and as a word for the address.
const SIDE = 28, SIZE = SIDE*SIDE, WHITE = 15;

// Two pixels a byte, in the letters that an address may hold.
export function written(levels) {
  const bytes = Array.from({length: SIZE/2}, (_, i) => String.fromCharCode(16*levels[2*i] + levels[2*i + 1]));
  return btoa(bytes.join('')).replaceAll('+', '-').replaceAll('/', '_');
}

// The picture of such a word, or null.
export function parsed(word) {
  if (!/^[\w-]+=$/.test(word) || word.length !== 4*Math.ceil(SIZE/6)) return null;
  const bytes = atob(word.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from({length: SIZE}, (_, k) => k % 2 ? bytes.charCodeAt(k >> 1) & 15 : bytes.charCodeAt(k >> 1) >> 4);
}

// Greys to [-1, 1], and back to the nearest.
export const toData = levels => Float32Array.from(levels, v => v/7.5 - 1);
export const toLevels = x => Uint8Array.from(x, v => Math.min(Math.max(Math.round((v + 1)*7.5), 0), WHITE));

// A boot, as a child would draw it: to begin with.
export const boot = Uint8Array.from({length: SIZE}, (_, k) => {
  const [x, y] = [k % SIDE, Math.floor(k/SIDE)];
  const shaft = x > 12 && x < 25 && y > 2, foot = x > 1 && x < 25 && y > 15 + Math.max(7 - x, 0)/2;
  return y < 23 && (shaft || foot) ? 11 : y === 23 && x > 1 && x < 25 ? WHITE : 0;
});

// Lets a reader draw on a canvas; `ink()` is the level of the pen, `changed()` hears of each stroke.
export function pad(canvas, ink, changed) {
  let levels = boot.slice(), last = null, cursor = null;

  function paint() {
    const context = canvas.getContext('2d'), image = context.createImageData(SIDE, SIDE);
    levels.forEach((v, k) => image.data.set([17*v, 17*v, 17*v, 255], 4*k));
    if (cursor) image.data.set([240, 160, 104, 255], 4*(cursor[1]*SIDE + cursor[0]));
    context.putImageData(image, 0, 0);
  }

  // A soft round brush at (x, y), in pixels.
  function dab(x, y) {
    for (let k = 0; k < SIZE; k++) {
      const far = Math.hypot(k % SIDE + 0.5 - x, Math.floor(k/SIDE) + 0.5 - y), weight = Math.min(Math.max(1.7 - far, 0), 1);
      levels[k] = Math.round(levels[k] + weight*(ink() - levels[k]));
    }
  }

  function stroke(x, y) {
    const [fromX, fromY] = last ?? [x, y], parts = Math.max(1, Math.ceil(2*Math.hypot(x - fromX, y - fromY)));
    for (let i = 1; i <= parts; i++) dab(fromX + (x - fromX)*i/parts, fromY + (y - fromY)*i/parts);
    last = [x, y];
    paint();
    changed();
  }

  const place = event => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left)/box.width*SIDE, (event.clientY - box.top)/box.height*SIDE]; };
  canvas.addEventListener('pointerdown', event => { cursor = last = null; canvas.setPointerCapture(event.pointerId); stroke(...place(event)); });
  canvas.addEventListener('pointermove', event => { if (last && event.buttons) stroke(...place(event)); });
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener('blur', () => { cursor = null; paint(); });
  canvas.addEventListener('keydown', event => {
    const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], ' ': [0, 0]}, way = ways[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    cursor = (cursor ?? [SIDE/2, SIDE/2]).map((v, i) => Math.min(Math.max(v + way[i], 0), SIDE - 1));
    last = null;
    if (event.key === ' ') stroke(cursor[0] + 0.5, cursor[1] + 0.5); else paint();
    canvas.setAttribute('aria-label', `Your drawing; pen at column ${cursor[0] + 1}, row ${cursor[1] + 1} of ${SIDE}`);
  });

  paint();
  return {
    get levels() { return levels; },
    set levels(now) { levels = now.slice(); paint(); changed(); },
  };
}
