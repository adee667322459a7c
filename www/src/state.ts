/** The parts of what the page knows. `journey.ts` holds them and changes them, the views read them. */
import type { AdaptSettings, HeldOut, HeldOutProgress, HistoryPoint, Outcome, Progress, Shot, TaskInfo } from './engine/protocol.ts';

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
