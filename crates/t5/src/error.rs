//! What can go wrong with a model.

use lorahub_adapters::AdapterError;
use lorahub_tensor::TensorError;
use lorahub_weights::WeightsError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum T5Error {
    /// `config.json` is not the configuration of a T5.
    #[error("config.json: {0}; use the config.json of a T5 or Flan-T5 model")]
    ConfigSyntax(String),
    /// A field of `config.json` has a value that this engine does not run.
    #[error("config.json: `{field}` is {found}, expected {expected}; use the config.json of a T5 or Flan-T5 model")]
    Config {
        /// The field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// `tokenizer.json` cannot be used.
    #[error("tokenizer.json: {0}; use the tokenizer.json that belongs to this model")]
    Tokenizer(String),
    /// The weight file is malformed.
    #[error("the weights: {0}")]
    Weights(#[from] WeightsError),
    /// The weight file lacks a tensor.
    #[error("the weights: tensor `{name}` is missing; is this the weight file that belongs to config.json?")]
    MissingTensor {
        /// Hugging Face's name for it.
        name: String,
    },
    /// The weight file holds a tensor that this model has no place for.
    #[error(
        "the weights: tensor `{name}` has no place in this model; is this the weight file that belongs to \
         config.json?"
    )]
    UnexpectedTensor {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than `config.json` says.
    #[error(
        "the weights: tensor `{name}` is {found:?}, expected {expected:?}, as config.json says; use the weight file \
         and config.json of one model"
    )]
    TensorShape {
        /// Its name.
        name: String,
        /// The shape by `config.json`.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// The modules adapt a linear that the base does not have.
    #[error("the modules adapt `{path}`, which this base does not have; load the base that they were trained on")]
    UnknownTarget {
        /// The linear.
        path: String,
    },
    /// The modules adapt a linear of another size.
    #[error(
        "the modules adapt `{path}` from {} to {} columns, and this base has {} to {}; load the base that they were \
         trained on", found.0, found.1, expected.0, expected.1
    )]
    TargetShape {
        /// The linear.
        path: String,
        /// `d_in` and `d_out` of the base.
        expected: (usize, usize),
        /// `d_in` and `d_out` of the modules.
        found: (usize, usize),
    },
    /// The modules cannot be composed. In a box, because errors travel through every function.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
    /// A list of weights has another length than the bank.
    #[error("{found} weights for {modules} modules; give one weight for each module, in the modules' order")]
    Weight {
        /// Modules in the bank.
        modules: usize,
        /// Weights given.
        found: usize,
    },
    /// Evaluation was asked for without shots.
    #[error("there are no shots to evaluate on; give at least one example")]
    NoShots,
    /// An input would need more memory than there is.
    #[error("an input of {tokens} tokens needs about {need} MB, and the budget is {budget} MB; shorten the input")]
    Memory {
        /// Tokens of the input.
        tokens: usize,
        /// Estimated need in MB (1e6 bytes).
        need: u64,
        /// Budget in MB.
        budget: u64,
    },
    /// The device failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<AdapterError> for T5Error {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Box::new(error))
    }
}

impl T5Error {
    /// A stable name for programs; part of the public interface.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ConfigSyntax(_) | Self::Config { .. } => "base_config",
            Self::Tokenizer(_) => "base_tokenizer",
            Self::Weights(_)
            | Self::MissingTensor { .. }
            | Self::UnexpectedTensor { .. }
            | Self::TensorShape { .. } => "base_weights",
            Self::Adapter(_) | Self::UnknownTarget { .. } | Self::TargetShape { .. } => "adapter",
            Self::Weight { .. } => "weights",
            Self::NoShots => "shots",
            Self::Memory { .. } => "memory",
            Self::Tensor(TensorError::Cancelled) => "cancelled",
            Self::Tensor(TensorError::Device(error)) => error.code,
            Self::Tensor(_) => "device",
        }
    }
}
