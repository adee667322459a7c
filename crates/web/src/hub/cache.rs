//! What is kept in the browser's cache of answers, where it gives pages no file system: entries are answers that nobody
//! sent, under addresses that nobody asks for.
//!
//! A small file is one entry. A part is an entry for each piece that was written, `?START-END` behind the address, and a
//! journal one for each time that something was appended, `?NUMBER`. An entry is written at once or not, but for a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, CacheQueryOptions, CacheStorage, Request, Response};

use super::site::{bytes_of, reason};

/// The cache of all that is kept. The service worker deletes those whose names go on with a hyphen.
const NAME: &str = "lorahub";
const ROOT: &str = "lorahub-store";

/// Where a piece starts and ends; or a number.
type Piece = (u64, u64);

/// Files by their paths, as [`Opfs`](super::opfs::Opfs) has them.
pub(crate) struct Cached {
    cache: web_sys::Cache,
    /// What all addresses start with.
    root: String,
    /// The pieces of the part that was looked at last: they are listed once, not for every read.
    last: RefCell<(String, Vec<Piece>)>,
    /// By journal, the number of the next thing that is appended.
    next: RefCell<BTreeMap<String, u64>>,
}

/// The browser's caches. Where they are refused, already their name may throw.
fn caches() -> Result<CacheStorage, JsValue> {
    let caches = Reflect::get(&js_sys::global(), &"caches".into())?;
    if caches.is_undefined() {
        return Err(js_sys::Error::new("this browser gives pages no cache").into());
    }
    Ok(caches.unchecked_into())
}

/// Removes all that is kept here; where the cache is refused there is nothing.
pub(super) async fn forget() {
    if let Ok(caches) = caches() {
        let _ = JsFuture::from(caches.delete(NAME)).await;
    }
}

impl Cached {
    /// Opens the cache, which is made if it is not there.
    ///
    /// # Errors
    /// Why the browser gives none.
    pub(crate) async fn open() -> Result<Self, String> {
        let opened = async || -> Result<Self, JsValue> {
            // A worker that was made of a `Blob` has no path to start from.
            let origin = Reflect::get(&js_sys::global(), &"origin".into())?;
            let cache = JsFuture::from(caches()?.open(NAME)).await?;
            Ok(Self {
                cache: cache.unchecked_into(),
                root: format!("{}/{ROOT}/", origin.as_string().unwrap_or_default()),
                last: RefCell::default(),
                next: RefCell::default(),
            })
        };
        opened().await.map_err(|thrown| reason(&thrown))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    async fn get(&self, path: &str) -> Result<Option<Blob>, JsValue> {
        let found = JsFuture::from(self.cache.match_with_str(&self.address(path))).await?;
        match found.dyn_ref::<Response>() {
            Some(answer) => Ok(Some(JsFuture::from(answer.blob()?).await?.unchecked_into())),
            None => Ok(None),
        }
    }

    pub(super) async fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), JsValue> {
        self.look_again();
        let answer = Response::new_with_opt_buffer_source(Some(&Uint8Array::from(bytes)))?;
        let put = self.cache.put_with_str(&self.address(path), &answer);
        JsFuture::from(put).await.map(drop)
    }

    /// The pieces of a part or journal, in order.
    async fn pieces(&self, path: &str) -> Result<Vec<Piece>, JsValue> {
        let address = self.address(path);
        let keys = self.cache.keys_with_str_and_options(&address, &of_all());
        let keys: Array = JsFuture::from(keys).await?.unchecked_into();
        let mut pieces = Vec::new();
        for request in keys.iter() {
            let found = request.unchecked_into::<Request>().url();
            if let Some(piece) = found.get(address.len() + 1..).and_then(piece) {
                let at = pieces.partition_point(|other| *other < piece);
                pieces.insert(at, piece);
            }
        }
        Ok(pieces)
    }

    /// Forgets what was known of a part and its journal, which another tab may have written until now.
    pub(super) fn take_over(&self, journal: &str) {
        self.look_again();
        self.next.borrow_mut().remove(journal);
    }

    /// Lists pieces anew the next time.
    pub(super) fn look_again(&self) {
        self.last.take();
    }

    /// All bytes of a small file or a journal.
    pub(super) async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, JsValue> {
        if let Some(blob) = self.get(path).await? {
            return bytes_of(&blob).await.map(Some);
        }
        let mut all = None;
        for (number, _) in self.pieces(path).await? {
            if let Some(blob) = self.get(&format!("{path}?{number}")).await? {
                all.get_or_insert_with(Vec::new).extend(bytes_of(&blob).await?);
            }
        }
        Ok(all)
    }

    pub(super) async fn exists(&self, path: &str) -> Result<bool, JsValue> {
        Ok(!self.pieces(path).await?.is_empty())
    }

    /// The pieces of a part as they were when it was looked at last.
    async fn known(&self, path: &str) -> Result<Vec<Piece>, JsValue> {
        if self.last.borrow().0 != path {
            let pieces = self.pieces(path).await?;
            self.last.replace((path.to_owned(), pieces));
        }
        Ok(self.last.borrow().1.clone())
    }

    /// How far the pieces of a part go without a gap, now.
    pub(super) async fn length(&self, path: &str) -> Result<Option<u64>, JsValue> {
        self.look_again();
        let mut length = 0;
        for (start, end) in self.known(path).await? {
            if start == length {
                length = end;
            }
        }
        Ok(Some(length))
    }

    /// Bytes of a part as a `Blob`, which the browser puts together of its pieces; fewer than asked for if it ends before,
    /// or where a piece is gone or was cut.
    pub(super) async fn slice(&self, path: &str, range: Range<u64>) -> Result<Option<Blob>, JsValue> {
        let parts = Array::new();
        let mut at = range.start;
        for (start, end) in self.known(path).await? {
            if end <= at {
                continue;
            }
            if start > at || at >= range.end {
                break;
            }
            let Some(blob) = self.get(&format!("{path}?{start}-{end}")).await? else {
                break;
            };
            let until = end.min(range.end);
            let part = blob.slice_with_f64_and_f64((at - start) as f64, (until - start) as f64)?;
            parts.push(&part);
            if part.size() != (until - at) as f64 {
                break;
            }
            at = until;
        }
        Blob::new_with_blob_sequence(&parts).map(Some)
    }

    /// Appends to a journal, behind what is there, of other visits too: its lines are read in this order.
    pub(super) async fn append(&self, path: &str, bytes: &[u8]) -> Result<(), JsValue> {
        let known = self.next.borrow().get(path).copied();
        let least = match known {
            Some(next) => next,
            None => self.pieces(path).await?.last().map_or(0, |(last, _)| last + 1),
        };
        // Others may have appended meanwhile.
        let number = {
            let mut all = self.next.borrow_mut();
            let next = all.entry(path.to_owned()).or_default();
            let number = least.max(*next);
            *next = number + 1;
            number
        };
        self.replace(&format!("{path}?{number}"), bytes).await
    }

    /// One piece. Pieces may come in any order and may be written again, but overlap no others.
    pub(super) async fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), JsValue> {
        let end = offset + bytes.len() as u64;
        self.replace(&format!("{path}?{offset}-{end}"), bytes).await
    }

    pub(super) async fn read_at(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, JsValue> {
        match self.slice(path, range).await? {
            Some(blob) => bytes_of(&blob).await,
            None => Ok(Vec::new()),
        }
    }

    /// Removes a file with all its pieces, if it is there.
    pub(super) async fn remove(&self, path: &str) -> Result<(), JsValue> {
        self.look_again();
        let removed = self.cache.delete_with_str_and_options(&self.address(path), &of_all());
        JsFuture::from(removed).await.map(drop)
    }

    /// The names of a folder's files, sorted.
    pub(super) async fn names(&self, folder: &str) -> Result<Vec<String>, JsValue> {
        let start = self.address(folder);
        let keys: Array = JsFuture::from(self.cache.keys()).await?.unchecked_into();
        let mut names = Vec::new();
        for request in keys.iter() {
            let address = request.unchecked_into::<Request>().url();
            let name = address
                .strip_prefix(&start)
                .and_then(|rest| rest.strip_prefix('/')?.split('?').next());
            names.extend(name.map(str::to_owned));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Of every entry that differs by what follows a question mark alone.
fn of_all() -> CacheQueryOptions {
    let options = CacheQueryOptions::new();
    options.set_ignore_search(true);
    options
}

/// What follows the question mark.
fn piece(text: &str) -> Option<Piece> {
    let (start, end) = text.split_once('-').unwrap_or((text, "0"));
    Some((start.parse().ok()?, end.parse().ok()?))
}
