//! The file in one answer, where ranges do not work. It too is cut into chunks and journalled, so that an answer that
//! breaks off loses one chunk's bytes; those that are here already come again, but are not written again.

use super::Reason;
use super::attempts::{Fault, Stop};
use super::run::Run;
use crate::{Body as _, Clock, Fetch, HubError, Store};

impl<F: Fetch, C: Clock, S: Store> Run<'_, F, C, S> {
    /// Fetches the file as a whole, however often it takes.
    pub(super) async fn fetch_whole(&self) -> Result<(), Stop> {
        let mut failures = 0;
        loop {
            let before = self.done.borrow().len();
            let mut chunk = Vec::new();
            let result = self.try_whole(&mut chunk).await;
            self.landed(chunk.len() as u64);
            let fault = match result {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if self.done.borrow().len() > before {
                failures = 0;
            }
            self.tries.after(fault, &mut failures).await?;
        }
    }

    /// One answer. `chunk` is left with the bytes that have come of an unfinished chunk.
    async fn try_whole(&self, chunk: &mut Vec<u8>) -> Result<(), Fault> {
        let mut response = self.tries.get(None).await?;
        if response.status != 200 {
            let text = format!("it answered with status {}, without a range", response.status);
            return Err(Fault::again(Reason::Reply, text));
        }
        self.same_file(&response, response.content_length)?;
        let mut index = 0;
        while let Some(piece) = self.tries.race(response.body.next()).await? {
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let Some(range) = self.range_of(index) else {
                    let expected = self.size.get().unwrap_or(0);
                    return Err(self.longer(expected, expected + rest.len() as u64));
                };
                let missing = (range.end - range.start).saturating_sub(chunk.len() as u64);
                let count = usize::try_from(missing).map_or(rest.len(), |missing| missing.min(rest.len()));
                let (front, after) = rest.split_at(count);
                chunk.extend_from_slice(front);
                self.came(front.len() as u64);
                if front.len() as u64 == missing {
                    self.finish_chunk(index, chunk).await?;
                    index += 1;
                }
                rest = after;
            }
        }
        let came = index.saturating_mul(self.chunk_bytes) + chunk.len() as u64;
        match self.size.get() {
            // `index` stands behind the last chunk, which may be a short one.
            Some(size) if index < size.div_ceil(self.chunk_bytes) => {
                let text = format!("the answer broke off after {came} of {size} bytes");
                Err(Fault::again(Reason::Network, text))
            }
            Some(_) => Ok(()),
            // Nobody said how long it is: an answer that ended in order is taken for all of it.
            None => {
                self.size.set(Some(came));
                if chunk.is_empty() {
                    Ok(())
                } else {
                    self.finish_chunk(index, chunk).await
                }
            }
        }
    }

    /// Keeps a chunk, unless it is here, and empties the buffer.
    async fn finish_chunk(&self, index: u64, chunk: &mut Vec<u8>) -> Result<(), Fault> {
        let sha256 = self.check_chunk(index, chunk)?;
        if self.done.borrow().get(&index) != Some(&sha256) {
            self.keep(index, chunk, sha256).await?;
        }
        self.landed(chunk.len() as u64);
        chunk.clear();
        Ok(())
    }

    fn longer(&self, expected: u64, found: u64) -> Fault {
        if self.wanted.size.is_some() {
            let url = self.url.clone();
            HubError::Size { url, expected, found }.into()
        } else {
            Stop::Changed.into()
        }
    }
}
