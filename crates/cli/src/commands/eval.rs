//! `lorahub eval`: exact match on test rows, with the baselines to compare with.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use lorahub_adapters::{Bank, Rule};
use lorahub_composer::{
    ComposerError, HeldOut, HeldOutProgress, HeldOutSettings, Settings, Shot, best_single, check_disjoint,
    evaluate_held_out, uniform, unit,
};
use serde::Serialize;

use crate::args::{EvalArgs, Modules};
use crate::base::Base;
use crate::error::CliError;
use crate::files::{read_rows, write};
use crate::modules;
use crate::output::{Reporter, print, print_json, say, warn};

/// What `eval --json` prints.
#[derive(Debug, Serialize)]
struct Evaluation {
    /// Test rows.
    n: usize,
    rule: Rule,
    /// Exact match in per cent, by candidate.
    exact_match: BTreeMap<String, f64>,
    /// The 95 % Wilson interval of each, in per cent.
    interval: BTreeMap<String, [f64; 2]>,
    /// Which module `best_single` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    best_single_module: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Those of the files it reads, an overlap of shots and test rows, and those of the model.
pub(crate) fn run(arguments: &EvalArgs) -> Result<(), CliError> {
    let modules = arguments.modules.find(&arguments.base.store)?;
    let weights = composed_weights(arguments, &modules)?;
    let test = read_rows(&arguments.test)?;
    let shots = match &arguments.shots {
        Some(path) => read_rows(path)?,
        None => Vec::new(),
    };
    check_disjoint(&shots, &test)?;
    let base = Base::load(&arguments.base)?;
    let bank = modules::bank(&modules, &base.model.base_spec())?;

    let (candidates, best) = candidates(arguments, &base, bank.as_ref(), &shots, weights)?;
    let held_out = evaluate(&base, bank.as_ref(), &test, &candidates)?;
    if let Some(path) = &arguments.predictions {
        write(path, &predictions(&held_out)?)?;
    }
    let evaluation = Evaluation {
        n: held_out.n,
        rule: bank.as_ref().map_or(Rule::Reference, Bank::rule),
        exact_match: held_out
            .accuracy
            .iter()
            .map(|(name, accuracy)| (name.clone(), accuracy.percent))
            .collect(),
        interval: held_out
            .accuracy
            .iter()
            .map(|(name, a)| (name.clone(), [a.low, a.high]))
            .collect(),
        best_single_module: best,
    };
    if arguments.json {
        return print_json(&evaluation);
    }
    print(&format!(
        "exact match on {} rows, rule `{}`",
        evaluation.n, evaluation.rule
    ))?;
    for (name, _) in &candidates {
        if let (Some(percent), Some([low, high])) = (evaluation.exact_match.get(name), evaluation.interval.get(name)) {
            let module = evaluation.best_single_module.as_ref().filter(|_| name == "best_single");
            let module = module.map(|module| format!(" ({module})")).unwrap_or_default();
            print(&format!("  {name:12} {percent:5.1} %  [{low:.1}, {high:.1}]{module}"))?;
        }
    }
    Ok(())
}

/// The weights to evaluate, if there are any; modules need them or the baselines.
fn composed_weights(arguments: &EvalArgs, modules: &Modules) -> Result<Option<Vec<f64>>, CliError> {
    match &arguments.weights.weights {
        None if modules.places.is_empty() || arguments.baselines => Ok(None),
        Some(_) if modules.places.is_empty() => Err(CliError::Usage(
            "--weights without modules; name them with --module DIR".to_owned(),
        )),
        _ => modules.weights(&arguments.weights).map(Some),
    }
}

/// The candidates in the order they are shown, and the name of the best single module.
type Candidates = (Vec<(String, Vec<f64>)>, Option<String>);

fn candidates(
    arguments: &EvalArgs,
    base: &Base,
    bank: Option<&Bank>,
    shots: &[Shot],
    weights: Option<Vec<f64>>,
) -> Result<Candidates, CliError> {
    let modules = bank.map_or(0, Bank::len);
    let mut candidates = Vec::new();
    let mut best_module = None;
    if arguments.baselines || bank.is_none() {
        candidates.push(("base".to_owned(), vec![0.0; modules]));
    }
    if let (true, Some(bank)) = (arguments.baselines, bank) {
        match &arguments.shots {
            Some(path) => {
                let best = best_on(base, bank, shots, path)?;
                best_module = best.and_then(|module| bank.names().nth(module)).map(str::to_owned);
                match best {
                    Some(module) => candidates.push(("best_single".to_owned(), unit(modules, module))),
                    None => warn("every module alone overflows on the shots, so there is no best single one"),
                }
            }
            None => say("no best_single: it is the module with the lowest loss on the shots; give them with --shots"),
        }
        candidates.push(("uniform".to_owned(), uniform(modules)));
    }
    if let Some(weights) = weights {
        candidates.push(("composed".to_owned(), weights));
    }
    Ok((candidates, best_module))
}

fn best_on(base: &Base, bank: &Bank, shots: &[Shot], path: &Path) -> Result<Option<usize>, CliError> {
    let engine = base.engine(Some(bank), shots, path)?;
    let together = Settings::new(bank.rule()).max_generation;
    Ok(pollster::block_on(best_single(&*engine, together))?)
}

fn evaluate(
    base: &Base,
    bank: Option<&Bank>,
    test: &[Shot],
    candidates: &[(String, Vec<f64>)],
) -> Result<HeldOut, CliError> {
    let engine = base.engine(bank, &[], Path::new(""))?;
    let mut reporter = Reporter::new();
    let mut on_progress = |progress: HeldOutProgress| {
        reporter.show(&format!("{} of {} answers", progress.done, progress.total));
        ControlFlow::Continue(())
    };
    let held_out = evaluate_held_out(&*engine, test, candidates, HeldOutSettings::default(), &mut on_progress);
    let held_out = pollster::block_on(held_out);
    reporter.finish();
    Ok(held_out?)
}

/// One JSON object a row.
fn predictions(held_out: &HeldOut) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    for row in &held_out.rows {
        let row = serde_json::to_vec(row).map_err(|error| ComposerError::State {
            what: error.to_string(),
        })?;
        bytes.extend(row);
        bytes.push(b'\n');
    }
    Ok(bytes)
}
