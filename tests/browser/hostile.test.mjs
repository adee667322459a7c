/**
 * Whatever comes in from outside, the page says what is wrong and what to do, and can go on.
 *
 * Files of the family as a broken host would serve them, and what a visitor may type or paste. Every code asserted here
 * is part of the page's contract.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { BASE, DIST, launch, open } from './lib/browser.mjs';
import { faulty, half, header, instead, json, withNaN } from './lib/family.mjs';
import { ask, attribute, playwright, problemsShown, ready, state, text, until } from './lib/journey.mjs';
import { serve } from './lib/server.mjs';

const MODULE = JSON.parse(readFileSync(join(DIST, 'models/demo/family.json'), 'utf8')).modules[0].path;
const CONFIG = `${MODULE}/adapter_config.json`;
const ADAPTER = `${MODULE}/adapter_model.safetensors`;
const BASE_WEIGHTS = 'base/model.safetensors';

const endless = (bytes) => Buffer.concat([Buffer.from('ffffffffffffff7f', 'hex'), bytes.subarray(8)]);
const tensorOf = (old) => Object.keys(old).find((name) => name !== '__metadata__');
const twice = (old) => `${JSON.stringify(old).slice(0, -1)},${JSON.stringify({ [tensorOf(old)]: old[tensorOf(old)] }).slice(1)}`;
const renamed = (old) => JSON.stringify(old).replace(tensorOf(old), 'strange');

/** A file of the family, what is done to it, and the code and words of the error card. SHA256SUMS is renewed unless `kept`. */
const FAMILY = [
  ['a missing list of sums', 'SHA256SUMS', () => 404, 'download', '404'],
  ['a family that is not there', 'family.json', () => 404, 'download', 'family.json'],
  ['a server that fails', 'family.json', () => 503, 'download', '503'],
  ['a page instead of the family', 'family.json', instead('<!doctype html>'), 'family', 'family.json'],
  ['a family of another schema', 'family.json', json({ schema: 2 }), 'family', 'schema'],
  ['a family without modules', 'family.json', json({ modules: undefined }), 'family', 'modules'],
  ['an unknown rule', 'family.json', json({ rule: 'both' }), 'family', 'both'],
  ['a file changed on its way', BASE_WEIGHTS, half, 'family_corrupt', BASE_WEIGHTS, 'kept'],
  ['a base that breaks off', BASE_WEIGHTS, half, 'base_weights', ''],
  ['an empty base', BASE_WEIGHTS, instead(''), 'base_weights', ''],
  ['a base that is not safetensors', BASE_WEIGHTS, instead('PK\x03\x04 this is a zip archive'), 'base_weights', ''],
  ['a base with a number that is none', BASE_WEIGHTS, withNaN, 'base_weights', ''],
  ['a base config that is not JSON', 'base/config.json', instead('{'), 'base_config', ''],
  ['a base config without a size', 'base/config.json', json({ d_model: undefined }), 'base_config', 'd_model'],
  ['a base config of another size', 'base/config.json', json(({ d_model: d }) => ({ d_model: d + 1 })), 'base_weights', ''],
  ['a base with a size beyond reason', 'base/config.json', json({ num_layers: 1e9 }), 'base_config', 'num_layers'],
  ['a tokenizer that is none', 'base/tokenizer.json', instead('[]'), 'base_tokenizer', ''],
  ['an adapter that breaks off', ADAPTER, half, 'weights_data_cut', 'lora_A'],
  ['an adapter that is a pickle', ADAPTER, instead('\x80\x02}q\x00.'), 'weights_too_short', ''],
  ['an adapter with an endless header', ADAPTER, endless, 'weights_header_too_long', '9223372036854775807'],
  ['an adapter with a tensor named twice', ADAPTER, header(twice), 'weights_duplicate_tensor', 'twice'],
  ['an adapter with a number that is none', ADAPTER, withNaN, 'weights_non_finite', 'NaN'],
  ['an adapter with a strange tensor', ADAPTER, header(renamed), 'tensors_unknown_key', 'strange'],
  ['an adapter of another kind', CONFIG, json({ peft_type: 'LOHA' }), 'config_peft_type', 'LOHA'],
  ['an adapter of another rank', CONFIG, json(({ r }) => ({ r: r * 2 })), 'tensors_rank', 'r is 8'],
  ['an adapter with DoRA', CONFIG, json({ use_dora: true }), 'config_dora', 'DoRA'],
  ['an adapter without alpha', CONFIG, json({ lora_alpha: undefined }), 'config_missing_key', 'lora_alpha'],
  ['an adapter for other linears', CONFIG, json({ target_modules: ['wi_0'] }), 'tensors_extra_targets', 'SelfAttention.q'],
  ['an adapter config that is not JSON', CONFIG, instead('r: 4'), 'config_json', 'JSON'],
];

let fault;
let server;
let browser;
before(async () => {
  server = await serve({ [BASE]: DIST }, { alter: faulty(DIST, BASE, () => fault) });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Problems of the page itself: the browser logs every failed request, which is no fault of ours. */
const faults = (problems) => problems.filter((p) => !p.includes('Failed to load resource'));

/** Exactly one card, with a code, what happened, and what to do. */
async function card(driver) {
  const shown = await problemsShown(driver);
  assert.equal(shown.length, 1, JSON.stringify(shown));
  assert.match(shown[0].code, /^[a-z][a-z_]+$/);
  assert.ok(shown[0].message.length > 10 && shown[0].remedy.length > 5, JSON.stringify(shown));
  return shown[0];
}

describe('a family with something wrong in it', () => {
  for (const [name, path, change, code, words, kept] of FAMILY) {
    test(name, { timeout: 60_000 }, async () => {
      const { context, page, problems } = await open(browser, { serviceWorkers: 'block' });
      fault = { files: { [path]: change }, renewed: kept === undefined };
      await page.goto(server.origin + BASE);
      const driver = playwright(page);
      await until(driver, 'data-state', ['unavailable', 'ready'], 30_000);
      assert.equal(await state(driver), 'unavailable', 'the page took it for good');
      const shown = await card(driver);
      assert.equal(shown.code, code);
      assert.ok(`${shown.message} ${shown.remedy}`.toLowerCase().includes(words.toLowerCase()), JSON.stringify(shown));
      fault = undefined;
      await driver.click('problem-restart');
      await ready(driver);
      assert.deepEqual(await problemsShown(driver), []);
      assert.deepEqual(faults(problems), []);
      await context.close();
    });
  }
});

/** What a visitor may do, and the code and words of the card that answers it. */
const TYPED = [
  ['an example without an output', (v) => v.driver.fill('shot-output-0', ' '), 'adapt', 'shots', 'example 1'],
  ['no example at all', blank, 'adapt', 'shots', 'no examples'],
  ['too small a budget', (v) => number(v, 'budget', '3'), 'adapt', 'settings', 'evaluations'],
  ['a budget beyond reason', (v) => number(v, 'budget', '1e12'), 'adapt', 'settings', 'evaluations'],
  ['no budget', (v) => number(v, 'budget', ''), 'adapt', 'settings', 'evaluations'],
  ['a negative seed', (v) => number(v, 'seed', '-1'), 'adapt', 'settings', 'seed'],
  ['a seed with a fraction', (v) => number(v, 'seed', '0.5'), 'adapt', 'settings', 'seed'],
  ['a seed beyond the whole numbers', (v) => number(v, 'seed', '1e300'), 'adapt', 'settings', 'seed'],
  ['nothing pasted', (v) => paste(v, ' \n '), 'paste-shots', 'rows', 'no rows'],
  ['pasted JSON that breaks off', (v) => paste(v, '{"input": "a", "output": "b"}\n{"input": "a"'), 'paste-shots', 'rows', 'line 2'],
  ['pasted JSON of another form', (v) => paste(v, '{"question": "a", "answer": "b"}'), 'paste-shots', 'rows', 'output'],
  ['a pasted row without an output', (v) => paste(v, 'a\tb\nc\t '), 'paste-test', 'rows', 'line 2'],
  ['a pasted row in three parts', (v) => paste(v, 'a\tb\tc'), 'paste-test', 'rows', '3 parts'],
  ['more pasted rows than fit', (v) => paste(v, 'a\tb\n'.repeat(2001)), 'paste-test', 'rows', '2000'],
];

describe('what is typed or pasted', () => {
  let visit;
  before(async () => {
    fault = undefined;
    visit = await open(browser, { serviceWorkers: 'block' });
    visit.driver = playwright(visit.page);
    await visit.page.goto(server.origin + BASE);
    await ready(visit.driver);
    await number(visit, 'budget', '30');
  });
  after(() => visit.context.close());
  // Each test leaves the page as it found it, failed or not.
  afterEach(async () => {
    const { driver, page } = visit;
    while ((await page.getByTestId('problem-dismiss').count()) > 0) await page.getByTestId('problem-dismiss').first().click();
    await number(visit, 'budget', '30');
    await number(visit, 'seed', '0');
    if (await page.getByTestId('shots-restore').isEnabled()) await driver.click('shots-restore');
  });

  for (const [name, act, button, code, words] of TYPED) {
    test(name, { timeout: 60_000 }, async () => {
      const { driver, page } = visit;
      await act(visit);
      await driver.click(button);
      await page.getByTestId('problem').waitFor({ timeout: 10_000 });
      const shown = await card(driver);
      assert.equal(shown.code, code);
      assert.ok(`${shown.message} ${shown.remedy}`.toLowerCase().includes(words.toLowerCase()), JSON.stringify(shown));
    });
  }

  /** Text that is odd but no mistake: the page computes with it. */
  const ODD = {
    markup: '<img src=x onerror="globalThis.broken=1"><script>globalThis.broken=1</script>',
    'an unpaired surrogate': 'the cat \ud800 sees',
    'control characters': 'the \u0000\u0007\u001b[31m cat',
    'right to left': 'the \u202e cat \u05d0\u05d1',
    'combining marks': `e${'\u0301'.repeat(500)}`,
    emoji: '\ud83d\udc69\u200d\ud83d\udc69\u200d\ud83d\udc67 \ud83e\udd80',
    'a very long word': 'x'.repeat(20_000),
  };
  for (const [name, odd] of Object.entries(ODD)) {
    test(name, { timeout: 120_000 }, async () => {
      const { driver, page } = visit;
      await driver.fill('shot-input-0', odd);
      await driver.fill('shot-output-1', odd.slice(0, 50));
      await driver.click('adapt');
      await until(driver, 'data-state', ['done'], 60_000);
      await until(driver, 'data-check', ['done'], 60_000);
      const answers = await ask(driver, odd);
      assert.equal(await attribute(driver, 'try-base', 'data-status'), 'done', JSON.stringify(answers));
      assert.equal(await page.evaluate(() => globalThis.broken), undefined, 'what was typed ran as a script');
      assert.deepEqual(await problemsShown(driver), []);
    });
  }

  test('an input beyond the memory is refused, and the page goes on', { timeout: 120_000 }, async () => {
    const { driver, page } = visit;
    await page.getByTestId('try-input').evaluate((field) => {
      field.value = 'the cat '.repeat(60_000);
      field.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
    });
    await driver.click('try-run');
    await page.getByTestId('problem').waitFor({ timeout: 60_000 });
    assert.equal((await card(driver)).code, 'memory');
    await driver.click('problem-dismiss');
    const answers = await ask(driver, 'the cat sees the dog');
    assert.equal(await attribute(driver, 'try-base', 'data-status'), 'done', JSON.stringify(answers));
  });

  test('after all that it still adapts', { timeout: 120_000 }, async () => {
    await visit.driver.click('adapt');
    await until(visit.driver, 'data-state', ['done'], 60_000);
    assert.notEqual(await text(visit.driver, 'headline'), '');
    visit.expectQuiet();
  });
});

async function number({ page }, id, value) {
  await page.getByTestId(id).fill(value);
  await page.getByTestId(id).blur();
}

async function blank({ driver, page }) {
  const rows = await page.locator('[data-testid^="shot-input-"]').count();
  for (let row = 0; row < rows; row++) {
    await driver.fill(`shot-input-${row}`, '');
    await driver.fill(`shot-output-${row}`, '');
  }
}

async function paste({ driver, page }, content) {
  const folded = page.getByTestId('paste');
  if (!(await folded.evaluate((details) => details.open))) await folded.locator('summary').click();
  await driver.fill('paste-text', content);
}
