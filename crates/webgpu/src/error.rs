//! What can go wrong with a GPU.

use lorahub_tensor::{DeviceError, TensorError};

/// An error of the GPU backend. Inside [`TensorError::Device`] it keeps its [`code`](GpuError::code).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No adapter answered.
    #[error(
        "no GPU adapter: {reason}; use a browser with WebGPU or install a Vulkan, Metal or DX12 driver, or run on the cpu"
    )]
    NoAdapter {
        /// What wgpu said.
        reason: String,
    },
    /// The adapter refused to open a device.
    #[error(
        "the GPU adapter `{adapter}` gave no device: {reason}; close other GPU programs and try again, or run on the cpu"
    )]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// What wgpu said.
        reason: String,
    },
    /// A limit of the adapter is below what the kernels or the model need.
    #[error(
        "the GPU adapter is too small for {what}: `{limit}` is {found}, needed {needed}; use a smaller model, or run on \
         the cpu"
    )]
    TooSmall {
        /// What was to be made.
        what: String,
        /// WebGPU's name of the limit, in Rust's spelling.
        limit: &'static str,
        /// The value that was needed.
        needed: u64,
        /// The adapter's value.
        found: u64,
    },
    /// An allocation failed.
    #[error(
        "the GPU is out of memory: {bytes} bytes for {what}, {live} in use; use a smaller model or a smaller budget, or \
         run on the cpu"
    )]
    OutOfMemory {
        /// What was to be allocated.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// Bytes that the backend held then.
        live: u64,
    },
    /// The device is gone: a driver reset, a suspended machine, or [`Gpu::destroy`](crate::Gpu::destroy).
    #[error("the GPU device was lost: {reason}; open it again, or go on from the last checkpoint on the cpu")]
    Lost {
        /// What the driver said.
        reason: String,
    },
    /// The driver refused a command: a defect of this crate or of the driver.
    #[error("the GPU refused a command: {reason}; run on the cpu and report this")]
    Refused {
        /// What wgpu said.
        reason: String,
    },
    /// An attention head is wider than the kernel's registers.
    #[error(
        "heads of {found} columns are wider than the {max} that the GPU's attention holds; run this model on the cpu"
    )]
    HeadWidth {
        /// The widest head.
        max: usize,
        /// The model's.
        found: usize,
    },
    /// A kernel computes something else than the CPU does: a defect of the driver, or of the browser.
    #[error(
        "the GPU computes wrong numbers: kernel `{kernel}` gave {found}, expected {expected}; update the graphics driver \
         or the browser, or run on the cpu"
    )]
    WrongNumbers {
        /// The kernel, with the form of its weights.
        kernel: String,
        /// The CPU's number, and where.
        expected: String,
        /// The GPU's.
        found: String,
    },
}

impl GpuError {
    /// A stable name for programs; part of the public interface.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter { .. } | Self::NoDevice { .. } => "no_adapter",
            Self::TooSmall { .. } | Self::HeadWidth { .. } => "adapter_too_small",
            Self::OutOfMemory { .. } => "device_memory",
            Self::Lost { .. } => "device_lost",
            Self::Refused { .. } => "device",
            Self::WrongNumbers { .. } => "self_test",
        }
    }
}

impl From<GpuError> for TensorError {
    fn from(error: GpuError) -> Self {
        DeviceError::new(error.code(), error).into()
    }
}

/// What the GPU said inside a [`TensorError`]; anything else cannot come from it, and is named as refused.
impl From<TensorError> for GpuError {
    fn from(error: TensorError) -> Self {
        if let TensorError::Device(device) = &error
            && let Some(own) = device.source.downcast_ref::<Self>()
        {
            return own.clone();
        }
        Self::Refused {
            reason: error.to_string(),
        }
    }
}
