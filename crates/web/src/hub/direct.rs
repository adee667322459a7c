//! A kept file that is read into the program's own memory.
//!
//! What a `Blob` gives comes from another process and lies in an `ArrayBuffer` before it is copied here; with an access
//! handle the system writes the bytes where they belong, several times as fast.

use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{FileSystemFileHandle, FileSystemSyncAccessHandle};

use super::opfs::at;

#[wasm_bindgen]
extern "C" {
    /// web-sys has the argument among what may still change.
    #[wasm_bindgen(extends = FileSystemFileHandle)]
    type Shareable;

    #[wasm_bindgen(method, catch, js_name = createSyncAccessHandle)]
    fn open(this: &Shareable, options: &Object) -> Result<Promise, JsValue>;
}

/// Closed when it is dropped: until then nobody can write or remove the file.
pub(crate) struct Direct(FileSystemSyncAccessHandle);

impl Direct {
    /// Opens a file together with other tabs, where the browser knows how to share one; `None` where it does not and
    /// another has it.
    pub(super) async fn open(file: &FileSystemFileHandle) -> Option<Self> {
        let options = Object::new();
        Reflect::set(&options, &"mode".into(), &"read-only".into()).ok()?;
        let opening = file.unchecked_ref::<Shareable>().open(&options).ok()?;
        let handle = JsFuture::from(opening).await.ok()?;
        Some(Self(handle.unchecked_into()))
    }

    /// Fills `bytes` with those from `start` on, and returns how many there are.
    pub(crate) fn read(&self, start: u64, bytes: &mut [u8]) -> Result<usize, JsValue> {
        let read = self.0.read_with_u8_array_and_options(bytes, &at(start))?;
        Ok(read as usize)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.0.close();
    }
}
