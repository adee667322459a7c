/**
 * A stand-in for the model, for designing the page and testing the protocol: nothing here is shipped.
 *
 * A module is a rule on words, a task is a set of rules, and the loss of `w` is its squared distance from the
 * set's indicator plus seeded noise. The search is a random walk. Only its shape resembles the real one.
 */
import { EngineError } from '../error.ts';
import type { Candidate, FamilyInfo, HeldOutRow, HistoryPoint, Phase, Prediction, Shot, TaskInfo } from '../protocol.ts';
import type { CallContext, Host } from '../serve.ts';

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

export function random(seed: number): () => number {
  let s = (seed + 0x9e3779b9) >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

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
}

export function mockHost(options: MockOptions = {}): Host {
  const generationMs = options.generationMs ?? 120;
  const family = MOCK_FAMILY;
  let record: Record<string, unknown> = {};
  const wanted = (shots: Shot[]): number[] => {
    const found = family.tasks.find((t) => shots.some((s) => t.shots.some((u) => u.output === s.output)));
    return NAMES.map((name) => (found?.rules.includes(name) ? 1 : 0));
  };
  const answer = (text: string, weights: number[]): string =>
    apply(NAMES.filter((_, i) => (weights[i] ?? 0) > 0.6), text);

  return {
    async open(_args, { report, signal }) {
      for (let i = 0; i <= 10; i++) {
        if (signal.aborted) throw new EngineError('aborted', 'loading was cancelled');
        if (options.failAt === 'open' && i === 5) {
          throw new EngineError('download', '`base/model.safetensors`: expected 1652992 bytes, got 829440; reload to try again');
        }
        report({ stage: i < 3 ? 'engine' : i < 7 ? 'base' : 'modules', loaded: i * 400_000, total: 4_000_000 });
        await sleep((options.loadMs ?? 300) / 10);
      }
      return { family, backend: 'mock (no model)' };
    },

    async estimate({ shots, settings }) {
      if (shots.some((s) => s.input === 'fail')) throw new EngineError('shots', 'example 1: the output is empty; write what the model should answer');
      const per = generationMs / 16000;
      return { seconds: per * settings.budget, secondsPerEvaluation: per, bytes: 48_000_000 };
    },

    async adapt({ shots, settings }, context) {
      if (options.failAt === 'adapt' || shots.some((s) => s.output === 'fail')) {
        throw new EngineError('shots', 'example 1: the output has a word the model does not know (`fail`); use words from the list');
      }
      const next = random(settings.seed);
      const target = wanted(shots);
      const loss = (w: number[]): number =>
        0.08 + target.reduce((s, t, i) => s + (t - (w[i] ?? 0)) ** 2, 0) * 0.9 + next() * 0.05;
      const candidate = (weights: number[]): Candidate => {
        const l = loss(weights);
        return { weights, loss: l, objective: l + (0.05 * weights.reduce((s, x) => s + Math.abs(x), 0)) / NAMES.length };
      };
      let held: Promise<void> | undefined;
      let release: (() => void) | undefined;
      context.onPause = (on) => {
        release?.();
        held = on ? new Promise((resolve) => (release = resolve)) : undefined;
      };
      context.signal.addEventListener('abort', () => release?.());

      const began = performance.now();
      const history: HistoryPoint[] = [];
      const zero = NAMES.map(() => 0);
      const unit = (i: number): number[] => NAMES.map((_, j) => (i === j ? 1 : 0));
      const base = candidate(zero);
      let best = base;
      let bestSingle: (Candidate & { index: number }) | null = null;
      let pass = base;
      let passed = false;
      let done = 0;
      let generation = 0;
      let queue: { phase: Phase; weights: number[]; index?: number }[] = [
        { phase: 'singles', weights: zero },
        ...NAMES.map((_, index) => ({ phase: 'singles' as const, weights: unit(index), index })),
      ];
      while (done < settings.budget && !context.signal.aborted) {
        await held;
        const batch = queue.splice(0, Math.min(16, settings.budget - done));
        await sleep(generationMs);
        const points: HistoryPoint[] = [];
        for (const { phase, weights, index } of batch) {
          const c = index === undefined && weights === zero ? base : candidate(weights);
          points.push({ evaluation: ++done, phase, loss: c.loss, objective: c.objective });
          history.push(...points.slice(-1));
          if (c.objective < best.objective) best = c;
          if (index !== undefined && (!bestSingle || c.objective < bestSingle.objective)) bestSingle = { ...c, index };
          if (phase !== 'search') pass = best;
        }
        generation++;
        const seconds = (performance.now() - began) / 1000;
        context.report({
          phase: batch[0]?.phase ?? 'search',
          generation,
          evaluations: done,
          budget: settings.budget,
          best,
          base: base.objective,
          bestSingle: bestSingle && { index: bestSingle.index, objective: bestSingle.objective },
          points,
          evaluationsPerSecond: done / seconds,
          secondsLeft: ((settings.budget - done) * seconds) / done,
        });
        if (queue.length === 0) {
          const from = best.weights;
          if (!passed) {
            passed = true;
            queue = Array.from({ length: 12 }, (_, i) => ({
              phase: 'pass' as const,
              weights: from.map((w, j) => Math.max(w, target[j] && i > j / 3 ? 1 : 0)),
            }));
          } else {
            queue = Array.from({ length: 16 }, () => ({
              phase: 'search' as const,
              weights: from.map((w) => Math.max(-1.5, Math.min(1.5, w + (next() + next() + next() - 1.5) * 0.2))),
            }));
          }
        }
      }
      if (done === 0) throw new EngineError('nothing_evaluated', 'the search has evaluated nothing yet; let it run one generation');
      const stopReason = context.signal.aborted ? 'cancelled' : 'budget';
      const outcome = {
        ...best,
        objectiveName: settings.objective ?? 'normalised',
        rule: settings.rule ?? family.rule,
        seed: settings.seed,
        budget: settings.budget,
        evaluations: done,
        generations: generation,
        seconds: (performance.now() - began) / 1000,
        stopReason,
        base,
        bestSingle,
        uniform: candidate(NAMES.map(() => 1 / NAMES.length)),
        pass,
        search: passed ? best : null,
        history,
      } as const;
      record = { schema: 1, ...outcome };
      return outcome;
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

    async runRecord() {
      return record;
    },

    async unknownSpans({ text }) {
      const known = new Set(WORDS);
      return [...text.matchAll(/[^\s:!]+/g)]
        .filter((m) => !known.has(m[0].toLowerCase()))
        .map((m): [number, number] => [m.index, m.index + m[0].length]);
    },
  };
}
