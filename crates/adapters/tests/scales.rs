//! Modules whose targets have ranks, alphas and scalings of their own: import, both rules, export and merging.

mod support;

use std::collections::BTreeMap;

use lorahub_adapters::{AdapterError, Bank, Module, Provenance, Rule, compose, export, export_size, merge};
use lorahub_weights::{Dtype, Limits, SafeTensors, TensorOut, write_safetensors};
use serde_json::{Value, json};
use support::{Rng, assert_close, base};

/// Both matrices are rounded to f32 once (2^-24 each); the product of two such sums stays within a few of those.
const TOLERANCE: f64 = 5e-7;

const ENC_Q: &str = "encoder.block.0.layer.0.SelfAttention.q";
const ENC_V: &str = "encoder.block.0.layer.0.SelfAttention.v";
const WO: &str = "encoder.block.0.layer.1.DenseReluDense.wo";
const CROSS_Q: &str = "decoder.block.0.layer.1.EncDecAttention.q";
const CROSS_V: &str = "decoder.block.0.layer.1.EncDecAttention.v";

/// A module on all `q`, `v` and `wo` as its two files, with these ranks by path, others having rank 2.
fn files(settings: &Value, ranks: &[(&str, usize)], seed: u64) -> (Value, Vec<u8>) {
    let mut config = json!({
        "peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["q", "v", "wo"],
        "base_model_name_or_path": "tiny/t5",
    });
    for (key, value) in settings.as_object().expect("settings") {
        config[key] = value.clone();
    }
    let mut rng = Rng(seed);
    let mut tensors = Vec::new();
    for target in base().targets {
        let path = target.path;
        if path.ends_with(".k") {
            continue;
        }
        let rank = ranks.iter().find(|(own, _)| *own == path).map_or(2, |(_, rank)| *rank);
        for (matrix, shape) in [("lora_A", [rank, target.d_in]), ("lora_B", [target.d_out, rank])] {
            let key = format!("base_model.model.{path}.{matrix}.weight");
            tensors.push((key, shape, rng.values(shape[0] * shape[1])));
        }
    }
    let out: Vec<_> = tensors
        .iter()
        .map(|(name, shape, data)| TensorOut {
            name: name.clone(),
            shape: shape.to_vec(),
            data,
            dtype: Dtype::F32,
        })
        .collect();
    (config, write_safetensors(&out, &BTreeMap::new()).expect("writes"))
}

fn module(name: &str, settings: &Value, ranks: &[(&str, usize)], seed: u64) -> Module {
    let (config, weights) = files(settings, ranks, seed);
    Module::from_peft(name, config.to_string().as_bytes(), &weights, Some(&base()))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// `B A` of a target times `scaling`, in f64, written out.
fn product(of_b: &Module, of_a: &Module, path: &str, scaling: f64, sum: &mut [f64]) {
    let (b, a) = (&of_b.pairs[path], &of_a.pairs[path]);
    for o in 0..b.d_out {
        for i in 0..a.d_in {
            for k in 0..a.rank {
                sum[o * a.d_in + i] += scaling * f64::from(b.b[o * b.rank + k]) * f64::from(a.a[k * a.d_in + i]);
            }
        }
    }
}

fn zeros(module: &Module, path: &str) -> Vec<f64> {
    vec![0.0; module.pairs[path].d_out * module.pairs[path].d_in]
}

#[test]
fn a_rank_of_its_own_keeps_the_common_alpha() {
    let settings = json!({"rank_pattern": {"v": 5, "wo": 1}, "alpha_pattern": {"wo": 0.5}});
    let ranks = [(ENC_V, 5), (CROSS_V, 5), (WO, 1)];
    let plain = module("mine", &settings, &ranks, 1);
    let scalings = [ENC_Q, CROSS_Q, ENC_V, CROSS_V, WO].map(|path| plain.scaling_of(path));
    assert_eq!(scalings, [1.5, 1.5, 0.6, 0.6, 0.5].map(Some));
    assert_eq!((plain.rank, plain.alpha, plain.rslora), (2, 3.0, false));
    assert_eq!((plain.scaling(), plain.exceptions()), (1.5, 3));
    assert_eq!(plain.scaling_of("encoder.block.0.layer.0.SelfAttention.k"), None);
    let mut settings = settings;
    settings["use_rslora"] = json!(true);
    let stabilised = module("mine", &settings, &ranks, 1);
    for (path, alpha, rank) in [(ENC_Q, 3.0, 2.0f64), (CROSS_V, 3.0, 5.0), (WO, 0.5, 1.0)] {
        assert_eq!(stabilised.scaling_of(path), Some(alpha / rank.sqrt()), "{path}");
    }
    assert_eq!(stabilised.scaling(), 3.0 / 2f64.sqrt());
    // The update is scaled so, and so is what merging adds.
    for module in [&plain, &stabilised] {
        for path in [ENC_Q, ENC_V, WO] {
            let mut expected = zeros(module, path);
            product(
                module,
                module,
                path,
                module.scaling_of(path).expect("a target"),
                &mut expected,
            );
            assert_close(&module.delta(path).expect("a target"), &expected, TOLERANCE, path);
        }
    }
}

/// Ranks, alphas and rules of scaling that differ in every way they can.
fn unequal() -> [Module; 3] {
    [
        module(
            "ranks",
            &json!({"rank_pattern": {"v": 5, "^encoder.*wo": 1}}),
            &[(ENC_V, 5), (CROSS_V, 5), (WO, 1)],
            1,
        ),
        module(
            "alphas",
            &json!({"alpha_pattern": {"q": 7, "EncDecAttention.v": 0.25}}),
            &[],
            2,
        ),
        module(
            "stabilised",
            &json!({"use_rslora": true, "rank_pattern": {"q": 4}, "lora_alpha": 1.5}),
            &[(ENC_Q, 4), (CROSS_Q, 4)],
            3,
        ),
    ]
}

#[test]
fn exact_takes_any_ranks_and_keeps_every_scaling() {
    let modules = unequal();
    for w in [[0.7, -1.2, 0.4], [0.0, 0.9, -0.5], [1.0, 0.0, 0.0], [0.0; 3]] {
        let bank = Bank::new(modules.to_vec(), Rule::Exact).expect("a bank");
        assert!(bank.notes().is_empty(), "{:?}", bank.notes());
        let composed = compose(&bank, &w).expect("composes");
        for path in modules[0].pairs.keys() {
            let mut expected = zeros(&modules[0], path);
            let mut rank = 0;
            for (module, w) in modules.iter().zip(w) {
                let scaling = module.scaling_of(path).expect("a target");
                product(module, module, path, w * scaling, &mut expected);
                rank += if w == 0.0 { 0 } else { module.pairs[path].rank };
            }
            assert_close(&composed.delta(path).expect("a target"), &expected, TOLERANCE, path);
            assert_eq!(composed.pairs[path].rank, rank.max(1), "{path} {w:?}");
            assert_eq!(composed.scaling_of(path), Some(1.0), "{path} {w:?}");
        }
        check_export(&bank, &w, &composed);
        check_merge(&composed);
    }
}

#[test]
fn reference_folds_scalings_target_by_target() {
    let same = [(ENC_V, 5), (CROSS_V, 5), (WO, 1)];
    let ranks = json!({"v": 5, "wo": 1});
    let modules = [
        module("one", &json!({"rank_pattern": ranks, "use_rslora": true}), &same, 1),
        module(
            "two",
            &json!({"rank_pattern": ranks, "alpha_pattern": {"q": 8, "wo": 0.5}}),
            &same,
            2,
        ),
        module("three", &json!({"rank_pattern": ranks, "lora_alpha": 4}), &same, 3),
    ];
    let bank = Bank::new(modules.to_vec(), Rule::Reference).expect("equal ranks at each target");
    let w = [0.7, -1.2, 0.4];
    let composed = compose(&bank, &w).expect("composes");
    assert!(composed.rslora, "the first module's rule of scaling is kept");
    for path in modules[0].pairs.keys() {
        let mut expected = zeros(&modules[0], path);
        for (of_b, w_b) in modules.iter().zip(w) {
            for (of_a, w_a) in modules.iter().zip(w) {
                product(
                    of_b,
                    of_a,
                    path,
                    w_b * w_a * of_b.scaling_of(path).expect("a target"),
                    &mut expected,
                );
            }
        }
        assert_close(&composed.delta(path).expect("a target"), &expected, TOLERANCE, path);
        assert_eq!(composed.scaling_of(path), modules[0].scaling_of(path), "{path}");
        let target = bank
            .targets()
            .iter()
            .find(|target| target.path == *path)
            .expect("a target");
        let common = modules[0].scaling_of(path).expect("a target") as f32;
        assert_eq!(target.scalings, [common; 3], "{path}");
    }
    let [two, three] = bank.notes() else {
        panic!("a note for each that is folded, not {:?}", bank.notes())
    };
    for (note, words) in [(two, "adapter `two` are 0."), (three, "adapter `three` are 0.")] {
        assert!(note.contains(words), "`{words}` is not in: {note}");
        assert!(
            note.contains("times those of `one`, target by target: its B is multiplied"),
            "{note}"
        );
    }
    check_export(&bank, &w, &composed);
    check_merge(&composed);
}

#[test]
fn reference_refuses_unequal_ranks_at_a_target_and_names_it() {
    let [ranks, alphas, _] = unequal();
    let error = Bank::new(vec![alphas, ranks], Rule::Reference).expect_err("2 and 5");
    assert_eq!(
        error,
        AdapterError::RanksDiffer {
            module: "ranks".to_owned(),
            first: "alphas".to_owned(),
            path: CROSS_V.to_owned(),
            expected: 2,
            found: 5,
        }
    );
    for words in [
        "`ranks` has rank 5",
        "`alphas` has rank 2 at",
        CROSS_V,
        "use the rule `exact`",
    ] {
        assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
    }
}

/// What is exported is imported again as it was, and has the announced size.
fn check_export(bank: &Bank, w: &[f64], composed: &Module) {
    let files = export(composed, &Provenance::default()).expect("exports");
    assert_eq!(
        export_size(bank, w, &Provenance::default()),
        Ok(files.safetensors.len()),
        "{w:?}"
    );
    for base in [Some(&base()), None] {
        let back = Module::from_peft("composed", files.config_json.as_bytes(), &files.safetensors, base)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(back.pairs, composed.pairs, "{w:?}");
        for path in composed.pairs.keys() {
            assert_eq!(back.scaling_of(path), composed.scaling_of(path), "{path} {w:?}");
        }
    }
}

/// Merging adds each target's update with its own scaling.
fn check_merge(composed: &Module) {
    let zero = |path: &String| (format!("{path}.weight"), zeros(composed, path));
    let weights: Vec<(String, Vec<f64>)> = composed.pairs.keys().map(zero).collect();
    let data: Vec<Vec<f32>> = weights.iter().map(|(_, data)| vec![0.0; data.len()]).collect();
    let out: Vec<_> = composed
        .pairs
        .values()
        .zip(weights.iter().zip(&data))
        .map(|(pair, ((name, _), data))| TensorOut {
            name: name.clone(),
            shape: vec![pair.d_out, pair.d_in],
            data,
            dtype: Dtype::F32,
        })
        .collect();
    let bytes = write_safetensors(&out, &BTreeMap::new()).expect("writes");
    let file = SafeTensors::parse(&bytes, &Limits::BASE).expect("valid");
    for tensor in merge(composed, &file).expect("fits") {
        let tensor = tensor.expect("merges");
        let path = tensor.name.trim_end_matches(".weight");
        assert_eq!(Some(tensor.data), composed.delta(path), "{path}");
    }
}

#[test]
fn an_export_names_exceptions_by_leaf_where_it_can() {
    let config = |module: &Module| -> Value {
        let files = export(module, &Provenance::default()).expect("exports");
        serde_json::from_str(&files.config_json).expect("JSON")
    };
    let [ranks, alphas, stabilised] = unequal();
    // Most targets have rank 2 and alpha 3; both `v` have rank 5, so the leaf says it.
    let found = config(&ranks);
    assert_eq!(found["r"], 2);
    assert_eq!(found["rank_pattern"], json!({"v": 5, "wo": 1}));
    assert_eq!(
        (&found["alpha_pattern"], &found["use_rslora"]),
        (&json!({}), &json!(false))
    );
    // One `v` of two: by its whole path.
    let found = config(&alphas);
    assert_eq!(found["lora_alpha"], 7);
    assert_eq!(found["alpha_pattern"], json!({CROSS_V: 0.25, ENC_V: 3, "wo": 3}));
    let found = config(&stabilised);
    assert_eq!(
        (&found["use_rslora"], &found["lora_alpha"]),
        (&json!(true), &json!(1.5))
    );
    assert_eq!(found["rank_pattern"], json!({"q": 4}));
}

#[test]
fn the_card_says_that_targets_differ() {
    let [ranks, _, stabilised] = unequal();
    let card = |module: &Module| export(module, &Provenance::default()).expect("exports").readme;
    let found = card(&ranks);
    assert!(
        found.contains(
            "rank 2 and alpha 3 (3 of its 5 targets have others, see `rank_pattern` and `alpha_pattern`) for"
        ),
        "{found}"
    );
    let found = card(&stabilised);
    assert!(
        found.contains("alpha 1.5 (scaling alpha / sqrt(rank)) (2 of its 5"),
        "{found}"
    );
}
