//! `attention` and `attention_split`.

use lorahub_tensor::{AttentionPlan, Backend, Cpu, Segments};

use crate::{Matrix, Values, assert_close, open, read};

/// WGSL's exp is good to `3 + 2 |x|` units in the last place; the probabilities that matter have |x| below 20.
const TOLERANCE: f32 = 8e-6;

struct Case {
    candidates: usize,
    query: Segments,
    key: Segments,
    heads: usize,
    causal: bool,
    biased: bool,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    table: Matrix,
}

impl Case {
    #[expect(clippy::too_many_arguments, reason = "a case is a row of a table")]
    fn new(
        random: &mut Values,
        candidates: usize,
        query: &[usize],
        key: &[usize],
        heads: usize,
        d_kv: usize,
        causal: bool,
        biased: bool,
        scale: f32,
    ) -> Self {
        let (query, key) = (
            Segments::new(query.to_vec()).unwrap(),
            Segments::new(key.to_vec()).unwrap(),
        );
        Self {
            q: Matrix::random(random, candidates * query.total(), heads * d_kv, scale),
            k: Matrix::random(random, candidates * key.total(), heads * d_kv, scale),
            v: Matrix::random(random, candidates * key.total(), heads * d_kv, 1.0),
            table: Matrix::random(random, 8, heads, 2.0),
            candidates,
            query,
            key,
            heads,
            causal,
            biased,
        }
    }

    fn run<B: Backend>(&self, backend: &B) -> Vec<f32> {
        let reach = self.query.longest().max(self.key.longest());
        let buckets: Vec<u32> = (0..2 * reach - 1).map(|i| (i * 5 % 8) as u32).collect();
        let bias = self
            .biased
            .then(|| backend.relative_bias(&self.table.weight(backend), &buckets).unwrap());
        let plan = AttentionPlan {
            candidates: self.candidates,
            query: &self.query,
            key: &self.key,
            heads: self.heads,
            causal: self.causal,
        };
        let (q, k, v) = (self.q.tensor(backend), self.k.tensor(backend), self.v.tensor(backend));
        read(backend, &backend.attention(&q, &k, &v, &plan, bias.as_ref()).unwrap())
    }
}

#[test]
fn attention() {
    let (gpu, cpu, mut random) = (open(Default::default()), Cpu::new(), Values(15));
    for (candidates, query, key, heads, d_kv, causal, biased, scale) in [
        (1, vec![1], vec![1], 1, 1, false, true, 1.0),
        (1, vec![4, 1, 7], vec![4, 1, 7], 3, 4, true, true, 1.0),
        (3, vec![4, 1, 7], vec![4, 1, 7], 3, 4, false, true, 1.0),
        // Another number of queries than keys, and no bias: the cross attention.
        (2, vec![2, 5], vec![9, 1], 3, 8, false, false, 1.0),
        // More keys than the split kernel's 32 lanes.
        (1, vec![2], vec![70], 2, 8, false, false, 1.0),
        // Odd head widths, whose last vec4 is padded.
        (2, vec![3, 6], vec![3, 6], 2, 5, true, true, 1.0),
        (2, vec![3, 6], vec![3, 6], 2, 7, false, true, 1.0),
        // Scores of several hundred: the softmax is one-hot, and must not overflow.
        (2, vec![3, 6], vec![3, 6], 3, 4, true, true, 20.0),
        (1, vec![3], vec![5], 3, 4, false, true, 0.0),
        (1, vec![5], vec![5], 1, 64, true, true, 1.0),
        // Wide heads leave the split kernel few lanes.
        (1, vec![3], vec![9], 1, 256, false, true, 0.3),
        // Past 512 queries times heads the other kernel runs.
        (6, vec![20, 1, 12], vec![20, 1, 12], 3, 4, true, true, 1.0),
        (5, vec![20, 1, 12], vec![3, 30, 9], 4, 8, false, false, 1.0),
        (9, vec![33, 31], vec![33, 31], 1, 6, true, true, 10.0),
    ] {
        let case = Case::new(
            &mut random,
            candidates,
            &query,
            &key,
            heads,
            d_kv,
            causal,
            biased,
            scale,
        );
        let what = format!("{candidates} of {query:?} to {key:?}, {heads} heads of {d_kv}, x {scale}");
        // A score's own rounding, a unit in the last place of the largest that can be, moves its probability as much.
        let scores = scale * scale * d_kv as f32 * f32::EPSILON;
        assert_close(&what, &case.run(&gpu), &case.run(&cpu), TOLERANCE + scores);
    }
}

/// An overflow makes its own segment's queries not finite, and leaves the other segments alone.
#[test]
fn overflow_stays_in_its_segment() {
    let (gpu, mut random) = (open(Default::default()), Values(16));
    for (candidates, heads) in [(1, 1), (40, 2)] {
        for value in [3e38f32, f32::INFINITY, f32::NAN] {
            let mut case = Case::new(&mut random, candidates, &[4, 5], &[4, 5], heads, 4, false, true, 1.0);
            let width = case.k.columns;
            // The whole key, so that no product of opposite signs hides it.
            case.k.data[4 * width..5 * width].fill(value);
            case.q.data.iter_mut().for_each(|value| *value = value.abs() + 2.0);
            let found = case.run(&gpu);
            assert!(
                found[4 * width..9 * width].iter().all(|value| !value.is_finite()),
                "{value}"
            );
            assert!(
                found[..4 * width]
                    .iter()
                    .chain(&found[9 * width..])
                    .all(|value| value.is_finite()),
                "{value}"
            );
        }
    }
}

#[test]
fn a_head_too_wide_is_an_error() {
    let (gpu, mut random) = (open(Default::default()), Values(17));
    let case = Case::new(&mut random, 1, &[1], &[1], 1, 260, false, false, 1.0);
    let plan = AttentionPlan {
        candidates: 1,
        query: &case.query,
        key: &case.key,
        heads: 1,
        causal: false,
    };
    let (q, k, v) = (case.q.tensor(&gpu), case.k.tensor(&gpu), case.v.tensor(&gpu));
    let error = gpu.attention(&q, &k, &v, &plan, None).err().unwrap().to_string();
    assert!(error.contains("260") && error.contains("256"), "{error}");
}
