//! `relu`: T5 1.0's activation.

use super::FLAT;
use super::include::OVERFLOW;
use crate::kernel::{Program, kernel, params};
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        /// In vec4s.
        count: u32,
    }
}

kernel!("relu", [Read, Write]);

fn program() -> Program {
    Program::new(&KERNEL).include(&OVERFLOW)
}

/// `max(x, 0)`. Buffers are whole vec4s, so the last one's tail is computed too and never read.
pub(crate) fn relu(gpu: &Gpu, x: &GpuTensor) -> Result<GpuTensor, GpuError> {
    let data = gpu.result("activations", x.len())?;
    let count = x.len().div_ceil(4);
    let params = Params { count: count as u32 };
    gpu.dispatch(&program(), &params, &[&x.data, &data], count.div_ceil(FLAT))?;
    Ok(GpuTensor { data, ..*x })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![program()]
}
