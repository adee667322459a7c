//! The differentiable and the fused form of every CPU operation give the same numbers, also where it is awkward: one
//! row, one-token shots, several candidates, values far from one.

use candle_core::{Device, Tensor, Var};
use lorahub_adapters::{BankTarget, Rule};
use lorahub_tensor::{AttentionPlan, Backend, Cpu, CpuBias, CpuTensor, CpuWeight, Projection, Segments, WeightStorage};

/// A small deterministic generator; the values only need to be irregular.
struct Values(u64);

impl Values {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as f32 / (1u64 << 31) as f32) * 2.0 - 1.0
    }

    fn many(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * scale).collect()
    }

    fn matrix(&mut self, rows: usize, columns: usize, scale: f32) -> Tensor {
        Tensor::from_vec(self.many(rows * columns, scale), (rows, columns), &Device::Cpu).unwrap()
    }

    fn activation(&mut self, rows: usize, columns: usize, scale: f32) -> CpuTensor {
        plain(&self.matrix(rows, columns, scale))
    }
}

fn plain(tensor: &Tensor) -> CpuTensor {
    CpuTensor::from_candle(tensor).unwrap()
}

/// The same values as a variable, which makes the backend take the differentiable form.
fn tracked(tensor: &CpuTensor) -> CpuTensor {
    plain(Var::from_tensor(&tensor.to_candle().unwrap()).unwrap().as_tensor())
}

fn values(tensor: &CpuTensor) -> Vec<f32> {
    tensor.to_candle().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Both forms sum in another order: a few units in the last place of the largest term, times the root of the length.
fn assert_close(what: &str, fused: &CpuTensor, composed: &CpuTensor) {
    assert_eq!(fused.dims(), composed.dims(), "{what}");
    let (fused, composed) = (values(fused), values(composed));
    let largest = composed.iter().fold(1f32, |max, value| max.max(value.abs()));
    for (index, (a, b)) in fused.iter().zip(&composed).enumerate() {
        assert!(
            (a - b).abs() <= 4e-6 * largest,
            "{what}[{index}]: fused {a}, composed {b}"
        );
    }
}

#[test]
fn rms_norm() {
    let (cpu, mut random) = (Cpu::new(), Values(1));
    for (rows, columns, scale) in [(1, 1, 1.0), (3, 7, 1.0), (2, 8, 1e4), (5, 33, 1e-4), (2, 16, 0.0)] {
        let x = random.activation(rows, columns, scale);
        let weight = CpuWeight::from_tensor(random.matrix(1, columns, 1.0).squeeze(0).unwrap());
        let fused = cpu.rms_norm(&x, &weight, 1e-6).unwrap();
        assert_close("rms_norm", &fused, &cpu.rms_norm(&tracked(&x), &weight, 1e-6).unwrap());
    }
}

#[test]
fn gated_gelu() {
    let (cpu, mut random) = (Cpu::new(), Values(2));
    for scale in [1e-3, 1.0, 5.0, 1e4] {
        let (gate, up) = (random.activation(3, 17, scale), random.activation(3, 17, 1.0));
        let fused = cpu.gated_gelu(&gate, &up).unwrap();
        assert_close("gated_gelu", &fused, &cpu.gated_gelu(&tracked(&gate), &up).unwrap());
    }
}

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

#[test]
fn linear_and_lora_under_both_rules() {
    let (cpu, mut random) = (Cpu::new(), Values(3));
    let (d_in, d_out, tokens) = (12, 20, 9);
    let weight = CpuWeight::from_tensor(random.matrix(d_out, d_in, 0.3));
    let x = random.activation(3 * tokens, d_in, 1.0);
    let shared = random.activation(tokens, d_in, 1.0);
    let base = cpu.linear(&shared, &weight, None).unwrap();
    assert_close("linear", &base, &cpu.linear(&tracked(&shared), &weight, None).unwrap());
    let w = vec![vec![0.5, 0.0, -1.5], vec![0.0, 0.0, 0.0], vec![1.0, 0.0, 0.25]];
    for (rule, ranks) in [(Rule::Reference, [4, 4, 4]), (Rule::Exact, [2, 5, 1])] {
        let lora = cpu
            .compose(&cpu.bank(&bank(&mut random, &ranks, d_in, d_out), rule).unwrap(), &w)
            .unwrap();
        let fused = cpu.linear(&x, &weight, Some(&lora)).unwrap();
        assert_close(
            "linear",
            &fused,
            &cpu.linear(&tracked(&x), &weight, Some(&lora)).unwrap(),
        );
        let fused = cpu.add_lora(&base, &shared, &lora).unwrap();
        assert_close(
            "add_lora",
            &fused,
            &cpu.add_lora(&tracked(&base), &shared, &lora).unwrap(),
        );
        let repeated = cpu.repeat(&shared, 3).unwrap();
        assert_close("shared", &fused, &cpu.linear(&repeated, &weight, Some(&lora)).unwrap());
    }
}

/// What wasm does: modules packed as the kernels read them, at sizes that are no multiple of a panel, and one row a
/// candidate.
#[test]
fn packed_loras_are_the_same() {
    let (cpu, packed, mut random) = (Cpu::new(), Cpu::new().with_packed_weights(), Values(10));
    let w = vec![vec![0.5, 0.0, -1.5], vec![0.0, 0.0, 0.0], vec![1.0, 0.0, 0.25]];
    for (d_in, d_out, tokens) in [(12, 20, 9), (600, 33, 2), (16, 16, 1), (1, 1, 3)] {
        let matrix = random.many(d_out * d_in, 0.3);
        let x = random.activation(3 * tokens, d_in, 1.0);
        let shared = random.activation(tokens, d_in, 1.0);
        for (rule, ranks) in [(Rule::Reference, [4, 4, 4]), (Rule::Exact, [2, 15, 1])] {
            let target = bank(&mut random, &ranks, d_in, d_out);
            let results = [&cpu, &packed].map(|cpu| {
                let weight = cpu.weight(&[d_out, d_in], matrix.clone()).unwrap();
                let lora = cpu.compose(&cpu.bank(&target, rule).unwrap(), &w).unwrap();
                let base = cpu.linear(&shared, &weight, None).unwrap();
                (
                    cpu.linear(&x, &weight, Some(&lora)).unwrap(),
                    cpu.add_lora(&base, &shared, &lora).unwrap(),
                )
            });
            let [(linear, added), (packed_linear, packed_added)] = results;
            assert_close("linear", &packed_linear, &linear);
            assert_close("add_lora", &packed_added, &added);
        }
    }
}

/// Plain sums over the modules in f64, against which both rules are held.
#[test]
fn composition_is_the_formula() {
    let (cpu, mut random) = (Cpu::new(), Values(4));
    let (d_in, d_out, rank) = (5, 3, 2);
    let target = bank(&mut random, &[rank, rank, rank], d_in, d_out);
    let w = [0.7f32, -1.1, 0.4];
    let x = random.activation(1, d_in, 1.0);
    let zero = CpuWeight::from_tensor(Tensor::zeros((d_out, d_in), candle_core::DType::F32, &Device::Cpu).unwrap());
    let a = |m: usize, r: usize, i: usize| f64::from(target.a[(m * rank + r) * d_in + i]);
    let b = |m: usize, o: usize, r: usize| f64::from(target.b[m * d_out * rank + o * rank + r]);
    let input: Vec<f64> = values(&x).into_iter().map(f64::from).collect();
    for rule in [Rule::Reference, Rule::Exact] {
        let lora = cpu.compose(&cpu.bank(&target, rule).unwrap(), &[w.to_vec()]).unwrap();
        let found = values(&cpu.linear(&x, &zero, Some(&lora)).unwrap());
        for (o, found) in found.iter().enumerate() {
            let mut expected = 0.0;
            for (i, input) in input.iter().enumerate() {
                for r in 0..rank {
                    expected += input
                        * match rule {
                            Rule::Reference => {
                                let a: f64 = (0..3).map(|m| f64::from(w[m]) * a(m, r, i)).sum();
                                let b: f64 = (0..3).map(|m| f64::from(w[m]) * b(m, o, r)).sum();
                                2.0 * a * b
                            }
                            Rule::Exact => (0..3).map(|m| 2.0 * f64::from(w[m]) * a(m, r, i) * b(m, o, r)).sum(),
                        };
                }
            }
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{rule:?} output {o}: {found} {expected}"
            );
        }
    }
}

fn bias(cpu: &Cpu, random: &mut Values, heads: usize, reach: usize) -> CpuBias {
    let table = CpuWeight::from_tensor(random.matrix(8, heads, 2.0));
    let buckets: Vec<u32> = (0..2 * reach - 1).map(|i| (i % 8) as u32).collect();
    cpu.relative_bias(&table, &buckets).unwrap()
}

#[test]
fn attention() {
    let (cpu, mut random) = (Cpu::new(), Values(5));
    let heads = 3;
    for (candidates, query, key, causal, biased, scale) in [
        (1, vec![1], vec![1], false, true, 1.0),
        (1, vec![4, 1, 7], vec![4, 1, 7], true, true, 1.0),
        (3, vec![4, 1, 7], vec![4, 1, 7], false, true, 1.0),
        (2, vec![2, 5], vec![9, 1], false, false, 1.0),
        // Scores of several hundred: the softmax is one-hot, and must not overflow.
        (2, vec![3, 6], vec![3, 6], true, true, 20.0),
        (1, vec![3], vec![5], false, true, 0.0),
    ] {
        let (query, key) = (Segments::new(query).unwrap(), Segments::new(key).unwrap());
        let q = random.activation(candidates * query.total(), heads * 4, scale);
        let k = random.activation(candidates * key.total(), heads * 4, scale);
        let v = random.activation(candidates * key.total(), heads * 4, 1.0);
        let bias = biased.then(|| bias(&cpu, &mut random, heads, query.longest().max(key.longest())));
        let plan = AttentionPlan {
            candidates,
            query: &query,
            key: &key,
            heads,
            causal,
        };
        let fused = cpu.attention(&q, &k, &v, &plan, bias.as_ref()).unwrap();
        assert_close(
            "attention",
            &fused,
            &cpu.attention(&tracked(&q), &k, &v, &plan, bias.as_ref()).unwrap(),
        );
    }
}

/// Few queries meet many keys, where keys and values are never made, and the other way round; in every form of weights,
/// with LoRAs on the values under both rules.
#[test]
fn cross_attention() {
    let mut random = Values(11);
    let (heads, d_kv, d) = (3, 16, 64);
    let width = heads * d_kv;
    let w = vec![vec![0.5, 0.0, -1.5], vec![0.0, 0.0, 0.0], vec![1.0, 0.0, 0.25]];
    for (query, key) in [
        (vec![1], vec![40]),
        (vec![2, 1, 3], vec![30, 1, 90]),
        (vec![1, 4], vec![65, 17]),
        (vec![5, 7], vec![6, 2]),
    ] {
        let (query, key) = (Segments::new(query).unwrap(), Segments::new(key).unwrap());
        let plan = AttentionPlan {
            candidates: w.len(),
            query: &query,
            key: &key,
            heads,
            causal: false,
        };
        let q = random.activation(3 * query.total(), width, 1.0);
        let encoded = random.activation(3 * key.total(), d, 1.0);
        let matrices = [0; 2].map(|_| random.many(width * d, 0.3));
        for (rule, ranks) in [(Rule::Reference, [4, 4, 4]), (Rule::Exact, [2, 15, 1])] {
            let target = bank(&mut random, &ranks, d, width);
            for storage in [
                WeightStorage::F32,
                WeightStorage::F16,
                WeightStorage::Q8,
                WeightStorage::Q4,
            ] {
                for cpu in [Cpu::new(), Cpu::new().with_packed_weights()] {
                    let cpu = cpu.with_weights(storage);
                    let [k, v] = [0, 1].map(|i| cpu.weight(&[width, d], matrices[i].clone()).unwrap());
                    let lora = cpu.compose(&cpu.bank(&target, rule).unwrap(), &w).unwrap();
                    for [k_lora, v_lora] in [[None, None], [None, Some(&lora)], [Some(&lora), Some(&lora)]] {
                        let of = |weight, lora| Projection { weight, lora };
                        let found = cpu.cross_attention(&q, &encoded, of(&k, k_lora), of(&v, v_lora), &plan);
                        let keys = cpu.linear(&encoded, &k, k_lora).unwrap();
                        let values = cpu.linear(&encoded, &v, v_lora).unwrap();
                        let expected = cpu.attention(&q, &keys, &values, &plan, None).unwrap();
                        assert_close(&format!("{rule} {}", storage.name()), &found.unwrap(), &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn decoding_step_by_step_is_causal_attention() {
    let (cpu, mut random) = (Cpu::new(), Values(6));
    let (heads, width, sequences, steps) = (2, 16, 3, 6);
    let bias = bias(&cpu, &mut random, heads, steps);
    let segments = Segments::new(vec![steps; sequences]).unwrap();
    let [q, k, v] = [0; 3].map(|_| random.activation(sequences * steps, width, 1.0));
    let plan = AttentionPlan {
        candidates: 1,
        query: &segments,
        key: &segments,
        heads,
        causal: true,
    };
    let whole = cpu.attention(&q, &k, &v, &plan, Some(&bias)).unwrap();
    let mut cache = cpu.cache(sequences, steps, width).unwrap();
    let mut kept: Vec<usize> = (0..sequences).collect();
    for step in 0..steps {
        if step == 3 {
            // Half way, one sequence ends and the others change places.
            cpu.cache_keep(&mut cache, &[2, 0]).unwrap();
            kept = vec![2, 0];
        }
        let rows: Vec<usize> = kept.iter().map(|sequence| sequence * steps + step).collect();
        let at = |x: &CpuTensor| cpu.gather_rows(x, &rows).unwrap();
        let out = cpu
            .attention_step(&at(&q), &at(&k), &at(&v), &mut cache, heads, &bias)
            .unwrap();
        assert_close("step", &out, &at(&whole));
    }
}

#[test]
fn nll_and_argmax() {
    let (cpu, mut random) = (Cpu::new(), Values(7));
    for (candidates, scale) in [(1, 1.0), (3, 0.125)] {
        let segments = Segments::new(vec![1, 30, 5]).unwrap();
        let vocab = 11;
        let x = random.activation(candidates * segments.total(), 6, 30.0);
        let head = CpuWeight::from_tensor(random.matrix(vocab, 6, 1.0));
        let targets: Vec<u32> = (0..segments.total()).map(|i| (i * 7 % vocab) as u32).collect();
        let fused = pollster::block_on(cpu.nll(&x, &head, scale, &targets, &segments, candidates)).unwrap();
        let composed =
            pollster::block_on(cpu.nll(&tracked(&x), &head, scale, &targets, &segments, candidates)).unwrap();
        assert_close("nll", &fused, &composed);
        assert_eq!(fused.dims(), (candidates, 3));
        let ids = pollster::block_on(cpu.read_ids(&cpu.argmax(&x, &head).unwrap())).unwrap();
        let logits = cpu.logits(&x, &head, 1.0).unwrap().to_candle().unwrap();
        let logits = logits.to_vec2::<f32>().unwrap();
        for (id, row) in ids.iter().zip(&logits) {
            assert!(row.iter().all(|&score| score <= row[*id as usize]));
        }
    }
}

#[test]
fn overflow_is_never_silently_finite() {
    let cpu = Cpu::new();
    let segments = Segments::new(vec![1]).unwrap();
    let head = CpuWeight::from_tensor(Tensor::new(&[[3e38f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap());
    for value in [1e30f32, f32::NAN, f32::INFINITY] {
        let x = plain(&Tensor::new(&[[value, 1.0]], &Device::Cpu).unwrap());
        let nll = values(&pollster::block_on(cpu.nll(&x, &head, 1.0, &[1], &segments, 1)).unwrap());
        assert!(!nll[0].is_finite(), "{value} gave {nll:?}");
    }
}

#[test]
fn gradients_reach_every_operand() {
    let (cpu, mut random) = (Cpu::new(), Values(8));
    let segments = Segments::new(vec![2, 3]).unwrap();
    let vars: Vec<Var> = [(5, 4), (4, 4), (6, 2), (4, 4), (2, 4), (4, 2)]
        .map(|(rows, columns)| Var::from_tensor(&random.matrix(rows, columns, 0.7)).unwrap())
        .into();
    let norm = Var::from_tensor(&Tensor::new(&[1f32, 0.5, 2.0, 1.0], &Device::Cpu).unwrap()).unwrap();
    let weight = |var: &Var| CpuWeight::from_tensor(var.as_tensor().clone());
    let lora = lorahub_tensor::CpuLora::trainable(&vars[4], &vars[5], 2.0).unwrap();
    let x = cpu.rms_norm(&plain(vars[0].as_tensor()), &weight(&norm), 1e-6).unwrap();
    let q = cpu.linear(&x, &weight(&vars[1]), Some(&lora)).unwrap();
    let bias = cpu.relative_bias(&weight(&vars[2]), &[0, 1, 2, 3, 4]).unwrap();
    let plan = AttentionPlan {
        candidates: 1,
        query: &segments,
        key: &segments,
        heads: 2,
        causal: true,
    };
    let y = cpu.attention(&q, &x, &x, &plan, Some(&bias)).unwrap();
    let y = cpu.gated_gelu(&y, &x).unwrap();
    let nll = pollster::block_on(cpu.nll(&y, &weight(&vars[3]), 1.0, &[0, 1, 2, 3, 0], &segments, 1)).unwrap();
    let gradients = nll.to_candle().unwrap().sum_all().unwrap().backward().unwrap();
    for (index, var) in vars.iter().chain([&norm]).enumerate() {
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("operand {index} has no gradient"));
        let size: f32 = gradient.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(size > 0.0 && size.is_finite(), "operand {index}: {size}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (cpu, mut random) = (Cpu::new(), Values(9));
    let weight = CpuWeight::from_tensor(random.matrix(3, 4, 1.0));
    let error = cpu
        .linear(&random.activation(2, 5, 1.0), &weight, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("4 columns") && error.contains("5 columns"), "{error}");
    let error = cpu.embed(&weight, &cpu.ids(&[0, 3]).unwrap()).unwrap_err().to_string();
    assert!(error.contains("id 3") && error.contains("3 rows"), "{error}");
    let error = Segments::new(vec![3, 0]).unwrap_err().to_string();
    assert!(error.contains("segment 1 is empty"), "{error}");
}
