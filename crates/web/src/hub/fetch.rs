//! Requests and waiting, through the worker's `fetch` and timers.

use std::time::Duration;

use js_sys::{Reflect, Uint8Array};
use lorahub_hub::{Body, Clock, Fetch, FetchError, Request, Response};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::turns::seconds;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn send(url: &str, init: &web_sys::RequestInit) -> js_sys::Promise;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(then: &js_sys::Function, milliseconds: f64);
}

/// What the browser says of a failure: it never says much.
fn said(thrown: &JsValue) -> FetchError {
    let message = thrown.dyn_ref::<js_sys::Error>().map(js_sys::Error::message);
    FetchError(message.map_or_else(|| "the request failed".to_owned(), String::from))
}

/// The worker's `fetch`.
pub(crate) struct BrowserFetch;

impl Fetch for BrowserFetch {
    type Body = Stream;

    async fn get(&self, request: Request) -> Result<Response<Stream>, FetchError> {
        let init = web_sys::RequestInit::new();
        init.set_credentials(web_sys::RequestCredentials::Omit);
        init.set_referrer_policy(web_sys::ReferrerPolicy::NoReferrer);
        // What comes is kept by us; the browser's cache would keep it twice, and old redirects and failures with it.
        init.set_cache(web_sys::RequestCache::NoStore);
        let abort = web_sys::AbortController::new().map_err(|error| said(&error))?;
        init.set_signal(Some(&abort.signal()));
        if let Some(range) = request.range_header() {
            let headers = web_sys::Headers::new().map_err(|error| said(&error))?;
            headers.append("Range", &range).map_err(|error| said(&error))?;
            init.set_headers_headers(&headers);
        }
        let answer = JsFuture::from(send(&request.url, &init)).await;
        let answer: web_sys::Response = answer.map_err(|error| said(&error))?.unchecked_into();
        let header = |name: &str| answer.headers().get(name).ok().flatten();
        let reader = match answer.body() {
            Some(body) => Some(web_sys::ReadableStreamDefaultReader::new(&body).map_err(|error| said(&error))?),
            None => None,
        };
        Ok(Response {
            status: answer.status(),
            // Of a whole file it may be the length of an encoding that the browser hides from us; ranges have none.
            content_length: header("content-length")
                .filter(|_| answer.status() == PARTIAL)
                .and_then(|text| text.parse().ok()),
            content_range: header("content-range"),
            etag: header("etag"),
            retry_after: header("retry-after"),
            body: Stream { reader, abort },
        })
    }
}

/// Partial content.
const PARTIAL: u16 = 206;

/// A body as it comes; dropping it ends the request.
pub(crate) struct Stream {
    reader: Option<web_sys::ReadableStreamDefaultReader>,
    abort: web_sys::AbortController,
}

impl Body for Stream {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let read = JsFuture::from(reader.read()).await.map_err(|error| said(&error))?;
        let field = |name: &str| Reflect::get(&read, &name.into()).map_err(|error| said(&error));
        if field("done")?.is_truthy() {
            self.reader = None;
            return Ok(None);
        }
        Ok(Some(field("value")?.unchecked_into::<Uint8Array>().to_vec()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.abort.abort();
        }
    }
}

/// The worker's clock and timers.
pub(crate) struct BrowserClock;

impl Clock for BrowserClock {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(seconds().max(0.0))
    }

    async fn sleep(&self, time: Duration) {
        let elapsed = js_sys::Promise::new(&mut |resolve, _reject| set_timeout(&resolve, time.as_secs_f64() * 1e3));
        // It is never rejected.
        let _ = JsFuture::from(elapsed).await;
    }
}
