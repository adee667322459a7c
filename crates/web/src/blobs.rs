//! Files as the browser gives them: picked, dropped, or kept. A worker reads them by ranges without waiting.

use std::collections::BTreeMap;
use std::ops::Range;

use js_sys::Uint8Array;
use lorahub_t5::T5Error;
use lorahub_weights::{FileTensors, Limits, ReadAt, Sha256Stream, ShardIndex, ShardedTensors, Tensors, WeightsError};
use wasm_bindgen::{JsCast as _, JsValue};

use crate::error::Failure;

const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A `Blob` or `File`.
pub(crate) struct BlobFile {
    blob: web_sys::Blob,
    reader: web_sys::FileReaderSync,
}

impl BlobFile {
    fn new(blob: web_sys::Blob) -> Result<Self, WeightsError> {
        let reader = web_sys::FileReaderSync::new().map_err(|thrown| unreadable(&thrown))?;
        Ok(Self { blob, reader })
    }
}

impl ReadAt for BlobFile {
    fn size(&self) -> u64 {
        self.blob.size() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let part = self.blob.slice_with_f64_and_f64(range.start as f64, range.end as f64);
        let part = part.map_err(|thrown| unreadable(&thrown))?;
        let buffer = self.reader.read_as_array_buffer(&part);
        let buffer: JsValue = buffer.map_err(|thrown| unreadable(&thrown))?.into();
        Ok(Uint8Array::new(&buffer).to_vec())
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
pub(crate) struct BaseBlobs(BTreeMap<String, web_sys::Blob>);

impl BaseBlobs {
    pub(crate) fn new(files: &js_sys::Object) -> Result<Self, Failure> {
        let mut named = BTreeMap::new();
        for entry in js_sys::Object::entries(files) {
            let entry: js_sys::Array = entry.unchecked_into();
            let (Some(name), Ok(blob)) = (entry.get(0).as_string(), entry.get(1).dyn_into()) else {
                return Err(Failure::new(
                    "argument",
                    "the base's files are not blobs by their names; see the type definitions",
                ));
            };
            named.insert(name, blob);
        }
        Ok(Self(named))
    }

    fn file(&self, name: &str) -> Result<BlobFile, Failure> {
        let blob = self.0.get(name).ok_or_else(|| missing(name))?;
        Ok(BlobFile::new(blob.clone()).map_err(T5Error::from)?)
    }

    /// All of a small file.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let file = self.file(name)?;
        Ok(file.read_at(0..file.size()).map_err(T5Error::from)?)
    }

    fn index(&self) -> Result<Option<ShardIndex>, Failure> {
        if !self.0.contains_key(INDEX) {
            return Ok(None);
        }
        let index = ShardIndex::parse(&self.bytes(INDEX)?, &Limits::BASE).map_err(T5Error::from)?;
        if let Some(absent) = index.files().find(|name| !self.0.contains_key(*name)) {
            return Err(missing(absent));
        }
        Ok(Some(index))
    }

    /// The weights, in one file or in several with their index; tensors are read when they are asked for.
    pub(crate) fn weights(&self) -> Result<Box<dyn Tensors>, Failure> {
        let limits = Limits::BASE;
        let Some(index) = self.index()? else {
            let file = FileTensors::open(self.file(ONE)?, &limits).map_err(T5Error::from)?;
            return Ok(Box::new(file));
        };
        let open = |name: &str| {
            let blob = self.0.get(name).cloned();
            // All were there a moment ago.
            BlobFile::new(blob.ok_or_else(|| WeightsError::IndexFile { file: name.to_owned() })?)
        };
        let sharded = ShardedTensors::open(index, &limits, open).map_err(T5Error::from)?;
        Ok(Box::new(sharded))
    }

    /// The hash of the weights' file; of several, one after another by their names.
    pub(crate) fn weights_sha256(&self) -> Result<String, Failure> {
        /// Read at once.
        const BYTES: u64 = 16 << 20;
        let names = match self.index()? {
            Some(index) => index.files().map(str::to_owned).collect(),
            None => vec![ONE.to_owned()],
        };
        let mut hash = Sha256Stream::default();
        for name in names {
            let file = self.file(&name)?;
            let mut at = 0;
            while at < file.size() {
                let end = file.size().min(at + BYTES);
                hash.update(&file.read_at(at..end).map_err(T5Error::from)?);
                at = end;
            }
        }
        Ok(hash.hex())
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(
        "base_files",
        format!("the base has no file `{name}`; give config.json, tokenizer.json and model.safetensors together"),
    )
}
