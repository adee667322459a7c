//! `add`, `relu`, `gated_gelu`, `repeat`.

use lorahub_tensor::{Backend, Cpu};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

/// One value, and counts around a vec4 and a workgroup of 64 vec4s.
const SHAPES: [(usize, usize); 7] = [(1, 1), (1, 3), (1, 4), (1, 5), (2, 127), (4, 64), (3, 87)];

fn all<B: Backend>(backend: &B, x: &Matrix, y: &Matrix, times: usize) -> [Vec<f32>; 4] {
    let (x, y) = (x.tensor(backend), y.tensor(backend));
    [
        read(backend, &backend.add(&x, &y).unwrap()),
        read(backend, &backend.relu(&x).unwrap()),
        read(backend, &backend.gated_gelu(&x, &y).unwrap()),
        read(backend, &backend.repeat(&x, times).unwrap()),
    ]
}

#[test]
fn elementwise() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(3));
    for (rows, columns) in SHAPES {
        for scale in [0.0, 1e-3, 1.0, 5.0, 1e4, 1e30] {
            let x = Matrix::random(&mut random, rows, columns, scale);
            let y = Matrix::random(&mut random, rows, columns, 1.0);
            let (gpu, cpu) = (all(&gpu, &x, &y, 3), all(&cpu, &x, &y, 3));
            for (name, (gpu, cpu)) in ["add", "relu", "gated_gelu", "repeat"].iter().zip(gpu.iter().zip(&cpu)) {
                assert_close(&format!("{name} {rows} x {columns} x {scale}"), gpu, cpu, TOLERANCE);
            }
        }
    }
}

#[test]
fn overflow_goes_through() {
    let gpu = open(Default::default());
    for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let x = Matrix {
            rows: 1,
            columns: 2,
            data: vec![value, -1.0],
        };
        let one = Matrix {
            rows: 1,
            columns: 2,
            data: vec![1.0; 2],
        };
        let [add, relu, gelu, _] = all(&gpu, &x, &one, 2);
        assert!(!add[0].is_finite() && !relu[0].is_finite(), "{value}: {add:?} {relu:?}");
        // gelu(-inf) is 0 or NaN by the order of its factors; what is large and positive must stay large.
        assert!(value < 0.0 || !gelu[0].is_finite(), "{value}: {gelu:?}");
        assert_eq!((add[1], relu[1]), (0.0, 0.0));
    }
    let large = Matrix {
        rows: 1,
        columns: 1,
        data: vec![3e38],
    };
    let [add, _, gelu, _] = all(&gpu, &large, &large, 1);
    assert!(!add[0].is_finite() && !gelu[0].is_finite());
}
