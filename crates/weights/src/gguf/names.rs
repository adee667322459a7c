//! The names of a T5's tensors in GGUF files: candle writes Hugging Face's, llama.cpp has its own.

use std::collections::BTreeSet;

use crate::WeightsError;

/// Hugging Face's name for the embedding that both stacks share.
const SHARED: &str = "shared.weight";
/// What holds the same values in files whose maker kept one of the copies instead.
const COPIES: [&str; 2] = ["decoder.embed_tokens.weight", "encoder.embed_tokens.weight"];

/// Hugging Face's names for the tensors `own`, in their order. A name that llama.cpp's `t5` does not have stays as it
/// is.
///
/// # Errors
/// [`WeightsError::DuplicateTensor`] if two come to have one name.
pub(super) fn hugging_face(own: &[String]) -> Result<Vec<String>, WeightsError> {
    let all: BTreeSet<&str> = own.iter().map(String::as_str).collect();
    let mut names: Vec<String> = own
        .iter()
        .map(|name| of_llama_cpp(name, &all).unwrap_or_else(|| name.clone()))
        .collect();
    if !names.iter().any(|name| name == SHARED) {
        let copy = COPIES
            .iter()
            .find_map(|copy| names.iter().position(|name| name == copy));
        if let Some(name) = copy.and_then(|at| names.get_mut(at)) {
            SHARED.clone_into(name);
        }
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok(names),
        Some(name) => Err(WeightsError::DuplicateTensor { name: name.clone() }),
    }
}

/// Hugging Face's name for one of llama.cpp's, in a file with the tensors `all`.
fn of_llama_cpp(name: &str, all: &BTreeSet<&str>) -> Option<String> {
    let path = name.strip_suffix(".weight")?;
    let whole = match path {
        "token_embd" => Some("shared"),
        "output" => Some("lm_head"),
        "enc.output_norm" => Some("encoder.final_layer_norm"),
        "dec.output_norm" => Some("decoder.final_layer_norm"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(format!("{whole}.weight"));
    }
    let (short, rest) = path.split_once(".blk.")?;
    let (block, leaf) = rest.split_once('.')?;
    let number: u32 = block.parse().ok()?;
    if number.to_string() != block {
        return None;
    }
    let (stack, feed_forward) = match short {
        "enc" => ("encoder", 1),
        "dec" => ("decoder", 2),
        _ => return None,
    };
    let (layer, rest) = match leaf {
        "attn_norm" => (0, "layer_norm"),
        "attn_q" => (0, "SelfAttention.q"),
        "attn_k" => (0, "SelfAttention.k"),
        "attn_v" => (0, "SelfAttention.v"),
        "attn_o" => (0, "SelfAttention.o"),
        "attn_rel_b" => (0, "SelfAttention.relative_attention_bias"),
        "cross_attn_norm" if stack == "decoder" => (1, "layer_norm"),
        "cross_attn_q" if stack == "decoder" => (1, "EncDecAttention.q"),
        "cross_attn_k" if stack == "decoder" => (1, "EncDecAttention.k"),
        "cross_attn_v" if stack == "decoder" => (1, "EncDecAttention.v"),
        "cross_attn_o" if stack == "decoder" => (1, "EncDecAttention.o"),
        "cross_attn_rel_b" if stack == "decoder" => (1, "EncDecAttention.relative_attention_bias"),
        "ffn_norm" => (feed_forward, "layer_norm"),
        "ffn_gate" => (feed_forward, "DenseReluDense.wi_0"),
        // llama.cpp calls it so with a gate (Flan-T5) and without one (the first T5).
        "ffn_up" if all.contains(format!("{short}.blk.{block}.ffn_gate.weight").as_str()) => {
            (feed_forward, "DenseReluDense.wi_1")
        }
        "ffn_up" => (feed_forward, "DenseReluDense.wi"),
        "ffn_down" => (feed_forward, "DenseReluDense.wo"),
        _ => return None,
    };
    Some(format!("{stack}.block.{block}.layer.{layer}.{rest}.weight"))
}

#[cfg(test)]
mod tests {
    use super::hugging_face;

    fn names(own: &[&str]) -> Vec<String> {
        let own: Vec<String> = own.iter().map(|&name| name.to_owned()).collect();
        hugging_face(&own).unwrap()
    }

    #[test]
    fn other_names_stay() {
        for name in [
            "shared.weight",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            "enc.blk.00.attn_q.weight",
            "enc.blk.0.attn_q",
            "enc.blk.0.cross_attn_q.weight",
            "enc.blk.99999999999.attn_q.weight",
            "blk.0.attn_q.weight",
            "lora.blk.0.attn_q.weight",
            "dec.blk.0.attn_qkv.weight",
            ".weight",
            "",
        ] {
            assert_eq!(names(&[name]), [name]);
        }
    }

    #[test]
    fn the_gate_decides_what_the_other_half_is() {
        let gated = names(&[
            "enc.blk.3.ffn_up.weight",
            "enc.blk.3.ffn_gate.weight",
            "dec.blk.3.ffn_up.weight",
        ]);
        assert_eq!(gated[0], "encoder.block.3.layer.1.DenseReluDense.wi_1.weight");
        assert_eq!(gated[1], "encoder.block.3.layer.1.DenseReluDense.wi_0.weight");
        assert_eq!(gated[2], "decoder.block.3.layer.2.DenseReluDense.wi.weight");
    }

    #[test]
    fn a_copy_of_the_embedding_stands_for_it() {
        assert_eq!(names(&["decoder.embed_tokens.weight"]), ["shared.weight"]);
        let both = names(&["encoder.embed_tokens.weight", "token_embd.weight"]);
        assert_eq!(both, ["encoder.embed_tokens.weight", "shared.weight"]);
    }

    #[test]
    fn two_names_of_one_tensor_are_an_error() {
        let own = ["shared.weight".to_owned(), "token_embd.weight".to_owned()];
        let error = hugging_face(&own).unwrap_err();
        assert_eq!(error.code(), "weights-duplicate-tensor");
    }
}
