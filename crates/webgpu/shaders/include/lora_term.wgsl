// lora_term: what the adapters add to a 4x4 block of a linear's output.
//
//   delta[row, n] = sum over r of hidden[row, r] * lora_b[c, r, n],   c the candidate of the row
//
// Shapes    hidden: [rows, rank4] vec4s, made by `lora_down`; lora_b: [C or 1, 4 rank4, d_out4] vec4s along n.
// Needs     params.tokens (rows of a candidate), params.rank4 (0: no adapter), params.lora_stride (vec4s from one
//           candidate's lora_b to the next, 0 where all share it), params.weight_rows (d_out)

@group(0) @binding(3) var<storage, read> hidden: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> lora_b: array<vec4<f32>>;

fn lora_row(sum: vec4<f32>, row: u32, first: u32, d_out4: u32) -> vec4<f32> {
    var result = sum;
    for (var r4 = 0u; r4 < params.rank4; r4++) {
        let h = hidden[row * params.rank4 + r4];
        let b = first + 4u * r4 * d_out4;
        result += h.x * lora_b[b];
        result += h.y * lora_b[b + d_out4];
        result += h.z * lora_b[b + 2u * d_out4];
        result += h.w * lora_b[b + 3u * d_out4];
    }
    return result;
}

// `rows` are ascending; columns 4 n4 .. 4 n4 + 4.
fn add_lora(tile: Tile, rows: vec4<u32>, n4: u32) -> Tile {
    var sum = tile;
    let d_out4 = (params.weight_rows + 3u) / 4u;
    let first = (rows / params.tokens) * params.lora_stride + n4;
    if first.x != first.w {
        // The block crosses from one candidate to the next.
        sum.r0 = lora_row(sum.r0, rows.x, first.x, d_out4);
        sum.r1 = lora_row(sum.r1, rows.y, first.y, d_out4);
        sum.r2 = lora_row(sum.r2, rows.z, first.z, d_out4);
        sum.r3 = lora_row(sum.r3, rows.w, first.w, d_out4);
        return sum;
    }
    for (var r4 = 0u; r4 < params.rank4; r4++) {
        let h0 = hidden[rows.x * params.rank4 + r4];
        let h1 = hidden[rows.y * params.rank4 + r4];
        let h2 = hidden[rows.z * params.rank4 + r4];
        let h3 = hidden[rows.w * params.rank4 + r4];
        let b = first.x + 4u * r4 * d_out4;
        let b0 = lora_b[b];
        sum.r0 += h0.x * b0;
        sum.r1 += h1.x * b0;
        sum.r2 += h2.x * b0;
        sum.r3 += h3.x * b0;
        let b1 = lora_b[b + d_out4];
        sum.r0 += h0.y * b1;
        sum.r1 += h1.y * b1;
        sum.r2 += h2.y * b1;
        sum.r3 += h3.y * b1;
        let b2 = lora_b[b + 2u * d_out4];
        sum.r0 += h0.z * b2;
        sum.r1 += h1.z * b2;
        sum.r2 += h2.z * b2;
        sum.r3 += h3.z * b2;
        let b3 = lora_b[b + 3u * d_out4];
        sum.r0 += h0.w * b3;
        sum.r1 += h1.w * b3;
        sum.r2 += h2.w * b3;
        sum.r3 += h3.w * b3;
    }
    return sum;
}

