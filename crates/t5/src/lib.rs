//! Flan-T5, written once over [`Backend`](lorahub_tensor::Backend).
//!
//! [`Config`] is the validated `config.json`, [`T5`] the network, [`Tokenizer`] the text side, [`Model`] the three
//! together as loaded from files, and [`Engine`] a model with a bank of modules and a set of shots: the
//! [`Evaluator`](lorahub_composer::Evaluator) that the search asks for losses.
//!
//! Words as in the LoRAHub paper: `C` candidates are evaluated together on `k` shots, whose tokens lie end to end
//! without padding; see `lorahub_tensor` for the shapes.
//!
//! This crate does no I/O: files come as bytes.

mod any;
mod buckets;
mod config;
mod engine;
mod error;
mod estimate;
mod generate;
mod load;
mod measure;
mod model;
mod modules;
mod tokenizer;

pub use any::{AnyEngine, AnyModel, ModelFuture, OnToken};
pub use config::{Activation, Config};
pub use engine::{Engine, Model, ModelFiles};
pub use error::T5Error;
pub use estimate::{Cost, Product};
pub use generate::Decode;
pub use load::{HEAD, SHARED, WeightSource, expected_tensors};
pub use measure::{block_seconds, evaluation_seconds};
pub use model::{Adapter, Prepared, T5};
pub use modules::Modules;
pub use tokenizer::{MAX_TOKENS, Tokenizer};
