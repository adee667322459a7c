/** Calls by number over one worker: what the engine and the library have in common. */
import { EngineError } from './error.ts';
import type { Calls, DeviceState, Method, Reply, Request } from './protocol.ts';

/** The part of `Worker` that is used. */
export interface WorkerLike {
  postMessage(message: Request): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<Reply>) => void): void;
  addEventListener(type: 'error' | 'messageerror', listener: (event: Event) => void): void;
  terminate(): void;
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

/** Starts a worker; a refusal is an error of its own. */
export function startLine(start: () => WorkerLike, onCrash?: (error: EngineError) => void): Line {
  try {
    return new Line(start(), onCrash);
  } catch (thrown) {
    throw new EngineError(
      'worker_refused',
      'this browser did not allow the compute worker to start; reload the page, or try another browser',
      thrown,
    );
  }
}

export class Line {
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
