//! The forms without gradients: over slices, one pass over memory each.

use std::sync::Arc;

use candle_core::Tensor;

use super::buffer::{Buffer, CpuTensor, Pool};
use super::gemm::{Strided, for_each, multiply};
use super::lora::{CpuLora, Form};
use super::products::by_head;
use super::rows;
use super::view::View;
use super::weight::{CpuWeight, Kernels, Scratch};
use crate::{Segments, TensorError};

pub(super) fn rms_norm(
    x: &CpuTensor,
    weight: &Tensor,
    eps: f64,
    kernels: &Kernels,
    pool: &Pool,
) -> Result<CpuTensor, TensorError> {
    let (rows, columns) = x.dims();
    let (x, weight) = (x.values()?, View::new(weight)?);
    let mut out = pool.take(rows * columns);
    if let Kernels::Elsewhere(products) = kernels {
        products.rms_norm(&x, &weight, eps as f32, &mut out);
        return Ok(CpuTensor::new(out, rows, columns));
    }
    let width = columns.max(1);
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        rows::rms_norm(row, &weight, eps as f32, out);
    }
    Ok(CpuTensor::new(out, rows, columns))
}

/// `x W^T` and the LoRA's part of it. With several heads each head's outputs are of an `x` of their own: `x` is
/// `[rows * heads, d_in]`.
pub(super) fn linear(
    x: &CpuTensor,
    heads: usize,
    weight: &CpuWeight,
    lora: Option<&CpuLora>,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    let (rows, d_in) = x.dims();
    let rows = rows / heads;
    let (d_out, _) = weight.matrix("linear", "weight")?;
    let x = x.values()?;
    let mut out = pool.take(rows * d_out);
    let own_rows = |lora: &CpuLora| rows / lora.candidates();
    let packed = lora.and_then(|lora| lora.low_rank(own_rows(lora)));
    weight.product_by_head(rows, heads, &x, &mut out, packed, scratch)?;
    if let Some(lora) = lora
        && packed.is_none()
    {
        accumulate_lora(&mut out, rows, heads, d_out, &x, d_in, lora, own_rows(lora), scratch)?;
    }
    Ok(CpuTensor::new(out, rows, d_out))
}

/// `base + LoRA(x)` for every candidate.
pub(super) fn add_lora(
    base: &CpuTensor,
    x: &CpuTensor,
    lora: &CpuLora,
    kernels: &Kernels,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    let ((rows, d_out), (_, d_in)) = (base.dims(), x.dims());
    let candidates = lora.candidates();
    let all = candidates * rows;
    let mut out = repeated(&base.values()?, candidates, pool);
    let x = x.values()?;
    match lora.low_rank(rows) {
        // A stride of zero: every candidate reads the same rows of `x`.
        None => accumulate_lora(&mut out, all, 1, d_out, &x, d_in, lora, 0, scratch)?,
        Some(low) => {
            let x = repeated(&x, candidates, pool);
            match kernels {
                Kernels::Elsewhere(products) => products.add_low_rank(all, &x, low, &mut out)?,
                Kernels::Own | Kernels::Candle => scratch.add_low_rank(all, 1, &x, low, &mut out),
            }
        }
    }
    Ok(CpuTensor::new(out, all, d_out))
}

/// The values once for each candidate.
pub(super) fn repeated(values: &[f32], candidates: usize, pool: &Pool) -> Buffer {
    let mut out = pool.take(candidates * values.len());
    for out in out.chunks_exact_mut(values.len().max(1)) {
        out.copy_from_slice(values);
    }
    out
}

/// Each pair of values combined.
pub(super) fn each(
    x: &CpuTensor,
    y: &CpuTensor,
    pool: &Pool,
    combine: impl Fn(f32, f32) -> f32,
) -> Result<CpuTensor, TensorError> {
    let (rows, columns) = x.dims();
    let (x, y) = (x.values()?, y.values()?);
    let mut out = pool.take(x.len());
    for ((out, &x), &y) in out.iter_mut().zip(&*x).zip(&*y) {
        *out = combine(x, y);
    }
    Ok(CpuTensor::new(out, rows, columns))
}

pub(super) fn transpose(x: &CpuTensor, pool: &Pool) -> Result<CpuTensor, TensorError> {
    let (rows, columns) = x.dims();
    let x = x.values()?;
    let mut out = pool.take(x.len());
    for (column, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
        for (out, row) in out.iter_mut().zip(x.chunks_exact(columns)) {
            *out = row[column];
        }
    }
    Ok(CpuTensor::new(out, columns, rows))
}

pub(super) fn gather_rows(x: &CpuTensor, rows: &[u32], pool: &Pool) -> Result<CpuTensor, TensorError> {
    let (_, columns) = x.dims();
    let x = x.values()?;
    let mut out = pool.take(rows.len() * columns);
    for (out, &row) in out.chunks_exact_mut(columns.max(1)).zip(rows) {
        out.copy_from_slice(&x[row as usize * columns..][..columns]);
    }
    Ok(CpuTensor::new(out, rows.len(), columns))
}

/// `out += LoRA(x)`, where `x` is `[rows, heads, d_in]`. Candidate `c` reads the rows of `x` from `c * x_stride` on.
#[expect(
    clippy::too_many_arguments,
    reason = "two matrices with their sizes, the adapter, how they lie, and the memory that is reused"
)]
fn accumulate_lora(
    out: &mut [f32],
    rows: usize,
    heads: usize,
    d_out: usize,
    x: &[f32],
    d_in: usize,
    lora: &CpuLora,
    x_stride: usize,
    scratch: &Scratch,
) -> Result<(), TensorError> {
    let candidates = lora.candidates();
    let own_rows = rows / candidates;
    let (rank, a, b, factors): (usize, &[f32], &[f32], Option<&[f32]>) = match lora.form() {
        Form::Own { rank, a, b, .. } => (*rank, a, b, None),
        Form::Shared {
            rank, a, b, factors, ..
        } => (*rank, a, b, Some(factors)),
        Form::Trained { .. } => return Err(TensorError::shape("linear", "lora", "composed", "in training")),
    };
    if own_rows * d_out * rank == 0 {
        return Ok(());
    }
    // One candidate lets the product itself use the threads; several are spread over them.
    let spread = candidates == 1;
    for_each(
        out.chunks_exact_mut(own_rows * d_out).collect(),
        &scratch.hiddens,
        |candidate, out: &mut [f32], hidden: &mut Vec<f32>| {
            hidden.resize(hidden.len().max(own_rows * rank), 0.0);
            let hidden = &mut hidden[..own_rows * rank];
            let x = &x[candidate * x_stride * heads * d_in..];
            let a = match factors {
                None => &a[candidate * rank * d_in..],
                Some(_) => a,
            };
            for (head, outputs) in by_head(d_out, heads).enumerate() {
                multiply(
                    own_rows,
                    rank,
                    d_in,
                    Strided::row_major(&x[head * d_in..], heads * d_in),
                    Strided::transposed(a, d_in),
                    hidden,
                    rank,
                    false,
                    spread,
                );
                let b = match factors {
                    // [d_out, r] for each candidate.
                    None => Strided::transposed(&b[(candidate * d_out + outputs.start) * rank..], rank),
                    // [R, d_out], shared.
                    Some(factors) => {
                        let own = &factors[candidate * rank..(candidate + 1) * rank];
                        for row in hidden.chunks_exact_mut(rank) {
                            for (value, factor) in row.iter_mut().zip(own) {
                                *value *= factor;
                            }
                        }
                        Strided::row_major(&b[outputs.start..], d_out)
                    }
                };
                multiply(
                    own_rows,
                    outputs.len(),
                    rank,
                    Strided::row_major(hidden, rank),
                    b,
                    &mut out[outputs.start..],
                    d_out,
                    true,
                    spread,
                );
            }
        },
    );
    Ok(())
}

pub(super) fn gated_gelu(
    gate: &CpuTensor,
    up: &CpuTensor,
    kernels: &Kernels,
    pool: &Pool,
) -> Result<CpuTensor, TensorError> {
    let (rows, columns) = gate.dims();
    let mut out = pool.copy(&gate.values()?);
    match kernels {
        Kernels::Elsewhere(products) => products.gated_gelu(&mut out, &up.values()?),
        Kernels::Own | Kernels::Candle => rows::gated_gelu(&mut out, &up.values()?),
    }
    Ok(CpuTensor::new(out, rows, columns))
}

#[expect(
    clippy::too_many_arguments,
    reason = "the operands of the loss, and the memory that is reused"
)]
pub(super) fn nll(
    x: &CpuTensor,
    head: &CpuWeight,
    scale: f64,
    targets: &[u32],
    segments: &Segments,
    candidates: usize,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    let tokens = segments.total();
    let count = segments.count();
    // f64: a shot's sum must not depend on how many tokens came before it.
    let mut sums = vec![0f64; candidates * count];
    // Rows come in order, so the shot of each is the one before or the next.
    let mut shot = 0;
    for_head_rows(x, head, scale, pool, scratch, |row, scores| {
        let (candidate, token) = (row / tokens, row % tokens);
        if token == 0 {
            shot = 0;
        } else if token == segments.offsets()[shot] + segments.lengths()[shot] {
            shot += 1;
        }
        let target = scores[targets[token] as usize];
        sums[candidate * count + shot] += rows::log_sum_exp(scores) - f64::from(target);
    })?;
    let mut losses = pool.take(sums.len());
    for (loss, sum) in losses.iter_mut().zip(sums) {
        *loss = sum as f32;
    }
    Ok(CpuTensor::new(losses, candidates, count))
}

pub(super) fn logits(
    x: &CpuTensor,
    head: &CpuWeight,
    scale: f64,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    let ((rows, _), (vocab, _)) = (x.dims(), head.matrix("logits", "head")?);
    let mut out = pool.take(rows * vocab);
    for_head_rows(x, head, scale, pool, scratch, |row, scores| {
        out[row * vocab..][..vocab].copy_from_slice(scores);
    })?;
    Ok(CpuTensor::new(out, rows, vocab))
}

pub(super) fn argmax(
    x: &CpuTensor,
    head: &CpuWeight,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<Arc<[u32]>, TensorError> {
    let mut ids = Vec::with_capacity(x.dims().0);
    for_head_rows(x, head, 1.0, pool, scratch, |_, scores| {
        let mut best = 0;
        for (id, &score) in scores.iter().enumerate() {
            if score > scores[best] {
                best = id;
            }
        }
        ids.push(best as u32);
    })?;
    Ok(ids.into())
}

/// Rows whose scores are held at once, for so many tokens. T5's head is 66 MB and more, and comes from memory for each of
/// these blocks: so they are many, but no more than 16 MiB where that is not too few.
fn rows_together(vocab: usize) -> usize {
    ((1 << 22) / vocab.max(1)).clamp(32, 128)
}

/// Gives `visit` each row of `scale * x head^T` in order, a few rows in memory at a time.
fn for_head_rows(
    x: &CpuTensor,
    head: &CpuWeight,
    scale: f64,
    pool: &Pool,
    scratch: &mut Scratch,
    mut visit: impl FnMut(usize, &mut [f32]),
) -> Result<(), TensorError> {
    let (rows, width) = x.dims();
    let (vocab, _) = head.matrix("head", "head")?;
    let together = rows_together(vocab);
    let x = x.values()?;
    let mut scores = pool.take(together.min(rows) * vocab);
    for (block, x) in x.chunks(together * width.max(1)).enumerate() {
        let own = x.len() / width.max(1);
        head.product(own, x, &mut scores, None, scratch)?;
        for (i, row) in scores.chunks_exact_mut(vocab.max(1)).take(own).enumerate() {
            if scale != 1.0 {
                for score in row.iter_mut() {
                    *score *= scale as f32;
                }
            }
            visit(block * together + i, row);
        }
    }
    Ok(())
}
