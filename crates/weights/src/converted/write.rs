//! Writing converted weights, as they are made.

use std::cell::RefCell;

use super::{CONVERTED_VERSION, ConvertedError, Index, Listed, MARK};
use crate::quant::WeightStorage;
use crate::tensors::Tensors;
use crate::{Held, WeightsError, sha256_hex};

/// Where a file is written, from its start to its end.
pub trait Append {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`WeightsError::Write`] with what the system says.
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError>;
}

impl Append for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// f32 values that become bytes at a time.
const VALUES: usize = 1 << 16;

/// Writes a file of converted weights, tensor by tensor.
#[derive(Debug)]
pub struct ConvertedWriter<W> {
    out: W,
    index: Index,
}

impl<W: Append> ConvertedWriter<W> {
    /// Starts the file: made of the weights with this hash, for this storage.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, source: &str, storage: WeightStorage) -> Result<Self, WeightsError> {
        out.append(MARK)?;
        out.append(&CONVERTED_VERSION.to_le_bytes())?;
        let index = Index {
            source: source.to_owned(),
            storage,
            tensors: Vec::new(),
        };
        Ok(Self { out, index })
    }

    /// The next tensor.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn push(&mut self, name: &str, shape: &[usize], held: &Held) -> Result<(), WeightsError> {
        let form = match held {
            Held::F32(values) => {
                for values in values.chunks(VALUES) {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    self.out.append(&bytes)?;
                }
                "f32"
            }
            Held::Narrow(narrow) => {
                self.out.append(narrow.bytes())?;
                narrow.format().name()
            }
        };
        self.index.tensors.push(Listed {
            name: name.to_owned(),
            shape: shape.to_vec(),
            form: form.to_owned(),
        });
        Ok(())
    }

    /// Writes the index and the end, without which the file is none.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> Result<W, WeightsError> {
        let index = serde_json::to_vec(&self.index).map_err(|error| ConvertedError::Index {
            reason: error.to_string(),
        })?;
        self.out.append(&index)?;
        self.out.append(sha256_hex(&index).as_bytes())?;
        self.out.append(&(index.len() as u64).to_le_bytes())?;
        Ok(self.out)
    }
}

/// Tensors that are converted for a device as it asks for them, and written on the way. A failure to write them ends
/// the writing and not the reading.
pub struct Converting<'a, W> {
    source: &'a dyn Tensors,
    writing: RefCell<Result<ConvertedWriter<W>, WeightsError>>,
    storage: WeightStorage,
}

impl<'a, W: Append> Converting<'a, W> {
    /// The tensors of `source`, which has this hash, written to `out` for this storage.
    pub fn new(source: &'a dyn Tensors, sha256: &str, storage: WeightStorage, out: W) -> Self {
        Self {
            source,
            writing: RefCell::new(ConvertedWriter::new(out, sha256, storage)),
            storage,
        }
    }

    /// Ends the file, once each tensor was asked for once.
    ///
    /// # Errors
    /// The first failure to write.
    pub fn finish(self) -> Result<W, WeightsError> {
        self.writing.into_inner()?.finish()
    }
}

impl<W: Append> Tensors for Converting<'_, W> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        self.source.names()
    }

    fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        self.source.shape(name)
    }

    fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        self.source.f32(name)
    }

    fn held(&self, name: &str, storage: WeightStorage) -> Result<Held, WeightsError> {
        let held = self.source.held(name, storage)?;
        if storage == self.storage {
            let mut writing = self.writing.borrow_mut();
            let written = match &mut *writing {
                Ok(writer) => writer.push(name, self.source.shape(name)?, &held),
                Err(_) => Ok(()),
            };
            if let Err(error) = written {
                *writing = Err(error);
            }
        }
        Ok(held)
    }
}
