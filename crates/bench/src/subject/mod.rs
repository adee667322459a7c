//! One of those that are compared on the same work: ours, or candle's own T5.
//!
//! A [`Subject`] is made ready for one [`Job`] and then does it whenever it is told to. Who is told when, and how long it
//! took, is the business of `cargo xtask bench peers`, which has peers in JavaScript and Python under the same orders.

mod candle;
mod ours;

use std::rc::Rc;

use lorahub_adapters::Rule;
use lorahub_tensor::{Arithmetic, Products};
use serde::Deserialize;

use crate::{BenchError, Shape, Stored};

use self::candle::Candle;
use self::ours::Ours;

/// What is to be done.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "work", rename_all = "lowercase")]
pub enum Job {
    /// The loss of candidates on shots.
    Evaluation {
        /// The model.
        shape: Shape,
        /// Tokens of each shot's input.
        inputs: Vec<usize>,
        /// Tokens of each shot's target.
        targets: Vec<usize>,
    },
    /// Greedy generation of one sequence.
    Greedy {
        /// The model.
        shape: Shape,
        /// Tokens of the input.
        input_tokens: usize,
        /// Tokens to generate.
        new_tokens: usize,
    },
    /// Bare products `[rows, d_in] x [d_in, d_out]`.
    Gemm {
        /// Rows of the activation.
        rows: usize,
        /// Inner dimension.
        d_in: usize,
        /// Columns of the result.
        d_out: usize,
    },
}

/// Which subject, and how it is set up.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum Setup {
    /// This project's CPU backend with twenty modules of rank 16.
    Ours {
        /// The rule of composition.
        #[serde(default = "reference")]
        rule: Rule,
        /// How the base's matrices are stored.
        weights: Stored,
        /// In a browser: how matrices that are held as q8_0 are multiplied.
        #[serde(default)]
        arithmetic: Arithmetic,
        /// In a browser: whether products may use relaxed-simd.
        #[serde(default)]
        relaxed: bool,
        /// In a browser: threads of the products. Natively RAYON_NUM_THREADS says it.
        #[serde(default)]
        threads: usize,
    },
    /// `candle-transformers`' T5, which has no modules.
    Candle,
}

/// The paper's.
fn reference() -> Rule {
    Rule::Reference
}

/// A subject that is ready for its job.
pub enum Subject {
    /// This project.
    Ours(Box<Ours>),
    /// candle-transformers.
    Candle(Box<Candle>),
}

impl Subject {
    /// Makes the model, its inputs and all that is computed once. `products` multiply in place of ours' own code.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(setup: Setup, products: Option<Rc<dyn Products>>, job: &Job) -> Result<Self, BenchError> {
        Ok(match setup {
            Setup::Ours {
                rule,
                weights,
                arithmetic,
                ..
            } => Self::Ours(Box::new(Ours::new(rule, weights, arithmetic, products, job)?)),
            Setup::Candle => Self::Candle(Box::new(Candle::new(job)?)),
        })
    }

    /// Does the job for `count` candidates together (a subject without modules: one after another), or does `count`
    /// products; a generation is one, whatever `count` says. Returns what it came to: the mean loss of a token, the
    /// number of tokens, the number of products.
    ///
    /// # Errors
    /// The engine's.
    pub async fn run(&mut self, count: usize) -> Result<f64, BenchError> {
        match self {
            Self::Ours(ours) => ours.run(count).await,
            Self::Candle(candle) => candle.run(count),
        }
    }
}
