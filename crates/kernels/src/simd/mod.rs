//! Vectors of 128 bits under one name on every target: wasm's, or arrays elsewhere.
//!
//! The kernels are written once over [`F32x4`], [`I16x8`] and [`I32x4`]. The array form exists so that native tests run the same packing and the
//! same loops; nobody should time it.
//!
//! [`F32x4::mul_add`] rounds once where the build has relaxed SIMD and the processor has FMA, and twice everywhere else.

#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use portable::{F32x4, I16x8, I32x4};
#[cfg(all(feature = "std", not(target_arch = "wasm32")))]
pub(crate) use portable::{root, root_f64, transpose_bytes, transpose_halves};
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::{F32x4, I16x8, I32x4, root, root_f64};
#[cfg(all(feature = "std", target_arch = "wasm32"))]
pub(crate) use wasm::{transpose_bytes, transpose_halves};

#[cfg(all(target_arch = "wasm32", not(target_feature = "simd128")))]
compile_error!("build for wasm32 with `-C target-feature=+simd128`, as .cargo/config.toml does");

/// `1.5 * 2^23`: adding it to a number of magnitude below `2^22` leaves that number, rounded to an integer, in the low
/// bits of the sum.
pub(crate) const ROUNDING: f32 = 12_582_912.0;
