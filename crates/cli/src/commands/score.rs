//! `lorahub score`: the losses of one composition.

use lorahub_adapters::{Bank, Rule};
use lorahub_composer::{Candidate, Objective};
use serde::Serialize;

use crate::args::ScoreArgs;
use crate::base::Base;
use crate::error::CliError;
use crate::files::read_rows;
use crate::modules;
use crate::output::{print, print_json};

/// What `score --json` prints.
#[derive(Debug, Serialize)]
struct Score {
    /// Mean cross-entropy over the target tokens of each shot.
    shot_loss: Vec<f64>,
    /// Mean cross-entropy over all target tokens.
    batch_loss: f64,
    objective_reference: f64,
    objective_normalised: f64,
    rule: Rule,
}

/// Runs the command.
///
/// # Errors
/// Those of the files it reads, and [`CliError::Overflow`].
pub(crate) fn run(arguments: &ScoreArgs) -> Result<(), CliError> {
    let modules = arguments.modules.find(&arguments.base.store)?;
    let weights = modules.weights(&arguments.weights)?;
    let shots = read_rows(&arguments.shots)?;
    let base = Base::load(&arguments.base)?;
    let bank = modules::bank(&modules, &base.model.base_spec())?;
    let engine = base.engine(bank.as_ref(), &shots, &arguments.shots)?;
    let candidate = Candidate { weights };
    let losses = pollster::block_on(engine.evaluate(std::slice::from_ref(&candidate)))
        .map_err(lorahub_composer::ComposerError::from)?;
    // One candidate in, one out; an engine without shots has failed before.
    let Some(losses) = losses.into_iter().next() else {
        return Err(CliError::Overflow { row: 1 });
    };
    let shot_loss = losses.shot_loss();
    if let Some(row) = shot_loss.iter().position(|loss| !loss.is_finite()) {
        return Err(CliError::Overflow { row: row + 1 });
    }
    let score = Score {
        shot_loss,
        batch_loss: losses.batch_loss(),
        objective_reference: Objective::REFERENCE.value(&losses, &candidate.weights),
        objective_normalised: Objective::NORMALISED.value(&losses, &candidate.weights),
        rule: bank.as_ref().map_or(Rule::Reference, Bank::rule),
    };
    if arguments.json {
        return print_json(&score);
    }
    print(&format!(
        "cross-entropy {:.6} over {} shots; objective {:.6} (normalised), {:.6} (reference)",
        score.batch_loss,
        score.shot_loss.len(),
        score.objective_normalised,
        score.objective_reference
    ))
}
