//! Reading ahead: most tensors of a model are small, and to ask a browser for each takes longer than its bytes do.

use std::cell::RefCell;
use std::ops::Range;

use crate::WeightsError;
use crate::tensors::ReadAt;

/// Bytes that are read at once where fewer are asked for: more than most of a model's tensors have, and few enough for
/// a cache to keep until they are asked for.
const AHEAD: usize = 1 << 20;

/// A file of which what lies behind the last read is in memory.
#[derive(Clone, Debug)]
pub(super) struct ReadAhead<R> {
    file: R,
    window: RefCell<Window>,
}

#[derive(Clone, Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// These bytes of the file, if all of them are here.
    fn get(&self, start: u64, length: usize) -> Option<&[u8]> {
        let at = usize::try_from(start.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..at.checked_add(length)?)
    }
}

impl<R: ReadAt> ReadAhead<R> {
    pub(super) fn new(file: R) -> Self {
        Self {
            file,
            window: RefCell::default(),
        }
    }
}

impl<R: ReadAt> ReadAt for ReadAhead<R> {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        let found = self.read_into(range.start, &mut bytes)?;
        bytes.truncate(found);
        Ok(bytes)
    }

    fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<usize, WeightsError> {
        if bytes.len() >= AHEAD {
            return self.file.read_into(start, bytes);
        }
        let window = &mut *self.window.borrow_mut();
        if window.get(start, bytes.len()).is_none() {
            let rest = self.file.size().saturating_sub(start);
            window.bytes.resize(rest.min(AHEAD as u64) as usize, 0);
            // Nothing is here until it has been read.
            window.start = u64::MAX;
            let found = self.file.read_into(start, &mut window.bytes)?;
            window.bytes.truncate(found);
            window.start = start;
        }
        // Where the file has become shorter, what there is: who asked compares lengths.
        let found = window.get(start, bytes.len()).unwrap_or(&window.bytes);
        bytes[..found.len()].copy_from_slice(found);
        Ok(found.len())
    }
}
