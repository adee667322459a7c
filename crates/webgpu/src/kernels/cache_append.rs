//! `cache_append`: one step's keys and values, behind those of the steps before.

use super::FLAT;
use crate::kernel::{Program, kernel, params};
use crate::tensor::{GpuCache, GpuTensor};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        count: u32,
        first: u32,
    }
}

kernel!("cache_append", [Read, Read, Write, Write]);

/// Writes `k` and `v` (`[sequences, width]`) as step `cache.steps`, which the cache must have room for.
pub(crate) fn cache_append(gpu: &Gpu, cache: &GpuCache, k: &GpuTensor, v: &GpuTensor) -> Result<(), GpuError> {
    let count = k.len();
    let params = Params {
        count: count as u32,
        first: (cache.steps * count) as u32,
    };
    let buffers = [&*k.data, &*v.data, &*cache.keys, &*cache.values];
    gpu.dispatch(&Program::new(&KERNEL), &params, &buffers, count.div_ceil(FLAT))
}

pub(crate) fn programs() -> Vec<Program> {
    vec![Program::new(&KERNEL)]
}
