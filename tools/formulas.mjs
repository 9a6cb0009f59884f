// Formulas as HTML with MathML inside: node formulas.mjs KATEX reads [[tex, displayed], ...] and prints as many strings.
import {readFileSync} from 'node:fs';

const {default: katex} = await import(process.argv[2]);
const options = {throwOnError: true, strict: 'ignore', output: 'htmlAndMathml'};
const draw = ([tex, displayMode]) => {
  try { return katex.renderToString(tex, {...options, displayMode}); }
  catch (error) { throw new Error(`KaTeX can't read ${tex}: ${error.message}`); }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(draw)));
