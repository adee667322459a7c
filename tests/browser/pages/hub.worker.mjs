/** Downloads from a hub into the browser's storage, and loads from there. */
import init, { Device, Hub } from '/pkg/lorahub_web.js';
import { answer } from './answer.mjs';

/** Not awaited here: a worker that waits at its top level loses the messages that come meanwhile. */
const started = init();

let hub;
let progress = [];
let abort;

const hex = async (blob) =>
  Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer())), (b) => b.toString(16).padStart(2, '0')).join('');

answer({
  open: async ({ address, manifest }) => {
    await started;
    hub = await Hub.open(address, manifest);
    return hub.manifest.bases.length;
  },
  /** Resolves with what the download said; `stopAfter` aborts it at the first word of so many bytes. */
  download: async ({ names, stopAfter }) => {
    progress = [];
    abort = new AbortController();
    await hub.download(names, abort.signal, (said) => {
      progress.push(said);
      if (stopAfter !== undefined && said.state === 'fetching' && said.done >= stopAfter) abort.abort();
    });
    return progress;
  },
  said: async () => progress,
  kept: async () => hub.kept(),
  /** The hashes of the kept files, as the browser computes them from the blobs. */
  hashes: async ({ name }) => {
    const files = await hub.files(name);
    return Object.fromEntries(await Promise.all(Object.entries(files).map(async ([path, blob]) => [path, await hex(blob)])));
  },
  verify: async ({ name }) => hub.verify(name),
  delete: async ({ name }) => hub.delete(name),
  deleteAll: async () => hub.deleteAll(),
  /** Spoils a byte of a kept file behind the hub's back. */
  spoil: async ({ sha256 }) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('lorahub');
    const name = (await (await (await (await root.getDirectoryHandle('files')).getFileHandle(sha256)).getFile()).text()).split(' ')[0];
    const part = await (await (await root.getDirectoryHandle('parts')).getFileHandle(name)).createSyncAccessHandle();
    part.write(new Uint8Array([0xa5]), { at: 100 });
    part.close();
  },
  /** Logits from a kept base with a kept module, and from the same files as bytes. */
  logits: async ({ base, module, input, target }) => {
    const [files, adapter] = [await hub.files(base), await hub.files(module)];
    const bytes = async (blob) => new Uint8Array(await blob.arrayBuffer());
    const device = await Device.open(await bytes(files['config.json']), { device: 'cpu' });
    const added = async (composer) => {
      composer.addModule(module, await bytes(adapter['adapter_config.json']), await bytes(adapter['adapter_model.safetensors']));
      return Array.from(await composer.logits(Uint32Array.from(input), Uint32Array.from(target), Float64Array.of(0.5), 'exact'));
    };
    const kept = await added(await device.loadFiles(base, files, 'f'.repeat(64)));
    const whole = ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => bytes(files[name]));
    return { kept, whole: await added(await device.load(base, ...(await Promise.all(whole)))) };
  },
});
