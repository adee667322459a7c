//! What the peers need, pinned, in the target folder: npm packages, a Python environment, exported models, our builds.

use std::path::{Path, PathBuf};

use crate::bench::{self, Place};
use crate::error::{Error, read, write};
use crate::process::Cmd;
use crate::project::{browser_tests, root, target_dir};
use crate::stamp::{Stamp, tree_hash};
use crate::{browser, golden, setup};

use super::plan::{Job, Program, Subject};

/// What the packages are installed from.
const NPM: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Where things are; empty where no subject needs them.
#[derive(Default)]
pub(super) struct Installed {
    pub(super) ours: PathBuf,
    pub(super) python: PathBuf,
    chromium: PathBuf,
    wasm: PathBuf,
    packages: PathBuf,
    models: PathBuf,
}

impl Installed {
    /// The program that has the browser.
    pub(super) fn browser(&self) -> Cmd {
        Cmd::new("node")
            .arg(sources().join("browser.mjs"))
            .args([&self.models, &self.packages, &self.wasm])
            .env(browser::CHROMIUM, &self.chromium)
    }
}

fn sources() -> PathBuf {
    root().join("benches/peers")
}

/// Installs, builds and exports what these subjects need for these jobs.
///
/// # Errors
/// A failed installation, build or export.
pub(super) fn all(place: Place, subjects: &[Subject], jobs: &[Job]) -> Result<Installed, Error> {
    let mut installed = Installed::default();
    let folder = target_dir()?.join("peers");
    let native = |program| subjects.iter().any(|subject| subject.program == program);
    if native(Program::Ours) {
        Cmd::cargo()
            .args(["build", "--release", "--package", "lorahub-bench", "--bin", "subject"])
            .run()?;
        installed.ours = target_dir()?
            .join("release")
            .join(format!("subject{}", std::env::consts::EXE_SUFFIX));
    }
    if native(Program::Python) {
        installed.python = python()?;
    }
    if place == Place::Browser {
        setup::npm_ci(&browser_tests())?;
        installed.chromium = browser::chromium()?;
        let exported = |subject: &Subject| subject.setup["module"] != "wasm";
        if !subjects.iter().all(exported) {
            installed.wasm = bench::wasm()?;
        }
        installed.packages = packages(&folder.join("node"))?;
        installed.models = folder.join("models");
        let mut shapes: Vec<&str> = jobs
            .iter()
            .filter(|job| {
                subjects
                    .iter()
                    .any(|subject| exported(subject) && subject.does(job.work))
            })
            .map(|job| job.shape)
            .collect();
        shapes.sort_unstable();
        shapes.dedup();
        for shape in shapes {
            models(&installed.models.join(shape), shape)?;
        }
    }
    Ok(installed)
}

fn python() -> Result<PathBuf, Error> {
    golden::environment("peers-venv", &[sources().join("requirements.txt")])
}

/// The npm packages, away from the sources: their postinstall scripts fetch programs that a browser has no use for, and
/// .npmrc keeps them from running.
fn packages(folder: &Path) -> Result<PathBuf, Error> {
    for name in NPM {
        write(&folder.join(name), read(&sources().join(name))?)?;
    }
    setup::npm_ci(folder)?;
    Ok(folder.join("node_modules"))
}

/// The ONNX models of a shape.
fn models(folder: &Path, shape: &str) -> Result<(), Error> {
    let made_by = ["export.py", "shapes.py", "requirements.txt"].map(|name| sources().join(name));
    let key = tree_hash(&made_by)?;
    let stamp = Stamp::at(&folder.join("exported-by"));
    if stamp.is(&key) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::file("remove", folder))?;
    }
    Cmd::new(python()?)
        .arg(sources().join("export.py"))
        .arg(shape)
        .arg(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()?;
    stamp.set(&key)
}
