//! [`F32x4`] on wasm's simd128, with fused multiply-add where the build has relaxed-simd.

#[cfg(target_feature = "relaxed-simd")]
use core::arch::wasm32::f32x4_relaxed_madd;
use core::arch::wasm32::{
    f32x4_abs, f32x4_add, f32x4_convert_i32x4, f32x4_div, f32x4_extract_lane, f32x4_ge, f32x4_max, f32x4_mul,
    f32x4_pmax, f32x4_pmin, f32x4_splat, f32x4_sqrt, f32x4_sub, f64x2_extract_lane, f64x2_splat, f64x2_sqrt,
    i8x16_shuffle, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i16x8_load_extend_i8x8, i16x8_narrow_i32x4,
    i16x8_shuffle, i32x4_add, i32x4_dot_i16x8, i32x4_extend_high_i16x8, i32x4_extend_low_i16x8,
    i32x4_load_extend_i16x4, i32x4_shl, i32x4_shr, i32x4_shuffle, i32x4_splat, i32x4_sub, i64x2_shuffle, v128,
    v128_and, v128_load, v128_load32_splat, v128_or, v128_store,
};

use super::ROUNDING;

/// Four f32 lanes.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(v128);

impl F32x4 {
    #[inline(always)]
    pub(crate) fn splat(value: f32) -> Self {
        Self(f32x4_splat(value))
    }

    #[inline(always)]
    pub(crate) fn load(from: &[f32; 4]) -> Self {
        // SAFETY: the reference is to 16 readable bytes, and the instruction needs no alignment.
        Self(unsafe { v128_load(from.as_ptr().cast()) })
    }

    #[inline(always)]
    pub(crate) fn store(self, to: &mut [f32; 4]) {
        // SAFETY: the reference is to 16 writable bytes, and the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Self {
        Self(f32x4_add(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn sub(self, other: Self) -> Self {
        Self(f32x4_sub(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn mul(self, other: Self) -> Self {
        Self(f32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn div(self, other: Self) -> Self {
        Self(f32x4_div(self.0, other.0))
    }

    /// `self * factor + addend`; see the module for its rounding.
    #[inline(always)]
    pub(crate) fn mul_add(self, factor: Self, addend: Self) -> Self {
        #[cfg(target_feature = "relaxed-simd")]
        return Self(f32x4_relaxed_madd(self.0, factor.0, addend.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        Self(f32x4_add(f32x4_mul(self.0, factor.0), addend.0))
    }

    /// The larger magnitude in each lane; a NaN on either side stays.
    #[inline(always)]
    pub(crate) fn larger_magnitude(self, other: Self) -> Self {
        Self(f32x4_max(f32x4_abs(self.0), f32x4_abs(other.0)))
    }

    /// `bound` in the lanes where it is smaller; a NaN in `self` stays.
    #[inline(always)]
    pub(crate) fn at_most(self, bound: Self) -> Self {
        Self(f32x4_pmin(self.0, bound.0))
    }

    /// `bound` in the lanes where it is larger; a NaN in `self` stays.
    #[inline(always)]
    pub(crate) fn at_least(self, bound: Self) -> Self {
        Self(f32x4_pmax(self.0, bound.0))
    }

    /// `self * 2^n` with `n` given as `ROUNDING + n`, for `n` from -250 to 250. Two factors, because `2^n` itself
    /// leaves the range of f32 at both ends.
    #[inline(always)]
    pub(crate) fn times_two_to(self, rounding_plus_n: Self) -> Self {
        let n = i32x4_sub(rounding_plus_n.0, i32x4_splat(ROUNDING.to_bits() as i32));
        let half = i32x4_shr(n, 1);
        let power = |n: v128| i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23);
        Self(f32x4_mul(f32x4_mul(self.0, power(half)), power(i32x4_sub(n, half))))
    }

    /// Columns become rows.
    #[inline(always)]
    pub(crate) fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let (ab_low, ab_high) = (
            i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0),
            i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0),
        );
        let (cd_low, cd_high) = (
            i32x4_shuffle::<0, 4, 1, 5>(c.0, d.0),
            i32x4_shuffle::<2, 6, 3, 7>(c.0, d.0),
        );
        [
            Self(i64x2_shuffle::<0, 2>(ab_low, cd_low)),
            Self(i64x2_shuffle::<1, 3>(ab_low, cd_low)),
            Self(i64x2_shuffle::<0, 2>(ab_high, cd_high)),
            Self(i64x2_shuffle::<1, 3>(ab_high, cd_high)),
        ]
    }

    #[inline(always)]
    pub(crate) fn lanes(self) -> [f32; 4] {
        [
            f32x4_extract_lane::<0>(self.0),
            f32x4_extract_lane::<1>(self.0),
            f32x4_extract_lane::<2>(self.0),
            f32x4_extract_lane::<3>(self.0),
        ]
    }

    /// Four finite f16 numbers given by their bits.
    #[inline(always)]
    pub(crate) fn from_finite_f16(bits: &[u16; 4]) -> Self {
        // SAFETY: the reference is to 8 readable bytes, and the instruction needs no alignment.
        let bits = unsafe { i32x4_load_extend_i16x4(bits.as_ptr().cast()) };
        // The sign to the top, with copies below it to clear; exponent and mantissa to the places f32 has for them.
        let placed = v128_and(i32x4_shl(bits, 13), i32x4_splat(0x8fff_e000_u32 as i32));
        // As an f32 the exponent is too small by 127 - 15; the product is exact and makes subnormals normal.
        Self(f32x4_mul(placed, f32x4_splat(f32::from_bits((127 + 112) << 23))))
    }

    /// Four f16 numbers given by their bits; infinities and NaNs stay what they are.
    #[inline(always)]
    pub(crate) fn from_f16(bits: &[u16; 4]) -> Self {
        let value = Self::from_finite_f16(bits).0;
        // An f16 exponent of all ones came out as 2^16 or more, which no finite f16 reaches.
        let beyond = f32x4_ge(f32x4_abs(value), f32x4_splat(65536.0));
        Self(v128_or(value, v128_and(beyond, i32x4_splat(0x7f80_0000))))
    }

    /// Eight signed bytes as two vectors.
    #[inline(always)]
    pub(crate) fn from_i8(values: &[i8; 8]) -> [Self; 2] {
        // SAFETY: the reference is to 8 readable bytes, and the instruction needs no alignment.
        let wide = unsafe { i16x8_load_extend_i8x8(values.as_ptr()) };
        [
            Self(f32x4_convert_i32x4(i32x4_extend_low_i16x8(wide))),
            Self(f32x4_convert_i32x4(i32x4_extend_high_i16x8(wide))),
        ]
    }
}

/// Eight signed 16-bit lanes.
#[derive(Clone, Copy)]
pub(crate) struct I16x8(v128);

impl I16x8 {
    #[inline(always)]
    pub(crate) fn load_pairs(from: &[[i16; 2]; 4]) -> Self {
        // SAFETY: the reference is to 16 readable bytes, and the instruction needs no alignment.
        Self(unsafe { v128_load(from.as_ptr().cast()) })
    }

    #[inline(always)]
    pub(crate) fn store_pairs(self, to: &mut [[i16; 2]; 4]) {
        // SAFETY: the reference is to 16 writable bytes, and the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
    }

    /// The pair in every pair of lanes.
    #[inline(always)]
    pub(crate) fn splat_pair(pair: &[i16; 2]) -> Self {
        // SAFETY: the reference is to 4 readable bytes, and the instruction needs no alignment.
        Self(unsafe { v128_load32_splat(pair.as_ptr().cast()) })
    }

    /// Numbers of magnitude below `2^22` rounded to integers, which fit 16 bits.
    #[inline(always)]
    pub(crate) fn rounded(low: F32x4, high: F32x4) -> Self {
        let integers = |values: F32x4| {
            let placed = f32x4_add(values.0, f32x4_splat(ROUNDING));
            i32x4_sub(placed, i32x4_splat(ROUNDING.to_bits() as i32))
        };
        Self(i16x8_narrow_i32x4(integers(low), integers(high)))
    }

    /// The lanes of two rows of bytes, one from each in turn.
    #[inline(always)]
    pub(crate) fn interleaved(a: &[i8; 16], b: &[i8; 16]) -> [Self; 4] {
        // SAFETY: each reference is to 16 readable bytes, and the instruction needs no alignment.
        let [a, b] = [a, b].map(|row| unsafe { v128_load(row.as_ptr().cast()) });
        let low = i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b);
        let high = i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b);
        [
            i16x8_extend_low_i8x16(low),
            i16x8_extend_high_i8x16(low),
            i16x8_extend_low_i8x16(high),
            i16x8_extend_high_i8x16(high),
        ]
        .map(Self)
    }

    /// The products of the lanes, each pair's summed.
    #[inline(always)]
    pub(crate) fn dot(self, other: Self) -> I32x4 {
        I32x4(i32x4_dot_i16x8(self.0, other.0))
    }
}

/// Four signed 32-bit lanes.
#[derive(Clone, Copy)]
pub(crate) struct I32x4(v128);

impl I32x4 {
    #[inline(always)]
    pub(crate) fn zero() -> Self {
        Self(i32x4_splat(0))
    }

    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Self {
        Self(i32x4_add(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }
}

/// Columns become rows. Each round moves one bit of an element's row number to its column number and one the other way.
#[inline(always)]
pub(crate) fn transpose_bytes(rows: [&[u8; 16]; 16]) -> [[u8; 16]; 16] {
    // SAFETY: each reference is to 16 readable bytes, and the instruction needs no alignment.
    let mut square = rows.map(|row| unsafe { v128_load(row.as_ptr().cast()) });
    for _ in 0..4 {
        square = core::array::from_fn(|i| {
            let (a, b) = (square[i / 2], square[i / 2 + 8]);
            if i % 2 == 0 {
                i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b)
            } else {
                i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b)
            }
        });
    }
    square.map(|vector| {
        let mut row = [0; 16];
        // SAFETY: there are 16 bytes to write to, and the instruction needs no alignment.
        unsafe { v128_store(row.as_mut_ptr().cast(), vector) };
        row
    })
}

/// Columns become rows, as in [`transpose_bytes`].
#[inline(always)]
pub(crate) fn transpose_halves(rows: [&[[u8; 2]; 8]; 8]) -> [[u16; 8]; 8] {
    // SAFETY: each reference is to 16 readable bytes, and the instruction needs no alignment.
    let mut square = rows.map(|row| unsafe { v128_load(row.as_ptr().cast()) });
    for _ in 0..3 {
        square = core::array::from_fn(|i| {
            let (a, b) = (square[i / 2], square[i / 2 + 4]);
            if i % 2 == 0 {
                i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b)
            } else {
                i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b)
            }
        });
    }
    square.map(|vector| {
        let mut row = [0; 8];
        // SAFETY: there are 16 bytes to write to, and the instruction needs no alignment.
        unsafe { v128_store(row.as_mut_ptr().cast(), vector) };
        row
    })
}

/// The square root, which the library without std has only of vectors.
#[inline(always)]
pub(crate) fn root(value: f32) -> f32 {
    f32x4_extract_lane::<0>(f32x4_sqrt(f32x4_splat(value)))
}

/// The same in f64.
#[inline(always)]
pub(crate) fn root_f64(value: f64) -> f64 {
    f64x2_extract_lane::<0>(f64x2_sqrt(f64x2_splat(value)))
}
