//! Attention without padding and without gradients, for whole batches and for one decode step.

use lorahub_kernels::{AttentionScratch, HeadBias, Rows, RowsMut, attention_head};

use super::CpuBias;
use super::buffer::{Buffer, CpuTensor, Pool};
use super::gemm::{Lent, Strided, for_each, multiply};
use super::rows::softmax;
use super::weight::Kernels;
use crate::{AttentionPlan, TensorError};

/// Memory that a thread reuses from piece to piece.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// One head's scores, where candle's product makes them or there is but one query.
    scores: Vec<f32>,
    own: AttentionScratch,
}

#[expect(
    clippy::too_many_arguments,
    reason = "the three operands of attention, what modifies it, who computes it and in what memory"
)]
pub(super) fn attention(
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    plan: &AttentionPlan<'_>,
    bias: Option<&CpuBias>,
    kernels: &Kernels,
    pool: &Pool,
    scratch: &Lent<Scratch>,
) -> Result<CpuTensor, TensorError> {
    let own_kernels = kernels.pack();
    let (rows, width) = q.dims();
    let (q, k, v) = (q.values()?, k.values()?, v.values()?);
    let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
    let bias = match bias {
        Some(bias) => Some((bias.by_head.values()?, bias.distances(), bias.zero())),
        None => None,
    };
    let bias: Option<(&[f32], usize, usize)> = bias
        .as_ref()
        .map(|(values, distances, zero)| (&**values, *distances, *zero));
    let (heads, d_kv, count) = (plan.heads, width / plan.heads, plan.query.count());

    let mut out = pool.take(rows * width);
    // One piece for each candidate and shot, in the order of the rows.
    let mut pieces = Vec::with_capacity(plan.candidates * count);
    let mut rest: &mut [f32] = &mut out;
    for _ in 0..plan.candidates {
        for &length in plan.query.lengths() {
            let (piece, after) = rest.split_at_mut(length * width);
            pieces.push(piece);
            rest = after;
        }
    }
    for_each(pieces, scratch, |piece, out: &mut [f32], scratch: &mut Scratch| {
        let (candidate, shot) = (piece / count, piece % count);
        let (length_q, length_k) = (plan.query.lengths()[shot], plan.key.lengths()[shot]);
        let first_q = (candidate * plan.query.total() + plan.query.offsets()[shot]) * width;
        let first_k = (candidate * plan.key.total() + plan.key.offsets()[shot]) * width;
        if length_q == 1 {
            for head in 0..heads {
                let column = head * d_kv;
                let row = |data, j| head_of(data, first_k + j * width + column, d_kv);
                let bias = bias.map(|(values, distances, zero)| &values[head * distances + zero..][..length_k]);
                let seen = if plan.causal { 1 } else { length_k };
                let q = head_of(q, first_q + column, d_kv);
                let out = &mut out[column..][..d_kv];
                attend(q, seen, |j| row(k, j), |j| row(v, j), bias, out, &mut scratch.scores);
            }
            return;
        }
        if own_kernels {
            let rows = |data, count| Rows {
                data,
                stride: width,
                count,
            };
            for head in 0..heads {
                let column = head * d_kv;
                let bias = bias.map(|(values, distances, zero)| HeadBias {
                    by_distance: &values[head * distances..][..distances],
                    zero,
                });
                let mut out = RowsMut {
                    data: &mut out[column..],
                    stride: width,
                };
                attention_head(
                    rows(&q[first_q + column..], length_q),
                    rows(&k[first_k + column..], length_k),
                    rows(&v[first_k + column..], length_k),
                    d_kv,
                    bias,
                    plan.causal,
                    &mut out,
                    &mut scratch.own,
                );
            }
            return;
        }
        let scores = &mut scratch.scores;
        scores.resize(scores.len().max(length_q * length_k), 0.0);
        let scores = &mut scores[..length_q * length_k];
        for head in 0..heads {
            let column = head * d_kv;
            multiply(
                length_q,
                length_k,
                d_kv,
                Strided::row_major(&q[first_q + column..], width),
                Strided::transposed(&k[first_k + column..], width),
                scores,
                length_k,
                false,
                false,
            );
            for (i, row) in scores.chunks_exact_mut(length_k).enumerate() {
                if let Some((values, distances, zero)) = bias {
                    let first = head * distances + zero - i;
                    for (score, value) in row.iter_mut().zip(&values[first..first + length_k]) {
                        *score += value;
                    }
                }
                let seen = if plan.causal { (i + 1).min(length_k) } else { length_k };
                softmax(&mut row[..seen]);
                row[seen..].fill(0.0);
            }
            multiply(
                length_q,
                d_kv,
                length_k,
                Strided::row_major(scores, length_k),
                Strided::row_major(&v[first_k + column..], width),
                &mut out[column..],
                width,
                false,
                false,
            );
        }
    });
    Ok(CpuTensor::new(out, rows, width))
}

/// One head's columns in a row that starts there.
fn head_of(data: &[f32], start: usize, d_kv: usize) -> &[f32] {
    &data[start..][..d_kv]
}

/// One query over `seen` keys: nothing to pack, for each key is met once.
fn attend<'a>(
    q: &[f32],
    seen: usize,
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    scores: &mut Vec<f32>,
) {
    scores.resize(scores.len().max(seen), 0.0);
    let scores = &mut scores[..seen];
    for (j, score) in scores.iter_mut().enumerate() {
        *score = dot(q, key(j)) + bias.map_or(0.0, |bias| bias[j]);
    }
    softmax(scores);
    out.fill(0.0);
    for (j, &weight) in scores.iter().enumerate() {
        for (sum, value) in out.iter_mut().zip(value(j)) {
            *sum += weight * value;
        }
    }
}

/// Steps of a cache that lie together.
const PAGE: usize = 32;

/// Keys and values of a decode, a step appended at a time, in pages of some steps: `[steps, sequences, width]`.
#[derive(Debug)]
pub struct CpuCache {
    keys: Vec<Buffer>,
    values: Vec<Buffer>,
    sequences: usize,
    capacity: usize,
    width: usize,
    steps: usize,
    pool: Pool,
}

impl CpuCache {
    pub(super) fn new(sequences: usize, capacity: usize, width: usize, pool: &Pool) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            sequences,
            capacity,
            width,
            steps: 0,
            pool: pool.clone(),
        }
    }

    /// All sequences' rows of a step.
    fn row(&self, step: usize) -> std::ops::Range<usize> {
        let size = self.sequences * self.width;
        step % PAGE * size..(step % PAGE + 1) * size
    }

    fn append(&mut self, k: &[f32], v: &[f32]) {
        if self.steps == self.keys.len() * PAGE {
            let page = PAGE.min(self.capacity - self.steps) * self.sequences * self.width;
            self.keys.push(self.pool.take(page));
            self.values.push(self.pool.take(page));
        }
        let (page, row) = (self.steps / PAGE, self.row(self.steps));
        self.keys[page][row.clone()].copy_from_slice(k);
        self.values[page][row].copy_from_slice(v);
        self.steps += 1;
    }

    pub(super) fn keep(&mut self, sequences: &[usize]) -> Result<(), TensorError> {
        if let Some(&outside) = sequences.iter().find(|&&sequence| sequence >= self.sequences) {
            let expected = format!("below {}", self.sequences);
            return Err(TensorError::shape("cache_keep", "sequences", expected, outside));
        }
        let (before, width) = (self.sequences, self.width);
        for page in self.keys.iter_mut().chain(&mut self.values) {
            let steps = page.len() / (before * width).max(1);
            let mut kept = self.pool.take(steps * sequences.len() * width);
            let rows = (0..steps).flat_map(|step| sequences.iter().map(move |sequence| step * before + sequence));
            for (to, row) in kept.chunks_exact_mut(width.max(1)).zip(rows) {
                to.copy_from_slice(&page[row * width..][..width]);
            }
            *page = kept;
        }
        self.sequences = sequences.len();
        Ok(())
    }
}

pub(super) fn step(
    q: &CpuTensor,
    k: &CpuTensor,
    v: &CpuTensor,
    cache: &mut CpuCache,
    heads: usize,
    bias: &CpuBias,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    const OP: &str = "attention_step";
    let (sequences, width) = (cache.sequences, cache.width);
    for (operand, tensor) in [("q", q), ("k", k), ("v", v)] {
        let found = tensor.dims();
        if found != (sequences, width) {
            return Err(TensorError::shape(
                OP,
                operand,
                format!("[{sequences}, {width}]"),
                format!("{found:?}"),
            ));
        }
    }
    let ((bias_heads, distances), zero) = (bias.by_head.dims(), bias.zero());
    if bias_heads != heads || heads == 0 || width % heads != 0 || zero < cache.steps {
        return Err(TensorError::shape(
            OP,
            "bias",
            format!("[{heads}, distances to {}]", cache.steps),
            format!("[{bias_heads}, distances to {zero}]"),
        ));
    }
    if cache.steps == cache.capacity {
        return Err(TensorError::shape(
            OP,
            "cache",
            format!("below {} steps", cache.capacity),
            cache.steps,
        ));
    }
    cache.append(&k.values()?, &v.values()?);
    let (q, bias) = (q.values()?, bias.by_head.values()?);
    let steps = cache.steps;
    let d_kv = width / heads;
    let cache = &*cache;
    let mut out = cache.pool.take(sequences * width);
    for sequence in 0..sequences {
        for head in 0..heads {
            let column = sequence * width + head * d_kv;
            // The query stands at the last step, so key j has distance j - (steps - 1).
            let bias = &bias[head * distances + zero + 1 - steps..][..steps];
            let at = |j: usize| cache.row(j).start + column;
            attend(
                &q[column..][..d_kv],
                steps,
                |j| head_of(&cache.keys[j / PAGE], at(j), d_kv),
                |j| head_of(&cache.values[j / PAGE], at(j), d_kv),
                Some(bias),
                &mut out[column..][..d_kv],
                &mut scratch.scores,
            );
        }
    }
    Ok(CpuTensor::new(out, sequences, width))
}

/// Inner product in eight running sums, for the same reason as the norm's.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let tail: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in xs.zip(ys) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + tail
}
