/**
 * The benchmark in a worker of headless Chromium: `node bench.mjs PACKAGE REPETITIONS SHAPE...` prints one report a line
 * on standard output and progress on standard error. `cargo xtask bench` runs it.
 */
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch } from './lib/browser.mjs';

const [folder, repetitions, ...shapes] = process.argv.slice(2);

const WORKER = `
import init, { bench } from './lorahub_bench.js';
onmessage = async ({ data: { shape, repetitions } }) => {
  try {
    await init();
    postMessage({ report: await bench(shape, repetitions, (line) => postMessage({ line })) });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
`;
const TYPES = { js: 'text/javascript', wasm: 'application/wasm', html: 'text/html' };

const server = createServer(async (request, response) => {
  const name = request.url.slice(1) || 'index.html';
  const made = { 'index.html': '<!doctype html><title>bench</title>', 'worker.js': WORKER }[name];
  try {
    const body = made ?? (await readFile(join(folder, name)));
    response.setHeader('Content-Type', TYPES[name.split('.').at(-1)] ?? 'application/octet-stream');
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const browser = await launch();
try {
  const page = await browser.newPage();
  await page.exposeFunction('say', (line) => console.error(line));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  for (const shape of shapes) {
    const report = await page.evaluate(
      ({ shape, repetitions }) =>
        new Promise((resolve, reject) => {
          const worker = new Worker('/worker.js', { type: 'module' });
          worker.onerror = (event) => reject(new Error(event.message));
          worker.onmessage = ({ data }) => {
            if (data.line) globalThis.say(data.line);
            if (data.error) reject(new Error(data.error));
            if (data.report) resolve(data.report);
          };
          worker.postMessage({ shape, repetitions });
        }),
      { shape, repetitions: Number(repetitions) },
    );
    console.log(report);
  }
} finally {
  await browser.close();
  server.close();
}
