//! Products in integers.

use std::ops::Range;

use half::f16;
use lorahub_kernels::{K_BLOCK, Output, PackedQ8, Q8_BLOCK, Rows, RowsMut, Scratch, Weight as _, multiply_integer};

use super::multiply::q8;
use super::{Numbers, UNIT, assert_near};

/// A matrix, and the numbers that it stands for.
struct Matrix {
    packed: PackedQ8,
    wide: Vec<f64>,
    n: usize,
    k: usize,
}

impl Matrix {
    fn new(values: &[i8], scales: &[u16], n: usize, k: usize) -> Self {
        let blocks = k.div_ceil(Q8_BLOCK);
        let wide = (0..n * k).map(|i| {
            let scale = f16::from_bits(scales[i / k * blocks + i % k / Q8_BLOCK]);
            f64::from(values[i]) * scale.to_f64()
        });
        Self {
            packed: PackedQ8::new(values, scales, n, k),
            wide: wide.collect(),
            n,
            k,
        }
    }

    fn random(n: usize, k: usize) -> Self {
        let (values, scales) = q8(&mut Numbers((n * 10_000 + k) as u64), n, k);
        Self::new(&values, &scales, n, k)
    }

    /// Scales of one, so that the numbers are the bytes.
    fn of_bytes(values: &[i8], n: usize, k: usize) -> Self {
        let scales = vec![f16::ONE.to_bits(); n * k.div_ceil(Q8_BLOCK)];
        Self::new(values, &scales, n, k)
    }

    fn columns(&self, x: &[f32], m: usize, columns: Range<usize>) -> Vec<f32> {
        let mut out = vec![f32::NAN; m * columns.len()];
        let mut to = RowsMut {
            data: &mut out,
            stride: columns.len(),
        };
        let (x, scratch) = (Rows::new(x, m, self.k), &mut Scratch::default());
        multiply_integer(x, self.packed.view(), columns, &mut to, Output::Store, scratch);
        out
    }

    fn product(&self, x: &[f32], m: usize) -> Vec<f32> {
        self.columns(x, m, 0..self.n)
    }

    /// Compares with f64.
    ///
    /// In a block of `k` each activation is off by half a step at most, where a step is the largest magnitude's 32767th
    /// part; multiplying by its inverse, and the step itself, round once each, which is 2^-24 of 2^15 steps for an
    /// activation and so a hundredth of a step. What is summed as f32 is one term for every 32 `k`: each is rounded when
    /// it is converted, scaled and added, and then the block's sum when it is multiplied by the step and added.
    fn check(&self, x: &[f32], m: usize) {
        let out = self.product(x, m);
        let blocks = self.k.div_ceil(Q8_BLOCK) + self.k.div_ceil(K_BLOCK) + 4;
        for (row, x) in x.chunks_exact(self.k).enumerate() {
            for (column, weights) in self.wide.chunks_exact(self.k).enumerate() {
                let (mut sum, mut tolerance) = (0.0, 0.0);
                for (x, weights) in x.chunks(K_BLOCK).zip(weights.chunks(K_BLOCK)) {
                    let step = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 32767.0;
                    for (&x, weight) in x.iter().zip(weights) {
                        let term = f64::from(x) * weight;
                        sum += term;
                        tolerance += 0.51 * f64::from(step) * weight.abs() + 3.0 * blocks as f64 * UNIT * term.abs();
                    }
                }
                assert_near(out[row * self.n + column], sum, tolerance, || {
                    format!("[{row}, {column}] of {m} x {} x {}", self.k, self.n)
                });
            }
        }
    }
}

pub(crate) fn integer_products_of_every_small_shape() {
    for m in 1..=4 {
        for n in 1..=20 {
            for k in (1..=20).chain(30..=34) {
                Matrix::random(n, k).check(&Numbers((m * 1000 + n * 30 + k) as u64).take(m * k), m);
            }
        }
    }
}

pub(crate) fn integer_products_around_the_blocks() {
    for k in [K_BLOCK - 1, K_BLOCK, K_BLOCK + 1, 2 * K_BLOCK + 35] {
        for (m, n) in [(1, 33), (2, 48), (5, 16), (241, 17)] {
            for scale in [1e-30, 1.0, 1e30] {
                let x = Numbers(k as u64).take(m * k);
                let x: Vec<f32> = x.iter().map(|x| x * scale).collect();
                Matrix::random(n, k).check(&x, m);
            }
        }
    }
}

/// Integers up to the largest come out as they are, and the largest sums of a block do not overflow.
pub(crate) fn integers_are_multiplied_exactly() {
    let (m, n, k) = (3, 18, K_BLOCK + 40);
    let values: Vec<i8> = (0..n * k).map(|i| ((i * 37) % 256) as u8 as i8).collect();
    let x: Vec<f32> = (0..m * k)
        .map(|i| match i % k % K_BLOCK {
            0 => 32767.0,
            at => ((i * 7 + at) % 61) as f32 - 30.0,
        })
        .collect();
    let bytes = Matrix::of_bytes(&values, n, k);
    for (row, out) in bytes.product(&x, m).chunks_exact(n).enumerate() {
        for (column, &found) in out.iter().enumerate() {
            let terms = (0..k).map(|i| f64::from(x[row * k + i]) * bytes.wide[column * k + i]);
            let sum: f64 = terms.sum();
            assert!(sum.abs() < f64::from(1 << 24), "the sum is an f32");
            assert_eq!(f64::from(found), sum, "[{row}, {column}]");
        }
    }
    for (byte, activation) in [(-128, -32767.0), (127, -32767.0), (-128, 32767.0), (127, 32767.0)] {
        let k = K_BLOCK;
        let out = Matrix::of_bytes(&vec![byte; n * k], n, k).product(&vec![activation; 2 * k], 2);
        let expected = f64::from(byte) * f64::from(activation) * k as f64;
        for value in out {
            // Equal terms: each partial sum rounds once.
            assert_near(value, expected, 20.0 * UNIT * expected.abs(), || {
                format!("{byte} times {activation}")
            });
        }
    }
}

pub(crate) fn an_integer_row_has_the_same_bits_alone_in_a_batch_and_in_parts() {
    for (n, k) in [(16, 64), (33, 65), (48, 700), (70, 1030)] {
        let matrix = Matrix::random(n, k);
        for m in [2, 3, 7, 241] {
            let x = Numbers(6).take(m * k);
            let together = matrix.product(&x, m);
            for (x, together) in x.chunks_exact(k).zip(together.chunks_exact(n)) {
                assert_eq!(matrix.product(x, 1), together, "of {m} x {k} x {n}");
            }
            for columns in [0..16, 0..n, n / 16 * 16..n, 0..n - 1] {
                let part = matrix.columns(&x, m, columns.clone());
                for row in 0..m {
                    let expected = &together[row * n..][columns.clone()];
                    assert_eq!(&part[row * columns.len()..][..columns.len()], expected);
                }
            }
        }
    }
}

pub(crate) fn integer_products_are_added_and_leave_gaps_alone() {
    let (m, k, gap) = (3, 600, 5);
    for n in [16, 19] {
        let (matrix, x) = (Matrix::random(n, k), Numbers(12).take(m * (k + gap)));
        let mut data = vec![100.0; m * (n + gap)];
        let mut out = RowsMut {
            data: &mut data,
            stride: n + gap,
        };
        let rows = Rows {
            data: &x,
            stride: k + gap,
            count: m,
        };
        multiply_integer(
            rows,
            matrix.packed.view(),
            0..n,
            &mut out,
            Output::Add,
            &mut Scratch::default(),
        );
        let tight: Vec<f32> = x.chunks_exact(k + gap).flat_map(|row| &row[..k]).copied().collect();
        let product = matrix.product(&tight, m);
        for (row, product) in data.chunks_exact(n + gap).zip(product.chunks_exact(n)) {
            for (value, product) in row.iter().zip(product) {
                // One rounding for each of two blocks of k, of numbers below 200, and one of the product's own.
                assert_near(*value, 100.0 + f64::from(*product), 3.0 * 200.0 * UNIT, || {
                    "100 + product".into()
                });
            }
            assert_eq!(row[n..], [100.0; 5]);
        }
    }
}

pub(crate) fn integers_hide_no_infinity_or_nan() {
    let (m, n, k) = (4, 19, K_BLOCK + 70);
    let matrix = Matrix::random(n, k);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 6, K_BLOCK + 1, k - 1] {
            let mut x = Numbers(16).take(m * k);
            x[2 * k + place] = bad;
            for (row, out) in matrix.product(&x, m).chunks_exact(n).enumerate() {
                assert!(
                    out.iter().all(|value| value.is_finite() == (row != 2)),
                    "{bad} at {place}: {out:?}"
                );
            }
        }
    }
    let nothing = [0.0, -0.0, f32::from_bits(1), 9e-35];
    for x in nothing {
        assert_eq!(matrix.product(&vec![x; k], 1), vec![0.0; n]);
    }
    assert!(matrix.product(&[], 0).is_empty());
    let empty = PackedQ8::new(&[], &[], 3, 0);
    let mut out = [7.0; 6];
    let mut to = RowsMut {
        data: &mut out,
        stride: 3,
    };
    assert_eq!(empty.view().inputs(), 0);
    multiply_integer(
        Rows::new(&[], 2, 0),
        empty.view(),
        0..3,
        &mut to,
        Output::Store,
        &mut Scratch::default(),
    );
    assert_eq!(out, [0.0; 6]);
}
