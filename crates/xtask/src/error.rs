//! What can go wrong in a task, each in one sentence that ends in what to do.

use std::path::{Path, PathBuf};

/// A task that could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program we started reported failure.
    #[error("`{command}` {outcome}; its own output stands above")]
    Child { command: String, outcome: String },
    /// A program we need is not there, or too old, and cannot be had by itself.
    #[error("{what}; {remedy}")]
    Missing { what: String, remedy: String },
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`: {source}; check that it exists and that you may change it", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// One of our own files does not say what it must.
    #[error("`{}`: {found}; expected {expected}", path.display())]
    Content {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// A check of ours failed; the details are printed line by line before this.
    #[error("{0}")]
    Check(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was tried on which path.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::file("read", path))
}

/// Reads a whole UTF-8 file.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::file("read", path))
}

/// Writes a file, making the folders above it.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    }
    std::fs::write(path, bytes).map_err(Error::file("write", path))
}
