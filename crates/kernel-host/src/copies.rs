//! Copies between the program's memory and the one that threads share.
//!
//! A JavaScript array over shared memory is copied word by word; WebAssembly's own instruction is not, where the browser
//! knows modules of two memories.

use js_sys::{Object, Reflect, WebAssembly};
use wasm_bindgen::prelude::*;

use crate::HostError;
use crate::module::compile;

/// ```wat
/// (module
///   (import "m" "own" (memory $own 0))
///   (import "m" "shared" (memory $shared 0 65536 shared))
///   (func (export "give") (param $to i32) (param $from i32) (param $bytes i32)
///     (memory.copy $shared $own (local.get $to) (local.get $from) (local.get $bytes)))
///   (func (export "take") (param $to i32) (param $from i32) (param $bytes i32)
///     (memory.copy $own $shared (local.get $to) (local.get $from) (local.get $bytes))))
/// ```
#[rustfmt::skip]
const MODULE: &[u8] = &[
    0x00, b'a', b's', b'm', 1, 0, 0, 0,
    // One type, of three i32 and no result.
    1, 7, 1, 0x60, 3, 0x7f, 0x7f, 0x7f, 0,
    // Two imported memories.
    2, 25, 2,
    1, b'm', 3, b'o', b'w', b'n', 2, 0, 0,
    1, b'm', 6, b's', b'h', b'a', b'r', b'e', b'd', 2, 3, 0, 0x80, 0x80, 4,
    // Two functions of that type, and their names.
    3, 3, 2, 0, 0,
    7, 15, 2,
    4, b'g', b'i', b'v', b'e', 0, 0,
    4, b't', b'a', b'k', b'e', 0, 1,
    // The three arguments and `memory.copy`, to one memory from the other.
    10, 27, 2,
    12, 0, 0x20, 0, 0x20, 1, 0x20, 2, 0xfc, 10, 1, 0, 0x0b,
    12, 0, 0x20, 0, 0x20, 1, 0x20, 2, 0xfc, 10, 0, 1, 0x0b,
];

#[wasm_bindgen]
extern "C" {
    /// The module's functions. Addresses are in bytes.
    pub(crate) type Copies;

    /// Copies from the program's memory to the shared one.
    #[wasm_bindgen(method)]
    pub(crate) fn give(this: &Copies, to: u32, from: u32, bytes: u32);

    /// Copies from the shared memory to the program's.
    #[wasm_bindgen(method)]
    pub(crate) fn take(this: &Copies, to: u32, from: u32, bytes: u32);
}

/// The functions for this shared memory.
///
/// # Errors
/// [`HostError::Start`] where the browser does not know modules of two memories.
pub(crate) fn open(shared: &WebAssembly::Memory) -> Result<Copies, HostError> {
    let memories = Object::new();
    Reflect::set(&memories, &"own".into(), &wasm_bindgen::memory())?;
    Reflect::set(&memories, &"shared".into(), shared)?;
    let imports = Object::new();
    Reflect::set(&imports, &"m".into(), &memories)?;
    let exports = WebAssembly::Instance::new(&compile(MODULE)?, &imports)?.exports();
    Ok(exports.unchecked_into())
}
