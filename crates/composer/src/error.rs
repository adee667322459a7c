//! What can go wrong with a task, a search or an evaluation.

use lorahub_optim::OptimError;

use crate::EvaluatorError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposerError {
    /// A rows file is not text.
    #[error("{file}, line {line}: not UTF-8; save it as UTF-8 JSON Lines, one object a line")]
    NotUtf8 {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A line is not one JSON value.
    #[error(
        "{file}, line {line}: expected one JSON object, found a syntax error ({reason}); write one object a line, such \
         as {{\"input\": \"...\", \"output\": \"...\"}}"
    )]
    Json {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The parser's words.
        reason: String,
    },
    /// A line is JSON, but no object.
    #[error(
        "{file}, line {line}: expected an object with `input` and `output`, found {found}; write one object a line, \
         not one array over all lines"
    )]
    NotAnObject {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What kind of value it is.
        found: &'static str,
    },
    /// A row has neither pair of fields.
    #[error(
        "{file}, line {line}: expected `input` and `output` (or `context` and `completion`), found {found}; rename the \
         fields"
    )]
    Fields {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The fields there are.
        found: String,
    },
    /// A field is not text.
    #[error("{file}, line {line}: `{field}` should be a string, found {found}; put it in double quotes")]
    NotText {
        /// The file, as the caller calls it.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What kind of value it is.
        found: &'static str,
    },
    /// A rows file without rows.
    #[error("{file}: no rows; write at least one object with `input` and `output`")]
    NoRows {
        /// The file, as the caller calls it.
        file: String,
    },
    /// A test row is among the shots.
    #[error(
        "test row {test} has the input of shot {shot}; test rows must not overlap the shots: remove one of the two"
    )]
    Overlap {
        /// The test row, from 1.
        test: usize,
        /// The shot, from 1.
        shot: usize,
    },
    /// An objective's name that is neither of the two.
    #[error("unknown objective `{found}`; expected `reference` or `normalised`")]
    UnknownObjective {
        /// The name given.
        found: String,
    },
    /// A penalty that cannot be one.
    #[error("the penalty's factor is {found}; expected a number from 0 up, such as 0.05")]
    L1 {
        /// The factor given.
        found: f64,
    },
    /// The reference objective with a factor of its own.
    #[error("objective `reference` has a penalty of 0.05, found {found}; choose objective `normalised` to change it")]
    ReferenceL1 {
        /// The factor given.
        found: f64,
    },
    /// A setting of the search is out of range.
    #[error("setting `{setting}` is {found}, expected {expected}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A search over no modules.
    #[error("there are no modules to search over; give at least one")]
    NoModules,
    /// The evaluator has other modules than the session.
    #[error("the session searches over {expected} modules and the evaluator has {found}; give it the same modules")]
    Modules {
        /// Modules of the session.
        expected: usize,
        /// Modules of the evaluator.
        found: usize,
    },
    /// An evaluator that broke its contract.
    #[error("the evaluator returned {found}, expected {expected}; this is a defect of the evaluator")]
    Contract {
        /// What it should have returned.
        expected: String,
        /// What it returned.
        found: String,
    },
    /// The base itself overflows, which no module will mend.
    #[error(
        "the base model's loss on the shots is not finite; shorten the shots, or check that the base's weights are \
         undamaged"
    )]
    BaseOverflow,
    /// No result, because nothing has been evaluated.
    #[error("the search has evaluated nothing yet, so it has no result; let it run one generation")]
    NothingEvaluated,
    /// A saved session that this program cannot go on with.
    #[error("the saved session is unusable: {what}; start the search again")]
    State {
        /// What is wrong with it.
        what: String,
    },
    /// A saved session of another run.
    #[error(
        "the saved session is of another run: its {what} is {saved}, here it is {here}; resume it with the same {what}"
    )]
    OtherRun {
        /// What differs.
        what: String,
        /// As saved.
        saved: String,
        /// As given now.
        here: String,
    },
    /// A candidate of an evaluation has not one weight per module.
    #[error("candidate `{name}` has {found} weights for {expected} modules; give one weight per module")]
    Weights {
        /// The candidate.
        name: String,
        /// Modules of the evaluator.
        expected: usize,
        /// Weights given.
        found: usize,
    },
    /// The optimiser refused.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// The model or the device failed; the session is as it was before the step.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
}

impl ComposerError {
    /// A stable name for programs; part of the public interface.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. }
            | Self::Json { .. }
            | Self::NotAnObject { .. }
            | Self::Fields { .. }
            | Self::NotText { .. }
            | Self::NoRows { .. } => "rows",
            Self::Overlap { .. } => "overlap",
            Self::UnknownObjective { .. } | Self::L1 { .. } | Self::ReferenceL1 { .. } | Self::Setting { .. } => {
                "settings"
            }
            Self::NoModules | Self::Modules { .. } => "modules",
            Self::Weights { .. } => "weights",
            Self::Contract { .. } => "evaluator",
            Self::BaseOverflow => "overflow",
            Self::NothingEvaluated => "nothing_evaluated",
            Self::State { .. } => "state",
            Self::OtherRun { .. } => "other_run",
            Self::Optim(_) => "optimiser",
            Self::Evaluator(error) => error.code,
        }
    }
}
