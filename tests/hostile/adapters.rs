//! Malformed PEFT adapters, each made from a valid one by one fault, with the error it must give.

#![allow(
    dead_code,
    reason = "each test crate that includes this file uses its own part of it"
)]

use std::collections::BTreeMap;

/// The base's name in [`Adapter::valid`].
pub(crate) const BASE: &str = "tiny/t5";
/// Sizes of the base that the valid adapter fits: one encoder and one decoder block.
pub(crate) const D_MODEL: usize = 6;
/// Heads times the size of a head.
pub(crate) const INNER: usize = 4;
/// The feed-forward size.
pub(crate) const D_FF: usize = 10;
/// The valid adapter's rank.
pub(crate) const RANK: usize = 2;

/// Every linear of the base: path, `d_in`, `d_out`.
pub(crate) fn base_targets() -> Vec<(String, usize, usize)> {
    let mut targets = Vec::new();
    let attentions = [
        "encoder.block.0.layer.0.SelfAttention",
        "decoder.block.0.layer.0.SelfAttention",
        "decoder.block.0.layer.1.EncDecAttention",
    ];
    for attention in attentions {
        for leaf in ["q", "k", "v"] {
            targets.push((format!("{attention}.{leaf}"), D_MODEL, INNER));
        }
        targets.push((format!("{attention}.o"), INNER, D_MODEL));
    }
    for unit in [
        "encoder.block.0.layer.1.DenseReluDense",
        "decoder.block.0.layer.2.DenseReluDense",
    ] {
        targets.push((format!("{unit}.wi_0"), D_MODEL, D_FF));
        targets.push((format!("{unit}.wi_1"), D_MODEL, D_FF));
        targets.push((format!("{unit}.wo"), D_FF, D_MODEL));
    }
    targets
}

/// One stored tensor.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Tensor {
    /// An F32 tensor of that shape, with small values that differ.
    pub(crate) fn f32(shape: &[usize]) -> Self {
        let len: usize = shape.iter().product();
        let data = (0..len).flat_map(|i| (i as f32 * 0.25 - 1.0).to_le_bytes()).collect();
        Self {
            dtype: "F32",
            shape: shape.to_vec(),
            data,
        }
    }
}

/// An adapter to be spoiled: configuration as key and raw JSON value, tensors by key.
#[derive(Clone)]
pub(crate) struct Adapter {
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Adapter {
    /// A valid adapter on `q` and `v`, with every key that PEFT 0.21.2 writes.
    pub(crate) fn valid() -> Self {
        let config = [
            ("alora_invocation_tokens", "null"),
            ("alpha_pattern", "{}"),
            ("arrow_config", "null"),
            ("auto_mapping", "null"),
            ("base_model_name_or_path", r#""tiny/t5""#),
            ("bias", r#""none""#),
            ("corda_config", "null"),
            ("ensure_weight_tying", "false"),
            ("eva_config", "null"),
            ("exclude_modules", "null"),
            ("fan_in_fan_out", "false"),
            ("inference_mode", "true"),
            ("init_lora_weights", "true"),
            ("kasa_config", "null"),
            ("layer_replication", "null"),
            ("layers_pattern", "null"),
            ("layers_to_transform", "null"),
            ("loftq_config", "{}"),
            ("lora_alpha", "4"),
            ("lora_bias", "false"),
            ("lora_dropout", "0.1"),
            ("lora_ga_config", "null"),
            ("megatron_config", "null"),
            ("megatron_core", r#""megatron.core""#),
            ("modules_to_save", "null"),
            ("monteclora_config", "null"),
            ("peft_type", r#""LORA""#),
            ("peft_version", r#""0.21.2""#),
            ("qalora_group_size", "16"),
            ("r", "2"),
            ("rank_pattern", "{}"),
            ("revision", "null"),
            ("target_modules", r#"["q","v"]"#),
            ("target_parameters", "null"),
            ("task_type", r#""SEQ_2_SEQ_LM""#),
            ("trainable_token_indices", "null"),
            ("use_bdlora", "null"),
            ("use_dora", "false"),
            ("use_qalora", "false"),
            ("use_rslora", "false"),
            ("velora_config", "null"),
        ];
        let mut adapter = Self {
            config: config
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            tensors: BTreeMap::new(),
        };
        for (path, _, _) in base_targets() {
            if path.ends_with(".q") || path.ends_with(".v") {
                adapter.add_pair(&path, RANK);
            }
        }
        adapter
    }

    /// The same with one setting changed.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same without one setting.
    pub(crate) fn without(mut self, key: &str) -> Self {
        assert!(self.config.remove(key).is_some(), "no setting `{key}`");
        self
    }

    /// The same with another tensor, or another one in its place.
    pub(crate) fn with_tensor(mut self, key: &str, tensor: Tensor) -> Self {
        self.tensors.insert(key.to_owned(), tensor);
        self
    }

    /// The same without one tensor.
    pub(crate) fn without_tensor(mut self, key: &str) -> Self {
        assert!(self.tensors.remove(key).is_some(), "no tensor `{key}`");
        self
    }

    /// The same with every tensor's key changed.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        let tensors = self
            .tensors
            .into_iter()
            .map(|(key, tensor)| (rename(&key), tensor))
            .collect();
        Self { tensors, ..self }
    }

    /// Adds the two matrices for a linear of the base.
    pub(crate) fn add_pair(&mut self, path: &str, rank: usize) {
        let (_, d_in, d_out) = base_targets()
            .into_iter()
            .find(|(target, ..)| target == path)
            .expect("a linear of the base");
        let (a, b) = (Tensor::f32(&[rank, d_in]), Tensor::f32(&[d_out, rank]));
        self.tensors.insert(key(path, "lora_A"), a);
        self.tensors.insert(key(path, "lora_B"), b);
    }

    /// `adapter_config.json`
    pub(crate) fn config_json(&self) -> String {
        let fields: Vec<_> = self
            .config
            .iter()
            .map(|(key, value)| format!(r#""{key}": {value}"#))
            .collect();
        format!("{{\n  {}\n}}", fields.join(",\n  "))
    }

    /// `adapter_model.safetensors`
    pub(crate) fn safetensors(&self) -> Vec<u8> {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        for (key, tensor) in &self.tensors {
            let start = data.len();
            data.extend_from_slice(&tensor.data);
            entries.push(format!(
                r#""{key}":{{"dtype":"{}","shape":{:?},"data_offsets":[{start},{}]}}"#,
                tensor.dtype,
                tensor.shape,
                data.len()
            ));
        }
        let header = format!("{{{}}}", entries.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&data);
        bytes
    }
}

/// The key PEFT gives a matrix.
pub(crate) fn key(path: &str, matrix: &str) -> String {
    format!("base_model.model.{path}.{matrix}.weight")
}

/// An adapter that must be refused.
pub(crate) struct BadAdapter {
    /// What is wrong with it.
    pub(crate) what: &'static str,
    /// `adapter_config.json`
    pub(crate) config_json: String,
    /// `adapter_model.safetensors`
    pub(crate) safetensors: Vec<u8>,
    /// The code of the error it must give.
    pub(crate) code: &'static str,
    /// What the message must contain.
    pub(crate) says: &'static [&'static str],
}

const ENC_Q: &str = "encoder.block.0.layer.0.SelfAttention.q";
const ENC_Q_A: &str = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight";
const ENC_Q_B: &str = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_B.weight";

/// Every adapter that must be refused, given the base of [`base_targets`] and [`BASE`].
pub(crate) fn bad_adapters() -> Vec<BadAdapter> {
    let mut cases = bad_configs();
    cases.extend(bad_settings());
    cases.extend(bad_patterns());
    cases.extend(bad_tensors());
    cases
}

fn case(what: &'static str, adapter: Adapter, code: &'static str, says: &'static [&'static str]) -> BadAdapter {
    BadAdapter {
        what,
        config_json: adapter.config_json(),
        safetensors: adapter.safetensors(),
        code,
        says,
    }
}

/// Configurations that are no configuration, or lack what the matrices need.
#[rustfmt::skip] // one case a line
fn bad_configs() -> Vec<BadAdapter> {
    let valid = Adapter::valid;
    let text = |what, config_json: String, code, says| BadAdapter {
        what,
        config_json,
        safetensors: valid().safetensors(),
        code,
        says,
    };
    let json = valid().config_json();
    vec![
        text("no configuration", String::new(), "config-json", &["not a JSON object", "EOF", "save_pretrained"]),
        text("a list for a configuration", "[]".to_owned(), "config-json", &["not a JSON object", "sequence"]),
        text("a configuration cut short", json[..100].to_owned(), "config-json", &["EOF", "save the adapter again"]),
        text("NaN, which is not JSON", json.replace("0.1", "NaN"), "config-json", &["expected value", "save_pretrained"]),
        text("deep nesting", json.replace("{}", &format!("{}{}", "[".repeat(5000), "]".repeat(5000))), "config-json", &["recursion limit"]),
        text("a large configuration", format!("{json}{}", " ".repeat(1 << 20)), "config-too-long", &["limit is 1048576", "check"]),
        text("a key twice", json.replacen('{', r#"{"r": 2,"#, 1), "config-duplicate-key", &["`r`", "twice", "expected once", "remove"]),
        text("a key twice, once escaped", json.replacen('{', r#"{"\u0072": 2,"#, 1), "config-duplicate-key", &["`r`", "twice"]),
        case("no peft_type", valid().without("peft_type"), "config-missing-key", &["`peft_type`", "expected `LORA`", "save_pretrained"]),
        case("no rank", valid().without("r"), "config-missing-key", &["`r`", "at least 1", "save_pretrained"]),
        case("no alpha", valid().with("lora_alpha", "null"), "config-missing-key", &["`lora_alpha`", "positive number"]),
        case("rank 0", valid().with("r", "0"), "config-value", &["`r`", "is 0", "at least 1", "correct it"]),
        case("a rank below 0", valid().with("r", "-2"), "config-value", &["`r`", "is -2"]),
        case("a fractional rank", valid().with("r", "2.5"), "config-value", &["`r`", "is 2.5"]),
        case("a rank in quotes", valid().with("r", r#""2""#), "config-value", &["`r`", "whole number"]),
        case("alpha 0", valid().with("lora_alpha", "0"), "config-value", &["`lora_alpha`", "is 0", "positive"]),
        case("a huge alpha", valid().with("lora_alpha", "1e999"), "config-json", &["out of range"]),
        case("a flag in quotes", valid().with("use_dora", r#""false""#), "config-value", &["`use_dora`", "true or false"]),
        case("a bias of no kind", valid().with("bias", r#""some""#), "config-value", &["`bias`", "`none`, `all` or `lora_only`", "some"]),
        case("targets that are numbers", valid().with("target_modules", "[1,2]"), "config-value", &["`target_modules`", "[1,2]", "a list of names"]),
        case("no targets", valid().with("target_modules", "[]"), "config-no-targets", &["target_modules", "empty", "`q` and `v`"]),
        case("too many targets", valid().with("target_modules", &format!("[{}\"v\"]", "\"q\",".repeat(4096))), "config-too-many-names", &["`target_modules`", "4097 names", "limit is 4096"]),
        case("a broken expression", valid().with("target_modules", r#"".*(q|v""#), "config-pattern", &["`target_modules`", "`.*(q|v`", "list the names instead"]),
        case("an expression that looks ahead", valid().with("target_modules", r#""(?!x).*q""#), "config-pattern", &["`target_modules`", "list the names"]),
        case("a huge expression", valid().with("target_modules", r#""((a{1000}){1000}){1000}""#), "config-pattern", &["`target_modules`", "size limit"]),
        case("a broken exclusion", valid().with("exclude_modules", r#""[""#), "config-pattern", &["`exclude_modules`", "`[`"]),
        case("layers that are names", valid().with("layers_to_transform", r#"["a"]"#), "config-value", &["`layers_to_transform`", "layer number"]),
        case("a layer pattern alone", valid().with("layers_pattern", r#""block""#), "config-layers", &["layers_pattern", "layers_to_transform is not", "correct"]),
        case("layers beside an expression", valid().with("layers_to_transform", "[0]").with("target_modules", r#"".*q""#), "config-layers", &["layers_to_transform", "regular expression"]),
        case("a new variant of LoRA", valid().with("use_newlora", "true"), "config-unknown-key", &["`use_newlora`", "true", "remove the key"]),
    ]
}

/// Settings that change what the matrices mean.
#[rustfmt::skip] // one case a line
fn bad_settings() -> Vec<BadAdapter> {
    fn on(what: &'static str, key: &str, value: &str, code: &'static str, says: &'static [&'static str]) -> BadAdapter {
        case(what, Adapter::valid().with(key, value), code, says)
    }
    let mut cases = vec![
        on("DoRA", "use_dora", "true", "config-dora", &["use_dora", "expected false", "without DoRA"]),
        on("saved modules", "modules_to_save", r#"["lm_head"]"#, "config-modules-to-save", &["modules_to_save", "lm_head", "expected none"]),
        on("trained tokens", "trainable_token_indices", "[1,2]", "config-trainable-tokens", &["trainable_token_indices", "[1,2]", "expected none"]),
        on("trained tokens by layer", "trainable_token_indices", r#"{"shared":[1]}"#, "config-trainable-tokens", &["shared"]),
        on("a bias on B", "lora_bias", "true", "config-lora-bias", &["lora_bias", "expected false", "no bias"]),
        on("QALoRA", "use_qalora", "true", "config-qa-lora", &["use_qalora", "expected false", "plain LoRA"]),
        on("repeated layers", "layer_replication", "[[0,4],[2,5]]", "config-layer-replication", &["layer_replication", "[[0,4],[2,5]]"]),
        on("bare parameters", "target_parameters", r#"["weight"]"#, "config-target-parameters", &["target_parameters", "use target_modules"]),
        on("activated LoRA", "alora_invocation_tokens", "[5]", "config-activated-lora", &["alora_invocation_tokens", "[5]", "plain LoRA"]),
        on("BD-LoRA", "use_bdlora", r#"{"nblocks":2}"#, "config-bd-lora", &["use_bdlora", "nblocks"]),
        on("Arrow", "arrow_config", r#"{"top_k":3}"#, "config-arrow", &["arrow_config", "top_k", "the LoRAs themselves"]),
        on("KaSA", "kasa_config", r#"{"beta":1}"#, "config-kasa", &["kasa_config", "third matrix"]),
        on("VeLoRA", "velora_config", r#"{"rank":1}"#, "config-velora", &["velora_config", "expected none"]),
        on("MonteCLoRA", "monteclora_config", r#"{"num_samples":1}"#, "config-monteclora", &["monteclora_config", "samples"]),
        on("Megatron", "megatron_config", r#"{"tp":2}"#, "config-megatron", &["megatron_config", "transformers"]),
        on("merged projections", "enable_lora", "[true,false,true]", "config-enable-lora", &["enable_lora", "[true,false,true]", "q, k, v"]),
        on("transposed weights", "fan_in_fan_out", "true", "config-fan-in-fan-out", &["fan_in_fan_out", "expected false"]),
    ];
    const KINDS: [(&str, &[&str]); 12] = [
        ("ADALORA", &["peft_type is `ADALORA`", "expected `LORA`", "LoraConfig"]),
        ("IA3", &["peft_type is `IA3`", "LoraConfig"]),
        ("LOHA", &["peft_type is `LOHA`", "LoraConfig"]),
        ("LOKR", &["peft_type is `LOKR`", "LoraConfig"]),
        ("OFT", &["peft_type is `OFT`", "LoraConfig"]),
        ("BOFT", &["peft_type is `BOFT`", "LoraConfig"]),
        ("VERA", &["peft_type is `VERA`", "LoraConfig"]),
        ("PREFIX_TUNING", &["peft_type is `PREFIX_TUNING`", "LoraConfig"]),
        ("PROMPT_TUNING", &["peft_type is `PROMPT_TUNING`", "LoraConfig"]),
        ("LN_TUNING", &["peft_type is `LN_TUNING`", "LoraConfig"]),
        ("TRAINABLE_TOKENS", &["peft_type is `TRAINABLE_TOKENS`", "LoraConfig"]),
        ("lora", &["peft_type is `lora`", "expected `LORA`"]),
    ];
    for (kind, says) in KINDS {
        cases.push(on("another kind of adapter", "peft_type", &format!(r#""{kind}""#), "config-peft-type", says));
    }
    const INITS: [(&str, &[&str]); 6] = [
        ("pissa", &["init_lora_weights is `pissa`", "gaussian", "path_initial_model_for_weight_conversion"]),
        ("pissa_niter_16", &["init_lora_weights is `pissa_niter_16`", "a base that the initialisation changed"]),
        ("olora", &["init_lora_weights is `olora`", "a base that the initialisation changed"]),
        ("corda", &["init_lora_weights is `corda`", "a base that the initialisation changed"]),
        ("lora_ga", &["init_lora_weights is `lora_ga`", "a base that the initialisation changed"]),
        ("anything", &["init_lora_weights is `anything`", "gaussian"]),
    ];
    for (init, says) in INITS {
        cases.push(on("an initialisation that changes the base", "init_lora_weights", &format!(r#""{init}""#), "config-init", says));
    }
    cases.push(on("an initialisation for a quantised base", "init_lora_weights", r#""loftq""#, "config-loft-q", &["init_lora_weights is `loftq`", "quantised", "as published"]));
    cases
}

/// Ranks and alphas by target that are none, or that contradict each other or the tensors.
#[rustfmt::skip] // one case a line
fn bad_patterns() -> Vec<BadAdapter> {
    fn on(what: &'static str, key: &str, value: &str, code: &'static str, says: &'static [&'static str]) -> BadAdapter {
        case(what, Adapter::valid().with(key, value), code, says)
    }
    let many = |count: usize, name: fn(usize) -> String| {
        let entries: Vec<_> = (0..count).map(|i| format!("{:?}:2", name(i))).collect();
        format!("{{{}}}", entries.join(","))
    };
    vec![
        on("a list of ranks", "rank_pattern", "[4]", "config-value", &["`rank_pattern`", "is [4]", "an object of whole numbers of at least 1"]),
        on("a list of alphas", "alpha_pattern", "[4]", "config-value", &["`alpha_pattern`", "is [4]", "an object of positive numbers"]),
        on("a rank of 0 for one target", "rank_pattern", r#"{"q":0}"#, "config-value", &["`rank_pattern`", "0}", "whole numbers of at least 1"]),
        on("a fractional rank for one target", "rank_pattern", r#"{"q":2.5}"#, "config-value", &["`rank_pattern`", "2.5}", "whole numbers"]),
        on("an alpha of 0 for one target", "alpha_pattern", r#"{"q":0}"#, "config-value", &["`alpha_pattern`", "0}", "positive numbers"]),
        on("an alpha in quotes for one target", "alpha_pattern", r#"{"q":"4"}"#, "config-value", &["`alpha_pattern`", "positive numbers"]),
        on("a target's rank twice", "rank_pattern", r#"{"q":2,"q":4}"#, "config-duplicate-key", &["`rank_pattern.q`", "twice", "remove"]),
        on("a target's alpha twice, once escaped", "alpha_pattern", r#"{"q":2,"\u0071":2}"#, "config-duplicate-key", &["`alpha_pattern.q`", "twice"]),
        on("too many ranks", "rank_pattern", &many(4097, |i| format!("q{i}")), "config-too-many-names", &["`rank_pattern`", "4097 names", "limit is 4096"]),
        on("too many expressions for ranks", "rank_pattern", &many(33, |i| format!("q|x{i}")), "config-too-many-expressions", &["`rank_pattern`", "33 regular expressions", "limit is 32", "whole paths"]),
        on("a broken expression for a rank", "rank_pattern", r#"{"(q":2}"#, "config-pattern", &["`rank_pattern`", "`(q`", "list the names"]),
        on("an expression that ends PEFT's own bracket", "alpha_pattern", r#"{"q)|(v":2}"#, "config-pattern", &["`alpha_pattern`", "`q)|(v`"]),
        on("an expression for an alpha that looks ahead", "alpha_pattern", r#"{"(?!x)q":2}"#, "config-pattern", &["`alpha_pattern`", "list the names"]),
        on("a huge expression for a rank", "rank_pattern", r#"{"(a{1000}){1000}":2}"#, "config-pattern", &["`rank_pattern`", "size limit"]),
        on("a rank that the tensors do not have", "rank_pattern", r#"{"EncDecAttention.q":4}"#, "tensors-rank", &["lora_A of `decoder.block.0.layer.1.EncDecAttention.q`", "[2, 6]", "r is 4 for it", "expected [4, 6]"]),
        on("two ranks for one target", "rank_pattern", r#"{"q":4,"SelfAttention.q":2}"#, "tensors-ambiguous-pattern", &["rank_pattern has 2 for `SelfAttention.q` and 4 for `q`", "both mean `decoder.block.0.layer.0.SelfAttention.q`", "expected one", "remove"]),
        on("two alphas for one target", "alpha_pattern", r#"{"q":4,"^encoder.*":2.5}"#, "tensors-ambiguous-pattern", &["alpha_pattern has 2.5 for `^encoder.*` and 4 for `q`", "`encoder.block.0.layer.0.SelfAttention.q`"]),
        on("a rank for no target", "rank_pattern", r#"{"k":2}"#, "tensors-unmatched-pattern", &["rank_pattern has `k`", "no target", "correct the name, or remove it"]),
        on("an alpha for no target", "alpha_pattern", r#"{"^q":4}"#, "tensors-unmatched-pattern", &["alpha_pattern has `^q`", "PEFT passes over it"]),
        on("a flag of scaling in quotes", "use_rslora", r#""true""#, "config-value", &["`use_rslora`", "true or false"]),
        on("an alpha beyond f32", "lora_alpha", "1e300", "tensors-scaling", &["rank 2", "alpha 1000", "f32 can hold"]),
        on("an alpha that vanishes in f32", "alpha_pattern", r#"{"v":1e-60}"#, "tensors-scaling", &["rank 2", "no usable scaling", "correct"]),
    ]
}

/// Tensors that contradict the configuration, themselves or the base.
#[rustfmt::skip] // one case a line
fn bad_tensors() -> Vec<BadAdapter> {
    let valid = Adapter::valid;
    let add = |what, key: &str, code, says| case(what, valid().with_tensor(key, Tensor::f32(&[2, 2])), code, says);
    let file = |what, safetensors: Vec<u8>, code, says| BadAdapter { what, config_json: valid().config_json(), safetensors, code, says };
    let enc = "base_model.model.encoder.block.0.layer.0.SelfAttention";
    let halves = valid().tensors.len() / 2;
    let mut half = valid();
    half.tensors = half.tensors.into_iter().take(halves / 2 * 2).collect();
    let mut nan = valid().tensors[ENC_Q_B].clone();
    nan.data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut infinite = valid().tensors[ENC_Q_A].clone();
    infinite.data[8..12].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    let head = valid()
        .with("target_modules", r#"["q","v","lm_head"]"#)
        .with_tensor(&key("lm_head", "lora_A"), Tensor::f32(&[RANK, D_MODEL]))
        .with_tensor(&key("lm_head", "lora_B"), Tensor::f32(&[30, RANK]));
    let mut wide = valid();
    wide.add_pair("encoder.block.0.layer.0.SelfAttention.k", RANK);
    let mut empty = valid();
    empty.tensors.clear();
    vec![
        file("a torch.save archive for tensors", b"PK\x03\x04\x00\x00\x08\x08\x00\x00".to_vec(), "torch-end", &["PyTorch archive", "download it again"]),
        file("a legacy torch.save pickle for tensors", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20".to_vec(), "weights-foreign", &["Python pickle", "run code"]),
        file("tensors cut short", { let mut bytes = valid().safetensors(); bytes.pop(); bytes }, "weights-data-cut", &["download it again"]),
        case("a value that is not a number", valid().with_tensor(ENC_Q_B, nan), "weights-non-finite", &["SelfAttention.q.lora_B.weight`", "NaN", "index 1", "another checkpoint"]),
        case("an infinite value", valid().with_tensor(ENC_Q_A, infinite), "weights-non-finite", &["SelfAttention.q.lora_A.weight`", "inf", "index 2"]),
        case("no tensors", empty, "tensors-no-tensors", &["0 tensors", "lora_A and lora_B", "save_pretrained"]),
        add("a trained embedding", "base_model.model.shared.lora_embedding_A", "tensors-embedding", &["`base_model.model.shared.lora_embedding_A`", "embedding", "linears only"]),
        add("DoRA's magnitudes", &format!("{enc}.q.lora_magnitude_vector"), "tensors-magnitude", &["q.lora_magnitude_vector`", "DoRA"]),
        add("a bias on B", &format!("{enc}.q.lora_B.bias"), "tensors-lora-bias", &["q.lora_B.bias`", "without lora_bias"]),
        add("a trained bias", &format!("{enc}.q.bias"), "tensors-bias", &["q.bias`", "bias=\"none\""]),
        add("a weight of the base", &format!("{enc}.q.base_layer.weight"), "tensors-base-layer", &["q.base_layer.weight`", "whole weight"]),
        add("a saved layer", "base_model.model.lm_head.modules_to_save.default.weight", "tensors-saved-module", &["lm_head", "without modules_to_save"]),
        add("a saved layer, as PEFT stores it", "base_model.model.encoder.final_layer_norm.weight", "tensors-saved-module", &["`base_model.model.encoder.final_layer_norm.weight`", "whole trained layer"]),
        add("a saved head", "base_model.model.lm_head.weight", "tensors-saved-embedding", &["`base_model.model.lm_head.weight`", "embedding or head"]),
        add("the head's weight beside its LoRA", "base_model.model.lm_head.base_layer.weight", "tensors-head", &["`lm_head` has a LoRA", "without lm_head"]),
        add("a saved embedding", "base_model.model.shared.weight", "tensors-saved-embedding", &["`base_model.model.shared.weight`", "whole embedding", "save_embedding_layers=False"]),
        add("a stack's saved embedding", "base_model.model.encoder.embed_tokens.weight", "tensors-saved-embedding", &["embed_tokens.weight`", "whole embedding"]),
        case("a LoRA on the head", head, "tensors-head", &["`lm_head` has a LoRA", "blocks", "without lm_head"]),
        add("an unknown tensor", "optimizer_state", "tensors-unknown-key", &["`optimizer_state`", "lora_A.weight"]),
        add("an unknown matrix", &format!("{enc}.q.lora_A.default.weight.scale"), "tensors-unknown-key", &["weight.scale`"]),
        add("KaSA's matrix", &format!("{enc}.q.lora_diag"), "tensors-unknown-key", &["lora_diag`"]),
        case("an adapter of another name", valid().renamed(|key| key.replace(".weight", ".mine.weight")), "tensors-adapter-name", &["`mine`", "expected none or `default`", "alone"]),
        case("keys with and without prefix", valid().without_tensor(ENC_Q_A).with_tensor(&ENC_Q_A["base_model.model.".len()..], Tensor::f32(&[RANK, D_MODEL])), "tensors-mixed-prefix", &["base_model.model.", "expected all or none"]),
        case("a matrix under two names", valid().with_tensor(&ENC_Q_A.replace(".weight", ".default.weight"), Tensor::f32(&[RANK, D_MODEL])), "tensors-duplicate-matrix", &["lora_A", "second time", "remove one"]),
        case("no B", valid().without_tensor(ENC_Q_B), "tensors-partner", &[ENC_Q, "has lora_A but no lora_B"]),
        case("no A", valid().without_tensor(ENC_Q_A), "tensors-partner", &[ENC_Q, "has lora_B but no lora_A"]),
        case("a vector for a matrix", valid().with_tensor(ENC_Q_A, Tensor::f32(&[D_MODEL])), "tensors-not-matrix", &["q.lora_A.weight`", "[6]", "expected a matrix"]),
        case("an empty matrix", valid().with_tensor(ENC_Q_A, Tensor::f32(&[0, D_MODEL])), "tensors-not-matrix", &["[0, 6]"]),
        case("another rank in the configuration", valid().with("r", "4"), "tensors-rank", &["lora_A", "[2, 6]", "r is 4 for it", "expected [4, 6]"]),
        case("another rank in one B", valid().with_tensor(ENC_Q_B, Tensor::f32(&[INNER, 3])), "tensors-rank", &["lora_B", ENC_Q, "[4, 3]", "expected [4, 2]"]),
        case("a wider base", valid().with_tensor(ENC_Q_A, Tensor::f32(&[RANK, 8])), "tensors-base-shape", &["lora_A", ENC_Q, "[2, 8]", "needs [2, 6]", "`tiny/t5`"]),
        case("a base with more heads", valid().with_tensor(ENC_Q_B, Tensor::f32(&[8, RANK])), "tensors-base-shape", &["lora_B", "[8, 2]", "needs [4, 2]"]),
        case("a deeper base", valid().renamed(|key| key.replace("encoder.block.0", "encoder.block.7")), "tensors-not-in-base", &["encoder.block.7", "which has 18", "`tiny/t5`"]),
        case("another architecture", valid().renamed(|key| key.replace("encoder.block.0.layer.0.SelfAttention.q", "model.layers.0.self_attn.q_proj")), "tensors-not-t5", &["model.layers.0.self_attn.q_proj", "not a linear of T5", "Flan-T5"]),
        case("half of the tensors", half, "tensors-missing-targets", &["selects 6 linears", "3 of them have no tensors", "incomplete"]),
        case("more targets than tensors", valid().with("target_modules", r#"["q","k","v"]"#), "tensors-missing-targets", &["selects 9 linears", "3 of them", ".k`"]),
        case("all linears without their tensors", valid().with("target_modules", r#""all-linear""#), "tensors-missing-targets", &["selects 18 linears", "12 of them", ", ..."]),
        case("fewer targets than tensors", valid().with("target_modules", r#"["q"]"#), "tensors-extra-targets", &["does not select 3 of the linears", ".v`", "configuration"]),
        case("tensors beyond the targets", wide, "tensors-extra-targets", &["does not select 1 of the linears", "SelfAttention.k`"]),
        case("tensors of excluded linears", valid().with("exclude_modules", r#"["EncDecAttention.q"]"#), "tensors-extra-targets", &["EncDecAttention.q`"]),
        case("tensors of layers not to be transformed", valid().with("layers_to_transform", "1"), "tensors-extra-targets", &["does not select 6 of the linears"]),
        case("another base by name", valid().with("base_model_name_or_path", r#""google/flan-t5-large""#), "tensors-base-id", &["`google/flan-t5-large`", "`tiny/t5`", "override"]),
        case("another revision of the base", valid().with("revision", r#""0123abc""#), "tensors-base-revision", &["`0123abc`", "`main`", "override"]),
    ]
}
