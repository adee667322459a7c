//! The crate's tests, natively. `examples/checks.rs` runs the same ones in wasm.

#![cfg(not(target_arch = "wasm32"))]

mod cases;
