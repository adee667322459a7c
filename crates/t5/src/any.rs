//! Models and engines whose device is forgotten: what a program holds that chooses its device while it runs.

use std::ops::ControlFlow;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use lorahub_adapters::{Bank, BaseSpec};
use lorahub_composer::{Evaluator, Generation, Shot};
use lorahub_tensor::Backend;

use crate::{Config, Cost, Engine, Model, T5Error, Tokenizer};

/// A future of an [`AnyModel`] or an [`AnyEngine`]. Like a device, it may live on one thread.
pub type ModelFuture<'a, T> = LocalBoxFuture<'a, Result<T, T5Error>>;

/// Called after tokens of an answer have come, with its text and ids so far; it may stop the generation.
pub type OnToken<'a> = dyn FnMut(&str, &[u32]) -> ControlFlow<()> + 'a;

/// A [`Model`] on some device.
pub trait AnyModel {
    /// The configuration.
    fn config(&self) -> &Config;

    /// The tokenizer.
    fn tokenizer(&self) -> &Tokenizer;

    /// SHA-256 of the weight file, in hexadecimal.
    fn sha256(&self) -> &str;

    /// What a module must fit.
    fn base_spec(&self) -> BaseSpec {
        self.config().base_spec()
    }

    /// The name of what computes.
    fn backend(&self) -> String;

    /// Uploads a bank and makes the shots ready: [`Model::engine`].
    ///
    /// # Errors
    /// As [`Model::engine`].
    fn engine(&self, bank: Option<&Bank>, shots: &[Shot]) -> Result<Box<dyn AnyEngine>, T5Error>;

    /// Scores of every token at every target position: [`Model::logits`].
    fn logits<'a>(
        &'a self,
        adapter: Option<(&'a Bank, &'a [f64])>,
        input_ids: &'a [u32],
        target_ids: &'a [u32],
    ) -> ModelFuture<'a, Vec<f32>>;
}

impl<B: Backend> AnyModel for Rc<Model<B>> {
    fn config(&self) -> &Config {
        Model::config(self)
    }

    fn tokenizer(&self) -> &Tokenizer {
        Model::tokenizer(self)
    }

    fn sha256(&self) -> &str {
        Model::sha256(self)
    }

    fn backend(&self) -> String {
        self.t5().backend().name()
    }

    fn engine(&self, bank: Option<&Bank>, shots: &[Shot]) -> Result<Box<dyn AnyEngine>, T5Error> {
        Ok(Box::new(Model::engine(self, bank, shots)?))
    }

    fn logits<'a>(
        &'a self,
        adapter: Option<(&'a Bank, &'a [f64])>,
        input_ids: &'a [u32],
        target_ids: &'a [u32],
    ) -> ModelFuture<'a, Vec<f32>> {
        Box::pin(Model::logits(self, adapter, input_ids, target_ids))
    }
}

/// An [`Engine`] on some device.
pub trait AnyEngine: Evaluator {
    /// What one evaluation of one candidate costs; `None` without shots.
    fn cost(&self) -> Option<Cost>;

    /// Shots that were cut, by their row.
    fn truncated(&self) -> &[usize];

    /// Answers one input as it comes: [`Engine::generate_stream`].
    fn generate_stream<'a>(
        &'a self,
        weights: &'a [f64],
        input: &'a str,
        max_new_tokens: usize,
        on_token: &'a mut OnToken<'_>,
    ) -> ModelFuture<'a, Generation>;
}

impl<B: Backend> AnyEngine for Engine<B> {
    fn cost(&self) -> Option<Cost> {
        Engine::cost(self)
    }

    fn truncated(&self) -> &[usize] {
        Engine::truncated(self)
    }

    fn generate_stream<'a>(
        &'a self,
        weights: &'a [f64],
        input: &'a str,
        max_new_tokens: usize,
        on_token: &'a mut OnToken<'_>,
    ) -> ModelFuture<'a, Generation> {
        Box::pin(Engine::generate_stream(self, weights, input, max_new_tokens, on_token))
    }
}
