//! The base's shape, its first weights, and its variables in training.

use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{Device, Tensor, Var};
use lorahub_optim::Rng;
use lorahub_t5::{Config, HEAD, SHARED, T5, T5Error, WeightSource, expected_tensors};
use lorahub_tensor::{Cpu, CpuWeight};
use serde_json::json;

use crate::ForgeError;

/// The sizes of a base; the rest is Flan-T5's.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Heads.
    pub heads: usize,
    /// Width inside the feed-forward layer.
    pub d_ff: usize,
    /// Blocks of the encoder, and of the decoder.
    pub layers: usize,
}

impl Shape {
    /// The family's base.
    pub const FAMILY: Self = Self {
        d_model: 128,
        d_kv: 32,
        heads: 4,
        d_ff: 256,
        layers: 2,
    };
    /// The miniature of the tests.
    pub const MINIATURE: Self = Self {
        d_model: 64,
        d_kv: 16,
        heads: 4,
        d_ff: 128,
        layers: 2,
    };

    /// `config.json` for a vocabulary of this size.
    pub fn config_json(&self, vocab: usize) -> Result<Vec<u8>, serde_json::Error> {
        let config = json!({
            "architectures": ["T5ForConditionalGeneration"],
            "model_type": "t5",
            "is_encoder_decoder": true,
            "vocab_size": vocab,
            "d_model": self.d_model,
            "d_kv": self.d_kv,
            "d_ff": self.d_ff,
            "num_heads": self.heads,
            "num_layers": self.layers,
            "num_decoder_layers": self.layers,
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
            "feed_forward_proj": "gated-gelu",
            "layer_norm_epsilon": 1e-6,
            "dropout_rate": 0.0,
            "initializer_factor": 1.0,
            "tie_word_embeddings": false,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            "use_cache": true,
            "torch_dtype": "float16"
        });
        let mut bytes = serde_json::to_vec_pretty(&config)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Named candle variables, in name order.
pub type Vars = BTreeMap<String, Var>;

/// Whether a name is a relative position bias, which learns faster than the rest.
pub fn is_bias(name: &str) -> bool {
    name.ends_with("relative_attention_bias.weight")
}

/// First weights: T5's own initialisation, but for two things. The untied head is scaled by `d_model^-0.5`, without
/// which the first loss is about 60. The position biases point some heads at near neighbours (distance one before and
/// after, and two before): from T5's flat start, a small model takes very long to find that neighbours matter.
pub fn initial(config: &Config, rng: &mut Rng) -> Result<Vars, ForgeError> {
    let d = config.d_model as f64;
    let mut vars = Vars::new();
    for (name, shape) in expected_tensors(config) {
        let count: usize = shape.iter().product();
        let layer = name.trim_end_matches(".weight");
        let deviation = if name == SHARED {
            Some(1.0)
        } else if layer.ends_with(".q") {
            Some((d * config.d_kv as f64).powf(-0.5))
        } else if layer.ends_with(".o") {
            Some((config.inner() as f64).powf(-0.5))
        } else if layer.ends_with(".wo") {
            Some((config.d_ff as f64).powf(-0.5))
        } else if name == HEAD
            || [".k", ".v", ".wi", ".wi_0", ".wi_1"]
                .iter()
                .any(|leaf| layer.ends_with(leaf))
        {
            Some(d.powf(-0.5))
        } else {
            None
        };
        let values: Vec<f32> = if is_bias(&name) {
            local_bias(config, name.starts_with("encoder"))
        } else if let Some(deviation) = deviation {
            (0..count).map(|_| (rng.normal() * deviation) as f32).collect()
        } else {
            vec![1.0; count]
        };
        vars.insert(name, Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?);
    }
    Ok(vars)
}

/// `[buckets, heads]`, zero but for a few heads that look at near neighbours.
fn local_bias(config: &Config, encoder: bool) -> Vec<f32> {
    /// Strong enough to lead before training, weak enough to unlearn.
    const PULL: f32 = 5.0;
    let mut table = vec![0.0; config.buckets * config.num_heads];
    // Encoder: keys ahead have their buckets in the second half. Decoder: bucket is the distance back.
    let ahead = config.buckets / 2;
    let pulls: [(usize, usize); 3] = if encoder {
        [(1, 0), (ahead + 1, 1), (2, 2)]
    } else {
        [(1, 0), (0, 1), (2, 2)]
    };
    for (bucket, head) in pulls {
        if head < config.num_heads {
            table[bucket * config.num_heads + head] = PULL;
        }
    }
    table
}

/// Variables as the network's weights.
struct Source<'a>(&'a Vars);

impl WeightSource<CpuWeight> for Source<'_> {
    fn weight(&mut self, name: &str, _shape: &[usize]) -> Result<CpuWeight, T5Error> {
        match self.0.get(name) {
            Some(var) => Ok(CpuWeight::from_tensor(var.as_tensor().clone())),
            None => Err(T5Error::MissingTensor { name: name.to_owned() }),
        }
    }
}

/// The network over these variables; it sees every later change of them.
pub fn network(config: &Config, vars: &Vars) -> Result<T5<Cpu>, ForgeError> {
    Ok(T5::load(Rc::new(Cpu::new()), config.clone(), &mut Source(vars))?)
}

/// Shape and row-major values of a tensor.
pub type Values = (Vec<usize>, Vec<f32>);

/// The variables' values, row-major, in name order.
pub fn values(vars: &Vars) -> Result<BTreeMap<String, Values>, ForgeError> {
    vars.iter()
        .map(|(name, var)| {
            let values = var.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            Ok((name.clone(), (var.dims().to_vec(), values)))
        })
        .collect()
}
