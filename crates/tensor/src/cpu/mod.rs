//! The CPU backend: on candle's tensors where gradients are tracked, on slices of its own memory elsewhere.
//!
//! `composed` holds the differentiable forms, `fused`, `attention` and `cross` those without gradients, `chain` several of
//! them as one job for threads, `lora` the bank and
//! both composition rules, `gemm` candle's matrix product, `weight` the base's matrices, `products`
//! those that are packed, `rows` what is done row by row, `buffer` the activations' memory.
//! In wasm `lorahub_kernels` take the place of candle's product and of plain loops, in `weight`, `attention` and `rows`.
//! Each operation here only checks shapes and chooses.

mod attention;
mod buffer;
mod chain;
mod checks;
mod composed;
mod cross;
mod fused;
mod gemm;
mod lora;
mod products;
mod rows;
mod view;
mod weight;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;
use lorahub_adapters::{BankTarget, Rule};
use lorahub_weights::Held;
use lorahub_weights::quant::WeightStorage;

use self::buffer::Pool;
use self::checks::{check_attention, check_head, check_ids, check_linear, check_norm, same_dims, tracks};
use self::weight::{Kernels, Scratch};
use crate::backend::check_held;
use crate::{AttentionPlan, Backend, Norm, Projection, Segments, TensorError, steps};

pub use attention::CpuCache;
pub use buffer::CpuTensor;
pub use chain::{Chain, Chains, Step};
pub use lora::{CpuBank, CpuLora};
pub use products::{Arithmetic, Matrix, Packed, Products};
pub use weight::{CpuWeight, matmul};

/// Lets others run at a checkpoint; resolves to `false` if the caller has asked to stop.
type YieldHook = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = bool>>>>;

/// The CPU. Natively it uses as many threads as rayon's global pool, in wasm one, or those of its [`Products`].
#[derive(Clone)]
pub struct Cpu {
    yield_hook: Option<YieldHook>,
    weights: WeightStorage,
    arithmetic: Arithmetic,
    kernels: Kernels,
    scratch: Rc<RefCell<Scratch>>,
    pool: Pool,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            yield_hook: None,
            weights: WeightStorage::F32,
            arithmetic: Arithmetic::F32,
            kernels: if rows::OWN_KERNELS {
                Kernels::Own
            } else {
                Kernels::Candle
            },
            scratch: Rc::default(),
            pool: Pool::default(),
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

    /// Multiplies with matrices that are held as q8_0 in this way, where they are packed for `lorahub_kernels`.
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..self }
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

    /// Who does several operations on the rows of these at once, if anybody does.
    fn chains(&self, operands: &[&CpuTensor]) -> Option<&dyn Chains> {
        match &self.kernels {
            Kernels::Elsewhere(products) if !tracks(operands) => products.chains(operands[0].dims().0),
            _ => None,
        }
    }
}

/// T5's relative position bias, `[heads, distances]`, distance zero in the middle.
#[derive(Clone, Debug)]
pub struct CpuBias {
    by_head: CpuTensor,
}

impl CpuBias {
    fn distances(&self) -> usize {
        self.by_head.dims().1
    }

    /// Index of distance zero, which is also the largest distance on either side.
    fn zero(&self) -> usize {
        self.distances().saturating_sub(1) / 2
    }
}

/// The result of a differentiable form.
fn tracked(tensor: Result<Tensor, TensorError>) -> Result<CpuTensor, TensorError> {
    CpuTensor::from_candle(&tensor?)
}

impl Backend for Cpu {
    type Tensor = CpuTensor;
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
        match (self.weights, self.kernels.pack(), self.arithmetic) {
            (WeightStorage::F32, ..) => format!("cpu ({isa}, {threads} {plural})"),
            (WeightStorage::Q8, true, Arithmetic::Integer) => {
                format!("cpu ({isa}, {threads} {plural}, q8_0 weights, integer products)")
            }
            (narrow, ..) => format!("cpu ({isa}, {threads} {plural}, {} weights)", narrow.name()),
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
        CpuWeight::new(shape, held, &self.kernels, self.arithmetic)
    }

    fn ids(&self, ids: &[u32]) -> Result<Arc<[u32]>, TensorError> {
        Ok(ids.into())
    }

    fn embed(&self, table: &CpuWeight, ids: &Arc<[u32]>) -> Result<CpuTensor, TensorError> {
        check_ids("embed", ids, table.matrix("embed", "table")?.0)?;
        table.select(ids, &self.pool, &mut self.scratch.borrow_mut())
    }

    fn rms_norm(&self, x: &CpuTensor, weight: &CpuWeight, eps: f64) -> Result<CpuTensor, TensorError> {
        check_norm(x, weight)?;
        let norm = weight.tensor("rms_norm")?;
        if tracks(&[x]) || weight.tracks() {
            tracked(composed::rms_norm(&x.to_candle()?, norm, eps))
        } else {
            fused::rms_norm(x, norm, eps, &self.kernels, &self.pool)
        }
    }

    fn linear(&self, x: &CpuTensor, weight: &CpuWeight, lora: Option<&CpuLora>) -> Result<CpuTensor, TensorError> {
        check_linear(x.dims(), weight, lora)?;
        if tracks(&[x]) || weight.tracks() || lora.is_some_and(CpuLora::tracks) {
            let x = x.to_candle()?;
            let base = x.matmul(&weight.tensor("linear")?.t()?)?;
            tracked(match lora {
                None => Ok(base),
                Some(lora) => composed::add_lora(&base, &x, lora),
            })
        } else {
            fused::linear(x, 1, weight, lora, &self.pool, &mut self.scratch.borrow_mut())
        }
    }

    fn add_lora(&self, base: &CpuTensor, x: &CpuTensor, lora: &CpuLora) -> Result<CpuTensor, TensorError> {
        let ((rows, d_out), (x_rows, d_in)) = (base.dims(), x.dims());
        lora.check("add_lora", d_in, d_out)?;
        if x_rows != rows {
            return Err(TensorError::shape(
                "add_lora",
                "x",
                format!("{rows} rows"),
                format!("{x_rows} rows"),
            ));
        }
        let candidates = lora.candidates();
        if tracks(&[base, x]) || lora.tracks() {
            let repeated = |tensor: &CpuTensor| Ok::<_, TensorError>(tensor.to_candle()?.repeat((candidates, 1))?);
            return tracked(composed::add_lora(&repeated(base)?, &repeated(x)?, lora));
        }
        fused::add_lora(base, x, lora, &self.kernels, &self.pool, &mut self.scratch.borrow_mut())
    }

    fn repeat(&self, x: &CpuTensor, candidates: usize) -> Result<CpuTensor, TensorError> {
        if candidates == 1 {
            return Ok(x.clone());
        }
        if tracks(&[x]) {
            return CpuTensor::from_candle(&x.to_candle()?.repeat((candidates, 1))?);
        }
        let (rows, columns) = x.dims();
        let out = fused::repeated(&x.values()?, candidates, &self.pool);
        Ok(CpuTensor::new(out, candidates * rows, columns))
    }

    fn relative_bias(&self, table: &CpuWeight, buckets: &[u32]) -> Result<CpuBias, TensorError> {
        check_ids("relative_bias", buckets, table.matrix("relative_bias", "table")?.0)?;
        let by_distance = table.select(buckets, &self.pool, &mut self.scratch.borrow_mut())?;
        let by_head = if tracks(&[&by_distance]) {
            CpuTensor::from_candle(&by_distance.to_candle()?.t()?.contiguous()?)?
        } else {
            fused::transpose(&by_distance, &self.pool)?
        };
        Ok(CpuBias { by_head })
    }

    fn attention(
        &self,
        q: &CpuTensor,
        k: &CpuTensor,
        v: &CpuTensor,
        plan: &AttentionPlan<'_>,
        bias: Option<&CpuBias>,
    ) -> Result<CpuTensor, TensorError> {
        check_attention(q.dims(), [("k", k.dims()), ("v", v.dims())], plan)?;
        if let Some(bias) = bias {
            let (heads, distances) = bias.by_head.dims();
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
        if tracks(&[q, k, v]) || bias.is_some_and(|bias| bias.by_head.tracks()) {
            tracked(composed::attention(
                &q.to_candle()?,
                &k.to_candle()?,
                &v.to_candle()?,
                plan,
                bias,
            ))
        } else {
            let scratch = &self.scratch.borrow().attention;
            attention::attention(q, k, v, plan, bias, &self.kernels, &self.pool, scratch)
        }
    }

    fn cross_attention(
        &self,
        q: &CpuTensor,
        encoded: &CpuTensor,
        k: Projection<'_, Self>,
        v: Projection<'_, Self>,
        plan: &AttentionPlan<'_>,
    ) -> Result<CpuTensor, TensorError> {
        let ((_, width), (rows, d)) = (q.dims(), encoded.dims());
        let tracks = tracks(&[q, encoded])
            || [&k, &v]
                .iter()
                .any(|projection| projection.weight.tracks() || projection.lora.is_some_and(CpuLora::tracks));
        // What keys and values would be is checked, whether they are made or not.
        let k_width = check_linear((rows, d), k.weight, k.lora)?;
        let v_width = check_linear((rows, d), v.weight, v.lora)?;
        check_attention(q.dims(), [("k", (rows, k_width)), ("v", (rows, v_width))], plan)?;
        if tracks || k.lora.is_some() || !cross::pays(plan, width, d) {
            return steps::cross_attention(self, q, encoded, k, v, plan);
        }
        let scratch = &mut self.scratch.borrow_mut();
        cross::attention_without_keys(
            q,
            encoded,
            k.weight,
            v.weight,
            v.lora,
            plan,
            &self.kernels,
            &self.pool,
            scratch,
        )
    }

    fn normed_linears<const N: usize>(
        &self,
        x: &CpuTensor,
        norm: Norm<'_, Self>,
        linears: [Projection<'_, Self>; N],
    ) -> Result<[CpuTensor; N], TensorError> {
        if let Some(chains) = self.chains(&[x])
            && let Some(made) = chain::normed_linears(chains, x, &norm, &linears, &self.pool)?
        {
            return Ok(made);
        }
        steps::normed_linears(self, x, norm, linears)
    }

    fn linear_residual(
        &self,
        residual: &CpuTensor,
        x: &CpuTensor,
        linear: Projection<'_, Self>,
    ) -> Result<CpuTensor, TensorError> {
        if let Some(chains) = self.chains(&[residual, x])
            && let Some(made) = chain::linear_residual(chains, residual, x, &linear, &self.pool)?
        {
            return Ok(made);
        }
        steps::linear_residual(self, residual, x, linear)
    }

    fn gated_feed_forward(
        &self,
        x: &CpuTensor,
        norm: Norm<'_, Self>,
        [gate, up]: [Projection<'_, Self>; 2],
        out: Projection<'_, Self>,
    ) -> Result<CpuTensor, TensorError> {
        if let Some(chains) = self.chains(&[x])
            && let Some(made) = chain::gated_feed_forward(chains, x, &norm, [&gate, &up], &out, &self.pool)?
        {
            return Ok(made);
        }
        steps::gated_feed_forward(self, x, norm, [gate, up], out)
    }

    fn cache(&self, sequences: usize, capacity: usize, width: usize) -> Result<CpuCache, TensorError> {
        Ok(CpuCache::new(sequences, capacity, width, &self.pool))
    }

    fn attention_step(
        &self,
        q: &CpuTensor,
        k: &CpuTensor,
        v: &CpuTensor,
        cache: &mut CpuCache,
        heads: usize,
        bias: &CpuBias,
    ) -> Result<CpuTensor, TensorError> {
        let scratch = self.scratch.borrow();
        attention::step(q, k, v, cache, heads, bias, &mut scratch.attention.lend().one)
    }

    fn cache_keep(&self, cache: &mut CpuCache, sequences: &[usize]) -> Result<(), TensorError> {
        cache.keep(sequences)
    }

    fn gated_gelu(&self, gate: &CpuTensor, up: &CpuTensor) -> Result<CpuTensor, TensorError> {
        same_dims("gated_gelu", gate.dims(), up.dims())?;
        if tracks(&[gate, up]) {
            CpuTensor::from_candle(&gate.to_candle()?.gelu()?.mul(&up.to_candle()?)?)
        } else {
            fused::gated_gelu(gate, up, &self.kernels, &self.pool)
        }
    }

    fn relu(&self, x: &CpuTensor) -> Result<CpuTensor, TensorError> {
        if tracks(&[x]) {
            return CpuTensor::from_candle(&x.to_candle()?.relu()?);
        }
        fused::each(x, x, &self.pool, |x, _| if x < 0.0 { 0.0 } else { x })
    }

    fn add(&self, x: &CpuTensor, y: &CpuTensor) -> Result<CpuTensor, TensorError> {
        same_dims("add", x.dims(), y.dims())?;
        if tracks(&[x, y]) {
            return CpuTensor::from_candle(&x.to_candle()?.add(&y.to_candle()?)?);
        }
        fused::each(x, y, &self.pool, |x, y| x + y)
    }

    fn gather_rows(&self, x: &CpuTensor, rows: &[usize]) -> Result<CpuTensor, TensorError> {
        let (count, _) = x.dims();
        let rows: Vec<u32> = rows.iter().map(|&row| u32::try_from(row).unwrap_or(u32::MAX)).collect();
        check_ids("gather_rows", &rows, count)?;
        fused::gather_rows(x, &rows, &self.pool)
    }

    fn logits(&self, x: &CpuTensor, head: &CpuWeight, scale: f64) -> Result<CpuTensor, TensorError> {
        check_head("logits", x, head)?;
        if tracks(&[x]) || head.tracks() {
            let x = x.to_candle()?.affine(scale, 0.0)?;
            return CpuTensor::from_candle(&x.matmul(&head.tensor("logits")?.t()?)?);
        }
        fused::logits(x, head, scale, &self.pool, &mut self.scratch.borrow_mut())
    }

    async fn nll(
        &self,
        x: &CpuTensor,
        head: &CpuWeight,
        scale: f64,
        targets: &[u32],
        segments: &Segments,
        candidates: usize,
    ) -> Result<CpuTensor, TensorError> {
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
            let (x, head) = (x.to_candle()?, head.tensor("nll")?);
            tracked(composed::nll(&x, head, scale, targets, segments, candidates))
        } else {
            let scratch = &mut self.scratch.borrow_mut();
            fused::nll(x, head, scale, targets, segments, candidates, &self.pool, scratch)
        }
    }

    fn argmax(&self, x: &CpuTensor, head: &CpuWeight) -> Result<Arc<[u32]>, TensorError> {
        check_head("argmax", x, head)?;
        fused::argmax(x, head, &self.pool, &mut self.scratch.borrow_mut())
    }

    fn bank(&self, target: &BankTarget, rule: Rule) -> Result<CpuBank, TensorError> {
        CpuBank::new(target, rule, &self.kernels)
    }

    fn compose(&self, bank: &CpuBank, weights: &[Vec<f32>]) -> Result<CpuLora, TensorError> {
        bank.compose(weights, &self.pool, &mut self.scratch.borrow_mut())
    }

    async fn read(&self, tensor: &CpuTensor) -> Result<Vec<f32>, TensorError> {
        Ok(tensor.values()?.to_vec())
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
