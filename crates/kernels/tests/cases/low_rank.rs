//! LoRAs beside a product, against plain loops.

use lorahub_kernels::{LowRank, PANEL, PackedF32, Rows, RowsMut, add_low_rank_in};

use super::{Numbers, UNIT, assert_near};

struct Case {
    candidates: usize,
    rows: usize,
    inputs: usize,
    outputs: usize,
    rank: usize,
    shared: bool,
}

struct Operands {
    x: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    factors: Vec<f32>,
    base: Vec<f32>,
}

impl Case {
    fn pairs(&self) -> usize {
        if self.shared { 1 } else { self.candidates }
    }

    fn operands(&self, numbers: &mut Numbers) -> Operands {
        let rows = self.candidates * self.rows;
        Operands {
            x: numbers.take(rows * self.inputs),
            a: numbers.take(self.pairs() * self.rank * self.inputs),
            b: numbers.take(self.pairs() * self.outputs * self.rank),
            factors: numbers.take(self.candidates * self.rank),
            base: numbers.take(rows * self.outputs),
        }
    }

    /// The rows `first..first + count`, and the columns from a panel on.
    fn run(&self, operands: &Operands, first: usize, count: usize, from: usize) -> Vec<f32> {
        let (a, b) = (
            packed(&operands.a, self.rank, self.inputs),
            packed(&operands.b, self.outputs, self.rank),
        );
        let low = LowRank {
            rank: self.rank,
            inputs: self.inputs,
            outputs: self.outputs,
            rows: self.rows,
            a: &a,
            b: &b,
            factors: self.shared.then_some(&operands.factors),
        };
        let mut out = operands.base[first * self.outputs..][..count * self.outputs].to_vec();
        let mut hidden = vec![f32::NAN; count * self.rank];
        add_low_rank_in(
            Rows::new(&operands.x[first * self.inputs..], count, self.inputs),
            low,
            first,
            from..self.outputs,
            &mut RowsMut {
                data: &mut out[from..],
                stride: self.outputs,
            },
            &mut hidden,
        );
        out
    }

    fn expected(&self, operands: &Operands, row: usize, output: usize) -> f64 {
        let (candidate, pair) = (row / self.rows, if self.shared { 0 } else { row / self.rows });
        let mut sum = f64::from(operands.base[row * self.outputs + output]);
        for r in 0..self.rank {
            let a = &operands.a[(pair * self.rank + r) * self.inputs..][..self.inputs];
            let x = &operands.x[row * self.inputs..][..self.inputs];
            let hidden: f64 = a.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum();
            let b = f64::from(operands.b[(pair * self.outputs + output) * self.rank + r]);
            let factor = if self.shared {
                f64::from(operands.factors[candidate * self.rank + r])
            } else {
                1.0
            };
            sum += hidden * factor * b;
        }
        sum
    }
}

/// Matrices `[n, k]` one after another, each packed.
fn packed(matrices: &[f32], n: usize, k: usize) -> Vec<[f32; PANEL]> {
    let packed = matrices
        .chunks_exact(n * k)
        .map(|matrix| PackedF32::new(Rows::new(matrix, n, k), k));
    packed.flat_map(|packed| packed.view().rows().to_vec()).collect()
}

pub(super) fn low_ranks_are_added() {
    let mut numbers = Numbers(31);
    for shared in [false, true] {
        for (candidates, rows, inputs, outputs, rank) in [
            (1, 1, 5, 17, 1),
            (3, 2, 16, 16, 4),
            (2, 7, 600, 33, 16),
            (4, 1, 40, 48, 40),
            (2, 3, 1, 1, 17),
        ] {
            let case = Case {
                candidates,
                rows,
                inputs,
                outputs,
                rank,
                shared,
            };
            let operands = case.operands(&mut numbers);
            let out = case.run(&operands, 0, candidates * rows, 0);
            // Every term of both sums is rounded a few times, and is below one times the length of the inner sum.
            let tolerance = 4.0 * UNIT * (rank * inputs) as f64 * (inputs as f64).sqrt();
            for (i, &found) in out.iter().enumerate() {
                let (row, output) = (i / outputs, i % outputs);
                assert_near(found, case.expected(&operands, row, output), tolerance, || {
                    format!(
                        "{candidates} x {rows} rows, {inputs} to {outputs}, rank {rank}, row {row}, output {output}"
                    )
                });
            }
        }
    }
}

/// As threads cut it: some of the rows, in the middle of a candidate's, or some of the columns.
pub(super) fn parts_of_low_ranks_have_the_bits_of_the_whole() {
    let mut numbers = Numbers(32);
    for shared in [false, true] {
        let case = Case {
            candidates: 3,
            rows: 5,
            inputs: 48,
            outputs: 40,
            rank: 16,
            shared,
        };
        let operands = case.operands(&mut numbers);
        let whole = case.run(&operands, 0, 15, 0);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let parts: Vec<f32> = [(0, 2), (2, 6), (8, 7)]
            .into_iter()
            .flat_map(|(first, count)| case.run(&operands, first, count, 0))
            .collect();
        assert_eq!(bits(&parts), bits(&whole), "rows");
        let columns = case.run(&operands, 0, 15, PANEL);
        for (row, whole) in whole.chunks_exact(40).enumerate() {
            assert_eq!(
                bits(&columns[row * 40 + PANEL..(row + 1) * 40]),
                bits(&whole[PANEL..]),
                "columns"
            );
        }
    }
}
