//! The device: every tensor operation that T5 needs, as one trait, and its CPU implementation.
//!
//! [`Backend`] is coarse on purpose. Each method is one fused step of a Flan-T5 pass (a linear with its LoRA, the
//! attention of a whole batch, the loss of every candidate), so that a GPU can make it a handful of dispatches and a
//! CPU can reuse its scratch. Shapes are known on the host; only the `read_*` methods wait for the device.
//!
//! # Shapes
//!
//! Activations are `[rows, columns]`, f32, row-major. A [`Segments`] says how the rows of one candidate are cut into
//! shots: `T` rows, shot after shot, without padding. With `C` candidates a tensor has `C * T` rows, candidate-major.
//! Where nothing depends on the candidate yet (the embeddings and the first block's norm), it has only `T` rows:
//! operations that take a LoRA widen it to `C * T`.
//!
//! [`Cpu`] has two forms of each operation: a composed one of candle's differentiable primitives, taken when an input
//! tracks gradients (training the demo family), and a fused one without gradients, on slices of memory that it keeps,
//! for everything else. One test runs both on the same inputs.
//!
//! This crate does no I/O, reads no clock and makes no random numbers.

mod backend;
mod cpu;
mod error;
mod steps;

pub use backend::{AttentionPlan, Backend, Norm, Projection, Segments, check_held};
pub use cpu::{
    Arithmetic, Chain, Chains, Cpu, CpuBank, CpuBias, CpuCache, CpuLora, CpuTensor, CpuWeight, Matrix, Packed,
    Products, Step, matmul,
};
pub use error::{DeviceError, TensorError};
pub use lorahub_weights::quant::WeightStorage;
