//! Adapters that PEFT wrote, and the matrices that PEFT and torch composed of them (`tests/golden`).

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lorahub_adapters::{Bank, BaseSpec, Module, Provenance, Rule, TargetSpec, compose, export, merge};
use lorahub_weights::{Limits, SafeTensors};
use serde_json::Value;
use support::assert_close;

/// The golden sums were taken in f32 (torch adds `w_i * A_i` term by term), ours in f64: a few roundings of 2^-24.
const TOLERANCE: f64 = 5e-7;

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folders of the golden models; there must be some.
fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut models: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    models.retain(|path| path.join("cases.json").is_file());
    models.sort();
    assert!(!models.is_empty(), "no golden models in {}", folder.display());
    models
}

/// The base's linears, as its own weight file has them.
fn base_spec(file: &SafeTensors<'_>) -> BaseSpec {
    let leaves = ["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"];
    let target = |name: &str| {
        let path = name.strip_suffix(".weight")?;
        let leaf = path.rsplit_once('.')?.1;
        let shape = file.shape(name).expect("listed");
        leaves.contains(&leaf).then(|| TargetSpec {
            path: path.to_owned(),
            d_in: shape[1],
            d_out: shape[0],
        })
    };
    BaseSpec {
        targets: file.names().filter_map(target).collect(),
        ..BaseSpec::default()
    }
}

fn module(model: &Path, name: &str, base: &BaseSpec) -> Module {
    let folder = model.join("modules").join(name);
    let (config, tensors) = (
        read(&folder.join("adapter_config.json")),
        read(&folder.join("adapter_model.safetensors")),
    );
    Module::from_peft(name, &config, &tensors, Some(base)).unwrap_or_else(|error| panic!("{error}"))
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a name"))
        .collect()
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[test]
fn what_peft_writes_is_imported() {
    for model in models() {
        let bytes = read(&model.join("base/model.safetensors"));
        let base = base_spec(&SafeTensors::parse(&bytes, &Limits::BASE).expect("a base"));
        let cases = json(&model.join("cases.json"));
        let modules = cases["modules"].as_object().expect("modules");
        assert!(modules.len() >= 2, "{}", model.display());
        for (name, expected) in modules {
            let module = module(&model, name, &base);
            assert_eq!(module.rank as u64, expected["rank"].as_u64().expect("a rank"), "{name}");
            assert_eq!(module.alpha, expected["alpha"].as_f64().expect("an alpha"), "{name}");
            // What we export of it is what PEFT wrote, but for the settings that are off.
            let files = export(&module, &Provenance::default()).expect("exports");
            let folder = model.join("modules").join(name);
            let theirs = read(&folder.join("adapter_model.safetensors"));
            let theirs = SafeTensors::parse(&theirs, &Limits::ADAPTER).expect("PEFT's");
            let ours = SafeTensors::parse(&files.safetensors, &Limits::ADAPTER).expect("ours");
            assert_eq!(
                ours.names().collect::<Vec<_>>(),
                theirs.names().collect::<Vec<_>>(),
                "{name}"
            );
            for key in theirs.names() {
                assert_eq!(ours.shape(key), theirs.shape(key), "{name}, {key}");
                assert_eq!(ours.f32(key), theirs.f32(key), "{name}, {key}");
            }
            let config: Value = serde_json::from_str(&files.config_json).expect("JSON");
            let peft = json(&folder.join("adapter_config.json"));
            for (key, value) in config.as_object().expect("an object") {
                match key.as_str() {
                    "target_modules" => {
                        // PEFT may list whole paths; the tensors' names above show that both mean the same linears.
                        let leaves = |value| -> BTreeSet<String> {
                            let leaf = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
                            names(value).into_iter().map(leaf).collect()
                        };
                        assert_eq!(leaves(value), leaves(&peft[key]), "{name}");
                    }
                    // Training only; not kept.
                    "lora_dropout" => {}
                    _ => assert_eq!(value, &peft[key], "{name}, {key}"),
                }
            }
        }
    }
}

#[test]
fn composed_matrices_are_those_of_peft_and_torch() {
    for model in models() {
        let bytes = read(&model.join("base/model.safetensors"));
        let base_file = SafeTensors::parse(&bytes, &Limits::BASE).expect("a base");
        let base = base_spec(&base_file);
        let cases = json(&model.join("cases.json"));
        let arrays = read(&model.join("arrays.safetensors"));
        let arrays = SafeTensors::parse(&arrays, &Limits::BASE).expect("arrays");
        let mut compared = 0;
        for case in cases["compositions"].as_array().expect("compositions") {
            let id = case["id"].as_str().expect("an id");
            let what = format!("{} {id}", model.display());
            let rule: Rule = case["rule"].as_str().expect("a rule").parse().expect("one of two");
            let weights: Vec<_> = case["weights"]
                .as_array()
                .expect("weights")
                .iter()
                .map(|w| w.as_f64().expect("a weight"))
                .collect();
            let modules = names(&case["modules"])
                .into_iter()
                .map(|name| module(&model, name, &base))
                .collect();
            let composed = compose(&Bank::new(modules, rule).expect("a bank"), &weights).expect("composes");
            let files = export(&composed, &Provenance::default()).expect("exports");
            let exported = SafeTensors::parse(&files.safetensors, &Limits::ADAPTER).expect("ours");
            Module::from_peft(id, files.config_json.as_bytes(), &files.safetensors, Some(&base))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let prefix = format!("composed/{id}/");
            for array in arrays.names().filter(|name| name.starts_with(&prefix)) {
                let key = &array[prefix.len()..];
                let expected = wide(arrays.f32(array).expect("finite"));
                let found = match rule {
                    Rule::Reference => exported.f32(key).expect("the same key"),
                    // PEFT's `cat` is compared as the update that it makes.
                    Rule::Exact => composed.delta(key).expect("the same target"),
                };
                assert_close(&found, &expected, TOLERANCE, &format!("{what}, {key}"));
                compared += 1;
            }
            for tensor in merge(&composed, &base_file).expect("fits") {
                let tensor = tensor.expect("merges");
                let mut expected = wide(base_file.f32(&tensor.name).expect("finite"));
                if let Some(update) = tensor
                    .name
                    .strip_suffix(".weight")
                    .and_then(|path| composed.delta(path))
                {
                    expected
                        .iter_mut()
                        .zip(update)
                        .for_each(|(weight, update)| *weight += f64::from(update));
                }
                assert_close(
                    &tensor.data,
                    &expected,
                    TOLERANCE,
                    &format!("{what}, merged {}", tensor.name),
                );
            }
        }
        let kept = arrays.names().filter(|name| name.starts_with("composed/")).count();
        assert_eq!(
            compared,
            kept,
            "every composed matrix of {} is compared",
            model.display()
        );
    }
}
