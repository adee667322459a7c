/** For the unit tests: a journey over mock hosts, each behind a message channel as behind a worker. */
import { Engine, type OpenOptions } from './engine/client.ts';
import type { WorkerLike } from './engine/line.ts';
import { mockHost, type MockOptions } from './engine/mock/host.ts';
import { serve, type Host, type Port } from './engine/serve.ts';
import { Journey } from './journey.ts';
import { Remembered } from './remembered.ts';
import { wishOf, type ModelChoice } from './state.ts';

/** A worker that was started. */
export interface Started {
  crash(): void;
  readonly terminated: boolean;
}

export const mock = (options: MockOptions = {}): Host => mockHost({ generationMs: 1, loadMs: 1, ...options });

/** `host` makes that of the next worker; it is told how many were started before. */
export async function ready(host: (before: number) => Host = () => mock(), remembered = memory()) {
  const started: Started[] = [];
  const open = (model: ModelChoice, options: Partial<OpenOptions>, signal: AbortSignal): Promise<Engine> => {
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
    return Engine.open({ ...options, model: wishOf(model, ''), wasmUrl: '', start: () => worker }, signal);
  };
  const journey = new Journey(open, () => undefined, remembered);
  await journey.start();
  return { journey, started };
}

/** What the page remembers, for one test; `text` is what it knows of the device. */
export function memory(text: string | null = null): Remembered {
  const kept = new Map<string, string>(text === null ? [] : [['lorahub.device', text]]);
  return new Remembered(() => ({
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  }));
}
