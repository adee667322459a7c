//! The file by ranges, a few at once.

use std::collections::VecDeque;
use std::ops::Range;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Reason;
use super::attempts::{Fault, Stop};
use super::run::Run;
use crate::{Body as _, Clock, Fetch, Response, Sha256, Store};

/// Tries after which ranges that never got an answer are given up for a plain request: a failed preflight looks like
/// no network at all.
const RANGE_TRIES: u32 = 3;

impl<F: Fetch, C: Clock, S: Store> Run<'_, F, C, S> {
    /// Fetches every missing chunk.
    pub(super) async fn fetch_ranges(&self) -> Result<(), Stop> {
        if self.size.get().is_none() {
            // The first chunk's answer tells the size.
            let (index, bytes, sha256) = self.fetch_chunk(0).await?;
            self.keep(index, &bytes, sha256).await?;
            self.landed(bytes.len() as u64);
        }
        let mut queue = VecDeque::from(self.missing());
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.tries.down.options.parallel.max(1)
                && let Some(index) = queue.pop_front()
            {
                running.push(self.fetch_chunk(index));
            }
            let Some(result) = running.next().await else {
                return Ok(());
            };
            let (index, bytes, sha256) = result?;
            self.keep(index, &bytes, sha256).await?;
            self.landed(bytes.len() as u64);
        }
    }

    /// Fetches one chunk, however often it takes.
    async fn fetch_chunk(&self, index: u64) -> Result<(u64, Vec<u8>, Sha256), Stop> {
        let mut failures = 0;
        loop {
            let fault = match self.try_chunk(index).await {
                Ok((bytes, sha256)) => {
                    self.ranges_work.set(true);
                    return Ok((index, bytes, sha256));
                }
                Err(fault) => fault,
            };
            if let Fault::Again(again) = &fault
                && again.reason == Reason::Network
                && failures + 1 >= RANGE_TRIES
                && !self.ranges_work.get()
            {
                return Err(Stop::NoRanges(again.text.clone()));
            }
            self.tries.after(fault, &mut failures).await?;
        }
    }

    async fn try_chunk(&self, index: u64) -> Result<(Vec<u8>, Sha256), Fault> {
        let asked = self.range_of(index).ok_or(Stop::Changed)?;
        let mut response = self.tries.get(Some(asked.clone())).await?;
        let range = self.answered(&response, asked)?;
        // At most one chunk.
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let result = self.read_body(&mut response.body, &range, &mut bytes).await;
        let result = result.and_then(|()| self.check_chunk(index, &bytes));
        match result {
            Ok(sha256) => Ok((bytes, sha256)),
            Err(fault) => {
                self.landed(bytes.len() as u64);
                Err(fault)
            }
        }
    }

    async fn read_body(&self, body: &mut F::Body, range: &Range<u64>, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let expected = range.end - range.start;
        while let Some(piece) = self.tries.race(body.next()).await? {
            if bytes.len() as u64 + piece.len() as u64 > expected {
                return Err(self.wrong_reply("it sent more bytes than asked for"));
            }
            bytes.extend_from_slice(&piece);
            self.came(piece.len() as u64);
        }
        if bytes.len() as u64 == expected {
            Ok(())
        } else {
            let text = format!("the answer broke off after {} of {expected} bytes", bytes.len());
            Err(Fault::again(Reason::Network, text))
        }
    }

    /// The range that an answer to `asked` has, which is all of it, but for the file's end if that was not known.
    fn answered(&self, response: &Response<F::Body>, asked: Range<u64>) -> Result<Range<u64>, Fault> {
        let stated = response.content_range.as_deref().map(ContentRange::parse);
        match response.status {
            206 => {}
            // All of the file is what was asked for.
            200 if self.size.get().is_some_and(|size| asked == (0..size)) => {
                self.same_file(response, response.content_length)?;
                return Ok(asked);
            }
            status => {
                if let Some(Some(ContentRange { total, .. })) = stated {
                    self.same_file(response, total)?;
                }
                return Err(Stop::NoRanges(format!("it answered a range with status {status}")).into());
            }
        }
        let (stated, total) = match stated {
            // A page of another origin is often not shown it; the length and the hash must do.
            None => (None, None),
            Some(None) => return Err(self.wrong_reply("its Content-Range is not one")),
            Some(Some(ContentRange { range: None, .. })) => {
                return Err(self.wrong_reply("its Content-Range names no range"));
            }
            Some(Some(ContentRange { range, total })) => (range, total),
        };
        self.same_file(response, total)?;
        let Some(size) = self.size.get() else {
            return Err(Stop::NoRanges("it does not tell the file's size".to_owned()).into());
        };
        let expected = asked.start..asked.end.min(size);
        match stated {
            Some(found) if found != expected => Err(self.wrong_reply(&format!(
                "it sent bytes {} to {} for {} to {}",
                found.start, found.end, expected.start, expected.end
            ))),
            _ => Ok(expected),
        }
    }

    /// A reply to a range with something else. If it stays so, ranges do not work there.
    fn wrong_reply(&self, text: &str) -> Fault {
        let tries = self.tries.down.options.attempts;
        Fault::ending(Reason::Reply, text, Some((tries, Stop::NoRanges(text.to_owned()))))
    }
}

/// A `Content-Range`: `bytes START-LAST/TOTAL`, either part of which may be `*`.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    range: Option<Range<u64>>,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let total = match total {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        let range = match range {
            "*" => None,
            range => {
                let (start, last) = range.split_once('-')?;
                let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
                Some(start..last.checked_add(1).filter(|end| *end > start)?)
            }
        };
        Some(Self { range, total })
    }
}

#[cfg(test)]
mod tests {
    use super::ContentRange;

    #[test]
    fn content_ranges_are_read() {
        let some = |range, total| Some(ContentRange { range, total });
        for (text, expected) in [
            ("bytes 0-0/1", some(Some(0..1), Some(1))),
            ("bytes 8-15/20", some(Some(8..16), Some(20))),
            ("bytes 8-15/*", some(Some(8..16), None)),
            ("bytes */20", some(None, Some(20))),
            ("bytes 9-8/20", None),
            ("bytes 0-18446744073709551615/20", None),
            ("bytes 0-/20", None),
            ("items 0-1/2", None),
            ("bytes 0-1", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), expected, "{text}");
        }
    }
}
