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

    /// The larger magnitude in each lane; a NaN on either side stays.
    pub(crate) fn larger_magnitude(self, other: Self) -> Self {
        self.zip(other, |a, b| {
            let (a, b) = (a.abs(), b.abs());
            if a.is_nan() || a > b { a } else { b }
        })
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

/// Eight signed 16-bit lanes.
#[derive(Clone, Copy)]
pub(crate) struct I16x8([i16; 8]);

impl I16x8 {
    pub(crate) fn load_pairs(from: &[[i16; 2]; 4]) -> Self {
        Self(core::array::from_fn(|lane| from[lane / 2][lane % 2]))
    }

    pub(crate) fn store_pairs(self, to: &mut [[i16; 2]; 4]) {
        *to = core::array::from_fn(|pair| [self.0[2 * pair], self.0[2 * pair + 1]]);
    }

    /// The pair in every pair of lanes.
    pub(crate) fn splat_pair(pair: &[i16; 2]) -> Self {
        Self(core::array::from_fn(|lane| pair[lane % 2]))
    }

    /// Numbers of magnitude below `2^22` rounded to integers, which fit 16 bits.
    pub(crate) fn rounded(low: F32x4, high: F32x4) -> Self {
        let integer = |value: f32| ((value + ROUNDING).to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32);
        Self(core::array::from_fn(|lane| {
            let value = if lane < 4 { low.0[lane] } else { high.0[lane - 4] };
            integer(value).clamp(i16::MIN.into(), i16::MAX.into()) as i16
        }))
    }

    /// The lanes of two rows of bytes, one from each in turn.
    pub(crate) fn interleaved(a: &[i8; 16], b: &[i8; 16]) -> [Self; 4] {
        core::array::from_fn(|vector| {
            Self(core::array::from_fn(|lane| {
                let from = if lane % 2 == 0 { a } else { b };
                from[4 * vector + lane / 2].into()
            }))
        })
    }

    /// The products of the lanes, each pair's summed.
    pub(crate) fn dot(self, other: Self) -> I32x4 {
        let product = |lane: usize| i32::from(self.0[lane]) * i32::from(other.0[lane]);
        I32x4(core::array::from_fn(|pair| {
            product(2 * pair).wrapping_add(product(2 * pair + 1))
        }))
    }
}

/// Four signed 32-bit lanes.
#[derive(Clone, Copy)]
pub(crate) struct I32x4([i32; 4]);

impl I32x4 {
    pub(crate) fn zero() -> Self {
        Self([0; 4])
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self(core::array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
    }

    pub(crate) fn to_f32(self) -> F32x4 {
        F32x4(self.0.map(|value| value as f32))
    }
}

/// Columns become rows.
pub(crate) fn transpose_bytes(rows: [&[u8; 16]; 16]) -> [[u8; 16]; 16] {
    core::array::from_fn(|column| rows.map(|row| row[column]))
}

/// Columns become rows.
pub(crate) fn transpose_halves(rows: [&[[u8; 2]; 8]; 8]) -> [[u16; 8]; 8] {
    core::array::from_fn(|column| rows.map(|row| u16::from_le_bytes(row[column])))
}

/// The square root.
#[cfg(feature = "std")]
pub(crate) fn root(value: f32) -> f32 {
    value.sqrt()
}

/// The square root.
#[cfg(feature = "std")]
pub(crate) fn root_f64(value: f64) -> f64 {
    value.sqrt()
}
