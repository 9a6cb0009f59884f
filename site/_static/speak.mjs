// Formulas and code speak to each other: point at a numbered formula, and the lines that check it light up; at a letter of a formula,
// and its name lights up in that cell; at a reference such as (4.7), and the formula itself is shown.
const numberOf = id => id.replace(/^eq-/, '').replace('-', '.');

// Light: ranges of text, which the style sheet colours; browsers without the highlight API just don't.
const light = (name, ranges) => globalThis.Highlight && (ranges.length ? CSS.highlights.set(name, new Highlight(...ranges)) : CSS.highlights.delete(name));

// The lines of a box of code: {text, range}.
function linesOf(pre) {
  const walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT), lines = [];
  let line = null;
  while (walker.nextNode()) for (const {0: piece, index} of walker.currentNode.data.matchAll(/[^\n]+|\n/g)) {
    if (piece === '\n') { line = null; continue; }
    if (!line) {
      lines.push(line = {text: '', range: document.createRange()});
      line.range.setStart(walker.currentNode, index);
    }
    line.text += piece;
    line.range.setEnd(walker.currentNode, index + piece.length);
  }
  return lines;
}

const names = (line, number) => line.includes(`(${number})`);

// Of a cell that checks a formula: the comments that name it, and the first assertion after each.
function checksIn(pre, number) {
  const lines = linesOf(pre);
  if (!lines.some(({text}) => /#.*\bchecks\b/.test(text) && names(text, number))) return [];
  return lines.filter(({text}, i) => {
    if (names(text, number)) return true;
    const before = lines.slice(0, i).findLastIndex(line => /#.*\bchecks\b/.test(line.text));
    return /\bassert/.test(text) && before >= 0 && names(lines[before].text, number) && !lines.slice(before, i).some(line => /\bassert/.test(line.text));
  });
}

const boxes = [...document.querySelectorAll('article .cell_input pre')];
const checked = number => boxes.flatMap(pre => checksIn(pre, number));
const follows = (a, b) => a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING;

// The cell in which a formula's letters are looked for: the first below it that checks it, else the first below it.
function cellOf(formula) {
  const below = boxes.filter(pre => follows(formula, pre));
  return below.find(pre => formula.id && checksIn(pre, numberOf(formula.id)).length) ?? below[0];
}

// Letters

const LETTERS = {
  'α': /^(alpha|alpha_bar|a|a_t|a_s)$/, 'β': /^beta/, 'σ': /^(sigma|std|spread)/, 'ϵ': /^eps/, 'ε': /^eps/, 'η': /^eta$/, 'μ': /^(mu|means?|m)$/, 'τ': /^(tau|flow_time)/, 'ρ': /^rho/, 'λ': /^(lam|lambda|half_log_snr)/,
  'γ': /^gamma/, 'δ': /^delta/, 'ϕ': /^phi/, 'φ': /^phi/, 'θ': /^(theta|net|model)/, 'π': /^(pi|weights?)$/, x: /^x(_|$)/, z: /^z/, v: /^v(_|$)/, t: /^t$/, s: /^s$/, T: /^T$/, d: /^d$/, m: /^m$/, w: /^(w|scale)$/, y: /^y$/,
};

function lightLetter(formula, letter) {
  const wanted = LETTERS[letter.textContent.trim()], cell = wanted && cellOf(formula);
  const found = cell ? [...cell.querySelectorAll('span')].filter(s => !s.children.length && wanted.test(s.textContent)) : [];
  light('letter', found.map(span => { const range = document.createRange(); range.selectNodeContents(span); return range; }));
  return found;
}

// The card beside the pointer

const card = document.createElement('div');
Object.assign(card, {className: 'speaks', role: 'tooltip', hidden: true, id: 'speaks'});
document.body.append(card);

let beside = null;
function place(near) {
  beside = near;
  const box = near.getBoundingClientRect(), room = document.documentElement.clientWidth;
  card.hidden = false;
  const {width, height} = card.getBoundingClientRect();
  card.style.left = `${Math.max(8, Math.min(box.left, room - width - 8))}px`;
  card.style.top = `${box.bottom + height + 12 < innerHeight ? box.bottom + 8 : Math.max(8, box.top - height - 8)}px`;
}
const hide = () => { beside = null; card.hidden = true; card.replaceChildren(); light('checks', []); light('letter', []); };

// Lines that are out of sight are shown on the card.
function showChecks(formula) {
  const lines = checked(numberOf(formula.id));
  light('checks', lines.map(({range}) => range));
  const hiddenOnes = lines.filter(({range}) => { const {top, bottom} = range.getBoundingClientRect(); return bottom < 60 || top > innerHeight || top === bottom; });
  if (!hiddenOnes.length) return;
  const pre = document.createElement('pre');
  pre.textContent = hiddenOnes.slice(0, 4).map(({text}) => text.trim()).join('\n');
  card.replaceChildren(`(${numberOf(formula.id)}) is checked ${follows(formula, hiddenOnes[0].range.startContainer.parentElement) ? 'below' : 'above'}:`, pre);
  place(formula);
}

for (const formula of document.querySelectorAll('article .formula')) {
  const numbered = formula.id.startsWith('eq-');
  if (numbered) {
    formula.tabIndex = 0;
    formula.setAttribute('role', 'group');
    formula.setAttribute('aria-label', `Equation ${numberOf(formula.id)}`);
    formula.addEventListener('mouseenter', () => showChecks(formula));
    formula.addEventListener('focus', () => showChecks(formula));
    formula.addEventListener('blur', hide);
    formula.querySelector('.katex-tag')?.addEventListener('click', () => { location.hash = formula.id; });
  }
  formula.addEventListener('mouseover', event => { const letter = event.target.closest('.mathnormal'); if (letter) lightLetter(formula, letter); });
  formula.addEventListener('mouseleave', hide);
}

// References

const pages = {};
const pageOf = url => pages[url] ??= fetch(url).then(response => response.text()).then(text => new DOMParser().parseFromString(text, 'text/html'));

async function formulaAt(link) {
  const {origin, pathname, hash} = new URL(link.href), id = hash.slice(1);
  const where = pathname === location.pathname ? document : await pageOf(origin + pathname);
  return where.getElementById(id)?.querySelector('.katex-display, .katex');
}

let over = null;
async function preview(link) {
  over = link;
  const formula = await formulaAt(link).catch(() => null);
  if (!formula || over !== link) return;
  const whole = document.createElement('div');
  whole.className = 'formula display';
  whole.append(document.importNode(formula, true));
  card.replaceChildren(whole);
  place(link);
}
for (const link of document.querySelectorAll('article a[href*="#eq-"]')) {
  for (const begin of ['mouseenter', 'focus']) link.addEventListener(begin, () => preview(link));
  for (const end of ['mouseleave', 'blur']) link.addEventListener(end, () => { over = null; hide(); });
}
addEventListener('keydown', event => event.key === 'Escape' && hide());
addEventListener('scroll', () => beside && place(beside), {passive: true});  // focus scrolls too
document.documentElement.dataset.speaks = 'yes';
