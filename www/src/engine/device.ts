/**
 * The worker's hold on one model and the device it is on: moves it, and lets the CPU go on where a GPU fails.
 *
 * Knows of a model only that it can be loaded, used and freed.
 */
import { EngineError } from './error.ts';
import { DEVICE_FAILURES, type DeviceFailure, type DeviceReport, type DeviceState, type DeviceWish } from './protocol.ts';

/** A model on its device: the part of `Composer` that is used here. */
export interface Model {
  readonly device: DeviceReport;
  readonly tuning: string | undefined;
  free(): void;
}

interface Held<M> {
  model: M;
  device: DeviceReport;
  /** Calls under way on it. */
  users: number;
  retired: boolean;
}

/** What a GPU's failure is to the reader; every sentence ends with who computes now. */
const TOOK_OVER: Record<DeviceFailure, string> = {
  no_adapter: 'This browser offers no GPU, so the CPU computes.',
  adapter_too_small: 'The GPU is too small for this model, so the CPU computes.',
  self_test: 'The GPU gave wrong numbers in its self-test, so the CPU computes.',
  device_lost: 'The GPU stopped answering, so the CPU has taken over.',
  device_memory: 'The GPU ran out of memory, so the CPU has taken over.',
  device: 'The GPU reported an error, so the CPU has taken over.',
};

/** The code of a failure that is the GPU's, so that the CPU may succeed at the same work. */
export function deviceFailure(thrown: unknown): DeviceFailure | undefined {
  const { code } = EngineError.wrap(thrown);
  return DEVICE_FAILURES.find((failure) => failure === code);
}

export class OnDevice<M extends Model> {
  readonly #load: (wish: DeviceWish) => Promise<M>;
  #held: Held<M>;
  /** Under way where a GPU has failed. */
  #fallingBack: Promise<void> | undefined;

  private constructor(load: (wish: DeviceWish) => Promise<M>, held: Held<M>) {
    this.#load = load;
    this.#held = held;
  }

  /** Loads a model on the device wished for; where that is a GPU and it fails, on the CPU. */
  static async open<M extends Model>(load: (wish: DeviceWish) => Promise<M>, wish: DeviceWish): Promise<OnDevice<M>> {
    try {
      return new OnDevice(load, hold(await load(wish)));
    } catch (thrown) {
      const failure = deviceFailure(thrown);
      if (!failure || wish.device === 'cpu') throw thrown;
      return new OnDevice(load, hold(await load({ device: 'cpu' }), { failure, choice: wish.device }));
    }
  }

  get state(): DeviceState {
    const { model, device } = this.#held;
    return { device, ...(model.tuning === undefined ? {} : { tuning: model.tuning }) };
  }

  /** The model, for what needs no device: names, words, exports. Not to be kept over a wait. */
  get model(): M {
    return this.#held.model;
  }

  /** Loads the model on another device; where that fails, the old one stays. */
  async move(wish: DeviceWish): Promise<void> {
    await this.#fallingBack;
    this.#replace(hold(await this.#load(wish)));
  }

  /**
   * Works with the model. Where the GPU fails, the model is loaded on the CPU, `moved` is told, and the work is done
   * again there.
   */
  async run<T>(work: (model: M) => Promise<T>, moved: (state: DeviceState) => void): Promise<T> {
    for (;;) {
      await this.#fallingBack;
      const held = this.#held;
      held.users++;
      try {
        return await work(held.model);
      } catch (thrown) {
        const failure = deviceFailure(thrown);
        if (!failure || held.device.kind === 'cpu') throw thrown;
        // Of several calls on a GPU that fails, the first makes the move.
        if (held === this.#held) this.#fallingBack ??= this.#fallBack(failure, moved);
      } finally {
        held.users--;
        freeIfDone(held);
      }
    }
  }

  async #fallBack(failure: DeviceFailure, moved: (state: DeviceState) => void): Promise<void> {
    try {
      const { choice } = this.#held.device;
      this.#replace(hold(await this.#load({ device: 'cpu' }), { failure, choice }));
      moved(this.state);
    } finally {
      this.#fallingBack = undefined;
    }
  }

  #replace(held: Held<M>): void {
    const old = this.#held;
    this.#held = held;
    old.retired = true;
    freeIfDone(old);
  }
}

function hold<M extends Model>(model: M, after?: { failure: DeviceFailure; choice: DeviceWish['device'] }): Held<M> {
  const device = after
    ? { ...model.device, choice: after.choice, reason: after.failure, detail: TOOK_OVER[after.failure] }
    : model.device;
  return { model, device, users: 0, retired: false };
}

/** Bindings refuse to be freed inside a call, and a paused search may hold one for long. */
function freeIfDone(held: Held<Model>): void {
  if (held.retired && held.users === 0) held.model.free();
}
