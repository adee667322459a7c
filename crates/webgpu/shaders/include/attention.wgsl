// attention: what the two attention kernels share: parameters, which keys a query sees, and its score of one.
//
//   y[i] = sum over keys j that i sees of p[j] * v[j],   p = softmax(q[i] . k[j] + bias[head, j - i])
//
// Shapes    q, y: [rows, heads * d_kv]; k, v: the same columns, rows by `keys_of`; spans: [tokens] of (first key, keys,
//           position, 0), keys counted within a candidate; bias: [heads, distances], distance 0 at index `zero`.
// Numerics  f32, no scaling (T5 folds it into its weights). A score that left f32's range makes the whole output NaN.

struct Params {  // mirrors `attention::Params`
    rows: u32,
    tokens: u32,      // queries of one candidate
    key_tokens: u32,  // keys of one candidate
    heads: u32,
    d_kv: u32,
    causal: u32,
    biased: u32,
    distances: u32,
    zero: u32,
    steps: u32,       // 0, or the steps of a decode: then k and v are [steps, rows, ..] and spans is not read
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read> spans: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

struct Keys {
    first: u32,   // row of key 0
    stride: u32,  // rows from one key to the next
    count: u32,   // keys that the query sees
    bias: u32,    // index of the bias of key 0
}

fn keys_of(row: u32, head: u32) -> Keys {
    if params.steps > 0u {
        return Keys(row, params.rows, params.steps, head * params.distances + params.zero + 1u - params.steps);
    }
    let span = spans[row % params.tokens];
    let count = select(span.y, min(span.y, span.z + 1u), params.causal != 0u);
    let first = (row / params.tokens) * params.key_tokens + span.x;
    return Keys(first, 1u, count, head * params.distances + params.zero - span.z);
}

fn store_head(row: u32, head: u32, d4: u32, value: vec4<f32>) {
    let first = (row * params.heads + head) * params.d_kv + 4u * d4;
    let left = params.d_kv - 4u * d4;
    y[first] = value.x;
    if left > 1u { y[first + 1u] = value.y; }
    if left > 2u { y[first + 2u] = value.z; }
    if left > 3u { y[first + 3u] = value.w; }
}

