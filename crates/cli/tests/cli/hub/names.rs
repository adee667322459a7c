//! The way of a user: download by name, use by name, look, verify, delete; and a hub that changes.

use std::path::{Path, PathBuf};

use lorahub_hub::{Sha256, public_manifest};
use lorahub_t5::Config;
use serde_json::{Value, json};

use super::cdn::{Cdn, Rng};
use crate::support::{argument, numbers, write_rows};

const LARGE: &str = "google/flan-t5-large";
const FIRST: &str = "0123456789abcdef0123456789abcdef01234567";
const SECOND: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/gated")
}

/// A module of rank 16 on q and v of the golden base, as the public ones are stored.
fn module(seed: u64) -> (String, Vec<u8>) {
    let mut random = Rng(seed);
    let config = std::fs::read(golden().join("base/config.json")).unwrap();
    let mut tensors = Vec::new();
    for target in Config::from_json(&config).unwrap().base_spec().targets {
        if !(target.path.ends_with(".q") || target.path.ends_with(".v")) {
            continue;
        }
        for (matrix, shape) in [("A", [16, target.d_in]), ("B", [target.d_out, 16])] {
            let mut value = || (random.next() >> 40) as f32 / (1 << 24) as f32 * 0.2 - 0.1;
            let data = (0..shape[0] * shape[1]).flat_map(|_| value().to_le_bytes()).collect();
            let name = format!("base_model.model.{}.lora_{matrix}.weight", target.path);
            tensors.push((name, shape.to_vec(), data));
        }
    }
    let config = json!({ "peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": 16, "lora_alpha": 32,
                         "target_modules": ["q", "v"], "base_model_name_or_path": LARGE });
    (config.to_string(), crate::torch::archive_of(&tensors))
}

/// A hub whose flan-t5-large is the golden base, with the twenty modules of the reference's seed 42.
fn public() -> (Cdn, Vec<String>) {
    let cdn = Cdn::start();
    cdn.copy(LARGE, &golden().join("base"));
    let manifest = public_manifest().unwrap();
    let set = manifest.sets.iter().find(|set| set.name == "seed-42").unwrap();
    for (seed, name) in set.modules.iter().enumerate() {
        let (config, weights) = module(seed as u64);
        let repository = format!("lorahub/flan_t5_large-{name}");
        cdn.write(&repository, "adapter_config.json", config.as_bytes());
        cdn.write(&repository, "adapter_model.bin", &weights);
    }
    (cdn, set.modules.clone())
}

fn without_seconds(mut value: Value) -> Value {
    value.as_object_mut().unwrap().remove("seconds").unwrap();
    value
}

#[test]
fn twenty_public_modules_compose_by_name_as_from_folders() {
    let (cdn, names) = public();
    let shots = write_rows(
        &cdn.folder,
        "shots.jsonl",
        &[("count red", "open one"), ("two plum", "door")],
    );
    let adapt = |base: &str, modules: &[&str]| {
        let more = ["--shots", &shots, "--budget", "60", "--seed", "2", "--json"];
        cdn.run(&[&["adapt", "--base", base][..], modules, &more].concat())
    };
    // Before: each error names the command.
    let download_base = format!("`lorahub download {LARGE}`");
    let ran = adapt(LARGE, &["--set", "seed-42"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("error[not_downloaded]"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`lorahub download --set seed-42`"),
        "{}",
        ran.stderr
    );
    cdn.refused(&["inspect", LARGE], 1, &["error[not_downloaded]", &download_base]);
    cdn.refused(&["inspect", &names[0]], 1, &["error[not_downloaded]", &names[0]]);

    let told = cdn.run(&cdn.download(&["--set", "seed-42"]));
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(
        told.stderr.contains("go with the base `google/flan-t5-large`"),
        "{}",
        told.stderr
    );
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["entries"].as_array().unwrap().len(), 20);
    let told = cdn.run_json(&cdn.download(&[LARGE]));
    assert_eq!(told["entries"][0]["commit_from"], "main");
    for file in told["entries"][0]["files"].as_array().unwrap() {
        let path = golden().join("base").join(file["path"].as_str().unwrap());
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(file["sha256"], Sha256::of(&bytes).to_string());
        assert!(cdn.kept(Sha256::of(&bytes)) == Some(bytes));
    }

    // A folder for each, with the same content and name.
    let base = argument(&golden().join("base"));
    let folder = |name: &String| {
        let folder = cdn.folder.path().join("modules").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["adapter_config.json", "adapter_model.bin"] {
            let from = cdn
                .folder
                .path()
                .join(format!("root/lorahub/flan_t5_large-{name}/{file}"));
            std::fs::copy(from, folder.join(file)).unwrap();
        }
        argument(&folder)
    };
    let folders: Vec<String> = names.iter().map(folder).collect();
    let by_folder: Vec<&str> = std::iter::once("--module")
        .chain(folders.iter().map(String::as_str))
        .collect();
    let by_name: Vec<&str> = std::iter::once("--module")
        .chain(names.iter().map(String::as_str))
        .collect();
    let result = |base: &str, modules: &[&str]| {
        let ran = adapt(base, modules);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        without_seconds(serde_json::from_str(&ran.stdout).unwrap())
    };
    let expected = result(&base, &by_folder);
    assert_eq!(numbers(&expected["weights"]).len(), 20);
    assert_eq!(expected["rule"], "reference");
    assert_eq!(result(LARGE, &by_name), expected);
    assert_eq!(result(LARGE, &["--set", "seed-42"]), expected);

    let inspected = cdn.run_json(&["inspect", &names[3], "--base", LARGE, "--json"]);
    assert_eq!((&inspected["rank"], &inspected["fits"]), (&json!(16), &json!(true)));
    cdn.refused(
        &["inspect", &names[0], "--base", &names[1]],
        2,
        &["expected a base", "--module"],
    );
    cdn.refused(
        &["adapt", "--base", LARGE, "--set", "seed-43", "--shots", &shots],
        1,
        &["error[not_listed]", "seed-42"],
    );

    // The composed module says what it was made of.
    let out = cdn.folder.join("out");
    let weights = format!("--weights={}", vec!["0.5"; 20].join(","));
    cdn.run_json(&[
        "export", "--base", LARGE, "--set", "seed-42", &weights, "--out", &out, "--json",
    ]);
    let card = std::fs::read_to_string(format!("{out}/README.md")).unwrap();
    assert!(card.contains(&names[0]), "{card}");
    let merged = cdn.folder.join("merged");
    let merge = [
        "export", "--merge", "--base", LARGE, "--set", "seed-42", &weights, "--out", &merged, "--json",
    ];
    assert_eq!(cdn.run_json(&merge)["merged"], true);
    cdn.run_json(&["inspect", &merged, "--json"]);
}

#[test]
fn the_store_lists_verifies_and_deletes() {
    let cdn = Cdn::start();
    cdn.copy("google/flan-t5-small", &golden().join("base"));
    cdn.copy("google/flan-t5-base", &golden().join("base"));
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["bytes"], 0);
    assert_eq!(cdn.run_json(&["store", "verify", "--json"])["files"], 0);
    cdn.run_json(&cdn.download(&["google/flan-t5-small", "google/flan-t5-base"]));
    let listed = cdn.run_json(&["store", "list", "--json"]);
    assert_eq!(listed["entries"].as_array().unwrap().len(), 2);
    assert_eq!(listed["entries"][0]["whole"], true);
    assert_eq!(cdn.files(), 3, "two names for one content");
    let plain = cdn.run(&["store", "list"]);
    assert!(
        plain.stdout.contains("google/flan-t5-base") && plain.stdout.contains("404.2 kB"),
        "{}",
        plain.stdout
    );

    // The storage flips a bit.
    let weights = std::fs::read(golden().join("base/model.safetensors")).unwrap();
    let hash = Sha256::of(&weights).to_string();
    let path = cdn.folder.path().join("store/files").join(&hash);
    let mut spoilt = weights.clone();
    spoilt[200_000] ^= 4;
    std::fs::write(&path, spoilt).unwrap();
    let ran = cdn.run(&["store", "verify", "--json"]);
    assert_eq!(ran.code, 1);
    let verified: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(verified["corrupt"], json!([hash]));
    let remedy = format!("`lorahub store delete {hash}`");
    assert!(
        ran.stderr.contains("error[hub-corrupt]") && ran.stderr.contains(&remedy),
        "{}",
        ran.stderr
    );
    cdn.refused(
        &["generate", "--base", "google/flan-t5-small", "--input", "x"],
        1,
        &["error[hub-corrupt]", &hash],
    );
    cdn.run_json(&["store", "delete", &hash, "--json"]);
    let gone = ["generate", "--base", "google/flan-t5-small", "--input", "x"];
    cdn.refused(
        &gone,
        1,
        &["error[not_downloaded]", "`lorahub download google/flan-t5-small`"],
    );
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["entries"][0]["whole"], false);
    let told = cdn.run_json(&cdn.download(&["google/flan-t5-small"]));
    let fetched: Vec<_> = told["entries"][0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["fetched"])
        .collect();
    assert_eq!(fetched, [&json!(0), &json!(0), &json!(weights.len())]);

    // What another name needs stays.
    assert_eq!(
        cdn.run_json(&["store", "delete", "google/flan-t5-small", "--json"])["files"],
        0
    );
    cdn.run_json(&[
        "generate",
        "--base",
        "google/flan-t5-base",
        "--input",
        "count red",
        "--json",
    ]);
    cdn.refused(
        &["store", "delete", "google/flan-t5-small"],
        1,
        &["error[not_in_store]"],
    );
    let deleted = cdn.run_json(&["store", "delete", "--all", "--json"]);
    assert_eq!((&deleted["files"], cdn.files()), (&json!(3), 0));
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["entries"], json!([]));
}

#[test]
fn a_main_that_moves_is_shown_and_not_taken() {
    let cdn = Cdn::start();
    let old = cdn.write("google/flan-t5-small", "config.json", b"old");
    let new = cdn.write(&format!("google/flan-t5-small@{SECOND}"), "config.json", b"newer");
    for repository in [
        "google/flan-t5-small".to_owned(),
        format!("google/flan-t5-small@{SECOND}"),
    ] {
        cdn.write(&repository, "tokenizer.json", b"{}");
        cdn.write(&repository, "model.safetensors", &[7; 4000]);
    }
    cdn.moves("google/flan-t5-small", FIRST);
    let download = cdn.download(&["google/flan-t5-small"]);
    let told = cdn.run_json(&download);
    assert_eq!(
        (&told["entries"][0]["commit"], &told["entries"][0]["commit_from"]),
        (&json!(FIRST), &json!("main"))
    );

    cdn.moves("google/flan-t5-small", SECOND);
    let ran = cdn.run(&download);
    assert!(
        ran.stderr.contains(SECOND) && ran.stderr.contains("is not taken"),
        "{}",
        ran.stderr
    );
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let entry = &told["entries"][0];
    assert_eq!((&entry["commit"], &entry["main"]), (&json!(FIRST), &json!(SECOND)));
    assert_eq!(entry["commit_from"], "recorded");
    assert!(cdn.kept(old).is_some() && cdn.kept(new).is_none());
    // Nor after everything was deleted by name.
    cdn.run_json(&["store", "delete", "google/flan-t5-small", "--json"]);
    assert_eq!(cdn.run_json(&download)["entries"][0]["commit"], FIRST);

    // The way to take it.
    let pinned = cdn.folder.join("pinned.json");
    let refresh = [
        "manifest",
        "--refresh",
        "google/flan-t5-small",
        "--hub",
        &cdn.origin,
        "--out",
        &pinned,
    ];
    let ran = cdn.run(&refresh);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&format!("commit: not known -> {SECOND}")),
        "{}",
        ran.stderr
    );
    let told = cdn.run_json(&[&download[..], &["--manifest", &pinned]].concat());
    assert_eq!(
        (&told["entries"][0]["commit"], &told["entries"][0]["commit_from"]),
        (&json!(SECOND), &json!("manifest"))
    );
    assert!(cdn.kept(new).is_some());
    assert_eq!(
        cdn.run_json(&download)["entries"][0]["commit"],
        SECOND,
        "and from then on"
    );

    // A manifest that knows keeps what it knows, unless told otherwise.
    cdn.moves("google/flan-t5-small", FIRST);
    let read = |path: &str| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let before = read(&pinned);
    assert_eq!(before["bases"][0]["files"][2]["size"], 4000);
    assert!(before["bases"][0]["files"][2]["sha256"].is_string());
    let again = [&refresh[..], &["--manifest", &pinned]].concat();
    let ran = cdn.run(&again);
    for words in [
        &format!("warning: google/flan-t5-small: commit: {SECOND} -> {FIRST}"),
        "5 bytes -> 3 bytes",
        "--accept",
    ] {
        assert!(ran.stderr.contains(words), "no `{words}` in {}", ran.stderr);
    }
    assert_eq!(read(&pinned), before);
    cdn.run(&[&again[..], &["--accept"]].concat());
    assert_eq!(read(&pinned)["bases"][0]["commit"], FIRST);
}

#[test]
fn a_manifest_of_what_is_here_knows_its_parts() {
    let cdn = Cdn::start();
    // Two parts and a bit.
    let weights = Rng(1).bytes(17 << 20);
    for (file, bytes) in [
        ("config.json", &b"{}"[..]),
        ("tokenizer.json", b"[]"),
        ("model.safetensors", &weights),
    ] {
        cdn.write("google/flan-t5-small", file, bytes);
    }
    cdn.moves("google/flan-t5-small", FIRST);
    cdn.run_json(&cdn.download(&["google/flan-t5-small"]));
    let out = cdn.folder.join("parts.json");
    let ran = cdn.run(&["manifest", "--parts", "--out", &out]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("3 files"), "{}", ran.stderr);
    let manifest: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let base = &manifest["bases"][0];
    assert_eq!(base["commit"], FIRST);
    let hashes: Vec<_> = weights
        .chunks(8 << 20)
        .map(|part| Sha256::of(part).to_string())
        .collect();
    assert_eq!(
        base["files"][2]["chunks"],
        json!({ "bytes": 8 << 20, "sha256": hashes })
    );

    // With it nothing is asked of the API, and a flipped bit costs a part.
    cdn.run_json(&["store", "delete", "--all", "--json"]);
    cdn.faults(&json!([
        { "kind": "flip", "at": 9 << 20 },
        { "kind": "status", "status": 404, "hop": "api", "count": null }
    ]));
    let told = cdn.run_json(&cdn.download(&["google/flan-t5-small", "--manifest", &out]));
    assert_eq!(told["entries"][0]["files"][2]["fetched"], (17 << 20) + (8 << 20));
    assert!(cdn.kept(Sha256::of(&weights)) == Some(weights));
}

#[test]
fn manifests_are_printed_and_checked() {
    let cdn = Cdn::start();
    let printed = cdn.run(&["manifest"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert_eq!(printed.stdout, public_manifest().unwrap().to_json().unwrap());
    let wrong = cdn.folder.write("wrong.json", r#"{"version": 9}"#);
    cdn.refused(
        &["manifest", "--manifest", &wrong],
        1,
        &["error[manifest-version]", "wrong.json"],
    );
    cdn.refused(
        &["manifest", "--manifest", "nowhere.json"],
        1,
        &["error[read]", "nowhere.json"],
    );
    cdn.refused(&["manifest", "trec"], 2, &["--refresh"]);
    cdn.refused(&["manifest", "trec", "--parts"], 1, &["error[not_in_store]", "trec"]);
    cdn.refused(
        &["download", "google/flan-t5"],
        1,
        &["error[not_listed]", "`google/flan-t5-small`"],
    );
    cdn.refused(&["download", "--set", "seed"], 1, &["error[not_listed]", "seed-42"]);
    // The public base has another list of files than this repository.
    cdn.write("google/flan-t5-base", "config.json", b"{}");
    cdn.refused(
        &cdn.download(&["google/flan-t5-base"]),
        1,
        &["error[manifest-no-file]", "tokenizer.json"],
    );
    cdn.refused(
        &cdn.download(&["google/flan-t5-small"]),
        1,
        &["error[hub-not-found]", "revision/main"],
    );
}
