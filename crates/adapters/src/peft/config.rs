//! Reading `adapter_config.json`: what the matrices mean, and what must be switched off for that to be all.

use std::collections::BTreeMap;

use lorahub_weights::json::{Pairs, shown_reason};
use lorahub_weights::shown;
use serde_json::Value;

use super::ConfigError;
use super::patterns::Patterns;
use super::select::{Exclude, Layers, Selection, Targets, pattern};

/// The largest `adapter_config.json` that is read.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// The longest list of names that is read; the largest T5 has fewer than 1000 linears.
pub(super) const MAX_NAMES: usize = 4096;

/// The parts of an adapter's configuration that say what its matrices mean.
pub(super) struct Config {
    /// The rank of every pair that `ranks` has nothing for.
    pub(super) rank: usize,
    /// The scaling's numerator for every pair that `alphas` has nothing for.
    pub(super) alpha: f64,
    /// Whether the scaling is `alpha / sqrt(r)`.
    pub(super) rslora: bool,
    /// `rank_pattern`
    pub(super) ranks: Patterns<usize>,
    /// `alpha_pattern`; a pair's alpha does not follow its rank.
    pub(super) alphas: Patterns<f64>,
    /// The base that the adapter names.
    pub(super) base_model: Option<String>,
    /// The base's revision that the adapter names.
    pub(super) base_revision: Option<String>,
    /// Which linears of the base have tensors.
    pub(super) selection: Selection,
}

/// Settings that do not change what the matrices mean, whatever their value.
const INERT: [&str; 14] = [
    "auto_mapping",
    "ensure_weight_tying", // of embeddings, which have no place here anyway
    "inference_mode",
    "lora_dropout",  // training only
    "merge_weights", // PEFT 0.2 and earlier: merge when evaluating
    "megatron_core",
    "peft_version",
    "qalora_group_size", // read only when `use_qalora`
    "runtime_config",
    "task_type", // picks PEFT's wrapper; the targets and shapes say what the base must be
    // Settings of initialisations, which `init_lora_weights` switches on.
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
];

/// Settings that [`parse`] reads, besides those of [`REFUSED`].
const READ: [&str; 14] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "use_rslora",
];

/// Makes an error from a setting's shown value.
type Refusal = fn(String) -> ConfigError;

/// Settings that must be off, with the error if they are not. In this order, so that the most telling comes first.
const REFUSED: [(&str, Refusal); 16] = [
    ("use_dora", |_| ConfigError::Dora),
    ("modules_to_save", |found| ConfigError::ModulesToSave { found }),
    ("trainable_token_indices", |found| ConfigError::TrainableTokens {
        found,
    }),
    ("fan_in_fan_out", |_| ConfigError::FanInFanOut),
    ("lora_bias", |_| ConfigError::LoraBias),
    ("use_qalora", |_| ConfigError::QaLora),
    ("layer_replication", |found| ConfigError::LayerReplication { found }),
    ("target_parameters", |found| ConfigError::TargetParameters { found }),
    ("alora_invocation_tokens", |found| ConfigError::ActivatedLora { found }),
    ("use_bdlora", |found| ConfigError::BdLora { found }),
    ("arrow_config", |found| ConfigError::Arrow { found }),
    ("kasa_config", |found| ConfigError::Kasa { found }),
    ("velora_config", |found| ConfigError::Velora { found }),
    ("monteclora_config", |found| ConfigError::Monteclora { found }),
    ("megatron_config", |found| ConfigError::Megatron { found }),
    ("enable_lora", |found| ConfigError::EnableLora { found }),
];

/// Those of [`REFUSED`] that are true or false.
const FLAGS: [&str; 4] = ["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"];

/// Initialisations that leave the base as it is, besides true and false.
const INITS: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

/// What PEFT targets in a T5 whose configuration names no targets.
const DEFAULT_TARGETS: [&str; 2] = ["q", "v"];

/// Reads a configuration.
pub(super) fn parse(json: &[u8]) -> Result<Config, ConfigError> {
    let fields = Fields::parse(json)?;
    match fields.text("peft_type")? {
        Some(kind) if kind == "LORA" => {}
        Some(found) => {
            return Err(ConfigError::PeftType { found: shown(&found) });
        }
        None => {
            return Err(ConfigError::MissingKey {
                key: "peft_type",
                expected: "`LORA`",
            });
        }
    }
    for (key, refusal) in REFUSED {
        let on = if FLAGS.contains(&key) {
            fields.flag(key)?
        } else {
            fields.is_on(key)
        };
        if on {
            return Err(refusal(fields.shown(key)));
        }
    }
    fields.check_init()?;
    // PEFT would save trained biases as tensors; without those, "all" and "lora_only" say nothing about T5.
    if let Some(bias) = fields.text("bias")?
        && !["none", "all", "lora_only"].contains(&bias.as_str())
    {
        let expected = "`none`, `all` or `lora_only`";
        return Err(ConfigError::Value {
            key: "bias",
            expected,
            found: fields.shown("bias"),
        });
    }
    fields.check_unknown()?;
    let nested = fields.nested(json)?;
    Ok(Config {
        rank: fields.rank()?,
        alpha: fields.alpha()?,
        rslora: fields.flag("use_rslora")?,
        ranks: Patterns::new("rank_pattern", nested.rank_pattern, RANKS, whole)?,
        alphas: Patterns::new("alpha_pattern", nested.alpha_pattern, ALPHAS, positive)?,
        base_model: fields.text("base_model_name_or_path")?.filter(|base| !base.is_empty()),
        base_revision: fields.text("revision")?.filter(|revision| !revision.is_empty()),
        selection: fields.selection()?,
    })
}

/// What `rank_pattern` and `alpha_pattern` may be.
const RANKS: &str = "an object of whole numbers of at least 1";
const ALPHAS: &str = "an object of positive numbers";

/// The settings whose own keys may repeat too, which a JSON value would not show.
#[derive(serde::Deserialize)]
struct Nested {
    rank_pattern: Option<Pairs<Value>>,
    alpha_pattern: Option<Pairs<Value>>,
}

/// The configuration's keys and values, each key once.
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong {
                found: json.len(),
                limit: MAX_CONFIG_BYTES,
            });
        }
        let Pairs(pairs) = serde_json::from_slice(json).map_err(|e| ConfigError::Json {
            reason: shown_reason(&e),
        })?;
        let mut fields = BTreeMap::new();
        for (key, value) in pairs {
            if fields.contains_key(&key) {
                return Err(ConfigError::DuplicateKey { key: shown(&key) });
            }
            fields.insert(key, value);
        }
        Ok(Self(fields))
    }

    /// A value that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether a setting is there and not null, false or empty: whether PEFT would act on it.
    fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_on)
    }

    fn shown(&self, key: &str) -> String {
        self.0
            .get(key)
            .map_or_else(String::new, |value| shown(&value.to_string()))
    }

    fn wrong(&self, key: &'static str, expected: &'static str) -> ConfigError {
        ConfigError::Value {
            key,
            expected,
            found: self.shown(key),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(key, "text")),
        }
    }

    /// A list of names, or one text.
    fn names(&self, key: &'static str, expected: &'static str) -> Result<Option<Names>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Names::Text(text.clone()))),
            Some(Value::Array(values)) if values.len() > MAX_NAMES => Err(ConfigError::TooManyNames {
                key,
                found: values.len(),
                limit: MAX_NAMES,
            }),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(|names| Some(Names::List(names)))
                .ok_or_else(|| self.wrong(key, expected)),
            Some(_) => Err(self.wrong(key, expected)),
        }
    }

    fn rank(&self) -> Result<usize, ConfigError> {
        const EXPECTED: &str = "a whole number of at least 1";
        let value = self.get("r").ok_or(ConfigError::MissingKey {
            key: "r",
            expected: EXPECTED,
        })?;
        whole(value).ok_or_else(|| self.wrong("r", EXPECTED))
    }

    fn alpha(&self) -> Result<f64, ConfigError> {
        const EXPECTED: &str = "a positive number";
        let value = self.get("lora_alpha").ok_or(ConfigError::MissingKey {
            key: "lora_alpha",
            expected: EXPECTED,
        })?;
        positive(value).ok_or_else(|| self.wrong("lora_alpha", EXPECTED))
    }

    /// Reads the objects among the settings again, with their keys as they stand in the file.
    fn nested(&self, json: &[u8]) -> Result<Nested, ConfigError> {
        for (key, expected) in [("rank_pattern", RANKS), ("alpha_pattern", ALPHAS)] {
            if self.get(key).is_some_and(|value| !value.is_object()) {
                return Err(self.wrong(key, expected));
            }
        }
        serde_json::from_slice(json).map_err(|e| ConfigError::Json {
            reason: shown_reason(&e),
        })
    }

    fn check_init(&self) -> Result<(), ConfigError> {
        match self.get("init_lora_weights") {
            None | Some(Value::Bool(_)) => Ok(()),
            // PEFT compares some of these names without case.
            Some(Value::String(init)) if INITS.contains(&init.to_ascii_lowercase().as_str()) => Ok(()),
            Some(Value::String(init)) if init.eq_ignore_ascii_case("loftq") => Err(ConfigError::LoftQ),
            Some(Value::String(init)) => Err(ConfigError::Init { found: shown(init) }),
            Some(_) => Err(self.wrong("init_lora_weights", "true, false or a name")),
        }
    }

    /// PEFT drops keys it does not know; one that is on may well change what the matrices mean.
    fn check_unknown(&self) -> Result<(), ConfigError> {
        let known = |key: &str| {
            INERT.contains(&key) || READ.contains(&key) || REFUSED.iter().any(|(refused, _)| *refused == key)
        };
        match self.0.iter().find(|(key, value)| !known(key) && is_on(value)) {
            None => Ok(()),
            Some((key, _)) => Err(ConfigError::UnknownKey {
                key: shown(key),
                found: self.shown(key),
            }),
        }
    }

    fn selection(&self) -> Result<Selection, ConfigError> {
        let expected = "a list of names, or one regular expression";
        let targets = match self.names("target_modules", expected)? {
            None => Targets::Names(DEFAULT_TARGETS.map(str::to_owned).to_vec()),
            Some(Names::Text(text)) if text.eq_ignore_ascii_case("all-linear") => Targets::AllLinear,
            Some(Names::Text(text)) => Targets::Pattern(pattern("target_modules", &text, &format!(r"\A(?:{text})\z"))?),
            Some(Names::List(names)) if names.iter().any(|name| !name.is_empty()) => Targets::Names(names),
            Some(Names::List(_)) => return Err(ConfigError::NoTargets),
        };
        let exclude = match self.names("exclude_modules", expected)? {
            None => Exclude::Nothing,
            // PEFT takes an empty text for none.
            Some(Names::Text(text)) if text.is_empty() => Exclude::Nothing,
            Some(Names::Text(text)) => {
                Exclude::Pattern(pattern("exclude_modules", &text, &format!(r"\A(?:{text})\z"))?)
            }
            Some(Names::List(names)) => Exclude::Names(names),
        };
        let layers = self.layers()?;
        if layers.is_some() && matches!(targets, Targets::Pattern(_)) {
            let missing = "target_modules is a regular expression, which must select the layers itself";
            return Err(ConfigError::Layers {
                given: "layers_to_transform",
                missing,
            });
        }
        Ok(Selection {
            targets,
            exclude,
            layers,
        })
    }

    fn layers(&self) -> Result<Option<Layers>, ConfigError> {
        const EXPECTED: &str = "a layer number, or a list of them";
        let indexes = match self.get("layers_to_transform") {
            None => Vec::new(),
            Some(Value::Array(values)) => values
                .iter()
                .map(Value::as_u64)
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| self.wrong("layers_to_transform", EXPECTED))?,
            Some(value) => vec![
                value
                    .as_u64()
                    .ok_or_else(|| self.wrong("layers_to_transform", EXPECTED))?,
            ],
        };
        let names = match self.names("layers_pattern", "a name, or a list of them")? {
            None => Vec::new(),
            Some(Names::Text(text)) if text.is_empty() => Vec::new(),
            Some(Names::Text(text)) => vec![text],
            Some(Names::List(names)) => names,
        };
        if indexes.is_empty() {
            if names.is_empty() {
                return Ok(None);
            }
            let missing = "layers_to_transform is not";
            return Err(ConfigError::Layers {
                given: "layers_pattern",
                missing,
            });
        }
        // PEFT's own expressions: the first number behind any name, or behind one of the given names.
        let patterns = if names.is_empty() {
            vec![pattern("layers_pattern", "", r"\A.*?\.[^.]*\.(?P<index>\d+)\.")?]
        } else {
            names
                .iter()
                .map(|name| {
                    pattern(
                        "layers_pattern",
                        name,
                        &format!(r"\A(?:^|.*?\.){name}\.(?P<index>\d+)\."),
                    )
                })
                .collect::<Result<_, _>>()?
        };
        Ok(Some(Layers { indexes, patterns }))
    }
}

/// A whole number of at least 1.
fn whole(value: &Value) -> Option<usize> {
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .filter(|&number| number > 0)
}

/// A finite number above 0.
fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
}

/// A list, or the text that stands in place of one.
enum Names {
    List(Vec<String>),
    Text(String),
}

/// Whether a value is neither null, nor false, nor empty.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
