//! The optimiser alone, for the proof that it computes the same bits here as natively.

use lorahub_optim::Recording;
use wasm_bindgen::prelude::*;

use crate::error::Failure;
use crate::types::to_js;

#[derive(serde::Serialize)]
struct Difference {
    generation: usize,
    index: usize,
    recorded: Option<f64>,
    replayed: Option<f64>,
}

/// Replays a recording (the JSON that `lorahub-optim` writes) and returns where the first bit differs, else `null`.
///
/// # Errors
/// `argument` if the text is no recording, `optimiser` if it cannot be replayed.
#[wasm_bindgen(js_name = cmaReplay, unchecked_return_type = "Difference | null")]
pub fn cma_replay(recording: &str) -> Result<JsValue, JsValue> {
    let replayed = || -> Result<JsValue, Failure> {
        let recording: Recording = serde_json::from_str(recording)?;
        let difference = recording.first_difference()?.map(|found| Difference {
            generation: found.generation,
            index: found.index,
            recorded: found.recorded,
            replayed: found.replayed,
        });
        to_js(&difference)
    };
    Ok(replayed()?)
}
