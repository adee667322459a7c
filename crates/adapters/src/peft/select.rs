//! Which linears of a base a configuration selects: PEFT's rules (`check_target_module_exists`), word for word.

use lorahub_weights::shown;
use regex_lite::{Regex, RegexBuilder};

use super::ConfigError;

/// `target_modules`.
pub(super) enum Targets {
    /// Whole paths, or what follows a dot at their end.
    Names(Vec<String>),
    /// A regular expression for whole paths.
    Pattern(Regex),
    /// `all-linear`: every linear of the base but its head.
    AllLinear,
}

/// `exclude_modules`.
pub(super) enum Exclude {
    Nothing,
    Names(Vec<String>),
    Pattern(Regex),
}

/// `layers_to_transform` and `layers_pattern`.
pub(super) struct Layers {
    pub(super) indexes: Vec<u64>,
    /// Each finds a layer's number at the group `index`; the first that matches decides.
    pub(super) patterns: Vec<Regex>,
}

/// Which linears of a base have a LoRA.
pub(super) struct Selection {
    pub(super) targets: Targets,
    pub(super) exclude: Exclude,
    pub(super) layers: Option<Layers>,
}

impl Selection {
    /// Whether the linear `path` has a LoRA.
    pub(super) fn selects(&self, path: &str) -> bool {
        let excluded = match &self.exclude {
            Exclude::Nothing => false,
            Exclude::Names(names) => names.iter().any(|name| names_path(name, path)),
            Exclude::Pattern(pattern) => pattern.is_match(path),
        };
        !excluded
            && match &self.targets {
                Targets::AllLinear => true,
                Targets::Pattern(pattern) => pattern.is_match(path),
                // A whole path is meant, whatever its layer.
                Targets::Names(names) if names.iter().any(|name| name == path) => true,
                Targets::Names(names) => {
                    names.iter().any(|name| names_path(name, path))
                        && self.layers.as_ref().is_none_or(|layers| layers.contain(path))
                }
            }
    }

    /// A name among `target_modules` that belongs to none of `paths`. An exclusion may leave a name without any.
    pub(super) fn unmatched<'a>(&self, paths: impl Iterator<Item = &'a str> + Clone) -> Option<&str> {
        let (Targets::Names(names), Exclude::Nothing) = (&self.targets, &self.exclude) else {
            return None;
        };
        names
            .iter()
            .map(String::as_str)
            .find(|name| !paths.clone().any(|path| names_path(name, path)))
    }
}

impl Layers {
    fn contain(&self, path: &str) -> bool {
        self.patterns
            .iter()
            .find_map(|pattern| pattern.captures(path))
            .and_then(|captures| captures.name("index")?.as_str().parse().ok())
            .is_some_and(|index: u64| self.indexes.contains(&index))
    }
}

/// Whether `name` is the path, or its end behind a dot.
fn names_path(name: &str, path: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The size of a compiled expression. Matching takes time in proportion to it, for every linear of a file.
const PATTERN_BYTES: usize = 1 << 16;

/// Compiles `full`, which was made from the text `given` of the setting `key`.
pub(super) fn pattern(key: &'static str, given: &str, full: &str) -> Result<Regex, ConfigError> {
    pattern_within(PATTERN_BYTES, key, given, full)
}

/// [`pattern`] of a given size.
pub(super) fn pattern_within(bytes: usize, key: &'static str, given: &str, full: &str) -> Result<Regex, ConfigError> {
    RegexBuilder::new(full)
        .size_limit(bytes)
        .build()
        .map_err(|error| ConfigError::Pattern {
            key,
            found: shown(given),
            reason: shown(&error.to_string()),
        })
}
