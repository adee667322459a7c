//! The covariance matrix `C`, its symmetric roots, and when to recompute them.

use crate::eigen;

/// Largest condition number of the sampling distribution. Beyond it the smallest eigenvalues are rounding errors of the
/// largest, possibly negative.
const MAX_CONDITION: f64 = 1e15;

/// `C` with `C^(1/2)` and `C^(-1/2)`, which lag behind it until the next decomposition.
///
/// The roots are the symmetric ones, `B D B^T`: they do not depend on the signs and order in which an eigensolver
/// returns the vectors, and make the search exactly as rotation invariant as its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    n: usize,
    /// `C`, row-major `[n, n]`, exactly symmetric.
    pub(super) c: Vec<f64>,
    /// What `C` was when it was last decomposed. Saved with the state, since the roots follow from it.
    pub(super) decomposed: Vec<f64>,
    root: Vec<f64>,
    inverse_root: Vec<f64>,
    condition: f64,
}

impl Covariance {
    /// `diag(scales^2)`.
    pub(super) fn diagonal(scales: &[f64]) -> Self {
        let n = scales.len();
        let diagonal = |entry: &dyn Fn(f64) -> f64| {
            let mut matrix = vec![0.0; n * n];
            for (i, &scale) in scales.iter().enumerate() {
                matrix[i * n + i] = entry(scale);
            }
            matrix
        };
        let c = diagonal(&|scale| scale * scale);
        let mut covariance = Self {
            n,
            decomposed: c.clone(),
            c,
            root: diagonal(&|scale| scale),
            inverse_root: diagonal(&|scale| 1.0 / scale),
            condition: 1.0,
        };
        covariance.decompose();
        covariance
    }

    /// The covariance of a saved state: `c` as it was, its roots from `decomposed`. `None` if that has none.
    pub(super) fn restore(n: usize, c: Vec<f64>, decomposed: Vec<f64>) -> Option<Self> {
        let mut covariance = Self::diagonal(&vec![1.0; n]);
        covariance.c = decomposed;
        if !covariance.decompose() {
            return None;
        }
        covariance.c = c;
        Some(covariance)
    }

    /// Brings the roots up to date. When an eigenvalue is too small, C itself is mended to the condition limit.
    ///
    /// Returns whether it could; if not (C is not finite) the roots stay as they were.
    pub(super) fn decompose(&mut self) -> bool {
        let n = self.n;
        let Some(eigen) = eigen::symmetric(&self.c, n) else {
            return false;
        };
        let largest = eigen.values[n - 1];
        if largest < f64::MIN_POSITIVE {
            return false;
        }
        self.decomposed.clone_from(&self.c);
        self.condition = largest / eigen.values[0].max(0.0);
        let floor = largest / MAX_CONDITION;
        let values: Vec<f64> = eigen.values.iter().map(|&value| value.max(floor)).collect();
        self.root = recompose(&eigen.vectors, &values, f64::sqrt);
        self.inverse_root = recompose(&eigen.vectors, &values, |value| 1.0 / value.sqrt());
        if eigen.values[0] < floor {
            self.c = recompose(&eigen.vectors, &values, |value| value);
        }
        true
    }

    /// `C <- decay C + c_1 p_c p_c^T + sum_k weights_k y_k y_k^T`: equation 47 with its rates multiplied out.
    pub(super) fn update(&mut self, decay: f64, c_1: f64, path_c: &[f64], weights: &[f64], steps: &[Vec<f64>]) {
        let n = self.n;
        for i in 0..n {
            for j in 0..=i {
                let mut entry = decay * self.c[i * n + j] + c_1 * path_c[i] * path_c[j];
                for (weight, y) in weights.iter().zip(steps) {
                    entry += weight * y[i] * y[j];
                }
                self.c[i * n + j] = entry;
                self.c[j * n + i] = entry;
            }
        }
    }

    /// Scales coordinate `i` of the distribution by `factors[i]`: `C <- F C F`. The roots become stale.
    pub(super) fn scale_coordinates(&mut self, factors: &[f64]) {
        for (row, &a) in self.c.chunks_exact_mut(self.n).zip(factors) {
            for (entry, &b) in row.iter_mut().zip(factors) {
                *entry *= a * b;
            }
        }
    }

    /// `C^(1/2) z`.
    pub(super) fn colour(&self, z: &[f64]) -> Vec<f64> {
        multiply(&self.root, z)
    }

    /// `C^(-1/2) y`; its length is the Mahalanobis length of `y`.
    pub(super) fn whiten(&self, y: &[f64]) -> Vec<f64> {
        multiply(&self.inverse_root, y)
    }

    /// `C`, row-major `[n, n]`, in units of `sigma^2`.
    #[must_use]
    pub fn matrix(&self) -> &[f64] {
        &self.c
    }

    /// Ratio of the largest to the smallest eigenvalue at the last decomposition; infinite if that one is not positive.
    #[must_use]
    pub fn condition(&self) -> f64 {
        self.condition
    }

    /// `sqrt(C_ii)`.
    pub(super) fn deviation(&self, i: usize) -> f64 {
        self.c[i * self.n + i].max(0.0).sqrt()
    }
}

/// `B diag(f(values)) B^T`, row-major and exactly symmetric.
fn recompose(vectors: &[f64], values: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    let n = values.len();
    let mapped: Vec<f64> = values.iter().map(|&value| f(value)).collect();
    let mut matrix = vec![0.0; n * n];
    for i in 0..n {
        let scaled: Vec<f64> = vectors[i * n..][..n]
            .iter()
            .zip(&mapped)
            .map(|(b, value)| b * value)
            .collect();
        for j in 0..=i {
            let entry = scaled.iter().zip(&vectors[j * n..][..n]).map(|(a, b)| a * b).sum();
            matrix[i * n + j] = entry;
            matrix[j * n + i] = entry;
        }
    }
    matrix
}

fn multiply(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Covariance, MAX_CONDITION};
    use crate::eigen;

    #[test]
    fn an_indefinite_matrix_is_mended_to_the_condition_limit() {
        // Eigenvalues 2 and -1e-3.
        let mut covariance = Covariance::diagonal(&[1.0, 1.0]);
        covariance.c = vec![0.9995, 1.0005, 1.0005, 0.9995];
        assert!(covariance.decompose());
        assert_eq!(covariance.condition(), f64::INFINITY);
        let mended = eigen::symmetric(covariance.matrix(), 2).expect("finite");
        assert!((mended.values[1] - 2.0).abs() < 1e-12);
        // The floor, 2e-15, is of the size of the matrix's own rounding.
        assert!(
            mended.values[0].abs() < 4.0 * 2.0 / MAX_CONDITION,
            "{:e}",
            mended.values[0]
        );
        // The roots come of the floored eigenvalues: along (1, -1) the deviation is the floor's.
        let narrow = covariance.colour(&[1.0, -1.0]);
        let expected = (2.0 / MAX_CONDITION).sqrt();
        assert!(
            (narrow[0] / expected - 1.0).abs() < 0.1 && (narrow[1] / expected + 1.0).abs() < 0.1,
            "{narrow:?}"
        );
        let wide = covariance.whiten(&[1.0, 1.0]);
        assert!((wide[0] - 0.5_f64.sqrt()).abs() < 1e-6, "{wide:?}");
    }

    #[test]
    fn a_matrix_without_eigenvalues_leaves_the_roots() {
        let mut covariance = Covariance::diagonal(&[2.0, 3.0]);
        let before = covariance.clone();
        for c in [
            vec![f64::INFINITY, 0.0, 0.0, 1.0],
            vec![0.0; 4],
            vec![-1.0, 0.0, 0.0, -2.0],
        ] {
            covariance.c = c;
            assert!(!covariance.decompose());
            assert_eq!(
                (&covariance.root, &covariance.decomposed),
                (&before.root, &before.decomposed)
            );
            assert_eq!(Covariance::restore(2, before.c.clone(), covariance.c.clone()), None);
        }
    }

    #[test]
    fn roots_are_the_symmetric_ones() {
        let mut covariance = Covariance::diagonal(&[1.0, 1.0]);
        // C = R^2 with R = [[2, 1], [1, 3]].
        covariance.c = vec![5.0, 5.0, 5.0, 10.0];
        assert!(covariance.decompose());
        for (found, expected) in covariance.colour(&[1.0, 10.0]).into_iter().zip([12.0, 31.0]) {
            assert!((found - expected).abs() < 1e-13, "{found}");
        }
        for (found, expected) in covariance.whiten(&[12.0, 31.0]).into_iter().zip([1.0, 10.0]) {
            assert!((found - expected).abs() < 1e-13, "{found}");
        }
    }
}
