//! A weight file of either kind, told by its first bytes.

use crate::{Dtype, ForeignFormat, Limits, SafeTensors, TorchArchive, WeightsError};

/// A checked weight file: safetensors, or a PyTorch archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WeightFile<'a> {
    /// A safetensors file.
    SafeTensors(SafeTensors<'a>),
    /// What `torch.save` writes (`.bin`, `.pt`).
    Torch(TorchArchive<'a>),
}

impl<'a> WeightFile<'a> {
    /// Checks the file as [`TorchArchive::parse`] does if it is a zip archive, else as [`SafeTensors::parse`] does.
    ///
    /// # Errors
    /// What the reader of that format says.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, WeightsError> {
        // A safetensors header of 67 MB can have a length that reads as a zip's signature; its first byte cannot.
        let zip = ForeignFormat::detect(bytes) == Some(ForeignFormat::TorchZip) && bytes.get(8) != Some(&b'{');
        if zip {
            TorchArchive::parse(bytes, limits).map(Self::Torch)
        } else {
            SafeTensors::parse(bytes, limits).map(Self::SafeTensors)
        }
    }

    /// The tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        // Either list is at hand as it is; a box keeps one type for both.
        let names: Box<dyn Iterator<Item = &str>> = match self {
            Self::SafeTensors(file) => Box::new(file.names()),
            Self::Torch(file) => Box::new(file.names()),
        };
        names
    }

    /// A tensor's shape, outermost dimension first.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        match self {
            Self::SafeTensors(file) => file.shape(name),
            Self::Torch(file) => file.shape(name),
        }
    }

    /// A tensor's number format.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name.
    pub fn dtype(&self, name: &str) -> Result<Dtype, WeightsError> {
        match self {
            Self::SafeTensors(file) => file.dtype(name),
            Self::Torch(file) => file.dtype(name),
        }
    }

    /// A tensor's values as `f32`, row-major; every value is finite.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] if there is none of this name; [`WeightsError::NonFinite`] with the index of the
    /// first value that is NaN or infinite.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::SafeTensors(file) => file.f32(name),
            Self::Torch(file) => file.f32(name),
        }
    }
}
