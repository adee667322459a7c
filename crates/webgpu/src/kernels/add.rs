//! `add`: the residual.

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        /// In vec4s.
        count: u32,
    }
}

kernel!("add", [Read, Read, Write]);

/// `x + y`, both of one shape. Buffers are whole vec4s, so the last one's tail is added too and never read.
pub(crate) fn add(gpu: &Gpu, x: &GpuTensor, y: &GpuTensor) -> Result<GpuTensor, GpuError> {
    let data = gpu.result("activations", x.len())?;
    let count = x.len().div_ceil(4);
    let params = Params { count: count as u32 };
    gpu.dispatch(
        &Program::new(&KERNEL),
        &params,
        &[&x.data, &y.data, &data],
        count.div_ceil(FLAT),
    )?;
    Ok(GpuTensor { data, ..*x })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
