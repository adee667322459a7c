//! Reading ahead: most tensors of a model are small, and to ask a browser for each takes longer than its bytes do.

use std::cell::RefCell;
use std::ops::Range;

use crate::WeightsError;
use crate::tensors::ReadAt;

/// Bytes that are read at once where fewer are asked for.
const AHEAD: u64 = 8 << 20;

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
    fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let at = |place: u64| usize::try_from(place.checked_sub(self.start)?).ok();
        self.bytes.get(at(range.start)?..at(range.end)?)
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
        let mut window = self.window.borrow_mut();
        if let Some(bytes) = window.get(&range) {
            return Ok(bytes.to_vec());
        }
        if range.end.saturating_sub(range.start) >= AHEAD {
            return self.file.read_at(range);
        }
        let end = self.file.size().min(range.start.saturating_add(AHEAD));
        *window = Window {
            start: range.start,
            bytes: self.file.read_at(range.start..end)?,
        };
        // Where the file has become shorter, what there is: who asked compares lengths.
        let bytes = window.get(&range).unwrap_or(&window.bytes);
        Ok(bytes.to_vec())
    }
}
