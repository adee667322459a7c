/** For the unit tests: a journey over mock hosts, each behind a message channel as behind a worker. */
import { Engine, type OpenOptions, type WorkerLike } from './engine/client.ts';
import { mockHost, type MockOptions } from './engine/mock/host.ts';
import { serve, type Host, type Port } from './engine/serve.ts';
import { Journey } from './journey.ts';
import { Remembered } from './remembered.ts';

/** A worker that was started. */
export interface Started {
  crash(): void;
  readonly terminated: boolean;
}

export const mock = (options: MockOptions = {}): Host => mockHost({ generationMs: 1, loadMs: 1, ...options });

/** `host` makes that of the next worker; it is told how many were started before. */
export async function ready(host: (before: number) => Host = () => mock(), remembered = memory()) {
  const started: Started[] = [];
  const open = (options: Partial<OpenOptions>, signal: AbortSignal): Promise<Engine> => {
    const { port1, port2 } = new MessageChannel();
    serve(port2 as unknown as Port, host(started.length));
    port1.start();
    port2.start();
    const errors: ((event: Event) => void)[] = [];
    const state = { terminated: false };
    const worker: WorkerLike = {
      postMessage: (m) => port1.postMessage(m),
      addEventListener: (type: string, listener: (event: never) => void) =>
        type === 'message' ? port1.addEventListener('message', listener as never) : void errors.push(listener as never),
      terminate: () => {
        state.terminated = true;
        port1.close();
        port2.close();
      },
    };
    started.push({
      crash: () => errors.forEach((e) => e(new Event('error'))),
      get terminated() {
        return state.terminated;
      },
    });
    return Engine.open({ ...options, familyUrl: '', wasmUrl: '', start: () => worker }, signal);
  };
  const journey = new Journey(open, () => undefined, remembered);
  await journey.start();
  return { journey, started };
}

/** What the page remembers, for one test. */
export function memory(text: string | null = null): Remembered {
  let kept = text;
  return new Remembered(() => ({ getItem: () => kept, setItem: (_, value) => void (kept = value) }));
}
