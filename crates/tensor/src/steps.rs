//! The layers that [`Backend`] has as one operation each, step by step: what a device does that has nothing better.

use crate::{AttentionPlan, Backend, Norm, Projection, TensorError};

pub(crate) fn cross_attention<B: Backend>(
    backend: &B,
    q: &B::Tensor,
    encoded: &B::Tensor,
    k: Projection<'_, B>,
    v: Projection<'_, B>,
    plan: &AttentionPlan<'_>,
) -> Result<B::Tensor, TensorError> {
    let k = backend.linear(encoded, k.weight, k.lora)?;
    let v = backend.linear(encoded, v.weight, v.lora)?;
    backend.attention(q, &k, &v, plan, None)
}

pub(crate) fn normed_linears<B: Backend, const N: usize>(
    backend: &B,
    x: &B::Tensor,
    norm: Norm<'_, B>,
    linears: [Projection<'_, B>; N],
) -> Result<[B::Tensor; N], TensorError> {
    let normed = backend.rms_norm(x, norm.weight, norm.eps)?;
    all(linears.map(|linear| backend.linear(&normed, linear.weight, linear.lora)))
}

pub(crate) fn linear_residual<B: Backend>(
    backend: &B,
    residual: &B::Tensor,
    x: &B::Tensor,
    linear: Projection<'_, B>,
) -> Result<B::Tensor, TensorError> {
    backend.add(residual, &backend.linear(x, linear.weight, linear.lora)?)
}

pub(crate) fn gated_feed_forward<B: Backend>(
    backend: &B,
    x: &B::Tensor,
    norm: Norm<'_, B>,
    inner: [Projection<'_, B>; 2],
    out: Projection<'_, B>,
) -> Result<B::Tensor, TensorError> {
    let [gate, up] = normed_linears(backend, x, norm, inner)?;
    linear_residual(backend, x, &backend.gated_gelu(&gate, &up)?, out)
}

/// All results, or the first error.
fn all<T, const N: usize>(results: [Result<T, TensorError>; N]) -> Result<[T; N], TensorError> {
    let results = results.into_iter().collect::<Result<Vec<T>, _>>()?;
    match results.try_into() {
        Ok(all) => Ok(all),
        Err(_) => unreachable!("as many results as there were"),
    }
}
