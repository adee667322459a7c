//! The benchmark as a worker calls it.

use wasm_bindgen::prelude::*;

use crate::{Shape, run};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Measures the shape called `name` and gives the report as JSON; `say` takes progress lines.
///
/// # Errors
/// A string that says what failed.
#[wasm_bindgen]
pub async fn bench(name: String, repetitions: usize, say: js_sys::Function) -> Result<String, JsValue> {
    console_error_panic_hook::set_once();
    let shape = Shape::from_name(&name).ok_or_else(|| JsValue::from_str("there is no such shape"))?;
    let say = |line: &str| {
        // A listener that throws must not stop the measurement.
        let _ = say.call1(&JsValue::NULL, &JsValue::from_str(line));
    };
    let report = run(shape, repetitions, || now() / 1e3, say)
        .await
        .map_err(|error| JsValue::from_str(&error.to_string()))?;
    serde_json::to_string(&report).map_err(|error| JsValue::from_str(&error.to_string()))
}
