/** The page's end of the protocol: the class `Engine`, one per compute worker. */
import { EngineError } from './error.ts';
import type {
  Adapted,
  AdaptSettings,
  Calls,
  DeviceReport,
  DeviceState,
  DeviceWish,
  Estimate,
  Exported,
  FamilyInfo,
  Generated,
  HeldOut,
  HeldOutProgress,
  LoadProgress,
  Method,
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
  wish?: DeviceWish;
  start: () => WorkerLike;
  onProgress?: (progress: LoadProgress) => void;
  /** Called once if the worker dies; every call under way fails with the same error. */
  onCrash?: (error: EngineError) => void;
  /** Called when the GPU failed and the CPU took over, after `Engine.device` says so. */
  onMoved?: (device: DeviceReport) => void;
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
  readonly #line: Line;
  #state: DeviceState;

  private constructor(line: Line, family: FamilyInfo, state: DeviceState, onMoved: OpenOptions['onMoved']) {
    this.#line = line;
    this.family = family;
    this.#state = state;
    line.onMoved = (moved) => {
      this.#state = moved;
      onMoved?.(moved.device);
    };
  }

  /** What computes, and why. */
  get device(): DeviceReport {
    return this.#state.device;
  }

  /** For the next start on the same GPU. */
  get tuning(): string | undefined {
    return this.#state.tuning;
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
      const { familyUrl, wasmUrl, wish = { device: 'auto' } } = options;
      const { family, ...state } = await line.call('open', { familyUrl, wasmUrl, ...wish }, { onProgress: options.onProgress });
      return new Engine(line, family, state, options.onMoved);
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

  /** Moves the model to another device; rejects with the device's code where that fails, and the old one stays. */
  async setDevice(wish: DeviceWish): Promise<void> {
    this.#state = await this.#line.call('setDevice', wish);
  }

  /**
   * Searches for the weights. Aborting resolves with the best so far and `stopReason: 'cancelled'`, or
   * rejects with code `nothing_evaluated` where there is none yet.
   *
   * `resume` goes on from a checkpoint. With a signal that is aborted already it evaluates nothing, and resolves with
   * what the checkpoint has.
   */
  adapt(
    task: { shots: Shot[] },
    settings: AdaptSettings,
    options: CallOptions<Progress> & { onStart?: (run: Pausable) => void; resume?: string | undefined } = {},
  ): Promise<Adapted> {
    const { resume, ...rest } = options;
    if (resume === undefined) return this.#line.call('adapt', { shots: task.shots, settings }, rest);
    return this.#line.call('adapt', { shots: task.shots, settings, resume }, { ...rest, evenAborted: true });
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
  onMoved: ((state: DeviceState) => void) | undefined;
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
      /** Makes the call with a signal that is aborted already. */
      evenAborted?: boolean;
    } = {},
  ): Promise<Calls[M]['result']> {
    if (this.#ended) return Promise.reject(this.#ended);
    const { signal } = options;
    const aborted = signal?.aborted === true;
    if (aborted && !options.evenAborted) {
      return Promise.reject(new EngineError('aborted', 'the call was cancelled before it began'));
    }
    const id = this.#next++;
    const abort = (): void => this.#worker.postMessage({ type: 'abort', id });
    return new Promise<Calls[M]['result']>((resolve, reject) => {
      const done = (): void => signal?.removeEventListener('abort', abort);
      this.#pending.set(id, {
        resolve: (result) => (done(), resolve(result as Calls[M]['result'])),
        reject: (error) => (done(), reject(error)),
        report: options.onProgress as ((report: never) => void) | undefined,
      });
      this.#worker.postMessage({ type: 'call', id, method, args, ...(aborted ? { aborted } : {}) } as Request);
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
    if (reply.type === 'device') {
      this.onMoved?.(reply.state);
      return;
    }
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
