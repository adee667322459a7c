//! `cargo xtask build`: crates/web to the npm package in pkg/, and the page from it.

use std::path::{Path, PathBuf};

use serde_json::json;
use wasm_bindgen_cli_support::Bindgen;

use crate::error::{Error, read, write};
use crate::process::Cmd;
use crate::project::{self, PackageSettings, Target, WasmPack, root, target_dir, www};
use crate::stamp::{Stamp, hash, tree_hash};
use crate::{setup, sizes, wasm_pack};

/// The profile of `serve` and `test`: thin LTO.
pub(crate) const FAST_PROFILE: &str = "wasm";

/// `cargo xtask build`.
pub(crate) fn run(profile: Option<&str>, with_wasm_pack: bool) -> Result<(), Error> {
    let settings = WasmPack::load()?;
    let package = &settings.package;
    let profile = profile.unwrap_or(&package.profile);
    setup::wasm_target()?;
    let wasm = bindings(package, profile)?;
    println!(
        "  the same with wasm-pack: {}",
        wasm_pack::command_line(package, profile, &package.out_dir)
    );
    let size = sizes::brotli(&wasm)?;
    println!(
        "  {}: {} raw",
        wasm.strip_prefix(root()).unwrap_or(&wasm).display(),
        sizes::kilobytes(size.raw)
    );
    if with_wasm_pack {
        wasm_pack::compare(package, profile)?;
    }
    sizes::gate("wasm, brotli", size.compressed, settings.budgets.wasm_brotli)
}

/// Builds `crates/web` and writes the package; returns the wasm file. Bindings are made again only when cargo's
/// output or the settings changed, or when pkg/ is not what we wrote.
pub(crate) fn bindings(package: &PackageSettings, profile: &str) -> Result<PathBuf, Error> {
    let mut cargo = Cmd::cargo()
        .args(["build", "--target", "wasm32-unknown-unknown", "--lib"])
        .arg("--manifest-path")
        .arg(root().join(&package.krate).join("Cargo.toml"))
        .args(["--profile", profile])
        // Either variable would replace the flags of .cargo/config.toml, and with them SIMD.
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS");
    if !package.features.is_empty() {
        cargo = cargo.args(["--features", &package.features.join(",")]);
    }
    cargo.run()?;

    let input = target_dir()?
        .join("wasm32-unknown-unknown")
        .join(profile)
        .join(format!("{}.wasm", package.out_name));
    let out = root().join(&package.out_dir);
    let output = out.join(format!("{}_bg.wasm", package.out_name));
    let manifest = manifest(package)?;
    // The last part stands for our own options to wasm-bindgen.
    let parts = [
        read(&input)?,
        manifest.clone().into_bytes(),
        include_bytes!("build.rs").to_vec(),
    ];
    let key = parts.map(|part| hash(&part)).join(" ");
    let stamp = Stamp::new("pkg")?;
    let outputs = outputs(package);
    if stamp.is(&format!("{key} {}", tree_hash(&outputs)?)) {
        println!("  bindings unchanged");
        return Ok(output);
    }
    println!(
        "  bindings of {} into {}",
        input.strip_prefix(root()).unwrap_or(&input).display(),
        package.out_dir.display()
    );
    bind(&input, package.target, &out)?;
    write(&out.join("package.json"), manifest)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        write(&out.join(licence), read(&root().join(licence))?)?;
    }
    stamp.set(&format!("{key} {}", tree_hash(&outputs)?))?;
    Ok(output)
}

/// Runs wasm-bindgen over `input`, as a library of the version the crate itself uses.
pub(crate) fn bind(input: &Path, target: Target, out: &Path) -> Result<(), Error> {
    let mut bindgen = Bindgen::new();
    let chosen = match target {
        Target::Web => bindgen.web(true),
    };
    chosen
        .and_then(|b| {
            b.typescript(true)
                // As wasm-pack has it: without an argument the glue finds its wasm beside itself.
                .omit_default_module_path(false)
                .input_path(input)
                .generate(out)
        })
        .map_err(|e| {
            Error::Check(format!(
                "wasm-bindgen refused `{}`: {e:#}; is wasm-bindgen-cli-support of the same version as wasm-bindgen?",
                input.display()
            ))
        })
}

/// The files that we answer for in the package, README.md (which is in git) apart.
fn outputs(package: &PackageSettings) -> Vec<PathBuf> {
    let stem = &package.out_name;
    let generated = [
        format!("{stem}.js"),
        format!("{stem}.d.ts"),
        format!("{stem}_bg.wasm"),
        format!("{stem}_bg.wasm.d.ts"),
    ];
    let fixed = ["package.json", "LICENSE-MIT", "LICENSE-APACHE"].map(String::from);
    generated
        .into_iter()
        .chain(fixed)
        .map(|name| root().join(&package.out_dir).join(name))
        .collect()
}

/// package.json.
fn manifest(package: &PackageSettings) -> Result<String, Error> {
    let stem = &package.out_name;
    let value = json!({
        "name": package.name,
        "version": project::version()?,
        "description": package.description,
        "license": "MIT OR Apache-2.0",
        "type": "module",
        "sideEffects": false,
        "main": format!("./{stem}.js"),
        "types": format!("./{stem}.d.ts"),
        "exports": {
            ".": { "types": format!("./{stem}.d.ts"), "default": format!("./{stem}.js") },
            format!("./{stem}_bg.wasm"): format!("./{stem}_bg.wasm"),
            "./package.json": "./package.json",
        },
        "files": [format!("{stem}*"), "LICENSE-*"],
        "keywords": ["lora", "lorahub", "flan-t5", "wasm", "few-shot", "cma-es"],
    });
    serde_json::to_string_pretty(&value)
        .map(|text| text + "\n")
        .map_err(|e| Error::Check(format!("package.json could not be written: {e}")))
}

/// Builds the page into www/dist, with the thin-LTO package, if anything it is made from changed. Returns the wasm
/// file of the package.
pub(crate) fn page() -> Result<PathBuf, Error> {
    let settings = WasmPack::load()?;
    setup::wasm_target()?;
    let wasm = bindings(&settings.package, FAST_PROFILE)?;
    setup::npm_ci(&www())?;
    let inputs = [
        "src",
        "build",
        "public",
        "models",
        "index.html",
        "offline.html",
        "vite.config.ts",
        "tsconfig.json",
        "package.json",
        "package-lock.json",
    ];
    let mut paths: Vec<PathBuf> = inputs.iter().map(|name| www().join(name)).collect();
    paths.extend(outputs(&settings.package));
    let dist = project::dist();
    let made = || -> Result<Vec<PathBuf>, Error> {
        let Ok(entries) = std::fs::read_dir(&dist) else {
            return Ok(Vec::new());
        };
        entries
            .map(|e| e.map(|e| e.path()).map_err(Error::file("list", &dist)))
            .collect()
    };
    let key = tree_hash(&paths)?;
    let stamp = Stamp::new("page")?;
    if stamp.is(&format!("{key} {}", tree_hash(&made()?)?)) {
        println!("  page unchanged");
        return Ok(wasm);
    }
    Cmd::npm()
        .args(["run", "--silent", "build"])
        .dir(&www())
        .without_env("LORAHUB_ENGINE")
        .run()?;
    stamp.set(&format!("{key} {}", tree_hash(&made()?)?))?;
    Ok(wasm)
}
