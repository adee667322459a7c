//! What is exported is what was composed, is imported again under the strict rules, and merges into a base.

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;

use lorahub_adapters::{Bank, Composition, Module, Provenance, Rule, compose, export, export_as, export_size, merge};
use lorahub_weights::{Dtype, Limits, SafeTensors, TensorOut, write_safetensors};
use support::{Rng, assert_close, base, exact, module};

fn modules() -> Vec<Module> {
    (0..3)
        .map(|i| module(&format!("task-{i}"), 2, 1.0 + i as f64, i))
        .collect()
}

fn provenance(bank: &Bank, w: &[f64]) -> Provenance {
    Provenance {
        composition: Some(Composition::new(bank, w, Some(7)).expect("weights fit")),
        base_sha256: Some("ab".repeat(32)),
        license: Some("MIT".to_owned()),
        notes: vec!["Made by a test.".to_owned()],
    }
}

#[test]
fn exported_modules_are_imported_again_unchanged() {
    for rule in [Rule::Reference, Rule::Exact] {
        for w in [[0.5, -1.25, 0.75], [0.0, 1.0, 0.0], [0.0; 3]] {
            let bank = Bank::new(modules(), rule).expect("a bank");
            let composed = compose(&bank, &w).expect("composes");
            let provenance = provenance(&bank, &w);
            let files = export(&composed, &provenance).expect("exports");
            assert_eq!(
                export_size(&bank, &w, &provenance),
                Ok(files.safetensors.len()),
                "{rule} {w:?}"
            );
            for base in [Some(&base()), None] {
                let back = Module::from_peft("composed", files.config_json.as_bytes(), &files.safetensors, base)
                    .expect("our own export");
                assert_eq!(back.pairs, composed.pairs, "{rule} {w:?}");
                assert_eq!((back.rank, back.alpha), (composed.rank, composed.alpha), "{rule} {w:?}");
                assert_eq!(back.base_model.as_deref(), Some("tiny/t5"));
            }
            assert_eq!(
                export(&composed, &provenance),
                Ok(files),
                "equal modules give equal files"
            );
        }
    }
}

#[test]
fn keys_and_metadata_are_those_that_peft_writes() {
    let bank = Bank::new(modules(), Rule::Exact).expect("a bank");
    let w = [0.5, 0.0, -0.25];
    let files = export(&compose(&bank, &w).expect("composes"), &provenance(&bank, &w)).expect("exports");
    let file = SafeTensors::parse(&files.safetensors, &Limits::ADAPTER).expect("valid");
    assert_eq!(file.len(), 10);
    let key = "base_model.model.decoder.block.0.layer.1.EncDecAttention.q.lora_";
    assert_eq!(file.shape(&format!("{key}A.weight")), Ok([4, 7].as_slice()));
    assert_eq!(file.shape(&format!("{key}B.weight")), Ok([5, 4].as_slice()));
    assert_eq!(file.dtype(&format!("{key}B.weight")), Ok(Dtype::F32));
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    let composition: serde_json::Value = serde_json::from_str(&file.metadata()["lorahub"]).expect("JSON");
    assert_eq!(composition["rule"], "exact");
    assert_eq!(composition["seed"], 7);
    assert_eq!(composition["modules"][2]["name"], "task-2");
    assert_eq!(composition["modules"][2]["weight"], -0.25);
}

#[test]
fn the_configuration_has_what_peft_needs_and_no_more() {
    let whole = module("mine", 2, 3.0, 1);
    let config = |module: &Module| -> serde_json::Value {
        let files = export(module, &Provenance::default()).expect("exports");
        serde_json::from_str(&files.config_json).expect("JSON")
    };
    let expected = serde_json::json!({
        "alpha_pattern": {}, "base_model_name_or_path": "tiny/t5", "bias": "none", "fan_in_fan_out": false,
        "inference_mode": true, "init_lora_weights": true, "lora_alpha": 3, "lora_dropout": 0.0,
        "modules_to_save": null, "peft_type": "LORA", "r": 2, "rank_pattern": {}, "revision": null,
        "target_modules": ["q", "v", "wo"], "task_type": "SEQ_2_SEQ_LM", "use_dora": false, "use_rslora": false,
    });
    assert_eq!(config(&whole), expected);
    // `q` would now select more of the base than the module has, so the paths are named in full.
    let mut pairs = whole.pairs.clone();
    pairs
        .remove("encoder.block.0.layer.0.SelfAttention.q")
        .expect("is there");
    let part = Module::new("mine", 2, 2.5, pairs, Some(&base())).expect("valid");
    let found = config(&part);
    assert_eq!(found["lora_alpha"], 2.5);
    assert_eq!(
        found["target_modules"],
        serde_json::json!(part.pairs.keys().collect::<Vec<_>>())
    );
    // Without a base it is not known what `q` selects.
    let unknown = Module::new("mine", 2, 3.0, whole.pairs.clone(), None).expect("valid");
    assert_eq!(config(&unknown)["target_modules"].as_array().map(Vec::len), Some(5));
    assert_eq!(config(&unknown)["base_model_name_or_path"], serde_json::Value::Null);
}

#[test]
fn a_module_can_be_stored_in_half_the_size() {
    let whole = module("mine", 2, 3.0, 1);
    let files = export_as(&whole, &Provenance::default(), Dtype::F16).expect("exports");
    let back =
        Module::from_peft("mine", files.config_json.as_bytes(), &files.safetensors, Some(&base())).expect("reads");
    for (path, pair) in &whole.pairs {
        let expected: Vec<_> = pair.a.iter().copied().map(f64::from).collect();
        assert_close(&back.pairs[path].a, &expected, 2f64.powi(-11), path);
    }
    let mut large = whole;
    large.pairs.values_mut().for_each(|pair| pair.a[0] = 1e5);
    let error = export_as(&large, &Provenance::default(), Dtype::F16).expect_err("F16 ends at 65504");
    assert_eq!(error.code(), "weights-out-range");
    assert!(
        error.to_string().contains("`mine`") && error.to_string().contains("write it as F32"),
        "{error}"
    );
}

#[test]
fn the_card_says_where_the_module_comes_from_and_cannot_be_broken_out_of() {
    let mut modules = modules();
    modules[0].base_model = Some("google/flan-t5-small".to_owned());
    modules[1].name = "evil` | <script>\n---\nlicense: none".to_owned();
    modules[2].sha256 = Some("cd".repeat(32));
    let bank = Bank::new(modules, Rule::Reference).expect("a bank");
    let w = [0.5, -1.25, 0.75];
    let card = export(&compose(&bank, &w).expect("composes"), &provenance(&bank, &w))
        .expect("exports")
        .readme;
    let front = "---\nbase_model: \"google/flan-t5-small\"\nlibrary_name: peft\nlicense: \"MIT\"\ntags:\n";
    assert!(card.starts_with(front), "{card}");
    assert_eq!(card.matches("---\n").count(), 2, "only the front matter's own: {card}");
    for words in [
        "# composed",
        "from 3 others for `google/flan-t5-small`",
        "rule `reference`",
        "seed 7",
        "| `task-0` | 0.5 |  |",
        "| -1.25 |",
        &format!("| `task-2` | 0.75 | `{}` |", "cd".repeat(32)),
        &"ab".repeat(32),
        "Made by a test.",
        r#"AutoModelForSeq2SeqLM.from_pretrained("google/flan-t5-small")"#,
    ] {
        assert!(card.contains(words), "`{words}` is not in: {card}");
    }
    assert!(!card.contains("<script>"), "{card}");
    let mut local = module("mine", 2, 4.0, 1);
    local.base_model = Some("/home/me/base".to_owned());
    let card = export(&local, &Provenance::default()).expect("exports").readme;
    assert!(!card.contains("base_model:"), "a path is no hub id: {card}");
    assert!(card.contains("rank 2 and alpha 4 for `/home/me/base`"), "{card}");
}

#[test]
fn the_archive_holds_the_three_files_as_they_are() {
    let files = export(&module("mine", 2, 4.0, 1), &Provenance::default()).expect("exports");
    let bytes = files.zip("../my adapter").expect("archives");
    assert_eq!(
        files.zip("../my adapter"),
        Ok(bytes.clone()),
        "equal exports give equal bytes"
    );
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("an archive");
    assert_eq!(archive.len(), 3);
    for (name, expected) in [
        ("adapter_config.json", files.config_json.as_bytes()),
        ("adapter_model.safetensors", &files.safetensors),
        ("README.md", files.readme.as_bytes()),
    ] {
        let mut file = archive.by_name(&format!("---my-adapter/{name}")).expect(name);
        assert_eq!(file.compression(), zip::CompressionMethod::Stored);
        let mut found = Vec::new();
        file.read_to_end(&mut found).expect("readable");
        assert_eq!(found, expected, "{name}");
    }
}

/// A base with the linears of [`base`] and two tensors that no LoRA touches.
fn base_file(dtype: Dtype) -> (Vec<u8>, BTreeMap<String, Vec<f32>>) {
    let mut rng = Rng(99);
    let mut tensors = BTreeMap::new();
    let mut shapes = BTreeMap::new();
    for target in base().targets {
        let name = format!("{}.weight", target.path);
        shapes.insert(name.clone(), vec![target.d_out, target.d_in]);
        tensors.insert(name, rng.values(target.d_out * target.d_in));
    }
    for (name, shape) in [
        ("shared.weight", vec![11, 7]),
        ("encoder.final_layer_norm.weight", vec![7]),
    ] {
        tensors.insert(name.to_owned(), rng.values(shape.iter().product()));
        shapes.insert(name.to_owned(), shape);
    }
    let out: Vec<_> = tensors
        .iter()
        .map(|(name, data)| TensorOut {
            name: name.clone(),
            shape: shapes[name].clone(),
            data,
            dtype,
        })
        .collect();
    let bytes = write_safetensors(&out, &BTreeMap::new()).expect("writes");
    (bytes, tensors)
}

#[test]
fn merging_adds_the_update_and_touches_nothing_else() {
    let (bytes, originals) = base_file(Dtype::F32);
    let file = SafeTensors::parse(&bytes, &Limits::BASE).expect("valid");
    let modules = modules();
    let w = [0.5, -1.25, 0.75];
    let bank = Bank::new(modules.clone(), Rule::Exact).expect("a bank");
    let composed = compose(&bank, &w).expect("composes");
    let merged: Vec<_> = merge(&composed, &file)
        .expect("fits")
        .collect::<Result<_, _>>()
        .expect("merges");
    assert_eq!(merged.len(), originals.len());
    for tensor in merged {
        let original = &originals[&tensor.name];
        assert_eq!(file.shape(&tensor.name), Ok(tensor.shape.as_slice()));
        let path = tensor.name.trim_end_matches(".weight");
        if composed.pairs.contains_key(path) {
            let update = exact(&modules, &w, path);
            let expected: Vec<_> = original
                .iter()
                .zip(update)
                .map(|(w, update)| f64::from(*w) + update)
                .collect();
            assert_close(&tensor.data, &expected, 3e-7, &tensor.name);
            assert_ne!(&tensor.data, original);
        } else {
            assert_eq!(&tensor.data, original, "{}", tensor.name);
        }
    }
}

#[test]
fn a_base_that_does_not_fit_is_named() {
    let (bytes, _) = base_file(Dtype::BF16);
    let file = SafeTensors::parse(&bytes, &Limits::BASE).expect("valid");
    let fits = module("mine", 2, 4.0, 1);
    let spoil = |path: &str, d_in: usize| {
        let mut pairs = fits.pairs.clone();
        let mut pair = pairs
            .remove("encoder.block.0.layer.0.SelfAttention.q")
            .expect("is there");
        (pair.d_in, pair.a) = (d_in, vec![1.0; 2 * d_in]);
        pairs.insert(path.to_owned(), pair);
        Module::new("mine", 2, 4.0, pairs, None).expect("valid in itself")
    };
    let deeper = spoil("encoder.block.1.layer.0.SelfAttention.q", 7);
    let wider = spoil("encoder.block.0.layer.0.SelfAttention.q", 8);
    let mut huge = fits.clone();
    huge.pairs
        .values_mut()
        .for_each(|pair| (pair.a[0], pair.b[0]) = (1e30, 1e30));
    let cases: [(&Module, &str, &[&str]); 3] = [
        (
            &deeper,
            "merge-missing",
            &["encoder.block.1", ".weight`", "`mine`", "trained on"],
        ),
        (
            &wider,
            "merge-shape",
            &["[5, 7]", "`mine` updates [5, 8]", "trained on"],
        ),
        (&huge, "compose-overflow", &["merged weight", "range of f32"]),
    ];
    for (module, code, says) in cases {
        let merged = merge(module, &file).and_then(|tensors| tensors.collect::<Result<Vec<_>, _>>());
        let error = merged.expect_err(code);
        assert_eq!(error.code(), code, "{error}");
        for words in says {
            assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        }
    }
}
