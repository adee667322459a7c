//! Against pycma: strategy parameters, one hundred updates from the same samples, the box transform.
//!
//! The data are made by `tests/golden/scripts/cma_traces.py`, which says what comes from pycma and what from the
//! tutorial.

use crate::functions::{Stream, named};
use lorahub_optim::{BoundTransform, CmaEs, Parameters, Settings};
use serde::Deserialize;

pub(crate) fn load<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/../../tests/golden/cma/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[derive(Deserialize)]
struct Rows<T> {
    rows: Vec<T>,
}

#[derive(Deserialize)]
struct ParameterRow {
    n: usize,
    lambda: usize,
    mu: usize,
    weights: Vec<f64>,
    mu_eff: f64,
    c_sigma: f64,
    d_sigma: f64,
    c_c: f64,
    c_1: f64,
    c_mu: f64,
    chi_n: f64,
}

#[track_caller]
fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let limit = tolerance * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= limit,
        "{what}: {found:e}, expected {expected:e}"
    );
}

#[test]
fn parameters_equal_pycma_to_1e_12() {
    let rows: Rows<ParameterRow> = load("parameters");
    assert_eq!(rows.rows.len(), 50);
    for row in rows.rows {
        let p = Parameters::new(row.n, row.lambda, true);
        let name = |symbol: &str| format!("{symbol} of n {}, lambda {}", row.n, row.lambda);
        assert_eq!((p.mu, p.lambda), (row.mu, row.lambda));
        assert_eq!(p.weights.len(), row.weights.len());
        for (found, expected) in p.weights.iter().zip(&row.weights) {
            assert_close(&name("w_i"), *found, *expected, 1e-12);
        }
        for (symbol, found, expected) in [
            ("mu_eff", p.mu_eff, row.mu_eff),
            ("c_sigma", p.c_sigma, row.c_sigma),
            ("d_sigma", p.d_sigma, row.d_sigma),
            ("c_c", p.c_c, row.c_c),
            ("c_1", p.c_1, row.c_1),
            ("c_mu", p.c_mu, row.c_mu),
            ("chi_n", p.chi_n, row.chi_n),
        ] {
            // The Python side computes chi_n from lgamma, good to a few 1e-13 at n = 200.
            let tolerance = if symbol == "chi_n" {
                1e-12
            } else {
                1e-12 * expected.abs().min(1.0)
            };
            assert_close(&name(symbol), found, expected, tolerance);
        }
    }
}

#[test]
fn without_the_active_update_negative_weights_are_zero() {
    let (active, passive) = (Parameters::new(20, 16, true), Parameters::new(20, 16, false));
    assert_eq!(active.weights[..8], passive.weights[..8]);
    assert!(active.weights[8..].iter().all(|w| *w < 0.0));
    assert!(passive.weights[8..].iter().all(|w| *w == 0.0));
}

#[test]
fn default_lambda_is_the_tutorials() {
    let found: Vec<usize> = [1, 2, 5, 20, 50, 200]
        .into_iter()
        .map(Parameters::default_lambda)
        .collect();
    assert_eq!(found, [4, 6, 8, 12, 15, 19]);
}

#[derive(Deserialize)]
struct Traces {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    name: String,
    n: usize,
    lambda: usize,
    active: bool,
    function: String,
    start: f64,
    sigma: f64,
    inject_after: Option<usize>,
    stream_seed: u64,
    stalls: u32,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    tells: usize,
    m: Vec<f64>,
    sigma: f64,
    c: Vec<f64>,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
}

/// `|found - expected| <= 1e-9 scale`: a trace of 100 rankings amplifies the last bits of two different eigensolvers,
/// and no more.
#[track_caller]
fn assert_vector(what: &str, found: &[f64], expected: &[f64], scale: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= 1e-9 * scale,
            "{what}[{i}]: {a:e}, expected {b:e}, scale {scale:e}"
        );
    }
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |largest, v| v.abs().max(largest))
}

#[test]
fn updates_equal_pycma_after_1_10_and_100_tells() {
    let traces: Traces = load("traces");
    assert!(
        traces.traces.iter().any(|trace| trace.stalls > 0),
        "no trace has a stalled covariance path"
    );
    assert!(
        traces.traces.iter().any(|trace| trace.inject_after.is_some()),
        "no trace has an injected point"
    );
    for trace in traces.traces {
        let loss = named(&trace.function);
        let mut search = CmaEs::new(Settings {
            lambda: Some(trace.lambda),
            active: trace.active,
            ..Settings::new(vec![trace.start; trace.n], trace.sigma)
        })
        .expect("valid settings");
        let mut stream = Stream(trace.stream_seed);
        let mut tells = 0;
        for checkpoint in &trace.checkpoints {
            while tells < checkpoint.tells {
                if trace.inject_after == Some(tells) {
                    search.inject(&vec![0.0; trace.n]).expect("a point of the space");
                }
                let losses: Vec<f64> = search.ask_with(|| stream.normal()).iter().map(|x| loss(x)).collect();
                search.tell(&losses).expect("one loss per candidate");
                tells += 1;
            }
            let what = |symbol: &str| format!("{} after {tells} tells: {symbol}", trace.name);
            let n = trace.n;
            let c = search.covariance().matrix();
            let lower: Vec<f64> = (0..n).flat_map(|i| c[i * n..][..=i].iter().copied()).collect();
            let (path_sigma, path_c) = search.paths();
            // The mean keeps the rounding errors of where it started; the rest is relative to its largest entry.
            let start = trace.start.abs().max(largest(&checkpoint.m));
            assert_vector(&what("m"), &search.mean(), &checkpoint.m, start);
            for (symbol, found, expected) in [
                ("sigma", &[search.sigma()][..], &[checkpoint.sigma][..]),
                ("C", &lower, &checkpoint.c),
                ("path_sigma", path_sigma, &checkpoint.path_sigma),
                ("path_c", path_c, &checkpoint.path_c),
            ] {
                assert_vector(&what(symbol), found, expected, largest(expected));
            }
        }
    }
}

#[derive(Deserialize)]
struct Bounds {
    lower: f64,
    upper: f64,
    preimages: Vec<f64>,
    mapped: Vec<f64>,
    inside: Vec<f64>,
    inverse: Vec<f64>,
}

#[test]
fn box_transform_equals_pycmas() {
    let golden: Bounds = load("bounds");
    let transform = BoundTransform::new(&[golden.lower], &[golden.upper]).expect("a box");
    assert_eq!((golden.preimages.len(), golden.inside.len()), (401, 161));
    for (u, x) in golden.preimages.iter().zip(&golden.mapped) {
        assert_close(&format!("image of {u}"), transform.into_box(&[*u])[0], *x, 1e-14);
    }
    for (x, u) in golden.inside.iter().zip(&golden.inverse) {
        assert_close(&format!("preimage of {x}"), transform.preimage(&[*x])[0], *u, 1e-14);
    }
}
