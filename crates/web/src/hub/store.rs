//! The store in a browser: in its own file system, or where it gives pages none, as in some private windows, in its cache.
//!
//! `parts/KEY` downloads, `parts/KEY.journal` the journals of those in progress; `files/HASH` says which part is the whole
//! file of that hash; `records/KEY` records. A part is whole if a file of `files` names it and it has no journal. What is
//! in one of the two is not looked for in the other.

use std::ops::Range;

use futures_util::FutureExt as _;
use lorahub_hub::{HubError, Key, Sha256, Store, Stored};
use web_sys::Blob;

use super::Direct;
use super::cache::{self, Cached};
use super::opfs::{Opfs, PartWriter};
use super::site::{self, Held, bytes_of, failed, hash_of};

pub(super) const PARTS: &str = "parts";
pub(super) const FILES: &str = "files";
pub(super) const RECORDS: &str = "records";
const JOURNAL: &str = ".journal";

/// A [`Store`] in the browser.
pub(crate) enum BrowserStore {
    /// In its file system.
    Files(Opfs),
    /// In its cache.
    Cache(Cached),
}

/// The same of whichever there is; in a box, or else each place that waits for it would hold the code of both.
macro_rules! of_either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Files(place) => place.$method($($argument),*).boxed_local(),
            Self::Cache(place) => place.$method($($argument),*).boxed_local(),
        }
        .await
    };
}

impl BrowserStore {
    /// Opens the store, which is made if it is not there.
    ///
    /// # Errors
    /// [`HubError::Store`] where the browser gives neither.
    pub(crate) async fn open() -> Result<Self, HubError> {
        let no_files = match Opfs::open().await {
            Ok(place) => return Ok(Self::Files(place)),
            Err(reason) => reason,
        };
        let opened = Cached::open().await.map(Self::Cache);
        opened.map_err(|no_cache| HubError::Store {
            action: "be opened",
            reason: format!("no file system: {no_files}; no cache: {no_cache}"),
        })
    }

    /// A kept file as a `Blob`, which reads its bytes when they are asked for.
    ///
    /// # Errors
    /// [`HubError::NotKept`], also of a file that has lost some of its bytes, which is then deleted; [`HubError::Store`].
    pub(crate) async fn blob(&self, sha256: Sha256) -> Result<Blob, HubError> {
        let (key, size) = self.kept(sha256).await?;
        if let Self::Cache(place) = self {
            // What is deleted below is judged by what is there now.
            place.look_again();
        }
        let blob = self.slice(key, 0..u64::MAX).await?;
        match blob {
            Some(blob) if blob.size() == size as f64 => Ok(blob),
            _ => {
                self.delete(sha256).await?;
                Err(HubError::NotKept { sha256 })
            }
        }
    }

    /// A kept file, opened to be read into the program's own memory; `None` where there is no file, or another tab is in
    /// the way, and then there is [`blob`](Self::blob).
    ///
    /// # Errors
    /// [`HubError::NotKept`] and [`HubError::Store`].
    pub(crate) async fn direct(&self, sha256: Sha256) -> Result<Option<Direct>, HubError> {
        let Self::Files(place) = self else { return Ok(None) };
        let (key, _) = self.kept(sha256).await?;
        place.direct(&part(key)).await.map_err(failed("be read"))
    }

    /// The part that is the whole file of this hash, and its size.
    async fn whole(&self, sha256: Sha256) -> Result<Option<(Key, u64)>, HubError> {
        let Some(named) = self.content(&file(sha256)).await?.as_deref().and_then(named_part) else {
            return Ok(None);
        };
        let journal = journal(named.0);
        let in_progress = of_either!(self.exists(&journal)).map_err(failed("be read"))?;
        Ok((!in_progress).then_some(named))
    }

    async fn kept(&self, sha256: Sha256) -> Result<(Key, u64), HubError> {
        self.whole(sha256).await?.ok_or(HubError::NotKept { sha256 })
    }

    /// All bytes of a small file.
    async fn content(&self, path: &str) -> Result<Option<Vec<u8>>, HubError> {
        of_either!(self.read(path)).map_err(failed("be read"))
    }

    async fn slice(&self, key: Key, range: Range<u64>) -> Result<Option<Blob>, HubError> {
        let path = part(key);
        of_either!(self.slice(&path, range)).map_err(failed("be read"))
    }

    async fn kept_slice(&self, sha256: Sha256, range: Range<u64>) -> Result<Blob, HubError> {
        let (key, _) = self.kept(sha256).await?;
        self.slice(key, range).await?.ok_or(HubError::NotKept { sha256 })
    }

    async fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), HubError> {
        of_either!(self.replace(path, bytes)).map_err(failed("be written"))
    }

    async fn remove(&self, path: &str) -> Result<(), HubError> {
        of_either!(self.remove(path)).map_err(failed("delete a file"))
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, HubError> {
        of_either!(self.names(folder)).map_err(failed("be listed"))
    }
}

fn part(key: Key) -> String {
    format!("{PARTS}/{key}")
}

fn journal(key: Key) -> String {
    format!("{PARTS}/{key}{JOURNAL}")
}

fn file(sha256: Sha256) -> String {
    format!("{FILES}/{sha256}")
}

fn record(key: Key) -> String {
    format!("{RECORDS}/{key}")
}

/// What a file of `files` says. A line that a crash cut short names no part.
fn named_part(bytes: &[u8]) -> Option<(Key, u64)> {
    let (key, size) = str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
    Some((Key::from_hex(key)?, size.parse().ok()?))
}

impl Store for BrowserStore {
    type Lock = Held;
    type Writer = PartWriter;

    async fn lock(&self, key: Key) -> Result<Held, HubError> {
        match self {
            Self::Files(place) => {
                let open = place.opened();
                let close = move || [part(key), journal(key)].iter().for_each(|path| open.close(path));
                site::lock(key, Some(Box::new(close))).await
            }
            Self::Cache(place) => {
                let held = site::lock(key, None).await?;
                place.take_over(&journal(key));
                Ok(held)
            }
        }
    }

    async fn free(&self) -> Result<Option<u64>, HubError> {
        site::free().await
    }

    async fn journal(&self, key: Key) -> Result<Vec<u8>, HubError> {
        Ok(self.content(&journal(key)).await?.unwrap_or_default())
    }

    async fn append_journal(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        let path = journal(key);
        of_either!(self.append(&path, bytes)).map_err(failed("write a journal"))
    }

    async fn write_part(&self, key: Key, offset: u64, bytes: &[u8]) -> Result<(), HubError> {
        let path = part(key);
        of_either!(self.write_at(&path, offset, bytes)).map_err(failed("write a download"))
    }

    fn has_writer(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    async fn writer(&self, key: Key) -> Result<PartWriter, HubError> {
        match self {
            Self::Files(place) => place.writer(&part(key)).await.map_err(failed("write a part")),
            Self::Cache(_) => Err(HubError::Store {
                action: "write a part at once",
                reason: "every write to the browser's cache is a wait".to_owned(),
            }),
        }
    }

    async fn read_part(&self, key: Key, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let path = part(key);
        of_either!(self.read_at(&path, range)).map_err(failed("read a download"))
    }

    async fn discard(&self, key: Key) -> Result<(), HubError> {
        // The journal last: a part without one could be taken for whole.
        self.remove(&part(key)).await?;
        self.remove(&journal(key)).await
    }

    async fn commit(&self, key: Key, size: u64, sha256: Sha256) -> Result<(), HubError> {
        // The same content from another source is kept already.
        if let Some((other, _)) = self.whole(sha256).await?
            && other != key
        {
            return self.discard(key).await;
        }
        if let Self::Files(place) = self {
            place.finish(&part(key), size).await.map_err(failed("keep a file"))?;
        }
        self.replace(&file(sha256), format!("{key} {size}\n").as_bytes())
            .await?;
        self.remove(&journal(key)).await
    }

    async fn parts(&self) -> Result<Vec<Key>, HubError> {
        let names = self.names(PARTS).await?;
        let keys = names
            .iter()
            .filter_map(|name| Key::from_hex(name.strip_suffix(JOURNAL)?));
        Ok(keys.collect())
    }

    async fn size(&self, sha256: Sha256) -> Result<Option<u64>, HubError> {
        let Some((key, size)) = self.whole(sha256).await? else {
            return Ok(None);
        };
        let path = part(key);
        let length = of_either!(self.length(&path)).map_err(failed("be read"))?;
        Ok(length.filter(|length| *length == size))
    }

    async fn read(&self, sha256: Sha256, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let blob = self.kept_slice(sha256, range).await?;
        bytes_of(&blob).await.map_err(failed("read a file"))
    }

    async fn hash(&self, sha256: Sha256, range: Range<u64>) -> Result<Sha256, HubError> {
        let blob = self.kept_slice(sha256, range).await?;
        hash_of(&blob).await.map_err(failed("read a file"))
    }

    async fn list(&self) -> Result<Vec<Stored>, HubError> {
        let mut stored = Vec::new();
        for name in self.names(FILES).await? {
            let Some(sha256) = Sha256::from_hex(&name) else {
                continue;
            };
            if let Some(size) = self.size(sha256).await? {
                stored.push(Stored { sha256, size });
            }
        }
        Ok(stored)
    }

    async fn delete(&self, sha256: Sha256) -> Result<(), HubError> {
        let whole = self.whole(sha256).await?;
        self.remove(&file(sha256)).await?;
        match whole {
            Some((key, _)) => self.remove(&part(key)).await,
            None => Ok(()),
        }
    }

    async fn delete_all(&self) -> Result<(), HubError> {
        // Files first: a part that no file names is never taken for whole.
        for folder in [FILES, PARTS, RECORDS] {
            for name in self.names(folder).await? {
                self.remove(&format!("{folder}/{name}")).await?;
            }
        }
        if let Self::Files(_) = self {
            // What was kept there when the browser gave no file system.
            cache::forget().await;
        }
        Ok(())
    }

    async fn record(&self, key: Key) -> Result<Option<Vec<u8>>, HubError> {
        let Some(content) = self.content(&record(key)).await? else {
            return Ok(None);
        };
        match content.split_at_checked(HASH) {
            Some((hash, record)) if Sha256::of(record).to_string().as_bytes() == hash => Ok(Some(record.to_vec())),
            _ => Err(HubError::Store {
                action: "read a record",
                reason: "it was cut short".to_owned(),
            }),
        }
    }

    async fn put_record(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        // Its hash in front, by which a half is noticed.
        let mut content = Sha256::of(bytes).to_string().into_bytes();
        content.extend_from_slice(bytes);
        self.replace(&record(key), &content).await
    }

    async fn remove_record(&self, key: Key) -> Result<(), HubError> {
        self.remove(&record(key)).await
    }
}

/// Digits of a hash.
const HASH: usize = 64;
