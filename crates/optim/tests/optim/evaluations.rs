//! How many evaluations it takes, against pycma's defaults (`tests/golden/cma/evaluations.json`).

use crate::functions::named;
use crate::golden::load;
use lorahub_optim::{CmaEs, Settings};
use serde::Deserialize;

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    function: String,
    n: usize,
    lambda: Option<usize>,
    start: f64,
    sigma: f64,
    target: f64,
    runs: u64,
    hits: usize,
    median: f64,
}

/// Evaluations up to and including the first loss below the target; `None` if the search stops before.
fn evaluations_to_target(row: &Row, seed: u64) -> Option<u64> {
    let loss = named(&row.function);
    let settings = Settings {
        lambda: row.lambda,
        seed,
        ..Settings::new(vec![row.start; row.n], row.sigma)
    };
    let mut search = CmaEs::new(settings).expect("valid settings");
    while search.stop().is_none() {
        let losses: Vec<f64> = search.ask().iter().map(|x| loss(x)).collect();
        if let Some(k) = losses.iter().position(|loss| *loss < row.target) {
            return Some(search.evaluations() + k as u64 + 1);
        }
        search.tell(&losses).expect("one loss per candidate");
    }
    None
}

/// Median over the successful runs within 15 % of pycma's, and as many successes.
fn check(function: &str) {
    let rows: Rows = load("evaluations");
    let rows: Vec<Row> = rows.rows.into_iter().filter(|row| row.function == function).collect();
    assert!(!rows.is_empty(), "no data for {function}");
    for row in rows {
        let mut counts: Vec<u64> = (1..=row.runs)
            .filter_map(|seed| evaluations_to_target(&row, seed))
            .collect();
        counts.sort_unstable();
        let what = format!("{function} {}", row.n);
        assert!(!counts.is_empty(), "{what}: no run reached the target");
        let median = (counts[(counts.len() - 1) / 2] + counts[counts.len() / 2]) as f64 / 2.0;
        let ratio = median / row.median;
        println!(
            "{what}: {} of {}, median {median}, pycma {} of {}, {}",
            counts.len(),
            row.runs,
            row.hits,
            row.runs,
            row.median
        );
        assert!(
            (0.85..=1.15).contains(&ratio),
            "{what}: median {median}, pycma's {}",
            row.median
        );
        // Three standard errors of the difference of two binomial counts of one, pooled probability.
        let runs = row.runs as f64;
        let p = (counts.len() + row.hits) as f64 / (2.0 * runs);
        let limit = 3.0 * (2.0 * runs * p * (1.0 - p)).sqrt();
        let difference = counts.len().abs_diff(row.hits) as f64;
        assert!(
            difference <= limit,
            "{what}: {} hits of {}, pycma's {}",
            counts.len(),
            row.runs,
            row.hits
        );
    }
}

#[test]
fn sphere_needs_as_many_evaluations_as_pycma() {
    check("sphere");
}

#[test]
fn ellipsoid_needs_as_many_evaluations_as_pycma() {
    check("ellipsoid");
}

#[test]
fn rosenbrock_needs_as_many_evaluations_as_pycma() {
    check("rosenbrock");
}

#[test]
fn rastrigin_is_solved_as_often_as_by_pycma() {
    check("rastrigin");
}
