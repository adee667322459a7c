//! `cargo xtask bench`: `crates/bench` natively and in a browser's worker, as a table and as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{Error, write};
use crate::process::Cmd;
use crate::project::{Target, browser_tests, root, target_dir};
use crate::{browser, build, setup};

/// The profile of the wasm that is measured: the shipped one.
const PROFILE: &str = "dist";

/// Where to run.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    /// On this machine, all threads.
    Native,
    /// In a worker of a headless Chromium, one thread.
    Browser,
}

/// `cargo xtask bench`. Empty `shapes` are the demo base's and flan-t5-small's; empty `places` are both.
///
/// # Errors
/// A failed build or run, or a report that is not one.
pub(crate) fn run(shapes: &[String], places: &[Place], repetitions: u32) -> Result<(), Error> {
    let defaults = ["demo".to_owned(), "flan-t5-small".to_owned()];
    let shapes = if shapes.is_empty() { &defaults[..] } else { shapes };
    let places = if places.is_empty() {
        &[Place::Native, Place::Browser][..]
    } else {
        places
    };
    let mut reports = Vec::new();
    for place in places {
        let lines = match place {
            Place::Native => native(shapes, repetitions)?,
            Place::Browser => in_browser(shapes, repetitions)?,
        };
        for line in lines.lines() {
            let report: Value = serde_json::from_str(line).map_err(|error| {
                Error::Check(format!("the benchmark printed `{line}`, which is no report: {error}"))
            })?;
            reports.push(report);
        }
    }
    print(&reports);
    let results = json!({ "machine": machine(), "repetitions": repetitions, "reports": reports });
    let path = root().join("benches/results/evaluation.json");
    let text = serde_json::to_string_pretty(&results)
        .map_err(|error| Error::Check(format!("the reports cannot be written as JSON: {error}")))?;
    write(&path, text + "\n")?;
    println!("\n  written to benches/results/evaluation.json");
    Ok(())
}

fn native(shapes: &[String], repetitions: u32) -> Result<String, Error> {
    Cmd::cargo()
        .args(["build", "--release", "--package", "lorahub-bench"])
        .run()?;
    let program = target_dir()?
        .join("release")
        .join(format!("lorahub-bench{}", std::env::consts::EXE_SUFFIX));
    println!("  native: {}", shapes.join(", "));
    Cmd::new(program)
        .args(["--repetitions", &repetitions.to_string()])
        .args(shapes)
        .read()
}

fn in_browser(shapes: &[String], repetitions: u32) -> Result<String, Error> {
    setup::wasm_target()?;
    setup::npm_ci(&browser_tests())?;
    let chromium = browser::chromium()?;
    Cmd::cargo()
        .args([
            "build",
            "--package",
            "lorahub-bench",
            "--lib",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(["--profile", PROFILE])
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let wasm = target_dir()?
        .join("wasm32-unknown-unknown")
        .join(PROFILE)
        .join("lorahub_bench.wasm");
    let out: PathBuf = target_dir()?.join("bench-web");
    build::bind(&wasm, Target::Web, &out)?;
    println!("  in Chromium: {}", shapes.join(", "));
    Cmd::new("node")
        .arg("bench.mjs")
        .arg(&out)
        .arg(repetitions.to_string())
        .args(shapes)
        .dir(&browser_tests())
        .env(browser::CHROMIUM, chromium)
        .read()
}

fn print(reports: &[Value]) {
    println!(
        "\n  {:<14} {:<28} {:>10} {:>10} {:>16} {:>10} {:>8} {:>8}",
        "shape", "device", "single ms", "in 16 ms", "16 / 16 singles", "floor ms", "x floor", "GFLOP/s"
    );
    for report in reports {
        let number = |field: &str| report[field].as_f64().unwrap_or(f64::NAN);
        println!(
            "  {:<14} {:<28} {:>10.1} {:>10.1} {:>16.3} {:>10.1} {:>8.2} {:>8.1}",
            report["shape"].as_str().unwrap_or("?"),
            report["backend"].as_str().unwrap_or("?"),
            number("single_ms"),
            number("batched_ms"),
            number("generation_ratio"),
            number("floor_ms"),
            number("times_floor"),
            number("gflops"),
        );
    }
}

/// The processor's name, where the system says it in a file.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {cores} cores")
}
