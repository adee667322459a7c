//! A base in each form that it comes in: one safetensors file, several with an index, a PyTorch archive, GGUF.

#[path = "../../../../tests/hostile/gguf.rs"]
mod gguf;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::hostile::Adapter;
use crate::support::{
    Folder, run_json, run_refused, safetensors, tiny_config, tiny_tensors, tiny_tokenizer, write_adapter, write_base,
    write_rows,
};

/// Writes the tiny base without its weights, and returns its path.
fn bare(folder: &Folder, name: &str) -> String {
    folder.write(&format!("{name}/config.json"), tiny_config().to_string());
    folder.write(&format!("{name}/tokenizer.json"), tiny_tokenizer().to_string());
    folder.join(name)
}

fn pickled() -> Vec<u8> {
    let bytes = |data: Vec<f32>| data.into_iter().flat_map(f32::to_le_bytes).collect();
    let tensors: Vec<_> = tiny_tensors()
        .into_iter()
        .map(|(name, shape, data)| (name, shape, bytes(data)))
        .collect();
    crate::torch::archive_of(&tensors)
}

/// llama.cpp's name for a tensor, by the table of its own converter.
fn llama_cpp(name: &str) -> String {
    let name = match name {
        "shared.weight" => return "token_embd.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        other => other.replace("encoder.", "enc.").replace("decoder.", "dec."),
    };
    let feed_forward = if name.starts_with("enc.") { "layer.1" } else { "layer.2" };
    [
        ("final_layer_norm", "output_norm"),
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
        ("layer.0.SelfAttention.", "attn_"),
        ("layer.1.EncDecAttention.", "cross_attn_"),
        (&format!("{feed_forward}.layer_norm"), "ffn_norm"),
        (&format!("{feed_forward}.DenseReluDense.wi_0"), "ffn_gate"),
        (&format!("{feed_forward}.DenseReluDense.wi_1"), "ffn_up"),
        (&format!("{feed_forward}.DenseReluDense.wi"), "ffn_up"),
        (&format!("{feed_forward}.DenseReluDense.wo"), "ffn_down"),
        ("layer.1.layer_norm", "cross_attn_norm"),
        ("block.", "blk."),
    ]
    .into_iter()
    .fold(name, |name, (theirs, own)| name.replace(theirs, own))
}

fn gguf_file(name: impl Fn(&str) -> String) -> Vec<u8> {
    let tensors = tiny_tensors()
        .into_iter()
        .map(|(own, shape, data)| gguf::Tensor::f32(&name(&own), &shape, &data));
    gguf::Gguf::new(tensors.collect()).bytes()
}

/// Writes the weights in three files with an index, which is returned.
fn write_shards(folder: &Folder, base: &str) -> Value {
    let mut map = BTreeMap::new();
    let tensors = tiny_tensors();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(3)).enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", number + 1);
        map.extend(part.iter().map(|(name, ..)| (name.clone(), file.clone())));
        folder.write(&format!("{base}/{file}"), safetensors(part));
    }
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    folder.write(&format!("{base}/model.safetensors.index.json"), index.to_string());
    index
}

#[test]
fn every_form_of_a_base_is_the_same_base() {
    let folder = Folder::new();
    let whole = write_base(&folder, "whole");
    let parts = bare(&folder, "parts");
    write_shards(&folder, "parts");
    let torch = bare(&folder, "torch");
    folder.write("torch/pytorch_model.bin", pickled());
    let candle = bare(&folder, "candle");
    folder.write("candle/flan-t5-tiny.gguf", gguf_file(str::to_owned));
    let llama = bare(&folder, "llama");
    folder.write("llama/model.gguf", gguf_file(llama_cpp));
    folder.write("llama/other.gguf", "not looked at");
    let module = write_adapter(&folder, "module", &Adapter::valid());
    let shots = write_rows(&folder, "shots.jsonl", &[("red", "yes"), ("blue", "no")]);
    let more = ["--module", &module, "--weights=0.7", "--shots", &shots, "--json"];
    let score = |base: &str| run_json(&[&["score", "--base", base][..], &more].concat());
    let merged = |base: &str, name: &str| {
        let out = folder.join(name);
        run_json(&[
            "export",
            "--merge",
            "--base",
            base,
            "--module",
            &module,
            "--weights=0.7",
            "--out",
            &out,
            "--json",
        ]);
        std::fs::read(format!("{out}/model.safetensors")).unwrap()
    };
    let (expected, weights) = (score(&whole), merged(&whole, "merged-whole"));
    let mut hashes = Vec::new();
    for (base, name) in [
        (&parts, "merged-parts"),
        (&torch, "merged-torch"),
        (&candle, "merged-candle"),
        (&llama, "merged-llama"),
    ] {
        assert_eq!(score(base), expected, "{name}");
        assert!(merged(base, name) == weights, "{name}");
        hashes.push(run_json(&["inspect", base, "--json"])["sha256"].clone());
    }
    // Each file counts in the name that records give the weights.
    let file = "parts/model-00003-of-00003.safetensors";
    let mut bytes = std::fs::read(folder.join(file)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    folder.write(file, bytes);
    assert_ne!(run_json(&["inspect", &parts, "--json"])["sha256"], hashes[0]);
    assert_ne!(hashes[0], hashes[1]);
    // As transformers has it, one safetensors file goes before everything else.
    folder.write("whole/pytorch_model.bin", "not looked at");
    folder.write("whole/model.safetensors.index.json", "not looked at");
    assert_eq!(score(&whole), expected);
}

#[test]
fn every_form_has_its_errors() {
    let folder = Folder::new();
    let parts = bare(&folder, "parts");
    let mut index = write_shards(&folder, "parts");
    let refused = |base: &str, says: &[&str]| run_refused(&["inspect", base], 1, says);
    let second = "parts/model-00002-of-00003.safetensors";
    let bytes = std::fs::read(folder.join(second)).unwrap();
    folder.write(second, &bytes[..bytes.len() - 1]);
    refused(&parts, &["error[base_weights]", "parts"]);
    std::fs::remove_file(folder.join(second)).unwrap();
    refused(
        &parts,
        &["error[missing_file]", "has no `model-00002-of-00003.safetensors`"],
    );
    folder.write(second, bytes);
    index["weight_map"]["shared.weight"] = json!("../whole/model.safetensors");
    folder.write("parts/model.safetensors.index.json", index.to_string());
    refused(&parts, &["error[base_weights]", "../whole/model.safetensors"]);
    index["weight_map"]["shared.weight"] = json!("model-00003-of-00003.safetensors");
    folder.write("parts/model.safetensors.index.json", index.to_string());
    refused(&parts, &["error[base_weights]", "shared.weight"]);

    let torch = bare(&folder, "torch");
    folder.write("torch/pytorch_model.bin", b"PK\x03\x04");
    refused(&torch, &["error[base_weights]", "torch"]);
    let mut bytes = pickled();
    bytes.truncate(bytes.len() / 2);
    folder.write("torch/pytorch_model.bin", bytes);
    refused(&torch, &["error[base_weights]"]);
    std::fs::rename(
        folder.join("torch/pytorch_model.bin"),
        folder.join("torch/pytorch_model.bin.index.json"),
    )
    .unwrap();
    refused(
        &torch,
        &[
            "error[missing_file]",
            "pickled weights in several files",
            "save_pretrained",
        ],
    );
}
