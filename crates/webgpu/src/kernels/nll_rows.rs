//! `nll_rows`: negative log-likelihood of each row's target, over a chunk of rows.

use super::include::OVERFLOW;
use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        first_row: u32,
        vocab: u32,
        tokens: u32,
    }
}

kernel!("nll_rows", [Read, Read, Write]);

fn program() -> Program {
    Program::new(&KERNEL).include(&OVERFLOW)
}

/// Writes the losses of `scores` (`[chunk, vocab]`, rows `first_row` and on of all rows) to `loss`; `targets` are the
/// `tokens` ids of one candidate.
pub(crate) fn nll_rows(
    gpu: &Gpu,
    scores: &GpuTensor,
    first_row: usize,
    targets: &Allocation,
    tokens: usize,
    loss: &Allocation,
) -> Result<(), GpuError> {
    let params = Params {
        rows: scores.rows as u32,
        first_row: first_row as u32,
        vocab: scores.columns as u32,
        tokens: tokens as u32,
    };
    gpu.dispatch(&program(), &params, &[&scores.data, targets, loss], scores.rows)
}

pub(crate) fn programs() -> Vec<Program> {
    vec![program()]
}
