//! The box: candidates strictly inside, optima on corners and faces found, no stall at a wall.

use crate::functions::{Stream, ellipsoid, generation, run, sphere};
use lorahub_optim::{BoundTransform, CmaEs, OptimError, Settings};

const N: usize = 10;

fn boxed(sigma: f64, seed: u64) -> Settings {
    Settings {
        bounds: Some((vec![-1.5; N], vec![1.5; N])),
        seed,
        lambda: Some(16),
        ..Settings::new(vec![0.0; N], sigma)
    }
}

/// Runs until `target`, checking that every candidate lies strictly inside; returns the evaluations.
fn solve(settings: Settings, target: f64, loss: impl Fn(&[f64]) -> f64) -> u64 {
    let (lower, upper) = settings.bounds.clone().expect("bounds");
    let mut search = CmaEs::new(settings).expect("valid settings");
    while search.best().is_none_or(|(_, best)| best > target) {
        assert_eq!(search.stop(), None, "best {:?}", search.best());
        for x in search.ask() {
            for ((v, l), u) in x.iter().zip(&lower).zip(&upper) {
                assert!(l < v && v < u, "{v} is not inside {l} to {u}");
            }
        }
        generation(&mut search, &loss);
    }
    search.evaluations()
}

#[test]
fn linear_slope_into_a_corner() {
    for seed in 0..5 {
        for sigma in [0.01, 0.15, 1.0] {
            let evaluations = solve(boxed(sigma, seed), -1.5 * N as f64 + 1e-6, |x| x.iter().sum());
            assert!(evaluations < 6000, "sigma {sigma}, seed {seed}: {evaluations}");
        }
    }
}

#[test]
fn badly_scaled_optimum_in_a_corner() {
    let shifted = |x: &[f64]| x.iter().map(|v| v - 2.0).collect::<Vec<f64>>();
    let optimum = ellipsoid(&[-0.5; N]);
    for seed in 0..3 {
        let evaluations = solve(boxed(0.15, seed), optimum * (1.0 + 1e-6), |x| ellipsoid(&shifted(x)));
        assert!(evaluations < 20_000, "seed {seed}: {evaluations}");
    }
}

#[test]
fn optimum_on_a_face() {
    let loss = |x: &[f64]| sphere(x) - x[0] * x[0] + (x[0] - 3.0).powi(2);
    for seed in 0..5 {
        let evaluations = solve(boxed(0.15, seed), 2.25 + 1e-6, loss);
        assert!(evaluations < 6000, "seed {seed}: {evaluations}");
    }
}

#[test]
fn even_function_finds_one_of_its_two_optima() {
    let loss = |x: &[f64]| x.iter().map(|v| (v.abs() - 1.0).powi(2)).sum::<f64>();
    for seed in 0..3 {
        solve(boxed(0.15, seed), 1e-6, loss);
    }
}

#[test]
fn start_on_a_wall_leaves_it() {
    let settings = Settings {
        mean: vec![1.5; N],
        ..boxed(0.15, 1)
    };
    let evaluations = solve(settings, 1e-6, sphere);
    assert!(evaluations < 4000, "{evaluations}");
}

#[test]
fn steps_never_outgrow_the_box() {
    // A third of the width is one. Starting far beyond it, and pulled outwards all the time.
    let mut search = CmaEs::new(boxed(50.0, 2)).expect("valid settings");
    for _ in 0..300 {
        let deviations = search.deviations();
        assert!(
            deviations.iter().all(|deviation| *deviation <= 1.0 + 1e-12),
            "{deviations:?}"
        );
        generation(&mut search, |x| -sphere(x));
    }
}

#[test]
fn a_first_step_too_wide_for_the_box_is_limited_before_the_first_ask() {
    let mut search = CmaEs::new(boxed(50.0, 1)).expect("valid settings");
    // One standard deviation in every coordinate is a third of the width.
    for x in search.ask_with(|| 1.0) {
        assert!(x.iter().all(|v| (v - 1.0).abs() < 1e-12), "{x:?}");
    }
}

#[test]
fn one_sided_and_mixed_bounds() {
    let inf = f64::INFINITY;
    let settings = Settings {
        bounds: Some((vec![0.25, -inf, -inf], vec![inf, -0.25, inf])),
        ..Settings::new(vec![2.0, -2.0, 2.0], 0.5)
    };
    let mut search = CmaEs::new(settings).expect("valid settings");
    run(&mut search, 300, sphere);
    let (x, loss) = search.best().expect("finite losses");
    assert!(
        (loss - 0.125).abs() < 1e-6 && x[0] > 0.25 && x[1] < -0.25,
        "{x:?} {loss}"
    );
}

#[test]
fn transform_is_smooth_periodic_and_inverts() {
    let transform = BoundTransform::new(&[-3.0, 0.0, -f64::INFINITY], &[1.0, f64::INFINITY, 5.0]).expect("a box");
    let mut stream = Stream(4);
    for _ in 0..2000 {
        let u: Vec<f64> = (0..3).map(|_| 10.0 * stream.normal()).collect();
        let x = transform.into_box(&u);
        let again = transform.into_box(&transform.preimage(&x));
        for (a, b) in x.iter().zip(&again) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        // The derivative is at most one, so that neighbours stay neighbours across every seam.
        let near: Vec<f64> = u.iter().map(|v| v + 1e-6).collect();
        for (a, b) in x.iter().zip(transform.into_box(&near)) {
            assert!((a - b).abs() <= 1.0001e-6, "{a} {b}");
        }
        // Walls with margins of 0.1: the period of the first coordinate is 2 (4 + 0.2).
        let period = transform.into_box(&[u[0] + 8.4, u[1], u[2]]);
        assert!((period[0] - x[0]).abs() < 1e-12);
    }
    // The identity in the middle; far points stay inside.
    assert_eq!(transform.into_box(&[0.5, 1.0, 3.0]), [0.5, 1.0, 3.0]);
    for far in [1e300, -1e300, f64::MAX, f64::MIN] {
        let x = transform.into_box(&[far, far, far]);
        assert!(x[0] > -3.0 && x[0] < 1.0 && x[1] > 0.0 && x[2] < 5.0, "{x:?}");
        assert!(x.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn narrow_boxes_work_down_to_the_last_number() {
    let lower = 1.0_f64;
    let upper = lower.next_up().next_up();
    let mut search = CmaEs::new(Settings {
        bounds: Some((vec![lower], vec![upper])),
        ..Settings::new(vec![lower], 1.0)
    })
    .expect("one number lies between");
    for x in search.ask() {
        assert_eq!(x, [lower.next_up()]);
    }
}

#[test]
fn impossible_boxes_are_errors() {
    let make = |lower: f64, upper: f64| {
        CmaEs::new(Settings {
            bounds: Some((vec![lower], vec![upper])),
            ..Settings::new(vec![0.0], 1.0)
        })
        .err()
    };
    let empty = |lower, upper| Some(OptimError::EmptyBox { index: 0, lower, upper });
    assert_eq!(make(1.0, -1.0), empty(1.0, -1.0));
    assert_eq!(make(0.0, 0.0), empty(0.0, 0.0));
    assert_eq!(make(0.0, 0.0_f64.next_up()), empty(0.0, 0.0_f64.next_up()));
    assert_eq!(make(f64::MIN, f64::MAX), empty(f64::MIN, f64::MAX));
    assert_eq!(make(f64::INFINITY, f64::INFINITY), empty(f64::INFINITY, f64::INFINITY));
    assert!(matches!(
        make(f64::NAN, 1.0),
        Some(OptimError::EmptyBox { index: 0, .. })
    ));
    assert_eq!(
        make(0.5, 1.0),
        Some(OptimError::MeanOutside {
            index: 0,
            found: 0.0,
            lower: 0.5,
            upper: 1.0
        })
    );
    assert_eq!(make(f64::NEG_INFINITY, f64::INFINITY), None);
}
