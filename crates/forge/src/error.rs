//! What can go wrong in the forge.

use std::path::{Path, PathBuf};

use lorahub_adapters::AdapterError;
use lorahub_composer::{ComposerError, EvaluatorError};
use lorahub_t5::T5Error;
use lorahub_tensor::TensorError;
use lorahub_weights::WeightsError;

/// An error of the forge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgeError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the family is not what the forge wrote.
    #[error("{path}: {problem}; delete it and run the forge again")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file was made from another seed or recipe.
    #[error("{path} was made by `{found}`, but this run is `{expected}`; delete it, or give another --out")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// The recipe of this run.
        expected: String,
        /// The recipe the file records.
        found: String,
    },
    /// A variable that training does not reach.
    #[error("`{name}` gets no gradient; an operation on its path has no backward form")]
    NoGradient {
        /// The variable.
        name: String,
    },
    /// Training left the numbers.
    #[error("the loss is {loss} at step {step} of {what}; lower the learning rate")]
    Diverged {
        /// What was trained.
        what: String,
        /// The step.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// A name that no rule, module or task has.
    #[error("no {what} is called `{name}`")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// The name given.
        name: String,
    },
    /// The files and the sums of the family differ.
    #[error("{0}")]
    Check(String),
    /// A thread that trained modules gave up.
    #[error("{0}")]
    Worker(String),
    /// A device error.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A model error.
    #[error(transparent)]
    T5(Box<T5Error>),
    /// A module error.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
    /// A weight file error.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A search error.
    #[error(transparent)]
    Composer(Box<ComposerError>),
    /// An evaluation error.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// candle refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// A value could not be written as JSON.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

impl ForgeError {
    /// An I/O error with its file.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<T5Error> for ForgeError {
    fn from(error: T5Error) -> Self {
        Self::T5(Box::new(error))
    }
}

impl From<AdapterError> for ForgeError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Box::new(error))
    }
}

impl From<ComposerError> for ForgeError {
    fn from(error: ComposerError) -> Self {
        Self::Composer(Box::new(error))
    }
}
