//! `gated_gelu`: T5 v1.1's gated activation.

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

kernel!("gated_gelu", [Read, Read, Write]);

/// `gelu(gate) * up`, both of one shape. Buffers are whole vec4s, so the last one's tail is computed too and never read.
pub(crate) fn gated_gelu(gpu: &Gpu, gate: &GpuTensor, up: &GpuTensor) -> Result<GpuTensor, GpuError> {
    let data = gpu.result("activations", gate.len())?;
    let count = gate.len().div_ceil(4);
    let params = Params { count: count as u32 };
    gpu.dispatch(
        &Program::new(&KERNEL),
        &params,
        &[&gate.data, &up.data, &data],
        count.div_ceil(FLAT),
    )?;
    Ok(GpuTensor { data, ..*gate })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
