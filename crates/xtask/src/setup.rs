//! Making a fresh machine ready: the toolchain's parts and the npm packages. Quick when nothing is missing.

use std::path::{Path, PathBuf};

use crate::error::{Error, read};
use crate::process::Cmd;
use crate::stamp::{Stamp, hash};

/// The oldest Node.js that the page's tools run on.
const NODE: (u32, u32) = (20, 19);

/// The wasm target; asks rustup for it if the toolchain lacks it.
pub(crate) fn wasm_target() -> Result<(), Error> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let folder = Cmd::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .read()?;
    if Path::new(&folder).is_dir() {
        return Ok(());
    }
    rustup(
        &["target", "add", TARGET],
        &format!("the standard library for {TARGET}"),
    )
}

/// rustfmt and clippy.
pub(crate) fn components() -> Result<(), Error> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(command, _)| Cmd::cargo().args([command, "--version"]).read().is_err())
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    rustup(
        &[&["component", "add"], missing.as_slice()].concat(),
        &missing.join(" and "),
    )
}

fn rustup(args: &[&str], what: &str) -> Result<(), Error> {
    Cmd::new("rustup").args(args).run().map_err(|e| match e {
        Error::Missing { .. } => Error::Missing {
            what: format!("this Rust toolchain lacks {what}, and there is no rustup to add it"),
            remedy: format!("install rustup from rustup.rs, or {what} with the package manager that brought rustc"),
        },
        other => other,
    })
}

/// Node.js, new enough.
pub(crate) fn node() -> Result<(), Error> {
    let remedy = format!("install Node.js {}.{} or newer, with npm", NODE.0, NODE.1);
    let version = Cmd::new("node").arg("--version").read().map_err(|_| Error::Missing {
        what: "there is no Node.js on PATH".into(),
        remedy: remedy.clone(),
    })?;
    let mut parts = version.trim_start_matches('v').split('.').map_while(|p| p.parse().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if (major, minor) >= NODE => Ok(()),
        _ => Err(Error::Missing {
            what: format!("Node.js {version} is too old"),
            remedy,
        }),
    }
}

/// `npm ci` in `folder`, if its lock file is not the one installed from.
pub(crate) fn npm_ci(folder: &Path) -> Result<(), Error> {
    let lock = hash(&read(&folder.join("package-lock.json"))?);
    // Inside node_modules, which `npm ci` empties: the stamp can't outlive what it speaks of.
    let stamp = Stamp::at(&folder.join("node_modules/.installed-from"));
    if stamp.is(&lock) {
        return Ok(());
    }
    node()?;
    Cmd::npm().args(["ci", "--no-audit", "--no-fund"]).dir(folder).run()?;
    stamp.set(&lock)
}

/// The first of `names` found on PATH.
pub(crate) fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}
