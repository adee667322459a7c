//! `lora_up`: adds the adapters to a base product that all candidates share.

use super::include::{LORA_TERM, TILE};
use crate::kernel::{Program, kernel, params};
use crate::lora::GpuLora;
use crate::memory::Allocation;
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        weight_rows: u32,
        tokens: u32,
        rank4: u32,
        lora_stride: u32,
    }
}

kernel!("lora_up", [Read, Write, Read, Read]);

fn program() -> Program {
    Program::new(&KERNEL).include(&TILE).include(&LORA_TERM)
}

/// Rows and columns of a workgroup's block.
const BLOCK: usize = 32;

/// `base` (`[tokens, d_out]`) for every candidate, plus `B hidden` (see [`super::lora_down`]): `[C * tokens, d_out]`.
pub(crate) fn lora_up(gpu: &Gpu, base: &GpuTensor, hidden: &Allocation, lora: &GpuLora) -> Result<GpuTensor, GpuError> {
    let rows = base.rows * lora.candidates;
    let data = gpu.result("activations", rows * base.columns)?;
    let params = Params {
        rows: rows as u32,
        weight_rows: base.columns as u32,
        tokens: base.rows as u32,
        rank4: lora.rank4 as u32,
        lora_stride: lora.b_stride as u32,
    };
    let groups = rows.div_ceil(BLOCK) * base.columns.div_ceil(BLOCK);
    gpu.dispatch(&program(), &params, &[&base.data, &data, hidden, &lora.b], groups)?;
    Ok(GpuTensor {
        data,
        rows,
        columns: base.columns,
    })
}

pub(crate) fn programs() -> Vec<Program> {
    vec![program()]
}
