/**
 * Downloads in a browser: from a hub on another origin into the browser's storage, whatever goes wrong, and from there
 * into a model. The storage is the origin private file system, or the cache where a browser refuses that.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { start } from '../cdn/cdn.mjs';
import { ROOT, launch, open } from './lib/browser.mjs';
import { serve } from './lib/server.mjs';

const GOLDEN = join(ROOT, 'tests/golden/models/gated');
const CHUNK = 64 << 10;
/** Chunks of the file that is interrupted, the last one short; and how many are under way at once. */
const CHUNKS = 120;
const PARALLEL = 3;
const BASE = 'golden/gated';
const BIG = 'big';

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const big = randomBytes(CHUNK * (CHUNKS - 1) + 12345);

let folder;
let cdn;
let server;
let browser;
let visit;
let moduleName;
let manifest;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lorahub-hub-'));
  cpSync(join(GOLDEN, 'base'), join(folder, BASE), { recursive: true });
  const { compositions } = JSON.parse(readFileSync(join(GOLDEN, 'cases.json'), 'utf8'));
  [moduleName] = compositions[0].modules;
  cpSync(join(GOLDEN, 'modules', moduleName), join(folder, 'golden', moduleName), { recursive: true });
  mkdirSync(join(folder, 'golden', BIG));
  writeFileSync(join(folder, 'golden', BIG, 'big.bin'), big);
  const chunks = Array.from({ length: CHUNKS }, (_, i) => sha256(big.subarray(i * CHUNK, (i + 1) * CHUNK)));
  manifest = JSON.stringify({
    version: 1,
    bases: [{ id: BASE, repository: BASE, files: ['config.json', 'tokenizer.json', 'model.safetensors'].map((path) => ({ path })) }],
    modules: [
      {
        name: moduleName,
        base: BASE,
        repository: `golden/${moduleName}`,
        files: ['adapter_config.json', 'adapter_model.safetensors'].map((path) => ({ path })),
      },
      {
        name: BIG,
        base: BASE,
        repository: `golden/${BIG}`,
        files: [{ path: 'big.bin', size: big.length, sha256: sha256(big), chunks: { bytes: CHUNK, sha256: chunks } }],
      },
    ],
  });
  cdn = await start({ root: folder });
  server = await serve({ '/pkg/': join(ROOT, 'pkg'), '/pages/': join(ROOT, 'tests/browser/pages') });
  browser = await launch();
  visit = await open(browser);
});
after(async () => {
  await browser?.close();
  await server?.close();
  await cdn?.close();
  rmSync(folder, { recursive: true });
});

const ask = (message, { page } = visit) => page.evaluate((m) => globalThis.ask(m), message);

/** What the browser refuses now. */
let without = [];

/** A fresh page with its worker. */
async function startWorker(at = visit) {
  const script = `hub.worker.mjs?${new URLSearchParams(without.map((what) => ['without', what]))}`;
  await at.page.goto(`${server.origin}/pages/worker.html?script=${encodeURIComponent(script)}`);
}

/** A fresh page, whose worker has opened the hub; the storage is as it was. */
async function arrive(at = visit) {
  await startWorker(at);
  await ask({ method: 'open', address: cdn.origin, manifest }, at);
}

beforeEach(async () => {
  cdn.faults.length = 0;
  await arrive();
  await ask({ method: 'deleteAll' });
  cdn.log.length = 0;
});

/** Bytes of the big file that came over the network. */
const sent = () => cdn.log.filter((entry) => entry.hop === 'cdn' && entry.path.endsWith('big.bin')).reduce((sum, entry) => sum + entry.sent, 0);

const refused = async (work, words) => assert.rejects(work, (error) => error.message.search(words) >= 0 || assert.fail(`${error.message} is not ${words}`));

/** Faults after which the file is there all the same. */
const HEALED = [
  ['a connection that drops', { kind: 'drop', at: 1000, count: 4 }],
  ['a connection that is refused', { kind: 'refuse', count: 3 }],
  ['an answer that is cut', { kind: 'truncate', at: 500, count: 2 }],
  ['a storm of 500', { kind: 'status', status: 500, count: 4 }],
  ['too many requests', { kind: 'status', status: 429, retryAfter: 1, count: 2 }],
  ['a redirect that has expired', { kind: 'expired', path: '*big.bin', count: 2 }],
  ['a wrong Content-Range', { kind: 'wrong-range', count: 2 }],
  ['a flipped bit', { kind: 'flip', at: CHUNK * 7 + 3 }],
  ['ranges that are refused', { kind: 'no-ranges', count: null }],
  ['headers that are hidden', { kind: 'hidden', count: null }],
];

/** What is the same in either storage. `faults` are those that are met there, of {@link HEALED}. */
function downloads({ visits, faults }) {
  test('a base and a module are downloaded, kept, and compute what their bytes do', { timeout: 120_000 }, async () => {
    const said = await ask({ method: 'download', names: [BASE, moduleName] });
    assert.equal(said.filter(({ state }) => state === 'done').length, 5);
    for (const [name, folderOf] of [[BASE, join(GOLDEN, 'base')], [moduleName, join(GOLDEN, 'modules', moduleName)]]) {
      for (const [path, hash] of Object.entries(await ask({ method: 'hashes', name }))) {
        assert.equal(hash, sha256(readFileSync(join(folderOf, path))), path);
      }
    }
    const kept = await ask({ method: 'kept' });
    assert.deepEqual(kept.map(({ kind, name, whole }) => ({ kind, name, whole })), [
      { kind: 'base', name: BASE, whole: true },
      { kind: 'module', name: moduleName, whole: true },
    ]);
    for (const { commit } of kept) assert.match(commit, /^[0-9a-f]{40}$/);

    // At the next visit nothing is fetched, and the model is what it was.
    await arrive();
    cdn.log.length = 0;
    const again = await ask({ method: 'download', names: [BASE, moduleName] });
    assert.ok(again.every(({ state }) => state === 'kept'), JSON.stringify(again));
    assert.deepEqual(cdn.log, []);
    const { kept: found, whole, converted } = await ask({ method: 'logits', base: BASE, module: moduleName, input: [5, 9, 20, 1], target: [7, 3, 1] });
    assert.ok(found.length > 100);
    assert.deepEqual(found, whole);
    assert.deepEqual(converted, whole);
    visit.expectQuiet();
  });

  describe('a fault is met, and the file is right', () => {
    for (const [name, fault] of faults) {
      test(name, { timeout: 120_000 }, async () => {
        // A copy: its count is counted down.
        cdn.faults.push({ ...fault });
        await ask({ method: 'download', names: [BIG] });
        assert.ok(cdn.log.some(({ faults }) => faults.includes(fault.kind)), 'the fault was not met');
        assert.deepEqual(await ask({ method: 'hashes', name: BIG }), { 'big.bin': sha256(big) });
        // A whole chunk for each fault that spoils one; the rest once.
        if (fault.kind === 'flip') assert.equal(sent(), big.length + CHUNK);
      });
    }
  });

  test(`a download that is broken off ${visits} times by leaving the page ends right, and fetches hardly anything twice`, { timeout: 300_000 }, async (t) => {
    cdn.faults.push({ kind: 'slow', bytesPerSecond: 1.5e6, count: null });
    let waste = 0;
    let reached = 0;
    for (let round = 0; round < visits; round++) {
      let ended;
      ask({ method: 'download', names: [BIG] }).then(
        () => (ended = 'done'),
        (error) => (ended = error.message),
      );
      // Somewhere inside the next chunks; a page that is left takes its worker with it, without a word.
      const until = sent() + 1 + Math.random() * CHUNK * 1.2;
      while (sent() < until && !ended) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(ended, undefined, `visit ${round + 1}`);
      await arrive();
      reached = round + 1;
    }
    cdn.faults.length = 0;
    await ask({ method: 'download', names: [BIG] });
    waste = sent() - big.length;
    t.diagnostic(`left ${reached} times, ${(waste / CHUNK).toFixed(1)} chunks came in vain`);
    assert.equal(reached, visits);
    assert.ok(waste <= reached * PARALLEL * CHUNK, `${waste} bytes came twice in ${reached} visits`);
    assert.deepEqual(await ask({ method: 'hashes', name: BIG }), { 'big.bin': sha256(big) });
  });

  test('a download that is cancelled says so and goes on from there', { timeout: 60_000 }, async () => {
    cdn.faults.push({ kind: 'slow', bytesPerSecond: 2e6, count: null });
    await refused(ask({ method: 'download', names: [BIG], stopAfter: 10 * CHUNK }), 'cancelled');
    cdn.faults.length = 0;
    const before = sent();
    assert.ok(before < big.length);
    const said = await ask({ method: 'download', names: [BIG] });
    assert.ok(said.some(({ state }) => state === 'checking'));
    assert.ok(sent() <= big.length + PARALLEL * CHUNK, `${sent()} bytes came for ${big.length}`);
  });

  test('two tabs do not download the same file at once', { timeout: 60_000 }, async () => {
    cdn.faults.push({ kind: 'slow', bytesPerSecond: 1e6, count: null });
    const page = await visit.context.newPage();
    const other = { page };
    await arrive(other);
    const first = ask({ method: 'download', names: [BIG] });
    while (sent() === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await refused(ask({ method: 'download', names: [BIG] }, other), 'another tab');
    cdn.faults.length = 0;
    await first;
    assert.ok((await ask({ method: 'download', names: [BIG] }, other)).every(({ state }) => state === 'kept'));
    await page.close();
  });

  test('two tabs that take turns lose nothing of each other', { timeout: 60_000 }, async () => {
    const page = await visit.context.newPage();
    const other = { page };
    await arrive(other);
    const stops = [[visit, 5], [other, 40], [visit, 75]];
    for (const [tab, chunks] of stops) {
      await refused(ask({ method: 'download', names: [BIG], stopAfter: chunks * CHUNK }, tab), 'cancelled');
    }
    await ask({ method: 'download', names: [BIG] }, other);
    assert.ok(sent() <= big.length + stops.length * PARALLEL * CHUNK, `${sent()} bytes came for ${big.length}`);
    assert.deepEqual(await ask({ method: 'hashes', name: BIG }, other), { 'big.bin': sha256(big) });
    await page.close();
  });

  test('what the disk has changed is noticed, and what is deleted is gone', { timeout: 60_000 }, async () => {
    await ask({ method: 'download', names: [BASE, BIG] });
    assert.equal(await ask({ method: 'verify', name: BIG }), big.length);
    await ask({ method: 'spoil', sha256: sha256(big) });
    await refused(ask({ method: 'verify', name: BIG }), 'storage changed it');
    // What is gone altogether is noticed too, wherever the sample falls.
    await ask({ method: 'spoil', sha256: sha256(big), cut: 1 });
    await refused(ask({ method: 'hashes', name: BIG }), 'download it again');
    assert.equal((await ask({ method: 'kept' })).find(({ name }) => name === BIG).whole, false);
    await refused(ask({ method: 'verify', name: BIG }), 'is not kept here');
    await ask({ method: 'delete', name: BIG });
    assert.deepEqual((await ask({ method: 'kept' })).map(({ name }) => name), [BASE]);
    await refused(ask({ method: 'hashes', name: BIG }), 'has not been downloaded');
    await ask({ method: 'deleteAll' });
    assert.deepEqual(await ask({ method: 'kept' }), []);
  });

  test('a storage that fills up ends the download in its own words, and it goes on when there is room', { timeout: 60_000 }, async () => {
    await ask({ method: 'room', bytes: 20 * CHUNK });
    await refused(ask({ method: 'download', names: [BIG] }), 'QuotaExceededError');
    assert.deepEqual(await ask({ method: 'kept' }), []);
    await arrive();
    await ask({ method: 'download', names: [BIG] });
    assert.ok(sent() <= big.length + 2 * PARALLEL * CHUNK, `${sent()} bytes came for ${big.length}`);
    assert.deepEqual(await ask({ method: 'hashes', name: BIG }), { 'big.bin': sha256(big) });
  });

  test('a file that has changed is noticed when it is opened, deleted, and fetched again', { timeout: 60_000 }, async () => {
    await ask({ method: 'download', names: [BASE] });
    const weights = sha256(readFileSync(join(GOLDEN, 'base/model.safetensors')));
    for (const wrong of [{ at: 5000 }, { cut: 1 }]) {
      await ask({ method: 'spoil', sha256: weights, ...wrong });
      const words = wrong.cut ? /is not kept here|have changed in the storage/ : 'golden/gated/model.safetensors have changed in the storage';
      await refused(ask({ method: 'load', base: BASE, device: 'cpu', dtype: 'f32' }), words);
      assert.equal((await ask({ method: 'kept' }))[0].whole, false);
      const said = await ask({ method: 'download', names: [BASE] });
      assert.deepEqual(said.filter(({ state }) => state === 'done').map(({ path }) => path), ['model.safetensors']);
      await ask({ method: 'load', base: BASE, device: 'cpu', dtype: 'f32' });
    }
  });
}

describe('in the file system', () => {
  downloads({ visits: 30, faults: HEALED });
});

describe('in the cache, where the file system is refused', () => {
  before(() => {
    without = ['files'];
  });
  after(() => {
    without = [];
  });
  // What the network does wrong never reaches the storage: only what makes chunks come twice, or of unknown number.
  downloads({ visits: 8, faults: HEALED.filter(([, { kind }]) => ['flip', 'hidden'].includes(kind)) });

  test('weights are converted at each load, and nothing of it stays', { timeout: 60_000 }, async () => {
    await ask({ method: 'download', names: [BASE] });
    const before = await ask({ method: 'left' });
    const { logits } = await loadNarrow('f32');
    const first = await loadNarrow();
    assert.deepEqual(first.conversion, { state: 'unkept' });
    assert.notDeepEqual(first.logits, logits, 'q8_0 rounds');
    assert.deepEqual(await loadNarrow(), first);
    assert.deepEqual(await ask({ method: 'left' }), before);
  });

  test('what is in one storage is not taken for the other’s, and deleting everything empties both', { timeout: 60_000 }, async () => {
    without = [];
    await arrive();
    await ask({ method: 'deleteAll' });
    without = ['files'];
    await arrive();
    await ask({ method: 'download', names: [moduleName] });
    without = [];
    await arrive();
    assert.deepEqual(await ask({ method: 'kept' }), []);
    await ask({ method: 'download', names: [BASE] });
    await ask({ method: 'deleteAll' });
    without = ['files'];
    await arrive();
    assert.deepEqual(await ask({ method: 'kept' }), []);
    assert.deepEqual(await ask({ method: 'left' }), []);
  });
});

test('a browser that gives neither is told so, with both reasons', { timeout: 60_000 }, async () => {
  without = ['files', 'caches'];
  await startWorker();
  without = [];
  const open = ask({ method: 'open', address: cdn.origin, manifest });
  await refused(open, /cannot be opened \(no file system: SecurityError: refused by the test; no cache: SecurityError: refused by the test\)/);
});

/** Faults after which nothing is there, the code that says so, and what may be kept for the next try. */
const REFUSED = [
  ['a file that is not there', { kind: 'status', status: 404, count: null }, 'is not there'],
  ['a file that others may not have', { kind: 'status', status: 403, count: null }, 'is refused'],
  ['a bit that is flipped every time', { kind: 'flip', at: 5, count: null }, 'with the hash'],
  ['a server that wants a day', { kind: 'status', status: 429, retryAfter: 86400, count: null }, '86400'],
];

describe('a fault that stays is refused, and nothing is trusted', () => {
  for (const [name, fault, words] of REFUSED) {
    test(name, { timeout: 120_000 }, async () => {
      cdn.faults.push(fault);
      await refused(ask({ method: 'download', names: [BIG] }), words);
      assert.deepEqual(await ask({ method: 'kept' }), []);
      cdn.faults.length = 0;
      await ask({ method: 'download', names: [BIG] });
      assert.deepEqual(await ask({ method: 'hashes', name: BIG }), { 'big.bin': sha256(big) });
    });
  }
});

/** A load in 8 bits at a new visit: what became of the conversion, and the logits. */
async function loadNarrow(dtype = 'q8_0') {
  await arrive();
  cdn.log.length = 0;
  const { conversion, logits } = await ask({ method: 'load', base: BASE, device: 'cpu', dtype, input: [5, 9, 20, 1] });
  assert.deepEqual(cdn.log, []);
  return { conversion, logits };
}

test('weights that were converted are read at the next load, made again where they changed, and deleted with the model', { timeout: 120_000 }, async () => {
  await ask({ method: 'download', names: [BASE] });
  const { logits } = await loadNarrow('f32');
  const [{ converted }] = await ask({ method: 'kept' });
  assert.equal(converted, undefined, 'f32 needs no conversion');
  const first = await loadNarrow();
  assert.deepEqual(first.conversion, { state: 'kept' });
  assert.notDeepEqual(first.logits, logits, 'q8_0 rounds');
  const again = { ...first, conversion: { state: 'read' } };
  assert.deepEqual(await loadNarrow(), again);
  const kept = async () => (await ask({ method: 'kept' }))[0];
  const [one] = (await kept()).converted;
  assert.equal(one.storage, 'q8_0');
  const files = (await kept()).bytes;
  assert.equal(await ask({ method: 'verify', name: BASE }), files + one.size);

  const { sha256: hash, size } = one;
  for (const wrong of [{ at: 14 }, { at: 5000 }, { at: size - 80 }, { cut: 1 }, { cut: size }]) {
    await ask({ method: 'spoil', sha256: hash, ...wrong });
    assert.deepEqual(await loadNarrow(), first, JSON.stringify(wrong));
    assert.deepEqual((await kept()).converted, [one]);
    assert.deepEqual(await loadNarrow(), again, JSON.stringify(wrong));
  }
  // A factor that is no number, in a chunk that was not looked at.
  await ask({ method: 'spoil', sha256: hash, at: 17, byte: 0x7c, unsampled: true });
  assert.deepEqual(await loadNarrow(), first);
  assert.deepEqual(await loadNarrow(), again);
  // A file that another tab has open is read all the same.
  await arrive();
  await ask({ method: 'hold', sha256: hash });
  const { conversion, logits: shared } = await ask({ method: 'load', base: BASE, device: 'cpu', dtype: 'q8_0', input: [5, 9, 20, 1] });
  assert.deepEqual({ conversion, logits: shared }, again);
  await arrive();
  // Verifying removes what is not right; it can be made again.
  await ask({ method: 'spoil', sha256: hash });
  assert.equal(await ask({ method: 'verify', name: BASE }), files);
  assert.deepEqual(await loadNarrow(), first);

  assert.deepEqual((await loadNarrow('q4_0')).conversion, { state: 'kept' });
  assert.equal((await kept()).converted.length, 2);
  await ask({ method: 'delete', name: BASE });
  assert.deepEqual(await ask({ method: 'left' }), []);
});

test('a storage that is full does not keep a model from being opened', { timeout: 120_000 }, async () => {
  await ask({ method: 'download', names: [BASE] });
  const { logits } = await loadNarrow();
  await ask({ method: 'delete', name: BASE });
  await ask({ method: 'download', names: [BASE] });
  const before = await ask({ method: 'left' });
  await arrive();
  await ask({ method: 'room', bytes: 50_000 });
  const found = await ask({ method: 'load', base: BASE, device: 'cpu', dtype: 'q8_0', input: [5, 9, 20, 1] });
  assert.equal(found.conversion.state, 'failed');
  assert.match(found.conversion.problem, /QuotaExceededError/);
  assert.deepEqual(found.logits, logits);
  assert.deepEqual(await ask({ method: 'left' }), before, 'nothing of it is left');
});

test('a name that the manifest does not list, and a manifest that is none, are refused', { timeout: 60_000 }, async () => {
  await refused(ask({ method: 'download', names: ['nobody/nothing'] }), 'is not in the manifest');
  await refused(ask({ method: 'open', address: cdn.origin, manifest: '{"version": 2}' }), 'version 2');
  await refused(ask({ method: 'open', address: 'http://example.org', manifest }), 'address');
  assert.equal(await ask({ method: 'open' }), 3, 'the built-in manifest');
});
