//! `nll_rows` and `nll_shots`.

use lorahub_tensor::{Backend, Cpu, Segments};
use lorahub_webgpu::Gpu;

use crate::{Matrix, Values, assert_close, open, read};

struct Case {
    candidates: usize,
    segments: Segments,
    scale: f64,
    x: Matrix,
    head: Matrix,
    targets: Vec<u32>,
}

impl Case {
    fn new(random: &mut Values, candidates: usize, lengths: &[usize], vocab: usize, scale: f64, size: f32) -> Self {
        let segments = Segments::new(lengths.to_vec()).unwrap();
        Self {
            x: Matrix::random(random, candidates * segments.total(), 6, size),
            head: Matrix::random(random, vocab, 6, 1.0),
            targets: (0..segments.total()).map(|i| (i * 7 % vocab) as u32).collect(),
            candidates,
            segments,
            scale,
        }
    }

    fn run<B: Backend>(&self, backend: &B) -> Vec<f32> {
        let (x, head) = (self.x.tensor(backend), self.head.weight(backend));
        let nll =
            pollster::block_on(backend.nll(&x, &head, self.scale, &self.targets, &self.segments, self.candidates))
                .unwrap();
        read(backend, &nll)
    }
}

#[test]
fn nll() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(19));
    for (candidates, lengths, vocab, scale, size) in [
        (1, vec![1], 1, 1.0, 1.0),
        (1, vec![1, 30, 5], 11, 1.0, 30.0),
        (3, vec![1, 30, 5], 11, 0.125, 30.0),
        // Vocabularies around the 128 lanes of a row.
        (2, vec![2, 1], 127, 1.0, 1.0),
        (2, vec![2, 1], 128, 1.0, 1.0),
        (2, vec![2, 1], 300, 1.0, 1e4),
        (2, vec![2, 1], 129, 1.0, 0.0),
        // A shot longer than a block of the sum.
        (1, vec![3, 70], 9, 1.0, 3.0),
    ] {
        let case = Case::new(&mut random, candidates, &lengths, vocab, scale, size);
        let what = format!("{candidates} of {lengths:?}, {vocab} x {size}");
        assert_close(&what, &case.run(&gpu), &case.run(&cpu), 4e-6);
    }
}

/// Scores of a large vocabulary come in chunks of rows: 32768 columns make chunks of 128 rows.
#[test]
fn more_rows_than_a_chunk() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(20));
    let mut case = Case::new(&mut random, 3, &[20, 24], 32_768, 1.0, 1.0);
    case.x = Matrix::random(&mut random, case.x.rows, 1, 2.0);
    case.head = Matrix::random(&mut random, 32_768, 1, 2.0);
    assert_close("chunks", &case.run(&gpu), &case.run(&cpu), 4e-6);
}

/// An overflow flags its own candidate's shot as the worst, and no other.
#[test]
fn overflow_is_never_silently_finite() {
    fn flags(gpu: &Gpu, value: f32, in_head: f32) -> Vec<f32> {
        let x = Matrix {
            rows: 4,
            columns: 2,
            data: vec![1.0, 1.0, 1.0, 1.0, value, 1.0, 1.0, 1.0],
        };
        let head = Matrix {
            rows: 2,
            columns: 2,
            data: vec![in_head, 0.0, 0.0, 1.0],
        };
        let segments = Segments::new(vec![1, 1]).unwrap();
        let nll = pollster::block_on(gpu.nll(&x.tensor(gpu), &head.weight(gpu), 1.0, &[1, 0], &segments, 2)).unwrap();
        read(gpu, &nll)
    }
    let gpu = open(Default::default());
    for value in [1e30f32, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let found = flags(&gpu, value, 1e10);
        assert_eq!(found[2], f32::INFINITY, "{value}: {found:?}");
        assert!(
            [found[0], found[1], found[3]].iter().all(|loss| loss.is_finite()),
            "{value}: {found:?}"
        );
    }
}
