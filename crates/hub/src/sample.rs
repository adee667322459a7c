//! Kept files are sampled when they are opened: their size, and one chunk against the hash it had when it was kept.
//!
//! Reading a model again from its start to its end would double the time to open it. One chunk of many is found out by
//! chance only, but a storage that loses or changes things rarely does so once, and every opening looks somewhere else.

use futures_util::future::try_join;

use crate::{Chunks, HubError, Key, Sha256, Store, Stored};

fn key(sha256: Sha256) -> Key {
    Key::of_text(&format!("chunks of {sha256}"))
}

/// Records the hashes of a file's chunks, for [`check_sample`].
///
/// # Errors
/// [`HubError::Store`].
pub async fn keep_chunks<S: Store>(store: &S, sha256: Sha256, chunks: &Chunks) -> Result<(), HubError> {
    // Numbers and hashes always become JSON; an unreadable record would be refused.
    let json = serde_json::to_vec(chunks).unwrap_or_default();
    store.put_record(key(sha256), &json).await
}

/// Checks the size of a kept file, and one of its chunks: the one that `pick` falls on, which the caller draws anew each
/// time. A file that is not what was kept is deleted. `name` is what a message calls it. Of a file that was kept without
/// its chunks' hashes only the size is checked.
///
/// # Errors
/// [`HubError::NotKept`], [`HubError::Damaged`], [`HubError::Store`].
pub async fn check_sample<S: Store>(store: &S, file: Stored, name: &str, pick: u64) -> Result<(), HubError> {
    let Stored { sha256, size } = file;
    // Together, because in a browser each of them is several waits.
    let (found, record) = try_join(store.size(sha256), store.record(key(sha256))).await?;
    let found = found.ok_or(HubError::NotKept { sha256 })?;
    let damaged = |start, end, found| HubError::Damaged {
        name: name.to_owned(),
        start,
        end,
        found,
    };
    if found != size {
        delete_kept(store, sha256).await?;
        return Err(damaged(0, size, format!("{found} bytes in all")));
    }
    let Some(record) = record else { return Ok(()) };
    let chunks: Chunks = serde_json::from_slice(&record).map_err(|error| HubError::Store {
        action: "understand the record of a file's chunks",
        reason: error.to_string(),
    })?;
    let Some(index) = pick.checked_rem(chunks.sha256.len() as u64) else {
        return Ok(());
    };
    let expected = chunks.sha256[index as usize];
    let start = index.saturating_mul(chunks.bytes);
    let end = size.min(start.saturating_add(chunks.bytes));
    let found = store.hash(sha256, start..end).await?;
    if found == expected {
        return Ok(());
    }
    delete_kept(store, sha256).await?;
    Err(damaged(start, end, format!("the hash {found}, expected {expected}")))
}

/// Deletes a kept file, if it is there, with what is recorded of its chunks.
///
/// # Errors
/// [`HubError::Store`].
pub async fn delete_kept<S: Store>(store: &S, sha256: Sha256) -> Result<(), HubError> {
    store.delete(sha256).await?;
    store.remove_record(key(sha256)).await
}
