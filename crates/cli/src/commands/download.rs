//! `lorahub download`: bases and modules from a hub into the store.

use std::cell::{Cell, RefCell};

use lorahub_hub::{
    Cancel, Catalogue, Commit, Completed, Downloader, Entry, FileStore, HubError, KeptFile, Kind, Listing, Options,
    Progress, Reason, Sha256, Stored, Wanted,
};
use serde::Serialize;

use crate::error::CliError;
use crate::hub::args::DownloadArgs;
use crate::hub::{Http, SystemClock, catalogue, download_command, read_manifest, select};
use crate::output::{Reporter, bytes_text, print, print_json, say, warn};

/// What `download --json` prints.
#[derive(Debug, Serialize)]
struct Downloaded {
    store: String,
    hub: String,
    entries: Vec<DownloadedEntry>,
}

/// A base or module that is kept now.
#[derive(Debug, Serialize)]
struct DownloadedEntry {
    kind: Kind,
    name: String,
    repository: String,
    commit: Commit,
    commit_from: CommitFrom,
    /// What `main` is now, where the commit is a recorded one and the hub could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    main: Option<Commit>,
    files: Vec<DownloadedFile>,
}

/// A file that is kept now.
#[derive(Debug, Serialize)]
struct DownloadedFile {
    path: String,
    sha256: Sha256,
    size: u64,
    /// Bytes that came over the network this time.
    fetched: u64,
}

/// Why it is this commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CommitFrom {
    /// The manifest says so.
    Manifest,
    /// It is what `main` was when it was first asked for.
    Recorded,
    /// It is what `main` is now.
    Main,
}

/// Runs the command.
///
/// # Errors
/// Those of the manifest, the hub, the network and the store; [`CliError::Stopped`] on Ctrl-C.
pub(crate) fn run(arguments: &DownloadArgs) -> Result<(), CliError> {
    let manifest = read_manifest(arguments.manifest.as_deref())?;
    let entries = select(&manifest, &arguments.names, arguments.set.as_deref())?;
    let store = arguments.store.open()?;
    let clock = SystemClock::start().map_err(CliError::Thread)?;
    let http = Http::new(arguments.hub.stall());
    let options = Options {
        parallel: arguments.parallel.into(),
        chunk_bytes: arguments.chunk_bytes,
        ..arguments.hub.options()
    };
    let work = Work {
        patient: Downloader::new(&http, &clock, &store, options.clone()),
        hasty: Downloader::new(&http, &clock, &store, Options { attempts: 1, ..options }),
        store: &store,
        clock: &clock,
        cancel: listen(),
        asks: Cell::new(true),
        reporter: RefCell::new(Reporter::new()),
    };
    let mut downloaded = Downloaded {
        store: arguments.store.folder()?.display().to_string(),
        hub: arguments.hub.hub.as_str().to_owned(),
        entries: Vec::new(),
    };
    say(&format!("from {} into {}", downloaded.hub, downloaded.store));
    for entry in entries {
        let entry = pollster::block_on(work.entry(entry));
        work.reporter.borrow_mut().finish();
        let entry = entry?;
        if !arguments.json {
            print(&summary(&entry))?;
        }
        downloaded.entries.push(entry);
    }
    if let Some(set) = manifest
        .sets
        .iter()
        .find(|set| Some(&set.name) == arguments.set.as_ref())
    {
        pollster::block_on(Catalogue::change(&store, &clock, |catalogue| {
            catalogue.put_set(set.clone())
        }))?;
    }
    name_missing_bases(&downloaded, &store, arguments)?;
    if arguments.json {
        print_json(&downloaded)?;
    }
    Ok(())
}

fn summary(entry: &DownloadedEntry) -> String {
    let size = entry.files.iter().map(|file| file.size).sum();
    let fetched = entry.files.iter().map(|file| file.fetched).sum();
    let came = match fetched {
        0 => "all of it was here".to_owned(),
        bytes => format!("{} came now", bytes_text(bytes)),
    };
    let number = entry.files.len();
    format!("{}: {number} files, {}, {came}", entry.name, bytes_text(size))
}

/// Says which bases the modules need that are not here.
fn name_missing_bases(downloaded: &Downloaded, store: &FileStore, arguments: &DownloadArgs) -> Result<(), CliError> {
    let catalogue = catalogue(store)?;
    let of_entry = |entry: &DownloadedEntry| catalogue.get(entry.kind, &entry.name)?.base.as_deref();
    let mut needed: Vec<&str> = downloaded.entries.iter().filter_map(of_entry).collect();
    needed.sort_unstable();
    needed.dedup();
    for base in needed {
        if catalogue.get(Kind::Base, base).is_none() {
            let command = download_command(&[base], arguments.manifest.is_none(), &arguments.store);
            say(&format!(
                "these modules go with the base `{base}`, which is not here: {command}"
            ));
        }
    }
    Ok(())
}

/// A flag that Ctrl-C raises. The second one ends the program at once, which loses no more than what is on its way.
fn listen() -> Cancel {
    let cancel = Cancel::default();
    let raised = cancel.clone();
    let set = ctrlc::set_handler(move || {
        if raised.is_cancelled() {
            std::process::exit(130);
        }
        raised.cancel();
    });
    if set.is_err() {
        say("Ctrl-C cannot be caught here, and will end the download at once; it can go on later all the same");
    }
    cancel
}

/// What all downloads of this command share.
struct Work<'a> {
    patient: Downloader<'a, Http, SystemClock, FileStore>,
    /// For questions that may stay without an answer.
    hasty: Downloader<'a, Http, SystemClock, FileStore>,
    store: &'a FileStore,
    clock: &'a SystemClock,
    cancel: Cancel,
    /// Whether the hub has answered those so far.
    asks: Cell<bool>,
    reporter: RefCell<Reporter>,
}

impl Work<'_> {
    /// Gets all files of an entry into the store, and the entry into the catalogue.
    async fn entry(&self, entry: Entry) -> Result<DownloadedEntry, CliError> {
        let (commit, commit_from, main) = self.commit_of(&entry).await?;
        let before = Catalogue::load(self.store)
            .await?
            .get(entry.kind(), entry.name())
            .cloned();
        let before = before.filter(|kept| kept.repository == *entry.repository() && kept.commit == commit);
        let here = match &before {
            Some(kept) => kept.is_whole(&entry, &commit, self.store).await?,
            None => false,
        };
        let wanted = self.wanted(&entry, &commit, here).await?;
        let count = wanted.len();
        let mut files = Vec::new();
        for (number, mut wanted) in wanted.into_iter().enumerate() {
            let path = wanted.source.path().to_owned();
            if let Some(stored) = before.as_ref().and_then(|kept| kept.file(&path)) {
                // A commit never changes: what its file was once, it is for ever.
                wanted.sha256.get_or_insert(stored.sha256);
                wanted.size.get_or_insert(stored.size);
            }
            let label = format!("{} {path} ({} of {count})", entry.name(), number + 1);
            let fetched = Cell::new(0);
            let progress = |progress| self.show(&label, progress, &fetched);
            let Stored { sha256, size } = self.patient.download(&wanted, &self.cancel, &progress).await?;
            files.push(DownloadedFile {
                path,
                sha256,
                size,
                fetched: fetched.get(),
            });
        }
        let kept_file = |file: &DownloadedFile| KeptFile {
            path: file.path.clone(),
            stored: Stored {
                sha256: file.sha256,
                size: file.size,
            },
        };
        let kept = entry.kept(&commit, files.iter().map(kept_file).collect());
        Catalogue::change(self.store, self.clock, |catalogue| catalogue.put(kept)).await?;
        Ok(DownloadedEntry {
            kind: entry.kind(),
            name: entry.name().to_owned(),
            repository: entry.repository().to_string(),
            commit,
            commit_from,
            main,
            files,
        })
    }

    /// The commit to use, which is said; where it is a recorded one, also what `main` is now, if that can be learnt.
    async fn commit_of(&self, entry: &Entry) -> Result<(Commit, CommitFrom, Option<Commit>), CliError> {
        let (name, repository) = (entry.name(), entry.repository());
        let recorded = self.patient.recorded_commit(repository).await?;
        let licence = entry
            .licence()
            .map(|licence| format!(", licence {licence}"))
            .unwrap_or_default();
        if let Some(commit) = entry.commit() {
            if let Some(recorded) = recorded.filter(|recorded| recorded != commit) {
                warn(&format!(
                    "`{name}` was at {recorded} before; the manifest says {commit}, which is used from now on"
                ));
            }
            self.patient.record_commit(repository, commit).await?;
            say(&format!(
                "{name}: {repository} at {commit}, as the manifest says{licence}"
            ));
            return Ok((commit.clone(), CommitFrom::Manifest, None));
        }
        let Some(commit) = recorded else {
            let commit = self.patient.commit_of(repository, &self.cancel).await?;
            say(&format!(
                "{name}: {repository} at {commit}, what `main` is now; recorded{licence}"
            ));
            return Ok((commit, CommitFrom::Main, None));
        };
        say(&format!("{name}: {repository} at {commit}, as recorded{licence}"));
        let main = self.main_of(entry).await?;
        if let Some(main) = main.as_ref().filter(|main| **main != commit) {
            warn(&format!(
                "`main` of {repository} is {main} now, and is not taken; `lorahub manifest --refresh {name} --out FILE` \
                 and `lorahub download {name} --manifest FILE` take it"
            ));
        }
        Ok((commit, CommitFrom::Recorded, main))
    }

    /// What `main` is now; `None` if the hub cannot be asked, which is tried once.
    async fn main_of(&self, entry: &Entry) -> Result<Option<Commit>, CliError> {
        if !self.asks.get() {
            return Ok(None);
        }
        match self.hasty.latest(entry.repository(), &self.cancel).await {
            Ok(main) => Ok(Some(main)),
            Err(HubError::Cancelled) => Err(HubError::Cancelled.into()),
            Err(error) => {
                self.asks.set(false);
                say(&format!("whether `main` has moved cannot be learnt ({error})"));
                Ok(None)
            }
        }
    }

    /// The files to be had, with what the hub tells of them, which is said; nothing is asked if all of them are `here`.
    async fn wanted(&self, entry: &Entry, commit: &Commit, here: bool) -> Result<Vec<Wanted>, CliError> {
        if here {
            let sources = entry.sources(commit).map_err(HubError::from)?;
            return Ok(sources
                .into_iter()
                .map(|(source, file)| Wanted::new(source, file))
                .collect());
        }
        let Completed { wanted, listing } = self.patient.completed(entry, commit, &self.cancel).await?;
        let name = entry.name();
        match listing {
            Listing::Absent(error) => say(&format!(
                "{name}: no list of its files ({error}); hashes not known are taken from what comes"
            )),
            Listing::Contradicts(paths) => warn(&format!(
                "{name}: the hub says another size or hash of {} than the manifest, which is believed",
                paths.join(", ")
            )),
            Listing::Known | Listing::Told => {}
        }
        Ok(wanted)
    }

    /// Shows how far a file is.
    fn show(&self, label: &str, progress: Progress, fetched: &Cell<u64>) {
        let mut reporter = self.reporter.borrow_mut();
        match progress {
            Progress::Checking { done, total } => {
                reporter.show(&format!(
                    "{label}: reading again {} of {}",
                    bytes_text(done),
                    bytes_text(total)
                ));
            }
            Progress::Fetching {
                done,
                total,
                per_second,
                seconds_left,
            } => {
                let total = total
                    .map(|total| format!(" of {}", bytes_text(total)))
                    .unwrap_or_default();
                let rate = per_second
                    .map(|rate| format!(", {}/s", bytes_text(rate as u64)))
                    .unwrap_or_default();
                let left = seconds_left
                    .map(|left| format!(", {:.0} s left", left.ceil()))
                    .unwrap_or_default();
                reporter.show(&format!("{label}: {}{total}{rate}{left}", bytes_text(done)));
            }
            Progress::Waiting {
                reason,
                attempt,
                seconds,
            } => {
                reporter.finish();
                let why = why(reason);
                say(&format!("{label}: {why}; try {} in {seconds:.1} s", attempt + 1));
            }
            Progress::Whole => {
                reporter.finish();
                say(&format!("{label}: no ranges are given, so it is fetched in one"));
            }
            Progress::Verifying { done, total } => {
                reporter.show(&format!(
                    "{label}: verifying {} of {}",
                    bytes_text(done),
                    bytes_text(total)
                ));
            }
            Progress::Done { fetched: bytes, .. } => {
                fetched.set(bytes);
            }
            _ => {}
        }
    }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Network => "no answer, or one that broke off",
        Reason::Stalled => "nothing comes",
        Reason::Busy => "the server asks to wait",
        Reason::Server => "the server failed",
        Reason::Expired => "the redirect is no longer good",
        Reason::Reply => "other bytes came than asked for",
        Reason::Hash => "bytes came with another hash",
        _ => "it failed",
    }
}
