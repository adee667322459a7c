//! `lorahub export`: the composed module for PEFT, or the base with it merged in.

use std::collections::BTreeMap;
use std::path::Path;

use lorahub_adapters::{Bank, Composition, Export, Module, Provenance, Rule, compose, export, export_size, merge};
use lorahub_weights::{Dtype, Limits, SafeTensors, TensorOut, Tensors, write_safetensors};
use serde::Serialize;
use serde_json::Value;

use crate::args::{ExportArgs, Modules};
use crate::base::{BASE, Base};
use crate::error::CliError;
use crate::family;
use crate::files::{JSON_BYTES, WEIGHTS_BYTES, make_folder, same_folder, write};
use crate::hub::Place;
use crate::modules;
use crate::output::{print, print_json, say};
use crate::weights::with_weights;

/// Files of a base that a merged one carries on as they are, where they exist.
const CARRIED: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "generation_config.json",
];

/// What `export --json` prints.
#[derive(Debug, Serialize)]
struct Exported {
    out: String,
    rule: Rule,
    /// The composed module's rank.
    rank: usize,
    merged: bool,
    /// Bytes of the weight file.
    bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// Those of the files it reads and writes, and of the composition.
pub(crate) fn run(arguments: &ExportArgs) -> Result<(), CliError> {
    let modules = arguments.modules.find(&arguments.base.store)?;
    modules.required()?;
    let weights = modules.weights(&arguments.weights)?;
    check_out(&arguments.out, &arguments.base.place()?, &modules)?;
    let base = Base::load(&arguments.base)?;
    let (rule, because) = modules::rule(&modules)?;
    say(&format!("rule `{rule}` ({because})"));
    let bank = modules::bank_under(rule, &modules, &base.model.base_spec())?;
    let provenance = provenance(&base, &bank, &weights, None, &modules)?;
    let composed = compose(&bank, &weights)?;
    let bytes = if arguments.merge {
        merge_into(&base, &composed, &arguments.out)?
    } else {
        say(&format!("{} bytes", export_size(&bank, &weights, &provenance)?));
        let files = export(&composed, &provenance)?;
        write_adapter(&arguments.out, &files)?;
        files.safetensors.len()
    };
    let exported = Exported {
        out: arguments.out.display().to_string(),
        rule,
        rank: composed.rank,
        merged: arguments.merge,
        bytes,
    };
    if arguments.json {
        return print_json(&exported);
    }
    print(&format!(
        "{}: {bytes} bytes of weights, rank {}",
        exported.out, exported.rank
    ))
}

/// Refuses to write where something is read from.
///
/// # Errors
/// [`CliError::Usage`].
pub(crate) fn check_out(out: &Path, base: &Place, modules: &Modules) -> Result<(), CliError> {
    let mut read_from = std::iter::once(base).chain(&modules.places).filter_map(Place::folder);
    match read_from.find(|folder| same_folder(out, folder)) {
        None => Ok(()),
        Some(_) => Err(CliError::Usage(format!(
            "--out `{}` is a folder that is read from, and would be overwritten; choose another",
            out.display()
        ))),
    }
}

/// Where the composed module comes from.
///
/// # Errors
/// [`CliError::Adapter`] for weights that do not fit the bank, [`CliError::Family`] for a `family.json` that is none.
pub(crate) fn provenance(
    base: &Base,
    bank: &Bank,
    weights: &[f64],
    seed: Option<u64>,
    modules: &Modules,
) -> Result<Provenance, CliError> {
    Ok(Provenance {
        composition: Some(Composition::new(bank, weights, seed)?),
        base_sha256: Some(base.model.sha256().to_owned()),
        license: family::license(&modules.places)?,
        notes: Vec::new(),
    })
}

/// Writes the three files of an adapter.
///
/// # Errors
/// [`CliError::Write`].
pub(crate) fn write_adapter(folder: &Path, files: &Export) -> Result<(), CliError> {
    make_folder(folder)?;
    write(&folder.join("adapter_model.safetensors"), &files.safetensors)?;
    write(&folder.join("adapter_config.json"), files.config_json.as_bytes())?;
    write(&folder.join("README.md"), files.readme.as_bytes())
}

/// Writes the base with the module added to it, in f32. Returns the bytes of its weight file.
fn merge_into(base: &Base, module: &Module, out: &Path) -> Result<usize, CliError> {
    let weights = if base.place.has("model.safetensors") {
        base.place.read(BASE, "model.safetensors", WEIGHTS_BYTES)?
    } else {
        with_weights(&base.place, None, |tensors, _| in_one_file(tensors))?
    };
    let file = SafeTensors::parse(&weights, &Limits::BASE)?;
    let merged = merge(module, &file)?.collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<TensorOut<'_>> = merged
        .iter()
        .map(|tensor| TensorOut {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            data: &tensor.data,
            dtype: Dtype::F32,
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = write_safetensors(&tensors, &metadata)?;
    say(&format!("{} bytes", bytes.len()));

    make_folder(out)?;
    write(&out.join("model.safetensors"), &bytes)?;
    write(&out.join("config.json"), &merged_config(base)?)?;
    let tokenizer = base.place.read(BASE, "tokenizer.json", JSON_BYTES)?;
    write(&out.join("tokenizer.json"), &tokenizer)?;
    for name in CARRIED {
        if base.place.has(name) {
            write(&out.join(name), &base.place.read(BASE, name, JSON_BYTES)?)?;
        }
    }
    Ok(bytes.len())
}

/// The weights of a base of another form as one safetensors file, in memory.
fn in_one_file(tensors: &dyn Tensors) -> Result<Vec<u8>, CliError> {
    let mut values = Vec::new();
    for name in tensors.names() {
        values.push((name, tensors.shape(name)?, tensors.f32(name)?));
    }
    let out: Vec<TensorOut<'_>> = values
        .iter()
        .map(|(name, shape, data)| TensorOut {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            data,
            dtype: Dtype::F32,
        })
        .collect();
    Ok(write_safetensors(&out, &BTreeMap::new())?)
}

/// The base's configuration, saying f32 where it says how its weights are stored: transformers would round the merged
/// ones to that.
fn merged_config(base: &Base) -> Result<Vec<u8>, CliError> {
    let bytes = base.place.read(BASE, "config.json", JSON_BYTES)?;
    // The base has been loaded from this file, so it is an object.
    let Ok(mut config) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) else {
        return Ok(bytes);
    };
    for key in ["dtype", "torch_dtype"] {
        if let Some(dtype) = config.get_mut(key) {
            *dtype = Value::from("float32");
        }
    }
    Ok(format!("{:#}\n", Value::Object(config)).into_bytes())
}
