//! The two questions to a hub's API: which commit `main` is, and what a commit's files are.

use lorahub_weights::json::shown_reason;
use serde::Deserialize;

use crate::source::check_path;
use crate::{Commit, FileEntry, GitBlob, Hub, HubError, Repository, Sha256};

/// The largest answer that is read.
const ANSWER_BYTES: usize = 16 << 20;

/// The address that tells the commit of a branch or tag; `main` where nothing else is meant.
pub fn revision_url(hub: &Hub, repository: &Repository) -> String {
    format!("{}/api/models/{repository}/revision/main", hub.as_str())
}

/// The address that lists a commit's files.
pub fn files_url(hub: &Hub, repository: &Repository, commit: &Commit) -> String {
    format!("{}/api/models/{repository}/tree/{commit}?recursive=true", hub.as_str())
}

/// The commit in an answer to [`revision_url`].
///
/// # Errors
/// [`HubError::Api`] for another answer.
pub fn revision_of(answer: &[u8]) -> Result<Commit, HubError> {
    #[derive(Deserialize)]
    struct Answer {
        sha: Commit,
    }
    parse::<Answer>(answer).map(|answer| answer.sha)
}

/// A file by a hub's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its hash, which hubs know of large files.
    pub sha256: Option<Sha256>,
    /// What git calls its content, which hubs know of the others.
    pub blob: Option<GitBlob>,
}

impl RemoteFile {
    /// The same as an entry of a manifest.
    pub fn entry(&self) -> FileEntry {
        FileEntry {
            size: Some(self.size),
            sha256: self.sha256,
            ..FileEntry::new(&self.path)
        }
    }
}

/// The files in an answer to [`files_url`], but for those with paths that a manifest cannot hold.
///
/// # Errors
/// [`HubError::Api`] for another answer.
pub fn files_of(answer: &[u8]) -> Result<Vec<RemoteFile>, HubError> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: String,
        path: String,
        #[serde(default)]
        oid: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        lfs: Option<Lfs>,
    }
    #[derive(Deserialize)]
    struct Lfs {
        oid: Sha256,
        size: u64,
    }
    let entries: Vec<Entry> = parse(answer)?;
    let file = |entry: Entry| RemoteFile {
        // That of a large file is of its pointer.
        blob: GitBlob::from_hex(&entry.oid).filter(|_| entry.lfs.is_none()),
        size: entry.lfs.as_ref().map_or(entry.size, |lfs| lfs.size),
        sha256: entry.lfs.map(|lfs| lfs.oid),
        path: entry.path,
    };
    Ok(entries
        .into_iter()
        .filter(|entry| entry.kind == "file" && check_path(&entry.path).is_ok())
        .map(file)
        .collect())
}

fn parse<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, HubError> {
    if answer.len() > ANSWER_BYTES {
        let reason = format!("it has {} bytes, the limit is {ANSWER_BYTES}", answer.len());
        return Err(HubError::Api { reason });
    }
    serde_json::from_slice(answer).map_err(|e| HubError::Api {
        reason: shown_reason(&e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_others_refused() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let hash = Sha256::of(b"abc");
        let answer = format!(r#"{{"id":"a/b","sha":"{commit}","siblings":[]}}"#);
        assert_eq!(revision_of(answer.as_bytes()).expect("a commit").as_str(), commit);
        let tree = format!(
            r#"[{{"type":"directory","oid":"x","size":0,"path":"sub"}},
                {{"type":"file","oid":"{commit}","size":7,"path":"config.json"}},
                {{"type":"file","oid":"x","size":1,"path":"a b"}},
                {{"type":"file","oid":"{commit}","size":130,"path":"sub/m.bin","lfs":{{"oid":"{hash}","size":9,"pointerSize":130}}}}]"#
        );
        let files = files_of(tree.as_bytes()).expect("a list");
        let found: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.size, file.sha256))
            .collect();
        assert_eq!(found, [("config.json", 7, None), ("sub/m.bin", 9, Some(hash))]);
        assert_eq!(files[1].entry().size, Some(9));
        let blobs: Vec<_> = files.iter().map(|file| file.blob).collect();
        assert_eq!(blobs, [GitBlob::from_hex(commit), None]);
        for answer in ["", "{}", r#"{"sha":"main"}"#, "<html>"] {
            assert_eq!(revision_of(answer.as_bytes()).expect_err(answer).code(), "hub-api");
        }
        assert_eq!(files_of(b"{}").expect_err("no list").code(), "hub-api");
        let (hub, repository) = (Hub::public(), Repository::new("a/b").expect("valid"));
        assert!(revision_url(&hub, &repository).ends_with("/api/models/a/b/revision/main"));
        let commit = Commit::new(commit).expect("valid");
        assert!(files_url(&hub, &repository, &commit).ends_with("4567?recursive=true"));
    }
}
