//! Matrix products and row operations for a T5 pass on the CPU, in WebAssembly SIMD.
//!
//! Everything works on plain slices: no tensors, no I/O, no clock, no threads, and no allocation once the scratch has
//! grown to its size. The crate is made for wasm32 with simd128; with relaxed-simd added it uses fused multiply-add.
//! On other targets the same loops run over an array of four numbers, so that the tests can run there; that form is not
//! made to be fast.
//!
//! - [`multiply()`] is `x W^T` for weights packed once: [`PackedF32`], [`PackedF16`], [`PackedQ8`]; [`output_row`] is one
//!   row of `W`.
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

mod attention;
mod exp;
mod multiply;
mod narrow;
mod pack;
mod rows;
mod simd;
mod tile;

pub use attention::{AttentionScratch, HeadBias, attention_head};
pub use multiply::{Output, Rows, RowsMut, Scratch, multiply};
pub use narrow::{PackedF16, PackedQ8, Q8_BLOCK};
pub use pack::{K_BLOCK, PANEL, PackedF32, Weight, output_row};
pub use rows::{EXP_ERROR, LogSumExp, gated_gelu, rms_norm, softmax};
