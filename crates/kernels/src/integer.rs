//! Products with q8_0 weights in integers.
//!
//! Activations are rounded to 16 bits, with one scale for each row of a block of `k`; a weight is the byte that it is.
//! Over the 32 inputs that share a weight's scale the products are summed exactly (`32 * 2^15 * 2^7` is `2^27`), and
//! then scaled and added as f32. The rounding of the activations, `2^-16` of the largest in the row, is the only loss
//! against [`Q8Panels`] multiplied as f32; the weights' own is some `2^-8`.

use core::ops::Range;

use crate::multiply::{Output, ROW_BLOCK, Rows, RowsMut};
use crate::narrow::{HalfRow, Q8_BLOCK, Q8Panels, from_halves};
use crate::pack::{K_BLOCK, PANEL, PanelRow, Span};
use crate::simd::{F32x4, I16x8, I32x4};
use crate::tile::{VECTORS, load_row, write_row};

/// The largest rounded activation.
const MOST: f32 = i16::MAX as f32;

/// Activations, or one output's weights, of two neighbouring `k`.
type Pair = [i16; 2];

/// The weights of two neighbouring `k`, sixteen outputs' pairs.
type PairRow = [Pair; PANEL];

/// Pairs that share a weight's scale.
const PAIRS: usize = Q8_BLOCK / 2;

/// Memory that a product works in; what it holds is anything.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct IntegerScratch {
    panel: [PairRow; K_BLOCK / 2],
    scales: [PanelRow; K_BLOCK / Q8_BLOCK],
    rows: [[Pair; K_BLOCK / 2]; ROW_BLOCK],
    steps: [f32; ROW_BLOCK],
}

impl IntegerScratch {
    /// Zeros.
    pub const ZEROS: Self = Self {
        panel: [[[0; 2]; PANEL]; K_BLOCK / 2],
        scales: [[0.0; PANEL]; K_BLOCK / Q8_BLOCK],
        rows: [[[0; 2]; K_BLOCK / 2]; ROW_BLOCK],
        steps: [0.0; ROW_BLOCK],
    };
}

/// [`multiply_in`](crate::multiply_in) in integers; see the module for what that rounds. A row of activations with an
/// infinity or NaN gives NaNs, and one whose magnitudes are all below `9.6e-35` zeros.
///
/// # Panics
/// As [`multiply_in`](crate::multiply_in) does.
pub fn multiply_integer_in(
    x: Rows<'_>,
    weight: Q8Panels<'_>,
    columns: Range<usize>,
    out: &mut RowsMut<'_>,
    output: Output,
    scratch: &mut IntegerScratch,
) {
    let (n, k) = weight.dims();
    assert!(
        columns.start.is_multiple_of(PANEL) && columns.end <= n,
        "columns {columns:?} of {n} outputs; they start at a multiple of {PANEL}"
    );
    if columns.is_empty() {
        return;
    }
    let stride = out.stride;
    if k == 0 && output == Output::Store {
        for row in out.data.chunks_mut(out.stride).take(x.count) {
            row[..columns.len()].fill(0.0);
        }
    }
    for first_row in (0..x.count).step_by(ROW_BLOCK) {
        let rows = first_row..x.count.min(first_row + ROW_BLOCK);
        for start in (0..k).step_by(K_BLOCK) {
            let length = K_BLOCK.min(k - start);
            for (at, row) in rows.clone().enumerate() {
                let from = &x.data[row * x.stride + start..][..length];
                scratch.steps[at] = round_row(from, &mut scratch.rows[at]);
            }
            for column in columns.clone().step_by(PANEL) {
                let panel = weight.panel(Span {
                    start,
                    length,
                    first: column / PANEL,
                    count: 1,
                });
                let block = Block {
                    rows: rows.len(),
                    width: PANEL.min(columns.end - column),
                    add: start > 0 || output == Output::Add,
                };
                let out = &mut out.data[first_row * out.stride + column - columns.start..];
                block.multiply(panel, out, stride, scratch);
            }
        }
    }
}

/// Rounds activations; returns what one step of the integers is worth. Whole blocks of [`Q8_BLOCK`] are written, the last
/// filled up with zeros.
#[inline(never)]
fn round_row(from: &[f32], to: &mut [Pair]) -> f32 {
    const LANES: usize = 8;
    let (vectors, rest) = from.as_chunks::<LANES>();
    let mut last = [0.0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let vectors = || vectors.iter().chain([&last]);
    let halves = |vector: &[f32; LANES]| {
        let (halves, _) = vector.as_chunks::<4>();
        [F32x4::load(&halves[0]), F32x4::load(&halves[1])]
    };
    let mut largest = F32x4::splat(0.0);
    for vector in vectors() {
        let [low, high] = halves(vector);
        largest = largest.larger_magnitude(low.larger_magnitude(high));
    }
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let largest = largest.lanes().into_iter().fold(0.0, larger);
    let steps = MOST / largest;
    let (steps, step) = match (largest.is_finite(), steps.is_finite()) {
        (true, true) => (steps, largest / MOST),
        (true, false) => (0.0, 0.0),
        (false, _) => (0.0, f32::NAN),
    };
    let steps = F32x4::splat(steps);
    let (to, _) = to[..from.len().div_ceil(Q8_BLOCK) * PAIRS].as_chunks_mut::<{ LANES / 2 }>();
    let mut to = to.iter_mut();
    for (vector, to) in vectors().zip(&mut to) {
        let [low, high] = halves(vector).map(|half| half.mul(steps));
        I16x8::rounded(low, high).store_pairs(to);
    }
    for to in to {
        *to = [[0; 2]; LANES / 2];
    }
    step
}

/// One panel's bytes, 32 `k` after 32, and the bits of their scales.
trait Bytes<'a>: Iterator<Item = (&'a [[i8; PANEL]], &'a HalfRow)> {}
impl<'a, I: Iterator<Item = (&'a [[i8; PANEL]], &'a HalfRow)>> Bytes<'a> for I {}

/// One panel, ready for the kernel: whole blocks of [`PAIRS`], and a row of scales for each.
#[derive(Clone, Copy)]
struct Panel<'a> {
    rows: &'a [PairRow],
    scales: &'a [PanelRow],
}

impl<'a> Panel<'a> {
    #[inline(never)]
    fn new(bytes: impl Bytes<'a>, rows: &'a mut [PairRow], scales: &'a mut [PanelRow]) -> Self {
        let (blocks, _) = rows.as_chunks_mut::<PAIRS>();
        let mut count = 0;
        for ((from, halves), (to, scale)) in bytes.zip(blocks.iter_mut().zip(&mut *scales)) {
            write_row(&from_halves::<false>(halves), scale, false);
            let (pairs, odd) = from.as_chunks::<2>();
            let mut to = to.iter_mut();
            for ([a, b], to) in pairs.iter().zip(&mut to) {
                store(I16x8::interleaved(a, b), to);
            }
            for (a, to) in odd.iter().zip(&mut to) {
                store(I16x8::interleaved(a, &[0; PANEL]), to);
            }
            for to in to {
                *to = [[0; 2]; PANEL];
            }
            count += 1;
        }
        Self {
            rows: &rows[..count * PAIRS],
            scales: &scales[..count],
        }
    }
}

#[inline(always)]
fn store(weights: [I16x8; VECTORS], row: &mut PairRow) {
    let (vectors, _) = row.as_chunks_mut::<4>();
    for (to, weights) in vectors.iter_mut().zip(weights) {
        weights.store_pairs(to);
    }
}

/// Rounded rows by one panel of one block of `k`.
struct Block {
    rows: usize,
    /// Columns of the panel that exist.
    width: usize,
    add: bool,
}

impl Block {
    /// `out` starts at the panel's first column of the first row.
    fn multiply<'a>(&self, bytes: impl Bytes<'a>, out: &mut [f32], stride: usize, scratch: &'a mut IntegerScratch) {
        if self.rows == 1 {
            let x = &scratch.rows[0];
            return self.whole::<1>(out, stride, |out, _| row(x, scratch.steps[0], bytes, out, self.add));
        }
        let panel = Panel::new(bytes, &mut scratch.panel, &mut scratch.scales);
        let x = scratch.rows[..self.rows].iter().zip(&scratch.steps);
        let mut x = x.map(|(row, &step)| (&row[..], step));
        let mut out = out.chunks_mut(2 * stride);
        while let (Some(row), Some(out)) = (x.next(), out.next()) {
            match x.next() {
                Some(next) => self.whole::<2>(out, stride, |out, stride| {
                    tile([row, next], panel, out, stride, self.add)
                }),
                None => self.whole::<1>(out, stride, |out, stride| tile([row], panel, out, stride, self.add)),
            }
        }
    }

    /// Calls `write` with `ROWS` rows of a whole panel: those of `out`, or others where some columns do not exist.
    fn whole<const ROWS: usize>(&self, out: &mut [f32], stride: usize, write: impl FnOnce(&mut [f32], usize)) {
        if self.width == PANEL {
            return write(out, stride);
        }
        let mut whole = [[0.0; PANEL]; ROWS];
        if self.add {
            for (row, whole) in whole.iter_mut().enumerate() {
                whole[..self.width].copy_from_slice(&out[row * stride..][..self.width]);
            }
        }
        write(whole.as_flattened_mut(), PANEL);
        for (row, whole) in whole.iter().enumerate() {
            out[row * stride..][..self.width].copy_from_slice(&whole[..self.width]);
        }
    }
}

/// A row of rounded activations, and what one step is worth.
type Row<'a> = (&'a [Pair], f32);

/// `out[r, ..] (+)= x[r] panel`: the micro-kernel, shaped as [`tile`](crate::tile) is and for the same reasons. The totals
/// are touched once for every 32 `k`, and lie in memory meanwhile.
#[inline(never)]
fn tile<const ROWS: usize>(x: [Row<'_>; ROWS], panel: Panel<'_>, out: &mut [f32], stride: usize, add: bool) {
    let (panels, _) = panel.rows.as_chunks::<PAIRS>();
    let rows = x.map(|(row, _)| &row.as_chunks::<PAIRS>().0[..panels.len()]);
    let mut totals = [[F32x4::splat(0.0); VECTORS]; ROWS];
    for (block, (panel, scales)) in panels.iter().zip(panel.scales).enumerate() {
        let rows = rows.map(|row| &row[block]);
        let mut sums = [[I32x4::zero(); VECTORS]; ROWS];
        for i in 0..PAIRS {
            let (weights, _) = panel[i].as_chunks::<4>();
            let weights: [I16x8; VECTORS] = core::array::from_fn(|v| I16x8::load_pairs(&weights[v]));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = I16x8::splat_pair(&row[i]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = sum.add(weights.dot(x));
                }
            }
        }
        let scales = load_row(scales);
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(scales) {
                *total = sum.to_f32().mul_add(scale, *total);
            }
        }
    }
    for (r, (totals, (_, step))) in totals.iter().zip(x).enumerate() {
        let step = F32x4::splat(step);
        write_row(&totals.map(|total| total.mul(step)), &mut out[r * stride..], add);
    }
}

/// The same for one row and a whole panel, whose bytes are widened in registers.
#[inline(never)]
fn row<'a>(x: &[Pair], step: f32, bytes: impl Bytes<'a>, out: &mut [f32], add: bool) {
    let mut totals = [F32x4::splat(0.0); VECTORS];
    let (x, _) = x.as_chunks::<PAIRS>();
    for ((from, halves), x) in bytes.zip(x) {
        let (pairs, odd) = from.as_chunks::<2>();
        let mut sums = [I32x4::zero(); VECTORS];
        let mut add = |x: &Pair, weights: [I16x8; VECTORS]| {
            let x = I16x8::splat_pair(x);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = sum.add(weights.dot(x));
            }
        };
        for ([a, b], x) in pairs.iter().zip(x) {
            add(x, I16x8::interleaved(a, b));
        }
        for (a, x) in odd.iter().zip(&x[pairs.len()..]) {
            add(x, I16x8::interleaved(a, &[0; PANEL]));
        }
        let scales = from_halves::<false>(halves);
        for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(scales) {
            *total = sum.to_f32().mul_add(scale, *total);
        }
    }
    write_row(&totals.map(|total| total.mul(F32x4::splat(step))), out, add);
}
