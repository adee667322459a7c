// lora_down: the hidden rows of the adapters.
//
//   hidden[c, t, r] = factor[c, r] * (sum over k of x[c, t, k] * a[c, r, k])
//
// Shapes    x: [C or 1, tokens, d_in]; a: [C or 1] panels, vec4 number k4 * 4 rank4 + r holds a[r, 4 k4 .. 4 k4 + 4];
//           factors: [C, rank4] vec4s, read only if scaled; hidden: [C, tokens, rank4] vec4s along r. Ranks are padded
//           with zeros to a multiple of 4.
// Dispatch  One workgroup per candidate, 4 tokens and 16 ranks, ranks first, flattened over x and y. 64 invocations: 4
//           register tiles side by side, each split over 16 slices of k (ranks are small, so tiles are few).
// Numerics  As linear_split.

struct Params {  // mirrors `lora_down::Params`
    candidates: u32,
    tokens: u32,
    d_in: u32,
    rank4: u32,
    x_stride: u32,  // rows from one candidate's x to the next, 0 where all share it
    a_stride: u32,  // vec4s from one candidate's a to the next, 0 where all share it
    scaled: u32,    // whether factors apply
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> factors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> hidden: array<vec4<f32>>;

const SLICES = 16u;

var<workgroup> partial: array<Tile, 64>;

@compute @workgroup_size(64)
fn lora_down(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks_r = (params.rank4 + 3u) / 4u;
    let blocks_t = (params.tokens + 3u) / 4u;
    let block = group.x + group.y * groups.x;
    let candidate = block / (blocks_r * blocks_t);
    if candidate >= params.candidates { return; }
    let token = (block / blocks_r % blocks_t) * 4u;
    let r4 = (block % blocks_r) * 4u + lane % 4u;

    let tokens = min(vec4(token, token + 1u, token + 2u, token + 3u), vec4(params.tokens - 1u));
    let rows = candidate * params.x_stride + tokens;
    let first = candidate * params.a_stride + 4u * min(r4, params.rank4 - 1u);
    var tile = Tile();
    for (var k4 = lane / 4u; k4 < (params.d_in + 3u) / 4u; k4 += SLICES) {
        let at = first + k4 * 4u * params.rank4;
        tile = multiply_add(
            tile,
            x4(rows.x, k4), x4(rows.y, k4), x4(rows.z, k4), x4(rows.w, k4),
            a[at], a[at + 1u], a[at + 2u], a[at + 3u],
        );
    }
    partial[lane] = tile;
    workgroupBarrier();

    if lane >= 4u || r4 >= params.rank4 { return; }
    for (var slice = 1u; slice < SLICES; slice++) {
        let other = partial[slice * 4u + lane];
        tile.r0 += other.r0;
        tile.r1 += other.r1;
        tile.r2 += other.r2;
        tile.r3 += other.r3;
    }
    var factor = vec4(1.0);
    if params.scaled != 0u { factor = factors[candidate * params.rank4 + r4]; }
    let out = (candidate * params.tokens + token) * params.rank4 + r4;
    let left = params.tokens - token;
    hidden[out] = tile.r0 * factor;
    if left > 1u { hidden[out + params.rank4] = tile.r1 * factor; }
    if left > 2u { hidden[out + 2u * params.rank4] = tile.r2 * factor; }
    if left > 3u { hidden[out + 3u * params.rank4] = tile.r3 * factor; }
}
