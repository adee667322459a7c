//! Models and modules from a hub: what there is, how it comes here, and where it is kept.
//!
//! | word | here |
//! |---|---|
//! | manifest | [`Manifest`]: bases, modules and sets of modules, each file with what is known of it |
//! | source | [`Source`]: a file of a repository at one commit, and its address under a hub or mirror |
//! | download | [`Downloader`]: ranges in parallel, a journal, hashes, retries; generic over [`Fetch`] and [`Clock`] |
//! | store | [`Store`]: content by SHA-256, partial downloads with their journals; natively [`FileStore`] |
//! | sample | [`check_sample`]: size and one chunk of a kept file, looked at whenever it is opened |
//! | converted | [`Converted`]: a base's weights as a device holds them, kept beside its files |
//! | catalogue | [`Catalogue`]: what is kept under which name, from where |
//!
//! What is not known is absent, never guessed: without a commit a repository's `main` is resolved once and recorded,
//! without a hash the first download is trusted and every later one must match it.
//!
//! Nothing here reads a clock, touches a network or makes a random number: the caller's [`Fetch`], [`Clock`] and seed
//! do. Only [`FileStore`] does I/O.

mod api;
mod catalogue;
mod converted;
mod digest;
mod download;
mod entry;
mod error;
mod fetch;
#[cfg(not(target_family = "wasm"))]
mod files;
mod journal;
mod manifest;
mod public;
mod sample;
mod source;
mod store;
mod tensors;

pub use api::{RemoteFile, files_of, files_url, revision_of, revision_url};
pub use catalogue::{Catalogue, Kept, KeptFile, Kind};
pub use converted::{Conversion, Converted, Hashing, discard_conversions};
pub use digest::{GitBlob, Hasher, Sha256};
pub use download::{Cancel, Completed, Downloader, Listing, Options, Progress, Reason, Wanted};
pub use entry::Entry;
pub use error::{HubError, ManifestError};
pub use fetch::{Body, Clock, Fetch, FetchError, Request, Response};
#[cfg(not(target_family = "wasm"))]
pub use files::{FileStore, PartWriter};
pub use manifest::{Base, Chunks, FileEntry, MANIFEST_VERSION, Manifest, Module, Refreshed, Set};
pub use public::{FLAN_T5, REFERENCE_SEEDS, public_manifest};
pub use sample::{check_sample, delete_kept, keep_chunks};
pub use source::{Commit, Hub, Repository, Source};
pub use store::{Key, Store, Stored};
pub use tensors::KeptTensors;
