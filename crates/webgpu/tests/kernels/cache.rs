//! `cache_append` and the decode steps of `attention_split`.

use lorahub_tensor::{AttentionPlan, Backend, Segments};

use crate::{Matrix, Values, assert_close, open, read};

/// Decoding step by step is causal attention over the whole, also when sequences end and change places, past the
/// cache's first 16 steps, and with enough sequences for the kernel of many queries.
#[test]
fn steps_are_causal_attention() {
    let (gpu, mut random) = (open(Default::default()), Values(18));
    for (heads, d_kv, sequences, steps, keep) in [
        (2, 8, 3, 20, vec![2, 0]),
        (1, 5, 1, 3, vec![0]),
        (3, 4, 180, 4, vec![179, 5]),
    ] {
        let width = heads * d_kv;
        let table = Matrix::random(&mut random, 8, heads, 2.0);
        let buckets: Vec<u32> = (0..2 * steps - 1).map(|i| (i % 8) as u32).collect();
        let bias = gpu.relative_bias(&table.weight(&gpu), &buckets).unwrap();
        let segments = Segments::new(vec![steps; sequences]).unwrap();
        let [q, k, v] = [0; 3].map(|_| Matrix::random(&mut random, sequences * steps, width, 1.0).tensor(&gpu));
        let plan = AttentionPlan {
            candidates: 1,
            query: &segments,
            key: &segments,
            heads,
            causal: true,
        };
        let whole = gpu.attention(&q, &k, &v, &plan, Some(&bias)).unwrap();
        let mut cache = gpu.cache(sequences, steps, width).unwrap();
        let mut kept: Vec<usize> = (0..sequences).collect();
        for step in 0..steps {
            if step == steps / 2 {
                gpu.cache_keep(&mut cache, &keep).unwrap();
                kept.clone_from(&keep);
            }
            let rows: Vec<usize> = kept.iter().map(|sequence| sequence * steps + step).collect();
            let at = |x| gpu.gather_rows(x, &rows).unwrap();
            let out = gpu
                .attention_step(&at(&q), &at(&k), &at(&v), &mut cache, heads, &bias)
                .unwrap();
            let what = format!("{sequences} sequences, step {step}");
            assert_close(&what, &read(&gpu, &out), &read(&gpu, &at(&whole)), 8e-6);
        }
        let full = gpu.attention_step(&q, &k, &v, &mut cache, heads, &bias);
        assert!(full.is_err(), "a cache takes no more than it was made for");
    }
}
