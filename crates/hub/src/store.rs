//! What a download needs of its storage.

use std::future::Future;
use std::ops::Range;

use lorahub_weights::Append;

use crate::{HubError, Sha256, Source};

/// What a download in progress is kept under: 64 hexadecimal digits, of the file's hash where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Sha256);

impl Key {
    /// The key of a file, by its hash or, without one, by its source.
    pub fn of(source: &Source, sha256: Option<Sha256>) -> Self {
        Self(sha256.unwrap_or_else(|| Sha256::of(source.to_string().as_bytes())))
    }

    /// The key of a text of the caller's own.
    pub fn of_text(text: &str) -> Self {
        Self(Sha256::of(text.as_bytes()))
    }

    /// A key by its digits; `None` if `text` is no key.
    pub fn from_hex(text: &str) -> Option<Self> {
        Sha256::from_hex(text).map(Self)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole file that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    /// Its hash, and its name.
    pub sha256: Sha256,
    /// Its bytes.
    pub size: u64,
}

/// Keeps whole files by their hash, downloads in progress with their journals, and small records.
///
/// A part is not a file: only [`commit`](Self::commit) makes it one, and only a download whose hash was verified calls
/// that. Nothing may be taken for complete because it exists.
///
/// Every method fails with [`HubError::Store`]; reading what is not there with [`HubError::NotKept`].
pub trait Store {
    /// Held while a file is downloaded; dropping it lets others go on.
    type Lock;
    /// Writes a part without a wait in between.
    type Writer: Append;

    /// Locks a key against other tabs and processes, or fails at once with [`HubError::Busy`].
    fn lock(&self, key: Key) -> impl Future<Output = Result<Self::Lock, HubError>>;

    /// Bytes that can still be kept; `None` if nobody knows.
    fn free(&self) -> impl Future<Output = Result<Option<u64>, HubError>>;

    /// The journal of a download in progress; empty if there is none.
    fn journal(&self, key: Key) -> impl Future<Output = Result<Vec<u8>, HubError>>;

    /// Appends to the journal. It is stored before any later write to the part is.
    fn append_journal(&self, key: Key, bytes: &[u8]) -> impl Future<Output = Result<(), HubError>>;

    /// Writes bytes of a part at an offset, which may be behind its present end.
    fn write_part(&self, key: Key, offset: u64, bytes: &[u8]) -> impl Future<Output = Result<(), HubError>>;

    /// Whether there is a [`writer`](Self::writer): a store whose every write is a wait has none.
    fn has_writer(&self) -> bool {
        true
    }

    /// Writes a part from its start to its end, while its lock is held. Dropping the writer closes it.
    fn writer(&self, key: Key) -> impl Future<Output = Result<Self::Writer, HubError>>;

    /// Reads bytes of a part; fewer than asked for if it ends before.
    fn read_part(&self, key: Key, range: Range<u64>) -> impl Future<Output = Result<Vec<u8>, HubError>>;

    /// Removes a part and its journal, if they are there.
    fn discard(&self, key: Key) -> impl Future<Output = Result<(), HubError>>;

    /// Makes a part of `size` bytes the file of that hash, and removes the journal.
    fn commit(&self, key: Key, size: u64, sha256: Sha256) -> impl Future<Output = Result<(), HubError>>;

    /// The downloads in progress.
    fn parts(&self) -> impl Future<Output = Result<Vec<Key>, HubError>>;

    /// The size of a kept file; `None` if it is not kept.
    fn size(&self, sha256: Sha256) -> impl Future<Output = Result<Option<u64>, HubError>>;

    /// Reads bytes of a kept file; fewer than asked for if it ends before.
    fn read(&self, sha256: Sha256, range: Range<u64>) -> impl Future<Output = Result<Vec<u8>, HubError>>;

    /// The hash of bytes of a kept file; of fewer than asked for if it ends before.
    fn hash(&self, sha256: Sha256, range: Range<u64>) -> impl Future<Output = Result<Sha256, HubError>> {
        async move { Ok(Sha256::of(&self.read(sha256, range).await?)) }
    }

    /// The kept files, sorted.
    fn list(&self) -> impl Future<Output = Result<Vec<Stored>, HubError>>;

    /// Removes a kept file, if it is there.
    fn delete(&self, sha256: Sha256) -> impl Future<Output = Result<(), HubError>>;

    /// Removes everything: kept files, downloads in progress, records.
    fn delete_all(&self) -> impl Future<Output = Result<(), HubError>>;

    /// A small record, such as a resolved commit or a file's hash at its first download.
    fn record(&self, key: Key) -> impl Future<Output = Result<Option<Vec<u8>>, HubError>>;

    /// Writes a record, all of it or nothing.
    fn put_record(&self, key: Key, bytes: &[u8]) -> impl Future<Output = Result<(), HubError>>;

    /// Removes a record, if it is there.
    fn remove_record(&self, key: Key) -> impl Future<Output = Result<(), HubError>>;

    /// Reads a kept file from its start to its end and compares its hash.
    ///
    /// # Errors
    /// [`HubError::NotKept`], or [`HubError::Corrupt`] with the hash of what is there.
    fn verify(&self, sha256: Sha256) -> impl Future<Output = Result<u64, HubError>> {
        async move {
            let size = self.size(sha256).await?.ok_or(HubError::NotKept { sha256 })?;
            let mut hasher = crate::Hasher::default();
            let mut at = 0;
            while at < size {
                let bytes = self.read(sha256, at..size.min(at + READ_BYTES)).await?;
                if bytes.is_empty() {
                    break;
                }
                at += bytes.len() as u64;
                hasher.update(&bytes);
            }
            let found = hasher.finish();
            if found == sha256 {
                Ok(size)
            } else {
                Err(HubError::Corrupt {
                    expected: sha256,
                    found,
                })
            }
        }
    }
}

/// How much is read at once to be hashed.
pub(crate) const READ_BYTES: u64 = 4 << 20;
