//! The network: encoder, decoder, and the teacher-forced pass over a batch of shots and candidates.

use std::rc::Rc;

use lorahub_tensor::{AttentionPlan, Backend, Norm, Projection, Segments};

use crate::buckets::buckets;
use crate::load::{HEAD, SHARED, WeightSource, bias_name, feed_forward_inner, final_norm_name, norm_name};
use crate::{Config, T5Error};

/// Flan-T5 on a device. Base weights never change after loading.
pub struct T5<B: Backend> {
    pub(crate) config: Config,
    pub(crate) backend: Rc<B>,
    pub(crate) embedding: B::Weight,
    pub(crate) head: B::Weight,
    pub(crate) encoder: Stack<B>,
    pub(crate) decoder: Stack<B>,
}

/// Encoder or decoder.
pub(crate) struct Stack<B: Backend> {
    bias: B::Weight,
    pub(crate) blocks: Vec<Block<B>>,
    pub(crate) final_norm: B::Weight,
    bidirectional: bool,
}

pub(crate) struct Block<B: Backend> {
    pub(crate) self_attention: Attention<B>,
    pub(crate) cross_attention: Option<Attention<B>>,
    pub(crate) feed_forward: FeedForward<B>,
}

/// A pre-norm attention sublayer.
pub(crate) struct Attention<B: Backend> {
    pub(crate) norm: B::Weight,
    pub(crate) q: Linear<B>,
    pub(crate) k: Linear<B>,
    pub(crate) v: Linear<B>,
    pub(crate) o: Linear<B>,
}

/// A pre-norm feed-forward sublayer; `inner` is `wi_0, wi_1` or `wi`.
pub(crate) struct FeedForward<B: Backend> {
    norm: B::Weight,
    inner: Vec<Linear<B>>,
    wo: Linear<B>,
}

/// A linear without bias that a LoRA may adapt; `target` is its place in [`Config::base_spec`].
pub(crate) struct Linear<B: Backend> {
    weight: B::Weight,
    target: usize,
}

/// The composed LoRA of every target for `C` candidates, or nothing (the base alone).
pub struct Adapter<B: Backend> {
    candidates: usize,
    /// By target; `None` where no module adapts it.
    loras: Vec<Option<B::Lora>>,
}

impl<B: Backend> Adapter<B> {
    /// The base alone, as `candidates` equal candidates.
    pub fn none(candidates: usize) -> Self {
        Self {
            candidates,
            loras: Vec::new(),
        }
    }

    /// Adapters by target, in [`Config::base_spec`]'s order, each made for `candidates` candidates.
    pub fn new(candidates: usize, loras: Vec<Option<B::Lora>>) -> Self {
        Self { candidates, loras }
    }

    /// Number of candidates (`C`).
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    fn of(&self, linear: &Linear<B>) -> Option<&B::Lora> {
        self.loras.get(linear.target).and_then(Option::as_ref)
    }

    /// The linear with its LoRA.
    pub(crate) fn projection<'a>(&'a self, linear: &'a Linear<B>) -> Projection<'a, B> {
        Projection {
            weight: &linear.weight,
            lora: self.of(linear),
        }
    }
}

/// A set of shots, tokenised and laid end to end, with what does not depend on the candidate computed once: the
/// embeddings, and in the first block of each stack the norm and the base's q, k and v.
pub struct Prepared<B: Backend> {
    pub(crate) encoder: PreparedStack<B>,
    pub(crate) decoder: PreparedStack<B>,
    targets: Vec<u32>,
}

pub(crate) struct PreparedStack<B: Backend> {
    pub(crate) segments: Segments,
    embedded: B::Tensor,
    normed: B::Tensor,
    q: B::Tensor,
    k: B::Tensor,
    v: B::Tensor,
}

impl<B: Backend> Prepared<B> {
    /// Encoder and decoder rows of one candidate.
    pub fn rows(&self) -> usize {
        self.encoder.segments.total() + self.decoder.segments.total()
    }

    /// Target tokens of each shot, `</s>` included.
    pub fn target_tokens(&self) -> &[usize] {
        self.decoder.segments.lengths()
    }
}

impl<B: Backend> T5<B> {
    /// Builds the network from a source of weights.
    ///
    /// # Errors
    /// The source's.
    pub fn load(backend: Rc<B>, config: Config, source: &mut dyn WeightSource<B::Weight>) -> Result<Self, T5Error> {
        let d = config.d_model;
        let embedding = source.weight(SHARED, &[config.vocab_size, d])?;
        let mut next_target = 0;
        let encoder = Stack::load(&config, "encoder", source, &mut next_target)?;
        let decoder = Stack::load(&config, "decoder", source, &mut next_target)?;
        let head = if config.tied {
            embedding.clone()
        } else {
            source.weight(HEAD, &[config.vocab_size, d])?
        };
        Ok(Self {
            config,
            backend,
            embedding,
            head,
            encoder,
            decoder,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &Rc<B> {
        &self.backend
    }

    /// Factor on the scores of the head.
    pub(crate) fn head_scale(&self) -> f64 {
        if self.config.scaled_head {
            (self.config.d_model as f64).powf(-0.5)
        } else {
            1.0
        }
    }

    /// Makes a batch of shots ready: `inputs` and `targets` are token ids with `</s>` last, one of each per shot.
    ///
    /// # Errors
    /// [`T5Error::Tensor`] for an empty input or target or an id outside the vocabulary.
    pub fn prepare(&self, inputs: &[Vec<u32>], targets: &[Vec<u32>]) -> Result<Prepared<B>, T5Error> {
        // The decoder sees the target shifted by one: the start token, then all but the last.
        let shifted: Vec<Vec<u32>> = targets
            .iter()
            .map(|target| {
                let before = &target[..target.len().saturating_sub(1)];
                if target.is_empty() {
                    Vec::new()
                } else {
                    [&[self.config.start], before].concat()
                }
            })
            .collect();
        Ok(Prepared {
            encoder: self.prepare_stack(&self.encoder, inputs)?,
            decoder: self.prepare_stack(&self.decoder, &shifted)?,
            targets: targets.concat(),
        })
    }

    pub(crate) fn prepare_stack(&self, stack: &Stack<B>, ids: &[Vec<u32>]) -> Result<PreparedStack<B>, T5Error> {
        let backend = &*self.backend;
        let segments = Segments::new(ids.iter().map(Vec::len).collect())?;
        let embedded = backend.embed(&self.embedding, &backend.ids(&ids.concat())?)?;
        let first = &stack.blocks[0].self_attention;
        let normed = backend.rms_norm(&embedded, &first.norm, self.config.epsilon)?;
        Ok(PreparedStack {
            q: backend.linear(&normed, &first.q.weight, None)?,
            k: backend.linear(&normed, &first.k.weight, None)?,
            v: backend.linear(&normed, &first.v.weight, None)?,
            segments,
            embedded,
            normed,
        })
    }

    /// Negative log-likelihood of every shot's target under every candidate, summed over its tokens: `[C, k]`, nats.
    ///
    /// # Errors
    /// [`T5Error::Tensor`] from the device, cancellation included.
    pub async fn nll(&self, batch: &Prepared<B>, adapter: &Adapter<B>) -> Result<B::Tensor, T5Error> {
        let hidden = self.teacher_forced(batch, adapter).await?;
        let losses = self.backend.nll(
            &hidden,
            &self.head,
            self.head_scale(),
            &batch.targets,
            &batch.decoder.segments,
            adapter.candidates,
        );
        Ok(losses.await?)
    }

    /// Scores of every token at every target position: `[C * T, V]`.
    ///
    /// # Errors
    /// As [`nll`](Self::nll).
    pub async fn logits(&self, batch: &Prepared<B>, adapter: &Adapter<B>) -> Result<B::Tensor, T5Error> {
        let hidden = self.teacher_forced(batch, adapter).await?;
        Ok(self.backend.logits(&hidden, &self.head, self.head_scale())?)
    }

    /// The decoder's output after the final norm, `[C * T, d_model]`.
    async fn teacher_forced(&self, batch: &Prepared<B>, adapter: &Adapter<B>) -> Result<B::Tensor, T5Error> {
        let encoded = self.run(&self.encoder, &batch.encoder, adapter, None).await?;
        self.run(
            &self.decoder,
            &batch.decoder,
            adapter,
            Some((&encoded, &batch.encoder.segments)),
        )
        .await
    }

    /// The encoder's output, `[C * T, d_model]`.
    pub(crate) async fn encode(&self, batch: &PreparedStack<B>, adapter: &Adapter<B>) -> Result<B::Tensor, T5Error> {
        self.run(&self.encoder, batch, adapter, None).await
    }

    async fn run(
        &self,
        stack: &Stack<B>,
        batch: &PreparedStack<B>,
        adapter: &Adapter<B>,
        encoded: Option<(&B::Tensor, &Segments)>,
    ) -> Result<B::Tensor, T5Error> {
        let backend = &*self.backend;
        let config = &self.config;
        let candidates = adapter.candidates;
        let bias = self.bias(stack, batch.segments.longest())?;
        let own = AttentionPlan {
            candidates,
            query: &batch.segments,
            key: &batch.segments,
            heads: config.num_heads,
            causal: !stack.bidirectional,
        };
        let mut x = backend.repeat(&batch.embedded, candidates)?;
        for (index, block) in stack.blocks.iter().enumerate() {
            let layer = &block.self_attention;
            let (q, k, v) = if index == 0 {
                let first = |linear: &Linear<B>, base: &B::Tensor| match adapter.of(linear) {
                    Some(lora) => backend.add_lora(base, &batch.normed, lora),
                    None => backend.repeat(base, candidates),
                };
                (
                    first(&layer.q, &batch.q)?,
                    first(&layer.k, &batch.k)?,
                    first(&layer.v, &batch.v)?,
                )
            } else {
                let [q, k, v] = layer.projections(adapter);
                let [q, k, v] = backend.normed_linears(&x, self.norm(&layer.norm), [q, k, v])?;
                (q, k, v)
            };
            let attended = backend.attention(&q, &k, &v, &own, Some(&bias))?;
            x = backend.linear_residual(&x, &attended, adapter.projection(&layer.o))?;

            if let (Some(layer), Some((encoded, segments))) = (&block.cross_attention, encoded) {
                let [q, k, v] = layer.projections(adapter);
                let [q] = backend.normed_linears(&x, self.norm(&layer.norm), [q])?;
                let plan = AttentionPlan {
                    key: segments,
                    causal: false,
                    ..own
                };
                let attended = backend.cross_attention(&q, encoded, k, v, &plan)?;
                x = backend.linear_residual(&x, &attended, adapter.projection(&layer.o))?;
            }
            x = self.feed_forward(&x, &block.feed_forward, adapter)?;
            backend.checkpoint().await?;
        }
        Ok(backend.rms_norm(&x, &stack.final_norm, config.epsilon)?)
    }

    pub(crate) fn linear(&self, x: &B::Tensor, linear: &Linear<B>, adapter: &Adapter<B>) -> Result<B::Tensor, T5Error> {
        Ok(self.backend.linear(x, &linear.weight, adapter.of(linear))?)
    }

    pub(crate) fn feed_forward(
        &self,
        x: &B::Tensor,
        layer: &FeedForward<B>,
        adapter: &Adapter<B>,
    ) -> Result<B::Tensor, T5Error> {
        let backend = &*self.backend;
        let (norm, out) = (self.norm(&layer.norm), adapter.projection(&layer.wo));
        Ok(match layer.inner.as_slice() {
            [gate, up] => {
                let inner = [gate, up].map(|linear| adapter.projection(linear));
                backend.gated_feed_forward(x, norm, inner, out)?
            }
            inner => {
                let [inner] = backend.normed_linears(x, norm, [adapter.projection(&inner[0])])?;
                backend.linear_residual(x, &backend.relu(&inner)?, out)?
            }
        })
    }

    pub(crate) fn norm<'a>(&self, weight: &'a B::Weight) -> Norm<'a, B> {
        Norm {
            weight,
            eps: self.config.epsilon,
        }
    }

    /// The bias of a stack for segments of up to `reach` rows.
    pub(crate) fn bias(&self, stack: &Stack<B>, reach: usize) -> Result<B::Bias, T5Error> {
        let config = &self.config;
        let buckets = buckets(reach, stack.bidirectional, config.buckets, config.max_distance);
        Ok(self.backend.relative_bias(&stack.bias, &buckets)?)
    }
}

impl<B: Backend> Attention<B> {
    /// What makes queries, keys and values.
    pub(crate) fn projections<'a>(&'a self, adapter: &'a Adapter<B>) -> [Projection<'a, B>; 3] {
        [&self.q, &self.k, &self.v].map(|linear| adapter.projection(linear))
    }
}

impl<B: Backend> Stack<B> {
    fn load(
        config: &Config,
        name: &str,
        source: &mut dyn WeightSource<B::Weight>,
        next_target: &mut usize,
    ) -> Result<Self, T5Error> {
        let is_decoder = name == "decoder";
        let layers = if is_decoder {
            config.decoder_layers
        } else {
            config.encoder_layers
        };
        let (d, inner, ff) = (config.d_model, config.inner(), config.d_ff);
        let bias = source.weight(&bias_name(name), &[config.buckets, config.num_heads])?;
        let mut linear = |source: &mut dyn WeightSource<B::Weight>, path: String, d_in: usize, d_out: usize| {
            let weight = source.weight(&format!("{path}.weight"), &[d_out, d_in])?;
            let target = *next_target;
            *next_target += 1;
            Ok::<_, T5Error>(Linear { weight, target })
        };
        let mut blocks = Vec::with_capacity(layers);
        for block in 0..layers {
            let mut attention = |source: &mut dyn WeightSource<B::Weight>, layer: usize, kind: &str| {
                let path = format!("{name}.block.{block}.layer.{layer}.{kind}");
                Ok::<_, T5Error>(Attention {
                    norm: source.weight(&norm_name(name, block, layer), &[d])?,
                    q: linear(source, format!("{path}.q"), d, inner)?,
                    k: linear(source, format!("{path}.k"), d, inner)?,
                    v: linear(source, format!("{path}.v"), d, inner)?,
                    o: linear(source, format!("{path}.o"), inner, d)?,
                })
            };
            let self_attention = attention(source, 0, "SelfAttention")?;
            let cross_attention = if is_decoder {
                Some(attention(source, 1, "EncDecAttention")?)
            } else {
                None
            };
            let layer = if is_decoder { 2 } else { 1 };
            let path = format!("{name}.block.{block}.layer.{layer}.DenseReluDense");
            let norm = source.weight(&norm_name(name, block, layer), &[d])?;
            let names = feed_forward_inner(config.activation);
            let inner = names
                .iter()
                .map(|inner| linear(source, format!("{path}.{inner}"), d, ff))
                .collect::<Result<_, _>>()?;
            let wo = linear(source, format!("{path}.wo"), ff, d)?;
            blocks.push(Block {
                self_attention,
                cross_attention,
                feed_forward: FeedForward { norm, inner, wo },
            });
        }
        Ok(Self {
            bias,
            blocks,
            final_norm: source.weight(&final_norm_name(name), &[d])?,
            bidirectional: !is_decoder,
        })
    }
}
