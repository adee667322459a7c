//! A product as plain numbers, for a kernel module that has the memory in common with its caller and nothing else.

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

/// `out = x W^T` as [`multiply_in`](crate::multiply_in) computes it. Everything that lies in memory is given by its
/// address there, in bytes; strides and counts are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Job {
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

    /// Parts to cut the job into for so many workers, who take one after another: several for each, because one worker
    /// may be slower than another, or be kept from its work.
    pub fn parts(&self, workers: u32) -> u32 {
        /// Parts for each worker where there is enough to cut.
        const TURNS: u32 = 4;
        /// A panel is widened, and read from a far cache, once for this many rows.
        const ROWS: u32 = 40;
        const COLUMNS: u32 = 8 * PANEL as u32;
        if workers == 1 {
            return 1;
        }
        let most = if self.by_rows(workers) {
            self.m / ROWS
        } else if self.low_rank.rank == 0 {
            self.columns / COLUMNS
        } else {
            // Each part has to make all that lies between a LoRA's matrices.
            workers
        };
        most.clamp(workers, TURNS * workers)
    }

    /// Whether so many parts are cut by rows: where there are enough of them for each.
    fn by_rows(&self, parts: u32) -> bool {
        const LEAST: u32 = 16;
        self.m >= LEAST * parts
    }

    /// One of `parts` parts, the first of which is never empty: some of the rows where there are enough of them, else some
    /// panels of columns. Their results lie apart and have the bits that the whole would have.
    pub fn part(self, part: u32, parts: u32) -> Self {
        // Pairs of rows are what the kernels take.
        const ROWS: u32 = 2;
        let share = |count: u32, unit: u32| {
            let units = count.div_ceil(unit);
            let at = |part: u32| (u64::from(units) * u64::from(part)).div_ceil(u64::from(parts)) as u32;
            let start = (at(part) * unit).min(count);
            (start, (at(part + 1) * unit).min(count) - start)
        };
        if self.by_rows(parts) {
            let (start, m) = share(self.m, ROWS);
            Self {
                x: self.x + 4 * start * self.x_stride,
                out: self.out + 4 * start * self.out_stride,
                m,
                low_rank: LowRankJob {
                    first: self.low_rank.first + start,
                    ..self.low_rank
                },
                ..self
            }
        } else {
            let (start, columns) = share(self.columns, PANEL as u32);
            Self {
                first: self.first + start,
                columns,
                ..self
            }
        }
    }

    /// The job as it lies in memory.
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let words = [
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
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Computes the product.
    ///
    /// # Safety
    /// Every address is one in this memory, aligned as its elements are, where as much lies as the shapes say; nobody
    /// writes to what is read, and nobody else uses the scratch memory or the columns that are written.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn run(&self) {
        use crate::integer::multiply_integer_in;
        use crate::low_rank::add_low_rank_in;
        use crate::multiply::{Output, Rows, RowsMut, multiply_in};

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
        let (x, range) = (Rows::new(x, m, x_stride), first..first + columns);
        let out = &mut RowsMut { data: out, stride };
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

/// A job that several workers do together: each takes the next part that nobody has taken, until there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SharedJob {
    /// The whole, with scratch memory of this worker's own.
    pub job: Job,
    /// Parts that it is cut into.
    pub parts: u32,
    /// The address of a word that all workers see: the number of parts taken.
    pub taken: u32,
}

impl SharedJob {
    /// The job as it lies in memory.
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let (job, own) = bytes.split_at_mut(size_of::<Job>());
        job.copy_from_slice(&self.job.to_bytes());
        own[..4].copy_from_slice(&self.parts.to_le_bytes());
        own[4..].copy_from_slice(&self.taken.to_le_bytes());
        bytes
    }

    /// Does this worker's share.
    ///
    /// # Safety
    /// As [`Job::run`]'s; `taken` is the address of a word that is only ever added to while workers are at the job.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn run(&self) {
        use core::sync::atomic::{AtomicU32, Ordering};

        // SAFETY: the caller's word.
        let taken = unsafe { AtomicU32::from_ptr(self.taken as *mut u32) };
        loop {
            // What a part writes is seen by others through the word that says that its worker is done.
            let part = taken.fetch_add(1, Ordering::Relaxed);
            if part >= self.parts {
                return;
            }
            // SAFETY: the caller's word; parts write apart from each other.
            unsafe { self.job.part(part, self.parts).run() };
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for everybody, and so many that each has some turns where the job is large.
    #[test]
    fn parts_for_workers() {
        let job = |m, columns, rank| Job {
            form: Form::F32,
            n: columns,
            k: 512,
            weights: 1,
            scales: 0,
            x: 0,
            x_stride: 512,
            m,
            out: 0,
            out_stride: columns,
            first: 0,
            columns,
            scratch: 0,
            low_rank: LowRankJob {
                rank,
                ..LowRankJob::default()
            },
        };
        assert_eq!(job(320, 512, 16).parts(2), 8);
        assert_eq!(job(80, 512, 16).parts(2), 2);
        assert_eq!(job(5, 1024, 0).parts(2), 8);
        assert_eq!(job(5, 1024, 16).parts(2), 2, "LoRAs are not made many times");
        assert_eq!(job(5, 16, 0).parts(2), 2);
        assert_eq!(job(320, 512, 0).parts(1), 1);
    }

    /// Every result is one part's, and no other's.
    #[test]
    fn parts_cover_the_whole_once() {
        for m in [1, 2, 15, 31, 32, 33, 320, 4097] {
            for n in [1, 15, 16, 17, 48, 384] {
                for parts in 1..=5 {
                    // Rows lie apart, as where each head's are between the others'.
                    let (k, x_stride, out_stride) = (8, 24, n + 5);
                    let job = Job {
                        form: Form::F32,
                        n,
                        k,
                        weights: 0,
                        scales: 0,
                        x: 1 << 10,
                        x_stride,
                        m,
                        out: 1 << 20,
                        out_stride,
                        first: 0,
                        columns: n,
                        scratch: 0,
                        low_rank: LowRankJob {
                            rank: 4,
                            ..LowRankJob::default()
                        },
                    };
                    let mut seen = vec![0; (m * n) as usize];
                    for part in (0..parts).map(|part| job.part(part, parts)) {
                        let row = (part.out - job.out) / 4 / out_stride;
                        assert_eq!(part.x, job.x + 4 * row * x_stride, "activations of row {row}");
                        assert_eq!(part.low_rank.first, row);
                        for (i, j) in (row..row + part.m).flat_map(|i| (0..part.columns).map(move |j| (i, j))) {
                            seen[(i * n + part.first + j) as usize] += 1;
                        }
                    }
                    assert!(
                        job.part(0, parts).m > 0 && job.part(0, parts).columns > 0,
                        "the first part is idle"
                    );
                    assert!(
                        seen.iter().all(|&times| times == 1),
                        "{m} x {n} in {parts} parts: {seen:?}"
                    );
                }
            }
        }
    }
}
