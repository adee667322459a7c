//! A base or a module of a manifest, where it does not matter which.

use crate::{
    Base, Commit, FileEntry, Kept, KeptFile, Kind, Manifest, ManifestError, Module, Refreshed, RemoteFile, Repository,
    Source,
};

/// A base or module of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A base.
    Base(Base),
    /// A module.
    Module(Module),
}

impl Entry {
    /// The base and the module of that name, which a manifest may both have.
    pub fn find(manifest: &Manifest, name: &str) -> impl Iterator<Item = Self> {
        let base = manifest.base(name).cloned().map(Self::Base);
        let module = manifest.module(name).cloned().map(Self::Module);
        base.into_iter().chain(module)
    }

    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Base(_) => Kind::Base,
            Self::Module(_) => Kind::Module,
        }
    }

    /// [`Base::id`] or [`Module::name`].
    pub fn name(&self) -> &str {
        match self {
            Self::Base(base) => &base.id,
            Self::Module(module) => &module.name,
        }
    }

    /// Its repository.
    pub fn repository(&self) -> &Repository {
        match self {
            Self::Base(base) => &base.repository,
            Self::Module(module) => &module.repository,
        }
    }

    /// The commit that the manifest pins.
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Base(base) => base.commit.as_ref(),
            Self::Module(module) => module.commit.as_ref(),
        }
    }

    /// Its licence, by SPDX's name.
    pub fn licence(&self) -> Option<&str> {
        match self {
            Self::Base(base) => base.licence.as_deref(),
            Self::Module(module) => module.licence.as_deref(),
        }
    }

    /// Its files.
    pub fn files(&self) -> &[FileEntry] {
        match self {
            Self::Base(base) => &base.files,
            Self::Module(module) => &module.files,
        }
    }

    /// Where each of its files is, at `commit` if the manifest does not pin one.
    ///
    /// # Errors
    /// [`ManifestError::Path`] for a path that is none.
    pub fn sources(&self, commit: &Commit) -> Result<Vec<(Source, &FileEntry)>, ManifestError> {
        match self {
            Self::Base(base) => base.sources(Some(commit)),
            Self::Module(module) => module.sources(Some(commit)),
        }
    }

    /// The same with what a hub says of its files at a commit.
    ///
    /// # Errors
    /// [`ManifestError::NoFile`] if one of its files is not there.
    pub fn refreshed(&self, commit: &Commit, remote: &[RemoteFile]) -> Result<Refreshed<Self>, ManifestError> {
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
    pub fn kept(&self, commit: &Commit, files: Vec<KeptFile>) -> Kept {
        match self {
            Self::Base(base) => Kept::base(base, commit.clone(), files),
            Self::Module(module) => Kept::module(module, commit.clone(), files),
        }
    }
}
