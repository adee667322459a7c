//! Reading the golden folders, for whichever device the tests of a crate are about.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use lorahub_adapters::{Bank, BaseSpec, Module, Rule};
use lorahub_composer::Shot;
use lorahub_t5::{Engine, Model, ModelFiles};
use lorahub_tensor::Backend;
use lorahub_weights::{Limits, SafeTensors, sha256_hex};
use pollster::block_on;
use serde_json::Value;

/// One object of `cases.json`; a missing field fails the test that wants it.
#[derive(Clone, Debug)]
pub(crate) struct Case(Value);

impl Case {
    pub(crate) fn get(&self, field: &str) -> &Value {
        self.0
            .get(field)
            .unwrap_or_else(|| panic!("no `{field}` in {}", self.0))
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.get(field)
            .as_str()
            .unwrap_or_else(|| panic!("`{field}` is no text in {}", self.0))
    }

    pub(crate) fn number(&self, field: &str) -> f64 {
        self.get(field)
            .as_f64()
            .unwrap_or_else(|| panic!("`{field}` is no number in {}", self.0))
    }

    fn list(&self, field: &str) -> &[Value] {
        self.get(field)
            .as_array()
            .unwrap_or_else(|| panic!("`{field}` is no list in {}", self.0))
    }

    pub(crate) fn ids(&self, field: &str) -> Vec<u32> {
        self.list(field).iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    pub(crate) fn numbers(&self, field: &str) -> Vec<f64> {
        self.list(field).iter().map(|value| value.as_f64().unwrap()).collect()
    }

    pub(crate) fn texts(&self, field: &str) -> Vec<String> {
        self.list(field)
            .iter()
            .map(|value| value.as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn objects(&self, field: &str) -> Vec<Case> {
        self.list(field).iter().cloned().map(Case).collect()
    }
}

/// One golden model with its modules and cases.
pub(crate) struct Golden<B: Backend> {
    pub(crate) name: String,
    pub(crate) model: Rc<Model<B>>,
    folder: PathBuf,
    cases: Case,
    arrays: Vec<u8>,
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where all golden data lie.
pub(crate) fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Every golden model on this device; fails if there are fewer than four.
pub(crate) fn golden_models<B: Backend>(backend: &Rc<B>) -> Vec<Golden<B>> {
    let root = golden_folder().join("models");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 4, "only {} golden models", folders.len());
    folders
        .into_iter()
        .map(|folder| Golden::load(backend, folder))
        .collect()
}

/// The base model of a golden folder.
pub(crate) fn load_model<B: Backend>(backend: &Rc<B>, folder: &Path) -> Rc<Model<B>> {
    let base = |file: &str| read(&folder.join("base").join(file));
    let (config, tokenizer, weights) = (base("config.json"), base("tokenizer.json"), base("model.safetensors"));
    let files = ModelFiles {
        config: &config,
        tokenizer: &tokenizer,
        weights: &SafeTensors::parse(&weights, &Limits::BASE).unwrap(),
        sha256: &sha256_hex(&weights),
    };
    let model =
        block_on(Model::load(backend.clone(), files)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    Rc::new(model)
}

/// A module as PEFT saved it.
pub(crate) fn load_module(folder: &Path, spec: &BaseSpec) -> Module {
    let name = folder.file_name().unwrap().to_string_lossy();
    let config = read(&folder.join("adapter_config.json"));
    let weights = read(&folder.join("adapter_model.safetensors"));
    Module::from_peft(&name, &config, &weights, Some(spec)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cases of `tests/golden/exports`.
pub(crate) fn export_cases() -> Vec<Case> {
    let cases = read(&golden_folder().join("exports/cases.json"));
    Case(serde_json::from_slice(&cases).unwrap()).objects("logits")
}

impl<B: Backend> Golden<B> {
    fn load(backend: &Rc<B>, folder: PathBuf) -> Self {
        Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            model: load_model(backend, &folder),
            cases: Case(serde_json::from_slice(&read(&folder.join("cases.json"))).unwrap()),
            arrays: read(&folder.join("arrays.safetensors")),
            folder,
        }
    }

    pub(crate) fn cases(&self, kind: &str) -> Vec<Case> {
        self.cases.objects(kind)
    }

    pub(crate) fn object(&self, name: &str) -> Case {
        Case(self.cases.get(name).clone())
    }

    pub(crate) fn array(&self, name: &str) -> Vec<f32> {
        SafeTensors::parse(&self.arrays, &Limits::BASE)
            .unwrap()
            .f32(name)
            .unwrap()
    }

    fn find_composition(&self, case: &Case) -> Option<Case> {
        let id = case.get("composition").as_str()?;
        let found = self
            .cases("compositions")
            .into_iter()
            .find(|composition| composition.text("id") == id);
        Some(found.unwrap_or_else(|| panic!("no composition `{id}`")))
    }

    /// Rule and names of the modules that a case composes; `None` for the base.
    pub(crate) fn modules(&self, case: &Case) -> Option<(String, Vec<String>)> {
        let composition = self.find_composition(case)?;
        Some((composition.text("rule").to_owned(), composition.texts("modules")))
    }

    /// Bank and weights of a case; `None` for the base.
    pub(crate) fn composition(&self, case: &Case) -> Option<(Bank, Vec<f64>)> {
        let composition = self.find_composition(case)?;
        let bank = self.bank(&composition.texts("modules"), composition.text("rule"));
        Some((bank, composition.numbers("weights")))
    }

    fn bank(&self, modules: &[String], rule: &str) -> Bank {
        let spec = self.model.base_spec();
        let load = |name: &String| load_module(&self.folder.join("modules").join(name), &spec);
        Bank::new(modules.iter().map(load).collect(), rule.parse::<Rule>().unwrap()).unwrap()
    }

    /// Our logits for a case.
    pub(crate) fn logits(&self, case: &Case) -> Vec<f32> {
        let composed = self.composition(case);
        let adapter = composed.as_ref().map(|(bank, weights)| (bank, weights.as_slice()));
        block_on(
            self.model
                .logits(adapter, &case.ids("input_ids"), &case.ids("target_ids")),
        )
        .unwrap()
    }

    fn shots(&self, set: &str) -> Vec<Shot> {
        let shot = |case: Case| Shot {
            input: case.text("input").into(),
            output: case.text("output").into(),
        };
        Case(self.cases.get("shot_sets").clone())
            .objects(set)
            .into_iter()
            .map(shot)
            .collect()
    }

    /// An engine for a case, with its shots if it has any, and the case's weights (none for the base).
    pub(crate) fn engine(&self, case: &Case) -> (Engine<B>, Vec<f64>) {
        let shots = case
            .0
            .get("shot_set")
            .map(|set| self.shots(set.as_str().unwrap()))
            .unwrap_or_default();
        let composed = self.composition(case);
        let engine = self
            .model
            .engine(composed.as_ref().map(|(bank, _)| bank), &shots)
            .unwrap();
        (engine, composed.map(|(_, weights)| weights).unwrap_or_default())
    }

    pub(crate) fn engine_of(&self, modules: &[String], rule: &str, shot_set: &str) -> Engine<B> {
        self.model
            .engine(Some(&self.bank(modules, rule)), &self.shots(shot_set))
            .unwrap()
    }
}
