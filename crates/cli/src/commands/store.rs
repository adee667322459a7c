//! `lorahub store`: what was downloaded, whether it is undamaged, and removing it.

use std::collections::BTreeSet;

use lorahub_hub::{
    Catalogue, Converted, FileStore, HubError, Kept, Key, Kind, Sha256, Store as _, Stored, delete_kept,
    discard_conversions,
};
use serde::Serialize;

use crate::error::CliError;
use crate::hub::args::{KeptArgs, StoreAction, StoreDeleteArgs, StoreReadArgs};
use crate::hub::{SystemClock, catalogue, store_command};
use crate::output::{Reporter, bytes_text, print, print_json};

/// What `store list --json` prints.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    store: String,
    /// Of all files.
    bytes: u64,
    entries: Vec<ListedEntry<'a>>,
    /// Files that no entry names.
    unnamed: Vec<Stored>,
    /// Downloads that have not ended.
    unfinished: Vec<String>,
}

/// A base or module, and whether all its files are there.
#[derive(Debug, Serialize)]
struct ListedEntry<'a> {
    #[serde(flatten)]
    kept: &'a Kept,
    whole: bool,
}

/// What `store verify --json` prints.
#[derive(Debug, Serialize)]
struct Verified {
    store: String,
    /// How many were read.
    files: usize,
    bytes: u64,
    /// Hashes of files that are not what they were.
    corrupt: Vec<Sha256>,
}

/// What `store delete --json` prints.
#[derive(Debug, Serialize)]
struct Deleted {
    store: String,
    /// How many files were deleted.
    files: usize,
    bytes: u64,
}

/// Runs the command.
///
/// # Errors
/// Those of the store, [`CliError::NotInStore`], and [`CliError::Corrupt`] after the report.
pub(crate) fn run(arguments: &KeptArgs) -> Result<(), CliError> {
    match &arguments.action {
        StoreAction::List(arguments) => list(arguments),
        StoreAction::Verify(arguments) => verify(arguments),
        StoreAction::Delete(arguments) => delete(arguments),
    }
}

fn list(arguments: &StoreReadArgs) -> Result<(), CliError> {
    let folder = arguments.store.folder()?;
    let store = folder.display().to_string();
    let (catalogue, files, unfinished) = match arguments.store.find()? {
        Some(store) => pollster::block_on(async {
            let catalogue = Catalogue::load(&store).await?;
            Ok::<_, HubError>((catalogue, store.list().await?, store.parts().await?))
        })?,
        None => Default::default(),
    };
    let here: BTreeSet<Stored> = files.iter().copied().collect();
    let named = catalogue.hashes();
    let whole = |kept: &Kept| kept.files.iter().all(|file| here.contains(&file.stored));
    let listed = Listed {
        store,
        bytes: files.iter().map(|file| file.size).sum(),
        entries: catalogue
            .entries()
            .iter()
            .map(|kept| ListedEntry {
                whole: whole(kept),
                kept,
            })
            .collect(),
        unnamed: files.into_iter().filter(|file| !named.contains(&file.sha256)).collect(),
        unfinished: unfinished.iter().map(Key::to_string).collect(),
    };
    if arguments.json {
        return print_json(&listed);
    }
    for ListedEntry { kept, whole } in &listed.entries {
        let lacks = if *whole { "" } else { "  not all of it is here" };
        print(&format!(
            "{:6}  {:>9}  {}  {}@{}{lacks}",
            kept.kind.to_string(),
            bytes_text(kept.bytes()),
            kept.name,
            kept.repository,
            &kept.commit.as_str()[..12]
        ))?;
        for Converted { storage, stored, .. } in &kept.converted {
            let size = bytes_text(stored.size);
            print(&format!(
                "        {size:>9}  {} converted to {}",
                kept.name,
                storage.name()
            ))?;
        }
    }
    for file in &listed.unnamed {
        print(&format!("file    {:>9}  {}", bytes_text(file.size), file.sha256))?;
    }
    for key in &listed.unfinished {
        print(&format!("unfinished         {key}"))?;
    }
    print(&format!("{} in {}", bytes_text(listed.bytes), listed.store))
}

fn verify(arguments: &StoreReadArgs) -> Result<(), CliError> {
    let folder = arguments.store.folder()?;
    let mut verified = Verified {
        store: folder.display().to_string(),
        files: 0,
        bytes: 0,
        corrupt: Vec::new(),
    };
    if let Some(store) = arguments.store.find()? {
        let files = pollster::block_on(store.list())?;
        let mut reporter = Reporter::new();
        for (number, file) in files.iter().enumerate() {
            reporter.show(&format!("file {} of {}", number + 1, files.len()));
            match pollster::block_on(store.verify(file.sha256)) {
                Ok(_) => {}
                Err(HubError::Corrupt { expected, .. }) => verified.corrupt.push(expected),
                Err(error) => return Err(error.into()),
            }
            verified.files += 1;
            verified.bytes += file.size;
        }
        reporter.finish();
    }
    if arguments.json {
        print_json(&verified)?;
    } else {
        print(&format!(
            "{} files, {}, {} of them not what was downloaded",
            verified.files,
            bytes_text(verified.bytes),
            verified.corrupt.len()
        ))?;
    }
    if verified.corrupt.is_empty() {
        return Ok(());
    }
    let mut words = vec!["delete".to_owned()];
    words.extend(verified.corrupt.iter().map(Sha256::to_string));
    Err(CliError::Corrupt {
        found: verified.corrupt.len(),
        files: verified.files,
        command: store_command(words, &arguments.store),
        store: folder,
    })
}

fn delete(arguments: &StoreDeleteArgs) -> Result<(), CliError> {
    let folder = arguments.store.folder()?;
    let mut deleted = Deleted {
        store: folder.display().to_string(),
        files: 0,
        bytes: 0,
    };
    match arguments.store.find()? {
        Some(store) => {
            let before = pollster::block_on(store.list())?;
            if arguments.all {
                pollster::block_on(store.delete_all())?;
            } else {
                delete_named(&store, arguments)?;
            }
            let after: BTreeSet<Stored> = pollster::block_on(store.list())?.into_iter().collect();
            let gone = before.iter().filter(|file| !after.contains(file));
            for file in gone {
                deleted.files += 1;
                deleted.bytes += file.size;
            }
        }
        None => {
            if let Some(name) = arguments.names.first() {
                return Err(not_in_store(arguments, name)?);
            }
        }
    }
    if arguments.json {
        return print_json(&deleted);
    }
    print(&format!(
        "{} files deleted, {}",
        deleted.files,
        bytes_text(deleted.bytes)
    ))
}

fn not_in_store(arguments: &StoreDeleteArgs, name: &str) -> Result<CliError, CliError> {
    Ok(CliError::NotInStore {
        store: arguments.store.folder()?,
        name: name.to_owned(),
    })
}

/// Deletes by name and by hash. Files that another name needs stay; every name is looked up before anything goes.
fn delete_named(store: &FileStore, arguments: &StoreDeleteArgs) -> Result<(), CliError> {
    let catalogue = catalogue(store)?;
    let (files, parts) = pollster::block_on(async { Ok::<_, HubError>((store.list().await?, store.parts().await?)) })?;
    let mut entries: Vec<&Kept> = Vec::new();
    let mut hashes: BTreeSet<Sha256> = BTreeSet::new();
    let mut unfinished: Vec<Key> = Vec::new();
    for name in &arguments.names {
        let named: Vec<_> = catalogue.entries().iter().filter(|kept| kept.name == *name).collect();
        let hash = Sha256::from_hex(name).filter(|hash| files.iter().any(|file| file.sha256 == *hash));
        let part = Key::from_hex(name).filter(|key| parts.contains(key));
        if named.is_empty() && hash.is_none() && part.is_none() {
            return Err(not_in_store(arguments, name)?);
        }
        entries.extend(named);
        hashes.extend(hash);
        unfinished.extend(part);
    }
    let clock = SystemClock::start().map_err(CliError::Thread)?;
    pollster::block_on(async {
        let mut still_named = BTreeSet::new();
        // The names go first: a name without files would be worse than files without a name.
        Catalogue::change(store, &clock, |catalogue| {
            for kept in &entries {
                catalogue.remove(kept.kind, &kept.name);
            }
            still_named = catalogue.hashes();
        })
        .await?;
        let of_entries = entries.iter().flat_map(|kept| kept.hashes());
        hashes.extend(of_entries.filter(|hash| !still_named.contains(hash)));
        for hash in hashes {
            delete_kept(store, hash).await?;
        }
        for base in entries.iter().filter(|kept| kept.kind == Kind::Base) {
            discard_conversions(store, &base.name).await?;
        }
        for key in unfinished {
            store.discard(key).await?;
        }
        Ok(())
    })
    .map_err(|error: HubError| error.into())
}
