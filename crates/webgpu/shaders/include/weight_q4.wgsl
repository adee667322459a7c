// weight_q4: the base's matrix W [weight_rows, d_in] in blocks of 32 columns: 4-bit integers and one f16 factor (the
// numbers of llama.cpp's q4_0, in another order). d_in is a multiple of 32.
//
// Panels: word k8 * weight_rows + n holds W[n, 8 k8 .. 8 k8 + 8], a nibble each, the first lowest; a nibble is its
// integer plus 8. Behind all of them the factors, two in a word: half number k32 * weight_rows + n belongs to
// W[n, 32 k32 .. 32 k32 + 32].
// Needs     params.weight_rows, params.d_in

@group(0) @binding(2) var<storage, read> weight: array<u32>;

fn weight4(n: u32, k4: u32) -> vec4<f32> {
    let nibbles = weight[(k4 / 2u) * params.weight_rows + n] >> (16u * (k4 & 1u));
    let half = (k4 / 8u) * params.weight_rows + n;
    let factors = unpack2x16float(weight[(params.d_in / 8u) * params.weight_rows + half / 2u]);
    let integers = vec4<f32>((vec4(nibbles) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u)) - 8.0;
    return integers * select(factors.x, factors.y, (half & 1u) != 0u);
}

