//! The exponential of four lanes.

use crate::simd::{F32x4, ROUNDING};

/// Below this the exponential rounds to zero: it is less than half of the smallest f32, `2^-149`.
const ZERO_BELOW: f32 = -104.0;

/// Above this the exponential exceeds every f32; the arithmetic below comes to infinity by itself.
const INFINITE_ABOVE: f32 = 89.0;

/// `e^x`, within [`EXP_ERROR`](crate::EXP_ERROR) of the result. Infinite, zero and NaN where the exponential is.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is `1 + r + r^2 P(r)` with the polynomial of Cephes' `expf`, whose own
/// relative error on that interval is below `2^-25`.
#[inline(always)]
pub(crate) fn exp(x: F32x4) -> F32x4 {
    const LOG2_E: f32 = core::f32::consts::LOG2_E;
    // ln 2 in two parts; the first has so few bits that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const P: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5e-1,
    ];
    let x = x
        .at_least(F32x4::splat(ZERO_BELOW))
        .at_most(F32x4::splat(INFINITE_ABOVE));
    let shifted = x.mul_add(F32x4::splat(LOG2_E), F32x4::splat(ROUNDING));
    let n = shifted.sub(F32x4::splat(ROUNDING));
    let r = n.mul_add(F32x4::splat(-LN_2_HIGH), x);
    let r = n.mul_add(F32x4::splat(-LN_2_LOW), r);
    let mut p = F32x4::splat(P[0]);
    for coefficient in &P[1..] {
        p = p.mul_add(r, F32x4::splat(*coefficient));
    }
    let e = p.mul_add(r.mul(r), r).add(F32x4::splat(1.0));
    e.times_two_to(shifted)
}
