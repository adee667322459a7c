//! What a download needs of its surroundings: requests and time.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

/// A GET without any header but, where `range` is given, `Range: bytes=START-END`.
///
/// That is all that passes cross-origin without a preflight, which CDNs have been seen to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address. Redirects are followed.
    pub url: String,
    /// The bytes asked for; `None` for the whole file.
    pub range: Option<Range<u64>>,
    /// Whether to pass by caches: a kept redirect may have expired.
    pub fresh: bool,
}

impl Request {
    /// The value of the `Range` header, if there is one.
    pub fn range_header(&self) -> Option<String> {
        let range = self.range.as_ref()?;
        Some(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
    }
}

/// An answer whose head has come. A header that the browser hides from the page is `None`.
#[derive(Clone, Debug)]
pub struct Response<B> {
    /// The status after redirects.
    pub status: u16,
    /// `Content-Length`; `None` if the body comes in another encoding, whose length it would be.
    pub content_length: Option<u64>,
    /// `Content-Range`
    pub content_range: Option<String>,
    /// `ETag`
    pub etag: Option<String>,
    /// `Retry-After`
    pub retry_after: Option<String>,
    /// What follows.
    pub body: B,
}

/// A request that had no answer, or an answer that broke off. The text is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Sends requests. Dropping an answer's body aborts it.
pub trait Fetch {
    /// The body of an answer.
    type Body: Body;

    /// Sends a request, and returns when the head of the answer has come.
    fn get(&self, request: Request) -> impl Future<Output = Result<Response<Self::Body>, FetchError>>;
}

/// The body of an answer, as it comes.
pub trait Body {
    /// The next bytes; `None` at the end. A body that breaks off is an error, where the transport can tell.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, FetchError>>;
}

/// Tells the time and waits.
pub trait Clock {
    /// The time since some moment; it never goes back.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;
}
