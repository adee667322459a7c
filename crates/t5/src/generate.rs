//! Greedy decoding with a key/value cache, batched without padding.

use std::ops::ControlFlow;

use lorahub_tensor::{AttentionPlan, Backend, Segments};

use crate::T5Error;
use crate::model::{Adapter, T5};

/// A batch of sequences in decoding: the encoder is done, its keys and values are projected once.
pub struct Decode<'a, B: Backend> {
    model: &'a T5<B>,
    adapter: &'a Adapter<B>,
    /// Keys and values of the encoder for each decoder block.
    cross: Vec<(B::Tensor, B::Tensor)>,
    encoded: Segments,
    caches: Vec<B::Cache>,
    bias: B::Bias,
    next: B::Ids,
}

impl<'a, B: Backend> Decode<'a, B> {
    /// Encodes `inputs` (token ids with `</s>`) under an adapter for one candidate; room for `max_new_tokens` steps.
    ///
    /// # Errors
    /// [`T5Error::Tensor`] from the device.
    pub async fn start(
        model: &'a T5<B>,
        adapter: &'a Adapter<B>,
        inputs: &[Vec<u32>],
        max_new_tokens: usize,
    ) -> Result<Self, T5Error> {
        let backend = &**model.backend();
        let prepared = model.prepare_stack(&model.encoder, inputs)?;
        let encoded = model.encode(&prepared, adapter).await?;
        let mut cross = Vec::new();
        let mut caches = Vec::new();
        for block in &model.decoder.blocks {
            if let Some(layer) = &block.cross_attention {
                cross.push((
                    model.linear(&encoded, &layer.k, adapter)?,
                    model.linear(&encoded, &layer.v, adapter)?,
                ));
            }
            caches.push(backend.cache(inputs.len(), max_new_tokens, model.config.inner())?);
        }
        Ok(Self {
            bias: model.bias(&model.decoder, max_new_tokens.max(1))?,
            next: backend.ids(&vec![model.config.start; inputs.len()])?,
            encoded: prepared.segments,
            model,
            adapter,
            cross,
            caches,
        })
    }

    /// One step: the most likely next token of each sequence.
    ///
    /// # Errors
    /// [`T5Error::Tensor`] from the device, cancellation included.
    pub async fn step(&mut self) -> Result<Vec<u32>, T5Error> {
        Ok(self.steps(1).await?.pop().unwrap_or_default())
    }

    /// `count` steps with one read at their end: a step's tokens go into the next without the host seeing them.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn steps(&mut self, count: usize) -> Result<Vec<Vec<u32>>, T5Error> {
        let mut steps = Vec::with_capacity(count);
        for _ in 0..count {
            self.advance().await?;
            steps.push(self.next.clone());
        }
        Ok(self.model.backend().read_steps(&steps).await?)
    }

    async fn advance(&mut self) -> Result<(), T5Error> {
        let (model, adapter) = (self.model, self.adapter);
        let (backend, config) = (&**model.backend(), &model.config);
        let one_row = Segments::ones(self.encoded.count());
        let plan = AttentionPlan {
            candidates: 1,
            query: &one_row,
            key: &self.encoded,
            heads: config.num_heads,
            causal: false,
        };
        let mut x = backend.embed(&model.embedding, &self.next)?;
        for ((block, cache), (cross_k, cross_v)) in model.decoder.blocks.iter().zip(&mut self.caches).zip(&self.cross) {
            let layer = &block.self_attention;
            let linears = layer.projections(adapter);
            let [q, k, v] = backend.normed_linears(&x, model.norm(&layer.norm), linears)?;
            let attended = backend.attention_step(&q, &k, &v, cache, config.num_heads, &self.bias)?;
            x = backend.linear_residual(&x, &attended, adapter.projection(&layer.o))?;
            if let Some(layer) = &block.cross_attention {
                let q = adapter.projection(&layer.q);
                let [q] = backend.normed_linears(&x, model.norm(&layer.norm), [q])?;
                let attended = backend.attention(&q, cross_k, cross_v, &plan, None)?;
                x = backend.linear_residual(&x, &attended, adapter.projection(&layer.o))?;
            }
            x = model.feed_forward(&x, &block.feed_forward, adapter)?;
        }
        let x = backend.rms_norm(&x, &model.decoder.final_norm, config.epsilon)?;
        self.next = backend.argmax(&x, &model.head)?;
        Ok(backend.checkpoint().await?)
    }

    /// Goes on with these sequences only, in this order; `tokens` are their latest ids.
    fn keep(&mut self, sequences: &[usize], tokens: &[u32]) -> Result<(), T5Error> {
        let backend = &**self.model.backend();
        let mut rows = Vec::new();
        let mut lengths = Vec::new();
        for &sequence in sequences {
            let (offset, length) = (self.encoded.offsets()[sequence], self.encoded.lengths()[sequence]);
            rows.extend(offset..offset + length);
            lengths.push(length);
        }
        for (k, v) in &mut self.cross {
            *k = backend.gather_rows(k, &rows)?;
            *v = backend.gather_rows(v, &rows)?;
        }
        for cache in &mut self.caches {
            backend.cache_keep(cache, sequences)?;
        }
        self.encoded = Segments::new(lengths)?;
        self.next = backend.ids(tokens)?;
        Ok(())
    }
}

/// Greedy ids for each input, `</s>` included where it was produced. `on_step` sees the ids of all sequences after
/// every step, several times in a row where the device reads several steps at once, and may stop.
pub(crate) async fn greedy<B: Backend>(
    model: &T5<B>,
    adapter: &Adapter<B>,
    inputs: &[Vec<u32>],
    max_new_tokens: usize,
    mut on_step: impl FnMut(&[Vec<u32>]) -> ControlFlow<()>,
) -> Result<Vec<Vec<u32>>, T5Error> {
    let mut outputs = vec![Vec::new(); inputs.len()];
    if inputs.is_empty() || max_new_tokens == 0 {
        return Ok(outputs);
    }
    let eos = model.config.eos;
    let mut decode = Decode::start(model, adapter, inputs, max_new_tokens).await?;
    // Which input each decoded row belongs to, and whether it is still going.
    let mut rows: Vec<(usize, bool)> = (0..inputs.len()).map(|input| (input, true)).collect();
    let mut done = 0;
    while done < max_new_tokens {
        let count = model.backend().steps_per_read(done).clamp(1, max_new_tokens - done);
        let steps = decode.steps(count).await?;
        done += count;
        for ids in &steps {
            for ((input, going), &id) in rows.iter_mut().zip(ids) {
                if *going {
                    outputs[*input].push(id);
                    *going = id != eos;
                }
            }
            // What was computed past the end of all sequences is dropped with the rest of `steps`.
            if on_step(&outputs).is_break() || !rows.iter().any(|(_, going)| *going) {
                return Ok(outputs);
            }
        }
        let going: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].1).collect();
        // Dropping finished rows copies the caches, so do it when it saves a quarter of the work.
        if going.len() * 4 <= rows.len() * 3
            && let Some(ids) = steps.last()
        {
            let tokens: Vec<u32> = going.iter().map(|&row| ids[row]).collect();
            decode.keep(&going, &tokens)?;
            rows = going.iter().map(|&row| rows[row]).collect();
        }
    }
    Ok(outputs)
}
