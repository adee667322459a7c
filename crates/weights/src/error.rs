//! Every way in which a weight file can be wrong.
//!
//! Names out of a file are outside text: messages show them escaped and cut (see [`shown`]).

use crate::{ConvertedError, ForeignFormat, GgufError, TorchError};

/// Why a weight file cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are a file of another kind.
    #[error("the file is {}, not safetensors; {}", format.name(), format.remedy())]
    Foreign {
        /// What the file is.
        format: ForeignFormat,
    },
    /// The bytes are a PyTorch archive, and cannot be read as one.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// The bytes were to be a GGUF file, and cannot be read as one.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file of converted weights that is wrong in its own way.
    #[error(transparent)]
    Converted(#[from] ConvertedError),
    /// Fewer than the eight bytes of the header length.
    #[error("the file has {found} bytes, but safetensors starts with an 8-byte header length; download it again")]
    TooShort {
        /// Bytes in the file.
        found: usize,
    },
    /// The header is larger than the limit.
    #[error("the header is said to have {found} bytes, the limit is {limit}; check that the file is safetensors")]
    HeaderTooLong {
        /// The length the file gives.
        found: u64,
        /// The limit.
        limit: usize,
    },
    /// The header ends after the file.
    #[error("the header is said to have {header} bytes, but only {found} follow its length; download the file again")]
    HeaderCut {
        /// The length the file gives.
        header: u64,
        /// Bytes after the length field.
        found: u64,
    },
    /// The header's first byte is not `{`.
    #[error(
        "the header starts with byte 0x{found:02x}, expected 0x7b (`{{`); check that the file is safetensors, or save \
         it again"
    )]
    HeaderStart {
        /// The first byte.
        found: u8,
    },
    /// The header is not JSON of the form safetensors prescribes.
    #[error("the header is not the JSON that safetensors prescribes ({reason}); save the file again")]
    HeaderJson {
        /// What the JSON reader says.
        reason: String,
    },
    /// Two tensors of one name.
    #[error("tensor `{name}` is in the header twice, expected once; save the file again")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// Two metadata parts, or a metadata key given twice.
    #[error("metadata key `{key}` is in the header twice, expected once; save the file again")]
    DuplicateMetadata {
        /// The key; `__metadata__` if the whole part is there twice.
        key: String,
    },
    /// More tensors than the limit.
    #[error("the file has {found} tensors, the limit is {limit}; check that it belongs to a T5 model")]
    TooManyTensors {
        /// Tensors in the header.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that is empty, too long, or not printable ASCII.
    #[error(
        "tensor name `{name}` is {problem}, expected 1 to {limit} printable ASCII characters; rename it and save again"
    )]
    TensorName {
        /// The name, escaped and cut.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// The longest name allowed, in bytes.
        limit: usize,
    },
    /// More dimensions than the limit.
    #[error("tensor `{name}` has {found} dimensions, the limit is {limit}; check that it belongs to a T5 model")]
    TooManyDims {
        /// The tensor.
        name: String,
        /// Its dimensions.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More metadata than the limit.
    #[error("the metadata has {found} bytes, the limit is {limit}; save the file with less metadata")]
    MetadataTooLong {
        /// Bytes of all keys and values.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A number format that is not read.
    #[error("tensor `{name}` is {found}, expected F32, F16 or BF16; convert it and save the file again")]
    Dtype {
        /// The tensor.
        name: String,
        /// The format the file gives, escaped and cut.
        found: String,
    },
    /// A shape whose byte count does not fit this machine's address space.
    #[error(
        "tensor `{name}` of shape {shape:?} has more bytes than this machine can address; check the shape, or use a \
         smaller model"
    )]
    ShapeOverflow {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A tensor that ends before it starts.
    #[error(
        "tensor `{name}` starts at byte {start} and ends at byte {end}, expected start <= end; save the file again"
    )]
    Reversed {
        /// The tensor.
        name: String,
        /// Its first byte in the data.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// A shape and a byte range that contradict each other.
    #[error(
        "tensor `{name}` of shape {shape:?} and format {dtype} needs {expected} bytes, but its range has {found}; save \
         the file again"
    )]
    Length {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its format.
        dtype: &'static str,
        /// Bytes by shape and format.
        expected: u64,
        /// Bytes by range.
        found: u64,
    },
    /// Two tensors that share bytes.
    #[error(
        "tensor `{name}` starts at byte {found}, inside another tensor that ends at byte {expected}; save the file \
         again with one range for each tensor"
    )]
    Overlap {
        /// The later tensor.
        name: String,
        /// Where the earlier one ends.
        expected: u64,
        /// Where the later one starts.
        found: u64,
    },
    /// Bytes between two tensors that belong to none.
    #[error(
        "tensor `{name}` starts at byte {found}, expected byte {expected}: the bytes between belong to no tensor; save \
         the file again"
    )]
    Hole {
        /// The later tensor.
        name: String,
        /// Where the earlier one ends.
        expected: u64,
        /// Where the later one starts.
        found: u64,
    },
    /// Data shorter than the header says.
    #[error(
        "tensor `{name}` ends at data byte {expected}, but the file has only {found} data bytes; download it again"
    )]
    DataCut {
        /// The first tensor that is cut.
        name: String,
        /// Where it ends.
        expected: u64,
        /// Data bytes in the file.
        found: u64,
    },
    /// Data longer than the header says.
    #[error(
        "the tensors end at data byte {expected}, but the file has {found} data bytes: the rest belongs to no tensor; \
         save the file again"
    )]
    Trailing {
        /// Where the last tensor ends.
        expected: u64,
        /// Data bytes in the file.
        found: u64,
    },
    /// The safetensors library refuses what our own checks let pass.
    #[error("the safetensors library refuses the file ({reason}); save the file again")]
    Refused {
        /// What the library says.
        reason: String,
    },
    /// No way to hold matrices.
    #[error("`{found}` is no way to hold weights, expected f32, lossless, f16, q8_0 or q4_0; choose one of them")]
    Storage {
        /// What was asked for, escaped and cut.
        found: String,
    },
    /// A file that the system does not give.
    #[error("the file cannot be read ({reason}); check that it is still there, and its rights")]
    Read {
        /// What the system says.
        reason: String,
    },
    /// The bytes could not be written.
    #[error("the weights cannot be written ({reason}); free some space and try again")]
    Write {
        /// What the system says.
        reason: String,
    },
    /// Bytes that are not the tensor's.
    #[error("tensor `{name}` was given {found} bytes, expected {expected}; read its range of the file again")]
    TensorBytes {
        /// The tensor.
        name: String,
        /// Bytes of its range.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A file that ended early, or went on behind its end.
    #[error("the file was said to have {expected} bytes, but {found} came; download it again")]
    StreamLength {
        /// Bytes by its length.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A tensor for which there is no memory.
    #[error("there is no memory for tensor `{name}` of {bytes} bytes; close other pages, or use a smaller model")]
    Memory {
        /// The tensor.
        name: String,
        /// Its bytes.
        bytes: u64,
    },
    /// Several GGUF files, none of them `model.gguf`.
    #[error("there are the GGUF files `{first}` and `{second}`; leave one, or call the one to be used model.gguf")]
    SeveralGguf {
        /// One of them, escaped and cut.
        first: String,
        /// Another.
        second: String,
    },
    /// A file that is read whole, and is too large for that.
    #[error(
        "`{file}` has {bytes} bytes and is read whole, the limit here is {limit}; save the model with save_pretrained, \
         which writes safetensors"
    )]
    WholeFile {
        /// The file.
        file: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The index of a sharded model is not JSON of the form transformers writes.
    #[error("the shard index is not the JSON that transformers writes ({reason}); download it again")]
    IndexJson {
        /// What is wrong with it.
        reason: String,
    },
    /// A shard whose name is no plain safetensors file name.
    #[error(
        "the shard index names the file `{file}`, expected a plain name that ends in .safetensors; download it again"
    )]
    IndexFile {
        /// The name, escaped and cut.
        file: String,
    },
    /// A shard that lacks a tensor the index puts there.
    #[error("shard `{file}` has no tensor `{name}`, which the index puts there; download both again")]
    ShardLacks {
        /// The shard.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A shard with a tensor that the index does not put there.
    #[error("shard `{file}` has the tensor `{name}`, which the index does not put there; download both again")]
    ShardExtra {
        /// The shard.
        file: String,
        /// The tensor.
        name: String,
    },
    /// A tensor that was asked for is not in the file.
    #[error("tensor `{name}` is not in the file; check that the file belongs to this model")]
    Missing {
        /// The name asked for.
        name: String,
    },
    /// A value that is not a finite number.
    #[error(
        "tensor `{name}` has the value {value} at index {index}, expected finite numbers; the training probably \
         diverged: use another checkpoint"
    )]
    NonFinite {
        /// The tensor.
        name: String,
        /// The index of the first such value, in row-major order.
        index: usize,
        /// `NaN`, `inf` or `-inf`.
        value: &'static str,
    },
    /// Writing: data that do not fill the shape.
    #[error("tensor `{name}` of shape {shape:?} has {found} values to write; give as many as the shape has")]
    OutLength {
        /// The tensor.
        name: String,
        /// The shape given.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
    },
    /// Writing: a value too large for the format.
    #[error("tensor `{name}` has {value} at index {index}, which {dtype} cannot hold; write it as F32")]
    OutRange {
        /// The tensor.
        name: String,
        /// The index of the first such value.
        index: usize,
        /// The value, as text.
        value: String,
        /// The format.
        dtype: &'static str,
    },
    /// Columns that are not whole blocks of a block format.
    #[error("{found} columns are not whole blocks of {format}'s {block}; hold this matrix as f16")]
    BlockColumns {
        /// The format.
        format: &'static str,
        /// Its columns to a block.
        block: usize,
        /// Columns given.
        found: usize,
    },
    /// A matrix in a block format whose bytes this machine cannot address.
    #[error("{rows} rows of {columns} columns as {format} are more bytes than this machine can address")]
    BlockSize {
        /// The format.
        format: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// Values or bytes that do not fill a matrix in a block format.
    #[error("a matrix as {format} has {found} {unit}, expected {expected}; check its shape, or download it again")]
    BlockLength {
        /// The format.
        format: &'static str,
        /// `values` or `bytes`.
        unit: &'static str,
        /// By shape and format.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// A value that a block format cannot hold.
    #[error(
        "the value {value} at index {index} is outside f16's range, and with it {format}'s; hold this matrix as f32"
    )]
    BlockRange {
        /// The format.
        format: &'static str,
        /// The index of the first such value, in row-major order.
        index: usize,
        /// The value, as text.
        value: String,
    },
    /// A block whose factor is not a finite number.
    #[error("block {index} of a matrix as {format} is not finite, expected finite numbers; download the file again")]
    BlockFactor {
        /// The format.
        format: &'static str,
        /// The first such block, in row-major order.
        index: usize,
    },
}

impl WeightsError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "weights-foreign",
            Self::Torch(problem) => problem.code(),
            Self::Gguf(problem) => problem.code(),
            Self::Converted(problem) => problem.code(),
            Self::TooShort { .. } => "weights-too-short",
            Self::HeaderTooLong { .. } => "weights-header-too-long",
            Self::HeaderCut { .. } => "weights-header-cut",
            Self::HeaderStart { .. } => "weights-header-start",
            Self::HeaderJson { .. } => "weights-header-json",
            Self::DuplicateTensor { .. } => "weights-duplicate-tensor",
            Self::DuplicateMetadata { .. } => "weights-duplicate-metadata",
            Self::TooManyTensors { .. } => "weights-too-many-tensors",
            Self::TensorName { .. } => "weights-tensor-name",
            Self::TooManyDims { .. } => "weights-too-many-dims",
            Self::MetadataTooLong { .. } => "weights-metadata-too-long",
            Self::Dtype { .. } => "weights-dtype",
            Self::ShapeOverflow { .. } => "weights-shape-overflow",
            Self::Reversed { .. } => "weights-reversed",
            Self::Length { .. } => "weights-length",
            Self::Overlap { .. } => "weights-overlap",
            Self::Hole { .. } => "weights-hole",
            Self::DataCut { .. } => "weights-data-cut",
            Self::Trailing { .. } => "weights-trailing",
            Self::Refused { .. } => "weights-refused",
            Self::Storage { .. } => "weights-storage",
            Self::Read { .. } => "weights-read",
            Self::Write { .. } => "weights-write",
            Self::TensorBytes { .. } => "weights-tensor-bytes",
            Self::StreamLength { .. } => "weights-stream-length",
            Self::Memory { .. } => "weights-memory",
            Self::SeveralGguf { .. } => "weights-several-gguf",
            Self::WholeFile { .. } => "weights-whole-file",
            Self::IndexJson { .. } => "weights-index-json",
            Self::IndexFile { .. } => "weights-index-file",
            Self::ShardLacks { .. } => "weights-shard-lacks",
            Self::ShardExtra { .. } => "weights-shard-extra",
            Self::Missing { .. } => "weights-missing",
            Self::NonFinite { .. } => "weights-non-finite",
            Self::OutLength { .. } => "weights-out-length",
            Self::OutRange { .. } => "weights-out-range",
            Self::BlockColumns { .. } => "weights-block-columns",
            Self::BlockSize { .. } => "weights-block-size",
            Self::BlockLength { .. } => "weights-block-length",
            Self::BlockRange { .. } => "weights-block-range",
            Self::BlockFactor { .. } => "weights-block-factor",
        }
    }
}

/// Outside text as a message may show it: control and non-ASCII characters escaped, at most 120 characters.
pub fn shown(text: &str) -> String {
    const LIMIT: usize = 120;
    let mut shown: String = text
        .chars()
        .take(LIMIT)
        .flat_map(char::escape_default)
        .take(LIMIT)
        .collect();
    if shown.len() == LIMIT || text.chars().nth(LIMIT).is_some() {
        shown.push_str("...");
    }
    shown
}
