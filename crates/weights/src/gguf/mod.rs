//! The strict reader of GGUF, llama.cpp's format, for T5 models. Versions 2 and 3 of the format, which differ in what
//! byte orders they allow; specified at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! It reads tensors. A GGUF file carries its own copy of configuration and vocabulary, under names that differ from
//! tool to tool and are often absent; here both come from the files beside it.

mod error;
mod header;
mod kquants;
mod names;

use std::collections::BTreeMap;

pub use error::GgufError;

use crate::quant::Narrow;
use crate::safetensors::decode_finite;
use crate::tensors::{ReadAt, Tensors};
use crate::{Limits, WeightsError};
use header::{Entry, Kind};

/// A GGUF file of which one tensor at a time is in memory. Tensors have Hugging Face's names, whether the file has
/// those (candle's) or llama.cpp's.
#[derive(Clone, Debug)]
pub struct GgufTensors<R> {
    file: R,
    /// By Hugging Face's names.
    tensors: BTreeMap<String, Entry>,
}

impl<R: ReadAt> GgufTensors<R> {
    /// Reads and checks the header, and nothing of the values (those are checked as they are read).
    ///
    /// Metadata are passed over, but for the alignment, the architecture (`t5`, if any) and the number of parts (one).
    /// Tensors are F32, F16, BF16, Q8_0, Q4_0, Q6_K or Q4_K, each named once, within `limits`; their data tile the rest of
    /// the file exactly, but for the padding to the alignment.
    ///
    /// # Errors
    /// [`WeightsError::Gguf`], [`WeightsError::Read`], or the variant that names the fault.
    pub fn open(file: R, limits: &Limits) -> Result<Self, WeightsError> {
        let entries = header::read(&file, limits)?;
        let own: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        let tensors = names::hugging_face(&own)?.into_iter().zip(entries).collect();
        Ok(Self { file, tensors })
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }
}

impl<R: ReadAt> Tensors for GgufTensors<R> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        Ok(&self.entry(name)?.shape)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let entry = self.entry(name)?;
        let bytes = match entry.range.is_empty() {
            true => Vec::new(),
            false => self.file.read_at(entry.range.clone())?,
        };
        let expected = entry.range.end - entry.range.start;
        if bytes.len() as u64 != expected {
            return Err(WeightsError::TensorBytes {
                name: name.to_owned(),
                expected,
                found: bytes.len() as u64,
            });
        }
        let factor = |index| GgufError::Factor {
            name: name.to_owned(),
            index,
        };
        let format = match entry.kind {
            Kind::Plain(dtype) => return decode_finite(name, &bytes, dtype),
            Kind::Superblocks(form) => return form.widen(&bytes).map_err(|index| factor(index).into()),
            Kind::Blocks(format) => format,
        };
        let columns = entry.shape.last().copied().unwrap_or(1);
        let rows = entry.shape.iter().rev().skip(1).product();
        match Narrow::from_bytes(format, rows, columns, bytes) {
            Ok(narrow) => Ok(narrow.widen()),
            Err(WeightsError::BlockFactor { index, .. }) => Err(factor(index).into()),
            Err(error) => Err(error),
        }
    }
}
