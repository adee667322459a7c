/** Searches that are cancelled, cut off or moved: nothing is lost, and they can go on. */
import { describe, expect, it, vi } from 'vitest';
import type { Outcome } from './engine/protocol.ts';
import type { Journey } from './journey.ts';
import { memory, mock as quick, ready as readyFor } from './testing.ts';

/** Slow enough to be interrupted. */
const mock: typeof quick = (options) => quick({ generationMs: 8, ...options });
const ready: typeof readyFor = (host = () => mock(), remembered = memory()) => readyFor(host, remembered);

const generation = (journey: Journey, n: number): Promise<void> =>
  vi.waitFor(() => expect(journey.run?.progress?.generation).toBeGreaterThanOrEqual(n), { interval: 1, timeout: 5000 });

/** What the default search comes to where nothing disturbs it. */
async function undisturbed(): Promise<Outcome> {
  const { journey } = await ready();
  await journey.adapt();
  return journey.run!.outcome!;
}

/** The parts of an outcome that do not depend on the clock. */
const found = (outcome: Outcome | undefined): unknown => [outcome?.weights, outcome?.history, outcome?.stopReason];

describe('a worker that does not answer a cancel', () => {
  it('is replaced within a second or so, and the best, the record and the downloads are there', async () => {
    const { journey, started } = await ready((before) => mock(before === 0 ? { hangsIn: 4 } : {}));
    const run = journey.adapt();
    await generation(journey, 3);
    const { best, evaluations } = journey.run!.progress!;
    const clicked = performance.now();
    journey.cancel();
    expect(journey.run?.status).toBe('cancelled');
    expect(journey.weights).toEqual(best.weights);
    await run;
    expect(performance.now() - clicked).toBeGreaterThan(990);
    expect(started.map((w) => w.terminated)).toEqual([true, false]);
    expect(journey.run?.status).toBe('cancelled');
    expect(journey.run?.outcome).toMatchObject({ weights: best.weights, evaluations, stopReason: 'cancelled' });
    expect(JSON.parse(journey.runRecord() ?? '')).toMatchObject({ weights: best.weights });
    expect((await journey.exportModule())?.bytes).toHaveLength(64);
    await journey.checkHeldOut();
    expect(journey.check?.status).toBe('done');
    expect(journey.problems).toEqual([]);
  });

  it('leaves the visitor free to start another search meanwhile, which waits for the new worker', async () => {
    const { journey, started } = await ready((before) => mock(before === 0 ? { hangsIn: 3 } : {}));
    const first = journey.adapt();
    await generation(journey, 2);
    journey.cancel();
    journey.configure({ seed: 9 });
    await journey.adapt();
    await first;
    expect(started).toHaveLength(2);
    expect(journey.run).toMatchObject({ status: 'done', outcome: { seed: 9, evaluations: 200 } });
  });

  it('is ended where nothing was evaluated either', async () => {
    const { journey, started } = await ready((before) => mock(before === 0 ? { hangsIn: 1 } : {}));
    const run = journey.adapt();
    await new Promise((resolve) => setTimeout(resolve, 20));
    journey.cancel();
    await run;
    expect(started.map((w) => w.terminated)).toEqual([true, false]);
    expect(journey.run).toMatchObject({ status: 'cancelled', outcome: undefined });
    expect(journey.canGoOn).toBe(false);
    expect(journey.problems).toEqual([]);
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
  });

  it('keeps the best in sight where no other worker can be started, and makes the outcome later', async () => {
    let broken = false;
    const { journey } = await ready((before) => mock(before === 0 ? { hangsIn: 4 } : broken ? { failAt: 'open' } : {}));
    const run = journey.adapt();
    await generation(journey, 3);
    broken = true;
    journey.cancel();
    await run;
    expect(journey.problems[0]).toMatchObject({ code: 'download', action: 'restart' });
    expect(journey.weights).toEqual(journey.run?.progress?.best.weights);
    broken = false;
    await journey.start();
    expect(journey.run?.outcome?.weights).toEqual(journey.weights);
  });
});

describe('a worker that answers a cancel', () => {
  it('is not replaced', async () => {
    const { journey, started } = await ready();
    const run = journey.adapt();
    await generation(journey, 3);
    journey.cancel();
    await run;
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(started.map((w) => w.terminated)).toEqual([false]);
    expect(journey.run?.outcome?.stopReason).toBe('cancelled');
  });
});

describe('going on', () => {
  it('after a cancel comes to the same as without it', async () => {
    const { journey } = await ready();
    const run = journey.adapt();
    await generation(journey, 3);
    journey.cancel();
    await run;
    expect(journey.canGoOn).toBe(true);
    await journey.goOn();
    expect(found(journey.run?.outcome)).toEqual(found(await undisturbed()));
    expect(journey.run?.points.map((p) => p.evaluation)).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
    expect(journey.check?.status).toBe('done');
    expect(journey.canGoOn).toBe(false);
  });

  it('can be asked for at once, and cancelled again', async () => {
    const { journey } = await ready();
    const first = journey.adapt();
    await generation(journey, 2);
    journey.cancel();
    const second = journey.goOn();
    expect(journey.run?.status).toBe('running');
    await generation(journey, 4);
    journey.cancel();
    await Promise.all([first, second]);
    expect(journey.run).toMatchObject({ status: 'cancelled', outcome: { stopReason: 'cancelled' } });
    await journey.goOn();
    expect(found(journey.run?.outcome)).toEqual(found(await undisturbed()));
  });

  it('is not offered once examples or settings are others', async () => {
    const { journey } = await ready();
    const run = journey.adapt();
    await generation(journey, 2);
    journey.cancel();
    await run;
    journey.configure({ seed: 1 });
    expect(journey.canGoOn).toBe(false);
    journey.configure({ seed: 0 });
    expect(journey.canGoOn).toBe(true);
    journey.editShot(journey.draft!.shots[0]!.key, { input: 'the cat' });
    expect(journey.canGoOn).toBe(false);
  });
});

describe('a worker that dies in mid-search', () => {
  it('leaves the best in sight, and going on starts another', async () => {
    const { journey, started } = await ready();
    const run = journey.adapt();
    await generation(journey, 3);
    const { best } = journey.run!.progress!;
    started[0]?.crash();
    await run;
    expect(journey.run?.status).toBe('failed');
    expect(journey.weights).toEqual(best.weights);
    expect(journey.problems[0]).toMatchObject({ code: 'engine_crashed', action: 'restart' });
    expect(journey.canGoOn).toBe(true);
    await journey.goOn();
    expect(started).toHaveLength(2);
    expect(journey.problems).toEqual([]);
    expect(found(journey.run?.outcome)).toEqual(found(await undisturbed()));
  });

  it('leaves everything to be taken away after a restart', async () => {
    const { journey, started } = await ready();
    const run = journey.adapt();
    await generation(journey, 3);
    const { best } = journey.run!.progress!;
    started[0]?.crash();
    await run;
    await journey.start();
    expect(journey.run).toMatchObject({ status: 'failed', outcome: { weights: best.weights, stopReason: 'cancelled' } });
    expect(JSON.parse(journey.runRecord() ?? '')).toMatchObject({ weights: best.weights });
    expect(await journey.exportModule()).toBeDefined();
  });

  it('is started again by a download', async () => {
    const { journey, started } = await ready();
    await journey.adapt();
    started[0]?.crash();
    expect(journey.engine).toBeUndefined();
    expect(await journey.exportModule()).toBeDefined();
    expect(started).toHaveLength(2);
    expect(journey.problems).toEqual([]);
  });
});

describe('the device', () => {
  it('is the one that was chosen at the last visit', async () => {
    const { journey } = await ready(() => mock({ gpu: true }), memory('{"device":"cpu"}'));
    expect(journey.device).toMatchObject({ kind: 'cpu', choice: 'cpu' });
  });

  it('is remembered with its tuning once a choice has worked', async () => {
    const remembered = memory();
    const { journey } = await ready(() => mock({ gpu: true }), remembered);
    expect(remembered.wish).toEqual({ device: 'auto', tuning: 'mock tuning' });
    const choosing = journey.setDevice('cpu');
    expect(journey.moving).toBe('cpu');
    await choosing;
    expect(journey.moving).toBeUndefined();
    expect(journey.device?.kind).toBe('cpu');
    expect(remembered.wish).toEqual({ device: 'cpu', tuning: 'mock tuning' });
  });

  it('stays what it was, in use and in memory, where a choice is refused', async () => {
    const remembered = memory();
    const { journey } = await ready(() => mock(), remembered);
    await journey.setDevice('webgpu');
    expect(journey.problems[0]?.code).toBe('no_adapter');
    expect(journey.device?.kind).toBe('cpu');
    expect(remembered.wish.device).toBe('auto');
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
  });

  it('cannot be changed in mid-search', async () => {
    const { journey } = await ready(() => mock({ gpu: true }));
    const run = journey.adapt();
    await journey.setDevice('cpu');
    expect(journey.device?.kind).toBe('webgpu');
    await run;
  });

  it('gives way in mid-search to the CPU, which goes on, and the page says so', async () => {
    const { journey } = await ready(() => mock({ gpu: true, lostIn: 4 }));
    await journey.adapt();
    expect(journey.run?.status).toBe('done');
    expect(found(journey.run?.outcome)).toEqual(found(await undisturbed()));
    expect(journey.device).toMatchObject({ kind: 'cpu', choice: 'auto', reason: 'device_lost' });
    expect(journey.deviceNote).toContain('went on');
    expect(journey.problems).toEqual([]);
  });
});
