//! The benchmark as a worker calls it.

use std::rc::Rc;

use lorahub_kernel_host::{Wish, open};
use lorahub_tensor::Products;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{Choice, Device, Job, Machine, Report, Setup, Subject, run};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;

    /// What the worker's script gives us.
    pub type Host;

    #[wasm_bindgen(method)]
    fn say(this: &Host, line: &str);

    #[wasm_bindgen(method)]
    fn report(this: &Host, json: &str);

    /// Threads that the CPU may use.
    #[wasm_bindgen(method, getter)]
    fn threads(this: &Host) -> usize;

    /// A promise of the browser's CPU seconds.
    #[wasm_bindgen(method, js_name = cpuSeconds)]
    fn cpu_seconds(this: &Host) -> js_sys::Promise;
}

impl Machine for Host {
    fn seconds(&self) -> f64 {
        now() / 1e3
    }

    fn clock(&self) -> Rc<dyn Fn() -> f64> {
        Rc::new(|| now() / 1e3)
    }

    async fn cpu_seconds(&self) -> Option<f64> {
        JsFuture::from(Host::cpu_seconds(self)).await.ok()?.as_f64()
    }

    async fn products(&self) -> Option<Rc<dyn Products>> {
        products(true, self.threads()).await.ok()?
    }

    fn say(&self, line: &str) {
        Host::say(self, line);
    }

    fn report(&self, report: &Report) {
        Host::report(self, &report.json());
    }
}

/// Measures on `device` (a [`Device`] as JSON) what `choice` (a [`Choice`] as JSON) asks for.
///
/// # Errors
/// A string that says what failed.
#[wasm_bindgen]
pub async fn bench(device: String, choice: String, host: Host) -> Result<(), JsValue> {
    console_error_panic_hook::set_once();
    let device: Device = serde_json::from_str(&device).map_err(failed)?;
    let choice: Choice = serde_json::from_str(&choice).map_err(failed)?;
    run(device, &choice, &host).await.map_err(failed)
}

/// A [`Subject`], for a driver that asks several in turn.
#[wasm_bindgen(js_name = Subject)]
pub struct JsSubject(Subject);

#[wasm_bindgen(js_class = Subject)]
impl JsSubject {
    /// Makes the subject `setup` (a [`Setup`] as JSON) ready for `job` (a [`Job`] as JSON).
    ///
    /// # Errors
    /// A string that says what failed.
    pub async fn make(setup: String, job: String) -> Result<JsSubject, JsValue> {
        console_error_panic_hook::set_once();
        let setup: Setup = serde_json::from_str(&setup).map_err(failed)?;
        let job: Job = serde_json::from_str(&job).map_err(failed)?;
        let products = match setup {
            Setup::Ours { relaxed, threads, .. } => products(relaxed, threads).await?,
            Setup::Candle => None,
        };
        Subject::new(setup, products, &job).map(Self).map_err(failed)
    }

    /// [`Subject::run`].
    ///
    /// # Errors
    /// A string that says what failed.
    pub async fn run(&mut self, count: usize) -> Result<f64, JsValue> {
        self.0.run(count).await.map_err(failed)
    }
}

/// Products as wished. Others would be measured under a wrong name, so they are an error.
async fn products(relaxed: bool, threads: usize) -> Result<Option<Rc<dyn Products>>, JsValue> {
    let wish = Wish {
        relaxed,
        threads: Some(threads),
    };
    let products = open(wish).await;
    let found = products.as_ref().map_or(1, |products| products.threads());
    if found != threads.max(1) || relaxed != products.as_ref().is_some_and(|p| p.instructions().contains("relaxed")) {
        return Err(failed(format!("this browser or page has no such products: {wish:?}")));
    }
    Ok(products)
}

fn failed(error: impl std::fmt::Display) -> JsValue {
    JsValue::from_str(&error.to_string())
}
