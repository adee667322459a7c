// lora_pick: the ranks of the modules that a generation uses, out of the whole bank (rule `exact`).
//
//   picked[o, j, i] = bank[o, ranks[j], i],   zero for padding
//
// Shapes    bank: [outer, bank_ranks, inner] vec4s; ranks: [count], 0xffffffff for padding; picked: [outer, count,
//           inner] vec4s. For A (panels) inner is 1, for B (rows of d_out) outer is 1.
// Dispatch  One invocation per vec4 of picked, workgroups of 64 flattened over x and y.
// Numerics  Copies.

struct Params {  // mirrors `lora_pick::Params`
    outer: u32,
    inner: u32,
    count: u32,
    bank_ranks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bank: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> ranks: array<u32>;
@group(0) @binding(3) var<storage, read_write> picked: array<vec4<f32>>;

@compute @workgroup_size(64)
fn lora_pick(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.outer * params.count * params.inner { return; }
    let i = at % params.inner;
    let j = at / params.inner % params.count;
    let o = at / (params.inner * params.count);
    let rank = ranks[j];
    var value = vec4<f32>();
    if rank != 0xffffffffu { value = bank[(o * params.bank_ranks + rank) * params.inner + i]; }
    picked[at] = value;
}
