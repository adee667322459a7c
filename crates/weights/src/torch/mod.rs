//! The strict reader of what `torch.save` writes since PyTorch 1.6: a zip archive with a pickle and raw storages.
//!
//! It reads a dict of tensors and nothing else: no code, no objects, no compression. `torch.load(weights_only=True)`
//! has had holes of its own (CVE-2025-32434, CVE-2026-24747), so what a storage says of itself is checked here against
//! the bytes that are there.

mod error;
mod pickle;
mod storage;
mod zip;

use std::collections::BTreeMap;

pub use error::TorchError;

use crate::header::check_name;
use crate::safetensors::check_finite;
use crate::{Dtype, ForeignFormat, Limits, WeightsError, shown};
use storage::{Storage, Tensor};

/// Values that the tensors of a small file may have together, though it has fewer bytes: room for expanded views.
const FREE_VALUES: u64 = 1 << 20;

/// A checked PyTorch archive: its directory and pickle are read, its tensors are borrowed bytes until asked for.
#[derive(Clone, Debug)]
pub struct TorchArchive<'a> {
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

impl<'a> TorchArchive<'a> {
    /// Checks the archive, its pickle and every tensor's place, and nothing of the values (those are checked as they
    /// are read).
    ///
    /// Entries must be stored and may not share bytes. The pickle must be a dict from names to tensors, in a format of
    /// [`Dtype`] and within `limits`; views of any strides that are not negative are read, and storages may be shared.
    /// Entries that no tensor looks at are ignored.
    ///
    /// # Errors
    /// [`WeightsError::Foreign`] for another format that is recognised, else [`WeightsError::Torch`] or the variant
    /// that names the fault.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, WeightsError> {
        match ForeignFormat::detect(bytes) {
            None | Some(ForeignFormat::TorchZip) => {}
            Some(format) => return Err(WeightsError::Foreign { format }),
        }
        let entries = zip::entries(bytes)?;
        let pickle = pickle_of(&entries)?;
        let pickle::StateDict {
            tensors: views,
            storages,
        } = pickle::read(pickle)?;
        let storages = storages
            .into_iter()
            .map(|storage| Ok((storage, storage_data(&storage, &entries)?)))
            .collect::<Result<Vec<_>, TorchError>>()?;
        if views.len() > limits.tensors {
            return Err(WeightsError::TooManyTensors {
                found: views.len(),
                limit: limits.tensors,
            });
        }
        let limit = FREE_VALUES.max(bytes.len() as u64);
        let mut values = 0u64;
        let mut tensors = BTreeMap::new();
        for (name, view) in views {
            check_name(name, limits)?;
            // The pickle machine makes views only of storages it has made.
            let Some((storage, data)) = storages.get(view.storage) else {
                return Err(TorchError::NoStorage { key: String::new() }.into());
            };
            let tensor = Tensor::new(name, view, storage, data, limits)?;
            values = values.saturating_add(tensor.len() as u64);
            if values > limit {
                let name = name.to_owned();
                return Err(TorchError::TooManyValues { name, limit }.into());
            }
            if tensors.insert(name, tensor).is_some() {
                return Err(WeightsError::DuplicateTensor { name: name.to_owned() });
            }
        }
        Ok(Self { tensors })
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether the archive has no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().copied()
    }

    /// Whether a tensor of this name is in the archive.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor's shape, outermost dimension first.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        Ok(&self.tensor(name)?.shape)
    }

    /// A tensor's number format.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn dtype(&self, name: &str) -> Result<Dtype, WeightsError> {
        Ok(self.tensor(name)?.dtype)
    }

    /// A tensor's values as `f32`, row-major; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name; [`WeightsError::NonFinite`] with the index of the
    /// first value that is NaN or infinite.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let values = self.tensor(name)?.values();
        check_finite(name, &values)?;
        Ok(values)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor<'a>, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }
}

fn pickle_of<'a>(entries: &BTreeMap<&str, &'a [u8]>) -> Result<&'a [u8], TorchError> {
    if entries.contains_key("constants.pkl") {
        return Err(TorchError::Script { name: "constants.pkl" });
    }
    if let Some(order) = entries.get("byteorder")
        && *order != b"little"
    {
        return Err(TorchError::ByteOrder {
            found: shown(&String::from_utf8_lossy(order)),
        });
    }
    entries.get("data.pkl").copied().ok_or(TorchError::NoPickle)
}

fn storage_data<'a>(storage: &Storage<'_>, entries: &BTreeMap<&str, &'a [u8]>) -> Result<&'a [u8], TorchError> {
    let Storage { kind, key, numel } = *storage;
    let number = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    let data = entries
        .get(format!("data/{key}").as_str())
        .filter(|_| number)
        .ok_or_else(|| TorchError::NoStorage { key: shown(key) })?;
    let (expected, found) = (numel.saturating_mul(kind.size), data.len() as u64);
    if expected != found {
        return Err(TorchError::StorageSize {
            key: shown(key),
            numel,
            dtype: kind.name,
            expected,
            found,
        });
    }
    Ok(data)
}
