//! `lora_mix`, `lora_pick`, `lora_down`, `lora_up`, and the adapters' part of the linears.

use lorahub_adapters::{BankTarget, Rule};
use lorahub_tensor::{Backend, Cpu};
use lorahub_webgpu::{Matmul, Options};

use crate::{Matrix, TOLERANCE, Values, assert_close, open, read};

fn bank(random: &mut Values, ranks: &[usize], d_in: usize, d_out: usize) -> BankTarget {
    let total: usize = ranks.iter().sum();
    BankTarget {
        path: "encoder.block.0.layer.0.SelfAttention.q".into(),
        d_in,
        d_out,
        ranks: ranks.to_vec(),
        scalings: vec![2.0; ranks.len()],
        a: random.many(total * d_in, 0.5),
        b: random.many(total * d_out, 0.5),
    }
}

struct Case {
    target: BankTarget,
    rule: Rule,
    w: Vec<Vec<f32>>,
    weight: Matrix,
    /// A row for every candidate and token.
    x: Matrix,
    /// A row for every token, shared by the candidates.
    shared: Matrix,
}

/// `linear` with the adapters, and `add_lora` on a shared base product.
fn run<B: Backend>(backend: &B, case: &Case) -> [Vec<f32>; 2] {
    let lora = backend
        .compose(&backend.bank(&case.target, case.rule).unwrap(), &case.w)
        .unwrap();
    let weight = case.weight.weight(backend);
    let y = backend.linear(&case.x.tensor(backend), &weight, Some(&lora)).unwrap();
    let shared = case.shared.tensor(backend);
    let base = backend.linear(&shared, &weight, None).unwrap();
    [
        read(backend, &y),
        read(backend, &backend.add_lora(&base, &shared, &lora).unwrap()),
    ]
}

#[test]
fn adapters_under_both_rules() {
    let (cpu, mut random) = (Cpu::new(), Values(12));
    let [register, others @ ..] = Matmul::ALL.map(|matmul| {
        open(Options {
            matmul: Some(matmul),
            ..Options::default()
        })
    });
    // Tokens of 1, 3 and 9 make register tiles cross from one candidate to the next; 64 ranks make two blocks.
    for (d_in, d_out, tokens, candidates) in [
        (12, 20, 9, 3),
        (7, 5, 1, 5),
        (33, 34, 3, 6),
        (8, 70, 40, 2),
        (8, 70, 45, 3),
        (16, 8, 1, 1),
    ] {
        for (rule, ranks) in [
            (Rule::Reference, vec![4, 4, 4]),
            (Rule::Reference, vec![3, 3]),
            (Rule::Reference, vec![17; 5]),
            (Rule::Exact, vec![2, 5, 1]),
            (Rule::Exact, vec![4]),
            (Rule::Exact, vec![16; 4]),
        ] {
            let w = (0..candidates).map(|_| random.many(ranks.len(), 1.5)).collect();
            let case = Case {
                target: bank(&mut random, &ranks, d_in, d_out),
                rule,
                w,
                weight: Matrix::random(&mut random, d_out, d_in, 0.3),
                x: Matrix::random(&mut random, candidates * tokens, d_in, 1.0),
                shared: Matrix::random(&mut random, tokens, d_in, 1.0),
            };
            let expected = run(&cpu, &case);
            let what = format!("{rule:?} {ranks:?} {d_in} to {d_out}, {candidates} of {tokens}");
            let found = run(&register, &case);
            assert_close(&what, &found[0], &expected[0], TOLERANCE);
            assert_close(&format!("add_lora {what}"), &found[1], &expected[1], TOLERANCE);
            for gpu in &others {
                let what = format!("{} {what}", gpu.matmul().name());
                assert_close(&what, &run(gpu, &case)[0], &expected[0], TOLERANCE);
            }
        }
    }
}

#[test]
fn weights_of_zero() {
    let (gpu, cpu, mut random) = (open(Options::default()), Cpu::new(), Values(13));
    for (rule, ranks) in [(Rule::Reference, [4, 4, 4]), (Rule::Exact, [2, 5, 1])] {
        for w in [
            vec![vec![0.5, 0.0, -1.5], vec![0.0, 0.0, 0.0], vec![1.0, 0.0, 0.25]],
            // One module in use, which is not a multiple of four ranks.
            vec![vec![0.0, 0.5, 0.0], vec![0.0, -1.0, 0.0]],
            vec![vec![0.0; 3]; 2],
        ] {
            let candidates = w.len();
            let case = Case {
                target: bank(&mut random, &ranks, 10, 6),
                rule,
                w,
                weight: Matrix::random(&mut random, 6, 10, 0.3),
                x: Matrix::random(&mut random, candidates * 5, 10, 1.0),
                shared: Matrix::random(&mut random, 5, 10, 1.0),
            };
            let (found, expected) = (run(&gpu, &case), run(&cpu, &case));
            let what = format!("{rule:?} {:?}", case.w);
            assert_close(&what, &found[0], &expected[0], TOLERANCE);
            assert_close(&what, &found[1], &expected[1], TOLERANCE);
        }
    }
}

/// A candidate's result does not depend on which others run with it.
#[test]
fn a_generation_is_its_single_evaluations() {
    let (gpu, mut random) = (open(Options::default()), Values(14));
    for (rule, ranks) in [(Rule::Reference, vec![4; 3]), (Rule::Exact, vec![4, 2, 3])] {
        let (candidates, tokens, d_in, d_out) = (16, 10, 12, 9);
        let mut case = Case {
            target: bank(&mut random, &ranks, d_in, d_out),
            rule,
            w: (0..candidates).map(|_| random.many(ranks.len(), 1.5)).collect(),
            weight: Matrix::random(&mut random, d_out, d_in, 0.3),
            x: Matrix::random(&mut random, candidates * tokens, d_in, 1.0),
            shared: Matrix::random(&mut random, tokens, d_in, 1.0),
        };
        let together = run(&gpu, &case);
        let (all_w, all_x) = (case.w.clone(), case.x.data.clone());
        for (c, w) in all_w.iter().enumerate() {
            case.w = vec![w.clone()];
            case.x = Matrix {
                rows: tokens,
                columns: d_in,
                data: all_x[c * tokens * d_in..(c + 1) * tokens * d_in].to_vec(),
            };
            let alone = run(&gpu, &case);
            for (what, alone, together) in [
                ("linear", &alone[0], &together[0]),
                ("add_lora", &alone[1], &together[1]),
            ] {
                let own = &together[c * tokens * d_out..(c + 1) * tokens * d_out];
                assert_close(&format!("{what} {rule:?} {c}"), alone, own, 1e-6);
            }
        }
    }
}
