//! The GPU: the second [`Backend`](lorahub_tensor::Backend), as WGSL kernels through wgpu. One source for the browser
//! (WebGPU) and for native programs (Vulkan, Metal, DX12).
//!
//! Everything stays on the device between token ids going in and losses or token ids coming out. [`Gpu::open`] finds an
//! adapter; the operations record commands, and only reads and checkpoints wait.
//!
//! # How it works
//!
//! - **Recording.** An operation takes its result's buffer from a pool and appends dispatches to a list. The list
//!   becomes one compute pass when it has 64, at a checkpoint, or at a read. Parameters of all dispatches lie in one
//!   uniform buffer, written once a submission; bind groups are cached by the buffers they hold.
//! - **Memory.** A dropped tensor's buffer goes back to the pool, whose free part has a budget. Buffers are destroyed
//!   explicitly, because wgpu does not free them on drop in the browser ([`Gpu::memory`] counts).
//! - **Matrices** lie in panels, so that the invocations of a workgroup read neighbouring addresses, as f32, f16, q8_0
//!   or q4_0 ([`WeightStorage`]). Activations, accumulators, softmax and norms are f32, always: T5 overflows f16.
//! - **Which kernel.** A product of many rows has three variants of the same bits ([`Matmul`]). [`Gpu::calibrate`] tests
//!   them and everything else against the CPU at the start, and takes the fastest.
//! - **Stopping.** A pass holds as many rows as the device does of one block in a tenth of a second, and few submissions
//!   are under way at a time, so that a checkpoint comes soon.
//! - **Decoding.** A step's ids go into the next on the device. How many steps go before one read is measured by
//!   [`Options::clock`], so that streaming does not stall.
//! - **Overflow.** WGSL lets compilers assume that there are no infinities, so they are detected by their exponent bits
//!   and carried as NaN to the loss, which is then infinite: that candidate is the worst one.
//!
//! # A kernel
//!
//! is three files of one name: `shaders/<name>.wgsl` (its header says formula, shapes, dispatch and numerics),
//! `src/kernels/<name>.rs` (parameters and recording), `tests/kernels/<name>.rs` (against the CPU backend, where it is
//! awkward). Nothing needs subgroups, `shader-f16`, immediates, or more than eight storage buffers.

#[cfg(test)]
mod shaders;

mod backend;
mod calibrate;
mod device;
mod error;
mod kernel;
mod kernels;
mod lora;
mod memory;
mod options;
mod pace;
mod pack;
mod prepare;
mod recorder;
mod self_test;
mod tensor;

pub use calibrate::{Calibration, Tuning};
pub use device::Gpu;
pub use error::GpuError;
pub use lora::{GpuBank, GpuLora};
pub use lorahub_tensor::WeightStorage;
pub use memory::MemoryUse;
pub use options::{Clock, Matmul, Options, YieldHook};
pub use tensor::{GpuBias, GpuCache, GpuIds, GpuTensor, GpuWeight};
