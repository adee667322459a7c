// cache_append: one step's keys and values, behind those of the steps before.
//
//   keys[first + i] = k[i],   values[first + i] = v[i]
//
// Shapes    k, v: [count] (sequences * width); keys, values: [capacity, count], first = step * count.
// Dispatch  One invocation per element of k, workgroups of 64 flattened over x and y.
// Numerics  Copies.

struct Params {  // mirrors `cache_append::Params`
    count: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> keys: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(64)
fn cache_append(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count { return; }
    keys[params.first + at] = k[at];
    values[params.first + at] = v[at];
}
