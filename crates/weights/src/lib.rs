//! Safe reading and writing of weight files: safetensors, PyTorch archives and GGUF from bytes that anyone may have
//! made.
//!
//! What it is not: a model, a tensor library, or a downloader. Bytes come in, `f32` values with names and
//! shapes go out, and every way in which bytes can be wrong is a [`WeightsError`]. Nothing here panics on
//! outside bytes, does I/O, or allocates more than a file's own size asks for.

mod base;
mod converted;
mod dtype;
mod error;
mod file;
mod foreign;
mod gguf;
mod header;
mod held;
pub mod json;
pub mod quant;
mod safetensors;
mod shards;
mod stream;
mod tensors;
mod torch;
mod write;

pub use base::{BaseForm, BaseWeights};
pub use converted::{Append, CONVERTED_VERSION, ConvertedError, ConvertedTensors, ConvertedWriter, Converting};
pub use dtype::Dtype;
pub use error::{WeightsError, shown};
pub use file::WeightFile;
pub use foreign::ForeignFormat;
pub use gguf::{GgufError, GgufTensors};
pub use held::Held;
pub use safetensors::{Limits, SafeTensors};
pub use shards::ShardIndex;
pub use stream::{SafeTensorsHeader, StreamedTensor, TensorStream};
pub use tensors::{FileTensors, ReadAt, ShardedTensors, Tensors};
pub use torch::{TorchArchive, TorchError};
pub use write::{TensorOut, TensorPlan, safetensors_size, write_safetensors};

/// The SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hash = Sha256Stream::default();
    hash.update(bytes);
    hash.hex()
}

/// The SHA-256 of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sha256Stream(sha2::Sha256);

impl Sha256Stream {
    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The hash of all of them as 64 lower-case hexadecimal digits.
    pub fn hex(self) -> String {
        let hash = sha2::Digest::finalize(self.0);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
