//! One file's download: what its requests share, what is known of the file, and what is here of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use super::attempts::{Attempts, Fault, Stop};
use super::progress::Meter;
use super::{Cancel, Downloader, Progress, Reason, Wanted};
use crate::digest::BlobHasher;
use crate::journal::{self, Head, JOURNAL_VERSION};
use crate::store::READ_BYTES;
use crate::{Chunks, Clock, Fetch, GitBlob, Hasher, HubError, Key, Response, Sha256, Store, Stored};

/// The largest file that is fetched: flan-t5-xxl has 45 GB. The list of a file's chunks is kept in memory.
const FILE_BYTES: u64 = 1 << 36;

/// One file's download.
pub(super) struct Run<'r, F, C, S> {
    pub(super) tries: Attempts<'r, F, C, S>,
    pub(super) wanted: &'r Wanted,
    key: Key,
    pub(super) url: String,
    /// The file's bytes, once known.
    pub(super) size: Cell<Option<u64>>,
    pub(super) chunk_bytes: u64,
    /// The chunks that are here, each with its hash.
    pub(super) done: RefCell<BTreeMap<u64, Sha256>>,
    etag: RefCell<Option<String>>,
    /// Whether the journal has its head.
    has_head: Cell<bool>,
    /// Bytes that have come of chunks that are not done.
    in_flight: Cell<u64>,
    fetched: Cell<u64>,
    meter: RefCell<Meter>,
    /// Whether a range has ever come.
    pub(super) ranges_work: Cell<bool>,
}

impl<'r, F: Fetch, C: Clock, S: Store> Run<'r, F, C, S> {
    pub(super) fn new(
        down: &'r Downloader<'r, F, C, S>,
        wanted: &'r Wanted,
        key: Key,
        cancel: &'r Cancel,
        progress: &'r dyn Fn(Progress),
    ) -> Self {
        let url = down.options.hub.url(&wanted.source);
        let given = wanted.chunks.as_ref().map(|chunks| chunks.bytes);
        Self {
            tries: Attempts::new(down, url.clone(), cancel, progress),
            wanted,
            key,
            url,
            size: Cell::new(wanted.size),
            chunk_bytes: given.unwrap_or(down.options.chunk_bytes).max(1),
            done: RefCell::default(),
            etag: RefCell::default(),
            has_head: Cell::new(false),
            in_flight: Cell::new(0),
            fetched: Cell::new(0),
            meter: RefCell::new(Meter::new(down.clock.now())),
            ranges_work: Cell::new(false),
        }
    }

    fn store(&self) -> &'r S {
        self.tries.down.store
    }

    pub(super) fn fetched(&self) -> u64 {
        self.fetched.get()
    }

    /// Gets every chunk into the part: those of an earlier session, the others by ranges, or all as a whole.
    pub(super) async fn fetch_all(&self) -> Result<(), Stop> {
        self.resume().await?;
        self.fetch_missing().await
    }

    async fn fetch_missing(&self) -> Result<(), Stop> {
        self.check_size(self.size.get())?;
        self.check_quota().await?;
        match self.fetch_ranges().await {
            Err(Stop::NoRanges(_)) => {
                self.tries.say(Progress::Whole);
                self.fetch_whole().await
            }
            result => result,
        }
    }

    /// Takes over what an earlier session has left, as far as it proves right.
    async fn resume(&self) -> Result<(), HubError> {
        let bytes = self.store().journal(self.key).await?;
        let Some((head, chunks)) = journal::read(&bytes) else {
            return self.store().discard(self.key).await;
        };
        let same_size = self.wanted.size.is_none() || head.size.is_none() || self.wanted.size == head.size;
        if head.version != JOURNAL_VERSION || head.chunk_bytes != self.chunk_bytes || !same_size {
            return self.store().discard(self.key).await;
        }
        self.has_head.set(true);
        self.size.set(self.wanted.size.or(head.size));
        self.etag.replace(head.etag);
        let length = |index| self.range_of(index).map_or(0, |range| range.end - range.start);
        let total = chunks.keys().map(|index| length(*index)).fold(0, u64::saturating_add);
        let mut hashed = 0;
        for (index, sha256) in chunks {
            self.tries.check_cancel()?;
            let Some(range) = self.range_of(index) else { continue };
            hashed += range.end - range.start;
            let bytes = self.store().read_part(self.key, range).await?;
            if Sha256::of(&bytes) == sha256 && self.chunk_hash(index).is_none_or(|known| known == sha256) {
                self.done.borrow_mut().insert(index, sha256);
            }
            self.tries.say(Progress::Checking { done: hashed, total });
        }
        Ok(())
    }

    fn check_size(&self, size: Option<u64>) -> Result<(), HubError> {
        match size {
            Some(found) if found > FILE_BYTES => Err(HubError::TooLarge {
                url: self.url.clone(),
                found,
                limit: FILE_BYTES,
            }),
            _ => Ok(()),
        }
    }

    async fn check_quota(&self) -> Result<(), HubError> {
        let needed = match self.size.get() {
            Some(size) => size.saturating_sub(self.done_bytes()),
            // One chunk at a time, then.
            None => self.chunk_bytes,
        };
        match self.store().free().await? {
            Some(free) if free < needed => Err(HubError::Quota { needed, free }),
            _ => Ok(()),
        }
    }

    /// The bytes of a chunk; `None` if it is behind the file's end.
    pub(super) fn range_of(&self, index: u64) -> Option<Range<u64>> {
        let start = index.checked_mul(self.chunk_bytes)?;
        let end = start.checked_add(self.chunk_bytes)?;
        let end = self.size.get().map_or(end, |size| size.min(end));
        (start < end).then_some(start..end)
    }

    /// The chunks of a file of known size that are not here.
    pub(super) fn missing(&self) -> Vec<u64> {
        let count = self.size.get().unwrap_or(0).div_ceil(self.chunk_bytes);
        let done = self.done.borrow();
        (0..count).filter(|index| !done.contains_key(index)).collect()
    }

    /// The hash that the manifest gives a chunk.
    pub(super) fn chunk_hash(&self, index: u64) -> Option<Sha256> {
        let hashes = &self.wanted.chunks.as_ref()?.sha256;
        hashes.get(usize::try_from(index).ok()?).copied()
    }

    fn done_bytes(&self) -> u64 {
        let done = self.done.borrow();
        let ranges = done.keys().filter_map(|index| self.range_of(*index));
        ranges.map(|range| range.end - range.start).sum()
    }

    /// Compares what an answer says of the file with what is known. `total` is its size by the answer.
    pub(super) fn same_file(&self, response: &Response<F::Body>, total: Option<u64>) -> Result<(), Stop> {
        if let (Some(expected), Some(found)) = (self.wanted.size, total)
            && expected != found
        {
            let url = self.url.clone();
            return Err(HubError::Size { url, expected, found }.into());
        }
        self.check_size(total)?;
        match (self.size.get(), total) {
            (Some(before), Some(now)) if before != now => return Err(Stop::Changed),
            (None, Some(_)) => self.size.set(total),
            _ => {}
        }
        // With a known hash the hash decides: mirrors and caches name the same content differently.
        if self.wanted.sha256.is_none()
            && let Some(now) = &response.etag
        {
            let mut etag = self.etag.borrow_mut();
            match etag.as_ref() {
                Some(before) if before != now => return Err(Stop::Changed),
                Some(_) => {}
                None => *etag = Some(now.clone()),
            }
        }
        Ok(())
    }

    /// Counts bytes that have come of a chunk.
    pub(super) fn came(&self, bytes: u64) {
        self.fetched.set(self.fetched.get() + bytes);
        self.in_flight.set(self.in_flight.get() + bytes);
        if self.meter.borrow_mut().count(bytes, self.tries.now()) {
            self.say_bytes();
        }
    }

    /// Takes back what [`came`](Self::came) counted: the chunk is done, or lost.
    pub(super) fn landed(&self, bytes: u64) {
        self.in_flight.set(self.in_flight.get().saturating_sub(bytes));
    }

    fn say_bytes(&self) {
        let done = self.done_bytes() + self.in_flight.get();
        let done = self.size.get().map_or(done, |size| done.min(size));
        self.tries.say(self.meter.borrow().progress(done, self.size.get()));
    }

    /// The hash of a chunk that has come, or the fault if the manifest knows another.
    pub(super) fn check_chunk(&self, index: u64, bytes: &[u8]) -> Result<Sha256, Fault> {
        let found = Sha256::of(bytes);
        match self.chunk_hash(index) {
            Some(expected) if expected != found => {
                let start = index.saturating_mul(self.chunk_bytes);
                let end = (
                    self.tries.down.options.attempts,
                    HubError::ChunkDigest {
                        url: self.url.clone(),
                        start,
                        end: start + bytes.len() as u64,
                        expected,
                        found,
                    }
                    .into(),
                );
                Err(Fault::ending(Reason::Hash, "its bytes have another hash", Some(end)))
            }
            _ => Ok(found),
        }
    }

    /// Keeps a chunk: its line in the journal, then its bytes.
    pub(super) async fn keep(&self, index: u64, bytes: &[u8], sha256: Sha256) -> Result<(), HubError> {
        if self.size.get().is_none() {
            self.check_quota().await?;
        }
        if !self.has_head.get() {
            let head = Head {
                version: JOURNAL_VERSION,
                size: self.size.get(),
                chunk_bytes: self.chunk_bytes,
                etag: self.etag.borrow().clone(),
            };
            self.store()
                .append_journal(self.key, &journal::head_line(&head))
                .await?;
            self.has_head.set(true);
        }
        self.store()
            .append_journal(self.key, &journal::chunk_line(index, sha256))
            .await?;
        self.store()
            .write_part(self.key, index.saturating_mul(self.chunk_bytes), bytes)
            .await?;
        self.done.borrow_mut().insert(index, sha256);
        Ok(())
    }

    /// The hashes of the whole file's chunks.
    pub(super) fn chunks(&self) -> Chunks {
        Chunks {
            bytes: self.chunk_bytes,
            sha256: self.done.borrow().values().copied().collect(),
        }
    }

    /// Hashes the whole part from what the storage has. Chunks that the storage has lost are fetched again, once; a
    /// file with another hash is removed.
    pub(super) async fn verify(&self, expected: Option<Sha256>) -> Result<Stored, HubError> {
        let size = self.size.get().unwrap_or(0);
        for last in [false, true] {
            let (found, found_blob) = self.hash_part(size).await?;
            let right = expected.is_none_or(|expected| expected == found);
            let blob = self
                .wanted
                .blob
                .zip(found_blob)
                .filter(|(expected, found)| expected != found);
            // Nobody else vouches for a file without known hash: its chunks must be what came.
            let broken = if right && expected.is_some() {
                Vec::new()
            } else {
                self.broken_chunks().await?
            };
            if right && broken.is_empty() && blob.is_none() {
                return Ok(Stored { sha256: found, size });
            }
            if last || broken.is_empty() {
                self.store().discard(self.key).await?;
                let url = self.url.clone();
                return Err(match blob {
                    Some((expected, found)) => HubError::BlobDigest { url, expected, found },
                    None => HubError::Digest {
                        url,
                        expected: expected.unwrap_or(found),
                        found,
                    },
                });
            }
            self.done.borrow_mut().retain(|index, _| !broken.contains(index));
            match self.fetch_missing().await {
                Ok(()) => {}
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Changed | Stop::NoRanges(_)) => {
                    let url = self.url.clone();
                    return Err(HubError::Changed { url });
                }
            }
        }
        Err(HubError::Changed { url: self.url.clone() })
    }

    /// The part's hash, and what git calls it where that is to be looked at.
    async fn hash_part(&self, size: u64) -> Result<(Sha256, Option<GitBlob>), HubError> {
        let mut hasher = Hasher::default();
        let by_blob = self.wanted.blob.is_some() && self.wanted.sha256.is_none();
        let mut blob_hasher = by_blob.then(|| BlobHasher::new(size));
        let mut at = 0;
        while at < size {
            self.tries.check_cancel()?;
            let bytes = self.store().read_part(self.key, at..size.min(at + READ_BYTES)).await?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            if let Some(blob_hasher) = &mut blob_hasher {
                blob_hasher.update(&bytes);
            }
            at += bytes.len() as u64;
            self.tries.say(Progress::Verifying { done: at, total: size });
        }
        Ok((hasher.finish(), blob_hasher.map(BlobHasher::finish)))
    }

    /// The chunks that the storage no longer has as they came.
    async fn broken_chunks(&self) -> Result<Vec<u64>, HubError> {
        let done = self.done.borrow().clone();
        let mut broken = Vec::new();
        for (index, sha256) in done {
            self.tries.check_cancel()?;
            let Some(range) = self.range_of(index) else { continue };
            let bytes = self.store().read_part(self.key, range).await?;
            if Sha256::of(&bytes) != sha256 {
                broken.push(index);
            }
        }
        Ok(broken)
    }
}
