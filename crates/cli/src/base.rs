//! The base model.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lorahub_adapters::Bank;
use lorahub_composer::{Clock as _, Shot};
use lorahub_devices::{Arithmetic, DeviceChoice, Hook, Request, WeightStorage, open};
use lorahub_t5::{AnyEngine, AnyModel, Config, ModelFiles, T5Error};
use lorahub_weights::Tensors;

use crate::args::BaseArgs;
use crate::error::CliError;
use crate::files::{FolderKind, JSON_BYTES};
use crate::hub::Place;
use crate::output::{Watch, say, warn};
use crate::weights::with_weights;

/// The layout of a base.
pub(crate) const BASE: FolderKind = FolderKind {
    name: "base",
    expected: "config.json, tokenizer.json and model.safetensors (or model.safetensors.index.json with its files, \
               pytorch_model.bin, or a .gguf file)",
    instead: &[
        (
            "pytorch_model.bin.index.json",
            "pickled weights in several files are not supported; save the model again with save_pretrained, which writes \
             safetensors",
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
    pub(crate) model: Rc<dyn AnyModel>,
    /// What records call it.
    pub(crate) id: String,
    /// Where it came from.
    pub(crate) place: Place,
}

impl Base {
    /// Loads a base on the backend asked for.
    ///
    /// # Errors
    /// [`CliError::NotAFolder`], [`CliError::Missing`], [`CliError::Base`], [`CliError::Model`] where the device asked
    /// for cannot be used.
    pub(crate) fn load(arguments: &BaseArgs) -> Result<Self, CliError> {
        Self::load_on(&arguments.place()?, arguments.backend.into(), arguments.dtype, None)
    }

    /// Loads a base on the CPU.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_on_cpu(place: &Place) -> Result<Self, CliError> {
        Self::load_on(place, DeviceChoice::Cpu, None, None)
    }

    /// Loads a base; with `stop` the device ends in the middle of a generation when the flag is raised. Says which
    /// device it is unless it is the plain choice.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_on(
        place: &Place,
        choice: DeviceChoice,
        dtype: Option<WeightStorage>,
        stop: Option<&Arc<AtomicBool>>,
    ) -> Result<Self, CliError> {
        let config = place.read(BASE, "config.json", JSON_BYTES)?;
        let tokenizer = place.read(BASE, "tokenizer.json", JSON_BYTES)?;
        let of_base = |source: T5Error| CliError::Base {
            folder: place.to_string(),
            source: Box::new(source),
        };
        let hook = stop.map(|stop| -> Hook {
            let stop = stop.clone();
            Rc::new(move || {
                let go_on = !stop.load(Ordering::Relaxed);
                Box::pin(std::future::ready(go_on))
            })
        });
        let clock = Watch::start();
        let request = Request {
            choice,
            tuning: None,
            weights: dtype,
            arithmetic: Arithmetic::F32,
            products: None,
            seconds: Rc::new(move || clock.seconds()),
            hook,
        };
        let parsed = Config::from_json(&config).map_err(of_base)?;
        let opened = pollster::block_on(open(request, &parsed))?;
        if choice != DeviceChoice::Cpu {
            say(&format!("{}: {}", opened.report.name, opened.report.detail));
        }
        let load = |weights: &dyn Tensors, sha256: &str| {
            let files = ModelFiles {
                config: &config,
                tokenizer: &tokenizer,
                weights,
                sha256,
            };
            pollster::block_on(opened.device.load(files)).map_err(of_base)
        };
        Ok(Self {
            model: with_weights(place, Some(opened.device.storage()), load)?,
            id: place.name(),
            place: place.clone(),
        })
    }

    /// The base with a bank and shots. Warns of rows that were cut; `rows` is the file the shots came from.
    ///
    /// # Errors
    /// [`CliError::Model`].
    pub(crate) fn engine(
        &self,
        bank: Option<&Bank>,
        shots: &[Shot],
        rows: &Path,
    ) -> Result<Box<dyn AnyEngine>, CliError> {
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
