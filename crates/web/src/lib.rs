//! The JavaScript bindings: the one crate that knows JavaScript.
//!
//! [`Device`] is what computes. A [`Composer`] on it is a base model with its modules: it scores, adapts, evaluates,
//! generates and exports. A [`Hub`] downloads bases and modules and keeps them. Long calls are asynchronous, read the worker's messages every few milliseconds and stop by an `AbortSignal`.
//! Every failure reaches JavaScript as an `Error` with a stable `code`, a message that ends in what to do, and a `cause`
//! where there is one. The TypeScript types are in `types`.
//!
//! Only conversion happens here: what a call means is in `composer`, `t5` and `adapters`.

mod adapt;
mod blobs;
mod composer;
mod device;
mod error;
mod hub;
mod replay;
mod turns;
mod types;
mod words;

use wasm_bindgen::prelude::*;

pub use composer::Composer;
pub use device::Device;
pub use hub::Hub;
pub use replay::cma_replay;

/// Makes a panic name itself on the console; runs once, when the module is loaded.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// SHA-256 of some bytes, in hexadecimal.
#[wasm_bindgen(js_name = sha256)]
pub fn sha256(bytes: &[u8]) -> String {
    lorahub_weights::sha256_hex(bytes)
}
