//! Every way in which an `adapter_config.json` can be unusable.

/// Why an adapter's configuration cannot be used. Each message ends with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More bytes than any real configuration has.
    #[error("adapter_config.json has {found} bytes, the limit is {limit}; check that it is PEFT's configuration")]
    TooLong {
        /// Bytes in the file.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a JSON object.
    #[error("adapter_config.json is not a JSON object ({reason}); save the adapter again with save_pretrained")]
    Json {
        /// What the JSON reader says.
        reason: String,
    },
    /// A key given twice.
    #[error("adapter_config.json has the key `{key}` twice, expected once; remove one of them")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key without which the matrices mean nothing.
    #[error("adapter_config.json has no `{key}`, expected {expected}; save the adapter again with save_pretrained")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// What its value would be.
        expected: &'static str,
    },
    /// A value of the wrong type.
    #[error("`{key}` in adapter_config.json is {found}, expected {expected}; correct it")]
    Value {
        /// The key.
        key: &'static str,
        /// What its value may be.
        expected: &'static str,
        /// The value, cut.
        found: String,
    },
    /// A setting that this version of the reader does not know, and that is not switched off.
    #[error(
        "adapter_config.json sets `{key}` to {found}, which is not known here, expected only PEFT's LoRA settings; \
         remove the key if it does not change what the matrices mean"
    )]
    UnknownKey {
        /// The key, escaped and cut.
        key: String,
        /// Its value, escaped and cut.
        found: String,
    },
    /// Another kind of adapter.
    #[error("peft_type is `{found}`, expected `LORA`; use an adapter trained with LoraConfig")]
    PeftType {
        /// The kind.
        found: String,
    },
    /// Weight-decomposed LoRA.
    #[error(
        "use_dora is true, expected false; DoRA also rescales the base's weights, which a LoRA cannot do: use an \
         adapter trained without DoRA"
    )]
    Dora,
    /// Whole modules saved beside the LoRA.
    #[error(
        "modules_to_save is {found}, expected none; whole layers trained beside the LoRA cannot be composed: use an \
         adapter trained without modules_to_save"
    )]
    ModulesToSave {
        /// The modules, cut.
        found: String,
    },
    /// Token embeddings trained beside the LoRA.
    #[error(
        "trainable_token_indices is {found}, expected none; trained token embeddings cannot be composed: use an \
         adapter trained without them"
    )]
    TrainableTokens {
        /// The tokens, cut.
        found: String,
    },
    /// A bias on `B`.
    #[error(
        "lora_bias is true, expected false; T5's linears have no bias that it could be added to: use an adapter \
         trained without lora_bias"
    )]
    LoraBias,
    /// Quantisation-aware LoRA.
    #[error("use_qalora is true, expected false; QALoRA pools its inputs, which a LoRA does not: use a plain LoRA")]
    QaLora,
    /// A base with repeated layers.
    #[error(
        "layer_replication is {found}, expected none; it changes the base's layers: use an adapter trained on the \
         base as published"
    )]
    LayerReplication {
        /// The layers, cut.
        found: String,
    },
    /// LoRA on bare parameters.
    #[error("target_parameters is {found}, expected none; only T5's linears can be targets: use target_modules")]
    TargetParameters {
        /// The parameters, cut.
        found: String,
    },
    /// LoRA that is switched on by tokens.
    #[error(
        "alora_invocation_tokens is {found}, expected none; an Activated LoRA is off for part of the input and cannot \
         be composed: use a plain LoRA"
    )]
    ActivatedLora {
        /// The tokens, cut.
        found: String,
    },
    /// Block-diagonal LoRA.
    #[error("use_bdlora is {found}, expected none; block-diagonal matrices are stored otherwise: use a plain LoRA")]
    BdLora {
        /// Its settings, cut.
        found: String,
    },
    /// A router over several LoRAs.
    #[error("arrow_config is {found}, expected none; Arrow picks LoRAs token by token: use the LoRAs themselves")]
    Arrow {
        /// Its settings, cut.
        found: String,
    },
    /// LoRA with singular values between its matrices.
    #[error(
        "kasa_config is {found}, expected none; KaSA has a third matrix and truncates the base's weights: use a plain \
         LoRA"
    )]
    Kasa {
        /// Its settings, cut.
        found: String,
    },
    /// LoRA with compressed activations.
    #[error("velora_config is {found}, expected none; VeLoRA is not known to be a plain LoRA: use one without it")]
    Velora {
        /// Its settings, cut.
        found: String,
    },
    /// LoRA with sampling.
    #[error("monteclora_config is {found}, expected none; MonteCLoRA samples its matrices: use a plain LoRA")]
    Monteclora {
        /// Its settings, cut.
        found: String,
    },
    /// Megatron's parallel linears.
    #[error("megatron_config is {found}, expected none; the base must be T5 from transformers: use such an adapter")]
    Megatron {
        /// Its settings, cut.
        found: String,
    },
    /// Merged projections of PEFT 0.2 and earlier.
    #[error(
        "enable_lora is {found}, expected none; it belongs to projections merged into one linear: use T5's q, k, v"
    )]
    EnableLora {
        /// Its settings, cut.
        found: String,
    },
    /// An initialisation that changes the base.
    #[error(
        "init_lora_weights is `{found}`, expected true, false, gaussian, orthogonal, eva or mica; the adapter may be \
         relative to a base that the initialisation changed: convert it in PEFT with save_pretrained(..., \
         path_initial_model_for_weight_conversion=...)"
    )]
    Init {
        /// The initialisation.
        found: String,
    },
    /// An initialisation for a quantised base.
    #[error(
        "init_lora_weights is `loftq`, expected true; LoftQ's matrices belong to a base quantised with them: use an \
         adapter trained on the base as published"
    )]
    LoftQ,
    /// Transposed base weights.
    #[error("fan_in_fan_out is true, expected false; T5's weights are [out, in]: set it to false")]
    FanInFanOut,
    /// A list of targets with nothing in it.
    #[error("target_modules is empty, expected names such as `q` and `v`; save the adapter again with save_pretrained")]
    NoTargets,
    /// More names than any T5 has linears.
    #[error("`{key}` in adapter_config.json has {found} names, the limit is {limit}; name the targets by their leaves")]
    TooManyNames {
        /// The key.
        key: &'static str,
        /// Names in the list.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More expressions than can be matched in reasonable time.
    #[error(
        "`{key}` in adapter_config.json has {found} regular expressions, the limit is {limit}; name the linears by \
         their leaves or whole paths"
    )]
    TooManyExpressions {
        /// The key.
        key: &'static str,
        /// Expressions among its names.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A regular expression that cannot be read.
    #[error(
        "`{key}` in adapter_config.json is the regular expression `{found}`, which cannot be read ({reason}); list the \
         names instead"
    )]
    Pattern {
        /// The key.
        key: &'static str,
        /// The expression, escaped and cut.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Layer settings that PEFT refuses too.
    #[error("{given} is set, but {missing}; correct adapter_config.json")]
    Layers {
        /// The key that is set.
        given: &'static str,
        /// What it would need.
        missing: &'static str,
    },
}

impl ConfigError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "config-too-long",
            Self::Json { .. } => "config-json",
            Self::DuplicateKey { .. } => "config-duplicate-key",
            Self::MissingKey { .. } => "config-missing-key",
            Self::Value { .. } => "config-value",
            Self::UnknownKey { .. } => "config-unknown-key",
            Self::PeftType { .. } => "config-peft-type",
            Self::Dora => "config-dora",
            Self::ModulesToSave { .. } => "config-modules-to-save",
            Self::TrainableTokens { .. } => "config-trainable-tokens",
            Self::LoraBias => "config-lora-bias",
            Self::QaLora => "config-qa-lora",
            Self::LayerReplication { .. } => "config-layer-replication",
            Self::TargetParameters { .. } => "config-target-parameters",
            Self::ActivatedLora { .. } => "config-activated-lora",
            Self::BdLora { .. } => "config-bd-lora",
            Self::Arrow { .. } => "config-arrow",
            Self::Kasa { .. } => "config-kasa",
            Self::Velora { .. } => "config-velora",
            Self::Monteclora { .. } => "config-monteclora",
            Self::Megatron { .. } => "config-megatron",
            Self::EnableLora { .. } => "config-enable-lora",
            Self::Init { .. } => "config-init",
            Self::LoftQ => "config-loft-q",
            Self::FanInFanOut => "config-fan-in-fan-out",
            Self::NoTargets => "config-no-targets",
            Self::TooManyNames { .. } => "config-too-many-names",
            Self::TooManyExpressions { .. } => "config-too-many-expressions",
            Self::Pattern { .. } => "config-pattern",
            Self::Layers { .. } => "config-layers",
        }
    }
}
