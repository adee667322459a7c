// heads_ragged: one head's columns of q, k and v [rows, heads * d_kv] for any d_kv; zeros past the last column. No
// published T5 needs it.
//
// Needs     params.heads, params.d_kv

@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;

fn q4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    let first = (row * params.heads + head) * params.d_kv + 4u * d4;
    let left = params.d_kv - 4u * d4;
    var value = vec4(q[first], 0.0, 0.0, 0.0);
    if left > 1u { value.y = q[first + 1u]; }
    if left > 2u { value.z = q[first + 2u]; }
    if left > 3u { value.w = q[first + 3u]; }
    return value;
}

fn k4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    let first = (row * params.heads + head) * params.d_kv + 4u * d4;
    let left = params.d_kv - 4u * d4;
    var value = vec4(k[first], 0.0, 0.0, 0.0);
    if left > 1u { value.y = k[first + 1u]; }
    if left > 2u { value.z = k[first + 2u]; }
    if left > 3u { value.w = k[first + 3u]; }
    return value;
}

fn v4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    let first = (row * params.heads + head) * params.d_kv + 4u * d4;
    let left = params.d_kv - 4u * d4;
    var value = vec4(v[first], 0.0, 0.0, 0.0);
    if left > 1u { value.y = v[first + 1u]; }
    if left > 2u { value.z = v[first + 2u]; }
    if left > 3u { value.w = v[first + 3u]; }
    return value;
}

