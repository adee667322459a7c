// linear_split: a linear with its adapters, few rows (a decode step). Formula and shapes: include/linear.wgsl.
//
// Dispatch  One workgroup per 4 x 16 block of y, blocks of one row of blocks after another, flattened over x and y.
//           64 invocations: 4 register tiles side by side, each split over 16 slices of k, because few rows leave too
//           few tiles to fill a GPU.
// Numerics  f32; slice s sums k4 = s, s + 16, .. in ascending order, then the slices are summed in order: rounding
//           differs from linear_register.

const SLICES = 16u;

var<workgroup> partial: array<Tile, 64>;

@compute @workgroup_size(64)
fn linear_split(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks_n = (params.weight_rows + 15u) / 16u;
    let block = group.x + group.y * groups.x;
    let m = (block / blocks_n) * 4u;
    let n = (block % blocks_n) * 16u + (lane % 4u) * 4u;
    if m >= params.rows { return; }

    let rows = params.first_row + min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(params.rows - 1u));
    let columns = min(vec4(n, n + 1u, n + 2u, n + 3u), vec4(params.weight_rows - 1u));
    var tile = Tile();
    for (var k4 = lane / 4u; k4 < (params.d_in + 3u) / 4u; k4 += SLICES) {
        tile = multiply_add(
            tile,
            x4(rows.x, k4), x4(rows.y, k4), x4(rows.z, k4), x4(rows.w, k4),
            weight4(columns.x, k4), weight4(columns.y, k4), weight4(columns.z, k4), weight4(columns.w, k4),
        );
    }
    partial[lane] = tile;
    workgroupBarrier();

    if lane >= 4u || n >= params.weight_rows { return; }
    for (var slice = 1u; slice < SLICES; slice++) {
        let other = partial[slice * 4u + lane];
        tile.r0 += other.r0;
        tile.r1 += other.r1;
        tile.r2 += other.r2;
        tile.r3 += other.r3;
    }
    finish(tile, m, n);
}
