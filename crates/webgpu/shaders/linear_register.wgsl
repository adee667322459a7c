// linear_register: a linear with its adapters, many rows, no barriers. Formula and shapes: include/linear.wgsl.
//
// Dispatch  One workgroup per 32 x 32 block of y, blocks of one row of blocks after another, flattened over x and y;
//           8 x 8 invocations with a 4 x 4 register tile each.
// Numerics  f32; k ascending. No workgroup memory: software adapters run barriers an order of magnitude slower.

@compute @workgroup_size(8, 8)
fn linear_register(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let blocks_n = (params.weight_rows + 31u) / 32u;
    let block = group.x + group.y * groups.x;
    let m = (block / blocks_n) * 32u + lane.y * 4u;
    let n = (block % blocks_n) * 32u + lane.x * 4u;
    if m >= params.rows || n >= params.weight_rows { return; }

    let rows = params.first_row + min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(params.rows - 1u));
    let columns = min(vec4(n, n + 1u, n + 2u, n + 3u), vec4(params.weight_rows - 1u));
    var tile = Tile();
    for (var k4 = 0u; k4 < (params.d_in + 3u) / 4u; k4++) {
        tile = multiply_add(
            tile,
            x4(rows.x, k4), x4(rows.y, k4), x4(rows.z, k4), x4(rows.w, k4),
            weight4(columns.x, k4), weight4(columns.y, k4), weight4(columns.z, k4), weight4(columns.w, k4),
        );
    }
    finish(tile, m, n);
}
