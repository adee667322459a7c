//! `attention` and `attention_split`: softmax attention over each query's own keys, two kernels of one contract.

use lorahub_tensor::AttentionPlan;

use super::include::{self, ATTENTION, OVERFLOW};
use crate::kernel::{Kernel, Program, params};
use crate::tensor::{GpuBias, GpuCache, GpuTensor};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        tokens: u32,
        key_tokens: u32,
        heads: u32,
        d_kv: u32,
        causal: u32,
        biased: u32,
        distances: u32,
        zero: u32,
        steps: u32,
    }
}

macro_rules! variant {
    ($constant:ident, $name:literal) => {
        static $constant: Kernel = Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            bindings: {
                use crate::kernel::Access::{Read, Write};
                &[Read, Read, Read, Read, Read, Write]
            },
            #[cfg(test)]
            fields: Params::FIELDS,
            params_bytes: size_of::<Params>(),
        };
    };
}

variant!(MANY, "attention");
variant!(SPLIT, "attention_split");

/// The widest head: query and sum of a head are held in registers.
const MAX_HEAD: usize = 256;

/// Below this many queries times heads, lanes share the keys of one.
const FEW_QUERIES: usize = 512;

/// Workgroup memory of the split kernel, in vec4s of partial sums.
const SPLIT_VEC4S: usize = 512;

fn many(d_kv: usize) -> Program {
    Program::new(&MANY)
        .constant("HEAD4", d_kv.div_ceil(4) as u32)
        .include(&OVERFLOW)
        .include(include::heads(d_kv))
        .include(&ATTENTION)
}

fn split(d_kv: usize) -> Program {
    let head4 = d_kv.div_ceil(4);
    Program::new(&SPLIT)
        .constant("HEAD4", head4 as u32)
        .constant("LANES", (SPLIT_VEC4S / head4).min(32) as u32)
        .include(&OVERFLOW)
        .include(include::heads(d_kv))
        .include(&ATTENTION)
}

/// Attention of a whole batch; the result has the shape of `q`.
pub(crate) fn attention(
    gpu: &Gpu,
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    plan: &AttentionPlan<'_>,
    bias: Option<&GpuBias>,
) -> Result<GpuTensor, GpuError> {
    let params = Params {
        rows: q.rows as u32,
        tokens: plan.query.total() as u32,
        key_tokens: plan.key.total() as u32,
        heads: plan.heads as u32,
        d_kv: (q.columns / plan.heads) as u32,
        causal: u32::from(plan.causal),
        biased: u32::from(bias.is_some()),
        distances: bias.map_or(0, |bias| bias.distances as u32),
        zero: bias.map_or(0, |bias| bias.zero() as u32),
        steps: 0,
    };
    let mut spans = Vec::with_capacity(4 * plan.query.total());
    for (shot, &length) in plan.query.lengths().iter().enumerate() {
        let (first, count) = (plan.key.offsets()[shot] as u32, plan.key.lengths()[shot] as u32);
        spans.extend((0..length as u32).flat_map(|position| [first, count, position, 0]));
    }
    let spans = gpu.upload_remembered("spans", spans)?;
    // Without a bias the kernel reads none, but something must be bound.
    let bias = bias.map_or(&q.data, |bias| &bias.data);
    let data = gpu.result("activations", q.len())?;
    let buffers = [&*q.data, &*k.data, &*v.data, &*spans, &**bias, &*data];
    record(gpu, &params, &buffers)?;
    Ok(GpuTensor { data, ..*q })
}

/// Attention of one row of each sequence to all steps in the cache.
pub(crate) fn attention_step(
    gpu: &Gpu,
    q: &GpuTensor,
    cache: &GpuCache,
    heads: usize,
    bias: &GpuBias,
) -> Result<GpuTensor, GpuError> {
    let params = Params {
        rows: q.rows as u32,
        tokens: q.rows as u32,
        key_tokens: 0,
        heads: heads as u32,
        d_kv: (q.columns / heads) as u32,
        causal: 0,
        biased: 1,
        distances: bias.distances as u32,
        zero: bias.zero() as u32,
        steps: cache.steps as u32,
    };
    let data = gpu.result("activations", q.len())?;
    let buffers = [&*q.data, &*cache.keys, &*cache.values, &*q.data, &*bias.data, &*data];
    record(gpu, &params, &buffers)?;
    Ok(GpuTensor { data, ..*q })
}

fn record(gpu: &Gpu, params: &Params, buffers: &[&crate::memory::Allocation]) -> Result<(), GpuError> {
    let (rows, heads, d_kv) = (params.rows as usize, params.heads as usize, params.d_kv as usize);
    if d_kv > MAX_HEAD {
        return Err(GpuError::HeadWidth {
            max: MAX_HEAD,
            found: d_kv,
        });
    }
    if rows * heads < FEW_QUERIES {
        gpu.dispatch(&split(d_kv), params, buffers, rows * heads)
    } else {
        gpu.dispatch(&many(d_kv), params, buffers, rows.div_ceil(64) * heads)
    }
}

/// For heads of this many columns.
pub(crate) fn programs_of(d_kv: usize) -> Vec<Program> {
    vec![many(d_kv), split(d_kv)]
}

pub(crate) fn programs() -> Vec<Program> {
    [64, 5, MAX_HEAD].into_iter().flat_map(programs_of).collect()
}
