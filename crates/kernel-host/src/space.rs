//! Packed matrices as bytes, and the memory that threads share.

use std::cell::RefCell;
use std::ops::Range;

use js_sys::{Float32Array, Object, Reflect, Uint8Array, WebAssembly};
use lorahub_kernels::{Form, Job, LowRank, LowRankJob, Operation, packed_rows};
use lorahub_tensor::Packed;
use range_alloc::RangeAllocator;

use crate::HostError;
use crate::copies::{self, Copies};
use crate::module::ALIGN;

/// Bytes by which a WebAssembly memory grows.
const PAGE: usize = 1 << 16;

/// All that 32 bits address.
const MOST_PAGES: u32 = 1 << 16;

/// A job with this matrix's form and shape, for all of its columns, and no addresses.
pub(crate) fn job(packed: &Packed) -> Job {
    let form = match packed {
        Packed::F32(_) => Form::F32,
        Packed::F16(halves) if halves.view().is_finite() => Form::FiniteF16,
        Packed::F16(_) => Form::F16,
        Packed::Q8(_) => Form::Q8,
        Packed::Q8Integer(_) => Form::Q8Integer,
    };
    without_addresses(form, packed.dims())
}

/// A job that adds LoRAs to what its results hold, and no addresses.
pub(crate) fn added(low: &LowRank<'_>) -> Job {
    without_addresses(Form::F32, (low.outputs, low.inputs))
}

/// A product with a matrix of this form and these dimensions, and no addresses.
pub(crate) fn without_addresses(form: Form, (outputs, inputs): (usize, usize)) -> Job {
    Job {
        operation: Operation::Product,
        form,
        n: outputs as u32,
        k: inputs as u32,
        weights: 0,
        scales: 0,
        x: 0,
        x_stride: inputs as u32,
        m: 0,
        out: 0,
        out_stride: outputs as u32,
        first: 0,
        columns: outputs as u32,
        scratch: 0,
        eps: 0.0,
        low_rank: LowRankJob::default(),
    }
}

/// An operation on rows of this width, and no addresses.
pub(crate) fn on_rows(operation: Operation, width: usize) -> Job {
    Job {
        operation,
        ..without_addresses(Form::F32, (width, width))
    }
}

/// A head's part of a product whose `x` is `[m, heads, inputs]`.
pub(crate) fn of_head(job: Job, head: u32, heads: u32) -> Job {
    let columns = job.n / heads;
    Job {
        x: job.x + 4 * head * job.k,
        x_stride: heads * job.k,
        first: head * columns,
        columns,
        ..job
    }
}

/// A head's part of the transposed product with a matrix of these dimensions, no addresses but the head's own offsets
/// in `x` and `out`.
pub(crate) fn transposed_job((outputs, inputs): (usize, usize), head: u32, heads: u32) -> Job {
    let width = outputs / heads as usize;
    Job {
        x: 4 * head * width as u32,
        x_stride: outputs as u32,
        out: 4 * head * inputs as u32,
        out_stride: heads * inputs as u32,
        ..without_addresses(Form::F32, (inputs, width))
    }
}

/// LoRAs whose matrices, factors (or zero) and memory between the matrices are at these addresses, for `m` rows.
///
/// # Panics
/// If a slice is shorter than its shape, for the job would read past it.
pub(crate) fn low_rank_job(low: &LowRank<'_>, m: u32, [a, b, factors, hidden]: [u32; 4]) -> LowRankJob {
    let candidates = (m as usize).div_ceil(low.rows.max(1));
    let pairs = if low.factors.is_some() { 1 } else { candidates };
    assert!(
        low.a.len() >= pairs * packed_rows(low.rank, low.inputs)
            && low.b.len() >= pairs * packed_rows(low.outputs, low.rank)
            && low.factors.is_none_or(|factors| factors.len() >= candidates * low.rank),
        "a LoRA shorter than its shape"
    );
    LowRankJob {
        rank: low.rank as u32,
        rows: low.rows as u32,
        candidates: candidates as u32,
        first: 0,
        a,
        b,
        factors,
        hidden,
    }
}

/// The rows of a packed matrix as bytes, and its scales, of which only q8_0 has any.
pub(crate) fn parts(packed: &Packed) -> (&[u8], &[u8]) {
    match packed {
        Packed::F32(weight) => (bytemuck::cast_slice(weight.view().rows()), &[]),
        Packed::F16(weight) => (bytemuck::cast_slice(weight.view().rows()), &[]),
        Packed::Q8(weight) | Packed::Q8Integer(weight) => {
            let view = weight.view();
            (bytemuck::cast_slice(view.rows()), bytemuck::cast_slice(view.scales()))
        }
    }
}

/// Memory that several workers see, cut into pieces that start at multiples of [`ALIGN`].
pub(crate) struct Space {
    memory: WebAssembly::Memory,
    /// `None` in a browser that does not know them.
    copies: Option<Copies>,
    state: RefCell<State>,
}

struct State {
    /// In units of [`ALIGN`] bytes.
    free: RangeAllocator<u32>,
    pages: u32,
    /// Over all of the memory; made anew when it has grown.
    bytes: Uint8Array,
    numbers: Float32Array,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").finish_non_exhaustive()
    }
}

/// A piece, to be given back to [`Space::free`].
#[derive(Clone, Debug)]
pub(crate) struct Piece(Range<u32>);

impl Piece {
    /// Its address.
    pub(crate) fn address(&self) -> u32 {
        self.0.start * ALIGN as u32
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.0.len() * ALIGN
    }
}

/// A piece that is used again and again, and made larger where it is too small.
#[derive(Debug, Default)]
pub(crate) struct Kept(RefCell<Option<Piece>>);

impl Kept {
    /// Its address, with room for so many bytes; what they hold is anything.
    pub(crate) fn at_least(&self, space: &Space, bytes: usize) -> Result<u32, HostError> {
        let kept = &mut *self.0.borrow_mut();
        if kept.as_ref().is_none_or(|piece| piece.size() < bytes) {
            if let Some(old) = kept.take() {
                space.free(old);
            }
            *kept = Some(space.take(bytes)?);
        }
        Ok(kept.as_ref().map_or(0, Piece::address))
    }
}

impl Space {
    pub(crate) fn new() -> Result<Self, HostError> {
        let description = Object::new();
        Reflect::set(&description, &"initial".into(), &1.into())?;
        Reflect::set(&description, &"maximum".into(), &MOST_PAGES.into())?;
        Reflect::set(&description, &"shared".into(), &true.into())?;
        let memory = WebAssembly::Memory::new(&description)?;
        let state = State {
            // Nothing is at address zero.
            free: RangeAllocator::new(1..(PAGE / ALIGN) as u32),
            pages: 1,
            bytes: Uint8Array::new(&memory.buffer()),
            numbers: Float32Array::new(&memory.buffer()),
        };
        Ok(Self {
            copies: copies::open(&memory).ok(),
            memory,
            state: RefCell::new(state),
        })
    }

    pub(crate) fn memory(&self) -> &WebAssembly::Memory {
        &self.memory
    }

    /// A piece of at least this size.
    pub(crate) fn take(&self, bytes: usize) -> Result<Piece, HostError> {
        let full = || HostError::Memory { bytes };
        let state = &mut *self.state.borrow_mut();
        let units = u32::try_from(bytes.div_ceil(ALIGN)).map_err(|_| full())?.max(1);
        if let Ok(range) = state.free.allocate_range(units) {
            return Ok(Piece(range));
        }
        let pages = (units as usize * ALIGN).div_ceil(PAGE) as u32;
        let end = state
            .pages
            .checked_add(pages)
            .filter(|&end| end < MOST_PAGES)
            .ok_or_else(full)?;
        // A page at least, and by an eighth of what there is, so that small pieces do not each make views anew.
        let end = end.max(state.pages + state.pages / 8).min(MOST_PAGES - 1);
        // `grow` throws where the system has no more.
        let grown: js_sys::Function = Reflect::get(&self.memory, &"grow".into())?.into();
        grown
            .call1(&self.memory, &(end - state.pages).into())
            .map_err(|_| full())?;
        state.pages = end;
        state.free.grow_to(end * (PAGE / ALIGN) as u32);
        state.bytes = Uint8Array::new(&self.memory.buffer());
        state.numbers = Float32Array::new(&self.memory.buffer());
        state.free.allocate_range(units).map(Piece).map_err(|_| full())
    }

    pub(crate) fn free(&self, piece: Piece) {
        self.state.borrow_mut().free.free_range(piece.0);
    }

    /// Writes bytes at an address.
    pub(crate) fn write(&self, address: u32, bytes: &[u8]) {
        let length = bytes.len() as u32;
        match &self.copies {
            Some(copies) => copies.give(address, bytes.as_ptr() as u32, length),
            None => self
                .state
                .borrow()
                .bytes
                .subarray(address, address + length)
                .copy_from(bytes),
        }
    }

    /// Writes numbers at an address, which is a multiple of four.
    pub(crate) fn write_numbers(&self, address: u32, numbers: &[f32]) {
        match &self.copies {
            Some(copies) => copies.give(address, numbers.as_ptr() as u32, size_of_val(numbers) as u32),
            None => self.numbers(address, numbers.len()).copy_from(numbers),
        }
    }

    /// Reads numbers from an address, which is a multiple of four.
    pub(crate) fn read_numbers(&self, address: u32, numbers: &mut [f32]) {
        match &self.copies {
            Some(copies) => copies.take(numbers.as_mut_ptr() as u32, address, size_of_val(numbers) as u32),
            None => self.numbers(address, numbers.len()).copy_to(numbers),
        }
    }

    fn numbers(&self, address: u32, count: usize) -> Float32Array {
        let start = address / 4;
        self.state.borrow().numbers.subarray(start, start + count as u32)
    }
}
