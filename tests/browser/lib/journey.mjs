/**
 * What a visitor does, in words of the page, over any browser driver.
 *
 * `www/src/testids.ts` lists the names. A driver has four methods: `click(id)`, `fill(id, text)`, and
 * `evaluate(f, argument)` and `waitFor(f, argument, milliseconds)` which run `f` in the page.
 */
import assert from 'node:assert/strict';

/** @typedef {{ click(id: string): Promise<void>, fill(id: string, text: string): Promise<void>, evaluate(f: Function, argument: unknown): Promise<any>, waitFor(f: Function, argument: unknown, ms: number): Promise<void> }} Driver */

/** Candidates of the held-out table. */
export const CANDIDATES = ['base', 'single', 'uniform', 'pass', 'composed'];

/** @param {import('playwright-core').Page} page @returns {Driver} */
export function playwright(page) {
  return {
    click: (id) => page.getByTestId(id).click(),
    // Chromium takes its time with thousands of lines at once, and most of a minute on a busy machine.
    fill: (id, text) => page.getByTestId(id).fill(text, { timeout: 120_000 }),
    evaluate: (f, argument) => page.evaluate(f, argument),
    waitFor: async (f, argument, timeout) => void (await page.waitForFunction(f, argument, { timeout, polling: 50 })),
  };
}

/** The text of an element of the page, trimmed; `null` where there is none. */
export function text(driver, id) {
  return driver.evaluate((id) => {
    const element = document.querySelector('lorahub-composer')?.shadowRoot?.querySelector(`[data-testid="${id}"]`);
    return element ? element.textContent.trim() : null;
  }, id);
}

/** An attribute of an element of the page. */
export function attribute(driver, id, name) {
  return driver.evaluate(({ id, name }) => {
    const root = document.querySelector('lorahub-composer')?.shadowRoot;
    return root?.querySelector(`[data-testid="${id}"]`)?.getAttribute(name) ?? null;
  }, { id, name });
}

/** The page's state, one of those that `testids.ts` lists. */
export function state(driver) {
  return driver.evaluate(() => document.querySelector('lorahub-composer')?.getAttribute('data-state'));
}

/** Waits until an attribute of `<lorahub-composer>` has one of some values; names what it was if that never happens. */
export async function until(driver, name, values, milliseconds) {
  const reached = ({ name, values }) => values.includes(document.querySelector('lorahub-composer')?.getAttribute(name) ?? '');
  try {
    await driver.waitFor(reached, { name, values }, milliseconds);
  } catch (cause) {
    const now = await driver.evaluate((name) => document.querySelector('lorahub-composer')?.getAttribute(name), name);
    const problems = await problemsShown(driver);
    const shown = problems.length > 0 ? `; the page says ${JSON.stringify(problems)}` : '';
    throw new Error(`${name} is ${now} after ${milliseconds} ms, expected ${values.join(' or ')}${shown}`, { cause });
  }
}

/** Waits until the model is loaded. */
export const ready = (driver, milliseconds = 60_000) => until(driver, 'data-state', ['ready'], milliseconds);

/** The error cards on the page. */
export function problemsShown(driver) {
  return driver.evaluate(() => {
    const root = document.querySelector('lorahub-composer')?.shadowRoot;
    const cards = [...(root?.querySelectorAll('[data-testid="problem"]') ?? [])];
    const part = (card, id) => card.querySelector(`[data-testid="${id}"]`)?.textContent.trim() ?? '';
    return cards.map((c) => ({ code: part(c, 'problem-code'), message: part(c, 'problem-message'), remedy: part(c, 'problem-remedy') }));
  });
}

/**
 * Presses Adapt, waits for the search and the held-out rows.
 *
 * @param {Driver} driver
 * @param {{ search?: number, check?: number }} [limits] milliseconds
 */
export async function adapt(driver, { search = 120_000, check = 180_000 } = {}) {
  const pressed = performance.now();
  await driver.click('adapt');
  await until(driver, 'data-state', ['running'], 5_000);
  await until(driver, 'data-state', ['done', 'failed', 'cancelled'], search);
  const seconds = (performance.now() - pressed) / 1000;
  assert.equal(await state(driver), 'done', JSON.stringify(await problemsShown(driver)));
  await until(driver, 'data-check', ['done', 'failed'], check);
  const checkSeconds = (performance.now() - pressed) / 1000 - seconds;
  const accuracy = {};
  for (const candidate of CANDIDATES) {
    const correct = await attribute(driver, `accuracy-${candidate}`, 'data-correct');
    const n = await attribute(driver, `accuracy-${candidate}`, 'data-n');
    assert.ok(correct !== null && n !== null, `no held-out accuracy of ${candidate} is shown`);
    accuracy[candidate] = { correct: Number(correct), n: Number(n), percent: (100 * Number(correct)) / Number(n) };
  }
  return {
    seconds,
    checkSeconds,
    accuracy,
    evaluations: await text(driver, 'evaluations'),
    headline: await text(driver, 'headline'),
    backend: await text(driver, 'backend'),
  };
}

/** Asks an input of one's own and returns both answers. */
export async function ask(driver, input, milliseconds = 60_000) {
  await driver.fill('try-input', input);
  await driver.click('try-run');
  const settled = (id) => {
    const root = document.querySelector('lorahub-composer')?.shadowRoot;
    return ['done', 'stopped'].includes(root?.querySelector(`[data-testid="${id}"]`)?.getAttribute('data-status') ?? '');
  };
  await driver.waitFor(settled, 'try-base', milliseconds);
  await driver.waitFor(settled, 'try-composed', milliseconds);
  return { base: await text(driver, 'try-base'), composed: await text(driver, 'try-composed') };
}

/** Waits until the running search has made so many evaluations; returns how many it has made. */
export async function evaluations(driver, least, milliseconds = 60_000) {
  const enough = (least) => {
    const figure = document.querySelector('lorahub-composer')?.shadowRoot?.querySelector('[data-testid="evaluations"]');
    return Number(figure?.textContent.split('/')[0].replace(/\D/g, '')) >= least;
  };
  await driver.waitFor(enough, least, milliseconds);
  return Number((await text(driver, 'evaluations')).split('/')[0].replace(/\D/g, ''));
}

/** The device in use, as the page's first line has it. */
export async function deviceShown(driver) {
  const [kind, reason, choice] = await Promise.all(['kind', 'reason', 'choice'].map((name) => attribute(driver, 'backend', `data-${name}`)));
  return { kind, reason, choice, name: await text(driver, 'backend') };
}
