//! The crate's tests, natively. `examples/checks.rs` runs the same ones in wasm.

mod cases;
