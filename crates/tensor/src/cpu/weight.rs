//! The base's matrices on the CPU: as candle's tensors, or narrow and widened where they are multiplied.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use lorahub_weights::quant::{Narrow, WeightStorage};

use super::fused::{View, tensor};
use super::gemm::{Strided, for_each, multiply};
use crate::TensorError;

/// Values of a narrow matrix that are widened at a time: half a mebibyte of f32, which a cache can keep.
const WIDENED: usize = 1 << 17;

/// A matrix, table or vector of the base on the CPU.
#[derive(Clone, Debug)]
pub struct CpuWeight(Held);

#[derive(Clone, Debug)]
enum Held {
    F32(Tensor),
    Narrow(Arc<Narrow>),
}

impl CpuWeight {
    /// Wraps a candle tensor, a variable in training included. It must be f32, on the CPU and contiguous.
    pub fn from_tensor(tensor: Tensor) -> Self {
        Self(Held::F32(tensor))
    }

    /// A matrix in a narrow form, read from a file or made by [`Narrow::quantise`].
    pub fn from_narrow(narrow: Narrow) -> Self {
        Self(Held::Narrow(Arc::new(narrow)))
    }

    /// `data` of `shape` in the form that `storage` takes for it.
    pub(super) fn new(shape: &[usize], data: Vec<f32>, storage: WeightStorage) -> Result<Self, TensorError> {
        if let [rows, columns] = *shape
            && let Some(format) = storage.format_of(&data, columns)
        {
            return Ok(Self::from_narrow(Narrow::quantise(format, rows, columns, &data)?));
        }
        Ok(Self::from_tensor(Tensor::from_vec(data, shape, &Device::Cpu)?))
    }

    /// The dimensions.
    pub fn dims(&self) -> Vec<usize> {
        match &self.0 {
            Held::F32(tensor) => tensor.dims().to_vec(),
            Held::Narrow(narrow) => vec![narrow.rows(), narrow.columns()],
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Held::F32(tensor) => tensor.elem_count() * 4,
            Held::Narrow(narrow) => narrow.bytes().len(),
        }
    }

    /// Rows and columns of a matrix.
    pub(super) fn matrix(&self, op: &'static str, operand: &'static str) -> Result<(usize, usize), TensorError> {
        match self.dims()[..] {
            [rows, columns] => Ok((rows, columns)),
            _ => Err(TensorError::shape(
                op,
                operand,
                "[rows, columns]",
                format!("{:?}", self.dims()),
            )),
        }
    }

    /// Whether it needs the differentiable form of an operation.
    pub(super) fn tracks(&self) -> bool {
        matches!(&self.0, Held::F32(tensor) if tensor.track_op())
    }

    /// The tensor, for the differentiable forms and for vectors.
    pub(super) fn tensor(&self, op: &'static str) -> Result<&Tensor, TensorError> {
        match &self.0 {
            Held::F32(tensor) => Ok(tensor),
            Held::Narrow(narrow) => Err(TensorError::shape(
                op,
                "weight",
                "held as f32, because an operand tracks gradients",
                narrow.format().name(),
            )),
        }
    }

    /// These rows, which must exist, as `[ids, columns]`.
    pub(super) fn select(&self, ids: &[u32]) -> Result<Tensor, TensorError> {
        match &self.0 {
            Held::F32(table) => Ok(table.index_select(&Tensor::from_slice(ids, ids.len(), &Device::Cpu)?, 0)?),
            Held::Narrow(narrow) => {
                let columns = narrow.columns();
                let mut rows = vec![0f32; ids.len() * columns];
                for (row, &id) in rows.chunks_exact_mut(columns.max(1)).zip(ids) {
                    narrow.widen_row(id as usize, row);
                }
                tensor(rows, ids.len(), columns)
            }
        }
    }

    /// `out = x W^T` for `rows` rows of `x`. A narrow matrix is widened a block of its rows at a time into `scratch`.
    pub(super) fn product(
        &self,
        rows: usize,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) -> Result<(), TensorError> {
        let (d_out, d_in) = self.matrix("linear", "weight")?;
        let lhs = Strided::row_major(x, d_in);
        let narrow = match &self.0 {
            Held::F32(weight) => {
                let weight = View::new(weight)?;
                let rhs = Strided::transposed(&weight, d_in);
                multiply(rows, d_out, d_in, lhs, rhs, out, d_out, false, true);
                return Ok(());
            }
            Held::Narrow(narrow) => narrow,
        };
        let together = (WIDENED / d_in.max(1)).clamp(1, d_out.max(1));
        scratch.resize(scratch.len().max(together * d_in), 0.0);
        for first in (0..d_out).step_by(together) {
            let count = together.min(d_out - first);
            let widened = &mut scratch[..count * d_in];
            for_each(
                widened.chunks_mut(d_in.max(1)).collect(),
                || (),
                |row, out: &mut [f32], ()| narrow.widen_row(first + row, out),
            );
            let rhs = Strided::transposed(widened, d_in);
            multiply(rows, count, d_in, lhs, rhs, &mut out[first..], d_out, false, true);
        }
        Ok(())
    }

    /// Rows of a product with many columns that are held at once; the widening of a narrow matrix is shared by them.
    pub(super) fn rows_together(&self) -> usize {
        match &self.0 {
            // `32 * 32128` scores are 4 MiB, which a cache can keep.
            Held::F32(_) => 32,
            Held::Narrow(_) => 128,
        }
    }
}
