//! Operations on one row, each in as few passes over memory as its sums allow.

use crate::exp::exp;
use crate::simd::{F32x4, root, root_f64};

/// Largest error of the exponential behind [`softmax`], [`gated_gelu`] and [`LogSumExp`](crate::LogSumExp), relative to the result where
/// that is a normal number; below, it is at most one unit of the smallest f32, `2^-149`.
pub const EXP_ERROR: f64 = 1.5 * f32::EPSILON as f64;

/// `values` in vectors, the last one filled up with `padding`.
#[inline(always)]
pub(crate) fn vectors(values: &[f32], padding: f32) -> impl Iterator<Item = F32x4> {
    let (whole, rest) = values.as_chunks::<4>();
    let last = (!rest.is_empty()).then(|| F32x4::load(&padded(rest, padding)));
    whole.iter().map(F32x4::load).chain(last)
}

#[inline(always)]
pub(crate) fn padded(rest: &[f32], padding: f32) -> [f32; 4] {
    core::array::from_fn(|lane| rest.get(lane).copied().unwrap_or(padding))
}

/// Replaces each vector of `row` by what `change` makes of it and of `other`'s. Lanes past the end are [`f32::MIN`] in
/// `row`, so that they are no row's largest, and zero in `other`; what becomes of them is dropped.
#[inline(always)]
fn change(row: &mut [f32], other: &[f32], mut change: impl FnMut(F32x4, F32x4) -> F32x4) {
    let other = &other[..row.len()];
    let (whole, rest) = row.as_chunks_mut::<4>();
    let (other_whole, other_rest) = other.as_chunks::<4>();
    for (value, other) in whole.iter_mut().zip(other_whole) {
        change(F32x4::load(value), F32x4::load(other)).store(value);
    }
    if !rest.is_empty() {
        let value = change(
            F32x4::load(&padded(rest, f32::MIN)),
            F32x4::load(&padded(other_rest, 0.0)),
        );
        for (to, from) in rest.iter_mut().zip(value.lanes()) {
            *to = from;
        }
    }
}

/// Sum of the lanes.
#[inline(always)]
pub(crate) fn sum(value: F32x4) -> f32 {
    let [a, b, c, d] = value.lanes();
    (a + c) + (b + d)
}

/// Scales a row to unit root mean square, then by `weight` (T5's layer norm).
///
/// # Shapes
/// - `x`, `weight`, `out`: `[width]`; `eps` is added to the mean square, before the root
///
/// Squares that overflow f32 are summed again in f64. An infinity or NaN in `x` makes at least its own element NaN.
#[inline(never)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (mut even, mut odd) = (F32x4::splat(0.0), F32x4::splat(0.0));
    for value in vectors(x, 0.0) {
        // Two sums in turn, so that an addition does not wait for the one before it.
        (even, odd) = (odd, value.mul_add(value, even));
    }
    let square_sum = sum(even.add(odd));
    let out = &mut out[..x.len()];
    if !square_sum.is_finite() {
        return rms_norm_f64(x, weight, eps, out);
    }
    let inverse = F32x4::splat(1.0 / root(square_sum / x.len() as f32 + eps));
    out.copy_from_slice(x);
    change(out, weight, |value, weight| value.mul(inverse).mul(weight));
}

#[cold]
fn rms_norm_f64(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let square_sum: f64 = x.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let inverse = 1.0 / root_f64(square_sum / x.len() as f64 + f64::from(eps));
    for ((out, &value), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = (f64::from(value) * inverse * f64::from(weight)) as f32;
    }
}

/// Adds `bias` to a row of scores, then makes it its softmax, in place.
///
/// # Shapes
/// - `row`, `bias` (if there is one): `[width]`
///
/// A row in which a biased score is infinite or NaN becomes NaN throughout, so that the loss shows it.
#[inline(never)]
pub fn softmax(row: &mut [f32], bias: Option<&[f32]>) {
    let mut seen = Extremes::default();
    match bias {
        Some(bias) => change(row, bias, |score, bias| {
            let score = score.add(bias);
            seen.watch(score);
            score
        }),
        None => vectors(row, f32::MIN).for_each(|score| seen.watch(score)),
    }
    let Some(largest) = seen.largest() else {
        row.fill(f32::NAN);
        return;
    };
    let largest = F32x4::splat(largest);
    let mut total = F32x4::splat(0.0);
    let (whole, rest) = row.as_chunks_mut::<4>();
    for value in whole {
        let e = exp(F32x4::load(value).sub(largest));
        total = total.add(e);
        e.store(value);
    }
    if !rest.is_empty() {
        let e = exp(F32x4::load(&padded(rest, f32::MIN)).sub(largest));
        for (to, from) in rest.iter_mut().zip(e.lanes()) {
            *to = from;
            total = total.add(F32x4::load(&[from, 0.0, 0.0, 0.0]));
        }
    }
    let inverse = 1.0 / sum(total);
    for value in row.iter_mut() {
        *value *= inverse;
    }
}

/// The largest score of a row, unless one is infinite or NaN.
pub(crate) struct Extremes {
    largest: F32x4,
    /// Zero until a score that is not finite makes it NaN, for good.
    poison: F32x4,
}

impl Default for Extremes {
    fn default() -> Self {
        Self {
            largest: F32x4::splat(f32::MIN),
            poison: F32x4::splat(0.0),
        }
    }
}

impl Extremes {
    #[inline(always)]
    pub(crate) fn watch(&mut self, score: F32x4) {
        self.largest = self.largest.at_least(score);
        self.poison = score.mul_add(F32x4::splat(0.0), self.poison);
    }

    pub(crate) fn largest(&self) -> Option<f32> {
        let [a, b, c, d] = self.largest.lanes();
        (sum(self.poison) == 0.0).then(|| a.max(b).max(c.max(d)))
    }
}

/// `gate = gelu(gate) * up`, element by element, with GELU in the tanh form that T5 v1.1 was trained with (Hendrycks and
/// Gimpel, equation 2).
///
/// # Shapes
/// - `gate`, `up`: the same length, whatever the rows
///
/// With `1 + tanh(u) = 2 / (1 + e^(-2u))` the form is `x / (1 + e^(-2u))`, `u = sqrt(2 / pi) (x + 0.044715 x^3)`, which
/// loses nothing where tanh is near -1. The error is at most 9 [`f32::EPSILON`] of the result for `x >= -1`, and at most
/// 370 of it below, where the result vanishes; results below 4e-38 may be zero.
/// An infinity or NaN comes out as one or as NaN, and a gate of minus infinity as NaN.
#[inline(never)]
pub fn gated_gelu(gate: &mut [f32], up: &[f32]) {
    const MINUS_TWO_ROOT: f32 = -1.595_769;
    const CUBIC: f32 = 0.044_715;
    let one = F32x4::splat(1.0);
    change(gate, up, |x, up| {
        let inner = x.mul(x).mul_add(F32x4::splat(CUBIC), one).mul(x);
        let e = exp(inner.mul(F32x4::splat(MINUS_TWO_ROOT)));
        x.div(e.add(one)).mul(up)
    });
}
