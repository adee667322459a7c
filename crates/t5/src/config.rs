//! `config.json`, validated.

use candle_nn::Activation as CandleActivation;
use candle_transformers::models::t5;
use lorahub_adapters::{BaseSpec, TargetSpec};

use crate::T5Error;

/// The feed-forward layer's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu(wi_0 x) * wi_1 x`, tanh form: T5 v1.1 and Flan-T5.
    GatedGelu,
    /// `max(wi x, 0)`: T5 1.0.
    Relu,
}

/// A T5's shape and constants. Every field has been checked, so that sizes can be multiplied without overflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Rows of the embedding and of the head (`V`).
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Width inside the feed-forward layer.
    pub d_ff: usize,
    /// Heads of every attention; `num_heads * d_kv` need not be `d_model`.
    pub num_heads: usize,
    /// Blocks of the encoder.
    pub encoder_layers: usize,
    /// Blocks of the decoder.
    pub decoder_layers: usize,
    /// Relative position buckets, a side's exact half included.
    pub buckets: usize,
    /// Distance from which on all positions share the last bucket.
    pub max_distance: usize,
    /// Added to the mean square in the layer norm.
    pub epsilon: f64,
    /// The feed-forward layer's activation.
    pub activation: Activation,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether scores are scaled by `d_model^-0.5`, as T5 1.0's are and Flan-T5's are not.
    pub scaled_head: bool,
    /// Whether the weight file decides `tied`: transformers 5 writes `true` there for every T5.
    head_by_file: bool,
    /// `</s>`.
    pub eos: u32,
    /// The token a decoder starts from.
    pub start: u32,
}

/// Larger than any published T5, and small enough that a hostile file cannot ask for absurd memory.
const MAX_WIDTH: usize = 1 << 17;
const MAX_VOCAB: usize = 1 << 20;
const MAX_LAYERS: usize = 256;

impl Config {
    /// Reads Hugging Face's `config.json`.
    ///
    /// # Errors
    /// [`T5Error::ConfigSyntax`] if it is not a T5's, [`T5Error::Config`] naming a field that this engine does not run.
    pub fn from_json(bytes: &[u8]) -> Result<Self, T5Error> {
        let syntax = |error: serde_json::Error| T5Error::ConfigSyntax(error.to_string());
        let mut json: serde_json::Value = serde_json::from_slice(bytes).map_err(syntax)?;
        let Some(fields) = json.as_object_mut() else {
            return Err(T5Error::ConfigSyntax("not a JSON object".into()));
        };
        if let Some(kind) = fields.get("model_type")
            && kind != "t5"
        {
            return Err(field("model_type", "\"t5\"", kind));
        }
        // Hugging Face's defaults; candle's type has another one for the activation and none for the rest.
        for (name, default) in [
            ("feed_forward_proj", serde_json::json!("relu")),
            ("dropout_rate", serde_json::json!(0.1)),
            ("initializer_factor", serde_json::json!(1.0)),
            ("layer_norm_epsilon", serde_json::json!(1e-6)),
            ("relative_attention_num_buckets", serde_json::json!(32)),
            ("is_encoder_decoder", serde_json::json!(true)),
            ("pad_token_id", serde_json::json!(0)),
            ("eos_token_id", serde_json::json!(1)),
        ] {
            fields.entry(name).or_insert(default);
        }
        // transformers 5 says under another name whether scores are scaled; before, tying decided it.
        let scaled = match fields.get("scale_decoder_outputs") {
            None => None,
            Some(serde_json::Value::Bool(scaled)) => Some(*scaled),
            Some(other) => return Err(field("scale_decoder_outputs", "true or false", other)),
        };
        let raw: t5::Config = serde_json::from_value(json).map_err(syntax)?;
        Self::validate(&raw, scaled)
    }

    fn validate(raw: &t5::Config, scaled: Option<bool>) -> Result<Self, T5Error> {
        let within = |name: &'static str, value: usize, max: usize, expected: &'static str| {
            if (1..=max).contains(&value) {
                Ok(value)
            } else {
                Err(field(name, expected, value))
            }
        };
        const WIDTH: &str = "between 1 and 131072";
        const LAYERS: &str = "between 1 and 256";
        let activation = match (raw.feed_forward_proj.gated, raw.feed_forward_proj.activation) {
            (true, CandleActivation::NewGelu) => Activation::GatedGelu,
            (false, CandleActivation::Relu) => Activation::Relu,
            (_, other) => {
                return Err(field(
                    "feed_forward_proj",
                    "\"gated-gelu\" or \"relu\"",
                    format!("{other:?}"),
                ));
            }
        };
        if !raw.is_encoder_decoder || raw.is_decoder {
            return Err(field(
                "is_encoder_decoder",
                "true: an encoder with a decoder",
                raw.is_encoder_decoder,
            ));
        }
        if !(raw.layer_norm_epsilon > 0.0 && raw.layer_norm_epsilon < 1.0) {
            return Err(field("layer_norm_epsilon", "between 0 and 1", raw.layer_norm_epsilon));
        }
        let vocab_size = within("vocab_size", raw.vocab_size, MAX_VOCAB, "between 1 and 1048576")?;
        let token = |name: &'static str, id: usize| {
            if id < vocab_size {
                Ok(id as u32)
            } else {
                Err(field(name, "an id below vocab_size", id))
            }
        };
        let buckets = within(
            "relative_attention_num_buckets",
            raw.relative_attention_num_buckets,
            4096,
            "from 4 to 4096",
        )?;
        if buckets < 4 || buckets % 2 != 0 {
            return Err(field(
                "relative_attention_num_buckets",
                "an even number from 4 to 4096",
                buckets,
            ));
        }
        let max_distance = raw.relative_attention_max_distance;
        if max_distance <= buckets / 2 || max_distance > MAX_VOCAB {
            return Err(field(
                "relative_attention_max_distance",
                "more than half of relative_attention_num_buckets, and at most 1048576",
                max_distance,
            ));
        }
        let encoder_layers = within("num_layers", raw.num_layers, MAX_LAYERS, LAYERS)?;
        let decoder = raw.num_decoder_layers.unwrap_or(raw.num_layers);
        Ok(Self {
            vocab_size,
            d_model: within("d_model", raw.d_model, MAX_WIDTH, WIDTH)?,
            d_kv: within("d_kv", raw.d_kv, 1024, "between 1 and 1024")?,
            d_ff: within("d_ff", raw.d_ff, MAX_WIDTH, WIDTH)?,
            num_heads: within("num_heads", raw.num_heads, 1024, "between 1 and 1024")?,
            encoder_layers,
            decoder_layers: within("num_decoder_layers", decoder, MAX_LAYERS, LAYERS)?,
            buckets,
            max_distance,
            epsilon: raw.layer_norm_epsilon,
            activation,
            tied: raw.tie_word_embeddings,
            scaled_head: scaled.unwrap_or(raw.tie_word_embeddings),
            head_by_file: scaled.is_some(),
            eos: token("eos_token_id", raw.eos_token_id)?,
            start: token(
                "decoder_start_token_id",
                raw.decoder_start_token_id.unwrap_or(raw.pad_token_id),
            )?,
        })
    }

    /// The configuration for a weight file that has a head of its own or has not. Only what transformers 5 wrote
    /// leaves that to the file.
    pub fn for_file(mut self, has_head: bool) -> Self {
        if self.head_by_file {
            self.tied = !has_head;
        }
        self
    }

    /// Columns of the attention (`heads * d_kv`).
    pub fn inner(&self) -> usize {
        self.num_heads * self.d_kv
    }

    /// Every linear that a LoRA may adapt, in the order in which [`T5`](crate::T5) numbers them. It names no base:
    /// `config.json` does not reliably say what a model is called, so the caller adds that where it is known.
    pub fn base_spec(&self) -> BaseSpec {
        let mut targets = Vec::new();
        let (d, inner, ff) = (self.d_model, self.inner(), self.d_ff);
        let mut add = |path: String, d_in: usize, d_out: usize| targets.push(TargetSpec { path, d_in, d_out });
        for (stack, layers, feed_forward) in [("encoder", self.encoder_layers, 1), ("decoder", self.decoder_layers, 2)]
        {
            for block in 0..layers {
                let prefix = format!("{stack}.block.{block}.layer");
                let mut attentions = vec![(0, "SelfAttention")];
                if stack == "decoder" {
                    attentions.push((1, "EncDecAttention"));
                }
                for (layer, kind) in attentions {
                    for name in ["q", "k", "v"] {
                        add(format!("{prefix}.{layer}.{kind}.{name}"), d, inner);
                    }
                    add(format!("{prefix}.{layer}.{kind}.o"), inner, d);
                }
                let prefix = format!("{prefix}.{feed_forward}.DenseReluDense");
                match self.activation {
                    Activation::GatedGelu => {
                        add(format!("{prefix}.wi_0"), d, ff);
                        add(format!("{prefix}.wi_1"), d, ff);
                    }
                    Activation::Relu => add(format!("{prefix}.wi"), d, ff),
                }
                add(format!("{prefix}.wo"), ff, d);
            }
        }
        BaseSpec {
            targets,
            ..BaseSpec::default()
        }
    }
}

fn field(field: &'static str, expected: &'static str, found: impl std::fmt::Display) -> T5Error {
    T5Error::Config {
        field,
        expected,
        found: found.to_string(),
    }
}
