//! Attention without padding and without gradients, for whole batches and for one decode step.

use std::ops::Range;

use lorahub_kernels::{AttentionScratch, F32Panels, HeadBias, Output, Rows, RowsMut, attention_head, multiply_in};

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
    let (rows, width) = q.dims();
    let (q, k, v) = (q.values()?, k.values()?, v.values()?);
    let bias = match bias {
        Some(bias) => Some((bias.by_head.values()?, bias.distances(), bias.zero())),
        None => None,
    };
    let operands = Operands {
        q: &q,
        k: &k,
        v: &v,
        width,
        plan,
        bias: bias
            .as_ref()
            .map(|(values, distances, zero)| (&**values, *distances, *zero)),
    };
    let mut out = pool.take(rows * width);
    // One piece for each candidate and shot, in the order of the rows.
    let mut pieces = Vec::with_capacity(plan.candidates * plan.query.count());
    let mut rest: &mut [f32] = &mut out;
    for _ in 0..plan.candidates {
        for &length in plan.query.lengths() {
            let (piece, after) = rest.split_at_mut(length * width);
            pieces.push(piece);
            rest = after;
        }
    }
    match kernels {
        Kernels::Elsewhere(products) => {
            let scratch = &mut scratch.lend().one;
            for (piece, out) in pieces.into_iter().enumerate() {
                operands.attend(piece, out, scratch, |x, weight, columns, out| {
                    products.multiply(x, weight, columns.end, out);
                });
            }
        }
        Kernels::Own => for_each(pieces, scratch, |piece, out, scratch| {
            operands.attend(piece, out, scratch, |x, weight, columns, out| {
                multiply_in(x, weight, columns, out, Output::Store, &mut []);
            });
        }),
        Kernels::Candle => for_each(pieces, scratch, |piece, out, scratch| {
            operands.attend_with_candle(piece, out, scratch);
        }),
    }
    Ok(CpuTensor::new(out, rows, width))
}

/// Queries, keys and values of all candidates and shots.
struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    width: usize,
    plan: &'a AttentionPlan<'a>,
    /// By head and distance, the number of distances, and where distance zero stands.
    bias: Option<(&'a [f32], usize, usize)>,
}

/// Where the rows of one candidate's shot are.
struct Piece {
    queries: usize,
    keys: usize,
    /// Its first numbers in `q`, and in `k` and `v`.
    first_q: usize,
    first_k: usize,
}

impl Operands<'_> {
    fn d_kv(&self) -> usize {
        self.width / self.plan.heads
    }

    fn piece(&self, index: usize) -> Piece {
        let (query, key) = (self.plan.query, self.plan.key);
        let (candidate, shot) = (index / query.count(), index % query.count());
        Piece {
            queries: query.lengths()[shot],
            keys: key.lengths()[shot],
            first_q: (candidate * query.total() + query.offsets()[shot]) * self.width,
            first_k: (candidate * key.total() + key.offsets()[shot]) * self.width,
        }
    }

    /// By the kernels, whose products are `multiply`'s.
    fn attend(
        &self,
        index: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
        mut multiply: impl FnMut(Rows<'_>, F32Panels<'_>, Range<usize>, &mut RowsMut<'_>),
    ) {
        let piece = self.piece(index);
        if piece.queries == 1 {
            return self.attend_one(&piece, out, &mut scratch.scores);
        }
        let (d_kv, stride) = (self.d_kv(), self.width);
        let rows = |data, count| Rows { data, stride, count };
        for head in 0..self.plan.heads {
            let column = head * d_kv;
            let bias = self.bias.map(|(values, distances, zero)| HeadBias {
                by_distance: &values[head * distances..][..distances],
                zero,
            });
            let mut out = RowsMut {
                data: &mut out[column..],
                stride,
            };
            attention_head(
                rows(&self.q[piece.first_q + column..], piece.queries),
                rows(&self.k[piece.first_k + column..], piece.keys),
                rows(&self.v[piece.first_k + column..], piece.keys),
                d_kv,
                bias,
                self.plan.causal,
                &mut out,
                &mut scratch.own,
                &mut multiply,
            );
        }
    }

    /// By candle's product, which reads keys and values where they are.
    fn attend_with_candle(&self, index: usize, out: &mut [f32], scratch: &mut Scratch) {
        let piece = self.piece(index);
        let Piece { queries, keys, .. } = piece;
        let scores = &mut scratch.scores;
        if queries == 1 {
            return self.attend_one(&piece, out, scores);
        }
        scores.resize(scores.len().max(queries * keys), 0.0);
        let scores = &mut scores[..queries * keys];
        let (d_kv, width) = (self.d_kv(), self.width);
        for head in 0..self.plan.heads {
            let column = head * d_kv;
            multiply(
                queries,
                keys,
                d_kv,
                Strided::row_major(&self.q[piece.first_q + column..], width),
                Strided::transposed(&self.k[piece.first_k + column..], width),
                scores,
                keys,
                false,
                false,
            );
            for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
                if let Some((values, distances, zero)) = self.bias {
                    let first = head * distances + zero - i;
                    for (score, value) in row.iter_mut().zip(&values[first..first + keys]) {
                        *score += value;
                    }
                }
                let seen = if self.plan.causal { (i + 1).min(keys) } else { keys };
                softmax(&mut row[..seen]);
                row[seen..].fill(0.0);
            }
            multiply(
                queries,
                d_kv,
                keys,
                Strided::row_major(scores, keys),
                Strided::row_major(&self.v[piece.first_k + column..], width),
                &mut out[column..],
                width,
                false,
                false,
            );
        }
    }

    /// A shot of one query.
    fn attend_one(&self, piece: &Piece, out: &mut [f32], scores: &mut Vec<f32>) {
        let d_kv = self.d_kv();
        for head in 0..self.plan.heads {
            let column = head * d_kv;
            let row = |data, j| head_of(data, piece.first_k + j * self.width + column, d_kv);
            let bias = self
                .bias
                .map(|(values, distances, zero)| &values[head * distances + zero..][..piece.keys]);
            let seen = if self.plan.causal { 1 } else { piece.keys };
            let q = head_of(self.q, piece.first_q + column, d_kv);
            let out = &mut out[column..][..d_kv];
            attend(q, seen, |j| row(self.k, j), |j| row(self.v, j), bias, out, scores);
        }
    }
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
