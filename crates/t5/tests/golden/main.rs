//! The engine against Hugging Face, PEFT and the reference package, on every model in `tests/golden/models`.
//!
//! `tests/golden/PROVENANCE.md` says how the numbers were made and why the tolerances are what they are.

mod family;

use std::ops::ControlFlow;

use family::{Case, Golden, golden_models};
use lorahub_composer::{Candidate, Evaluator, Objective, ObjectiveName, ShotLosses};
use pollster::block_on;

/// Logits: f32 sums in another order than PyTorch's, over a few layers.
const LOGITS: f32 = 1e-4;
/// Losses are means over tokens, so the errors of single logits cancel.
const LOSSES: f64 = 1e-5;

fn assert_loss(what: &str, found: f64, expected: f64) {
    let allowed = LOSSES * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= allowed,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn logits_equal_hugging_face() {
    for golden in golden_models() {
        let mut compared = 0;
        for case in &golden.cases("logits") {
            let expected = golden.array(case.text("array"));
            let composed = golden.composition(case);
            let adapter = composed.as_ref().map(|(bank, weights)| (bank, weights.as_slice()));
            let (input, target) = (case.ids("input_ids"), case.ids("target_ids"));
            let found = block_on(golden.model.logits(adapter, &input, &target)).unwrap();
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(1f32, |max, value| max.max(value.abs()));
            for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
                let what = format!("{} {}[{index}]", golden.name, case.text("id"));
                assert!((a - b).abs() <= LOGITS * largest, "{what}: {a}, expected {b}");
            }
            compared += 1;
        }
        assert!(compared >= 15, "{}: only {compared} logit cases", golden.name);
    }
}

#[test]
fn losses_equal_hugging_face_one_by_one() {
    for golden in golden_models() {
        for case in &golden.cases("losses") {
            let (engine, weights) = golden.engine(case);
            let losses = block_on(engine.evaluate(&[Candidate {
                weights: weights.clone(),
            }]))
            .unwrap();
            check_losses(&golden, case, &losses[0], &weights);
        }
    }
}

fn check_losses(golden: &Golden, case: &Case, losses: &ShotLosses, weights: &[f64]) {
    let what = format!("{} {}", golden.name, case.text("id"));
    assert_eq!(losses.tokens, case.ids("tokens"), "{what}");
    for (shot, (found, expected)) in losses.shot_loss().iter().zip(case.numbers("shot_loss_f64")).enumerate() {
        assert_loss(&format!("{what} shot {shot}"), *found, expected);
    }
    assert_loss(&what, losses.batch_loss(), case.number("batch_loss_f64"));
    for (name, field) in [
        (ObjectiveName::Reference, "objective_reference"),
        (ObjectiveName::Normalised, "objective_normalised"),
    ] {
        let objective = Objective { name, l1: 0.05 };
        assert_loss(
            &format!("{what} {field}"),
            objective.value(losses, weights),
            case.number(field),
        );
    }
}

/// All compositions of the same modules as one generation: each must lose what it loses alone.
#[test]
fn losses_equal_hugging_face_as_a_generation() {
    for golden in golden_models() {
        let mut generations = 0;
        let all = golden.cases("losses");
        for first in &all {
            let same: Vec<&Case> = all
                .iter()
                .filter(|case| {
                    golden.modules(case) == golden.modules(first) && case.text("shot_set") == first.text("shot_set")
                })
                .collect();
            if same.len() < 2 || golden.modules(first).is_none() {
                continue;
            }
            let (engine, _) = golden.engine(first);
            let candidates: Vec<Candidate> = same
                .iter()
                .map(|case| Candidate {
                    weights: golden.engine(case).1,
                })
                .collect();
            let losses = block_on(engine.evaluate(&candidates)).unwrap();
            for ((case, losses), candidate) in same.iter().zip(&losses).zip(&candidates) {
                check_losses(&golden, case, losses, &candidate.weights);
            }
            generations += 1;
        }
        assert!(
            generations > 0,
            "{}: no two compositions of the same modules",
            golden.name
        );
    }
}

#[test]
fn greedy_ids_equal_hugging_face_streamed() {
    for golden in golden_models() {
        for case in &golden.cases("greedy") {
            let (engine, weights) = golden.engine(case);
            let mut seen = Vec::new();
            let mut on_token = |_: &str, ids: &[u32]| {
                seen.push(ids.len());
                ControlFlow::Continue(())
            };
            let found = block_on(engine.generate_stream(&weights, case.text("input"), 64, &mut on_token)).unwrap();
            let what = format!("{} {}", golden.name, case.text("id"));
            assert_eq!(found.ids, case.ids("ids"), "{what}");
            assert_eq!(found.text, case.text("text"), "{what}");
            assert_eq!(
                seen,
                (1..=found.ids.len()).collect::<Vec<_>>(),
                "{what}: one call a token"
            );
        }
    }
}

/// All inputs of one composition in one batch, where sequences end at different steps.
#[test]
fn greedy_ids_equal_hugging_face_batched() {
    for golden in golden_models() {
        let all = golden.cases("greedy");
        for first in &all {
            let same: Vec<&Case> = all
                .iter()
                .filter(|case| case.get("composition") == first.get("composition"))
                .collect();
            let (engine, weights) = golden.engine(first);
            let inputs: Vec<String> = same.iter().map(|case| case.text("input").to_owned()).collect();
            let found = block_on(engine.generate(&Candidate { weights }, &inputs, 64)).unwrap();
            for (case, found) in same.iter().zip(&found) {
                assert_eq!(found.ids, case.ids("ids"), "{} {}", golden.name, case.text("id"));
            }
        }
    }
}

#[test]
fn the_objective_equals_the_reference_package() {
    for golden in golden_models() {
        let objective = golden.object("objective");
        let engine = golden.engine_of(&objective.texts("modules"), "reference", objective.text("shot_set"));
        let reference = Objective {
            name: ObjectiveName::Reference,
            l1: 0.05,
        };
        for value in objective.objects("values") {
            let weights = value.numbers("weights");
            let losses = block_on(engine.evaluate(&[Candidate {
                weights: weights.clone(),
            }]))
            .unwrap();
            let what = format!("{} {weights:?}", golden.name);
            assert_loss(
                &what,
                reference.value(&losses[0], &weights),
                value.number("objective_reference"),
            );
        }
    }
}

#[test]
fn tokens_equal_hugging_face() {
    for golden in golden_models() {
        let tokenizer = golden.model.tokenizer();
        for case in &golden.cases("tokenizer") {
            let text = case.text("text");
            assert_eq!(tokenizer.encode(text).unwrap(), case.ids("ids"), "{text:?}");
            assert_eq!(
                tokenizer.decode(&case.ids("ids")).unwrap(),
                case.text("decoded"),
                "{text:?}"
            );
        }
        let long = golden.object("truncation");
        let text = long.text("unit").repeat(long.number("times") as usize);
        let (ids, cut) = tokenizer.encode_truncated(&text).unwrap();
        assert!(cut);
        assert_eq!(ids.len(), long.number("length") as usize);
        assert!(ids.starts_with(&long.ids("head")) && ids.ends_with(&long.ids("tail")));
    }
}

#[test]
fn unknown_words_are_marked() {
    for golden in golden_models() {
        let tokenizer = golden.model.tokenizer();
        let text = "The river 🦀 runs";
        let spans = tokenizer.unknown_spans(text).unwrap();
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert!(text[spans[0].clone()].contains('🦀'));
        assert!(tokenizer.unknown_spans("The river runs").unwrap().is_empty());
    }
}
