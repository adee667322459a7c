// weight_f16: the base's matrix W [weight_rows, d_in], two f16 in each u32. No `shader-f16` needed.
//
// Panels: vec2 number k4 * weight_rows + n holds W[n, 4 k4 .. 4 k4 + 4], zeros past the last column.
// Needs     params.weight_rows

@group(0) @binding(2) var<storage, read> weight: array<vec2<u32>>;

fn weight4(n: u32, k4: u32) -> vec4<f32> {
    let packed = weight[k4 * params.weight_rows + n];
    return vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
}

