//! Matrices packed for `lorahub_kernels`, and who multiplies with them.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use lorahub_kernels::{
    F32Panels, LowRank, Output, PANEL, PackedF16, PackedF32, PackedQ8, Rows, RowsMut, Scratch, Weight as _, multiply,
    multiply_integer, output_row, packed_rows, transpose,
};
use lorahub_weights::quant::{Format, Narrow};
use serde::{Deserialize, Serialize};

use super::chain::Chains;
use crate::TensorError;

/// Products that are computed elsewhere than in this program's own code: by a build of `lorahub_kernels` for
/// instructions that not every machine has, or on several threads. Implemented outside this crate, which knows no
/// WebAssembly engine.
pub trait Products: Debug {
    /// The instruction set, as the backend's name says it, such as `wasm relaxed-simd`.
    fn instructions(&self) -> &str;

    /// Threads that a product runs on.
    fn threads(&self) -> usize;

    /// Takes a matrix for good.
    ///
    /// # Errors
    /// [`TensorError::Device`] if there is no memory for it.
    fn take(&self, packed: Packed) -> Result<Box<dyn Matrix>, TensorError>;

    /// Stores `x W^T` for the outputs `0..columns`, on the calling thread: a product of activations, too small to be worth
    /// a copy.
    ///
    /// # Shapes
    /// - `x`: `[rows, inputs]`
    /// - `out`: `[rows, columns]`
    fn multiply(&self, x: Rows<'_>, weight: F32Panels<'_>, columns: usize, out: &mut RowsMut<'_>);

    /// T5's layer norm of each row, on the calling thread.
    ///
    /// # Shapes
    /// - `x`, `out`: `[rows, columns]`; `weight`: `[columns]`
    fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);

    /// `gate = gelu(gate) * up`, on the calling thread.
    fn gated_gelu(&self, gate: &mut [f32], up: &[f32]);

    /// Who does several operations on so many rows at once, where that gains something.
    fn chains(&self, rows: usize) -> Option<&dyn Chains> {
        let _ = rows;
        None
    }

    /// Adds LoRAs to a product that was computed earlier.
    ///
    /// # Shapes
    /// - `x`: `[rows, inputs]`
    /// - `out`: `[rows, outputs]`
    ///
    /// # Errors
    /// As [`Matrix::product`].
    fn add_low_rank(&self, rows: usize, x: &[f32], low: LowRank<'_>, out: &mut [f32]) -> Result<(), TensorError>;
}

/// A matrix `W: [outputs, inputs]` that a [`Products`] has taken.
pub trait Matrix: Debug + Any {
    /// `out = x W^T`, with the bits that [`multiply`] of the same build gives a row, and the LoRAs' part of it. With
    /// several heads each head's outputs are of an `x` of their own.
    ///
    /// # Shapes
    /// - `x`: `[rows, heads, inputs]`
    /// - `out`: `[rows, outputs]`, where every head has as many, a multiple of [`PANEL`](lorahub_kernels::PANEL) unless
    ///   there is but one
    ///
    /// # Errors
    /// [`TensorError::Device`] if it can no longer compute.
    fn product(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        low: Option<LowRank<'_>>,
        out: &mut [f32],
    ) -> Result<(), TensorError>;

    /// `out = x W` for each head's outputs by themselves, in f32.
    ///
    /// # Shapes
    /// - `x`: `[rows, outputs]`, where every head has as many, a multiple of [`PANEL`](lorahub_kernels::PANEL)
    /// - `out`: `[rows, heads, inputs]`
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn transposed_product(&self, rows: usize, heads: usize, x: &[f32], out: &mut [f32]) -> Result<(), TensorError>;

    /// The weights of one output, `[inputs]`, as f32.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    fn row(&self, output: usize, out: &mut [f32]) -> Result<(), TensorError>;
}

/// How q8_0 matrices that are packed for the kernels are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// As f32.
    #[default]
    F32,
    /// In integers, with activations of 16 bits, as [`multiply_integer_in`](lorahub_kernels::multiply_integer_in) says.
    Integer,
}

/// A matrix in the order in which `lorahub_kernels` reads it.
#[derive(Debug)]
pub enum Packed {
    /// As f32.
    F32(PackedF32),
    /// As f16.
    F16(PackedF16),
    /// As q8_0.
    Q8(PackedQ8),
    /// As q8_0, and multiplied in integers.
    Q8Integer(PackedQ8),
}

/// Runs the same generic call on whichever format it is.
macro_rules! with_packed {
    ($packed:expr, $weight:ident => $call:expr) => {
        match $packed {
            Packed::F32(packed) => {
                let $weight = packed.view();
                $call
            }
            Packed::F16(packed) => {
                let $weight = packed.view();
                $call
            }
            Packed::Q8(packed) | Packed::Q8Integer(packed) => {
                let $weight = packed.view();
                $call
            }
        }
    };
}

/// Each head's part of the outputs.
pub(super) fn by_head(outputs: usize, heads: usize) -> impl Iterator<Item = Range<usize>> {
    let width = outputs / heads;
    (0..heads).map(move |head| head * width..(head + 1) * width)
}

impl Packed {
    /// A narrow matrix whose form the kernels read.
    pub(super) fn narrow(narrow: &Narrow, arithmetic: Arithmetic) -> Option<Self> {
        let (rows, columns) = (narrow.rows(), narrow.columns());
        match narrow.format() {
            Format::F16 => {
                let (halves, _) = narrow.bytes().as_chunks();
                Some(Self::F16(PackedF16::new(halves, rows, columns)))
            }
            Format::Q8_0 => {
                let packed = PackedQ8::from_blocks(narrow.bytes(), rows, columns);
                Some(match arithmetic {
                    Arithmetic::F32 => Self::Q8(packed),
                    Arithmetic::Integer => Self::Q8Integer(packed),
                })
            }
            Format::Q4_0 => None,
        }
    }

    /// Outputs and inputs: the rows and columns of the matrix.
    pub fn dims(&self) -> (usize, usize) {
        with_packed!(self, weight => (weight.outputs(), weight.inputs()))
    }

    /// Bytes that its numbers take, without what fills up the last panel.
    pub fn bytes(&self) -> usize {
        let (outputs, inputs) = self.dims();
        let values = outputs * inputs;
        match self {
            Self::F32(_) => 4 * values,
            Self::F16(_) => 2 * values,
            Self::Q8(_) | Self::Q8Integer(_) => values / Format::Q8_0.block() * Format::Q8_0.block_bytes(),
        }
    }

    /// [`Matrix::product`] without LoRAs, in this program's own code.
    pub(super) fn product(&self, rows: usize, heads: usize, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let (outputs, inputs) = self.dims();
        for (head, columns) in by_head(outputs, heads).enumerate() {
            let x = Rows {
                data: &x[head * inputs..],
                stride: heads * inputs,
                count: rows,
            };
            let mut out = RowsMut {
                data: &mut out[columns.start..],
                stride: outputs,
            };
            match self {
                Self::Q8Integer(packed) => {
                    multiply_integer(x, packed.view(), columns, &mut out, Output::Store, scratch);
                }
                _ => with_packed!(self, weight => multiply(x, weight, columns, &mut out, Output::Store, scratch)),
            }
        }
    }

    /// [`Matrix::transposed_product`] in this program's own code. `transposed` is memory that is reused.
    pub(super) fn transposed_product(
        &self,
        rows: usize,
        heads: usize,
        x: &[f32],
        out: &mut [f32],
        transposed: &mut Vec<[f32; PANEL]>,
        scratch: &mut Scratch,
    ) {
        let (outputs, inputs) = self.dims();
        for (head, columns) in by_head(outputs, heads).enumerate() {
            let width = columns.len();
            let x = Rows {
                data: &x[columns.start..],
                stride: outputs,
                count: rows,
            };
            let mut out = RowsMut {
                data: &mut out[head * inputs..],
                stride: heads * inputs,
            };
            let transposed = self.transposed(columns, transposed, scratch);
            let weight = F32Panels::new(inputs, width, transposed);
            multiply(x, weight, 0..inputs, &mut out, Output::Store, scratch);
        }
    }

    /// The transpose of some outputs' weights, packed as f32 in `memory`, which grows where it is too short.
    pub fn transposed<'a>(
        &self,
        outputs: Range<usize>,
        memory: &'a mut Vec<[f32; PANEL]>,
        scratch: &mut Scratch,
    ) -> &'a [[f32; PANEL]] {
        let (_, inputs) = self.dims();
        let size = packed_rows(inputs, outputs.len());
        memory.resize(memory.len().max(size), [0.0; PANEL]);
        let memory = &mut memory[..size];
        with_packed!(self, weight => transpose(weight, outputs, memory, scratch));
        memory
    }

    /// The weights of one output as f32.
    pub fn row(&self, output: usize, out: &mut [f32], scratch: &mut Scratch) {
        with_packed!(self, weight => output_row(weight, output, out, scratch));
    }
}
