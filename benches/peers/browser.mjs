/**
 * The browser's subjects: `node browser.mjs MODELS PACKAGES OURS` starts Chromium with a page of its own origin, and a
 * worker for each subject in it. A line of JSON on standard input is an order, a line on standard output its answer;
 * `cargo xtask bench peers` gives them.
 *
 * The page is cross-origin isolated, which threads in WebAssembly need. Wall time is taken in the worker, CPU time is that
 * of all of the browser's processes.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, join, normalize } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { launch } from '../../tests/browser/lib/browser.mjs';

const [models, packages, ours] = process.argv.slice(2);
const FOLDERS = { models, packages, ours, peers: dirname(fileURLToPath(import.meta.url)) };
const TYPES = { html: 'text/html', js: 'text/javascript', json: 'application/json', mjs: 'text/javascript', wasm: 'application/wasm' };
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

const server = createServer(async (request, response) => {
  const [, folder, ...rest] = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname)).split('/');
  if (folder === '') {
    return response.writeHead(200, { ...ISOLATED, 'Content-Type': TYPES.html }).end('<!doctype html><title>peers</title>');
  }
  try {
    const path = join(FOLDERS[folder], ...rest);
    const { size } = await stat(path);
    const type = TYPES[path.split('.').at(-1)] ?? 'application/octet-stream';
    response.writeHead(200, { ...ISOLATED, 'Content-Type': type, 'Content-Length': size });
    createReadStream(path).pipe(response);
  } catch {
    response.writeHead(404, ISOLATED).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

/** In the page: a worker for each subject, and a promise for what it is doing. */
function host() {
  const workers = {};
  globalThis.start = (subject) => {
    workers[subject] = new Worker('/peers/worker.mjs', { type: 'module', name: subject });
  };
  globalThis.order = (subject, message) =>
    new Promise((resolve) => {
      const worker = workers[subject];
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => resolve({ error: event.message ?? 'the worker did not start' });
      worker.postMessage(message);
    });
  globalThis.end = (subject) => {
    workers[subject].terminate();
    delete workers[subject];
  };
}

const browser = await launch();
const processes = await browser.newBrowserCDPSession();
const page = await browser.newPage();
await page.addInitScript(host);
await page.goto(`http://127.0.0.1:${server.address().port}/`);
if (!(await page.evaluate(() => globalThis.crossOriginIsolated))) throw new Error('the page is not cross-origin isolated');

async function cpuSeconds() {
  const { processInfo } = await processes.send('SystemInfo.getProcessInfo');
  return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

const order = (subject, message) => page.evaluate(([subject, message]) => globalThis.order(subject, message), [subject, message]);

/** @param {{ subject: string, setup?: object, job?: object, run?: number, end?: true }} asked */
async function obey({ subject, setup, job, run, end }) {
  if (setup) {
    await page.evaluate((subject) => globalThis.start(subject), subject);
    return order(subject, { setup, job });
  }
  if (end) {
    await page.evaluate((subject) => globalThis.end(subject), subject);
    return {};
  }
  const before = await cpuSeconds();
  const answer = await order(subject, { run });
  return answer.error ? answer : { ...answer, cpu: (await cpuSeconds()) - before };
}

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ program: `Chromium ${browser.version()}` });
for await (const line of createInterface({ input: process.stdin })) {
  answer(await obey(JSON.parse(line)).catch((error) => ({ error: String(error) })));
}
await browser.close();
server.close();
