//! Which tensors a T5 is made of, under Hugging Face's names.

use std::collections::BTreeSet;

use lorahub_weights::Tensors;

use crate::{Activation, Config, T5Error};

/// The embedding that encoder and decoder share.
pub const SHARED: &str = "shared.weight";
/// The head, where it is not the embedding.
pub const HEAD: &str = "lm_head.weight";

/// Gives a tensor by name and shape, as the device's weight: from a file, or a variable in training.
pub trait WeightSource<W> {
    /// The weight called `name`, which must have this shape.
    ///
    /// # Errors
    /// [`T5Error::MissingTensor`], [`T5Error::TensorShape`], or the source's own.
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<W, T5Error>;
}

impl<W, F> WeightSource<W> for F
where
    F: FnMut(&str, &[usize]) -> Result<W, T5Error>,
{
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<W, T5Error> {
        self(name, shape)
    }
}

/// Every tensor of a model with this configuration: name and shape, linears in [`Config::base_spec`]'s order.
pub fn expected_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let d = config.d_model;
    let mut tensors = vec![(SHARED.to_owned(), vec![config.vocab_size, d])];
    for target in config.base_spec().targets {
        tensors.push((format!("{}.weight", target.path), vec![target.d_out, target.d_in]));
    }
    for (stack, layers, sublayers) in [
        ("encoder", config.encoder_layers, 2),
        ("decoder", config.decoder_layers, 3),
    ] {
        tensors.push((bias_name(stack), vec![config.buckets, config.num_heads]));
        for block in 0..layers {
            for layer in 0..sublayers {
                tensors.push((norm_name(stack, block, layer), vec![d]));
            }
        }
        tensors.push((final_norm_name(stack), vec![d]));
    }
    if !config.tied {
        tensors.push((HEAD.to_owned(), vec![config.vocab_size, d]));
    }
    tensors
}

pub(crate) fn bias_name(stack: &str) -> String {
    format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
}

pub(crate) fn norm_name(stack: &str, block: usize, layer: usize) -> String {
    format!("{stack}.block.{block}.layer.{layer}.layer_norm.weight")
}

pub(crate) fn final_norm_name(stack: &str) -> String {
    format!("{stack}.final_layer_norm.weight")
}

/// Tensors that published files hold and no T5 uses: copies of the embedding, and a bias that the first T5 1.0
/// checkpoints carried by mistake. Hugging Face ignores them too.
const IGNORED: [&str; 3] = [
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
];

/// Checks that a file holds exactly the tensors of this model, with their shapes.
pub(crate) fn check_file(config: &Config, file: &dyn Tensors) -> Result<(), T5Error> {
    let held: BTreeSet<&str> = file.names().collect();
    let expected = expected_tensors(config);
    for (name, shape) in &expected {
        if !held.contains(name.as_str()) {
            return Err(T5Error::MissingTensor { name: name.clone() });
        }
        let found = file.shape(name)?;
        if found != shape.as_slice() {
            return Err(T5Error::TensorShape {
                name: name.clone(),
                expected: shape.clone(),
                found: found.to_vec(),
            });
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    for name in held {
        // Some exports of a tied model repeat the embedding as the head.
        let repeated_head = name == HEAD && config.tied;
        if !known.contains(name) && !IGNORED.contains(&name) && !repeated_head {
            return Err(T5Error::UnexpectedTensor { name: name.to_owned() });
        }
    }
    Ok(())
}

/// Names of a feed-forward layer's inner linears.
pub(crate) fn feed_forward_inner(activation: Activation) -> &'static [&'static str] {
    match activation {
        Activation::GatedGelu => &["wi_0", "wi_1"],
        Activation::Relu => &["wi"],
    }
}
