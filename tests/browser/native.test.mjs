/**
 * The page and the command line are one program: the same losses, the same weights, the same accuracies.
 *
 * LORAHUB_CLI names the native binary; `cargo xtask test` builds it and sets the variable.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT, downloaded } from './lib/browser.mjs';
import { adapt, playwright, ready } from './lib/journey.mjs';
import { finishedPage } from './lib/site.mjs';

const CLI = process.env.LORAHUB_CLI ?? join(ROOT, 'target/debug/lorahub');
/** Relative to `max(1, |native|)`: f32 sums in another order. */
const LOSSES = 1e-5;
/** The first generation of CMA-ES, whose candidates depend on the seed and the pass alone. */
const GENERATION = 16;

let folder;
const site = finishedPage();
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lorahub-'));
});
after(async () => {
  rmSync(folder, { recursive: true });
});

test("the default task: the page's run is the command line's", { timeout: 300_000 }, async (t) => {
  const { context, page, expectQuiet } = await site.open();
  await page.goto(site.address);
  const driver = playwright(page);
  await ready(driver);
  const shown = (await adapt(driver)).accuracy;
  const record = JSON.parse(await downloaded(page, 'download-record'));
  expectQuiet();
  await context.close();

  const native = run(record.modules.map((m) => m.name));
  assert.equal(record.seed, native.record.seed);
  assert.equal(record.rule, native.record.rule);
  assert.deepEqual(record.base.sha256, native.record.base.sha256);
  assert.deepEqual(record.modules, native.record.modules);
  assert.equal(record.shots_sha256, native.record.shots_sha256);

  const firstSearch = native.record.history.findIndex((h) => h.phase === 'search');
  assert.ok(firstSearch > record.modules.length, 'the native run has no search phase');
  let worst = 0;
  for (const [index, expected] of native.record.history.slice(0, firstSearch + GENERATION).entries()) {
    const found = record.history[index];
    assert.equal(found.phase, expected.phase);
    const difference = Math.abs(found.loss - expected.loss) / Math.max(1, Math.abs(expected.loss));
    assert.ok(difference <= LOSSES, `evaluation ${expected.evaluation}: ${found.loss}, native ${expected.loss}`);
    worst = Math.max(worst, difference);
  }
  t.diagnostic(`losses differ by at most ${worst.toExponential(1)} up to generation 1 of the search`);

  const names = { base: 'base', single: 'best_single', uniform: 'uniform', composed: 'composed' };
  for (const [ours, theirs] of Object.entries(names)) {
    const rows = Math.abs(shown[ours].correct - (native.eval.exact_match[theirs] * native.eval.n) / 100);
    assert.equal(shown[ours].n, native.eval.n);
    assert.ok(rows <= 1 + 1e-9, `${ours}: ${shown[ours].percent} % on the page, ${native.eval.exact_match[theirs]} % natively`);
  }
  t.diagnostic(`held-out, page and native: ${JSON.stringify(shown)}, ${JSON.stringify(native.eval.exact_match)}`);
});

/** `lorahub adapt`, then `eval`, on the first task of the family. */
function run(moduleNames) {
  const demo = join(ROOT, 'www/models/demo');
  const family = JSON.parse(readFileSync(join(demo, 'family.json'), 'utf8'));
  const task = JSON.parse(readFileSync(join(demo, family.tasks[0]), 'utf8'));
  const lines = (rows) => rows.map(({ input, output }) => `${JSON.stringify({ input, output })}\n`).join('');
  const [shots, rows, out] = ['shots.jsonl', 'test.jsonl', 'out'].map((name) => join(folder, name));
  writeFileSync(shots, lines(task.shots));
  writeFileSync(rows, lines(task.test));
  assert.deepEqual(moduleNames, family.modules.map((m) => m.name));
  const model = ['--base', join(demo, family.base), ...family.modules.flatMap((m) => ['--module', join(demo, m.path)])];
  const lorahub = (...args) => JSON.parse(execFileSync(CLI, [...args, '--json'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  const { weights } = lorahub('adapt', ...model, '--shots', shots, '--out', out);
  return {
    record: JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')),
    eval: lorahub('eval', ...model, `--weights=${weights.join(',')}`, '--shots', shots, '--test', rows, '--baselines'),
  };
}
