//! Manifests of one's own: their sets, rules and licences, and bases in other forms than one file.

use lorahub_hub::Kind;
use serde_json::{Value, json};

use super::cdn::Cdn;
use crate::hostile::Adapter;
use crate::support::{safetensors, tensors_of, tiny_config, tiny_tensors, tiny_tokenizer, write_rows};

/// Puts the tiny base's configuration and tokenizer into a repository.
fn write_base(cdn: &Cdn) {
    cdn.write("x/base", "config.json", tiny_config().to_string().as_bytes());
    cdn.write("x/base", "tokenizer.json", tiny_tokenizer().to_string().as_bytes());
}

fn files(names: &[&str]) -> Value {
    names.iter().map(|name| json!({ "path": name })).collect()
}

#[test]
fn a_manifest_of_ones_own_says_set_rule_and_licence() {
    let cdn = Cdn::start();
    write_base(&cdn);
    cdn.write("x/base", "model.safetensors", &safetensors(&tiny_tensors()));
    let adapter = Adapter::valid();
    let module = |name: &str| {
        cdn.write(
            &format!("x/{name}"),
            "adapter_config.json",
            adapter.config_json().as_bytes(),
        );
        cdn.write(
            &format!("x/{name}"),
            "adapter_model.safetensors",
            &adapter.safetensors(),
        );
        json!({ "name": name, "base": "x/base", "repository": format!("x/{name}"), "rule": "exact", "licence": "MIT",
                "files": files(&["adapter_config.json", "adapter_model.safetensors"]) })
    };
    let manifest = json!({
        "version": 1,
        "bases": [{ "id": "x/base", "repository": "x/base",
                    "files": files(&["config.json", "tokenizer.json", "model.safetensors"]) }],
        "modules": [module("one"), module("two")],
        "sets": [{ "name": "pair", "modules": ["two", "one"] }],
    });
    let manifest = cdn.folder.write("own.json", manifest.to_string());
    cdn.run_json(&cdn.download(&["x/base", "--set", "pair", "--manifest", &manifest]));
    let listed = cdn.run_json(&["store", "list", "--json"]);
    let kinds: Vec<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["kind"])
        .collect();
    assert_eq!(kinds, [&json!(Kind::Base), &json!(Kind::Module), &json!(Kind::Module)]);

    // From here on nothing needs the manifest.
    let shots = write_rows(&cdn.folder, "shots.jsonl", &[("red", "yes"), ("blue", "no")]);
    let ran = cdn.run(&[
        "score",
        "--base",
        "x/base",
        "--set",
        "pair",
        "--weights=0.5,1",
        "--shots",
        &shots,
        "--json",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("rule `exact` (as the manifest says of `two`)"),
        "{}",
        ran.stderr
    );
    let out = cdn.folder.join("out");
    cdn.run_json(&[
        "export",
        "--base",
        "x/base",
        "--set",
        "pair",
        "--weights=0.5,1",
        "--out",
        &out,
        "--json",
    ]);
    let card = std::fs::read_to_string(format!("{out}/README.md")).unwrap();
    assert!(card.contains(r#"license: "MIT""#), "{card}");
    let (two, one) = (card.find("two").unwrap(), card.find("one").unwrap());
    assert!(two < one, "the set's order: {card}");

    // A folder of that name goes before what was downloaded.
    std::fs::create_dir_all(cdn.folder.path().join("one")).unwrap();
    let mut inspect = cdn.command(&["inspect", "one"]);
    let ran = inspect.current_dir(cdn.folder.path()).output().unwrap();
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains("error[unknown_kind]"),
        "{ran:?}"
    );

    // What is gone of a set is named with the command for all of it.
    cdn.run_json(&["store", "delete", "one", "--json"]);
    cdn.refused(
        &[
            "score",
            "--base",
            "x/base",
            "--set",
            "pair",
            "--weights=0.5,1",
            "--shots",
            &shots,
        ],
        1,
        &[
            "error[not_downloaded]",
            "module `one`",
            "`lorahub download --set pair --manifest FILE`",
        ],
    );
}

#[test]
fn a_base_in_several_files_is_used_by_name() {
    let cdn = Cdn::start();
    write_base(&cdn);
    let tensors = tiny_tensors();
    let (first, second) = tensors.split_at(5);
    let mut map = serde_json::Map::new();
    for (file, part) in [("model-1.safetensors", first), ("model-2.safetensors", second)] {
        cdn.write("x/base", file, &safetensors(part));
        map.extend(part.iter().map(|(name, ..)| (name.clone(), json!(file))));
    }
    let index = json!({ "weight_map": map });
    cdn.write("x/base", "model.safetensors.index.json", index.to_string().as_bytes());
    let all = [
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
    ];
    let download = |names: &[&str]| {
        let manifest = cdn.manifest(&files(names), &json!({}));
        cdn.run_json(&cdn.download(&["x/base", "--manifest", &manifest]));
    };
    let generate = ["generate", "--base", "x/base", "--input", "red", "--json"];
    // A list that lacks a file is noticed when the base is used.
    download(&all[..4]);
    cdn.refused(&generate, 1, &["error[missing_file]", "has no `model-2.safetensors`"]);
    download(&all);
    let told = cdn.run_json(&generate);

    // The same as from the repository's own folder.
    let folder = cdn.folder.join("root/x/base");
    assert_eq!(
        cdn.run_json(&["generate", "--base", &folder, "--input", "red", "--json"]),
        told
    );

    // And the store is not believed blindly.
    let kept = lorahub_hub::Sha256::of(&safetensors(second));
    let path = cdn.folder.path().join(format!("store/files/{kept}"));
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    cdn.refused(&generate, 1, &["error[hub-corrupt]", &kept.to_string()]);
}

#[test]
fn what_is_converted_for_a_dtype_is_kept_and_read_the_next_time() {
    let cdn = Cdn::start();
    write_base(&cdn);
    // The other tests' base has no matrix that is large enough to be converted.
    let mut config = tiny_config();
    config["d_ff"] = json!(512);
    cdn.write("x/base", "config.json", config.to_string().as_bytes());
    let weights = safetensors(&tensors_of(&config));
    cdn.write("x/base", "model.safetensors", &weights);
    let manifest = cdn.manifest(
        &files(&["config.json", "tokenizer.json", "model.safetensors"]),
        &json!({}),
    );
    cdn.run_json(&cdn.download(&["x/base", "--manifest", &manifest]));
    let generate = |dtype: &str| {
        cdn.run_json(&[
            "generate", "--base", "x/base", "--input", "red", "--dtype", dtype, "--json",
        ])
    };
    let converted = || {
        let listed = cdn.run_json(&["store", "list", "--json"]);
        assert_eq!((&listed["unnamed"], &listed["unfinished"]), (&json!([]), &json!([])));
        listed["entries"][0]["converted"].clone()
    };
    generate("f32");
    assert_eq!(converted(), Value::Null, "nothing is converted for f32");
    let told = generate("q8_0");
    let one = converted()[0].clone();
    assert_eq!(one["storage"], "q8_0");
    let file = |sha256: &str| cdn.folder.path().join(format!("store/files/{sha256}"));
    let kept = file(one["sha256"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&kept).unwrap().len(), one["size"].as_u64().unwrap());

    // The next time the base's own file is not looked at.
    let source = file(&lorahub_hub::Sha256::of(&weights).to_string());
    std::fs::write(&source, b"").unwrap();
    cdn.refused(
        &["generate", "--base", "x/base", "--input", "red"],
        1,
        &["not_downloaded"],
    );
    let mut spoilt = weights.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    std::fs::write(&source, spoilt).unwrap();
    assert_eq!(generate("q8_0"), told);
    std::fs::write(&source, &weights).unwrap();

    // One that is damaged, cut or gone is made again.
    let right = std::fs::read(&kept).unwrap();
    let mut flipped = right.clone();
    flipped[20] ^= 1;
    for wrong in [Some(&flipped[..]), Some(&right[..right.len() - 1]), Some(b""), None] {
        match wrong {
            Some(wrong) => std::fs::write(&kept, wrong).unwrap(),
            None => std::fs::remove_file(&kept).unwrap(),
        }
        assert_eq!(generate("q8_0"), told);
        assert_eq!(
            (converted(), std::fs::read(&kept).unwrap()),
            (json!([one]), right.clone())
        );
    }
    generate("f16");
    assert_eq!(converted().as_array().unwrap().len(), 2);
    let deleted = cdn.run_json(&["store", "delete", "x/base", "--json"]);
    assert_eq!(deleted["files"], 5);
    assert_eq!(cdn.run_json(&["store", "list", "--json"])["bytes"], 0);
}
