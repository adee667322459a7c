//! What is written down of a run: its record, `run.json`, and the checkpoint to resume it from.
//!
//! Neither holds any text of the shots; their hash says whether two runs had the same ones.

use lorahub_adapters::Rule;
use serde::{Deserialize, Serialize};

use crate::{ComposerError, HistoryPoint, ObjectiveName, Outcome, Point, SessionState, Settings, Single, StopReason};

/// Version of `run.json` and of the checkpoint; raised when a field changes its meaning.
pub const RECORD_SCHEMA: u32 = 1;

/// A module, as a run names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRef {
    /// What the user calls it.
    pub name: String,
    /// SHA-256 of its weight file, in hexadecimal, if it came from a file.
    pub sha256: Option<String>,
}

/// The base model, as a run names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRef {
    /// What the user or the family calls it.
    pub id: String,
    /// SHA-256 of its weight file, in hexadecimal.
    pub sha256: String,
}

/// What a run was about, besides its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInputs {
    /// The base model.
    pub base: BaseRef,
    /// The modules, in the weights' order.
    pub modules: Vec<ModuleRef>,
    /// SHA-256 of the shots, in hexadecimal: of [`shots_bytes`](crate::shots_bytes).
    pub shots_sha256: String,
    /// The number of shots, k.
    pub shots: usize,
}

/// The record of a run, `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The program and its version.
    pub program: String,
    /// The search's seed.
    pub seed: u64,
    /// The composition rule.
    pub rule: Rule,
    /// Which objective was minimised.
    pub objective_name: ObjectiveName,
    /// The penalty's factor.
    pub l1: f64,
    /// Evaluations allowed.
    pub budget: usize,
    /// Evaluations done.
    pub evaluations: usize,
    /// Generations evaluated.
    pub generations: usize,
    /// Seconds spent evaluating.
    pub seconds: f64,
    /// Why the search ended.
    pub stop_reason: StopReason,
    /// The best weights, in the modules' order.
    pub weights: Vec<f64>,
    /// The objective there.
    pub objective: f64,
    /// CE there, without the penalty.
    pub loss: f64,
    /// `w = 0`.
    pub base_point: Point,
    /// The best module alone.
    pub best_single: Option<Single>,
    /// `w_i = 1/N`.
    pub uniform: Option<Point>,
    /// The best set of modules that the pass found.
    pub pass: Point,
    /// The best point of CMA-ES.
    pub search: Option<Point>,
    /// The base model, the modules and the shots.
    #[serde(flatten)]
    pub inputs: RunInputs,
    /// What computed; where a search went on on something else, all of them, as [`backend_then`] puts it.
    pub backend: String,
    /// All settings.
    pub settings: Settings,
    /// Every evaluation, in order.
    pub history: Vec<HistoryPoint>,
}

impl RunRecord {
    /// The record of a search that ended with this outcome.
    pub fn new(program: &str, outcome: Outcome, settings: &Settings, inputs: RunInputs, backend: String) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            program: program.to_owned(),
            seed: outcome.seed,
            rule: outcome.rule,
            objective_name: outcome.objective_name,
            l1: settings.objective.l1,
            budget: outcome.budget,
            evaluations: outcome.evaluations,
            generations: outcome.generations,
            seconds: outcome.seconds,
            stop_reason: outcome.stop_reason,
            weights: outcome.weights,
            objective: outcome.objective,
            loss: outcome.loss,
            base_point: outcome.base,
            best_single: outcome.best_single,
            uniform: outcome.uniform,
            pass: outcome.pass,
            search: outcome.search,
            inputs,
            backend,
            settings: settings.clone(),
            history: outcome.history,
        }
    }
}

/// A saved search with what it was about, so that it is not resumed on other inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The base model, the modules and the shots.
    pub inputs: RunInputs,
    /// What has computed so far, as in [`RunRecord::backend`].
    pub backend: String,
    /// The search.
    pub session: SessionState,
}

impl Checkpoint {
    /// A checkpoint of this session state.
    pub fn new(inputs: RunInputs, backend: String, session: SessionState) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            inputs,
            backend,
            session,
        }
    }

    /// Reads a checkpoint that [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`ComposerError::State`] if the bytes are not a checkpoint of this version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ComposerError> {
        let unusable = |what: String| ComposerError::State { what };
        let checkpoint: Self = serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
        if checkpoint.schema != RECORD_SCHEMA {
            let found = checkpoint.schema;
            return Err(unusable(format!(
                "it has schema {found}, this program reads schema {RECORD_SCHEMA}"
            )));
        }
        Ok(checkpoint)
    }

    /// As JSON; every number keeps its bits.
    ///
    /// # Errors
    /// [`ComposerError::State`] if it cannot be written, which no session brings about.
    pub fn to_json(&self) -> Result<Vec<u8>, ComposerError> {
        serde_json::to_vec(self).map_err(|error| ComposerError::State {
            what: error.to_string(),
        })
    }

    /// Checks that the search was about these inputs.
    ///
    /// # Errors
    /// [`ComposerError::OtherRun`] naming the first thing that differs.
    pub fn check(&self, inputs: &RunInputs) -> Result<(), ComposerError> {
        let saved = &self.inputs;
        same("base model", &saved.base.sha256, &inputs.base.sha256)?;
        same("number of modules", &saved.modules.len(), &inputs.modules.len())?;
        for (position, (saved, here)) in saved.modules.iter().zip(&inputs.modules).enumerate() {
            let of = |module: &ModuleRef| module.sha256.clone().unwrap_or_else(|| module.name.clone());
            same(
                &format!("module {} (`{}`)", position + 1, saved.name),
                &of(saved),
                &of(here),
            )?;
        }
        same("set of shots", &saved.shots_sha256, &inputs.shots_sha256)
    }
}

/// The names of what computed, when `now` goes on with what `before` began. The numbers of two backends, builds or ways of
/// holding weights differ in their last digits at least.
pub fn backend_then(before: &str, now: &str) -> String {
    match before.rsplit(", then ").next() {
        Some(last) if last == now => before.to_owned(),
        _ => format!("{before}, then {now}"),
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, saved: &T, here: &T) -> Result<(), ComposerError> {
    if saved == here {
        return Ok(());
    }
    Err(ComposerError::OtherRun {
        what: what.to_owned(),
        saved: saved.to_string(),
        here: here.to_string(),
    })
}
