// linear_wide: a linear with its adapters, many rows, through workgroup memory. Formula and shapes:
// include/linear.wgsl.
//
// Dispatch  One workgroup per 128 x 128 block of y, blocks of one row of blocks after another, flattened over x and y;
//           16 x 16 invocations with four 4 x 4 register tiles each, 64 rows and 64 columns apart: half the reads of
//           workgroup memory that linear_tile makes for a product.
// Numerics  f32; k ascending, 16 at a time: the same sums as linear_register.

const STEP = 4u;  // vec4s of k that are in workgroup memory at a time

var<workgroup> x_tile: array<vec4<f32>, 512>;       // [128 rows][STEP]
// [STEP][2][4][16]: column 64 h + 4 i + j is at [k][h][j][i], so that neighbouring invocations read neighbouring places.
var<workgroup> weight_tile: array<vec4<f32>, 512>;

@compute @workgroup_size(16, 16)
fn linear_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let blocks_n = (params.weight_rows + 127u) / 128u;
    let block = group.x + group.y * groups.x;
    let block_m = (block / blocks_n) * 128u;
    let block_n = (block % blocks_n) * 128u;
    if block_m >= params.rows { return; }

    // What this invocation loads in each step: two vec4s of x, 64 rows apart, and two of W, two vec4s of k apart.
    let x_row = block_m + index / STEP;
    let x_rows = params.first_row + min(vec2(x_row, x_row + 64u), vec2(params.rows - 1u));
    let x_k = index % STEP;
    let column = index % 128u;
    let weight_row = min(block_n + column, params.weight_rows - 1u);
    let weight_k = index / 128u;
    let weight_at = weight_k * 128u + (column / 64u) * 64u + (column % 4u) * 16u + column % 64u / 4u;

    let k4s = (params.d_in + 3u) / 4u;
    var tile00 = Tile();
    var tile01 = Tile();
    var tile10 = Tile();
    var tile11 = Tile();
    for (var k4 = 0u; k4 < k4s; k4 += STEP) {
        var x_value0 = vec4<f32>();
        var x_value1 = vec4<f32>();
        if k4 + x_k < k4s {
            x_value0 = x4(x_rows.x, k4 + x_k);
            x_value1 = x4(x_rows.y, k4 + x_k);
        }
        x_tile[index] = x_value0;
        x_tile[index + 256u] = x_value1;
        var weight_value0 = vec4<f32>();
        if k4 + weight_k < k4s { weight_value0 = weight4(weight_row, k4 + weight_k); }
        weight_tile[weight_at] = weight_value0;
        var weight_value1 = vec4<f32>();
        if k4 + weight_k + 2u < k4s { weight_value1 = weight4(weight_row, k4 + weight_k + 2u); }
        weight_tile[weight_at + 256u] = weight_value1;
        workgroupBarrier();

        for (var k = 0u; k < STEP; k++) {
            let a = lane.y * 4u * STEP + k;
            let x0 = x_tile[a];
            let x1 = x_tile[a + STEP];
            let x2 = x_tile[a + 2u * STEP];
            let x3 = x_tile[a + 3u * STEP];
            let x64 = x_tile[a + 256u];
            let x65 = x_tile[a + 256u + STEP];
            let x66 = x_tile[a + 256u + 2u * STEP];
            let x67 = x_tile[a + 256u + 3u * STEP];
            let b = k * 128u + lane.x;
            let w0 = weight_tile[b];
            let w1 = weight_tile[b + 16u];
            let w2 = weight_tile[b + 32u];
            let w3 = weight_tile[b + 48u];
            tile00 = multiply_add(tile00, x0, x1, x2, x3, w0, w1, w2, w3);
            tile10 = multiply_add(tile10, x64, x65, x66, x67, w0, w1, w2, w3);
            let w64 = weight_tile[b + 64u];
            let w65 = weight_tile[b + 80u];
            let w66 = weight_tile[b + 96u];
            let w67 = weight_tile[b + 112u];
            tile01 = multiply_add(tile01, x0, x1, x2, x3, w64, w65, w66, w67);
            tile11 = multiply_add(tile11, x64, x65, x66, x67, w64, w65, w66, w67);
        }
        workgroupBarrier();
    }

    let m = block_m + lane.y * 4u;
    let n = block_n + lane.x * 4u;
    let below = m + 64u < params.rows;
    let beside = n + 64u < params.weight_rows;
    if m < params.rows && n < params.weight_rows { finish(tile00, m, n); }
    if m < params.rows && beside { finish(tile01, m, n + 64u); }
    if below && n < params.weight_rows { finish(tile10, m + 64u, n); }
    if below && beside { finish(tile11, m + 64u, n + 64u); }
}
