//! `lorahub adapt`: the search.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lorahub_adapters::{Bank, Rule, compose, export};
use lorahub_composer::{
    BaseRef, Checkpoint, ComposerError, ModuleRef, Objective, ObjectiveName, Outcome, RunInputs, RunRecord, Session,
    SessionState, Settings, Shot, Step, StopReason, backend_then, shots_bytes,
};
use lorahub_devices::{DeviceChoice, is_device_failure};
use lorahub_t5::AnyEngine;
use lorahub_weights::sha256_hex;
use serde::Serialize;

use crate::args::{AdaptArgs, Modules};
use crate::base::Base;
use crate::commands::export::{check_out, provenance, write_adapter};
use crate::error::CliError;
use crate::files::{JSON_BYTES, make_folder, read, read_rows, write};
use crate::modules;
use crate::output::{Reporter, Watch, print, print_json, say, warn};

/// What `adapt --json` prints.
#[derive(Debug, Serialize)]
struct Adapted<'a> {
    weights: &'a [f64],
    modules: Vec<&'a str>,
    /// The value reached.
    objective: f64,
    objective_name: ObjectiveName,
    l1: f64,
    /// CE without the penalty.
    loss: f64,
    evaluations: usize,
    seconds: f64,
    seed: u64,
    rule: Rule,
    stop_reason: StopReason,
    backend: String,
    /// The objectives of the baselines and of the parts of the search.
    compared: Compared<'a>,
}

/// Objectives on the shots.
#[derive(Debug, Serialize)]
struct Compared<'a> {
    base: f64,
    best_single: Option<f64>,
    best_single_module: Option<&'a str>,
    uniform: Option<f64>,
    pass: f64,
    search: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Those of the files it reads and writes, of the settings, and of the search.
pub(crate) fn run(arguments: &AdaptArgs) -> Result<(), CliError> {
    let modules = arguments.modules.find(&arguments.base.store)?;
    modules.required()?;
    let place = arguments.base.place()?;
    let saved = match &arguments.resume {
        Some(path) => Some(Checkpoint::from_json(&read(path, JSON_BYTES)?)?),
        None => None,
    };
    let (settings, because) = settings(arguments, &modules, saved.as_ref())?;
    let shots = read_rows(&arguments.shots)?;
    if let Some(out) = &arguments.out {
        check_out(&out.join("adapter"), &place, &modules)?;
        make_folder(out)?;
    }
    let stop = listen();
    let dtype = arguments.base.dtype;
    let base = Base::load_on(&place, arguments.base.backend.into(), dtype, Some(&stop))?;
    say(&format!("rule `{}` ({because})", settings.rule));
    let bank = modules::bank_under(settings.rule, &modules, &base.model.base_spec())?;
    let engine = base.engine(Some(&bank), &shots, &arguments.shots)?;
    let inputs = inputs(&base, &bank, &shots);
    let (mut session, backend) = match saved {
        Some(saved) => {
            saved.check(&inputs)?;
            (
                Session::resume(saved.session)?,
                backend_then(&saved.backend, &engine.backend()),
            )
        }
        None => (Session::new(settings, bank.len())?, engine.backend()),
    };
    if backend != engine.backend() {
        warn(&format!(
            "this search was computed by {backend}: its numbers are not quite those that one alone would give"
        ));
    }

    let save = |state: SessionState, backend: &str| match &arguments.out {
        Some(out) => write(
            &out.join("checkpoint.json"),
            &Checkpoint::new(inputs.clone(), backend.to_owned(), state).to_json()?,
        ),
        None => Ok(()),
    };
    let on_cpu = || {
        let base = Base::load_on(&place, DeviceChoice::Cpu, dtype, Some(&stop))?;
        base.engine(Some(&bank), &shots, &arguments.shots)
    };
    let backend = search(&mut session, engine, backend, on_cpu, &stop, save)?;

    let outcome = session.outcome()?;
    if let Some(out) = &arguments.out {
        let program = concat!("lorahub ", env!("CARGO_PKG_VERSION"));
        let record = RunRecord::new(
            program,
            outcome.clone(),
            session.settings(),
            inputs.clone(),
            backend.clone(),
        );
        let provenance = provenance(&base, &bank, &outcome.weights, Some(outcome.seed), &modules)?;
        let files = export(&compose(&bank, &outcome.weights)?, &provenance)?;
        write_adapter(&out.join("adapter"), &files)?;
        write_json(&out.join("run.json"), &record)?;
    }
    report(arguments, &outcome, &bank, session.settings(), backend)
}

/// The settings, and why the rule is what it is. A saved search has settled all of them; flags may repeat them and not
/// contradict.
fn settings(
    arguments: &AdaptArgs,
    modules: &Modules,
    saved: Option<&Checkpoint>,
) -> Result<(Settings, String), CliError> {
    let Some(saved) = saved else {
        let (rule, because) = modules::rule(modules)?;
        let name = arguments.objective.unwrap_or(ObjectiveName::Normalised);
        let defaults = Settings::new(rule);
        let settings = Settings {
            objective: Objective::new(name, arguments.l1).map_err(usage)?,
            budget: arguments.budget.unwrap_or(defaults.budget),
            seed: arguments.seed.unwrap_or(defaults.seed),
            ..defaults
        };
        return Ok((settings, because));
    };
    let settings = saved.session.settings().clone();
    agree("--rule", arguments.modules.rule, settings.rule)?;
    agree("--objective", arguments.objective, settings.objective.name)?;
    agree("--l1", arguments.l1, settings.objective.l1)?;
    agree("--budget", arguments.budget, settings.budget)?;
    agree("--seed", arguments.seed, settings.seed)?;
    Ok((settings, "as saved".to_owned()))
}

fn agree<T: PartialEq + std::fmt::Display>(flag: &str, given: Option<T>, saved: T) -> Result<(), CliError> {
    match given {
        Some(given) if given != saved => Err(CliError::Usage(format!(
            "{flag} is {given}, and the saved search has {saved}; leave {flag} out, or start a new search"
        ))),
        _ => Ok(()),
    }
}

/// A setting that contradicts another is a matter of the command line.
fn usage(error: ComposerError) -> CliError {
    CliError::Usage(error.to_string())
}

/// A flag that Ctrl-C raises. The second one ends the program at once.
fn listen() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let set = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    if set.is_err() {
        say("Ctrl-C cannot be caught here, and will end the search without a result");
    }
    stop
}

fn inputs(base: &Base, bank: &Bank, shots: &[Shot]) -> RunInputs {
    RunInputs {
        base: BaseRef {
            id: base.id.clone(),
            sha256: base.model.sha256().to_owned(),
        },
        modules: bank
            .modules()
            .iter()
            .map(|module| ModuleRef {
                name: module.name.clone(),
                sha256: module.sha256.clone(),
            })
            .collect(),
        shots_sha256: sha256_hex(&shots_bytes(shots)),
        shots: shots.len(),
    }
}

/// Steps to the end, or until the flag is raised; saves before the first step, so that a place that cannot be written
/// is known at once, and after each. Where the device fails, the same generation comes again on the CPU. Returns what
/// computed.
fn search(
    session: &mut Session,
    mut engine: Box<dyn AnyEngine>,
    mut backend: String,
    on_cpu: impl FnOnce() -> Result<Box<dyn AnyEngine>, CliError>,
    stop: &AtomicBool,
    save: impl Fn(SessionState, &str) -> Result<(), CliError>,
) -> Result<String, CliError> {
    let clock = Watch::start();
    let mut reporter = Reporter::new();
    let mut on_cpu = Some(on_cpu);
    save(session.state(), &backend)?;
    let done = loop {
        if stop.load(Ordering::Relaxed) {
            session.cancel();
        }
        match pollster::block_on(session.step(&*engine, &clock)) {
            Ok(Step::Progress(progress)) => {
                reporter.search(&progress);
                save(session.state(), &backend)?;
            }
            Ok(Step::Done { .. }) => break Ok(()),
            // Stopped inside a generation: the session is as before it, and the next step ends it.
            Err(error) if error.code() == "cancelled" && stop.load(Ordering::Relaxed) => session.cancel(),
            Err(error) if is_device_failure(error.code()) => {
                let Some(on_cpu) = on_cpu.take() else {
                    break Err(error.into());
                };
                reporter.finish();
                warn(&format!("{error}; the search goes on on the CPU"));
                engine = on_cpu()?;
                backend = backend_then(&backend, &engine.backend());
            }
            Err(error) => break Err(error.into()),
        }
    };
    reporter.finish();
    done.map(|()| backend)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| CliError::Write {
        path: path.to_owned(),
        source: error.into(),
    })?;
    write(path, &json)
}

fn report(
    arguments: &AdaptArgs,
    outcome: &Outcome,
    bank: &Bank,
    settings: &Settings,
    backend: String,
) -> Result<(), CliError> {
    let modules: Vec<&str> = bank.names().collect();
    let best_single = outcome.best_single.as_ref();
    if arguments.json {
        return print_json(&Adapted {
            weights: &outcome.weights,
            objective: outcome.objective,
            objective_name: outcome.objective_name,
            l1: settings.objective.l1,
            loss: outcome.loss,
            evaluations: outcome.evaluations,
            seconds: outcome.seconds,
            seed: outcome.seed,
            rule: outcome.rule,
            stop_reason: outcome.stop_reason,
            backend,
            compared: Compared {
                base: outcome.base.objective,
                best_single: best_single.map(|single| single.point.objective),
                best_single_module: best_single.and_then(|single| modules.get(single.index).copied()),
                uniform: outcome.uniform.as_ref().map(|point| point.objective),
                pass: outcome.pass.objective,
                search: outcome.search.as_ref().map(|point| point.objective),
            },
            modules,
        });
    }
    print(&format!(
        "objective {:.6} ({}), cross-entropy {:.6}; base {:.6}",
        outcome.objective, outcome.objective_name, outcome.loss, outcome.base.loss
    ))?;
    print(&format!(
        "{} evaluations in {:.1} s, rule `{}`, seed {}, stopped by: {}",
        outcome.evaluations, outcome.seconds, outcome.rule, outcome.seed, outcome.stop_reason
    ))?;
    for (name, weight) in modules.iter().zip(&outcome.weights) {
        print(&format!("  {weight:>9.5}  {name}"))?;
    }
    if let Some(out) = &arguments.out {
        print(&format!("written to {}", out.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use lorahub_composer::{Candidate, EvalFuture, Evaluator, EvaluatorError, Generation, ShotLosses};
    use lorahub_t5::{Cost, ModelFuture, OnToken};

    use super::*;

    /// Two modules whose best composition is (1, 0); fails after some generations, as a lost device does.
    struct Bowl {
        generations: Rc<Cell<usize>>,
        fails_after: usize,
        code: &'static str,
    }

    impl Evaluator for Bowl {
        fn modules(&self) -> usize {
            2
        }

        fn evaluate<'a>(&'a self, candidates: &'a [Candidate]) -> EvalFuture<'a, Vec<ShotLosses>> {
            let generation = self.generations.get();
            self.generations.set(generation + 1);
            let fails = generation >= self.fails_after;
            Box::pin(async move {
                if fails {
                    let lost = std::io::Error::other("the driver was reset");
                    return Err(EvaluatorError::new(self.code, lost));
                }
                let loss = |w: &[f64]| ShotLosses {
                    nll: vec![1.0 + (w[0] - 1.0).powi(2) + w[1].powi(2)],
                    tokens: vec![1],
                };
                Ok(candidates.iter().map(|candidate| loss(&candidate.weights)).collect())
            })
        }

        fn generate<'a>(&'a self, _: &'a Candidate, _: &'a [String], _: usize) -> EvalFuture<'a, Vec<Generation>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn backend(&self) -> String {
            if self.fails_after == usize::MAX {
                "cpu"
            } else {
                "webgpu"
            }
            .to_owned()
        }
    }

    impl AnyEngine for Bowl {
        fn cost(&self) -> Option<Cost> {
            None
        }

        fn truncated(&self) -> &[usize] {
            &[]
        }

        fn generate_stream<'a>(
            &'a self,
            _: &'a [f64],
            _: &'a str,
            _: usize,
            _: &'a mut OnToken<'_>,
        ) -> ModelFuture<'a, Generation> {
            unreachable!("a search streams nothing")
        }
    }

    fn bowl(fails_after: usize, code: &'static str) -> (Box<dyn AnyEngine>, Rc<Cell<usize>>) {
        let generations = Rc::new(Cell::new(0));
        let engine = Bowl {
            generations: generations.clone(),
            fails_after,
            code,
        };
        (Box::new(engine), generations)
    }

    fn session() -> Session {
        let settings = Settings {
            budget: 60,
            ..Settings::new(Rule::Exact)
        };
        Session::new(settings, 2).unwrap()
    }

    fn searched(session: &mut Session, engine: Box<dyn AnyEngine>) -> Result<String, CliError> {
        let on_cpu = || Ok(bowl(usize::MAX, "").0);
        let backend = engine.backend();
        search(session, engine, backend, on_cpu, &AtomicBool::new(false), |_, _| Ok(()))
    }

    #[test]
    fn a_lost_device_costs_the_search_nothing() {
        let mut undisturbed = session();
        assert_eq!(searched(&mut undisturbed, bowl(usize::MAX, "").0).unwrap(), "cpu");
        let mut disturbed = session();
        let (gpu, generations) = bowl(3, "device_lost");
        assert_eq!(searched(&mut disturbed, gpu).unwrap(), "webgpu, then cpu");
        assert_eq!(generations.get(), 4);
        let (expected, found) = (undisturbed.outcome().unwrap(), disturbed.outcome().unwrap());
        assert_eq!(found.weights, expected.weights);
        assert_eq!(found.history, expected.history);
    }

    #[test]
    fn what_is_no_failure_of_the_device_ends_the_search() {
        let error = searched(&mut session(), bowl(0, "weights").0).unwrap_err();
        assert!(error.to_string().contains("the driver was reset"), "{error}");
    }
}
