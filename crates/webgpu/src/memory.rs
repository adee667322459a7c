//! Device buffers: taken from a pool, given back when the last tensor drops them, destroyed explicitly.
//!
//! wgpu's buffers are not freed on drop in the browser, and the garbage collector does not see the GPU's memory. So a
//! buffer is destroyed here and nowhere else, and only once no recorded command can name it any more: every release
//! carries the number of the submission that was being recorded, and waits until that one has been submitted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::{GpuError, Options};

/// What an out-of-memory scope found, when the device gets round to saying so.
type Verdict = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// Device memory that the backend holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of buffers that tensors, weights and adapters hold.
    pub live_bytes: u64,
    /// Number of those buffers.
    pub live_buffers: u64,
    /// The most bytes that they have ever been.
    pub peak_bytes: u64,
    /// Bytes of released buffers kept for reuse.
    pub free_bytes: u64,
    /// Number of released buffers kept for reuse.
    pub free_buffers: u64,
}

/// A released buffer.
struct Free {
    id: u64,
    buffer: wgpu::Buffer,
    /// The submission that was being recorded when it was released.
    epoch: u64,
}

#[derive(Default)]
struct State {
    /// Released buffers by size.
    free: BTreeMap<u64, Vec<Free>>,
    /// Released buffers that are not kept, until their submission is out.
    doomed: Vec<Free>,
    verdicts: Vec<(&'static str, u64, Verdict)>,
    usage: MemoryUse,
    next_id: u64,
    /// The submission being recorded.
    epoch: u64,
}

/// The buffers of one device.
pub(crate) struct Pool {
    device: wgpu::Device,
    /// Largest buffer that a kernel can bind.
    binding_limit: u64,
    /// Bytes of free buffers to keep.
    keep: u64,
    /// See [`Options::device_bytes`](crate::Options::device_bytes).
    device_bytes: u64,
    state: RefCell<State>,
}

/// A buffer in use. Dropping it gives it back.
pub(crate) struct Allocation {
    pool: Rc<Pool>,
    id: u64,
    buffer: wgpu::Buffer,
    bytes: u64,
    reuse: bool,
}

/// What a buffer will hold next, which decides what may be reused for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A kernel's result: commands run in order, so a buffer that an earlier recorded command reads is free.
    Result,
    /// Bytes from the host: these arrive before any recorded command runs, so such a buffer is not free yet.
    Upload,
    /// Bytes from the host that stay as long as the model: allocated to size and never reused.
    Weights,
}

/// Sizes grow in eighths of a power of two: at most an eighth is wasted, and released buffers find a new use.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    bytes.next_multiple_of((bytes.next_power_of_two() / 16).max(256))
}

impl Pool {
    pub(crate) fn new(device: wgpu::Device, binding_limit: u64, options: &Options) -> Rc<Self> {
        Rc::new(Self {
            device,
            binding_limit,
            keep: options.pool_bytes.unwrap_or(256 << 20),
            device_bytes: options.device_bytes.unwrap_or(u64::MAX),
            state: RefCell::default(),
        })
    }

    /// A buffer of at least `bytes`; `what` names it in errors.
    ///
    /// # Errors
    /// [`GpuError::TooSmall`] if no kernel could bind it. [`GpuError::OutOfMemory`] now where the device knows at once
    /// (natively), else from the next [`settle`](Self::settle).
    pub(crate) fn take(
        self: &Rc<Self>,
        what: &'static str,
        bytes: u64,
        purpose: Purpose,
    ) -> Result<Rc<Allocation>, GpuError> {
        if bytes > self.binding_limit {
            return Err(GpuError::TooSmall {
                what: what.to_owned(),
                limit: "max_storage_buffer_binding_size",
                needed: bytes,
                found: self.binding_limit,
            });
        }
        let size = match purpose {
            Purpose::Weights => bytes.max(256).next_multiple_of(256),
            _ => size_class(bytes),
        };
        let size = size.min(self.binding_limit).next_multiple_of(16);
        let reused = match purpose {
            Purpose::Weights => None,
            Purpose::Result => self.reuse(size, |_| true),
            Purpose::Upload => {
                let recording = self.state.borrow().epoch;
                self.reuse(size, |free| free.epoch < recording)
            }
        };
        let (id, buffer) = match reused {
            Some(free) => (free.id, free.buffer),
            None => self.create(what, size)?,
        };
        let usage = &mut self.state.borrow_mut().usage;
        usage.live_bytes += size;
        usage.peak_bytes = usage.peak_bytes.max(usage.live_bytes);
        usage.live_buffers += 1;
        Ok(Rc::new(Allocation {
            pool: self.clone(),
            id,
            buffer,
            bytes: size,
            reuse: purpose != Purpose::Weights,
        }))
    }

    fn reuse(&self, size: u64, fits: impl Fn(&Free) -> bool) -> Option<Free> {
        let state = &mut *self.state.borrow_mut();
        let list = state.free.get_mut(&size)?;
        // The last released first: the same pass then meets the same buffers again, and their bind groups.
        let index = list.iter().rposition(fits)?;
        let free = list.remove(index);
        state.usage.free_bytes -= size;
        state.usage.free_buffers -= 1;
        Some(free)
    }

    fn create(&self, what: &'static str, size: u64) -> Result<(u64, wgpu::Buffer), GpuError> {
        let usage = self.usage();
        if usage.live_bytes + usage.free_bytes + size > self.device_bytes {
            return Err(self.out_of_memory(what, size));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut verdict: Verdict = Box::pin(scope.pop());
        match verdict.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(_)) => return Err(self.out_of_memory(what, size)),
            Poll::Ready(None) => {}
            Poll::Pending => self.state.borrow_mut().verdicts.push((what, size, verdict)),
        }
        let state = &mut *self.state.borrow_mut();
        state.next_id += 1;
        Ok((state.next_id, buffer))
    }

    fn out_of_memory(&self, what: &'static str, bytes: u64) -> GpuError {
        let live = self.state.borrow().usage.live_bytes;
        GpuError::OutOfMemory { what, bytes, live }
    }

    /// Waits for the device's word on allocations that it has not confirmed yet.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] for the first that failed.
    pub(crate) async fn settle(&self) -> Result<(), GpuError> {
        let verdicts = std::mem::take(&mut self.state.borrow_mut().verdicts);
        let mut result = Ok(());
        for (what, bytes, verdict) in verdicts {
            if verdict.await.is_some() && result.is_ok() {
                result = Err(self.out_of_memory(what, bytes));
            }
        }
        result
    }

    /// Notes that everything recorded so far has been submitted, and gives out the buffers that are not kept. The
    /// caller drops every bind group that holds one (by its id), then destroys it.
    pub(crate) fn submitted(&self) -> Vec<(u64, wgpu::Buffer)> {
        let state = &mut *self.state.borrow_mut();
        state.epoch += 1;
        // Beyond the budget the largest go first: fewest buffers for the most bytes.
        while state.usage.free_bytes > self.keep
            && let Some(mut entry) = state.free.last_entry()
        {
            let size = *entry.key();
            if let Some(free) = entry.get_mut().pop() {
                state.usage.free_bytes -= size;
                state.usage.free_buffers -= 1;
                state.doomed.push(free);
            }
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        state.doomed.drain(..).map(|free| (free.id, free.buffer)).collect()
    }

    pub(crate) fn usage(&self) -> MemoryUse {
        self.state.borrow().usage
    }
}

impl Allocation {
    /// Unique among the device's buffers, for the bind group cache.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let state = &mut *self.pool.state.borrow_mut();
        state.usage.live_bytes -= self.bytes;
        state.usage.live_buffers -= 1;
        let free = Free {
            id: self.id,
            buffer: self.buffer.clone(),
            epoch: state.epoch,
        };
        if self.reuse {
            state.usage.free_bytes += self.bytes;
            state.usage.free_buffers += 1;
            state.free.entry(self.bytes).or_default().push(free);
        } else {
            state.doomed.push(free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn a_size_class_holds_its_bytes_and_wastes_an_eighth_at_most() {
        for bytes in (0..5000).chain([65_536, 65_537, 1_000_000, (1 << 27) + 1]) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(256), "{bytes}: {class}");
            assert!(bytes < 2048 || class <= bytes + bytes / 8, "{bytes}: {class}");
            assert_eq!(size_class(class), class);
        }
    }
}
