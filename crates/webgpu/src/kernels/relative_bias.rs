//! `relative_bias`: T5's bias by head and distance, out of its table by bucket.

use super::{FLAT, include};
use crate::kernel::{Program, kernel, params};
use crate::tensor::{Format, GpuBias, GpuWeight};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        /// Heads: the table's columns.
        d_in: u32,
        distances: u32,
        weight_rows: u32,
    }
}

kernel!("relative_bias", [Read, Read, Write]);

fn program(format: Format) -> Program {
    Program::new(&KERNEL).include(include::weight(format))
}

/// `table` (`[buckets, heads]`) spread over distances, `buckets` naming the row of each.
pub(crate) fn relative_bias(
    gpu: &Gpu,
    table: &GpuWeight,
    (rows, heads): (usize, usize),
    buckets: &[u32],
) -> Result<GpuBias, GpuError> {
    let distances = buckets.len();
    let data = gpu.result("bias", heads * distances)?;
    let buckets = gpu.upload_remembered("buckets", buckets.to_vec())?;
    let params = Params {
        d_in: heads as u32,
        distances: distances as u32,
        weight_rows: rows as u32,
    };
    let groups = (heads * distances).div_ceil(FLAT);
    gpu.dispatch(&program(table.format), &params, &[&buckets, &table.data, &data], groups)?;
    Ok(GpuBias { data, heads, distances })
}

pub(crate) fn programs() -> Vec<Program> {
    Format::ALL.map(program).into()
}
