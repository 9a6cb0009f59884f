// Which functions of the runtime run: node trim.mjs RUNTIME NOTING BATCHES START NETWORK... prints the numbers of those whose global is 1.
// START is only loaded, as the live page does to start the runtime; each other network is asked in each size of batch.
import {readFileSync} from 'node:fs';

const [runtime, noting, batches, ...networks] = process.argv.slice(2), {instantiate} = WebAssembly;
let globals;
WebAssembly.instantiate = async (...args) => {
  const made = await instantiate(...args);
  globals = (made.instance ?? made).exports;
  return made;
};

const ort = await import(runtime);
Object.assign(ort.env.wasm, {numThreads: 1, wasmBinary: readFileSync(noting).buffer});
const sessions = [];
for (const network of networks) sessions.push(await ort.InferenceSession.create(new Uint8Array(readFileSync(network)), {executionProviders: ['wasm'], graphOptimizationLevel: 'disabled'}));
for (const session of sessions.slice(1)) for (const B of JSON.parse(batches)) {
  const tensor = (type, data, ...dims) => new ort.Tensor(type, data, [B, ...dims]), whole = of => tensor('int64', BigInt64Array.from({length: B}, (_, k) => BigInt(of(k))));
  const x_t = tensor('float32', Float32Array.from({length: B*28*28}, (_, k) => 2*Math.sin(k*k)), 1, 28, 28);
  await session.run({x_t, t: whole(k => 1000 - 60*k), y: whole(k => k % 11)});
}
console.log(JSON.stringify(Object.keys(globals).filter(name => /^f\d+$/.test(name) && globals[name].value).map(name => +name.slice(1))));
