//! What lives on the device.

use std::rc::Rc;

use crate::memory::Allocation;

/// Activations `[rows, columns]` on the GPU, f32. Cloning shares the storage.
#[derive(Clone)]
pub struct GpuTensor {
    pub(crate) data: Rc<Allocation>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// Token ids on the GPU.
#[derive(Clone)]
pub struct GpuIds {
    pub(crate) data: Rc<Allocation>,
    pub(crate) count: usize,
    /// No id is larger: known for uploaded ids, the head's last row for computed ones.
    pub(crate) largest: u32,
}

/// How a matrix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F32,
    F16,
    /// Blocks of 32 columns: 8-bit integers and an f16 factor.
    Q8,
    /// Blocks of 32 columns: 4-bit integers and an f16 factor.
    Q4,
}

impl Format {
    pub(crate) const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8, Self::Q4];
}

/// A matrix, table or vector of the base on the GPU. Matrices lie in panels (see `shaders/include/weight_f32.wgsl`),
/// vectors as they are.
#[derive(Clone)]
pub struct GpuWeight {
    pub(crate) data: Rc<Allocation>,
    pub(crate) shape: Vec<usize>,
    pub(crate) format: Format,
}

/// T5's relative position bias `[heads, distances]`, distance zero in the middle.
pub struct GpuBias {
    pub(crate) data: Rc<Allocation>,
    pub(crate) heads: usize,
    pub(crate) distances: usize,
}

impl GpuBias {
    /// Index of distance zero, which is also the largest distance on either side.
    pub(crate) fn zero(&self) -> usize {
        self.distances.saturating_sub(1) / 2
    }
}

/// Keys and values of a decode: `[steps, sequences, width]` each.
pub struct GpuCache {
    pub(crate) keys: Rc<Allocation>,
    pub(crate) values: Rc<Allocation>,
    pub(crate) sequences: usize,
    pub(crate) width: usize,
    pub(crate) steps: usize,
    /// Steps that the buffers hold.
    pub(crate) room: usize,
    /// Steps that the caller asked for.
    pub(crate) capacity: usize,
}

impl GpuTensor {
    /// 4-byte values.
    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
    }
}
