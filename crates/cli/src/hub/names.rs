//! The manifest in use, and what names stand for in it.

use std::path::Path;

use lorahub_hub::{Entry, HubError, Manifest, public_manifest};

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
        return Ok(public_manifest().map_err(HubError::from)?);
    };
    Manifest::parse(&read(path, JSON_BYTES)?).map_err(|source| CliError::Manifest {
        path: path.to_owned(),
        source,
    })
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
        let found: Vec<Entry> = Entry::find(manifest, name).collect();
        if found.is_empty() {
            let bases = manifest.bases.iter().map(|base| base.id.as_str());
            let modules = manifest.modules.iter().map(|module| module.name.as_str());
            return Err(not_listed("base or module", name, bases.chain(modules)));
        }
        for entry in found {
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
