//! This project as a subject.

use std::rc::Rc;

use lorahub_adapters::Rule;
use lorahub_t5::Prepared;
use lorahub_tensor::{Arithmetic, Cpu, Products};

use crate::bare::CpuOperands;
use crate::workload::{Workload, tokens};
use crate::{Bare, BenchError, Job, Stored, greedy};

/// Most candidates of a run.
const CANDIDATES: usize = 16;

/// The CPU backend, ready for a job.
pub struct Ours(Ready);

enum Ready {
    Evaluation {
        work: Workload<Cpu>,
        shots: Box<Prepared<Cpu>>,
    },
    Greedy {
        work: Workload<Cpu>,
        inputs: Vec<Vec<u32>>,
        new_tokens: usize,
    },
    Gemm {
        backend: Cpu,
        operands: CpuOperands,
    },
}

impl Ours {
    pub(super) fn new(
        rule: Rule,
        weights: Stored,
        arithmetic: Arithmetic,
        products: Option<Rc<dyn Products>>,
        job: &Job,
    ) -> Result<Self, BenchError> {
        let backend = Cpu::new().with_weights(weights.into()).with_arithmetic(arithmetic);
        let backend = match products {
            Some(products) => backend.with_products(products),
            None => backend,
        };
        Ok(Self(match *job {
            Job::Evaluation {
                shape,
                ref inputs,
                ref targets,
            } => {
                let work = Workload::new(&Rc::new(backend), shape, &[rule], CANDIDATES)?;
                let shots = Box::new(work.t5.prepare(&tokens(&work.t5, inputs), &tokens(&work.t5, targets))?);
                Ready::Evaluation { work, shots }
            }
            Job::Greedy {
                shape,
                input_tokens,
                new_tokens,
            } => {
                let work = Workload::new(&Rc::new(backend), shape, &[rule], 1)?;
                let inputs = tokens(&work.t5, &[input_tokens]);
                Ready::Greedy {
                    work,
                    inputs,
                    new_tokens,
                }
            }
            Job::Gemm { rows, d_in, d_out } => {
                let operands = backend.operands(rows, d_in, d_out)?;
                Ready::Gemm { backend, operands }
            }
        }))
    }

    pub(super) async fn run(&mut self, count: usize) -> Result<f64, BenchError> {
        match &self.0 {
            Ready::Evaluation { work, shots } => {
                let count = count.min(work.candidates.len());
                let candidates: Vec<&[f64]> = work.candidates[..count].iter().map(Vec::as_slice).collect();
                let losses = work.modules[0].nll(&work.t5, shots, &candidates).await?;
                let tokens: usize = shots.target_tokens().iter().sum();
                let sum: f64 = losses.iter().flatten().map(|&loss| f64::from(loss)).sum();
                Ok(sum / (count * tokens) as f64)
            }
            Ready::Greedy {
                work,
                inputs,
                new_tokens,
            } => {
                greedy::generate(work, inputs, *new_tokens).await?;
                Ok(*new_tokens as f64)
            }
            Ready::Gemm { backend, operands } => {
                for _ in 0..count {
                    backend.multiply(operands)?;
                }
                Ok(count as f64)
            }
        }
    }
}
