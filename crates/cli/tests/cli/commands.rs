//! What each command does on the tiny base: defaults, families, plain output, inspect.

use lorahub_weights::{Limits, SafeTensors};
use serde_json::Value;

use crate::hostile::Adapter;
use crate::support::{Folder, run, run_json, run_refused, write_adapter, write_base, write_rows};

struct Tiny {
    folder: Folder,
    base: String,
    module: String,
    shots: String,
}

impl Tiny {
    fn new() -> Self {
        let folder = Folder::new();
        Self {
            base: write_base(&folder, "base"),
            module: write_adapter(&folder, "modules/one", &Adapter::valid()),
            shots: write_rows(&folder, "shots.jsonl", &[("red", "yes"), ("blue", "no")]),
            folder,
        }
    }

    fn score(&self, more: &[&str]) -> Value {
        let arguments = [
            "score",
            "--base",
            &self.base,
            "--module",
            &self.module,
            "--shots",
            &self.shots,
            "--json",
        ];
        run_json(&[&arguments[..], more].concat())
    }

    fn family(&self, place: &str, text: &str) -> String {
        self.folder.write(&format!("{place}family.json"), text)
    }
}

const FAMILY: &str = r#"{"schema": 1, "name": "toys", "rule": "exact", "license": "MIT", "base": "base",
    "modules": [{"name": "one", "path": "modules/one", "title": "One"}], "tasks": ["tasks/a.json"]}"#;

#[test]
fn a_family_gives_its_modules_their_rule() {
    let tiny = Tiny::new();
    assert_eq!(tiny.score(&["--weights=1"])["rule"], "reference");
    let family = tiny.family("", FAMILY);
    assert_eq!(tiny.score(&["--weights=1"])["rule"], "exact");
    assert_eq!(tiny.score(&["--weights=1", "--rule", "reference"])["rule"], "reference");
    let arguments = [
        "score",
        "--base",
        &tiny.base,
        "--module",
        &tiny.module,
        "--shots",
        &tiny.shots,
        "--weights=1",
    ];
    let ran = run(&arguments);
    assert!(
        ran.stderr.contains("rule `exact` (as the family `toys` says)"),
        "{}",
        ran.stderr
    );

    // A module that lies there but is not of the family has the default rule, and the two do not mix unasked.
    let stray = write_adapter(&tiny.folder, "modules/stray", &Adapter::valid());
    let stray_alone = run_json(&[
        "score",
        "--base",
        &tiny.base,
        "--module",
        &stray,
        "--shots",
        &tiny.shots,
        "--weights=1",
        "--json",
    ]);
    assert_eq!(stray_alone["rule"], "reference");
    run_refused(
        &[
            "score",
            "--base",
            &tiny.base,
            "--module",
            &tiny.module,
            &stray,
            "--shots",
            &tiny.shots,
            "--weights=1,1",
        ],
        2,
        &["error[usage]", "say which with --rule"],
    );

    for (text, says) in [
        ("", "is not the description of a family"),
        ("[]", "is not the description of a family"),
        (r#"{"schema": 1}"#, "missing field"),
        (&FAMILY.replace("exact", "sum"), "unknown variant `sum`"),
        (
            &FAMILY.replace("\"schema\": 1", "\"schema\": 2"),
            "has schema 2, expected 1",
        ),
    ] {
        std::fs::write(&family, text).unwrap();
        run_refused(&arguments, 1, &["error[family]", "family.json", says, "--rule"]);
        assert_eq!(
            tiny.score(&["--weights=1", "--rule", "exact"])["rule"],
            "exact",
            "it is not asked for a rule"
        );
    }
}

#[test]
fn an_export_carries_the_licence_of_the_family() {
    let tiny = Tiny::new();
    tiny.family("", FAMILY);
    let out = tiny.folder.join("out");
    let arguments = [
        "export",
        "--base",
        &tiny.base,
        "--module",
        &tiny.module,
        "--weights=-0.5",
        "--out",
        &out,
        "--json",
    ];
    let exported = run_json(&arguments);
    assert_eq!(exported["rule"], "exact");
    assert_eq!(exported["rank"], 2);
    let weights = std::fs::metadata(format!("{out}/adapter_model.safetensors")).unwrap();
    assert_eq!(exported["bytes"].as_u64(), Some(weights.len()));
    let card = std::fs::read_to_string(format!("{out}/README.md")).unwrap();
    assert!(card.contains("license: \"MIT\"") && card.contains("-0.5"), "{card}");
}

#[test]
fn a_merged_base_is_one_in_f32() {
    let tiny = Tiny::new();
    tiny.folder.write("base/generation_config.json", "{}");
    let out = tiny.folder.join("merged");
    let arguments = [
        "export",
        "--base",
        &tiny.base,
        "--module",
        &tiny.module,
        "--weights=0.25",
        "--out",
        &out,
        "--merge",
    ];
    let ran = run(&arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    let config: Value = serde_json::from_slice(&std::fs::read(format!("{out}/config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "float32");
    assert!(std::path::Path::new(&format!("{out}/generation_config.json")).is_file());
    let merged = run_json(&["score", "--base", &out, "--shots", &tiny.shots, "--json"]);
    let composed = tiny.score(&["--weights=0.25"]);
    let (merged, composed) = (
        merged["batch_loss"].as_f64().unwrap(),
        composed["batch_loss"].as_f64().unwrap(),
    );
    assert!(
        (merged - composed).abs() < 1e-5 * composed.max(1.0),
        "{merged}, {composed}"
    );
}

#[test]
fn without_json_there_is_a_summary() {
    let tiny = Tiny::new();
    let out = tiny.folder.join("out");
    let with = |command: &'static str, more: &[&'static str]| {
        let arguments = [command, "--base", &tiny.base, "--module", &tiny.module];
        run(&[&arguments[..], more].concat())
    };
    let (shots, out): (&'static str, &'static str) = (tiny.shots.clone().leak(), out.leak());
    for (ran, says) in [
        (
            with("adapt", &["--shots", shots, "--budget", "5", "--out", out]),
            "5 evaluations",
        ),
        (with("score", &["--shots", shots, "--weights=1"]), "over 2 shots"),
        (
            with("eval", &["--test", shots, "--weights=1", "--baselines"]),
            "exact match on 2 rows",
        ),
        (with("export", &["--weights=1", "--out", out]), "bytes of weights"),
    ] {
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains(says), "{ran:?}");
    }
}

#[test]
fn inputs_come_as_text_or_as_json_lines() {
    let tiny = Tiny::new();
    let generate = |file: &str| {
        let arguments = [
            "generate",
            "--base",
            &tiny.base,
            "--file",
            file,
            "--max-new-tokens",
            "3",
            "--json",
        ];
        let ran = run(&arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    let text = generate(&tiny.folder.write("inputs.txt", "red\nblue\n\nred"));
    let json = generate(&tiny.folder.write(
        "inputs.jsonl",
        "{\"input\":\"red\"}\n\n{\"context\":\"blue\",\"completion\":1}\n{\"input\":\"\"}\n",
    ));
    assert_eq!(text.len(), 4);
    assert_eq!(text[..3], json[..]);
    assert_eq!(text[0], text[3]);
    for answer in text {
        assert!(answer["ids"].as_array().unwrap().len() <= 3);
    }
    let one = run_json(&[
        "generate",
        "--base",
        &tiny.base,
        "--input",
        "-red",
        "--max-new-tokens",
        "3",
        "--json",
    ]);
    assert!(one["text"].is_string());
    for (file, line, says) in [
        ("", 1, "empty"),
        ("{\"input\":\"a\"}\n{\"input\":1}", 2, "should be a string"),
        ("{\"input\":\"a\"}\n\n{\"output\":\"a\"}", 3, "rename the field"),
        ("{\"input\":\"a\"}\nplain", 2, "syntax error"),
    ] {
        let file = tiny.folder.write("bad", file);
        run_refused(
            &["generate", "--base", &tiny.base, "--file", &file],
            1,
            &["error[inputs]", &format!("line {line}:"), says],
        );
    }
    let latin = tiny.folder.write("latin", b"red\nblu\xe9");
    run_refused(
        &["generate", "--base", &tiny.base, "--file", &latin],
        1,
        &["error[inputs]", "line 2: not UTF-8"],
    );
}

#[test]
fn inspect_says_what_it_is_and_whether_it_fits() {
    let tiny = Tiny::new();
    let base = run_json(&["inspect", &tiny.base, "--json"]);
    assert_eq!(
        (&base["kind"], &base["targets"]),
        (&Value::from("base"), &Value::from(18))
    );
    assert!(base["parameters"].as_u64().unwrap() > 0);
    let adapter = run_json(&["inspect", &tiny.module, "--json"]);
    assert_eq!(adapter["kind"], "adapter");
    assert_eq!(
        (adapter["rank"].as_u64(), adapter["scaling"].as_f64()),
        (Some(2), Some(2.0))
    );
    assert_eq!(adapter["target_modules"], serde_json::json!(["q", "v"]));
    assert_eq!(adapter.get("fits"), None, "nobody asked");
    assert_eq!(
        run_json(&["inspect", &tiny.module, "--base", &tiny.base, "--json"])["fits"],
        true
    );
    let rows = run_json(&["inspect", &tiny.shots, "--base", &tiny.base, "--json"]);
    assert_eq!((&rows["kind"], &rows["n"]), (&Value::from("rows"), &Value::from(2)));
    assert_eq!(rows["longest_input_tokens"], 2);
    assert_eq!(rows["rows_to_be_cut"], 0);

    let deeper = Adapter::valid().renamed(|key| key.replace("encoder.block.0", "encoder.block.7"));
    let deeper = write_adapter(&tiny.folder, "modules/deeper", &deeper);
    let ran = run(&["inspect", &deeper, "--base", &tiny.base, "--json"]);
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["fits"], false);
    assert!(
        ran.stderr.contains("error[does_not_fit]") && ran.stderr.contains("encoder.block.7"),
        "{}",
        ran.stderr
    );

    tiny.family("", FAMILY);
    let root = tiny.folder.path().to_str().unwrap();
    let family = run_json(&["inspect", root, "--json"]);
    assert_eq!(
        (&family["kind"], &family["rule"], &family["fits"]),
        (&"family".into(), &"exact".into(), &true.into())
    );
    assert_eq!(family["modules"][0], serde_json::json!({ "name": "one", "fits": true }));
    let plain = run(&["inspect", root]);
    assert!(plain.stdout.contains("modules: one"), "{plain:?}");

    let empty = tiny.folder.join("modules");
    run_refused(
        &["inspect", &empty],
        1,
        &["error[unknown_kind]", "give a base, an adapter"],
    );
    run_refused(
        &["inspect", &tiny.folder.join("nowhere")],
        1,
        &["error[read]", "nowhere"],
    );
}

#[test]
fn help_and_version_succeed() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["adapt", "--help"],
        &["inspect", "--help"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 0);
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    }
}

/// The public LoRAHub modules are `adapter_model.bin`.
#[test]
fn the_older_form_of_a_module_is_the_same_module() {
    let tiny = Tiny::new();
    let expected = tiny.score(&["--weights=0.8"]);
    let path = tiny.folder.path().join("modules/one/adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::parse(&bytes, &Limits::ADAPTER).unwrap();
    let tensor = |name: &str| {
        let data = file
            .f32(name)
            .unwrap()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        (name.to_owned(), file.shape(name).unwrap().to_vec(), data)
    };
    let tensors: Vec<_> = file.names().map(tensor).collect();
    tiny.folder
        .write("modules/one/adapter_model.bin", crate::torch::archive_of(&tensors));
    std::fs::remove_file(path).unwrap();
    assert_eq!(tiny.score(&["--weights=0.8"]), expected);
}
