//! How the backend is opened.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// Lets others run at a checkpoint; resolves to `false` if the caller has asked to stop.
pub(crate) type YieldHook = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = bool>>>>;

/// How the base's matrices are held on the device. Arithmetic is f32 in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// As f32.
    F32,
    /// As f16 where every value of a matrix is exactly an f16 (a file of f16 weights), else as f32: half the memory
    /// for the same results.
    #[default]
    Lossless,
    /// As the nearest f16, unless a value of the matrix is outside f16's range.
    F16,
    /// In blocks of 32 columns, 8-bit integers and an f16 factor each: the numbers of llama.cpp's q8_0, a little over
    /// a quarter of f32. Matrices whose columns are no multiple of 32 as [`F16`](Self::F16).
    Q8,
    /// In blocks of 32 columns, 4-bit integers and an f16 factor each: the numbers of llama.cpp's q4_0, a seventh of
    /// f32. Matrices whose columns are no multiple of 32 as [`F16`](Self::F16).
    Q4,
}

/// Which kernel multiplies many rows. Few rows (a decode step) always take the split kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matmul {
    /// A 4x4 register tile for each invocation and no barriers.
    Register,
    /// A 64x64 tile in workgroup memory.
    Tile,
}

impl Matmul {
    /// The name that runs record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Tile => "tile",
        }
    }
}

/// How [`Gpu::open`](crate::Gpu::open) opens a device.
#[derive(Clone, Default)]
pub struct Options {
    /// How the base's matrices are held.
    pub weights: WeightStorage,
    /// The matrix kernel; by default `register` on software adapters, whose barriers are slow, and `tile` on others.
    pub matmul: Option<Matmul>,
    /// Bytes of released buffers that are kept for reuse; by default 256 MiB.
    pub pool_bytes: Option<u64>,
    /// Pretends that the adapter's `max_compute_workgroups_per_dimension` is this, to test large dispatches on small
    /// inputs. It only lowers the limit.
    pub max_workgroups: Option<u32>,
    /// Pretends that the adapter's `max_storage_buffer_binding_size` is this. It only lowers the limit.
    pub max_binding_bytes: Option<u64>,
    yield_hook: Option<YieldHook>,
}

impl Options {
    /// Awaits `hook` at every checkpoint, so that a browser's worker can read its messages there. When `hook` resolves
    /// to `false` the pass ends with [`TensorError::Cancelled`](lorahub_tensor::TensorError::Cancelled).
    pub fn with_yield<F>(mut self, hook: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = bool> + 'static,
    {
        self.yield_hook = Some(Rc::new(move || Box::pin(hook())));
        self
    }

    pub(crate) fn yield_hook(&self) -> Option<&YieldHook> {
        self.yield_hook.as_ref()
    }
}
