//! Reading a PyTorch archive takes memory in proportion to its bytes, whatever is in it.

mod counting;
#[path = "../../../tests/hostile/torch.rs"]
mod hostile;

use lorahub_weights::{Limits, TorchArchive};

/// The most that reading `bytes` holds at once, every tensor's values included, one at a time.
fn most(bytes: &[u8]) -> usize {
    let read = || {
        if let Ok(file) = TorchArchive::parse(bytes, &Limits::ADAPTER) {
            for name in file.names() {
                file.f32(name).ok();
            }
        }
    };
    counting::most(read).0
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
    let mut next = counting::numbers();
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
