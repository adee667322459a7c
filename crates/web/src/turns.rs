//! Taking turns on one thread: with the worker's messages, between calls, and with the caller's wish to stop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use futures_channel::oneshot;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the page or worker began; in a worker there is no `window` to ask.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Seconds on a clock that only goes forward.
pub(crate) fn seconds() -> f64 {
    now() / 1000.0
}

/// Lets the thread's other tasks run, messages from the page among them.
///
/// A promise alone would not do: its continuation runs before any message is read. A message to ourselves takes its
/// place in the same queue, and unlike a timer it is not held back.
pub(crate) async fn yield_to_messages() {
    let Ok(channel) = web_sys::MessageChannel::new() else {
        return;
    };
    let (near, far) = (channel.port1(), channel.port2());
    let arrived = js_sys::Promise::new(&mut |resolve, _reject| {
        near.set_onmessage(Some(&resolve));
        // Posting a number cannot fail; if it did, waiting for it would last for ever.
        if far.post_message(&JsValue::NULL).is_err() {
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    // The promise is never rejected.
    let _ = JsFuture::from(arrived).await;
    near.close();
}

/// The caller's wish to stop: an `AbortSignal`, or none.
#[derive(Clone, Default)]
pub(crate) struct Signal(Option<web_sys::AbortSignal>);

impl Signal {
    pub(crate) fn new(signal: Option<web_sys::AbortSignal>) -> Self {
        Self(signal)
    }

    pub(crate) fn aborted(&self) -> bool {
        self.0.as_ref().is_some_and(web_sys::AbortSignal::aborted)
    }
}

/// One call at a time on the device, in the order they came: the engine's scratch memory is not made for two.
#[derive(Default)]
pub(crate) struct Turns {
    taken: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
    /// Whom the device's checkpoints ask whether to go on.
    signal: RefCell<Signal>,
    /// When the checkpoints last read messages.
    last_yield: Cell<f64>,
}

impl Turns {
    /// Waits for the device; it goes to the next in line when the turn is dropped.
    pub(crate) async fn take(self: &Rc<Self>, signal: &Signal) -> Turn {
        if self.taken.get() {
            let (sender, receiver) = oneshot::channel();
            self.waiting.borrow_mut().push_back(sender);
            // Who sends hands the device over, so it stays taken. The sender lives in `self` and is never just dropped.
            let _ = receiver.await;
        }
        self.taken.set(true);
        self.signal.replace(signal.clone());
        Turn { turns: self.clone() }
    }

    /// The device's checkpoint: reads messages now and then, and tells whether to go on.
    pub(crate) async fn checkpoint(self: Rc<Self>) -> bool {
        /// Often enough that a click is noticed at once, seldom enough to cost nothing.
        const EVERY_SECONDS: f64 = 0.03;
        if seconds() - self.last_yield.get() > EVERY_SECONDS {
            yield_to_messages().await;
            self.last_yield.set(seconds());
        }
        !self.signal.borrow().aborted()
    }
}

/// The right to use the device.
pub(crate) struct Turn {
    turns: Rc<Turns>,
}

impl Turn {
    /// Reads messages if that is due.
    pub(crate) async fn rest(&self) {
        self.turns.clone().checkpoint().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.signal.take();
        // Handed over at once: otherwise whoever asks first after this would pass the one who has waited longest.
        while let Some(next) = self.turns.waiting.borrow_mut().pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        self.turns.taken.set(false);
    }
}
