//! An operation as plain numbers, for a kernel module that has the memory in common with its caller and nothing else.

#[cfg(target_arch = "wasm32")]
use core::slice;

use crate::integer::IntegerScratch;
#[cfg(target_arch = "wasm32")]
use crate::low_rank::{LowRank, packed_rows};
#[cfg(target_arch = "wasm32")]
use crate::multiply::SCRATCH_ROWS;
#[cfg(target_arch = "wasm32")]
use crate::narrow::{F16Panels, Q8_BLOCK, Q8Panels};
#[cfg(target_arch = "wasm32")]
use crate::pack::F32Panels;
use crate::pack::PANEL;

/// How a [`Job`]'s weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Form {
    /// As [`F32Panels`](crate::F32Panels).
    F32 = 0,
    /// As [`F16Panels`](crate::F16Panels), none of them infinite or NaN.
    FiniteF16 = 1,
    /// As [`F16Panels`](crate::F16Panels).
    F16 = 2,
    /// As [`Q8Panels`](crate::Q8Panels).
    Q8 = 3,
    /// The same, multiplied [in integers](crate::multiply_integer_in).
    Q8Integer = 4,
}

/// What a [`Job`] does, with the job's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operation {
    /// `out = x W^T`, and the LoRAs' part of it, as [`multiply_in`](crate::multiply_in) and
    /// [`add_low_rank_in`](crate::add_low_rank_in) compute them.
    Product = 0,
    /// `out = rms_norm(x)`, row by row; `weights` is the address of the norm's, `[k]`.
    RmsNorm = 1,
    /// `out = gelu(out) * x`, `[m, k]`.
    GatedGelu = 2,
    /// `out = out + x`, `[m, k]`.
    Add = 3,
}

/// An operation on rows. Everything that lies in memory is given by its address there, in bytes; strides and counts are
/// in elements. What is said of weights and outputs is said of products; of the other operations each row has `k` numbers,
/// and `n` and `columns` are `k`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Job {
    /// What is done.
    pub operation: Operation,
    /// How the weights are held.
    pub form: Form,
    /// Outputs of the whole matrix.
    pub n: u32,
    /// Inputs.
    pub k: u32,
    /// The packed rows; zero where there is no product, and what is added is added to what `out` holds.
    pub weights: u32,
    /// The scales of [`Form::Q8`].
    pub scales: u32,
    /// The activations, `[m, k]`.
    pub x: u32,
    /// From one of their rows' start to the next one's.
    pub x_stride: u32,
    /// Number of their rows.
    pub m: u32,
    /// The results, `[m, n]`, of which `columns` are written.
    pub out: u32,
    /// From one of their rows' start to the next one's.
    pub out_stride: u32,
    /// The first output that is computed, a multiple of [`PANEL`].
    pub first: u32,
    /// Number of outputs that are computed.
    pub columns: u32,
    /// [`Job::SCRATCH`] bytes of memory for nobody else, at a multiple of 64.
    pub scratch: u32,
    /// What a norm adds to the mean square.
    pub eps: f32,
    /// What is added to the product.
    pub low_rank: LowRankJob,
}

/// A [`LowRank`](crate::LowRank) as addresses. With a rank of zero there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LowRankJob {
    /// Rank of a pair.
    pub rank: u32,
    /// Activation rows of one candidate.
    pub rows: u32,
    /// Number of candidates.
    pub candidates: u32,
    /// The job's first row among all candidates' rows.
    pub first: u32,
    /// The packed matrices `A`.
    pub a: u32,
    /// The packed matrices `B`.
    pub b: u32,
    /// The factors, or zero where each candidate has a pair of its own.
    pub factors: u32,
    /// `[m, rank]`: memory for nobody else.
    pub hidden: u32,
}

const _: () = assert!(Job::SCRATCH >= size_of::<[[f32; PANEL]; crate::SCRATCH_ROWS]>());

impl Job {
    /// Bytes of [`scratch`](Self::scratch) memory that every form of weights can do with.
    pub const SCRATCH: usize = size_of::<IntegerScratch>();

    /// The job as it lies in memory.
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let words = [
            self.operation as u32,
            self.form as u32,
            self.n,
            self.k,
            self.weights,
            self.scales,
            self.x,
            self.x_stride,
            self.m,
            self.out,
            self.out_stride,
            self.first,
            self.columns,
            self.scratch,
            self.eps.to_bits(),
            self.low_rank.rank,
            self.low_rank.rows,
            self.low_rank.candidates,
            self.low_rank.first,
            self.low_rank.a,
            self.low_rank.b,
            self.low_rank.factors,
            self.low_rank.hidden,
        ];
        let mut bytes = [0; size_of::<Self>()];
        write_words(&words, &mut bytes);
        bytes
    }

    /// Does it.
    ///
    /// # Safety
    /// Every address is one in this memory, aligned as its elements are, where as much lies as the shapes say; nobody
    /// writes to what is read, and nobody else uses the scratch memory or the columns that are written.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn run(&self) {
        use crate::multiply::{Rows, RowsMut};
        use crate::rows::{gated_gelu, rms_norm};

        let [k, m, x_stride, stride] = [self.k, self.m, self.x_stride, self.out_stride].map(|size| size as usize);
        let (first, columns) = (self.first as usize, self.columns as usize);
        if m == 0 || columns == 0 {
            return;
        }
        // SAFETY: the caller's word. The activations are those from the first row's start to the last one's end, the
        // results those from the first column of the first row to the last one of the last.
        let (x, out) = unsafe {
            (
                slice::from_raw_parts(self.x as *const f32, (m - 1) * x_stride + k),
                slice::from_raw_parts_mut((self.out as *mut f32).add(first), (m - 1) * stride + columns),
            )
        };
        if self.operation == Operation::Product {
            // SAFETY: the caller's word.
            return unsafe { self.product(Rows::new(x, m, x_stride), &mut RowsMut { data: out, stride }) };
        }
        // SAFETY: the caller's word.
        let norm = || unsafe { at(self.weights, k) };
        for (x, out) in x.chunks(x_stride).zip(out.chunks_mut(stride)) {
            let (x, out) = (&x[..k], &mut out[..k]);
            match self.operation {
                Operation::RmsNorm => rms_norm(x, norm(), self.eps, out),
                Operation::GatedGelu => gated_gelu(out, x),
                Operation::Add | Operation::Product => {
                    for (out, x) in out.iter_mut().zip(x) {
                        *out += x;
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run)'s.
    #[cfg(target_arch = "wasm32")]
    unsafe fn product(&self, x: crate::multiply::Rows<'_>, out: &mut crate::multiply::RowsMut<'_>) {
        use crate::integer::multiply_integer_in;
        use crate::low_rank::add_low_rank_in;
        use crate::multiply::{Output, multiply_in};

        let range = self.first as usize..(self.first + self.columns) as usize;
        if self.weights != 0 {
            // SAFETY: the caller's word.
            let weight = unsafe { self.weight() };
            // SAFETY: the same; it is used once.
            let scratch = || unsafe { self.scratch() };
            let range = range.clone();
            match weight {
                Held::F32(weight) => multiply_in(x, weight, range, out, Output::Store, scratch()),
                Held::F16(weight) => multiply_in(x, weight, range, out, Output::Store, scratch()),
                Held::Q8(weight) if self.form == Form::Q8Integer => {
                    // SAFETY: the caller's word.
                    let scratch = unsafe { &mut *(self.scratch as *mut IntegerScratch) };
                    multiply_integer_in(x, weight, range, out, Output::Store, scratch);
                }
                Held::Q8(weight) => multiply_in(x, weight, range, out, Output::Store, scratch()),
            }
        }
        if self.low_rank.rank != 0 {
            // SAFETY: the caller's word.
            let (low, hidden) = unsafe { self.low_rank() };
            add_low_rank_in(x, low, self.low_rank.first as usize, range, out, hidden);
        }
    }

    /// # Safety
    /// As [`run`](Self::run)'s, for what is added, until both are dropped.
    #[cfg(target_arch = "wasm32")]
    #[expect(
        clippy::mut_from_ref,
        reason = "the memory is named by its address, and is nobody else's"
    )]
    unsafe fn low_rank(&self) -> (LowRank<'_>, &mut [f32]) {
        let job = self.low_rank;
        let [rank, rows, candidates] = [job.rank, job.rows, job.candidates].map(|size| size as usize);
        let (inputs, outputs) = (self.k as usize, self.n as usize);
        let pairs = if job.factors == 0 { candidates } else { 1 };
        // SAFETY: the caller's word.
        unsafe {
            let low = LowRank {
                rank,
                inputs,
                outputs,
                rows,
                a: at(job.a, pairs * packed_rows(rank, inputs)),
                b: at(job.b, pairs * packed_rows(outputs, rank)),
                factors: (job.factors != 0).then(|| at(job.factors, candidates * rank)),
            };
            let hidden = slice::from_raw_parts_mut(job.hidden as *mut f32, self.m as usize * rank);
            (low, hidden)
        }
    }

    /// Writes the weights of one output to `out`, `[k]`; `x`, `m` and the columns are not looked at.
    ///
    /// # Safety
    /// As [`run`](Self::run)'s.
    ///
    /// # Panics
    /// If there is no such output.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn output_row(&self, output: u32) {
        use crate::pack::output_row_in;

        let output = output as usize;
        // SAFETY: the caller's word.
        let (weight, scratch, out) = unsafe {
            let out = slice::from_raw_parts_mut(self.out as *mut f32, self.k as usize);
            (self.weight(), self.scratch(), out)
        };
        match weight {
            Held::F32(weight) => output_row_in(weight, output, out, scratch),
            Held::F16(weight) => output_row_in(weight, output, out, scratch),
            Held::Q8(weight) => output_row_in(weight, output, out, scratch),
        }
    }

    /// Packs the transpose of the outputs `first..first + columns`, [as f32](crate::transpose_in), at `out`; `x`, `m`
    /// and the strides are not looked at.
    ///
    /// # Safety
    /// As [`run`](Self::run)'s.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn transpose(&self) {
        use crate::pack::transpose_in;

        let outputs = self.first as usize..(self.first + self.columns) as usize;
        // SAFETY: the caller's word.
        let (weight, scratch, out) = unsafe {
            let rows = packed_rows(self.k as usize, outputs.len());
            let out = slice::from_raw_parts_mut(self.out as *mut [f32; PANEL], rows);
            (self.weight(), self.scratch(), out)
        };
        match weight {
            Held::F32(weight) => transpose_in(weight, outputs, out, scratch),
            Held::F16(weight) => transpose_in(weight, outputs, out, scratch),
            Held::Q8(weight) => transpose_in(weight, outputs, out, scratch),
        }
    }

    /// # Safety
    /// As [`run`](Self::run)'s, for the weights.
    #[cfg(target_arch = "wasm32")]
    unsafe fn weight(&self) -> Held<'_> {
        let (n, k) = (self.n as usize, self.k as usize);
        let panels = n.div_ceil(PANEL);
        // SAFETY: the caller's word.
        unsafe {
            match self.form {
                Form::F32 => Held::F32(F32Panels::new(n, k, at(self.weights, panels * k))),
                Form::F16 => Held::F16(F16Panels::new(n, k, at(self.weights, panels * k), false)),
                Form::FiniteF16 => Held::F16(F16Panels::new(n, k, at(self.weights, panels * k), true)),
                Form::Q8 | Form::Q8Integer => {
                    let scales = at(self.scales, panels * k.div_ceil(Q8_BLOCK));
                    Held::Q8(Q8Panels::new(n, k, at(self.weights, panels * k), scales))
                }
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run)'s, for the scratch memory, until the slice is dropped.
    #[cfg(target_arch = "wasm32")]
    #[expect(
        clippy::mut_from_ref,
        reason = "the memory is named by its address, and is nobody else's"
    )]
    unsafe fn scratch(&self) -> &mut [[f32; PANEL]] {
        // SAFETY: the caller's word.
        unsafe { slice::from_raw_parts_mut(self.scratch as *mut [f32; PANEL], SCRATCH_ROWS) }
    }
}

/// Writes words as they lie in memory.
pub(crate) fn write_words(words: &[u32], bytes: &mut [u8]) {
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// The weights of a job.
#[cfg(target_arch = "wasm32")]
enum Held<'a> {
    F32(F32Panels<'a>),
    F16(F16Panels<'a>),
    Q8(Q8Panels<'a>),
}

/// # Safety
/// At `address` lie `count` such elements, which nobody changes while the slice lives.
#[cfg(target_arch = "wasm32")]
unsafe fn at<'a, T>(address: u32, count: usize) -> &'a [T] {
    // SAFETY: the caller's word.
    unsafe { slice::from_raw_parts(address as *const T, count) }
}
