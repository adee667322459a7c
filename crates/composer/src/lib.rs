//! Adapting to a task: the shots, the objective, the search session, baselines and held-out evaluation.
//!
//! This crate knows models and devices only as an [`Evaluator`]. It does no I/O and reads no clock; all randomness
//! comes from the caller's seed.
//!
//! Start reading at [`Session::step`]: it evaluates one generation and plans the next. `session/strategy.rs` says what
//! comes when, `objective.rs` what is minimised.

mod error;
mod evaluator;
mod held_out;
mod objective;
mod points;
mod record;
mod session;
mod shot;

pub use error::ComposerError;
pub use evaluator::{Candidate, Clock, EvalFuture, Evaluator, EvaluatorError, Generation};
pub use held_out::{
    Accuracy, HeldOut, HeldOutProgress, HeldOutRow, HeldOutSettings, Prediction, best_single, evaluate_held_out,
    exact_match, is_exact_match, normalise_answer, wilson_interval,
};
pub use objective::{Objective, ObjectiveName, REFERENCE_L1, ShotLosses};
pub use points::{uniform, unit};
pub use record::{BaseRef, Checkpoint, ModuleRef, RECORD_SCHEMA, RunInputs, RunRecord, backend_then};
pub use session::{
    BestSingle, HistoryPoint, Outcome, Phase, Point, Progress, Session, SessionState, Settings, Single, Step,
    StopReason,
};
pub use shot::{Shot, check_disjoint, parse_rows, shots_bytes};
