//! `cargo xtask test`: all that CI checks, in numbered steps.
//!
//! A failing step does not stop the ones that don't need it; the summary at the end names them all.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::Cmd;
use crate::project::{WasmPack, browser_tests, root, target_dir, www};
use crate::{browser, build, gpu, setup, sizes, tidy};

/// One step. `needs` names steps of this list above it.
struct Step {
    name: &'static str,
    title: &'static str,
    needs: &'static [&'static str],
    run: fn() -> Result<(), Error>,
}

const STEPS: &[Step] = &[
    Step {
        name: "setup",
        title: "set-up: toolchain, npm packages, browser, GPU adapter",
        needs: &[],
        run: set_up,
    },
    Step {
        name: "format",
        title: "formatting",
        needs: &[],
        run: format,
    },
    Step {
        name: "clippy",
        title: "clippy, native",
        needs: &[],
        run: clippy,
    },
    Step {
        name: "clippy-wasm",
        title: "clippy, wasm32",
        needs: &[],
        run: clippy_wasm,
    },
    Step {
        name: "tidy",
        title: "house rules",
        needs: &[],
        run: tidy::run,
    },
    Step {
        name: "tests",
        title: "native tests",
        needs: &["setup"],
        run: tests,
    },
    Step {
        name: "doctests",
        title: "documentation's examples",
        needs: &[],
        run: doctests,
    },
    Step {
        name: "docs",
        title: "documentation's warnings",
        needs: &[],
        run: docs,
    },
    Step {
        name: "kernels",
        title: "the kernels' tests in wasm",
        needs: &["setup"],
        run: kernels,
    },
    Step {
        name: "page",
        title: "wasm and page",
        needs: &["setup"],
        run: page,
    },
    Step {
        name: "typescript",
        title: "the page's types and unit tests",
        needs: &["page"],
        run: typescript,
    },
    Step {
        name: "sizes",
        title: "sizes, and hosts the page names",
        needs: &["page"],
        run: size_gates,
    },
    Step {
        name: "browser",
        title: "browser tests",
        needs: &["page"],
        run: browser_step,
    },
];

/// Only with `--firefox`.
const FIREFOX: Step = Step {
    name: "firefox",
    title: "Firefox: the journey, and a download in a private window",
    needs: &["page"],
    run: firefox_step,
};

/// The crates that make no sense in a browser; every other one must pass clippy for wasm32.
const NATIVE_ONLY: &[&str] = &["lorahub-cli", "lorahub-forge", "xtask"];

/// In wasm a program without the standard library, which one build cannot also have with it.
const WITHOUT_STD: &str = "lorahub-kernel-module";

enum Outcome {
    Passed,
    Failed(Error),
    NotRun(&'static str),
}

/// `cargo xtask test`. `only` empty means all steps.
///
/// # Errors
/// [`Error::Check`] if a step failed or could not run, or if `only` names no step.
pub(crate) fn run(only: &[String], firefox: bool) -> Result<(), Error> {
    let steps = chosen(only, firefox)?;
    let start = Instant::now();
    let mut results: Vec<(&Step, Outcome, Duration)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.title);
        let begun = Instant::now();
        let passed = |name: &str| {
            results
                .iter()
                .any(|(s, r, _)| s.name == name && matches!(r, Outcome::Passed))
        };
        let result = match step.needs.iter().find(|need| !passed(need)) {
            Some(need) => Outcome::NotRun(need),
            None => (step.run)().map_or_else(Outcome::Failed, |()| Outcome::Passed),
        };
        println!("  {}", line(&result, begun.elapsed()));
        results.push((step, result, begun.elapsed()));
    }
    println!("\nSummary, {}:", seconds(start.elapsed()));
    for (step, result, time) in &results {
        println!("  {:<12} {}", step.name, line(result, *time));
    }
    let bad: Vec<&str> = results
        .iter()
        .filter(|(_, r, _)| !matches!(r, Outcome::Passed))
        .map(|(s, ..)| s.name)
        .collect();
    if bad.is_empty() {
        println!("all {} steps passed", results.len());
        return Ok(());
    }
    Err(Error::Check(format!(
        "{} of {} steps did not pass; repeat with `cargo xtask test --only {}`",
        bad.len(),
        results.len(),
        bad.join(" --only ")
    )))
}

/// The named steps with all they need, in the list's order.
fn chosen(only: &[String], firefox: bool) -> Result<Vec<&'static Step>, Error> {
    let all: Vec<&'static Step> = STEPS.iter().chain([&FIREFOX]).collect();
    let mut wanted: Vec<&str> = Vec::new();
    for name in only {
        let Some(step) = all.iter().find(|s| s.name == name) else {
            let names: Vec<&str> = all.iter().map(|s| s.name).collect();
            return Err(Error::Check(format!(
                "there is no step `{name}`; the steps are {}",
                names.join(", ")
            )));
        };
        wanted.push(step.name);
    }
    if only.is_empty() {
        wanted.extend(STEPS.iter().map(|s| s.name));
    }
    if firefox {
        wanted.push(FIREFOX.name);
    }
    // A step's needs stand above it, so one pass from the bottom finds them all.
    for step in all.iter().rev() {
        if wanted.contains(&step.name) {
            wanted.extend(step.needs);
        }
    }
    Ok(all.into_iter().filter(|s| wanted.contains(&s.name)).collect())
}

fn line(result: &Outcome, time: Duration) -> String {
    match result {
        Outcome::Passed => format!("ok, {}", seconds(time)),
        Outcome::Failed(error) => format!("FAILED, {}: {error}", seconds(time)),
        Outcome::NotRun(need) => format!("NOT RUN: step `{need}` did not pass"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn set_up() -> Result<(), Error> {
    setup::wasm_target()?;
    setup::components()?;
    setup::npm_ci(&www())?;
    setup::npm_ci(&browser_tests())?;
    println!("  browser: {}", browser::chromium()?.display());
    gpu::adapter()
}

fn format() -> Result<(), Error> {
    setup::components()?;
    Cmd::cargo().args(["fmt", "--all", "--check"]).run()
}

fn clippy() -> Result<(), Error> {
    setup::components()?;
    Cmd::cargo()
        .args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        .run()
}

fn clippy_wasm() -> Result<(), Error> {
    setup::components()?;
    setup::wasm_target()?;
    let excluded = NATIVE_ONLY
        .iter()
        .chain([&WITHOUT_STD])
        .flat_map(|name| ["--exclude", name]);
    let clippy = || Cmd::cargo().args(["clippy", "--lib", "--target", "wasm32-unknown-unknown"]);
    clippy()
        .arg("--workspace")
        .args(excluded)
        .args(["--", "-D", "warnings"])
        .run()?;
    clippy().args(["--package", WITHOUT_STD, "--", "-D", "warnings"]).run()
}

fn tests() -> Result<(), Error> {
    Cmd::cargo()
        .args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples"])
        .run()
}

fn doctests() -> Result<(), Error> {
    Cmd::cargo().args(["test", "--workspace", "--doc"]).run()
}

fn docs() -> Result<(), Error> {
    Cmd::cargo()
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()
}

/// The tests of `crates/kernels` once more, on the registers that they are made for. Its relaxed-simd build is tested in
/// the browser, as what the page runs.
fn kernels() -> Result<(), Error> {
    const TARGET: &str = "wasm32-unknown-unknown";
    Cmd::cargo()
        .args([
            "build",
            "--package",
            "lorahub-kernels",
            "--examples",
            "--target",
            TARGET,
        ])
        .args(["--profile", build::FAST_PROFILE])
        // Either variable would replace the flags of .cargo/config.toml, and with them SIMD.
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .run()?;
    let checks = target_dir()?
        .join(TARGET)
        .join(build::FAST_PROFILE)
        .join("examples/checks.wasm");
    Cmd::new("node")
        .arg(root().join("crates/kernels/tests/wasm.mjs"))
        .arg(checks)
        .run()
}

fn page() -> Result<(), Error> {
    build::page().map(drop)
}

fn typescript() -> Result<(), Error> {
    Cmd::npm().args(["run", "--silent", "check"]).dir(&www()).run()?;
    Cmd::npm().args(["run", "--silent", "test"]).dir(&www()).run()
}

fn size_gates() -> Result<(), Error> {
    let settings = WasmPack::load()?;
    let package = &settings.package;
    let wasm = root()
        .join(&package.out_dir)
        .join(format!("{}_bg.wasm", package.out_name));
    sizes::all(&wasm, &settings.budgets)?;
    tidy::dist_hosts()
}

fn browser_step() -> Result<(), Error> {
    // native.test.mjs compares the page with the command line. Its tests need the program, and among all packages it has
    // the features that it has in `tests`; by itself it would have others, and its dependencies be built once more.
    Cmd::cargo()
        .args(["test", "--workspace", "--test", "cli", "--no-run"])
        .run()?;
    node_tests(".test.mjs", browser::CHROMIUM, &browser::chromium()?)
}

fn firefox_step() -> Result<(), Error> {
    node_tests(".firefox.mjs", browser::FIREFOX, &browser::firefox()?)
}

/// The files of `tests/browser` that end in this measure time or memory, and run after the others, one by one.
const ALONE: &str = ".alone.test.mjs";

/// Runs the files of `tests/browser` that end in `suffix`: two at a time, since most of them wait for a browser most of
/// the time.
fn node_tests(suffix: &str, variable: &str, browser: &Path) -> Result<(), Error> {
    let folder = browser_tests();
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .map_err(Error::file("list", &folder))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(suffix))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::Check(format!(
            "tests/browser has no file *{suffix}; a suite without tests proves nothing"
        )));
    }
    let lorahub = target_dir()?
        .join("debug")
        .join(format!("lorahub{}", std::env::consts::EXE_SUFFIX));
    let run = |files: Vec<String>, at_once: usize| {
        if files.is_empty() {
            return Ok(());
        }
        Cmd::new("node")
            .args(["--test", "--test-reporter=spec"])
            .arg(format!("--test-concurrency={at_once}"))
            .args(files)
            .dir(&folder)
            .env(variable, browser)
            .env("LORAHUB_CLI", &lorahub)
            .run()
    };
    let (alone, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| name.ends_with(ALONE));
    // Both, whatever becomes of the first: a run should name all that fails.
    let others = run(others, 2);
    run(alone, 1).and(others)
}

#[cfg(test)]
mod tests_of_steps {
    use super::*;

    fn names(only: &[&str], firefox: bool) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|s| (*s).to_owned()).collect();
        chosen(&only, firefox)
            .expect("known steps")
            .iter()
            .map(|s| s.name)
            .collect()
    }

    #[test]
    fn needs_stand_above_and_come_along() {
        for (index, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(
                    STEPS[..index].iter().any(|s| s.name == *need),
                    "{} needs {need}",
                    step.name
                );
            }
        }
        assert_eq!(names(&["browser"], false), ["setup", "page", "browser"]);
        assert_eq!(names(&["tidy"], false), ["tidy"]);
        assert_eq!(names(&[], false).len(), STEPS.len());
        assert_eq!(names(&[], true).last(), Some(&"firefox"));
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_known_ones() {
        let error = chosen(&["tests2".into()], false)
            .err()
            .expect("must not pass")
            .to_string();
        assert!(error.contains("tests2") && error.contains("doctests"), "{error}");
    }
}
