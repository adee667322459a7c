//! Dispatches that do not fit one dimension, and more of them than one submission holds.

use lorahub_tensor::{AttentionPlan, Backend, Cpu, Segments};
use lorahub_webgpu::{Matmul, Options};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

fn pass<B: Backend>(backend: &B, x: &Matrix, weight: &Matrix, segments: &Segments) -> Vec<f32> {
    let x = x.tensor(backend);
    let norm = backend.weight(&[weight.columns], vec![1.0; weight.columns]).unwrap();
    let y = backend.rms_norm(&backend.repeat(&x, 3).unwrap(), &norm, 1e-6).unwrap();
    let y = backend.linear(&y, &weight.weight(backend), None).unwrap();
    let plan = AttentionPlan {
        candidates: 3,
        query: segments,
        key: segments,
        heads: 2,
        causal: true,
    };
    let y = backend.attention(&y, &y, &y, &plan, None).unwrap();
    let y = backend.gated_gelu(&y, &backend.add(&y, &y).unwrap()).unwrap();
    let rows: Vec<usize> = (0..3 * x_rows(segments)).rev().collect();
    let y = backend.gather_rows(&y, &rows).unwrap();
    let targets: Vec<u32> = (0..segments.total()).map(|i| (i % weight.rows) as u32).collect();
    let nll = pollster::block_on(backend.nll(&y, &weight.weight(backend), 1.0, &targets, segments, 3)).unwrap();
    let mut all = read(backend, &y);
    all.extend(read(backend, &nll));
    all
}

fn x_rows(segments: &Segments) -> usize {
    segments.total()
}

/// With at most 17 workgroups a dimension (and so 289 in two) every kernel needs the second.
#[test]
fn the_second_dimension() {
    let (cpu, mut random) = (Cpu::new(), Values(23));
    let segments = Segments::new(vec![30, 7, 8]).unwrap();
    let x = Matrix::random(&mut random, segments.total(), 40, 1.0);
    let weight = Matrix::random(&mut random, 40, 40, 0.3);
    let expected = pass(&cpu, &x, &weight, &segments);
    for matmul in Matmul::ALL {
        let gpu = open(Options {
            matmul: Some(matmul),
            max_workgroups: Some(17),
            ..Options::default()
        });
        assert_close(matmul.name(), &pass(&gpu, &x, &weight, &segments), &expected, TOLERANCE);
    }
    let gpu = open(Options {
        max_workgroups: Some(2),
        ..Options::default()
    });
    let error = gpu.repeat(&x.tensor(&open(Options::default())), 1).map(|_| ()).err();
    assert!(error.is_none(), "one copy needs no dispatch");
    let large = Matrix::random(&mut random, 8, 128, 1.0);
    let error = gpu.embed(
        &large.weight(&gpu),
        &gpu.ids(&[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]).unwrap(),
    );
    let error = error.err().unwrap().to_string();
    assert!(error.contains("max_compute_workgroups_per_dimension"), "{error}");
}

#[test]
fn many_operations_before_one_read() {
    let gpu = open(Options::default());
    let mut sum = Matrix {
        rows: 1,
        columns: 3,
        data: vec![1.0, 2.0, 3.0],
    }
    .tensor(&gpu);
    let one = Matrix {
        rows: 1,
        columns: 3,
        data: vec![1.0; 3],
    }
    .tensor(&gpu);
    for _ in 0..300 {
        sum = gpu.add(&sum, &one).unwrap();
    }
    assert_eq!(read(&gpu, &sum), [301.0, 302.0, 303.0]);
}

/// An upload must not land in a buffer that a recorded, unsubmitted command still reads.
#[test]
fn an_upload_does_not_overtake_what_is_recorded() {
    let gpu = open(Options::default());
    let mut outputs = Vec::new();
    for step in 0..20 {
        let table = Matrix {
            rows: 64,
            columns: 1,
            data: (0..64).map(|i| i as f32).collect(),
        };
        let ids = gpu.ids(&[step, step + 1, step + 2]).unwrap();
        outputs.push(gpu.embed(&table.weight(&gpu), &ids).unwrap());
    }
    for (step, output) in outputs.iter().enumerate() {
        let step = step as f32;
        assert_eq!(read(&gpu, output), [step, step + 1.0, step + 2.0]);
    }
}
