/** The page's end of the protocol: the class `Engine`, one per compute worker. */
import { EngineError } from './error.ts';
import type {
  Adapted,
  AdaptSettings,
  DeviceReport,
  DeviceState,
  DeviceWish,
  Estimate,
  Exported,
  FamilyInfo,
  Generated,
  HeldOut,
  HeldOutProgress,
  LoadProgress,
  ModelWish,
  Progress,
  Rule,
  Shot,
} from './protocol.ts';
import { startLine, type Line, type Pausable, type WorkerLike } from './line.ts';

export interface OpenOptions {
  model: ModelWish;
  wasmUrl: string;
  wish?: DeviceWish;
  start: () => WorkerLike;
  onProgress?: (progress: LoadProgress) => void;
  /** Called once if the worker dies; every call under way fails with the same error. */
  onCrash?: (error: EngineError) => void;
  /** Called when the GPU failed and the CPU took over, after `Engine.device` says so. */
  onMoved?: (device: DeviceReport) => void;
}

export interface CallOptions<R> {
  signal?: AbortSignal;
  onProgress?: (report: R) => void;
}

/** The compute worker, with its model loaded. */
export class Engine {
  readonly family: FamilyInfo;
  readonly #line: Line;
  #state: DeviceState;

  private constructor(line: Line, family: FamilyInfo, state: DeviceState, onMoved: OpenOptions['onMoved']) {
    this.#line = line;
    this.family = family;
    this.#state = state;
    line.onMoved = (moved) => {
      this.#state = moved;
      onMoved?.(moved.device);
    };
  }

  /** What computes, and why. */
  get device(): DeviceReport {
    return this.#state.device;
  }

  /** For the next start on the same GPU. */
  get tuning(): string | undefined {
    return this.#state.tuning;
  }

  /** Starts a worker and loads a model into it. Aborting ends the worker. */
  static async open(options: OpenOptions, signal?: AbortSignal): Promise<Engine> {
    signal?.throwIfAborted();
    const line = startLine(options.start, options.onCrash);
    const stop = (): void => line.close(new EngineError('aborted', 'loading was cancelled'));
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const { model, wasmUrl, wish = { device: 'auto' } } = options;
      const { family, ...state } = await line.call('open', { model, wasmUrl, ...wish }, { onProgress: options.onProgress });
      return new Engine(line, family, state, options.onMoved);
    } catch (thrown) {
      line.close();
      throw thrown;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  estimate(task: { shots: Shot[] }, settings: AdaptSettings): Promise<Estimate> {
    return this.#line.call('estimate', { shots: task.shots, settings });
  }

  /** Seconds that an evaluation of another model would take here, by its `config.json`. */
  secondsFor(config: string): Promise<number> {
    return this.#line.call('secondsFor', { config });
  }

  /** Moves the model to another device; rejects with the device's code where that fails, and the old one stays. */
  async setDevice(wish: DeviceWish): Promise<void> {
    this.#state = await this.#line.call('setDevice', wish);
  }

  /**
   * Searches for the weights. Aborting resolves with the best so far and `stopReason: 'cancelled'`, or
   * rejects with code `nothing_evaluated` where there is none yet.
   *
   * `resume` goes on from a checkpoint. With a signal that is aborted already it evaluates nothing, and resolves with
   * what the checkpoint has.
   */
  adapt(
    task: { shots: Shot[] },
    settings: AdaptSettings,
    options: CallOptions<Progress> & { onStart?: (run: Pausable) => void; resume?: string | undefined } = {},
  ): Promise<Adapted> {
    const { resume, ...rest } = options;
    if (resume === undefined) return this.#line.call('adapt', { shots: task.shots, settings }, rest);
    return this.#line.call('adapt', { shots: task.shots, settings, resume }, { ...rest, evenAborted: true });
  }

  /** Generates an answer to every row under every candidate. Aborting resolves with the rows done. */
  evaluate(
    rows: Shot[],
    candidates: Record<string, number[]>,
    options: CallOptions<HeldOutProgress> & { rule?: Rule } = {},
  ): Promise<HeldOut> {
    return this.#line.call('evaluate', { rows, candidates, ...rule(options) }, options);
  }

  /** Answers one input; `onToken` gets the whole text so far. Aborting rejects with code `aborted`. */
  generate(
    text: string,
    weights: number[],
    options: { signal?: AbortSignal; onToken?: (text: string) => void; rule?: Rule } = {},
  ): Promise<Generated> {
    const { signal, onToken } = options;
    return this.#line.call('generate', { text, weights, ...rule(options) }, { signal, onProgress: onToken });
  }

  /** The composed module as PEFT reads it, zipped. */
  exportModule(weights: number[], options: { rule?: Rule; seed?: number } = {}): Promise<Exported> {
    return this.#line.call('exportModule', { weights, ...options });
  }

  /** Where `text` has no piece in the vocabulary: [start, end) in UTF-16 units. */
  unknownSpans(text: string): Promise<[number, number][]> {
    return this.#line.call('unknownSpans', { text });
  }

  /** Ends the worker; every call under way fails with code `closed`. */
  close(): void {
    this.#line.close();
  }
}

function rule(options: { rule?: Rule }): { rule?: Rule } {
  return options.rule === undefined ? {} : { rule: options.rule };
}
