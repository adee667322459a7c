// relative_bias: T5's bias by head and distance, out of its table by bucket.
//
//   by_head[head, i] = W[buckets[i], head]
//
// Shapes    buckets: [distances]; W: [buckets, heads] (see include/weight_*); by_head: [heads, distances].
// Dispatch  One invocation per element, workgroups of 64 flattened over x and y.
// Numerics  Copies.

struct Params {  // mirrors `relative_bias::Params`
    d_in: u32,  // heads
    distances: u32,
    weight_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> buckets: array<u32>;
@group(0) @binding(3) var<storage, read_write> by_head: array<f32>;

@compute @workgroup_size(64)
fn relative_bias(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.d_in * params.distances { return; }
    let head = at / params.distances;
    by_head[at] = weight4(buckets[at % params.distances], head / 4u)[head % 4u];
}
