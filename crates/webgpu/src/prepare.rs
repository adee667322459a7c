//! Pipelines before they are needed.

use crate::kernels::{attention, include, linear, programs};
use crate::tensor::Format;
use crate::{Gpu, Matmul, WeightStorage};

impl Gpu {
    /// Starts compiling what a model with heads of `d_kv` columns will run under the matrix kernel chosen so far, so that
    /// a browser compiles while the weights are still on their way. It does not wait. Only models whose widths are
    /// multiples of 4 are provided for, as all published ones' are; others compile at first use.
    pub fn prepare_pipelines(&self, d_kv: usize) {
        let formats: &[Format] = match self.options().weights {
            WeightStorage::F32 => &[Format::F32],
            WeightStorage::Lossless | WeightStorage::F16 => &[Format::F32, Format::F16],
            WeightStorage::Q8 => &[Format::F32, Format::F16, Format::Q8],
            WeightStorage::Q4 => &[Format::F32, Format::F16, Format::Q4],
        };
        let unused = |name: &str| {
            [include::INPUT_RAGGED.name, include::HEADS_RAGGED.name].contains(&name)
                || Format::ALL
                    .iter()
                    .any(|format| include::weight(*format).name == name && !formats.contains(format))
        };
        let chosen = |matmul: Matmul| match self.matmul() {
            // Small products fall to the tiled kernel.
            Matmul::Wide => matmul != Matmul::Register,
            own => matmul == own,
        };
        let of_heads = attention::programs_of(d_kv);
        for program in programs() {
            // Those of attention are made for one width of head.
            let skipped = of_heads.iter().any(|own| own.kernel.name == program.kernel.name)
                || program.includes.iter().any(|include| unused(include.name))
                || linear::matmul_of(&program).is_some_and(|matmul| !chosen(matmul));
            if !skipped {
                self.compile(&program);
            }
        }
        for program in &of_heads {
            self.compile(program);
        }
    }
}
