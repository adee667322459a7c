//! `rank_pattern` and `alpha_pattern`: values of their own for some of the targets, by PEFT's rule (`get_pattern_key`).
//!
//! A key means the paths that `(.*\.)?(key)$` matches from their beginning, so `q` is every `q`, and `^encoder...` one
//! path. PEFT takes the first key that matches and leaves unmatched ones alone. The order is the one in the training
//! script, but `save_pretrained` sorts the keys: here two values for one target are refused, and so is a key for none.

use std::collections::BTreeMap;
use std::fmt::Display;

use lorahub_weights::json::Pairs;
use lorahub_weights::shown;
use regex_lite::Regex;
use serde_json::Value;

use super::config::MAX_NAMES;
use super::select::pattern_within;
use super::{ConfigError, TensorsError};

/// Keys that are not plain names, and the size of one when compiled. Each is tried on every target.
const MAX_EXPRESSIONS: usize = 32;
const EXPRESSION_BYTES: usize = 1 << 13;

/// One of the two settings.
pub(super) struct Patterns<T> {
    setting: &'static str,
    entries: Vec<Entry<T>>,
}

struct Entry<T> {
    name: String,
    meant: Meant,
    value: T,
}

impl<T: Display> Display for Entry<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for `{}`", self.value, shown(&self.name))
    }
}

/// The paths that a key means.
enum Meant {
    /// Its characters at the end of a path, behind a dot or at the beginning; `None` is any character.
    End {
        whole: bool,
        characters: Vec<Option<u8>>,
    },
    Expression(Regex),
}

impl<T: Copy + PartialEq + Display> Patterns<T> {
    /// Reads the setting from its keys and values; `expected` says in words what `value_of` takes.
    pub(super) fn new(
        setting: &'static str,
        pairs: Option<Pairs<Value>>,
        expected: &'static str,
        value_of: impl Fn(&Value) -> Option<T>,
    ) -> Result<Self, ConfigError> {
        let pairs = pairs.map_or_else(Vec::new, |Pairs(pairs)| pairs);
        if pairs.len() > MAX_NAMES {
            return Err(ConfigError::TooManyNames {
                key: setting,
                found: pairs.len(),
                limit: MAX_NAMES,
            });
        }
        let expressions = pairs.iter().filter(|(name, _)| plain(name).is_none()).count();
        if expressions > MAX_EXPRESSIONS {
            return Err(ConfigError::TooManyExpressions {
                key: setting,
                found: expressions,
                limit: MAX_EXPRESSIONS,
            });
        }
        let mut entries: BTreeMap<String, Entry<T>> = BTreeMap::new();
        for (name, value) in pairs {
            let Some(read) = value_of(&value) else {
                let found = shown(&format!("{{{}: {value}}}", Value::from(name)));
                return Err(ConfigError::Value {
                    key: setting,
                    expected,
                    found,
                });
            };
            let meant = match plain(&name) {
                Some(end) => end,
                None => expression(setting, &name)?,
            };
            let entry = Entry {
                name: name.clone(),
                meant,
                value: read,
            };
            if let Some(first) = entries.insert(name, entry) {
                let key = shown(&format!("{setting}.{}", first.name));
                return Err(ConfigError::DuplicateKey { key });
            }
        }
        Ok(Self {
            setting,
            entries: entries.into_values().collect(),
        })
    }

    /// The values of those of `paths` that have one of their own.
    pub(super) fn values<'p>(
        &self,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<BTreeMap<&'p str, T>, TensorsError> {
        let mut values = BTreeMap::new();
        let mut used = vec![false; self.entries.len()];
        for path in paths {
            let mut first: Option<&Entry<T>> = None;
            for (entry, used) in self.entries.iter().zip(&mut used) {
                if !entry.meant.contains(path) {
                    continue;
                }
                *used = true;
                let first = first.get_or_insert(entry);
                if first.value != entry.value {
                    return Err(TensorsError::AmbiguousPattern {
                        setting: self.setting,
                        path: shown(path),
                        entries: format!("{first} and {entry}"),
                    });
                }
            }
            if let Some(first) = first {
                values.insert(path, first.value);
            }
        }
        match self.entries.iter().zip(used).find(|(_, used)| !used) {
            Some((entry, _)) => Err(TensorsError::UnmatchedPattern {
                setting: self.setting,
                name: shown(&entry.name),
            }),
            None => Ok(values),
        }
    }
}

impl Meant {
    fn contains(&self, path: &str) -> bool {
        match self {
            Self::Expression(expression) => expression.is_match(path),
            Self::End { whole, characters } => {
                let Some(start) = path.len().checked_sub(characters.len()) else {
                    return false;
                };
                let (before, end) = path.as_bytes().split_at(start);
                let same = |(byte, character): (&u8, &Option<u8>)| character.is_none_or(|character| character == *byte);
                (before.is_empty() || !whole && before.ends_with(b".")) && end.iter().zip(characters).all(same)
            }
        }
    }
}

/// A key of letters, digits, `_` and dots only, with or without `^` and `$` around it: what nearly all keys are. In an
/// expression a dot is any character, `\.` is a dot. All paths are ASCII, so that a character is a byte.
fn plain(name: &str) -> Option<Meant> {
    let bare = name.strip_prefix('^');
    let whole = bare.is_some();
    let bare = bare.unwrap_or(name);
    let mut bytes = bare.strip_suffix('$').unwrap_or(bare).bytes();
    let mut characters = Vec::new();
    while let Some(byte) = bytes.next() {
        characters.push(match byte {
            b'.' => None,
            b'\\' if bytes.next() == Some(b'.') => Some(b'.'),
            _ if byte == b'_' || byte.is_ascii_alphanumeric() => Some(byte),
            _ => return None,
        });
    }
    Some(Meant::End { whole, characters })
}

fn expression(setting: &'static str, name: &str) -> Result<Meant, ConfigError> {
    // By itself too, or a stray bracket could reach out of the one that PEFT puts around it.
    pattern_within(EXPRESSION_BYTES, setting, name, name)?;
    let full = format!(r"\A(?:.*\.)?(?:{name})\z");
    pattern_within(EXPRESSION_BYTES, setting, name, &full).map(Meant::Expression)
}
