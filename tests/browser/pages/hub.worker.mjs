/** Downloads from a hub into the browser's storage, and loads from there. */
import init, { Device, Hub } from '/pkg/lorahub_web.js';
import { answer } from './answer.mjs';
import { gguf } from './gguf.mjs';
import { all } from './safetensors.mjs';

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
  /** Changes a kept file behind the hub's back: a byte, or its length, or (without a sample to show it) its content. */
  spoil: async ({ sha256, at = 100, cut = 0 }) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('lorahub');
    const name = (await (await (await (await root.getDirectoryHandle('files')).getFileHandle(sha256)).getFile()).text()).split(' ')[0];
    const part = await (await (await root.getDirectoryHandle('parts')).getFileHandle(name)).createSyncAccessHandle();
    if (cut > 0) part.truncate(part.getSize() - cut);
    else part.write(new Uint8Array([0xa5]), { at });
    part.close();
  },
  /** From now on the storage has room for so many bytes more, as when a quota is reached. */
  room: async ({ bytes }) => {
    const { write } = FileSystemSyncAccessHandle.prototype;
    FileSystemSyncAccessHandle.prototype.write = function (piece, options) {
      bytes -= piece.byteLength;
      if (bytes < 0) throw new DOMException('no room', 'QuotaExceededError');
      return write.call(this, piece, options);
    };
  },
  /** The names of all files that are stored. */
  left: async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('lorahub');
    const names = [];
    for (const folder of ['parts', 'files']) for await (const name of (await root.getDirectoryHandle(folder)).keys()) names.push(name);
    return names.sort();
  },
  /** Megabytes a second that the storage itself gives: the better of several readings, in pieces as a model is read. */
  readRate: async ({ name }) => {
    const blobs = Object.values(await hub.files(name));
    const [largest] = blobs.sort((a, b) => b.size - a.size);
    const reader = new FileReaderSync();
    const PIECE = 16 << 20;
    let seconds = Infinity;
    for (let again = 0; again < 3; again++) {
      const began = performance.now();
      for (let at = 0; at < largest.size; at += PIECE) reader.readAsArrayBuffer(largest.slice(at, at + PIECE));
      seconds = Math.min(seconds, (performance.now() - began) / 1000);
    }
    return { megabytes: Math.round(largest.size / 1e6), megabytesPerSecond: Math.round(largest.size / 1e6 / seconds) };
  },
  /** Loads a kept base, and tells what that took, and its logits for some ids. */
  load: async ({ base, device: kind, dtype, input }) => {
    const { memory } = await started;
    const files = await hub.files(base);
    const config = new Uint8Array(await files['config.json'].arrayBuffer());
    const device = await Device.open(config, { device: kind, dtype });
    const before = memory.buffer.byteLength;
    const began = performance.now();
    const composer = await device.loadKept(hub, base);
    const seconds = (performance.now() - began) / 1000;
    const { converted = [] } = (await hub.kept()).find(({ name }) => name === base);
    const read = composer.conversion.state === 'read' ? converted.find(({ storage }) => storage === dtype) : files['model.safetensors'];
    return {
      seconds: Math.round(seconds * 1000) / 1000,
      // Of the file that was read.
      megabytes: Math.round(read.size / 1e6),
      megabytesPerSecond: Math.round(read.size / 1e6 / seconds),
      logits: input && Array.from(await composer.logits(Uint32Array.from(input), Uint32Array.from(input), undefined, 'exact')),
      wasmMegabytes: Math.round(memory.buffer.byteLength / 1e6),
      wasmMegabytesBefore: Math.round(before / 1e6),
      deviceMegabytes: composer.deviceMemory && Math.round(composer.deviceMemory.liveBytes / 1e6),
      backend: composer.backend,
      conversion: composer.conversion,
    };
  },
  /** Logits from a kept base with a kept module, from the same files as bytes, and from the same weights as GGUF. */
  logits: async ({ base, module, input, target }) => {
    const [files, adapter] = [await hub.files(base), await hub.files(module)];
    const bytes = async (blob) => new Uint8Array(await blob.arrayBuffer());
    const device = await Device.open(await bytes(files['config.json']), { device: 'cpu' });
    const added = async (composer) => {
      composer.addModule(module, await bytes(adapter['adapter_config.json']), await bytes(adapter['adapter_model.safetensors']));
      return Array.from(await composer.logits(Uint32Array.from(input), Uint32Array.from(target), Float64Array.of(0.5), 'exact'));
    };
    const kept = await added(await device.loadFiles(base, files, 'f'.repeat(64)));
    const tensors = all(await bytes(files['model.safetensors']));
    const { 'model.safetensors': _, ...others } = files;
    const converted = await added(await device.loadFiles(base, { ...others, 'some.gguf': gguf(tensors) }));
    const whole = ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => bytes(files[name]));
    return { kept, converted, whole: await added(await device.load(base, ...(await Promise.all(whole)))) };
  },
});
