//! A LoRA beside a product.

use core::ops::Range;

use crate::multiply::{Output, Rows, RowsMut, multiply_in};
use crate::pack::{F32Panels, PANEL, PanelRow, Weight as _};

/// The LoRAs of several candidates for one linear layer, packed as [`Weight`](crate::Weight) describes: `A: [rank,
/// inputs]` and `B: [outputs, rank]`.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// Rank of a pair.
    pub rank: usize,
    /// Columns of `A`.
    pub inputs: usize,
    /// Rows of `B`.
    pub outputs: usize,
    /// Activation rows of one candidate; each candidate's lie together.
    pub rows: usize,
    /// Every candidate's `A` one after another, or with `factors` one for all.
    pub a: &'a [[f32; PANEL]],
    /// The same of `B`.
    pub b: &'a [[f32; PANEL]],
    /// `[candidates, rank]`: what a candidate multiplies the components of the pair that all share by.
    pub factors: Option<&'a [f32]>,
}

/// Rows of [`PANEL`] numbers that a packed f32 matrix `[n, k]` takes.
pub const fn packed_rows(n: usize, k: usize) -> usize {
    n.div_ceil(PANEL) * k
}

/// `out += (x A^T) B^T` for the outputs `columns` and for the rows from `first` on of all candidates' rows.
///
/// # Shapes
/// - `x`: `[m, inputs]`
/// - `columns`: inside `0..outputs`; starts at a multiple of [`PANEL`]
/// - `out`: `[m, columns.len()]`
/// - `hidden`: `[m, rank]`; what it holds is anything
///
/// # Panics
/// If `columns` is not as said, or a slice is shorter than its shape.
pub fn add_low_rank_in(
    x: Rows<'_>,
    low: LowRank<'_>,
    first: usize,
    columns: Range<usize>,
    out: &mut RowsMut<'_>,
    hidden: &mut [f32],
) {
    if low.rank == 0 || columns.is_empty() {
        return;
    }
    let pair = |candidate: usize| {
        let of = |all: &'_ [PanelRow], rows: usize| candidate * rows..all.len().min((candidate + 1) * rows);
        let a = of(low.a, packed_rows(low.rank, low.inputs));
        let b = of(low.b, packed_rows(low.outputs, low.rank));
        (
            F32Panels::new(low.rank, low.inputs, &low.a[a]),
            F32Panels::new(low.outputs, low.rank, &low.b[b]),
        )
    };
    let hidden = &mut hidden[..x.count * low.rank];
    let Some(factors) = low.factors else {
        let mut row = 0;
        while row < x.count {
            let candidate = (first + row) / low.rows;
            let count = ((candidate + 1) * low.rows - first - row).min(x.count - row);
            let (a, b) = pair(candidate);
            let x = Rows {
                data: &x.data[row * x.stride..],
                count,
                ..x
            };
            let mut out = RowsMut {
                data: &mut out.data[row * out.stride..],
                stride: out.stride,
            };
            down(x, a, hidden, low.rank);
            up(hidden, count, b, columns.clone(), &mut out);
            row += count;
        }
        return;
    };
    let (a, b) = pair(0);
    down(x, a, hidden, low.rank);
    for (row, hidden) in hidden.chunks_exact_mut(low.rank).enumerate() {
        let candidate = (first + row) / low.rows;
        for (value, factor) in hidden.iter_mut().zip(&factors[candidate * low.rank..]) {
            *value *= factor;
        }
    }
    up(hidden, x.count, b, columns, out);
}

fn down(x: Rows<'_>, a: F32Panels<'_>, hidden: &mut [f32], rank: usize) {
    let mut hidden = RowsMut {
        data: hidden,
        stride: rank,
    };
    multiply_in(x, a, 0..rank, &mut hidden, Output::Store, &mut []);
}

fn up(hidden: &[f32], count: usize, b: F32Panels<'_>, columns: Range<usize>, out: &mut RowsMut<'_>) {
    let hidden = Rows::new(hidden, count, b.inputs());
    multiply_in(hidden, b, columns, out, Output::Add, &mut []);
}
