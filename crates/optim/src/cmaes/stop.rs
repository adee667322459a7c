//! Why a search may end, and the history of losses by which it knows (tutorial, B.3).

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Why the search may end, with the value that says so and the limit it met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// A loss as good as the target was seen.
    Target {
        /// The best loss.
        loss: f64,
        /// [`super::Tolerances::target`].
        target: f64,
    },
    /// The evaluations are used up.
    MaxEvaluations {
        /// Losses told.
        evaluations: u64,
        /// [`super::Tolerances::max_evaluations`].
        limit: u64,
    },
    /// Converged: the losses hardly differ any more.
    TolFun {
        /// Range of the last generation's losses and of the recent generations' best.
        range: f64,
        /// [`super::Tolerances::tol_fun`].
        tolerance: f64,
    },
    /// Converged: the steps hardly move any more.
    TolX {
        /// The largest standard deviation or path step.
        deviation: f64,
        /// [`super::Tolerances::tol_x`] times the first sigma.
        tolerance: f64,
    },
    /// Diverged: far better points lie far from the start; start again from the best with a larger sigma.
    TolUp {
        /// How many times a standard deviation has grown.
        factor: f64,
        /// [`super::Tolerances::tol_up`].
        limit: f64,
    },
    /// The covariance matrix is at the edge of what f64 can decompose.
    Condition {
        /// Its condition number; `f64::MAX` for a matrix that has lost its smallest eigenvalue altogether.
        condition: f64,
        /// [`super::Tolerances::condition`].
        limit: f64,
    },
    /// A fifth of a standard deviation no longer changes this coordinate of the mean.
    NoEffect {
        /// Which coordinate.
        coordinate: usize,
        /// Its standard deviation.
        deviation: f64,
    },
    /// Neither the best nor the median loss has improved over this many generations.
    Stagnation {
        /// Length of the history compared.
        generations: u64,
    },
}

/// Losses of past generations, newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    /// All losses of the last generation, infinite where there was none.
    pub(super) last: Vec<f64>,
    /// Best loss of each recent generation.
    pub(super) best: VecDeque<f64>,
    /// Median loss of each recent generation.
    pub(super) median: VecDeque<f64>,
}

/// Longest history kept, in generations.
pub(super) const MAX_HISTORY: usize = 20_000;

impl History {
    /// Takes a generation's losses, best first; keeps the last fifth of the run, `120 + 30 n / lambda` at least.
    pub(super) fn push(&mut self, ranked: Vec<f64>, generation: u64, n: usize) {
        let lambda = ranked.len();
        self.best.push_back(ranked[0]);
        self.median
            .push_back((ranked[(lambda - 1) / 2] + ranked[lambda / 2]) / 2.0);
        self.last = ranked;
        let fifth = usize::try_from(generation / 5).unwrap_or(MAX_HISTORY);
        let keep = (120 + 30 * n / lambda).max(fifth).min(MAX_HISTORY);
        while self.best.len() > keep {
            self.best.pop_front();
            self.median.pop_front();
        }
    }

    /// The range of losses that [`super::Tolerances::tol_fun`] is about; `None` before ten generations, or where a
    /// loss is missing.
    pub(super) fn range(&self, n: usize) -> Option<f64> {
        let lambda = self.last.len().max(1);
        let span = 10 + (30 * n).div_ceil(lambda);
        if self.best.len() < 10 {
            return None;
        }
        let recent = self.best.iter().rev().take(span).chain(&self.last);
        let (low, high) = recent.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &loss| {
            (a.min(loss), b.max(loss))
        });
        (high - low).is_finite().then_some(high - low)
    }

    /// How many generations the loss has stood still: when, over at least `120 + 30 n / lambda` of them, the median of
    /// the newest 30 % is no better than that of the oldest 30 %, for the best losses and for the median ones.
    pub(super) fn stagnation(&self, n: usize) -> Option<u64> {
        let length = self.best.len();
        if length < 120 + 30 * n / self.last.len().max(1) {
            return None;
        }
        let part = length * 3 / 10;
        let stands_still = |history: &VecDeque<f64>| {
            let old = median(history.iter().take(part).copied().collect());
            let new = median(history.iter().rev().take(part).copied().collect());
            new >= old
        };
        (stands_still(&self.best) && stands_still(&self.median)).then_some(length as u64)
    }
}

/// The middle value, the upper one of two; `values` is not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::History;

    fn history(losses: impl Iterator<Item = f64>) -> History {
        let mut history = History::default();
        for (g, loss) in losses.enumerate() {
            history.push(vec![loss, loss + 1.0, loss + 3.0, loss + 4.0], g as u64 + 1, 2);
        }
        history
    }

    #[test]
    fn keeps_a_fifth_of_the_run_but_at_least_the_tutorials_minimum() {
        assert_eq!(history((0..400).map(f64::from)).best.len(), 120 + 15);
        let long = history((0..1000).map(f64::from));
        assert_eq!((long.best.len(), long.median.len()), (200, 200));
        assert_eq!((long.best[199], long.median[199]), (999.0, 1001.0));
    }

    #[test]
    fn range_covers_the_generation_and_the_recent_best() {
        assert_eq!(history((0..9).map(|_| 1.0)).range(2), None);
        assert_eq!(history((0..10).map(|_| 1.0)).range(2), Some(4.0));
        // 10 + 30 * 2 / 4 = 25 generations back: from 75 to the last one's worst, 99 + 4.
        assert_eq!(history((0..100).map(f64::from)).range(2), Some(28.0));
        assert_eq!(
            history((0..20).map(|g| if g == 19 { f64::INFINITY } else { 0.0 })).range(2),
            None
        );
    }

    #[test]
    fn stagnation_needs_both_histories_and_a_full_window() {
        assert_eq!(history((0..134).map(|_| 1.0)).stagnation(2), None);
        assert_eq!(history((0..135).map(|_| 1.0)).stagnation(2), Some(135));
        assert_eq!(history((0..200).map(|g| -f64::from(g))).stagnation(2), None);
        assert_eq!(history((0..200).map(f64::from)).stagnation(2), Some(135));
        // Thirty percent are compared: of the oldest 40 generations, 13 lucky ones do not count against the newest.
        assert_eq!(
            history((0..135).map(|g| [0.0, 10.0, 5.0][(g / 13).min(2)])).stagnation(2),
            Some(135)
        );
        let lucky = (0..135).map(|g| {
            if g < 13 {
                0.0
            } else if g < 40 {
                10.0
            } else {
                5.0
            }
        });
        assert_eq!(history(lucky).stagnation(2), None);
    }
}
