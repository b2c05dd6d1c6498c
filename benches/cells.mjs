// Nanoseconds that a cell costs in WebAssembly: node benches/cells.mjs PATH/cells.wasm
// The module is benches/src/bin/cells.rs for wasm32, with the profile `wasm`.
import { readFileSync } from 'node:fs';

const CASES = ['forward', 'originate, 3 hops', 'endpoint', "a circuit's first"];
// Short runs and many: few of them are cut by the scheduler.
const COUNT = 32;
const ROUNDS = 1001;
const WARM_UP_MS = 500;

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const { ours, crates } = instance.exports;

const nanos = (work, number) => {
  const begin = performance.now();
  work(number, COUNT);
  return ((performance.now() - begin) * 1e6) / COUNT;
};
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

console.log('ns a cell, WebAssembly      ours    crates   ratio');
for (const [number, name] of CASES.entries()) {
  // The same work from the same start must come to the same bytes, whichever code does it.
  if (ours(number, COUNT) !== crates(number, COUNT)) throw new Error(`${name}: not as the crates`);
  // V8 compiles again, in the background, what runs hot: not measured.
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) {
    nanos(ours, number);
    nanos(crates, number);
  }
  const times = { ours: [], crates: [] };
  for (let i = 0; i < ROUNDS; i++) {
    times.ours.push(nanos(ours, number));
    times.crates.push(nanos(crates, number));
  }
  const [a, b] = [median(times.ours), median(times.crates)];
  console.log(
    name.padEnd(22) + a.toFixed(0).padStart(10) + b.toFixed(0).padStart(10) + (a / b).toFixed(2).padStart(8),
  );
}
