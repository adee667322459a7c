//! `family.json`: what goes with a set of modules made together. Beside modules, it says which rule they are meant for.

use std::path::{Path, PathBuf};

use lorahub_adapters::Rule;
use serde::Deserialize;

use crate::error::CliError;
use crate::files::{JSON_BYTES, read};

/// The version of `family.json` that this program reads.
const SCHEMA: u32 = 1;

/// The part of `family.json` that matters here; other fields are other programs' business.
#[derive(Debug, Deserialize)]
pub(crate) struct Family {
    schema: u32,
    pub(crate) name: String,
    pub(crate) rule: Rule,
    #[serde(default)]
    pub(crate) license: Option<String>,
    pub(crate) base: String,
    pub(crate) modules: Vec<FamilyModule>,
    #[serde(default)]
    pub(crate) tasks: Vec<serde_json::Value>,
}

/// A module of a family.
#[derive(Debug, Deserialize)]
pub(crate) struct FamilyModule {
    pub(crate) name: String,
    pub(crate) path: String,
}

impl Family {
    /// Reads one.
    ///
    /// # Errors
    /// [`CliError::Family`] if it is not one of this version, and those of [`read`].
    pub(crate) fn load(path: &Path) -> Result<Self, CliError> {
        let wrong = |problem: String| CliError::Family {
            path: path.to_owned(),
            problem,
        };
        let family: Self = serde_json::from_slice(&read(path, JSON_BYTES)?)
            .map_err(|error| wrong(format!("is not the description of a family ({error})")))?;
        if family.schema != SCHEMA {
            return Err(wrong(format!("has schema {}, expected {SCHEMA}", family.schema)));
        }
        Ok(family)
    }

    /// Whether `module` is one of the modules that this family, read from `path`, lists.
    fn lists(&self, path: &Path, module: &Path) -> bool {
        let Some(folder) = path.parent() else {
            return false;
        };
        let listed = |entry: &FamilyModule| {
            folder
                .join(&entry.path)
                .canonicalize()
                .is_ok_and(|listed| listed == module)
        };
        self.modules.iter().any(listed)
    }
}

/// The family that lists a module: `family.json` in the folder above it, or in the one above that.
fn family_of(module: &Path) -> Result<Option<(PathBuf, Family)>, CliError> {
    let Ok(module) = module.canonicalize() else {
        return Ok(None);
    };
    for folder in module.ancestors().skip(1).take(2) {
        let path = folder.join("family.json");
        if path.is_file() {
            let family = Family::load(&path)?;
            if family.lists(&path, &module) {
                return Ok(Some((path, family)));
            }
        }
    }
    Ok(None)
}

/// The rule for these modules where none is asked for, and why: their family's, or `reference` for those without.
///
/// # Errors
/// [`CliError::Usage`] if the modules disagree, [`CliError::Family`] for a `family.json` that is none.
pub(crate) fn default_rule(modules: &[PathBuf]) -> Result<(Rule, String), CliError> {
    let mut rules: Vec<(Rule, String)> = Vec::new();
    for module in modules {
        let rule = match family_of(module)? {
            Some((_, family)) => (family.rule, format!("as the family `{}` says", family.name)),
            None => (Rule::Reference, "the default".to_owned()),
        };
        if let Some((first, why)) = rules.first()
            && *first != rule.0
        {
            return Err(CliError::Usage(format!(
                "module `{}` is for rule `{}` ({}), and `{}` for rule `{first}` ({why}); say which with --rule",
                module.display(),
                rule.0,
                rule.1,
                modules[0].display()
            )));
        }
        rules.push(rule);
    }
    let default = (Rule::Reference, "the default".to_owned());
    Ok(rules.into_iter().next().unwrap_or(default))
}

/// The licence that these modules share as members of a family.
///
/// # Errors
/// [`CliError::Family`] for a `family.json` that is none.
pub(crate) fn license(modules: &[PathBuf]) -> Result<Option<String>, CliError> {
    let mut shared: Option<Option<String>> = None;
    for module in modules {
        let license = family_of(module)?.and_then(|(_, family)| family.license);
        match &shared {
            Some(first) if *first != license => return Ok(None),
            _ => shared = Some(license),
        }
    }
    Ok(shared.flatten())
}
