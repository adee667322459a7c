//! Attention without padding and without gradients, for whole batches and for one decode step.

use candle_core::Tensor;
use lorahub_kernels::{AttentionScratch, HeadBias, Rows, RowsMut, attention_head};

use super::fused::{View, tensor};
use super::gemm::{Strided, for_each, multiply};
use super::rows::{OWN_KERNELS, softmax};
use super::{CpuBias, dims};
use crate::{AttentionPlan, TensorError};

/// Memory that a thread reuses from piece to piece.
#[derive(Default)]
struct Scratch {
    /// One head's scores, where candle's product makes them.
    scores: Vec<f32>,
    own: AttentionScratch,
}

pub(super) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    plan: &AttentionPlan<'_>,
    bias: Option<&CpuBias>,
) -> Result<Tensor, TensorError> {
    let (rows, width) = q.dims2()?;
    let (q, k, v) = (View::new(q)?, View::new(k)?, View::new(v)?);
    let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
    let bias = match bias {
        Some(bias) => Some((View::new(&bias.by_head)?, bias.by_head.dim(1)?, bias.zero()?)),
        None => None,
    };
    let bias: Option<(&[f32], usize, usize)> = bias
        .as_ref()
        .map(|(view, distances, zero)| (&**view, *distances, *zero));
    let (heads, d_kv, count) = (plan.heads, width / plan.heads, plan.query.count());

    let mut out = vec![0f32; rows * width];
    // One piece for each candidate and shot, in the order of the rows.
    let mut pieces = Vec::with_capacity(plan.candidates * count);
    let mut rest = out.as_mut_slice();
    for _ in 0..plan.candidates {
        for &length in plan.query.lengths() {
            let (piece, after) = rest.split_at_mut(length * width);
            pieces.push(piece);
            rest = after;
        }
    }
    for_each(
        pieces,
        Scratch::default,
        |piece, out: &mut [f32], scratch: &mut Scratch| {
            let (candidate, shot) = (piece / count, piece % count);
            let (length_q, length_k) = (plan.query.lengths()[shot], plan.key.lengths()[shot]);
            let first_q = (candidate * plan.query.total() + plan.query.offsets()[shot]) * width;
            let first_k = (candidate * plan.key.total() + plan.key.offsets()[shot]) * width;
            if OWN_KERNELS {
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
            scores.resize(length_q * length_k, 0.0);
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
        },
    );
    tensor(out, rows, width)
}

/// Keys and values of a decode: `[steps, sequences, width]` each, a step appended at a time.
#[derive(Clone, Debug)]
pub struct CpuCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    sequences: usize,
    capacity: usize,
    width: usize,
    steps: usize,
}

impl CpuCache {
    pub(super) fn new(sequences: usize, capacity: usize, width: usize) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            sequences,
            capacity,
            width,
            steps: 0,
        }
    }

    /// The columns of head `column / d_kv` in one row of `data`.
    fn row<'a>(&self, data: &'a [f32], step: usize, sequence: usize, column: usize, d_kv: usize) -> &'a [f32] {
        &data[(step * self.sequences + sequence) * self.width + column..][..d_kv]
    }

    pub(super) fn keep(&mut self, sequences: &[usize]) -> Result<(), TensorError> {
        if let Some(&outside) = sequences.iter().find(|&&sequence| sequence >= self.sequences) {
            let expected = format!("below {}", self.sequences);
            return Err(TensorError::shape("cache_keep", "sequences", expected, outside));
        }
        let pick = |data: &[f32]| -> Vec<f32> {
            (0..self.steps)
                .flat_map(|step| sequences.iter().map(move |sequence| (step, *sequence)))
                .flat_map(|(step, sequence)| self.row(data, step, sequence, 0, self.width))
                .copied()
                .collect()
        };
        (self.keys, self.values) = (pick(&self.keys), pick(&self.values));
        self.sequences = sequences.len();
        Ok(())
    }
}

pub(super) fn step(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    cache: &mut CpuCache,
    heads: usize,
    bias: &CpuBias,
) -> Result<Tensor, TensorError> {
    const OP: &str = "attention_step";
    let (sequences, width) = (cache.sequences, cache.width);
    for (operand, tensor) in [("q", q), ("k", k), ("v", v)] {
        let found = dims(tensor, OP, operand)?;
        if found != (sequences, width) {
            return Err(TensorError::shape(
                OP,
                operand,
                format!("[{sequences}, {width}]"),
                format!("{found:?}"),
            ));
        }
    }
    let (bias_heads, distances) = dims(&bias.by_head, OP, "bias")?;
    let zero = bias.zero()?;
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
    let (q, k, v, bias) = (View::new(q)?, View::new(k)?, View::new(v)?, View::new(&bias.by_head)?);
    cache.keys.extend_from_slice(&k);
    cache.values.extend_from_slice(&v);
    cache.steps += 1;

    let steps = cache.steps;
    let d_kv = width / heads;
    let mut out = vec![0f32; sequences * width];
    let mut scores = vec![0f32; steps];
    for sequence in 0..sequences {
        for head in 0..heads {
            let column = head * d_kv;
            let q = &q[sequence * width + column..][..d_kv];
            // The query stands at the last step, so key j has distance j - (steps - 1).
            let bias = &bias[head * distances + zero + 1 - steps..][..steps];
            for (j, score) in scores.iter_mut().enumerate() {
                *score = dot(q, cache.row(&cache.keys, j, sequence, column, d_kv)) + bias[j];
            }
            softmax(&mut scores);
            let out = &mut out[sequence * width + column..][..d_kv];
            for (j, &weight) in scores.iter().enumerate() {
                let value = cache.row(&cache.values, j, sequence, column, d_kv);
                for (sum, value) in out.iter_mut().zip(value) {
                    *sum += weight * value;
                }
            }
        }
    }
    tensor(out, sequences, width)
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
