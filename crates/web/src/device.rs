//! [`Device`]: what computes, open before there is a model for it.

use std::rc::Rc;

use lorahub_devices::{DeviceChoice, Opened, Request, open};
use lorahub_t5::{Config, ModelFiles, T5Error};
use lorahub_tensor::Products;
use lorahub_weights::{Limits, SafeTensors, sha256_hex};
use wasm_bindgen::prelude::*;

use crate::blobs::BaseBlobs;
use crate::composer::Composer;
use crate::error::Failure;
use crate::hub::Hub;
use crate::turns::{Turns, seconds};
use crate::types::{Instructions, LoadOptions, optional_from_js};

/// A CPU or a GPU, tested, measured and with its kernels compiled or compiling. Composers on one device take turns.
#[wasm_bindgen]
pub struct Device {
    opened: Opened,
    turns: Rc<Turns>,
}

#[wasm_bindgen]
impl Device {
    /// Opens the device that the options ask for, for a model with the bytes of this `config.json`. It needs nothing
    /// else of the model, so that the rest can be fetched meanwhile.
    ///
    /// A device that fails later is not replaced here: calls fail with its code, and a composer on the CPU can go on,
    /// from the last checkpoint where it was a search.
    ///
    /// # Errors
    /// `base_config`; with `webgpu` also `no_adapter`, `adapter_too_small`, `self_test`, `device_memory`, `device_lost`
    /// or `device`.
    pub async fn open(
        config: Vec<u8>,
        #[wasm_bindgen(unchecked_optional_param_type = "LoadOptions")] options: JsValue,
    ) -> Result<Device, JsValue> {
        Ok(Self::open_for(&config, &optional_from_js::<LoadOptions>(options)?).await?)
    }

    /// Loads a base model from the bytes of `config.json`, `tokenizer.json` and `model.safetensors`; `id` is what run
    /// records call it.
    ///
    /// # Errors
    /// `base_config`, `base_tokenizer` or `base_weights` for a file that is not what it should be; on a GPU
    /// `device_memory`, `device_lost` or `device`.
    pub async fn load(
        &self,
        id: String,
        config: Vec<u8>,
        tokenizer: Vec<u8>,
        weights: Vec<u8>,
    ) -> Result<Composer, JsValue> {
        Ok(self.load_bytes(id, &config, &tokenizer, &weights).await?)
    }

    /// Loads a base model from files that are picked, dropped or kept, by their names: `config.json`, `tokenizer.json`,
    /// and `model.safetensors`, `model.safetensors.index.json` with the files that it names, a `.gguf` file, or
    /// `pytorch_model.bin`. One tensor at a time is in the WebAssembly heap, but for the last, which is read whole and
    /// may have 1.5 GiB. `sha256`, where it is known, names the weights in run records; else they are hashed.
    ///
    /// # Errors
    /// `base_files` for a file that is missing, and as [`load`](Self::load).
    #[wasm_bindgen(js_name = loadFiles)]
    pub async fn load_files(
        &self,
        id: String,
        #[wasm_bindgen(unchecked_param_type = "Record<string, Blob>")] files: js_sys::Object,
        sha256: Option<String>,
    ) -> Result<Composer, JsValue> {
        let files = BaseBlobs::new(&files)?;
        let weights = files.weights()?;
        let tensors = weights.tensors().map_err(T5Error::from).map_err(Failure::from)?;
        let sha256 = match sha256 {
            Some(sha256) => sha256,
            None => files.weights_sha256()?,
        };
        let (config, tokenizer) = (files.bytes("config.json")?, files.bytes("tokenizer.json")?);
        let files = ModelFiles {
            config: &config,
            tokenizer: &tokenizer,
            weights: &*tensors,
            sha256: &sha256,
        };
        Ok(Composer::on_device(id, files, self.opened.clone(), self.turns.clone()).await?)
    }

    /// Loads a base that a hub has downloaded. Where its matrices are to be held in another form than its files', the
    /// converted ones are kept, and the next load reads them without converting; `conversion` of the composer says so.
    ///
    /// # Errors
    /// As [`Hub::files`] and [`loadFiles`](Self::load_files).
    #[wasm_bindgen(js_name = loadKept)]
    pub async fn load_kept(&self, hub: &Hub, name: String) -> Result<Composer, JsValue> {
        Ok(hub.load(&name, &self.opened, &self.turns).await?)
    }
}

impl Device {
    async fn load_bytes(
        &self,
        id: String,
        config: &[u8],
        tokenizer: &[u8],
        weights: &[u8],
    ) -> Result<Composer, Failure> {
        let file = SafeTensors::parse(weights, &Limits::BASE).map_err(T5Error::from)?;
        let files = ModelFiles {
            config,
            tokenizer,
            weights: &file,
            sha256: &sha256_hex(weights),
        };
        Composer::on_device(id, files, self.opened.clone(), self.turns.clone()).await
    }

    async fn open_for(config: &[u8], options: &LoadOptions) -> Result<Self, Failure> {
        let turns = Rc::new(Turns::default());
        let hook = turns.clone();
        let request = Request {
            choice: options.device,
            tuning: options.tuning.as_deref(),
            weights: options.dtype,
            arithmetic: options.arithmetic,
            products: products(options).await,
            seconds: Rc::new(seconds),
            hook: Some(Rc::new(move || Box::pin(hook.clone().checkpoint()))),
        };
        let opened = open(request, &Config::from_json(config)?).await?;
        Ok(Self { opened, turns })
    }
}

/// The fastest products on this page that the options allow.
async fn products(options: &LoadOptions) -> Option<Rc<dyn Products>> {
    if options.device == DeviceChoice::WebGpu {
        return None;
    }
    products_as_wished(options.instructions != Some(Instructions::Simd128), options.threads).await
}

#[cfg(target_arch = "wasm32")]
async fn products_as_wished(relaxed: bool, threads: Option<usize>) -> Option<Rc<dyn Products>> {
    lorahub_kernel_host::open(lorahub_kernel_host::Wish { relaxed, threads }).await
}

/// Natively, where only the compiler looks at these bindings, there are none.
#[cfg(not(target_arch = "wasm32"))]
async fn products_as_wished(_: bool, _: Option<usize>) -> Option<Rc<dyn Products>> {
    None
}
