//! `embed`: rows of the embedding.

use super::{FLAT, include};
use crate::kernel::{Program, kernel, params};
use crate::tensor::{Format, GpuIds, GpuTensor, GpuWeight};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        count: u32,
        d_in: u32,
        weight_rows: u32,
    }
}

kernel!("embed", [Read, Read, Write]);

fn program(format: Format) -> Program {
    Program::new(&KERNEL).include(include::weight(format))
}

/// Rows `ids` of `table` (`[vocab, columns]`).
pub(crate) fn embed(
    gpu: &Gpu,
    table: &GpuWeight,
    (vocab, columns): (usize, usize),
    ids: &GpuIds,
) -> Result<GpuTensor, GpuError> {
    let data = gpu.result("activations", ids.count * columns)?;
    let params = Params {
        count: ids.count as u32,
        d_in: columns as u32,
        weight_rows: vocab as u32,
    };
    let groups = (ids.count * columns.div_ceil(4)).div_ceil(FLAT);
    gpu.dispatch(
        &program(table.format),
        &params,
        &[&ids.data, &table.data, &data],
        groups,
    )?;
    Ok(GpuTensor {
        data,
        rows: ids.count,
        columns,
    })
}

pub(crate) fn programs() -> Vec<Program> {
    Format::ALL.map(program).into()
}
