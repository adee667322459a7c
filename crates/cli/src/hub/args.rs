//! The arguments of the commands about a hub and the store.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use lorahub_hub::{Hub, Options};

use super::StoreArgs;

/// Where to download from.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The hub, or a mirror laid out like one: https://..., or http:// on this machine.
    #[arg(long, value_name = "URL", default_value = Hub::PUBLIC, value_parser = parse_hub)]
    pub(crate) hub: Hub,
    /// Seconds that an answer may pause before it is asked for again.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) timeout: u32,
}

impl HubArgs {
    /// How to download, with these answers.
    pub(crate) fn options(&self) -> Options {
        Options {
            stall: self.stall(),
            ..Options::new(self.hub.clone(), seed())
        }
    }

    /// How long an answer may pause.
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// Another one in each process: many that failed together shall not come back together.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() ^ u64::from(now.subsec_nanos())) ^ u64::from(std::process::id())
}

/// `lorahub download`
#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// Bases by their id and modules by their name, as `lorahub manifest` lists them.
    #[arg(value_name = "NAME", required_unless_present = "set")]
    pub(crate) names: Vec<String>,
    /// All modules of a set of the manifest, such as seed-42.
    #[arg(long, value_name = "SET")]
    pub(crate) set: Option<String>,
    /// A manifest to use in place of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Requests at once.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) parallel: u8,
    /// Bytes of one request, where the manifest has no hashes of parts.
    #[arg(long, value_name = "BYTES", default_value = "8388608", value_parser = clap::value_parser!(u64).range(65_536..=67_108_864))]
    pub(crate) chunk_bytes: u64,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub manifest`
#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// Bases and modules to complete; all without one.
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Asks the hub for each one's present commit, sizes and hashes. What was not known is put in; what was known and is
    /// another now is shown, and put in with --accept only.
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Puts in what has changed.
    #[arg(long, requires = "refresh")]
    pub(crate) accept: bool,
    /// Puts in the hashes of the parts of every file that was downloaded, by which a broken part is found and fetched
    /// again alone.
    #[arg(long)]
    pub(crate) parts: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The manifest to start from in place of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// File to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `lorahub store`
#[derive(Debug, Args)]
pub(crate) struct KeptArgs {
    #[command(subcommand)]
    pub(crate) action: StoreAction,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreAction {
    /// Lists what is kept, and downloads that have not ended.
    List(StoreReadArgs),
    /// Reads every file again and compares its hash.
    Verify(StoreReadArgs),
    /// Deletes bases and modules by name, and files and unfinished downloads by hash.
    Delete(StoreDeleteArgs),
}

/// `lorahub store list` and `lorahub store verify`
#[derive(Debug, Args)]
pub(crate) struct StoreReadArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub store delete`
#[derive(Debug, Args)]
pub(crate) struct StoreDeleteArgs {
    /// Names, or hashes, as `lorahub store list` shows them.
    #[arg(value_name = "NAME-or-HASH", required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// Everything: files, unfinished downloads, and what is remembered of commits and hashes.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_hub(text: &str) -> Result<Hub, String> {
    let hub = Hub::new(text).map_err(|error| error.to_string())?;
    if hub.as_str().starts_with('/') {
        return Err("expected an address with https:// or http:// in front".to_owned());
    }
    Ok(hub)
}
