//! The strict safetensors reader.

use std::collections::BTreeMap;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::header::{self, Entry};
use crate::{Dtype, WeightsError};

/// How large the parts of a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the JSON header.
    pub header_bytes: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of one tensor's name.
    pub name_bytes: usize,
    /// Dimensions of one tensor.
    pub dims: usize,
    /// Bytes of all metadata keys and values together.
    pub metadata_bytes: usize,
}

impl Limits {
    /// For an adapter, which anyone may have made.
    pub const ADAPTER: Self = Self {
        header_bytes: 8 << 20,
        tensors: 10_000,
        name_bytes: 512,
        dims: 8,
        metadata_bytes: 64 << 10,
    };
    /// For a base model: the format's own header limit.
    pub const BASE: Self = Self {
        header_bytes: 100_000_000,
        metadata_bytes: 1 << 20,
        ..Self::ADAPTER
    };
}

/// A checked safetensors file: its header is parsed, its tensors are borrowed bytes until read.
#[derive(Clone, Debug)]
pub struct SafeTensors<'a> {
    data: &'a [u8],
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl<'a> SafeTensors<'a> {
    /// Checks the whole header, and nothing of the values (those are checked as they are read).
    ///
    /// The tensors must tile the data part exactly, each named once, in a format of [`Dtype`], within `limits`.
    /// The safetensors library has the last word on what passes our own checks.
    ///
    /// # Errors
    /// [`WeightsError::Foreign`] for another format that is recognised, else the variant that names the fault.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, WeightsError> {
        let header = header::parse(bytes, bytes.len() as u64, limits)?;
        ::safetensors::SafeTensors::read_metadata(bytes).map_err(|error| WeightsError::Refused {
            reason: error.to_string(),
        })?;
        let data = bytes.get(header.data..).unwrap_or_default();
        Ok(Self {
            data,
            tensors: header.tensors,
            metadata: header.metadata,
        })
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether the file has no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor of this name is in the file.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor's shape, outermost dimension first.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        Ok(&self.entry(name)?.shape)
    }

    /// A tensor's number format.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn dtype(&self, name: &str) -> Result<Dtype, WeightsError> {
        Ok(self.entry(name)?.dtype)
    }

    /// A tensor's values as `f32`, row-major; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name; [`WeightsError::NonFinite`] with the index of the
    /// first value that is NaN or infinite.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let entry = self.entry(name)?;
        // `header::parse` checked the range against the data; an empty slice could only be an empty tensor.
        let bytes = self
            .data
            .get(entry.start as usize..entry.end as usize)
            .unwrap_or_default();
        decode_finite(name, bytes, entry.dtype)
    }

    /// The file's free text (`__metadata__`). It is outside text: show it as text only.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }
}

/// Little-endian stored values as `f32`, all of them finite.
pub(crate) fn decode_finite(name: &str, bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>, WeightsError> {
    let mut values = Vec::with_capacity(bytes.len() / dtype.size());
    decode(bytes, dtype, &mut values);
    check_finite(name, &values)?;
    Ok(values)
}

/// Refuses NaN and infinities among the values of the tensor `name`.
pub(crate) fn check_finite(name: &str, values: &[f32]) -> Result<(), WeightsError> {
    match first_special(values) {
        None => Ok(()),
        Some(index) => {
            let value = match values[index] {
                value if value.is_nan() => "NaN",
                value if value > 0.0 => "inf",
                _ => "-inf",
            };
            Err(WeightsError::NonFinite {
                name: name.to_owned(),
                index,
                value,
            })
        }
    }
}

/// The first infinity or NaN. Piece by piece, because a search that may end at any value does not become vectors.
fn first_special(values: &[f32]) -> Option<usize> {
    const PIECE: usize = 4096;
    /// The exponent of infinities and NaNs, and its lowest bit.
    const SPECIAL: u32 = 0x7f80_0000;
    const ONE: u32 = 0x0080_0000;
    /// Not inlined: an engine that compiles a function better meanwhile uses it from the next call on.
    #[inline(never)]
    fn all_finite(piece: &[f32]) -> bool {
        // One more than the largest exponent is the sign's bit.
        let carried = |carried, value: &f32| carried | ((value.to_bits() & SPECIAL) + ONE);
        piece.iter().fold(0u32, carried) >> 31 == 0
    }
    let at = values.chunks(PIECE).position(|piece| !all_finite(piece))? * PIECE;
    let of_piece = values[at..].iter().position(|value| !value.is_finite())?;
    Some(at + of_piece)
}

/// Appends little-endian stored values as `f32`. The bytes may start at any address.
pub(crate) fn decode(bytes: &[u8], dtype: Dtype, out: &mut Vec<f32>) {
    // Conversion in blocks, because the library's vector code needs slices of the half type.
    const BLOCK: usize = 4096;
    let first = out.len();
    out.resize(first + bytes.len() / dtype.size(), 0.0);
    let values = &mut out[first..];
    match dtype {
        Dtype::F32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => {
            let mut block = [f16::ZERO; BLOCK];
            for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.as_chunks::<2>().0.chunks(BLOCK)) {
                let block = &mut block[..values.len()];
                block
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(half, bytes)| *half = f16::from_le_bytes(*bytes));
                block.convert_to_f32_slice(values);
            }
        }
        Dtype::BF16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
    }
}
