//! `rms_norm`: T5's layer norm.

use super::include::OVERFLOW;
use crate::kernel::{Program, kernel, params};
use crate::tensor::{GpuTensor, GpuWeight};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        columns: u32,
        eps: f32,
    }
}

kernel!("rms_norm", [Read, Read, Write]);

fn program() -> Program {
    Program::new(&KERNEL).include(&OVERFLOW)
}

/// Rows of `x` scaled to unit root mean square, times `weight` (`[columns]`); `eps` is added to the mean square.
pub(crate) fn rms_norm(gpu: &Gpu, x: &GpuTensor, weight: &GpuWeight, eps: f32) -> Result<GpuTensor, GpuError> {
    let data = gpu.result("activations", x.len())?;
    let params = Params {
        rows: x.rows as u32,
        columns: x.columns as u32,
        eps,
    };
    gpu.dispatch(&program(), &params, &[&x.data, &weight.data, &data], x.rows)?;
    Ok(GpuTensor { data, ..*x })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![program()]
}
