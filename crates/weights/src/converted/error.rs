//! Every way in which a file of converted weights can be wrong. Whoever meets one makes the file again.

/// Why a file of converted weights cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertedError {
    /// Fewer bytes than the format's own parts take.
    #[error("the converted weights have {found} bytes, expected at least {expected}; convert them again")]
    Cut {
        /// Bytes that the parts take, as far as they are known.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// Other first bytes.
    #[error("the converted weights start with {found:02x?}, which is not their mark; convert them again")]
    Mark {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// Another version of the format.
    #[error("the converted weights have version {found} of their format, expected {expected}; convert them again")]
    Version {
        /// The file's.
        found: u32,
        /// The one that is read and written.
        expected: u32,
    },
    /// An index that is longer than any real one.
    #[error(
        "the index of the converted weights is said to have {found} bytes, the limit is {limit}; convert them again"
    )]
    IndexLength {
        /// By the file's end.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// An index that is not what was written.
    #[error("the index of the converted weights has the hash {found}, expected {expected}; convert them again")]
    IndexDigest {
        /// By the file's end, escaped and cut.
        expected: String,
        /// Of what is there.
        found: String,
    },
    /// An index of another form.
    #[error("the index of the converted weights is not of their form ({reason}); convert them again")]
    Index {
        /// What is wrong.
        reason: String,
    },
    /// Made of something else.
    #[error("the converted weights are of {found}, expected {expected}; convert them again")]
    Other {
        /// The hash of the source and the storage that are wanted.
        expected: String,
        /// The same of the file, escaped and cut.
        found: String,
    },
    /// A block whose factor is not a finite number.
    #[error("block {index} of the converted tensor `{name}` is not finite, expected finite numbers; convert it again")]
    Factor {
        /// The tensor.
        name: String,
        /// The first such block.
        index: usize,
    },
    /// Tensors that do not fill the file.
    #[error("the tensors of the converted weights take {expected} bytes, but there are {found}; convert them again")]
    Length {
        /// By the index.
        expected: u64,
        /// Between mark and index.
        found: u64,
    },
}

impl ConvertedError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cut { .. } => "converted-cut",
            Self::Mark { .. } => "converted-mark",
            Self::Version { .. } => "converted-version",
            Self::IndexLength { .. } => "converted-index-length",
            Self::IndexDigest { .. } => "converted-index-digest",
            Self::Index { .. } => "converted-index",
            Self::Other { .. } => "converted-other",
            Self::Factor { .. } => "converted-factor",
            Self::Length { .. } => "converted-length",
        }
    }
}
