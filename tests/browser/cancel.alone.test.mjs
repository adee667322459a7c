/** A search that is cancelled, hangs or dies: the page answers at once, keeps the best, and can go on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { downloaded } from './lib/browser.mjs';
import { attribute, evaluations, playwright, problemsShown, ready, text, until } from './lib/journey.mjs';
import { finishedPage } from './lib/site.mjs';
import { insideWorker } from './lib/worker.mjs';

/** From the click to the page showing it. */
const SHOWN_MS = 200;
/** From the click to another worker with everything in it, on a machine with other work. */
const REPLACED_MS = 30_000;

const site = finishedPage();

/** A page in mid-search, with code inside its worker. */
async function searching(script = '') {
  const opened = await site.open();
  const { order } = await insideWorker(opened.page, script);
  await opened.page.goto(site.address);
  const driver = playwright(opened.page);
  await ready(driver);
  await opened.page.getByTestId('budget').fill('2000');
  await opened.page.getByTestId('budget').blur();
  await driver.click('adapt');
  await evaluations(driver, 60);
  return { ...opened, driver, order };
}

/** Clicks Cancel in the page; resolves with how long the page took to show it, and what it showed then. */
const cancel = (page) =>
  page.evaluate(() => {
    const composer = document.querySelector('lorahub-composer');
    const find = (id) => composer.shadowRoot.querySelector(`[data-testid="${id}"]`);
    return new Promise((resolve) => {
      const clicked = performance.now();
      new MutationObserver((_, observer) => {
        if (composer.dataset.state !== 'cancelled') return;
        observer.disconnect();
        // After the frame in which it is painted.
        requestAnimationFrame(() => setTimeout(() => resolve({ milliseconds: performance.now() - clicked, headline: find('headline').textContent, best: find('best').textContent })));
      }).observe(composer, { attributeFilter: ['data-state'] });
      find('cancel').click();
    });
  });

/** All that a cancelled run leaves can be had: weights, record, module, a check on held-out rows. */
async function kept({ page, driver }) {
  const record = JSON.parse(await downloaded(page, 'download-record'));
  assert.equal(record.stop_reason, 'cancelled');
  assert.ok(record.weights.some((w) => w !== 0), 'no weights were kept');
  assert.ok(record.history.length >= 60);
  for (const [index, { name }] of record.modules.entries()) {
    assert.equal(Number(await attribute(driver, `weight-${name}`, 'data-weight')), record.weights[index]);
  }
  assert.ok((await downloaded(page, 'download-module')).length > 1000);
  return record;
}

test('a cancel is shown at once, with the best so far', { timeout: 120_000 }, async (t) => {
  const visit = await searching();
  const { milliseconds, headline, best } = await cancel(visit.page);
  t.diagnostic(`shown after ${milliseconds.toFixed(0)} ms`);
  assert.ok(milliseconds <= SHOWN_MS, `shown after ${milliseconds} ms`);
  assert.match(headline, /Stopped after/);
  assert.match(best, /\d/);
  await kept(visit);
  assert.deepEqual(await problemsShown(visit.driver), []);
  visit.expectQuiet();
  await visit.context.close();
});

test('a cancelled search goes on where it was', { timeout: 120_000 }, async () => {
  const visit = await searching();
  const { page, driver } = visit;
  await cancel(page);
  const before = await kept(visit);
  await driver.click('go-on');
  await until(driver, 'data-state', ['running'], 5_000);
  await evaluations(driver, before.history.length + 32);
  await cancel(page);
  const after = await kept(visit);
  assert.deepEqual(after.history.slice(0, before.history.length), before.history);
  await driver.fill('shot-input-0', 'the cat sees the dog');
  assert.equal(await page.getByTestId('go-on').count(), 0, 'it offers to go on with other examples');
  visit.expectQuiet();
  await visit.context.close();
});

test('a worker that does not answer is replaced, and nothing is lost', { timeout: 120_000 }, async (t) => {
  // It hangs for ever as soon as it is asked to stop. The worker that takes its place is asked nothing.
  const visit = await searching(`addEventListener('message', ({ data }) => { while (data.type === 'abort'); })`);
  const { page, driver } = visit;
  const started = performance.now();
  const { milliseconds, headline } = await cancel(page);
  assert.ok(milliseconds <= SHOWN_MS, `shown after ${milliseconds} ms`);
  assert.match(headline, /Stopped after/);
  await page.getByTestId('download-record').and(page.locator(':enabled')).waitFor({ timeout: REPLACED_MS });
  t.diagnostic(`replaced after ${(performance.now() - started).toFixed(0)} ms`);
  await until(driver, 'data-state', ['cancelled'], 1_000);
  const before = await kept(visit);
  await driver.click('go-on');
  await evaluations(driver, before.history.length + 32);
  assert.deepEqual(await problemsShown(driver), []);
  visit.expectQuiet();
  await visit.context.close();
});

test('a worker that dies in mid-search leaves the best, and another goes on', { timeout: 120_000 }, async () => {
  const visit = await searching(`orders.die = () => setTimeout(() => { throw new Error('it dies for a test'); })`);
  const { page, driver, order, problems } = visit;
  await order('die');
  await until(driver, 'data-state', ['unavailable'], 10_000);
  assert.equal((await problemsShown(driver))[0]?.code, 'engine_crashed');
  assert.match(await text(driver, 'headline'), /broke off after/);
  const weights = await page.locator('[data-weight]').evaluateAll((rows) => rows.map((row) => Number(row.dataset.weight)));
  assert.ok(weights.some((w) => w !== 0), 'the weights are gone');
  const reached = await evaluations(driver, 0);
  await driver.click('go-on');
  await until(driver, 'data-state', ['running'], 30_000);
  await evaluations(driver, reached + 32);
  await cancel(page);
  await kept(visit);
  assert.deepEqual(await problemsShown(driver), []);
  assert.ok(problems.every((p) => p.includes('it dies for a test')), problems.join('\n'));
  await visit.context.close();
});
