//! `rms_norm`.

use lorahub_tensor::{Backend, Cpu};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

fn norm<B: Backend>(backend: &B, x: &Matrix, weight: &[f32], eps: f64) -> Vec<f32> {
    let weight = backend.weight(&[x.columns], weight.to_vec()).unwrap();
    read(backend, &backend.rms_norm(&x.tensor(backend), &weight, eps).unwrap())
}

#[test]
fn rms_norm() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(1));
    // Columns around the 64 lanes of a row's workgroup.
    for (rows, columns, scale) in [
        (1, 1, 1.0),
        (3, 7, 1.0),
        (2, 63, 1e4),
        (5, 64, 1e-4),
        (2, 65, 1.0),
        (1, 130, 1e15),
        (2, 16, 0.0),
        (70, 20, 1.0),
    ] {
        let x = Matrix::random(&mut random, rows, columns, scale);
        let weight = random.many(columns, 1.0);
        let what = format!("{rows} x {columns} x {scale}");
        assert_close(
            &what,
            &norm(&gpu, &x, &weight, 1e-6),
            &norm(&cpu, &x, &weight, 1e-6),
            TOLERANCE,
        );
    }
    // A law: with a small eps the scale of x does not matter.
    let x = Matrix::random(&mut random, 3, 40, 1.0);
    let mut large = x.clone();
    large.data.iter_mut().for_each(|value| *value *= 1024.0);
    let weight = random.many(40, 1.0);
    assert_close(
        "scale",
        &norm(&gpu, &large, &weight, 1e-20),
        &norm(&gpu, &x, &weight, 1e-20),
        TOLERANCE,
    );
}

#[test]
fn a_row_whose_squares_overflow_is_not_finite_and_its_neighbours_are() {
    let (gpu, mut random) = (open(Default::default()), Values(2));
    for value in [1e20f32, 3e38, f32::INFINITY, f32::NAN] {
        let mut x = Matrix::random(&mut random, 3, 70, 1.0);
        x.data[70 + 5] = value;
        let found = norm(&gpu, &x, &[1.0; 70], 1e-6);
        assert!(found[70..140].iter().all(|value| !value.is_finite()), "{value}");
        assert!(
            found[..70].iter().chain(&found[140..]).all(|value| value.is_finite()),
            "{value}"
        );
    }
}
