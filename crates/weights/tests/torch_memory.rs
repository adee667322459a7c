//! Reading a PyTorch archive takes memory in proportion to its bytes, whatever is in it.

#[path = "../../../tests/hostile/torch.rs"]
mod hostile;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lorahub_weights::{Limits, TorchArchive};

/// Counts what a thread holds, and the most it has held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; what comes here came from `alloc`, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that reading `bytes` holds at once, every tensor's values included, one at a time.
fn most(bytes: &[u8]) -> usize {
    let before = HELD.get();
    MOST.set(before);
    if let Ok(file) = TorchArchive::parse(bytes, &Limits::ADAPTER) {
        for name in file.names() {
            file.f32(name).ok();
        }
    }
    usize::try_from(MOST.get() - before).unwrap_or(0)
}

#[test]
fn no_archive_takes_much_memory() {
    // A pickle's operations are a byte or two, the values they make tens of bytes; all of them are limited.
    const FIXED: usize = 100 << 20;
    for case in hostile::bad_archives() {
        let most = most(&case.bytes);
        assert!(most < FIXED, "{}: {most} bytes", case.what);
        if case.bytes.len() < 10_000 {
            assert!(most < 1 << 20, "{}: {most} bytes for {}", case.what, case.bytes.len());
        }
    }
    let valid = hostile::valid();
    assert!(most(&valid) < 100 * valid.len(), "{}", most(&valid));
}

#[test]
fn no_mutation_takes_much_memory() {
    let valid = hostile::valid_pickle().0;
    let mut state = 1u64;
    let mut next = move |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..4000 {
        let mut pickle = valid.clone();
        for _ in 0..1 + next(3) {
            let at = next(pickle.len());
            // Also lengths: the bytes of a number or of a text's length become the largest.
            let width = 1 + next(4);
            let value = if next(2) == 0 { 0xff } else { next(256) as u8 };
            pickle.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
        }
        let bytes = hostile::with_pickle(&hostile::Pickle(pickle));
        let most = most(&bytes);
        // Expanded views may have a million values together, which is the most for so small a file.
        assert!(most < 9 << 20, "{most}");
    }
}
