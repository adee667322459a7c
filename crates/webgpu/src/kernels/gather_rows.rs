//! `gather_rows`: rows of an activation, in any order and number.

use std::rc::Rc;

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        count: u32,
        columns: u32,
    }
}

kernel!("gather_rows", [Read, Read, Write]);

/// Rows `rows` of `x` (`[.., columns]`) into the first rows of a buffer with room for `room` of them.
pub(crate) fn gather_rows(
    gpu: &Gpu,
    x: &Allocation,
    columns: usize,
    rows: Vec<u32>,
    room: usize,
) -> Result<Rc<Allocation>, GpuError> {
    let count = rows.len();
    let data = gpu.result("activations", room.max(count) * columns)?;
    let rows = gpu.upload_remembered("rows", rows)?;
    let params = Params {
        count: count as u32,
        columns: columns as u32,
    };
    let groups = (count * columns).div_ceil(FLAT);
    gpu.dispatch(&Program::new(&KERNEL), &params, &[x, &rows, &data], groups)?;
    Ok(data)
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
