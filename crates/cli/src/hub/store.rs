//! Where the store is.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use lorahub_hub::{Catalogue, FileStore};

use crate::error::CliError;

/// Which store.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StoreArgs {
    /// Folder of downloaded models [default: $LORAHUB_STORE, else `lorahub` in $XDG_CACHE_HOME, %LOCALAPPDATA% or
    /// ~/.cache].
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
}

impl StoreArgs {
    /// Its folder.
    ///
    /// # Errors
    /// [`CliError::NoStore`] if none is given and none can be found out.
    pub(crate) fn folder(&self) -> Result<PathBuf, CliError> {
        let found = self
            .store
            .clone()
            .or_else(|| default_folder(|name| std::env::var_os(name)));
        found.ok_or(CliError::NoStore)
    }

    /// The store, which is made if it is not there.
    ///
    /// # Errors
    /// [`CliError::NoStore`], [`CliError::Hub`].
    pub(crate) fn open(&self) -> Result<FileStore, CliError> {
        Ok(FileStore::open(&self.folder()?)?)
    }

    /// The store, if it is there.
    ///
    /// # Errors
    /// [`CliError::Hub`].
    pub(crate) fn find(&self) -> Result<Option<FileStore>, CliError> {
        match self.folder() {
            Ok(folder) if folder.join("files").is_dir() => Ok(Some(FileStore::open(&folder)?)),
            _ => Ok(None),
        }
    }
}

/// What is kept in a store.
///
/// # Errors
/// [`CliError::Hub`].
pub(crate) fn catalogue(store: &FileStore) -> Result<Catalogue, CliError> {
    Ok(pollster::block_on(Catalogue::load(store))?)
}

/// The store's folder by the environment: where caches go on this system.
fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative XDG path is to be ignored, its specification says.
    let cache = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    path("LORAHUB_STORE").or_else(|| {
        let cache = cache.or_else(|| path("LOCALAPPDATA"));
        let cache = cache.or_else(|| path("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("lorahub"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_where_the_environment_says() {
        let folder = |variables: &[(&str, &str)]| {
            let value = |name: &str| {
                variables
                    .iter()
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| (*value).into())
            };
            default_folder(value)
        };
        for (variables, expected) in [
            (
                &[("LORAHUB_STORE", "here"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/h")][..],
                Some("here"),
            ),
            (
                &[("LORAHUB_STORE", ""), ("XDG_CACHE_HOME", "/c"), ("HOME", "/h")],
                Some("/c/lorahub"),
            ),
            (&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")], Some("/h/.cache/lorahub")),
            (&[("LOCALAPPDATA", "/l"), ("HOME", "/h")], Some("/l/lorahub")),
            (&[("HOME", "/h")], Some("/h/.cache/lorahub")),
            (&[], None),
        ] {
            assert_eq!(folder(variables), expected.map(PathBuf::from), "{variables:?}");
        }
    }
}
