//! The modules, and one instance of one.

use js_sys::{Object, Reflect, Uint8Array, WebAssembly};
use wasm_bindgen::prelude::*;

use crate::HostError;

/// What a module is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// What the program itself is compiled for.
    Simd128,
    /// Fused multiply-add besides.
    Relaxed,
}

/// For the program's own memory.
pub(crate) const RELAXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/relaxed.wasm"));
const RELAXED_SHARED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/relaxed_shared.wasm"));
const SIMD128_SHARED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/simd128_shared.wasm"));

/// Bytes that an instance needs for itself: its data, which are a panic's words that nobody reads, and above them its
/// stack, whose functions hold little else than a few slices.
pub(crate) const PLACE: usize = 1 << 17;

/// What a place starts on, and each of its parts.
pub(crate) const ALIGN: usize = 64;

/// Bytes of a place for data. A module's data cannot be more than its file, since it has none that are zeros.
const DATA: usize = PLACE / 2;
const _: () = assert!(RELAXED.len() < DATA && RELAXED_SHARED.len() < DATA && SIMD128_SHARED.len() < DATA);

impl Build {
    /// As the backend's name says it.
    pub(crate) fn instructions(self) -> &'static str {
        match self {
            Self::Simd128 => "wasm simd128",
            Self::Relaxed => "wasm relaxed-simd",
        }
    }

    /// The module for a memory that threads share.
    pub(crate) fn shared(self) -> &'static [u8] {
        match self {
            Self::Simd128 => SIMD128_SHARED,
            Self::Relaxed => RELAXED_SHARED,
        }
    }
}

/// Whether this browser has relaxed-simd.
pub(crate) fn relaxed_is_known() -> bool {
    WebAssembly::validate(&Uint8Array::from(RELAXED)).unwrap_or(false)
}

#[wasm_bindgen]
extern "C" {
    /// The functions of an instance; addresses are in its memory.
    #[derive(Debug)]
    pub(crate) type Exports;

    /// Does the job at this address.
    #[wasm_bindgen(method)]
    pub(crate) fn run(this: &Exports, job: u32);

    /// Does parts of the shared jobs at this address until all are taken.
    #[wasm_bindgen(method)]
    pub(crate) fn share(this: &Exports, jobs: u32);

    /// Writes the weights of one output of the job's matrix.
    #[wasm_bindgen(method)]
    pub(crate) fn output_row(this: &Exports, job: u32, output: u32);

    /// Packs the transpose of the job's outputs.
    #[wasm_bindgen(method)]
    pub(crate) fn transpose(this: &Exports, job: u32);

    /// Looks at a word until it is another than `seen`, at most so many times; what it is then.
    #[wasm_bindgen(method)]
    pub(crate) fn look(this: &Exports, word: u32, seen: u32, looks: u32) -> u32;

    #[wasm_bindgen(method, js_name = __wasm_apply_data_relocs)]
    fn apply_data_relocs(this: &Exports);
}

/// Compiles a module.
pub(crate) fn compile(bytes: &[u8]) -> Result<WebAssembly::Module, HostError> {
    Ok(WebAssembly::Module::new(&Uint8Array::from(bytes))?)
}

/// Where the data and the stack of an instance go whose [`PLACE`] starts at this address: the stack grows down from its
/// end.
pub(crate) fn data_and_stack(place: u32) -> (u32, u32) {
    (place, place + PLACE as u32)
}

/// An instance over this memory, with [`PLACE`] bytes at `place` for itself alone.
pub(crate) fn instantiate(module: &WebAssembly::Module, memory: &JsValue, place: u32) -> Result<Exports, HostError> {
    let global = |value: u32, mutable: bool| -> Result<JsValue, HostError> {
        let kind = Object::new();
        Reflect::set(&kind, &"value".into(), &"i32".into())?;
        Reflect::set(&kind, &"mutable".into(), &mutable.into())?;
        Ok(WebAssembly::Global::new(&kind, &value.into())?.into())
    };
    let (data, stack) = data_and_stack(place);
    let env = Object::new();
    Reflect::set(&env, &"memory".into(), memory)?;
    Reflect::set(&env, &"__memory_base".into(), &global(data, false)?)?;
    Reflect::set(&env, &"__table_base".into(), &global(0, false)?)?;
    Reflect::set(&env, &"__stack_pointer".into(), &global(stack, true)?)?;
    let imports = Object::new();
    Reflect::set(&imports, &"env".into(), &env)?;
    let exports = WebAssembly::Instance::new(module, &imports)?.exports();
    let relocates = Reflect::has(&exports, &"__wasm_apply_data_relocs".into())?;
    let exports: Exports = exports.unchecked_into();
    if relocates {
        exports.apply_data_relocs();
    }
    Ok(exports)
}
