//! `embed`, `gather_rows`, `relative_bias`.

use lorahub_tensor::{AttentionPlan, Backend, Cpu, Segments};
use lorahub_webgpu::{Options, WeightStorage};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read, read_ids};

fn rows_of<B: Backend>(backend: &B, table: &Matrix, ids: &[u32], rows: &[usize]) -> [Vec<f32>; 2] {
    let x = backend
        .embed(&table.weight(backend), &backend.ids(ids).unwrap())
        .unwrap();
    [
        read(backend, &x),
        read(backend, &backend.gather_rows(&x, rows).unwrap()),
    ]
}

#[test]
fn embed_and_gather_copy() {
    let (cpu, mut random) = (Cpu::new(), Values(4));
    for storage in [WeightStorage::F32, WeightStorage::F16] {
        let gpu = open(Options {
            weights: storage,
            ..Options::default()
        });
        // 150 x 40 is large enough to be packed.
        for (vocab, columns) in [(1, 1), (7, 3), (9, 6), (150, 40), (300, 21)] {
            let mut table = Matrix::random(&mut random, vocab, columns, 3.0);
            // Exactly f16, so that packing loses nothing.
            table
                .data
                .iter_mut()
                .for_each(|value| *value = (*value * 256.0).round() / 256.0);
            let ids: Vec<u32> = (0..70).map(|i| (i * 31 % vocab) as u32).collect();
            let rows: Vec<usize> = (0..45).map(|i| (i * 17 + 3) % ids.len()).collect();
            let (found, expected) = (rows_of(&gpu, &table, &ids, &rows), rows_of(&cpu, &table, &ids, &rows));
            assert!(found == expected, "{vocab} x {columns}, {storage:?}");
        }
    }
}

#[test]
fn no_rows_are_no_rows() {
    let gpu = open(Options::default());
    let table = Matrix::random(&mut Values(5), 3, 4, 1.0);
    let x = gpu.embed(&table.weight(&gpu), &gpu.ids(&[]).unwrap()).unwrap();
    assert!(read(&gpu, &x).is_empty());
    let x = table.tensor(&gpu);
    assert!(read(&gpu, &gpu.gather_rows(&x, &[]).unwrap()).is_empty());
    let none = gpu.embed(&table.weight(&gpu), &gpu.ids(&[]).unwrap()).unwrap();
    let y = gpu
        .linear(&none, &Matrix::random(&mut Values(6), 5, 4, 1.0).weight(&gpu), None)
        .unwrap();
    assert!(read(&gpu, &y).is_empty());
}

/// The bias alone: queries of zero, values that name their key, so that the output is the softmax of the bias.
#[test]
fn relative_bias() {
    let (gpu, cpu, mut random) = (open(Options::default()), Cpu::new(), Values(7));
    for (heads, reach, buckets) in [(1, 1, 4), (3, 6, 8), (5, 40, 32)] {
        let table = Matrix::random(&mut random, buckets, heads, 3.0);
        let ids: Vec<u32> = (0..2 * reach - 1).map(|i| (i * 7 % buckets) as u32).collect();
        let zero = Matrix {
            rows: reach,
            columns: heads * 2,
            data: vec![0.0; reach * heads * 2],
        };
        let values = Matrix::random(&mut random, reach, heads * 2, 1.0);
        fn run<B: Backend>(backend: &B, table: &Matrix, ids: &[u32], zero: &Matrix, values: &Matrix) -> Vec<f32> {
            let segments = Segments::new(vec![zero.rows]).unwrap();
            let bias = backend.relative_bias(&table.weight(backend), ids).unwrap();
            let plan = AttentionPlan {
                candidates: 1,
                query: &segments,
                key: &segments,
                heads: table.columns,
                causal: false,
            };
            let (q, v) = (zero.tensor(backend), values.tensor(backend));
            read(backend, &backend.attention(&q, &q, &v, &plan, Some(&bias)).unwrap())
        }
        let found = run(&gpu, &table, &ids, &zero, &values);
        assert_close("bias", &found, &run(&cpu, &table, &ids, &zero, &values), TOLERANCE);
    }
}

/// Narrow tables and heads are read as the CPU widens them: copies to the bit, scores to another order of summing.
#[test]
fn narrow_tables_are_the_cpus() {
    let mut random = Values(28);
    for weights in [WeightStorage::F16, WeightStorage::Q8, WeightStorage::Q4] {
        let gpu = open(Options {
            weights,
            ..Options::default()
        });
        let cpu = Cpu::new().with_weights(weights);
        // 129 around the 128 lanes of a row of scores; 33 columns are no whole block, and fall to f16.
        for (vocab, columns) in [(32, 32), (129, 64), (300, 96), (40, 33)] {
            let table = Matrix::random(&mut random, vocab, columns, 2.0);
            let what = format!("{vocab} x {columns}, {}", weights.name());
            let ids: Vec<u32> = (0..19).map(|i| (i * 31 % vocab) as u32).collect();
            let (found, expected) = (
                rows_of(&gpu, &table, &ids, &[3, 0, 18]),
                rows_of(&cpu, &table, &ids, &[3, 0, 18]),
            );
            assert!(found == expected, "{what}");

            fn scores<B: Backend>(backend: &B, table: &Matrix, ids: &[u32]) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
                let head = table.weight(backend);
                let x = backend.embed(&head, &backend.ids(ids).unwrap()).unwrap();
                let segments = Segments::new(vec![1, ids.len() - 1]).unwrap();
                let nll = pollster::block_on(backend.nll(&x, &head, 0.25, ids, &segments, 1)).unwrap();
                (
                    read(backend, &nll),
                    read(backend, &backend.logits(&x, &head, 0.25).unwrap()),
                    read_ids(backend, &backend.argmax(&x, &head).unwrap()),
                )
            }
            let (found, expected) = (scores(&gpu, &table, &ids), scores(&cpu, &table, &ids));
            assert_close(&format!("nll {what}"), &found.0, &expected.0, TOLERANCE);
            assert_close(&format!("logits {what}"), &found.1, &expected.1, TOLERANCE);
            assert_eq!(found.2, expected.2, "{what}");
        }
    }
}
