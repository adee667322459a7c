//! The forms without gradients: over slices, one pass over memory each.

use std::ops::Deref;
use std::sync::Arc;

use candle_core::{CpuStorage, Device, Layout, Storage, StorageRef, Tensor};

use super::gemm::{Strided, for_each, multiply};
use super::lora::{CpuLora, LoraView};
use super::rows;
use super::weight::{CpuWeight, Scratch};
use crate::{Segments, TensorError};

/// A contiguous f32 tensor borrowed as a slice.
pub(super) struct View<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self, TensorError> {
        let (storage, layout): (_, &Layout) = tensor.storage_and_layout();
        let not_contiguous =
            || TensorError::shape("view", "tensor", "contiguous f32 on the cpu", format!("{layout:?}"));
        let (start, end) = layout.contiguous_offsets().ok_or_else(not_contiguous)?;
        match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) if end <= data.len() => {}
            _ => return Err(not_contiguous()),
        }
        Ok(Self { storage, start, end })
    }
}

impl Deref for View<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.end],
            // `new` has checked the kind, and a tensor's storage never changes it.
            _ => &[],
        }
    }
}

/// A new tensor of this shape.
pub(super) fn tensor(data: Vec<f32>, rows: usize, columns: usize) -> Result<Tensor, TensorError> {
    Ok(Tensor::from_vec(data, (rows, columns), &Device::Cpu)?)
}

pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TensorError> {
    let (rows, columns) = x.dims2()?;
    let (x, weight) = (View::new(x)?, View::new(weight)?);
    let mut out = vec![0f32; rows * columns];
    let width = columns.max(1);
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        rows::rms_norm(row, &weight, eps as f32, out);
    }
    tensor(out, rows, columns)
}

pub(super) fn linear(
    x: &Tensor,
    weight: &CpuWeight,
    lora: Option<&CpuLora>,
    scratch: &mut Scratch,
) -> Result<Tensor, TensorError> {
    let (rows, d_in) = x.dims2()?;
    let (d_out, _) = weight.matrix("linear", "weight")?;
    let x = View::new(x)?;
    let mut out = vec![0f32; rows * d_out];
    weight.product(rows, &x, &mut out, scratch)?;
    if let Some(lora) = lora {
        accumulate_lora(&mut out, rows, d_out, &x, d_in, lora, rows / lora.candidates())?;
    }
    tensor(out, rows, d_out)
}

pub(super) fn add_lora(base: &Tensor, x: &Tensor, lora: &CpuLora) -> Result<Tensor, TensorError> {
    let (rows, d_out) = base.dims2()?;
    let d_in = x.dim(1)?;
    let candidates = lora.candidates();
    let (base, x) = (View::new(base)?, View::new(x)?);
    let mut out = Vec::with_capacity(candidates * rows * d_out);
    for _ in 0..candidates {
        out.extend_from_slice(&base);
    }
    // A stride of zero: every candidate reads the same rows of `x`.
    accumulate_lora(&mut out, candidates * rows, d_out, &x, d_in, lora, 0)?;
    tensor(out, candidates * rows, d_out)
}

/// `out += LoRA(x)`. Candidate `c` reads the rows of `x` from `c * x_stride` on.
fn accumulate_lora(
    out: &mut [f32],
    rows: usize,
    d_out: usize,
    x: &[f32],
    d_in: usize,
    lora: &CpuLora,
    x_stride: usize,
) -> Result<(), TensorError> {
    let view = LoraView::new(lora)?;
    let candidates = lora.candidates();
    let own_rows = rows / candidates;
    if own_rows * d_out == 0 {
        return Ok(());
    }
    let rank = match &view {
        LoraView::Own { rank, .. } | LoraView::Shared { rank, .. } => *rank,
    };
    if rank == 0 {
        return Ok(());
    }
    // One candidate lets the product itself use the threads; several are spread over them.
    let spread = candidates == 1;
    let slices: LoraSlices<'_> = match &view {
        LoraView::Own { a, b, .. } => LoraSlices { a, b, factors: None },
        LoraView::Shared { a, b, factors, .. } => LoraSlices {
            a,
            b,
            factors: Some(factors),
        },
    };
    for_each(
        out.chunks_exact_mut(own_rows * d_out).collect(),
        Vec::new,
        |candidate, out: &mut [f32], hidden: &mut Vec<f32>| {
            hidden.resize(own_rows * rank, 0.0);
            let x = &x[candidate * x_stride * d_in..];
            let a = match slices.factors {
                None => &slices.a[candidate * rank * d_in..],
                Some(_) => slices.a,
            };
            multiply(
                own_rows,
                rank,
                d_in,
                Strided::row_major(x, d_in),
                Strided::transposed(a, d_in),
                hidden,
                rank,
                false,
                spread,
            );
            let b = match slices.factors {
                // [d_out, r] for each candidate.
                None => Strided::transposed(&slices.b[candidate * d_out * rank..], rank),
                // [R, d_out], shared.
                Some(factors) => {
                    let own = &factors[candidate * rank..(candidate + 1) * rank];
                    for row in hidden.chunks_exact_mut(rank) {
                        for (value, factor) in row.iter_mut().zip(own) {
                            *value *= factor;
                        }
                    }
                    Strided::row_major(slices.b, d_out)
                }
            };
            multiply(
                own_rows,
                d_out,
                rank,
                Strided::row_major(hidden, rank),
                b,
                out,
                d_out,
                true,
                spread,
            );
        },
    );
    Ok(())
}

/// What [`accumulate_lora`] shares between threads (the tensors' guards may not cross them).
struct LoraSlices<'a> {
    a: &'a [f32],
    b: &'a [f32],
    factors: Option<&'a [f32]>,
}

pub(super) fn gated_gelu(gate: &Tensor, up: &Tensor) -> Result<Tensor, TensorError> {
    let (rows, columns) = gate.dims2()?;
    let (gate, up) = (View::new(gate)?, View::new(up)?);
    let mut out = gate.to_vec();
    rows::gated_gelu(&mut out, &up);
    tensor(out, rows, columns)
}

pub(super) fn nll(
    x: &Tensor,
    head: &CpuWeight,
    scale: f64,
    targets: &[u32],
    segments: &Segments,
    candidates: usize,
    scratch: &mut Scratch,
) -> Result<Tensor, TensorError> {
    let tokens = segments.total();
    let count = segments.count();
    let shot_of_row: Vec<usize> = segments
        .lengths()
        .iter()
        .enumerate()
        .flat_map(|(shot, &length)| std::iter::repeat_n(shot, length))
        .collect();
    // f64: a shot's sum must not depend on how many tokens came before it.
    let mut sums = vec![0f64; candidates * count];
    for_head_rows(x, head, scale, scratch, |row, scores| {
        let (candidate, token) = (row / tokens, row % tokens);
        let target = scores[targets[token] as usize];
        sums[candidate * count + shot_of_row[token]] += rows::log_sum_exp(scores) - f64::from(target);
    })?;
    tensor(sums.into_iter().map(|sum| sum as f32).collect(), candidates, count)
}

pub(super) fn logits(x: &Tensor, head: &CpuWeight, scale: f64, scratch: &mut Scratch) -> Result<Tensor, TensorError> {
    let (rows, (vocab, _)) = (x.dim(0)?, head.matrix("logits", "head")?);
    let mut out = Vec::with_capacity(rows * vocab);
    for_head_rows(x, head, scale, scratch, |_, scores| out.extend_from_slice(scores))?;
    tensor(out, rows, vocab)
}

pub(super) fn argmax(x: &Tensor, head: &CpuWeight, scratch: &mut Scratch) -> Result<Arc<[u32]>, TensorError> {
    let mut ids = Vec::with_capacity(x.dim(0)?);
    for_head_rows(x, head, 1.0, scratch, |_, scores| {
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

/// Gives `visit` each row of `scale * x head^T` in order, a few rows in memory at a time.
fn for_head_rows(
    x: &Tensor,
    head: &CpuWeight,
    scale: f64,
    scratch: &mut Scratch,
    mut visit: impl FnMut(usize, &mut [f32]),
) -> Result<(), TensorError> {
    let (rows, width) = x.dims2()?;
    let (vocab, _) = head.matrix("head", "head")?;
    let together = head.rows_together();
    let x = View::new(x)?;
    let mut scores = vec![0f32; together.min(rows) * vocab];
    for (block, x) in x.chunks(together * width.max(1)).enumerate() {
        let own = x.len() / width.max(1);
        head.product(own, x, &mut scores, scratch)?;
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
