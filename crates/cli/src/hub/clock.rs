//! The system's clock, and waits that a thread ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use lorahub_hub::Clock;

/// The system's clock.
#[derive(Clone, Debug)]
pub(crate) struct SystemClock {
    start: Instant,
    alarms: Sender<Alarm>,
}

/// Who is to be woken, and when.
#[derive(Debug)]
struct Alarm {
    at: Instant,
    waker: Waker,
}

impl SystemClock {
    /// A clock that starts now. Its thread ends with it.
    ///
    /// # Errors
    /// The system's, if no thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        let (alarms, set) = channel();
        std::thread::Builder::new()
            .name("clock".to_owned())
            .spawn(move || ring(&set))?;
        Ok(Self {
            start: Instant::now(),
            alarms,
        })
    }
}

/// Wakes everyone at their time, until no clock is left.
fn ring(set: &Receiver<Alarm>) {
    // The order is by time, then by arrival.
    let mut waiting: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut wakers = std::collections::BTreeMap::new();
    for number in 0.. {
        let next = loop {
            let Some(Reverse((at, first))) = waiting.peek().copied() else {
                break set.recv().ok();
            };
            match set.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(alarm) => break Some(alarm),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {
                    waiting.pop();
                    if let Some(waker) = wakers.remove(&first) {
                        Waker::wake(waker);
                    }
                }
            }
        };
        let Some(Alarm { at, waker }) = next else { return };
        waiting.push(Reverse((at, number)));
        wakers.insert(number, waker);
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        let at = Instant::now() + time;
        poll_fn(|context| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            match self.alarms.send(Alarm { at, waker }) {
                Ok(()) => Poll::Pending,
                // The thread lives as long as the clock does.
                Err(_) => Poll::Ready(()),
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{Either, select};

    use super::*;

    #[test]
    fn waits_end_in_order_and_not_early() {
        let clock = SystemClock::start().expect("a thread");
        let before = clock.now();
        pollster::block_on(async {
            let long = pin!(clock.sleep(Duration::from_secs(600)));
            let short = pin!(clock.sleep(Duration::from_millis(30)));
            assert!(matches!(select(long, short).await, Either::Right(_)));
            clock.sleep(Duration::from_millis(20)).await;
            clock.sleep(Duration::ZERO).await;
        });
        let passed = clock.now() - before;
        assert!(
            passed >= Duration::from_millis(50) && passed < Duration::from_secs(60),
            "{passed:?}"
        );
    }
}
