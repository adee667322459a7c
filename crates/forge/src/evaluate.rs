//! Searching the weights of targets and measuring what comes of it.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Instant;

use lorahub_adapters::{Bank, Rule};
use lorahub_composer::{
    Candidate, Clock, Evaluator, HeldOutSettings, Outcome, Session, Settings, ShotLosses, Step, evaluate_held_out,
    uniform, unit,
};
use lorahub_t5::{Engine, Model};
use lorahub_tensor::Cpu;
use serde::{Deserialize, Serialize};

use crate::ForgeError;
use crate::family::{Family, MAX_NEW_TOKENS};
use crate::rules::shipped;
use crate::target::Target;

/// What came of one search. Exact matches are in per cent of the target's held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The target's id.
    pub target: String,
    /// Its rules.
    pub rules: Vec<String>,
    /// Which draw of shots.
    pub draw: usize,
    /// The composition rule.
    pub rule: Rule,
    /// Evaluations done.
    pub evaluations: usize,
    /// Held-out rows.
    pub rows: usize,
    /// The weights found, in the family's order.
    pub weights: Vec<f64>,
    /// The weights the pass found.
    pub pass_weights: Vec<f64>,
    /// CE on the shots: base.
    pub base_loss: f64,
    /// CE on the shots: composed.
    pub loss: f64,
    /// CE on the shots: the target's own modules at weight 1.
    pub oracle_loss: f64,
    /// The best single module.
    pub single: String,
    /// Exact match of the base.
    pub base_match: f64,
    /// Exact match of the best single module.
    pub single_match: f64,
    /// Exact match of `w_i = 1/N`.
    pub uniform_match: f64,
    /// Exact match of the pass's result.
    pub pass_match: f64,
    /// Exact match of the composed module.
    pub composed_match: f64,
    /// Exact match of the target's own modules at weight 1: not found from shots, a ceiling of a kind.
    pub oracle_match: f64,
}

/// A family in memory, ready to be searched under both rules.
pub struct Bench {
    model: Rc<Model<Cpu>>,
    exact: Bank,
    reference: Bank,
}

struct Wall(Instant);

impl Clock for Wall {
    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

impl Bench {
    /// Loads base and modules.
    ///
    /// # Errors
    /// The files'.
    pub fn load(family: &Family) -> Result<Self, ForgeError> {
        let base = family.base_spec()?;
        let mut modules = Vec::new();
        for rule in shipped() {
            modules.push(family.module(rule.name, &base)?);
        }
        Ok(Self {
            model: family.model()?,
            exact: Bank::new(modules.clone(), Rule::Exact)?,
            reference: Bank::new(modules, Rule::Reference)?,
        })
    }

    fn bank(&self, rule: Rule) -> &Bank {
        match rule {
            Rule::Exact => &self.exact,
            Rule::Reference => &self.reference,
        }
    }

    /// An engine with the shots of one draw.
    ///
    /// # Errors
    /// The model's.
    pub fn engine(&self, target: &Target, draw: usize, rule: Rule) -> Result<Engine<Cpu>, ForgeError> {
        Ok(self.model.engine(Some(self.bank(rule)), target.draw(draw))?)
    }

    /// Weight 1 on the target's own modules.
    pub fn oracle(&self, target: &Target) -> Vec<f64> {
        let of = |name: &str| f64::from(u8::from(target.rules.iter().any(|rule| rule.name == name)));
        shipped().map(|rule| of(rule.name)).collect()
    }

    /// Searches the weights for one draw of a target, and answers its held-out rows under every baseline.
    ///
    /// # Errors
    /// The search's and the model's.
    pub fn run(&self, target: &Target, draw: usize, settings: &Settings) -> Result<Run, ForgeError> {
        let rule = settings.rule;
        let engine = self.engine(target, draw, rule)?;
        let outcome = search(&engine, settings, self.exact.len())?;
        let modules = self.exact.len();
        let single = outcome.best_single.as_ref().map_or(0, |single| single.index);
        let oracle = self.oracle(target);
        let candidates: Vec<(String, Vec<f64>)> = [
            ("base", vec![0.0; modules]),
            ("single", unit(modules, single)),
            ("uniform", uniform(modules)),
            ("pass", outcome.pass.weights.clone()),
            ("composed", outcome.weights.clone()),
            ("oracle", oracle.clone()),
        ]
        .into_iter()
        .map(|(name, weights)| (name.to_owned(), weights))
        .collect();
        let held_out = HeldOutSettings {
            batch: 100,
            max_new_tokens: MAX_NEW_TOKENS,
        };
        let ended = pollster::block_on(evaluate_held_out(
            &engine,
            &target.test,
            &candidates,
            held_out,
            &mut |_| ControlFlow::Continue(()),
        ))?;
        let percent = |name: &str| ended.accuracy.get(name).map_or(0.0, |accuracy| accuracy.percent);
        Ok(Run {
            target: target.id.clone(),
            rules: target.rule_names().into_iter().map(str::to_owned).collect(),
            draw,
            rule,
            evaluations: outcome.evaluations,
            rows: ended.n,
            base_loss: outcome.base.loss,
            loss: outcome.loss,
            oracle_loss: loss(&engine, &oracle)?,
            single: self.exact.names().nth(single).unwrap_or_default().to_owned(),
            base_match: percent("base"),
            single_match: percent("single"),
            uniform_match: percent("uniform"),
            pass_match: percent("pass"),
            composed_match: percent("composed"),
            oracle_match: percent("oracle"),
            pass_weights: outcome.pass.weights,
            weights: outcome.weights,
        })
    }

    /// [`run`](Self::run), with a line of progress.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_shown(&self, target: &Target, draw: usize, settings: &Settings) -> Result<Run, ForgeError> {
        let started = Instant::now();
        let run = self.run(target, draw, settings)?;
        eprintln!(
            "{} {} {draw}: base {:.0}, {} {:.0}, pass {:.0}, composed {:.0}, own modules at 1 {:.0} ({:.0} s)",
            settings.rule,
            run.rules.join("+"),
            run.base_match,
            run.single,
            run.single_match,
            run.pass_match,
            run.composed_match,
            run.oracle_match,
            started.elapsed().as_secs_f64()
        );
        Ok(run)
    }
}

/// A whole search.
///
/// # Errors
/// The session's.
pub fn search(engine: &Engine<Cpu>, settings: &Settings, modules: usize) -> Result<Outcome, ForgeError> {
    let mut session = Session::new(settings.clone(), modules)?;
    let clock = Wall(Instant::now());
    while let Step::Progress(_) = pollster::block_on(session.step(engine, &clock))? {}
    Ok(session.outcome()?)
}

/// CE of a candidate on an engine's shots.
///
/// # Errors
/// The device's.
pub fn loss(engine: &Engine<Cpu>, weights: &[f64]) -> Result<f64, ForgeError> {
    let candidates = [Candidate {
        weights: weights.to_vec(),
    }];
    let losses = pollster::block_on(engine.evaluate(&candidates))?;
    Ok(losses.first().map_or(f64::NAN, ShotLosses::batch_loss))
}
