//! How many decode steps go before one read. A read costs a round trip that a short step does not amortise, and while
//! a batch of steps is under way nobody sees a token.

use std::cell::Cell;

use crate::options::Clock;

/// Most steps before a read: past it the round trip no longer shows, and steps past `</s>` are wasted.
const MOST_STEPS: usize = 8;
/// Steps before a read where there is no clock: a step of flan-t5-large on an integrated GPU takes some 30 ms.
pub(crate) const UNTIMED_STEPS: usize = 4;
/// Seconds of a batch of steps below which the next one has twice as many, which then stay below a streaming latency of
/// 150 ms even if they are somewhat slower; and above which it has half.
const SHORT: f64 = 0.06;
const LONG: f64 = 0.12;

/// The steps of the decode that is under way.
pub(crate) struct Pace {
    clock: Option<Clock>,
    untimed: usize,
    steps: Cell<usize>,
    began: Cell<f64>,
}

impl Pace {
    pub(crate) fn new(clock: Option<Clock>, untimed: usize) -> Self {
        Self {
            clock,
            untimed,
            steps: Cell::new(1),
            began: Cell::new(0.0),
        }
    }

    /// Steps to do now. The first token of a decode always comes alone: nothing is known of its steps yet.
    pub(crate) fn start(&self, done: usize) -> usize {
        match &self.clock {
            None => self.steps.set(if done == 0 { 1 } else { self.untimed }),
            Some(clock) => {
                if done == 0 {
                    self.steps.set(1);
                }
                self.began.set(clock());
            }
        }
        self.steps.get()
    }

    /// Notes that so many steps have been read.
    pub(crate) fn end(&self, steps: usize) {
        let Some(clock) = &self.clock else { return };
        // A decode near its end does fewer than it might, and says nothing about more.
        if steps != self.steps.get() {
            return;
        }
        let seconds = clock() - self.began.get();
        if seconds < SHORT {
            self.steps.set((2 * steps).min(MOST_STEPS));
        } else if seconds > LONG {
            self.steps.set((steps / 2).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Steps of each batch of a decode on a device that takes `step` seconds for one.
    fn batches(step: f64, count: usize) -> Vec<usize> {
        let now = Rc::new(Cell::new(0.0));
        let clock = now.clone();
        let pace = Pace::new(Some(Rc::new(move || clock.get())), 3);
        let mut done = 0;
        (0..count)
            .map(|_| {
                let steps = pace.start(done);
                now.set(now.get() + step * steps as f64);
                pace.end(steps);
                done += steps;
                steps
            })
            .collect()
    }

    #[test]
    fn batches_grow_while_they_are_short() {
        assert_eq!(batches(0.002, 5), [1, 2, 4, 8, 8]);
        assert_eq!(batches(0.02, 5), [1, 2, 4, 4, 4]);
        assert_eq!(batches(0.05, 4), [1, 2, 2, 2]);
        assert_eq!(batches(0.1, 3), [1, 1, 1]);
        assert_eq!(batches(0.5, 3), [1, 1, 1]);
    }

    /// Whatever a step takes, no batch of two or more exceeds the latency that streaming allows.
    #[test]
    fn streaming_latency_is_bounded() {
        for milliseconds in 1..1000 {
            let step = f64::from(milliseconds) / 1e3;
            for steps in batches(step, 12) {
                assert!(steps == 1 || steps as f64 * step < 0.15, "{steps} steps of {step} s");
            }
        }
    }

    #[test]
    fn without_a_clock_the_first_token_comes_alone() {
        let pace = Pace::new(None, 3);
        assert_eq!(
            [pace.start(0), pace.start(1), pace.start(4), pace.start(0)],
            [1, 3, 3, 1]
        );
    }
}
