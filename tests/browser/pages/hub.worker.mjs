/** Downloads from a hub into the browser's storage, and loads from there. */
import init, { Device, Hub } from '/pkg/lorahub_web.js';
import { answer } from './answer.mjs';
import { gguf } from './gguf.mjs';
import { hex, partOf, refuse } from './kept.mjs';
import { all } from './safetensors.mjs';

/** Not awaited here: a worker that waits at its top level loses the messages that come meanwhile. */
const started = init();

/** The hub's store, past the hub. */
const behind = refuse();

let hub;
let progress = [];
let abort;
/** A file that is kept open; without a name of its own it would be collected and closed. */
let held;

/** Megabytes a second of what reads some bytes from a place on, from a file's start to its end; the best of several. */
function rate(size, times, read) {
  const PIECE = 16 << 20;
  let seconds = Infinity;
  for (let again = 0; again < times; again++) {
    const began = performance.now();
    for (let at = 0; at < size; at += PIECE) read(at, Math.min(size, at + PIECE));
    seconds = Math.min(seconds, (performance.now() - began) / 1000);
  }
  return Math.round(size / 1e6 / seconds);
}

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
  /**
   * Changes a kept file behind the hub's back: a byte, or its length, or (without a sample to show it) its content.
   */
  spoil: async ({ sha256, at = 100, byte = 0xa5, cut = 0, unsampled = false }) => {
    await behind.spoil({ sha256, at, byte, cut });
    if (unsampled) await behind.forgetSamples(sha256);
  },
  /** Keeps a kept file open, as another tab may. */
  hold: async ({ sha256 }) => {
    held = await partOf(sha256);
  },
  /** From now on the storage has room for so many bytes more, as when a quota is reached. */
  room: async ({ bytes }) => behind.room(bytes),
  /** The names of what is stored, but for records. */
  left: async () => behind.left(),
  /**
   * Megabytes a second that the storage itself gives, in pieces: as a page reads a file that it was given, and with an
   * access handle into memory that was not used before, as a model is read.
   */
  readRate: async ({ name }) => {
    const { files } = (await hub.kept()).find((kept) => kept.name === name);
    const { sha256 } = files.find(({ path }) => path === 'model.safetensors');
    const blob = (await hub.files(name))['model.safetensors'];
    const reader = new FileReaderSync();
    const megabytesPerSecond = rate(blob.size, 3, (at, end) => reader.readAsArrayBuffer(blob.slice(at, end)));
    const memory = new WebAssembly.Memory({ initial: Math.ceil(blob.size / 65536) });
    const part = await partOf(sha256);
    // Once: the second time the memory would be there.
    const intoNewMemory = rate(blob.size, 1, (at, end) => part.read(new Uint8Array(memory.buffer, at, end - at), { at }));
    part.close();
    return { megabytes: Math.round(blob.size / 1e6), megabytesPerSecond, intoNewMemory };
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
