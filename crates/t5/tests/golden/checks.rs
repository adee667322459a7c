//! What must hold of the engine on any device, against Hugging Face, PEFT and the reference package, on every model in
//! `tests/golden/models`.

use std::ops::ControlFlow;
use std::rc::Rc;

use lorahub_adapters::{Bank, Rule};
use lorahub_composer::{Candidate, Evaluator, Objective, ObjectiveName, ShotLosses};
use lorahub_tensor::Backend;
use lorahub_weights::{Limits, SafeTensors};
use pollster::block_on;

use crate::family::{Case, Golden, export_cases, golden_folder, golden_models, load_model, load_module, read};

/// How far a device may be from Hugging Face.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// Of logits, times `max(1, max|ref|)`.
    pub(crate) logits: f32,
    /// Of losses, times `max(1, |ref|)`.
    pub(crate) losses: f64,
}

impl Tolerance {
    pub(crate) fn assert_logits(self, what: &str, found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(1f32, |max, value| max.max(value.abs()));
        for (index, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!(
                (a - b).abs() <= self.logits * largest,
                "{what}[{index}]: {a}, expected {b} within {}",
                self.logits * largest
            );
        }
    }

    fn assert_loss(self, what: &str, found: f64, expected: f64) {
        let allowed = self.losses * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= allowed,
            "{what}: {found}, expected {expected} within {allowed}"
        );
    }
}

pub(crate) fn logits_equal_hugging_face<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    for golden in golden_models(backend) {
        let mut compared = 0;
        for case in &golden.cases("logits") {
            let expected = golden.array(case.text("array"));
            let what = format!("{} {}", golden.name, case.text("id"));
            tolerance.assert_logits(&what, &golden.logits(case), &expected);
            compared += 1;
        }
        assert!(compared >= 15, "{}: only {compared} logit cases", golden.name);
    }
}

pub(crate) fn losses_equal_hugging_face_one_by_one<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    for golden in golden_models(backend) {
        for case in &golden.cases("losses") {
            let (engine, weights) = golden.engine(case);
            let losses = block_on(engine.evaluate(&[Candidate {
                weights: weights.clone(),
            }]))
            .unwrap();
            check_losses(&golden, case, &losses[0], &weights, tolerance);
        }
    }
}

fn check_losses<B: Backend>(
    golden: &Golden<B>,
    case: &Case,
    losses: &ShotLosses,
    weights: &[f64],
    tolerance: Tolerance,
) {
    let what = format!("{} {}", golden.name, case.text("id"));
    assert_eq!(losses.tokens, case.ids("tokens"), "{what}");
    for (shot, (found, expected)) in losses.shot_loss().iter().zip(case.numbers("shot_loss_f64")).enumerate() {
        tolerance.assert_loss(&format!("{what} shot {shot}"), *found, expected);
    }
    tolerance.assert_loss(&what, losses.batch_loss(), case.number("batch_loss_f64"));
    for (name, field) in [
        (ObjectiveName::Reference, "objective_reference"),
        (ObjectiveName::Normalised, "objective_normalised"),
    ] {
        let objective = Objective { name, l1: 0.05 };
        tolerance.assert_loss(
            &format!("{what} {field}"),
            objective.value(losses, weights),
            case.number(field),
        );
    }
}

/// All compositions of the same modules as one generation: each must lose what it loses alone.
pub(crate) fn losses_equal_hugging_face_as_a_generation<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    for golden in golden_models(backend) {
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
                check_losses(&golden, case, losses, &candidate.weights, tolerance);
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

pub(crate) fn greedy_ids_equal_hugging_face_streamed<B: Backend>(backend: &Rc<B>) {
    for golden in golden_models(backend) {
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
pub(crate) fn greedy_ids_equal_hugging_face_batched<B: Backend>(backend: &Rc<B>) {
    for golden in golden_models(backend) {
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

pub(crate) fn the_objective_equals_the_reference_package<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    for golden in golden_models(backend) {
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
            tolerance.assert_loss(
                &what,
                reference.value(&losses[0], &weights),
                value.number("objective_reference"),
            );
        }
    }
}

/// Adapters that `lorahub export` wrote and PEFT loaded (`tests/golden/exports`): read back, alone with weight 1 under
/// either rule, each gives what PEFT gives with it.
pub(crate) fn exports_give_what_peft_gives<B: Backend>(backend: &Rc<B>, tolerance: Tolerance) {
    let exports = golden_folder().join("exports");
    let arrays = read(&exports.join("arrays.safetensors"));
    let arrays = SafeTensors::parse(&arrays, &Limits::BASE).unwrap();
    let cases = export_cases();
    assert!(cases.len() >= 3);
    for case in cases {
        let model = load_model(backend, &golden_folder().join("models").join(case.text("model")));
        let expected = arrays.f32(case.text("array")).unwrap();
        for rule in [Rule::Reference, Rule::Exact] {
            let module = load_module(&exports.join(case.text("adapter")), &model.base_spec());
            let bank = Bank::new(vec![module], rule).unwrap();
            let (input, target) = (case.ids("input_ids"), case.ids("target_ids"));
            let found = block_on(model.logits(Some((&bank, &[1.0])), &input, &target)).unwrap();
            tolerance.assert_logits(&format!("{} {rule}", case.text("adapter")), &found, &expected);
        }
    }
}
