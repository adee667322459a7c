/** The page's end of the protocol: the class `Engine`, one per compute worker. */
import { EngineError } from './error.ts';
import type {
  AdaptSettings,
  Calls,
  Estimate,
  Exported,
  FamilyInfo,
  Generated,
  HeldOut,
  HeldOutProgress,
  LoadProgress,
  Method,
  Outcome,
  Progress,
  Reply,
  Request,
  Rule,
  Shot,
} from './protocol.ts';

/** The part of `Worker` that is used. */
export interface WorkerLike {
  postMessage(message: Request): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<Reply>) => void): void;
  addEventListener(type: 'error' | 'messageerror', listener: (event: Event) => void): void;
  terminate(): void;
}

export interface OpenOptions {
  /** Where `family.json` lies, with a slash at the end. */
  familyUrl: string;
  wasmUrl: string;
  start: () => WorkerLike;
  onProgress?: (progress: LoadProgress) => void;
  /** Called once if the worker dies; every call under way fails with the same error. */
  onCrash?: (error: EngineError) => void;
}

export interface CallOptions<R> {
  signal?: AbortSignal;
  onProgress?: (report: R) => void;
}

interface Pending {
  resolve(result: unknown): void;
  reject(error: EngineError): void;
  report: ((report: never) => void) | undefined;
}

/** A handle on a run that can be held up without ending it. */
export interface Pausable {
  pause(): void;
  resume(): void;
}

/** The compute worker, with its model loaded. */
export class Engine {
  readonly family: FamilyInfo;
  /** The name of what computes, as shown to the user. */
  readonly backend: string;
  readonly #line: Line;

  private constructor(line: Line, family: FamilyInfo, backend: string) {
    this.#line = line;
    this.family = family;
    this.backend = backend;
  }

  /** Starts a worker and loads a family into it. Aborting ends the worker. */
  static async open(options: OpenOptions, signal?: AbortSignal): Promise<Engine> {
    signal?.throwIfAborted();
    let worker: WorkerLike;
    try {
      worker = options.start();
    } catch (thrown) {
      throw new EngineError(
        'worker_refused',
        'this browser did not allow the compute worker to start; reload the page, or try another browser',
        thrown,
      );
    }
    const line = new Line(worker, options.onCrash);
    const stop = (): void => line.close(new EngineError('aborted', 'loading was cancelled'));
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const { familyUrl, wasmUrl } = options;
      const opened = await line.call('open', { familyUrl, wasmUrl }, { onProgress: options.onProgress });
      return new Engine(line, opened.family, opened.backend);
    } catch (thrown) {
      line.close();
      throw thrown;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  estimate(task: { shots: Shot[] }, settings: AdaptSettings): Promise<Estimate> {
    return this.#line.call('estimate', { shots: task.shots, settings });
  }

  /**
   * Searches for the weights. Aborting resolves with the best so far and `stopReason: 'cancelled'`, or
   * rejects with code `nothing_evaluated` where there is none yet.
   */
  adapt(
    task: { shots: Shot[] },
    settings: AdaptSettings,
    options: CallOptions<Progress> & { onStart?: (run: Pausable) => void } = {},
  ): Promise<Outcome> {
    return this.#line.call('adapt', { shots: task.shots, settings }, options);
  }

  /** Generates an answer to every row under every candidate. Aborting resolves with the rows done. */
  evaluate(
    rows: Shot[],
    candidates: Record<string, number[]>,
    options: CallOptions<HeldOutProgress> & { rule?: Rule } = {},
  ): Promise<HeldOut> {
    return this.#line.call('evaluate', { rows, candidates, ...rule(options) }, options);
  }

  /** Answers one input; `onToken` gets the whole text so far. Aborting rejects with code `aborted`. */
  generate(
    text: string,
    weights: number[],
    options: { signal?: AbortSignal; onToken?: (text: string) => void; rule?: Rule } = {},
  ): Promise<Generated> {
    const { signal, onToken } = options;
    return this.#line.call('generate', { text, weights, ...rule(options) }, { signal, onProgress: onToken });
  }

  /** The composed module as PEFT reads it, zipped. */
  exportModule(weights: number[], options: { rule?: Rule; seed?: number } = {}): Promise<Exported> {
    return this.#line.call('exportModule', { weights, ...options });
  }

  /** The record of the last run. */
  runRecord(): Promise<Record<string, unknown>> {
    return this.#line.call('runRecord', {});
  }

  /** Where `text` has no piece in the vocabulary: [start, end) in UTF-16 units. */
  unknownSpans(text: string): Promise<[number, number][]> {
    return this.#line.call('unknownSpans', { text });
  }

  /** Ends the worker; every call under way fails with code `closed`. */
  close(): void {
    this.#line.close();
  }
}

function rule(options: { rule?: Rule }): { rule?: Rule } {
  return options.rule === undefined ? {} : { rule: options.rule };
}

/** Calls by number over one worker. */
class Line {
  readonly #worker: WorkerLike;
  readonly #pending = new Map<number, Pending>();
  readonly #onCrash: ((error: EngineError) => void) | undefined;
  #next = 1;
  #ended: EngineError | undefined;

  constructor(worker: WorkerLike, onCrash: ((error: EngineError) => void) | undefined) {
    this.#worker = worker;
    this.#onCrash = onCrash;
    worker.addEventListener('message', (event) => this.#receive(event.data));
    const died = (event: Event): void => {
      const message = 'message' in event && event.message ? ` (${String(event.message)})` : '';
      this.#crash(new EngineError('engine_crashed', `the compute worker stopped unexpectedly${message}; start it again`));
    };
    worker.addEventListener('error', died);
    worker.addEventListener('messageerror', died);
  }

  call<M extends Method>(
    method: M,
    args: Calls[M]['args'],
    options: {
      signal?: AbortSignal | undefined;
      onProgress?: ((report: Calls[M]['report']) => void) | undefined;
      onStart?: ((run: Pausable) => void) | undefined;
    } = {},
  ): Promise<Calls[M]['result']> {
    if (this.#ended) return Promise.reject(this.#ended);
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(new EngineError('aborted', 'the call was cancelled before it began'));
    const id = this.#next++;
    const abort = (): void => this.#worker.postMessage({ type: 'abort', id });
    return new Promise<Calls[M]['result']>((resolve, reject) => {
      const done = (): void => signal?.removeEventListener('abort', abort);
      this.#pending.set(id, {
        resolve: (result) => (done(), resolve(result as Calls[M]['result'])),
        reject: (error) => (done(), reject(error)),
        report: options.onProgress as ((report: never) => void) | undefined,
      });
      this.#worker.postMessage({ type: 'call', id, method, args } as Request);
      signal?.addEventListener('abort', abort, { once: true });
      options.onStart?.({
        pause: () => this.#worker.postMessage({ type: 'pause', id }),
        resume: () => this.#worker.postMessage({ type: 'resume', id }),
      });
    });
  }

  close(error = new EngineError('closed', 'the engine was closed; open it again')): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#worker.terminate();
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }

  #crash(error: EngineError): void {
    if (this.#ended) return;
    this.close(error);
    this.#onCrash?.(error);
  }

  #receive(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    if (!pending) return;
    switch (reply.type) {
      case 'report':
        pending.report?.(reply.report as never);
        return;
      case 'result':
        this.#pending.delete(reply.id);
        pending.resolve(reply.result);
        return;
      case 'failure': {
        const error = EngineError.from(reply.failure);
        if (error.code === 'engine_crashed') {
          this.#crash(new EngineError(error.code, `the compute worker failed (${error.message}); start it again`));
          return;
        }
        this.#pending.delete(reply.id);
        pending.reject(error);
        return;
      }
    }
  }
}
