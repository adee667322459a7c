//! `nll_shots`: sums of a shot's losses.

use lorahub_tensor::Segments;

use super::FLAT;
use super::include::OVERFLOW;
use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        candidates: u32,
        count: u32,
        tokens: u32,
    }
}

kernel!("nll_shots", [Read, Read, Write]);

fn program() -> Program {
    Program::new(&KERNEL).include(&OVERFLOW)
}

/// `loss` (`[candidates * tokens]`) summed over each segment: `[candidates, segments]`.
pub(crate) fn nll_shots(
    gpu: &Gpu,
    loss: &Allocation,
    segments: &Segments,
    candidates: usize,
) -> Result<GpuTensor, GpuError> {
    let count = segments.count();
    let data = gpu.result("losses", candidates * count)?;
    let spans = segments.offsets().iter().zip(segments.lengths());
    let spans = spans
        .flat_map(|(&offset, &length)| [offset as u32, length as u32])
        .collect();
    let spans = gpu.upload_remembered("shots", spans)?;
    let params = Params {
        candidates: candidates as u32,
        count: count as u32,
        tokens: segments.total() as u32,
    };
    let groups = (candidates * count).div_ceil(FLAT);
    gpu.dispatch(&program(), &params, &[loss, &spans, &data], groups)?;
    Ok(GpuTensor {
        data,
        rows: candidates,
        columns: count,
    })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![program()]
}
