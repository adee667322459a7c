//! Reading a GGUF file takes memory in proportion to its bytes, whatever is in it, and never panics.

mod counting;
#[path = "../../../tests/hostile/gguf.rs"]
mod hostile;

use std::ops::Range;

use lorahub_weights::{GgufTensors, Limits, ReadAt, Tensors as _, WeightsError};

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        assert!(range.start < range.end, "{range:?} is no range");
        let part = self.0.get(range.start as usize..range.end as usize);
        Ok(part.expect("inside the file").to_vec())
    }
}

/// The most that reading `bytes` holds at once, every tensor's values included, one at a time; and whether the header
/// was let pass.
fn most(bytes: &[u8]) -> (usize, bool) {
    counting::most(|| match GgufTensors::open(Bytes(bytes), &Limits::BASE) {
        Ok(file) => {
            for name in file.names() {
                file.f32(name).ok();
            }
            true
        }
        Err(_) => false,
    })
}

#[test]
fn no_malformed_file_takes_much_memory() {
    for case in hostile::bad_files() {
        let (most, passed) = most(&case.bytes);
        assert!(!passed, "{}", case.what);
        // The list's own texts are at most the file's, and there is one limit of 64 kB.
        assert!(most < 100 << 10, "{}: {most} bytes", case.what);
    }
    let valid = hostile::valid().bytes();
    assert!(most(&valid).1);
}

#[test]
fn no_mutation_panics_or_takes_much_memory() {
    let valid = hostile::valid();
    let (header, bytes) = (valid.header().len(), valid.bytes());
    let mut next = counting::numbers();
    let mut refused = 0;
    for _ in 0..40_000 {
        let mut mutated = bytes.clone();
        for _ in 0..1 + next(3) {
            let at = next(header);
            // Also lengths: the bytes of a number or of a text's length become the largest.
            let width = 1 + next(8);
            let value = match next(4) {
                0 => 0xff,
                1 => 0,
                2 => 0x7f,
                _ => next(256) as u8,
            };
            mutated.iter_mut().skip(at).take(width).for_each(|byte| *byte = value);
        }
        match next(8) {
            0 => mutated.truncate(next(bytes.len())),
            1 => drop(mutated.splice(0..0, [0; 1])),
            _ => {}
        }
        let (most, passed) = most(&mutated);
        assert!(most < 100 << 10, "{most}");
        refused += usize::from(!passed);
    }
    // Keys, numbers that nobody looks at and other names leave a valid file.
    assert!(refused > 20_000, "{refused} of 40000");
}
