// input_ragged: the activation x [rows, d_in] for any d_in. No published T5 needs it.
//
// Needs     params.d_in

@group(0) @binding(1) var<storage, read> x: array<f32>;

// x[row, 4 k4 .. 4 k4 + 4], zeros past the last column
fn x4(row: u32, k4: u32) -> vec4<f32> {
    let first = row * params.d_in + 4u * k4;
    let left = params.d_in - 4u * k4;
    var value = vec4(x[first], 0.0, 0.0, 0.0);
    if left > 1u { value.y = x[first + 1u]; }
    if left > 2u { value.z = x[first + 2u]; }
    if left > 3u { value.w = x[first + 3u]; }
    return value;
}

