// linear_tile: a linear with its adapters, many rows, through workgroup memory. Formula and shapes:
// include/linear.wgsl.
//
// Dispatch  One workgroup per 64 x 64 block of y, blocks of one row of blocks after another, flattened over x and y;
//           16 x 16 invocations with a 4 x 4 register tile each.
// Numerics  f32; k ascending, 16 at a time: the same sums as linear_register.

const STEP = 4u;  // vec4s of k that are in workgroup memory at a time

var<workgroup> x_tile: array<vec4<f32>, 256>;       // [64 rows][STEP]
// [STEP][4][16]: column 4 i + j is at [k][j][i], so that neighbouring invocations read neighbouring places.
var<workgroup> weight_tile: array<vec4<f32>, 256>;

@compute @workgroup_size(16, 16)
fn linear_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let blocks_n = (params.weight_rows + 63u) / 64u;
    let block = group.x + group.y * groups.x;
    let block_m = (block / blocks_n) * 64u;
    let block_n = (block % blocks_n) * 64u;
    if block_m >= params.rows { return; }

    // What this invocation loads: one vec4 of x and one of W in each step.
    let x_row = params.first_row + min(block_m + index / STEP, params.rows - 1u);
    let x_k = index % STEP;
    let column = index % 64u;
    let weight_row = min(block_n + column, params.weight_rows - 1u);
    let weight_k = index / 64u;
    let weight_at = weight_k * 64u + (column % 4u) * 16u + column / 4u;

    let k4s = (params.d_in + 3u) / 4u;
    var tile = Tile();
    for (var k4 = 0u; k4 < k4s; k4 += STEP) {
        var x_value = vec4<f32>();
        if k4 + x_k < k4s { x_value = x4(x_row, k4 + x_k); }
        x_tile[index] = x_value;
        var weight_value = vec4<f32>();
        if k4 + weight_k < k4s { weight_value = weight4(weight_row, k4 + weight_k); }
        weight_tile[weight_at] = weight_value;
        workgroupBarrier();

        for (var k = 0u; k < STEP; k++) {
            let a = lane.y * 4u * STEP + k;
            let b = k * 64u + lane.x;
            tile = multiply_add(
                tile,
                x_tile[a], x_tile[a + STEP], x_tile[a + 2u * STEP], x_tile[a + 3u * STEP],
                weight_tile[b], weight_tile[b + 16u], weight_tile[b + 32u], weight_tile[b + 48u],
            );
        }
        workgroupBarrier();
    }

    let m = block_m + lane.y * 4u;
    let n = block_n + lane.x * 4u;
    if m < params.rows && n < params.weight_rows { finish(tile, m, n); }
}
