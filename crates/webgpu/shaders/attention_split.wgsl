// attention_split: few queries (a decode step). Formula and shapes: include/attention.wgsl.
//
// Dispatch  One workgroup per query and head, heads first, flattened over x and y; its LANES invocations share the
//           keys, because few queries leave too few invocations to fill a GPU.
// Numerics  Each lane runs the online softmax over keys lane, lane + LANES, ..; the lanes are then summed in order.

var<workgroup> lane_largest: array<f32, LANES>;
var<workgroup> lane_total: array<f32, LANES>;
var<workgroup> lane_sum: array<vec4<f32>, LANES * HEAD4>;

@compute @workgroup_size(LANES)
fn attention_split(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = group.x + group.y * groups.x;
    let row = block / params.heads;
    let head = block % params.heads;
    if row >= params.rows { return; }

    let keys = keys_of(row, head);
    var sum: array<vec4<f32>, HEAD4>;
    for (var d4 = 0u; d4 < HEAD4; d4++) { sum[d4] = vec4<f32>(); }
    var largest = -3.4e38;
    var total = 0.0;
    for (var j = lane; j < keys.count; j += LANES) {
        let key = keys.first + j * keys.stride;
        var score = 0.0;
        for (var d4 = 0u; d4 < HEAD4; d4++) { score += dot(q4(row, head, d4), k4(key, head, d4)); }
        if params.biased != 0u { score += bias[keys.bias + j]; }
        if score > largest {
            let rescale = exp(max(largest - score, -87.0));
            for (var d4 = 0u; d4 < HEAD4; d4++) { sum[d4] *= rescale; }
            total *= rescale;
            largest = score;
        }
        var p = exp(clamp(score - largest, -87.0, 0.0));
        if is_overflow(score) { p = poison(p); }
        for (var d4 = 0u; d4 < HEAD4; d4++) { sum[d4] += p * v4(key, head, d4); }
        total += p;
    }
    lane_largest[lane] = largest;
    lane_total[lane] = total;
    for (var d4 = 0u; d4 < HEAD4; d4++) { lane_sum[lane * HEAD4 + d4] = sum[d4]; }
    workgroupBarrier();

    // Lanes without keys have largest at its sentinel and total 0.
    var all_largest = lane_largest[0];
    for (var other = 1u; other < LANES; other++) { all_largest = max(all_largest, lane_largest[other]); }
    var all_total = 0.0;
    for (var other = 0u; other < LANES; other++) {
        all_total += lane_total[other] * exp(clamp(lane_largest[other] - all_largest, -87.0, 0.0));
    }
    let inverse = 1.0 / all_total;
    for (var d4 = lane; d4 < HEAD4; d4 += LANES) {
        var value = vec4<f32>();
        for (var other = 0u; other < LANES; other++) {
            value += lane_sum[other * HEAD4 + d4] * exp(clamp(lane_largest[other] - all_largest, -87.0, 0.0));
        }
        store_head(row, head, d4, value * inverse);
    }
}
