//! `lora_mix`: composes the bank for every candidate under rule `reference`.

use std::rc::Rc;

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        candidates: u32,
        modules: u32,
        /// Of a module's matrix, in vec4s.
        count: u32,
        scale: f32,
    }
}

kernel!("lora_mix", [Read, Read, Write]);

/// Candidates that one invocation composes.
const TOGETHER: usize = 4;

/// `scale * sum w_i M_i` for every row of `weights` (`[candidates, modules]`); `matrices` holds `modules` matrices of
/// `count` vec4s.
pub(crate) fn lora_mix(
    gpu: &Gpu,
    matrices: &Allocation,
    weights: &Allocation,
    (candidates, modules): (usize, usize),
    count: usize,
    scale: f32,
) -> Result<Rc<Allocation>, GpuError> {
    let mixed = gpu.result("adapters", candidates * count * 4)?;
    let params = Params {
        candidates: candidates as u32,
        modules: modules as u32,
        count: count as u32,
        scale,
    };
    let groups = count.div_ceil(FLAT) * candidates.div_ceil(TOGETHER);
    gpu.dispatch(&Program::new(&KERNEL), &params, &[matrices, weights, &mixed], groups)?;
    Ok(mixed)
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
