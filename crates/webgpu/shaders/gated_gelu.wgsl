// gated_gelu: T5 v1.1's gated activation.
//
//   y = gelu(gate) * up,   gelu(g) = g / 2 * (1 + tanh(u)) = g / (1 + exp(-2 u)),   u = sqrt(2 / pi) * (g + 0.044715 g^3)
//
// Shapes    gate, up, y: [count] vec4s.
// Dispatch  One invocation per vec4, workgroups of 64 flattened over x and y.
// Numerics  f32. The second form needs one exp and loses nothing to cancellation. g is clamped inside u, where past
//           +-10 nothing changes any more; outside it is not, so that an overflow stays one.

struct Params {  // mirrors `gated_gelu::Params`
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn gated_gelu(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count { return; }
    let g = gate[at];
    let inside = clamp(g, vec4(-10.0), vec4(10.0));
    let u = 0.7978846 * (inside + 0.044715 * inside * inside * inside);
    y[at] = g / (1.0 + exp(clamp(-2.0 * u, vec4(-80.0), vec4(80.0)))) * up[at];
}
