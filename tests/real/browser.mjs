/**
 * A base of a true shape through a browser: downloaded from the hub of `tests/cdn` into the origin private file system,
 * then loaded onto each device in each form, with what that takes.
 *
 *     node tests/real/browser.mjs HUB_FOLDER google/flan-t5-large
 *
 * Prints one JSON line for each step. Needs `pkg/` (`cargo xtask build`) and the packages of tests/browser.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { start } from '../cdn/cdn.mjs';
import { ROOT, launchOnDisk } from '../browser/lib/browser.mjs';
import { serve } from '../browser/lib/server.mjs';

const [folder, base] = process.argv.slice(2);
const FILES = ['config.json', 'tokenizer.json', 'model.safetensors'];
/** Device and form; the CPU's wasm holds f32 where that fits. Each twice: the first converts, the second reads. */
const LOADS = [
  ['cpu', 'q8_0'],
  ['cpu', 'f16'],
  ['webgpu', 'q8_0'],
  ['webgpu', 'f16'],
];
/**
 * Of the storage's own rate, what reading a base into the CPU's memory must reach. The rate is that of files as pages read
 * them; what the storage gives with an access handle into new memory, most of which is the memory's, is printed beside it.
 */
const RATIO = 0.5;

const manifest = JSON.stringify({ version: 1, bases: [{ id: base, repository: base, files: FILES.map((path) => ({ path })) }] });
const cdn = await start({ root: folder });
const server = await serve({ '/pkg/': join(ROOT, 'pkg'), '/pages/': join(ROOT, 'tests/browser/pages') });
const profile = mkdtempSync(join(tmpdir(), 'lorahub-profile-'));
const browser = await launchOnDisk(profile);
const say = (step) => console.log(JSON.stringify(step));
const round = (value) => Math.round(value * 10) / 10;

const page = await browser.newPage();
const ask = (message) => page.evaluate((m) => globalThis.ask(m), message);

/** A fresh page for each step: what one left in the heap is not the other's. */
async function arrive() {
  await page.goto(`${server.origin}/pages/worker.html?script=hub.worker.mjs`);
  await ask({ method: 'open', address: cdn.origin, manifest });
}

try {
  await arrive();
  const began = performance.now();
  await ask({ method: 'download', names: [base] });
  const seconds = (performance.now() - began) / 1000;
  const bytes = cdn.log.reduce((sum, entry) => sum + entry.sent, 0);
  say({ step: 'download', seconds: round(seconds), megabytes: Math.round(bytes / 1e6), megabytesPerSecond: round(bytes / 1e6 / seconds) });
  cdn.log.length = 0;
  await arrive();
  const storage = await ask({ method: 'readRate', name: base });
  say({ step: 'storage', ...storage });
  for (const [device, dtype] of LOADS) {
    for (const step of ['load', 'load again']) {
      await arrive();
      const found = await ask({ method: 'load', base, device, dtype }).catch((error) => ({ refused: error.message.split('\n')[0] }));
      const part = (whole) => Math.round((found.megabytesPerSecond / whole) * 100) / 100;
      const ofStorage = found.refused ? {} : { ofStorage: part(storage.megabytesPerSecond), ofNewMemory: part(storage.intoNewMemory) };
      say({ step, device, dtype, ...found, ...ofStorage });
      if (device === 'cpu' && found.conversion?.state === 'read' && ofStorage.ofStorage < RATIO) {
        console.error(`${dtype} is read at ${ofStorage.ofStorage} of the storage's rate, expected ${RATIO}`);
        process.exitCode = 1;
      }
    }
  }
  say({ step: 'requests after the download', count: cdn.log.length });
} finally {
  await browser.close();
  await server.close();
  await cdn.close();
  rmSync(profile, { recursive: true });
}
