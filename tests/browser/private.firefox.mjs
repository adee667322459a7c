/** A private window of a stock Firefox, which refuses pages its file system: what is downloaded is kept in its cache. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { start } from '../cdn/cdn.mjs';
import { ROOT } from './lib/browser.mjs';
import { launchFirefox } from './lib/firefox.mjs';
import { serve } from './lib/server.mjs';

const BASE = 'golden/gated';
const BIG = 'big';
const CHUNK = 1 << 20;
const CHUNKS = 20;
const PARALLEL = 3;
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const big = randomBytes(CHUNK * (CHUNKS - 1) + 12345);

let folder;
let cdn;
let server;
let firefox;
let manifest;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lorahub-private-'));
  cpSync(join(ROOT, 'tests/golden/models/gated/base'), join(folder, BASE), { recursive: true });
  mkdirSync(join(folder, 'golden', BIG));
  writeFileSync(join(folder, 'golden', BIG, 'big.bin'), big);
  const chunks = Array.from({ length: CHUNKS }, (_, i) => sha256(big.subarray(i * CHUNK, (i + 1) * CHUNK)));
  const file = { path: 'big.bin', size: big.length, sha256: sha256(big), chunks: { bytes: CHUNK, sha256: chunks } };
  manifest = JSON.stringify({
    version: 1,
    bases: [{ id: BASE, repository: BASE, files: ['config.json', 'tokenizer.json', 'model.safetensors'].map((path) => ({ path })) }],
    modules: [{ name: BIG, base: BASE, repository: `golden/${BIG}`, files: [file] }],
  });
  cdn = await start({ root: folder });
  server = await serve({ '/pkg/': join(ROOT, 'pkg'), '/pages/': join(ROOT, 'tests/browser/pages') });
  firefox = await launchFirefox({ 'browser.privatebrowsing.autostart': true });
});
after(async () => {
  await firefox?.close();
  await server?.close();
  await cdn?.close();
  rmSync(folder, { recursive: true });
});

/** What a function on the page resolves with. */
async function resolved(work, argument) {
  const script = `const [argument, done] = arguments;
    (${work})(argument).then((value) => done({ value }), (error) => done({ error: String(error) }));`;
  const { value: said } = await firefox.send('WebDriver:ExecuteAsyncScript', { script, args: [argument ?? null], sandbox: null });
  if (said.error) throw new Error(said.error);
  return said.value;
}

const ask = (message) => resolved((message) => globalThis.ask(message), message);

async function arrive() {
  await firefox.send('WebDriver:Navigate', { url: `${server.origin}/pages/worker.html?script=hub.worker.mjs` });
  await ask({ method: 'open', address: cdn.origin, manifest });
}

const sent = () => cdn.log.filter((entry) => entry.hop === 'cdn' && entry.path.endsWith('big.bin')).reduce((sum, entry) => sum + entry.sent, 0);

test('a download goes on over visits, and a base is kept and loaded', { timeout: 240_000 }, async () => {
  await firefox.send('WebDriver:SetTimeouts', { script: 120_000 });
  await arrive();
  await assert.rejects(resolved(() => navigator.storage.getDirectory()), /SecurityError/, 'this window has a file system');

  cdn.faults.push({ kind: 'slow', bytesPerSecond: 2e7, count: null });
  const VISITS = 3;
  for (let visit = 0; visit < VISITS; visit++) {
    const until = sent() + 2 * CHUNK;
    // It ends with the page.
    ask({ method: 'download', names: [BIG] }).catch(() => {});
    while (sent() < until) await new Promise((resolve) => setTimeout(resolve, 5));
    await arrive();
  }
  cdn.faults.length = 0;
  await ask({ method: 'download', names: [BASE, BIG] });
  assert.ok(sent() <= big.length + VISITS * PARALLEL * CHUNK, `${sent()} bytes came for ${big.length}`);

  await arrive();
  cdn.log.length = 0;
  assert.deepEqual((await ask({ method: 'kept' })).map(({ name, whole }) => [name, whole]), [[BASE, true], [BIG, true]]);
  assert.deepEqual(await ask({ method: 'hashes', name: BIG }), { 'big.bin': sha256(big) });
  assert.equal(await ask({ method: 'verify', name: BIG }), big.length);
  const { conversion } = await ask({ method: 'load', base: BASE, device: 'cpu', dtype: 'q8_0' });
  assert.deepEqual(conversion, { state: 'unkept' });
  assert.deepEqual(cdn.log, []);
});
