/**
 * The page on WebGPU: the visitor's choice, the CPU's numbers, and what happens when the GPU is gone.
 *
 * Chromium's adapter is SwiftShader, which proves that it is right and nothing about speed; so the searches are small.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { downloaded } from './lib/browser.mjs';
import { adapt, deviceShown, evaluations, playwright, problemsShown, ready, text, until } from './lib/journey.mjs';
import { finishedPage } from './lib/site.mjs';
import { insideWorker } from './lib/worker.mjs';

/** Relative to `max(1, |cpu|)`: as the golden tests allow the GPU. */
const LOSSES = 2e-4;
const BUDGET = '30';
const SEARCH_MS = 300_000;
/** A software GPU compiles every kernel before the model is there. */
const MOVED_MS = 300_000;

const site = finishedPage();

async function visit(script = '') {
  const opened = await site.open();
  const { order } = await insideWorker(opened.page, script);
  await opened.page.goto(site.address);
  const driver = playwright(opened.page);
  await ready(driver);
  return { ...opened, driver, order };
}

/** Chooses a device as a visitor does, and waits until the model is there. */
async function choose({ page }, choice) {
  const folded = page.getByTestId('advanced');
  if (!(await folded.evaluate((details) => details.open))) await folded.locator('summary').click();
  await page.getByTestId('device').selectOption(choice);
  await page.locator(`[data-testid="backend"][data-choice="${choice}"]`).waitFor({ timeout: MOVED_MS });
  await page.getByTestId('device').and(page.locator(':enabled')).waitFor({ timeout: MOVED_MS });
}

async function settings({ page }, budget) {
  await page.getByTestId('budget').fill(budget);
  await page.getByTestId('budget').blur();
}

/** A short search without the check of the held-out rows; resolves with its record. */
async function search({ page, driver }) {
  await driver.click('adapt');
  await until(driver, 'data-state', ['done', 'failed'], SEARCH_MS);
  if ((await page.getByTestId('check-stop').count()) > 0) await driver.click('check-stop');
  assert.deepEqual(await problemsShown(driver), []);
  return JSON.parse(await downloaded(page, 'download-record'));
}

/** The same candidates were evaluated, and came to the same. */
function agree(found, expected) {
  assert.equal(found.history.length, expected.history.length);
  let worst = 0;
  for (const [index, { phase, loss }] of expected.history.entries()) {
    assert.equal(found.history[index].phase, phase);
    const difference = Math.abs(found.history[index].loss - loss) / Math.max(1, Math.abs(loss));
    assert.ok(difference <= LOSSES, `evaluation ${index + 1}: ${found.history[index].loss}, on the CPU ${loss}`);
    worst = Math.max(worst, difference);
  }
  assert.deepEqual(found.weights, expected.weights);
  return worst;
}

let onCpu;
test('the visitor chooses the GPU: it finds what the CPU finds, and is chosen at the next visit', { timeout: 900_000 }, async (t) => {
  const there = await visit();
  const { page, driver } = there;
  assert.equal((await deviceShown(driver)).reason, 'software');
  await choose(there, 'cpu');
  await settings(there, BUDGET);
  onCpu = await search(there);
  await choose(there, 'webgpu');
  const { kind, reason } = await deviceShown(driver);
  assert.deepEqual({ kind, reason }, { kind: 'webgpu', reason: 'asked' });
  const onGpu = await search(there);
  t.diagnostic(`losses differ by at most ${agree(onGpu, onCpu).toExponential(1)}`);
  assert.notEqual(onGpu.backend, onCpu.backend);
  there.expectQuiet();

  await page.reload();
  await ready(driver, 120_000);
  assert.equal((await deviceShown(driver)).kind, 'webgpu');
  assert.match(await page.evaluate(() => localStorage.getItem('lorahub.device')), /"tuning":/);
  there.expectQuiet();
  await there.context.close();
});

/** Remembers the GPU devices that the worker opens, and destroys them on order. */
const LOSES = `
  const open = GPUAdapter.prototype.requestDevice;
  const devices = [];
  GPUAdapter.prototype.requestDevice = async function (...how) {
    const device = await open.apply(this, how);
    devices.push(device);
    return device;
  };
  orders.lose = () => devices.forEach((device) => device.destroy());`;

test('a GPU that is lost in mid-search gives way to the CPU, which goes on to the same result', { timeout: 900_000 }, async () => {
  const there = await visit(LOSES);
  const { page, driver, order } = there;
  await choose(there, 'webgpu');
  await settings(there, BUDGET);
  await driver.click('adapt');
  await evaluations(driver, 1, SEARCH_MS);
  await order('lose');
  await until(driver, 'data-state', ['done', 'failed'], SEARCH_MS);
  assert.deepEqual(await problemsShown(driver), []);
  if ((await page.getByTestId('check-stop').count()) > 0) await driver.click('check-stop');
  const { kind, reason, choice } = await deviceShown(driver);
  assert.deepEqual({ kind, reason, choice }, { kind: 'cpu', reason: 'device_lost', choice: 'webgpu' });
  assert.match(await text(driver, 'device-note'), /CPU has taken over.*went on/);
  agree(JSON.parse(await downloaded(page, 'download-record')), onCpu);

  await page.getByTestId('device-retry').click();
  await page.locator('[data-testid="backend"][data-kind="webgpu"]').waitFor({ timeout: MOVED_MS });
  await there.context.close();
});

test('without a GPU the page says so, refuses the choice of one, and goes on', { timeout: 120_000 }, async () => {
  const there = await visit(`GPU.prototype.requestAdapter = async () => null;`);
  const { page, driver } = there;
  assert.equal((await deviceShown(driver)).reason, 'no_adapter');
  await page.getByTestId('advanced').locator('summary').click();
  await page.getByTestId('device').selectOption('webgpu');
  await page.getByTestId('problem').waitFor({ timeout: 30_000 });
  assert.equal((await problemsShown(driver))[0].code, 'no_adapter');
  assert.equal(await page.getByTestId('device').inputValue(), 'auto');
  await driver.click('problem-dismiss');
  await settings(there, BUDGET);
  agree(await search(there), onCpu);
  there.expectQuiet();
  await there.context.close();
});

test('where storage is refused, the page works and remembers nothing', { timeout: 120_000 }, async () => {
  const { context, page, expectQuiet } = await site.open();
  await page.addInitScript(() => {
    Object.defineProperty(globalThis, 'localStorage', {
      get: () => {
        throw new DOMException('refused', 'SecurityError');
      },
    });
  });
  await page.goto(site.address);
  const driver = playwright(page);
  await ready(driver);
  await choose({ page }, 'cpu');
  await settings({ page }, BUDGET);
  await adapt(driver);
  expectQuiet();
  await context.close();
});
