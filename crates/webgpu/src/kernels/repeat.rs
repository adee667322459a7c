//! `repeat`: what all candidates share, once for each.

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        count: u32,
        length: u32,
    }
}

kernel!("repeat", [Read, Write]);

/// `x` `times` times, one below the other.
pub(crate) fn repeat(gpu: &Gpu, x: &GpuTensor, times: usize) -> Result<GpuTensor, GpuError> {
    let count = x.len() * times;
    let data = gpu.result("activations", count)?;
    let params = Params {
        count: count as u32,
        length: x.len() as u32,
    };
    gpu.dispatch(&Program::new(&KERNEL), &params, &[&x.data, &data], count.div_ceil(FLAT))?;
    Ok(GpuTensor {
        data,
        rows: x.rows * times,
        columns: x.columns,
    })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
