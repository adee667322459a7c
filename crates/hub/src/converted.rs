//! Converted weights that are kept: made once from a base's files for one storage, and read at every later opening.
//!
//! They are files of the store like any other, named by their hash and listed in the catalogue with their base; what they
//! are made of and how is [`lorahub_weights::ConvertedTensors`]'s.

use lorahub_weights::quant::WeightStorage;
use lorahub_weights::{Append, CONVERTED_VERSION, WeightsError};
use serde::{Deserialize, Serialize};

use crate::sample::{delete_kept, keep_chunks};
use crate::{Catalogue, Chunks, Clock, Hasher, HubError, Kept, Key, Kind, Sha256, Store, Stored};

/// Bytes of a chunk that is sampled later.
const CHUNK_BYTES: u64 = 4 << 20;

/// Weights of a base in the form of one storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// For which storage.
    pub storage: WeightStorage,
    /// The version of their format.
    pub version: u32,
    /// The hash of the weights that they were made of: `BaseForm::sha256`.
    pub source: String,
    /// Their content in the store.
    #[serde(flatten)]
    pub stored: Stored,
}

impl Converted {
    /// Whether conversion for this storage is worth keeping. Wider storages are not: to widen what a file holds takes
    /// less time than to read the wider numbers.
    pub fn is_kept_for(storage: WeightStorage) -> bool {
        matches!(storage, WeightStorage::F16 | WeightStorage::Q8 | WeightStorage::Q4)
    }
}

impl Kept {
    /// The converted weights of a base, if there are any of this source for this storage, in the format that is read.
    pub fn converted(&self, source: &str, storage: WeightStorage) -> Option<Stored> {
        let fits =
            |one: &&Converted| one.storage == storage && one.version == CONVERTED_VERSION && one.source == source;
        self.converted.iter().find(fits).map(|one| one.stored)
    }
}

/// Hashes what it passes on, as a whole and by chunks.
pub struct Hashing<W> {
    inner: W,
    whole: Hasher,
    chunk: Hasher,
    /// Bytes in `chunk`.
    filled: u64,
    chunks: Vec<Sha256>,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            whole: Hasher::default(),
            chunk: Hasher::default(),
            filled: 0,
            chunks: Vec::new(),
            size: 0,
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(std::mem::take(&mut self.chunk).finish());
        self.filled = 0;
    }
}

impl<W: Append> Append for Hashing<W> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.inner.append(bytes)?;
        self.whole.update(bytes);
        self.size += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(CHUNK_BYTES - self.filled).map_or(rest.len(), |room| room.min(rest.len()));
            let (front, behind) = rest.split_at(room);
            self.chunk.update(front);
            self.filled += front.len() as u64;
            rest = behind;
            if self.filled == CHUNK_BYTES {
                self.end_chunk();
            }
        }
        Ok(())
    }
}

/// A conversion under way.
pub struct Conversion<'s, S: Store> {
    store: &'s S,
    /// Held so that no other tab or process writes the same file.
    _lock: S::Lock,
    key: Key,
    base: String,
    storage: WeightStorage,
    source: String,
}

impl<'s, S: Store> Conversion<'s, S> {
    /// Begins to keep what is converted from a base's weights, which have this hash; it is written to what comes with it.
    ///
    /// # Errors
    /// [`HubError::Busy`] if another tab or process is at it, and [`HubError::Store`].
    pub async fn begin(
        store: &'s S,
        base: &str,
        source: &str,
        storage: WeightStorage,
    ) -> Result<(Self, Hashing<S::Writer>), HubError> {
        // By content: what is written under one key is always the same, however often it is written.
        let name = storage.name();
        let key = Key::of_text(&format!("{source} converted for {name}, version {CONVERTED_VERSION}"));
        let lock = store.lock(key).await?;
        // What a broken-off conversion left is of no use: tensors come in one go.
        store.discard(key).await?;
        // With a journal it is a part that can be seen and removed, whatever happens now.
        store.append_journal(key, journal_of(base).as_bytes()).await?;
        let out = Hashing::new(store.writer(key).await?);
        let conversion = Self {
            store,
            _lock: lock,
            key,
            base: base.to_owned(),
            storage,
            source: source.to_owned(),
        };
        Ok((conversion, out))
    }

    /// Keeps the whole file with its base, in place of one for the same storage.
    ///
    /// # Errors
    /// [`HubError::NotKept`] if the base has been deleted meanwhile; [`HubError::Store`], [`HubError::Busy`].
    pub async fn keep<C: Clock>(self, clock: &C, mut written: Hashing<S::Writer>) -> Result<(), HubError> {
        if written.filled > 0 {
            written.end_chunk();
        }
        let sha256 = written.whole.finish();
        let size = written.size;
        // Some systems let a file be renamed only when nobody has it open.
        drop(written.inner);
        let chunks = Chunks {
            bytes: CHUNK_BYTES,
            sha256: written.chunks,
        };
        keep_chunks(self.store, sha256, &chunks).await?;
        self.store.commit(self.key, size, sha256).await?;
        let stored = Stored { sha256, size };
        let one = Converted {
            storage: self.storage,
            version: CONVERTED_VERSION,
            source: self.source,
            stored,
        };
        let (mut replaced, mut named) = (Vec::new(), false);
        Catalogue::change(self.store, clock, |catalogue| {
            let before = catalogue.hashes();
            named = catalogue.put_converted(&self.base, one);
            let after = catalogue.hashes();
            replaced = before.difference(&after).copied().collect();
            if !named && !after.contains(&sha256) {
                replaced.push(sha256);
            }
        })
        .await?;
        for old in replaced {
            delete_kept(self.store, old).await?;
        }
        if named {
            Ok(())
        } else {
            Err(HubError::NotKept { sha256 })
        }
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn give_up(self, written: Option<Hashing<S::Writer>>) -> Result<(), HubError> {
        drop(written);
        self.store.discard(self.key).await
    }
}

/// The journal of a conversion: whose it is.
fn journal_of(base: &str) -> String {
    format!("converting {base}\n")
}

/// Removes what broken-off conversions of a base have left.
///
/// # Errors
/// [`HubError::Store`].
pub async fn discard_conversions<S: Store>(store: &S, base: &str) -> Result<(), HubError> {
    for key in store.parts().await? {
        // A journal that another tab has open is not of a broken-off conversion.
        if store
            .journal(key)
            .await
            .is_ok_and(|journal| journal == journal_of(base).as_bytes())
        {
            store.discard(key).await?;
        }
    }
    Ok(())
}

impl Catalogue {
    /// Puts converted weights to a base, in place of those for the same storage; `false` if there is no such base.
    fn put_converted(&mut self, base: &str, one: Converted) -> bool {
        let Some(kept) = self.get_mut(Kind::Base, base) else {
            return false;
        };
        kept.converted.retain(|other| other.storage != one.storage);
        kept.converted.push(one);
        kept.converted.sort_by_key(|one| one.storage.name());
        true
    }
}
