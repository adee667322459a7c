/**
 * The worker's end of the protocol: turns messages into calls of a `Host` and its answers into messages.
 * Knows nothing of models; `worker.ts` gives it the real host, tests give it others.
 */
import { EngineError } from './error.ts';
import type { Calls, DeviceState, Method, Reply, Request } from './protocol.ts';

/** What a running call is given besides its arguments. */
export interface CallContext<M extends Method> {
  report(report: Calls[M]['report']): void;
  /** Tells the page that the device has changed, though it did not ask for that. */
  moved(state: DeviceState): void;
  /** Aborted when the page cancels. A call decides itself whether it then fails or keeps what it has. */
  readonly signal: AbortSignal;
  /** Called with each change between paused and running. */
  onPause: ((paused: boolean) => void) | undefined;
}

export type Host = {
  [M in Method]: (args: Calls[M]['args'], context: CallContext<M>) => Promise<Calls[M]['result']>;
};

/** The part of `MessagePort` and of a worker's global scope that both ends need. */
export interface Port {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
}

interface Running {
  abort: AbortController;
  context: { onPause: ((paused: boolean) => void) | undefined };
}

/** Serves `host` on `port` until the worker ends. */
export function serve(port: Port, host: Host): void {
  const running = new Map<number, Running>();

  const call = async <M extends Method>(id: number, method: M, args: Calls[M]['args'], aborted = false): Promise<void> => {
    const abort = new AbortController();
    if (aborted) abort.abort();
    const context: CallContext<M> = {
      report: (report) => reply({ type: 'report', id, report }),
      moved: (state) => reply({ type: 'device', state }),
      signal: abort.signal,
      onPause: undefined,
    };
    running.set(id, { abort, context });
    try {
      const result = await host[method](args, context);
      reply({ type: 'result', id, result }, transferable(result));
    } catch (thrown) {
      // After a trap the module's memory cannot be trusted: the page must start another worker.
      const code = thrown instanceof WebAssembly.RuntimeError || thrown instanceof RangeError ? 'engine_crashed' : 'internal';
      reply({ type: 'failure', id, failure: EngineError.wrap(thrown, code).toFailure() });
    } finally {
      running.delete(id);
    }
  };

  const reply = (message: Reply, transfer: Transferable[] = []): void => port.postMessage(message, transfer);

  port.addEventListener('message', (event: MessageEvent<Request>) => {
    const request = event.data;
    switch (request.type) {
      case 'call':
        void call(request.id, request.method, request.args as never, request.aborted);
        return;
      case 'abort':
        running.get(request.id)?.abort.abort();
        return;
      case 'pause':
      case 'resume':
        running.get(request.id)?.context.onPause?.(request.type === 'pause');
        return;
    }
  });
}

/** The buffers of a result that may move instead of being copied. */
function transferable(result: unknown): Transferable[] {
  if (typeof result !== 'object' || result === null || !('zip' in result)) return [];
  return result.zip instanceof Uint8Array ? [result.zip.buffer as ArrayBuffer] : [];
}
