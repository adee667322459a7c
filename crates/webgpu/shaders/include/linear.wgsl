// linear: what the three kernels of a linear share: their parameters, their result, and its last step.
//
//   y[m, n] = scale * (sum over k of x[first_row + m, k] * W[n, k]) + delta[m, n]
//
// Shapes    x: [.., d_in]; W: [weight_rows, d_in] (see weight_*); y: [rows, weight_rows]; delta: see lora_term.

struct Params {  // mirrors `linear::Params`
    rows: u32,
    first_row: u32,
    d_in: u32,
    weight_rows: u32,
    tokens: u32,
    rank4: u32,
    lora_stride: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn store_row(m: u32, n: u32, value: vec4<f32>) {
    if m >= params.rows { return; }
    let first = m * params.weight_rows + n;
    let left = params.weight_rows - n;
    y[first] = value.x;
    if left > 1u { y[first + 1u] = value.y; }
    if left > 2u { y[first + 2u] = value.z; }
    if left > 3u { y[first + 3u] = value.w; }
}

// Scales the block at (m, n), adds the adapters' part and writes what lies inside y. m < rows and n < weight_rows.
fn finish(product: Tile, m: u32, n: u32) {
    var tile = product;
    tile.r0 *= params.scale;
    tile.r1 *= params.scale;
    tile.r2 *= params.scale;
    tile.r3 *= params.scale;
    if params.rank4 > 0u {
        tile = add_lora(tile, min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(params.rows - 1u)), n / 4u);
    }
    store_row(m, n, tile.r0);
    store_row(m + 1u, n, tile.r1);
    store_row(m + 2u, n, tile.r2);
    store_row(m + 3u, n, tile.r3);
}

