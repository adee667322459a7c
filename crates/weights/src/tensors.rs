//! Tensors by name, wherever they lie: whole in memory, in a file that is read by ranges, in several.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::quant::{Format, Narrow, SMALL, WeightStorage};
use crate::safetensors::{check_finite, decode};
use crate::{Dtype, Held, Limits, SafeTensors, SafeTensorsHeader, ShardIndex, TorchArchive, WeightFile, WeightsError};

/// Named tensors, each read when it is asked for.
pub trait Tensors {
    /// The names, in no order that means anything.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// A tensor's shape, outermost dimension first.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    fn shape(&self, name: &str) -> Result<&[usize], WeightsError>;

    /// A tensor's values as `f32`, row-major; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::NonFinite`], and [`WeightsError::Read`] where they must be fetched.
    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError>;

    /// A tensor's values in the form that `storage` takes for them: read in that form where they lie in it, else
    /// converted.
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        Held::new(self.shape(name)?, self.f32(name)?, storage)
    }

    /// Whether [`held`](Self::held) converts nothing for this storage.
    fn is_in(&self, _storage: WeightStorage) -> bool {
        false
    }
}

impl<T: Tensors + ?Sized> Tensors for &T {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        (**self).names()
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        (**self).shape(name)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        (**self).f32(name)
    }

    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        (**self).held(name, storage)
    }

    fn is_in(&self, storage: WeightStorage) -> bool {
        (**self).is_in(storage)
    }
}

/// The readers of whole files have the methods already.
macro_rules! in_memory {
    ($($reader:ident),*) => {$(
        impl Tensors for $reader<'_> {
            fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
                Box::new(self.names())
            }

            fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
                self.shape(name)
            }

            fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
                self.f32(name)
            }
        }
    )*};
}

in_memory!(SafeTensors, TorchArchive, WeightFile);

/// A file that is read by ranges.
pub trait ReadAt {
    /// Its bytes.
    fn size(&self) -> u64;

    /// These bytes of it, all of them.
    ///
    /// # Errors
    /// [`WeightsError::Read`] with what the system says.
    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, WeightsError>;

    /// Fills `bytes` with those from `start` on, and returns how many there are: fewer where the file has become
    /// shorter.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<usize, WeightsError> {
        let found = self.read_at(start..start.saturating_add(bytes.len() as u64))?;
        let length = found.len().min(bytes.len());
        bytes[..length].copy_from_slice(&found[..length]);
        Ok(length)
    }
}

/// A safetensors file of which the header and one tensor at a time are in memory.
#[derive(Clone, Debug)]
pub struct FileTensors<R> {
    file: R,
    header: SafeTensorsHeader,
}

impl<R: ReadAt> FileTensors<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// As [`SafeTensorsHeader::parse`], and [`WeightsError::Read`].
    pub fn open(file: R, limits: &Limits) -> Result<Self, WeightsError> {
        let size = file.size();
        let mut first = Vec::new();
        loop {
            let (needed, have) = (SafeTensorsHeader::needed(&first, size, limits)?, first.len() as u64);
            if needed <= have {
                break;
            }
            let more = file.read_at(have..needed)?;
            if more.is_empty() {
                // Shorter than its size was a moment ago; the check of the header says so.
                break;
            }
            first.extend_from_slice(&more);
        }
        let header = SafeTensorsHeader::parse(&first, size, limits)?;
        Ok(Self { file, header })
    }

    /// The header: names, shapes and formats.
    pub fn header(&self) -> &SafeTensorsHeader {
        &self.header
    }
}

impl<R: ReadAt> Tensors for FileTensors<R> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.header.names())
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        self.header.shape(name)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let (range, dtype) = (self.header.range(name)?, self.header.dtype(name)?);
        let values = read_f32(&self.file, name, range, dtype, self.header.shape(name)?)?;
        check_finite(name, &values)?;
        Ok(values)
    }

    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        let (shape, dtype) = (self.header.shape(name)?, self.header.dtype(name)?);
        // f16 that stays f16 is not widened in between.
        if let Some((rows, columns)) = large_matrix(shape)
            && dtype == Dtype::F16
            && dtype.kept_by(storage)
        {
            let bytes = self.file.read_at(self.header.range(name)?)?;
            if let Ok(narrow) = Narrow::from_bytes(Format::F16, rows, columns, bytes) {
                return Ok(Held::Narrow(narrow));
            }
            // Widening finds the same fault, and names it.
        }
        Held::new(shape, self.f32(name)?, storage)
    }

    fn is_in(&self, storage: WeightStorage) -> bool {
        let narrow = |name: &str| self.header.shape(name).is_ok_and(|shape| large_matrix(shape).is_some());
        let kept = |name: &str| self.header.dtype(name).is_ok_and(|dtype| dtype.kept_by(storage));
        self.header.names().all(|name| !narrow(name) || kept(name))
    }
}

/// Rows and columns of what is large enough to be held narrow.
fn large_matrix(shape: &[usize]) -> Option<(usize, usize)> {
    match *shape {
        [rows, columns] if rows * columns >= SMALL => Some((rows, columns)),
        _ => None,
    }
}

/// A tensor's values as f32, in pieces, so that the file's bytes never stand beside the values.
pub(crate) fn read_f32<R: ReadAt>(
    file: &R,
    name: &str,
    range: Range<u64>,
    dtype: Dtype,
    shape: &[usize],
) -> Result<Vec<f32>, WeightsError> {
    let cut = |found| WeightsError::TensorBytes {
        name: name.to_owned(),
        expected: range.end - range.start,
        found,
    };
    let count = shape.iter().product();
    if dtype == Dtype::F32 {
        let mut values = vec![0f32; count];
        let mut at = range.start;
        for piece in bytemuck::cast_slice_mut(&mut values).chunks_mut(PIECE_BYTES as usize) {
            let found = file.read_into(at, piece)?;
            at += found as u64;
            if found < piece.len() {
                return Err(cut(at - range.start));
            }
        }
        // Nothing on a processor that has the file's order of bytes.
        for value in &mut values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
        return Ok(values);
    }
    let mut values = Vec::with_capacity(count);
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + PIECE_BYTES);
        let bytes = file.read_at(at..end)?;
        if bytes.len() as u64 != end - at {
            return Err(cut(at - range.start + bytes.len() as u64));
        }
        decode(&bytes, dtype, &mut values);
        at = end;
    }
    Ok(values)
}

/// Bytes of a file that are read at once; a multiple of every format's size.
const PIECE_BYTES: u64 = 4 << 20;

/// A model in several safetensors files.
#[derive(Clone, Debug)]
pub struct ShardedTensors<R> {
    /// By file name.
    files: BTreeMap<String, FileTensors<R>>,
    index: ShardIndex,
}

impl<R: ReadAt> ShardedTensors<R> {
    /// Opens every file that the index names; each must have exactly the tensors that the index puts there.
    ///
    /// # Errors
    /// What `open` says, as [`FileTensors::open`], and as [`ShardIndex::check`].
    pub fn open(
        index: ShardIndex,
        limits: &Limits,
        mut open: impl FnMut(&str) -> Result<R, WeightsError>,
    ) -> Result<Self, WeightsError> {
        let mut files = BTreeMap::new();
        for name in index.files() {
            let file = FileTensors::open(open(name)?, limits)?;
            index.check(name, file.header())?;
            files.insert(name.to_owned(), file);
        }
        Ok(Self { files, index })
    }

    fn of(&self, name: &str) -> Result<&FileTensors<R>, WeightsError> {
        self.files
            .get(self.index.file_of(name)?)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }
}

impl<R: ReadAt> Tensors for ShardedTensors<R> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.files.values().flat_map(Tensors::names))
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        self.of(name)?.shape(name)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        self.of(name)?.f32(name)
    }

    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        self.of(name)?.held(name, storage)
    }

    fn is_in(&self, storage: WeightStorage) -> bool {
        self.files.values().all(|file| file.is_in(storage))
    }
}
