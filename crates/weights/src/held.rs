//! A tensor's values in the form in which a device holds them: the one place where a file's values become narrow.

use crate::WeightsError;
use crate::quant::{Narrow, WeightStorage};

/// The values of one tensor of a base, ready for a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// Row-major f32.
    F32(Vec<f32>),
    /// A matrix in a narrow form.
    Narrow(Narrow),
}

impl Held {
    /// Row-major values of this shape in the form that `storage` takes for them; only matrices become narrow.
    ///
    /// # Errors
    /// As [`Narrow::quantise`].
    pub fn new(shape: &[usize], data: Vec<f32>, storage: WeightStorage) -> Result<Self, WeightsError> {
        if let [rows, columns] = *shape
            && let Some(format) = storage.format_of(&data, columns)
        {
            return Ok(Self::Narrow(Narrow::quantise(format, rows, columns, &data)?));
        }
        Ok(Self::F32(data))
    }

    /// Whether these are values of a tensor of this shape.
    pub fn fits(&self, shape: &[usize]) -> bool {
        match self {
            Self::F32(data) => data.len() == shape.iter().product::<usize>(),
            Self::Narrow(narrow) => *shape == [narrow.rows(), narrow.columns()],
        }
    }

    /// The values as f32, row-major.
    pub fn widen(self) -> Vec<f32> {
        match self {
            Self::F32(data) => data,
            Self::Narrow(narrow) => narrow.widen(),
        }
    }
}
