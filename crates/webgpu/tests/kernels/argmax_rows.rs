//! `argmax_rows`.

use lorahub_tensor::{Backend, Cpu};

use crate::{Matrix, Values, open, read, read_ids};

#[test]
fn argmax() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(21));
    // Around the 128 lanes of a row.
    for (rows, vocab) in [(1, 1), (3, 5), (9, 127), (2, 128), (9, 129), (5, 700)] {
        let (x, head) = (
            Matrix::random(&mut random, rows, 8, 1.0),
            Matrix::random(&mut random, vocab, 8, 1.0),
        );
        fn ids<B: Backend>(backend: &B, x: &Matrix, head: &Matrix) -> Vec<u32> {
            read_ids(
                backend,
                &backend.argmax(&x.tensor(backend), &head.weight(backend)).unwrap(),
            )
        }
        assert_eq!(ids(&gpu, &x, &head), ids(&cpu, &x, &head), "{rows} x {vocab}");
    }
}

#[test]
fn the_lowest_id_wins_a_tie() {
    let gpu = open(Default::default());
    let x = Matrix {
        rows: 2,
        columns: 1,
        data: vec![1.0, -1.0],
    };
    let mut head = Matrix {
        rows: 400,
        columns: 1,
        data: vec![0.0; 400],
    };
    for id in [391, 263, 135] {
        head.data[id] = 2.0;
    }
    for id in [390, 17, 145] {
        head.data[id] = -2.0;
    }
    let best = gpu.argmax(&x.tensor(&gpu), &head.weight(&gpu)).unwrap();
    assert_eq!(read_ids(&gpu, &best), [135, 17]);
}

/// Ids go from one step to the next without the host seeing them.
#[test]
fn ids_stay_on_the_device() {
    let (gpu, mut random) = (open(Default::default()), Values(22));
    let (x, head) = (
        Matrix::random(&mut random, 3, 8, 1.0),
        Matrix::random(&mut random, 20, 8, 1.0),
    );
    let ids = gpu.argmax(&x.tensor(&gpu), &head.weight(&gpu)).unwrap();
    let embedded = gpu.embed(&head.weight(&gpu), &ids).unwrap();
    let expected: Vec<f32> = read_ids(&gpu, &ids)
        .iter()
        .flat_map(|&id| head.data[id as usize * 8..][..8].to_vec())
        .collect();
    assert_eq!(read(&gpu, &embedded), expected);
    let small = Matrix::random(&mut random, 19, 8, 1.0);
    assert!(
        gpu.embed(&small.weight(&gpu), &ids).is_err(),
        "the head has more rows than this table"
    );
}
