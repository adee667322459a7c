//! `linear_register`, `linear_tile`, `linear_wide`, `linear_split` without adapters; `logits`.

use lorahub_tensor::{Backend, Cpu};
use lorahub_webgpu::{Matmul, Options, WeightStorage};
use lorahub_weights::quant::{Format, Narrow};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

/// One row; rows around the split kernel's 4 and 8 and the tiles' 32, 64 and 128; columns around 4, 16, 32, 64 and 128;
/// inner sizes around 4 and the tiles' steps of 16 and 64.
const SHAPES: [(usize, usize, usize); 20] = [
    (1, 1, 1),
    (1, 17, 65),
    (3, 16, 4),
    (4, 15, 64),
    (5, 33, 63),
    (8, 31, 7),
    (9, 4, 3),
    (9, 5, 17),
    (31, 33, 16),
    (32, 32, 15),
    (33, 31, 20),
    (63, 65, 8),
    (64, 64, 12),
    (65, 63, 33),
    (130, 3, 5),
    (70, 129, 36),
    (127, 128, 5),
    (128, 127, 16),
    (129, 193, 17),
    (200, 65, 31),
];

fn product<B: Backend>(backend: &B, x: &Matrix, weight: &Matrix) -> Vec<f32> {
    read(
        backend,
        &backend
            .linear(&x.tensor(backend), &weight.weight(backend), None)
            .unwrap(),
    )
}

#[test]
fn linear_in_every_variant() {
    let (cpu, mut random) = (Cpu::new(), Values(8));
    for matmul in Matmul::ALL {
        let gpu = open(Options {
            matmul: Some(matmul),
            ..Options::default()
        });
        for (rows, d_out, d_in) in SHAPES {
            for scale in [1.0, 0.0, 1e4] {
                let x = Matrix::random(&mut random, rows, d_in, scale);
                let weight = Matrix::random(&mut random, d_out, d_in, 0.5);
                let what = format!("{} {rows} x {d_out} x {d_in} x {scale}", matmul.name());
                assert_close(
                    &what,
                    &product(&gpu, &x, &weight),
                    &product(&cpu, &x, &weight),
                    TOLERANCE,
                );
            }
        }
    }
}

/// All variants sum every output in ascending k, so that a search does not depend on which one a machine takes.
#[test]
fn the_variants_give_the_same_bits() {
    let mut random = Values(9);
    let (x, weight) = (
        Matrix::random(&mut random, 137, 50, 1.0),
        Matrix::random(&mut random, 141, 50, 1.0),
    );
    let [register, others @ ..] = Matmul::ALL.map(|matmul| {
        product(
            &open(Options {
                matmul: Some(matmul),
                ..Options::default()
            }),
            &x,
            &weight,
        )
    });
    for other in others {
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        let differing = register.iter().zip(&other).filter(|pair| !same(*pair)).count();
        assert_eq!(differing, 0, "of {}", other.len());
    }
}

/// Narrow weights are the CPU's: what it holds in the same form, and f32 on the rounded values. `bound` is the most that
/// rounding can change in one product of values below one, for each term: half a unit of f16 below one, half a step of
/// q8_0's 127, a whole one of q4_0's 8 at the end that has no integer 8.
#[test]
fn narrow_weights_are_the_rounded_weights() {
    let mut random = Values(10);
    for (weights, format, bound) in [
        (WeightStorage::F16, Format::F16, 1.0 / 4096.0),
        (WeightStorage::Q8, Format::Q8_0, 0.5 / 127.0 + 1.0 / 2048.0),
        (WeightStorage::Q4, Format::Q4_0, 1.0 / 8.0 + 1.0 / 2048.0),
    ] {
        let (exact, cpu) = (Cpu::new(), Cpu::new().with_weights(weights));
        for matmul in Matmul::ALL {
            let gpu = open(Options {
                matmul: Some(matmul),
                weights,
                ..Options::default()
            });
            // All are large enough to be packed; blocks need columns by 32, and f16 takes any: 50 is no multiple of 4.
            for (rows, d_out, d_in) in [(1, 70, 64), (3, 33, 96), (20, 90, 50), (40, 70, 64), (131, 133, 32)] {
                let format = if d_in % 32 == 0 { format } else { Format::F16 };
                let mut x = Matrix::random(&mut random, rows, d_in, 1.0);
                // The activation comes by way of a table that is narrow too, so its values must be exact in every form:
                // integers up to 7 times a power of two, with a -8 in each block that gives q4_0 its step.
                for (at, value) in x.data.iter_mut().enumerate() {
                    *value = if at % 32 == 0 {
                        -1.0
                    } else {
                        (*value * 7.0).round() / 8.0
                    };
                }
                if format == Format::Q8_0 {
                    // And q8_0 a step of 1/127.
                    x.data
                        .iter_mut()
                        .for_each(|value| *value = (*value * 127.0).round() / 128.0);
                }
                let weight = Matrix::random(&mut random, d_out, d_in, 1.0);
                let narrow = Narrow::quantise(format, d_out, d_in, &weight.data).unwrap();
                let rounded = Matrix {
                    data: narrow.widen(),
                    ..weight.clone()
                };
                let what = format!("{} {} {rows} x {d_out} x {d_in}", weights.name(), matmul.name());
                let found = product(&gpu, &x, &weight);
                assert_close(&what, &found, &product(&exact, &x, &rounded), TOLERANCE);
                assert_close(&what, &found, &product(&cpu, &x, &weight), TOLERANCE);
                for (found, exact) in found.iter().zip(product(&exact, &x, &weight)) {
                    assert!((found - exact).abs() <= d_in as f32 * bound, "{what}: {found} {exact}");
                }
            }
            // A value outside f16's range keeps its matrix in f32.
            let mut weight = Matrix::random(&mut random, 70, 64, 1.0);
            weight.data[11] = 1e5;
            let x = Matrix::random(&mut random, 9, 64, 1.0);
            assert_close(
                "1e5",
                &product(&gpu, &x, &weight),
                &product(&exact, &x, &weight),
                TOLERANCE,
            );
        }
    }
}

#[test]
fn logits_are_scaled() {
    let (gpu, cpu, mut random) = (open(Options::default()), Cpu::new(), Values(11));
    let (x, head) = (
        Matrix::random(&mut random, 11, 18, 1.0),
        Matrix::random(&mut random, 30, 18, 1.0),
    );
    fn logits<B: Backend>(backend: &B, x: &Matrix, head: &Matrix) -> Vec<f32> {
        read(
            backend,
            &backend
                .logits(&x.tensor(backend), &head.weight(backend), 0.125)
                .unwrap(),
        )
    }
    assert_close("logits", &logits(&gpu, &x, &head), &logits(&cpu, &x, &head), TOLERANCE);
}

#[test]
fn overflow_in_a_product_is_not_finite() {
    for matmul in Matmul::ALL {
        let gpu = open(Options {
            matmul: Some(matmul),
            ..Options::default()
        });
        for rows in [1, 9] {
            let mut x = Matrix {
                rows,
                columns: 8,
                data: vec![1.0; rows * 8],
            };
            let weight = Matrix {
                rows: 3,
                columns: 8,
                data: vec![3e38; 24],
            };
            assert!(
                product(&gpu, &x, &weight).iter().all(|value| !value.is_finite()),
                "{}",
                matmul.name()
            );
            x.data[0] = f32::NAN;
            let weight = Matrix {
                rows: 3,
                columns: 8,
                data: vec![1.0; 24],
            };
            let found = product(&gpu, &x, &weight);
            assert!(
                found[..3].iter().all(|value| !value.is_finite()),
                "{}: {found:?}",
                matmul.name()
            );
            assert!(
                found[3..].iter().all(|value| *value == 8.0),
                "{}: {found:?}",
                matmul.name()
            );
        }
    }
}
