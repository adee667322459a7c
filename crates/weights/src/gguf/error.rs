//! Every way in which a GGUF file can be wrong that no other format shares.

use crate::ForeignFormat;

/// Why a GGUF file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The bytes are a file of another kind.
    #[error("the file is {}, not GGUF; {}", format.name(), format.remedy())]
    Foreign {
        /// What the file is.
        format: ForeignFormat,
    },
    /// The first bytes are not `GGUF`.
    #[error("the file starts with the bytes {found:02x?}, expected 47 47 55 46 (`GGUF`); download it again")]
    Magic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// A version of the format that is not read.
    #[error("the file is GGUF version {found}, expected 2 or 3; convert the model again with a current llama.cpp")]
    Version {
        /// The version the file gives.
        found: u32,
    },
    /// Numbers with their bytes the other way round.
    #[error("the file is a big-endian GGUF, expected little-endian; convert the model again without --bigendian")]
    BigEndian,
    /// The header ends after the file.
    #[error("the header wants bytes up to {wanted}, but the file has {found}; download it again")]
    Cut {
        /// Where the part being read ends.
        wanted: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The header is larger than the limit.
    #[error("the header wants bytes up to {wanted}, the limit is {limit}; check that the file is a T5 model")]
    HeaderTooLong {
        /// Where the part being read ends.
        wanted: u64,
        /// The limit.
        limit: u64,
    },
    /// More metadata keys than the limit.
    #[error("the file has {found} metadata keys, the limit is {limit}; check that the file is a T5 model")]
    TooManyKeys {
        /// Keys by the header.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A text that is longer than its limit.
    #[error("{what} {index} is said to have {found} bytes, the limit is {limit}; download the file again")]
    TextLength {
        /// `metadata key`, `the value of metadata key` or `the name of tensor`.
        what: &'static str,
        /// Which one, in the file's order, from 0.
        index: u64,
        /// Its bytes by the file.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A text that is not UTF-8.
    #[error("{what} {index} is not UTF-8; convert the model again")]
    Text {
        /// As in [`TextLength`](Self::TextLength).
        what: &'static str,
        /// Which one, in the file's order, from 0.
        index: u64,
    },
    /// A metadata value of a type that the format does not have, or an array of arrays.
    #[error("metadata key `{key}` has a value of type {found}, which is not read; convert the model again")]
    ValueType {
        /// The key, escaped and cut.
        key: String,
        /// The type's number.
        found: u32,
    },
    /// A metadata value that decides how the file is read, and cannot be.
    #[error("metadata key `{key}` is {found}, expected {expected}; {remedy}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, escaped and cut.
        found: String,
        /// What it may be.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A tensor in a number format that is not read.
    #[error(
        "tensor `{name}` is {found}, expected F32, F16, BF16, Q8_0, Q4_0, Q6_K or Q4_K; use a file of those, or make it \
         with llama-quantize or candle's tensor-tools"
    )]
    Type {
        /// The tensor.
        name: String,
        /// The format's name, or its number where it has none.
        found: String,
    },
    /// Rows that are not whole blocks.
    #[error(
        "tensor `{name}` has rows of {found} values, which are not whole blocks of {block}; convert the model again"
    )]
    Columns {
        /// The tensor.
        name: String,
        /// Values of a row.
        found: usize,
        /// Values of a block.
        block: usize,
    },
    /// A tensor that does not start where the format lets it.
    #[error("tensor `{name}` starts at data byte {found}, expected a multiple of {alignment}; convert the model again")]
    Unaligned {
        /// The tensor.
        name: String,
        /// Where it starts.
        found: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A block whose factor is not a finite number.
    #[error("block {index} of tensor `{name}` is not finite, expected finite numbers; download the file again")]
    Factor {
        /// The tensor.
        name: String,
        /// The first such block, in row-major order.
        index: usize,
    },
}

impl GgufError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "gguf-foreign",
            Self::Magic { .. } => "gguf-magic",
            Self::Version { .. } => "gguf-version",
            Self::BigEndian => "gguf-big-endian",
            Self::Cut { .. } => "gguf-cut",
            Self::HeaderTooLong { .. } => "gguf-header-too-long",
            Self::TooManyKeys { .. } => "gguf-too-many-keys",
            Self::TextLength { .. } => "gguf-text-length",
            Self::Text { .. } => "gguf-text",
            Self::ValueType { .. } => "gguf-value-type",
            Self::Value { .. } => "gguf-value",
            Self::Type { .. } => "gguf-type",
            Self::Columns { .. } => "gguf-columns",
            Self::Unaligned { .. } => "gguf-unaligned",
            Self::Factor { .. } => "gguf-factor",
        }
    }
}
