//! Adapters that PEFT wrote in many configurations (`tests/golden/adapters`), on the CPU: alone, composed, and exported.

use std::path::PathBuf;
use std::rc::Rc;

use lorahub_adapters::{Bank, Module, Provenance, Rule, compose, export};
use lorahub_t5::Model;
use lorahub_tensor::Cpu;
use lorahub_weights::{Limits, SafeTensors};
use pollster::block_on;
use serde_json::{Value, from_value};

use crate::family::{golden_folder, load_model, read};

/// The numbers of an adapter's file are the same in f32, whatever their format, and PEFT computes with them in f32. So
/// only the order of sums differs.
const TOLERANCE: f32 = 1e-4;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The adapters with the base they are for.
struct Adapters {
    folder: PathBuf,
    model: Rc<Model<Cpu>>,
    cases: Value,
    arrays: Vec<u8>,
}

impl Adapters {
    fn load() -> Self {
        let folder = golden_folder().join("adapters");
        let cases: Value = serde_json::from_slice(&read(&folder.join("cases.json"))).unwrap();
        let base = golden_folder().join("models").join(text(&cases["model"]));
        Self {
            model: load_model(&Rc::new(Cpu::new()), &base),
            arrays: read(&folder.join("arrays.safetensors")),
            folder,
            cases,
        }
    }

    fn list(&self, field: &str) -> &[Value] {
        self.cases[field].as_array().unwrap()
    }

    fn config(&self, name: &str) -> Value {
        let file = self.folder.join("imported").join(name).join("adapter_config.json");
        serde_json::from_slice(&read(&file)).unwrap()
    }

    /// The adapter `name` as it is, or with another configuration.
    fn module(&self, name: &str, config: &Value) -> Module {
        let adapter = self.list("adapters").iter().find(|adapter| adapter["name"] == name);
        let file = text(&adapter.unwrap()["file"]);
        let weights = read(&self.folder.join("imported").join(name).join(file));
        let spec = self.model.base_spec();
        Module::from_peft(name, config.to_string().as_bytes(), &weights, Some(&spec))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn bank(&self, names: &[String], rule: Rule) -> Bank {
        let modules = names.iter().map(|name| self.module(name, &self.config(name)));
        Bank::new(modules.collect(), rule).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The logit cases of an adapter or a composition; there must be some.
    fn logits(&self, field: &str, name: &str) -> Vec<&Value> {
        let of_name = |case: &&Value| case[field] == name;
        let cases: Vec<&Value> = self.list("logits").iter().filter(of_name).collect();
        assert!(cases.len() >= 3, "{name}: only {} cases", cases.len());
        cases
    }

    /// How far the bank's composition is from PEFT's logits, in tolerances; the worst value of these cases.
    fn distance(&self, cases: &[&Value], bank: &Bank, weights: &[f64]) -> f32 {
        let arrays = SafeTensors::parse(&self.arrays, &Limits::BASE).unwrap();
        let mut worst = 0f32;
        for case in cases {
            let expected = arrays.f32(text(&case["array"])).unwrap();
            let ids = |field: &str| -> Vec<u32> { from_value(case[field].clone()).unwrap() };
            let (input, target) = (ids("input_ids"), ids("target_ids"));
            let found = block_on(self.model.logits(Some((bank, weights)), &input, &target)).unwrap();
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(1f32, |max, value| max.max(value.abs()));
            for (a, b) in found.iter().zip(&expected) {
                // A NaN must not pass for a small difference.
                let distance = (a - b).abs() / (TOLERANCE * largest);
                worst = if distance.is_nan() {
                    f32::INFINITY
                } else {
                    worst.max(distance)
                };
            }
        }
        worst
    }
}

#[test]
fn every_adapter_gives_what_peft_gives_under_either_rule() {
    let all = Adapters::load();
    let adapters = all.list("adapters");
    assert!(adapters.len() >= 12, "only {} adapters", adapters.len());
    for adapter in adapters {
        let name = text(&adapter["name"]);
        for rule in [Rule::Reference, Rule::Exact] {
            let bank = all.bank(&[name.to_owned()], rule);
            let distance = all.distance(&all.logits("adapter", name), &bank, &[1.0]);
            assert!(distance <= 1.0, "{name} {rule}: {distance} tolerances");
        }
    }
}

/// On the device from the bank, and as one module that was exported and imported again.
#[test]
fn compositions_of_unequal_adapters_give_what_peft_gives() {
    let all = Adapters::load();
    let spec = all.model.base_spec();
    let (mut unequal_ranks, mut folded) = (0, 0);
    for composition in all.list("compositions") {
        let id = text(&composition["id"]);
        let rule: Rule = text(&composition["rule"]).parse().unwrap();
        let weights: Vec<f64> = from_value(composition["weights"].clone()).unwrap();
        let names: Vec<String> = from_value(composition["adapters"].clone()).unwrap();
        let cases = all.logits("composition", id);
        let bank = all.bank(&names, rule);
        folded += bank.notes().len();
        let distance = all.distance(&cases, &bank, &weights);
        assert!(distance <= 1.0, "{id}: {distance} tolerances");
        let composed = compose(&bank, &weights).unwrap();
        unequal_ranks += usize::from(composed.exceptions() > 0);
        let files = export(&composed, &Provenance::default()).unwrap();
        let back = Module::from_peft(id, files.config_json.as_bytes(), &files.safetensors, Some(&spec))
            .unwrap_or_else(|error| panic!("{error}"));
        let distance = all.distance(&cases, &Bank::new(vec![back], Rule::Exact).unwrap(), &[1.0]);
        assert!(distance <= 1.0, "{id}, exported: {distance} tolerances");
    }
    assert!(unequal_ranks >= 3 && folded >= 3, "{unequal_ranks} {folded}");
}

/// The checks above would see a wrong scaling: each setting that scales, ignored, moves the logits by many tolerances,
/// and so does an alpha that is off by a hundredth.
#[test]
fn a_wrong_scaling_is_noticed() {
    let all = Adapters::load();
    let mut ignored = 0;
    for adapter in all.list("adapters") {
        let name = text(&adapter["name"]);
        let config = all.config(name);
        let mut wrong = vec![(1.0, "alpha off by 1 %", config.clone())];
        scale_alphas(&mut wrong[0].2, 1.01);
        let is_on = |key: &str| config[key].as_object().is_some_and(|pattern| !pattern.is_empty());
        if is_on("alpha_pattern") {
            let mut without = config.clone();
            without["alpha_pattern"] = serde_json::json!({});
            wrong.push((10.0, "no alpha_pattern", without));
        }
        if config["use_rslora"] == true {
            let mut without = config.clone();
            without["use_rslora"] = serde_json::json!(false);
            wrong.push((10.0, "no use_rslora", without));
        }
        ignored += wrong.len() - 1;
        for (least, what, config) in wrong {
            let bank = Bank::new(vec![all.module(name, &config)], Rule::Exact).unwrap();
            let distance = all.distance(&all.logits("adapter", name), &bank, &[1.0]);
            assert!(distance >= least, "{name}, {what}: only {distance} tolerances");
        }
    }
    assert!(ignored >= 8, "{ignored}");
}

/// Multiplies every alpha of a configuration.
fn scale_alphas(config: &mut Value, factor: f64) {
    let scale = |value: &mut Value| *value = Value::from(value.as_f64().unwrap() * factor);
    scale(&mut config["lora_alpha"]);
    if let Some(pattern) = config["alpha_pattern"].as_object_mut() {
        pattern.values_mut().for_each(scale);
    }
}
