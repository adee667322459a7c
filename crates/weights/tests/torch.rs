//! PyTorch archives: what PyTorch wrote is read bit for bit, every malformed one gives its own error, and no bytes
//! cause a panic, a long wait or a large allocation.

#[path = "../../../tests/hostile/torch.rs"]
mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lorahub_weights::{Dtype, Limits, TorchArchive, WeightFile, WeightsError};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/torch")
}

fn written_by_torch(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_malformed_archive_gives_its_own_error() {
    let mut failures = Vec::new();
    let mut codes = BTreeSet::new();
    for hostile::BadArchive {
        what,
        bytes,
        code,
        says,
    } in hostile::bad_archives()
    {
        match TorchArchive::parse(&bytes, &Limits::ADAPTER) {
            Ok(_) => failures.push(format!("{what}: accepted")),
            Err(error) => {
                codes.insert(error.code());
                let message = error.to_string();
                if error.code() != code {
                    failures.push(format!("{what}: expected {code}, found {}: {message}", error.code()));
                }
                failures.extend(
                    says.iter()
                        .filter(|words| !message.contains(**words))
                        .map(|words| format!("{what}: `{words}` is not in: {message}")),
                );
                if message.chars().any(char::is_control) || message.len() > 500 {
                    failures.push(format!("{what}: not fit to be shown: {message:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Every variant has a case.
    assert_eq!(
        codes.iter().filter(|code| code.starts_with("torch-")).count(),
        29,
        "{codes:?}"
    );
}

#[test]
fn the_valid_archive_behind_the_table_is_valid() {
    let bytes = hostile::valid();
    let file = TorchArchive::parse(&bytes, &Limits::ADAPTER).expect("valid");
    assert_eq!(file.names().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!((file.len(), file.is_empty()), (2, false));
    assert_eq!(file.shape("x"), Ok([2, 2].as_slice()));
    assert_eq!(file.f32("x"), Ok(vec![1.0, -2.0, 3.5, 0.0]));
    assert_eq!(file.f32("y"), Ok(vec![0.25, -0.125]));
    assert!(file.contains("y") && !file.contains("z"));
    assert_eq!(file.f32("z"), Err(WeightsError::Missing { name: "z".to_owned() }));
}

#[test]
fn archives_without_zip64_and_with_64_bit_sizes_are_read() {
    let bytes = hostile::valid();
    // Without the zip64 records: 56 bytes of end, 20 of locator, in front of the last 22.
    let (front, end) = bytes.split_at(bytes.len() - 22);
    let plain = [&front[..front.len() - 76], end].concat();
    assert!(TorchArchive::parse(&plain, &Limits::ADAPTER).is_ok());
    let mut entries = hostile::valid_entries();
    entries[2].extra = [&[1, 0, 16, 0][..], &16u64.to_le_bytes(), &16u64.to_le_bytes()].concat();
    entries[2].size = u64::MAX;
    assert!(TorchArchive::parse(&hostile::zip(&entries), &Limits::ADAPTER).is_ok());
}

#[test]
fn what_torch_wrote_is_read_bit_for_bit() {
    #[derive(serde::Deserialize)]
    struct Expected {
        made_with: String,
        files: BTreeMap<String, BTreeMap<String, Tensor>>,
    }
    #[derive(serde::Deserialize)]
    struct Tensor {
        dtype: String,
        shape: Vec<usize>,
        bits: Vec<u32>,
    }
    let expected: Expected = serde_json::from_slice(&written_by_torch("expected.json")).expect("expected.json");
    assert!(expected.made_with.starts_with("torch 2."), "{}", expected.made_with);
    assert_eq!(expected.files.len(), 4);
    for (name, tensors) in expected.files {
        let bytes = written_by_torch(&name);
        let file = WeightFile::parse(&bytes, &Limits::ADAPTER).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(file, WeightFile::Torch(_)), "{name}");
        assert_eq!(
            file.names().collect::<Vec<_>>(),
            tensors.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (key, tensor) in &tensors {
            assert_eq!(file.shape(key), Ok(tensor.shape.as_slice()), "{name}, {key}");
            assert_eq!(
                file.dtype(key).map(Dtype::name),
                Ok(tensor.dtype.as_str()),
                "{name}, {key}"
            );
            let found = file.f32(key).unwrap_or_else(|error| panic!("{name}, {key}: {error}"));
            let bits: Vec<_> = found.iter().map(|value| value.to_bits()).collect();
            assert_eq!(bits, tensor.bits, "{name}, {key}");
        }
    }
}

#[test]
fn what_torch_wrote_of_other_things_is_refused() {
    let cases = [
        (
            "checkpoint.bin",
            "torch-not-tensor",
            "`model` in the PyTorch archive is a dict",
        ),
        ("double.bin", "weights-dtype", "F64"),
        ("module.bin", "torch-global", "torch.nn.modules.linear.Linear"),
        ("negated.bin", "torch-lazy-view", "negated"),
        ("tensor.bin", "torch-not-state-dict", "a tensor"),
        ("legacy.bin", "weights-foreign", "1.6"),
        ("protocol4.bin", "torch-protocol", "protocol 2"),
    ];
    for (name, code, words) in cases {
        let error = WeightFile::parse(&written_by_torch(name), &Limits::ADAPTER).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn values_must_be_finite() {
    let mut entries = hostile::valid_entries();
    entries[3] = hostile::Entry::new("data/1", &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f]);
    let bytes = hostile::zip(&entries);
    let file = TorchArchive::parse(&bytes, &Limits::ADAPTER).expect("the pickle is fine");
    let error = file.f32("y").expect_err("NaN");
    let (name, index, value) = ("y".to_owned(), 1, "NaN");
    assert_eq!(error, WeightsError::NonFinite { name, index, value });
}

/// SplitMix64, for inputs that vary from a seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, n: usize) -> usize {
    (next(state) % n as u64) as usize
}

/// Reads everything that can be read. Returns whether the file was accepted.
fn read_all(bytes: &[u8]) -> bool {
    let file = match TorchArchive::parse(bytes, &Limits::ADAPTER) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            return false;
        }
    };
    let mut total = 0;
    for name in file.names() {
        let len: usize = file.shape(name).expect("listed").iter().product();
        total += len;
        match file.f32(name) {
            Ok(values) => assert_eq!(values.len(), len),
            Err(error) => assert_eq!(error.code(), "weights-non-finite"),
        }
    }
    assert!(total <= bytes.len().max(1 << 20), "{total} values");
    true
}

/// Changes a few bytes: flips, replaces by what pickles and zip records are made of, cuts, inserts, repeats.
fn mutate(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + below(state, 4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = below(state, bytes.len());
        match below(state, 9) {
            0 => bytes[at] ^= 1 << below(state, 8),
            1 => bytes[at] = b"NJKM\x8aX})\x85\x86\x87(tsuqrhjcQRb.\x88\x89"[below(state, 26)],
            2 => bytes[at] = next(state) as u8,
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, b"}()tuN\x85h"[below(state, 8)]),
            5 => bytes.truncate(at),
            6 => {
                // A length, offset or count becomes extreme.
                let value = [0, u64::MAX, 1 << 31, 1 << 40][below(state, 4)].to_le_bytes();
                let width = [2, 4, 8][below(state, 3)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&value[..width]);
            }
            7 => {
                let piece = bytes[at..(at + 1 + below(state, 40)).min(bytes.len())].to_vec();
                let to = below(state, bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => {
                let end = (at + 1 + below(state, 20)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_cause_a_panic() {
    let valid = hostile::valid();
    for cut in 0..valid.len() {
        assert!(!read_all(&valid[..cut]), "cut to {cut} bytes");
    }
    for bit in 0..valid.len() * 8 {
        let mut bytes = valid.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        read_all(&bytes);
    }
    let mut accepted = 0;
    let names = [
        "adapter_model.bin",
        "mixed.bin",
        "parameters.bin",
        "views.bin",
        "module.bin",
    ];
    let files: Vec<_> = names.map(written_by_torch).into_iter().chain([valid]).collect();
    for seed in 0..40_000 {
        let mut state = seed;
        let file = &files[seed as usize % files.len()];
        accepted += usize::from(read_all(&mutate(file, &mut state)));
    }
    assert!(accepted > 1000, "the mutations reach the values too: {accepted}");
}

/// Mutations of whole files mostly break the zip; here only the pickle changes, and the zip around it stays valid.
#[test]
fn no_pickle_causes_a_panic() {
    let valid = hostile::valid_pickle();
    let mut accepted = 0;
    let mut codes = BTreeSet::new();
    for seed in 0..60_000 {
        let mut state = seed + 1_000_000;
        let pickle = hostile::Pickle(mutate(&valid.0, &mut state));
        let bytes = hostile::with_pickle(&pickle);
        accepted += usize::from(read_all(&bytes));
        if let Err(error) = TorchArchive::parse(&bytes, &Limits::ADAPTER) {
            codes.insert(error.code());
        }
    }
    assert!(accepted > 100, "{accepted}");
    assert!(codes.len() > 12, "the mutations reach many faults: {codes:?}");
}
