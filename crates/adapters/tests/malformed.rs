//! Every malformed adapter gives its own error, whose message names the thing, what was expected and what was found.

#[path = "../../../tests/hostile/adapters.rs"]
mod hostile;

use std::collections::BTreeSet;

use hostile::{Adapter, Tensor};
use lorahub_adapters::{AdapterError, BaseSpec, Module, TargetSpec};

fn base() -> BaseSpec {
    let target = |(path, d_in, d_out)| TargetSpec { path, d_in, d_out };
    BaseSpec {
        id: Some(hostile::BASE.to_owned()),
        revision: Some("main".to_owned()),
        targets: hostile::base_targets().into_iter().map(target).collect(),
    }
}

fn import(adapter: &Adapter, base: Option<&BaseSpec>) -> Result<Module, AdapterError> {
    Module::from_peft("mine", adapter.config_json().as_bytes(), &adapter.safetensors(), base)
}

#[test]
fn each_malformed_adapter_gives_its_own_error() {
    let mut failures = Vec::new();
    let mut codes = BTreeSet::new();
    for hostile::BadAdapter {
        what,
        config_json,
        safetensors,
        code,
        says,
    } in hostile::bad_adapters()
    {
        match Module::from_peft("mine", config_json.as_bytes(), &safetensors, Some(&base())) {
            Ok(_) => failures.push(format!("{what}: accepted")),
            Err(error) => {
                codes.insert(error.code());
                let message = error.to_string();
                if error.code() != code {
                    failures.push(format!("{what}: expected {code}, found {}: {message}", error.code()));
                }
                let unsaid = says
                    .iter()
                    .chain(&["adapter `mine`"])
                    .filter(|words| !message.contains(**words));
                failures.extend(unsaid.map(|words| format!("{what}: `{words}` is not in: {message}")));
                if message.chars().any(char::is_control) || message.len() > 600 {
                    failures.push(format!("{what}: not fit to be shown: {message:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let count = |prefix: &str| codes.iter().filter(|code| code.starts_with(prefix)).count();
    // Every variant that importing with a base can give has a case.
    assert_eq!((count("config-"), count("tensors-")), (30, 26), "{codes:?}");
}

#[test]
fn without_a_base_every_target_name_needs_a_tensor() {
    let error = import(&Adapter::valid().with("target_modules", r#"["q","v","wo"]"#), None).expect_err("no wo");
    assert_eq!(error.code(), "tensors-unmatched-target");
    for words in ["`mine`", "`wo`", "at least one", "configuration"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(import(&Adapter::valid(), None).is_ok());
}

#[test]
fn what_means_the_same_is_accepted() {
    let valid = Adapter::valid;
    let default_name = |key: &str| key.replace(".weight", ".default.weight");
    let bare = |key: &str| key.trim_start_matches("base_model.model.").to_owned();
    let whole_paths: Vec<_> = hostile::base_targets()
        .into_iter()
        .filter(|(path, ..)| path.ends_with(".q") || path.ends_with(".v"))
        .map(|(path, ..)| format!("{path:?}"))
        .collect();
    let mut everywhere = valid().with("target_modules", r#""all-linear""#);
    hostile::base_targets()
        .iter()
        .for_each(|(path, ..)| everywhere.add_pair(path, hostile::RANK));
    let mut minimal = valid();
    minimal
        .config
        .retain(|key, _| ["peft_type", "r", "lora_alpha", "target_modules"].contains(&key.as_str()));
    let cases = [
        ("as PEFT writes it", valid()),
        ("with the adapter's name in the keys", valid().renamed(default_name)),
        ("without the prefix", valid().renamed(bare)),
        ("the fewest keys", minimal),
        ("T5's default targets", valid().with("target_modules", "null")),
        (
            "targets by expression",
            valid().with("target_modules", r#"".*\\.(q|v)""#),
        ),
        (
            "targets by whole path",
            valid().with("target_modules", &format!("[{}]", whole_paths.join(","))),
        ),
        (
            "a name that is only the end of another's leaf",
            valid().with("target_modules", r#"["q","v","i_0","wi_"]"#),
        ),
        (
            "a target name this base lacks",
            valid().with("target_modules", r#"["q","v","wi"]"#),
        ),
        ("all linears", everywhere.clone()),
        (
            "all linears, in capitals",
            everywhere.with("target_modules", r#""ALL-LINEAR""#),
        ),
        (
            "an exclusion",
            valid()
                .with("target_modules", r#"["q","k","v"]"#)
                .with("exclude_modules", r#"["k"]"#),
        ),
        (
            "an exclusion by expression",
            valid()
                .with("target_modules", r#"["q","k","v"]"#)
                .with("exclude_modules", r#"".*k""#),
        ),
        ("no exclusion", valid().with("exclude_modules", r#""""#)),
        (
            "layers, of which all are there",
            valid().with("layers_to_transform", "[0]"),
        ),
        (
            "layers by name",
            valid()
                .with("layers_to_transform", "0")
                .with("layers_pattern", r#""block""#),
        ),
        ("no layers", valid().with("layers_to_transform", "[]")),
        ("a bias setting without biases", valid().with("bias", r#""all""#)),
        ("ranks by target", valid().with("rank_pattern", r#"{"q":2}"#)),
        (
            "all ranks by target",
            valid().with("r", "7").with("rank_pattern", r#"{"q":2,"^.*\\.v$":2}"#),
        ),
        (
            "alphas by target",
            valid().with("lora_alpha", "1").with(
                "alpha_pattern",
                r#"{"SelfAttention.(q|v)":4,"EncDecAttention\\..":4.0}"#,
            ),
        ),
        (
            "two equal ranks for one target",
            valid().with("rank_pattern", r#"{"q":2,"SelfAttention.q":2}"#),
        ),
        (
            "no ranks and no alphas by target",
            valid().with("rank_pattern", "null").with("alpha_pattern", "null"),
        ),
        ("alpha with a fraction", valid().with("lora_alpha", "4.0")),
        (
            "another initialisation",
            valid().with("init_lora_weights", r#""gaussian""#),
        ),
        ("no base named", valid().with("base_model_name_or_path", "null")),
        ("the same revision", valid().with("revision", r#""main""#)),
        (
            "an unknown setting that is off",
            valid().with("use_newlora", "false").with("new_config", "null"),
        ),
        (
            "a setting of PEFT 0.2",
            valid().with("merge_weights", "true").with("enable_lora", "null"),
        ),
        (
            "EVA, whose settings are kept",
            valid()
                .with("init_lora_weights", r#""eva""#)
                .with("eva_config", r#"{"rho":2.0}"#),
        ),
    ];
    let expected = import(&valid(), Some(&base())).expect("valid");
    assert_eq!(
        (expected.rank, expected.alpha, expected.scaling(), expected.pairs.len()),
        (2, 4.0, 2.0, 6)
    );
    assert_eq!(expected.base_model.as_deref(), Some("tiny/t5"));
    for (what, adapter) in cases {
        let module = import(&adapter, Some(&base())).unwrap_or_else(|error| panic!("{what}: {error}"));
        if adapter.tensors.len() == 12 {
            assert_eq!(module.pairs, expected.pairs, "{what}");
        } else {
            assert_eq!(module.pairs.len(), 18, "{what}");
        }
        assert_eq!(module.scaling(), 2.0, "{what}");
    }
}

#[test]
fn values_and_shapes_are_those_of_the_file() {
    let path = "encoder.block.0.layer.0.SelfAttention.q";
    let mut half = Tensor::f32(&[hostile::RANK, hostile::D_MODEL]);
    // 1.5 and -2 in F16 and BF16, by hand.
    half.dtype = "F16";
    half.data = [0x3e00u16, 0xc000]
        .repeat(6)
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let mut brain = Tensor::f32(&[hostile::INNER, hostile::RANK]);
    brain.dtype = "BF16";
    brain.data = [0x3fc0u16, 0xc000]
        .repeat(4)
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let adapter = Adapter::valid()
        .with_tensor(&hostile::key(path, "lora_A"), half)
        .with_tensor(&hostile::key(path, "lora_B"), brain);
    let module = import(&adapter, Some(&base())).expect("valid");
    let pair = &module.pairs[path];
    assert_eq!((pair.rank, pair.d_in, pair.d_out), (2, 6, 4));
    assert_eq!(pair.a, [1.5, -2.0].repeat(6));
    assert_eq!(pair.b, [1.5, -2.0].repeat(4));
    assert_eq!(module.sha256, Some(lorahub_weights::sha256_hex(&adapter.safetensors())));
}

/// SplitMix64, for inputs that vary from a seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn no_bytes_cause_a_panic() {
    let adapter = Adapter::valid();
    let (config, tensors, base) = (adapter.config_json().into_bytes(), adapter.safetensors(), base());
    let mut accepted = 0;
    let mut codes = BTreeSet::new();
    let mut read = |config: &[u8], tensors: &[u8]| {
        for base in [Some(&base), None] {
            match Module::from_peft("mine", config, tensors, base) {
                Ok(module) => {
                    accepted += 1;
                    assert!(
                        module
                            .pairs
                            .keys()
                            .all(|path| module.scaling_of(path).is_some_and(f64::is_normal))
                    );
                    assert!(
                        module
                            .pairs
                            .values()
                            .flat_map(|pair| &pair.a)
                            .all(|value| value.is_finite())
                    );
                }
                Err(error) => {
                    codes.insert(error.code());
                    assert!(error.to_string().len() < 1000, "{error}");
                }
            }
        }
    };
    for cut in 0..config.len() {
        read(&config[..cut], &tensors);
    }
    for cut in (0..tensors.len()).step_by(7) {
        read(&config, &tensors[..cut]);
    }
    let mutate = |bytes: &[u8], state: &mut u64| {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + next(state) % 3 {
            let at = (next(state) % bytes.len() as u64) as usize;
            match next(state) % 5 {
                0 => bytes[at] ^= 1 << (next(state) % 8),
                1 => bytes[at] = b"0123456789,:[]{}\".ntf"[(next(state) % 21) as usize],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, next(state) as u8),
                _ => bytes[at] = next(state) as u8,
            }
        }
        bytes
    };
    // Expressions of every kind, so that mutations reach them too.
    let patterns = adapter
        .with("rank_pattern", r#"{"EncDecAttention.(q|v)":2,"^encoder.*q$":2}"#)
        .with("alpha_pattern", r#"{"SelfAttention\\.[qv]":5,"^.*EncDec.*":0.5}"#)
        .with("use_rslora", "true")
        .config_json()
        .into_bytes();
    for seed in 0..10_000 {
        let mut state = seed;
        match seed % 4 {
            0 => read(&mutate(&config, &mut state), &tensors),
            1 => read(&config, &mutate(&tensors, &mut state)),
            2 => read(&mutate(&patterns, &mut state), &tensors),
            _ => read(&mutate(&config, &mut state), &mutate(&tensors, &mut state)),
        }
    }
    assert!(accepted > 500, "some mutations leave a usable adapter: {accepted}");
    assert!(codes.len() > 15, "the mutations reach many faults: {codes:?}");
}
