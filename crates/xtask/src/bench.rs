//! `cargo xtask bench`: `crates/bench` natively and in a browser's worker, as tables and as JSON.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, read_text, write};
use crate::process::Cmd;
use crate::project::{Target, browser_tests, root, target_dir};
use crate::{bench_tables, browser, build, gpu, peers, setup};

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

/// What to run on.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// The CPU backend.
    Cpu,
    /// The WebGPU backend.
    Webgpu,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Browser => "browser",
        }
    }
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Webgpu => "webgpu",
        }
    }
}

/// `cargo xtask bench`, or a comparison.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    comparison: Option<Comparison>,
    /// What to run on.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Measure here only; may be given more than once.
    #[arg(long, value_name = "PLACE")]
    only: Vec<Place>,
    #[command(flatten)]
    choice: Choice,
}

/// What else than ours by itself is measured.
#[derive(clap::Subcommand)]
enum Comparison {
    /// Measure ours beside onnxruntime-web, transformers.js, candle and PyTorch with PEFT; needs Python.
    Peers(peers::Arguments),
    /// Print where the time of a generation on the CPU goes, in node and on one thread.
    Profile {
        /// The model: flan-t5-small, flan-t5-base.
        #[arg(default_value = "flan-t5-small")]
        shape: String,
    },
}

/// What to measure; `crates/bench` knows the names, and what is usual for a device.
#[derive(clap::Args)]
struct Choice {
    /// How much to measure: short (the CPU's default), reduced (a software adapter's), full (a GPU's).
    #[arg(long)]
    list: Option<String>,
    /// Measure only gemm, evaluation or greedy; may be given more than once.
    #[arg(long = "measure", value_name = "MEASURE")]
    measures: Vec<String>,
    /// Interleaved repetitions.
    #[arg(long)]
    repetitions: Option<u32>,
    /// Threads of the CPU backend in a browser; one unless said. Natively RAYON_NUM_THREADS says it.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Models to measure: demo, flan-t5-small, flan-t5-base, flan-t5-large.
    shapes: Vec<String>,
}

impl Choice {
    /// Whether it leaves everything to the device. Only such results are kept.
    fn is_whole(&self) -> bool {
        self.threads == 1
            && self.list.is_none()
            && self.measures.is_empty()
            && self.repetitions.is_none()
            && self.shapes.is_empty()
    }
}

/// The results of one device in one place, as they lie in `benches/results`.
#[derive(Deserialize, Serialize)]
pub(crate) struct Results {
    /// The day, as YYYY-MM-DD, UTC.
    pub(crate) made: String,
    /// The processor.
    pub(crate) machine: String,
    /// What else kept the machine busy: processes ready to run, averaged over the minute before.
    pub(crate) load_before: Option<f64>,
    /// Where it ran.
    pub(crate) place: String,
    /// What `crates/bench` reported, in its order.
    pub(crate) reports: Vec<Value>,
}

impl Results {
    /// JSON with a report a line, so that a change of one shows as one.
    fn to_json(&self) -> Result<String, Error> {
        let unwritable = |error| Error::Check(format!("the results cannot be written as JSON: {error}"));
        let mut head = serde_json::to_string(&Self {
            reports: Vec::new(),
            made: self.made.clone(),
            machine: self.machine.clone(),
            place: self.place.clone(),
            ..*self
        })
        .map_err(unwritable)?;
        head.truncate(head.len() - "]}".len());
        let mut lines = Vec::with_capacity(self.reports.len());
        for report in &self.reports {
            lines.push(serde_json::to_string(report).map_err(unwritable)?);
        }
        Ok(format!("{head}\n{}\n]}}\n", lines.join(",\n")))
    }
}

/// `cargo xtask bench`.
///
/// # Errors
/// A failed build or run, or a report that is not one.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    match &arguments.comparison {
        Some(Comparison::Peers(arguments)) => return peers::run(arguments),
        Some(Comparison::Profile { shape }) => return profile(shape),
        None => {}
    }
    let (device, choice) = (arguments.device, &arguments.choice);
    let places = if arguments.only.is_empty() {
        &[Place::Native, Place::Browser][..]
    } else {
        &arguments.only
    };
    if device == Device::Webgpu && places.contains(&Place::Native) {
        gpu::adapter()?;
    }
    for &place in places {
        let load_before = load();
        let lines = match place {
            Place::Native => native(device, choice)?,
            Place::Browser => in_browser(device, choice)?,
        };
        let parsed = lines.lines().map(|line| {
            serde_json::from_str(line)
                .map_err(|error| Error::Check(format!("the benchmark printed `{line}`, which is no report: {error}")))
        });
        let name = format!("{}-{}.json", device.name(), place.name());
        let kept = choice.is_whole().then_some(name.as_str());
        keep(place, load_before, parsed.collect::<Result<_, _>>()?, kept)?;
    }
    Ok(())
}

/// Prints the results; under a name, also keeps them and renews the document.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn keep(
    place: Place,
    load_before: Option<f64>,
    reports: Vec<Value>,
    name: Option<&str>,
) -> Result<(), Error> {
    let results = Results {
        made: today(),
        machine: machine(),
        load_before,
        place: place.name().to_owned(),
        reports,
    };
    println!("\n{}", bench_tables::section(&results));
    if let Some(name) = name {
        let path = format!("benches/results/{name}");
        write(&root().join(&path), results.to_json()?)?;
        bench_tables::update_document()?;
        println!("  written to {path} and {}", bench_tables::DOCUMENT);
    } else {
        println!("  a part of a list: printed, not kept");
    }
    Ok(())
}

/// Every file of `benches/results`, by name; none where nothing has been kept yet.
pub(crate) fn kept() -> Result<Vec<Results>, Error> {
    let folder = root().join("benches/results");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(Error::file("list", &folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let parse = |path: &PathBuf| {
        serde_json::from_str(&read_text(path)?).map_err(|error| Error::Content {
            path: path.clone(),
            found: error.to_string(),
            expected: "what `cargo xtask bench` writes".into(),
        })
    };
    paths.iter().map(parse).collect()
}

fn native(device: Device, choice: &Choice) -> Result<String, Error> {
    Cmd::cargo()
        .args([
            "build",
            "--release",
            "--package",
            "lorahub-bench",
            "--bin",
            "lorahub-bench",
        ])
        .run()?;
    let program = target_dir()?
        .join("release")
        .join(format!("lorahub-bench{}", std::env::consts::EXE_SUFFIX));
    let mut command = Cmd::new(program).args(["--device", device.name()]);
    if let Some(list) = &choice.list {
        command = command.args(["--list", list]);
    }
    for measure in &choice.measures {
        command = command.args(["--measure", measure]);
    }
    if let Some(repetitions) = choice.repetitions {
        command = command.args(["--repetitions", &repetitions.to_string()]);
    }
    command.args(&choice.shapes).read_with_progress()
}

/// Builds `crates/bench` for a browser, and returns the folder of its package.
///
/// # Errors
/// A failed build.
pub(crate) fn wasm() -> Result<PathBuf, Error> {
    setup::wasm_target()?;
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
    let out = target_dir()?.join("bench-web");
    build::bind(&wasm, Target::Web, &out)?;
    Ok(out)
}

fn profile(shape: &str) -> Result<(), Error> {
    let folder = wasm()?;
    Cmd::new("node")
        .arg(root().join("benches/profile.mjs"))
        .arg(folder)
        .arg(shape)
        .run()
}

fn in_browser(device: Device, choice: &Choice) -> Result<String, Error> {
    setup::npm_ci(&browser_tests())?;
    let chromium = browser::chromium()?;
    let out = wasm()?;
    let threads = choice.threads;
    // As `lorahub_bench::Choice` reads it.
    let choice = json!({
        "list": choice.list, "shapes": choice.shapes, "measures": choice.measures, "repetitions": choice.repetitions,
    });
    Cmd::new("node")
        .arg("bench.mjs")
        .arg(&out)
        .args([device.name(), &choice.to_string(), &threads.to_string()])
        .dir(&browser_tests())
        .env(browser::CHROMIUM, chromium)
        .read_with_progress()
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

/// The load average of the last minute, where the system says it in a file.
pub(crate) fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The Gregorian date of a day since 1970-01-01: years counted from March, in eras of 400 years.
fn date(day: u64) -> String {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(date(day), expected);
        }
    }

    #[test]
    fn results_are_written_a_report_a_line_and_read_back() {
        let results = Results {
            made: "2026-01-01".into(),
            machine: "a".into(),
            load_before: Some(0.25),
            place: "native".into(),
            reports: vec![json!({"kind": "device"}), json!({"kind": "gemm"})],
        };
        let text = results.to_json().expect("JSON");
        assert_eq!(text.lines().count(), 4, "{text}");
        let back: Results = serde_json::from_str(&text).expect("what was written");
        assert_eq!((back.reports, back.load_before), (results.reports, Some(0.25)));
    }
}
