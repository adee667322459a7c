//! Every way in which an adapter's tensors can contradict its configuration, themselves or the base.

/// Why an adapter's tensors cannot be used. Each message ends with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
    /// A file without tensors.
    #[error("the file has 0 tensors, expected lora_A and lora_B matrices; save the adapter again with save_pretrained")]
    NoTensors,
    /// A trained embedding.
    #[error(
        "tensor `{key}` is a LoRA on an embedding, expected linears only; use an adapter whose target_modules has no \
         embedding"
    )]
    Embedding {
        /// The tensor.
        key: String,
    },
    /// DoRA's magnitudes.
    #[error("tensor `{key}` is a DoRA magnitude, expected a plain LoRA; use an adapter trained without DoRA")]
    Magnitude {
        /// The tensor.
        key: String,
    },
    /// A bias on `B`.
    #[error("tensor `{key}` is a bias on lora_B, expected none; use an adapter trained without lora_bias")]
    LoraBias {
        /// The tensor.
        key: String,
    },
    /// A trained bias of the base.
    #[error("tensor `{key}` is a trained bias, expected none in T5; use an adapter trained with bias=\"none\"")]
    Bias {
        /// The tensor.
        key: String,
    },
    /// A full weight of the base.
    #[error(
        "tensor `{key}` is a whole weight of the base, expected only lora_A and lora_B; save the adapter again with \
         save_pretrained"
    )]
    BaseLayer {
        /// The tensor.
        key: String,
    },
    /// A whole layer trained beside the LoRA.
    #[error(
        "tensor `{key}` is a whole trained layer, expected only lora_A and lora_B; use an adapter trained without \
         modules_to_save"
    )]
    SavedModule {
        /// The tensor.
        key: String,
    },
    /// An embedding or the head saved beside the LoRA.
    #[error(
        "tensor `{key}` is a whole embedding or head, expected only lora_A and lora_B; if it was not trained, save the \
         adapter again with save_pretrained(..., save_embedding_layers=False)"
    )]
    SavedEmbedding {
        /// The tensor.
        key: String,
    },
    /// Another tensor that has no place in a LoRA.
    #[error(
        "tensor `{key}` is not known, expected names such as \
         `base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight`; save the adapter again with \
         save_pretrained"
    )]
    UnknownKey {
        /// The tensor.
        key: String,
    },
    /// An adapter name other than PEFT's default one inside the keys.
    #[error(
        "tensor `{key}` carries the adapter name `{found}`, expected none or `default`; save that adapter alone with \
         save_pretrained"
    )]
    AdapterName {
        /// The tensor.
        key: String,
        /// The adapter name.
        found: String,
    },
    /// Keys with and keys without PEFT's prefix.
    #[error(
        "tensor `{with}` starts with `base_model.model.` and tensor `{without}` does not, expected all or none; save \
         the adapter again with save_pretrained"
    )]
    MixedPrefix {
        /// A key with the prefix.
        with: String,
        /// A key without it.
        without: String,
    },
    /// One matrix under two spellings of its key.
    #[error("tensor `{key}` gives {matrix} of `{path}` a second time, expected one; remove one of the two")]
    DuplicateMatrix {
        /// The second key.
        key: String,
        /// `lora_A` or `lora_B`.
        matrix: &'static str,
        /// The target.
        path: String,
    },
    /// One of the two matrices is missing.
    #[error("`{path}` has {present} but no {missing}, expected both; save the adapter again with save_pretrained")]
    Partner {
        /// The target.
        path: String,
        /// The matrix that is there.
        present: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A tensor that is no matrix.
    #[error("tensor `{key}` has shape {found:?}, expected a matrix; save the adapter again with save_pretrained")]
    NotMatrix {
        /// The tensor.
        key: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A rank that is not the configuration's, `rank_pattern` included.
    #[error(
        "{matrix} of `{path}` has shape {found:?}, but r is {rank} for it in adapter_config.json, expected \
         {expected:?}; take the configuration that was saved with these tensors"
    )]
    Rank {
        /// `lora_A` or `lora_B`.
        matrix: &'static str,
        /// The target.
        path: String,
        /// The configuration's rank.
        rank: usize,
        /// The shape by that rank.
        expected: [usize; 2],
        /// The shape in the file.
        found: [usize; 2],
    },
    /// A matrix that does not fit the base's linear.
    #[error(
        "{matrix} of `{path}` has shape {found:?}, but the base's linear needs {expected:?}; use the base that the \
         adapter was trained on{}",
        trained_on(base)
    )]
    BaseShape {
        /// `lora_A` or `lora_B`.
        matrix: &'static str,
        /// The target.
        path: String,
        /// The shape the base needs.
        expected: [usize; 2],
        /// The shape in the file.
        found: [usize; 2],
        /// The base the adapter names, if it does.
        base: Option<String>,
    },
    /// A LoRA on the head.
    #[error(
        "`lm_head` has a LoRA, expected only linears of the encoder's and decoder's blocks; the head is not composed \
         here: use an adapter trained without lm_head among its target_modules"
    )]
    Head,
    /// A target that is no linear of any T5.
    #[error(
        "`{path}` is not a linear of T5, expected names such as `encoder.block.0.layer.0.SelfAttention.q`; use an \
         adapter trained on T5 or Flan-T5"
    )]
    NotT5 {
        /// The target.
        path: String,
    },
    /// A target that this base lacks.
    #[error(
        "`{path}` is not a linear of this base, which has {targets}; use the base that the adapter was trained \
         on{}",
        trained_on(base)
    )]
    NotInBase {
        /// The target.
        path: String,
        /// Linears of the base.
        targets: usize,
        /// The base the adapter names, if it does.
        base: Option<String>,
    },
    /// The configuration selects linears that have no tensors.
    #[error(
        "adapter_config.json selects {expected} linears, but {} of them have no tensors ({}); the file is incomplete: \
         save the adapter again with save_pretrained", missing.len(), listed(missing)
    )]
    MissingTargets {
        /// Linears that the configuration selects.
        expected: usize,
        /// Those without tensors.
        missing: Vec<String>,
    },
    /// Tensors for linears that the configuration does not select.
    #[error(
        "adapter_config.json does not select {} of the linears that have tensors ({}), expected none; take the \
         configuration that was saved with these tensors", extra.len(), listed(extra)
    )]
    ExtraTargets {
        /// The linears.
        extra: Vec<String>,
    },
    /// A name in `target_modules` that matches none of the tensors.
    #[error(
        "target_modules has `{name}`, but no tensor belongs to it, expected at least one; take the configuration that \
         was saved with these tensors"
    )]
    UnmatchedTarget {
        /// The name.
        name: String,
    },
    /// A target for which `rank_pattern` or `alpha_pattern` has two values.
    #[error(
        "{setting} has {entries}, and both mean `{path}`, expected one value; PEFT takes the first that it meets, and \
         saves them in another order: remove the one that was not meant"
    )]
    AmbiguousPattern {
        /// The setting.
        setting: &'static str,
        /// The target.
        path: String,
        /// The two keys with their values.
        entries: String,
    },
    /// A key of `rank_pattern` or `alpha_pattern` that means none of the targets.
    #[error(
        "{setting} has `{name}`, but no target is meant by it, expected at least one; PEFT passes over it: correct the \
         name, or remove it"
    )]
    UnmatchedPattern {
        /// The setting.
        setting: &'static str,
        /// The key.
        name: String,
    },
    /// Another base by name.
    #[error(
        "the adapter was trained on `{found}`, but the base is `{expected}`; use that base, or override the check if \
         the two are the same model"
    )]
    BaseId {
        /// The base in use.
        expected: String,
        /// The base the adapter names.
        found: String,
    },
    /// Another revision of the base.
    #[error(
        "the adapter was trained on revision `{found}` of the base, but revision `{expected}` is in use; use that \
         revision, or override the check if the two are the same model"
    )]
    BaseRevision {
        /// The revision in use.
        expected: String,
        /// The revision the adapter names.
        found: String,
    },
    /// A module made in code whose values do not fill a matrix.
    #[error("{matrix} of `{path}` has {found} values, expected {expected}; give as many as its shape has")]
    Length {
        /// `lora_A` or `lora_B`.
        matrix: &'static str,
        /// The target.
        path: String,
        /// Values by shape.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A module made in code with a value that is not a number.
    #[error("{matrix} of `{path}` has a value that is not finite at index {index}, expected numbers; train it again")]
    NonFinite {
        /// `lora_A` or `lora_B`.
        matrix: &'static str,
        /// The target.
        path: String,
        /// The index of the first such value.
        index: usize,
    },
    /// A rank and an alpha that give no scaling in f32.
    #[error(
        "rank {rank} and alpha {alpha} give no usable scaling, expected a rank of at least 1 and an alpha above 0 that \
         f32 can hold; correct them"
    )]
    Scaling {
        /// The rank.
        rank: usize,
        /// The alpha, as text.
        alpha: String,
    },
}

impl TensorsError {
    /// The variant's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTensors => "tensors-no-tensors",
            Self::Embedding { .. } => "tensors-embedding",
            Self::Magnitude { .. } => "tensors-magnitude",
            Self::LoraBias { .. } => "tensors-lora-bias",
            Self::Bias { .. } => "tensors-bias",
            Self::BaseLayer { .. } => "tensors-base-layer",
            Self::SavedModule { .. } => "tensors-saved-module",
            Self::SavedEmbedding { .. } => "tensors-saved-embedding",
            Self::UnknownKey { .. } => "tensors-unknown-key",
            Self::AdapterName { .. } => "tensors-adapter-name",
            Self::MixedPrefix { .. } => "tensors-mixed-prefix",
            Self::DuplicateMatrix { .. } => "tensors-duplicate-matrix",
            Self::Partner { .. } => "tensors-partner",
            Self::NotMatrix { .. } => "tensors-not-matrix",
            Self::Rank { .. } => "tensors-rank",
            Self::BaseShape { .. } => "tensors-base-shape",
            Self::Head => "tensors-head",
            Self::NotT5 { .. } => "tensors-not-t5",
            Self::NotInBase { .. } => "tensors-not-in-base",
            Self::MissingTargets { .. } => "tensors-missing-targets",
            Self::ExtraTargets { .. } => "tensors-extra-targets",
            Self::UnmatchedTarget { .. } => "tensors-unmatched-target",
            Self::AmbiguousPattern { .. } => "tensors-ambiguous-pattern",
            Self::UnmatchedPattern { .. } => "tensors-unmatched-pattern",
            Self::BaseId { .. } => "tensors-base-id",
            Self::BaseRevision { .. } => "tensors-base-revision",
            Self::Length { .. } => "tensors-length",
            Self::NonFinite { .. } => "tensors-non-finite",
            Self::Scaling { .. } => "tensors-scaling",
        }
    }
}

/// `, `name`` if the adapter names its base.
fn trained_on(base: &Option<String>) -> String {
    base.as_ref().map(|base| format!(", `{base}`")).unwrap_or_default()
}

/// The first few of a list, for a sentence.
fn listed(paths: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = paths
        .iter()
        .take(SHOWN)
        .map(|path| format!("`{path}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if paths.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}
