//! The weights of a base on disk, in any form that [`BaseForm`] knows.
//!
//! Each file is read once for its hash. Then what is in memory is a header and one tensor, or a PyTorch archive whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use lorahub_hub::{Hasher, HubError, Sha256};
use lorahub_t5::T5Error;
use lorahub_weights::{BaseForm, ReadAt, Tensors, WeightsError};

use crate::base::BASE;
use crate::error::CliError;
use crate::files::{JSON_BYTES, WEIGHTS_BYTES};
use crate::hub::Place;

/// Bytes hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// What can go wrong before the base is at fault.
enum Failed {
    Weights(WeightsError),
    Other(CliError),
}

impl From<WeightsError> for Failed {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error)
    }
}

/// Works with a base's weights and their hash ([`BaseForm::sha256`]).
///
/// # Errors
/// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Read`], [`CliError::Base`], and [`CliError::Hub`] if the
/// store has changed a file.
pub(crate) fn with_weights<T>(
    place: &Place,
    work: impl FnOnce(&dyn Tensors, &str) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let of_base = |error: WeightsError| CliError::Base {
        folder: place.to_string(),
        source: Box::new(T5Error::from(error)),
    };
    let names = place.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = |name: &str| place.read(BASE, name, JSON_BYTES).map_err(Failed::Other);
    let form = BaseForm::find(&names, index).map_err(|failed| match failed {
        Failed::Weights(error) => of_base(error),
        Failed::Other(error) => error,
    })?;
    let mut files = BTreeMap::new();
    let mut hashes = Vec::new();
    for name in form.files() {
        let (file, sha256) = OnDisk::open(place, name)?;
        hashes.push(sha256.to_string());
        files.insert(name.to_owned(), file);
    }
    let weights = form.open(files, WEIGHTS_BYTES).map_err(of_base)?;
    work(&*weights.tensors().map_err(of_base)?, &BaseForm::sha256(&hashes))
}

/// A file that is read by ranges.
#[derive(Debug)]
struct OnDisk {
    file: File,
    size: u64,
}

impl OnDisk {
    /// Opens a file of a base, and reads it once for its hash.
    fn open(place: &Place, name: &str) -> Result<(Self, Sha256), CliError> {
        let (path, expected) = place.path(BASE, name)?;
        let failed = |source| CliError::Read {
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hasher = Hasher::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut size = 0;
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&piece[..count]);
                    size += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let found = hasher.finish();
        match expected {
            Some(expected) if expected != found => Err(HubError::Corrupt { expected, found }.into()),
            _ => Ok((Self { file, size }, found)),
        }
    }
}

impl ReadAt for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let read = || {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end.saturating_sub(range.start);
            let mut bytes = Vec::new();
            if file.take(length).read_to_end(&mut bytes)? as u64 == length {
                Ok(bytes)
            } else {
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
        };
        read().map_err(|error: std::io::Error| WeightsError::Read {
            reason: error.to_string(),
        })
    }
}
