//! What an evaluation costs, and how far it is from the floor.
//!
//! Two questions, for random weights of a true shape: does a generation of 16 candidates cost more than 16 single
//! evaluations (it must not), and how much dearer is one evaluation than its bare matrix products, each timed at its
//! shape with the backend's own product in the same run? The same code runs natively (`src/main.rs`) and in a
//! browser's worker (`wasm`); the clock is injected.

mod model;
#[cfg(target_arch = "wasm32")]
mod wasm;

use lorahub_t5::{Cost, Product, T5Error};
use lorahub_tensor::matmul;
use serde::Serialize;

pub use model::{Shape, Workload};

/// Candidates of the generation that is compared with single evaluations.
const GENERATION: usize = 16;
/// Calls before anything counts: V8 runs the first ones in its baseline compiler.
const WARM_UP: usize = 3;

/// The result for one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the shape.
    pub shape: String,
    /// The device, with its threads.
    pub backend: String,
    /// Interleaved repetitions.
    pub repetitions: usize,
    /// Floating point operations of one evaluation, LoRA apart, in units of 1e9.
    pub gflop: f64,
    /// Median milliseconds of one evaluation on its own.
    pub single_ms: f64,
    /// Median milliseconds per candidate in a generation of 16.
    pub batched_ms: f64,
    /// Median over the pairs of (generation of 16) / (16 singles in the same pair).
    pub generation_ratio: f64,
    /// Smallest and largest of those ratios.
    pub generation_ratio_range: (f64, f64),
    /// Median milliseconds of the pass's bare matrix products.
    pub floor_ms: f64,
    /// `single_ms / floor_ms`.
    pub times_floor: f64,
    /// Rate of one evaluation, in units of 1e9 operations a second.
    pub gflops: f64,
    /// Rate of the bare products.
    pub floor_gflops: f64,
}

/// Why a benchmark could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The model could not be built or run.
    #[error(transparent)]
    Model(#[from] T5Error),
    /// The random modules do not fit together, which is a defect of the benchmark.
    #[error(transparent)]
    Modules(#[from] lorahub_adapters::AdapterError),
}

/// Measures one shape; `seconds` is a monotonic clock, `say` takes progress lines.
///
/// # Errors
/// [`BenchError`] from the engine.
pub async fn run(
    shape: Shape,
    repetitions: usize,
    seconds: impl Fn() -> f64,
    say: impl Fn(&str),
) -> Result<Report, BenchError> {
    say(&format!("{}: random weights", shape.name()));
    let work = Workload::new(shape)?;
    for _ in 0..WARM_UP {
        work.evaluate(&[0]).await?;
    }
    let all: Vec<usize> = (0..GENERATION).collect();
    work.evaluate(&all).await?;

    let (mut singles, mut batches, mut ratios, mut floors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..repetitions {
        let before = seconds();
        for candidate in 0..GENERATION {
            work.evaluate(&[candidate]).await?;
        }
        let between = seconds();
        work.evaluate(&all).await?;
        let after = seconds();
        singles.push((between - before) / GENERATION as f64);
        batches.push((after - between) / GENERATION as f64);
        ratios.push((after - between) / (between - before));
        floors.push(floor(&work.cost(), &seconds));
        say(&format!(
            "{}: {} of {repetitions}, single {:.1} ms, in 16 {:.1} ms",
            shape.name(),
            repetition + 1,
            singles[repetition] * 1e3,
            batches[repetition] * 1e3
        ));
    }
    let gflop = work.cost().flops() as f64 / 1e9;
    let (single, floor) = (median(&mut singles), median(&mut floors));
    let ratio = median(&mut ratios);
    Ok(Report {
        shape: shape.name().to_owned(),
        backend: work.backend(),
        repetitions,
        gflop,
        single_ms: single * 1e3,
        batched_ms: median(&mut batches) * 1e3,
        generation_ratio: ratio,
        // `median` has sorted them.
        generation_ratio_range: (ratios[0], ratios[ratios.len() - 1]),
        floor_ms: floor * 1e3,
        times_floor: single / floor,
        gflops: gflop / single,
        floor_gflops: gflop / floor,
    })
}

/// Seconds of the pass's matrix products, each done bare at its shape and scaled by how often a pass does it.
fn floor(cost: &Cost, seconds: &impl Fn() -> f64) -> f64 {
    cost.linears
        .iter()
        .chain(&cost.attention)
        .map(|product| bare(product, seconds))
        .sum()
}

/// Seconds of all of a pass's products of this shape.
fn bare(product: &Product, seconds: &impl Fn() -> f64) -> f64 {
    let Product {
        rows,
        d_in,
        d_out,
        count,
    } = *product;
    let x = vec![0.5f32; rows * d_in];
    let weight = vec![0.25f32; d_out * d_in];
    let mut out = vec![0f32; rows * d_out];
    // Long enough for a browser's clock, which ticks in steps of up to 0.1 ms.
    let one = 2.0 * (rows * d_in * d_out) as f64;
    let calls = ((2e7 / one).ceil() as usize).max(1);
    let before = seconds();
    for _ in 0..calls {
        matmul(rows, d_out, d_in, &x, &weight, &mut out);
        std::hint::black_box(&out);
    }
    (seconds() - before) / calls as f64 * count as f64
}

/// The median, leaving `values` sorted.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}
