//! What the search knows of models and devices: the [`Evaluator`] it asks, and the clock it is given.

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::ShotLosses;

/// One point of the search: a weight per module, in the modules' order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The weights `w`; the search keeps them inside its box, `[-1.5, 1.5]` unless said.
    pub weights: Vec<f64>,
}

/// What a model answered to one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The text, special tokens left out.
    pub text: String,
    /// The token ids: no start token, `</s>` included where it was produced.
    pub ids: Vec<u32>,
}

/// A future of an [`Evaluator`]. It need not be `Send`: a device may live on one thread, as it does in a browser.
pub type EvalFuture<'a, T> = LocalBoxFuture<'a, Result<T, EvaluatorError>>;

/// A failure of the model or the device under an [`Evaluator`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EvaluatorError {
    /// A stable name for programs, such as `device`, `memory` or `cancelled`.
    pub code: &'static str,
    /// What went wrong, as one sentence.
    pub message: String,
    /// The error it was made from.
    #[source]
    pub source: Box<dyn std::error::Error>,
}

impl EvaluatorError {
    /// From any error, with the code that programs see; the message is the error's own.
    pub fn new(code: &'static str, source: impl std::error::Error + 'static) -> Self {
        Self {
            code,
            message: source.to_string(),
            source: Box::new(source),
        }
    }
}

/// A model with a bank of modules and a set of shots, on some device.
///
/// The methods take `&self`, so one evaluator may serve a search and a generation in turn; they are not called at the
/// same time. After an error the same call may be repeated, here or on another evaluator of the same modules and shots.
pub trait Evaluator {
    /// The number of modules, N: the length of every candidate's weights.
    fn modules(&self) -> usize;

    /// The losses of each candidate on the shots, in the candidates' order.
    ///
    /// # Errors
    /// [`EvaluatorError`] if the device fails or there are no shots. A candidate whose activations overflow is not an
    /// error: its losses are not finite, and the search takes it for the worst.
    fn evaluate<'a>(&'a self, candidates: &'a [Candidate]) -> EvalFuture<'a, Vec<ShotLosses>>;

    /// A greedy answer to each input under one candidate, in the inputs' order.
    ///
    /// # Errors
    /// [`EvaluatorError`] if the device fails, or if an input needs more memory than there is.
    fn generate<'a>(
        &'a self,
        candidate: &'a Candidate,
        inputs: &'a [String],
        max_new_tokens: usize,
    ) -> EvalFuture<'a, Vec<Generation>>;

    /// The name of what computes, for people and for the run's record.
    fn backend(&self) -> String;
}

/// A clock that only goes forward. The caller brings it, because this crate reads none.
pub trait Clock {
    /// Seconds since some fixed moment.
    fn seconds(&self) -> f64;
}
