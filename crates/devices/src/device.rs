//! The device itself.

use std::rc::Rc;

use lorahub_t5::{AnyModel, Config, Model, ModelFiles, T5Error, block_seconds, evaluation_seconds};
use lorahub_tensor::{Backend as _, Cpu, WeightStorage};
use lorahub_webgpu::{Gpu, MemoryUse};

use crate::DeviceKind;

/// Candidates that a GPU is measured with: a generation, which is what it is for.
const ON_GPU: usize = 16;

/// The same of a CPU, which gains nothing from more; and a large model's block takes long there.
const ON_CPU: usize = 2;

/// A CPU or a GPU. Dropping the last clone of a GPU gives its memory back.
#[derive(Clone)]
pub enum Device {
    /// The CPU.
    Cpu(Rc<Cpu>),
    /// The GPU.
    Gpu(Rc<Gpu>),
}

impl Device {
    /// Which kind it is.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Cpu(_) => DeviceKind::Cpu,
            Self::Gpu(_) => DeviceKind::WebGpu,
        }
    }

    /// Its name in run records.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Gpu(gpu) => gpu.name(),
        }
    }

    /// How it holds a base's matrices.
    pub fn storage(&self) -> WeightStorage {
        match self {
            Self::Cpu(cpu) => cpu.storage(),
            Self::Gpu(gpu) => gpu.storage(),
        }
    }

    /// Device memory that a GPU's tensors and weights hold; `None` on the CPU, whose memory is the program's own.
    pub fn memory(&self) -> Option<MemoryUse> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(gpu.memory()),
        }
    }

    /// Loads a base.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub async fn load(&self, files: ModelFiles<'_>) -> Result<Rc<dyn AnyModel>, T5Error> {
        Ok(match self {
            Self::Cpu(cpu) => Rc::new(Rc::new(Model::load(cpu.clone(), files).await?)),
            Self::Gpu(gpu) => Rc::new(Rc::new(Model::load(gpu.clone(), files).await?)),
        })
    }

    /// Milliseconds per candidate of one block of a model on this device.
    ///
    /// # Errors
    /// The device's.
    pub(crate) async fn block_ms(&self, config: &Config, seconds: &dyn Fn() -> f64) -> Result<f64, T5Error> {
        let per_candidate = match self {
            Self::Cpu(cpu) => block_seconds(cpu.clone(), config, ON_CPU, seconds).await?,
            Self::Gpu(gpu) => block_seconds(gpu.clone(), config, ON_GPU, seconds).await?,
        };
        Ok(per_candidate * 1e3)
    }

    /// Seconds that one evaluation of a model of this size would take on this device, on shots of these lengths in tokens
    /// (inputs, targets): measured on one block, and only about right. `seconds` is a clock.
    ///
    /// # Errors
    /// The device's.
    pub async fn evaluation_seconds(
        &self,
        config: &Config,
        lengths: (&[usize], &[usize]),
        seconds: &dyn Fn() -> f64,
    ) -> Result<f64, T5Error> {
        match self {
            Self::Cpu(cpu) => evaluation_seconds(cpu.clone(), config, lengths, ON_CPU, seconds).await,
            Self::Gpu(gpu) => evaluation_seconds(gpu.clone(), config, lengths, ON_GPU, seconds).await,
        }
    }
}
