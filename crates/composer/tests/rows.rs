//! Reading rows, answers as the reference compares them, objectives, and held-out evaluation.

mod common;

use std::ops::ControlFlow;

use common::Mock;
use lorahub_composer::{
    ComposerError, HeldOutProgress, HeldOutSettings, Objective, ObjectiveName, Shot, ShotLosses, best_single,
    check_disjoint, evaluate_held_out, exact_match, normalise_answer, parse_rows, wilson_interval,
};

fn shot(input: &str, output: &str) -> Shot {
    Shot {
        input: input.to_owned(),
        output: output.to_owned(),
    }
}

#[test]
fn both_pairs_of_fields_are_read() {
    let text = "\u{feff}{\"input\": \"a\", \"output\": \"b\", \"more\": 1}\r\n\n  \n{\"completion\":\"d\",\"context\":\"c\\n\"}";
    assert_eq!(
        parse_rows("f", text.as_bytes()).unwrap(),
        [shot("a", "b"), shot("c\n", "d")]
    );
}

#[test]
fn every_bad_row_is_named() {
    let good = "{\"input\":\"a\",\"output\":\"b\"}\n";
    let cases: [(&[u8], &str); 12] = [
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (b"{\"input\":", "line 2: expected one JSON object"),
        (b"{} {}", "line 2: expected one JSON object"),
        (b"[1]", "found an array"),
        (b"\"text\"", "found a string"),
        (b"{}", "found no fields"),
        (b"{\"input\":\"a\"}", "found `input`"),
        (
            b"{\"input\":\"a\",\"completion\":\"b\"}",
            "expected `input` and `output`",
        ),
        (
            b"{\"input\":\"a\",\"output\":7}",
            "`output` should be a string, found a number",
        ),
        (
            b"{\"input\":null,\"output\":\"b\"}",
            "`input` should be a string, found null",
        ),
        (b"{\"input\":\"\xff\",\"output\":\"b\"}", "line 2: not UTF-8"),
    ];
    for (bytes, expected) in cases {
        let whole = if expected == "no rows" {
            bytes.to_vec()
        } else {
            [good.as_bytes(), bytes].concat()
        };
        let error = parse_rows("shots.jsonl", &whole).unwrap_err();
        assert_eq!(error.code(), "rows");
        let message = error.to_string();
        assert!(
            message.starts_with("shots.jsonl") && message.contains(expected),
            "{message}"
        );
    }
    let nested = "[".repeat(100_000);
    assert!(matches!(
        parse_rows("f", nested.as_bytes()),
        Err(ComposerError::Json { line: 1, .. })
    ));
}

#[test]
fn overlap_names_the_rows() {
    let shots = [shot("a", "1"), shot("b ", "2")];
    check_disjoint(&shots, &[shot("c", "1"), shot("A", "1")]).unwrap();
    let error = check_disjoint(&shots, &[shot("c", "1"), shot(" b", "other")]).unwrap_err();
    assert!(matches!(error, ComposerError::Overlap { test: 2, shot: 2 }));
}

/// Expected values computed with Python 3: `s.strip().lower().replace(".", "")`.
#[test]
fn answers_are_normalised_as_python_does() {
    for (text, expected) in [
        ("  The Cat. ", "the cat"),
        (" . A", " a"),
        ("a.b.c", "abc"),
        ("\u{1c}x\u{1f}", "x"),
        ("\u{a0}x\u{3000}", "x"),
        ("\u{200b}x", "\u{200b}x"),
        ("İ", "i\u{307}"),
        ("ΑΣ", "ας"),
        ("ẞ", "ß"),
        ("(B)", "(b)"),
        ("", ""),
    ] {
        assert_eq!(normalise_answer(text), expected, "{text:?}");
    }
    assert_eq!(exact_match([("A.", "a"), ("b", "c"), (" d", "D")]), 200.0 / 3.0);
    assert_eq!(exact_match([]), 0.0);
}

/// Expected values: Wilson's formula evaluated with 40 decimal digits in Python, and closed forms at the ends.
#[test]
fn wilson_intervals() {
    let z = 1.959_963_984_540_054;
    let close = |(low, high): (f64, f64), expected: (f64, f64)| {
        assert!(
            (low - expected.0).abs() < 1e-9 && (high - expected.1).abs() < 1e-9,
            "{low} {high}"
        );
    };
    close(
        wilson_interval(8, 10, z),
        (0.490_162_471_536_642, 0.943_317_848_545_625),
    );
    close(wilson_interval(0, 20, z), (0.0, z * z / (20.0 + z * z)));
    close(wilson_interval(20, 20, z), (20.0 / (20.0 + z * z), 1.0));
    close(wilson_interval(0, 0, z), (0.0, 1.0));
}

#[test]
fn objectives_are_those_of_the_design() {
    let losses = ShotLosses {
        nll: vec![6.0, 1.0, 3.0],
        tokens: vec![3, 1, 4],
    };
    let w = [0.5, -1.5, 0.0, 1.0];
    assert_eq!(losses.shot_loss(), [2.0, 1.0, 0.75]);
    assert_eq!(losses.batch_loss(), 1.25);
    let penalty = 0.05 * 0.75;
    assert_eq!(Objective::REFERENCE.value(&losses, &w), 1.25 / 3.0 + penalty);
    assert_eq!(Objective::NORMALISED.value(&losses, &w), 1.25 + penalty);
    let heavy = Objective::new(ObjectiveName::Normalised, Some(2.0)).unwrap();
    assert_eq!(heavy.value(&losses, &w), 1.25 + 1.5);
    assert_eq!(
        Objective::NORMALISED.value(&losses, &[]),
        1.25,
        "the base without modules"
    );
    for nll in [vec![f64::NAN, 1.0, 1.0], vec![f64::INFINITY, f64::NEG_INFINITY, 0.0]] {
        let losses = ShotLosses { nll, ..losses.clone() };
        assert_eq!(Objective::NORMALISED.value(&losses, &w), f64::INFINITY);
    }
    for l1 in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            Objective::new(ObjectiveName::Normalised, Some(l1)),
            Err(ComposerError::L1 { .. })
        ));
    }
    assert_eq!("reference".parse::<ObjectiveName>().unwrap(), ObjectiveName::Reference);
    assert!("Reference".parse::<ObjectiveName>().is_err());
}

fn candidates() -> Vec<(String, Vec<f64>)> {
    let named = |name: &str, weights: &[f64]| (name.to_owned(), weights.to_vec());
    vec![
        named("base", &[0.0, 0.0]),
        named("best_single", &[1.0, 0.0]),
        named("composed", &[1.0, 0.0]),
    ]
}

/// Rows whose answer is right for the base (even ones) or for weights that sum to one (odd ones).
fn rows(n: usize) -> Vec<Shot> {
    (0..n)
        .map(|i| shot(&format!("q{i}"), &format!("Q{i} {}", i % 2)))
        .collect()
}

#[test]
fn held_out_rows_are_counted_for_every_candidate() {
    let mock = Mock::new(2, |_| 0.0);
    let settings = HeldOutSettings {
        batch: 4,
        max_new_tokens: 7,
    };
    let mut seen: Vec<HeldOutProgress> = Vec::new();
    let mut note = |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    };
    let held_out = pollster::block_on(evaluate_held_out(&mock, &rows(11), &candidates(), settings, &mut note)).unwrap();
    assert_eq!(held_out.n, 11);
    assert_eq!(held_out.accuracy["base"].correct, 6);
    assert_eq!(held_out.accuracy["composed"].correct, 5);
    assert!((held_out.accuracy["base"].percent - 600.0 / 11.0).abs() < 1e-12);
    assert!(held_out.accuracy["base"].low < 54.0 && held_out.accuracy["base"].high > 55.0);
    assert_eq!(held_out.rows[1].predictions["composed"].text, " q1 1. ");
    assert!(held_out.rows[1].predictions["composed"].ok && !held_out.rows[1].predictions["base"].ok);
    // The two of the same weights were answered once: three batches of two candidates.
    assert_eq!(mock.calls.borrow().len(), 6);
    assert_eq!(seen.len(), 9);
    assert_eq!(seen.last(), Some(&HeldOutProgress { done: 33, total: 33 }));
    let json = serde_json::to_value(&held_out).unwrap();
    assert_eq!(json["rows"][0]["predictions"]["base"]["ok"], true);
}

#[test]
fn an_evaluation_broken_off_compares_on_the_same_rows() {
    for (stop_after, n) in [(1, 0), (2, 0), (4, 4), (5, 4), (6, 8)] {
        let mock = Mock::new(2, |_| 0.0);
        let settings = HeldOutSettings {
            batch: 4,
            max_new_tokens: 7,
        };
        let mut reports = 0;
        let mut note = |_| {
            reports += 1;
            if reports >= stop_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let held_out =
            pollster::block_on(evaluate_held_out(&mock, &rows(11), &candidates(), settings, &mut note)).unwrap();
        assert_eq!(held_out.n, n, "stopped after report {stop_after}");
        assert!(held_out.rows.iter().all(|row| row.predictions.len() == 3));
    }
}

#[test]
fn held_out_errors() {
    let mock = Mock::new(3, |_| 0.0);
    let mut go_on = |_| ControlFlow::Continue(());
    let settings = HeldOutSettings::default();
    let error =
        pollster::block_on(evaluate_held_out(&mock, &rows(2), &candidates(), settings, &mut go_on)).unwrap_err();
    assert!(matches!(
        error,
        ComposerError::Weights {
            expected: 3,
            found: 2,
            ..
        }
    ));
    let mock = Mock::new(2, |_| 0.0);
    mock.healthy.set(1);
    let error =
        pollster::block_on(evaluate_held_out(&mock, &rows(2), &candidates(), settings, &mut go_on)).unwrap_err();
    assert_eq!(error.code(), "device");
    let none = HeldOutSettings { batch: 0, ..settings };
    let error = pollster::block_on(evaluate_held_out(&mock, &rows(2), &candidates(), none, &mut go_on)).unwrap_err();
    assert_eq!(error.code(), "settings");
}

#[test]
fn the_best_single_has_the_lowest_loss() {
    let mock = Mock::bowl(&[0.2, 0.9, f64::NAN, 0.9], 0.0);
    assert_eq!(
        pollster::block_on(best_single(&mock, 2)).unwrap(),
        None,
        "one NaN spoils every sum"
    );
    let mock = Mock::new(5, |w| if w[0] == 1.0 { f64::NAN } else { 3.0 - w[3] - w[4] });
    assert_eq!(pollster::block_on(best_single(&mock, 2)).unwrap(), Some(3));
    assert_eq!(mock.evaluations(), 5);
}
