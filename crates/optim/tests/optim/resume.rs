//! A search saved and restored at any moment goes on with the same bits; a damaged state is an error, never a panic.

use crate::functions::{ellipsoid, generation, run, sphere};
use lorahub_optim::{CmaEs, Settings};
use serde_json::Value;

fn save(search: &CmaEs) -> String {
    serde_json::to_string(search).expect("serialises")
}

fn restore(text: &str) -> CmaEs {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn bits(asked: &[Vec<f64>]) -> Vec<u64> {
    asked.iter().flatten().map(|v| v.to_bits()).collect()
}

/// Runs one search straight and one that is saved and restored twice a generation, and compares every bit.
fn check(settings: Settings, generations: u64) {
    let mut straight = CmaEs::new(settings.clone()).expect("valid settings");
    let mut stopped = CmaEs::new(settings).expect("valid settings");
    for g in 0..generations {
        for search in [&mut straight, &mut stopped] {
            if g % 5 == 2 {
                for k in 0..4 {
                    search
                        .inject(&vec![0.1 * f64::from(k); search.dimension()])
                        .expect("a point");
                }
            }
        }
        stopped = restore(&save(&stopped));
        let asked = straight.ask();
        assert_eq!(bits(&stopped.ask()), bits(&asked), "generation {g}");
        stopped = restore(&save(&stopped));
        assert_eq!(
            bits(&stopped.ask()),
            bits(&asked),
            "generation {g}, restored between ask and tell"
        );
        // Some losses are missing, so that infinities pass through the state.
        let loss = |(k, x): (usize, &Vec<f64>)| {
            if k % 4 == 3 && g % 3 == 1 {
                f64::NAN
            } else {
                ellipsoid(x)
            }
        };
        let losses: Vec<f64> = asked.iter().enumerate().map(loss).collect();
        straight.tell(&losses).expect("one loss per candidate");
        stopped.tell(&losses).expect("one loss per candidate");
        assert_eq!(save(&stopped), save(&straight), "generation {g}");
        assert_eq!(stopped.stop(), straight.stop());
    }
}

#[test]
fn every_generation_in_a_box() {
    let n = 20;
    let bounds = Some((vec![-1.5; n], vec![1.5; n]));
    check(
        Settings {
            bounds,
            lambda: Some(16),
            seed: u64::MAX,
            ..Settings::new(vec![0.0; n], 0.15)
        },
        60,
    );
}

#[test]
fn every_generation_with_stale_roots() {
    // Decomposed every third generation only, so that the saved roots are not those of C.
    let settings = Settings {
        lambda: Some(4),
        ..Settings::new(vec![1.0; 100], 0.5)
    };
    let mut search = CmaEs::new(settings.clone()).expect("valid settings");
    assert!(search.parameters().decomposition_gap(100) >= 3);
    generation(&mut search, sphere);
    assert!(!save(&search).contains(r#""decomposed":"","#), "the roots are stale");
    check(settings, 12);
    // Too wide for its box, so that the distribution is cut back out of turn.
    let bounds = Some((vec![-1.5; 100], vec![1.5; 100]));
    check(
        Settings {
            lambda: Some(4),
            bounds,
            ..Settings::new(vec![1.0; 100], 50.0)
        },
        12,
    );
}

#[test]
fn every_generation_with_scales_and_odd_sizes() {
    check(
        Settings {
            scales: Some(vec![1.0, 10.0, 0.1]),
            active: false,
            lambda: Some(7),
            ..Settings::new(vec![1.0; 3], 0.5)
        },
        150,
    );
    check(
        Settings {
            bounds: Some((vec![-1.0, f64::NEG_INFINITY], vec![f64::INFINITY, 0.5])),
            ..Settings::new(vec![0.0; 2], 80.0)
        },
        40,
    );
}

#[test]
fn a_mended_matrix_and_a_capped_history() {
    // Long past convergence the matrix is at its condition limit and the history at its length.
    let mut search = CmaEs::new(Settings::new(vec![1.0; 3], 0.5)).expect("valid settings");
    for g in 0..3000 {
        if g % 100 == 99 {
            search.ask();
            let copy = restore(&save(&search));
            assert_eq!(save(&copy), save(&search), "generation {g}");
            search = copy;
        }
        generation(&mut search, |x| x[0] * x[0] + 1e-30 * x[1]);
    }
}

#[test]
fn unknown_versions_and_fields_are_refused() {
    let mut search = CmaEs::new(Settings::new(vec![1.0; 3], 0.5)).expect("valid settings");
    run(&mut search, 3, sphere);
    let state: Value = serde_json::from_str(&save(&search)).expect("json");
    let mut newer = state.clone();
    newer["version"] = 2.into();
    let error = serde_json::from_value::<CmaEs>(newer)
        .expect_err("another version")
        .to_string();
    assert_eq!(
        error,
        "the saved state is unusable: it has version 2, this program writes version 1; start the search again"
    );
    let mut larger = state;
    larger["surprise"] = 1.into();
    assert!(serde_json::from_value::<CmaEs>(larger).is_err());
}

/// Replaces each field of a state, one at a time, by each of many values. Most must be refused; what is accepted must
/// be usable.
#[test]
fn damaged_states_are_errors_not_panics() {
    let mut search = CmaEs::new(Settings {
        bounds: Some((vec![-1.5; 3], vec![1.5; 3])),
        scales: Some(vec![1.0, 2.0, 1.0]),
        ..Settings::new(vec![1.0; 3], 0.5)
    })
    .expect("valid settings");
    run(&mut search, 3, sphere);
    search.inject(&[0.1; 3]).expect("a point");
    search.inject(&[0.2; 3]).expect("a point");
    search.ask();
    search.inject(&[0.3; 3]).expect("a point");
    let state: Value = serde_json::from_str(&save(&search)).expect("json");

    let hex = |numbers: &[f64]| {
        numbers
            .iter()
            .map(|v| format!("{:016x}", v.to_bits()))
            .collect::<String>()
    };
    let values = [
        Value::Null,
        true.into(),
        (-1).into(),
        u64::MAX.into(),
        "".into(),
        "zz".into(),
        "ffffffffffffffff".into(),
        "ffffffffffffffff".repeat(4).into(),
        hex(&[0.0]).into(),
        hex(&[1.0, -1.0]).into(),
        hex(&[1.0, 2.0, f64::NAN]).into(),
        hex(&[0.0; 3]).into(),
        hex(&[-1.0; 6]).into(),
        hex(&[1e300; 6]).into(),
        hex(&[f64::INFINITY; 6]).into(),
        format!("{} {}", hex(&[0.0; 3]), hex(&[1.0; 2])).into(),
        Value::Array(vec![]),
    ];
    let (mut refused, mut accepted) = (0, 0);
    let mut attempt = |path: String, damaged: Value| match serde_json::from_value::<CmaEs>(damaged) {
        Err(error) => {
            refused += 1;
            assert!(!error.to_string().is_empty(), "{path}");
        }
        Ok(mut search) => {
            accepted += 1;
            let _ = search.stop();
            for _ in 0..3 {
                generation(&mut search, sphere);
            }
            assert!(search.sigma().is_finite(), "{path}");
        }
    };
    let fields = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<String>>()
    };
    for name in fields(&state) {
        let mut absent = state.clone();
        absent.as_object_mut().expect("an object").remove(&name);
        attempt(format!("{name} absent"), absent);
        for value in &values {
            let mut damaged = state.clone();
            damaged[&name] = value.clone();
            attempt(format!("{name} = {value}"), damaged);
        }
    }
    for name in fields(&state["settings"]) {
        for value in &values {
            let mut damaged = state.clone();
            damaged["settings"][&name] = value.clone();
            attempt(format!("settings.{name} = {value}"), damaged);
        }
    }
    println!("{refused} refused, {accepted} accepted");
    assert!(
        refused > 300 && accepted < 100,
        "{refused} refused, {accepted} accepted"
    );
}
