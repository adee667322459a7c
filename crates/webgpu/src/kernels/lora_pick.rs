//! `lora_pick`: the ranks of the modules that a generation uses, out of the whole bank.

use std::rc::Rc;

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::memory::Allocation;
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        outer: u32,
        inner: u32,
        count: u32,
        bank_ranks: u32,
    }
}

kernel!("lora_pick", [Read, Read, Write]);

/// The name of a padding rank, which comes out as zeros.
pub(crate) const PADDING: u32 = u32::MAX;

/// Ranks `ranks` (`count` of them) of `bank` (`[outer, bank_ranks, inner]` vec4s): `[outer, count, inner]`.
pub(crate) fn lora_pick(
    gpu: &Gpu,
    bank: &Allocation,
    (outer, bank_ranks, inner): (usize, usize, usize),
    ranks: &Allocation,
    count: usize,
) -> Result<Rc<Allocation>, GpuError> {
    let total = outer * count * inner;
    let picked = gpu.result("adapters", total * 4)?;
    let params = Params {
        outer: outer as u32,
        inner: inner as u32,
        count: count as u32,
        bank_ranks: bank_ranks as u32,
    };
    gpu.dispatch(
        &Program::new(&KERNEL),
        &params,
        &[bank, ranks, &picked],
        total.div_ceil(FLAT),
    )?;
    Ok(picked)
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
