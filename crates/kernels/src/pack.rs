//! Weights cut into panels, the order in which the micro-kernels read them.

use crate::multiply::{Rows, Scratch};
use crate::simd::F32x4;
use crate::tile::tile;

/// Columns of one panel.
pub const PANEL: usize = 16;

/// The most rows of `k` that one panel holds, and so the length of the sums that stay in registers.
pub const K_BLOCK: usize = 512;

/// The weights of one `k` and sixteen outputs.
pub(crate) type PanelRow = [f32; PANEL];

/// Packed weights `W: [n, k]`, for [`multiply`](crate::multiply()).
///
/// A matrix is cut along `k` into blocks of [`K_BLOCK`], and each block along `n` into panels of [`PANEL`] columns,
/// which lie one after another, `k` by `k`. The last panel is filled up with zeros.
pub trait Weight: Panels {
    /// Number of outputs, `n`.
    fn outputs(&self) -> usize;

    /// Number of inputs, `k`.
    fn inputs(&self) -> usize;
}

/// One or two neighbouring panels of one block of `k`.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The block's first `k`.
    pub(crate) start: usize,
    /// Rows of the block.
    pub(crate) length: usize,
    /// The first panel.
    pub(crate) first: usize,
    /// Number of panels, 1 or 2.
    pub(crate) count: usize,
}

/// What a format of weights does. Its arguments cannot be made outside this crate, so neither can an implementation.
pub trait Panels {
    /// The panels as f32, one after another: borrowed, or widened into `scratch`.
    #[doc(hidden)]
    fn panels<'a>(&'a self, span: Span, scratch: &'a mut Scratch) -> &'a [[f32; PANEL]];

    /// One row's product with the panels: `out[..] (+)= x panels`, with `x: [length]` and `out: [count * PANEL]`.
    #[doc(hidden)]
    fn row(&self, span: Span, x: &[f32], out: &mut [f32], add: bool);
}

/// The weights of one output as f32, in the order of the inputs: a row of the matrix that was packed.
///
/// # Shapes
/// - `out`: `[k]`
///
/// # Panics
/// If there is no such output, or `out` has another length.
pub fn output_row<W: Weight>(weight: &W, output: usize, out: &mut [f32], scratch: &mut Scratch) {
    assert!(
        output < weight.outputs() && out.len() == weight.inputs(),
        "output {output} of {}, {} of {} inputs",
        weight.outputs(),
        out.len(),
        weight.inputs()
    );
    for (block, out) in out.chunks_mut(K_BLOCK).enumerate() {
        let span = Span {
            start: block * K_BLOCK,
            length: out.len(),
            first: output / PANEL,
            count: 1,
        };
        for (to, row) in out.iter_mut().zip(weight.panels(span, scratch)) {
            *to = row[output % PANEL];
        }
    }
}

/// Where packed weights of `n` outputs and `k` inputs lie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) n: usize,
    pub(crate) k: usize,
}

impl Layout {
    /// Panels side by side.
    pub(crate) fn panels(self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Panel rows in all.
    pub(crate) fn rows(self) -> usize {
        self.panels() * self.k
    }

    /// Where a span's panel rows are, if each `k` has a row.
    pub(crate) fn range(self, span: Span) -> std::ops::Range<usize> {
        let first = span.start * self.panels() + span.first * span.length;
        first..first + span.count * span.length
    }

    /// Every panel by itself, in the order of memory.
    pub(crate) fn spans(self) -> impl Iterator<Item = Span> {
        (0..self.k).step_by(K_BLOCK).flat_map(move |start| {
            (0..self.panels()).map(move |first| Span {
                start,
                length: K_BLOCK.min(self.k - start),
                first,
                count: 1,
            })
        })
    }
}

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

    fn reset(&mut self, n: usize, k: usize) {
        self.layout = Layout { n, k };
        self.rows.resize(self.layout.rows(), [0.0; PANEL]);
    }
}

/// `panel[i][j] = sources[j][i]`, four by four.
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

impl Weight for PackedF32 {
    fn outputs(&self) -> usize {
        self.layout.n
    }

    fn inputs(&self) -> usize {
        self.layout.k
    }
}

impl Panels for PackedF32 {
    fn panels<'a>(&'a self, span: Span, _: &'a mut Scratch) -> &'a [PanelRow] {
        &self.rows[self.layout.range(span)]
    }

    fn row(&self, span: Span, x: &[f32], out: &mut [f32], add: bool) {
        let panels = &self.rows[self.layout.range(span)];
        match span.count {
            1 => tile([x], [panels], out, 0, add),
            _ => tile([x], [&panels[..span.length], &panels[span.length..]], out, 0, add),
        }
    }
}
