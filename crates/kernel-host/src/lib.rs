//! Runs builds of `lorahub_kernels` that not every browser can, beside a program that every browser can run.
//!
//! The program itself is built for simd128 and one thread. Its products and its norms and GELUs, where nearly all of a
//! pass's time goes, can also run in a module of their own (`lorahub_kernel_module`, some kilobytes):
//! - with fused multiply-add, where the browser has relaxed-simd; the module then works in the program's own memory;
//! - on several threads, where the page is cross-origin isolated; the matrices then lie in a memory that the threads
//!   share, and what goes into a layer and comes out is copied, which is a few hundredths of its time.
//!
//! `open` takes the best that there is. What runs is in the backend's name, and so in every run's record.
#![cfg(target_arch = "wasm32")]

mod copies;
mod module;
mod own;
mod shared;
mod space;
mod team;

use std::rc::Rc;

use lorahub_tensor::Products;
use wasm_bindgen::JsCast;

use self::module::Build;
use self::own::Own;
use self::shared::Shared;

/// What may be used.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Fused multiply-add, whose rounding is the processor's. Without it products have the bits of the simd128 build.
    pub relaxed: bool,
    /// Threads, this one included; `None` takes as many as the machine has processors, [`MOST_THREADS`] at most.
    pub threads: Option<usize>,
}

/// Threads that are taken unasked: more are seldom processors of their own, and leave none to the page.
pub const MOST_THREADS: usize = 4;

/// The products as wished, as far as this browser and this page allow; `None` leaves them to the program's own code.
pub async fn open(wish: Wish) -> Option<Rc<dyn Products>> {
    let build = match wish.relaxed && module::relaxed_is_known() {
        true => Build::Relaxed,
        false => Build::Simd128,
    };
    let threads = wish.threads.unwrap_or_else(|| processors().min(MOST_THREADS));
    if threads > 1 && is_isolated() {
        // Without blob workers, or without the memory: one thread.
        if let Ok(shared) = Shared::open(build, threads).await {
            return Some(Rc::new(shared));
        }
    }
    match build {
        Build::Relaxed => Some(Rc::new(Own::open().ok()?)),
        Build::Simd128 => None,
    }
}

/// Whether the page may share memory with its workers.
fn is_isolated() -> bool {
    let isolated = js_sys::Reflect::get(&js_sys::global(), &"crossOriginIsolated".into());
    isolated.is_ok_and(|value| value.is_truthy())
}

/// As the browser tells them; one where it does not.
fn processors() -> usize {
    let navigator = js_sys::Reflect::get(&js_sys::global(), &"navigator".into());
    let count = navigator.and_then(|navigator| js_sys::Reflect::get(&navigator, &"hardwareConcurrency".into()));
    count
        .ok()
        .and_then(|count| count.as_f64())
        .map_or(1, |count| count as usize)
}

/// Why a module cannot compute.
#[derive(Debug, thiserror::Error)]
enum HostError {
    /// The browser refused; its own words.
    #[error("the kernels' module or a worker for it cannot be started: {0}")]
    Start(String),
    /// The shared memory is full.
    #[error(
        "the {bytes} bytes of a matrix do not fit the threads' memory; choose a narrower form of the weights or a \
         smaller model"
    )]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
    /// A thread has ended, or was stopped.
    #[error("a thread does not answer; load the model again")]
    Thread,
}

impl From<wasm_bindgen::JsValue> for HostError {
    fn from(thrown: wasm_bindgen::JsValue) -> Self {
        let text = match thrown.dyn_ref::<js_sys::Error>() {
            Some(error) => error.message().into(),
            None => format!("{thrown:?}"),
        };
        Self::Start(text)
    }
}

impl From<HostError> for lorahub_tensor::TensorError {
    fn from(error: HostError) -> Self {
        let code = match error {
            HostError::Memory { .. } => "device_memory",
            HostError::Start(_) | HostError::Thread => "device_lost",
        };
        lorahub_tensor::DeviceError::new(code, error).into()
    }
}
