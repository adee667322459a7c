//! `cargo xtask check-real`: Flan-T5 itself, from a hub, against transformers and PEFT.
//!
//! Downloads a base (and, for the large one, two public modules) with `lorahub download`, compares losses and answers
//! with the reference libraries, adapts, and writes a report. With `--local` the same against a hub on this machine that
//! serves random weights of the true shape: what can be tried without a network.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::error::{Error, write};
use crate::process::Cmd;
use crate::project::{browser_tests, root, target_dir};
use crate::{browser, build, golden, setup};

/// A size of Flan-T5.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Size {
    /// 77 million parameters.
    Small,
    /// 248 million.
    Base,
    /// 783 million; the public modules are for it.
    Large,
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Base => "base",
            Self::Large => "large",
        }
    }
}

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The base.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// Serve random weights of the true shape from this machine instead of the public hub.
    #[arg(long)]
    local: bool,
    /// Also download it into a browser and load it there, with --local: rates and memory are printed.
    #[arg(long, requires = "local")]
    browser: bool,
    /// JSON Lines with `input` and `output` to adapt to; without it five Boolean expressions as in BIG-Bench Hard.
    #[arg(long, value_name = "FILE")]
    shots: Option<PathBuf>,
    /// Evaluations of the search.
    #[arg(long, default_value_t = 24)]
    budget: u32,
}

/// The public modules that are composed on the large base, and what their repositories are called before the name.
const PUBLIC: [&str; 2] = ["ag_news_subset", "super_glue_rte"];
const PUBLIC_OWNER: &str = "lorahub/flan_t5_large-";
const WEIGHTS: [f64; 2] = [0.6, -0.3];
/// Boolean expressions as BIG-Bench Hard asks them.
const SHOTS: [(&str, &str); 5] = [
    ("not ( True ) and ( True ) is", "False"),
    ("True and not not ( not False ) is", "True"),
    ("not True or False or ( False ) is", "False"),
    ("False or not ( True ) and False is", "False"),
    ("True or not False and True and False is", "True"),
];
const ANSWER_TOKENS: &str = "12";

/// The hub of `tests/cdn` on this machine, until it is dropped.
struct LocalHub {
    child: Child,
    origin: String,
}

impl LocalHub {
    fn start(folder: &Path) -> Result<Self, Error> {
        let script = root().join("tests/cdn/cdn.mjs");
        let unusable = |reason: String| Error::Check(format!("the hub of tests/cdn did not start ({reason})"));
        let mut child = Command::new("node")
            .arg(script)
            .arg("--root")
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| unusable(error.to_string()))?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said)
                .read_line(&mut line)
                .map_err(|error| unusable(error.to_string()))?;
        }
        let parsed: Value = serde_json::from_str(&line).map_err(|error| unusable(error.to_string()))?;
        match parsed["origin"].as_str() {
            Some(origin) => Ok(Self {
                origin: origin.to_owned(),
                child,
            }),
            None => Err(unusable(line)),
        }
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo xtask check-real`.
///
/// # Errors
/// A failed download or run, and [`Error::Check`] if a number differs.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let folder = target_dir()?.join("check-real");
    let (hub, store, own) = (folder.join("hub"), folder.join("store"), folder.join("modules"));
    let size = arguments.size.name();
    let id = format!("google/flan-t5-{size}");
    println!("[1/5] tools");
    let python = golden::python()?;
    Cmd::cargo()
        .args(["build", "--release", "--package", "lorahub-cli"])
        .run()?;
    let lorahub = target_dir()?
        .join("release")
        .join(format!("lorahub{}", std::env::consts::EXE_SUFFIX));

    println!("[2/5] weights that only this machine has");
    if arguments.local && folder.exists() {
        // A commit never changes, so the store would rightly refuse other weights under the old one.
        std::fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    let large = arguments.size == Size::Large;
    if arguments.local || !large {
        let mut make = Cmd::new(&python)
            .arg(root().join("tests/real/make.py"))
            .args(["--size", size, "--hub"])
            .arg(&hub)
            .arg("--modules")
            .arg(&own)
            .arg("--tokenizer")
            .arg(root().join("www/models/demo/base/tokenizer.json"));
        if large {
            make = make
                .arg("--public")
                .args(PUBLIC.map(|name| format!("{PUBLIC_OWNER}{name}")));
        }
        if !arguments.local {
            make = make.arg("--only-modules");
        }
        make.run()?;
    }
    let local = if arguments.local {
        Some(LocalHub::start(&hub)?)
    } else {
        None
    };

    println!("[3/5] download");
    let mut names = vec![id.as_str()];
    if large {
        names.extend(PUBLIC);
    }
    let began = Instant::now();
    let mut download = Cmd::new(&lorahub)
        .arg("download")
        .args(&names)
        .arg("--store")
        .arg(&store);
    if let Some(local) = &local {
        download = download.args(["--hub", &local.origin]);
    }
    download.run()?;
    let download_seconds = began.elapsed().as_secs_f64();

    println!("[4/5] against transformers and PEFT");
    let modules: Vec<String> = if large {
        PUBLIC.map(str::to_owned).into()
    } else {
        ["one", "two"].map(|name| own.join(name).display().to_string()).into()
    };
    let shots = shots(arguments, &folder)?;
    let model = |command: &str| {
        Cmd::new(&lorahub)
            .args([command, "--base", &id, "--store"])
            .arg(&store)
            .arg("--module")
            .args(&modules)
            .args(["--rule", "reference", "--json"])
    };
    let weights = WEIGHTS.map(|weight| weight.to_string()).join(",");
    let weights_flag = format!("--weights={weights}");
    let score = parsed(
        &model("score")
            .arg(&weights_flag)
            .arg("--shots")
            .arg(&shots.path)
            .read_with_progress()?,
    )?;
    let mut ids = Vec::new();
    for (input, _) in &shots.rows {
        let answer = model("generate")
            .arg(&weights_flag)
            .args(["--max-new-tokens", ANSWER_TOKENS, "--input", input]);
        ids.push(parsed(&answer.read()?)?["ids"].clone());
    }
    let kept = parsed(
        &Cmd::new(&lorahub)
            .args(["store", "list", "--json", "--store"])
            .arg(&store)
            .read()?,
    )?;
    let readable = |name: &str| laid_out(&kept, &store, name, &folder.join("laid-out"));
    let module_folders = if large {
        PUBLIC.iter().map(|name| readable(name)).collect::<Result<_, _>>()?
    } else {
        modules.clone()
    };
    let rows: Vec<Value> = shots
        .rows
        .iter()
        .map(|(input, output)| json!({"input": input, "output": output}))
        .collect();
    let job = json!({
        "base": readable(&id)?,
        "modules": module_folders,
        "weights": WEIGHTS,
        "shots": rows,
        "inputs": shots.rows.iter().map(|(input, _)| input).collect::<Vec<_>>(),
        "ours": {"shot_loss": score["shot_loss"], "ids": ids},
    });
    let job_file = folder.join("job.json");
    write(&job_file, job.to_string())?;
    let compared = Cmd::new(&python)
        .arg(root().join("tests/real/check.py"))
        .arg(&job_file)
        .read_with_progress()
        .and_then(|text| parsed(&text))?;

    println!("[5/5] adapt");
    let budget = arguments.budget.to_string();
    let adapted = parsed(
        &model("adapt")
            .arg("--shots")
            .arg(&shots.path)
            .args(["--budget", &budget])
            .read_with_progress()?,
    )?;
    let report = json!({
        "base": id,
        "random_weights": arguments.local,
        "download_seconds": download_seconds,
        "compared": compared,
        "adapted": adapted,
    });
    let path = folder.join("report.json");
    write(&path, format!("{report:#}\n"))?;
    println!(
        "losses within {} of PEFT's, {} answers identical, {} evaluations in {:.1} s; written to {}",
        compared["largest_loss_difference"],
        compared["answers"],
        adapted["evaluations"],
        adapted["seconds"].as_f64().unwrap_or(f64::NAN),
        path.display()
    );
    if arguments.browser {
        in_browser(&hub, &id)?;
    }
    Ok(())
}

/// The same base through Chromium.
fn in_browser(hub: &Path, id: &str) -> Result<(), Error> {
    println!("[browser] {id}");
    build::run(None, false)?;
    setup::npm_ci(&browser_tests())?;
    Cmd::new("node")
        .arg(root().join("tests/real/browser.mjs"))
        .arg(hub)
        .arg(id)
        .env(browser::CHROMIUM, browser::chromium()?)
        .run()
}

/// The rows to adapt to, and the file they are in.
struct Shots {
    rows: Vec<(String, String)>,
    path: PathBuf,
}

fn shots(arguments: &Arguments, folder: &Path) -> Result<Shots, Error> {
    if let Some(path) = &arguments.shots {
        let text = crate::error::read_text(path)?;
        let rows = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let row = parsed(line)?;
            match (row["input"].as_str(), row["output"].as_str()) {
                (Some(input), Some(output)) => Ok((input.to_owned(), output.to_owned())),
                _ => Err(Error::Check(format!(
                    "{}: a row has no `input` and `output`",
                    path.display()
                ))),
            }
        });
        return Ok(Shots {
            rows: rows.collect::<Result<_, Error>>()?,
            path: path.clone(),
        });
    }
    let rows = SHOTS.map(|(input, output)| (input.to_owned(), output.to_owned()));
    let lines = rows
        .iter()
        .map(|(input, output)| format!("{}\n", json!({"input": input, "output": output})));
    let path = folder.join("shots.jsonl");
    write(&path, lines.collect::<String>())?;
    Ok(Shots {
        rows: rows.into(),
        path,
    })
}

/// A base or module of the store under its files' own names, as the reference libraries want it.
fn laid_out(kept: &Value, store: &Path, name: &str, folder: &Path) -> Result<String, Error> {
    let unknown = || Error::Check(format!("`lorahub store list` does not have `{name}`: {kept}"));
    let entries = kept["entries"].as_array().ok_or_else(unknown)?;
    let entry = entries.iter().find(|entry| entry["name"] == name).ok_or_else(unknown)?;
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
    for file in entry["files"].as_array().ok_or_else(unknown)? {
        let (Some(path), Some(sha256)) = (file["path"].as_str(), file["sha256"].as_str()) else {
            return Err(unknown());
        };
        let (from, to) = (store.join("files").join(sha256), folder.join(path));
        if to.exists() {
            std::fs::remove_file(&to).map_err(Error::file("remove", &to))?;
        }
        // A second name costs nothing; across file systems it must be a copy.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
        }
    }
    Ok(folder.display().to_string())
}

fn parsed(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Check(format!("`{text}` is not JSON ({error})")))
}
