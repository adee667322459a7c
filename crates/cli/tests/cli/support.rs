//! Running the binary, folders that vanish, and a base small enough to make in code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use lorahub_t5::{Config, expected_tensors};
use lorahub_weights::{Dtype, TensorOut, write_safetensors};
use serde_json::{Value, json};

use crate::hostile::{Adapter, D_FF, D_MODEL};

/// A folder that is removed with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with the folders above it, and returns its path as an argument.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        argument(&path)
    }

    /// A path inside, as an argument.
    pub(crate) fn join(&self, name: &str) -> String {
        argument(&self.0.join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the build folder and does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn argument(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorahub"));
    command.args(arguments).env("RAYON_NUM_THREADS", "1");
    command
}

/// What the binary did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let ran = Self {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        ran
    }
}

pub(crate) fn run(arguments: &[&str]) -> Ran {
    command(arguments).output().unwrap().into()
}

/// Runs a command that must succeed and print exactly one JSON object.
pub(crate) fn run_json(arguments: &[&str]) -> Value {
    let ran = run(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}\n{ran:?}");
    let mut lines = ran.stdout.lines();
    let value = serde_json::from_str(lines.next().expect("one line")).unwrap();
    assert_eq!(lines.next(), None, "{arguments:?}: one object and nothing else");
    value
}

/// Runs a command that must fail with this exit code, print nothing, and say all of `says`.
pub(crate) fn run_refused(arguments: &[&str], code: i32, says: &[&str]) {
    let ran = run(arguments);
    assert_eq!(ran.code, code, "{arguments:?}\n{}", ran.stderr);
    assert_eq!(ran.stdout, "", "{arguments:?}");
    for words in says {
        assert!(
            ran.stderr.contains(words),
            "{arguments:?}: no `{words}` in\n{}",
            ran.stderr
        );
    }
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// `--weights=...` with every bit of each number.
pub(crate) fn weights_flag(weights: &[f64]) -> String {
    let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
    format!("--weights={}", weights.join(","))
}

/// The words that the tiny tokenizer knows.
pub(crate) const WORDS: [&str; 8] = ["▁", "▁red", "▁blue", "▁one", "▁two", "▁yes", "▁no", "a"];

/// `config.json` of the base that [`Adapter::valid`] fits.
pub(crate) fn tiny_config() -> Value {
    json!({
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true,
        "d_model": D_MODEL, "d_kv": 2, "d_ff": D_FF, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1,
        "vocab_size": 3 + WORDS.len(), "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false,
        "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "dropout_rate": 0.1, "torch_dtype": "float16"
    })
}

/// `tokenizer.json`: SentencePiece unigram with `</s>` appended, as T5's.
pub(crate) fn tiny_tokenizer() -> Value {
    let special = |id: usize, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let mut vocab = vec![json!(["<pad>", 0.0]), json!(["</s>", 0.0]), json!(["<unk>", 0.0])];
    vocab.extend(WORDS.iter().map(|word| json!([word, -2.0])));
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let end = json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } });
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<pad>"), special(1, "</s>"), special(2, "<unk>")],
        "normalizer": null, "pre_tokenizer": metaspace, "decoder": metaspace,
        "post_processor": {
            "type": "TemplateProcessing", "single": [sequence("A"), end],
            "pair": [sequence("A"), end, sequence("B"), end],
            "special_tokens": { "</s>": { "id": "</s>", "ids": [1], "tokens": ["</s>"] } }
        },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": false }
    })
}

/// Tensors of the tiny base: names, shapes, and values between -0.5 and 0.5 from a fixed sequence.
pub(crate) fn tiny_tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    tensors_of(&tiny_config())
}

/// Random weights of this `config.json`, always the same.
pub(crate) fn tensors_of(config: &Value) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let config = Config::from_json(config.to_string().as_bytes()).unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let fill = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        (name, shape, values)
    };
    expected_tensors(&config).into_iter().map(fill).collect()
}

pub(crate) fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, shape, data)| TensorOut {
            name: name.clone(),
            shape: shape.clone(),
            data,
            dtype: Dtype::F32,
        })
        .collect();
    write_safetensors(&tensors, &Default::default()).unwrap()
}

/// Writes the tiny base into a folder, and returns its path.
pub(crate) fn write_base(folder: &Folder, name: &str) -> String {
    folder.write(&format!("{name}/config.json"), tiny_config().to_string());
    folder.write(&format!("{name}/tokenizer.json"), tiny_tokenizer().to_string());
    folder.write(&format!("{name}/model.safetensors"), safetensors(&tiny_tensors()));
    folder.join(name)
}

/// Writes an adapter into a folder, and returns its path.
pub(crate) fn write_adapter(folder: &Folder, name: &str, adapter: &Adapter) -> String {
    folder.write(&format!("{name}/adapter_config.json"), adapter.config_json());
    folder.write(&format!("{name}/adapter_model.safetensors"), adapter.safetensors());
    folder.join(name)
}

/// Writes rows as JSON Lines, and returns the file's path.
pub(crate) fn write_rows(folder: &Folder, name: &str, rows: &[(&str, &str)]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .map(|(input, output)| json!({ "input": input, "output": output }).to_string())
        .collect();
    folder.write(name, rows.join("\n"))
}
