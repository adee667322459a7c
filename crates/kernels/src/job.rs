//! A product as plain numbers, for a kernel module that has the memory in common with its caller and nothing else.

#[cfg(target_arch = "wasm32")]
use core::slice;

#[cfg(target_arch = "wasm32")]
use crate::low_rank::{LowRank, packed_rows};
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
    /// Number of their rows.
    pub m: u32,
    /// The results, `[m, n]`, of which `columns` are written.
    pub out: u32,
    /// The first output that is computed, a multiple of [`PANEL`].
    pub first: u32,
    /// Number of outputs that are computed.
    pub columns: u32,
    /// [`SCRATCH_ROWS`](crate::SCRATCH_ROWS) rows of memory for nobody else.
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
    /// `[parts, m, rank]`: memory for nobody else.
    pub hidden: u32,
}

impl Job {
    /// The job cut for `parts` workers, the first of which is never idle: by rows where there are enough of them, else
    /// by panels of columns. Their results lie apart and have the bits that the whole would have.
    pub fn part(self, part: u32, parts: u32) -> Self {
        // Pairs of rows are what the kernels take; a panel is widened for all rows, so few rows are not worth cutting.
        const ROWS: u32 = 2;
        const LEAST: u32 = 16;
        let share = |count: u32, unit: u32| {
            let units = count.div_ceil(unit);
            let at = |part: u32| (u64::from(units) * u64::from(part)).div_ceil(u64::from(parts)) as u32;
            let start = (at(part) * unit).min(count);
            (start, (at(part + 1) * unit).min(count) - start)
        };
        let low_rank = LowRankJob {
            hidden: self.low_rank.hidden + 4 * part * self.m * self.low_rank.rank,
            ..self.low_rank
        };
        if self.m >= LEAST * parts {
            let (start, m) = share(self.m, ROWS);
            Self {
                x: self.x + 4 * start * self.k,
                out: self.out + 4 * start * self.n,
                m,
                low_rank: LowRankJob {
                    first: low_rank.first + start,
                    ..low_rank
                },
                ..self
            }
        } else {
            let (start, columns) = share(self.columns, PANEL as u32);
            Self {
                first: self.first + start,
                columns,
                low_rank,
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
            self.m,
            self.out,
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
        use crate::low_rank::add_low_rank_in;
        use crate::multiply::{Output, Rows, RowsMut, multiply_in};

        let [n, k, m] = [self.n, self.k, self.m].map(|size| size as usize);
        let (first, columns) = (self.first as usize, self.columns as usize);
        if m == 0 || columns == 0 {
            return;
        }
        // SAFETY: the caller's word. The results are those from the first column of the first row to the last one of
        // the last.
        let (x, out) = unsafe {
            (
                slice::from_raw_parts(self.x as *const f32, m * k),
                slice::from_raw_parts_mut((self.out as *mut f32).add(first), (m - 1) * n + columns),
            )
        };
        let (x, range) = (Rows::new(x, m, k), first..first + columns);
        let out = &mut RowsMut { data: out, stride: n };
        if self.weights != 0 {
            // SAFETY: the caller's word.
            let (weight, scratch) = unsafe { (self.weight(), self.scratch()) };
            let range = range.clone();
            match weight {
                Held::F32(weight) => multiply_in(x, weight, range, out, Output::Store, scratch),
                Held::F16(weight) => multiply_in(x, weight, range, out, Output::Store, scratch),
                Held::Q8(weight) => multiply_in(x, weight, range, out, Output::Store, scratch),
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
                Form::Q8 => {
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
        unsafe { slice::from_raw_parts_mut(self.scratch as *mut [f32; PANEL], crate::SCRATCH_ROWS) }
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

    /// Every result is one part's, and no other's.
    #[test]
    fn parts_cover_the_whole_once() {
        for m in [1, 2, 15, 31, 32, 33, 320, 4097] {
            for n in [1, 15, 16, 17, 48, 384] {
                for parts in 1..=5 {
                    let k = 8;
                    let job = Job {
                        form: Form::F32,
                        n,
                        k,
                        weights: 0,
                        scales: 0,
                        x: 1 << 10,
                        m,
                        out: 1 << 20,
                        first: 0,
                        columns: n,
                        scratch: 0,
                        low_rank: LowRankJob {
                            rank: 4,
                            hidden: 1 << 28,
                            ..LowRankJob::default()
                        },
                    };
                    let mut seen = vec![0; (m * n) as usize];
                    let mut ends = 0;
                    for part in (0..parts).map(|part| job.part(part, parts)) {
                        let row = (part.out - job.out) / 4 / n;
                        assert_eq!(part.x, job.x + 4 * row * k, "activations of row {row}");
                        assert_eq!(part.low_rank.first, row);
                        let hidden = part.low_rank.hidden..part.low_rank.hidden + 4 * part.m * 4;
                        assert!(hidden.start >= ends, "another part's memory");
                        ends = hidden.end;
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
