//! One head's attention.

use lorahub_kernels::{AttentionScratch, HeadBias, Output, Rows, RowsMut, attention_head, multiply_in};

use super::{Numbers, assert_near};

/// The sizes of one head.
#[derive(Clone, Copy, Debug)]
struct Shape {
    queries: usize,
    keys: usize,
    width: usize,
    /// Columns between a row's end and the next one's start.
    gap: usize,
}

struct Operands {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    bias: Vec<f32>,
}

impl Shape {
    fn operands(self) -> Operands {
        let stride = self.width + self.gap;
        let mut numbers = Numbers((self.queries * 1000 + self.keys) as u64);
        Operands {
            q: numbers.take(self.queries * stride),
            k: numbers.take(self.keys * stride),
            v: numbers.take(self.keys * stride),
            bias: numbers.take(self.queries + self.keys),
        }
    }

    fn run(self, operands: &Operands, biased: bool, causal: bool, scratch: &mut AttentionScratch) -> Vec<f32> {
        let stride = self.width + self.gap;
        let rows = |data, count| Rows { data, stride, count };
        let mut data = vec![7.0; self.queries * stride];
        let bias = biased.then_some(HeadBias {
            by_distance: &operands.bias,
            zero: self.queries - 1,
        });
        let mut out = RowsMut {
            data: &mut data,
            stride,
        };
        let (q, k) = (rows(&operands.q, self.queries), rows(&operands.k, self.keys));
        attention_head(
            q,
            k,
            rows(&operands.v, self.keys),
            self.width,
            bias,
            causal,
            &mut out,
            scratch,
            |x, weight, columns, out| multiply_in(x, weight, columns, out, Output::Store, &mut []),
        );
        for row in data.chunks(stride) {
            assert_eq!(row[self.width..], vec![7.0; self.gap], "the gap was written to");
        }
        data
    }

    fn check(self, scratch: &mut AttentionScratch) {
        let operands = self.operands();
        for (biased, causal) in [(false, false), (true, false), (true, true)] {
            let found = self.run(&operands, biased, causal, scratch);
            for query in 0..self.queries {
                let expected = self.expected(&operands, query, biased, causal);
                let row = &found[query * (self.width + self.gap)..];
                for (column, (&found, expected)) in row.iter().zip(expected).enumerate() {
                    // Scores are below 65 in size and come from 64 products: an error of 130 * 64 roundings at the
                    // very most, typically a hundredth; softmax passes it on relative to values below 1.
                    assert_near(found, expected, 1e-5, || format!("[{query}, {column}] of {self:?}"));
                }
            }
        }
    }

    fn expected(self, operands: &Operands, query: usize, biased: bool, causal: bool) -> Vec<f64> {
        let stride = self.width + self.gap;
        let seen = if causal { self.keys.min(query + 1) } else { self.keys };
        let scores: Vec<f64> = (0..seen)
            .map(|key| {
                let products = (0..self.width)
                    .map(|i| f64::from(operands.q[query * stride + i]) * f64::from(operands.k[key * stride + i]));
                let bias = operands.bias[self.queries - 1 + key - query];
                products.sum::<f64>() + if biased { f64::from(bias) } else { 0.0 }
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..self.width)
            .map(|i| {
                let terms = weights.iter().enumerate();
                terms
                    .map(|(key, weight)| weight * f64::from(operands.v[key * stride + i]))
                    .sum::<f64>()
                    / total
            })
            .collect()
    }
}

pub(crate) fn heads_of_every_small_shape() {
    // One scratch for all, as a backend keeps it: what a longer sequence left must not matter.
    let mut scratch = AttentionScratch::default();
    for queries in (1..=20).rev() {
        for keys in 1..=20 {
            Shape {
                queries,
                keys,
                width: 8,
                gap: 3,
            }
            .check(&mut scratch);
        }
    }
}

pub(crate) fn heads_around_the_blocks() {
    for (queries, keys) in [(63, 64), (64, 65), (65, 63), (130, 130), (1, 256), (70, 600)] {
        Shape {
            queries,
            keys,
            width: 64,
            gap: 64,
        }
        .check(&mut AttentionScratch::default());
    }
}

pub(crate) fn causal_heads_do_not_see_ahead() {
    let shape = Shape {
        queries: 70,
        keys: 70,
        width: 16,
        gap: 0,
    };
    let mut operands = shape.operands();
    let before = shape.run(&operands, true, true, &mut AttentionScratch::default());
    operands.k[69 * 16..].fill(1e4);
    operands.v[69 * 16..].fill(-1e4);
    let after = shape.run(&operands, true, true, &mut AttentionScratch::default());
    assert_eq!(before[..69 * 16], after[..69 * 16]);
    assert_ne!(before[69 * 16..], after[69 * 16..]);
}

pub(crate) fn a_nan_reaches_its_query() {
    let shape = Shape {
        queries: 5,
        keys: 9,
        width: 8,
        gap: 0,
    };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut operands = shape.operands();
        operands.q[2 * 8 + 3] = bad;
        let out = shape.run(&operands, true, false, &mut AttentionScratch::default());
        for (query, row) in out.chunks_exact(8).enumerate() {
            assert_eq!(
                row.iter().all(|value| value.is_nan()),
                query == 2,
                "{bad} in query 2, seen in {query}"
            );
        }
    }
}
