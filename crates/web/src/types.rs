//! What crosses to JavaScript: serde structures with the names that TypeScript sees, and their types.

use lorahub_adapters::Rule;
use lorahub_composer::{ObjectiveName, Progress};
use lorahub_devices::{Arithmetic, DeviceChoice, MemoryUse, WeightStorage};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::error::Failure;

/// The types of everything structured; functions name them in their signatures.
#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** How modules are added up. `exact`: the sum of the changes; `reference`: the paper's sum of the factors. */
export type Rule = "reference" | "exact";
/** What the search minimises. */
export type ObjectiveName = "reference" | "normalised";

export interface Shot { input: string; output: string }

/** What to compute on. `auto`: whichever a measurement shows to be faster for the model. */
export type DeviceChoice = "auto" | "webgpu" | "cpu";

export interface LoadOptions {
  /** Absent: `auto`. */
  device?: DeviceChoice;
  /** What `tuning` was the last time; spares a measurement on the same GPU. */
  tuning?: string;
  /**
   * How the base's matrices are held; arithmetic is f32 unless `arithmetic` says otherwise. Absent: `f32` on the CPU, `lossless` (f16 where
   * that loses nothing) on a GPU.
   */
  dtype?: "f32" | "lossless" | "f16" | "q8_0" | "q4_0";
  /**
   * How the CPU multiplies with matrices held as `q8_0`. `integer`, the faster: in whole numbers, with activations of 16
   * bits. Absent: `f32`. Elsewhere it changes nothing.
   */
  arithmetic?: "f32" | "integer";
  /**
   * What the CPU's products may use. Absent: relaxed-simd where the browser has it, which is faster; its rounding is
   * the processor's, so that results can differ between machines in the last bits.
   */
  instructions?: "simd128" | "relaxed-simd";
  /**
   * Threads of the CPU's products, on a cross-origin isolated page; elsewhere there is one. Absent: as many as the
   * machine has processors, 4 at most. Results are the same bits with any number.
   */
  threads?: number;
}

/** What computes, and why. */
export interface DeviceReport {
  kind: "webgpu" | "cpu";
  /** As in run records. */
  name: string;
  choice: DeviceChoice;
  /** Stable. From `no_adapter` on: why the GPU is not used, as the failure's code has it. */
  reason:
    | "asked"
    | "measured"
    | "software"
    | "no_adapter"
    | "adapter_too_small"
    | "self_test"
    | "device_lost"
    | "device_memory"
    | "device";
  /** The same in one sentence. */
  detail: string;
  /** Milliseconds per candidate of one block of this model; `null` where it was not measured. */
  cpuMs: number | null;
  gpuMs: number | null;
  /** What the GPU calls itself; `null` without one. */
  adapter: string | null;
}

/** What the GPU's buffers hold: in use, and kept for reuse. */
export interface DeviceMemory { liveBytes: number; liveBuffers: number; freeBytes: number; freeBuffers: number }

export interface AdaptSettings {
  budget: number;
  seed: number;
  objective?: ObjectiveName;
  rule?: Rule;
  /** A `checkpoint` of a search over the same base, modules and shots: it goes on with the settings it was saved with. */
  resume?: string;
}

export interface ModuleFacts {
  name: string;
  rank: number;
  scaling: number;
  /** SHA-256 of the weight file. */
  sha256: string;
}

export interface BaseFacts {
  /** Numbers in the weights. */
  params: number;
  /** SHA-256 of the weight file. */
  sha256: string;
}

/**
 * What became of the conversion of a kept base's weights: there was `none`, it was `read` from the store, or it was
 * `kept` there for the next time; it stays `unkept` where the browser gives pages its cache alone; keeping it may have
 * `failed`. The base is loaded all the same.
 */
export type Conversion = { state: "none" | "read" | "kept" | "unkept" } | { state: "failed"; problem: string };

/** One candidate's losses on the shots. */
export interface Score {
  /** Mean token cross-entropy of each shot. */
  shotLoss: number[];
  /** Mean over all target tokens of the shots. */
  batchLoss: number;
  objectiveReference: number;
  objectiveNormalised: number;
}

export interface Estimate {
  /** For the whole run. */
  seconds: number;
  secondsPerEvaluation: number;
  /** Memory of the engine during it, model included. */
  bytes: number;
}

/** A set of weights and what it reached on the shots. */
export interface Candidate { weights: number[]; loss: number; objective: number }

export type Phase = "singles" | "pass" | "search";

/** Models and modules, as the manifest's JSON has them. */
export interface Manifest {
  bases: ManifestBase[];
  modules: ManifestModule[];
  /** Absent: none. */
  sets?: { name: string; modules: string[]; description?: string }[];
}
export interface ManifestFile { path: string; size?: number; sha256?: string }
export interface ManifestBase {
  id: string;
  repository: string;
  commit?: string;
  files: ManifestFile[];
  licence?: string;
  description?: string;
}
export interface ManifestModule {
  name: string;
  /** The base it was trained on. */
  base: string;
  repository: string;
  commit?: string;
  files: ManifestFile[];
  rule?: Rule;
  task?: string;
  tags?: string[];
  licence?: string;
  description?: string;
}

/** A base or module that was downloaded. */
export interface Downloaded {
  kind: "base" | "module";
  name: string;
  repository: string;
  commit: string;
  base?: string;
  rule?: Rule;
  licence?: string;
  files: { path: string; sha256: string; size: number }[];
  /** A base's weights as devices hold them; absent: none. */
  converted?: { storage: "f16" | "q8_0" | "q4_0"; size: number }[];
  /** Of the files. */
  bytes: number;
  /** Whether all its files are still there: a browser may clear them. */
  whole: boolean;
}

/** What a download is doing, and with which file of which base or module. */
export type DownloadProgress = {
  name: string;
  path: string;
  /** From 0, of `files`. */
  index: number;
  files: number;
} & (
  | { state: "kept"; bytes: number }
  | { state: "checking"; done: number; total: number }
  | { state: "fetching"; done: number; total: number | null; per_second: number | null; seconds_left: number | null }
  | { state: "waiting"; reason: "network" | "stalled" | "busy" | "server" | "expired" | "reply" | "hash"; attempt: number; seconds: number }
  | { state: "whole" }
  | { state: "verifying"; done: number; total: number }
  | { state: "done"; bytes: number; fetched: number }
);

/** One evaluated candidate; `evaluation` counts from 1, `null` is an overflow. */
export interface HistoryPoint { evaluation: number; phase: Phase; loss: number | null; objective: number | null }

export interface Progress {
  phase: Phase;
  generation: number;
  evaluations: number;
  budget: number;
  best: Candidate;
  base: number;
  bestSingle: { index: number; objective: number } | null;
  /** Since the last report. */
  points: HistoryPoint[];
  evaluationsPerSecond: number;
  secondsLeft: number;
  /** The search after this generation, as JSON, for `resume`. It holds none of the shots' text. */
  checkpoint: string;
}

export interface Outcome extends Candidate {
  objectiveName: ObjectiveName;
  rule: Rule;
  seed: number;
  budget: number;
  evaluations: number;
  generations: number;
  /** Spent evaluating; pauses do not count. */
  seconds: number;
  stopReason: "budget" | "converged" | "cancelled";
  base: Candidate;
  /** `null` where every module overflows alone. */
  bestSingle: (Candidate & { index: number }) | null;
  /** `null` where a cancelled run did not come so far. */
  uniform: Candidate | null;
  pass: Candidate;
  search: Candidate | null;
  history: HistoryPoint[];
}

export interface Generated { text: string; ids: number[] }

export interface HeldOutRow extends Shot { predictions: Record<string, { text: string; ok: boolean }> }

export interface HeldOut {
  n: number;
  rows: HeldOutRow[];
  /** By candidate; `low` and `high` are the 95 % Wilson interval, all but `correct` in per cent. */
  accuracy: Record<string, { correct: number; percent: number; low: number; high: number }>;
}

/** Where a replay of recorded losses leaves its recording: generation, index, and the bits' numbers. */
export interface Difference { generation: number; index: number; recorded: number | null; replayed: number | null }
"#;

/// A value from JavaScript.
pub(crate) fn from_js<T: serde::de::DeserializeOwned>(value: JsValue) -> Result<T, Failure> {
    Ok(serde_wasm_bindgen::from_value(value)?)
}

/// A value that JavaScript may leave out.
pub(crate) fn optional_from_js<T: serde::de::DeserializeOwned + Default>(value: JsValue) -> Result<T, Failure> {
    if value.is_undefined() {
        return Ok(T::default());
    }
    from_js(value)
}

/// A value for JavaScript: plain objects instead of maps, `null` for what is absent.
pub(crate) fn to_js<T: Serialize + ?Sized>(value: &T) -> Result<JsValue, Failure> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    Ok(value.serialize(&serializer)?)
}

/// A rule by its name; absent: `otherwise`.
pub(crate) fn rule(name: Option<String>, otherwise: Rule) -> Result<Rule, Failure> {
    Ok(name.map_or(Ok(otherwise), |name| name.parse())?)
}

/// Settings of a search as JavaScript gives them.
/// What became of the conversion of a kept base's weights.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub(crate) enum Conversion {
    /// Nothing was converted.
    None,
    /// It was kept before.
    Read,
    /// It is kept now.
    Kept,
    /// It is not kept, because the browser's cache is the store.
    Unkept,
    /// It could not be kept.
    Failed {
        /// Why.
        problem: String,
    },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AdaptSettings {
    pub(crate) budget: usize,
    pub(crate) seed: u64,
    #[serde(default)]
    pub(crate) objective: Option<ObjectiveName>,
    #[serde(default)]
    pub(crate) rule: Option<Rule>,
    #[serde(default)]
    pub(crate) resume: Option<String>,
}

/// How a base is to be loaded, as JavaScript says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadOptions {
    #[serde(default)]
    pub(crate) device: DeviceChoice,
    #[serde(default)]
    pub(crate) tuning: Option<String>,
    #[serde(default)]
    pub(crate) dtype: Option<WeightStorage>,
    #[serde(default)]
    pub(crate) arithmetic: Arithmetic,
    #[serde(default)]
    pub(crate) instructions: Option<Instructions>,
    #[serde(default)]
    pub(crate) threads: Option<usize>,
}

/// What the CPU's products may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Instructions {
    /// What all of the program uses.
    #[serde(rename = "simd128")]
    Simd128,
    /// Fused multiply-add besides, where the browser has it.
    #[serde(rename = "relaxed-simd")]
    RelaxedSimd,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceMemory {
    live_bytes: f64,
    live_buffers: f64,
    free_bytes: f64,
    free_buffers: f64,
}

impl From<MemoryUse> for DeviceMemory {
    fn from(memory: MemoryUse) -> Self {
        Self {
            live_bytes: memory.live_bytes as f64,
            live_buffers: memory.live_buffers as f64,
            free_bytes: memory.free_bytes as f64,
            free_buffers: memory.free_buffers as f64,
        }
    }
}

/// A generation's report, with the search to go on from.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    #[serde(flatten)]
    pub(crate) progress: &'a Progress,
    pub(crate) checkpoint: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModuleFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) rank: usize,
    pub(crate) scaling: f64,
    pub(crate) sha256: &'a Option<String>,
}

#[derive(Serialize)]
pub(crate) struct BaseFacts<'a> {
    pub(crate) params: usize,
    pub(crate) sha256: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Score {
    pub(crate) shot_loss: Vec<f64>,
    pub(crate) batch_loss: f64,
    pub(crate) objective_reference: f64,
    pub(crate) objective_normalised: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Estimate {
    pub(crate) seconds: f64,
    pub(crate) seconds_per_evaluation: f64,
    pub(crate) bytes: f64,
}
