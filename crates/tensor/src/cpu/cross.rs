//! Attention to the encoder's output without keys and values.
//!
//! Keys and values are linear in the encoder's output `e`, so both products can be taken on the queries' side instead:
//! `q (e W_k^T)^T = (q W_k) e^T`, and `p (e W_v^T) = (p e) W_v^T`, head by head. A head then attends to `e` itself, which
//! is wider, but `e`'s many rows meet neither matrix. With the few target tokens of a shot that is less work.

use lorahub_kernels::PANEL;

use super::attention::attention;
use super::buffer::{CpuTensor, Pool};
use super::fused;
use super::lora::CpuLora;
use super::weight::{CpuWeight, Kernels, Scratch};
use crate::{AttentionPlan, Segments, TensorError};

/// Whether it is less work for `width` columns of queries and `d` columns of the encoder's output: at most three quarters
/// of the multiply-adds, because narrow products are slower than wide ones.
pub(super) fn pays(plan: &AttentionPlan<'_>, width: usize, d: usize) -> bool {
    // What the kernels can cut a matrix at.
    if !(width / plan.heads).is_multiple_of(PANEL) {
        return false;
    }
    let lengths = plan.query.lengths().iter().zip(plan.key.lengths());
    let pairs: usize = lengths.map(|(query, key)| query * key).sum();
    let with_keys = plan.key.total() * d * width + pairs * width;
    let without = plan.query.total() * d * width + pairs * plan.heads * d;
    4 * without <= 3 * with_keys
}

/// Attention whose queries are `q: [C * Tq, width]`, to `encoded: [C * Tk, d]`. The keys' linear has no LoRA.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of attention, who computes it and in what memory"
)]
pub(super) fn attention_without_keys(
    q: &CpuTensor,
    encoded: &CpuTensor,
    k: &CpuWeight,
    v: &CpuWeight,
    v_lora: Option<&CpuLora>,
    plan: &AttentionPlan<'_>,
    kernels: &Kernels,
    pool: &Pool,
    scratch: &mut Scratch,
) -> Result<CpuTensor, TensorError> {
    let (heads, (rows, _), (_, d)) = (plan.heads, q.dims(), encoded.dims());
    let mut queries = pool.take(rows * heads * d);
    k.transposed_product(rows, heads, &q.values()?, &mut queries, scratch)?;
    let queries = CpuTensor::new(queries, rows * heads, d);
    // A token's heads are so many queries of the one head that there is now.
    let by_head = Segments::new(plan.query.lengths().iter().map(|length| length * heads).collect())?;
    let one_head = AttentionPlan {
        query: &by_head,
        heads: 1,
        ..*plan
    };
    let mixed = attention(
        &queries,
        encoded,
        encoded,
        &one_head,
        None,
        kernels,
        pool,
        &scratch.attention,
    )?;
    drop(queries);
    fused::linear(&mixed, heads, v, v_lora, pool, scratch)
}
