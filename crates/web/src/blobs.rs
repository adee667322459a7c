//! Files as the browser gives them: picked, dropped, or kept. A worker reads them by ranges without waiting.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use js_sys::Uint8Array;
use lorahub_t5::T5Error;
use lorahub_weights::{BaseForm, BaseWeights, ReadAt, Sha256Stream, WeightsError};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::error::Failure;
use crate::hub::Direct;

/// Most bytes of a file that is read whole (`pytorch_model.bin`): it lies in the WebAssembly heap, which ends at 4 GB,
/// beside the model that is made of it.
const WHOLE_BYTES: u64 = 3 << 29;

/// A `Blob` or `File`.
pub(crate) struct BlobFile {
    blob: web_sys::Blob,
    reader: web_sys::FileReaderSync,
    /// The same file of the store, where it can be read without the blob.
    direct: Option<Rc<Direct>>,
}

impl BlobFile {
    pub(crate) fn new(blob: web_sys::Blob, direct: Option<Rc<Direct>>) -> Result<Self, WeightsError> {
        let reader = web_sys::FileReaderSync::new().map_err(|thrown| unreadable(&thrown))?;
        Ok(Self { blob, reader, direct })
    }
}

impl ReadAt for BlobFile {
    fn size(&self) -> u64 {
        self.blob.size() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        if self.direct.is_some() {
            let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
            let found = self.read_into(range.start, &mut bytes)?;
            bytes.truncate(found);
            return Ok(bytes);
        }
        Ok(self.read_blob(range)?.to_vec())
    }

    fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<usize, WeightsError> {
        if let Some(direct) = &self.direct {
            return direct.read(start, bytes).map_err(|thrown| unreadable(&thrown));
        }
        let found = self.read_blob(start..start.saturating_add(bytes.len() as u64))?;
        let length = bytes.len().min(found.length() as usize);
        found.subarray(0, length as u32).copy_to(&mut bytes[..length]);
        Ok(length)
    }
}

impl BlobFile {
    fn read_blob(&self, range: Range<u64>) -> Result<Uint8Array, WeightsError> {
        let part = self.blob.slice_with_f64_and_f64(range.start as f64, range.end as f64);
        let part = part.map_err(|thrown| unreadable(&thrown))?;
        let buffer = self.reader.read_as_array_buffer(&part);
        let buffer: JsValue = buffer.map_err(|thrown| unreadable(&thrown))?.into();
        Ok(Uint8Array::new(&buffer))
    }
}

fn unreadable(thrown: &JsValue) -> WeightsError {
    let message = js_sys::Reflect::get(thrown, &"message".into()).ok();
    WeightsError::Read {
        reason: message
            .and_then(|message| message.as_string())
            .unwrap_or_else(|| "the browser does not say why".to_owned()),
    }
}

/// A base's files by their names.
#[derive(Default)]
pub(crate) struct BaseBlobs {
    blobs: BTreeMap<String, web_sys::Blob>,
    direct: BTreeMap<String, Rc<Direct>>,
}

impl BaseBlobs {
    pub(crate) fn new(files: &js_sys::Object) -> Result<Self, Failure> {
        let mut found = Self::default();
        for entry in js_sys::Object::entries(files) {
            let entry: js_sys::Array = entry.unchecked_into();
            let (Some(name), Ok(blob)) = (entry.get(0).as_string(), entry.get(1).dyn_into()) else {
                return Err(Failure::new(
                    "argument",
                    "the base's files are not blobs by their names; see the type definitions",
                ));
            };
            found.blobs.insert(name, blob);
        }
        Ok(found)
    }

    pub(crate) fn add(&mut self, name: &str, blob: web_sys::Blob) {
        self.blobs.insert(name.to_owned(), blob);
    }

    /// Another way to the same file.
    pub(crate) fn read_direct(&mut self, name: &str, direct: Direct) {
        self.direct.insert(name.to_owned(), Rc::new(direct));
    }

    fn file(&self, name: &str) -> Result<BlobFile, Failure> {
        let blob = self.blobs.get(name).ok_or_else(|| missing(name))?;
        let direct = self.direct.get(name).cloned();
        Ok(BlobFile::new(blob.clone(), direct).map_err(T5Error::from)?)
    }

    /// All of a small file.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let file = self.file(name)?;
        Ok(file.read_at(0..file.size()).map_err(T5Error::from)?)
    }

    /// The form of the weights, by the files' names.
    pub(crate) fn form(&self) -> Result<BaseForm, Failure> {
        let names: Vec<&str> = self.blobs.keys().map(String::as_str).collect();
        BaseForm::find(&names, |name| Ok(self.bytes(name)?)).map_err(|failed: FormFailure| failed.0)
    }

    /// The weights in the form in which they are there; tensors are read when they are asked for.
    pub(crate) fn weights(&self) -> Result<BaseWeights<BlobFile>, Failure> {
        let form = self.form()?;
        let mut files = BTreeMap::new();
        for name in form.files() {
            files.insert(name.to_owned(), self.file(name)?);
        }
        Ok(form.open(files, WHOLE_BYTES).map_err(T5Error::from)?)
    }

    /// What the weights are called in records: [`BaseForm::sha256`].
    pub(crate) fn weights_sha256(&self) -> Result<String, Failure> {
        /// Read at once.
        const BYTES: u64 = 16 << 20;
        let mut hashes = Vec::new();
        for name in self.form()?.files() {
            let file = self.file(name)?;
            let mut hash = Sha256Stream::default();
            let mut at = 0;
            while at < file.size() {
                let end = file.size().min(at + BYTES);
                hash.update(&file.read_at(at..end).map_err(T5Error::from)?);
                at = end;
            }
            hashes.push(hash.hex());
        }
        Ok(BaseForm::sha256(&hashes))
    }
}

/// A failure on the way to the form.
struct FormFailure(Failure);

impl From<Failure> for FormFailure {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<WeightsError> for FormFailure {
    fn from(error: WeightsError) -> Self {
        Self(T5Error::from(error).into())
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(
        "base_files",
        format!("the base has no file `{name}`; give config.json, tokenizer.json and model.safetensors together"),
    )
}
