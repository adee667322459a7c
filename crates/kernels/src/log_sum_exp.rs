//! The logarithm of a row's sum of exponentials, for the loss.

use crate::exp::exp;
use crate::rows::{Extremes, padded, sum, vectors};
use crate::simd::F32x4;

/// Scores whose exponentials are summed in f32 before the sum goes on in f64.
const SUM_BLOCK: usize = 256;

/// `log(sum(exp(scores)))` of a row that comes in pieces.
///
/// A score that is infinite or NaN makes the result infinite: a candidate whose scores overflow must be the worst one.
#[derive(Clone, Copy, Debug)]
pub struct LogSumExp {
    largest: f32,
    /// Sum of `exp(score - largest)` so far.
    sum: f64,
    finite: bool,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self {
            largest: f32::MIN,
            sum: 0.0,
            finite: true,
        }
    }
}

impl LogSumExp {
    /// Takes the next scores of the row.
    pub fn push(&mut self, scores: &[f32]) {
        for scores in scores.chunks(SUM_BLOCK) {
            self.push_block(scores);
        }
    }

    #[inline(never)]
    fn push_block(&mut self, scores: &[f32]) {
        let mut seen = Extremes::default();
        vectors(scores, f32::MIN).for_each(|score| seen.watch(score));
        let Some(largest) = seen.largest() else {
            self.finite = false;
            return;
        };
        if largest > self.largest {
            self.sum *= (f64::from(self.largest) - f64::from(largest)).exp();
            self.largest = largest;
        }
        let largest = F32x4::splat(self.largest);
        let (mut even, mut odd) = (F32x4::splat(0.0), F32x4::splat(0.0));
        let (whole, rest) = scores.as_chunks::<4>();
        for score in whole {
            (even, odd) = (odd, even.add(exp(F32x4::load(score).sub(largest))));
        }
        let mut total = sum(even.add(odd));
        if !rest.is_empty() {
            let e = exp(F32x4::load(&padded(rest, f32::MIN)).sub(largest)).lanes();
            total += e[..rest.len()].iter().sum::<f32>();
        }
        self.sum += f64::from(total);
    }

    /// The result: infinite if a score was not finite, minus infinity if there was none.
    pub fn finish(&self) -> f64 {
        if !self.finite {
            return f64::INFINITY;
        }
        f64::from(self.largest) + self.sum.ln()
    }
}
