/**
 * The main job on a served page: `node check.mjs URL` adapts the default task, asks an input, prints what came of it,
 * and fails if the page does. `cargo xtask serve --check` runs it.
 */
import { launch, open } from './lib/browser.mjs';
import { adapt, ask, playwright, ready, text } from './lib/journey.mjs';

const [url] = process.argv.slice(2);
const browser = await launch();
try {
  const { page, expectQuiet } = await open(browser);
  await page.goto(url);
  const driver = playwright(page);
  await ready(driver);
  const { seconds, checkSeconds, accuracy, headline, backend } = await adapt(driver);
  const example = await text(driver, 'try-example-0');
  const answers = await ask(driver, example);
  expectQuiet();
  console.log(`  device      ${backend}`);
  console.log(`  search      ${seconds.toFixed(1)} s, held-out rows ${checkSeconds.toFixed(1)} s`);
  for (const [name, { correct, n, percent }] of Object.entries(accuracy)) {
    console.log(`  ${name.padEnd(11)} ${percent.toFixed(1)} % (${correct} of ${n})`);
  }
  console.log(`  ${headline.replaceAll(/\s+/g, ' ')}`);
  console.log(`  "${example}": base "${answers.base}", composed "${answers.composed}"`);
} finally {
  await browser.close();
}
