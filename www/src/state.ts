/** The parts of what the page knows. `journey.ts` holds them and changes them, the views read them. */
import { EngineError } from './engine/error.ts';
import type { AdaptSettings, HeldOut, HeldOutProgress, HistoryPoint, Outcome, Progress, ModelWish, ModuleFiles, Shot, TaskInfo, WeightFormat } from './engine/protocol.ts';

/** A model to have open, before the page says where its files are. `extra`: modules of the visitor's, for this visit. */
export type ModelChoice = { extra: ModuleFiles[] } & (
  | { kind: 'demo' }
  | ({ kind: 'kept' } & Downloadable)
  | { kind: 'files'; name: string; files: Record<string, Blob>; weights: WeightFormat }
);

/** A base and modules of a hub, by name. */
export interface Downloadable {
  base: string;
  modules: string[];
  weights: WeightFormat;
}

export const DEMO: ModelChoice = { kind: 'demo', extra: [] };

export function nameOf(model: ModelChoice): string {
  return model.kind === 'demo' ? 'the demo' : model.kind === 'kept' ? model.base : model.name;
}

/** The same for the engine; `familyUrl` is where the demo lies. */
export function wishOf(model: ModelChoice, familyUrl: string): ModelWish {
  const { extra } = model;
  switch (model.kind) {
    case 'demo':
      return { source: { kind: 'family', url: familyUrl }, extra, weights: 'f32' };
    case 'kept':
      return { source: { kind: 'kept', base: model.base, modules: model.modules }, extra, weights: model.weights };
    case 'files':
      return { source: { kind: 'files', name: model.name, files: model.files }, extra, weights: model.weights };
  }
}

/** The usual reason for a worker that dies of opening a model. */
export function tooMuch(model: ModelChoice, cause: unknown): EngineError {
  return new EngineError('model_too_large', `${nameOf(model)} was more than this tab could open; choose a smaller one, or close other tabs`, cause);
}

/** Equal for models on the same base, for which the same examples make sense. */
export function baseOf(model: ModelChoice): string {
  return `${model.kind} ${nameOf(model)}`;
}

export interface Problem {
  id: number;
  code: string;
  what: string;
  remedy: string;
  /** What the card offers besides dismissing it. */
  action: 'restart' | undefined;
}

/** A row under edit; `key` survives edits, so that focus stays where it is. */
export interface DraftShot extends Shot {
  key: number;
}

export interface Draft {
  task: TaskInfo;
  own: boolean;
  shots: DraftShot[];
  /** Held-out rows. */
  test: Shot[];
}

export interface Run {
  /** `cancelled` holds from the click on; what the worker makes of it, `outcome` and `record`, comes a little later. */
  status: 'running' | 'paused' | 'cancelled' | 'done' | 'failed';
  shots: Shot[];
  settings: AdaptSettings;
  points: HistoryPoint[];
  progress: Progress | undefined;
  outcome: Outcome | undefined;
  record: Record<string, unknown> | undefined;
}

export interface Check {
  status: 'running' | 'done' | 'failed';
  total: number;
  progress: HeldOutProgress | undefined;
  result: HeldOut | undefined;
}

export interface Answer {
  text: string;
  status: 'waiting' | 'streaming' | 'done' | 'stopped';
}

export interface Attempt {
  input: string;
  base: Answer;
  /** Absent where nothing has been composed yet. */
  composed: Answer | undefined;
}

/** The names under which candidates are evaluated, in the order they are shown. */
export const CANDIDATES = ['base', 'single', 'uniform', 'pass', 'composed'] as const;
export type CandidateName = (typeof CANDIDATES)[number];

/** What can be compared after a search: weights by the candidate's name. */
export function candidatesOf({ weights, bestSingle, pass }: Outcome): Partial<Record<CandidateName, number[]>> & Record<string, number[]> {
  const alike = (weight: number): number[] => weights.map(() => weight);
  const single = bestSingle ? { single: bestSingle.weights } : {};
  return { base: alike(0), ...single, uniform: alike(1 / weights.length), pass: pass.weights, composed: weights };
}

export const OWN = 'own';
export const OWN_TASK: TaskInfo = {
  id: OWN,
  title: 'Your own',
  kind: '',
  summary: 'Write a few examples of what you want. Stay within the words this small model knows.',
  rules: [],
  shots: [],
  test: [],
  examples: [],
};
export const BUDGETS = { least: 30, most: 2000, usual: 200 };
