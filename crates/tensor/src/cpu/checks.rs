//! Whether operands fit each other.

use super::buffer::CpuTensor;
use super::lora::CpuLora;
use super::weight::CpuWeight;
use crate::{AttentionPlan, TensorError};

/// Whether any of these needs the differentiable form.
pub(super) fn tracks(tensors: &[&CpuTensor]) -> bool {
    tensors.iter().any(|tensor| tensor.tracks())
}

pub(super) fn check_ids(op: &'static str, ids: &[u32], rows: usize) -> Result<(), TensorError> {
    match ids.iter().find(|&&id| id as usize >= rows) {
        Some(&id) => Err(TensorError::Id { op, id, rows }),
        None => Ok(()),
    }
}

/// Columns of the result of a linear of `x`.
pub(super) fn check_linear(
    x: (usize, usize),
    weight: &CpuWeight,
    lora: Option<&CpuLora>,
) -> Result<usize, TensorError> {
    let (rows, d_in) = x;
    let (d_out, expected) = weight.matrix("linear", "weight")?;
    if d_in != expected {
        return Err(TensorError::shape(
            "linear",
            "x",
            format!("{expected} columns"),
            format!("{d_in} columns"),
        ));
    }
    if let Some(lora) = lora {
        lora.check("linear", d_in, d_out)?;
        if rows % lora.candidates() != 0 {
            return Err(TensorError::shape(
                "linear",
                "x",
                format!("a multiple of {} rows", lora.candidates()),
                format!("{rows} rows"),
            ));
        }
    }
    Ok(d_out)
}

/// Checks the dimensions of the queries and of the keys and values.
pub(super) fn check_attention(
    (rows_q, width): (usize, usize),
    keys: [(&'static str, (usize, usize)); 2],
    plan: &AttentionPlan<'_>,
) -> Result<(), TensorError> {
    const OP: &str = "attention";
    if plan.heads == 0 || width % plan.heads != 0 {
        return Err(TensorError::shape(
            OP,
            "q",
            format!("a multiple of {} columns", plan.heads),
            width,
        ));
    }
    if plan.query.count() != plan.key.count() {
        return Err(TensorError::shape(
            OP,
            "key segments",
            plan.query.count(),
            plan.key.count(),
        ));
    }
    let expect_q = plan.candidates * plan.query.total();
    if rows_q != expect_q {
        return Err(TensorError::shape(
            OP,
            "q",
            format!("{expect_q} rows"),
            format!("{rows_q} rows"),
        ));
    }
    let expect = (plan.candidates * plan.key.total(), width);
    for (operand, found) in keys {
        if found != expect {
            return Err(TensorError::shape(
                OP,
                operand,
                format!("{expect:?}"),
                format!("{found:?}"),
            ));
        }
    }
    Ok(())
}

/// Checks that a layer norm has as many numbers as `x` columns.
pub(super) fn check_norm(x: &CpuTensor, weight: &CpuWeight) -> Result<(), TensorError> {
    let (_, columns) = x.dims();
    if weight.dims() == [columns] {
        return Ok(());
    }
    Err(TensorError::shape(
        "rms_norm",
        "weight",
        format!("[{columns}]"),
        format!("{:?}", weight.dims()),
    ))
}

/// Checks that two operands have the same dimensions.
pub(super) fn same_dims(op: &'static str, x: (usize, usize), y: (usize, usize)) -> Result<(), TensorError> {
    if x == y {
        return Ok(());
    }
    Err(TensorError::shape(
        op,
        "second operand",
        format!("{x:?}"),
        format!("{y:?}"),
    ))
}

/// Rows of `x` and size of the vocabulary.
pub(super) fn check_head(op: &'static str, x: &CpuTensor, head: &CpuWeight) -> Result<(usize, usize), TensorError> {
    let (rows, columns) = x.dims();
    let (vocab, expected) = head.matrix(op, "head")?;
    if columns != expected {
        return Err(TensorError::shape(
            op,
            "x",
            format!("{expected} columns"),
            format!("{columns} columns"),
        ));
    }
    Ok((rows, vocab))
}
