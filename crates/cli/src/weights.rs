//! The weights of a base on disk, in any form that [`BaseForm`] knows.
//!
//! Each file is read once for its hash. Then what is in memory is a header and one tensor, or a PyTorch archive whole.
//! Of a base in the store, what is converted for a device is kept, and read the next time in place of its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use lorahub_hub::{Conversion, Converted, Hasher, HubError, Sha256, delete_kept};
use lorahub_t5::T5Error;
use lorahub_weights::quant::WeightStorage;
use lorahub_weights::{BaseForm, ConvertedTensors, Converting, ReadAt, Tensors, WeightsError};

use crate::base::BASE;
use crate::error::CliError;
use crate::files::{JSON_BYTES, WEIGHTS_BYTES};
use crate::hub::{Held, Place, SystemClock};
use crate::output::warn;

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

/// Works with a base's weights and their hash ([`BaseForm::sha256`]). `storage` is that of the device for which each of
/// them is asked for once, if there is one.
///
/// # Errors
/// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Read`], [`CliError::Base`], and [`CliError::Hub`] if the
/// store has changed a file.
pub(crate) fn with_weights<T>(
    place: &Place,
    storage: Option<WeightStorage>,
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
    let keeping = match place {
        Place::Kept(held) => storage
            .filter(|storage| Converted::is_kept_for(*storage))
            .map(|storage| (&**held, storage)),
        Place::Folder(_) => None,
    };
    if let Some((held, storage)) = keeping {
        let known = form
            .files()
            .into_iter()
            .map(|name| held.sha256(name))
            .collect::<Option<Vec<_>>>();
        if let Some(source) = known.map(|hashes| BaseForm::sha256(&hashes))
            && let Some(tensors) = open_converted(held, &source, storage)?
        {
            return work(&tensors, &source);
        }
    }
    let mut files = BTreeMap::new();
    let mut hashes = Vec::new();
    for name in form.files() {
        let (file, sha256) = OnDisk::open(place, name)?;
        hashes.push(sha256.to_string());
        files.insert(name.to_owned(), file);
    }
    let weights = form.open(files, WEIGHTS_BYTES).map_err(of_base)?;
    let tensors = weights.tensors().map_err(of_base)?;
    let source = BaseForm::sha256(&hashes);
    match keeping {
        Some((held, storage)) if !tensors.is_in(storage) => converting(held, &*tensors, &source, storage, work),
        _ => work(&*tensors, &source),
    }
}

/// What was converted before, all of it hashed; `None` if there is nothing, or not what was made.
fn open_converted(
    held: &Held,
    source: &str,
    storage: WeightStorage,
) -> Result<Option<ConvertedTensors<OnDisk>>, CliError> {
    let Some(stored) = held.kept().converted(source, storage) else {
        return Ok(None);
    };
    let path = held.store().path(stored.sha256);
    if let Ok((file, found)) = OnDisk::read(&path)
        && found == stored.sha256
        && let Ok(tensors) = ConvertedTensors::open(file, source, storage)
    {
        return Ok(Some(tensors));
    }
    pollster::block_on(delete_kept(held.store(), stored.sha256))?;
    Ok(None)
}

/// Works with tensors that are kept as they are converted; if they cannot be, the work goes on and a warning says so.
fn converting<T>(
    held: &Held,
    tensors: &dyn Tensors,
    source: &str,
    storage: WeightStorage,
    work: impl FnOnce(&dyn Tensors, &str) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let not_kept = |problem: &dyn std::fmt::Display| {
        warn(&format!(
            "the converted weights are not kept for the next time: {problem}"
        ));
    };
    let begun = pollster::block_on(Conversion::begin(held.store(), &held.kept().name, source, storage));
    let (conversion, out) = match begun {
        Ok(begun) => begun,
        Err(problem) => {
            not_kept(&problem);
            return work(tensors, source);
        }
    };
    let converting = Converting::new(tensors, source, storage, out);
    let result = work(&converting, source);
    match (result.is_ok(), converting.finish()) {
        (true, Ok(written)) => {
            let clock = SystemClock::start().map_err(CliError::Thread)?;
            if let Err(problem) = pollster::block_on(conversion.keep(&clock, written)) {
                not_kept(&problem);
            }
        }
        (true, Err(problem)) => {
            not_kept(&problem);
            pollster::block_on(conversion.give_up(None))?;
        }
        (false, written) => pollster::block_on(conversion.give_up(written.ok()))?,
    }
    result
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
        let (file, found) = Self::read(&path).map_err(|source| CliError::Read { path, source })?;
        match expected {
            Some(expected) if expected != found => Err(HubError::Corrupt { expected, found }.into()),
            _ => Ok((file, found)),
        }
    }

    /// Opens a file, and reads it once for its hash.
    fn read(path: &Path) -> std::io::Result<(Self, Sha256)> {
        let mut file = File::open(path)?;
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
                Err(error) => return Err(error),
            }
        }
        Ok((Self { file, size }, hasher.finish()))
    }
}

impl ReadAt for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
        self.read_into(range.start, &mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<usize, WeightsError> {
        let mut read = || {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(bytes)
        };
        read().map_err(|error: std::io::Error| WeightsError::Read {
            reason: error.to_string(),
        })?;
        Ok(bytes.len())
    }
}
