//! The invariances that the tutorial claims: the path must not depend on where, how rotated, how scaled, or how the
//! losses are spaced. All runs of a pair see the same normal numbers.

use crate::functions::{Stream, apply, apply_transposed, ellipsoid, rosenbrock, rotation};
use lorahub_optim::{CmaEs, Settings};

const N: usize = 8;
const LAMBDA: usize = 10;
const GENERATIONS: usize = 60;

/// A run's candidates by generation, with one row of normal numbers a candidate from `normals`.
fn path(settings: Settings, mut normals: impl FnMut() -> Vec<f64>, loss: impl Fn(&[f64]) -> f64) -> Vec<Vec<Vec<f64>>> {
    let mut search = CmaEs::new(settings).expect("valid settings");
    let mut asked = Vec::new();
    for _ in 0..GENERATIONS {
        let mut row = Vec::new();
        let candidates = search.ask_with(|| {
            if row.is_empty() {
                row = normals();
                row.reverse();
            }
            row.pop().expect("just filled")
        });
        let losses: Vec<f64> = candidates.iter().map(|x| loss(x)).collect();
        search.tell(&losses).expect("one loss per candidate");
        asked.push(candidates);
    }
    asked
}

fn rows(seed: u64) -> impl FnMut() -> Vec<f64> {
    let mut stream = Stream(seed);
    move || (0..N).map(|_| stream.normal()).collect()
}

fn settings(mean: Vec<f64>, sigma: f64) -> Settings {
    Settings {
        lambda: Some(LAMBDA),
        ..Settings::new(mean, sigma)
    }
}

fn start() -> Vec<f64> {
    (0..N).map(|i| 1.0 + 0.25 * i as f64).collect()
}

/// Compares two paths after mapping the second's candidates; `tolerance` is relative to the generation's spread.
#[track_caller]
fn assert_same(a: &[Vec<Vec<f64>>], b: &[Vec<Vec<f64>>], tolerance: f64, back: impl Fn(&[f64]) -> Vec<f64>) {
    for (generation, (a, b)) in a.iter().zip(b).enumerate() {
        let spread = a
            .iter()
            .flatten()
            .zip(a[0].iter().cycle())
            .map(|(x, first)| (x - first).abs())
            .fold(0.0, f64::max);
        assert!(spread > 0.0);
        for (x, y) in a.iter().zip(b) {
            for (v, w) in x.iter().zip(back(y)) {
                assert!(
                    (v - w).abs() <= tolerance * spread,
                    "generation {generation}: {v:e} and {w:e}, spread {spread:e}"
                );
            }
        }
    }
}

#[test]
fn rank_preserving_changes_of_the_loss_change_no_bit() {
    let plain = path(settings(start(), 0.5), rows(1), ellipsoid);
    let cubed = path(settings(start(), 0.5), rows(1), |x| ellipsoid(x).powi(3));
    // Scaled so that neither the largest overflows nor two distinct losses become one.
    let logged = path(settings(start(), 0.5), rows(1), |x| libm::log(ellipsoid(x)));
    assert_eq!(plain, cubed);
    assert_eq!(plain, logged);
    let mut recorded: Vec<f64> = plain.iter().flatten().map(|x| ellipsoid(x)).collect();
    recorded.sort_by(f64::total_cmp);
    recorded.dedup();
    let rank = |x: &[f64]| recorded.partition_point(|loss| *loss < ellipsoid(x)) as f64;
    assert_eq!(plain, path(settings(start(), 0.5), rows(1), rank));
}

#[test]
fn scaling_by_a_power_of_two_scales_every_bit() {
    let plain = path(settings(start(), 0.5), rows(2), rosenbrock);
    let scaled_start = start().iter().map(|v| v * 1024.0).collect();
    let down = |x: &[f64]| x.iter().map(|v| v / 1024.0).collect::<Vec<f64>>();
    let scaled = path(settings(scaled_start, 512.0), rows(2), |x| rosenbrock(&down(x)));
    assert_same(&plain, &scaled, 0.0, down);
}

#[test]
fn scaling_the_box_too_scales_every_bit() {
    let bounded = |factor: f64| Settings {
        bounds: Some((vec![0.5 * factor; N], vec![3.0 * factor; N])),
        ..settings(start().iter().map(|v| v * factor).collect(), 0.5 * factor)
    };
    let plain = path(bounded(1.0), rows(3), ellipsoid);
    let down = |x: &[f64]| x.iter().map(|v| v / 16.0).collect::<Vec<f64>>();
    let scaled = path(bounded(16.0), rows(3), |x| ellipsoid(&down(x)));
    assert_same(&plain, &scaled, 0.0, down);
}

#[test]
fn translation() {
    let plain = path(settings(start(), 0.5), rows(4), ellipsoid);
    let shift = |x: &[f64], by: f64| x.iter().map(|v| v + by).collect::<Vec<f64>>();
    let moved = path(settings(shift(&start(), 8.0), 0.5), rows(4), |x| {
        ellipsoid(&shift(x, -8.0))
    });
    // The sums x + 8 round at 1e-15, the ellipsoid weighs coordinates a thousandfold, the path amplifies the rest.
    assert_same(&plain, &moved, 1e-9, |x| shift(x, -8.0));
}

#[test]
fn rotation_of_the_whole_problem() {
    let q = rotation(N, &mut Stream(5));
    let plain = path(settings(start(), 0.5), rows(6), ellipsoid);
    let mut z = rows(6);
    let turned = path(
        settings(apply(&q, &start()), 0.5),
        || apply(&q, &z()),
        |x| ellipsoid(&apply_transposed(&q, x)),
    );
    assert_same(&plain, &turned, 1e-6, |x| apply_transposed(&q, x));
}

#[test]
fn permutation_of_the_coordinates() {
    let order = [3, 0, 7, 1, 6, 2, 5, 4];
    let permute = |x: &[f64]| order.iter().map(|&i| x[i]).collect::<Vec<f64>>();
    let back = |x: &[f64]| {
        let mut original = vec![0.0; N];
        order.iter().zip(x).for_each(|(&i, &v)| original[i] = v);
        original
    };
    let plain = path(settings(start(), 0.5), rows(7), rosenbrock);
    let mut z = rows(7);
    let permuted = path(
        settings(permute(&start()), 0.5),
        || permute(&z()),
        |x| rosenbrock(&back(x)),
    );
    // Only the order of sums differs.
    assert_same(&plain, &permuted, 1e-9, back);
}

#[test]
fn scales_are_a_change_of_units() {
    let scales: Vec<f64> = (0..N).map(|i| f64::from(1 << i)).collect();
    let plain = path(settings(start(), 0.5), rows(8), rosenbrock);
    let stretch = |x: &[f64]| x.iter().zip(&scales).map(|(v, s)| v * s).collect::<Vec<f64>>();
    let shrink = |x: &[f64]| x.iter().zip(&scales).map(|(v, s)| v / s).collect::<Vec<f64>>();
    let scaled = Settings {
        scales: Some(scales.clone()),
        ..settings(stretch(&start()), 0.5)
    };
    // Not invariant step by step once C has off-diagonal entries (the symmetric root of S C S is not S times that of
    // C), so only the first generation is the same path ...
    let stretched = path(scaled.clone(), rows(8), |x| rosenbrock(&shrink(x)));
    assert_same(&plain[..1], &stretched[..1], 0.0, shrink);
    // ... but the search is as good: both solve it.
    for (settings, shrink) in [(settings(start(), 0.5), false), (scaled, true)] {
        let mut search = CmaEs::new(settings).expect("valid settings");
        let unit = |x: &[f64]| {
            x.iter()
                .zip(&scales)
                .map(|(v, s)| if shrink { v / s } else { *v })
                .collect::<Vec<f64>>()
        };
        crate::functions::run(&mut search, 1500, |x| rosenbrock(&unit(x)));
        let (_, loss) = search.best().expect("finite losses");
        assert!(loss < 1e-9 || (loss - 3.98).abs() < 0.1, "{loss:e}");
    }
}
