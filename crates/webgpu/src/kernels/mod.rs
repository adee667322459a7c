//! One module for each kernel, named like its file in `shaders/`: its parameters as the host writes them, and the
//! function that records it. Shapes have been checked by the caller ([`crate::backend`]).
//!
//! Sizes become `u32` here. None can be larger: every dimension is that of a buffer, and a buffer is no larger than
//! the device can bind.

pub(crate) mod add;
pub(crate) mod argmax_rows;
pub(crate) mod attention;
pub(crate) mod cache_append;
pub(crate) mod embed;
pub(crate) mod gated_gelu;
pub(crate) mod gather_rows;
pub(crate) mod include;
pub(crate) mod linear;
pub(crate) mod lora_down;
pub(crate) mod lora_mix;
pub(crate) mod lora_pick;
pub(crate) mod lora_up;
pub(crate) mod nll_rows;
pub(crate) mod nll_shots;
pub(crate) mod relative_bias;
pub(crate) mod relu;
pub(crate) mod repeat;
pub(crate) mod rms_norm;

/// Invocations of a workgroup in the kernels that take one element each.
const FLAT: usize = 64;

/// Every program that the backend can ask for: kernels in all variants of their includes, constants by example.
pub(crate) fn programs() -> Vec<crate::kernel::Program> {
    let mut programs = Vec::new();
    for of_module in [
        add::programs,
        argmax_rows::programs,
        attention::programs,
        cache_append::programs,
        embed::programs,
        gated_gelu::programs,
        gather_rows::programs,
        linear::programs,
        lora_down::programs,
        lora_mix::programs,
        lora_pick::programs,
        lora_up::programs,
        nll_rows::programs,
        nll_shots::programs,
        relative_bias::programs,
        relu::programs,
        repeat::programs,
        rms_norm::programs,
    ] {
        programs.extend(of_module());
    }
    programs
}
