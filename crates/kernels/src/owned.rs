//! Packed weights that own their memory, and how they are made.
//!
//! Each panel is packed by a call of its own. A browser runs what it has just compiled without optimisation, and what it
//! compiles better meanwhile is used from the next call on: a whole matrix in one call, the first one of a model being the
//! largest, would be packed by the slow code.

use crate::multiply::Rows;
use crate::narrow::{F16Panels, HalfRow, Q8_BLOCK, Q8Panels};
use crate::pack::{F32Panels, Layout, PANEL, PanelRow, Span};
use crate::simd::{F32x4, transpose_bytes, transpose_halves};

/// The exponent of f16's infinities and NaNs, and its lowest bit.
const F16_SPECIAL: u16 = 0x7c00;
const F16_EXPONENT_ONE: u16 = 0x0400;

/// Weights packed as f32.
#[derive(Clone, Debug, Default)]
pub struct PackedF32 {
    layout: Layout,
    rows: Vec<PanelRow>,
}

impl PackedF32 {
    /// Packs `weight: [n, k]`, as a linear layer stores it.
    pub fn new(weight: Rows<'_>, k: usize) -> Self {
        let mut packed = Self::default();
        packed.pack(weight, k);
        packed
    }

    /// Replaces the weights by `weight: [n, k]`, in the memory that is there if it suffices.
    pub fn pack(&mut self, weight: Rows<'_>, k: usize) {
        self.reset(weight.count, k);
        for span in self.layout.spans() {
            let panel = &mut self.rows[self.layout.range(span)];
            let first = span.first * PANEL;
            let columns = PANEL.min(weight.count - first);
            let sources: [&[f32]; PANEL] = std::array::from_fn(|j| {
                // Columns past the end repeat the last one for now.
                &weight.row(first + j.min(columns - 1), k)[span.start..span.start + span.length]
            });
            transpose(sources, panel);
            if columns < PANEL {
                for row in panel {
                    row[columns..].fill(0.0);
                }
            }
        }
    }

    /// Replaces the weights by the transpose of `weight: [k, n]`: products become `x weight`.
    pub fn pack_transposed(&mut self, weight: Rows<'_>, n: usize) {
        self.reset(n, weight.count);
        for span in self.layout.spans() {
            let first = span.first * PANEL;
            let columns = PANEL.min(n - first);
            for (i, to) in self.rows[self.layout.range(span)].iter_mut().enumerate() {
                let from = &weight.row(span.start + i, n)[first..first + columns];
                match <&PanelRow>::try_from(from) {
                    Ok(whole) => *to = *whole,
                    Err(_) => {
                        to[..columns].copy_from_slice(from);
                        to[columns..].fill(0.0);
                    }
                }
            }
        }
    }

    /// What the products read.
    pub fn view(&self) -> F32Panels<'_> {
        F32Panels::new(self.layout.n, self.layout.k, &self.rows)
    }

    fn reset(&mut self, n: usize, k: usize) {
        self.layout = Layout { n, k };
        self.rows.resize(self.layout.rows(), [0.0; PANEL]);
    }
}

/// `panel[i][j] = sources[j][i]`, four by four.
#[inline(never)]
fn transpose(sources: [&[f32]; PANEL], panel: &mut [PanelRow]) {
    let (blocks, rest) = panel.as_chunks_mut::<4>();
    let done = blocks.len() * 4;
    for (i, block) in blocks.iter_mut().enumerate() {
        for j in (0..PANEL).step_by(4) {
            let square = std::array::from_fn(|row| {
                let (vectors, _) = sources[j + row].as_chunks::<4>();
                F32x4::load(&vectors[i])
            });
            for (row, column) in block.iter_mut().zip(F32x4::transpose(square)) {
                let (vectors, _) = row.as_chunks_mut::<4>();
                column.store(&mut vectors[j / 4]);
            }
        }
    }
    for (i, row) in rest.iter_mut().enumerate() {
        *row = sources.map(|source| source[done + i]);
    }
}

/// Weights packed as f16: two bytes each.
#[derive(Clone, Debug)]
pub struct PackedF16 {
    layout: Layout,
    rows: Vec<HalfRow>,
    /// No weight is infinite or NaN, as in every model that loads: widening then takes half the instructions.
    finite: bool,
}

impl PackedF16 {
    /// Packs `halves: [n, k]`, the little-endian bytes of f16 numbers, as a linear layer stores them.
    ///
    /// # Panics
    /// If `halves` is not of this size.
    pub fn new(halves: &[[u8; 2]], n: usize, k: usize) -> Self {
        let layout = Layout { n, k };
        assert_eq!(halves.len(), n * k, "values of {n} outputs and {k} inputs");
        let mut rows = vec![[0; PANEL]; layout.rows()];
        let mut finite = true;
        for span in layout.spans() {
            finite &= pack_halves(layout, halves, span, &mut rows[layout.range(span)]);
        }
        Self { layout, rows, finite }
    }

    /// What the products read.
    pub fn view(&self) -> F16Panels<'_> {
        F16Panels::new(self.layout.n, self.layout.k, &self.rows, self.finite)
    }
}

/// Bytes of one of llama.cpp's blocks: a scale and the values.
const Q8_BLOCK_BYTES: usize = 2 + Q8_BLOCK;

/// Weights packed as q8_0: a signed byte each, times an f16 scale for every [`Q8_BLOCK`] along `k`.
#[derive(Clone, Debug)]
pub struct PackedQ8 {
    layout: Layout,
    rows: Vec<[i8; PANEL]>,
    /// Like the rows of a matrix `[n, blocks]` packed without blocks of `k`: panel by panel.
    scales: Vec<HalfRow>,
}

impl PackedQ8 {
    /// Packs `values: [n, k]` and the bits of their f16 `scales: [n, ceil(k / 32)]`.
    ///
    /// # Panics
    /// If a slice is not of this size.
    pub fn new(values: &[i8], scales: &[u16], n: usize, k: usize) -> Self {
        let layout = Layout { n, k };
        let blocks = k.div_ceil(Q8_BLOCK);
        assert_eq!(scales.len(), n * blocks, "scales of {n} outputs, {blocks} blocks each");
        let mut packed = vec![[0; PANEL]; layout.panels() * blocks];
        for (output, scales) in scales.chunks_exact(blocks.max(1)).enumerate() {
            for (block, &scale) in scales.iter().enumerate() {
                packed[output / PANEL * blocks + block][output % PANEL] = scale;
            }
        }
        Self {
            layout,
            rows: interleave(layout, values),
            scales: packed,
        }
    }

    /// Packs a matrix `[n, k]` from llama.cpp's blocks, row after row: the bits of an f16 scale, then a byte for each of
    /// [`Q8_BLOCK`] values.
    ///
    /// # Panics
    /// If `k` is not whole blocks, or `blocks` not of this size.
    pub fn from_blocks(blocks: &[u8], n: usize, k: usize) -> Self {
        let (layout, of_row) = (Layout { n, k }, k / Q8_BLOCK);
        assert!(
            k.is_multiple_of(Q8_BLOCK) && blocks.len() == n * of_row * Q8_BLOCK_BYTES,
            "{} bytes of blocks for {n} outputs and {k} inputs",
            blocks.len()
        );
        let (blocks, _) = blocks.as_chunks();
        let mut rows = vec![[0; PANEL]; layout.rows()];
        let mut scales = vec![[0; PANEL]; layout.panels() * of_row];
        for span in layout.spans() {
            let scales = &mut scales[span.first * of_row + span.start / Q8_BLOCK..];
            pack_blocks(layout, blocks, span, &mut rows[layout.range(span)], scales);
        }
        Self { layout, rows, scales }
    }

    /// What the products read.
    pub fn view(&self) -> Q8Panels<'_> {
        Q8Panels::new(self.layout.n, self.layout.k, &self.rows, &self.scales)
    }
}

/// `values: [n, k]` in the order of panels.
fn interleave<T: Copy + Default>(layout: Layout, values: &[T]) -> Vec<[T; PANEL]> {
    let Layout { n, k } = layout;
    assert_eq!(values.len(), n * k, "values of {n} outputs and {k} inputs");
    let mut rows = vec![[T::default(); PANEL]; layout.rows()];
    for span in layout.spans() {
        let panel = &mut rows[layout.range(span)];
        let first = span.first * PANEL;
        for (j, output) in (first..n.min(first + PANEL)).enumerate() {
            let from = &values[output * k + span.start..][..span.length];
            for (row, &value) in panel.iter_mut().zip(from) {
                row[j] = value;
            }
        }
    }
    rows
}

/// One panel of llama.cpp's blocks, and its scales, the first ones of `scales`.
#[inline(never)]
fn pack_blocks(
    layout: Layout,
    blocks: &[[u8; Q8_BLOCK_BYTES]],
    span: Span,
    panel: &mut [[i8; PANEL]],
    scales: &mut [HalfRow],
) {
    let of_row = layout.k / Q8_BLOCK;
    let (first, start) = (span.first * PANEL, span.start / Q8_BLOCK);
    for (at, (rows, scale)) in panel.chunks_exact_mut(Q8_BLOCK).zip(scales).enumerate() {
        // Outputs past the last are zero.
        let of_outputs: [&[u8; Q8_BLOCK_BYTES]; PANEL] = std::array::from_fn(|j| {
            let block = (first + j < layout.n).then(|| blocks.get((first + j) * of_row + start + at));
            block.flatten().unwrap_or(&[0; Q8_BLOCK_BYTES])
        });
        *scale = of_outputs.map(|block| u16::from_le_bytes([block[0], block[1]]));
        for (part, rows) in rows.chunks_exact_mut(PANEL).enumerate() {
            let square = of_outputs.map(|block| &block[2..].as_chunks::<PANEL>().0[part]);
            for (row, bytes) in rows.iter_mut().zip(transpose_bytes(square)) {
                *row = bytes.map(|byte| byte as i8);
            }
        }
    }
}

/// One panel of halves, eight by eight where there are so many; returns whether all of them are finite.
#[inline(never)]
fn pack_halves(layout: Layout, halves: &[[u8; 2]], span: Span, panel: &mut [HalfRow]) -> bool {
    const SQUARE: usize = 8;
    let Layout { n, k } = layout;
    let first = span.first * PANEL;
    for place in (0..PANEL.min(n - first)).step_by(SQUARE) {
        let of = |j: usize| &halves[(first + place + j) * k + span.start..][..span.length];
        let outputs = SQUARE.min(n - first - place);
        let done = if outputs == SQUARE {
            let sources: [&[[[u8; 2]; SQUARE]]; SQUARE] = std::array::from_fn(|j| of(j).as_chunks().0);
            for (at, rows) in panel.chunks_exact_mut(SQUARE).enumerate() {
                for (row, square) in rows.iter_mut().zip(transpose_halves(sources.map(|source| &source[at]))) {
                    row[place..place + SQUARE].copy_from_slice(&square);
                }
            }
            span.length / SQUARE * SQUARE
        } else {
            0
        };
        for j in 0..outputs {
            for (row, &half) in panel[done..].iter_mut().zip(&of(j)[done..]) {
                row[place + j] = u16::from_le_bytes(half);
            }
        }
    }
    // One more than the largest exponent is the sign's bit. Without branches this becomes vectors.
    let carried = |carried: u16, bits: &u16| carried | ((bits & F16_SPECIAL) + F16_EXPONENT_ONE);
    panel.as_flattened().iter().fold(0, carried) >> 15 == 0
}
