//! Everything that ends a command early, with its exit code.

use std::io;
use std::path::PathBuf;

use lorahub_adapters::AdapterError;
use lorahub_composer::ComposerError;
use lorahub_hub::{HubError, Kind, ManifestError};
use lorahub_t5::T5Error;
use lorahub_weights::WeightsError;

use crate::hub::again;

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
        file: String,
        /// What such a folder holds.
        expected: &'static str,
        /// What to do, with what was found instead.
        remedy: String,
    },
    /// A folder does not exist, or is none.
    #[error(
        "{kind} `{}` is not a folder; give a folder with {expected}, or a name that `lorahub store list` shows",
        folder.display()
    )]
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
    #[error("base `{folder}`: {source}")]
    Base {
        /// The base's folder, or its name in the store.
        folder: String,
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
    /// A manifest that is none.
    #[error("manifest `{}`: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A name that the manifest does not have.
    #[error(
        "the manifest lists no {what} `{name}`, but for example `{similar}`; see them all with `lorahub manifest`, or give \
         another with --manifest"
    )]
    NotListed {
        /// What was looked for.
        what: &'static str,
        /// The name.
        name: String,
        /// Names that there are.
        similar: String,
    },
    /// A base or module that the manifest has and the store has not.
    #[error("{kind} `{name}` is neither a folder nor downloaded, or not all of it; download it with `{command}`")]
    NotDownloaded {
        /// Which of the two.
        kind: Kind,
        /// Its name.
        name: String,
        /// What downloads it.
        command: String,
    },
    /// A name or hash that the store does not have.
    #[error("the store `{}` has no `{name}`, expected a name or a hash that `lorahub store list` shows", store.display())]
    NotInStore {
        /// The store's folder.
        store: PathBuf,
        /// The name.
        name: String,
    },
    /// Nothing says where the store is to be.
    #[error(
        "there is no folder for downloaded models: neither --store nor LORAHUB_STORE nor a home folder is set; set one"
    )]
    NoStore,
    /// The store has files that are not what they were. The report has been printed.
    #[error(
        "{found} of {files} files in `{}` are not what was downloaded; delete them with `{command}`, and download them again",
        store.display()
    )]
    Corrupt {
        /// The store's folder.
        store: PathBuf,
        /// How many are not.
        found: usize,
        /// How many there are.
        files: usize,
        /// What deletes them.
        command: String,
    },
    /// A download that was stopped by the user.
    #[error("stopped; what has come is kept, and `{command}` goes on from there")]
    Stopped {
        /// What goes on.
        command: String,
    },
    /// The system gives no more threads.
    #[error("no thread can be started ({0}); close other programs")]
    Thread(io::Error),
    /// The hub, the network or the store.
    #[error(transparent)]
    Hub(Box<HubError>),
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

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Cancelled => Self::Stopped { command: again() },
            error => Self::Hub(Box::new(error)),
        }
    }
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
            Self::Manifest { source, .. } => source.code(),
            Self::NotListed { .. } => "not_listed",
            Self::NotDownloaded { .. } => "not_downloaded",
            Self::NotInStore { .. } => "not_in_store",
            Self::NoStore => "no_store",
            Self::Corrupt { .. } => "hub-corrupt",
            Self::Stopped { .. } => "hub-cancelled",
            Self::Thread(_) => "thread",
            Self::Hub(error) => error.code(),
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
