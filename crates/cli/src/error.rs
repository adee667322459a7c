//! Everything that ends a command early, with its exit code.

use std::io;
use std::path::PathBuf;

use lorahub_adapters::AdapterError;
use lorahub_composer::ComposerError;
use lorahub_t5::T5Error;
use lorahub_weights::WeightsError;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Flags that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read `{}` ({source}); check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is far larger than its kind can be.
    #[error("`{}` has more than {limit} bytes, expected less; is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes accepted.
        limit: u64,
    },
    /// A folder lacks a file.
    #[error("{kind} `{}` has no `{file}`, expected {expected}; {remedy}", folder.display())]
    Missing {
        /// What the folder was given as.
        kind: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The missing file.
        file: &'static str,
        /// What such a folder holds.
        expected: &'static str,
        /// What to do, with what was found instead.
        remedy: String,
    },
    /// A folder does not exist, or is none.
    #[error("{kind} `{}` is not a folder; give a folder with {expected}", folder.display())]
    NotAFolder {
        /// What it was given as.
        kind: &'static str,
        /// The path.
        folder: PathBuf,
        /// What such a folder holds.
        expected: &'static str,
    },
    /// A result cannot be written.
    #[error("cannot write `{}` ({source}); choose another place, or free some space", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Standard output was closed or is full.
    #[error("cannot write to standard output ({0})")]
    Output(io::Error),
    /// A `family.json` that is none.
    #[error("`{}` {problem}; correct it, or say which rule with --rule", path.display())]
    Family {
        /// The file.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence.
        problem: String,
    },
    /// A line of inputs is unusable.
    #[error("{}, line {line}: {problem}", path.display())]
    Inputs {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The base model is unusable.
    #[error("base `{}`: {source}", folder.display())]
    Base {
        /// The base's folder.
        folder: PathBuf,
        /// What is wrong. In a box, as below: errors travel through every function.
        source: Box<T5Error>,
    },
    /// The shots overflow the model.
    #[error(
        "the loss of row {row} is not finite at these weights; use smaller weights, or check that base and modules are \
         undamaged"
    )]
    Overflow {
        /// The first such row, from 1.
        row: usize,
    },
    /// What `inspect` was asked about does not fit the base. The report has been printed.
    #[error("`{}` does not fit the base: {problem}", path.display())]
    DoesNotFit {
        /// What was inspected.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Nothing that this program knows.
    #[error(
        "`{}` is nothing that this program reads; give a base, an adapter, a family or a JSON Lines file", path.display()
    )]
    Unknown {
        /// The path.
        path: PathBuf,
    },
    /// A module is unusable, or modules do not go together.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A weight file could not be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The model failed.
    #[error(transparent)]
    Model(Box<T5Error>),
    /// Rows, settings or the search.
    #[error(transparent)]
    Composer(#[from] ComposerError),
}

impl From<T5Error> for CliError {
    fn from(error: T5Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl CliError {
    /// 2 where the command line makes no sense, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    /// A stable name for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Read { .. } => "read",
            Self::TooLarge { .. } => "too_large",
            Self::Missing { .. } => "missing_file",
            Self::NotAFolder { .. } => "not_a_folder",
            Self::Write { .. } => "write",
            Self::Output(_) => "output",
            Self::Family { .. } => "family",
            Self::Inputs { .. } => "inputs",
            Self::Base { source, .. } => source.code(),
            Self::Overflow { .. } => "overflow",
            Self::DoesNotFit { .. } => "does_not_fit",
            Self::Unknown { .. } => "unknown_kind",
            Self::Adapter(error) => error.code(),
            Self::Weights(error) => error.code(),
            Self::Model(error) => match &**error {
                T5Error::Adapter(error) => error.code(),
                error => error.code(),
            },
            Self::Composer(error) => error.code(),
        }
    }

    /// Says it on standard error, unless it is that nobody listens any more.
    pub(crate) fn print(&self) {
        if !matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            eprintln!("error[{}]: {self}", self.code());
        }
    }
}
