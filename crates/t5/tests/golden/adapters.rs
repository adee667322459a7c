//! What must hold on any device of the adapters that PEFT wrote in many configurations (`tests/golden/adapters`): alone,
//! composed, and exported.

use std::path::PathBuf;
use std::rc::Rc;

use lorahub_adapters::{Bank, Module, Provenance, Rule, compose, export};
use lorahub_t5::{Model, Modules};
use lorahub_tensor::Backend;
use lorahub_weights::{Limits, SafeTensors};
use pollster::block_on;
use serde_json::{Value, from_value};

use crate::checks::Tolerance;
use crate::family::{golden_folder, load_model, read};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The adapters with the base they are for, on a device. The numbers of an adapter's file are the same in f32, whatever
/// their format, and PEFT computes with them in f32: the device's own tolerance holds for all.
struct Adapters<B: Backend> {
    folder: PathBuf,
    model: Rc<Model<B>>,
    tolerance: Tolerance,
    cases: Value,
    arrays: Vec<u8>,
}

impl<B: Backend> Adapters<B> {
    fn load(backend: &Rc<B>, tolerance: Tolerance) -> Self {
        let folder = golden_folder().join("adapters");
        let cases: Value = serde_json::from_slice(&read(&folder.join("cases.json"))).unwrap();
        let base = golden_folder().join("models").join(text(&cases["model"]));
        Self {
            model: load_model(backend, &base),
            tolerance,
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
                let distance = (a - b).abs() / (self.tolerance.logits * largest);
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

pub(crate) fn every_adapter_gives_what_peft_gives_under_either_rule<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    let all = Adapters::load(backend, tolerance);
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
pub(crate) fn compositions_of_unequal_adapters_give_what_peft_gives<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    let all = Adapters::load(backend, tolerance);
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

/// In a generation with others, and with all inputs as shots of one batch, a composition loses what PEFT's logits say.
pub(crate) fn a_generation_of_unequal_adapters_loses_what_peft_loses<B: Backend>(
    backend: &Rc<B>,
    tolerance: Tolerance,
) {
    let all = Adapters::load(backend, tolerance);
    let arrays = SafeTensors::parse(&all.arrays, &Limits::BASE).unwrap();
    for composition in all.list("compositions") {
        let id = text(&composition["id"]);
        let rule: Rule = text(&composition["rule"]).parse().unwrap();
        let weights: Vec<f64> = from_value(composition["weights"].clone()).unwrap();
        let names: Vec<String> = from_value(composition["adapters"].clone()).unwrap();
        let cases = all.logits("composition", id);
        let ids = |field: &str| -> Vec<Vec<u32>> {
            let of_case = |case: &&Value| from_value(case[field].clone()).unwrap();
            cases.iter().map(of_case).collect()
        };
        let (inputs, targets) = (ids("input_ids"), ids("target_ids"));
        let t5 = all.model.t5();
        let modules = Modules::upload(t5, &all.bank(&names, rule)).unwrap();
        let batch = t5.prepare(&inputs, &targets).unwrap();
        let (none, other) = (vec![0.0; weights.len()], vec![0.6; weights.len()]);
        let found = block_on(modules.nll(t5, &batch, &[&other, &weights, &none, &weights])).unwrap();
        assert_eq!(found[1], found[3], "{id}: one candidate twice");
        for (shot, (case, target)) in cases.iter().zip(&targets).enumerate() {
            let logits = arrays.f32(text(&case["array"])).unwrap();
            let expected = nll(&logits, target);
            for (candidate, same) in [(0, false), (1, true), (2, false)] {
                let distance = (f64::from(found[candidate][shot]) - expected).abs();
                let allowed = tolerance.losses * expected.abs().max(1.0);
                assert_eq!(
                    distance <= allowed,
                    same,
                    "{id} {candidate} {shot}: {distance}, allowed {allowed}"
                );
            }
        }
    }
}

/// `-log softmax` of the targets, summed.
fn nll(logits: &[f32], targets: &[u32]) -> f64 {
    let of_row = |(row, &target): (&[f32], &u32)| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&value| f64::from(value - largest).exp()).sum();
        sum.ln() - f64::from(row[target as usize] - largest)
    };
    logits
        .chunks(logits.len() / targets.len())
        .zip(targets)
        .map(of_row)
        .sum()
}

/// The checks above would see a wrong scaling: each setting that scales, ignored, moves the logits by many tolerances,
/// and so does an alpha that is off by a hundredth.
pub(crate) fn a_wrong_scaling_is_noticed<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    let all = Adapters::load(backend, tolerance);
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
