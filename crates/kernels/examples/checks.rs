//! The crate's tests as a wasm module, which `tests/wasm.mjs` loads: the tests' own list, one call for each.

#[cfg(target_arch = "wasm32")]
#[path = "../tests/cases/mod.rs"]
mod cases;

#[cfg(target_arch = "wasm32")]
mod exports {
    use super::cases::CASES;

    #[link(wasm_import_module = "checks")]
    unsafe extern "C" {
        /// Takes a text of `length` bytes: a case's name, or why it failed.
        fn say(text: *const u8, length: usize);
    }

    fn tell(text: &str) {
        // SAFETY: the host reads `length` bytes from `text` during the call and keeps nothing.
        unsafe { say(text.as_ptr(), text.len()) }
    }

    /// Number of cases.
    #[unsafe(no_mangle)]
    extern "C" fn count() -> usize {
        std::panic::set_hook(Box::new(|info| tell(&info.to_string())));
        CASES.len()
    }

    /// Says the name of a case.
    #[unsafe(no_mangle)]
    extern "C" fn name(index: usize) {
        tell(CASES[index].0);
    }

    /// Runs a case; a failure says why and traps.
    #[unsafe(no_mangle)]
    extern "C" fn run(index: usize) {
        CASES[index].1();
    }
}
