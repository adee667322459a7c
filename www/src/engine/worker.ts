/**
 * The compute worker: the engine's methods on the WebAssembly module.
 *
 * Bundled into one classic script (build/engine.ts) that starts from a Blob, so it finds nothing by itself: the page
 * names the WebAssembly and the family by their addresses. `load.ts` reads models, `store.ts` keeps them.
 */
import init, { type Composer } from '../../../pkg/lorahub_web.js';
import { OnDevice } from './device.ts';
import { EngineError } from './error.ts';
import { Loadable } from './load.ts';
import { serve, type CallContext, type Host, type Port } from './serve.ts';
import { store } from './store.ts';
import type { DeviceWish, Method } from './protocol.ts';

/** The model and where it came from, once `open` has succeeded. */
let loaded: { on: OnDevice<Composer>; from: Loadable } | undefined;

function opened(): { on: OnDevice<Composer>; from: Loadable } {
  if (!loaded) throw new EngineError('not_open', 'no model is loaded; open one first');
  return loaded;
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
  async open({ model, wasmUrl, ...wish }, { report, signal }) {
    report({ stage: 'engine', loaded: 0, total: 0 });
    await startEngine(wasmUrl);
    const from = await Loadable.read(model, wish, { report, signal });
    report({ stage: 'prepare', loaded: 0, total: 0 });
    const on = await OnDevice.open((wished: DeviceWish) => from.load(wished), wish);
    loaded = { on, from };
    return { ...on.state, family: from.family(on.model) };
  },

  async setDevice(wish) {
    const { on } = opened();
    await on.move(wish);
    return on.state;
  },

  async estimate({ shots, settings }, { moved }) {
    const { on, from } = opened();
    return on.run((composer) => composer.estimate(shots, { rule: from.rule, ...settings }), moved);
  },

  async secondsFor({ config }) {
    // Where another model is too large for the GPU, the one that is open stays on it.
    return opened().on.model.secondsFor(new TextEncoder().encode(config));
  },

  async adapt({ shots, settings, resume }, context) {
    const { on, from } = opened();
    const paused = gate(context);
    let checkpoint = resume;
    return on.run(async (composer) => {
      const go = checkpoint === undefined ? {} : { resume: checkpoint };
      const outcome = await composer.adapt(shots, { rule: from.rule, ...settings, ...go }, context.signal, (progress) => {
        // Where the GPU fails, the CPU goes on from here.
        checkpoint = progress.checkpoint;
        context.report(progress);
        return paused();
      });
      return { outcome, record: composer.runRecord() };
    }, context.moved);
  },

  async evaluate({ rows, candidates, rule }, { report, signal, moved }) {
    const { on, from } = opened();
    const progress = (done: number, total: number): void => report({ done, total });
    return on.run((composer) => composer.evaluate(rows, candidates, rule ?? from.rule, signal, progress), moved);
  },

  async generate({ text, weights, rule }, { report, signal, moved }) {
    const { on, from } = opened();
    return on.run(
      (composer) => composer.generate(text, Float64Array.from(weights), rule ?? from.rule, undefined, signal, report),
      moved,
    );
  },

  async exportModule({ weights, rule, seed }) {
    const { on, from } = opened();
    const zip = on.model.exportModule(Float64Array.from(weights), rule ?? from.rule, seed, from.license);
    // Out of the WebAssembly's memory already: the bindings hand over a copy.
    return { name: 'composed.zip', zip: zip as Uint8Array<ArrayBuffer> };
  },

  async unknownSpans({ text }) {
    return opened().on.model.unknownSpans(text);
  },

  ...store(startEngine),
};

serve(globalThis as unknown as Port, host);
