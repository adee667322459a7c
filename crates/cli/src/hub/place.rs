//! Where a base or module is: in a folder of its own, or in the store under a name.

use std::fmt;
use std::path::{Path, PathBuf};

use lorahub_hub::{FileStore, HubError, Kept, Kind, Sha256, Stored, public_manifest};

use super::{StoreArgs, catalogue};
use crate::error::CliError;
use crate::files::{FolderKind, find_part, missing, name_of, read};

/// A base or module to be read.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In the store.
    Kept(Box<Held>),
}

/// A base or module in a store.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    kept: Kept,
    store: FileStore,
}

impl Place {
    /// What the user means: a folder if there is one, else what was downloaded under that name.
    ///
    /// # Errors
    /// [`CliError::NotDownloaded`] with the command that does it, [`CliError::Usage`] for a thing of the other kind,
    /// [`CliError::Hub`]. A name that nobody knows is taken for a folder, which its reader will not find.
    pub(crate) fn find(kind: Kind, given: &Path, store: &StoreArgs) -> Result<Self, CliError> {
        let name = match given.to_str() {
            Some(name) if !given.exists() => name,
            _ => return Ok(Self::Folder(given.to_owned())),
        };
        if let Some(place) = Self::named(kind, name, store)? {
            return Ok(place);
        }
        let other = match kind {
            Kind::Base => Kind::Module,
            Kind::Module => Kind::Base,
        };
        match Self::named(other, name, store) {
            Ok(None) => Ok(Self::Folder(given.to_owned())),
            Ok(Some(_)) | Err(CliError::NotDownloaded { .. }) => Err(CliError::Usage(format!(
                "`{name}` is the name of a {other}, expected a {kind}; give it to --{other}"
            ))),
            Err(error) => Err(error),
        }
    }

    /// What the user means, which may be of either kind.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) fn find_any(given: &Path, store: &StoreArgs) -> Result<Self, CliError> {
        if let Some(name) = given.to_str()
            && !given.exists()
        {
            for kind in [Kind::Base, Kind::Module] {
                if let Some(place) = Self::named(kind, name, store)? {
                    return Ok(place);
                }
            }
        }
        Ok(Self::Folder(given.to_owned()))
    }

    /// What was downloaded under a name; `None` for a name that neither the store nor the built-in manifest has.
    ///
    /// # Errors
    /// [`CliError::NotDownloaded`], [`CliError::Hub`].
    pub(crate) fn named(kind: Kind, name: &str, store: &StoreArgs) -> Result<Option<Self>, CliError> {
        let public = public_manifest().map_err(HubError::from)?;
        let listed = match kind {
            Kind::Base => public.base(name).is_some(),
            Kind::Module => public.module(name).is_some(),
        };
        let not_downloaded = || CliError::NotDownloaded {
            kind,
            name: name.to_owned(),
            command: download_command(&[name], listed, store),
        };
        if let Some(opened) = store.find()?
            && let Some(kept) = catalogue(&opened)?.get(kind, name).cloned()
        {
            return if pollster::block_on(kept.missing(&opened))?.is_empty() {
                Ok(Some(Self::Kept(Box::new(Held { kept, store: opened }))))
            } else {
                Err(not_downloaded())
            };
        }
        if listed { Err(not_downloaded()) } else { Ok(None) }
    }

    /// A name for it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => name_of(folder),
            Self::Kept(held) => held.kept.name.clone(),
        }
    }

    /// What the catalogue knows of it, if it is in the store.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Folder(_) => None,
            Self::Kept(held) => Some(&held.kept),
        }
    }

    /// Its folder, if it has one of its own.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Kept(_) => None,
        }
    }

    /// Whether it has a file of this name.
    pub(crate) fn has(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file).exists(),
            Self::Kept(held) => held.kept.file(file).is_some(),
        }
    }

    /// The names of its files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
                // A name that is not Unicode is none that anybody looks for.
                let mut names: Vec<String> = entries.flat_map(|entry| entry.file_name().into_string()).collect();
                names.sort();
                names
            }
            Self::Kept(held) => held.kept.files.iter().map(|file| file.path.clone()).collect(),
        }
    }

    /// Where one of its files is, and what its hash must be, where that is known.
    ///
    /// # Errors
    /// [`CliError::NotAFolder`], [`CliError::Missing`].
    pub(crate) fn path(&self, kind: FolderKind, file: &str) -> Result<(PathBuf, Option<Sha256>), CliError> {
        match self {
            Self::Folder(folder) => Ok((find_part(kind, folder, file)?, None)),
            Self::Kept(held) => {
                let stored = held.stored(kind, file)?;
                Ok((held.store.path(stored.sha256), Some(stored.sha256)))
            }
        }
    }

    /// Reads one of its files. What comes from the store has its hash.
    ///
    /// # Errors
    /// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Read`], [`CliError::TooLarge`], and
    /// [`CliError::Hub`] if the store has changed the file.
    pub(crate) fn read(&self, kind: FolderKind, file: &str, limit: u64) -> Result<Vec<u8>, CliError> {
        let (path, expected) = self.path(kind, file)?;
        let bytes = read(&path, limit)?;
        match expected {
            Some(expected) if Sha256::of(&bytes) != expected => {
                let found = Sha256::of(&bytes);
                Err(HubError::Corrupt { expected, found }.into())
            }
            _ => Ok(bytes),
        }
    }
}

impl Held {
    /// What the catalogue knows of it.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The store it is in.
    pub(crate) fn store(&self) -> &FileStore {
        &self.store
    }

    /// The hash of one of its files, in hexadecimal.
    pub(crate) fn sha256(&self, file: &str) -> Option<String> {
        self.kept.file(file).map(|stored| stored.sha256.to_string())
    }

    fn stored(&self, kind: FolderKind, file: &str) -> Result<Stored, CliError> {
        let has = |other: &str| self.kept.file(other).is_some();
        self.kept
            .file(file)
            .ok_or_else(|| missing(kind, Path::new(&self.kept.name), file, has))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Kept(held) => held.kept.name.fmt(f),
        }
    }
}

/// The command that downloads these into that store, by the built-in manifest if they are `listed` there.
pub(crate) fn download_command(names: &[&str], listed: bool, store: &StoreArgs) -> String {
    let manifest: &[&str] = if listed { &[] } else { &["--manifest", "FILE"] };
    let words = ["download"].iter().chain(names).chain(manifest);
    with_store(words.map(|word| (*word).to_owned()).collect(), store)
}

/// A command about that store.
pub(crate) fn store_command(mut words: Vec<String>, store: &StoreArgs) -> String {
    words.insert(0, "store".to_owned());
    with_store(words, store)
}

fn with_store(mut words: Vec<String>, store: &StoreArgs) -> String {
    if let Some(store) = &store.store {
        words.extend(["--store".to_owned(), store.display().to_string()]);
    }
    command(words)
}

/// The command that this process was started with.
pub(crate) fn again() -> String {
    let words = std::env::args_os().skip(1);
    command(words.map(|word| word.to_string_lossy().into_owned()))
}

/// A command as a shell takes it.
fn command(words: impl IntoIterator<Item = String>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    let mut line = "lorahub".to_owned();
    for word in words {
        line.push(' ');
        if !word.is_empty() && word.chars().all(plain) {
            line.push_str(&word);
        } else {
            line.push('\'');
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let words = ["download", "google/flan-t5-small", "two words", "it's", "", "$x"].map(str::to_owned);
        assert_eq!(
            command(words),
            r"lorahub download google/flan-t5-small 'two words' 'it'\''s' '' '$x'"
        );
    }
}
