/** Runs the package's bindings on the golden models, in the place where the page runs them: a worker. */
import init, { Device, cmaReplay } from '/pkg/lorahub_web.js';
import { answer } from './answer.mjs';
import { tensors } from './safetensors.mjs';

/** As in `crates/t5/tests/golden`: f32 sums in another order, and means over them; a GPU's `exp` is coarser too. */
const TOLERANCES = { cpu: { logits: 1e-4, losses: 1e-5 }, webgpu: { logits: 2e-4, losses: 2e-4 } };
const TOKENS = 64;

/** Not awaited here: a worker that waits at its top level loses the messages that come meanwhile. */
const started = init();

const bytes = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
};
const json = async (path) => JSON.parse(new TextDecoder().decode(await bytes(path)));

/** Each device once, so that its kernels are compiled once. */
const devices = new Map();

async function load(options, id, base) {
  const key = JSON.stringify(options);
  if (!devices.has(key)) devices.set(key, Device.open(base[0], options));
  const composer = await (await devices.get(key)).load(id, ...base);
  const { kind, detail } = composer.device;
  if (kind !== options.device) throw new Error(`${id} is on ${kind}: ${detail}`);
  return composer;
}

const filesOf = (folder) => Promise.all(['config.json', 'tokenizer.json', 'model.safetensors'].map((f) => bytes(`${folder}/${f}`)));

async function addModules(composer, folder, modules) {
  for (const name of modules) {
    const [config, weights] = await Promise.all(
      ['adapter_config.json', 'adapter_model.safetensors'].map((f) => bytes(`${folder}/modules/${name}/${f}`)),
    );
    composer.addModule(name, config, weights);
  }
}

/**
 * Compares every case of one golden model on the device that the options ask for. `skew` is added to each composition's
 * first weight: the control.
 */
async function golden({ model, options, skew = 0 }) {
  const tolerance = TOLERANCES[options.device];
  const folder = `/golden/models/${model}`;
  const cases = await json(`${folder}/cases.json`);
  const arrays = tensors(await bytes(`${folder}/arrays.safetensors`));
  const base = await filesOf(`${folder}/base`);
  const failures = [];
  const compared = { logits: 0, losses: 0, generations: 0, greedy: 0, batched: 0, tokens: 0, objective: 0 };
  const worst = { logits: 0, losses: 0 };
  /** What each kind took. */
  const seconds = {};
  const timed = async (kind, work) => {
    const began = performance.now();
    const result = await work;
    seconds[kind] = (seconds[kind] ?? 0) + (performance.now() - began) / 1000;
    return result;
  };
  const expect = (what, ok, found, expected) => {
    if (!ok) failures.push(`${what}: ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  };
  const expectLoss = (what, found, expected) => {
    const difference = Math.abs(found - expected) / Math.max(1, Math.abs(expected));
    worst.losses = Math.max(worst.losses, difference);
    expect(what, difference <= tolerance.losses, found, expected);
  };

  const composers = new Map();
  const composer = async (modules) => {
    const key = modules.join(' ');
    if (!composers.has(key)) {
      const made = await timed('load', load(options, model, base));
      await addModules(made, folder, modules);
      composers.set(key, made);
    }
    return composers.get(key);
  };
  const compositionOf = ({ composition }) => {
    // The base, as a composition of some modules that take no part; those that are loaded anyway.
    if (composition === null) {
      const { modules } = cases.compositions[0];
      return { rule: 'exact', modules, weights: modules.map(() => 0) };
    }
    const found = cases.compositions.find((c) => c.id === composition);
    return { ...found, weights: found.weights.map((w, i) => (i === 0 ? w + skew : w)) };
  };
  const shotsOf = (set) => cases.shot_sets[set].map(({ input, output }) => ({ input, output }));

  for (const one of cases.logits) {
    const { rule, modules, weights } = compositionOf(one);
    const made = await composer(modules);
    const adapter = one.composition === null ? undefined : Float64Array.from(weights);
    const found = await timed('logits', made.logits(Uint32Array.from(one.input_ids), Uint32Array.from(one.target_ids), adapter, rule));
    const expected = arrays(one.array);
    const scale = Math.max(1, expected.reduce((max, v) => Math.max(max, Math.abs(v)), 0));
    let difference = found.length === expected.length ? 0 : Infinity;
    // Not Math.max: a NaN must fail.
    for (let i = 0; i < expected.length; i++) {
      const d = Math.abs(found[i] - expected[i]) / scale;
      if (!(d <= difference)) difference = d;
    }
    worst.logits = Math.max(worst.logits, difference);
    expect(`logits ${one.id}`, difference <= tolerance.logits, difference, tolerance.logits);
    compared.logits += 1;
  }

  const check = (what, score, one) => {
    one.shot_loss_f64.forEach((expected, shot) => expectLoss(`${what} shot ${shot}`, score.shotLoss[shot], expected));
    expectLoss(what, score.batchLoss, one.batch_loss_f64);
    expectLoss(`${what} objective_reference`, score.objectiveReference, one.objective_reference);
    expectLoss(`${what} objective_normalised`, score.objectiveNormalised, one.objective_normalised);
  };
  // Cases of one composition's modules on the same shots, which are one generation too.
  const together = new Map();
  for (const one of cases.losses) {
    const { rule, modules, weights } = compositionOf(one);
    const [score] = await timed('losses', (await composer(modules)).score(shotsOf(one.shot_set), [weights], rule));
    check(`loss ${one.id}`, score, one);
    compared.losses += 1;
    const key = JSON.stringify([one.shot_set, rule, modules]);
    together.set(key, [...(together.get(key) ?? []), one]);
  }
  for (const same of together.values()) {
    const { rule, modules } = compositionOf(same[0]);
    // With a stranger behind each.
    const generation = same.flatMap((one) => {
      const { weights } = compositionOf(one);
      return [weights, weights.map((w) => 0.3 - w / 2)];
    });
    const scores = await timed('generations', (await composer(modules)).score(shotsOf(same[0].shot_set), generation, rule));
    same.forEach((one, i) => check(`generation ${one.id}`, scores[2 * i], one));
    compared.generations += same.length;
  }

  for (const one of cases.greedy) {
    const { rule, modules, weights } = compositionOf(one);
    const same = cases.greedy.filter((other) => other.composition === one.composition);
    // A software adapter takes a millisecond for every kernel of every token: there one input of each composition is
    // asked by itself, and the others in the batch below alone. Natively the same shaders are asked for each.
    if (options.device !== 'webgpu' || same[0] === one) {
      const seen = [];
      const found = await timed('greedy', (await composer(modules)).generate(one.input, Float64Array.from(weights), rule, TOKENS, undefined, (text) => seen.push(text)));
      expect(`greedy ${one.id}`, found.ids.join() === one.ids.join() && found.text === one.text, found, { ids: one.ids, text: one.text });
      expect(`stream ${one.id}`, seen.at(-1) === found.text && seen.length === found.ids.length, seen.length, found.ids.length);
      compared.greedy += 1;
    }
    // All inputs of the composition in one batch.
    if (same[0] !== one) continue;
    const rows = same.map(({ input, text }) => ({ input, output: text }));
    const held = await timed('batched', (await composer(modules)).evaluate(rows, { it: weights }, rule, undefined, undefined, TOKENS));
    held.rows.forEach(({ predictions }, i) => {
      const { id, text } = same[i];
      expect(`batched ${id}`, predictions.it.text === text, predictions.it.text, text);
      compared.batched += 1;
    });
  }

  for (const { weights, objective_reference: expected } of cases.objective.values) {
    const skewed = weights.map((w, i) => (i === 0 ? w + skew : w));
    const [score] = await (await composer(cases.objective.modules)).score(shotsOf(cases.objective.shot_set), [skewed], 'reference');
    expectLoss(`objective ${weights}`, score.objectiveReference, expected);
    compared.objective += 1;
  }

  // Tokens are no matter of a device.
  const plain = await load({ device: 'cpu' }, model, base);
  for (const { text, ids } of cases.tokenizer) {
    const found = Array.from(plain.encode(text));
    expect(`tokens ${JSON.stringify(text)}`, found.join() === ids.join(), found, ids);
    compared.tokens += 1;
  }
  const { name } = composers.values().next().value.device;
  for (const made of [plain, ...composers.values()]) made.free();
  return { name, failures, compared, worst, seconds };
}

/** The device's name, and a base's logits of so many input and target tokens, to be compared bit by bit. */
async function logits({ base, tokens, options }) {
  const composer = await load(options, base, await filesOf(base));
  const [input, target] = tokens.map((count) => Uint32Array.from({ length: count }, (_, at) => 2 + ((at * 37) % 101)));
  const values = await composer.logits(input, target, undefined, 'exact');
  const { name } = composer.device;
  composer.free();
  return { name, values: Array.from(values) };
}

/** A composer that `round` adapts again and again, as a visitor does who goes from task to task. */
let kept;

async function open({ model }) {
  const folder = `/golden/models/${model}`;
  const cases = await json(`${folder}/cases.json`);
  const { modules, rule } = cases.compositions.find((c) => c.modules.length > 1);
  const composer = await load({ device: 'webgpu' }, model, await filesOf(`${folder}/base`));
  await addModules(composer, folder, modules);
  const [shots] = Object.values(cases.shot_sets).map((set) => set.map(({ input, output }) => ({ input, output })));
  kept = { composer, rule, shots };
}

/** One search and one answer; what the GPU's buffers hold after that. */
async function round({ seed, budget }) {
  const { composer, rule, shots } = kept;
  const { weights } = await composer.adapt(shots, { budget, seed, rule }, undefined, undefined);
  await composer.generate(shots[0].input, Float64Array.from(weights), rule, 4, undefined, undefined);
  return composer.deviceMemory;
}

answer({
  /** Needs `--js-flags=--expose-gc`. */
  collect: async () => globalThis.gc(),
  open: async (message) => (await started, open(message)),
  round,
  golden: async (message) => (await started, golden(message)),
  logits: async (message) => (await started, logits(message)),
  replay: async ({ recording }) => (await started, cmaReplay(recording)),
});
