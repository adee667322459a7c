//! Adapt from end to end: results, files, determinism, Ctrl-C and resuming.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Folder, argument, command, numbers, run, run_json, run_refused, weights_flag, write_rows};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/gated")
}

/// The golden model's base with three modules and five shots of its own.
struct Task {
    folder: Folder,
    base: String,
    modules: Vec<String>,
    shots: String,
}

impl Task {
    fn new() -> Self {
        let folder = Folder::new();
        let rows = [
            ("count red", "open one"),
            ("two plum", "door"),
            ("north", "yes sister"),
            ("fig sold", "no"),
            ("a", "b"),
        ];
        Self {
            base: argument(&golden().join("base")),
            modules: ["qv-a", "qv-b", "qv-c"]
                .map(|name| argument(&golden().join("modules").join(name)))
                .into(),
            shots: write_rows(&folder, "shots.jsonl", &rows),
            folder,
        }
    }

    fn arguments<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec![command, "--base", &self.base, "--module"];
        arguments.extend(self.modules.iter().map(String::as_str));
        arguments.extend(more);
        arguments
    }

    fn adapt(&self, more: &[&str]) -> Value {
        run_json(&self.arguments("adapt", &[&["--shots", &self.shots, "--json"], more].concat()))
    }
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn without_seconds(mut value: Value) -> Value {
    value.as_object_mut().unwrap().remove("seconds").unwrap();
    value
}

#[test]
fn adapt_prints_what_score_confirms() {
    let task = Task::new();
    let out = task.folder.join("out");
    for (rule, objective, score_of) in [
        ("exact", "normalised", "objective_normalised"),
        ("reference", "reference", "objective_reference"),
    ] {
        let found = task.adapt(&[
            "--rule",
            rule,
            "--objective",
            objective,
            "--budget",
            "70",
            "--seed",
            "3",
            "--out",
            &out,
        ]);
        assert_eq!(found["modules"], serde_json::json!(["qv-a", "qv-b", "qv-c"]));
        assert_eq!(
            (found["evaluations"].as_u64(), found["seed"].as_u64()),
            (Some(70), Some(3))
        );
        assert_eq!(found["rule"], rule);
        assert_eq!(found["objective_name"], objective);
        assert_eq!(found["stop_reason"], "budget");
        assert!(found["seconds"].as_f64().unwrap() > 0.0);
        // Modules with random values need not beat the base; under `exact` a slope at the base shows the way.
        let (objective, base) = (
            found["objective"].as_f64().unwrap(),
            found["compared"]["base"].as_f64().unwrap(),
        );
        assert!(
            objective < base || rule == "reference" && objective == base,
            "{objective}, base {base}"
        );

        // The weights printed give the values printed.
        let weights = weights_flag(&numbers(&found["weights"]));
        let more = [weights.as_str(), "--rule", rule, "--shots", &task.shots, "--json"];
        let score = run_json(&task.arguments("score", &more));
        for (name, of_score) in [("objective", score_of), ("loss", "batch_loss")] {
            let (found, expected) = (found[name].as_f64().unwrap(), score[of_score].as_f64().unwrap());
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}: {found}, score says {expected}"
            );
        }

        // So does the adapter written.
        let adapter = format!("{out}/adapter");
        let arguments = [
            "score",
            "--base",
            &task.base,
            "--module",
            &adapter,
            "--weights=1",
            "--shots",
            &task.shots,
            "--json",
        ];
        let (alone, expected) = (
            run_json(&arguments)["batch_loss"].as_f64().unwrap(),
            score["batch_loss"].as_f64().unwrap(),
        );
        assert!(
            (alone - expected).abs() <= 1e-5 * expected.max(1.0),
            "{alone}, {expected}"
        );

        let record = read(format!("{out}/run.json"));
        for name in [
            "weights",
            "objective",
            "objective_name",
            "loss",
            "seed",
            "rule",
            "stop_reason",
            "evaluations",
        ] {
            assert_eq!(record[name], found[name], "{name}");
        }
        assert_eq!(record["schema"], 1);
        assert_eq!(record["base"]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(record["modules"][2]["name"], "qv-c");
        assert_eq!(record["modules"][2]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(record["history"].as_array().unwrap().len(), 70);
        let text = std::fs::read_to_string(format!("{out}/run.json")).unwrap();
        assert!(!text.contains("sister"), "a record holds no text of the shots");
    }
}

#[test]
fn adapt_is_the_same_twice_and_differs_by_seed() {
    let task = Task::new();
    let once = without_seconds(task.adapt(&["--rule", "exact", "--budget", "60"]));
    assert_eq!(
        without_seconds(task.adapt(&["--rule", "exact", "--budget", "60"])),
        once
    );
    assert_eq!(once["seed"], 0);
    let other = task.adapt(&["--rule", "exact", "--budget", "60", "--seed", "1"]);
    assert_ne!(other["compared"]["search"], once["compared"]["search"]);
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let task = Task::new();
    let ran = run(&task.arguments("adapt", &["--shots", &task.shots, "--json"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(found["evaluations"].as_u64().unwrap() <= 200);
    assert_eq!(found["rule"], "reference");
    assert_eq!(found["objective_name"], "normalised");
    assert_eq!(found["l1"], 0.05);
    assert!(ran.stderr.contains("rule `reference` (the default)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("evaluations"), "progress: {}", ran.stderr);
}

/// The saved search as it is after the last generation.
fn evaluations(checkpoint: &Path) -> usize {
    read(checkpoint)["session"]["history"].as_array().unwrap().len()
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_best_and_the_rest_can_follow() {
    let task = Task::new();
    let out = task.folder.join("out");
    let checkpoint = Path::new(&out).join("checkpoint.json");
    let whole = ["--rule", "exact", "--budget", "1500", "--seed", "5"];
    let more = [&whole[..], &["--shots", &task.shots, "--json", "--out", &out]].concat();
    let adapting = command(&task.arguments("adapt", &more))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();

    let started = Instant::now();
    while !(checkpoint.is_file() && evaluations(&checkpoint) > 20) {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no generation in two minutes"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &adapting.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let ran = crate::support::Ran::from(adapting.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let stopped: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(stopped["stop_reason"], "cancelled");
    let done = stopped["evaluations"].as_u64().unwrap() as usize;
    assert!((20..1500).contains(&done), "{done}");
    assert_eq!(evaluations(&checkpoint), done);
    assert_eq!(read(format!("{out}/run.json"))["stop_reason"], "cancelled");
    assert!(Path::new(&out).join("adapter/adapter_model.safetensors").is_file());

    let saved = argument(&checkpoint);
    let resumed = without_seconds(task.adapt(&["--resume", &saved]));
    let undisturbed = without_seconds(task.adapt(&whole));
    assert_eq!(resumed, undisturbed);
    assert_ne!(resumed["stop_reason"], "cancelled");

    // A saved search is for its own inputs, and its settings are settled.
    let other = write_rows(&task.folder, "other.jsonl", &[("x", "y")]);
    run_refused(
        &task.arguments("adapt", &["--shots", &other, "--resume", &saved]),
        1,
        &["error[other_run]", "set of shots"],
    );
    let fewer = [
        "adapt",
        "--base",
        &task.base,
        "--module",
        &task.modules[0],
        "--shots",
        &task.shots,
        "--resume",
        &saved,
    ];
    run_refused(&fewer, 1, &["error[other_run]", "number of modules is 3, here it is 1"]);
    for (flag, value) in [
        ("--seed", "6"),
        ("--budget", "10"),
        ("--rule", "reference"),
        ("--objective", "reference"),
        ("--l1", "0.5"),
    ] {
        let arguments = task.arguments("adapt", &["--shots", &task.shots, "--resume", &saved, flag, value]);
        run_refused(&arguments, 2, &["error[usage]", flag, "leave"]);
    }
    let same = ["--resume", saved.as_str(), "--seed", "5", "--rule", "exact"];
    assert_eq!(without_seconds(task.adapt(&same)), resumed);

    // What it goes on with is told, where that is something else.
    let narrow = task.adapt(&["--resume", &saved, "--dtype", "f16"]);
    let [before, after] = [&resumed, &narrow].map(|run| run["backend"].as_str().unwrap().to_owned());
    assert!(
        after.starts_with(&format!("{before}, then cpu")) && after.contains("f16 weights"),
        "{after}"
    );
}

#[test]
fn an_ended_search_resumes_to_its_end() {
    let task = Task::new();
    let out = task.folder.join("out");
    let found = task.adapt(&["--budget", "12", "--rule", "exact", "--out", &out]);
    let again = task.adapt(&["--resume", &format!("{out}/checkpoint.json"), "--rule", "exact"]);
    assert_eq!(without_seconds(again), without_seconds(found));
}

#[test]
fn saved_searches_that_are_none() {
    let task = Task::new();
    for (text, says) in [
        ("", "unusable"),
        ("{}", "missing field"),
        ("[[[[", "unusable"),
        (r#"{"schema":7}"#, "unusable"),
    ] {
        let saved = task.folder.write("saved.json", text);
        let arguments = task.arguments("adapt", &["--shots", &task.shots, "--resume", &saved]);
        run_refused(&arguments, 1, &["error[state]", says, "start the search again"]);
    }
    let missing = task.folder.join("nowhere.json");
    let arguments = task.arguments("adapt", &["--shots", &task.shots, "--resume", &missing]);
    run_refused(&arguments, 1, &["error[read]", "nowhere.json"]);
}

#[test]
fn eval_compares_with_the_baselines() {
    let task = Task::new();
    let found = task.adapt(&["--rule", "exact", "--budget", "30"]);
    let weights = weights_flag(&numbers(&found["weights"]));
    // The first row expects what the base answers, so that the counts are not all zero.
    let answer = run_json(&["generate", "--base", &task.base, "--input", "red door", "--json"]);
    let expected = format!(" {}.", answer["text"].as_str().unwrap().to_uppercase());
    let test = write_rows(
        &task.folder,
        "test.jsonl",
        &[("red door", &expected), ("blue", "no such answer"), ("one", "two")],
    );
    let predictions = task.folder.join("predictions.jsonl");
    let more = [
        weights.as_str(),
        "--rule",
        "exact",
        "--test",
        &test,
        "--shots",
        &task.shots,
        "--baselines",
        "--predictions",
        &predictions,
        "--json",
    ];
    let evaluation = run_json(&task.arguments("eval", &more));
    assert_eq!(evaluation["n"], 3);
    assert_eq!(evaluation["rule"], "exact");
    let names: Vec<&String> = evaluation["exact_match"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["base", "best_single", "composed", "uniform"]);
    assert!((evaluation["exact_match"]["base"].as_f64().unwrap() - 100.0 / 3.0).abs() < 1e-9);
    assert_eq!(
        evaluation["best_single_module"],
        found["compared"]["best_single_module"]
    );
    let rows: Vec<Value> = std::fs::read_to_string(&predictions)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["predictions"]["base"]["ok"], true);
    assert_eq!(rows[0]["predictions"]["base"]["text"], answer["text"]);
    assert_eq!(rows[1]["predictions"]["composed"]["ok"], false);

    // What was not asked for is absent.
    let keys = |arguments: &[&str]| {
        run_json(arguments)["exact_match"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<String>>()
    };
    let only = [weights.as_str(), "--rule", "exact", "--test", &test, "--json"];
    assert_eq!(keys(&task.arguments("eval", &only)), ["composed"]);
    assert_eq!(
        keys(&["eval", "--base", &task.base, "--test", &test, "--json"]),
        ["base"]
    );
    let no_shots = ["--rule", "exact", "--test", &test, "--baselines", "--json"];
    assert_eq!(keys(&task.arguments("eval", &no_shots)), ["base", "uniform"]);

    // Test rows may not be shots.
    let overlapping = write_rows(&task.folder, "overlap.jsonl", &[("new", "x"), (" two plum ", "y")]);
    let more = [weights.as_str(), "--test", &overlapping, "--shots", &task.shots];
    run_refused(
        &task.arguments("eval", &more),
        1,
        &["error[overlap]", "test row 2", "shot 2"],
    );
}

#[test]
fn places_that_cannot_be_written() {
    let task = Task::new();
    let file = task.folder.write("file", "x");
    let inside = format!("{file}/inside");
    let arguments = task.arguments("adapt", &["--shots", &task.shots, "--out", &inside]);
    run_refused(&arguments, 1, &["error[write]", "inside", "choose another place"]);
    let onto = [weights_flag(&[1.0, 0.0, 0.0]), task.base.clone()];
    let arguments = task.arguments("export", &[&onto[0], "--out", &onto[1], "--merge"]);
    run_refused(&arguments, 2, &["error[usage]", "would be overwritten"]);
    let arguments = task.arguments("export", &[&onto[0], "--out", &task.modules[1]]);
    run_refused(&arguments, 2, &["error[usage]", "would be overwritten"]);
}
