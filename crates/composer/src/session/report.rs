//! What a session reports: after every generation, and at the end.
//!
//! In JSON the names are in camel case, because these go to a page as they are; the run's record does not.

use lorahub_adapters::Rule;
use serde::{Deserialize, Serialize};

use crate::ObjectiveName;

/// Weights, and what they reached on the shots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// One per module.
    pub weights: Vec<f64>,
    /// CE: mean cross-entropy over the shots' target tokens, without the penalty.
    pub loss: f64,
    /// What is minimised.
    pub objective: f64,
}

/// The best module alone, at weight 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Single {
    /// Which module.
    pub index: usize,
    /// Its unit vector, and what that reached.
    #[serde(flatten)]
    pub point: Point,
}

/// The part of the strategy that is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The base, every module alone, and all with equal weights.
    Singles,
    /// Modules added to the best set as long as the objective falls; then one round of leaving one out.
    Pass,
    /// CMA-ES from the best point so far.
    Search,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Which one, from 1.
    pub evaluation: usize,
    /// In which part of the strategy.
    pub phase: Phase,
    /// CE; `None` where the model overflowed.
    pub loss: Option<f64>,
    /// What is minimised; `None` where the model overflowed.
    pub objective: Option<f64>,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// All evaluations are used.
    Budget,
    /// CMA-ES found nothing more to gain.
    Converged,
    /// The caller ended it.
    Cancelled,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Budget => "budget",
            Self::Converged => "converged",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Step {
    /// A generation was evaluated.
    Progress(Progress),
    /// Nothing was evaluated, because the search has ended.
    Done {
        /// Why.
        #[serde(rename = "stopReason")]
        stop_reason: StopReason,
    },
}

/// How far a search is, after a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The phase that this generation belonged to.
    pub phase: Phase,
    /// Generations evaluated, this one included.
    pub generation: usize,
    /// Evaluations done.
    pub evaluations: usize,
    /// Evaluations allowed.
    pub budget: usize,
    /// The best point so far.
    pub best: Point,
    /// The base's objective.
    pub base: f64,
    /// The best module alone, once one has been evaluated without overflow.
    pub best_single: Option<BestSingle>,
    /// This generation's evaluations.
    pub points: Vec<HistoryPoint>,
    /// The recent rate.
    pub evaluations_per_second: f64,
    /// Until the budget is used, at that rate.
    pub seconds_left: f64,
}

/// The best module alone, in [`Progress`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSingle {
    /// Which module.
    pub index: usize,
    /// Its objective at weight 1.
    pub objective: f64,
}

/// The result of a search.
///
/// The pass's result and the search's are both kept: with few shots the search can fit the shots and lose on other rows
/// what the pass had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The best weights: those of the lowest objective, the first of equals.
    pub weights: Vec<f64>,
    /// CE at the best weights, without the penalty.
    pub loss: f64,
    /// The objective at the best weights.
    pub objective: f64,
    /// Which objective it is.
    pub objective_name: ObjectiveName,
    /// The composition rule.
    pub rule: Rule,
    /// The search's seed.
    pub seed: u64,
    /// Evaluations allowed.
    pub budget: usize,
    /// Evaluations done.
    pub evaluations: usize,
    /// Generations evaluated.
    pub generations: usize,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// Why the search ended.
    pub stop_reason: StopReason,
    /// `w = 0`.
    pub base: Point,
    /// The unit vector with the lowest loss; `None` if none was evaluated without overflow.
    pub best_single: Option<Single>,
    /// `w_i = 1/N`; `None` where the search did not come so far, or overflowed there.
    pub uniform: Option<Point>,
    /// The best set of modules, each at weight 1, that the pass found (the base is the empty set).
    pub pass: Point,
    /// The best point of CMA-ES, which may be worse than the pass's; `None` where the search did not come so far.
    pub search: Option<Point>,
    /// Every evaluation, in order.
    pub history: Vec<HistoryPoint>,
}
