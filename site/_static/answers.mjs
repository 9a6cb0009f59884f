// Answers in the page: a line of arithmetic is worked out on the cases of ddpm_lesson.exam and compared, as hashes, with the truth and
// with the mistakes that people make. What was right is remembered in this browser.
import {value, words} from './formula.mjs';
import {schedules} from './oracle.mjs';

const here = new URL('./answers/', import.meta.url), KEPT = 'ddpm_lesson progress';

// Progress

export function progress() {
  try { return JSON.parse(localStorage.getItem(KEPT)) ?? {}; }
  catch { return {}; }  // no storage, or damaged
}

function remember(name) {
  try { localStorage.setItem(KEPT, JSON.stringify({...progress(), [name]: progress()[name] ?? new Date().toISOString().slice(0, 10)})); }
  catch { /* a private window remembers nothing */ }
}

// Cases

function schedule(alpha_bar) {
  const pair = act => alpha_bar.map((a, t) => t ? act(a, alpha_bar[t - 1]) : act(1, 1));
  const of = act => alpha_bar.map(act);
  return {T: alpha_bar.length - 1, alpha_bar, alpha: pair((a, b) => a/b), beta: pair((a, b) => 1 - a/b), signal_rate: of(Math.sqrt), noise_rate: of(a => Math.sqrt(1 - a)), snr: of(a => a/(1 - a))};
}
const SCHEDULES = {
  'linear, T=1000': () => schedules.linear(), 'cosine, T=1000': () => schedules.cosine(), "S1's cosine, T=400": () => schedules.rate(400), 'steep, T=7': () => schedules.linear(7, 0.05, 0.9),
};
const given = arg => arg?.sched ? schedule(SCHEDULES[arg.sched]()) : arg;

async function hash(text) {
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return [...bytes.slice(0, 4)].map(b => b.toString(16).padStart(2, '0')).join('');
}

// For each case the numbers of the answer, and for each number the hashes that it may stand for.
async function tried({name, names, cases, width}, line) {
  return Promise.all(cases.map(async ({args}, i) => {
    const numbers = [value(line, Object.fromEntries(names.map((n, k) => [n, given(args[k])])))].flat();
    if (numbers.some(x => typeof x !== 'number')) throw new Error('A number was wanted; this is a table or a schedule.');
    return {numbers, hashes: await Promise.all(numbers.map((x, k) => Promise.all(words(x, width).map(w => hash(`${name}/${i}/${k}/${w}`)))))};
  }));
}

const agree = (got, wanted) => got.hashes.length === wanted.length && wanted.every((h, k) => got.hashes[k].includes(h));
const fits = (all, wanted) => all.every((got, i) => agree(got, wanted[i]));

// {right, said} of an answer to an exercise, as its record has it.
export async function judge(record, line) {
  const all = await tried(record, line), {cases, right} = record;
  if (fits(all, right)) return {right: true, said: `Right.${cases.length > 1 ? ` ${cases.length} cases agree.` : ''}`};
  const known = Object.entries(record.mistakes).find(([, wanted]) => fits(all, wanted));
  if (known) return {right: false, said: `Not yet. ${known[0]}`};
  if (all[0].hashes.length !== right[0].length) return {right: false, said: `Not yet. ${right[0].length} numbers were wanted; yours gave ${all[0].hashes.length}.`};
  const good = all.map((got, i) => agree(got, right[i])), i = good.indexOf(false);
  if (cases.length === 1) return {right: false, said: `Not yet, and none of the mistakes we know. Yours gives ${all[0].numbers[0].toPrecision(4)}.`};
  return {right: false, said: `Not yet. ${good.filter(Boolean).length} of ${cases.length} cases agree; the first that does not is ${cases[i].where}, where yours gives ${all[i].numbers[0].toPrecision(4)}.`};
}

// The boxes

const records = {};
async function fetched(name) {
  const response = await fetch(new URL(`${name}.json`, here));
  if (!response.ok) throw new Error(`What the answer is compared with could not be fetched (the server says ${response.status}).`);
  return response.json();
}

function start(form) {
  const {exercise} = form.dataset, say = (words, mark) => { form.querySelector('.said').textContent = words; form.dataset.mark = mark; };
  form.hidden = false;
  if (progress()[exercise]) say(`Answered right here on ${progress()[exercise]}.`, 'right');
  form.addEventListener('submit', async event => {
    event.preventDefault();
    try {
      const {right, said} = await judge(records[exercise] ??= await fetched(exercise), form.line.value);
      if (right) remember(exercise);
      say(said, right ? 'right' : 'wrong');
    } catch (error) { say(error.message, 'wrong'); }
  });
}

function tally(form) {
  const all = JSON.parse(form.dataset.exercises), done = () => all.filter(name => progress()[name]);
  const show = () => {
    form.querySelector('.said').textContent = `In this browser: ${done().length} of the ${all.length} exercises that the book itself can check${done().length ? `: ${done().join(', ')}` : ''}.`;
    form.querySelector('button').hidden = !done().length;
  };
  form.hidden = false;
  form.querySelector('button').addEventListener('click', () => { localStorage.removeItem(KEPT); show(); });
  show();
}

if (typeof document !== 'undefined') {
  document.querySelectorAll('form.answer').forEach(start);
  document.querySelectorAll('form.tally').forEach(tally);
}
