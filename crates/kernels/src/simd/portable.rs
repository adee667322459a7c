//! [`F32x4`] as an array, lane for lane what the wasm form computes without relaxed-simd.

use super::ROUNDING;

/// Four f32 lanes.
#[derive(Clone, Copy)]
pub(crate) struct F32x4([f32; 4]);

impl F32x4 {
    fn zip(self, other: Self, with: impl Fn(f32, f32) -> f32) -> Self {
        Self(core::array::from_fn(|lane| with(self.0[lane], other.0[lane])))
    }

    pub(crate) fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    pub(crate) fn load(from: &[f32; 4]) -> Self {
        Self(*from)
    }

    pub(crate) fn store(self, to: &mut [f32; 4]) {
        *to = self.0;
    }

    pub(crate) fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    pub(crate) fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    pub(crate) fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    pub(crate) fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    /// `self * factor + addend`, rounded twice.
    pub(crate) fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    /// `bound` in the lanes where it is smaller; a NaN in `self` stays.
    pub(crate) fn at_most(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if b < a { b } else { a })
    }

    /// `bound` in the lanes where it is larger; a NaN in `self` stays.
    pub(crate) fn at_least(self, bound: Self) -> Self {
        self.zip(bound, |a, b| if a < b { b } else { a })
    }

    /// `self * 2^n` with `n` given as `ROUNDING + n`, for `n` from -250 to 250.
    pub(crate) fn times_two_to(self, rounding_plus_n: Self) -> Self {
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        self.zip(rounding_plus_n, |value, rounding_plus_n| {
            let n = (rounding_plus_n.to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32);
            let half = n >> 1;
            value * power(half) * power(n.wrapping_sub(half))
        })
    }

    /// Columns become rows.
    pub(crate) fn transpose(rows: [Self; 4]) -> [Self; 4] {
        core::array::from_fn(|column| Self(rows.map(|row| row.0[column])))
    }

    pub(crate) fn lanes(self) -> [f32; 4] {
        self.0
    }

    /// Four finite f16 numbers given by their bits.
    pub(crate) fn from_finite_f16(bits: &[u16; 4]) -> Self {
        Self(bits.map(|bits| {
            let placed = u32::from(bits & 0x8000) << 16 | u32::from(bits & 0x7fff) << 13;
            f32::from_bits(placed) * f32::from_bits((127 + 112) << 23)
        }))
    }

    /// Four f16 numbers given by their bits; infinities and NaNs stay what they are.
    pub(crate) fn from_f16(bits: &[u16; 4]) -> Self {
        Self(Self::from_finite_f16(bits).0.map(|value| {
            let special = if value.abs() >= 65536.0 { 0x7f80_0000 } else { 0 };
            f32::from_bits(value.to_bits() | special)
        }))
    }

    /// Eight signed bytes as two vectors.
    pub(crate) fn from_i8(values: &[i8; 8]) -> [Self; 2] {
        let [a, b, c, d, e, f, g, h] = values.map(f32::from);
        [Self([a, b, c, d]), Self([e, f, g, h])]
    }
}

/// Columns become rows.
pub(crate) fn transpose_bytes(rows: [&[u8; 16]; 16]) -> [[u8; 16]; 16] {
    core::array::from_fn(|column| rows.map(|row| row[column]))
}

/// Columns become rows.
pub(crate) fn transpose_halves(rows: [&[u16; 8]; 8]) -> [[u16; 8]; 8] {
    core::array::from_fn(|column| rows.map(|row| row[column]))
}
