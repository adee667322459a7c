// repeat: what all candidates share, once for each.
//
//   y[i] = x[i mod length]
//
// Shapes    x: [length]; y: [count], count a multiple of length.
// Dispatch  One invocation per element of y, workgroups of 64 flattened over x and y.
// Numerics  Copies.

struct Params {  // mirrors `repeat::Params`
    count: u32,
    length: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn repeat(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count { return; }
    y[at] = x[at % params.length];
}
