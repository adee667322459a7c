//! `linear_register`, `linear_tile`, `linear_wide`, `linear_split`: one linear with its adapters, four kernels of one
//! contract.

use super::include::{self, LINEAR, LORA_TERM, TILE};
use crate::kernel::{Kernel, Program, params};
use crate::lora::GpuLora;
use crate::memory::Allocation;
use crate::options::Matmul;
use crate::tensor::{Format, GpuTensor, GpuWeight};
use crate::{Gpu, GpuError};

params! {
    pub(crate) struct Params {
        rows: u32,
        first_row: u32,
        d_in: u32,
        weight_rows: u32,
        tokens: u32,
        rank4: u32,
        lora_stride: u32,
        scale: f32,
    }
}

macro_rules! variant {
    ($constant:ident, $name:literal) => {
        static $constant: Kernel = Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            bindings: {
                use crate::kernel::Access::{Read, Write};
                &[Read, Read, Read, Read, Write]
            },
            #[cfg(test)]
            fields: Params::FIELDS,
            params_bytes: size_of::<Params>(),
        };
    };
}

variant!(REGISTER, "linear_register");
variant!(TILED, "linear_tile");
variant!(WIDE, "linear_wide");
variant!(SPLIT, "linear_split");

/// Up to this many rows the split kernel runs: a block of it is 4 rows, and reads the matrix once for them.
const FEW_ROWS: usize = 8;

/// Below this many of its blocks the wide kernel leaves a GPU idle, and the tiled one, which gives the same bits, runs.
const WIDE_BLOCKS: usize = 64;

/// A kernel and its block of rows and columns.
fn variant(gpu: &Gpu, rows: usize, d_out: usize) -> (&'static Kernel, usize, usize) {
    match gpu.matmul() {
        _ if rows <= FEW_ROWS => (&SPLIT, 4, 16),
        Matmul::Register => (&REGISTER, 32, 32),
        Matmul::Wide if gpu.is_forced() || rows.div_ceil(128) * d_out.div_ceil(128) >= WIDE_BLOCKS => (&WIDE, 128, 128),
        Matmul::Tile | Matmul::Wide => (&TILED, 64, 64),
    }
}

fn program(kernel: &'static Kernel, d_in: usize, format: Format) -> Program {
    Program::new(kernel)
        .include(&TILE)
        .include(include::input(d_in))
        .include(include::weight(format))
        .include(&LORA_TERM)
        .include(&LINEAR)
}

/// What [`linear`] multiplies.
pub(crate) struct Linear<'a> {
    pub(crate) x: &'a GpuTensor,
    /// The rows of `x` to take.
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    /// `[d_out, x.columns]`
    pub(crate) weight: &'a GpuWeight,
    pub(crate) d_out: usize,
    /// Factor on the base product.
    pub(crate) scale: f32,
    /// Adapters and their hidden rows (see [`super::lora_down`]); the rows are then all rows of `x`.
    pub(crate) lora: Option<(&'a GpuLora, &'a Allocation)>,
}

/// `scale * x W^T`, plus the adapters: `[rows, d_out]`.
pub(crate) fn linear(gpu: &Gpu, of: &Linear<'_>) -> Result<GpuTensor, GpuError> {
    let (rows, d_out) = (of.rows, of.d_out);
    let data = gpu.result("activations", rows * d_out)?;
    let mut params = Params {
        rows: rows as u32,
        first_row: of.first_row as u32,
        d_in: of.x.columns as u32,
        weight_rows: d_out as u32,
        tokens: rows.max(1) as u32,
        rank4: 0,
        lora_stride: 0,
        scale: of.scale,
    };
    // Without adapters the kernel reads neither, but something must be bound.
    let (mut hidden, mut lora_b) = (&*of.x.data, &*of.x.data);
    if let Some((lora, rows_of_lora)) = of.lora {
        params.tokens = (rows / lora.candidates).max(1) as u32;
        params.rank4 = lora.rank4 as u32;
        params.lora_stride = lora.b_stride as u32;
        (hidden, lora_b) = (rows_of_lora, &*lora.b);
    }
    let (kernel, block_rows, block_columns) = variant(gpu, rows, d_out);
    let groups = rows.div_ceil(block_rows) * d_out.div_ceil(block_columns);
    let buffers = [&*of.x.data, &*of.weight.data, hidden, lora_b, &*data];
    gpu.dispatch(
        &program(kernel, of.x.columns, of.weight.format),
        &params,
        &buffers,
        groups,
    )?;
    Ok(GpuTensor {
        data,
        rows,
        columns: d_out,
    })
}

/// The [`Matmul`] that runs a program; `None` for whatever runs under all of them.
pub(crate) fn matmul_of(program: &Program) -> Option<Matmul> {
    [
        (&REGISTER, Matmul::Register),
        (&TILED, Matmul::Tile),
        (&WIDE, Matmul::Wide),
    ]
    .into_iter()
    .find_map(|(kernel, matmul)| (program.kernel.name == kernel.name).then_some(matmul))
}

pub(crate) fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    for kernel in [&REGISTER, &TILED, &WIDE, &SPLIT] {
        for d_in in [4, 5] {
            programs.extend(Format::ALL.map(|format| program(kernel, d_in, format)));
        }
    }
    programs
}
