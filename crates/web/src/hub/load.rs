//! A base from the store onto a device: its own files the first time, and what was converted from them after that.

use std::rc::Rc;

use futures_util::future::{try_join, try_join_all};
use lorahub_devices::Opened;
use lorahub_hub::{Conversion, Converted, HubError, Kept, Store as _, Stored, delete_kept};
use lorahub_t5::{ModelFiles, T5Error};
use lorahub_weights::quant::WeightStorage;
use lorahub_weights::{BaseForm, ConvertedTensors, Converting, Tensors};

use super::Hub;
use super::fetch::BrowserClock;
use crate::blobs::{BaseBlobs, BlobFile};
use crate::composer::Composer;
use crate::error::Failure;
use crate::turns::Turns;
use crate::types::Conversion as Told;

/// The failures of a base's weights, after which converted ones are made again.
const OF_WEIGHTS: &str = "base_weights";

impl Hub {
    /// Loads a kept base. Where the device's form is not the files', what it is given is kept, and read the next time;
    /// failing to keep it does not fail the load, and some stores cannot.
    pub(crate) async fn load(&self, name: &str, opened: &Opened, turns: &Rc<Turns>) -> Result<Composer, Failure> {
        let kept = self.find(name).await?;
        let mut files = BaseBlobs::default();
        // All at once, here and below: finding one file is several waits for the browser, in which it reads nothing.
        let blobs = try_join_all(kept.files.iter().map(|file| self.store.blob(file.stored.sha256))).await?;
        for (file, blob) in kept.files.iter().zip(blobs) {
            files.add(&file.path, blob);
        }
        let form = files.form()?;
        let weight_files: Vec<String> = form.files().iter().map(ToString::to_string).collect();
        let others = kept.files.iter().filter(|file| !weight_files.contains(&file.path));
        try_join_all(others.map(|file| self.sample(&kept, &file.path, file.stored))).await?;
        let (config, tokenizer) = (files.bytes("config.json")?, files.bytes("tokenizer.json")?);
        let hashes = weight_files.iter().filter_map(|path| kept.file(path));
        let hashes: Vec<String> = hashes.map(|stored| stored.sha256.to_string()).collect();
        let source = BaseForm::sha256(&hashes);
        let load = async |weights: &dyn Tensors| {
            let files = ModelFiles {
                config: &config,
                tokenizer: &tokenizer,
                weights,
                sha256: &source,
            };
            Composer::on_device(name.to_owned(), files, opened.clone(), turns.clone()).await
        };

        let storage = opened.device.storage();
        let converted = kept.converted(&source, storage);
        if let Some(stored) = converted
            && let Some(tensors) = self.open_converted(&kept, stored, &source, storage).await?
        {
            let loaded = load(&tensors).await;
            // A file that is open cannot be deleted.
            drop(tensors);
            match loaded {
                Ok(composer) => return Ok(composer.loaded(Told::Read)),
                Err(failure) if failure.code() == OF_WEIGHTS => delete_kept(&self.store, stored.sha256).await?,
                Err(failure) => return Err(failure),
            }
        }
        for file in kept.files.iter().filter(|file| weight_files.contains(&file.path)) {
            self.sample(&kept, &file.path, file.stored).await?;
            if let Some(direct) = self.store.direct(file.stored.sha256).await? {
                files.read_direct(&file.path, direct);
            }
        }
        let weights = files.weights()?;
        let tensors = weights.tensors().map_err(T5Error::from)?;
        if !Converted::is_kept_for(storage) || tensors.is_in(storage) {
            return load(&*tensors).await;
        }
        if !self.store.has_writer() {
            return Ok(load(&*tensors).await?.loaded(Told::Unkept));
        }
        let (conversion, out) = match Conversion::begin(&self.store, name, &source, storage).await {
            Ok(begun) => begun,
            Err(problem) => return Ok(load(&*tensors).await?.loaded(not_kept(&problem))),
        };
        let converting = Converting::new(&*tensors, &source, storage, out);
        let loaded = load(&converting).await;
        let written = converting.finish();
        let problem: HubError = match (loaded.is_ok(), written) {
            (true, Ok(written)) => match conversion.keep(&BrowserClock, written).await {
                Ok(()) => return Ok(loaded?.loaded(Told::Kept)),
                Err(problem) => problem,
            },
            (_, written) => {
                let problem = written.as_ref().err().cloned();
                conversion.give_up(written.ok()).await?;
                match problem {
                    Some(problem) => problem.into(),
                    None => return loaded,
                }
            }
        };
        Ok(loaded?.loaded(not_kept(&problem)))
    }

    /// Opens converted weights; `None` if they are not as they were made, and then they are deleted.
    async fn open_converted(
        &self,
        kept: &Kept,
        stored: Stored,
        source: &str,
        storage: WeightStorage,
    ) -> Result<Option<ConvertedTensors<BlobFile>>, Failure> {
        match self.sample(kept, storage.name(), stored).await {
            Ok(()) => {}
            Err(failure) if ["hub_damaged", "hub_not_kept"].contains(&failure.code()) => return Ok(None),
            Err(failure) => return Err(failure),
        }
        let (blob, direct) = try_join(self.store.blob(stored.sha256), self.store.direct(stored.sha256)).await?;
        let file = BlobFile::new(blob, direct.map(Rc::new)).map_err(T5Error::from)?;
        match ConvertedTensors::open(file, source, storage) {
            Ok(tensors) => Ok(Some(tensors)),
            Err(_) => {
                delete_kept(&self.store, stored.sha256).await?;
                Ok(None)
            }
        }
    }
}

fn not_kept(problem: &HubError) -> Told {
    Told::Failed {
        problem: problem.to_string(),
    }
}
