//! The store in the origin private file system, which only this site's pages see.
//!
//! `parts/KEY` downloads, `parts/KEY.journal` the journals of those in progress; `files/HASH` says which part is the whole
//! file of that hash; `records/KEY` records. A file is never renamed, which not every browser can: a part is whole if a
//! file of `files` names it and it has no journal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Promise, Reflect, Uint8Array};
use lorahub_hub::{HubError, Key, Sha256, Store, Stored};
use lorahub_weights::{Append, WeightsError};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

use super::Direct;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_namespace = navigator, js_name = storage)]
    static STORAGE: Option<web_sys::StorageManager>;

    /// web-sys has it among what may still change.
    #[wasm_bindgen(js_namespace = ["navigator", "locks"], js_name = request, catch)]
    fn request_lock(
        name: &str,
        options: &JsValue,
        callback: &Closure<dyn FnMut(JsValue) -> JsValue>,
    ) -> Result<Promise, JsValue>;

    /// The browser's own hash: several times as fast as one that was compiled to WebAssembly and runs for the first time.
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn digest(algorithm: &str, bytes: &JsValue) -> Result<Promise, JsValue>;
}

/// The folder of all that is kept.
const ROOT: &str = "lorahub";
const PARTS: &str = "parts";
const FILES: &str = "files";
const RECORDS: &str = "records";
const JOURNAL: &str = ".journal";
/// How long a lock is waited for: a page that was just left gives its locks back a moment later.
const LOCK_MS: u32 = 1000;

fn failed(action: &'static str) -> impl Fn(JsValue) -> HubError {
    move |thrown| HubError::Store {
        action,
        reason: reason(&thrown),
    }
}

fn reason(thrown: &JsValue) -> String {
    let name = Reflect::get(thrown, &"name".into())
        .ok()
        .and_then(|name| name.as_string());
    let message = Reflect::get(thrown, &"message".into())
        .ok()
        .and_then(|text| text.as_string());
    match (name, message) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        _ => "the browser does not say why".to_owned(),
    }
}

/// What is not there is no error where it may be absent.
fn if_there(result: Result<JsValue, JsValue>) -> Result<Option<JsValue>, JsValue> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(thrown) if Reflect::get(&thrown, &"name".into()).is_ok_and(|name| name == "NotFoundError") => Ok(None),
        Err(thrown) => Err(thrown),
    }
}

/// A [`Store`] in the browser.
pub(crate) struct Opfs {
    parts: FileSystemDirectoryHandle,
    files: FileSystemDirectoryHandle,
    records: FileSystemDirectoryHandle,
    /// Files of downloads in progress, which only their lock's holder opens.
    open: Rc<RefCell<BTreeMap<String, FileSystemSyncAccessHandle>>>,
}

impl Opfs {
    /// Opens the store, which is made if it is not there.
    ///
    /// # Errors
    /// [`HubError::Store`] where the browser gives none, as in some private windows.
    pub(crate) async fn open() -> Result<Self, HubError> {
        let storage = STORAGE.with(Clone::clone).ok_or_else(|| HubError::Store {
            action: "be opened",
            reason: "this browser gives pages no file system".to_owned(),
        })?;
        let opened = async || -> Result<Self, JsValue> {
            let origin = JsFuture::from(storage.get_directory()).await?;
            let root = folder(&origin.unchecked_into(), ROOT).await?;
            Ok(Self {
                parts: folder(&root, PARTS).await?,
                files: folder(&root, FILES).await?,
                records: folder(&root, RECORDS).await?,
                open: Rc::default(),
            })
        };
        opened().await.map_err(failed("be opened"))
    }

    /// A kept file as a `Blob`, which reads its bytes when they are asked for.
    ///
    /// # Errors
    /// [`HubError::NotKept`] and [`HubError::Store`].
    pub(crate) async fn blob(&self, sha256: Sha256) -> Result<web_sys::Blob, HubError> {
        let (key, size) = self.whole(sha256).await?.ok_or(HubError::NotKept { sha256 })?;
        let blob = file(&self.parts, &key).await.map_err(failed("be read"))?;
        match blob {
            Some(blob) if blob.size() == size as f64 => Ok(blob.into()),
            _ => Err(HubError::NotKept { sha256 }),
        }
    }

    /// A kept file, opened to be read into the program's own memory; `None` where another tab is in the way, and then there
    /// is [`blob`](Self::blob).
    ///
    /// # Errors
    /// [`HubError::NotKept`] and [`HubError::Store`].
    pub(crate) async fn direct(&self, sha256: Sha256) -> Result<Option<Direct>, HubError> {
        let (key, _) = self.whole(sha256).await?.ok_or(HubError::NotKept { sha256 })?;
        let handle = JsFuture::from(self.parts.get_file_handle(&key)).await;
        let handle = handle.map_err(failed("be read"))?;
        Ok(Direct::open(handle.unchecked_ref()).await)
    }

    /// Asks the browser not to clear the store by itself; it may refuse.
    pub(crate) async fn persist(&self) -> bool {
        let asked = STORAGE.with(|storage| storage.as_ref().and_then(|storage| storage.persist().ok()));
        match asked {
            Some(promise) => JsFuture::from(promise).await.is_ok_and(|granted| granted.is_truthy()),
            None => false,
        }
    }

    /// The part that is the whole file of this hash, and its size.
    async fn whole(&self, sha256: Sha256) -> Result<Option<(String, u64)>, HubError> {
        let find = async || -> Result<Option<(String, u64)>, JsValue> {
            let Some(bytes) = read_all(&self.files, &sha256.to_string()).await? else {
                return Ok(None);
            };
            let Some((key, size)) = named_part(&bytes) else {
                return Ok(None);
            };
            let journal = JsFuture::from(self.parts.get_file_handle(&format!("{key}{JOURNAL}"))).await;
            Ok(if_there(journal)?.is_none().then_some((key, size)))
        };
        find().await.map_err(failed("be read"))
    }

    /// The access handle of a download's file.
    async fn handle(&self, name: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
        if let Some(open) = self.open.borrow().get(name) {
            return Ok(open.clone());
        }
        let handle = access(&self.parts, name).await?;
        self.open.borrow_mut().insert(name.to_owned(), handle.clone());
        Ok(handle)
    }

    fn close(&self, name: &str) {
        if let Some(handle) = self.open.borrow_mut().remove(name) {
            handle.close();
        }
    }
}

/// What a file of `files` says. A line that a crash cut short names no part.
fn named_part(bytes: &[u8]) -> Option<(String, u64)> {
    let (key, size) = str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
    Key::from_hex(key)?;
    Some((key.to_owned(), size.parse().ok()?))
}

async fn folder(parent: &FileSystemDirectoryHandle, name: &str) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    let handle = JsFuture::from(parent.get_directory_handle_with_options(name, &options)).await?;
    Ok(handle.unchecked_into())
}

/// A file as the browser's `File`; `None` if it is not there.
async fn file(parent: &FileSystemDirectoryHandle, name: &str) -> Result<Option<web_sys::File>, JsValue> {
    let Some(handle) = if_there(JsFuture::from(parent.get_file_handle(name)).await)? else {
        return Ok(None);
    };
    let handle: FileSystemFileHandle = handle.unchecked_into();
    let file = JsFuture::from(handle.get_file()).await?;
    Ok(Some(file.unchecked_into()))
}

/// A handle to read and write a file, which is made if it is not there.
async fn access(parent: &FileSystemDirectoryHandle, name: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
    let options = FileSystemGetFileOptions::new();
    options.set_create(true);
    let handle = JsFuture::from(parent.get_file_handle_with_options(name, &options)).await?;
    let handle: FileSystemFileHandle = handle.unchecked_into();
    let handle = JsFuture::from(handle.create_sync_access_handle()).await?;
    Ok(handle.unchecked_into())
}

async fn bytes_of(blob: &web_sys::Blob) -> Result<Vec<u8>, JsValue> {
    let buffer = JsFuture::from(blob.array_buffer()).await?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

async fn read_all(parent: &FileSystemDirectoryHandle, name: &str) -> Result<Option<Vec<u8>>, JsValue> {
    match file(parent, name).await? {
        Some(file) => Ok(Some(bytes_of(&file).await?)),
        None => Ok(None),
    }
}

/// Replaces a small file's content. Not in one step, which only some browsers can: who reads it must notice a half.
async fn replace(parent: &FileSystemDirectoryHandle, name: &str, bytes: &[u8]) -> Result<(), JsValue> {
    let handle = access(parent, name).await?;
    let written = (|| {
        handle.truncate_with_u32(0)?;
        write_at(&handle, 0, bytes)?;
        handle.flush()
    })();
    handle.close();
    written
}

pub(super) fn at(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at_f64(offset as f64);
    options
}

fn write_at(handle: &FileSystemSyncAccessHandle, offset: u64, bytes: &[u8]) -> Result<(), JsValue> {
    let written = handle.write_with_u8_array_and_options(bytes, &at(offset))?;
    if written == bytes.len() as f64 {
        return Ok(());
    }
    // One browser tells in this way that there is no room, with fewer bytes or with a number of its own.
    Err(js_sys::Error::new("not all bytes were written; the storage is full").into())
}

async fn remove(parent: &FileSystemDirectoryHandle, name: &str) -> Result<(), JsValue> {
    if_there(JsFuture::from(parent.remove_entry(name)).await).map(drop)
}

async fn names(parent: &FileSystemDirectoryHandle) -> Result<Vec<String>, JsValue> {
    let keys = parent.keys();
    let mut names = Vec::new();
    loop {
        let next = JsFuture::from(keys.next_iterator()?).await?;
        if Reflect::get(&next, &"done".into())?.is_truthy() {
            names.sort();
            return Ok(names);
        }
        names.extend(Reflect::get(&next, &"value".into())?.as_string());
    }
}

/// A Web Lock, and the download's open files; both go when it is dropped.
pub(crate) struct Held {
    release: js_sys::Function,
    key: String,
    open: Rc<RefCell<BTreeMap<String, FileSystemSyncAccessHandle>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for name in [self.key.clone(), format!("{}{JOURNAL}", self.key)] {
            if let Some(handle) = self.open.borrow_mut().remove(&name) {
                handle.close();
            }
        }
        // Resolving a promise cannot fail.
        let _ = self.release.call0(&JsValue::UNDEFINED);
    }
}

/// A part that is written from its start to its end. The store closes it.
pub(crate) struct PartWriter {
    handle: FileSystemSyncAccessHandle,
    end: u64,
}

impl Append for PartWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        write_at(&self.handle, self.end, bytes).map_err(|thrown| WeightsError::Write {
            reason: reason(&thrown),
        })?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

impl Store for Opfs {
    type Lock = Held;
    type Writer = PartWriter;

    async fn lock(&self, key: Key) -> Result<Held, HubError> {
        let key = key.to_string();
        // The browser holds the lock until the promise that the callback returns is resolved.
        let mut release = None;
        let held = Promise::new(&mut |resolve, _reject| release = Some(resolve));
        let mut answer = None;
        let answered = Promise::new(&mut |resolve, _reject| answer = Some(resolve));
        let (Some(release), Some(answer)) = (release, answer) else {
            return Err(HubError::Busy);
        };
        let granted = answer.clone();
        let callback = Closure::new(move |_lock: JsValue| -> JsValue {
            // Resolving a promise cannot fail.
            let _ = granted.call1(&JsValue::UNDEFINED, &true.into());
            held.clone().into()
        });
        let refused = Closure::new(move |_thrown: JsValue| {
            let _ = answer.call1(&JsValue::UNDEFINED, &false.into());
        });
        let options = js_sys::Object::new();
        let patience = web_sys::AbortSignal::timeout_with_u32(LOCK_MS);
        Reflect::set(&options, &"signal".into(), &patience).map_err(failed("be locked"))?;
        let ended = request_lock(&format!("lorahub {key}"), &options, &callback).map_err(failed("be locked"))?;
        // It ends when the lock is given back, or when there was none: only the latter is waited for.
        let _ended = ended.catch(&refused);
        let free = JsFuture::from(answered).await.map_err(failed("be locked"))?;
        if !free.is_truthy() {
            return Err(HubError::Busy);
        }
        Ok(Held {
            release,
            key,
            open: self.open.clone(),
        })
    }

    async fn free(&self) -> Result<Option<u64>, HubError> {
        let asked = STORAGE.with(|storage| storage.as_ref().and_then(|storage| storage.estimate().ok()));
        let Some(promise) = asked else { return Ok(None) };
        let estimate = JsFuture::from(promise).await.map_err(failed("say how much is free"))?;
        let field = |name: &str| {
            Reflect::get(&estimate, &name.into())
                .ok()
                .and_then(|value| value.as_f64())
        };
        Ok(match (field("quota"), field("usage")) {
            (Some(quota), Some(usage)) => Some((quota - usage).max(0.0) as u64),
            _ => None,
        })
    }

    async fn journal(&self, key: Key) -> Result<Vec<u8>, HubError> {
        let name = format!("{key}{JOURNAL}");
        let read = async || -> Result<Vec<u8>, JsValue> {
            // An open access handle keeps others from reading.
            self.close(&name);
            Ok(read_all(&self.parts, &name).await?.unwrap_or_default())
        };
        read().await.map_err(failed("read a journal"))
    }

    async fn append_journal(&self, key: Key, bytes: &[u8]) -> Result<(), HubError> {
        let append = async || -> Result<(), JsValue> {
            let handle = self.handle(&format!("{key}{JOURNAL}")).await?;
            write_at(&handle, handle.get_size()? as u64, bytes)?;
            handle.flush()
        };
        append().await.map_err(failed("write a journal"))
    }

    async fn write_part(&self, key: Key, offset: u64, bytes: &[u8]) -> Result<(), HubError> {
        let write = async || write_at(&self.handle(&key.to_string()).await?, offset, bytes);
        write().await.map_err(failed("write a download"))
    }

    async fn writer(&self, key: Key) -> Result<PartWriter, HubError> {
        let open = async || -> Result<PartWriter, JsValue> {
            let handle = self.handle(&key.to_string()).await?;
            handle.truncate_with_u32(0)?;
            Ok(PartWriter { handle, end: 0 })
        };
        open().await.map_err(failed("write a part"))
    }

    async fn read_part(&self, key: Key, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let read = async || -> Result<Vec<u8>, JsValue> {
            let handle = self.handle(&key.to_string()).await?;
            let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
            let read = handle.read_with_u8_array_and_options(&mut bytes, &at(range.start))?;
            bytes.truncate(read as usize);
            Ok(bytes)
        };
        read().await.map_err(failed("read a download"))
    }

    async fn discard(&self, key: Key) -> Result<(), HubError> {
        let discard = async || -> Result<(), JsValue> {
            for name in [format!("{key}{JOURNAL}"), key.to_string()] {
                self.close(&name);
                remove(&self.parts, &name).await?;
            }
            Ok(())
        };
        discard().await.map_err(failed("remove a download"))
    }

    async fn commit(&self, key: Key, size: u64, sha256: Sha256) -> Result<(), HubError> {
        // The same content from another source is kept already.
        if let Some((other, _)) = self.whole(sha256).await?
            && other != key.to_string()
        {
            return self.discard(key).await;
        }
        let commit = async || -> Result<(), JsValue> {
            let name = key.to_string();
            let handle = self.handle(&name).await?;
            handle.truncate_with_f64(size as f64)?;
            handle.flush()?;
            self.close(&name);
            replace(&self.files, &sha256.to_string(), format!("{name} {size}\n").as_bytes()).await?;
            let journal = format!("{name}{JOURNAL}");
            self.close(&journal);
            remove(&self.parts, &journal).await
        };
        commit().await.map_err(failed("keep a file"))
    }

    async fn parts(&self) -> Result<Vec<Key>, HubError> {
        let names = names(&self.parts).await.map_err(failed("list downloads"))?;
        let keys = names
            .iter()
            .filter_map(|name| Key::from_hex(name.strip_suffix(JOURNAL)?));
        Ok(keys.collect())
    }

    async fn size(&self, sha256: Sha256) -> Result<Option<u64>, HubError> {
        match self.blob(sha256).await {
            Ok(blob) => Ok(Some(blob.size() as u64)),
            Err(HubError::NotKept { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, sha256: Sha256, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let blob = self.blob(sha256).await?;
        let read = async || -> Result<Vec<u8>, JsValue> {
            bytes_of(&blob.slice_with_f64_and_f64(range.start as f64, range.end as f64)?).await
        };
        read().await.map_err(failed("read a file"))
    }

    async fn hash(&self, sha256: Sha256, range: Range<u64>) -> Result<Sha256, HubError> {
        let blob = self.blob(sha256).await?;
        let hash = async || -> Result<Vec<u8>, JsValue> {
            let part = blob.slice_with_f64_and_f64(range.start as f64, range.end as f64)?;
            let bytes = JsFuture::from(part.array_buffer()).await?;
            let hash = JsFuture::from(digest("SHA-256", &bytes)?).await?;
            Ok(Uint8Array::new(&hash).to_vec())
        };
        let hash = hash().await.map_err(failed("read a file"))?;
        let hash = hash.try_into().map(Sha256::from_bytes);
        hash.map_err(|_| failed("hash a file")(JsValue::UNDEFINED))
    }

    async fn list(&self) -> Result<Vec<Stored>, HubError> {
        let names = names(&self.files).await.map_err(failed("list files"))?;
        let mut stored = Vec::new();
        for sha256 in names.iter().filter_map(|name| Sha256::from_hex(name)) {
            if let Some(size) = self.size(sha256).await? {
                stored.push(Stored { sha256, size });
            }
        }
        Ok(stored)
    }

    async fn delete(&self, sha256: Sha256) -> Result<(), HubError> {
        let part = self.whole(sha256).await?;
        let delete = async || -> Result<(), JsValue> {
            remove(&self.files, &sha256.to_string()).await?;
            match &part {
                Some((key, _)) => remove(&self.parts, key).await,
                None => Ok(()),
            }
        };
        delete().await.map_err(failed("delete a file"))
    }

    async fn delete_all(&self) -> Result<(), HubError> {
        let delete = async || -> Result<(), JsValue> {
            // Files first: a part that no file names is never taken for whole.
            for inside in [&self.files, &self.parts, &self.records] {
                for name in names(inside).await? {
                    remove(inside, &name).await?;
                }
            }
            Ok(())
        };
        for handle in std::mem::take(&mut *self.open.borrow_mut()).into_values() {
            handle.close();
        }
        delete().await.map_err(failed("delete everything"))
    }

    async fn record(&self, key: Key) -> Result<Option<Vec<u8>>, HubError> {
        let found = read_all(&self.records, &key.to_string()).await;
        let Some(bytes) = found.map_err(failed("read a record"))? else {
            return Ok(None);
        };
        match bytes.split_at_checked(HASH) {
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
        let put = replace(&self.records, &key.to_string(), &content).await;
        put.map_err(failed("write a record"))
    }

    async fn remove_record(&self, key: Key) -> Result<(), HubError> {
        let removed = remove(&self.records, &key.to_string()).await;
        removed.map_err(failed("remove a record"))
    }
}

/// Digits of a hash.
const HASH: usize = 64;
