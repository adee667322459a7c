/** The page where it is cross-origin isolated: the CPU's products run on several threads and change no bit. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { downloaded } from './lib/browser.mjs';
import { playwright, problemsShown, ready, until } from './lib/journey.mjs';
import { ISOLATED } from './lib/server.mjs';
import { finishedPage } from './lib/site.mjs';

const BUDGET = '30';
/** Threads that are taken unasked, where there are so many processors. */
const MOST = 4;

const sites = { plain: finishedPage(), isolated: finishedPage(ISOLATED) };

/** A short search on the CPU; resolves with its record and the browser's processors. */
async function search(site) {
  const { page, context, expectQuiet } = await site.open();
  await page.goto(site.address);
  const driver = playwright(page);
  await ready(driver);
  await page.getByTestId('advanced').locator('summary').click();
  await page.getByTestId('device').selectOption('cpu');
  await page.locator('[data-testid="backend"][data-choice="cpu"]').waitFor();
  await page.getByTestId('budget').fill(BUDGET);
  await page.getByTestId('budget').blur();
  await driver.click('adapt');
  await until(driver, 'data-state', ['done', 'failed'], 120_000);
  if ((await page.getByTestId('check-stop').count()) > 0) await driver.click('check-stop');
  assert.deepEqual(await problemsShown(driver), []);
  const record = JSON.parse(await downloaded(page, 'download-record'));
  const its = await page.evaluate(() => ({ isolated: crossOriginIsolated, processors: navigator.hardwareConcurrency }));
  expectQuiet();
  await context.close();
  return { record, ...its };
}

describe('a search', () => {
  let plain;
  test('on one thread where the page is not isolated', { timeout: 180_000 }, async () => {
    plain = await search(sites.plain);
    assert.equal(plain.isolated, false);
    assert.equal(plain.record.backend, 'cpu (wasm relaxed-simd, 1 thread)');
  });

  test('on the machine’s processors where it is, with the same result', { timeout: 180_000 }, async () => {
    const { record, isolated, processors } = await search(sites.isolated);
    assert.equal(isolated, true);
    assert.ok(processors > 1, 'this test needs two processors');
    assert.equal(record.backend, `cpu (wasm relaxed-simd, ${Math.min(processors, MOST)} threads)`);
    assert.deepEqual(record.history, plain.record.history);
    assert.deepEqual(record.weights, plain.record.weights);
  });
});
