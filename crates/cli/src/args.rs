//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lorahub_adapters::Rule;
use lorahub_composer::{ComposerError, ObjectiveName};
use lorahub_devices::{DeviceChoice, WeightStorage};
use lorahub_hub::{HubError, Kind, public_manifest};

use crate::error::CliError;
use crate::hub::args::{DownloadArgs, KeptArgs, ManifestArgs};
use crate::hub::{Place, StoreArgs, catalogue, download_command};

/// Adapts Flan-T5 to a new task from a few examples, by composing LoRA modules.
#[derive(Debug, Parser)]
#[command(name = "lorahub", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Searches for the weights that compose the modules for the shots.
    Adapt(AdaptArgs),
    /// Prints the losses of a composition on the shots.
    Score(ScoreArgs),
    /// Answers inputs greedily with the base or a composition.
    Generate(GenerateArgs),
    /// Counts exact matches on test rows.
    Eval(EvalArgs),
    /// Writes the composed module for PEFT, or merged into the base.
    Export(ExportArgs),
    /// Says what a folder or file is, and whether it fits a base.
    Inspect(InspectArgs),
    /// Downloads bases and modules from a hub, verified; goes on where it was stopped.
    Download(DownloadArgs),
    /// Prints the manifest: what can be downloaded, and what is known of it.
    Manifest(ManifestArgs),
    /// Lists, verifies or deletes what was downloaded.
    Store(KeptArgs),
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// The CPU, with as many threads as it has cores (RAYON_NUM_THREADS changes that).
    Cpu,
    /// The GPU, through Vulkan, Metal or DX12.
    Webgpu,
    /// Whichever is faster at one block of the model, measured at the start.
    Auto,
}

impl From<BackendName> for DeviceChoice {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Cpu => Self::Cpu,
            BackendName::Webgpu => Self::WebGpu,
            BackendName::Auto => Self::Auto,
        }
    }
}

/// The base model and the device.
#[derive(Debug, Args)]
pub(crate) struct BaseArgs {
    /// Folder of the base model, as Hugging Face has it: config.json, tokenizer.json and the weights (model.safetensors,
    /// in one file or several, pytorch_model.bin, or a .gguf file); or the name of a downloaded one.
    #[arg(long, value_name = "DIR-or-NAME")]
    pub(crate) base: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// What computes. The default gives the same losses on every machine of a kind; the others depend on the GPU.
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) backend: BackendName,
    /// How the base's matrices are held: f32, lossless (f16 where that loses nothing), f16, q8_0 or q4_0; arithmetic is
    /// f32 in every case [default: f32 on the CPU, lossless on a GPU].
    #[arg(long, value_name = "DTYPE")]
    pub(crate) dtype: Option<WeightStorage>,
}

/// Modules and the rule that composes them.
#[derive(Debug, Args)]
pub(crate) struct ModuleArgs {
    /// Folders of LoRA modules in PEFT's layout, or names of downloaded ones, in the weights' order.
    #[arg(long = "module", value_name = "DIR-or-NAME", num_args = 1..)]
    pub(crate) modules: Vec<PathBuf>,
    /// The modules of a set of the manifest, such as seed-42, in its order, after those of --module.
    #[arg(long, value_name = "SET")]
    pub(crate) set: Option<String>,
    /// How modules are composed: `reference` is the paper's, `exact` adds up their updates. The default is that of the
    /// family.json beside the modules, and `reference` without one.
    #[arg(long, value_name = "reference|exact")]
    pub(crate) rule: Option<Rule>,
}

/// Weights of a composition.
#[derive(Debug, Args)]
pub(crate) struct WeightArgs {
    /// One weight per module: --weights=0.5,-1,0.
    #[arg(
        long,
        value_name = "A,B,...",
        value_delimiter = ',',
        allow_hyphen_values = true,
        num_args = 1,
        value_parser = parse_weight
    )]
    pub(crate) weights: Option<Vec<f64>>,
}

/// `lorahub adapt`
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) modules: ModuleArgs,
    /// JSON Lines with `input` and `output`, or `context` and `completion`.
    #[arg(long, value_name = "FILE")]
    pub(crate) shots: PathBuf,
    /// What is minimised: `normalised` is cross-entropy + penalty, `reference` divides it by the number of shots first
    /// [default: normalised].
    #[arg(long, value_name = "reference|normalised", value_parser = parse_objective)]
    pub(crate) objective: Option<ObjectiveName>,
    /// Factor of the penalty on the weights [default: 0.05].
    #[arg(long, value_name = "X", value_parser = parse_l1, allow_hyphen_values = true)]
    pub(crate) l1: Option<f64>,
    /// Evaluations in all; the base, each module alone and the pass are counted [default: 200].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) budget: Option<usize>,
    /// Seed of the search [default: 0].
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Goes on with a checkpoint that --out wrote, with the settings saved in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    /// Folder for the composed module (adapter/), the record (run.json) and, after every generation, checkpoint.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub score`
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) modules: ModuleArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
    /// JSON Lines with `input` and `output`, or `context` and `completion`.
    #[arg(long, value_name = "FILE")]
    pub(crate) shots: PathBuf,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub generate`
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) modules: ModuleArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
    /// The input.
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "file",
        allow_hyphen_values = true
    )]
    pub(crate) input: Option<String>,
    /// Inputs: JSON Lines with `input` or `context` if the first line begins with `{`, else one a line.
    #[arg(long, value_name = "F", conflicts_with = "input")]
    pub(crate) file: Option<PathBuf>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value = "256", value_parser = parse_count)]
    pub(crate) max_new_tokens: usize,
    /// Prints one JSON object (with --file, one a line) instead of the text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub eval`
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) modules: ModuleArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
    /// JSON Lines with `input` and `output`, or `context` and `completion`.
    #[arg(long, value_name = "FILE")]
    pub(crate) test: PathBuf,
    /// The shots, which no test row may overlap; --baselines picks the best single module on them.
    #[arg(long, value_name = "FILE")]
    pub(crate) shots: Option<PathBuf>,
    /// Evaluates the base, the best single module (with --shots) and the uniform composition too.
    #[arg(long)]
    pub(crate) baselines: bool,
    /// Writes every row with every answer, as JSON Lines.
    #[arg(long, value_name = "FILE")]
    pub(crate) predictions: Option<PathBuf>,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) base: BaseArgs,
    #[command(flatten)]
    pub(crate) modules: ModuleArgs,
    #[command(flatten)]
    pub(crate) weights: WeightArgs,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Writes the whole base with the module added to it, instead of the module.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `lorahub inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A base, an adapter, a family, or a JSON Lines file; or the name of a downloaded base or module.
    #[arg(value_name = "PATH-or-NAME")]
    pub(crate) path: PathBuf,
    /// The base that it should fit.
    #[arg(long, value_name = "DIR-or-NAME")]
    pub(crate) base: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Prints one JSON object instead of a summary.
    #[arg(long)]
    pub(crate) json: bool,
}

impl BaseArgs {
    /// Where the base is.
    ///
    /// # Errors
    /// Those of [`Place::find`].
    pub(crate) fn place(&self) -> Result<Place, CliError> {
        Place::find(Kind::Base, &self.base, &self.store)
    }
}

/// The modules of the command line, found.
#[derive(Debug)]
pub(crate) struct Modules {
    /// Where they are, in the weights' order.
    pub(crate) places: Vec<Place>,
    /// The rule that was asked for.
    pub(crate) rule: Option<Rule>,
}

impl ModuleArgs {
    /// Finds the modules.
    ///
    /// # Errors
    /// Those of [`Place::find`], and [`CliError::NotListed`] for a set that nobody knows.
    pub(crate) fn find(&self, store: &StoreArgs) -> Result<Modules, CliError> {
        let place = |given: &PathBuf| Place::find(Kind::Module, given, store);
        let mut places = self.modules.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        if let Some(set) = &self.set {
            places.extend(find_set(set, store)?);
        }
        let rule = self.rule;
        Ok(Modules { places, rule })
    }
}

/// The modules of a set, as it was when it was downloaded. Where some are not here, one command downloads all.
fn find_set(name: &str, store: &StoreArgs) -> Result<Vec<Place>, CliError> {
    let mut sets = public_manifest().map_err(HubError::from)?.sets;
    let listed = sets.iter().any(|set| set.name == name);
    if let Some(opened) = store.find()?
        && let Some(kept) = catalogue(&opened)?.set(name)
    {
        sets.insert(0, kept.clone());
    }
    let Some(set) = sets.iter().find(|set| set.name == name) else {
        let similar: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        return Err(CliError::NotListed {
            what: "set",
            name: name.to_owned(),
            similar: similar.join("`, `"),
        });
    };
    let find = |module: &String| match Place::named(Kind::Module, module, store) {
        Ok(Some(place)) => Ok(place),
        Ok(None) | Err(CliError::NotDownloaded { .. }) => Err(CliError::NotDownloaded {
            kind: Kind::Module,
            name: module.clone(),
            command: download_command(&["--set", name], listed, store),
        }),
        Err(error) => Err(error),
    };
    set.modules.iter().map(find).collect()
}

impl Modules {
    /// Fails unless there is at least one module.
    ///
    /// # Errors
    /// [`CliError::Usage`] if there is none.
    pub(crate) fn required(&self) -> Result<(), CliError> {
        if self.places.is_empty() {
            return Err(CliError::Usage(
                "no modules given; name at least one with --module DIR".to_owned(),
            ));
        }
        Ok(())
    }

    /// The weights of these modules; none without modules.
    ///
    /// # Errors
    /// [`CliError::Usage`] unless there is one weight per module.
    pub(crate) fn weights(&self, weights: &WeightArgs) -> Result<Vec<f64>, CliError> {
        let modules = self.places.len();
        match &weights.weights {
            Some(weights) if weights.len() == modules => Ok(weights.clone()),
            Some(weights) => Err(CliError::Usage(format!(
                "--weights has {} numbers and there are {modules} modules; give one weight per --module, in their order",
                weights.len()
            ))),
            None if modules == 0 => Ok(Vec::new()),
            None => Err(CliError::Usage(format!(
                "there are {modules} modules and no --weights; give one weight per --module, in their order"
            ))),
        }
    }
}

fn parse_objective(text: &str) -> Result<ObjectiveName, String> {
    text.parse().map_err(|error: ComposerError| error.to_string())
}

fn parse_weight(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(weight) if weight.is_finite() => Ok(weight),
        _ => Err("expected finite numbers with commas between them, such as --weights=0.5,-1,0".to_owned()),
    }
}

fn parse_l1(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(l1) if l1.is_finite() && l1 >= 0.0 => Ok(l1),
        _ => Err("expected a number from 0 up, such as 0.05".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if count >= 1 => Ok(count),
        _ => Err("expected a whole number from 1 up".to_owned()),
    }
}
