//! The matrix product, and how work is spread over threads.

use std::sync::{Mutex, PoisonError};

use gemm::Parallelism;

/// Below this many multiply-adds a product is done before a second thread has woken up.
const PARALLEL_MIN: usize = 1 << 17;

/// Threads that the backend uses.
pub(crate) fn threads() -> usize {
    #[cfg(target_arch = "wasm32")]
    {
        1
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        rayon::current_num_threads()
    }
}

/// A matrix in a slice: element `(i, j)` is at `i * rows + j * columns`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl<'a> Strided<'a> {
    /// A row-major matrix whose rows are `stride` apart.
    pub(crate) fn row_major(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            rows: stride,
            columns: 1,
        }
    }

    /// The transpose of a row-major matrix whose rows are `stride` apart.
    pub(crate) fn transposed(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            rows: 1,
            columns: stride,
        }
    }

    fn contains(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.rows + (columns - 1) * self.columns < self.data.len()
    }
}

/// `out (+)= lhs rhs` with `lhs: [m, k]`, `rhs: [k, n]` and `out: [m, n]`, row-major with rows `out_stride` apart.
///
/// With `accumulate` the product is added to what `out` holds. With `spread` a large product uses all threads; leave it
/// off inside work that is already spread.
#[expect(
    clippy::too_many_arguments,
    reason = "a matrix product has three sizes, three operands and two switches"
)]
pub(crate) fn multiply(
    m: usize,
    n: usize,
    k: usize,
    lhs: Strided<'_>,
    rhs: Strided<'_>,
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
    spread: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        lhs.contains(m, k) && rhs.contains(k, n),
        "matrix operand shorter than its shape"
    );
    assert!(
        (m - 1) * out_stride + n <= out.len(),
        "matrix result shorter than its shape"
    );
    let parallelism = match threads() {
        count if spread && count > 1 && m * n * k >= PARALLEL_MIN => Parallelism::Rayon(count),
        _ => Parallelism::None,
    };
    // SAFETY: every element addressed by the shapes and strides lies inside its slice (asserted above), `out` is
    // borrowed mutably and so does not overlap the operands, and strides fit isize because slices do.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.columns as isize,
            lhs.rows as isize,
            rhs.data.as_ptr(),
            rhs.columns as isize,
            rhs.rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Memory that pieces of work reuse: as many as threads have needed one at a time.
#[derive(Debug)]
pub(crate) struct Lent<S>(Mutex<Vec<S>>);

impl<S> Default for Lent<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One of them, given back when it is dropped.
pub(super) struct Loan<'a, S: Default> {
    pub(super) one: S,
    from: &'a Lent<S>,
}

impl<S: Default> Lent<S> {
    pub(super) fn lend(&self) -> Loan<'_, S> {
        // What another thread's panic left behind is as good as any.
        let one = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Loan {
            one: one.unwrap_or_default(),
            from: self,
        }
    }
}

impl<S: Default> Drop for Loan<'_, S> {
    fn drop(&mut self) {
        let kept = &mut *self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(std::mem::take(&mut self.one));
    }
}

/// Runs `work` on each piece with its index: on all threads natively, one after another in wasm.
pub(crate) fn for_each<P: Send, S: Default + Send>(
    pieces: Vec<P>,
    scratch: &Lent<S>,
    work: impl Fn(usize, P, &mut S) + Sync + Send,
) {
    #[cfg(not(target_arch = "wasm32"))]
    if pieces.len() > 1 && threads() > 1 {
        use rayon::prelude::*;
        pieces.into_par_iter().enumerate().for_each_init(
            || scratch.lend(),
            |loan, (index, piece)| work(index, piece, &mut loan.one),
        );
        return;
    }
    let mut loan = scratch.lend();
    for (index, piece) in pieces.into_iter().enumerate() {
        work(index, piece, &mut loan.one);
    }
}
