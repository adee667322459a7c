// embed: rows of the embedding.
//
//   y[i, c] = W[ids[i], c]
//
// Shapes    ids: [count]; W: [weight_rows, d_in] (see include/weight_*); y: [count, d_in].
// Dispatch  One invocation per 4 columns of y, workgroups of 64 flattened over x and y.
// Numerics  Copies, narrow formats widened exactly.

struct Params {  // mirrors `embed::Params`
    count: u32,
    d_in: u32,
    weight_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn embed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    let k4s = (params.d_in + 3u) / 4u;
    let row = at / k4s;
    if row >= params.count { return; }
    let c4 = at % k4s;
    let value = weight4(ids[row], c4);
    let first = row * params.d_in + 4u * c4;
    let left = params.d_in - 4u * c4;
    y[first] = value.x;
    if left > 1u { y[first + 1u] = value.y; }
    if left > 2u { y[first + 2u] = value.z; }
    if left > 3u { y[first + 3u] = value.w; }
}
