//! The results, as they are written.

use lorahub_adapters::Rule;
use serde::Serialize;

use crate::{List, Stored, Timing};

/// A result.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// Where all that follows was measured.
    Device(DeviceReport),
    /// A bare product.
    Gemm(GemmReport),
    /// Evaluations of one model on one set of shots under one rule.
    Evaluation(EvaluationReport),
    /// Generation.
    Greedy(GreedyReport),
}

impl Report {
    /// As one line of JSON.
    pub fn json(&self) -> String {
        // Names, numbers and lists of them: nothing that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceReport {
    /// What it calls itself: the adapter, or the CPU's threads.
    pub name: String,
    /// A software adapter proves results, not speed.
    pub software: bool,
    /// How much was measured.
    pub list: List,
    /// Repetitions of each thing.
    pub repetitions: usize,
}

/// A bare product `[rows, d_in] x [d_in, d_out]`.
#[derive(Clone, Debug, Serialize)]
pub struct GemmReport {
    /// Name of the model.
    pub shape: &'static str,
    /// Which of the model's products it is.
    pub product: &'static str,
    /// How the matrix is stored.
    pub weights: Stored,
    /// Rows of the activation.
    pub rows: usize,
    /// Inner dimension.
    pub d_in: usize,
    /// Columns of the result.
    pub d_out: usize,
    /// 1e9 floating point operations a second, at the median.
    pub gflops: f64,
    /// Times of one product.
    pub time: Timing,
}

/// Evaluations of one model on one set of shots under one rule.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluationReport {
    /// Name of the model.
    pub shape: &'static str,
    /// Name of the shots' lengths.
    pub lengths: &'static str,
    /// The composition rule.
    pub rule: Rule,
    /// How the matrices are stored.
    pub weights: Stored,
    /// 1e9 floating point operations of one candidate's pass: its products, the LoRA and what is shared by all
    /// candidates apart.
    pub gflop: f64,
    /// A single candidate first, then the generations.
    pub batches: Vec<Batch>,
}

/// Candidates that are evaluated together.
#[derive(Clone, Debug, Serialize)]
pub struct Batch {
    /// How many.
    pub candidates: usize,
    /// Times of one of them.
    pub time: Timing,
    /// Rate of the pass, in 1e9 operations a second.
    pub gflops: f64,
    /// Rate of the pass's linears, each done bare at the sizes of its micro-batches.
    pub gemm_gflops: f64,
    /// `gflops / gemm_gflops`.
    pub share: f64,
    /// Milliseconds of all products of the pass done bare, for one candidate; attention's only where the backend does
    /// them as products.
    pub floor_ms: f64,
    /// Times of one candidate over its floor, at the medians.
    pub times_floor: f64,
    /// Median over the repetitions of this time over that of as many single evaluations; absent for the single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_singles: Option<f64>,
    /// Smallest and largest of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_singles_range: Option<(f64, f64)>,
}

/// Greedy generation: the encoder and every step, with a composed module.
#[derive(Clone, Debug, Serialize)]
pub struct GreedyReport {
    /// Name of the model.
    pub shape: &'static str,
    /// How the matrices are stored.
    pub weights: Stored,
    /// Sequences together.
    pub batch: usize,
    /// Tokens of each input.
    pub input_tokens: usize,
    /// Tokens generated for each.
    pub new_tokens: usize,
    /// Tokens of all sequences a second, at the median.
    pub tokens_per_second: f64,
    /// Times of the whole.
    pub time: Timing,
}
