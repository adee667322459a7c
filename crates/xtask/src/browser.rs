//! Finding a Chromium (and, on request, a Firefox), and getting one where there is none.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::process::Cmd;
use crate::project::browser_tests;
use crate::setup::on_path;

/// The variable that names the Chromium to use, before any other.
pub(crate) const CHROMIUM: &str = "LORAHUB_CHROMIUM";
/// The variable that names the Firefox to use.
pub(crate) const FIREFOX: &str = "LORAHUB_FIREFOX";

const CHROMIUM_NAMES: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome.exe",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const FIREFOX_NAMES: &[&str] = &[
    "firefox",
    "firefox-esr",
    "firefox.exe",
    "/Applications/Firefox.app/Contents/MacOS/firefox",
];

/// A Chromium that starts: the one [`CHROMIUM`] names, playwright's own, one on PATH, one that playwright downloads,
/// or Debian's. Needs the npm packages of `tests/browser`.
///
/// # Errors
/// [`Error::Missing`] says what to install.
pub(crate) fn chromium() -> Result<PathBuf, Error> {
    if let Some(named) = named(CHROMIUM)? {
        return Ok(named);
    }
    let playwrights = playwrights_own()?;
    if starts(&playwrights) {
        return Ok(playwrights);
    }
    if let Some(found) = on_path(CHROMIUM_NAMES).filter(|p| starts(p)) {
        return Ok(found);
    }
    println!("  no Chromium on this machine; getting one");
    let downloaded = Cmd::new("node")
        .args(["node_modules/playwright-core/cli.js", "install", "chromium"])
        .dir(&browser_tests())
        .run();
    if downloaded.is_ok() && starts(&playwrights) {
        return Ok(playwrights);
    }
    if apt_install("chromium")
        && let Some(found) = on_path(CHROMIUM_NAMES).filter(|p| starts(p))
    {
        return Ok(found);
    }
    Err(Error::Missing {
        what: "no Chromium was found or could be installed".into(),
        remedy: format!("install chromium or Google Chrome, or set {CHROMIUM} to its path"),
    })
}

/// A Firefox: the one [`FIREFOX`] names, one on PATH, or Debian's.
///
/// # Errors
/// [`Error::Missing`] says what to install.
pub(crate) fn firefox() -> Result<PathBuf, Error> {
    if let Some(named) = named(FIREFOX)? {
        return Ok(named);
    }
    let found = || on_path(FIREFOX_NAMES).filter(|p| starts(p));
    if let Some(found) = found() {
        return Ok(found);
    }
    apt_install("firefox-esr");
    found().ok_or_else(|| Error::Missing {
        what: "no Firefox was found or could be installed".into(),
        remedy: format!("install firefox or firefox-esr, or set {FIREFOX} to its path"),
    })
}

fn named(variable: &str) -> Result<Option<PathBuf>, Error> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
        return Ok(None);
    };
    if starts(&path) {
        return Ok(Some(path));
    }
    Err(Error::Missing {
        what: format!("{variable} names `{}`, which does not start", path.display()),
        remedy: format!("correct {variable}, or unset it to search for a browser"),
    })
}

fn playwrights_own() -> Result<PathBuf, Error> {
    let script = "import('playwright-core').then(({ chromium }) => console.log(chromium.executablePath()))";
    Cmd::new("node")
        .args(["--input-type=module", "--eval", script])
        .dir(&browser_tests())
        .read()
        .map(PathBuf::from)
}

/// A browser whose libraries are missing is found, but can't say its version.
fn starts(path: &Path) -> bool {
    path.is_file() && Cmd::new(path).arg("--version").read().is_ok()
}

/// Debian as root only: elsewhere a test run has no business installing system packages.
pub(crate) fn apt_install(package: &str) -> bool {
    let root = Cmd::new("id").arg("-u").read().is_ok_and(|id| id == "0");
    if !root || on_path(&["apt-get"]).is_none() {
        return false;
    }
    let apt = |args: &[&str]| {
        Cmd::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
    };
    apt(&["update", "-q"]).is_ok() && apt(&["install", "-y", "-q", "--no-install-recommends", package]).is_ok()
}
