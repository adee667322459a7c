//! Kernels against the CPU backend on awkward inputs, at every start: drivers and browsers have computed wrong numbers
//! before, and a wrong kernel is otherwise only seen as a bad search.
//!
//! It is no replacement for `tests/kernels`, which looks for this crate's own mistakes: here a few shapes that use every
//! branch must suffice, because it runs while somebody waits.

use lorahub_tensor::{AttentionPlan, Backend, Cpu, Segments, TensorError, WeightStorage};
use lorahub_weights::Held;

use crate::{Gpu, GpuError, GpuTensor, Matmul, pack};

/// A row may differ by this much of its largest value: far above what another order of summing or the GPU's `exp`
/// explains (1e-5), far below what any mistake leaves.
const TOLERANCE: f32 = 1e-4;

/// Rows, columns and inner size of the products: no multiple of any tile, more than one block of each.
const ROWS: usize = 133;
const D_OUT: usize = 150;
/// A whole number of quantised blocks, and a step and a half of the tiles.
const D_IN: usize = 96;
/// A last vec4 of one column.
const RAGGED: usize = 45;

/// The test of one device.
pub(crate) struct SelfTest<'a> {
    gpu: &'a Gpu,
}

/// Matrix on the host, row-major.
struct Matrix {
    columns: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// Irregular values, the same for the same seed; every fourth row is zero, another 1e4 times as large and another
    /// 1e-4 times.
    fn awkward(seed: u32, rows: usize, columns: usize) -> Self {
        let value = |at: usize| {
            // A few steps of a xorshift are irregular enough, and the same everywhere.
            let mut bits = (at as u32).wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503) ^ 0x9e37_79b9;
            for shift in [13, 17, 5] {
                bits ^= bits << shift;
                bits ^= bits >> (shift / 2 + 1);
            }
            let scale = [1.0, 1e4, 1e-4, 0.0][at / columns % 4];
            (bits >> 8) as f32 / 8_388_608.0 * scale - scale
        };
        Self {
            columns,
            data: (0..rows * columns).map(value).collect(),
        }
    }

    /// The same without the scales: a weight.
    fn even(seed: u32, rows: usize, columns: usize) -> Self {
        let flat = Self::awkward(seed, 1, rows * columns);
        Self { columns, ..flat }
    }

    fn rows(&self) -> usize {
        self.data.len() / self.columns
    }

    fn on_cpu(&self) -> Result<<Cpu as Backend>::Tensor, TensorError> {
        // The default CPU holds tables as f32, so that an embedding is the values themselves.
        let (cpu, ids) = (Cpu::new(), (0..self.rows() as u32).collect::<Vec<_>>());
        let table = cpu.weight(&[self.rows(), self.columns], self.data.clone())?;
        cpu.embed(&table, &cpu.ids(&ids)?)
    }

    fn on(&self, gpu: &Gpu) -> Result<GpuTensor, GpuError> {
        Ok(GpuTensor {
            data: gpu.upload("the self-test", &pack::bits(self.data.iter().copied()))?,
            rows: self.rows(),
            columns: self.columns,
        })
    }
}

impl<'a> SelfTest<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        Self { gpu }
    }

    /// The forms that this device's matrices can have.
    fn storages(&self) -> Vec<WeightStorage> {
        match self.gpu.options().weights {
            WeightStorage::F32 => vec![WeightStorage::F32],
            WeightStorage::Lossless | WeightStorage::F16 => vec![WeightStorage::F32, WeightStorage::F16],
            blocks => vec![WeightStorage::F32, WeightStorage::F16, blocks],
        }
    }

    /// A matrix kernel, on every form of matrix. Leaves it forced.
    ///
    /// # Errors
    /// [`GpuError::WrongNumbers`], or the device's own.
    pub(crate) async fn check_matmul(&self, matmul: Matmul) -> Result<(), GpuError> {
        self.gpu.set_matmul(matmul, true);
        let kernel = format!("linear_{}", matmul.name());
        // Every kernel has its own values: what another left in a reused buffer must not pass for its result.
        self.check_linear(&kernel, ROWS, 10 * (1 + matmul as u32)).await
    }

    /// Everything else that a pass rests on: few rows, norms, attention.
    ///
    /// # Errors
    /// As [`check_matmul`](Self::check_matmul).
    pub(crate) async fn check_others(&self) -> Result<(), GpuError> {
        self.check_linear("linear_split", 5, 1).await?;
        self.check_norm().await?;
        // Few queries take one kernel, many the other.
        self.check_attention("attention_split", 1).await?;
        self.check_attention("attention", 14).await
    }

    async fn check_linear(&self, kernel: &str, rows: usize, seed: u32) -> Result<(), GpuError> {
        for (index, storage) in (0..).zip(self.storages()) {
            // Columns that no vec4 divides are read by other code, whatever the form; once is enough.
            let ragged = (storage == WeightStorage::F32).then_some(RAGGED);
            for d_in in [D_IN].into_iter().chain(ragged) {
                let x = Matrix::awkward(seed + index, rows, d_in);
                let weight = Matrix::even(seed + index + 5, D_OUT, d_in);
                let cpu = Cpu::new().with_weights(storage);
                let shape = [D_OUT, d_in];
                let values = Held::new(&shape, weight.data, storage).map_err(TensorError::from)?;
                let held = cpu.hold(&shape, values.clone())?;
                let expected = cpu.linear(&x.on_cpu()?, &held, None)?;
                let expected = cpu.read(&expected).await?;
                let held = self.gpu.hold(&shape, values)?;
                let found = self.gpu.linear(&x.on(self.gpu)?, &held, None)?;
                let found = self.gpu.read(&found).await?;
                let kernel = format!("{kernel}, {} weights", storage.name());
                compare(&kernel, D_OUT, &found, &expected)?;
            }
        }
        Ok(())
    }

    async fn check_norm(&self) -> Result<(), GpuError> {
        const COLUMNS: usize = 197;
        let x = Matrix::awkward(2, 9, COLUMNS);
        let scales = Matrix::even(3, 1, COLUMNS).data;
        let cpu = Cpu::new();
        let expected = cpu.rms_norm(&x.on_cpu()?, &cpu.weight(&[COLUMNS], scales.clone())?, 1e-6)?;
        let on_gpu = self.gpu.weight(&[COLUMNS], scales)?;
        let found = self.gpu.rms_norm(&x.on(self.gpu)?, &on_gpu, 1e-6)?;
        let (found, expected) = (self.gpu.read(&found).await?, cpu.read(&expected).await?);
        compare("rms_norm", COLUMNS, &found, &expected)?;
        // Squares outside f32's range: whatever comes of it must not pass for a number.
        let mut large = Matrix::even(4, 2, COLUMNS);
        large.data[7] = 1e25;
        let found = self.gpu.rms_norm(&large.on(self.gpu)?, &on_gpu, 1e-6)?;
        let found = self.gpu.read(&found).await?;
        match found[..COLUMNS].iter().find(|value| value.is_finite()) {
            Some(finite) => Err(GpuError::WrongNumbers {
                kernel: "rms_norm".to_owned(),
                expected: "an overflow that is not finite".to_owned(),
                found: finite.to_string(),
            }),
            None => Ok(()),
        }
    }

    async fn check_attention(&self, kernel: &str, candidates: usize) -> Result<(), GpuError> {
        const HEADS: usize = 3;
        /// Every published T5's.
        const D_KV: usize = 64;
        async fn attend<B: Backend>(
            backend: &B,
            [q, k, v]: [B::Tensor; 3],
            candidates: usize,
        ) -> Result<Vec<f32>, TensorError> {
            let segments = Segments::new(vec![5, 1, 9])?;
            let buckets: Vec<u32> = (0..17).map(|distance| distance * 5 % 8).collect();
            let table = backend.weight(&[8, HEADS], Matrix::even(9, 8, HEADS).data)?;
            let bias = backend.relative_bias(&table, &buckets)?;
            let plan = AttentionPlan {
                candidates,
                query: &segments,
                key: &segments,
                heads: HEADS,
                causal: true,
            };
            let attended = backend.attention(&q, &k, &v, &plan, Some(&bias))?;
            backend.read(&attended).await
        }
        let matrix = |seed: usize| Matrix::even((seed + 3 * candidates) as u32, candidates * 15, HEADS * D_KV);
        let (q, k, v) = (matrix(6), matrix(7), matrix(8));
        let on_gpu = [q.on(self.gpu)?, k.on(self.gpu)?, v.on(self.gpu)?];
        let found = attend(self.gpu, on_gpu, candidates).await?;
        let on_cpu = [q.on_cpu()?, k.on_cpu()?, v.on_cpu()?];
        compare(
            kernel,
            HEADS * D_KV,
            &found,
            &attend(&Cpu::new(), on_cpu, candidates).await?,
        )
    }
}

/// Row by row, so that a large row does not hide a small one.
fn compare(kernel: &str, columns: usize, found: &[f32], expected: &[f32]) -> Result<(), GpuError> {
    let wrong = |expected: String, found: String| GpuError::WrongNumbers {
        kernel: kernel.to_owned(),
        expected,
        found,
    };
    if found.len() != expected.len() {
        return Err(wrong(
            format!("{} values", expected.len()),
            format!("{} values", found.len()),
        ));
    }
    for (row, (found, expected)) in found.chunks(columns).zip(expected.chunks(columns)).enumerate() {
        let largest = expected.iter().fold(0f32, |max, value| max.max(value.abs()));
        for (column, (found, expected)) in found.iter().zip(expected).enumerate() {
            // NaN must fail too.
            let close = (found - expected).abs() <= TOLERANCE * largest;
            if !close {
                return Err(wrong(
                    format!("{expected} in row {row}, column {column}"),
                    found.to_string(),
                ));
            }
        }
    }
    Ok(())
}
