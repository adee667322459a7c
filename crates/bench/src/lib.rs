//! What things cost, and how far that is from the floor, on random weights of true shapes.
//!
//! Three measures: bare matrix products (`gemm`); one candidate and whole generations on a set of shots, beside the
//! bare products of the same pass at the same sizes (`evaluation`); greedy generation (`greedy`). All of it is written
//! once over [`Bare`] backends, and the same code runs natively (`src/main.rs`) and in a browser's worker (`wasm`). The
//! [`Machine`] brings the clocks. What is compared is measured in turns within one run, and medians are reported.
//!
//! Beside that, a [`Subject`] does the same work as its peers when it is told to: `cargo xtask bench peers`.
//!
//! This is no test: it asserts nothing about speed.

mod bare;
mod evaluation;
mod gemm;
mod greedy;
mod machine;
mod plan;
mod report;
mod subject;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
mod workload;

use std::rc::Rc;

use lorahub_adapters::AdapterError;
use lorahub_t5::T5Error;
use lorahub_tensor::{Cpu, TensorError};
use lorahub_webgpu::{Gpu, GpuError};

pub use bare::Bare;
pub use machine::{Machine, Timing};
pub use plan::{Choice, Device, Lengths, List, Measure, Plan, Shape, Stored};
pub use report::{Batch, DeviceReport, EvaluationReport, GemmReport, GreedyReport, Report};
pub use subject::{Job, Setup, Subject};

/// Why a benchmark could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The model could not be built or run.
    #[error(transparent)]
    Model(#[from] T5Error),
    /// A product could not be run.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// candle's own T5 could not be built or run.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// There is no GPU that will do.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The random modules do not fit together, which is a defect of the benchmark.
    #[error(transparent)]
    Modules(#[from] AdapterError),
    /// A device that returns such losses does not compute, so its times mean nothing.
    #[error("{shape}: a loss is not finite, though the weights are small; mend the device's backend first")]
    NotFinite {
        /// The model's shape.
        shape: &'static str,
    },
}

/// Measures on `device` what `choice` asks for, and reports to `machine` as it goes.
///
/// # Errors
/// [`BenchError::Gpu`] without a usable adapter, else the engine's.
pub async fn run<M: Machine>(device: Device, choice: &Choice, machine: &M) -> Result<(), BenchError> {
    match device {
        Device::Cpu => run_on::<Cpu, M>(device, choice, machine).await,
        Device::Webgpu => run_on::<Gpu, M>(device, choice, machine).await,
    }
}

async fn run_on<B: Bare, M: Machine>(device: Device, choice: &Choice, machine: &M) -> Result<(), BenchError> {
    let backend = Rc::new(B::open(Stored::F32, machine).await?);
    let software = backend.software();
    let plan = Plan::new(device, software, choice);
    machine.report(&Report::Device(DeviceReport {
        name: backend.name(),
        software,
        list: plan.list,
        repetitions: plan.repetitions,
    }));
    for measure in &plan.measures {
        match measure {
            Measure::Gemm => gemm::measure::<B, M>(&plan, machine).await?,
            Measure::Evaluation => evaluation::measure(&backend, &plan, machine).await?,
            Measure::Greedy => greedy::measure(&backend, &plan, machine).await?,
        }
    }
    Ok(())
}
