//! Export of a module as a folder that `PeftModel.from_pretrained` loads.

use std::collections::BTreeMap;
use std::io::Write as _;

use lorahub_weights::{Dtype, Limits, TensorOut, TensorPlan, safetensors_size, write_safetensors};
use serde::Serialize;
use serde_json::Value;
use zip::write::SimpleFileOptions;

use crate::card::model_card;
use crate::compose::{check_weights, composed_rank};
use crate::module::leaf;
use crate::peft::{Matrix, key_of};
use crate::{AdapterError, Bank, LoraPair, Module, Rule};

/// The file names of an adapter's folder, as PEFT expects them.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const CARD: &str = "README.md";

/// The three files of an exported adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// `adapter_config.json`
    pub config_json: String,
    /// `adapter_model.safetensors`
    pub safetensors: Vec<u8>,
    /// `README.md`, the model card
    pub readme: String,
}

/// One module's part in a composed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModuleShare {
    /// The module's name.
    pub name: String,
    /// Its weight.
    pub weight: f64,
    /// SHA-256 of its weight file.
    pub sha256: Option<String>,
}

/// How a module was composed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Composition {
    /// The composition rule.
    pub rule: Rule,
    /// The modules and their weights, in the bank's order.
    pub modules: Vec<ModuleShare>,
    /// The search's seed, if there was a search.
    pub seed: Option<u64>,
}

impl Composition {
    /// What the bank and the weights say.
    ///
    /// # Errors
    /// [`AdapterError::WeightCount`] or [`AdapterError::WeightNotFinite`].
    pub fn new(bank: &Bank, weights: &[f64], seed: Option<u64>) -> Result<Self, AdapterError> {
        check_weights(bank, weights)?;
        let share = |(module, &weight): (&crate::ModuleInfo, &f64)| ModuleShare {
            name: module.name.clone(),
            weight,
            sha256: module.sha256.clone(),
        };
        let modules = bank.modules().iter().zip(weights).map(share).collect();
        Ok(Self {
            rule: bank.rule(),
            modules,
            seed,
        })
    }
}

/// Where a module comes from; written into its model card and, in short, into its weight file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// How it was composed; `None` for a trained module.
    pub composition: Option<Composition>,
    /// SHA-256 of the base's weight file, if known.
    pub base_sha256: Option<String>,
    /// The module's licence as an SPDX expression, if known.
    pub license: Option<String>,
    /// Further paragraphs for the model card.
    pub notes: Vec<String>,
}

/// Writes `module` as PEFT would, in f32.
///
/// # Errors
/// [`AdapterError::ExportWeights`] if a value is not finite (only possible in a module made in code).
pub fn export(module: &Module, provenance: &Provenance) -> Result<Export, AdapterError> {
    export_as(module, provenance, Dtype::F32)
}

/// [`export`] with the matrices stored in another format; PEFT loads them all.
///
/// # Errors
/// [`AdapterError::ExportWeights`] if a value does not fit the format.
pub fn export_as(module: &Module, provenance: &Provenance, dtype: Dtype) -> Result<Export, AdapterError> {
    let mut tensors = Vec::with_capacity(2 * module.pairs.len());
    for (path, pair) in &module.pairs {
        let (a, b) = (vec![pair.rank, pair.d_in], vec![pair.d_out, pair.rank]);
        for (matrix, shape, data) in [(Matrix::A, a, &pair.a), (Matrix::B, b, &pair.b)] {
            tensors.push(TensorOut {
                name: key_of(path, matrix),
                shape,
                data,
                dtype,
            });
        }
    }
    let safetensors =
        write_safetensors(&tensors, &metadata(provenance)).map_err(|problem| AdapterError::ExportWeights {
            module: module.name.clone(),
            problem,
        })?;
    Ok(Export {
        config_json: config_json(module),
        safetensors,
        readme: model_card(module, provenance),
    })
}

/// The bytes that `export(&compose(bank, weights)?, provenance)?.safetensors` will have, without composing.
///
/// # Errors
/// [`AdapterError::WeightCount`] or [`AdapterError::WeightNotFinite`]; [`AdapterError::ExportWeights`] for a file
/// beyond this machine's address space.
pub fn export_size(bank: &Bank, weights: &[f64], provenance: &Provenance) -> Result<usize, AdapterError> {
    check_weights(bank, weights)?;
    let plan = |path: &str, matrix, shape: [usize; 2]| TensorPlan {
        name: key_of(path, matrix),
        shape: shape.to_vec(),
        dtype: Dtype::F32,
    };
    let plans: Vec<_> = bank
        .targets()
        .iter()
        .flat_map(|target| {
            let rank = composed_rank(target, bank.rule(), weights);
            let (a, b) = ([rank, target.d_in], [target.d_out, rank]);
            [plan(&target.path, Matrix::A, a), plan(&target.path, Matrix::B, b)]
        })
        .collect();
    safetensors_size(&plans, &metadata(provenance)).map_err(|problem| AdapterError::ExportWeights {
        module: "composed".to_owned(),
        problem,
    })
}

impl Export {
    /// The three files in a folder, as an uncompressed zip archive (the matrices would hardly shrink).
    /// Equal exports give equal bytes. Characters of `folder` that are unsafe in a file name become `-`.
    ///
    /// # Errors
    /// [`AdapterError::Archive`] if the archive would pass the format's limits.
    pub fn zip(&self, folder: &str) -> Result<Vec<u8>, AdapterError> {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '-'
            }
        };
        let folder: String = folder.chars().map(safe).take(100).collect();
        let folder = if folder.is_empty() { "adapter" } else { &folder };
        let failed = |reason: String| AdapterError::Archive {
            module: folder.to_owned(),
            reason,
        };
        // The default date is fixed (1980), which keeps the bytes so.
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default());
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let files = [
            (CONFIG, self.config_json.as_bytes()),
            (WEIGHTS, &self.safetensors),
            (CARD, self.readme.as_bytes()),
        ];
        for (name, bytes) in files {
            archive
                .start_file(format!("{folder}/{name}"), options)
                .map_err(|error| failed(error.to_string()))?;
            archive.write_all(bytes).map_err(|error| failed(error.to_string()))?;
        }
        Ok(archive
            .finish()
            .map_err(|error| failed(error.to_string()))?
            .into_inner())
    }
}

/// `adapter_config.json`: what PEFT needs, and the settings that must stay off when it loads the adapter. No keys of
/// our own, which PEFT would warn about, and no `peft_version`, since no PEFT wrote it.
fn config_json(module: &Module) -> String {
    // PEFT takes a whole path for exactly that linear, so the list is right for any base and any set of targets.
    let paths = || module.pairs.keys().cloned().collect();
    let target_modules: Vec<String> = if module.leaves.is_empty() {
        paths()
    } else {
        module.leaves.clone()
    };
    let ranks = pattern(module, |_, pair| pair.rank, module.rank, Value::from);
    let alphas = pattern(module, |path, _| module.scales().alpha_at(path), module.alpha, number);
    let config = serde_json::json!({
        "alpha_pattern": alphas,
        "base_model_name_or_path": module.base_model,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(module.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": module.rank,
        "rank_pattern": ranks,
        "revision": module.base_revision,
        "target_modules": target_modules,
        "task_type": "SEQ_2_SEQ_LM",
        "use_dora": false,
        "use_rslora": module.rslora,
    });
    format!("{config:#}\n")
}

/// A number as PEFT writes it: whole ones without a fraction.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value < 2f64.powi(53) {
        Value::from(value as u64)
    } else {
        Value::from(value)
    }
}

/// `rank_pattern` or `alpha_pattern`: what the targets have whose value is not `usual`. By leaf (`q`) where all targets
/// of that leaf agree, else by whole path, so that no two keys mean one target.
fn pattern<T: Copy + PartialEq>(
    module: &Module,
    value_of: impl Fn(&str, &LoraPair) -> T,
    usual: T,
    json: impl Fn(T) -> Value,
) -> Value {
    let mut by_leaf: BTreeMap<&str, Vec<(&str, T)>> = BTreeMap::new();
    for (path, pair) in &module.pairs {
        by_leaf
            .entry(leaf(path))
            .or_default()
            .push((path, value_of(path, pair)));
    }
    let mut entries = serde_json::Map::new();
    for (leaf, targets) in by_leaf {
        let first = targets[0].1;
        if targets.iter().all(|(_, value)| *value == first) {
            if first != usual {
                entries.insert(leaf.to_owned(), json(first));
            }
            continue;
        }
        for (path, value) in targets {
            if value != usual {
                entries.insert(path.to_owned(), json(value));
            }
        }
    }
    Value::Object(entries)
}

/// The weight file's free text: PEFT's own `format`, and the composition as JSON so that it survives the card's loss.
/// It stays below the limit that our own reader sets.
fn metadata(provenance: &Provenance) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    if let Some(composition) = &provenance.composition
        && let Ok(json) = serde_json::to_string(composition)
        && json.len() < Limits::ADAPTER.metadata_bytes / 2
    {
        metadata.insert("lorahub".to_owned(), json);
    }
    metadata
}
