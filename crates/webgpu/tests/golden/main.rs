//! The engine on the GPU against Hugging Face, PEFT and the reference package: the checks that the CPU passes too
//! (`crates/t5/tests/golden`), in every weight format.
//!
//! These tests need an adapter and fail where there is none. A software one will do (Mesa's lavapipe).

#[path = "../../../t5/tests/golden/checks.rs"]
mod checks;
#[path = "../../../t5/tests/golden/family.rs"]
mod family;

use std::rc::Rc;

use checks::Tolerance;
use lorahub_webgpu::{Gpu, Options};
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
    checks::greedy_ids_equal_hugging_face_streamed(&gpu());
    checks::greedy_ids_equal_hugging_face_streamed(&eager());
}

#[test]
fn greedy_ids_equal_hugging_face_batched() {
    checks::greedy_ids_equal_hugging_face_batched(&gpu());
    checks::greedy_ids_equal_hugging_face_batched(&eager());
}

#[test]
fn the_objective_equals_the_reference_package() {
    checks::the_objective_equals_the_reference_package(&gpu(), F32);
}

#[test]
fn exports_give_what_peft_gives() {
    checks::exports_give_what_peft_gives(&gpu(), F32);
}
