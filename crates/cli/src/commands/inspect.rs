//! `lorahub inspect`: what a folder or file is, and whether it fits a base.

use std::collections::BTreeSet;
use std::path::Path;

use lorahub_adapters::Module;
use lorahub_hub::Kind;
use lorahub_t5::{Activation, MAX_TOKENS, expected_tensors};
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::base::Base;
use crate::error::CliError;
use crate::family::Family;
use crate::files::{name_of, read_rows};
use crate::hub::Place;
use crate::modules::load_one;
use crate::output::{print, print_json};

/// Runs the command.
///
/// # Errors
/// Those of the files it reads; [`CliError::DoesNotFit`] after the report, if it does not fit the base.
pub(crate) fn run(arguments: &InspectArgs) -> Result<(), CliError> {
    let path = &arguments.path;
    let base = match &arguments.base {
        Some(given) => Some(Base::load_on_cpu(&Place::find(Kind::Base, given, &arguments.store)?)?),
        None => None,
    };
    let base = base.as_ref();
    let place = Place::find_any(path, &arguments.store)?;
    let (report, problem) = if path.join("family.json").is_file() {
        inspect_family(path, base)?
    } else if place.has("adapter_config.json") {
        inspect_adapter(&place, base)?
    } else if place.has("config.json") {
        (inspect_base(&place)?, None)
    } else if path.is_file() {
        inspect_rows(path, base)?
    } else if path.exists() {
        return Err(CliError::Unknown { path: path.clone() });
    } else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(CliError::Read {
            path: path.clone(),
            source,
        });
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        print_summary(&report)?;
    }
    match problem {
        None => Ok(()),
        Some(problem) => Err(CliError::DoesNotFit {
            path: path.clone(),
            problem,
        }),
    }
}

/// A report, and why the thing does not fit the base, if it does not.
type Report = (Value, Option<String>);

fn inspect_adapter(place: &Place, base: Option<&Base>) -> Result<Report, CliError> {
    let name = place.name();
    let module = load_one(place, &name, None)?;
    let mut report = json!({
        "kind": "adapter",
        "name": module.name,
        "rank": module.rank,
        "alpha": module.alpha,
        "scaling": module.scaling(),
        "targets": module.pairs.len(),
        "target_modules": leaves(&module),
        "parameters": module.pairs.values().map(|pair| pair.a.len() + pair.b.len()).sum::<usize>(),
        "base_model": module.base_model,
        "sha256": module.sha256,
    });
    let problem = match base {
        None => None,
        Some(base) => problem_of(load_one(place, &name, Some(&base.model.base_spec()))),
    };
    note_fit(&mut report, base, problem.as_deref());
    Ok((report, problem))
}

fn problem_of<T>(loaded: Result<T, CliError>) -> Option<String> {
    loaded.err().map(|error| error.to_string())
}

fn note_fit(report: &mut Value, base: Option<&Base>, problem: Option<&str>) {
    if base.is_some() {
        report["fits"] = Value::from(problem.is_none());
        if let Some(problem) = problem {
            report["problem"] = Value::from(problem);
        }
    }
}

/// The last parts of the targets' names.
fn leaves(module: &Module) -> BTreeSet<&str> {
    let leaf = |path: &'_ String| path.rsplit_once('.').map_or(0, |(parent, _)| parent.len() + 1);
    module.pairs.keys().map(|path| &path[leaf(path)..]).collect()
}

fn inspect_base(place: &Place) -> Result<Value, CliError> {
    let base = Base::load_on_cpu(place)?;
    let config = base.model.config();
    let tensors = expected_tensors(config);
    Ok(json!({
        "kind": "base",
        "name": base.id,
        "d_model": config.d_model,
        "d_kv": config.d_kv,
        "d_ff": config.d_ff,
        "num_heads": config.num_heads,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "vocab_size": config.vocab_size,
        "tokens": base.model.tokenizer().vocab_size(),
        "activation": match config.activation {
            Activation::GatedGelu => "gated-gelu",
            Activation::Relu => "relu",
        },
        "tied": config.tied,
        "parameters": tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>(),
        "targets": config.base_spec().targets.len(),
        "sha256": base.model.sha256(),
    }))
}

fn inspect_family(path: &Path, base: Option<&Base>) -> Result<Report, CliError> {
    let family = Family::load(&path.join("family.json"))?;
    // A family brings its base; another one may be asked about.
    let own;
    let against = match base {
        Some(base) => base,
        None => {
            own = Base::load_on_cpu(&Place::Folder(path.join(&family.base)))?;
            &own
        }
    };
    let spec = against.model.base_spec();
    let mut problem = None;
    let mut modules = Vec::new();
    for listed in &family.modules {
        let loaded = load_one(&Place::Folder(path.join(&listed.path)), &listed.name, Some(&spec));
        modules.push(json!({ "name": listed.name, "fits": loaded.is_ok() }));
        problem = problem.or(problem_of(loaded));
    }
    let mut report = json!({
        "kind": "family",
        "name": family.name,
        "rule": family.rule,
        "license": family.license,
        "modules": modules,
        "tasks": family.tasks.len(),
    });
    note_fit(&mut report, Some(against), problem.as_deref());
    Ok((report, problem))
}

fn inspect_rows(path: &Path, base: Option<&Base>) -> Result<Report, CliError> {
    let rows = read_rows(path)?;
    let mut report = json!({
        "kind": "rows",
        "name": name_of(path),
        "n": rows.len(),
    });
    if let Some(base) = base {
        let tokenizer = base.model.tokenizer();
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for row in &rows {
            inputs.push(tokenizer.encode(&row.input)?.len());
            outputs.push(tokenizer.encode(&row.output)?.len());
        }
        let longest = |lengths: &[usize]| lengths.iter().copied().max().unwrap_or(0);
        let cut = inputs
            .iter()
            .zip(&outputs)
            .filter(|&(input, output)| *input.max(output) > MAX_TOKENS);
        report["longest_input_tokens"] = Value::from(longest(&inputs));
        report["longest_output_tokens"] = Value::from(longest(&outputs));
        report["rows_to_be_cut"] = Value::from(cut.count());
    }
    Ok((report, None))
}

/// One field a line.
fn print_summary(report: &Value) -> Result<(), CliError> {
    let fields = report.as_object().into_iter().flatten();
    for (name, value) in fields {
        match value {
            Value::String(text) => print(&format!("{name}: {text}"))?,
            Value::Array(items) => print(&format!(
                "{name}: {}",
                items.iter().map(short).collect::<Vec<_>>().join(", ")
            ))?,
            Value::Null => {}
            other => print(&format!("{name}: {other}"))?,
        }
    }
    Ok(())
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => fields
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        other => other.to_string(),
    }
}
