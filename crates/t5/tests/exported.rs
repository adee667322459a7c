//! Adapters that `lorahub export` wrote and PEFT loaded: `tests/golden/exports`, with PEFT's logits.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use lorahub_adapters::{Bank, Module, Rule, compose};
use lorahub_t5::{Model, ModelFiles};
use lorahub_tensor::Cpu;
use lorahub_weights::{Limits, SafeTensors};
use pollster::block_on;
use serde_json::Value;

/// As for the golden models.
const LOGITS: f32 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("`{field}` is no text in {case}"))
}

fn ids(case: &Value, field: &str) -> Vec<u32> {
    let list = case[field]
        .as_array()
        .unwrap_or_else(|| panic!("`{field}` is no list in {case}"));
    list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn base(name: &str) -> Rc<Model<Cpu>> {
    let file = |file: &str| read(&golden().join("models").join(name).join("base").join(file));
    let (config, tokenizer, weights) = (file("config.json"), file("tokenizer.json"), file("model.safetensors"));
    let files = ModelFiles {
        config: &config,
        tokenizer: &tokenizer,
        weights: &weights,
    };
    Rc::new(block_on(Model::load(Rc::new(Cpu::new()), files)).unwrap())
}

fn adapter(folder: &Path, model: &Model<Cpu>) -> Module {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let (config, weights) = (
        read(&folder.join("adapter_config.json")),
        read(&folder.join("adapter_model.safetensors")),
    );
    Module::from_peft(name, &config, &weights, Some(&model.base_spec())).unwrap()
}

/// An export read back, alone with weight 1 under either rule, gives what PEFT gives with it.
#[test]
fn exports_read_back_give_what_peft_gives() {
    let exports = golden().join("exports");
    let cases = json(&exports.join("cases.json"));
    let arrays = read(&exports.join("arrays.safetensors"));
    let arrays = SafeTensors::parse(&arrays, &Limits::BASE).unwrap();
    let cases = cases["logits"].as_array().unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let model = base(text(case, "model"));
        let expected = arrays.f32(text(case, "array")).unwrap();
        let largest = expected.iter().fold(1f32, |max, value| max.max(value.abs()));
        for rule in [Rule::Reference, Rule::Exact] {
            let bank = Bank::new(vec![adapter(&exports.join(text(case, "adapter")), &model)], rule).unwrap();
            let (input, target) = (ids(case, "input_ids"), ids(case, "target_ids"));
            let found = block_on(model.logits(Some((&bank, &[1.0])), &input, &target)).unwrap();
            assert_eq!(found.len(), expected.len());
            for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    (a - b).abs() <= LOGITS * largest,
                    "{case} {rule} [{index}]: {a}, expected {b}"
                );
            }
        }
    }
}

/// Composing the modules anew gives the matrices that were exported, to the bit.
#[test]
fn composing_again_gives_the_same_matrices() {
    let exports = golden().join("exports");
    let cases = json(&exports.join("cases.json"));
    for case in cases["logits"].as_array().unwrap() {
        let folder = golden().join("models").join(text(case, "model"));
        let model = base(text(case, "model"));
        let all = json(&folder.join("cases.json"));
        let composition = all["compositions"]
            .as_array()
            .and_then(|list| list.iter().find(|composition| composition["id"] == case["composition"]))
            .unwrap_or_else(|| panic!("no composition for {case}"));
        let module = |name: &Value| adapter(&folder.join("modules").join(name.as_str().unwrap()), &model);
        let modules: Vec<Module> = composition["modules"].as_array().unwrap().iter().map(module).collect();
        let weights: Vec<f64> = composition["weights"]
            .as_array()
            .unwrap()
            .iter()
            .map(|weight| weight.as_f64().unwrap())
            .collect();
        let rule: Rule = text(composition, "rule").parse().unwrap();
        let composed = compose(&Bank::new(modules, rule).unwrap(), &weights).unwrap();
        let exported = adapter(&exports.join(text(case, "adapter")), &model);
        assert_eq!((composed.rank, composed.alpha), (exported.rank, exported.alpha));
        assert_eq!(composed.pairs, exported.pairs, "{case}");
    }
}
