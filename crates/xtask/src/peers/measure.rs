//! One job: its subjects made ready and warmed up, then asked in turn.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Error;

use super::REPETITIONS;
use super::host::{Ready, Stage};
use super::plan::{Job, Subject, Work};

/// Runs before any counts: V8 compiles again what has been called often, and the second, sometimes the third call still
/// costs twice.
const WARM_UP: usize = 3;
/// A run that takes longer is repeated less often, and one warm-up calls all of its code often enough.
const LONG: f64 = 10.0;
const LONG_REPETITIONS: usize = 5;
/// Seconds that a span of products lasts at least.
const SPAN: f64 = 0.02;
const MOST_PRODUCTS: usize = 4096;
/// The threads of onnxruntime and of OpenMP spin before they sleep, at the expense of whoever is next.
const SETTLE: Duration = Duration::from_millis(250);

/// What is timed: a subject with a number of candidates together, or products in a span.
struct Run<'a> {
    subject: &'a Subject,
    /// Which of the ready subjects.
    index: usize,
    count: usize,
    repetitions: usize,
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

/// The times of one job.
pub(super) struct Measurement<'a> {
    job: &'a Job,
    runs: Vec<Run<'a>>,
}

impl<'a> Measurement<'a> {
    /// Measures; `repetitions` overrides the usual number.
    ///
    /// # Errors
    /// A subject's.
    pub(super) fn new(
        job: &'a Job,
        subjects: &[&'a Subject],
        stage: &mut Stage,
        repetitions: Option<usize>,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        let mut ready = Vec::new();
        let mut runs = Vec::new();
        for (index, &subject) in subjects.iter().enumerate() {
            ready.push(stage.set_up(subject, job)?);
            let counts = if job.work == Work::Evaluation {
                subject.candidates
            } else {
                &[1]
            };
            for &count in counts {
                let mut run = Run {
                    subject,
                    index,
                    count,
                    repetitions: repetitions.unwrap_or(REPETITIONS),
                    wall: Vec::new(),
                    cpu: Vec::new(),
                };
                let seconds = run.warm_up(job, &mut ready[index], stage)?;
                if seconds > LONG && repetitions.is_none() {
                    run.repetitions = LONG_REPETITIONS;
                }
                if job.work != Work::Gemm {
                    println!("  ready: {}, {seconds:.2} s", run.name(job));
                }
                runs.push(run);
            }
        }
        let most = runs.iter().map(|run| run.repetitions).max().unwrap_or(0);
        let mut spinning = false;
        for repetition in 0..most {
            for run in runs.iter_mut().filter(|run| repetition < run.repetitions) {
                if spinning {
                    std::thread::sleep(SETTLE);
                }
                run.time(job, &mut ready[run.index], stage)?;
                spinning = run.subject.threads > 1;
            }
            if job.work != Work::Gemm {
                let seconds = began.elapsed().as_secs();
                println!("  repetition {} of {most}, {seconds} s since the start", repetition + 1);
            }
        }
        for subject in ready {
            subject.end(stage)?;
        }
        Ok(Self { job, runs })
    }

    /// A report for each run.
    pub(super) fn reports(&self) -> Vec<Value> {
        self.runs.iter().map(|run| self.report(run)).collect()
    }

    fn report(&self, run: &Run<'_>) -> Value {
        let job = self.job;
        let parts = run.parts(job);
        let each = |seconds: f64| seconds * 1e3 / parts;
        let range = |pick: fn(f64, f64) -> f64| run.wall.iter().copied().reduce(pick).map(each);
        let ms = each(median(&run.wall));
        let mut report = json!({
            "kind": format!("peer_{}", job.order["work"].as_str().unwrap_or_default()),
            "shape": job.shape,
            "subject": run.subject.name(),
            "threads": run.subject.threads,
            "repetitions": run.wall.len(),
            "time": {
                "ms": ms,
                "least_ms": range(f64::min),
                "most_ms": range(f64::max),
                "cpu_ms": each(run.cpu.iter().sum::<f64>() / run.cpu.len() as f64),
            },
        });
        match job.work {
            Work::Evaluation => {
                report["lengths"] = job.lengths.into();
                report["modules"] = run.subject.composes.into();
                report["candidates"] = run.count.into();
            }
            Work::Greedy => {
                report["modules"] = run.subject.composes.into();
                report["tokens_per_second"] = (new_tokens(job) * 1e3 / ms).into();
            }
            Work::Gemm => {
                let [rows, d_in, d_out] = job.product;
                report["rows"] = rows.into();
                report["d_in"] = d_in.into();
                report["d_out"] = d_out.into();
                report["gflops"] = (2.0 * (rows * d_in * d_out) as f64 / ms / 1e6).into();
            }
        }
        if let Some(ours) = self.measure_of(run) {
            report["of_ours"] = (ms / (median(&ours.wall) * 1e3 / ours.parts(job))).into();
        }
        report
    }

    /// Our own run that this one is held against: as many threads if there is one, else any; as many candidates together
    /// as there are. Nothing is held against itself.
    fn measure_of(&self, run: &Run<'_>) -> Option<&Run<'a>> {
        let ours = self.runs.iter().filter(|ours| ours.subject.is_measure());
        let best = ours.max_by_key(|ours| (ours.subject.threads == run.subject.threads, ours.count))?;
        (!std::ptr::eq(best, run)).then_some(best)
    }
}

impl Run<'_> {
    fn name(&self, job: &Job) -> String {
        let label = self.subject.label();
        if job.work == Work::Evaluation {
            format!("{label}, {} together", self.count)
        } else {
            label
        }
    }

    /// How many of what is reported a run does; products are counted like candidates.
    fn parts(&self, job: &Job) -> f64 {
        if job.work == Work::Greedy {
            1.0
        } else {
            self.count as f64
        }
    }

    /// Returns the seconds of the last warm-up.
    fn warm_up(&mut self, job: &Job, ready: &mut Ready, stage: &mut Stage) -> Result<f64, Error> {
        let mut seconds = 0.0;
        for _ in 0..WARM_UP {
            seconds = self.once(job, ready, stage)?.0;
            if seconds > LONG {
                break;
            }
        }
        while job.work == Work::Gemm && seconds < SPAN && self.count < MOST_PRODUCTS {
            let needed = (1.2 * SPAN / seconds.max(1e-6)).ceil() as usize;
            self.count = (self.count * needed.clamp(2, 8)).min(MOST_PRODUCTS);
            seconds = self.once(job, ready, stage)?.0;
        }
        Ok(seconds)
    }

    fn time(&mut self, job: &Job, ready: &mut Ready, stage: &mut Stage) -> Result<(), Error> {
        let (wall, cpu) = self.once(job, ready, stage)?;
        self.wall.push(wall);
        self.cpu.push(cpu);
        Ok(())
    }

    /// Wall and CPU seconds; what the work came to is looked at, because whoever does not do it is not measured.
    fn once(&self, job: &Job, ready: &mut Ready, stage: &mut Stage) -> Result<(f64, f64), Error> {
        let answer = ready.run(stage, self.count)?;
        let value = answer["value"].as_f64();
        let done = match job.work {
            Work::Evaluation => value.is_some_and(f64::is_finite),
            Work::Greedy => value == Some(new_tokens(job)),
            Work::Gemm => value == Some(self.count as f64),
        };
        match (done, answer["wall"].as_f64(), answer["cpu"].as_f64()) {
            (true, Some(wall), Some(cpu)) => Ok((wall, cpu)),
            _ => Err(Error::Check(format!(
                "{} has not done {}: {answer}",
                self.name(job),
                job.title()
            ))),
        }
    }
}

fn new_tokens(job: &Job) -> f64 {
    job.order["new_tokens"].as_f64().unwrap_or(f64::NAN)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (_, 0) if values.is_empty() => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Place;
    use crate::peers::plan;

    fn run(subject: &Subject, count: usize, wall: f64) -> Run<'_> {
        Run {
            subject,
            index: 0,
            count,
            repetitions: 1,
            wall: vec![wall],
            cpu: vec![wall],
        }
    }

    #[test]
    fn a_peer_is_held_against_ours_with_as_many_threads_and_the_most_candidates() {
        let subjects = plan::subjects(Place::Native);
        let of = |name: &str, threads| {
            subjects
                .iter()
                .find(|subject| subject.name() == name && subject.threads == threads)
                .expect("a subject")
        };
        let jobs = plan::jobs(Place::Native);
        let measurement = Measurement {
            job: &jobs[0],
            runs: vec![
                run(of("ours f32", 1), 1, 0.3),
                run(of("ours f32", 1), 16, 3.2),
                run(of("ours f32", 2), 16, 1.6),
                run(of("candle", 1), 1, 0.5),
                run(of("candle", 2), 1, 0.4),
            ],
        };
        let ratios: Vec<Option<f64>> = measurement
            .reports()
            .iter()
            .map(|report| report["of_ours"].as_f64().map(|ratio| (ratio * 10.0).round() / 10.0))
            .collect();
        assert_eq!(ratios, [Some(1.5), None, None, Some(2.5), Some(4.0)]);
    }
}
