/**
 * Other models than the bundled one, on the finished page: from a hub on another origin, from the visitor's files, and
 * from the browser's storage at the next visit.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { DIST, downloaded, kept, launch, open, screenshot } from './lib/browser.mjs';
import { ask, attribute, deviceShown, playwright, problemsShown, ready, state, text, until } from './lib/journey.mjs';
import { BIG, GATED, MODULES, SLOW, golden, world } from './lib/models.mjs';
import { insideWorker } from './lib/worker.mjs';
import { namesInZip } from './lib/zip.mjs';

/** Tasks of a visitor's: examples, and rows to check on. */
const SHOTS = 'the cat sat\tcat\nthe dog ran\tdog\na bird sang\tbird';
const HELD_OUT = 'the fish swam\tfish\na horse ate\thorse';

let hub;
let browser;
before(async () => {
  hub = await world();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await hub?.close();
});
beforeEach(() => {
  hub.cdn.faults.length = 0;
  hub.cdn.log.length = 0;
});

/** A new visitor, for whom nothing is stored. */
async function visit(options) {
  const visited = await open(browser, options);
  await visited.page.goto(hub.address);
  const driver = playwright(visited.page);
  await ready(driver);
  return { ...visited, driver };
}

/** Opens a part of the panel of models. */
async function panel({ page, driver }, tab) {
  if ((await attribute(driver, 'models', 'aria-expanded')) !== 'true') await driver.click('models');
  // The radio is laid over its label, invisible; the label is what one clicks.
  await page.getByTestId(`models-tab-${tab}`).check();
  if (tab === 'hub') await page.getByTestId(`base-${GATED}`).waitFor({ timeout: 20_000 });
}

/** The model that is open, as the page's first line has it. */
const openModel = async (driver) => (await text(driver, 'engine')).replace(/\s+/g, ' ');

async function opened({ page, driver }, name) {
  await page.waitForFunction(
    (name) => document.querySelector('lorahub-composer')?.shadowRoot?.querySelector('[data-testid="engine"]')?.textContent.trim().startsWith(name),
    name,
    { timeout: 20_000 },
  );
  await ready(driver, 20_000);
}

async function paste({ page, driver }, rows, into) {
  const folded = page.getByTestId('paste');
  if (!(await folded.evaluate((details) => details.open))) await folded.locator('summary').click();
  await driver.fill('paste-text', rows);
  await driver.click(into);
}

/** Searches a little on pasted examples. */
async function adaptOwn(at) {
  const { page, driver } = at;
  await paste(at, SHOTS, 'paste-shots');
  await page.getByTestId('budget').fill('40');
  await page.getByTestId('budget').blur();
  await driver.click('adapt');
  await until(driver, 'data-state', ['done', 'failed'], 60_000);
  assert.equal(await state(driver), 'done', JSON.stringify(await problemsShown(driver)));
}

/** Downloads and opens the base with two modules. */
async function fetchGated(at) {
  await panel(at, 'hub');
  await at.driver.click('module-set-seed-42');
  await at.driver.click('fetch');
  await opened(at, GATED);
}

test('the policy of the finished page allows the public hub and its hosts, and no other', () => {
  const page = readFileSync(join(DIST, 'index.html'), 'utf8');
  assert.deepEqual(/connect-src ([^;]*);/.exec(page)?.[1].split(' '), ["'self'", 'https://huggingface.co', 'https://*.hf.co']);
});

test('a model is chosen, downloaded on consent, adapted, checked, asked and exported', { timeout: 90_000 }, async () => {
  const at = await visit({ colorScheme: 'light' });
  const { page, driver, context } = at;
  await panel(at, 'hub');
  assert.equal(await text(driver, 'fact-licence'), 'CC0-1.0');
  await driver.click('module-set-seed-42');
  assert.match(await text(driver, 'modules-chosen'), /^2 chosen, 3 shown/);
  await driver.click('modules-only');
  assert.match(await text(driver, 'modules-chosen'), /^2 chosen, 2 shown/);
  await driver.fill('module-search', 'third');
  assert.match(await text(driver, 'modules-chosen'), /^2 chosen, 1 shown/);
  await page.getByTestId('module-qv-c').check();
  await driver.fill('module-search', '');
  assert.match(await text(driver, 'fact-download'), /^461\s*kB/);
  assert.ok((await text(driver, 'fact-hosts')).startsWith(new URL(hub.cdn.origin).host));
  assert.match(await text(driver, 'fact-free'), /free/);
  assert.match(await text(driver, 'fact-memory'), /about/);
  await page.screenshot({ path: screenshot('models-1-consent-light') });
  assert.deepEqual(hub.cdn.log, [], 'requests before the consent');

  await driver.click('fetch');
  await opened(at, GATED);
  assert.match(await openModel(driver), /0\.096.million parameters.* 3 modules licence CC0-1.0 /);
  assert.equal(await page.getByTestId('models-panel').count(), 0, 'the panel stays open');
  assert.equal(await page.getByTestId('shot-input-0').inputValue(), '');
  assert.equal(await page.getByTestId('shot-input-1').count(), 0);
  assert.equal(await page.getByTestId('words').count(), 0, 'a vocabulary of parts is listed as words');
  await page.getByTestId('advanced').locator('summary').click();
  assert.equal(await page.getByTestId('rule').inputValue(), 'reference');

  await paste(at, HELD_OUT, 'paste-test');
  await adaptOwn(at);
  await until(driver, 'data-check', ['done'], 60_000);
  assert.equal(await attribute(driver, 'accuracy-composed', 'data-n'), '2');
  for (const name of MODULES) assert.notEqual(await attribute(driver, `weight-${name}`, 'data-weight'), null);
  const answers = await ask(driver, 'the cow slept');
  assert.notEqual(answers.composed, null);
  assert.ok(namesInZip(await downloaded(page, 'download-module')).some((name) => name.endsWith('adapter_model.safetensors')));
  const record = JSON.parse(await downloaded(page, 'download-record'));
  assert.equal(record.rule, 'reference');
  assert.deepEqual(record.modules.map(({ name }) => name), ['qv-b', 'qv-a', 'qv-c']);
  await page.screenshot({ path: screenshot('models-2-done-light'), fullPage: true });

  await driver.click('demo');
  await opened(at, 'lorahub-demo');
  assert.deepEqual(await problemsShown(driver), []);
  at.expectQuiet();
  await context.close();
});

test('the model that was open is open again at the next visit, without a request to the hub', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  await fetchGated(at);
  await kept(page);
  hub.cdn.log.length = 0;
  const before = hub.server.requests.length;
  await page.reload();
  await opened(at, GATED);
  assert.deepEqual(hub.cdn.log, []);
  const asked = hub.server.requests.slice(before).map(({ url }) => new URL(url).pathname);
  assert.deepEqual(asked.filter((path) => path.includes('models/') || path.includes('/lists/')), [], 'the demo or the list was asked for');
  await adaptOwn(at);
  assert.equal((await deviceShown(driver)).kind, 'cpu');

  // The browser may clear what it keeps.
  await page.evaluate(async () => (await navigator.storage.getDirectory()).removeEntry('lorahub', { recursive: true }));
  await page.reload();
  await opened(at, 'lorahub-demo');
  assert.match(await text(driver, 'model-note'), /golden\/gated is no longer stored/);
  assert.deepEqual(hub.cdn.log, []);
  assert.deepEqual(await problemsShown(driver), []);
  at.expectQuiet();
  await context.close();
});

test('where the page is refused a file system, a model is kept in the cache, and the page says what is not', { timeout: 90_000 }, async () => {
  const opening = await open(browser);
  const { page, context } = opening;
  await insideWorker(page, `StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException('refused by the test', 'SecurityError'))`);
  await page.goto(hub.address);
  const driver = playwright(page);
  const at = { ...opening, driver };
  await ready(driver);
  await panel(at, 'hub');
  await page.getByTestId('weights').selectOption('q8_0');
  await driver.click('module-set-seed-42');
  await driver.click('fetch');
  await opened(at, GATED);
  assert.match(await text(driver, 'model-note'), /the next opening converts them again/);
  hub.cdn.log.length = 0;
  await page.reload();
  await opened(at, GATED);
  assert.match(await openModel(driver), /2 modules weights held as q8_0/);
  assert.deepEqual(hub.cdn.log, []);
  await adaptOwn(at);
  assert.deepEqual(await problemsShown(driver), []);
  at.expectQuiet();
  await context.close();
});

test('a download that is cancelled, and one that is left by a reload, go on where they were', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  await panel(at, 'hub');
  await page.getByTestId(`base-${SLOW}`).check();
  hub.cdn.faults.push({ kind: 'slow', bytesPerSecond: 3e5, path: `*${BIG}`, count: null });
  await driver.click('fetch');
  const reached = async (bytes) => {
    while (hub.sent() < bytes) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  await reached(hub.big.length / 5);
  assert.match(await text(driver, 'fetch-file'), /golden\/slow\s+big\.bin, file 1 of 4/);
  assert.match(await text(driver, 'fetch-text'), /MB/);
  assert.match(await text(driver, 'models'), /Downloading/);
  await page.screenshot({ path: screenshot('models-3-fetching-light') });
  // The demo goes on meanwhile.
  assert.equal(await state(driver), 'ready');
  await driver.click('fetch-cancel');
  await page.getByTestId('fetch-note').waitFor();
  assert.match(await text(driver, 'fetch-note'), /Cancelled/);
  assert.match(await text(driver, 'models'), /unfinished/);

  const sent = hub.sent();
  await driver.click('fetch');
  await reached(sent + hub.big.length / 5);
  await page.reload();
  await ready(driver);
  assert.match(await text(driver, 'models'), /unfinished/);
  hub.cdn.faults.length = 0;
  await panel(at, 'hub');
  assert.equal(await page.getByTestId(`base-${SLOW}`).isChecked(), true);
  assert.match(await text(driver, 'fact-download'), /goes on from there/);
  await driver.click('fetch');
  await opened(at, SLOW);
  // What was under way at the two breaks came twice, no more.
  assert.ok(hub.sent() <= hub.big.length + 2 * 3 * (64 << 10), `${hub.sent()} bytes came for ${hub.big.length}`);
  // A base without modules is open, and says what it lacks.
  assert.match(await text(driver, 'no-modules'), /nothing to mix/);
  assert.equal(await page.getByTestId('adapt').isDisabled(), true);
  assert.deepEqual(await problemsShown(driver), []);
  at.expectQuiet();
  await context.close();
});

test('what a hub does wrong is a card, and the page goes on', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context, problems } = at;
  const refused = async (fault, code) => {
    hub.cdn.faults.splice(0, Infinity, fault);
    await panel(at, 'hub');
    await driver.click('fetch');
    await page.getByTestId('problem').waitFor({ timeout: 30_000 });
    const [card] = await problemsShown(driver);
    assert.equal(card.code, code);
    assert.notEqual(card.remedy, '');
    assert.equal(await state(driver), 'ready');
    await driver.click('problem-dismiss');
  };
  await refused({ kind: 'status', status: 404, path: '*model.safetensors', count: null }, 'hub_not_found');
  await refused({ kind: 'flip', at: 5000, path: '*model.safetensors', count: null }, 'hub_digest');
  await panel(at, 'stored');
  await page.getByTestId('stored-total').waitFor();
  assert.match(await text(driver, 'stored-total'), /^Nothing is stored here/);
  hub.cdn.faults.length = 0;
  await fetchGated(at);
  assert.deepEqual(problems.filter((line) => !line.includes('404')), []);
  await context.close();
});

/** Drops files of this machine on the page, in folders as a file manager would. */
async function drop({ page }, tree) {
  const read = (at, path) =>
    statSync(at).isDirectory() ? readdirSync(at).flatMap((name) => read(join(at, name), `${path}/${name}`)) : [{ path, bytes: readFileSync(at).toString('base64') }];
  const files = Object.entries(tree).flatMap(([path, at]) => read(at, path));
  await page.evaluate((files) => {
    const entryOf = (path) => {
      const inside = files.filter((file) => file.path.startsWith(`${path}/`));
      const own = files.find((file) => file.path === path);
      if (own) {
        const bytes = Uint8Array.from(atob(own.bytes), (c) => c.charCodeAt(0));
        const file = new File([bytes], path.split('/').at(-1));
        return { isFile: true, isDirectory: false, fullPath: `/${path}`, file: (resolve) => resolve(file) };
      }
      const names = [...new Set(inside.map((file) => file.path.slice(path.length + 1).split('/')[0]))];
      const batches = [names.map((name) => entryOf(`${path}/${name}`)), []];
      return { isFile: false, isDirectory: true, fullPath: `/${path}`, createReader: () => ({ readEntries: (resolve) => resolve(batches.shift()) }) };
    };
    const roots = [...new Set(files.map((file) => file.path.split('/')[0]))].map(entryOf);
    // Chromium makes entries of a real drag alone, so the event's own data is replaced.
    const event = (type) => {
      const made = new DragEvent(type, { bubbles: true, composed: true, cancelable: true });
      Object.defineProperty(made, 'dataTransfer', {
        value: { types: ['Files'], items: roots.map((root) => ({ kind: 'file', webkitGetAsEntry: () => root, getAsFile: () => null })), dropEffect: 'none' },
      });
      return made;
    };
    const composer = document.querySelector('lorahub-composer');
    composer.dispatchEvent(event('dragover'));
    composer.dispatchEvent(event('drop'));
  }, files);
  await page.getByTestId('local').first().waitFor({ timeout: 10_000 });
}

const rows = ({ page }) => page.getByTestId('local').evaluateAll((items) => items.map((item) => item.querySelector('span').textContent.replace(/\s+/g, ' ').trim()));

test('a base and modules of the visitor’s own are recognised, opened and adapted, and nothing is uploaded', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  await kept(page);
  const before = hub.server.requests.length;
  const own = ['qv-a', 'qv-b', 'qv-rank2'].map((name) => [`my-modules/${name}`, golden('gated/modules', name)]);
  await drop(at, { 'my-base': golden('gated/base'), ...Object.fromEntries(own) });
  const found = await rows(at);
  assert.equal(found.filter((row) => row.startsWith('Base my-base')).length, 1, JSON.stringify(found));
  assert.equal(found.filter((row) => row.startsWith('Module ')).length, 3, JSON.stringify(found));
  await page.screenshot({ path: screenshot('models-4-files-light') });
  assert.equal(await page.getByTestId('files-weights').inputValue(), 'f32');
  await page.getByTestId('files-weights').selectOption('q8_0');
  await driver.click('open-files');
  await opened(at, 'my-base');
  assert.match(await openModel(driver), /3 modules weights held as q8_0/);
  // Their ranks differ, so the paper's rule cannot mix them.
  await page.getByTestId('advanced').locator('summary').click();
  assert.equal(await page.getByTestId('rule').inputValue(), 'exact');
  assert.equal(await page.getByTestId('rule').locator('option[value="reference"]').isDisabled(), true);
  await adaptOwn(at);
  assert.deepEqual(hub.cdn.log, []);
  const asked = hub.server.requests.slice(before).filter(({ method, url }) => method !== 'GET' || !/\/(lists|docs)\//.test(url));
  assert.deepEqual(asked, []);
  at.expectQuiet();
  await context.close();
});

test('modules alone join the model that is open, what was typed stays, and junk is named', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  await fetchGated(at);
  await paste(at, SHOTS, 'paste-shots');
  await drop(at, { 'more/qv-c': golden('gated/modules/qv-c'), 'cases.json': golden('gated/cases.json') });
  assert.deepEqual(await rows(at), [(await rows(at))[0], 'Not used cases.json']);
  assert.equal(await text(driver, 'open-files'), 'Add to the open model');
  await driver.click('local-remove-1');
  await driver.click('open-files');
  await page.waitForFunction(() => document.querySelector('lorahub-composer').shadowRoot.querySelector('[data-testid="engine"]').textContent.includes('3 modules'));
  await ready(driver);
  assert.equal(await page.getByTestId('shot-input-0').inputValue(), 'the cat sat');

  // A module of another base is refused by name, and the model is open as before.
  await drop(at, { other: golden('relu/modules/qv-a') });
  await driver.click('open-files');
  await page.getByTestId('problem').waitFor({ timeout: 20_000 });
  const [card] = await problemsShown(driver);
  assert.match(card.message, /other/);
  await ready(driver);
  assert.match(await openModel(driver), /^golden\/gated .* 3 modules/);
  await driver.click('problem-dismiss');

  // Picked instead of dropped, and incomplete.
  await panel(at, 'files');
  if (await page.getByTestId('local-remove-0').count()) await driver.click('local-remove-0');
  await page.getByTestId('pick-files').setInputFiles(golden('gated/modules/qv-a/adapter_config.json'));
  await page.getByTestId('local-obstacle').waitFor();
  assert.match((await rows(at))[0], /Missing: adapter_model.safetensors or adapter_model.bin/);
  assert.equal(await page.getByTestId('open-files').isDisabled(), true);
  await page.getByTestId('pick-files').setInputFiles(golden('gated/modules/qv-a/adapter_model.safetensors'));
  await page.waitForFunction(() => !document.querySelector('lorahub-composer').shadowRoot.querySelector('[data-testid="open-files"]').disabled);
  at.expectQuiet();
  await context.close();
});

test('what is stored is shown, verified and deleted; the open model is spared one by one', { timeout: 90_000 }, async () => {
  const at = await visit({ colorScheme: 'dark' });
  const { page, driver, context } = at;
  await fetchGated(at);
  await panel(at, 'stored');
  await page.getByTestId(`stored-${GATED}`).waitFor();
  assert.match(await text(driver, 'stored-total'), /^442\s*kB in 3 models and modules/);
  await driver.click(`stored-verify-${GATED}`);
  await page.locator('[data-verdict="right"]').waitFor({ timeout: 20_000 });
  assert.equal(await page.getByTestId(`stored-delete-${GATED}`).isDisabled(), true);
  await page.screenshot({ path: screenshot('models-5-stored-dark') });
  await page.setViewportSize({ width: 390, height: 844 });
  for (const tab of ['stored', 'files', 'hub']) {
    await panel(at, tab);
    await page.screenshot({ path: screenshot(`models-6-${tab}-phone`) });
    for (const width of [390, 360]) {
      await page.setViewportSize({ width, height: 844 });
      // The chart takes the new width a moment later.
      const fits = () => document.documentElement.scrollWidth === document.documentElement.clientWidth;
      await page.waitForFunction(fits, undefined, { timeout: 5_000 }).catch(() => assert.fail(`${tab} scrolls sideways at ${width}`));
    }
    await page.setViewportSize({ width: 390, height: 844 });
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await driver.click('demo');
  await opened(at, 'lorahub-demo');
  await panel(at, 'stored');
  await driver.click('stored-delete-qv-a');
  await page.getByTestId('stored-qv-a').waitFor({ state: 'detached' });
  assert.match(await text(driver, 'stored-total'), /in 2 models and modules/);
  await driver.click('delete-all');
  await driver.click('delete-all-yes');
  await page.getByTestId(`stored-${GATED}`).waitFor({ state: 'detached' });
  assert.match(await text(driver, 'stored-total'), /^Nothing is stored here/);
  at.expectQuiet();
  await context.close();
});

test('a model in fewer bits is converted once, listed, and deleted with what was made of it', { timeout: 90_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  await panel(at, 'hub');
  await page.getByTestId('weights').selectOption('q8_0');
  await fetchGated(at);
  assert.match(await openModel(driver), /weights held as q8_0/);
  const listed = async () => {
    await panel(at, 'stored');
    await page.getByTestId(`converted-q8_0-${GATED}`).waitFor();
    return text(driver, `converted-q8_0-${GATED}`);
  };
  assert.match(await listed(), /converted to q8_0, 197\s*kB/);
  assert.match(await text(driver, 'stored-total'), /^639\s*kB in 3 models and modules/);
  await page.reload();
  await opened(at, GATED);
  await adaptOwn(at);
  await listed();

  // Everything goes, the open model with it: the question says so, and the model goes on.
  await driver.click('delete-all');
  assert.match(await text(driver, 'delete-all-ask'), /golden\/gated is open: it goes on working on this device until you leave it/);
  await driver.click('delete-all-yes');
  await page.getByTestId(`stored-${GATED}`).waitFor({ state: 'detached' });
  assert.match(await text(driver, 'stored-total'), /^Nothing is stored here/);
  await driver.click('models-close');
  assert.notEqual((await ask(driver, 'the cow slept')).composed, null);
  await page.reload();
  await opened(at, 'lorahub-demo');
  assert.match(await text(driver, 'model-note'), /golden\/gated is no longer stored/);
  assert.deepEqual(await problemsShown(driver), []);
  at.expectQuiet();
  await context.close();
});

test('the keyboard alone reaches and closes the choice of models', { timeout: 60_000 }, async () => {
  const at = await visit();
  const { page, driver, context } = at;
  const focused = () => page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.getAttribute('data-testid') ?? '');
  const tabTo = async (id) => {
    for (let i = 0; i < 60; i++) {
      if ((await focused()) === id) return;
      await page.keyboard.press('Tab');
    }
    assert.fail(`Tab does not reach ${id}`);
  };
  await page.evaluate(() => document.activeElement?.blur());
  await tabTo('models');
  await page.keyboard.press('Enter');
  await page.getByTestId(`base-${GATED}`).waitFor({ timeout: 20_000 });
  await tabTo('models-tab-hub');
  await page.keyboard.press('ArrowRight');
  assert.equal(await focused(), 'models-tab-files');
  await tabTo('pick-files');
  await page.keyboard.press('Escape');
  await page.getByTestId('models-panel').waitFor({ state: 'detached' });
  assert.equal(await focused(), 'models');
  assert.equal(await state(driver), 'ready');
  at.expectQuiet();
  await context.close();
});
