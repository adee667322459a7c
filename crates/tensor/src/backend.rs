//! The contract between the one T5 and the devices it runs on.

use std::future::Future;

use lorahub_adapters::{BankTarget, Rule};
use lorahub_weights::Held;
use lorahub_weights::quant::WeightStorage;

use crate::{TensorError, steps};

/// How the rows of one candidate are cut into shots: lengths in rows, laid end to end without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    lengths: Vec<usize>,
    offsets: Vec<usize>,
    total: usize,
}

impl Segments {
    /// Segments of these lengths, in order.
    ///
    /// # Errors
    /// [`TensorError::EmptySegment`] for a length of zero.
    pub fn new(lengths: Vec<usize>) -> Result<Self, TensorError> {
        let mut offsets = Vec::with_capacity(lengths.len());
        let mut total = 0;
        for (index, &length) in lengths.iter().enumerate() {
            if length == 0 {
                return Err(TensorError::EmptySegment { op: "segments", index });
            }
            offsets.push(total);
            total += length;
        }
        Ok(Self {
            lengths,
            offsets,
            total,
        })
    }

    /// `count` segments of one row each: a decode step.
    pub fn ones(count: usize) -> Self {
        Self {
            lengths: vec![1; count],
            offsets: (0..count).collect(),
            total: count,
        }
    }

    /// Rows of each segment.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// First row of each segment.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Rows of all segments together (`T`).
    pub fn total(&self) -> usize {
        self.total
    }

    /// Number of segments (`k`).
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Rows of the longest segment; 0 if there is none.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}

/// Who attends to whom: queries of segment `s` see the keys of segment `s` of the same candidate, nothing else.
#[derive(Clone, Copy, Debug)]
pub struct AttentionPlan<'a> {
    /// Number of candidates (`C`).
    pub candidates: usize,
    /// Rows of the queries.
    pub query: &'a Segments,
    /// Rows of the keys and values; as many segments as `query`.
    pub key: &'a Segments,
    /// Number of heads; the columns are `heads * d_kv`.
    pub heads: usize,
    /// Whether query `i` sees only keys `0..=i` (the decoder's self-attention).
    pub causal: bool,
}

/// A layer norm of the base: its weight, `[columns]`, and what is added to the mean square.
pub struct Norm<'a, B: Backend> {
    /// `[columns]`.
    pub weight: &'a B::Weight,
    /// Added to the mean square, before the root.
    pub eps: f64,
}

/// A linear of the base with its LoRA, where there is one.
pub struct Projection<'a, B: Backend> {
    /// `[d_out, d_in]`.
    pub weight: &'a B::Weight,
    /// Made for all candidates of the pass.
    pub lora: Option<&'a B::Lora>,
}

/// A device that can run Flan-T5.
///
/// Methods enqueue; they need not have finished when they return. Only the asynchronous ones wait. Every tensor is f32
/// `[rows, columns]`; shapes below use the crate's letters: `C` candidates, `T` rows of one candidate, `k` shots,
/// `V` vocabulary.
///
/// Every method fails with [`TensorError::Shape`] when an operand does not fit, and with the device's own error.
pub trait Backend: 'static {
    /// Activations, `[rows, columns]`. Cloning shares the storage.
    type Tensor: Clone;
    /// Token ids on the device.
    type Ids: Clone;
    /// A frozen matrix `[d_out, d_in]`, table or vector of the base model.
    type Weight: Clone;
    /// All modules' matrices for one target linear, uploaded once.
    type Bank;
    /// One target linear's adapter for `C` candidates, made by [`compose`](Backend::compose).
    type Lora;
    /// T5's relative position bias of one stack, by distance.
    type Bias;
    /// Keys and values of a decode, one row a sequence and step.
    type Cache;

    /// What the device calls itself, for people and for the run record.
    fn name(&self) -> String;

    /// Most activation rows one pass should hold; the caller splits a generation into micro-batches by it.
    fn row_budget(&self) -> usize;

    /// Bytes that the activations of one pass may take. The caller splits a generation by it too, and refuses a sequence
    /// that needs more alone.
    fn memory_budget(&self) -> u64;

    /// How the base's matrices are held here.
    fn storage(&self) -> WeightStorage;

    /// Uploads a matrix or vector of the base as [`storage`](Self::storage) has it; `shape` is its dimensions.
    fn hold(&self, shape: &[usize], held: Held) -> Result<Self::Weight, TensorError>;

    /// Uploads a matrix or vector of the base: `data` is row-major, `shape` its dimensions.
    fn weight(&self, shape: &[usize], data: Vec<f32>) -> Result<Self::Weight, TensorError> {
        let held = Held::F32(data);
        check_held(shape, &held)?;
        self.hold(shape, Held::new(shape, held.widen(), self.storage())?)
    }

    /// Uploads token ids.
    fn ids(&self, ids: &[u32]) -> Result<Self::Ids, TensorError>;

    /// Rows of `table` (`[V, d]`) at `ids`: `[ids, d]`.
    fn embed(&self, table: &Self::Weight, ids: &Self::Ids) -> Result<Self::Tensor, TensorError>;

    /// T5's layer norm: rows of `x` scaled to unit root mean square, times `weight` (`[columns]`); no mean, no bias.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Weight, eps: f64) -> Result<Self::Tensor, TensorError>;

    /// `x W^T`, plus each candidate's LoRA: `x` is `[C * T, d_in]` and the result `[C * T, d_out]`. Without a LoRA the
    /// rows may be any number.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Weight,
        lora: Option<&Self::Lora>,
    ) -> Result<Self::Tensor, TensorError>;

    /// Adds a LoRA to a base product computed earlier: `base` is `[T, d_out]`, `x` `[T, d_in]`, both shared by all
    /// candidates; the result is `[C * T, d_out]`.
    fn add_lora(&self, base: &Self::Tensor, x: &Self::Tensor, lora: &Self::Lora) -> Result<Self::Tensor, TensorError>;

    /// `x` (`[T, d]`) once for each candidate: `[C * T, d]`.
    fn repeat(&self, x: &Self::Tensor, candidates: usize) -> Result<Self::Tensor, TensorError>;

    /// The bias table for [`attention`](Backend::attention): `table` is `[buckets, heads]` and `buckets[i]` the bucket
    /// of distance `i - (buckets.len() - 1) / 2`, key position minus query position.
    fn relative_bias(&self, table: &Self::Weight, buckets: &[u32]) -> Result<Self::Bias, TensorError>;

    /// Softmax attention without scaling (T5 folds it into its weights): `q` is `[C * Tq, heads * d_kv]`, `k` and `v`
    /// `[C * Tk, heads * d_kv]`; the result has the shape of `q`.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        plan: &AttentionPlan<'_>,
        bias: Option<&Self::Bias>,
    ) -> Result<Self::Tensor, TensorError>;

    /// The decoder's attention to the encoder's output, without bias: `q` is `[C * Tq, heads * d_kv]` and `encoded`
    /// `[C * Tk, d]`, of which `k` and `v` make the keys and values; the result has the shape of `q`.
    fn cross_attention(
        &self,
        q: &Self::Tensor,
        encoded: &Self::Tensor,
        k: Projection<'_, Self>,
        v: Projection<'_, Self>,
        plan: &AttentionPlan<'_>,
    ) -> Result<Self::Tensor, TensorError>
    where
        Self: Sized,
    {
        steps::cross_attention(self, q, encoded, k, v, plan)
    }

    /// Linears of the normed rows of `x`, such as attention's queries, keys and values.
    fn normed_linears<const N: usize>(
        &self,
        x: &Self::Tensor,
        norm: Norm<'_, Self>,
        linears: [Projection<'_, Self>; N],
    ) -> Result<[Self::Tensor; N], TensorError>
    where
        Self: Sized,
    {
        steps::normed_linears(self, x, norm, linears)
    }

    /// `residual + linear(x)`.
    fn linear_residual(
        &self,
        residual: &Self::Tensor,
        x: &Self::Tensor,
        linear: Projection<'_, Self>,
    ) -> Result<Self::Tensor, TensorError>
    where
        Self: Sized,
    {
        steps::linear_residual(self, residual, x, linear)
    }

    /// T5's feed-forward layer with its residual: `x + out(gelu(gate(n)) * up(n))`, where `n` is `x` normed.
    fn gated_feed_forward(
        &self,
        x: &Self::Tensor,
        norm: Norm<'_, Self>,
        [gate, up]: [Projection<'_, Self>; 2],
        out: Projection<'_, Self>,
    ) -> Result<Self::Tensor, TensorError>
    where
        Self: Sized,
    {
        steps::gated_feed_forward(self, x, norm, [gate, up], out)
    }

    /// An empty cache for `sequences` sequences of up to `capacity` steps of `width` columns.
    fn cache(&self, sequences: usize, capacity: usize, width: usize) -> Result<Self::Cache, TensorError>;

    /// Appends one step's `k` and `v` (`[S, width]`) to the cache and attends to all steps so far; `q` is `[S, width]`.
    fn attention_step(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        cache: &mut Self::Cache,
        heads: usize,
        bias: &Self::Bias,
    ) -> Result<Self::Tensor, TensorError>;

    /// Keeps only these sequences of the cache, in this order.
    fn cache_keep(&self, cache: &mut Self::Cache, sequences: &[usize]) -> Result<(), TensorError>;

    /// T5's gated activation `gelu(gate) * up` with the tanh form of GELU; all `[rows, d_ff]`.
    fn gated_gelu(&self, gate: &Self::Tensor, up: &Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// `max(x, 0)`: T5 1.0's activation.
    fn relu(&self, x: &Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// `x + y`, same shape: the residual.
    fn add(&self, x: &Self::Tensor, y: &Self::Tensor) -> Result<Self::Tensor, TensorError>;

    /// Rows of `x` in this order.
    fn gather_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor, TensorError>;

    /// Scores of every token: `scale * x head^T`, `[rows, V]`. For inspection; losses use [`nll`](Backend::nll).
    fn logits(&self, x: &Self::Tensor, head: &Self::Weight, scale: f64) -> Result<Self::Tensor, TensorError>;

    /// Negative log-likelihood, in nats, summed over each shot: `[C, k]`. `x` is `[C * T, d]`, `targets` has `T` ids,
    /// the same for every candidate. The head is the largest product of a pass, so a device that would be busy with it
    /// for long [pauses](Backend::checkpoint) inside.
    fn nll(
        &self,
        x: &Self::Tensor,
        head: &Self::Weight,
        scale: f64,
        targets: &[u32],
        segments: &Segments,
        candidates: usize,
    ) -> impl Future<Output = Result<Self::Tensor, TensorError>>;

    /// The id with the highest score for each row of `x`; the lowest id wins a tie, as in PyTorch.
    fn argmax(&self, x: &Self::Tensor, head: &Self::Weight) -> Result<Self::Ids, TensorError>;

    /// Uploads one target's modules.
    fn bank(&self, target: &BankTarget, rule: Rule) -> Result<Self::Bank, TensorError>;

    /// One adapter for each row of `weights` (`[C][N]`), by the bank's rule.
    ///
    /// `reference`: `A^ = sum w_i A_i`, `B^ = sum w_i B_i`, applied as `s B^ A^` (LoRAHub, equation 1). `exact`:
    /// `sum w_i s_i B_i A_i`.
    fn compose(&self, bank: &Self::Bank, weights: &[Vec<f32>]) -> Result<Self::Lora, TensorError>;

    /// Waits for a tensor and copies it to the host, row-major.
    fn read(&self, tensor: &Self::Tensor) -> impl Future<Output = Result<Vec<f32>, TensorError>>;

    /// Waits for ids and copies them to the host.
    fn read_ids(&self, ids: &Self::Ids) -> impl Future<Output = Result<Vec<u32>, TensorError>>;

    /// Decode steps to enqueue before their ids are read, at least 1; asked before every read, with the steps that this
    /// decode has done. A device whose reads take long hides them behind more steps, as many as streaming can wait for.
    fn steps_per_read(&self, done: usize) -> usize {
        let _ = done;
        1
    }

    /// Waits for the ids of several steps and copies them to the host.
    fn read_steps(&self, steps: &[Self::Ids]) -> impl Future<Output = Result<Vec<Vec<u32>>, TensorError>> {
        async move {
            let mut read = Vec::with_capacity(steps.len());
            for ids in steps {
                read.push(self.read_ids(ids).await?);
            }
            Ok(read)
        }
    }

    /// Submits what is enqueued and lets others run; called between layers and micro-batches.
    ///
    /// # Errors
    /// [`TensorError::Cancelled`] if the caller has asked to stop.
    fn checkpoint(&self) -> impl Future<Output = Result<(), TensorError>>;
}

/// Checks that values are those of a tensor of this shape, as [`Backend::hold`] must.
///
/// # Errors
/// [`TensorError::Shape`].
pub fn check_held(shape: &[usize], held: &Held) -> Result<(), TensorError> {
    if held.fits(shape) {
        return Ok(());
    }
    let found = match held {
        Held::F32(data) => format!("{} values", data.len()),
        Held::Narrow(narrow) => format!("a matrix of {} x {}", narrow.rows(), narrow.columns()),
    };
    let expected = format!("{} values for {shape:?}", shape.iter().product::<usize>());
    Err(TensorError::shape("weight", "data", expected, found))
}
