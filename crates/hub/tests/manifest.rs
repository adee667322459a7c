//! Manifests: what is refused and why, the published schema against the types, and the public manifest.

use lorahub_hub::{
    Base, Chunks, Commit, FLAN_T5, FileEntry, Manifest, Module, REFERENCE_SEEDS, RemoteFile, Repository, Set, Sha256,
    public_manifest,
};
use serde_json::{Map, Value, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn folder(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A manifest in which everything is given.
fn full() -> Manifest {
    let text = |text: &str| Some(text.to_owned());
    let repository = Repository::new("owner/name").expect("valid");
    let commit = Some(Commit::new(COMMIT).expect("valid"));
    let files = vec![FileEntry {
        path: "sub/model.safetensors".to_owned(),
        size: Some(100_000),
        sha256: Some(Sha256::of(b"a")),
        chunks: Some(Chunks {
            bytes: 65_536,
            sha256: vec![Sha256::of(b"b"), Sha256::of(b"c")],
        }),
    }];
    Manifest {
        schema: text("manifest.schema.json"),
        version: 1,
        bases: vec![Base {
            id: "google/flan-t5-small".to_owned(),
            repository: repository.clone(),
            commit: commit.clone(),
            files: files.clone(),
            licence: text("Apache-2.0"),
            description: text("small"),
        }],
        modules: vec![Module {
            name: "trec".to_owned(),
            base: "google/flan-t5-small".to_owned(),
            repository,
            commit,
            files,
            rule: text("reference"),
            task: text("trec"),
            tags: vec!["questions".to_owned()],
            licence: text("MIT"),
            description: text("kinds of questions"),
        }],
        sets: vec![Set {
            name: "mine".to_owned(),
            modules: vec!["trec".to_owned()],
            description: text("a set"),
        }],
    }
}

fn parse(value: &Value) -> Result<Manifest, lorahub_hub::ManifestError> {
    Manifest::parse(value.to_string().as_bytes())
}

#[test]
fn a_manifest_is_written_and_read_back() {
    let manifest = full();
    let json = manifest.to_json().expect("JSON");
    assert_eq!(Manifest::parse(json.as_bytes()), Ok(manifest.clone()));
    assert_eq!(manifest.module("trec").map(|module| module.tags.len()), Some(1));
    assert_eq!(
        manifest.base("google/flan-t5-small").map(|base| base.files.len()),
        Some(1)
    );
    assert!(manifest.module("x").is_none() && manifest.base("x").is_none());
    let sources = manifest.modules[0].sources(None).expect("pinned");
    assert_eq!(
        sources[0].0.to_string(),
        format!("owner/name@{COMMIT}/sub/model.safetensors")
    );
    let mut unpinned = manifest.bases[0].clone();
    unpinned.commit = None;
    assert_eq!(
        unpinned.sources(None).expect_err("no commit").code(),
        "manifest-no-commit"
    );
    let resolved = Commit::new(&COMMIT.replace('0', "a")).expect("valid");
    assert_eq!(
        unpinned.sources(Some(&resolved)).expect("resolved")[0].0.commit(),
        &resolved
    );
    // A pinned one stays, whatever was resolved.
    assert_eq!(
        manifest.bases[0].sources(Some(&resolved)).expect("pinned")[0]
            .0
            .commit()
            .as_str(),
        COMMIT
    );
}

#[test]
fn every_fault_has_its_own_error() {
    let cases: [(&str, Value, &str); 24] = [
        ("/version", json!(2), "manifest-version"),
        ("/version", json!("1"), "manifest-json"),
        ("/more", json!(1), "manifest-json"),
        ("/bases/0/more", json!(1), "manifest-json"),
        ("/bases/0/id", json!(""), "manifest-name"),
        ("/bases/0/repository", json!("a"), "manifest-json"),
        ("/bases/0/commit", json!("main"), "manifest-json"),
        ("/bases/0/files", json!([]), "manifest-files"),
        ("/bases/0/files/0/path", json!("../x"), "manifest-path"),
        ("/bases/0/files/0/sha256", json!("x"), "manifest-json"),
        ("/bases/0/files/0/size", json!(-1), "manifest-json"),
        ("/bases/0/files/0/size", json!(200_000), "manifest-chunks"),
        ("/bases/0/files/0/size", Value::Null, "manifest-chunks"),
        ("/bases/0/files/0/chunks/bytes", json!(0), "manifest-chunks"),
        ("/bases/0/description", json!("x".repeat(5000)), "manifest-long-text"),
        ("/modules/0/name", json!("a\nb"), "manifest-name"),
        ("/modules/0/base", json!("other"), "manifest-unlisted"),
        ("/modules/0/rule", json!("other"), "manifest-rule"),
        ("/modules/0/tags/0", json!(""), "manifest-name"),
        ("/sets/0/modules/0", json!("other"), "manifest-unlisted"),
        ("/sets/0/modules", json!(["trec", "trec"]), "manifest-duplicate"),
        ("/sets/0/name", json!(""), "manifest-name"),
        ("/sets/0/modules", json!("trec"), "manifest-json"),
        ("/modules", json!({}), "manifest-json"),
    ];
    let valid = serde_json::to_value(full()).expect("JSON");
    for (pointer, value, code) in cases {
        let mut manifest = valid.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        match manifest.pointer_mut(parent).expect(pointer) {
            Value::Object(fields) => drop(fields.insert(key.to_owned(), value)),
            Value::Array(values) => values[key.parse::<usize>().expect(pointer)] = value,
            other => panic!("{pointer}: {other}"),
        }
        let error = parse(&manifest).expect_err(pointer);
        assert_eq!(error.code(), code, "{pointer}: {error}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
    for list in ["bases", "modules", "sets"] {
        let mut manifest = valid.clone();
        let values = manifest[list].as_array_mut().expect("a list");
        values.push(values[0].clone());
        assert_eq!(parse(&manifest).expect_err(list).code(), "manifest-duplicate");
    }
    let files = json!([{"path": "a"}, {"path": "a"}]);
    let mut manifest = valid.clone();
    manifest["bases"][0]["files"] = files;
    assert_eq!(parse(&manifest).expect_err("a file twice").code(), "manifest-duplicate");
    assert_eq!(Manifest::parse(b"").expect_err("empty").code(), "manifest-json");
    assert_eq!(
        Manifest::parse(&vec![b' '; 17 << 20]).expect_err("long").code(),
        "manifest-too-long"
    );
    assert_eq!(
        parse(&json!({"version": 1})).map(|manifest| manifest.bases.len()),
        Ok(0),
        "what is absent is empty"
    );
}

#[test]
fn a_refresh_fills_in_and_shows_what_changed() {
    let module = public_manifest().expect("built in").modules[0].clone();
    let remote = |weights: &[u8]| {
        vec![
            RemoteFile {
                path: "adapter_config.json".to_owned(),
                size: 411,
                sha256: None,
                blob: None,
            },
            RemoteFile {
                path: "adapter_model.bin".to_owned(),
                size: weights.len() as u64,
                sha256: Some(Sha256::of(weights)),
                blob: None,
            },
            RemoteFile {
                path: "README.md".to_owned(),
                size: 1,
                sha256: None,
                blob: None,
            },
        ]
    };
    let commit = Commit::new(COMMIT).expect("valid");
    let first = module.refreshed(commit.clone(), &remote(b"one")).expect("all there");
    assert_eq!(first.changed, Vec::<String>::new(), "nothing was known");
    assert_eq!(first.entry.commit, Some(commit.clone()));
    assert_eq!(first.entry.files.len(), 2);
    assert_eq!(
        (first.entry.files[0].size, first.entry.files[0].sha256),
        (Some(411), None)
    );
    assert_eq!(first.entry.files[1].sha256, Some(Sha256::of(b"one")));
    let same = first
        .entry
        .refreshed(commit.clone(), &remote(b"one"))
        .expect("all there");
    assert_eq!((&same.entry, same.changed.len()), (&first.entry, 0));
    let other = first
        .entry
        .refreshed(commit.clone(), &remote(b"two"))
        .expect("all there");
    assert_eq!(other.changed, ["adapter_model.bin"]);
    assert_eq!(other.entry.files[1].sha256, Some(Sha256::of(b"two")));
    let error = module
        .refreshed(commit, &remote(b"one")[..1])
        .expect_err("a file is gone");
    assert_eq!(error.code(), "manifest-no-file");
    assert!(error.to_string().contains("adapter_model.bin"), "{error}");
}

/// As much of JSON Schema as ours uses; anything else fails.
fn check(schema: &Value, root: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at}: {what}"));
    for (key, rule) in schema.as_object().expect("a schema") {
        let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        let ok = match key.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = rule
                    .as_str()
                    .and_then(|rule| rule.strip_prefix('#'))
                    .expect("a local reference");
                check(root.pointer(pointer).expect(pointer), root, value, at)?;
                true
            }
            "type" => match rule.as_str().expect("a type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                other => panic!("type {other}"),
            },
            "const" => value == rule,
            "enum" => rule.as_array().expect("a list").contains(value),
            "minimum" => number(value) >= number(rule),
            "maximum" => number(value) <= number(rule),
            "minLength" => value.as_str().is_some_and(|text| text.len() as u64 >= number(rule)),
            "maxLength" => value.as_str().is_some_and(|text| text.len() as u64 <= number(rule)),
            "minItems" => value.as_array().is_some_and(|list| list.len() as u64 >= number(rule)),
            "maxItems" => value.as_array().is_some_and(|list| list.len() as u64 <= number(rule)),
            "pattern" => {
                let pattern = regex_lite::Regex::new(rule.as_str().expect("a pattern")).expect("a pattern");
                value.as_str().is_some_and(|text| pattern.is_match(text))
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, root, item, &format!("{at}/{index}"))?;
                }
                true
            }
            "required" => rule
                .as_array()
                .expect("a list")
                .iter()
                .all(|key| value.get(key.as_str().expect("a key")).is_some()),
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match rule.get(key) {
                        Some(rule) => check(rule, root, value, &format!("{at}/{key}"))?,
                        None => return wrong(&format!("`{key}` is not among the properties")),
                    }
                }
                true
            }
            "additionalProperties" => rule == false,
            other => panic!("the schema uses `{other}`, which this test does not know"),
        };
        if !ok {
            return wrong(&format!("{key} {rule}"));
        }
    }
    Ok(())
}

#[test]
fn the_schema_and_the_types_agree() {
    let schema: Value = serde_json::from_str(&folder("schema/manifest.schema.json")).expect("JSON");
    let valid = serde_json::to_value(full()).expect("JSON");
    assert_eq!(check(&schema, &schema, &valid, ""), Ok(()));
    // Every property of the schema is one of the types: with all given, as many keys as properties.
    let properties = |pointer: &str| schema.pointer(pointer).and_then(Value::as_object).map(Map::len);
    let keys = |pointer: &str| valid.pointer(pointer).and_then(Value::as_object).map(Map::len);
    for (defined, used) in [
        ("/properties", ""),
        ("/$defs/base/properties", "/bases/0"),
        ("/$defs/module/properties", "/modules/0"),
        ("/$defs/set/properties", "/sets/0"),
        ("/$defs/file/properties", "/bases/0/files/0"),
        ("/$defs/file/properties/chunks/properties", "/bases/0/files/0/chunks"),
    ] {
        assert!(keys(used).is_some_and(|count| count > 1));
        assert_eq!(properties(defined), keys(used), "{defined}");
    }
    // What a type needs the schema requires, and the other way round: each key left out in turn.
    for pointer in [
        "",
        "/bases/0",
        "/modules/0",
        "/sets/0",
        "/bases/0/files/0",
        "/bases/0/files/0/chunks",
    ] {
        let names: Vec<_> = valid
            .pointer(pointer)
            .and_then(Value::as_object)
            .expect(pointer)
            .keys()
            .cloned()
            .collect();
        for key in names {
            let mut manifest = valid.clone();
            let fields = manifest
                .pointer_mut(pointer)
                .and_then(Value::as_object_mut)
                .expect(pointer);
            fields.remove(&key);
            let by_schema = check(&schema, &schema, &manifest, "").is_ok();
            let by_types = serde_json::from_value::<Manifest>(manifest).is_ok();
            assert_eq!(by_schema, by_types, "{pointer} without {key}");
        }
    }
    // And both refuse the same wrong values.
    for (pointer, value) in [
        ("/version", json!(2)),
        ("/bases/0/commit", json!("main")),
        ("/bases/0/repository", json!("a/b/c")),
        ("/bases/0/files/0/path", json!("/a")),
        ("/bases/0/files/0/sha256", json!("abc")),
        ("/bases/0/files/0/chunks/bytes", json!(1)),
        ("/bases/0/files", json!([])),
        ("/modules/0/rule", json!("sum")),
        ("/modules/0/name", json!("")),
        ("/sets/0/modules/0", json!(3)),
    ] {
        let mut manifest = valid.clone();
        *manifest.pointer_mut(pointer).expect(pointer) = value;
        assert!(check(&schema, &schema, &manifest, "").is_err(), "{pointer}");
        assert!(parse(&manifest).is_err(), "{pointer}");
    }
}

#[test]
fn the_public_manifest_is_the_committed_one() {
    let manifest = public_manifest().expect("built in");
    let committed = folder("manifests/public.json");
    assert_eq!(
        manifest.to_json().expect("JSON"),
        committed,
        "run: cargo run -p lorahub-hub --example manifest > crates/hub/manifests/public.json"
    );
    let schema: Value = serde_json::from_str(&folder("schema/manifest.schema.json")).expect("JSON");
    let value: Value = serde_json::from_str(&committed).expect("JSON");
    assert_eq!(check(&schema, &schema, &value, ""), Ok(()));
    assert_eq!((manifest.bases.len(), manifest.modules.len()), (3, 196));
    assert!(FLAN_T5.iter().all(|id| manifest.base(id).is_some()));
    assert_eq!(
        manifest.modules[0].repository.as_str(),
        "lorahub/flan_t5_large-qasc_qa_with_separated_facts_3"
    );
    assert!(
        manifest
            .modules
            .iter()
            .all(|module| module.base == "google/flan-t5-large")
    );
    // Nothing is invented: what only a network can tell is absent.
    let files = manifest.bases.iter().flat_map(|base| &base.files);
    let files = files.chain(manifest.modules.iter().flat_map(|module| &module.files));
    assert!(
        files
            .clone()
            .all(|file| file.size.is_none() && file.sha256.is_none() && file.chunks.is_none())
    );
    assert!(manifest.bases.iter().all(|base| base.commit.is_none()));
    assert!(
        manifest
            .modules
            .iter()
            .all(|module| module.commit.is_none() && module.licence.is_none())
    );
    assert_eq!(manifest.sets.len(), REFERENCE_SEEDS.len());
    for (set, seed) in manifest.sets.iter().zip(REFERENCE_SEEDS) {
        assert_eq!(
            (set.name.as_str(), set.modules.len()),
            (format!("seed-{seed}").as_str(), 20)
        );
    }
    assert_eq!(manifest.sets[0].modules[0], "glue_mrpc");
    assert_eq!(manifest.sets[0].modules[19], "super_glue_wsc.fixed");
}
