//! The search session: what it evaluates, when it ends, and what it says.

mod common;

use common::{Mock, TickClock, run, step};
use lorahub_adapters::Rule;
use lorahub_composer::{
    ComposerError, Objective, ObjectiveName, Phase, Session, Settings, Step, StopReason, uniform, unit,
};

fn settings(budget: usize) -> Settings {
    Settings {
        budget,
        ..Settings::new(Rule::Exact)
    }
}

fn session(budget: usize, modules: usize) -> Session {
    Session::new(settings(budget), modules).unwrap()
}

/// Three of eight modules, wanted at 1: the pass's own kind of optimum.
fn set_of_three() -> Mock {
    Mock::bowl(&[0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0], 0.2)
}

#[test]
fn the_first_round_is_base_units_uniform() {
    let mock = set_of_three();
    let mut session = session(10, 8);
    run(&mut session, &mock);
    let mut expected = vec![vec![0.0; 8]];
    expected.extend((0..8).map(|module| unit(8, module)));
    expected.push(uniform(8));
    assert_eq!(mock.candidates(), expected);
}

#[test]
fn the_pass_finds_the_set() {
    let mock = set_of_three();
    let mut session = session(200, 8);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.pass.weights, [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(outcome.pass.loss, 0.2);
    let best_single = outcome.best_single.unwrap();
    assert_eq!(best_single.index, 1, "the first of equals");
    assert!((best_single.point.loss - 2.2).abs() < 1e-12);
    assert!((outcome.base.loss - 3.2).abs() < 1e-12);
    // Singles 10, then rounds of 7 and 6 add a module each, 5 add none, and 2 are left out in vain.
    let of_phase = |phase| outcome.history.iter().filter(|point| point.phase == phase).count();
    assert_eq!((of_phase(Phase::Singles), of_phase(Phase::Pass)), (10, 7 + 6 + 5 + 2));
}

#[test]
fn the_pass_adds_the_largest_gain_and_tries_the_best_ranked_first() {
    let mock = Mock::bowl(&[0.3, 1.0, 0.0, 0.8], 0.0);
    let mut session = session(200, 4);
    run(&mut session, &mock);
    let sum = |modules: &[usize]| {
        (0..4)
            .map(|m| if modules.contains(&m) { 1.0 } else { 0.0 })
            .collect::<Vec<f64>>()
    };
    // Alone they rank 1, 3, 0, 2.
    assert_eq!(mock.candidates()[6..9], [sum(&[1, 3]), sum(&[0, 1]), sum(&[1, 2])]);
    assert_eq!(session.outcome().unwrap().pass.weights, sum(&[1, 3]));
}

#[test]
fn the_pass_leaves_out_a_module_that_company_made_useless() {
    // Module 0 alone is best; with 1 and 2 present it only costs.
    let mock = Mock::new(4, |w| {
        let pair = if w[1] == 1.0 && w[2] == 1.0 { -3.0 } else { 0.0 };
        5.0 - 1.5 * w[0] - w[1] - w[2] + pair + if pair < 0.0 { 2.0 * w[0] } else { 0.0 } + 9.0 * w[3] * w[3]
    });
    let mut session = session(200, 4);
    run(&mut session, &mock);
    assert_eq!(session.outcome().unwrap().pass.weights, [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn the_pass_tries_at_most_its_width() {
    let mock = set_of_three();
    let settings = Settings {
        pass_width: 3,
        ..settings(200)
    };
    let mut session = Session::new(settings, 8).unwrap();
    run(&mut session, &mock);
    let rounds = mock.candidates()[10..]
        .iter()
        .take_while(|w| w.iter().all(|&w| w == 0.0 || w == 1.0))
        .count();
    assert_eq!(rounds, 3 + 3 + 3 + 2);
}

#[test]
fn the_search_moves_off_the_corners() {
    let optimum = [0.3, 1.2, -0.4, 0.7];
    let mock = Mock::bowl(&optimum, 0.5);
    let free = Settings {
        objective: Objective::new(ObjectiveName::Normalised, Some(0.0)).unwrap(),
        ..settings(2000)
    };
    let mut session = Session::new(free, 4).unwrap();
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.stop_reason, StopReason::Converged);
    let search = outcome.search.as_ref().unwrap();
    assert!(search.objective < outcome.pass.objective);
    assert_eq!(search.weights, outcome.weights);
    for (found, wanted) in outcome.weights.iter().zip(optimum) {
        assert!((found - wanted).abs() < 0.02, "{found} against {wanted}");
    }
}

#[test]
fn the_pass_stays_the_result_where_the_search_finds_nothing_better() {
    let mock = set_of_three();
    let mut session = session(60, 8);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.weights, outcome.pass.weights);
    assert!(outcome.search.unwrap().objective > outcome.objective);
}

#[test]
fn weights_stay_in_the_box() {
    let mock = Mock::bowl(&[9.0, -9.0, 9.0], 0.0);
    let mut session = session(400, 3);
    run(&mut session, &mock);
    assert!(mock.candidates().iter().flatten().all(|w| w.abs() <= 1.5));
    assert!(session.outcome().unwrap().weights[0] > 1.4);
}

#[test]
fn no_budget_is_exceeded_or_left() {
    for budget in 1..=70 {
        for max_generation in [1, 5, 16, 64] {
            let mock = set_of_three();
            let settings = Settings {
                max_generation,
                tol_fun: 0.0,
                ..settings(budget)
            };
            let mut session = Session::new(settings, 8).unwrap();
            run(&mut session, &mock);
            let outcome = session.outcome().unwrap();
            assert_eq!(mock.evaluations(), budget);
            assert_eq!(outcome.evaluations, budget);
            assert_eq!(outcome.history.len(), budget);
            assert_eq!(outcome.stop_reason, StopReason::Budget);
            assert!(
                mock.calls
                    .borrow()
                    .iter()
                    .all(|call| (1..=max_generation).contains(&call.len()))
            );
            assert_eq!(outcome.generations, mock.calls.borrow().len());
        }
    }
}

#[test]
fn generations_do_not_change_the_search() {
    let results: Vec<_> = [1, 7, 16, 100]
        .map(|max_generation| {
            let mock = Mock::bowl(&[0.3, 1.2, -0.4, 0.7, 0.1], 0.5);
            let settings = Settings {
                max_generation,
                ..settings(150)
            };
            let mut session = Session::new(settings, 5).unwrap();
            run(&mut session, &mock);
            mock.candidates()
        })
        .into();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_best_point_of_a_cut_generation_counts() {
    // Singles 6 and a pass of 3 + 2 (the set is full of what helps); then 4 of a generation of 16.
    let optimum = [1.2, 1.2, 0.0];
    let mock = Mock::bowl(&optimum, 0.5);
    let mut session = session(16, 3);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    let cut: Vec<_> = outcome
        .history
        .iter()
        .filter(|point| point.phase == Phase::Search)
        .collect();
    assert!(!cut.is_empty() && cut.len() < 16);
    let lowest = cut
        .iter()
        .filter_map(|point| point.objective)
        .fold(f64::INFINITY, f64::min);
    assert_eq!(outcome.search.unwrap().objective, lowest);
}

#[test]
fn one_module_has_itself_for_uniform() {
    let mock = Mock::bowl(&[0.8], 0.1);
    let mut session = session(40, 1);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(mock.candidates()[..2], [vec![0.0], vec![1.0]]);
    assert_eq!(outcome.uniform.unwrap(), outcome.best_single.unwrap().point);
    assert!((outcome.weights[0] - 0.8).abs() < 0.1);
}

#[test]
fn two_modules_and_a_full_set() {
    let mock = Mock::bowl(&[1.0, 1.0], 0.1);
    let mut session = session(60, 2);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.pass.weights, [1.0, 1.0]);
    assert_eq!(mock.candidates()[4..5], [vec![1.0, 1.0]]);
}

#[test]
fn without_a_helpful_module_the_search_starts_at_the_best_point() {
    let mock = Mock::bowl(&[0.1, 0.1, 0.1], 0.1);
    let mut session = session(40, 3);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.pass.weights, [0.0; 3]);
    assert!(outcome.history.iter().all(|point| point.phase != Phase::Pass));
    assert!(outcome.objective <= outcome.base.objective);
}

/// Under rule `reference` the update is quadratic in `w`: this loss is flat at 0, and falls beyond a ridge.
#[test]
fn under_the_reference_rule_the_search_leaves_the_saddle() {
    let quadratic = |w: &[f64]| 2.0 + 0.4 * w[0] * w[0] - 2.5 * w[0] * w[0] * w[1] * w[1] + (w[2] * w[2] + w[3] * w[3]);
    let start_of = |rule| {
        let mock = Mock::new(4, quadratic);
        let mut session = Session::new(Settings { rule, ..settings(300) }, 4).unwrap();
        run(&mut session, &mock);
        let outcome = session.outcome().unwrap();
        assert_eq!(outcome.pass.weights, [0.0; 4], "no module alone beats the base");
        let first = mock.candidates()[6..22].to_vec();
        (
            outcome,
            (0..4)
                .map(|i| first.iter().map(|w| w[i]).sum::<f64>() / 16.0)
                .collect::<Vec<f64>>(),
        )
    };
    let (reference, mean) = start_of(Rule::Reference);
    assert!(
        (mean[1] - 1.0).abs() < 0.2 && mean[0].abs() < 0.2,
        "the best single is the second: {mean:?}"
    );
    assert!(reference.objective < reference.base.objective);
    let (_, mean) = start_of(Rule::Exact);
    assert!(mean.iter().all(|w| w.abs() < 0.2), "{mean:?}");
}

#[test]
fn same_seed_same_search_other_seed_another() {
    let candidates = |seed| {
        let mock = Mock::bowl(&[0.3, 1.2, -0.4], 0.5);
        let settings = Settings { seed, ..settings(100) };
        let mut session = Session::new(settings, 3).unwrap();
        run(&mut session, &mock);
        mock.candidates()
    };
    assert_eq!(candidates(3), candidates(3));
    assert_ne!(candidates(3), candidates(4));
}

#[test]
fn overflow_is_the_worst_there_is() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mock = Mock::new(4, move |w| {
            if w[2] > 0.5 {
                bad
            } else {
                1.0 + (w[0] - 1.0).powi(2) + w[1] * w[1] + w[3] * w[3]
            }
        });
        let mut session = session(120, 4);
        let steps = run(&mut session, &mock);
        let outcome = session.outcome().unwrap();
        assert!(outcome.weights[2] <= 0.5 && outcome.objective.is_finite());
        assert_eq!(outcome.history[3].loss, None);
        assert_eq!(outcome.history[3].objective, None);
        // What overflows alone is not tried in company.
        assert!(mock.candidates()[6..8].iter().all(|w| w[2] == 0.0));
        let json = serde_json::to_string(&steps).unwrap();
        assert!(
            json.contains(r#""evaluation":4,"phase":"singles","loss":null,"objective":null"#),
            "{json}"
        );
    }
}

#[test]
fn a_base_that_overflows_is_an_error() {
    let mock = Mock::new(3, |w| if w.iter().all(|&w| w == 0.0) { f64::NAN } else { 1.0 });
    let mut session = session(50, 3);
    assert!(matches!(step(&mut session, &mock), Err(ComposerError::BaseOverflow)));
    assert_eq!(session.state().evaluations(), 0);
    assert!(matches!(session.outcome(), Err(ComposerError::NothingEvaluated)));
}

#[test]
fn modules_that_all_overflow_leave_the_base() {
    let mock = Mock::new(3, |w| if w.iter().all(|&w| w == 0.0) { 1.0 } else { f64::NAN });
    let mut session = session(50, 3);
    run(&mut session, &mock);
    let outcome = session.outcome().unwrap();
    assert_eq!(outcome.weights, [0.0; 3]);
    assert!(outcome.best_single.is_none() && outcome.uniform.is_none() && outcome.search.is_none());
}

#[test]
fn progress_says_how_far_it_is() {
    let mock = set_of_three();
    let clock = TickClock::default();
    let mut session = session(100, 8);
    let step = pollster::block_on(session.step(&mock, &clock)).unwrap();
    let Step::Progress(progress) = &step else {
        panic!("{step:?}");
    };
    assert_eq!(
        (progress.phase, progress.generation, progress.evaluations),
        (Phase::Singles, 1, 10)
    );
    // Ten evaluations between two ticks of a quarter of a second.
    assert!((progress.evaluations_per_second - 40.0).abs() < 1e-9);
    assert!((progress.seconds_left - 90.0 / 40.0).abs() < 1e-9);
    assert_eq!(progress.points.len(), 10);
    assert_eq!(progress.points[9].evaluation, 10);
    assert_eq!(progress.best_single.as_ref().unwrap().index, 1);
    let json = serde_json::to_value(&step).unwrap();
    assert_eq!(json["type"], "progress");
    for name in [
        "evaluationsPerSecond",
        "secondsLeft",
        "bestSingle",
        "best",
        "base",
        "budget",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    session.cancel();
    let done = serde_json::to_value(pollster::block_on(session.step(&mock, &clock)).unwrap()).unwrap();
    assert_eq!(done, serde_json::json!({ "type": "done", "stopReason": "cancelled" }));
}

#[test]
fn the_outcome_is_what_the_page_reads() {
    let mock = set_of_three();
    let mut session = session(60, 8);
    run(&mut session, &mock);
    let json = serde_json::to_value(session.outcome().unwrap()).unwrap();
    for name in [
        "weights",
        "loss",
        "objective",
        "objectiveName",
        "rule",
        "seed",
        "budget",
        "evaluations",
        "seconds",
        "stopReason",
        "base",
        "bestSingle",
        "uniform",
        "pass",
        "search",
    ] {
        assert!(json.get(name).is_some(), "{name}");
    }
    for name in ["index", "weights", "loss", "objective"] {
        assert!(json["bestSingle"].get(name).is_some(), "{name}");
    }
}

#[test]
fn cancelling_keeps_the_best() {
    let mock = set_of_three();
    let mut session = session(200, 8);
    for _ in 0..3 {
        step(&mut session, &mock).unwrap();
    }
    let before = session.outcome().unwrap();
    session.cancel();
    let evaluations = mock.evaluations();
    assert_eq!(
        step(&mut session, &mock).unwrap(),
        Step::Done {
            stop_reason: StopReason::Cancelled
        }
    );
    let outcome = session.outcome().unwrap();
    assert_eq!(mock.evaluations(), evaluations);
    assert_eq!(outcome, before);
    assert_eq!(outcome.stop_reason, StopReason::Cancelled);
    assert!(outcome.objective < outcome.base.objective);
}

#[test]
fn cancelling_an_ended_search_changes_nothing() {
    let mock = set_of_three();
    let mut session = session(30, 8);
    run(&mut session, &mock);
    session.cancel();
    assert_eq!(
        step(&mut session, &mock).unwrap(),
        Step::Done {
            stop_reason: StopReason::Budget
        }
    );
}

#[test]
fn a_failing_device_leaves_the_session_for_another() {
    let whole = set_of_three();
    let mut undisturbed = session(90, 8);
    run(&mut undisturbed, &whole);

    for healthy in 0..whole.calls.borrow().len() {
        let (first, second) = (set_of_three(), set_of_three());
        first.healthy.set(healthy);
        let mut session = session(90, 8);
        for _ in 0..healthy {
            step(&mut session, &first).unwrap();
        }
        let before = serde_json::to_string(&session.state()).unwrap();
        let error = step(&mut session, &first).unwrap_err();
        assert_eq!(error.code(), "device");
        assert_eq!(error.to_string(), "the device is gone; try another");
        assert_eq!(serde_json::to_string(&session.state()).unwrap(), before);
        run(&mut session, &second);
        let candidates: Vec<_> = [first.candidates(), second.candidates()].concat();
        assert_eq!(candidates, whole.candidates());
    }
}

#[test]
fn a_dropped_step_leaves_the_session_as_it_was() {
    use std::future::{Future as _, pending};
    use std::task::{Context, Waker};
    struct Never;
    impl lorahub_composer::Evaluator for Never {
        fn modules(&self) -> usize {
            8
        }
        fn evaluate<'a>(
            &'a self,
            _: &'a [lorahub_composer::Candidate],
        ) -> lorahub_composer::EvalFuture<'a, Vec<lorahub_composer::ShotLosses>> {
            Box::pin(pending())
        }
        fn generate<'a>(
            &'a self,
            _: &'a lorahub_composer::Candidate,
            _: &'a [String],
            _: usize,
        ) -> lorahub_composer::EvalFuture<'a, Vec<lorahub_composer::Generation>> {
            Box::pin(pending())
        }
        fn backend(&self) -> String {
            "never".to_owned()
        }
    }
    let mut session = session(50, 8);
    let before = serde_json::to_string(&session.state()).unwrap();
    let clock = TickClock::default();
    let mut step = Box::pin(session.step(&Never, &clock));
    assert!(step.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(step);
    assert_eq!(serde_json::to_string(&session.state()).unwrap(), before);
    run(&mut session, &set_of_three());
}

#[test]
fn an_evaluator_of_other_modules_is_refused() {
    let error = step(&mut session(50, 8), &Mock::bowl(&[0.0; 3], 0.0)).unwrap_err();
    assert!(matches!(error, ComposerError::Modules { expected: 8, found: 3 }));
}

#[test]
fn bad_settings_are_named() {
    type Change = fn(&mut Settings);
    let cases: [(&str, Change); 9] = [
        ("budget", |s| s.budget = 0),
        ("max_generation", |s| s.max_generation = 0),
        ("pass_width", |s| s.pass_width = 0),
        ("bound", |s| s.bound = 0.5),
        ("bound", |s| s.bound = f64::NAN),
        ("sigma", |s| s.sigma = 0.0),
        ("sigma", |s| s.sigma = f64::NAN),
        ("tol_fun", |s| s.tol_fun = -1.0),
        ("lambda", |s| s.lambda = Some(1)),
    ];
    for (name, change) in cases {
        let mut settings = settings(200);
        change(&mut settings);
        let message = Session::new(settings, 4).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
    assert!(matches!(Session::new(settings(10), 0), Err(ComposerError::NoModules)));
    let odd = Settings {
        objective: Objective {
            name: ObjectiveName::Reference,
            l1: 0.1,
        },
        ..settings(10)
    };
    assert!(matches!(Session::new(odd, 2), Err(ComposerError::ReferenceL1 { .. })));
}
