//! How the backend is opened.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use lorahub_tensor::WeightStorage;
use serde::{Deserialize, Serialize};

/// Lets others run at a checkpoint; resolves to `false` if the caller has asked to stop.
pub type YieldHook = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = bool>>>>;

/// Seconds since some moment, going on steadily.
pub type Clock = Rc<dyn Fn() -> f64>;

/// Which kernel multiplies many rows. Few rows (a decode step) always take the split kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matmul {
    /// A 4x4 register tile for each invocation and no barriers.
    Register,
    /// A 64x64 tile in workgroup memory.
    Tile,
    /// A 128x128 tile in workgroup memory, 8x8 in registers; products too small for it take [`Tile`](Self::Tile), which
    /// gives the same bits.
    Wide,
}

impl Matmul {
    /// Every variant, the plainest first.
    pub const ALL: [Self; 3] = [Self::Register, Self::Tile, Self::Wide];

    /// The name that runs record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Tile => "tile",
            Self::Wide => "wide",
        }
    }
}

/// How [`Gpu::open`](crate::Gpu::open) opens a device.
#[derive(Clone, Default)]
pub struct Options {
    /// How the base's matrices are held.
    pub weights: WeightStorage,
    /// The matrix kernel; by default `register` on software adapters, whose barriers are slow, and on others `tile`
    /// until [`Gpu::calibrate`](crate::Gpu::calibrate) has measured.
    pub matmul: Option<Matmul>,
    /// Bytes of released buffers that are kept for reuse; by default 256 MiB.
    pub pool_bytes: Option<u64>,
    /// Rows of activations that one pass should hold; by default as many as the adapter is fast enough for.
    pub rows: Option<usize>,
    /// Bytes that the activations of one pass may take, adapters included; by default 1 GiB. A generation is split by
    /// it, and a sequence that needs more alone is refused.
    pub activation_bytes: Option<u64>,
    /// Pretends that the adapter's `max_compute_workgroups_per_dimension` is this, to test large dispatches on small
    /// inputs. It only lowers the limit.
    pub max_workgroups: Option<u32>,
    /// Pretends that the adapter's `max_storage_buffer_binding_size` is this. It only lowers the limit.
    pub max_binding_bytes: Option<u64>,
    /// Pretends that the device has so many bytes of memory, to test what happens when it is full.
    pub device_bytes: Option<u64>,
    /// Rewrites a kernel's WGSL, given its name, before it is compiled: to test that wrong kernels are found out.
    pub edit_wgsl: Option<fn(&'static str, String) -> String>,
    /// A clock, by which a decode finds how many steps may go before their tokens are read. Without one it is a
    /// constant.
    pub clock: Option<Clock>,
    /// What checkpoints await; see [`with_yield`](Self::with_yield).
    pub yield_hook: Option<YieldHook>,
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
}
