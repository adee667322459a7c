//! Weights held as f16 or as q8_0, widened to f32 on the way to the kernels.
//!
//! For several rows a panel is widened into scratch memory once for all of them; for one row there is nothing to spread
//! that over, and a kernel widens in registers. Both multiply the same f32 numbers in the same order.

use crate::pack::{Layout, PANEL, PanelRow, Panels, Span, Weight};
use crate::simd::F32x4;
use crate::tile::{VECTORS, write_row};

/// Weights along `k` that share one scale in q8_0.
pub const Q8_BLOCK: usize = 32;

/// The bits of the weights, or scales, of sixteen outputs as f16.
pub(crate) type HalfRow = [u16; PANEL];

/// Weights packed as f16: two bytes each.
#[derive(Clone, Copy, Debug)]
pub struct F16Panels<'a> {
    layout: Layout,
    rows: &'a [HalfRow],
    /// No weight is infinite or NaN, as in every model that loads: widening then takes half the instructions.
    finite: bool,
}

impl<'a> F16Panels<'a> {
    /// The packed bits of `n` outputs and `k` inputs, in the order that [`Weight`] describes; `finite` if none of them is
    /// an infinity or NaN.
    ///
    /// # Panics
    /// If there are fewer rows than that takes.
    pub fn new(n: usize, k: usize, rows: &'a [[u16; PANEL]], finite: bool) -> Self {
        let layout = Layout { n, k };
        Self {
            layout,
            rows: &rows[..layout.rows()],
            finite,
        }
    }

    /// The packed rows.
    pub fn rows(&self) -> &'a [[u16; PANEL]] {
        self.rows
    }

    /// Whether no weight is infinite or NaN.
    pub fn is_finite(&self) -> bool {
        self.finite
    }
}

/// Weights packed as q8_0: a signed byte each, times an f16 scale for every [`Q8_BLOCK`] along `k`.
#[derive(Clone, Copy, Debug)]
pub struct Q8Panels<'a> {
    layout: Layout,
    rows: &'a [[i8; PANEL]],
    /// Like the rows of a matrix `[n, blocks]` packed without blocks of `k`: panel by panel.
    scales: &'a [HalfRow],
}

impl<'a> Q8Panels<'a> {
    /// The packed bytes of `n` outputs and `k` inputs, in the order that [`Weight`] describes, and the bits of their
    /// scales: for each panel a row for every [`Q8_BLOCK`] inputs.
    ///
    /// # Panics
    /// If there are fewer rows than that takes.
    pub fn new(n: usize, k: usize, rows: &'a [[i8; PANEL]], scales: &'a [[u16; PANEL]]) -> Self {
        let layout = Layout { n, k };
        Self {
            layout,
            rows: &rows[..layout.rows()],
            scales: &scales[..layout.panels() * k.div_ceil(Q8_BLOCK)],
        }
    }

    /// The packed rows.
    pub fn rows(&self) -> &'a [[i8; PANEL]] {
        self.rows
    }

    /// The bits of the scales.
    pub fn scales(&self) -> &'a [[u16; PANEL]] {
        self.scales
    }

    /// Outputs and inputs.
    pub(crate) fn dims(&self) -> (usize, usize) {
        (self.layout.n, self.layout.k)
    }

    /// One panel's weights and scales of one block of `k`, which starts at a multiple of [`Q8_BLOCK`].
    pub(crate) fn panel(&self, span: Span) -> impl Iterator<Item = (&'a [[i8; PANEL]], &'a HalfRow)> {
        let blocks = self.layout.k.div_ceil(Q8_BLOCK);
        let scales = &self.scales[span.first * blocks..][span.start / Q8_BLOCK..];
        self.rows[self.layout.range(span)].chunks(Q8_BLOCK).zip(scales)
    }
}

/// The span's panels, each by itself.
fn singly(span: Span) -> impl Iterator<Item = Span> {
    (0..span.count).map(move |p| Span {
        first: span.first + p,
        count: 1,
        ..span
    })
}

#[inline(always)]
pub(crate) fn from_halves<const FINITE: bool>(bits: &HalfRow) -> [F32x4; VECTORS] {
    let (vectors, _) = bits.as_chunks::<4>();
    core::array::from_fn(|v| match FINITE {
        true => F32x4::from_finite_f16(&vectors[v]),
        false => F32x4::from_f16(&vectors[v]),
    })
}

#[inline(always)]
fn from_bytes(bytes: &[i8; PANEL], scales: &[F32x4; VECTORS]) -> [F32x4; VECTORS] {
    let (halves, _) = bytes.as_chunks::<8>();
    let [[a, b], [c, d]] = [F32x4::from_i8(&halves[0]), F32x4::from_i8(&halves[1])];
    // Exact: eight bits by eleven.
    [a.mul(scales[0]), b.mul(scales[1]), c.mul(scales[2]), d.mul(scales[3])]
}

#[inline(always)]
fn store(weights: [F32x4; VECTORS], row: &mut PanelRow) {
    write_row(&weights, row, false);
}

#[inline(always)]
fn add_product(sums: &mut [F32x4; VECTORS], x: f32, weights: [F32x4; VECTORS]) {
    let x = F32x4::splat(x);
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum = x.mul_add(weight, *sum);
    }
}

#[inline(never)]
fn widen_halves<const FINITE: bool>(from: &[HalfRow], to: &mut [PanelRow]) {
    for (from, to) in from.iter().zip(to) {
        store(from_halves::<FINITE>(from), to);
    }
}

#[inline(never)]
fn halves_by_row<const FINITE: bool>(x: &[f32], panel: &[HalfRow], out: &mut [f32], add: bool) {
    let mut sums = [F32x4::splat(0.0); VECTORS];
    for (&x, row) in x.iter().zip(panel) {
        add_product(&mut sums, x, from_halves::<FINITE>(row));
    }
    write_row(&sums, out, add);
}

#[inline(never)]
fn widen_bytes<'a>(from: impl Iterator<Item = (&'a [[i8; PANEL]], &'a HalfRow)>, to: &mut [PanelRow]) {
    for ((from, scales), to) in from.zip(to.chunks_mut(Q8_BLOCK)) {
        let scales = from_halves::<false>(scales);
        for (from, to) in from.iter().zip(to) {
            store(from_bytes(from, &scales), to);
        }
    }
}

#[inline(never)]
fn bytes_by_row<'a>(
    x: &[f32],
    panel: impl Iterator<Item = (&'a [[i8; PANEL]], &'a HalfRow)>,
    out: &mut [f32],
    add: bool,
) {
    let mut sums = [F32x4::splat(0.0); VECTORS];
    for (x, (rows, scales)) in x.chunks(Q8_BLOCK).zip(panel) {
        let scales = from_halves::<false>(scales);
        for (&x, row) in x.iter().zip(rows) {
            add_product(&mut sums, x, from_bytes(row, &scales));
        }
    }
    write_row(&sums, out, add);
}

impl Weight for F16Panels<'_> {
    const WIDENED: bool = true;

    fn outputs(&self) -> usize {
        self.layout.n
    }

    fn inputs(&self) -> usize {
        self.layout.k
    }
}

impl Panels for F16Panels<'_> {
    fn panels<'a>(&'a self, span: Span, scratch: &'a mut [PanelRow]) -> &'a [PanelRow] {
        let to = &mut scratch[..span.count * span.length];
        let from = &self.rows[self.layout.range(span)];
        match self.finite {
            true => widen_halves::<true>(from, to),
            false => widen_halves::<false>(from, to),
        }
        to
    }

    fn row(&self, span: Span, x: &[f32], out: &mut [f32], add: bool) {
        for (span, out) in singly(span).zip(out.chunks_mut(PANEL)) {
            let panel = &self.rows[self.layout.range(span)];
            match self.finite {
                true => halves_by_row::<true>(x, panel, out, add),
                false => halves_by_row::<false>(x, panel, out, add),
            }
        }
    }
}

impl Weight for Q8Panels<'_> {
    const WIDENED: bool = true;

    fn outputs(&self) -> usize {
        self.layout.n
    }

    fn inputs(&self) -> usize {
        self.layout.k
    }
}

impl Panels for Q8Panels<'_> {
    fn panels<'a>(&'a self, span: Span, scratch: &'a mut [PanelRow]) -> &'a [PanelRow] {
        let to = &mut scratch[..span.count * span.length];
        for (span, to) in singly(span).zip(to.chunks_exact_mut(span.length)) {
            widen_bytes(self.panel(span), to);
        }
        to
    }

    fn row(&self, span: Span, x: &[f32], out: &mut [f32], add: bool) {
        for (span, out) in singly(span).zip(out.chunks_mut(PANEL)) {
            bytes_by_row(x, self.panel(span), out, add);
        }
    }
}
