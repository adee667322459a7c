//! The golden numbers, through the binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorahub_adapters::{Module, delta};
use lorahub_weights::{Limits, SafeTensors};
use serde_json::Value;

use crate::support::{Folder, argument, numbers, run, run_json, weights_flag, write_rows};

/// One golden model, as `tests/golden/PROVENANCE.md` describes it.
struct Golden {
    folder: PathBuf,
    cases: Value,
}

fn models() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let mut models: Vec<Golden> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap().path();
            let cases = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
            Golden { folder, cases }
        })
        .collect();
    models.sort_by(|a, b| a.folder.cmp(&b.folder));
    assert!(models.len() >= 4, "{} golden models", models.len());
    models
}

impl Golden {
    fn base(&self) -> Vec<String> {
        vec!["--base".to_owned(), argument(&self.folder.join("base"))]
    }

    /// The arguments of a case's composition, base included.
    fn arguments(&self, case: &Value) -> Vec<String> {
        let mut arguments = self.base();
        if let Some(id) = case["composition"].as_str() {
            let composition = self.compositions().find(|composition| composition["id"] == id).unwrap();
            arguments.extend(self.composition(composition));
        }
        arguments
    }

    fn compositions(&self) -> impl Iterator<Item = &Value> {
        self.cases["compositions"].as_array().unwrap().iter()
    }

    fn composition(&self, composition: &Value) -> Vec<String> {
        let mut arguments = vec!["--module".to_owned()];
        for name in composition["modules"].as_array().unwrap() {
            arguments.push(argument(&self.folder.join("modules").join(name.as_str().unwrap())));
        }
        arguments.extend(["--rule".to_owned(), composition["rule"].as_str().unwrap().to_owned()]);
        arguments.push(weights_flag(&numbers(&composition["weights"])));
        arguments
    }

    fn shots(&self, folder: &Folder, set: &str) -> String {
        let rows = self.cases["shot_sets"][set].as_array().unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row["input"].as_str().unwrap(), row["output"].as_str().unwrap()))
            .collect();
        write_rows(folder, &format!("{set}.jsonl"), &rows)
    }
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn with(command: &str, arguments: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|argument| (*argument).to_owned());
    std::iter::once(command.to_owned())
        .chain(arguments.iter().cloned())
        .chain(more)
        .collect()
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    // The tolerance for losses: 1e-5 of the value, or of 1 where that is larger.
    assert!(
        (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn scores() {
    let folder = Folder::new();
    for model in models() {
        for case in model.cases["losses"].as_array().unwrap() {
            let shots = model.shots(&folder, case["shot_set"].as_str().unwrap());
            let arguments = with("score", &model.arguments(case), &["--shots", &shots, "--json"]);
            let score = run_json(&strs(&arguments));
            let what = format!("{} {}", model.cases["model"], case["id"]);
            let (found, expected) = (numbers(&score["shot_loss"]), numbers(&case["shot_loss"]));
            assert_eq!(found.len(), expected.len(), "{what}");
            for (found, expected) in found.into_iter().zip(expected) {
                assert_close(found, expected, &what);
            }
            for name in ["batch_loss", "objective_reference", "objective_normalised"] {
                assert_close(
                    score[name].as_f64().unwrap(),
                    case[name].as_f64().unwrap(),
                    &format!("{what} {name}"),
                );
            }
        }
    }
}

/// What the reference's own package computes for its objective.
#[test]
fn objectives_of_the_reference() {
    let folder = Folder::new();
    for model in models() {
        let objective = &model.cases["objective"];
        let shots = model.shots(&folder, objective["shot_set"].as_str().unwrap());
        for case in objective["values"].as_array().unwrap() {
            let composition = serde_json::json!({
                "modules": objective["modules"], "weights": case["weights"], "rule": "reference"
            });
            let arguments: Vec<String> = model
                .base()
                .into_iter()
                .chain(model.composition(&composition))
                .collect();
            let score = run_json(&strs(&with("score", &arguments, &["--shots", &shots, "--json"])));
            let what = format!("{} {}", model.cases["model"], case["weights"]);
            let expected = case["objective_reference"].as_f64().unwrap();
            assert_close(score["objective_reference"].as_f64().unwrap(), expected, &what);
        }
    }
}

/// One by one, and all inputs of a composition together in one file.
#[test]
fn greedy_answers() {
    let folder = Folder::new();
    for model in models() {
        let mut together: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for case in model.cases["greedy"].as_array().unwrap() {
            let input = case["input"].as_str().unwrap();
            let arguments = model.arguments(case);
            let alone = with(
                "generate",
                &arguments,
                &["--input", input, "--max-new-tokens", "64", "--json"],
            );
            let answer = run_json(&strs(&alone));
            assert_eq!(answer["ids"], case["ids"], "{} {}", model.cases["model"], case["id"]);
            assert_eq!(answer["text"], case["text"], "{} {}", model.cases["model"], case["id"]);
            together.entry(case["composition"].to_string()).or_default().push(case);
        }
        for cases in together.values() {
            let rows: Vec<_> = cases.iter().map(|case| (case["input"].as_str().unwrap(), "")).collect();
            let file = write_rows(&folder, "inputs.jsonl", &rows);
            let arguments = model.arguments(cases[0]);
            let all = with(
                "generate",
                &arguments,
                &["--file", &file, "--max-new-tokens", "64", "--json"],
            );
            let ran = run(&strs(&all));
            assert_eq!(ran.code, 0, "{ran:?}");
            let answers: Vec<Value> = ran
                .stdout
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(answers.len(), cases.len());
            for (answer, case) in answers.iter().zip(cases) {
                assert_eq!(
                    answer["ids"], case["ids"],
                    "{} {} together",
                    model.cases["model"], case["id"]
                );
            }
        }
    }
}

/// An exported composition read back: its matrices against PEFT's, and its losses, as a module and merged.
#[test]
fn exports() {
    let folder = Folder::new();
    let mut compared = 0;
    for model in models() {
        let shots = model.shots(&folder, "five");
        for composition in model.compositions() {
            let arguments: Vec<String> = model.base().into_iter().chain(model.composition(composition)).collect();
            let what = format!(
                "{}-{}",
                model.cases["model"].as_str().unwrap(),
                composition["id"].as_str().unwrap()
            );
            let (adapter, merged) = (folder.join(&what), folder.join(&format!("{what}-merged")));
            run_json(&strs(&with("export", &arguments, &["--out", &adapter, "--json"])));
            run_json(&strs(&with(
                "export",
                &arguments,
                &["--out", &merged, "--merge", "--json"],
            )));
            compared += compare_matrices(&model, composition, Path::new(&adapter));

            let case = model.cases["losses"].as_array().unwrap().iter();
            let mut case = case.filter(|case| case["composition"] == composition["id"] && case["shot_set"] == "five");
            let expected = case.next().unwrap()["batch_loss"].as_f64().unwrap();
            let alone = [
                "--module",
                adapter.as_str(),
                "--weights=1",
                "--shots",
                shots.as_str(),
                "--json",
            ];
            let alone = run_json(&strs(&with("score", &model.base(), &alone)));
            assert_close(
                alone["batch_loss"].as_f64().unwrap(),
                expected,
                &format!("{what} exported"),
            );
            let alone = run_json(&["score", "--base", &merged, "--shots", &shots, "--json"]);
            assert_close(
                alone["batch_loss"].as_f64().unwrap(),
                expected,
                &format!("{what} merged"),
            );
        }
    }
    assert!(compared > 50, "{compared} matrices compared");
}

/// Compares with the matrices that the golden keeps of this composition; returns how many it did. Of rule `reference`
/// they are A and B by PEFT's key, of rule `exact` the update of each target.
fn compare_matrices(model: &Golden, composition: &Value, adapter: &Path) -> usize {
    let Some(arrays) = composition["arrays"].as_array().filter(|arrays| !arrays.is_empty()) else {
        return 0;
    };
    let golden = std::fs::read(model.folder.join("arrays.safetensors")).unwrap();
    let golden = SafeTensors::parse(&golden, &Limits::BASE).unwrap();
    let config = std::fs::read(adapter.join("adapter_config.json")).unwrap();
    let weights = std::fs::read(adapter.join("adapter_model.safetensors")).unwrap();
    let module = Module::from_peft("exported", &config, &weights, None).unwrap();
    let file = SafeTensors::parse(&weights, &Limits::ADAPTER).unwrap();
    for name in arrays {
        let name = name.as_str().unwrap();
        let key = name.splitn(3, '/').nth(2).unwrap();
        let expected = golden.f32(name).unwrap();
        let found = match composition["rule"].as_str().unwrap() {
            "reference" => file.f32(key).unwrap(),
            _ => delta(&module.pairs[key], module.scaling()),
        };
        assert_eq!(found.len(), expected.len(), "{name}");
        // Sums in f64 here and in f32 there: a few units in the last place of the largest value.
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() <= 1e-6 * largest.max(1.0),
                "{name}: {found}, expected {expected}"
            );
        }
    }
    arrays.len()
}

#[test]
fn long_shots_are_cut_with_a_warning() {
    let folder = Folder::new();
    let model = &models()[0];
    let truncation = &model.cases["truncation"];
    let times = truncation["times"].as_u64().unwrap() as usize;
    let long = truncation["unit"].as_str().unwrap().repeat(times);
    let shots = write_rows(&folder, "long.jsonl", &[("short", "yes"), (&long, "no")]);
    let arguments = with("score", &model.base(), &["--shots", &shots, "--json"]);
    let ran = run(&strs(&arguments));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("row 2 has more than 2048 tokens"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("row 1"), "{}", ran.stderr);
}
