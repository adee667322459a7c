//! The weights of a base: one safetensors file, several with an index, or what `torch.save` wrote.
//!
//! Safetensors stay in their files: what is in memory is a header and one tensor. A PyTorch archive is read whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use lorahub_hub::{Hasher, HubError, Sha256};
use lorahub_t5::T5Error;
use lorahub_weights::{
    FileTensors, Limits, ReadAt, ShardIndex, ShardedTensors, Tensors, TorchArchive, WeightsError, sha256_hex,
};

use crate::base::BASE;
use crate::error::CliError;
use crate::files::{JSON_BYTES, WEIGHTS_BYTES};
use crate::hub::Place;

/// One file.
pub(crate) const SAFETENSORS: &str = "model.safetensors";
/// Several, and which tensor is in which.
const INDEX: &str = "model.safetensors.index.json";
/// What `torch.save` wrote.
const PICKLED: &str = "pytorch_model.bin";
/// Bytes hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// Works with a base's weights and their hash, in hexadecimal: that of the file or, of several, the hash of their
/// hashes, one a line, in the order of their names. Of several forms it is the one that transformers would take.
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
    if !place.has(SAFETENSORS) && place.has(INDEX) {
        let index = ShardIndex::parse(&place.read(BASE, INDEX, JSON_BYTES)?, &Limits::BASE).map_err(of_base)?;
        let mut files = BTreeMap::new();
        let mut hashes = String::new();
        for name in index.files() {
            let (file, sha256) = OnDisk::open(place, name)?;
            hashes.push_str(&format!("{sha256}\n"));
            files.insert(name.to_owned(), file);
        }
        let open = |name: &str| {
            files.remove(name).ok_or_else(|| WeightsError::Read {
                reason: format!("`{name}` was opened already"),
            })
        };
        let tensors = ShardedTensors::open(index, &Limits::BASE, open).map_err(of_base)?;
        return work(&tensors, &sha256_hex(hashes.as_bytes()));
    }
    if !place.has(SAFETENSORS) && place.has(PICKLED) {
        let bytes = place.read(BASE, PICKLED, WEIGHTS_BYTES)?;
        let tensors = TorchArchive::parse(&bytes, &Limits::BASE).map_err(of_base)?;
        return work(&tensors, &sha256_hex(&bytes));
    }
    let (file, sha256) = OnDisk::open(place, SAFETENSORS)?;
    let tensors = FileTensors::open(file, &Limits::BASE).map_err(of_base)?;
    work(&tensors, &sha256.to_string())
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
