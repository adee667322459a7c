//! The manifest in use, and what names stand for in it.

use std::path::Path;

use lorahub_hub::{
    Base, Commit, FileEntry, Kept, KeptFile, Kind, Manifest, ManifestError, Module, Refreshed, RemoteFile, Repository,
    Source, public_manifest,
};

use crate::error::CliError;
use crate::files::{JSON_BYTES, read};

/// Names that a message proposes.
const PROPOSALS: usize = 5;

/// The manifest in a file, or the built-in one.
///
/// # Errors
/// [`CliError::Read`], [`CliError::Manifest`].
pub(crate) fn read_manifest(path: Option<&Path>) -> Result<Manifest, CliError> {
    let Some(path) = path else {
        return Ok(public_manifest().map_err(lorahub_hub::HubError::from)?);
    };
    Manifest::parse(&read(path, JSON_BYTES)?).map_err(|source| CliError::Manifest {
        path: path.to_owned(),
        source,
    })
}

/// A base or module of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Base(Base),
    Module(Module),
}

impl Entry {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Base(_) => Kind::Base,
            Self::Module(_) => Kind::Module,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Base(base) => &base.id,
            Self::Module(module) => &module.name,
        }
    }

    pub(crate) fn repository(&self) -> &Repository {
        match self {
            Self::Base(base) => &base.repository,
            Self::Module(module) => &module.repository,
        }
    }

    pub(crate) fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Base(base) => base.commit.as_ref(),
            Self::Module(module) => module.commit.as_ref(),
        }
    }

    pub(crate) fn licence(&self) -> Option<&str> {
        match self {
            Self::Base(base) => base.licence.as_deref(),
            Self::Module(module) => module.licence.as_deref(),
        }
    }

    pub(crate) fn files(&self) -> &[FileEntry] {
        match self {
            Self::Base(base) => &base.files,
            Self::Module(module) => &module.files,
        }
    }

    /// Where each of its files is, at `commit` if the manifest does not pin one.
    pub(crate) fn sources(&self, commit: &Commit) -> Result<Vec<(Source, &FileEntry)>, ManifestError> {
        match self {
            Self::Base(base) => base.sources(Some(commit)),
            Self::Module(module) => module.sources(Some(commit)),
        }
    }

    /// The same with what a hub says of its files at a commit.
    pub(crate) fn refreshed(&self, commit: &Commit, remote: &[RemoteFile]) -> Result<Refreshed<Self>, ManifestError> {
        Ok(match self {
            Self::Base(base) => {
                let Refreshed { entry, changed } = base.refreshed(commit.clone(), remote)?;
                let entry = Self::Base(entry);
                Refreshed { entry, changed }
            }
            Self::Module(module) => {
                let Refreshed { entry, changed } = module.refreshed(commit.clone(), remote)?;
                let entry = Self::Module(entry);
                Refreshed { entry, changed }
            }
        })
    }

    /// The entry of the catalogue, once its files are kept.
    pub(crate) fn kept(&self, commit: &Commit, files: Vec<KeptFile>) -> Kept {
        match self {
            Self::Base(base) => Kept::base(base, commit.clone(), files),
            Self::Module(module) => Kept::module(module, commit.clone(), files),
        }
    }
}

/// The bases and modules of these names, in their order, and those of a set; each once.
///
/// # Errors
/// [`CliError::NotListed`] with the names that are like it.
pub(crate) fn select(manifest: &Manifest, names: &[String], set: Option<&str>) -> Result<Vec<Entry>, CliError> {
    let members = match set {
        None => &[][..],
        Some(name) => match manifest.sets.iter().find(|set| set.name == name) {
            Some(set) => &set.modules,
            None => {
                return Err(not_listed(
                    "set",
                    name,
                    manifest.sets.iter().map(|set| set.name.as_str()),
                ));
            }
        },
    };
    let mut entries: Vec<Entry> = Vec::new();
    for name in names.iter().chain(members) {
        let base = manifest.base(name).cloned().map(Entry::Base);
        let module = manifest.module(name).cloned().map(Entry::Module);
        if base.is_none() && module.is_none() {
            let bases = manifest.bases.iter().map(|base| base.id.as_str());
            let modules = manifest.modules.iter().map(|module| module.name.as_str());
            return Err(not_listed("base or module", name, bases.chain(modules)));
        }
        for entry in base.into_iter().chain(module) {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

fn not_listed<'n>(what: &'static str, name: &str, listed: impl Iterator<Item = &'n str>) -> CliError {
    let wanted = name.to_lowercase();
    let listed: Vec<&str> = listed.collect();
    let like = |other: &&&str| {
        let other = other.to_lowercase();
        other.contains(&wanted) || wanted.contains(&other)
    };
    let mut similar: Vec<&str> = listed.iter().filter(like).take(PROPOSALS).copied().collect();
    if similar.is_empty() {
        similar = listed.iter().take(PROPOSALS).copied().collect();
    }
    CliError::NotListed {
        what,
        name: name.to_owned(),
        similar: similar.join("`, `"),
    }
}
