//! The products with memory that grows by itself.

use core::ops::Range;

use crate::integer::{IntegerScratch, multiply_integer_in};
use crate::multiply::{Output, Rows, RowsMut, SCRATCH_ROWS, multiply_in};
use crate::narrow::Q8Panels;
use crate::pack::{PANEL, PanelRow, Weight, output_row_in, transpose_in};

/// Memory for widened panels, 64 KiB, none while all weights are f32; and 257 KiB once something is multiplied in
/// integers. Make one for each thread and keep it.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    panels: Vec<PanelRow>,
    integer: Option<Box<IntegerScratch>>,
}

impl Scratch {
    /// As much as these weights need; what it holds is anything.
    fn for_weight<W: Weight>(&mut self) -> &mut [PanelRow] {
        if W::WIDENED && self.panels.is_empty() {
            self.panels.resize(SCRATCH_ROWS, [0.0; PANEL]);
        }
        &mut self.panels
    }
}

/// [`multiply_in`] with scratch memory that is made when it is needed.
///
/// # Panics
/// As [`multiply_in`] does.
pub fn multiply<W: Weight>(
    x: Rows<'_>,
    weight: W,
    columns: Range<usize>,
    out: &mut RowsMut<'_>,
    output: Output,
    scratch: &mut Scratch,
) {
    multiply_in(x, weight, columns, out, output, scratch.for_weight::<W>());
}

/// [`multiply_integer_in`] with scratch memory that is made when it is needed.
///
/// # Panics
/// As [`multiply_integer_in`] does.
pub fn multiply_integer(
    x: Rows<'_>,
    weight: Q8Panels<'_>,
    columns: Range<usize>,
    out: &mut RowsMut<'_>,
    output: Output,
    scratch: &mut Scratch,
) {
    let scratch = scratch.integer.get_or_insert_with(|| Box::new(IntegerScratch::ZEROS));
    multiply_integer_in(x, weight, columns, out, output, scratch);
}

/// [`output_row_in`] with scratch memory that is made when it is needed.
///
/// # Panics
/// As [`output_row_in`] does.
pub fn output_row<W: Weight>(weight: W, output: usize, out: &mut [f32], scratch: &mut Scratch) {
    output_row_in(weight, output, out, scratch.for_weight::<W>());
}

/// [`transpose_in`] with scratch memory that is made when it is needed.
///
/// # Panics
/// As [`transpose_in`] does.
pub fn transpose<W: Weight>(weight: W, outputs: Range<usize>, out: &mut [[f32; PANEL]], scratch: &mut Scratch) {
    transpose_in(weight, outputs, out, scratch.for_weight::<W>());
}
