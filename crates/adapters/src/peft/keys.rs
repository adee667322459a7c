//! The names of an adapter's tensors.
//!
//! PEFT writes `base_model.model.{path}.lora_A.weight`. Two variants are read as well: with the adapter name `default`
//! left in (`.lora_A.default.weight`, as a training state holds it), and without the prefix (as other tools write it;
//! PEFT itself then silently uses the base alone).

use lorahub_weights::shown;

use super::TensorsError;

const PREFIX: &str = "base_model.model.";

/// Which of a pair's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Matrix {
    /// `[r, d_in]`
    A,
    /// `[d_out, r]`
    B,
}

impl Matrix {
    /// The name in the keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        }
    }
}

/// The key that PEFT writes.
pub(crate) fn key_of(path: &str, matrix: Matrix) -> String {
    format!("{PREFIX}{path}.{}.weight", matrix.name())
}

/// A key's parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    /// The target's name in the base.
    pub(super) path: &'a str,
    pub(super) matrix: Matrix,
    /// Whether it starts with PEFT's prefix.
    pub(super) prefixed: bool,
}

/// Takes a key apart, or says what kind of foreign tensor it names.
pub(super) fn parse(key: &str) -> Result<Key<'_>, TensorsError> {
    let shown_key = || shown(key);
    let bare = key.strip_prefix(PREFIX);
    let prefixed = bare.is_some();
    let bare = bare.unwrap_or(key);
    if bare.contains("lora_embedding_") {
        return Err(TensorsError::Embedding { key: shown_key() });
    }
    if bare.contains("lora_magnitude_vector") {
        return Err(TensorsError::Magnitude { key: shown_key() });
    }
    let segments: Vec<_> = bare.split('.').collect();
    if segments.contains(&"modules_to_save") {
        return Err(TensorsError::SavedModule { key: shown_key() });
    }
    let (matrix, marker) = if let Some((path, rest)) = bare.split_once(".lora_A.") {
        (Matrix::A, (path, rest))
    } else if let Some((path, rest)) = bare.split_once(".lora_B.") {
        (Matrix::B, (path, rest))
    } else {
        return Err(match segments.as_slice() {
            // Where the head is a target, PEFT saves its whole weight too.
            [HEAD, "base_layer", "weight"] => TensorsError::Head,
            [.., "base_layer", "weight"] => TensorsError::BaseLayer { key: shown_key() },
            [.., "bias"] => TensorsError::Bias { key: shown_key() },
            // PEFT saves these on demand, and if the vocabulary is not the base's.
            [.., "shared" | "embed_tokens" | HEAD, "weight"] => TensorsError::SavedEmbedding { key: shown_key() },
            // PEFT drops the adapter name and the wrapper's name when it saves `modules_to_save`.
            [.., "weight"] => TensorsError::SavedModule { key: shown_key() },
            _ => TensorsError::UnknownKey { key: shown_key() },
        });
    };
    let (path, rest) = marker;
    match rest.split('.').collect::<Vec<_>>().as_slice() {
        ["weight"] | ["default", "weight"] => Ok(Key { path, matrix, prefixed }),
        ["bias"] | ["default", "bias"] => Err(TensorsError::LoraBias { key: shown_key() }),
        [adapter, "weight" | "bias"] => Err(TensorsError::AdapterName {
            key: shown_key(),
            found: shown(adapter),
        }),
        _ => Err(TensorsError::UnknownKey { key: shown_key() }),
    }
}

/// The head's name, which is a linear too but has no place in a composition.
pub(super) const HEAD: &str = "lm_head";

/// Whether `path` is a linear of some T5 that a LoRA can attach to.
pub(super) fn is_t5_linear(path: &str) -> bool {
    let segments: Vec<_> = path.split('.').collect();
    let [stack, "block", block, "layer", layer, unit, leaf] = segments.as_slice() else {
        return false;
    };
    let number = block.bytes().all(|byte| byte.is_ascii_digit()) && !block.is_empty();
    let attention = ["q", "k", "v", "o"].contains(leaf);
    let feed_forward = ["wi", "wi_0", "wi_1", "wo"].contains(leaf);
    number
        && match (*stack, *layer, *unit) {
            ("encoder" | "decoder", "0", "SelfAttention") | ("decoder", "1", "EncDecAttention") => attention,
            ("encoder", "1", "DenseReluDense") | ("decoder", "2", "DenseReluDense") => feed_forward,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peft_writes_is_read_back() {
        let path = "decoder.block.11.layer.1.EncDecAttention.q";
        for matrix in [Matrix::A, Matrix::B] {
            let key = key_of(path, matrix);
            assert_eq!(
                parse(&key),
                Ok(Key {
                    path,
                    matrix,
                    prefixed: true
                })
            );
            assert!(key.ends_with(&format!("EncDecAttention.q.{}.weight", matrix.name())));
        }
    }

    #[test]
    fn only_t5_linears_are_targets() {
        for path in [
            "encoder.block.0.layer.0.SelfAttention.q",
            "encoder.block.23.layer.1.DenseReluDense.wi_1",
            "decoder.block.0.layer.1.EncDecAttention.o",
            "decoder.block.7.layer.2.DenseReluDense.wi",
        ] {
            assert!(is_t5_linear(path), "{path}");
        }
        for path in [
            "",
            "lm_head",
            "shared",
            "encoder.block.0.layer.1.EncDecAttention.q",
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "encoder.block..layer.0.SelfAttention.q",
            "encoder.block.x.layer.0.SelfAttention.q",
            "decoder.block.0.layer.1.DenseReluDense.wi",
            "model.encoder.block.0.layer.0.SelfAttention.q",
            "encoder.block.0.layer.0.SelfAttention.q.base_layer",
        ] {
            assert!(!is_t5_linear(path), "{path}");
        }
    }
}
