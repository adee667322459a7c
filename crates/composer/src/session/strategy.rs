//! The default strategy: which candidates come next.
//!
//! A stage is one round of candidates, evaluated in as many generations as they need. The rounds:
//!
//! 1. **Singles**: the base, every module alone at weight 1, and all at `1/N`.
//! 2. **Pass**: from the best single (or the base, if no single beats it), each round tries every remaining module
//!    beside the set, the best singles first, and adds the one that lowers the objective most; when none does, one
//!    round leaves out each module of the set in turn. Ranking the modules by their gain in company matters: added in
//!    random order they end far worse.
//! 3. **Search**: CMA-ES from the best point so far, until it converges or the budget is used. Under rule `reference` it
//!    does not start at the base but at the best single: there the update is quadratic in `w`, so around 0 nothing but
//!    the penalty has a slope, and the search would stay. The last generation is cut to the budget: its candidates
//!    still count as points found, but the optimiser is not told of them, because it takes whole generations only.

use lorahub_adapters::Rule;
use lorahub_optim::CmaEs;
use serde::{Deserialize, Serialize};

use super::StopReason;
use super::state::{Score, SessionState, check_search, unusable};
use crate::ComposerError;
use crate::points::{uniform, unit};

/// Where the strategy is. Each stage but the last is one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Stage {
    /// The first round.
    Singles,
    /// Each remaining module beside the set.
    Add {
        /// The modules taken, in the order they were.
        set: Vec<usize>,
        /// The set's objective.
        objective: f64,
    },
    /// The set without each of its modules.
    Drop {
        /// The modules taken, in the order they were.
        set: Vec<usize>,
    },
    /// CMA-ES, with a generation asked.
    Search {
        /// The optimiser.
        cma: Box<CmaEs>,
    },
    /// Nothing more to evaluate.
    Ended {
        /// Why.
        reason: StopReason,
    },
}

/// Candidates of the first round: the base, the units, and the uniform point, which for one module is its unit.
pub(super) fn unit_count(modules: usize) -> usize {
    if modules == 1 { 2 } else { modules + 2 }
}

/// The candidates of the round that `state` is in. Asking twice gives the same ones.
pub(super) fn round(state: &mut SessionState) -> Result<Vec<Vec<f64>>, ComposerError> {
    let n = state.modules;
    let candidates = match &mut state.stage {
        Stage::Singles => {
            let mut candidates = vec![vec![0.0; n]];
            candidates.extend((0..n).map(|module| unit(n, module)));
            if n > 1 {
                candidates.push(uniform(n));
            }
            candidates
        }
        Stage::Add { set, .. } => {
            check_set(set, n)?;
            let set = set.clone();
            remaining(state, &set)
                .into_iter()
                .map(|module| sum(n, &set, Some(module)))
                .collect()
        }
        Stage::Drop { set } => {
            check_set(set, n)?;
            drops(set)
                .into_iter()
                .map(|left_out| sum(n, &without(set, left_out), None))
                .collect()
        }
        Stage::Search { cma } => {
            check_search(cma, n)?;
            cma.ask()
        }
        Stage::Ended { .. } => Vec::new(),
    };
    Ok(candidates)
}

/// The stage after a complete round. Leaves `state` to the caller, who makes the change.
pub(super) fn next(state: &SessionState) -> Result<Stage, ComposerError> {
    match &state.stage {
        Stage::Singles => {
            let base = state
                .scores
                .first()
                .copied()
                .flatten()
                .ok_or(ComposerError::BaseOverflow)?;
            match ranked(singles(state)).first() {
                Some(&(module, score)) if score.objective < base.objective => {
                    after_taking(state, vec![module], score.objective)
                }
                _ => search(state),
            }
        }
        Stage::Add { set, objective } => {
            let modules = remaining(state, set);
            match ranked(&state.scores).first() {
                Some(&(position, score)) if score.objective < *objective => {
                    let module = modules.get(position).ok_or_else(|| unusable("its round is too long"))?;
                    let set = set.iter().chain([module]).copied().collect();
                    after_taking(state, set, score.objective)
                }
                _ if drops(set).is_empty() => search(state),
                _ => Ok(Stage::Drop { set: set.clone() }),
            }
        }
        Stage::Drop { .. } => search(state),
        Stage::Search { cma } => {
            let mut cma = cma.clone();
            let objective = |score: &Option<Score>| score.map_or(f64::INFINITY, |score| score.objective);
            cma.tell(&state.scores.iter().map(objective).collect::<Vec<f64>>())?;
            if cma.stop().is_some() {
                let reason = StopReason::Converged;
                return Ok(Stage::Ended { reason });
            }
            Ok(Stage::Search { cma })
        }
        Stage::Ended { reason } => Ok(Stage::Ended { reason: *reason }),
    }
}

/// Where a pass goes on that has just taken a module.
fn after_taking(state: &SessionState, set: Vec<usize>, objective: f64) -> Result<Stage, ComposerError> {
    if set.len() < state.modules {
        Ok(Stage::Add { set, objective })
    } else if drops(&set).is_empty() {
        search(state)
    } else {
        Ok(Stage::Drop { set })
    }
}

fn search(state: &SessionState) -> Result<Stage, ComposerError> {
    let best = state.best.as_ref().ok_or(ComposerError::NothingEvaluated)?;
    let mut start = best.weights.clone();
    if state.settings.rule == Rule::Reference
        && start.iter().all(|&weight| weight == 0.0)
        && let Some(&(module, _)) = ranked(singles(state)).first()
    {
        start = unit(state.modules, module);
    }
    let mut cma = state.settings.cma_es(start)?;
    cma.observe(&best.weights, best.objective)?;
    Ok(Stage::Search { cma: Box::new(cma) })
}

/// The scores by rising objective, with their positions; equal ones keep their order, overflowed ones are left out.
pub(super) fn ranked(scores: &[Option<Score>]) -> Vec<(usize, Score)> {
    let mut ranked: Vec<(usize, Score)> = scores
        .iter()
        .enumerate()
        .filter_map(|(position, score)| Some((position, (*score)?)))
        .collect();
    ranked.sort_by(|(_, a), (_, b)| a.objective.total_cmp(&b.objective));
    ranked
}

/// The scores of the modules alone, as far as they are known.
pub(super) fn singles(state: &SessionState) -> &[Option<Score>] {
    let first_round = match state.stage {
        Stage::Singles => &state.scores,
        _ => &state.singles,
    };
    first_round
        .get(1..first_round.len().min(state.modules + 1))
        .unwrap_or(&[])
}

/// The modules that a round of the pass tries beside `set`: by the objective of each alone, those that overflowed alone
/// not at all, at most `pass_width`.
fn remaining(state: &SessionState, set: &[usize]) -> Vec<usize> {
    let mut modules: Vec<usize> = ranked(singles(state)).into_iter().map(|(module, _)| module).collect();
    modules.retain(|module| !set.contains(module));
    modules.truncate(state.settings.pass_width);
    modules
}

/// The modules whose leaving out gives a set not yet evaluated: not of one or two, which leaves the base or a single,
/// and not the last one taken, which leaves the set before.
fn drops(set: &[usize]) -> Vec<usize> {
    match set {
        [others @ .., _] if set.len() > 2 => others.to_vec(),
        _ => Vec::new(),
    }
}

fn without(set: &[usize], left_out: usize) -> Vec<usize> {
    set.iter().copied().filter(|&module| module != left_out).collect()
}

/// The modules of `set`, and one more, each at weight 1.
fn sum(n: usize, set: &[usize], more: Option<usize>) -> Vec<f64> {
    (0..n)
        .map(|module| {
            if set.contains(&module) || more == Some(module) {
                1.0
            } else {
                0.0
            }
        })
        .collect()
}

fn check_set(set: &[usize], modules: usize) -> Result<(), ComposerError> {
    let inside = set.iter().all(|&module| module < modules);
    if inside && (1..=modules).contains(&set.len()) {
        Ok(())
    } else {
        Err(unusable("its set holds a module that does not exist"))
    }
}
