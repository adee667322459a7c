//! What can go wrong on a device.

use lorahub_weights::WeightsError;

/// An error of a [`Backend`](crate::Backend).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// An operand has another shape than the operation needs.
    #[error("{op}: `{operand}` is {found}, expected {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The operand's name in the operation's documentation.
        operand: &'static str,
        /// The shape that was needed, in words.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// An id is outside the table it looks up.
    #[error("{op}: id {id} is outside the table of {rows} rows; use the tokenizer that belongs to this model")]
    Id {
        /// The operation.
        op: &'static str,
        /// The id.
        id: u32,
        /// How many rows the table has.
        rows: usize,
    },
    /// A segment without rows: there is nothing to attend to or to score.
    #[error("{op}: segment {index} is empty; every shot needs at least one token")]
    EmptySegment {
        /// The operation.
        op: &'static str,
        /// The segment's position in the batch.
        index: usize,
    },
    /// The caller asked to stop at a checkpoint.
    #[error("cancelled")]
    Cancelled,
    /// Another device failed: lost, out of memory, too small. Its own error says which, and the way on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A matrix of the base cannot be held in the form that was asked for.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// candle refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}

/// An error of a device outside this crate, with a stable name for programs.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct DeviceError {
    /// The stable name, such as `device_lost`; part of the public interface.
    pub code: &'static str,
    /// The device's own error.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl DeviceError {
    /// Wraps a device's own error.
    pub fn new(code: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            code,
            source: Box::new(source),
        }
    }
}

impl TensorError {
    /// A shape error; `expected` and `found` are shapes in words or numbers.
    pub fn shape(
        op: &'static str,
        operand: &'static str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Shape {
            op,
            operand,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
