/**
 * The only things the page keeps between visits besides downloads: the device that was chosen and what was measured of
 * the GPU, so that the next visit starts sooner; which downloaded model was open; and a download that has not ended.
 * Nothing that was typed.
 */
import { WEIGHT_FORMATS, type DeviceChoice, type DeviceWish } from './engine/protocol.ts';
import type { Downloadable } from './state.ts';

const DEVICE = 'lorahub.device';
const MODEL = 'lorahub.model';
const DOWNLOAD = 'lorahub.download';
const CHOICES: readonly DeviceChoice[] = ['auto', 'webgpu', 'cpu'];

type Store = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

/** The model that was open. `unfinished`: it was being opened, and nothing was heard of it since. */
export interface LastModel extends Downloadable {
  unfinished?: true;
}

export class Remembered {
  readonly #storage: () => Store;
  /** What was read or written: storage answers slowly, and views ask at every change. */
  readonly #known = new Map<string, object | undefined>();
  #wish: DeviceWish;

  constructor(storage: () => Store = () => localStorage) {
    this.#storage = storage;
    this.#wish = this.#device();
  }

  get wish(): DeviceWish {
    return this.#wish;
  }

  /** `tuning` absent: what was known of the GPU stays. */
  keep(device: DeviceChoice, tuning: string | undefined): void {
    const known = tuning ?? this.#wish.tuning;
    this.#wish = { device, ...(known === undefined ? {} : { tuning: known }) };
    this.#write(DEVICE, this.#wish);
  }

  get last(): LastModel | undefined {
    const kept = this.#read(MODEL);
    const model = downloadable(kept);
    return model && (kept['unfinished'] === true ? { ...model, unfinished: true } : model);
  }

  /** Absent: the next visit begins with the demo. */
  open(model: LastModel | undefined): void {
    this.#write(MODEL, model);
  }

  /** What was being downloaded. */
  get download(): Downloadable | undefined {
    return downloadable(this.#read(DOWNLOAD));
  }

  downloading(what: Downloadable | undefined): void {
    this.#write(DOWNLOAD, what);
  }

  #device(): DeviceWish {
    const kept = this.#read(DEVICE);
    const device = CHOICES.find((choice) => choice === kept['device']) ?? 'auto';
    return { device, ...(typeof kept['tuning'] === 'string' ? { tuning: kept['tuning'] } : {}) };
  }

  /** Empty where nothing is kept, it was kept by another version, or storage is refused. */
  #read(key: string): Partial<Record<string, unknown>> {
    if (!this.#known.has(key)) this.#known.set(key, this.#stored(key));
    return { ...this.#known.get(key) };
  }

  #stored(key: string): object | undefined {
    try {
      const kept: unknown = JSON.parse(this.#storage().getItem(key) ?? '');
      return typeof kept === 'object' && kept !== null ? kept : undefined;
    } catch {
      return undefined;
    }
  }

  #write(key: string, value: object | undefined): void {
    this.#known.set(key, value);
    try {
      if (value === undefined) this.#storage().removeItem(key);
      else this.#storage().setItem(key, JSON.stringify(value));
    } catch {
      // Refused or full: the next visit chooses and measures again.
    }
  }
}

function downloadable({ base, modules, weights }: Partial<Record<string, unknown>>): Downloadable | undefined {
  const format = WEIGHT_FORMATS.find((name) => name === weights);
  const names = Array.isArray(modules) && modules.every((name) => typeof name === 'string');
  return typeof base === 'string' && names && format ? { base, modules, weights: format } : undefined;
}
