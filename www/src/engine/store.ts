/** The library's methods, on the bindings: a hub's manifest, and what is kept in the browser. */
import { Hub } from '../../../pkg/lorahub_web.js';
import { EngineError } from './error.ts';
import type { DownloadProgress, Kept, LibraryCalls, Manifest } from './library.ts';
import type { Host } from './serve.ts';

let hub: Hub | undefined;

function opened(): Hub {
  if (!hub) throw new EngineError('not_open', 'the library is not open; open it first');
  return hub;
}

async function manifestAt(url: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (thrown) {
    throw new EngineError('download', 'the list of models could not be fetched; check the connection and try again', thrown);
  }
  if (!response.ok) {
    throw new EngineError('download', `the list of models: the server answered ${response.status}; check that the whole site was published`);
  }
  return response.text();
}

/** `start` makes the WebAssembly ready. */
export const store = (start: (wasmUrl: string) => Promise<void>): Pick<Host, keyof LibraryCalls> => ({
  async openLibrary({ wasmUrl, place }) {
    await start(wasmUrl);
    hub = await Hub.open(place.address, place.manifestUrl === undefined ? undefined : await manifestAt(place.manifestUrl));
    return { address: hub.address, manifest: hub.manifest as Manifest };
  },

  async storage() {
    const kept = (await opened().kept()) as Kept[];
    const free = await opened().free();
    return { kept, ...(free === undefined ? {} : { free }) };
  },

  async download({ names }, { signal, report }) {
    await opened().download(names, signal, (progress) => report(progress as DownloadProgress));
    return null;
  },

  async verify({ name }) {
    return opened().verify(name);
  },

  async remove({ name }) {
    await opened().delete(name);
    return null;
  },

  async removeAll() {
    await opened().deleteAll();
    return null;
  },
});
