// relu: T5 1.0's activation.
//
//   y = max(x, 0)
//
// Shapes    x, y: [count] vec4s.
// Dispatch  One invocation per vec4, workgroups of 64 flattened over x and y.
// Numerics  f32. An overflow, negative or NaN, goes through unchanged: the loss must see it.

struct Params {  // mirrors `relu::Params`
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

fn relu_of(value: f32) -> f32 {
    return select(max(value, 0.0), value, is_overflow(value));
}

@compute @workgroup_size(64)
fn relu(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.x + group.y * groups.x) * 64u + lane;
    if at >= params.count { return; }
    let value = x[at];
    y[at] = vec4(relu_of(value.x), relu_of(value.y), relu_of(value.z), relu_of(value.w));
}
