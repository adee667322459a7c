//! Builds `lorahub-kernel-module` for the instructions that only some browsers have. Each build is a few kilobytes and
//! goes into the program as bytes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The module's code is placed wherever its host has room, by the conventions of WebAssembly's dynamic linking: it
/// imports its memory, and where its data and its stack are.
///
/// LLVM's strength reduction of loops counts addresses up to zero, which no load's own offset can then be added to: every
/// load gets an addition more, and the integer kernel, which is bound by its number of instructions, loses a tenth.
const FLAGS: &[&str] = &[
    "-Cllvm-args=-disable-lsr",
    "-Crelocation-model=pic",
    "-Clink-arg=--experimental-pic",
    "-Clink-arg=-shared",
    "-Clink-arg=--import-memory",
    "-Cstrip=symbols",
];

/// Memory that several workers share must say how far it grows: to the end of what 32 bits address.
const SHARED: &[&str] = &["-Clink-arg=--shared-memory", "-Clink-arg=--max-memory=4294967296"];

const BUILDS: [(&str, &str, bool); 3] = [
    ("relaxed", "-Ctarget-feature=+simd128,+relaxed-simd", false),
    (
        "relaxed_shared",
        "-Ctarget-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory",
        true,
    ),
    (
        "simd128_shared",
        "-Ctarget-feature=+simd128,+atomics,+bulk-memory",
        true,
    ),
];

fn main() {
    let set = |name: &str| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")));
    let crates = set("CARGO_MANIFEST_DIR").join("..");
    for watched in ["kernels/src", "kernels/Cargo.toml", "kernel-module"] {
        println!("cargo::rerun-if-changed={}", crates.join(watched).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("wasm32") {
        return;
    }
    let out = set("OUT_DIR");
    for (name, feature, shared) in BUILDS {
        let mut flags = vec![feature];
        flags.extend(FLAGS);
        if shared {
            flags.extend(SHARED);
        }
        let target = out.join("module");
        build(&crates.join("kernel-module"), &target, &flags);
        let made = target.join("wasm32-unknown-unknown/dist/lorahub_kernel_module.wasm");
        let kept = out.join(name).with_extension("wasm");
        if let Err(error) = std::fs::copy(&made, &kept) {
            panic!("{} cannot be copied to {}: {error}", made.display(), kept.display());
        }
    }
}

/// Runs cargo on the module alone, in a target folder of its own, because the outer cargo holds its own folder's lock.
fn build(module: &Path, target: &Path, flags: &[&str]) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--locked",
            "--profile",
            "dist",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(module)
        // What the outer build is wrapped in, clippy for one, is not for this one.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cargo cannot be run: {error}"));
    assert!(
        output.status.success(),
        "the kernel module was not built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
