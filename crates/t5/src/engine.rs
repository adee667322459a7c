//! A model with its tokenizer, and the engine that evaluates compositions of modules on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use lorahub_adapters::{Bank, BaseSpec};
use lorahub_composer::{Candidate, EvalFuture, Evaluator, EvaluatorError, Generation, Shot, ShotLosses};
use lorahub_tensor::Backend;
use lorahub_weights::Tensors;

use crate::estimate::Cost;
use crate::generate::greedy;
use crate::load::{HEAD, check_file, expected_tensors};
use crate::{Adapter, Config, Modules, OnToken, Prepared, T5, T5Error, Tokenizer};

/// A base model's configuration and tokenizer, as bytes, and its weights, wherever they lie.
#[derive(Clone, Copy)]
pub struct ModelFiles<'a> {
    /// `config.json`.
    pub config: &'a [u8],
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// The weights, read one tensor at a time.
    pub weights: &'a dyn Tensors,
    /// SHA-256 of the weights' file, in hexadecimal: their name in run records.
    pub sha256: &'a str,
}

/// A base model on a device: the network, its tokenizer, and the hash of its weights.
pub struct Model<B: Backend> {
    t5: T5<B>,
    tokenizer: Tokenizer,
    sha256: String,
}

impl<B: Backend> Model<B> {
    /// Reads and uploads a base model.
    ///
    /// # Errors
    /// Any [`T5Error`] that names one of the three files, and [`T5Error::Tensor`] from the device, cancellation
    /// included.
    pub async fn load(backend: Rc<B>, files: ModelFiles<'_>) -> Result<Self, T5Error> {
        let config = Config::from_json(files.config)?;
        let tokenizer = Tokenizer::from_bytes(files.tokenizer, config.eos)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(T5Error::Tokenizer(format!(
                "it has {} tokens, and config.json says {}",
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        let named: BTreeSet<&str> = files.weights.names().collect();
        let config = config.for_file(named.contains(HEAD));
        check_file(&config, files.weights)?;
        // What is on the device already; only one tensor's values are in memory beside it.
        let mut uploaded = BTreeMap::new();
        for (name, shape) in expected_tensors(&config) {
            let weight = backend.hold(&shape, files.weights.held(&name, backend.storage())?)?;
            uploaded.insert(name, weight);
            backend.checkpoint().await?;
        }
        let mut source = |name: &str, _: &[usize]| {
            let missing = || T5Error::MissingTensor { name: name.to_owned() };
            uploaded.get(name).cloned().ok_or_else(missing)
        };
        let t5 = T5::load(backend, config, &mut source)?;
        Ok(Self {
            t5,
            tokenizer,
            sha256: files.sha256.to_owned(),
        })
    }

    /// A model from parts that are already on the device, such as variables in training. `sha256` names the weights in
    /// run records.
    pub fn from_parts(t5: T5<B>, tokenizer: Tokenizer, sha256: String) -> Self {
        Self { t5, tokenizer, sha256 }
    }

    /// The network.
    pub fn t5(&self) -> &T5<B> {
        &self.t5
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.t5.config()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// SHA-256 of the weight file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What a module must fit.
    pub fn base_spec(&self) -> BaseSpec {
        self.config().base_spec()
    }

    /// Uploads a bank and makes the shots ready. Without a bank the engine has no modules; without shots it generates
    /// but does not evaluate.
    ///
    /// # Errors
    /// [`T5Error::Adapter`] if a module does not fit the base, [`T5Error::Tokenizer`], [`T5Error::Memory`] or
    /// [`T5Error::Tensor`].
    pub fn engine(self: &Rc<Self>, bank: Option<&Bank>, shots: &[Shot]) -> Result<Engine<B>, T5Error> {
        let modules = match bank {
            Some(bank) => Modules::upload(&self.t5, bank)?,
            None => Modules::none(),
        };
        let (prepared, truncated) = self.prepare(shots)?;
        Ok(Engine {
            model: self.clone(),
            modules,
            prepared,
            truncated,
        })
    }

    fn prepare(&self, shots: &[Shot]) -> Result<(Option<Prepared<B>>, Vec<usize>), T5Error> {
        if shots.is_empty() {
            return Ok((None, Vec::new()));
        }
        let mut truncated = Vec::new();
        let mut inputs = Vec::with_capacity(shots.len());
        let mut targets = Vec::with_capacity(shots.len());
        for (row, shot) in shots.iter().enumerate() {
            let (input, input_cut) = self.tokenizer.encode_truncated(&shot.input)?;
            let (target, target_cut) = self.tokenizer.encode_truncated(&shot.output)?;
            if input_cut || target_cut {
                truncated.push(row);
            }
            inputs.push(input);
            targets.push(target);
        }
        Ok((Some(self.t5.prepare(&inputs, &targets)?), truncated))
    }

    /// Scores of every token at every position of `target_ids` (`[len, V]`, row-major) under the base, or under `bank`
    /// composed with one weight per module.
    ///
    /// # Errors
    /// As [`engine`](Self::engine), and [`T5Error::Weight`].
    pub async fn logits(
        self: &Rc<Self>,
        adapter: Option<(&Bank, &[f64])>,
        input_ids: &[u32],
        target_ids: &[u32],
    ) -> Result<Vec<f32>, T5Error> {
        let adapter = match adapter {
            Some((bank, weights)) => Modules::upload(&self.t5, bank)?.compose(&self.t5, &[weights])?,
            None => Adapter::none(1),
        };
        let batch = self.t5.prepare(&[input_ids.to_vec()], &[target_ids.to_vec()])?;
        let logits = self.t5.logits(&batch, &adapter).await?;
        Ok(self.t5.backend.read(&logits).await?)
    }
}

/// A model, a bank of modules and a set of shots: what the search evaluates candidates on.
pub struct Engine<B: Backend> {
    model: Rc<Model<B>>,
    modules: Modules<B>,
    prepared: Option<Prepared<B>>,
    truncated: Vec<usize>,
}

/// Most sequences that are decoded together.
const DECODE_SEQUENCES: usize = 64;

impl<B: Backend> Engine<B> {
    /// The model.
    pub fn model(&self) -> &Rc<Model<B>> {
        &self.model
    }

    /// Shots that were longer than [`MAX_TOKENS`](crate::MAX_TOKENS) and have been cut, by their row.
    pub fn truncated(&self) -> &[usize] {
        &self.truncated
    }

    /// The same modules on other shots; the bank is moved, not uploaded again.
    ///
    /// # Errors
    /// As [`Model::engine`], the modules aside.
    pub fn with_shots(self, shots: &[Shot]) -> Result<Self, T5Error> {
        let (prepared, truncated) = self.model.prepare(shots)?;
        Ok(Self {
            prepared,
            truncated,
            ..self
        })
    }

    /// What one evaluation of one candidate costs; `None` without shots.
    pub fn cost(&self) -> Option<Cost> {
        let prepared = self.prepared.as_ref()?;
        Some(Cost::of_evaluation(
            self.model.config(),
            prepared.encoder.segments.lengths(),
            prepared.decoder.segments.lengths(),
        ))
    }

    async fn losses(&self, candidates: &[Candidate]) -> Result<Vec<ShotLosses>, T5Error> {
        let prepared = self.prepared.as_ref().ok_or(T5Error::NoShots)?;
        let tokens: Vec<u32> = prepared.target_tokens().iter().map(|&tokens| tokens as u32).collect();
        let weights: Vec<&[f64]> = candidates
            .iter()
            .map(|candidate| candidate.weights.as_slice())
            .collect();
        let losses = self.modules.nll(&self.model.t5, prepared, &weights).await?;
        let of_candidate = |nll: Vec<f32>| ShotLosses {
            nll: nll.into_iter().map(f64::from).collect(),
            tokens: tokens.clone(),
        };
        Ok(losses.into_iter().map(of_candidate).collect())
    }

    async fn generations(
        &self,
        candidate: &Candidate,
        inputs: &[String],
        max_new_tokens: usize,
    ) -> Result<Vec<Generation>, T5Error> {
        let adapter = self.modules.compose(&self.model.t5, &[&candidate.weights])?;
        let mut encoded = Vec::with_capacity(inputs.len());
        for input in inputs {
            encoded.push(self.encode_input(input)?);
        }
        let mut generations = Vec::with_capacity(inputs.len());
        let mut rest = encoded.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(self.decode_together(rest));
            let outputs = greedy(&self.model.t5, &adapter, batch, max_new_tokens, |_| {
                ControlFlow::Continue(())
            })
            .await?;
            for ids in outputs {
                let text = self.model.tokenizer.decode(&ids)?;
                generations.push(Generation { text, ids });
            }
            rest = after;
        }
        Ok(generations)
    }

    /// How many of the next inputs fit into one decode.
    fn decode_together(&self, inputs: &[Vec<u32>]) -> usize {
        let budget = self.model.t5.backend.row_budget();
        let mut rows = 0;
        let fitting = inputs.iter().take_while(|input| {
            rows += input.len();
            rows <= budget
        });
        fitting.count().clamp(1, DECODE_SEQUENCES)
    }

    /// Token ids of an input to generate from, refused if it would need more memory than there is.
    fn encode_input(&self, input: &str) -> Result<Vec<u32>, T5Error> {
        let ids = self.model.tokenizer.encode(input)?;
        let need = Cost::activation_bytes(self.model.config(), ids.len());
        let budget = self.model.t5.backend.memory_budget();
        if need > budget {
            return Err(T5Error::Memory {
                tokens: ids.len(),
                need: need / 1_000_000,
                budget: budget / 1_000_000,
            });
        }
        Ok(ids)
    }

    /// Generates greedily from one input, calling `on_token` after every token with the text and ids so far; it may
    /// stop the generation.
    ///
    /// # Errors
    /// [`T5Error::Weight`], [`T5Error::Memory`], or the device's.
    pub async fn generate_stream(
        &self,
        weights: &[f64],
        input: &str,
        max_new_tokens: usize,
        on_token: &mut OnToken<'_>,
    ) -> Result<Generation, T5Error> {
        let adapter = self.modules.compose(&self.model.t5, &[weights])?;
        let tokenizer = &self.model.tokenizer;
        let mut failed = None;
        let on_step = |outputs: &[Vec<u32>]| match tokenizer.decode(&outputs[0]) {
            Ok(text) => on_token(&text, &outputs[0]),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let inputs = [self.encode_input(input)?];
        let outputs = greedy(&self.model.t5, &adapter, &inputs, max_new_tokens, on_step).await?;
        if let Some(error) = failed {
            return Err(error);
        }
        let ids = outputs.into_iter().next().unwrap_or_default();
        Ok(Generation {
            text: tokenizer.decode(&ids)?,
            ids,
        })
    }
}

impl From<T5Error> for EvaluatorError {
    fn from(error: T5Error) -> Self {
        EvaluatorError::new(error.code(), error)
    }
}

impl<B: Backend> Evaluator for Engine<B> {
    fn modules(&self) -> usize {
        self.modules.count()
    }

    fn evaluate<'a>(&'a self, candidates: &'a [Candidate]) -> EvalFuture<'a, Vec<ShotLosses>> {
        Box::pin(async move { Ok(self.losses(candidates).await?) })
    }

    fn generate<'a>(
        &'a self,
        candidate: &'a Candidate,
        inputs: &'a [String],
        max_new_tokens: usize,
    ) -> EvalFuture<'a, Vec<Generation>> {
        Box::pin(async move { Ok(self.generations(candidate, inputs, max_new_tokens).await?) })
    }

    fn backend(&self) -> String {
        self.model.t5.backend.name()
    }
}
