//! Where a file is: repository, commit, path, and the hub's or mirror's address in front.

use std::fmt;

use lorahub_weights::shown;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ManifestError;

/// The longest path, name or address that is read.
const TEXT: usize = 512;

/// A commit's 40 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Commit(String);

impl Commit {
    /// Checks a commit.
    ///
    /// # Errors
    /// [`ManifestError::Commit`] if it is a branch, a tag, a short commit or anything else.
    pub fn new(text: &str) -> Result<Self, ManifestError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 40 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ManifestError::Commit { found: shown(text) })
        }
    }
}

/// A repository's `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Repository(String);

impl Repository {
    /// Checks a repository's name.
    ///
    /// # Errors
    /// [`ManifestError::Repository`] if it is not two plain names with a slash between them.
    pub fn new(text: &str) -> Result<Self, ManifestError> {
        match text.split_once('/') {
            Some((owner, name)) if text.len() <= TEXT && is_segment(owner) && is_segment(name) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(ManifestError::Repository { found: shown(text) }),
        }
    }
}

macro_rules! checked_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

checked_text!(Commit, Repository);

/// Whether `text` can be one part of an address and of a path: no dots alone, nothing to be escaped.
fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed) && !text.bytes().all(|byte| byte == b'.')
}

/// Checks a file's path in its repository.
pub(crate) fn check_path(path: &str) -> Result<(), ManifestError> {
    if path.len() <= TEXT && path.split('/').all(is_segment) {
        Ok(())
    } else {
        Err(ManifestError::Path { found: shown(path) })
    }
}

/// A file of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source {
    repository: Repository,
    commit: Commit,
    path: String,
}

impl Source {
    /// The file `path` of a repository.
    ///
    /// # Errors
    /// [`ManifestError::Path`] if the path is not made of plain names with slashes between them.
    pub fn new(repository: Repository, commit: Commit, path: &str) -> Result<Self, ManifestError> {
        check_path(path)?;
        Ok(Self {
            repository,
            commit,
            path: path.to_owned(),
        })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The commit.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.repository, self.commit, self.path)
    }
}

/// The address of a hub, or of a mirror laid out like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub(String);

impl Hub {
    /// The public hub.
    pub const PUBLIC: &str = "https://huggingface.co";

    /// Checks an address: `https://`, `http://` on this machine, or a path on the page's own host (`/models`).
    ///
    /// # Errors
    /// [`ManifestError::Hub`] for any other, or with a query, a fragment or characters that would be escaped.
    pub fn new(address: &str) -> Result<Self, ManifestError> {
        let address = address.strip_suffix('/').unwrap_or(address);
        let wrong = || ManifestError::Hub { found: shown(address) };
        let local = ["localhost", "127.0.0.1", "[::1]"];
        let rest = if let Some(rest) = address.strip_prefix("https://") {
            rest
        } else if let Some(rest) = address.strip_prefix("http://") {
            let host = rest.split('/').next().unwrap_or_default();
            let name = host.rsplit_once(':').map_or(host, |(name, port)| {
                if port.bytes().all(|byte| byte.is_ascii_digit()) {
                    name
                } else {
                    host
                }
            });
            if !local.contains(&name) {
                return Err(wrong());
            }
            rest
        } else {
            // Not `//host`, which is another host.
            address.strip_prefix('/').ok_or_else(wrong)?
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]/~".contains(&byte);
        let dots = rest
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
        if rest.is_empty() || rest.len() > TEXT || dots || !rest.bytes().all(allowed) {
            return Err(wrong());
        }
        Ok(Self(address.to_owned()))
    }

    /// The public hub's address, checked.
    pub fn public() -> Self {
        Self(Self::PUBLIC.to_owned())
    }

    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a file: `{hub}/{repository}/resolve/{commit}/{path}`.
    pub fn url(&self, source: &Source) -> String {
        let Source {
            repository,
            commit,
            path,
        } = source;
        format!("{}/{repository}/resolve/{commit}/{path}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn an_address_is_built_of_checked_parts() {
        let repository = Repository::new("lorahub/flan_t5_large-super_glue_wsc.fixed").expect("valid");
        let commit = Commit::new(COMMIT).expect("valid");
        let source = Source::new(repository, commit, "sub/adapter_model.bin").expect("valid");
        let url = format!("/lorahub/flan_t5_large-super_glue_wsc.fixed/resolve/{COMMIT}/sub/adapter_model.bin");
        for (hub, expected) in [
            (Hub::PUBLIC, format!("{}{url}", Hub::PUBLIC)),
            ("https://mirror.example/a/", format!("https://mirror.example/a{url}")),
            ("http://localhost:8080", format!("http://localhost:8080{url}")),
            ("http://[::1]:80", format!("http://[::1]:80{url}")),
            ("/models", format!("/models{url}")),
        ] {
            assert_eq!(Hub::new(hub).expect(hub).url(&source), expected);
        }
        assert_eq!(Hub::public(), Hub::new(Hub::PUBLIC).expect("valid"));
    }

    #[test]
    fn other_parts_are_refused() {
        for hub in [
            "",
            "/",
            "//evil.example",
            "http://evil.example",
            "http://localhost.evil.example",
            "ftp://x",
            "https://",
            "https://x?y",
            "https://x#y",
            "https://x/../y",
            "https://a b",
            "https://user@x",
            "models",
            "javascript:x",
            "http://localhost:80@evil.example",
        ] {
            let error = Hub::new(hub).expect_err(hub);
            assert_eq!(error.code(), "manifest-hub", "{hub}");
        }
        for commit in ["main", "", "0123", &COMMIT.to_uppercase(), &format!("{COMMIT}0")] {
            assert_eq!(Commit::new(commit).expect_err(commit).code(), "manifest-commit");
        }
        for repository in ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a b/c", "a/b?c", "a/é"] {
            assert_eq!(
                Repository::new(repository).expect_err(repository).code(),
                "manifest-repository"
            );
        }
        let long = "a".repeat(600);
        for path in [
            "", "/a", "a/", "a//b", "../a", "a/../b", ".", "a?b", "a%2fb", "a\\b", &long,
        ] {
            assert_eq!(check_path(path).expect_err(path).code(), "manifest-path");
        }
    }
}
