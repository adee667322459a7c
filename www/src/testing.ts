/** For the unit tests: a journey over mock hosts, each behind a message channel as behind a worker. */
import { Engine, type OpenOptions } from './engine/client.ts';
import { Library } from './engine/library-client.ts';
import type { WorkerLike } from './engine/line.ts';
import { mockHost, type MockOptions } from './engine/mock/host.ts';
import { serve, type Host, type Port } from './engine/serve.ts';
import { Journey } from './journey.ts';
import { Models } from './models/models.ts';
import { Remembered } from './remembered.ts';
import { wishOf, type ModelChoice } from './state.ts';

/** A worker that was started. */
export interface Started {
  crash(): void;
  readonly terminated: boolean;
}

export const mock = (options: MockOptions = {}): Host => mockHost({ generationMs: 1, loadMs: 1, ...options });

/** A host behind a message channel, as a worker. */
function asWorker(host: Host, started: Started[]): WorkerLike {
  const { port1, port2 } = new MessageChannel();
  serve(port2 as unknown as Port, host);
  port1.start();
  port2.start();
  const errors: ((event: Event) => void)[] = [];
  const state = { terminated: false };
  started.push({
    crash: () => errors.forEach((e) => e(new Event('error'))),
    get terminated() {
      return state.terminated;
    },
  });
  return {
    postMessage: (m) => port1.postMessage(m),
    addEventListener: (type: string, listener: (event: never) => void) =>
      type === 'message' ? port1.addEventListener('message', listener as never) : void errors.push(listener as never),
    terminate: () => {
      state.terminated = true;
      port1.close();
      port2.close();
    },
  };
}

/** `host` makes that of the next worker; it is told how many were started before. */
export async function ready(
  host: (before: number) => Host = () => mock(),
  remembered = memory(),
  begin = (journey: Journey): Promise<void> => journey.start(),
) {
  const started: Started[] = [];
  const open = (model: ModelChoice, options: Partial<OpenOptions>, signal: AbortSignal): Promise<Engine> =>
    Engine.open({ ...options, model: wishOf(model, ''), wasmUrl: '', start: () => asWorker(host(started.length), started) }, signal);
  const journey = new Journey(open, () => undefined, remembered);
  await begin(journey);
  return { journey, started };
}

/** The models beside a journey, over a library of their own. */
export function readyModels(journey: Journey, remembered: Remembered, host: Host): Models {
  return new Models(
    {
      library: (onCrash) => Library.open({ place: { address: '' }, wasmUrl: '', start: () => asWorker(host, []), onCrash }),
      use: (model) => journey.use(model),
      model: () => journey.model,
      secondsFor: (config) => (journey.busy ? undefined : journey.engine?.secondsFor(config)),
      fail: (thrown) => journey.report(thrown),
      changed: () => undefined,
    },
    remembered,
  );
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
