//! The engine on the GPU against Hugging Face, PEFT and the reference package: the checks that the CPU passes too
//! (`crates/t5/tests/golden`), in every weight format.
//!
//! These tests need an adapter and fail where there is none. A software one will do (Mesa's lavapipe).

#[path = "../../../t5/tests/golden/adapters.rs"]
mod adapters;
#[path = "../../../t5/tests/golden/checks.rs"]
mod checks;
#[path = "../../../t5/tests/golden/family.rs"]
mod family;

use std::rc::Rc;

use checks::Tolerance;
use family::golden_models;
use lorahub_composer::{Candidate, Evaluator};
use lorahub_t5::Config;
use lorahub_tensor::Cpu;
use lorahub_webgpu::{Gpu, Options, WeightStorage};
use pollster::block_on;

/// f32 in another order than PyTorch's and with the GPU's own exp, over a few layers.
const F32: Tolerance = Tolerance {
    logits: 2e-4,
    losses: 2e-4,
};

fn open(options: Options) -> Rc<Gpu> {
    Rc::new(block_on(Gpu::open(options)).expect("these tests need a GPU adapter, such as Mesa's lavapipe"))
}

fn gpu() -> Rc<Gpu> {
    open(Options::default())
}

/// A GPU whose clock stands still, so that it takes its steps for short ones and does as many before a read as it ever
/// does.
fn eager() -> Rc<Gpu> {
    open(Options {
        clock: Some(Rc::new(|| 0.0)),
        ..Options::default()
    })
}

#[test]
fn logits_equal_hugging_face() {
    checks::logits_equal_hugging_face(&gpu(), F32);
}

#[test]
fn losses_equal_hugging_face_one_by_one() {
    checks::losses_equal_hugging_face_one_by_one(&gpu(), F32);
}

#[test]
fn losses_equal_hugging_face_as_a_generation() {
    checks::losses_equal_hugging_face_as_a_generation(&gpu(), F32);
}

#[test]
fn greedy_ids_equal_hugging_face_streamed() {
    checks::greedy_ids_equal_hugging_face_streamed(&eager());
}

#[test]
fn greedy_ids_equal_hugging_face_batched() {
    checks::greedy_ids_equal_hugging_face_batched(&gpu());
}

#[test]
fn the_objective_equals_the_reference_package() {
    checks::the_objective_equals_the_reference_package(&gpu(), F32);
}

#[test]
fn exports_give_what_peft_gives() {
    checks::exports_give_what_peft_gives(&gpu(), F32);
}

/// What a narrow form may move the logits of a model by, relative to the largest: from the form's rounding.
///
/// Rounding makes each weight wrong by a uniform error. Relative to the root mean square of a matrix of normal values, its
/// own is `2^-11 / sqrt(6)` for f16 (a unit in the last place is `2^-11` to `2^-10` of a value), `2.2 / 127 / sqrt(12)`
/// for q8_0 (the largest of 32 normal values is about 2.2 deviations, a step a 127th of it) and `2.2 / 8 / sqrt(12)` for
/// q4_0. A product's result is wrong by the same relative error, whatever its length. The residual stream sums the
/// results of all sublayers, with at most three narrow products in a row each, and there are two tables: the errors add
/// as the root of their number. Of thousands of logits the worst error lies some four deviations out, and the largest
/// logit, to which it is compared, about as far: the factors cancel. A factor of 2 for what attention amplifies.
fn rounding(weights: WeightStorage, config: &Config) -> f32 {
    let of_a_weight = match weights {
        WeightStorage::F32 | WeightStorage::Lossless => 0.0,
        WeightStorage::F16 => 2f32.powi(-11) / 6f32.sqrt(),
        WeightStorage::Q8 => 2.2 / 127.0 / 12f32.sqrt(),
        WeightStorage::Q4 => 2.2 / 8.0 / 12f32.sqrt(),
    };
    let products = 3 * (2 * config.encoder_layers + 3 * config.decoder_layers) + 2;
    2.0 * (products as f32).sqrt() * of_a_weight
}

/// Weights held narrow on both devices give the same results on both, to what f32 allows, and Hugging Face's to what the
/// rounding of the weights explains.
#[test]
fn narrow_weights_give_the_cpus_logits_and_nearly_hugging_faces() {
    for weights in [
        WeightStorage::Lossless,
        WeightStorage::F16,
        WeightStorage::Q8,
        WeightStorage::Q4,
    ] {
        let gpu = open(Options {
            weights,
            ..Options::default()
        });
        let cpu = Rc::new(Cpu::new().with_weights(weights));
        for (on_gpu, on_cpu) in golden_models(&gpu).iter().zip(&golden_models(&cpu)) {
            let rounded = Tolerance {
                logits: F32.logits + rounding(weights, on_gpu.model.config()),
                ..F32
            };
            for case in &on_gpu.cases("logits") {
                let what = format!("{} {} {}", on_gpu.name, case.text("id"), weights.name());
                let found = on_gpu.logits(case);
                F32.assert_logits(&format!("{what}, against the CPU"), &found, &on_cpu.logits(case));
                // A seventh of its embedding's rows is far below f16's smallest normal number, and rounds to a few
                // units: there the error is as large as the value, and no bound on the logits follows from the form.
                if on_gpu.name != "extreme" || weights == WeightStorage::Lossless {
                    rounded.assert_logits(&what, &found, &on_gpu.array(case.text("array")));
                }
            }
        }
    }
}

/// In f32 the GPU is as near to the CPU as both are to Hugging Face: losses of every shot, in one generation and alone.
#[test]
fn a_generation_is_the_cpus_and_its_single_evaluations() {
    // All candidates in one pass, which a software adapter would split.
    let gpu = open(Options {
        rows: Some(1 << 14),
        ..Options::default()
    });
    let cpu = Rc::new(Cpu::new());
    for (on_gpu, on_cpu) in golden_models(&gpu).iter().zip(&golden_models(&cpu)) {
        for rule in ["reference", "exact"] {
            let objective = on_gpu.object("objective");
            let (modules, shots) = (objective.texts("modules"), objective.text("shot_set").to_owned());
            let engine = on_gpu.engine_of(&modules, rule, &shots);
            let candidates: Vec<Candidate> = (0..16)
                .map(|c| Candidate {
                    weights: (0..modules.len())
                        .map(|m| ((c * 7 + m * 5) % 13) as f64 * 0.25 - 1.5)
                        .collect(),
                })
                .collect();
            let together = block_on(engine.evaluate(&candidates)).unwrap();
            let expected = block_on(on_cpu.engine_of(&modules, rule, &shots).evaluate(&candidates)).unwrap();
            for (c, candidate) in candidates.iter().enumerate() {
                let alone = block_on(engine.evaluate(std::slice::from_ref(candidate))).unwrap();
                let losses = together[c].nll.iter().zip(&alone[0].nll).zip(&expected[c].nll);
                for (shot, ((together, alone), cpu)) in losses.enumerate() {
                    let what = format!("{} {rule}, candidate {c}, shot {shot}", on_gpu.name);
                    let size = cpu.abs().max(1.0);
                    assert!(
                        (together - alone).abs() <= 1e-5 * size,
                        "{what}: {together}, alone {alone}"
                    );
                    assert!((together - cpu).abs() <= 2e-4 * size, "{what}: {together}, cpu {cpu}");
                }
            }
        }
    }
}

#[test]
fn every_adapter_gives_what_peft_gives_under_either_rule() {
    adapters::every_adapter_gives_what_peft_gives_under_either_rule(&gpu(), F32);
}

#[test]
fn compositions_of_unequal_adapters_give_what_peft_gives() {
    adapters::compositions_of_unequal_adapters_give_what_peft_gives(&gpu(), F32);
}

#[test]
fn a_generation_of_unequal_adapters_loses_what_peft_loses() {
    adapters::a_generation_of_unequal_adapters_loses_what_peft_loses(&gpu(), F32);
}

#[test]
fn a_wrong_scaling_is_noticed() {
    adapters::a_wrong_scaling_is_noticed(&gpu(), F32);
}
