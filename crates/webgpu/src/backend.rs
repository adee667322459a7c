//! [`Backend`] for [`Gpu`]: each operation checks its shapes and records its kernels.

use std::ops::Range;

use lorahub_adapters::{BankTarget, Rule};
use lorahub_tensor::{AttentionPlan, Backend, Segments, TensorError, WeightStorage, check_held};
use lorahub_weights::Held;

use crate::kernels::{
    add, argmax_rows, attention, cache_append, embed, gated_gelu, gather_rows, linear, lora_down, lora_up, nll_rows,
    nll_shots, relative_bias, relu, repeat, rms_norm,
};
use crate::lora::{GpuBank, GpuLora};
use crate::pack;
use crate::tensor::{Format, GpuBias, GpuCache, GpuIds, GpuTensor, GpuWeight};
use crate::{Gpu, GpuError};

/// Bytes of the head's scores that are held at once: with 32128 tokens, 130 rows.
const SCORE_BYTES: usize = 16 << 20;

/// Steps that a cache makes room for at first; then it doubles.
const CACHE_STEPS: usize = 16;

/// Rows and columns of a matrix of the base.
fn matrix(weight: &GpuWeight, op: &'static str, operand: &'static str) -> Result<(usize, usize), TensorError> {
    match weight.shape[..] {
        [rows, columns] => Ok((rows, columns)),
        _ => Err(TensorError::shape(
            op,
            operand,
            "[rows, columns]",
            format!("{:?}", weight.shape),
        )),
    }
}

fn expect(
    op: &'static str,
    operand: &'static str,
    unit: &str,
    expected: usize,
    found: usize,
) -> Result<(), TensorError> {
    if expected == found {
        return Ok(());
    }
    Err(TensorError::shape(
        op,
        operand,
        format!("{expected} {unit}"),
        format!("{found} {unit}"),
    ))
}

fn expect_shape(
    op: &'static str,
    operand: &'static str,
    expected: (usize, usize),
    tensor: &GpuTensor,
) -> Result<(), TensorError> {
    let found = (tensor.rows, tensor.columns);
    if expected == found {
        return Ok(());
    }
    Err(TensorError::shape(
        op,
        operand,
        format!("{expected:?}"),
        format!("{found:?}"),
    ))
}

fn check_ids(op: &'static str, ids: &[u32], rows: usize) -> Result<(), TensorError> {
    match ids.iter().find(|&&id| id as usize >= rows) {
        Some(&id) => Err(TensorError::Id { op, id, rows }),
        None => Ok(()),
    }
}

/// Rows of the head (the vocabulary) that fit `x`.
fn check_head(op: &'static str, x: &GpuTensor, head: &GpuWeight) -> Result<usize, TensorError> {
    let (vocab, columns) = matrix(head, op, "head")?;
    expect(op, "x", "columns", columns, x.columns)?;
    Ok(vocab)
}

/// Rows of `rows` whose scores are held at once.
fn score_chunks(rows: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk = (SCORE_BYTES / 4 / vocab.max(1)).max(1);
    (0..rows)
        .step_by(chunk)
        .map(move |first| first..rows.min(first + chunk))
}

fn check_attention(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    plan: &AttentionPlan<'_>,
    bias: Option<&GpuBias>,
) -> Result<(), TensorError> {
    const OP: &str = "attention";
    if plan.heads == 0 || !q.columns.is_multiple_of(plan.heads) {
        let expected = format!("a multiple of {} columns", plan.heads);
        return Err(TensorError::shape(OP, "q", expected, q.columns));
    }
    expect(OP, "key", "segments", plan.query.count(), plan.key.count())?;
    expect(OP, "q", "rows", plan.candidates * plan.query.total(), q.rows)?;
    let keys = (plan.candidates * plan.key.total(), q.columns);
    expect_shape(OP, "k", keys, k)?;
    expect_shape(OP, "v", keys, v)?;
    if let Some(bias) = bias {
        let reach = plan.query.longest().max(plan.key.longest());
        if bias.heads != plan.heads || bias.distances + 1 < 2 * reach {
            return Err(TensorError::shape(
                OP,
                "bias",
                format!("[{}, at least {} distances]", plan.heads, (2 * reach).saturating_sub(1)),
                format!("[{}, {}]", bias.heads, bias.distances),
            ));
        }
    }
    Ok(())
}

impl Gpu {
    /// `scale * x head^T` for one of [`score_chunks`].
    fn scores(
        &self,
        x: &GpuTensor,
        head: &GpuWeight,
        vocab: usize,
        scale: f64,
        rows: &Range<usize>,
    ) -> Result<GpuTensor, GpuError> {
        let of = linear::Linear {
            x,
            first_row: rows.start,
            rows: rows.len(),
            weight: head,
            d_out: vocab,
            scale: scale as f32,
            lora: None,
        };
        linear::linear(self, &of)
    }

    /// Makes room for one more step.
    fn grow_cache(&self, cache: &mut GpuCache) -> Result<(), GpuError> {
        let room = (2 * cache.room).max(CACHE_STEPS).min(cache.capacity);
        let rows = || (0..(cache.steps * cache.sequences) as u32).collect::<Vec<_>>();
        let total = room * cache.sequences;
        let keys = gather_rows::gather_rows(self, &cache.keys, cache.width, rows(), total)?;
        let values = gather_rows::gather_rows(self, &cache.values, cache.width, rows(), total)?;
        (cache.keys, cache.values, cache.room) = (keys, values, room);
        Ok(())
    }
}

impl Backend for Gpu {
    type Tensor = GpuTensor;
    type Ids = GpuIds;
    type Weight = GpuWeight;
    type Bank = GpuBank;
    type Lora = GpuLora;
    type Bias = GpuBias;
    type Cache = GpuCache;

    fn name(&self) -> String {
        let adapter = self.adapter();
        let own = [
            adapter.name.as_str(),
            &format!("{:?}", adapter.backend).to_lowercase(),
            self.matmul().name(),
        ];
        let parts: Vec<&str> = own.into_iter().filter(|part| !part.is_empty()).collect();
        let software = if self.is_software() { ", software" } else { "" };
        format!("webgpu ({}{software})", parts.join(", "))
    }

    fn row_budget(&self) -> usize {
        self.rows()
    }

    fn memory_budget(&self) -> u64 {
        self.options().activation_bytes.unwrap_or(1 << 30)
    }

    fn storage(&self) -> WeightStorage {
        self.options().weights
    }

    fn hold(&self, shape: &[usize], held: Held) -> Result<GpuWeight, TensorError> {
        check_held(shape, &held)?;
        let (format, words) = match shape {
            [rows, columns] => pack::matrix(&held, (*rows, *columns)),
            _ => (Format::F32, pack::bits(held.widen())),
        };
        Ok(GpuWeight {
            data: self.upload_weights("the base's weights", &words)?,
            shape: shape.to_vec(),
            format,
        })
    }

    fn ids(&self, ids: &[u32]) -> Result<GpuIds, TensorError> {
        Ok(GpuIds {
            data: self.upload("ids", ids)?,
            count: ids.len(),
            largest: ids.iter().copied().max().unwrap_or(0),
        })
    }

    fn embed(&self, table: &GpuWeight, ids: &GpuIds) -> Result<GpuTensor, TensorError> {
        let size = matrix(table, "embed", "table")?;
        if ids.count > 0 {
            check_ids("embed", &[ids.largest], size.0)?;
        }
        Ok(embed::embed(self, table, size, ids)?)
    }

    fn rms_norm(&self, x: &GpuTensor, weight: &GpuWeight, eps: f64) -> Result<GpuTensor, TensorError> {
        if weight.shape != [x.columns] {
            return Err(TensorError::shape(
                "rms_norm",
                "weight",
                format!("[{}]", x.columns),
                format!("{:?}", weight.shape),
            ));
        }
        Ok(rms_norm::rms_norm(self, x, weight, eps as f32)?)
    }

    fn linear(&self, x: &GpuTensor, weight: &GpuWeight, lora: Option<&GpuLora>) -> Result<GpuTensor, TensorError> {
        let (d_out, d_in) = matrix(weight, "linear", "weight")?;
        expect("linear", "x", "columns", d_in, x.columns)?;
        let mut hidden = None;
        if let Some(lora) = lora {
            lora.check("linear", d_in, d_out)?;
            if lora.candidates == 0 || !x.rows.is_multiple_of(lora.candidates) {
                return Err(TensorError::shape(
                    "linear",
                    "x",
                    format!("a multiple of {} rows", lora.candidates),
                    format!("{} rows", x.rows),
                ));
            }
            if lora.rank4 > 0 && x.rows > 0 {
                hidden = Some(lora_down::lora_down(self, x, lora, x.rows / lora.candidates, false)?);
            }
        }
        let of = linear::Linear {
            x,
            first_row: 0,
            rows: x.rows,
            weight,
            d_out,
            scale: 1.0,
            lora: lora.zip(hidden.as_deref()),
        };
        Ok(linear::linear(self, &of)?)
    }

    fn add_lora(&self, base: &GpuTensor, x: &GpuTensor, lora: &GpuLora) -> Result<GpuTensor, TensorError> {
        lora.check("add_lora", x.columns, base.columns)?;
        expect("add_lora", "x", "rows", base.rows, x.rows)?;
        if lora.rank4 == 0 || x.rows == 0 {
            return self.repeat(base, lora.candidates);
        }
        let hidden = lora_down::lora_down(self, x, lora, x.rows, true)?;
        Ok(lora_up::lora_up(self, base, &hidden, lora)?)
    }

    fn repeat(&self, x: &GpuTensor, candidates: usize) -> Result<GpuTensor, TensorError> {
        if candidates == 1 {
            return Ok(x.clone());
        }
        Ok(repeat::repeat(self, x, candidates)?)
    }

    fn relative_bias(&self, table: &GpuWeight, buckets: &[u32]) -> Result<GpuBias, TensorError> {
        let size = matrix(table, "relative_bias", "table")?;
        check_ids("relative_bias", buckets, size.0)?;
        Ok(relative_bias::relative_bias(self, table, size, buckets)?)
    }

    fn attention(
        &self,
        q: &GpuTensor,
        k: &GpuTensor,
        v: &GpuTensor,
        plan: &AttentionPlan<'_>,
        bias: Option<&GpuBias>,
    ) -> Result<GpuTensor, TensorError> {
        check_attention(q, k, v, plan, bias)?;
        Ok(attention::attention(self, q, k, v, plan, bias)?)
    }

    fn cache(&self, sequences: usize, capacity: usize, width: usize) -> Result<GpuCache, TensorError> {
        // Rows come with the first step: a long `max_new_tokens` reserves nothing.
        let none = self.result("cache", 0)?;
        Ok(GpuCache {
            keys: none.clone(),
            values: none,
            sequences,
            width,
            steps: 0,
            room: 0,
            capacity,
        })
    }

    fn attention_step(
        &self,
        q: &GpuTensor,
        k: &GpuTensor,
        v: &GpuTensor,
        cache: &mut GpuCache,
        heads: usize,
        bias: &GpuBias,
    ) -> Result<GpuTensor, TensorError> {
        const OP: &str = "attention_step";
        for (operand, tensor) in [("q", q), ("k", k), ("v", v)] {
            expect_shape(OP, operand, (cache.sequences, cache.width), tensor)?;
        }
        if bias.heads != heads || heads == 0 || !cache.width.is_multiple_of(heads) || bias.zero() < cache.steps {
            return Err(TensorError::shape(
                OP,
                "bias",
                format!("[{heads}, distances to {}]", cache.steps),
                format!("[{}, distances to {}]", bias.heads, bias.zero()),
            ));
        }
        if cache.steps == cache.capacity {
            return Err(TensorError::shape(
                OP,
                "cache",
                format!("below {} steps", cache.capacity),
                cache.steps,
            ));
        }
        if cache.steps == cache.room {
            self.grow_cache(cache)?;
        }
        cache_append::cache_append(self, cache, k, v)?;
        cache.steps += 1;
        Ok(attention::attention_step(self, q, cache, heads, bias)?)
    }

    fn cache_keep(&self, cache: &mut GpuCache, sequences: &[usize]) -> Result<(), TensorError> {
        if let Some(&outside) = sequences.iter().find(|&&sequence| sequence >= cache.sequences) {
            let expected = format!("below {}", cache.sequences);
            return Err(TensorError::shape("cache_keep", "sequences", expected, outside));
        }
        let rows: Vec<u32> = (0..cache.steps)
            .flat_map(|step| sequences.iter().map(move |sequence| (step, sequence)))
            .map(|(step, sequence)| (step * cache.sequences + sequence) as u32)
            .collect();
        let room = cache.room * sequences.len();
        cache.keys = gather_rows::gather_rows(self, &cache.keys, cache.width, rows.clone(), room)?;
        cache.values = gather_rows::gather_rows(self, &cache.values, cache.width, rows, room)?;
        cache.sequences = sequences.len();
        Ok(())
    }

    fn gated_gelu(&self, gate: &GpuTensor, up: &GpuTensor) -> Result<GpuTensor, TensorError> {
        expect_shape("gated_gelu", "up", (gate.rows, gate.columns), up)?;
        Ok(gated_gelu::gated_gelu(self, gate, up)?)
    }

    fn relu(&self, x: &GpuTensor) -> Result<GpuTensor, TensorError> {
        Ok(relu::relu(self, x)?)
    }

    fn add(&self, x: &GpuTensor, y: &GpuTensor) -> Result<GpuTensor, TensorError> {
        expect_shape("add", "y", (x.rows, x.columns), y)?;
        Ok(add::add(self, x, y)?)
    }

    fn gather_rows(&self, x: &GpuTensor, rows: &[usize]) -> Result<GpuTensor, TensorError> {
        let rows: Vec<u32> = rows.iter().map(|&row| u32::try_from(row).unwrap_or(u32::MAX)).collect();
        check_ids("gather_rows", &rows, x.rows)?;
        let count = rows.len();
        Ok(GpuTensor {
            data: gather_rows::gather_rows(self, &x.data, x.columns, rows, count)?,
            rows: count,
            columns: x.columns,
        })
    }

    fn logits(&self, x: &GpuTensor, head: &GpuWeight, scale: f64) -> Result<GpuTensor, TensorError> {
        let vocab = check_head("logits", x, head)?;
        Ok(self.scores(x, head, vocab, scale, &(0..x.rows))?)
    }

    async fn nll(
        &self,
        x: &GpuTensor,
        head: &GpuWeight,
        scale: f64,
        targets: &[u32],
        segments: &Segments,
        candidates: usize,
    ) -> Result<GpuTensor, TensorError> {
        let vocab = check_head("nll", x, head)?;
        check_ids("nll", targets, vocab)?;
        let tokens = segments.total();
        expect("nll", "targets", "ids", tokens, targets.len())?;
        expect("nll", "x", "rows", candidates * tokens, x.rows)?;
        let loss = self.result("losses", x.rows)?;
        let targets = self.upload_remembered("targets", targets.to_vec())?;
        for (index, rows) in score_chunks(x.rows, vocab).enumerate() {
            // A chunk of flan-t5-large's head takes 8.6 GFLOP.
            if index > 0 {
                Gpu::checkpoint(self).await?;
            }
            let scores = self.scores(x, head, vocab, scale, &rows)?;
            nll_rows::nll_rows(self, &scores, rows.start, &targets, tokens, &loss)?;
        }
        Ok(nll_shots::nll_shots(self, &loss, segments, candidates)?)
    }

    fn argmax(&self, x: &GpuTensor, head: &GpuWeight) -> Result<GpuIds, TensorError> {
        let vocab = check_head("argmax", x, head)?;
        let data = self.result("ids", x.rows)?;
        for rows in score_chunks(x.rows, vocab) {
            let scores = self.scores(x, head, vocab, 1.0, &rows)?;
            argmax_rows::argmax_rows(self, &scores, rows.start, &data)?;
        }
        Ok(GpuIds {
            data,
            count: x.rows,
            largest: vocab.saturating_sub(1) as u32,
        })
    }

    fn bank(&self, target: &BankTarget, rule: Rule) -> Result<GpuBank, TensorError> {
        GpuBank::new(self, target, rule)
    }

    fn compose(&self, bank: &GpuBank, weights: &[Vec<f32>]) -> Result<GpuLora, TensorError> {
        bank.compose(self, weights)
    }

    async fn read(&self, tensor: &GpuTensor) -> Result<Vec<f32>, TensorError> {
        let words = self.read_words(&tensor.data, tensor.len()).await?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    async fn read_ids(&self, ids: &GpuIds) -> Result<Vec<u32>, TensorError> {
        Ok(self.read_words(&ids.data, ids.count).await?)
    }

    fn steps_per_read(&self, done: usize) -> usize {
        self.pace().start(done)
    }

    async fn read_steps(&self, steps: &[GpuIds]) -> Result<Vec<Vec<u32>>, TensorError> {
        let from: Vec<_> = steps.iter().map(|ids| (&*ids.data, ids.count)).collect();
        let all = self.read_all(&from).await?;
        self.pace().end(steps.len());
        let mut rest = all.as_slice();
        Ok(steps
            .iter()
            .map(|ids| {
                let (own, after) = rest.split_at(ids.count.min(rest.len()));
                rest = after;
                own.to_vec()
            })
            .collect())
    }

    async fn checkpoint(&self) -> Result<(), TensorError> {
        Gpu::checkpoint(self).await
    }
}
