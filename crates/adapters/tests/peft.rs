//! What PEFT itself wrote (`tests/golden/adapters`): what is imported, and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorahub_adapters::{AdapterError, BaseSpec, Module, Provenance, TargetSpec, export};
use lorahub_weights::{Limits, SafeTensors, TensorOut, WeightFile, write_safetensors};
use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases() -> Value {
    serde_json::from_slice(&read(&golden().join("adapters/cases.json"))).expect("JSON")
}

/// The linears of the base that the adapters were made for.
fn base() -> BaseSpec {
    let bytes = read(&golden().join("models/buckets/base/model.safetensors"));
    let file = SafeTensors::parse(&bytes, &Limits::BASE).expect("a base");
    let linear = |name: &str| {
        let path = name.strip_suffix(".weight")?;
        let leaf = path.rsplit_once('.')?.1;
        let shape = file.shape(name).expect("listed");
        ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
            .contains(&leaf)
            .then(|| TargetSpec {
                path: path.to_owned(),
                d_in: shape[1],
                d_out: shape[0],
            })
    };
    BaseSpec {
        id: Some("golden/buckets".to_owned()),
        revision: None,
        targets: file.names().filter_map(linear).collect(),
    }
}

/// The two files of an adapter.
fn files(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let bin = folder.join("adapter_model.bin");
    let weights = if bin.is_file() {
        bin
    } else {
        folder.join("adapter_model.safetensors")
    };
    (read(&folder.join("adapter_config.json")), read(&weights))
}

fn import(folder: &Path, base: Option<&BaseSpec>) -> Result<Module, AdapterError> {
    let (config, weights) = files(folder);
    Module::from_peft("mine", &config, &weights, base)
}

#[test]
fn every_target_has_the_rank_and_scaling_that_peft_gives_it() {
    let base = base();
    let mut different = 0;
    for adapter in cases()["adapters"].as_array().expect("a list") {
        let name = adapter["name"].as_str().expect("a name");
        let targets = adapter["targets"].as_object().expect("targets");
        for base in [Some(&base), None] {
            let module = import(&golden().join("adapters/imported").join(name), base)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(module.pairs.keys().eq(targets.keys()), "{name}");
            for (path, expected) in targets {
                let found = json!([module.pairs[path].rank, module.scaling_of(path)]);
                assert_eq!(&found, expected, "{name}, {path}");
            }
            different += module.exceptions();
        }
    }
    assert!(
        different > 50,
        "{different} targets differ from the rest of their module"
    );
}

/// A key of `rank_pattern` or `alpha_pattern` means the linears that PEFT means by it.
#[test]
fn keys_of_patterns_mean_what_they_mean_in_peft() {
    let (base, cases) = (base(), cases());
    let (config, weights) = files(&golden().join("adapters/imported/all-r1-bf16"));
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let (mut read, mut meaningless) = (0, 0);
    for pattern in cases["patterns"].as_array().expect("a list") {
        let (key, means) = (pattern["key"].as_str().expect("a key"), &pattern["means"]);
        let mut config = config.clone();
        config["alpha_pattern"] = json!({key: 50});
        match Module::from_peft("mine", config.to_string().as_bytes(), &weights, Some(&base)) {
            Ok(module) => {
                let has_50 = |path: &&String| module.scaling_of(path) == Some(50.0);
                let found: Vec<_> = module.pairs.keys().filter(has_50).collect();
                assert_eq!(json!(found), *means, "{key}");
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), "tensors-unmatched-pattern", "{key}: {error}");
                assert_eq!(*means, json!([]), "{key}");
                meaningless += 1;
            }
        }
    }
    assert!(read > 20 && meaningless > 5, "{read} {meaningless}");
}

/// Exporting what was imported keeps every value, rank and scaling, in whichever way the file spells them.
#[test]
fn what_was_imported_is_exported_and_imported_again() {
    let base = base();
    for adapter in cases()["adapters"].as_array().expect("a list") {
        let name = adapter["name"].as_str().expect("a name");
        let folder = golden().join("adapters/imported").join(name);
        let module = import(&folder, Some(&base)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let exported = export(&module, &Provenance::default()).expect("exports");
        let back = Module::from_peft(
            "mine",
            exported.config_json.as_bytes(),
            &exported.safetensors,
            Some(&base),
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(back.pairs, module.pairs, "{name}");
        for path in module.pairs.keys() {
            assert_eq!(back.scaling_of(path), module.scaling_of(path), "{name}, {path}");
        }
        assert_eq!(
            (back.rank, back.alpha, back.rslora),
            (module.rank, module.alpha, module.rslora),
            "{name}"
        );
    }
}

/// Adapters of PEFT's that are more than a LoRA on T5's linears, or that PEFT reads in more than one way.
const REFUSED: [(&str, &str, &str); 31] = [
    ("activated", "config-activated-lora", "alora_invocation_tokens is [5]"),
    ("adalora", "config-peft-type", "peft_type is `ADALORA`"),
    (
        "ambiguous-alpha",
        "tensors-ambiguous-pattern",
        "5 for `SelfAttention.q` and 3 for `q`",
    ),
    ("bdlora", "config-bd-lora", "use_bdlora is"),
    ("boft", "config-peft-type", "peft_type is `BOFT`"),
    ("dora", "config-dora", "use_dora is true"),
    ("embedding", "tensors-embedding", "shared.lora_embedding_A`"),
    ("head", "tensors-head", "`lm_head` has a LoRA"),
    ("ia3", "config-peft-type", "peft_type is `IA3`"),
    ("kasa", "config-kasa", "kasa_config is"),
    ("ln-tuning", "config-peft-type", "peft_type is `LN_TUNING`"),
    ("loha", "config-peft-type", "peft_type is `LOHA`"),
    ("lokr", "config-peft-type", "peft_type is `LOKR`"),
    ("lora-bias", "config-lora-bias", "lora_bias is true"),
    ("modules-to-save", "config-modules-to-save", "final_layer_norm"),
    ("monteclora", "config-monteclora", "monteclora_config is"),
    ("oft", "config-peft-type", "peft_type is `OFT`"),
    ("olora", "config-init", "init_lora_weights is `olora`"),
    ("pissa", "config-init", "init_lora_weights is `pissa`"),
    ("pissa-niter", "config-init", "init_lora_weights is `pissa_niter_2`"),
    ("prefix-tuning", "config-peft-type", "peft_type is `PREFIX_TUNING`"),
    ("prompt-tuning", "config-peft-type", "peft_type is `PROMPT_TUNING`"),
    ("qalora", "config-qa-lora", "use_qalora is true"),
    ("saved-embeddings", "tensors-saved-embedding", "lm_head.weight`"),
    (
        "target-parameters",
        "config-target-parameters",
        "SelfAttention.k.weight",
    ),
    (
        "trainable-tokens",
        "config-peft-type",
        "peft_type is `TRAINABLE_TOKENS`",
    ),
    (
        "trained-tokens",
        "config-trainable-tokens",
        "trainable_token_indices is [5,6]",
    ),
    ("unmatched-alpha", "tensors-unmatched-pattern", "alpha_pattern has `^q`"),
    ("unmatched-rank", "tensors-unmatched-pattern", "rank_pattern has `k`"),
    ("velora", "config-velora", "velora_config is"),
    ("vera", "config-peft-type", "peft_type is `VERA`"),
];

#[test]
fn what_peft_writes_beyond_a_lora_is_refused_by_name() {
    let base = base();
    let names = REFUSED.map(|(name, ..)| Value::from(name));
    assert_eq!(
        cases()["refused"].as_array().expect("a list"),
        &names,
        "each folder has its row"
    );
    let mut messages = BTreeMap::new();
    for (name, code, words) in REFUSED {
        let error = import(&golden().join("adapters/refused").join(name), Some(&base)).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        let message = error.to_string();
        for words in ["`mine`", words] {
            assert!(message.contains(words), "{name}: `{words}` is not in: {message}");
        }
        if let Some(other) = messages.insert(message, name) {
            panic!("{name} and {other} give the same message");
        }
    }
}

/// An adapter of PEFT's to be spoiled: its configuration, and its tensors by key.
struct Spoiled {
    config: Value,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Spoiled {
    fn new() -> Self {
        let (config, weights) = files(&golden().join("adapters/imported/qv-r1"));
        let file = WeightFile::parse(&weights, &Limits::ADAPTER).expect("valid");
        let tensor = |key: &str| {
            let shape = file.shape(key).expect("listed").to_vec();
            (key.to_owned(), (shape, file.f32(key).expect("finite")))
        };
        Self {
            config: serde_json::from_slice(&config).expect("JSON"),
            tensors: file.names().map(tensor).collect(),
        }
    }

    fn import(&self, base: &BaseSpec) -> Result<Module, AdapterError> {
        let out: Vec<TensorOut<'_>> = self
            .tensors
            .iter()
            .map(|(name, (shape, data))| TensorOut {
                name: name.clone(),
                shape: shape.clone(),
                data,
                dtype: lorahub_weights::Dtype::F32,
            })
            .collect();
        let weights = write_safetensors(&out, &BTreeMap::new()).expect("writes");
        Module::from_peft("mine", self.config.to_string().as_bytes(), &weights, Some(base))
    }
}

/// What PEFT 0.21 loads without an error, and with another meaning or none.
#[test]
fn what_peft_lets_pass_is_an_error_here() {
    type Spoil = fn(&mut Spoiled);
    let rows: [(&str, Spoil, &str, &[&str]); 9] = [
        (
            "half of the keys are missing: PEFT warns",
            |adapter| adapter.tensors.retain(|key, _| key.contains("decoder")),
            "tensors-missing-targets",
            &["selects 16 linears", "4 of them have no tensors", "encoder.block.0"],
        ),
        (
            "a tensor too many: PEFT says nothing",
            |adapter| {
                let extra = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_C.weight";
                adapter.tensors.insert(extra.to_owned(), (vec![1, 1], vec![1.0]));
            },
            "tensors-saved-module",
            &["lora_C.weight`", "expected only lora_A and lora_B"],
        ),
        (
            "a tensor of no kind: PEFT says nothing",
            |adapter| {
                adapter.tensors.insert("training_step".to_owned(), (vec![1], vec![1.0]));
            },
            "tensors-unknown-key",
            &["`training_step`", "not known"],
        ),
        (
            "fewer target_modules than tensors: PEFT drops the rest",
            |adapter| adapter.config["target_modules"] = json!(["q"]),
            "tensors-extra-targets",
            &["does not select 8 of the linears", ".v`"],
        ),
        (
            "another r than the shapes have",
            |adapter| adapter.config["r"] = json!(2),
            "tensors-rank",
            &["lora_A", "[1, 28]", "r is 2 for it", "expected [2, 28]"],
        ),
        (
            "another base: PEFT does not look",
            |adapter| adapter.config["base_model_name_or_path"] = json!("google/flan-t5-small"),
            "tensors-base-id",
            &["`google/flan-t5-small`", "`golden/buckets`"],
        ),
        (
            "a base of another shape",
            |adapter| {
                let key = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight";
                adapter.tensors.insert(key.to_owned(), (vec![1, 30], vec![0.5; 30]));
            },
            "tensors-base-shape",
            &["[1, 30]", "needs [1, 28]"],
        ),
        (
            "use_dora without its magnitudes: PEFT warns",
            |adapter| adapter.config["use_dora"] = json!(true),
            "config-dora",
            &["use_dora is true", "without DoRA"],
        ),
        (
            "another spelling of a setting: PEFT warns",
            |adapter| adapter.config["use_rs_lora"] = json!(true),
            "config-unknown-key",
            &["`use_rs_lora`", "not known here"],
        ),
    ];
    let base = base();
    assert!(Spoiled::new().import(&base).is_ok());
    let mut messages = BTreeMap::new();
    for (what, spoil, code, says) in rows {
        let mut adapter = Spoiled::new();
        spoil(&mut adapter);
        let error = adapter.import(&base).expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        let message = error.to_string();
        for words in says {
            assert!(message.contains(words), "{what}: `{words}` is not in: {message}");
        }
        assert!(
            messages.insert(message, what).is_none(),
            "{what}: its message is not its own"
        );
    }
    // Another revision is compared only where the base says which one it is.
    let mut adapter = Spoiled::new();
    adapter.config["revision"] = json!("0123abc");
    assert!(adapter.import(&base).is_ok());
    let pinned = BaseSpec {
        revision: Some("main".to_owned()),
        ..base
    };
    let error = adapter.import(&pinned).expect_err("another revision");
    assert_eq!(error.code(), "tensors-base-revision", "{error}");
    assert!(error.to_string().contains("`0123abc`") && error.to_string().contains("`main`"));
}
