//! The JSON header of a safetensors file, checked more strictly than the format's own library does.
//!
//! The library (0.8) lets pass: a tensor or metadata key given twice with equal ranges, white space before the
//! header, unknown fields in an entry, any number of tensors, any name. Here each is an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::shown;
use crate::json::{self, Pairs};
use crate::{Dtype, ForeignFormat, Limits, WeightsError};

/// Bytes of the length field in front of the header.
pub(crate) const LENGTH_FIELD: usize = 8;
/// Bytes by which a foreign format is told; a tar archive shows itself last.
pub(crate) const DETECTION: usize = 512;
const METADATA: &str = "__metadata__";

/// Where one tensor lies in the data part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// `u64`, because a file that is read in parts may be larger than the memory can be.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A checked header: its entries tile the data part exactly.
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The offset of the data part in the file.
    pub(crate) data: usize,
}

/// One tensor as the header states it. `u64` and not `usize`: a wasm32 reader must see the real numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The whole header: tensors, and the free text beside them.
struct RawHeader {
    tensors: Vec<(String, RawEntry)>,
    metadata: Vec<Pairs<String>>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawHeader, M::Error> {
                let mut header = RawHeader {
                    tensors: Vec::new(),
                    metadata: Vec::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        header.metadata.push(map.next_value()?);
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// The length of the header, by the first bytes of a file of `file` bytes, of which `bytes` are at hand.
///
/// `None` if those are too few to say.
pub(crate) fn length(bytes: &[u8], file: u64, limits: &Limits) -> Result<Option<usize>, WeightsError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_FIELD>() else {
        if bytes.len() as u64 != file {
            return Ok(None);
        }
        let detected = ForeignFormat::detect(bytes).map(|format| WeightsError::Foreign { format });
        return Err(detected.unwrap_or(WeightsError::TooShort { found: bytes.len() }));
    };
    if bytes.len() < DETECTION && (bytes.len() as u64) < file {
        return Ok(None);
    }
    let length = u64::from_le_bytes(*length);
    // The length of a short header can look like a pickle's first bytes; such a file is called a pickle only if it
    // cannot be safetensors.
    if let Some(format) = ForeignFormat::detect(bytes)
        && (rest.first() != Some(&b'{') || length > limits.header_bytes as u64)
    {
        return Err(WeightsError::Foreign { format });
    }
    let header = usize::try_from(length)
        .ok()
        .filter(|&header| header <= limits.header_bytes)
        .ok_or(WeightsError::HeaderTooLong {
            found: length,
            limit: limits.header_bytes,
        })?;
    let found = file.saturating_sub(LENGTH_FIELD as u64);
    if length > found {
        return Err(WeightsError::HeaderCut { header: length, found });
    }
    Ok(Some(header))
}

/// Reads and checks the header of a file of `file` bytes, which `bytes` start with.
pub(crate) fn parse(bytes: &[u8], file: u64, limits: &Limits) -> Result<Header, WeightsError> {
    let cut = |header: usize| WeightsError::HeaderCut {
        header: header as u64,
        found: (bytes.len() as u64).saturating_sub(LENGTH_FIELD as u64),
    };
    let header = length(bytes, file, limits)?.ok_or_else(|| cut(DETECTION))?;
    let json = bytes.get(LENGTH_FIELD..).and_then(|rest| rest.get(..header));
    let json = json.ok_or_else(|| cut(header))?;
    match json.first() {
        Some(b'{') => {}
        Some(&found) => return Err(WeightsError::HeaderStart { found }),
        None => {
            return Err(WeightsError::HeaderJson {
                reason: "it is empty".to_owned(),
            });
        }
    }
    let raw: RawHeader = serde_json::from_slice(json).map_err(|e| WeightsError::HeaderJson {
        reason: json::shown_reason(&e),
    })?;
    let data = LENGTH_FIELD + header;
    let metadata = check_metadata(raw.metadata, limits)?;
    let tensors = check_tensors(raw.tensors, file.saturating_sub(data as u64), limits)?;
    Ok(Header {
        tensors,
        metadata,
        data,
    })
}

fn check_metadata(raw: Vec<Pairs<String>>, limits: &Limits) -> Result<BTreeMap<String, String>, WeightsError> {
    let mut parts = raw.into_iter();
    let pairs = parts.next().map_or_else(Vec::new, |part| part.0);
    if parts.next().is_some() {
        return Err(WeightsError::DuplicateMetadata {
            key: METADATA.to_owned(),
        });
    }
    let found = pairs
        .iter()
        .fold(0usize, |sum, (key, value)| sum.saturating_add(key.len() + value.len()));
    if found > limits.metadata_bytes {
        return Err(WeightsError::MetadataTooLong {
            found,
            limit: limits.metadata_bytes,
        });
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in pairs {
        if metadata.contains_key(&key) {
            return Err(WeightsError::DuplicateMetadata { key: shown(&key) });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn check_tensors(
    raw: Vec<(String, RawEntry)>,
    data_len: u64,
    limits: &Limits,
) -> Result<BTreeMap<String, Entry>, WeightsError> {
    if raw.len() > limits.tensors {
        return Err(WeightsError::TooManyTensors {
            found: raw.len(),
            limit: limits.tensors,
        });
    }
    let mut checked = Vec::with_capacity(raw.len());
    for (name, entry) in raw {
        check_name(&name, limits)?;
        let entry = check_entry(&name, entry, limits)?;
        checked.push((name, entry));
    }
    let mut names: Vec<_> = checked.iter().map(|(name, _)| name).collect();
    names.sort();
    if let Some([name, _]) = names.array_windows().find(|[first, second]| first == second) {
        return Err(WeightsError::DuplicateTensor { name: name.to_string() });
    }
    // Tensors without values come before the one that starts where they lie.
    checked.sort_by_key(|(_, x)| (x.start, x.end));
    let mut expected = 0;
    for (name, Entry { start, end, .. }) in &checked {
        let (name, found) = (name.clone(), *start);
        if found < expected {
            return Err(WeightsError::Overlap { name, expected, found });
        }
        if found > expected {
            return Err(WeightsError::Hole { name, expected, found });
        }
        if *end > data_len {
            return Err(WeightsError::DataCut {
                name,
                expected: *end,
                found: data_len,
            });
        }
        expected = *end;
    }
    if expected < data_len {
        return Err(WeightsError::Trailing {
            expected,
            found: data_len,
        });
    }
    Ok(checked.into_iter().collect())
}

/// Names are printed, compared and looked up: spaces, controls and look-alike letters have no use there.
pub(crate) fn check_name(name: &str, limits: &Limits) -> Result<(), WeightsError> {
    let problem = if name.is_empty() {
        "empty"
    } else if name.len() > limits.name_bytes {
        "too long"
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        "not printable ASCII"
    } else {
        return Ok(());
    };
    Err(WeightsError::TensorName {
        name: shown(name),
        problem,
        limit: limits.name_bytes,
    })
}

fn check_entry(name: &str, raw: RawEntry, limits: &Limits) -> Result<Entry, WeightsError> {
    let RawEntry {
        dtype,
        shape,
        data_offsets: (start, end),
    } = raw;
    let name = || name.to_owned();
    let dtype = Dtype::from_name(&dtype).ok_or_else(|| WeightsError::Dtype {
        name: name(),
        found: shown(&dtype),
    })?;
    if shape.len() > limits.dims {
        return Err(WeightsError::TooManyDims {
            name: name(),
            found: shape.len(),
            limit: limits.dims,
        });
    }
    let range = end.checked_sub(start).ok_or_else(|| WeightsError::Reversed {
        name: name(),
        start,
        end,
    })?;
    // Any overflow on the way is one, even if a later dimension is zero: such shapes have no honest maker.
    let bytes = shape
        .iter()
        .try_fold(dtype.size() as u64, |product, &dim| product.checked_mul(dim));
    let dims = shape
        .iter()
        .map(|&dim| usize::try_from(dim).ok())
        .collect::<Option<Vec<_>>>();
    let (Some(bytes), Some(dims)) = (bytes, dims) else {
        return Err(WeightsError::ShapeOverflow { name: name(), shape });
    };
    if bytes != range {
        return Err(WeightsError::Length {
            name: name(),
            shape,
            dtype: dtype.name(),
            expected: bytes,
            found: range,
        });
    }
    Ok(Entry {
        dtype,
        shape: dims,
        start,
        end,
    })
}
