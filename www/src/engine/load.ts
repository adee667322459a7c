/**
 * The worker's reading of a model, wherever it comes from, and its way onto a device.
 *
 * What is kept or picked stays a `Blob` until it is needed: a base is read tensor by tensor, a module as it is added.
 */
import { type Composer, Device, Hub, type LoadOptions, sha256 } from '../../../pkg/lorahub_web.js';
import { EngineError } from './error.ts';
import { readFamily } from './family.ts';
import { weightBytes } from '../models/local.ts';
import type { Kept } from './library.ts';
import type { DeviceWish, FamilyInfo, LoadProgress, ModelWish, ModuleInfo, Rule, TaskInfo, WeightFormat } from './protocol.ts';

type Bytes = Uint8Array | Blob;

interface Part extends Omit<ModuleInfo, 'sha256'> {
  config: Bytes;
  weights: Bytes;
}

/** A model's files and what is known of it, before it is on any device. */
interface Parts {
  name: string;
  license: string;
  /** What the modules may be used under, where all say the same. */
  ofModules: string | undefined;
  card: string;
  tasks: TaskInfo[];
  /** Absent where nobody says. */
  rule: Rule | undefined;
  baseId: string;
  /** Of the base's weights. */
  bytes: number;
  config: Uint8Array;
  modules: Part[];
  load(device: Device): Promise<Composer>;
}

export interface ReadContext {
  report(progress: LoadProgress): void;
  signal: AbortSignal;
}

/** A model that can be loaded on one device after another. */
export class Loadable {
  readonly #parts: Parts;
  readonly #wish: ModelWish;
  #early: { wish: DeviceWish; opening: Promise<Device> } | undefined;
  #hashes: string[] = [];
  /** Why the paper's rule cannot compose its modules. */
  #noReference: string | undefined;

  private constructor(parts: Parts, wish: ModelWish) {
    this.#parts = parts;
    this.#wish = wish;
  }

  /** Reads what can be read without a device; a device is tested, measured and compiled for meanwhile. */
  static async read(wish: ModelWish, on: DeviceWish, context: ReadContext): Promise<Loadable> {
    let early: Promise<Device> | undefined;
    const onConfig = (config: Uint8Array): void => {
      early = openDevice(config, on, wish);
      // Whoever takes it sees the error; until then it is not unhandled.
      early.catch(() => undefined);
    };
    try {
      const parts = await read(wish, context, onConfig);
      parts.modules.push(...wish.extra.map((extra) => ({ ...part(extra.name, 'Added'), config: extra.config, weights: extra.weights })));
      const loadable = new Loadable(parts, wish);
      if (early) loadable.#early = { wish: on, opening: early };
      return loadable;
    } catch (thrown) {
      void early?.then(
        (device) => device.free(),
        () => undefined,
      );
      throw thrown;
    }
  }

  /** The model with its modules on a device. */
  async load(wish: DeviceWish): Promise<Composer> {
    const early = this.#early;
    this.#early = undefined;
    const opening = early?.wish === wish ? early.opening : openDevice(this.#parts.config, wish, this.#wish);
    const device = await opening;
    const composer = await this.#parts.load(device).finally(() => device.free());
    try {
      this.#hashes = [];
      for (const { name, config, weights } of this.#parts.modules) {
        this.#hashes.push(composer.addModule(name, await bytesOf(config), await bytesOf(weights)).sha256);
      }
      this.#noReference = composer.obstacle('reference');
    } catch (thrown) {
      composer.free();
      throw thrown;
    }
    return composer;
  }

  /** The rule of its modules; the paper's where nobody says. That one cannot compose different ranks. */
  get rule(): Rule {
    return this.#noReference === undefined ? (this.#parts.rule ?? 'reference') : 'exact';
  }

  /** For what is composed of the modules. */
  get license(): string | undefined {
    return this.#wish.extra.length > 0 ? undefined : this.#parts.ofModules;
  }

  /** What the page is told of it, once it has been loaded. */
  family(composer: Composer): FamilyInfo {
    const { name, license, card, tasks, baseId, bytes, modules } = this.#parts;
    return {
      name,
      origin: this.#wish.source.kind,
      rule: this.rule,
      ...(this.#noReference === undefined ? {} : { noReference: this.#noReference }),
      base: { id: baseId, params: composer.base.params, bytes },
      modules: modules.map(({ name, title, description, kind }, i) => ({ name, title, description, kind, sha256: this.#hashes[i] ?? '' })),
      tasks,
      words: composer.words(),
      license,
      card,
      ...note(composer),
    };
  }
}

/** What the visitor should know of how the base was loaded. */
function note({ conversion }: Composer): { note?: string } {
  if (conversion.state === 'unkept') {
    return { note: 'The weights were converted for this device. This browser lets the page keep only what was downloaded, so the next opening converts them again.' };
  }
  if (conversion.state !== 'failed') return {};
  return { note: `The weights were converted for this device, and that could not be kept for the next time: ${conversion.problem}.` };
}

/** What a choice of weights means to the bindings; `f32` leaves it to the device, which loses nothing. */
const LOAD_OPTIONS: Record<WeightFormat, LoadOptions> = {
  f32: {},
  f16: { dtype: 'f16' },
  q8_0: { dtype: 'q8_0' },
  'q8_0-integer': { dtype: 'q8_0', arithmetic: 'integer' },
  q4_0: { dtype: 'q4_0' },
};

function openDevice(config: Uint8Array, on: DeviceWish, { weights }: ModelWish): Promise<Device> {
  return Device.open(config, { ...on, ...LOAD_OPTIONS[weights] });
}

function read(wish: ModelWish, context: ReadContext, onConfig: (config: Uint8Array) => void): Promise<Parts> {
  switch (wish.source.kind) {
    case 'family':
      return fromFamily(wish.source.url, context, onConfig);
    case 'kept':
      return fromStorage(wish.source, context, onConfig);
    case 'files':
      return fromFiles(wish.source, context, onConfig);
  }
}

async function fromFamily(url: string, context: ReadContext, onConfig: (config: Uint8Array) => void): Promise<Parts> {
  const { base, ...family } = await readFamily({ url, sha256, ...context, onConfig });
  const { id, config, tokenizer, weights } = base;
  return { ...family, ofModules: family.license, baseId: id, bytes: weights.length, config, load: (device) => device.load(id, config, tokenizer, weights) };
}

async function fromStorage(
  { base, modules }: { base: string; modules: string[] },
  { report }: ReadContext,
  onConfig: (config: Uint8Array) => void,
): Promise<Parts> {
  report({ stage: 'base', loaded: 0, total: 0 });
  const hub = await Hub.open();
  try {
    const kept = (await hub.kept()) as Kept[];
    const of = (kind: Kept['kind'], name: string): Kept | undefined => kept.find((k) => k.kind === kind && k.name === name);
    const files = await hub.files(base);
    const about = of('base', base);
    const parts = { ...(await fromBlobs(base, files, onConfig)), load: (device: Device) => loadKept(device, base) };
    for (const name of modules) {
      const { 'adapter_config.json': config, ...others } = await hub.files(name);
      const weights = others['adapter_model.safetensors'] ?? others['adapter_model.bin'];
      if (!config || !weights) {
        throw new EngineError('hub_not_kept', `\`${name}\` has no adapter_config.json or no weights; delete it and download it again`);
      }
      parts.modules.push({ ...part(name, 'Modules'), config, weights });
    }
    const all = modules.map((name) => of('module', name));
    return { ...parts, rule: only(all.map((one) => one?.rule)), license: about?.licence ?? '', ofModules: only(all.map((one) => one?.licence)) };
  } finally {
    hub.free();
  }
}

async function fromFiles(
  { name, files }: { name: string; files: Record<string, Blob> },
  { report }: ReadContext,
  onConfig: (config: Uint8Array) => void,
): Promise<Parts> {
  report({ stage: 'base', loaded: 0, total: 0 });
  return fromBlobs(name, files, onConfig);
}

async function fromBlobs(
  id: string,
  files: Record<string, Blob>,
  onConfig: (config: Uint8Array) => void,
): Promise<Parts> {
  const file = files['config.json'];
  if (!file) throw new EngineError('base_files', 'the base has no file `config.json`; give config.json, tokenizer.json and model.safetensors together');
  const config = await bytesOf(file);
  onConfig(config);
  const bytes = weightBytes(files);
  const about = { name: id, license: '', ofModules: undefined, card: '', tasks: [], rule: undefined };
  return { ...about, baseId: id, bytes, config, modules: [], load: (device) => device.loadFiles(id, files) };
}

/** From the store: what was converted for the device at an earlier visit is read, and what is converted now is kept if it can be. */
async function loadKept(device: Device, base: string): Promise<Composer> {
  const hub = await Hub.open();
  try {
    return await device.loadKept(hub, base);
  } finally {
    hub.free();
  }
}

function part(name: string, kind: string): Omit<ModuleInfo, 'sha256'> {
  return { name, title: name.replaceAll('_', ' '), description: name, kind };
}

/** What all say, if all say the same. */
function only<T>(said: T[]): T | undefined {
  return new Set(said).size === 1 ? said[0] : undefined;
}

async function bytesOf(bytes: Bytes): Promise<Uint8Array> {
  if (bytes instanceof Uint8Array) return bytes;
  try {
    return new Uint8Array(await bytes.arrayBuffer());
  } catch (cause) {
    throw new EngineError('file_unreadable', 'a file can no longer be read; it may have been moved or changed, so choose it again', cause);
  }
}
