// nll_rows: negative log-likelihood of each row's target.
//
//   loss[first_row + r] = log(sum over n of exp(scores[r, n])) - scores[r, targets[(first_row + r) mod tokens]]
//
// Shapes    scores: [rows, vocab], a chunk of all rows; targets: [tokens], the same for every candidate; loss: [C *
//           tokens], f32 bits.
// Dispatch  One workgroup of 128 per row, flattened over x and y; lanes stride over the vocabulary.
// Numerics  f32, online softmax in each lane. A row with a score outside f32's range has loss +infinity, as bits.

struct Params {  // mirrors `nll_rows::Params`
    rows: u32,
    first_row: u32,
    vocab: u32,
    tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> loss: array<u32>;

const LANES = 128u;

var<workgroup> lane_largest: array<f32, LANES>;
var<workgroup> lane_total: array<f32, LANES>;
var<workgroup> lane_overflow: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn nll_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows { return; }

    var largest = -3.4e38;
    var total = 0.0;
    var overflow = 0u;
    for (var n = lane; n < params.vocab; n += LANES) {
        let score = scores[row * params.vocab + n];
        overflow |= u32(is_overflow(score));
        if score > largest {
            total *= exp(max(largest - score, -87.0));
            largest = score;
        }
        total += exp(clamp(score - largest, -87.0, 0.0));
    }
    lane_largest[lane] = largest;
    lane_total[lane] = total;
    lane_overflow[lane] = overflow;
    workgroupBarrier();

    if lane != 0u { return; }
    for (var other = 1u; other < LANES; other++) {
        largest = max(largest, lane_largest[other]);
        overflow |= lane_overflow[other];
    }
    total = 0.0;
    for (var other = 0u; other < LANES; other++) {
        // A lane without columns has total 0.
        total += lane_total[other] * exp(clamp(lane_largest[other] - largest, -87.0, 0.0));
    }
    let target_id = targets[(params.first_row + row) % params.tokens];
    // The difference first: both are large where the logarithm is small.
    let value = (largest - scores[row * params.vocab + target_id]) + log(total);
    loss[params.first_row + row] = select(bitcast<u32>(value), 0x7f800000u, overflow != 0u || is_overflow(value));
}
