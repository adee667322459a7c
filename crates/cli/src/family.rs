//! `family.json`: what goes with a set of modules made together. Beside modules, it says which rule they are meant for.

use std::path::Path;

use lorahub_adapters::Rule;
use serde::Deserialize;

use crate::error::CliError;
use crate::files::{JSON_BYTES, read};
use crate::hub::Place;

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
fn family_of(module: &Place) -> Result<Option<Family>, CliError> {
    let Some(Ok(module)) = module.folder().map(Path::canonicalize) else {
        return Ok(None);
    };
    for folder in module.ancestors().skip(1).take(2) {
        let path = folder.join("family.json");
        if path.is_file() {
            let family = Family::load(&path)?;
            if family.lists(&path, &module) {
                return Ok(Some(family));
            }
        }
    }
    Ok(None)
}

/// The rule that a module was made for, and who says so: its family, or the manifest it was downloaded by.
fn rule_of(place: &Place) -> Result<Option<(Rule, String)>, CliError> {
    match place.kept() {
        Some(kept) => {
            let rule = kept.rule.as_deref().and_then(|rule| rule.parse().ok());
            Ok(rule.map(|rule| (rule, format!("as the manifest says of `{}`", kept.name))))
        }
        None => {
            let family = family_of(place)?;
            Ok(family.map(|family| (family.rule, format!("as the family `{}` says", family.name))))
        }
    }
}

/// The rule for these modules where none is asked for, and why: what they were made for, or `reference` for those that
/// do not say.
///
/// # Errors
/// [`CliError::Usage`] if the modules disagree, [`CliError::Family`] for a `family.json` that is none.
pub(crate) fn default_rule(modules: &[Place]) -> Result<(Rule, String), CliError> {
    let mut rules: Vec<(Rule, String)> = Vec::new();
    for module in modules {
        let rule = rule_of(module)?.unwrap_or((Rule::Reference, "the default".to_owned()));
        if let Some((first, why)) = rules.first()
            && *first != rule.0
        {
            return Err(CliError::Usage(format!(
                "module `{}` is for rule `{}` ({}), and `{}` for rule `{first}` ({why}); say which with --rule",
                module, rule.0, rule.1, modules[0]
            )));
        }
        rules.push(rule);
    }
    let default = (Rule::Reference, "the default".to_owned());
    Ok(rules.into_iter().next().unwrap_or(default))
}

/// The licence that these modules share, by their family or the manifest they were downloaded by.
///
/// # Errors
/// [`CliError::Family`] for a `family.json` that is none.
pub(crate) fn license(modules: &[Place]) -> Result<Option<String>, CliError> {
    let mut shared: Option<Option<String>> = None;
    for module in modules {
        let license = match module.kept() {
            Some(kept) => kept.licence.clone(),
            None => family_of(module)?.and_then(|family| family.license),
        };
        match &shared {
            Some(first) if *first != license => return Ok(None),
            _ => shared = Some(license),
        }
    }
    Ok(shared.flatten())
}
