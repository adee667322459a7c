//! The start-up test, and the choice of the matrix kernel.

use lorahub_tensor::TensorError;
use serde::{Deserialize, Serialize};

use crate::self_test::SelfTest;
use crate::{Gpu, GpuError, Matmul};

/// What a start-up measurement found, to be kept for the next start on the same adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The adapter and its driver.
    pub adapter: String,
    /// The matrix kernel that won.
    pub matmul: Matmul,
    /// What it reached, in 1e9 floating point operations a second; `None` where nothing was measured.
    pub gflops: Option<f64>,
}

/// What [`Gpu::calibrate`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The choice.
    pub tuning: Tuning,
    /// Matrix kernels that gave wrong numbers, and how.
    pub rejected: Vec<(Matmul, String)>,
    /// What the others reached, in 1e9 floating point operations a second; empty where nothing was measured.
    pub gflops: Vec<(Matmul, f64)>,
}

/// Inner size and columns of the product that is measured: flan-t5-small's and its feed-forward layer's.
const D_IN: usize = 512;
const D_OUT: usize = 1024;
/// Its rows: few where even those take long, many where it takes many to fill the device.
const FEW_ROWS: usize = 256;
const MANY_ROWS: usize = 2048;
/// The kernel that software adapters take: it has no barriers.
const PLAINEST: Matmul = Matmul::Register;
/// Seconds of few rows above which they are enough.
const LONG: f64 = 4e-3;
/// Seconds that one round of one kernel should take, so that the wait at its end does not show.
const ROUND: f64 = 4e-3;
/// Rounds, of which the quickest counts.
const ROUNDS: usize = 3;

impl Gpu {
    /// Tests every kind of kernel against the CPU, and takes the fastest of the matrix kernels that pass; about 50 ms
    /// on a GPU beside what compiling the kernels takes. `seconds` is a clock. With what an earlier call found on the
    /// same adapter (`remembered`) it tests that alone and does not measure. Software adapters are not measured either:
    /// they take the kernel without barriers. If [`Options::matmul`](crate::Options::matmul) names a kernel, no other is
    /// tried.
    ///
    /// # Errors
    /// [`GpuError::WrongNumbers`] if no matrix kernel is right, or another kernel is wrong; else the device's own.
    pub async fn calibrate(
        &self,
        seconds: &dyn Fn() -> f64,
        remembered: Option<&Tuning>,
    ) -> Result<Calibration, GpuError> {
        let test = SelfTest::new(self);
        test.check_others().await?;
        let adapter = self.adapter_key();
        let mut calibration = Calibration {
            tuning: Tuning {
                adapter,
                matmul: self.matmul(),
                gflops: None,
            },
            rejected: Vec::new(),
            gflops: Vec::new(),
        };
        let remembered = remembered.filter(|tuning| tuning.adapter == calibration.tuning.adapter);
        let mut first_wrong = None;
        let mut right = Vec::new();
        let wanted = match (self.options().matmul, remembered) {
            (Some(forced), _) => vec![forced],
            (None, Some(tuning)) => needs(tuning.matmul),
            // It takes the plainest kernel, and compiles for long.
            (None, None) if self.is_software() => vec![PLAINEST],
            (None, None) => Matmul::ALL.to_vec(),
        };
        let rest = Matmul::ALL
            .into_iter()
            .filter(|matmul| self.options().matmul.is_none() && !wanted.contains(matmul));
        for matmul in wanted.iter().copied().chain(rest) {
            // The rest is there for the case that what was wanted is wrong.
            if !wanted.contains(&matmul) && calibration.rejected.is_empty() {
                break;
            }
            match test.check_matmul(matmul).await {
                Ok(()) => right.push(matmul),
                Err(error @ GpuError::WrongNumbers { .. }) => {
                    calibration.rejected.push((matmul, error.to_string()));
                    first_wrong.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        // What leans on a rejected kernel cannot be had either, unless it was forced and leans on nothing.
        if self.options().matmul.is_none() {
            right.retain(|&matmul| {
                let rejected = |needed: &Matmul| calibration.rejected.iter().any(|(wrong, _)| wrong == needed);
                !needs(matmul).iter().any(rejected)
            });
        }
        let chosen = match right.first() {
            None => {
                let nothing = || GpuError::Refused {
                    reason: "no matrix kernel was tested".to_owned(),
                };
                return Err(first_wrong.unwrap_or_else(nothing));
            }
            // Without barriers, if that one passed.
            Some(&plainest) if self.is_software() => (plainest, None),
            Some(&plainest) => match remembered.filter(|tuning| right.contains(&tuning.matmul)) {
                Some(tuning) => (tuning.matmul, tuning.gflops),
                None => {
                    calibration.gflops = self.measure(&right, seconds).await?;
                    let fastest = calibration.gflops.iter().max_by(|a, b| a.1.total_cmp(&b.1));
                    fastest.map_or((plainest, None), |&(matmul, gflops)| (matmul, Some(gflops)))
                }
            },
        };
        (calibration.tuning.matmul, calibration.tuning.gflops) = chosen;
        self.set_matmul(chosen.0, self.options().matmul.is_some());
        if let Some(gflops) = chosen.1 {
            self.set_speed(gflops);
        }
        Ok(calibration)
    }

    /// What a [`Tuning`] belongs to.
    fn adapter_key(&self) -> String {
        let of = self.adapter();
        format!(
            "{} {:04x}:{:04x} {:?} {} {}",
            of.name, of.vendor, of.device, of.backend, of.driver, of.driver_info
        )
    }

    /// What these kernels reach, in GFLOP/s.
    async fn measure(&self, kernels: &[Matmul], seconds: &dyn Fn() -> f64) -> Result<Vec<(Matmul, f64)>, GpuError> {
        let weight = self.measured_weight()?;
        let mut rows = FEW_ROWS;
        let mut repeat = Vec::new();
        for &matmul in kernels {
            self.set_matmul(matmul, true);
            // The first time its pipeline is compiled.
            self.timed(&weight, rows, 1, seconds).await?;
            let mut once = self.timed(&weight, rows, 1, seconds).await?;
            if once < LONG && rows < MANY_ROWS && repeat.is_empty() {
                rows = MANY_ROWS;
                once = self.timed(&weight, rows, 1, seconds).await?;
            }
            repeat.push((ROUND / once.max(1e-6)).ceil().clamp(1.0, 64.0) as usize);
        }
        let mut quickest = vec![f64::INFINITY; kernels.len()];
        for _ in 0..ROUNDS {
            for ((&matmul, &repeat), quickest) in kernels.iter().zip(&repeat).zip(&mut quickest) {
                self.set_matmul(matmul, true);
                let time = self.timed(&weight, rows, repeat, seconds).await?;
                *quickest = quickest.min(time / repeat as f64);
            }
        }
        let flops = (2 * rows * D_IN * D_OUT) as f64;
        let gflops = |time: f64| flops / time.max(1e-9) / 1e9;
        Ok(kernels
            .iter()
            .zip(quickest)
            .map(|(&matmul, time)| (matmul, gflops(time)))
            .collect())
    }

    /// A matrix in the form that the base's will have. Any values will do: time does not depend on them.
    fn measured_weight(&self) -> Result<crate::GpuWeight, TensorError> {
        let values = (0..D_OUT * D_IN).map(|i| (i % 13) as f32 * 0.0625 - 0.375);
        lorahub_tensor::Backend::weight(self, &[D_OUT, D_IN], values.collect())
    }

    /// Seconds of `repeat` products, until the last is there.
    async fn timed(
        &self,
        weight: &crate::GpuWeight,
        rows: usize,
        repeat: usize,
        seconds: &dyn Fn() -> f64,
    ) -> Result<f64, GpuError> {
        use lorahub_tensor::Backend as _;
        let ids: Vec<u32> = (0..rows as u32).map(|row| row % D_OUT as u32).collect();
        let x = self.embed(weight, &self.ids(&ids)?)?;
        self.read_words(&x.data, 1).await?;
        let began = seconds();
        let mut last = x.data.clone();
        for _ in 0..repeat {
            last = self.linear(&x, weight, None)?.data;
        }
        self.read_words(&last, 1).await?;
        Ok(seconds() - began)
    }
}

/// The kernels that run when this one is chosen.
fn needs(matmul: Matmul) -> Vec<Matmul> {
    match matmul {
        Matmul::Wide => vec![Matmul::Tile, Matmul::Wide],
        own => vec![own],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::Options;

    /// Software adapters are never measured at a start, so the measurement itself is run here.
    #[test]
    fn every_kernel_is_measured() {
        let gpu = pollster::block_on(Gpu::open(Options::default()))
            .expect("this test needs a GPU adapter, such as Mesa's lavapipe");
        let start = Instant::now();
        let seconds = || start.elapsed().as_secs_f64();
        let measured = pollster::block_on(gpu.measure(&Matmul::ALL, &seconds)).unwrap();
        assert_eq!(
            measured.iter().map(|(matmul, _)| *matmul).collect::<Vec<_>>(),
            Matmul::ALL
        );
        assert!(
            measured.iter().all(|(_, gflops)| gflops.is_finite() && *gflops > 0.01),
            "{measured:?}"
        );
    }
}
