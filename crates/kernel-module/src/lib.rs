//! The products and row operations of `lorahub_kernels` as a module of their own, of a few kilobytes.
//!
//! The rest of the program is built once, for every browser. This part is built for what only some of them have: fused
//! multiply-add (relaxed-simd), and memory that several workers share (atomics). It imports its memory and has no data,
//! so that it can run inside anybody's; an instance needs its stack's end written to `__stack_pointer` before it is called.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(target_arch = "wasm32")]
mod exports {
    use core::sync::atomic::{AtomicU32, Ordering};

    use lorahub_kernels::{Job, SharedJobs};

    /// Does one job.
    ///
    /// # Safety
    /// `job` is a valid [`Job`] in this memory.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn run(job: *const Job) {
        // SAFETY: the caller's word.
        unsafe { (*job).run() }
    }

    /// Does parts of jobs until all are taken.
    ///
    /// # Safety
    /// `jobs` are valid [`SharedJobs`] in this memory.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn share(jobs: *const SharedJobs) {
        // SAFETY: the caller's word.
        unsafe { (*jobs).run() }
    }

    /// Writes the weights of one output.
    ///
    /// # Safety
    /// `job` is a valid [`Job`] in this memory.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn output_row(job: *const Job, output: u32) {
        // SAFETY: the caller's word.
        unsafe { (*job).output_row(output) }
    }

    /// Packs the transpose of some outputs' weights.
    ///
    /// # Safety
    /// `job` is a valid [`Job`] in this memory.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn transpose(job: *const Job) {
        // SAFETY: the caller's word.
        unsafe { (*job).transpose() }
    }

    /// Looks at `word` until it is another than `seen`, at most `looks` times. Returns what it is.
    ///
    /// # Safety
    /// `word` is the address of four bytes in this memory, aligned to four.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn look(word: *const AtomicU32, seen: u32, looks: u32) -> u32 {
        // SAFETY: the caller's word.
        let word = unsafe { &*word };
        for _ in 0..looks {
            if word.load(Ordering::SeqCst) != seen {
                break;
            }
        }
        word.load(Ordering::SeqCst)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}
