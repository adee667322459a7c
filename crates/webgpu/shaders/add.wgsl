// add: the residual.
//
//   z = x + y
//
// Shapes    x, y, z: [count] vec4s.
// Dispatch  One invocation per vec4, workgroups of 64 flattened over x and y.
// Numerics  f32.

struct Params {  // mirrors `add::Params`
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> z: array<vec4<f32>>;

@compute @workgroup_size(64)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count { return; }
    z[at] = x[at] + y[at];
}
