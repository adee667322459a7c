//! The base's matrices on the CPU: as candle's tensors, packed for the kernels of wasm, or narrow and widened where they
//! are multiplied.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use lorahub_kernels::{LowRank, PANEL, PackedF32, Rows, RowsMut, add_low_rank_in};
use lorahub_weights::Held as Values;
use lorahub_weights::quant::Narrow;

use super::attention;
use super::buffer::{CpuTensor, Pool};
use super::gemm::{Lent, Strided, for_each, multiply};
use super::products::{Arithmetic, Matrix, Packed, Products, by_head};
use super::view::View;
use crate::TensorError;

/// Values of a narrow matrix that are widened at a time: half a mebibyte of f32, which a cache can keep.
const WIDENED: usize = 1 << 17;

/// A matrix, table or vector of the base on the CPU.
#[derive(Clone, Debug)]
pub struct CpuWeight(Held);

#[derive(Clone, Debug)]
enum Held {
    F32(Tensor),
    Packed(Rc<Packed>),
    Taken(Rc<Taken>),
    Narrow(Arc<Narrow>),
}

/// A matrix that a [`Products`] has taken, with what it was.
#[derive(Debug)]
struct Taken {
    matrix: Box<dyn Matrix>,
    dims: (usize, usize),
    bytes: usize,
}

/// How matrices are held and multiplied.
#[derive(Clone, Debug)]
pub(super) enum Kernels {
    /// As candle's tensors, or narrow and widened where they are multiplied.
    Candle,
    /// Packed for `lorahub_kernels`, where they have a form for it.
    Own,
    /// The same, but multiplied elsewhere.
    Elsewhere(Rc<dyn Products>),
}

impl Kernels {
    /// Whether matrices are packed.
    pub(super) fn pack(&self) -> bool {
        !matches!(self, Self::Candle)
    }
}

/// Memory that products reuse from call to call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Where narrow matrices are widened, block by block.
    widened: Vec<f32>,
    panels: lorahub_kernels::Scratch,
    /// Where packed matrices are transposed, head by head.
    transposed: Vec<[f32; PANEL]>,
    /// What LoRAs have between their two matrices.
    hidden: Vec<f32>,
    /// The same, and attention's, for each thread.
    pub(super) hiddens: Lent<Vec<f32>>,
    pub(super) attention: Lent<attention::Scratch>,
}

impl Scratch {
    /// Adds packed LoRAs to `out: [rows, outputs]` in this program's own code, where `x` is `[rows, heads, inputs]`.
    pub(super) fn add_low_rank(&mut self, rows: usize, heads: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) {
        let least = rows * low.rank;
        self.hidden.resize(self.hidden.len().max(least), 0.0);
        for (head, outputs) in by_head(low.outputs, heads).enumerate() {
            let x = Rows {
                data: &x[head * low.inputs..],
                stride: heads * low.inputs,
                count: rows,
            };
            let mut out = RowsMut {
                data: &mut out[outputs.start..],
                stride: low.outputs,
            };
            add_low_rank_in(x, low, 0, outputs, &mut out, &mut self.hidden);
        }
    }
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

    /// Values of this shape, held as `kernels` say.
    pub(super) fn new(
        shape: &[usize],
        values: Values,
        kernels: &Kernels,
        arithmetic: Arithmetic,
    ) -> Result<Self, TensorError> {
        let own = match (kernels, shape, &values) {
            (Kernels::Own | Kernels::Elsewhere(_), &[rows, columns], Values::F32(data)) => {
                Some(Packed::F32(PackedF32::new(Rows::new(data, rows, columns), columns)))
            }
            (Kernels::Own | Kernels::Elsewhere(_), &[_, _], Values::Narrow(narrow)) => {
                Packed::narrow(narrow, arithmetic)
            }
            _ => None,
        };
        Ok(match (own, kernels) {
            (Some(own), Kernels::Elsewhere(products)) => {
                // One copy of the matrix at a time beside the one that stays.
                drop(values);
                let (dims, bytes) = (own.dims(), own.bytes());
                let matrix = products.take(own)?;
                Self(Held::Taken(Rc::new(Taken { matrix, dims, bytes })))
            }
            (Some(own), _) => Self(Held::Packed(Rc::new(own))),
            (None, _) => match values {
                Values::Narrow(narrow) => Self::from_narrow(narrow),
                Values::F32(data) => Self::from_tensor(Tensor::from_vec(data, shape, &Device::Cpu)?),
            },
        })
    }

    /// The dimensions.
    pub fn dims(&self) -> Vec<usize> {
        match &self.0 {
            Held::F32(tensor) => tensor.dims().to_vec(),
            Held::Packed(packed) => vec![packed.dims().0, packed.dims().1],
            Held::Taken(taken) => vec![taken.dims.0, taken.dims.1],
            Held::Narrow(narrow) => vec![narrow.rows(), narrow.columns()],
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Held::F32(tensor) => tensor.elem_count() * 4,
            Held::Packed(packed) => packed.bytes(),
            Held::Taken(taken) => taken.bytes,
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

    /// The matrix, where a [`Products`] has taken it.
    pub(super) fn taken(&self) -> Option<&dyn Matrix> {
        match &self.0 {
            Held::Taken(taken) => Some(&*taken.matrix),
            Held::F32(_) | Held::Packed(_) | Held::Narrow(_) => None,
        }
    }

    /// Whether it needs the differentiable form of an operation.
    pub(super) fn tracks(&self) -> bool {
        matches!(&self.0, Held::F32(tensor) if tensor.track_op())
    }

    /// The tensor, for the differentiable forms and for vectors.
    pub(super) fn tensor(&self, op: &'static str) -> Result<&Tensor, TensorError> {
        let found = match &self.0 {
            Held::F32(tensor) => return Ok(tensor),
            Held::Packed(_) | Held::Taken(_) => "packed for the kernels",
            Held::Narrow(narrow) => narrow.format().name(),
        };
        let expected = "held as a tensor, because an operand tracks gradients";
        Err(TensorError::shape(op, "weight", expected, found))
    }

    /// These rows, which must exist, as `[ids, columns]`.
    pub(super) fn select(&self, ids: &[u32], pool: &Pool, scratch: &mut Scratch) -> Result<CpuTensor, TensorError> {
        if let Held::F32(table) = &self.0
            && table.track_op()
        {
            let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
            return CpuTensor::from_candle(&table.index_select(&ids, 0)?);
        }
        let (_, columns) = self.matrix("embed", "table")?;
        let mut rows = pool.take(ids.len() * columns);
        let width = columns.max(1);
        let places = rows
            .chunks_exact_mut(width)
            .zip(ids)
            .map(|(row, &id)| (row, id as usize));
        match &self.0 {
            Held::F32(table) => {
                let table = View::new(table)?;
                for (row, id) in places {
                    row.copy_from_slice(&table[id * columns..][..columns]);
                }
            }
            Held::Packed(packed) => {
                for (row, id) in places {
                    packed.row(id, row, &mut scratch.panels);
                }
            }
            Held::Taken(taken) => {
                for (row, id) in places {
                    taken.matrix.row(id, row)?;
                }
            }
            Held::Narrow(narrow) => {
                for (row, id) in places {
                    narrow.widen_row(id, row);
                }
            }
        }
        Ok(CpuTensor::new(rows, ids.len(), columns))
    }

    /// `out = x W^T` for `rows` rows of `x`, and packed LoRAs' part of it.
    pub(super) fn product(
        &self,
        rows: usize,
        x: &[f32],
        out: &mut [f32],
        low: Option<LowRank<'_>>,
        scratch: &mut Scratch,
    ) -> Result<(), TensorError> {
        self.product_by_head(rows, 1, x, out, low, scratch)
    }

    /// The same with an `x` of each head's own, as [`Matrix::product`] says.
    pub(super) fn product_by_head(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        out: &mut [f32],
        low: Option<LowRank<'_>>,
        scratch: &mut Scratch,
    ) -> Result<(), TensorError> {
        let (d_out, d_in) = self.matrix("linear", "weight")?;
        // A caller that reuses its memory may have more of it.
        let (x, out) = (&x[..rows * heads * d_in], &mut out[..rows * d_out]);
        match &self.0 {
            Held::Taken(taken) => return taken.matrix.product(rows, heads, x, low, out),
            Held::F32(weight) => {
                let weight = View::new(weight)?;
                for (head, outputs) in by_head(d_out, heads).enumerate() {
                    let lhs = Strided::row_major(&x[head * d_in..], heads * d_in);
                    let rhs = Strided::transposed(&weight[outputs.start * d_in..], d_in);
                    let out = &mut out[outputs.start..];
                    multiply(rows, outputs.len(), d_in, lhs, rhs, out, d_out, false, true);
                }
            }
            Held::Packed(packed) => packed.product(rows, heads, x, out, &mut scratch.panels),
            Held::Narrow(narrow) => {
                for (head, outputs) in by_head(d_out, heads).enumerate() {
                    let lhs = Strided::row_major(&x[head * d_in..], heads * d_in);
                    widen(narrow, outputs, &mut scratch.widened, |outputs, widened| {
                        let rhs = Strided::transposed(widened, d_in);
                        let out = &mut out[outputs.start..];
                        multiply(rows, outputs.len(), d_in, lhs, rhs, out, d_out, false, true);
                    });
                }
            }
        }
        if let Some(low) = low {
            scratch.add_low_rank(rows, heads, x, low, out);
        }
        Ok(())
    }

    /// `out = x W` for each head's outputs, as [`Matrix::transposed_product`] says.
    pub(super) fn transposed_product(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), TensorError> {
        let (d_out, d_in) = self.matrix("linear", "weight")?;
        match &self.0 {
            Held::Taken(taken) => return taken.matrix.transposed_product(rows, heads, x, out),
            Held::Packed(packed) => {
                packed.transposed_product(rows, heads, x, out, &mut scratch.transposed, &mut scratch.panels);
            }
            Held::F32(weight) => {
                let weight = View::new(weight)?;
                for (head, outputs) in by_head(d_out, heads).enumerate() {
                    let lhs = Strided::row_major(&x[outputs.start..], d_out);
                    let rhs = Strided::row_major(&weight[outputs.start * d_in..], d_in);
                    let out = &mut out[head * d_in..];
                    multiply(rows, d_in, outputs.len(), lhs, rhs, out, heads * d_in, false, true);
                }
            }
            Held::Narrow(narrow) => {
                for (head, outputs) in by_head(d_out, heads).enumerate() {
                    let first = outputs.start;
                    widen(narrow, outputs, &mut scratch.widened, |outputs, widened| {
                        let lhs = Strided::row_major(&x[outputs.start..], d_out);
                        let rhs = Strided::row_major(widened, d_in);
                        let (add, out) = (outputs.start > first, &mut out[head * d_in..]);
                        multiply(rows, d_in, outputs.len(), lhs, rhs, out, heads * d_in, add, true);
                    });
                }
            }
        }
        Ok(())
    }
}

/// Gives `visit` a narrow matrix's rows, those of some outputs, widened a block at a time in memory that is reused.
fn widen(narrow: &Narrow, outputs: Range<usize>, memory: &mut Vec<f32>, mut visit: impl FnMut(Range<usize>, &[f32])) {
    let columns = narrow.columns();
    let together = (WIDENED / columns.max(1)).clamp(1, outputs.len().max(1));
    memory.resize(memory.len().max(together * columns), 0.0);
    for first in outputs.clone().step_by(together) {
        let block = first..outputs.end.min(first + together);
        let widened = &mut memory[..block.len() * columns];
        for_each(
            widened.chunks_mut(columns.max(1)).collect(),
            &Lent::default(),
            |row, out: &mut [f32], (): &mut ()| narrow.widen_row(first + row, out),
        );
        visit(block, widened);
    }
}

/// The backend's bare product `x W^T`: `x` is `[rows, d_in]`, `out` `[rows, d_out]`, both row-major. It is what
/// [`linear`](crate::Backend::linear) spends its time in, made public for the benchmark's floor.
///
/// # Errors
/// [`TensorError::Shape`] if the weight is no matrix or a slice is not of its shape.
pub fn matmul(rows: usize, x: &[f32], weight: &CpuWeight, out: &mut [f32]) -> Result<(), TensorError> {
    let (d_out, d_in) = weight.matrix("matmul", "weight")?;
    for (operand, expected, found) in [("x", rows * d_in, x.len()), ("out", rows * d_out, out.len())] {
        if expected != found {
            return Err(TensorError::shape("matmul", operand, expected, found));
        }
    }
    weight.product(rows, x, out, None, &mut Scratch::default())
}
