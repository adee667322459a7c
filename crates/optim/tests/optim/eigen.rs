//! The eigendecomposition: residual, orthogonality, known spectra.

use crate::functions::{Stream, rotation};
use lorahub_optim::eigen::symmetric;

/// `Q diag(values) Q^T` for a random rotation Q.
fn with_spectrum(values: &[f64], stream: &mut Stream) -> Vec<f64> {
    let n = values.len();
    let q = rotation(n, stream);
    let mut c = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let entry: f64 = (0..n).map(|k| q[i * n + k] * values[k] * q[j * n + k]).sum();
            c[i * n + j] = entry;
            c[j * n + i] = entry;
        }
    }
    c
}

fn frobenius(matrix: impl Iterator<Item = f64>) -> f64 {
    matrix.map(|entry| entry * entry).sum::<f64>().sqrt()
}

/// Checks `||B D B^T - C|| <= 1e-12 ||C||` and `||B^T B - I|| <= 1e-12`, and the order of the values.
fn check(c: &[f64], n: usize) -> Vec<f64> {
    let eigen = symmetric(c, n).expect("finite and symmetric");
    let (b, d) = (&eigen.vectors, &eigen.values);
    let entry = |i: usize, j: usize| (0..n).map(|k| b[i * n + k] * d[k] * b[j * n + k]).sum::<f64>();
    let pairs = || (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    let residual = frobenius(pairs().map(|(i, j)| entry(i, j) - c[i * n + j]));
    let size = frobenius(c.iter().copied());
    assert!(residual <= 1e-12 * size, "n {n}: residual {residual:e} of {size:e}");
    let gram = |i: usize, j: usize| (0..n).map(|k| b[k * n + i] * b[k * n + j]).sum::<f64>();
    let skew = frobenius(pairs().map(|(i, j)| gram(i, j) - f64::from(u8::from(i == j))));
    assert!(skew <= 1e-12, "n {n}: B^T B is {skew:e} from I");
    assert!(d.windows(2).all(|pair| pair[0] <= pair[1]), "n {n}: not ascending");
    eigen.values
}

#[test]
fn random_positive_definite_up_to_200() {
    let mut stream = Stream(1);
    for n in [1, 2, 3, 5, 10, 20, 50, 113, 200] {
        let values: Vec<f64> = (0..n).map(|_| 0.1 + stream.uniform()).collect();
        let c = with_spectrum(&values, &mut stream);
        let found = check(&c, n);
        let mut expected = values;
        expected.sort_by(f64::total_cmp);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-12, "{a} for {b}");
        }
    }
}

#[test]
fn condition_1e14() {
    let mut stream = Stream(2);
    for n in [2, 20, 200] {
        let values: Vec<f64> = (0..n)
            .map(|i| libm::pow(10.0, -14.0 * i as f64 / (n - 1) as f64))
            .collect();
        let found = check(&with_spectrum(&values, &mut stream), n);
        // The absolute error is of the size of the largest eigenvalue's rounding.
        for (a, b) in found.iter().zip(values.iter().rev()) {
            assert!((a - b).abs() <= 1e-14 * n as f64, "{a:e} for {b:e}");
        }
    }
}

#[test]
fn repeated_and_zero_eigenvalues() {
    let mut stream = Stream(3);
    for n in [4, 30, 100] {
        let values: Vec<f64> = (0..n).map(|i| [1.0, 1.0, 2.0, 0.0][i % 4]).collect();
        check(&with_spectrum(&values, &mut stream), n);
    }
}

#[test]
fn diagonal_matrices_are_exact() {
    let n = 6;
    let mut c = vec![0.0; n * n];
    for (i, value) in [3.0, -1.0, 1e-300, 3.0, 1e300, 0.0].into_iter().enumerate() {
        c[i * n + i] = value;
    }
    let eigen = symmetric(&c, n).expect("finite");
    assert_eq!(eigen.values, [-1.0, 0.0, 1e-300, 3.0, 3.0, 1e300]);
    assert!(eigen.vectors.iter().all(|entry| *entry == 0.0 || *entry == 1.0));
}

/// The second difference matrix has eigenvalues `2 - 2 cos(k pi / (n + 1))`.
#[test]
fn second_difference_matrix() {
    let n = 40;
    let mut c = vec![0.0; n * n];
    for i in 0..n {
        c[i * n + i] = 2.0;
        if i > 0 {
            c[i * n + i - 1] = -1.0;
            c[(i - 1) * n + i] = -1.0;
        }
    }
    for (k, value) in check(&c, n).iter().enumerate() {
        let expected = 2.0 - 2.0 * libm::cos((k + 1) as f64 * std::f64::consts::PI / 41.0);
        assert!((value - expected).abs() < 1e-13, "{value} for {expected}");
    }
}

#[test]
fn only_the_lower_triangle_is_read() {
    let full = symmetric(&[2.0, 1.0, 1.0, 2.0], 2);
    assert_eq!(symmetric(&[2.0, 77.0, 1.0, 2.0], 2), full);
    assert!(full.is_some());
}

#[test]
fn unusable_input_is_none() {
    assert_eq!(symmetric(&[], 0), None);
    assert_eq!(symmetric(&[1.0, 0.0, 0.0], 2), None);
    assert_eq!(symmetric(&[1.0, 0.0, f64::NAN, 1.0], 2), None);
    assert_eq!(symmetric(&[f64::INFINITY], 1), None);
}
