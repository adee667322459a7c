/**
 * The only thing the page keeps between visits: the device that was chosen, and what was measured of the GPU, so that
 * the next visit starts sooner. Nothing that was typed.
 */
import type { DeviceChoice, DeviceWish } from './engine/protocol.ts';

const KEY = 'lorahub.device';
const CHOICES: readonly DeviceChoice[] = ['auto', 'webgpu', 'cpu'];

export class Remembered {
  readonly #storage: () => Pick<Storage, 'getItem' | 'setItem'>;
  #wish: DeviceWish;

  constructor(storage: () => Pick<Storage, 'getItem' | 'setItem'> = () => localStorage) {
    this.#storage = storage;
    this.#wish = this.#read();
  }

  get wish(): DeviceWish {
    return this.#wish;
  }

  /** `tuning` absent: what was known of the GPU stays. */
  keep(device: DeviceChoice, tuning: string | undefined): void {
    const known = tuning ?? this.#wish.tuning;
    this.#wish = { device, ...(known === undefined ? {} : { tuning: known }) };
    try {
      this.#storage().setItem(KEY, JSON.stringify(this.#wish));
    } catch {
      // Refused or full: the next visit chooses and measures again.
    }
  }

  #read(): DeviceWish {
    try {
      const kept = JSON.parse(this.#storage().getItem(KEY) ?? '') as Partial<Record<string, unknown>>;
      const device = CHOICES.find((choice) => choice === kept['device']) ?? 'auto';
      return { device, ...(typeof kept['tuning'] === 'string' ? { tuning: kept['tuning'] } : {}) };
    } catch {
      // Nothing kept, kept by another version, or storage is refused.
      return { device: 'auto' };
    }
  }
}
