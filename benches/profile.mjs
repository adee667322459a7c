// Where a generation's time goes, by V8's sampling profiler: `cargo xtask bench profile` runs it in node, whose V8 is
// older than a browser's.
//   node benches/profile.mjs <folder of the benchmark's wasm> <shape>
import { readFileSync } from 'node:fs';
import inspector from 'node:inspector/promises';
import { join } from 'node:path';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

const [folder, shape] = argv.slice(2);
const CANDIDATES = 16;
const MICROSECONDS = 500;

/** Functions by what they are for, the first that fits; the kernel module's have no names. */
const PARTS = [
  ["products, with LoRAs' and attention's", /^wasm-function/],
  ["attention's packing", /attention|tile|multiply|PackedF32/],
  ['softmax', /softmax/],
  ['gated GELU', /gated_gelu/],
  ["the loss's exponentials", /LogSumExp/],
  ['norms', /rms_norm/],
  ['residual sums', /Backend>::add\b/],
  ['everything else', /(?:)/],
];

// Some versions of node still hide relaxed-simd, and the others ignore this.
setFlagsFromString('--experimental-wasm-relaxed-simd');
// What a browser's worker has under this name.
globalThis.self = globalThis;
const { initSync, Subject } = await import(pathToFileURL(join(folder, 'lorahub_bench.js')));
initSync({ module: new WebAssembly.Module(readFileSync(join(folder, 'lorahub_bench_bg.wasm'))) });

async function profile(setup) {
  const job = { work: 'evaluation', shape, inputs: Array(5).fill(64), targets: Array(5).fill(16) };
  const subject = await Subject.make(JSON.stringify({ engine: 'ours', threads: 1, ...setup }), JSON.stringify(job));
  await subject.run(1);
  await subject.run(1);
  const session = new inspector.Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: MICROSECONDS });
  await session.post('Profiler.start');
  const started = performance.now();
  await subject.run(CANDIDATES);
  const milliseconds = (performance.now() - started) / CANDIDATES;
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  subject.free();
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame.functionName]));
  const times = new Map(PARTS.map(([part]) => [part, 0]));
  profile.samples.forEach((id, at) => {
    const [part] = PARTS.find(([, name]) => name.test(names.get(id)));
    times.set(part, times.get(part) + profile.timeDeltas[at]);
  });
  const total = [...times.values()].reduce((a, b) => a + b, 0);
  const [products] = times.values();
  if (products < total / 2) throw new Error("the kernel module's functions are not found: do they have names now?");
  return { milliseconds, shares: [...times.values()].map((time) => time / total) };
}

const SETUPS = [
  ['f32', { weights: 'f32', relaxed: true }],
  ['q8_0', { weights: 'q8_0', relaxed: true }],
  ['q8_0 in integers', { weights: 'q8_0', relaxed: true, arithmetic: 'integer' }],
];
const found = [];
for (const [, setup] of SETUPS) found.push(await profile(setup));
const row = (cells) => console.log(`| ${cells.join(' | ')} |`);
row([`${shape}, 64 tokens`, ...SETUPS.map(([name]) => name)]);
row(['---', ...SETUPS.map(() => '---')]);
row(['ms a candidate', ...found.map(({ milliseconds }) => milliseconds.toFixed(0))]);
PARTS.forEach(([part], at) => row([part, ...found.map(({ shares }) => `${(100 * shares[at]).toFixed(1)} %`)]));
