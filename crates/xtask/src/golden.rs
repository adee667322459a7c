//! `cargo xtask golden`: runs the Python scripts of `tests/golden/scripts` in a virtual environment of their own.
//!
//! The data they write are committed; nothing else here needs Python.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::error::{Error, read};
use crate::process::Cmd;
use crate::project::{root, target_dir};
use crate::setup::on_path;
use crate::stamp::{Stamp, hash};

/// Every package with its exact version, those of the second file apart from what they ask for. Nothing is resolved:
/// the first file names all that is needed.
const REQUIREMENTS: [&str; 2] = ["requirements.txt", "requirements-no-deps.txt"];

/// The data were made with the first of these; the pins have wheels for later ones too.
const PYTHONS: &[&str] = &["python3.11", "python3", "python", "python.exe"];

/// `cargo xtask golden`.
pub(crate) fn run(verify: bool) -> Result<(), Error> {
    let scripts = root().join("tests/golden/scripts");
    println!("[1/2] Python environment");
    let python = python()?;
    let names: &[&str] = if verify {
        &["verify.py"]
    } else {
        &["make_golden.py", "make_adapters.py", "cma_traces.py"]
    };
    println!("[2/2] {}", names.join(", "));
    if verify {
        // verify.py loads what our own binary exports.
        Cmd::cargo().args(["build", "--package", "lorahub-cli"]).run()?;
    }
    for name in names {
        Cmd::new(&python).arg(scripts.join(name)).run()?;
    }
    Ok(())
}

/// The Python of the golden scripts' environment.
///
/// # Errors
/// [`Error::Missing`] without Python, [`Error::Child`] if a package cannot be installed.
pub(crate) fn python() -> Result<PathBuf, Error> {
    environment("golden-venv", &[])
}

/// The Python of an environment in the target folder's `name`, made or renewed when the requirements changed: those of the
/// golden scripts, and these files'.
///
/// # Errors
/// As [`python`].
pub(crate) fn environment(name: &str, more: &[PathBuf]) -> Result<PathBuf, Error> {
    let folder = target_dir()?.join(name);
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let scripts = root().join("tests/golden/scripts");
    let requirements = [&REQUIREMENTS.map(|name| scripts.join(name)), more].concat();
    let mut pinned = Vec::new();
    for file in &requirements {
        pinned.extend(read(file)?);
    }
    let key = hash(&pinned);
    let stamp = Stamp::at(&folder.join("installed-from"));
    if python.is_file() && stamp.is(&key) {
        println!("  unchanged");
        return Ok(python);
    }
    let system = on_path(PYTHONS).ok_or_else(|| Error::Missing {
        what: "there is no Python on PATH".into(),
        remedy: "install Python 3.11 or newer; only `golden`, `check-real` and `bench peers` need it".into(),
    })?;
    Cmd::new(system)
        .args(["-m", "venv", "--clear"])
        .arg(&folder)
        .run()
        .map_err(|e| match e {
            Error::Child { .. } => Error::Missing {
                what: "this Python cannot make a virtual environment".into(),
                remedy: "install its venv module (Debian and Ubuntu: apt-get install python3-venv)".into(),
            },
            other => other,
        })?;
    Cmd::new(&python)
        .args(["-m", "pip", "install", "--no-deps"])
        .args(
            requirements
                .iter()
                .flat_map(|file| [OsStr::new("-r"), file.as_os_str()]),
        )
        .run()?;
    stamp.set(&key)?;
    Ok(python)
}
