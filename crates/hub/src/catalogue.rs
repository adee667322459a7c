//! What is kept under which name: the bases and modules whose files were all downloaded, and the sets they came in.
//!
//! The store knows content by its hash alone. The catalogue is a record of it that remembers the rest: a name, where it
//! came from, and which hash is which file. It says what was downloaded; whether the files are still there is for the
//! store to say.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Base, Clock, Commit, Converted, Entry, HubError, Key, Module, Repository, Set, Sha256, Store, Stored};

/// The version of the record's form.
const CATALOGUE_VERSION: u32 = 1;
/// How often, and after which wait, another process's change is waited for.
const TRIES: u32 = 100;
const WAIT: Duration = Duration::from_millis(20);

/// What a thing in the catalogue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A base model.
    Base,
    /// A module.
    Module,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Module => "module",
        })
    }
}

/// A file of a kept base or module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its path in the repository.
    pub path: String,
    /// Its content in the store.
    #[serde(flatten)]
    pub stored: Stored,
}

/// A base or module whose files were all downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which of the two.
    pub kind: Kind,
    /// [`Base::id`] or [`Module::name`].
    pub name: String,
    /// Where it came from.
    pub repository: Repository,
    /// The commit it came from.
    pub commit: Commit,
    /// The base that a module was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The rule of composition that a module was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Its licence, by SPDX's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Its files.
    pub files: Vec<KeptFile>,
    /// A base's weights in other forms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub converted: Vec<Converted>,
}

impl Kept {
    /// A base with its files.
    pub fn base(base: &Base, commit: Commit, files: Vec<KeptFile>) -> Self {
        Self {
            kind: Kind::Base,
            name: base.id.clone(),
            repository: base.repository.clone(),
            commit,
            base: None,
            rule: None,
            licence: base.licence.clone(),
            files,
            converted: Vec::new(),
        }
    }

    /// A module with its files.
    pub fn module(module: &Module, commit: Commit, files: Vec<KeptFile>) -> Self {
        Self {
            kind: Kind::Module,
            name: module.name.clone(),
            repository: module.repository.clone(),
            commit,
            base: Some(module.base.clone()),
            rule: module.rule.clone(),
            licence: module.licence.clone(),
            files,
            converted: Vec::new(),
        }
    }

    /// The content of one of its files.
    pub fn file(&self, path: &str) -> Option<Stored> {
        self.files.iter().find(|file| file.path == path).map(|file| file.stored)
    }

    /// The hashes of all that is kept of it: its files, and its weights in other forms.
    pub fn hashes(&self) -> impl Iterator<Item = Sha256> {
        let files = self.files.iter().map(|file| file.stored);
        let converted = self.converted.iter().map(|one| one.stored);
        files.chain(converted).map(|stored| stored.sha256)
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stored.size).sum()
    }

    /// Whether it is all of an entry at a commit: then there is nothing to ask a hub, for a commit never changes.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn is_whole<S: Store>(&self, entry: &Entry, commit: &Commit, store: &S) -> Result<bool, HubError> {
        let same = self.repository == *entry.repository()
            && self.commit == *commit
            && entry.files().iter().all(|file| self.file(&file.path).is_some());
        Ok(same && self.missing(store).await?.is_empty())
    }

    /// Its files that the store does not have, or has with another size.
    ///
    /// # Errors
    /// [`HubError::Store`].
    pub async fn missing<S: Store>(&self, store: &S) -> Result<Vec<&KeptFile>, HubError> {
        let mut missing = Vec::new();
        for file in &self.files {
            if store.size(file.stored.sha256).await? != Some(file.stored.size) {
                missing.push(file);
            }
        }
        Ok(missing)
    }
}

/// What is kept under which name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    version: u32,
    entries: Vec<Kept>,
    sets: Vec<Set>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            version: CATALOGUE_VERSION,
            entries: Vec::new(),
            sets: Vec::new(),
        }
    }
}

impl Catalogue {
    /// A store's catalogue; empty if nothing was ever kept.
    ///
    /// # Errors
    /// [`HubError::Store`], also for a record of another form.
    pub async fn load<S: Store>(store: &S) -> Result<Self, HubError> {
        let unreadable = |reason: String| HubError::Store {
            action: "understand the record of what is kept",
            reason,
        };
        let Some(bytes) = store.record(key()).await? else {
            return Ok(Self::default());
        };
        let catalogue: Self = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        if catalogue.version == CATALOGUE_VERSION {
            Ok(catalogue)
        } else {
            let found = catalogue.version;
            Err(unreadable(format!(
                "it has version {found}, expected {CATALOGUE_VERSION}"
            )))
        }
    }

    /// Changes a store's catalogue, one process or tab after the other.
    ///
    /// # Errors
    /// [`HubError::Store`], and [`HubError::Busy`] if another one does not finish its change.
    pub async fn change<S: Store, C: Clock>(
        store: &S,
        clock: &C,
        change: impl FnOnce(&mut Self),
    ) -> Result<(), HubError> {
        let mut tries = 0;
        let _lock = loop {
            match store.lock(key()).await {
                Err(HubError::Busy) if tries < TRIES => {
                    tries += 1;
                    clock.sleep(WAIT).await;
                }
                result => break result?,
            }
        };
        let mut catalogue = Self::load(store).await?;
        change(&mut catalogue);
        // Names, numbers and hashes always become JSON; an unreadable record would be refused.
        let json = serde_json::to_vec(&catalogue).unwrap_or_default();
        store.put_record(key(), &json).await
    }

    /// Everything that was downloaded: bases, then modules, each by name.
    pub fn entries(&self) -> &[Kept] {
        &self.entries
    }

    /// The base or module of a name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Kept> {
        self.entries.iter().find(|kept| kept.kind == kind && kept.name == name)
    }

    /// The set of a name, as the manifest had it when it was downloaded.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    pub(crate) fn get_mut(&mut self, kind: Kind, name: &str) -> Option<&mut Kept> {
        self.entries
            .iter_mut()
            .find(|kept| kept.kind == kind && kept.name == name)
    }

    /// Puts in a base or module, in place of the one that had its name; converted weights stay with the name.
    pub fn put(&mut self, mut kept: Kept) {
        if let Some(before) = self.get(kept.kind, &kept.name) {
            kept.converted = before.converted.clone();
        }
        self.remove(kept.kind, &kept.name);
        self.entries.push(kept);
        self.entries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    }

    /// Puts in a set, in place of the one that had its name.
    pub fn put_set(&mut self, set: Set) {
        self.sets.retain(|other| other.name != set.name);
        self.sets.push(set);
        self.sets.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Takes out a base or module.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.entries.retain(|kept| kept.kind != kind || kept.name != name);
    }

    /// The hashes that the entries name.
    pub fn hashes(&self) -> BTreeSet<Sha256> {
        self.entries.iter().flat_map(Kept::hashes).collect()
    }
}

fn key() -> Key {
    Key::of_text("catalogue")
}
