//! Several operations on the same rows as one job, for threads that would otherwise meet after each.

use lorahub_kernels::LowRank;

use super::Cpu;
use super::buffer::{Buffer, CpuTensor, Pool};
use super::checks::{check_linear, check_norm, same_dims};
use super::products::Matrix;
use super::view::View;
use crate::{Norm, Projection, TensorError};

/// Operations on the same rows, each on what those before it left of a row, so that threads can take some rows each and
/// do them all. An activation is named by its number.
#[derive(Debug)]
pub struct Chain<'a> {
    /// Rows of every activation.
    pub rows: usize,
    /// Columns of each activation.
    pub widths: &'a [usize],
    /// What is done.
    pub steps: &'a [Step<'a>],
}

/// One operation of a [`Chain`].
#[derive(Debug)]
pub enum Step<'a> {
    /// `out = rms_norm(x)`.
    Norm {
        /// What is normed.
        x: usize,
        /// `[columns]`.
        weight: &'a [f32],
        /// Added to the mean square.
        eps: f32,
        /// Another activation of the same width.
        out: usize,
    },
    /// `out = x W^T`, and the LoRAs' part of it.
    Product {
        /// `[rows, d_in]`.
        x: usize,
        /// Of the same [`Products`](super::Products).
        matrix: &'a dyn Matrix,
        /// What is added.
        low: Option<LowRank<'a>>,
        /// `[rows, d_out]`, another activation.
        out: usize,
    },
    /// `gate = gelu(gate) * up`.
    GatedGelu {
        /// What goes through GELU, and the result.
        gate: usize,
        /// Another activation of the same width.
        up: usize,
    },
    /// `out = out + x`.
    Add {
        /// What is added.
        x: usize,
        /// Another activation of the same width.
        out: usize,
    },
}

/// Does chains on several threads.
pub trait Chains {
    /// Does one: `inputs` are activations that are there before, `outputs` take those that are wanted after. With the bits
    /// that the operations have one by one.
    ///
    /// # Errors
    /// [`TensorError::Device`] if it can no longer compute.
    ///
    /// # Panics
    /// If an activation is not of its shape, or a matrix is somebody else's.
    fn run(
        &self,
        chain: &Chain<'_>,
        inputs: &[(usize, &[f32])],
        outputs: &mut [(usize, &mut [f32])],
    ) -> Result<(), TensorError>;
}

type Linear<'a> = Projection<'a, Cpu>;

/// A product as a step, for `rows` rows; `None` where the matrix or its LoRA is not the kernels'.
fn product<'a>(x: usize, linear: &Linear<'a>, rows: usize, out: usize) -> Option<Step<'a>> {
    let low = match linear.lora {
        None => None,
        Some(lora) => Some(lora.low_rank(rows / lora.candidates())?),
    };
    Some(Step::Product {
        x,
        matrix: linear.weight.taken()?,
        low,
        out,
    })
}

/// Does a chain, whose activations `wanted` are new tensors.
fn run<const N: usize>(
    chains: &dyn Chains,
    chain: &Chain<'_>,
    inputs: &[(usize, &[f32])],
    wanted: [usize; N],
    pool: &Pool,
) -> Result<[CpuTensor; N], TensorError> {
    let mut made: [Buffer; N] = wanted.map(|activation| pool.take(chain.rows * chain.widths[activation]));
    let mut outputs = Vec::with_capacity(N);
    outputs.extend(wanted.into_iter().zip(made.iter_mut().map(|buffer| &mut **buffer)));
    chains.run(chain, inputs, &mut outputs)?;
    let mut widths = wanted.into_iter().map(|activation| chain.widths[activation]);
    Ok(made.map(|buffer| CpuTensor::new(buffer, chain.rows, widths.next().unwrap_or(0))))
}

/// [`Backend::normed_linears`](crate::Backend::normed_linears), unless it cannot be a chain.
pub(super) fn normed_linears<const N: usize>(
    chains: &dyn Chains,
    x: &CpuTensor,
    norm: &Norm<'_, Cpu>,
    linears: &[Linear<'_>; N],
    pool: &Pool,
) -> Result<Option<[CpuTensor; N]>, TensorError> {
    const X: usize = 0;
    const NORMED: usize = 1;
    const FIRST: usize = 2;
    let (rows, width) = x.dims();
    check_norm(x, norm.weight)?;
    let weight = View::new(norm.weight.tensor("rms_norm")?)?;
    let mut widths = vec![width, width];
    let mut steps = vec![Step::Norm {
        x: X,
        weight: &weight,
        eps: norm.eps as f32,
        out: NORMED,
    }];
    for (linear, out) in linears.iter().zip(FIRST..) {
        widths.push(check_linear((rows, width), linear.weight, linear.lora)?);
        let Some(step) = product(NORMED, linear, rows, out) else {
            return Ok(None);
        };
        steps.push(step);
    }
    let chain = Chain {
        rows,
        widths: &widths,
        steps: &steps,
    };
    let wanted = std::array::from_fn(|linear| FIRST + linear);
    run(chains, &chain, &[(X, &x.values()?)], wanted, pool).map(Some)
}

/// [`Backend::linear_residual`](crate::Backend::linear_residual), unless it cannot be a chain.
pub(super) fn linear_residual(
    chains: &dyn Chains,
    residual: &CpuTensor,
    x: &CpuTensor,
    linear: &Linear<'_>,
    pool: &Pool,
) -> Result<Option<CpuTensor>, TensorError> {
    const X: usize = 0;
    const PRODUCT: usize = 1;
    const RESIDUAL: usize = 2;
    let (rows, d_in) = x.dims();
    let d_out = check_linear((rows, d_in), linear.weight, linear.lora)?;
    same_dims("add", residual.dims(), (rows, d_out))?;
    let Some(product) = product(X, linear, rows, PRODUCT) else {
        return Ok(None);
    };
    let chain = Chain {
        rows,
        widths: &[d_in, d_out, d_out],
        steps: &[
            product,
            Step::Add {
                x: PRODUCT,
                out: RESIDUAL,
            },
        ],
    };
    let inputs = [(X, &*x.values()?), (RESIDUAL, &*residual.values()?)];
    let [sum] = run(chains, &chain, &inputs, [RESIDUAL], pool)?;
    Ok(Some(sum))
}

/// [`Backend::gated_feed_forward`](crate::Backend::gated_feed_forward), unless it cannot be a chain.
pub(super) fn gated_feed_forward(
    chains: &dyn Chains,
    x: &CpuTensor,
    norm: &Norm<'_, Cpu>,
    [gate, up]: [&Linear<'_>; 2],
    out: &Linear<'_>,
    pool: &Pool,
) -> Result<Option<CpuTensor>, TensorError> {
    const X: usize = 0;
    /// The normed rows, and then what is added to `x`.
    const NORMED: usize = 1;
    const GATE: usize = 2;
    const UP: usize = 3;
    let (rows, width) = x.dims();
    check_norm(x, norm.weight)?;
    let gate_width = check_linear((rows, width), gate.weight, gate.lora)?;
    let up_width = check_linear((rows, width), up.weight, up.lora)?;
    same_dims("gated_gelu", (rows, gate_width), (rows, up_width))?;
    let out_width = check_linear((rows, gate_width), out.weight, out.lora)?;
    same_dims("add", (rows, width), (rows, out_width))?;
    let weight = View::new(norm.weight.tensor("rms_norm")?)?;
    let (Some(gate), Some(up), Some(out)) = (
        product(NORMED, gate, rows, GATE),
        product(NORMED, up, rows, UP),
        product(GATE, out, rows, NORMED),
    ) else {
        return Ok(None);
    };
    let chain = Chain {
        rows,
        widths: &[width, width, gate_width, up_width],
        steps: &[
            Step::Norm {
                x: X,
                weight: &weight,
                eps: norm.eps as f32,
                out: NORMED,
            },
            gate,
            up,
            Step::GatedGelu { gate: GATE, up: UP },
            out,
            Step::Add { x: NORMED, out: X },
        ],
    };
    let [sum] = run(chains, &chain, &[(X, &x.values()?)], [X], pool)?;
    Ok(Some(sum))
}
