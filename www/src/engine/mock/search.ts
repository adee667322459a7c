/** The mock's search: a random walk that can be stopped after any generation and go on from what it reported. */
import { EngineError } from '../error.ts';
import type { Adapted, AdaptSettings, Candidate, HistoryPoint, Phase, Progress } from '../protocol.ts';

interface Random {
  state: number;
}

export function random(seed: number): () => number {
  const r = { state: (seed + 0x9e3779b9) >>> 0 };
  return () => next(r);
}

function next(r: Random): number {
  r.state = (r.state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(r.state ^ (r.state >>> 15), 1 | r.state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

/** All that a search is between two generations. */
interface State {
  settings: AdaptSettings;
  random: Random;
  done: number;
  generation: number;
  base: Candidate | null;
  best: Candidate | null;
  bestSingle: (Candidate & { index: number }) | null;
  pass: Candidate | null;
  passed: boolean;
  history: HistoryPoint[];
  queue: { phase: Phase; weights: number[]; index?: number }[];
  seconds: number;
}

/** The clock and the device of a search. */
export interface Surroundings {
  /** Waits as long as a generation takes; may fail as a device does. */
  generation(): Promise<void>;
  report(progress: Progress): void;
  paused(): Promise<void> | undefined;
  aborted(): boolean;
}

/** `target`: what the weights should come to. */
export async function search(target: number[], settings: AdaptSettings, resume: string | undefined, around: Surroundings): Promise<Adapted> {
  const s: State = resume === undefined ? begin(target.length, settings) : (JSON.parse(resume) as State);
  const candidate = (weights: number[]): Candidate => {
    const loss = 0.08 + target.reduce((sum, t, i) => sum + (t - (weights[i] ?? 0)) ** 2, 0) * 0.9 + next(s.random) * 0.05;
    return { weights, loss, objective: loss + (0.05 * weights.reduce((sum, x) => sum + Math.abs(x), 0)) / target.length };
  };
  const began = performance.now() - s.seconds * 1000;
  while (s.done < s.settings.budget && !around.aborted()) {
    await around.paused();
    await around.generation();
    const batch = s.queue.splice(0, Math.min(16, s.settings.budget - s.done));
    const points: HistoryPoint[] = [];
    for (const { phase, weights, index } of batch) {
      const c = candidate(weights);
      s.base ??= c;
      points.push({ evaluation: ++s.done, phase, loss: c.loss, objective: c.objective });
      if (!s.best || c.objective < s.best.objective) s.best = c;
      if (index !== undefined && (!s.bestSingle || c.objective < s.bestSingle.objective)) s.bestSingle = { ...c, index };
      if (phase !== 'search') s.pass = s.best;
    }
    s.history.push(...points);
    s.generation++;
    if (s.queue.length === 0) refill(s, target);
    s.seconds = (performance.now() - began) / 1000;
    const { best, base, bestSingle } = s;
    if (!best || !base) continue;
    around.report({
      phase: batch[0]?.phase ?? 'search',
      generation: s.generation,
      evaluations: s.done,
      budget: s.settings.budget,
      best,
      base: base.objective,
      bestSingle: bestSingle && { index: bestSingle.index, objective: bestSingle.objective },
      points,
      evaluationsPerSecond: s.done / s.seconds,
      secondsLeft: ((s.settings.budget - s.done) * s.seconds) / s.done,
      checkpoint: JSON.stringify(s),
    });
  }
  if (!s.best || !s.base || !s.pass) {
    throw new EngineError('nothing_evaluated', 'the search has evaluated nothing yet; let it run one generation');
  }
  const outcome = {
    ...s.best,
    objectiveName: s.settings.objective ?? 'normalised',
    rule: s.settings.rule ?? 'exact',
    seed: s.settings.seed,
    budget: s.settings.budget,
    evaluations: s.done,
    generations: s.generation,
    seconds: s.seconds,
    stopReason: s.done < s.settings.budget ? 'cancelled' : 'budget',
    base: s.base,
    bestSingle: s.bestSingle,
    uniform: candidate(target.map(() => 1 / target.length)),
    pass: s.pass,
    search: s.passed ? s.best : null,
    history: s.history,
  } as const;
  return { outcome, record: { schema: 1, ...outcome } };
}

function begin(modules: number, settings: AdaptSettings): State {
  const weights = (on: number): number[] => Array.from({ length: modules }, (_, j) => (j === on ? 1 : 0));
  const singles = Array.from({ length: modules }, (_, index) => ({ phase: 'singles' as const, weights: weights(index), index }));
  return {
    settings,
    random: { state: (settings.seed + 0x9e3779b9) >>> 0 },
    done: 0,
    generation: 0,
    base: null,
    best: null,
    bestSingle: null,
    pass: null,
    passed: false,
    history: [],
    queue: [{ phase: 'singles', weights: weights(-1) }, ...singles],
    seconds: 0,
  };
}

/** The pass after the singles, and then the search for ever. */
function refill(s: State, target: number[]): void {
  const from = s.best?.weights ?? target.map(() => 0);
  if (!s.passed) {
    s.passed = true;
    s.queue = Array.from({ length: 12 }, (_, i) => ({
      phase: 'pass',
      weights: from.map((w, j) => Math.max(w, target[j] && i > j / 3 ? 1 : 0)),
    }));
    return;
  }
  const step = (): number => (next(s.random) + next(s.random) + next(s.random) - 1.5) * 0.2;
  s.queue = Array.from({ length: 16 }, () => ({
    phase: 'search',
    weights: from.map((w) => Math.max(-1.5, Math.min(1.5, w + step()))),
  }));
}
