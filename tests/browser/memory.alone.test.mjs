/**
 * Twenty rounds on the GPU hold no more memory than two: neither the engine's own buffers, nor the browser's GPU
 * process, which would keep what was dropped but never destroyed.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT, launch, open } from './lib/browser.mjs';
import { serve } from './lib/server.mjs';

const MODEL = 'gated';
const FEW = 2;
const MANY = 20;
/** Rounds of an earlier page, now closed, that fill the GPU process's own caches and pools: they grow for some ten rounds. */
const FILL = 12;
/** The singles, the pass and a generation of the search: all that a search allocates. */
const BUDGET = 16;
/** For the process to hear of it and free what it had. */
const IDLE_MS = 500;
const LOOKS = 8;
/** By which the buffers kept for reuse may differ. */
const SHARE = 0.05;
/**
 * Of what the rounds would add to the GPU process if each kept its buffers. The process has caches of its own, which went
 * on filling by up to 9 MB in these rounds where those would be 40.
 */
const LEAK = 0.5;

let server;
let browser;
before(async () => {
  server = await serve({ '/pkg/': join(ROOT, 'pkg'), '/golden/': join(ROOT, 'tests/golden'), '/pages/': join(ROOT, 'tests/browser/pages') });
  browser = await launch({ flags: ['--js-flags=--expose-gc'] });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Resident bytes of the GPU process among our own children; only Linux tells them. */
function gpuProcessBytes() {
  if (process.platform !== 'linux') return 0;
  const found = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (!command.includes('--type=gpu-process') || !descends(pid)) continue;
      found.push(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024);
    } catch (error) {
      // A process that ended while we looked.
      if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error;
    }
  }
  assert.equal(found.length, 1, `expected one GPU process, found ${found.length}`);
  return found[0];
}

function descends(pid) {
  for (let at = Number(pid); at > 1; at = Number(/PPid:\s+(\d+)/.exec(readFileSync(`/proc/${at}/status`, 'utf8'))[1])) {
    if (at === process.pid) return true;
  }
  return false;
}

/** The least that the process holds within a while: it gives some back when it comes to it. */
async function settled(bytes) {
  let least = bytes;
  for (let look = 0; look < LOOKS; look++) {
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    least = Math.min(least, gpuProcessBytes());
  }
  return least;
}

/** Opens a page with a model on the GPU, and runs `rounds` rounds. Tells of each one what is held after it. */
async function rounds(count) {
  const { page, context, expectQuiet } = await open(browser);
  await page.goto(`${server.origin}/pages/worker.html?script=bindings.worker.mjs`);
  const ask = (message) => page.evaluate((m) => globalThis.ask(m), message);
  await ask({ method: 'open', model: MODEL });
  const seen = [];
  for (let round = 1; round <= count; round++) {
    // The same each time, so that what comes on top is what was not given back.
    const memory = await ask({ method: 'round', seed: 0, budget: BUDGET });
    // Encoders and bind groups that nobody refers to stay in the GPU process until the worker's garbage is collected.
    await ask({ method: 'collect' });
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const process = round === FEW || round === MANY ? await settled(gpuProcessBytes()) : gpuProcessBytes();
    seen.push({ ...memory, process });
  }
  expectQuiet();
  await context.close();
  return seen;
}

test('twenty rounds hold what two do', { timeout: 900_000 }, async (t) => {
  const tell = (what, seen) => t.diagnostic(`${what}, MB: ${seen.map((s) => (s.process / 1e6).toFixed(1)).join(' ')}`);
  tell('GPU process while it fills', await rounds(FILL));
  const seen = await rounds(MANY);
  tell('GPU process', seen);
  const [early, late] = [seen[FEW - 1], seen[MANY - 1]];
  t.diagnostic(`after ${FEW}: ${JSON.stringify(early)}; after ${MANY}: ${JSON.stringify(late)}`);
  assert.ok(early.liveBytes > 0 && early.liveBuffers > 0, 'nothing is on the GPU');
  for (const figure of ['liveBytes', 'liveBuffers']) assert.equal(late[figure], early[figure], figure);
  assert.ok(late.freeBytes <= early.freeBytes * (1 + SHARE), `kept for reuse: ${late.freeBytes} bytes, ${early.freeBytes} after ${FEW}`);
  const growth = late.process - early.process;
  const kept = (MANY - FEW) * (early.liveBytes + early.freeBytes);
  assert.ok(growth <= LEAK * kept, `the GPU process grew by ${growth} bytes; rounds that keep their buffers would add ${kept}`);
});
