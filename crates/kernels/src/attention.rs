//! Attention of one head over one sequence, whose operands are activations: packed anew for each product, because a
//! panel serves every query.

use std::ops::Range;

use crate::multiply::{Rows, RowsMut};
use crate::owned::PackedF32;
use crate::pack::F32Panels;
use crate::rows::softmax;

/// Queries whose scores are held at once: with 256 keys 64 KiB, which stay in a cache.
const QUERY_BLOCK: usize = 64;

/// Memory that attention reuses. Make one for each thread and keep it; it grows to the longest sequence.
#[derive(Clone, Debug, Default)]
pub struct AttentionScratch {
    keys: PackedF32,
    values: PackedF32,
    scores: Vec<f32>,
}

/// One head's relative position bias.
#[derive(Clone, Copy, Debug)]
pub struct HeadBias<'a> {
    /// One number for each distance, in ascending order.
    pub by_distance: &'a [f32],
    /// Where distance 0 stands. Query `i` and key `j` have distance `j - i`.
    pub zero: usize,
}

/// `out = softmax(q k^T + bias) v` for one head (T5 does not scale its scores).
///
/// # Shapes
/// - `q`: `[queries, width]`; `k`, `v`: `[keys, width]`, where rows may lie a whole layer's width apart
/// - `bias`: every distance that occurs
/// - `out`: `[queries, width]`
///
/// `multiply` stores `x W^T` for some of the outputs, as [`multiply_in`](crate::multiply_in) does, here or elsewhere.
///
/// With `causal`, query `i` sees keys `0..=i`. A query that meets an infinity or NaN comes out as NaN.
///
/// # Panics
/// If `k` and `v` differ in their number of rows, `bias` lacks a distance, or a slice is shorter than its shape.
#[expect(
    clippy::too_many_arguments,
    reason = "the three operands of attention, what modifies it, where it goes, the memory it reuses and who multiplies"
)]
pub fn attention_head(
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    width: usize,
    bias: Option<HeadBias<'_>>,
    causal: bool,
    out: &mut RowsMut<'_>,
    scratch: &mut AttentionScratch,
    mut multiply: impl FnMut(Rows<'_>, F32Panels<'_>, Range<usize>, &mut RowsMut<'_>),
) {
    assert_eq!(k.count, v.count, "as many keys as values");
    let keys = k.count;
    let AttentionScratch {
        keys: packed_keys,
        values: packed_values,
        scores,
    } = scratch;
    packed_keys.pack(k, width);
    packed_values.pack_transposed(v, width);
    scores.resize(QUERY_BLOCK.min(q.count) * keys, 0.0);
    for first in (0..q.count).step_by(QUERY_BLOCK) {
        let count = QUERY_BLOCK.min(q.count - first);
        // No query of this block sees a key after its last one.
        let reach = if causal { keys.min(first + count) } else { keys };
        let queries = Rows {
            data: &q.data[first * q.stride..],
            count,
            ..q
        };
        let mut block = RowsMut {
            data: scores,
            stride: keys,
        };
        multiply(queries, packed_keys.view(), 0..reach, &mut block);
        for (i, row) in (first..first + count).zip(scores.chunks_exact_mut(keys.max(1))) {
            let seen = if causal { keys.min(i + 1) } else { keys };
            let bias = bias.map(|HeadBias { by_distance, zero }| &by_distance[zero - i..][..seen]);
            softmax(&mut row[..seen], bias);
            row[seen..].fill(0.0);
        }
        let weights = Rows::new(scores, count, keys);
        let mut out = RowsMut {
            data: &mut out.data[first * out.stride..],
            stride: out.stride,
        };
        multiply(weights, packed_values.view(), 0..width, &mut out);
    }
}
