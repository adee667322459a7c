// lora_up: adds the adapters to a base product that all candidates share (the first block, where nothing depends on
// the candidate yet).
//
//   y[c, t, n] = base[t, n] + delta[c * tokens + t, n]
//
// Shapes    base: [tokens, weight_rows]; y: [rows, weight_rows], rows = C * tokens; delta: see include/lora_term.wgsl.
// Dispatch  One workgroup per 32 x 32 block of y, blocks of one row of blocks after another, flattened over x and y;
//           8 x 8 invocations with 4 x 4 outputs each.
// Numerics  f32; the sum starts from the base.

struct Params {  // mirrors `lora_up::Params`
    rows: u32,
    weight_rows: u32,
    tokens: u32,
    rank4: u32,
    lora_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> base: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn base4(row: u32, columns: vec4<u32>) -> vec4<f32> {
    let at = (row % params.tokens) * params.weight_rows + columns;
    return vec4(base[at.x], base[at.y], base[at.z], base[at.w]);
}

fn store_row(m: u32, n: u32, value: vec4<f32>) {
    if m >= params.rows { return; }
    let first = m * params.weight_rows + n;
    let left = params.weight_rows - n;
    y[first] = value.x;
    if left > 1u { y[first + 1u] = value.y; }
    if left > 2u { y[first + 2u] = value.z; }
    if left > 3u { y[first + 3u] = value.w; }
}

@compute @workgroup_size(8, 8)
fn lora_up(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let blocks_n = (params.weight_rows + 31u) / 32u;
    let block = group.x + group.y * groups.x;
    let m = (block / blocks_n) * 32u + lane.y * 4u;
    let n = (block % blocks_n) * 32u + lane.x * 4u;
    if m >= params.rows || n >= params.weight_rows { return; }

    let rows = min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(params.rows - 1u));
    let columns = min(vec4(n, n + 1u, n + 2u, n + 3u), vec4(params.weight_rows - 1u));
    let start = Tile(
        base4(rows.x, columns), base4(rows.y, columns), base4(rows.z, columns), base4(rows.w, columns),
    );
    let tile = add_lora(start, rows, n / 4u);
    store_row(m, n, tile.r0);
    store_row(m + 1u, n, tile.r1);
    store_row(m + 2u, n, tile.r2);
    store_row(m + 3u, n, tile.r3);
}
