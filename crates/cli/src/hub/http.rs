//! Requests over HTTP, natively: one thread for each, which passes on what comes.
//!
//! The client is `ureq`: HTTP/1.1, TLS by rustls with the system's certificates, proxies as `HTTPS_PROXY`, `ALL_PROXY`,
//! `HTTP_PROXY` and `NO_PROXY` say. It keeps no cache, so every request is a fresh one.

use std::future::poll_fn;
use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt as _;
use lorahub_hub::{Body, Fetch, FetchError, Request, Response};
use ureq::config::AutoHeaderValue;
use ureq::tls::{RootCerts, TlsConfig};

/// How long it may take to find a host, and to connect to it.
const CONNECT: Duration = Duration::from_secs(15);
/// How much later than the download a request gives up a connection on which nothing comes.
const LATER: Duration = Duration::from_secs(5);
/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 16;

/// An HTTP client.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: ureq::Agent,
}

impl Http {
    /// A client for downloads whose answers may pause for `stall`. It gives such a connection up a little later: the
    /// download has noticed by then, and the thread ends too.
    pub(crate) fn new(stall: Duration) -> Self {
        let idle = stall + LATER;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("lorahub/", env!("CARGO_PKG_VERSION")))
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_send_request(Some(idle))
            .timeout_recv_response(Some(idle))
            .timeout_per_read(Some(idle))
            .build();
        Self {
            agent: ureq::Agent::new_with_config(config),
        }
    }

    /// Sends a request and waits for the head of the answer.
    fn send(&self, request: &Request) -> Result<Response<ureq::Body>, FetchError> {
        let mut get = self
            .agent
            .get(&request.url)
            .config()
            // Nobody on the way may lead a request that was encrypted to one that is not.
            .https_only(request.url.starts_with("https://"))
            .build();
        if let Some(range) = request.range_header() {
            get = get.header("range", range);
        }
        let answer = get.call().map_err(|error| FetchError(error.to_string()))?;
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        if let Some(encoding) = header("content-encoding").filter(|encoding| encoding != "identity") {
            let text = format!("the answer has the encoding `{encoding}`, which was not asked for");
            return Err(FetchError(text));
        }
        Ok(Response {
            status: answer.status().as_u16(),
            content_length: header("content-length").and_then(|text| text.parse().ok()),
            content_range: header("content-range"),
            etag: header("etag"),
            retry_after: header("retry-after"),
            body: answer.into_body(),
        })
    }

    /// One request from its start to its end. Ends early when nobody listens any more.
    fn exchange(&self, request: &Request, answer: oneshot::Sender<Result<Response<Incoming>, FetchError>>) {
        let response = match self.send(request) {
            Ok(response) => response,
            Err(error) => {
                // Nobody listens: the request was given up.
                let _ = answer.send(Err(error));
                return;
            }
        };
        let (mut pieces, incoming) = mpsc::channel(1);
        let head = Response {
            status: response.status,
            content_length: response.content_length,
            content_range: response.content_range,
            etag: response.etag,
            retry_after: response.retry_after,
            body: Incoming(incoming),
        };
        if answer.send(Ok(head)).is_err() {
            return;
        }
        let mut body = response.body.into_reader();
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match body.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(buffer[..count].to_vec()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(FetchError(error.to_string())),
            };
            let last = piece.is_err();
            let room = pollster::block_on(poll_fn(|context| pieces.poll_ready(context)));
            if room.is_err() || pieces.start_send(piece).is_err() || last {
                return;
            }
        }
    }
}

impl Fetch for Http {
    type Body = Incoming;

    async fn get(&self, request: Request) -> Result<Response<Incoming>, FetchError> {
        let (answer, head) = oneshot::channel();
        let client = self.clone();
        std::thread::Builder::new()
            .name("fetch".to_owned())
            .spawn(move || client.exchange(&request, answer))
            .map_err(|error| FetchError(format!("no thread can be started ({error})")))?;
        head.await
            .unwrap_or_else(|_| Err(FetchError("the request ended without an answer".to_owned())))
    }
}

/// The body of an answer, as its thread passes it on.
#[derive(Debug)]
pub(crate) struct Incoming(mpsc::Receiver<Result<Vec<u8>, FetchError>>);

impl Body for Incoming {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        self.0.next().await.transpose()
    }
}
