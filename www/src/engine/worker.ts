/**
 * The compute worker: the engine's methods on the WebAssembly module.
 *
 * Bundled into one classic script (build/engine.ts) that starts from a Blob, so it finds nothing by itself: the page
 * names the WebAssembly and the family by their addresses.
 */
import init, { Composer, sha256 } from '../../../pkg/lorahub_web.js';
import { EngineError } from './error.ts';
import { readFamily, type FamilyFiles } from './family.ts';
import { serve, type CallContext, type Host, type Port } from './serve.ts';
import type { Method } from './protocol.ts';

/** The model and its family, once `open` has succeeded. */
let loaded: { composer: Composer; family: FamilyFiles } | undefined;

function opened(): { composer: Composer; family: FamilyFiles } {
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
  async open({ familyUrl, wasmUrl }, { report, signal }) {
    report({ stage: 'engine', loaded: 0, total: 0 });
    await startEngine(wasmUrl);
    const family = await readFamily({ url: familyUrl, sha256, report, signal });
    const { base } = family;
    report({ stage: 'prepare', loaded: 0, total: 0 });
    const composer = await Composer.load(base.id, base.config, base.tokenizer, base.weights);
    const modules = family.modules.map(({ name, title, description, kind, config, weights }) => {
      const facts = composer.addModule(name, config, weights);
      return { name, title, description, kind, sha256: facts.sha256 };
    });
    loaded = { composer, family };
    return {
      backend: composer.backend,
      family: {
        name: family.name,
        rule: family.rule,
        base: { id: base.id, params: composer.base.params, bytes: base.weights.length },
        modules,
        tasks: family.tasks,
        words: composer.words(),
        license: family.license,
        card: family.card,
      },
    };
  },

  async estimate({ shots, settings }) {
    const { composer, family } = opened();
    return composer.estimate(shots, { rule: family.rule, ...settings });
  },

  async adapt({ shots, settings }, context) {
    const { composer, family } = opened();
    const paused = gate(context);
    return composer.adapt(shots, { rule: family.rule, ...settings }, context.signal, (progress) => {
      context.report(progress);
      return paused();
    });
  },

  async evaluate({ rows, candidates, rule }, context) {
    const { composer, family } = opened();
    return composer.evaluate(rows, candidates, rule ?? family.rule, context.signal, (done, total) =>
      context.report({ done, total }),
    );
  },

  async generate({ text, weights, rule }, context) {
    const { composer, family } = opened();
    return composer.generate(text, Float64Array.from(weights), rule ?? family.rule, undefined, context.signal, (t) =>
      context.report(t),
    );
  },

  async exportModule({ weights, rule, seed }) {
    const { composer, family } = opened();
    const zip = composer.exportModule(Float64Array.from(weights), rule ?? family.rule, seed, family.license);
    // Out of the WebAssembly's memory already: the bindings hand over a copy.
    return { name: 'composed.zip', zip: zip as Uint8Array<ArrayBuffer> };
  },

  async runRecord() {
    return opened().composer.runRecord() as Record<string, unknown>;
  },

  async unknownSpans({ text }) {
    return opened().composer.unknownSpans(text);
  },
};

serve(globalThis as unknown as Port, host);
