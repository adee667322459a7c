//! Weights cut into panels, the order in which the micro-kernels read them.

use core::ops::Range;

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
pub trait Weight: Panels + Copy {
    /// Number of outputs, `n`.
    fn outputs(&self) -> usize;

    /// Number of inputs, `k`.
    fn inputs(&self) -> usize;

    /// Whether the panels are widened into scratch memory.
    const WIDENED: bool;
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
    /// The panels as f32, one after another: borrowed, or widened into `scratch`, which holds
    /// [`SCRATCH_ROWS`](crate::SCRATCH_ROWS) unless the weights are f32.
    #[doc(hidden)]
    fn panels<'a>(&'a self, span: Span, scratch: &'a mut [[f32; PANEL]]) -> &'a [[f32; PANEL]];

    /// One row's product with the panels: `out[..] (+)= x panels`, with `x: [length]` and `out: [count * PANEL]`.
    #[doc(hidden)]
    fn row(&self, span: Span, x: &[f32], out: &mut [f32], add: bool);
}

/// The weights of one output as f32, in the order of the inputs: a row of the matrix that was packed.
///
/// # Shapes
/// - `out`: `[k]`
/// - `scratch`: [`SCRATCH_ROWS`](crate::SCRATCH_ROWS) unless the weights are f32
///
/// # Panics
/// If there is no such output, or `out` has another length.
pub fn output_row_in<W: Weight>(weight: W, output: usize, out: &mut [f32], scratch: &mut [[f32; PANEL]]) {
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

/// Packs the transpose of some outputs' weights as f32: products with it are `x W` where those with `W` are `x W^T`.
///
/// # Shapes
/// - `outputs`: inside `0..n`; starts at a multiple of [`PANEL`], and no more than [`K_BLOCK`] of them
/// - `out`: the packed rows of `k` outputs and `outputs.len()` inputs, as [`F32Panels::new`] takes them
/// - `scratch`: [`SCRATCH_ROWS`](crate::SCRATCH_ROWS) unless the weights are f32
///
/// # Panics
/// If `outputs` is not as said, or a slice is shorter than its shape.
pub fn transpose_in<W: Weight>(
    weight: W,
    outputs: Range<usize>,
    out: &mut [[f32; PANEL]],
    scratch: &mut [[f32; PANEL]],
) {
    let (n, k, count) = (weight.outputs(), weight.inputs(), outputs.len());
    assert!(
        outputs.start.is_multiple_of(PANEL) && outputs.end <= n && count <= K_BLOCK,
        "outputs {outputs:?} of {n}; they start at a multiple of {PANEL} and are at most {K_BLOCK}"
    );
    let out = &mut out[..Layout { n: k, k: count }.rows()];
    for start in (0..k).step_by(K_BLOCK) {
        for place in (0..count).step_by(PANEL) {
            let span = Span {
                start,
                length: K_BLOCK.min(k - start),
                first: (outputs.start + place) / PANEL,
                count: 1,
            };
            let width = PANEL.min(count - place);
            for (at, inputs) in weight.panels(span, scratch).chunks(PANEL).enumerate() {
                let panel = (start / PANEL + at) * count + place;
                transpose_square(inputs, &mut out[panel..panel + width]);
            }
        }
    }
}

/// `to[j][i] = from[i][j]`, four by four, where `from` has at most [`PANEL`] rows; those past the last are zeros.
#[inline(never)]
fn transpose_square(from: &[PanelRow], to: &mut [PanelRow]) {
    for place in (0..PANEL).step_by(4) {
        for (j, to) in to.chunks_mut(4).enumerate() {
            let square = core::array::from_fn(|i| {
                from.get(place + i)
                    .map_or(F32x4::splat(0.0), |row| F32x4::load(&row.as_chunks::<4>().0[j]))
            });
            for (row, column) in to.iter_mut().zip(F32x4::transpose(square)) {
                column.store(&mut row.as_chunks_mut::<4>().0[place / 4]);
            }
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
    pub(crate) fn range(self, span: Span) -> Range<usize> {
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
#[derive(Clone, Copy, Debug)]
pub struct F32Panels<'a> {
    layout: Layout,
    rows: &'a [PanelRow],
}

impl<'a> F32Panels<'a> {
    /// The packed rows of `n` outputs and `k` inputs, in the order that [`Weight`] describes.
    ///
    /// # Panics
    /// If there are fewer rows than that takes.
    pub fn new(n: usize, k: usize, rows: &'a [[f32; PANEL]]) -> Self {
        let layout = Layout { n, k };
        Self {
            layout,
            rows: &rows[..layout.rows()],
        }
    }

    /// The packed rows.
    pub fn rows(&self) -> &'a [[f32; PANEL]] {
        self.rows
    }
}

impl Weight for F32Panels<'_> {
    const WIDENED: bool = false;

    fn outputs(&self) -> usize {
        self.layout.n
    }

    fn inputs(&self) -> usize {
        self.layout.k
    }
}

impl Panels for F32Panels<'_> {
    fn panels<'a>(&'a self, span: Span, _: &'a mut [PanelRow]) -> &'a [PanelRow] {
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
