//! Saving and resuming: the same bits, at every generation, and no trust in what is read.

mod common;

use common::{Mock, run, step};
use lorahub_adapters::Rule;
use lorahub_composer::{
    BaseRef, Checkpoint, ComposerError, ModuleRef, RunInputs, RunRecord, Session, SessionState, Settings, Shot, Step,
    StopReason, backend_then, shots_bytes,
};
use serde_json::Value;

/// A loss with company effects, overflows and no round numbers.
fn mock() -> Mock {
    Mock::new(7, |w| {
        if w[6] > 0.9 {
            return f64::NAN;
        }
        let bowl: f64 = w
            .iter()
            .enumerate()
            .map(|(i, w)| (w - (0.37 * i as f64).cos()).powi(2))
            .sum();
        0.31 + bowl + 0.2 * w[0] * w[1]
    })
}

fn settings(budget: usize) -> Settings {
    Settings {
        budget,
        seed: 11,
        max_generation: 6,
        ..Settings::new(Rule::Reference)
    }
}

fn saved(session: &Session) -> String {
    serde_json::to_string(&session.state()).unwrap()
}

fn restored(text: &str) -> Result<Session, ComposerError> {
    let state: SessionState = serde_json::from_str(text).map_err(|error| ComposerError::State {
        what: error.to_string(),
    })?;
    Session::resume(state)
}

#[test]
fn a_search_resumed_after_any_generation_is_the_same_search() {
    let whole = mock();
    let mut undisturbed = Session::new(settings(130), 7).unwrap();
    let steps = run(&mut undisturbed, &whole);
    let end = undisturbed.outcome().unwrap();
    assert!(end.search.is_some() && steps.len() > 10);

    // One session per stop, each resumed from text by a new session.
    let mut walker = Session::new(settings(130), 7).unwrap();
    for stop in 0..steps.len() {
        let text = saved(&walker);
        assert_eq!(
            saved(&restored(&text).unwrap()),
            text,
            "reading and writing changes nothing"
        );
        let rest = mock();
        let mut resumed = restored(&text).unwrap();
        run(&mut resumed, &rest);
        assert_eq!(resumed.outcome().unwrap(), end, "resumed after generation {stop}");
        assert_eq!(saved(&resumed), saved(&undisturbed));
        let all = whole.candidates();
        assert_eq!(rest.candidates(), all[all.len() - rest.evaluations()..]);
        step(&mut walker, &mock()).unwrap();
    }
}

#[test]
fn a_cancelled_search_can_be_resumed() {
    let mut session = Session::new(settings(60), 7).unwrap();
    step(&mut session, &mock()).unwrap();
    session.cancel();
    assert!(matches!(
        step(&mut session, &mock()).unwrap(),
        Step::Done {
            stop_reason: StopReason::Cancelled
        }
    ));
    let mut resumed = restored(&saved(&session)).unwrap();
    run(&mut resumed, &mock());
    assert_eq!(resumed.outcome().unwrap().evaluations, 60);
}

/// Every state in which anything was deleted, replaced or cut is an error or a session that runs on without a panic.
#[test]
fn damaged_states_do_not_panic() {
    let mut session = Session::new(settings(45), 7).unwrap();
    let mut texts = vec![saved(&session)];
    while matches!(step(&mut session, &mock()).unwrap(), Step::Progress(_)) {
        texts.push(saved(&session));
    }
    let mut refused = 0;
    for text in texts {
        let whole: Value = serde_json::from_str(&text).unwrap();
        let mut paths = Vec::new();
        collect(&whole, String::new(), &mut paths);
        for path in paths {
            let junk = [
                Value::Null,
                Value::from(0),
                Value::from(-1),
                Value::from(3),
                Value::from(1e300),
                Value::from("ended"),
                Value::from(Vec::<Value>::new()),
                Value::from(vec![99]),
            ];
            for value in junk {
                let mut damaged = whole.clone();
                *damaged.pointer_mut(&path).unwrap() = value;
                match restored(&damaged.to_string()) {
                    Err(_) => refused += 1,
                    // A changed number may still be a possible search; a few steps of it must do.
                    Ok(mut session) => {
                        for _ in 0..3 {
                            let _ = step(&mut session, &mock());
                        }
                        let _ = session.outcome();
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

/// Pointers to the values of the first two levels, and to a sample below.
fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let depth = path.matches('/').count();
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .take(2)
            .map(|(i, value)| (i.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        let path = format!("{path}/{name}");
        paths.push(path.clone());
        if depth < 4 {
            collect(value, path, paths);
        }
    }
}

fn inputs() -> RunInputs {
    let module = |name: &str, digit: &str| ModuleRef {
        name: name.to_owned(),
        sha256: Some(digit.repeat(64)),
    };
    RunInputs {
        base: BaseRef {
            id: "base".to_owned(),
            sha256: "b".repeat(64),
        },
        modules: vec![module("one", "1"), module("two", "2")],
        shots_sha256: "5".repeat(64),
        shots: 5,
    }
}

#[test]
fn a_checkpoint_is_for_its_own_inputs() {
    let session = Session::new(settings(40), 2).unwrap();
    let bytes = Checkpoint::new(inputs(), "cpu (wasm, 1 thread)".to_owned(), session.state())
        .to_json()
        .unwrap();
    let checkpoint = Checkpoint::from_json(&bytes).unwrap();
    checkpoint.check(&inputs()).unwrap();
    assert_eq!(
        backend_then(&checkpoint.backend, "cpu (wasm, 1 thread)"),
        checkpoint.backend
    );
    let moved = backend_then(&checkpoint.backend, "webgpu");
    assert_eq!(moved, "cpu (wasm, 1 thread), then webgpu");
    assert_eq!(backend_then(&moved, "webgpu"), moved);
    assert_eq!(
        backend_then(&moved, "cpu (wasm, 1 thread)"),
        format!("{moved}, then cpu (wasm, 1 thread)")
    );
    type Change = fn(&mut RunInputs);
    let cases: [(&str, Change); 4] = [
        ("base model", |i| i.base.sha256 = "c".repeat(64)),
        ("number of modules", |i| i.modules.truncate(1)),
        ("module 2 (`two`)", |i| i.modules[1].sha256 = Some("3".repeat(64))),
        ("set of shots", |i| i.shots_sha256 = "6".repeat(64)),
    ];
    for (name, change) in cases {
        let mut other = inputs();
        change(&mut other);
        let error = checkpoint.check(&other).unwrap_err();
        assert_eq!(error.code(), "other_run");
        assert!(error.to_string().contains(name), "{error}");
    }
    // A name may change: it says nothing about the matrices.
    let mut renamed = inputs();
    renamed.modules[0].name = "uno".to_owned();
    checkpoint.check(&renamed).unwrap();

    for bytes in [&b""[..], b"{}", b"[1]", &bytes[..bytes.len() - 1]] {
        assert_eq!(Checkpoint::from_json(bytes).unwrap_err().code(), "state");
    }
    let newer = String::from_utf8(bytes)
        .unwrap()
        .replacen("\"schema\":1", "\"schema\":2", 1);
    assert!(
        Checkpoint::from_json(newer.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("schema 2")
    );
}

#[test]
fn the_record_holds_the_run() {
    let mut session = Session::new(settings(60), 7).unwrap();
    run(&mut session, &mock());
    let outcome = session.outcome().unwrap();
    let record = RunRecord::new(
        "lorahub 0.1.0",
        outcome.clone(),
        session.settings(),
        inputs(),
        "cpu".to_owned(),
    );
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["seed"], 11);
    assert_eq!(json["rule"], "reference");
    assert_eq!(json["objective_name"], "normalised");
    assert_eq!(json["stop_reason"], "budget");
    assert_eq!(json["base"]["sha256"], "b".repeat(64));
    assert_eq!(json["modules"][1]["name"], "two");
    assert_eq!(json["backend"], "cpu");
    assert_eq!(json["history"].as_array().unwrap().len(), 60);
    let read: RunRecord = serde_json::from_value(json).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.weights, outcome.weights);
}

#[test]
fn shots_are_hashed_without_ambiguity() {
    let shot = |input: &str, output: &str| Shot {
        input: input.to_owned(),
        output: output.to_owned(),
    };
    let of = |shots: &[Shot]| shots_bytes(shots);
    assert_eq!(of(&[shot("a\n", "\"b")]), b"[\"a\\n\",\"\\\"b\"]\n");
    assert_ne!(
        of(&[shot("a", "b"), shot("c", "d")]),
        of(&[shot("a", "b\"]\n[\"c\",\"d")])
    );
}
