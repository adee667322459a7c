//! Safetensors files that are never whole in memory: read by ranges, or as they come in.
//!
//! The header is read and checked first, by the same rules as [`SafeTensors::parse`](crate::SafeTensors::parse)
//! except that the format's library, which wants the whole file, is not asked; our own rules are the stricter ones.
//! Then there is one tensor at a time.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::header::{self, Entry};
use crate::safetensors::decode_finite;
use crate::{Dtype, Limits, WeightsError};

/// A checked header: names, shapes, formats, and where in the file each tensor lies.
///
/// To read by ranges, ask [`needed`](Self::needed) how many first bytes the header takes, [`parse`](Self::parse)
/// them, and give the bytes of a tensor's [`range`](Self::range) to [`f32`](Self::f32).
#[derive(Clone, Debug)]
pub struct SafeTensorsHeader {
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    /// Where the data part starts.
    data: u64,
    /// The names, by their tensor's place in the file.
    order: Vec<String>,
}

impl SafeTensorsHeader {
    /// How many first bytes of a file of `file` bytes the header takes, as far as `first` says.
    ///
    /// More than `first` has means: read so many, and ask again. As many or fewer means: `first` can be parsed.
    ///
    /// # Errors
    /// [`WeightsError::Foreign`] for another format, and the variant that names a fault of the header's length.
    pub fn needed(first: &[u8], file: u64, limits: &Limits) -> Result<u64, WeightsError> {
        match header::length(first, file, limits)? {
            None => Ok(file.min(header::DETECTION as u64)),
            Some(length) => Ok((header::LENGTH_FIELD + length) as u64),
        }
    }

    /// Checks the header of a file of `file` bytes, which starts with `first`.
    ///
    /// # Errors
    /// As [`SafeTensors::parse`](crate::SafeTensors::parse); [`WeightsError::HeaderCut`] if `first` is too short.
    pub fn parse(first: &[u8], file: u64, limits: &Limits) -> Result<Self, WeightsError> {
        let header::Header {
            tensors,
            metadata,
            data,
        } = header::parse(first, file, limits)?;
        let mut order: Vec<_> = tensors.keys().cloned().collect();
        order.sort_by_key(|name| tensors.get(name).map(|entry| (entry.start, entry.end)));
        Ok(Self {
            tensors,
            metadata,
            data: data as u64,
            order,
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

    /// The tensor names, in the order of their data in the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
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

    /// The bytes of the file that are a tensor's values.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn range(&self, name: &str) -> Result<Range<u64>, WeightsError> {
        let entry = self.entry(name)?;
        Ok(self.data + entry.start..self.data + entry.end)
    }

    /// The bytes of the largest tensor: what reading the file tensor by tensor has in memory at once.
    pub fn largest(&self) -> u64 {
        let bytes = self.tensors.values().map(|entry| entry.end - entry.start);
        bytes.max().unwrap_or(0)
    }

    /// The file's free text (`__metadata__`). It is outside text: show it as text only.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A tensor's values as `f32`, row-major, from the bytes of its range; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name; [`WeightsError::TensorBytes`] if `bytes` are not as
    /// many as its range; [`WeightsError::NonFinite`] with the index of the first value that is NaN or infinite.
    pub fn f32(&self, name: &str, bytes: &[u8]) -> Result<Vec<f32>, WeightsError> {
        self.tensor(name, bytes)?.f32()
    }

    fn tensor<'s>(&'s self, name: &'s str, bytes: &'s [u8]) -> Result<StreamedTensor<'s>, WeightsError> {
        let entry = self.entry(name)?;
        let (expected, found) = (entry.end - entry.start, bytes.len() as u64);
        if expected != found {
            return Err(WeightsError::TensorBytes {
                name: name.to_owned(),
                expected,
                found,
            });
        }
        Ok(StreamedTensor {
            name,
            shape: &entry.shape,
            dtype: entry.dtype,
            bytes,
        })
    }

    fn entry(&self, name: &str) -> Result<&Entry, WeightsError> {
        self.tensors
            .get(name)
            .ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }
}

/// One tensor of a file that is being read.
#[derive(Clone, Copy, Debug)]
pub struct StreamedTensor<'s> {
    /// Its name.
    pub name: &'s str,
    /// Its shape, outermost dimension first.
    pub shape: &'s [usize],
    /// Its number format.
    pub dtype: Dtype,
    /// Its values as stored: little-endian, row-major, not checked to be finite.
    pub bytes: &'s [u8],
}

impl StreamedTensor<'_> {
    /// Its values as `f32`; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::NonFinite`] with the index of the first value that is NaN or infinite.
    pub fn f32(&self) -> Result<Vec<f32>, WeightsError> {
        decode_finite(self.name, self.bytes, self.dtype)
    }
}

/// Reads a file as it comes in, in pieces of any size, and gives its tensors one by one.
///
/// It holds the header, and of the tensors at most one; none that lies in one piece.
#[derive(Debug)]
pub struct TensorStream {
    limits: Limits,
    /// Bytes of the whole file.
    file: u64,
    /// Bytes taken in.
    taken: u64,
    header: Option<SafeTensorsHeader>,
    /// The next tensor, as an index of the header's order.
    next: usize,
    /// The header's, or the next tensor's, first bytes.
    held: Vec<u8>,
}

impl TensorStream {
    /// For a file of `file` bytes.
    pub fn new(file: u64, limits: Limits) -> Self {
        Self {
            limits,
            file,
            taken: 0,
            header: None,
            next: 0,
            held: Vec::new(),
        }
    }

    /// The header, once enough bytes have come.
    pub fn header(&self) -> Option<&SafeTensorsHeader> {
        self.header.as_ref()
    }

    /// Takes in the file's next bytes, and gives each tensor that they complete to `each`, in the file's order.
    ///
    /// # Errors
    /// What the header's check says; [`WeightsError::StreamLength`] for bytes behind the file's end;
    /// [`WeightsError::Memory`] for a tensor that does not fit; and what `each` returns. After an error the stream is
    /// of no more use.
    pub fn push<E: From<WeightsError>>(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(StreamedTensor<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let found = self.taken.saturating_add(piece.len() as u64);
        if found > self.file {
            let expected = self.file;
            return Err(WeightsError::StreamLength { expected, found }.into());
        }
        self.taken = found;
        if self.header.is_none() {
            let Some(behind) = self.read_header(&mut piece)? else {
                return Ok(());
            };
            self.feed(&behind, &mut each)?;
        }
        self.feed(piece, &mut each)
    }

    /// Takes in bytes of the data part.
    fn feed<E: From<WeightsError>>(
        &mut self,
        mut piece: &[u8],
        each: &mut impl FnMut(StreamedTensor<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(header) = &self.header else { return Ok(()) };
        while let Some(name) = header.order.get(self.next) {
            let range = header.range(name)?;
            let missing = (range.end - range.start).saturating_sub(self.held.len() as u64);
            let (front, rest) = split(piece, missing);
            if front.len() as u64 == missing && self.held.is_empty() {
                each(header.tensor(name, front)?)?;
            } else if front.is_empty() {
                return Ok(());
            } else {
                let bytes = range.end - range.start;
                let reserved = usize::try_from(missing).is_ok_and(|more| self.held.try_reserve_exact(more).is_ok());
                if !reserved {
                    let name = name.clone();
                    return Err(WeightsError::Memory { name, bytes }.into());
                }
                self.held.extend_from_slice(front);
                if (self.held.len() as u64) < bytes {
                    return Ok(());
                }
                each(header.tensor(name, &self.held)?)?;
                self.held.clear();
            }
            piece = rest;
            self.next += 1;
        }
        Ok(())
    }

    /// Takes what the header still needs off `piece`. When it is complete, returns the bytes taken from behind it: to
    /// tell other formats, more than a short header is looked at.
    fn read_header(&mut self, piece: &mut &[u8]) -> Result<Option<Vec<u8>>, WeightsError> {
        loop {
            let needed = SafeTensorsHeader::needed(&self.held, self.file, &self.limits)?;
            let missing = needed.saturating_sub(self.held.len() as u64);
            if missing == 0 {
                break;
            }
            if piece.is_empty() {
                return Ok(None);
            }
            let (front, rest) = split(piece, missing);
            self.held.extend_from_slice(front);
            *piece = rest;
        }
        let header = SafeTensorsHeader::parse(&self.held, self.file, &self.limits)?;
        let data = usize::try_from(header.data).map_or(self.held.len(), |data| data.min(self.held.len()));
        let behind = self.held.split_off(data);
        self.held.clear();
        self.header = Some(header);
        Ok(Some(behind))
    }

    /// Says that the file has ended, and returns its header.
    ///
    /// # Errors
    /// [`WeightsError::StreamLength`] if not all of it came.
    pub fn finish(self) -> Result<SafeTensorsHeader, WeightsError> {
        match self.header {
            Some(header) if self.taken == self.file && self.next == header.len() => Ok(header),
            _ => Err(WeightsError::StreamLength {
                expected: self.file,
                found: self.taken,
            }),
        }
    }
}

/// At most `count` bytes, and the rest.
fn split(bytes: &[u8], count: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(count).map_or(bytes.len(), |count| count.min(bytes.len())))
}
