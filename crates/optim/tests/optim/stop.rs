//! Every reason to stop, with its values, on a search that has that reason.

use crate::functions::{Stream, ellipsoid, generation, run, sphere};
use lorahub_optim::{CmaEs, Settings, StopReason, Tolerances};

/// All tolerances off but what a test turns on.
fn none() -> Tolerances {
    Tolerances {
        max_evaluations: None,
        target: None,
        tol_fun: -1.0,
        tol_x: 0.0,
        tol_up: f64::INFINITY,
        condition: f64::INFINITY,
        stagnation: false,
    }
}

fn reason(n: usize, sigma: f64, tolerances: Tolerances, loss: impl Fn(&[f64]) -> f64) -> Option<StopReason> {
    let mut search = CmaEs::new(Settings {
        tolerances,
        ..Settings::new(vec![1.0; n], sigma)
    })
    .expect("valid settings");
    assert_eq!(search.stop(), None, "before the first generation");
    run(&mut search, 3000, loss);
    search.stop()
}

#[test]
fn target() {
    let found = reason(
        3,
        0.5,
        Tolerances {
            target: Some(1e-3),
            ..none()
        },
        sphere,
    );
    assert!(
        matches!(found, Some(StopReason::Target { loss, target: 1e-3 }) if loss <= 1e-3),
        "{found:?}"
    );
}

#[test]
fn max_evaluations() {
    // Default lambda is 7 at n = 3.
    let found = reason(
        3,
        0.5,
        Tolerances {
            max_evaluations: Some(30),
            ..none()
        },
        sphere,
    );
    assert_eq!(
        found,
        Some(StopReason::MaxEvaluations {
            evaluations: 35,
            limit: 30
        })
    );
}

#[test]
fn tol_fun() {
    let found = reason(
        3,
        0.5,
        Tolerances {
            tol_fun: 1e-6,
            ..none()
        },
        sphere,
    );
    assert!(
        matches!(found, Some(StopReason::TolFun { range, tolerance: 1e-6 }) if range <= 1e-6),
        "{found:?}"
    );
    // A flat loss has range zero, but needs ten generations to be believed.
    let mut search = CmaEs::new(Settings::new(vec![0.0; 3], 1.0)).expect("valid settings");
    run(&mut search, 100, |_| 2.5);
    assert_eq!(search.generation(), 10);
    assert_eq!(
        search.stop(),
        Some(StopReason::TolFun {
            range: 0.0,
            tolerance: 1e-12
        })
    );
}

#[test]
fn tol_x() {
    let found = reason(3, 0.5, Tolerances { tol_x: 1e-4, ..none() }, sphere);
    assert!(
        matches!(found, Some(StopReason::TolX { deviation, tolerance: 5e-5 }) if deviation < 5e-5),
        "{found:?}"
    );
}

#[test]
fn tol_up() {
    let found = reason(3, 0.5, Tolerances { tol_up: 1e4, ..none() }, |x| x.iter().sum());
    assert!(
        matches!(found, Some(StopReason::TolUp { factor, limit: 1e4 }) if factor > 1e4),
        "{found:?}"
    );
}

#[test]
fn condition() {
    let found = reason(
        3,
        0.5,
        Tolerances {
            condition: 1e5,
            ..none()
        },
        ellipsoid,
    );
    assert!(
        matches!(found, Some(StopReason::Condition { condition, limit: 1e5 }) if condition > 1e5),
        "{found:?}"
    );
}

#[test]
fn no_effect() {
    // A minimum far from zero: its neighbours are 1e-10 apart, so sigma shrinks below them.
    let found = reason(2, 1e5, none(), |x| sphere(&[x[0] - 1e6, x[1] - 1e6]));
    assert!(
        matches!(found, Some(StopReason::NoEffect { coordinate: 0 | 1, deviation }) if deviation < 1e-8),
        "{found:?}"
    );
}

#[test]
fn stagnation() {
    let mut search = CmaEs::new(Settings {
        tolerances: Tolerances {
            stagnation: true,
            ..none()
        },
        ..Settings::new(vec![1.0; 3], 0.5)
    })
    .expect("valid settings");
    let mut stream = Stream(1);
    while search.stop().is_none() && search.generation() < 2000 {
        let losses: Vec<f64> = search.ask().iter().map(|_| stream.normal()).collect();
        search.tell(&losses).expect("one loss per candidate");
    }
    let found = search.stop();
    assert!(
        matches!(found, Some(StopReason::Stagnation { generations }) if generations >= 120),
        "{found:?}"
    );
    // A search that still improves does not stagnate.
    let mut search = CmaEs::new(Settings {
        tolerances: Tolerances {
            stagnation: true,
            ..none()
        },
        ..Settings::new(vec![1.0; 3], 0.5)
    })
    .expect("valid settings");
    for _ in 0..160 {
        generation(&mut search, sphere);
        assert_eq!(search.stop(), None);
    }
}

#[test]
fn reasons_serialise_with_a_tag() {
    let reason = StopReason::TolFun {
        range: 0.5,
        tolerance: 1.0,
    };
    let text = serde_json::to_string(&reason).expect("serialises");
    assert_eq!(text, r#"{"reason":"tol_fun","range":0.5,"tolerance":1.0}"#);
    assert_eq!(serde_json::from_str::<StopReason>(&text).expect("deserialises"), reason);
}
