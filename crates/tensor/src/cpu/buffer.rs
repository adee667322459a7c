//! Activations and their memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use candle_core::{Device, Tensor};

use super::view::View;
use crate::TensorError;

/// Memory for activations, which comes back when the last user of an activation is gone: a pass like the one before
/// allocates none.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Rc<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    /// What is free, by its length.
    free: RefCell<BTreeMap<usize, Vec<Free>>>,
    /// How often memory was asked for.
    takes: Cell<u64>,
}

#[derive(Debug)]
struct Free {
    data: Vec<f32>,
    /// When it came back, in takes.
    since: u64,
}

/// Takes after which free memory is another batch's, whose shapes do not come again. A pass of flan-t5-large has some
/// thousand.
const STALE: u64 = 1 << 14;

/// Lengths are multiples of this share of the power of two below them, so that most shapes of a batch have a shelf in
/// common and at most an eighth is lost.
const STEPS: usize = 8;

fn shelf(length: usize) -> usize {
    let below = length.max(1).next_power_of_two() / 2;
    length.max(1).next_multiple_of((below / STEPS).max(1))
}

impl Pool {
    /// So many numbers; what they are is anything.
    pub(super) fn take(&self, length: usize) -> Buffer {
        let size = shelf(length);
        let now = self.0.takes.get() + 1;
        self.0.takes.set(now);
        let mut free = self.0.free.borrow_mut();
        let data = match free.get_mut(&size).and_then(Vec::pop) {
            Some(free) => free.data,
            None => {
                for shelf in free.values_mut() {
                    shelf.retain(|free| now - free.since < STALE);
                }
                vec![0.0; size]
            }
        };
        drop(free);
        Buffer {
            data,
            used: length,
            home: self.clone(),
        }
    }

    /// A copy.
    pub(super) fn copy(&self, values: &[f32]) -> Buffer {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

/// Numbers in memory of a [`Pool`].
#[derive(Debug)]
pub(super) struct Buffer {
    data: Vec<f32>,
    used: usize,
    home: Pool,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.used]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let since = self.home.0.takes.get();
        let mut free = self.home.0.free.borrow_mut();
        free.entry(data.len()).or_default().push(Free { data, since });
    }
}

/// An activation on the CPU, `[rows, columns]`: numbers in the backend's own memory or, where gradients are tracked,
/// candle's tensor.
#[derive(Clone, Debug)]
pub struct CpuTensor(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Plain {
        data: Rc<Buffer>,
        rows: usize,
        columns: usize,
    },
    Tracked(Tensor),
}

impl CpuTensor {
    pub(super) fn new(data: Buffer, rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "values of {rows} rows of {columns}");
        Self(Kind::Plain {
            data: Rc::new(data),
            rows,
            columns,
        })
    }

    /// Takes candle's tensor, a variable in training included. It must be f32 and on the CPU.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if it has not two dimensions.
    pub fn from_candle(tensor: &Tensor) -> Result<Self, TensorError> {
        let (rows, columns) = tensor
            .dims2()
            .map_err(|_| TensorError::shape("tensor", "dimensions", 2, tensor.dims().len()))?;
        if tensor.track_op() {
            return Ok(Self(Kind::Tracked(tensor.clone())));
        }
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(Self::new(Pool::default().copy(&values), rows, columns))
    }

    /// As candle's tensor, with its gradients if it has any.
    ///
    /// # Errors
    /// Candle's.
    pub fn to_candle(&self) -> Result<Tensor, TensorError> {
        Ok(match &self.0 {
            Kind::Plain { data, rows, columns } => Tensor::from_slice(data, (*rows, *columns), &Device::Cpu)?,
            Kind::Tracked(tensor) => tensor.clone(),
        })
    }

    /// Rows and columns.
    pub fn dims(&self) -> (usize, usize) {
        match &self.0 {
            Kind::Plain { rows, columns, .. } => (*rows, *columns),
            Kind::Tracked(tensor) => match tensor.dims() {
                [rows, columns] => (*rows, *columns),
                // `from_candle` has looked, and every operation gives two.
                _ => (0, 0),
            },
        }
    }

    /// Whether it needs the differentiable form of an operation.
    pub(super) fn tracks(&self) -> bool {
        matches!(&self.0, Kind::Tracked(_))
    }

    /// Its numbers, row-major.
    pub(super) fn values(&self) -> Result<Values<'_>, TensorError> {
        Ok(match &self.0 {
            Kind::Plain { data, .. } => Values::Plain(data),
            Kind::Tracked(tensor) => Values::Tracked(View::new(tensor)?),
        })
    }
}

/// The numbers of a [`CpuTensor`].
pub(super) enum Values<'a> {
    Plain(&'a [f32]),
    Tracked(View<'a>),
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Plain(data) => data,
            Self::Tracked(view) => view,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_user_is_gone() {
        let pool = Pool::default();
        let one = CpuTensor::new(pool.take(1000), 10, 100);
        let address = one.values().unwrap().as_ptr();
        let other = one.clone();
        drop(one);
        assert_ne!(pool.take(1000).as_ptr(), address, "somebody still uses it");
        drop(other);
        let again = [pool.take(1000), pool.take(1000)];
        assert!(again.iter().any(|buffer| buffer.as_ptr() == address));
    }

    #[test]
    fn a_shelf_is_as_long_as_asked_and_at_most_an_eighth_longer() {
        for length in (0..5000).chain([1 << 20, (1 << 20) + 1, 32128 * 32]) {
            let size = shelf(length);
            assert!(size >= length && size <= length.max(1) + length / 8, "{length}: {size}");
            assert_eq!(shelf(size), size);
        }
    }

    #[test]
    fn what_no_batch_needs_any_more_is_given_up() {
        let pool = Pool::default();
        drop(pool.take(100_000));
        for _ in 0..STALE {
            drop(pool.take(10));
        }
        drop(pool.take(11));
        drop(pool.take(1000));
        let kept: usize = pool
            .0
            .free
            .borrow()
            .values()
            .flatten()
            .map(|free| free.data.len())
            .sum();
        assert!(kept < 2000, "{kept} numbers");
    }
}
