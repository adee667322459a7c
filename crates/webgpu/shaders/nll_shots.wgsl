// nll_shots: sums of a shot's losses.
//
//   sum[c, s] = sum over the rows r of shot s of loss[c * tokens + r]
//
// Shapes    loss: [candidates * tokens], f32 bits; shots: [count] of (first row, rows); sum: [candidates, count], f32
//           bits.
// Dispatch  One invocation per sum, workgroups of 64 flattened over x and y.
// Numerics  f32, in blocks of 32 rows so that a long shot's error stays a short one's. A flagged row flags its shot:
//           +infinity, as bits.

struct Params {  // mirrors `nll_shots::Params`
    candidates: u32,
    count: u32,
    tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> loss: array<u32>;
@group(0) @binding(2) var<storage, read> shots: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sum: array<u32>;

const BLOCK = 32u;

@compute @workgroup_size(64)
fn nll_shots(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.candidates * params.count { return; }
    let shot = shots[at % params.count];
    let first = (at / params.count) * params.tokens + shot.x;
    var total = 0.0;
    var overflow = false;
    for (var start = 0u; start < shot.y; start += BLOCK) {
        var block = 0.0;
        for (var r = start; r < min(start + BLOCK, shot.y); r++) {
            let value = bitcast<f32>(loss[first + r]);
            overflow = overflow || is_overflow(value);
            block += value;
        }
        total += block;
    }
    sum[at] = select(bitcast<u32>(total), 0x7f800000u, overflow || is_overflow(total));
}
