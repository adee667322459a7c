import { describe, expect, it, vi } from 'vitest';
import { Engine, type WorkerLike } from './client.ts';
import { EngineError } from './error.ts';
import { mockHost, MOCK_FAMILY, type MockOptions } from './mock/host.ts';
import type { LoadProgress, Progress, Reply } from './protocol.ts';
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

function open(options: MockOptions & { host?: Host; onCrash?: (e: EngineError) => void } = {}) {
  const worker = new FakeWorker(options.host ?? mockHost({ generationMs: 1, loadMs: 1, ...options }));
  const progress: LoadProgress[] = [];
  const engine = Engine.open({
    familyUrl: 'models/demo/',
    wasmUrl: '',
    start: () => worker,
    onProgress: (p) => progress.push(p),
    ...(options.onCrash ? { onCrash: options.onCrash } : {}),
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
      familyUrl: '',
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
    const outcome = await engine.adapt(task, { budget: 100, seed: 3 }, {
      onProgress: (p: Progress) => points.push(...p.points.map((x) => x.evaluation)),
    });
    expect(outcome.stopReason).toBe('budget');
    expect(points).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  it('keeps the best when a run is cancelled', async () => {
    const engine = await open().engine;
    const abort = new AbortController();
    let last: Progress | undefined;
    const outcome = await engine.adapt(task, { budget: 100_000, seed: 0 }, {
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
    expect((await outcome).evaluations).toBe(200);
  });

  it('fails one call and serves the next', async () => {
    const engine = await open().engine;
    const bad = { shots: [{ input: 'a', output: 'fail' }] };
    await expect(engine.adapt(bad, { budget: 10, seed: 0 })).rejects.toMatchObject({ code: 'shots' });
    await expect(engine.adapt(task, { budget: 10, seed: 0 })).resolves.toMatchObject({ evaluations: 10 });
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
