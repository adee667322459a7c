//! What is to be downloaded of an entry: what the manifest knows of its files, completed by what the hub says.

use super::{Cancel, Downloader, Wanted};
use crate::{Clock, Commit, Entry, Fetch, HubError, Store};

/// The files of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Each file with all that is known of it.
    pub wanted: Vec<Wanted>,
    /// Where the knowledge comes from.
    pub listing: Listing,
}

/// What the hub said of an entry's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It was not asked: the manifest has every size and hash.
    Known,
    /// It told sizes and hashes, none of which speaks against the manifest.
    Told,
    /// It has no list of files, as a plain mirror: hashes that are not known are taken from what comes.
    Absent(HubError),
    /// It tells another size or hash of these paths than the manifest, which is believed.
    Contradicts(Vec<String>),
}

impl<F: Fetch, C: Clock, S: Store> Downloader<'_, F, C, S> {
    /// The files of an entry at a commit, with the sizes and hashes that the hub tells, unless all of them are known.
    ///
    /// # Errors
    /// As [`files_of`](Self::files_of), a list that is not there aside; and [`HubError::Manifest`] for a file that the
    /// repository does not have.
    pub async fn completed(&self, entry: &Entry, commit: &Commit, cancel: &Cancel) -> Result<Completed, HubError> {
        let plain = |listing| {
            let sources = entry.sources(commit)?;
            let wanted = sources.into_iter().map(|(source, file)| Wanted::new(source, file));
            Ok(Completed {
                wanted: wanted.collect(),
                listing,
            })
        };
        if entry
            .files()
            .iter()
            .all(|file| file.size.is_some() && file.sha256.is_some())
        {
            return plain(Listing::Known);
        }
        let remote = match self.files_of(entry.repository(), commit, cancel).await {
            Ok(remote) => remote,
            Err(error @ (HubError::NotFound { .. } | HubError::Api { .. } | HubError::Status { .. })) => {
                return plain(Listing::Absent(error));
            }
            Err(error) => return Err(error),
        };
        let refreshed = entry.refreshed(commit, &remote)?;
        if !refreshed.changed.is_empty() {
            return plain(Listing::Contradicts(refreshed.changed));
        }
        let blob = |path: &str| remote.iter().find(|remote| remote.path == path)?.blob;
        let sources = refreshed.entry.sources(commit)?;
        let wanted = sources.into_iter().map(|(source, file)| Wanted {
            blob: blob(&file.path),
            ..Wanted::new(source, file)
        });
        Ok(Completed {
            wanted: wanted.collect(),
            listing: Listing::Told,
        })
    }
}
