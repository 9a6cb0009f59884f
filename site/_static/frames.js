// A slider over frames: the frames stand below one another in one picture, and the window shows one of them.
for (const figure of document.querySelectorAll('figure.frames')) {
  const slider = figure.querySelector('input'), picture = figure.querySelector('img'), words = figure.querySelector('output');
  const captions = JSON.parse(figure.dataset.captions);
  const show = () => {
    const k = slider.value - slider.min;
    picture.style.transform = `translateY(${-100*k/captions.length}%)`;
    words.value = captions[k];
    slider.setAttribute('aria-valuetext', captions[k]);
  };
  slider.addEventListener('input', show);
  show();
}

// Films start put away where the reader's system asks for less motion.
if (matchMedia('(prefers-reduced-motion: reduce)').matches) for (const film of document.querySelectorAll('details.film')) film.open = false;

// What the theme leaves unnamed for a screen reader, and formulas and code wider than the screen, which a keyboard must be able to scroll.
for (const button of document.querySelectorAll('button.search-button-field')) button.removeAttribute('aria-label');
for (const summary of document.querySelectorAll('nav summary')) summary.setAttribute('aria-label', `Pages below ${summary.closest('li')?.querySelector('a')?.textContent.trim() ?? 'this one'}`);
function isWide(box) {
  if (!box.matches('span.formula')) return box.scrollWidth > box.clientWidth + 1;
  const room = box.closest('p, li, td, th, dd, div')?.clientWidth ?? innerWidth;
  return [...box.querySelectorAll('.katex-base')].some(part => part.getBoundingClientRect().width > room + 1);
}
const boxesOf = () => [...document.querySelectorAll('span.formula, .formula.display, pre')];
function reach(boxes) {
  const found = boxes.map(isWide);  // all looked at before any is changed: else each look waits for a new layout
  boxes.forEach((box, k) => {
    if (box.matches('span.formula')) box.classList.toggle('wide', found[k]);
    found[k] || box.role === 'group' ? box.setAttribute('tabindex', '0') : box.removeAttribute('tabindex');
  });
}
async function reachable() {
  const width = innerWidth;
  reach(boxesOf());
  await document.fonts.ready;  // a formula far below may have asked for a font only now
  reach(boxesOf());
  document.documentElement.dataset.reachable = width;
}
// At first only what is in sight; the rest of a long page, which keeps a phone busy, when the reader first moves.
const MOVES = ['scroll', 'pointermove', 'touchstart', 'keydown', 'focusin', 'beforeprint'];
const moved = () => {
  for (const kind of MOVES) removeEventListener(kind, moved);
  document.fonts.ready.then(reachable);
};
addEventListener('load', () => document.fonts.ready.then(() => {
  reach(boxesOf().filter(box => box.getBoundingClientRect().top < innerHeight));
  for (const kind of MOVES) addEventListener(kind, moved, {passive: true});
  document.documentElement.dataset.shown = 'yes';
}));
addEventListener('resize', reachable);

// What was visited opens again without a network: sw.js keeps it. The first page tells it what came before it was there.
async function keepVisited() {
  const root = new URL(document.documentElement.dataset.content_root ?? './', location);
  await navigator.serviceWorker.register(new URL('sw.js', root));
  const {active} = await navigator.serviceWorker.ready;
  navigator.serviceWorker.addEventListener('message', () => { document.documentElement.dataset.kept = 'yes'; });
  navigator.serviceWorker.startMessages();
  active.postMessage([location.href, ...performance.getEntriesByType('resource').map(entry => entry.name)]);
}
if (isSecureContext && 'serviceWorker' in navigator && location.protocol.startsWith('http')) addEventListener('load', () => keepVisited().catch(() => {}));
