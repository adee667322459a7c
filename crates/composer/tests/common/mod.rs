//! Evaluators whose losses are known functions of the weights.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};

use lorahub_composer::{
    Candidate, Clock, ComposerError, EvalFuture, Evaluator, EvaluatorError, Generation, Session, ShotLosses, Step,
};

/// Advances by a quarter of a second whenever it is read.
#[derive(Default)]
pub(crate) struct TickClock(Cell<f64>);

impl Clock for TickClock {
    fn seconds(&self) -> f64 {
        self.0.set(self.0.get() + 0.25);
        self.0.get()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the device is gone; try another")]
pub(crate) struct Gone;

type Loss = dyn Fn(&[f64]) -> f64;

/// Two shots of three and one tokens, whose common mean loss is `loss(w)`.
pub(crate) struct Mock {
    modules: usize,
    loss: Box<Loss>,
    /// The candidates of every call, in order.
    pub(crate) calls: RefCell<Vec<Vec<Vec<f64>>>>,
    /// How many calls from now on succeed.
    pub(crate) healthy: Cell<usize>,
}

impl Mock {
    pub(crate) fn new(modules: usize, loss: impl Fn(&[f64]) -> f64 + 'static) -> Self {
        Self {
            modules,
            loss: Box::new(loss),
            calls: RefCell::default(),
            healthy: Cell::new(usize::MAX),
        }
    }

    /// A loss with its minimum, `floor`, at `optimum`; no module pulls on another.
    pub(crate) fn bowl(optimum: &[f64], floor: f64) -> Self {
        let optimum = optimum.to_vec();
        Self::new(optimum.len(), move |w| {
            floor + w.iter().zip(&optimum).map(|(w, o)| (w - o) * (w - o)).sum::<f64>()
        })
    }

    pub(crate) fn evaluations(&self) -> usize {
        self.calls.borrow().iter().map(Vec::len).sum()
    }

    /// The candidates in order, whichever call they came with.
    pub(crate) fn candidates(&self) -> Vec<Vec<f64>> {
        self.calls.borrow().concat()
    }
}

impl Evaluator for Mock {
    fn modules(&self) -> usize {
        self.modules
    }

    fn evaluate<'a>(&'a self, candidates: &'a [Candidate]) -> EvalFuture<'a, Vec<ShotLosses>> {
        Box::pin(async move {
            if self.healthy.get() == 0 {
                return Err(EvaluatorError::new("device", Gone));
            }
            self.healthy.set(self.healthy.get() - 1);
            self.calls
                .borrow_mut()
                .push(candidates.iter().map(|c| c.weights.clone()).collect());
            let losses = candidates.iter().map(|candidate| {
                let loss = (self.loss)(&candidate.weights);
                ShotLosses {
                    nll: vec![3.0 * loss, loss],
                    tokens: vec![3, 1],
                }
            });
            Ok(losses.collect())
        })
    }

    /// Answers with the input and the sum of the weights.
    fn generate<'a>(
        &'a self,
        candidate: &'a Candidate,
        inputs: &'a [String],
        max_new_tokens: usize,
    ) -> EvalFuture<'a, Vec<Generation>> {
        Box::pin(async move {
            if self.healthy.get() == 0 {
                return Err(EvaluatorError::new("device", Gone));
            }
            self.healthy.set(self.healthy.get() - 1);
            self.calls
                .borrow_mut()
                .push(vec![candidate.weights.clone(); inputs.len()]);
            let sum: f64 = candidate.weights.iter().sum();
            let answer = |input: &String| Generation {
                text: format!(" {input} {sum}. "),
                ids: vec![max_new_tokens as u32],
            };
            Ok(inputs.iter().map(answer).collect())
        })
    }

    fn backend(&self) -> String {
        "mock".to_owned()
    }
}

pub(crate) fn step(session: &mut Session, mock: &Mock) -> Result<Step, ComposerError> {
    pollster::block_on(session.step(mock, &TickClock::default()))
}

/// Steps until the session has ended, and returns every report.
pub(crate) fn run(session: &mut Session, mock: &Mock) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        let reported = step(session, mock).expect("the mock is healthy");
        let done = matches!(reported, Step::Done { .. });
        steps.push(reported);
        if done {
            return steps;
        }
    }
}
