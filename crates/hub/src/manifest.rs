//! The manifest: which bases and modules there are, and what is known of their files.
//!
//! Its published form is `schema/manifest.schema.json`, which must change with the types here; a test compares them.

use std::collections::BTreeSet;

use lorahub_weights::json::shown_reason;
use lorahub_weights::shown;
use serde::{Deserialize, Serialize};

use crate::source::check_path;
use crate::{Commit, HubError, ManifestError, RemoteFile, Repository, Sha256, Source, Store};

/// The version of the form that is read and written.
pub const MANIFEST_VERSION: u32 = 1;

/// The largest manifest that is read: the 196 public modules with all hashes take less than 1 MB.
const MANIFEST_BYTES: usize = 16 << 20;
const ENTRIES: usize = 10_000;
const FILES: usize = 1000;
const TEXT: usize = 4096;
/// The sizes of a chunk that a manifest may use.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 26;

const CHUNK_SIZE: &str = "their size is not between 65536 and 67108864";

/// A list of bases and of modules for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where its JSON Schema is, for editors; not looked at.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// [`MANIFEST_VERSION`]
    pub version: u32,
    /// Base models.
    #[serde(default)]
    pub bases: Vec<Base>,
    /// Modules.
    #[serde(default)]
    pub modules: Vec<Module>,
    /// Named sets of modules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Set>,
}

/// A base model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// What modules name as their base, such as `google/flan-t5-large`.
    pub id: String,
    /// Its repository.
    pub repository: Repository,
    /// The commit; absent where it is not known, and then `main` is resolved once and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Its licence, by SPDX's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// A short name, of its own in the manifest.
    pub name: String,
    /// The [`Base::id`] it was trained on.
    pub base: String,
    /// Its repository.
    pub repository: Repository,
    /// The commit; absent where it is not known, and then `main` is resolved once and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// The rule of composition it was made for: `reference` or `exact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The task it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its licence, by SPDX's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A set of modules under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Names of modules, in an order that may matter.
    pub modules: Vec<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A file, and as much as is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its hash; without it, the first download is trusted and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Hashes of its parts, by which a broken part is found and fetched again alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Chunks>,
}

/// Hashes of a file's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunks {
    /// The bytes of every part but the last.
    pub bytes: u64,
    /// The hash of each part.
    pub sha256: Vec<Sha256>,
}

impl FileEntry {
    /// A file of which nothing but its path is known.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            size: None,
            sha256: None,
            chunks: None,
        }
    }

    fn check(&self) -> Result<(), ManifestError> {
        check_path(&self.path)?;
        let Some(Chunks { bytes, sha256 }) = &self.chunks else {
            return Ok(());
        };
        let wrong = |problem| ManifestError::Chunks {
            path: shown(&self.path),
            problem,
        };
        if !CHUNK_BYTES.contains(bytes) {
            return Err(wrong(CHUNK_SIZE));
        }
        match self.size {
            None => Err(wrong("the file's size is not given")),
            Some(size) if size.div_ceil(*bytes) == sha256.len() as u64 => Ok(()),
            Some(_) => Err(wrong("their number does not fit the file's size")),
        }
    }
}

impl Chunks {
    /// The hashes of the parts of `bytes` bytes of a kept file: for a manifest that others will use.
    ///
    /// # Errors
    /// [`HubError::NotKept`], [`HubError::Store`], and [`HubError::Manifest`] for a part size that no manifest may have.
    pub async fn of_kept<S: Store>(store: &S, sha256: Sha256, bytes: u64) -> Result<Self, HubError> {
        let size = store.size(sha256).await?.ok_or(HubError::NotKept { sha256 })?;
        if !CHUNK_BYTES.contains(&bytes) {
            return Err(HubError::Manifest(ManifestError::Chunks {
                path: sha256.to_string(),
                problem: CHUNK_SIZE,
            }));
        }
        let mut hashes = Vec::new();
        let mut at = 0;
        while at < size {
            let end = size.min(at + bytes);
            hashes.push(Sha256::of(&store.read(sha256, at..end).await?));
            at = end;
        }
        Ok(Self { bytes, sha256: hashes })
    }
}

/// What a hub says now of files, against what a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refreshed<T> {
    /// The entry with the new commit, sizes and hashes.
    pub entry: T,
    /// Paths of files whose size or hash was known and is another now. To be shown before anything new is taken.
    pub changed: Vec<String>,
}

/// The files with a hub's sizes and hashes, and the paths of those that changed.
fn refresh_files(
    name: &str,
    files: &[FileEntry],
    remote: &[RemoteFile],
) -> Result<(Vec<FileEntry>, Vec<String>), ManifestError> {
    let mut changed = Vec::new();
    let mut fresh = Vec::with_capacity(files.len());
    for file in files {
        let now = remote.iter().find(|remote| remote.path == file.path);
        let now = now.ok_or_else(|| ManifestError::NoFile {
            name: shown(name),
            path: shown(&file.path),
        })?;
        let other_size = file.size.is_some_and(|size| size != now.size);
        let other_hash = file.sha256.is_some() && now.sha256.is_some() && file.sha256 != now.sha256;
        let same = !other_size && !other_hash;
        if !same {
            changed.push(file.path.clone());
        }
        fresh.push(FileEntry {
            path: file.path.clone(),
            size: Some(now.size),
            // Hubs do not tell the hash of small files; a known one stays as long as nothing speaks against it.
            sha256: now.sha256.or(file.sha256.filter(|_| same)),
            chunks: file.chunks.clone().filter(|_| same),
        });
    }
    Ok((fresh, changed))
}

impl Base {
    /// The same at another commit, with what the hub says of its files there.
    ///
    /// # Errors
    /// [`ManifestError::NoFile`] if one of its files is not there.
    pub fn refreshed(&self, commit: Commit, remote: &[RemoteFile]) -> Result<Refreshed<Self>, ManifestError> {
        let (files, changed) = refresh_files(&self.id, &self.files, remote)?;
        let commit = Some(commit);
        let entry = Self {
            commit,
            files,
            ..self.clone()
        };
        Ok(Refreshed { entry, changed })
    }

    /// Where each of its files is, at `commit` if the manifest does not pin one.
    ///
    /// # Errors
    /// [`ManifestError::NoCommit`] if neither gives one.
    pub fn sources(&self, commit: Option<&Commit>) -> Result<Vec<(Source, &FileEntry)>, ManifestError> {
        sources(&self.id, &self.repository, self.commit.as_ref().or(commit), &self.files)
    }
}

impl Module {
    /// The same at another commit, with what the hub says of its files there.
    ///
    /// # Errors
    /// [`ManifestError::NoFile`] if one of its files is not there.
    pub fn refreshed(&self, commit: Commit, remote: &[RemoteFile]) -> Result<Refreshed<Self>, ManifestError> {
        let (files, changed) = refresh_files(&self.name, &self.files, remote)?;
        let commit = Some(commit);
        let entry = Self {
            commit,
            files,
            ..self.clone()
        };
        Ok(Refreshed { entry, changed })
    }

    /// Where each of its files is, at `commit` if the manifest does not pin one.
    ///
    /// # Errors
    /// [`ManifestError::NoCommit`] if neither gives one.
    pub fn sources(&self, commit: Option<&Commit>) -> Result<Vec<(Source, &FileEntry)>, ManifestError> {
        sources(
            &self.name,
            &self.repository,
            self.commit.as_ref().or(commit),
            &self.files,
        )
    }
}

fn sources<'f>(
    name: &str,
    repository: &Repository,
    commit: Option<&Commit>,
    files: &'f [FileEntry],
) -> Result<Vec<(Source, &'f FileEntry)>, ManifestError> {
    let commit = commit.ok_or_else(|| ManifestError::NoCommit { name: shown(name) })?;
    files
        .iter()
        .map(|file| Ok((Source::new(repository.clone(), commit.clone(), &file.path)?, file)))
        .collect()
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError::Json`] for another form, else the variant that names the fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLong {
                found: bytes.len(),
                limit: MANIFEST_BYTES,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| ManifestError::Json {
            reason: shown_reason(&e),
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks what the form alone does not say.
    ///
    /// # Errors
    /// The variant that names the fault.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.version != MANIFEST_VERSION {
            return Err(ManifestError::Version { found: self.version });
        }
        let mut bases = BTreeSet::new();
        for base in &self.bases {
            check_name("base", &base.id)?;
            check_files(&base.id, &base.files)?;
            check_texts(&base.id, [&base.licence, &base.description, &None])?;
            unique("base", &base.id, &mut bases)?;
        }
        let mut modules = BTreeSet::new();
        for module in &self.modules {
            check_name("module", &module.name)?;
            check_files(&module.name, &module.files)?;
            check_texts(&module.name, [&module.licence, &module.description, &module.task])?;
            for tag in &module.tags {
                check_name("tag", tag)?;
            }
            if let Some(rule) = &module.rule
                && !["reference", "exact"].contains(&rule.as_str())
            {
                return Err(ManifestError::Rule {
                    name: shown(&module.name),
                    found: shown(rule),
                });
            }
            if !bases.contains(module.base.as_str()) {
                return Err(ManifestError::Unlisted {
                    what: "base",
                    name: shown(&module.base),
                    by: shown(&module.name),
                });
            }
            unique("module", &module.name, &mut modules)?;
        }
        let mut sets = BTreeSet::new();
        for set in &self.sets {
            check_name("set", &set.name)?;
            check_texts(&set.name, [&set.description, &None, &None])?;
            let mut members = BTreeSet::new();
            for name in &set.modules {
                if !modules.contains(name.as_str()) {
                    return Err(ManifestError::Unlisted {
                        what: "module",
                        name: shown(name),
                        by: shown(&set.name),
                    });
                }
                unique("module of a set", name, &mut members)?;
            }
            unique("set", &set.name, &mut sets)?;
        }
        for (what, found) in [
            ("bases", self.bases.len()),
            ("modules", self.modules.len()),
            ("sets", self.sets.len()),
        ] {
            if found > ENTRIES {
                let limit = ENTRIES;
                return Err(ManifestError::TooMany { what, found, limit });
            }
        }
        Ok(())
    }

    /// The module of that name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// The base of that id.
    pub fn base(&self, id: &str) -> Option<&Base> {
        self.bases.iter().find(|base| base.id == id)
    }

    /// The JSON text, with a line break at its end; equal manifests give equal text.
    ///
    /// # Errors
    /// [`ManifestError::Json`] if the JSON writer refuses, which no manifest is known to cause.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        let json = serde_json::to_string_pretty(self).map_err(|e| ManifestError::Json {
            reason: shown_reason(&e),
        })?;
        Ok(json + "\n")
    }
}

/// Names are shown, searched and typed: one line of text without controls.
fn check_name(what: &'static str, name: &str) -> Result<(), ManifestError> {
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(ManifestError::Name {
            what,
            found: shown(name),
        });
    }
    Ok(())
}

fn check_texts(name: &str, texts: [&Option<String>; 3]) -> Result<(), ManifestError> {
    match texts.into_iter().flatten().find(|text| text.len() > TEXT) {
        None => Ok(()),
        Some(text) => Err(ManifestError::LongText {
            name: shown(name),
            found: text.len(),
            limit: TEXT,
        }),
    }
}

fn check_files(name: &str, files: &[FileEntry]) -> Result<(), ManifestError> {
    let mut paths = BTreeSet::new();
    if files.is_empty() || files.len() > FILES {
        return Err(ManifestError::Files {
            name: shown(name),
            found: files.len(),
            limit: FILES,
        });
    }
    for file in files {
        file.check()?;
        unique("file", &file.path, &mut paths)?;
    }
    Ok(())
}

fn unique<'m>(what: &'static str, name: &'m str, seen: &mut BTreeSet<&'m str>) -> Result<(), ManifestError> {
    if seen.insert(name) {
        Ok(())
    } else {
        Err(ManifestError::Duplicate {
            what,
            name: shown(name),
        })
    }
}
