import { describe, expect, it, vi } from 'vitest';
import { Engine, type OpenOptions } from './client.ts';
import { EngineError } from './error.ts';
import type { WorkerLike } from './line.ts';
import { mockHost, MOCK_FAMILY, type MockOptions } from './mock/host.ts';
import type { LoadProgress, ModelWish, Progress, Reply } from './protocol.ts';
import { serve, type Host, type Port } from './serve.ts';

class FakeWorker implements WorkerLike {
  readonly #channel = new MessageChannel();
  readonly #errors: ((event: Event) => void)[] = [];
  terminated = false;

  constructor(host: Host) {
    serve(this.#channel.port2 as unknown as Port, host);
    this.#channel.port2.start();
    this.#channel.port1.start();
  }

  postMessage(message: unknown): void {
    if (!this.terminated) this.#channel.port1.postMessage(message);
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    if (type === 'message') {
      this.#channel.port1.addEventListener('message', listener as (event: MessageEvent<Reply>) => void);
    } else {
      this.#errors.push(listener as (event: Event) => void);
    }
  }

  die(): void {
    for (const listener of this.#errors) listener(new Event('error'));
  }

  terminate(): void {
    this.terminated = true;
    this.#channel.port1.close();
    this.#channel.port2.close();
  }
}

const DEMO: ModelWish = { source: { kind: 'family', url: 'models/demo/' }, extra: [], weights: 'f32' };

function open(options: MockOptions & { host?: Host } & Pick<OpenOptions, 'onCrash' | 'onMoved'> = {}) {
  const worker = new FakeWorker(options.host ?? mockHost({ generationMs: 1, loadMs: 1, ...options }));
  const progress: LoadProgress[] = [];
  const engine = Engine.open({
    model: DEMO,
    wasmUrl: '',
    start: () => worker,
    onProgress: (p) => progress.push(p),
    ...(options.onCrash ? { onCrash: options.onCrash } : {}),
    ...(options.onMoved ? { onMoved: options.onMoved } : {}),
  });
  return { worker, progress, engine };
}

const task = MOCK_FAMILY.tasks[0]!;

describe('Engine', () => {
  it('opens with progress in bytes and knows its family', async () => {
    const { engine, progress } = open();
    expect((await engine).family.modules).toHaveLength(MOCK_FAMILY.modules.length);
    expect(progress.at(-1)).toEqual({ stage: 'modules', loaded: 4_000_000, total: 4_000_000 });
  });

  it('ends the worker when opening fails, and keeps the code', async () => {
    const { engine, worker } = open({ failAt: 'open' });
    await expect(engine).rejects.toMatchObject({ code: 'download' });
    expect(worker.terminated).toBe(true);
  });

  it('reports a refused worker by its own code', async () => {
    const refused = Engine.open({
      model: DEMO,
      wasmUrl: '',
      start: () => {
        throw new Error('no');
      },
    });
    await expect(refused).rejects.toMatchObject({ code: 'worker_refused' });
  });

  it('adapts within the budget and reports every evaluation once', async () => {
    const engine = await open().engine;
    const points: number[] = [];
    const { outcome, record } = await engine.adapt(task, { budget: 100, seed: 3 }, {
      onProgress: (p: Progress) => points.push(...p.points.map((x) => x.evaluation)),
    });
    expect(outcome.stopReason).toBe('budget');
    expect(record).toMatchObject({ weights: outcome.weights });
    expect(points).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  it('keeps the best when a run is cancelled', async () => {
    const engine = await open().engine;
    const abort = new AbortController();
    let last: Progress | undefined;
    const { outcome } = await engine.adapt(task, { budget: 100_000, seed: 0 }, {
      signal: abort.signal,
      onProgress: (p) => {
        last = p;
        if (p.generation === 3) abort.abort();
      },
    });
    expect(outcome.stopReason).toBe('cancelled');
    expect(outcome.weights).toEqual(last?.best.weights);
  });

  it('honours a signal aborted before the call', async () => {
    const engine = await open().engine;
    const run = engine.adapt(task, { budget: 1000, seed: 0 }, { signal: AbortSignal.abort() });
    await expect(run).rejects.toMatchObject({ code: 'aborted' });
  });

  it('goes on from a checkpoint to what the search would have found without a break', async () => {
    const engine = await open().engine;
    const settings = { budget: 120, seed: 4 };
    let checkpoint = '';
    const whole = await engine.adapt(task, settings, { onProgress: (p) => (checkpoint = p.generation === 3 ? p.checkpoint : checkpoint) });
    const points: number[] = [];
    const rest = await engine.adapt(task, settings, { resume: checkpoint, onProgress: (p) => points.push(...p.points.map((x) => x.evaluation)) });
    expect(rest.outcome).toMatchObject({ weights: whole.outcome.weights, history: whole.outcome.history });
    expect(points[0]).toBe(whole.outcome.history.length - points.length + 1);
  });

  it('makes an outcome of a checkpoint without evaluating anything', async () => {
    const engine = await open().engine;
    const progress: Progress[] = [];
    await engine.adapt(task, { budget: 100, seed: 4 }, { onProgress: (p) => progress.push(p) });
    const { checkpoint, evaluations, best } = progress[2]!;
    const onProgress = vi.fn();
    const { outcome } = await engine.adapt(task, { budget: 100, seed: 4 }, { resume: checkpoint, signal: AbortSignal.abort(), onProgress });
    expect(outcome).toMatchObject({ stopReason: 'cancelled', evaluations, weights: best.weights });
    expect(onProgress).not.toHaveBeenCalled();
  });

  it('says which device it uses, and moves to another', async () => {
    const engine = await open({ gpu: true }).engine;
    expect(engine.device).toMatchObject({ kind: 'webgpu', choice: 'auto', reason: 'measured' });
    expect(engine.tuning).toBe('mock tuning');
    await engine.setDevice({ device: 'cpu' });
    expect(engine.device).toMatchObject({ kind: 'cpu', choice: 'cpu', reason: 'asked' });
  });

  it('keeps the device where another is refused', async () => {
    const engine = await open().engine;
    await expect(engine.setDevice({ device: 'webgpu' })).rejects.toMatchObject({ code: 'no_adapter' });
    expect(engine.device.kind).toBe('cpu');
  });

  it('tells of a device that changed in mid-search, and loses nothing of it', async () => {
    const onMoved = vi.fn();
    const engine = await open({ gpu: true, lostIn: 3, onMoved }).engine;
    const { outcome } = await engine.adapt(task, { budget: 100, seed: 4 });
    expect(outcome.evaluations).toBe(100);
    expect(onMoved).toHaveBeenCalledTimes(1);
    expect(onMoved.mock.calls[0]?.[0]).toMatchObject({ kind: 'cpu', reason: 'device_lost' });
    expect(engine.device.kind).toBe('cpu');
    expect(engine.tuning).toBeUndefined();
  });

  it('holds still while paused', async () => {
    const engine = await open().engine;
    let seen = 0;
    let run: { pause(): void; resume(): void } | undefined;
    const outcome = engine.adapt(task, { budget: 200, seed: 0 }, {
      onStart: (r) => (run = r),
      onProgress: (p) => {
        seen = p.evaluations;
        if (p.generation === 2) run?.pause();
      },
    });
    await vi.waitFor(() => expect(seen).toBeGreaterThan(20));
    await new Promise((r) => setTimeout(r, 50));
    const held = seen;
    await new Promise((r) => setTimeout(r, 50));
    expect(seen).toBe(held);
    run?.resume();
    expect((await outcome).outcome.evaluations).toBe(200);
  });

  it('fails one call and serves the next', async () => {
    const engine = await open().engine;
    const bad = { shots: [{ input: 'a', output: 'fail' }] };
    await expect(engine.adapt(bad, { budget: 10, seed: 0 })).rejects.toMatchObject({ code: 'shots' });
    await expect(engine.adapt(task, { budget: 10, seed: 0 })).resolves.toMatchObject({ outcome: { evaluations: 10 } });
  });

  it('fails everything under way when the worker dies, once', async () => {
    const crashed = vi.fn();
    const { engine, worker } = open({ onCrash: crashed });
    const opened = await engine;
    const run = opened.adapt(task, { budget: 100_000, seed: 0 });
    worker.die();
    await expect(run).rejects.toMatchObject({ code: 'engine_crashed' });
    await expect(opened.unknownSpans('x')).rejects.toMatchObject({ code: 'engine_crashed' });
    worker.die();
    expect(crashed).toHaveBeenCalledTimes(1);
  });

  it('treats a trap inside a call as the death of the worker', async () => {
    const crashed = vi.fn();
    const host: Host = {
      ...mockHost({ loadMs: 1 }),
      estimate: () => Promise.reject(new WebAssembly.RuntimeError('unreachable')),
    };
    const { engine, worker } = open({ host, onCrash: crashed });
    await expect((await engine).estimate(task, { budget: 1, seed: 0 })).rejects.toMatchObject({ code: 'engine_crashed' });
    expect(worker.terminated).toBe(true);
    expect(crashed).toHaveBeenCalledTimes(1);
  });

  it('streams an answer and can be stopped in it', async () => {
    const engine = await open({ generationMs: 4 }).engine;
    const texts: string[] = [];
    const { text } = await engine.generate('the cat sees the dog', [], { onToken: (t) => texts.push(t) });
    expect(texts.at(-1)).toBe(text);
    expect(texts.length).toBeGreaterThan(1);
    const abort = new AbortController();
    const stopped = engine.generate('the cat sees the dog', [], { signal: abort.signal, onToken: () => abort.abort() });
    await expect(stopped).rejects.toMatchObject({ code: 'aborted' });
  });

  it('moves the zip instead of copying it', async () => {
    const engine = await open().engine;
    expect((await engine.exportModule([])).zip.byteLength).toBe(64);
  });
});

describe('EngineError.wrap', () => {
  it('keeps the code an error carries', () => {
    expect(EngineError.wrap(Object.assign(new Error('no'), { code: 'adapter_rank' }))).toMatchObject({ code: 'adapter_rank', message: 'no' });
    expect(EngineError.wrap('text')).toMatchObject({ code: 'internal', message: 'text' });
  });
});
