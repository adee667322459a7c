// weight_f32: the base's matrix W [weight_rows, d_in], f32.
//
// Panels: vec4 number k4 * weight_rows + n holds W[n, 4 k4 .. 4 k4 + 4], zeros past the last column. Neighbouring
// invocations work on neighbouring n, so they read neighbouring addresses.
// Needs     params.weight_rows

@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

fn weight4(n: u32, k4: u32) -> vec4<f32> {
    return weight[k4 * params.weight_rows + n];
}

