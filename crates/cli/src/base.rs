//! The base model.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use lorahub_adapters::Bank;
use lorahub_composer::Shot;
use lorahub_t5::{Engine, Model, ModelFiles};
use lorahub_tensor::Cpu;

use crate::args::{BackendName, BaseArgs};
use crate::error::CliError;
use crate::files::{FolderKind, JSON_BYTES, WEIGHTS_BYTES, name_of, read_part};
use crate::output::warn;

/// The layout of a base.
pub(crate) const BASE: FolderKind = FolderKind {
    name: "base",
    expected: "config.json, tokenizer.json and model.safetensors",
    instead: &[
        (
            "model.safetensors.index.json",
            "weights in several files are not supported; save the model in one, with a larger max_shard_size",
        ),
        (
            "pytorch_model.bin",
            "pickled weights are not supported; save the model again with save_pretrained, which writes safetensors",
        ),
        (
            "adapter_config.json",
            "this is a LoRA module; give it to --module, and its base model to --base",
        ),
        ("family.json", "this is a family; its base is a folder inside"),
        (
            "spiece.model",
            "save the tokenizer again with transformers' fast T5 tokenizer, which writes tokenizer.json",
        ),
    ],
};

/// A base model on its device.
pub(crate) struct Base {
    /// The model.
    pub(crate) model: Rc<Model<Cpu>>,
    /// What records call it.
    pub(crate) id: String,
    /// Where it came from.
    pub(crate) folder: PathBuf,
}

impl Base {
    /// Loads a base on the backend asked for.
    ///
    /// # Errors
    /// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Base`].
    pub(crate) fn load(arguments: &BaseArgs) -> Result<Self, CliError> {
        match arguments.backend {
            BackendName::Cpu => Self::load_on(Cpu::new(), &arguments.base),
        }
    }

    /// Loads a base on this device.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_on(device: Cpu, folder: &Path) -> Result<Self, CliError> {
        let config = read_part(BASE, folder, "config.json", JSON_BYTES)?;
        let tokenizer = read_part(BASE, folder, "tokenizer.json", JSON_BYTES)?;
        let weights = read_part(BASE, folder, "model.safetensors", WEIGHTS_BYTES)?;
        let files = ModelFiles {
            config: &config,
            tokenizer: &tokenizer,
            weights: &weights,
        };
        let model = pollster::block_on(Model::load(Rc::new(device), files)).map_err(|source| CliError::Base {
            folder: folder.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self {
            model: Rc::new(model),
            id: name_of(folder),
            folder: folder.to_owned(),
        })
    }

    /// The base with a bank and shots. Warns of rows that were cut; `rows` is the file the shots came from.
    ///
    /// # Errors
    /// [`CliError::Model`].
    pub(crate) fn engine(&self, bank: Option<&Bank>, shots: &[Shot], rows: &Path) -> Result<Engine<Cpu>, CliError> {
        let engine = self.model.engine(bank, shots)?;
        for row in engine.truncated() {
            warn(&format!(
                "{}: row {} has more than {} tokens and was cut there, as the reference does; shorten it to use all of it",
                rows.display(),
                row + 1,
                lorahub_t5::MAX_TOKENS
            ));
        }
        Ok(engine)
    }
}
