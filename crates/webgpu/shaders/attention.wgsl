// attention: many queries. Formula and shapes: include/attention.wgsl.
//
// Dispatch  One invocation per query and head; a workgroup is 64 queries of one head, so that its invocations read the
//           same keys at the same time. Workgroups of a head after one another, flattened over x and y.
// Numerics  Online softmax (Milakov and Gimelshein 2018, algorithm 3) over keys in ascending order: no matrix of
//           scores in memory.

@compute @workgroup_size(64)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let blocks = (params.rows + 63u) / 64u;
    let block = group.x + group.y * groups.x;
    let row = (block % blocks) * 64u + lane;
    let head = block / blocks;
    if row >= params.rows || head >= params.heads { return; }

    let keys = keys_of(row, head);
    var query: array<vec4<f32>, HEAD4>;
    var sum: array<vec4<f32>, HEAD4>;
    for (var d4 = 0u; d4 < HEAD4; d4++) {
        query[d4] = q4(row, head, d4);
        sum[d4] = vec4<f32>();
    }
    var largest = -3.4e38;
    var total = 0.0;
    var overflow = false;
    for (var j = 0u; j < keys.count; j++) {
        let key = keys.first + j * keys.stride;
        var score = 0.0;
        for (var d4 = 0u; d4 < HEAD4; d4++) { score += dot(query[d4], k4(key, head, d4)); }
        if params.biased != 0u { score += bias[keys.bias + j]; }
        overflow = overflow || is_overflow(score);
        if score > largest {
            let rescale = exp(max(largest - score, -87.0));
            for (var d4 = 0u; d4 < HEAD4; d4++) { sum[d4] *= rescale; }
            total *= rescale;
            largest = score;
        }
        let p = exp(clamp(score - largest, -87.0, 0.0));
        for (var d4 = 0u; d4 < HEAD4; d4++) { sum[d4] += p * v4(key, head, d4); }
        total += p;
    }
    var inverse = 1.0 / total;
    if overflow { inverse = poison(inverse); }
    for (var d4 = 0u; d4 < HEAD4; d4++) { store_head(row, head, d4, sum[d4] * inverse); }
}
