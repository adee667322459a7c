//! The number formats a weight file may hold.

use crate::quant::WeightStorage;

/// A number format of a stored tensor. Reading converts all of them to `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32, 4 bytes.
    F32,
    /// IEEE 754 binary16, 2 bytes.
    F16,
    /// The upper half of a binary32, 2 bytes.
    BF16,
}

impl Dtype {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The name safetensors gives it: `F32`, `F16` or `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Whether a matrix in this format is held as it is by this storage.
    pub(crate) fn kept_by(self, storage: WeightStorage) -> bool {
        match storage {
            WeightStorage::F32 => self == Self::F32,
            WeightStorage::F16 | WeightStorage::Lossless => self == Self::F16,
            WeightStorage::Q8 | WeightStorage::Q4 => false,
        }
    }

    /// The format of that name, if it is one of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }
}
