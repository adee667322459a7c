//! Downloads: verified, resumable, patient.
//!
//! A file is fetched in chunks by ranges, a few at once; where ranges fail, as a whole. Each chunk's hash goes into the
//! journal before its bytes go into the part. When all are there, the part is read from its start and hashed; only if
//! that is the right hash does it become a file of the store.

mod attempts;
mod complete;
mod progress;
mod ranges;
mod run;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use complete::{Completed, Listing};
pub use progress::{Progress, Reason};

use crate::{
    Chunks, Clock, Commit, Fetch, FileEntry, GitBlob, Hub, HubError, Key, Repository, Sha256, Source, Store, Stored,
    api, keep_chunks,
};
use attempts::{Attempts, Stop};
use run::Run;

/// A file to be had, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub source: Source,
    /// Its bytes.
    pub size: Option<u64>,
    /// Its hash; without it, the first download is trusted and recorded.
    pub sha256: Option<Sha256>,
    /// The hashes of its parts.
    pub chunks: Option<Chunks>,
    /// What git calls its content; looked at where its hash is not known.
    pub blob: Option<GitBlob>,
}

impl Wanted {
    /// A manifest's file.
    pub fn new(source: Source, entry: &FileEntry) -> Self {
        Self {
            source,
            size: entry.size,
            sha256: entry.sha256,
            chunks: entry.chunks.clone(),
            blob: None,
        }
    }
}

/// How to download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The hub, or a mirror.
    pub hub: Hub,
    /// Bytes of one range, where the manifest's chunks do not say.
    pub chunk_bytes: u64,
    /// Ranges at once.
    pub parallel: usize,
    /// Tries without progress before giving up.
    pub attempts: u32,
    /// The longest first wait after a failure; it doubles with each.
    pub first_wait: Duration,
    /// The longest of those waits.
    pub longest_wait: Duration,
    /// The longest wait that a server may ask for.
    pub longest_retry_after: Duration,
    /// How long an answer may pause.
    pub stall: Duration,
    /// The seed of the waits' jitter.
    pub seed: u64,
}

impl Options {
    /// The defaults: 8 MiB, three at once, six tries.
    pub fn new(hub: Hub, seed: u64) -> Self {
        Self {
            hub,
            chunk_bytes: 8 << 20,
            parallel: 3,
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            longest_retry_after: Duration::from_secs(300),
            stall: Duration::from_secs(30),
            seed,
        }
    }
}

/// Cancels downloads. Copies cancel the same ones.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Cancels them.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether they are cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is recorded of a file at its first download.
#[derive(Serialize, Deserialize)]
struct FirstSeen {
    sha256: Sha256,
    size: u64,
}

/// Downloads files into a store.
#[derive(Clone, Debug)]
pub struct Downloader<'a, F, C, S> {
    fetch: &'a F,
    clock: &'a C,
    store: &'a S,
    options: Options,
}

impl<'a, F: Fetch, C: Clock, S> Downloader<'a, F, C, S> {
    /// A downloader; for the hub's answers alone, the store may be `&()`.
    pub fn new(fetch: &'a F, clock: &'a C, store: &'a S, options: Options) -> Self {
        Self {
            fetch,
            clock,
            store,
            options,
        }
    }

    /// The commit that a repository's `main` is now. To be shown; nothing uses it until it is recorded.
    ///
    /// # Errors
    /// [`HubError::Api`] for a strange answer, and what the network does wrong.
    pub async fn latest(&self, repository: &Repository, cancel: &Cancel) -> Result<Commit, HubError> {
        let url = api::revision_url(&self.options.hub, repository);
        api::revision_of(&self.answer(url, cancel).await?)
    }

    /// The files of a repository at a commit, with sizes and, of large files, hashes: to complete a manifest.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub async fn files_of(
        &self,
        repository: &Repository,
        commit: &Commit,
        cancel: &Cancel,
    ) -> Result<Vec<api::RemoteFile>, HubError> {
        let url = api::files_url(&self.options.hub, repository, commit);
        api::files_of(&self.answer(url, cancel).await?)
    }

    /// A small answer of the hub's API.
    async fn answer(&self, url: String, cancel: &Cancel) -> Result<Vec<u8>, HubError> {
        match Attempts::new(self, url, cancel, &|_| ()).answer().await {
            Ok(bytes) => Ok(bytes),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Changed) => Err(HubError::Api {
                reason: "it changes".to_owned(),
            }),
            Err(Stop::NoRanges(reason)) => Err(HubError::Api { reason }),
        }
    }
}

impl<F: Fetch, C: Clock, S: Store> Downloader<'_, F, C, S> {
    /// The file, if it is kept already: by the hash that is known of it, or that was recorded at its first download.
    ///
    /// Its size is compared, its content is not; [`Store::verify`] does that.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn kept(&self, wanted: &Wanted) -> Result<Option<Stored>, HubError> {
        let (sha256, expected) = match wanted.sha256 {
            Some(sha256) => (sha256, wanted.size),
            None => match self.first_seen(&wanted.source).await? {
                Some(FirstSeen { sha256, size }) => (sha256, Some(size)),
                None => return Ok(None),
            },
        };
        let size = self.store.size(sha256).await?;
        Ok(size
            .filter(|size| expected.is_none_or(|expected| expected == *size))
            .map(|size| Stored { sha256, size }))
    }

    /// Downloads a file, or goes on with it, unless it is kept already.
    ///
    /// `progress` is called often; it should only pass on what it is given.
    ///
    /// # Errors
    /// [`HubError::Cancelled`], [`HubError::Busy`], [`HubError::Quota`] before the first byte, and what the network,
    /// the hub or the storage does wrong. What has come is kept for the next time, unless its hash is wrong.
    pub async fn download(
        &self,
        wanted: &Wanted,
        cancel: &Cancel,
        progress: &dyn Fn(Progress),
    ) -> Result<Stored, HubError> {
        let key = Key::of(&wanted.source, wanted.sha256);
        let _lock = self.store.lock(key).await?;
        if let Some(stored) = self.kept(wanted).await? {
            progress(Progress::Kept { bytes: stored.size });
            return Ok(stored);
        }
        let expected = match wanted.sha256 {
            Some(sha256) => Some(sha256),
            None => self.first_seen(&wanted.source).await?.map(|seen| seen.sha256),
        };
        let mut restarted = false;
        loop {
            let run = Run::new(self, wanted, key, cancel, progress);
            match run.fetch_all().await {
                Ok(()) => {}
                Err(Stop::Error(error)) => return Err(error),
                // Half of one file and half of another is neither: all of it goes, and it starts again, once.
                Err(Stop::Changed) if !restarted => {
                    self.store.discard(key).await?;
                    restarted = true;
                    continue;
                }
                Err(Stop::Changed | Stop::NoRanges(_)) => return Err(HubError::Changed { url: run.url }),
            }
            let stored = run.verify(expected).await?;
            if wanted.sha256.is_none() {
                self.record_first_seen(&wanted.source, stored).await?;
            }
            // Before it is a file, so that none is without them.
            keep_chunks(self.store, stored.sha256, &run.chunks()).await?;
            self.store.commit(key, stored.size, stored.sha256).await?;
            progress(Progress::Done {
                bytes: stored.size,
                fetched: run.fetched(),
            });
            return Ok(stored);
        }
    }

    /// The commit to use of a repository that the manifest does not pin: the recorded one, else what `main` is now,
    /// which is recorded and used from then on.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub async fn commit_of(&self, repository: &Repository, cancel: &Cancel) -> Result<Commit, HubError> {
        if let Some(commit) = self.recorded_commit(repository).await? {
            return Ok(commit);
        }
        let commit = self.latest(repository, cancel).await?;
        self.record_commit(repository, &commit).await?;
        Ok(commit)
    }

    /// The commit that was recorded for a repository.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn recorded_commit(&self, repository: &Repository) -> Result<Option<Commit>, HubError> {
        let bytes = self.store.record(commit_key(repository)).await?;
        Ok(bytes.and_then(|bytes| str::from_utf8(&bytes).ok().and_then(|text| Commit::new(text).ok())))
    }

    /// Records the commit to use of a repository from now on, in place of another: for the user to decide.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn record_commit(&self, repository: &Repository, commit: &Commit) -> Result<(), HubError> {
        self.store
            .put_record(commit_key(repository), commit.as_str().as_bytes())
            .await
    }

    async fn first_seen(&self, source: &Source) -> Result<Option<FirstSeen>, HubError> {
        let record = self.store.record(first_seen_key(source)).await?;
        match record.map(|bytes| serde_json::from_slice(&bytes)) {
            None => Ok(None),
            Some(Ok(seen)) => Ok(Some(seen)),
            // Without the record any content would be trusted: that is for the user to decide.
            Some(Err(error)) => Err(HubError::Store {
                action: "understand the record of a first download",
                reason: error.to_string(),
            }),
        }
    }

    async fn record_first_seen(&self, source: &Source, stored: Stored) -> Result<(), HubError> {
        let Stored { sha256, size } = stored;
        // Two hashes and numbers always become JSON; an unreadable record would be refused.
        let json = serde_json::to_vec(&FirstSeen { sha256, size }).unwrap_or_default();
        self.store.put_record(first_seen_key(source), &json).await
    }
}

fn commit_key(repository: &Repository) -> Key {
    Key::of_text(&format!("commit of {repository}"))
}

fn first_seen_key(source: &Source) -> Key {
    Key::of_text(&format!("first seen {source}"))
}
