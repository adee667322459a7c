//! The saved session: what cannot be computed again.

use lorahub_optim::CmaEs;
use serde::{Deserialize, Serialize};

use super::strategy::{Stage, unit_count};
use super::{HistoryPoint, Phase, Point, Settings};
use crate::ComposerError;

/// Version of the layout below; raise it when a field changes its meaning.
const SCHEMA: u32 = 1;

/// A session between two generations, to be saved. Resumed, it goes on with the same bits, under the same evaluator.
///
/// It holds weights and losses, and none of the shots' text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionState {
    schema: u32,
    pub(super) settings: Settings,
    pub(super) modules: usize,
    pub(super) stage: Stage,
    /// The scores of the candidates of the current round that have been evaluated.
    pub(super) scores: Vec<Option<Score>>,
    /// The scores of the first round: base, units in order, uniform.
    pub(super) singles: Vec<Option<Score>>,
    pub(super) best: Option<Point>,
    pub(super) pass: Option<Point>,
    pub(super) search: Option<Point>,
    pub(super) generation: usize,
    /// One entry per evaluation.
    pub(super) history: Vec<HistoryPoint>,
    pub(super) seconds: f64,
    /// Recent seconds per evaluation, smoothed; 0 before the first.
    pub(super) seconds_per_evaluation: f64,
}

/// What a candidate reached, if it did not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Score {
    pub(super) loss: f64,
    pub(super) objective: f64,
}

impl SessionState {
    pub(super) fn new(settings: Settings, modules: usize) -> Self {
        Self {
            schema: SCHEMA,
            settings,
            modules,
            stage: Stage::Singles,
            scores: Vec::new(),
            singles: Vec::new(),
            best: None,
            pass: None,
            search: None,
            generation: 0,
            history: Vec::new(),
            seconds: 0.0,
            seconds_per_evaluation: 0.0,
        }
    }

    /// The search's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of modules searched over.
    pub fn modules(&self) -> usize {
        self.modules
    }

    /// Evaluations done.
    pub fn evaluations(&self) -> usize {
        self.history.len()
    }

    /// Checks what was read from outside, so that going on cannot fail on it. `round` is the length of the round that
    /// the stage is in.
    pub(super) fn check(&self, round: usize) -> Result<(), ComposerError> {
        self.check_numbers()?;
        let ended = matches!(self.stage, Stage::Ended { .. });
        if !ended && self.scores.len() >= round {
            return Err(unusable("its round is complete, and it did not go on"));
        }
        let expected = match self.stage {
            Stage::Singles => 0..=0,
            // The budget may have ended it among the singles.
            Stage::Ended { .. } => 1..=unit_count(self.modules),
            _ => unit_count(self.modules)..=unit_count(self.modules),
        };
        if !expected.contains(&self.singles.len()) {
            return Err(unusable("its singles are incomplete"));
        }
        if self.evaluations() > self.settings.budget || (!ended && self.evaluations() == self.settings.budget) {
            return Err(unusable("its evaluations do not fit its budget"));
        }
        let started = !self.history.is_empty();
        if started != self.best.is_some() || started != self.pass.is_some() || started != (self.generation > 0) {
            return Err(unusable(
                "it has a best point without evaluations, or evaluations without one",
            ));
        }
        let first = if self.singles.is_empty() {
            &self.scores
        } else {
            &self.singles
        };
        if started && first.first().copied().flatten().is_none() {
            return Err(unusable("the base has no loss"));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ComposerError> {
        if self.schema != SCHEMA {
            let what = format!("it has schema {}, this program writes schema {SCHEMA}", self.schema);
            return Err(ComposerError::State { what });
        }
        let points = self.best.iter().chain(&self.pass).chain(&self.search);
        for point in points {
            let numbers = point.weights.iter().chain([&point.loss, &point.objective]);
            if point.weights.len() != self.modules || numbers.into_iter().any(|number| !number.is_finite()) {
                return Err(unusable("a point does not have one finite weight per module"));
            }
        }
        if !(self.seconds.is_finite() && self.seconds_per_evaluation.is_finite()) {
            return Err(unusable("its times are not numbers"));
        }
        Ok(())
    }

    /// The phase that the stage belongs to.
    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Singles => Phase::Singles,
            Stage::Add { .. } | Stage::Drop { .. } => Phase::Pass,
            Stage::Search { .. } => Phase::Search,
            Stage::Ended { .. } => self.history.last().map_or(Phase::Singles, |point| point.phase),
        }
    }
}

/// Checks that a saved optimiser belongs to this search.
pub(super) fn check_search(cma: &CmaEs, modules: usize) -> Result<(), ComposerError> {
    if cma.dimension() == modules {
        Ok(())
    } else {
        Err(unusable(
            "its optimiser has another number of coordinates than there are modules",
        ))
    }
}

pub(super) fn unusable(what: &str) -> ComposerError {
    ComposerError::State { what: what.to_owned() }
}
