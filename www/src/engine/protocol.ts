/**
 * What the page and the compute worker say to each other: plain data only, no classes, no functions.
 *
 * `client.ts` speaks it for the page, `serve.ts` for a worker. A method is one entry of `Calls`;
 * adding one is adding a line there and a method to both ends, and the compiler names what is missing.
 * Weights are numbers in the order of `FamilyInfo.modules`, inside [-1.5, 1.5].
 */

import type { LibraryCalls } from './library.ts';

/** How modules are added up. `exact`: the sum of the changes; `reference`: the paper's sum of the factors. */
export type Rule = 'reference' | 'exact';

/** What the search minimises: `normalised` is cross-entropy + penalty, `reference` divides it by the number of shots. */
export type ObjectiveName = 'reference' | 'normalised';

/** How a base's matrices are held while it is open; `f32` is as the device likes it best, and loses nothing. */
export const WEIGHT_FORMATS = ['f32', 'f16', 'q8_0', 'q8_0-integer', 'q4_0'] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** One example of a task. */
export interface Shot {
  input: string;
  output: string;
}

/** What to compute on. `auto`: the GPU where a measurement shows it to be the faster, else the CPU. */
export type DeviceChoice = 'auto' | 'webgpu' | 'cpu';

/** Failures of the GPU: the CPU can do the same work, so each has a way on. */
export const DEVICE_FAILURES = ['no_adapter', 'adapter_too_small', 'self_test', 'device_lost', 'device_memory', 'device'] as const;
export type DeviceFailure = (typeof DEVICE_FAILURES)[number];

/** What computes, and why it does. */
export interface DeviceReport {
  kind: 'webgpu' | 'cpu';
  name: string;
  choice: DeviceChoice;
  /** Stable: `asked` for, `measured` to be the faster, the only GPU is `software`, or what was wrong with the GPU. */
  reason: 'asked' | 'measured' | 'software' | DeviceFailure;
  /** The same in one sentence. */
  detail: string;
  /** Milliseconds for one block of this model; `null` where it was not measured. */
  cpuMs: number | null;
  gpuMs: number | null;
  /** What the GPU calls itself; `null` without one. */
  adapter: string | null;
}

export interface ModuleInfo {
  name: string;
  title: string;
  description: string;
  /** The group it belongs to, as the family names it. */
  kind: string;
  /** SHA-256 of its weight file, hexadecimal. */
  sha256: string;
}

export interface TaskInfo {
  id: string;
  title: string;
  kind: string;
  summary: string;
  /** The rules behind a target, for showing afterwards. They take no part in the search. */
  rules: string[];
  shots: Shot[];
  /** Held-out rows: never among the shots. */
  test: Shot[];
  /** Inputs worth trying. */
  examples: string[];
}

export interface FamilyInfo {
  name: string;
  /** The bundled family, one that was downloaded, or files of the visitor's. */
  origin: Source['kind'];
  rule: Rule;
  /** Why its modules cannot be composed under `reference`; absent where they can. */
  noReference?: string;
  base: { id: string; params: number; bytes: number };
  modules: ModuleInfo[];
  tasks: TaskInfo[];
  /** Every word the base was trained on, in the tokenizer's order; empty where the vocabulary is not one of words. */
  words: string[];
  /** Empty where it is not known. */
  license: string;
  /** The family's model card, Markdown; empty without one. */
  card: string;
  /** What the visitor should know of how it was opened. */
  note?: string;
}

export interface AdaptSettings {
  /** Evaluations in all: the base, each module alone and the pass are counted. */
  budget: number;
  seed: number;
  objective?: ObjectiveName;
  /** Absent: the family's own rule. */
  rule?: Rule;
}

export interface Estimate {
  /** For the whole run. */
  seconds: number;
  secondsPerEvaluation: number;
  /** Memory of the engine during it, model included. */
  bytes: number;
}

/** Which part of the strategy is at work: base and modules alone, the ranked pass, the CMA-ES search. */
export type Phase = 'singles' | 'pass' | 'search';

/** One evaluated candidate. */
export interface HistoryPoint {
  /** Counted from 1. */
  evaluation: number;
  phase: Phase;
  /** Mean cross-entropy over the target tokens; `null` where it overflowed. */
  loss: number | null;
  /** What is minimised: the loss with the penalty on the weights. */
  objective: number | null;
}

export interface Progress {
  phase: Phase;
  generation: number;
  evaluations: number;
  budget: number;
  best: Candidate;
  /** The base's objective. */
  base: number;
  /** `null` as long as every module overflowed alone. */
  bestSingle: { index: number; objective: number } | null;
  /** The candidates evaluated since the last report. */
  points: HistoryPoint[];
  evaluationsPerSecond: number;
  secondsLeft: number;
  /** The search after this generation: what `resume` takes. It holds nothing of the examples' text. */
  checkpoint: string;
}

/** A set of weights and what it reached on the shots. */
export interface Candidate {
  weights: number[];
  loss: number;
  objective: number;
}

export type StopReason = 'budget' | 'converged' | 'cancelled';

export interface Outcome extends Candidate {
  objectiveName: ObjectiveName;
  rule: Rule;
  seed: number;
  budget: number;
  evaluations: number;
  generations: number;
  /** Spent evaluating; pauses do not count. */
  seconds: number;
  stopReason: StopReason;
  base: Candidate;
  /** `null` where every module overflowed alone. */
  bestSingle: (Candidate & { index: number }) | null;
  /** `null` where a cancelled run had not come so far. */
  uniform: Candidate | null;
  /** The best set of modules at weight 1; the base is the empty set. */
  pass: Candidate;
  search: Candidate | null;
  history: HistoryPoint[];
}

/** What a search found, and its record: the file that says how to find it again. */
export interface Adapted {
  outcome: Outcome;
  record: Record<string, unknown>;
}

export interface Prediction {
  text: string;
  /** Equal to the expected output after the reference's normalisation. */
  ok: boolean;
}

export interface HeldOutRow extends Shot {
  /** By candidate name. */
  predictions: Record<string, Prediction>;
}

export interface Accuracy {
  correct: number;
  /** Exact match in per cent. */
  percent: number;
  /** Its 95 % interval after Wilson, in per cent. */
  low: number;
  high: number;
}

export interface HeldOut {
  /** Rows evaluated; fewer than asked for where it was cancelled. */
  n: number;
  rows: HeldOutRow[];
  accuracy: Record<string, Accuracy>;
}

export interface HeldOutProgress {
  /** Rows finished, and all rows, over all candidates. */
  done: number;
  total: number;
}

export interface Generated {
  text: string;
  ids: number[];
}

/** An exported adapter, as PEFT loads it, in one stored zip. */
export interface Exported {
  /** File name. */
  name: string;
  zip: Uint8Array<ArrayBuffer>;
}

/** How far opening has come. `loaded` and `total` are bytes. */
export interface LoadProgress {
  stage: 'engine' | 'family' | 'base' | 'modules' | 'prepare';
  loaded: number;
  total: number;
}

/** What a failure carries over to the page. */
export interface Failure {
  /** Stable: safe to compare with. */
  code: string;
  /** One sentence; what to do about it follows the last semicolon. */
  message: string;
  cause?: string;
}

/** The device that is in use, and what a later start on the same GPU need not measure again. */
export interface DeviceState {
  device: DeviceReport;
  tuning?: string;
}

export interface Opened extends DeviceState {
  family: FamilyInfo;
}

/** A module as files. `weights` is `adapter_model.safetensors` or `adapter_model.bin`: its content tells. */
export interface ModuleFiles {
  name: string;
  config: Blob;
  weights: Blob;
}

/** Where a model comes from. Nothing here makes a request but `family`, which reads the page's own files. */
export type Source =
  /** With a slash at the end. */
  | { kind: 'family'; url: string }
  /** Downloaded before, by name. */
  | { kind: 'kept'; base: string; modules: string[] }
  /** The base's files, by their names. */
  | { kind: 'files'; name: string; files: Record<string, Blob> };

/** A model to open. */
export interface ModelWish {
  source: Source;
  /** Modules that join those of the source. */
  extra: ModuleFiles[];
  weights: WeightFormat;
}

export interface DeviceWish {
  device: DeviceChoice;
  /** That of an earlier `DeviceState`. */
  tuning?: string;
}

/** Every method of the engine and, in a worker of its own, of the library: what goes over, what comes back, and what is reported while it runs. */
export interface Calls extends LibraryCalls {
  /** A GPU that fails here gives way to the CPU, and the report says so. */
  open: { args: { model: ModelWish; wasmUrl: string } & DeviceWish; result: Opened; report: LoadProgress };
  /** Moves the model to another device. Where that fails the old one stays in use. */
  setDevice: { args: DeviceWish; result: DeviceState; report: never };
  estimate: { args: { shots: Shot[]; settings: AdaptSettings }; result: Estimate; report: never };
  /** Seconds for an evaluation of another model on this device, by its `config.json`: five examples of usual length. */
  secondsFor: { args: { config: string }; result: number; report: never };
  /** With `resume`, a search goes on from that checkpoint with the settings it had. */
  adapt: { args: { shots: Shot[]; settings: AdaptSettings; resume?: string }; result: Adapted; report: Progress };
  evaluate: {
    args: { rows: Shot[]; candidates: Record<string, number[]>; rule?: Rule };
    result: HeldOut;
    report: HeldOutProgress;
  };
  generate: { args: { text: string; weights: number[]; rule?: Rule }; result: Generated; report: string };
  exportModule: { args: { weights: number[]; rule?: Rule; seed?: number }; result: Exported; report: never };
  /** Where the text has no piece in the vocabulary: [start, end) in UTF-16 units. */
  unknownSpans: { args: { text: string }; result: [number, number][]; report: never };
}

export type Method = keyof Calls;

/** The page to the worker. */
export type Request =
  | { [M in Method]: { type: 'call'; id: number; method: M; args: Calls[M]['args']; /** From the start. */ aborted?: true } }[Method]
  | { type: 'abort' | 'pause' | 'resume'; id: number };

/** The worker to the page. */
export type Reply =
  | { type: 'report'; id: number; report: Calls[Method]['report'] }
  | { type: 'result'; id: number; result: Calls[Method]['result'] }
  | { type: 'failure'; id: number; failure: Failure }
  /** The GPU failed inside a call, and the CPU goes on with it. */
  | { type: 'device'; state: DeviceState };
