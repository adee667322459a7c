//! Storages and the views that tensors are of them.

use super::TorchError;
use super::pickle::View;
use crate::safetensors::decode;
use crate::{Dtype, Limits, WeightsError};

/// A storage's number format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The name safetensors gives it.
    pub(super) name: &'static str,
    /// Bytes of one value.
    pub(super) size: u64,
}

/// The storage classes of PyTorch that a state dict may name. Only three of them hold weights.
const KINDS: [(&str, Kind); 10] = {
    const fn kind(name: &'static str, size: u64) -> Kind {
        Kind { name, size }
    }
    [
        ("FloatStorage", kind("F32", 4)),
        ("HalfStorage", kind("F16", 2)),
        ("BFloat16Storage", kind("BF16", 2)),
        ("DoubleStorage", kind("F64", 8)),
        ("LongStorage", kind("I64", 8)),
        ("IntStorage", kind("I32", 4)),
        ("ShortStorage", kind("I16", 2)),
        ("CharStorage", kind("I8", 1)),
        ("ByteStorage", kind("U8", 1)),
        ("BoolStorage", kind("BOOL", 1)),
    ]
};

impl Kind {
    /// The format of a storage class.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        KINDS.iter().find(|(name, _)| *name == class).map(|(_, kind)| *kind)
    }
}

/// A storage as the pickle describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) kind: Kind,
    /// Its entry is `data/{key}`.
    pub(super) key: &'a str,
    /// Its values.
    pub(super) numel: u64,
}

/// A tensor whose shape, format and place in its storage are checked.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// The storage's bytes from the tensor's first value on.
    data: &'a [u8],
    strides: Vec<usize>,
}

impl<'a> Tensor<'a> {
    /// Checks a view of the storage `storage`, whose bytes are `data`.
    pub(super) fn new(
        name: &str,
        view: View,
        storage: &Storage<'_>,
        data: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, WeightsError> {
        let View {
            offset, shape, strides, ..
        } = view;
        let tensor = || name.to_owned();
        let dtype = Dtype::from_name(storage.kind.name).ok_or_else(|| WeightsError::Dtype {
            name: tensor(),
            found: storage.kind.name.to_owned(),
        })?;
        if shape.len() > limits.dims {
            return Err(WeightsError::TooManyDims {
                name: tensor(),
                found: shape.len(),
                limit: limits.dims,
            });
        }
        if shape.len() != strides.len() {
            let (dims, strides) = (shape.len(), strides.len());
            let name = tensor();
            return Err(TorchError::Strides { name, dims, strides }.into());
        }
        let bytes = shape
            .iter()
            .try_fold(storage.kind.size, |product, &dim| product.checked_mul(dim));
        let narrow = |values: &[u64]| {
            values
                .iter()
                .map(|&v| usize::try_from(v).ok())
                .collect::<Option<Vec<_>>>()
        };
        // The bytes too must be addressable: strides of 0 make any shape out of one value.
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let (Some(bytes), Some(dims)) = (bytes, narrow(&shape)) else {
            return Err(WeightsError::ShapeOverflow { name: tensor(), shape });
        };
        let past_last = if bytes == 0 {
            Some(offset)
        } else {
            shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |last, (dim, stride)| {
                    last.checked_add((dim - 1).checked_mul(*stride)?)
                })
                .and_then(|last| last.checked_add(1))
        };
        let inside = past_last.is_some_and(|end| end <= storage.numel);
        // Strides of one-element dimensions and of tensors without values may be anything; they are never used.
        let used = shape
            .iter()
            .zip(&strides)
            .map(|(dim, stride)| if *dim > 1 { *stride } else { 0 })
            .collect::<Vec<_>>();
        // `offset` values fit the storage, and so does the last used one: both are addresses inside `data`.
        let start = usize::try_from(offset).ok().and_then(|at| at.checked_mul(dtype.size()));
        match (inside, start.and_then(|start| data.get(start..)), narrow(&used)) {
            (true, Some(data), Some(strides)) => Ok(Self {
                dtype,
                shape: dims,
                data,
                strides,
            }),
            _ => Err(TorchError::Bounds {
                name: tensor(),
                shape,
                offset,
                strides,
                numel: storage.numel,
            }
            .into()),
        }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its values, row-major.
    pub(super) fn values(&self) -> Vec<f32> {
        let size = self.dtype.size();
        if self.len() == 0 {
            return Vec::new();
        }
        // The innermost dimensions that lie in the storage as they do in the result are read as one run.
        let (mut outer, mut run) = (self.shape.len(), 1);
        while outer > 0 && (self.shape[outer - 1] == 1 || self.strides[outer - 1] == run) {
            outer -= 1;
            run *= self.shape[outer];
        }
        let mut values = Vec::with_capacity(self.len());
        let mut index = vec![0; outer];
        for _ in 0..self.len() / run {
            let at: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            // `new` checked the last address.
            let bytes = self.data.get(at * size..(at + run) * size).unwrap_or_default();
            decode(bytes, self.dtype, &mut values);
            for (i, dim) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *dim {
                    break;
                }
                *i = 0;
            }
        }
        values
    }
}
