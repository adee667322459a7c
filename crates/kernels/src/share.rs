//! Jobs that several workers do together.

use crate::job::{Job, LowRankJob, Operation, write_words};
use crate::pack::PANEL;

/// Whether jobs over the same rows are cut by rows for so many workers: where there are enough of them for each.
pub fn cut_by_rows(rows: u32, workers: u32) -> bool {
    const LEAST: u32 = 16;
    rows >= LEAST * workers
}

/// How jobs over the same rows are cut into parts, which workers take one after another.
///
/// A part reads all of the weights, from a cache that the workers share, so there are few; but one worker may be slower
/// than another, or be kept from its work, so the last ones are small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cut {
    /// Parts of one size, which come first.
    pub large: u32,
    /// Parts that share the last quarter.
    pub small: u32,
    /// Whether parts are of rows: where there are enough of them for each. Otherwise they are of panels of columns, which
    /// only a product by itself has.
    pub by_rows: bool,
}

impl Cut {
    /// For so many workers.
    ///
    /// # Panics
    /// If there is no job, or several that are not cut by rows.
    pub fn new(jobs: &[Job], workers: u32) -> Self {
        /// Rows of a small part at least: that many are worth reading the weights again.
        const ROWS: u32 = 16;
        const COLUMNS: u32 = 8 * PANEL as u32;
        /// Columns for each row that make a product wide.
        const WIDE: u32 = 64;
        /// Parts by columns for each worker where there are enough of them.
        const TURNS: u32 = 4;
        let job = jobs[0];
        // A matrix with so many columns comes from memory, and each worker reads its own columns alone.
        let is_wide = jobs.len() == 1 && job.low_rank.rank == 0 && job.columns / WIDE > job.m;
        let by_rows = cut_by_rows(job.m, workers) && !is_wide;
        let (large, small) = if workers == 1 {
            (1, 0)
        } else if by_rows {
            // None, or as many for each.
            let turns = (job.m / (4 * ROWS * workers)).min(2);
            (workers, turns * workers)
        } else {
            assert!(
                jobs.len() == 1 && job.operation == Operation::Product,
                "rows for every worker"
            );
            let most = match job.low_rank.rank {
                0 => job.columns / COLUMNS,
                // Each part has to make all that lies between a LoRA's matrices.
                _ => workers,
            };
            (most.clamp(workers, TURNS * workers), 0)
        };
        Self { large, small, by_rows }
    }

    /// Number of parts.
    pub fn parts(self) -> u32 {
        self.large + self.small
    }

    /// Where a part starts among so many units.
    fn start(self, part: u32, units: u32) -> u32 {
        let share =
            |units: u32, part: u32, parts: u32| (u64::from(units) * u64::from(part)).div_ceil(u64::from(parts)) as u32;
        if self.small == 0 {
            return share(units, part, self.large);
        }
        let last = units / 4;
        match part.checked_sub(self.large) {
            None => share(units - last, part, self.large),
            Some(part) => units - last + share(last, part, self.small),
        }
    }
}

impl Job {
    /// One part, the first of which is never empty. Their results lie apart and have the bits that the whole would have.
    pub fn part(self, part: u32, cut: Cut) -> Self {
        // Pairs of rows are what the kernels take.
        const ROWS: u32 = 2;
        let share = |count: u32, unit: u32| {
            let at = |part: u32| (cut.start(part, count.div_ceil(unit)) * unit).min(count);
            let start = at(part);
            (start, at(part + 1) - start)
        };
        if cut.by_rows {
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
}

/// Jobs over the same rows, each on what those before it made of a row, that several workers do together: each takes the
/// next part that nobody has taken, and does all jobs on it, until there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SharedJobs {
    /// The address of the jobs. Between the matrices of a LoRA they have memory for every worker: `[workers, m, rank]`.
    pub jobs: u32,
    /// Number of jobs.
    pub count: u32,
    /// How they are cut.
    pub cut: Cut,
    /// The address of a word that all workers see: the number of parts taken.
    pub taken: u32,
    /// The jobs' scratch memory, which is this worker's own.
    pub scratch: u32,
    /// Number of this worker, from zero.
    pub worker: u32,
}

impl SharedJobs {
    /// The jobs as they lie in memory.
    pub fn to_bytes(&self) -> [u8; size_of::<Self>()] {
        let words = [
            self.jobs,
            self.count,
            self.cut.large,
            self.cut.small,
            // A `bool` is the first byte of its word, as little-endian numbers are.
            u32::from(self.cut.by_rows),
            self.taken,
            self.scratch,
            self.worker,
        ];
        let mut bytes = [0; size_of::<Self>()];
        write_words(&words, &mut bytes);
        bytes
    }

    /// Does this worker's share.
    ///
    /// # Safety
    /// As [`Job::run`]'s for each of the jobs; `taken` is the address of a word that is only ever added to while workers
    /// are at them.
    #[cfg(target_arch = "wasm32")]
    pub unsafe fn run(&self) {
        use core::sync::atomic::{AtomicU32, Ordering};

        // SAFETY: the caller's word.
        let (jobs, taken) = unsafe {
            (
                core::slice::from_raw_parts(self.jobs as *const Job, self.count as usize),
                AtomicU32::from_ptr(self.taken as *mut u32),
            )
        };
        loop {
            // What a part writes is seen by others through the word that says that its worker is done.
            let part = taken.fetch_add(1, Ordering::Relaxed);
            if part >= self.cut.parts() {
                return;
            }
            for &job in jobs {
                let own = 4 * self.worker * job.m * job.low_rank.rank;
                let mut job = job.part(part, self.cut);
                job.scratch = self.scratch;
                job.low_rank.hidden += own;
                // SAFETY: the caller's word; parts write apart from each other.
                unsafe { job.run() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Form;

    /// Enough for everybody, and so many that each has some turns where the job is large.
    #[test]
    fn parts_for_workers() {
        let job = |m, columns, rank| Job {
            operation: Operation::Product,
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
            eps: 0.0,
            low_rank: LowRankJob {
                rank,
                ..LowRankJob::default()
            },
        };
        let parts = |job: Job, workers| {
            let cut = Cut::new(&[job], workers);
            (cut.large, cut.small)
        };
        assert_eq!(parts(job(320, 512, 16), 2), (2, 4));
        assert_eq!(parts(job(80, 512, 16), 2), (2, 0));
        assert_eq!(parts(job(128, 512, 16), 2), (2, 2));
        assert_eq!(parts(job(5, 1024, 0), 2), (8, 0));
        assert_eq!(parts(job(5, 1024, 16), 2), (2, 0), "LoRAs are not made many times");
        assert_eq!(parts(job(5, 16, 0), 2), (2, 0));
        assert_eq!(parts(job(320, 512, 0), 1), (1, 0));
    }

    /// Every result is one part's, and no other's.
    #[test]
    fn parts_cover_the_whole_once() {
        for m in [1, 2, 15, 31, 32, 33, 320, 4097] {
            for n in [1, 15, 16, 17, 48, 384] {
                for workers in 1..=5 {
                    // Rows lie apart, as where each head's are between the others'.
                    let (k, x_stride, out_stride) = (8, 24, n + 5);
                    let job = Job {
                        operation: Operation::Product,
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
                        eps: 0.0,
                        low_rank: LowRankJob {
                            rank: 4,
                            ..LowRankJob::default()
                        },
                    };
                    let cut = Cut::new(&[job], workers);
                    let mut seen = vec![0; (m * n) as usize];
                    for part in (0..cut.parts()).map(|part| job.part(part, cut)) {
                        let row = (part.out - job.out) / 4 / out_stride;
                        assert_eq!(part.x, job.x + 4 * row * x_stride, "activations of row {row}");
                        assert_eq!(part.low_rank.first, row);
                        for (i, j) in (row..row + part.m).flat_map(|i| (0..part.columns).map(move |j| (i, j))) {
                            seen[(i * n + part.first + j) as usize] += 1;
                        }
                    }
                    assert!(
                        job.part(0, cut).m > 0 && job.part(0, cut).columns > 0,
                        "the first part is idle"
                    );
                    assert!(
                        seen.iter().all(|&times| times == 1),
                        "{m} x {n} for {workers} workers: {seen:?}"
                    );
                }
            }
        }
    }
}
