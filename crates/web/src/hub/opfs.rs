//! What is kept in the origin private file system, which only this site's pages see. A file is never renamed, which not
//! every browser can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Promise, Reflect};
use lorahub_weights::{Append, WeightsError};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

use super::Direct;
use super::site::{STORAGE, bytes_of, reason};
use super::store::{FILES, PARTS, RECORDS};

#[wasm_bindgen]
extern "C" {
    /// web-sys has its method without the error of a browser that lacks it.
    #[wasm_bindgen(extends = web_sys::StorageManager)]
    type Origin;

    #[wasm_bindgen(method, catch, js_name = getDirectory)]
    fn directory(this: &Origin) -> Result<Promise, JsValue>;
}

/// The folder of all that is kept.
const ROOT: &str = "lorahub";

/// What is not there is no error where it may be absent.
fn if_there(result: Result<JsValue, JsValue>) -> Result<Option<JsValue>, JsValue> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(thrown) if Reflect::get(&thrown, &"name".into()).is_ok_and(|name| name == "NotFoundError") => Ok(None),
        Err(thrown) => Err(thrown),
    }
}

/// Files by their paths: a folder's name and theirs.
pub(crate) struct Opfs {
    parts: FileSystemDirectoryHandle,
    files: FileSystemDirectoryHandle,
    records: FileSystemDirectoryHandle,
    open: Open,
}

/// Files of downloads in progress, which only their lock's holder opens, by their paths.
#[derive(Clone, Default)]
pub(crate) struct Open(Rc<RefCell<BTreeMap<String, FileSystemSyncAccessHandle>>>);

impl Open {
    /// Closes a file, if it is open.
    pub(super) fn close(&self, path: &str) {
        if let Some(handle) = self.0.borrow_mut().remove(path) {
            handle.close();
        }
    }
}

impl Opfs {
    /// Opens the folders, which are made if they are not there.
    ///
    /// # Errors
    /// Why the browser gives none, as in some private windows.
    pub(crate) async fn open() -> Result<Self, String> {
        let storage = STORAGE
            .with(Clone::clone)
            .ok_or("this browser gives pages no storage")?;
        let opened = async || -> Result<Self, JsValue> {
            let origin = JsFuture::from(storage.unchecked_ref::<Origin>().directory()?).await?;
            let root = folder(&origin.unchecked_into(), ROOT).await?;
            Ok(Self {
                parts: folder(&root, PARTS).await?,
                files: folder(&root, FILES).await?,
                records: folder(&root, RECORDS).await?,
                open: Open::default(),
            })
        };
        opened().await.map_err(|thrown| reason(&thrown))
    }

    /// The files that are open.
    pub(super) fn opened(&self) -> Open {
        self.open.clone()
    }

    fn folder(&self, name: &str) -> &FileSystemDirectoryHandle {
        match name {
            PARTS => &self.parts,
            FILES => &self.files,
            _ => &self.records,
        }
    }

    /// A path's folder and name.
    fn split<'p>(&self, path: &'p str) -> (&FileSystemDirectoryHandle, &'p str) {
        let (folder, name) = path.split_once('/').unwrap_or_default();
        (self.folder(folder), name)
    }

    /// A file as the browser's `File`; `None` if it is not there.
    pub(super) async fn file(&self, path: &str) -> Result<Option<web_sys::File>, JsValue> {
        let (folder, name) = self.split(path);
        let Some(handle) = if_there(JsFuture::from(folder.get_file_handle(name)).await)? else {
            return Ok(None);
        };
        let handle: FileSystemFileHandle = handle.unchecked_into();
        let file = JsFuture::from(handle.get_file()).await?;
        Ok(Some(file.unchecked_into()))
    }

    /// All bytes of a small file.
    pub(super) async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, JsValue> {
        // An open access handle keeps others from reading.
        self.open.close(path);
        match self.file(path).await? {
            Some(file) => Ok(Some(bytes_of(&file).await?)),
            None => Ok(None),
        }
    }

    pub(super) async fn exists(&self, path: &str) -> Result<bool, JsValue> {
        let (folder, name) = self.split(path);
        Ok(if_there(JsFuture::from(folder.get_file_handle(name)).await)?.is_some())
    }

    pub(super) async fn length(&self, path: &str) -> Result<Option<u64>, JsValue> {
        Ok(self.file(path).await?.map(|file| file.size() as u64))
    }

    /// Bytes of a file as a `Blob`, which reads them when they are asked for.
    pub(super) async fn slice(&self, path: &str, range: Range<u64>) -> Result<Option<web_sys::Blob>, JsValue> {
        match self.file(path).await? {
            Some(file) => file
                .slice_with_f64_and_f64(range.start as f64, range.end as f64)
                .map(Some),
            None => Ok(None),
        }
    }

    /// Opens a file to be read into the program's own memory; `None` where another tab is in the way.
    pub(super) async fn direct(&self, path: &str) -> Result<Option<Direct>, JsValue> {
        let (folder, name) = self.split(path);
        let handle = JsFuture::from(folder.get_file_handle(name)).await?;
        Ok(Direct::open(handle.unchecked_ref()).await)
    }

    /// Replaces a small file's content. Not in one step, which only some browsers can: who reads it must notice a half.
    pub(super) async fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), JsValue> {
        let handle = self.access(path).await?;
        let written = (|| {
            handle.truncate_with_u32(0)?;
            write_at(&handle, 0, bytes)?;
            handle.flush()
        })();
        handle.close();
        written
    }

    pub(super) async fn append(&self, path: &str, bytes: &[u8]) -> Result<(), JsValue> {
        let handle = self.handle(path).await?;
        write_at(&handle, handle.get_size()? as u64, bytes)?;
        handle.flush()
    }

    pub(super) async fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), JsValue> {
        write_at(&self.handle(path).await?, offset, bytes)
    }

    pub(super) async fn read_at(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, JsValue> {
        let handle = self.handle(path).await?;
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        let read = handle.read_with_u8_array_and_options(&mut bytes, &at(range.start))?;
        bytes.truncate(read as usize);
        Ok(bytes)
    }

    /// Closes a file that was written, cut at its size.
    pub(super) async fn finish(&self, path: &str, size: u64) -> Result<(), JsValue> {
        let handle = self.handle(path).await?;
        handle.truncate_with_f64(size as f64)?;
        handle.flush()?;
        self.open.close(path);
        Ok(())
    }

    pub(super) async fn writer(&self, path: &str) -> Result<PartWriter, JsValue> {
        let handle = self.handle(path).await?;
        handle.truncate_with_u32(0)?;
        Ok(PartWriter { handle, end: 0 })
    }

    /// Removes a file, if it is there.
    pub(super) async fn remove(&self, path: &str) -> Result<(), JsValue> {
        self.open.close(path);
        let (folder, name) = self.split(path);
        if_there(JsFuture::from(folder.remove_entry(name)).await).map(drop)
    }

    /// The names of a folder's files, sorted.
    pub(super) async fn names(&self, folder: &str) -> Result<Vec<String>, JsValue> {
        let keys = self.folder(folder).keys();
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

    /// A handle to read and write a file, which is made if it is not there.
    async fn access(&self, path: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
        let (folder, name) = self.split(path);
        let options = FileSystemGetFileOptions::new();
        options.set_create(true);
        let handle = JsFuture::from(folder.get_file_handle_with_options(name, &options)).await?;
        let handle: FileSystemFileHandle = handle.unchecked_into();
        let handle = JsFuture::from(handle.create_sync_access_handle()).await?;
        Ok(handle.unchecked_into())
    }

    /// The access handle of a download's file, which stays open.
    async fn handle(&self, path: &str) -> Result<FileSystemSyncAccessHandle, JsValue> {
        if let Some(open) = self.open.0.borrow().get(path) {
            return Ok(open.clone());
        }
        let handle = self.access(path).await?;
        self.open.0.borrow_mut().insert(path.to_owned(), handle.clone());
        Ok(handle)
    }
}

async fn folder(parent: &FileSystemDirectoryHandle, name: &str) -> Result<FileSystemDirectoryHandle, JsValue> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    let handle = JsFuture::from(parent.get_directory_handle_with_options(name, &options)).await?;
    Ok(handle.unchecked_into())
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
