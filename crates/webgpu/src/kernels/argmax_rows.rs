//! `argmax_rows`: the column with the highest score of each row, over a chunk of rows.

use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        first_row: u32,
        columns: u32,
    }
}

kernel!("argmax_rows", [Read, Write]);

/// Writes the best columns of `scores` (`[chunk, columns]`, rows `first_row` and on of all rows) to `ids`.
pub(crate) fn argmax_rows(gpu: &Gpu, scores: &GpuTensor, first_row: usize, ids: &Allocation) -> Result<(), GpuError> {
    let params = Params {
        rows: scores.rows as u32,
        first_row: first_row as u32,
        columns: scores.columns as u32,
    };
    gpu.dispatch(&Program::new(&KERNEL), &params, &[&scores.data, ids], scores.rows)
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
