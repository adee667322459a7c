//! Opening a device, recording and submitting, moving bytes to and from it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;
use lorahub_tensor::TensorError;

use crate::GpuError;
use crate::kernel::{Pipelines, Program};
use crate::memory::{Allocation, MemoryUse, Pool, Purpose};
use crate::options::{Matmul, Options};
use crate::pace::{Pace, UNTIMED_STEPS};
use crate::recorder::{Readback, Recorder};

/// Submissions that may be under way before a checkpoint waits for the oldest: the GPU stays fed, and a cancelled pass
/// ends soon. A software adapter is not starved by waiting: it is the CPU that would wait for itself.
const IN_FLIGHT: usize = 2;
const IN_FLIGHT_SOFTWARE: usize = 1;

/// Most rows of a pass. A GPU wants thousands, and at flan-t5-large's 2816 columns 8192 rows are 92 MB a tensor, within
/// the 128 MiB that every adapter binds.
const MOST_ROWS: usize = 8192;
/// Fewest: below, a GPU is not filled, however slow it is.
const LEAST_ROWS: usize = 512;
/// A software adapter gains nothing from more rows.
const SOFTWARE_ROWS: usize = 512;
/// What lies between two checkpoints, a block of the model, should take no longer than this.
const CHECKPOINT_SECONDS: f64 = 0.1;
/// Of flan-t5-base's encoder: `2 * 768 * (4 * 768 + 3 * 2048)`.
const BLOCK_FLOPS_A_ROW: f64 = 14.2e6;

/// Small uploads that are remembered by content: segment tables, targets and factors come again with every layer.
const REMEMBERED: usize = 32;

/// What the kernels need of an adapter. All are WebGPU's own defaults, so that only old native drivers fall short.
const NEEDS: [(&str, u64); 6] = [
    ("max_storage_buffers_per_shader_stage", 8),
    ("max_uniform_buffer_binding_size", 16 << 10),
    ("max_compute_workgroup_storage_size", 16 << 10),
    ("max_compute_invocations_per_workgroup", 256),
    ("max_compute_workgroup_size_x", 256),
    ("max_compute_workgroups_per_dimension", 65_535),
];

/// What went wrong outside any call: the device calls back when it does.
#[derive(Default)]
struct Faults {
    first: Option<GpuError>,
}

/// A GPU: the second [`Backend`](lorahub_tensor::Backend), in the browser through WebGPU and natively through Vulkan,
/// Metal or DX12.
///
/// Operations record commands and return; the device's own errors surface where the host waits
/// ([`read`](lorahub_tensor::Backend::read), [`checkpoint`](lorahub_tensor::Backend::checkpoint)), as
/// [`TensorError::Device`].
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: wgpu::AdapterInfo,
    options: Options,
    matmul: Cell<Matmul>,
    /// Whether `matmul` runs whatever the size.
    forced: Cell<bool>,
    rows: Cell<usize>,
    max_groups: u32,
    pool: Rc<Pool>,
    pipelines: Pipelines,
    recorder: RefCell<Recorder>,
    faults: Arc<Mutex<Faults>>,
    remembered: RefCell<VecDeque<(Vec<u32>, Rc<Allocation>)>>,
    staging: RefCell<Option<Staging>>,
    in_flight: RefCell<VecDeque<Ticket>>,
    pace: Pace,
}

/// A buffer that the host maps. It is destroyed on drop, also where a read is abandoned half way.
struct Staging(wgpu::Buffer);

impl Drop for Staging {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// A submission under way.
struct Ticket {
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    #[cfg(target_arch = "wasm32")]
    done: oneshot::Receiver<()>,
}

fn limit(limits: &wgpu::Limits, name: &str) -> u64 {
    match name {
        "max_storage_buffers_per_shader_stage" => limits.max_storage_buffers_per_shader_stage.into(),
        "max_uniform_buffer_binding_size" => limits.max_uniform_buffer_binding_size,
        "max_compute_workgroup_storage_size" => limits.max_compute_workgroup_storage_size.into(),
        "max_compute_invocations_per_workgroup" => limits.max_compute_invocations_per_workgroup.into(),
        "max_compute_workgroup_size_x" => limits.max_compute_workgroup_size_x.into(),
        _ => limits.max_compute_workgroups_per_dimension.into(),
    }
}

/// The first need that the limits do not meet.
fn check_limits(limits: &wgpu::Limits) -> Result<(), GpuError> {
    for (name, needed) in NEEDS {
        let found = limit(limits, name);
        if found < needed {
            return Err(GpuError::TooSmall {
                what: "the kernels".to_owned(),
                limit: name,
                needed,
                found,
            });
        }
    }
    Ok(())
}

/// Rows of a pass for a device of this speed: a power of two, so that two measurements of one device hardly ever give
/// two batches, whose sums could differ in their last bits.
fn rows_at(gflops: f64) -> usize {
    let rows = (CHECKPOINT_SECONDS * gflops * 1e9 / BLOCK_FLOPS_A_ROW) as usize;
    1 << rows.clamp(LEAST_ROWS, MOST_ROWS).ilog2()
}

impl Gpu {
    /// Opens the fastest adapter.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoDevice`] or [`GpuError::TooSmall`].
    pub async fn open(options: Options) -> Result<Self, GpuError> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        let instance = wgpu::Instance::new(descriptor);
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::NoAdapter {
                reason: error.to_string(),
            })?;
        let (info, offered) = (adapter.get_info(), adapter.limits());
        check_limits(&offered)?;
        // The defaults, so that a device behaves alike everywhere; more only where a model's size needs it.
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("lorahub"),
                required_limits,
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::NoDevice {
                adapter: info.name.clone(),
                reason: error.to_string(),
            })?;
        Ok(Self::new(device, queue, info, options))
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, adapter: wgpu::AdapterInfo, options: Options) -> Self {
        let faults = Arc::new(Mutex::new(Faults::default()));
        let note = |faults: &Arc<Mutex<Faults>>| {
            let faults = faults.clone();
            move |error: GpuError| {
                let first = &mut faults.lock().unwrap_or_else(PoisonError::into_inner).first;
                // A lost device explains every refusal before and after it.
                if first.is_none() || matches!(error, GpuError::Lost { .. }) {
                    *first = Some(error);
                }
            }
        };
        let on_error = note(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_error(GpuError::Refused {
                reason: error.to_string(),
            });
        }));
        let on_lost = note(&faults);
        device.set_device_lost_callback(move |reason, message| {
            let reason = if message.is_empty() {
                format!("{reason:?}").to_lowercase()
            } else {
                message
            };
            on_lost(GpuError::Lost { reason });
        });
        let limits = device.limits();
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let binding_limit = options
            .max_binding_bytes
            .map_or(binding_limit, |own| own.min(binding_limit));
        let max_groups = limits.max_compute_workgroups_per_dimension;
        let software = adapter.device_type == wgpu::DeviceType::Cpu;
        let by_adapter = if software { Matmul::Register } else { Matmul::Tile };
        Self {
            matmul: Cell::new(options.matmul.unwrap_or(by_adapter)),
            forced: Cell::new(options.matmul.is_some()),
            rows: Cell::new(if software { SOFTWARE_ROWS } else { MOST_ROWS }),
            max_groups: options
                .max_workgroups
                .map_or(max_groups, |own| own.clamp(1, max_groups)),
            pool: Pool::new(device.clone(), binding_limit, &options),
            pipelines: Pipelines::new(device.clone(), options.edit_wgsl),
            recorder: RefCell::new(Recorder::new(device.clone(), queue.clone())),
            faults,
            remembered: RefCell::default(),
            staging: RefCell::default(),
            in_flight: RefCell::default(),
            pace: Pace::new(options.clock.clone(), if software { 1 } else { UNTIMED_STEPS }),
            device,
            queue,
            adapter,
            options,
        }
    }

    /// Whether the adapter is a software one: it proves results, not speed.
    pub fn is_software(&self) -> bool {
        self.adapter.device_type == wgpu::DeviceType::Cpu
    }

    /// The kernel that multiplies many rows.
    pub fn matmul(&self) -> Matmul {
        self.matmul.get()
    }

    pub(crate) fn set_matmul(&self, matmul: Matmul, forced: bool) {
        self.matmul.set(matmul);
        self.forced.set(forced);
    }

    /// Whether [`matmul`](Self::matmul) runs whatever the size of a product.
    pub(crate) fn is_forced(&self) -> bool {
        self.forced.get()
    }

    /// Rows of activations that one pass should hold.
    pub(crate) fn rows(&self) -> usize {
        self.options.rows.unwrap_or(self.rows.get())
    }

    /// Fits the rows of a pass to what the device does in a second, so that it can be stopped soon.
    pub(crate) fn set_speed(&self, gflops: f64) {
        self.rows.set(rows_at(gflops));
    }

    /// Device memory held now.
    pub fn memory(&self) -> MemoryUse {
        self.pool.usage()
    }

    /// Number of kernels compiled so far.
    pub fn pipelines(&self) -> usize {
        self.pipelines.len()
    }

    pub(crate) fn compile(&self, program: &Program) {
        self.pipelines.get(program);
    }

    /// Gives the device up and its memory back at once. Everything after it fails with [`GpuError::Lost`].
    pub fn destroy(&self) {
        self.device.destroy();
        // The driver may say so only later.
        let first = &mut self.faults.lock().unwrap_or_else(PoisonError::into_inner).first;
        if !matches!(first, Some(GpuError::Lost { .. })) {
            *first = Some(GpuError::Lost {
                reason: "given up by this program".to_owned(),
            });
        }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn adapter(&self) -> &wgpu::AdapterInfo {
        &self.adapter
    }

    /// The first thing that went wrong on the device, if something did.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        match &self.faults.lock().unwrap_or_else(PoisonError::into_inner).first {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// A buffer for a kernel's result of `words` 4-byte values.
    pub(crate) fn result(&self, what: &'static str, words: usize) -> Result<Rc<Allocation>, GpuError> {
        self.check()?;
        self.pool.take(what, words as u64 * 4, Purpose::Result)
    }

    /// A model's matrix, allocated to size.
    pub(crate) fn upload_weights(&self, what: &'static str, words: &[u32]) -> Result<Rc<Allocation>, GpuError> {
        self.upload_as(what, words, Purpose::Weights)
    }

    /// Words from the host that will not be needed again.
    pub(crate) fn upload(&self, what: &'static str, words: &[u32]) -> Result<Rc<Allocation>, GpuError> {
        self.upload_as(what, words, Purpose::Upload)
    }

    /// Words from the host that are likely to be needed again: the last few are kept and recognised by content.
    pub(crate) fn upload_remembered(&self, what: &'static str, words: Vec<u32>) -> Result<Rc<Allocation>, GpuError> {
        let remembered = &mut *self.remembered.borrow_mut();
        if let Some(index) = remembered.iter().position(|(known, _)| *known == words)
            && let Some(entry) = remembered.remove(index)
        {
            let allocation = entry.1.clone();
            remembered.push_back(entry);
            return Ok(allocation);
        }
        let allocation = self.upload(what, &words)?;
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((words, allocation.clone()));
        Ok(allocation)
    }

    fn upload_as(&self, what: &'static str, words: &[u32], purpose: Purpose) -> Result<Rc<Allocation>, GpuError> {
        self.check()?;
        let allocation = self.pool.take(what, words.len() as u64 * 4, purpose)?;
        if !words.is_empty() {
            self.queue
                .write_buffer(allocation.buffer(), 0, bytemuck::cast_slice(words));
        }
        Ok(allocation)
    }

    /// A grid of `count` workgroups in two dimensions; the kernel takes `x + y * width` and skips what is past its
    /// work.
    pub(crate) fn grid(&self, count: usize) -> Result<[u32; 2], GpuError> {
        let max = self.max_groups as usize;
        let width = count.min(max);
        let height = if width == 0 { 0 } else { count.div_ceil(width) };
        match (u32::try_from(width), u32::try_from(height)) {
            (Ok(width), Ok(height)) if height as usize <= max => Ok([width, height]),
            _ => Err(GpuError::TooSmall {
                what: format!("a dispatch of {count} workgroups"),
                limit: "max_compute_workgroups_per_dimension",
                needed: height as u64,
                found: max as u64,
            }),
        }
    }

    /// Records a kernel over `groups` workgroups; `buffers` are its bindings from 1 on.
    pub(crate) fn dispatch<P: bytemuck::Pod>(
        &self,
        program: &Program,
        params: &P,
        buffers: &[&Allocation],
        groups: usize,
    ) -> Result<(), GpuError> {
        debug_assert_eq!(
            size_of::<P>(),
            program.kernel.params_bytes,
            "{}: another kernel's params",
            program.kernel.name
        );
        debug_assert_eq!(
            buffers.len(),
            program.kernel.bindings.len(),
            "{}: bindings",
            program.kernel.name
        );
        if groups == 0 {
            return Ok(());
        }
        let grid = self.grid(groups)?;
        let pipeline = self.pipelines.get(program);
        if self.recorder.borrow().is_full() {
            self.flush(&[])?;
        }
        self.recorder
            .borrow_mut()
            .push(pipeline, bytemuck::bytes_of(params), buffers, grid);
        Ok(())
    }

    /// Submits what is recorded, and the copies to the host after it.
    fn flush(&self, readbacks: &[Readback<'_>]) -> Result<wgpu::SubmissionIndex, GpuError> {
        let recorder = &mut *self.recorder.borrow_mut();
        let index = recorder.submit(readbacks);
        let doomed = self.pool.submitted();
        recorder.forget(&doomed.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for (_, buffer) in doomed {
            buffer.destroy();
        }
        self.check()?;
        Ok(index)
    }

    /// Submits what is recorded and lets others run. Waits only while too much is under way.
    pub(crate) async fn checkpoint(&self) -> Result<(), TensorError> {
        if !self.recorder.borrow().is_empty() {
            let index = self.flush(&[])?;
            self.in_flight.borrow_mut().push_back(Ticket::new(&self.queue, index));
        }
        let most = if self.is_software() {
            IN_FLIGHT_SOFTWARE
        } else {
            IN_FLIGHT
        };
        loop {
            let oldest = {
                let in_flight = &mut *self.in_flight.borrow_mut();
                if in_flight.len() > most {
                    in_flight.pop_front()
                } else {
                    None
                }
            };
            let Some(ticket) = oldest else { break };
            ticket.wait(&self.device).await?;
        }
        self.pool.settle().await?;
        self.check()?;
        match &self.options.yield_hook {
            Some(hook) if !hook().await => Err(TensorError::Cancelled),
            _ => Ok(()),
        }
    }

    /// Waits for everything recorded and copies the first `words` 4-byte values of `from` to the host.
    pub(crate) async fn read_words(&self, from: &Allocation, words: usize) -> Result<Vec<u32>, GpuError> {
        self.read_all(&[(from, words)]).await
    }

    /// The same of several buffers, one after another in the result, with one wait.
    pub(crate) async fn read_all(&self, from: &[(&Allocation, usize)]) -> Result<Vec<u32>, GpuError> {
        self.check()?;
        let bytes = from.iter().map(|(_, words)| *words as u64 * 4).sum();
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let staging = self.staging(bytes);
        let mut offset = 0;
        let readbacks = from.iter().map(|&(from, words)| {
            let readback = Readback {
                from,
                to: &staging.0,
                offset,
                bytes: words as u64 * 4,
            };
            offset += readback.bytes;
            readback
        });
        self.flush(&readbacks.collect::<Vec<_>>())?;
        let (sender, mapped) = oneshot::channel();
        staging.0.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone if the caller stopped waiting.
            let _ = sender.send(result);
        });
        // In the browser a poll does nothing: the event loop runs the callback.
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.pool.settle().await?;
        self.check()?;
        let refused = |reason: String| GpuError::Refused { reason };
        polled.map_err(|error| refused(error.to_string()))?;
        let mapped = mapped.await.map_err(|_| GpuError::Lost {
            reason: "a read was abandoned".to_owned(),
        })?;
        // Checked again: where the map failed, the device's own reason says more.
        self.check()?;
        mapped.map_err(|error| refused(error.to_string()))?;
        let view = staging
            .0
            .get_mapped_range(0..bytes)
            .map_err(|error| refused(error.to_string()))?;
        let data = view
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        drop(view);
        staging.0.unmap();
        self.in_flight.borrow_mut().clear();
        *self.staging.borrow_mut() = Some(staging);
        Ok(data)
    }

    /// A buffer to map, the last one if it is large enough.
    fn staging(&self, bytes: u64) -> Staging {
        match self.staging.borrow_mut().take() {
            Some(last) if last.0.size() >= bytes => last,
            _ => Staging(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes.next_power_of_two(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })),
        }
    }
}

/// In the browser a device is not given up by forgetting it, and its memory waits for a collector that does not see it.
impl Drop for Gpu {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl Ticket {
    #[cfg(not(target_arch = "wasm32"))]
    fn new(_queue: &wgpu::Queue, index: wgpu::SubmissionIndex) -> Self {
        Self { index }
    }

    #[cfg(target_arch = "wasm32")]
    fn new(queue: &wgpu::Queue, _index: wgpu::SubmissionIndex) -> Self {
        let (sender, done) = oneshot::channel();
        queue.on_submitted_work_done(move || {
            // The receiver is gone if nobody waits any more.
            let _ = sender.send(());
        });
        Self { done }
    }

    #[cfg(not(target_arch = "wasm32"))]
    async fn wait(self, device: &wgpu::Device) -> Result<(), GpuError> {
        let polled = device.poll(wgpu::PollType::Wait {
            submission_index: Some(self.index),
            timeout: None,
        });
        polled.map(drop).map_err(|error| GpuError::Refused {
            reason: error.to_string(),
        })
    }

    #[cfg(target_arch = "wasm32")]
    async fn wait(self, _device: &wgpu::Device) -> Result<(), GpuError> {
        self.done.await.map_err(|_| GpuError::Lost {
            reason: "a wait was abandoned".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_a_pass_takes_a_tenth_of_a_second_at_most() {
        for (gflops, rows) in [
            (0.0, 512),
            (50.0, 512),
            (200.0, 1024),
            (1000.0, 4096),
            (5000.0, 8192),
            (1e5, 8192),
        ] {
            assert_eq!(rows_at(gflops), rows, "{gflops}");
        }
    }

    #[test]
    fn an_adapter_below_a_need_is_named_with_both_numbers() {
        check_limits(&wgpu::Limits::default()).unwrap();
        let small = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 4,
            ..wgpu::Limits::default()
        };
        let error = check_limits(&small).unwrap_err();
        let expected = GpuError::TooSmall {
            what: "the kernels".to_owned(),
            limit: "max_storage_buffers_per_shader_stage",
            needed: 8,
            found: 4,
        };
        assert_eq!(error, expected);
        for (name, needed) in NEEDS {
            assert!(limit(&wgpu::Limits::default(), name) >= needed, "{name}");
        }
    }
}
