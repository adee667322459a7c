//! `lora_down`: the hidden rows of the adapters.

use std::rc::Rc;

use super::include::{self, TILE};
use crate::kernel::{Program, kernel, params};
use crate::lora::GpuLora;
use crate::memory::Allocation;
use crate::tensor::GpuTensor;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        candidates: u32,
        tokens: u32,
        d_in: u32,
        rank4: u32,
        x_stride: u32,
        a_stride: u32,
        scaled: u32,
    }
}

kernel!("lora_down", [Read, Read, Read, Write]);

fn program(d_in: usize) -> Program {
    Program::new(&KERNEL).include(&TILE).include(include::input(d_in))
}

/// Tokens and vec4s of ranks of a workgroup's block.
const TOKENS: usize = 4;
const RANK4S: usize = 4;

/// `A x` of every candidate, `[candidates, tokens, rank]`, times the candidate's factors under rule `exact`. `x` is
/// `[candidates * tokens, d_in]`, or `[tokens, d_in]` where all candidates share it. The rank must not be zero.
pub(crate) fn lora_down(
    gpu: &Gpu,
    x: &GpuTensor,
    lora: &GpuLora,
    tokens: usize,
    shared: bool,
) -> Result<Rc<Allocation>, GpuError> {
    let hidden = gpu.result("adapters", lora.candidates * tokens * lora.rank4 * 4)?;
    let params = Params {
        candidates: lora.candidates as u32,
        tokens: tokens as u32,
        d_in: x.columns as u32,
        rank4: lora.rank4 as u32,
        x_stride: if shared { 0 } else { tokens as u32 },
        a_stride: lora.a_stride as u32,
        scaled: u32::from(lora.factors.is_some()),
    };
    // Where no factors apply the kernel reads none, but something must be bound.
    let factors = lora.factors.as_ref().unwrap_or(&lora.a);
    let groups = lora.candidates * tokens.div_ceil(TOKENS) * lora.rank4.div_ceil(RANK4S);
    gpu.dispatch(
        &program(x.columns),
        &params,
        &[&x.data, &lora.a, factors, &hidden],
        groups,
    )?;
    Ok(hidden)
}

pub(crate) fn programs() -> Vec<Program> {
    [4, 5].map(program).into()
}
