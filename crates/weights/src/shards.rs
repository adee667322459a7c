//! The index of a model in several safetensors files (`model.safetensors.index.json`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::header::check_name;
use crate::json::{self, Pairs};
use crate::{Limits, SafeTensorsHeader, WeightsError, shown};

/// The longest name of a shard, as file systems have it.
const FILE_NAME: usize = 255;

/// Which tensors lie in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    files: BTreeMap<String, BTreeSet<String>>,
}

impl ShardIndex {
    /// Reads an index. Its `metadata` (a total size, which tools fill in differently) is not looked at.
    ///
    /// # Errors
    /// [`WeightsError::IndexJson`], [`WeightsError::IndexFile`] for a file that is not a plain name, and
    /// [`WeightsError::DuplicateTensor`], [`WeightsError::TensorName`] or [`WeightsError::TooManyTensors`].
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, WeightsError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            #[serde(default, rename = "metadata")]
            _metadata: Option<serde::de::IgnoredAny>,
            weight_map: Pairs<String>,
        }
        let wrong = |reason| WeightsError::IndexJson { reason };
        if bytes.len() > limits.header_bytes {
            return Err(wrong(format!(
                "it has {} bytes, the limit is {}",
                bytes.len(),
                limits.header_bytes
            )));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| wrong(json::shown_reason(&e)))?;
        let Pairs(pairs) = raw.weight_map;
        if pairs.is_empty() {
            return Err(wrong("it maps no tensors".to_owned()));
        }
        if pairs.len() > limits.tensors {
            let (found, limit) = (pairs.len(), limits.tensors);
            return Err(WeightsError::TooManyTensors { found, limit });
        }
        let mut seen = BTreeSet::new();
        let mut files: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (name, file) in pairs {
            check_name(&name, limits)?;
            if !is_plain(&file) {
                return Err(WeightsError::IndexFile { file: shown(&file) });
            }
            if !seen.insert(name.clone()) {
                return Err(WeightsError::DuplicateTensor { name });
            }
            files.entry(file).or_default().insert(name);
        }
        Ok(Self { files })
    }

    /// The files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The file in which a tensor lies.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if the index does not name it.
    pub fn file_of(&self, name: &str) -> Result<&str, WeightsError> {
        self.files
            .iter()
            .find(|(_, names)| names.contains(name))
            .map(|(file, _)| file.as_str())
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }

    /// Checks that a shard has exactly the tensors that the index puts there.
    ///
    /// # Errors
    /// [`WeightsError::IndexFile`] if the index has no such file, [`WeightsError::ShardLacks`] and
    /// [`WeightsError::ShardExtra`], each with the first such tensor.
    pub fn check(&self, file: &str, header: &SafeTensorsHeader) -> Result<(), WeightsError> {
        let shown_file = || shown(file);
        let names = self
            .files
            .get(file)
            .ok_or_else(|| WeightsError::IndexFile { file: shown_file() })?;
        if let Some(name) = names.iter().find(|name| !header.contains(name)) {
            return Err(WeightsError::ShardLacks {
                file: shown_file(),
                name: name.clone(),
            });
        }
        match header.names().find(|name| !names.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(WeightsError::ShardExtra {
                file: shown_file(),
                name: name.to_owned(),
            }),
        }
    }
}

/// Whether a name is one file beside the index: it becomes part of an address and of a path.
fn is_plain(file: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    file.len() <= FILE_NAME && !file.starts_with('.') && file.ends_with(".safetensors") && file.bytes().all(allowed)
}
