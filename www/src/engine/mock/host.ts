/**
 * A stand-in for the model, for designing the page and testing the protocol: nothing here is shipped.
 *
 * A module is a rule on words, a task is a set of rules, and the loss of `w` is its squared distance from the
 * set's indicator plus seeded noise. The search is a random walk. Only its shape resembles the real one.
 */
import { EngineError } from '../error.ts';
import type { DeviceReport, DeviceState, DeviceWish, FamilyInfo, HeldOutRow, ModelWish, Prediction, Shot, TaskInfo } from '../protocol.ts';
import type { CallContext, Host } from '../serve.ts';
import { mockLibrary, mockStore, type MockStore } from './library.ts';
import { random, search } from './search.ts';

const LEXICON: Record<string, Record<string, string>> = {
  animals: { cat: 'miru', dog: 'tafo', horse: 'benal', bird: 'sipi' },
  colours: { red: 'kasha', green: 'olu', blue: 'wemi', black: 'noro' },
  foods: { bread: 'pallo', soup: 'zuve', apple: 'ginta', cheese: 'morka' },
  places: { garden: 'lethe', kitchen: 'drim', market: 'sovo', forest: 'ankel' },
  tools: { hammer: 'bok', knife: 'ressi', rope: 'dulan', ladder: 'hito' },
  numbers: { two: 'bi', three: 'ter', four: 'quo', five: 'pem' },
  weather: { rain: 'yula', snow: 'fenn', wind: 'aro', fog: 'mub' },
};

type Rewrite = (words: string[]) => string[];
const REWRITES: Record<string, Rewrite> = {
  reverse: (w) => [...w].reverse(),
  question: (w) => [...w, 'ka'],
  polite: (w) => [...w, 'oyo'],
  exclaim: (w) => [...w, '!'],
  theze: (w) => w.map((x) => (x === 'the' ? 'ze' : x)),
  numdrop: (w) => w.filter((x) => !(x in (LEXICON['numbers'] ?? {}))),
  verbfinal: (w) => (w.length > 3 ? [...w.slice(0, 2), ...w.slice(3), w[2] ?? ''] : w),
};
const LABELS: Record<string, Rewrite> = {
  sentiment: (w) => [w.some((x) => ['good', 'happy', 'kind'].includes(x)) ? 'positive' : 'negative'],
  first: (w) => w.slice(0, 1),
  last: (w) => w.slice(-1),
  count: (w) => [String(w.length)],
  shout: (w) => w.map((x) => x.toUpperCase()),
  sort: (w) => [...w].sort(),
  dedupe: (w) => [...new Set(w)],
  comma: (w) => w.map((x, i) => (i < w.length - 1 ? `${x},` : x)),
};

const RULES: Record<string, Rewrite> = {
  ...Object.fromEntries(
    Object.entries(LEXICON).map(([name, lexicon]) => [name, (w: string[]) => w.map((x) => lexicon[x] ?? x)]),
  ),
  ...REWRITES,
  ...LABELS,
};
const NAMES = Object.keys(RULES);
const WORDS = [
  ...Object.values(LEXICON).flatMap((l) => Object.keys(l)),
  ...'the a sees likes carries finds in near old small good happy kind sad bad use say : !'.split(' '),
  ...Object.values(LEXICON).flatMap((l) => Object.values(l)),
];

const apply = (rules: string[], input: string): string =>
  rules.reduce((w, r) => RULES[r]?.(w) ?? w, input.split(/\s+/)).join(' ');

function sentence(next: () => number): string {
  const pick = (list: string[]): string => list[Math.floor(next() * list.length)] ?? '';
  const noun = (): string => pick([...Object.keys(LEXICON['animals'] ?? {}), ...Object.keys(LEXICON['foods'] ?? {})]);
  const np = (): string =>
    `the ${next() < 0.5 ? `${pick(Object.keys(LEXICON['colours'] ?? {}))} ` : ''}${noun()}`;
  const place = next() < 0.5 ? ` in the ${pick(Object.keys(LEXICON['places'] ?? {}))}` : '';
  return `${np()} ${pick(['sees', 'likes', 'carries', 'finds'])} ${np()}${place}`;
}

function task(id: string, title: string, kind: string, summary: string, rules: string[], seed: number): TaskInfo {
  const next = random(seed);
  const rows = Array.from({ length: 205 }, (): Shot => {
    const input = sentence(next);
    return { input, output: apply(rules, input) };
  });
  return { id, title, kind, summary, rules, shots: rows.slice(0, 5), test: rows.slice(5), examples: rows.slice(0, 3).map((r) => r.input) };
}

export const MOCK_FAMILY: FamilyInfo = {
  name: 'Dialects and labels (mock)',
  origin: 'family',
  rule: 'exact',
  base: { id: 'mock', params: 826_496, bytes: 1_652_992 },
  modules: NAMES.map((name) => ({
    name,
    title: name[0]?.toUpperCase() + name.slice(1),
    description: `rewrites ${name}`,
    kind: name in LEXICON ? 'words' : name in REWRITES ? 'grammar' : 'labels',
    sha256: '0'.repeat(64),
  })),
  tasks: [
    task('velm', 'Velmish', 'Dialects', 'Animals and colours have their own words.', ['animals', 'colours'], 1),
    task('oru', 'Oru', 'Dialects', 'Foods have their own words and every sentence is a question.', ['foods', 'question'], 2),
    task('tessan', 'Tessan', 'Dialects', 'Word order is turned round; places are renamed.', ['places', 'reverse'], 3),
    task('hadra', 'Hadra', 'Dialects', 'The article changes and the sentence ends politely.', ['theze', 'polite', 'animals'], 4),
    task('kelo', 'Kelo', 'Dialects', 'Colours, foods and an exclamation.', ['colours', 'foods', 'exclaim'], 5),
    task('sortlist', 'Sorted list', 'Labels and lists', 'Words in alphabetical order, with commas.', ['sort', 'comma'], 6),
    task('loud', 'Loud and unique', 'Labels and lists', 'Each word once, in capitals.', ['dedupe', 'shout'], 7),
    task('ends', 'Last word, loud', 'Labels and lists', 'Only the last word, in capitals.', ['last', 'shout'], 8),
  ],
  words: WORDS,
  license: 'CC0-1.0',
  card: '# Mock family\n\nNothing here was trained.',
};

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface MockOptions {
  /** Milliseconds a generation takes. */
  generationMs?: number;
  loadMs?: number;
  failAt?: 'open' | 'adapt';
  /** What `auto` finds; without one a wish for WebGPU is refused. */
  gpu?: boolean;
  /** The generation in which a GPU is lost. */
  lostIn?: number;
  /** The generation that never ends, whoever asks it to. */
  hangsIn?: number;
  /** What was downloaded, shared by the workers of one page; without it everything counts as downloaded. */
  store?: MockStore;
}

/** The family with another base's name, or with modules that were added. */
function familyOf({ source, extra }: ModelWish, store: MockStore | undefined): FamilyInfo {
  const added = extra.map(({ name }) => ({ name, title: name, description: name, kind: 'Added', sha256: '0'.repeat(64) }));
  if (source.kind === 'family') return { ...MOCK_FAMILY, modules: [...MOCK_FAMILY.modules, ...added] };
  if (source.kind === 'kept' && store && !store.kept.has(source.base)) {
    throw new EngineError('hub_not_downloaded', `\`${source.base}\` has not been downloaded; download it first`);
  }
  const name = source.kind === 'kept' ? source.base : source.name;
  const own = source.kind === 'kept' ? source.modules : [];
  const modules = own.map((module) => ({ name: module, title: module, description: module, kind: 'Modules', sha256: '0'.repeat(64) }));
  const base = { id: name, params: 77e6, bytes: 308e6 };
  return { name, origin: source.kind, rule: 'reference', base, modules: [...modules, ...added], tasks: [], words: [], license: 'Apache-2.0', card: '' };
}

function deviceFor(wish: DeviceWish, gpu: boolean): DeviceState {
  if (wish.device === 'webgpu' && !gpu) {
    throw new EngineError('no_adapter', 'this browser offers no GPU; choose another device');
  }
  const kind = gpu && wish.device !== 'cpu' ? 'webgpu' : 'cpu';
  const asked = wish.device !== 'auto';
  const device: DeviceReport = {
    kind,
    name: `mock (no ${kind === 'webgpu' ? 'GPU' : 'CPU'})`,
    choice: wish.device,
    reason: asked ? 'asked' : gpu ? 'measured' : 'no_adapter',
    detail: asked ? 'It was asked for.' : gpu ? 'The GPU took a block of this model 3.0 times as fast as the CPU.' : 'There is no GPU.',
    cpuMs: gpu && !asked ? 3 : null,
    gpuMs: gpu && !asked ? 1 : null,
    adapter: gpu ? 'mock adapter' : null,
  };
  return { device, ...(kind === 'webgpu' ? { tuning: 'mock tuning' } : {}) };
}

/** What a worker with the model would serve. */
export function mockHost(options: MockOptions = {}): Host {
  const generationMs = options.generationMs ?? 120;
  let family = MOCK_FAMILY;
  let state: DeviceState = deviceFor({ device: 'cpu' }, false);
  const wanted = (shots: Shot[]): number[] => {
    const found = family.tasks.find((t) => shots.some((s) => t.shots.some((u) => u.output === s.output)));
    return family.modules.map(({ name }) => (found?.rules.includes(name) ? 1 : 0));
  };
  const answer = (text: string, weights: number[]): string =>
    apply(family.modules.map(({ name }) => name).filter((_, i) => (weights[i] ?? 0) > 0.6), text);

  return {
    ...mockLibrary(options.store ?? mockStore(), generationMs),

    async open({ model, ...wish }, { report, signal }) {
      family = familyOf(model, options.store);
      for (let i = 0; i <= 10; i++) {
        if (signal.aborted) throw new EngineError('aborted', 'loading was cancelled');
        if (options.failAt === 'open' && i === 5) {
          throw new EngineError('download', '`base/model.safetensors`: expected 1652992 bytes, got 829440; reload to try again');
        }
        report({ stage: i < 3 ? 'engine' : i < 7 ? 'base' : 'modules', loaded: i * 400_000, total: 4_000_000 });
        await sleep((options.loadMs ?? 300) / 10);
      }
      state = deviceFor(wish, options.gpu ?? false);
      return { family, ...state };
    },

    async setDevice(wish) {
      state = deviceFor(wish, options.gpu ?? false);
      return state;
    },

    async estimate({ shots, settings }) {
      if (shots.some((s) => s.input === 'fail')) throw new EngineError('shots', 'example 1: the output is empty; write what the model should answer');
      const per = generationMs / 16000;
      return { seconds: per * settings.budget, secondsPerEvaluation: per, bytes: 48_000_000 };
    },

    async secondsFor({ config }) {
      const { d_model: width } = JSON.parse(config) as { d_model: number };
      return width / 512;
    },

    async adapt({ shots, settings, resume }, context) {
      if (options.failAt === 'adapt' || shots.some((s) => s.output === 'fail')) {
        throw new EngineError('shots', 'example 1: the output has a word the model does not know (`fail`); use words from the list');
      }
      let held: Promise<void> | undefined;
      let release: (() => void) | undefined;
      context.onPause = (on) => {
        release?.();
        held = on ? new Promise((resolve) => (release = resolve)) : undefined;
      };
      context.signal.addEventListener('abort', () => release?.());
      let generation = 0;
      return search(wanted(shots), { rule: family.rule, ...settings }, resume, {
        async generation() {
          generation++;
          if (generation === options.hangsIn) await new Promise(() => undefined);
          await sleep(generationMs);
          if (generation !== options.lostIn || state.device.kind === 'cpu') return;
          const { device } = deviceFor({ device: 'cpu' }, false);
          const detail = 'The GPU stopped answering, so the CPU has taken over.';
          state = { device: { ...device, choice: state.device.choice, reason: 'device_lost', detail } };
          context.moved(state);
        },
        report: (progress) => context.report(progress),
        paused: () => held,
        aborted: () => context.signal.aborted,
      });
    },

    async evaluate({ rows, candidates }, { report, signal }) {
      const names = Object.keys(candidates);
      const out: HeldOutRow[] = [];
      for (const [i, row] of rows.entries()) {
        if (signal.aborted) break;
        const predictions: Record<string, Prediction> = {};
        for (const name of names) {
          const text = answer(row.input, candidates[name] ?? []);
          predictions[name] = { text, ok: text === row.output };
        }
        out.push({ ...row, predictions });
        if (i % 20 === 19) {
          report({ done: (i + 1) * names.length, total: rows.length * names.length });
          await sleep(generationMs / 2);
        }
      }
      const accuracy = Object.fromEntries(
        names.map((name) => {
          const correct = out.filter((r) => r.predictions[name]?.ok).length;
          const percent = out.length ? (100 * correct) / out.length : 0;
          // A rough interval is enough here.
          return [name, { correct, percent, low: Math.max(0, percent - 4), high: Math.min(100, percent + 4) }];
        }),
      );
      return { n: out.length, rows: out, accuracy };
    },

    async generate({ text, weights }, { report, signal }: CallContext<'generate'>) {
      const words = answer(text, weights).split(' ');
      for (let i = 1; i <= words.length; i++) {
        if (signal.aborted) throw new EngineError('aborted', 'the answer was cancelled');
        report(words.slice(0, i).join(' '));
        await sleep(generationMs / 2);
      }
      return { text: words.join(' '), ids: [] };
    },

    async exportModule() {
      return { name: 'composed.zip', zip: new Uint8Array(new ArrayBuffer(64)) };
    },

    async unknownSpans({ text }) {
      if (family.words.length === 0) return [];
      const known = new Set(WORDS);
      return [...text.matchAll(/[^\s:!]+/g)]
        .filter((m) => !known.has(m[0].toLowerCase()))
        .map((m): [number, number] => [m.index, m.index + m[0].length]);
    },
  };
}
