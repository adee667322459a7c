//! Matrix products and row operations for a T5 pass on the CPU, in WebAssembly SIMD.
//!
//! Everything works on plain slices: no tensors, no I/O, no clock, no threads, and no allocation once the scratch has
//! grown to its size. The crate is made for wasm32 with simd128; with relaxed-simd added it uses fused multiply-add.
//! On other targets the same loops run over an array of four numbers, so that the tests can run there; that form is not
//! made to be fast.
//!
//! - [`multiply()`] is `x W^T` for weights packed once: [`PackedF32`], [`PackedF16`], [`PackedQ8`]; [`output_row`] is one
//!   row of `W`. [`multiply_integer`] does a [`PackedQ8`]'s in integers, which is faster and rounds activations.
//! - [`add_low_rank_in`] adds LoRAs to a product, one for each candidate.
//! - [`attention_head`] is one head of one sequence.
//! - [`rms_norm`], [`softmax`], [`gated_gelu`], [`LogSumExp`] work on rows.
//!
//! # Numbers
//!
//! A row's result has the same bits whether it is computed alone or among others: sums run over `k` in ascending order
//! in blocks of [`K_BLOCK`], and each block's sum is added to what came before.
//! Infinities and NaNs are never hidden: what they reach is not finite (each operation says how).
//! Builds with relaxed-simd may round a multiply-add once or twice, as the processor does; all others round twice.
//!
//! # Panics
//!
//! Slices shorter than their shapes panic, as indexing does; shapes are the caller's to check.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(feature = "std"),
    allow(dead_code, reason = "a few vector operations serve only what needs std")
)]

mod integer;
mod job;
mod low_rank;
mod multiply;
mod narrow;
mod pack;
mod share;
mod simd;
mod tile;

// Roots are std's, or wasm's own instructions.
#[cfg(any(feature = "std", target_arch = "wasm32"))]
mod exp;
#[cfg(any(feature = "std", target_arch = "wasm32"))]
mod rows;

#[cfg(feature = "std")]
mod attention;
#[cfg(feature = "std")]
mod log_sum_exp;
#[cfg(feature = "std")]
mod owned;
#[cfg(feature = "std")]
mod scratch;

pub use integer::{IntegerScratch, multiply_integer_in};
pub use job::{Form, Job, LowRankJob, Operation};
pub use low_rank::{LowRank, add_low_rank_in, packed_rows};
pub use multiply::{Output, Rows, RowsMut, SCRATCH_ROWS, multiply_in};
pub use narrow::{F16Panels, Q8_BLOCK, Q8Panels};
pub use pack::{F32Panels, K_BLOCK, PANEL, Weight, output_row_in, transpose_in};
pub use share::{Cut, SharedJobs, cut_by_rows};

#[cfg(any(feature = "std", target_arch = "wasm32"))]
pub use self::rows::{EXP_ERROR, gated_gelu, rms_norm, softmax};
#[cfg(feature = "std")]
pub use self::{
    attention::{AttentionScratch, HeadBias, attention_head},
    log_sum_exp::LogSumExp,
    owned::{PackedF16, PackedF32, PackedQ8},
    scratch::{Scratch, multiply, multiply_integer, output_row, transpose},
};
