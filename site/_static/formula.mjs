// One line of Python arithmetic, read and worked out here: numbers, lists of numbers, a schedule's tables; no names but those given.
const each = act => (...args) => {
  const length = args.find(Array.isArray)?.length;
  if (length === undefined) return act(...args);
  if (args.some(a => Array.isArray(a) && a.length !== length)) throw new Error('Lists of different lengths cannot be combined.');
  return Array.from({length}, (_, i) => act(...args.map(a => Array.isArray(a) ? a[i] : a)));
};
const total = a => [a].flat().reduce((x, y) => x + y, 0);
const number = x => { if (typeof x !== 'number') throw new Error('A number was wanted there.'); return x; };
const dot = (a, b) => { if (!Array.isArray(a) || !Array.isArray(b)) throw new Error('@ wants two lists.'); return total(each((x, y) => x*y)(a, b)); };

const FUNCTIONS = {
  sqrt: each(Math.sqrt), exp: each(Math.exp), log: each(Math.log), log2: each(Math.log2), abs: each(Math.abs), tanh: each(Math.tanh), sinh: each(Math.sinh),
  cosh: each(Math.cosh), sin: each(Math.sin), cos: each(Math.cos), square: each(x => x*x), sigmoid: each(x => 1/(1 + Math.exp(-x))), floor: each(Math.floor),
  max: (...args) => Math.max(...args.flat()), min: (...args) => Math.min(...args.flat()), sum: total, mean: a => total(a)/[a].flat().length,
};
const CONSTANTS = {pi: Math.PI, e: Math.E}, MODULES = ['math', 'torch', 'np', 'numpy'];
const OPERATIONS = {
  '+': each((a, b) => number(a) + number(b)), '-': each((a, b) => number(a) - number(b)), '*': each((a, b) => number(a)*number(b)), '/': each((a, b) => number(a)/number(b)),
  '//': each((a, b) => Math.floor(number(a)/number(b))), '%': each((a, b) => number(a) - number(b)*Math.floor(a/b)), '**': each((a, b) => number(a)**number(b)), '@': dot,
};

function tokens(line) {
  const found = [...line.matchAll(/\s*(?:(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)|([a-z_]\w*)|(\*\*|\/\/|[-+*/%@()[\].,:]))|\s*(\S)/giy)];
  const odd = found.find(m => m[4]);
  if (odd) throw new Error(odd[4] === '^' ? 'A power is written ** in Python.' : `${odd[4]} has no meaning here.`);
  return found.map(m => m[1] ? {number: +m[1]} : {word: m[2] ?? m[3]});
}

// The value of a line, given what its names stand for.
export function value(line, names) {
  const list = tokens(line.replace(/^\s*return\b/, ''));
  let at = 0;
  const next = () => list[at]?.word, take = word => next() === word && ++at, want = word => { if (!take(word)) throw new Error(`${word} is missing.`); };
  const grouped = (lower, words) => () => { let left = lower(); for (let op; words.includes(op = next());) { at++; left = OPERATIONS[op](left, lower()); } return left; };

  function unary() {
    if (take('-')) return OPERATIONS['-'](0, unary());
    if (take('+')) return unary();
    const base = postfix();
    return take('**') ? OPERATIONS['**'](base, unary()) : base;
  }
  const sum = grouped(grouped(unary, ['*', '/', '//', '%', '@']), ['+', '-']);

  function call(name, first = []) {
    const args = [...first];
    while (!take(')')) { args.push(sum()); if (next() !== ')') want(','); }
    if (!Object.hasOwn(FUNCTIONS, name)) throw new Error(`There is no function ${name} here; there are ${Object.keys(FUNCTIONS).join(', ')}.`);
    if (!args.length) throw new Error(`${name}() wants something in its brackets.`);
    return FUNCTIONS[name](...args);
  }

  function item(table) {
    if (!Array.isArray(table)) throw new Error('Only a table has entries: sched.alpha_bar[t].');
    const from = next() === ':' ? 0 : number(sum());
    if (take(':')) { const to = next() === ']' ? table.length : number(sum()); want(']'); return table.slice(from, to); }
    want(']');
    const found = table.at(from);
    if (!Number.isInteger(from) || found === undefined) throw new Error(`The table has entries 0 to ${table.length - 1}; you asked for ${from}.`);
    return found;
  }

  function postfix() {
    let it = atom();
    for (;;) {
      if (take('[')) it = item(it);
      else if (take('.')) {
        const name = next();
        at++;
        if (take('(')) it = call(name, it === MODULES ? [] : [it]);
        else if (it === MODULES && Object.hasOwn(CONSTANTS, name)) it = CONSTANTS[name];
        else if (it && typeof it === 'object' && !Array.isArray(it) && Object.hasOwn(it, name)) it = it[name];
        else throw new Error(`There is no .${name} here.`);
      } else return it;
    }
  }

  function atom() {
    const token = list[at++];
    if (!token) throw new Error('The line ends too early.');
    if (token.number !== undefined) return token.number;
    if (token.word === '(') { const it = sum(); want(')'); return it; }
    if (Object.hasOwn(names, token.word)) return names[token.word];
    if (Object.hasOwn(CONSTANTS, token.word)) return CONSTANTS[token.word];
    if (MODULES.includes(token.word) && next() === '.') return MODULES;
    if (take('(')) return call(token.word);
    throw new Error(/^\w/.test(token.word) ? `${token.word} is not known here; ${['sqrt', 'exp', 'log', ...Object.keys(names)].join(', ')} are.` : `A number or a name is missing before ${token.word}.`);
  }

  if (!list.length) throw new Error('Write your answer first.');
  const it = sum();
  if (at < list.length) throw new Error(`The line should end before ${next() ?? list[at].number}.`);
  return it;
}

// The cell of a number on a logarithmic grid, and its neighbours: tools/site_answers.py names cells alike.
export function words(x, width) {
  if (Math.abs(x) <= 1e-9) return ['0'];
  const cell = Math.floor(Math.log(Math.abs(x))/width + 0.5);
  return [cell - 1, cell, cell + 1].map(c => `${x < 0 ? '-' : ''}${c}`);
}
