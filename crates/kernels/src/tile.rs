//! The micro-kernels: a few rows by a few columns of one product over one block of `k`.
//!
//! Their shape is what the compilers bear. Two rows by sixteen columns are eight sums, and with four weights, one
//! activation and one product they fit the fifteen vector registers that V8 has; with more sums, or with `k` unrolled,
//! LLVM's order of instructions makes V8 spill sums inside the loop, which halves the speed. Each is a function of its
//! own, so that the engine can swap in its optimised code between two calls.

use crate::pack::{PANEL, PanelRow};
use crate::simd::F32x4;

/// Vectors in one row of a panel.
pub(crate) const VECTORS: usize = PANEL / 4;

/// One row of a panel as vectors.
#[inline(always)]
pub(crate) fn load_row(row: &PanelRow) -> [F32x4; VECTORS] {
    let (vectors, _) = row.as_chunks::<4>();
    core::array::from_fn(|v| F32x4::load(&vectors[v]))
}

/// `out[r, ..] (+)= a[r] panels[p]` for `ROWS` rows of `a` and `PANELS` neighbouring panels.
///
/// # Shapes
/// - each row of `a`, each of `panels`: `[k]`, with the `k` of the first panel
/// - `out`: `ROWS` rows, `stride` apart, of `PANELS * PANEL` columns
#[inline(never)]
pub(crate) fn tile<const ROWS: usize, const PANELS: usize>(
    a: [&[f32]; ROWS],
    panels: [&[PanelRow]; PANELS],
    out: &mut [f32],
    stride: usize,
    add: bool,
) {
    // Equal lengths, made visible to the compiler, leave no bounds check in the loop.
    let k = panels[0].len();
    let a = a.map(|row| &row[..k]);
    let panels = panels.map(|panel| &panel[..k]);
    let mut sums = [[[F32x4::splat(0.0); VECTORS]; PANELS]; ROWS];
    for i in 0..k {
        let weights = panels.map(|panel| load_row(&panel[i]));
        for (sums, row) in sums.iter_mut().zip(a) {
            let x = F32x4::splat(row[i]);
            for (sums, weights) in sums.iter_mut().zip(weights) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = x.mul_add(weight, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (p, sums) in sums.iter().enumerate() {
            write_row(sums, &mut out[r * stride + p * PANEL..], add);
        }
    }
}

/// Stores one panel's width of sums, or adds them to what is there.
#[inline(always)]
pub(crate) fn write_row(sums: &[F32x4; VECTORS], out: &mut [f32], add: bool) {
    let (out, _) = out[..PANEL].as_chunks_mut::<4>();
    for (out, &sum) in out.iter_mut().zip(sums) {
        let value = if add { F32x4::load(out).add(sum) } else { sum };
        value.store(out);
    }
}
