/** The whole job once in a stock Firefox, on the CPU. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BASE, DIST } from './lib/browser.mjs';
import { downloadedFile, launchFirefox } from './lib/firefox.mjs';
import { adapt, ask, deviceShown, evaluations, problemsShown, ready, text, until } from './lib/journey.mjs';
import { serve } from './lib/server.mjs';
import { namesInZip } from './lib/zip.mjs';

let server;
let firefox;
before(async () => {
  server = await serve({ [BASE]: DIST });
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
  await server?.close();
});

test('the whole job in Firefox', { timeout: 600_000 }, async (t) => {
  const { driver, send, downloads, log } = firefox;
  await send('WebDriver:Navigate', { url: server.origin + BASE });
  await ready(driver);
  assert.equal((await deviceShown(driver)).kind, 'cpu');

  const { seconds, accuracy } = await adapt(driver);
  t.diagnostic(`${seconds.toFixed(1)} s, ${JSON.stringify(accuracy)}`);
  assert.ok(accuracy.composed.percent >= accuracy.base.percent + 25, JSON.stringify(accuracy));
  assert.ok(accuracy.composed.percent >= accuracy.single.percent + 10, JSON.stringify(accuracy));

  const example = await text(driver, 'try-example-0');
  const answers = await ask(driver, example);
  assert.ok(answers.composed !== '' && answers.composed !== answers.base, JSON.stringify(answers));

  await driver.click('download-module');
  const names = namesInZip(await downloadedFile(downloads, '.zip'));
  assert.ok(names.some((n) => n.endsWith('adapter_model.safetensors')), names.join(', '));
  await driver.click('download-record');
  const record = JSON.parse(await downloadedFile(downloads, '.json'));
  assert.ok(record.modules.length >= 20);

  await driver.fill('budget', '2000');
  await driver.click('adapt');
  await until(driver, 'data-state', ['running'], 5_000);
  await evaluations(driver, 40);
  await driver.click('cancel');
  await until(driver, 'data-state', ['cancelled'], 1_000);
  assert.deepEqual(await problemsShown(driver), []);
  const errors = log().split('\n').filter((line) => (line.includes(server.origin) && /error/i.test(line)) || line.includes('panicked'));
  assert.deepEqual(errors, [], 'Firefox logged errors of the page');
});
