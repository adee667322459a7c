//! Bare products of the models' linears.

use lorahub_t5::Config;

use crate::bare::Repeated;
use crate::machine::Spans;
use crate::{Bare, BenchError, GemmReport, Machine, Plan, Report};

/// The head has as many rows as there are target tokens, which are never more; past them only its result would be
/// large.
const HEAD_ROWS: usize = 128;

/// Each kind of linear with its inner dimension and its columns.
fn products(config: &Config) -> [(&'static str, usize, usize); 5] {
    [
        ("q, k, v", config.d_model, config.inner()),
        ("o", config.inner(), config.d_model),
        ("wi", config.d_model, config.d_ff),
        ("wo", config.d_ff, config.d_model),
        ("head", config.d_model, config.vocab_size),
    ]
}

pub(crate) async fn measure<B: Bare, M: Machine>(plan: &Plan, machine: &M) -> Result<(), BenchError> {
    for &weights in &plan.stored {
        // A device of its own: how matrices are stored is settled when it is opened.
        let backend = B::open(weights, machine).await?;
        for shape in &plan.gemm_shapes {
            machine.say(&format!("{} products, {}", shape.name(), weights.name()));
            let config = shape.config()?;
            let mut items = Vec::new();
            for (product, d_in, d_out) in products(&config) {
                for &rows in &plan.gemm_rows {
                    if product != "head" || plan.gemm_head && rows <= HEAD_ROWS {
                        let repeated = Repeated::new(&backend, machine, (rows, d_in, d_out)).await?;
                        items.push(((product, rows, d_in, d_out), repeated, Spans::default()));
                    }
                }
            }
            for _ in 0..plan.repetitions {
                for (_, repeated, spans) in &mut items {
                    spans.time(machine, repeated.run(&backend)).await?;
                }
            }
            for ((product, rows, d_in, d_out), repeated, spans) in items {
                let time = spans.timing(repeated.calls);
                machine.report(&Report::Gemm(GemmReport {
                    shape: shape.name(),
                    product,
                    weights,
                    rows,
                    d_in,
                    d_out,
                    gflops: 2.0 * (rows * d_in * d_out) as f64 / time.ms / 1e6,
                    time,
                }));
            }
        }
    }
    Ok(())
}
