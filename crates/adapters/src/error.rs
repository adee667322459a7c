//! Every way in which an adapter, or a set of them, can be unusable.

use lorahub_weights::WeightsError;

use crate::peft::{ConfigError, TensorsError};

/// Why an adapter cannot be imported, banked, composed, exported or merged.
///
/// A fault of one module is wrapped with that module's name. Names are outside text: show messages as text only.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A module's `adapter_config.json` is unusable.
    #[error("adapter `{module}`: {problem}")]
    Config {
        /// The module's name.
        module: String,
        /// What is wrong.
        problem: ConfigError,
    },
    /// A module's weight file cannot be read, or holds values that are not numbers.
    #[error("adapter `{module}`: adapter_model: {problem}")]
    Weights {
        /// The module's name.
        module: String,
        /// What is wrong.
        problem: WeightsError,
    },
    /// A module's tensors contradict its configuration, themselves or the base.
    #[error("adapter `{module}`: {problem}")]
    Tensors {
        /// The module's name.
        module: String,
        /// What is wrong.
        problem: TensorsError,
    },
    /// A rule's name that is neither of the two.
    #[error("unknown rule `{found}`, expected `reference` or `exact`; give one of the two")]
    UnknownRule {
        /// The name given.
        found: String,
    },
    /// A bank of nothing.
    #[error("the bank has 0 modules, expected at least one; pick a module")]
    NoModules,
    /// Modules for different target linears.
    #[error(
        "adapter `{module}` has {found} targets, but `{first}` has {expected}, and `{path}` is in only one of them; \
         pick adapters trained on the same target modules"
    )]
    TargetsDiffer {
        /// The module that differs.
        module: String,
        /// The first module.
        first: String,
        /// A target that only one of the two has.
        path: String,
        /// Targets of the first module.
        expected: usize,
        /// Targets of the differing module.
        found: usize,
    },
    /// Modules for bases of different size.
    #[error(
        "adapter `{module}` fits a [{}, {}] weight at `{path}`, but `{first}` fits [{}, {}] there; pick adapters \
         trained on one base model", found.0, found.1, expected.0, expected.1
    )]
    SizesDiffer {
        /// The module that differs.
        module: String,
        /// The first module.
        first: String,
        /// The target.
        path: String,
        /// `(d_out, d_in)` of the first module.
        expected: (usize, usize),
        /// `(d_out, d_in)` of the differing module.
        found: (usize, usize),
    },
    /// Modules of different rank at one target, under the rule that needs one rank.
    #[error(
        "adapter `{module}` has rank {found}, but `{first}` has rank {expected} at `{path}`, and the rule `reference` \
         needs one rank; pick adapters of one rank, or use the rule `exact`"
    )]
    RanksDiffer {
        /// The module that differs.
        module: String,
        /// The first module.
        first: String,
        /// The target.
        path: String,
        /// The first module's rank there.
        expected: usize,
        /// The differing module's rank there.
        found: usize,
    },
    /// Not one weight per module.
    #[error("{found} weights for {expected} modules; give one weight per module, in the modules' order")]
    WeightCount {
        /// Modules in the bank.
        expected: usize,
        /// Weights given.
        found: usize,
    },
    /// A weight that is not a number.
    #[error("the weight of adapter `{module}` is {found}, expected a finite number; give a number such as 0.5")]
    WeightNotFinite {
        /// The module.
        module: String,
        /// The weight.
        found: f64,
    },
    /// A sum or product beyond the range of f32.
    #[error(
        "{what} of `{path}` leaves the range of f32, expected finite values; use smaller weights, or leave out the \
         adapter with the largest values"
    )]
    Overflow {
        /// What was computed.
        what: &'static str,
        /// The target.
        path: String,
    },
    /// Merging: a target that the base lacks.
    #[error("the base has no tensor `{name}`, which adapter `{module}` updates; merge into the base it was trained on")]
    MergeMissing {
        /// The module.
        module: String,
        /// The tensor's name.
        name: String,
    },
    /// Merging: a target of another size in the base.
    #[error(
        "the base's `{name}` has shape {found:?}, but adapter `{module}` updates {expected:?}; merge into the base it \
         was trained on"
    )]
    MergeShape {
        /// The module.
        module: String,
        /// The tensor's name.
        name: String,
        /// The update's shape.
        expected: [usize; 2],
        /// The base's shape.
        found: Vec<usize>,
    },
    /// Merging: the base's weight file is unusable.
    #[error("the base's weights: {problem}")]
    MergeBase {
        /// What is wrong.
        problem: WeightsError,
    },
    /// Exporting: the weight file cannot be written.
    #[error("adapter `{module}` cannot be exported: {problem}")]
    ExportWeights {
        /// The module.
        module: String,
        /// What is wrong.
        problem: WeightsError,
    },
    /// Exporting: the archive cannot be written.
    #[error("the archive of adapter `{module}` cannot be written ({reason}); export the folder instead")]
    Archive {
        /// The module.
        module: String,
        /// What the zip library says.
        reason: String,
    },
}

impl AdapterError {
    /// The fault's own short name, which does not change between versions: for programs to compare.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { problem, .. } => problem.code(),
            Self::Weights { problem, .. } | Self::MergeBase { problem } | Self::ExportWeights { problem, .. } => {
                problem.code()
            }
            Self::Tensors { problem, .. } => problem.code(),
            Self::UnknownRule { .. } => "rule-unknown",
            Self::NoModules => "bank-no-modules",
            Self::TargetsDiffer { .. } => "bank-targets-differ",
            Self::SizesDiffer { .. } => "bank-sizes-differ",
            Self::RanksDiffer { .. } => "bank-ranks-differ",
            Self::WeightCount { .. } => "compose-weight-count",
            Self::WeightNotFinite { .. } => "compose-weight-not-finite",
            Self::Overflow { .. } => "compose-overflow",
            Self::MergeMissing { .. } => "merge-missing",
            Self::MergeShape { .. } => "merge-shape",
            Self::Archive { .. } => "export-archive",
        }
    }
}
