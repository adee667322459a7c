//! Opening and choosing.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use lorahub_t5::{Config, T5Error};
use lorahub_tensor::{Arithmetic, Backend as _, Cpu, Products, TensorError, WeightStorage};
use lorahub_webgpu::{Gpu, GpuError, Options, Tuning};

use crate::{Device, DeviceChoice, DeviceReport, Reason};

/// Lets others run at a device's checkpoints; resolves to `false` if the caller has asked to stop.
pub type Hook = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = bool>>>>;

/// What to open.
pub struct Request<'a> {
    /// What the user asked for.
    pub choice: DeviceChoice,
    /// What [`Opened::tuning`] was the last time: spares the measurement of kernels on the same adapter, and is ignored
    /// on another or where it cannot be read.
    pub tuning: Option<&'a str>,
    /// How the base's matrices are held; `None` leaves it to the device: f32 on the CPU, lossless on a GPU.
    pub weights: Option<WeightStorage>,
    /// How the CPU multiplies with matrices that it holds as q8_0, where it is this project's kernels that do.
    pub arithmetic: Arithmetic,
    /// Who multiplies with the base's matrices on the CPU, if not its own code.
    pub products: Option<Rc<dyn Products>>,
    /// A clock.
    pub seconds: Rc<dyn Fn() -> f64>,
    /// What the device awaits at its checkpoints.
    pub hook: Option<Hook>,
}

/// An open device.
#[derive(Clone)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// What it is and why.
    pub report: DeviceReport,
    /// What the kernels' measurement found, to be given to the next [`Request`]; `None` where no GPU was measured.
    pub tuning: Option<String>,
}

/// A GPU that has passed its test, and what its kernels' measurement found.
struct Ready {
    gpu: Rc<Gpu>,
    tuning: Option<String>,
}

/// Opens the device for a model of this configuration. `Auto` takes the GPU where it is faster than the CPU at one
/// block of the model; software adapters are not measured, because they run on the CPU and lose.
///
/// # Errors
/// With [`DeviceChoice::WebGpu`] the GPU's own, in [`T5Error::Tensor`]; else none but the CPU's.
pub async fn open(request: Request<'_>, config: &Config) -> Result<Opened, T5Error> {
    let cpu = match request.hook.clone() {
        Some(hook) => Cpu::with_yield(move || hook()),
        None => Cpu::new(),
    };
    let cpu = match request.products.clone() {
        Some(products) => cpu.with_products(products),
        None => cpu,
    };
    let cpu = cpu.with_arithmetic(request.arithmetic);
    let cpu = Device::Cpu(Rc::new(match request.weights {
        Some(weights) => cpu.with_weights(weights),
        None => cpu,
    }));
    if request.choice == DeviceChoice::Cpu {
        let report = report(&cpu, request.choice, Reason::Asked, "The CPU was asked for.".to_owned());
        return Ok(Opened {
            device: cpu,
            report,
            tuning: None,
        });
    }
    let forced = request.choice == DeviceChoice::WebGpu;
    let ready = match ready(&request, config, forced).await {
        Ok(Some(ready)) => ready,
        Ok(None) => return Ok(on_cpu(cpu, Reason::Software, SOFTWARE.to_owned())),
        Err(error) if forced => return Err(error),
        Err(error) => return failed(cpu, error),
    };
    let gpu = Device::Gpu(ready.gpu);
    if forced {
        let detail = "WebGPU was asked for.".to_owned();
        return Ok(Opened {
            report: report(&gpu, request.choice, Reason::Asked, detail),
            device: gpu,
            tuning: ready.tuning,
        });
    }
    let cpu_ms = cpu.block_ms(config, &*request.seconds).await?;
    let gpu_ms = match gpu.block_ms(config, &*request.seconds).await {
        Ok(gpu_ms) => gpu_ms,
        Err(error) => return failed(cpu, error),
    };
    let (device, faster, other) = if gpu_ms < cpu_ms {
        (gpu.clone(), "The GPU", "CPU")
    } else {
        (cpu, "The CPU", "GPU")
    };
    let ratio = gpu_ms.max(cpu_ms) / gpu_ms.min(cpu_ms).max(f64::MIN_POSITIVE);
    let detail = format!("{faster} took a block of this model {ratio:.1} times as fast as the {other}.");
    Ok(Opened {
        report: DeviceReport {
            cpu_ms: Some(cpu_ms),
            gpu_ms: Some(gpu_ms),
            adapter: Some(gpu.name()),
            ..report(&device, request.choice, Reason::Measured, detail)
        },
        device,
        tuning: ready.tuning,
    })
}

const SOFTWARE: &str = "The only GPU adapter here is a software one, which is slower than the CPU's own code.";

/// A tested GPU; `None` for a software adapter that nobody insists on.
async fn ready(request: &Request<'_>, config: &Config, insisted: bool) -> Result<Option<Ready>, T5Error> {
    let options = Options {
        clock: Some(request.seconds.clone()),
        yield_hook: request.hook.clone(),
        weights: request.weights.unwrap_or_default(),
        ..Options::default()
    };
    let gpu = Gpu::open(options).await.map_err(device)?;
    if gpu.is_software() && !insisted {
        gpu.destroy();
        return Ok(None);
    }
    // The browser compiles these while the test and the measurement run, and those of the kernel they choose while the
    // weights are read.
    gpu.prepare_pipelines(config.d_kv);
    let remembered: Option<Tuning> = request.tuning.and_then(|text| serde_json::from_str(text).ok());
    let calibration = gpu
        .calibrate(&*request.seconds, remembered.as_ref())
        .await
        .map_err(device)?;
    gpu.prepare_pipelines(config.d_kv);
    Ok(Some(Ready {
        gpu: Rc::new(gpu),
        tuning: serde_json::to_string(&calibration.tuning).ok(),
    }))
}

fn device(error: GpuError) -> T5Error {
    T5Error::Tensor(TensorError::from(error))
}

/// The CPU after the GPU has failed; an error that is no device's stays one.
fn failed(cpu: Device, error: T5Error) -> Result<Opened, T5Error> {
    match Reason::of_failure(error.code()) {
        Some(reason) => Ok(on_cpu(cpu, reason, format!("The GPU cannot be used: {error}."))),
        None => Err(error),
    }
}

fn on_cpu(cpu: Device, reason: Reason, detail: String) -> Opened {
    Opened {
        report: report(&cpu, DeviceChoice::Auto, reason, detail),
        device: cpu,
        tuning: None,
    }
}

fn report(device: &Device, choice: DeviceChoice, reason: Reason, detail: String) -> DeviceReport {
    DeviceReport {
        kind: device.kind(),
        name: device.name(),
        choice,
        reason,
        detail,
        cpu_ms: None,
        gpu_ms: None,
        adapter: match device {
            Device::Gpu(gpu) => Some(gpu.name()),
            Device::Cpu(_) => None,
        },
    }
}
