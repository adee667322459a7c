//! Reading and writing files.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use lorahub_composer::{Shot, parse_rows};

use crate::error::CliError;

/// Most bytes of a JSON file that describes something.
pub(crate) const JSON_BYTES: u64 = 64 << 20;
/// Most bytes of a file of rows.
const ROWS_BYTES: u64 = 1 << 30;
/// Most bytes of a weight file: more than any T5 has.
pub(crate) const WEIGHTS_BYTES: u64 = 64 << 30;

/// The whole file, which may also be a pipe.
///
/// # Errors
/// [`CliError::Read`], or [`CliError::TooLarge`] beyond `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(CliError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Rows from a JSON Lines file.
///
/// # Errors
/// Those of [`read`] and of [`parse_rows`].
pub(crate) fn read_rows(path: &Path) -> Result<Vec<Shot>, CliError> {
    let bytes = read(path, ROWS_BYTES)?;
    Ok(parse_rows(&path.display().to_string(), &bytes)?)
}

/// What kind of folder is meant, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FolderKind {
    /// `base` or `module`.
    pub(crate) name: &'static str,
    /// What such a folder holds.
    pub(crate) expected: &'static str,
    /// Files that are there when the layout is another one, and what to do then.
    pub(crate) instead: &'static [(&'static str, &'static str)],
}

/// The path of a file of a folder whose layout is given.
///
/// # Errors
/// [`CliError::NotAFolder`], [`CliError::Missing`] with what is there instead.
pub(crate) fn find_part(kind: FolderKind, folder: &Path, file: &str) -> Result<PathBuf, CliError> {
    if !folder.is_dir() {
        return Err(CliError::NotAFolder {
            kind: kind.name,
            folder: folder.to_owned(),
            expected: kind.expected,
        });
    }
    let path = folder.join(file);
    if path.exists() {
        Ok(path)
    } else {
        Err(missing(kind, folder, file, |other| folder.join(other).exists()))
    }
}

/// The error for a file that is not there; `has` tells which others are.
pub(crate) fn missing(kind: FolderKind, folder: &Path, file: &str, has: impl Fn(&str) -> bool) -> CliError {
    let instead = kind.instead.iter().find(|(other, _)| has(other));
    CliError::Missing {
        kind: kind.name,
        folder: folder.to_owned(),
        file: file.to_owned(),
        expected: kind.expected,
        remedy: match instead {
            Some((other, remedy)) => format!("there is `{other}` instead: {remedy}"),
            None => "is it the right folder?".to_owned(),
        },
    }
}

/// Makes a folder with those above it, if it is not there.
///
/// # Errors
/// [`CliError::Write`].
pub(crate) fn make_folder(path: &Path) -> Result<(), CliError> {
    fs::create_dir_all(path).map_err(|source| CliError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file whole or not at all: beside its place first, then moved there.
///
/// # Errors
/// [`CliError::Write`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_data()
    });
    written
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| CliError::Write {
            path: path.to_owned(),
            source,
        })
}

/// The last part of a path, as a name for what lies there.
pub(crate) fn name_of(path: &Path) -> String {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = resolved.file_name().unwrap_or(resolved.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Whether two paths name one folder that exists.
pub(crate) fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
