//! The benchmark as a worker calls it.

use std::rc::Rc;

use lorahub_tensor::Products;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{Choice, Device, Machine, Report, run};

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
        let wish = lorahub_kernel_host::Wish {
            relaxed: true,
            threads: Some(self.threads()),
        };
        lorahub_kernel_host::open(wish).await
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
    let failed = |error: &dyn std::fmt::Display| JsValue::from_str(&error.to_string());
    let device: Device = serde_json::from_str(&device).map_err(|error| failed(&error))?;
    let choice: Choice = serde_json::from_str(&choice).map_err(|error| failed(&error))?;
    run(device, &choice, &host).await.map_err(|error| failed(&error))
}
