//! Token ids against Hugging Face's, on random Unicode strings and, where they are present, on the real thing: T5's own
//! tokenizer and all inputs of BBH.
//!
//! `tests/golden/scripts/tokenizer_ids.py` wrote what is expected; it has the same generator of strings.

use std::path::{Path, PathBuf};

use lorahub_t5::Tokenizer;
use lorahub_weights::sha256_hex;
use serde_json::Value;

/// First and last character of what a string is drawn from.
const RANGES: [(u32, u32); 18] = [
    (0x20, 0x7e),
    (0x20, 0x7e),
    (0x61, 0x7a),
    (0x61, 0x7a),
    (0xa0, 0x24f),
    (0x300, 0x36f),
    (0x2000, 0x206f),
    (0x370, 0x52f),
    (0x3000, 0x9fff),
    (0xff00, 0xffef),
    (0x1f300, 0x1faff),
    (0x00, 0x20),
    (0x1100, 0x11ff),
    (0xac00, 0xd7a3),
    (0x590, 0xeff),
    (0x00, 0x10_ffff),
    (0x2070, 0x2bff),
    (0x20, 0x20),
];
const WORDS: [&str; 10] = [
    "</s>",
    "<pad>",
    "<unk>",
    "<extra_id_0>",
    "<extra_id_99>",
    "\u{2581}",
    "  ",
    "...",
    "the ",
    "e\u{301}",
];

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn random_strings(seed: u64, count: usize) -> Vec<String> {
    let mut numbers = Numbers(seed);
    let mut string = |_| {
        let mut text = String::new();
        // One string in four stays in one script; the others mix.
        let kept = (numbers.below(4) == 0).then(|| numbers.below(RANGES.len()));
        for _ in 0..numbers.below(33) {
            if numbers.below(24) == 0 {
                text.push_str(WORDS[numbers.below(WORDS.len())]);
                continue;
            }
            let (first, last) = RANGES[kept.unwrap_or_else(|| numbers.below(RANGES.len()))];
            let code = first + numbers.below((last - first + 1) as usize) as u32;
            let code = if (0xd800..0xe000).contains(&code) {
                code + 0x800
            } else {
                code
            };
            text.push(char::from_u32(code).expect("no surrogate"));
        }
        text
    };
    (0..count).map(&mut string).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What Hugging Face gives, under this name.
fn golden(name: &str) -> Value {
    let all: Value = serde_json::from_slice(&read(&root().join("tests/golden/tokenizer/ids.json"))).expect("JSON");
    all[name].clone()
}

/// The tokenizer in a file, which must be the one that `golden` is about.
fn tokenizer(path: &Path, golden: &Value) -> Tokenizer {
    let bytes = read(path);
    assert_eq!(
        golden["tokenizer_sha256"],
        sha256_hex(&bytes),
        "{} is another tokenizer than the golden ids are of; run tests/golden/scripts/tokenizer_ids.py",
        path.display()
    );
    Tokenizer::from_bytes(&bytes, 1).expect("a tokenizer")
}

fn sha256_of_lines(lines: &[String]) -> String {
    let all: String = lines.iter().map(|line| format!("{line}\n")).collect();
    sha256_hex(all.as_bytes())
}

/// Holds the ids of `texts` against a golden record: all that it shows, and all by their hashes.
fn check(what: &str, tokenizer: &Tokenizer, texts: &[String], golden: &Value) {
    assert_eq!(golden["strings"], texts.len(), "{what}");
    assert_eq!(
        golden["texts_sha256"],
        sha256_of_lines(texts),
        "{what}: the texts differ"
    );
    let ids = |text: &String| {
        let ids = tokenizer.encode(text).expect("any text has ids");
        ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    };
    let found: Vec<String> = texts.iter().map(ids).collect();
    let shown = golden["ids"].as_array().expect("a list");
    assert!(shown.len() >= 50, "{what}");
    for ((expected, found), text) in shown.iter().zip(&found).zip(texts) {
        assert_eq!(expected, found, "{what}: {text:?}");
    }
    let hashes = golden["sha256_per_thousand"].as_array().expect("a list");
    assert_eq!(hashes.len(), texts.len().div_ceil(1000), "{what}");
    for (thousand, (expected, found)) in hashes.iter().zip(found.chunks(1000)).enumerate() {
        assert_eq!(*expected, sha256_of_lines(found), "{what}: in thousand {thousand}");
    }
}

#[test]
fn small_tokenizers_give_hugging_faces_ids_on_random_unicode() {
    for (seed, name, path) in [
        (1, "golden", "tests/golden/models/gated/base/tokenizer.json"),
        (2, "demo", "www/models/demo/base/tokenizer.json"),
    ] {
        let golden = golden(name);
        let tokenizer = tokenizer(&root().join(path), &golden);
        check(name, &tokenizer, &random_strings(seed, 2000), &golden["random"]);
    }
}

/// Rows of all files `TASK/*.jsonl` in the order of their paths: what each has as `context`.
fn bbh_inputs(folder: &Path) -> Vec<String> {
    let files = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths
    };
    let tasks = files(folder).into_iter().filter(|path| path.is_dir());
    let rows = tasks
        .flat_map(|task| files(&task))
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let mut inputs = Vec::new();
    for path in rows {
        let text = String::from_utf8(read(&path)).expect("UTF-8");
        for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
            let row: Value = serde_json::from_str(line).expect("one object a line");
            inputs.push(row["context"].as_str().expect("an input").to_owned());
        }
    }
    inputs
}

/// `LORAHUB_T5_TOKENIZER` is the path of T5's `tokenizer.json`, `LORAHUB_BBH` the folder of BBH's tasks. What is not
/// there is not tested, which the output says.
#[test]
fn the_real_tokenizer_gives_hugging_faces_ids_where_it_is_present() {
    let path_in = |variable: &str| {
        let path = std::env::var_os(variable).map(PathBuf::from);
        if path.is_none() {
            eprintln!("NOT TESTED: {variable} is not set (see tests/golden/PROVENANCE.md)");
        }
        path
    };
    let (file, bbh) = (path_in("LORAHUB_T5_TOKENIZER"), path_in("LORAHUB_BBH"));
    let golden = golden("t5");
    let Some(file) = file else { return };
    let tokenizer = tokenizer(&file, &golden);
    check("t5, random", &tokenizer, &random_strings(3, 10_000), &golden["random"]);
    eprintln!("tested: T5's tokenizer on 10000 random strings");
    let Some(bbh) = bbh else { return };
    let inputs = bbh_inputs(&bbh);
    check("t5, BBH", &tokenizer, &inputs, &golden["bbh"]);
    eprintln!("tested: T5's tokenizer on {} inputs of BBH", inputs.len());
}
