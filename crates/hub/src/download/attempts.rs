//! Requests for one address: how an answer's status is taken, and how a failed one is tried again.

use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::{Cancel, Downloader, Progress, Reason};
use crate::{Body as _, Clock, Fetch, FetchError, HubError, Request, Response};

/// Why a download goes no further as it is.
pub(super) enum Stop {
    Error(HubError),
    /// The file is another one than before.
    Changed,
    /// Ranges do not work, for that reason.
    NoRanges(String),
}

impl From<HubError> for Stop {
    fn from(error: HubError) -> Self {
        Self::Error(error)
    }
}

/// What went wrong with one request.
pub(super) enum Fault {
    Again(Box<Again>),
    Stop(Stop),
}

/// Something that may go better the next time.
pub(super) struct Again {
    pub(super) reason: Reason,
    pub(super) text: String,
    /// How long the server asks to wait.
    pub(super) after: Option<Duration>,
    /// What it means if it never goes better, and after how many tries that is clear.
    pub(super) end: Option<(u32, Stop)>,
}

impl Fault {
    pub(super) fn again(reason: Reason, text: impl Into<String>) -> Self {
        Self::ending(reason, text, None)
    }

    pub(super) fn ending(reason: Reason, text: impl Into<String>, end: Option<(u32, Stop)>) -> Self {
        Self::Again(Box::new(Again {
            reason,
            text: text.into(),
            after: None,
            end,
        }))
    }
}

impl<T: Into<Stop>> From<T> for Fault {
    fn from(stop: T) -> Self {
        Self::Stop(stop.into())
    }
}

/// How often it is looked whether the caller cancelled, or an answer has stalled.
const TICK: Duration = Duration::from_millis(200);
/// Tries before a refusal is believed to be one, and not an expired redirect.
const REFUSALS: u32 = 3;
/// The largest answer of the API.
const ANSWER_BYTES: usize = 16 << 20;

/// Requests for one address, with the waits between them.
pub(super) struct Attempts<'r, F, C, S> {
    pub(super) down: &'r Downloader<'r, F, C, S>,
    pub(super) url: String,
    cancel: &'r Cancel,
    progress: &'r dyn Fn(Progress),
    jitter: Cell<u64>,
    /// Until when the server asked all to wait.
    not_before: Cell<Duration>,
    /// Whether caches are to be passed by.
    fresh: Cell<bool>,
}

impl<'r, F: Fetch, C: Clock, S> Attempts<'r, F, C, S> {
    pub(super) fn new(
        down: &'r Downloader<'r, F, C, S>,
        url: String,
        cancel: &'r Cancel,
        progress: &'r dyn Fn(Progress),
    ) -> Self {
        Self {
            down,
            url,
            cancel,
            progress,
            jitter: Cell::new(down.options.seed),
            not_before: Cell::new(Duration::ZERO),
            fresh: Cell::new(false),
        }
    }

    pub(super) fn say(&self, progress: Progress) {
        (self.progress)(progress);
    }

    pub(super) fn now(&self) -> Duration {
        self.down.clock.now()
    }

    pub(super) fn check_cancel(&self) -> Result<(), HubError> {
        if self.cancel.is_cancelled() {
            Err(HubError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Waits for what a request gives, but not longer than it may stall, nor than the caller wants.
    pub(super) async fn race<T>(&self, future: impl Future<Output = Result<T, FetchError>>) -> Result<T, Fault> {
        let start = self.now();
        let mut future = pin!(future);
        loop {
            self.check_cancel()?;
            let tick = pin!(self.down.clock.sleep(TICK));
            match select(future.as_mut(), tick).await {
                Either::Left((result, _)) => {
                    return result.map_err(|error| Fault::again(Reason::Network, error.to_string()));
                }
                Either::Right(_) => {
                    let stall = self.down.options.stall;
                    if self.now().saturating_sub(start) >= stall {
                        let text = format!("nothing came for {} seconds", stall.as_secs());
                        return Err(Fault::again(Reason::Stalled, text));
                    }
                }
            }
        }
    }

    /// Waits until a moment, or the caller cancels.
    async fn wait_until(&self, moment: Duration) -> Result<(), HubError> {
        loop {
            self.check_cancel()?;
            let left = moment.saturating_sub(self.now());
            if left.is_zero() {
                return Ok(());
            }
            self.down.clock.sleep(left.min(TICK)).await;
        }
    }

    /// Sends a request when the server's wait is over, and sorts its status.
    ///
    /// What comes back has the status 200 or 206 or, for ranges, one of those that refuse them.
    pub(super) async fn get(&self, range: Option<Range<u64>>) -> Result<Response<F::Body>, Fault> {
        self.wait_until(self.not_before.get()).await?;
        let ranged = range.is_some();
        let request = Request {
            url: self.url.clone(),
            range,
            fresh: self.fresh.get(),
        };
        let response = self.race(self.down.fetch.get(request)).await?;
        let (url, status) = (self.url.clone(), response.status);
        let text = format!("it answered with status {status}");
        match status {
            200 | 206 => Ok(response),
            400 | 405 | 416 | 501 if ranged => Ok(response),
            404 | 410 => Err(HubError::NotFound { url, status }.into()),
            // The hub's redirects lead to addresses that expire; the next request asks the hub for a new one.
            401 | 403 => {
                self.fresh.set(true);
                let end = (REFUSALS, HubError::Forbidden { url, status }.into());
                Err(Fault::ending(Reason::Expired, text, Some(end)))
            }
            408 | 425 | 429 | 500.. => {
                let after = response
                    .retry_after
                    .as_deref()
                    .and_then(|text| text.trim().parse().ok());
                if let Some(seconds) = after
                    && Duration::from_secs(seconds) > self.down.options.longest_retry_after
                {
                    return Err(HubError::RateLimited { url, seconds }.into());
                }
                let busy = status == 429 || after.is_some();
                Err(Fault::Again(Box::new(Again {
                    reason: if busy { Reason::Busy } else { Reason::Server },
                    text,
                    after: after.map(Duration::from_secs),
                    end: None,
                })))
            }
            _ => Err(HubError::Status { url, status }.into()),
        }
    }

    /// After a fault: waits, or says that there is no use. `failures` counts them since the last progress.
    pub(super) async fn after(&self, fault: Fault, failures: &mut u32) -> Result<(), Stop> {
        let again = match fault {
            Fault::Stop(stop) => return Err(stop),
            Fault::Again(again) => again,
        };
        *failures += 1;
        let options = &self.down.options;
        match again.end {
            Some((tries, stop)) if *failures >= tries => return Err(stop),
            _ if *failures >= options.attempts => {
                return Err(Stop::Error(HubError::Network {
                    url: self.url.clone(),
                    attempts: *failures,
                    reason: again.text,
                }));
            }
            _ => {}
        }
        let wait = match again.after {
            Some(after) => {
                self.not_before.set(self.not_before.get().max(self.now() + after));
                after
            }
            None => {
                let doubled = options.first_wait.saturating_mul(1 << (*failures - 1).min(16));
                // From half of it to all of it, so that many pages do not come back at once.
                doubled.min(options.longest_wait).mul_f64(0.5 + 0.5 * self.random())
            }
        };
        self.say(Progress::Waiting {
            reason: again.reason,
            attempt: *failures,
            seconds: wait.as_secs_f64(),
        });
        let moment = self.now() + wait;
        Ok(self.wait_until(moment).await?)
    }

    /// SplitMix64, in [0, 1).
    fn random(&self) -> f64 {
        let state = self.jitter.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.jitter.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A small answer, whole.
    pub(super) async fn answer(&self) -> Result<Vec<u8>, Stop> {
        let mut failures = 0;
        loop {
            match self.try_answer().await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => self.after(fault, &mut failures).await?,
            }
        }
    }

    async fn try_answer(&self) -> Result<Vec<u8>, Fault> {
        let mut response = self.get(None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = self.race(response.body.next()).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > ANSWER_BYTES {
                let reason = format!("it has more than {ANSWER_BYTES} bytes");
                return Err(HubError::Api { reason }.into());
            }
        }
        match response.content_length {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(Fault::again(Reason::Network, "the answer broke off"))
            }
            _ => Ok(bytes),
        }
    }
}
