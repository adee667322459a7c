//! Everything malformed: flags, bases, adapters, shots. Each gives its own error and no panic.

use serde_json::{Value, json};

use crate::hostile::{Adapter, Tensor, bad_adapters, key};
use crate::support::{
    Folder, command, run, run_json, run_refused, safetensors, tiny_config, tiny_tensors, tiny_tokenizer, write_adapter,
    write_base, write_rows,
};

/// Flags that make no sense end with 2, before anything is read: none of the paths exists.
#[test]
fn flags() {
    let ours: &[&[&str]] = &[
        &["score", "--base", "b", "--module", "m", "--shots", "s"],
        &[
            "score",
            "--base",
            "b",
            "--module",
            "m",
            "n",
            "--weights=1",
            "--shots",
            "s",
        ],
        &["score", "--base", "b", "--weights=1", "--shots", "s"],
        &["generate", "--base", "b", "--module", "m", "--input", "x"],
        &[
            "generate",
            "--base",
            "b",
            "--module",
            "m",
            "--weights=1,2",
            "--input",
            "x",
        ],
        &["eval", "--base", "b", "--module", "m", "--test", "t"],
        &["eval", "--base", "b", "--weights=1", "--test", "t"],
        &["eval", "--base", "b", "--module", "m", "--weights=1,2", "--test", "t"],
        &["export", "--base", "b", "--weights=1", "--out", "o"],
        &["export", "--base", "b", "--module", "m", "--out", "o"],
        &["adapt", "--base", "b", "--shots", "s"],
        &[
            "adapt",
            "--base",
            "b",
            "--module",
            "m",
            "--shots",
            "s",
            "--objective",
            "reference",
            "--l1",
            "0.1",
        ],
    ];
    for arguments in ours {
        run_refused(arguments, 2, &["error[usage]: "]);
    }
    let adapt = ["adapt", "--base", "b", "--module", "m", "--shots", "s"];
    let score = ["score", "--base", "b", "--module", "m", "--shots", "s"];
    let generate = ["generate", "--base", "b"];
    let parsers: &[(&[&str], &[&str], &str)] = &[
        (&[], &[], "Usage"),
        (&["compose"], &[], "unrecognized subcommand 'compose'"),
        (&["inspect"], &[], "<PATH-or-NAME>"),
        (&["adapt"], &["--module", "m", "--shots", "s"], "--base <DIR-or-NAME>"),
        (&["adapt"], &["--base", "b", "--module", "m"], "--shots <FILE>"),
        (&["adapt"], &["--base", "b", "--module"], "a value is required"),
        (&adapt, &["--budget", "0"], "a whole number from 1 up"),
        (&adapt, &["--budget", "many"], "a whole number from 1 up"),
        (&adapt, &["--budget", "-5"], "unexpected argument '-5'"),
        (&adapt, &["--seed", "-1"], "unexpected argument '-1'"),
        (&adapt, &["--seed", "1.5"], "invalid digit"),
        (&adapt, &["--seed", "18446744073709551616"], "too large"),
        (&adapt, &["--rule", "sum"], "expected `reference` or `exact`"),
        (&adapt, &["--objective", "loss"], "expected `reference` or `normalised`"),
        (&adapt, &["--l1", "-0.05"], "a number from 0 up"),
        (&adapt, &["--l1", "nan"], "a number from 0 up"),
        (&adapt, &["--backend", "gpu"], "possible values: cpu, webgpu, auto"),
        (&adapt, &["--weights=1"], "unexpected argument '--weights'"),
        (&adapt, &["--jsn"], "unexpected argument '--jsn'"),
        (&score, &["--weights="], "--weights=0.5,-1,0"),
        (&score, &["--weights=1,,2"], "--weights=0.5,-1,0"),
        (&score, &["--weights=a"], "--weights=0.5,-1,0"),
        (&score, &["--weights=nan"], "finite numbers"),
        (&score, &["--weights=inf"], "finite numbers"),
        (&score, &["--weights=1e999"], "finite numbers"),
        (&generate, &[], "--input <TEXT>"),
        (&generate, &["--input", "a", "--file", "f"], "cannot be used with"),
        (
            &generate,
            &["--input", "a", "--max-new-tokens", "0"],
            "a whole number from 1 up",
        ),
    ];
    for (command, more, says) in parsers {
        run_refused(&[*command, *more].concat(), 2, &[says]);
    }
}

#[test]
fn weights_may_be_negative() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let module = write_adapter(&folder, "one", &Adapter::valid());
    let other = write_adapter(&folder, "two", &Adapter::valid());
    let shots = write_rows(&folder, "shots", &[("red", "yes")]);
    let with = |weights: &[&str]| {
        let arguments = [
            "score", "--base", &base, "--module", &module, &other, "--shots", &shots, "--json", "--rule", "exact",
        ];
        run_json(&[&arguments[..], weights].concat())
    };
    let expected = with(&["--weights=-0.5,-.25"]);
    assert_eq!(with(&["--weights", "-0.5,-0.25"]), expected);
    assert_ne!(with(&["--weights=0.5,0.25"])["batch_loss"], expected["batch_loss"]);
}

/// What is wrong with a base: the change, the error's code, and its words.
type BadBase = (
    &'static str,
    Box<dyn Fn(&Folder)>,
    &'static str,
    &'static [&'static str],
);

fn config_with(name: &'static str, value: Value) -> Box<dyn Fn(&Folder)> {
    Box::new(move |folder| {
        let mut config = tiny_config();
        config[name] = value.clone();
        folder.write("base/config.json", config.to_string());
    })
}

fn file(name: &'static str, bytes: impl AsRef<[u8]> + 'static) -> Box<dyn Fn(&Folder)> {
    Box::new(move |folder| {
        folder.write(&format!("base/{name}"), &bytes);
    })
}

fn without(name: &'static str, instead: Option<&'static str>) -> Box<dyn Fn(&Folder)> {
    Box::new(move |folder| {
        std::fs::remove_file(folder.path().join("base").join(name)).unwrap();
        if let Some(instead) = instead {
            folder.write(&format!("base/{instead}"), "x");
        }
    })
}

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn tensors(change: fn(&mut Tensors)) -> Box<dyn Fn(&Folder)> {
    Box::new(move |folder| {
        let mut tensors = tiny_tensors();
        change(&mut tensors);
        folder.write("base/model.safetensors", safetensors(&tensors));
    })
}

#[rustfmt::skip] // one case a line
fn bad_bases() -> Vec<BadBase> {
    let mut no_end = tiny_tokenizer();
    no_end["post_processor"] = Value::Null;
    let mut large = tiny_tokenizer();
    for word in 0..40 {
        large["model"]["vocab"].as_array_mut().unwrap().push(json!([format!("w{word}"), -5.0]));
    }
    let nan = |folder: &Folder| {
        // The writer refuses NaN, so it is put into the bytes: the last value of the file.
        let mut bytes = safetensors(&tiny_tensors());
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        folder.write("base/model.safetensors", bytes);
    };
    vec![
        ("no folder", Box::new(|folder| std::fs::remove_dir_all(folder.path().join("base")).unwrap()), "not_a_folder", &["is not a folder", "config.json, tokenizer.json and model.safetensors"]),
        ("no config", without("config.json", None), "missing_file", &["has no `config.json`", "right folder"]),
        ("an adapter for a base", without("config.json", Some("adapter_config.json")), "missing_file", &["give it to --module"]),
        ("no tokenizer", without("tokenizer.json", None), "missing_file", &["has no `tokenizer.json`"]),
        ("an old tokenizer", without("tokenizer.json", Some("spiece.model")), "missing_file", &["`spiece.model`", "fast T5 tokenizer"]),
        ("no weights", without("model.safetensors", None), "missing_file", &["has no `model.safetensors`"]),
        ("pickled weights in parts", without("model.safetensors", Some("pytorch_model.bin.index.json")), "missing_file", &["`pytorch_model.bin.index.json`", "save_pretrained"]),
        ("an empty config", file("config.json", ""), "base_config", &["config.json", "T5"]),
        ("a config that is no object", file("config.json", "[1]"), "base_config", &["not a JSON object"]),
        ("a config in Latin-1", file("config.json", b"{\"a\": \"\xe9\"}"), "base_config", &["config.json"]),
        ("deep nesting", file("config.json", "[".repeat(100_000)), "base_config", &["config.json"]),
        ("another kind of model", config_with("model_type", json!("bert")), "base_config", &["`model_type`", "bert", "t5"]),
        ("no layers", config_with("num_layers", json!(0)), "base_config", &["`num_layers`", "is 0"]),
        ("absurd layers", config_with("num_layers", json!(1_000_000_000)), "base_config", &["`num_layers`"]),
        ("a negative width", config_with("d_model", json!(-6)), "base_config", &["config.json"]),
        ("an unknown activation", config_with("feed_forward_proj", json!("gated-tanh")), "base_config", &["config.json"]),
        ("a decoder alone", config_with("is_encoder_decoder", json!(false)), "base_config", &["`is_encoder_decoder`"]),
        ("an end outside the vocabulary", config_with("eos_token_id", json!(500)), "base_config", &["`eos_token_id`", "500"]),
        ("a config of another size", config_with("d_ff", json!(12)), "base_weights", &["wi_0", "[10, 6]", "[12, 6]"]),
        ("a config with more blocks", config_with("num_decoder_layers", json!(2)), "base_weights", &["decoder.block.1", "missing"]),
        ("an empty tokenizer", file("tokenizer.json", ""), "base_tokenizer", &["tokenizer.json"]),
        ("a tokenizer of nothing", file("tokenizer.json", "{}"), "base_tokenizer", &["tokenizer.json"]),
        ("a tokenizer without end", file("tokenizer.json", no_end.to_string()), "base_tokenizer", &["</s>"]),
        ("a larger vocabulary", file("tokenizer.json", large.to_string()), "base_tokenizer", &["51 tokens", "11"]),
        ("empty weights", file("model.safetensors", ""), "base_weights", &["the weights"]),
        ("a pickle for weights", file("model.safetensors", b"PK\x03\x04\x00\x00\x08\x08\x00\x00"), "base_weights", &["PyTorch zip archive"]),
        ("weights cut short", Box::new(|folder| { let mut bytes = safetensors(&tiny_tensors()); bytes.pop(); folder.write("base/model.safetensors", bytes); }), "base_weights", &["download it again"]),
        ("a value that is not a number", Box::new(move |folder| nan(folder)), "base_weights", &["NaN"]),
        ("a tensor less", tensors(|tensors| { tensors.remove(3); }), "base_weights", &["is missing"]),
        ("a tensor more", tensors(|tensors| tensors.push(("pooler.weight".into(), vec![1], vec![0.0]))), "base_weights", &["`pooler.weight`", "no place"]),
        ("a tensor of another shape", tensors(|tensors| { let (_, shape, values) = &mut tensors[0]; shape[0] -= 1; values.truncate(shape.iter().product()); }), "base_weights", &["[10, 6]", "[11, 6]"]),
    ]
}

#[test]
fn bases() {
    for (what, change, code, says) in bad_bases() {
        let folder = Folder::new();
        let base = write_base(&folder, "base");
        let shots = write_rows(&folder, "shots", &[("red", "yes")]);
        let module = write_adapter(&folder, "one", &Adapter::valid());
        change(&folder);
        eprintln!("{what}");
        let begins = format!("error[{code}]: base `{base}`");
        let says: Vec<&str> = [begins.as_str()].into_iter().chain(says.iter().copied()).collect();
        run_refused(&["score", "--base", &base, "--shots", &shots, "--json"], 1, &says);
        // The other commands meet the same check.
        let adapt = [
            "adapt", "--base", &base, "--module", &module, "--shots", &shots, "--budget", "3", "--json",
        ];
        run_refused(&adapt, 1, &says);
        run_refused(&["generate", "--base", &base, "--input", "red"], 1, &says);
    }
}

/// Codes of faults that only a base with a name shows. A folder has none that can be trusted, so here they are no
/// errors.
const NEED_A_NAME: [&str; 2] = ["tensors-base-id", "tensors-base-revision"];

#[test]
fn adapters() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let shots = write_rows(&folder, "shots", &[("red", "yes")]);
    let valid = write_adapter(&folder, "valid", &Adapter::valid());
    let mut refused = 0;
    for case in bad_adapters() {
        if NEED_A_NAME.contains(&case.code) {
            continue;
        }
        folder.write("bad/adapter_config.json", &case.config_json);
        folder.write("bad/adapter_model.safetensors", &case.safetensors);
        let bad = folder.join("bad");
        eprintln!("{}", case.what);
        let code = format!("error[{}]: adapter `bad`", case.code);
        // Messages say the base's name where it has one.
        let says = case.says.iter().copied().filter(|words| *words != "`tiny/t5`");
        let says: Vec<&str> = [code.as_str()].into_iter().chain(says).collect();
        let arguments = [
            "score",
            "--base",
            &base,
            "--module",
            &valid,
            &bad,
            "--weights=1,1",
            "--shots",
            &shots,
            "--json",
        ];
        run_refused(&arguments, 1, &says);
        refused += 1;
    }
    assert!(refused > 80, "{refused} adapters");

    let empty = folder.join("nothing");
    std::fs::create_dir(&empty).unwrap();
    let pickled = folder.write("pickled/adapter_config.json", Adapter::valid().config_json());
    folder.write("pickled/adapter_model.bin", "x");
    let pickled = pickled.strip_suffix("/adapter_config.json").unwrap().to_owned();
    for (module, code, says) in [
        (
            &folder.join("nowhere"),
            "not_a_folder",
            "adapter_config.json and adapter_model.safetensors or adapter_model.bin",
        ),
        (&shots, "not_a_folder", "is not a folder"),
        (&empty, "missing_file", "has no `adapter_config.json`"),
        (&base, "missing_file", "give it to --base"),
    ] {
        let arguments = [
            "score",
            "--base",
            &base,
            "--module",
            module,
            "--weights=1",
            "--shots",
            &shots,
        ];
        run_refused(&arguments, 1, &[&format!("error[{code}]: module `"), says]);
    }
    // The older form is read, and held to the same rules.
    let arguments = [
        "score",
        "--base",
        &base,
        "--module",
        &pickled,
        "--weights=1",
        "--shots",
        &shots,
    ];
    run_refused(
        &arguments,
        1,
        &["error[weights-too-short]: adapter `pickled`", "download it again"],
    );
}

/// Modules that are good alone and do not go together.
#[test]
fn banks() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let shots = write_rows(&folder, "shots", &[("red", "yes")]);
    let valid = write_adapter(&folder, "valid", &Adapter::valid());
    let mut rank3 = Adapter::valid().with("r", "3");
    let mut wider = Adapter::valid().with("target_modules", r#"["q","k","v"]"#);
    for (path, ..) in crate::hostile::base_targets() {
        if [".q", ".v"].iter().any(|leaf| path.ends_with(leaf)) {
            rank3.add_pair(&path, 3);
        }
        if path.ends_with(".k") {
            wider.add_pair(&path, 2);
        }
    }
    let rank3 = write_adapter(&folder, "rank3", &rank3);
    let wider = write_adapter(&folder, "wider", &wider);
    let arguments = |other: &str, rule: &str| {
        [
            "score",
            "--base",
            &base,
            "--module",
            &valid,
            other,
            "--weights=1,1",
            "--shots",
            &shots,
            "--rule",
            rule,
            "--json",
        ]
        .map(str::to_owned)
    };
    let refuse = |other: &str, code: &str, says: &[&str]| {
        let arguments = arguments(other, "reference");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let code = format!("error[{code}]");
        run_refused(&arguments, 1, &[&[code.as_str()], says].concat());
    };
    refuse(&rank3, "bank-ranks-differ", &["rank 3", "rank 2", "rule `exact`"]);
    refuse(&wider, "bank-targets-differ", &["`wider`", "`valid`"]);
    let exact = arguments(&rank3, "exact");
    run_json(&exact.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn modules_for_different_bases_are_told_apart() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let shots = write_rows(&folder, "shots", &[("red", "yes")]);
    let one = write_adapter(&folder, "one", &Adapter::valid());
    let two = write_adapter(
        &folder,
        "two",
        &Adapter::valid().with("base_model_name_or_path", r#""other/t5""#),
    );
    let ran = run(&[
        "score",
        "--base",
        &base,
        "--module",
        &one,
        &two,
        "--weights=1,1",
        "--shots",
        &shots,
    ]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.stderr.contains("warning: ") && ran.stderr.contains("`tiny/t5`") && ran.stderr.contains("`other/t5`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn shots() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let module = write_adapter(&folder, "one", &Adapter::valid());
    let good = r#"{"input":"red","output":"yes"}"#;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "no rows"),
        (b"\n\n".to_vec(), "no rows"),
        (b"red\tyes".to_vec(), "line 1: expected one JSON object"),
        (
            format!("{good}\n{{\"input\":\"blue\"").into_bytes(),
            "line 2: expected one JSON object",
        ),
        (
            format!("[{good}]").into_bytes(),
            "line 1: expected an object with `input` and `output`, found an array",
        ),
        (
            b"{\"inputs\":\"a\",\"output\":\"b\"}".to_vec(),
            "found `inputs`, `output`",
        ),
        (
            b"{\"input\":\"a\",\"output\":null}".to_vec(),
            "`output` should be a string, found null",
        ),
        (b"{\"input\":\"a\",\"output\":\"\xff\"}".to_vec(), "line 1: not UTF-8"),
        ("[".repeat(200_000).into_bytes(), "line 1: expected one JSON object"),
    ];
    for (bytes, says) in cases {
        let shots = folder.write("shots.jsonl", bytes);
        let says = ["error[rows]: ", "shots.jsonl", says];
        run_refused(&["score", "--base", &base, "--shots", &shots, "--json"], 1, &says);
        run_refused(
            &[
                "adapt", "--base", &base, "--module", &module, "--shots", &shots, "--json",
            ],
            1,
            &says,
        );
        run_refused(&["eval", "--base", &base, "--test", &shots, "--json"], 1, &says);
    }
    let missing = folder.join("nowhere.jsonl");
    run_refused(
        &["score", "--base", &base, "--shots", &missing],
        1,
        &["error[read]", "nowhere.jsonl"],
    );
    run_refused(
        &["score", "--base", &base, "--shots", &base],
        1,
        &["error[read]", "base"],
    );
}

/// Weights so large that the activations leave f32: an error with the row for `score`, the worst candidate for `adapt`.
#[test]
fn overflow() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let mut huge = Adapter::valid();
    let (a, _) = huge
        .tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .next()
        .unwrap();
    assert!(a.contains("lora_A"));
    let mut tensor = Tensor::f32(&[4, 2]);
    tensor.data = std::iter::repeat_n(3e38f32.to_le_bytes(), 8).flatten().collect();
    huge = huge.with_tensor(&key("encoder.block.0.layer.0.SelfAttention.v", "lora_B"), tensor);
    let huge = write_adapter(&folder, "huge", &huge);
    let mild = write_adapter(&folder, "mild", &Adapter::valid());
    let shots = write_rows(&folder, "shots", &[("red", "yes"), ("blue", "no")]);
    let arguments = [
        "score",
        "--base",
        &base,
        "--module",
        &huge,
        "--weights=1",
        "--shots",
        &shots,
        "--rule",
        "exact",
    ];
    run_refused(&arguments, 1, &["error[overflow]", "row 1", "not finite"]);
    let arguments = [
        "adapt", "--base", &base, "--module", &huge, &mild, "--shots", &shots, "--rule", "exact", "--budget", "40",
        "--json",
    ];
    let found = run_json(&arguments);
    assert_eq!(found["compared"]["best_single_module"], "mild");
    assert!(found["objective"].as_f64().unwrap().is_finite());
}

/// Nobody reads standard output any more: an exit code, and no panic.
#[cfg(unix)]
#[test]
fn a_closed_pipe() {
    let folder = Folder::new();
    let base = write_base(&folder, "base");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else {
        panic!("no /dev/full on this system")
    };
    let arguments = ["generate", "--base", &base, "--input", "red", "--json"];
    let output = command(&arguments).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("error[output]") && !stderr.contains("panicked"),
        "{stderr}"
    );
}
