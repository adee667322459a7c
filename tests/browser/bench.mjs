/**
 * The benchmark in a worker of headless Chromium: `node bench.mjs PACKAGE DEVICE CHOICE THREADS`, the choice as JSON, prints one
 * result a line on standard output and progress on standard error. `cargo xtask bench` runs it.
 */
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch } from './lib/browser.mjs';

const [folder, device, choice, threads] = process.argv.slice(2);

const WORKER = `
import init, { bench } from './lorahub_bench.js';
const waiting = [];
const host = {
  say: (line) => postMessage({ line }),
  report: (report) => postMessage({ report }),
  threads: 1,
  cpuSeconds: () => new Promise((resolve) => { waiting.push(resolve); postMessage({ cpu: true }); }),
};
onmessage = async ({ data }) => {
  if ('seconds' in data) return waiting.shift()(data.seconds);
  host.threads = data.threads;
  try {
    await init();
    await bench(JSON.stringify(data.device), JSON.stringify(data.choice), host);
    postMessage({ done: true });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
`;
const TYPES = { js: 'text/javascript', wasm: 'application/wasm', html: 'text/html' };
const BASIC = ['--no-sandbox', '--enable-unsafe-webgpu', '--enable-features=Vulkan'];
const SOFTWARE = [...BASIC, '--use-webgpu-adapter=swiftshader'];

const server = createServer(async (request, response) => {
  const name = request.url.slice(1) || 'index.html';
  const made = { 'index.html': '<!doctype html><title>bench</title>', 'worker.js': WORKER }[name];
  try {
    const body = made ?? (await readFile(join(folder, name)));
    // Isolated, so that threads may share memory.
    response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
    response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    response.setHeader('Content-Type', TYPES[name.split('.').at(-1)] ?? 'application/octet-stream');
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}/`;

/** A browser with the machine's own adapter; with Chromium's software one where WebGPU finds none. */
async function start() {
  const browser = await launch({ args: BASIC });
  if (device !== 'webgpu') return browser;
  const page = await browser.newPage();
  await page.goto(origin);
  const found = await page.evaluate(async () => Boolean(await navigator.gpu?.requestAdapter()));
  await page.close();
  if (found) return browser;
  await browser.close();
  return launch({ args: SOFTWARE });
}

const browser = await start();
try {
  const processes = await browser.newBrowserCDPSession();
  const page = await browser.newPage();
  await page.exposeFunction('say', (line) => console.error(line));
  await page.exposeFunction('report', (line) => console.log(line));
  await page.exposeFunction('cpuSeconds', async () => {
    const { processInfo } = await processes.send('SystemInfo.getProcessInfo');
    return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
  });
  await page.goto(origin);
  await page.evaluate(
    ({ device, choice, threads }) =>
      new Promise((resolve, reject) => {
        const worker = new Worker('/worker.js', { type: 'module' });
        worker.onerror = (event) => reject(new Error(event.message));
        worker.onmessage = async ({ data }) => {
          if (data.line) globalThis.say(data.line);
          if (data.report) await globalThis.report(data.report);
          if (data.cpu) worker.postMessage({ seconds: await globalThis.cpuSeconds() });
          if (data.error) reject(new Error(data.error));
          if (data.done) resolve();
        };
        worker.postMessage({ device, choice, threads });
      }),
    { device, choice: JSON.parse(choice), threads: Number(threads) },
  );
} finally {
  await browser.close();
  server.close();
}
