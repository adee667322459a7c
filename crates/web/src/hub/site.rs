//! What is asked of the browser wherever it stores: locks, room, hashes, and words for its refusals.

use js_sys::{Promise, Reflect, Uint8Array};
use lorahub_hub::{HubError, Key, Sha256};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(thread_local_v2, js_namespace = navigator, js_name = storage)]
    pub(super) static STORAGE: Option<web_sys::StorageManager>;

    /// web-sys has it among what may still change.
    #[derive(Clone)]
    type Locks;

    #[wasm_bindgen(thread_local_v2, js_namespace = navigator, js_name = locks)]
    static LOCKS: Option<Locks>;

    #[wasm_bindgen(method, catch)]
    fn request(
        this: &Locks,
        name: &str,
        options: &JsValue,
        callback: &Closure<dyn FnMut(JsValue) -> JsValue>,
    ) -> Result<Promise, JsValue>;

    /// The browser's own hash: several times as fast as one that was compiled to WebAssembly and runs for the first time.
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn digest(algorithm: &str, bytes: &JsValue) -> Result<Promise, JsValue>;
}

/// How long a lock is waited for: a page that was just left gives its locks back a moment later.
const LOCK_MS: u32 = 1000;

pub(super) fn failed(action: &'static str) -> impl Fn(JsValue) -> HubError {
    move |thrown| HubError::Store {
        action,
        reason: reason(&thrown),
    }
}

pub(super) fn reason(thrown: &JsValue) -> String {
    let name = Reflect::get(thrown, &"name".into())
        .ok()
        .and_then(|name| name.as_string());
    let message = Reflect::get(thrown, &"message".into())
        .ok()
        .and_then(|text| text.as_string());
    match (name, message) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        _ => "the browser does not say why".to_owned(),
    }
}

/// A Web Lock, and what is to be closed with it; both go when it is dropped.
pub(crate) struct Held {
    /// `None` in a browser without locks.
    release: Option<js_sys::Function>,
    close: Option<Box<dyn Fn()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(close) = &self.close {
            close();
        }
        if let Some(release) = &self.release {
            // Resolving a promise cannot fail.
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// Locks a key against other tabs, where the browser has locks. Without them two tabs may fetch the same chunks; each
/// checks what the other has written before it trusts it.
pub(super) async fn lock(key: Key, close: Option<Box<dyn Fn()>>) -> Result<Held, HubError> {
    let Some(locks) = LOCKS.with(Clone::clone) else {
        return Ok(Held { release: None, close });
    };
    // The browser holds the lock until the promise that the callback returns is resolved.
    let mut release = None;
    let held = Promise::new(&mut |resolve, _reject| release = Some(resolve));
    let mut answer = None;
    let answered = Promise::new(&mut |resolve, _reject| answer = Some(resolve));
    let (Some(release), Some(answer)) = (release, answer) else {
        return Err(HubError::Busy);
    };
    let granted = answer.clone();
    let callback = Closure::new(move |_lock: JsValue| -> JsValue {
        // Resolving a promise cannot fail.
        let _ = granted.call1(&JsValue::UNDEFINED, &true.into());
        held.clone().into()
    });
    let refused = Closure::new(move |_thrown: JsValue| {
        let _ = answer.call1(&JsValue::UNDEFINED, &false.into());
    });
    let options = js_sys::Object::new();
    let patience = web_sys::AbortSignal::timeout_with_u32(LOCK_MS);
    Reflect::set(&options, &"signal".into(), &patience).map_err(failed("be locked"))?;
    let ended = locks.request(&format!("lorahub {key}"), &options, &callback);
    // It ends when the lock is given back, or when there was none: only the latter is waited for.
    let _ended = ended.map_err(failed("be locked"))?.catch(&refused);
    let free = JsFuture::from(answered).await.map_err(failed("be locked"))?;
    if !free.is_truthy() {
        return Err(HubError::Busy);
    }
    Ok(Held {
        release: Some(release),
        close,
    })
}

/// Bytes that the browser still gives this site.
pub(super) async fn free() -> Result<Option<u64>, HubError> {
    let asked = STORAGE.with(|storage| storage.as_ref().and_then(|storage| storage.estimate().ok()));
    let Some(promise) = asked else { return Ok(None) };
    let estimate = JsFuture::from(promise).await.map_err(failed("say how much is free"))?;
    let field = |name: &str| {
        Reflect::get(&estimate, &name.into())
            .ok()
            .and_then(|value| value.as_f64())
    };
    Ok(match (field("quota"), field("usage")) {
        (Some(quota), Some(usage)) => Some((quota - usage).max(0.0) as u64),
        _ => None,
    })
}

/// Asks the browser not to clear what this site stores by itself; it may refuse.
pub(super) async fn persist() {
    let asked = STORAGE.with(|storage| storage.as_ref().and_then(|storage| storage.persist().ok()));
    if let Some(promise) = asked {
        // Refused or not, things go on.
        let _ = JsFuture::from(promise).await;
    }
}

pub(super) async fn bytes_of(blob: &web_sys::Blob) -> Result<Vec<u8>, JsValue> {
    let buffer = JsFuture::from(blob.array_buffer()).await?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

pub(super) async fn hash_of(blob: &web_sys::Blob) -> Result<Sha256, JsValue> {
    let bytes = JsFuture::from(blob.array_buffer()).await?;
    let hash = JsFuture::from(digest("SHA-256", &bytes)?).await?;
    let hash = Uint8Array::new(&hash).to_vec().try_into();
    hash.map(Sha256::from_bytes).map_err(|_| JsValue::UNDEFINED)
}
