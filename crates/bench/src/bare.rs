//! A backend's matrix product on its own.

use std::cell::RefCell;
use std::future::Future;

use lorahub_tensor::{Backend, Cpu, CpuWeight, WeightStorage, matmul};
use lorahub_webgpu::{Gpu, GpuTensor, GpuWeight, Options};

use crate::{BenchError, Machine, Stored};

/// A backend that can be opened for measuring, and whose product can be timed without anything around it.
pub trait Bare: Backend + Sized {
    /// A product's operands, on the device.
    type Operands;

    /// Whether the pass does attention as bare products, so that they belong to its floor.
    const ATTENTION: bool;

    /// Seconds that a timed span of products should last at least: enough for a browser's clock, and on a GPU for the
    /// wait at its end to weigh little.
    const SPAN: f64;

    /// Opens the device, ready to be measured; the base's matrices will be stored so.
    fn open<M: Machine>(stored: Stored, machine: &M) -> impl Future<Output = Result<Self, BenchError>>;

    /// Whether it is a software adapter.
    fn software(&self) -> bool;

    /// Operands of `x W^T`: `x` is `[rows, d_in]`, `W` `[d_out, d_in]`, stored as the device was opened for.
    ///
    /// # Errors
    /// The device's.
    fn operands(&self, rows: usize, d_in: usize, d_out: usize) -> Result<Self::Operands, BenchError>;

    /// Does the product, or enqueues it.
    ///
    /// # Errors
    /// The device's.
    fn multiply(&self, operands: &Self::Operands) -> Result<(), BenchError>;

    /// Waits until all products of these operands are done.
    fn settle(&self, operands: &Self::Operands) -> impl Future<Output = Result<(), BenchError>>;
}

impl From<Stored> for WeightStorage {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::Q8_0 => Self::Q8,
            Stored::Q4_0 => Self::Q4,
        }
    }
}

/// `x`, `W` and the result of a product on the CPU, as slices: that is what a floor is made of.
pub struct CpuOperands {
    rows: usize,
    x: Vec<f32>,
    weight: CpuWeight,
    out: RefCell<Vec<f32>>,
}

impl Bare for Cpu {
    type Operands = CpuOperands;
    const ATTENTION: bool = true;
    const SPAN: f64 = 0.01;

    async fn open<M: Machine>(stored: Stored, machine: &M) -> Result<Self, BenchError> {
        let cpu = Self::new().with_weights(stored.into());
        Ok(match machine.products().await {
            Some(products) => cpu.with_products(products),
            None => cpu,
        })
    }

    fn software(&self) -> bool {
        false
    }

    fn operands(&self, rows: usize, d_in: usize, d_out: usize) -> Result<CpuOperands, BenchError> {
        Ok(CpuOperands {
            rows,
            x: values(rows * d_in),
            weight: self.weight(&[d_out, d_in], values(d_out * d_in))?,
            out: RefCell::new(vec![0.0; rows * d_out]),
        })
    }

    fn multiply(&self, operands: &CpuOperands) -> Result<(), BenchError> {
        let out = &mut *operands.out.borrow_mut();
        matmul(operands.rows, &operands.x, &operands.weight, out)?;
        std::hint::black_box(out);
        Ok(())
    }

    async fn settle(&self, _: &CpuOperands) -> Result<(), BenchError> {
        Ok(())
    }
}

/// `x`, `W` and the last result of a product on the GPU.
pub struct GpuOperands {
    x: GpuTensor,
    weight: GpuWeight,
    out: RefCell<Option<GpuTensor>>,
}

impl Bare for Gpu {
    type Operands = GpuOperands;
    const ATTENTION: bool = false;
    const SPAN: f64 = 0.1;

    async fn open<M: Machine>(stored: Stored, machine: &M) -> Result<Self, BenchError> {
        let options = Options {
            weights: stored.into(),
            clock: Some(machine.clock()),
            ..Options::default()
        };
        let gpu = Self::open(options).await?;
        gpu.calibrate(&|| machine.seconds(), None).await?;
        Ok(gpu)
    }

    fn software(&self) -> bool {
        self.is_software()
    }

    fn operands(&self, rows: usize, d_in: usize, d_out: usize) -> Result<GpuOperands, BenchError> {
        Ok(GpuOperands {
            x: activation(self, rows, d_in)?,
            weight: self.weight(&[d_out, d_in], values(d_out * d_in))?,
            out: RefCell::new(None),
        })
    }

    fn multiply(&self, operands: &GpuOperands) -> Result<(), BenchError> {
        *operands.out.borrow_mut() = Some(self.linear(&operands.x, &operands.weight, None)?);
        Ok(())
    }

    async fn settle(&self, operands: &GpuOperands) -> Result<(), BenchError> {
        let last = operands.out.borrow_mut().take();
        if let Some(out) = last {
            // The queue is in order: with one row of the last result here, all are done.
            self.read(&self.gather_rows(&out, &[0])?).await?;
        }
        Ok(())
    }
}

/// An activation `[rows, columns]`. They come from operations alone, so it is looked up in a table.
fn activation<B: Backend>(backend: &B, rows: usize, columns: usize) -> Result<B::Tensor, BenchError> {
    const TABLE: usize = 64;
    let table = backend.weight(&[TABLE, columns], values(TABLE * columns))?;
    let ids: Vec<u32> = (0..rows).map(|row| (row % TABLE) as u32).collect();
    Ok(backend.embed(&table, &backend.ids(&ids)?)?)
}

/// Irregular values between -1 and 1: time does not depend on them, as long as they are neither zero nor huge.
pub(crate) fn values(count: usize) -> Vec<f32> {
    (0..count as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect()
}

/// A product of which each repetition does as many as a span needs.
pub(crate) struct Repeated<B: Bare> {
    operands: B::Operands,
    /// Products in a span.
    pub(crate) calls: usize,
}

impl<B: Bare> Repeated<B> {
    /// Readies the product and warms it up, which also says how many fill a span.
    pub(crate) async fn new<M: Machine>(
        backend: &B,
        machine: &M,
        (rows, d_in, d_out): (usize, usize, usize),
    ) -> Result<Self, BenchError> {
        const MOST: usize = 4096;
        let mut repeated = Self {
            operands: backend.operands(rows, d_in, d_out)?,
            calls: 1,
        };
        // The first call makes pipelines and tables; V8 runs early ones in its baseline compiler.
        repeated.run(backend).await?;
        loop {
            let before = machine.seconds();
            repeated.run(backend).await?;
            let seconds = machine.seconds() - before;
            if seconds >= B::SPAN || repeated.calls >= MOST {
                return Ok(repeated);
            }
            let needed = (1.2 * B::SPAN / seconds.max(1e-6)).ceil() as usize;
            repeated.calls = (repeated.calls * needed).min(8 * repeated.calls).min(MOST);
        }
    }

    /// A span of products.
    pub(crate) async fn run(&self, backend: &B) -> Result<(), BenchError> {
        for _ in 0..self.calls {
            backend.multiply(&self.operands)?;
        }
        backend.settle(&self.operands).await
    }
}
