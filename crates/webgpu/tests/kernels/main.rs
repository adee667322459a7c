//! Every kernel against the CPU backend's operation, where bugs live: one row, sizes around every tile, zeros, large
//! values, the end of f32's range.
//!
//! These tests need an adapter and fail where there is none. A software one will do (Mesa's lavapipe).

mod argmax_rows;
mod attention;
mod cache;
mod calibrate;
mod dispatch;
mod elementwise;
mod errors;
mod linear;
mod lora;
mod memory;
mod nll;
mod rms_norm;
mod rows;

use lorahub_tensor::Backend;
use lorahub_webgpu::{Gpu, Options};

/// The adapter of this machine.
pub(crate) fn open(options: Options) -> Gpu {
    pollster::block_on(Gpu::open(options)).expect("these tests need a GPU adapter, such as Mesa's lavapipe")
}

/// A small deterministic generator; the values only need to be irregular.
pub(crate) struct Values(pub(crate) u64);

impl Values {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as f32 / (1u64 << 31) as f32) * 2.0 - 1.0
    }

    pub(crate) fn many(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * scale).collect()
    }
}

/// A matrix on the host.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) data: Vec<f32>,
}

impl Matrix {
    pub(crate) fn random(random: &mut Values, rows: usize, columns: usize, scale: f32) -> Self {
        Self {
            rows,
            columns,
            data: random.many(rows * columns, scale),
        }
    }

    /// As a weight of the base.
    pub(crate) fn weight<B: Backend>(&self, backend: &B) -> B::Weight {
        backend.weight(&[self.rows, self.columns], self.data.clone()).unwrap()
    }

    /// As an activation: the rows of an embedding, in order.
    pub(crate) fn tensor<B: Backend>(&self, backend: &B) -> B::Tensor {
        let ids: Vec<u32> = (0..self.rows as u32).collect();
        backend
            .embed(&self.weight(backend), &backend.ids(&ids).unwrap())
            .unwrap()
    }
}

pub(crate) fn read<B: Backend>(backend: &B, tensor: &B::Tensor) -> Vec<f32> {
    pollster::block_on(backend.read(tensor)).unwrap()
}

pub(crate) fn read_ids<B: Backend>(backend: &B, ids: &B::Ids) -> Vec<u32> {
    pollster::block_on(backend.read_ids(ids)).unwrap()
}

/// Largest difference that another order of summing explains: a few units in the last place of the largest value, times
/// the root of the number of terms (at most about a thousand here).
pub(crate) const TOLERANCE: f32 = 4e-6;

/// Compares with `tolerance * max(1, max|cpu|)`, and names the first ten that differ. What is not finite on one side
/// must not be finite on the other.
pub(crate) fn assert_close(what: &str, gpu: &[f32], cpu: &[f32], tolerance: f32) {
    assert_eq!(gpu.len(), cpu.len(), "{what}: number of values");
    let largest = cpu
        .iter()
        .filter(|value| value.is_finite())
        .fold(1f32, |max, value| max.max(value.abs()));
    let differs = |gpu: f32, cpu: f32| {
        if cpu.is_finite() && gpu.is_finite() {
            (gpu - cpu).abs() > tolerance * largest
        } else {
            cpu.is_finite() != gpu.is_finite()
        }
    };
    let wrong: Vec<String> = gpu
        .iter()
        .zip(cpu)
        .enumerate()
        .filter(|(_, (gpu, cpu))| differs(**gpu, **cpu))
        .take(10)
        .map(|(index, (gpu, cpu))| format!("[{index}] gpu {gpu}, cpu {cpu}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{what} (tolerance {}):\n{}",
        tolerance * largest,
        wrong.join("\n")
    );
}
