// overflow: values that left f32's range. WGSL lets a compiler assume that there are none, so they are told by their
// bits, and marked with a NaN made of bits that only exist at run time.

fn is_overflow(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}

// A NaN, which every later product and sum carries on to the loss.
fn poison(value: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(value) | 0x7fc00000u);
}

