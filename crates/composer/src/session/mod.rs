//! The search session: a state machine that evaluates one generation a step.

mod report;
mod settings;
mod state;
mod strategy;

pub use report::{BestSingle, HistoryPoint, Outcome, Phase, Point, Progress, Single, Step, StopReason};
pub use settings::Settings;
pub use state::SessionState;

use state::Score;
use strategy::{Stage, next, ranked, round, singles, unit_count};

use crate::{Candidate, Clock, ComposerError, Evaluator, ShotLosses};

/// A search for the weights of a composition.
///
/// The caller owns the loop: it calls [`step`](Self::step) until that says [`Step::Done`], pauses by not calling, saves
/// [`state`](Self::state) between steps, and takes [`outcome`](Self::outcome) at the end. The evaluator comes with
/// every step, so a search can go on with another device after one has failed.
///
/// With the same settings, and an evaluator that gives the same losses, two sessions are the same bit for bit, whether
/// or not one of them was saved and resumed in between; only times differ.
#[derive(Debug)]
pub struct Session {
    state: SessionState,
    /// The candidates of the current round, which follow from the state.
    round: Vec<Vec<f64>>,
    cancelled: bool,
}

impl Session {
    /// A search over this many modules, before its first generation.
    ///
    /// # Errors
    /// [`ComposerError::NoModules`], [`Setting`](ComposerError::Setting), [`L1`](ComposerError::L1),
    /// [`ReferenceL1`](ComposerError::ReferenceL1), or the optimiser's for more modules than it is meant for.
    pub fn new(settings: Settings, modules: usize) -> Result<Self, ComposerError> {
        settings.check(modules)?;
        Self::of(SessionState::new(settings, modules))
    }

    /// Goes on with a saved search. One that was cancelled goes on too.
    ///
    /// # Errors
    /// [`ComposerError::State`] if no session of this version can have written the state, and those of
    /// [`new`](Self::new).
    pub fn resume(state: SessionState) -> Result<Self, ComposerError> {
        state.settings.check(state.modules)?;
        let session = Self::of(state)?;
        session.state.check(session.round.len())?;
        Ok(session)
    }

    fn of(mut state: SessionState) -> Result<Self, ComposerError> {
        let round = round(&mut state)?;
        Ok(Self {
            state,
            round,
            cancelled: false,
        })
    }

    /// The state to save. It holds whole generations: what a step is evaluating is not in it.
    pub fn state(&self) -> SessionState {
        self.state.clone()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// The number of modules searched over.
    pub fn modules(&self) -> usize {
        self.state.modules
    }

    /// Ends the search: the next step evaluates nothing, and the best point so far stays the result.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Evaluates one generation, at most [`Settings::max_generation`] candidates and never more than the budget leaves,
    /// and plans the next.
    ///
    /// Dropping the future, like an error, leaves the session as it was before the step: the same generation comes
    /// again, from whichever evaluator the next step is given.
    ///
    /// # Errors
    /// [`ComposerError::Evaluator`] if the device fails, [`ComposerError::Modules`] or [`ComposerError::Contract`] if
    /// the evaluator is not one for this session, [`ComposerError::BaseOverflow`] if the base has no finite loss.
    pub async fn step(&mut self, evaluator: &dyn Evaluator, clock: &dyn Clock) -> Result<Step, ComposerError> {
        let stop_reason = match &self.state.stage {
            Stage::Ended { reason } => Some(*reason),
            _ if self.cancelled => Some(StopReason::Cancelled),
            _ => None,
        };
        if let Some(stop_reason) = stop_reason {
            return Ok(Step::Done { stop_reason });
        }
        if evaluator.modules() != self.state.modules {
            return Err(ComposerError::Modules {
                expected: self.state.modules,
                found: evaluator.modules(),
            });
        }
        let settings = &self.state.settings;
        let left = settings.budget - self.state.evaluations();
        let candidates: Vec<Candidate> = self
            .round
            .iter()
            .skip(self.state.scores.len())
            .take(settings.max_generation.min(left))
            .map(|weights| Candidate {
                weights: weights.clone(),
            })
            .collect();

        let started = clock.seconds();
        let losses = evaluator.evaluate(&candidates).await?;
        let seconds = (clock.seconds() - started).max(0.0);
        check_losses(&candidates, &losses)?;

        // The rest happens on a copy, so that an error leaves the session as it was.
        let mut state = self.state.clone();
        let points = record(&mut state, &candidates, &losses)?;
        let phase = state.phase();
        note_time(&mut state, candidates.len(), seconds);
        let round = advance(&mut state, &self.round)?;
        self.state = state;
        if let Some(round) = round {
            self.round = round;
        }
        Ok(Step::Progress(self.progress(phase, points)?))
    }

    fn progress(&self, phase: Phase, points: Vec<HistoryPoint>) -> Result<Progress, ComposerError> {
        let state = &self.state;
        let best_single = self.best_single().map(|(index, score)| BestSingle {
            index,
            objective: score.objective,
        });
        // A clock too coarse to see a generation pass would make the rate infinite.
        let seconds_per_evaluation = state.seconds_per_evaluation.max(1e-9);
        Ok(Progress {
            phase,
            generation: state.generation,
            evaluations: state.evaluations(),
            budget: state.settings.budget,
            best: state.best.clone().ok_or(ComposerError::NothingEvaluated)?,
            base: self.base()?.objective,
            best_single,
            points,
            evaluations_per_second: 1.0 / seconds_per_evaluation,
            seconds_left: seconds_per_evaluation * (state.settings.budget - state.evaluations()) as f64,
        })
    }

    /// The result so far. Of a session that has not ended the stop reason is `cancelled`, for that is what not going on
    /// means.
    ///
    /// # Errors
    /// [`ComposerError::NothingEvaluated`] before the first generation.
    pub fn outcome(&self) -> Result<Outcome, ComposerError> {
        let state = &self.state;
        let (Some(best), Some(pass)) = (&state.best, &state.pass) else {
            return Err(ComposerError::NothingEvaluated);
        };
        let n = state.modules;
        let point = |weights, score: Score| Point {
            weights,
            loss: score.loss,
            objective: score.objective,
        };
        // The last candidate of the first round; for one module that is its unit.
        let uniform_score = self.units().get(unit_count(n) - 1).copied().flatten();
        Ok(Outcome {
            weights: best.weights.clone(),
            loss: best.loss,
            objective: best.objective,
            objective_name: state.settings.objective.name,
            rule: state.settings.rule,
            seed: state.settings.seed,
            budget: state.settings.budget,
            evaluations: state.evaluations(),
            generations: state.generation,
            seconds: state.seconds,
            stop_reason: match &state.stage {
                Stage::Ended { reason } => *reason,
                _ => StopReason::Cancelled,
            },
            base: point(vec![0.0; n], self.base()?),
            best_single: self.best_single().map(|(index, score)| Single {
                index,
                point: point(crate::unit(n, index), score),
            }),
            uniform: uniform_score.map(|score| point(crate::uniform(n), score)),
            pass: pass.clone(),
            search: state.search.clone(),
            history: state.history.clone(),
        })
    }

    /// The scores of the first round, as far as it has come.
    fn units(&self) -> &[Option<Score>] {
        match self.state.stage {
            Stage::Singles => &self.state.scores,
            _ => &self.state.singles,
        }
    }

    fn base(&self) -> Result<Score, ComposerError> {
        self.units()
            .first()
            .copied()
            .flatten()
            .ok_or(ComposerError::NothingEvaluated)
    }

    /// The best module alone. All have the same penalty, so the lowest objective is the lowest loss.
    fn best_single(&self) -> Option<(usize, Score)> {
        ranked(singles(&self.state)).first().copied()
    }
}

/// Takes the losses of a generation into the state.
fn record(
    state: &mut SessionState,
    candidates: &[Candidate],
    losses: &[ShotLosses],
) -> Result<Vec<HistoryPoint>, ComposerError> {
    let phase = state.phase();
    let mut points = Vec::with_capacity(candidates.len());
    for (candidate, losses) in candidates.iter().zip(losses) {
        let loss = losses.batch_loss();
        let objective = state.settings.objective.value(losses, &candidate.weights);
        let score = objective.is_finite().then_some(Score { loss, objective });
        // The first candidate of all is the base.
        if state.history.is_empty() && score.is_none() {
            return Err(ComposerError::BaseOverflow);
        }
        if let Some(score) = score {
            let is_uniform = phase == Phase::Singles && state.scores.len() > state.modules;
            let of_phase = match phase {
                // The pass's results are sets of modules; the uniform point is none.
                Phase::Singles if is_uniform => None,
                Phase::Singles | Phase::Pass => Some(&mut state.pass),
                Phase::Search => Some(&mut state.search),
            };
            for best in [Some(&mut state.best), of_phase].into_iter().flatten() {
                if best.as_ref().is_none_or(|best| score.objective < best.objective) {
                    *best = Some(Point {
                        weights: candidate.weights.clone(),
                        loss,
                        objective,
                    });
                }
            }
        }
        state.scores.push(score);
        let point = HistoryPoint {
            evaluation: state.history.len() + 1,
            phase,
            loss: score.map(|score| score.loss),
            objective: score.map(|score| score.objective),
        };
        state.history.push(point.clone());
        points.push(point);
    }
    state.generation += 1;
    Ok(points)
}

/// Share of the last generation in the smoothed time per evaluation: the phases cost differently, so the recent ones say
/// more about what is left.
const RECENT: f64 = 0.3;

fn note_time(state: &mut SessionState, evaluations: usize, seconds: f64) {
    state.seconds += seconds;
    let now = seconds / evaluations as f64;
    let before = state.seconds_per_evaluation;
    state.seconds_per_evaluation = if state.generation == 1 {
        now
    } else {
        before + RECENT * (now - before)
    };
}

/// Moves on to the next round if this one is complete, and ends where the budget is used. Returns the new round, if it
/// is another.
fn advance(state: &mut SessionState, current: &[Vec<f64>]) -> Result<Option<Vec<Vec<f64>>>, ComposerError> {
    let mut candidates = None;
    let mut length = current.len();
    while state.scores.len() >= length && !matches!(state.stage, Stage::Ended { .. }) {
        let stage = next(state)?;
        leave(state);
        state.stage = stage;
        let round = round(state)?;
        length = round.len();
        candidates = Some(round);
    }
    if state.evaluations() >= state.settings.budget && !matches!(state.stage, Stage::Ended { .. }) {
        leave(state);
        state.stage = Stage::Ended {
            reason: StopReason::Budget,
        };
        candidates = Some(Vec::new());
    }
    Ok(candidates)
}

/// Puts the scores of a round away; those of the first one are kept.
fn leave(state: &mut SessionState) {
    let scores = std::mem::take(&mut state.scores);
    if matches!(state.stage, Stage::Singles) {
        state.singles = scores;
    }
}

pub(crate) fn check_losses(candidates: &[Candidate], losses: &[ShotLosses]) -> Result<(), ComposerError> {
    let contract = |expected: String, found: String| Err(ComposerError::Contract { expected, found });
    if losses.len() != candidates.len() {
        return contract(
            format!("losses of {} candidates", candidates.len()),
            format!("losses of {}", losses.len()),
        );
    }
    for losses in losses {
        if losses.nll.is_empty() || losses.nll.len() != losses.tokens.len() || losses.tokens.contains(&0) {
            return contract(
                "one loss and at least one token for each shot".to_owned(),
                format!("{} losses and {:?} tokens", losses.nll.len(), losses.tokens),
            );
        }
    }
    Ok(())
}
