/**
 * The compute worker: the engine's methods on the WebAssembly module.
 *
 * Bundled into one classic script (build/engine.ts) that starts from a Blob, so it finds nothing by itself: the page
 * names the WebAssembly and the family by their addresses.
 */
import init, { type Composer, Device, sha256 } from '../../../pkg/lorahub_web.js';
import { OnDevice } from './device.ts';
import { EngineError } from './error.ts';
import { readFamily, type FamilyFiles } from './family.ts';
import { serve, type CallContext, type Host, type Port } from './serve.ts';
import type { DeviceWish, Method, ModuleInfo } from './protocol.ts';

/** The model and its family, once `open` has succeeded. */
let loaded: { on: OnDevice<Composer>; family: FamilyFiles } | undefined;

function opened(): { on: OnDevice<Composer>; family: FamilyFiles } {
  if (!loaded) throw new EngineError('not_open', 'no model is loaded; open one first');
  return loaded;
}

/** The model with its modules on a device, from the family's files. */
async function compose({ base, modules }: FamilyFiles, device: Device): Promise<Composer> {
  const composer = await device.load(base.id, base.config, base.tokenizer, base.weights).finally(() => device.free());
  try {
    for (const { name, config, weights } of modules) composer.addModule(name, config, weights);
  } catch (thrown) {
    composer.free();
    throw thrown;
  }
  return composer;
}

/** The device that was opened as soon as the model's sizes were known. */
class EarlyDevice {
  readonly #wish: DeviceWish;
  #opening: Promise<Device> | undefined;

  constructor(wish: DeviceWish) {
    this.#wish = wish;
  }

  open(config: Uint8Array): void {
    this.#opening = Device.open(config, this.#wish);
    // Whoever takes it sees the error; until then it is not unhandled.
    this.#opening.catch(() => undefined);
  }

  /** The device, once, if it is the one wished for. */
  take(wish: DeviceWish): Promise<Device> | undefined {
    if (wish !== this.#wish) return undefined;
    const opening = this.#opening;
    this.#opening = undefined;
    return opening;
  }

  /** Gives the device back that nobody will take. */
  drop(): void {
    void this.#opening?.then(
      (device) => device.free(),
      () => undefined,
    );
  }
}

/** What a paused run waits for after each generation: nothing, or to be resumed or aborted. */
function gate<M extends Method>(context: CallContext<M>): () => Promise<void> | undefined {
  let held: Promise<void> | undefined;
  let release = (): void => undefined;
  context.onPause = (paused) => {
    release();
    held = paused ? new Promise((resolve) => (release = resolve)) : undefined;
  };
  context.signal.addEventListener('abort', () => release());
  return () => held;
}

async function startEngine(url: string): Promise<void> {
  try {
    await init({ module_or_path: url });
  } catch (thrown) {
    throw thrown instanceof WebAssembly.CompileError
      ? new EngineError('unsupported', 'this browser cannot run the engine, which needs WebAssembly with SIMD; use a current browser', thrown)
      : new EngineError('download', 'the engine could not be fetched; check the connection and try again', thrown);
  }
}

const host: Host = {
  async open({ familyUrl, wasmUrl, ...wish }, { report, signal }) {
    report({ stage: 'engine', loaded: 0, total: 0 });
    await startEngine(wasmUrl);
    // The device is tested, measured and its kernels compiled while the rest is fetched.
    const early = new EarlyDevice(wish);
    let family: FamilyFiles;
    try {
      family = await readFamily({ url: familyUrl, sha256, report, signal, onConfig: (config) => early.open(config) });
    } catch (thrown) {
      early.drop();
      throw thrown;
    }
    const { base } = family;
    report({ stage: 'prepare', loaded: 0, total: 0 });
    const load = async (wished: DeviceWish): Promise<Composer> =>
      compose(family, await (early.take(wished) ?? Device.open(base.config, wished)));
    const on = await OnDevice.open(load, wish);
    loaded = { on, family };
    const modules = family.modules.map(
      ({ name, title, description, kind, weights }): ModuleInfo => ({ name, title, description, kind, sha256: sha256(weights) }),
    );
    return {
      ...on.state,
      family: {
        name: family.name,
        rule: family.rule,
        base: { id: base.id, params: on.model.base.params, bytes: base.weights.length },
        modules,
        tasks: family.tasks,
        words: on.model.words(),
        license: family.license,
        card: family.card,
      },
    };
  },

  async setDevice(wish) {
    const { on } = opened();
    await on.move(wish);
    return on.state;
  },

  async estimate({ shots, settings }, { moved }) {
    const { on, family } = opened();
    return on.run((composer) => composer.estimate(shots, { rule: family.rule, ...settings }), moved);
  },

  async adapt({ shots, settings, resume }, context) {
    const { on, family } = opened();
    const paused = gate(context);
    let checkpoint = resume;
    return on.run(async (composer) => {
      const from = checkpoint === undefined ? {} : { resume: checkpoint };
      const outcome = await composer.adapt(shots, { rule: family.rule, ...settings, ...from }, context.signal, (progress) => {
        // Where the GPU fails, the CPU goes on from here.
        checkpoint = progress.checkpoint;
        context.report(progress);
        return paused();
      });
      return { outcome, record: composer.runRecord() };
    }, context.moved);
  },

  async evaluate({ rows, candidates, rule }, { report, signal, moved }) {
    const { on, family } = opened();
    const progress = (done: number, total: number): void => report({ done, total });
    return on.run((composer) => composer.evaluate(rows, candidates, rule ?? family.rule, signal, progress), moved);
  },

  async generate({ text, weights, rule }, { report, signal, moved }) {
    const { on, family } = opened();
    return on.run(
      (composer) => composer.generate(text, Float64Array.from(weights), rule ?? family.rule, undefined, signal, report),
      moved,
    );
  },

  async exportModule({ weights, rule, seed }) {
    const { on, family } = opened();
    const zip = on.model.exportModule(Float64Array.from(weights), rule ?? family.rule, seed, family.license);
    // Out of the WebAssembly's memory already: the bindings hand over a copy.
    return { name: 'composed.zip', zip: zip as Uint8Array<ArrayBuffer> };
  },

  async unknownSpans({ text }) {
    return opened().on.model.unknownSpans(text);
  },
};

serve(globalThis as unknown as Port, host);
