// heads_aligned: one head's columns of q, k and v [rows, heads * d_kv] where d_kv is a multiple of 4.
//
// Needs     params.heads; HEAD4, the vec4s of a head

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;

fn q4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    return q[(row * params.heads + head) * HEAD4 + d4];
}

fn k4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    return k[(row * params.heads + head) * HEAD4 + d4];
}

fn v4(row: u32, head: u32, d4: u32) -> vec4<f32> {
    return v[(row * params.heads + head) * HEAD4 + d4];
}

