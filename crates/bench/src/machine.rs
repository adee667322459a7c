//! Clocks, and the times taken by them.

use std::future::Future;
use std::rc::Rc;

use lorahub_tensor::Products;
use serde::Serialize;

use crate::{BenchError, Report};

/// What the benchmark needs of the machine it runs on.
pub trait Machine {
    /// A monotonic clock, in seconds.
    fn seconds(&self) -> f64;

    /// The same clock, to keep.
    fn clock(&self) -> Rc<dyn Fn() -> f64>;

    /// CPU seconds used so far by all threads of the process (in a browser: of all the browser's processes), where the
    /// machine tells. Asked for outside the timed spans, so it may be slow.
    fn cpu_seconds(&self) -> impl Future<Output = Option<f64>>;

    /// Who multiplies with the base's matrices on the CPU, if not its own code.
    fn products(&self) -> impl Future<Output = Option<Rc<dyn Products>>> {
        std::future::ready(None)
    }

    /// Takes a line of progress.
    fn say(&self, line: &str);

    /// Takes a finished result.
    fn report(&self, report: &Report);
}

/// Repeated times of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// Median milliseconds of wall time.
    pub ms: f64,
    /// The shortest.
    pub least_ms: f64,
    /// The longest.
    pub most_ms: f64,
    /// Mean milliseconds of CPU time, where the machine tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
}

/// Spans of one thing, in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    wall: Vec<f64>,
    cpu: Option<f64>,
}

impl Spans {
    /// Times `work` and keeps the span; returns its seconds.
    pub(crate) async fn time<M: Machine>(
        &mut self,
        machine: &M,
        work: impl Future<Output = Result<(), BenchError>>,
    ) -> Result<f64, BenchError> {
        let cpu_before = machine.cpu_seconds().await;
        let before = machine.seconds();
        work.await?;
        let wall = machine.seconds() - before;
        let cpu_after = machine.cpu_seconds().await;
        self.wall.push(wall);
        if let (Some(before), Some(after)) = (cpu_before, cpu_after) {
            *self.cpu.get_or_insert(0.0) += after - before;
        }
        Ok(wall)
    }

    /// Median seconds.
    pub(crate) fn median(&self) -> f64 {
        median(&self.wall)
    }

    /// The times of one of the `parts` that each span did.
    pub(crate) fn timing(&self, parts: usize) -> Timing {
        let ms = 1e3 / parts.max(1) as f64;
        let (least, most) = range(&self.wall);
        Timing {
            ms: self.median() * ms,
            least_ms: least * ms,
            most_ms: most * ms,
            cpu_ms: self.cpu.map(|cpu| cpu / self.wall.len() as f64 * ms),
        }
    }
}

/// The median; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (_, 0) if values.is_empty() => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Smallest and largest.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &value| {
            (least.min(value), most.max(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_span_is_shared_out_to_its_parts() {
        let spans = Spans {
            wall: vec![0.4, 0.2, 0.3],
            cpu: Some(1.8),
        };
        let timing = spans.timing(2);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(timing.ms, 150.0) && close(timing.least_ms, 100.0) && close(timing.most_ms, 200.0));
        assert!(timing.cpu_ms.is_some_and(|cpu| close(cpu, 300.0)));
        assert_eq!(Spans::default().timing(1).cpu_ms, None);
    }
}
