//! The WGSL that kernels share, `shaders/include/`.

use crate::kernel::Include;
use crate::tensor::Format;

macro_rules! include {
    ($constant:ident, $name:literal) => {
        pub(crate) static $constant: Include = Include {
            name: $name,
            source: include_str!(concat!("../../shaders/include/", $name, ".wgsl")),
        };
    };
}

include!(ATTENTION, "attention");
include!(HEADS_ALIGNED, "heads_aligned");
include!(HEADS_RAGGED, "heads_ragged");
include!(INPUT_ALIGNED, "input_aligned");
include!(INPUT_RAGGED, "input_ragged");
include!(LINEAR, "linear");
include!(LORA_TERM, "lora_term");
include!(OVERFLOW, "overflow");
include!(TILE, "tile");
include!(WEIGHT_F16, "weight_f16");
include!(WEIGHT_F32, "weight_f32");
include!(WEIGHT_Q4, "weight_q4");
include!(WEIGHT_Q8, "weight_q8");

/// How a matrix of this format is read.
pub(crate) fn weight(format: Format) -> &'static Include {
    match format {
        Format::F32 => &WEIGHT_F32,
        Format::F16 => &WEIGHT_F16,
        Format::Q8 => &WEIGHT_Q8,
        Format::Q4 => &WEIGHT_Q4,
    }
}

/// How an activation of `d_in` columns is read.
pub(crate) fn input(d_in: usize) -> &'static Include {
    if d_in.is_multiple_of(4) {
        &INPUT_ALIGNED
    } else {
        &INPUT_RAGGED
    }
}

/// How heads of `d_kv` columns are read.
pub(crate) fn heads(d_kv: usize) -> &'static Include {
    if d_kv.is_multiple_of(4) {
        &HEADS_ALIGNED
    } else {
        &HEADS_RAGGED
    }
}
