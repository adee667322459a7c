//! Candle's tensors as slices.

use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Storage, StorageRef, Tensor};

use crate::TensorError;

/// A contiguous f32 tensor borrowed as a slice.
pub(super) struct View<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self, TensorError> {
        let (storage, layout): (_, &Layout) = tensor.storage_and_layout();
        let not_contiguous =
            || TensorError::shape("view", "tensor", "contiguous f32 on the cpu", format!("{layout:?}"));
        let (start, end) = layout.contiguous_offsets().ok_or_else(not_contiguous)?;
        match &*storage {
            Storage::Cpu(CpuStorage::F32(data)) if end <= data.len() => {}
            _ => return Err(not_contiguous()),
        }
        Ok(Self { storage, start, end })
    }
}

impl Deref for View<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.end],
            // `new` has checked the kind, and a tensor's storage never changes it.
            _ => &[],
        }
    }
}
