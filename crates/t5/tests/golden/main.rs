//! The engine on the CPU against Hugging Face, PEFT and the reference package, on every model in
//! `tests/golden/models`; and what is the host's own: tokens, and the bits of exports.
//!
//! `tests/golden/PROVENANCE.md` says how the numbers were made and why the tolerances are what they are. The GPU's tests
//! (`crates/webgpu/tests/golden`) make the same checks.

mod adapters;
mod checks;
mod family;

use std::rc::Rc;

use checks::Tolerance;
use family::{export_cases, golden_folder, golden_models, load_model, load_module, read};
use lorahub_adapters::{Bank, Module, Rule, compose};
use lorahub_tensor::Cpu;

/// Logits: f32 sums in another order than PyTorch's, over a few layers. Losses are means over tokens, so the errors of
/// single logits cancel.
const F32: Tolerance = Tolerance {
    logits: 1e-4,
    losses: 1e-5,
};

fn cpu() -> Rc<Cpu> {
    Rc::new(Cpu::new())
}

#[test]
fn logits_equal_hugging_face() {
    checks::logits_equal_hugging_face(&cpu(), F32);
}

#[test]
fn losses_equal_hugging_face_one_by_one() {
    checks::losses_equal_hugging_face_one_by_one(&cpu(), F32);
}

#[test]
fn losses_equal_hugging_face_as_a_generation() {
    checks::losses_equal_hugging_face_as_a_generation(&cpu(), F32);
}

#[test]
fn greedy_ids_equal_hugging_face_streamed() {
    checks::greedy_ids_equal_hugging_face_streamed(&cpu());
}

#[test]
fn greedy_ids_equal_hugging_face_batched() {
    checks::greedy_ids_equal_hugging_face_batched(&cpu());
}

#[test]
fn the_objective_equals_the_reference_package() {
    checks::the_objective_equals_the_reference_package(&cpu(), F32);
}

#[test]
fn exports_give_what_peft_gives() {
    checks::exports_give_what_peft_gives(&cpu(), F32);
}

#[test]
fn every_adapter_gives_what_peft_gives_under_either_rule() {
    adapters::every_adapter_gives_what_peft_gives_under_either_rule(&cpu(), F32);
}

#[test]
fn compositions_of_unequal_adapters_give_what_peft_gives() {
    adapters::compositions_of_unequal_adapters_give_what_peft_gives(&cpu(), F32);
}

#[test]
fn a_generation_of_unequal_adapters_loses_what_peft_loses() {
    adapters::a_generation_of_unequal_adapters_loses_what_peft_loses(&cpu(), F32);
}

#[test]
fn a_wrong_scaling_is_noticed() {
    adapters::a_wrong_scaling_is_noticed(&cpu(), F32);
}

/// Composing the modules anew gives the matrices that were exported, to the bit.
#[test]
fn composing_again_gives_the_exported_matrices() {
    for case in export_cases() {
        let folder = golden_folder().join("models").join(case.text("model"));
        let spec = load_model(&cpu(), &folder).base_spec();
        let all: serde_json::Value = serde_json::from_slice(&read(&folder.join("cases.json"))).unwrap();
        let composition = all["compositions"]
            .as_array()
            .and_then(|list| {
                list.iter()
                    .find(|composition| composition["id"] == *case.get("composition"))
            })
            .unwrap_or_else(|| panic!("no composition `{}`", case.text("composition")));
        let module =
            |name: &serde_json::Value| load_module(&folder.join("modules").join(name.as_str().unwrap()), &spec);
        let modules: Vec<Module> = composition["modules"].as_array().unwrap().iter().map(module).collect();
        let weights = composition["weights"].as_array().unwrap();
        let weights: Vec<f64> = weights.iter().map(|weight| weight.as_f64().unwrap()).collect();
        let rule: Rule = composition["rule"].as_str().unwrap().parse().unwrap();
        let composed = compose(&Bank::new(modules, rule).unwrap(), &weights).unwrap();
        let exported = load_module(&golden_folder().join("exports").join(case.text("adapter")), &spec);
        assert_eq!((composed.rank, composed.alpha), (exported.rank, exported.alpha));
        assert_eq!(composed.pairs, exported.pairs, "{}", case.text("adapter"));
    }
}

#[test]
fn tokens_equal_hugging_face() {
    for golden in golden_models(&Rc::new(Cpu::new())) {
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
    for golden in golden_models(&Rc::new(Cpu::new())) {
        let tokenizer = golden.model.tokenizer();
        let text = "The river 🦀 runs";
        let spans = tokenizer.unknown_spans(text).unwrap();
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert!(text[spans[0].clone()].contains('🦀'));
        assert!(tokenizer.unknown_spans("The river runs").unwrap().is_empty());
    }
}
