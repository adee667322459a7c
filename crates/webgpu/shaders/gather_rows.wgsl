// gather_rows: rows of an activation, in any order and number.
//
//   y[i, c] = x[rows[i], c]
//
// Shapes    x: [.., columns]; rows: [count]; y: [count, columns].
// Dispatch  One invocation per element of y, workgroups of 64 flattened over x and y.
// Numerics  Copies.

struct Params {  // mirrors `gather_rows::Params`
    count: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn gather_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count * params.columns { return; }
    y[at] = x[rows[at / params.columns] * params.columns + at % params.columns];
}
