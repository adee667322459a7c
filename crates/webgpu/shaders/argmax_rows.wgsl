// argmax_rows: the column with the highest score of each row; the lowest column wins a tie, as in PyTorch.
//
//   ids[first_row + r] = argmax over n of scores[r, n]
//
// Shapes    scores: [rows, columns], a chunk of all rows; ids: [all rows].
// Dispatch  One workgroup of 128 per row, flattened over x and y; lanes stride over the columns.
// Numerics  Comparisons.

struct Params {  // mirrors `argmax_rows::Params`
    rows: u32,
    first_row: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;

const LANES = 128u;

var<workgroup> lane_best: array<f32, LANES>;
var<workgroup> lane_id: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn argmax_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows { return; }
    let first = row * params.columns;

    // A lane past the columns repeats column 0, which changes nothing.
    var id = select(0u, lane, lane < params.columns);
    var best = scores[first + id];
    for (var n = lane + LANES; n < params.columns; n += LANES) {
        let score = scores[first + n];
        if score > best {
            best = score;
            id = n;
        }
    }
    lane_best[lane] = best;
    lane_id[lane] = id;
    workgroupBarrier();

    if lane != 0u { return; }
    for (var other = 1u; other < LANES; other++) {
        let score = lane_best[other];
        if score > best || (score == best && lane_id[other] < id) {
            best = score;
            id = lane_id[other];
        }
    }
    ids[params.first_row + row] = id;
}
