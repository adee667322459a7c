//! The one T5 on both backends: tiny random models, odd sizes, both rules, losses, logits and greedy ids.
//!
//! These tests need an adapter and fail where there is none. A software one will do (Mesa's lavapipe).

use std::collections::BTreeMap;
use std::rc::Rc;

use lorahub_adapters::{Bank, LoraPair, Module, Rule};
use lorahub_t5::{Config, Decode, Modules, T5, T5Error};
use lorahub_tensor::{Backend, Cpu, TensorError};
use lorahub_webgpu::{Gpu, Matmul, Options};
use pollster::block_on;

/// Both backends sum in f32 in another order.
const TOLERANCE: f32 = 2e-4;

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

    fn ids(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count)
            .map(|_| ((self.next() + 1.0) * 0.5 * vocab as f32) as u32 % vocab as u32)
            .collect()
    }
}

/// Gated and untied as Flan-T5, with unequal depths; and T5 1.0's ReLU, tied, with widths that are no multiple of 4 and
/// heads that are not `d_model` wide together.
const CONFIGS: [&str; 2] = [
    r#"{"model_type": "t5", "vocab_size": 211, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_heads": 3, "num_layers": 2,
        "num_decoder_layers": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false, "decoder_start_token_id": 0}"#,
    r#"{"model_type": "t5", "vocab_size": 101, "d_model": 18, "d_kv": 5, "d_ff": 30, "num_heads": 2, "num_layers": 2,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "feed_forward_proj": "relu", "tie_word_embeddings": true, "decoder_start_token_id": 0}"#,
];

fn load<B: Backend>(backend: &Rc<B>, config: &str) -> T5<B> {
    let config = Config::from_json(config.as_bytes()).unwrap();
    let mut random = Values(31);
    let device = backend.clone();
    let mut source = |name: &str, shape: &[usize]| {
        let count = shape.iter().product();
        let data = match shape {
            // Norms are near one.
            [_] => random.many(count, 0.2).into_iter().map(|value| 1.0 + value).collect(),
            _ if name.contains("bias") => random.many(count, 2.0),
            _ if name == "shared.weight" => random.many(count, 1.5),
            [_, d_in] => random.many(count, 2.0 / (*d_in as f32).sqrt()),
            _ => Vec::new(),
        };
        Ok(device.weight(shape, data)?)
    };
    T5::load(backend.clone(), config, &mut source).unwrap()
}

/// Three modules on q, v and the feed-forward layer's output; of one rank for `reference`, of three for `exact`.
fn bank(config: &Config, rule: Rule) -> Bank {
    let mut random = Values(32);
    let spec = config.base_spec();
    let modules = [2, 3, 5].map(|own| {
        let rank = if rule == Rule::Reference { 3 } else { own };
        let mut pairs = BTreeMap::new();
        for target in &spec.targets {
            if [".q", ".v", ".wo"].iter().any(|leaf| target.path.ends_with(leaf)) {
                let pair = LoraPair {
                    rank,
                    d_in: target.d_in,
                    d_out: target.d_out,
                    a: random.many(rank * target.d_in, 0.4),
                    b: random.many(target.d_out * rank, 0.4),
                };
                pairs.insert(target.path.clone(), pair);
            }
        }
        Module::new(&format!("module {own}"), rank, 4.0, pairs, Some(&spec)).unwrap()
    });
    Bank::new(modules.into(), rule).unwrap()
}

/// Inputs and targets of three shots: one token, a usual length, and past the last exact bucket.
fn shots(vocab: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let mut random = Values(33);
    let inputs = [1, 9, 25].map(|length| random.ids(length, vocab));
    let targets = [3, 1, 14].map(|length| random.ids(length, vocab));
    (inputs.into(), targets.into())
}

fn candidates() -> Vec<Vec<f64>> {
    let mut random = Values(34);
    let mut candidates: Vec<Vec<f64>> = (0..16)
        .map(|_| random.many(3, 1.5).into_iter().map(f64::from).collect())
        .collect();
    candidates[3] = vec![0.0, 1.0, 0.0];
    candidates[4] = vec![0.0; 3];
    candidates
}

/// Losses `[C][k]` of these candidates.
fn losses<B: Backend>(t5: &T5<B>, bank: &Bank, candidates: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let (inputs, targets) = shots(t5.config().vocab_size);
    let batch = t5.prepare(&inputs, &targets).unwrap();
    let modules = Modules::upload(t5, bank).unwrap();
    let candidates: Vec<&[f64]> = candidates.iter().map(Vec::as_slice).collect();
    block_on(modules.nll(t5, &batch, &candidates)).unwrap()
}

fn logits<B: Backend>(t5: &T5<B>, bank: &Bank, candidate: &[f64]) -> Vec<f32> {
    let (inputs, targets) = shots(t5.config().vocab_size);
    let batch = t5.prepare(&inputs, &targets).unwrap();
    let adapter = Modules::upload(t5, bank).unwrap().compose(t5, &[candidate]).unwrap();
    let logits = block_on(t5.logits(&batch, &adapter)).unwrap();
    block_on(t5.backend().read(&logits)).unwrap()
}

fn greedy<B: Backend>(t5: &T5<B>, bank: &Bank, candidate: &[f64], steps: usize) -> Vec<Vec<u32>> {
    let (inputs, _) = shots(t5.config().vocab_size);
    let adapter = Modules::upload(t5, bank).unwrap().compose(t5, &[candidate]).unwrap();
    let mut decode = block_on(Decode::start(t5, &adapter, &inputs, steps)).unwrap();
    (0..steps).map(|_| block_on(decode.step()).unwrap()).collect()
}

/// The same with 1, 2, 3, .. steps before a read.
fn greedy_in_batches<B: Backend>(t5: &T5<B>, bank: &Bank, candidate: &[f64], steps: usize) -> Vec<Vec<u32>> {
    let (inputs, _) = shots(t5.config().vocab_size);
    let adapter = Modules::upload(t5, bank).unwrap().compose(t5, &[candidate]).unwrap();
    let mut decode = block_on(Decode::start(t5, &adapter, &inputs, steps)).unwrap();
    let mut read = Vec::new();
    for count in 1.. {
        let left = steps - read.len();
        if left == 0 {
            break;
        }
        read.extend(block_on(decode.steps(count.min(left))).unwrap());
    }
    read
}

fn assert_close(what: &str, gpu: &[f32], cpu: &[f32], tolerance: f32) {
    assert_eq!(gpu.len(), cpu.len(), "{what}");
    for (index, (gpu, cpu)) in gpu.iter().zip(cpu).enumerate() {
        let allowed = tolerance * cpu.abs().max(1.0);
        assert!((gpu - cpu).abs() <= allowed, "{what}[{index}]: gpu {gpu}, cpu {cpu}");
    }
}

fn open(matmul: Matmul) -> Rc<Gpu> {
    let options = Options {
        matmul: Some(matmul),
        ..Options::default()
    };
    Rc::new(block_on(Gpu::open(options)).expect("these tests need a GPU adapter, such as Mesa's lavapipe"))
}

#[test]
fn losses_and_logits_are_the_cpus() {
    let (register, tile, cpu) = (open(Matmul::Register), open(Matmul::Tile), Rc::new(Cpu::new()));
    for config in CONFIGS {
        let on_cpu = load(&cpu, config);
        for gpu in [&register, &tile] {
            let on_gpu = load(gpu, config);
            for rule in [Rule::Reference, Rule::Exact] {
                let bank = bank(on_cpu.config(), rule);
                let what = format!("{} {rule:?}", gpu.name());
                let candidates = &candidates()[..5];
                let expected = losses(&on_cpu, &bank, candidates).concat();
                assert_close(
                    &what,
                    &losses(&on_gpu, &bank, candidates).concat(),
                    &expected,
                    TOLERANCE,
                );
                let expected = logits(&on_cpu, &bank, &candidates[0]);
                assert_close(&what, &logits(&on_gpu, &bank, &candidates[0]), &expected, TOLERANCE);
            }
        }
    }
}

#[test]
fn a_generation_of_sixteen_is_sixteen_evaluations() {
    let gpu = open(Matmul::Register);
    let t5 = load(&gpu, CONFIGS[0]);
    for rule in [Rule::Reference, Rule::Exact] {
        let bank = bank(t5.config(), rule);
        let candidates = candidates();
        let together = losses(&t5, &bank, &candidates);
        assert_eq!(together.len(), 16);
        for (candidate, together) in candidates.chunks(1).zip(&together) {
            let alone = losses(&t5, &bank, candidate);
            assert_close(&format!("{rule:?} {candidate:?}"), &alone[0], together, 1e-5);
        }
    }
}

#[test]
fn greedy_ids_are_the_cpus() {
    let (gpu, cpu) = (open(Matmul::Register), Rc::new(Cpu::new()));
    let mut distinct = std::collections::BTreeSet::new();
    for config in CONFIGS {
        let (on_gpu, on_cpu) = (load(&gpu, config), load(&cpu, config));
        for rule in [Rule::Reference, Rule::Exact] {
            let bank = bank(on_cpu.config(), rule);
            let candidate = [0.4, -0.7, 0.9];
            let expected = greedy(&on_cpu, &bank, &candidate, 48);
            assert_eq!(greedy(&on_gpu, &bank, &candidate, 48), expected, "{rule:?}");
            assert_eq!(greedy_in_batches(&on_gpu, &bank, &candidate, 48), expected, "{rule:?}");
            assert_eq!(greedy_in_batches(&on_cpu, &bank, &candidate, 48), expected, "{rule:?}");
            distinct.extend(expected.concat());
        }
    }
    assert!(
        distinct.len() > 8,
        "decodes that say nothing test nothing: {distinct:?}"
    );
}

#[test]
fn an_overflowing_candidate_is_the_worst_and_its_neighbours_are_not() {
    let gpu = open(Matmul::Register);
    let t5 = load(&gpu, CONFIGS[0]);
    let bank = bank(t5.config(), Rule::Exact);
    let candidates = vec![vec![0.5, 0.1, 0.2], vec![1e30, -1e30, 1e30], vec![0.1, 0.2, 0.3]];
    let found = losses(&t5, &bank, &candidates);
    assert!(found[1].iter().all(|loss| *loss == f32::INFINITY), "{found:?}");
    assert!(
        found[0].iter().chain(&found[2]).all(|loss| loss.is_finite()),
        "{found:?}"
    );
}

/// Rounds of adapting and letting go leave the device as it was.
#[test]
fn twenty_rounds_hold_no_more_than_two() {
    let gpu = open(Matmul::Register);
    let t5 = load(&gpu, CONFIGS[0]);
    let mut after_two = None;
    for round in 1..=20 {
        losses(&t5, &bank(t5.config(), Rule::Reference), &candidates()[..4]);
        if round == 2 {
            after_two = Some(gpu.memory());
        }
    }
    assert_eq!(Some(gpu.memory()), after_two);
}

/// A generation is split so that no pass takes more than its budget, and loses nothing by it.
#[test]
fn passes_keep_to_their_bytes() {
    let all = open(Matmul::Register);
    let t5 = load(&all, CONFIGS[0]);
    for rule in [Rule::Reference, Rule::Exact] {
        let expected = losses(&t5, &bank(t5.config(), rule), &candidates()).concat();
        for budget in [80_000u64, 250_000] {
            let options = Options {
                matmul: Some(Matmul::Register),
                activation_bytes: Some(budget),
                ..Options::default()
            };
            let gpu = Rc::new(block_on(Gpu::open(options)).unwrap());
            let t5 = load(&gpu, CONFIGS[0]);
            let (inputs, targets) = shots(t5.config().vocab_size);
            let batch = t5.prepare(&inputs, &targets).unwrap();
            let modules = Modules::upload(&t5, &bank(t5.config(), rule)).unwrap();
            let before = gpu.memory().live_bytes;
            let candidates = candidates();
            let candidates: Vec<&[f64]> = candidates.iter().map(Vec::as_slice).collect();
            let found = block_on(modules.nll(&t5, &batch, &candidates)).unwrap().concat();
            assert_close(&format!("{rule:?}, {budget} bytes"), &found, &expected, 1e-5);
            let used = gpu.memory().peak_bytes - before;
            assert!(used <= budget, "{rule:?}: {used} bytes of {budget}");
            assert!(3 * used > budget, "{rule:?}: {used} bytes of {budget} is no use of it");
        }
    }
}

#[test]
fn a_shot_without_tokens_is_refused() {
    let gpu = open(Matmul::Register);
    let t5 = load(&gpu, CONFIGS[0]);
    for (inputs, targets) in [
        ([vec![3], vec![]], [vec![4], vec![1]]),
        ([vec![3], vec![5]], [vec![4], vec![]]),
    ] {
        let error = t5.prepare(&inputs, &targets).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, T5Error::Tensor(TensorError::EmptySegment { index: 1, .. })),
            "{error}"
        );
    }
}

/// What is compiled ahead is all that a pass and a decode need.
#[test]
fn prepared_pipelines_suffice() {
    for matmul in Matmul::ALL {
        let gpu = open(matmul);
        gpu.prepare_pipelines(8);
        let prepared = gpu.pipelines();
        let t5 = load(&gpu, CONFIGS[0]);
        for rule in [Rule::Reference, Rule::Exact] {
            let bank = bank(t5.config(), rule);
            losses(&t5, &bank, &candidates()[..4]);
            losses(&t5, &bank, &[vec![0.0, 1.0, 0.0]]);
            logits(&t5, &bank, &candidates()[0]);
            greedy(&t5, &bank, &[0.4, -0.7, 0.9], 3);
        }
        assert_eq!(gpu.pipelines(), prepared, "{}", matmul.name());
    }
}
