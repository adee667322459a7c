//! `x W^T` for packed weights: the loops around the micro-kernels.

use core::ops::Range;

use crate::pack::{K_BLOCK, PANEL, PanelRow, Span, Weight};
use crate::tile::tile;

/// Rows that go through all panels of a block of `k` together: `240 * 512` activations are 480 KiB, which stay in a
/// second-level cache, and widening a panel is spread over this many rows.
pub(crate) const ROW_BLOCK: usize = 240;

/// A row-major matrix in a slice; its width is said by what it is used for.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// From one row's start to the next one's.
    pub stride: usize,
    /// Number of rows.
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// A matrix whose rows lie one after another.
    pub fn new(data: &'a [f32], count: usize, width: usize) -> Self {
        Self {
            data,
            stride: width,
            count,
        }
    }

    pub(crate) fn row(&self, index: usize, width: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..width]
    }
}

/// A row-major matrix to write to; its size is said by what writes it.
#[derive(Debug)]
pub struct RowsMut<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// From one row's start to the next one's.
    pub stride: usize,
}

/// What happens to what the result's memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is overwritten.
    Store,
    /// The product is added to it.
    Add,
}

/// Panel rows, [`PANEL`] numbers each, that a product with narrow weights needs as scratch memory: 64 KiB.
pub const SCRATCH_ROWS: usize = 2 * K_BLOCK;

/// `out = x W^T` or `out += x W^T`, for the outputs `columns` of `W`.
///
/// # Shapes
/// - `x`: `[m, k]` with `k = weight.inputs()`
/// - `columns`: inside `0..weight.outputs()`; starts at a multiple of [`PANEL`]
/// - `out`: `[m, columns.len()]`
/// - `scratch`: [`SCRATCH_ROWS`] unless the weights are f32; what it holds is anything
///
/// # Panics
/// If `columns` is not as said, or a slice is shorter than its shape.
pub fn multiply_in<W: Weight>(
    x: Rows<'_>,
    weight: W,
    columns: Range<usize>,
    out: &mut RowsMut<'_>,
    output: Output,
    scratch: &mut [[f32; PANEL]],
) {
    let (m, k) = (x.count, weight.inputs());
    assert!(
        columns.start.is_multiple_of(PANEL) && columns.end <= weight.outputs(),
        "columns {columns:?} of {} outputs; they start at a multiple of {PANEL}",
        weight.outputs()
    );
    if m == 0 || columns.is_empty() {
        return;
    }
    if k == 0 {
        if output == Output::Store {
            for row in out.data.chunks_mut(out.stride).take(m) {
                row[..columns.len()].fill(0.0);
            }
        }
        return;
    }
    for first_row in (0..m).step_by(ROW_BLOCK) {
        let rows = first_row..m.min(first_row + ROW_BLOCK);
        for start in (0..k).step_by(K_BLOCK) {
            let length = K_BLOCK.min(k - start);
            let add = start > 0 || output == Output::Add;
            let mut column = columns.start;
            while column < columns.end {
                let whole = (columns.end - column) / PANEL;
                let span = Span {
                    start,
                    length,
                    first: column / PANEL,
                    count: whole.clamp(1, 2),
                };
                let block = Block {
                    x,
                    rows: rows.clone(),
                    span,
                    add,
                };
                if whole > 0 {
                    block.multiply(weight, &mut out.data[column - columns.start..], out.stride, scratch);
                } else {
                    block.multiply_part(weight, columns.end - column, column - columns.start, out, scratch);
                }
                column += span.count * PANEL;
            }
        }
    }
}

/// Some rows by some panels of one block of `k`.
struct Block<'a> {
    x: Rows<'a>,
    rows: Range<usize>,
    span: Span,
    add: bool,
}

impl<'a> Block<'a> {
    /// The span's part of one row of `x`.
    fn x(&self, row: usize) -> &'a [f32] {
        &self.x.data[row * self.x.stride + self.span.start..][..self.span.length]
    }

    /// Whole panels. `out` starts at the span's first column of row 0.
    fn multiply<W: Weight>(&self, weight: W, out: &mut [f32], stride: usize, scratch: &mut [PanelRow]) {
        let Range { start, end } = self.rows;
        if self.x.count == 1 {
            return weight.row(self.span, self.x(0), out, self.add);
        }
        let panels = weight.panels(self.span, scratch);
        let pairs = start..end - (end - start) % 2;
        for (p, panel) in panels.chunks_exact(self.span.length).enumerate() {
            for row in pairs.clone().step_by(2) {
                let out = &mut out[row * stride + p * PANEL..];
                tile([self.x(row), self.x(row + 1)], [panel], out, stride, self.add);
            }
        }
        // An odd row takes both panels at once: eight sums, like a pair's.
        for row in pairs.end..end {
            let out = &mut out[row * stride..];
            match self.span.count {
                1 => tile([self.x(row)], [panels], out, stride, self.add),
                _ => {
                    let (left, right) = panels.split_at(self.span.length);
                    tile([self.x(row)], [left, right], out, stride, self.add);
                }
            }
        }
    }

    /// The last panel, of which only `width` columns exist: by way of a whole one.
    fn multiply_part<W: Weight>(
        &self,
        weight: W,
        width: usize,
        first_column: usize,
        out: &mut RowsMut<'_>,
        scratch: &mut [[f32; PANEL]],
    ) {
        const PAIR: usize = 2;
        let Range { start, end } = self.rows;
        for first in (start..end).step_by(PAIR) {
            let rows = first..end.min(first + PAIR);
            let place = |row: usize| row * out.stride + first_column..row * out.stride + first_column + width;
            let mut whole = [0.0; PAIR * PANEL];
            if self.add {
                for (row, whole) in rows.clone().zip(whole.chunks_exact_mut(PANEL)) {
                    whole[..width].copy_from_slice(&out.data[place(row)]);
                }
            }
            if self.x.count == 1 {
                weight.row(self.span, self.x(first), &mut whole, self.add);
            } else {
                let panel = weight.panels(self.span, scratch);
                match rows.len() {
                    1 => tile([self.x(first)], [panel], &mut whole, PANEL, self.add),
                    _ => tile([self.x(first), self.x(first + 1)], [panel], &mut whole, PANEL, self.add),
                }
            }
            for (row, whole) in rows.zip(whole.chunks_exact(PANEL)) {
                out.data[place(row)].copy_from_slice(&whole[..width]);
            }
        }
    }
}
