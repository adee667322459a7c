//! Where things lie, and `wasm-pack.toml`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;

use crate::error::{Error, read_text};
use crate::process::Cmd;

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Set by `cargo run`; the compiled-in value serves a binary started by hand.
        let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        crate_dir
            .ancestors()
            .nth(2)
            .map_or(crate_dir.clone(), Path::to_path_buf)
    })
}

/// The page's sources.
pub(crate) fn www() -> PathBuf {
    root().join("www")
}

/// The finished page.
pub(crate) fn dist() -> PathBuf {
    www().join("dist")
}

/// The browser tests.
pub(crate) fn browser_tests() -> PathBuf {
    root().join("tests/browser")
}

/// cargo's target folder, wherever the environment or a config puts it.
pub(crate) fn target_dir() -> Result<PathBuf, Error> {
    Ok(metadata()?.target_directory)
}

/// The version all our crates share.
pub(crate) fn version() -> Result<String, Error> {
    let package = metadata()?.packages.into_iter().find(|p| p.name == "lorahub-web");
    package.map(|p| p.version).ok_or_else(|| {
        Error::Check("the workspace has no package `lorahub-web`; the browser package is made from it".into())
    })
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

fn metadata() -> Result<Metadata, Error> {
    let text = Cmd::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .read()?;
    serde_json::from_str(&text).map_err(|e| {
        Error::Check(format!(
            "`cargo metadata` printed what we cannot read: {e}; is this cargo 1.95?"
        ))
    })
}

/// `wasm-pack.toml`: how the browser package is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct WasmPack {
    pub(crate) package: PackageSettings,
    pub(crate) budgets: Budgets,
}

/// What is built, and to where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PackageSettings {
    /// The crate's folder, from the root.
    #[serde(rename = "crate")]
    pub(crate) krate: PathBuf,
    /// The npm package's name.
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) out_dir: PathBuf,
    /// Stem of the generated files.
    pub(crate) out_name: String,
    pub(crate) target: Target,
    /// The cargo profile of `cargo xtask build`; `serve` and `test` use `wasm`.
    pub(crate) profile: String,
    pub(crate) features: Vec<String>,
}

/// wasm-bindgen's output kind. The page and the package need `web`, so it is the only one.
#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    Web,
}

/// Upper bounds in bytes; crossing one fails the build.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Budgets {
    pub(crate) wasm_brotli: u64,
    pub(crate) page_gzip: u64,
    pub(crate) demo_family: u64,
}

impl WasmPack {
    /// Reads `wasm-pack.toml`.
    ///
    /// # Errors
    /// [`Error::Content`] names the line that does not fit.
    pub(crate) fn load() -> Result<Self, Error> {
        let path = root().join("wasm-pack.toml");
        toml::from_str(&read_text(&path)?).map_err(|e| Error::Content {
            found: e.to_string().trim().replace('\n', " "),
            expected: "the tables [package] and [budgets] as the file's comments describe them".into(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::WasmPack;

    #[test]
    fn our_own_file_fits() {
        let settings = WasmPack::load().expect("wasm-pack.toml");
        assert_eq!(settings.package.out_name, "lorahub_web");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let text = "[package]\ntargett = \"web\"\n";
        let error = toml::from_str::<WasmPack>(text).expect_err("must not pass").to_string();
        assert!(error.contains("targett"), "{error}");
    }
}
