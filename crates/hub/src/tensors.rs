//! Kept safetensors files, tensor by tensor: what is in memory at once is the header and one tensor.

use lorahub_weights::{Limits, SafeTensorsHeader};

use crate::{HubError, Sha256, Store};

/// A kept safetensors file whose header is read and checked.
#[derive(Clone, Debug)]
pub struct KeptTensors<'a, S> {
    store: &'a S,
    sha256: Sha256,
    header: SafeTensorsHeader,
}

impl<'a, S: Store> KeptTensors<'a, S> {
    /// Opens a kept file.
    ///
    /// # Errors
    /// [`HubError::NotKept`], [`HubError::Weights`] for a header that is wrong, and [`HubError::Store`].
    pub async fn open(store: &'a S, sha256: Sha256, limits: &Limits) -> Result<Self, HubError> {
        let size = store.size(sha256).await?.ok_or(HubError::NotKept { sha256 })?;
        let mut first = Vec::new();
        loop {
            let needed = SafeTensorsHeader::needed(&first, size, limits)?;
            let have = first.len() as u64;
            if needed <= have {
                break;
            }
            let more = store.read(sha256, have..needed).await?;
            if more.is_empty() {
                // The file is shorter than its size was a moment ago; the header's check says so.
                break;
            }
            first.extend_from_slice(&more);
        }
        let header = SafeTensorsHeader::parse(&first, size, limits)?;
        Ok(Self { store, sha256, header })
    }

    /// The header: names, shapes and formats.
    pub fn header(&self) -> &SafeTensorsHeader {
        &self.header
    }

    /// A tensor's values as stored, not checked to be finite: for a device that takes them so.
    ///
    /// # Errors
    /// [`HubError::Weights`] if there is no such tensor, and [`HubError::Store`].
    pub async fn bytes(&self, name: &str) -> Result<Vec<u8>, HubError> {
        self.store.read(self.sha256, self.header.range(name)?).await
    }

    /// A tensor's values as `f32`, row-major; every value is finite.
    ///
    /// # Errors
    /// [`HubError::Weights`] if there is no such tensor, it is cut, or a value is not finite; and [`HubError::Store`].
    pub async fn f32(&self, name: &str) -> Result<Vec<f32>, HubError> {
        let bytes = self.bytes(name).await?;
        Ok(self.header.f32(name, &bytes)?)
    }
}
