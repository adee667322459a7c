//! The CPU backend, on candle's tensors.
//!
//! `composed` holds the differentiable forms, `fused` and `attention` those without gradients, `lora` the bank and
//! both composition rules, `gemm` candle's matrix product, `weight` the base's matrices, `products`
//! those that are packed, `rows` what is done row by row.
//! In wasm `lorahub_kernels` take the place of candle's product and of plain loops, in `weight`, `attention` and `rows`.
//! Each operation here only checks shapes and chooses.

mod attention;
mod composed;
mod fused;
mod gemm;
mod lora;
mod products;
mod rows;
mod weight;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use lorahub_adapters::{BankTarget, Rule};
use lorahub_weights::Held;
use lorahub_weights::quant::WeightStorage;

use self::weight::{Kernels, Scratch};
use crate::backend::check_held;
use crate::{AttentionPlan, Backend, Segments, TensorError};

pub use attention::CpuCache;
pub use lora::{CpuBank, CpuLora};
pub use products::{Matrix, Packed, Products};
pub use weight::{CpuWeight, matmul};

/// Lets others run at a checkpoint; resolves to `false` if the caller has asked to stop.
type YieldHook = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = bool>>>>;

/// The CPU. Natively it uses as many threads as rayon's global pool, in wasm one, or those of its [`Products`].
#[derive(Clone)]
pub struct Cpu {
    yield_hook: Option<YieldHook>,
    weights: WeightStorage,
    kernels: Kernels,
    scratch: Rc<RefCell<Scratch>>,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            yield_hook: None,
            weights: WeightStorage::F32,
            kernels: if rows::OWN_KERNELS {
                Kernels::Own
            } else {
                Kernels::Candle
            },
            scratch: Rc::default(),
        }
    }
}

impl Cpu {
    /// A CPU backend whose checkpoints go straight on.
    pub fn new() -> Self {
        Self::default()
    }

    /// A CPU backend that awaits `hook` at every checkpoint, so that a browser's worker can read its messages there.
    /// When `hook` resolves to `false` the pass ends with [`TensorError::Cancelled`].
    pub fn with_yield<F>(hook: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = bool> + 'static,
    {
        Self {
            yield_hook: Some(Rc::new(move || Box::pin(hook()))),
            ..Self::default()
        }
    }

    /// Holds the base's matrices in this form, f32 unless said. Narrow ones are widened where they are multiplied.
    pub fn with_weights(self, weights: WeightStorage) -> Self {
        Self { weights, ..self }
    }

    /// Packs the base's matrices for `lorahub_kernels`, as is done in wasm, where they are the faster ones. Natively this
    /// is for tests.
    pub fn with_packed_weights(self) -> Self {
        Self {
            kernels: Kernels::Own,
            ..self
        }
    }

    /// Packs the base's matrices for `lorahub_kernels` and leaves their products to `products`.
    pub fn with_products(self, products: Rc<dyn Products>) -> Self {
        Self {
            kernels: Kernels::Elsewhere(products),
            ..self
        }
    }
}

/// T5's relative position bias, `[heads, distances]`, distance zero in the middle.
#[derive(Clone, Debug)]
pub struct CpuBias {
    by_head: Tensor,
}

impl CpuBias {
    /// Index of distance zero, which is also the largest distance on either side.
    fn zero(&self) -> Result<usize, TensorError> {
        Ok((self.by_head.dim(1)? - 1) / 2)
    }
}

/// `[rows, columns]` of an activation.
fn dims(tensor: &Tensor, op: &'static str, operand: &'static str) -> Result<(usize, usize), TensorError> {
    tensor
        .dims2()
        .map_err(|_| TensorError::shape(op, operand, "[rows, columns]", format!("{:?}", tensor.dims())))
}

/// Whether any of these needs the differentiable form.
fn tracks(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.track_op())
}

fn check_ids(op: &'static str, ids: &[u32], rows: usize) -> Result<(), TensorError> {
    match ids.iter().find(|&&id| id as usize >= rows) {
        Some(&id) => Err(TensorError::Id { op, id, rows }),
        None => Ok(()),
    }
}

fn check_attention(q: &Tensor, k: &Tensor, v: &Tensor, plan: &AttentionPlan<'_>) -> Result<(), TensorError> {
    const OP: &str = "attention";
    let (rows_q, width) = dims(q, OP, "q")?;
    if plan.heads == 0 || width % plan.heads != 0 {
        return Err(TensorError::shape(
            OP,
            "q",
            format!("a multiple of {} columns", plan.heads),
            width,
        ));
    }
    if plan.query.count() != plan.key.count() {
        return Err(TensorError::shape(
            OP,
            "key segments",
            plan.query.count(),
            plan.key.count(),
        ));
    }
    let expect_q = plan.candidates * plan.query.total();
    if rows_q != expect_q {
        return Err(TensorError::shape(
            OP,
            "q",
            format!("{expect_q} rows"),
            format!("{rows_q} rows"),
        ));
    }
    let expect = (plan.candidates * plan.key.total(), width);
    for (operand, tensor) in [("k", k), ("v", v)] {
        let found = dims(tensor, OP, operand)?;
        if found != expect {
            return Err(TensorError::shape(
                OP,
                operand,
                format!("{expect:?}"),
                format!("{found:?}"),
            ));
        }
    }
    Ok(())
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Ids = Arc<[u32]>;
    type Weight = CpuWeight;
    type Bank = CpuBank;
    type Lora = CpuLora;
    type Bias = CpuBias;
    type Cache = CpuCache;

    fn name(&self) -> String {
        let (isa, threads) = match &self.kernels {
            Kernels::Elsewhere(products) => (products.instructions(), products.threads()),
            _ if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) => ("wasm simd128", gemm::threads()),
            _ if cfg!(target_arch = "wasm32") => ("wasm", gemm::threads()),
            _ => (std::env::consts::ARCH, gemm::threads()),
        };
        let plural = if threads == 1 { "thread" } else { "threads" };
        match self.weights {
            WeightStorage::F32 => format!("cpu ({isa}, {threads} {plural})"),
            narrow => format!("cpu ({isa}, {threads} {plural}, {} weights)", narrow.name()),
        }
    }

    fn row_budget(&self) -> usize {
        // Past a few hundred rows a larger product gains nothing, and its activations leave the cache: measured on the
        // demo base, 800 rows at once cost 14 % more per candidate than 400.
        512
    }

    fn memory_budget(&self) -> u64 {
        // A wasm32 heap ends at 4 GiB, and often at 2; the weights are in it too.
        if cfg!(target_arch = "wasm32") { 1 << 30 } else { 8 << 30 }
    }

    fn storage(&self) -> WeightStorage {
        self.weights
    }

    fn hold(&self, shape: &[usize], held: Held) -> Result<CpuWeight, TensorError> {
        check_held(shape, &held)?;
        CpuWeight::new(shape, held, &self.kernels)
    }

    fn ids(&self, ids: &[u32]) -> Result<Arc<[u32]>, TensorError> {
        Ok(ids.into())
    }

    fn embed(&self, table: &CpuWeight, ids: &Arc<[u32]>) -> Result<Tensor, TensorError> {
        check_ids("embed", ids, table.matrix("embed", "table")?.0)?;
        table.select(ids)
    }

    fn rms_norm(&self, x: &Tensor, weight: &CpuWeight, eps: f64) -> Result<Tensor, TensorError> {
        let (_, columns) = dims(x, "rms_norm", "x")?;
        if weight.dims() != [columns] {
            return Err(TensorError::shape(
                "rms_norm",
                "weight",
                format!("[{columns}]"),
                format!("{:?}", weight.dims()),
            ));
        }
        let weight = weight.tensor("rms_norm")?;
        if tracks(&[x, weight]) {
            composed::rms_norm(x, weight, eps)
        } else {
            fused::rms_norm(x, weight, eps)
        }
    }

    fn linear(&self, x: &Tensor, weight: &CpuWeight, lora: Option<&CpuLora>) -> Result<Tensor, TensorError> {
        let (rows, d_in) = dims(x, "linear", "x")?;
        let (d_out, expected) = weight.matrix("linear", "weight")?;
        if d_in != expected {
            return Err(TensorError::shape(
                "linear",
                "x",
                format!("{expected} columns"),
                format!("{d_in} columns"),
            ));
        }
        if let Some(lora) = lora {
            lora.check("linear", d_in, d_out)?;
            if rows % lora.candidates() != 0 {
                return Err(TensorError::shape(
                    "linear",
                    "x",
                    format!("a multiple of {} rows", lora.candidates()),
                    format!("{rows} rows"),
                ));
            }
        }
        let tracked = tracks(&[x]) || weight.tracks() || lora.is_some_and(CpuLora::tracks);
        if tracked {
            let base = x.matmul(&weight.tensor("linear")?.t()?)?;
            match lora {
                None => Ok(base),
                Some(lora) => composed::add_lora(&base, x, lora),
            }
        } else {
            fused::linear(x, weight, lora, &mut self.scratch.borrow_mut())
        }
    }

    fn add_lora(&self, base: &Tensor, x: &Tensor, lora: &CpuLora) -> Result<Tensor, TensorError> {
        let (rows, d_out) = dims(base, "add_lora", "base")?;
        let (x_rows, d_in) = dims(x, "add_lora", "x")?;
        lora.check("add_lora", d_in, d_out)?;
        if x_rows != rows {
            return Err(TensorError::shape(
                "add_lora",
                "x",
                format!("{rows} rows"),
                format!("{x_rows} rows"),
            ));
        }
        if tracks(&[base, x]) || lora.tracks() {
            let candidates = lora.candidates();
            composed::add_lora(&base.repeat((candidates, 1))?, &x.repeat((candidates, 1))?, lora)
        } else {
            fused::add_lora(base, x, lora)
        }
    }

    fn repeat(&self, x: &Tensor, candidates: usize) -> Result<Tensor, TensorError> {
        if candidates == 1 {
            return Ok(x.clone());
        }
        Ok(x.repeat((candidates, 1))?)
    }

    fn relative_bias(&self, table: &CpuWeight, buckets: &[u32]) -> Result<CpuBias, TensorError> {
        check_ids("relative_bias", buckets, table.matrix("relative_bias", "table")?.0)?;
        Ok(CpuBias {
            by_head: table.select(buckets)?.t()?.contiguous()?,
        })
    }

    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        plan: &AttentionPlan<'_>,
        bias: Option<&CpuBias>,
    ) -> Result<Tensor, TensorError> {
        check_attention(q, k, v, plan)?;
        if let Some(bias) = bias {
            let (heads, distances) = dims(&bias.by_head, "attention", "bias")?;
            let reach = plan.query.longest().max(plan.key.longest());
            if heads != plan.heads || distances + 1 < 2 * reach {
                return Err(TensorError::shape(
                    "attention",
                    "bias",
                    format!("[{}, at least {} distances]", plan.heads, (2 * reach).saturating_sub(1)),
                    format!("[{heads}, {distances}]"),
                ));
            }
        }
        if tracks(&[q, k, v]) || bias.is_some_and(|bias| bias.by_head.track_op()) {
            composed::attention(q, k, v, plan, bias)
        } else {
            attention::attention(q, k, v, plan, bias)
        }
    }

    fn cache(&self, sequences: usize, capacity: usize, width: usize) -> Result<CpuCache, TensorError> {
        Ok(CpuCache::new(sequences, capacity, width))
    }

    fn attention_step(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        cache: &mut CpuCache,
        heads: usize,
        bias: &CpuBias,
    ) -> Result<Tensor, TensorError> {
        attention::step(q, k, v, cache, heads, bias)
    }

    fn cache_keep(&self, cache: &mut CpuCache, sequences: &[usize]) -> Result<(), TensorError> {
        cache.keep(sequences)
    }

    fn gated_gelu(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor, TensorError> {
        same_shape("gated_gelu", gate, up)?;
        if tracks(&[gate, up]) {
            Ok(gate.gelu()?.mul(up)?)
        } else {
            fused::gated_gelu(gate, up)
        }
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TensorError> {
        Ok(x.relu()?)
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor, TensorError> {
        same_shape("add", x, y)?;
        Ok(x.add(y)?)
    }

    fn gather_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor, TensorError> {
        let (count, _) = dims(x, "gather_rows", "x")?;
        let rows: Vec<u32> = rows.iter().map(|&row| u32::try_from(row).unwrap_or(u32::MAX)).collect();
        check_ids("gather_rows", &rows, count)?;
        let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
        Ok(x.index_select(&rows, 0)?)
    }

    fn logits(&self, x: &Tensor, head: &CpuWeight, scale: f64) -> Result<Tensor, TensorError> {
        check_head("logits", x, head)?;
        if tracks(&[x]) || head.tracks() {
            return Ok(x.affine(scale, 0.0)?.matmul(&head.tensor("logits")?.t()?)?);
        }
        fused::logits(x, head, scale, &mut self.scratch.borrow_mut())
    }

    async fn nll(
        &self,
        x: &Tensor,
        head: &CpuWeight,
        scale: f64,
        targets: &[u32],
        segments: &Segments,
        candidates: usize,
    ) -> Result<Tensor, TensorError> {
        let (rows, vocab) = check_head("nll", x, head)?;
        check_ids("nll", targets, vocab)?;
        if targets.len() != segments.total() {
            return Err(TensorError::shape("nll", "targets", segments.total(), targets.len()));
        }
        if rows != candidates * segments.total() {
            return Err(TensorError::shape(
                "nll",
                "x",
                format!("{} rows", candidates * segments.total()),
                format!("{rows} rows"),
            ));
        }
        if tracks(&[x]) || head.tracks() {
            composed::nll(x, head.tensor("nll")?, scale, targets, segments, candidates)
        } else {
            let scratch = &mut self.scratch.borrow_mut();
            fused::nll(x, head, scale, targets, segments, candidates, scratch)
        }
    }

    fn argmax(&self, x: &Tensor, head: &CpuWeight) -> Result<Arc<[u32]>, TensorError> {
        check_head("argmax", x, head)?;
        fused::argmax(x, head, &mut self.scratch.borrow_mut())
    }

    fn bank(&self, target: &BankTarget, rule: Rule) -> Result<CpuBank, TensorError> {
        CpuBank::new(target, rule)
    }

    fn compose(&self, bank: &CpuBank, weights: &[Vec<f32>]) -> Result<CpuLora, TensorError> {
        bank.compose(weights)
    }

    async fn read(&self, tensor: &Tensor) -> Result<Vec<f32>, TensorError> {
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    async fn read_ids(&self, ids: &Arc<[u32]>) -> Result<Vec<u32>, TensorError> {
        Ok(ids.to_vec())
    }

    async fn checkpoint(&self) -> Result<(), TensorError> {
        match &self.yield_hook {
            Some(hook) if !hook().await => Err(TensorError::Cancelled),
            _ => Ok(()),
        }
    }
}

fn same_shape(op: &'static str, x: &Tensor, y: &Tensor) -> Result<(), TensorError> {
    if x.dims() == y.dims() {
        return Ok(());
    }
    Err(TensorError::shape(
        op,
        "second operand",
        format!("{:?}", x.dims()),
        format!("{:?}", y.dims()),
    ))
}

/// Rows of `x` and size of the vocabulary.
fn check_head(op: &'static str, x: &Tensor, head: &CpuWeight) -> Result<(usize, usize), TensorError> {
    let (rows, columns) = dims(x, op, "x")?;
    let (vocab, expected) = head.matrix(op, "head")?;
    if columns != expected {
        return Err(TensorError::shape(
            op,
            "x",
            format!("{expected} columns"),
            format!("{columns} columns"),
        ));
    }
    Ok((rows, vocab))
}
