//! The journal of a download: what the part is going to be, and which chunks it should have, each with its hash.
//!
//! A chunk's line is written before its bytes. So a line proves nothing by itself: after an interruption the bytes
//! are read again and must have the line's hash. A line that was cut by a crash, or that names nothing, is skipped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Sha256;

/// What the part is going to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) version: u32,
    /// Bytes of the file, where they were known at the start.
    pub(crate) size: Option<u64>,
    /// Bytes of every chunk but the last.
    pub(crate) chunk_bytes: u64,
    /// The answer's `ETag`, if it was shown: a file without known hash must keep it.
    pub(crate) etag: Option<String>,
}

/// The version of the lines' form.
pub(crate) const JOURNAL_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head(Head),
    Chunk { index: u64, sha256: Sha256 },
}

impl Line {
    /// With a line break on both sides: a line that a crash cut short does not spoil the next one.
    fn text(&self) -> Vec<u8> {
        let mut text = vec![b'\n'];
        // Numbers and texts always become JSON; an empty line would be skipped.
        text.extend(serde_json::to_vec(self).unwrap_or_default());
        text.push(b'\n');
        text
    }
}

/// The line that starts a journal.
pub(crate) fn head_line(head: &Head) -> Vec<u8> {
    Line::Head(head.clone()).text()
}

/// The line of a chunk.
pub(crate) fn chunk_line(index: u64, sha256: Sha256) -> Vec<u8> {
    Line::Chunk { index, sha256 }.text()
}

/// A journal's head and the hashes of its chunks; `None` if it has no head.
pub(crate) fn read(bytes: &[u8]) -> Option<(Head, BTreeMap<u64, Sha256>)> {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok());
    let Some(Line::Head(head)) = lines.next() else {
        return None;
    };
    let chunks = lines.filter_map(|line| match line {
        Line::Chunk { index, sha256 } => Some((index, sha256)),
        Line::Head(_) => None,
    });
    Some((head, chunks.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_loses_itself_only() {
        let head = Head {
            version: JOURNAL_VERSION,
            size: Some(20),
            chunk_bytes: 8,
            etag: Some("\"x\"".to_owned()),
        };
        let hash = |index: u64| Sha256::of(&index.to_le_bytes());
        let mut journal = head_line(&head);
        journal.extend(chunk_line(0, hash(0)));
        let cut = chunk_line(1, hash(1));
        journal.extend(&cut[..cut.len() - 9]);
        journal.extend(chunk_line(2, hash(2)));
        let (found, chunks) = read(&journal).expect("a head");
        assert_eq!(found, head);
        assert_eq!(chunks, BTreeMap::from([(0, hash(0)), (2, hash(2))]));
        assert!(read(b"").is_none());
        assert!(read(&chunk_line(0, hash(0))).is_none());
        assert!(read(&journal[..20]).is_none());
    }
}
