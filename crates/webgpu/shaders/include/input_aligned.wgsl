// input_aligned: the activation x [rows, d_in] where d_in is a multiple of 4.
//
// Needs     params.d_in

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

// x[row, 4 k4 .. 4 k4 + 4]
fn x4(row: u32, k4: u32) -> vec4<f32> {
    return x[row * (params.d_in / 4u) + k4];
}

