import { beforeEach, describe, expect, it, vi } from 'vitest';
import { MOCK_FAMILY } from './engine/mock/host.ts';
import type { Journey } from './journey.ts';
import { mock, ready, type Started } from './testing.ts';

describe('Journey', () => {
  let journey: Journey;
  let started: Started[];
  beforeEach(async () => {
    ({ journey, started } = await ready());
  });

  it('starts on the first task with its examples', () => {
    expect(journey.draft?.task.id).toBe(MOCK_FAMILY.tasks[0]?.id);
    expect(journey.draft?.shots).toHaveLength(5);
    expect(journey.edited).toBe(false);
  });

  it('adapts, then checks the held-out rows by itself', async () => {
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
    expect(journey.run?.points).toHaveLength(200);
    expect(journey.check?.result?.n).toBe(200);
    expect(Object.keys(journey.check?.result?.accuracy ?? {})).toEqual(['base', 'single', 'uniform', 'pass', 'composed']);
    expect(journey.problems).toEqual([]);
  });

  it('keeps the best of a cancelled run and leaves the check to the visitor', async () => {
    journey.configure({ budget: 2000 });
    const run = journey.adapt();
    await vi.waitFor(() => expect(journey.run?.progress?.generation).toBeGreaterThan(2));
    journey.cancel();
    expect(journey.run?.status).toBe('cancelled');
    await run;
    expect(journey.run?.status).toBe('cancelled');
    expect(journey.run?.outcome?.weights).toEqual(journey.weights);
    expect(journey.check).toBeUndefined();
    await journey.checkHeldOut();
    expect(journey.check?.status).toBe('done');
  });

  it('takes a cancel before the first generation for what it is', async () => {
    const run = journey.adapt();
    journey.cancel();
    await run;
    expect(journey.run?.status).toBe('cancelled');
    expect(journey.problems).toEqual([]);
  });

  it.each([
    ['an empty output', (j: Journey) => j.editShot(j.draft!.shots[1]!.key, { output: ' ' }), 'shots', 'Example 2: the output is empty.'],
    ['no examples', (j: Journey) => j.draft!.shots.slice().forEach((s) => j.removeShot(s.key)), 'shots', 'There are no examples.'],
    ['a budget of nothing', (j: Journey) => j.configure({ budget: 1 }), 'settings', 'The number of evaluations'],
    ['a budget that is no number', (j: Journey) => j.configure({ budget: NaN }), 'settings', 'The number of evaluations'],
    ['half a seed', (j: Journey) => j.configure({ seed: 0.5 }), 'settings', 'The seed'],
  ])('reports %s before it starts, and can go on', async (_name, spoil, code, what) => {
    spoil(journey);
    await journey.adapt();
    expect(journey.run).toBeUndefined();
    expect(journey.problems).toHaveLength(1);
    expect(journey.problems[0]).toMatchObject({ code, what: expect.stringContaining(what) });
    journey.dismiss(journey.problems[0]!.id);
    journey.restore();
    journey.configure({ budget: 50, seed: 0 });
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
    expect(journey.problems).toEqual([]);
  });

  it('makes the estimate that came due in mid-search', async () => {
    await vi.waitFor(() => expect(journey.estimate).toBeDefined());
    const before = journey.estimate?.seconds ?? 0;
    journey.configure({ budget: 400 });
    await journey.adapt();
    await vi.waitFor(() => expect(journey.estimate?.seconds).toBeCloseTo(2 * before), { timeout: 3000 });
  });

  it('survives an error of the engine', async () => {
    journey.editShot(journey.draft!.shots[0]!.key, { output: 'fail' });
    await journey.adapt();
    expect(journey.run?.status).toBe('failed');
    expect(journey.problems[0]?.code).toBe('shots');
    journey.restore();
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
  });

  it('offers to start again after a crash, and keeps the edits', async () => {
    journey.editShot(journey.draft!.shots[0]!.key, { input: 'the cat likes the dog' });
    const run = journey.adapt();
    started[0]?.crash();
    await run;
    expect(journey.engine).toBeUndefined();
    expect(journey.problems).toHaveLength(1);
    expect(journey.problems[0]).toMatchObject({ code: 'engine_crashed', action: 'restart' });
    await journey.start();
    expect(journey.problems).toEqual([]);
    expect(journey.draft?.shots[0]?.input).toBe('the cat likes the dog');
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
  });

  it('offers to start again when loading failed', async () => {
    let broken = true;
    const again = await ready(() => mock(broken ? { failAt: 'open' } : {}));
    expect(again.journey.problems[0]).toMatchObject({ code: 'download', action: 'restart' });
    broken = false;
    await again.journey.start();
    expect(again.journey.draft).toBeDefined();
  });

  it('knows when what is shown is of other examples', async () => {
    await journey.adapt();
    expect(journey.stale).toBe(false);
    journey.editShot(journey.draft!.shots[0]!.key, { input: 'the cat likes the dog' });
    expect(journey.stale).toBe(true);
  });

  it('keeps a draft for every task, and drops the results of another', async () => {
    await journey.adapt();
    journey.editShot(journey.draft!.shots[0]!.key, { input: 'mine' });
    journey.pick('own');
    expect(journey.run).toBeUndefined();
    expect(journey.draft?.shots).toHaveLength(2);
    journey.pick(MOCK_FAMILY.tasks[0]!.id);
    expect(journey.draft?.shots[0]?.input).toBe('mine');
  });

  it('takes pasted rows as examples or as held-out rows', () => {
    journey.pick('own');
    expect(journey.paste('a\tb\nc\td', 'shots')).toBe(2);
    expect(journey.draft?.shots.map((s) => s.input)).toEqual(['a', 'c']);
    expect(journey.paste('c\td\ne\tf', 'test')).toBe(2);
    expect(journey.heldOutRows.map((r) => r.input)).toEqual(['e']);
    expect(journey.paste('nonsense', 'shots')).toBe(0);
    expect(journey.problems[0]?.code).toBe('rows');
  });

  it('answers with the base alone before, and with both after', async () => {
    await journey.ask('the cat sees the dog');
    expect(journey.attempt?.base.status).toBe('done');
    expect(journey.attempt?.composed).toBeUndefined();
    await journey.adapt();
    await journey.ask('the cat sees the dog');
    expect(journey.attempt?.composed).toMatchObject({ status: 'done', text: 'the miru sees the tafo' });
  });

  it('lets a second question take the place of the first', async () => {
    const first = journey.ask('the cat sees the dog');
    await journey.ask('the bird sees the dog');
    await first;
    expect(journey.attempt?.base.text).toBe('the bird sees the dog');
    expect(journey.problems).toEqual([]);
  });
});
