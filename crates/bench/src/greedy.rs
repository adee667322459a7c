//! Greedy generation, with twenty modules composed.

use std::rc::Rc;

use lorahub_adapters::Rule;
use lorahub_t5::Decode;

use crate::machine::Spans;
use crate::workload::{Workload, tokens};
use crate::{Bare, BenchError, GreedyReport, Machine, Plan, Report, Stored};

const BATCHES: [usize; 2] = [1, 8];
const INPUT_TOKENS: usize = 64;
const NEW_TOKENS: usize = 32;
/// As for evaluations.
const WARM_UP: usize = 2;

pub(crate) async fn measure<B: Bare, M: Machine>(backend: &Rc<B>, plan: &Plan, machine: &M) -> Result<(), BenchError> {
    for &shape in &plan.shapes {
        machine.say(&format!("{}: generation", shape.name()));
        let work = Workload::new(backend, shape, &[Rule::Reference], 1)?;
        let inputs = BATCHES.map(|batch| tokens(&work.t5, &vec![INPUT_TOKENS; batch]));
        let mut spans = BATCHES.map(|_| Spans::default());
        for repetition in 0..WARM_UP + plan.repetitions {
            for (inputs, spans) in inputs.iter().zip(&mut spans) {
                let generation = generate(&work, inputs, NEW_TOKENS);
                if repetition < WARM_UP {
                    generation.await?;
                } else {
                    spans.time(machine, generation).await?;
                }
            }
        }
        for (batch, spans) in BATCHES.into_iter().zip(spans) {
            machine.report(&Report::Greedy(GreedyReport {
                shape: shape.name(),
                weights: Stored::F32,
                batch,
                input_tokens: INPUT_TOKENS,
                new_tokens: NEW_TOKENS,
                tokens_per_second: (batch * NEW_TOKENS) as f64 / spans.median(),
                time: spans.timing(1),
            }));
        }
    }
    Ok(())
}

/// Every step to the last: random weights end when they like, so `</s>` does not count.
pub(crate) async fn generate<B: Bare>(
    work: &Workload<B>,
    inputs: &[Vec<u32>],
    new_tokens: usize,
) -> Result<(), BenchError> {
    let adapter = work.modules[0].compose(&work.t5, &[&work.candidates[0]])?;
    let mut decode = Decode::start(&work.t5, &adapter, inputs, new_tokens).await?;
    let mut done = 0;
    while done < new_tokens {
        let steps = work.t5.backend().steps_per_read(done).clamp(1, new_tokens - done);
        decode.steps(steps).await?;
        done += steps;
    }
    Ok(())
}
