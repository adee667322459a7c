//! The family on disk, and the stages that make it. A stage whose output is there, made by the same recipe and seed, is
//! skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::thread;

use lorahub_adapters::{Bank, BaseSpec, Module, Provenance, Rule, export_as};
use lorahub_composer::{Candidate, Evaluator, Shot, exact_match};
use lorahub_optim::Rng;
use lorahub_t5::{Config, Engine, Model, ModelFiles, Tokenizer};
use lorahub_tensor::Cpu;
use lorahub_weights::{Dtype, Limits, SafeTensors, TensorOut, sha256_hex, write_safetensors};

use crate::ForgeError;
use crate::data::{for_base, for_module};
use crate::net::{Shape, initial, values};
use crate::rules::{Rewrite, shipped};
use crate::tokenizer::tokenizer_json;
use crate::train::{ALPHA, RANK, Schedule, train_base, train_module};

/// Counts up when the same seed is to give another family.
pub const RECIPE: &str = "demo-2";

/// What the base calls itself in its modules' `base_model_name_or_path`.
pub const BASE_NAME: &str = "lorahub-demo/base";

/// The licence of everything that the forge makes.
pub const LICENSE: &str = "CC0-1.0";

/// How a family is made.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Seed of everything that is trained.
    pub seed: u64,
    /// The base's sizes.
    pub shape: Shape,
    /// The base's training.
    pub base: Schedule,
    /// A module's training.
    pub module: Schedule,
}

impl Recipe {
    /// The bundled family.
    pub fn family(seed: u64) -> Self {
        Self {
            seed,
            shape: Shape::FAMILY,
            base: Schedule::BASE,
            module: Schedule::MODULE,
        }
    }

    /// Written into the base's file, to know it again.
    fn stamp(&self) -> String {
        format!("{RECIPE} seed {} {} steps", self.seed, self.base.steps)
    }

    /// A generator for one purpose, so that stages draw independently of each other and of their order.
    fn rng(&self, purpose: &str) -> Rng {
        Rng::new(purpose_seed(self.seed, purpose))
    }
}

/// A seed for `purpose`: the first eight bytes of SHA-256 of seed and purpose.
pub fn purpose_seed(seed: u64, purpose: &str) -> u64 {
    let digest = sha256_hex(format!("{seed} {purpose}").as_bytes());
    u64::from_str_radix(&digest[..16], 16).unwrap_or(seed)
}

/// The folder of a family.
#[derive(Clone, Debug)]
pub struct Family {
    root: PathBuf,
}

impl Family {
    /// The family in this folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the family.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Reads a file of the family.
    ///
    /// # Errors
    /// [`ForgeError::Io`].
    pub fn read(&self, relative: &str) -> Result<Vec<u8>, ForgeError> {
        let path = self.path(relative);
        fs::read(&path).map_err(ForgeError::io(&path))
    }

    /// Writes a file of the family, so that it is there whole or not at all.
    ///
    /// # Errors
    /// [`ForgeError::Io`].
    pub fn write(&self, relative: &str, bytes: &[u8]) -> Result<(), ForgeError> {
        let path = self.path(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(ForgeError::io(folder))?;
        }
        let partial = path.with_extension("partial");
        fs::write(&partial, bytes).map_err(ForgeError::io(&partial))?;
        fs::rename(&partial, &path).map_err(ForgeError::io(&path))
    }

    fn has(&self, relative: &str) -> bool {
        self.path(relative).is_file()
    }

    /// The base, loaded.
    ///
    /// # Errors
    /// [`ForgeError::Io`] or the model's.
    pub fn model(&self) -> Result<Rc<Model<Cpu>>, ForgeError> {
        let (config, tokenizer, weights) = (
            self.read("base/config.json")?,
            self.read("base/tokenizer.json")?,
            self.read("base/model.safetensors")?,
        );
        let files = ModelFiles {
            config: &config,
            tokenizer: &tokenizer,
            weights: &SafeTensors::parse(&weights, &Limits::BASE)?,
            sha256: &sha256_hex(&weights),
        };
        Ok(Rc::new(pollster::block_on(Model::load(Rc::new(Cpu::new()), files))?))
    }

    /// What a module must fit.
    ///
    /// # Errors
    /// [`ForgeError::Io`] or the configuration's.
    pub fn base_spec(&self) -> Result<BaseSpec, ForgeError> {
        let config = Config::from_json(&self.read("base/config.json")?)?;
        Ok(BaseSpec {
            id: Some(BASE_NAME.to_owned()),
            ..config.base_spec()
        })
    }

    /// A module, loaded.
    ///
    /// # Errors
    /// [`ForgeError::Io`] or the module's.
    pub fn module(&self, name: &str, base: &BaseSpec) -> Result<Module, ForgeError> {
        let config = self.read(&format!("modules/{name}/adapter_config.json"))?;
        let weights = self.read(&format!("modules/{name}/adapter_model.safetensors"))?;
        Ok(Module::from_peft(name, &config, &weights, Some(base))?)
    }

    /// Writes the tokenizer and the configuration.
    fn make_tokenizer(&self, recipe: &Recipe) -> Result<(), ForgeError> {
        let bytes = tokenizer_json(purpose_seed(recipe.seed, "tokenizer"))?;
        let tokenizer = Tokenizer::from_bytes(&bytes, 1)?;
        self.write("base/tokenizer.json", &bytes)?;
        // Hugging Face's loader needs to be told which class reads the file.
        let loader = serde_json::json!({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512,
            "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"});
        self.write("base/tokenizer_config.json", format!("{loader}\n").as_bytes())?;
        self.write("base/config.json", &recipe.shape.config_json(tokenizer.vocab_size())?)
    }

    /// Writes the tokenizer and trains the base, unless they are there.
    ///
    /// # Errors
    /// [`ForgeError::Recipe`] if the base that is there was made otherwise, and training's.
    pub fn make_base(&self, recipe: &Recipe) -> Result<(), ForgeError> {
        const FILE: &str = "base/model.safetensors";
        let stamp = recipe.stamp();
        if self.has(FILE) {
            let bytes = self.read(FILE)?;
            let file = SafeTensors::parse(&bytes, &Limits::BASE)?;
            return match file.metadata().get("recipe") {
                Some(found) if *found == stamp => {
                    eprintln!("base: there already");
                    Ok(())
                }
                found => Err(ForgeError::Recipe {
                    path: self.path(FILE),
                    expected: stamp,
                    found: found.cloned().unwrap_or_else(|| "an unknown recipe".into()),
                }),
            };
        }
        self.make_tokenizer(recipe)?;
        let config = Config::from_json(&self.read("base/config.json")?)?;
        let tokenizer = Tokenizer::from_bytes(&self.read("base/tokenizer.json")?, config.eos)?;
        let vars = initial(&config, &mut recipe.rng("base weights"))?;
        train_base(
            &config,
            &tokenizer,
            &vars,
            &recipe.base,
            &mut recipe.rng("base examples"),
        )?;
        let values = values(&vars)?;
        let tensors: Vec<TensorOut<'_>> = values
            .iter()
            .map(|(name, (shape, data))| TensorOut {
                name: name.clone(),
                shape: shape.clone(),
                data,
                dtype: Dtype::F16,
            })
            .collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("recipe".to_owned(), stamp)]);
        self.write(FILE, &write_safetensors(&tensors, &metadata)?)
    }

    /// Trains the modules that are not there yet, `jobs` at a time. Each draws from a generator of its own, so that
    /// neither their number nor their order changes what they become.
    ///
    /// # Errors
    /// As [`make_module`](Self::make_module).
    pub fn make_modules(&self, recipe: &Recipe, jobs: usize) -> Result<(), ForgeError> {
        let queue = Mutex::new(shipped());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<(), ForgeError> {
            // A model is not shared between threads; this one is small.
            let model = self.model()?;
            while let Some(rule) = next() {
                self.make_module(recipe, &model, rule)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            // An error may hold a device's, which stays on its thread; its words may leave.
            let words = || work().map_err(|error| error.to_string());
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(words)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result.map_err(ForgeError::Worker),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// How often each module alone is right, in per cent, on fresh examples of its training: under a name, and beside
    /// instructions.
    ///
    /// # Errors
    /// The files' and the model's.
    pub fn module_matches(&self, recipe: &Recipe) -> Result<Vec<(&'static str, f64, f64)>, ForgeError> {
        let (model, base) = (self.model()?, self.base_spec()?);
        let mut matches = Vec::new();
        for rule in shipped() {
            let bank = Bank::new(vec![self.module(rule.name, &base)?], Rule::Exact)?;
            let engine = model.engine(Some(&bank), &[])?;
            let mut rng = recipe.rng(&format!("check of module {}", rule.name));
            let rows: Vec<Shot> = (0..200).map(|_| for_module(&mut rng, rule)).collect();
            let (instructed, own): (Vec<Shot>, Vec<Shot>) =
                rows.into_iter().partition(|row| row.input.starts_with("use "));
            matches.push((
                rule.name,
                accuracy(&engine, &[1.0], &own)?,
                accuracy(&engine, &[1.0], &instructed)?,
            ));
        }
        Ok(matches)
    }

    /// How often the base is right, in per cent, on fresh examples of its training.
    ///
    /// # Errors
    /// The files' and the model's.
    pub fn base_match(&self, recipe: &Recipe) -> Result<f64, ForgeError> {
        let mut rng = recipe.rng("check of base");
        let rows: Vec<Shot> = (0..500).map(|_| for_base(&mut rng)).collect();
        accuracy(&self.model()?.engine(None, &[])?, &[], &rows)
    }

    /// Trains the module of `rule`, unless it is there for this base.
    ///
    /// # Errors
    /// [`ForgeError::Recipe`] if the module that is there belongs to another base, and training's.
    pub fn make_module(&self, recipe: &Recipe, model: &Model<Cpu>, rule: &Rewrite) -> Result<(), ForgeError> {
        let file = format!("modules/{}/adapter_model.safetensors", rule.name);
        if self.has(&file) {
            let bytes = self.read(&file)?;
            let file_of = SafeTensors::parse(&bytes, &Limits::ADAPTER)?;
            let found = file_of.metadata().get("base_sha256");
            if found.map(String::as_str) != Some(model.sha256()) {
                return Err(ForgeError::Recipe {
                    path: self.path(&file),
                    expected: format!("base {}", model.sha256()),
                    found: found.map_or_else(|| "an unknown base".into(), |found| format!("base {found}")),
                });
            }
            eprintln!("{}: there already", rule.name);
            return Ok(());
        }
        let mut rng = recipe.rng(&format!("module {}", rule.name));
        let pairs = train_module(model.t5(), model.tokenizer(), rule, &recipe.module, &mut rng)?;
        let mut module = Module::new(rule.name, RANK, ALPHA, pairs, Some(&self.base_spec()?))?;
        module.base_model = Some(BASE_NAME.to_owned());
        let provenance = Provenance {
            base_sha256: Some(model.sha256().to_owned()),
            license: Some(LICENSE.to_owned()),
            notes: vec![rule.description.to_owned()],
            ..Provenance::default()
        };
        let export = export_as(&module, &provenance, Dtype::F16)?;
        self.write(
            &format!("modules/{}/adapter_config.json", rule.name),
            export.config_json.as_bytes(),
        )?;
        self.write(&file, &export.safetensors)
    }
}

/// Exact match, in per cent, of greedy answers on `rows` under a candidate of an engine.
fn accuracy(engine: &Engine<Cpu>, weights: &[f64], rows: &[Shot]) -> Result<f64, ForgeError> {
    let inputs: Vec<String> = rows.iter().map(|row| row.input.clone()).collect();
    let candidate = Candidate {
        weights: weights.to_vec(),
    };
    let answers = pollster::block_on(engine.generate(&candidate, &inputs, MAX_NEW_TOKENS))?;
    let pairs = answers
        .iter()
        .zip(rows)
        .map(|(answer, row)| (answer.text.as_str(), row.output.as_str()));
    Ok(exact_match(pairs))
}

/// Longer than any answer of the family.
pub const MAX_NEW_TOKENS: usize = 32;
