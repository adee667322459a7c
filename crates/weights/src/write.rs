//! The safetensors writer: the same arguments always give the same bytes.
//!
//! The format's library writes metadata in the order of a randomly seeded hash map, so the header is written here.
//! Its layout is the library's: wide formats first, then by name, so that every tensor is aligned to its format;
//! the header padded with spaces to a multiple of eight.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::header::check_name;
use crate::{Dtype, Limits, WeightsError};

/// One tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorOut<'a> {
    /// Its name.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub data: &'a [f32],
    /// The format to store it in; rounding is to nearest, ties to even.
    pub dtype: Dtype,
}

/// A tensor's place in a file, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// The format to store it in.
    pub dtype: Dtype,
}

/// Writes a safetensors file.
///
/// # Errors
/// [`WeightsError::OutLength`] if values do not fill a shape; [`WeightsError::NonFinite`] for a NaN or infinity;
/// [`WeightsError::OutRange`] for a value that becomes infinite in its format; and what [`safetensors_size`] refuses.
pub fn write_safetensors(
    tensors: &[TensorOut<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, WeightsError> {
    let plans: Vec<_> = tensors.iter().map(TensorOut::plan).collect();
    let layout = Layout::new(&plans, metadata)?;
    let mut file = Vec::with_capacity(layout.size());
    file.extend_from_slice(&(layout.header.len() as u64).to_le_bytes());
    file.extend_from_slice(&layout.header);
    for index in layout.order {
        encode(&tensors[index], &mut file)?;
    }
    Ok(file)
}

/// The bytes of the file that [`write_safetensors`] makes of such tensors.
///
/// # Errors
/// [`WeightsError::TensorName`] or [`WeightsError::DuplicateTensor`] for a name the reader would refuse;
/// [`WeightsError::ShapeOverflow`] for a file beyond this machine's address space.
pub fn safetensors_size(tensors: &[TensorPlan], metadata: &BTreeMap<String, String>) -> Result<usize, WeightsError> {
    Ok(Layout::new(tensors, metadata)?.size())
}

impl TensorOut<'_> {
    fn plan(&self) -> TensorPlan {
        TensorPlan {
            name: self.name.clone(),
            shape: self.shape.clone(),
            dtype: self.dtype,
        }
    }
}

/// The header, and the order of the tensors behind it.
struct Layout {
    header: Vec<u8>,
    order: Vec<usize>,
    data: usize,
}

impl Layout {
    fn new(tensors: &[TensorPlan], metadata: &BTreeMap<String, String>) -> Result<Self, WeightsError> {
        let mut order: Vec<_> = (0..tensors.len()).collect();
        order.sort_by_key(|&index| {
            let TensorPlan { name, dtype, .. } = &tensors[index];
            (std::cmp::Reverse(dtype.size()), name)
        });
        let mut seen = std::collections::BTreeSet::new();
        let mut entries = Vec::with_capacity(tensors.len());
        let mut data = 0usize;
        for &index in &order {
            let plan = &tensors[index];
            check_name(&plan.name, &Limits::BASE)?;
            if !seen.insert(&plan.name) || plan.name == "__metadata__" {
                return Err(WeightsError::DuplicateTensor {
                    name: plan.name.clone(),
                });
            }
            let end = plan
                .shape
                .iter()
                .try_fold(plan.dtype.size(), |product, &dim| product.checked_mul(dim))
                .and_then(|bytes| data.checked_add(bytes))
                .ok_or_else(|| WeightsError::ShapeOverflow {
                    name: plan.name.clone(),
                    shape: plan.shape.iter().map(|&dim| dim as u64).collect(),
                })?;
            entries.push((plan, data, end));
            data = end;
        }
        let mut header =
            serde_json::to_vec(&HeaderOut { entries, metadata }).map_err(|error| WeightsError::HeaderJson {
                reason: error.to_string(),
            })?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(Self { header, order, data })
    }

    fn size(&self) -> usize {
        size_of::<u64>()
            .saturating_add(self.header.len())
            .saturating_add(self.data)
    }
}

struct HeaderOut<'a> {
    entries: Vec<(&'a TensorPlan, usize, usize)>,
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for HeaderOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct EntryOut<'a> {
            dtype: &'static str,
            shape: &'a [usize],
            data_offsets: [usize; 2],
        }
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (plan, start, end) in &self.entries {
            let entry = EntryOut {
                dtype: plan.dtype.name(),
                shape: &plan.shape,
                data_offsets: [*start, *end],
            };
            map.serialize_entry(&plan.name, &entry)?;
        }
        map.end()
    }
}

fn encode(tensor: &TensorOut<'_>, file: &mut Vec<u8>) -> Result<(), WeightsError> {
    let TensorOut {
        name,
        shape,
        data,
        dtype,
    } = tensor;
    // The layout already multiplied the shape without overflow.
    if shape.iter().product::<usize>() != data.len() {
        return Err(WeightsError::OutLength {
            name: name.clone(),
            shape: shape.clone(),
            found: data.len(),
        });
    }
    for (index, &value) in data.iter().enumerate() {
        if !value.is_finite() {
            let value = if value.is_nan() { "NaN" } else { "infinity" };
            return Err(WeightsError::NonFinite {
                name: name.clone(),
                index,
                value,
            });
        }
        let fits = match dtype {
            Dtype::F32 => {
                file.extend_from_slice(&value.to_le_bytes());
                true
            }
            Dtype::F16 => {
                let half = f16::from_f32(value);
                file.extend_from_slice(&half.to_le_bytes());
                half.is_finite()
            }
            Dtype::BF16 => {
                let half = bf16::from_f32(value);
                file.extend_from_slice(&half.to_le_bytes());
                half.is_finite()
            }
        };
        if !fits {
            let value = value.to_string();
            return Err(WeightsError::OutRange {
                name: name.clone(),
                index,
                value,
                dtype: dtype.name(),
            });
        }
    }
    Ok(())
}
