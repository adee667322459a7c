//! A base's weights as a device holds them, in a file: what conversion made is kept, and the next time it is read.
//!
//! The format is ours, and no other program reads it. All integers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 12 and 4 | the mark, the version |
//! | | the tensors one after another: f32, or the blocks of [`Narrow`] |
//! | | the index, JSON: of which source and for which storage, and each tensor's name, shape and form, in their order |
//! | 64 and 8 | SHA-256 of the index in hexadecimal, and its length |
//!
//! The index stands at the end because a tensor's form depends on its values, so the file is written as conversion goes,
//! one tensor in memory. A file without its end is none. The index is checked as a whole whenever the file is opened;
//! the values are for whoever keeps the file to hash, and for the readers of their forms to check.

mod ahead;
mod error;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use ahead::ReadAhead;
pub use error::ConvertedError;
pub use write::{Append, ConvertedWriter, Converting};

use crate::header::check_name;
use crate::json::shown_reason;
use crate::quant::{Format, Narrow, WeightStorage};
use crate::safetensors::check_finite;
use crate::tensors::{ReadAt, Tensors, read_f32};
use crate::{Dtype, Held, Limits, WeightsError, sha256_hex, shown};

/// The version of the format. One more whenever the same source and storage give other bytes.
pub const CONVERTED_VERSION: u32 = 1;
const MARK: &[u8; 12] = b"LoRAHubHeld\n";
const HEAD_BYTES: u64 = MARK.len() as u64 + 4;
const DIGEST_BYTES: usize = 64;
const END_BYTES: u64 = DIGEST_BYTES as u64 + 8;
/// The longest index that is read. That of flan-t5-xxl has 120 kB.
const INDEX_BYTES: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// [`BaseForm::sha256`](crate::BaseForm::sha256) of the source.
    source: String,
    storage: WeightStorage,
    tensors: Vec<Listed>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    shape: Vec<usize>,
    /// `f32`, or the name of a [`Format`].
    form: String,
}

/// What a file was made of, in words.
fn made_of(source: &str, storage: WeightStorage) -> String {
    format!("{} as {}", shown(source), storage.name())
}

/// A tensor of the file.
#[derive(Clone, Debug)]
struct Entry {
    shape: Vec<usize>,
    form: Option<Format>,
    range: Range<u64>,
}

impl Entry {
    /// Bytes of a tensor of this shape in this form; `None` where there can be none.
    fn bytes(shape: &[usize], form: Option<Format>) -> Option<u64> {
        match form {
            None => {
                let values = shape
                    .iter()
                    .try_fold(4usize, |product, &dim| product.checked_mul(dim))?;
                isize::try_from(values).ok()?;
                Some(values as u64)
            }
            Some(format) => match *shape {
                [rows, columns] => Some(format.byte_size(rows, columns).ok()? as u64),
                _ => None,
            },
        }
    }
}

/// A file of converted weights, of which the index and one tensor at a time are in memory.
#[derive(Clone, Debug)]
pub struct ConvertedTensors<R> {
    file: ReadAhead<R>,
    storage: WeightStorage,
    tensors: BTreeMap<String, Entry>,
}

impl<R: ReadAt> ConvertedTensors<R> {
    /// Opens what was made of the weights with this hash for this storage, and checks all but the values.
    ///
    /// # Errors
    /// [`WeightsError::Converted`], and [`WeightsError::Read`].
    pub fn open(file: R, source: &str, storage: WeightStorage) -> Result<Self, WeightsError> {
        let size = file.size();
        let cut = |expected| ConvertedError::Cut { expected, found: size };
        let least = HEAD_BYTES + END_BYTES;
        if size < least {
            return Err(cut(least).into());
        }
        let head = read_all(&file, 0..HEAD_BYTES)?;
        let (mark, version) = head.split_at(MARK.len());
        if mark != MARK {
            return Err(ConvertedError::Mark { found: mark.to_vec() }.into());
        }
        let found = version.try_into().map_or(0, u32::from_le_bytes);
        if found != CONVERTED_VERSION {
            let expected = CONVERTED_VERSION;
            return Err(ConvertedError::Version { found, expected }.into());
        }
        let end = read_all(&file, size - END_BYTES..size)?;
        let (digest, length) = end.split_at(DIGEST_BYTES);
        let length = length.try_into().map_or(u64::MAX, u64::from_le_bytes);
        if length > INDEX_BYTES {
            let (found, limit) = (length, INDEX_BYTES);
            return Err(ConvertedError::IndexLength { found, limit }.into());
        }
        let index_start = (size - least).checked_sub(length).ok_or_else(|| cut(least + length))? + HEAD_BYTES;
        let index = read_all(&file, index_start..index_start + length)?;
        let found = sha256_hex(&index);
        if found.as_bytes() != digest {
            let expected = shown(&String::from_utf8_lossy(digest));
            return Err(ConvertedError::IndexDigest { expected, found }.into());
        }
        let wrong = |reason: String| ConvertedError::Index { reason };
        let index: Index = serde_json::from_slice(&index).map_err(|error| wrong(shown_reason(&error)))?;
        if index.source != source || index.storage != storage {
            let (expected, found) = (made_of(source, storage), made_of(&index.source, index.storage));
            return Err(ConvertedError::Other { expected, found }.into());
        }
        let mut tensors = BTreeMap::new();
        let mut at = HEAD_BYTES;
        for Listed { name, shape, form } in index.tensors {
            check_name(&name, &Limits::BASE)?;
            let form = match form.as_str() {
                "f32" => None,
                narrow => Some(
                    Format::from_name(narrow).ok_or_else(|| wrong(format!("there is no form `{}`", shown(narrow))))?,
                ),
            };
            let bytes = Entry::bytes(&shape, form).ok_or_else(|| wrong(format!("`{name}` cannot be {shape:?}")))?;
            let range = at..at.saturating_add(bytes);
            at = range.end;
            if tensors.insert(name.clone(), Entry { shape, form, range }).is_some() {
                return Err(wrong(format!("it has `{name}` twice")).into());
            }
        }
        if at != index_start {
            let (expected, found) = (at - HEAD_BYTES, index_start - HEAD_BYTES);
            return Err(ConvertedError::Length { expected, found }.into());
        }
        // Devices ask for the tensors in the order in which they were written.
        let file = ReadAhead::new(file);
        Ok(Self { file, storage, tensors })
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }

    /// A tensor as it is in the file.
    fn as_stored(&self, name: &str) -> Result<Held, WeightsError> {
        let Entry { shape, form, range } = self.entry(name)?;
        let Some(format) = *form else {
            let values = read_f32(&self.file, name, range.clone(), Dtype::F32, shape)?;
            check_finite(name, &values)?;
            return Ok(Held::F32(values));
        };
        // The shape of a narrow one was checked to be a matrix.
        let (rows, columns) = (shape[0], shape[1]);
        match Narrow::from_bytes(format, rows, columns, read_all(&self.file, range.clone())?) {
            Ok(narrow) => Ok(Held::Narrow(narrow)),
            Err(WeightsError::BlockFactor { index, .. }) => {
                let name = name.to_owned();
                Err(ConvertedError::Factor { name, index }.into())
            }
            Err(error) => Err(error),
        }
    }
}

impl<R: ReadAt> Tensors for ConvertedTensors<R> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        Ok(&self.entry(name)?.shape)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        Ok(self.as_stored(name)?.widen())
    }

    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        if storage == self.storage {
            return self.as_stored(name);
        }
        Held::new(self.shape(name)?, self.f32(name)?, storage)
    }
}

/// Bytes of a file, all of them.
fn read_all<R: ReadAt>(file: &R, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
    let expected = range.end - range.start;
    let mut bytes = vec![0; expected as usize];
    let found = match bytes.is_empty() {
        true => 0,
        false => file.read_into(range.start, &mut bytes)?,
    };
    if found == bytes.len() {
        return Ok(bytes);
    }
    let found = found as u64;
    Err(ConvertedError::Cut { expected, found }.into())
}
