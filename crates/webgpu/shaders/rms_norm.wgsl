// rms_norm: T5's layer norm. Scales by 1/RMS; no mean subtraction, no bias (T5 paper, section 2.1).
//
//   y[r, c] = x[r, c] * weight[c] / sqrt(mean over c of x[r, c]^2 + eps)
//
// Shapes    x, y: [rows, columns]; weight: [columns].
// Dispatch  One workgroup of 64 per row, flattened over x and y; lanes stride over columns.
// Numerics  f32. Sum over lanes in order: rounding differs from the CPU. A sum of squares outside f32's range (any
//           |x| above 1.8e19) makes the row NaN: the quotient would be a finite, wrong zero.

struct Params {  // mirrors `rms_norm::Params`
    rows: u32,
    columns: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const LANES = 64u;

var<workgroup> lane_sum: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows { return; }
    let first = row * params.columns;

    var sum = 0.0;
    for (var c = lane; c < params.columns; c += LANES) { sum += x[first + c] * x[first + c]; }
    lane_sum[lane] = sum;
    workgroupBarrier();

    // Every lane sums all lanes: cheaper than more barriers.
    var total = 0.0;
    for (var other = 0u; other < LANES; other++) { total += lane_sum[other]; }
    var inverse = inverseSqrt(total / f32(params.columns) + params.eps);
    if is_overflow(total) { inverse = poison(inverse); }
    for (var c = lane; c < params.columns; c += LANES) { y[first + c] = x[first + c] * inverse * weight[c]; }
}
