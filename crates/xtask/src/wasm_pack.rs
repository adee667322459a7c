//! wasm-pack's own build of the same package, to check that ours is no different.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, read};
use crate::process::Cmd;
use crate::project::{PackageSettings, Target, root, target_dir};
use crate::setup::on_path;

/// The version whose options [`arguments`] uses.
const VERSION: &str = "0.15.1";

/// The wasm-pack command that builds the same package, as one would type it in the root.
pub(crate) fn command_line(package: &PackageSettings, profile: &str, out: &Path) -> String {
    format!("wasm-pack {}", arguments(package, profile, out).join(" "))
}

/// `out` is relative to the root; wasm-pack reads `--out-dir` from the crate's folder.
fn arguments(package: &PackageSettings, profile: &str, out: &Path) -> Vec<String> {
    let up: PathBuf = package.krate.components().map(|_| "..").collect();
    let target = match package.target {
        Target::Web => "web",
    };
    let mut args: Vec<String> = [
        "build",
        &package.krate.to_string_lossy(),
        "--target",
        target,
        "--out-dir",
    ]
    .map(String::from)
    .into();
    args.push(up.join(out).to_string_lossy().into_owned());
    args.extend(["--out-name", &package.out_name, "--no-opt", "--profile", profile].map(String::from));
    if !package.features.is_empty() {
        args.extend(["--".into(), "--features".into(), package.features.join(",")]);
    }
    args
}

/// Builds with wasm-pack into `target/wasm-pack/` (installing it there if need be) and compares what both packages
/// import and export.
///
/// # Errors
/// [`Error::Check`] names what only one of them has.
pub(crate) fn compare(package: &PackageSettings, profile: &str) -> Result<(), Error> {
    let target = target_dir()?;
    let program = on_path(&["wasm-pack"]).map_or_else(|| install(&target), Ok)?;
    let out = target.join("wasm-pack").join(&package.out_name);
    Cmd::new(program)
        .args(arguments(package, profile, &out))
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let wasm = format!("{}_bg.wasm", package.out_name);
    let glue = format!("{}.js", package.out_name);
    let ours = root().join(&package.out_dir);
    let same_wasm = same(
        "imports and exports of the wasm",
        &wasm_names(&ours.join(&wasm))?,
        &wasm_names(&out.join(&wasm))?,
    );
    let same_glue = same(
        "exports of the JavaScript",
        &glue_names(&ours.join(&glue))?,
        &glue_names(&out.join(&glue))?,
    );
    same_wasm.and(same_glue)
}

fn install(target: &Path) -> Result<PathBuf, Error> {
    let folder = target.join("wasm-pack");
    println!(
        "  no wasm-pack on PATH; building {VERSION} into {} (some minutes)",
        folder.display()
    );
    Cmd::cargo()
        .args(["install", "wasm-pack", "--locked", "--version", VERSION, "--root"])
        .arg(&folder)
        .run()?;
    Ok(folder
        .join("bin")
        .join(if cfg!(windows) { "wasm-pack.exe" } else { "wasm-pack" }))
}

fn same(what: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Result<(), Error> {
    if ours.is_empty() {
        return Err(Error::Check(format!("{what}: our package has none; build it first")));
    }
    if ours == theirs {
        println!("  {what}: the same {} names in both packages", ours.len());
        return Ok(());
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
    Err(Error::Check(format!(
        "{what} differ: only ours [{}], only wasm-pack's [{}]; bring `bind` and wasm-pack's options together",
        only(ours, theirs),
        only(theirs, ours)
    )))
}

/// Names of a wasm file's imports (`import module.name`) and exports (`export name`), each with its kind.
///
/// wasm-bindgen numbers closures and appends hashes; both come from the same compiled input, so the names are stable
/// between the two tools.
fn wasm_names(path: &Path) -> Result<BTreeSet<String>, Error> {
    let bytes = read(path)?;
    names_of(&bytes).ok_or_else(|| Error::Content {
        path: path.to_owned(),
        found: "sections that cannot be read".into(),
        expected: "a WebAssembly module, version 1".into(),
    })
}

fn names_of(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let mut reader = Reader(bytes.strip_prefix(b"\0asm\x01\0\0\0")?);
    let mut names = BTreeSet::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let length = reader.number()?;
        let mut section = Reader(reader.take(length)?);
        match id {
            2 => {
                for _ in 0..section.number()? {
                    let (module, name) = (section.text()?, section.text()?);
                    section.import_kind()?;
                    names.insert(format!("import {module}.{name}"));
                }
            }
            7 => {
                for _ in 0..section.number()? {
                    let name = section.text()?;
                    let kind = section.byte()?;
                    section.number()?;
                    names.insert(format!("export {name} (kind {kind})"));
                }
            }
            _ => {}
        }
    }
    Some(names)
}

/// A cursor over wasm's binary format; `None` where it ends too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// An unsigned LEB128 of at most 32 bits.
    fn number(&mut self) -> Option<usize> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok();
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    /// Steps over what an import says of itself: function, table, memory, global or tag.
    fn import_kind(&mut self) -> Option<()> {
        match self.byte()? {
            0 => {
                self.number()?;
            }
            1 => {
                self.byte()?;
                self.limits()?;
            }
            2 => self.limits()?,
            3 => {
                self.take(2)?;
            }
            4 => {
                self.byte()?;
                self.number()?;
            }
            _ => return None,
        }
        Some(())
    }

    fn limits(&mut self) -> Option<()> {
        let flags = self.byte()?;
        self.number()?;
        if flags & 1 == 1 {
            self.number()?;
        }
        Some(())
    }
}

/// What the glue script exports: `export function f`, `export class C`, `export { a, b as c }`.
fn glue_names(path: &Path) -> Result<BTreeSet<String>, Error> {
    Ok(exported(&crate::error::read_text(path)?))
}

fn exported(script: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in script.lines() {
        let Some(rest) = line.trim().strip_prefix("export ") else {
            continue;
        };
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or(list);
            names.extend(
                list.split(',')
                    .filter_map(|item| item.split_whitespace().last())
                    .map(String::from),
            );
        } else {
            let mut words = rest
                .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                .filter(|w| !w.is_empty());
            let keyword = words.by_ref().find(|w| !matches!(*w, "async"));
            let name = if keyword == Some("default") {
                Some("default")
            } else {
                words.next()
            };
            names.extend(name.map(String::from));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_of_a_script() {
        let script = "export class Engine {\n}\nexport function f(a) {\nexport async function g() {\nexport { initSync, __wbg_init as default };\n  let export_x = 1;";
        let expected: BTreeSet<String> = ["Engine", "f", "g", "initSync", "default"].map(String::from).into();
        assert_eq!(exported(script), expected);
    }

    #[test]
    fn imports_and_exports_of_a_module() {
        // (module (import "a" "f" (func (type 0))) (import "a" "m" (memory 1)) (export "g" (func 0)))
        let module =
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0e\x02\x01a\x01f\0\0\x01a\x01m\x02\0\x01\x07\x05\x01\x01g\0\0";
        let expected: BTreeSet<String> = ["import a.f", "import a.m", "export g (kind 0)"]
            .map(String::from)
            .into();
        assert_eq!(names_of(module), Some(expected));
    }

    #[test]
    fn a_module_cut_short_is_refused() {
        assert_eq!(names_of(b"\0asm\x01\0\0\0\x07\x09\x01"), None);
        assert_eq!(names_of(b"\0asm"), None);
    }
}
