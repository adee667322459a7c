//! What a download says of itself.

use std::time::Duration;

use serde::Serialize;

/// What a download is doing. `bytes` and the like are of the file, never of the transport.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Progress {
    /// It is there already; nothing is fetched.
    Kept {
        /// Its bytes.
        bytes: u64,
    },
    /// What came in an earlier session is read again and hashed.
    Checking {
        /// Bytes hashed.
        done: u64,
        /// Bytes that the journal names.
        total: u64,
    },
    /// Bytes are coming.
    Fetching {
        /// Bytes that are here.
        done: u64,
        /// The file's bytes, if known.
        total: Option<u64>,
        /// Bytes a second, lately; absent at the start.
        per_second: Option<f64>,
        /// Seconds left at that rate.
        seconds_left: Option<f64>,
    },
    /// Something failed, and will be tried again.
    Waiting {
        /// What failed.
        reason: Reason,
        /// Which try without progress it was, from 1.
        attempt: u32,
        /// Seconds until the next.
        seconds: f64,
    },
    /// The server does not give ranges: the whole file in one answer from here on.
    Whole,
    /// All is here and is being hashed.
    Verifying {
        /// Bytes hashed.
        done: u64,
        /// The file's bytes.
        total: u64,
    },
    /// It is kept.
    Done {
        /// Its bytes.
        bytes: u64,
        /// Bytes that came over the network this time, failures included.
        fetched: u64,
    },
}

/// Why something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// No answer, or one that broke off.
    Network,
    /// An answer that stopped coming.
    Stalled,
    /// The server has too much to do, and said so (429, 503).
    Busy,
    /// The server failed (5xx, 408).
    Server,
    /// A redirect that is no longer good (401, 403).
    Expired,
    /// Other bytes than asked for.
    Reply,
    /// Bytes with another hash.
    Hash,
}

/// Bytes per second, smoothed, and how often to say so.
#[derive(Debug)]
pub(super) struct Meter {
    since: Duration,
    bytes: u64,
    rate: Option<f64>,
    told: Option<Duration>,
}

/// The time over which a rate is taken.
const WINDOW: Duration = Duration::from_millis(500);
/// The least time between two words about bytes.
const PAUSE: Duration = Duration::from_millis(100);
/// The share of the newest window in the rate.
const NEWEST: f64 = 0.3;

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            since: now,
            bytes: 0,
            rate: None,
            told: None,
        }
    }

    /// Counts bytes. Returns whether it is time to say so.
    pub(super) fn count(&mut self, bytes: u64, now: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let time = now.saturating_sub(self.since);
        if time >= WINDOW {
            let newest = self.bytes as f64 / time.as_secs_f64();
            self.rate = Some(self.rate.map_or(newest, |rate| rate + NEWEST * (newest - rate)));
            (self.since, self.bytes) = (now, 0);
        }
        let due = self.told.is_none_or(|told| now.saturating_sub(told) >= PAUSE);
        if due {
            self.told = Some(now);
        }
        due
    }

    pub(super) fn progress(&self, done: u64, total: Option<u64>) -> Progress {
        let left = total.map(|total| total.saturating_sub(done) as f64);
        Progress::Fetching {
            done,
            total,
            per_second: self.rate,
            seconds_left: left
                .zip(self.rate)
                .filter(|(_, rate)| *rate > 0.0)
                .map(|(left, rate)| left / rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_bytes() {
        let mut meter = Meter::new(Duration::ZERO);
        let at = Duration::from_millis;
        assert!(meter.count(10, at(1)));
        assert!(!meter.count(10, at(50)), "too soon to say again");
        assert_eq!(
            meter.progress(20, Some(100)),
            Progress::Fetching {
                done: 20,
                total: Some(100),
                per_second: None,
                seconds_left: None
            }
        );
        meter.count(480, at(500));
        let Progress::Fetching {
            per_second: Some(rate),
            seconds_left: Some(left),
            ..
        } = meter.progress(500, Some(1500))
        else {
            panic!("no rate");
        };
        assert_eq!((rate, left), (1000.0, 1.0));
        meter.count(1000, at(1000));
        let json = serde_json::to_value(meter.progress(1500, None)).expect("JSON");
        assert_eq!(json["state"], "fetching");
        assert_eq!(json["per_second"], 1300.0);
        assert!(json["seconds_left"].is_null());
    }
}
