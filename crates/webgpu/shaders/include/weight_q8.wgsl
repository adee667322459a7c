// weight_q8: the base's matrix W [weight_rows, d_in] in blocks of 32 columns: 8-bit integers and one f16 factor (the
// numbers of llama.cpp's q8_0). d_in is a multiple of 32.
//
// Panels: word k4 * weight_rows + n holds W[n, 4 k4 .. 4 k4 + 4], a signed byte each, the first lowest. Behind all of
// them the factors, two in a word: half number k32 * weight_rows + n belongs to W[n, 32 k32 .. 32 k32 + 32].
// Needs     params.weight_rows, params.d_in

@group(0) @binding(2) var<storage, read> weight: array<u32>;

fn weight4(n: u32, k4: u32) -> vec4<f32> {
    let bytes = weight[k4 * params.weight_rows + n];
    let half = (k4 / 8u) * params.weight_rows + n;
    let factors = unpack2x16float(weight[(params.d_in / 4u) * params.weight_rows + half / 2u]);
    // Shifted up and down again to carry the sign.
    let integers = vec4<i32>(vec4(bytes << 24u, bytes << 16u, bytes << 8u, bytes)) >> vec4(24u);
    return vec4<f32>(integers) * select(factors.x, factors.y, (half & 1u) != 0u);
}

