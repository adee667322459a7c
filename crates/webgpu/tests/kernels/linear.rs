//! `linear_register`, `linear_tile`, `linear_split` without adapters; `logits`.

use lorahub_tensor::{Backend, Cpu};
use lorahub_webgpu::{Matmul, Options, WeightStorage};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

/// One row; rows around the split kernel's 4 and 8 and the tiles' 32 and 64; columns around 4, 16, 32 and 64; inner
/// sizes around 4 and the tiles' steps of 16 and 64.
const SHAPES: [(usize, usize, usize); 16] = [
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
    for matmul in [Matmul::Register, Matmul::Tile] {
        let gpu = open(Options {
            matmul: Some(matmul),
            ..Options::default()
        });
        for (rows, d_out, d_in) in SHAPES {
            for scale in [1.0, 0.0, 1e4] {
                if scale != 1.0 && rows > 9 {
                    continue;
                }
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

/// Both variants sum every output in ascending k, so that a search does not depend on which one a machine takes.
#[test]
fn the_variants_give_the_same_bits() {
    let mut random = Values(9);
    let (x, weight) = (
        Matrix::random(&mut random, 37, 50, 1.0),
        Matrix::random(&mut random, 41, 50, 1.0),
    );
    let [register, tile] = [Matmul::Register, Matmul::Tile].map(|matmul| {
        product(
            &open(Options {
                matmul: Some(matmul),
                ..Options::default()
            }),
            &x,
            &weight,
        )
    });
    let differing = register
        .iter()
        .zip(&tile)
        .filter(|(a, b)| a.to_bits() != b.to_bits())
        .count();
    assert_eq!(differing, 0, "of {}", tile.len());
}

#[test]
fn f16_weights_are_the_rounded_weights() {
    let (cpu, mut random) = (Cpu::new(), Values(10));
    for matmul in [Matmul::Register, Matmul::Tile] {
        let options = Options {
            matmul: Some(matmul),
            weights: WeightStorage::F16,
            ..Options::default()
        };
        let gpu = open(options);
        // 70 x 60 and 90 x 50 values are enough to be packed; 50 is not a multiple of 4.
        for (rows, d_out, d_in) in [(2, 70, 60), (20, 90, 50), (40, 70, 64)] {
            let x = Matrix::random(&mut random, rows, d_in, 1.0);
            let weight = Matrix::random(&mut random, d_out, d_in, 1.0);
            let mut rounded = weight.clone();
            rounded
                .data
                .iter_mut()
                .for_each(|value| *value = half::f16::from_f32(*value).to_f32());
            let what = format!("{} {rows} x {d_out} x {d_in}", matmul.name());
            let found = product(&gpu, &x, &weight);
            assert_close(&what, &found, &product(&cpu, &x, &rounded), TOLERANCE);
            // Rounding is half a unit of 2^-11 for each weight below one: at most d_in * 2^-12 * max|x| in a sum.
            let bound = d_in as f32 / 4096.0;
            for (found, exact) in found.iter().zip(product(&cpu, &x, &weight)) {
                assert!((found - exact).abs() <= bound, "{what}: {found} {exact}");
            }
        }
        // A value outside f16's range keeps its matrix in f32.
        let mut weight = Matrix::random(&mut random, 70, 60, 1.0);
        weight.data[11] = 1e5;
        let x = Matrix::random(&mut random, 9, 60, 1.0);
        assert_close(
            "1e5",
            &product(&gpu, &x, &weight),
            &product(&cpu, &x, &weight),
            TOLERANCE,
        );
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
    for matmul in [Matmul::Register, Matmul::Tile] {
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
