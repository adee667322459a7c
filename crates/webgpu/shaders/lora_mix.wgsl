// lora_mix: composes the bank for every candidate under rule `reference` (LoRAHub, equation 1), one of A and B at a
// time.
//
//   mixed[c, e] = scale * (sum over modules i of w[c, i] * matrices[i, e])
//
// Shapes    matrices: [modules, count] vec4s, each module's matrix in the layout that the consumer reads; w: [C,
//           modules]; mixed: [C, count] vec4s.
// Dispatch  One workgroup per 64 elements and 4 candidates, elements first, flattened over x and y: a matrix element
//           is read once for 4 candidates.
// Numerics  f32; modules in ascending order.

struct Params {  // mirrors `lora_mix::Params`
    candidates: u32,
    modules: u32,
    count: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> matrices: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> mixed: array<vec4<f32>>;

@compute @workgroup_size(64)
fn lora_mix(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (params.count + 63u) / 64u;
    let block = group.x + group.y * groups.x;
    let element = (block % blocks) * 64u + lane;
    let first = (block / blocks) * 4u;
    if element >= params.count || first >= params.candidates { return; }

    let weights = min(vec4(first, first + 1u, first + 2u, first + 3u), vec4(params.candidates - 1u)) * params.modules;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var i = 0u; i < params.modules; i++) {
        let value = matrices[i * params.count + element];
        sum0 += w[weights.x + i] * value;
        sum1 += w[weights.y + i] * value;
        sum2 += w[weights.z + i] * value;
        sum3 += w[weights.w + i] * value;
    }
    let out = first * params.count + element;
    let left = params.candidates - first;
    mixed[out] = sum0 * params.scale;
    if left > 1u { mixed[out + params.count] = sum1 * params.scale; }
    if left > 2u { mixed[out + 2u * params.count] = sum2 * params.scale; }
    if left > 3u { mixed[out + 3u * params.count] = sum3 * params.scale; }
}
