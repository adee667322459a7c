//! `lorahub manifest`: what can be downloaded, and completing that from a hub.

use lorahub_hub::{Cancel, Chunks, Commit, Downloader, Entry, FileEntry, HubError, Manifest, Refreshed, Store as _};

use crate::error::CliError;
use crate::files::write;
use crate::hub::args::ManifestArgs;
use crate::hub::{Http, SystemClock, catalogue, read_manifest, select};
use crate::output::{Reporter, print, say, warn};

/// Runs the command.
///
/// # Errors
/// Those of the manifest's file and of the hub.
pub(crate) fn run(arguments: &ManifestArgs) -> Result<(), CliError> {
    let mut manifest = read_manifest(arguments.manifest.as_deref())?;
    if !(arguments.names.is_empty() || arguments.refresh || arguments.parts) {
        return Err(CliError::Usage(
            "names without anything to do with them; say --refresh or --parts".to_owned(),
        ));
    }
    let names: Vec<String> = if arguments.names.is_empty() {
        let bases = manifest.bases.iter().map(|base| base.id.clone());
        bases
            .chain(manifest.modules.iter().map(|module| module.name.clone()))
            .collect()
    } else {
        arguments.names.clone()
    };
    if arguments.refresh {
        refresh(arguments, &names, &mut manifest)?;
    }
    if arguments.parts {
        add_parts(arguments, &names, &mut manifest)?;
    }
    let json = manifest.to_json().map_err(HubError::from)?;
    match &arguments.out {
        Some(path) => write(path, json.as_bytes()),
        None => print(json.trim_end()),
    }
}

/// The size of a part that is hashed apart: that of a request.
const PART_BYTES: u64 = 8 << 20;

/// Puts in the hashes of the parts of files that are in the store, by the catalogue's word which content they have.
fn add_parts(arguments: &ManifestArgs, names: &[String], manifest: &mut Manifest) -> Result<(), CliError> {
    let store = arguments.store.open()?;
    let catalogue = catalogue(&store)?;
    let mut added = 0;
    for mut entry in select(manifest, names, None)? {
        let kept = catalogue.get(entry.kind(), entry.name());
        let Some(kept) = kept.filter(|kept| entry.commit().is_none_or(|commit| *commit == kept.commit)) else {
            if arguments.names.is_empty() {
                continue;
            }
            return Err(CliError::NotInStore {
                store: arguments.store.folder()?,
                name: entry.name().to_owned(),
            });
        };
        let files = match &mut entry {
            Entry::Base(base) => &mut base.files,
            Entry::Module(module) => &mut module.files,
        };
        for file in files {
            let Some(stored) = kept.file(&file.path) else { continue };
            // Not of a content that the manifest does not mean.
            if file.sha256.is_some_and(|sha256| sha256 != stored.sha256) {
                continue;
            }
            pollster::block_on(store.verify(stored.sha256))?;
            let chunks = pollster::block_on(Chunks::of_kept(&store, stored.sha256, PART_BYTES))?;
            (file.size, file.sha256, file.chunks) = (Some(stored.size), Some(stored.sha256), Some(chunks));
            added += 1;
        }
        match &mut entry {
            Entry::Base(base) => base.commit = Some(kept.commit.clone()),
            Entry::Module(module) => module.commit = Some(kept.commit.clone()),
        }
        put(manifest, entry);
    }
    say(&format!("{added} files with hashes of their parts"));
    Ok(())
}

/// Completes the entries asked for.
fn refresh(arguments: &ManifestArgs, names: &[String], manifest: &mut Manifest) -> Result<(), CliError> {
    let entries = select(manifest, names, None)?;
    let clock = SystemClock::start().map_err(CliError::Thread)?;
    let http = Http::new(arguments.hub.stall());
    let hub = Downloader::new(&http, &clock, &(), arguments.hub.options());
    let cancel = Cancel::default();
    let mut reporter = Reporter::new();
    let mut left = 0;
    for (number, old) in entries.iter().enumerate() {
        reporter.show(&format!("{} of {}: {}", number + 1, entries.len(), old.name()));
        let refreshed = pollster::block_on(async {
            let commit = hub.latest(old.repository(), &cancel).await?;
            let files = hub.files_of(old.repository(), &commit, &cancel).await?;
            Ok::<_, HubError>(old.refreshed(&commit, &files)?)
        });
        let Refreshed { entry: new, .. } = refreshed?;
        let changes = changes(old, &new);
        reporter.finish();
        for change in &changes {
            let line = format!("{}: {}", old.name(), change.text);
            if change.known { warn(&line) } else { say(&line) }
        }
        if changes.iter().any(|change| change.known) && !arguments.accept {
            left += 1;
        } else {
            put(manifest, new);
        }
    }
    if left > 0 {
        warn(&format!(
            "{left} entries have changed at the hub and are left as they were; --accept puts in what is new"
        ));
    }
    Ok(())
}

fn put(manifest: &mut Manifest, entry: Entry) {
    match entry {
        Entry::Base(new) => manifest
            .bases
            .iter_mut()
            .filter(|base| base.id == new.id)
            .for_each(|base| *base = new.clone()),
        Entry::Module(new) => manifest
            .modules
            .iter_mut()
            .filter(|module| module.name == new.name)
            .for_each(|module| *module = new.clone()),
    }
}

/// A difference, and whether it takes the place of something that was known.
struct Change {
    text: String,
    known: bool,
}

/// What is new or another.
fn changes(old: &Entry, new: &Entry) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |what: &str, before: Option<String>, now: Option<String>| {
        if before != now {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
            changes.push(Change {
                text: format!("{what}: {} -> {}", text(&before), text(&now)),
                known: before.is_some(),
            });
        }
    };
    let commit = |entry: &Entry| entry.commit().map(Commit::to_string);
    compare("commit", commit(old), commit(new));
    // A refresh keeps the files and their order.
    for (before, now) in old.files().iter().zip(new.files()) {
        let size = |file: &FileEntry| file.size.map(|size| format!("{size} bytes"));
        let hash = |file: &FileEntry| file.sha256.map(|hash| hash.to_string());
        let chunks = |file: &FileEntry| file.chunks.as_ref().map(|_| "hashes of parts".to_owned());
        compare(&before.path, size(before), size(now));
        compare(&before.path, hash(before), hash(now));
        compare(&before.path, chunks(before), chunks(now));
    }
    changes
}
