//! What the caller decides about a search.

use lorahub_adapters::Rule;
use lorahub_optim::{CmaEs, Settings as CmaSettings, Tolerances};
use serde::{Deserialize, Serialize};

use crate::{ComposerError, Objective};

/// The settings of a search. [`Settings::new`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The rule that the evaluator composes by: the run's record names it, and it decides where the search may start.
    pub rule: Rule,
    /// What is minimised.
    pub objective: Objective,
    /// Evaluations in all: base, singles, uniform and pass are counted.
    pub budget: usize,
    /// Seed of the search's random numbers.
    pub seed: u64,
    /// Candidates of a CMA-ES generation; `None` is its own default for the number of modules.
    pub lambda: Option<usize>,
    /// First step size of CMA-ES.
    pub sigma: f64,
    /// The box: every weight lies in `[-bound, bound]`.
    pub bound: f64,
    /// Most candidates that one step evaluates.
    pub max_generation: usize,
    /// Most modules that one round of the pass tries to add, the most promising first.
    pub pass_width: usize,
    /// CMA-ES has converged when its recent losses lie within this range.
    pub tol_fun: f64,
}

impl Settings {
    /// The defaults: the normalised objective, 200 evaluations, seed 0; CMA-ES with 16 candidates a generation, step
    /// size 0.15 and weights in `[-1.5, 1.5]`.
    ///
    /// 0.15 because the search starts near a good point, from which larger steps first get worse.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            objective: Objective::NORMALISED,
            budget: 200,
            seed: 0,
            lambda: Some(16),
            sigma: 0.15,
            bound: 1.5,
            max_generation: 16,
            pass_width: 32,
            tol_fun: 1e-4,
        }
    }

    /// Checks every setting, CMA-ES's included, for a search over this many modules.
    pub(super) fn check(&self, modules: usize) -> Result<(), ComposerError> {
        if modules == 0 {
            return Err(ComposerError::NoModules);
        }
        Objective::new(self.objective.name, Some(self.objective.l1))?;
        for (setting, found) in [
            ("budget", self.budget),
            ("max_generation", self.max_generation),
            ("pass_width", self.pass_width),
        ] {
            if found == 0 {
                return Err(setting_error(setting, "at least 1", 0));
            }
        }
        // The unit vectors are evaluated, so the box has to hold them.
        if !(self.bound.is_finite() && self.bound >= 1.0) {
            return Err(setting_error("bound", "a number from 1 up", self.bound));
        }
        if !(self.sigma > 0.0 && self.sigma <= 2.0 * self.bound) {
            return Err(setting_error(
                "sigma",
                "more than 0 and at most the width of the box",
                self.sigma,
            ));
        }
        if !(self.tol_fun.is_finite() && self.tol_fun >= 0.0) {
            return Err(setting_error("tol_fun", "a number from 0 up", self.tol_fun));
        }
        self.cma_es(vec![0.0; modules])?;
        Ok(())
    }

    /// CMA-ES from this start.
    pub(super) fn cma_es(&self, mean: Vec<f64>) -> Result<CmaEs, ComposerError> {
        let n = mean.len();
        Ok(CmaEs::new(CmaSettings {
            bounds: Some((vec![-self.bound; n], vec![self.bound; n])),
            lambda: self.lambda,
            seed: self.seed,
            tolerances: Tolerances {
                tol_fun: self.tol_fun,
                ..Tolerances::default()
            },
            ..CmaSettings::new(mean, self.sigma)
        })?)
    }
}

fn setting_error(setting: &'static str, expected: &'static str, found: impl ToString) -> ComposerError {
    ComposerError::Setting {
        setting,
        expected,
        found: found.to_string(),
    }
}
