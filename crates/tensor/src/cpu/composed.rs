//! The differentiable forms, made of candle's primitives. They are for training, where batches are small; they pad
//! inside the attention, which the fused forms never do.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{log_softmax, softmax};

use super::CpuBias;
use super::lora::{CpuLora, Form};
use crate::{AttentionPlan, Segments, TensorError};

/// Added to the scores of keys that a query must not see; finite, so that no NaN can come of it.
const MASKED: f32 = -1e30;

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TensorError> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let rms = mean_square.affine(1.0, eps)?.sqrt()?;
    Ok(x.broadcast_div(&rms)?.broadcast_mul(weight)?)
}

/// `base + LoRA(x)`, both with `C * T` rows.
pub(super) fn add_lora(base: &Tensor, x: &Tensor, lora: &CpuLora) -> Result<Tensor, TensorError> {
    let candidates = lora.candidates();
    let (rows, d_in) = x.dims2()?;
    let d_out = base.dim(1)?;
    let x = x.reshape((candidates, rows / candidates, d_in))?;
    let tensor = |values: &[f32], shape: (usize, usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu);
    let delta = match lora.form() {
        Form::Own { packed: true, .. } | Form::Shared { packed: true, .. } => {
            let expected = "as tensors, because an operand tracks gradients";
            return Err(TensorError::shape("linear", "lora", expected, "packed for the kernels"));
        }
        Form::Shared { rank: 0, .. } => return Ok(base.clone()),
        Form::Trained { a, b } => x.broadcast_matmul(&a.t()?)?.broadcast_matmul(&b.t()?)?,
        Form::Own { rank, a, b, .. } => {
            let (a, b) = (
                tensor(a, (candidates, *rank, d_in))?,
                tensor(b, (candidates, d_out, *rank))?,
            );
            x.matmul(&a.transpose(1, 2)?)?.matmul(&b.transpose(1, 2)?)?
        }
        Form::Shared {
            rank, a, b, factors, ..
        } => x
            .broadcast_matmul(&tensor(a, (1, *rank, d_in))?.transpose(1, 2)?)?
            .broadcast_mul(&tensor(factors, (candidates, 1, *rank))?)?
            .broadcast_matmul(&tensor(b, (1, *rank, d_out))?)?,
    };
    Ok(base.add(&delta.reshape(base.dims())?)?)
}

/// Row numbers that lay the segments of `candidates` candidates out in a `[C, k, longest]` grid; padding names row 0.
fn padded_rows(segments: &Segments, candidates: usize) -> Vec<u32> {
    let mut rows = Vec::new();
    for candidate in 0..candidates {
        for (&length, &offset) in segments.lengths().iter().zip(segments.offsets()) {
            let start = candidate * segments.total() + offset;
            rows.extend((0..segments.longest()).map(|i| if i < length { (start + i) as u32 } else { 0 }));
        }
    }
    rows
}

/// The inverse of [`padded_rows`]: where in the grid each real row went.
fn packed_rows(segments: &Segments, candidates: usize) -> Vec<u32> {
    let longest = segments.longest();
    let mut rows = Vec::new();
    for cell in 0..candidates * segments.count() {
        let length = segments.lengths()[cell % segments.count()];
        rows.extend((0..length).map(|i| (cell * longest + i) as u32));
    }
    rows
}

fn select(x: &Tensor, rows: Vec<u32>) -> Result<Tensor, TensorError> {
    let count = rows.len();
    Ok(x.index_select(&Tensor::from_vec(rows, count, &Device::Cpu)?, 0)?)
}

pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    plan: &AttentionPlan<'_>,
    bias: Option<&CpuBias>,
) -> Result<Tensor, TensorError> {
    let width = q.dim(1)?;
    let (count, heads) = (plan.query.count(), plan.heads);
    let (longest_q, longest_k) = (plan.query.longest(), plan.key.longest());
    let cells = plan.candidates * count;
    let split = |x: &Tensor, segments: &Segments| -> Result<Tensor, TensorError> {
        let grid = select(x, padded_rows(segments, plan.candidates))?;
        let grid = grid.reshape((cells, segments.longest(), heads, width / heads))?;
        Ok(grid.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (split(q, plan.query)?, split(k, plan.key)?, split(v, plan.key)?);
    let mut scores = q.matmul(&k.transpose(2, 3)?.contiguous()?)?;
    if let Some(bias) = bias {
        let zero = bias.zero();
        let distances: Vec<u32> = (0..longest_q)
            .flat_map(|i| (0..longest_k).map(move |j| (j + zero - i) as u32))
            .collect();
        let distances = Tensor::from_vec(distances, longest_q * longest_k, &Device::Cpu)?;
        let grid = bias.by_head.to_candle()?.index_select(&distances, 1)?;
        scores = scores.broadcast_add(&grid.reshape((1, heads, longest_q, longest_k))?)?;
    }
    let mut mask = Vec::with_capacity(cells * longest_q * longest_k);
    for cell in 0..cells {
        let keys = plan.key.lengths()[cell % count];
        for i in 0..longest_q {
            mask.extend((0..longest_k).map(|j| {
                let seen = j < keys && (!plan.causal || j <= i);
                if seen { 0.0 } else { MASKED }
            }));
        }
    }
    let mask = Tensor::from_vec(mask, (cells, 1, longest_q, longest_k), &Device::Cpu)?;
    let weights = softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
    let grid = weights
        .matmul(&v)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((cells * longest_q, width))?;
    select(&grid, packed_rows(plan.query, plan.candidates))
}

pub(super) fn nll(
    x: &Tensor,
    head: &Tensor,
    scale: f64,
    targets: &[u32],
    segments: &Segments,
    candidates: usize,
) -> Result<Tensor, TensorError> {
    let logits = x.affine(scale, 0.0)?.matmul(&head.t()?)?;
    let rows = candidates * segments.total();
    let all: Vec<u32> = (0..candidates).flat_map(|_| targets).copied().collect();
    let picked = log_softmax(&logits, D::Minus1)?.gather(&Tensor::from_vec(all, (rows, 1), &Device::Cpu)?, 1)?;
    // Sums over each shot, as a product with the [T, k] indicator of who owns which row.
    let count = segments.count();
    let mut owner = vec![0f32; segments.total() * count];
    for (shot, (&length, &offset)) in segments.lengths().iter().zip(segments.offsets()).enumerate() {
        for row in offset..offset + length {
            owner[row * count + shot] = -1.0;
        }
    }
    let owner = Tensor::from_vec(owner, (segments.total(), count), &Device::Cpu)?;
    Ok(picked.reshape((candidates, segments.total()))?.matmul(&owner)?)
}
